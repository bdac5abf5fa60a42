"""How each kind of op acts on a matrix in normal form: one rule per kind, and what is dense for lack of one.

Enters: a node of a graph that is linear in one leaf, and the matrices of those operands that depend on it.  Leaves: the
node's matrix.
A rule works factor by factor wherever the op allows it.  An op of any other kind (a loop, a call, windows over a tied
axis) is applied to the product of all factors, batched over the directions: always right, as dense as it was.
Start reading at `matrix_of_node`; `RULES` is the table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from gradc.diff.structured.joint import applied_densely, masked
from gradc.diff.structured.labels import Axis, Index, Label, axes, naming
from gradc.diff.structured.labels import directions as directions_of
from gradc.diff.structured.moves import MOVES
from gradc.diff.structured.products import collected, dense, multiplied_out, summed
from gradc.diff.structured.terms import MOST_FACTORS, Factor, Matrix, Role, Space, Term, factors_of, squeezed
from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import iota
from gradc.ops.record import Kind

Rule = Callable[[Node, Mapping[int, Matrix]], list[Term]]

#: a sum of more terms than this is added up
MOST_TERMS = 8


def matrix_of_node(node: Node, given: Mapping[int, Matrix], directions: tuple[int, ...]) -> Matrix:
    """The matrix of ``node`` from those of its operands, by position; absent ones do not depend on the leaf."""
    if not node.size:
        return Matrix(node.shape, node.dtype, ())
    rule = RULES.get(node.op.name) or MOVES.get(node.op.name) or _by_kind(node)
    return _settled(Matrix(node.shape, node.dtype, tuple(rule(node, given))), directions)


def _by_kind(node: Node) -> Rule:
    return contraction if node.op.kind is Kind.CONTRACT else applied_densely


def _settled(matrix: Matrix, directions: tuple[int, ...]) -> Matrix:
    """The matrix with few terms of few factors: what is used again is not written out again wherever it is used.

    Terms that hold an array over the same labels are added up, for their sum is no larger; more than `MOST_TERMS` are
    added up where they have the same deltas, or else altogether.
    """
    terms = tuple(multiplied_out(t) if len(t.factors) > MOST_FACTORS else t for t in matrix.terms)
    if len(terms) > 1:
        terms = _added_up(terms, _array, matrix)
    if len(terms) > MOST_TERMS:
        terms = _added_up(terms, _deltas, matrix)
    matrix = replace(matrix, terms=terms)
    return matrix if len(terms) <= MOST_TERMS else _written_out(matrix, directions)


def _array(term: Term) -> Hashable:
    """What is the same for terms whose sum is no larger than they are: all factors lie within the widest array.

    A mask is no array: it says where elements lie, as a tie does, and a sum with other places does not say it any more.
    """
    sets = [frozenset(f.labels) for f in term.factors]
    arrays = [s for f, s in zip(term.factors, sets, strict=True) if f.role != "mask"]
    widest = max(arrays, key=len, default=frozenset[Label]())
    return (term.space, term.ties, widest) if all(s <= widest for s in sets) else term


def _deltas(term: Term) -> Hashable:
    return term.space, term.ties


def _added_up(terms: Sequence[Term], alike: Callable[[Term], Hashable], matrix: Matrix) -> tuple[Term, ...]:
    """One term for all that are ``alike``."""
    groups: dict[Hashable, list[Term]] = {}
    for term in terms:
        groups.setdefault(alike(term), []).append(term)
    return tuple(_sum(same, matrix) for same in groups.values())


def _sum(terms: Sequence[Term], matrix: Matrix) -> Term:
    sizes = terms[0].sizes(matrix.own)
    return collected(terms, tuple(sizes), sizes, matrix.dtype)


def _written_out(matrix: Matrix, directions: tuple[int, ...]) -> Matrix:
    """The matrix as one dense term."""
    labels = (*axes(range(len(matrix.shape))), *directions_of(len(directions)))
    term = Term((squeezed(dense(matrix, directions), labels),), (), Space(directions))
    return replace(matrix, terms=(term,))


# -- elementwise -------------------------------------------------------------------------------------------------------


def plus(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """Σ terms of both."""
    return [t for matrix in given.values() for t in matrix.terms]


def minus(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """x − y."""
    right = given[1].terms if 1 in given else ()
    return [*(given[0].terms if 0 in given else ()), *(replace(t, sign=-t.sign) for t in right)]


def negated(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """−x."""
    return [replace(t, sign=-t.sign) for t in given[0].terms]


def converted(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """Each factor in the new dtype."""
    return [
        replace(
            t, factors=tuple(f if f.role == "mask" else replace(f, node=cast(f.node, node.dtype)) for f in t.factors)
        )
        for t in given[0].terms
    ]


def product(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """Times (or over) something that does not depend on the leaf: more factors, no arithmetic."""
    if len(given) != 1 or (node.op.name == "divide" and 1 in given):
        return applied_densely(node, given)
    ((i, matrix),) = given.items()
    role: Role = "over" if node.op.name == "divide" else "times"
    sign, factors = factors_of(node.args[1 - i], axes(range(node.ndim)), role)
    return [replace(t.with_factors(*factors), sign=t.sign * sign) for t in matrix.terms]


def selected(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """where(mask, x, y) with x or y zero or both linear: each under its mask."""
    if 0 in given:
        return applied_densely(node, given)
    mask = node.args[0]
    masks = {1: mask, 2: apply(OPS["logical_not"], mask)}
    return [
        masked(t, factors_of(masks[i], axes(range(node.ndim)), "mask")[1], matrix)
        for i, matrix in given.items()
        for t in matrix.terms
    ]


# -- sums and products of matrices -------------------------------------------------------------------------------------


def reduced(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """Σ over axes."""
    matrix, gone = given[0], set(node.attrs["axes"])
    terms = summed(matrix.terms, set(axes(gone)), matrix.own, node.dtype)
    kept = [a for a in range(len(matrix.shape)) if a not in gone]
    names = naming(axes(kept), axes(range(node.ndim)))
    return [t.renamed(names) for t in terms]


def contraction(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """Σ over the summed labels of x·y, where one of them depends on the leaf.

    A delta on a summed label renames the other operand's index: no multiplication.
    """
    if len(given) != 1:
        return applied_densely(node, given)
    ((i, matrix),) = given.items()
    left, right, out = (tuple(map(Index, node.attrs[key])) for key in ("left", "right", "out"))
    mine, theirs = (left, right) if i == 0 else (right, left)
    sizes: dict[Label, int] = dict(zip(left, node.args[0].shape, strict=True))
    sizes.update(zip(right, node.args[1].shape, strict=True))
    names = naming(axes(range(len(mine))), mine)
    sign, factors = factors_of(node.args[1 - i], theirs)
    terms = [replace(t.renamed(names).with_factors(*factors), sign=t.sign * sign) for t in matrix.terms]
    places = naming(out, axes(range(len(out))))
    return [t.renamed(places) for t in summed(terms, set(sizes) - set(out), sizes, node.dtype)]


def running_sum(node: Node, given: Mapping[int, Matrix]) -> list[Term]:
    """A running sum over a tied axis is a triangle of ones; over a free one it is that of the factors there."""
    matrix, axis, reverse = given[0], Axis(node.attrs["axis"]), node.attrs["reverse"]
    terms = []
    for term in matrix.terms:
        k = term.direction_of(axis)
        if k is None:
            terms += applied_densely(node, {0: replace(matrix, terms=(term,))})
            continue
        n = term.extent_of(k)
        rows, columns = iota((n, n), 0), iota((n, n), 1)
        triangle = apply(OPS["less_equal" if reverse else "greater_equal"], rows, columns)
        terms.append(masked(term.without_tie(axis), [Factor(triangle, (axis, k), "mask")], matrix))
    return terms


RULES: dict[str, Rule] = {
    "add": plus,
    "subtract": minus,
    "negative": negated,
    "positive": plus,
    "extended": plus,
    "cast": converted,
    "multiply": product,
    "strong_multiply": product,
    "divide": product,
    "where": selected,
    "sum": reduced,
    "cumsum": running_sum,
}
"""Ops with a rule of their own; contractions are known by their kind, views by `moves`."""
