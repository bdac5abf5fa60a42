"""Order and memory: when each kernel runs, and where each temporary lies.

Enters: drafts of kernels, buffers without places, the donated inputs.  Leaves: kernels in an order that respects data
and storage, and an arena in which buffers that are never alive together share bytes.
Invariant: a kernel that overwrites a donated input runs after every other reader of the old value.
Start reading at `ordered`.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.node import Node
from gradc.schedule.accesses import Accesses, is_copy
from gradc.schedule.assemble import Draft
from gradc.schedule.kernel import Buffer, Kernel, Place
from gradc.schedule.weave import dtype_name

#: Arena buffers start on cache lines.
ALIGN = 64

CopyKernel = Callable[[int, int], Draft]  #: (from buffer, to buffer)
NumberKernel = Callable[[Node, int], Draft]  #: (constant of one element, to buffer)


class Plan:
    """Kernels and buffers while they are put in order."""

    def __init__(
        self, drafts: Sequence[Draft], buffers: Sequence[Buffer], copy: CopyKernel, number: NumberKernel
    ):  # fmt: skip
        self.drafts = list(drafts)
        self.buffers = list(buffers)
        self.copy, self.number = copy, number

    @property
    def kernels(self) -> list[Kernel]:
        return [d.kernel for d in self.drafts]

    def write_number(self, node: Node, at: int) -> int:
        """A buffer for output ``at``, which is a constant of one element, and the kernel that writes it."""
        to = len(self.buffers)
        self.buffers.append(Buffer(to, Place.OUTPUT, dtype_name(node.dtype), node.shape, -1, at))
        self.drafts.append(self.number(node, to))
        return to

    def add_temporary(self, like: Buffer) -> int:
        number = len(self.buffers)
        self.buffers.append(replace(like, number=number, place=Place.ARENA, at=0))
        return number

    def writers(self) -> dict[int, int]:
        """The kernel that writes each buffer."""
        return {k.slots[s]: at for at, k in enumerate(self.kernels) for s in k.writes}

    def readers(self) -> dict[int, set[int]]:
        """The kernels that read each buffer."""
        found: dict[int, set[int]] = {}
        for at, kernel in enumerate(self.kernels):
            for s in kernel.reads:
                found.setdefault(kernel.slots[s], set()).add(at)
        return found

    def redirect(self, old: int, new: int) -> None:
        """Every kernel that names buffer ``old`` names ``new`` instead."""
        for k, draft in enumerate(self.drafts):
            if old in draft.kernel.slots:
                slots = tuple(new if s == old else s for s in draft.kernel.slots)
                self.drafts[k] = replace(draft, kernel=replace(draft.kernel, slots=slots))

    def number_scratch(self) -> None:
        """Give scratch buffers real numbers."""
        for k, draft in enumerate(self.drafts):
            mapping: dict[int, int] = {}
            for at, (dtype, size) in enumerate(draft.scratch):
                number = len(self.buffers)
                self.buffers.append(Buffer(number, Place.ARENA, dtype, (size,), -1))
                mapping[-1 - at] = number
            if mapping:
                slots = tuple(mapping.get(s, s) for s in draft.kernel.slots)
                self.drafts[k] = Draft(replace(draft.kernel, slots=slots), ())


# -- order -------------------------------------------------------------------------------------------------------------


def ordered(plan: Plan, storage: Mapping[int, int], again: Mapping[int, int]) -> list[Kernel]:
    """The kernels in running order; ``storage`` maps an output's buffer to the input's whose memory it takes over.

    ``again`` has the replica numbers of nodes that compute again what was computed before.
    """
    _settle(plan, storage)
    plan.number_scratch()
    kernels = plan.kernels
    first = [min(k.nodes, default=len(plan.buffers) + i) for i, k in enumerate(kernels)]
    late = [min((again.get(n, 0) for n in k.nodes), default=0) for k in kernels]
    return [kernels[k] for k in _Order(kernels, plan.buffers, run_edges(plan, storage), first, late).run()]


class _Order:
    """The kernels one after another: those that free more of the arena than they take as soon as they can run.

    Else in the order of the graph (``first``), but that what is computed again waits until nothing else can run, lower
    numbers (``late``) first: it is to be read at once.  What is freed changes only when a buffer is left with one
    reader, so the whole costs the number of edges times a heap's logarithm.
    """

    def __init__(
        self, kernels: Sequence[Kernel], buffers: Sequence[Buffer], edges: RunEdges, first: Sequence[int],
        late: Sequence[int],
    ):  # fmt: skip
        self.kernels, self.edges, self.first, self.late = kernels, edges, first, late
        self.waits = [0] * len(kernels)
        for later in edges:
            for k in later:
                self.waits[k] += 1
        self.readers: dict[int, set[int]] = {}
        self.growth = [0] * len(kernels)  #: bytes by which each kernel would make the arena grow if it ran now
        self.size = {b.number: _bytes(b) for b in buffers if b.place is Place.ARENA}
        for k, kernel in enumerate(kernels):
            for number in {kernel.slots[s] for s in kernel.reads} & self.size.keys():
                self.readers.setdefault(number, set()).add(k)
        for k, kernel in enumerate(kernels):
            written = {kernel.slots[s] for s in kernel.writes} & self.size.keys()
            self.growth[k] += sum(self.size[n] for n in written if n in self.readers)
        for number in list(self.readers):
            self._note(number)

    def run(self) -> Iterator[int]:
        """Numbers of kernels."""
        heap = [self._key(k) for k, waits in enumerate(self.waits) if not waits]
        heapq.heapify(heap)
        done: set[int] = set()
        while heap:
            key = heapq.heappop(heap)
            k = key[-1]
            if k in done:
                continue
            if key != self._key(k):  # it has become more urgent since it was put there
                heapq.heappush(heap, self._key(k))
                continue
            done.add(k)
            yield k
            for urgent in self._finished(k):
                if not self.waits[urgent] and urgent not in done:
                    heapq.heappush(heap, self._key(urgent))
            for later in self.edges[k]:
                self.waits[later] -= 1
                if not self.waits[later]:
                    heapq.heappush(heap, self._key(later))

    def _key(self, k: int) -> tuple[bool, int, int, int]:
        grows = self.growth[k] > 0
        return grows, self.late[k] if grows else 0, self.first[k], k

    def _finished(self, k: int) -> Iterator[int]:
        """Kernels that became the last readers of what ``k`` read."""
        for number in {self.kernels[k].slots[s] for s in self.kernels[k].reads} & self.readers.keys():
            self.readers[number].discard(k)
            yield from self._note(number)

    def _note(self, number: int) -> tuple[int, ...]:
        """Whoever alone still reads a buffer would free it."""
        if len(self.readers[number]) != 1:
            return ()
        (last,) = self.readers[number]
        self.growth[last] -= self.size[number]
        return (last,)


#: For each kernel those that have to run after it, and need its result or its memory.
RunEdges = list[set[int]]


def run_edges(plan: Plan, storage: Mapping[int, int]) -> RunEdges:
    """The kernel DAG: from each buffer's writer to its readers, and from a donor's readers to who overwrites it."""
    writer, readers = plan.writers(), plan.readers()
    edges: RunEdges = [set() for _ in plan.drafts]
    for number, reading in readers.items():
        if number in writer:
            edges[writer[number]] |= reading - {writer[number]}
    for output, donor in storage.items():
        if output in writer:
            _run_before(writer[output], readers.get(donor, set()), edges)
    return edges


def _run_before(writer: int, readers: Set[int], edges: RunEdges) -> None:
    for reader in readers - {writer}:
        edges[reader].add(writer)


def _follows(kernel: int, others: Set[int], edges: RunEdges) -> bool:
    """Whether one of ``others`` has to run after ``kernel``."""
    pending, seen = [kernel], {kernel}
    while pending:
        later = edges[pending.pop()] - seen
        if not others.isdisjoint(later):
            return True
        seen |= later
        pending += later
    return False


def _settle(plan: Plan, storage: Mapping[int, int]) -> None:
    """Let the writer of an output go through a temporary where it cannot overwrite the donor directly."""
    edges = run_edges(plan, {})
    writer, readers = plan.writers(), plan.readers()
    for output, donor in storage.items():
        if output not in writer:
            continue
        first, old = writer[output], readers.get(donor, set())
        in_step = Accesses(plan.drafts[first].kernel).in_step(donor, output)
        if not in_step or _follows(first, old, edges):
            temporary = plan.add_temporary(plan.buffers[output])
            plan.redirect(output, temporary)
            plan.drafts.append(plan.copy(temporary, output))
            edges[first].add(len(edges))
            edges.append(set())
            first = len(plan.drafts) - 1
        else:
            plan.drafts[first] = _without_copies(plan.drafts[first], donor, output)
        _run_before(first, old, edges)


def _without_copies(draft: Draft, source: int, target: int) -> Draft:
    """A kernel that writes ``target`` onto ``source`` need not copy what is there already."""
    kernel = draft.kernel
    sources, targets = _slots_of(kernel, source), _slots_of(kernel, target)
    work = tuple(w for w in kernel.work if not is_copy(w, sources, targets))
    return draft if len(work) == len(kernel.work) else replace(draft, kernel=replace(kernel, work=work))


def _slots_of(kernel: Kernel, number: int) -> set[int]:
    return {s for s, n in enumerate(kernel.slots) if n == number}


# -- the arena ---------------------------------------------------------------------------------------------------------


def lay_out(kernels: Sequence[Kernel], buffers: Sequence[Buffer]) -> tuple[list[Buffer], int]:
    """Arena offsets by best fit over live ranges; returns the placed buffers and the size of the arena in bytes."""
    first, last = _lifetimes(kernels, buffers)
    born: list[list[int]] = [[] for _ in kernels]
    for number, time in first.items():
        born[time].append(number)
    dying: list[list[int]] = [[] for _ in kernels]
    for number, time in last.items():
        dying[time].append(number)
    heap, placed = _Heap(), list(buffers)
    for time in range(len(kernels)):
        inherited = _inherited(kernels[time], born[time], dying[time], buffers)
        for number, donor in inherited.items():
            placed[number] = replace(buffers[number], at=placed[donor].at)
        for number in sorted(born[time], key=lambda n: -_bytes(buffers[n])):
            if number not in inherited:
                placed[number] = replace(buffers[number], at=heap.take(_bytes(buffers[number])))
        for number in set(dying[time]).difference(inherited.values()):
            heap.give(placed[number].at, _bytes(buffers[number]))
    return placed, heap.top


def _inherited(
    kernel: Kernel, born: Sequence[int], dying: Sequence[int], buffers: Sequence[Buffer]
) -> dict[int, int]:  # fmt: skip
    """New buffers that are written in step over old ones that nobody reads again, and those."""
    if not born or not dying:
        return {}
    accesses, free = Accesses(kernel), {donor: _kind(buffers[donor]) for donor in dying if donor not in born}
    found: dict[int, int] = {}
    for number in born:
        kind = _kind(buffers[number])
        for donor, other in free.items():
            if kind == other and accesses.in_step(donor, number) and accesses.side_by_side(donor):
                found[number] = donor
                del free[donor]
                break
    return found


def _kind(buffer: Buffer) -> tuple[int, str]:
    """What two buffers must have in common to take the same place."""
    return _bytes(buffer), buffer.dtype


def _bytes(buffer: Buffer) -> int:
    size = buffer.size * np.dtype(buffer.dtype).itemsize
    return max(ALIGN, -(-size // ALIGN) * ALIGN)


def _lifetimes(kernels: Sequence[Kernel], buffers: Sequence[Buffer]) -> tuple[dict[int, int], dict[int, int]]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, kernel in enumerate(kernels):
        for number in kernel.slots:
            if buffers[number].place is Place.ARENA:
                first.setdefault(number, time)
                last[number] = time
    return first, last


class _Heap:
    """Free holes below ``top``, sorted by offset; neighbours are merged."""

    def __init__(self) -> None:
        self.holes: list[tuple[int, int]] = []  # (offset, size)
        self.top = 0

    def take(self, size: int) -> int:
        fitting = [(hole[1], k) for k, hole in enumerate(self.holes) if hole[1] >= size]
        if fitting:
            _, k = min(fitting)
            offset, room = self.holes.pop(k)
            if room > size:
                self.holes.insert(k, (offset + size, room - size))
            return offset
        if self.holes and sum(self.holes[-1]) == self.top:
            offset, _ = self.holes.pop()
        else:
            offset = self.top
        self.top = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        k = bisect.bisect(self.holes, (offset, size))
        if k < len(self.holes) and offset + size == self.holes[k][0]:
            size += self.holes.pop(k)[1]
        if k and sum(self.holes[k - 1]) == offset:
            before, room = self.holes.pop(k - 1)
            offset, size, k = before, room + size, k - 1
        self.holes.insert(k, (offset, size))


def hidden_arrays(values: Sequence[Any]) -> tuple[Any, ...]:
    """Captured arrays, contiguous."""
    return tuple(np.ascontiguousarray(v).reshape(v.shape) for v in values)
