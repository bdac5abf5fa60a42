"""The modified Bessel function of the first kind and order 0, as NumPy has it for Kaiser's window.

Enters: arrays.  Leaves: an elementwise node.
"""

from __future__ import annotations

from gradc.node import as_node
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.bessel import bessel_i

__all__ = ["i0"]


@function("i0")
def i0(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind and order 0."""
    return bessel_i(0, as_node(x))
