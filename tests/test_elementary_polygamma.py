"""Derivatives of digamma, compiled and as the NumPy reference of the op: error bounds, special values, promises."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special

from gradc.codegen.elementary import polygamma
from gradc.codegen.elementary.format import FORMATS
from gradc.errors import CompileError
from gradc.node import OPS
from tests.elementary_harness import (
    FULL_LANES,
    ULP,
    Array,
    extended,
    neighbours,
    ptx_of,
    random_bits,
    specials,
    ulp_errors,
)
from tests.lowering_harness import Lowered, compile_lowering, lowering_text

DTYPES = ("float32", "float64")
ORDERS = (1, 2, 3, 5)
#: orders to test every day, and the others
EACH_ORDER = [pytest.param(n, marks=() if n in (1, 3) else pytest.mark.nightly) for n in ORDERS]
#: A CPU of this architecture without fused multiply-add; None is the machine's own.
CPUS = [None, "x86-64"] if platform.machine() in ("x86_64", "AMD64") else [None]
#: Order -> what the NumPy reference must keep for x ≥ 0 and x < 0: the compiled float64 function's bounds.
#: Order 0 is digamma.
REFERENCE_BOUNDS = {0: (ULP["digamma"]["float64"],) * 2} | {
    n: (polygamma.ulp(n), 2 * polygamma.ulp(n)) for n in range(1, polygamma.TESTED_ORDER + 1)
}


@cache
def kernel(n: int, dtype: str, lanes: int = 0, fp: str = "ieee", cpu: str | None = None) -> Lowered:
    return compile_lowering(lambda b, x: b.polygamma(x, n), [dtype], lanes or FULL_LANES[dtype], fp, cpu)


def reference(n: int) -> Callable[[Array], Array]:
    if n == 0:
        return lambda x: OPS["digamma"].evaluate(x)
    return lambda x: OPS["polygamma"].evaluate(x, n=n)


def identical(a: Array, b: Array) -> bool:
    """Equal bit for bit, any NaN counting as equal to any other."""
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


# -- where to look ---------------------------------------------------------------------------------------------------
def positive(n: int, dtype: str) -> Array:
    """Random bits, the region of the sum, both sides of its end, arguments of extreme results."""
    rng, info = np.random.default_rng(n), np.finfo(dtype)
    overflow, underflow = 2.0 ** (-info.maxexp / (n + 1)), 2.0 ** (-info.minexp / n)
    parts = [
        np.abs(random_bits(dtype, 150, n)),
        rng.uniform(0, 3, 300),
        rng.uniform(0, 1.2 * polygamma.shift(n, dtype), 400),
        np.exp(rng.uniform(-30, 30, 150)),
        overflow * rng.uniform(0.5, 4, 100),
        underflow * rng.uniform(0.5, 4, 100),
        [info.max],
        np.abs(neighbours(range(1, polygamma.shift(n, dtype) + 1), dtype, 2)),
    ]
    with np.errstate(over="ignore"):
        x = np.concatenate([np.asarray(p, dtype) for p in parts])
    return x[np.isfinite(x) & (x > 0)]


def negative(dtype: str) -> Array:
    """The first poles from both sides at every distance, points half-way where the cosine vanishes, far ones."""
    rng = np.random.default_rng(5)
    near = -rng.integers(0, 9, 150) + np.exp(rng.uniform(-9, -1, 150)) * rng.choice([-1, 1], 150)
    parts = [-rng.uniform(0, 12, 400), near, -np.exp(rng.uniform(-6, 7, 100)), neighbours([0.5, 1.5, 7.5], dtype, 3)]
    x = np.concatenate([np.asarray(p, dtype) for p in parts])
    return x[(x < 0) & (x != np.rint(x))]


def reflected(n: int, x: Array, dtype: str) -> tuple[Array, Array]:
    """(exact values, the units in the last place of the larger term of the reflection; for ψ itself of 1 at least)."""
    with mpmath.workdps(50):
        exact = [mpmath.polygamma(n, mpmath.mpf(float(v))) for v in x]
        mirrored = [(-1) ** n * mpmath.polygamma(n, 1 - mpmath.mpf(float(v))) for v in x]
        largest = [max(abs(m), abs(e - m), n == 0) for e, m in zip(exact, mirrored, strict=True)]
        return extended(exact), np.spacing(np.array([float(v) for v in largest]).astype(dtype))


def exactly(n: int, x: Array) -> list[mpmath.mpf]:
    with mpmath.workdps(50):
        return [mpmath.polygamma(n, mpmath.mpf(float(v))) for v in x]


# -- error bounds ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EACH_ORDER)
def test_positive_arguments_keep_the_bound(n: int, dtype: str) -> None:
    x = positive(n, dtype)
    exact = exactly(n, x)
    for cpu in CPUS:
        errors = ulp_errors(kernel(n, dtype, cpu=cpu)(x), exact, dtype)
        assert errors.max() <= polygamma.ulp(n), (x[errors.argmax()], errors.max())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EACH_ORDER)
def test_the_reflection_keeps_twice_the_bound(n: int, dtype: str) -> None:
    x = negative(dtype)
    exact, unit = reflected(n, x, dtype)
    for cpu in CPUS:
        errors = np.abs(kernel(n, dtype, cpu=cpu)(x) - exact) / unit
        assert errors.max() <= 2 * polygamma.ulp(n), (x[errors.argmax()], errors.max())


@pytest.mark.parametrize(
    ("n", "bounds"),
    [pytest.param(n, b, marks=pytest.mark.nightly if n in (2, 4, 5) else ()) for n, b in REFERENCE_BOUNDS.items()],
)
def test_the_numpy_reference_keeps_the_same_bounds(n: int, bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(n)
    parts = [rng.uniform(0, 40, 500), np.exp(rng.uniform(-14, 14, 300)), neighbours([1.4616321449683622], "float64", 8)]
    x = np.concatenate(parts)
    x = x[x > 0]
    errors = ulp_errors(reference(n)(x), exactly(n, x), "float64")
    assert errors.max() <= bounds[0], (x[errors.argmax()], errors.max())
    y = negative("float64")
    y = y[y > -13]
    exact, unit = reflected(n, y, "float64")
    errors = np.abs(reference(n)(y) - exact) / unit
    assert errors.max() <= bounds[1], (y[errors.argmax()], errors.max())


def test_the_table_states_the_bound_of_the_tested_orders() -> None:
    assert polygamma.TESTED_ORDER == max(ORDERS)
    assert ULP["polygamma"] == dict.fromkeys(DTYPES, 2 * polygamma.ulp(polygamma.TESTED_ORDER))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_order_still_works(dtype: str) -> None:
    n = polygamma.LARGEST_ORDER[dtype]
    assert (2.0 * polygamma.shift(n, dtype)) ** (n + 1) < float(np.finfo(dtype).max)
    x = np.array([0.3, 0.9, 1.0, 2.5, n / 2, n - 0.5, n + 3, -0.3, -1.3, -2.5], dtype)
    exact = exactly(n, x)
    got = kernel(n, dtype, 1)(x)
    errors = ulp_errors(got, exact, dtype)
    assert errors[x > 0].max() <= polygamma.ulp(n)
    assert errors[(x < 0) & (x != np.rint(x)) & (x > -2)].max() <= 2 * polygamma.ulp(n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beyond", [False, True])
def test_other_orders_are_refused(dtype: str, beyond: bool) -> None:
    n = polygamma.LARGEST_ORDER[dtype] + 1 if beyond else 0
    with pytest.raises(CompileError, match=f"from 1 to .* not {n}"):
        lowering_text(lambda b, x: b.polygamma(x, n), [dtype], 1)


# -- special values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EACH_ORDER)
def test_values_at_poles_and_infinities(n: int, dtype: str) -> None:
    big, inf, nan = float(np.finfo(dtype).max), np.inf, np.nan
    x = np.array([0.0, -0.0, -1, -2, -7, -1e6, -big, inf, -inf, nan], dtype)
    if n % 2:
        want = np.array([inf, inf, inf, inf, inf, inf, inf, 0.0, nan, nan], dtype)
    else:
        want = np.array([-inf, inf, nan, nan, nan, nan, nan, -0.0, nan, nan], dtype)
    assert identical(kernel(n, dtype)(x), want)
    assert identical(kernel(n, dtype, 1)(x), want)
    assert identical(reference(n)(x), want)


@pytest.mark.parametrize("n", EACH_ORDER)
def test_scipy_agrees_where_its_values_are_limits(n: int) -> None:
    """SciPy takes −∞ for even n at every pole, where the sides differ, and +∞ for odd n at −∞."""
    x = np.array([0.0, np.inf, np.nan, *([-1.0, -2.0] if n % 2 else [])])
    assert identical(kernel(n, "float64")(x), scipy.special.polygamma(n, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EACH_ORDER)
def test_extreme_results_are_subnormal_and_infinite_where_they_must_be(n: int, dtype: str) -> None:
    x = positive(n, dtype)
    got, info = np.abs(kernel(n, dtype)(x)), np.finfo(dtype)
    assert np.isinf(got).any() and (got > float(info.max) / 1e6).any()
    assert (got < float(info.smallest_normal)).any()
    assert not np.isnan(got).any()


# -- the same everywhere ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3])
def test_lane_count_and_fp_mode_do_not_change_a_bit(n: int, dtype: str) -> None:
    # Shuffled, so that lanes with and without a reflection share a vector.
    x = np.random.default_rng(0).permutation(np.concatenate([positive(n, dtype), negative(dtype), specials(dtype)]))
    full = kernel(n, dtype)(x)
    assert identical(kernel(n, dtype, 1)(x), full)
    assert identical(kernel(n, dtype, 4)(x), full)
    assert identical(kernel(n, dtype, fp="fast")(x), full)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_library_is_called(n: int, dtype: str, tmp_path: Path) -> None:
    """On PTX an unresolved function shows as .extern; the intrinsics declared are those that are one instruction."""
    text, _ = lowering_text(lambda b, x: b.polygamma(x, n), [dtype], 1)
    declared = {line.split("@")[1].split(".")[1] for line in text.splitlines() if line.startswith("declare")}
    assert declared <= {"fmuladd", "fabs", "copysign", "roundeven"}
    assembly = ptx_of(text)
    assert ".extern" not in assembly
    if assembler := shutil.which("ptxas"):
        (tmp_path / "kernel.ptx").write_text(assembly)
        subprocess.run([assembler, "-arch=sm_90", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"], check=True)


# -- the constants ---------------------------------------------------------------------------------------------------
def test_bernoulli_numbers() -> None:
    for n in range(25):
        p, q = mpmath.bernfrac(n)
        assert polygamma.bernoulli(n) == Fraction(int(p), int(q))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EACH_ORDER)
def test_the_series_is_exact_from_the_shift_on_and_not_much_before(n: int, dtype: str) -> None:
    coefficients = polygamma.series_coefficients(n, polygamma.TERMS[dtype])

    def error(x: float) -> float:
        with mpmath.workdps(50):
            y = mpmath.mpf(x)
            series = 1 + n / (2 * y) + mpmath.polyval([mpmath.mpf(c) for c in coefficients] + [0], 1 / y**2)
            exact = abs(mpmath.polygamma(n, y)) * y**n / mpmath.factorial(n - 1)
            return float(abs(series / exact - 1))

    shift = polygamma.shift(n, dtype)
    assert error(shift) < FORMATS[dtype].epsilon / 16
    assert error(shift - 1.5) > FORMATS[dtype].epsilon / 64


@pytest.mark.parametrize("n", range(1, 9))
def test_the_numerator_of_the_cotangents_derivative(n: int) -> None:
    with mpmath.workdps(60):
        theta = mpmath.mpf("0.7")
        c, s = mpmath.cos(theta), mpmath.sin(theta)
        value = mpmath.polyval(polygamma.cotangent_numerator(n), c * c) * (1 if n % 2 else c) / s ** (n + 1)
        assert mpmath.almosteq((-1) ** n * value, mpmath.diff(mpmath.cot, theta, n), rel_eps=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sine_has_no_visible_error(dtype: str) -> None:
    coefficients = polygamma.sine_coefficients(polygamma.SINE_TERMS[dtype])
    with mpmath.workdps(40):
        half = mpmath.mpf(1) / 2
        sine = (1 + half**2 * mpmath.polyval([mpmath.mpf(c) for c in coefficients], half**2)) * mpmath.pi * half
        assert abs(sine - 1) < FORMATS[dtype].epsilon / 64
