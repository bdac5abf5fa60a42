"""A random order of any number of examples that takes no memory: the example at a place is computed.

Enters: how many examples there are, a key, the number of a pass.  Leaves: for places in the order, the examples that
stand there.  Invariant: the same arguments give the same order on every machine and with every version of NumPy, and a
place is reached without those before it.  Start reading at `Order`.

An order is a Feistel network over the rectangle of a × b ≥ n cells with a, b near √n (Black & Rogaway 2002, "Ciphers
with arbitrary finite domains"); its round function is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).  A cell
that holds no example is sent on until it is one that does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import here

Places = np.ndarray[Any, np.dtype[np.int64]]
_WORD = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_ROUNDS = 12
#: how many neighbouring places are computed at once: then a place costs less than a microsecond
_TOGETHER = 4096


def words_of(key: Any, who: str) -> int:
    """The 64 bits of a key as `gradc.random.key` makes it, or of a whole number that stands for one."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key) & _WORD
    array = np.asarray(key)
    if array.dtype != np.uint32 or array.shape != (2,):
        raise TypeError(
            f"{here()}: {who}: key is {type(key).__name__} {key!r:.40}; give gc.random.key(seed), or a whole number"
        )
    return int(array[0]) << 32 | int(array[1])


def mixed(word: int) -> int:
    """The finaliser of SplitMix64."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


class Order:
    """A permutation of 0 … count − 1, chosen by 64 bits of a key and by the number of the pass."""

    def __init__(self, count: int, key: int, epoch: int = 0):
        self.count = count
        self.width = max(1, math.isqrt(max(count - 1, 0)) + 1)
        self.height = -(-count // self.width)
        self._known: tuple[int, Places] = 0, np.zeros(0, np.int64)
        seed = mixed(mixed(key + _GAMMA & _WORD) + (epoch + 1) * _GAMMA & _WORD)
        self._keys = [mixed(seed + (r + 1) * _GAMMA & _WORD) for r in range(_ROUNDS)]

    def __call__(self, places: Any) -> Places:
        """The examples at ``places``, int64."""
        found = self._sent(np.asarray(places).astype(np.uint64))
        while (outside := np.flatnonzero(found >= self.count)).size:
            found[outside] = self._sent(found[outside])
        return found.astype(np.int64)

    def between(self, begin: int, end: int) -> Places:
        """The examples at the places from ``begin`` to ``end``, of which neighbours are computed together."""
        first, known = self._known
        if not (first <= begin and end <= first + len(known)):
            first, stop = begin, min(max(end, begin + _TOGETHER), self.count)
            known = self(np.arange(first, stop))
            self._known = first, known
        return known[begin - first : end - first]

    def all(self) -> Places:
        """The whole order."""
        return self(np.arange(self.count))

    def _sent(self, cells: Any) -> Any:
        """Where the network sends cells of the rectangle."""
        left, right = np.divmod(cells, np.uint64(self.width))
        for number, key in enumerate(self._keys):
            if number % 2 == 0:
                left = (left + _hashed(right, key)) % np.uint64(self.height)
            else:
                right = (right + _hashed(left, key)) % np.uint64(self.width)
        return left * np.uint64(self.width) + right


def _hashed(values: Any, key: int) -> Any:
    """The upper half of SplitMix64's finaliser of values under a key: below 2³², so that sums do not overflow."""
    x = values * np.uint64(_GAMMA) + np.uint64(key)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x >> np.uint64(32)


__all__ = ["Order", "words_of"]
