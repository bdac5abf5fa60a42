"""Calls of functions that compute some of the same become one call.

Differentiation makes such calls: the user's own, one of a body that returns what the derivative reads, one of a body
that computes tangents beside the values.  Two calls are one if one has the operands of the other and at least half of
what the smaller body computes is computed by both; what is made of two bodies is made once for all such pairs of calls.
Start reading at `join_calls`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from gradc.graph import Graph, rewrite
from gradc.node import Node, derived_from
from gradc.ops.control import by_results, call_function, inner_leaf, is_function, item, once_per_body, result_count
from gradc.ops.record import Kind
from gradc.passes.cse import attrs_key, cse, graph_key
from gradc.passes.join import dependences, independent
from gradc.passes.rules import mapped

#: For each result of a call where it is among those of another.
Found = tuple[int, ...]
#: The place of each operand among those of the call that replaces two.
Placed = tuple[int, ...]


def join_calls(graph: Graph) -> Graph:
    """Merge calls that share work; each round merges what it can."""
    while True:
        calls = [n for n in graph.nodes if is_function(n) and n.args]
        places = _united_in(graph, calls) if len(calls) > 1 else {}
        if not places:
            return graph

        def results(
            node: Node, args: tuple[Node, ...], places: Mapping[Node, tuple[Node, Found]] = places
        ) -> Sequence[Node] | None:
            if node not in places:
                return None
            made, where = places[node]
            return [item(made, k) for k in where]

        while any(node in places for node in graph.nodes):  # operands of merged calls may be results of others
            graph = mapped(graph, by_results(results))


def _united_in(graph: Graph, calls: Sequence[Node]) -> dict[Node, tuple[Node, Found]]:
    """For calls that can be merged the one that replaces them, and where it has their results."""
    bit, before = dependences(graph, calls)
    parts = _Parts()
    groups: list[_Group] = []
    reading: dict[Node, list[_Group]] = {}
    for node in calls:
        near = dict.fromkeys(group for a in node.args for group in reading.get(a, ()))
        larger = next((g for group in near if (g := group.with_call(node, before, bit, parts)) is not None), None)
        if larger is None:
            larger = _Group((node,), node.attrs["body"], node.args, (tuple(range(result_count(node))),))
        else:
            smaller = larger.grown_from
            assert smaller is not None
            groups.remove(smaller)
            for a in dict.fromkeys(smaller.operands):
                reading[a].remove(smaller)
        groups.append(larger)
        for a in dict.fromkeys(larger.operands):
            reading.setdefault(a, []).append(larger)
    chosen = independent([list(g.calls) for g in groups], before, bit)
    places: dict[Node, tuple[Node, Found]] = {}
    for group, kept in zip(groups, chosen, strict=True):
        if len(kept) > 1:
            first = group.calls[0]
            with derived_from(first.where, first.replica):
                made = call_function(group.body, group.operands)[0].args[0]
            places |= {node: (made, found) for node, found in zip(group.calls, group.found, strict=True)}
    return places


@dataclass(frozen=True, eq=False)
class _Group:
    """Calls that one call of ``body`` on ``operands`` replaces; ``found``: where it has the results of each."""

    calls: tuple[Node, ...]
    body: Graph
    operands: tuple[Node, ...]
    found: tuple[Found, ...]
    grown_from: _Group | None = None

    def with_call(
        self, node: Node, before: Mapping[Node, int], bit: Mapping[Node, int], parts: _Parts
    ) -> _Group | None:
        """The group with one more call, if it shares its work."""
        body: Graph = node.attrs["body"]
        mine, other = set(self.operands), set(node.args)
        if node.replica != self.calls[0].replica or not (mine <= other or other <= mine):
            return None
        if any(call.attrs["body"] is body or before[node] & bit[call] for call in self.calls):
            return None
        if not parts.may_share(self.body, self.operands, body, node.args):
            return None
        order = {x: k for k, x in enumerate(dict.fromkeys((*self.operands, *node.args)))}
        here, there = (tuple(order[x] for x in operands) for operands in (self.operands, node.args))
        turned = len(body.nodes) > len(self.body.nodes)
        first = body if turned else self.body
        united = _united(body, self.body, there, here) if turned else _united(self.body, body, here, there)
        if united is None:
            return None
        one, two = (united[2], united[1]) if turned else (united[1], united[2])
        found = (*(tuple(one[k] for k in f) for f in self.found), two)
        return _Group((*self.calls, node), first if united[0] is None else united[0], tuple(order), found, self)


class _Parts:
    """What bodies compute on operands of one graph, as numbers: the same for equal computations (`cse`).

    Two bodies are held against each other by their numbers before they are made one, which costs a body.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[tuple[Graph, tuple[Node, ...]], frozenset[int]] = {}

    def may_share(self, first: Graph, here: tuple[Node, ...], second: Graph, there: tuple[Node, ...]) -> bool:
        """Whether two bodies can have enough in common; calls in them count as equal, for they may become one."""
        at_least = len(self._of(first, here) | self._of(second, there))
        return _is_enough(first, second, at_least)

    def _of(self, body: Graph, operands: tuple[Node, ...]) -> frozenset[int]:
        known = self._known.get((body, operands))
        if known is None:
            known = self._known[body, operands] = self._computed(body, operands)
        return known

    def _computed(self, body: Graph, operands: tuple[Node, ...]) -> frozenset[int]:
        number = {x: self._number(a) for x, a in zip(body.inputs, operands, strict=True)}
        for node in body.nodes:
            if node in number:
                continue
            if is_function(node) or (node.op.kind is Kind.ITEM and is_function(node.args[0])):
                number[node] = self._number(node.op)
            else:
                args = tuple(number[a] for a in node.args)
                number[node] = self._number((node.op, args, attrs_key(node), node.aval, node.replica))
        return frozenset(number[node] for node in body.nodes if node.args)

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


@once_per_body
def _united(first: Graph, second: Graph, here: Placed, there: Placed) -> tuple[Graph | None, Found, Found] | None:
    """Two bodies as one, and where it has the results of both; None where they have too little in common.

    Where ``first`` is all of it, the body is None: what is made of a body must not hold it (`once_per_body`).
    """
    leaves: dict[int, Node] = {}
    known: dict[Node, Node] = {}
    outputs: list[Node] = []
    for body, places in ((first, here), (second, there)):
        for x, k in zip(body.inputs, places, strict=True):
            leaves.setdefault(k, inner_leaf(x.aval, str(x.attrs["name"]), x.range))
        on = {x: leaves[k] for x, k in zip(body.inputs, places, strict=True)}
        moved: dict[Node, Node] = {}
        outputs += rewrite(body.outputs, lambda node, args: None, on, moved)
        known |= moved
    names = {known[n]: name for body in (second, first) for n, name in body.names.items() if n in known}
    inputs = tuple(leaves[k] for k in sorted(leaves))
    whole = join_calls(cse(Graph(inputs, tuple(outputs), names, title=first.title)))
    if not _is_enough(first, second, _work(whole)):
        return None
    order = {y: k for k, y in enumerate(dict.fromkeys(whole.outputs))}
    where = tuple(order[y] for y in whole.outputs)
    united = whole.replace(outputs=tuple(order))
    held = None if graph_key(united) is graph_key(first) else united
    return held, where[: len(first.outputs)], where[len(first.outputs) :]


def _is_enough(first: Graph, second: Graph, together: int) -> bool:
    """Whether at least half of what the smaller body computes is computed by both."""
    return 2 * (_work(first) + _work(second) - together) >= min(_work(first), _work(second))


def _work(body: Graph) -> int:
    return sum(1 for node in body.nodes if node.args)
