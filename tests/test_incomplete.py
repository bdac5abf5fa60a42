"""The incomplete gamma and beta functions and their inverses: error bounds, SciPy's values, derivatives, tables."""

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
from gradc.ops import incomplete_gamma
from gradc.oracle.rules import derivative_faults
from tests.elementary_harness import Array, ptx_of
from tests.lowering_harness import lowering_text
from tests.op_cases import cases
from tests.test_gammas import fitted
from tests.written_harness import hold, jitted, plain, single

INF, NAN = np.inf, np.nan
ORDINARY, MANY = 5, 400


def gamma_places(n: int, r: np.random.Generator) -> list[Array]:
    """Shapes and places of all sizes, on all sides of the boundaries between the ways of computing, x near a for large
    a among them."""
    a = 10.0 ** r.uniform(0.5, 5, n)
    pairs = [
        (r.uniform(0.01, 30, 2 * n), r.uniform(0.01, 45, 2 * n)),
        (10.0 ** r.uniform(-10, 0, n), 10.0 ** r.uniform(-30, 0.5, n)),
        (r.uniform(0.001, 3, n), r.uniform(0.3, 2.5, n)),
        (a, a * np.abs(1 + 3 * r.normal(size=n) / np.sqrt(a))),
        (a, a * np.exp(r.uniform(-1.4, 1.1, n))),
    ]
    return single(*np.concatenate(pairs, axis=1))


def rising_sum(ratio: Callable[[int], tuple[int, int]]) -> Any:
    """1 + r₁ + r₁·r₂ + … of positive ratios above over below, in whole numbers: ten times as fast as mpmath's own."""
    term = total = one = 1 << places()
    n = 0
    while term:
        n += 1
        above, below = ratio(n)
        term = term * above // below
        total += term
    return mpmath.mpf(total) / one


def places() -> int:
    """How many binary places whole numbers have where they stand for others."""
    return int(mpmath.mp.prec) + 96


def fixed(x: Any) -> int:
    return int(mpmath.floor(mpmath.ldexp(x, places())))


def lower(a: Any, x: Any) -> Any:
    """P by its series: mpmath's gammainc takes long for large a."""
    if x > a + 3 * mpmath.sqrt(a) + 3:
        return 1 - upper(a, x)
    shape, place, unit = fixed(a), fixed(x), fixed(1)
    total = rising_sum(lambda n: (place, shape + n * unit))
    return mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a + 1)) * total


def upper(a: Any, x: Any) -> Any:
    """Q: by the continued fraction far off, by mpmath for small a."""
    if x <= a + 3 * mpmath.sqrt(a) + 3:
        return 1 - lower(a, x) if a > 30 else mpmath.gammainc(a, x, mpmath.inf, regularized=True)
    b = x + 1 - a
    d = change = total = 1 / b
    n = 0
    while abs(change) > mpmath.eps * total:
        n += 1
        b += 2
        d = 1 / (n * (a - n) * d + b)
        change *= b * d - 1
        total += change
    return mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a)) * total


def density(a: Any, x: Any) -> Any:
    return mpmath.exp((a - 1) * mpmath.log(x) - x - mpmath.loggamma(a))


def shares(n: int, r: np.random.Generator) -> list[Array]:
    """Shapes and shares; what float32 holds, to 1 less a share too."""
    a, p = (
        np.concatenate([10.0 ** r.uniform(-1.5, 0.5, n), 10.0 ** r.uniform(0, 2.5, n)]),
        r.uniform(0.001, 0.999, 2 * n),
    )
    p[::4] = 10.0 ** r.uniform(-25, -3, len(p[::4]))
    return single(a, p)


def inverse(name: str, share: Callable[..., Any], slope: Callable[..., Any]) -> Callable[..., Any]:
    """What the op gives, after a step of Newton's method in mpmath, which doubles the digits."""

    def value(*operands: Any) -> Any:
        *shape, p = operands
        x = mpmath.mpf(float(OPS[name].evaluate(*[np.float64(float(v)) for v in operands])))
        return x - (share(*shape, x) - p) / slope(*shape, x)

    return value


def beta_places(n: int, r: np.random.Generator) -> list[Array]:
    """Shapes of all sizes, and places near the mean and far from it."""
    a, b = 10.0 ** r.uniform(1.3, 2.7, (2, n))
    mean = a / (a + b)
    triples = [
        (*r.uniform(0.01, 19, (2, 2 * n)), r.uniform(0, 1, 2 * n)),
        (*10.0 ** r.uniform(-8, 0, (2, n)), r.uniform(0, 1, n)),
        (10.0 ** r.uniform(-4, 1.2, n), 10.0 ** r.uniform(1, 2.5, n), 10.0 ** r.uniform(-6, 0, n)),
        (a, b, np.clip(mean + 2 * r.normal(size=n) * np.sqrt(mean * (1 - mean) / (a + b)), 0.001, 0.999)),
        (*r.uniform(20, 300, (2, n)), r.uniform(0.01, 0.99, n)),
    ]
    columns = single(*np.concatenate(triples, axis=1))
    return [x[(columns[2] > 0) & (columns[2] < 1)] for x in columns]


def beta_lower(a: Any, b: Any, x: Any) -> Any:
    """I by the series of positive terms x^a(1 − x)^b/(a·B)·Σ (a + b)ₙ/(a + 1)ₙ·xⁿ, on the side that is shorter."""
    if x > a / (a + b):
        return 1 - beta_lower(b, a, 1 - x)
    both, first, place, unit = fixed(a + b), fixed(a), fixed(x), fixed(1)
    total = rising_sum(lambda n: ((both + (n - 1) * unit) * place // unit, first + n * unit))
    return mpmath.exp(a * mpmath.log(x) + b * mpmath.log1p(-x)) / (a * mpmath.beta(a, b)) * total


def beta_upper(a: Any, b: Any, x: Any) -> Any:
    return beta_lower(b, a, 1 - x)


def beta_density(a: Any, b: Any, x: Any) -> Any:
    return mpmath.exp((a - 1) * mpmath.log(x) + (b - 1) * mpmath.log1p(-x)) / mpmath.beta(a, b)


def beta_shares(n: int, r: np.random.Generator) -> list[Array]:
    a, p = shares(n, r)
    return [a, *single(10.0 ** r.uniform(-1, 2.5, a.size)), p]


#: op -> exact function, where to look, digits
CASES: dict[str, tuple[Callable[..., Any], Callable[..., list[Array]], int]] = {
    "gammainc": (lower, gamma_places, 40),
    "gammaincc": (upper, gamma_places, 40),
    "gamma_density": (density, gamma_places, 40),
    "gammaincinv": (inverse("gammaincinv", lower, density), shares, 50),
    "gammainccinv": (inverse("gammainccinv", upper, lambda a, x: -density(a, x)), shares, 50),
    "betainc": (beta_lower, beta_places, 60),
    "betaincc": (beta_upper, beta_places, 60),
    "beta_density": (beta_density, beta_places, 60),
    "betaincinv": (inverse("betaincinv", beta_lower, beta_density), beta_shares, 60),
    "betainccinv": (inverse("betainccinv", beta_upper, lambda *p: -beta_density(*p)), beta_shares, 60),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("count", [ORDINARY, pytest.param(MANY, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_against_mpmath(name, count):
    exact, sample, digits = CASES[name]
    hold(name, exact, sample(count if "inv" not in name else count // 2, np.random.default_rng(5)), digits)


def test_a_hundred_million_and_more():
    """By Temme's expansion in mpmath's numbers: of P for x within some standard deviations of a."""
    a, steps = np.array([1e8, 1e12, 1e15]), np.array([-3.0, 0.0, 2.0])
    x = a + steps * np.sqrt(a)
    with mpmath.workdps(60):
        exact = []
        for shape, place in zip(map(mpmath.mpf, a), map(mpmath.mpf, x), strict=True):
            mu = (place - shape) / shape
            eta = mpmath.sign(mu) * mpmath.sqrt(2 * (mu - mpmath.log1p(mu)))
            first = 1 / mu - 1 / eta if mu else -mpmath.mpf(1) / 3
            rest = mpmath.exp(-shape * eta**2 / 2) / mpmath.sqrt(2 * mpmath.pi * shape) * first
            exact.append(mpmath.erfc(-eta * mpmath.sqrt(shape / 2)) / 2 - rest)
        want = np.array([float(v) for v in exact])
    np.testing.assert_allclose(OPS["gammainc"].evaluate(a, x), want, rtol=1e-14)
    np.testing.assert_allclose(OPS["gammaincc"].evaluate(a, x), 1 - want, rtol=1e-14)


# -- SciPy's values ----------------------------------------------------------------------------------------------------
GAMMA_ENDS = np.array([
    (0, 0), (0, 1), (1, 0), (-1, 1), (INF, 1), (1, INF), (INF, INF), (1, -1), (NAN, 1), (0, NAN), (0, INF), (0, -1),
    (-0.5, 1), (1, -0.0), (3, 2), (1e-300, 1e-300), (1e300, 1), (1, 1e300),
]).T  # fmt: skip
SHARE_ENDS = np.array([
    (0, 0), (0, 1), (1, 0), (1, 1), (2, 0.5), (0, 0.5), (-1, 0.5), (INF, 0.5), (1, -0.1), (1, 1.1), (NAN, 0.5),
    (0.01, 1e-5),
]).T  # fmt: skip
BETA_ENDS = np.array([
    (0, 0, 0.5), (0, 1, 0.5), (1, 0, 0.5), (1, 1, 0), (1, 1, 1), (1, 1, -1), (1, 1, 2), (INF, 1, 0.5), (1, INF, 0.5),
    (INF, INF, 0.5), (-1, 1, 0.5), (0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 0, 0), (NAN, 1, 0.5), (0, 0, 0), (0, 0, 1),
]).T  # fmt: skip
ENDS: dict[str, Array] = {
    **dict.fromkeys(("betainc", "betaincc", "betaincinv", "betainccinv"), BETA_ENDS),
    "gammainc": GAMMA_ENDS, "gammaincc": GAMMA_ENDS, "gammaincinv": SHARE_ENDS, "gammainccinv": SHARE_ENDS,
}  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ENDS)
def test_scipys_values_at_the_ends(name):
    mine, theirs, columns = getattr(gc.special, name), getattr(scipy.special, name), ENDS[name]
    want = theirs(*columns)
    np.testing.assert_allclose(mine(*columns), want, rtol=1e-12)
    np.testing.assert_allclose(gc.jit(theirs)(*columns), want, rtol=1e-12)
    np.testing.assert_allclose(gc.vmap(theirs)(*columns), want, rtol=1e-12)
    assert gc.jit(theirs)(*[x[:2].astype(np.float32) for x in columns]).dtype == np.float32


# -- derivatives -------------------------------------------------------------------------------------------------------
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [name for name in CASES if OPS[name].public])
def test_derivatives_in_all_operands(name):
    """Those in the shapes among them, against differences."""
    for case in cases(OPS[name], shape=(2,)):
        assert [f for f in derivative_faults(case.node(), case.arrays) if "SymPy" not in str(f)] == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["gammainc", "betainc"])
def test_second_derivatives_in_a_shape(name):
    columns = [np.array([2.5, 0.7]), np.array([1.3, 3.0]), np.array([0.3, 0.6])]
    columns = columns if name.startswith("beta") else columns[::2]
    slope = gc.grad(lambda *xs: getattr(gc.special, name)(*xs).sum(), argnums=0)
    report = gc.check_gradients(lambda *xs: slope(*xs).sum(), *columns, methods=("forward", "reverse", "finite"))
    assert report.ok, str(report)


def test_how_i_moves_with_its_shapes():
    """Against differences in mpmath, to 10⁻¹² of 1."""
    r = np.random.default_rng(3)
    a, b = single(*10.0 ** r.uniform(-1.5, 3, (2, 6)))
    x = np.clip(a / (a + b) * np.exp(r.normal(size=6) * np.sqrt(1 / a + 1 / b)), 0.01, 0.99)
    for i, j in ((1, 0), (0, 1), (1, 1)):
        got = jitted("beta_moment", (a, b, x), i=i, j=j)
        for k, (point, found) in enumerate(zip(zip(a, b, x, strict=True), got, strict=True)):
            with mpmath.workdps(40):
                exact = mpmath.diff(beta_lower, tuple(map(mpmath.mpf, point)), (i, j, 0))
            assert abs(found - exact) <= 1e-12, (k, point, found, exact)


def test_derivatives_at_the_ends():
    """To second order, those of polynomials times e⁻ˣ, and of polynomials; nothing moves there with the shape."""
    place, shape = np.array([0.0, INF]), np.array([2.5, 2.5])
    slope = gc.grad(special.gammainc, argnums=1)
    bend = gc.vmap(gc.grad(slope, argnums=1))
    np.testing.assert_array_equal(bend(np.array([1.0, 2, 3, 4, 1.5]), np.zeros(5)), [-1, 1, 0, 0, INF])
    np.testing.assert_array_equal(gc.vmap(gc.grad(special.gammainc))(shape, place), [0, 0])
    np.testing.assert_array_equal(gc.vmap(gc.grad(slope))(shape, place), [0, 0])
    third = gc.grad(gc.grad(slope, argnums=1), argnums=1)
    np.testing.assert_array_equal([third(a, 0.0) for a in (2.0, 3.0)], [-2, 1])
    ends = np.array([0.0, 1.0])
    bend = gc.vmap(gc.grad(gc.grad(special.betainc, argnums=2), argnums=2), in_axes=(None, None, 0))
    np.testing.assert_allclose(bend(1.0, 2.0, ends), [-2, -2], rtol=1e-14)
    np.testing.assert_allclose(bend(2.0, 2.0, ends), [6, -6], rtol=1e-14)
    np.testing.assert_allclose(bend(3.0, 1.0, ends), [0, 6], rtol=1e-14)


def test_ends_that_are_places_of_a_share_do_not_move_with_a_shape():
    """To second order: 0 is the place of the share 0 whatever the shapes, and 1 is that of the share 1."""
    for name in ("betaincinv", "betainccinv", "gammaincinv", "gammainccinv"):
        f, beta = getattr(special, name), name.startswith("beta")
        shares = np.array([0.0, 1.0] if beta else [float("ccinv" in name)])
        shapes = (np.array([0.5, 1.0, 3.0])[:, None], np.array([2.0]))[: 1 + beta]
        total = lambda *given, f=f, shares=shares: np.sum(f(*given, shares))
        slopes = gc.grad(total, tuple(range(len(shapes))))
        for values in (slopes(*shapes), gc.jacobian(slopes, 0)(*shapes), gc.jvp(total, shapes, shapes)[1]):
            for value in values if isinstance(values, tuple) else (values,):
                np.testing.assert_array_equal(value, np.zeros_like(value))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["gammainc", "gammaincc", "betainc"])
def test_symbolic_derivatives_in_the_place(name):
    f, shapes = getattr(gc.special, name), (2.5,) * (1 + name.startswith("beta"))
    assert gc.check_gradients(lambda x: f(*shapes, x).sum(), np.array([0.7, 0.2])).ok
    with pytest.raises(gc.TraceError, match="SymPy derivative"):
        gc.grad(lambda a: f(a, *shapes[1:], 0.5), method="symbolic")(1.5)


# -- the same everywhere -----------------------------------------------------------------------------------------------
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["gammainc", "betainc", "gammaincinv"])
def test_lanes_do_not_know_their_neighbours(name):
    columns = CASES[name][1](8, np.random.default_rng(2))
    full = plain(name, len(columns))(*columns)
    np.testing.assert_array_equal(plain(name, len(columns), lanes=1)(*columns), full)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["gammaincinv", "betaincinv"])
def test_no_library_is_called(name):
    """The inverses have the others inside."""
    arity = len(CASES[name][1](1, np.random.default_rng(0)))
    text, _ = lowering_text(OPS[name].lower, ["float64"] * arity, 1)
    declared = {line.split("@")[1].split(".")[1] for line in text.splitlines() if line.startswith("declare")}
    assert declared <= {"fmuladd", "fabs", "copysign", "roundeven", "floor", "sqrt", "fptosi", "fptoui"}
    assert ".extern" not in ptx_of(text)


def test_the_fit_of_the_scaled_error_function():
    def function(t: Any) -> Any:
        z = 3 * (1 + t) / (1 - t)
        return (1 + 2 * z) * mpmath.exp(z * z) * mpmath.erfc(z)

    table = incomplete_gamma.ERFCX
    np.testing.assert_allclose(table, fitted(function, mpmath.mpf(-1), mpmath.mpf(37) / 43, len(table)), rtol=1e-6)


def test_temmes_coefficients_are_the_published_ones():
    """The first of each order, as in table 1 of DiDonato and Morris (ACM TOMS 12, 1986)."""
    first = [row[0] for row in incomplete_gamma.temme_coefficients()[:4]]
    np.testing.assert_allclose(first, [-1 / 3, -1 / 540, 25 / 6048, 101 / 155520], rtol=1e-15)


def test_slopes_in_small_shapes_do_not_cancel():
    """I(a, 1, x) = xᵃ and 1 − I(1, b, x) = (1 − x)ᵇ: their derivatives in the shape are those times a logarithm."""
    shapes = np.array([1e-300, 1e-20, 1e-10, 1e-3, 0.3, 0.99, 1.0, 2.5])[:, None]
    places = np.array([1e-300, 1e-30, 1e-11, 1e-4, 0.2, 0.499, 0.7])[None]
    s, x = (np.ascontiguousarray(v) for v in np.broadcast_arrays(shapes, places))
    ones = np.ones_like(s)
    for log, power, slope in (
        (np.log(x), x**s, OPS["beta_moment"].evaluate(s, ones, x, i=1, j=0)),
        (np.log1p(-x), (1 - x) ** s, -OPS["beta_moment"].evaluate(ones, s, x, i=0, j=1)),
    ):
        assert (np.abs(slope - power * log) < 1e-12 * np.maximum(1, np.abs(log))).all()
