"""Work that runs bodies: a loop, one of two branches, and a call.

Enters: nothing; these are plain immutable values.  Leaves: the same, to `gradc.codegen`.
Invariant: a `Body` is a schedule of its own, whose buffers have no memory but what the work around it gives them, so
equal bodies are the same code.  Bodies nest, and one may be called from many places: whoever walks through them meets
each once.  Start reading at `Repeat`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from gradc.schedule.touch import Touch, Touching

if TYPE_CHECKING:
    from gradc.schedule.kernel import Buffer, Kernel, Share, Work


#: What calling a kernel costs, in operations.
OF_A_KERNEL = 8


class Code:
    """What the code of a body is made of: one object for all equal bodies, however deep bodies nest in them."""

    __slots__ = ("__weakref__", "key")

    def __init__(self, key: object):
        self.key = key


_codes: WeakValueDictionary[object, Code] = WeakValueDictionary()


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
    _code: Code | None = field(default=None, init=False, repr=False)

    @property
    def code(self) -> Code:
        """What tells one body's code from another's: no node, no line."""
        if self._code is None:
            work = tuple((k.work, k.dtypes, k.slots, k.splits) for k in self.kernels)
            places = tuple((b.place, b.at) for b in self.buffers)
            key = work, places, self.inputs, self.outputs, self.donated
            object.__setattr__(self, "_code", _codes.setdefault(key, Code(key)))
        assert self._code is not None
        return self._code

    @property
    def operations(self) -> float:
        """Roughly what it does: bytes count as the arithmetic that takes as long."""
        return self.flops + self.bytes / 8 + OF_A_KERNEL * len(self.kernels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and self.code is other.code

    def __hash__(self) -> int:
        return hash(self.code)


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
        """Roughly what one step does."""
        return self.body.operations + (self.again.operations if self.again is not None else 0)

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


@dataclass(frozen=True, slots=True)
class Call(Touching):
    """A body run once, which other calls may run too, on other slots; it reads ``operands`` and writes ``results``."""

    body: Body
    operands: tuple[int, ...]
    results: tuple[int, ...]
    arena: int

    @property
    def touch(self) -> Touch:
        arena = {self.arena} - {-1}
        return Touch(frozenset({*self.operands} | arena), frozenset({*self.results} | arena))

    @property
    def flops(self) -> int:
        return self.body.flops

    @property
    def bytes(self) -> int:
        return self.body.bytes


#: work that runs bodies
Holder = Repeat | Choice | Call


def held_bodies(work: Work) -> tuple[Body, ...]:
    """The bodies that a piece of work runs."""
    if isinstance(work, Repeat):
        return (work.body,) if work.again is None else (work.body, work.again)
    if isinstance(work, Call):
        return (work.body,)
    return (work.body, work.otherwise) if isinstance(work, Choice) else ()


def every_part(kernels: Sequence[Kernel]) -> Iterator[tuple[Work, Share | None]]:
    """All pieces of work of some kernels, those inside of bodies too, each with the way it is shared."""
    seen: dict[int, Body] = {}
    pending = list(kernels)
    for kernel in pending:  # which grows on the way
        yield from kernel.parts
        for work in kernel.work:
            for body in held_bodies(work):
                if id(body) not in seen:
                    seen[id(body)] = body
                    pending += body.kernels


def held_kernels(work: Work) -> Iterator[tuple[Body, Kernel]]:
    """The kernels of all bodies that a piece of work runs, those of bodies inside of them too, each with its body."""
    seen: dict[int, Body] = {}
    stack = [iter(_kernels_in(work, seen))]
    while stack:
        for body, kernel in stack[-1]:
            yield body, kernel
            stack.append(iter([found for inner in kernel.work for found in _kernels_in(inner, seen)]))
            break
        else:
            stack.pop()


def _kernels_in(work: Work, seen: dict[int, Body]) -> list[tuple[Body, Kernel]]:
    """The kernels of bodies of ``work`` that were not ``seen`` before, and are now."""
    new = {id(body): body for body in held_bodies(work) if id(body) not in seen}
    seen |= new
    return [(body, kernel) for body in new.values() for kernel in body.kernels]
