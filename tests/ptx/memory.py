"""The memory of the simulated device: one flat global space, shared memory per block, local memory per thread.

Enters: addresses of many threads at once.  Leaves: their bytes, as numbers of one width.
Invariant: every access lies inside one allocation and is aligned to its width, or `FaultError` is raised; a location
that two threads touch between barriers, one of them writing, is reported as a race.  Start reading at `Space`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Where generic addresses of shared and local memory begin; global allocations lie above.
SHARED_WINDOW, LOCAL_WINDOW, GLOBAL_BASE = 1 << 32, 2 << 32, 16 << 32
WINDOW = 1 << 32
#: No byte between two allocations is valid, so an index that is off by a little lands outside.
RED_ZONE = 256
POISON = 0xFF  # what was never written reads as NaN, or −1

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class FaultError(Exception):
    """The program did what a device would answer with an error, or what is undefined on it."""


class Space:
    """Bytes for each of ``owners`` (one for global memory, a block for shared, a thread for local memory)."""

    def __init__(self, name: str, owners: int, size: int, base: int = 0):
        self.name, self.base, self.size = name, base, -(-size // 16) * 16
        self.bytes = np.full(owners * self.size, POISON, np.uint8)
        self.readable = np.zeros(self.size, bool)
        self.writable = np.zeros(self.size, bool)
        self.readable[:size] = self.writable[:size] = base == 0
        self.owners = owners

    def indices(self, address: Array, width: int, owner: Array | int, write: bool, what: object) -> Array:
        """Element numbers (in units of ``width`` bytes) of checked addresses."""
        at = address.astype(np.int64) - self.base
        if not at.size:
            return at
        low, high = int(at.min()), int(at.max())
        if low < 0 or high + width > self.size:
            raise FaultError(
                f"{what}: address {self.base + (low if low < 0 else high):#x} is outside {self.name} memory"
            )
        if (at % width).any():
            raise FaultError(f"{what}: an address is not aligned to {width} bytes in {self.name} memory")
        valid = self.writable if write else self.readable
        if not (valid[at].all() and valid[at + (width - 1)].all()):
            bad = at[~(valid[at] & valid[at + (width - 1)])][0]
            raise FaultError(
                f"{what}: {'writes' if write else 'reads'} {self.base + bad:#x}, outside every {self.name} array"
            )
        return (at + np.multiply(owner, self.size)) // width

    def read(self, index: Array, width: int) -> Array:
        return self.bytes.view(UNSIGNED[width])[index]

    def write(self, index: Array, values: Array, width: int) -> None:
        self.bytes.view(UNSIGNED[width])[index] = values


class Races:
    """Who touched each element of a space: a thread, or a block.

    What was done under another ``stamp`` (before a barrier) is forgotten.  Elements are told by their first byte.
    """

    NOBODY, SEVERAL = -1, -2

    def __init__(self, name: str, size: int, who: str):
        self.name, self.who = name, who
        self.writer, self.reader = np.full((2, size), self.NOBODY, np.int64)
        self.written, self.was_read = np.full((2, size), -1, np.int64)

    def read(self, byte: Array, who: Array, stamp: Array, what: object) -> None:
        self._refuse(self.writer, self.written, byte, who, stamp, f"{what}: reads what {{}} writes")
        old = self.reader[byte]
        several = (self.was_read[byte] == stamp) & (old != self.NOBODY) & (old != who)
        self.reader[byte] = who
        several |= self.reader[byte] != who
        self.reader[byte[several]] = self.SEVERAL
        self.was_read[byte] = stamp

    def write(self, byte: Array, who: Array, stamp: Array, what: object) -> None:
        self._refuse(self.writer, self.written, byte, who, stamp, f"{what}: writes what {{}} writes")
        self._refuse(self.reader, self.was_read, byte, who, stamp, f"{what}: writes what {{}} reads")
        self.writer[byte], self.written[byte] = who, stamp
        if (self.writer[byte] != who).any():
            raise FaultError(f"{what}: race in {self.name} memory: two {self.who}s write one element at once")

    def _refuse(self, by: Array, when: Array, byte: Array, who: Array, stamp: Array, words: str) -> None:
        other = by[byte]
        clash = (when[byte] == stamp) & (other != self.NOBODY) & (other != who)
        if clash.any():
            k = int(np.argmax(clash))
            culprit = f"{self.who} {other[k]}" if other[k] >= 0 else f"other {self.who}s"
            raise FaultError(
                f"race in {self.name} memory: {self.who} {who[k]}: {words.format(culprit)} without a barrier"
            )


def view_as(values: Array, dtype: Any) -> Array:
    return values.view(dtype) if values.dtype.itemsize == np.dtype(dtype).itemsize else values.astype(dtype)
