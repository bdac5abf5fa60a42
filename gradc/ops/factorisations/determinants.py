"""Determinants, and their derivatives at singular matrices too.

Enters: square matrices in the last two axes.  Leaves: numbers and matrices of cofactors.
∂det/∂A is the matrix of cofactors, a polynomial: of a matrix of rank n − 1 it is not 0, of a lower rank it is, and no
inverse says so.  With A = Pᵀ L D Ũ Qᵀ by complete pivoting (L and Ũ unit triangular, hence harmless) all is reduced to
the diagonal D, whose cofactors are products of the other elements.
Start reading at `cofactor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Results
from gradc.node import OPS, Node, dsl
from gradc.ops.control import items
from gradc.ops.factorisations.bounds import cofactor_moved, det_moved, slogdet_moved
from gradc.ops.factorisations.elimination import complete_lu, scaled_upper
from gradc.ops.factorisations.matrices import (
    as_column,
    as_row,
    batch_all,
    columns_at,
    diagonals,
    finite_unless_told,
    inner_product,
    inverted,
    must_be_square,
    of_each,
    parity,
    product,
    row_and_column,
    rows_at,
    square,
    turned,
)
from gradc.ops.factorisations.systems import adjugate, inverse
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


def _one_for_each(a: Aval) -> Aval:
    must_be_square(a)
    return Aval(a.shape[:-2], a.dtype)


# -- det ---------------------------------------------------------------------------------------------------------------


def _det_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """d det = Σ cofactor(A) ∘ dA (Jacobi)."""
    (da,) = tangents
    assert da is not None
    return inner_product(OPS["cofactor"].make(node.args), da)


def _det_expand(a: Node) -> Node:
    packed, rows = items(OPS["lu"].make((a,), check=False))
    return parity(rows, a.dtype) * dsl.prod(diagonals(packed), axis=-1)


register(
    Op(
        name="det",
        kind=Kind.WHOLE,
        infer=_one_for_each,
        numpy=lambda a: np.asarray(np.linalg.det(a), a.dtype),
        sympy=of_each(lambda S, a: adjugate(S, a)[1]),
        jvp=_det_jvp,
        batch=batch_all,
        expand=_det_expand,
        perturbed=det_moved,
        range=finite_unless_told,
        samples=tuple(Sample((s,)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="the matrix of cofactors",
        doc="The determinant; of 0 × 0 matrices it is 1.",
    )
)

# -- cofactors ---------------------------------------------------------------------------------------------------------


def _by_singular_values(a: Array) -> tuple[Array, Array, Array, Any]:
    """U, s, Vᵀ and det U · det Vᵀ."""
    u, s, vt = np.linalg.svd(a)
    return u, s, vt, np.sign(np.linalg.det(u) * np.linalg.det(vt))


def _products_without(s: Array) -> Array:
    """∏ over k ≠ i of sₖ."""
    n = s.shape[-1]
    return np.prod(np.where(np.eye(n, dtype=bool), 1, s[..., None, :]), axis=-1)


def _cofactor_numpy(a: Array) -> Array:
    """det(U) det(V) U diag(∏_{k≠i} sₖ) Vᵀ."""
    if not a.shape[-1]:
        return np.zeros_like(a)
    u, s, vt, sign = _by_singular_values(a)
    found: Array = (sign[..., None, None] * u * _products_without(s)[..., None, :]) @ vt
    return found


def _rolled(a: Node, rows: int, columns: int) -> Node:
    """Element (i + rows, j + columns) at (i, j)."""
    return dsl.roll(a, (-rows, -columns), (-2, -1))


def _small_slope(a: Node, da: Node) -> Node | None:
    """The derivative of the cofactors of 1 × 1, 2 × 2 and 3 × 3 matrices, polynomials of degree 0, 1 and 2."""
    n = a.shape[-1]
    if n < 2:
        return None
    if n == 2:
        i, j = row_and_column(a.shape)
        other = _rolled(da, 1, 1)
        return dsl.where(i == j, other, -other)
    pairs = ((1, 1), (2, 2), 1), ((1, 2), (2, 1), -1)
    terms = [
        sign * (_rolled(da, *one) * _rolled(a, *two) + _rolled(a, *one) * _rolled(da, *two)) for one, two, sign in pairs
    ]
    return terms[0] + terms[1]


def _cofactor_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """Of G = L⁻¹ P dA Q Ũ⁻¹: Σ_{j≠i} Gⱼⱼ pᵢⱼ on the diagonal, −Gⱼᵢ pᵢⱼ beside it; pᵢⱼ multiplies all other pivots."""
    (a,), (da,) = node.args, tangents
    assert da is not None
    if a.shape[-1] <= 3:
        return _small_slope(a, da)
    reduced = _Reduced(a)
    inner, pairs = reduced.inside(da), _pairwise(reduced.d)
    i, j = row_and_column(a.shape)
    trace = product(pairs, as_column(diagonals(inner)))
    return reduced.outside(dsl.where(i == j, trace, -turned(inner) * pairs))


class _Reduced:
    """A = Pᵀ L D Ũ Qᵀ, to which cofactors are reduced."""

    def __init__(self, a: Node):
        self.packed, self.rows, self.columns = complete_lu(a)
        self.upper = scaled_upper(self.packed)
        self.d = diagonals(self.packed)
        self.sign = parity(self.rows, a.dtype) * parity(self.columns, a.dtype)

    def inside(self, x: Node) -> Node:
        """L⁻¹ P X Q Ũ⁻¹."""
        found = triangular_solve(self.packed, columns_at(rows_at(x, self.rows), self.columns), lower=True, unit=True)
        return turned(triangular_solve(self.upper, turned(found), lower=False, transposed=True, unit=True))

    def outside(self, x: Node) -> Node:
        """± Pᵀ L⁻ᵀ X Ũ⁻ᵀ Qᵀ, the transposed map."""
        found = triangular_solve(self.packed, x, lower=True, transposed=True, unit=True)
        found = turned(triangular_solve(self.upper, turned(found), lower=False, unit=True))
        found = columns_at(rows_at(found, inverted(self.rows)), inverted(self.columns))
        return as_column(as_column(self.sign)) * found


def _exclusive(d: Node) -> Node:
    """∏ over k ≠ i of dₖ."""
    n = d.shape[-1]
    i, k = row_and_column((*d.shape, n))
    return dsl.prod(dsl.where(i == k, 1, as_row(d)), axis=-1)


def _pairwise(d: Node) -> Node:
    """∏ over k ≠ i, j of dₖ, 0 for i = j: what is before both, between them, and behind both."""
    n = d.shape[-1]
    i, k = row_and_column((*d.shape, n))
    shown = dsl.broadcast_to(as_row(d), i.shape)
    to_here = dsl.cumprod(dsl.where(k > i, shown, 1), axis=-1)
    between = dsl.concatenate([dsl.ones_like(to_here[..., :1]), to_here[..., :-1]], axis=-1)
    before = dsl.prod(dsl.where(k < i, shown, 1), axis=-1)
    behind = dsl.prod(dsl.where(k > i, shown, 1), axis=-1)
    upper = dsl.where(i < k, as_column(before) * between * as_row(behind), 0)
    return upper + turned(upper)


def _cofactor_expand(a: Node) -> Node:
    reduced = _Reduced(a)
    i, j = row_and_column(a.shape)
    return reduced.outside(dsl.where(i == j, as_column(_exclusive(reduced.d)), 0))


register(
    Op(
        name="cofactor",
        kind=Kind.WHOLE,
        infer=square,
        numpy=_cofactor_numpy,
        sympy=of_each(lambda S, a: adjugate(S, a)[0].T),
        jvp=_cofactor_jvp,
        batch=batch_all,
        expand=_cofactor_expand,
        perturbed=cofactor_moved,
        range=finite_unless_told,
        samples=tuple(Sample((s,)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="that of the polynomial; the second one not finite of rank n − 2 or less, for n > 3",
        doc="The matrix of cofactors, the transposed adjugate: det(A)·A⁻ᵀ, of singular matrices too.",
    )
)

# -- slogdet -----------------------------------------------------------------------------------------------------------


def _slogdet_infer(a: Aval, check: bool) -> Aval:
    must_be_square(a)
    one = Aval(a.shape[:-2], a.dtype)
    return Results.of([one, one])


def _slogdet_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """d log|det| = tr(A⁻¹ dA); the sign is constant."""
    (da,) = tangents
    assert da is not None
    return None, inner_product(turned(inverse(node.args[0], node.attrs["check"])), da)


def _slogdet_expand(a: Node, check: bool) -> tuple[Node, Node]:
    packed, rows = items(OPS["lu"].make((a,), check=check))
    pivots = diagonals(packed)
    sign = parity(rows, a.dtype) * dsl.prod(dsl.sign(pivots), axis=-1)
    return sign, dsl.sum(dsl.log(dsl.abs(pivots)), axis=-1)


def _slogdet_sympy(S: Any, a: Any, check: bool) -> Any:
    det = adjugate(S, a)[1]
    return S.sign(det), S.log(S.Abs(det))


register(
    Op(
        name="slogdet",
        kind=Kind.WHOLE,
        infer=_slogdet_infer,
        numpy=lambda a, check: tuple(np.asarray(x, a.dtype) for x in np.linalg.slogdet(a)),
        sympy=of_each(_slogdet_sympy),
        jvp=_slogdet_jvp,
        batch=batch_all,
        expand=_slogdet_expand,
        perturbed=slogdet_moved,
        samples=tuple(Sample((s,), {"check": True}, ("regular",)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="an error where A is singular",
        doc="The sign of the determinant and log|det|; (0, −∞) where A is singular.",
    )
)
