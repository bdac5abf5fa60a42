"""Differences, interpolation, correlation: what is computed of neighbours along an axis.

Enters: arrays of samples, and where they were taken.  Leaves: slices, gathers at found positions, elementwise nodes.
Invariant: NumPy's formulas, term by term; positions, samples and queries may all be traced, and have derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of
from gradc.numpy.creation import can_cast
from gradc.numpy.indexing import argsort, searchsorted, take
from gradc.numpy.joining import diff
from gradc.numpy.linear import convolve
from gradc.numpy.public import Array, ArrayLike, Axes, function
from gradc.numpy.shapes import flip, joined, reshaped, sliced
from gradc.ops.elementwise import cast

__all__ = ["correlate", "ediff1d", "gradient", "interp", "unwrap"]

_where = FUNCTIONS["where"]


# -- interpolation ----------------------------------------------------------------------------------------------------


@function("interp", singular="in x at a point: the slope of the interval to its right, at the last one to its left")
def interp(
    x: ArrayLike,
    xp: ArrayLike,
    fp: ArrayLike,
    left: ArrayLike = None,
    right: ArrayLike = None,
    period: ArrayLike = None,
) -> Array:
    """The piecewise linear function through the points (xp, fp), xp rising, at ``x``; float64, as in NumPy.

    Beyond the points it is ``left`` and ``right``, by default the values there; or it repeats after ``period``.
    """
    at, points, values = (cast(as_node(v), np.float64) for v in (x, xp, fp))
    if points.ndim != 1 or points.shape != values.shape or not points.size:
        given = f"{describe(points)}, {describe(values)}"
        raise ShapeError(f"{here()}: interp: xp and fp must be vectors of one length >= 1, got {given}")
    if period is not None:
        at, points, values = _repeated(at, points, values, period)
        left = right = None
    low = values[0] if left is None else cast(as_node(left), np.float64)
    high = values[-1] if right is None else cast(as_node(right), np.float64)
    inside = _interpolated(at, points, values) if points.size > 1 else _where(at == at, values[0], at)
    return _where(at < points[0], low, _where(at > points[-1], high, inside))


def _repeated(at: Node, points: Node, values: Node, period: ArrayLike) -> tuple[Node, Node, Node]:
    """One period, with a point more at either end."""
    if not isinstance(period, Node) and period == 0:
        raise ValueError(f"{here()}: interp: period must not be 0")
    length = FUNCTIONS["absolute"](cast(as_node(period), np.float64))
    at, points = at % length, points % length
    order = argsort(points)
    points, values = take(points, order), take(values, order)
    points = joined([points[-1:] - length, points, points[:1] + length], 0)
    return at, points, joined([values[-1:], values, values[:1]], 0)


def _interpolated(at: Node, points: Node, values: Node) -> Node:
    """Along the interval that begins at the last point not beyond ``at``; from its end where that is more exact."""
    i = FUNCTIONS["clip"](searchsorted(points, at, "right") - 1, 0, points.size - 2)
    x0, x1, f0, f1 = take(points, i), take(points, i + 1), take(values, i), take(values, i + 1)
    width = x1 - x0
    slope = (f1 - f0) / _where(width == 0, 1.0, width)
    forth, back = slope * (at - x0) + f0, slope * (at - x1) + f1
    found = _where((at == x1) | (forth != forth), back, forth)
    found = _where((found != found) & (f0 == f1), f0, found)
    steep = ~FUNCTIONS["isfinite"](slope) | (width == 0)
    found = _where(steep & (at == x0), f0, found)
    found = _where(steep & (at == x1), f1, found)
    return _where(at == at, found, at)


# -- differences ------------------------------------------------------------------------------------------------------


@function("ediff1d")
def ediff1d(ary: ArrayLike, to_end: ArrayLike = None, to_begin: ArrayLike = None) -> Array:
    """The differences of neighbours in the flattened array, between ``to_begin`` and ``to_end``."""
    x = FUNCTIONS["ravel"](as_node(ary))
    if x.dtype == bool:
        raise DTypeError(f"{here()}: ediff1d: booleans cannot be subtracted, in {describe(x)}; use .astype(int)")
    n = max(x.size, 1)
    middle = sliced(x, 0, range(1, n)) - sliced(x, 0, range(n - 1)) if x.size else x
    parts = [_as_end("to_begin", to_begin, x), middle, _as_end("to_end", to_end, x)]
    return joined([p for p in parts if p is not None], 0)


def _as_end(name: str, value: ArrayLike, x: Node) -> Node | None:
    if value is None:
        return None
    end = as_node(value)
    if not can_cast(end.dtype, x.dtype, "same_kind"):
        raise DTypeError(f"{here()}: ediff1d: {name} of {end.dtype} does not fit into {describe(x)}; use .astype")
    return reshaped(cast(end, x.dtype), (end.size,))


@function("unwrap")
def unwrap(p: ArrayLike, discont: ArrayLike = None, axis: int = -1, *, period: ArrayLike = 2 * math.pi) -> Array:
    """Angles with jumps of more than ``discont`` along ``axis`` taken back by whole periods."""
    x = as_node(p)
    k = axis_of(axis, x)
    steps = diff(x, axis=k)
    whole = x.dtype.kind in "iu" and (isinstance(period, (int, np.integer)) or as_node(period).dtype.kind in "iu")
    half: Any = period // 2 if whole else period / 2
    ambiguous = not whole or period % 2 == 0
    turned = FUNCTIONS["remainder"](steps + half, period) - half
    if ambiguous:
        turned = _where((turned == -half) & (steps > 0), half, turned)
    mend = turned - steps
    mend = _where(FUNCTIONS["absolute"](steps) < (period / 2 if discont is None else discont), 0, mend)
    n = x.shape[k]
    dtype = FUNCTIONS["result_type"](steps, period)
    rest = cast(sliced(x, k, range(min(1, n), n)) + FUNCTIONS["cumsum"](mend, k), dtype)
    return joined([cast(sliced(x, k, range(min(1, n))), dtype), rest], k)


@function("gradient")
def gradient(f: ArrayLike, *varargs: ArrayLike, axis: Axes = None, edge_order: int = 1) -> Array:
    """Central differences along each axis, or those in ``axis``: one array, or a tuple of them.

    ``varargs`` are the distances (a number for all axes, or for each axis a number or the coordinates); at the ends
    differences of first or second order.
    """
    x = as_node(f)
    axes = axes_of(axis, x)
    if x.dtype == bool:
        raise DTypeError(
            f"{here()}: gradient: truth values have no differences, got {describe(x)}; cast them with .astype"
        )
    x = x if x.aval.is_float else cast(x, np.float64)
    order = static_int(edge_order, "edge_order")
    if order not in (1, 2):
        raise ValueError(f"{here()}: gradient: edge_order must be 1 or 2, got {order}")
    found = []
    for k, given in zip(axes, _distances(x, axes, varargs), strict=True):
        if x.shape[k] < order + 1:
            raise ShapeError(
                f"{here()}: gradient: axis {k} of {describe(x)} needs at least {order + 1} elements for this edge_order"
            )
        found.append(cast(_uneven(x, k, given, order) if given.ndim else _even(x, k, given, order), x.dtype))
    return found[0] if len(found) == 1 else tuple(found)


def _distances(x: Node, axes: Sequence[int], given: Sequence[ArrayLike]) -> list[Node]:
    """For each axis a number, or the distances of neighbours."""
    if not given:
        return [as_node(1.0)] * len(axes)
    if len(given) == 1 and as_node(given[0]).ndim == 0:
        return [as_node(given[0])] * len(axes)
    if len(given) != len(axes):
        raise ShapeError(f"{here()}: gradient: {len(given)} distances for {len(axes)} axes of {describe(x)}")
    return [_distance(x, k, as_node(d)) for k, d in zip(axes, given, strict=True)]


def _distance(x: Node, axis: int, coordinates: Node) -> Node:
    if coordinates.ndim == 0:
        return coordinates
    if coordinates.shape != (x.shape[axis],):
        raise ShapeError(
            f"{here()}: gradient: coordinates of shape {coordinates.shape} for axis {axis} of {describe(x)}"
        )
    if coordinates.dtype.kind in "iu":
        coordinates = cast(coordinates, np.float64)
    steps = diff(coordinates)
    if coordinates.op.name == "constant":
        known = np.diff(coordinates.attrs["value"])
        if known.size and (known == known[0]).all():
            return as_node(known[0])
    return steps


def _even(x: Node, axis: int, step: Node, order: int) -> Node:
    n = x.shape[axis]

    def at(start: int, stop: int) -> Node:
        return sliced(x, axis, range(n)[slice(start, stop if stop else None)])

    middle = (at(2, 0) - at(0, -2)) / (2.0 * step)
    if order == 1:
        first, last = (at(1, 2) - at(0, 1)) / step, (at(-1, 0) - at(-2, -1)) / step
    else:
        a, b, c = -1.5 / step, 2.0 / step, -0.5 / step
        first = a * at(0, 1) + b * at(1, 2) + c * at(2, 3)
        a, b, c = 0.5 / step, -2.0 / step, 1.5 / step
        last = a * at(-3, -2) + b * at(-2, -1) + c * at(-1, 0)
    return joined([first, middle, last], axis)


def _uneven(x: Node, axis: int, steps: Node, order: int) -> Node:
    n, m = x.shape[axis], steps.size

    def at(start: int, stop: int) -> Node:
        return sliced(x, axis, range(n)[slice(start, stop if stop else None)])

    def step(start: int, stop: int) -> Node:
        part = sliced(steps, 0, range(m)[slice(start, stop if stop else None)])
        return reshaped(part, [part.size if k == axis else 1 for k in range(x.ndim)])

    before, after = step(0, -1), step(1, 0)
    a, b, c = -after / (before * (before + after)), (after - before) / (before * after), before / (
        after * (before + after)
    )  # fmt: skip
    middle = a * at(0, -2) + b * at(1, -1) + c * at(2, 0)
    if order == 1:
        first, last = (at(1, 2) - at(0, 1)) / step(0, 1), (at(-1, 0) - at(-2, -1)) / step(-1, 0)
    else:
        d1, d2 = step(0, 1), step(1, 2)
        first = (
            -(2.0 * d1 + d2) / (d1 * (d1 + d2)) * at(0, 1)
            + (d1 + d2) / (d1 * d2) * at(1, 2)
            + -d1 / (d2 * (d1 + d2)) * at(2, 3)
        )
        d1, d2 = step(-2, -1), step(-1, 0)
        last = (
            d2 / (d1 * (d1 + d2)) * at(-3, -2)
            + -(d2 + d1) / (d1 * d2) * at(-2, -1)
            + (2.0 * d2 + d1) / (d2 * (d1 + d2)) * at(-1, 0)
        )
    return joined([first, middle, last], axis)


# -- correlation ------------------------------------------------------------------------------------------------------


@function("correlate")
def correlate(a: ArrayLike, v: ArrayLike, mode: str = "valid") -> Array:
    """Σₙ a[n + k]·v[n] of two vectors; ``mode`` "full", "same" or "valid" (NumPy's meanings)."""
    x, y = as_node(a), as_node(v)
    for node in (x, y):
        if node.ndim != 1:
            raise ShapeError(f"{here()}: correlate takes two vectors, got {describe(x)}, {describe(y)}")
    return flip(convolve(y, flip(x), mode)) if y.size > x.size else convolve(x, flip(y), mode)
