"""Sparse matrices in traced functions: SciPy's own and traced values, products from both sides, and their derivatives.

Each product is held against the dense one; the op itself is walked by `test_ops`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

import gradc as gc
import gradc.numpy as gnp
from gradc.interpret import interpret
from gradc.node import OPS, constant
from gradc.ops.sparse import LANES, MOST_LENGTHS, Structure

RANDOM = np.random.default_rng(5)
M, N = 7, 4
DENSE = RANDOM.normal(size=(M, N)) * (RANDOM.random((M, N)) < 0.4)
LEFT, RIGHT = RANDOM.normal(size=M), RANDOM.normal(size=N)
LEFTS, RIGHTS = RANDOM.normal(size=(3, M)), RANDOM.normal(size=(N, 2))

FORMATS = ("csr", "csc", "coo", "dia", "bsr", "lil", "dok")
PRODUCTS: dict[str, tuple[Callable, np.ndarray, np.ndarray]] = {
    "A @ x": (lambda A, x: A @ x, RIGHT, DENSE @ RIGHT),
    "A @ X": (lambda A, x: A @ x, RIGHTS, DENSE @ RIGHTS),
    "x @ A": (lambda A, x: x @ A, LEFT, LEFT @ DENSE),
    "X @ A": (lambda A, x: x @ A, LEFTS, LEFTS @ DENSE),
    "A.T @ x": (lambda A, x: A.T @ x, LEFT, DENSE.T @ LEFT),
    "np.matmul": (lambda A, x: np.matmul(A, x), RIGHTS, DENSE @ RIGHTS),
    "np.dot": (lambda A, x: np.dot(A, x), RIGHT, DENSE @ RIGHT),
    "gnp.matmul": (lambda A, x: gnp.matmul(x, A), LEFT, LEFT @ DENSE),
    "x.dot": (lambda A, x: x.dot(A), LEFT, LEFT @ DENSE),
    "slices": (lambda A, x: A[:3] @ x, RIGHT, DENSE[:3] @ RIGHT),
}


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_scipys_matrices(name, kind):
    f, x, expected = PRODUCTS[name]
    for form in FORMATS:
        A = getattr(sp, f"{form}_{kind}")(sp.csr_array(DENSE) if kind == "array" else sp.csr_matrix(DENSE))
        if name == "slices" and form in ("coo", "dia", "bsr"):  # SciPy does not slice them
            continue
        found = gc.trace(lambda v, A=A: f(A, v), x).evaluate(x)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14, err_msg=form)


@pytest.mark.parametrize("name", ["A @ x", "X @ A"])
def test_products_are_compiled_and_differentiated(name):
    f, x, expected = PRODUCTS[name]
    A = sp.csr_array(DENSE)
    compiled = gc.jit(lambda v: f(A, v))
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-14, atol=1e-14)
    for method in ("reverse", "forward", "symbolic"):
        found = gc.grad(lambda v: np.sum(np.sin(f(A, v))), method=method)(x)
        dense = gc.grad(lambda v: np.sum(np.sin(f(gnp.asarray(DENSE), v))))(x)
        np.testing.assert_allclose(found, dense, rtol=1e-13, atol=1e-13)
    report = gc.check_gradients(lambda v: np.sum(np.sin(f(A, v))), x)
    assert report.ok, report


def test_star_of_matrices_is_their_product():
    A = sp.csr_matrix(DENSE)
    np.testing.assert_allclose(gc.jit(lambda v: A * v)(RIGHT), A * RIGHT)


def test_values_are_differentiated():
    """By the stored values, by the vector, and by both twice: as the dense matrix at those places."""
    A = gc.sparse.from_scipy(sp.csr_array(DENSE))
    rows, columns = A.indices.T

    def sparse(values, x):
        return np.sum(np.sin(gc.sparse.SparseMatrix(values, A.structure) @ x))

    def dense(values, x):
        return np.sum(np.sin(gnp.zeros((M, N)).at[rows, columns].add(values) @ x))

    for of in (gc.grad, lambda f, argnums: gc.jit(gc.grad(f, argnums)), gc.hessian):
        found, expected = of(sparse, (0, 1))(A.data, RIGHT), of(dense, (0, 1))(A.data, RIGHT)
        for a, b in zip(gc.tree.leaves(found), gc.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_matrix_is_an_argument_and_a_result():
    A = gc.sparse.from_scipy(sp.coo_array(DENSE))
    double = gc.jit(lambda B, x: (gc.sparse.SparseMatrix(2 * B.data, B.structure), B.T @ x))
    B, product = double(A, LEFT)
    np.testing.assert_array_equal(B.toarray(), 2 * DENSE)
    np.testing.assert_allclose(product, DENSE.T @ LEFT)
    slope = gc.grad(lambda B: np.sum((B @ RIGHT) ** 2))(A)
    assert isinstance(slope, gc.sparse.SparseMatrix) and slope.shape == (M, N)
    np.testing.assert_allclose(slope.toarray(), np.outer(2 * DENSE @ RIGHT, RIGHT) * (DENSE != 0))
    np.testing.assert_allclose(A @ RIGHT, DENSE @ RIGHT)
    np.testing.assert_allclose(LEFTS @ A, LEFTS @ DENSE)
    np.testing.assert_array_equal(A.tocsr().toarray(), DENSE)
    np.testing.assert_array_equal(gc.jit(lambda B: B.toarray())(A), DENSE)


def test_own_matrices():
    indptr, indices, data = [0, 2, 2, 3], [0, 2, 1], np.array([1.0, 2.0, 3.0])
    scipys = sp.csr_array((data, indices, indptr), shape=(3, 3))
    x = np.arange(1.0, 4.0)
    np.testing.assert_array_equal(gc.jit(lambda d: gc.sparse.csr(d, indices, indptr, (3, 3)) @ x)(data), scipys @ x)
    twice = gc.sparse.coo(np.array([1.0, 2.0]), [0, 0], [1, 1], (2, 2))  # what stands at one place adds up
    np.testing.assert_array_equal(twice.toarray(), [[0, 3], [0, 0]])
    np.testing.assert_array_equal(twice @ np.ones(2), [3, 0])


def test_in_loops_and_batches():
    A = sp.csr_array(DENSE.T @ DENSE)
    x = RIGHT / 10
    found = gc.jit(lambda v: gc.fori_loop(0, 3, lambda _, u: A @ u, v))(x)
    np.testing.assert_allclose(found, A @ (A @ (A @ x)))
    np.testing.assert_allclose(gc.jit(gc.vmap(lambda v: A @ v))(RIGHTS.T), RIGHTS.T @ A.toarray().T)
    slopes = gc.jit(gc.vmap(gc.grad(lambda v: v @ (A @ v))))(RIGHTS.T)
    np.testing.assert_allclose(slopes, 2 * RIGHTS.T @ A.toarray())
    np.testing.assert_allclose(
        gc.jit(gc.grad(lambda v: np.sum(gc.fori_loop(0, 3, lambda _, u: A @ u, v))))(x),
        (A.T @ (A.T @ (A.T @ np.ones(N)))),
    )


def test_dtypes_promote():
    A = sp.csr_array(DENSE.astype(np.float32))
    assert gc.jit(lambda v: A @ v)(RIGHT.astype(np.float32)).dtype == np.float32
    assert gc.jit(lambda v: A @ v)(RIGHT).dtype == np.float64
    whole = sp.csr_array((DENSE != 0).astype(np.int64))
    np.testing.assert_array_equal(gc.jit(lambda v: whole @ v)(np.arange(N)), whole @ np.arange(N))


def lengths(case: str) -> np.ndarray:
    """How many entries each row of a matrix has."""
    if case == "many lengths":
        return np.arange(MOST_LENGTHS + 40)
    if case == "nearly equal":
        return np.append(np.full(4 * LANES, 3), [0, 1, 5, 0, 9])
    if case == "more than the lanes":
        return np.full(LANES + 3, 2)
    return np.array([0, 3, 0, 1, 3, 200, 0])


@pytest.mark.parametrize("case", ["some", "more than the lanes", "many lengths", "nearly equal"])
@pytest.mark.parametrize("order", ["rows", "shuffled"])
def test_rows_of_all_lengths(case, order):
    """Blocks of rows, rows that are filled up, rows without entries; infinite elements where there is no entry."""
    counts = lengths(case)
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = np.concatenate([RANDOM.choice(220, n, replace=False) for n in counts])
    if order == "shuffled":
        shuffled = RANDOM.permutation(len(rows))
        rows, columns = rows[shuffled], columns[shuffled]
    structure = Structure(rows, columns, (len(counts), 221))
    data, x = RANDOM.normal(size=len(rows)), RANDOM.normal(size=221)
    x[220] = np.inf
    blocks = structure.blocks
    assert (blocks.most is not None) == (case in ("more than the lanes", "nearly equal"))
    if blocks.most is None:
        assert sum(block.rows.size for block in blocks.rest) == (counts > 0).sum()
    node = OPS["sparse_product"].make((constant(data), constant(x)), structure=structure, strong=False)
    expected = sp.coo_array((data, (rows, columns)), shape=structure.shape).tocsr()[:, :220] @ x[:220]
    scale = np.bincount(rows, np.abs(data) * np.abs(x[columns]), minlength=len(counts))
    for found in (interpret([node], {})[0], gc.jit(lambda d, v: gc.sparse.SparseMatrix(d, structure) @ v)(data, x)):
        assert np.all(np.abs(found - expected) <= 200 * np.finfo(float).eps * scale)


def test_zero_stays_zero():
    """A cotangent that is 0 meets an infinite value without harm."""
    A = gc.sparse.coo(np.array([np.inf, 1.0]), [0, 1], [0, 1], (2, 2))
    slope = gc.grad(lambda x: np.sum(np.where(np.array([False, True]), A @ x, 0.0)))(np.ones(2))
    np.testing.assert_array_equal(slope, [0, 1])


def test_patterns_see_through_products():
    A = sp.random_array((30, 20), density=0.1, rng=np.random.default_rng(0))
    J = gc.sparse_jacobian(lambda x: np.tanh(A @ x))
    x = np.linspace(0, 1, 20)
    np.testing.assert_allclose(J(x).toarray(), gc.jacobian(lambda v: np.tanh(A.toarray() @ v))(x), atol=1e-14)
    assert J.pattern.entries == A.nnz
    H = gc.sparse_hessian(lambda x: np.sum((A @ x) ** 4))
    np.testing.assert_allclose(H(x).toarray(), gc.hessian(lambda v: np.sum((A.toarray() @ v) ** 4))(x), atol=1e-12)
    gram = (abs(A).T @ abs(A)).toarray() > 0
    assert H.pattern.entries == gram.sum()


A = sp.csr_array(DENSE)
ERRORS = {
    "shapes": (lambda v: A @ v, LEFT, gc.ShapeError, "a vector of 4"),
    "shapes from the left": (lambda v: v @ A, RIGHT, gc.ShapeError, "a vector of 7"),
    "one number": (lambda v: v @ A, np.float64(1), gc.ShapeError, "matmul"),
    "elementwise": (lambda v: A * v, RIGHT, (TypeError, ValueError), ""),
    "as an array": (lambda v: np.exp(v) + gnp.asarray(A), RIGHT, gc.DTypeError, "gc.sparse.from_scipy"),
    "two matrices": (
        lambda v: gc.sparse.SparseMatrix(v[:1], gc.sparse.coo([1.0], [0], [0], (M, M)).structure) @ A,
        RIGHT, TypeError, "two sparse matrices",
    ),
    "traced places": (lambda v: gc.sparse.coo(v, v.astype(int), [0] * N, (9, 9)), RIGHT, gc.TraceError, "rows"),
    "too few values": (lambda v: gc.sparse.coo(v, [0], [0], (2, 2)), RIGHT, gc.ShapeError, "one of each"),
    "outside": (lambda v: gc.sparse.coo(v, [0, 1, 2, 3], [0, 0, 0, 5], (4, 4)), RIGHT, gc.IndexingError, "less than 4"),
    "not rising": (lambda v: gc.sparse.csr(v, [0, 1, 2, 3], [0, 3, 2, 4], (3, 4)), RIGHT, gc.ShapeError, "must rise"),
    "no shape": (lambda v: gc.sparse.coo(v, [0] * 4, [0] * 4, 3), RIGHT, gc.ShapeError, "two extents"),
    "float places": (lambda v: gc.sparse.coo(v, [0.5] * 4, [0] * 4, (2, 2)), RIGHT, gc.DTypeError, "integers"),
    "not sparse": (lambda v: gc.sparse.from_scipy(np.eye(2)) @ v, RIGHT, TypeError, "expected a scipy.sparse"),
    "no numbers": (lambda v: gc.sparse.coo(v, [0] * 4, [0] * 4, (2, 2)).tocsr(), RIGHT, gc.TraceError, "needs numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    f, x, error, message = ERRORS[name]
    with pytest.raises(error) as found:
        gc.trace(f, x)
    assert message in str(found.value)
