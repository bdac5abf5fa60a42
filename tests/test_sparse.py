"""Sparse derivatives: the pattern holds every entry and few others, colourings tell entries apart, and the matrices are
those of the dense derivatives.

Patterns are held against one direction at a time on random programs, and against what each kind of structure should
give on programs of its own; then the ways to colour, patterns that are given, and errors.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings

import gradc as gc
import gradc.numpy as gnp
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.sparsity import Pattern, pattern_of
from gradc.node import constant
from gradc.passes import LINEAR, run_passes
from gradc.sparse.colouring import Colouring, coloured, column_colours
from gradc.sparse.greedy import greedy
from gradc.sparse.star import places_in_symmetric, star, star_coloured
from gradc.trace import new_input
from tests.programs import programs
from tests.test_structured import one_direction_at_a_time


def mask_of(pattern: Pattern) -> np.ndarray:
    mask = np.zeros(pattern.shape, bool)
    mask[pattern.rows, pattern.columns] = True
    return mask


def tells_apart(pattern: Pattern, colours: np.ndarray) -> bool:
    """Whether no row has two entries in columns of one colour."""
    of_entries = colours[pattern.columns]
    keys = pattern.rows * (int(colours.max(initial=0)) + 1) + of_entries
    keys.sort()
    return bool((of_entries >= 0).all() and (keys[1:] != keys[:-1]).all())


def counted(graph, arrays) -> tuple[int, int]:
    """How many entries the derivatives of a graph have, and how many their patterns; each is in its pattern."""
    true = said = 0
    for y in (y for y in graph.outputs if y.aval.is_float):
        for x in (x for x in graph.inputs if x.aval.is_float):
            leaf = new_input(x.aval, "tangent")
            (pushed,) = push_forward([y], [x], [leaf])
            if pushed is not None:
                (pushed,) = run_passes(graph.replace(inputs=(*graph.inputs, leaf), outputs=(pushed,)), LINEAR).outputs
            values = {n: np.asarray(a) for n, a in zip(graph.inputs, arrays, strict=True) if not n.aval.is_float}
            pattern, _ = pattern_of(pushed, leaf, y.size, values)
            dense = one_direction_at_a_time(graph, arrays, y, x).reshape(y.size, x.size)
            entries = np.nan_to_num(dense, nan=1.0) != 0
            assert not (entries & ~mask_of(pattern)).any(), f"{graph}\n{dense}\n{mask_of(pattern).astype(int)}"
            true, said = true + int(entries.sum()), said + pattern.entries
    return true, said


@settings(max_examples=40, deadline=None, derandomize=True)
@given(programs(most_ops=6))
def test_patterns_of_random_programs(program):
    counted(program.graph, program.arrays)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(programs(most_ops=5, scalar=True))
def test_patterns_of_random_gradients(program):
    pulled = pull_back([program.graph.outputs[0]], program.graph.inputs, [constant(np.ones(()))])
    counted(program.graph.replace(outputs=tuple(p for p in pulled if p is not None)), program.arrays)


# -- one structure after another ---------------------------------------------------------------------------------------

N = 12
RANDOM = np.random.default_rng(3)
MIXED = np.array([3, 0, 0, 7, 11, 2])
BAND = np.triu(np.tril(RANDOM.normal(size=(N, N)), 1), -1)


def tridiagonal(x):
    return np.concatenate([[x[0] ** 2 - x[1]], x[1:-1] * x[2:] - np.sin(x[:-2]), [x[-1]]])


def five_points(u):
    p = gnp.pad(u, 1)
    return 4 * u - p[2:, 1:-1] - p[:-2, 1:-1] - p[1:-1, 2:] - p[1:-1, :-2] + u**3


def nine_points(u):
    p = gnp.pad(u, 1)
    rows, columns = u.shape
    return sum(p[a : a + rows, b : b + columns] * u for a in range(3) for b in range(3))


def arrow(x):
    return np.concatenate([[np.sum(x**2)], x[1:] * x[0]])


def recurrence(x):
    return gc.scan(lambda h, v: (np.tanh(0.5 * h + v), h * v), 0.1, x)[1]


def rows_alone(x):
    return gc.scan(lambda none, row: (none, np.cumsum(row) * row[0]), (), x.reshape(4, 3))[1]


def marching(x):
    def step(i, u):
        return u.at[i].set(u[i] * u[i + 1])

    return gc.fori_loop(0, N - 1, step, x)


def diffusing(x):
    return gc.fori_loop(0, 3, lambda _, u: u + 0.1 * (gnp.pad(u[1:], (0, 1)) - u), x)


def until(x):
    return gc.while_loop(lambda u: u[0] < 8.0, lambda u: u * 2.0, x)


def until_mixed(x):
    return gc.while_loop(lambda u: u[0] < 8.0, lambda u: u * 2.0 + np.roll(u, 1), x)


def branching(x):
    return gc.cond(x[0] > 0, lambda v: v * 2.0, lambda v: v**2, x)


FUNCTIONS = {
    "tridiagonal": (tridiagonal, (N,), 3 * N - 3),
    "five points": (five_points, (4, 5), 20 + 2 * 31),
    "nine points": (nine_points, (4, 5), (3 * 4 - 2) * (3 * 5 - 2)),
    "periodic": (lambda x: np.roll(x, 1) - 2 * x * np.roll(x, -1), (N,), 3 * N),
    "arrow": (arrow, (N,), N + 2 * (N - 1)),
    "gather": (lambda x: x[MIXED] * x[0], (N,), 6 + 4),
    "scatter": (lambda x: gnp.zeros(N).at[MIXED].add(x[:6] ** 2), (N,), 6),
    "overwritten": (lambda x: (x * 1.0).at[MIXED].set(x[:6] ** 2), (N,), 5 + N - 5),
    "reversed": (lambda x: x[::-1] * x[::-1], (N,), N),
    "transposed": (lambda u: u.T * 2.0, (3, 4), 12),
    "rows": (lambda u: u.sum(1) * u[:, 0], (3, 4), 12),
    "running sum": (lambda x: np.cumsum(x), (N,), N * (N + 1) // 2),
    "running sum backwards": (lambda x: np.cumsum(x[::-1])[::-1], (N,), N * (N + 1) // 2),
    "masked": (lambda x: np.where(np.arange(N) % 3 == 0, x**2, 1.0), (N,), N // 3),
    "zeros": (lambda x: x**2 * (np.arange(N) % 2), (N,), N // 2),
    "banded product": (lambda x: BAND @ x, (N,), 3 * N - 2),
    "product": (lambda u: u @ np.ones((4, 2)), (3, 4), 3 * 2 * 4),
    "recurrence": (recurrence, (N,), N * (N + 1) // 2),
    "rows alone": (rows_alone, (N,), 4 * (1 + 2 + 3)),
    "marching": (marching, (N,), 2 * N - 1),
    "diffusing": (diffusing, (N,), 4 * N - 6),
    "until": (until, (N,), N),
    "until mixed": (until_mixed, (N,), N * N),
    "branching": (branching, (N,), N),
    "sorted": (lambda x: np.sort(x), (4,), 16),
    "windows": (lambda x: np.convolve(x, [1.0, 2.0, 1.0], "same") if False else x[1:] + x[:-1], (N,), 2 * N - 2),
    "stopped": (lambda x: gc.stop_gradient(x) * x[::-1], (N,), N),
    "rounded": (lambda x: np.floor(x) * x[::-1], (N,), N),
    "no entry": (lambda x: np.ones(3) * 2.0, (N,), 0),
    "one number": (lambda x: np.sin(x), (), 1),
    "to one number": (lambda x: np.sum(x[2:5] ** 2), (N,), 3),
    "nothing": (lambda x: np.sin(x), (0,), 0),
    "from nothing": (lambda x: np.ones(3) * np.sum(x), (0,), 0),
    "axes": (lambda u: gnp.einsum("ijk,k->ji", u, np.arange(1.0, 4.0)), (2, 2, 3), 12),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pattern_and_matrix(name):
    """The expected number of entries, and the entries of the dense derivative."""
    f, shape, entries = FUNCTIONS[name]
    x = RANDOM.uniform(0.2, 0.9, shape) if shape else 0.3
    J = gc.sparse_jacobian(f)
    found, dense = J(x), gc.jacobian(f)(x)
    assert sp.issparse(found) and found.dtype == np.float64
    size = int(np.prod(shape))
    np.testing.assert_allclose(found.toarray(), np.reshape(dense, (-1, size) if size else found.shape), atol=1e-13)
    assert J.pattern.entries == entries == found.nnz


def test_dtypes_and_rest_of_the_arguments():
    def f(a, x, *, scale):
        return np.sin(x) * a * scale

    x = np.linspace(0, 1, 5, dtype=np.float32)
    J = gc.sparse_jacobian(f, argnums=1)
    found = J(2.0, x, scale=np.float32(3))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), np.diag(6 * np.cos(x)), rtol=1e-6)
    assert gc.sparse_jacobian(f, argnums=-1)(2.0, x, scale=np.float32(3)).nnz == 5


def test_captured_arrays():
    weights = np.arange(4.0)
    J = gc.sparse_jacobian(lambda x: x * weights)
    np.testing.assert_array_equal(J(np.ones(4)).toarray(), np.diag(weights))
    assert J.pattern.entries == 3  # the first weight is 0


def test_indices_among_the_arguments():
    """The pattern is that of their values; other values are prepared again, the same ones are not."""
    J = gc.sparse_jacobian(lambda x, i: x[i] * 2)
    x = np.ones(4)
    first = J(x, np.array([0, 2])).toarray()
    kept = J.pattern
    np.testing.assert_array_equal(first, [[2, 0, 0, 0], [0, 0, 2, 0]])
    np.testing.assert_array_equal(J(x, np.array([3, 3])).toarray(), [[0, 0, 0, 2], [0, 0, 0, 2]])
    np.testing.assert_array_equal(J(x, np.array([0, 2])).toarray(), first)
    assert J.pattern is kept
    J.prepare(gc.spec((4,)), gc.spec((2,), int))  # nothing is known of them: any element may be chosen
    assert J.pattern.entries == 8
    with pytest.raises(gc.IndexingError, match="out of bounds"):
        J(x, np.array([0, 9]))


def test_other_integers_do_not_matter():
    """A mask or a count is no index: the pattern holds for all its values."""
    J = gc.sparse_jacobian(lambda x, mask, k: np.where(mask, x**2, 0.0) * k)
    x = np.arange(3.0)
    J(x, np.array([True, False, True]), 1)
    kept = J.pattern
    np.testing.assert_array_equal(J(x, np.array([True, True, False]), 2).toarray(), np.diag([0.0, 4.0, 0.0]))
    assert J.pattern is kept and kept.entries == 3


def test_results_are_the_callers():
    J = gc.sparse_jacobian(tridiagonal)
    x = np.linspace(0.1, 1, N)
    one, two = J(x), J(x)
    for name in ("data", "indices", "indptr"):
        assert not np.shares_memory(getattr(one, name), getattr(two, name))
    one.indices[:] = 0
    np.testing.assert_array_equal(J(x).toarray(), two.toarray())


def test_inside_a_trace():
    """The entries are traced; a function of them is compiled and differentiated."""
    J = gc.sparse_jacobian(lambda x: x[1:] * x[:-1])
    x = np.array([1.0, 2.0, 3.0])
    squared = gc.jit(lambda v: np.sum(J(v).values ** 2))
    assert squared(x) == np.sum(J(x).data ** 2)
    np.testing.assert_allclose(gc.grad(lambda v: np.sum(J(v).values ** 2))(x), [2.0, 8.0, 6.0])
    inner = gc.jit(lambda v, w: np.sum(gc.sparse_jacobian(lambda u: u * w)(v).values))
    assert inner(x, np.ones(3)) == 3 and inner(x, 2 * np.ones(3)) == 6


# -- Hessians ----------------------------------------------------------------------------------------------------------


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def membrane(u):
    p = gnp.pad(u, 1)
    return 0.5 * np.sum((p[1:] - p[:-1]) ** 2) + 0.5 * np.sum((p[:, 1:] - p[:, :-1]) ** 2) + np.sum(u**4)


def plate(u):
    return np.sum(five_points(u) ** 2)


def cost_of_path(x):
    return np.sum(recurrence(x[:5]) ** 2) + np.sum(x[5:] ** 3)


HESSIANS = {
    "chain": (rosenbrock, (N,), 3 * N - 2, 3),
    "arrow": (lambda x: np.sum(x[0] * x**2), (N,), 3 * N - 2, 2),
    "two hubs": (lambda x: np.sum((x[0] + x[7] ** 2) * x**2), (N,), 5 * N - 6, 3),
    "membrane": (membrane, (4, 5), 20 + 2 * 31, 5),
    "plate": (plate, (7, 8), None, 13),
    "no diagonal": (lambda x: np.sum(x[: N // 2] * x[N // 2 :]), (N,), N, 1),
    "linear": (lambda x: np.sum(2 * x), (N,), 0, 0),
    "quadratic": (lambda x: x @ BAND @ x, (N,), 3 * N - 2, 3),
    "gathered": (lambda x: np.sum(x[MIXED] ** 2 * x[0]), (N,), 13, 2),
    "path": (cost_of_path, (N,), 5 * 5 + N - 5, None),
    "norm": (lambda x: np.linalg.norm(x[:3]) + np.exp(x[4]), (N,), 9 + 1, 3),
    "one number": (lambda x: x**3, (), 1, 1),
    "nothing": (lambda x: np.sum(x**2), (0,), 0, 0),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_hessian(name):
    """The entries of the dense Hessian, as many as expected and with as many colours; bits that are symmetric."""
    f, shape, entries, colours = HESSIANS[name]
    x = RANDOM.uniform(0.2, 0.9, shape) if shape else 0.3
    H = gc.sparse_hessian(f)
    found, size = H(x).toarray(), int(np.prod(shape))
    dense = np.reshape(gc.hessian(f)(x), (size, size))
    np.testing.assert_allclose(found, dense, rtol=1e-12, atol=1e-13 * np.max(np.abs(dense), initial=1.0))
    np.testing.assert_array_equal(found, found.T)
    assert entries in (None, H.pattern.entries) and colours in (None, H.pattern.colours)


def symmetric_pattern(seed: int) -> Pattern:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 40))
    mask = random.random((n, n)) < random.choice([0.03, 0.1, 0.3])
    mask |= mask.T
    if seed % 2:
        np.fill_diagonal(mask, True)
    return pattern_from(mask)


@pytest.mark.parametrize("seed", range(8))
def test_star_colourings(seed, monkeypatch):
    pattern = symmetric_pattern(seed)
    matrix, n = mask_of(pattern), pattern.shape[0]
    colouring = star_coloured(pattern, (n,))
    places = places_in_symmetric(pattern, colouring)
    for i, j, place in zip(pattern.rows, pattern.columns, places, strict=True):
        colour, row = divmod(int(place), n)
        assert row in (i, j) and matrix[row, colouring.columns == colour].sum() == 1
        assert colouring.columns[i + j - row] == colour
    in_python = star(pattern)
    monkeypatch.setattr("gradc.sparse.star.FEW_VISITS", -1)
    np.testing.assert_array_equal(star(pattern), in_python)  # compiled


def test_hessians_of_some_argument_and_given_patterns():
    def f(a, x):
        return a * rosenbrock(x)

    x = np.linspace(0.1, 1, N)
    H = gc.sparse_hessian(f, argnums=1, pattern=np.tri(N, k=0) - np.tri(N, k=-2))  # one half is enough
    np.testing.assert_allclose(H(2.0, x).toarray(), gc.hessian(f, 1)(2.0, x))
    with pytest.raises(ValueError, match=r"sparse_hessian\(rosenbrock\): pattern= has no entry at \((\d+), (\d+)\)"):
        gc.sparse_hessian(rosenbrock, pattern=np.eye(N))(x)
    assert str(H.pattern).startswith("∂²f/∂x²: 12 × 12, 34 entries; colours: 3 of columns")
    with pytest.raises(gc.ShapeError, match="one float scalar result"):
        gc.sparse_hessian(tridiagonal)(x)


def test_derivatives_travel():
    for made in (gc.sparse_jacobian(tridiagonal), gc.sparse_hessian(rosenbrock)):
        again = pickle.loads(pickle.dumps(made))
        np.testing.assert_array_equal(again(np.ones(N)).toarray(), made(np.ones(N)).toarray())
        assert repr(again) == repr(made)


# -- colourings --------------------------------------------------------------------------------------------------------


def pattern_from(matrix) -> Pattern:
    coo = sp.coo_array(matrix)
    return Pattern.of_entries(coo.row, coo.col, coo.shape)


def stencil(offsets, shape) -> Pattern:
    grid = np.indices(shape).reshape(len(shape), -1)
    places = np.arange(np.prod(shape)).reshape(shape)
    rows, columns = [], []
    for offset in offsets:
        other = grid + np.array(offset)[:, None]
        inside = np.all((other >= 0) & (other < np.array(shape)[:, None]), 0)
        rows.append(places.reshape(-1)[inside])
        columns.append(places[tuple(other[:, inside])])
    return Pattern.of_entries(np.concatenate(rows), np.concatenate(columns), (places.size, places.size))


CROSS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
SQUARE = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "offsets, shape, colours",
    [([(0,), (1,), (-1,)], (50,), 3), (CROSS, (20, 30), 5), (SQUARE, (20, 30), 9), (SQUARE, (9, 12), 9)],
)
def test_stencils_get_as_many_colours_as_points(offsets, shape, colours, flat):
    pattern = stencil(offsets, shape)
    found = column_colours(pattern, (pattern.shape[1],) if flat else shape)
    assert tells_apart(pattern, found) and found.max() + 1 == colours


@pytest.mark.parametrize("seed", range(6))
def test_greedy_colourings_of_random_patterns(seed, monkeypatch):
    random = np.random.default_rng(seed)
    matrix = random.random((random.integers(1, 60), random.integers(1, 60))) < random.choice([0.05, 0.2, 0.5])
    pattern = pattern_from(matrix)
    in_python = greedy(pattern)
    assert tells_apart(pattern, in_python)
    monkeypatch.setattr("gradc.sparse.greedy.FEW_VISITS", -1)
    np.testing.assert_array_equal(greedy(pattern), in_python)  # compiled


def entries_are_alone(pattern: Pattern, colouring: Colouring) -> bool:
    """Whether each entry is the only one of its colour in its row, or for colours of rows in its column."""
    matrix = mask_of(pattern)
    for i, j, by_row in zip(pattern.rows, pattern.columns, colouring.by_rows(pattern), strict=True):
        if by_row:
            alone = matrix[colouring.rows == colouring.rows[i], j].sum() == 1
        else:
            alone = matrix[i, colouring.columns == colouring.columns[j]].sum() == 1
        if not alone:
            return False
    return True


@pytest.mark.parametrize("side", ["auto", "columns", "rows"])
@pytest.mark.parametrize("seed", range(4))
def test_colourings_show_each_entry_alone(seed, side):
    random = np.random.default_rng(seed)
    matrix = random.random((30, 25)) < 0.08
    matrix[random.integers(30)] |= random.random(25) < 0.8
    matrix[:, random.integers(25)] |= random.random(30) < 0.8
    pattern = pattern_from(matrix)
    assert entries_are_alone(pattern, coloured(pattern, ((30,), (25,)), side))


def test_a_full_row_needs_a_colour_for_each_column():
    """At once: what is as good as dense is not searched for what could share a colour."""
    pattern = pattern_from(np.tri(300, 305, 4))
    np.testing.assert_array_equal(column_colours(pattern, (305,)), np.append(np.arange(304), -1))
    dense = pattern_from(np.ones((200, 200)))
    assert star_coloured(dense, (200,)).count == 200


def test_an_arrow_costs_three_directions():
    J = gc.sparse_jacobian(arrow)
    J(np.ones(40))
    assert J.pattern.colours == 3
    K = gc.sparse_jacobian(lambda x: np.sum(x**2) * np.ones(1))
    K(np.ones(40))
    assert K.pattern.colours == 1  # one row: reverse mode
    forward = gc.sparse_jacobian(arrow, colouring="columns")
    np.testing.assert_allclose(forward(np.ones(40)).toarray(), J(np.ones(40)).toarray())
    assert forward.pattern.colours == 40


@pytest.mark.nightly
@pytest.mark.parametrize(
    "f, shape, colours",
    [(tridiagonal, (10**6,), 3), (five_points, (1000, 1000), 5), (nine_points, (1000, 1000), 9), (arrow, (10**6,), 3)],
)
def test_a_million_unknowns(f, shape, colours):
    """The matrix times a vector is the directional derivative."""
    x, v = RANDOM.uniform(0.2, 0.9, shape), RANDOM.normal(size=shape)
    J = gc.sparse_jacobian(f)
    along = gc.jit(lambda x, v: gc.jvp(f, (x,), (v,))[1])(x, v).reshape(-1)
    product = J(x) @ v.reshape(-1)
    assert J.pattern.colours == colours
    np.testing.assert_allclose(product, along, rtol=1e-9, atol=1e-9 * np.max(np.abs(along)))


@pytest.mark.nightly
def test_a_hessian_of_a_million_unknowns():
    x, v = RANDOM.uniform(0.2, 0.9, 10**6), RANDOM.normal(size=10**6)
    H = gc.sparse_hessian(rosenbrock)
    product = H(x) @ v
    along = gc.jit(lambda x, v: gc.hvp(rosenbrock, (x,), (v,))[0])(x, v)
    assert H.pattern.colours == 3
    np.testing.assert_allclose(product, along, rtol=1e-9, atol=1e-9 * np.max(np.abs(along)))


# -- patterns that are given -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [sp.csr_array, sp.coo_matrix, np.asarray, lambda m: m.astype(bool).tolist()])
def test_a_given_pattern(form):
    x = np.linspace(0.1, 1, N)
    mask = (gc.jacobian(tridiagonal)(x) != 0).astype(float)
    J = gc.sparse_jacobian(tridiagonal, pattern=form(mask))
    np.testing.assert_allclose(J(x).toarray(), gc.jacobian(tridiagonal)(x))
    assert J.pattern.entries == 3 * N - 3


@pytest.mark.parametrize("place", [(0, 0), (4, 5), (N - 1, N - 1)])
def test_a_wrong_pattern_is_named(place):
    x = np.linspace(0.1, 1, N)
    mask = gc.jacobian(tridiagonal)(x) != 0
    mask[place] = False
    with pytest.raises(
        ValueError, match=rf"sparse_jacobian\(tridiagonal\): pattern= has no entry at \({place[0]}, {place[1]}\)"
    ):
        gc.sparse_jacobian(tridiagonal, pattern=mask)(x)


def test_patterns_travel():
    x = np.linspace(0.1, 1, N)
    J = gc.sparse_jacobian(tridiagonal).prepare(x)
    again = gc.sparse_jacobian(tridiagonal, pattern=J.pattern)
    np.testing.assert_array_equal(again(x).toarray(), J(x).toarray())
    with pytest.raises(ValueError, match=r"is for a matrix of \(12, 12\), the derivative is \(12, 11\)"):
        gc.sparse_jacobian(lambda v: np.append(v, v[0]) if False else np.concatenate([v, v[:1]]), pattern=J.pattern)(
            x[1:]
        )


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_the_pattern_is_printed():
    J = gc.sparse_jacobian(lambda x: x[1:] * x[:-1])
    J(np.ones(3))
    assert str(J.pattern).splitlines() == [
        "∂f/∂x: 2 × 3, 4 entries; colours: 2 of columns; cost: 2 directions in one call, 2 if it were dense",
        "  ■ ■ ·",
        "  · ■ ■",
    ]
    np.testing.assert_array_equal(np.asarray(J.pattern), [[True, True, False], [False, True, True]])
    np.testing.assert_array_equal(J.pattern.indices, [[0, 0], [0, 1], [1, 1], [1, 2]])


def test_the_pattern_is_explained():
    text = str(gc.explain(gc.sparse_jacobian(lambda x: x[1:] * x[:-1]), np.ones(3)))
    assert "sparse: 2 × 3, 4 entries; colours: 2 of columns" in text and "∂" in text
    text = str(gc.explain(gc.sparse_hessian(rosenbrock), gc.spec((N,))))
    assert "sparse: 12 × 12, 34 entries; colours: 3 of columns" in text and "∂²" in text


def test_the_pattern_is_drawn(tmp_path):
    J = gc.sparse_jacobian(tridiagonal).prepare(np.ones(N))
    path = J.pattern.plot(tmp_path / "pattern.svg")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<svg") and text.count("<path") == 3 and text.count("M") == J.pattern.entries
    assert J.pattern.plot() is J.pattern and J.pattern._repr_svg_() == text

    class Axes:
        def __getattr__(self, name):
            return lambda *a, **k: drawn.setdefault(name, (a, k))

    drawn: dict = {}
    J.pattern.plot(ax=Axes())
    np.testing.assert_array_equal(drawn["scatter"][0], [J.pattern.indices[:, 1], J.pattern.indices[:, 0]])


# -- errors ------------------------------------------------------------------------------------------------------------

ERRORS = {
    "a tree": (
        lambda: gc.sparse_jacobian(lambda t: t["a"])({"a": np.ones(2), "b": np.ones(2)}),
        TypeError,
        "gc.tree.ravel",
    ),
    "several results": (lambda: gc.sparse_jacobian(lambda x: (x, x))(np.ones(2)), TypeError, "nests 2 arrays"),
    "integers": (lambda: gc.sparse_jacobian(lambda x: x * 2)(np.ones(2, int)), gc.DTypeError, "integers and bools"),
    "integer results": (lambda: gc.sparse_jacobian(lambda x: x > 0)(np.ones(2)), gc.DTypeError, "integers and bools"),
    "two arguments": (lambda: gc.sparse_jacobian(arrow, argnums=(0, 1)), TypeError, "expected one position"),
    "no argument": (lambda: gc.sparse_jacobian(arrow, argnums=1)(np.ones(3)), TypeError, "argnums=1"),
    "no function": (lambda: gc.sparse_jacobian(3), TypeError, "expects a function"),
    "colouring": (lambda: gc.sparse_jacobian(arrow, colouring="star"), ValueError, "colouring='star'"),
    "no pattern": (lambda: gc.sparse_jacobian(arrow, pattern="x")(np.ones(3)), TypeError, "pattern='x'"),
    "not yet": (lambda: gc.sparse_jacobian(arrow).pattern, AttributeError, "has no pattern yet"),
    "too full": (
        lambda: gc.sparse_jacobian(lambda x: x * np.sum(x)).prepare(gc.spec((10**6,))),
        gc.ShapeError,
        "not sparse. Use gc.jvp",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error) as found:
        call()
    assert message in str(found.value)


def test_without_scipy():
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.sparse'] = None\n"
        "import gradc as gc, numpy as np\n"
        "found = gc.sparse_jacobian(lambda x: x[1:] * x[:-1])(np.array([1.0, 2.0, 3.0]))\n"
        "print(found.indices.tolist(), found.values.tolist(), found.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[0, 0], [0, 1], [1, 1], [1, 2]] [2.0, 1.0, 3.0, 2.0] (2, 3)"


# -- what is not finite, what is kept ----------------------------------------------------------------------------------

NOT_FINITE = {
    "inf times 0": (lambda x: x[1:] * x[:-1], [1, np.inf, 0, 3, -2]),
    "NaN": (lambda x: x[1:] * x[:-1], [1, np.nan, 0, 3, -2]),
    "a pole of a slope": (lambda x: np.sqrt(x[1:]) * x[:-1], [1, 0, 0, 3, 4]),
    "overflow, and a quotient by 0": (lambda x: np.exp(x[1:]) / x[:-1], [1, 800, 0, 3, -2]),
    "three points": (lambda x: x[2:] * x[1:-1] - x[:-2] ** 2, [np.inf, 1, 0, 3, -np.inf, 2, 0]),
    "differences": (lambda x: (x[2:] - x[:-2]) * x[1:-1], [1, np.inf, 0, 3, -2, 5, 6]),
    "a constant factor": (lambda x: 2 * x[:-1] ** 2 * x[1:], [1, np.inf, 4, 3, -2]),
}


@pytest.mark.parametrize("colouring", ["auto", "columns", "rows"])
@pytest.mark.parametrize("f, x", NOT_FINITE.values(), ids=NOT_FINITE)
def test_what_is_not_finite_stays_in_its_column(f, x, colouring):
    x = np.array(x, np.float64)
    with np.errstate(all="ignore"):
        sparse = gc.sparse_jacobian(f, colouring=colouring)
        np.testing.assert_array_equal(sparse(x).toarray(), gc.jacobian(f)(x))
    assert sparse.pattern.colours < len(x)


def test_an_infinite_element_leaves_other_rows_of_a_hessian_alone():
    f = lambda x: np.sum(x[1:] * x[:-1] ** 2)
    found = gc.sparse_hessian(f)(np.array([1, np.inf, 0, 3, -2.0])).toarray()
    expected = np.diag([np.inf, 0, 6, -4, 0]) + sum(np.diag([2, np.inf, 0, 6], k) for k in (1, -1))
    place = expected != 0
    np.testing.assert_array_equal(found[place], expected[place])


def test_those_used_last_are_kept(monkeypatch):
    """However many shapes come by; one that is used again and again is prepared once."""
    monkeypatch.setattr("gradc.sparse.derivatives.MOST_KEPT", 3)
    made = []

    def f(x):
        made.append(x.shape)
        return x[1:] * x[:-1]

    J = gc.sparse_jacobian(f)
    for n in range(2, 9):
        for size in (n, 2):
            assert J(np.ones(size)).shape == (size - 1, size)
    assert made.count((2,)) == made.count((3,))
    before = len(made)
    J(np.ones(3))
    assert len(made) > before  # it was let go
    assert len(J._kept._newest_first) == 3


def test_each_thread_sees_the_pattern_of_its_own_call():
    J = gc.sparse_jacobian(lambda x: x * x)
    both = threading.Barrier(2, timeout=60)

    def seen(n):
        before = J.pattern.shape
        both.wait()
        J(np.ones(n))
        both.wait()
        return before, J.pattern.shape

    J(np.ones(7))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(seen, (2, 3))) == [((7, 7), (2, 2)), ((7, 7), (3, 3))]
    assert J.pattern.shape == (7, 7)
