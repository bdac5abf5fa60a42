"""Circular functions and their inverses: error bounds for every argument, special values, and what they promise."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest

from gradc.codegen.elementary import payne_hanek, trigonometric
from tests.elementary_harness import (
    FULL_LANES,
    ULP,
    Array,
    compile_binary,
    compile_unary,
    measure,
    module_text,
    neighbours,
    ptx,
    random_bits,
    specials,
    ulp_error,
)

DTYPES = ("float32", "float64")
#: A CPU of this architecture without fused multiply-add; None is the machine's own.
CPUS = [None, "x86-64"] if platform.machine() in ("x86_64", "AMD64") else [None]
EXTENDED = np.finfo(np.longdouble).nmant >= 63
needs_extended = pytest.mark.skipif(not EXTENDED, reason="long double is no wider than double here")

QUARTERS = [k * np.pi / 4 for k in (*range(1, 60), 4073, 4074, 4075, 4076, 2**20 + 1)]
EDGES = [0.5, 1.0, 2.0, 1e-8, 1e-4]
#: method -> (long double reference, mpmath reference, intervals, points to look around closely)
UNARY: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[tuple[float, float]], Sequence[float]]] = {
    "sin": (np.sin, mpmath.sin, [(-8, 8), (-6500, 6500), (-5e6, 5e6)], [*QUARTERS, 6400, 2**22]),
    "cos": (np.cos, mpmath.cos, [(-8, 8), (-6500, 6500), (-5e6, 5e6)], [*QUARTERS, 6400, 2**22]),
    "tan": (np.tan, mpmath.tan, [(-8, 8), (-6500, 6500), (-5e6, 5e6)], [*QUARTERS, 6400, 2**22]),
    "arcsin": (np.arcsin, mpmath.asin, [(-1, 1), (0.49, 0.6)], EDGES),
    "arccos": (np.arccos, mpmath.acos, [(-1, 1), (0.49, 0.6)], EDGES),
    "arctan": (np.arctan, mpmath.atan, [(-1, 1), (-4, 4), (0.49, 0.56)], EDGES),
}
CASES = [(name, dtype) for name in UNARY for dtype in DTYPES]
PERIODIC = ("sin", "cos", "tan")


def sample(name: str, dtype: str, count: int = 20000) -> Array:
    """All bit patterns alike, the intervals, and the critical points."""
    _, _, intervals, critical = UNARY[name]
    rng = np.random.default_rng(7)
    parts = [random_bits(dtype, count), specials(dtype), neighbours(critical, dtype, 40)]
    with np.errstate(over="ignore"):
        return np.concatenate([*parts, *[rng.uniform(low, high, count).astype(dtype) for low, high in intervals]])


def identical(a: Array, b: Array) -> bool:
    """Equal bit for bit, any NaN counting as equal to any other."""
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


# -- error bounds ----------------------------------------------------------------------------------------------------
@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_unary_functions_keep_their_bound(name: str, dtype: str, cpu: str | None) -> None:
    kernel = compile_unary(name, dtype, FULL_LANES[dtype], cpu=cpu)
    error, where = measure(kernel, UNARY[name][0], sample(name, dtype))
    assert error <= ULP[name][dtype], where


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_unary_functions_against_mpmath(name: str, dtype: str) -> None:
    x = np.concatenate([sample(name, dtype)[::577], random_bits(dtype, 100, 3)])
    x = x[np.isfinite(x) & (x != 0) & ((np.abs(x) <= 1) | (name not in ("arcsin", "arccos")))]
    with mpmath.workprec(1200):
        exact = [UNARY[name][1](mpmath.mpf(float(v))) for v in x]
        assert ulp_error(compile_unary(name, dtype, FULL_LANES[dtype])(x), exact, dtype) <= ULP[name][dtype]


def convergents(x: Any, limit: int) -> Iterator[int]:
    """The denominators below ``limit`` of the continued fraction of x, which must be given to enough bits."""
    old, new = 1, 0
    while True:
        whole = int(mpmath.floor(x))
        old, new = new, whole * new + old
        if new >= limit:
            return
        if new:
            yield new
        x = 1 / (x - whole)


def hardest(dtype: str) -> Array:
    """For each exponent, the numbers m·2^e that come nearest to a multiple of π/2 for their size."""
    digits, top = (24, 128) if dtype == "float32" else (53, 1024)
    found = []
    with mpmath.workprec(2400):
        for e in range(-digits, top - digits):
            factors = list(convergents(mpmath.mpf(2) ** (e + 1) / mpmath.pi, 2**digits))
            found += [np.ldexp(float(m), e) for m in factors[-3:]]
    return np.array([v for v in found if v < np.finfo(dtype).max], dtype)


@pytest.mark.sampled(2, each=("dtype",))
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_arguments_that_cancel_most(dtype: str, cpu: str | None) -> None:
    x = hardest(dtype)
    if dtype == "float64":
        assert 6381956970095103.0 * 2.0**797 in x  # the hardest (Muller, Elementary Functions)
    with mpmath.workprec(1400):
        for name in PERIODIC:
            exact = [UNARY[name][1](mpmath.mpf(float(v))) for v in x]
            got = compile_unary(name, dtype, FULL_LANES[dtype], cpu=cpu)(x)
            assert ulp_error(got, exact, dtype) <= ULP[name][dtype]


@needs_extended
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arctan2_keeps_its_bound(dtype: str, cpu: str | None) -> None:
    rng = np.random.default_rng(5)
    y = np.concatenate([random_bits(dtype, 40000, 1), rng.normal(size=60000).astype(dtype)])
    near = rng.choice([0.5, 1.0, 2.0, -0.5, -1.0, -2.0], 20000) * rng.uniform(0.999, 1.001, 20000)
    with np.errstate(over="ignore", invalid="ignore"):
        close = (y[-20000:] * near).astype(dtype)
    x = np.concatenate([random_bits(dtype, 40000, 2), rng.normal(size=40000).astype(dtype), close])
    error, where = measure(compile_binary("arctan2", dtype, FULL_LANES[dtype], cpu=cpu), np.arctan2, y, x)
    assert error <= ULP["arctan2"][dtype], where


# -- special values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arctan2_of_every_pair_of_special_values(dtype: str, cpu: str | None) -> None:
    y, x = (v.ravel() for v in np.meshgrid(specials(dtype), specials(dtype)))
    got, want = compile_binary("arctan2", dtype, FULL_LANES[dtype], cpu=cpu)(y, x), np.arctan2(y, x)
    assert identical(np.isnan(got), np.isnan(want))
    usable = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[usable]), np.signbit(want[usable]))
    assert np.all(np.abs(got[usable] - want[usable]) <= 2 * np.spacing(np.abs(want[usable])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_at_zeros_and_ends(dtype: str) -> None:
    zeros = np.array([0.0, -0.0], dtype)
    for name in ("sin", "tan", "arcsin", "arctan"):
        assert identical(compile_unary(name, dtype, FULL_LANES[dtype])(zeros), zeros)
    assert identical(compile_unary("cos", dtype, FULL_LANES[dtype])(zeros), np.ones(2, dtype))
    ends = np.array([1.0, -1.0], dtype)
    for name, function in (("arcsin", np.arcsin), ("arccos", np.arccos)):
        assert identical(compile_unary(name, dtype, FULL_LANES[dtype])(ends), function(ends))
    endless = np.array([np.inf, -np.inf], dtype)
    assert identical(compile_unary("arctan", dtype, FULL_LANES[dtype])(endless), np.arctan(endless))
    for name in PERIODIC:
        assert np.isnan(compile_unary(name, dtype, FULL_LANES[dtype])(endless)).all()
    beyond = np.nextafter(ends, endless)
    for name in ("arcsin", "arccos"):
        assert np.isnan(compile_unary(name, dtype, FULL_LANES[dtype])(beyond)).all()


@pytest.mark.parametrize("name", ["sin", "tan", "arcsin", "arctan"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_functions_are_odd_and_keep_subnormals(name: str, dtype: str) -> None:
    kernel, x = compile_unary(name, dtype, FULL_LANES[dtype]), sample(name, dtype, 2000)
    assert identical(kernel(-x), -kernel(x))
    tiny = np.arange(1, 1000).astype(dtype) * np.finfo(dtype).smallest_subnormal
    assert np.array_equal(kernel(tiny), tiny)


# -- the same everywhere ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_lane_count_and_fp_mode_do_not_change_a_bit(name: str, dtype: str) -> None:
    # Shuffled, so that large and small angles share a vector.
    x = np.random.default_rng(0).permutation(sample(name, dtype, 500))
    full = compile_unary(name, dtype, FULL_LANES[dtype])(x)
    assert identical(compile_unary(name, dtype, 1)(x), full)
    assert identical(compile_unary(name, dtype, 4)(x), full)
    assert identical(compile_unary(name, dtype, FULL_LANES[dtype], fp="fast")(x), full)


def test_the_reduction_of_large_angles_is_emitted_once() -> None:
    text = module_text("tan", "float64", 8, 1)
    assert text.count("define internal void @gradc_reduce_large_angle(") == 1
    assert "gradc_reduce_large_angle" not in module_text("arctan", "float64", 8, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "arity"), [*[(n, 1) for n in UNARY], ("arctan2", 2)])
def test_ptx_needs_no_library(name: str, arity: int, dtype: str, tmp_path: Any) -> None:
    text = ptx(name, dtype, arity)
    assert ".extern" not in text
    if assembler := shutil.which("ptxas"):
        (tmp_path / "kernel.ptx").write_text(text)
        subprocess.run([assembler, "-arch=sm_90", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"], check=True)


# -- the tables ------------------------------------------------------------------------------------------------------
def polynomial(table: dict[str, tuple[float, ...]], dtype: str, x: Any) -> Any:
    return mpmath.polyval([mpmath.mpf(float(np.dtype(dtype).type(c))) for c in table[dtype]], x)


#: (table, function that r + r³·P(r²), or 1 + r²·P(r²), stands for, the end of its interval, log2 of the stated errors)
TABLES: list[tuple[str, Callable[[Any], Any], float, tuple[float, float]]] = [
    ("SINE", mpmath.sin, np.pi / 4, (-27.8, -57.2)),
    ("COSINE", mpmath.cos, np.pi / 4, (-32.9, -59.8)),
    ("TANGENT", mpmath.tan, np.pi / 4, (-29.3, -56.8)),
    ("ARCTANGENT", mpmath.atan, 0.5, (-31.5, -57.9)),
    ("ARCSINE", mpmath.asin, 0.5, (-27.6, -58.8)),
]


@pytest.mark.parametrize("k", [0, 1], ids=DTYPES)
@pytest.mark.parametrize(("name", "function", "end", "stated"), TABLES, ids=[t[0] for t in TABLES])
def test_polynomials_have_their_stated_error(
    name: str, function: Callable[[Any], Any], end: float, stated: tuple[float, float], k: int
) -> None:
    table = getattr(trigonometric, name)
    with mpmath.workdps(40):
        points = [mpmath.mpf(end) * (i + 1) / 400 for i in range(400)]
        leading = [mpmath.mpf(1) if name == "COSINE" else r for r in points]
        values = [v + v * r * r * polynomial(table, DTYPES[k], r * r) for v, r in zip(leading, points, strict=True)]
        error = max(abs(v / function(r) - 1) for v, r in zip(values, points, strict=True))
    assert mpmath.log(error, 2) <= stated[k]


def test_constants_are_what_they_say() -> None:
    with mpmath.workprec(1400):
        for dtype, digits in (("float32", 24), ("float64", 53)):
            parts = trigonometric.HALF_PI[dtype]
            assert abs(sum(map(mpmath.mpf, parts)) - mpmath.pi / 2) < mpmath.mpf(2) ** (-2.5 * digits)
            largest = int(trigonometric.LIMIT[dtype] * 2 / np.pi) + 1
            for part in parts[:3]:
                numerator = part.as_integer_ratio()[0]
                assert (numerator * largest).bit_length() <= digits
            for k, (head, rest) in trigonometric.PI_QUARTERS[dtype].items():
                assert head == np.dtype(dtype).type(mpmath.pi * k / 4)
                assert abs(mpmath.mpf(head) + rest - mpmath.pi * k / 4) < mpmath.mpf(2) ** (2 - 2 * digits)
        limbs = payne_hanek.TURN
        turn = sum(mpmath.mpf(v) / 2 ** (payne_hanek.LIMB * (k - 1)) for k, v in enumerate(limbs))
        assert 0 <= 1 / (2 * mpmath.pi) - turn < mpmath.mpf(2) ** (-payne_hanek.LIMB * (len(limbs) - 2))
        # The last window starts at the first limb that the largest exponent leads to.
        assert (971 + 2 * payne_hanek.LIMB) // payne_hanek.LIMB + payne_hanek.WINDOW < len(limbs)
        assert abs(sum(map(mpmath.mpf, payne_hanek.TWO_PI)) - 2 * mpmath.pi) < mpmath.mpf(2) ** -103
