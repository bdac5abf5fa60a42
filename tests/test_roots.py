"""Equations solved inside models: methods, derivatives of any order, batches, loops, trees, and what fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import gradc as gc
from gradc.solve import tangents
from gradc.solve.reports import Report
from gradc.solve.statuses import Status

METHODS = ["newton", "broyden", "krylov"]
#: relative to the solution: searches end at ε^¾ of the residual, and derivatives of the equations here are near 1
RTOL = 1e-10


def babylonian(f: Callable[[Any], Any], x: Any) -> Any:
    return gc.fori_loop(0, 30, lambda _, x: x - f(x) / (2 * x), x)


def square_root(a: Any) -> Any:
    return gc.custom_root(lambda x: x * x - a, 1.0, babylonian, lambda g, b: b / g(1.0))


def kepler(mean: Any, e: Any, method: str = "newton") -> Any:
    return gc.root(lambda x: x - e * np.sin(x) - mean, mean, method=method).x


def coupled(t: dict[str, Any], p: Any) -> dict[str, Any]:
    return {"a": t["a"] ** 2 * p - 2 + t["b"][0], "b": np.sin(t["b"]) + t["a"] - p * np.array([1.0, 1.2, 1.4])}


GUESS = {"a": 1.0, "b": np.zeros(3)}


def coupled_by_scipy(p: float) -> np.ndarray:
    def flat(v: np.ndarray) -> np.ndarray:
        found = coupled({"a": v[0], "b": v[1:]}, p)
        return np.concatenate([[found["a"]], found["b"]])

    return optimize.root(flat, np.array([1.0, 0, 0, 0]), tol=1e-14).x


# -- custom_root -------------------------------------------------------------------------------------------------------


def test_three_derivatives_of_a_square_root() -> None:
    assert square_root(9.0) == 3.0
    for order, wanted in enumerate((1 / 6, -1 / 108, 1 / 648), 1):
        f, g = square_root, square_root
        for _ in range(order):
            f, g = gc.grad(f), gc.grad(g, method="forward")
        np.testing.assert_allclose(f(9.0), wanted, rtol=1e-14)
        np.testing.assert_allclose(g(9.0), wanted, rtol=1e-14)
    np.testing.assert_allclose(
        gc.jit(gc.vmap(gc.grad(gc.grad(square_root))))(np.array([9.0, 4.0])), [-1 / 108, -1 / 32]
    )
    eighth = lambda a: gc.scan(lambda c, _: (square_root(c), None), a, length=3)[0]
    np.testing.assert_allclose(gc.jit(gc.grad(eighth))(9.0), 9 ** (-7 / 8) / 8, rtol=1e-14)


def test_all_methods_agree_about_an_equation() -> None:
    assert gc.check_gradients(square_root, 9.0, methods=("reverse", "forward", "finite", "compiled")).ok
    assert "∂L/∂a" in str(gc.explain(square_root, 9.0))


def test_what_a_tangent_solver_closes_over_is_read_and_cancels() -> None:
    def inverse(a: Any, s: Any) -> Any:
        solve = lambda f, x: 1 / a + 0 * x
        return gc.custom_root(lambda x: a * x - 1, 1.0, solve, lambda g, b: s * b / (g(1.0) * s))

    np.testing.assert_allclose(gc.jit(gc.grad(inverse, (0, 1)))(2.0, 3.0), (-0.25, 0.0), rtol=1e-14)
    np.testing.assert_allclose(gc.jit(gc.hessian(inverse))(2.0, 3.0), 0.25, rtol=1e-14)


# -- root --------------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", METHODS)
def test_a_system_in_a_tree(method: str) -> None:
    def solution(p: Any) -> Any:
        found = gc.root(coupled, GUESS, (p,), method)
        return found.x, found

    def loss(p: Any) -> Any:
        x, _ = solution(p)
        return x["a"] * np.exp(x["b"]).sum()

    p = 1.2
    x, found = solution(p)
    assert found.success and found.nit <= 12 and found.nfev > found.nit
    flat = np.concatenate([[x["a"]], x["b"]])
    np.testing.assert_allclose(flat, coupled_by_scipy(p), rtol=RTOL)
    h = 1e-3
    values = [loss(p + k * h) for k in (-2, -1, 1, 2)]
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    np.testing.assert_allclose(gc.grad(loss)(p), slope, rtol=1e-8)
    np.testing.assert_allclose(gc.grad(loss, method="forward")(p), gc.grad(loss)(p), rtol=RTOL)
    slopes = [gc.grad(loss)(p + k * h) for k in (-2, -1, 1, 2)]
    bend = (slopes[0] - 8 * slopes[1] + 8 * slopes[2] - slopes[3]) / (12 * h)
    np.testing.assert_allclose(gc.jit(gc.grad(gc.grad(loss)))(p), bend, rtol=1e-8)


@pytest.mark.parametrize("method", ["newton", *(pytest.param(m, marks=pytest.mark.nightly) for m in METHODS[1:])])
def test_batches_and_loops(method: str) -> None:
    means = np.linspace(0.1, 3.0, 5)
    x, gradient = gc.jit(gc.vmap(gc.value_and_grad(lambda m: kepler(m, 0.7, method))))(means)
    np.testing.assert_allclose(x - 0.7 * np.sin(x), means, rtol=RTOL)
    np.testing.assert_allclose(gradient, 1 / (1 - 0.7 * np.cos(x)), rtol=1e-9)

    def twice(e: Any) -> Any:
        return gc.scan(lambda c, _: (kepler(c, e, method), None), 1.0, length=2)[0]

    h = 1e-4
    slope = (twice(0.3 + h) - twice(0.3 - h)) / (2 * h)
    np.testing.assert_allclose(gc.jit(gc.grad(twice))(0.3), slope, rtol=1e-6)


def test_many_unknowns_are_differentiated_by_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tangents, "DENSE", 0)
    f = lambda p: gc.root(coupled, GUESS, (p,), "krylov").x["a"]
    g = lambda p: gc.root(coupled, GUESS, (p,), "newton").x["a"]
    by_products = gc.grad(f)(1.2), gc.grad(gc.grad(f))(1.2)
    monkeypatch.undo()
    np.testing.assert_allclose(by_products, (gc.grad(g)(1.2), gc.grad(gc.grad(g))(1.2)), rtol=1e-9)


def test_a_steep_start_is_cut_and_integers_count_as_floats() -> None:
    found = gc.root(np.arctan, 20)
    assert found.success and abs(found.x) < 1e-12 and found.nfev > found.nit + 1
    assert gc.root(lambda x: x - 3, 1).x == 3.0
    assert gc.root(lambda x: x - 3, np.float32(1)).x.dtype == np.float32


def test_a_tangent_solver_of_the_users() -> None:
    f = lambda m: gc.root(lambda x: x - 0.3 * np.sin(x) - m, m, tangent_solve=lambda g, b: b / g(1.0)).x
    np.testing.assert_allclose(gc.grad(f)(1.0), gc.grad(lambda m: kepler(m, 0.3))(1.0), rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_what_fails_says_so(method: str) -> None:
    for f, x0, status in (
        (lambda x: x * x + 1, 1.0, 2),  # has no root
        (lambda x: x / 0, 1.0, 3),
        (np.exp, 1.0, 1),  # has one at −∞
        (lambda x: 0 * x + 1, 1.0, 2),  # has a singular derivative
    ):
        found = gc.root(f, x0, method=method, maxiter=8 if status == 1 else None)
        assert found.status == status and not found.success and found.message
    assert np.isnan(gc.grad(lambda p: gc.root(lambda x: x * x + p, 1.0, method=method).x)(1.0))
    batch = gc.vmap(lambda p: gc.root(lambda x: x * x + p, 1.0, method=method))(np.array([-1.0, 1.0]))
    assert batch.status.tolist() == [0, 2] and batch.x[0] == pytest.approx(1.0)


# -- fixed_point -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["del2", "iteration"])
def test_fixed_points(method: str) -> None:
    scales = np.array([1.0, 0.5])
    f = lambda s: gc.fixed_point(lambda x, s: np.cos(s * x), np.ones(2), (s,), method)
    found = f(scales)
    assert found.success and found.residual < 1e-11 and found.nfev > found.nit
    np.testing.assert_allclose(found.x, optimize.fixed_point(lambda x: np.cos(scales * x), np.ones(2)), rtol=RTOL)
    slope = np.sin(scales * found.x)
    wanted = -found.x * slope / (1 + scales * slope)
    for way in ("reverse", "forward"):
        np.testing.assert_allclose(gc.grad(lambda s: f(s).x.sum(), method=way)(scales), wanted, rtol=RTOL)
    np.testing.assert_allclose(gc.jit(gc.jacobian(lambda s: f(s).x))(scales), np.diag(wanted), rtol=RTOL, atol=1e-15)


def test_a_fixed_point_that_repels() -> None:
    assert gc.fixed_point(lambda x: 2 * x + 1, 1.0, method="iteration", maxiter=50).status == 1
    assert gc.fixed_point(lambda x: x * x, 3.0, method="iteration").status == 2  # it overflows
    assert gc.fixed_point(lambda x: 2 * x + 1, 1.0).x == -1.0  # Steffensen does not mind
    assert gc.fixed_point(lambda x: x / 0, 1.0).status == 3


# -- bad input ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "another shape": (lambda: gc.root(lambda x: x[:1], np.ones(3)), gc.ShapeError, "in the place of x0"),
    "another tree": (lambda: gc.root(lambda t: t["a"], {"a": 1.0}), TypeError, "must nest like"),
    "no method": (lambda: gc.root(lambda x: x, 1.0, method="hybr"), ValueError, "'broyden'"),
    "no tuple": (lambda: gc.root(lambda x, a: x, 1.0, 3.0), TypeError, "write \\(a,\\)"),  # type: ignore[arg-type]
    "a word": (lambda: gc.root(lambda x: "x", 1.0), gc.TraceError, "at least one array"),
    "no function": (lambda: gc.root(3, 1.0), TypeError, "expects a function"),  # type: ignore[arg-type]
    "no unknowns": (lambda: gc.root(lambda x: x, None), TypeError, "no array"),
    "a bool": (lambda: gc.root(lambda x: x, True), gc.DTypeError, "expected floats"),
    "no number": (lambda: gc.root(lambda x: x, 1.0, tol=-1.0), ValueError, "not negative"),
    "a branch": (lambda: gc.root(lambda x: x if x > 0 else -x, 1.0), gc.TraceError, "test_roots.py"),
    "no solver": (lambda: gc.root(lambda x: x, 1.0, tangent_solve=3), TypeError, "tangent_solve"),  # type: ignore[arg-type]
    "no custom solver": (lambda: gc.custom_root(lambda x: x, 1.0, None, None), TypeError, "solve"),  # type: ignore[arg-type]
    "a method of fixed points": (lambda: gc.fixed_point(np.cos, 1.0, method="newton"), ValueError, "'del2'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_line(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_roots.py" in str(caught.value)


@pytest.mark.parametrize("kind", Status.__subclasses__())
def test_every_status_has_words_of_its_own(kind: type[Status]) -> None:
    """Numbers count from 0, which is success; each comes back from its number, as a result's does."""
    assert [int(status) for status in kind] == list(range(len(kind)))
    assert len({status.words for status in kind}) == len(kind) and all(kind(int(s)).words for s in kind)
    reports = [report for report in Report.__subclasses__() if report.STATUSES is kind]
    assert reports
    for report in reports:
        found = object.__new__(report)
        object.__setattr__(found, "status", np.arange(len(kind)))
        assert found.message == [status.words for status in kind] and found.success.tolist() == [s == 0 for s in kind]


ONES = np.ones(2)

#: x(a) at a = 0, where there is no derivative: a multiple solution, or none
STUCK = {
    "minimum": lambda a: gc.minimize(lambda x: (x - a) ** 4, a * 0).x,
    "root": lambda a: gc.root(lambda x: (x - a) ** 3, a * 0).x,
    "fixed point": lambda a: gc.fixed_point(lambda x: x + (x - a) ** 3, a * 0).x,
    "failure": lambda a: gc.root(lambda x: x**2 + 1 + a**2, 1.0).x,
    "linear": lambda a: gc.linear_solve(lambda v: a**2 * v, 1.0).x,
    "linear, of a batch": lambda a: gc.vmap(lambda b: gc.linear_solve(lambda v: a**2 * v, b, "gmres").x)(ONES).sum(),
}


@pytest.mark.parametrize("name", sorted(STUCK))
def test_both_modes_are_nan_where_the_implicit_derivative_does_not_exist(name):
    f = STUCK[name]
    assert np.isnan(gc.jvp(f, (0.0,), (1.0,))[1])
    assert np.isnan(gc.grad(f)(0.0)) and np.isnan(gc.jit(gc.grad(f))(0.0))


def test_a_failure_stays_in_its_example():
    one = lambda a: gc.root(lambda x: (x - a) ** 3 + a * (x - a), a * 0).x
    many = gc.vmap(one)
    np.testing.assert_array_equal(gc.grad(lambda v: np.sum(many(v)))(np.array([0.0, 1.0])), [np.nan, 1.0])
    np.testing.assert_array_equal(gc.vmap(gc.grad(one))(np.array([0.0, 1.0])), [np.nan, 1.0])
