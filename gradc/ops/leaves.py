"""Leaves: inputs, constants, and arrays of indices that are computed, never stored."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.errors import TraceError
from gradc.node import OPS, Node, constant
from gradc.ops.consistent import axes_in, axis_in, extents, one_for_each, refuse
from gradc.ops.ranges import ANYTHING, TRUTH, WHOLE, Hazard, Range, of_array
from gradc.ops.record import Kind, Op, Sample, register


def _no_value(**attrs: Any) -> Any:
    raise TraceError("an input has no value of its own")


register(
    Op(
        name="input",
        kind=Kind.INPUT,
        constant=True,
        infer=lambda **attrs: attrs["aval"],
        numpy=_no_value,
        range=lambda node: ANYTHING if node.aval.is_float else WHOLE,
        doc="An argument of the graph.",
    )
)
register(
    Op(
        name="constant",
        kind=Kind.CONSTANT,
        constant=True,
        infer=lambda value: Aval(value.shape, value.dtype),
        numpy=lambda value: value,
        range=lambda node: of_array(node.attrs["value"]),
        doc="An array known at trace.",
    )
)


def _iota_infer(shape: Shape, axis: int, dtype: Any) -> Aval:
    extents(shape)
    axis_in(axis, len(shape))
    return Aval(shape, np.dtype(dtype))


def _iota_numpy(shape: Shape, axis: int, dtype: Any) -> Any:
    spread = [1] * len(shape)
    spread[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=dtype).reshape(spread), shape)


register(
    Op(
        name="iota",
        kind=Kind.INDEX,
        counts=True,
        infer=_iota_infer,
        constant=True,
        numpy=_iota_numpy,
        lower=lambda w, index, shape, axis, dtype: w.counter(index[axis], dtype),
        range=lambda node: Range(0.0, float(max(node.attrs["shape"][node.attrs["axis"]] - 1, 0)), Hazard.NONE),
        samples=(
            Sample((), {"shape": (3,), "axis": 0, "dtype": np.dtype("int64")}),
            Sample((), {"shape": (2, 3), "axis": 1, "dtype": np.dtype("float32")}),
        ),
        doc="The index along one axis: never stored, a loop counter where it is used.",
    )
)


Pairs = tuple[tuple[int, int], ...]


def _delta_infer(shape: Shape, pairs: Pairs, dtype: Any) -> Aval:
    extents(shape)
    for pair in pairs:
        one_for_each("axes of a pair", pair, 2)
        axes_in(pair, len(shape))
        a, b = pair
        if shape[a] != shape[b]:
            refuse(f"axes {a} and {b} have the extents {shape[a]} and {shape[b]}")
    return Aval(shape, np.dtype(dtype))


def _delta_numpy(shape: Shape, pairs: Pairs, dtype: Any) -> Any:
    grid = np.indices(shape, sparse=True)
    agree = np.ones((1,) * len(shape), bool)
    for a, b in pairs:
        agree = agree & (grid[a] == grid[b])
    return np.broadcast_to(agree, shape).astype(dtype)


def _delta_lower(w: Any, index: Any, shape: Shape, pairs: Pairs, dtype: Any) -> Any:
    """Whether the loop counters of all paired axes agree."""
    whole, truth = np.dtype(np.int64), np.dtype(bool)
    agree = [w.apply(OPS["equal"], *(w.counter(index[a], whole) for a in pair), dtype=truth) for pair in pairs]
    if not agree:
        return w.constant(1, dtype)
    both = reduce(lambda a, b: w.apply(OPS["logical_and"], a, b, dtype=truth), agree)
    return both if dtype == truth else w.apply(OPS["cast"], both, dtype=dtype, attrs={"dtype": dtype})


def _delta_sympy(S: Any, shape: Shape, pairs: Pairs, dtype: Any) -> Any:
    out = np.empty(shape, object)
    for index in np.ndindex(*shape):
        out[index] = S.prod(S.KroneckerDelta(index[a], index[b]) for a, b in pairs)
    return out


register(
    Op(
        name="delta",
        kind=Kind.INDEX,
        infer=_delta_infer,
        constant=True,
        numpy=_delta_numpy,
        lower=_delta_lower,
        range=lambda node: TRUTH,
        sympy=_delta_sympy,
        samples=(
            Sample((), {"shape": (3, 3), "pairs": ((0, 1),), "dtype": np.dtype("float64")}),
            Sample((), {"shape": (2, 3, 2, 3), "pairs": ((0, 2), (1, 3)), "dtype": np.dtype("float64")}),
            Sample((), {"shape": (2, 3, 2), "pairs": ((0, 2),), "dtype": np.dtype("float64")}),
            Sample((), {"shape": (0, 0), "pairs": ((0, 1),), "dtype": np.dtype("float64")}),
            Sample((), {"shape": (), "pairs": (), "dtype": np.dtype("float64")}),
        ),
        doc="1 where the two indices of every pair of axes agree, 0 elsewhere: an identity that is never stored.",
    )
)


def number_of(node: Node) -> Any:
    """The one number that a constant is everywhere, also where it is shown along other axes; None of any other node."""
    while node.op.repeats:
        (node,) = node.args
    return node.attrs["value"].reshape(-1)[0] if node.op.kind is Kind.CONSTANT and node.size == 1 else None


def delta(shape: Shape, pairs: Pairs, dtype: Any) -> Node:
    """The product of Kronecker deltas of the paired axes, which have equal extents."""
    return OPS["delta"].make((), shape=tuple(shape), pairs=tuple(pairs), dtype=np.dtype(dtype))


def iota(shape: Shape, axis: int = 0, dtype: Any = np.int64) -> Node:
    """The index along ``axis`` of an array of ``shape``."""
    return OPS["iota"].make((), shape=tuple(shape), axis=axis, dtype=np.dtype(dtype))


def full(shape: Shape, value: float, dtype: Any) -> Node:
    """An array of one value: a scalar constant, broadcast."""
    scalar = constant(np.asarray(value, dtype))
    return scalar if shape == () else OPS["broadcast"].make((scalar,), shape=tuple(shape), axes=())
