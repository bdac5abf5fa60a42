"""Where a number first became 0, or lost digits, because it is smaller than what its dtype holds.

Enters: a graph, values of its inputs.  Leaves: the first `Origin`, in the order of computation, or None.
What is looked at are the elementwise ops: an element that is 0 or subnormal and, computed in a format of a wider range,
is neither 0 nor that large.  Such a number need not show in a result, where nothing tells 0 from 0.
Start reading at `first_underflow`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import finfo
from gradc.diagnostics.fault import in_wider
from gradc.diagnostics.origin import Origin, in_order, valued
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import Loop, bodies
from gradc.ops.record import HOLDERS, Kind

Array = np.ndarray[Any, Any]


def first_underflow(graph: Graph, arrays: Sequence[Any]) -> Origin | None:
    """The first one, forward pass before backward pass before update."""
    found = list(_all(graph, arrays, (), ()))
    return in_order(found)[0] if found else None


def _all(graph: Graph, arrays: Sequence[Any], inside: Any, before: tuple[int, ...]) -> Iterator[Origin]:
    values = valued(graph, arrays)
    for place, node in enumerate(graph.nodes):
        order = (*before, place)
        if node.op.kind in HOLDERS:
            for step, body, given in _runs(node, values):
                yield from _all(body, given, (*inside, (node, step)), order)
        elif node.op.kind is Kind.ELEMENTWISE and node.aval.is_float:
            mask = _underflowed(node, values)
            if mask is not None and mask.any():
                yield Origin("underflow", node, mask, graph, values, inside, order)


def _underflowed(node: Node, values: Mapping[Node, Any]) -> Array | None:
    value = np.asarray(values[node])
    least = finfo(node.dtype).smallest_normal
    small = np.abs(value) < least
    if not small.any():
        return None
    operands = [np.asarray(values[a])[small] for a in node.args]
    exact = in_wider(node, operands)
    if exact is None:
        return None
    mask = np.zeros(value.shape, bool)
    mask[small] = (exact != 0) & (np.abs(exact) < float(least)) & (exact != value[small].astype(exact.dtype))
    return mask


def _runs(node: Node, values: Mapping[Node, Any]) -> Iterator[tuple[int | None, Graph, list[Any]]]:
    """The runs of the bodies that a node holds: the step, the body, its arguments."""
    operands = [values[a] for a in node.args]
    if node.op.kind is Kind.BRANCH:
        which, *rest = operands
        yield None, bodies(node)["body" if which else "otherwise"], rest
        return
    if node.op.kind is not Kind.LOOP:
        yield None, bodies(node)["body"], operands
        return
    loop = Loop.of(node)
    fixed, carry = operands[: len(loop.consts)], operands[len(loop.consts) : len(loop.consts) + len(loop.carries)]
    xs, step = operands[len(loop.consts) + len(loop.carries) :], 0
    while step != loop.length and (loop.cond is None or loop.cond.call([*fixed, *carry])[0]):
        row = loop.length - 1 - step if loop.reverse and loop.length is not None else step
        given = [*fixed, *carry, *(x[row] for x in xs)]
        yield step, loop.body, given
        carry = list(loop.body.call(given)[: len(loop.carries)])
        step += 1
