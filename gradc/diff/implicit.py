"""The implicit function theorem: nodes whose results x solve an equation, differentiated and batched.

Enters: a ``custom`` node with a `RootRule`, f(p, x) = 0, or a `LinearRule`, A(p)x = b, and tangents, cotangents or
batch axes.  Leaves: tangents, cotangents, or a node for batches.

    f(p, x) = 0:  ẋ = −(∂f/∂x)⁻¹ (∂f/∂p ṗ),   p̄ = −(∂f/∂p)ᵀ λ with (∂f/∂x)ᵀ λ = x̄
    A(p) x = b:   ẋ = A⁻¹ (ḃ − Ȧ x),          b̄ = λ with Aᵀ λ = x̄,  p̄ = −(∂(A x)/∂p)ᵀ λ

The system is solved by a node with a `LinearRule`, linear in its right-hand side and with a transpose, so both modes
can take its derivative again.  Where it has no solution, λ is NaN, and so is p̄, whatever ∂f/∂p is.  What the
search tells besides x has no derivative, and nobody differentiates its steps.
Start reading at `push_implicit`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.loops import Batch, Maybe, Pull, Push, or_zeros, partner, shown, wide_leaf
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.ops.control import item, result_count, tell
from gradc.ops.implicit import ImplicitRule, LinearRule, LinearSolver, RootRule
from gradc.ops.leaves import full
from gradc.ops.ranges import range_of


def push_implicit(node: Node, rule: ImplicitRule, tangents: Maybe, push: Push) -> list[Node | None]:
    """The tangent of each result."""
    consts, x = rule.consts_of(node.args), _solution(node, rule)
    moved = _pushed_map(rule, consts, x, rule.consts_of(tangents), push)
    given = tangents[len(consts) :] if isinstance(rule, LinearRule) else [None] * rule.count
    right = [_difference(b, m) for b, m in zip(given, moved, strict=True)]
    if all(r is None for r in right):
        return [None] * result_count(node)
    solver, operands = _system(node, rule)
    found = solver.solved(operands, [or_zeros(r, like) for r, like in zip(right, x, strict=True)])
    return [*found, *[None] * (result_count(node) - rule.count)]


def pull_implicit(
    node: Node, rule: ImplicitRule, moves: Sequence[bool], cotangents: Maybe, pull: Pull
) -> list[Node | None]:
    """The cotangent of each operand that moves."""
    consts, x = rule.consts_of(node.args), _solution(node, rule)
    reaching = cotangents[: rule.count]
    if all(c is None for c in reaching):
        return [None] * len(node.args)
    solver, operands = _system(node, rule)
    dual = solver.rule.transposed.solved(operands, [or_zeros(c, like) for c, like in zip(reaching, x, strict=True)])
    found = _pulled_map(_told(rule, consts, x), consts, x, moves, [-y for y in dual], pull)
    found = _failing(rule, consts, x, found, dual, pull)
    if isinstance(rule, LinearRule):
        return [*found, *(y if m else None for y, m in zip(dual, moves[len(consts) :], strict=True))]
    return [*found, *[None] * (len(node.args) - len(consts))]


def _solution(node: Node, rule: ImplicitRule) -> list[Node]:
    return [item(node, k) for k in range(rule.count)]


def _system(node: Node, rule: ImplicitRule) -> tuple[LinearSolver, list[Node]]:
    """What solves the linearised equation of ``node``, and the consts of that system."""
    consts = rule.consts_of(node.args)
    if isinstance(rule, RootRule):
        return rule.tangent, [*consts, *_solution(node, rule)]
    assert isinstance(rule, LinearRule)
    return rule.again or LinearSolver(node.attrs["body"], rule), list(consts)


def _difference(a: Node | None, b: Node | None) -> Node | None:
    if b is None:
        return a
    return -b if a is None else a - b


def _pushed_map(
    rule: ImplicitRule, consts: Sequence[Node], x: Sequence[Node], tangents: Maybe, push: Push
) -> list[Node | None]:
    """The tangent of map(consts, x) for x that stays."""
    moving = [k for k, t in enumerate(tangents) if t is not None]
    if not moving:
        return [None] * rule.count
    graph = _told(rule, consts, x)
    leaves = [partner(graph.inputs[k], "d", tangents[k]) for k in moving]
    found = push(graph.outputs, [graph.inputs[k] for k in moving], leaves)
    return _over(graph, leaves, found, [*consts, *x], [t for t in tangents if t is not None])


def _pulled_map(
    graph: Graph, consts: Sequence[Node], x: Sequence[Node], moves: Sequence[bool], cotangents: Sequence[Node],
    pull: Pull,
) -> list[Node | None]:  # fmt: skip
    """The cotangent of each of ``consts`` that moves, from that of graph(consts, x)."""
    moving = [k for k in range(len(consts)) if moves[k]]
    found: list[Node | None] = [None] * len(consts)
    if not moving:
        return found
    leaves = [partner(y, "c", c) for y, c in zip(graph.outputs, cotangents, strict=True)]
    pulled = pull(graph.outputs, [graph.inputs[k] for k in moving], leaves)
    for k, value in zip(moving, _over(graph, leaves, pulled, [*consts, *x], cotangents), strict=True):
        found[k] = value
    return found


def _failing(
    rule: ImplicitRule, consts: Sequence[Node], x: Sequence[Node], found: Maybe, dual: Sequence[Node], pull: Pull
) -> list[Node | None]:
    """``found``, and NaN where λ is not finite: a product of that with a ∂f/∂p of 0 is 0, as if x stood still."""
    lost = [dsl.where(dsl.isfinite(y), full(y.shape, 0.0, y.dtype), dsl.nan) for y in dual]
    carried = _pulled_map(rule.spread, consts, x, [y is not None for y in found], lost, pull)
    return [y if y is None or c is None else y + c for y, c in zip(found, carried, strict=True)]


def _told(rule: ImplicitRule, consts: Sequence[Node], x: Sequence[Node]) -> Graph:
    """The map, which knows what may happen to these operands."""
    tell(rule.map, zip(rule.map.inputs, map(range_of, (*consts, *x)), strict=True))
    return rule.map


def _over(
    graph: Graph, leaves: Sequence[Node], found: Maybe, operands: Sequence[Node], given: Sequence[Node]
) -> list[Node | None]:
    """What was built of the inputs of ``graph`` and ``leaves``, over operands and what is given for the leaves."""
    present = tuple(y for y in found if y is not None)
    whole = graph.replace(inputs=(*graph.inputs, *leaves), outputs=present)
    inlined = iter(whole.inlined([*operands, *given]))
    return [None if y is None else next(inlined) for y in found]


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_implicit(
    node: Node, rule: ImplicitRule, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result with the batch axis: a system for each example, solved together."""
    consts = len(rule.consts_of(args))
    linear = isinstance(rule, LinearRule)
    has = [*batched[:consts], *([True] * rule.count if linear else batched[consts:])]  # b is like A x
    operands = [shown(a, b, size) if h else a for a, b, h in zip(args, batched, has, strict=True)]
    wide = _batched_rule(rule, has[:consts], size, batch)
    body = _batched_body(node.attrs["body"], has, size, batch)
    made = OPS["custom"].make(operands, body=body, rule=wide)
    made = Node(made.op, made.args, made.attrs, made.aval, node.where, replica=node.replica)
    return [(item(made, k), True) for k in range(result_count(made))]


def _batched_body(body: Graph, has: Sequence[bool], size: int, batch: Batch) -> Graph:
    leaves = {x: wide_leaf(x, size) for x, h in zip(body.inputs, has, strict=True) if h}
    outputs = tuple(shown(y, h, size) for y, h in batch(body.outputs, leaves, size))
    return body.replace(inputs=tuple(leaves.get(x, x) for x in body.inputs), outputs=outputs)


def _batched_rule(rule: ImplicitRule, has: Sequence[bool], size: int, batch: Batch) -> ImplicitRule:
    """The rule for a batch of x, and of the consts that ``has`` marks."""
    x = [True] * rule.count
    marks = [*has, *x] if isinstance(rule, RootRule) else list(has)  # of the consts of the solvers

    def wide_map(graph: Graph) -> Graph:
        return _batched_body(graph, [*has, *x], size, batch)

    def wide_solver(solver: LinearSolver) -> LinearSolver:
        made = _batched_rule(solver.rule, marks, size, batch)
        assert isinstance(made, LinearRule)
        return LinearSolver(_batched_body(solver.body, [*marks, *x], size, batch), made)

    assert isinstance(rule, (LinearRule, RootRule))
    return rule.over(wide_map, wide_solver)
