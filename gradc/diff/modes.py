"""Both modes: tangents pushed forward through the graph, cotangents pulled back.

Enters: outputs, inputs, and a tangent per input or a cotangent per output (None: structurally zero).  Leaves: a tangent
per output or a cotangent per input, built in the DSL and structurally linear in what was given.
Invariant: what one node does is the one rule of its record (`forward`, `reverse`); a node that holds bodies is derived
by both modes on its bodies (`loops`, `calls`, `functions`), which is why they live together.
Start reading at `push_forward`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradc.diff.calls import pull_call, push_call
from gradc.diff.custom import pull_custom, push_custom
from gradc.diff.forward import node_tangent, result_tangents
from gradc.diff.functions import pull_function, push_function
from gradc.diff.implicit import pull_implicit, push_implicit
from gradc.diff.linear import active_nodes, passes
from gradc.diff.loops import pull_loop, push_linear, push_loop
from gradc.diff.reverse import accumulate, pull_through, pull_through_results
from gradc.graph import substitute
from gradc.node import Node, derived_from
from gradc.ops.control import Loop, informed, inner_leaf, is_function, result_count
from gradc.ops.custom import BodyRule, DerivativeRule, rule_of
from gradc.ops.implicit import ImplicitRule
from gradc.ops.ranges import range_of
from gradc.ops.record import HOLDERS, Kind, has_results
from gradc.places import in_phase


def push_forward(
    outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None], split: bool = False
) -> list[Node | None]:
    """Jacobian-vector product: the tangent of each output, None where it is structurally zero.

    With ``split`` the tangents of a loop come from a loop of their own, which is linear (what reverse mode transposes);
    without it from one that runs primal and tangents together, and keeps nothing.
    """
    known: dict[Node, Node | None] = {x: t for x, t in zip(inputs, tangents, strict=True) if t is not None}
    several: dict[Node, list[Node | None]] = {}  # tangents of the results of nodes that have several
    order, active = active_nodes(outputs, [x for x in inputs if x in known])
    _inform_functions(order)
    for node in order:
        if node not in active or node in known:
            continue
        with derived_from(in_phase(node.where, "backward" if split else "tangent")):
            if node.op.kind in HOLDERS:
                several[node] = _push_through_bodies(node, [known.get(a) for a in node.args], split)
            elif node.op.kind is Kind.ITEM:
                known[node] = several[node.args[0]][node.attrs["index"]]
            elif has_results(node):
                several[node] = result_tangents(node, [known.get(a) for a in node.args])
            elif node.op.by_expansion:
                known[node] = _push_through_expansion(node, [known.get(a) for a in node.args], split)
            else:
                known[node] = node_tangent(node, [known.get(a) for a in node.args])
    return [known.get(y) for y in outputs]


def _inform_functions(order: Sequence[Node]) -> None:
    """Tell functions what may happen in any of their calls, before one of these is differentiated for all."""
    for node in order:
        if is_function(node):
            informed(node)


def linearise(outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None]) -> list[Node | None]:
    """`push_forward`, split."""
    return push_forward(outputs, inputs, tangents, split=True)


def _push_through_bodies(node: Node, tangents: Sequence[Node | None], split: bool) -> list[Node | None]:
    """The tangent of each result of a node that holds bodies."""
    push = linearise if split else push_forward
    if all(t is None for t in tangents):
        return [None] * result_count(node)
    if node.op.kind is Kind.LOOP:
        return (push_linear if split else push_loop)(Loop.of(node), tangents, push)
    if (rule := rule_of(node)) is not None:
        return _push_by_rule(node, rule, tangents, split)
    if is_function(node):
        return push_function(node, tangents, push, split)
    return push_call(node, tangents, push)


def _expanded(node: Node) -> tuple[Node, list[Node]]:
    """What an op without a rule of its own is made of, over leaves, and these."""
    leaves = [inner_leaf(a.aval, "x", range_of(a)) for a in node.args]
    assert node.op.expand is not None
    return node.op.expand(*leaves, **node.attrs), leaves


def _push_through_expansion(node: Node, tangents: Sequence[Node | None], split: bool) -> Node | None:
    expansion, leaves = _expanded(node)
    (pushed,) = push_forward([expansion], leaves, tangents, split)
    return None if pushed is None else substitute([pushed], dict(zip(leaves, node.args, strict=True)))[0]


def _pull_through_expansion(node: Node, total: Node, active: set[Node]) -> list[tuple[Node, Node]]:
    """Operands, each with its cotangent."""
    expansion, leaves = _expanded(node)
    moving = [k for k, a in enumerate(node.args) if a in active]
    pulled = pull_back([expansion], [leaves[k] for k in moving], [total])
    found = [(node.args[k], value) for k, value in zip(moving, pulled, strict=True) if value is not None]
    values = substitute([value for _, value in found], dict(zip(leaves, node.args, strict=True)))
    return [(arg, value) for (arg, _), value in zip(found, values, strict=True)]


def pull_back(outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node | None]) -> list[Node | None]:
    """Vector-Jacobian product: the cotangent of each input, None where it is structurally zero."""
    wanted = set(inputs)
    order, active = active_nodes(outputs, inputs)
    _inform_functions(order)
    pending: dict[Node, list[Node]] = {}
    for y, ct in zip(outputs, cotangents, strict=True):
        if ct is not None and y in active:
            pending.setdefault(y, []).append(ct)
    results: dict[Node, Node] = {}
    at_results: dict[Node, dict[int, list[Node]]] = {}  # what reaches the results of nodes that have several
    for node in reversed(order):
        if node in at_results:
            with derived_from(in_phase(node.where, "backward")):
                for arg, value in _pull_results(node, at_results.pop(node), active):
                    pending.setdefault(arg, []).append(value)
            continue
        received = pending.pop(node, None)
        if received is None:
            continue
        place = node.where if node.args else received[0].where  # a leaf has no line of its own
        with derived_from(in_phase(place, "backward")):
            total = accumulate(received)
            if node in wanted:
                results[node] = total
            if node.op.kind is Kind.ITEM:
                if node.args[0] in active:
                    at_results.setdefault(node.args[0], {}).setdefault(node.attrs["index"], []).append(total)
                continue
            if node.op.by_expansion:
                for arg, value in _pull_through_expansion(node, total, active):
                    pending.setdefault(arg, []).append(value)
                continue
            for i, arg in enumerate(node.args):
                if arg in active and passes(node.op, i):
                    part = pull_through(node, i, total)
                    if part is not None:
                        pending.setdefault(arg, []).append(part)
    return [results.get(x) for x in inputs]


def _pull_results(node: Node, received: Mapping[int, Sequence[Node]], active: set[Node]) -> list[tuple[Node, Node]]:
    """Operands of a node with several results, each with its cotangent."""
    given = [accumulate(received[k]) if k in received else None for k in range(result_count(node))]
    moves = [a in active for a in node.args]
    if node.op.kind not in HOLDERS:
        pulled = [pull_through_results(node, i, given) if m else None for i, m in enumerate(moves)]
    elif node.op.kind is Kind.LOOP:
        pulled = pull_loop(Loop.of(node), moves, given, linearise, pull_back)
    elif (rule := rule_of(node)) is not None:
        pulled = _pull_by_rule(node, rule, moves, given)
    elif is_function(node):
        pulled = pull_function(node, moves, given, pull_back)
    else:
        pulled = pull_call(node, moves, given, pull_back)
    return [(a, c) for a, c in zip(node.args, pulled, strict=True) if c is not None]


def _push_by_rule(node: Node, rule: BodyRule, tangents: Sequence[Node | None], split: bool) -> list[Node | None]:
    push = linearise if split else push_forward
    if isinstance(rule, ImplicitRule):
        return push_implicit(node, rule, tangents, push)
    assert isinstance(rule, DerivativeRule)
    return push_custom(node, rule, tangents, push, pull_back)


def _pull_by_rule(
    node: Node, rule: BodyRule, moves: Sequence[bool], cotangents: Sequence[Node | None]
) -> list[Node | None]:
    if isinstance(rule, ImplicitRule):
        return pull_implicit(node, rule, moves, cotangents, pull_back)
    assert isinstance(rule, DerivativeRule)
    return pull_custom(node, rule, moves, cotangents, push_forward, pull_back)
