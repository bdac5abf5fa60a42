"""Graph to schedule: which loops run, in which order, on which memory.

Enters: an optimised `Graph`.  Leaves: a `Schedule`, which names no instruction of any machine.
Start reading at `schedule`; the road is `partition` (what is stored), `fuse` (what is computed together), `weave` and
`nests` (loops and scalar code), `product` (matrix products), `loops` (loops that hold bodies, and branches), `split`
(what threads share), `memory` (order and arena).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import every_node
from gradc.ops.record import Kind
from gradc.schedule.assemble import Workshop, copy_kernel, kernel_of, number_kernel
from gradc.schedule.bodies import Holder
from gradc.schedule.fuse import clusters, in_order, read_outside, visible
from gradc.schedule.kernel import Buffer, Kernel, Place
from gradc.schedule.lanes import Widths
from gradc.schedule.memory import Plan, hidden_arrays, lay_out, ordered
from gradc.schedule.partition import addressed, is_scalar_constant, segments, stored_nodes
from gradc.schedule.plan import Schedule
from gradc.schedule.split import shared
from gradc.schedule.weave import dtype_name

__all__ = ["Schedule", "schedule"]


def schedule(graph: Graph, *, donated: Mapping[int, int] | None = None, target: Widths, threads: int = 1) -> Schedule:
    """Plan the run of ``graph``.

    ``donated`` maps input positions to the output positions that take over their storage; both must have one shape and
    dtype, and no input or output may occur twice.  ``target`` says how many elements of a dtype fill a vector register.
    ``threads`` may share the work; one of them is the caller's.
    """
    return _Planner(every_node(graph), target, threads).whole(graph, dict(donated or {}))


class _Planner:
    """Plans a graph, and the bodies in it; nodes are numbered over all of them, and equal requests planned once."""

    def __init__(self, number: Mapping[Node, int], target: Widths, threads: int):
        self.number, self.target, self.threads = number, target, threads
        self._known: dict[object, Schedule] = {}

    def whole(self, graph: Graph, donated: Mapping[int, int]) -> Schedule:
        """The schedule of the graph itself, complete: no body of another."""
        return self._planned(graph, donated, inside=False)

    def plan(self, graph: Graph, donated: Mapping[int, int]) -> Schedule:
        """The schedule of the body of something."""
        key = (graph, tuple(donated.items()))
        if key not in self._known:
            self._known[key] = self._planned(graph, donated, inside=True)
        return self._known[key]

    def _planned(self, graph: Graph, donated: Mapping[int, int], inside: bool) -> Schedule:
        segment = segments(graph)
        stored = stored_nodes(graph, segment)
        groups = clusters(stored, segment, self.target.shortest_row)
        read = read_outside(graph, groups)
        kept = visible(stored, read, groups)
        numbers = _numbers_returned(graph)  # written down, not copied from memory
        written = _numbers_addressed(kept) if inside else set[Node]()
        buffers, home = _buffers(graph, {n: None for n in kept if n not in numbers}, written, self.number)
        in_place = {graph.outputs[j] for j in donated.values()}
        shop = Workshop(home, self.number, self.target, read, in_place, self.plan)
        drafts = [kernel_of(in_order(c, graph.index), shop) for c in groups if c.nodes[0].aval.size]
        drafts += [number_kernel(n, number, shop) for n, number in home.items() if n in written]
        plan = Plan(
            drafts, buffers, lambda source, to: copy_kernel(source, to, plan.buffers, shop),
            lambda node, to: number_kernel(node, to, shop),
        )  # fmt: skip
        outputs = _output_copies(graph, plan, home, donated)
        storage = {outputs[j]: home[graph.inputs[i]] for i, j in donated.items()}
        again = {self.number[n]: n.replica for n in graph.nodes if n.replica}
        kernels, roomy = shared(ordered(plan, storage, again), plan.buffers, self.threads, self.target)
        kernels = [_with_bytes(k, roomy) for k in kernels]
        placed, temporary_bytes = lay_out(kernels, roomy)
        values = {number: node.attrs["value"] for node, number in home.items() if node.op.kind is Kind.CONSTANT}
        hidden = [b.number for b in placed if b.place is Place.HIDDEN]
        return Schedule(
            title=graph.title, buffers=tuple(placed), kernels=tuple(kernels),
            inputs=tuple(home[n] for n in graph.inputs), outputs=tuple(outputs),
            hidden=tuple(hidden), arrays=hidden_arrays([values[b] for b in hidden]),
            donated=donated, temporary_bytes=temporary_bytes, threads=self.threads,
            names={self.number[n]: name for n, name in graph.names.items() if n in graph.index},
        )  # fmt: skip


def _numbers_returned(graph: Graph) -> set[Node]:
    """Constants of one element that are results, and that no kernel reads by address."""
    found = {y for y in graph.outputs if is_scalar_constant(y)}
    return found - addressed(graph) if found else found


def _numbers_addressed(stored: Mapping[Node, None]) -> set[Node]:
    """Constants of one element that kernels of a body read by address.

    A body holds no arrays, and numbers are none (`gradc.ops.control.is_costless`): it writes these where they are read.
    """
    return {n for n in stored if is_scalar_constant(n)}


def _buffers(
    graph: Graph, stored: Mapping[Node, None], written: Set[Node], numbers: Mapping[Node, int]
) -> tuple[list[Buffer], dict[Node, int]]:
    """A buffer for every stored node, and the number of each node's; constants are hidden unless they are written."""
    inputs = {n: k for k, n in enumerate(graph.inputs)}
    outputs: dict[Node, int] = {}
    for k, n in enumerate(graph.outputs):
        outputs.setdefault(n, k)
    buffers: list[Buffer] = []
    home: dict[Node, int] = {}
    captured = 0
    for node in stored:
        if node in inputs:
            place, at = Place.INPUT, inputs[node]
        elif node.op.kind is Kind.CONSTANT and node not in written:
            place, at = Place.HIDDEN, captured
            captured += 1
        else:
            place, at = (Place.OUTPUT, outputs[node]) if node in outputs else (Place.ARENA, 0)
        home[node] = len(buffers)
        buffers.append(Buffer(len(buffers), place, dtype_name(node.dtype), node.shape, numbers[node], at))
    return buffers, home


def _output_copies(graph: Graph, plan: Plan, home: Mapping[Node, int], donated: Mapping[int, int]) -> list[int]:
    """The buffer of each output; one that is an input, a constant or an earlier output gets a buffer and a copy."""
    same = {(i, j) for i, j in donated.items()}
    outputs: list[int] = []
    for j, node in enumerate(graph.outputs):
        if node not in home:
            outputs.append(plan.write_number(node, j))
            continue
        own = plan.buffers[home[node]]
        if own.place is Place.OUTPUT and own.at == j:
            outputs.append(own.number)
            continue
        number = len(plan.buffers)
        plan.buffers.append(replace(own, number=number, place=Place.OUTPUT, at=j))
        outputs.append(number)
        if node.aval.size and not (own.place is Place.INPUT and (own.at, j) in same):
            plan.drafts.append(plan.copy(own.number, number))
    return outputs


def _with_bytes(kernel: Kernel, buffers: list[Buffer]) -> Kernel:
    """What a kernel reads and writes, each buffer once; bodies move theirs in every step."""
    inside = [work.bytes for work in kernel.work if isinstance(work, Holder)]
    if inside:
        return replace(kernel, bytes=sum(inside))
    touched = [kernel.slots[s] for s in {*kernel.reads} | {*kernel.writes}]
    return replace(kernel, bytes=sum(buffers[b].size * np.dtype(buffers[b].dtype).itemsize for b in touched))
