"""One node evaluated with every float in float64.

Enters: a node and values of its operands.  Leaves: its value by the NumPy meaning in its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.diff.widen import widen_array
from gradc.node import Node

Array = np.ndarray[Any, Any]


def evaluate_wide(node: Node, args: Sequence[Array]) -> Array:
    """The node's NumPy meaning with every float in float64; IEEE results instead of warnings."""
    with np.errstate(all="ignore"):
        return computed(node, args)


def computed(node: Node, args: Sequence[Array]) -> Any:
    """`evaluate_wide` where warnings are off already; of a node with several results a tuple of them."""
    if node.op.converts:
        return _meaning(node, args)
    value = node.op.numpy(*args, **node.attrs)
    if isinstance(value, tuple):
        return tuple(map(widen_array, value))
    if getattr(value, "dtype", None) != np.float64:
        value = widen_array(value)
    return value if value.shape == node.shape else value.reshape(node.shape)


def _meaning(node: Node, args: Sequence[Array]) -> Array:
    """A cast between floats changes nothing here; to integers it is the op's own."""
    return args[0].astype(np.float64) if node.aval.is_float else np.asarray(node.op.numpy(*args, **node.attrs))
