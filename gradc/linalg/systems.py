"""SciPy's triangular and factorised systems: solve_triangular, Cholesky and LU factors, and solving with them.

Enters: matrices in the last two axes.  Leaves: solutions and factors, in SciPy's order.  Invariant: of a triangular
matrix one triangle is read; the one beside Cholesky's factor is 0, which SciPy leaves undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.errors import MatrixShapeError
from gradc.graph import Graph
from gradc.node import OPS, Node, as_node, describe, dsl, here
from gradc.numpy.factoring import cholesky
from gradc.numpy.matrices import fitted, matrices, results, wide
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.shapes import broadcast_to
from gradc.ops.control import Loop, inner_leaf, item
from gradc.ops.factorisations.matrices import (
    above,
    as_column,
    below,
    identity,
    inverted,
    row_and_column,
    rows_at,
)
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.leaves import iota

__all__ = ["cho_factor", "cho_solve", "lu", "lu_factor", "lu_solve", "solve_triangular"]

_TRANSPOSED = {0: False, 1: True, 2: True, "N": False, "T": True, "C": True}


def _transposed(trans: Any, name: str) -> bool:
    if isinstance(trans, Node) or trans not in _TRANSPOSED:
        raise ValueError(f"{here()}: {name}: trans={trans!r}; expected 0 or 'N' (A), 1 or 'T' (Aᵀ), 2 or 'C'")
    return _TRANSPOSED[trans]


# -- triangular --------------------------------------------------------------------------------------------------------


@function("linalg.solve_triangular")
def solve_triangular(
    a: ArrayLike,
    b: ArrayLike,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    *,
    check: bool = True,
) -> Array:
    """The X with AX = B (``trans=1``: AᵀX = B) for the upper triangle of A, with ``lower`` the lower one.

    A (…, n, n), B (n,) or (…, n, k).  ``unit_diagonal``: the diagonal counts as 1 and is not read.
    `gradc.LinAlgError` where a diagonal element is 0, NaN with ``check=False``.
    """
    left, right, shaped = fitted(matrices(a, "solve_triangular", square=True), b, "solve_triangular")
    attrs = {"lower": bool(lower), "transposed": _transposed(trans, "solve_triangular"), "unit": bool(unit_diagonal)}
    return shaped(_triangular(left, right, **attrs, check=bool(check)))


@wide
def _triangular(t: Node, b: Node, **attrs: Any) -> Node:
    return OPS["triangular_solve"].make((t, b), **attrs)


# -- Cholesky ----------------------------------------------------------------------------------------------------------


@function("linalg.cho_factor")
def cho_factor(a: ArrayLike, lower: bool = False, *, check: bool = True) -> Any:
    """Cholesky's factor of A, the upper one unless ``lower``, and whether it is the lower: what `cho_solve` takes."""
    return as_node(cholesky(as_node(a), upper=not lower, check=check)), bool(lower)


@function("linalg.cho_solve")
def cho_solve(c_and_lower: Sequence[Any], b: ArrayLike, *, check: bool = True) -> Array:
    """The X with AX = B, from the factor of A that `cho_factor` gave; B (n,) or (…, n, k)."""
    c, lower = c_and_lower
    left, right, shaped = fitted(matrices(c, "cho_solve", square=True), b, "cho_solve")
    return shaped(_cho_solve(left, right, lower=bool(lower), check=bool(check)))


@wide
def _cho_solve(c: Node, b: Node, *, lower: bool, check: bool) -> Node:
    first = triangular_solve(c, b, lower=lower, transposed=not lower, check=check)
    return triangular_solve(c, first, lower=lower, transposed=lower, check=check)


# -- LU ----------------------------------------------------------------------------------------------------------------


@function("linalg.lu")
def lu(a: ArrayLike, permute_l: bool = False, p_indices: bool = False, *, check: bool = True) -> Any:
    """P, L and U with PLU = A: P (…, m, m) a permutation, L (…, m, k) unit lower triangular, U (…, k, n).

    ``permute_l``: PL and U alone.  ``p_indices``: the p (…, m) with A = (LU)[p] in place of P.
    """
    return _lu(matrices(a, "lu"), permuted=bool(permute_l), indices=bool(p_indices), check=bool(check))


@wide
def _lu(a: Node, *, permuted: bool, indices: bool, check: bool) -> tuple[Node, ...]:
    packed, rows = results("lu", a, check=check)
    m, k = a.shape[-2], min(a.shape[-2:])
    strict = below(packed[..., :k], -1)
    lower, upper = strict + identity(strict.shape, a.dtype), above(packed[..., :k, :])
    places = inverted(rows)
    if permuted:
        return rows_at(lower, places), upper
    if indices:
        return places.astype(np.int32), lower, upper
    _, j = row_and_column((*a.shape[:-2], m, m))
    return (j == as_column(places)).astype(a.dtype), lower, upper


@function("linalg.lu_factor")
def lu_factor(a: ArrayLike, *, check: bool = True) -> Any:
    """L and U in one matrix (…, m, n), and the pivots (…, k), int32: row i was exchanged with row piv[i]."""
    return _lu_factor(matrices(a, "lu_factor"), check=bool(check))


@wide
def _lu_factor(a: Node, *, check: bool) -> tuple[Node, Node]:
    packed, rows = results("lu", a, check=check)
    return packed, _pivots(rows, min(a.shape[-2:])).astype(np.int32)


def _exchanged(rows: Node, i: Node, p: Node) -> Node:
    """The permutations ``rows`` with the elements at ``i`` and, in each, at ``p`` exchanged."""
    k = iota(rows.shape, rows.ndim - 1)
    places = dsl.where(k == i, as_column(p), dsl.where(k == as_column(p), i, k))
    return dsl.take_along_axis(rows, places, -1)


def _pivots(rows: Node, steps: int) -> Node:
    """The exchanges, one after another, that make a permutation."""
    whole = np.dtype(np.int64)
    if not steps:
        return as_node(np.zeros((*rows.shape[:-1], 0), np.int64))
    wanted, so_far = inner_leaf(rows.aval, "rows"), inner_leaf(rows.aval, "so_far")
    i = inner_leaf(Aval((), whole), "i")
    row = dsl.sum(dsl.where(iota((rows.shape[-1],)) == i, wanted, 0), axis=-1)
    p = dsl.argmax(so_far == as_column(row), axis=-1)
    body = Graph((wanted, so_far, i), (_exchanged(so_far, i, p), p))
    start = iota(rows.shape, rows.ndim - 1)
    found = item(Loop(body, (rows,), (start,), (iota((steps,)),), steps).node(), 1)
    return dsl.moveaxis(found, 0, -1)


def _permutation(pivots: Node, n: int) -> Node:
    """The permutation that exchanges make."""
    whole, shape = np.dtype(np.int64), (*pivots.shape[:-1], n)
    if not n:
        return as_node(np.zeros(shape, np.int64))
    so_far, p = inner_leaf(Aval(shape, whole), "so_far"), inner_leaf(Aval(shape[:-1], whole), "p")
    i = inner_leaf(Aval((), whole), "i")
    body = Graph((so_far, p, i), (_exchanged(so_far, i, p),))
    rows = (dsl.moveaxis(pivots.astype(np.int64), -1, 0), iota((pivots.shape[-1],)))
    return item(Loop(body, (), (iota(shape, len(shape) - 1),), rows, pivots.shape[-1]).node(), 0)


@function("linalg.lu_solve")
def lu_solve(lu_and_piv: Sequence[Any], b: ArrayLike, trans: Any = 0, *, check: bool = True) -> Array:
    """The X with AX = B (``trans=1``: AᵀX = B), from what `lu_factor` gave; B (n,) or (…, n, k)."""
    packed, pivots = lu_and_piv
    pivots = as_node(pivots)
    left, right, shaped = fitted(matrices(packed, "lu_solve", square=True), b, "lu_solve")
    if pivots.dtype.kind not in "iu" or pivots.shape[-1:] != left.shape[-1:]:
        raise MatrixShapeError(f"{here()}: lu_solve: {describe(pivots)} are no pivots of {describe(left)}")
    return shaped(_lu_solve(left, right, pivots, transposed=_transposed(trans, "lu_solve"), check=bool(check)))


@wide
def _lu_solve(packed: Node, b: Node, pivots: Node, *, transposed: bool, check: bool) -> Node:
    rows = _permutation(broadcast_to(pivots, packed.shape[:-1]), packed.shape[-1])
    if transposed:
        first = triangular_solve(packed, b, lower=False, transposed=True, check=check)
        return rows_at(triangular_solve(packed, first, lower=True, transposed=True, unit=True), inverted(rows))
    first = triangular_solve(packed, rows_at(b, rows), lower=True, unit=True)
    return triangular_solve(packed, first, lower=False, check=check)
