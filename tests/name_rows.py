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
MOVED = ("float64", "int64", "uint8")
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
                 for m in METHODS), "float64", "int64", "holes", ulps=MIXED),
    row(";".join(f"np.quantile(x, 0, method='{m}'); np.nanquantile(x, 1, axis=0, method='{m}')" for m in METHODS),
        *FLOATS, "int64", "holes", ulps=MIXED),
    row(";".join(f"np.quantile(x, [0, 1], axis=1, method='{m}'); np.nanquantile(x, np.array([1, 0]), 0, method='{m}');"
                 f"np.nanquantile(x, np.array([True, False]), axis=1, method='{m}')"
                 for m in METHODS), "float64", "holes", ulps=MIXED),
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
    row("np.mean(x, dtype=int); np.mean(x, axis=0, dtype='int8'); np.mean(x, 1, dtype=bool, keepdims=True);"
        "np.mean(x, axis=1, dtype=int, where=[True, False, True, True])", *FLOATS, "int64", "uint8"),
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
    row("np.bincount(np.array([], int), weights=x[:0, 0], minlength=3); np.bincount(np.array([], int))", "float64"),
    row("np.histogram(x, [-2., 0, 1], weights=y, density=True)", "float64", "int64", ulps=RAMP),
    row("np.histogram(x); np.histogram(x, [-1., 0, 1])", "empty", "float16", ulps=RAMP),
    row("np.histogram(z, [-1., 0., 1., 2.5]); np.histogram(z, 4, range=(-3, 2.5)); np.histogram(z, 10, (0, 1))",
        *EDGES),
    row("np.digitize(x, [-1., 0, 1]); np.digitize(x, np.array([1, 0, -1])); np.digitize(x, [0., 0.5], right=True);"
        "np.digitize(x, [2, 1., 0], True); np.digitize(x, []); np.digitize(x, np.sort(z)); np.digitize(x, -np.sort(z))",
        *PLAIN[:4], "holes"),
]  # fmt: skip

#: least squares of a matrix with condition 10, in two ways
FITTED = 2000
#: products and sums of at most n ≤ 8 terms
TERMS = 32
CALCULUS = [
    row("np.interp(x, [-1., 0, 1, 2], z); np.interp(x, [-1., 0, 1, 2], z, left=-5, right=7.5);"
        "np.interp(z, [1.], [2.]);"
        "np.interp(x, [0., 1, 1, 2], [1., 2, 3, 4]); np.interp(x, [0.1, 2.5, 1.], y[:, 0], period=3.);"
        "np.interp(z, np.sort(y[0]), x[0]); np.interp(x, [0, 1], [np.inf, np.inf]);"
        "np.interp(x, [0., np.inf], [1., 2])",
        *PLAIN[:4], "float16", "holes", ulps=TERMS),
    row("np.gradient(x); np.gradient(x, 2., axis=1); np.gradient(x, [0., 1, 3], 0.5);"
        "np.gradient(x, axis=0, edge_order=2);"
        "np.gradient(x, np.array([0., 1, 2.5, 3]), axis=-1, edge_order=2); np.gradient(z); np.gradient(x, 1, 2);"
        "np.gradient(z, np.cumsum(abs(y[0]) + 1)); np.gradient(z, 2, edge_order=2); np.gradient(x, axis=(1, 0))",
        *PLAIN[:4], "float16", ulps=TERMS),
    row("np.unwrap(x * 3); np.unwrap(x * 3, axis=0); np.unwrap(z, discont=2.); np.unwrap(x, period=1.5);"
        "np.unwrap(y, 3, period=4); np.unwrap(z, period=5)", *FLOATS, "int64", "int8", "float16", ulps=TERMS),
    row("np.ediff1d(x); np.ediff1d(z, to_end=z[:2]); np.diff(x, prepend=0, append=x[:, :1]);"
        "np.diff(z, 2, append=[1, 2])", *PLAIN[:4], "empty", "int8"),
    row("np.ediff1d(z, 0, [1, 2])", *FLOATS, "int64"),
    row("np.correlate(z, x[0]); np.correlate(z, z[:3], 'same'); np.correlate(z[:3], z, 'same'); np.correlate(z[:2], z);"
        "np.correlate(z, z[:3], 'full'); np.correlate(z[:3], z, 'full'); np.correlate(z[:2], z, 'same');"
        "np.correlate(z, z[:2], 'same'); np.convolve(z[:2], z, 'same'); np.convolve(z, z[:3], 'same')",
        *PLAIN[:4], ulps=TERMS),
    row("np.polyval(z, x); np.polyval([1, 2, 3], x); np.polyval(x[0], 2); np.polyder(z); np.polyder(z, 2);"
        "np.polyder(z, 9);"
        "np.polyint(z); np.polyint(z, 2, k=[1, 2]); np.polyint(z, 2, k=3); np.polyadd(z, x[0, :2]);"
        "np.polysub([1, 2], z);"
        "np.polydiv(z, [2., 1]); np.polydiv(z[:2], [1., 2, 3]);"
        "np.poly(z); np.poly(z[:0]); np.vander(z); np.vander(z, 3); np.vander(x[0], 6, increasing=True);"
        "np.vander(z, 1);"
        "np.vander(z, 0)", *PLAIN[:4], "float16", ulps=TERMS),
    row("np.polymul(z, x[0]); np.polydiv(x[0], z[:1] + 9)", *FLOATS, ulps=TERMS),
    row("np.polyfit(plain.arange(4) * .5, z, 2); np.polyfit(plain.arange(3.), x, 1);"
        "np.polyfit([0., 1, 2, 4], z, 1, w=abs(z) + 1.);"
        "np.polyfit([0., 1, 2, 4], z, 1, full=True); np.polyfit([0., 1, 2, 4], z, 1, cov=True)[1];"
        "np.polyfit([0., 1, 2], x, 1, cov='unscaled'); np.polyfit([0., 1, 2], x, 1, cov=True)[1]",
        "float64", "int64", ulps=FITTED),
    row("np.i0(x); np.i0(9 * z); np.i0(np.astype(200 * z, 'float64'))", *FLOATS, "int64", ulps=8),
    row("np.geomspace(abs(z) + 1., 100, 5); np.geomspace(1., x * x + 0.5, 4, axis=-1);"
        "np.geomspace(-abs(z) - 1., -9., 3);"
        "np.geomspace(abs(z) + 1., 3., 4, endpoint=False); np.geomspace(abs(z) + 1., 100, 5, dtype='float32')",
        *FLOATS, ulps=TERMS),
]  # fmt: skip
PLACES = [
    row("np.block([[x, y], [y, x]]); np.block([z, z[:2]]); np.block(x); np.block([[z], [z]]);"
        "np.block([[1, x[:1, :3]]]);"
        "np.block([[[x]], [[y]]]); np.resize(x, (2, 5)); np.resize(z, 9); np.resize(x, (0, 2)); np.resize(x[:0], 3);"
        "np.insert(x, 1, 5); np.insert(x, 1, 5, axis=0); np.insert(x, [0, 2], z[:2], axis=1);"
        "np.insert(x, 1, z, axis=0); np.insert(x, [1], y[:, :1], axis=1); np.insert(z, [0, 2, 2], [7, 8, 9]);"
        "np.insert(x, slice(0, 4, 2), 3, axis=1); np.insert(z, -1, 3); np.insert(z, [1, -1], 2); np.insert(z, [], []);"
        "np.insert(x, 2, y[:, 0], axis=1); np.insert(z, 4, [1, 2]);"
        "np.delete(x, 1); np.delete(x, 1, axis=0); np.delete(x, [0, -1], axis=1); np.delete(x, slice(1, 3), axis=1);"
        "np.delete(z, [True, False, False, True]); np.delete(z, []); np.delete(x, -1, 1);"
        "np.delete(z, slice(None, None, -2))",
        *MOVED, "bool"),
    row("np.partition(x, 2)[:, 2]; np.partition(x, (1, -1), axis=0)[1]; np.partition(x, 5, axis=None)[5];"
        "np.take_along_axis(x, np.argpartition(x, 1), 1)[:, 1]; np.lexsort((x[0], z)); np.lexsort(x);"
        "np.lexsort(y, axis=0);"
        "np.lexsort((x, x // 2), axis=0)", *MOVED, "holes"),
    row("np.choose(np.array([0, 1, 2, 0]), [z, x[0], 7]); np.choose(x[0] > 0, [z, -z]);"
        "np.choose(np.array([2, 1]), x[:, :2]); np.choose([1, 0, 1], [[1, 2, 3], [4., 5, 6]]) * x[:, 0];"
        "np.choose(np.array([-4, 5, 1, 0]), [z, 2 * z], mode='wrap');"
        "np.choose([-4, 5, 1, 0], [z, 2 * z], mode='clip');"
        "np.piecewise(z, z > 0, [1, 2.5]);"
        "np.piecewise(x, [x < 1, x < 0], [lambda v: 2 * v, 3]); np.piecewise(z, [z > 0], [lambda v, k: k * v], 3);"
        "np.apply_along_axis(np.max, 0, x); np.apply_along_axis(np.flip, 1, x);"
        "np.apply_along_axis(lambda v: np.stack([v, v]), 0, x); np.apply_over_axes(np.max, x, [0, 1]);"
        "np.apply_over_axes(np.sort, x, 1)", *MOVED),
    row("np.piecewise(x, [x < 0, x > 1], [lambda v: v * v, lambda v: v + 1, -1]);"
        "np.select([x > 0, x < -1], [x, y], 5)", *FLOATS, "int64"),
    row("np.apply_along_axis(np.sum, 0, x); np.apply_over_axes(np.sum, x, [0, 1])", *FLOATS, "int64", ulps=TERMS),
    row("x[np.ix_([0, 2], [1, 3])]; x[np.ix_([True, False, True], [1])]; np.diag_indices_from(x[:, :3]);"
        "np.tril_indices_from(x); np.triu_indices_from(x, 1); x * np.mgrid[0:3, 0:4][0]; x + np.ogrid[0:3, 0:4][1];"
        "x[:, :3] * np.diag_indices(3)[0]; z * np.mgrid[0:1:4j]", "float64", "int64"),
    row("np.ravel_multi_index((x % 3, x % 4), (3, 4)); np.ravel_multi_index(np.stack([z, z + 1]), (2, 3), mode='wrap');"
        "np.ravel_multi_index((z, z), (3, 4), mode=('clip', 'wrap'), order='F'); np.unravel_index(x % 12, (3, 4));"
        "np.unravel_index(z % 12, (2, 3, 2), order='F'); np.unravel_index(abs(z), 40)", "int64", "int8", "uint8"),
    row("np.packbits(x > 0); np.packbits(x, axis=1);"
        "np.packbits(x, axis=0, bitorder='little')", "int64", "bool", "uint8"),
    row("np.unpackbits(x); np.unpackbits(x, axis=1); np.unpackbits(z, bitorder='little', count=-3);"
        "np.unpackbits(z, count=40);"
        "np.unpackbits(x, axis=0, count=5)", "uint8"),
    row("np.isin(x, y); np.isin(x, [0, 1, 2.5]); np.isin(x, z, invert=True); np.isin(x, [])", *MOVED, "holes"),
]  # fmt: skip

SETS = [
    row("np.intersect1d([3, 1, 2], [2, 3, 9]); np.union1d([3, 1], [1, 2]); np.setdiff1d([3, 1, 2], [1]);"
        "np.setxor1d([1, 2], [2, 5]); np.mask_indices(3, plain.triu); np.from_dlpack(WEIGHTS) * z;"
        "np.unique([3, 1, 3], return_counts=True);"
        "np.unique_all(WEIGHTS); np.compress(WEIGHTS[0] > 0.7, z)", "float64"),
]  # fmt: skip
#: texts of gradc's own arguments, and what they mean in NumPy; `sized` cuts and fills
OWN: dict[str, str] = {
    "np.flatnonzero(x > 0, size=5)": "sized(np.flatnonzero(x > 0), 5, 0)",
    "np.flatnonzero(x, size=20, fill_value=-1)": "sized(np.flatnonzero(x), 20, -1)",
    "np.nonzero(x > 0.5, size=4)": "[sized(p, 4, 0) for p in np.nonzero(x > 0.5)]",
    "np.nonzero(x < 0, size=9, fill_value=(7, 8))": "[sized(p, 9, f) for p, f in zip(np.nonzero(x < 0), (7, 8))]",
    "np.where(x < 0, size=9)": "[sized(p, 9, 0) for p in np.nonzero(x < 0)]",
    "np.argwhere(x < 0, size=3)": "sized(np.argwhere(x < 0), 3, 0)",
    "np.compress(z > 0, x, axis=1, size=3, fill_value=7)": "sized(np.compress(z > 0, x.T, axis=0), 3, 7).T",
    "np.compress(z[:3] > 0, x, axis=0, size=2)": "sized(np.compress(z[:3] > 0, x, axis=0), 2, 0)",
    "np.extract(x > 0, y, size=6)": "sized(np.extract(x > 0, y), 6, 0)",
    "np.unique(np.round(x), size=4)": "sized(np.unique(np.round(x)), 4, np.min(np.round(x)))",
    "np.unique(np.round(x), True, True, True, size=9, fill_value=99)":
        "[f(v) for f, v in zip((lambda v: sized(v, 9, 99), lambda v: sized(v, 9, v[0]), lambda v: v, "
        "lambda v: sized(v, 9, 0)), np.unique(np.round(x), True, True, True))]",
    "np.unique_values(x, size=20, fill_value=5)": "sized(np.sort(np.unique_values(x)), 20, 5)",
    "np.unique_counts(np.round(x), size=9, fill_value=5)[1]": "sized(np.unique_counts(np.round(x)).counts, 9, 0)",
    "np.unique_inverse(np.round(x), size=9).inverse_indices": "np.unique_inverse(np.round(x)).inverse_indices",
    "np.unique_all(np.round(x), size=2).indices": "sized(np.unique_all(np.round(x)).indices, 2, 0)",
    "np.intersect1d(np.round(x), np.round(y), size=5, fill_value=9)":
        "sized(np.intersect1d(np.round(x), np.round(y)), 5, 9)",
    "np.intersect1d(np.round(x), np.round(y), return_indices=True, size=2)":
        "[sized(v, 2, 0) for v in np.intersect1d(np.round(x), np.round(y), return_indices=True)]",
    "np.union1d(np.round(x), np.round(y), size=12, fill_value=9)": "sized(np.union1d(np.round(x), np.round(y)), 12, 9)",
    "np.setdiff1d(np.round(x), np.round(y), size=3, fill_value=9)":
        "sized(np.setdiff1d(np.round(x), np.round(y)), 3, 9)",
    "np.setxor1d(np.round(x), np.round(y), size=9, fill_value=9)": "sized(np.setxor1d(np.round(x), np.round(y)), 9, 9)",
    "np.bincount(np.astype(abs(y[0]), int), length=5)": "np.bincount(abs(y[0]).astype(int), minlength=5)[:5]",
    "np.put_along_axis(x, np.argsort(y, axis=1)[:, :1], 9, 1)": "put(x, np.argsort(y, axis=1)[:, :1], 9, 1)",
    "np.put_along_axis(x, np.argsort(y, axis=0)[:2], y[:2], 0)": "put(x, np.argsort(y, axis=0)[:2], y[:2], 0)",
    "np.put_along_axis(x, np.array([3, 5]), [8, 9], None)": "put(x, np.array([3, 5]), [8, 9], None)",
    "np.insert(x, np.argmax(z), 7, axis=1)": "np.insert(x, np.argmax(z), 7, axis=1)",
    "np.delete(x, np.argmax(z), axis=1)": "np.delete(x, np.argmax(z), axis=1)",
    "np.from_dlpack(x)": "x",
    "np.mgrid[0:z[0]:4j]": "np.mgrid[0:z[0]:4j]",
    "np.ogrid[0:2, 0:z[0]:4j]": "np.ogrid[0:2, 0:z[0]:4j]",
    "np.quantile(x, abs(z[:2]) / 9)": "np.quantile(x, abs(z[:2]) / 9)",
    "np.digitize(x, np.sort(z)[::-1])": "np.digitize(x, np.sort(z)[::-1])",
}  # fmt: skip

ROWS = [*FORMATS, *STATISTICS, *HISTOGRAMS, *CALCULUS, *PLACES, *SETS]
CASES = {(text, group): row.ulps for row in ROWS for group in row.groups for text in row.texts}
