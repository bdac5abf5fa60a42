"""Rematerialisation: what the backward pass reads is computed again where that costs less than to keep it.

Enters: an optimised graph, and its turn, the node where the forward pass ends and the backward pass begins (a loss).
Leaves: graphs of the same function that keep less and less of the forward pass, and compute more and more of it again.
The first computes again what is cheap and not much larger than what it is made of: what is kept is a minimum cut
between the dear operations and what the backward pass reads (Jain et al., "Checkmate", MLSys 2020, state the problem;
the cut is that of PyTorch's AOTAutograd).  The others divide the forward pass into segments at minimum cuts and compute
each again as a whole before its backward pass (Chen et al., arXiv:1604.06174).
Invariant: every copy is the same op on the same operands, so all results keep their bits.  Copies carry a `replica`
number, lower ones for what is read first.  Start reading at `rematerialised`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.record import LEAVES, Kind, has_results
from gradc.passes.rules import mapped

#: kinds that are cheap to compute again: their cost is that of reading their operands
CHEAP = (Kind.ELEMENTWISE, Kind.REDUCE, Kind.VIEW)
#: how many segments more the forward pass is divided in each time, until the memory suffices
GROWTH = 1.25
#: around each place where segments should meet, the part of a segment in which the smallest cut is looked for
WINDOW = 0.5


@dataclass(frozen=True)
class Rematerialised:
    """A graph that computes part of its forward pass again; ``kept`` bytes of it wait for the backward pass."""

    graph: Graph
    kept: int
    how: str


def rematerialised(graph: Graph, turn: Node) -> Iterator[Rematerialised]:
    """The graph itself, then others that keep less; ``turn`` is the last node of the forward pass."""
    forward = _Forward(graph, turn)
    yield Rematerialised(graph, forward.bytes_of(forward.read), "everything is kept")
    cheap = forward.cheap_cut()
    if cheap is not None:
        yield forward.again(cheap, forward.by_distance(), "what is cheap is computed again")
    count = 2
    while count <= len(forward.read):
        parts = forward.segments(count)
        if parts is not None:
            yield forward.again(*parts, f"the forward pass is computed again in {count} segments")
        count = max(count + 1, int(count * GROWTH))


class _Forward:
    """The forward pass of a graph: the nodes that its turn is made of, and those of them that the rest reads."""

    def __init__(self, graph: Graph, turn: Node):
        self.graph = graph
        inside = {turn}
        for node in reversed(graph.nodes):  # operands stand before who reads them
            if node in inside:
                inside.update(node.args)
        inside.update(n for n in graph.nodes if n.op.kind is Kind.ITEM and n.args[0] in inside)
        self.order = [n for n in graph.nodes if n in inside and n.op.kind not in LEAVES]
        self.inside = frozenset(self.order)
        self.valued = [n for n in self.order if n.op.kind is not Kind.VIEW]
        self.number = {n: k for k, n in enumerate(self.valued)}  # a flow's nodes are a value's number, before and after
        self._shown: dict[Node, tuple[Node, ...]] = {}  # what each view of the forward pass shows
        for node in self.order:
            if node.op.kind is Kind.VIEW:
                self._shown[node] = self._sources(node)
        self.sources = {n: self._sources(n) for n in self.valued}
        self.place = self._places()
        outside = [n for n in graph.nodes if n not in inside]
        self.read = {s for n in outside for s in self._sources(n)}
        """What has to be there when the backward pass begins, or be computed again."""

    def _sources(self, node: Node) -> tuple[Node, ...]:
        """The values of the forward pass that ``node`` reads, through whatever views."""
        found: dict[Node, None] = {}
        for x in node.args:
            if x in self.inside:
                found.update(dict.fromkeys(self._shown.get(x, (x,))))
        return tuple(found)

    def _places(self) -> dict[Node, int]:
        """Positions in the forward pass; results of one node stand where it does."""
        places: dict[Node, int] = {}
        for k, node in enumerate(self.valued):
            places[node] = places[node.args[0]] if node.op.kind is Kind.ITEM else k
        return places

    @staticmethod
    def bytes_of(nodes: Iterable[Node]) -> int:
        return sum(n.size * n.dtype.itemsize for n in nodes if not has_results(n))

    # -- what is kept --------------------------------------------------------------------------------------------------
    def cheap_cut(self) -> set[Node] | None:
        """The fewest bytes from which the rest is computed by cheap operations alone."""
        import networkx as nx

        flow = nx.DiGraph()
        flow.add_nodes_from(("begin", "end"))
        for k, node in enumerate(self.valued):
            self._may_keep(flow, k)
            if node.op.kind not in CHEAP:
                flow.add_edge("begin", (k, 0))
            for x in self.sources[node] if node.op.kind in CHEAP else ():
                flow.add_edge((self.number[x], 1), (k, 0))
            if node in self.read:
                flow.add_edge((k, 1), "end")
        sides = _sides(flow)
        if sides is None:
            return None
        return {n for k, n in enumerate(self.valued) if (k, 0) in sides and (k, 1) not in sides}

    def segments(self, count: int) -> tuple[set[Node], Mapping[Node, int]] | None:
        """What is kept where segments meet, and the segment of each node, counted from the last."""
        total = self.bytes_of(self.read)
        ends, grown, last = [], 0, len(self.valued)
        for node in self.valued:
            grown += self.bytes_of({node} & self.read)
            ends.append(grown)
        kept: set[Node] = set()
        part_of: dict[Node, int] = {}
        before: set[Node] = set()
        for k in range(1, count):
            around = [total * (k + side * WINDOW / 2) / count for side in (-1, 1)]
            start, stop = (next((i for i, e in enumerate(ends) if e >= a), last) for a in around)
            found = self._cut_between(start, max(stop, start + 1))
            if found is None:
                return None
            left, first = found
            if len(first) <= len(before):
                return None
            kept |= left
            part_of |= dict.fromkeys(first - before, count - k)
            before = first
        return kept.union(n for n in self.valued if n not in part_of), part_of

    def _cut_between(self, start: int, stop: int) -> tuple[set[Node], set[Node]] | None:
        """The smallest set of values that parts what stands before ``start`` from what stands at ``stop`` or after.

        And all values that are computed before the cut.
        """
        import networkx as nx

        flow = nx.DiGraph()
        flow.add_nodes_from(("begin", "end"))
        for k, node in enumerate(self.valued):
            for x in self.sources[node]:
                if self.place[node] >= start and self.place[x] < stop:
                    late, j = self.place[node] >= stop, self.number[x]
                    flow.add_edge((j, 1), "end" if late else (k, 0))
                    if not late:
                        flow.add_edge((k, 0), (j, 0))  # who is before the cut has its operands there
        for k in {key[0] for key in flow if isinstance(key, tuple)}:
            self._may_keep(flow, k)
            if self.place[self.valued[k]] < start:
                flow.add_edge("begin", (k, 0))
        sides = _sides(flow)
        if sides is None:
            return None
        early = {n for k, n in enumerate(self.valued) if self.place[n] < start or (k, 0) in sides}
        cut = {n for n in early if (self.number[n], 1) in flow and (self.number[n], 1) not in sides}
        return cut, early

    def _may_keep(self, flow: Any, k: int) -> None:
        """To keep a value costs its bytes; a node with several results is no value, and cannot be kept."""
        node = self.valued[k]
        if has_results(node):
            flow.add_edge((k, 0), (k, 1))
        else:
            flow.add_edge((k, 0), (k, 1), capacity=max(1, self.bytes_of((node,))))

    def by_distance(self) -> Mapping[Node, int]:
        """A number for each node of the forward pass, lower for later ones, which the backward pass reads first."""
        return {n: len(self.order) - k for k, n in enumerate(self.order)}

    # -- computing again -----------------------------------------------------------------------------------------------
    def again(self, kept: set[Node], part_of: Mapping[Node, int], how: str) -> Rematerialised:
        """The graph in which the backward pass reads copies of all that is not ``kept``."""
        first = 1 + max((n.replica for n in self.graph.nodes), default=0)
        for node in self.order:
            if node.op.kind is Kind.VIEW and kept.issuperset(self.inside.intersection(node.args)):
                kept.add(node)
        copies: dict[Node, Node] = {}
        used: set[Node] = set()

        def copy(node: Node) -> Node:
            pending = [node]
            while pending:
                top = pending[-1]
                missing = [a for a in top.args if self._again(a, kept) and a not in copies]
                if top in copies or not self._again(top, kept):
                    pending.pop()
                elif missing:
                    pending += missing
                else:
                    args = tuple(copies.get(a, a) for a in top.args)
                    used.update(a for a in top.args if a in kept)
                    number = first + part_of[top] if top in part_of else max(a.replica for a in args)
                    copies[top] = Node(top.op, args, top.attrs, top.aval, top.where, None, number)
                    pending.pop()
            return copies.get(node, node)

        def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
            if node in self.inside or node.op.kind in LEAVES:
                return None
            used.update(a for a in args if a in kept)
            new = tuple(copy(a) if a in self.inside else a for a in args)
            return None if all(a is b for a, b in zip(new, args, strict=True)) else node.rebuilt(new)

        graph = mapped(self.graph, rule)
        return Rematerialised(graph, self.bytes_of(n for n in used if n.op.kind is not Kind.VIEW), how)

    def _again(self, node: Node, kept: Set[Node]) -> bool:
        return node in self.inside and node not in kept


def _sides(flow: Any) -> set[Any] | None:
    """The side of the source of a minimum cut from "begin" to "end"; None where no cut is finite."""
    import networkx as nx

    try:
        _, (first, _) = nx.minimum_cut(flow, "begin", "end")
    except nx.NetworkXUnbounded:
        return None
    return set(first)


__all__ = ["Rematerialised", "rematerialised"]
