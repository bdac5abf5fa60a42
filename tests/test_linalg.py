"""gc.linalg: the values, shapes and dtypes of NumPy and SciPy, traced, compiled and batched; failures by name.

A factorisation is held against what must hold of it where its signs or its order are free, else against the function of
the same name.  Derivatives are in test_linalg_derivatives.py, residuals of compiled code in test_factor_code.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.linalg

import gradc as gc
import gradc.numpy as gnp
from gradc.node import FUNCTIONS

R = np.random.default_rng(0)
A = R.normal(size=(4, 4)) + 4 * np.eye(4)  # regular
S = A @ A.T  # symmetric positive
T = R.normal(size=(5, 3))  # tall
B = R.normal(size=(4, 2))
V = R.normal(size=4)
X = R.normal(size=(2, 3, 6))
STACK = np.stack([A, S, A.T]).reshape(3, 1, 4, 4)
DEFINITE = np.stack([S, S + np.eye(4)])
np_, sp = np.linalg, scipy.linalg

#: a call in terms of a namespace, the namespace that it is compared with, and its operands
CALLS = {
    "cholesky": (lambda m, a: m.cholesky(a), np_, (DEFINITE,)),
    "cholesky upper": (lambda m, a: m.cholesky(a, upper=True), np_, (S,)),
    "solve": (lambda m, a, b: m.solve(a, b), np_, (A, V)),
    "solve columns": (lambda m, a, b: m.solve(a, b), np_, (STACK, B)),
    "inv": (lambda m, a: m.inv(a), np_, (STACK,)),
    "det": (lambda m, a: m.det(a), np_, (STACK,)),
    "slogdet": (lambda m, a: m.slogdet(a), np_, (-STACK,)),
    "slogdet singular": (lambda m, a: m.slogdet(a), np_, (np.zeros((2, 2)),)),
    "qr": (lambda m, a: m.qr(a), np_, (T,)),
    "qr wide": (lambda m, a: m.qr(a), np_, (np.stack([T.T, T.T]),)),
    "qr complete": (lambda m, a: m.qr(a, mode="complete"), np_, (T,)),
    "qr r": (lambda m, a: m.qr(a, "r"), np_, (T,)),
    "tensorsolve": (lambda m, a, b: m.tensorsolve(a, b), np_, (X, np.ones((2, 3)))),
    "tensorsolve axes": (lambda m, a, b: m.tensorsolve(a, b, axes=(0, 1)), np_, (X, np.ones(6))),
    "tensorinv": (lambda m, a: m.tensorinv(a, ind=2), np_, (X,)),
    "matrix_power": (lambda m, a: m.matrix_power(a, -3), np_, (STACK,)),
    "solve_triangular": (lambda m, a, b: m.solve_triangular(a, b), sp, (A, B)),
    "solve_triangular lower": (lambda m, a, b: m.solve_triangular(a, b, lower=True, trans="T"), sp, (A, V)),
    "solve_triangular unit": (lambda m, a, b: m.solve_triangular(a, b, 1, unit_diagonal=True), sp, (A, B)),
    "cho_solve": (lambda m, a, b: m.cho_solve(m.cho_factor(a), b), sp, (S, B)),
    "cho_solve lower": (lambda m, a, b: m.cho_solve(m.cho_factor(a, lower=True), b), sp, (S, V)),
    "cho_factor": (lambda m, a: gnp.triu(m.cho_factor(a)[0]), sp, (S,)),
    "lu": (lambda m, a: m.lu(a), sp, (T,)),
    "lu wide": (lambda m, a: m.lu(a), sp, (T.T,)),
    "lu stack": (lambda m, a: m.lu(a), sp, (np.stack([T, -T[::-1]]),)),
    "lu permuted": (lambda m, a: m.lu(a, permute_l=True), sp, (T,)),
    "lu indices": (lambda m, a: m.lu(a, p_indices=True), sp, (T,)),
    "lu_factor": (lambda m, a: m.lu_factor(a), sp, (A,)),
    "lu_factor tall": (lambda m, a: m.lu_factor(a), sp, (T,)),
    "lu_solve": (lambda m, a, b: m.lu_solve(m.lu_factor(a), b), sp, (A[::-1].copy(), V)),
    "lu_solve transposed": (lambda m, a, b: m.lu_solve(m.lu_factor(a), b, trans=1), sp, (A[::-1].copy(), B)),
    "expm": (lambda m, a: m.expm(a), sp, (STACK[:, 0],)),
    "expm large": (lambda m, a: m.expm(a), sp, (-20 * S / np.max(S),)),
    "block_diag": (lambda m, a, b, v: m.block_diag(a, b, v, v[0]), sp, (A, B, V)),
    "toeplitz": (lambda m, c: m.toeplitz(c), sp, (V,)),
    "toeplitz row": (lambda m, c, r: m.toeplitz(c, r), sp, (V, np.arange(3.0))),
    "kron": (lambda m, a, b: m.kron(a, b), np, (A, B)),
    "eigvalsh": (lambda m, a: m.eigvalsh(a), np_, (DEFINITE,)),
    "eigvalsh upper": (lambda m, a: m.eigvalsh(a, UPLO="U"), np_, (A,)),
    "svdvals": (lambda m, a: m.svdvals(a), np_, (np.stack([T, 2 * T]),)),
    "svd values": (lambda m, a: m.svd(a, compute_uv=False), np_, (T.T,)),
    "svd hermitian": (lambda m, a: m.svd(a, compute_uv=False, hermitian=True), np_, (S,)),
    "pinv": (lambda m, a: m.pinv(a), np_, (np.stack([T, T + 1]),)),
    "pinv rank": (lambda m, a: m.pinv(a, rtol=0.3), np_, (T.T,)),
    "pinv hermitian": (lambda m, a: m.pinv(a, hermitian=True), np_, (S,)),
    "lstsq": (lambda m, a, b: m.lstsq(a, b), np_, (T, R.normal(size=5))),
    "lstsq columns": (lambda m, a, b: m.lstsq(a, b, rcond=-1), np_, (T, R.normal(size=(5, 2)))),
    "lstsq wide": (lambda m, a, b: m.lstsq(a, b), np_, (T.T, R.normal(size=3))),
    "matrix_rank": (lambda m, a: m.matrix_rank(a), np_, (np.stack([A, np.ones((4, 4))]),)),
    "matrix_rank tol": (lambda m, a: m.matrix_rank(a, tol=2.0), np_, (T,)),
    "matrix_rank vector": (lambda m, a: m.matrix_rank(a), np_, (V,)),
    **{f"cond {p}": (lambda m, a, p=p: m.cond(a, p), np_, (STACK,)) for p in (None, -2, 2, 1, -1, "fro", np.inf)},
    "cond singular": (lambda m, a: m.cond(a, 1), np_, (np.ones((2, 2)),)),
    **{f"norm {p}": (lambda m, a, p=p: m.norm(a, p, axis=(0, 2)), np_, (STACK[:, 0],)) for p in (2, -2, "nuc")},
    "norm kept": (lambda m, a: m.norm(a, 2, axis=(1, 2), keepdims=True), np_, (STACK[:, 0],)),
    "matrix_norm": (lambda m, a: m.matrix_norm(a, ord="nuc"), np_, (STACK,)),
}

DAILY = {"cholesky", "solve columns", "slogdet", "qr", "lu", "lu_solve", "svdvals", "lstsq", "cond fro", "expm"}


def daily(names):
    """All of ``names``, those not in `DAILY` nightly."""
    return [name if name in DAILY else pytest.param(name, marks=pytest.mark.nightly) for name in names]


def flat(result):
    return [np.asarray(y) for y in result] if isinstance(result, tuple) else [np.asarray(result)]


def size(y):
    """The largest of the finite numbers, at least 1."""
    return max(1.0, float(np.max(np.abs(y), initial=0.0, where=np.isfinite(y))))


def orthogonal(q, k):
    """Whether the k columns of each matrix are orthonormal."""
    gram = np.swapaxes(q, -1, -2) @ q
    return gram.shape[-1] == k and np.allclose(gram, np.eye(k), atol=1e-13)


def agree(got, want, name, eps=1e-11):
    assert len(got) == len(want), name
    for x, y in zip(got, want, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype), (name, x.shape, x.dtype, y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=eps, atol=eps * size(y))


@pytest.mark.parametrize("name", CALLS)
def test_values_are_those_of_numpy_and_scipy(name):
    """Outside a trace, traced, and of the arguments' own dtypes."""
    call, reference, operands = CALLS[name]
    want = flat(call(reference, *operands))
    agree(flat(call(gc.linalg, *operands)), want, name)
    graph = gc.trace(lambda *xs: call(gc.linalg, *xs), *operands)
    agree(graph.evaluate(*operands), want, name)
    if hasattr(np_, name.split()[0]):  # NumPy's own function, on traced values
        graph = gc.trace(lambda *xs: call(np_, *xs), *operands)
        agree(graph.evaluate(*operands), want, name)


@pytest.mark.parametrize("name", CALLS)
def test_compiled_values_are_the_same(name):
    call, _, operands = CALLS[name]
    agree(flat(gc.jit(lambda *xs: call(gc.linalg, *xs))(*operands)), flat(call(gc.linalg, *operands)), name)


@pytest.mark.parametrize("name", daily(n for n in CALLS if all(a.ndim < 3 for a in CALLS[n][2])))
def test_a_stack_is_one_matrix_after_another(name):
    """Under `vmap`, each operand batched alone and all together."""
    call, _, operands = CALLS[name]
    axes = [(0,) * len(operands)] + [
        tuple(0 if i == k else None for i in range(len(operands))) for k in range(len(operands))
    ]
    for chosen in dict.fromkeys(axes):
        given = [np.stack([a, a * 1.5]) if axis == 0 else a for a, axis in zip(operands, chosen, strict=True)]
        found = gc.vmap(lambda *xs: call(gc.linalg, *xs), in_axes=chosen)(*given)
        for k in range(2):
            one = [a[k] if axis == 0 else a for a, axis in zip(given, chosen, strict=True)]
            agree([y[k] for y in flat(found)], flat(call(gc.linalg, *one)), name)


@pytest.mark.parametrize("name", daily(CALLS))
def test_float32_stays_float32_and_narrow_floats_are_computed_in_it(name):
    call, _, operands = CALLS[name]
    want, got = flat(call(gc.linalg, *operands)), flat(call(gc.linalg, *(a.astype(np.float32) for a in operands)))
    eps = 1e3 * 1e-6  # the largest condition here, and a few roundings
    for x, y in zip(got, want, strict=True):
        assert x.dtype == (np.float32 if y.dtype == np.float64 else y.dtype)
        if name not in ("cond singular", "pinv rank"):
            np.testing.assert_allclose(x, y, rtol=eps, atol=eps * size(y))
    narrow = [a.astype(ml_dtypes.bfloat16) for a in operands]
    wide = flat(call(gc.linalg, *[a.astype(np.float32) for a in narrow]))
    for x, y in zip(flat(call(gc.linalg, *narrow)), wide, strict=True):
        assert x.dtype == (ml_dtypes.bfloat16 if y.dtype == np.float32 else y.dtype)
        if x.dtype == ml_dtypes.bfloat16:  # rounded once, but where several functions follow each other
            np.testing.assert_allclose(x.astype(float), y, rtol=0.05, atol=0.05 * size(y))


def test_every_name_is_called_here_or_among_the_cases_of_numpy():
    called = {name.split()[0] for name in CALLS}
    elsewhere = "cross diagonal matmul matrix_transpose multi_dot outer tensordot trace vecdot vector_norm"
    below = {"eig", "eigvals", "eigh", "sqrtm"}
    assert set(gc.linalg.__all__) == called | {*elsewhere.split()} | below
    assert {f"linalg.{name}" for name in gc.linalg.__all__ if hasattr(np_, name)} <= FUNCTIONS.keys()


# -- what must hold ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uplo", ["L", "U", "l"])
def test_eigenvectors(uplo):
    """Of the triangle that is read; the first element of nearly the largest size is positive."""
    for a in (A, DEFINITE, np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(3), np.zeros((0, 0)), np.array([[-2.0]])):
        w, v = gc.linalg.eigh(a, uplo)
        low = np.tril(a if uplo in "Ll" else np.swapaxes(a, -1, -2))
        whole = low + np.swapaxes(np.tril(low, -1), -1, -2)
        np.testing.assert_allclose((v * w[..., None, :]) @ np.swapaxes(v, -1, -2), whole, atol=1e-12)
        assert orthogonal(v, a.shape[-1])
        assert np.all(np.diff(w, axis=-1) >= 0)
        for column in np.moveaxis(v, -1, 0).reshape(-1, a.shape[-1]) if a.size else ():
            size = np.abs(column)
            assert column[np.argmax(size >= 0.9 * np.max(size))] > 0
    result = gc.linalg.eigh(S)
    assert result.eigenvalues is result[0] and result.eigenvectors is result[1]


@pytest.mark.parametrize("full", [True, False])
def test_singular_vectors(full):
    for a in (T, T.T, STACK, np.ones((3, 3)), np.zeros((2, 3)), np.zeros((0, 2))):
        u, s, vt = gc.linalg.svd(a, full_matrices=full)
        k = min(a.shape[-2:])
        assert u.shape[-1] == (a.shape[-2] if full else k) and vt.shape[-2] == (a.shape[-1] if full else k)
        np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vt[..., :k, :], a, atol=1e-13)
        assert orthogonal(u, u.shape[-1]) and orthogonal(np.swapaxes(vt, -1, -2), vt.shape[-2])
    assert gc.linalg.svd(T)._fields == ("U", "S", "Vh")


def test_symmetric_square_roots():
    root = gc.linalg.sqrtm(DEFINITE)
    np.testing.assert_allclose(root @ root, DEFINITE, rtol=1e-12)
    np.testing.assert_allclose(gc.linalg.sqrtm(S), scipy.linalg.sqrtm(S), rtol=1e-10)
    np.testing.assert_allclose(gc.linalg.sqrtm(np.ones((3, 3))), np.ones((3, 3)) / np.sqrt(3), rtol=1e-12)
    assert np.all(np.isnan(gc.linalg.sqrtm(-S)))


FACTORISED = ["cholesky", "inv", "det", "slogdet", "qr", "eigh", "eigvalsh", "svd", "svdvals", "lu", "expm", "sqrtm"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", FACTORISED)
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 3, 3), (2, 0, 2, 2)])
def test_no_matrices_and_matrices_of_nothing(name, shape):
    a = np.full(shape, 2.0)
    reference = np_ if hasattr(np_, name) else sp
    found = flat(getattr(gc.linalg, name)(a))
    if reference is np_:
        assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in flat(getattr(np_, name)(a))]
    agree(flat(gc.jit(getattr(gc.linalg, name))(a)), found, name)


def test_integers_become_float64():
    a = np.array([[2, 1], [1, 3]])
    for name in ("cholesky", "inv", "det", "eigvalsh", "svdvals", "expm"):
        assert np.asarray(getattr(gc.linalg, name)(a)).dtype == np.float64


def test_the_page_runs():
    text = (Path(__file__).resolve().parent.parent / "docs" / "linalg.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/linalg.md", "exec"), names)
    mentioned = set(re.findall(r"`(\w+)`", text))
    own = ["matmul", "matrix_transpose", "multi_dot", "cross", "tensordot", "vecdot", "eig", "eigvals"]
    assert set(gc.linalg.__all__) - {*own} <= mentioned


# -- failures ----------------------------------------------------------------------------------------------------------


def definite(K):
    scaled = K * 1.0
    return np.linalg.cholesky(scaled), scaled


def inverse(K):
    return gc.linalg.inv(K)


def solved(K):
    return np.linalg.solve(K, np.ones(K.shape[-1]))


def halved(K):
    return gc.linalg.solve_triangular(K, np.ones(K.shape[-1]), lower=True)


def spectrum(K):
    return np.linalg.eigh(K)[1]


def stretched(K):
    return np.linalg.svd(K)[0]


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize(
    ("f", "bad", "op", "variable", "words"),
    [
        (definite, -1.0, "cholesky", "scaled", "not positive definite"),
        (inverse, 0.0, "inv|solve", "K", "singular"),
        (solved, 0.0, "solve", "K", "singular"),
        (halved, 0.0, "triangular_solve", "K", "singular"),
        (spectrum, np.nan, "eigh", "K", "not finite"),
        (stretched, np.nan, "svd", "K", "not finite"),
    ],
)
def test_failures_name_line_variable_and_matrix(f, bad, op, variable, words, n):
    """Interpreted and compiled, alone, in a loop, and under vmap, where they say which matrix."""
    good = np.eye(n) * 2
    line = rf"test_linalg\.py:{f.__code__.co_firstlineno + 1 + (f is definite)}: ({op}) of traced array '{variable}'"
    for run in (lambda a: gc.trace(f, good).evaluate(a), gc.jit(f)):
        with pytest.raises(gc.LinAlgError, match=rf"{line}.*the matrix is {words}.*check=False") as caught:
            run(good * bad)
        assert isinstance(caught.value, np.linalg.LinAlgError)
        assert isinstance(caught.value, gc.GradcError)
    stack = np.stack([good, good * bad, good])
    for run in (gc.vmap(f), gc.jit(gc.vmap(f))):
        with pytest.raises(gc.LinAlgError, match=rf"test_linalg\.py.*matrix \[1\] of the stack is {words}"):
            run(stack)
    scan = lambda xs: gc.scan(lambda c, x: (c, f(x)), 0.0, xs)
    for run in (scan, gc.jit(scan)):
        with pytest.raises(gc.LinAlgError, match=rf"({op}) of .*the matrix is {words}"):
            run(stack)


@pytest.mark.parametrize("name", ["cholesky", "inv", "eigh", "svd", "svdvals", "pinv", "eigvalsh", "sqrtm"])
def test_without_check_what_fails_is_nan_and_its_neighbours_are_right(name):
    f, good = getattr(gc.linalg, name), np.eye(3) * 2
    bad = {"cholesky": -good, "inv": np.ones((3, 3))}.get(name, np.full((3, 3), np.nan))
    stack = np.stack([good, bad, good])
    unchecked = lambda a: f(a, check=False)
    for run in (unchecked, gc.jit(unchecked)):
        for x, y in zip(flat(run(stack)), flat(f(good)), strict=True):
            assert np.all(np.isnan(x[1]))
            np.testing.assert_allclose(x[0], y)
            np.testing.assert_allclose(x[2], y)
    if name not in ("cholesky", "inv"):
        for run in (f, gc.jit(f)):
            with pytest.raises(gc.LinAlgError, match=r"matrix \[1\] of the stack is not finite"):
                run(stack)


def test_a_singular_determinant_is_no_failure():
    for f in (gc.linalg.det, gc.jit(gc.linalg.det)):
        assert f(np.ones((3, 3))) == 0
    sign, size = gc.jit(gc.linalg.slogdet)(np.zeros((2, 2)))
    assert (sign, size) == (0, -np.inf)
    with pytest.raises(gc.LinAlgError, match=r"inv of .*'a'.*singular"):
        gc.grad(lambda a: gc.linalg.slogdet(a)[1])(np.ones((2, 2)))
    assert np.all(np.isnan(gc.grad(lambda a: gc.linalg.slogdet(a, check=False)[1])(np.ones((2, 2)))))


ERRORS = [
    (lambda a: np.linalg.inv(a[:2]), gc.ShapeError, r"inv needs square matrices, got .*float64\[2,4\]"),
    (lambda a: np.linalg.inv(a[0]), np.linalg.LinAlgError, r"inv needs matrices in the last two axes"),
    (lambda a: np.linalg.solve(a, a[:2]), gc.ShapeError, "as many rows as the matrix"),
    (lambda a: np.linalg.solve(np.stack([a, a]), np.stack([a] * 3)), gc.ShapeError, "do not broadcast"),
    (lambda a: np.linalg.eigh(a, "X"), ValueError, "expected 'L' or 'U'"),
    (lambda a: np.linalg.qr(a, "raw"), ValueError, "'raw' is LAPACK's own"),
    (lambda a: np.linalg.eig(a), gc.TraceError, "complex.*real numbers(.|\n)*eigh"),
    (lambda a: np.linalg.eigvals(a), gc.TraceError, "complex"),
    (lambda a: np.linalg.norm(a, 3, axis=(0, 1)), gc.TraceError, "expected 'fro', 'nuc'"),
    (lambda a: np.linalg.tensorsolve(a, a[0, :3]), gc.ShapeError, "as many unknowns"),
    (lambda a: np.linalg.tensorinv(a, ind=0), ValueError, "positive"),
    (lambda a: np.linalg.cond(a[:0]), gc.ShapeError, "empty"),
    (lambda a: np.linalg.lstsq(a, a[:2]), gc.ShapeError, "numbers of rows"),
    (lambda a: np.linalg.matrix_rank(a, tol=1.0, rtol=1.0), ValueError, "not both"),
    (lambda a: gc.linalg.solve_triangular(a, a, trans=3), ValueError, "expected 0 or 'N'"),
    (lambda a: gc.linalg.lu_solve((a, a), a), gc.ShapeError, "no pivots"),
    (lambda a: gc.grad(lambda x: np.sum(np.linalg.qr(x, "complete")[0]))(a[:, :2]), gc.TraceError, "mode='reduced'"),
    (lambda a: gc.grad(lambda x: np.sum(np.linalg.svd(x)[0]))(a[:, :2]), gc.TraceError, "full_matrices=False"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "error", "words"), ERRORS)
def test_errors_say_the_line_and_what_is_expected(program, error, words):
    with pytest.raises(error, match=words) as caught:
        gc.trace(program, A)
    assert re.search(r"test_linalg\.py:\d+", str(caught.value))
