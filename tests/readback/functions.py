"""Functions that formulas name, as NumPy and SciPy have them.

`POINTWISE` work element by element; `OF_ARRAYS` take arrays and options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special as sp

from tests.readback.signs import UnreadError

Array = np.ndarray[Any, Any]


def _gelu(x: Array) -> Array:
    return x * sp.ndtr(x)


POINTWISE: dict[str, Callable[..., Array]] = {
    name: getattr(np, name)
    for name in (
        "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh",
        "arctanh", "log1p", "expm1", "sign", "floor", "ceil", "where", "arctan2", "hypot", "clip", "isfinite", "log2",
        "logaddexp", "exp2", "log10", "sqrt", "round", "equal", "cbrt",
    )
} | {
    "σ": sp.expit, "Φ": sp.ndtr, "φ": lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi), "erf": sp.erf, "erfc": sp.erfc,
    "logΓ": sp.gammaln, "Γ": sp.gamma, "ψ": sp.psi, "relu": lambda x: np.maximum(x, 0), "gelu": _gelu,
    "silu": lambda x: x * sp.expit(x), "softplus": lambda x: np.logaddexp(x, 0), "log_sigmoid": sp.log_expit,
    "sinc": np.sinc, "real": lambda x: x, "add": np.add, "subtract": np.subtract, "log_expit": sp.log_expit,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x), "erfinv": sp.erfinv,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "xlogy": sp.xlogy, "ψ′": lambda x: sp.polygamma(1, x), "sigmoid": sp.expit, "not": np.logical_not,
}  # fmt: skip


def axes_of(x: Array, axis: Any = None) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return axis if isinstance(axis, tuple) else (axis,)


def _last(x: Array, axis: Any) -> tuple[int, ...]:
    return axes_of(x, -1 if axis is None else axis)


def softmax(x: Array, axis: Any = None) -> Array:
    return sp.softmax(x, axis=_last(x, axis))


def log_softmax(x: Array, axis: Any = None) -> Array:
    return sp.log_softmax(x, axis=_last(x, axis))


def logsumexp(x: Array, axis: Any = None) -> Array:
    return sp.logsumexp(x, axis=_last(x, axis))


def _reduction(f: Callable[..., Array]) -> Callable[..., Array]:
    def of(x: Array, *more: Array, axis: Any = None, ddof: int = 0) -> Array:
        if more:
            return _pairwise[f](x, *more)
        return f(x, axis=axes_of(x, axis)) if not ddof else f(x, axis=axes_of(x, axis), ddof=ddof)

    return of


_pairwise: dict[Any, Any] = {np.max: np.maximum, np.min: np.minimum}


def _cumulative(f: Callable[..., Array]) -> Callable[..., Array]:
    def of(x: Array, axis: int | None = None, reverse: bool = False) -> Array:
        axis = x.ndim - 1 if axis is None else axis
        return np.flip(f(np.flip(x, axis), axis=axis), axis) if reverse else f(x, axis=axis)

    return of


def _onehot_at(f: Callable[..., Array]) -> Callable[..., Array]:
    """1 where an element is the largest (or smallest), shared by those that tie."""

    def of(x: Array, axis: Any = None) -> Array:
        where = x == f(x, axis=axes_of(x, axis), keepdims=True)
        return where / where.sum(axis=axes_of(x, axis), keepdims=True)

    return of


def pad(x: Array, widths: Any) -> Array:
    if isinstance(widths, int):
        return np.pad(x, widths)
    if len(widths) != x.ndim:
        raise UnreadError("pad with widths for other axes")
    return np.pad(x, widths)


def corr(a: Array, b: Array) -> Array:
    """Σₖ a[i + k]·b[k]."""
    if a.ndim != b.ndim:
        raise UnreadError("corr of arrays of different axes")
    shown = np.lib.stride_tricks.sliding_window_view(a, b.shape)
    return (shown * b).sum(axis=tuple(range(-b.ndim, 0)))


def windows(x: Array, sizes: Any, axis: Any = None, strides: Any = 1, dilations: Any = 1) -> Array:
    axes, sizes = axes_of(x, axis), sizes if isinstance(sizes, tuple) else (sizes,)
    steps = strides if isinstance(strides, tuple) else (strides,) * len(axes)
    gaps = dilations if isinstance(dilations, tuple) else (dilations,) * len(axes)
    for a, n, step, gap in zip(axes, sizes, steps, gaps, strict=True):
        x = np.lib.stride_tricks.sliding_window_view(x, (n - 1) * gap + 1, axis=a)[..., ::gap]
        x = x[tuple(slice(None, None, step) if b == a else slice(None) for b in range(x.ndim))]
    return x


def fold(x: Array, shape: Any, sizes: Any, axis: Any = None, strides: Any = 1, dilations: Any = 1) -> Array:
    """What windows does to an array, turned round: windows added where they lie."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    places = windows(np.arange(int(np.prod(shape))).reshape(shape), sizes, axis, strides, dilations)
    if places.shape != x.shape:
        raise UnreadError("fold of other windows")
    result = np.zeros(int(np.prod(shape)))
    np.add.at(result, places.ravel(), x.ravel())
    return result.reshape(shape)


def reshape(x: Array, *sizes: Any) -> Array:
    if len(sizes) != 1:
        raise UnreadError("reshape to no sizes")
    (sizes,) = sizes
    if int(np.prod(sizes)) != x.size:
        raise UnreadError(f"reshape of {x.shape} to {sizes}")
    return x.reshape(sizes)


def diag(x: Array) -> Array:
    if x.ndim > 2:
        raise UnreadError("diag of more than two axes")
    return np.diag(x)


def cross_entropy(z: Array, y: Array) -> Array:
    """The mean over examples, of logits and labels or probabilities."""
    logs = log_softmax(z)
    chosen = np.take_along_axis(logs, y[..., None].astype(int), -1)[..., 0] if y.ndim < z.ndim else (logs * y).sum(-1)
    return -chosen.mean()


OF_ARRAYS: dict[str, Callable[..., Array]] = {
    "softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp, "lse": logsumexp, "max": _reduction(np.max),
    "min": _reduction(np.min), "prod": _reduction(np.prod),
    "cumsum": _cumulative(np.cumsum), "cumprod": _cumulative(np.cumprod), "flip": lambda x, axis=None: np.flip(x, axis),
    "pad": pad, "corr": corr, "windows": windows, "fold": fold, "reshape": reshape, "diag": diag, "tr": np.trace,
    "det": np.linalg.det, "chol": np.linalg.cholesky, "lower": np.tril, "upper": np.triu, "sort": np.sort,
    "argsort": lambda x, axis=-1, **_: np.argsort(x, axis=axis),
    "concat": lambda *xs, axis: np.concatenate([np.atleast_1d(x) for x in xs], axis),
    "stack": lambda *xs, axis=0: np.stack(xs, axis), "pinv": np.linalg.pinv, "sqrtm": scipy.linalg.sqrtm,
    "argmax": lambda x, axis=None: np.argmax(x, axis), "argmin": lambda x, axis=None: np.argmin(x, axis),
    "cross_entropy": cross_entropy, "any": lambda x, axis=None: np.any(x, axis=axes_of(x, axis)),
    "all": lambda x, axis=None: np.all(x, axis=axes_of(x, axis)),
}  # fmt: skip
ONEHOT = {"argmax": _onehot_at(np.max), "argmin": _onehot_at(np.min)}
NAMES = {*POINTWISE, *OF_ARRAYS, "place", "onehot"}
