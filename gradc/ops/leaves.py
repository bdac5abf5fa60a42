"""Leaves: inputs, constants and index arrays that are computed, never stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.errors import TraceError
from gradc.node import OPS, Node, constant
from gradc.ops.record import Kind, Op, Sample, register


def _no_value(**attrs: Any) -> Any:
    raise TraceError("an input has no value of its own")


register(
    Op(
        name="input",
        kind=Kind.LEAF,
        infer=lambda **attrs: attrs["aval"],
        numpy=_no_value,
        doc="An argument of the graph.",
    )
)
register(
    Op(
        name="constant",
        kind=Kind.LEAF,
        infer=lambda value: Aval(value.shape, value.dtype),
        numpy=lambda value: value,
        doc="An array known at trace.",
    )
)


def _iota_numpy(shape: Shape, axis: int, dtype: Any) -> Any:
    spread = [1] * len(shape)
    spread[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=dtype).reshape(spread), shape)


register(
    Op(
        name="iota",
        kind=Kind.LEAF,
        infer=lambda shape, axis, dtype: Aval(shape, np.dtype(dtype)),
        numpy=_iota_numpy,
        samples=(
            Sample((), {"shape": (3,), "axis": 0, "dtype": np.dtype("int64")}),
            Sample((), {"shape": (2, 3), "axis": 1, "dtype": np.dtype("float32")}),
        ),
        doc="The index along one axis: never stored, a loop counter where it is used.",
    )
)


def iota(shape: Shape, axis: int = 0, dtype: Any = np.int64) -> Node:
    """The index along ``axis`` of an array of ``shape``."""
    return OPS["iota"].make((), shape=tuple(shape), axis=axis, dtype=np.dtype(dtype))


def full(shape: Shape, value: float, dtype: Any) -> Node:
    """An array of one value: a scalar constant, broadcast."""
    scalar = constant(np.asarray(value, dtype))
    return scalar if shape == () else OPS["broadcast"].make((scalar,), shape=tuple(shape), axes=())
