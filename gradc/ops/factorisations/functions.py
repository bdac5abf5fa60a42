"""Functions of matrices: pseudo-inverse, exponential, symmetric square root, and the linear maps that their derivatives
are.

Enters: matrices in the last two axes.  Leaves: matrices.  Invariant: each derivative is written in ops of this file
again, so all orders are right, equal eigenvalues included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.ops.consistent import refuse, same_dtype
from gradc.ops.control import Loop, inner_leaf, item, items
from gradc.ops.factorisations.bounds import expm_moved, expm_slope_moved, lyapunov_moved, pinv_moved, sqrtm_moved
from gradc.ops.factorisations.exponential import REACH, expm_of_one, pade
from gradc.ops.factorisations.failures import NO_CONVERGENCE, each_or_nan
from gradc.ops.factorisations.matrices import (
    as_column,
    as_row,
    batch_all,
    finite_unless_told,
    identity,
    must_be_matrices,
    must_fit,
    product,
    square,
    square_or_failing,
    summed,
    symmetric_from_below,
    turned,
)
from gradc.ops.factorisations.systems import solve
from gradc.ops.products import times
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


# -- pseudo-inverse ----------------------------------------------------------------------------------------------------


def _pinv_infer(a: Aval, rtol: Aval, check: bool) -> Aval:
    must_be_matrices(a)
    same_dtype((a, rtol))
    if rtol.shape != a.shape[:-2]:
        refuse(f"tolerances of {rtol.shape} for matrices of {a.shape}")
    return Aval((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)


def _pinv_numpy(a: Array, rtol: Array, check: bool) -> Array:
    def one(a: Array) -> Any:
        return (a,) if np.all(np.isfinite(a)) else None

    (good,) = each_or_nan(one, NO_CONVERGENCE, check, ((a.shape[-2:], a.dtype),), a)
    finite = np.all(np.isfinite(good), axis=(-2, -1), keepdims=True)
    found = np.linalg.pinv(np.where(finite, good, 0), rcond=rtol)
    return np.asarray(np.where(finite, found, np.nan), a.dtype)


def _pinv_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """dP = −P dA P + P Pᵀ dAᵀ (I − A P) + (I − P A) dAᵀ Pᵀ P, of constant rank (Golub and Pereyra 1973)."""
    a, da = node.args[0], tangents[0]
    if da is None:
        return None
    m, n = a.shape[-2:]
    back, moved = turned(node), turned(da)
    found = -product(product(node, da), node)
    if m > 1 or n > 1:
        left, right = product(product(node, back), moved), product(product(moved, back), node)
        found = found + left - product(product(left, a), node) + right - product(node, product(a, right))
    return found


def _pinv_expand(a: Node, rtol: Node, check: bool) -> Node:
    u, s, vt = items(OPS["svd_up_to_signs"].make((a,), full=False, check=check))
    if not a.size:
        return turned(a)
    kept = s > as_column(rtol) * s[..., :1]
    over = dsl.where(kept, 1 / dsl.where(kept, s, 1), 0)
    return product(turned(vt) * as_row(over), turned(u))


register(
    Op(
        name="pinv",
        kind=Kind.WHOLE,
        infer=_pinv_infer,
        numpy=_pinv_numpy,
        jvp=_pinv_jvp,
        batch=batch_all,
        expand=_pinv_expand,
        perturbed=pinv_moved,
        range=finite_unless_told,
        samples=tuple(
            Sample((shape, shape[:-2]), {"check": True}, ("regular", "small"))
            for shape in ((3, 3), (4, 2), (2, 3), (2, 2, 2), (1, 1))
        ),
        singular="that of matrices of the same rank",
        doc="The pseudo-inverse; singular values of at most rtol times the largest count as 0.",
    )
)

# -- exponential -------------------------------------------------------------------------------------------------------


def _expm_numpy(a: Array) -> Array:
    found = np.empty_like(a)
    for index in np.ndindex(*a.shape[:-2]):
        found[index] = expm_of_one(a[index])
    return found


def _expm_expand(a: Node) -> Node:
    """The same; each matrix is squared as often as it was halved, those that need it less often wait."""
    if not a.size:
        return a
    norm = dsl.max(dsl.sum(dsl.abs(a), axis=-2), axis=-1)
    fine = dsl.isfinite(norm)
    halvings = dsl.ceil(dsl.log2(dsl.where(fine, norm, 0) / REACH))
    squarings = dsl.maximum(halvings, 0).astype(np.int64)
    scaled = a * as_column(as_column(dsl.exp2(-squarings.astype(a.dtype))))
    odd, even = pade(dsl, scaled, identity(a.shape, a.dtype), product)
    first = solve(even - odd, even + odd, check=False)
    most = dsl.max(squarings)
    x, left = inner_leaf(a.aval, "x"), inner_leaf(squarings.aval, "left")
    step, last = inner_leaf(Aval((), np.dtype(np.int64)), "step"), inner_leaf(Aval((), np.dtype(np.int64)), "last")
    squared = dsl.where(as_column(as_column(left > step)), product(x, x), x)
    body = Graph((left, last, x, step), (squared, step + 1))
    c_left, c_last, c_x, c_step = (inner_leaf(n.aval, "c") for n in (left, last, x, step))
    cond = Graph((c_left, c_last, c_x, c_step), (c_step < c_last,))
    start = dsl.zeros_like(most)
    loop = Loop(body, (squarings, most), (first, start), (), None, cond=cond).node()
    return dsl.where(as_column(as_column(fine)), item(loop, 0), np.nan)


def _expm_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (da,) = tangents
    assert da is not None
    return OPS["expm_slope"].make((node.args[0], da))


register(
    Op(
        name="expm",
        kind=Kind.WHOLE,
        infer=square,
        numpy=_expm_numpy,
        jvp=_expm_jvp,
        batch=batch_all,
        expand=_expm_expand,
        perturbed=expm_moved,
        samples=tuple(Sample((s,)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        doc="The matrix exponential, by scaling and squaring with a Padé approximant.",
    )
)


def _slope_infer(a: Aval, e: Aval) -> Aval:
    must_fit(a, e)
    if e.shape != a.shape:
        refuse(f"a direction of {e.shape} for matrices of {a.shape}")
    return Aval(a.shape, a.dtype)


def _slope_numpy(a: Array, e: Array) -> Array:
    """The upper right block of exp [[A, E], [0, A]] (Van Loan 1978)."""
    n = a.shape[-1]
    wide = np.concatenate([np.concatenate([a, e], -1), np.concatenate([np.zeros_like(a), a], -1)], -2)
    return _expm_numpy(wide)[..., :n, n:]


def _blocks(a: Node, e: Node | None, b: Node) -> Node:
    """[[A, E], [0, B]]."""
    zero = dsl.zeros_like(a)
    top = dsl.concatenate([a, zero if e is None else e], axis=-1)
    return dsl.concatenate([top, dsl.concatenate([zero, b], axis=-1)], axis=-2)


def _upper_right(a: Node) -> Node:
    n = a.shape[-1] // 2
    return a[..., :n, n:]


def _slope_expand(a: Node, e: Node) -> Node:
    return _upper_right(OPS["expm"].make((_blocks(a, e, a),)))


def _slope_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """By A it is the slope of the exponential of [[A, E], [0, A]] along [[F, 0], [0, F]]."""
    (a, e), (da, de) = node.args, tangents
    by_direction = None if de is None else node.op.make((a, de))
    if da is None:
        return by_direction
    return summed(by_direction, _upper_right(node.op.make((_blocks(a, e, a), _blocks(da, None, da)))))


register(
    Op(
        name="expm_slope",
        kind=Kind.WHOLE,
        infer=_slope_infer,
        numpy=_slope_numpy,
        jvp=_slope_jvp,
        transpose=lambda ct, node, i: node.op.make((turned(node.args[0]), ct)),
        linear=(1,),
        batch=batch_all,
        expand=_slope_expand,
        perturbed=expm_slope_moved,
        samples=tuple(Sample((s, s)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        doc="The derivative of the matrix exponential at A along E, linear in E.",
    )
)

# -- symmetric square root ---------------------------------------------------------------------------------------------


def _same_shape(x: Aval, c: Aval, check: bool) -> Aval:
    return _slope_infer(x, c)


def _roots(xp: Any, w: Any, eps: float) -> Any:
    """√w, 0 of what is 0 to rounding, NaN of what is less."""
    slack = w.shape[-1] * eps * xp.max(xp.abs(w), axis=-1, keepdims=True)
    return xp.sqrt(xp.where(xp.abs(w) <= slack, 0, w))


def _eigen(a: Array, check: bool) -> tuple[Array, ...]:
    def one(x: Array) -> Any:
        w, v = np.linalg.eigh(x)
        return (w, v) if np.all(np.isfinite(w)) else None

    n = a.shape[-1]
    return each_or_nan(one, NO_CONVERGENCE, check, (((n,), a.dtype), ((n, n), a.dtype)), a)


def _sqrtm_numpy(a: Array, check: bool) -> Array:
    if not a.size:
        return a
    w, v = _eigen(a, check)
    return np.asarray((v * _roots(np, w, np.finfo(a.dtype).eps)[..., None, :]) @ np.swapaxes(v, -1, -2))


def _sqrtm_expand(a: Node, check: bool) -> Node:
    if not a.size:
        return a
    w, v = items(OPS["eigh_up_to_signs"].make((a,), check=check))
    return product(v * as_row(_roots(dsl, w, float(np.finfo(w.dtype).eps))), turned(v))


def _sqrtm_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """X dX + dX X = dA."""
    (da,) = tangents
    assert da is not None
    return lyapunov(node, symmetric_from_below(da), node.attrs["check"])


register(
    Op(
        name="sqrtm",
        kind=Kind.WHOLE,
        infer=square_or_failing,
        numpy=_sqrtm_numpy,
        jvp=_sqrtm_jvp,
        batch=batch_all,
        expand=_sqrtm_expand,
        perturbed=sqrtm_moved,
        samples=tuple(Sample((s,), {"check": True}, ("definite",)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="not finite where two eigenvalues are 0, as of √x; in the lower triangle, which alone is read",
        doc="The symmetric X with X² = A, of the lower triangle of A; NaN where an eigenvalue is negative.",
    )
)


def lyapunov(x: Node, c: Node, check: bool) -> Node:
    """The Y with XY + YX = C for a symmetric X, of which the lower triangle is read."""
    return OPS["lyapunov"].make((x, c), check=check)


def _lyapunov_numpy(x: Array, c: Array, check: bool) -> Array:
    w, v = _eigen(x, check)
    back = np.swapaxes(v, -1, -2)
    with np.errstate(all="ignore"):
        inner = OPS["strong_multiply"].numpy(back @ c @ v, 1 / (w[..., :, None] + w[..., None, :]))
    return np.asarray(v @ inner @ back)


def _lyapunov_expand(x: Node, c: Node, check: bool) -> Node:
    w, v = items(OPS["eigh_up_to_signs"].make((x,), check=check))
    inner = product(product(turned(v), c), v)
    return product(product(v, times(inner, 1 / (as_column(w) + as_row(w)))), turned(v))


def _lyapunov_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """The same equation, of dC − dX Y − Y dX."""
    (x, _), (dx, dc) = node.args, tangents
    pushed = None
    if dx is not None:
        moved = symmetric_from_below(dx)
        pushed = -(product(moved, node) + product(node, moved))
    right = summed(dc, pushed)
    return None if right is None else lyapunov(x, right, node.attrs["check"])


register(
    Op(
        name="lyapunov",
        kind=Kind.WHOLE,
        infer=_same_shape,
        numpy=_lyapunov_numpy,
        jvp=_lyapunov_jvp,
        transpose=lambda ct, node, i: lyapunov(node.args[0], ct, node.attrs["check"]),
        linear=(1,),
        batch=batch_all,
        expand=_lyapunov_expand,
        perturbed=lyapunov_moved,
        samples=tuple(
            Sample((s, s), {"check": True}, ("definite", "float")) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))
        ),
        singular="not finite where two eigenvalues of X add up to 0; in the lower triangle of X, which alone is read",
        doc="The Y with XY + YX = C, X symmetric: what the derivative of a symmetric square root solves.",
    )
)
