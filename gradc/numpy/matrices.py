"""What functions of matrices ask of their arguments, and how they treat stacks, vectors and narrow floats.

Enters: what users pass.  Leaves: matrices in the last two axes, of one dtype and with the same leading axes.
Invariant: narrow floats are computed in float32 from the first step to the last, and results rounded once.
Start reading at `matrices`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from gradc.aval import FLOAT32, NARROW, broadcast_shapes, promoted
from gradc.errors import MatrixShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import broadcast_to, reshaped
from gradc.ops.control import items
from gradc.ops.elementwise import cast as as_dtype

F = TypeVar("F", bound=Callable[..., Any])


def matrices(a: Any, name: str, square: bool = False) -> Node:
    """``a`` as a float array of matrices in its last two axes."""
    node = inexact(as_node(a))
    if node.ndim < 2:
        raise MatrixShapeError(f"{here()}: {name} needs matrices in the last two axes, got {describe(node)}")
    if square and node.shape[-1] != node.shape[-2]:
        raise MatrixShapeError(f"{here()}: {name} needs square matrices, got {describe(node)}")
    return node


def alike(*nodes: Node) -> list[Node]:
    """The operands in their joint dtype."""
    joint = promoted(*(x.dtype for x in nodes))
    return [as_dtype(x, joint) for x in nodes]


def led(name: str, *nodes: Node) -> list[Node]:
    """Matrices with their leading axes broadcast."""
    try:
        lead = broadcast_shapes([x.shape[:-2] for x in nodes])
    except ValueError:
        raise MatrixShapeError(
            f"{here()}: {name}: the leading axes of {' and '.join(map(describe, nodes))} do not broadcast"
        ) from None
    return [broadcast_to(x, (*lead, *x.shape[-2:])) for x in nodes]


def fitted(a: Node, b: Any, name: str) -> tuple[Node, Node, Callable[[Node], Node]]:
    """Square matrices ``a`` and right-hand sides: ``b`` is one vector, or matrices; and what makes a solution as ``b``
    is."""
    right = inexact(as_node(b))
    if not right.ndim or right.shape[0 if right.ndim == 1 else -2] != a.shape[-1]:
        raise MatrixShapeError(
            f"{here()}: {name}: a right-hand side has as many rows as the matrix; got {describe(a)} and "
            f"{describe(right)}.\n  A stack of vectors b is  b[..., None],  and its solution  x[..., 0]."
        )
    vector = right.ndim == 1
    left, right = led(name, *alike(a, reshaped(right, (*right.shape, 1)) if vector else right))
    return left, right, (lambda x: reshaped(x, x.shape[:-1])) if vector else (lambda x: x)


def results(name: str, *operands: Node, **attrs: Any) -> list[Node]:
    """The results of op ``name``, which has several."""
    return items(OPS[name].make(operands, **attrs))


def turned(a: Node) -> Node:
    """The transposed matrices."""
    return cast(Node, FUNCTIONS["matrix_transpose"](a))


def wide(build: F) -> F:
    """``build`` of narrow floats in float32; every result rounded once."""

    @functools.wraps(build)
    def rounded(*operands: Any, **attrs: Any) -> Any:
        narrow = [x.dtype for x in operands if isinstance(x, Node) and x.dtype in NARROW]
        if not narrow:
            return build(*operands, **attrs)
        joint = promoted(*[x.dtype for x in operands if isinstance(x, Node) and x.aval.is_float and not x.aval.weak])
        given = [as_dtype(x, FLOAT32) if isinstance(x, Node) and x.dtype in NARROW else x for x in operands]
        return _back(build(*given, **attrs), joint)

    return cast(F, rounded)


def _back(found: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(found, tuple):
        parts = [_back(x, dtype) for x in found]
        return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
    return as_dtype(found, dtype) if isinstance(found, Node) and found.dtype == FLOAT32 else found
