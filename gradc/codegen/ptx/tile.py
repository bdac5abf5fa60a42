"""The shape of a matrix product on the device: how much of it a block and a thread take.

Enters: extents and a dtype.  Leaves: a `Tile`.  Start reading at `tile_for`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradc.codegen.ptx.step import blocks

#: Blocks that run at the same time, one on each multiprocessor: what the choice assumes of a device.
MULTIPROCESSORS = 100
#: Bytes that one access to shared memory moves for a thread.
ACCESS_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """A block computes ``bm`` x ``bn`` elements, ``bk`` products at a time, a thread ``tm`` x ``tn`` of them."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    rate: float  #: how near to the peak such a block comes, roughly

    @property
    def threads(self) -> int:
        return (self.bm // self.tm) * (self.bn // self.tn)


#: itemsize -> tiles; registers and shared memory of all of them fit every device since sm_75.
TILES: dict[int, tuple[Tile, ...]] = {
    4: (
        Tile(128, 128, 8, 8, 8, 1.0), Tile(64, 64, 8, 4, 4, 0.7), Tile(32, 32, 16, 4, 4, 0.45),
        Tile(64, 16, 16, 4, 4, 0.4), Tile(16, 64, 16, 4, 4, 0.4),
    ),
    8: (
        Tile(64, 64, 8, 4, 4, 1.0), Tile(32, 32, 16, 4, 4, 0.7), Tile(64, 16, 16, 4, 4, 0.6),
        Tile(16, 64, 16, 4, 4, 0.6),
    ),
}  # fmt: skip


def access_width(dtype: str) -> int:
    """Elements that a thread reads from shared memory at once."""
    return min(4, ACCESS_BYTES // np.dtype(dtype).itemsize)


def tile_for(m: int, n: int, batch: int, dtype: str) -> Tile:
    """The tile with which a device of `MULTIPROCESSORS` is done first."""

    def cost(t: Tile) -> float:
        rounds = blocks(blocks(m, t.bm) * blocks(n, t.bn) * batch, MULTIPROCESSORS)
        return rounds * t.bm * t.bn / t.rate

    return min(TILES[8 if np.dtype(dtype).itemsize == 8 else 4], key=cost)
