"""Loops differentiated and batched, by the rule of their kind.

Enters: a `Loop` and what is known of its operands (tangents, cotangents, batch axes).  Leaves: a derived loop.
Invariant: which carries have a tangent, a cotangent or a batch axis is a fixed point; the others stay without one.

Forward mode runs primal and tangents in one loop.  Reverse mode is linearise, split, transpose: the nodes of the body
that depend on a tangent are its linear part; what they read from outside is a residual.  A residual that no step
changes is computed outside, one that is a row of an operand is read there again, any other is stacked by a loop that
runs forward; the linear part transposed is a loop that runs backward.  A loop with a condition counts its steps on the
way forward, and walks the same rows by a counter; where rows for the most steps would be too many, it is cut into
blocks that are computed again (`in_parts`).  `push` and `pull` are forward and reverse mode, handed in.
Start reading at `Linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.aval import Aval
from gradc.errors import TraceError
from gradc.graph import Graph, rewrite, substitute
from gradc.interpret import topological
from gradc.node import OPS, Node, constant, dsl, here
from gradc.ops.control import Loop, carried, inner_leaf, is_costless, item, items, narrowed, selected
from gradc.ops.leaves import full, number_of
from gradc.ops.ranges import Hazard, Range, Zeros, declared, range_of
from gradc.ops.record import Kind

Maybe = Sequence[Node | None]
#: what is known of each of several tangents; None: there is none
Knowns = Sequence[Range | None]
Push = Callable[[Sequence[Node], Sequence[Node], Sequence[Node | None]], list[Node | None]]
Pull = Callable[[Sequence[Node], Sequence[Node], Sequence[Node | None]], list[Node | None]]
Batch = Callable[[Sequence[Node], Mapping[Node, Node], int], list[tuple[Node, bool]]]

#: what is known of a tangent that is handed in only to see what is made of it
ANY_DIRECTION = Range(hazard=Hazard.POLE, zeros=Zeros.GUARDED)
COUNTER = Aval((), np.dtype(np.int64))


def zeros_like(node: Node) -> Node:
    """An array of zeros, computed where it is read."""
    return full(node.shape, 0, node.dtype)


def partner(x: Node, prefix: str, given: Node | None = None) -> Node:
    """A fresh leaf for the tangent or cotangent of ``x``, of which is known what is known of what it is ``given``."""
    leaf = inner_leaf(Aval(x.shape, x.dtype), f"{prefix}_{x.attrs.get('name', 'value')}")
    return declared(leaf, None if given is None else range_of(given))


def or_zeros(node: Node | None, like: Node) -> Node:
    """``node``, or zeros where it is structurally zero."""
    return zeros_like(like) if node is None else node


# -- forward -----------------------------------------------------------------------------------------------------------


def tangents_inside(loop: Loop, given: Knowns, push: Push) -> tuple[dict[Node, Node], list[Node | None]]:
    """A tangent leaf for each body input that moves, and the tangents of the body's outputs.

    ``given``: what is known of the tangents of the operands, None for one that does not move.
    """
    loop.inform()
    known = dict(zip(loop.body.inputs, given, strict=True))
    while True:
        leaves = {x: declared(partner(x, "d"), r) for x, r in known.items() if r is not None}
        out = push(loop.body.outputs, list(leaves), list(leaves.values()))
        pairs = zip(loop.inner_carries, out[: len(loop.carries)], strict=True)
        handed = {x: carried(t) for x, t in pairs if t is not None}
        worse = {x: r for x, r in handed.items() if not r.is_told_by(known[x])}
        if not worse:
            return leaves, out
        known |= {x: r.joined(known[x] or r) for x, r in worse.items()}


def _known(loop: Loop, tangents: Maybe) -> list[Range | None]:
    """What is known of tangents of the operands; carries have other values later."""
    first, last = len(loop.consts), len(loop.consts) + len(loop.carries)
    return [None if t is None else carried(t) if first <= k < last else range_of(t) for k, t in enumerate(tangents)]


def _any(moves: Sequence[bool]) -> list[Range | None]:
    """Of tangents that stand for a direction only: whatever a step makes of them is known already."""
    return [ANY_DIRECTION if m else None for m in moves]


def push_loop(loop: Loop, tangents: Maybe, push: Push) -> list[Node | None]:
    """The tangent of each result, by a loop that carries primal and tangent side by side."""
    leaves, out = tangents_inside(loop, _known(loop, tangents), push)
    given = dict(zip(loop.body.inputs, tangents, strict=True))
    start = {x: or_zeros(given[x], x) for x in leaves}

    def moving(group: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """The tangent operands, and tangent leaves, of a group of body inputs."""
        return [start[x] for x in group if x in leaves], [leaves[x] for x in group if x in leaves]

    consts, carries, xs = (moving(g) for g in (loop.inner_consts, loop.inner_carries, loop.inner_xs))
    inputs = (
        *loop.inner_consts, *consts[1], *loop.inner_carries, *carries[1], *loop.inner_xs, *xs[1],
    )  # fmt: skip
    moved = [k for k, x in enumerate(loop.inner_carries) if x in leaves]
    stacks = [k for k in range(len(loop.ys)) if out[len(loop.carries) + k] is not None]
    outputs = [*loop.next_carries, *(or_zeros(out[k], loop.next_carries[k]) for k in moved)]
    outputs += [t for k in stacks if (t := out[len(loop.carries) + k]) is not None]
    joint = loop.rebuilt(
        body=loop.body.replace(inputs=inputs, outputs=tuple(outputs)),
        consts=(*loop.consts, *consts[0]), carries=(*loop.carries, *carries[0]), xs=(*loop.xs, *xs[0]),
        cond=None if loop.cond is None else _with_unread(loop, loop.cond, consts[1], carries[1]),
    )  # fmt: skip
    node, count = joint.node(), len(loop.carries)
    found: list[Node | None] = [None] * len(loop.body.outputs)
    for place, k in enumerate(moved):
        found[k] = item(node, count + place)
    for place, k in enumerate(stacks):
        found[count + k] = item(node, count + len(moved) + place)
    return found


def _with_unread(loop: Loop, cond: Graph, consts: Sequence[Node], carries: Sequence[Node]) -> Graph:
    """The condition with inputs for tangents, which it does not read."""
    split = len(loop.consts)
    extra = [inner_leaf(x.aval, str(x.attrs["name"])) for x in (*consts, *carries)]
    inputs = (*cond.inputs[:split], *extra[: len(consts)], *cond.inputs[split:], *extra[len(consts) :])
    return cond.replace(inputs=inputs)


# -- linearise and split -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """The linear part of a loop: for each step the tangents of the body's outputs from those of its inputs.

    ``invariant`` and ``rows`` are what it reads of the rest: leaves in ``tangents``, with their values outside; a row
    operand has one row per step.  ``leaves`` are the tangent leaves, by body input.
    """

    loop: Loop
    leaves: Mapping[Node, Node]
    tangents: list[Node | None]
    invariant: Mapping[Node, Node]
    rows: Mapping[Node, Node]
    steps: Node | None  #: how many steps a loop with a condition has made


def linearised(loop: Loop, given: Knowns, push: Push) -> Linear:
    """Split off the linear part, and stack what it needs of each step."""
    if loop.cond is not None and loop.length is None:
        raise TraceError(
            f"{here()}: reverse mode through a while_loop has to keep something of each step, and nothing says how "
            "many there are.\n  Give max_steps=; or use gc.fori_loop or gc.scan where the number is known; or forward "
            "mode: gc.jvp, or method='forward'."
        )
    leaves, out = tangents_inside(loop, given, push)
    needed, varying = _needed(loop, list(leaves.values()), [t for t in out if t is not None])
    outside = dict(zip(loop.body.inputs, (*loop.consts, *loop.carries, *loop.xs), strict=True))
    rows = {x: outside[x] for x in loop.inner_xs if x in needed}
    fixed = [n for n in needed if n not in varying]
    invariant = dict(zip(fixed, substitute(fixed, {x: outside[x] for x in loop.inner_consts}), strict=True))
    stacked = [n for n in needed if n in varying and n not in rows]
    stacks, steps = _stacked(loop, stacked)
    rows |= dict(zip(stacked, stacks, strict=True))
    names = {n: str(n.attrs.get("name", "residual")) for n in (*invariant, *rows)}
    cut = {n: inner_leaf(Aval(n.shape, n.dtype), name, range_of(n)) for n, name in names.items()}
    keep = {t: t for t in leaves.values()}
    live = [t for t in out if t is not None]
    new = iter(rewrite(live, lambda node, args: None, {**keep, **cut}))
    tangents = [None if t is None else next(new) for t in out]
    return Linear(
        loop, leaves, tangents, {cut[n]: v for n, v in invariant.items()}, {cut[n]: v for n, v in rows.items()}, steps
    )


def _needed(loop: Loop, leaves: Sequence[Node], tangents: Sequence[Node]) -> tuple[dict[Node, None], set[Node]]:
    """What the linear part reads of the rest of the body, and the nodes of the body that change from step to step."""
    varying: set[Node] = {*loop.inner_carries, *loop.inner_xs}
    linear: set[Node] = {*leaves}
    needed: dict[Node, None] = {}
    for node in topological(tangents):
        if any(a in linear for a in node.args):
            linear.add(node)
            needed |= dict.fromkeys(a for a in node.args if a not in linear and not is_costless(a))
        elif any(a in varying for a in node.args):
            varying.add(node)
    needed |= dict.fromkeys(t for t in tangents if t not in linear and not is_costless(t))
    return needed, varying


def _stacked(loop: Loop, nodes: Sequence[Node]) -> tuple[list[Node], Node | None]:
    """The values of inner nodes in every step, and the number of steps of a loop with a condition."""
    count = len(loop.carries)
    if loop.cond is None:
        if not nodes:
            return [], None
        stacking = loop.rebuilt(body=loop.body.replace(outputs=(*loop.next_carries, *nodes)))
        return _read(stacking, [count + k for k in range(len(nodes))]), None
    counter = inner_leaf(COUNTER, "steps")
    place = len(loop.consts) + count
    inputs = (*loop.body.inputs[:place], counter, *loop.body.inputs[place:])
    body = loop.body.replace(inputs=inputs, outputs=(*loop.next_carries, counter + 1, *nodes))
    start = (*loop.carries, constant(np.int64(0)))
    stacking = loop.rebuilt(body=body, carries=start, cond=_with_unread(loop, loop.cond, (), (counter,)))
    steps, *stacks = _read(stacking, range(count, count + 1 + len(nodes)))
    return stacks, steps


def _read(loop: Loop, wanted: Sequence[int]) -> list[Node]:
    """Some results of a loop, which then does nothing for the others: they may read tangents that have no value."""
    smaller, places = narrowed(loop, {*wanted}) or (loop, {k: k for k in wanted})
    node = smaller.node()
    return [item(node, places[k]) for k in wanted]


def _walked(
    linear: Linear, body: Graph, consts: Sequence[Node], carries: Sequence[Node], rows: Sequence[Node], backward: bool
) -> tuple[list[Node], list[Node]]:
    """The last carries and the ys of a loop over the same steps; the body takes consts, carries, rows.

    Where a condition decides the steps, a counter walks the rows, which are operands as a whole.
    """
    like, count = linear.loop, len(carries)
    if like.cond is None:
        loop = Loop(body, tuple(consts), tuple(carries), tuple(rows), like.length, like.reverse != backward)
        node = loop.node()
        results = [item(node, k) for k in range(len(body.outputs))]
        return results[:count], results[count:]
    assert linear.steps is not None
    a, b = len(consts), len(consts) + count
    last, at = inner_leaf(COUNTER, "steps"), inner_leaf(COUNTER, "t")
    whole = [inner_leaf(r.aval, str(x.attrs["name"])) for r, x in zip(rows, body.inputs[b:], strict=True)]
    seen = [OPS["gather"].make((w, at), axes=(0,)) for w in whole]
    outputs = body.inlined([*body.inputs[:b], *seen])
    fixed, state = (last, *body.inputs[:a], *whole), (at, *body.inputs[a:b])
    walking = body.replace(inputs=(*fixed, *state), outputs=(at - 1 if backward else at + 1, *outputs))
    again = at >= 0 if backward else at < last
    extra = {x: inner_leaf(x.aval, "unread") for x in (*fixed, *state) if x is not last and x is not at}
    cond = Graph(tuple(extra.get(x, x) for x in (*fixed, *state)), (again,), title="more")
    begin = linear.steps - 1 if backward else constant(np.int64(0))
    node = Loop(
        walking, (linear.steps, *consts, *rows), (begin, *carries), (), like.length, cond=cond
    ).node()  # fmt: skip
    results = [item(node, 1 + k) for k in range(len(body.outputs))]
    return results[:count], results[count:]


def push_linear(loop: Loop, tangents: Maybe, push: Push) -> list[Node | None]:
    """The tangent of each result, by a loop that is linear in its tangents beside one that stacks residuals."""
    linear = linearised(loop, _known(loop, tangents), push)
    if keeps_too_much(linear):
        return _pushed_in_parts(linear, tangents, push)
    given = dict(zip(loop.body.inputs, tangents, strict=True))
    start = {x: or_zeros(given[x], x) for x in linear.leaves}
    groups = [[x for x in g if x in linear.leaves] for g in (loop.inner_consts, loop.inner_carries, loop.inner_xs)]
    consts, carries, xs = ([linear.leaves[x] for x in g] for g in groups)
    count = len(loop.carries)
    moved = [k for k, x in enumerate(loop.inner_carries) if x in linear.leaves]
    stacks = [k for k in range(len(loop.ys)) if linear.tangents[count + k] is not None]
    outputs = [or_zeros(linear.tangents[k], loop.next_carries[k]) for k in moved]
    outputs += [t for k in stacks if (t := linear.tangents[count + k]) is not None]
    inputs = (*linear.invariant, *consts, *carries, *linear.rows, *xs)
    body = Graph(inputs, tuple(outputs), title=loop.body.title)
    values: list[list[Node]] = [[start[x] for x in g] for g in groups]
    last, ys = _walked(
        linear, body, [*linear.invariant.values(), *values[0]], values[1], [*linear.rows.values(), *values[2]], False
    )
    found: list[Node | None] = [None] * len(loop.body.outputs)
    for k, node in (*zip(moved, last, strict=True), *zip([count + k for k in stacks], ys, strict=True)):
        found[k] = node
    return found


# -- blocks of steps ---------------------------------------------------------------------------------------------------

#: What a loop of unknown length may keep of its steps at once, and how many steps at least.
BLOCK_BYTES, BLOCK_STEPS = 1 << 18, 32


def keeps_too_much(linear: Linear) -> bool:
    """Whether room for every step that a condition allows is more than what a block may keep."""
    loop = linear.loop
    if loop.cond is None or loop.length is None or loop.length <= BLOCK_STEPS or loop.xs or loop.ys:
        return False
    return sum(rows.aval.nbytes for rows in linear.rows.values()) > BLOCK_BYTES


def first_steps(linear: Linear) -> int:
    """How many steps fit into one block."""
    assert linear.loop.length is not None
    each = sum(rows.aval.nbytes for rows in linear.rows.values()) // linear.loop.length
    return max(BLOCK_STEPS, BLOCK_BYTES // max(each, 1))


def in_parts(loop: Loop, first: int) -> Graph:
    """The loop as a function of consts and carries: ``first`` steps, and the others, if there are any, in blocks.

    So a loop that ends early costs what its steps cost, whatever the most steps are.
    """
    assert loop.length is not None and loop.cond is not None

    def leaves() -> list[Node]:
        return [inner_leaf(x.aval, str(x.attrs["name"])) for x in (*loop.inner_consts, *loop.inner_carries)]

    fixed, outer, inner, same = len(loop.consts), leaves(), leaves(), leaves()
    for leaf, operand in zip(outer, (*loop.consts, *loop.carries), strict=True):
        declared(leaf, range_of(operand))
    begun = items(loop.rebuilt(consts=tuple(outer[:fixed]), carries=tuple(outer[fixed:]), length=first).node())
    (more,) = loop.cond.inlined([*outer[:fixed], *begun])
    rest = loop.rebuilt(consts=tuple(inner[:fixed]), carries=tuple(inner[fixed:]), length=loop.length - first)
    others = tuple(items(in_blocks(rest).node())[:-1])
    node = OPS["cond"].make(
        (more, *outer[:fixed], *begun), body=Graph(tuple(inner), others, title=loop.body.title),
        otherwise=Graph(tuple(same), tuple(same[fixed:]), title="done"),
    )  # fmt: skip
    return Graph(tuple(outer), tuple(items(node)), title=loop.body.title)


def _outside(found: Maybe, leaves: Sequence[Node], values: Sequence[Node]) -> list[Node | None]:
    """What was built over ``leaves``, over their values."""
    new = iter(substitute([n for n in found if n is not None], dict(zip(leaves, values, strict=True))))
    return [None if n is None else next(new) for n in found]


def in_blocks(loop: Loop) -> Loop:
    """The same steps, in at most `BLOCK_STEPS` blocks of which each keeps what it starts from and is computed again.

    A block that is still too long is differentiated in blocks of its own: memory grows with the logarithm of the most
    steps, and each step is computed once more for every level (checkpointing by a tree; Griewank and Walther,
    Evaluating Derivatives, ch. 12).  A counter ends the last block where the loop would end.
    """
    assert loop.length is not None and loop.cond is not None
    most, count = constant(np.int64(loop.length)), len(loop.consts) + len(loop.carries)
    length = -(-loop.length // BLOCK_STEPS)

    def counted(graph: Graph, outputs: Callable[[Node], Sequence[Node]]) -> Graph:
        step = inner_leaf(COUNTER, "steps")
        return graph.replace(inputs=(*graph.inputs, step), outputs=tuple(outputs(step)))

    def more(test: Graph) -> Graph:
        return counted(test, lambda step: [dsl.logical_and(test.outputs[0], step < most)])

    body = counted(loop.body, lambda step: [*loop.next_carries, step + 1])
    leaves = [inner_leaf(x.aval, str(x.attrs["name"])) for x in body.inputs]
    fixed = len(loop.consts)
    block = Loop(body, tuple(leaves[:fixed]), tuple(leaves[fixed:]), (), length, cond=more(loop.cond))
    held = Graph(tuple(leaves), tuple(items(block.node())), title=loop.body.title)
    outer = [inner_leaf(x.aval, str(x.attrs["name"])) for x in leaves]
    again = OPS["checkpoint"].make(outer, body=held)
    whole = Graph(tuple(outer), tuple(items(again)), title=loop.body.title)
    start = (*loop.carries, constant(np.int64(0)))
    assert len(outer) == count + 1
    return Loop(whole, loop.consts, start, (), -(-loop.length // length), cond=more(loop.cond))


# -- transpose ---------------------------------------------------------------------------------------------------------


def pull_loop(loop: Loop, moves: Sequence[bool], cotangents: Maybe, push: Push, pull: Pull) -> list[Node | None]:
    """The cotangent of each operand that moves, from those of the results."""
    linear = linearised(loop, _any(moves), push)
    if keeps_too_much(linear):
        return _pulled_in_parts(linear, moves, cotangents, pull)
    count = len(loop.carries)
    stacked = {count + k: partner(y, "c", c) for k, y in enumerate(loop.ys) if (c := cotangents[count + k]) is not None}
    reached = {k for k in range(count) if cotangents[k] is not None and loop.inner_carries[k] in linear.leaves}
    known = {k: carried(c) for k in reached if (c := cotangents[k]) is not None}
    while True:
        leaves = {k: partner(loop.inner_carries[k], "c") for k in sorted(reached)}
        for k, leaf in leaves.items():
            leaf.range = known.get(k)
        given = [(leaves | stacked).get(k) for k in range(len(loop.body.outputs))]
        pulled = _pulled(linear, given, pull)
        handed = {k: c for k, x in enumerate(loop.inner_carries) if (c := pulled.get(x)) is not None}
        worse = {k: r for k, c in handed.items() if not (r := carried(c)).is_told_by(known.get(k))}
        if not worse and handed.keys() <= reached:
            break
        reached |= handed.keys()
        known |= {k: r.joined(known[k]) if k in known else r for k, r in worse.items()}
    sums = [x for x in loop.inner_consts if pulled.get(x) is not None]
    totals = [partner(x, "sum") for x in sums]
    stacks = [x for x in loop.inner_xs if pulled.get(x) is not None]
    outputs = [or_zeros(pulled.get(loop.inner_carries[k]), loop.inner_carries[k]) for k in leaves]
    outputs += [_added(t, part) for t, x in zip(totals, sums, strict=True) if (part := pulled[x]) is not None]
    outputs += [part for x in stacks if (part := pulled[x]) is not None]
    inputs = (*linear.invariant, *leaves.values(), *totals, *linear.rows, *stacked.values())
    body = Graph(inputs, tuple(outputs), {x: str(x.attrs["name"]) for x in inputs}, title=f"{loop.body.title} backward")
    start = [or_zeros(cotangents[k], leaves[k]) for k in leaves] + [zeros_like(t) for t in totals]
    rows = [*linear.rows.values(), *(c for k in stacked if (c := cotangents[k]) is not None)]
    last, ys = _walked(linear, body, list(linear.invariant.values()), start, rows, True)
    found: dict[Node, Node] = dict(zip((*(loop.inner_carries[k] for k in leaves), *sums), last, strict=True))
    found |= dict(zip(stacks, ys, strict=True))
    return [found.get(x) for x in loop.body.inputs]


def _pushed_in_parts(linear: Linear, tangents: Maybe, push: Push) -> list[Node | None]:
    """The tangent of each result, through the first steps and the blocks of the others."""
    loop, whole = linear.loop, in_parts(linear.loop, first_steps(linear))
    moving = [k for k, t in enumerate(tangents) if t is not None]
    inside = [partner(whole.inputs[k], "d", tangents[k]) for k in moving]
    outputs = push(whole.outputs, [whole.inputs[k] for k in moving], inside)
    given = [t for t in tangents if t is not None]
    return _outside(outputs, [*whole.inputs, *inside], [*loop.consts, *loop.carries, *given])


def _pulled_in_parts(linear: Linear, moves: Sequence[bool], cotangents: Maybe, pull: Pull) -> list[Node | None]:
    """The cotangent of each operand that moves, through the first steps and the blocks of the others."""
    loop, whole = linear.loop, in_parts(linear.loop, first_steps(linear))
    reaching = [k for k, c in enumerate(cotangents) if c is not None]
    inside = [partner(whole.outputs[k], "c", cotangents[k]) for k in reaching]
    moving = [k for k, m in enumerate(moves) if m]
    back = pull([whole.outputs[k] for k in reaching], [whole.inputs[k] for k in moving], inside)
    given = [c for c in cotangents if c is not None]
    pulled = _outside(back, [*whole.inputs, *inside], [*loop.consts, *loop.carries, *given])
    found = dict(zip(moving, pulled, strict=True))
    return [found.get(k) for k in range(len(moves))]


def _added(total: Node, part: Node) -> Node:
    """total + part; what is placed among zeros is placed in the total, so that only what it changes is touched."""
    if part.op.kind is Kind.SCATTER and part.attrs["how"] == "add" and _is_zero(part.args[0]):
        return OPS["scatter"].make((total, *part.args[1:]), **part.attrs)
    return total + part


def _is_zero(node: Node) -> bool:
    """Whether ``node`` is written down as +0 everywhere."""
    number = number_of(node)
    return number is not None and not number.tobytes().strip(b"\0")


def _pulled(linear: Linear, given: Maybe, pull: Pull) -> dict[Node, Node | None]:
    """The linear part transposed: the cotangent of each body input that moves."""
    pairs = [(t, c) for t, c in zip(linear.tangents, given, strict=True) if t is not None and c is not None]
    moving = list(linear.leaves)
    pulled = pull([t for t, _ in pairs], [linear.leaves[x] for x in moving], [c for _, c in pairs])
    return dict(zip(moving, pulled, strict=True))


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_loop(
    loop: Loop, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result, and whether it has the batch axis; a loop with a batch of conditions runs until none holds."""
    has, first = list(batched), len(loop.consts)
    last = first + len(loop.carries)
    test: tuple[Node, bool] | None = None
    while True:
        leaves = {x: wide_leaf(x, size) for x, h in zip(loop.body.inputs, has, strict=True) if h}
        out = batch(loop.body.outputs, leaves, size)
        if loop.cond is not None:
            (test,) = batch(_condition(loop), leaves, size)
        grown = [k for k in range(first, last) if not has[k] and (out[k - first][1] or (test is not None and test[1]))]
        if not grown:
            break
        for k in grown:
            has[k] = True
    carried = [shown(y, h, size) if has[first + k] else y for k, (y, h) in enumerate(out[: len(loop.carries)])]
    inner = tuple(leaves.get(x, x) for x in loop.body.inputs)
    cond = None
    if test is not None:
        if test[1]:
            carried = selected(test[0], carried, inner[first:last])  # an example that has ended stays as it is
        whole = OPS["any"].make((test[0],), axes=(0,)) if test[1] else test[0]
        cond = Graph(inner, (whole,), title="any" if test[1] else loop.cond.title if loop.cond else "")
    operands = [shown(a, h, size) if w else a for a, h, w in zip(args, batched, has, strict=True)]
    xs = [dsl.moveaxis(x, 0, 1) if h else x for x, h in zip(operands[last:], has[last:], strict=True)]
    body = loop.body.replace(inputs=inner, outputs=(*carried, *(y for y, _ in out[len(loop.carries) :])))
    node = loop.rebuilt(
        body=body, consts=tuple(operands[:first]), carries=tuple(operands[first:last]), xs=tuple(xs), cond=cond
    ).node()
    found = [(item(node, k), has[first + k]) for k in range(len(loop.carries))]
    for k, (_, h) in enumerate(out[len(loop.carries) :], len(loop.carries)):
        found.append((dsl.moveaxis(item(node, k), 1, 0) if h else item(node, k), h))
    return found


def _condition(loop: Loop) -> list[Node]:
    """The condition over the body's own inputs."""
    assert loop.cond is not None
    return loop.cond.inlined([*loop.inner_consts, *loop.inner_carries])


def wide_leaf(x: Node, size: int) -> Node:
    """A leaf for ``x`` with the batch axis."""
    return inner_leaf(Aval((size, *x.shape), x.dtype), str(x.attrs.get("name", "x")), x.range)


def shown(node: Node, has: bool, size: int) -> Node:
    """``node`` with the batch axis."""
    if has:
        return node
    return OPS["broadcast"].make((node,), shape=(size, *node.shape), axes=tuple(range(1, node.ndim + 1)))
