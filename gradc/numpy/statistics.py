"""Order statistics and moments of several variables: medians, quantiles, what ignores NaN, covariances.

Enters: arrays, axes, quantiles that may be traced.  Leaves: sorts, slices at known positions, gathers at computed ones.
Invariant: positions and weights of neighbours are NumPy's, method by method (Hyndman & Fan, Sample quantiles in
statistical packages, 1996).  Start reading at `quantile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.aval import Shape, computed_in, promoted
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, Node, as_node, constant, describe, dsl, here, static_int
from gradc.numpy.axes import axes_of
from gradc.numpy.indexing import sort, take, take_along_axis
from gradc.numpy.public import Array, ArrayLike, Axes, function
from gradc.numpy.reductions import all as all_of
from gradc.numpy.reductions import argmax, argmin, cumprod, cumsum, mean, std, sum, var
from gradc.numpy.shapes import diag, permuted, reshaped, sliced
from gradc.ops.elementwise import cast

__all__ = [
    "corrcoef", "cov", "median", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmedian", "nanpercentile",
    "nanquantile", "nanstd", "nanvar", "percentile", "quantile",
]  # fmt: skip

_where = FUNCTIONS["where"]
_TIES = "elements that tie keep their order: the one at the position gets it all"


# -- lines of elements ------------------------------------------------------------------------------------------------


def _in_front(x: Node, axes: Shape) -> Node:
    """``x`` with ``axes`` as one axis, the first."""
    rest = [k for k in range(x.ndim) if k not in axes]
    moved = permuted(x, (*axes, *rest))
    return reshaped(moved, (math.prod(x.shape[k] for k in axes), *[x.shape[k] for k in rest]))


def _with_axes(found: Node, lead: int, x: Node, axes: Shape, keepdims: Any) -> Node:
    """A result of shape lead + rest, with ``axes`` of length 1 among the rest if ``keepdims``."""
    if not keepdims:
        return found
    return reshaped(found, (*found.shape[:lead], *[1 if k in axes else n for k, n in enumerate(x.shape)]))


def _ends_in_nan(ordered: Node) -> Node:
    """For each line, sorted along axis 0, whether there is a NaN, and where: the last element."""
    return reshaped(sliced(ordered, 0, range(ordered.shape[0])[-1:]), ordered.shape[1:])


# -- medians ----------------------------------------------------------------------------------------------------------


@function("median", singular=_TIES)
def median(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False) -> Array:
    """The middle of the sorted elements over ``axis``, or the mean of the two middle ones; NaN if there is a NaN."""
    x = as_node(a)
    axes = axes_of(axis, x)
    ordered = sort(_in_front(x, axes), 0)
    n = ordered.shape[0]
    if n == 0:
        return mean(x, axis=axis, keepdims=keepdims)
    middle = mean(sliced(ordered, 0, range((n - 1) // 2, n // 2 + 1)), axis=0)
    if x.aval.is_float:
        last = _ends_in_nan(ordered)
        middle = _where(last != last, last, middle)
    return _with_axes(middle, 0, x, axes, keepdims)


@function("nanmedian", singular=_TIES)
def nanmedian(a: ArrayLike, axis: Axes = None, *, keepdims: Any = False) -> Array:
    """`median` of the elements that are not NaN; NaN where there are none."""
    x = as_node(a)
    if not x.aval.is_float or not x.size:
        return median(x, axis, keepdims=keepdims) if x.size else FUNCTIONS["nanmean"](x, axis, keepdims=keepdims)
    axes = axes_of(axis, x)
    ordered = sort(_in_front(x, axes), 0)
    count = sum(ordered == ordered, 0)
    at = FUNCTIONS["maximum"](dsl.stack([(count - 1) // 2, count // 2]), 0)
    low, high = dsl.unstack(cast(take_along_axis(ordered, at, 0), computed_in(x.dtype)))
    middle = cast(_where(count % 2 == 1, low, (low + high) / 2), x.dtype)
    return _with_axes(_where(count == 0, math.nan, middle), 0, x, axes, keepdims)


# -- quantiles --------------------------------------------------------------------------------------------------------

Index = Callable[[Any, Any], Any]


def _between(alpha: float, beta: float) -> Index:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


def _whole(index: Any) -> Any:
    return index.astype(np.int64)


def _inverted_cdf(n: Any, q: Any) -> Any:
    at = n * q - 1
    below = np.floor(at)
    return np.maximum(_whole(np.where(at == below, below, below + 1)), 0)


def _closest_observation(n: Any, q: Any) -> Any:
    at = n * q - 1 - 0.5
    below = np.floor(at)
    return np.maximum(_whole(np.where((at == below) & (below % 2 == 1), below, below + 1)), 0)


#: method -> the position of a quantile among n sorted elements, counted from 0: whole, or between two
_POSITION: dict[str, Index] = {
    "inverted_cdf": _inverted_cdf,
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "closest_observation": _closest_observation,
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "linear": lambda n, q: (n - 1) * q,
    "median_unbiased": _between(1 / 3.0, 1 / 3.0),
    "normal_unbiased": _between(3 / 8.0, 3 / 8.0),
    "lower": lambda n, q: _whole(np.floor((n - 1) * q)),
    "higher": lambda n, q: _whole(np.ceil((n - 1) * q)),
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
    "nearest": lambda n, q: _whole(np.around((n - 1) * q)),
}
#: method -> the weight of the upper neighbour, of the distance to the lower one and the position
_WEIGHT: dict[str, Index] = {
    "averaged_inverted_cdf": lambda gamma, at: np.where(gamma == 0, 0.5, 1.0),
    "midpoint": lambda gamma, at: np.where(at % 1 == 0, 0.0, 0.5),
}


@function("quantile", singular=_TIES)
def quantile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: Any = False,
    weights: ArrayLike = None,
) -> Array:  # fmt: skip
    """The quantiles ``q`` in [0, 1] over ``axis``, their axes first: by any of NumPy's methods, or of ``weights`` >= 0.

    ``q`` may be traced: NaN where it lies outside.  NaN where there is a NaN.
    """
    return _quantile("quantile", a, q, 1, axis, method, keepdims, weights, False)


@function("percentile", singular=_TIES)
def percentile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: Any = False,
    weights: ArrayLike = None,
) -> Array:  # fmt: skip
    """`quantile` at q/100."""
    return _quantile("percentile", a, q, 100, axis, method, keepdims, weights, False)


@function("nanquantile", singular=_TIES)
def nanquantile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: Any = False,
    weights: ArrayLike = None,
) -> Array:  # fmt: skip
    """`quantile` of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanquantile", a, q, 1, axis, method, keepdims, weights, True)


@function("nanpercentile", singular=_TIES)
def nanpercentile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: Any = False,
    weights: ArrayLike = None,
) -> Array:  # fmt: skip
    """`percentile` of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanpercentile", a, q, 100, axis, method, keepdims, weights, True)


def _quantile(
    name: str, a: ArrayLike, q: ArrayLike, whole: int, axis: Axes, method: str, keepdims: Any, weights: Any, skip: bool
) -> Node:
    x, axes = as_node(a), axes_of(axis, as_node(a))
    if method not in _POSITION:
        raise ValueError(f"{here()}: {name}: method must be one of {', '.join(_POSITION)}, got {method!r:.60}")
    if skip and not x.size:
        return FUNCTIONS["nanmean"](x, axis, keepdims=keepdims)
    parts = _parts(name, q, whole, method)
    line = _in_front(x, axes)
    if line.shape[0] == 0:
        raise ShapeError(f"{here()}: {name}: no elements along axis {axis} of {describe(x)}")
    skip = skip and x.aval.is_float
    if weights is not None:
        w = _weights_in_front(name, as_node(weights), x, axes, axis, method)
        found = _weighted(line, w, as_node(parts), skip)
    else:
        ordered = sort(line, 0)
        found = _among_some(ordered, as_node(parts), method) if skip else _among_all(name, ordered, parts, method)
    return _with_axes(found, np.ndim(parts) if not isinstance(parts, Node) else parts.ndim, x, axes, keepdims)


def _parts(name: str, q: ArrayLike, whole: int, method: str) -> Any:
    """Quantiles as an array or a number that keeps NumPy's dtype, or a Node; known ones are checked.

    Whole numbers stay so for the linear method, whose positions are elements then; for others they are floats, for a
    position that is whole by its dtype is final.
    """
    node = as_node(q)
    kept = node.dtype if node.aval.is_float else np.dtype(np.int64 if method == "linear" else np.float64)
    if node.ndim > 2:
        raise ShapeError(f"{here()}: {name}: q must have at most 2 axes, got {describe(node)}")
    if node.op.name != "constant":
        return cast(node, kept) if whole == 1 else node / whole
    value = node.attrs["value"].astype(kept)
    value = value if whole == 1 else value / whole
    if value.size and not (value.min() >= 0 and value.max() <= 1):
        raise ValueError(f"{here()}: {name}: q must be in the range [0, {whole}]")
    return value[()].item() if node.aval.weak else value


def _among_all(name: str, ordered: Node, parts: Any, method: str) -> Node:
    """Of elements sorted along axis 0, none of them left out."""
    n = ordered.shape[0]
    at = _position(method, n, parts)
    if at.dtype.kind == "i":
        found = take(ordered, np.minimum(at, n - 1), 0)
    else:
        if ordered.dtype == bool:
            raise DTypeError(
                f"{here()}: {name}: method={method!r} interpolates, which booleans cannot; convert with .astype(float)"
            )
        below, weight = _whole(np.floor(at)), _weight(method, at)
        low, high = np.clip(below, 0, n - 1), np.where(at < 0, 0, np.clip(below + 1, 0, n - 1))
        weight = weight.item() if isinstance(parts, float) else _shown_along(weight, ordered.ndim - 1)
        found = _interpolated(take(ordered, low, 0), take(ordered, high, 0), weight)
    if isinstance(parts, Node):
        inside = reshaped((parts >= 0) & (parts <= 1), (*parts.shape, *(1,) * (ordered.ndim - 1)))
        found = _where(inside, found, math.nan)
    if ordered.dtype.kind not in "iub":
        last = _ends_in_nan(ordered)
        found = _where(last != last, last, found)
    return found


def _position(method: str, n: Any, parts: Any) -> Any:
    """Known ones as arrays."""
    if isinstance(parts, Node):
        return _POSITION[method](n, parts)
    return np.asarray(_POSITION[method](n, np.asarray(parts)))


def _weight(method: str, at: Any) -> Any:
    """The weight of the upper neighbour, in the dtype of the position."""
    gamma = at - np.floor(at)
    return (_WEIGHT[method](gamma, at) if method in _WEIGHT else gamma).astype(at.dtype)


def _shown_along(weight: Any, count: int) -> Any:
    """``weight`` with ``count`` more axes of length 1."""
    return np.reshape(weight, (*weight.shape, *(1,) * count))


def _interpolated(low: Node, high: Node, weight: Any) -> Node:
    """From the nearer end, so that it is exact there."""
    gap = high - low
    near: Node = _where(weight >= 0.5, high - gap * (1 - weight), low + gap * weight)
    return near


def _among_some(ordered: Node, parts: Node, method: str) -> Node:
    """Of elements sorted along axis 0, those that are not NaN."""
    count = sum(ordered == ordered, 0)
    rest = ordered.ndim - 1
    q = reshaped(parts, (*parts.shape, *(1,) * rest))
    n = count if q.dtype.kind in "iu" else cast(count, q.dtype)
    at = _POSITION[method](n, q)
    top = FUNCTIONS["maximum"](count - 1, 0)
    if at.dtype.kind == "i":
        found = _picked(ordered, FUNCTIONS["minimum"](at, top), parts.shape)
    else:
        below, weight = _whole(np.floor(at)), _weight(method, at)
        low = FUNCTIONS["clip"](below, 0, top)
        high = _where(at < 0, 0, FUNCTIONS["clip"](below + 1, 0, top))
        weight = cast(weight, ordered.dtype) if parts.aval.weak else weight
        found = _interpolated(_picked(ordered, low, parts.shape), _picked(ordered, high, parts.shape), weight)
    found = _where((q >= 0) & (q <= 1), found, math.nan)
    return _where(count == 0, math.nan, found)


def _picked(ordered: Node, at: Node, lead: Shape) -> Node:
    """Elements of each line at positions of shape lead + rest."""
    flat = reshaped(at, (math.prod(lead), *ordered.shape[1:]))
    return reshaped(take_along_axis(ordered, flat, 0), (*lead, *ordered.shape[1:]))


# -- quantiles of weighted elements -----------------------------------------------------------------------------------


def _weights_in_front(name: str, w: Node, x: Node, axes: Shape, axis: Axes, method: str) -> Node:
    if method != "inverted_cdf":
        raise ValueError(f"{here()}: {name}: only method='inverted_cdf' takes weights, got {method!r}")
    whole = w.shape == x.shape
    if not whole and (axis is None or w.shape != tuple(x.shape[k] for k in axes)):
        raise ShapeError(f"{here()}: {name}: weights of shape {w.shape} do not fit {describe(x)} along axis {axis!r}")
    if w.op.name == "constant":
        _refuse_weights(name, w.attrs["value"], axes if whole else tuple(range(w.ndim)))
    if whole:
        return _in_front(w, axes)
    line = reshaped(w, (w.size, *(1,) * (x.ndim - len(axes))))
    return FUNCTIONS["broadcast_to"](line, _in_front(x, axes).shape)


def _refuse_weights(name: str, weights: np.ndarray[Any, Any], axes: Shape) -> None:
    """Raise where known weights are negative, not finite, or all 0 in one line along ``axes``."""
    if (weights < 0).any():
        raise ValueError(f"{here()}: {name}: weights must not be negative")
    if not (np.isfinite(weights).all() and weights.any(axes).all()):
        raise ValueError(f"{here()}: {name}: weights must be finite and not all 0 in any line of elements")


def _weighted(line: Node, weights: Node, parts: Node, skip: bool) -> Node:
    """The first element at which the share of the weights reaches q; weights of NaN count as 0 if they are skipped."""
    order = FUNCTIONS["argsort"](line, 0)
    ordered, w = take_along_axis(line, order, 0), take_along_axis(weights, order, 0)
    known = ordered == ordered
    share = cumsum(_where(known, w, 0) if skip else w, 0, np.float64)
    share = share / sliced(share, 0, range(share.shape[0])[-1:])
    share = cast(share, parts.dtype) if parts.aval.is_float else share
    share = _where(share == 0, -1, share)
    q = reshaped(parts, (*parts.shape, *(1,) * line.ndim))
    at = sum(share < q, parts.ndim)
    top = sum(known, 0) - 1 if skip else line.shape[0] - 1
    found = _picked(ordered, FUNCTIONS["maximum"](FUNCTIONS["minimum"](at, top), 0), parts.shape)
    if line.aval.is_float:
        last = _ends_in_nan(ordered)
        found = _where(all_of(~known, 0), math.nan, found) if skip else _where(last != last, last, found)
    return found


# -- ignoring NaN -----------------------------------------------------------------------------------------------------


def _known(x: Node, where: Any) -> Any:
    return where if not x.aval.is_float else (x == x) if where is None or where is True else (x == x) & where


@function("nanvar")
def nanvar(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, ddof: float = 0, keepdims: Any = False, where: Any = None,
    mean: ArrayLike = None, correction: Any = None,
) -> Array:  # fmt: skip
    """`var` of the elements that are not NaN; NaN where there are not more than ``ddof``."""
    x = as_node(a)
    known = _known(x, where)
    found = var(x, axis, dtype, ddof=ddof, keepdims=keepdims, where=known, mean=mean, correction=correction)
    return _with_freedom(found, x, known, axis, keepdims, correction if correction is not None else ddof)


@function("nanstd", singular="0 where all elements are equal")
def nanstd(
    a: ArrayLike, axis: Axes = None, dtype: Any = None, *, ddof: float = 0, keepdims: Any = False, where: Any = None,
    mean: ArrayLike = None, correction: Any = None,
) -> Array:  # fmt: skip
    """The square root of `nanvar`; derivative 0 where all elements are equal."""
    x = as_node(a)
    known = _known(x, where)
    found = std(x, axis, dtype, ddof=ddof, keepdims=keepdims, where=known, mean=mean, correction=correction)
    return _with_freedom(found, x, known, axis, keepdims, correction if correction is not None else ddof)


def _with_freedom(found: Node, x: Node, known: Any, axis: Axes, keepdims: Any, ddof: float) -> Node:
    if not x.aval.is_float:
        return found
    mask = FUNCTIONS["broadcast_to"](as_node(known), x.shape)
    return _where(sum(mask, axis, keepdims=keepdims) > ddof, found, math.nan)


@function("nanargmax")
def nanargmax(a: ArrayLike, axis: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the largest element that is not NaN, int64; −1 where all are NaN (NumPy raises)."""
    return _nan_position(argmax, -math.inf, as_node(a), axis, keepdims)


@function("nanargmin")
def nanargmin(a: ArrayLike, axis: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the smallest element that is not NaN, int64; −1 where all are NaN (NumPy raises)."""
    return _nan_position(argmin, math.inf, as_node(a), axis, keepdims)


def _nan_position(position: Any, least: float, x: Node, axis: Any, keepdims: Any) -> Node:
    if not x.aval.is_float:
        found: Node = position(x, axis, keepdims=keepdims)
        return found
    found = position(_where(x != x, least, x), axis, keepdims=keepdims)
    return _where(all_of(x != x, axis, keepdims=keepdims), -1, found)


@function("nancumsum")
def nancumsum(a: ArrayLike, axis: Any = None, dtype: Any = None) -> Array:
    """`cumsum`, NaN counted as 0."""
    x = as_node(a)
    return cumsum(_where(x != x, 0, x) if x.aval.is_float else x, axis, dtype)


@function("nancumprod")
def nancumprod(a: ArrayLike, axis: Any = None, dtype: Any = None) -> Array:
    """`cumprod`, NaN counted as 1."""
    x = as_node(a)
    return cumprod(_where(x != x, 1, x) if x.aval.is_float else x, axis, dtype)


# -- several variables ------------------------------------------------------------------------------------------------


@function("cov")
def cov(
    m: ArrayLike,
    y: ArrayLike = None,
    rowvar: Any = True,
    bias: Any = False,
    ddof: Any = None,
    fweights: ArrayLike = None,
    aweights: ArrayLike = None,
    *,
    dtype: Any = None,
) -> Array:
    """The covariances of variables, one a row (or column, without ``rowvar``), with those of ``y``; in float64.

    Divided by n − 1, or by n with ``bias``, or by n − ``ddof``; observations count ``fweights`` times, and weigh
    ``aweights``.
    """
    table = _variables(as_node(m), None if y is None else as_node(y), rowvar, dtype)
    if table is None:
        return constant(np.zeros((0, 0)))
    w, factor = _observation_weights(table, 1 - bool(bias) if ddof is None else static_int(ddof, "ddof"), fweights,
                                     aweights)  # fmt: skip
    if w is None:
        centre = mean(table, 1, keepdims=True)
        weighted = table - centre
        left = weighted
    else:
        centre = sum(table * w, 1, keepdims=True) / sum(w)
        left = table - centre
        weighted = left * w
    found = FUNCTIONS["matmul"](left, permuted(weighted, (1, 0)))
    return FUNCTIONS["squeeze"](found * cast(as_node(factor), found.dtype))


def _variables(m: Node, y: Node | None, rowvar: Any, dtype: Any) -> Node | None:
    """All variables as the rows of one matrix; None if there are none."""
    for given in (m, y):
        if given is not None and given.ndim > 2:
            raise ShapeError(f"{here()}: cov takes at most 2 axes, got {describe(given)}")
    given_dtypes = [v.dtype for v in (m, y) if v is not None]
    target = promoted(*given_dtypes, np.dtype(np.float64)) if dtype is None else dtype
    table = cast(FUNCTIONS["atleast_2d"](m), target)
    if not rowvar and m.ndim != 1:
        table = permuted(table, (1, 0))
    if table.shape[0] == 0:
        return None
    if y is None:
        return table
    more = cast(FUNCTIONS["atleast_2d"](y), target)
    if not rowvar and more.shape[0] != 1:
        more = permuted(more, (1, 0))
    return FUNCTIONS["concatenate"]([table, more], 0)


def _observation_weights(table: Node, ddof: int, fweights: Any, aweights: Any) -> tuple[Node | None, Any]:
    """The weight of each observation (None: one each), and what the sum of products is multiplied by."""
    count = table.shape[1]
    repeats, scale = (None if w is None else _as_weights(n, w, count) for n, w in (("fweights", fweights),
                                                                                   ("aweights", aweights)))  # fmt: skip
    given = [w for w in (repeats, scale) if w is not None]
    if not given:
        return None, np.true_divide(1, np.float64(max(count - ddof, 0)))
    w = given[0] if len(given) == 1 else given[0] * given[1]
    total = sum(w)
    freedom = total if ddof == 0 else total - ddof if scale is None else total - ddof * sum(w * scale) / total
    return w, 1 / _where(freedom <= 0, 0, freedom)


def _as_weights(name: str, weights: ArrayLike, count: int) -> Node:
    w = cast(as_node(weights), np.float64)
    if w.shape != (count,):
        raise ShapeError(f"{here()}: cov: {name} of shape {w.shape} for {count} observations")
    known = as_node(weights)
    value = known.attrs["value"] if known.op.name == "constant" else None
    if value is not None and ((value < 0).any() or (name == "fweights" and (value != np.around(value)).any())):
        raise ValueError(f"{here()}: cov: {name} must not be negative{', and whole' * (name == 'fweights')}")
    return w


@function("corrcoef", singular="one half of the formula's at ±1, which no correlation passes")
def corrcoef(x: ArrayLike, y: ArrayLike = None, rowvar: Any = True, *, dtype: Any = None) -> Array:
    """The correlations of variables: their covariances over the roots of their variances, within [−1, 1]."""
    found = cov(as_node(x), y, rowvar, dtype=dtype)
    if found.ndim == 0:
        return found / found
    root = FUNCTIONS["sqrt"](diag(found))
    scaled = found / reshaped(root, (root.size, 1)) / root
    return FUNCTIONS["clip"](scaled, -1, 1)
