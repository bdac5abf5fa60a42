"""Kronecker factors of curvature, read off the graph of a loss.

Enters: the loss and its parameters.  Leaves: for each parameter the second moments of what it multiplies and of the
derivatives that come back to its products.  Where a weight w stands in a contraction y = Σ a·w, the gradient of one row
of y is a product of a row of activations a and a row of derivatives g = ∂loss/∂y, so that the second moment of such
gradients is about A ⊗ G, A that of a and G that of g (Martens & Grosse 2015, § 3).  Which nodes these are the graph
says: no layer is registered.  What is used in any other way is refused by name.  Start reading at `kronecker_factors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradc.aval import NARROW, computed_in
from gradc.diff.linear import active_nodes
from gradc.diff.modes import pull_back
from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, here
from gradc.ops.contraction import Labels, contract
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.ops.record import Kind

#: for each axis of a node the axis of the parameter that it shows, None for one of extent 1 that shows none
Shown = tuple[int | None, ...]


@dataclass(frozen=True)
class Factored:
    """A and G of one parameter, whose axes ``inputs`` A is over, in their order; G is over the others."""

    A: Node
    G: Node
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class _Use:
    """One place where a parameter meets rows of activations.

    ``at``: the node whose cotangent holds the rows g.  ``out``: for each of its axes the axis of the parameter, a
    negative number for rows.  ``other``, ``into``: the activations and their axes in the same way; None: 1 for each.
    """

    at: Node
    out: Labels
    other: Node | None
    into: Labels
    inputs: tuple[int, ...]

    @property
    def rows(self) -> int:
        return math.prod(n for n, k in zip(self.at.shape, self.out, strict=True) if k < 0)


def kronecker_factors(graph: Graph, params: Sequence[Node], examples: int | None = None) -> list[Factored]:
    """The factors of each of ``params`` in the first output of ``graph``; TraceError for one that has none.

    The output is a mean over ``examples``; None: as many as the fewest rows with which one of the parameters is used.
    """
    loss = graph.outputs[0]
    order, active = active_nodes([loss], params)
    names = [graph.names.get(p, "a parameter") for p in params]
    uses = [_uses(p, name, order, active) for p, name in zip(params, names, strict=True)]
    nodes = list(dict.fromkeys(use.at for mine in uses for use in mine))
    given = pull_back([loss], nodes, [full((), 1, loss.dtype)])
    cotangents = {y: g for y, g in zip(nodes, given, strict=True) if g is not None}
    count = examples if examples is not None else min((u.rows for mine in uses for u in mine), default=1)
    return [
        _factored(p, name, mine, cotangents, count) for p, name, mine in zip(params, names, uses, strict=True)
    ]  # fmt: skip


# -- where a parameter is used -----------------------------------------------------------------------------------------


def _uses(param: Node, name: str, order: Sequence[Node], active: set[Node]) -> list[_Use]:
    """All places where a parameter meets activations."""
    shown: dict[Node, Shown] = {param: tuple(range(param.ndim))}  # nodes that show it, and which of its axes where
    uses: list[_Use] = []
    for node in order:
        held = [a for a in node.args if a in shown]
        if not held or node not in active or node.op.stops:
            continue
        if node.op.converts and node.dtype.kind == "f":
            shown[node] = shown[held[0]]
        elif node.op.permutes:
            shown[node] = tuple(shown[held[0]][a] for a in node.attrs["axes"])
        elif node.op.regroups and _wide(node) == _wide(held[0]):
            axes = iter(k for k, n in zip(shown[held[0]], held[0].shape, strict=True) if n != 1)
            shown[node] = tuple(None if n == 1 else next(axes) for n in node.shape)
        elif node.op.repeats and param.ndim < 2:
            uses.append(_of_rows(node, held[0], shown[held[0]]))
        elif node.op.kind is Kind.CONTRACT and len(held) == 1:
            uses.append(_of_product(node, shown, name))
        else:
            raise _refused(name, node, _why(node, len(held)))
    if not uses:
        raise TraceError(f"{here()}: kfac_factors: the loss does not depend on {name}, which so has no factors")
    return uses


def _wide(node: Node) -> list[int]:
    """Extents but for those of 1."""
    return [n for n in node.shape if n != 1]


def _why(node: Node, held: int) -> str:
    if node.op.kind is Kind.LOOP or node.op.kind is Kind.BRANCH or node.op.kind is Kind.CALL:
        return "inside a body of its own; write the loop out, or leave it out of what K-FAC moves"
    if held > 1 and node.op.kind is Kind.CONTRACT:
        return "on both sides of a product"
    return (
        f"by {node.op.name}; it takes weights that are one side of a product with activations, in their own shape, and "
        "numbers or vectors that are added or multiplied to rows. Give penalties to the optimizer (gc.optim."
        "add_decayed_weights), other parameters another one (gc.optim.partition)"
    )


def _refused(name: str, node: Node, why: str) -> TraceError:
    return TraceError(f"{node.where or here()}: kfac_factors: {name} is used {why}")


def _of_rows(node: Node, shown: Node, axes: Shown) -> _Use:
    """A vector shown to each row: a bias, or a scale; its derivative by each row is one of the whole row."""
    out = [-1 - k for k in range(node.ndim)]
    for mine, theirs in enumerate(node.attrs["axes"]):
        if (axis := axes[mine]) is not None and shown.shape[mine] == node.shape[theirs]:
            out[theirs] = axis
    return _Use(node, tuple(out), None, (), ())


def _of_product(node: Node, shown: Mapping[Node, Shown], name: str) -> _Use:
    """A weight in a contraction with activations."""
    sides = (node.attrs["left"], node.attrs["right"])
    mine = 0 if node.args[0] in shown else 1
    weight, labels, theirs = node.args[mine], sides[mine], sides[1 - mine]
    axis = dict(zip(labels, shown[weight], strict=True))
    out = node.attrs["out"]
    if None in axis.values():
        raise _refused(name, node, "in another shape; let einsum take it in its own")
    if any(k in theirs and k in out for k in labels):
        raise _refused(name, node, "with an axis that the activations and the result have as well (a batched or "
                                   "grouped product); take its parts as parameters of their own")  # fmt: skip
    if any(k not in theirs and k not in out for k in labels):
        raise _refused(name, node, "with an axis that is summed alone; sum it first")
    known = {k: a for k, a in axis.items() if a is not None}
    inputs = tuple(sorted(known[k] for k in labels if k in theirs))
    rows, into = (tuple(known.get(k, -1 - k) for k in part) for part in (out, theirs))
    return _Use(node, rows, node.args[1 - mine], into, inputs)


# -- second moments ----------------------------------------------------------------------------------------------------


def _factored(param: Node, name: str, uses: Sequence[_Use], cotangents: Mapping[Node, Node], examples: int) -> Factored:
    """A: the mean over rows of all uses; G: the sum over them, times the number of examples."""
    inputs = uses[0].inputs
    for use in uses[1:]:
        if use.inputs != inputs:
            why = (
                "in products along different axes of it, or in products and otherwise: its curvature has no two factors"
            )
            raise _refused(name, use.at, why)
    outputs = tuple(k for k in range(param.ndim) if k not in inputs)
    dtype = computed_in(param.dtype) if param.dtype in NARROW else param.dtype
    rows = sum(use.rows for use in uses)
    size = math.prod(param.shape[k] for k in inputs), math.prod(param.shape[k] for k in outputs)
    activations, derivatives = full((size[0], size[0]), 0, dtype), full((size[1], size[1]), 0, dtype)
    if all(use.other is None for use in uses):
        activations = full((1, 1), float(rows), dtype)
    for use in uses:
        if use.other is not None:
            activations = activations + _moment(cast(use.other, dtype), use.into, inputs, use.out)
        if use.at in cotangents:
            derivatives = derivatives + _moment(cast(cotangents[use.at], dtype), use.out, outputs, use.into)
    return Factored(activations / max(rows, 1), derivatives * examples, inputs)


def _moment(x: Node, labels: Labels, axes: tuple[int, ...], others: Labels) -> Node:
    """Σ x·xᵀ over rows, as a matrix over ``axes``; what only x has is summed first, unless it is a row.

    Axes that x lacks have one element.
    """
    axes = tuple(k for k in axes if k in labels)
    alone = tuple(a for a, k in enumerate(labels) if k < 0 and others and k not in others)
    if alone:
        x, labels = OPS["sum"].make((x,), axes=alone), tuple(k for k in labels if k >= 0 or k in others)
    names = {k: i for i, k in enumerate(sorted({*labels}))}
    first = tuple(names[k] for k in labels)
    second = tuple(names[k] + (len(names) if k in axes else 0) for k in labels)
    out = tuple(names[k] for k in axes) + tuple(names[k] + len(names) for k in axes)
    product = contract(x, first, x, second, out)
    size = math.prod(product.shape[: len(axes)])
    return OPS["reshape"].make((product,), shape=(size, size))


__all__ = ["Factored", "kronecker_factors"]
