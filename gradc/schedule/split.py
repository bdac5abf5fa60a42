"""Which work is shared by threads, and how it is cut.

Enters: kernels in running order, buffers, the number of threads.  Leaves: the same kernels with a `Split` wherever a
fork pays, and buffers of scratch with room for every thread.
Invariant: only work whose parts do not depend on each other is cut, and a part's bits depend on neither the cut nor the
thread.  Start reading at `shared`.

The cost model is rough on purpose: it only has to tell microseconds from tens of them.  A fork and its join take about
half a microsecond when the workers are awake, and what a second core reads for the first time comes from the cache of
the first one; `FORK_SECONDS` of work pay for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradc.schedule.affine import Var
from gradc.schedule.bodies import Holder
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import (
    Apply,
    Bounded,
    Buffer,
    Correlation,
    Kernel,
    Load,
    Lookup,
    Nest,
    Product,
    Search,
    Share,
    Sort,
    Split,
    Staged,
    Tiled,
    Work,
)
from gradc.schedule.lanes import Widths, dependences, flops, in_order

#: Work of less than this is done by one thread.
FORK_SECONDS = 6e-6
#: What each thread must have to do to be worth waking.
THREAD_SECONDS = 3e-6
#: Pieces for each thread: who is disturbed leaves more of them to the others.
PIECES_PER_THREAD = 4
#: A piece takes at least about this long.
PIECE_SECONDS = 2e-6
#: Steps of the lane axis that stay together: whole vectors, and whole cache lines of any dtype.
LANE_GRAIN = 64
#: What one core does in a second: vector instructions, scalar ones, multiplications with their additions in each lane
#: of a product, comparisons of a sort or search, updates of a scatter, bytes from memory.
VECTORS, SCALARS, MACS, COMPARISONS, UPDATES, BYTES = 4e9, 3e9, 6e9, 3e8, 1e9, 2e10


#: Work that threads may share; a body's own kernels are shared one by one.
Parallel = Nest | Product | Correlation | Sort | Search | Factor


def shared(
    kernels: Sequence[Kernel], buffers: Sequence[Buffer], threads: int, widths: Widths
) -> tuple[list[Kernel], list[Buffer]]:
    """``kernels`` with splits for ``threads`` threads, and ``buffers`` with scratch for each of them."""
    if threads == 1:
        return list(kernels), list(buffers)
    cut = [_with_splits(k, buffers, threads, widths) for k in kernels]
    roomy = list(buffers)
    for kernel in cut:
        for split in (s for s in kernel.splits if isinstance(s, Split)):
            for slot, elements, _ in split.private:
                number = kernel.slots[slot]
                roomy[number] = replace(roomy[number], shape=(split.threads * elements,))
    return cut, roomy


def _with_splits(kernel: Kernel, buffers: Sequence[Buffer], threads: int, widths: Widths) -> Kernel:
    splits = tuple(_split(work, kernel, buffers, threads, widths) for work in kernel.work)
    return replace(kernel, splits=splits) if any(splits) else kernel


def _split(work: Work, kernel: Kernel, buffers: Sequence[Buffer], threads: int, widths: Widths) -> Share | None:
    if isinstance(work, Holder):
        return None  # a body's own kernels are shared
    seconds = work_seconds(work, kernel, buffers, widths)
    if seconds < FORK_SECONDS:
        return None
    effort = Effort.of(seconds, threads)
    if isinstance(work, Product | Correlation):
        return Tiled(effort.pieces, effort.threads)
    split = _nest(work, effort, seconds, threads) if isinstance(work, Nest) else _rows(work, effort)
    return replace(split, private=tuple(_private(work, kernel, buffers))) if isinstance(split, Split) else split


@dataclass(frozen=True)
class Effort:
    """How many threads are worth calling, and into how many pieces their work is cut."""

    threads: int
    pieces: int

    @classmethod
    def of(cls, seconds: float, threads: int) -> Effort:
        called = min(threads, max(2, int(seconds / THREAD_SECONDS)))
        each = min(PIECES_PER_THREAD, max(1, int(seconds / called / PIECE_SECONDS)))
        return cls(called, called * each)


def _nest(nest: Nest, effort: Effort, seconds: float, threads: int) -> Split | Staged | None:
    """Cut a loop around everything; or where that leaves threads without work, the stages inside."""
    if nest.sequential:
        return _cut_aside(nest, effort)
    split = _cut(nest.outer, nest, effort)
    if split is not None and split.pieces >= min(effort.pieces, 2 * effort.threads):
        return split
    return _staged(nest, seconds, threads) or split


def _rows(work: Sort | Search | Factor, effort: Effort) -> Split | None:
    """Cut the outermost rows of a sort, the values of a search, or a batch between matrices not done side by side."""
    extent, grain = _row_steps(work), work.lanes if isinstance(work, Factor) else 1
    steps = grain * math.ceil(math.ceil(extent / grain) / effort.pieces)
    return Split(None, extent, steps, effort.threads) if steps < extent else None


def _row_steps(work: Sort | Search | Factor) -> int:
    """How many steps the outermost loop of a sort or search has, or how many matrices there are."""
    if isinstance(work, Factor):
        return work.batch
    if isinstance(work, Sort):
        return work.rows[0][0] if work.rows else 1
    return work.rows if work.rows > 1 else work.per_row


def _cut(loops: Sequence[Var], nest: Nest, effort: Effort) -> Split | None:
    """One of independent loops cut: the outermost that gives enough pieces, or else the longest.

    Work that can fail is cut along its outermost loop, so that the first failure of all is the first of its piece.
    """
    candidates = [(var, max(LANE_GRAIN, nest.lanes) if var == nest.lane else 1) for var in loops]
    candidates = [(var, grain) for var, grain in candidates if var.extent > grain]
    if can_fail(nest):
        candidates = [c for c in candidates if c[0] == loops[0]]
    if not candidates:
        return None
    enough = (c for c in candidates if c[0].extent >= effort.pieces * c[1])
    axis, grain = next(enough, max(candidates, key=lambda c: c[0].extent / c[1]))
    steps = grain * math.ceil(math.ceil(axis.extent / grain) / effort.pieces)
    return Split(axis, axis.extent, steps, effort.threads)


def _cut_aside(nest: Nest, effort: Effort) -> Split | None:
    """Updates in order, cut along a loop whose steps update elements of their own: each thread makes them all there.

    A step has its own elements if the computed indices do not depend on it: it moves along another axis than they do.
    """
    depends = dependences(nest)

    def has_own(var: Var) -> bool:
        aside = all(var not in depends[t.value] for s in nest.stores for t in s.terms)
        return aside and all(s.terms and s.offset.coefficient(var) for s in nest.stores)

    axis = max((v for v in nest.outer if has_own(v)), key=lambda v: v.extent, default=None)
    if axis is None:
        return None
    line = 64 // min(np.dtype(s.dtype).itemsize for s in nest.stores)
    steps = line * math.ceil(math.ceil(axis.extent / line) / effort.pieces)
    return Split(axis, axis.extent, steps, effort.threads) if steps < axis.extent else None


def _staged(nest: Nest, seconds: float, threads: int) -> Staged | None:
    """Cut the stages of each row, if the rows are few and long."""
    rows = math.prod(math.ceil(v.extent / (nest.lanes if v == nest.lane else 1)) for v in nest.outer)
    looping = [s for s in nest.stages if s.inner]
    each = seconds / rows / max(1, len(looping))
    if each < FORK_SECONDS:
        return None
    effort = Effort.of(each, threads)
    splits = tuple(_cut(s.inner, nest, effort) if s.inner and not in_order(s) else None for s in nest.stages)
    return Staged(splits) if any(splits) else None


def can_fail(work: Work) -> bool:
    """Whether the work may write the status word."""
    if isinstance(work, Factor):
        return work.node >= 0
    nest = work.epilogue.nest if isinstance(work, Product) and work.epilogue is not None else work
    if not isinstance(nest, Nest):
        return False
    return any(isinstance(x, Bounded) or (isinstance(x, Apply) and x.node >= 0) for x in nest.code)


def _private(work: Work, kernel: Kernel, buffers: Sequence[Buffer]) -> Iterator[tuple[int, int, str]]:
    """Scratch of this work alone: it holds something of one step, which the next step overwrites."""
    others = {s for w in kernel.work if w is not work for s in w.touch.slots}
    for slot in sorted(work.touch.slots - others - {*kernel.reads} - {*kernel.writes}):
        dtype = kernel.dtypes[slot]
        line = 64 // np.dtype(dtype).itemsize
        yield slot, line * math.ceil(buffers[kernel.slots[slot]].size / line), dtype


# -- cost --------------------------------------------------------------------------------------------------------------


def work_seconds(work: Parallel, kernel: Kernel, buffers: Sequence[Buffer], widths: Widths) -> float:
    """Roughly how long one core takes."""
    if isinstance(work, Nest):
        rate = VECTORS * work.lanes if work.lanes > 1 else SCALARS
        if work.sequential:
            return math.prod(v.extent for v in work.outer) / UPDATES
        return max(flops(work, lambda x: x.op.element_cost) / rate, _bytes(work, kernel, buffers) / BYTES)
    if isinstance(work, Product):
        after = work_seconds(work.epilogue.nest, kernel, buffers, widths) if work.epilogue is not None else 0.0
        return math.prod(work.batch) * work.m * work.n * work.k / (MACS * widths.lanes(work.dtype)) + after
    if isinstance(work, Correlation):
        return work.macs / (MACS * widths.lanes(work.dtype))
    if isinstance(work, Factor):
        return work.flops / (SCALARS if work.lanes > 1 else 2 * SCALARS)
    if isinstance(work, Sort):
        return math.prod(n for n, _ in work.rows) * work.length * work.length.bit_length() / COMPARISONS
    return work.rows * work.per_row * work.length.bit_length() / COMPARISONS


def _bytes(nest: Nest, kernel: Kernel, buffers: Sequence[Buffer]) -> float:
    """Bytes that a nest moves: of each slot no more than it has, nor more than there are accesses."""
    moved: dict[int, float] = {}
    accesses = [(x.slot, d) for x, d in zip(nest.code, dependences(nest), strict=True) if isinstance(x, Load | Lookup)]
    accesses += [(s.slot, s.offset.variables) for s in nest.stores]
    for slot, variables in accesses:
        moved[slot] = moved.get(slot, 0.0) + math.prod(v.extent for v in variables)
    return sum(
        min(count, buffers[kernel.slots[slot]].size) * np.dtype(kernel.dtypes[slot]).itemsize
        for slot, count in moved.items()
    )
