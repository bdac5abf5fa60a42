"""Reductions and running reductions with NumPy's arguments and NumPy's result dtypes.

Enters: an array, ``axis`` (None, int, tuple), ``keepdims``, ``dtype``, ``where``, ``initial``.  Leaves: reduce and
prefix nodes, whose axes vanish; keepdims is a reshape.  Invariant: integer sums and products are 64-bit, means of
integers are float64, float32 stays float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.aval import NARROW, Aval, Shape, canonical_dtype, computed_in, is_float
from gradc.aval import promoted as joint_dtype
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.axes import axes_of, axis_of
from gradc.numpy.public import Array, ArrayLike, Axes, composite, function, in_float32
from gradc.numpy.shapes import broadcast_to, reshaped, sliced
from gradc.ops.elementwise import cast, loop_dtypes
from gradc.ops.leaves import full
from gradc.ops.record import Kind
from gradc.ops.reductions import kept_shape

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "cumprod", "cumsum",
    "cumulative_prod", "cumulative_sum", "logsumexp", "max", "mean", "min", "nanmax", "nanmean", "nanmin", "nanprod",
    "nansum", "prod", "ptp", "std", "sum", "trapezoid", "var",
]  # fmt: skip

_where = FUNCTIONS["where"]


# -- building blocks over Nodes ---------------------------------------------------------------------------------------


def reduced(name: str, x: Node, axes: Shape, keepdims: Any = False, **attrs: Any) -> Node:
    """The reduce node ``name`` over ``axes``; with ``keepdims`` they stay with length 1."""
    result = OPS[name].make((x,), axes=tuple(sorted(axes)), **attrs)
    return kept(result, x.shape, axes) if keepdims else result


def kept(result: Node, shape: Shape, axes: Shape) -> Node:
    """A reduced value with its axes back, of length 1."""
    return reshaped(result, [1 if k in axes else n for k, n in enumerate(shape)])


def accumulated(x: Node, dtype: Any = None) -> Node:
    """``x`` in the dtype in which NumPy sums and multiplies it: booleans and small integers become 64-bit."""
    if dtype is not None:
        return cast(x, dtype)
    if x.dtype.kind in "bi" and x.dtype.itemsize < 8:
        return cast(x, np.int64)
    return cast(x, np.uint64) if x.dtype.kind == "u" else cast(x, x.dtype)


def inexact(x: Node) -> Node:
    """``x`` in the floating dtype that NumPy's square root gives it."""
    return cast(x, loop_dtypes("sqrt", [Aval((), x.dtype)])[-1])


def _selected(x: Node, where: Any, identity: Any, initial: Any = None) -> Node:
    """``x`` with the identity of the reduction where the mask ``where`` does not hold."""
    if where is None or where is True:
        return x
    if identity is None and initial is None:
        raise ShapeError(f"{here()}: a reduction without identity needs initial= together with where=")
    filler = identity if initial is None else initial
    return _where(_mask(where, x), x, cast(as_node(filler), x.dtype))


def _mask(where: Any, x: Node) -> Node:
    """``where=`` as a mask of the elements of ``x``; ShapeError if it would make more of them."""
    mask = as_node(True if where is None else where)
    if mask.dtype != bool:
        raise DTypeError(f"{here()}: where= must be boolean, got {describe(mask)}; write where=(mask != 0)")
    one_by_one = zip(mask.shape[::-1], x.shape[::-1], strict=False)
    if mask.ndim > x.ndim or [m for m, n in one_by_one if m not in (1, n)]:
        raise ShapeError(f"{here()}: where= of shape {mask.shape} does not broadcast to the shape of {describe(x)}")
    return broadcast_to(mask, x.shape)


# -- sums and products ------------------------------------------------------------------------------------------------


@function("sum")
def sum(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, initial: Any = None, where: Any = None
) -> Array:
    """Sum over ``axis``; booleans and integers are summed in 64 bits, ``dtype`` says otherwise."""
    x = accumulated(as_node(a), dtype)
    if x.dtype == bool:
        found = any(x, axis, keepdims=keepdims, where=where)
        return found if initial is None else found | cast(as_node(initial), bool)
    result = reduced("sum", _selected(x, where, 0), axes_of(axis, x), keepdims)
    return result if initial is None else result + cast(as_node(initial), result.dtype)


@function("prod")
def prod(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, initial: Any = None, where: Any = None
) -> Array:
    """Product over ``axis``; booleans and integers are multiplied in 64 bits, ``dtype`` says otherwise."""
    x = accumulated(as_node(a), dtype)
    if x.dtype == bool:
        found = all(x, axis, keepdims=keepdims, where=where)
        return found if initial is None else found & cast(as_node(initial), bool)
    result = reduced("prod", _selected(x, where, 1), axes_of(axis, x), keepdims)
    return result if initial is None else result * cast(as_node(initial), result.dtype)


@function("count_nonzero")
def count_nonzero(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False) -> Array:
    """The number of elements that are not zero, int64."""
    x = as_node(a)
    return reduced("sum", cast(cast(x, bool), np.int64), axes_of(axis, x), keepdims)


# -- logic ------------------------------------------------------------------------------------------------------------


@function("any", "logical_or.reduce")
def any(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, where: Any = None) -> Array:
    """Whether an element is not zero (NaN is not)."""
    x = _selected(cast(as_node(a), bool), where, False)
    return reduced("any", x, axes_of(axis, x), keepdims)


@function("all", "logical_and.reduce")
def all(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, where: Any = None) -> Array:
    """Whether no element is zero."""
    x = _selected(cast(as_node(a), bool), where, True)
    return reduced("all", x, axes_of(axis, x), keepdims)


# -- extrema ----------------------------------------------------------------------------------------------------------


@function("max", "amax")
def max(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, initial: Any = None, where: Any = None) -> Array:
    """The largest element over ``axis``; NaN if there is one; ShapeError for no elements and no ``initial``."""
    return _extremum("max", "maximum", a, axis, keepdims, initial, where)


@function("min", "amin")
def min(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, initial: Any = None, where: Any = None) -> Array:
    """The smallest element over ``axis``; NaN if there is one; ShapeError for no elements and no ``initial``."""
    return _extremum("min", "minimum", a, axis, keepdims, initial, where)


amax, amin = max, min


def _extremum(name: str, pairwise: str, a: ArrayLike, axis: Axes, keepdims: Any, initial: Any, where: Any) -> Node:
    x = as_node(a)
    axes = axes_of(axis, x)
    x = _selected(cast(x, x.dtype), where, None, initial)
    shape = kept_shape(x.shape, axes)
    if math.prod(x.shape[k] for k in axes) == 0:
        if initial is None and 0 not in shape:
            _refuse_empty(f"zero-size array to reduction operation {pairwise} which has no identity", name, as_node(a))
        filler = 0 if initial is None else initial
        result = broadcast_to(cast(as_node(filler), x.dtype), shape)
    else:
        result = OPS[name].make((x,), axes=tuple(sorted(axes)))
        if initial is not None:
            result = FUNCTIONS[pairwise](result, cast(as_node(initial), x.dtype))
    return kept(result, x.shape, axes) if keepdims else result


def _refuse_empty(text: str, name: str, x: Node) -> None:
    raise ShapeError(f"{here()}: {text} ({name} of {describe(x)}); give initial= or check the size before")


@function("argmax")
def argmax(a: ArrayLike, axis: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the maximum along ``axis`` (None: when flattened), int64; NaN counts as largest."""
    return _position("argmax", a, axis, keepdims)


@function("argmin")
def argmin(a: ArrayLike, axis: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the minimum along ``axis`` (None: when flattened), int64; NaN counts as smallest."""
    return _position("argmin", a, axis, keepdims)


def _position(name: str, a: ArrayLike, axis: Any, keepdims: Any) -> Node:
    x = as_node(a)
    line, k = (x, axis_of(axis, x)) if axis is not None else (reshaped(x, (x.size,)), 0)
    if line.shape[k] == 0:
        _refuse_empty(f"attempt to get {name} of an empty sequence", name, x)
    result = OPS[name].make((line,), axes=(k,))
    if not keepdims:
        return result
    return kept(result, x.shape, tuple(range(x.ndim)) if axis is None else (k,))


@function("ptp")
def ptp(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False) -> Array:
    """Largest minus smallest element over ``axis``."""
    x = as_node(a)
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


# -- moments ----------------------------------------------------------------------------------------------------------


def _count(x: Node, axes: Shape) -> int:
    return math.prod(x.shape[k] for k in axes)


def _averaged(x: Node, dtype: Any) -> Node:
    """``x`` in the dtype in which NumPy averages: float64 for booleans and integers, float32 for narrow floats."""
    if dtype is not None:
        target = canonical_dtype(dtype)
    else:
        target = computed_in(x.dtype) if x.aval.is_float else np.dtype(np.float64)
    if not is_float(target):
        raise DTypeError(f"{here()}: a variance needs a floating dtype, got dtype={target}")
    return cast(x, target)


def _as_given(result: Node, given: Node, dtype: Any) -> Node:
    """The average of narrow floats, rounded to their dtype unless another one was asked for."""
    return cast(result, given.dtype) if dtype is None and given.dtype in NARROW else result


@function("mean")
def mean(a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, where: Any = None) -> Array:
    """Arithmetic mean over ``axis``; integers are averaged in float64; NaN for no elements.

    With ``dtype`` an integer the elements are converted before they are added, and the quotient after, as in NumPy.
    """
    given = as_node(a)
    if dtype is not None and not is_float(canonical_dtype(dtype)):
        total = sum(cast(given, dtype), axis, dtype, keepdims=keepdims, where=where)
        mask = broadcast_to(as_node(np.True_), given.shape) if where is None or where is True else _mask(where, given)
        return cast(FUNCTIONS["divide"](total, sum(mask, axis, keepdims=keepdims)), dtype)
    x = _averaged(given, dtype)
    axes = axes_of(axis, x)
    if where is None or where is True:
        return _as_given(_mean(x, axes=axes, keepdims=keepdims), given, dtype)
    mask = _mask(where, x)
    total, count = sum(x, axes, keepdims=keepdims, where=mask), sum(mask, axes, keepdims=keepdims)
    return _as_given(total / cast(count, x.dtype), given, dtype)


@composite("mean")
def _mean(x: Node, *, axes: Shape, keepdims: Any) -> Node:
    return reduced("sum", x, axes, keepdims) / float(_count(x, axes))


@function("var")
def var(
    a: ArrayLike,
    axis: Axes = None,
    dtype: Any = None,
    *,
    ddof: float = 0,
    keepdims: Any = False,
    where: Any = None,
    mean: ArrayLike = None,
    correction: Any = None,
) -> Array:
    """Variance over ``axis``: the mean squared deviation, divided by n − ``ddof`` (alias ``correction``).

    Of the elements that ``where`` selects, if given; from ``mean``, which has the axes with length 1, if given.
    """
    given = as_node(a)
    x = _averaged(given, dtype)
    axes, freedom = axes_of(axis, x), _freedom(ddof, correction)
    if mean is None and (where is None or where is True):
        result = _var(x, axes=axes, ddof=freedom, keepdims=keepdims)
    else:
        result = _var_around(x, mean, axes, freedom, keepdims, where)
    return _as_given(result, given, dtype)


def _var_around(x: Node, centre: ArrayLike, axes: Shape, ddof: float, keepdims: Any, where: Any) -> Node:
    """The variance of the elements that ``where`` selects, from ``centre`` or their mean."""
    mask = _mask(where, x)
    count = cast(sum(mask, axes, keepdims=True), x.dtype)
    middle = sum(x, axes, keepdims=True, where=mask) / count if centre is None else as_node(centre)
    deviation = _where(mask, x - middle, 0)
    if deviation.shape != x.shape:
        raise ShapeError(f"{here()}: var: mean of shape {middle.shape} does not fit {describe(x)} with its axes kept")
    result = sum(deviation * deviation, axes, keepdims=True) / FUNCTIONS["maximum"](count - ddof, 0)
    return result if keepdims else FUNCTIONS["squeeze"](result, axes)


@composite("var")
def _var(x: Node, *, axes: Shape, ddof: float, keepdims: Any) -> Node:
    n = _count(x, axes)
    deviation = x - reduced("sum", x, axes, True) / float(n)
    freedom = n - ddof
    return reduced("sum", deviation * deviation, axes, keepdims) / float(freedom if freedom > 0 else 0)


@function("std", singular="0 where all elements are equal")
def std(
    a: ArrayLike,
    axis: Axes = None,
    dtype: Any = None,
    *,
    ddof: float = 0,
    keepdims: Any = False,
    where: Any = None,
    mean: ArrayLike = None,
    correction: Any = None,
) -> Array:
    """Standard deviation over ``axis``: the square root of `var`; derivative 0 where all elements are equal."""
    given = as_node(a)
    x = _averaged(given, dtype)
    axes, freedom = axes_of(axis, x), _freedom(ddof, correction)
    if mean is None and (where is None or where is True):
        result = _std(x, axes=axes, ddof=freedom, keepdims=keepdims)
    else:
        result = _root(_var_around(x, mean, axes, freedom, keepdims, where))
    return _as_given(result, given, dtype)


@composite("std")
def _std(x: Node, *, axes: Shape, ddof: float, keepdims: Any) -> Node:
    return _root(_var(x, axes=axes, ddof=ddof, keepdims=keepdims))


def _root(variance: Node) -> Node:
    return _where(variance == 0, 0, FUNCTIONS["sqrt"](_where(variance == 0, 1, variance)))


def _freedom(ddof: float, correction: Any) -> float:
    if correction is None:
        return ddof
    if ddof:
        raise TypeError(f"{here()}: ddof and correction are two names of one argument; give one")
    return float(correction)


@function("average")
def average(
    a: ArrayLike, axis: Axes = None, weights: ArrayLike = None, returned: Any = False, *, keepdims: Any = False
) -> Array:
    """Mean over ``axis`` with ``weights`` of the shape of ``a`` or of the axis; with ``returned`` also their sum."""
    x = as_node(a)
    if weights is None:
        result = mean(x, axis, keepdims=keepdims)
        total = full(result.shape, x.size // result.size if result.size else 0, result.dtype)
    else:
        w = _fitted_weights(_weights_of_a_mean(as_node(weights), x, axis), x, axis)
        dtype = joint_dtype(x.dtype, w.dtype, *(() if x.aval.is_float else (np.float64,)))
        x, w = cast(x, dtype), cast(w, dtype)
        total = sum(w, axis, keepdims=keepdims)
        result = sum(x * w, axis, keepdims=keepdims) / total
    return (result, total) if returned else result


def _weights_of_a_mean(w: Node, x: Node, axis: Axes) -> Node:
    """``w``; ZeroDivisionError, as in NumPy, if it is known and there is a mean whose weights sum up to 0."""
    if w.op.kind is Kind.CONSTANT and x.size:
        value = w.attrs["value"]
        along = axes_of(axis, x) if w.shape == x.shape else None
        if np.any(np.sum(value, along) == 0):
            raise ZeroDivisionError(f"{here()}: average: weights sum up to 0, so that there is no mean")
    return w


def _fitted_weights(w: Node, x: Node, axis: Axes) -> Node:
    if w.shape == x.shape:
        return w
    axes = axes_of(axis, x) if axis is not None else ()
    if not axes or w.shape != tuple(x.shape[k] for k in axes):
        raise ShapeError(f"{here()}: average: weights of shape {w.shape} do not fit {describe(x)} along axis {axis!r}")
    return OPS["broadcast"].make((w,), shape=x.shape, axes=axes)


@function("logsumexp")
def logsumexp(
    a: ArrayLike, axis: Axes = None, *, b: ArrayLike = None, keepdims: Any = False, return_sign: bool = False
) -> Array:
    """log Σ b·exp(a) over ``axis``, without overflow (SciPy's meaning); −inf for no elements.

    Weights may be negative: NaN where the sum is.  An element of weight 0 counts for nothing, an infinite one neither.
    With ``return_sign`` it is (log |Σ b·exp(a)|, the sign of that sum), the sign a number without derivative.
    """
    x = inexact(as_node(a))
    if b is None:
        total = reduced("logsumexp", x, axes_of(axis, x), keepdims)
        return (total, _where(total > -math.inf, 1.0, 0.0 * total)) if return_sign else total
    weights = cast(as_node(b), x.dtype)
    shape = np.broadcast_shapes(x.shape, weights.shape)
    x, weights = broadcast_to(x, shape), broadcast_to(weights, shape)
    axes = axes_of(axis, x)
    if not return_sign:
        return _weighted_logsumexp(x, weights, axes=axes, keepdims=keepdims)
    sign = OPS["stop_gradient"].make((_sign_of_sum(x, weights, axes=axes, keepdims=keepdims),))
    over = sign if keepdims else reshaped(sign, [1 if k in axes else n for k, n in enumerate(x.shape)])
    upright = weights * broadcast_to(_where(over < 0, -1.0, 1.0), x.shape)
    return _weighted_logsumexp(x, upright, axes=axes, keepdims=keepdims), sign


@in_float32
def _sign_of_sum(x: Node, weights: Node, *, axes: Shape, keepdims: Any) -> Node:
    total = FUNCTIONS["sign"](_scaled_sum(x, weights, axes)[0])
    return total if keepdims else reshaped(total, [n for k, n in enumerate(x.shape) if k not in axes])


@in_float32
def _weighted_logsumexp(x: Node, weights: Node, *, axes: Shape, keepdims: Any) -> Node:
    total, shift = _scaled_sum(x, weights, axes)
    value = FUNCTIONS["log"](total) + shift
    return value if keepdims else reshaped(value, [n for k, n in enumerate(x.shape) if k not in axes])


def _scaled_sum(x: Node, weights: Node, axes: Shape) -> tuple[Node, Node]:
    """Σ b·exp(a − s), and s, the largest element that counts: derivatives do not depend on it."""
    largest = max(x, axes, keepdims=True, initial=-math.inf, where=weights != 0)
    shift = OPS["stop_gradient"].make((_where(FUNCTIONS["isfinite"](largest), largest, 0),))
    term = OPS["strong_multiply"].make((weights, FUNCTIONS["exp"](x - shift)), left=True, right=False)
    return reduced("sum", term, axes, True), shift


# -- ignoring NaN -----------------------------------------------------------------------------------------------------


def _nan_replaced(x: Node, value: float) -> Node:
    return _where(x != x, value, x) if x.aval.is_float else x


@function("nansum")
def nansum(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, initial: Any = None, where: Any = None
) -> Array:
    """`sum`, NaN counted as 0."""
    x = _nan_replaced(as_node(a), 0)
    return sum(x, axis, dtype, keepdims=keepdims, initial=initial, where=where)


@function("nanprod")
def nanprod(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, initial: Any = None, where: Any = None
) -> Array:
    """`prod`, NaN counted as 1."""
    x = _nan_replaced(as_node(a), 1)
    return prod(x, axis, dtype, keepdims=keepdims, initial=initial, where=where)


@function("nanmean")
def nanmean(a: ArrayLike, axis: Axes = None, dtype: Any = None, *, keepdims: Any = False, where: Any = None) -> Array:
    """`mean` of the elements that are not NaN; NaN where there are none."""
    x = as_node(a)
    known = x == x
    return mean(x, axis, dtype, keepdims=keepdims, where=known & _mask(where, x))


@function("nanmax")
def nanmax(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, initial: Any = None, where: Any = None) -> Array:
    """`max` of the elements that are not NaN; NaN where there are none and no ``initial``."""
    return _nan_extremum(max, -math.inf, as_node(a), axis, keepdims, initial, where)


@function("nanmin")
def nanmin(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False, initial: Any = None, where: Any = None) -> Array:
    """`min` of the elements that are not NaN; NaN where there are none and no ``initial``."""
    return _nan_extremum(min, math.inf, as_node(a), axis, keepdims, initial, where)


def _nan_extremum(
    extremum: Any, identity: float, x: Node, axis: Axes, keepdims: Any, initial: Any, where: Any
) -> Node:  # fmt: skip
    found = extremum(_nan_replaced(x, identity), axis, keepdims=keepdims, initial=initial, where=where)
    if not x.aval.is_float or initial is not None:
        return found
    return _where(all(x != x, axis, keepdims=keepdims), math.nan, found)


# -- running ----------------------------------------------------------------------------------------------------------


@function("cumsum", "add.accumulate")
def cumsum(a: ArrayLike, axis: Any = None, dtype: Any = None) -> Array:
    """Running sum along ``axis`` (None: of the flattened array)."""
    return _running("cumsum", a, axis, dtype)


@function("cumprod", "multiply.accumulate")
def cumprod(a: ArrayLike, axis: Any = None, dtype: Any = None) -> Array:
    """Running product along ``axis`` (None: of the flattened array)."""
    return _running("cumprod", a, axis, dtype)


def _running(name: str, a: ArrayLike, axis: Any, dtype: Any) -> Node:
    x = accumulated(as_node(a), dtype)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    if x.dtype == bool:
        raise DTypeError(f"{here()}: {name} with dtype=bool is not supported; use logical reductions")
    return OPS[name].make((x,), axis=axis_of(axis, x), reverse=False)


@function("cumulative_sum")
def cumulative_sum(x: ArrayLike, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Array:
    """Running sum along ``axis`` (may be left out for a vector), with a leading 0 if ``include_initial``."""
    return _cumulative("cumsum", as_node(x), axis, dtype, 0 if include_initial else None)


@function("cumulative_prod")
def cumulative_prod(x: ArrayLike, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Array:
    """Running product along ``axis`` (may be left out for a vector), with a leading 1 if ``include_initial``."""
    return _cumulative("cumprod", as_node(x), axis, dtype, 1 if include_initial else None)


def _cumulative(name: str, x: Node, axis: Any, dtype: Any, initial: int | None) -> Node:
    if axis is None and x.ndim != 1:
        raise ShapeError(f"{here()}: axis must be given for the {x.ndim} dimensions of {describe(x)}")
    k = axis_of(0 if axis is None else axis, x)
    result = _running(name, x, k, dtype)
    if initial is None:
        return result
    first = full((*x.shape[:k], 1, *x.shape[k + 1 :]), initial, result.dtype)
    return OPS["concatenate"].make((first, result), axis=k)


@function("trapezoid")
def trapezoid(y: ArrayLike, x: ArrayLike = None, dx: ArrayLike = 1.0, axis: int = -1) -> Array:
    """∫ y dx along ``axis`` by the trapezoidal rule, at points ``x`` or a distance ``dx`` apart."""
    values = as_node(y)
    k = axis_of(axis, values)
    n = values.shape[k]
    width = as_node(dx)
    if x is not None:
        points = as_node(x)
        width = FUNCTIONS["diff"](points, axis=-1 if points.ndim == 1 else axis)
        if width.ndim == 1:
            width = reshaped(width, [width.size if a == k else 1 for a in range(values.ndim)])
    left, right = (sliced(values, k, range(n)[part]) for part in (slice(None, -1), slice(1, None)))
    return sum(width * (right + left) / 2.0, axis)
