"""Where a NaN, an infinity or a subnormal number in a result was made.

Enters: a graph, values of its inputs, a kind.  Leaves: `Origin`s: nodes that show the kind though none of their
operands does where it matters, or inputs and constants with which it came in.
The graph is interpreted, and walked back from the results through elements: where an op is elementwise, a view or a
gather the very elements that a bad one was made of are followed, a selection through the side that was chosen; through
other ops all bad elements of their operands.  Into bodies it follows too; through a loop back to the step at which it
began.
Invariant: a number that reaches no result has no part in it.  Start reading at `origins`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradc.diagnostics.kinds import shows
from gradc.graph import Graph
from gradc.interpret import interpret
from gradc.node import Node
from gradc.ops.control import Loop, bodies
from gradc.ops.record import HOLDERS, LEAVES, Kind, has_results
from gradc.places import PHASES

Array = np.ndarray[Any, Any]
#: elements that matter: of a node, and of node's result k
Masks = dict[Node, Array]
_PHASE = {phase: number for number, phase in enumerate(PHASES)}


@dataclass(frozen=True)
class Origin:
    """A node at which a kind of number appears, and the elements that matter.

    ``values`` has those of all nodes of ``graph``, the graph or the body that the node is in; ``inside`` the nodes that
    hold that body, from the outermost one on, each with the step that it had come to if it is a loop.
    """

    kind: str
    node: Node
    mask: Array
    graph: Graph
    values: Mapping[Node, Any]
    inside: tuple[tuple[Node, int | None], ...] = ()
    order: tuple[int, ...] = ()

    @property
    def came_in(self) -> bool:
        """Whether it is an argument of the graph, or a constant."""
        return self.node.op.kind in LEAVES


def origins(graph: Graph, arrays: Sequence[Any], kind: str) -> list[Origin]:
    """What made the elements of this kind in the results of ``graph``, in the order of computation."""
    values = valued(graph, arrays)
    masks = {y: shows(kind, values[y]) for y in graph.outputs}
    walk = Walk(graph, values, kind)
    walk.back({y: m for y, m in masks.items() if m.any()})
    return in_order(walk.found)


def in_order(found: Sequence[Origin]) -> list[Origin]:
    """Forward pass, backward pass, update; within them as the nodes stand."""
    return sorted(found, key=lambda o: (_PHASE[phase_of(o)], o.order))


def phase_of(origin: Origin) -> str:
    """For what the node was made, of `gradc.places.PHASES`; what holds the body that it is in decides first."""
    places = [*(holder.where for holder, _ in origin.inside), origin.node.where]
    return next((w.phase for w in places if w is not None and w.phase), "")


def valued(graph: Graph, arrays: Sequence[Any]) -> dict[Node, Any]:
    """The value of every node of ``graph`` itself."""
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    interpret(graph.outputs, values, names=graph.names)
    return values


@dataclass
class Walk:
    """From results back to what they were made of, in one graph."""

    graph: Graph
    values: Mapping[Node, Any]
    kind: str
    inside: tuple[tuple[Node, int | None], ...] = ()
    before: tuple[int, ...] = ()  #: where the holders of the graph stand
    found: list[Origin] = field(default_factory=list)
    masks: Masks = field(default_factory=dict)
    several: dict[Node, dict[int, Array]] = field(default_factory=dict)

    def back(self, masks: Masks) -> None:
        """Follow these elements; ``masks`` of the graph's inputs are what came in through them."""
        for node, mask in masks.items():
            self._add(node, mask)
        for node in reversed(self.graph.nodes):
            if has_results(node):
                if node in self.several:
                    self._through_results(node, self.several.pop(node))
            elif node in self.masks and self.masks[node].any():
                self._through(node, self.masks[node])

    def _add(self, node: Node, mask: Array) -> None:
        known = self.masks.get(node)
        self.masks[node] = mask if known is None else known | mask

    def _bad(self, node: Node) -> Array:
        return shows(self.kind, self.values[node])

    def _origin(self, node: Node, mask: Array) -> None:
        order = (*self.before, self.graph.index[node])
        self.found.append(Origin(self.kind, node, mask, self.graph, self.values, self.inside, order))

    def _through(self, node: Node, mask: Array) -> None:
        kind = node.op.kind
        if kind in LEAVES:
            if kind is not Kind.INPUT or not self.inside:
                self._origin(node, mask)
        elif kind is Kind.ITEM:
            self.several.setdefault(node.args[0], {})[node.attrs["index"]] = mask
        elif kind is Kind.ELEMENTWISE:
            self._through_elements(node, mask)
        elif kind in (Kind.VIEW, Kind.GATHER):
            self._through_moves(node, mask)
        else:
            self._through_whole(node, mask)

    def _through_elements(self, node: Node, mask: Array) -> None:
        """One element is made of those at the same place."""
        left = mask
        for position, operand in enumerate(node.args):
            if not operand.aval.is_float:
                continue
            bad = mask & self._bad(operand)
            if node.op.chooses:
                bad &= (
                    np.asarray(self.values[node.args[0]]) if position == 1 else ~np.asarray(self.values[node.args[0]])
                )
            if bad.any() and not (node.op.chooses and _is_constant(operand)):  # why it was chosen says more
                self._add(operand, bad)
                left = left & ~bad
        if left.any():
            self._origin(node, left)

    def _through_moves(self, node: Node, mask: Array) -> None:
        """One element is one of an operand: which, is told by the same move of the elements' numbers."""
        moving = [a for a in node.args if a.aval.is_float] if node.op.kind is Kind.VIEW else [node.args[0]]
        numbered, first = dict[Node, Array](), 1
        for operand in moving:
            if operand not in numbered:
                numbered[operand] = np.arange(first, first + operand.size, dtype=np.float64).reshape(operand.shape)
                first += operand.size
        moved = node.op.evaluate(*(numbered.get(a, self.values[a]) for a in node.args), **node.attrs)
        chosen = np.asarray(moved)[mask].astype(np.int64)
        for operand, numbers in numbered.items():
            start = int(numbers.flat[0]) if numbers.size else 0
            own = chosen[(chosen >= start) & (chosen < start + operand.size)] - start
            if own.size:
                part = np.zeros(operand.size, bool)
                part[own] = True
                self._add(operand, part.reshape(operand.shape) & self._bad(operand))

    def _through_whole(self, node: Node, mask: Array) -> None:
        """Any element may be made of any."""
        came = False
        for operand in node.args:
            if operand.aval.is_float and (bad := self._bad(operand)).any():
                self._add(operand, bad)
                came = True
        if not came:
            self._origin(node, mask)

    # -- nodes with several results ------------------------------------------------------------------------------------
    def _through_results(self, node: Node, results: dict[int, Array]) -> None:
        if node.op.kind not in HOLDERS:
            self._through_whole(node, next(iter(results.values())))
        elif node.op.kind is Kind.LOOP:
            self._through_loop(node, results)
        else:
            held = bodies(node)
            operands = node.args
            body = held["body"]
            if node.op.kind is Kind.BRANCH:
                operands = node.args[1:]
                body = held["body"] if self.values[node.args[0]] else held["otherwise"]
            self._into(node, None, body, operands, [self.values[a] for a in operands], results)

    def _into(
        self, holder: Node, step: int | None, body: Graph, operands: Sequence[Node | None], arrays: Sequence[Any],
        results: Mapping[int, Array], row: int | None = None,
    ) -> None:  # fmt: skip
        """Follow results of a body; what came in through one of its inputs goes on at the operand, in its ``row``."""
        before = (*self.before, self.graph.index[holder])
        inner = Walk(body, valued(body, arrays), self.kind, (*self.inside, (holder, step)), before)
        wanted: Masks = {}
        for k, mask in results.items():
            y = body.outputs[k]
            wanted[y] = wanted[y] | mask if y in wanted else mask
        inner.back(wanted)
        self.found += inner.found
        for x, operand in zip(body.inputs, operands, strict=True):
            came = inner.masks.get(x)
            if came is None or operand is None or not came.any():
                continue
            if came.shape != operand.shape:
                whole = np.zeros(operand.shape, bool)
                whole[row] = came
                came = whole
            self._add(operand, came)

    def _through_loop(self, node: Node, results: dict[int, Array]) -> None:
        """Back to the step at which it began: the carries before it are well."""
        loop = Loop.of(node)
        count = len(loop.carries)
        carried = self._carried(loop)
        last = len(carried) - 2
        if last < 0:  # no step was taken
            for k, mask in results.items():
                if k < count:
                    self._add(loop.carries[k], mask)
            return

        def row_at(step: int) -> int:
            return loop.length - 1 - step if loop.reverse and loop.length is not None else step

        rows = {
            step: {k: mask[row_at(step)] for k, mask in results.items() if k >= count and mask[row_at(step)].any()}
            for step in range(last + 1)
        }  # fmt: skip
        ends = {k: mask for k, mask in results.items() if k < count and mask.any()}
        begins = [step for step, found in rows.items() if found]
        step = min([*begins, *([last] if ends else [])], default=last)
        if ends or any(shows(self.kind, x).any() for x in carried[step]):
            step = min(step, self._streak(carried, last if not begins else step))
        wanted = dict(rows[step])
        after = [shows(self.kind, x) for x in carried[step + 1]]
        wanted |= {k: m for k, m in enumerate(after) if m.any()} if step < last else ends
        fixed = len(loop.consts)
        arrays = [self.values[a] for a in loop.consts]
        arrays += [*carried[step], *(self.values[x][row_at(step)] for x in loop.xs)]
        before: list[Node | None] = [None] * count if step else list(loop.carries)
        operands = [*loop.consts, *before, *loop.xs]
        assert len(arrays) == len(operands) == fixed + count + len(loop.xs)
        self._into(node, step, loop.body, operands, arrays, wanted, row_at(step))

    def _streak(self, carried: Sequence[Sequence[Any]], last: int) -> int:
        """The first step of the last ones of which each left a bad carry."""
        step = last
        while step > 0 and any(shows(self.kind, x).any() for x in carried[step]):
            step -= 1
        return step

    def _carried(self, loop: Loop) -> list[list[Any]]:
        """The carries before each step, and behind the last one."""
        fixed = [self.values[a] for a in loop.consts]
        carry = [self.values[a] for a in loop.carries]
        found, step = [carry], 0
        while step != loop.length and (loop.cond is None or loop.cond.call([*fixed, *carry])[0]):
            row = loop.length - 1 - step if loop.reverse and loop.length is not None else step
            outputs = loop.body.call([*fixed, *carry, *(self.values[x][row] for x in loop.xs)])
            carry = list(outputs[: len(loop.carries)])
            found.append(carry)
            step += 1
        return found


def _is_constant(node: Node) -> bool:
    """Whether a node is a constant, or a view of one."""
    while node.op.kind is Kind.VIEW and len(node.args) == 1:
        node = node.args[0]
    return node.op.kind is Kind.CONSTANT


def cause(origin: Origin) -> Origin | None:
    """Of a NaN that was made of an infinity (∞ − ∞, 0 · ∞): where the infinity came from, in the same graph."""
    if origin.kind != "nan" or origin.came_in:
        return None
    masks: Masks = {}
    for operand in origin.node.args:
        if operand.aval.is_float:
            infinite = shows("overflow", origin.values[operand])
            if infinite.shape == origin.mask.shape:
                infinite = infinite & origin.mask
            if infinite.any():
                masks[operand] = infinite
    if not masks:
        return None
    walk = Walk(origin.graph, origin.values, "overflow", origin.inside)
    walk.back(masks)
    found = in_order(walk.found)
    return found[0] if found else None
