"""NumPy's linear systems, inverses, determinants, and what is said with singular values.

Enters: matrices in the last two axes.  Leaves: solutions, numbers.  Invariant: what fails of a matrix is a
`gradc.LinAlgError` that names the line, or NaN with ``check=False``, which NumPy has not; the determinant of a singular
matrix is no failure, and has its derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradc.aval import computed_in, finfo
from gradc.errors import MatrixShapeError, ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, dsl, here, static_int
from gradc.numpy.factoring import singular_values, symmetric_if
from gradc.numpy.matrices import alike, fitted, led, matrices, results, wide
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import broadcast_to, reshaped
from gradc.ops.elementwise import cast

__all__ = ["cond", "det", "inv", "lstsq", "matrix_rank", "pinv", "slogdet", "solve", "tensorinv", "tensorsolve"]


class SlogdetResult(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""

    sign: Array
    logabsdet: Array


@function("linalg.solve")
def solve(a: ArrayLike, b: ArrayLike, *, check: bool = True) -> Array:
    """The X with AX = B: A (…, n, n), B (n,) or (…, n, k); leading axes broadcast.

    `gradc.LinAlgError` where A is singular, NaN with ``check=False``.
    """
    left, right, shaped = fitted(matrices(a, "solve", square=True), b, "solve")
    return shaped(_solve(left, right, check=bool(check)))


@wide
def _solve(a: Node, b: Node, *, check: bool) -> Node:
    return OPS["solve"].make((a, b), transposed=False, check=check)


@function("linalg.inv")
def inv(a: ArrayLike, *, check: bool = True) -> Array:
    """A⁻¹ (…, n, n); an error where A is singular, NaN with ``check=False``.  A⁻¹b is better said by `solve`."""
    return _inv(matrices(a, "inv", square=True), check=bool(check))


@wide
def _inv(a: Node, *, check: bool) -> Node:
    return OPS["inv"].make((a,), check=check)


@function("linalg.det")
def det(a: ArrayLike) -> Array:
    """The determinant (…) of matrices (…, n, n); its derivative, the matrix of cofactors, is right of singular ones."""
    return _det(matrices(a, "det", square=True))


@wide
def _det(a: Node) -> Node:
    return OPS["det"].make((a,))


@function("linalg.slogdet")
def slogdet(a: ArrayLike, *, check: bool = True) -> Any:
    """The sign (…) of the determinant and log|det| (…): (0, −∞) of a singular matrix, whose derivative is an error (NaN
    with ``check=False``)."""
    return SlogdetResult(*_slogdet(matrices(a, "slogdet", square=True), check=bool(check)))


@wide
def _slogdet(a: Node, *, check: bool) -> tuple[Node, ...]:
    return tuple(results("slogdet", a, check=check))


# -- tensors -----------------------------------------------------------------------------------------------------------


@function("linalg.tensorsolve")
def tensorsolve(a: ArrayLike, b: ArrayLike, axes: Sequence[int] | None = None, *, check: bool = True) -> Array:
    """The x with tensordot(a, x, x.ndim) = b; ``axes`` of ``a`` are moved to the right first."""
    left, right = inexact(as_node(a)), inexact(as_node(b))
    if axes is not None:
        order = [k for k in range(left.ndim) if k not in axes]
        left = FUNCTIONS["transpose"](left, (*order, *axes))
    shape = left.shape[right.ndim :]
    size = math.prod(shape)
    if math.prod(left.shape[: right.ndim]) != size or right.size != size:
        raise MatrixShapeError(
            f"{here()}: tensorsolve: as many unknowns as equations are needed, prod(a.shape[{right.ndim}:]) = {size} = "
            f"b.size; got {describe(left)} and {describe(right)}"
        )
    flat = solve(reshaped(left, (size, size)), reshaped(right, (size,)), check=check)
    return reshaped(as_node(flat), shape)


@function("linalg.tensorinv")
def tensorinv(a: ArrayLike, ind: int = 2, *, check: bool = True) -> Array:
    """The inverse of ``a`` as a map from its last axes to its first ``ind`` ones."""
    node, count = inexact(as_node(a)), static_int(ind, "ind")
    if count <= 0:
        raise ValueError(f"{here()}: tensorinv: ind must be positive, got {count}")
    front, back = node.shape[:count], node.shape[count:]
    if math.prod(front) != math.prod(back):
        raise MatrixShapeError(
            f"{here()}: tensorinv: the first {count} axes and the others must have equally many elements, got "
            f"{describe(node)}"
        )
    flat = as_node(inv(reshaped(node, (math.prod(front), math.prod(back))), check=check))
    return reshaped(flat, (*back, *front))


# -- by singular values ------------------------------------------------------------------------------------------------


def _epsilon(a: Node) -> float:
    return float(finfo(computed_in(a.dtype)).eps)


def _tolerances(a: Node, rtol: Any) -> Node:
    """A relative tolerance for each matrix; None: the larger extent times ε."""
    lead = a.shape[:-2]
    value = max(a.shape[-2:], default=0) * _epsilon(a) if rtol is None else rtol
    return broadcast_to(cast(as_node(value), a.dtype), lead)


@function("linalg.pinv")
def pinv(
    a: ArrayLike, rcond: ArrayLike = None, hermitian: bool = False, *, rtol: Any = np._NoValue, check: bool = True
) -> Array:  # fmt: skip
    """The pseudo-inverse (…, n, m) of matrices (…, m, n): singular values of at most ``rtol`` times the largest count
    as 0.

    ``rtol`` (or ``rcond``, its older name) is 10⁻¹⁵ by default, and the larger extent times ε where it is None and said
    so.  The derivative is that of matrices of the same rank.
    """
    node = symmetric_if(a, hermitian, "pinv")
    if rcond is not None and rtol is not np._NoValue:
        raise ValueError(f"{here()}: pinv: give rtol or rcond, not both")
    if rtol is np._NoValue:
        rtol = 1e-15 if rcond is None else rcond
    return _pinv(node, _tolerances(node, rtol), check=bool(check))


@wide
def _pinv(a: Node, rtol: Node, *, check: bool) -> Node:
    return OPS["pinv"].make((a, rtol), check=check)


@function("linalg.lstsq")
def lstsq(a: ArrayLike, b: ArrayLike, rcond: ArrayLike = None, *, check: bool = True) -> Any:
    """Least squares: the x of least size that minimises ‖Ax − b‖, Σ (Ax − b)², the rank of A, its singular values.

    Shapes (…, m, n) and (m,) or (…, m, k).  The residuals have shape (…, k) if m > n, whatever the rank; else (…, 0):
    NumPy leaves them out of a matrix of lower rank, which only values tell.
    """
    node = matrices(a, "lstsq")
    right = inexact(as_node(b))
    if not right.ndim or right.shape[0 if right.ndim == 1 else -2] != node.shape[-2]:
        raise MatrixShapeError(
            f"{here()}: lstsq: {describe(node)} and {describe(right)} have different numbers of rows"
        )
    vector = right.ndim == 1
    left, columns = led("lstsq", *alike(node, reshaped(right, (*right.shape, 1)) if vector else right))
    rtol = _epsilon(left) if _is_minus_one(rcond) else rcond
    x, residuals, rank, s = _lstsq(left, columns, _tolerances(left, rtol), check=bool(check))
    return (reshaped(x, x.shape[:-1]) if vector else x), residuals, rank, s


def _is_minus_one(rcond: Any) -> bool:
    return isinstance(rcond, (int, float)) and rcond == -1


@wide
def _lstsq(a: Node, b: Node, rtol: Node, *, check: bool) -> tuple[Any, ...]:
    x = OPS["pinv"].make((a, rtol), check=check) @ b
    s = OPS["svdvals"].make((a,), check=check)
    if a.shape[-2] > a.shape[-1]:
        residuals = dsl.sum(dsl.square(a @ x - b), axis=-2)
    else:
        residuals = as_node(np.zeros((*a.shape[:-2], 0), a.dtype))
    return x, residuals, _count(s, rtol).astype(np.int32), s


def _count(s: Node, rtol: Node) -> Node:
    """How many singular values are larger than ``rtol`` times the largest."""
    if not s.shape[-1]:
        return as_node(np.zeros(s.shape[:-1], np.int64))
    least = rtol * dsl.max(s, axis=-1)
    return dsl.sum(s > reshaped(least, (*least.shape, 1)), axis=-1)


@function("linalg.matrix_rank")
def matrix_rank(A: ArrayLike, tol: ArrayLike = None, hermitian: bool = False, *, rtol: ArrayLike = None) -> Array:
    """How many singular values are larger than ``tol``, or than ``rtol`` times the largest (the larger extent times ε).

    Of less than two axes: 0 if all elements are, else 1.
    """
    node = inexact(as_node(A))
    if tol is not None and rtol is not None:
        raise ValueError(f"{here()}: matrix_rank: give tol or rtol, not both")
    if node.ndim < 2:
        return dsl.any(node != 0).astype(np.int64)
    node = symmetric_if(node, hermitian, "matrix_rank")
    s = singular_values(node)
    if tol is not None:
        least = as_node(tol)
        return dsl.sum(s > reshaped(least, (*least.shape, 1)), axis=-1)
    return _count(s, _tolerances(node, rtol))


@function("linalg.cond")
def cond(x: ArrayLike, p: Any = None) -> Array:
    """The condition number (…): ‖A‖·‖A⁻¹‖ in the norm of order ``p``, by default σ_max/σ_min; infinite of a singular
    matrix."""
    node = matrices(x, "cond")
    if not node.size:
        raise ShapeError(f"{here()}: cond is not defined of empty matrices, got {describe(node)}")
    return _cond(node, p=p)


@wide
def _cond(a: Node, *, p: Any) -> Node:
    if p is None or p in (2, -2):
        s = OPS["svdvals"].make((a,), check=False)
        above, below = (s[..., -1], s[..., 0]) if p == -2 else (s[..., 0], s[..., -1])
        return dsl.where(below == 0, np.inf, above / below)
    matrices(a, "cond", square=True)
    other = OPS["inv"].make((a,), check=False)
    norm = FUNCTIONS["linalg.matrix_norm"]
    found = norm(a, ord=p) * norm(other, ord=p)
    unknown = dsl.isnan(found) & ~dsl.any(dsl.isnan(a), axis=(-2, -1))
    return dsl.where(unknown, np.inf, found)
