"""Exponentials, logarithms, hyperbolic functions, powers and roots: error bounds, special values, exact cases."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest

from gradc.codegen.builder import Builder
from gradc.codegen.elementary import exponential, power
from gradc.codegen.target import Target
from gradc.node import OPS
from tests.elementary_harness import (
    FULL_LANES,
    PLAIN,
    ULP,
    Array,
    Kernel,
    compile_binary,
    compile_unary,
    extended,
    measure,
    neighbours,
    ptx,
    random_bits,
    specials,
    ulp_error,
    ulp_errors,
)

Function = Callable[[Any], Any]
DTYPES = ("float32", "float64")
#: None is the machine's own CPU; the last one of this architecture has no fused multiply-add.
CPUS = [None, PLAIN, "x86-64"] if platform.machine() in ("x86_64", "AMD64") else [None]
EXTENDED = np.finfo(np.longdouble).nmant >= 63
needs_extended = pytest.mark.skipif(not EXTENDED, reason="long double is no wider than double here")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))


#: Among the smallest normal numbers, where a cube of a root's first bits may be subnormal, and around some cubes.
SMALLEST = (1e-38, 1.1754945e-38, 1.1755186e-38, 1.19e-38, 4.8e-38, 2.225073858507e-308, 2.2251e-308, 9e-308, 8, 27)
#: method -> (long double reference, mpmath reference, the interval where it is curved, points to look around closely)
UNARY: dict[str, tuple[Function, Function, tuple[float, float], Sequence[float]]] = {
    "exp": (np.exp, mpmath.exp, (-20, 20), (0.34657, 88.72283, 87.33655, 103.97208, 709.7827128933841, 745.1332191)),
    "exp2": (np.exp2, lambda x: mpmath.mpf(2) ** x, (-20, 20), (0.5, 128, 126, 149, 150, 1024, 1022, 1074, 1075)),
    "expm1": (np.expm1, mpmath.expm1, (-2, 20), (1e-8, 0.34657, 1.03972, 17.3, 37.4, 88.72283, 709.782712893384)),
    "log": (np.log, mpmath.log, (0.3, 3), (1, 2 / 3, 4 / 3, 2**0.5, 0.5**0.5, 1.17549435e-38, 2.2250738585072014e-308)),
    "log2": (np.log2, lambda x: mpmath.log(x, 2), (0.3, 3), (1, 2 / 3, 4 / 3, 2**0.5, 0.5**0.5)),
    "log10": (np.log10, mpmath.log10, (0.3, 3), (1, 2 / 3, 4 / 3, 2**0.5, 0.5**0.5, 10, 1000)),
    "log1p": (np.log1p, mpmath.log1p, (-0.999, 3), (1e-8, 1 / 3, 2**0.5 - 1, 1 - 0.5**0.5, 1, 2.4e38, 3.4e38, 1.7e308)),
    "sigmoid": (sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), (-20, 20), (1e-8, 17, 87.33655, 103.9, 708.4, 745.1)),
    "softplus": (softplus, lambda x: mpmath.log1p(mpmath.exp(x)), (-20, 20), (1e-8, 0.8814, 1.0986, 103.9, 745.1)),
    "tanh": (np.tanh, mpmath.tanh, (-6, 6), (1e-8, 0.55, 9.01, 10, 19.06, 20)),
    "sinh": (np.sinh, mpmath.sinh, (-9, 9), (1e-8, 0.34657, 1.03972, 8.3, 18.3, 89.415985, 710.4758600739439)),
    "cosh": (np.cosh, mpmath.cosh, (-9, 9), (1e-8, 0.34657, 1.03972, 8.3, 18.3, 89.415985, 710.4758600739439)),
    "arcsinh": (np.arcsinh, mpmath.asinh, (-9, 9), (1e-8, 0.5, 11585.2, 2.7e8, 2.0**60, 2.0**508)),
    "arccosh": (np.arccosh, mpmath.acosh, (1, 9), (1, 1.5, 11585.2, 2.7e8, 2.0**60, 2.0**508)),
    "arctanh": (np.arctanh, mpmath.atanh, (-1, 1), (1e-8, 0.5, 1)),
    "cbrt": (np.cbrt, lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), (-9, 9), SMALLEST),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: 1 / mpmath.sqrt(x), (0, 9), (1, 4)),
}
CASES = [(name, dtype) for name in UNARY for dtype in DTYPES]


def sample(name: str, dtype: str, count: int = 20000) -> Array:
    """All bit patterns alike, the curved interval, all magnitudes in the exponential range, and the critical points."""
    _, _, (low, high), critical = UNARY[name]
    rng = np.random.default_rng(7)
    magnitudes = rng.choice([-1, 1], count) * np.exp(rng.uniform(-20, 6.7, count))
    parts = [random_bits(dtype, count), rng.uniform(low, high, 3 * count), magnitudes, specials(dtype)]
    with np.errstate(over="ignore"):
        return np.concatenate([part.astype(dtype) for part in parts] + [neighbours(critical, dtype)])


def check(kernel: Kernel, name: str, reference: Callable[..., Any], *operands: Array) -> None:
    error, where = measure(kernel, reference, *operands)
    assert error <= ULP[name][kernel.dtype], where


def identical(a: Array, b: Array) -> bool:
    """Equal bit for bit, any NaN counting as equal to any other."""
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


# -- error bounds ----------------------------------------------------------------------------------------------------
@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_unary_functions_keep_their_bound(name: str, dtype: str, cpu: str | None) -> None:
    check(compile_unary(name, dtype, FULL_LANES[dtype], cpu=cpu), name, UNARY[name][0], sample(name, dtype))


@needs_extended
@pytest.mark.nightly
@pytest.mark.parametrize("name", UNARY)
def test_float32_functions_keep_their_bound_everywhere(name: str) -> None:
    """Every 61st of all bit patterns."""
    kernel = compile_unary(name, "float32", FULL_LANES["float32"])
    for start in range(0, 1 << 32, 1 << 26):
        patterns = np.arange(start - start % 61, start + (1 << 26), 61, dtype=np.int64)
        check(kernel, name, UNARY[name][0], patterns.astype(np.uint32).view(np.float32))


@pytest.mark.sampled(4, each=("name", "dtype", "lanes"))
@pytest.mark.skipif("avx512" not in Target.host().extensions, reason="this CPU has no AVX-512 to ask for by name")
@pytest.mark.parametrize("lanes", [1, 4, 16, 64])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_instructions_asked_for_by_name_change_no_bit(name: str, dtype: str, lanes: int) -> None:
    x = sample(name, dtype, 3000)
    named, plain = (compile_unary(name, dtype, lanes, cpu=cpu)(x) for cpu in (None, PLAIN))
    assert identical(named, plain)


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_against_mpmath(name: str) -> None:
    low, high = UNARY[name][2]
    inner = np.random.default_rng(1).uniform(low, high, 60)
    x = np.concatenate([inner, inner[:20] * 1e-6, [v for v in UNARY[name][3] if v < 700]])
    x = x[(x > low) & (x < high)]
    with mpmath.workdps(40):
        exact = [UNARY[name][1](mpmath.mpf(float(v))) for v in x]
        assert ulp_error(compile_unary(name, "float64", 8)(x), exact, "float64") <= ULP[name]["float64"]


def power_operands(dtype: str, count: int = 40000) -> tuple[Array, Array]:
    """Results over the whole range of exponents, bases near and far from 1, integers, arbitrary bits."""
    rng = np.random.default_rng(11)
    top = 88.7 if dtype == "float32" else 709.7
    spread = np.exp(rng.uniform(-top, top, count)).astype(dtype)
    close = 1 + rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-7 if dtype == "float32" else -15, -0.4, count)
    bases = [spread, close.astype(dtype)]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        exponents = [(rng.uniform(-1.18, 1.02, count) * top / np.log(b.astype("float64"))).astype(dtype) for b in bases]
    integers = rng.integers(-40, 41, (2, count)).astype(dtype)
    x = np.concatenate([*bases, integers[0], random_bits(dtype, count, 1)])
    return x, np.concatenate([*exponents, integers[1], random_bits(dtype, count, 2)])


@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_keeps_its_bound(dtype: str, cpu: str | None) -> None:
    check(compile_binary("pow", dtype, FULL_LANES[dtype], cpu=cpu), "pow", np.power, *power_operands(dtype))


def test_pow_against_mpmath() -> None:
    x, y = (v[::997] for v in power_operands("float64"))
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0)
    x, y = x[usable], y[usable]
    with np.errstate(all="ignore"):
        usable = np.abs(y * np.log(x)) < 744
    x, y = x[usable], y[usable]
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(a)) ** mpmath.mpf(float(b)) for a, b in zip(x, y, strict=True)]
        assert len(exact) > 100
        assert ulp_error(compile_binary("pow", "float64", 8)(x, y), exact, "float64") <= ULP["pow"]["float64"]


@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_hypot_keeps_its_bound(dtype: str, cpu: str | None) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([random_bits(dtype, 60000, 4), rng.normal(size=60000).astype(dtype)])
    with np.errstate(over="ignore", invalid="ignore"):
        y = (x * np.exp(rng.uniform(-9, 9, x.size))).astype(dtype)
    check(compile_binary("hypot", dtype, FULL_LANES[dtype], cpu=cpu), "hypot", np.hypot, x, y)


@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logaddexp_keeps_its_bound(dtype: str, cpu: str | None) -> None:
    """Measured in the last place of the largest of both operands and the result: the sum of a negative maximum and a
    positive logarithm cancels near 0."""
    rng = np.random.default_rng(5)
    x = np.concatenate([random_bits(dtype, 40000, 6), rng.normal(scale=3, size=40000).astype(dtype)])
    x = x[np.isfinite(x)]
    y = (x + rng.normal(scale=5, size=x.size)).astype(dtype)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    got = compile_binary("logaddexp", dtype, FULL_LANES[dtype], cpu=cpu)(x, y)
    exact = np.logaddexp(x.astype(np.longdouble), y.astype(np.longdouble))
    scale = np.maximum.reduce([np.abs(x), np.abs(y), np.abs(exact).astype(dtype)])
    assert np.max(np.abs(got - exact) / np.spacing(scale)) <= ULP["logaddexp"][dtype]


# -- special values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_has_every_special_case_of_numpy(dtype: str) -> None:
    odd = 2.0 ** np.finfo(dtype).nmant + 1
    more = np.array([odd, -odd, 2 * odd, 5, -5, 7.5, -7.5, 1e-20, -1e-20, np.nextafter(1, 2, dtype=dtype)], dtype)
    x, y = (v.ravel() for v in np.meshgrid(*[np.concatenate([specials(dtype), more])] * 2))
    got = compile_binary("pow", dtype, FULL_LANES[dtype])(x, y)
    with np.errstate(all="ignore"):
        want, exact = np.power(x, y), np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    fixed = ~np.isfinite(want) | (want == 0) | (np.abs(exact) == 1)
    assert fixed.sum() > 800
    assert identical(got[fixed], want[fixed])
    assert identical(np.sign(got), np.sign(want))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["hypot", "logaddexp"])
def test_binary_functions_of_infinities_and_nan(name: str, dtype: str) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], dtype)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    got = compile_binary(name, dtype, FULL_LANES[dtype])(x, y)
    with np.errstate(invalid="ignore"):
        want = getattr(np, name)(x, y)
    fixed = ~np.isfinite(want) | (want == 0)
    assert identical(got[fixed], want[fixed])


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_cases(dtype: str) -> None:
    info = np.finfo(dtype)
    whole = np.arange(info.minexp - info.nmant, info.maxexp).astype(dtype)
    powers = np.ldexp(np.ones_like(whole), whole.astype(int))
    lanes = FULL_LANES[dtype]
    assert np.array_equal(compile_unary("exp2", dtype, lanes)(whole), powers)
    assert np.array_equal(compile_unary("log2", dtype, lanes)(powers), whole)
    digits = np.arange(11 if dtype == "float32" else 23)
    tens = np.array([10**k for k in digits.tolist()], dtype)
    assert np.array_equal(compile_unary("log10", dtype, lanes)(tens), digits.astype(dtype))
    assert np.array_equal(compile_binary("pow", dtype, lanes)(np.full_like(whole, 2), whole), powers)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_roots_that_the_format_holds_are_exact(dtype: str, cpu: str | None) -> None:
    """Every cube of an integer that fits the significand, and these times powers of eight, down to subnormals."""
    info = np.finfo(dtype)
    top = int(2.0 ** ((info.nmant + 1) / 3))
    integers = np.unique(np.linspace(1, top, min(top, 5000)).astype(int)).astype(dtype)
    scales = range(-(-(info.minexp - info.nmant) // 3), (info.maxexp - info.nmant - 1) // 3, 7)
    roots = np.ldexp(integers, np.array(scales)[:, None]).astype(dtype)
    cube_root = compile_unary("cbrt", dtype, FULL_LANES[dtype], cpu=cpu)
    for sign in (1, -1):
        assert np.array_equal(cube_root(sign * roots**3), sign * roots)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("lanes", [1, 8])
def test_integer_powers_wrap_as_in_numpy(dtype: str, lanes: int) -> None:
    rng, info = np.random.default_rng(9), np.iinfo(dtype)
    x = rng.integers(info.min, info.max, 600, dtype, endpoint=True)
    y = rng.integers(0, info.max, 600, dtype, endpoint=True)
    y[::2] = rng.integers(0, 9, 300)
    x[::3] = rng.integers(0, 6, 200)
    assert np.array_equal(compile_binary("ipow", dtype, lanes)(x, y), np.power(x, y))


# -- the same everywhere ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_lane_count_and_fp_mode_do_not_change_a_bit(name: str, dtype: str) -> None:
    x = sample(name, dtype, 500)
    full = compile_unary(name, dtype, FULL_LANES[dtype])(x)
    assert identical(compile_unary(name, dtype, 1)(x), full)
    assert identical(compile_unary(name, dtype, 4)(x), full)
    assert identical(compile_unary(name, dtype, FULL_LANES[dtype], fp="fast")(x), full)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "arity"), [*[(n, 1) for n in UNARY], ("pow", 2), ("hypot", 2), ("logaddexp", 2)])
def test_ptx_needs_no_library(name: str, arity: int, dtype: str, tmp_path: Any) -> None:
    text = ptx(name, dtype, arity)
    assert "call" not in text
    if assembler := shutil.which("ptxas"):
        (tmp_path / "kernel.ptx").write_text(text)
        subprocess.run([assembler, "-arch=sm_90", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"], check=True)


# -- the tables ------------------------------------------------------------------------------------------------------
def evaluate(coefficients: Sequence[float], x: Any, dtype: str = "float64") -> Any:
    return mpmath.polyval([mpmath.mpf(float(np.dtype(dtype).type(c))) for c in coefficients], x)


def exp2(x: Any) -> Any:
    return mpmath.mpf(2) ** x


def logarithm(f: Any, dtype: str) -> Any:
    if dtype == "float32":
        return f - f**2 / 2 + f**3 * evaluate(exponential.LOG[dtype], f, dtype)
    s = f / (2 + f)
    return 2 * s + s**3 * evaluate(exponential.LOG[dtype], s**2)


HALF_LN2, ROOT2 = float(np.log(2) / 2), float(np.sqrt(2))
TO_ROOT = (ROOT2 - 1) / (ROOT2 + 1)
#: How far the start of a cube root is moved down, as a power of two.
CBRT_BIAS = {"float32": -12.3, "float64": -16.8}
#: what -> (approximation of (x, dtype), function, {dtype: (interval, log2 of the stated relative error)})
TABLES: dict[str, tuple[Callable[[Any, str], Any], Function, dict[str, tuple[float, float, float]]]] = {
    "exp": (
        lambda r, d: 1 + r + r**2 * evaluate(exponential.EXP[d], r, d),
        mpmath.exp,
        {"float32": (-HALF_LN2, HALF_LN2, -28.2), "float64": (-HALF_LN2, HALF_LN2, -57.8)},
    ),
    "exp2": (
        lambda r, d: 1 + r * evaluate(exponential.EXP2[d], r, d),
        exp2,
        {"float32": (-0.5, 0.5, -27.4), "float64": (-0.5, 0.5, -57.7)},
    ),
    "log": (
        logarithm,
        mpmath.log1p,
        {"float32": (-1 / 3, 1 / 3, -27.6), "float64": (1 / ROOT2 - 1, ROOT2 - 1, -59.4)},
    ),
    "sinh": (
        lambda r, d: r + r**3 * evaluate(exponential.SINH[d], r**2, d),
        mpmath.sinh,
        {"float32": (0, HALF_LN2, -34.2), "float64": (0, HALF_LN2, -61.6)},
    ),
    "cosh": (
        lambda r, d: 1 + r**2 * evaluate(exponential.COSH[d], r**2, d),
        mpmath.cosh,
        {"float32": (0, HALF_LN2, -33.2), "float64": (0, HALF_LN2, -69.9)},
    ),
    "tanh": (
        lambda r, d: r + r**3 * evaluate(exponential.TANH[d], r**2, d),
        mpmath.tanh,
        {"float32": (0, 0.55, -24.6), "float64": (0, 0.55, -60.5)},
    ),
    "log2 series": (
        lambda s, d: s * (2 + 2 * s**2 / 3 + s**4 * mpmath.log(2) * evaluate(power.LOG2_SERIES, s**2)),
        lambda s: 2 * mpmath.atanh(s),
        {"float64": (0, TO_ROOT, -73.3)},
    ),
    "wide log2": (
        lambda s, d: s * evaluate(power.WIDE_LOG2, s**2),
        lambda s: 2 * mpmath.atanh(s) / mpmath.log(2),
        {"float64": (0, TO_ROOT, -37.7)},
    ),
    "wide exp2": (lambda r, d: evaluate(power.WIDE_EXP2, r), exp2, {"float64": (-0.5, 0.5, -28.9)}),
    "cbrt start": (
        lambda h, d: evaluate(power.CBRT_START[d], h, d) / (1 - mpmath.mpf(2) ** CBRT_BIAS[d]),
        lambda h: (1 - h) ** (-mpmath.mpf(2) / 3),
        {"float32": (-0.1021, 0.1021, -12.8), "float64": (-0.1021, 0.1021, -17.2)},
    ),
    "cbrt": (
        lambda r, d: 1 + r * evaluate(power.CBRT[d], r, d),
        lambda r: mpmath.cbrt(1 + r),
        {"float32": (0, 0.0265, -30.4), "float64": (0, 1e-4, -62)},
    ),
}


@pytest.mark.parametrize(("what", "dtype"), [(what, dtype) for what, row in TABLES.items() for dtype in row[2]])
def test_polynomials_have_their_stated_error(what: str, dtype: str) -> None:
    approximation, function, stated = TABLES[what]
    with mpmath.workdps(40):
        low, high, bound = (mpmath.mpf(v) for v in stated[dtype])
        points = [low + (high - low) * (k + mpmath.mpf("0.37")) / 300 for k in range(300)]
        error = max(abs(approximation(x, dtype) / function(x) - 1) for x in points)
        assert mpmath.log(error, 2) <= bound


def test_heads_are_short_and_sum_with_their_tails_to_the_constant() -> None:
    """A head leaves room for what multiplies it: an exponent, or half a significand."""
    with mpmath.workdps(40):
        log, short, half = mpmath.log, {"float32": 15, "float64": 41}, {"float32": 12, "float64": 26}
        for table, exact, bits in (
            (exponential.LN2, log(2), short),
            (exponential.LOG10_2, log(2, 10), short),
            (exponential.INVERSE_LN2, 1 / log(2), half),
            (exponential.INVERSE_LN10, 1 / log(10), half),
            ({"float64": power.LOG2_A}, 2 / log(2), half),
            ({"float64": power.LOG2_B}, 2 / (3 * log(2)), half),
        ):
            for dtype, (head, tail) in table.items():
                assert head.as_integer_ratio()[0].bit_length() <= bits[dtype]
                precision = bits[dtype] + np.finfo(dtype).nmant
                assert abs(mpmath.mpf(head) + mpmath.mpf(tail) - exact) < mpmath.mpf(2) ** -precision


# -- the bounds and the measure --------------------------------------------------------------------------------------
def test_every_bound_belongs_to_a_method() -> None:
    for name, bounds in ULP.items():
        assert callable(getattr(Builder, name, None)) or OPS[name].lower is not None, name
        assert set(bounds) == set(DTYPES), name


def test_the_measure_counts_ulps() -> None:
    one = np.array([1.0], "float32")
    assert ulp_error(np.nextafter(one, one * 2), [mpmath.mpf(1)], "float32") == 1
    assert ulp_errors(np.array([0.0, -0.0], "float32"), extended([0, 0]), "float32").tolist() == [0, np.inf]
    assert ulp_error(np.array([np.nan], "float32"), one, "float32") == np.inf
    assert ulp_error(np.array([np.inf], "float32"), [mpmath.mpf(10) ** 39], "float32") == (0 if EXTENDED else np.inf)
