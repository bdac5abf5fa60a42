"""Kernels one after another, and what lies in memory between them.

Enters: a `Frame`, a schedule or the body of a loop or branch.  Leaves: nothing, or a `ScheduleError`.
Start reading at `Walk.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from gradc.errors import ScheduleError
from gradc.places import Where
from gradc.schedule.bodies import Body, Holder, held_bodies
from gradc.schedule.kernel import Buffer, Kernel, Place, Share
from gradc.schedule.verify.accesses import Access, accesses_of
from gradc.schedule.verify.holders import accesses_around, body_problem
from gradc.schedule.verify.memory import NOBODY, Memory, Written, itemsize
from gradc.schedule.verify.pieces import piece_problem, private_slots
from gradc.schedule.verify.steps import meet, reads_first, written_before


@dataclass(frozen=True)
class Frame:
    """Kernels and the buffers between them, of a schedule or of a body."""

    kernels: Sequence[Kernel]
    buffers: Sequence[Buffer]
    inputs: Sequence[int]
    outputs: Sequence[int]
    donated: Mapping[int, int]
    arena_bytes: int

    @classmethod
    def of(cls, body: Body) -> Frame:
        return cls(body.kernels, body.buffers, body.inputs, body.outputs, dict(body.donated), body.arena_bytes)


@dataclass(frozen=True)
class Event:
    """An access of one kernel to a buffer: in which piece of work, and shared how."""

    work: int
    access: Access
    number: int


class Walk:
    """The run of one frame; ``inside`` says in which kernel's body it is, ``bodies`` (by identity) were run before."""

    def __init__(
        self, frame: Frame, lines: Mapping[int, Where | None], inside: str = "", bodies: set[int] | None = None
    ):  # fmt: skip
        self.frame, self.lines, self.inside = frame, lines, inside
        self.memory = Memory(frame.buffers, frame.donated, frame.arena_bytes)
        self.donor = {j: i for i, j in frame.donated.items()}
        self.at = -1  #: the kernel that runs
        self._bodies: set[int] = set() if bodies is None else bodies

    def run(self) -> None:
        self._places()
        for at, kernel in enumerate(self.frame.kernels):
            self.at = at
            self._kernel(kernel)
        self.at = -1
        self._results()

    # -- before and after --------------------------------------------------------------------------------------------
    def _places(self) -> None:
        """Buffers lie inside their memory, arguments and results each where they are said to be."""
        for number in sorted({n for kernel in self.frame.kernels for n in kernel.slots}):
            b, extent = self.frame.buffers[number], self.memory.extents[number]
            if b.place is Place.ARENA and b.size and not (0 <= extent.start and extent.end <= self.frame.arena_bytes):
                self._fail(number, f"lies at {extent.start} of an arena of {self.frame.arena_bytes} bytes")
        for j, number in enumerate(self.frame.outputs):
            b = self.frame.buffers[number]
            if b.size and (b.place is not Place.OUTPUT or b.at != j):
                self._fail(number, f"is output {j}, and lies in {b.place.value} {b.at}")
            if j in self.donor:
                given = self.frame.buffers[self.frame.inputs[self.donor[j]]]
                if (given.dtype, given.size) != (b.dtype, b.size):
                    self._fail(number, f"takes the storage of {given}, which is {given.dtype}{list(given.shape)}")

    def _results(self) -> None:
        for j, number in enumerate(self.frame.outputs):
            b, owners = self.frame.buffers[number], self.memory.owners(number)
            if not b.size or (j in self.donor and owners == {self.frame.inputs[self.donor[j]]}):
                continue
            if owners != {number}:
                self._fail(number, "is a result, and at the end its memory holds " + self._named(owners))
            if not self.memory.written[number].full:
                self._fail(number, "is a result, and some of its elements are never written")

    # -- one kernel --------------------------------------------------------------------------------------------------
    def _kernel(self, kernel: Kernel) -> None:
        found = ((k, a) for k, work in enumerate(kernel.work) for a in self._accesses(kernel, work))
        events = [Event(k, a, kernel.slots[a.slot]) for k, a in found]
        events = [e for e in events if self.frame.buffers[e.number].size]
        for e in events:
            self._bounds(kernel, e)
        written = {e.number for e in events if e.access.writes}
        self._begin(kernel, events, written)
        self._overlaps(events, written)
        for k, (work, share) in enumerate(kernel.parts):
            own = [e for e in events if e.work == k]
            private = private_slots(share)
            self._order(own, {kernel.slots[s] for s in private})
            if share is not None:
                self._pieces(kernel, work, share, [e.access for e in own])
            for e in own:
                if e.access.writes and e.access.slot not in private:
                    self.memory.written[e.number].add(e.access.places)
        for number in sorted(written, key=lambda n: max(e.work for e in events if e.number == n and e.access.writes)):
            self.memory.take(number)
        for number in {kernel.slots[s] for s in kernel.writes} - written:
            self._keep(number)

    def _keep(self, number: int) -> None:
        """A result in which a kernel changes no element of what it is given has its value from then on."""
        b = self.frame.buffers[number]
        given = self.donor.get(b.at, NOBODY) if b.place is Place.OUTPUT else NOBODY
        if given != NOBODY and self.memory.owners(number) == {self.frame.inputs[given]}:
            self.memory.written[number].full = True
            self.memory.take(number)

    def _accesses(self, kernel: Kernel, work: object) -> list[Access]:
        if isinstance(work, Holder):
            self._held(kernel, work)
            return accesses_around(work, [self.frame.buffers[n] for n in kernel.slots])
        return accesses_of(work)

    def _held(self, kernel: Kernel, work: Holder) -> None:
        sizes = [self.frame.buffers[n].size * itemsize(self.frame.buffers[n].dtype) for n in kernel.slots]
        problem = body_problem(work, sizes)
        if problem is not None:
            self._fail(kernel.slots[problem[0]] if problem[0] >= 0 else -1, problem[1])
        for body in held_bodies(work):
            if id(body) not in self._bodies:
                self._bodies.add(id(body))
                inside = f"{self.inside}kernel {self.at} ({kernel.title}), in its body: "
                Walk(Frame.of(body), self.lines, inside, self._bodies).run()

    def _bounds(self, kernel: Kernel, e: Event) -> None:
        b = self.frame.buffers[e.number]
        low, high = e.access.places.range
        if itemsize(e.access.dtype) != itemsize(b.dtype):
            self._fail(e.number, f"holds {b.dtype}, and is {_verb(e)} as {e.access.dtype}")
        if low < 0 or high >= b.size:
            self._fail(e.number, f"has {b.size} elements, and element {low if low < 0 else high} is {_verb(e)}")
        declared = kernel.writes if e.access.writes else (*kernel.reads, *kernel.writes)
        if e.access.slot not in declared and (b.place is not Place.ARENA or b.node >= 0):
            self._fail(e.number, f"is {_verb(e)}, which the kernel does not say")
        if e.access.writes and b.place in (Place.INPUT, Place.HIDDEN):
            self._fail(e.number, f"is written, and is an {b.place.value}")

    def _begin(self, kernel: Kernel, events: Sequence[Event], written: set[int]) -> None:
        """What is read and not written here still has its own value; an update in place starts from the donor's."""
        for number in {e.number for e in events} - written:
            if (owners := self.memory.owners(number)) != {number}:
                self._fail(number, "is read, and its memory holds " + self._named(owners))
        for number in written:
            b, owners = self.frame.buffers[number], self.memory.owners(number)
            given = self.donor.get(b.at, NOBODY) if b.place is Place.OUTPUT else NOBODY
            if given != NOBODY and owners == {self.frame.inputs[given]}:
                own = [e.access for e in events if e.number == number]
                starts_there = any(not a.writes for a in own) or self._updates(number, own)
                moved = any(a.copies >= 0 and kernel.slots[a.copies] == self.frame.inputs[given] for a in own)
                self.memory.written[number].full |= starts_there and not moved
            elif owners == {number} and self.memory.written[number].full:
                self._fail(number, "is written a second time")

    def _updates(self, number: int, own: Sequence[Access]) -> bool:
        """Whether a result only changes some elements of what it is given, so that the others need no copy."""
        fresh = Written(self.frame.buffers[number].size)
        for a in own:
            if a.writes and not a.combines and not a.free:
                fresh.add(a.places)
        return not fresh.full

    def _overlaps(self, events: Sequence[Event], written: set[int]) -> None:
        """Buffers that share bytes: nothing is read where, or when, the other one may have been written."""
        for one, other in self.memory.overlapping({e.number for e in events}):
            for read, target in ((one, other), (other, one)):
                if target in written:
                    self._kept(read, target, events)

    def _kept(self, read: int, target: int, events: Sequence[Event]) -> None:
        size = itemsize(self.frame.buffers[read].dtype)
        apart = self.memory.extents[read].start - self.memory.extents[target].start
        fits = size == itemsize(self.frame.buffers[target].dtype) and apart % size == 0
        for r, w in ((r, w) for r in events for w in events if r.number == read and w.number == target):
            if not w.access.writes or r.work < w.work or self._repeats(w, read, apart):
                continue
            if r.access.writes and not r.access.combines:
                if r.work == w.work and (not fits or meet(r.access, w.access, apart // size)):
                    self._fail(read, f"is written by the work that writes {self._name(target)} over it")
                continue
            fine = fits and (
                not meet(r.access, w.access, apart // size)
                if r.work > w.work
                else reads_first(r.access, w.access, apart // size)
            )
            if not fine:
                self._fail(read, f"is read where {self._name(target)} may have been written over it")

    def _repeats(self, w: Event, read: int, apart: int) -> bool:
        """Whether a write copies each element of ``read`` onto itself."""
        kernel = self.frame.kernels[self.at]
        return apart == 0 and w.access.copies >= 0 and kernel.slots[w.access.copies] == read

    def _order(self, own: Sequence[Event], private: set[int]) -> None:
        """Every place that this work reads holds a value of its buffer by then."""
        for e in own:
            a = e.access
            if a.writes and not a.combines:
                continue
            if e.number not in private and self.memory.written[e.number].holds(a.places):
                continue
            before = [w.access for w in own if w.number == e.number and w.access.writes]
            if not any(written_before(a, w) for w in before):
                self._fail(e.number, "is read before all of that has been written")

    def _pieces(self, kernel: Kernel, work: object, share: Share, accesses: Sequence[Access]) -> None:
        problem = piece_problem(work, share, accesses, [self.frame.buffers[n] for n in kernel.slots])
        if problem is not None:
            self._fail(kernel.slots[problem[0]], problem[1])

    # -- words -------------------------------------------------------------------------------------------------------
    def _fail(self, number: int, what: str) -> NoReturn:
        where = f"kernel {self.at} ({self.frame.kernels[self.at].title}): " if self.at >= 0 else ""
        raise ScheduleError(f"invalid schedule: {self.inside}{where}{self._name(number)} {what}")

    def _name(self, number: int) -> str:
        if number < 0:
            return "the loop"
        b = self.frame.buffers[number]
        line = self.lines.get(b.node)
        return f"buffer b{number} ({b.dtype}{list(b.shape)}{f', {line}' if line is not None else ''})"

    def _named(self, numbers: set[int]) -> str:
        return ", ".join("nothing yet" if n == NOBODY else f"that of {self._name(n)}" for n in sorted(numbers))


def _verb(e: Event) -> str:
    return "written" if e.access.writes else "read"
