"""SciPy's solvers on functions of trees: every method is handed what it uses, and finds what SciPy alone finds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, sparse

import gradc as gc
from gradc.scipy import flat, optimization


def rosenbrock(t: dict[str, Any], a: Any = 1.0) -> Any:
    x = np.concatenate([t["head"], np.stack([t["tail"]])])
    return ((a - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


START = {"head": np.array([-1.2, 1.0]), "tail": -0.5}
GRADIENTS = sorted(optimization.METHODS - optimization.WITHOUT_DERIVATIVES - {"trust-constr"})


@pytest.mark.parametrize("method", GRADIENTS)
def test_every_method_that_uses_derivatives_finds_the_valley(method: str) -> None:
    most = {"maxfun": 2000} if method == "tnc" else {"maxiter": 2000}
    found = gc.scipy.minimize(rosenbrock, START, args=(1.0,), method=method, tol=1e-9, options=most)
    np.testing.assert_allclose(found.x["head"], [1, 1], rtol=1e-4)
    np.testing.assert_allclose(found.x["tail"], 1, rtol=2e-4)
    assert found.jac["head"].shape == (2,) and found.fun < 1e-8
    uses_products = method in optimization.WITH_PRODUCTS | optimization.WITH_HESSIAN
    assert (found.get("nhev", 0) > 0) == uses_products


def test_methods_without_derivatives_get_the_value_alone() -> None:
    for method in ("Nelder-Mead", "Powell"):
        found = gc.scipy.minimize(
            lambda p: (p["a"] - 2) ** 2 + (p["b"] ** 2).sum(), {"a": 0, "b": np.ones(2)}, method=method
        )
        assert found.x["a"] == pytest.approx(2, abs=1e-3)


def test_lists_of_numbers_are_vectors_as_scipy_takes_them() -> None:
    found = gc.scipy.minimize(lambda x: ((x - np.arange(2.0)) ** 2).sum(), [3, 4.0], bounds=[(0, 9), (0, None)])
    np.testing.assert_allclose(found.x, [0, 1], atol=1e-6)
    assert gc.scipy.solve_ivp(lambda t, y: -y, (0, 1), [1.0, 2.0]).y.shape[0] == 2
    np.testing.assert_allclose(gc.minimize(lambda x: ((x - 1) ** 2).sum(), [3, 4.0]).x, [1, 1])
    np.testing.assert_allclose(gc.root(lambda x: x - 1, [[3.0], [4.0]]).x, [[1], [1]])
    np.testing.assert_allclose(gc.linear_solve(np.eye(2), [1, 2], x0=[0, 1]).x, [1, 2])
    assert gc.odeint(lambda y, t: [-y[0], y[1]], [1.0, 2.0], [0, 1]).shape == (2, 2)
    nested = gc.minimize(lambda t: (t[0] - 1) ** 2 + t[1].sum() ** 2, [0.0, np.ones(2)])
    assert isinstance(nested.x, list) and nested.x[0] == pytest.approx(1)


def test_bounds_in_every_form() -> None:
    square = lambda t: ((t["x"] - np.array([2.0, -2.0])) ** 2).sum() + (t["y"] - 5) ** 2
    start = {"x": np.zeros(2), "y": 0.0}
    for ends in ((-1.0, 1.0), (np.array([-1.0, -1.0]), [1.0, 1.0]), [(None, 1), (-1, None)]):
        found = gc.scipy.minimize(square, start, bounds={"x": ends, "y": None})
        np.testing.assert_allclose(found.x["x"], [1, -1], atol=1e-6)
        assert found.x["y"] == pytest.approx(5, abs=1e-5)
    held = gc.scipy.minimize(square, start, bounds=optimize.Bounds([-1, -1, -9], [1, 1, 3]))
    assert held.x["y"] == pytest.approx(3)
    single = gc.scipy.minimize(lambda x: (x - 4) ** 2, 0.0, bounds=(0, 3))
    assert single.x == pytest.approx(3)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYLA"])
def test_constraints_in_every_form(method: str) -> None:
    """The point of a disc, on a line, nearest to a point outside."""
    far = lambda t: (t["x"] - 3) ** 2 + (t["y"] - 1) ** 2
    disc = lambda t: {"room": 1 - t["x"] ** 2 - t["y"] ** 2}
    line = lambda t: t["x"] - 2 * t["y"]
    wanted = np.array([2.0, 1.0]) / np.sqrt(5)
    atol = 1e-3 if method == "trust-constr" else 1e-4  # where its barrier ends, with derivatives by hand too
    dicts = [{"type": "ineq", "fun": disc}, {"type": "eq", "fun": line}]
    objects = (optimize.NonlinearConstraint(disc, 0, np.inf), optimize.LinearConstraint([[1.0, -2.0]], 0, 0))
    for constraints in (dicts, objects):
        found = gc.scipy.minimize(far, {"x": 0.1, "y": 0.0}, method=method, constraints=constraints, tol=1e-8)
        np.testing.assert_allclose([found.x["x"], found.x["y"]], wanted, atol=atol)
    one = gc.scipy.minimize(far, {"x": 0.1, "y": 0.0}, method=method, constraints=dicts[0], tol=1e-8)
    np.testing.assert_allclose([one.x["x"], one.x["y"]], np.array([3, 1]) / np.sqrt(10), atol=atol)


def test_least_squares_gets_the_jacobian() -> None:
    t = np.linspace(0, 2, 20)
    data = 2.5 * np.exp(-1.3 * t) + 0.1 * np.cos(9 * t)
    residuals = lambda p, data: {
        "near": (p["a"] * np.exp(-p["k"] * t) - data)[:7],
        "far": p["a"] * np.exp(-p["k"] * t[7:]) - data[7:],
    }
    plain = optimize.least_squares(lambda v: v[0] * np.exp(-v[1] * t) - data, [1.0, 1.0], xtol=1e-14, ftol=1e-14)
    for method in ("trf", "lm", "dogbox"):
        found = gc.scipy.least_squares(
            residuals, {"a": 1.0, "k": 1.0}, args=(data,), method=method, xtol=1e-14, ftol=1e-14
        )
        np.testing.assert_allclose([found.x["a"], found.x["k"]], plain.x, rtol=1e-7)
        assert found.njev is None or found.njev < 20
    held = gc.scipy.least_squares(
        residuals, {"a": 1.0, "k": 0.5}, data, bounds={"a": None, "k": (0, 1)}, loss="soft_l1"
    )
    assert held.x["k"] == pytest.approx(1.0) and held.grad["a"].shape == ()


@pytest.mark.nightly
def test_large_jacobians_of_mostly_zeros_are_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain whose links have one length: SciPy is handed scipy.sparse matrices, and finds the same as with dense."""
    n = 110
    residuals = lambda t, rest: np.concatenate(
        [10 * ((t["x"][1:] - t["x"][:-1]) ** 2 - rest), t["x"][:1], 0.1 * t["x"]]
    )
    start = {"x": np.linspace(0, 1.1 * n, n)}
    found = gc.scipy.least_squares(residuals, start, args=(1.0,))
    assert sparse.issparse(found.jac) and found.success
    links = optimize.NonlinearConstraint(lambda t: (t["x"][1:] - t["x"][:-1]) ** 2, 0.5, 1.0)
    square = lambda t: (t["x"] ** 2).sum()
    held = gc.scipy.minimize(square, start, method="trust-constr", constraints=links, options={"maxiter": 3})
    assert sparse.issparse(held.jac[0])
    monkeypatch.setattr(flat, "LEAST_SPARSE", n**3)
    dense = gc.scipy.least_squares(residuals, start, args=(1.0,))
    assert not sparse.issparse(dense.jac)
    np.testing.assert_allclose(found.cost, dense.cost, rtol=1e-6)


@pytest.mark.parametrize("method", ["hybr", "lm", "krylov"])
def test_roots(method: str) -> None:
    system = lambda t, p: {"u": t["u"] ** 2 - p + t["v"].sum(), "v": t["v"] - np.cos(t["u"])}
    options = {"fatol": 1e-9} if method == "krylov" else None  # its tol is one of steps
    found = gc.scipy.root(system, {"u": 1.0, "v": np.zeros(2)}, args=(3.0,), method=method, options=options)
    assert found.success and found.fun["v"].shape == (2,)
    assert found.x["u"] ** 2 + 2 * np.cos(found.x["u"]) == pytest.approx(3.0)


@pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "BDF", "LSODA"])
def test_initial_value_problems(method: str) -> None:
    field = lambda t, y, k: {"x": y["v"], "v": -k * y["x"] + 0 * t}
    times = np.linspace(0, 3, 5)
    found = gc.scipy.solve_ivp(
        field, (0, 3), {"x": np.array([1.0, 2.0]), "v": np.zeros(2)}, method, times, (4.0,), dense_output=True,
        rtol=1e-8, atol=1e-8, events=lambda t, y, k: y["x"][0],
    )  # fmt: skip
    wanted = np.outer([1, 2], np.cos(2 * times))
    np.testing.assert_allclose(found.y["x"], wanted, atol=2e-5)
    np.testing.assert_allclose(found.sol(1.5)["x"], np.array([1, 2]) * np.cos(3), atol=2e-5)
    assert found.sol(times)["v"].shape == (2, 5)
    np.testing.assert_allclose(found.t_events[0], [np.pi / 4, 3 * np.pi / 4], atol=1e-4)
    assert abs(found.y_events[0][0]["x"][0]) < 1e-4
    stopped = gc.scipy.solve_ivp(lambda t, y: -1.0 + 0 * y, (0, 3), 1.0, events=_terminal(lambda t, y: y))
    assert stopped.status == 1 and stopped.t[-1] == pytest.approx(1.0)


def _terminal(event: Callable[..., Any]) -> Callable[..., Any]:
    event.terminal = True  # type: ignore[attr-defined]
    return event


def test_integrals() -> None:
    value, error = gc.scipy.quad(lambda x, k: np.exp(-k * x * x), 0, np.inf, args=(2.0,))
    assert value == pytest.approx(np.sqrt(np.pi / 8), abs=1e-10) and error < 1e-6
    assert gc.scipy.quad(lambda x: x, 0, 1, epsabs=1e-3) == integrate.quad(lambda x: x, 0, 1, epsabs=1e-3)


def inside_a_trace(a: Any) -> Any:
    return gc.scipy.minimize(lambda x: (x - a) ** 2, a).x


TOO_LONG = np.zeros(3), 1.0
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a vector": (lambda: gc.scipy.minimize(lambda x: x, np.ones(2)), gc.ShapeError, "one float scalar"),
    "no method": (lambda: gc.scipy.minimize(rosenbrock, START, method="simplex"), ValueError, "'nelder-mead'"),
    "a trace": (lambda: gc.jit(inside_a_trace)(1.0), gc.TraceError, "gc.minimize"),
    "a constraint of another kind": (
        lambda: gc.scipy.minimize(rosenbrock, START, constraints=[{"type": "less"}]), TypeError, "'eq' or 'ineq'"),
    "bounds of another tree": (
        lambda: gc.scipy.minimize(rosenbrock, START, bounds=[(0, 1)]), TypeError, "nest like x0"),
    "bounds of another shape": (
        lambda: gc.scipy.minimize(np.sum, np.ones(2), bounds=TOO_LONG), gc.ShapeError, "bounds of x0"),
    "bounds that are no pair": (lambda: gc.scipy.minimize(lambda x: x, 1.0, bounds=(1, 2, 3)), TypeError, "pair"),
    "no function": (lambda: gc.scipy.minimize(3, 1.0), TypeError, "expects a function"),  # type: ignore[arg-type]
    "no unknowns": (lambda: gc.scipy.root(lambda x: x, ()), TypeError, "no array"),
    "a word": (lambda: gc.scipy.least_squares(lambda x: x, "one"), TypeError, "not an array"),
    "a traced value that the function reads": (
        lambda: gc.grad(lambda a: gc.scipy.minimize(lambda x: (x - a) ** 2, 0.0).x)(1.0), gc.TraceError, "reads a"),
    "a traced end": (lambda: gc.grad(lambda b: gc.scipy.quad(np.sin, 0.0, b)[0])(1.0), gc.TraceError, "quad"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_line(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_scipy_bridge.py" in str(caught.value)


class _NoSciPy:
    """A finder before all others, to which SciPy is not there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "scipy":
            raise ModuleNotFoundError(f"No module named {name!r}")


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_NoSciPy(), *sys.meta_path])
    for call in (lambda: gc.scipy.minimize(rosenbrock, START), lambda: gc.scipy.quad(np.sin, 0.0, 1.0)):
        with pytest.raises(ImportError, match="pip install 'gradc\\[scipy\\]'"):
            call()


# -- args are the user's -----------------------------------------------------------------------------------------------

ARGS = (np.array([0, 2]), np.array([True, False, True]), np.ones(3, np.float32), np.arange(3))


def picked(x: Any, places: Any, mask: Any, narrow: Any, counts: Any) -> Any:
    """Residuals that are wrong, or no residuals at all, unless each argument has the dtype that it came with."""
    for value, given in zip((places, mask, narrow, counts), ARGS, strict=True):
        assert value.dtype == given.dtype
    return np.where(mask, x - counts, x + x[places].sum() - 2) * narrow


@pytest.mark.parametrize("method", [None, "Nelder-Mead", "trust-ncg", "trust-exact"])
def test_args_of_minimize_keep_their_dtypes(method: str | None) -> None:
    found = gc.scipy.minimize(lambda x, *a: (picked(x, *a) ** 2).sum(), np.ones(3), args=ARGS, method=method)
    np.testing.assert_allclose(found.x, [0, 0, 2], atol=1e-3)


def test_args_of_the_other_solvers_keep_their_dtypes() -> None:
    for method in ("trf", "lm"):
        fit = gc.scipy.least_squares(picked, np.ones(3), ARGS, method=method)
        np.testing.assert_allclose(fit.x, [0, 0, 2], atol=1e-9)
    for method in ("hybr", "lm", "krylov"):
        np.testing.assert_allclose(gc.scipy.root(picked, np.ones(3), ARGS, method=method).x, [0, 0, 2], atol=1e-5)
    for method in ("RK45", "BDF", "LSODA"):
        event = lambda t, y, *args: picked(y, *args).sum() + 100
        field = lambda t, y, *args: -picked(y, *args)
        found = gc.scipy.solve_ivp(field, (0, 40), np.ones(3), method, args=ARGS, events=event)
        assert found.success
        np.testing.assert_allclose(found.y[:, -1], [0, 0, 2], atol=1e-2)
    assert gc.scipy.quad(lambda x, i: x * i.sum() / 2, 0, 1, args=(ARGS[0],))[0] == pytest.approx(0.5)


def test_args_of_large_sparse_jacobians_keep_their_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "LEAST_SPARSE", 1)
    places = np.arange(30)[::-1].copy()
    found = gc.scipy.least_squares(lambda x, i: x[i] - np.arange(30.0), np.zeros(30), (places,))
    assert sparse.issparse(found.jac)
    np.testing.assert_allclose(found.x, places, atol=1e-9)
