"""What NumPy's less common functions are called with: texts over x, y, z, the groups of arguments, the bounds.

Enters: nothing.  Leaves: `ROWS`.  Start reading at `row`; `tests/test_name_rows.py` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _plain() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(11)
    return rng.standard_normal((3, 4)), 3 * rng.standard_normal((3, 4)), rng.standard_normal(4)


def _pairs(values: Any, dtype: Any) -> tuple[Array, Array, Array]:
    """All pairs of some numbers as two vectors, and the numbers themselves."""
    with np.errstate(over="ignore"):
        line = np.unique(np.array(values).astype(dtype))
    x, y = np.meshgrid(line, line)
    return x.ravel(), y.ravel(), line


def _edges(dtype: Any) -> tuple[Array, Array, Array]:
    info = np.finfo(dtype)
    sizes = [0.0, info.smallest_subnormal, 3 * info.smallest_subnormal, info.smallest_normal, info.max, 1e-3, 0.5, 1.0,
             1.5, 2.5, 3.0, 4.0, 1e4, np.inf, info.smallest_normal * (1 - info.eps)]  # fmt: skip
    numbers = np.array([*sizes, np.nan, *[-v for v in sizes]], dtype)
    x, y = np.meshgrid(numbers, numbers)
    return x.ravel(), y.ravel(), numbers


def _whole_edges(dtype: Any) -> tuple[Array, Array, Array]:
    info = np.iinfo(dtype)
    line = [info.min, info.min // 2, -36, -12, -5, -1, 0, 1, 2, 3, 8, 12, 60, info.max - 1, info.max]
    return _pairs([v for v in line if v >= info.min], dtype)


A, B, V = _plain()
I = tuple(np.rint(4 * v).astype(np.int64) for v in (A, B, V))  # noqa: E741
HOLES = np.array([[np.nan, 1.5, -2.0, 3.0], [np.nan, np.nan, np.nan, np.nan], [0.5, 0.5, -0.0, 4.0]])
WEIGHTS = np.array([[1, 0.5, 2, 3], [0, 1, 0.25, 2]])
GROUPS: dict[str, tuple[Array, ...]] = {
    "float64": (A, B, V),
    "float32": tuple(v.astype(np.float32) for v in (A, B, V)),
    "float16": tuple(v.astype(np.float16) for v in (A, B, V)),
    "int64": I,
    "int8": tuple(v.astype(np.int8) for v in I),
    "uint8": tuple(np.abs(v).astype(np.uint8) for v in I),
    "bool": tuple(v > 0 for v in (A, B, V)),
    "scalar": tuple(np.array(v) for v in (1.5, -0.25, 2.0)),
    "empty": (np.zeros((0, 4)), np.ones((0, 4)), V),
    "holes": (HOLES, HOLES[:, ::-1].copy(), HOLES[2]),
    "edges64": _edges(np.float64),
    "edges32": _edges(np.float32),
    "edges16": _edges(np.float16),
    "whole8": _whole_edges(np.int8),
    "whole64": _whole_edges(np.int64),
    "wholeu8": _whole_edges(np.uint8),
    "wholeu64": _whole_edges(np.uint64),
}
FLOATS = ("float64", "float32")
PLAIN = (*FLOATS, "int64", "uint8", "scalar", "empty")
EDGES = ("edges64", "edges32")
WHOLE = ("whole8", "whole64", "wholeu8", "wholeu64")


@dataclass(frozen=True)
class Row:
    """Texts over x, y, z that are computed for each of some groups of arguments.

    ``ulps`` bounds the error in epsilons of the largest magnitude of the result; 0: the same bits.
    """

    texts: tuple[str, ...]
    groups: tuple[str, ...]
    ulps: float


def row(texts: str, *groups: str, ulps: float = 0) -> Row:
    return Row(tuple(filter(None, map(str.strip, texts.split(";")))), groups, ulps)


#: two roundings, that of πx and of the quotient, and sine's
SINE = 4
FORMATS = [
    row("np.frexp(z); np.modf(z); np.spacing(z); np.signbit(z); np.nextafter(x, y); np.copysign(x, y); np.fmod(x, y);"
        "np.ldexp(z[:, None], np.array([0, 1, -1, 30, -30, 140, -140, 1050, -1074, 2100, -2100, 2**31 - 1], np.int32))",
        *EDGES, "edges16"),
    row("np.frexp(x); np.modf(x); np.spacing(x); np.signbit(x); np.nextafter(x, 2); np.copysign(x, y); np.fmod(x, y);"
        "np.ldexp(x, 3); np.ldexp(x, -3); np.copysign(x, -1); np.copysign(2, x); np.angle(x, deg=True)",
        *PLAIN, "bool", "int8"),
    row("np.ldexp(x, np.arange(4, dtype=np.int8)); np.real_if_close(x); np.iscomplex(x); np.isreal(x); np.imag(x);"
        "np.array_equiv(x, x[:1]); np.array_equiv(z, np.stack([z, z])); np.array_equiv(x, x[:, :3])",
        "float64", "int64", "empty"),
    row("np.gcd(x, y); np.lcm(x, y); np.bitwise_count(x); np.fmod(x, y)", *WHOLE, "uint8"),
    row("np.gcd(x, 12); np.lcm(x, 3); np.gcd(x, np.int64(4)); np.lcm(np.int16(6), x)", "int64", "int8"),
    row("np.astype(x, np.common_type(x, y)); np.astype(x, np.min_scalar_type(y))",
        *FLOATS, "int64", "uint8", "float16"),
    row("np.angle(z)", *EDGES),
    row("np.sinc(z); np.sinc(x)", "edges64", "edges32", *PLAIN, ulps=SINE),
]  # fmt: skip

METHODS = (
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
    "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest",
)  # fmt: skip
#: a weighted mean of two elements by a weight that is rounded twice
MIXED = 4
#: sums of n ≤ 24 products in another order, and a few roundings
SUMS = 64
STATISTICS = [
    row(";".join(f"np.quantile(x, [0, .2, .5, .77, 1], axis=1, method='{m}');"
                 f"np.percentile(x, 30, method='{m}'); np.nanpercentile(x, [25., 60.], axis=1, method='{m}')"
                 for m in METHODS), *FLOATS, "int64", "holes", ulps=MIXED),
    row("np.quantile(x, .3); np.quantile(x, 0); np.quantile(x, [0, 1], axis=0); np.quantile(x, np.float32(.3));"
        "np.quantile(x, [[.1, .9], [.5, .6]], axis=(0, 1)); np.quantile(x, .4, axis=-1, keepdims=True);"
        "np.percentile(x, [10, 50], axis=(1, 0), keepdims=True); np.nanquantile(x, .3); np.nanquantile(x, [.2, .9], 0);"
        "np.nanquantile(x, .4, axis=1, keepdims=True); np.quantile(x, .5, axis=0, method='nearest')",
        *FLOATS, "int64", "holes", ulps=MIXED),
    row("np.quantile(x, [.1, .5, 1.], axis=1, method='inverted_cdf', weights=[1, 0, 2, 3]);"
        "np.quantile(x, 0, axis=0, method='inverted_cdf', weights=[0., 1, 2]);"
        "np.percentile(x, 40, method='inverted_cdf', weights=abs(y) + 1.)", *FLOATS, "int64"),
    row("np.nanquantile(x[::2], [.1, .6], axis=1, method='inverted_cdf', weights=WEIGHTS);"
        "np.nanpercentile(x[::2], 60, axis=1, method='inverted_cdf', weights=WEIGHTS)", *FLOATS, "int64", "holes"),
    row("np.median(x); np.median(x, axis=(0, 1)); np.median(x, axis=1, keepdims=True); np.nanmedian(x);"
        "np.nanmedian(x, axis=0); np.nanmedian(x, axis=1, keepdims=True); np.nanmedian(x, axis=(0, 1))",
        *FLOATS, "int64", "uint8", "bool", "holes", "float16"),
    row("np.nanvar(x); np.nanvar(x, axis=0, ddof=1); np.nanvar(x, 1, keepdims=True); np.nanstd(x, axis=1);"
        "np.nanvar(x, axis=0, correction=2); np.nanstd(x, ddof=1); np.nancumsum(x); np.nancumsum(x, axis=1);"
        "np.nancumprod(x, axis=0); np.nancumprod(x)", *FLOATS, "int64", "holes", "bool", ulps=SUMS),
    row("np.nanargmax(x); np.nanargmin(x); np.nanargmax(x[::2], axis=1); np.nanargmin(x[::2], axis=1, keepdims=True)",
        *FLOATS, "int64", "holes"),
    row("np.quantile(x, .3, axis=1); np.nanquantile(x, .3, axis=1); np.median(x, axis=1); np.nanmedian(x, axis=0);"
        "np.median(x); np.nanvar(x, axis=1); np.nancumsum(x)", "empty"),
    row("np.median(x); np.nanmedian(x); np.quantile(x, .3); np.nanpercentile(x, 7); np.nanvar(x)", "scalar"),
    row("np.cov(x); np.cov(x, rowvar=False); np.cov(x, y); np.cov(z); np.cov(x, bias=True); np.cov(x, ddof=2);"
        "np.cov(x, fweights=[1, 2, 0, 3]); np.cov(x, aweights=abs(z) + 1.); np.cov(z, y[0], aweights=[1., 2, 3, 4]);"
        "np.cov(x, fweights=[1, 2, 1, 3], aweights=[.5, 1, 2, 1], ddof=0); np.cov(x, ddof=4); np.corrcoef(x);"
        "np.corrcoef(z, x[0]); np.corrcoef(x, rowvar=False); np.corrcoef(z); np.cov(x, dtype='float32')",
        *FLOATS, "int64", ulps=SUMS),
    row("np.cov(x); np.cov(x[:, :1])", "empty"),
]  # fmt: skip

#: quotients and steps from the lower edge, each rounded
RAMP = 8
HISTOGRAMS = [
    row("np.histogram(x); np.histogram(x, 3); np.histogram(x, 4, range=(-1, 1)); np.histogram(z, [-1, 0, .5, 3]);"
        "np.histogram(x, np.array([-1., 0., 0., 2.])); np.histogram(x, 5, density=True); np.histogram(x, weights=y);"
        "np.histogram_bin_edges(x, 7);"
        "np.histogram_bin_edges(x, 3, range=(0, 2)); np.histogram2d(x[0], y[0], 3); np.histogramdd(x.T, 2);"
        "np.histogram2d(x[0], y[0], [2, 3], weights=z, density=True); np.histogramdd(x.T, [2, [-1., 0, 1], 3]);"
        "np.histogram2d(x[0], x[1], [-2., -1, 0, 1, 2]); np.histogramdd([z, x[1]], 3, range=[(-1, 1), None]);"
        "np.histogram(z[:1], 3)", *FLOATS, "int64", "uint8", ulps=RAMP),
    row("np.bincount(np.array([0, 1, 1, 3]), weights=z); np.bincount([3, 0, 0, 1], z, 6);"
        "x * np.bincount([2, 2, 1], minlength=4)",
        *FLOATS, "int64"),
    row("np.histogram(x, [-2., 0, 1], weights=y, density=True)", "float64", "int64", ulps=RAMP),
    row("np.histogram(x); np.histogram(x, [-1., 0, 1])", "empty", "float16", ulps=RAMP),
    row("np.histogram(z, [-1., 0., 1., 2.5]); np.histogram(z, 4, range=(-3, 2.5)); np.histogram(z, 10, (0, 1))",
        *EDGES),
    row("np.digitize(x, [-1., 0, 1]); np.digitize(x, np.array([1, 0, -1])); np.digitize(x, [0., 0.5], right=True);"
        "np.digitize(x, [2, 1., 0], True); np.digitize(x, []); np.digitize(x, np.sort(z)); np.digitize(x, -np.sort(z))",
        *PLAIN[:4], "holes"),
]  # fmt: skip

ROWS = [*FORMATS, *STATISTICS, *HISTOGRAMS]
CASES = {(text, group): row.ulps for row in ROWS for group in row.groups for text in row.texts}
