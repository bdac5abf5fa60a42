"""Fewer, longer loops, and the choice of the axis that runs through the lanes of a vector.

Enters: a nest as it was built.  Leaves: the same nest with neighbouring axes merged wherever every access goes on
evenly, and with its lane axis last.  Start reading at `arranged`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from gradc.schedule.affine import Affine, Var
from gradc.schedule.kernel import (
    Apply,
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


class Widths(Protocol):
    """All that a schedule knows of a machine."""

    def lanes(self, dtype: str) -> int:
        """How many elements of a dtype fill one vector register."""


def arranged(nest: Nest, widths: Widths) -> Nest:
    """``nest`` with axes merged and lanes chosen."""
    nest = _collapsed(nest)
    if nest.sequential:
        return nest
    return _with_lane(nest, widths)


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
    used = list({f: None for f in forms(nest)})
    groups: list[Sequence[Var]] = [nest.outer, *(s.inner for s in nest.stages if s.scan is None)]
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
            group[at - 1 : at + 1] = [merged]
        at -= 1


def _continues(f: Affine, a: Var, b: Var) -> bool:
    step_a, step_b = f.coefficient(a), f.coefficient(b)
    return step_a is not None and step_b is not None and step_a == step_b * b.extent


def _renamed(nest: Nest, mapping: dict[Var, Affine]) -> Nest:
    def instruction(x: Instruction) -> Instruction:
        if isinstance(x, Load | Lookup):
            return replace(x, offset=x.offset.substitute(mapping))
        return replace(x, value=x.value.substitute(mapping)) if isinstance(x, Index) else x

    def store(s: Store) -> Store:
        return replace(s, offset=s.offset.substitute(mapping))

    def stage(s: Stage) -> Stage:
        scan = Scan(s.scan.how, s.scan.value, store(s.scan.store)) if s.scan is not None else None
        return Stage(_variables(s.inner, mapping), s.reduces, scan, tuple(map(store, s.stores)))

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
        own: frozenset[Var] = frozenset()
        if isinstance(x, Load | Lookup):
            own = x.offset.variables
        elif isinstance(x, Index):
            own = x.value.variables
        elif isinstance(x, Total):
            own = outer  # computed once for each outer index, whatever the reduced elements depend on
        result.append(own.union(*(result[a] for a in operands(x))))
    return result


def _with_lane(nest: Nest, widths: Widths) -> Nest:
    """Try every axis that may run through the lanes; keep the cheapest."""
    most = _lanes(nest, widths)
    options = [_across(nest, var) for var in reversed(nest.outer)]
    options += [_along(nest, k) for k in reversed(range(_inner_axes(nest)))]
    if not options or most == 1:
        return nest
    wide = [replace(o, lanes=min(most, _round_up(o.lane.extent))) for o in options if o.lane is not None]
    return min(wide, key=_estimate) if len(wide) > 1 else wide[0]


def _round_up(extent: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (extent - 1).bit_length()


def _inner_axes(nest: Nest) -> int:
    """How many inner axes may be the lane axis: those of a single reducing stage whose order is free."""
    looping = [s for s in nest.stages if s.inner]
    if len(looping) != 1 or looping[0].scan is not None or not looping[0].reduces:
        return 0
    return len(looping[0].inner)


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
    """Lanes of the widest dtype that carries data; masks, counters and indices follow along, split over registers."""
    data = {s.dtype for s in nest.stores} | {x.dtype for x in nest.code if isinstance(x, Load | Apply)}
    data |= {r.dtype for s in nest.stages for r in s.reduces}
    floats = {d for d in data if d.startswith("float")}
    narrow = data - {"bool"} or {"bool"}
    return min(widths.lanes(d) for d in (floats or narrow))


def _estimate(nest: Nest) -> float:
    """Rough cycles of a nest with its lane axis chosen."""
    lane = nest.lane
    assert lane is not None
    trips = math.ceil(lane.extent / nest.lanes)
    depends = dependences(nest)

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
    return 0.0 if isinstance(x, Constant | Total) else 1.0


def _loads(nest: Nest, depends: list[frozenset[Var]]) -> Iterator[tuple[Load | Lookup, frozenset[Var]]]:
    for x, d in zip(nest.code, depends, strict=True):
        if isinstance(x, Load | Lookup):
            yield x, d


def _access_cost(offset: Affine, nest: Nest) -> float:
    assert nest.lane is not None
    step = offset.coefficient(nest.lane)
    if step == 0 or step == 1:
        return 1.0
    return 1.2 * nest.lanes if step is not None else 4.0 * nest.lanes


def _store_cost(store: Store, nest: Nest) -> float:
    """A strided store is dearer than a strided load; a store outside the lanes is one scalar."""
    assert nest.lane is not None
    step = store.offset.coefficient(nest.lane)
    if step == 0 or step == 1:
        return 1.0
    return 2.0 * nest.lanes


def flops(nest: Nest, weight: Callable[[Apply], float]) -> int:
    """Arithmetic operations of a nest."""
    depends = dependences(nest)
    total = 0.0
    for x, d in zip(nest.code, depends, strict=True):
        if isinstance(x, Apply):
            total += weight(x) * math.prod(v.extent for v in d)
    outer = math.prod(v.extent for v in nest.outer)
    for stage in nest.stages:
        count = outer * math.prod(v.extent for v in stage.inner)
        total += count * (len(stage.reduces) + (stage.scan is not None))
    return int(total)
