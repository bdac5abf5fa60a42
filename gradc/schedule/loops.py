"""Loops, branches and calls to work.

Enters: the cluster of a loop: the node and the items that read its results.  Leaves: one nest, if every value that goes
from step to step is one number, or one number for each element of arrays that no step mixes: then the loop runs in
registers, innermost.  Else a `Repeat` of the body's own schedule, after nests that write the first carries.
Invariant: rows are read and written where they lie, and a carry is overwritten only after its last reader.
Start reading at `loop_work`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.aval import Aval, Shape
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import Loop, is_costless, result_count
from gradc.ops.record import LEAVES, Kind
from gradc.schedule import nests
from gradc.schedule.affine import Affine
from gradc.schedule.bodies import Call, Choice, Handed, Repeat, Row
from gradc.schedule.kernel import Carry, Nest, Recur, Stage, Work
from gradc.schedule.partition import MOST_WORK, cost
from gradc.schedule.plan import Schedule
from gradc.schedule.weave import Slots, Weaver, dtype_name, is_plain_view

#: How a body is planned: the graph, and which inputs' storage which outputs take over.
PlanBody = Callable[[Graph, Mapping[int, int]], Schedule]
Weave = Callable[[Slots, Callable[[Weaver], Nest]], Nest]

#: A loop with a condition has some number of steps; this one stands for it where a number is needed.
UNBOUNDED = 2**40


@dataclass(frozen=True)
class LoopShop:
    """What loops are made with: memory of the nodes around them, how a nest is woven, how a body is planned."""

    slots: Slots
    woven: Weave
    plan: PlanBody


def loop_work(nodes: Sequence[Node], shop: LoopShop) -> list[Work]:
    """The work of a loop; ``nodes`` are the loop and its items."""
    node, *read = nodes
    loop = Loop.of(node)
    results: list[Node | None] = [None] * result_count(node)
    for item in read:
        results[item.attrs["index"]] = item
    shape = shape_in_registers(loop)
    if shape is not None:
        nest = shop.woven(shop.slots, lambda w: _recurrence(w, loop, results, shape))
        return [*_cleared(loop, results, shop), nest]
    return _repeated(loop, results, shop)


def _cleared(loop: Loop, results: Sequence[Node | None], shop: LoopShop) -> list[Work]:
    """Zeros in the stacks of a loop with a condition, which may end before it has reached all rows."""
    if loop.cond is None:
        return []
    stacks = [y for y in results[len(loop.carries) :] if y is not None and y.aval.size]
    return [shop.woven(shop.slots, lambda w, y=y: nests.fill_nest(w, y, 0)) for y in stacks]  # type: ignore[misc]


# -- in registers ------------------------------------------------------------------------------------------------------


def shape_in_registers(loop: Loop) -> Shape | None:
    """The shape of every carry and y, if the loop can run once for each of its elements, in registers."""
    shapes = {x.shape for x in (*loop.next_carries, *loop.ys)}
    if len(shapes) != 1 or (loop.length is not None and loop.length < 2):
        return None
    (shape,) = shapes
    if math.prod(shape) == 0 or (loop.cond is not None and shape):
        return None
    graphs = [loop.body, *([loop.cond] if loop.cond is not None else [])]
    inner = [n for g in graphs for n in g.nodes]
    fixed = {x for g in graphs for x in g.inputs[: len(loop.consts)]}
    if not all(_computed_in_place(n, fixed) for n in inner) or sum(map(cost, inner)) > MOST_WORK:
        return None
    if not shape:
        return shape
    return shape if _in_step(loop) and _rows_are_near(loop, shape) else None


#: Elements that a few registers hold, so that each row is read in one go.
ONE_GO = 64
#: Bytes of rows that stay in the second cache while they are walked again and again.
NEAR = 2**18


def _rows_are_near(loop: Loop, shape: Shape) -> bool:
    """Whether walking all rows for some elements at a time is no worse than taking each row as a whole."""
    rows = [*(x for x in loop.inner_xs if x.shape == shape), *loop.ys]
    return math.prod(shape) <= ONE_GO or (loop.length or 0) * sum(r.aval.nbytes for r in rows) <= NEAR


def _computed_in_place(node: Node, consts: set[Node]) -> bool:
    """Whether a node of the body can be computed where it is read; a table must be the same in every step."""
    kind = node.op.kind
    if kind in LEAVES:
        return node.op.kind is Kind.INPUT or is_costless(node)
    if kind is Kind.GATHER:
        return node.args[0] in consts
    return kind is Kind.ELEMENTWISE or (kind is Kind.VIEW and is_plain_view(node) and node.aval.size > 0)


def _in_step(loop: Loop) -> bool:
    """Whether each element of the carries is read only by what becomes the same element of carries and ys."""
    apart: set[Node] = set()  # read at another index than its own
    for node in reversed(loop.body.nodes):
        if node in apart or node.op.kind is not Kind.ELEMENTWISE:
            apart.update(node.args)
    return apart.isdisjoint(loop.inner_carries)


def _recurrence(w: Weaver, loop: Loop, results: Sequence[Node | None], shape: Shape) -> Nest:
    """The loop as the only inner loop of a nest over the elements of the carries."""
    outer, index = w.loops(shape)
    inner, (step,) = w.loops((loop.length if loop.length is not None else UNBOUNDED,))
    row = loop.length - 1 - step if loop.reverse and loop.length is not None else step
    count = len(loop.carries)
    starts = tuple(w.value(x, index) for x in loop.carries)
    for x, operand in zip(loop.inner_consts, loop.consts, strict=True):
        w.stand_in(x, operand, ())
    for x, operand in zip(loop.inner_xs, loop.xs, strict=True):
        w.stand_in(x, operand, (row,))
    carried = [w.emit(Carry(k, dtype_name(x.dtype))) for k, x in enumerate(loop.inner_carries)]
    for k, x in enumerate(loop.inner_carries):
        w.define(x, index, carried[k])
    outputs = [_value_in_order(w, loop.body, y, index) for y in loop.body.outputs]
    again = None
    if loop.cond is not None:
        for x, operand in zip(loop.cond.inputs, loop.consts, strict=False):
            w.stand_in(x, operand, ())
        for x, k in zip(loop.cond.inputs[len(loop.consts) :], carried, strict=True):
            w.define(x, index, k)
        again = w.value(loop.cond.outputs[0], index)
    ends = [w.store(y, index, carried[k]) for k, y in enumerate(results[:count]) if y is not None]
    stores = [
        w.store(y, (Affine.of(row), *index), outputs[count + k]) for k, y in enumerate(results[count:]) if y is not None
    ]
    recur = Recur(starts, tuple(outputs[:count]), tuple(ends), again)
    return w.nest(outer, Stage(inner, stores=tuple(stores), recur=recur))


def _value_in_order(w: Weaver, body: Graph, output: Node, index: tuple[Affine, ...]) -> int:
    """The instruction of an output; what it is made of at the same index first, so that no chain nests deeply."""
    for node in body.nodes:
        if node.op.kind is Kind.ELEMENTWISE and node.shape == output.shape:
            w.value(node, index)
    return w.value(output, index)


# -- a body of its own -------------------------------------------------------------------------------------------------


def _repeated(loop: Loop, results: Sequence[Node | None], shop: LoopShop) -> list[Work]:
    slots, count = shop.slots, len(loop.carries)
    plan, swapped = _planned(loop, shop)
    body = plan.as_body
    again = shop.plan(loop.cond, {}).as_body if loop.cond is not None else None
    work: list[Work] = _cleared(loop, results, shop)
    carries = []
    for k, (start, result) in enumerate(zip(loop.carries, results[:count], strict=True)):
        name, size = dtype_name(start.dtype), start.size
        home = slots.own(name, size) if result is None else slots.writing(result)
        spare = slots.own(name, size) if k in swapped else -1
        odd = spare >= 0 and loop.steps is not None and loop.steps % 2 == 1
        first = spare if odd else home
        if size:
            work.append(shop.woven(slots, lambda w, n=start, s=first: nests.written_nest(w, n, s)))  # type: ignore[misc]
        carries.append(Handed(home, spare, start.aval.nbytes))
    ys = [_row(slots, y, result) for y, result in zip(loop.ys, results[count:], strict=True)]
    arena = max(body.arena_bytes, again.arena_bytes if again is not None else 0)
    counted = any(map(is_counter, loop.xs))
    work.append(
        Repeat(
            body, again, loop.length, loop.reverse,
            consts=tuple(_read(x, shop, work) for x in loop.consts),
            carries=tuple(carries),
            xs=tuple(_read_row(x, shop, work) for x in loop.xs), ys=tuple(ys),
            arena=slots.own("uint8", arena) if arena else -1,
            flag=slots.own("bool", 1) if again is not None else -1,
            counter=slots.own("int64", 1) if counted else -1,
        )
    )  # fmt: skip
    return work


def _planned(loop: Loop, shop: LoopShop) -> tuple[Schedule, set[int]]:
    """The body's schedule, and the carries that it does not write over their old values.

    First all are to be written in place; those that would need a copy for it get a second buffer instead.
    """
    first, count = len(loop.consts), len(loop.carries)
    body = loop.body
    donated = {first + k: k for k in range(count) if loop.carries[k].size}
    plan = shop.plan(body, donated)
    copied = {b for k in plan.kernels if not k.nodes for b in (k.slots[s] for s in k.writes)}
    swapped = {k for k in range(count) if plan.outputs[k] in copied and loop.carries[k].size}
    if swapped:
        plan = shop.plan(body, {i: k for i, k in donated.items() if k not in swapped})
    return plan, swapped


def is_counter(x: Node) -> bool:
    """Whether the rows are the numbers of the steps, which need no memory."""
    return x.op.counts and x.ndim == 1 and x.dtype == np.int64


def _read(x: Node, shop: LoopShop, work: list[Work]) -> int:
    """The slot of an operand; what is no array yet becomes one first."""
    if x in shop.slots.buffers:
        return shop.slots.reading(x)
    slot = shop.slots.own(dtype_name(x.dtype), x.size)
    if x.size:
        work.append(shop.woven(shop.slots, lambda w: nests.written_nest(w, x, slot)))
    return slot


def _read_row(x: Node, shop: LoopShop, work: list[Work]) -> Row:
    return Row(-1, 0) if is_counter(x) else Row(_read(x, shop, work), _row_bytes(x.aval))


def _row(slots: Slots, y: Node, result: Node | None) -> Row:
    if result is None or not result.aval.size:
        return Row(slots.own(dtype_name(y.dtype), max(y.size, 1)), 0)
    return Row(slots.writing(result), y.aval.nbytes)


def _row_bytes(aval: Aval) -> int:
    return math.prod(aval.shape[1:]) * np.dtype(aval.dtype).itemsize


# -- branches and calls ------------------------------------------------------------------------------------------------


def branch_work(nodes: Sequence[Node], shop: LoopShop) -> list[Work]:
    """One of two bodies; ``nodes`` are the branch and its items."""
    node, *read = nodes
    results: dict[int, Node] = {item.attrs["index"]: item for item in read}
    which, *operands = node.args
    bodies = [shop.plan(node.attrs[name], {}).as_body for name in ("body", "otherwise")]
    work: list[Work] = []
    chosen = _read(which, shop, work)
    arena = max(b.arena_bytes for b in bodies)
    work.append(
        Choice(
            chosen, bodies[0], bodies[1], tuple(_read(x, shop, work) for x in operands),
            _results(node, results, shop.slots), shop.slots.own("uint8", arena) if arena else -1,
        )
    )  # fmt: skip
    return work


def call_work(nodes: Sequence[Node], shop: LoopShop) -> list[Work]:
    """A body run once; ``nodes`` are the call and its items."""
    node, *read = nodes
    results: dict[int, Node] = {item.attrs["index"]: item for item in read}
    body = shop.plan(node.attrs["body"], {}).as_body
    work: list[Work] = []
    operands = tuple(_read(x, shop, work) for x in node.args)
    arena = shop.slots.own("uint8", body.arena_bytes) if body.arena_bytes else -1
    work.append(Call(body, operands, _results(node, results, shop.slots), arena))
    return work


def _results(node: Node, read: Mapping[int, Node], slots: Slots) -> tuple[int, ...]:
    """Where the results of bodies go that run once; what nobody reads has memory as well."""
    return tuple(
        slots.writing(read[k]) if k in read else slots.own(dtype_name(y.dtype), max(y.size, 1))
        for k, y in enumerate(node.attrs["body"].outputs)
    )
