"""Elements as sets, and the positions of what holds: results whose length depends on values, so a trace is told it.

Enters: arrays; ``size=``, the static length of the result, and ``fill_value=`` for what is left of it, as in JAX.
Leaves: scatters to places counted by running sums.  Invariant: without ``size`` nothing traced gets here; what there is
no room for is dropped.  Start reading at `_packed`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.errors import ShapeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axis_of
from gradc.numpy.indexing import argsort, searchsorted, sort, take
from gradc.numpy.public import Array, ArrayLike, function, is_traced
from gradc.numpy.shapes import joined, reshaped, sliced
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = [
    "argwhere", "compress", "extract", "flatnonzero", "intersect1d", "isin", "nonzero", "setdiff1d", "setxor1d",
    "union1d", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "where",
]  # fmt: skip

_choose = FUNCTIONS["where"]


# -- what is chosen, in front -----------------------------------------------------------------------------------------


def _sized(name: str, args: Sequence[Any], size: Any) -> int | None:
    """The static length of the result; None where NumPy shall find it, of values that are known."""
    if size is not None:
        count = static_int(size, "size")
        if count < 0:
            raise ShapeError(f"{here()}: {name}: size must not be negative, got {count}")
        return count
    if not is_traced(args):
        return None
    node = next(v for v in _flat(args) if isinstance(v, Node))
    raise TraceError(
        f"{here()}: {name}: the result's shape would depend on the values of {describe(node)}, which is traced.\n"
        f"  Say how many there may be:  gradc.numpy.{name}(…, size=n);  or keep the full shape: "
        "np.where(mask, x, fill), or a weight of 0 or 1."
    )


def _flat(values: Any) -> list[Any]:
    return [v for part in values for v in _flat(part)] if isinstance(values, (list, tuple)) else [values]


def _place(mask: Node, size: int) -> tuple[Node, Node]:
    """For a vector of truth values where each that holds goes in a result of ``size`` (``size`` itself: nowhere), and
    which places of the result are filled."""
    place = FUNCTIONS["cumsum"](mask) - 1
    kept = mask & (place < size)
    return _choose(kept, place, size), iota((size,)) < FUNCTIONS["sum"](mask)


def _packed(values: Node, place: Node, size: int) -> Node:
    """Rows of ``values`` at their places, zeros at places where nothing goes."""
    room = full((size + 1, *values.shape[1:]), 0, values.dtype)
    return sliced(OPS["scatter"].make((room, values, place), axes=(0,), how="set"), 0, range(size))


def _filled(found: Node, filled: Node, fill: Any) -> Node:
    mask = reshaped(filled, (*filled.shape, *(1,) * (found.ndim - 1)))
    return _choose(mask, found, cast(as_node(fill), found.dtype))


# -- positions --------------------------------------------------------------------------------------------------------


@function("nonzero")
def nonzero(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> tuple[Array, ...]:
    """The positions of elements that are not 0, one vector an axis; in a trace the first ``size`` of them.

    ``fill_value`` (one, or one an axis; default 0) stands where there are fewer.
    """
    count = _sized("nonzero", [a], size)
    if count is None:
        return tuple(as_node(p) for p in np.nonzero(_value(a)))
    x = as_node(a)
    if x.ndim == 0:
        raise ShapeError(f"{here()}: nonzero takes arrays with an axis, got {describe(x)}")
    mask = reshaped(cast(x, bool), (x.size,))
    place, filled = _place(mask, count)
    flat = _packed(iota((x.size,)), place, count)
    fills = fill_value if isinstance(fill_value, tuple) else (0 if fill_value is None else fill_value,) * x.ndim
    found = []
    for k, fill in enumerate(fills):
        at = flat // math.prod(x.shape[k + 1 :]) % x.shape[k] if x.size else flat
        found.append(_filled(at, filled, fill))
    return tuple(found)


def _value(a: Any) -> Any:
    """What is known as NumPy takes it."""
    return as_node(a).attrs["value"] if isinstance(a, Node) else a


@function("flatnonzero")
def flatnonzero(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The positions in the flattened array of elements that are not 0; in a trace the first ``size``, see `nonzero`."""
    if _sized("flatnonzero", [a], size) is None:
        return as_node(np.flatnonzero(_value(a)))
    return nonzero(FUNCTIONS["ravel"](as_node(a)), size=size, fill_value=fill_value)[0]


@function("argwhere")
def argwhere(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The positions of elements that are not 0, one a row; in a trace the first ``size`` of them, see `nonzero`."""
    if _sized("argwhere", [a], size) is None:
        return as_node(np.argwhere(_value(a)))
    return FUNCTIONS["stack"](nonzero(as_node(a), size=size, fill_value=fill_value), 1)


@function("where")
def where(
    condition: ArrayLike, x: ArrayLike = None, y: ArrayLike = None, *, size: int | None = None,
    fill_value: Any = None,
) -> Any:  # fmt: skip
    """``x`` where ``condition`` holds, else ``y``, broadcast together.  ``where(mask)`` alone is `nonzero`."""
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise TypeError(f"{here()}: where takes a condition, or a condition, x and y")
    if size is not None or fill_value is not None:
        raise TypeError(f"{here()}: where: size and fill_value are of where(mask) alone")
    return _choose(condition, x, y)


@function("compress")
def compress(
    condition: ArrayLike, a: ArrayLike, axis: int | None = None, *, size: int | None = None, fill_value: ArrayLike = 0
) -> Array:
    """The elements along ``axis`` (None: of the flattened array) where the vector ``condition`` holds.

    A traced condition needs ``size``: the first so many are taken, ``fill_value`` stands where there are fewer.
    """
    count, mask, x = _sized("compress", [condition], size), as_node(condition), as_node(a)
    if mask.ndim != 1:
        raise ShapeError(f"{here()}: compress: the condition must have one dimension, got {describe(mask)}")
    if count is None:
        return take(x, np.flatnonzero(_value(condition)), axis)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    k = axis_of(axis, x)
    chosen = FUNCTIONS["moveaxis"](x, k, 0)
    if mask.size > x.shape[k]:
        raise ShapeError(f"{here()}: compress: {mask.size} truth values for axis {k} of {describe(x)}")
    place, filled = _place(cast(mask, bool), count)
    found = _packed(sliced(chosen, 0, range(mask.size)), place, count)
    return FUNCTIONS["moveaxis"](_filled(found, filled, fill_value), 0, k)


@function("extract")
def extract(condition: ArrayLike, arr: ArrayLike, *, size: int | None = None, fill_value: ArrayLike = 0) -> Array:
    """The elements of the flattened ``arr`` where ``condition``, flattened, holds; a traced one as in `compress`."""
    if _sized("extract", [condition], size) is None:
        return take(arr, np.flatnonzero(np.asarray(_value(condition), bool)), None)
    return compress(FUNCTIONS["ravel"](as_node(condition)), arr, size=size, fill_value=fill_value)


# -- elements as sets -------------------------------------------------------------------------------------------------


def _sorted_line(x: Node, equal_nan: bool = True) -> tuple[Node, Node, Node]:
    """The flattened elements in order, which of them are the first of equal ones, and where they stood."""
    line = reshaped(x, (x.size,))
    order = argsort(line)
    line = take(line, order)
    before, after = sliced(line, 0, range(max(x.size - 1, 0))), sliced(line, 0, range(min(1, x.size), x.size))
    new = after != before
    if line.aval.is_float and equal_nan:
        new = new & ~((after != after) & (before != before))
    return line, joined([full((min(1, x.size),), True, bool), new], 0), order


def _unique(x: Node, size: int, fill_value: Any, equal_nan: bool = True) -> tuple[Node, Node, Node, Node]:
    """Values, the first positions, the inverse and the counts."""
    line, first, order = _sorted_line(x, equal_nan)
    place, filled = _place(first, size)
    values = _packed(line, place, size)
    fill = fill_value if fill_value is not None else line[0] if x.size else 0
    at = _packed(order, place, size)
    group = FUNCTIONS["cumsum"](first) - 1
    inverse = OPS["scatter"].make((full((x.size,), 0, np.int64), group, order), axes=(0,), how="set")
    spare = _choose(group < size, group, size)
    ones = full((x.size,), 1, np.int64)
    counts = OPS["scatter"].make((full((size + 1,), 0, np.int64), ones, spare), axes=(0,), how="add")
    at = _filled(at, filled, order[0] if x.size else 0)
    return _filled(values, filled, fill), at, reshaped(inverse, x.shape), sliced(counts, 0, range(size))


@function("unique")
def unique(
    ar: ArrayLike, return_index: Any = False, return_inverse: Any = False, return_counts: Any = False,
    axis: int | None = None, *, equal_nan: Any = True, sorted: Any = True, size: int | None = None,
    fill_value: Any = None,
) -> Any:  # fmt: skip
    """The different elements, in order, with where each stood first, which one each element is, and how many are equal.

    In a trace the first ``size`` of them; where there are fewer stands ``fill_value``, by default the smallest element.
    """
    count = _sized("unique", [ar], size)
    if count is None:
        found: Any = np.unique(_value(ar), return_index, return_inverse, return_counts, axis, equal_nan=equal_nan)
        return tuple(map(as_node, found)) if isinstance(found, tuple) else as_node(found)
    if axis is not None:
        raise TraceError(
            f"{here()}: unique: of traced values only single elements are compared, so axis must be None, got {axis!r}"
        )
    values, *rest = _unique(as_node(ar), count, fill_value, bool(equal_nan))
    wanted = [r for r, asked in zip(rest, (return_index, return_inverse, return_counts), strict=True) if asked]
    return (values, *wanted) if wanted else values


@function("unique_values")
def unique_values(x: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The different elements; in a trace the first ``size`` of them, see `unique`.  NaN is no element's equal."""
    count = _sized("unique_values", [x], size)
    if count is None:
        return as_node(np.unique_values(_value(x)))
    return _unique(as_node(x), count, fill_value, False)[0]


@function("unique_counts")
def unique_counts(x: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Any:
    """(values, counts): the different elements and how often each occurs; in a trace as in `unique_values`."""
    count = _sized("unique_counts", [x], size)
    if count is None:
        return _named("unique_counts", *map(as_node, np.unique_counts(_value(x))))
    values, _, _, counts = _unique(as_node(x), count, fill_value, False)
    return _named("unique_counts", values, counts)


@function("unique_inverse")
def unique_inverse(x: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Any:
    """(values, inverse_indices): the different elements, and which one each element is; as in `unique_values`."""
    count = _sized("unique_inverse", [x], size)
    if count is None:
        return _named("unique_inverse", *map(as_node, np.unique_inverse(_value(x))))
    values, _, inverse, _ = _unique(as_node(x), count, fill_value, False)
    return _named("unique_inverse", values, inverse)


@function("unique_all")
def unique_all(x: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Any:
    """(values, indices, inverse_indices, counts) of the different elements; in a trace as in `unique_values`."""
    count = _sized("unique_all", [x], size)
    if count is None:
        return _named("unique_all", *map(as_node, np.unique_all(_value(x))))
    return _named("unique_all", *_unique(as_node(x), count, fill_value, False))


def _named(name: str, *parts: Node) -> Any:
    """The results under the names that NumPy gives them."""
    return type(getattr(np, name)(np.zeros(1)))(*parts)


@function("isin")
def isin(
    element: ArrayLike, test_elements: ArrayLike, assume_unique: Any = False, invert: Any = False, *, kind: Any = None
) -> Array:
    """Whether each element is one of ``test_elements``, or with ``invert`` none of them."""
    if kind not in (None, "sort", "table"):
        raise ValueError(f"{here()}: isin: kind must be None, 'sort' or 'table', got {kind!r}")
    x, among = as_node(element), as_node(test_elements)
    found = _is_among(x, reshaped(among, (among.size,)))
    return ~found if invert else found


def _is_among(x: Node, line: Node) -> Node:
    if not line.size:
        return full(x.shape, False, bool)
    dtype = FUNCTIONS["result_type"](x, line)
    ordered, sought = sort(cast(line, dtype)), cast(x, dtype)
    at = FUNCTIONS["clip"](searchsorted(ordered, sought), 0, line.size - 1)
    return take(ordered, at) == sought


def _pair(name: str, ar1: ArrayLike, ar2: ArrayLike, size: Any) -> tuple[Node, Node, int | None]:
    """Both flattened, in their common dtype."""
    count = _sized(name, [ar1, ar2], size)
    x, y = as_node(ar1), as_node(ar2)
    dtype = FUNCTIONS["result_type"](x, y)
    return cast(reshaped(x, (x.size,)), dtype), cast(reshaped(y, (y.size,)), dtype), count


def _of_known(name: str, ar1: ArrayLike, ar2: ArrayLike, *rest: Any) -> Any:
    found: Any = getattr(np, name)(_value(ar1), _value(ar2), *rest)
    return tuple(map(as_node, found)) if isinstance(found, tuple) else as_node(found)


def _chosen_first(line: Node, mask: Node, size: int, fill_value: Any) -> Node:
    """Elements of a sorted line where the mask holds; the first of them stands where there are fewer."""
    place, filled = _place(mask, size)
    values = _packed(line, place, size)
    return _filled(values, filled, fill_value if fill_value is not None else values[0] if size else 0)


@function("intersect1d")
def intersect1d(
    ar1: ArrayLike, ar2: ArrayLike, assume_unique: Any = False, return_indices: Any = False, *,
    size: int | None = None, fill_value: Any = None,
) -> Any:  # fmt: skip
    """The elements of both, in order; in a trace the first ``size`` of them, see `unique`."""
    x, y, count = _pair("intersect1d", ar1, ar2, size)
    if count is None:
        return _of_known("intersect1d", ar1, ar2, assume_unique, return_indices)
    line, first, order = _sorted_line(x)
    mask = first & _is_among(line, y)
    values = _chosen_first(line, mask, count, fill_value)
    if not return_indices:
        return values
    mine = _chosen_first(order, mask, count, None)
    there, _, theirs = _sorted_line(y)
    at = FUNCTIONS["clip"](searchsorted(there, _chosen_first(line, mask, count, None)), 0, max(y.size - 1, 0))
    return values, mine, take(theirs, at) if y.size else at


@function("union1d")
def union1d(ar1: ArrayLike, ar2: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The elements of either, in order; in a trace the first ``size`` of them, see `unique`."""
    x, y, count = _pair("union1d", ar1, ar2, size)
    if count is None:
        return _of_known("union1d", ar1, ar2)
    return _unique(joined([x, y], 0), count, fill_value)[0]


@function("setdiff1d")
def setdiff1d(
    ar1: ArrayLike, ar2: ArrayLike, assume_unique: Any = False, *, size: int | None = None, fill_value: Any = None
) -> Array:
    """The elements of ``ar1`` that are none of ``ar2``, in order; in a trace the first ``size``, see `unique`."""
    x, y, count = _pair("setdiff1d", ar1, ar2, size)
    if count is None:
        return _of_known("setdiff1d", ar1, ar2, assume_unique)
    line, first, _ = _sorted_line(x)
    return _chosen_first(line, first & ~_is_among(line, y), count, fill_value)


@function("setxor1d")
def setxor1d(
    ar1: ArrayLike, ar2: ArrayLike, assume_unique: Any = False, *, size: int | None = None, fill_value: Any = None
) -> Array:
    """The elements of just one of both, in order; in a trace the first ``size`` of them, see `unique`."""
    x, y, count = _pair("setxor1d", ar1, ar2, size)
    if count is None:
        return _of_known("setxor1d", ar1, ar2, assume_unique)
    line, first, _ = _sorted_line(joined([x, y], 0))
    return _chosen_first(line, first & (_is_among(line, x) != _is_among(line, y)), count, fill_value)
