"""What nobody reads leaves loops, branches and calls; those that need not be one are written out.

A carry that no step changes is a const.  A loop whose result somebody reads is not dropped, even if all results are
known, where nothing says that it ends: then neither does the program.  A loop of no step is its start, a loop of one
step its body, a branch on a known bool the body it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node, derived_from
from gradc.ops.control import Loop, bodies, by_results, item, result_count, unrolled
from gradc.ops.custom import rule_of
from gradc.ops.record import Kind
from gradc.passes.fold import splat_value
from gradc.passes.inside import has_bodies
from gradc.passes.rules import mapped


def prune(graph: Graph) -> Graph:
    """Drop unread results, operands and carries; write out what runs at most once."""
    if not has_bodies(graph):
        return graph
    read: dict[Node, set[int]] = {}
    for node in graph.nodes:
        if node.op.kind is Kind.ITEM:
            read.setdefault(node.args[0], set()).add(node.attrs["index"])

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        with derived_from(node.where, node.replica):
            wanted = read.get(node, set())
            if node.op.kind is Kind.LOOP:
                return _loop(node, args, wanted)
            return _call(node, args, wanted)

    return mapped(graph, by_results(results))


def read_inputs(outputs: Iterable[Node]) -> set[Node]:
    """The leaves on which some of ``outputs`` depend."""
    return {n for n in topological(outputs) if n.op.name == "input"}


# -- loops -------------------------------------------------------------------------------------------------------------


def _loop(node: Node, args: tuple[Node, ...], wanted: set[int]) -> Sequence[Node] | None:
    loop = Loop.of(node.rebuilt(args))
    if loop.steps is not None and loop.steps <= 1:
        return unrolled(loop)
    count = len(loop.carries)
    steady = {k for k in range(count) if loop.next_carries[k] is loop.inner_carries[k]}
    live = _live_carries(loop, wanted)
    ys = [k for k in range(count, len(loop.body.outputs)) if k in wanted]
    outputs = [loop.body.outputs[k] for k in (*sorted(live), *ys)]
    used = read_inputs(outputs)
    if loop.cond is not None:  # its leaves are other ones than the body's
        tested = read_inputs(loop.cond.outputs)
        used |= {x for x, t in zip(loop.body.inputs, loop.cond.inputs, strict=False) if t in tested}
    kept = [k for k in range(count) if k in live and k not in steady]
    if loop.steps is None and loop.length is None and wanted.isdisjoint(kept):
        kept = sorted({*kept, *wanted})  # it stays, as long as it runs
    consts = [k for k, x in enumerate(loop.inner_consts) if x in used]
    moved = [k for k in sorted(steady & live) if loop.inner_carries[k] in used]
    xs = [k for k, x in enumerate(loop.inner_xs) if x in used]
    same = len(kept) == count and len(consts) == len(loop.consts) and len(xs) == len(loop.xs)
    if same and len(ys) == len(loop.ys):
        return None
    smaller = _smaller(loop, consts, moved, kept, xs, ys).node()
    places = {k: place for place, k in enumerate((*kept, *ys))}
    return [
        item(smaller, places[k]) if k in places else loop.carries[k] if k < count else item(node, k)
        for k in range(result_count(node))
    ]


def _live_carries(loop: Loop, wanted: set[int]) -> set[int]:
    """The carries that a result, or the condition, depends on."""
    live = {k for k in wanted if k < len(loop.carries)}
    ys = [loop.body.outputs[k] for k in wanted if k >= len(loop.carries)]
    if loop.cond is not None:
        tested = read_inputs(loop.cond.outputs)
        live |= {k for k in range(len(loop.carries)) if loop.cond.inputs[len(loop.consts) + k] in tested}
    while True:
        used = read_inputs([*ys, *(loop.next_carries[k] for k in live)])
        grown = live | {k for k, x in enumerate(loop.inner_carries) if x in used}
        if grown == live:
            return live
        live = grown


def _smaller(
    loop: Loop, consts: Sequence[int], moved: Sequence[int], kept: Sequence[int], xs: Sequence[int], ys: Sequence[int]
) -> Loop:
    """The loop with these parts only; carries that are ``moved`` become consts."""

    def inputs(graph: Graph, rows: Sequence[Node]) -> tuple[Node, ...]:
        fixed, carried = graph.inputs[: len(loop.consts)], graph.inputs[len(loop.consts) :]
        chosen = [*(fixed[k] for k in consts), *(carried[k] for k in (*moved, *kept))]
        return (*chosen, *rows)

    outputs = tuple(loop.body.outputs[k] for k in (*kept, *ys))
    return loop.rebuilt(
        body=loop.body.replace(inputs=inputs(loop.body, [loop.inner_xs[k] for k in xs]), outputs=outputs),
        cond=None if loop.cond is None else loop.cond.replace(inputs=inputs(loop.cond, [])),
        consts=(*(loop.consts[k] for k in consts), *(loop.carries[k] for k in moved)),
        carries=tuple(loop.carries[k] for k in kept), xs=tuple(loop.xs[k] for k in xs),
    )  # fmt: skip


# -- branches and calls ------------------------------------------------------------------------------------------------


def _call(node: Node, args: tuple[Node, ...], wanted: set[int]) -> Sequence[Node] | None:
    if rule_of(node) is not None:  # it speaks of all operands and results
        return None
    held, lead = bodies(node), 1 if node.op.kind is Kind.BRANCH else 0
    known = splat_value(args[0]) if lead else None
    if known is not None:
        return held["body" if bool(known) else "otherwise"].inlined(args[1:])
    results = sorted(wanted)
    outputs = {name: tuple(body.outputs[k] for k in results) for name, body in held.items()}
    used = {name: read_inputs(ys) for name, ys in outputs.items()}
    operands = len(args) - lead
    read = [k for k in range(operands) if any(body.inputs[k] in used[name] for name, body in held.items())]
    if len(read) == operands and len(results) == result_count(node):
        return None
    new = {
        name: body.replace(inputs=tuple(body.inputs[k] for k in read), outputs=outputs[name])
        for name, body in held.items()
    }
    plain = node.op.make((*args[:lead], *(args[lead + k] for k in read)), **new)
    made = Node(plain.op, plain.args, plain.attrs, plain.aval, node.where, None, node.replica)
    places = {k: place for place, k in enumerate(results)}
    return [item(made, places[k]) if k in places else item(node, k) for k in range(result_count(node))]
