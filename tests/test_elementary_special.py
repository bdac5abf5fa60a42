"""Error functions, gamma functions, floored division and shifts: error bounds, special values, promises."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

from gradc.codegen.elementary import special
from tests.elementary_harness import (
    FULL_LANES,
    ULP,
    Array,
    compile_binary,
    compile_unary,
    extended,
    module_text,
    neighbours,
    ptx,
    random_bits,
    specials,
    ulp_errors,
)

DTYPES = ("float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
#: A CPU of this architecture without fused multiply-add; None is the machine's own.
CPUS = [None, "x86-64"] if platform.machine() in ("x86_64", "AMD64") else [None]

#: method -> (SciPy's function, mpmath's, intervals, points to look around closely)
UNARY: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[tuple[float, float]], Sequence[float]]] = {
    "erf": (scipy.special.erf, mpmath.erf, [(-1.2, 1.2), (-6.5, 6.5)], (1, 3.92, 4, 5.92, 6)),
    "erfc": (
        scipy.special.erfc,
        mpmath.erfc,
        [(-1, 1), (0.5, 10.2), (-6, 28)],
        (0.5, 9.19, 10.05, 10.2, 26.54, 27.22, 27.5),
    ),
    "lgamma": (
        scipy.special.gammaln,
        lambda x: mpmath.re(mpmath.loggamma(x)),
        [(-0.5, 3), (1, 2), (2, 12), (5, 1e3)],
        (0.5, 1, 1.25, 2, 2.5, 3.5, 4.5, 5),
    ),
    "digamma": (
        scipy.special.digamma,
        mpmath.digamma,
        [(0, 3), (1, 2), (2, 12), (5, 1e3)],
        (1, 1.4616321449683622, 2, 3, 4, 5, 6),
    ),
}
CASES = [(name, dtype) for name in UNARY for dtype in DTYPES]
#: From here on down, lgamma and digamma reflect.
REFLECTED = {"lgamma": -0.5, "digamma": 0.0}


def sample(name: str, dtype: str, count: int) -> Array:
    """All bit patterns alike, the intervals, and the critical points, as far as no reflection is needed."""
    _, _, intervals, critical = UNARY[name]
    rng = np.random.default_rng(7)
    parts = [random_bits(dtype, count), specials(dtype), neighbours(critical, dtype, max(count // 50, 4))]
    with np.errstate(over="ignore"):
        x = np.concatenate([*parts, *[rng.uniform(low, high, count).astype(dtype) for low, high in intervals]])
    if name in REFLECTED:
        x = x[~(x <= REFLECTED[name]) | (x == 0)]
    return x


def exactly(name: str, x: Array) -> Array:
    """mpmath's values as long doubles; SciPy's at zeros, infinities and NaN, and where erfc has long been 0."""
    simple, precise = UNARY[name][:2]
    with np.errstate(all="ignore"):
        out: Array = simple(x.astype("float64")).astype(np.longdouble)
    usual = np.isfinite(x) & (x != 0)
    if name == "erfc":
        usual &= x < 40
    with mpmath.workdps(40):
        out[usual] = extended([precise(mpmath.mpf(float(v))) for v in x[usual]])
    return out


def identical(a: Array, b: Array) -> bool:
    """Equal bit for bit, any NaN counting as equal to any other."""
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


# -- error bounds ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", UNARY)
def test_float32_keeps_its_bound(name: str, cpu: str | None) -> None:
    """Against SciPy in float64, whose own errors are below 10^-6 float32 units."""
    x = sample(name, "float32", 40000)
    with np.errstate(all="ignore"):
        errors = ulp_errors(
            compile_unary(name, "float32", 16, cpu=cpu)(x), UNARY[name][0](x.astype("float64")), "float32"
        )
    assert errors.max() <= ULP[name]["float32"], x[errors.argmax()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_functions_against_mpmath(name: str, dtype: str) -> None:
    x = sample(name, dtype, 400)
    exact = exactly(name, x)
    for cpu in CPUS:
        errors = ulp_errors(compile_unary(name, dtype, FULL_LANES[dtype], cpu=cpu)(x), exact, dtype)
        assert errors.max() <= ULP[name][dtype], (x[errors.argmax()], errors.max())


def reflection(name: str, x: Any) -> tuple[Any, Any]:
    """The two terms whose difference is lgamma or digamma of a negative number."""
    if name == "lgamma":
        return mpmath.log(mpmath.pi / abs(x * mpmath.sinpi(x))), mpmath.loggamma(-x)
    return mpmath.digamma(1 - x), mpmath.pi * mpmath.cospi(x) / mpmath.sinpi(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFLECTED)
def test_reflection_keeps_its_bound(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    zeros = [-2.4570247382208006, -2.7476826467274127, -0.504083008264455, -1.5734984731623904, -10.5, -20.000001]
    parts = [
        -rng.uniform(0.5, 12, 500),
        -rng.uniform(0.5, 3000, 200),
        neighbours(zeros, dtype, 8),
        -np.arange(1, 9) / 2 - 0.3,
    ]
    x = np.concatenate([np.asarray(p, dtype) for p in parts])
    if name == "digamma":
        x = np.concatenate([x, -np.exp(rng.uniform(-60, 0, 200)).astype(dtype)])
    x = x[(x < REFLECTED[name]) & (x != np.rint(x))]
    with mpmath.workdps(50):
        terms = [reflection(name, mpmath.mpf(float(v))) for v in x]
        exact = extended([a - b for a, b in terms])
        scale = np.array([float(max(1, abs(a), abs(b))) for a, b in terms]).astype(dtype)
    for cpu in CPUS:
        got = compile_unary(name, dtype, FULL_LANES[dtype], cpu=cpu)(x)
        errors = np.abs(got - exact) / np.spacing(scale)
        assert errors.max() <= ULP[name][dtype], (x[errors.argmax()], errors.max())


# -- special values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_values_at_zeros_poles_and_infinities(name: str, dtype: str) -> None:
    big = np.finfo(dtype).max
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1, -2, -3, -1e6, -1e30, -big, big], dtype)
    got = compile_unary(name, dtype, FULL_LANES[dtype])(x)
    with np.errstate(over="ignore"):
        want = UNARY[name][0](x.astype("float64")).astype(dtype)
    fixed = ~np.isfinite(want) | np.isin(want, [-1, 0, 1, 2])
    assert fixed.sum() >= 9
    assert identical(got[fixed], want[fixed])


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_is_odd_and_erfc_reaches_the_subnormals(dtype: str) -> None:
    x = sample("erf", dtype, 1000)
    kernel = compile_unary("erf", dtype, FULL_LANES[dtype])
    assert identical(kernel(-x), -kernel(x))
    tail = np.linspace(9.2, 10, 50) if dtype == "float32" else np.linspace(26.6, 27.2, 50)
    found = compile_unary("erfc", dtype, FULL_LANES[dtype])(tail)
    assert np.all((found > 0) & (found < np.finfo(dtype).smallest_normal * 2))
    assert np.all(np.diff(found) <= 0)


# -- division --------------------------------------------------------------------------------------------------------
def pairs(dtype: str, count: int = 20000) -> tuple[Array, Array]:
    """Special values with each other, arbitrary bits, quotients of every size, multiples that are nearly exact."""
    rng = np.random.default_rng(13)
    x, y = (v.ravel() for v in np.meshgrid(specials(dtype), specials(dtype)))
    normal = (rng.normal(size=count) * 50).astype(dtype)
    whole = rng.integers(-1000, 1000, count).astype(dtype)
    with np.errstate(all="ignore"):
        close = (normal * rng.uniform(1e-9, 1, count) ** 3).astype(dtype)
        tenths = (whole * np.dtype(dtype).type(0.1)).astype(dtype)
    xs = [x, random_bits(dtype, count, 1), normal, normal, tenths, whole]
    ys = [
        y,
        random_bits(dtype, count, 2),
        rng.normal(size=count),
        close,
        np.full(count, 0.1),
        rng.integers(-9, 9, count),
    ]
    with np.errstate(over="ignore"):
        return np.concatenate([v.astype(dtype) for v in xs]), np.concatenate([v.astype(dtype) for v in ys])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
def test_float_division_is_numpys_bit_for_bit(name: str, dtype: str, cpu: str | None) -> None:
    x, y = pairs(dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    assert identical(compile_binary(name, dtype, FULL_LANES[dtype], cpu=cpu)(x, y), want)
    assert identical(compile_binary(name, dtype, 1, cpu=cpu)(x, y), want)


INTEGER_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "floor_divide": np.floor_divide,
    "remainder": np.remainder,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", INTEGER_FUNCTIONS)
def test_integers_have_numpys_answer_for_every_pair(name: str, dtype: str, lanes: int) -> None:
    info, rng = np.iinfo(dtype), np.random.default_rng(17)
    edges = {
        info.min,
        info.min + 1,
        -8,
        -7,
        -2,
        -1,
        0,
        1,
        2,
        3,
        7,
        8,
        info.bits - 1,
        info.bits,
        info.bits + 1,
        info.max,
    }
    values = np.array(sorted(v for v in edges if info.min <= v <= info.max), dtype)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    any_x, any_y = (rng.integers(info.min, info.max, 3000, dtype, endpoint=True) for _ in range(2))
    small = rng.integers(-20 if info.min else 0, 70, 3000).astype(dtype)
    x, y = np.concatenate([x, any_x, any_x]), np.concatenate([y, any_y, small])
    with np.errstate(all="ignore"):
        assert np.array_equal(compile_binary(name, dtype, lanes)(x, y), INTEGER_FUNCTIONS[name](x, y))


# -- the same everywhere ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_lane_count_and_fp_mode_do_not_change_a_bit(name: str, dtype: str) -> None:
    # Shuffled, so that lanes with and without a reflection share a vector.
    x = np.concatenate([sample(name, dtype, 500), -sample(name, dtype, 100)])
    x = np.random.default_rng(0).permutation(x)
    full = compile_unary(name, dtype, FULL_LANES[dtype])(x)
    assert identical(compile_unary(name, dtype, 1)(x), full)
    assert identical(compile_unary(name, dtype, 4)(x), full)
    assert identical(compile_unary(name, dtype, FULL_LANES[dtype], fp="fast")(x), full)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "arity"), [*[(n, 1) for n in UNARY], ("floor_divide", 2), ("remainder", 2)])
def test_ptx_needs_no_library(name: str, arity: int, dtype: str, tmp_path: Any) -> None:
    assert "frem" not in module_text(name, dtype, 1, arity)
    text = ptx(name, dtype, arity)
    assert ".extern" not in text
    if assembler := shutil.which("ptxas"):
        (tmp_path / "kernel.ptx").write_text(text)
        subprocess.run([assembler, "-arch=sm_90", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"], check=True)


# -- the tables ------------------------------------------------------------------------------------------------------
def erfcx_argument(t: Any, dtype: str) -> Any:
    return special.ERFCX_CENTRE[dtype] * (1 + t) / (1 - t)


def erfcx(a: Any) -> Any:
    return mpmath.exp(a * a) * mpmath.erfc(a)


def stirling(x: Any) -> Any:
    return (x - 0.5) * (mpmath.log(x) - 1) + (mpmath.log(2 * mpmath.pi) - 1) / 2


def from_root(x: Any) -> Any:
    head, rest = special.ROOT["float64"]
    return (x - mpmath.mpf(head)) - rest


def erfcx_interval(dtype: str) -> tuple[float, float]:
    centre, end = special.ERFCX_CENTRE[dtype], special.ERFC_END[dtype]
    return (0.5 - centre) / (0.5 + centre), (end - centre) / (end + centre)


Interval = tuple[float, float] | Callable[[str], tuple[float, float]]
Approximation = Callable[[Any, Callable[[Any], Any]], Any]
#: table -> (approximation with the polynomial p, function for a dtype, interval, log2 of the stated errors).
TABLES: dict[str, tuple[Approximation, Callable[[Any, str], Any], Interval, tuple[float, float]]] = {
    "ERF": (lambda x, p: x + x * p(x * x), lambda x, d: mpmath.erf(x), (0, 1), (-28.6, -55.6)),
    "LOG_ERFC": (
        lambda u, p: 1 - mpmath.exp(p(u)),
        lambda u, d: mpmath.erf(1 + u),
        lambda d: (0, 3 if d == "float32" else 5),
        (-26.7, -55.9),
    ),
    "ERFCX": (
        lambda t, p: (1 + p(t)) * special.ERFCX_SCALE,
        lambda t, d: (1 + 2 * erfcx_argument(t, d)) * erfcx(erfcx_argument(t, d)),
        erfcx_interval,
        (-27.5, -58.0),
    ),
    "LGAMMA_TWO": (
        lambda e, p: e * (e + 1) * p(e),
        lambda e, d: mpmath.loggamma(2 + e),
        (-0.75, 0.5),
        (-25.6, -56.1),
    ),
    "STIRLING": (
        lambda x, p: stirling(x) + p(1 / x**2) / x,
        lambda x, d: mpmath.loggamma(x),
        (5, 60),
        (-31.9, -59.9),
    ),
    "DIGAMMA_ROOT": (
        lambda e, p: from_root(mpmath.mpf(1.5) + e) * p(e),
        lambda e, d: mpmath.digamma(mpmath.mpf(1.5) + e),
        (-0.5, 0.5),
        (-25.4, -54.1),
    ),
    "DIGAMMA_FAR": (
        lambda x, p: mpmath.log(x) - 1 / (2 * x) - p(1 / x**2) / x**2,
        lambda x, d: mpmath.digamma(x),
        (6, 60),
        (-34.5, -63.5),
    ),
    "SINE_PI": (lambda x, p: x * p(x * x), lambda x, d: mpmath.sinpi(x), (0, 0.5), (-24.5, -54.4)),
}


@pytest.mark.parametrize("k", [0, 1], ids=DTYPES)
@pytest.mark.parametrize("name", TABLES)
def test_polynomials_have_their_stated_error(name: str, k: int) -> None:
    approximation, function, interval, stated = TABLES[name]
    dtype = DTYPES[k]
    coefficients = [mpmath.mpf(float(np.dtype(dtype).type(c))) for c in getattr(special, name)[dtype]]
    with mpmath.workdps(40):
        low, high = (mpmath.mpf(v) for v in (interval(dtype) if callable(interval) else interval))
        points = [low + (high - low) * (i + mpmath.mpf("0.37")) / 200 for i in range(200)]
        error = max(
            abs(approximation(x, lambda v: mpmath.polyval(coefficients, v)) / function(x, dtype) - 1) for x in points
        )
    assert mpmath.log(error, 2) <= stated[k]


def test_the_root_of_digamma() -> None:
    with mpmath.workdps(50):
        root = mpmath.findroot(mpmath.digamma, 1.4616)
        for dtype, digits in (("float32", 24), ("float64", 53)):
            head, rest = special.ROOT[dtype]
            assert head == np.dtype(dtype).type(head)
            assert abs(mpmath.mpf(head) + rest - root) < mpmath.mpf(2) ** (1 - 2 * digits)
