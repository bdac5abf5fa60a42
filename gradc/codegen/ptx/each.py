"""Nests whose outer indices need nothing of each other: a thread for each, or for each vector of 16 bytes.

Enters: a `Nest` without reductions over many threads.  Leaves: a `Step`.
Invariant: a thread does for its indices what the CPU's loops do, by the same code; neighbouring threads take
neighbouring indices of the lane axis.  Start reading at `Each`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradc.codegen.ir import const
from gradc.codegen.nest import NestWalk
from gradc.codegen.ptx.step import DeviceScalars, blocks, global_number, spread, threads_for
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.scalars import Point
from gradc.schedule.affine import Affine, Var
from gradc.schedule.kernel import Bounded, Load, Lookup, Nest, Store
from gradc.schedule.lanes import dependences

#: Bytes that one thread reads or writes at once.
VECTOR_BYTES = 16
#: More elements than this in one thread cost more registers than they save instructions.
MOST_LANES = 8


class Each:
    """A step of one thread for each index of the ``free`` outer variables; the others are walked in order."""

    scratch_bytes = 0
    attributes = ""

    def __init__(self, nest: Nest, title: str):
        self.title = title
        self.free = free_variables(nest)
        width = vector_width(nest) if self.free == nest.outer else 1
        self.nest = replace(nest, lanes=width, packs=())
        self.total = math.prod(v.extent for v in self.free) // width
        self.block = threads_for(self.total)
        self.grid = blocks(self.total, self.block)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        scalars = DeviceScalars(thread.f, self.nest, slots, status)
        scalars.aligned = True
        walk, number = NestWalk(scalars), global_number(thread, self.block, self.total)
        if self.total % self.block:
            with thread.f.when(thread.b.lt(number, self.total)):
                self._all(thread, walk, number)
        else:
            self._all(thread, walk, number)

    def _all(self, thread: Thread, walk: NestWalk, number: object) -> None:
        """What no index changes, then the rest: threads without an index read nothing, for another may write there."""
        outside = Point()
        walk.s.advance(walk.all, outside)
        self._walk(thread, walk, self._place(thread, number, outside))

    def _place(self, thread: Thread, number: object, outside: Point) -> Point:
        *others, last = self.free or (Var(-1, 1),)
        counted = (*others, Var(last.number, last.extent // self.nest.lanes))
        inside = spread(thread.b, number, counted, outside)  # type: ignore[arg-type]
        first = inside.variables.pop(counted[-1])
        inside.variables[last] = thread.b.mul(first, const(self.nest.lanes, "int64")) if self.nest.lanes > 1 else first
        return inside

    def _walk(self, thread: Thread, walk: NestWalk, inside: Point) -> None:
        walk.s.advance(walk.all, inside)
        walk.outer([v for v in self.nest.outer if v not in self.free], inside)


def free_variables(nest: Nest) -> tuple[Var, ...]:
    """The outer variables whose indices may run at the same time.

    All of them, unless the nest is sequential (a scatter): then those along which it writes apart, whatever the
    computed indices are.
    """
    if not nest.sequential:
        return nest.outer
    depends = dependences(nest)

    def apart(var: Var, store: Store) -> bool:
        computed = any(var in depends[t.value] for t in store.terms)
        return not computed and store.offset.coefficient(var) not in (0, None)

    return tuple(v for v in nest.outer if all(apart(v, s) for s in nest.stores))


def vector_width(nest: Nest) -> int:
    """How many neighbouring elements one thread takes: those of 16 bytes, if all lie in rows that start aligned."""
    lane = nest.lane
    if lane is None or not nest.across or any(s.inner for s in nest.stages):
        return 1
    depends = dependences(nest)
    computed = any(isinstance(x, Lookup | Bounded) and lane in d for x, d in zip(nest.code, depends, strict=True))
    if computed or any(s.terms for s in nest.stores):
        return 1
    widest = max(np.dtype(dtype).itemsize for _, dtype in accesses(nest))
    width = min(MOST_LANES, VECTOR_BYTES // widest)
    while width > 1 and (lane.extent % width or not aligned_rows(nest, lane, width)):
        width //= 2
    return width


def aligned_rows(nest: Nest, lane: Var, width: int) -> bool:
    """Whether ``width`` lanes read and write one element, or a row of elements that starts at a multiple of them."""
    return all(in_row(f, lane, width) for f, _ in accesses(nest))


def accesses(nest: Nest) -> Iterator[tuple[Affine, str]]:
    """Where a nest reads and writes, and the dtype there."""
    for x in nest.code:
        if isinstance(x, Load):
            yield x.offset, x.dtype
    for s in nest.stores:
        yield s.offset, s.dtype


def in_row(offset: Affine, lane: Var, width: int) -> bool:
    """Whether ``width`` steps of ``lane`` from a multiple of it stay at one element, or make an aligned row of them."""
    step = offset.coefficient(lane)
    if step == 0:
        return True
    others = [offset.const, *(c for atom, c in offset.terms.items() if atom != lane)]
    return step == 1 and all(c % width == 0 for c in others)
