"""Linear systems solved inside models: methods, derivatives of any order, batches, loops, and what fails."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.diff.widen import widen

RNG = np.random.default_rng(3)
N = 5
RAW = RNG.normal(size=(N, N))
ANY = RAW / 2 + 3 * np.eye(N)
POSITIVE = RAW @ RAW.T + N * np.eye(N)
INDEFINITE = RAW + RAW.T
B = RNG.normal(size=N)
CASES = {"cg": POSITIVE, "minres": INDEFINITE, "gmres": ANY, "bicgstab": ANY}
TIGHT = 1e-13
#: the tolerance of the residual times the condition of these matrices, which are below 100
RTOL = 100 * TIGHT


def difference(f: Callable[..., Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function: right to about step² and rounding/step."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        found[i] = (f(x + d) - f(x - d)) / (2 * step)
    return found


def solve_with(method: str, **options: Any) -> Callable[[Any, Any], Any]:
    return lambda a, b: gc.linear_solve(lambda x: a @ x, b, method, tol=TIGHT, **options).x


def richardson(matvec: Callable[[Any], Any], b: Any) -> Any:
    """x ← x + ω(b − A x): a solver of the user's."""
    return gc.while_loop(
        lambda s: s[1] < 120, lambda s: (s[0] + 0.2 * (b - matvec(s[0])), s[1] + 1), (0 * b, np.int64(0))
    )[0]


def by_richardson(a: Any, b: Any) -> Any:
    return gc.custom_linear_solve(lambda x: a @ x, b, richardson, richardson)


SOLVERS: dict[str, tuple[Callable[[Any, Any], Any], np.ndarray]] = {
    **{m: (solve_with(m), a) for m, a in CASES.items()},
    "custom": (by_richardson, ANY),
    "with a preconditioner": (solve_with("gmres", preconditioner=np.diag(1 / np.diag(ANY))), ANY),
    "with a guess": (solve_with("bicgstab", x0=np.ones(N)), ANY),
    "symmetric with a preconditioner": (solve_with("cg", preconditioner=np.diag(1 / np.diag(POSITIVE))), POSITIVE),
}


def cubes(x: Any) -> Any:
    return (x**3).sum()


@pytest.mark.parametrize("name", SOLVERS)
def test_values_and_both_modes_agree_with_dense_algebra(name: str) -> None:
    solve, a = SOLVERS[name]
    loss = lambda a, b: cubes(solve(a, b))
    x = np.linalg.solve(a, B)
    np.testing.assert_allclose(solve(a, B), x, rtol=RTOL, atol=RTOL)
    dual = np.linalg.solve(a.T, 3 * x**2)
    for method in ("reverse", "forward"):
        at_a, at_b = gc.grad(loss, (0, 1), method=method)(a, B)
        np.testing.assert_allclose(at_b, dual, rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(at_a, -np.outer(dual, x), rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize(
    "name", ["minres", "custom", pytest.param("with a preconditioner", marks=pytest.mark.nightly), "with a guess"]
)
def test_second_order_three_ways(name: str) -> None:
    solve, a = SOLVERS[name]
    loss = lambda a: cubes(solve(a, B))
    forward_over_reverse = gc.hessian(loss)(a)
    reverse_over_reverse = gc.jacobian(gc.grad(loss), mode="reverse")(a)
    np.testing.assert_allclose(forward_over_reverse, reverse_over_reverse, rtol=1e-9, atol=1e-9)
    direction = RNG.normal(size=a.shape)
    slope = lambda t: (gc.grad(loss)(a + t * direction) - gc.grad(loss)(a - t * direction)) / (2 * t)
    extrapolated = (4 * slope(1e-3) - slope(2e-3)) / 3
    got = np.tensordot(forward_over_reverse, direction, 2)
    np.testing.assert_allclose(got, extrapolated, rtol=1e-8, atol=1e-8 * np.abs(got).max())


@pytest.mark.parametrize("name", ["cg", "custom", pytest.param("gmres", marks=pytest.mark.nightly)])
def test_batches_loops_and_compiled_code(name: str) -> None:
    solve, a = SOLVERS[name]
    batch = np.stack([a, a + np.eye(N), 2 * a])
    gradient = gc.grad(lambda a, b: cubes(solve(a, b)), (0, 1))
    wanted = [gradient(one, B) for one in batch]
    found = gc.jit(gc.vmap(gradient, (0, None)))(batch, B)
    for k, (at_a, at_b) in enumerate(wanted):
        np.testing.assert_allclose(found[0][k], at_a, rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(found[1][k], at_b, rtol=RTOL, atol=RTOL)
    of_shared = gc.grad(lambda b: cubes(gc.vmap(solve, (0, None))(batch, b)))(B)
    np.testing.assert_allclose(of_shared, sum(at_b for _, at_b in wanted), rtol=RTOL, atol=RTOL)

    def thrice(a: Any) -> Any:
        return gc.scan(lambda x, _: (solve(a, x), None), B, length=3)[0].sum()

    x1, x2, x3 = (np.linalg.solve(np.linalg.matrix_power(a, k), B) for k in (1, 2, 3))
    duals = [np.linalg.solve(np.linalg.matrix_power(a.T, k), np.ones(N)) for k in (1, 2, 3)]
    chain = -sum(np.outer(d, x) for d, x in zip(duals, (x3, x2, x1), strict=True))
    np.testing.assert_allclose(gc.jit(gc.grad(thrice))(a), chain, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(gc.grad(gc.checkpoint(thrice))(a), chain, rtol=RTOL, atol=RTOL)


def test_the_iterations_are_not_differentiated() -> None:
    """A solver of steps that have no derivative at all."""

    def rounded(matvec: Callable[[Any], Any], b: Any) -> Any:
        return np.round(b / matvec(np.ones_like(b)) * 1e9) / 1e9

    f = lambda d, b: gc.custom_linear_solve(lambda x: d * x, b, rounded, symmetric=True).sum()
    d = np.array([2.0, 4.0])
    np.testing.assert_allclose(gc.grad(f, 0)(d, np.ones(2)), -1 / d**2, rtol=1e-8)
    np.testing.assert_allclose(gc.grad(f, 0, method="forward")(d, np.ones(2)), -1 / d**2, rtol=1e-8)


def test_trees_with_two_dtypes_and_integers() -> None:
    def matvec(t: dict[str, Any]) -> dict[str, Any]:
        return {"a": 2 * t["a"] + t["b"].sum(), "b": 3 * t["b"] + t["a"].astype(np.float32)}

    b = {"a": 1, "b": np.ones((2, 2), np.float32)}
    found = gc.linear_solve(matvec, b, "gmres")
    dense = np.block([[np.full((1, 1), 2.0), np.ones((1, 4))], [np.ones((4, 1)), 3 * np.eye(4)]])
    x = np.linalg.solve(dense, np.ones(5))
    assert found.success and found.x["b"].dtype == np.float32 and found.x["a"].dtype == np.float64
    np.testing.assert_allclose(found.x["a"], x[0], rtol=1e-4)
    np.testing.assert_allclose(found.x["b"].ravel(), x[1:], rtol=1e-4)


def test_conjugate_gradients_end_after_as_many_steps_as_there_are_eigenvalues() -> None:
    q, _ = np.linalg.qr(RAW)
    a = q @ np.diag([1.0, 1.0, 2.0, 2.0, 3.0]) @ q.T
    found = gc.linear_solve((a + a.T) / 2, B)
    assert found.success and found.iterations == 3 and found.residual <= 1e-10


def test_gmres_starts_again_and_scipy_agrees() -> None:
    from scipy.sparse.linalg import gmres

    n = 80
    a = np.eye(n) + 0.4 * RNG.normal(size=(n, n)) / np.sqrt(n) + np.diag(np.linspace(0, 20, n))
    b = RNG.normal(size=n)
    found = gc.jit(lambda a, b: gc.linear_solve(a, b, "gmres"))(a, b)
    assert found.success and found.iterations > 30
    np.testing.assert_allclose(found.x, gmres(a, b, rtol=1e-12, restart=30)[0], rtol=1e-8, atol=1e-9)


def test_what_fails_says_so() -> None:
    singular = np.diag([1.0, 2.0, 0.0])
    ones = np.ones(3)
    for found, status in (
        (gc.linear_solve(singular, ones), 2),
        (gc.linear_solve(lambda x: np.nan * x, ones), 2),
        (gc.linear_solve(-np.eye(3), ones), 2),  # not positive definite
        (gc.linear_solve(POSITIVE, B, maxiter=2), 1),
        (gc.linear_solve(POSITIVE, B, tol=0.0, atol=1e-30), 2),
    ):
        assert found.status == status and not found.success and found.message
    assert np.isnan(gc.grad(lambda b: gc.linear_solve(singular, b).x.sum())(ones)).all()
    assert np.isnan(gc.jit(gc.grad(lambda b: gc.linear_solve(singular, b, "gmres").x.sum()))(ones)).all()
    mixed = gc.vmap(lambda a: gc.linear_solve(a, ones))(np.stack([np.eye(3), singular]))
    assert mixed.status.tolist() == [0, 2] and len(mixed.message) == 2


def test_a_right_hand_side_of_zeros_is_solved_by_zeros_whatever_the_guess() -> None:
    found = gc.linear_solve(POSITIVE, np.zeros(N), x0=np.ones(N))
    assert found.success and not found.x.any()


def test_a_rule_of_the_users_may_solve_for_its_tangents() -> None:
    """The rule is transposed for reverse mode, and what it solves with it."""
    f = gc.custom_derivative(lambda b: gc.linear_solve(ANY, b, "gmres", tol=TIGHT).x)
    f.defjvp(lambda primals, tangents: (f(*primals), gc.linear_solve(ANY, 2 * tangents[0], "gmres", tol=TIGHT).x))
    wanted = 2 * np.linalg.solve(ANY.T, np.ones(N))
    np.testing.assert_allclose(gc.grad(lambda b: f(b).sum())(B), wanted, rtol=RTOL, atol=RTOL)
    g = gc.custom_derivative(lambda b: b)
    g.defjvp(lambda primals, tangents: (primals[0], gc.linear_solve(np.diag(tangents[0]), primals[0], "gmres").x))
    with pytest.raises(gc.TraceError, match="not linear in its tangents"):
        gc.grad(lambda b: g(b).sum())(B)


def test_a_graph_that_travels_computes_and_a_widened_one_has_derivatives() -> None:
    graph = gc.trace(lambda b: gc.linear_solve(ANY.astype(np.float32), b, "gmres").x, gc.spec(N, np.float32))
    b = B.astype(np.float32)
    there = pickle.loads(pickle.dumps(graph))
    np.testing.assert_array_equal(there.evaluate(b)[0], graph.evaluate(b)[0])
    report = gc.check_gradients(
        lambda b: gc.linear_solve(ANY, b, "gmres", tol=TIGHT).x.sum(), B, methods=("reverse", "forward", "finite")
    )
    assert report.ok, str(report)
    assert widen(graph).outputs[0].dtype == np.float64


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "not linear": (lambda: gc.linear_solve(lambda x: x * x, B), gc.TraceError, "not linear in its argument"),
    "affine": (lambda: gc.linear_solve(lambda x: x + 1, B), gc.TraceError, "something else than 0"),
    "steps": (lambda: gc.linear_solve(np.sign, B), gc.TraceError, "not linear"),
    "another shape": (lambda: gc.linear_solve(lambda x: x[:2], B), gc.ShapeError, r"shape \(2,\) in the place of b"),
    "another tree": (lambda: gc.linear_solve(lambda t: t["a"], {"a": B}), TypeError, "must nest like"),
    "a matrix that is not square": (lambda: gc.linear_solve(np.ones((5, 4)), B), gc.ShapeError, "square matrix"),
    "no method": (lambda: gc.linear_solve(ANY, B, "lu"), ValueError, "'gmres'"),
    "no steps": (lambda: gc.linear_solve(ANY, B, maxiter=0), ValueError, "maxiter must be at least 1"),
    "a tolerance in words": (lambda: gc.linear_solve(ANY, B, tol="tight"), TypeError, "tol must be a number"),  # type: ignore[arg-type]
    "a traced tolerance": (lambda: gc.jit(lambda t: gc.linear_solve(ANY, B, tol=t))(1e-3), gc.TraceError, "static"),
    "a guess of another shape": (lambda: gc.linear_solve(ANY, B, x0=np.ones(3)), gc.ShapeError, "x0"),
    "a word": (lambda: gc.linear_solve(ANY, "b"), TypeError, "not an array"),
    "bools": (lambda: gc.linear_solve(ANY, B > 0), gc.DTypeError, "expected floats"),
    "nothing": (lambda: gc.linear_solve(ANY, ()), TypeError, "no array"),
    "words inside a trace": (lambda: gc.jit(lambda b: gc.linear_solve(ANY, b).message)(B), gc.TraceError, "status"),
    "no function": (lambda: gc.custom_linear_solve(ANY, B, richardson), TypeError, "linear function"),
    "no solver": (lambda: gc.custom_linear_solve(lambda x: x, B, None), TypeError, "solve"),  # type: ignore[arg-type]
    "no transpose": (
        lambda: gc.grad(lambda b: gc.custom_linear_solve(lambda x: x, b, richardson).sum())(B),
        gc.TraceError,
        "transpose_solve",
    ),
    "no aux": (lambda: gc.custom_linear_solve(lambda x: x, B, richardson, has_aux=True), TypeError, "pair"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_line(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_linear_solve.py" in str(caught.value)


def test_aux_of_a_solver_comes_back_and_does_not_move() -> None:
    def counted(matvec: Callable[[Any], Any], b: Any) -> Any:
        return richardson(matvec, b), {"size": (b * b).sum()}

    def f(b: Any) -> Any:
        x, aux = gc.custom_linear_solve(lambda x: ANY @ x, b, counted, richardson, has_aux=True)
        return x.sum() + aux["size"]

    np.testing.assert_allclose(f(B), np.linalg.solve(ANY, B).sum() + B @ B, rtol=1e-12)
    np.testing.assert_allclose(gc.grad(f)(B), np.linalg.solve(ANY.T, np.ones(N)), rtol=1e-12)


def ridge(x: Any, y: Any, λ: Any) -> Any:
    return gc.linear_solve(lambda w: x.T @ (x @ w) + λ * w, x.T @ y).x


def test_formulas_say_what_is_solved_and_not_how() -> None:
    said = gc.explain(lambda A, b: (gc.linear_solve(lambda x: A @ x, b, "gmres").x ** 2).sum(), ANY, B, argnums=(0, 1))
    assert [str(line) for line in str(said).splitlines()[:5] if line] == [
        "L = ‖A⁻¹b‖²", "δ = 2A⁻ᵀA⁻¹b", "∂L/∂A = −δbᵀA⁻ᵀ", "∂L/∂b = δ",
    ]  # fmt: skip
    np.testing.assert_allclose(said.graph.evaluate(ANY, B)[1], 2 * np.linalg.solve(ANY @ ANY.T, B), rtol=1e-10)
    assert "(xᵀx + λI)⁻¹xᵀy" in str(gc.explain(ridge, np.ones((6, N)), np.ones(6), 0.1, argnums=1))
    assert "1/(2root(a, 1))" in str(gc.explain(lambda a: gc.root(lambda x: x * x - a, 1.0).x, 2.0))
    assert "/(1 + ta)" in str(gc.explain(lambda a: gc.fixed_point(lambda x: np.cos(a * x), 1.0).x, 2.0))
    chosen = gc.explain(lambda a: np.where(gc.root(lambda x: x * x - a, 1.0).x == 3.0, a, np.nan), 9.0)
    assert "root(a, 1) = 3" in str(chosen)  # the user's own condition is no failure
    assert "= −0.25/root(a, 1)³" in str(gc.explain(gc.grad(lambda a: gc.root(lambda x: x * x - a, 1.0).x), 2.0))
    assert "A⁻¹" in str(gc.explain(gc.jacobian(lambda b, A: gc.linear_solve(A, b, "gmres").x), B, ANY))
