"""Which stored nodes are computed by one kernel.

Enters: a graph and its stored nodes.  Leaves: `Cluster`s, each the nodes of one kernel.
Invariant: the clusters form a DAG, and inside a cluster a node reads another only at its own index, so one pass of the
loops computes both.  Start reading at `clusters`.

A node joins an earlier cluster if that is legal (no path leaves the cluster and comes back) and pays: they share what
they load, or one reads the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.record import LEAVES, Kind, has_results
from gradc.schedule.partition import MOST_WORK, Segments, cost, inlinable, is_multiply
from gradc.schedule.rows import Rows, reads_in_step

#: Below this many elements read or written, a kernel of one's own costs more than sharing loops with strangers.
SMALL = 2048
#: How many clusters of one shape are tried; keeps fusion linear in the number of nodes.
TRIED = 6
#: Most stored nodes of a loop over many elements: each is one more stream of memory.
MOST_NODES = 24
#: Most stored nodes of a loop over few elements that have nothing to do with each other: each is code, and LLVM's time
#: grows faster than the code of one loop.
MOST_SMALL_NODES = 64
#: Arithmetic that may follow a reduction along rows, where it is done one scalar at a time.
SCALAR_WORK = 8.0
#: Arithmetic that may follow a product, tile by tile; with more, one more pass over the result costs nothing.
EPILOGUE_WORK = 8.0
#: One kernel with several passes per row has at most so many nodes.
MOST_ROW_NODES = 12


@dataclass
class Cluster:
    """Nodes computed by one kernel, and the bits of the clusters on which it depends, directly or not."""

    number: int
    nodes: list[Node]
    computed: set[Node] = field(default_factory=set)  #: the nodes, and what is computed on the way to them
    here: set[Node] = field(default_factory=set)  #: stored nodes that are read at the index at which they are stored
    elsewhere: set[Node] = field(default_factory=set)  #: those that are read at other places
    work: float = 0.0
    before: int = 0  #: bit set of cluster numbers
    deps: set[int] = field(default_factory=set)  #: the direct ones of them
    readers: list[Cluster] = field(default_factory=list)  #: the clusters that depend on it directly

    @property
    def reads(self) -> set[Node]:
        return self.here | self.elsewhere


@dataclass(frozen=True)
class Reads:
    """The stored nodes that a node reads, at its own index or elsewhere, and what it computes between; ``aligned`` at
    its own index."""

    here: frozenset[Node]
    elsewhere: frozenset[Node]
    computed: frozenset[Node]
    aligned: frozenset[Node]

    def work(self, known: Set[Node] = frozenset()) -> float:
        """The cost of what is computed, but for what is known already."""
        return sum(map(cost, self.computed - known))


def clusters(stored: Mapping[Node, None], segment: Segments, shortest_row: int) -> list[Cluster]:
    """Clusters in an order of creation, which need not be an order in which they can run.

    Rows from ``shortest_row`` on are worth one kernel with several passes per row.
    """
    made: list[Cluster] = []
    home: dict[Node, Cluster] = {}
    by_key: dict[object, list[Cluster]] = {}
    for node in stored:
        if node.op.kind in (Kind.INPUT, Kind.CONSTANT):
            continue
        reads = _reads(node, stored)
        if node.op.kind is Kind.ITEM:
            _enter(node, reads, home[node.args[0]], home, made)
            continue
        key = _key(node, segment)
        candidates = by_key.setdefault(key, []) if key is not None else []
        cluster = _join(node, reads, candidates, home, made)
        if cluster is None:
            cluster = Cluster(len(made), [])
            made.append(cluster)
            candidates.append(cluster)
            del candidates[:-TRIED]
        _enter(node, reads, cluster, home, made)
    absorbed = _with_rows(made, home, stored, shortest_row) | _with_epilogues(made, home)
    return [c for c in made if c.number not in absorbed]


def _with_rows(made: list[Cluster], home: dict[Node, Cluster], stored: Mapping[Node, None], shortest: int) -> set[int]:
    """Clusters over the same rows, one of which reads the other, become one; returns the numbers of those moved."""
    absorbed: set[int] = set()
    for cluster in made:
        for read in sorted(cluster.reads, key=lambda n: home[n].number if n in home else -1, reverse=True):
            earlier = home.get(read)
            if earlier is None or earlier is cluster or cluster.number in absorbed:
                continue
            if _same_rows(earlier, cluster, stored, shortest) and not _comes_back(earlier, cluster.deps, made):
                absorbed.add(cluster.number)
                _absorb(earlier, cluster, home, made)
    return absorbed


def _same_rows(earlier: Cluster, later: Cluster, stored: Mapping[Node, None], shortest: int) -> bool:
    nodes = [*earlier.nodes, *later.nodes]
    rows = Rows.of(nodes) if len(nodes) <= MOST_ROW_NODES else None
    if rows is None or rows.length < shortest or not math.prod(rows.kept):
        return False
    if rows.axes != tuple(range(len(rows.kept), len(rows.shape))):
        return False
    if not all(rows.holds(n) and (is_map(n) or n.op.kind is Kind.REDUCE) for n in nodes):
        return False
    once = sum(cost(n) for c in (earlier, later) if not any(map(rows.is_whole, c.nodes)) for n in c.nodes)
    if once > rows.length:
        return False
    members = dict.fromkeys(nodes)
    return all(reads_in_step(n, rows, members, stored) for n in nodes)


def _with_epilogues(made: list[Cluster], home: dict[Node, Cluster]) -> set[int]:
    """Clusters of light maps move into the cluster of the product that they follow; returns their numbers."""
    absorbed: set[int] = set()
    for cluster in made:
        if home[cluster.nodes[0]] is not cluster:
            continue
        product = _followed(cluster, home)
        if product is not None and not _comes_back(product, cluster.deps, made):
            absorbed.add(cluster.number)
            _absorb(product, cluster, home, made)
    return absorbed


def _followed(cluster: Cluster, home: Mapping[Node, Cluster]) -> Cluster | None:
    """The product whose elements a cluster reads at its own index, and nowhere else."""
    if cluster.work > EPILOGUE_WORK or not all(map(is_map, cluster.nodes)):
        return None
    made_here = (n for n in cluster.here - cluster.elsewhere if n in home)
    for read in sorted(made_here, key=lambda n: home[n].number):  # a set of nodes has another order every time
        if read.op.kind is Kind.CONTRACT and not is_map(read) and len(home[read].nodes) == 1:
            return home[read]
    return None


def _absorb(product: Cluster, cluster: Cluster, home: dict[Node, Cluster], made: list[Cluster]) -> None:
    for reader in cluster.readers:
        reader.deps.discard(cluster.number)
        reader.deps.add(product.number)
        product.readers.append(reader)
    for node in cluster.nodes:
        reads = Reads(frozenset(cluster.here), frozenset(cluster.elsewhere), frozenset(), frozenset())
        _enter(node, reads, product, home, made)


def read_outside(graph: Graph, made: Iterable[Cluster]) -> set[Node]:
    """The nodes whose values leave their cluster."""
    read: set[Node] = set(graph.outputs)
    for cluster in made:
        read |= cluster.reads - {*cluster.nodes}
    return read


def visible(stored: Mapping[Node, None], read: set[Node], made: Iterable[Cluster]) -> dict[Node, None]:
    """The stored nodes that need a buffer: those read outside their cluster, and what no loop keeps in a register."""
    bulky = {n for cluster in made for n in cluster.nodes if not is_map(n) and n.op.kind is not Kind.REDUCE}
    kept = (n for n in stored if n in read or n in bulky or n.op.kind in LEAVES)
    return {n: None for n in kept if not has_results(n)}  # their values are those of the items


def in_order(cluster: Cluster, index: Mapping[Node, int]) -> list[Node]:
    """The nodes of a cluster, operands first; a product first of all, also before maps that do not read it."""
    return sorted(cluster.nodes, key=lambda n: (is_map(n) or n.op.kind is not Kind.CONTRACT, index[n]))


def is_map(node: Node) -> bool:
    """Whether a node's kernel is a plain loop over its elements."""
    return inlinable(node) or (node.op.kind is Kind.CONTRACT and is_multiply(node))


def _key(node: Node, segment: Segments) -> object:
    """Nodes with equal keys may share loops; None: never."""
    return (node.shape, segment[node]) if is_map(node) or node.op.kind is Kind.REDUCE else None


def _reads(node: Node, stored: Mapping[Node, None]) -> Reads:
    """Walk down from ``node`` to the stored nodes below it: through maps first, then through all that is beneath."""
    here: set[Node] = set()
    elsewhere: set[Node] = set()
    aligned: set[Node] = {node}  # computed at the index of ``node``
    moved: set[Node] = set()
    pending, beneath = [node], list[Node]()
    while pending:
        current = pending.pop()
        if current.op.kind is not Kind.ELEMENTWISE:
            beneath.append(current)
            continue
        for arg in current.args:
            if arg in stored:
                here.add(arg)
            elif arg not in aligned:
                aligned.add(arg)
                pending.append(arg)
    while beneath:
        for arg in beneath.pop().args:
            if arg in stored:
                elsewhere.add(arg)
            elif arg not in moved:
                moved.add(arg)
                beneath.append(arg)
    return Reads(frozenset(here), frozenset(elsewhere), frozenset(aligned | moved), frozenset(aligned))


def _join(
    node: Node, reads: Reads, candidates: Iterable[Cluster], home: Mapping[Node, Cluster], made: list[Cluster]
) -> Cluster | None:
    direct = _clusters_of(reads, home)
    for cluster in reversed([*candidates]):
        if _fits(node, reads, cluster) and not _comes_back(cluster, direct, made):
            return cluster
    return None


def _fits(node: Node, reads: Reads, cluster: Cluster) -> bool:
    if len(cluster.nodes) >= MOST_NODES and node.aval.size > SMALL:
        return False
    if len(cluster.nodes) >= MOST_SMALL_NODES and not _continues(reads, cluster):
        return False
    if not cluster.computed.isdisjoint(reads.elsewhere):
        return False
    if cluster.work + reads.work(cluster.computed) > 2 * MOST_WORK:
        return False
    if node.op.kind is Kind.REDUCE:
        return all(_same_loops(node, other) for other in cluster.nodes) and _related(node, reads, cluster)
    first = cluster.nodes[0]
    if first.op.kind is Kind.REDUCE:
        fast = reads.work() <= SCALAR_WORK or _keeps_last_axis(first) or node.aval.size <= 4
        return fast and not cluster.computed.isdisjoint(reads.here)
    return _related(node, reads, cluster)


def _continues(reads: Reads, cluster: Cluster) -> bool:
    """Whether the cluster has values in registers that would have to be loaded or computed again."""
    computed = cluster.computed
    return not computed.isdisjoint(reads.here) or any(n in computed and cost(n) for n in reads.aligned)


def _same_loops(a: Node, b: Node) -> bool:
    if a.op.kind is not Kind.REDUCE or b.op.kind is not Kind.REDUCE:
        return False
    return a.args[0].shape == b.args[0].shape and a.attrs["axes"] == b.attrs["axes"]


def _keeps_last_axis(reduce: Node) -> bool:
    operand = reduce.args[0]
    return operand.ndim - 1 not in reduce.attrs["axes"]


def _related(node: Node, reads: Reads, cluster: Cluster) -> bool:
    small = max(a.aval.size for a in (node, *node.args)) <= SMALL
    if small or not cluster.computed.isdisjoint(reads.here):
        return True
    return any(not mine.isdisjoint(theirs) for mine in (reads.here, reads.elsewhere)
               for theirs in (cluster.here, cluster.elsewhere))  # fmt: skip


def _clusters_of(reads: Reads, home: Mapping[Node, Cluster]) -> set[int]:
    """The clusters that store what is read."""
    return {home[read].number for reading in (reads.here, reads.elsewhere) for read in reading if read in home}


def _comes_back(cluster: Cluster, direct: Set[int], made: list[Cluster]) -> bool:
    """Whether something read (other than the cluster itself) depends on the cluster."""
    return any(made[k].before >> cluster.number & 1 for k in direct if k != cluster.number)


def _enter(node: Node, reads: Reads, cluster: Cluster, home: dict[Node, Cluster], made: list[Cluster]) -> None:
    home[node] = cluster
    cluster.nodes.append(node)
    cluster.here |= reads.here
    cluster.elsewhere |= reads.elsewhere
    cluster.work += reads.work(cluster.computed)
    cluster.computed |= reads.computed
    cluster.computed.add(node)
    before = cluster.before
    for number in _clusters_of(reads, home) - cluster.deps - {cluster.number}:
        cluster.deps.add(number)
        made[number].readers.append(cluster)
        before |= made[number].before | 1 << number
    _put_before(cluster, before)


def _put_before(cluster: Cluster, bits: int) -> None:
    """``bits`` run before the cluster, and so before all that depends on it."""
    changed = [cluster]
    while changed:
        later = changed.pop()
        if later.before | bits != later.before:
            later.before |= bits
            changed += later.readers
