"""How far errors of the operands, and rounding, move a factorisation: perturbation theory in closed form.

Enters: operands, bounds on their errors, the unit roundoff, attributes; all arrays in float64.  Leaves: a bound for
each result.
A backward stable algorithm gives the exact result for operands that moved by a few roundings (Higham, Accuracy and
Stability of Numerical Algorithms, chapters 8 to 10, 14, 19), so rounding is one more error of the operands.  Bounds are
of first order, with the factor `SLACK` for the rest, and infinite where first order says nothing.
Start reading at `stacked`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.ops.factorisations.exponential import expm_of_one

Array = np.ndarray[Any, Any]
Bounds = Callable[..., Any]

#: on top of a bound of first order, and for two roundings that are compared
SLACK = 4.0


def stacked(results: int = 1) -> Callable[[Bounds], Bounds]:
    """A bound for one matrix (of each operand) as one for stacks of them; infinite where NumPy refuses the matrix."""

    def decorate(of_one: Bounds) -> Bounds:
        @functools.wraps(of_one)
        def bounds(args: Sequence[Array], errors: Sequence[Array], u: float, **attrs: Any) -> Any:
            lead = args[0].shape[:-2]
            found: list[tuple[Array, ...]] = []
            for index in np.ndindex(*lead):
                with np.errstate(all="ignore"):
                    found.append(_of_one(of_one, [a[index] for a in args], [e[index] for e in errors], u, attrs))
            if not found:
                return None
            parts = tuple(np.reshape(np.stack(part), (*lead, *part[0].shape)) for part in zip(*found, strict=True))
            return parts if results > 1 else parts[0]

        return bounds

    return decorate


def _of_one(of_one: Bounds, args: list[Array], errors: list[Array], u: float, attrs: dict[str, Any]) -> Any:
    try:
        found = of_one(args, errors, u, **attrs)
    except np.linalg.LinAlgError:
        found = of_one([_tame(a) for a in args], errors, u, **attrs)
        found = tuple(np.full_like(f, np.inf) for f in (found if isinstance(found, tuple) else (found,)))
    return found if isinstance(found, tuple) else (found,)


def _tame(a: Array) -> Array:
    """A matrix of the same shape of which every factorisation exists."""
    return np.eye(*a.shape)


def _grown(first_order: Array, size: float) -> Array:
    """A bound of first order where what it is taken at is moved by ``size`` < 1 of itself."""
    return np.where(size < 0.5, SLACK * first_order, np.inf)


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a)) if a.size else 0.0


def _symmetric(e: Array) -> Array:
    return np.tril(e) + np.tril(e, -1).T


@stacked()
def cholesky_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool) -> Array:
    """|L| tril(|L⁻¹| E |L⁻ᵀ|)."""
    lower = np.linalg.cholesky(args[0])
    e = _symmetric(errors[0]) + (len(lower) + 2) * u * (np.abs(lower) @ np.abs(lower.T))
    inverse = np.abs(np.linalg.inv(lower))
    moved = inverse @ e @ inverse.T
    return _grown(np.abs(lower) @ np.tril(moved), _norm(moved))


@stacked()
def triangular_moved(
    args: Sequence[Array], errors: Sequence[Array], u: float, lower: bool, transposed: bool, unit: bool, check: bool
) -> Array:
    """|T⁻¹| (E_T |X| + E_B), with n roundings of |T| |X|."""
    (t, b), (et, eb) = args, errors
    part = np.tril if lower else np.triu
    offset = (-1 if lower else 1) if unit else 0
    read, e = part(t, offset), part(et, offset)
    read = read + np.eye(len(t)) if unit else read
    if transposed:
        read, e = read.T, e.T
    inverse = np.linalg.inv(read)
    x = np.abs(inverse @ b)
    inverse = np.abs(inverse)
    e = e + (len(t) + 2) * u * np.abs(read)
    return _grown(inverse @ (e @ x + eb), _norm(inverse @ e))


def partial_lu(a: Array, complete: bool = False) -> tuple[Array, Array, Array]:
    """L\\U in one matrix, and the permutations of rows and of columns, by elimination with the largest pivot of the
    column, or of all that is left."""
    a = np.array(a)
    m, n = a.shape
    rows, columns = np.arange(m), np.arange(n)
    for k in range(min(m, n)):
        left = np.abs(a[k:, k:] if complete else a[k:, k : k + 1])
        p, q = (int(x) for x in np.unravel_index(int(np.argmax(left)), left.shape))
        a[[k, k + p]], rows[[k, k + p]] = a[[k + p, k]], rows[[k + p, k]]
        a[:, [k, k + q]], columns[[k, k + q]] = a[:, [k + q, k]], columns[[k + q, k]]
        if a[k, k] != 0:
            a[k + 1 :, k] /= a[k, k]
            a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return a, rows, columns


def _backward(a: Array, u: float) -> Array:
    """Of solving by elimination: 3n roundings of |L| |U| (Higham, theorem 9.4)."""
    packed, rows, _ = partial_lu(a)
    lower, upper = np.abs(np.tril(packed, -1)) + np.eye(len(a)), np.abs(np.triu(packed))
    grown = np.empty_like(a)
    grown[rows] = lower @ upper
    return (3 * len(a) + 2) * u * grown


@stacked()
def solve_moved(
    args: Sequence[Array], errors: Sequence[Array], u: float, transposed: bool = False, check: bool = True
) -> Array:
    """|A⁻¹| (E_A |X| + E_B)."""
    (a, b), (ea, eb) = args, errors
    e = ea + _backward(a, u)
    inverse = np.linalg.inv(a)
    if transposed:
        inverse, e = inverse.T, e.T
    x, inverse = np.abs(inverse @ b), np.abs(inverse)
    return _grown(inverse @ (e @ x + eb + u * np.abs(b)), _norm(inverse @ e))


@stacked()
def inverse_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Array:
    """|A⁻¹| E |A⁻¹|."""
    (a,), (e,) = args, errors
    e = e + _backward(a, u)
    inverse = np.abs(np.linalg.inv(a))
    return _grown(inverse @ e @ inverse, _norm(inverse @ e))


@stacked(2)
def lu_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> tuple[Array, ...]:
    """|L| tril(G) and triu(G) |U| of G = |L⁻¹| E |U⁻¹|; anything where another pivot may be chosen."""
    (a,), (e,) = args, errors
    m, n = a.shape
    packed, rows, _ = partial_lu(a)
    k = min(m, n)
    lower, upper = np.tril(packed[:, :k], -1) + np.eye(m, k), np.triu(packed[:k])
    e = e[rows] + (n + 2) * u * (np.abs(lower) @ np.abs(upper))
    left, right = np.abs(np.linalg.inv(lower[:k])), np.abs(np.linalg.inv(upper[:, :k]))
    moved = left @ e[:k, :k] @ right
    to_lower, to_upper = np.abs(lower[:k]) @ np.tril(moved, -1), np.triu(moved) @ np.abs(upper[:, :k])
    found = np.zeros_like(a)
    found[:k, :k] = np.tril(to_lower, -1) + np.triu(to_upper)
    found[k:] = (e[k:, :k] + np.abs(lower[k:]) @ to_upper) @ right if m > k else 0
    found[:, k:] = left @ (e[:k, k:] + to_lower @ np.abs(upper[:, k:])) if n > k else found[:, k:]
    found = _grown(found, _norm(moved))
    doubtful = np.any(np.tril(np.abs(packed[:, :k]) + found[:, :k], -1) >= 1)
    found, unsure = (np.full_like(found, np.inf), np.inf) if doubtful else (found, 0.0)
    return found, np.full(m, unsure)


# -- by singular values: |∏(sᵢ + e) − ∏ sᵢ| (Ipsen and Rehman, SIAM J. Matrix Anal. Appl. 30, 2008) ---


def _spectrum(a: Array, e: Array, u: float) -> tuple[Array, float]:
    """Singular values, and how far they move."""
    if not np.all(np.isfinite(a)):
        return np.full(min(a.shape), np.inf), np.inf
    s = np.linalg.svd(a, compute_uv=False)
    size = float(s[0]) if len(s) else 0.0
    return s, _norm(e) + 8 * (sum(a.shape) + 2) * u * size


def _product_moved(s: Array, e: float) -> float:
    return float(np.prod(s + e) - np.prod(s))


@stacked()
def det_moved(args: Sequence[Array], errors: Sequence[Array], u: float) -> Array:
    """∏(sᵢ + e) − ∏ sᵢ."""
    s, e = _spectrum(args[0], errors[0], u)
    return np.asarray(_product_moved(s, e) + (len(s) + 2) * u * np.prod(s + e))


@stacked(2)
def slogdet_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Any:
    """Of log|det|, −Σ log(1 − e/sᵢ)."""
    s, e = _spectrum(args[0], errors[0], u)
    sure = bool(np.all(s > e))
    total = -np.sum(np.log1p(-e / s)) if sure else np.inf
    size = float(np.sum(np.abs(np.log(s)))) if sure else 0.0
    return np.asarray(0.0 if sure else 2.0), np.asarray(total + 4 * (len(s) + 2) * u * size)


@stacked()
def cofactor_moved(args: Sequence[Array], errors: Sequence[Array], u: float) -> Array:
    """n times what a product of the largest n − 1 singular values moves by."""
    s, e = _spectrum(args[0], errors[0], u)
    most = s[: max(len(s) - 1, 0)]
    size = float(np.prod(most + e))
    return np.full(args[0].shape, SLACK * len(s) * (_product_moved(most, e) + 4 * len(s) * u * size))


# -- orthogonal factors ------------------------------------------------------------------------------------------------


@stacked(2)
def qr_moved(args: Sequence[Array], errors: Sequence[Array], u: float, complete: bool, check: bool = True) -> Any:
    """Of X = E R⁻¹ and C = |Qᵀ| X: |Q| (C + Cᵀ) + X + |Q| C, and (C + Cᵀ) |R|."""
    (a,), (e,) = args, errors
    m, n = a.shape
    q, r = np.linalg.qr(a, mode="complete" if complete else "reduced")
    k = min(m, n)
    e = e + 8 * (m * k + 2) * u * np.linalg.norm(a, axis=0)
    right = np.abs(np.linalg.inv(r[:k, :k]))
    x = e[:, :k] @ right
    c = np.abs(q[:, :k].T) @ x
    both = c + c.T
    size = _norm(c)
    to_q = np.full_like(q, np.inf)
    to_q[:, :k] = _grown(np.abs(q[:, :k]) @ (both + c) + x, size)
    to_r = np.zeros_like(r)
    to_r[:k, :k] = both @ np.abs(r[:k, :k])
    to_r[:k, k:] = np.abs(q[:, :k].T) @ (e[:, k:] + to_q[:, :k] @ np.abs(r[:k, k:])) if n > k else 0
    return to_q, _grown(to_r, size)


def _inverse_gaps(x: Array, y: Array, e: float) -> Array:
    """1/|xᵢ − yⱼ|, infinite for what may be equal."""
    gaps = np.abs(x[:, None] - y[None, :])
    return np.where(gaps > 2 * e, 1 / np.where(gaps > 0, gaps, 1.0), np.inf)


@stacked(2)
def eigh_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Any:
    """‖E‖, and |V| (|Vᵀ| E |V| over the gaps)."""
    a = np.tril(args[0]) + np.tril(args[0], -1).T
    w, v = np.linalg.eigh(a)
    e = _symmetric(errors[0]) + 8 * (len(a) + 2) * u * (np.max(np.abs(w)) if len(w) else 0.0)
    size = _norm(e)
    gaps = _inverse_gaps(w, w, size)
    np.fill_diagonal(gaps, 0.0)
    turned = np.abs(v.T) @ e @ np.abs(v)
    return np.full_like(w, size), SLACK * (np.abs(v) @ np.where(turned > 0, turned * gaps, 0.0)) + 8 * len(a) * u


@stacked()
def eigvalsh_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Array:
    """‖E‖."""
    return np.asarray(eigh_moved(args, errors, u)[0])


@stacked()
def svdvals_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Array:
    """‖E‖."""
    s, e = _spectrum(args[0], errors[0], u)
    return np.full_like(s, e)


@stacked(3)
def svd_moved(args: Sequence[Array], errors: Sequence[Array], u: float, full: bool, check: bool = True) -> Any:
    """‖E‖, and ‖E‖ over the gap of each singular value to the others, and to 0 where the matrix is not square."""
    (a,), (e,) = args, errors
    m, n = a.shape
    s, size = _spectrum(a, e, u)
    gaps = _inverse_gaps(s, s, size)
    np.fill_diagonal(gaps, 0.0)
    widest = np.max(gaps, axis=0, initial=0.0)
    to_zero = np.where(s > 2 * size, 1 / np.where(s > 0, s, 1.0), np.inf) if m != n or full else np.zeros_like(s)
    of_one = SLACK * math.sqrt(max(m, n, 1)) * size * np.maximum(widest, to_zero)
    of_one = np.where(size > 0, of_one, 0.0) + 8 * (m + n) * u
    left = np.full((m, m if full else len(s)), np.inf)
    right = np.full((n if full else len(s), n), np.inf)
    left[:, : len(s)], right[: len(s)] = of_one, of_one[:, None]
    return left, np.full_like(s, size), right


# -- functions of matrices ---------------------------------------------------------------------------------------------


@stacked()
def _pinv_moved(args: Sequence[Array], errors: Sequence[Array], u: float, rtol: float) -> Array:
    """‖P‖² e as long as the rank is certain (Wedin 1973)."""
    (a,) = args
    s, e = _spectrum(a, errors[0], u)
    cut = rtol * (s[0] if len(s) else 0.0)
    kept, left = s[s > cut], s[s <= cut]
    certain = np.all(kept - e > cut) and np.all(left + e < max(cut, np.finfo(float).tiny)) if len(s) else True
    size = SLACK * 3 * e / kept[-1] ** 2 if len(kept) else 0.0
    return np.full((a.shape[1], a.shape[0]), size if certain or e == 0 else np.inf)


def pinv_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Any:
    """`_pinv_moved`, of each matrix with its tolerance."""
    a, rtol = args
    found = np.empty((*a.shape[:-2], a.shape[-1], a.shape[-2]))
    for index in np.ndindex(*a.shape[:-2]):
        found[index] = _pinv_moved([a[index]], [errors[0][index]], u, rtol=float(rtol[index]))
    return found


@stacked()
def expm_moved(args: Sequence[Array], errors: Sequence[Array], u: float) -> Array:
    """exp(|A| + E) − exp(|A|), for all coefficients of the series are positive."""
    (a,), (e,) = args, errors
    size = np.abs(a)
    n = len(a) + 2
    grown = expm_of_one(size + e + SLACK * n * u * size)
    return grown - expm_of_one(size) + 16 * SLACK * n * u * (grown + np.linalg.norm(grown))


@stacked()
def expm_slope_moved(args: Sequence[Array], errors: Sequence[Array], u: float) -> Array:
    """Likewise, in the upper right block of the exponential of [[A, E], [0, A]]."""
    (a, d), (ea, ed) = args, errors
    zero, n = np.zeros_like(a), len(a)
    wide, moved = np.block([[a, d], [zero, a]]), np.block([[ea, ed], [zero, ea]])
    return np.asarray(expm_moved([wide], [moved], u))[:n, n:]


@stacked()
def sqrtm_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Array:
    """‖E‖ over twice the least root (Higham, Functions of Matrices, theorem 6.2)."""
    a = np.tril(args[0]) + np.tril(args[0], -1).T
    w = np.linalg.eigvalsh(a)
    e = _norm(_symmetric(errors[0])) + 8 * (len(a) + 2) * u * np.max(np.abs(w), initial=0.0)
    least = np.min(w, initial=np.inf)
    return np.full_like(a, SLACK * e / math.sqrt(least) if least > 4 * e else np.inf)


@stacked()
def lyapunov_moved(args: Sequence[Array], errors: Sequence[Array], u: float, check: bool = True) -> Array:
    """(‖E_C‖ + 2 ‖E_X‖ ‖Y‖) over the least sum of two eigenvalues."""
    (x, c), (ex, ec) = args, errors
    w = np.linalg.eigvalsh(x)
    e = _norm(_symmetric(ex)) + 8 * (len(x) + 2) * u * np.max(np.abs(w), initial=0.0)
    least = 2 * np.min(w, initial=np.inf)
    size = _norm(c) / least if least > 0 else np.inf
    moved = _norm(ec) + 8 * (len(x) + 2) * u * _norm(c) + 2 * e * size
    return np.full_like(c, SLACK * moved / least if least > 4 * e else np.inf)
