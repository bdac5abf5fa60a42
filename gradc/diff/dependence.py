"""What depends on some inputs, through the bodies of loops, branches and calls; and whether it does so linearly.

Enters: outputs and inputs of a graph.  Leaves: the nodes that change with the inputs, each result of a node with bodies
by itself.  Invariant: a carry depends on what any step may bring into it (a fixed point), and everything a loop or
branch returns depends on its condition.  Start reading at `dependents`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gradc.diff.forward import node_tangent
from gradc.diff.linear import partials_of
from gradc.diff.loops import Push, partner, zeros_like
from gradc.diff.reverse import is_linear_in
from gradc.errors import TraceError
from gradc.graph import Graph, rewrite, substitute
from gradc.interpret import topological
from gradc.node import Node, describe, here
from gradc.ops.contraction import guarded
from gradc.ops.control import (
    Loop,
    bodies,
    by_results,
    inner_leaf,
    is_function,
    item,
    once_per_body,
    result_count,
)
from gradc.ops.custom import rule_of
from gradc.ops.implicit import implicit_rule_of
from gradc.ops.products import times
from gradc.ops.ranges import as_factor, is_safe, range_of, vanishes
from gradc.ops.record import HOLDERS, Kind, has_results


def dependents(outputs: Iterable[Node], inputs: Iterable[Node]) -> set[Node]:
    """The nodes that depend on ``inputs``, these among them; a node with bodies is one if some operand of it is."""
    found = set(inputs)
    several: dict[Node, list[bool]] = {}
    for node in topological(outputs):
        if not any(a in found for a in node.args):
            continue
        if node.op.kind in HOLDERS:
            several[node] = results_that_depend(node, [a in found for a in node.args])
        elif node.args[0] in several and not several[node.args[0]][node.attrs["index"]]:  # an item
            continue
        found.add(node)
    return found


def results_that_depend(node: Node, moves: Sequence[bool]) -> list[bool]:
    """Which results of a node with bodies depend on the operands that ``moves`` marks."""
    if is_function(node):
        return _outputs_that_depend(node.attrs["body"], tuple(moves))
    inner = moving_inputs(node, moves)
    if inner is None:
        return [True] * result_count(node)
    found = [False] * result_count(node)
    for role, body in bodies(node).items():
        if role != "cond":
            reached = dependents(body.outputs, _marked(body, inner[role]))
            found = [f or y in reached for f, y in zip(found, body.outputs, strict=True)]
    if node.op.kind is Kind.LOOP and not (loop := Loop.of(node)).steps:  # a carry may be what it starts with
        starts = moves[len(loop.consts) : len(loop.consts) + len(loop.carries)]
        found[: len(starts)] = [f or m for f, m in zip(found, starts, strict=False)]
    return found


@once_per_body
def _outputs_that_depend(body: Graph, moves: tuple[bool, ...]) -> list[bool]:
    reached = dependents(body.outputs, _marked(body, moves))
    return [y in reached for y in body.outputs]


def moving_inputs(node: Node, moves: Sequence[bool]) -> dict[str, list[bool]] | None:
    """Which inputs of each body depend on the marked operands; None if it depends on them which body runs."""
    held = bodies(node)
    if node.op.kind is Kind.LOOP:
        return _inside_loop(node, moves)
    lead = 1 if node.op.kind is Kind.BRANCH else 0
    if lead and moves[0]:
        return None
    return {name: list(moves[lead:]) for name in held}


def _inside_loop(node: Node, moves: Sequence[bool]) -> dict[str, list[bool]] | None:
    loop, moving = Loop.of(node), list(moves)
    first, count = len(loop.consts), len(loop.carries)
    while True:
        reached = dependents(loop.body.outputs, _marked(loop.body, moving))
        grown = [first + k for k in range(count) if loop.next_carries[k] in reached and not moving[first + k]]
        if not grown:
            break
        for k in grown:
            moving[k] = True
    if loop.cond is None:
        return {"body": moving}
    tested = moving[: first + count]
    if loop.cond.outputs[0] in dependents(loop.cond.outputs, _marked(loop.cond, tested)):
        return None
    return {"body": moving, "cond": tested}


def _marked(body: Graph, marks: Sequence[bool]) -> list[Node]:
    return [x for x, m in zip(body.inputs, marks, strict=True) if m]


# -- a linear map written out ------------------------------------------------------------------------------------------


def without_rules(outputs: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """``outputs`` with the body in place of every function with a derivative of its own that depends on ``inputs``.

    What does not depend on them keeps its rule, and so does what solves an equation: its body is no such function.
    """
    touched = dependents(outputs, inputs)

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        if node not in touched or implicit_rule_of(node) is not None:
            return None
        inner = moving_inputs(node, [a in touched for a in node.args])
        held = bodies(node)
        marks = inner or {name: [True] * len(body.inputs) for name, body in held.items()}
        written = {name: without_rules(body.outputs, _marked(body, marks[name])) for name, body in held.items()}
        if rule_of(node) is not None:
            return substitute(written["body"], dict(zip(held["body"].inputs, args, strict=True)))
        if all(a is b for name, body in held.items() for a, b in zip(written[name], body.outputs, strict=True)):
            return None
        new = {name: body.replace(outputs=tuple(written[name])) for name, body in held.items()}
        made = Node(node.op, args, {**node.attrs, **new}, node.aval, node.where, node.label, node.replica)
        return [item(made, k) for k in range(result_count(made))]

    return rewrite(outputs, by_results(results))


def stepwise_part(outputs: Sequence[Node], inputs: Sequence[Node]) -> Node | None:
    """A node that is not linear in ``inputs`` although its derivative by them is constant: a sign, a remainder, a test.

    None where each node that depends on them is a float, and elementwise ones are linear.
    """
    touched = dependents(outputs, inputs)
    for node in topological(outputs):
        if node not in touched or node.op.kind is Kind.ITEM or not node.args or implicit_rule_of(node) is not None:
            continue
        if node.op.kind in HOLDERS:
            found = _in_bodies(node, touched, stepwise_part)
            if found is not None:
                return found
        elif not _keeps_lines(node, touched):
            return node
    return None


def _keeps_lines(node: Node, touched: set[Node]) -> bool:
    if node.op.partials is not None and node.aval.is_float:
        return is_linear_in(node, [i for i, a in enumerate(node.args) if a in touched])
    return node.aval.is_float and not node.op.constant


def _in_bodies(
    node: Node, touched: set[Node], part: Callable[[Sequence[Node], Sequence[Node]], Node | None]
) -> Node | None:
    """What ``part`` finds in a body of ``node``, of the results and the inputs that depend on what is ``touched``.

    ``node`` itself where which body runs depends on that.
    """
    moves = [a in touched for a in node.args]
    inner = moving_inputs(node, moves)
    if inner is None:
        return node
    depending = results_that_depend(node, moves)
    for role, body in bodies(node).items():
        if role != "cond":
            live = [y for y, d in zip(body.outputs, depending, strict=True) if d]
            found = part(live, _marked(body, inner[role]))
            if found is not None:
                return found
    return None


def constant_part(outputs: Sequence[Node], inputs: Sequence[Node]) -> Node | None:
    """A node that adds to ``outputs`` something that is not 0 when ``inputs`` are; None if they are linear, not affine.

    ``outputs`` are known to have derivatives by ``inputs`` that do not depend on these.
    """
    touched = dependents(outputs, inputs)
    for y in outputs:
        if y not in touched and y.aval.is_float and not vanishes(y):
            return y
    for node in topological(outputs):
        if node not in touched or node.op.kind is Kind.ITEM or not node.args:
            continue
        adds = _added_inside(node, touched) if node.op.kind in HOLDERS else _added_by(node, touched)
        if adds is not None:
            return adds
    return None


def _added_by(node: Node, touched: set[Node]) -> Node | None:
    """``node`` if it has a derivative by an operand outside ``touched`` that does not depend on those inside."""
    fresh = [
        inner_leaf(a.aval, "d") if a not in touched and a.aval.is_float and not vanishes(a) else None for a in node.args
    ]
    if not node.aval.is_float or node.op.by_expansion or has_results(node) or all(t is None for t in fresh):
        return None
    tangent = node_tangent(node, fresh)
    inside = [a for a in node.args if a in touched]
    return None if tangent is None or tangent in dependents([tangent], [*inside, node]) else node


def _added_inside(node: Node, touched: set[Node]) -> Node | None:
    """What a body adds; ``node`` where a carry of a loop starts with something else than 0 and comes to depend."""
    moves = [a in touched for a in node.args]
    if (rule := implicit_rule_of(node)) is not None:  # linear in b, as a whole
        b = node.args[len(rule.consts_of(node.args)) :]
        return node if any(a not in touched and not vanishes(a) for a in b) else None
    inner = moving_inputs(node, moves)
    if node.op.kind is Kind.LOOP and inner is not None:
        for operand, before, within in zip(node.args, moves, inner["body"], strict=True):
            if within and not before and operand.aval.is_float and not vanishes(operand):
                return node
    return _in_bodies(node, touched, constant_part)


def refuse_unless_linear(
    outputs: Sequence[Node], inputs: Sequence[Node], push: Push, whose: str, what: str, others: str
) -> None:
    """TraceError if ``outputs`` are not linear in ``inputs``, which errors call ``what``; ``others`` is the rest."""
    tangents = push(outputs, inputs, [partner(x, "d") for x in inputs])
    moving = [t for t in tangents if t is not None]
    if any(t in dependents(moving, inputs) for t in moving):
        raise TraceError(
            f"{here()}: {whose} is not linear in its {what}.\n"
            f"  Multiply the {what} by values of {others}, and add such products; nothing else is linear."
        )
    step = stepwise_part(outputs, inputs)
    if step is not None:
        raise TraceError(
            f"{here()}: {whose} is not linear in its {what}: it applies {step.op.name} to them, in {describe(step)}.\n"
            f"  Decide and round by {others}, not by the {what}; what is multiplied with these may be anything."
        )
    adds = constant_part(outputs, inputs)
    if adds is not None:
        raise TraceError(
            f"{here()}: {whose} is not linear in its {what}: it gives something else than 0 where they are 0, by "
            f"{describe(adds)}.\n  Return sums of products with the {what}; of a derivative that is 0, None."
        )


# -- a linear map evaluated --------------------------------------------------------------------------------------------


def evaluated(outputs: Sequence[Node], values: Mapping[Node, Node | None]) -> list[Node | None]:
    """``outputs``, which are linear in the inputs that ``values`` names, at those values; None: structurally zero.

    A node all of whose operands are there is the same operation on them, but zero is zero as in any derivative; one
    that lacks some is what it adds up of the others.
    """
    given = [x for x, value in values.items() if value is not None]
    linear, live = dependents(outputs, values), dependents(outputs, given)
    new: dict[Node, Node | None] = dict(values)
    for node in topological(outputs):
        if node in new or not any(a in new for a in node.args):
            continue
        args = [new.get(a, a) for a in node.args]
        here = [a for a in args if a is not None]
        if len(here) == len(args):
            if node not in linear:
                new[node] = node.rebuilt(here)
            else:
                moving = [a in linear for a in node.args]
                new[node] = _strong_in_zeros(node.rebuilt(here), moving) if node in live else None
        elif node.op.kind in HOLDERS:
            new[node] = node.rebuilt([zeros_like(a) if x is None else x for x, a in zip(args, node.args, strict=True)])
        elif node in live:
            new[node] = node_tangent(node, [new[a] if a in linear else None for a in node.args])
        else:
            new[node] = None
    return [new.get(y, y) if y in linear else None for y in outputs]


def _strong_in_zeros(node: Node, moving: Sequence[bool]) -> Node:
    """``node``, or the same product with what is moving there in which zeros survive, if they need to be strong."""
    where = [i for i, m in enumerate(moving) if m]
    if len(where) != 1 or len(node.args) == 1 or not is_linear_in(node, where):
        return node
    if node.op.kind is Kind.CONTRACT:
        return guarded(node)
    (i,) = where
    factor = partials_of(node)[i] if node.op.partials is not None else None
    if not isinstance(factor, Node) or is_safe(range_of(node.args[i]), as_factor(factor)):
        return node
    return times(node.args[i], factor)
