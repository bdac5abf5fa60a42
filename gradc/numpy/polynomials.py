"""Polynomials by their coefficients, the highest power first: values, derivatives, sums, products, quotients.

Enters: vectors of coefficients of known length.  Leaves: elementwise nodes and convolutions.
Invariant: a length never depends on values: what NumPy trims, leading zeros, stays.  Roots are complex in general, so
what needs them is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import finfo, promoted
from gradc.errors import ShapeError, TraceError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.linear import convolve
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.shapes import at_least, broadcast_to, flip, joined, reshaped, sliced
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full

__all__ = ["poly", "polyadd", "polyder", "polydiv", "polyfit", "polyint", "polymul", "polysub", "polyval", "vander"]


def _coefficients(name: str, p: ArrayLike, number: bool = False) -> Node:
    """A vector of coefficients; where NumPy takes a ``number`` for a polynomial of degree 0, so may it be."""
    if isinstance(p, np.poly1d):
        p = p.coeffs
    x = at_least(as_node(p), 1) if number else as_node(p)
    if x.ndim != 1:
        raise ShapeError(f"{here()}: {name}: coefficients must be a vector, got {describe(x)}")
    return x


@function("polyval")
def polyval(p: ArrayLike, x: ArrayLike) -> Array:
    """p[0]·xⁿ + … + p[n] by Horner's rule, in the shape of ``x``."""
    if isinstance(x, np.poly1d):
        raise TraceError(f"{here()}: polyval: x is a polynomial; compose it of polymul and polyadd")
    coefficients, point = _coefficients("polyval", p), as_node(x)
    y = full(point.shape, 0, point.dtype)
    for k in range(coefficients.size):
        y = y * point + coefficients[k]
    return y


@function("polyder")
def polyder(p: ArrayLike, m: int = 1) -> Array:
    """The coefficients of the ``m``-th derivative."""
    x, order = _coefficients("polyder", p), static_int(m, "the order of a derivative")
    if order < 0:
        raise ValueError(f"{here()}: polyder: the order must not be negative, got {order}")
    for _ in range(order):
        x = sliced(x, 0, range(max(x.size - 1, 0))) * np.arange(x.size - 1, 0, -1)
    return x


@function("polyint")
def polyint(p: ArrayLike, m: int = 1, k: ArrayLike = None) -> Array:
    """The coefficients of the ``m``-th antiderivative, with the constants ``k`` (one, or one a step), by default 0."""
    x, order = _coefficients("polyint", p), static_int(m, "the order of an antiderivative")
    if order < 0:
        raise ValueError(f"{here()}: polyint: the order must not be negative, got {order}")
    constants = at_least(as_node(0.0 if k is None else k), 1)
    if constants.size == 1 and order > 1:
        constants = broadcast_to(constants, (order,))
    if constants.ndim != 1 or constants.size < order:
        raise ShapeError(f"{here()}: polyint: {order} constants are needed, got {describe(constants)}")
    for step in range(order):
        x = x / np.arange(x.size, 0, -1)
        x = FUNCTIONS["concatenate"]([x, cast(reshaped(constants[step], (1,)), x.dtype)])
    return x


@function("polyadd")
def polyadd(a1: ArrayLike, a2: ArrayLike) -> Array:
    """The coefficients of the sum, as many as the longer one has."""
    x, y = _of_one_length(a1, a2)
    return x + y


@function("polysub")
def polysub(a1: ArrayLike, a2: ArrayLike) -> Array:
    """The coefficients of the difference, as many as the longer one has."""
    x, y = _of_one_length(a1, a2)
    return x - y


def _of_one_length(a1: ArrayLike, a2: ArrayLike) -> tuple[Node, Node]:
    x, y = _coefficients("polyadd", a1, number=True), _coefficients("polyadd", a2, number=True)
    n = max(x.size, y.size)
    x, y = (joined([full((n - v.size,), 0, v.dtype), v], 0) if v.size < n else v for v in (x, y))
    return x, y


@function("polymul")
def polymul(a1: ArrayLike, a2: ArrayLike) -> Array:
    """The coefficients of the product; leading zeros stay."""
    return convolve(_coefficients("polymul", a1, number=True), _coefficients("polymul", a2, number=True))


@function("polydiv")
def polydiv(u: ArrayLike, v: ArrayLike) -> tuple[Array, Array]:
    """(quotient, remainder) of u/v; the remainder has the length of v less one (at least 1), with its leading zeros.

    v[0] must not be 0.
    """
    over, under = (_coefficients("polydiv", p, number=True) + 0.0 for p in (u, v))
    dtype = FUNCTIONS["result_type"](over, under)
    rest, divisor = cast(over, dtype), cast(under, dtype)
    steps, scale, parts = over.size - under.size + 1, 1.0 / divisor[0], []
    for _ in range(steps):
        part = scale * rest[0]
        parts.append(reshaped(part, (1,)))
        taken = sliced(rest, 0, range(1, divisor.size)) - part * sliced(divisor, 0, range(1, divisor.size))
        rest = FUNCTIONS["concatenate"]([taken, sliced(rest, 0, range(divisor.size, rest.size))])
    quotient = FUNCTIONS["concatenate"](parts) if parts else full((1,), 0, dtype)
    return quotient, rest if rest.size else full((1,), 0, dtype)


@function("polyfit")
def polyfit(
    x: ArrayLike, y: ArrayLike, deg: int, rcond: Any = None, full: Any = False, w: ArrayLike = None, cov: Any = False
) -> Any:
    """The coefficients of the polynomial of degree ``deg`` with the least squares of distances at points (x, y).

    ``y`` may be a matrix, of whose columns each has its own; ``w`` weighs the distances.  With ``full`` also the sum
    of squares, rank, singular values and ``rcond``; with ``cov`` the covariances of the coefficients ("unscaled": as
    if the weights were those of known variances).
    """
    points, values, count = as_node(x) + 0.0, as_node(y) + 0.0, static_int(deg, "deg") + 1
    if count < 1 or points.ndim != 1 or not points.size:
        given = f"{describe(points)}, {deg!r}"
        raise ShapeError(f"{here()}: polyfit needs a degree >= 0 and a vector of points, got {given}")
    if values.ndim not in (1, 2) or values.shape[0] != points.size:
        raise ShapeError(f"{here()}: polyfit: {describe(values)} does not fit {points.size} points")
    least = points.size * float(finfo(points.dtype).eps) if rcond is None else rcond
    table = vander(points, count)
    if w is not None:
        weights = as_node(w) + 0.0
        if weights.shape != points.shape:
            raise ShapeError(f"{here()}: polyfit: weights of shape {weights.shape} for {points.size} points")
        table = table * reshaped(weights, (points.size, 1))
        values = values * reshaped(weights, (points.size, *(1,) * (values.ndim - 1)))
    scale = FUNCTIONS["sqrt"](FUNCTIONS["sum"](table * table, 0))
    scaled = table / scale
    found, rest, rank, singular = FUNCTIONS["linalg.lstsq"](scaled, values, least)
    found = found / reshaped(scale, (count, *(1,) * (values.ndim - 1)))
    if full:
        return found, rest, rank, singular, least
    if not cov:
        return found
    spread = FUNCTIONS["linalg.inv"](FUNCTIONS["matmul"](FUNCTIONS["matrix_transpose"](scaled), scaled))
    spread = spread / FUNCTIONS["outer"](scale, scale)
    if isinstance(cov, str) and cov == "unscaled":
        return found, spread if values.ndim == 1 else spread[:, :, None]
    if points.size <= count:
        raise ValueError(f"{here()}: polyfit: {points.size} points are too few to scale the covariances of {count}")
    misfit = FUNCTIONS["matmul"](table, found) - values
    factor = FUNCTIONS["sum"](misfit * misfit, 0) / (points.size - count)
    return found, spread * factor if values.ndim == 1 else spread[:, :, None] * factor


@function("poly")
def poly(seq_of_zeros: ArrayLike) -> Array:
    """The coefficients of the polynomial with the given roots and leading coefficient 1."""
    roots = at_least(as_node(seq_of_zeros), 1)
    if roots.ndim != 1:
        raise TraceError(
            f"{here()}: poly: the characteristic polynomial of {describe(roots)} needs its eigenvalues, which are "
            "complex in general.\n  Of a symmetric matrix write  np.poly(np.linalg.eigvalsh(a))."
        )
    roots = cast(roots, np.float32 if roots.dtype == np.float32 else np.float64)
    if not roots.size:
        return as_node(np.float64(1.0))
    found = full((1,), 1, roots.dtype)
    for k in range(roots.size):
        found = convolve(found, joined([full((1,), 1, roots.dtype), -sliced(roots, 0, range(k, k + 1))], 0))
    return found


@function("vander")
def vander(x: ArrayLike, N: Any = None, increasing: Any = False) -> Array:
    """Row i holds the powers of x[i], from ``N`` − 1 (by default the length of x, less one) down to 0, or up to it."""
    points = as_node(x)
    if points.ndim != 1:
        raise ShapeError(f"{here()}: vander takes a vector, got {describe(points)}")
    count = points.size if N is None else static_int(N, "N")
    if count < 0:
        raise ShapeError(f"{here()}: vander: N must not be negative, got {count}")
    points = cast(points, promoted(points.dtype, np.dtype(np.int64)))
    n, dtype = points.size, points.dtype
    if count < 2:
        return full((n, count), 1, dtype)
    column = reshaped(points, (n, 1))
    factors = joined([full((n, 1), 1, dtype), broadcast_to(column, (n, count - 1))], 1)
    rising = FUNCTIONS["cumprod"](factors, 1)
    return rising if increasing else flip(rising, 1)
