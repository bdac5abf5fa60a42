"""What is stored and what is computed where it is read.

Enters: a graph.  Leaves: the nodes that get memory, in order.
Invariant: results, operands that some kernel needs in memory, and everything that is not elementwise or a plain view
are stored; of the rest, what is dear and read by several kernels.  Start reading at `stored_nodes`.

The cost model counts one for an addition; it ranks "compute again" against "store once and load", no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import Loop, is_costless
from gradc.ops.index import linear_index
from gradc.ops.record import HOLDERS, LEAVES, Kind
from gradc.schedule.affine import Affine, Var
from gradc.schedule.weave import is_plain_view, is_widening, through_view, whole_index

#: Storing and loading again costs about this much per element.
STORE_COST = 4.0
#: Longest chain of inlined nodes; keeps code blocks, and the recursion over them, small.
MAX_DEPTH = 60
#: Most work in the loops of one kernel.  Beyond some thousand instructions in a block, LLVM's time grows faster than
#: linearly and registers spill; storing and loading between two kernels costs far less.
MOST_WORK = 1024.0

#: For each node the number of its segment: nodes of one shape, in topological order, cut where their work adds up to
#: `MOST_WORK`.  Only nodes of one segment share loops, so the cuts are chosen before anything is stored, and a value is
#: computed in one segment and read from memory in later ones.
Segments = Mapping[Node, int]

#: Kinds whose nodes can be computed at the place where they are read.
INLINE = (Kind.ELEMENTWISE, Kind.VIEW, Kind.GATHER, Kind.INDEX)


def cost(node: Node) -> float:
    """Cost of one element of a node that is computed where it is read."""
    return node.op.element_cost


def is_scalar_constant(node: Node) -> bool:
    return node.op.kind is Kind.CONSTANT and node.aval.size == 1


def inlinable(node: Node) -> bool:
    """Whether a node may be computed where it is read."""
    if node.op.kind is Kind.CONSTANT:
        return node.size == 1
    return node.op.kind in INLINE and (node.op.kind is not Kind.VIEW or is_plain_view(node))


def segments(graph: Graph) -> Segments:
    """The segment of each node; see `Segments`."""
    done: dict[object, float] = {}
    result: dict[Node, int] = {}
    for node in graph.nodes:
        work = done[node.shape] = done.get(node.shape, 0.0) + cost(node)
        result[node] = int(work / MOST_WORK)
    return result


def stored_nodes(graph: Graph, segment: Segments) -> dict[Node, None]:
    """The nodes that get a buffer (inputs and captured arrays among them), in topological order."""
    stored = _forced(graph)
    _cut_long_chains(graph, stored)
    _store_dear(graph, stored, segment)
    return {node: None for node in graph.nodes if node in stored}


def _forced(graph: Graph) -> dict[Node, None]:
    stored: dict[Node, None] = dict.fromkeys((*graph.inputs, *graph.outputs))
    for node in graph.nodes:
        if not inlinable(node):
            stored[node] = None
        if node.aval.size:
            stored.update(dict.fromkeys(_needed_in_memory(node)))
    return stored


def addressed(graph: Graph) -> set[Node]:
    """The nodes that some kernel reads by address."""
    return {operand for node in graph.nodes if node.aval.size for operand in _needed_in_memory(node)}


def _needed_in_memory(node: Node) -> Iterator[Node]:
    """Operands that the kernel of ``node`` addresses by itself."""
    kind = node.op.kind
    if kind is Kind.GATHER:
        yield node.args[0]
    elif kind in (Kind.SORT, Kind.SEARCH, Kind.WHOLE):
        yield from node.args
    elif kind is Kind.CONTRACT and not is_multiply(node):
        yield from (memory_operand(a) for a in node.args)
    elif kind in HOLDERS:
        yield from (a for a in _read_by_address(node) if not is_costless(a))


def _read_by_address(node: Node) -> tuple[Node, ...]:
    """The operands of a loop or branch that its body reads where they lie; what carries start with is written anew."""
    if node.op.kind is not Kind.LOOP:
        return node.args
    loop = Loop.of(node)
    return (*loop.consts, *loop.xs)


def is_multiply(contract: Node) -> bool:
    """Whether nothing is summed, so that a contract is an elementwise product."""
    summed = {*contract.attrs["left"], *contract.attrs["right"]} - {*contract.attrs["out"]}
    return not summed


def memory_operand(node: Node) -> Node:
    """The node below plain views and widening casts whose buffer an operand of a product is read from by strides."""
    index = whole_index(node.shape)
    best = node
    while node.aval.size and (is_widening(node) or is_plain_view(node)):
        node, index = (node.args[0], index) if is_widening(node) else through_view(node, index)
        if Affine.of(linear_index(index, node.shape)).quotients:
            break
        best = node
    return best


def _cut_long_chains(graph: Graph, stored: dict[Node, None]) -> None:
    """Store a node where what would be computed in one place grows too deep or too much."""
    depth: dict[Node, int] = {}
    work: dict[Node, float] = {}
    for node in graph.nodes:
        whole = node in stored
        depth[node] = 0 if whole else 1 + max([depth[a] for a in node.args], default=0)
        work[node] = 0.0 if whole else cost(node) + sum([work[a] for a in dict.fromkeys(node.args)])
        if depth[node] > MAX_DEPTH or (work[node] > MOST_WORK / 2 and node.op.kind is Kind.ELEMENTWISE):
            stored[node] = None
            depth[node], work[node] = 0, 0.0


def _store_dear(graph: Graph, stored: dict[Node, None], segment: Segments) -> None:
    """Walk from the users down: a node whose recomputation by its readers costs more than memory is stored."""
    work = _inlined_cost(graph, stored)
    readers: dict[Node, Readers] = {node: {} for node in graph.nodes}
    for number in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[number]
        if node.op.kind is Kind.ELEMENTWISE and node not in stored and _dear(node, work[node], readers[node]):
            stored[node] = None
        reading = {_loop_key(node, number, segment): _elements(node)} if node in stored else readers[node]
        hoisted = _hoisted(node)
        for arg in node.args:
            for key, count in reading.items():
                readers[arg][key] = max(readers[arg].get(key, 0.0), count / hoisted)


#: The loops that read a node, each with how many of its elements it would compute if the node were inlined.
Readers = dict[object, float]


def _loop_key(node: Node, number: int, segment: Segments) -> object:
    """Stored elementwise nodes of one shape and segment tend to become one loop; anything else is its own."""
    return (node.shape, segment[node]) if node.op.kind is Kind.ELEMENTWISE else number


def _elements(node: Node) -> float:
    return float(max(a.aval.size for a in (node, *node.args)))


def _hoisted(node: Node) -> int:
    """How many neighbouring elements of a view show the same operand element, which a loop then computes once."""
    if node.op.kind is not Kind.VIEW or not node.aval.size or not is_plain_view(node):
        return 1
    _, place = through_view(node, whole_index(node.shape))
    used = frozenset().union(*(i.variables for i in place))
    repeats = 1
    for var in [Var(k, n) for k, n in enumerate(node.shape)][::-1]:
        if var.extent > 1 and var in used:
            break
        repeats *= var.extent
    return repeats


def _dear(node: Node, work: float, readers: Readers) -> bool:
    times = sum(readers.values()) / max(node.aval.size, 1)
    return work >= STORE_COST and work * (times - 1) > STORE_COST


def _inlined_cost(graph: Graph, stored: Mapping[Node, None]) -> dict[Node, float]:
    work: dict[Node, float] = {}
    for node in graph.nodes:
        if node in stored or node.op.kind in LEAVES:
            work[node] = 0.0
        else:
            work[node] = min(cost(node) + sum([work[a] for a in node.args]), 1e6)
    return work
