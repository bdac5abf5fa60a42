"""Derivatives of gc.linalg: by all methods, to second order, by textbook formulas, and where there is more than one
answer: triangles, symmetric arguments, equal eigenvalues, singular matrices.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS

L = gc.linalg
R = np.random.default_rng(1)
A = R.normal(size=(3, 3)) + 2 * np.eye(3)
S = A @ A.T + np.eye(3)
T = R.normal(size=(4, 2))
B = R.normal(size=(3, 2))
V = R.normal(size=3)
W = R.normal(size=(3, 3))
X = R.normal(size=(2, 1, 2))
STACK = np.stack([A, S, A.T + S])


def symmetric(a):
    return (a + a.T) / 2


PROGRAMS = {
    "cholesky": (lambda a: np.sum(np.sin(np.linalg.cholesky(symmetric(a)))), S),
    "cholesky upper": (lambda a: np.sum(L.cholesky(symmetric(a), upper=True) * W), S),
    "solve": (lambda a, b: np.sum(np.sin(np.linalg.solve(a, b))), A, B),
    "solve vector": (lambda a, b: np.sum(np.linalg.solve(a, b) ** 2), A, V),
    "solve stack": (lambda a, b: np.sum(np.cos(np.linalg.solve(a, b))), STACK, B),
    "triangular": (lambda a, b: np.sum(np.sin(L.solve_triangular(a, b, lower=True, trans=1))), A, B),
    "cho_solve": (lambda a, b: b @ L.cho_solve(L.cho_factor(symmetric(a)), b), S, V),
    "lu": (lambda a: np.sum(np.sin(L.lu(a)[1])) + np.sum(np.cos(L.lu(a)[2])), A),
    "lu tall": (lambda a: np.sum(np.sin(L.lu(a)[1])) + np.sum(np.cos(L.lu(a)[2])), T),
    "lu_solve": (lambda a, b: np.sum(np.sin(L.lu_solve(L.lu_factor(a), b))), A, V),
    "inv": (lambda a: np.sum(np.sin(np.linalg.inv(a))), STACK),
    "det": (lambda a: np.sum(np.sin(np.linalg.det(a))), STACK),
    "slogdet": (lambda a: np.sum(np.linalg.slogdet(a)[1]), -STACK),
    "qr": (lambda a: np.sum(np.sin(np.linalg.qr(a)[0])) + np.sum(np.cos(np.linalg.qr(a)[1])), T),
    "qr wide": (lambda a: np.sum(np.sin(np.linalg.qr(a)[0])) + np.sum(np.cos(np.linalg.qr(a)[1])), T.T.copy()),
    "eigh": (lambda a: np.sum(np.sin(L.eigh(symmetric(a))[1]) * W) + np.sum(L.eigh(symmetric(a))[0] ** 2 * V), S),
    "eigvalsh": (lambda a: np.sum(np.sin(L.eigvalsh(symmetric(a))) * V), S),
    "svd": (lambda a: np.sum(np.sin(L.svd(a, False)[0])) + np.sum(np.cos(L.svd(a, False)[2])), T),
    "svd wide": (lambda a: np.sum(np.sin(L.svd(a, False)[0])) + np.sum(np.cos(L.svd(a, False)[2])), T.T.copy()),
    "svdvals": (lambda a: np.sum(np.sin(L.svdvals(a)) * V[:2]), T),
    "pinv": (lambda a: np.sum(np.sin(L.pinv(a))), T),
    "lstsq": (lambda a, b: np.sum(np.sin(np.linalg.lstsq(a, b)[0])) + np.sum(L.lstsq(a, b)[1]), T, R.normal(size=4)),
    "cond": (lambda a: np.linalg.cond(a) + np.linalg.cond(a, "fro"), A),
    "norms": (lambda a: np.linalg.norm(a, 2) + 2 * np.linalg.norm(a, -2) + np.linalg.norm(a, "nuc") ** 2, T),
    "matrix_power": (lambda a: np.sum(np.sin(np.linalg.matrix_power(a, -2))), A),
    "expm": (lambda a: np.sum(np.sin(L.expm(a))), A / 2),
    "sqrtm": (lambda a: np.sum(np.sin(L.sqrtm(a))), S),
    "tensorsolve": (lambda a, b: np.sum(np.sin(np.linalg.tensorsolve(a, b))), X, np.ones((2, 1))),
    "block_diag": (lambda a, b: np.linalg.det(L.block_diag(a, b @ b.T)), A, T[:2]),
    "toeplitz": (lambda c: np.linalg.solve(L.toeplitz(c, c[::-1]), c) @ c, V + np.array([4.0, 0, 0])),
}  # fmt: skip


DAILY = {"cholesky", "solve", "lu", "qr", "eigh", "svd", "expm"}
EVERY = [name if name in DAILY else pytest.param(name, marks=pytest.mark.nightly) for name in PROGRAMS]


@pytest.mark.parametrize("name", EVERY)
def test_all_methods_agree(name):
    """Symbolic, forward, reverse, finite differences and compiled code."""
    f, *operands = PROGRAMS[name]
    report = gc.check_gradients(f, *operands)
    assert report.ok, str(report)


@pytest.mark.parametrize("name", EVERY)
def test_second_derivatives(name):
    """Forward over reverse, interpreted and compiled, against differences of the gradient."""
    f, *operands = PROGRAMS[name]
    directions = [np.random.default_rng(3).normal(size=a.shape) for a in operands]
    argnums = tuple(range(len(operands)))
    gradient = gc.grad(f, argnums)
    push = lambda *xs: gc.jvp(gradient, xs, tuple(directions))[1]
    h = 1e-5
    moved = [gradient(*(a + s * h * d for a, d in zip(operands, directions, strict=True))) for s in (1, -1)]
    for found in (push(*operands), gc.jit(push)(*operands)):
        for x, up, down in zip(found, *moved, strict=True):
            np.testing.assert_allclose(x, (up - down) / (2 * h), rtol=2e-6, atol=2e-6 * max(1.0, np.max(np.abs(x))))


# -- textbook formulas -------------------------------------------------------------------------------------------------

I3 = np.linalg.inv(A)
FORMULAS = {
    "∂ det X = det(X) X⁻ᵀ": (lambda x: np.linalg.det(x), A, np.linalg.det(A) * I3.T),
    "∂ log|det X| = X⁻ᵀ": (lambda x: np.linalg.slogdet(x)[1], A, I3.T),
    "∂ aᵀX⁻¹b = −X⁻ᵀabᵀX⁻ᵀ": (lambda x: V @ np.linalg.solve(x, W[0]), A, -np.outer(I3.T @ V, W[0] @ I3.T)),
    "∂ tr(X⁻¹B) = −(X⁻¹BX⁻¹)ᵀ": (lambda x: np.trace(np.linalg.inv(x) @ W), A, -(I3 @ W @ I3).T),
    "∂ det(XᵀX) = 2 det(XᵀX) X(XᵀX)⁻¹": (
        lambda x: np.linalg.det(x.T @ x), T, 2 * np.linalg.det(T.T @ T) * T @ np.linalg.inv(T.T @ T),
    ),
    "∂ ‖X‖₂ = u₁v₁ᵀ": (
        lambda x: np.linalg.norm(x, 2), T, np.outer(np.linalg.svd(T)[0][:, 0], np.linalg.svd(T)[2][0]),
    ),
    "∂ ‖X‖∗ = UVᵀ": (
        lambda x: np.linalg.norm(x, "nuc"), T, np.linalg.svd(T, False)[0] @ np.linalg.svd(T, False)[2],
    ),
    "∂ λ_max = vvᵀ": (
        lambda x: L.eigvalsh((x + x.T) / 2)[-1], S, np.outer(np.linalg.eigh(S)[1][:, -1], np.linalg.eigh(S)[1][:, -1]),
    ),
    "∂ tr exp X = exp(X)ᵀ": (lambda x: np.trace(L.expm(x)), A / 3, np.asarray(L.expm(A / 3)).T),
    "∂ tr √X = ½X^−½": (lambda x: np.trace(L.sqrtm(x)), S, 0.5 * np.linalg.inv(L.sqrtm(S))),
    "∂ tr(X⁻¹) = −X⁻²ᵀ": (lambda x: np.trace(np.linalg.inv(x)), A, -(I3 @ I3).T),
    "∂ log det of a Gaussian": (
        lambda x: 0.5 * V @ np.linalg.solve(x, V) + 0.5 * np.linalg.slogdet(x)[1], S,
        0.5 * (np.linalg.inv(S) - np.outer(np.linalg.solve(S, V), np.linalg.solve(S, V))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_textbook_formulas(name):
    f, x, expected = FORMULAS[name]
    for found in (gc.grad(f)(x), gc.jit(gc.grad(f))(x), gc.grad(f, method="forward")(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


# -- conventions -------------------------------------------------------------------------------------------------------


def test_the_derivative_lives_in_the_triangle_that_is_read():
    for f, kept in (
        (lambda a: np.sum(np.linalg.cholesky(a)), np.tril),
        (lambda a: np.sum(L.cholesky(a, upper=True)), np.triu),
        (lambda a: np.sum(L.eigvalsh(a) * V), np.tril),
        (lambda a: np.sum(L.eigh(a, "U")[0] * V), np.triu),
        (lambda a: np.sum(L.solve_triangular(a, B)), np.triu),
        (lambda a: np.sum(L.solve_triangular(a, B, lower=True, unit_diagonal=True)), lambda g: np.tril(g, -1)),
    ):
        for run in (gc.grad(f), gc.jit(gc.grad(f))):
            found = run(S)
            assert np.array_equal(found, kept(found)) and np.any(found)
        other = S + (1 - kept(np.ones((3, 3)))) * W
        np.testing.assert_allclose(f(other), f(S))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.sum(np.linalg.inv(a) * symmetric(W)),
        lambda a: V @ np.linalg.solve(a, V),
        lambda a: np.linalg.slogdet(a)[1],
        lambda a: np.linalg.det(a),
        lambda a: np.trace(L.expm(a / 10)),
        lambda a: np.sum(L.sqrtm(a) * symmetric(W)),
        lambda a: np.linalg.norm(a, "nuc"),
    ],
)
def test_a_symmetric_argument_gives_a_symmetric_gradient(f):
    found = gc.grad(f)(S)
    np.testing.assert_allclose(found, found.T, rtol=1e-12, atol=1e-13)


def test_a_function_and_its_derivatives_factorise_a_large_matrix_once():
    n = 40
    a, b = R.normal(size=(n, n)) + n * np.eye(n), R.normal(size=n)
    step = gc.jit(gc.value_and_grad(lambda a: b @ np.linalg.solve(a, b) + np.linalg.slogdet(a)[1]))
    plan = str(step.lower(a).schedule)
    assert plan.count("    LU float64") == 1, plan
    value, slope = step(a)
    back = np.linalg.inv(a)
    np.testing.assert_allclose(slope, back.T - np.outer(back.T @ b, back @ b), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(value, b @ back @ b + np.linalg.slogdet(a)[1], rtol=1e-12)


def rank(n, r):
    return R.normal(size=(n, r)) @ R.normal(size=(r, n))


@pytest.mark.parametrize("n", range(6))
def test_determinants_of_singular_matrices(n):
    """The gradient is the matrix of cofactors, the Hessian that of the polynomial, whatever the rank."""
    for r in range(n + 1):
        a = np.diag(np.arange(n) < r).astype(float) if r % 2 else rank(n, r)
        wanted = np.empty((n, n))
        for i, j in itertools.product(range(n), repeat=2):
            wanted[i, j] = (-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1))
        scale = max(1.0, np.linalg.norm(a)) ** max(n - 1, 0)
        for found in (gc.grad(np.linalg.det)(a), gc.jit(gc.grad(np.linalg.det))(a)):
            np.testing.assert_allclose(found, wanted, atol=1e-12 * scale)
        direction = np.random.default_rng(n).normal(size=(n, n))
        hvp = lambda x, d=direction: gc.jvp(gc.grad(np.linalg.det), (x,), (d,))[1]
        h = 1e-3
        steps = [np.asarray(gc.grad(np.linalg.det)(a + k * h * direction)) for k in (-2, -1, 1, 2)]
        slope = (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / (12 * h)
        for found in (hvp(a), gc.jit(hvp)(a)):
            np.testing.assert_allclose(found, slope, atol=1e-8 * scale)


def test_third_derivatives_of_determinants():
    third = lambda x: gc.grad(
        lambda y: np.sum(gc.hessian(np.linalg.det)(y) * np.arange(y.size**2.0).reshape(y.shape * 2))
    )(x)
    for n, r in ((2, 0), (3, 0), (3, 1), (4, 3), (4, 4)):
        a, h, e = rank(n, r), 1e-4, np.random.default_rng(5).normal(size=(n, n))
        weights = np.arange(n**4.0).reshape((n,) * 4)
        difference = [np.sum(np.asarray(gc.hessian(np.linalg.det)(a + s * h * e)) * weights) for s in (1, -1)]
        expected = (difference[0] - difference[1]) / (2 * h)
        np.testing.assert_allclose(np.sum(third(a) * e), expected, rtol=1e-5, atol=1e-5 * max(1.0, abs(expected)))


def test_symmetric_functions_of_equal_eigenvalues():
    """Σ φ(λ) has the derivative φ'(A) however many are equal; so have those of singular values."""
    for a in (np.eye(3), np.diag([2.0, 2.0, 5.0]), np.zeros((3, 3)) + 4 * np.eye(3)):
        for f, slope in (
            (lambda x: np.sum(L.eigvalsh(symmetric(x)) ** 3), 3 * a @ a),
            (lambda x: np.sum(np.log(L.eigvalsh(symmetric(x)))), np.linalg.inv(a)),
            (lambda x: np.sum(L.eigh(symmetric(x))[0] ** 2), 2 * a),
            (lambda x: np.sum(L.svdvals(x) ** 2), 2 * a),
            (lambda x: np.sum(L.svd(x, False)[1]), np.eye(3)),
            (
                lambda x: np.sum(np.sin(L.sqrtm(x)) * np.eye(3)),
                np.diag(np.cos(np.sqrt(np.diag(a))) / (2 * np.sqrt(np.diag(a)))),
            ),
        ):
            for found in (gc.grad(f)(a), gc.jit(gc.grad(f))(a), gc.grad(f, method="forward")(a)):
                np.testing.assert_allclose(found, slope, rtol=1e-12, atol=1e-12)


def test_vectors_of_equal_eigenvalues_have_no_derivative_but_others_do():
    a = np.diag([1.0, 1.0, 4.0]) + 0.0
    top = lambda x: np.sum(L.eigh(symmetric(x))[1][:, -1] * V)
    h, e = 1e-6, symmetric(W)
    for found in (gc.grad(top)(a), gc.jit(gc.grad(top))(a)):
        np.testing.assert_allclose(np.sum(found * e), (top(a + h * e) - top(a - h * e)) / (2 * h), rtol=1e-5)
    assert np.any(np.isnan(gc.grad(lambda x: np.sum(L.eigh(symmetric(x))[1] * W))(a)))
    assert np.any(np.isnan(gc.grad(lambda x: np.sum(L.svd(x, False)[0] * W))(np.eye(3))))
    said = str(gc.explain(top, gc.spec((3, 3))))
    assert "eigenvalues are equal" in said, said


def test_singular_values_that_are_zero_are_taken_as_absolute_values():
    assert np.array_equal(gc.grad(lambda x: np.linalg.norm(x, 2))(np.zeros((2, 3))), np.zeros((2, 3)))
    assert np.array_equal(gc.grad(lambda x: np.linalg.norm(x, "nuc"))(np.zeros((2, 3))), np.zeros((2, 3)))
    found = gc.grad(lambda x: np.linalg.norm(x, "nuc"))(np.diag([3.0, 0.0]))
    np.testing.assert_allclose(found, np.diag([1.0, 0.0]), atol=1e-15)


def test_a_pseudo_inverse_of_constant_rank():
    """Rank 1 of 3 × 3, moved within rank 1."""
    u, v, du, dv = R.normal(size=(4, 3))
    f = lambda t: np.sum(np.sin(L.pinv(np.outer(u + t * du, v + t * dv), rtol=1e-10)))
    h = 1e-6
    for run in (gc.grad(f), gc.jit(gc.grad(f))):
        np.testing.assert_allclose(run(0.0), (f(h) - f(-h)) / (2 * h), rtol=1e-6)


def test_batched_gradients_are_those_of_each():
    for name in ("cholesky", "solve", "inv", "slogdet", "qr", "eigvalsh", "svdvals", "expm", "sqrtm"):
        f, *operands = PROGRAMS[name]
        if operands[0].ndim > 2:
            operands[0] = operands[0][0]
        stacks = [np.stack([a, a * 1.25]) for a in operands]
        for run in (gc.vmap(gc.grad(f)), gc.jit(gc.vmap(gc.grad(f)))):
            for k in range(2):
                np.testing.assert_allclose(run(*stacks)[k], gc.grad(f)(*(s[k] for s in stacks)), rtol=1e-9, atol=1e-10)


def test_a_tangent_that_is_zero_stays_zero_whatever_failed():
    f = lambda a, t: np.where(t > 0, np.sum(L.inv(a, check=False)), t)
    for run in (gc.grad(f), gc.jit(gc.grad(f))):
        assert np.array_equal(run(np.zeros((2, 2)), -1.0), np.zeros((2, 2)))


def test_every_singular_point_that_a_record_declares_is_here():
    """By the text, so that another convention asks for another test."""
    declared = {name: op.singular for name, op in OPS.items() if op.kind.value == "whole" and op.singular}
    assert declared.keys() == {
        "cholesky", "triangular_solve", "lu", "complete_lu", "solve", "inv", "det", "cofactor", "slogdet", "qr", "eigh",
        "eigh_up_to_signs", "eigvalsh", "svd", "svd_up_to_signs", "svdvals", "pinv", "sqrtm", "lyapunov",
    }  # fmt: skip
