"""SciPy's functions that belong to a family with a static order: its members, and orders given as numbers.

Enters: operands; integers are taken as float64.  Leaves: an array of the operand's dtype.  Invariant: an order is a
number known while tracing; a traced one is refused by name, for nothing is known of the derivative by it.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from gradc.errors import TraceError
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.elementwise import apply
from gradc.ops.integrals import expn_node

__all__ = ["dawsn", "erfcx", "expn", "exprel", "shichi", "sici"]


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
    """The exponential integral Eₙ(x) = ∫ e⁻ˣᵗ/tⁿ dt from 1 to ∞; ``n`` is a static integer >= 0."""
    order = _order(n, "expn")
    if order < 0 or order != int(order):
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


@function("exprel")
def exprel(x: ArrayLike) -> Array:
    """(eˣ − 1)/x, 1 at 0; smooth there, with all derivatives."""
    return apply(OPS["exprel"], as_node(x), n=0)
