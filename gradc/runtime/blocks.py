"""A compiled step called with blocks of pointers, as a caller without Python does it: for measuring and for proving.

Enters: what `load` gives, and contiguous arrays.  Leaves: what the code wrote into the arrays, and its status word.
Invariant: nothing is checked here; whoever calls knows that the arrays fit.  Users' calls go through
`gradc.runtime.native`.  Start reading at `BlockCall`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from gradc.runtime.arena import aligned_bytes
from gradc.runtime.arrays import Array
from gradc.runtime.load import Loaded


def zeroed(size: int) -> Array:
    """``size`` bytes of scratch, each page touched once: fresh pages under a mask are slow."""
    block = aligned_bytes(size)
    block.fill(0)
    return block


class BlockCall:
    """``void step(ptr inputs, ptr outputs, ptr arena, ptr status, …)`` with its own arena.

    ``more`` are further pointer arguments, as arrays.
    """

    def __init__(self, loaded: Loaded, arena: Array, more: Sequence[Array] = ()):
        self.arena, self._more, self._owner = arena, tuple(more), loaded
        self._function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (4 + len(self._more)))(loaded.address)

    def __call__(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        """Run once; the status word."""
        status = ctypes.c_int64(0)
        more = [x.ctypes.data for x in self._more]
        self._function(_pointers(inputs), _pointers(outputs), self.arena.ctypes.data, ctypes.byref(status), *more)
        return status.value


def _pointers(arrays: Sequence[Any]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
