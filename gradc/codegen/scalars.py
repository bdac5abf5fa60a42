"""Scalar code of a nest as instructions: each `Instruction` of a schedule becomes a `Value`.

Enters: a nest, and where its loops stand (`Point`).  Leaves: values, of one lane where they are the same in all lanes.
Invariant: an instruction is emitted once in the outermost loop on which it depends; a `Point` is copied when a loop is
entered, so nothing that a loop computes is used behind it.  Start reading at `Scalars.advance`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gradc.codegen import memory, shared
from gradc.codegen.builder import Builder
from gradc.codegen.ir import Function, Value, const, vector_const
from gradc.codegen.narrow import computed, rounded
from gradc.codegen.status import NEGATIVE_POWER, OUT_OF_RANGE
from gradc.errors import CompileError
from gradc.ops.record import DEAR
from gradc.schedule.affine import Affine, Quotient, Var
from gradc.schedule.kernel import (
    Apply,
    Bounded,
    Carry,
    Constant,
    Index,
    Instruction,
    Load,
    Lookup,
    Nest,
    Store,
    Term,
    Total,
    operands,
)
from gradc.schedule.lanes import SPREAD, dependences


@dataclass
class Point:
    """A place inside the loops: values of the variables (the lane variable's is that of lane 0) and of instructions."""

    variables: dict[Var, Value] = field(default_factory=dict)
    values: dict[int, Value] = field(default_factory=dict)
    splats: dict[int, Value] = field(default_factory=dict)
    mask: Value | None = None

    def enter(self) -> Point:
        return Point(dict(self.variables), dict(self.values), dict(self.splats), self.mask)

    def at(self, var: Var, value: Value) -> Point:
        """The same place with one more loop around it."""
        inside = self.enter()
        inside.variables[var] = value
        return inside


class Scalars:
    """The emitter of one nest's scalar code into ``f``; ``slots`` are pointers."""

    def __init__(self, f: Function, nest: Nest, slots: Sequence[str], status: str):
        self.f, self.nest, self.slots, self.status = f, nest, slots, status
        self.near: set[int] = set()  #: loads whose elements an earlier stage has read
        self.aligned = False  #: whether lanes that lie in a row start at a multiple of their number
        self.depends = dependences(nest)
        self.pack_of = {k: pack for pack in nest.packs for k in pack}
        self.often = Counter(
            (x.op.name, k in self.pack_of)
            for k, x in enumerate(nest.code)
            if isinstance(x, Apply) and x.op.element_cost >= DEAR and self.pack_of.get(k, (k,))[0] == k
        )
        self.one, self.many = Builder(f, 1), Builder(f, nest.lanes)
        self.wide = [nest.lanes > 1 and nest.lane in d for d in self.depends]
        self.splatted = {a for k, x in enumerate(nest.code) if self.wide[k] for a in operands(x) if not self.wide[a]}
        self.splatted |= {s.value for s in nest.stores if not self.wide[s.value] and self._is_wide(s.offset)}
        self.splatted |= {r.value for st in nest.stages for r in st.reduces if not self.wide[r.value]}
        self.splatted |= {st.scan.value for st in nest.stages if st.scan and not self.wide[st.scan.value]}
        handed = (k for st in nest.stages if st.recur for k in (*st.recur.starts, *st.recur.nexts))
        self.splatted |= {k for k in handed if not self.wide[k]}

    def _is_wide(self, form: Affine) -> bool:
        return self.nest.lanes > 1 and self.nest.lane in form.variables

    # -- walking -----------------------------------------------------------------------------------------------------
    def advance(self, needed: Sequence[int], point: Point) -> None:
        """Emit everything in ``needed`` that can be computed at ``point`` and has not been."""
        bound = point.variables.keys()
        for k in needed:
            if k in point.values or not self.depends[k] <= bound:
                continue
            x = self.nest.code[k]
            if isinstance(x, Total | Carry) or not self._is_ready(k, point):
                continue
            with self.f.standing_for(instruction=k):
                pack = [m for m in self.pack_of.get(k, ()) if self._is_ready(m, point)]
                if len(pack) > 1 and isinstance(x, Apply):
                    self._side_by_side(x, pack, point)
                else:
                    self.set(k, self._emit(k, x, point), point)

    def _is_ready(self, k: int, point: Point) -> bool:
        return all(a in point.values for a in operands(self.nest.code[k]))

    def set(self, k: int, value: Value, point: Point) -> None:
        point.values[k] = value
        if k in self.splatted and self.nest.lanes > 1:
            x = self.nest.code[k]
            if isinstance(x, Constant):
                point.splats[k] = const(x.value, x.dtype, self.nest.lanes)
            else:
                point.splats[k] = self.many.splat(value)

    def value(self, k: int, point: Point, wide: bool) -> Value:
        """Instruction ``k`` in one lane or in all."""
        if wide and not self.wide[k]:
            return point.splats[k]
        return point.values[k]

    # -- instructions ------------------------------------------------------------------------------------------------
    def _emit(self, k: int, x: Instruction, point: Point) -> Value:
        wide = self.wide[k]
        if isinstance(x, Constant):
            return const(x.value, x.dtype)
        if isinstance(x, Index):
            return self._index(x, point, wide)
        if isinstance(x, Load):
            if x.ahead and k not in self.near:
                self._fetch(x, point)
            return self.load(x.slot, x.offset, x.dtype, point)
        if isinstance(x, Apply):
            return self._apply(x, point, wide)
        if isinstance(x, Bounded):
            return self._bounded(x, point, wide)
        assert isinstance(x, Lookup)
        return self._lookup(x, point, wide)

    def _index(self, x: Index, point: Point, wide: bool) -> Value:
        b = self.many if wide else self.one
        small = -(2**31) <= x.value.low and x.value.high < 2**31
        return b.convert(self.form(x.value, point, wide, "int32" if small and wide else "int64"), x.dtype)

    def _apply(self, x: Apply, point: Point, wide: bool) -> Value:
        b = self.many if wide else self.one
        args = [self.value(a, point, wide) for a in x.args]
        if x.node >= 0 and self._may_be_negative(x.args[1]):
            self.report(b.lt(args[1], 0), NEGATIVE_POWER, x.node, point)
        if x.op.lower is None:
            raise CompileError(f"op {x.op.name} has no lowering")
        return self._lowered(x, b, args, packed=False)

    def _lowered(self, x: Apply, b: Builder, args: Sequence[Value], packed: bool) -> Value:
        """The arithmetic of an op, in place or as a call if it is long and stands here often."""
        assert x.op.lower is not None
        wide = list(map(computed, args))
        if self.often[x.op.name, packed] > shared.IN_PLACE:
            result = shared.call(b, x.op, x.attrs, wide)
        else:
            result = x.op.lower(b, *wide, **dict(x.attrs))
        result = rounded(b, x.op, result, x.dtype)
        if result.dtype != x.dtype:
            raise CompileError(f"lowering of {x.op.name} gives {result.dtype}, its shape rule says {x.dtype}")
        return result

    def _side_by_side(self, x: Apply, pack: Sequence[int], point: Point) -> None:
        """One function of several numbers, each in a lane; lanes that are left over repeat the first number."""
        lanes = 1 << (len(pack) - 1).bit_length()
        b = Builder(self.f, lanes)
        members = [self.nest.code[k] for k in pack]
        columns = zip(*[[point.values[a] for a in operands(m)] for m in members], strict=True)
        result = self._lowered(x, b, [self._gathered(column, lanes) for column in columns], packed=True)
        for lane, k in enumerate(pack):
            one = self.f.let(f"extractelement {result.typed}, i64 {lane}")
            self.set(k, Value(one, result.dtype), point)

    def _gathered(self, numbers: Sequence[Value], lanes: int) -> Value:
        """Single numbers in the lanes of one vector."""
        vector = Builder(self.f, lanes).splat(numbers[0])
        for lane, x in enumerate(numbers[1:], 1):
            vector = Value(self.f.let(f"insertelement {vector.typed}, {x.typed}, i64 {lane}"), x.dtype, lanes)
        return vector

    def _may_be_negative(self, k: int) -> bool:
        x = self.nest.code[k]
        return not (isinstance(x, Constant) and x.value >= 0)

    def _bounded(self, x: Bounded, point: Point, wide: bool) -> Value:
        """NumPy's index: compared in the index's own dtype, so that no huge unsigned number looks negative."""
        b = self.many if wide else self.one
        given = self.value(x.value, point, wide)
        index = b.convert(given, "int64")
        negative = b.lt(index, 0)
        bad = b.or_(b.ge(index, x.extent), b.lt(index, 0 if given.dtype == "uint64" else -x.extent))
        self.report(bad, OUT_OF_RANGE, x.node, point)
        return b.select(bad, 0, b.select(negative, b.add(index, x.extent), index))

    def report(self, bad: Value, kind: int, node: int, point: Point) -> None:
        """Write the status word if ``bad`` holds in a live lane and nothing failed before."""
        if point.mask is not None and bad.lanes > 1:
            bad = self.many.and_(bad, point.mask)
        with self.f.when(self.one.any(bad)):
            old = Value(self.f.let(f"load i64, ptr {self.status}, align 8"), "int64")
            code = const(node << 8 | kind, "int64")
            new = self.one.select(self.one.eq(old, 0), code, old)
            self.f.line(f"store {new.typed}, ptr {self.status}, align 8")

    # -- memory ------------------------------------------------------------------------------------------------------
    def load(self, slot: int, offset: Affine, dtype: str, point: Point) -> Value:
        if not self._is_wide(offset):
            pointer = memory.offset_pointer(self.f, self.slots[slot], self.form(offset, point, False), dtype)
            return memory.load(self.f, pointer, dtype)
        if offset.coefficient(self._lane) == 1:
            pointer = memory.offset_pointer(self.f, self.slots[slot], self.form(offset, point, False), dtype)
            return memory.load(self.f, pointer, dtype, self.nest.lanes, point.mask, self.aligned)
        return self._load_apart(self.slots[slot], offset, dtype, point)

    def _fetch(self, x: Load, point: Point) -> None:
        """Ask for what a load will read soon."""
        place = self.form(x.offset + x.ahead, point, False)
        pointer = memory.offset_pointer(self.f, self.slots[x.slot], place, x.dtype)
        memory.fetch(self.f, pointer, x.dtype, self.nest.lanes)

    def _load_apart(self, base: str, offset: Affine, dtype: str, point: Point) -> Value:
        """Elements whose lanes are no neighbours."""
        live = self._spread(offset, dtype, point)
        if live is not None:
            pointer = memory.offset_pointer(self.f, base, self.form(offset, point, False), dtype)
            return memory.load_spread(self.f, pointer, dtype, self.nest.lanes, self._step(offset), live)
        pointer, offsets = self._split(base, offset, dtype, point)
        return memory.gather(self.f, pointer, offsets, dtype, point.mask)

    def _spread(self, offset: Affine, dtype: str, point: Point) -> int | None:
        """How many lanes are live, where they lie so few elements apart that whole vectors cover them; else None."""
        if not 1 < self._step(offset) <= SPREAD or dtype == "bool":
            return None
        return memory.live_lanes(point.mask, self.nest.lanes)

    def _step(self, offset: Affine) -> int:
        """Elements from lane to lane; 0 if that is no constant."""
        return offset.coefficient(self._lane) or 0

    def store(self, s: Store, point: Point) -> None:
        """Write, or combine with what is there."""
        with self.f.standing_for(slot=s.slot):
            self._store(s, point)

    def _store(self, s: Store, point: Point) -> None:
        if s.terms:
            offset = self._computed(s.offset, s.terms, point, False)
            pointer = memory.offset_pointer(self.f, self.slots[s.slot], offset, s.dtype)
            self._write(s, self.value(s.value, point, False), pointer, point)
        elif not self._is_wide(s.offset):
            pointer = memory.offset_pointer(self.f, self.slots[s.slot], self.form(s.offset, point, False), s.dtype)
            self._write(s, self.value(s.value, point, False), pointer, point)
        elif s.offset.coefficient(self._lane) == 1:
            pointer = memory.offset_pointer(self.f, self.slots[s.slot], self.form(s.offset, point, False), s.dtype)
            self._write(s, self.value(s.value, point, True), pointer, point)
        else:
            self._write_apart(s, point)

    def _write(self, s: Store, value: Value, pointer: str, point: Point) -> None:
        if s.how != "set":
            mask = point.mask if value.lanes > 1 else None
            old = memory.load(self.f, pointer, s.dtype, value.lanes, mask, self.aligned)
            value = combine(self.many if value.lanes > 1 else self.one, s.how, old, value)
        memory.store(self.f, value, pointer, point.mask, self.aligned)

    def _write_apart(self, s: Store, point: Point) -> None:
        value = self.value(s.value, point, True)
        if s.how != "set":
            value = combine(self.many, s.how, self._load_apart(self.slots[s.slot], s.offset, s.dtype, point), value)
        live = self._spread(s.offset, s.dtype, point)
        if live is not None:
            pointer = memory.offset_pointer(self.f, self.slots[s.slot], self.form(s.offset, point, False), s.dtype)
            memory.store_spread(self.f, value, pointer, self._step(s.offset), live)
            return
        base, offsets = self._split(self.slots[s.slot], s.offset, s.dtype, point)
        memory.scatter(self.f, value, base, offsets, point.mask)

    def write_scan(self, s: Store, value: Value, point: Point) -> None:
        """Store a running total, which is no instruction."""
        with self.f.standing_for(slot=s.slot):
            self._write_scan(s, value, point)

    def _write_scan(self, s: Store, value: Value, point: Point) -> None:
        if value.lanes == 1 or s.offset.coefficient(self._lane) == 1:
            pointer = memory.offset_pointer(self.f, self.slots[s.slot], self.form(s.offset, point, False), s.dtype)
            memory.store(self.f, value, pointer, point.mask)
        else:
            base, offsets = self._split(self.slots[s.slot], s.offset, s.dtype, point)
            memory.scatter(self.f, value, base, offsets, point.mask)

    def _lookup(self, x: Lookup, point: Point, wide: bool) -> Value:
        b = self.many if wide else self.one
        if x.empty:
            return b.const(0, x.dtype)
        near = not any(self.wide[t.value] for t in x.terms)
        if wide and not (near and x.offset.coefficient(self._lane) == 1):
            return memory.gather(
                self.f, self.slots[x.slot], self._computed(x.offset, x.terms, point, True), x.dtype, point.mask
            )
        offset = self._computed(x.offset, x.terms, point, False)
        pointer = memory.offset_pointer(self.f, self.slots[x.slot], offset, x.dtype)
        return memory.load(self.f, pointer, x.dtype, self.nest.lanes if wide else 1, point.mask if wide else None)

    def _computed(self, offset: Affine, terms: Sequence[Term], point: Point, wide: bool) -> Value:
        b = self.many if wide else self.one
        total = self.form(offset, point, wide)
        for term in terms:
            step = self.value(term.value, point, wide)
            total = b.add(total, step if term.stride == 1 else b.mul(step, term.stride))
        return total

    def _split(self, base: str, offset: Affine, dtype: str, point: Point) -> tuple[str, Value]:
        """A scalar base pointer and the distances of the lanes from it."""
        step = offset.coefficient(self._lane)
        if step is None:
            return base, self.form(offset, point, True)
        pointer = memory.offset_pointer(self.f, base, self.form(offset, point, False), dtype)
        return pointer, vector_const([step * k for k in range(self.nest.lanes)], "int64")

    # -- forms -------------------------------------------------------------------------------------------------------
    @property
    def _lane(self) -> Var:
        assert self.nest.lane is not None
        return self.nest.lane

    def form(self, form: Affine, point: Point, wide: bool, dtype: str = "int64") -> Value:
        """A form of loop variables as an integer; not wide: that of lane 0."""
        b = self.many if wide else self.one
        total: Value | None = None
        for atom, factor in form.terms.items():
            value = self._atom(atom, point, wide, dtype)
            value = value if factor == 1 else b.mul(value, factor)
            total = value if total is None else b.add(total, value)
        if total is None:
            return b.const(form.const, dtype)
        return b.add(total, form.const) if form.const else total

    def _atom(self, atom: Var | Quotient, point: Point, wide: bool, dtype: str) -> Value:
        b = self.many if wide else self.one
        if isinstance(atom, Quotient):
            return self._quotient(atom, point, wide, dtype)
        scalar = self.one.convert(point.variables[atom], dtype)
        if not wide:
            return scalar
        spread = b.splat(scalar)
        return b.add(spread, b.lane_index(dtype)) if atom == self.nest.lane else spread

    def _quotient(self, q: Quotient, point: Point, wide: bool, dtype: str) -> Value:
        b = self.many if wide else self.one
        numerator = self.form(q.numerator, point, wide, dtype)
        if q.numerator.low >= 0:
            return b.idiv(numerator, q.divisor)
        return b.floor_divide(numerator, b.const(q.divisor, dtype))


def combine(b: Builder, how: str, old: Value, new: Value) -> Value:
    """``old`` and ``new`` by the rule of a scatter or fold."""
    if how == "add":
        return b.add(old, new)
    if old.dtype == "bool":
        return b.or_(old, new) if how == "max" else b.and_(old, new)
    return b.max(old, new) if how == "max" else b.min(old, new)
