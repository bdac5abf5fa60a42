"""SciPy's functions that belong to a family with a static order: its members, and orders given as numbers.

Enters: operands; integers are taken as float64.  Leaves: an array of the operand's dtype.  Invariant: an order is a
number known while tracing; a traced one is refused by name, for nothing is known of the derivative by it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from gradc.errors import TraceError
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.bessel import i0
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.bessel import LARGEST_ORDER, bessel_i, bessel_j, bessel_k, bessel_y
from gradc.ops.elementwise import apply
from gradc.ops.integrals import LARGEST_EXPN, expn_node

__all__ = [
    "dawsn", "ellipe", "ellipk", "ellipkm1", "erfcx", "expn", "exprel", "fresnel", "i0", "i0e", "i1", "i1e", "iv",
    "ive", "j0", "j1", "jn", "jv", "k0", "k0e", "k1", "k1e", "kn", "kv", "kve", "shichi", "sici", "y0", "y1",
    "yn", "yv",
]  # fmt: skip


def _order(value: Any, name: str) -> float:
    """A static order as a number."""
    if isinstance(value, Node):
        raise TraceError(
            f"{here()}: {name}: the order is {describe(value)}, a traced value; {name} takes orders that are numbers "
            "while tracing, and has no derivative by them.\n"
            "  Pass the order as a Python number, or add the argument to static=."
        )
    try:
        return float(operator.index(value)) if not isinstance(value, float) else value
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except TypeError:
        if isinstance(value, np.floating) or (isinstance(value, np.ndarray) and value.ndim == 0):
            return float(value)
        raise TypeError(f"{here()}: {name}: the order must be a number, got {value!r:.80}") from None


@function("erfcx")
def erfcx(x: ArrayLike) -> Array:
    """e^(x²)·erfc(x), which falls like 1/x where erfc underflows."""
    return apply(OPS["erfcx"], as_node(x), n=0)


@function("dawsn")
def dawsn(x: ArrayLike) -> Array:
    """Dawson's integral, e^(−x²)·∫₀ˣ e^(t²) dt."""
    return apply(OPS["dawsn"], as_node(x), n=0)


@function("expn")
def expn(n: int, x: ArrayLike) -> Array:
    """The exponential integral Eₙ(x) = ∫ e⁻ˣᵗ/tⁿ dt from 1 to ∞; ``n`` is a static integer from 0 to 2⁵³."""
    order = _order(n, "expn")
    if order > LARGEST_EXPN:
        raise ValueError(f"{here()}: expn: n goes up to 2**53, where floats begin to skip whole numbers; got {order:g}")
    if not (order >= 0 and order % 1 == 0):
        raise ValueError(f"{here()}: expn: n must be a whole number >= 0, got {n}")
    return expn_node(int(order), as_node(x))


@function("sici")
def sici(x: ArrayLike) -> tuple[Array, Array]:
    """The sine and the cosine integral, Si(x) and Ci(x); Ci of a negative number is that of its size."""
    node = as_node(x)
    return apply(OPS["sine_integral"], node), apply(OPS["cosine_integral"], node)


@function("shichi")
def shichi(x: ArrayLike) -> tuple[Array, Array]:
    """The hyperbolic sine and cosine integral, Shi(x) and Chi(x); Chi of a negative number is that of its size."""
    node = as_node(x)
    return apply(OPS["hyperbolic_sine_integral"], node), apply(OPS["hyperbolic_cosine_integral"], node)


@function("fresnel")
def fresnel(z: ArrayLike) -> tuple[Array, Array]:
    """Fresnel's integrals S(z) and C(z), of sin(πt²/2) and cos(πt²/2) from 0 to a real z."""
    node = as_node(z)
    return apply(OPS["fresnels"], node), apply(OPS["fresnelc"], node)


@function("exprel")
def exprel(x: ArrayLike) -> Array:
    """(eˣ − 1)/x, 1 at 0; smooth there, with all derivatives."""
    return apply(OPS["exprel"], as_node(x), n=0)


# -- Bessel functions --------------------------------------------------------------------------------------------------


def _bessel_order(v: Any, name: str) -> float:
    order = _order(v, name)
    if not abs(order) <= LARGEST_ORDER:
        raise ValueError(f"{here()}: {name}: orders go from −{LARGEST_ORDER:g} to {LARGEST_ORDER:g}, got {order:g}")
    return order


def _whole_order(n: Any, name: str) -> float:
    order = _bessel_order(n, name)
    if order != int(order):
        raise ValueError(f"{here()}: {name}: n must be a whole number, got {n}; {name[0]}v takes any")
    return order


@function("j0")
def j0(x: ArrayLike) -> Array:
    """Bessel's function of the first kind, of order 0."""
    return bessel_j(0, as_node(x))


@function("j1")
def j1(x: ArrayLike) -> Array:
    """Bessel's function of the first kind, of order 1."""
    return bessel_j(1, as_node(x))


@function("jv", "jn")
def jv(v: float, x: ArrayLike) -> Array:
    """Bessel's function of the first kind, of the static real order ``v``; `jn` is the same."""
    return bessel_j(_bessel_order(v, "jv"), as_node(x))


jn = jv


@function("y0")
def y0(x: ArrayLike) -> Array:
    """Bessel's function of the second kind, of order 0."""
    return bessel_y(0, as_node(x))


@function("y1")
def y1(x: ArrayLike) -> Array:
    """Bessel's function of the second kind, of order 1."""
    return bessel_y(1, as_node(x))


@function("yn")
def yn(n: int, x: ArrayLike) -> Array:
    """Bessel's function of the second kind, of the static whole order ``n``."""
    return bessel_y(_whole_order(n, "yn"), as_node(x))


@function("yv")
def yv(v: float, x: ArrayLike) -> Array:
    """Bessel's function of the second kind, of the static real order ``v``."""
    return bessel_y(_bessel_order(v, "yv"), as_node(x))


@function("i0e")
def i0e(x: ArrayLike) -> Array:
    """e^−|x|·I₀(x)."""
    return bessel_i(0, as_node(x), scaled=True)


@function("i1")
def i1(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind and order 1."""
    return bessel_i(1, as_node(x))


@function("i1e")
def i1e(x: ArrayLike) -> Array:
    """e^−|x|·I₁(x)."""
    return bessel_i(1, as_node(x), scaled=True)


@function("iv")
def iv(v: float, x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind, of the static real order ``v``."""
    return bessel_i(_bessel_order(v, "iv"), as_node(x))


@function("ive")
def ive(v: float, x: ArrayLike) -> Array:
    """e^−|x|·Iᵥ(x), of the static real order ``v``."""
    return bessel_i(_bessel_order(v, "ive"), as_node(x), scaled=True)


@function("k0")
def k0(x: ArrayLike) -> Array:
    """The modified Bessel function of the second kind and order 0."""
    return bessel_k(0, as_node(x))


@function("k0e")
def k0e(x: ArrayLike) -> Array:
    """eˣ·K₀(x)."""
    return bessel_k(0, as_node(x), scaled=True)


@function("k1")
def k1(x: ArrayLike) -> Array:
    """The modified Bessel function of the second kind and order 1."""
    return bessel_k(1, as_node(x))


@function("k1e")
def k1e(x: ArrayLike) -> Array:
    """eˣ·K₁(x)."""
    return bessel_k(1, as_node(x), scaled=True)


@function("kn")
def kn(n: int, x: ArrayLike) -> Array:
    """The modified Bessel function of the second kind, of the static whole order ``n``."""
    return bessel_k(_whole_order(n, "kn"), as_node(x))


@function("kv")
def kv(v: float, x: ArrayLike) -> Array:
    """The modified Bessel function of the second kind, of the static real order ``v``."""
    return bessel_k(_bessel_order(v, "kv"), as_node(x))


@function("kve")
def kve(v: float, x: ArrayLike) -> Array:
    """eˣ·Kᵥ(x), of the static real order ``v``."""
    return bessel_k(_bessel_order(v, "kve"), as_node(x), scaled=True)


# -- complete elliptic integrals ---------------------------------------------------------------------------------------


@function("ellipk")
def ellipk(m: ArrayLike) -> Array:
    """The complete elliptic integral of the first kind K(m), of the parameter m = k²; NaN for m > 1."""
    return apply(OPS["elliptic_k"], as_node(m), n=0)


@function("ellipkm1")
def ellipkm1(p: ArrayLike) -> Array:
    """K(1 − p), right where m = 1 − p is near 1."""
    return apply(OPS["elliptic_km1"], as_node(p), n=0)


@function("ellipe")
def ellipe(m: ArrayLike) -> Array:
    """The complete elliptic integral of the second kind E(m), of the parameter m = k²; NaN for m > 1."""
    return apply(OPS["elliptic_e"], as_node(m), n=0)
