"""Which compiled kernel is wrong: each alone on the interpreter's inputs, then node by node, then the plan.

Enters: the stages of what was compiled, and its arguments.  Leaves: `Finding`s. *Kernel*: a function is made of one
kernel; what it writes is held against the interpreter's values.  A wrong one is cut short: the graph up to each of
its nodes is compiled on its own until the value is wrong.  *Plan*: if every kernel is right alone, the schedule is run
up to each kernel in its own arena; the first that goes wrong there reads memory that another one wrote over, or runs
too early. Invariant: a value is wrong only beyond the running error bound of the node's own dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.graph import Graph, rewrite
from gradc.interpret import interpret, topological
from gradc.machines.cpu import HostCpu
from gradc.machines.machine import Code
from gradc.machines.stages import Stages
from gradc.node import Node
from gradc.ops.control import inner_leaf
from gradc.ops.record import LEAVES, Kind, has_results
from gradc.oracle.bounds import bounded
from gradc.oracle.report import Finding
from gradc.runtime.blocks import BlockCall, zeroed
from gradc.schedule.kernel import Buffer, Place

if TYPE_CHECKING:
    from gradc.oracle.estimates import CompileGraph

Array = np.ndarray[Any, Any]
Values = Mapping[Node, Array]


def kernel_findings(stages: Stages, arrays: Sequence[Any], compile_graph: CompileGraph) -> list[Finding]:
    """The first node whose compiled value is wrong in the schedule of ``stages``; [] if all are right."""
    values: dict[Node, Any] = dict(zip(stages.lowered.inputs, map(np.asarray, arrays), strict=True))
    interpret(stages.lowered.nodes, values)
    for number in range(len(stages.schedule.kernels)):
        found = _kernel_finding(stages, number, values, compile_graph)
        if found is not None:
            return [found]
    found = _plan_finding(stages, values)
    return [] if found is None else [found]


def truncation_findings(graph: Graph, arrays: Sequence[Any], compile_graph: CompileGraph) -> list[Finding]:
    """The first node of ``graph`` whose value is wrong when ``compile_graph`` compiles the graph up to it."""
    values: dict[Node, Any] = dict(zip(graph.inputs, map(np.asarray, arrays), strict=True))
    interpret(graph.outputs, values)
    node = _first_wrong(graph.nodes, graph.inputs, values, compile_graph)
    if node is None:
        return []
    words = "its compiled value is wrong when the graph ends here"
    return [Finding("kernel", "lowering", node.op.name, graph.index[node], node.where, words)]


# -- one kernel --------------------------------------------------------------------------------------------------------


def _kernel_finding(stages: Stages, number: int, values: Values, compile_graph: CompileGraph) -> Finding | None:
    plan, graph, cpu = stages.schedule, stages.lowered, _cpu(stages)
    kernel = plan.kernels[number]
    reads = [plan.buffers[kernel.slots[s]] for s in kernel.reads]
    writes = [plan.buffers[kernel.slots[s]] for s in kernel.writes]
    results = [np.zeros(b.shape, b.dtype) for b in writes]
    code = cpu.emit_alone(plan, stages.options, number)
    run = _linked(stages, code, zeroed(code.arena_bytes))
    status = run([_value(b, graph, values) for b in reads], results)
    wrong = [b for b, got in zip(writes, results, strict=True) if not _right(b, got, reads, graph, values)]
    if not status and not wrong:
        return None
    boundary = [graph.nodes[b.node] for b in reads if b.node >= 0]
    last = graph.nodes[wrong[0].node if wrong else kernel.nodes[-1]]
    inside = topological([last], dict.fromkeys(boundary))
    first = _first_wrong(inside, boundary, values, compile_graph)
    node = last if first is None else first
    words = f"kernel {number} ({kernel.title}) alone, on the interpreter's inputs, " + (
        f"reported status {status}" if status else "computes other values"
    )
    return Finding("kernel", "lowering", node.op.name, graph.index[node], node.where, words)


def _value(buffer: Buffer, graph: Graph, values: Values) -> Array:
    if buffer.node < 0:
        return np.zeros(buffer.shape, buffer.dtype)
    return np.ascontiguousarray(values[graph.nodes[buffer.node]], buffer.dtype).reshape(buffer.shape)


def _right(buffer: Buffer, got: Array, reads: Sequence[Buffer], graph: Graph, values: Values) -> bool:
    if buffer.node < 0:
        return True
    node = graph.nodes[buffer.node]
    given = {graph.nodes[b.node]: values[graph.nodes[b.node]] for b in reads if b.node >= 0}
    return node in given or agrees(node, got.reshape(node.shape), given, values)


def agrees(node: Node, got: Array, given: Values, values: Values) -> bool:
    """Whether ``got`` is the node's value, up to the rounding of its own dtype from exact values ``given``."""
    leaves = {n: values[n] for n in topological([node], given) if n not in given and n.op.kind is Kind.INPUT}
    known = bounded([node], {**given, **leaves})
    value, bound = known.values[node], known.errors[node]
    with np.errstate(all="ignore"):
        expected = value.astype(node.dtype).astype(np.float64)
        found = got.astype(np.float64)
        inside = np.abs(found - value.astype(np.float64)) <= bound
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    return bool(np.all(inside | same | ~np.isfinite(bound)))


def _first_wrong(
    nodes: Sequence[Node], boundary: Sequence[Node], values: Values, compile_graph: CompileGraph
) -> Node | None:
    """The first of ``nodes`` whose value, compiled from exact values of ``boundary``, is wrong."""
    leaves = {n: inner_leaf(n.aval, "x") for n in boundary}
    for node in nodes:
        if node.op.kind in LEAVES or has_results(node) or node in leaves:
            continue
        (cut,) = rewrite([node], lambda n, args: None, leaves)
        needed = [n for n in boundary if leaves[n] in set(topological([cut]))]
        graph = Graph(tuple(leaves[n] for n in needed), (cut,))
        try:
            (got,) = compile_graph(graph)([np.ascontiguousarray(values[n]) for n in needed])
        except Exception:  # the compiler failed on this node: that is the finding
            return node
        if not agrees(node, np.asarray(got).reshape(node.shape), {n: values[n] for n in needed}, values):
            return node
    return None


# -- the plan ----------------------------------------------------------------------------------------------------------


def _plan_finding(stages: Stages, values: Values) -> Finding | None:
    """Run the first k kernels in the real arena, for every k, and look at what the k-th wrote."""
    plan, graph, cpu = stages.schedule, stages.lowered, _cpu(stages)
    for count, kernel in enumerate(plan.kernels, 1):
        arguments = [_value(plan.buffers[b], graph, values) for b in plan.inputs]
        arguments = [a.copy() if i in plan.donated else a for i, a in enumerate(arguments)]
        arguments += [np.ascontiguousarray(a) for a in plan.arrays]
        outputs = [np.zeros(plan.buffers[b].shape, plan.buffers[b].dtype) for b in plan.outputs]
        for i, j in plan.donated.items():
            outputs[j] = arguments[i].reshape(outputs[j].shape)
        code = cpu.emit_first(plan, stages.options, count)
        arena = zeroed(code.arena_bytes)
        _linked(stages, code, arena)(arguments, outputs)
        reads = [plan.buffers[kernel.slots[s]] for s in kernel.reads]
        for buffer in (plan.buffers[kernel.slots[s]] for s in kernel.writes):
            got = _stored(buffer, outputs, arena)
            if got is not None and not _right(buffer, got, reads, graph, values):
                node = graph.nodes[buffer.node]
                words = (
                    f"kernel {count - 1} is right alone but wrong in the schedule: an operand ({_places(reads)}) was "
                    "overwritten or not yet written"
                )
                return Finding("plan", "memory plan", node.op.name, graph.index[node], node.where, words)
    return None


def _stored(buffer: Buffer, outputs: Sequence[Array], arena: Array) -> Array | None:
    if buffer.place is Place.OUTPUT:
        return outputs[buffer.at]
    if buffer.place is Place.ARENA:
        size = buffer.size * np.dtype(buffer.dtype).itemsize
        return arena[buffer.at : buffer.at + size].view(buffer.dtype).reshape(buffer.shape).copy()
    return None


def _places(buffers: Sequence[Buffer]) -> str:
    return ", ".join(f"{b} in {b.place.value}" for b in buffers)


# -- calling -----------------------------------------------------------------------------------------------------------


def _cpu(stages: Stages) -> HostCpu:
    assert isinstance(stages.machine, HostCpu)  # what has error bounds runs here
    return stages.machine


def _linked(stages: Stages, code: Code, arena: Array) -> BlockCall:
    """The function in ``code``, with ``arena`` for its scratch."""
    return BlockCall(_cpu(stages).link(code, stages.options), arena)
