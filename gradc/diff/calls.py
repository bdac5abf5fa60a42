"""Branches and calls differentiated and batched: what is done to the node is done to its bodies.

Enters: a node that holds bodies and runs one of them once, with tangents, cotangents or batch axes.  Leaves: a node of
the same op on derived bodies.  The derivative of a body computes the body again; nothing of it is kept.  A checkpoint
pulled back carries a `replica` number of its own, so that what it computes again is not merged with the first time.
`push`, `pull` and `batch` are the modes, handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gradc.diff.loops import Batch, Maybe, Pull, Push, or_zeros, partner, shown, wide_leaf
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node, next_serial
from gradc.ops.control import bodies, informed, item, selected
from gradc.ops.record import Kind


def operands_of(node: Node) -> int:
    """Where the operands of the bodies begin: a branch is given its bool first."""
    return 1 if node.op.kind is Kind.BRANCH else 0


def push_call(node: Node, tangents: Maybe, push: Push) -> list[Node | None]:
    """The tangent of each result."""
    lead = operands_of(node)
    moving = [i for i, t in enumerate(tangents[lead:]) if t is not None]
    held = bodies(node)
    informed(node)
    leaves = {name: [partner(body.inputs[i], "d", tangents[lead + i]) for i in moving] for name, body in held.items()}
    derived = {name: push(body.outputs, [body.inputs[i] for i in moving], leaves[name]) for name, body in held.items()}
    given = [t for t in tangents[lead:] if t is not None]
    return _derived(node, derived, leaves, given, dict(enumerate(next(iter(held.values())).outputs)))


def pull_call(node: Node, moves: Sequence[bool], cotangents: Maybe, pull: Pull) -> list[Node | None]:
    """The cotangent of each operand that moves."""
    lead = operands_of(node)
    moving = [i for i, m in enumerate(moves[lead:]) if m]
    known = [k for k, c in enumerate(cotangents) if c is not None]
    held = bodies(node)
    informed(node)
    leaves = {name: [partner(body.outputs[k], "c", cotangents[k]) for k in known] for name, body in held.items()}
    pulled = {
        name: pull([body.outputs[k] for k in known], [body.inputs[i] for i in moving], leaves[name])
        for name, body in held.items()
    }
    given = [c for c in cotangents if c is not None]
    first = next(iter(held.values()))
    like = {place: first.inputs[i] for place, i in enumerate(moving)}
    results = _derived(node, pulled, leaves, given, like, replica=next_serial())
    found: list[Node | None] = [None] * len(node.args)
    for i, result in zip(moving, results, strict=True):
        found[lead + i] = result
    return found


def _derived(
    node: Node, derived: Mapping[str, Maybe], leaves: Mapping[str, Sequence[Node]], given: Sequence[Node],
    like: Mapping[int, Node], replica: int | None = None,
) -> list[Node | None]:  # fmt: skip
    """A node on bodies that take ``leaves`` too and return what is ``derived``; a result that no body has is None."""
    wanted = [k for k in like if any(results[k] is not None for results in derived.values())]
    if not wanted:
        return [None] * len(like)
    whole: dict[str, Graph] = {}
    for name, body in bodies(node).items():
        outputs = tuple(or_zeros(derived[name][k], like[k]) for k in wanted)
        whole[name] = body.replace(inputs=(*body.inputs, *leaves[name]), outputs=outputs)
    lead = operands_of(node)
    read = _read(whole.values())
    args = (*node.args[:lead], *(a for a, r in zip((*node.args[lead:], *given), read, strict=True) if r))
    attrs = {
        name: body.replace(inputs=tuple(x for x, r in zip(body.inputs, read, strict=True) if r))
        for name, body in whole.items()
    }
    plain = node.op.make(args, **attrs)
    again = replica if replica is not None and node.op.kind is Kind.CALL else node.replica
    made = Node(plain.op, args, attrs, plain.aval, node.where, replica=again)
    places = {k: place for place, k in enumerate(wanted)}
    return [item(made, places[k]) if k in places else None for k in like]


def _read(graphs: Collection[Graph]) -> list[bool]:
    """Which inputs some body reads: a pulled body does not read the tangents that it is linear in."""
    used = [{n for n in topological(body.outputs) if n.op.kind is Kind.INPUT} for body in graphs]
    return [
        any(x in mine for x, mine in zip(column, used, strict=True))
        for column in zip(*(body.inputs for body in graphs), strict=True)
    ]


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_call(
    node: Node, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result, and whether it has the batch axis; a batch of bools selects between the results of both bodies."""
    lead = operands_of(node)
    found: dict[str, list[tuple[Node, bool]]] = {}
    held = bodies(node)
    inner: dict[str, list[Node]] = {}
    for name, body in held.items():
        flags = zip(body.inputs, batched[lead:], strict=True)
        leaves = {x: wide_leaf(x, size) for x, h in flags if h}
        found[name] = batch(body.outputs, leaves, size)
        inner[name] = [leaves.get(x, x) for x in body.inputs]
    selects = bool(lead) and batched[0]
    has = [selects or any(results[k][1] for results in found.values()) for k in range(len(found["body"]))]
    graphs = {
        name: held[name].replace(
            inputs=tuple(inner[name]),
            outputs=tuple(shown(y, h, size) if w else y for (y, h), w in zip(found[name], has, strict=True)),
        )
        for name in held
    }
    if selects:
        one, two = (graphs[name].inlined(args[1:]) for name in ("body", "otherwise"))
        return [(y, True) for y in selected(args[0], one, two)]
    made = node.op.make(args, **graphs)
    made = Node(made.op, made.args, made.attrs, made.aval, node.where, replica=node.replica)
    return [(item(made, k), h) for k, h in enumerate(has)]
