"""Calls of functions differentiated and batched: once for all calls of a body.

Enters: a node that calls a body which others call too, with tangents, cotangents or batch axes.  Leaves: calls of
bodies that are derived from it, the same for equal requests: what nodes share, their derivatives share, to any order.
Where a derivative is to be transposed or stands behind what it is taken of, it is two bodies: one computes what the
other, which is linear, reads of it.  A body with too many such residuals is computed again instead.
Invariant: a derived body that is made for more than can happen (`gradc.ops.ranges`) is right for less.
Start reading at `pull_function`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.aval import Aval
from gradc.diff.loops import Batch, Maybe, Pull, Push, partner, wide_leaf
from gradc.graph import Graph, rewrite
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import (
    call_function,
    carried,
    informed,
    inner_leaf,
    once_per_body,
    read_inputs,
)
from gradc.ops.ranges import Hazard, Range, declared, range_of
from gradc.ops.record import LEAVES, Kind

#: A call keeps at most so many values for its derivative, or as many as its body has nodes; else it computes them
#: again.  Functions that call each other n deep would keep the values of all 2ⁿ calls.
MOST_RESIDUALS = 256

#: What is always allowed for in directions: that they come out of arithmetic, as those of a call behind others do.
ANY_NUMBERS = Range(hazard=Hazard.ARITHMETIC)

#: What is computed where it is read.
_CHEAP = (Kind.ELEMENTWISE, Kind.VIEW)

#: For each place whether something is there.
Places = tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Derived:
    """A derived body: results that are structurally zero are absent.

    ``linear`` takes the inputs of the body at ``read``, the residuals, and what the derivative is linear in, which are
    its last inputs, at ``given``.  ``kept`` computes the residuals from the inputs at ``used``; None if there are none.
    """

    linear: Graph
    present: Places
    read: tuple[int, ...]
    given: tuple[int, ...]
    kept: Graph | None
    used: tuple[int, ...]

    def called(self, operands: Sequence[Node], directions: Sequence[Node]) -> list[Node | None]:
        """The results, absent ones too."""
        if not any(self.present):
            return [None] * len(self.present)
        residuals = call_function(self.kept, [operands[k] for k in self.used]) if self.kept is not None else []
        linear = [directions[k] for k in self.given]
        found = iter(call_function(self.linear, [*(operands[k] for k in self.read), *residuals, *linear]))
        return [next(found) if there else None for there in self.present]


def push_function(node: Node, tangents: Maybe, push: Push, split: bool) -> list[Node | None]:
    """The tangent of each result; with ``split`` by a call that is linear in the tangents alone."""
    body: Graph = node.attrs["body"]
    informed(node)
    moves = tuple(t is not None for t in tangents)

    def make(known: Sequence[Range]) -> Derived:
        moving = [x for x, m in zip(body.inputs, moves, strict=True) if m]
        leaves = [declared(partner(x, "d"), r) for x, r in zip(moving, known, strict=True)]
        return _derived(body, leaves, push(body.outputs, moving, leaves), split)

    given = [t for t in tangents if t is not None]
    return _version(body, (push, moves), given, make).called(node.args, given)


def pull_function(node: Node, moves: Sequence[bool], cotangents: Maybe, pull: Pull) -> list[Node | None]:
    """The cotangent of each operand that moves."""
    body: Graph = node.attrs["body"]
    informed(node)
    reaching = tuple(c is not None for c in cotangents)

    def make(known: Sequence[Range]) -> Derived:
        outputs = [y for y, r in zip(body.outputs, reaching, strict=True) if r]
        leaves = [declared(partner(y, "c"), r) for y, r in zip(outputs, known, strict=True)]
        moving = [x for x, m in zip(body.inputs, moves, strict=True) if m]
        return _derived(body, leaves, pull(outputs, moving, leaves), True)

    given = [c for c in cotangents if c is not None]
    found = iter(_version(body, (pull, reaching, tuple(moves)), given, make).called(node.args, given))
    return [next(found) if m else None for m in moves]


# -- one body for all calls --------------------------------------------------------------------------------------------


@once_per_body
def _versions(body: Graph, request: object) -> list[tuple[tuple[Range, ...], Derived]]:
    """What was derived of ``body`` for a request, each with what was known of inputs and directions: a list to fill."""
    return []


def _version(
    body: Graph, request: object, given: Sequence[Node], make: Callable[[Sequence[Range]], Derived]
) -> Derived:
    """The derivative of ``body`` for what is known of its inputs, and of what is ``given`` to be linear in.

    One that was made for more will do.  So a new one is made for all that was asked for before, too: there are never
    more than kinds of values.
    """
    versions = _versions(body, request)
    known = (*map(range_of, body.inputs), *(carried(d).joined(ANY_NUMBERS) for d in given))
    for ranges, derived in versions:
        if all(map(Range.is_told_by, known, ranges)):
            return derived
    for ranges, _ in versions:
        known = tuple(map(Range.joined, known, ranges))
    derived = make(known[len(body.inputs) :])
    versions.append((known, derived))
    return derived


# -- derived bodies ----------------------------------------------------------------------------------------------------


def _derived(body: Graph, leaves: Sequence[Node], results: Maybe, split: bool) -> Derived:
    """``results``, computed from the body's inputs and linear in ``leaves``, as a body of their own, or as two."""
    present = tuple(y is not None for y in results)
    outputs = [y for y in results if y is not None]
    residuals = _residuals(body, leaves, outputs) if split else []
    if len(residuals) > max(MOST_RESIDUALS, len(body.nodes)):
        residuals = []
    cut = {n: inner_leaf(Aval(n.shape, n.dtype), "residual", range_of(n)) for n in residuals}
    own = {x: x for x in (*body.inputs, *leaves)}
    outputs = rewrite(outputs, lambda node, args: None, {**own, **cut})
    reached = read_inputs(outputs)
    read = tuple(k for k, x in enumerate(body.inputs) if x in reached)
    given = tuple(k for k, x in enumerate(leaves) if x in reached)
    inputs = (*(body.inputs[k] for k in read), *cut.values(), *(leaves[k] for k in given))
    linear = Graph(inputs, tuple(outputs), _names(inputs), title=f"{body.title} derivative")
    if not residuals:
        return Derived(linear, present, read, given, None, ())
    sources = read_inputs(residuals)
    used = tuple(k for k, x in enumerate(body.inputs) if x in sources)
    kept = body.replace(inputs=tuple(body.inputs[k] for k in used), outputs=tuple(residuals))
    return Derived(linear, present, read, given, kept, used)


def _names(inputs: Sequence[Node]) -> dict[Node, str]:
    return {x: str(x.attrs["name"]) for x in inputs}


def _residuals(body: Graph, leaves: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
    """What the part that depends on ``leaves`` reads of the rest, back to values that are dear to compute again.

    Those are sums, products, results of bodies and the like.  What is computed element by element, or only moved, is
    computed again where it is read, in the same loops: that costs less than memory for it.
    """
    linear: set[Node] = {*leaves}
    wanted: dict[Node, None] = {}
    for node in topological(outputs):
        if any(a in linear for a in node.args):
            linear.add(node)
            wanted |= dict.fromkeys(a for a in node.args if a not in linear)
    wanted |= dict.fromkeys(y for y in outputs if y not in linear)
    inputs = {*body.inputs}
    found: dict[Node, None] = {}
    pending, seen = list(reversed(wanted)), set[Node]()
    while pending:
        node = pending.pop()
        if node in seen or node in inputs or node.op.kind in LEAVES:
            continue
        seen.add(node)
        if node.op.kind in _CHEAP:
            pending += reversed(node.args)
        else:
            found[node] = None
    return list(found)


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_function(
    node: Node, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result, and whether it has the batch axis."""
    informed(node)
    wide, has = _batched(node.attrs["body"], tuple(batched), size, batch)
    return list(zip(call_function(wide, args), has, strict=True))


@once_per_body
def _batched(body: Graph, batched: Places, size: int, batch: Batch) -> tuple[Graph, Places]:
    leaves = {x: wide_leaf(x, size) for x, has in zip(body.inputs, batched, strict=True) if has}
    found = batch(body.outputs, leaves, size)
    wide = body.replace(inputs=tuple(leaves.get(x, x) for x in body.inputs), outputs=tuple(y for y, _ in found))
    return wide, tuple(has for _, has in found)
