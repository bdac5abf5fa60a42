"""Gaussian elimination: LU with the largest pivot of a column, or of all that is left.

Enters: matrices in the last two axes.  Leaves: L and U in one matrix, and the permutation that was made on the way.
Invariant: A[rows] (and [:, columns]) = L U, L unit lower triangular below the diagonal of the packed matrix, U on and
above it.  Elimination does not fail: a singular matrix has a 0 on the diagonal of U.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Results
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import Loop, inner_leaf, item
from gradc.ops.factorisations.bounds import lu_moved, partial_lu
from gradc.ops.factorisations.matrices import (
    WHOLE_NUMBER,
    above,
    as_column,
    as_row,
    batch_all,
    below,
    columns_at,
    diagonals,
    finite_unless_told,
    identity,
    must_be_matrices,
    must_be_square,
    product,
    rows_at,
    turned,
)
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.leaves import iota
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


def _counting(shape: tuple[int, ...]) -> Node:
    """0, 1, 2, … along the last axis."""
    return iota(shape, len(shape) - 1)


def _swapped(places: Node, k: Node, p: Node) -> Node:
    """The indices ``places`` with k and p exchanged; ``p`` has the leading axes."""
    other = as_column(p)
    return dsl.where(places == k, other, dsl.where(places == other, k, places))


def _one_of(a: Node, here: Node, axis: int) -> Node:
    """The row (axis −2) or column of each matrix at which ``here`` holds, whatever the others hold."""
    mask = as_column(here) if axis == -2 else here
    return dsl.sum(dsl.where(mask, a, 0), axis=axis)


def _eliminated(a: Node, k: Node, column: Node, row: Node) -> Node:
    """Step ``k``: multipliers below the pivot, and what is left of the rest; nothing where the pivot is 0."""
    m, n = a.shape[-2:]
    i, j = as_column(iota((m,))), iota((n,))
    pivot = as_column(as_column(dsl.sum(dsl.where(iota((n,)) == k, row, 0), axis=-1)))
    multipliers = as_column(column) / dsl.where(pivot == 0, 1, pivot)
    rest = dsl.where(j > k, a - multipliers * as_row(row), dsl.where(j == k, multipliers, a))
    return dsl.where(i > k, rest, a)


# -- partial pivoting --------------------------------------------------------------------------------------------------


def _lu_infer(a: Aval, check: bool) -> Aval:
    must_be_matrices(a)
    return Results.of([Aval(a.shape, a.dtype), Aval(a.shape[:-1], WHOLE_NUMBER)])


def _lu_numpy(a: Array, check: bool) -> tuple[Array, Array]:
    packed, rows = np.empty_like(a), np.empty(a.shape[:-1], np.int64)
    for index in np.ndindex(*a.shape[:-2]):
        packed[index], rows[index], _ = partial_lu(a[index])
    return packed, rows


def _lu_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """dL = L tril(G, −1) and dU = triu(G) U of G = L⁻¹ P dA U⁻¹; what is below or beside the square follows."""
    (da,) = tangents
    assert da is not None
    packed, rows = item(node, 0), item(node, 1)
    m, n = packed.shape[-2:]
    k, check = min(m, n), node.attrs["check"]
    moved, square = rows_at(da, rows), packed[..., :k, :k]

    def after_upper(x: Node) -> Node:
        return turned(triangular_solve(square, turned(x), lower=False, transposed=True, check=check))

    def after_lower(x: Node) -> Node:
        return triangular_solve(square, x, lower=True, unit=True)

    g = after_upper(after_lower(moved[..., :k, :k]))
    lower, upper = below(packed[..., :k], -1), above(packed[..., :k, :])
    unit = lower[..., :k, :] + identity(square.shape, packed.dtype)
    d_lower, d_upper = product(unit, below(g, -1)), product(above(g), upper[..., :k])
    found = d_lower + d_upper
    if m > k:
        beneath = moved[..., k:, :] - product(lower[..., k:, :], d_upper)
        found = dsl.concatenate([found, after_upper(beneath)], axis=-2)
    if n > k:
        beside = after_lower(moved[..., k:] - product(d_lower, upper[..., k:]))
        found = dsl.concatenate([found, beside], axis=-1)
    return found, None


def _lu_expand(a: Node, check: bool) -> tuple[Node, Node]:
    """Column after column: the largest of what is left of it comes to the diagonal."""
    m, n = a.shape[-2:]
    if not m or not n:
        return a, _counting(a.shape[:-1])
    left, rows = inner_leaf(a.aval, "a"), inner_leaf(Aval(a.shape[:-1], WHOLE_NUMBER), "rows")
    k = inner_leaf(Aval((), WHOLE_NUMBER), "k")
    column = dsl.abs(_one_of(left, iota((n,)) == k, -1))
    p = dsl.argmax(dsl.where(iota((m,)) >= k, column, -1), axis=-1)
    swap = _swapped(_counting(rows.shape), k, p)
    left_after = rows_at(left, swap)
    rows_after = dsl.take_along_axis(rows, swap, -1)
    pivot_column = _one_of(left_after, iota((n,)) == k, -1)
    pivot_row = _one_of(left_after, iota((m,)) == k, -2)
    body = Graph((left, rows, k), (_eliminated(left_after, k, pivot_column, pivot_row), rows_after))
    steps = min(m, n)
    loop = Loop(body, (), (a, _counting(rows.shape)), (iota((steps,)),), steps).node()
    return item(loop, 0), item(loop, 1)


register(
    Op(
        name="lu",
        kind=Kind.WHOLE,
        infer=_lu_infer,
        numpy=_lu_numpy,
        jvp=_lu_jvp,
        batch=batch_all,
        expand=_lu_expand,
        algorithm=Algorithm.LU,
        perturbed=lu_moved,
        range=finite_unless_told,
        samples=(
            Sample(((3, 3),), {"check": True}),
            Sample(((4, 2),), {"check": True}),
            Sample(((2, 4),), {"check": True}),
            Sample(((2, 2, 2),), {"check": True}),
            Sample(((1, 1),), {"check": True}),
            Sample(((0, 0),), {"check": True}),
        ),
        singular="an error where U is singular",
        doc="L and U in one matrix, and the rows of A in the order in which they were eliminated: A[rows] = L U.",
    )
)


# -- complete pivoting -------------------------------------------------------------------------------------------------


def _complete_infer(a: Aval) -> Aval:
    must_be_square(a)
    places = Aval(a.shape[:-1], WHOLE_NUMBER)
    return Results.of([Aval(a.shape, a.dtype), places, places])


def _complete_numpy(a: Array) -> tuple[Array, Array, Array]:
    packed = np.empty_like(a)
    rows, columns = np.empty(a.shape[:-1], np.int64), np.empty(a.shape[:-1], np.int64)
    for index in np.ndindex(*a.shape[:-2]):
        packed[index], rows[index], columns[index] = partial_lu(a[index], complete=True)
    return packed, rows, columns


def complete_lu(a: Node) -> tuple[Node, Node, Node]:
    """L\\U, rows and columns: the largest element of all that is left is the pivot, so that a 0 on the diagonal of U
    says that nothing was left."""
    node = OPS["complete_lu"].make((a,))
    return item(node, 0), item(node, 1), item(node, 2)


def scaled_upper(packed: Node) -> Node:
    """Ũ of L D Ũ, D the diagonal of U: its rows over their pivots, those of no pivot rows of the identity."""
    d = diagonals(packed)
    return above(packed, 1) / as_column(dsl.where(d == 0, 1, d))


def _complete_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """With G = L⁻¹ dA Ũ⁻¹ and U = D Ũ: dL = L tril(G D⁻¹, −1), dU = triu(G) Ũ.

    Nothing is divided by the last pivot, so this is right of singular matrices of rank n − 1, too.
    """
    (da,) = tangents
    assert da is not None
    packed, rows, columns = (item(node, k) for k in range(3))
    moved = columns_at(rows_at(da, rows), columns)
    upper, n = scaled_upper(packed), packed.shape[-1]
    inner = triangular_solve(packed, moved, lower=True, unit=True)
    g = turned(triangular_solve(upper, turned(inner), lower=False, transposed=True, unit=True))
    eye = identity(packed.shape, packed.dtype)
    last = iota((n,)) == n - 1
    over = below(g, -1) / as_row(dsl.where(last, 1, diagonals(packed)))
    d_lower = product(below(packed, -1) + eye, over)
    return d_lower + product(above(g), upper + eye), None, None


def _complete_expand(a: Node) -> tuple[Node, Node, Node]:
    """Step after step: the largest element of what is left comes to the diagonal."""
    n, places = a.shape[-1], Aval(a.shape[:-1], WHOLE_NUMBER)
    if not n:
        return a, _counting(places.shape), _counting(places.shape)
    left, rows, columns = inner_leaf(a.aval, "a"), inner_leaf(places, "rows"), inner_leaf(places, "columns")
    k = inner_leaf(Aval((), WHOLE_NUMBER), "k")
    open_rows = iota((n,)) >= k
    sizes = dsl.where(as_column(open_rows) & open_rows, dsl.abs(left), -1)
    where = dsl.argmax(dsl.reshape(sizes, (*a.shape[:-2], n * n)), axis=-1)
    by_row = _swapped(_counting(places.shape), k, where // n)
    by_column = _swapped(_counting(places.shape), k, where % n)
    after = columns_at(rows_at(left, by_row), by_column)
    here = iota((n,)) == k
    body = Graph(
        (left, rows, columns, k),
        (
            _eliminated(after, k, _one_of(after, here, -1), _one_of(after, here, -2)),
            dsl.take_along_axis(rows, by_row, -1),
            dsl.take_along_axis(columns, by_column, -1),
        ),
    )
    counting = _counting(places.shape)
    loop = Loop(body, (), (a, counting, counting), (iota((n,)),), n).node()
    return item(loop, 0), item(loop, 1), item(loop, 2)


register(
    Op(
        name="complete_lu",
        kind=Kind.WHOLE,
        infer=_complete_infer,
        numpy=_complete_numpy,
        jvp=_complete_jvp,
        batch=batch_all,
        expand=_complete_expand,
        range=finite_unless_told,
        samples=(Sample(((3, 3),)), Sample(((2, 2, 2),)), Sample(((1, 1),)), Sample(((0, 0),))),
        singular="right of rank n − 1; infinite or NaN of a lower rank",
        doc="LU with the largest element of all that is left as pivot: A[rows][:, columns] = L U.",
    )
)
