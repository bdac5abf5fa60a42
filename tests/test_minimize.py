"""Minima found inside models: every method, against SciPy, with derivatives, batches, loops, and what fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import gradc as gc
from gradc.solve.line_search import strong_wolfe

ALONG_LINES = ["bfgs", "lbfgs", "cg", "newton", "trust-ncg"]
LEAST_SQUARES = ["gauss-newton", "levenberg-marquardt"]
METHODS = [*ALONG_LINES, *LEAST_SQUARES]
#: what differs in the search alone is differentiated nightly
OFTEN = ("bfgs", "trust-ncg", "levenberg-marquardt")
START = np.array([-1.2, 1.0])
#: searches end where the gradient is √ε; Rosenbrock's Hessian at (1, 1) has eigenvalues 0.4 and 1002
RTOL = 1e-7


def rosenbrock(x: Any, a: Any = 1.0) -> Any:
    return ((a - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def parts(x: Any, a: Any = 1.0) -> Any:
    """Residuals r with 2·½‖r‖² = the function above."""
    return {"near": a - x[:-1], "valley": 10 * (x[1:] - x[:-1] ** 2)}


def objective(method: str) -> Callable[..., Any]:
    return parts if method in LEAST_SQUARES else rosenbrock


def some_nightly(methods: list[str]) -> list[Any]:
    return [m if m in OFTEN else pytest.param(m, marks=pytest.mark.nightly) for m in methods]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ends_in_the_valley(method: str) -> None:
    found = gc.minimize(objective(method), START, (1.1,), method)
    assert found.success and 10 < found.nit < 60
    np.testing.assert_allclose(found.x, [1.1, 1.21], rtol=RTOL)


@pytest.mark.parametrize("method", some_nightly(METHODS))
def test_the_valley_its_derivatives_and_what_is_told(method: str) -> None:
    least = lambda a: gc.minimize(objective(method), START, (a,), method)
    found = least(1.1)
    assert found.success and found.message and 10 < found.nit < 60 and found.nfev >= found.njev > 10
    np.testing.assert_allclose(found.x, [1.1, 1.21], rtol=RTOL)
    assert np.abs(found.jac).max() <= np.sqrt(np.finfo(float).eps) and abs(found.fun) < 1e-14
    x = lambda a: least(a).x
    np.testing.assert_allclose(gc.jacobian(x, mode="reverse")(1.1), [1, 2.2], rtol=RTOL)
    np.testing.assert_allclose(gc.jvp(x, (1.1,), (1.0,))[1], [1, 2.2], rtol=RTOL)
    np.testing.assert_allclose(gc.jacobian(gc.jacobian(x))(1.1), [0, 2], rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("method", ["bfgs", pytest.param("trust-ncg", marks=pytest.mark.nightly)])
def test_batches_and_loops_compiled(method: str) -> None:
    scales = np.array([0.8, 1.0, 1.3])
    x = lambda a: gc.minimize(objective(method), START, (a,), method).x
    got, slopes = gc.jit(lambda a: (gc.vmap(x)(a), gc.vmap(gc.jacobian(x))(a)))(scales)
    np.testing.assert_allclose(got, np.stack([scales, scales**2], 1), rtol=RTOL)
    np.testing.assert_allclose(slopes, np.stack([np.ones(3), 2 * scales], 1), rtol=RTOL)
    squares = lambda a: gc.scan(lambda c, _: (x(c)[1], None), a, length=2)[0]
    np.testing.assert_allclose(gc.jit(gc.grad(squares))(0.9), 4 * 0.9**3, rtol=10 * RTOL)


def logistic(w: dict[str, Any], x: Any, y: Any, penalty: Any) -> Any:
    z = x @ w["slope"] + w["offset"]
    return np.log1p(np.exp(-y * z)).mean() + penalty * ((w["slope"] ** 2).sum() + w["offset"] ** 2)


@pytest.mark.parametrize("method", some_nightly(ALONG_LINES))
def test_a_tree_of_weights_agrees_with_scipy(method: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 3))
    y = np.sign(x @ [1.0, -2.0, 0.5] + 0.5 * rng.normal(size=40))
    start = {"slope": np.zeros(3), "offset": 0.0}
    found = gc.minimize(logistic, start, (x, y, 0.1), method)
    flat = lambda v: logistic({"slope": v[:3], "offset": v[3]}, x, y, 0.1)
    best = optimize.minimize(gc.value_and_grad(flat), np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert found.success
    np.testing.assert_allclose(np.append(found.x["slope"], found.x["offset"]), best.x, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.fun, best.fun, rtol=1e-14)

    def held_out(penalty: Any) -> Any:
        w = gc.minimize(logistic, start, (x, y, penalty), method).x
        return logistic(w, x[:10], y[:10], 0.0)

    h = 1e-3
    slope = (8 * (held_out(0.1 + h) - held_out(0.1 - h)) - held_out(0.1 + 2 * h) + held_out(0.1 - 2 * h)) / (12 * h)
    np.testing.assert_allclose(gc.grad(held_out)(0.1), slope, rtol=1e-5)


def test_values_that_the_objective_closes_over_have_derivatives() -> None:
    def trained(data: Any) -> Any:
        return gc.minimize(lambda m: ((m - data) ** 4).sum(), 0.0).x

    data, h = np.array([0.0, 1.0, 3.0]), 1e-4
    wanted = [(trained(data + h * e) - trained(data - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(gc.jit(gc.grad(trained))(data), wanted, rtol=1e-5, atol=1e-7)


def test_residuals_of_a_curve_agree_with_scipy() -> None:
    t = np.linspace(0, 2, 25)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.cos(37 * t)
    residuals = lambda p, y: p["a"] * np.exp(-p["k"] * t) + p["c"] - y
    best = optimize.least_squares(
        lambda v: residuals({"a": v[0], "k": v[1], "c": v[2]}, y), [1.0, 1, 0], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    for method in LEAST_SQUARES:
        fit = lambda y, m=method: gc.minimize(residuals, {"a": 1.0, "k": 1.0, "c": 0.0}, (y,), m)
        found = fit(y)
        assert found.success
        np.testing.assert_allclose([found.x["a"], found.x["k"], found.x["c"]], best.x, rtol=1e-6)
        np.testing.assert_allclose(found.fun, best.cost, rtol=1e-10)
        rate = lambda y, fit=fit: fit(y).x["k"]
        d, h = np.cos(t), 1e-4
        slope = (rate(y + h * d) - rate(y - h * d)) / (2 * h)
        np.testing.assert_allclose(gc.jvp(rate, (y,), (d,))[1], slope, rtol=1e-5)


def test_steps_satisfy_the_strong_wolfe_conditions() -> None:
    """On functions with plateaus, walls and poles beside the start, from first steps far too short and far too long."""
    functions: list[Callable[[Any], Any]] = [
        lambda x: (x**4 - 3 * x).sum(),
        lambda x: (-x / (x**2 + 2)).sum(),  # Moré and Thuente, (5.1)
        lambda x: ((x + 0.004) ** 5 - 2 * (x + 0.004) ** 4).sum(),  # (5.2)
        lambda x: (-x - 0.1 * np.log(3 - x)).sum(),  # NaN beyond 3
        lambda x: np.where(x < 1, (x - 1) ** 2, np.exp(30 * (x - 1)) - 1).sum(),
    ]
    for f in functions:
        vg = gc.value_and_grad(f)
        value, slope = vg(np.zeros(1))
        d = -np.sign(slope)
        for curvature in (0.9, 0.1):
            search = lambda first, vg=vg, c=curvature, v=value, s=slope, d=d: strong_wolfe(
                vg, np.zeros(1), v, s, d, first, c
            )
            for first in (1e-3, 1e-1, 1.0, 10.0):
                step = gc.trace(lambda a, search=search: tuple(search(a)), first).evaluate(first)
                size, _, there, g, tries, done = step
                assert done, (f(np.ones(1)), first, curvature)
                assert tries < 30 and there <= value + 1e-4 * size * (slope @ d) + 1e-14
                assert abs(g @ d) <= -curvature * (slope @ d) * (1 + 1e-12)


def test_what_fails_says_so() -> None:
    for f, x0, method, most, status in (
        (rosenbrock, START, "bfgs", 3, 1),
        (lambda x: x / 0, 1.0, "bfgs", None, 3),
        (lambda x: np.abs(x - 0.3), 1.0, "bfgs", None, 2),  # a kink
        (lambda x: x, 1.0, "trust-ncg", 30, 1),  # falls for ever
        (lambda x: np.log(x), -1.0, "newton", None, 3),
        (lambda x: np.log(x), -1.0, "levenberg-marquardt", None, 3),
    ):
        found = gc.minimize(f, x0, method=method, maxiter=most)
        assert found.status == status and not found.success and found.message, (method, found)
    assert np.isnan(gc.grad(lambda p: gc.minimize(lambda x: p * np.abs(x - p), 1.0).x)(0.3))
    batch = gc.vmap(lambda p: gc.minimize(lambda x: p * x * x + x, 0.0, maxiter=40))(np.array([1.0, -1.0]))
    assert batch.status[0] == 0 and batch.status[1] != 0 and batch.x[0] == pytest.approx(-0.5)


def test_integers_begin_and_float32_ends_where_float32_can() -> None:
    assert gc.minimize(lambda x: (x - 2) ** 2, 5, method="BFGS").x == pytest.approx(2)  # as SciPy writes it
    found = gc.minimize(rosenbrock, START.astype(np.float32))
    assert found.success and found.x.dtype == np.float32
    np.testing.assert_allclose(found.x, 1, rtol=2e-2)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a vector": (lambda: gc.minimize(lambda x: x, np.ones(2)), gc.ShapeError, "one float scalar(.|\n)*levenberg"),
    "an integer": (lambda: gc.minimize(lambda x: np.argmax(x), np.ones(2)), gc.ShapeError, "one float scalar"),
    "residuals of integers": (
        lambda: gc.minimize(lambda x: np.argmax(x), np.ones(2), method="gauss-newton"), gc.DTypeError, "residuals"),
    "no method": (lambda: gc.minimize(rosenbrock, START, method="simplex"), ValueError, "'trust-ncg'"),
    "no tuple": (lambda: gc.minimize(rosenbrock, START, 1.0), TypeError, "args must be a tuple"),  # type: ignore[arg-type]
    "no unknowns": (lambda: gc.minimize(rosenbrock, []), TypeError, "no array"),
    "no numbers": (lambda: gc.minimize(rosenbrock, np.zeros(0)), gc.ShapeError, "x0 holds no numbers"),
    "no steps": (lambda: gc.minimize(rosenbrock, START, maxiter=2.5), TypeError, "maxiter"),  # type: ignore[arg-type]
    "words": (lambda: gc.jit(lambda x: gc.minimize(rosenbrock, x).message)(START), gc.TraceError, "status"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_line(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_minimize.py" in str(caught.value)


def test_a_minimum_of_minima() -> None:
    """min over u of (x(u) − 1)² + u²/10 with x(u) = u/(1 + p), so u = (1 + p)⁻¹ / ((1 + p)⁻² + 1/10)."""

    def outer(p: Any) -> Any:
        inner = lambda u: gc.minimize(lambda x: (x - u) ** 2 + p * x**2, 0.0).x
        return gc.minimize(lambda u: (inner(u) - 1) ** 2 + 0.1 * u**2, 0.0).x

    q = 1 / 2.0
    np.testing.assert_allclose(outer(1.0), q / (q**2 + 0.1), rtol=1e-7)
    slope = (0.1 - q**2) / (q**2 + 0.1) ** 2 * -(q**2)
    np.testing.assert_allclose(gc.grad(outer)(1.0), slope, rtol=1e-6)
