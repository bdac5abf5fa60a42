"""Ops that move elements, on matrices in normal form: views, their adjoints, gather and scatter.

Each factor is moved by itself, along the axes that it has.  A tied axis takes its direction along where the move is a
permutation, a slice or a regrouping of whole axes, and becomes an equality of indices where it is not.
Start reading at `MOVES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradc.aval import Shape
from gradc.diff.structured.joint import applied_densely, masked
from gradc.diff.structured.labels import Axis, Direction, Label, Labels, Names, NewAxis, Sizes, axes, naming
from gradc.diff.structured.products import formed, spread
from gradc.diff.structured.terms import Factor, Matrix, Term, squeezed, unit_mask
from gradc.node import OPS, Node, dsl
from gradc.ops.elementwise import apply
from gradc.ops.indexing import rest_axes
from gradc.ops.leaves import full, iota
from gradc.ops.record import Kind

Given = Mapping[int, Matrix]
Move = Callable[[Node, Term, Matrix], Term]


def _each(move: Move) -> Callable[[Node, Given], list[Term]]:
    """A rule for an op that moves its one operand term by term."""
    return lambda node, given: [move(node, t, given[0]) for t in given[0].terms]


# -- broadcast, transpose, reshape -------------------------------------------------------------------------------------


def _broadcast(node: Node, term: Term, matrix: Matrix) -> Term:
    return term.renamed(_names(range(len(matrix.shape)), node.attrs["axes"]))


def _transpose(node: Node, term: Term, matrix: Matrix) -> Term:
    return term.renamed(_names(node.attrs["axes"], range(node.ndim)))


def _names(before: Iterable[int], after: Iterable[int]) -> Names:
    """What axes of the operand are called in the result."""
    return naming(axes(before), axes(after))


Group = tuple[tuple[Axis, ...], tuple[NewAxis, ...]]


def _reshape(node: Node, term: Term, matrix: Matrix) -> Term:
    """Axes that stay whole are renamed; the ties of regrouped ones become those of regrouped directions."""
    groups = _groups(matrix.shape, node.shape)
    whole: dict[Label, Label] = {old[0]: new[0] for old, new in groups if len(old) == len(new) == 1}
    regrouped = [g for g in groups if g[0][0] not in whole]
    sizes = matrix.own
    sizes.update({NewAxis(a): n for a, n in enumerate(node.shape)})
    for group in regrouped:
        term = _with_directions_regrouped(term, group, sizes)
    sizes = term.sizes(sizes)
    moved = replace(term, factors=tuple(_factor_regrouped(f, regrouped, sizes) for f in term.factors))
    return moved.renamed(whole).renamed({NewAxis(a): Axis(a) for a in range(node.ndim)})


def _groups(old: Shape, new: Shape) -> list[Group]:
    """The smallest runs of axes, those of length 1 left out, that hold the same elements before and after."""
    ins, outs = ([a for a, n in enumerate(s) if n != 1] for s in (old, new))
    groups = []
    while ins:
        first, second = [ins.pop(0)], [outs.pop(0)]
        a, b = old[first[0]], new[second[0]]
        while a != b:
            if a < b:
                a *= old[ins[0]]
                first.append(ins.pop(0))
            else:
                b *= new[outs[0]]
                second.append(outs.pop(0))
        groups.append((axes(first), tuple(map(NewAxis, second))))
    return groups


def _with_directions_regrouped(term: Term, group: Group, sizes: Sizes) -> Term:
    """The ties of the old axes as ties of the new ones, if all are tied to neighbouring directions in order."""
    old, new = group
    tied = [k.number for a in old if (k := term.direction_of(a)) is not None]
    if not tied:
        return term
    if len(tied) < len(old) or tied != list(range(tied[0], tied[0] + len(tied))):
        return term.loosened(old)
    first, last = tied[0], tied[-1]
    merged = term.space.regrouped(first, last + 1, tuple(sizes[a] for a in new))
    shift = len(new) - len(old)
    kept = replace(term, ties=tuple(t for t in term.ties if t[0] not in old))
    later = range(last + 1, len(term.space.shape))
    kept = kept.with_directions({Direction(k): Direction(k + shift) for k in later}, merged)
    return replace(kept, ties=(*kept.ties, *((a, Direction(first + i)) for i, a in enumerate(new))))


def _factor_regrouped(f: Factor, groups: Sequence[Group], sizes: Sizes) -> Factor:
    touched = {a: g for g in groups for a in g[0] if any(k in g[0] for k in f.labels)}
    if not touched:
        return f
    before: Labels = _unrepeated(k for label in f.labels for k in (touched[label][0] if label in touched else (label,)))
    after: Labels = _unrepeated(k for label in f.labels for k in (touched[label][1] if label in touched else (label,)))
    node = spread(f.node, f.labels, before, sizes)
    return f.replaced(OPS["reshape"].make((node,), shape=tuple(sizes[k] for k in after)), after)


def _unrepeated(labels: Iterable[Label]) -> Labels:
    return tuple(dict.fromkeys(labels))


# -- slice, windows ----------------------------------------------------------------------------------------------------


def _slice(node: Node, term: Term, matrix: Matrix) -> Term:
    """A part of every factor; a tied axis leaves as many directions."""
    places = list(zip(node.attrs["starts"], node.attrs["stops"], node.attrs["steps"], strict=True))
    cut: dict[Label, tuple[int, int, int]] = {
        Axis(a): places[a]
        for a, (start, _, step) in enumerate(places)
        if start or step != 1 or node.shape[a] != matrix.shape[a]
    }
    for axis, k in [t for t in term.ties if t[0] in cut]:
        start, _, step = cut[axis]
        term = replace(term, space=term.space.sliced(k.number, node.shape[axis.number], start, step))
    ties = tuple(t for t in term.ties if node.shape[t[0].number] != 1)
    return replace(term, ties=ties, factors=tuple(_factor_slice(f, cut) for f in term.factors))


def _factor_slice(f: Factor, cut: Mapping[Label, tuple[int, int, int]]) -> Factor:
    if not any(k in cut for k in f.labels):
        return f
    parts = [cut.get(k, (0, n, 1)) for k, n in zip(f.labels, f.node.shape, strict=True)]
    starts, stops, steps = zip(*parts, strict=True)
    return f.replaced(OPS["slice"].make((f.node,), starts=starts, stops=stops, steps=steps), f.labels)


def _windows(node: Node, term: Term, matrix: Matrix) -> Term:
    """Windows of every factor along the axes that it has."""
    along, rank = axes(node.attrs["axes"]), len(matrix.shape)
    term = term.loosened(along)
    return replace(term, factors=tuple(_factor_windows(f, node.attrs, along, rank) for f in term.factors))


def _factor_windows(f: Factor, attrs: Mapping[str, Shape], along: Sequence[Axis], rank: int) -> Factor:
    mine = [i for i, a in enumerate(along) if a in f.labels]
    if not mine:
        return f
    own = {key: tuple(attrs[key][i] for i in mine) for key in ("sizes", "strides", "dilations")}
    made = OPS["windows"].make((f.node,), axes=tuple(f.labels.index(along[i]) for i in mine), **own)
    return f.replaced(made, (*f.labels, *axes(rank + i for i in mine)))


# -- superpose, concatenate, pad: parts placed among zeros -------------------------------------------------------------


def _superpose(node: Node, given: Given) -> list[Term]:
    places = list(zip(node.attrs["starts"], node.attrs["steps"], strict=True))
    return [_placed(node, t, m, *places[i]) for i, m in given.items() for t in m.terms]


def _concatenate(node: Node, given: Given) -> list[Term]:
    axis = node.attrs["axis"]
    offsets = np.cumsum([0, *(a.shape[axis] for a in node.args)])
    ones = (1,) * node.ndim
    return [
        _placed(node, t, m, tuple(int(offsets[i]) if a == axis else 0 for a in range(node.ndim)), ones)
        for i, m in given.items()
        for t in m.terms
    ]


def _pad(node: Node, given: Given) -> list[Term]:
    if node.attrs["fill"]:
        return applied_densely(node, given)
    return [_placed(node, t, given[0], node.attrs["starts"], node.attrs["steps"]) for t in given[0].terms]


def _placed(node: Node, term: Term, matrix: Matrix, starts: Shape, steps: Shape) -> Term:
    """The term at start + step·i along each axis, zero elsewhere: factors padded, a tied axis by an equality."""
    places: Places = {
        Axis(a): (node.shape[a], starts[a], steps[a])
        for a, n in enumerate(matrix.shape)
        if starts[a] or steps[a] != 1 or n != node.shape[a]
    }
    if not places:
        return term
    result = Matrix(node.shape, node.dtype, ())
    masks = []
    for axis, k in [t for t in term.ties if t[0] in places]:
        term = term.without_tie(axis)
        masks.append(_shifted_delta(axis, k, term.extent_of(k), places[axis]))
    left = {a: p for a, p in places.items() if not any(a in m.labels for m in masks)}
    carried = all(any(a in f.labels for f in term.factors if f.role != "over") for a in left)
    if left and not (carried and all(f.is_tame or set(f.labels) & set(left) for f in term.factors)):
        masks += [_factor_placed(Factor(full((matrix.own[a],), True, bool), (a,), "mask"), left) for a in left]
    term = replace(term, factors=tuple(_factor_placed(f, left) for f in term.factors))
    return masked(term, masks, result) if masks else term


#: where operands are placed along an axis: the extent there, the first place, the step
Places = dict[Label, tuple[int, int, int]]


def _shifted_delta(axis: Label, direction: Direction, count: int, place: tuple[int, int, int]) -> Factor:
    """1 where the index along ``axis`` is start + step · direction."""
    size, start, step = place
    columns = {"starts": (0, start), "stops": (size, start + (count - 1) * step + 1), "steps": (1, step)}
    return Factor(OPS["slice"].make((unit_mask(size),), **columns), (axis, direction), "mask")


def _factor_placed(f: Factor, places: Places) -> Factor:
    if not any(k in places for k in f.labels):
        return f
    parts = [places.get(k, (n, 0, 1)) for k, n in zip(f.labels, f.node.shape, strict=True)]
    sizes, starts, steps = (tuple(p) for p in zip(*parts, strict=True))
    fill = 1 if f.role == "over" else 0
    return f.replaced(OPS["pad"].make((f.node,), shape=sizes, starts=starts, steps=steps, fill=fill), f.labels)


# -- gather, scatter ---------------------------------------------------------------------------------------------------


def _gather(node: Node, given: Given) -> list[Term]:
    if 0 not in given:
        return applied_densely(node, given)
    matrix, indices, chosen = given[0], node.args[1:], node.attrs["axes"]
    count = indices[0].ndim
    rest = rest_axes(len(matrix.shape), chosen)
    names = _names(rest, range(count, count + len(rest)))
    result = Matrix(node.shape, node.dtype, ())
    return [_gathered(t, dict(zip(axes(chosen), indices, strict=True)), names, result) for t in matrix.terms]


def _gathered(term: Term, chosen: Mapping[Label, Node], names: Names, result: Matrix) -> Term:
    """Every factor at the computed indices; a tied axis becomes the equality of index and direction."""
    front = axes(range(next(iter(chosen.values())).ndim))
    equal = [_equality(chosen[a], front, term.extent_of(k), k) for a, k in term.ties if a in chosen]
    factors = []
    for f in term.factors:
        mine = [a for a in f.labels if a in chosen]
        others = [names.get(k, k) for k in f.labels if k not in chosen]
        if mine:
            made = OPS["gather"].make((f.node, *(chosen[a] for a in mine)), axes=tuple(map(f.labels.index, mine)))
            factors.append(f.replaced(made, (*front, *others)))
        else:
            factors.append(f.renamed(names))
    ties = tuple((names[a], k) for a, k in term.ties if a not in chosen)
    return masked(Term(tuple(factors), ties, term.space, term.sign), equal, result)


def _equality(index: Node, labels: Labels, size: int, other: Direction) -> Factor:
    """1 where the index (negative ones count from the end) is ``other``."""
    wrapped: Node = index if _never_negative(index) else dsl.where(index < 0, index + size, index)
    shape = (*index.shape, size)
    shown = OPS["broadcast"].make((wrapped,), shape=shape, axes=tuple(range(index.ndim)))
    return squeezed(apply(OPS["equal"], shown, iota(shape, index.ndim, index.dtype)), (*labels, other), "mask")


def _never_negative(index: Node) -> bool:
    """Whether an index is known to count from the front."""
    if index.op.kind is Kind.CONSTANT:
        return bool(np.all(index.attrs["value"] >= 0))
    return index.op.kind in (Kind.SORT, Kind.SEARCH) or index.op.counts or index.op.position


def _scatter(node: Node, given: Given) -> list[Term]:
    if node.attrs["how"] != "add" or any(i > 1 for i in given):
        return applied_densely(node, given)
    kept = given[0].terms if 0 in given else ()
    return [*kept, *(_scattered(node, t, given[1]) for t in (given[1].terms if 1 in given else ()))]


def _scattered(node: Node, term: Term, matrix: Matrix) -> Term:
    """Updates added at computed indices: a scatter of the factors that vary over them, batched over other axes."""
    indices, chosen, shape = node.args[2:], node.attrs["axes"], node.shape
    count = indices[0].ndim
    updates = axes(range(count))
    term = term.loosened(updates)
    rest = rest_axes(len(shape), chosen)
    names = _names(range(count, count + len(rest)), rest)
    inside = [f for f in term.factors if any(k in updates for k in f.labels) or not f.is_tame]
    others = _unrepeated(k for f in inside for k in f.labels if k not in updates)
    sizes = term.sizes(matrix.own)
    value = formed(inside, (*updates, *others), sizes, matrix.dtype)
    target = full((*(shape[a] for a in chosen), *(sizes[k] for k in others)), 0, matrix.dtype)
    made = OPS["scatter"].make((target, value, *indices), axes=tuple(range(len(chosen))), how="add")
    outside = tuple(f.renamed(names) for f in term.factors if not any(f is g for g in inside))
    placed = squeezed(made, (*axes(chosen), *(names.get(k, k) for k in others)))
    ties = tuple((names[a], k) for a, k in term.ties)
    return Term((*outside, placed), ties, term.space, term.sign)


MOVES: dict[str, Callable[[Node, Given], list[Term]]] = {
    "broadcast": _each(_broadcast),
    "transpose": _each(_transpose),
    "reshape": _each(_reshape),
    "slice": _each(_slice),
    "windows": _each(_windows),
    "superpose": _superpose,
    "concatenate": _concatenate,
    "pad": _pad,
    "gather": _gather,
    "scatter": _scatter,
}
"""Views, folds, gather and scatter with a rule of their own."""
