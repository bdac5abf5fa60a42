"""QR, eigenvalues of symmetric matrices and singular values.

Enters: matrices in the last two axes.  Leaves: orthogonal factors and what stands between them.
Invariant: signs are fixed.  R has the signs of Householder's reflections, as in LAPACK; of each eigenvector, and of
each left singular vector, the first element of nearly the largest size is positive, so that interpreted, compiled and
batched code agree.  Where eigenvalues are equal (to rounding, see `ties`), their vectors have no derivative: it is NaN,
but 0 where nothing asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Results, finfo
from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl, here
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import Loop, inner_leaf, item, items
from gradc.ops.factorisations.bounds import eigh_moved, eigvalsh_moved, qr_moved, svd_moved, svdvals_moved
from gradc.ops.factorisations.failures import NO_CONVERGENCE, each_or_nan
from gradc.ops.factorisations.matrices import (
    WHOLE_NUMBER,
    above,
    as_column,
    as_row,
    batch_all,
    below,
    finite_unless_told,
    identity,
    must_be_matrices,
    must_be_square,
    product,
    row_and_column,
    symmetric_from_below,
    turned,
)
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.leaves import full, iota
from gradc.ops.products import times
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]

# -- QR ----------------------------------------------------------------------------------------------------------------


def _qr_infer(a: Aval, complete: bool, check: bool) -> Aval:
    must_be_matrices(a)
    *lead, m, n = a.shape
    k = m if complete else min(m, n)
    return Results.of([Aval((*lead, m, k), a.dtype), Aval((*lead, k, n), a.dtype)])


def _qr_numpy(a: Array, complete: bool, check: bool) -> tuple[Array, Array]:
    q, r = np.linalg.qr(a, mode="complete" if complete else "reduced")
    return q, r


def _qr_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """Of X = dA R⁻¹, C = QᵀX and Ω = tril(C, −1) − tril(C, −1)ᵀ: dQ = Q Ω + X − Q C, dR = (C − Ω) R.

    Of a wide matrix, of its first square; the rest of R is Qᵀ times the rest of A (Walter and Lehmann 2010).
    """
    (da,) = tangents
    assert da is not None
    q, r = item(node, 0), item(node, 1)
    m, n = node.args[0].shape[-2:]
    if node.attrs["complete"] and m > n:
        raise TraceError(
            f"{node.where or here()}: qr(mode='complete') of {m} × {n} matrices has no derivative: the last {m - n} "
            "columns of Q are any that complete the basis.\n  Use mode='reduced', or mode='r' for R alone."
        )
    k = min(m, n)
    square, check = r[..., :k], node.attrs["check"]
    x = turned(triangular_solve(square, turned(da[..., :k]), lower=False, transposed=True, check=check))
    c = product(turned(q), x)
    low = below(c, -1)
    turn = low - turned(low)
    dq = product(q, turn) if m == k else product(q, turn - c) + x
    dr = product(above(c) + turned(low), square)
    if n > k:
        dr = dsl.concatenate([dr, product(turned(q), da[..., k:] - product(dq, r[..., k:]))], axis=-1)
    return dq, dr


def _qr_expand(a: Node, complete: bool, check: bool) -> tuple[Node, Node]:
    """Householder's reflections H = I − τvvᵀ, one column after another; then they turn the identity, the last first."""
    *lead, m, n = a.shape
    k = min(m, n)
    width = m if complete else k
    if not k:
        return identity((*lead, m, width), a.dtype), full((*lead, width, n), 0, a.dtype)
    left, step = inner_leaf(a.aval, "r"), inner_leaf(Aval((), WHOLE_NUMBER), "k")
    v, tau = _reflector(left, step)
    body = Graph((left, step), (left - tau * as_column(v) * as_row(dsl.vecmat(v, left)), v, tau))
    first = Loop(body, (), (a,), (iota((k,)),), k).node()
    q = inner_leaf(Aval((*lead, m, width), a.dtype), "q")
    row, scale = inner_leaf(v.aval, "v"), inner_leaf(tau.aval, "tau")
    back = Graph((q, row, scale), (q - scale * as_column(row) * as_row(dsl.vecmat(row, q)),))
    second = Loop(back, (), (identity(q.shape, q.dtype),), (item(first, 1), item(first, 2)), k, reverse=True).node()
    return item(second, 0), above(item(first, 0)[..., :width, :])


def _reflector(left: Node, k: Node) -> tuple[Node, Node]:
    """v, and τ along two more axes, of the reflection that clears column ``k`` below the diagonal (LAPACK's dlarfg)."""
    m, n = left.shape[-2:]
    rows = iota((m,))
    column = dsl.sum(dsl.where(iota((n,)) == k, left, 0), axis=-1)
    low = dsl.where(rows > k, column, 0)
    head = dsl.sum(dsl.where(rows == k, column, 0), axis=-1)
    largest = dsl.maximum(dsl.max(dsl.abs(low), axis=-1), dsl.abs(head))
    size = dsl.where(largest > 0, largest, 1)
    rest = dsl.sum(dsl.square(low / as_column(size)), axis=-1)
    norm = size * dsl.sqrt(rest + dsl.square(head / size))
    beta = dsl.where(head < 0, norm, -norm)
    clear = rest == 0
    beta = dsl.where(clear, 1, beta)
    tau = dsl.where(clear, 0, (beta - head) / beta)
    v = low / as_column(dsl.where(clear, 1, head - beta)) + (rows == k).astype(left.dtype)
    return v, as_column(as_column(tau))


_SHAPES = ((3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1), (0, 0))
register(
    Op(
        name="qr",
        kind=Kind.WHOLE,
        infer=_qr_infer,
        numpy=_qr_numpy,
        jvp=_qr_jvp,
        batch=batch_all,
        expand=_qr_expand,
        algorithm=Algorithm.QR,
        perturbed=qr_moved,
        range=finite_unless_told,
        samples=(
            *(Sample((s,), {"complete": False, "check": True}) for s in _SHAPES),
            Sample(((2, 3),), {"complete": True, "check": True}),
        ),
        singular="an error where R is singular; none of Q that completes a basis",
        doc="Q with orthonormal columns and R upper triangular, Q R = A, by Householder's reflections.",
    )
)

# -- symmetric matrices ------------------------------------------------------------------------------------------------


def _eigen_infer(a: Aval, check: bool) -> Aval:
    must_be_square(a)
    return Results.of([Aval(a.shape[:-1], a.dtype), Aval(a.shape, a.dtype)])


def oriented(v: Array) -> Array:
    """Columns with the sign that makes the first element of at least nine tenths of the largest size positive."""
    return np.asarray(v * _signs(np, v), v.dtype) if v.size else v


def _signs(xp: Any, v: Any) -> Any:
    """1 or −1 for each column, see `oriented`."""
    size = xp.abs(v)
    large = size >= 0.9 * xp.max(size, axis=-2, keepdims=True)
    first = xp.expand_dims(xp.argmax(large, axis=-2), -2)
    return xp.where(xp.take_along_axis(v, first, -2) < 0, -1, 1).astype(v.dtype)


def _eigen_numpy(orient: Any) -> Any:
    def numpy(a: Array, check: bool) -> tuple[Array, ...]:
        def one(x: Array) -> Any:
            w, v = np.linalg.eigh(x)
            return (w, orient(v)) if np.all(np.isfinite(w)) else None

        n = a.shape[-1]
        return each_or_nan(one, NO_CONVERGENCE, check, (((n,), a.dtype), ((n, n), a.dtype)), a)

    return numpy


def ties(x: Node, y: Node, size: Node) -> Node:
    """Whether xᵢ and yⱼ are equal as far as rounding tells: closer than n ε times the largest ``size``."""
    n = x.shape[-1]
    largest = dsl.max(dsl.abs(size), axis=-1) if n else full(size.shape[:-1], 0, size.dtype)
    return dsl.abs(as_column(x) - as_row(y)) <= as_column(as_column(n * float(finfo(x.dtype).eps) * largest))


def over_gaps(w: Node) -> Node:
    """1/(wⱼ − wᵢ): 0 on the diagonal, NaN between equal ones."""
    i, j = row_and_column((*w.shape, w.shape[-1]))
    tied = ties(w, w, w)
    gap = dsl.where(tied, 1, as_row(w) - as_column(w))
    return dsl.where(i == j, 0, dsl.where(tied, np.nan, 1 / gap))


def _in_basis(v: Node, da: Node) -> Node:
    """Vᵀ dA V, of the lower triangle of dA."""
    return product(product(turned(v), symmetric_from_below(da)), v)


def _eigen_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """dw = diag(VᵀdAV), dV = V (F ∘ VᵀdAV), Fᵢⱼ = 1/(wⱼ − wᵢ)."""
    (da,) = tangents
    assert da is not None
    w, v = items(node)
    inner = _in_basis(v, da)
    return dsl.diagonal(inner, 0, -2, -1), product(v, times(inner, over_gaps(w)))


def _eigen_expand(a: Node, check: bool) -> tuple[Node, Node]:
    w, v = items(OPS["eigh_up_to_signs"].make((a,), check=check))
    return w, v * _signs(dsl, v) if v.size else v


_EIGEN: dict[str, Any] = {
    "kind": Kind.WHOLE, "infer": _eigen_infer, "jvp": _eigen_jvp, "batch": batch_all, "range": finite_unless_told,
    "samples": tuple(Sample((s,), {"check": True}) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
    "singular": "NaN of vectors whose eigenvalues are equal to rounding, 0 where nothing asks for it; in the lower "
    "triangle, which alone is read",
}  # fmt: skip
register(
    Op(
        name="eigh_up_to_signs",
        title="eigh",
        algorithm=Algorithm.EIGH,
        numpy=_eigen_numpy(lambda v: v),
        perturbed=eigh_moved,
        doc="Eigenvalues, ascending, and eigenvectors of the lower triangle of A, these of any sign.",
        **_EIGEN,
    )
)
register(
    Op(
        name="eigh",
        numpy=_eigen_numpy(oriented),
        expand=_eigen_expand,
        perturbed=eigh_moved,
        doc="Eigenvalues, ascending, and eigenvectors of the lower triangle of A; the first element of nearly the "
        "largest size is positive.",
        **_EIGEN,
    )
)


def _values_infer(a: Aval, check: bool) -> Aval:
    must_be_square(a)
    return Aval(a.shape[:-1], a.dtype)


def _values_numpy(a: Array, check: bool) -> Array:
    return _eigen_numpy(lambda v: v)(a, check)[0]


def _values_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """dw = diag(VᵀdAV)."""
    (da,) = tangents
    assert da is not None
    _, v = items(OPS["eigh"].make(node.args, **node.attrs))
    return dsl.diagonal(_in_basis(v, da), 0, -2, -1)


register(
    Op(
        name="eigvalsh",
        kind=Kind.WHOLE,
        algorithm=Algorithm.EIGENVALUES,
        infer=_values_infer,
        numpy=_values_numpy,
        jvp=_values_jvp,
        batch=batch_all,
        perturbed=eigvalsh_moved,
        range=finite_unless_told,
        samples=tuple(Sample((s,), {"check": True}) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="right of symmetric functions of equal ones, once; in the lower triangle, which alone is read",
        doc="Eigenvalues, ascending, of the lower triangle of A.",
    )
)

# -- singular values ---------------------------------------------------------------------------------------------------


def _svd_infer(a: Aval, full: bool, check: bool) -> Aval:
    must_be_matrices(a)
    *lead, m, n = a.shape
    k = min(m, n)
    shapes = (m, m if full else k), (k,), (n if full else k, n)
    return Results.of([Aval((*lead, *shape), a.dtype) for shape in shapes])


def _oriented_pair(u: Array, vt: Array) -> tuple[Array, Array]:
    """Left singular vectors `oriented`, the right ones with them; what only completes a basis by itself."""
    k = min(u.shape[-1], vt.shape[-2])
    signs = _signs(np, u) if u.size else np.ones((*u.shape[:-2], 1, u.shape[-1]))
    others = np.swapaxes(vt, -1, -2)
    own = _signs(np, others) if vt.size else np.ones((*vt.shape[:-2], 1, vt.shape[-2]))
    both = np.concatenate([signs[..., :k], own[..., k:]], axis=-1)
    return np.asarray(u * signs, u.dtype), np.asarray(np.swapaxes(others * both, -1, -2), vt.dtype)


def _svd_numpy(orient: Any) -> Any:
    def numpy(a: Array, full: bool, check: bool) -> tuple[Array, ...]:
        def one(x: Array) -> Any:
            u, s, vt = np.linalg.svd(x, full_matrices=full)
            if not np.all(np.isfinite(s)):
                return None
            u, vt = orient(u, vt)
            return u, s, vt

        m, n = a.shape[-2:]
        k = min(m, n)
        outs = ((m, m if full else k), a.dtype), ((k,), a.dtype), ((n if full else k, n), a.dtype)
        return each_or_nan(one, NO_CONVERGENCE, check, outs, a)

    return numpy


def _svd_jvp(node: Node, tangents: Sequence[Node | None]) -> tuple[Node | None, ...]:
    """Of P = UᵀdAV: ds = diag P, dU = U (F ∘ (PS + SPᵀ)) + (I − UUᵀ) dA V S⁻¹, dV likewise, Fᵢⱼ = 1/(sⱼ² − sᵢ²)
    (Townsend 2016).  A singular value that is 0 is taken as |x| is at 0: its derivative is 0.
    """
    (da,) = tangents
    assert da is not None
    u, s, vt = items(node)
    m, n = node.args[0].shape[-2:]
    if node.attrs["full"] and m != n:
        raise TraceError(
            f"{node.where or here()}: svd(full_matrices=True) of {m} × {n} matrices has no derivative: {abs(m - n)} of "
            "the vectors are any that complete the basis.\n  Use full_matrices=False, or svdvals for the values alone."
        )
    v = turned(vt)
    inner = product(product(turned(u), da), v)
    f, scaled = _over_square_gaps(s), as_row(s)
    left, right = inner * scaled, as_column(s) * inner
    du = product(u, times(left + turned(left), f))
    dv = product(v, times(right + turned(right), f))
    if m > n:
        du = du + _outside(u, product(da, v), s)
    if n > m:
        dv = dv + _outside(v, product(turned(da), u), s)
    return du, _of_positive(s, dsl.diagonal(inner, 0, -2, -1)), turned(dv)


def _of_positive(s: Node, ds: Node) -> Node:
    return dsl.where(s > 0, ds, 0)


def _outside(u: Node, moved: Node, s: Node) -> Node:
    """(I − UUᵀ) X S⁻¹; NaN where a singular value is 0 to rounding."""
    zero = dsl.diagonal(ties(s, dsl.zeros_like(s), s), 0, -2, -1)
    over = dsl.where(zero, np.nan, 1 / dsl.where(zero, 1, s))
    beside = moved - product(u, product(turned(u), moved))
    return times(beside, dsl.broadcast_to(as_row(over), beside.shape))


def _over_square_gaps(s: Node) -> Node:
    """1/(sⱼ² − sᵢ²): 0 on the diagonal, NaN between equal ones."""
    i, j = row_and_column((*s.shape, s.shape[-1]))
    tied = ties(s, s, s)
    gap = dsl.where(tied, 1, (as_row(s) - as_column(s)) * (as_row(s) + as_column(s)))
    return dsl.where(i == j, 0, dsl.where(tied, np.nan, 1 / gap))


def _svd_expand(a: Node, full: bool, check: bool) -> tuple[Node, ...]:
    u, s, vt = items(OPS["svd_up_to_signs"].make((a,), full=full, check=check))
    if not a.size:
        return u, s, vt
    k, v = s.shape[-1], turned(vt)
    signs, own = _signs(dsl, u), _signs(dsl, v)
    both = dsl.concatenate([signs[..., :k], own[..., k:]], axis=-1) if v.shape[-1] > k else signs[..., :k]
    return u * signs, s, turned(v * both)


_SVD: dict[str, Any] = {
    "kind": Kind.WHOLE, "infer": _svd_infer, "jvp": _svd_jvp, "batch": batch_all, "range": finite_unless_told,
    "samples": (
        *(Sample((s,), {"full": False, "check": True}) for s in ((3, 3), (4, 2), (2, 4), (2, 2, 2), (1, 1), (0, 0))),
        Sample(((2, 2),), {"full": True, "check": True}),
    ),
    "singular": "NaN of vectors whose singular values are equal to rounding, 0 where nothing asks for it; 0 of a "
    "singular value that is 0",
}  # fmt: skip
register(
    Op(
        name="svd_up_to_signs",
        title="svd",
        algorithm=Algorithm.SVD,
        numpy=_svd_numpy(lambda u, vt: (u, vt)),
        perturbed=svd_moved,
        doc="Left singular vectors, singular values, descending, and right singular vectors as rows, of any sign.",
        **_SVD,
    )
)
register(
    Op(
        name="svd",
        numpy=_svd_numpy(_oriented_pair),
        expand=_svd_expand,
        perturbed=svd_moved,
        doc="Left singular vectors, singular values, descending, and right singular vectors as rows.",
        **_SVD,
    )
)


def _svdvals_infer(a: Aval, check: bool) -> Aval:
    must_be_matrices(a)
    return Aval((*a.shape[:-2], min(a.shape[-2:])), a.dtype)


def _svdvals_numpy(a: Array, check: bool) -> Array:
    def one(x: Array) -> Any:
        found = np.linalg.svd(x, compute_uv=False)
        return (found,) if np.all(np.isfinite(found)) else None

    (values,) = each_or_nan(one, NO_CONVERGENCE, check, (((min(a.shape[-2:]),), a.dtype),), a)
    return values


def _svdvals_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """ds = diag(UᵀdAV), and 0 of a singular value that is 0."""
    (da,) = tangents
    assert da is not None
    u, s, vt = items(OPS["svd"].make(node.args, full=False, check=node.attrs["check"]))
    return _of_positive(s, dsl.diagonal(product(product(turned(u), da), turned(vt)), 0, -2, -1))


register(
    Op(
        name="svdvals",
        kind=Kind.WHOLE,
        algorithm=Algorithm.SINGULAR_VALUES,
        infer=_svdvals_infer,
        numpy=_svdvals_numpy,
        jvp=_svdvals_jvp,
        batch=batch_all,
        perturbed=svdvals_moved,
        range=finite_unless_told,
        samples=tuple(Sample((s,), {"check": True}) for s in ((3, 3), (4, 2), (2, 3, 2), (1, 1), (0, 0))),
        singular="right of symmetric functions of equal ones, once; 0 of one that is 0",
        doc="Singular values, descending.",
    )
)
