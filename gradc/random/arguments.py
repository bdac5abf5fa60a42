"""Arguments of samplers: dtypes, shapes and parameters, with the errors for those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.aval import Shape, broadcast_shapes, canonical_dtype, is_float
from gradc.errors import DTypeError, ShapeError
from gradc.node import Node, as_node, describe, here
from gradc.numpy.axes import shape_of
from gradc.numpy.public import ArrayLike
from gradc.ops.elementwise import broadcast_to, cast


def float_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The floating dtype of a sampler's result; float64 where none is given."""
    return _dtype(dtype, np.float64, is_float, "a floating one", name)


def integer_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The integer dtype of a sampler's result; int64 where none is given."""
    return _dtype(dtype, np.int64, lambda found: found.kind in "iu", "an integer one", name)


def unsigned_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The unsigned integer dtype of a sampler's result; uint64 where none is given."""
    return _dtype(dtype, np.uint64, lambda found: found.kind == "u", "an unsigned integer one", name)


def _dtype(dtype: Any, usual: Any, fits: Callable[[np.dtype[Any]], bool], what: str, name: str) -> np.dtype[Any]:
    try:
        found = canonical_dtype(usual if dtype is None else dtype)
    except DTypeError as error:
        raise DTypeError(f"{here()}: random.{name}: {error}") from None
    if not fits(found):
        raise DTypeError(f"{here()}: random.{name}: dtype must be {what}, got {found}")
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
            f"{here()}: random.{name}: {what}, {given}, does not broadcast to the shape {shape} of the result"
        )
    return broadcast_to(cast(node, dtype), shape)


def result_shape(shape: Any, name: str, **parameters: ArrayLike) -> Shape:
    """The shape asked for; where none is, that to which the parameters broadcast."""
    if shape is not None:
        return shape_of(shape)
    shapes = [as_node(value).shape for value in parameters.values()]
    try:
        return broadcast_shapes(shapes)
    except ValueError:
        shown = ", ".join(f"{k} {s}" for k, s in zip(parameters, shapes, strict=True))
        raise ShapeError(f"{here()}: random.{name}: the shapes of {shown} do not broadcast") from None
