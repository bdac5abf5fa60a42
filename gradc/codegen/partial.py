"""A reducing stage shared by threads: each reduces a group of blocks, and the groups are joined as one thread would.

Enters: a stage inside its outer loops, a split.  Leaves: the results, as from `gradc.codegen.reduce`, bit for bit.
Invariant: one thread joins blocks by a binary counter; a group of 2ᵏ blocks, begun at a multiple of 2ᵏ, is a node of
that tree, and what is left at the end is its lowest part.  So the tree is the same however many groups there are.
Start reading at `emit_partial_reduction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradc.codegen.carry import Carried
from gradc.codegen.fork import Crew, Piece
from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.memory import offset_pointer
from gradc.codegen.reduce import Joiner, Reduction, States, room
from gradc.codegen.scalars import Point, Scalars
from gradc.schedule.kernel import Split, Stage


@dataclass(frozen=True)
class Groups:
    """``total`` blocks in groups of ``size``, a power of two; the last group may be smaller."""

    total: int
    size: int

    @classmethod
    def of(cls, total: int, wanted: int) -> Groups:
        """The smallest groups of which there are at most ``wanted``."""
        size = 1
        while -(-total // size) > wanted:
            size *= 2
        return cls(total, size)

    @property
    def whole(self) -> int:
        """How many groups are whole."""
        return self.total // self.size

    @property
    def rest(self) -> int:
        """Blocks of the last group, if it is not whole."""
        return self.total % self.size

    @property
    def count(self) -> int:
        return self.whole + bool(self.rest)


def emit_partial_reduction(
    s: Scalars, stage: Stage, needed: Sequence[int], point: Point, crew: Crew, split: Split
) -> list[Value] | None:
    """The results of ``stage``, from about ``split.pieces`` groups; None if there are too few blocks to share."""
    own = Reduction(s, stage, needed)
    groups = Groups.of(own.blocks.total, split.pieces)
    if groups.count < 2:
        return None
    carried = Carried.of(s, point)
    rooms = [s.f.alloca("i8", groups.count * room(v)) for r in own.reducers for v in r.start()]

    def body(f: Function, piece: Piece) -> None:
        there, inside = carried.resumed(f, s, piece, needed)
        _reduce_group(Reduction(there, stage, needed), inside, piece, groups, piece.slots[-len(rooms) :])

    cut = replace(split, extent=groups.total, steps=groups.size)
    crew.fork(s.f, cut, [*s.slots, *carried.pointers, *rooms], body)
    return own.ended(_joined(own, groups, rooms))


# -- one group ---------------------------------------------------------------------------------------------------------


def _reduce_group(r: Reduction, point: Point, piece: Piece, groups: Groups, rooms: Sequence[str]) -> None:
    """Reduce blocks piece.begin … piece.end and write their states to the group's places in ``rooms``."""
    f, i = r.f, Lanes(r.f)
    joiner = Joiner(f, r.reducers, groups.size, in_memory=True)
    with r.loop(piece.begin, piece.end, 1, r.of_a_block, 0, groups.size) as loop:
        _push_block(r, loop.index, point, joiner)
    number = i.idiv(piece.begin, groups.size)
    is_whole = i.eq(i.sub(piece.end, piece.begin), groups.size)
    with f.when(is_whole):
        _write(f, joiner.joined(groups.size), number, rooms)
    if groups.rest:
        with f.when(i.not_(is_whole)):
            _write(f, joiner.joined(groups.rest), number, rooms)


def _push_block(r: Reduction, number: Value, point: Point, joiner: Joiner) -> None:
    """Block ``number`` of all, in the order in which one thread takes them."""
    blocks, i = r.blocks, Lanes(r.f)
    row, place = i.idiv(number, blocks.in_row), i.irem(number, blocks.in_row)
    inside = point
    for var in reversed(blocks.outer):
        inside = inside.at(var, i.irem(row, var.extent))
        row = i.idiv(row, var.extent)
    r.s.advance(r.needed, inside)
    begin = i.mul(place, blocks.size)
    with r.f.when(i.lt(begin, blocks.whole)):
        joiner.push(r.block(begin, inside.enter()))
    if blocks.whole < blocks.axis.extent:
        with r.f.when(i.ge(begin, blocks.whole)):
            joiner.push(r.last_block(inside.enter()))


# -- states in memory --------------------------------------------------------------------------------------------------


def _write(f: Function, states: States, number: Value, rooms: Sequence[str]) -> None:
    for base, v in zip(rooms, (v for state in states for v in state), strict=True):
        f.line(f"store {v.typed}, ptr {_place(f, base, v, number)}, align 64")


def _place(f: Function, base: str, like: Value, number: Value) -> str:
    return offset_pointer(f, base, Lanes(f).mul(number, room(like)), "int8")


def _joined(r: Reduction, groups: Groups, rooms: Sequence[str]) -> States:
    """All groups: the rest, if there is one, then whole groups from the lowest bit of their number up."""

    def read(number: int) -> States:
        places, states = iter(rooms), []
        for reducer in r.reducers:
            values = [(v, _place(r.f, next(places), v, const(number, "int64"))) for v in reducer.start()]
            loads = ((r.f.let(f"load {v.type}, ptr {place}, align 64"), v) for v, place in values)
            states.append(tuple(Value(ref, v.dtype, v.lanes) for ref, v in loads))
        return tuple(states)

    def join(first: States, second: States) -> States:
        return tuple(x.join(a, b) for x, a, b in zip(r.reducers, first, second, strict=True))

    def whole(begin: int, count: int) -> States:
        """``count`` whole groups, a power of two."""
        if count == 1:
            return read(begin)
        return join(whole(begin, count // 2), whole(begin + count // 2, count // 2))

    found = read(groups.whole) if groups.rest else None
    end = groups.whole
    while end:
        count = end & -end
        part = whole(end - count, count)
        found = part if found is None else join(part, found)
        end -= count
    assert found is not None
    return found
