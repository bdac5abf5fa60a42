"""Tangents and cotangents that a user gives, fitted to what they belong to, before anything is differentiated.

Enters: a tree that nests like its partner; None stands for zero, of a leaf or of a whole argument.  Leaves: for each
partner a value of its shape and dtype, or None where it is zero.
Invariant: what does not fit is refused by name, traced and plain values alike.  Start reading at `fitted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import is_number, lost_meaning
from gradc.containers import Structure
from gradc.errors import DTypeError, ShapeError
from gradc.node import Node, as_node, here
from gradc.ops.elementwise import cast
from gradc.ops.ranges import vanishes

#: JAX's dtype of the tangents of integers
_FLOAT0 = np.dtype([("float0", np.void, 0)])


def fitted(
    tree: Any, structure: Structure, partners: Sequence[Node], names: Sequence[str], what: str, owner: str
) -> list[Any]:
    """What ``tree`` holds for each of ``partners``, in its shape and dtype; None for zero.

    Real numbers of any dtype are cast to their partner's.  An integer or bool has no tangent: None or zeros stand in
    its place.  ``what`` is "tangent" or "cotangent", ``owner`` what ``tree`` must nest like.
    """
    parts = parts_for(tree, structure, f"{what}s" if what == "tangent" else f"the {what}", owner)
    return [_fitted(part, x, name, what) for part, x, name in zip(parts, partners, names, strict=True)]


def parts_for(tree: Any, structure: Structure, what: str, owner: str) -> list[Any]:
    """What ``tree`` has in the place of each array of ``structure``; a whole None is None for each."""
    if tree is None:
        return [None] * structure.size
    try:
        return structure.parts_of(tree)
    except ValueError as error:
        reason = str(error).split("\n")[0].replace("PyTreeSpec", "")
        raise TypeError(f"{here()}: {what} must nest like {owner}, {structure}: {reason:.300}") from None


def _fitted(part: Any, partner: Node, name: str, what: str) -> Any:
    if part is None:
        return None
    if not isinstance(part, Node):
        part = _plain(part, name, what)
        if part is None:
            return None
    if part.shape != partner.shape:
        raise ShapeError(
            f"{here()}: the {what} of {name} has shape {part.shape}, its partner {partner.shape}; they must be equal"
        )
    if not partner.aval.is_float:
        return _refuse_moving(part, partner, name, what)
    if isinstance(part, Node):
        return part if part.dtype == partner.dtype else cast(part, partner.dtype)
    return np.array(part, partner.dtype)


def _plain(part: Any, name: str, what: str) -> Any:
    """A value as an array of real numbers; None for JAX's zeros."""
    if lost := lost_meaning(part):
        raise DTypeError(f"{here()}: the {what} of {name} {lost}")
    if isinstance(part, (list, tuple)):
        return as_node(part) if _holds_node(part) else _plain(np.asarray(part), name, what)
    try:
        array = np.asarray(part)
    except Exception as error:  # an object of any class may refuse in any way
        raise DTypeError(f"{here()}: the {what} of {name} is a {type(part).__name__}, not an array: {error}") from None
    if array.dtype == _FLOAT0:
        return None
    if not is_number(array.dtype):
        raise DTypeError(
            f"{here()}: the {what} of {name} is {part!r:.40} (dtype {array.dtype}); expected an array of real numbers"
        )
    return array


def _holds_node(part: Any) -> bool:
    return any(isinstance(x, Node) or (isinstance(x, (list, tuple)) and _holds_node(x)) for x in part)


def _refuse_moving(part: Any, partner: Node, name: str, what: str) -> None:
    """An integer or bool stays as it is: its tangent is zero."""
    if vanishes(part) if isinstance(part, Node) else not part.any():
        return
    raise DTypeError(
        f"{here()}: {name} is {partner.aval}; integers and bools have no {what}, so None or zeros must stand in its "
        f"place.\n  Pass {name} as float if it is to move (e.g. {name}.astype(float))."
    )
