"""Running errors through bodies: a loop is its steps one after another, each with the errors of the one before.

Enters: a node that holds bodies, values and errors of its operands, and `running_errors` itself.  Leaves: values and
error bounds of its results.  The first steps of a loop come together where they can (`gradc.oracle.rounding_loops`).
Where rounding can turn a condition, the results may be those of one step more, or of the step before; what lies between
counts as error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import is_float
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import Loop, bodies
from gradc.ops.record import Kind
from gradc.oracle.rounding_loops import begun

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]
Known = Mapping[Node, Array]
Run = Callable[[Sequence[Node], Known, Known], tuple[dict[Node, Array], dict[Node, Array]]]


def errors_through_bodies(
    node: Node, args: Arrays, errors: Arrays, run: Run
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Values and error bounds of the results of ``node``."""
    if node.op.kind is Kind.LOOP:
        return _loop(Loop.of(node), args, errors, run)
    held = bodies(node)
    if node.op.kind is Kind.CALL:
        return _once(held["body"], args, errors, run)
    taken, other = ("body", "otherwise") if args[0] else ("otherwise", "body")
    values, bounds = _once(held[taken], args[1:], errors[1:], run)
    if np.any(errors[0] > 0):
        instead, _ = _once(held[other], args[1:], errors[1:], run)
        bounds = tuple(b + _distance(v, w) for b, v, w in zip(bounds, values, instead, strict=True))
    return values, bounds


def _once(graph: Graph, args: Arrays, errors: Arrays, run: Run) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    values, bounds = run(
        graph.outputs, dict(zip(graph.inputs, args, strict=True)), dict(zip(graph.inputs, errors, strict=True))
    )
    return tuple(values[y] for y in graph.outputs), tuple(bounds[y] for y in graph.outputs)


def _loop(loop: Loop, args: Arrays, errors: Arrays, run: Run) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    first, count = len(loop.consts), len(loop.carries)
    last = first + count
    carry, off = list(args[first:last]), list(errors[first:last])
    stacks = [np.zeros((loop.length or 0, *y.shape), np.float64 if y.aval.is_float else y.dtype) for y in loop.ys]
    stack_errors = [np.zeros(s.shape) for s in stacks]
    doubtful: list[list[Array]] = []
    step = 0
    if (found := begun(loop, args, errors, run)) is not None:
        step, carry, off = found.steps, list(found.carries), list(found.bounds)
        order = slice(None, None, -1 if loop.reverse else 1)
        for k in range(len(stacks)):
            stacks[k][order][:step], stack_errors[k][order][:step] = found.rows[k], found.row_bounds[k]
    while step != loop.length:
        fixed = [*args[:first], *carry], [*errors[:first], *off]
        if loop.cond is not None:
            (go,), (unsure,) = _once(loop.cond, *fixed, run)
            if unsure > 0:
                doubtful.append(carry if go else _one_more(loop, *fixed, run))
            if not go:
                break
        row = (loop.length or 0) - 1 - step if loop.reverse else step
        values, bounds = _once(
            loop.body, [*fixed[0], *(x[row] for x in args[last:])], [*fixed[1], *(e[row] for e in errors[last:])], run
        )
        carry, off = list(values[:count]), list(bounds[:count])
        for k in range(len(stacks)):
            stacks[k][row], stack_errors[k][row] = values[count + k], bounds[count + k]
        step += 1
    for other in doubtful:
        off = [e + _distance(a, b) for e, a, b in zip(off, carry, other, strict=True)]
    return (*carry, *stacks), (*off, *stack_errors)


def _one_more(loop: Loop, args: Arrays, errors: Arrays, run: Run) -> list[Array]:
    """The carries after a step that the condition refused; as they are where it may not be taken."""
    count = len(loop.carries)
    try:
        return list(_once(loop.body, args, errors, run)[0][:count])
    except IndexError:  # the condition keeps an index inside
        return list(args[len(loop.consts) : len(loop.consts) + count])


def _distance(a: Array, b: Array) -> Array:
    if not is_float(a.dtype):
        return np.asarray(a != b, np.float64)
    return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
