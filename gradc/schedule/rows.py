"""Reductions of rows, and what is computed of the same rows before and after them, in one pass per row.

Enters: nodes of one cluster: reductions of one shape over the same axes, maps of that shape, maps of what is kept.
Leaves: one `Nest` with a stage for each layer of reductions (softmax: the maximum, the sum, the quotient).
Invariant: a dear value that a later stage needs is kept, in its own buffer or in scratch of one row.
Start reading at `rows_nest`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradc.aval import Shape
from gradc.node import Node
from gradc.ops.index import linear_index
from gradc.ops.record import Kind
from gradc.schedule.affine import Affine
from gradc.schedule.kernel import Load, Nest, Reduce, Stage, Store, Total
from gradc.schedule.nests import computed, stored_at
from gradc.schedule.partition import STORE_COST, cost
from gradc.schedule.weave import Place, Weaver, dtype_name, is_plain_view, through_view, whole_index


@dataclass(frozen=True)
class Rows:
    """The index space of a cluster: arrays of ``shape``, reduced over ``axes``."""

    shape: Shape
    axes: Shape

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Rows | None:
        """The space that the first reduction among ``nodes`` opens; None if there is none."""
        first = next((n for n in nodes if n.op.kind is Kind.REDUCE), None)
        return None if first is None else cls(first.args[0].shape, first.attrs["axes"])

    @property
    def kept(self) -> Shape:
        return tuple(n for a, n in enumerate(self.shape) if a not in self.axes)

    @property
    def length(self) -> int:
        return math.prod(self.shape[a] for a in self.axes)

    def holds(self, node: Node) -> bool:
        """Whether ``node`` has a place in this space."""
        if node.op.kind is Kind.REDUCE:
            return node.args[0].shape == self.shape and node.attrs["axes"] == self.axes
        return node.shape in (self.shape, self.kept)

    def is_whole(self, node: Node) -> bool:
        """Whether ``node`` is computed inside the rows, not once per row."""
        return node.op.kind is not Kind.REDUCE and node.shape == self.shape


# -- which nodes may share rows ----------------------------------------------------------------------------------------


def reads_in_step(node: Node, rows: Rows, members: Mapping[Node, None], stored: Mapping[Node, None]) -> bool:
    """Whether ``node`` reads each of ``members`` only at its own element, or at its own row's value."""
    full = whole_index(rows.shape)
    kept = tuple(i for a, i in enumerate(full) if a not in rows.axes)
    index = full if node.op.kind is Kind.REDUCE or rows.is_whole(node) else kept
    for read, place in _read_places(node, index, stored):
        if read in members and place != (full if rows.is_whole(read) else kept):
            return False
    return True


def _read_places(node: Node, index: Place, stored: Mapping[Node, None]) -> Iterator[tuple[Node, Place | None]]:
    """Every stored node below ``node`` and where it is read; None: at places known only when it runs."""
    seen: set[tuple[int, Place | None]] = set()
    pending: list[tuple[Node, Place | None]] = [*_operands(node, index)]
    while pending:
        current, place = pending.pop()
        if (id(current), place) in seen:
            continue
        seen.add((id(current), place))
        if current in stored:
            yield current, place
        else:
            pending += _operands(current, place)


def _operands(node: Node, place: Place | None) -> Iterator[tuple[Node, Place | None]]:
    if place is not None and is_plain_view(node) and node.aval.size:
        yield through_view(node, place)
    elif node.op.kind in (Kind.ELEMENTWISE, Kind.REDUCE):
        yield from ((a, place) for a in node.args)
    else:
        yield from ((a, None) for a in node.args)


# -- the nest ----------------------------------------------------------------------------------------------------------


def rows_nest(w: Weaver, nodes: Sequence[Node]) -> Nest:
    """All ``nodes``, in topological order, with as many passes over a row as reductions wait for each other."""
    rows = Rows.of(nodes)
    assert rows is not None
    return _RowNest(w, nodes, rows).build()


class _RowNest:
    def __init__(self, w: Weaver, nodes: Sequence[Node], rows: Rows):
        self.w, self.nodes, self.rows = w, nodes, rows
        self.outer, self.kept = w.loops(rows.kept)
        self.inner, self.reduced = w.loops(tuple(rows.shape[a] for a in rows.axes))
        sources = iter(self.kept), iter(self.reduced)
        self.full = tuple(next(sources[a in rows.axes]) for a in range(len(rows.shape)))
        self.level = self._levels()
        self.last_use = self._last_uses()

    def build(self) -> Nest:
        stages: list[Stage] = []
        ends: list[Store] = []
        for level in range(max(self.level.values()) + 1):
            here = [n for n in self.nodes if self.level[n] == level]
            reductions = [n for n in here if n.op.kind is Kind.REDUCE]
            once = [n for n in here if n.op.kind is not Kind.REDUCE and not self.rows.is_whole(n)]
            ends += stored_at(self.w, once, self.kept)
            stores = [s for n in here if self.rows.is_whole(n) for s in self._whole(n)]
            actions = tuple(self._action(n) for n in reductions)
            if actions or stores:
                stages.append(Stage(self.inner, actions, stores=tuple(stores)))
            ends += [s for k, n in enumerate(reductions) for s in self._total(n, len(stages) - 1, k)]
            self._reload(here)
        if ends:
            stages.append(Stage(stores=tuple(ends)))
        return self.w.nest(self.outer, *stages)

    # -- layers ------------------------------------------------------------------------------------------------------
    def _levels(self) -> dict[Node, int]:
        """How many layers of reductions come before each node."""
        level: dict[Node, int] = {}
        below: dict[Node, int] = {}
        for node in self.nodes:
            level[node] = self._level(node, level, below)
        return level

    def _level(self, node: Node, level: Mapping[Node, int], below: dict[Node, int]) -> int:
        found = 0
        for arg in node.args:
            if arg in level:
                found = max(found, level[arg] + (arg.op.kind is Kind.REDUCE))
            elif arg not in self.w.slots.buffers:
                if arg not in below:
                    below[arg] = self._level(arg, level, below)
                found = max(found, below[arg])
        return found

    def _last_uses(self) -> dict[Node, int]:
        """The last layer in which each node is read."""
        last: dict[Node, int] = {}
        for node in self.nodes:
            pending, seen = list(node.args), set[int]()
            while pending:
                arg = pending.pop()
                if arg in self.level:
                    last[arg] = max(last.get(arg, 0), self.level[node])
                elif arg not in self.w.slots.buffers and id(arg) not in seen:
                    seen.add(id(arg))
                    pending += arg.args
        return last

    # -- one node ----------------------------------------------------------------------------------------------------
    def _whole(self, node: Node) -> Iterator[Store]:
        value = computed(self.w, node, self.full)
        self.w.define(node, self.full, value)
        if node in self.w.slots.buffers:
            yield self.w.store(node, self.full, value)
        elif self._is_kept_for_later(node):
            slot = self.w.slots.own(dtype_name(node.dtype), self.rows.length, node)
            yield Store(slot, self._in_row(), value, dtype_name(node.dtype))

    def _is_kept_for_later(self, node: Node) -> bool:
        return self.last_use.get(node, 0) > self.level[node] and cost_inside(node, self.w) >= STORE_COST

    def _in_row(self) -> Affine:
        return Affine.of(linear_index(self.reduced, tuple(self.rows.shape[a] for a in self.rows.axes)))

    def _action(self, node: Node) -> Reduce:
        return Reduce(node.op, self.w.value(node.args[0], self.full), dtype_name(node.dtype))

    def _total(self, node: Node, stage: int, which: int) -> Iterator[Store]:
        total = self.w.emit(Total(stage, which, dtype_name(node.dtype)))
        self.w.define(node, self.kept, total)
        if node in self.w.slots.buffers:
            yield self.w.store(node, self.kept, total)

    def _reload(self, nodes: Sequence[Node]) -> None:
        """Values of this layer that are in memory are loaded by the later ones."""
        for node in nodes:
            if self.rows.is_whole(node) and self.last_use.get(node, 0) > self.level[node]:
                if node in self.w.slots.buffers:
                    self.w.define(node, self.full, self.w.load(node, self.full))
                elif self._is_kept_for_later(node):
                    slot = self.w.slots.own(dtype_name(node.dtype), self.rows.length, node)
                    self.w.define(node, self.full, self.w.emit(Load(slot, self._in_row(), dtype_name(node.dtype))))


def cost_inside(node: Node, w: Weaver) -> float:
    """Cost of one element of ``node``, with what is computed on the way from memory to it."""
    total, pending, seen = 0.0, [node], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen or (current is not node and (current in w.slots.buffers or current in w.own)):
            continue
        seen.add(id(current))
        total += cost(current)
        pending += current.args
    return total
