"""Loops in symbolic mode: one backward loop, whose body is the derivative of the loop's body.

Enters: a `Loop`, the cotangents of its results, and which operands are wanted.  Leaves: the cotangents of those.
The loop runs once more and stacks what it carries into each step; the backward loop reads these rows, carries the
cotangents of the carries, and adds up those of the consts.  A loop with a condition also says in which rows it ran: in
the others the cotangents pass as they are.  ``pull`` is symbolic mode itself, handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np

from gradc.aval import Aval
from gradc.graph import Graph
from gradc.node import OPS, Node, constant
from gradc.ops.control import Loop, inner_leaf, item, selected
from gradc.ops.elementwise import apply
from gradc.ops.leaves import full

Pull = Callable[[Sequence[Node], Sequence[Node], Sequence[Node | None]], list[Node | None]]
TRUTH = Aval((), np.dtype(bool))


def pull_loop(loop: Loop, cotangents: Mapping[int, Node], wanted: Set[int], pull: Pull) -> dict[int, Node]:
    """Cotangents of the operands numbered ``wanted``, from those of some results, by their numbers."""
    first, count = len(loop.consts), len(loop.carries)
    carried = [k for k in range(count) if loop.carries[k].aval.is_float]
    rows = [k for k in range(count, len(loop.body.outputs)) if k in cotangents]
    summed = [k for k in range(first) if k in wanted]
    spread = [k for k in range(first + count, len(loop.body.inputs)) if k in wanted]
    received = {k: _leaf(loop.body.outputs[k]) for k in (*carried, *rows)}
    moved = [loop.body.inputs[k] for k in (*(first + k for k in carried), *summed, *spread)]
    pulled = pull(loop.body.outputs, moved, [received.get(k) for k in range(len(loop.body.outputs))])
    found = [_zeros(x) if g is None else g for x, g in zip(moved, pulled, strict=True)]
    totals = [_leaf(loop.body.inputs[k]) for k in summed]
    sums = [apply(OPS["add"], t, g) for t, g in zip(totals, found[len(carried) :], strict=False)]
    before, ran, flag = _walked(loop)
    given, flags = ([ran], [flag]) if ran is not None and flag is not None else ([], [])
    old = [*(received[k] for k in carried), *totals, *(_zeros(loop.body.inputs[k]) for k in spread)]
    new = [*found[: len(carried)], *sums, *found[len(carried) + len(summed) :]]
    backward = Loop(
        consts=loop.consts,
        carries=(
            *(cotangents.get(k, _zeros(loop.carries[k])) for k in carried), *(_zeros(loop.consts[k]) for k in summed)
        ),
        xs=(*before, *loop.xs, *(cotangents[k] for k in rows), *given),
        body=Graph(
            (*loop.inner_consts, *(received[k] for k in carried), *totals, *loop.inner_carries, *loop.inner_xs,
             *(received[k] for k in rows), *flags),
            tuple(new if flag is None else selected(flag, new, old)),
        ),
        length=loop.length,
        reverse=not loop.reverse,
    ).node()  # fmt: skip
    operands = [*(first + k for k in carried), *summed, *spread]
    return {operand: item(backward, place) for place, operand in enumerate(operands) if operand in wanted}


def _walked(loop: Loop) -> tuple[list[Node], Node | None, Node | None]:
    """The carries before each step, as rows; of a loop with a condition, in which rows it ran, and a leaf for one."""
    outputs = [*loop.next_carries, *loop.inner_carries]
    outputs += [] if loop.cond is None else [constant(np.array(True))]
    walk = loop.rebuilt(body=loop.body.replace(outputs=tuple(outputs))).node()
    count = len(loop.carries)
    before = [item(walk, count + k) for k in range(count)]
    if loop.cond is None:
        return before, None, None
    return before, item(walk, 2 * count), inner_leaf(TRUTH, "ran")


def _leaf(x: Node) -> Node:
    return inner_leaf(Aval(x.shape, x.dtype), "ct")


def _zeros(x: Node) -> Node:
    return full(x.shape, 0, x.dtype)
