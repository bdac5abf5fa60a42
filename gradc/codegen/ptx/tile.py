"""The shape of a matrix product on the device: how much of it a block and a thread take.

Enters: extents.  Leaves: a `Tile`.  Start reading at `choose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradc.codegen.ptx.step import blocks

#: Blocks that run at the same time, one on each multiprocessor: what the choice assumes of a device.
MULTIPROCESSORS = 100


@dataclass(frozen=True, slots=True)
class Tile:
    """A block computes ``bm`` x ``bn`` elements, ``bk`` products at a time; a thread, or a warp that works as one,
    ``tm`` x ``tn`` of them."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    rate: float  #: how near to the peak such a block comes, roughly


def choose(tiles: Sequence[Tile], m: int, n: int, batch: int) -> Tile:
    """The tile with which a device of `MULTIPROCESSORS` is done first."""

    def cost(t: Tile) -> float:
        rounds = blocks(blocks(m, t.bm) * blocks(n, t.bn) * batch, MULTIPROCESSORS)
        return rounds * t.bm * t.bn / t.rate

    return min(tiles, key=cost)
