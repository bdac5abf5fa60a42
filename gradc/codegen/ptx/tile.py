"""The shape of a matrix product on the device: what a block and a thread take of it, and in how many parts k is cut.

Enters: extents.  Leaves: a `Tile` and a number of parts.  Both follow from shapes alone, so that they decide the same
roundings on every device.  Start reading at `choose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradc.codegen.ptx.step import blocks

#: Blocks that run at the same time, one on each multiprocessor: what the choice assumes of a device.
MULTIPROCESSORS = 100
#: Cycles that one more launch takes, about 2 µs; bytes that the whole device moves in a cycle, 1.5 TB/s at 1.5 GHz.
LAUNCH_CYCLES, BYTES_A_CYCLE = 3000, 1000
#: A part of k has at least so many tiles; parts are a power of two, not more than this.
SHORTEST_PART, MOST_PARTS = 4, 64


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


@dataclass(frozen=True, slots=True)
class Extents:
    """Rows, columns, summed products and matrices, and the bytes of a sum."""

    m: int
    n: int
    k: int
    batch: int
    bytes: int


def choose(tiles: Sequence[Tile], e: Extents, speed: int) -> tuple[Tile, int]:
    """The tile and the number of parts with which a device of `MULTIPROCESSORS` is done first.

    ``speed``: products that one of these adds up in a cycle, at its peak.  Parts are summed by another launch, which
    reads what the first one has written.
    """

    def cycles(option: tuple[Tile, int]) -> float:
        t, parts = option
        rounds = blocks(_count(t, e) * parts, MULTIPROCESSORS)
        work = rounds * t.bm * t.bn * (blocks(e.k, t.bk * parts) * t.bk) / (t.rate * speed)
        joining = LAUNCH_CYCLES + (2 * parts + 1) * e.m * e.n * e.batch * e.bytes / BYTES_A_CYCLE
        return work + (joining if parts > 1 else 0)

    return min(((t, parts) for t in tiles for parts in _parts(t, e)), key=cycles)


def _count(t: Tile, e: Extents) -> int:
    return blocks(e.m, t.bm) * blocks(e.n, t.bn) * e.batch


def _parts(t: Tile, e: Extents) -> list[int]:
    """Numbers of parts: one, and twice as many as long as multiprocessors are idle and parts are long."""
    found = [1]
    while found[-1] < MOST_PARTS and found[-1] * _count(t, e) < MULTIPROCESSORS:
        if e.k < 2 * found[-1] * t.bk * SHORTEST_PART:
            break
        found.append(2 * found[-1])
    return found
