"""The bytes behind the buffers of one schedule or body: whose value lies where, and which elements have been written.

Enters: buffers, and which outputs lie on which inputs.  Leaves: `Memory`, which kernels change as they run.
Start reading at `Memory`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.schedule.kernel import Buffer, Place
from gradc.schedule.verify.places import Places

Mask = np.ndarray[Any, np.dtype[np.bool_]]
#: A region of memory that is nobody else's: the arena, or an argument with its number.
Region = tuple[Place, int]
NOBODY = -1


@dataclass(frozen=True)
class Extent:
    """Where a buffer lies: bytes ``start`` … ``end`` of a region."""

    region: Region
    start: int
    end: int

    def overlaps(self, other: Extent) -> bool:
        return self.region == other.region and self.start < other.end and other.start < self.end


class Written:
    """Which elements of a buffer hold a value: all, some, or none."""

    def __init__(self, size: int, full: bool = False):
        self.size, self.full = size, full
        self.mask: Mask | None = None

    def add(self, places: Places) -> None:
        if self.full:
            return
        if places.covers(self.size):
            self.full = True
            return
        if self.mask is None:
            self.mask = np.zeros(self.size, np.bool_)
        places.mark(self.mask)
        self.full = bool(self.mask.all())

    def holds(self, places: Places) -> bool:
        return self.full or (self.mask is not None and places.inside(self.mask))


def itemsize(dtype: str) -> int:
    """Bytes of an element; narrow floats have two."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class Memory:
    """Owners of bytes, and written elements of buffers, as far as the kernels have run."""

    def __init__(self, buffers: Sequence[Buffer], donated: Mapping[int, int], arena_bytes: int):
        self.buffers, self.arena_bytes = buffers, arena_bytes
        donor = {j: i for i, j in donated.items()}
        self.extents = [self._extent(b, donor) for b in buffers]
        self.written = {b.number: Written(b.size, b.place in (Place.INPUT, Place.HIDDEN)) for b in buffers}
        arena = [e for e in self.extents if e.region[0] is Place.ARENA]
        self._grain = math.gcd(64, *(e.start for e in arena))
        self._arena = np.full(-(-arena_bytes // self._grain), NOBODY, np.int32)
        self._owner: dict[Region, int] = {
            e.region: b.number
            for b, e in zip(buffers, self.extents, strict=True)
            if b.place in (Place.INPUT, Place.HIDDEN)
        }

    def _extent(self, b: Buffer, donor: Mapping[int, int]) -> Extent:
        size = b.size * itemsize(b.dtype)
        if b.place is Place.ARENA:
            return Extent((Place.ARENA, 0), b.at, b.at + size)
        if b.place is Place.OUTPUT and b.at in donor:
            return Extent((Place.INPUT, donor[b.at]), 0, size)
        return Extent((b.place, b.at), 0, size)

    def _cells(self, number: int) -> slice:
        e = self.extents[number]
        return slice(e.start // self._grain, -(-e.end // self._grain))

    def owners(self, number: int) -> set[int]:
        """Whose values lie in the bytes of a buffer."""
        region = self.extents[number].region
        if region[0] is Place.ARENA:
            return {int(n) for n in np.unique(self._arena[self._cells(number)])}
        return {self._owner.get(region, NOBODY)}

    def take(self, number: int) -> None:
        """The bytes of a buffer are its own from now on."""
        region = self.extents[number].region
        if region[0] is Place.ARENA:
            self._arena[self._cells(number)] = number
        else:
            self._owner[region] = number

    def overlapping(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """The pairs of buffers that share bytes."""
        found = []
        order = sorted(numbers, key=self._position)
        for k, one in enumerate(order):
            here = self.extents[one]
            for other in order[k + 1 :]:
                there = self.extents[other]
                if there.region != here.region or there.start >= here.end:
                    break
                if here.overlaps(there):
                    found.append((one, other))
        return found

    def _position(self, number: int) -> tuple[str, int, int]:
        e = self.extents[number]
        return e.region[0].value, e.region[1], e.start
