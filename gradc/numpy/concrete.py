"""Arrays that are known while a function is traced, and can do what traced arrays can.

Enters: NumPy arrays that the functions of `gradc.numpy` compute inside a trace from what is known there.  Leaves:
`ConcreteArray`.  Invariant: it is a NumPy array in every respect, so shapes, loops and branches may depend on it; what
only traced values can do (``.at``, a traced index) gives a traced value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import DTypeLike, converted
from gradc.errors import TraceError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, tracing


class ConcreteArray(np.ndarray[Any, Any]):
    """What ``gradc.numpy.zeros(3)`` is inside a traced function: a NumPy array with the methods of a traced one."""

    @property
    def at(self) -> Any:
        """Functional updates, as of a traced array: ``z.at[i].set(v)``, ``.add``, ``.multiply`` …"""
        return FUNCTIONS["at"](as_node(self))

    def astype(self, dtype: DTypeLike, *args: Any, **kwargs: Any) -> Any:
        """As `ndarray.astype`; a float beyond the integers of ``dtype`` becomes the nearest of them, NaN 0."""
        if np.dtype(dtype).kind in "iu":
            return converted(self, np.dtype(dtype)).view(ConcreteArray)
        return super().astype(dtype, *args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        if _holds_node(index):
            return FUNCTIONS["getitem"](as_node(self), index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Node) or _holds_node(index):
            culprit = value if isinstance(value, Node) else index
            raise TraceError(
                f"{here()}: item assignment of {describe(culprit) if isinstance(culprit, Node) else 'a traced value'} "
                "to an array of numbers: traced values cannot be written into memory.\n"
                "  Write  z = z.at[index].set(value)  (or .add, .max, .min) and use the returned array."
            )
        super().__setitem__(index, value)


def _holds_node(index: Any) -> bool:
    return isinstance(index, Node) or (isinstance(index, (tuple, list)) and any(map(_holds_node, index)))


def known(result: Any) -> Any:
    """Arrays among ``result`` as `ConcreteArray` while a function is traced; NumPy's own outside."""
    if isinstance(result, (tuple, list)):
        return type(result)(map(known, result)) if tracing() and type(result) in (tuple, list) else result
    return result.view(ConcreteArray) if type(result) is np.ndarray and tracing() else result
