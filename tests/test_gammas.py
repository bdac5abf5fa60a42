"""Γ, B, ζ and what counts: error bounds, SciPy's values at poles, derivatives, tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import gradc as gc
from gradc import special
from gradc.node import OPS
from gradc.ops import gammas, zetas
from gradc.oracle.rules import derivative_faults
from tests.elementary_harness import Array, ptx_of
from tests.lowering_harness import lowering_text
from tests.op_cases import cases
from tests.written_harness import errors, exactly, hold, jitted, plain, single

INF, NAN = np.inf, np.nan
ORDINARY, MANY = 60, 2000


def _line(n: int, r: np.random.Generator) -> list[Array]:
    """All of the real line: moderate, huge and tiny numbers of both signs, some close to integers."""
    near = -r.integers(0, 40, n) + r.normal(size=n) * 10.0 ** r.uniform(-9, -3, n)
    tiny = 10.0 ** r.uniform(-37, -1, n)
    large = [r.uniform(12, 171, n), -r.uniform(12, 190, n)]
    (x,) = single(np.concatenate([r.uniform(-12, 12, 3 * n), *large, tiny, -tiny, near]))
    return [x[(x > 0) | (x != np.rint(x))]]


def _pairs(n: int, r: np.random.Generator) -> list[Array]:
    wide = 10.0 ** r.uniform(-30, 8, (2, n))
    return single(*np.concatenate([r.uniform(0, 12, (2, n)), r.uniform(-20, 20, (2, n)), wide], 1))


def _positive(n: int, r: np.random.Generator) -> list[Array]:
    return single(*np.concatenate([r.uniform(0, 12, (2, n)), 10.0 ** r.uniform(-30, 8, (2, n))], 1))


def _rising(n: int, r: np.random.Generator) -> list[Array]:
    """Steps of all sizes, from large numbers small ones."""
    return single(
        *np.concatenate([r.uniform(-20, 20, (2, n)), [10.0 ** r.uniform(-8, 6, n), r.uniform(-0.5, 6, n)]], 1)
    )


def _counts(n: int, r: np.random.Generator) -> list[Array]:
    whole = np.sort(r.integers(0, 200, (2, n)), axis=0)[::-1]
    return single(*np.concatenate([r.uniform(-3, 40, (2, n)), 10.0 ** r.uniform(-8, 3, (2, n)), whole], 1))


def _exponents(n: int, r: np.random.Generator) -> list[Array]:
    near = 1 + r.normal(size=n // 2) * 1e-4
    return single(np.concatenate([r.uniform(-0.6, 3, n), r.uniform(3, 60, n), -r.uniform(0.5, 150, n), near]))


def _places(n: int, r: np.random.Generator) -> list[Array]:
    return single(
        np.concatenate([1 + 10.0 ** r.uniform(-5, 2, n), r.uniform(1.1, 8, n)]), 10.0 ** r.uniform(-1.3, 4, 2 * n)
    )


def hurwitz(s: Any, q: Any, n: int = 0) -> Any:
    """The n-th derivative in s by Euler and Maclaurin's formula, to the relative precision that mpmath's has not."""

    def value(s: Any) -> Any:
        w = q + 40
        total = sum((q + k) ** -s for k in range(40)) + w ** (1 - s) / (s - 1) + w**-s / 2
        for k in range(1, 20):
            total += mpmath.bernoulli(2 * k) / mpmath.factorial(2 * k) * mpmath.rf(s, 2 * k - 1) * w ** (1 - s - 2 * k)
        return total

    return value(s) if n == 0 else mpmath.diff(value, s, n)


#: op -> exact function, where to look, digits
CASES: dict[str, tuple[Callable[..., Any], Callable[..., list[Array]], int]] = {
    "gamma": (mpmath.gamma, _line, 60),
    "rgamma": (mpmath.rgamma, _line, 60),
    "beta": (mpmath.beta, _pairs, 40),
    "betaln": (lambda a, b: mpmath.re(mpmath.log(abs(mpmath.beta(a, b)))), _positive, 60),
    "poch": (lambda x, n: mpmath.gammaprod([x + n], [x]), _rising, 60),
    "binom": (mpmath.binomial, _counts, 60),
    "riemann_zeta": (mpmath.zeta, _exponents, 40),
    "zetac": (lambda s: mpmath.zeta(s) - 1, _exponents, 60),
    "hurwitz_zeta": (hurwitz, _places, 40),
}  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [ORDINARY, pytest.param(MANY, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_against_mpmath(name, count):
    exact, sample, digits = CASES[name]
    n = count // 4 if "zeta" in name else count
    hold(name, exact, sample(n, np.random.default_rng(5)), digits)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("n", [1, 2])
def test_derivatives_of_zeta_in_the_exponent(n):
    r = np.random.default_rng(n)
    hold(
        "zeta_derivative",
        lambda s, q: hurwitz(s, q, n),
        single(r.uniform(1.05, 12, 25), 10.0 ** r.uniform(-1, 2, 25)),
        60,
        n=n,
    )


def test_hurwitz_left_of_zero():
    """Terms of both signs, which may cancel: 4 units of the largest one."""
    r = np.random.default_rng(1)
    s, q = single(r.integers(2, 9, 40), -r.uniform(0, 12, 40))
    got = OPS["hurwitz_zeta"].evaluate(s, q)
    with mpmath.workdps(40):
        for a, x, y in zip(s, q, got, strict=True):
            rows = [mpmath.mpf(x) + k for k in range(13)]
            exact = sum(v ** -int(a) for v in rows) + hurwitz(mpmath.mpf(a), mpmath.mpf(x) + 13)
            assert abs(y - exact) <= 4 * np.spacing(float(max(abs(v ** -int(a)) for v in rows)))
    np.testing.assert_array_equal(plain("hurwitz_zeta", 2)(s, q).round(6), got.round(6))


# -- SciPy's values ----------------------------------------------------------------------------------------------------
ONE = np.array([0.0, -0.0, 1, 2, -1, -2, -0.5, 0.5, 3, 23, INF, NAN, -170.5, -180.5, -400.5, 1e30])
TWO = np.array([
    (0, 0), (0, 1), (1, 0), (-1, 1), (-1, 2), (-1, 0.5), (-0.5, 0.5), (-2, 1.5), (-3, 2), (INF, 1), (1, INF), (NAN, 1),
    (-0.5, -0.5), (-2, -2), (5, 2), (52, 5), (3, 5), (-0.0, 1), (1e5, 3),
]).T  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["gamma", "rgamma", "zetac", "gammasgn", "beta", "poch", "binom", "betaln"])
def test_scipys_values_at_poles_and_beyond(name):
    mine, theirs = getattr(special, name), getattr(scipy.special, name)
    columns = [ONE] if name in ("gamma", "rgamma", "zetac", "gammasgn") else list(TWO)
    want = theirs(*columns)
    np.testing.assert_allclose(mine(*columns), want, rtol=1e-9)
    np.testing.assert_allclose(gc.jit(theirs)(*columns), want, rtol=1e-9)
    np.testing.assert_allclose(gc.vmap(theirs)(*columns), want, rtol=1e-9)
    narrow = [x[np.abs(want) < 1e30].astype(np.float32) for x in columns]
    assert gc.jit(theirs)(*narrow).dtype == np.float32


def test_zeta_has_scipys_values():
    s, q = np.array([
        (1, 1), (2, 0), (2, -1), (2, -0.5), (2.5, -0.5), (0.5, 1), (INF, 1), (INF, 0.5), (2, INF),
        (NAN, 1), (2, NAN), (0, 1), (3, -2.5), (4, 7.5),
    ]).T  # fmt: skip
    np.testing.assert_allclose(special.zeta(s, q), scipy.special.zeta(s, q), rtol=1e-13)
    np.testing.assert_allclose(gc.jit(special.zeta)(s, q), scipy.special.zeta(s, q), rtol=1e-13)
    x = np.array([0, 1, -1, -2, INF, -INF, NAN, -170.5, -300.5, -4])
    np.testing.assert_allclose(gc.jit(special.zeta)(x), scipy.special.zeta(x), rtol=1e-13)


def test_counts_are_whole_numbers_and_scipys():
    n, k = (v.ravel().astype(float) for v in np.meshgrid(np.arange(-2, 12), np.arange(-2, 12)))
    for name in ("comb", "perm"):
        mine, theirs = getattr(special, name), getattr(scipy.special, name)
        np.testing.assert_array_equal(mine(n, k), theirs(n, k))
        np.testing.assert_array_equal(gc.jit(mine)(n, k), theirs(n, k))
    n, k = n[(n >= 0) & (k >= 0)], k[(n >= 0) & (k >= 0)]
    np.testing.assert_array_equal(special.comb(n, k, repetition=True), scipy.special.comb(n, k, repetition=True))
    m = np.arange(-3, 20)
    np.testing.assert_array_equal(gc.jit(special.factorial)(m), scipy.special.factorial(m))
    exact = [scipy.special.factorial2(int(v), exact=True) for v in m]
    np.testing.assert_array_equal(gc.jit(special.factorial2)(m), exact)
    ends = np.array([300.0, 301.0, 302.0, INF, -2.0, -INF, np.nan])
    want = [float(scipy.special.factorial2(300, exact=True)), INF, INF, INF, 0.0, 0.0, np.nan]
    np.testing.assert_allclose(gc.jit(special.factorial2)(ends), want, rtol=1e-15)
    with pytest.raises(ValueError, match=r"scipy\.special\.comb"):
        special.comb(5, 2, exact=True)
    with pytest.raises(ValueError, match="d must be >= 1"):
        special.multigammaln(3.0, 0)
    a = np.array([4.0, 2.5])
    np.testing.assert_allclose(
        gc.jit(lambda a: special.multigammaln(a, 3))(a), scipy.special.multigammaln(a, 3), rtol=1e-14
    )


# -- derivatives -------------------------------------------------------------------------------------------------------
POINTS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "factorial": (special.factorial, [np.array([0.0, 3.0, 4.5])]),
    "factorial2": (special.factorial2, [np.array([0.0, 3.0, 6.0])]),
    "comb": (special.comb, [np.array([4.0, 5.5]), np.array([2.0, 0.5])]),
    "perm": (special.perm, [np.array([4.0, 5.5]), np.array([2.0, 0.5])]),
    "multigammaln": (lambda a: special.multigammaln(a, 2), [np.array([1.5, 4.0])]),
    "poch at zeros": (special.poch, [np.array([-1.0, -2.0, 0.3]), np.array([1.5, 0.5, 2.0])]),
    "binom at zeros": (special.binom, [np.array([2.0, 1.5]), np.array([4.0, 3.5])]),
    "rgamma at zeros": (special.rgamma, [np.array([0.0, -1.0, -4.0])]),
    "boxcox": (special.boxcox, [np.array([0.2, 1.5, 3.0]), np.array([0.0, 0.5, -1.2])]),
    "boxcox1p": (special.boxcox1p, [np.array([0.2, 1.5, -0.4]), np.array([0.0, 0.5, -1.2])]),
    "inv_boxcox": (special.inv_boxcox, [np.array([0.2, 1.5, -0.4]), np.array([0.0, 0.5, -1.2])]),
    "inv_boxcox1p": (special.inv_boxcox1p, [np.array([0.2, 1.5, -0.4]), np.array([0.0, 0.5, -1.2])]),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", POINTS)
def test_derivatives_of_all_operands(name):
    f, operands = POINTS[name]
    methods = ("symbolic", "forward", "reverse", "finite")[" " in name or name in ("factorial2",) :]
    report = gc.check_gradients(lambda *xs: f(*xs).sum(), *operands, methods=methods)
    assert report.ok, str(report)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["hurwitz_zeta", "zeta_derivative", "riemann_zeta", "zetac"])
def test_derivatives_of_zeta(name):
    for case in cases(OPS[name]):
        assert [f for f in derivative_faults(case.node(), case.arrays) if "SymPy" not in str(f)] == []


def test_symbolic_derivatives_of_hurwitz():
    f = lambda s, q: special.zeta(s, q).sum()
    assert gc.check_gradients(f, np.array([2.5, 4.0]), np.array([1.5, 0.3])).ok
    with pytest.raises(gc.TraceError, match="the SymPy derivative of riemann_zeta contains Derivative"):
        gc.grad(special.zeta, method="symbolic")(2.5)


def test_far_from_zero_values_are_those_of_the_reflection():
    """ζ is 0 at even numbers and has the sign of the sine elsewhere; Γ(x + n)/Γ(x) is xⁿ for huge x."""
    s = np.array([-1e10, -1e300, -3e6 - 1, -3e6 - 3])
    np.testing.assert_array_equal(special.zeta(s), [0, 0, -INF, INF])
    np.testing.assert_array_equal(special.zetac(s), [-1, -1, -INF, INF])
    np.testing.assert_allclose(special.poch([1e300, 1e20], [-1.0, 2.0]), [1e-300, 1e40], rtol=1e-12)
    np.testing.assert_array_equal(special.binom([0.0, 10.0, 5.0], [1e300, 1e300, 1e17]), [0, 0, 0])


def test_the_slope_of_zeta_in_all_of_its_ranges():
    s = np.array([-7.3, -1.0, -0.26, -0.2, 0.0, 0.6, 1.5, 4.0])
    exact = [float(mpmath.zeta(v, 1, 1)) for v in s]
    np.testing.assert_allclose(gc.grad(lambda s: special.zeta(s).sum())(s), exact, rtol=1e-13)


def test_beta_and_binomials_far_to_the_left():
    """Where Γ of large negative numbers would cancel; within the stated bounds, of every kind of reflection."""
    pairs = [(-1234.5, 2.25), (-1e5 - 0.25, 3.5), (-1500.25, -1000.5), (-1e8 + 0.25, 1e8 + 3), (-3e9 - 0.25, -0.125)]
    tops = [(-0.5, 1e10), (1.5, 1e10), (1e4, 2e4 + 0.5), (-1e10 - 0.5, 3.0)]
    for name, exact, rows in (
        ("betaln", lambda a, b: mpmath.log(abs(mpmath.beta(a, b))), pairs),
        ("beta", mpmath.beta, pairs[:2] + pairs[3:]),
        ("binom", mpmath.binomial, tops),
    ):
        columns = list(np.array(rows).T)
        want = exactly(exact, columns, 60)
        for got in (OPS[name].evaluate(*columns), jitted(name, columns)):
            assert errors(name, got, want, columns, "float64").max() <= OPS[name].bound("float64")
    np.testing.assert_allclose(special.binom([-0.5], [1e300]), [1e-150 / np.sqrt(np.pi)], rtol=1e-12)


def test_box_and_coxs_transform_is_smooth_at_zero():
    slope = gc.grad(lambda k: special.boxcox(3.0, k))
    assert slope(0.0) == pytest.approx(np.log(3) ** 2 / 2, rel=1e-15)
    assert gc.grad(slope)(0.0) == pytest.approx(np.log(3) ** 3 / 3, rel=1e-15)
    x, k = np.array([0.0, 0.2, 1.5, 3.0, 2.0]), np.array([2.0, 0.0, 0.5, -1.2, 1e-9])
    assert np.isnan(special.boxcox(1.0, NAN))
    np.testing.assert_array_equal(special.inv_boxcox([INF, -INF], 0.0), [INF, 0])
    for name in ("boxcox", "boxcox1p", "inv_boxcox", "inv_boxcox1p"):
        mine, theirs = getattr(special, name), getattr(scipy.special, name)
        np.testing.assert_allclose(gc.jit(theirs)(x, k), theirs(x, k), rtol=2e-15)
        np.testing.assert_allclose(mine(x, k), theirs(x, k), rtol=2e-15)


def test_logsumexp_gives_the_sign():
    a, b = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, -2.0], [-3.0, 0.5]])
    for axis in (None, 0, 1):
        for keepdims in (False, True):
            options: dict[str, Any] = {"axis": axis, "b": b, "keepdims": keepdims, "return_sign": True}
            want = scipy.special.logsumexp(a, **options)
            for got, right in zip(gc.jit(lambda a, o=options: special.logsumexp(a, **o))(a), want, strict=True):
                assert np.shape(got) == np.shape(right)
                np.testing.assert_allclose(got, right, rtol=1e-14)
    assert gc.check_gradients(lambda a: special.logsumexp(a, b=b, return_sign=True)[0], a).ok


# -- the same everywhere -----------------------------------------------------------------------------------------------
@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", CASES)
def test_lanes_do_not_know_their_neighbours(name):
    columns = CASES[name][1](12, np.random.default_rng(2))
    full = plain(name, len(columns))(*columns)
    np.testing.assert_array_equal(plain(name, len(columns), lanes=1)(*columns), full)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["gamma", "beta", "hurwitz_zeta"])
def test_no_library_is_called(name):
    arity = len(CASES[name][1](1, np.random.default_rng(0)))
    text, _ = lowering_text(OPS[name].lower, ["float64"] * arity, 1)
    declared = {line.split("@")[1].split(".")[1] for line in text.splitlines() if line.startswith("declare")}
    assert declared <= {"fmuladd", "fabs", "copysign", "roundeven", "floor", "sqrt", "fptosi", "fptoui"}
    assert ".extern" not in ptx_of(text)


# -- formulas ----------------------------------------------------------------------------------------------------------
@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("f", "shown"),
    [
        (scipy.special.gamma, "Γ(x)"), (lambda x: scipy.special.beta(x, 2.0), "B(x, 2)"), (special.zeta, "ζ(x)"),
        (lambda x: special.zeta(2.0, x), "ζ(2, x)"), (lambda x: scipy.special.binom(x, 2.0), "C(x, 2)"),
    ],
)  # fmt: skip
def test_formulas_have_the_names_of_textbooks(f, shown):
    assert f"L = {shown}\n" in str(gc.explain(f, 2.5))


# -- the tables --------------------------------------------------------------------------------------------------------
def fitted(function: Callable[[Any], Any], low: Any, high: Any, terms: int) -> list[float]:
    """Coefficients in the variable less the middle, the highest power first: how the tables were made."""
    with mpmath.workdps(60):
        middle, half = mpmath.mpf(low + high) / 2, mpmath.mpf(high - low) / 2
        return [float(c) for c in mpmath.chebyfit(lambda t: function(middle + t), [-half, half], terms)]


TABLES: dict[str, tuple[Any, Callable[[Any], Any], float, float]] = {
    "GAMMA_TWO": (
        gammas.GAMMA_TWO, lambda e: (mpmath.gamma(2 + e) - 1) / e if e else mpmath.digamma(2), -0.5, 0.5,
    ),
    "ZETA_MIDDLE": (
        zetas.ZETA_MIDDLE, lambda s: mpmath.zeta(s) - 1 / (s - 1) if s != 1 else +mpmath.euler, -0.5, 1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_what_their_fit_gives(name):
    table, function, low, high = TABLES[name]
    np.testing.assert_array_equal(table, fitted(function, low, high, len(table)))
