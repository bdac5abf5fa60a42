"""Fewer, longer loops, and the choice of the axis that runs through the lanes of a vector.

Enters: a nest as it was built.  Leaves: the same nest with neighbouring axes merged wherever every access goes on
evenly, and with its lane axis last.  Start reading at `arranged`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from gradc.ops.record import DEAR
from gradc.schedule.affine import MAX_FACTORS, Affine, Var
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
    Scan,
    Stage,
    Store,
    Total,
    operands,
)

#: Floats that are computed in float32.
NARROW = frozenset(("float16", "bfloat16"))
#: Lanes at most so many elements apart are read and written as whole vectors and shuffles, not one by one.
SPREAD = 4


class Widths(Protocol):
    """All that a schedule knows of a machine."""

    @property
    def ahead_bytes(self) -> int:
        """How far ahead of its use a loop should ask for the memory it reads; 0: not at all."""

    @property
    def shortest_row(self) -> int:
        """Rows from this length on are worth one kernel with several passes over each row."""

    @property
    def masks_cost(self) -> bool:
        """Whether the end of a row that fills no whole vector is slower than the row itself."""

    @property
    def largest_square(self) -> int:
        """The side of the largest square of elements that registers turn about its diagonal; 0: they turn none."""

    def lanes(self, dtype: str) -> int:
        """How many elements of a dtype fill one vector register."""


def arranged(nest: Nest, widths: Widths) -> Nest:
    """``nest`` with axes merged and lanes chosen."""
    nest = _moved_as_bits(_collapsed(nest))
    if nest.sequential:
        return nest
    return _with_lane(nest, widths)


def _moved_as_bits(nest: Nest) -> Nest:
    """A nest that only moves narrow floats moves their bits: no number changes, and twice as many fill a vector."""
    moving = all(isinstance(x, Constant | Load | Lookup | Bounded) for x in nest.code) or not nest.code
    plain = not any(s.reduces or s.scan or s.recur for s in nest.stages) and all(s.how == "set" for s in nest.stores)
    narrow = any(s.dtype in NARROW for s in nest.stores)
    if not (narrow and moving and plain):
        return nest

    def bits(x: Instruction) -> Instruction:
        if x.dtype in NARROW and isinstance(x, Constant):
            return Constant(int.from_bytes(x.bits, sys.byteorder), "uint16", x.bits)
        return replace(x, dtype="uint16") if x.dtype in NARROW and isinstance(x, Load | Lookup) else x

    def stored(s: Store) -> Store:
        return replace(s, dtype="uint16") if s.dtype in NARROW else s

    stages = tuple(replace(s, stores=tuple(map(stored, s.stores))) for s in nest.stages)
    return replace(nest, code=tuple(map(bits, nest.code)), stages=stages)


# -- merging axes ------------------------------------------------------------------------------------------------------


def forms(nest: Nest) -> Iterator[Affine]:
    """Every form of loop variables in a nest."""
    for instruction in nest.code:
        if isinstance(instruction, Load | Lookup):
            yield instruction.offset
        elif isinstance(instruction, Index):
            yield instruction.value
    for store in nest.stores:
        yield store.offset


def _collapsed(nest: Nest) -> Nest:
    used = list(dict.fromkeys(forms(nest)))
    groups = dict.fromkeys([nest.outer, *(s.inner for s in nest.stages if s.scan is None and s.recur is None)])
    mapping: dict[Var, Affine] = {}
    for group in groups:
        _merge(list(group), used, mapping)
    if not mapping:
        return nest
    return _renamed(nest, mapping)


def _merge(group: list[Var], used: list[Affine], mapping: dict[Var, Affine]) -> None:
    """Merge neighbours (a, b) of ``group`` into one variable wherever one step of a is b.extent steps of b."""
    at = len(group) - 1
    while at > 0:
        a, b = group[at - 1], group[at]
        if all(_continues(f, a, b) for f in used):
            merged = Var(b.number, a.extent * b.extent)
            step = {a: Affine(), b: Affine(0, {merged: 1})}
            used[:] = [f.substitute(step) for f in used]
            for var, old in mapping.items():
                mapping[var] = old.substitute(step)
            mapping.update(step)
            group[at - 1] = merged
        at -= 1


def grouped(nest: Nest, groups: Sequence[Sequence[Var]]) -> tuple[Nest, list[Var | None]] | None:
    """``nest`` with each group of outer variables merged into one (None for an empty group); None if one cannot be."""
    used = list(dict.fromkeys(forms(nest)))
    mapping: dict[Var, Affine] = {}
    for group in groups:
        _merge(list(group), used, mapping)
    left = [_variables(group, mapping) for group in groups]
    if any(len(g) > 1 for g in left):
        return None
    merged = _renamed(nest, mapping) if mapping else nest
    return merged, [g[0] if g else None for g in left]


def _continues(f: Affine, a: Var, b: Var) -> bool:
    step_a, step_b = f.coefficient(a), f.coefficient(b)
    return step_a is not None and step_b is not None and step_a == step_b * b.extent


def _renamed(nest: Nest, mapping: dict[Var, Affine]) -> Nest:
    def instruction(x: Instruction) -> Instruction:
        if isinstance(x, Load):
            return Load(x.slot, x.offset.substitute(mapping), x.dtype)
        if isinstance(x, Lookup):
            return replace(x, offset=x.offset.substitute(mapping))
        return Index(x.value.substitute(mapping), x.dtype) if isinstance(x, Index) else x

    def store(s: Store) -> Store:
        return Store(s.slot, s.offset.substitute(mapping), s.value, s.dtype, s.how, s.terms)

    def stage(s: Stage) -> Stage:
        scan = Scan(s.scan.op, s.scan.value, store(s.scan.store)) if s.scan is not None else None
        recur = replace(s.recur, ends=tuple(map(store, s.recur.ends))) if s.recur is not None else None
        return Stage(_variables(s.inner, mapping), s.reduces, scan, tuple(map(store, s.stores)), recur)

    outer = _variables(nest.outer, mapping)
    return replace(nest, outer=outer, code=tuple(map(instruction, nest.code)), stages=tuple(map(stage, nest.stages)))


def _variables(group: Sequence[Var], mapping: dict[Var, Affine]) -> tuple[Var, ...]:
    """What is left of a group: the variables that its members became."""
    kept: dict[Var, None] = {}
    for var in group:
        image = mapping.get(var)
        for new in (var,) if image is None else image.variables:
            kept[new] = None
    return tuple(kept)


# -- lanes -------------------------------------------------------------------------------------------------------------


def dependences(nest: Nest) -> list[frozenset[Var]]:
    """For each instruction the loop variables on which its value depends."""
    outer = frozenset(nest.outer)
    result: list[frozenset[Var]] = []
    for x in nest.code:
        found = _NONE
        if isinstance(x, (Load, Lookup)):
            found = x.offset.variables
        elif isinstance(x, Index):
            found = x.value.variables
        elif isinstance(x, Total):
            found = outer  # computed once for each outer index, whatever the reduced elements depend on
        elif isinstance(x, Carry):
            found = outer.union(*(s.inner for s in nest.stages if s.recur is not None))
        for a in operands(x):
            if not result[a] <= found:
                found = found | result[a] if found else result[a]
        result.append(found)
    return result


_NONE: frozenset[Var] = frozenset()


def _with_lane(nest: Nest, widths: Widths) -> Nest:
    """Try every axis that may run through the lanes; keep the cheapest."""
    most = _lanes(nest, widths)
    options = [_across(nest, var) for var in reversed(nest.outer) if _lanes_write_apart(nest, var)]
    if any(map(in_order, nest.stages)):  # scattered lanes lose against one element after another
        options = [o for o in options if all(_is_even(f, o) for f in forms(o))]
    options += [_along(nest, k) for k in reversed(_inner_axes(nest))]
    if not options or most == 1:
        return nest
    wide = [replace(o, lanes=min(most, _round_up(o.lane.extent))) for o in options if o.lane is not None]
    depends = dependences(nest)
    best = min(wide, key=lambda o: _estimate(o, depends)) if len(wide) > 1 else wide[0]
    if not best.across or best.lanes < most:
        return best
    return _blocked(best, widths.largest_square) or _widened(best, depends)


#: Lanes that lie this many elements apart share no cache line.
FAR = 16


def _blocked(nest: Nest, largest: int) -> Nest | None:
    """``nest`` in squares, if lanes read far apart what another axis reads in a row: each line is then fetched once."""
    if not largest or any(s.inner for s in nest.stages) or len(nest.stages) != 1:
        return None
    lane, used = nest.lane, list(forms(nest))
    assert lane is not None
    for var in nest.outer[:-1]:
        if any(abs(f.coefficient(lane) or 0) >= FAR and f.coefficient(var) == 1 for f in used):
            sides = (min(nest.lanes, largest), 8, 4)
            side = next((k for k in sides if var.extent % k == 0 and var.extent > k), None)
            return _squared(nest, var, side) if side is not None else None
    return None


def _squared(nest: Nest, var: Var, side: int) -> Nest:
    """``var`` cut into ``side`` elements, walked inside the lane loop, and the squares, walked outside.

    The new variable's number is one that splitting an axis does not reach.
    """
    inner, outer = Var(var.number, side), Var(var.number + MAX_FACTORS // 2, var.extent // side)
    mapping = {var: Affine(0, {outer: side, inner: 1})}
    moved = tuple(outer if v == var else v for v in nest.outer)
    stage = replace(nest.stages[0], inner=(inner,))
    return _renamed(replace(nest, outer=moved, stages=(stage,)), mapping)


#: Vectors side by side in one step of a loop: they hide latencies, and read more of a row at a time.
SIDE_BY_SIDE = (4, 2)
#: How many instructions of a loop body are short.
SHORT = 12
#: A loop over so many elements is worth the code of several vectors of lengthy functions, up to so much work a step.
#: One step of such a loop waits for its own results longer than a CPU looks ahead.
MANY_ELEMENTS, MOST_WORK_A_STEP = 1024, 512.0


def _widened(nest: Nest, depends: Sequence[frozenset[Var]]) -> Nest:
    """``nest`` with several vectors a step, if its body is short or runs often, and reads no scattered element."""
    body = [x for x, d in zip(nest.code, depends, strict=True) if nest.lane in d]
    if not all(_is_even(f, nest) for f in forms(nest)):
        return nest
    assert nest.lane is not None
    for factor in SIDE_BY_SIDE:
        lanes, extent = nest.lanes * factor, nest.lane.extent
        if _bears(nest, body, factor) and (extent >= 8 * lanes or extent % lanes == 0):
            return replace(nest, lanes=lanes)
    return nest


def _bears(nest: Nest, body: Sequence[Instruction], factor: int) -> bool:
    """Whether so many vectors a step pay: they are a few light instructions, or lengthy ones that run often."""
    applied = [x for x in body if isinstance(x, Apply)]
    plain = all(isinstance(x, Load | Total | Carry | Apply) for x in body) and all(x.op.light for x in applied)
    if plain and len(body) <= SHORT:
        return len(body) * factor <= 2 * SHORT
    costs = [x.op.element_cost for x in applied]
    often = math.prod(v.extent for v in nest.outer) >= MANY_ELEMENTS
    return often and max(costs, default=0.0) >= DEAR and sum(costs) * factor <= MOST_WORK_A_STEP


def _is_even(form: Affine, nest: Nest) -> bool:
    assert nest.lane is not None
    return form.coefficient(nest.lane) in (0, 1)


def _lanes_write_apart(nest: Nest, var: Var) -> bool:
    """Whether every store depends on ``var``: scratch for one row does not."""
    return all(var in s.offset.variables for s in nest.stores)


def _round_up(extent: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (extent - 1).bit_length()


def _inner_axes(nest: Nest) -> range:
    """Which inner axes may be the lane axis: those of reducing stages over the same loops, if their order is free.

    A reduction to a position counts the elements row by row, and takes the first of equals: its last axis stays last.
    """
    looping = [s for s in nest.stages if s.inner]
    if len({s.inner for s in looping}) != 1 or any(map(in_order, looping)):
        return range(0)
    axes, found = len(looping[0].inner), [r.op for s in looping for r in s.reduces]
    return range(axes - 1 if any(op.position for op in found) else 0, axes) if found else range(0)


def in_order(stage: Stage) -> bool:
    """Whether the steps of a stage are taken one after another."""
    return stage.scan is not None or stage.recur is not None


def _across(nest: Nest, var: Var) -> Nest:
    return replace(nest, outer=(*(v for v in nest.outer if v != var), var), lane=var)


def _along(nest: Nest, axis: int) -> Nest:
    def moved(stage: Stage) -> Stage:
        if not stage.inner:
            return stage
        var = stage.inner[axis]
        return replace(stage, inner=(*(v for v in stage.inner if v != var), var))

    stages = tuple(map(moved, nest.stages))
    lane = next(s.inner[-1] for s in stages if s.inner)
    return replace(nest, stages=stages, lane=lane)


def _lanes(nest: Nest, widths: Widths) -> int:
    """Lanes of the widest dtype that carries data; masks, counters and indices follow along, split over registers.

    Narrow floats are computed in float32, and take its lanes.
    """
    data = {s.dtype for s in nest.stores} | {x.dtype for x in nest.code if isinstance(x, Load | Apply)}
    data |= {r.dtype for s in nest.stages for r in s.reduces}
    data = {"float32" if d in NARROW else d for d in data}
    floats = {d for d in data if d.startswith("float")}
    others = data - {"bool"} or {"bool"}
    return min(widths.lanes(d) for d in (floats or others))


def _estimate(nest: Nest, depends: Sequence[frozenset[Var]]) -> float:
    """Rough cycles of a nest with its lane axis chosen."""
    lane = nest.lane
    assert lane is not None
    trips = math.ceil(lane.extent / nest.lanes)

    def times(variables: frozenset[Var]) -> float:
        return math.prod(trips if v == lane else v.extent for v in variables)

    total = sum(_cost(x) * times(d) for x, d in zip(nest.code, depends, strict=True))
    total += sum(_access_cost(x.offset, nest) * times(d) for x, d in _loads(nest, depends))
    total += sum(_store_cost(s, nest) * times(s.offset.variables) for s in nest.stores)
    if not nest.across:
        kept = math.prod(v.extent for v in nest.outer)
        reductions = sum(len(s.reduces) for s in nest.stages)
        total += kept * reductions * (4 + 2 * math.log2(max(nest.lanes, 2)))
    return total


def _cost(x: Instruction) -> float:
    return 0.0 if isinstance(x, Constant | Total | Carry) else 1.0


def _loads(nest: Nest, depends: Sequence[frozenset[Var]]) -> Iterator[tuple[Load | Lookup, frozenset[Var]]]:
    for x, d in zip(nest.code, depends, strict=True):
        if isinstance(x, Load | Lookup):
            yield x, d


def _access_cost(offset: Affine, nest: Nest) -> float:
    assert nest.lane is not None
    step = offset.coefficient(nest.lane)
    if step == 0 or step == 1:
        return 1.0
    if step is not None and 1 < step <= SPREAD:
        return 2.0 * step
    return 1.2 * nest.lanes if step is not None else 4.0 * nest.lanes


def _store_cost(store: Store, nest: Nest) -> float:
    """A strided store is dearer than a strided load; a store outside the lanes is one scalar."""
    assert nest.lane is not None
    step = store.offset.coefficient(nest.lane)
    if step == 0 or step == 1:
        return 1.0
    return 3.0 * step if step is not None and 1 < step <= SPREAD else 2.0 * nest.lanes


def flops(nest: Nest, weight: Callable[[Apply], float]) -> int:
    """Arithmetic operations of a nest; a loop with a condition counts as one step."""
    depends = dependences(nest)
    total = 0.0
    unknown = {v for s in nest.stages if s.recur is not None and s.recur.again is not None for v in s.inner}
    for x, d in zip(nest.code, depends, strict=True):
        if isinstance(x, Apply):
            total += weight(x) * math.prod(v.extent for v in d - unknown)
    outer = math.prod(v.extent for v in nest.outer)
    for stage in nest.stages:
        count = outer * math.prod(v.extent for v in stage.inner)
        total += count * (len(stage.reduces) + (stage.scan is not None))
    return int(total)
