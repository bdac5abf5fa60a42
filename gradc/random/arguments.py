"""Arguments of samplers: dtypes, shapes and parameters, with the errors for those that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape, broadcast_shapes, canonical_dtype, is_float
from gradc.errors import DTypeError, ShapeError
from gradc.node import Node, as_node, describe, here
from gradc.numpy.axes import shape_of
from gradc.numpy.public import ArrayLike
from gradc.ops.elementwise import broadcast_to, cast
from gradc.ops.record import Kind


def full_name(name: str) -> str:
    """A sampler's name as errors say it; one of another namespace is given with that."""
    return name if "." in name else f"random.{name}"


def float_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The floating dtype of a sampler's result; float64 where none is given."""
    return _dtype(dtype, np.float64, is_float, "a floating one", name)


def integer_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The integer dtype of a sampler's result; int64 where none is given."""
    return _dtype(dtype, np.int64, lambda found: found.kind in "iu", "an integer one", name)


def unsigned_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The unsigned integer dtype of a sampler's result; uint64 where none is given."""
    return _dtype(dtype, np.uint64, lambda found: found.kind == "u", "an unsigned integer one", name)


def number_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The dtype of a sampler's whole numbers, which may be floats; int64 where none is given."""
    return _dtype(
        dtype, np.int64, lambda found: found.kind in "iu" or is_float(found), "an integer or floating one", name
    )


def one_of(given: Any, known: Sequence[Any], what: str, name: str) -> None:
    """ValueError for a word that is none of those known."""
    if given not in known:
        listed = " or ".join(map(repr, known))
        raise ValueError(f"{here()}: {full_name(name)}: {what} must be {listed}, got {given!r:.40}")


def probability(value: ArrayLike, what: str, name: str) -> Node:
    """A floating array of probabilities; those that are known must lie in [0, 1]."""
    node = as_node(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    if not node.aval.is_float:
        raise DTypeError(f"{here()}: {full_name(name)}: {what} is a probability, a float, got {_given(value, node)}")
    known = node.attrs["value"] if node.op.kind is Kind.CONSTANT else np.zeros(0)
    if not np.all((known >= 0) & (known <= 1)):
        raise ValueError(
            f"{here()}: {full_name(name)}: {what} must lie in [0, 1], got {_given(value, node, shown=True)}"
        )
    return node


def _given(value: Any, node: Node, shown: bool = False) -> str:
    if isinstance(value, Node):
        return describe(node)
    return f"{value!r:.60}" if shown else f"{node.dtype}{list(node.shape)}"


def _dtype(dtype: Any, usual: Any, fits: Callable[[np.dtype[Any]], bool], what: str, name: str) -> np.dtype[Any]:
    try:
        found = canonical_dtype(usual if dtype is None else dtype)
    except DTypeError as error:
        raise DTypeError(f"{here()}: {full_name(name)}: {error}") from None
    if not fits(found):
        raise DTypeError(f"{here()}: {full_name(name)}: dtype must be {what}, got {found}")
    return found


def known_number(value: Any) -> int | float | None:
    """A Python or NumPy number that is known while tracing, as a Python one; None for anything else."""
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def known_integer(value: Any) -> int | None:
    """A Python or NumPy integer that is known while tracing, as a Python one; None for anything else."""
    found = known_number(value)
    return found if isinstance(found, int) else None


def parameter(value: ArrayLike, what: str, shape: Shape, dtype: np.dtype[Any], name: str) -> Node:
    """A parameter of a distribution, in the shape and dtype of the result."""
    node = as_node(value)
    try:
        whole = broadcast_shapes((node.shape, shape))
    except ValueError:
        whole = ()
    if whole != shape:
        given = describe(node) if isinstance(value, Node) else f"of shape {node.shape}"
        raise ShapeError(
            f"{here()}: {full_name(name)}: {what}, {given}, does not broadcast to the shape {shape} of the result"
        )
    return broadcast_to(cast(node, dtype), shape)


def positive_parameter(value: ArrayLike, what: str, shape: Shape, dtype: np.dtype[Any], name: str) -> Node:
    """A parameter that must be positive: ValueError for one that is known and is not."""
    known = value if not isinstance(value, Node) else np.ones(())
    if not np.all(np.asarray(known) > 0):
        raise ValueError(f"{here()}: {full_name(name)}: {what} must be positive, got {value!r:.60}")
    return parameter(value, what, shape, dtype, name)


def result_shape(shape: Any, name: str, **parameters: ArrayLike) -> Shape:
    """The shape asked for; where none is, that to which the parameters broadcast."""
    if shape is not None:
        return shape_of(shape)
    shapes = [as_node(value).shape for value in parameters.values()]
    try:
        return broadcast_shapes(shapes)
    except ValueError:
        shown = ", ".join(f"{k} {s}" for k, s in zip(parameters, shapes, strict=True))
        raise ShapeError(f"{here()}: {full_name(name)}: the shapes of {shown} do not broadcast") from None
