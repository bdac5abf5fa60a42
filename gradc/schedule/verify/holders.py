"""Loops, branches and calls: what they hand to their bodies.

Enters: a `Repeat`, `Choice` or `Call`.  Leaves: its accesses, each to a slot as a whole, and what is wrong with it.
Start reading at `accesses_around`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradc.schedule.affine import Affine, Var
from gradc.schedule.bodies import Body, Call, Choice, Holder, Repeat
from gradc.schedule.kernel import Buffer
from gradc.schedule.verify.accesses import FIRST_FREE, Access
from gradc.schedule.verify.memory import itemsize

Problem = tuple[int, str]  #: a slot, or -1, and what is wrong with it


def accesses_around(work: Holder, buffers: Sequence[Buffer]) -> list[Access]:
    """Whole slots, read and written at any time of the work; a stack whose rows may not all be reached is combined."""

    def whole(slot: int, writes: bool, combines: bool = False) -> Access:
        b = buffers[slot]
        every = Var(FIRST_FREE, b.size)
        form = Affine(0, {every: 1} if b.size != 1 else None)
        return Access(slot, b.dtype, writes, form, (every,), throughout=True, combines=combines)

    if isinstance(work, Choice):
        read: tuple[int, ...] = (work.which, *work.operands)
        scratch: tuple[int, ...] = (work.arena,)
        found = [whole(s, True) for s in work.results]
    elif isinstance(work, Call):
        read, scratch = work.operands, (work.arena,)
        found = [whole(s, True) for s in work.results]
    else:
        first = (c.spare if _starts_aside(work, c.spare) else c.home for c in work.carries)
        read = (*work.consts, *(x.slot for x in work.xs), *first)
        scratch = (work.arena, work.flag, work.counter)
        found = [whole(c.home, True) for c in work.carries]
        found += [whole(c.spare, True) for c in work.carries if c.spare >= 0]
        found += [whole(y.slot, True, work.again is not None and y.bytes > 0) for y in work.ys]
    found += [whole(s, True) for s in scratch if s >= 0]
    return [*(whole(s, False) for s in read if s >= 0), *found]


def _starts_aside(work: Repeat, spare: int) -> bool:
    """Whether the first step reads the spare place of a carry: so an odd number of steps ends at home."""
    return spare >= 0 and work.again is None and (work.length or 0) % 2 == 1


def body_problem(work: Holder, sizes: Sequence[int]) -> Problem | None:
    """What is wrong with the memory that work hands to its bodies; ``sizes`` are bytes of slots."""
    if isinstance(work, Call):
        return next(_call(work, sizes), None)
    return next(_choice(work, sizes) if isinstance(work, Choice) else _repeat(work, sizes), None)


def _call(work: Call, sizes: Sequence[int]) -> Iterator[Problem]:
    body = work.body
    yield from _fits(body, [sizes[s] for s in work.operands], [sizes[s] for s in work.results], work.operands)
    if body.donated:
        yield (*work.operands, -1)[0], "is handed to a body that writes over its operands"
    yield from _room(body, work.arena, sizes)
    if len({*work.results}) != len(work.results):
        yield work.results[0], "is two results of a call"


def _choice(work: Choice, sizes: Sequence[int]) -> Iterator[Problem]:
    for body in (work.body, work.otherwise):
        yield from _fits(body, [sizes[s] for s in work.operands], [sizes[s] for s in work.results], work.operands)
        if body.donated:
            yield work.which, "chooses a body that writes over its operands"
        yield from _room(body, work.arena, sizes)
    if len({*work.results}) != len(work.results):
        yield work.results[0], "is two results of a branch"


def _repeat(work: Repeat, sizes: Sequence[int]) -> Iterator[Problem]:
    consts, carries = len(work.consts), len(work.carries)
    rows = [x.bytes if x.slot >= 0 else 8 for x in work.xs]
    given = [*(sizes[s] for s in work.consts), *(c.bytes for c in work.carries), *rows]
    slots = [*work.consts, *(c.home for c in work.carries), *(x.slot for x in work.xs)]
    taken = [*(c.bytes for c in work.carries), *(y.bytes or sizes[y.slot] for y in work.ys)]
    yield from _fits(work.body, given, taken, slots)
    in_place = dict(work.body.donated)
    for k, carry in enumerate(work.carries):
        if carry.bytes and (in_place.get(consts + k) == k) != (carry.spare < 0):
            yield carry.home, "is handed on by a body that was planned to write it elsewhere"
        for slot in (carry.home, carry.spare):
            if slot >= 0 and sizes[slot] < carry.bytes:
                yield slot, f"has {sizes[slot]} bytes, and a carry {carry.bytes}"
    if {*in_place} - {*range(consts, consts + carries)}:
        yield slots[0], "is written over by the body of a loop that only reads it"
    for row in (*work.xs, *work.ys):
        if row.slot >= 0 and row.bytes and row.bytes * (work.length or 0) > sizes[row.slot]:
            yield row.slot, f"has {sizes[row.slot]} bytes, and {work.length} rows of {row.bytes}"
    yield from _room(work.body, work.arena, sizes)
    if work.again is not None:
        yield from _fits(work.again, given[: consts + carries], [1], slots)
        yield from _room(work.again, work.arena, sizes)
        if work.again.donated:
            yield work.flag, "is what a condition says that writes over what it reads"


def _fits(body: Body, given: Sequence[int], taken: Sequence[int], slots: Sequence[int]) -> Iterator[Problem]:
    """Inputs and outputs of a body are as large as what it is given for them."""
    if (len(body.inputs), len(body.outputs)) != (len(given), len(taken)):
        yield -1, f"hands {len(given)} values to {len(body.inputs)}, and takes {len(taken)} of {len(body.outputs)}"
        return
    for number, size, slot in zip(body.inputs, given, slots, strict=True):
        wanted = _bytes(body.buffers[number])
        if wanted > max(size, 0):
            yield slot, f"gives {size} bytes to an input of {wanted}"
    for number, size in zip(body.outputs, taken, strict=True):
        if _bytes(body.buffers[number]) > size:
            yield -1, f"takes {size} bytes of an output of {_bytes(body.buffers[number])}"


def _room(body: Body, arena: int, sizes: Sequence[int]) -> Iterator[Problem]:
    if body.arena_bytes > (sizes[arena] if arena >= 0 else 0):
        yield arena, f"is the arena of a body that needs {body.arena_bytes} bytes"


def _bytes(b: Buffer) -> int:
    return b.size * itemsize(b.dtype)
