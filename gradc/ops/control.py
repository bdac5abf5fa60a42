"""Control flow: nodes that hold bodies, and have several results.

A *body* is a closed `Graph`: it reads nothing but its own inputs, so what it uses of the graph around it is an operand.

- ``loop`` runs its body again and again.  Operands, and inputs of the body, are *consts* (the same in every step),
  *carries* (handed from step to step) and *xs* (in step t the body sees row t).  The body returns the new carries,
  then *ys*, which are stacked.  It runs ``length`` times, or while ``cond``, a second body on consts and carries,
  holds (then ``length``, if there is one, is the most steps, and rows that no step reached are zero).  ``reverse``
  walks the rows from the last to the first.  Results: the last carries, then the stacked ys.
- ``cond`` runs one of two bodies; ``checkpoint`` runs one body, whose inner values reverse mode computes again
  (``custom``, a body with a derivative of the user's, is in `gradc.ops.custom`).
- ``function`` runs one body too, which many nodes may hold: it stands once in the graph, in its derivatives and in the
  code, so a program of n functions that call each other stays as large as they are (`is_function`).
- ``item`` reads one result, of these nodes and of any other that has several (a factorisation).

`Loop` is a loop node taken apart.  Derivatives and batching of these kinds are in `gradc.diff.loops` and
`gradc.diff.calls`, rewriting in `gradc.passes.inside`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from gradc.aval import Aval, Results
from gradc.graph import Graph, rewrite
from gradc.interpret import computed_from, topological
from gradc.node import OPS, Node, derived_from
from gradc.ops.consistent import agrees, bodies_take, must_be_truth, refuse
from gradc.ops.leaves import full
from gradc.ops.ranges import NOTHING, UNKNOWN, WHOLE, Range, Zeros, declared, range_of, union
from gradc.ops.record import HOLDERS, Kind, Op, register

Array = np.ndarray[Any, Any]
#: a rule for `gradc.graph.rewrite`
Rule = Callable[[Node, tuple[Node, ...]], Node | None]


def bodies(node: Node) -> Mapping[str, Graph]:
    """The graphs that a node holds, by the name of the attribute."""
    if node.op.kind not in HOLDERS:
        return {}
    return {name: value for name, value in node.attrs.items() if isinstance(value, Graph)}


def every_node(graph: Graph) -> dict[Node, int]:
    """The nodes of a graph and of all bodies in it, numbered: those of the graph itself by their position there."""
    found: dict[Node, int] = {}
    for body in every_body(graph):
        for node in body.nodes:
            found.setdefault(node, len(found))
    return found


def every_body(graph: Graph) -> list[Graph]:
    """``graph`` and all bodies in it, each once however many nodes hold it, level by level."""
    return _reached(graph, held_in)


def own_size(graph: Graph) -> int:
    """How many nodes ``graph`` has, those in bodies too, but for what functions compute that it calls."""
    return sum(len(body.nodes) for body in _reached(graph, _held_otherwise))


def _reached(graph: Graph, held: Callable[[Graph], list[Graph]]) -> list[Graph]:
    found = [graph]
    seen = {graph}
    for current in found:  # which grows on the way
        for body in held(current):
            if body not in seen:
                seen.add(body)
                found.append(body)
    return found


def _held_otherwise(graph: Graph) -> list[Graph]:
    """The bodies that nodes of ``graph`` itself hold which are no calls of functions."""
    return [body for node in graph.nodes if not is_function(node) for body in bodies(node).values()]


def inside_out(graph: Graph) -> list[Graph]:
    """All bodies in ``graph``, each once and behind those in it; last ``graph`` itself."""
    order: list[Graph] = []
    seen = {graph}
    stack = [(graph, iter(held_in(graph)))]
    while stack:
        current, inner = stack[-1]
        for body in inner:
            if body not in seen:
                seen.add(body)
                stack.append((body, iter(held_in(body))))
                break
        else:
            order.append(current)
            stack.pop()
    return order


Made = TypeVar("Made")
Given = TypeVarTuple("Given")


def once_per_body(make: Callable[[Graph, *Given], Made]) -> Callable[[Graph, *Given], Made]:
    """``make``, called once for a body and the same other arguments: what nodes share, what is made of it is shared.

    What is made is kept as long as the body lives, and no longer.  So it must not hold the body, nor another graph that
    is among the arguments, or they would live for ever; those are not held here either.
    """
    made: WeakKeyDictionary[Graph, dict[tuple[Any, ...], Made]] = WeakKeyDictionary()

    @functools.wraps(make)
    def once(body: Graph, *given: *Given) -> Made:
        known = made.setdefault(body, {})
        key = tuple(ref(x) if isinstance(x, Graph) else x for x in given)
        if key in known:
            return known[key]
        result = make(body, *given)
        kept: tuple[Any, ...] = tuple(
            ref(x, lambda _: known.pop(kept, None)) if isinstance(x, Graph) else x for x in given
        )
        return known.setdefault(kept, result)

    return once


def on_own_leaves(graph: Graph, known: dict[Graph, Graph]) -> Graph:
    """``graph``, and the bodies in it, on fresh inputs: what is told of those (`tell`) is told of nobody else's.

    ``known``: what has become of others; what was made here is there as itself.
    """
    for body in inside_out(graph):
        if body not in known:
            fresh = {x: inner_leaf(x.aval, str(x.attrs["name"])) for x in body.inputs}
            moved: dict[Node, Node] = {}
            outputs = rewrite(body.outputs, _on_other_bodies(known), fresh, moved)
            names = {moved[n]: name for n, name in body.names.items() if n in moved}
            made = body.replace(inputs=tuple(fresh.values()), outputs=tuple(outputs), names=names, aliases={})
            known[body] = known[made] = made
    return known[graph]


def _on_other_bodies(known: Mapping[Graph, Graph]) -> Rule:
    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        held = bodies(node)
        if all(known[body] is body for body in held.values()):
            return None
        attrs = {**node.attrs, **{name: known[body] for name, body in held.items()}}
        return Node(node.op, args, attrs, node.aval, node.where, node.label, node.replica)

    return rule


def held_in(graph: Graph) -> list[Graph]:
    """The bodies that nodes of ``graph`` itself hold."""
    return [body for node in graph.nodes for body in bodies(node).values()]


#: Nodes of a graph with all functions written out, up to which that is done to look at every single one.
MOST_WRITTEN = 1 << 16


def written_size(graph: Graph) -> int:
    """How many nodes there would be if each call of a function were what its body computes."""
    size: dict[Graph, int] = {}
    for body in inside_out(graph):
        inside = _reached(body, _held_otherwise)
        calls = [node for part in inside for node in part.nodes if is_function(node)]
        size[body] = sum(len(part.nodes) for part in inside) + sum(size[node.attrs["body"]] for node in calls)
    return size[graph]


def item(node: Node, index: int) -> Node:
    """Result number ``index`` of a node with several; its line is the node's."""
    with derived_from(node.where):
        return OPS["item"].make((node,), index=index)


def result_count(node: Node) -> int:
    """How many results a node has that has several."""
    assert isinstance(node.aval, Results)
    return len(node.aval.parts)


def items(node: Node) -> list[Node]:
    """All results of a node with several."""
    return [item(node, k) for k in range(result_count(node))]


def inner_leaf(aval: Aval, name: str, known: Range | None = None) -> Node:
    """A fresh input of a body, of which is known what is said."""
    return declared(Node(OPS["input"], (), {"aval": aval, "name": name, "trace": None}, aval), known)


def informed(holder: Node) -> None:
    """Tell the bodies of ``holder`` what may happen to its operands."""
    if holder.op.kind is Kind.LOOP:
        Loop.of(holder).inform()
        return
    operands = holder.args[1:] if holder.op.kind is Kind.BRANCH else holder.args
    known = carried if is_function(holder) else range_of
    for body in bodies(holder).values():
        tell(body, zip(body.inputs, map(known, operands), strict=True))


def tell(body: Graph, known: Iterable[tuple[Node, Range]]) -> bool:
    """Whether more may happen to an input of ``body`` than was known; then what was concluded from that is forgotten.

    Never less: a body may be that of several nodes.
    """
    news = {x: found for x, found in known if not found.is_told_by(range_of(x))}
    for x, found in news.items():
        x.range = found.joined(range_of(x))
    for node in computed_from(news, topological(body.outputs)) - news.keys() if news else ():
        node.range = None
    return bool(news)


def carried(node: Node) -> Range:
    """What is known of a carry that starts as ``node`` or that a step hands on, and of an operand of a function: how it
    fails to be finite, and how it is 0; no bounds, so that a body is soon told all that may happen."""
    found = range_of(node)
    return Range(hazard=found.hazard, zeros=max(found.zeros, Zeros.POSSIBLE))


def _item_range(node: Node) -> Range:
    """What the bodies return, or what a carry starts with, if it may be that no step is taken."""
    holder, index = node.args[0], node.attrs["index"]
    if holder.op.kind not in HOLDERS:
        return UNKNOWN if node.aval.is_float else WHOLE
    informed(holder)
    found = [range_of(body.outputs[index]) for name, body in bodies(holder).items() if name != "cond"]
    if holder.op.kind is Kind.LOOP:
        loop = Loop.of(holder)
        if index < len(loop.carries):
            if not loop.steps:
                found.append(range_of(loop.carries[index]))
        elif loop.cond is not None:  # rows that no step reached are zero
            found.append(NOTHING)
    return union(found)


def _item_infer(results: Aval, index: int) -> Aval:
    if not isinstance(results, Results) or not 0 <= index < len(results.parts):
        refuse(f"there is no result {index}")
    return results.parts[index]


register(
    Op(
        name="item",
        kind=Kind.ITEM,
        infer=_item_infer,
        numpy=lambda results, index: results[index],
        range=lambda node, results: _item_range(node),
        doc="One result of a node that has several.",
    )
)

# -- loop --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop taken apart; the body's inputs are consts, carries, xs in this order, its outputs carries, ys."""

    body: Graph
    consts: tuple[Node, ...]
    carries: tuple[Node, ...]  #: their values before the first step
    xs: tuple[Node, ...]
    length: int | None
    reverse: bool = False
    cond: Graph | None = None

    @classmethod
    def of(cls, node: Node) -> Loop:
        a, b = node.attrs["consts"], node.attrs["consts"] + node.attrs["carries"]
        rest = {k: node.attrs[k] for k in ("body", "length", "reverse", "cond")}
        return cls(consts=node.args[:a], carries=node.args[a:b], xs=node.args[b:], **rest)

    def node(self) -> Node:
        """The loop as a node."""
        return OPS["loop"].make(
            (*self.consts, *self.carries, *self.xs),
            body=self.body, cond=self.cond, consts=len(self.consts), carries=len(self.carries),
            length=self.length, reverse=self.reverse,
        )  # fmt: skip

    @property
    def inner_consts(self) -> tuple[Node, ...]:
        """The body's inputs for the consts."""
        return self.body.inputs[: len(self.consts)]

    @property
    def inner_carries(self) -> tuple[Node, ...]:
        return self.body.inputs[len(self.consts) : len(self.consts) + len(self.carries)]

    @property
    def inner_xs(self) -> tuple[Node, ...]:
        return self.body.inputs[len(self.consts) + len(self.carries) :]

    @property
    def next_carries(self) -> tuple[Node, ...]:
        """The body's outputs for the carries."""
        return self.body.outputs[: len(self.carries)]

    @property
    def ys(self) -> tuple[Node, ...]:
        return self.body.outputs[len(self.carries) :]

    def rebuilt(self, **changes: Any) -> Loop:
        return replace(self, **changes)

    def inform(self) -> None:
        """Tell the body what may happen to the operands; to carries in any step."""
        outside = (*self.consts, *self.xs)
        tell(self.body, zip((*self.inner_consts, *self.inner_xs), map(range_of, outside), strict=True))
        tell(self.body, zip(self.inner_carries, map(carried, self.carries), strict=True))
        while tell(self.body, list(zip(self.inner_carries, map(carried, self.next_carries), strict=True))):
            pass

    @property
    def steps(self) -> int | None:
        """How often the body runs, if that is known."""
        return self.length if self.cond is None else None


def _loop_infer(
    *avals: Aval, body: Graph, cond: Graph | None, consts: int, carries: int, length: int | None, reverse: bool
) -> Aval:
    state, xs = avals[: consts + carries], avals[consts + carries :]
    if any(not x.shape or x.shape[0] != length for x in xs):
        refuse(f"it runs {length} steps over rows of other numbers")
    bodies_take("body", _avals(body.inputs), [*state, *(Aval(x.shape[1:], x.dtype) for x in xs)])
    results = _avals(body.outputs)
    if len(results) < carries or not all(map(agrees, results, state[consts:])):
        refuse(f"the carries come as ({', '.join(map(str, state[consts:]))}), go as ({', '.join(map(str, results))})")
    if cond is not None:
        bodies_take("condition", _avals(cond.inputs), state)
        _chooses(_avals(cond.outputs))
    return Results.of([*results[:carries], *(Aval((length or 0, *y.shape), y.dtype) for y in results[carries:])])


def _avals(nodes: Sequence[Node]) -> list[Aval]:
    return [n.aval for n in nodes]


def _chooses(avals: Sequence[Aval]) -> None:
    if len(avals) != 1 or avals[0].shape:
        refuse("what decides is not one truth value")
    must_be_truth(avals[0])


def _loop_numpy(
    *operands: Array, body: Graph, cond: Graph | None, consts: int, carries: int, length: int | None, reverse: bool
) -> tuple[Array, ...]:
    fixed, carry, xs = operands[:consts], list(operands[consts : consts + carries]), operands[consts + carries :]
    stacks = [np.zeros((length or 0, *y.shape), y.dtype) for y in body.outputs[carries:]]
    step = 0
    while step != length and (cond is None or cond.call([*fixed, *carry])[0]):
        row = length - 1 - step if reverse and length is not None else step
        results = body.call([*fixed, *carry, *(x[row] for x in xs)])
        carry = results[:carries]
        for stack, y in zip(stacks, results[carries:], strict=True):
            stack[row] = y
        step += 1
    return (*carry, *stacks)


register(
    Op(
        name="loop",
        kind=Kind.LOOP,
        infer=_loop_infer,
        numpy=_loop_numpy,
        doc="A body run many times: `scan`, `fori_loop` and `while_loop`.",
    )
)


def read_inputs(outputs: Iterable[Node]) -> set[Node]:
    """The leaves on which some of ``outputs`` depend."""
    return {n for n in topological(outputs) if n.op.kind is Kind.INPUT}


def narrowed(loop: Loop, wanted: Set[int]) -> tuple[Loop, dict[int, int]] | None:
    """The loop with what results ``wanted`` depend on alone, and where it has them; None if it is that already.

    A carry that no step changes is a const, and what it ends as is what it starts as: it is no result of the new loop,
    unless nothing says that the loop ends and there is no other result to wait for.
    """
    count = len(loop.carries)
    steady = {k for k in range(count) if loop.next_carries[k] is loop.inner_carries[k]}
    live = _live_carries(loop, wanted)
    ys = [k for k in range(count, len(loop.body.outputs)) if k in wanted]
    used = read_inputs([loop.body.outputs[k] for k in (*sorted(live), *ys)])
    if loop.cond is not None:  # its leaves are other ones than the body's
        tested = read_inputs(loop.cond.outputs)
        used |= {x for x, t in zip(loop.body.inputs, loop.cond.inputs, strict=False) if t in tested}
    kept = [k for k in range(count) if k in live and k not in steady]
    if loop.steps is None and loop.length is None and wanted.isdisjoint(kept):
        kept = sorted({*kept, *wanted})  # it stays, as long as it runs
    consts = [k for k, x in enumerate(loop.inner_consts) if x in used]
    moved = [k for k in sorted(steady & live - {*kept}) if loop.inner_carries[k] in used]
    xs = [k for k, x in enumerate(loop.inner_xs) if x in used]
    same = len(kept) == count and len(consts) == len(loop.consts) and len(xs) == len(loop.xs)
    if same and len(ys) == len(loop.ys):
        return None
    return _parts(loop, consts, moved, kept, xs, ys), {k: place for place, k in enumerate((*kept, *ys))}


def _live_carries(loop: Loop, wanted: Set[int]) -> set[int]:
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


def _parts(
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


def unrolled(loop: Loop) -> list[Node]:
    """The results of a loop of known length, as one step after another; the user's rows become slices and a stack."""
    assert loop.steps is not None
    carries = list(loop.carries)
    rows: dict[int, Sequence[Node]] = {}
    for step in range(loop.steps):
        row = loop.steps - 1 - step if loop.reverse else step
        outputs = loop.body.inlined([*loop.consts, *carries, *(row_of(x, row) for x in loop.xs)])
        carries, rows[row] = outputs[: len(carries)], outputs[len(carries) :]
    stacks = [
        stacked([rows[t][k] for t in range(loop.steps)]) if loop.steps else full((0, *y.shape), 0, y.dtype)
        for k, y in enumerate(loop.ys)
    ]
    return [*carries, *stacks]


def row_of(x: Node, row: int) -> Node:
    """x[row]."""
    starts = (row, *(0 for _ in x.shape[1:]))
    stops = (row + 1, *x.shape[1:])
    piece = OPS["slice"].make((x,), starts=starts, stops=stops, steps=(1,) * x.ndim)
    return OPS["reshape"].make((piece,), shape=x.shape[1:])


def stacked(rows: Sequence[Node]) -> Node:
    """Arrays of one shape along a new first axis."""
    raised = [OPS["reshape"].make((y,), shape=(1, *y.shape)) for y in rows]
    return raised[0] if len(raised) == 1 else OPS["concatenate"].make(raised, axis=0)


# -- one of two bodies, and bodies with a rule -------------------------------------------------------------------------


def body_results(*avals: Aval, body: Graph, **_: Any) -> Aval:
    """The shape rule of what runs a body once."""
    bodies_take("body", _avals(body.inputs), avals)
    return Results.of(_avals(body.outputs))


def _cond_infer(which: Aval, *avals: Aval, body: Graph, otherwise: Graph) -> Aval:
    _chooses([which])
    results = body_results(*avals, body=body)
    bodies_take("other body", _avals(otherwise.inputs), avals)
    bodies_take("caller", _avals(otherwise.outputs), _avals(body.outputs))
    return results


def _cond_numpy(which: Array, *operands: Array, body: Graph, otherwise: Graph) -> tuple[Array, ...]:
    return tuple((body if which else otherwise).call(operands))


register(
    Op(
        name="cond",
        kind=Kind.BRANCH,
        infer=_cond_infer,
        numpy=_cond_numpy,
        doc="One of two bodies, whichever a bool chooses; the other one is not run.",
    )
)
register(
    Op(
        name="checkpoint",
        kind=Kind.CALL,
        infer=body_results,
        numpy=lambda *operands, body: tuple(body.call(operands)),
        doc="A body whose inner values reverse mode computes again instead of keeping them.",
    )
)
register(
    Op(
        name="function",
        kind=Kind.CALL,
        infer=body_results,
        numpy=lambda *operands, body: tuple(body.call(operands)),
        doc="A body that stands once for all nodes that call it.",
    )
)


def is_function(node: Node) -> bool:
    """Whether a node calls a body that others may call too: what is derived of it is derived once for all of them."""
    return node.op.name == "function"


def call_function(body: Graph, operands: Sequence[Node]) -> list[Node]:
    """The results of ``body``, which reads nothing but its inputs, as those of one node."""
    return items(OPS["function"].make(tuple(operands), body=body))


def selected(which: Node, one: Sequence[Node], two: Sequence[Node]) -> list[Node]:
    """``one`` where ``which`` holds, else ``two``: a branch with both bodies run.  ``which`` may have leading axes."""

    def like(node: Node) -> Node:
        axes = tuple(range(which.ndim))
        return which if node.shape == which.shape else OPS["broadcast"].make((which,), shape=node.shape, axes=axes)

    return [OPS["where"].make((like(a), a, b)) for a, b in zip(one, two, strict=True)]


def by_results(results_of: Callable[[Node, tuple[Node, ...]], Sequence[Node] | None]) -> Rule:
    """A rule for `gradc.graph.rewrite` that gives the results of a node with bodies; None keeps the node."""
    found: dict[Node, Sequence[Node]] = {}

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.kind in HOLDERS:
            results = results_of(node, args)
            if results is not None:
                found[node] = results
        elif node.op.kind is Kind.ITEM and node.args[0] in found:
            return found[node.args[0]][node.attrs["index"]]
        return None

    return rule


# -- closing a body ----------------------------------------------------------------------------------------------------


def is_costless(node: Node) -> bool:
    """Whether a value is written down rather than stored: a number, an index, either of them broadcast."""
    while node.op.repeats:
        node = node.args[0]
    if node.op.kind is Kind.CONSTANT:
        return node.size == 1
    return node.op.kind is Kind.INDEX


def lifted(body: Graph, outside: Callable[[Node], bool]) -> tuple[Graph, list[Node]]:
    """``body`` with the nodes that are ``outside`` as further inputs, in front, and those nodes: its operands there.

    Only nodes that inner nodes or the outputs read are lifted, and none that is costless.
    """
    own = dict.fromkeys(body.inputs)
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    pending = list(reversed(body.outputs))
    while pending:
        node = pending.pop()
        if node in seen or node in own:
            continue
        seen.add(node)
        if outside(node) and not is_costless(node):
            found[node] = None
        else:
            pending += reversed(node.args)
    leaves = {node: inner_leaf(node.aval, str(node.attrs.get("name", "")) or "const", node.range) for node in found}
    if not leaves:
        return body, []
    known: dict[Node, Node] = {}
    outputs = rewrite(body.outputs, lambda node, args: None, {**{x: x for x in own}, **leaves}, known)
    names = {known[n]: name for n, name in body.names.items() if n in known}
    names |= {x: x.attrs["name"] for node, x in leaves.items() if node.op.kind is Kind.INPUT}
    inputs = (*leaves.values(), *body.inputs)
    return body.replace(inputs=inputs, outputs=tuple(outputs), names=names), list(leaves)
