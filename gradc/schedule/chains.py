"""Which kernel needs which: the dependences of a schedule as a networkx graph, and its longest chain.

Enters: a `Schedule`, and what each kernel takes.  Leaves: the graph, or the kernels of a chain.
Invariant: an edge leads from a kernel to a later one that reads what it wrote, or writes over what it read or wrote
(into a donated argument; that values take turns in the arena is the plan's choice, and no dependence).
Kernels without a path between them could run side by side; a chain cannot be shortened by any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradc.schedule.plan import Schedule

if TYPE_CHECKING:
    import networkx as nx


def needs(schedule: Schedule) -> nx.DiGraph[int]:
    """The kernels by number, each with edges to those that must wait for it; ``buffers`` says for which."""
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    place = {schedule.outputs[j]: schedule.inputs[i] for i, j in schedule.donated.items()}  # one memory, two buffers
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for number, kernel in enumerate(schedule.kernels):
        graph.add_node(number)
        touched = [place.get(b, b) for b in kernel.slots]
        reads, writes = ({touched[s] for s in slots} for slots in (kernel.reads, kernel.writes))
        earlier = [(writer[b], b) for b in reads | writes if b in writer]
        earlier += [(reader, b) for b in writes for reader in readers.get(b, ())]
        for before, buffer in sorted(earlier):
            if before != number:
                known = graph.edges[before, number]["buffers"] if graph.has_edge(before, number) else ()
                graph.add_edge(before, number, buffers=(*known, buffer))
        for b in reads - writes:
            readers.setdefault(b, []).append(number)
        for b in writes:
            writer[b] = number
            readers[b] = []
    return graph


def longest_chain(schedule: Schedule, taken: Sequence[float]) -> tuple[int, ...]:
    """The kernels that need each other, one after another, and together take longest; ``taken``: what each takes."""
    import networkx as nx

    graph = needs(schedule)
    for before, after in graph.edges:
        graph.edges[before, after]["takes"] = taken[after]
    start = -1  # before all: what the first kernel takes is on an edge, too
    graph.add_edges_from((start, k, {"takes": taken[k]}) for k in range(len(schedule.kernels)))
    return tuple(nx.dag_longest_path(graph, weight="takes")[1:]) if schedule.kernels else ()
