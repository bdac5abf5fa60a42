"""Work that runs bodies: a loop, and one of two branches.

Enters: nothing; these are plain immutable values.  Leaves: the same, to `gradc.codegen`.
Invariant: a `Body` is a schedule of its own, whose buffers have no memory but what the work around it gives them, so
equal bodies are the same code.  Start reading at `Repeat`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradc.schedule.touch import Touch, Touching

if TYPE_CHECKING:
    from gradc.schedule.kernel import Buffer, Kernel, Share, Work


#: What calling a kernel costs, in operations.
OF_A_KERNEL = 8


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The kernels of a loop's body, or of one branch, on buffers of its own; ``arena_bytes`` hold its temporaries.

    ``inputs`` and ``outputs`` are buffers, by position; where they lie is said by the work that runs the body.
    """

    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    donated: tuple[tuple[int, int], ...]  #: input position, position of the output that takes over its storage
    arena_bytes: int
    flops: int
    bytes: int

    @property
    def key(self) -> object:
        """What tells one body's code from another's: no node, no line."""
        work = tuple((k.work, k.dtypes, k.slots, k.splits) for k in self.kernels)
        places = tuple((b.place, b.at) for b in self.buffers)
        return work, places, self.inputs, self.outputs, self.donated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True)
class Handed:
    """Where a carry lies: ``home`` holds it before the first step and after the last one.

    Where the body cannot write its new value over the old one, the steps go back and forth between ``home`` and
    ``spare``; else that is -1.  ``bytes``: its size.
    """

    home: int
    spare: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A slot of which step t sees row t, ``bytes`` long; or, without a slot (-1), the number t itself."""

    slot: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Repeat(Touching):
    """A body run ``length`` times, or while ``again`` holds (then ``length`` times at most, if that is not None).

    The body's inputs are ``consts`` (slots), ``carries``, ``xs``; its outputs ``carries``, ``ys``.  ``arena`` is a slot
    for the temporaries of both bodies, ``flag`` one for what ``again`` says, ``counter`` one for the number of the
    step; -1 where there is none.
    """

    body: Body
    again: Body | None
    length: int | None
    reverse: bool
    consts: tuple[int, ...]
    carries: tuple[Handed, ...]
    xs: tuple[Row, ...]
    ys: tuple[Row, ...]
    arena: int
    flag: int
    counter: int

    @property
    def touch(self) -> Touch:
        handed = {slot for carry in self.carries for slot in (carry.home, carry.spare)}
        kept = handed | {self.arena, self.flag, self.counter}
        sources = {*self.consts, *(x.slot for x in self.xs)} | kept
        return Touch(frozenset(sources - {-1}), frozenset({y.slot for y in self.ys} | kept) - {-1})

    @property
    def steps(self) -> int:
        """How often the body runs, as far as that is known: one step where a condition decides."""
        return 1 if self.again is not None or self.length is None else self.length

    @property
    def flops(self) -> int:
        return self.steps * (self.body.flops + (self.again.flops if self.again is not None else 0))

    @property
    def operations(self) -> float:
        """Roughly what one step does: bytes count as the arithmetic that takes as long."""
        bodies = [self.body] if self.again is None else [self.body, self.again]
        return sum(b.flops + b.bytes / 8 + OF_A_KERNEL * len(b.kernels) for b in bodies)

    @property
    def bytes(self) -> int:
        return self.steps * (self.body.bytes + (self.again.bytes if self.again is not None else 0))


@dataclass(frozen=True, slots=True)
class Choice(Touching):
    """One of two bodies, whichever the bool in slot ``which`` says; both read ``operands`` and write ``results``."""

    which: int
    body: Body
    otherwise: Body
    operands: tuple[int, ...]
    results: tuple[int, ...]
    arena: int

    @property
    def touch(self) -> Touch:
        arena = {self.arena} - {-1}
        return Touch(frozenset({self.which, *self.operands} | arena), frozenset({*self.results} | arena))

    @property
    def flops(self) -> int:
        return max(self.body.flops, self.otherwise.flops)

    @property
    def bytes(self) -> int:
        return max(self.body.bytes, self.otherwise.bytes)


def held_bodies(work: Work) -> tuple[Body, ...]:
    """The bodies that a piece of work runs."""
    if isinstance(work, Repeat):
        return (work.body,) if work.again is None else (work.body, work.again)
    return (work.body, work.otherwise) if isinstance(work, Choice) else ()


def every_part(kernels: Sequence[Kernel]) -> Iterator[tuple[Work, Share | None]]:
    """All pieces of work of some kernels, those inside of bodies too, each with the way it is shared."""
    for kernel in kernels:
        for work, share in kernel.parts:
            yield work, share
            for body in held_bodies(work):
                yield from every_part(body.kernels)


def held_kernels(work: Work) -> Iterator[tuple[Body, Kernel]]:
    """The kernels of all bodies that a piece of work runs, those of bodies inside of them too, each with its body."""
    for body in held_bodies(work):
        for kernel in body.kernels:
            yield body, kernel
            for inner in kernel.work:
                yield from held_kernels(inner)
