"""Products of factors as nodes, and the order in which labels are summed.

Enters: factors with labels.  Leaves: nodes.  A sum over a label joins the factors that carry it, as one contraction of
two groups; the groups are chosen so that the least is multiplied out beforehand: in Σᵢ x[i,d]·s[i]·x[i,e] the scaling
goes to one side, in Σᵢ x[i,d]·x[i,e]·q[i,h]·q[i,k] the sides are xx and qq or xq and xq, whichever is smaller.
Terms that would be summed alike are added first where that saves work.  Start reading at `summed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np

from gradc.diff.structured.labels import Label, Labels, Sizes, axes, place
from gradc.diff.structured.labels import directions as directions_of
from gradc.diff.structured.terms import Factor, Matrix, Term
from gradc.node import OPS, Node, constant, dsl
from gradc.ops.contraction import contract, guarded
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import delta, full
from gradc.ops.ranges import TRUTH, declared, is_safe

#: groups of factors that are tried in all ways; beyond, the smallest products are made first
MOST_GROUPS = 8
LabelSet = frozenset[Label]


# -- products ----------------------------------------------------------------------------------------------------------


def formed(factors: Sequence[Factor], order: Labels, sizes: Sizes, dtype: np.dtype[Any]) -> Node:
    """The product of ``factors`` with its axes at ``order``; small factors meet first, masks come last."""
    value = _multiplied([f for f in factors if f.role != "mask"])
    masks = [f for f in factors if f.role == "mask"]
    if masks:
        value = _selected(value, masks, sizes, dtype)
    if value is None:
        return full(tuple(sizes[k] for k in order), 1, dtype)
    if value.role == "over":
        value = Factor(apply(OPS["divide"], full(value.node.shape, 1, dtype), value.node), value.labels)
    return spread(value.node, value.labels, order, sizes)


def _multiplied(factors: Sequence[Factor]) -> Factor | None:
    left = list(factors)
    while len(left) > 1:
        a, b = min(combinations(left, 2), key=lambda pair: _joint_size(*pair))
        left = [f for f in left if f is not a and f is not b]
        left.append(_pair(a, b))
    return left[0] if left else None


def _joint_size(a: Factor, b: Factor) -> int:
    return prod(_extents(a, b).values())


def _extents(*factors: Factor) -> dict[Label, int]:
    return {k: n for f in factors for k, n in zip(f.labels, f.node.shape, strict=True)}


def _pair(a: Factor, b: Factor) -> Factor:
    """a·b, a/b or b/a as one factor."""
    if a.role == "over" and b.role != "over":
        a, b = b, a
    sizes = _extents(a, b)
    wide, narrow = (a, b) if len(a.labels) >= len(b.labels) else (b, a)
    order = (*wide.labels, *(k for k in narrow.labels if k not in wide.labels))
    x, y = (spread(f.node, f.labels, order, sizes) for f in (a, b))
    if b.role == a.role == "over":
        return Factor(apply(OPS["multiply"], x, y), order, "over")
    safe = is_safe(a.range, b.range)
    if b.role == "over" and safe:
        return Factor(apply(OPS["divide"], x, y), order, a.role)
    if b.role == "over":
        y = apply(OPS["divide"], full(y.shape, 1, y.dtype), y)
    return Factor(apply(OPS["multiply" if safe else "strong_multiply"], x, y), order, a.role)


def _selected(value: Factor | None, masks: Sequence[Factor], sizes: Sizes, dtype: np.dtype[Any]) -> Factor:
    if value is None:
        mask = _conjunction(masks)
        return Factor(declared(cast(mask.node, dtype), TRUTH.among_zeros()), mask.labels)
    if value.role == "over":
        value = Factor(apply(OPS["divide"], full(value.node.shape, 1, dtype), value.node), value.labels)
    mask = _conjunction(masks, value)
    shown = spread(value.node, value.labels, mask.labels, sizes)
    return Factor(dsl.where(mask.node, shown, 0), mask.labels)


def _conjunction(masks: Sequence[Factor], *beside: Factor) -> Factor:
    """Where all masks hold, over their labels and those of what is ``beside`` them."""
    parts = [*beside, *masks]
    order = tuple(dict.fromkeys(k for f in sorted(parts, key=lambda f: -len(f.labels)) for k in f.labels))
    extents = _extents(*parts)
    mask, *more = (spread(f.node, f.labels, order, extents) for f in masks)
    for m in more:
        mask = apply(OPS["logical_and"], mask, m)
    return Factor(mask, order, "mask")


def spread(node: Node, labels: Labels, order: Labels, sizes: Sizes) -> Node:
    """``node`` with its axes where ``order`` has their labels, repeated along the others."""
    if labels == order:
        return node
    present = [k for k in order if k in labels]
    if tuple(present) != labels:
        node = OPS["transpose"].make((node,), axes=tuple(labels.index(k) for k in present))
    if len(present) == len(order):
        return node
    axes = tuple(order.index(k) for k in present)
    return OPS["broadcast"].make((node,), shape=tuple(sizes[k] for k in order), axes=axes)


# -- the order of sums -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Factors ``left`` and ``right`` (by number; none on the right: one factor alone) contracted over ``gone``."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    gone: LabelSet


def planned(sets: Sequence[LabelSet], gone: AbstractSet[Label], sizes: Sizes) -> tuple[list[Step], int]:
    """Steps that sum all labels ``gone`` out of factors with the label sets ``sets``, and how many products they cost.

    The result of a step is the next factor.
    """
    live = dict(enumerate(sets))
    steps, cost = list[Step](), 0
    left = {k for k in gone if any(k in s for s in sets)}
    while left:
        k = min(sorted(left, key=place), key=lambda k: _size(_union(s for s in live.values() if k in s), sizes))
        members = [i for i, s in live.items() if k in s]
        union = _union(live[i] for i in members)
        others = _union(s for i, s in live.items() if i not in members)
        now = frozenset(j for j in left if j in union and j not in others)
        first, second = _sides({i: live[i] for i in members}, sizes)
        steps.append(Step(first, second, now))
        cost += _size(union, sizes) + sum(_side_cost([live[i] for i in side], sizes) for side in (first, second))
        live = {i: s for i, s in live.items() if i not in members} | {len(sets) + len(steps) - 1: union - now}
        left -= now
    return steps, cost


def _union(sets: Iterable[LabelSet]) -> LabelSet:
    return frozenset[Label]().union(*sets)


def _size(labels: Iterable[Label], sizes: Sizes) -> int:
    return prod(sizes[k] for k in labels)


def _side_cost(sets: Sequence[LabelSet], sizes: Sizes) -> int:
    return _size(_union(sets), sizes) if len(sets) > 1 else 0


def _sides(members: dict[int, LabelSet], sizes: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The two groups of factors that cost least to multiply out."""
    groups: list[tuple[tuple[int, ...], LabelSet]] = [((i,), s) for i, s in members.items()]
    while len(groups) > MOST_GROUPS:
        a, b = min(combinations(groups, 2), key=lambda pair: _size(pair[0][1] | pair[1][1], sizes))
        groups = [g for g in groups if g is not a and g is not b] + [(a[0] + b[0], a[1] | b[1])]
    if len(groups) == 1:
        return groups[0][0], ()
    first, *rest = groups
    best: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    for count in range(len(rest)):
        for chosen in combinations(rest, count):
            left = [first, *chosen]
            right = [g for g in rest if not any(g is c for c in chosen)]
            cost = sum(_side_cost([s for _, s in side], sizes) for side in (left, right))
            if best is None or cost < best[0]:
                best = (cost, tuple(i for g, _ in left for i in g), tuple(i for g, _ in right for i in g))
    assert best is not None
    return best[1], best[2]


def summed(terms: Sequence[Term], gone: AbstractSet[Label], own: Sizes, dtype: np.dtype[Any]) -> list[Term]:
    """``terms`` summed over the own labels ``gone``: a tied one is renamed, the others are contracted."""
    groups: dict[Any, list[Term]] = {}
    for term in terms:
        tied = [a for a, _ in term.ties if a in gone]
        for own_label in tied:
            term = term.without_tie(own_label)
        rest = frozenset(gone).difference(tied)
        groups.setdefault((term.space, term.ties, rest), []).append(term)
    return [
        _contracted(term, rest, term.sizes(own), dtype)
        for (_, _, rest), members in groups.items()
        for term in _merged(members, rest, members[0].sizes(own), dtype)
    ]


def _contracted(term: Term, gone: LabelSet, sizes: Sizes, dtype: np.dtype[Any]) -> Term:
    repeats = prod(sizes[k] for k in gone if not any(k in f.labels for f in term.factors))
    factors = list(term.factors)
    if repeats != 1:
        factors.append(Factor(constant(np.asarray(repeats, dtype)), ()))
    factors = _with_scalars_inside(factors, gone)
    steps, _ = planned(_sets(factors), gone, sizes)
    live = dict(enumerate(factors))
    for number, step in enumerate(steps, len(factors)):
        left, right = [live.pop(i) for i in step.left], [live.pop(i) for i in step.right]
        live[number] = _product(left, right, step.gone, sizes, dtype)
    return replace(term, factors=tuple(live.values()))


def _with_scalars_inside(factors: list[Factor], gone: LabelSet) -> list[Factor]:
    """Scalars multiplied into the smallest factor of a sum, if that is smaller than the sum is."""
    scalars = [f for f in factors if not f.labels and f.role != "mask"]
    inside = [f for f in factors if gone & set(f.labels) and f.role == "times"]
    if not scalars or not inside:
        return factors
    smallest = min(inside, key=lambda f: f.node.size)
    result = prod(n for k, n in _extents(*factors).items() if k not in gone)
    if smallest.node.size >= result:
        return factors
    joint = _multiplied([*scalars, smallest])
    assert joint is not None
    return [joint if f is smallest else f for f in factors if not any(f is s for s in scalars)]


def _product(
    left: Sequence[Factor], right: Sequence[Factor], gone: LabelSet, sizes: Sizes, dtype: np.dtype[Any]
) -> Factor:
    x = _side(left, sizes, dtype)
    if not right:
        axes = tuple(a for a, k in enumerate(x.labels) if k in gone)
        total = OPS["sum"].make((x.node,), axes=axes)
        return Factor(total, tuple(k for k in x.labels if k not in gone))
    y = _side(right, sizes, dtype)
    out = tuple(k for k in dict.fromkeys((*x.labels, *y.labels)) if k not in gone)
    number = {k: i for i, k in enumerate(dict.fromkeys((*out, *x.labels, *y.labels)))}
    plain = [tuple(number[k] for k in labels) for labels in (x.labels, y.labels, out)]
    return Factor(guarded(contract(x.node, plain[0], y.node, plain[1], plain[2])), out)


def _side(factors: Sequence[Factor], sizes: Sizes, dtype: np.dtype[Any]) -> Factor:
    """One side of a contraction as one array, its axes in the order of the largest factor."""
    if len(factors) == 1 and factors[0].role == "times":
        return factors[0]
    largest_first = sorted(factors, key=lambda f: -len(f.labels))
    order = tuple(dict.fromkeys(k for f in largest_first for k in f.labels))
    return Factor(formed(factors, order, sizes, dtype), order)


def multiplied_out(term: Term) -> Term:
    """The term with one factor for each set of labels: nothing becomes larger, and the structure stays."""
    alike: dict[tuple[LabelSet, bool], list[Factor]] = {}
    for f in term.factors:
        alike.setdefault((frozenset(f.labels), f.role == "mask"), []).append(f)
    return replace(term, factors=tuple(_joint(same, mask) for (_, mask), same in alike.items()))


def _joint(factors: Sequence[Factor], mask: bool) -> Factor:
    """Factors over the same labels as one."""
    joint = _conjunction(factors) if mask else _multiplied(factors)
    assert joint is not None
    return joint


# -- sums of terms -----------------------------------------------------------------------------------------------------


def _merged(terms: list[Term], gone: LabelSet, sizes: Sizes, dtype: np.dtype[Any]) -> list[Term]:
    """Terms added before they are contracted, pair by pair, as long as that saves work."""

    def cost(sets: Sequence[LabelSet]) -> int:
        return planned(sets, gone, sizes)[1]

    while len(terms) > 1:
        best: tuple[int, Term, Term] | None = None
        for a, b in combinations(terms, 2):
            common, rest = _common(a, b)
            joint = _labels(rest)
            separate = cost(_sets(a.factors)) + cost(_sets(b.factors))
            gain = separate - cost([*_sets(common), joint]) - 2 * _size(joint, sizes)
            if gain > 0 and (best is None or gain > best[0]):
                best = (gain, a, b)
        if best is None:
            break
        _, a, b = best
        terms = [*(t for t in terms if t is not a and t is not b), added(a, b, sizes, dtype)]
    return terms


def _sets(factors: Iterable[Factor]) -> list[LabelSet]:
    return [frozenset(f.labels) for f in factors]


def _labels(factors: Iterable[Factor]) -> LabelSet:
    return _union(_sets(factors))


def _common(a: Term, b: Term) -> tuple[list[Factor], list[Factor]]:
    """The factors that two terms share, and all the others."""
    shared = Counter(f.key for f in a.factors) & Counter(f.key for f in b.factors)
    common, rest = _drawn(a.factors, Counter(shared))
    return common, [*rest, *_drawn(b.factors, Counter(shared))[1]]


def _drawn(factors: Sequence[Factor], wanted: Counter[Any]) -> tuple[list[Factor], list[Factor]]:
    taken, left = list[Factor](), list[Factor]()
    for f in factors:
        (taken if wanted[f.key] > 0 else left).append(f)
        wanted[f.key] -= 1
    return taken, left


def added(a: Term, b: Term, sizes: Sizes, dtype: np.dtype[Any]) -> Term:
    """Two terms over the same directions with the same ties as one: what they share times the sum of the rest."""
    common, rest = _common(a, b)
    shared = Counter(f.key for f in common)
    mine, theirs = (_drawn(t.factors, Counter(shared))[1] for t in (a, b))
    order = tuple(sorted(_labels(rest), key=place))
    x, y = (formed(part, order, sizes, dtype) for part in (mine, theirs))
    total = apply(OPS["add" if a.sign == b.sign else "subtract"], x, y)
    return replace(a, factors=(*common, Factor(total, order)))


# -- the matrix itself -------------------------------------------------------------------------------------------------


def dense(matrix: Matrix, directions: tuple[int, ...], transposed: bool = False) -> Node:
    """The matrix as one array: own axes, then ``directions``, those of the leaf; the other way if ``transposed``."""
    groups: dict[Any, list[Term]] = {}
    for term in matrix.terms:
        groups.setdefault((term.space, term.ties), []).append(term)
    parts = [_group_node(matrix, members, transposed) for members in groups.values()]
    if not parts:
        shape = (*directions, *matrix.shape) if transposed else (*matrix.shape, *directions)
        return full(shape, 0, matrix.dtype)
    return _total(parts)


def _total(parts: Sequence[tuple[int, Node]]) -> Node:
    """The sum of signed nodes, a positive one first."""
    (sign, node), *rest = sorted(parts, key=lambda part: -part[0])
    total = node if sign > 0 else apply(OPS["negative"], node)
    for s, n in rest:
        total = apply(OPS["add" if s > 0 else "subtract"], total, n)
    return total


def _group_node(matrix: Matrix, terms: Sequence[Term], transposed: bool) -> tuple[int, Node]:
    """Terms that differ in their factors alone, with their deltas written in, over all elements of the leaf."""
    sizes, dtype = terms[0].sizes(matrix.own), matrix.dtype
    own, directions = axes(range(len(matrix.shape))), directions_of(len(terms[0].space.shape))
    order = (*directions, *own) if transposed else (*own, *directions)
    term = collected(terms, order, sizes, dtype)
    if term.ties:
        node = _with_deltas(term.factors, term, order, sizes, dtype)
    else:
        node = formed(term.factors, order, sizes, dtype)
    return term.sign, term.space.widened(node, 0 if transposed else len(own))


def collected(terms: Sequence[Term], order: Labels, sizes: Sizes, dtype: np.dtype[Any]) -> Term:
    """The sum of terms over the same directions with the same ties: what all share times the sum of the rest."""
    first = terms[0]
    common = Counter(f.key for f in first.factors)
    for t in terms[1:]:
        common &= Counter(f.key for f in t.factors)
    shared, _ = _drawn(first.factors, Counter(common))
    rests = [(t.sign, _drawn(t.factors, Counter(common))[1]) for t in terms]
    sign, inner = _sum_of(rests, order, sizes, dtype)
    return replace(first, factors=(*shared, *([inner] if inner is not None else [])), sign=sign)


def _sum_of(
    parts: Sequence[tuple[int, Sequence[Factor]]], order: Labels, sizes: Sizes, dtype: np.dtype[Any]
) -> tuple[int, Factor | None]:
    """A sum of signed products as one factor over their labels; a single product of nothing is no factor."""
    if len(parts) == 1 and not parts[0][1]:
        return parts[0][0], None
    if all(s < 0 for s, _ in parts):
        sign, inner = _sum_of([(1, factors) for _, factors in parts], order, sizes, dtype)
        return -sign, inner
    used = _union(_labels(factors) for _, factors in parts)
    labels = tuple(k for k in order if k in used)
    return 1, Factor(_total([(s, formed(factors, labels, sizes, dtype)) for s, factors in parts]), labels)


def _with_deltas(factors: Sequence[Factor], term: Term, order: Labels, sizes: Sizes, dtype: np.dtype[Any]) -> Node:
    """The product where all tied indices agree, zero elsewhere: selected, so an infinite factor stays in its place."""
    shape = tuple(sizes[k] for k in order)
    places = ((order.index(a), order.index(k)) for a, k in term.ties)
    pairs = tuple(sorted((min(p), max(p)) for p in places))
    if not factors:
        return delta(shape, pairs, dtype)
    tied = {d for _, d in term.ties}
    free = tuple(k for k in order if k not in tied)
    core = spread(formed(factors, free, sizes, dtype), free, order, sizes)
    selected: Node = dsl.where(delta(shape, pairs, np.dtype(bool)), core, 0)
    return selected
