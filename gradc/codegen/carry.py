"""What a task must know of the loops around its fork: loop variables and the results of earlier stages.

Enters: a `Point` in the function that forks.  Leaves: the same point in the task.
Invariant: everything else that holds outside is computed again inside, from the same memory.  Start at `Carried`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradc.codegen.fork import Piece
from gradc.codegen.ir import Function, Value
from gradc.codegen.scalars import Point, Scalars
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Total


@dataclass(frozen=True)
class Carried:
    """Values of variables, and of totals by their number, stored where ``pointers`` point; constants need no memory."""

    values: tuple[tuple[Var | int, Value], ...]
    pointers: tuple[str, ...]
    mask: Value | None

    @classmethod
    def of(cls, s: Scalars, point: Point) -> Carried:
        """Store what holds at ``point``."""
        totals = [(k, v) for k, v in point.values.items() if isinstance(s.nest.code[k], Total)]
        values: list[tuple[Var | int, Value]] = [*point.variables.items(), *totals]
        pointers = []
        for _, value in values:
            if not is_literal(value):
                place = s.f.alloca(value.type)
                s.f.line(f"store {value.typed}, ptr {place}, align 64")
                pointers.append(place)
        return cls(tuple(values), tuple(pointers), point.mask)

    def resumed(self, f: Function, s: Scalars, piece: Piece, needed: Sequence[int]) -> tuple[Scalars, Point]:
        """The scalar code and the point of the task ``f``, which got the pointers behind the slots."""
        there = Scalars(f, s.nest, piece.slots[: len(s.slots)], piece.status)
        places = iter(piece.slots[len(s.slots) :])
        point = Point(mask=self.mask)
        for key, value in self.values:
            same = value if is_literal(value) else _load(f, value, next(places))
            if isinstance(key, Var):
                point.variables[key] = same
            else:
                there.set(key, same, point)
        there.advance(needed, point)
        return there, point


def _load(f: Function, like: Value, place: str) -> Value:
    return Value(f.let(f"load {like.type}, ptr {place}, align 64"), like.dtype, like.lanes)


def is_literal(value: Value) -> bool:
    """Whether a value is written out, so that it means the same in every function."""
    return not value.ref.startswith("%")
