"""Products and correlations in one form: what `product` multiplies.

Enters: a `Product` or a `Correlation`.  Leaves: a `Problem`.
Rows, columns and the summed axis are each several axes walked as one, with a stride for each: a correlation's windows
are never copied, their elements are found where they lie (implicit im2col).  Start reading at `problem_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradc.codegen.ir import Lanes, Value, const
from gradc.codegen.ptx.step import spread
from gradc.codegen.ptx.tile import Extents
from gradc.codegen.scalars import Point
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Axis, Correlation, Epilogue, Product, View

#: (extent, stride in elements) of each axis that is walked as one, outermost first.
Walk = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """An array of a product: slot, first element, and how its batch, its first and its second index walk through it.

    The indices are (row, summed), (summed, column) and (row, column).  ``dtype`` is that of its elements in memory,
    perhaps a narrow float where sums are float32.
    """

    slot: int
    offset: int
    batch: Walk
    first: Walk
    second: Walk
    dtype: str


@dataclass(frozen=True, slots=True)
class Problem:
    """out[b, i, j] = Σₖ left[b, i, k] · right[b, k, j], then the epilogue; ``kept``: somebody reads out."""

    dtype: str
    left: Side
    right: Side
    out: Side
    epilogue: Epilogue | None = None
    kept: bool = True

    @property
    def m(self) -> int:
        return size(self.out.first)

    @property
    def n(self) -> int:
        return size(self.out.second)

    @property
    def k(self) -> int:
        return size(self.left.second)

    @property
    def batch(self) -> int:
        return size(self.out.batch)

    @property
    def extents(self) -> Extents:
        return Extents(self.m, self.n, self.k, self.batch, np.dtype(self.dtype).itemsize)


def size(walk: Walk) -> int:
    return math.prod(extent for extent, _ in walk)


def problem_of(work: Product | Correlation) -> Problem:
    """``work`` in the terms of this module."""
    if isinstance(work, Product):
        m, n, k = work.m, work.n, work.k
        left, right, out = _view(work, work.left, m, k), _view(work, work.right, k, n), _view(work, work.out, m, n)
        return Problem(work.dtype, left, right, out, work.epilogue)
    batch = [x for x in work.kept if x.left and x.right]
    rows = [x for x in work.kept if x not in batch and x.left]
    columns = [x for x in work.kept if x not in batch and not x.left]

    def side(name: str, first: Sequence[Axis], second: Sequence[Axis]) -> Side:
        corner = getattr(work, name)
        walks = (_walk(batch, name), _walk(first, name), _walk(second, name))
        return Side(corner.slot, corner.offset, *walks, corner.dtype)

    left, right = side("left", rows, work.summed), side("right", work.summed, columns)
    return Problem(work.dtype, left, right, side("out", rows, columns))


def _view(p: Product, v: View, first: int, second: int) -> Side:
    batch = tuple(zip(p.batch, v.batch, strict=True))
    return Side(v.slot, v.offset, batch, ((first, v.strides[0]),), ((second, v.strides[1]),), v.dtype)


def _walk(axes: Sequence[Axis], name: str) -> Walk:
    return tuple((x.extent, getattr(x, name)) for x in axes)


def place_in(b: Lanes, walk: Walk, number: Value) -> Value:
    """How many elements into an array the row-major ``number`` of a walk leads."""
    variables = [Var(k, extent) for k, (extent, _) in enumerate(walk)]
    if len(walk) > 1 and number.dtype == "int64" and size(walk) < 2**31:
        number = b.convert(number, "uint32")  # divided in 32 bits
    point = spread(b, number, variables, Point())
    total: Value = const(0, "int64")
    for var, (_, stride) in zip(variables, walk, strict=True):
        if stride:
            total = b.add(total, b.mul(point.variables[var], stride))
    return total
