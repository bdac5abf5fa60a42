"""How the tiles of a product's operands are cut out of memory, and how they lie in shared memory.

Enters: a side of a `Problem`, and the shape of a block's tile.  Leaves: an `Operand`, a plain value.
Start reading at `operand_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradc.codegen.ptx.problem import Side, Walk, size

#: Bytes that one access to memory moves for a thread.
ACCESS_BYTES = 16


@dataclass(frozen=True, slots=True)
class Shelf:
    """A tile of ``width`` elements along an operand's own axis and ``depth`` along the summed one, in shared memory.

    ``by_own``: neighbours along its own axis lie side by side, in a row for each depth; else the other way round.
    Rows start ``pitch`` elements apart.
    """

    width: int
    depth: int
    by_own: bool
    pitch: int

    @property
    def elements(self) -> int:
        return self.pitch * (self.depth if self.by_own else self.width)


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand: where it is, its own axis (rows or columns) and the summed one.

    ``vector`` neighbours are copied at once, along the axis by which the tile lies.
    """

    side: Side
    own: Walk
    deep: Walk
    shelf: Shelf
    vector: int

    @property
    def extent(self) -> int:
        return size(self.own)

    @property
    def own_is_near(self) -> bool:
        return own_is_near(self.own, self.deep)


def operand_of(side: Side, own: Walk, deep: Walk, shelf: Shelf, most: int) -> Operand:
    """``side`` with up to ``most`` elements copied at once: neighbours both in memory and in the tile, and aligned."""
    near = own if shelf.by_own else deep
    vector = most
    while vector > 1 and not in_rows(side, near, vector):
        vector //= 2
    return Operand(side, own, deep, shelf, vector)


def own_is_near(own: Walk, deep: Walk) -> bool:
    """Whether neighbours along an operand's own axis lie nearer than neighbours along the summed one."""
    one, other = (abs(walk[-1][1]) if walk else 0 for walk in (own, deep))
    return one <= other or other == 0


def access_width(dtype: str) -> int:
    """Elements that one access of a thread moves."""
    return ACCESS_BYTES // np.dtype(dtype).itemsize


def in_rows(side: Side, walk: Walk, width: int) -> bool:
    """Whether runs of ``width`` elements along ``walk`` are neighbours that start at a multiple of ``width``."""
    if not walk or walk[-1][1] != 1 or walk[-1][0] % width:
        return False
    others = [s for w in (side.batch, side.first, side.second) if w is not walk for _, s in w]
    others += [s for _, s in walk[:-1]]
    return side.offset % width == 0 and all(s % width == 0 for s in others)
