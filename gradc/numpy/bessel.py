"""The modified Bessel function of the first kind and order 0, as NumPy has it for Kaiser's window.

Enters: arrays.  Leaves: an elementwise node.
"""

from __future__ import annotations

import numpy as np

from gradc.node import as_node
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.bessel import bessel_i
from gradc.ops.elementwise import cast

__all__ = ["i0"]


@function("i0")
def i0(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind and order 0."""
    node = as_node(x)
    return bessel_i(0, node if node.aval.is_float else cast(node, np.float64))
