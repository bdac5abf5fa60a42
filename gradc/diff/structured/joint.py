"""Where factors have to meet: under a mask, and in an op that cannot be applied factor by factor.

Enters: terms.  Leaves: terms in which some factors are multiplied out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from gradc.diff.batching import batch_node
from gradc.diff.reverse import is_linear_in
from gradc.diff.structured.labels import axes, is_own, place
from gradc.diff.structured.products import formed
from gradc.diff.structured.terms import Factor, Matrix, Term, squeezed
from gradc.node import OPS, Node
from gradc.ops.leaves import full


def masked(term: Term, masks: Sequence[Factor], matrix: Matrix) -> Term:
    """The term under ``masks``, selected and not multiplied: factors that may be infinite or NaN where a mask is false
    are multiplied out under it; ``matrix`` says the shape and dtype.
    """
    if not masks:
        return term
    wild = [f for f in term.factors if not f.is_tame]
    if not wild:
        return term.with_factors(*masks)
    order = tuple(dict.fromkeys(k for f in (*wild, *masks) for k in f.labels))
    joint = formed([*wild, *masks], order, term.sizes(matrix.own), matrix.dtype)
    return replace(term, factors=(*(f for f in term.factors if f.is_tame), Factor(joint, order)))


def applied_densely(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """The op itself on the product of all factors, with the directions as a batch; linear operands one at a time.

    What varies over directions alone stays outside, if zero times it is zero.
    """
    return [_applied(node, i, t, matrix) for i, matrix in given.items() for t in matrix.terms]


def _applied(node: Node, i: int, term: Term, matrix: Matrix) -> Term:
    term = term.loosened([a for a, _ in term.ties])
    inside = [f for f in term.factors if any(map(is_own, f.labels)) or not f.is_tame]
    used = sorted({k for f in inside for k in f.labels if not is_own(k)}, key=place)
    sizes = term.sizes(matrix.own)
    operand = formed(inside, (*used, *axes(range(len(matrix.shape)))), sizes, matrix.dtype)
    args = [a if not _linear_in(node, j) else full(a.shape, 0, a.dtype) for j, a in enumerate(node.args)]
    args[i] = operand
    result = _batched(node, args, i, tuple(sizes[k] for k in used)) if used else node.rebuilt(args)
    outside = tuple(f for f in term.factors if not any(f is g for g in inside))
    return Term((*outside, squeezed(result, (*used, *axes(range(node.ndim))))), (), term.space, term.sign)


def _batched(node: Node, args: list[Node], i: int, lead: tuple[int, ...]) -> Node:
    """The op with operand ``i`` batched over leading axes, which are one axis for the time being."""
    count = prod(lead)
    args[i] = OPS["reshape"].make((args[i],), shape=(count, *args[i].shape[len(lead) :]))
    result = batch_node(node, args, [j == i for j in range(len(args))], count)
    return OPS["reshape"].make((result,), shape=(*lead, *node.shape))


def _linear_in(node: Node, j: int) -> bool:
    """Whether the op is linear in operand ``j`` together with others, which have to be zero then."""
    floats = [k for k, a in enumerate(node.args) if a.aval.is_float]
    if node.op.linear is None:
        return node.op.partials is None and j in floats
    return j in floats and is_linear_in(node, floats)
