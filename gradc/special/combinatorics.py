"""SciPy's functions that count, and others of Γ and ζ that are written in other ops.

Enters: operands that broadcast; integers are taken as float64.  Leaves: an array of floats.  Invariant: counts of whole
numbers below 2⁵⁰ are whole numbers.
"""

from __future__ import annotations

import math
from typing import Any

from gradc.node import FUNCTIONS, OPS, Node, as_node, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import apply
from gradc.special.entropies import pair, where

__all__ = ["comb", "factorial", "factorial2", "gammasgn", "multigammaln", "perm", "zeta"]


@function("gammasgn", singular="0, and NaN at negative integers")
def gammasgn(x: ArrayLike) -> Array:
    """The sign of Γ(x): that of the zero at ±0, NaN at negative integers and at −∞."""
    z = inexact(as_node(x))
    low = apply(OPS["floor"], z)
    half = 0.5 * low
    sign = where(half == apply(OPS["floor"], half), 1.0, -1.0)
    left = where(low == z, math.nan, sign)
    found = where(z > 0, 1.0, where(z < 0, left, where(z == 0, apply(OPS["sign"], 1 / z), math.nan)))
    return OPS["stop_gradient"].make((_of_dtype(found, z),))


def _of_dtype(x: Node, like: Node) -> Node:
    found: Node = FUNCTIONS["astype"](x, like.dtype) if x.dtype != like.dtype else x
    return found


@function("special.multigammaln")
def multigammaln(a: ArrayLike, d: int) -> Array:
    """The logarithm of the multivariate Γ of static dimension d: ¼d(d − 1)·log π + Σ log Γ(a − j/2) over j < d; NaN for
    a <= (d − 1)/2."""
    dimension = static_int(d, "multigammaln's d")
    if dimension < 1:
        raise ValueError(f"{here()}: multigammaln: d must be >= 1, got {d}")
    z = inexact(as_node(a))
    inside = where(z > 0.5 * (dimension - 1), z, math.nan)
    total = apply(OPS["lgamma"], inside)
    for j in range(1, dimension):
        total = total + apply(OPS["lgamma"], inside - 0.5 * j)
    return total + 0.25 * dimension * (dimension - 1) * math.log(math.pi)


def _refuse_exact(name: str, exact: Any) -> None:
    if exact:
        raise ValueError(
            f"{here()}: {name}(exact=True) counts with Python's integers of any size, which no array holds.\n"
            f"  Leave it out: floats are exact below 2**50; or call scipy.special.{name} outside of the trace."
        )


@function("special.comb")
def comb(N: ArrayLike, k: ArrayLike, *, exact: bool = False, repetition: bool = False) -> Array:
    """In how many ways k things are taken out of N, as floats: 0 for k > N, k < 0 or N < 0.

    With ``repetition`` each may be taken again."""
    _refuse_exact("comb", exact)
    n, m = pair(N, k)
    if repetition:
        counted = where((n == 0) & (m == 0), 1.0, apply(OPS["binom"], n + m - 1, m))
        return where((m >= 0) & (n >= 0) & ((n > 0) | (m == 0)), counted, _unless_nan(n, m))
    inside = (m <= n) & (n >= 0) & (m >= 0)
    return where(inside, apply(OPS["binom"], where(inside, n, 1.0), where(inside, m, 1.0)), _unless_nan(n, m))


def _unless_nan(*operands: Node) -> Node:
    """0, and NaN where an operand is."""
    found: Node = 0.0 * operands[0]
    for x in operands:
        found = where(x != x, math.nan, where(found != found, math.nan, 0.0))
    return found


@function("special.perm")
def perm(N: ArrayLike, k: ArrayLike, exact: bool = False) -> Array:
    """In how many orders k things are taken out of N, as floats: N·(N − 1)·…·(N − k + 1), or 0 as in `comb`."""
    _refuse_exact("perm", exact)
    n, m = pair(N, k)
    inside = (m <= n) & (n >= 0) & (m >= 0)
    low, length = where(inside, n - m + 1, 1.0), where(inside, m, 1.0)
    return where(inside, apply(OPS["poch"], low, length), _unless_nan(n, m))


@function("special.factorial")
def factorial(n: ArrayLike, exact: bool = False) -> Array:
    """n! = Γ(n + 1), and 0 for n < 0."""
    _refuse_exact("factorial", exact)
    z = inexact(as_node(n))
    return where(z < 0, 0.0, apply(OPS["gamma"], where(z < 0, 0.0, z) + 1))


@function("special.factorial2")
def factorial2(n: ArrayLike, exact: bool = False) -> Array:
    """n‼ = n·(n − 2)·(n − 4)⋯ of whole numbers, 1 for 0 and 0 below.

    It is 2^(n/2)·Γ(n/2 + 1), times √(2/π) for odd n.
    """
    _refuse_exact("factorial2", exact)
    z = inexact(as_node(n))
    inside = where(z >= 0, z, 0.0)
    half = 0.5 * inside
    odd = apply(OPS["floor"], half) != half
    found = apply(OPS["gamma"], half + 1) * apply(OPS["exp2"], half) * where(odd, math.sqrt(2 / math.pi), 1.0)
    whole = where(found < 2.0**45, apply(OPS["rint"], found), found)
    counted = where(inside == apply(OPS["floor"], inside), _same_slope(whole, found), found)
    return where(z >= 0, counted, where(z < 0, 0.0, z))


def _same_slope(value: Node, smooth: Node) -> Node:
    """``value`` with the derivatives of ``smooth``, from which it differs by rounding alone; both may be infinite."""
    return smooth + OPS["stop_gradient"].make((where(value == smooth, 0.0, value - smooth),))


@function("special.zeta")
def zeta(x: ArrayLike, q: ArrayLike = None) -> Array:
    """Riemann's ζ(x), or Hurwitz' ζ(x, q) = Σ (k + q)⁻ˣ over k >= 0 for x > 1."""
    if q is None:
        return apply(OPS["riemann_zeta"], inexact(as_node(x)))
    s, place = pair(x, q)
    return apply(OPS["hurwitz_zeta"], s, place)
