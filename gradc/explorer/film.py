"""The passes as a film: the graph after each, with what it changed in words.

Enters: what `observe(name, before, after)` is told.  Leaves: `Frame`s.  A pass that changes nothing has its frame too,
which says so.  Start reading at `Film`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.leaves import number_of
from gradc.ops.record import Kind
from gradc.passes.lineage import Lineage

#: what each step of the road does, for those who read it for the first time
WORDS = {
    "trace": "the function as it was written",
    "fold": "what depends on constants alone is computed now",
    "simplify": "identities that keep every bit",
    "cse": "equal computations become one",
    "stabilise": "forms that would overflow become their stable twins",
    "differentiate": "reverse mode: cotangents flow back from the result",
    "sizes": "named sizes become numbers",
    "dce": "what no result needs is dropped",
    "expand": "ops that are written in other ops become those",
    "inline": "loops of few steps are written out",
    "join": "loops that share work become one",
    "hoist": "what is the same in every step of a loop leaves it",
    "prune": "what a loop carries for nobody is dropped",
    "unfold": "folds become what gathers their terms",
    "share": "a softmax and its normaliser use the same exponentials",
    "together": "products of one large operand become one product",
}


@dataclass(frozen=True)
class Frame:
    """The graph after one step.  A node keeps its key from frame to frame for as long as it does the same."""

    name: str
    graph: Graph
    keys: Mapping[Node, int]
    changes: tuple[tuple[str, str], ...] = ()  #: what came ("+") and went ("−"), as counts of ops
    same: bool = False  #: whether the step changed nothing
    doing: str = ""  #: what the step does

    @property
    def words(self) -> str:
        """What the step does, and what that came to."""
        if self.same:
            came_to = "nothing to change here"
        elif self.changes or self.name == "trace":
            came_to = f"{len(shown_nodes(self.graph))} nodes"
        else:
            came_to = "" if self.doing else "the same ops, read in other ways"
        return "; ".join(filter(None, (self.doing or WORDS.get(self.name, ""), came_to)))


class Film:
    """Collects frames; an instance is what passes call as ``observe``, while ``lineage`` follows their rewrites."""

    def __init__(self, lineage: Lineage):
        self.frames: list[Frame] = []
        self._lineage, self._steps = lineage, 0
        self._keys = count()

    def __call__(self, name: str, before: Graph, after: Graph) -> None:
        if not self.frames:
            self.frames.append(Frame("trace", before, {node: next(self._keys) for node in before.nodes}))
        last = self.frames[-1]
        old, new = _census(last.graph), _census(after)
        came = [("+", _times(op, n)) for op, n in sorted((new - old).items())]
        went = [("−", _times(op, n)) for op, n in sorted((old - new).items())]
        same = not came and not went and _wiring(last.graph) == _wiring(after)
        self.frames.append(Frame(name, after, self._carried(last, after), (*came, *went), same))
        self._steps = len(self._lineage.steps)

    def _carried(self, last: Frame, after: Graph) -> dict[Node, int]:
        """Keys for ``after``: those of what nodes were before, if they still do the same; new ones for the others."""
        keys = {node: last.keys[node] for node in after.nodes if node in last.keys}
        for node, key in last.keys.items():
            for heir in self._heirs(node):
                if heir not in keys and heir in after.index and heir.op is node.op and node not in after.index:
                    keys[heir] = key
                    break
        return {node: keys[node] if node in keys else next(self._keys) for node in after.nodes}

    def _heirs(self, node: Node) -> tuple[Node, ...]:
        """What ``node`` became since the last frame."""
        heirs: tuple[Node, ...] = (node,)
        for step in self._lineage.steps[self._steps :]:
            heirs = tuple(dict.fromkeys(new for old in heirs for new in step.get(old, (old,))))
        return heirs


def _times(op: str, number: int) -> str:
    return f"{number} {op}" if number > 1 else op


def _census(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in shown_nodes(graph) if node.op.kind is not Kind.INPUT)


def _wiring(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.op.name, tuple(graph.index[a] for a in node.args)) for node in graph.nodes]


def is_number(node: Node) -> bool:
    """Whether a node is one number everywhere: it is shown where it is used."""
    return number_of(node) is not None


def shown_nodes(graph: Graph) -> Sequence[Node]:
    """The nodes of a picture: all but plain numbers, and inputs that nothing reads."""
    outputs = set(graph.outputs)
    unread = {n for n in graph.inputs if not graph.users[n] and n not in outputs}
    return [n for n in graph.nodes if (not is_number(n) or n in outputs) and n not in unread]


def node_flops(node: Node) -> int:
    """Arithmetic operations of a node, an elementwise one costing what its record says per element."""
    match node.op.kind:
        case Kind.ELEMENTWISE:
            return round(node.size * node.op.element_cost)
        case Kind.REDUCE | Kind.PREFIX:
            return node.args[0].size
        case Kind.CONTRACT:
            sizes = dict(zip(node.attrs["left"], node.args[0].shape, strict=True))
            sizes |= dict(zip(node.attrs["right"], node.args[1].shape, strict=True))
            total = 2
            for extent in sizes.values():
                total *= extent
            return total
    return 0


def node_bytes(node: Node) -> int:
    """Bytes of a node's result and of its operands, each once."""
    return node.nbytes + sum(a.nbytes for a in dict.fromkeys(node.args))
