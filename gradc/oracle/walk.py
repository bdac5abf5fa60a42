"""Nodes evaluated one after another in float64, bodies included, with a word to say about each value.

Enters: nodes and values of the leaves.  Leaves: values.  What a node computes is the NumPy meaning in its record; then
``settle`` may replace it (by a rounded value, say).  The order of a body is found once, and what reads no operand of it
is computed once.  Start reading at `Walk`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.diff.widen import widen_array
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import Loop, bodies
from gradc.ops.record import HOLDERS, LEAVES, Kind, has_results
from gradc.oracle.wide import computed

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]
Settle = Callable[[Node, Arrays, Array], Array]


class Walk:
    """Evaluation of nodes in order; ``settle(node, operands, value)`` says what value stands."""

    def __init__(self, settle: Settle | None = None):
        self._settle = settle
        self._orders: dict[int, tuple[Graph, list[Node], dict[Node, Any]]] = {}

    def __call__(self, outputs: Sequence[Node], values: Mapping[Node, Array]) -> list[Array]:
        """The values of ``outputs``; those of inputs, or of inner nodes, are given."""
        known: dict[Node, Any] = {n: widen_array(v) for n, v in values.items() if not has_results(n)}
        with np.errstate(all="ignore"):
            self._run([n for n in topological(outputs, known) if n not in known], known)
        return [known[y] for y in outputs]

    def _run(self, order: Sequence[Node], known: dict[Node, Any]) -> None:
        settle = self._settle
        for node in order:
            args = [known[a] for a in node.args]
            kind = node.op.kind
            if kind is Kind.ITEM:
                known[node] = args[0][node.attrs["index"]]
            elif kind in HOLDERS:
                known[node] = self._through_bodies(node, args)
            else:
                value = computed(node, args)
                known[node] = value if settle is None or has_results(node) else settle(node, args, value)

    def _through_bodies(self, node: Node, args: Arrays) -> Sequence[Array]:
        if node.op.kind is Kind.LOOP:
            return self._loop(Loop.of(node), args)
        held = bodies(node)
        if node.op.kind is Kind.CALL:
            return self._body(held["body"], args)
        return self._body(held["body" if args[0] else "otherwise"], args[1:])

    def _body(self, graph: Graph, args: Arrays) -> list[Array]:
        found = self._orders.get(id(graph))
        if found is None:
            inputs = dict.fromkeys(graph.inputs)
            order = [n for n in topological(graph.outputs, inputs) if n not in inputs]
            fixed: dict[Node, Any] = {}
            self._run([n for n in order if n.op.kind in LEAVES], fixed)
            found = graph, [n for n in order if n.op.kind not in LEAVES], fixed
            self._orders[id(graph)] = found
        known = dict(found[2])
        known.update(zip(graph.inputs, args, strict=True))
        self._run(found[1], known)
        return [known[y] for y in graph.outputs]

    def _loop(self, loop: Loop, args: Arrays) -> list[Array]:
        first, count = len(loop.consts), len(loop.carries)
        fixed, carry, xs = list(args[:first]), list(args[first : first + count]), args[first + count :]
        rows: list[list[Array]] = [[] for _ in loop.ys]
        length, step = loop.length, 0
        while step != length and (loop.cond is None or self._body(loop.cond, [*fixed, *carry])[0]):
            row = length - 1 - step if loop.reverse and length is not None else step
            found = self._body(loop.body, [*fixed, *carry, *(x[row] for x in xs)])
            carry = found[:count]
            for kept, y in zip(rows, found[count:], strict=True):
                kept.append(y)
            step += 1
        return [*carry, *(_stacked(kept, y, loop) for kept, y in zip(rows, loop.ys, strict=True))]


def _stacked(rows: Arrays, y: Node, loop: Loop) -> Array:
    """The rows where the loop wrote them; zeros where it ended before."""
    stack = np.zeros((loop.length or 0, *y.shape), np.float64 if y.aval.is_float else y.dtype)
    if rows:
        stack[:: -1 if loop.reverse else 1][: len(rows)] = rows
    return stack
