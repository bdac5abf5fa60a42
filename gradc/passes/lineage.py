"""What became of each node: the way from a graph through all passes to the last graph.

Enters: the rewrites that run while somebody follows.  Leaves: for each node of an earlier graph, the nodes of the last
one that stand for it.
The rule, for one rewrite: a node became its replacement and what was made along with it; a node that is gone lives on
in what its readers became — x·(1/y) → x/y makes of the reciprocal a part of the quotient.  Nothing is matched by name
or looks.  Start reading at `following`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from gradc.graph import Graph
from gradc.node import Node

#: what a node became; a node that is not there stayed what it was
Step = dict[Node, tuple[Node, ...]]


class Lineage:
    """The rewrites so far, in order."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def became(self, last: Graph) -> dict[Node, frozenset[Node]]:
        """For each node that was there at any time, what it became in ``last``: nothing, if it leads nowhere."""
        nothing = frozenset[Node]()
        became = {node: frozenset((node,)) for node in last.nodes}
        for step in reversed(self.steps):
            became |= {old: nothing.union(*(became.get(node, nothing) for node in new)) for old, new in step.items()}
        return became

    def origins(self, last: Graph) -> dict[Node, frozenset[Node]]:
        """For each node of ``last``, what became it: all nodes on the way, itself among them."""
        found: dict[Node, set[Node]] = {node: {node} for node in last.nodes}
        for old, heirs in self.became(last).items():
            for heir in heirs:
                found[heir].add(old)
        return {node: frozenset(olds) for node, olds in found.items()}


_following: ContextVar[Lineage | None] = ContextVar("gradc_following", default=None)


@contextmanager
def following() -> Iterator[Lineage]:
    """Follow the nodes through every rewrite that runs inside."""
    lineage = Lineage()
    token = _following.set(lineage)
    try:
        yield lineage
    finally:
        _following.reset(token)


def rewritten(before: Graph, known: Mapping[Node, Node], after: Graph) -> None:
    """Tell whoever follows that ``before`` became ``after``, each node what ``known`` says."""
    lineage = _following.get()
    if lineage is not None:
        lineage.steps.append(_step(before, known, after))


def _step(before: Graph, known: Mapping[Node, Node], after: Graph) -> Step:
    there = set(after.nodes)
    images = {new for new in (known.get(node, node) for node in before.nodes) if new in there}
    made = _made_for(after, images)
    heirs: Step = {}
    for node in reversed(before.nodes):
        image = known.get(node, node)
        if image in there:
            heirs[node] = (image, *made.get(image, ()))
        else:
            heirs[node] = tuple(dict.fromkeys(heir for user in before.users[node] for heir in heirs[user]))
    return {node: new for node, new in heirs.items() if len(new) != 1 or new[0] is not node}


def _made_for(after: Graph, images: set[Node]) -> dict[Node, list[Node]]:
    """The nodes that a rewrite made, by the replacements that read them, directly or through each other."""
    owners: dict[Node, tuple[Node, ...]] = {}
    made: dict[Node, list[Node]] = {}
    for node in reversed(after.nodes):
        if node in images:
            owners[node] = (node,)
            continue
        owners[node] = tuple(dict.fromkeys(owner for user in after.users[node] for owner in owners[user]))
        for owner in owners[node]:
            made.setdefault(owner, []).append(node)
    return made
