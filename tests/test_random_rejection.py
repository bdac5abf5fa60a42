"""Draws by rejection: the right distribution, the same interpreted and compiled, and the derivative of a number whose
place in its distribution is held.

Distributions are asked at few numbers here; `test_many_numbers_have_their_distribution` (nightly) asks all at many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats

import gradc as gc
from gradc.node import OPS
from gradc.ops.elementwise import apply

R = gc.random
KEY = R.key(2024)
SHAPES = (0.05, 0.5, 1.0, 3.0, 50.0)

#: draws by name, and SciPy's distribution of each
CONTINUOUS: dict[str, tuple[Callable[[Any, int], Any], Any]] = {
    "uniform": (lambda k, n: R.uniform(k, (n,), float, -2.0, 3.0), stats.uniform(-2, 5)),
    "normal": (lambda k, n: R.normal(k, (n,)), stats.norm()),
    "normal, float32": (lambda k, n: R.normal(k, (n,), np.float32), stats.norm()),
    "truncated_normal": (lambda k, n: R.truncated_normal(k, -1.0, 2.5, (n,)), stats.truncnorm(-1, 2.5)),
    "truncated_normal, far": (lambda k, n: R.truncated_normal(k, 8.0, 9.0, (n,)), stats.truncnorm(8, 9)),
    "truncated_normal, farther": (
        lambda k, n: -R.truncated_normal(k, -np.inf, -36.0, (n,)), stats.truncnorm(36, np.inf)
    ),
    "truncated_normal, float32": (
        lambda k, n: R.truncated_normal(k, 6.0, np.inf, (n,), np.float32), stats.truncnorm(6, np.inf)
    ),
    "exponential": (lambda k, n: R.exponential(k, (n,)), stats.expon()),
    "laplace": (lambda k, n: R.laplace(k, (n,)), stats.laplace()),
    "cauchy": (lambda k, n: R.cauchy(k, (n,)), stats.cauchy()),
    "logistic": (lambda k, n: R.logistic(k, (n,)), stats.logistic()),
    "gumbel": (lambda k, n: R.gumbel(k, (n,)), stats.gumbel_r()),
    "gumbel, high": (lambda k, n: R.gumbel(k, (n,), np.float32, "high"), stats.gumbel_r()),
    **{f"gamma({a})": (lambda k, n, a=a: R.gamma(k, a, (n,)), stats.gamma(a)) for a in SHAPES},
    "loggamma": (lambda k, n: R.loggamma(k, 0.01, (n,)), stats.loggamma(0.01)),
    "gamma, float32": (lambda k, n: R.gamma(k, np.float32(2.5), (n,), np.float32), stats.gamma(2.5)),
    "beta": (lambda k, n: R.beta(k, 0.7, 2.5, (n,)), stats.beta(0.7, 2.5)),
    "dirichlet": (lambda k, n: R.dirichlet(k, np.array([1.0, 2.0, 0.5]), (n,))[:, 1], stats.beta(2, 1.5)),
    "chisquare": (lambda k, n: R.chisquare(k, 3.0, (n,)), stats.chi2(3)),
    "student_t": (lambda k, n: R.student_t(k, 4.0, (n,)), stats.t(4)),
    "multivariate_normal": (
        lambda k, n: R.multivariate_normal(k, np.array([1.0, 0.0]), np.array([[4.0, 1.0], [1.0, 2.0]]), (n,))[:, 0],
        stats.norm(1, 2),
    ),
    "multivariate_normal, singular": (
        lambda k, n: R.multivariate_normal(k, np.zeros(3), np.outer([1.0, 2, 3], [1, 2, 3]), (n,), method="eigh")[:, 1],
        stats.norm(0, 2),
    ),
    "orthogonal": (lambda k, n: R.orthogonal(k, 3, (n,))[:, 1, 2], stats.uniform(-1, 2)),  # Archimedes
}
DISCRETE: dict[str, tuple[Callable[[Any, int], Any], Any]] = {
    "randint": (lambda k, n: R.randint(k, (n,), -3, 9), stats.randint(-3, 9)),
    "bernoulli": (lambda k, n: R.bernoulli(k, 0.3, (n,)), stats.bernoulli(0.3)),
    "categorical": (
        lambda k, n: R.categorical(k, np.log([0.2, 0.3, 0.5]), shape=(n,)),
        stats.rv_discrete(values=([0, 1, 2], [0.2, 0.3, 0.5])),
    ),
    "choice": (
        lambda k, n: R.choice(k, 3, (n,), p=np.array([0.2, 0.3, 0.5])),
        stats.rv_discrete(values=([0, 1, 2], [0.2, 0.3, 0.5])),
    ),
    **{f"poisson({m})": (lambda k, n, m=m: R.poisson(k, m, (n,)), stats.poisson(m)) for m in (0.1, 3.0, 9.9, 10, 300)},
    **{
        f"binomial({m}, {p})": (lambda k, n, m=m, p=p: R.binomial(k, m, p, (n,)), stats.binom(m, p))
        for m, p in ((10, 0.3), (10, 0.8), (100, 0.5), (1000, 0.9), (10**6, 3e-6))
    },
}  # fmt: skip


def _chance(name: str, key: Any, count: int) -> float:
    """How probable numbers as unlike their distribution as these are: Kolmogorov and Smirnov's, or Pearson's test."""
    if name in CONTINUOUS:
        draw, distribution = CONTINUOUS[name]
        return float(stats.kstest(np.asarray(draw(key, count), float), distribution.cdf).pvalue)
    draw, distribution = DISCRETE[name]
    found = np.asarray(draw(key, count)).astype(int)
    values = np.arange(found.min(), found.max() + 1)
    expected = distribution.pmf(values) * count
    seen = np.array([np.count_nonzero(found == v) for v in values])
    often = expected >= 8
    cells = np.append(seen[often], count - seen[often].sum()), np.append(expected[often], count - expected[often].sum())
    kept = cells[1] > 1e-9
    return float(stats.chi2.sf(np.sum((cells[0] - cells[1])[kept] ** 2 / cells[1][kept]), max(kept.sum() - 1, 1)))


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_numbers_have_their_distribution(name):
    """Of 35 such tests with keys that stay, none is to find what happens once in a thousand times."""
    assert _chance(name, KEY, 2000) > 1e-3


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_many_numbers_have_their_distribution(name):
    chances = [_chance(name, key, 200_000) for key in R.split(R.key(7), 8)]
    assert min(chances) > 1e-5 and stats.combine_pvalues(chances).pvalue > 1e-5, chances


@pytest.mark.nightly
def test_neighbouring_keys_and_places_are_uncorrelated():
    n = 100_000
    draws = [R.normal(R.key(s), (n,)) for s in range(20)] + [R.normal(k, (n,)) for k in R.split(R.key(0), 20)]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / np.sqrt(n)
    for lag in (1, 2, 16, 1024):
        assert abs(np.corrcoef(draws[0][lag:], draws[0][:-lag])[0, 1]) < 5 / np.sqrt(n)


def test_matrices_are_orthogonal():
    for n, m in ((4, None), (3, 5), (5, 3), (1, 1), (0, 2)):
        q = R.orthogonal(KEY, n, (6,), m=m)
        small = q @ q.swapaxes(-1, -2) if n <= (m or n) else q.swapaxes(-1, -2) @ q
        np.testing.assert_allclose(small, np.broadcast_to(np.eye(small.shape[-1]), small.shape), atol=1e-14)


# -- the same however it is computed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_compiled_draws_are_those_of_the_reference(dtype):
    """Decisions are the same; what is computed of the accepted numbers differs by the roundings of logarithms."""
    a = np.concatenate([np.geomspace(1e-3, 1e5, 200), [0.5, 1.0, np.nan, 0.0, np.inf, -1.0]]).astype(dtype)
    found, plain = gc.jit(lambda k, a: R.loggamma(k, a, None, dtype))(KEY, a), R.loggamma(KEY, a[:202], None, dtype)
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(found[:202] - plain) <= 40 * eps * (1 + np.abs(plain)))
    assert np.isnan(found[202]) and found[203] == -np.inf and found[204] == np.inf and np.isnan(found[205])
    some = a[(a > 0.5) & (a < np.inf)]
    found, plain = gc.jit(lambda k, a: R.gamma(k, a, None, dtype))(KEY, some), R.gamma(KEY, some, None, dtype)
    assert np.all(np.abs(found - plain) <= 40 * eps * plain * (1 + np.abs(np.log(plain))))


def test_compiled_counts_are_those_of_the_reference():
    means = np.concatenate([np.linspace(0, 12, 200), np.geomspace(10, 1e9, 200)])
    program = gc.jit(lambda k, m: R.poisson(k, m, m.shape))
    assert np.array_equal(program(KEY, means), R.poisson(KEY, means))
    assert program(KEY, np.array([np.nan, -1.0, np.inf])).tolist() == [-1, -1, -1]
    trials, chances = np.repeat([0.0, 1, 7, 40, 1e3, 1e7], 50), np.tile(np.linspace(0, 1, 50), 6)
    program = gc.jit(lambda k, n, p: R.binomial(k, n, p))
    found = program(KEY, trials, chances)
    assert np.array_equal(found, R.binomial(KEY, trials, chances)) and np.all((found >= 0) & (found <= trials))
    assert np.isnan(program(KEY, np.array([-1.0, 5, 5]), np.array([0.5, 1.5, np.nan]))).all()


def test_draws_are_the_same_for_any_number_of_threads_and_in_batches():
    keys = R.split(KEY, 4)
    for draw in (lambda k: R.gamma(k, 0.7, (30_000,)), lambda k: R.poisson(k, 20.0, (30_000,))):
        one, two = (gc.jit(draw, threads=t)(KEY) for t in (1, 2))
        assert np.array_equal(one, two)
        assert np.allclose(gc.vmap(draw)(keys)[2], draw(keys[2]), rtol=1e-13)


# -- derivatives -------------------------------------------------------------------------------------------------------


def _slope(a: float, y: float) -> float:
    """d log x/da with F(a, x) held, by mpmath."""
    with mpmath.workdps(60):
        x = mpmath.exp(mpmath.mpf(y))
        density = mpmath.exp(a * mpmath.mpf(y) - x) / mpmath.gamma(a)
        return float(
            -mpmath.diff(lambda s: mpmath.gammainc(s, 0, x, regularized=True), a, h=mpmath.mpf(10) ** -20) / density
        )


def test_the_derivative_of_a_gamma_number_is_implicit():
    """In float64 to 10⁻¹¹ and better for shapes from 0.05 to 1,000."""
    random = np.random.default_rng(0)
    for a in (0.05, 0.3, 0.9, 1.0, 2.0, 7.5, 40.0, 1000.0):
        y = np.log(random.gamma(a, size=6) + 1e-300)
        y = np.concatenate([y[y > -40], np.log([a / 4, a + 5 * np.sqrt(a) + 2])])
        want = np.array([_slope(a, v) for v in y])
        shapes = np.full(y.shape, a)
        for found in (
            OPS["gamma_moment"].evaluate(shapes, y, n=1),
            gc.jit(lambda s, y: apply(OPS["gamma_moment"], s, y, n=1))(shapes, y),
        ):
            assert np.max(np.abs(found / want - 1)) < 1e-11, (a, y, found, want)
        narrow = gc.jit(lambda s, y: apply(OPS["gamma_moment"], s, y, n=1))(shapes.astype("f4"), y.astype("f4"))
        assert np.max(np.abs(narrow / want - 1)) < 1e-3 and narrow.dtype == np.float32


def test_derivatives_of_the_derivative_are_those_of_the_integral():
    a, y = np.array([0.4, 1.5, 6.0, 30.0]), np.array([-1.0, 0.9, 1.2, 3.6])
    for n in (1, 2):

        def moment(a: Any, y: Any, n: int = n) -> Any:
            return np.sum(apply(OPS["gamma_moment"], a, y, n=n))

        for which in (0, 1):
            slope = gc.grad(moment, argnums=which)(a, y)
            h = 1e-5
            step = [np.array([h, 0.0])[which], np.array([0.0, h])[which]]
            both = [OPS["gamma_moment"].evaluate(a + s * step[0], y + s * step[1], n=n) for s in (1, -1)]
            np.testing.assert_allclose(slope, (both[0] - both[1]) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_draws_differentiate_in_both_modes_and_compiled(mode):
    """Expectations move as they do in closed form: E g = a, E g/(g + h) = a/(a + b)."""
    n, alpha = 4000, np.array([1.0, 2.0])
    for mean, at, want in (
        (lambda a: np.mean(R.gamma(KEY, a, (n,))), 2.5, 1.0),
        (lambda a: np.mean(R.beta(KEY, a, 2.0, (n,))), 3.0, 2.0 / 25),
        (lambda a: np.mean(R.chisquare(KEY, a, (n,))), 3.0, 1.0),
        (lambda a: np.mean(R.student_t(KEY, a, (n,)) ** 2), 12.0, -2.0 / 100),
        (lambda a: np.mean(R.dirichlet(KEY, a * alpha + alpha[::-1], (n,))[:, 0]), 1.0, -3.0 / 36),
    ):
        slope = gc.grad(mean, method=mode)
        assert abs(slope(at) - want) < 0.1 * abs(want) + 5e-3
        if mode == "reverse":
            assert abs(gc.jit(slope)(at) / slope(at) - 1) < 1e-9


def test_location_and_scale_are_differentiated_through_the_draw():
    def loss(lower: Any, upper: Any, mean: Any, factor: Any) -> Any:
        cov = factor @ factor.T
        return (
            np.sum(R.uniform(KEY, (4,), float, lower, upper) ** 2)
            + np.sum(R.truncated_normal(R.key(1), lower, upper, (4,)) ** 2)
            + np.sum(np.sin(R.multivariate_normal(R.key(2), mean, cov, (3,))))
        )

    point = (-0.5, 1.5, np.array([0.3, -0.2]), np.array([[1.2, 0.0], [0.4, 0.9]]))
    assert gc.check_gradients(loss, *point, methods=("forward", "reverse", "finite", "compiled")).ok


def test_parameters_that_make_no_distribution_are_refused():
    for call, words in (
        (lambda: R.gamma(KEY, -1.0), "a must be positive"),
        (lambda: R.beta(KEY, 1.0, 0.0), "b must be positive"),
        (lambda: R.dirichlet(KEY, np.array([1.0, -1.0])), "alpha must be positive"),
        (lambda: R.student_t(KEY, np.nan), "df must be positive"),
        (lambda: R.poisson(KEY, -0.5), "lam must not be negative"),
        (lambda: R.binomial(KEY, -2, 0.5), "n must not be negative"),
        (lambda: R.binomial(KEY, 2, 1.5), "p must lie in [0, 1]"),
        (lambda: R.dirichlet(KEY, 1.0), "axis of categories"),
        (lambda: R.multivariate_normal(KEY, np.zeros(2), np.eye(3)), "mean (…, n) and cov (…, n, n)"),
        (lambda: R.multivariate_normal(KEY, np.zeros((4, 2)), np.eye(2), (3,)), "do not broadcast to (3,)"),
        (lambda: R.multivariate_normal(KEY, np.zeros(2), np.eye(2), method="lu"), "method must be"),
        (lambda: R.orthogonal(KEY, -1), "must not be negative"),
    ):
        with pytest.raises(ValueError) as refused:
            call()
        assert words in str(refused.value) and "test_random_rejection.py:" in str(refused.value)
