"""Counting: how many elements fall into bins, or have a value.

Enters: arrays, bins that may be traced.  Leaves: scatters of ones or of weights, of a length that is known.
Invariant: an element is counted where NumPy counts it, at edges too; NaN and what lies outside the bins nowhere.  The
number of bins is static: where it would depend on traced values the remedy is an argument that says it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import is_float
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.creation import linspace
from gradc.numpy.indexing import searchsorted
from gradc.numpy.public import Array, ArrayLike, function, is_traced
from gradc.numpy.shapes import reshaped, sliced
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.ops.record import Kind

__all__ = ["bincount", "digitize", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd"]

_where = FUNCTIONS["where"]


def _counted(at: Node, keep: Any, weights: Node | None, length: int, dtype: Any) -> Node:
    """For each position below ``length`` how often it occurs among ``at`` where ``keep`` holds, or what it weighs."""
    spare = _where(keep & (at >= 0) & (at < length), at, length)  # what is not counted goes behind the end
    if weights is None:
        weights = full(at.shape, 1, dtype)
    filled = OPS["scatter"].make((full((length + 1,), 0, dtype), cast(weights, dtype), spare), axes=(0,), how="add")
    return sliced(filled, 0, range(length))


@function("bincount")
def bincount(x: ArrayLike, weights: ArrayLike = None, minlength: int = 0, *, length: int | None = None) -> Array:
    """How often each whole number >= 0 occurs in a vector, int64; or the sum of its ``weights``, float64 (of an empty
    vector int64 zeros, as NumPy has it).

    The result has an element for each number up to the largest one, at least ``minlength``.  Of a traced vector that
    cannot be known: give ``length``, beyond which nothing is counted.
    """
    values, least = as_node(x), static_int(minlength, "minlength")
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iub"):
        raise DTypeError(f"{here()}: bincount counts whole numbers in a vector, got {describe(values)}")
    known = values.attrs["value"] if values.op.name == "constant" else None
    if known is not None and known.size and known.min() < 0:
        raise ValueError(f"{here()}: bincount: x must have no negative elements, got {known.min()}")
    if least < 0:
        raise ValueError(f"{here()}: bincount: minlength must not be negative, got {least}")
    if length is not None:
        count = max(static_int(length, "length"), least)
    elif known is not None:
        count = max(int(known.max()) + 1 if known.size else 0, least)
    else:
        raise TraceError(
            f"{here()}: bincount: the result's length would depend on the values of {describe(values)}.\n"
            "  Write  gradc.numpy.bincount(x, length=n)  with n beyond its largest element."
        )
    given = None if weights is None else as_node(weights)
    if given is not None and given.shape != values.shape:
        raise ShapeError(f"{here()}: bincount: weights of shape {given.shape} for {describe(values)}")
    if given is None or not values.size:
        return _counted(cast(values, np.int64), True, None, count, np.int64)
    return _counted(cast(values, np.int64), True, given, count, np.float64)


@function("digitize")
def digitize(x: ArrayLike, bins: ArrayLike, right: Any = False) -> Array:
    """For each element the number of the bin it falls into, int64; 0 and the number of edges for what is outside.

    ``bins`` are the edges, rising or falling; ``right`` says whether a bin holds its right edge instead of its left.
    """
    values, edges = as_node(x), as_node(bins)
    if edges.ndim != 1:
        raise ShapeError(f"{here()}: digitize: bins must be a vector, got {describe(edges)}")
    known = edges.attrs["value"] if edges.op.name == "constant" else None
    if known is not None:
        steps = known[1:] >= known[:-1]
        if not steps.all() and (known[1:] > known[:-1]).any():
            raise ValueError(f"{here()}: digitize: bins must be monotonically increasing or decreasing")
    n, side = edges.size, "left" if right else "right"
    rising: Any = known[0] <= known[-1] if known is not None and n else n < 2 or edges[0] <= edges[-1]
    forward = searchsorted(edges, values, side)
    if not isinstance(rising, Node) and rising:
        return forward
    backward = n - searchsorted(FUNCTIONS["flip"](edges), values, side)
    return _where(rising, forward, backward) if isinstance(rising, Node) else backward


# -- edges ------------------------------------------------------------------------------------------------------------


def _outer(name: str, x: Node, given: Any) -> tuple[Any, Any]:
    """The first and the last edge, apart: those given, or the extremes of ``x``."""
    if given is not None:
        low, high = given
        if not is_traced([low, high]):
            if low > high:
                raise ValueError(f"{here()}: {name}: max must be larger than min in range, got {given!r}")
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"{here()}: {name}: range must be finite, got {given!r}")
            return (low - 0.5, high + 0.5) if low == high else (low, high)
    elif x.size == 0:
        return 0, 1
    else:
        if x.op.kind is Kind.CONSTANT and x.aval.is_float and not np.isfinite(x.attrs["value"]).all():
            raise ValueError(
                f"{here()}: {name}: the extremes of {describe(x)} are the outer edges and must be finite; give range, "
                "or leave out what is not finite"
            )
        low, high = FUNCTIONS["min"](x), FUNCTIONS["max"](x)
    one, other = as_node(low), as_node(high)
    same = one == other
    return _where(same, one - 0.5, one), _where(same, other + 0.5, other)


def _edges(name: str, x: Node, bins: Any, given: Any, among: Sequence[Any]) -> tuple[Node, tuple[Any, Any] | None]:
    """The edges of bins, and the outer ones if all bins are equally wide; their dtype is the common one with what they
    stand ``among``."""
    if isinstance(bins, str):
        raise TraceError(
            f"{here()}: {name}: bins={bins!r} chooses the number of bins by the values of {describe(x)}.\n"
            "  Give the number of bins, or their edges; or compute np.histogram_bin_edges of known data outside."
        )
    if np.ndim(bins) == 0 and not isinstance(bins, (list, tuple)):
        count = static_int(bins, "the number of bins")
        if count < 1:
            raise ValueError(f"{here()}: {name}: the number of bins must be positive, got {count}")
        low, high = _outer(name, x, given)
        kind = FUNCTIONS["result_type"](low, high, *among)
        kind = kind if is_float(kind) else np.result_type(kind, np.float64)
        return linspace(low, high, count + 1, dtype=kind), (low, high)
    edges = as_node(bins)
    if edges.ndim != 1:
        raise ShapeError(f"{here()}: {name}: bins must be a number or a vector of edges, got {describe(edges)}")
    known = edges.attrs["value"] if edges.op.name == "constant" else None
    if known is not None and (known[:-1] > known[1:]).any():
        raise ValueError(f"{here()}: {name}: bins must increase monotonically")
    return edges, None


@function("histogram_bin_edges")
def histogram_bin_edges(a: ArrayLike, bins: Any = 10, range: Any = None, weights: ArrayLike = None) -> Array:
    """The edges of ``bins`` equally wide bins over ``range``, or over the extremes of ``a``; or those given."""
    if isinstance(bins, str) and not is_traced([a, range, weights]):
        return as_node(np.histogram_bin_edges(a, bins, range, weights))
    x = _elements(as_node(a))
    return _edges("histogram_bin_edges", x, bins, range, [x])[0]


def _elements(x: Node) -> Node:
    """All elements as a vector; booleans as uint8, as in NumPy."""
    flat = constant(x.attrs["value"].reshape(-1)) if x.op.kind is Kind.CONSTANT else reshaped(x, (x.size,))
    return cast(flat, np.uint8) if x.dtype == bool else flat


# -- histograms -------------------------------------------------------------------------------------------------------


@function("histogram")
def histogram(
    a: ArrayLike, bins: Any = 10, range: Any = None, density: Any = None, weights: ArrayLike = None
) -> tuple[Array, Array]:
    """(counts, edges): how many elements fall into each bin, or what they weigh; all bins but the last are half open.

    ``bins`` is a number or a vector of edges, ``density`` makes the integral 1.  The counts have derivatives in the
    weights, the edges in the extremes of ``a``.
    """
    x = _elements(as_node(a))
    if isinstance(bins, str) and not is_traced([a, range]):
        bins = np.histogram_bin_edges(a, bins, range)
    given = None if weights is None else as_node(weights)
    if given is not None and given.shape != as_node(a).shape:
        raise ShapeError(f"{here()}: histogram: weights of shape {given.shape} for {describe(as_node(a))}")
    w = None if given is None else reshaped(given, (given.size,))
    edges, outer = _edges("histogram", x, bins, range, [x])
    count = edges.size - 1
    at, keep = _uniform_bins(x, edges, outer, count) if outer is not None else _searched_bins(x, edges)
    dtype = np.dtype(np.int64) if w is None else w.dtype
    wide = np.dtype(np.float64) if w is not None and np.can_cast(dtype, np.float64) else dtype
    found = cast(_counted(at, keep, w, count, wide), dtype)
    if density:
        found = found / cast(FUNCTIONS["diff"](edges), np.float64) / FUNCTIONS["sum"](found)
    return found, edges


def _uniform_bins(x: Node, edges: Node, outer: tuple[Any, Any], count: int) -> tuple[Node, Node]:
    """By division, corrected at the edges as NumPy does."""
    low, high = outer
    wide = cast(x, edges.dtype)
    keep = _between(x, wide, low, high)
    start = cast(as_node(low), edges.dtype)
    wide = _where(keep, wide, start)
    at = cast((wide - start) / (cast(as_node(high), edges.dtype) - start) * count, np.int64)
    at = FUNCTIONS["clip"](at, 0, count - 1)
    take = FUNCTIONS["take"]
    at = at - cast(wide < take(edges, at), np.int64)
    at = at + cast((wide >= take(edges, at + 1)) & (at != count - 1), np.int64)
    return at, keep


def _between(x: Node, wide: Node, low: Any, high: Any) -> Node:
    """Whether low ≤ x ≤ high; in the wider dtype where Python numbers do not fit into that of ``x``."""
    numbers = [v for v in (low, high) if isinstance(v, (int, float))]
    if x.dtype.kind in "iu" and any(not np.iinfo(x.dtype).min <= v <= np.iinfo(x.dtype).max for v in numbers):
        x = wide
    return (x >= low) & (x <= high)


def _searched_bins(x: Node, edges: Node) -> tuple[Node, Any]:
    """By search: the number of edges that are not larger, less one; the last edge belongs to the last bin."""
    last = edges[-1] if edges.size else as_node(math.nan)
    found = searchsorted(edges, x, "right") - 1
    return found - cast(x == last, np.int64), True


@function("histogramdd")
def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: ArrayLike = None
) -> tuple[Array, list[Array]]:
    """(counts, edges of each axis) of points (n, d), or of d vectors, in float64; see `histogram`."""
    points = as_node(sample) if not isinstance(sample, (list, tuple)) else None
    if points is None or points.ndim != 2:
        rows = FUNCTIONS["atleast_2d"](as_node(sample))
        points = FUNCTIONS["transpose"](rows)
    known = _known_points(sample)
    n, d = points.shape
    each = [bins] * d if isinstance(bins, (int, np.integer, str)) else list(bins)
    ranges = [None] * d if range is None else list(range)
    if len(each) != d or len(ranges) != d:
        raise ShapeError(f"{here()}: histogramdd: bins and range need an entry for each of the {d} axes of the points")
    w = None if weights is None else as_node(weights)
    if w is not None and w.shape != (n,):
        raise ShapeError(f"{here()}: histogramdd: weights of shape {w.shape} for {n} points")
    at: Node = constant(np.zeros(n, np.int64))
    keep: Any = constant(np.ones(n, bool))
    edges = []
    for k, (chosen, given) in enumerate(zip(each, ranges, strict=True)):
        column = points[:, k] if known is None else constant(known[:, k])
        mine, _ = _edges("histogramdd", column, chosen, given, [])
        found, _ = _searched_bins(column, mine)
        count = mine.size - 1
        keep = keep & (found >= 0) & (found < count)
        at = at * count + found
        edges.append(mine)
    shape = [e.size - 1 for e in edges]
    counts = reshaped(_counted(at, keep, w, math.prod(shape), np.float64), shape)
    return (_density(counts, edges) if density else counts), edges


def _known_points(sample: Any) -> Any:
    """The points (n, d) of a sample that is known; None for one that is traced."""
    node = as_node(sample)
    if node.op.kind is not Kind.CONSTANT:
        return None
    value = node.attrs["value"]
    return value if value.ndim == 2 and not isinstance(sample, (list, tuple)) else np.atleast_2d(value).T


def _density(counts: Node, edges: Sequence[Node]) -> Node:
    total = FUNCTIONS["sum"](counts)
    for k, mine in enumerate(edges):
        shape = [-1 if a == k else 1 for a in range(counts.ndim)]
        counts = counts / FUNCTIONS["reshape"](FUNCTIONS["diff"](mine), shape)
    return counts / total


@function("histogram2d")
def histogram2d(
    x: ArrayLike, y: ArrayLike, bins: Any = 10, range: Any = None, density: Any = None, weights: ArrayLike = None
) -> tuple[Array, Array, Array]:
    """(counts, edges of x, edges of y) of the points (x, y), in float64; see `histogram`."""
    one, other = as_node(x), as_node(y)
    if one.shape != other.shape or one.ndim != 1:
        given = f"{describe(one)}, {describe(other)}"
        raise ShapeError(f"{here()}: histogram2d takes two vectors of one length, got {given}")
    if not isinstance(bins, (int, np.integer, str)) and len(bins) not in (1, 2):
        bins = [bins, bins]
    known = one.op.kind is Kind.CONSTANT and other.op.kind is Kind.CONSTANT
    points = np.stack([n.attrs["value"] for n in (one, other)], 1) if known else FUNCTIONS["stack"]([one, other], 1)
    counts, edges = FUNCTIONS["histogramdd"](points, bins, range, density, weights)
    return counts, edges[0], edges[1]
