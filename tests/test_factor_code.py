"""Code of factorisations: backward errors, results where they belong, failures, threads.

The bounds are those of the algorithms (Higham 2002, Accuracy and Stability of Numerical Algorithms): a residual is at
most a small multiple of n·ε times the size of what was factorised, whatever its condition.
"""

from __future__ import annotations

import itertools
import platform

import numpy as np
import pytest

import gradc as gc
from gradc.ops.algorithm import Algorithm
from tests.factor_harness import SIZES, compiled, definite, draw, error, some_daily

nightly = pytest.mark.nightly
DTYPES = (np.float64, pytest.param(np.float32, marks=nightly))
KINDS = ("random", "graded", "hilbert", "near")
BATCHES = ((3,), (17,), (3, 5))
#: residuals of triangular factors in units of n·ε: γₙ of Higham's theorems 8.5, 9.3 and 10.3, with room for two
MOST = 4.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", some_daily(SIZES, (2, 9, 33, 70)))
def test_cholesky(n, dtype):
    unread = np.triu_indices(n, 1)
    f = None
    for kind in KINDS:
        a = definite(kind, (n, n), dtype)
        given = a.copy()
        given[unread] = np.nan  # what is above the diagonal is not read
        f = f or compiled(Algorithm.CHOLESKY, given)
        lower = f(given)
        assert not np.any(lower[unread]) and np.all(np.diagonal(lower) > 0)
        assert error(lower @ lower.T, a, a, n) < MOST, kind


@pytest.mark.parametrize("dtype", DTYPES[::-1])
@pytest.mark.parametrize("n", some_daily((1, 6, 8, 9, 32, 33), (6, 9)))
def test_cholesky_of_stacks(n, dtype):
    for batch in BATCHES:
        a = definite("random", (*batch, n, n), dtype)
        lower = compiled(Algorithm.CHOLESKY, a)(a)
        assert not np.any(np.triu(lower, 1))
        assert error(lower @ lower.swapaxes(-1, -2), a, a, n) < MOST, batch
    others = a[:, ::-1].copy()
    found = compiled(Algorithm.CHOLESKY, a)(others)
    assert np.array_equal(found[:, ::-1], lower)  # neighbours change no bit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lower", "transposed", "unit"),
    some_daily(list(itertools.product((True, False), repeat=3)), [(True, False, False), (False, True, True)]),
)
def test_triangular_solve(lower, transposed, unit, dtype):
    for n, columns, batch in (
        (1, 1, ()),
        (3, 1, (5,)),
        (8, 2, (3,)),
        (9, 4, ()),
        (20, 3, (17,)),
        (33, 1, (2,)),
        (70, 26, ()),
    ):
        t, b = draw("random", (*batch, n, n), dtype), draw("random", (*batch, n, columns), dtype, 1)
        t = t / np.asarray(2 * n if unit else 1, dtype) + np.eye(n, dtype=dtype) * (0 if unit else n)
        given = np.where(np.tri(n, k=-int(unit), dtype=bool), t, np.nan)
        given = (given if lower else given.swapaxes(-1, -2)).astype(dtype)
        read = np.nan_to_num(given) + (np.eye(n, dtype=dtype) if unit else 0)
        read = read.swapaxes(-1, -2) if transposed else read
        f = compiled(Algorithm.TRIANGULAR_SOLVE, given, b, lower=lower, transposed=transposed, unit=unit)
        x = f(given, b)
        assert error(read @ x, b, np.abs(read) @ np.abs(x), n) < MOST, (n, columns, batch)


@pytest.mark.parametrize("n", some_daily((4, 20, 40), (4, 20)))
def test_failures_name_the_matrix_and_without_check_give_nan(n):
    a = definite("random", (2, 5, n, n), np.float64)
    a[1, 3, n - 1, n - 1] = -1.0
    with pytest.raises(
        gc.LinAlgError, match=r"cholesky of .*'nodes\[0\]'.*matrix \[1, 3\] of the stack is not positive"
    ):
        compiled(Algorithm.CHOLESKY, a)(a)
    with pytest.raises(np.linalg.LinAlgError):
        compiled(Algorithm.CHOLESKY, a)(a)
    found = compiled(Algorithm.CHOLESKY, a, check=False)(a)
    assert np.all(np.isnan(found[1, 3])) and not np.any(np.isnan(found[0]))
    t, b = np.tril(a), np.ones((2, 5, n, 3))
    t[0, 2, 1, 1] = 0.0
    attrs = {"lower": True, "transposed": False, "unit": False}
    with pytest.raises(gc.LinAlgError, match=r"matrix \[0, 2\] of the stack is singular"):
        compiled(Algorithm.TRIANGULAR_SOLVE, t, b, **attrs)(t, b)
    found = compiled(Algorithm.TRIANGULAR_SOLVE, t, b, check=False, **attrs)(t, b)
    assert np.all(np.isnan(found[0, 2])) and not np.any(np.isnan(found[1]))
    bad = a[0, 0].copy()
    bad[0, 0] = np.nan
    with pytest.raises(gc.LinAlgError, match="the matrix is not positive definite"):
        compiled(Algorithm.CHOLESKY, bad)(bad)


@pytest.mark.parametrize("n", some_daily((6, 20, 50), (6, 50)))
def test_threads_and_checked_accesses_give_the_same_bits(n):
    a = definite("random", (600, n, n), np.float64)
    one = compiled(Algorithm.CHOLESKY, a, options={"threads": 1})(a)
    two = compiled(Algorithm.CHOLESKY, a, options={"threads": 2})
    assert "shared" in str(two.schedule) and np.array_equal(two(a), one)
    few = a[:3]
    checked = compiled(Algorithm.CHOLESKY, few, options={"debug": "bounds"})
    assert np.array_equal(checked(few), compiled(Algorithm.CHOLESKY, few)(few))
    a[150, 0, 0] = a[170, 0, 0] = -1
    with pytest.raises(gc.LinAlgError, match=r"matrix \[150\]"):
        two(a)


def test_machines_without_code_say_so():
    a = definite("random", (4, 4), np.float64)
    with pytest.raises(gc.CompileError, match=r"the algorithm of eigenvalues has no code on sm_80.*target='cpu'"):
        compiled(Algorithm.EIGENVALUES, a, options={"target": "sm_80"}).ptx
    assert compiled(Algorithm.CHOLESKY, a, options={"target": "sm_80"}).ptx  # which is written in other ops there


# -- elimination -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "batch"),
    some_daily(
        [((1, 1), ()), ((3, 5), (3,)), ((5, 3), (17,)), ((8, 8), ()), ((9, 20), (17,)), ((32, 12), (3,)),
         ((33, 33), (2,)), ((70, 65), ()), ((65, 130), ()), ((257, 255), ())],
        [((5, 3), (17,)), ((9, 20), (17,)), ((70, 65), ())],
    ),
)  # fmt: skip
def test_elimination_takes_the_largest_pivot(shape, batch, dtype):
    m, n = shape
    f, k = compiled(Algorithm.LU, draw("random", (*batch, m, n), dtype)), min(shape)
    for kind in KINDS:
        a = draw(kind, (*batch, m, n), dtype)
        packed, rows = f(a)
        lower = np.tril(packed[..., :k], -1) + np.eye(m, k)
        upper = np.triu(packed[..., :k, :])
        assert np.array_equal(np.sort(rows, axis=-1), np.broadcast_to(np.arange(m), rows.shape))
        assert np.max(np.abs(lower)) <= 1
        chosen = np.take_along_axis(a, rows[..., None], -2)
        assert error(lower @ upper, chosen, np.abs(lower) @ np.abs(upper), k) < MOST, kind


def test_elimination_of_ties_and_zeros():
    a = np.array([[0.0, 1.0, 2.0], [-3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    for stack in (a, np.stack([a] * 5), np.kron(np.eye(4), a)):
        packed, rows = compiled(Algorithm.LU, stack)(stack)
        first = rows[..., :3] if stack.ndim == 2 else rows[0]
        assert np.array_equal(first, [1, 2, 0])  # the first of the largest, in what is left too
        assert np.all(np.isfinite(packed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "batch"),
    some_daily([(1, ()), (3, (17,)), (8, ()), (20, (5,)), (33, (2,)), (70, ())], [(3, (17,)), (20, (5,)), (70, ())]),
)
def test_solve_and_inverse(n, batch, dtype):
    a = draw("random", (*batch, n, n), dtype)
    for columns, transposed in ((1, False), (3, True), (26, False)):
        b = draw("random", (*batch, n, columns), dtype, 1)
        x = compiled(Algorithm.SOLVE, a, b, transposed=transposed)(a, b)
        read = a.swapaxes(-1, -2) if transposed else a
        assert error(read @ x, b, np.abs(read) @ np.abs(x), n) < MOST, (columns, transposed)
    x = compiled(Algorithm.INVERSE, a)(a)
    assert error(a @ x, np.broadcast_to(np.eye(n, dtype=dtype), a.shape), np.abs(a) @ np.abs(x), n) < MOST
    a[..., n - 1, :] = 0.0
    for check, b in ((True, np.ones_like(a)), (False, np.ones_like(a))):
        f = compiled(Algorithm.SOLVE, a, b, transposed=False, check=check)
        if check:
            with pytest.raises(gc.LinAlgError, match="is singular"):
                f(a, b)
        else:
            assert np.all(np.isnan(f(a, b)))


# -- orthogonal factors ------------------------------------------------------------------------------------------------

MORE_KINDS = (*KINDS, "zero", "identity", "rank one", "gaps", "large", "small")


def _special(kind, shape, dtype):
    a = draw(kind, shape, np.float64)
    limits = np.finfo(dtype)
    if kind == "zero":
        a = a * 0
    elif kind == "identity":
        a = np.broadcast_to(np.eye(*shape[-2:]), shape)
    elif kind == "rank one":
        a = a[..., :1] * a[..., :1, :]
    elif kind == "gaps":
        a = np.triu(a)
        a[..., shape[-1] // 2] = 0
        a[..., min(shape[-2:]) // 3, :] = 0
    elif kind == "large":
        a = a * (float(limits.max) / 100)
    elif kind == "small":
        a = a * (float(limits.tiny) * 8)
    return np.asarray(a, dtype)


def _to_one(kind, *arrays):
    """Arrays scaled so that the first is of moderate size."""
    if kind not in ("large", "small"):
        return arrays
    size = np.max(np.abs(arrays[0]))
    return tuple(x / size for x in arrays)


def _identity_error(q, n):
    """How far the rows of q are from orthonormal."""
    product = q @ q.swapaxes(-1, -2)
    return error(product, np.broadcast_to(np.eye(q.shape[-2], dtype=q.dtype), product.shape), 1.0, n)


SHAPES = some_daily(
    [((1, 1), ()), ((3, 5), (3,)), ((8, 6), (17,)), ((9, 9), ()), ((20, 12), (5,)), ((33, 33), (2,)), ((65, 70), ()),
     ((130, 20), ()), ((255, 257), ()), ((257, 255), ())],
    [((3, 5), (3,)), ((20, 12), (5,)), ((65, 70), ())],
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "batch"), SHAPES)
def test_qr(shape, batch, dtype):
    m, n = shape
    for complete in (False, True):
        f = compiled(Algorithm.QR, draw("random", (*batch, m, n), dtype), complete=complete)
        for kind in MORE_KINDS:
            a = _special(kind, (*batch, m, n), dtype)
            q, r = f(a)
            assert not np.any(np.tril(r, -1))
            assert _identity_error(q.swapaxes(-1, -2), m) < MOST, kind
            a, r = _to_one(kind, a, r)
            assert error(q @ r, a, a, max(m, n)) < MOST, kind
            if kind == "random" and m >= n:  # signs are LAPACK's
                k = min(m, n)
                assert np.array_equal(np.sign(r[..., :k, :k].diagonal(0, -2, -1)),
                                      np.sign(np.linalg.qr(a)[1].diagonal(0, -2, -1)))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "batch"),
    some_daily(
        [*((n, ()) for n in SIZES), *((n, (17,)) for n in range(1, 18)), (33, (2,))],
        [(3, ()), (70, ()), (6, (17,)), (33, (2,))],
    ),
)
def test_eigenvectors(n, batch, dtype):
    first = draw("random", (*batch, n, n), dtype)
    f, g = compiled(Algorithm.EIGH, first), compiled(Algorithm.EIGENVALUES, first)
    for kind in MORE_KINDS:
        x = _special(kind, (*batch, n, n), dtype)
        a = np.tril(x) + np.tril(x, -1).swapaxes(-1, -2)
        given = np.where(np.tri(n, dtype=bool), a, np.nan).astype(dtype)  # the upper triangle is not read
        (w, v), values = f(given), g(given)
        assert np.all(np.diff(w, axis=-1) >= 0)
        assert _identity_error(v.swapaxes(-1, -2), n) < MOST, kind
        a, w, values = _to_one(kind, a, w, values)
        assert error(a @ v, v * w[..., None, :], a, n) < MOST, kind
        assert error(w, np.linalg.eigvalsh(a.astype(np.float64)).astype(dtype), a, n) < MOST, kind
        assert error(values, w, a, n) < MOST, kind


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "batch"), SHAPES)
def test_singular_vectors(shape, batch, dtype):
    m, n = shape
    k, size = min(m, n), max(m, n)
    first = draw("random", (*batch, m, n), dtype)
    g = compiled(Algorithm.SINGULAR_VALUES, first)
    for full in (False, True):
        f = compiled(Algorithm.SVD, first, full=full)
        for kind in MORE_KINDS:
            a = _special(kind, (*batch, m, n), dtype)
            (u, w, vt), values = f(a), g(a)
            assert np.all(np.diff(w, axis=-1) <= 0) and np.all(w >= 0)
            assert _identity_error(u.swapaxes(-1, -2), size) < MOST and _identity_error(vt, size) < MOST, kind
            a, w, values = _to_one(kind, a, w, values)
            assert error((u[..., :k] * w[..., None, :]) @ vt[..., :k, :], a, a, size) < MOST, kind
            assert error(values, w, a, size) < MOST, kind
        expected = np.linalg.svd(first.astype(np.float64), compute_uv=False).astype(dtype)
        assert error(f(first)[1], expected, first, size) < MOST


@pytest.mark.parametrize("algorithm", [Algorithm.EIGH, Algorithm.SVD])
@pytest.mark.parametrize(("n", "batch"), some_daily([(5, ()), (6, (20,)), (40, (3,))], [(6, (20,)), (40, (3,))]))
def test_what_is_not_finite_has_no_eigenvalues(algorithm, n, batch):
    attrs = {"full": False} if algorithm is Algorithm.SVD else {}
    for bad in (np.nan, np.inf):
        a = draw("random", (*batch, n, n), np.float64)
        a[(1,) * len(batch) + (n - 1, 1)] = bad
        with pytest.raises(gc.LinAlgError, match=r"matrix \[1\]" if batch else "the matrix is not finite"):
            compiled(algorithm, a, **attrs)(a)
        for found in compiled(algorithm, a, check=False, **attrs)(a):
            wrong = found[1] if batch else found
            assert np.all(np.isnan(wrong))
            assert np.count_nonzero(np.isnan(found)) == wrong.size  # and only that one


@pytest.mark.parametrize("algorithm", [Algorithm.LU, Algorithm.QR, Algorithm.EIGH, Algorithm.SVD])
def test_results_that_nobody_reads_and_matrices_without_elements(algorithm):
    attrs = {Algorithm.SVD: {"full": True}, Algorithm.QR: {"complete": True}}.get(algorithm, {})
    for shape in ((4, 4), (20, 4, 4), (40, 40)):
        a = draw("random", shape, np.float64)
        whole = compiled(algorithm, a, **attrs)(a)
        for k, expected in enumerate(whole):
            (found,) = compiled(algorithm, a, read=(k,), **attrs)(a)
            assert np.allclose(found, expected, atol=1e-12)
    for shape in ((0, 0), (3, 0, 0), (0, 4, 4)):
        empty = np.empty(shape)
        for found in compiled(algorithm, empty, **attrs)(empty):
            assert found.size == 0
    if algorithm in (Algorithm.QR, Algorithm.SVD):
        for shape in ((3, 0), (2, 3, 0), (0, 3)):
            for found in compiled(algorithm, np.empty(shape), **attrs)(np.empty(shape)):
                if found.size:
                    assert np.array_equal(found, np.broadcast_to(np.eye(*found.shape[-2:]), found.shape))


@nightly
@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize("cpu", ("x86-64", "x86-64-v3"))
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are levels of x86-64")
def test_other_widths_of_vectors(cpu, dtype):
    for n, batch in ((5, (7,)), (20, (3,)), (37, ()), (70, ())):
        a = draw("random", (*batch, n, n), dtype)
        definite_a = definite("random", a.shape, dtype)
        symmetric = np.asarray(a + a.swapaxes(-1, -2), dtype)

        def run(algorithm, x, **attrs):
            return compiled(algorithm, x, options={"cpu": cpu}, **attrs)(x)

        lower = run(Algorithm.CHOLESKY, definite_a)
        assert error(lower @ lower.swapaxes(-1, -2), definite_a, definite_a, n) < MOST
        x = run(Algorithm.INVERSE, a)
        assert error(a @ x, np.broadcast_to(np.eye(n, dtype=dtype), a.shape), np.abs(a) @ np.abs(x), n) < MOST
        q, r = run(Algorithm.QR, a, complete=False)
        assert error(q @ r, a, a, n) < MOST and _identity_error(q.swapaxes(-1, -2), n) < MOST
        w, v = run(Algorithm.EIGH, symmetric)
        assert error(symmetric @ v, v * w[..., None, :], symmetric, n) < MOST
        u, w, vt = run(Algorithm.SVD, a, full=False)
        assert error((u * w[..., None, :]) @ vt, a, a, n) < MOST and _identity_error(vt, n) < MOST
