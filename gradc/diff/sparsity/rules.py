"""What each kind of op makes of sets of columns: one rule per kind.

Enters: a node and the maps of its operands.  Leaves: its own.  A rule may say too much, never too little: an element
depends at most on what it is computed from.  A view moves maps as it moves any array: its NumPy meaning, applied to
numbers of sets, is its index map.  Start reading at `RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.diff.sparsity.sets import Maps, Numbers, lay
from gradc.diff.sparsity.walk import Walk, silenced
from gradc.errors import IndexingError
from gradc.node import Node, describe
from gradc.ops.indexing import rest_axes
from gradc.ops.record import Kind

Given = Sequence[Maps]
Rule = Callable[[Walk, Node, Given], Maps]


def _elementwise(walk: Walk, node: Node, given: Given) -> Maps:
    """Each element of the elements at its place, but for those that a known mask or a factor 0 leaves out."""
    found: list[Numbers] = []
    for i, maps in enumerate(given):
        if maps:
            mask = silenced(walk, node, i)
            found += maps if mask is None else [np.where(mask, 0, m) for m in maps]
    return walk.sets.joined(found)


def _view(walk: Walk, node: Node, given: Given) -> Maps:
    return walk.sets.joined(_moved(node, given))


def _moved(node: Node, given: Given) -> list[Numbers]:
    """The maps of several operands side by side, moved as the view moves its operands."""
    nothing = [np.broadcast_to(np.int64(0), a.shape) for a in node.args]
    found = []
    for k in range(max(map(len, given))):
        operands = [maps[k] if k < len(maps) else none for maps, none in zip(given, nothing, strict=True)]
        found.append(np.asarray(node.op.numpy(*operands, **node.attrs)))
    if node.op.jvp is not None:  # it is not linear: it fills places with a number, which is that of no set
        filled = np.asarray(node.op.numpy(*nothing, **node.attrs)) != 0
        found = [np.where(filled, 0, m) for m in found] if filled.any() else found
    return found


# -- folds -------------------------------------------------------------------------------------------------------------


def _fold(walk: Walk, node: Node, given: Given) -> Maps:
    """Each element of those that are added up in it."""
    if node.op.boxes is None:
        return walk.sets.joined(_by_source(node, given))
    layers: list[Numbers] = []
    for maps, (starts, steps) in zip(given, node.op.boxes(node), strict=True):
        for m in maps:
            extents = zip(m.shape, starts, steps, strict=True)
            lay(layers, m, tuple(slice(a, a + (n - 1) * s + 1 if n else a, s) for n, a, s in extents), node.shape)
    return walk.sets.joined(layers)


def _by_source(node: Node, given: Given) -> list[Numbers]:
    """By the index formula: which elements an element may be the sum of."""
    assert node.op.source is not None
    index = [g.astype(np.int64) for g in np.ogrid[tuple(slice(0, n) for n in node.shape)]] if node.shape else []
    found = []
    for piece in node.op.source(index, *(a.aval for a in node.args), **node.attrs):
        inside = np.ones((), bool)
        for guard in piece.guards:
            inside = inside & (guard.value >= guard.low) & (guard.value < guard.high)
        at = tuple(np.where(inside, coordinate, 0) for coordinate in piece.index)
        for m in given[piece.arg] if node.args[piece.arg].size else ():
            found.append(np.broadcast_to(np.where(inside, m[at], 0), node.shape))
    return found


# -- reductions --------------------------------------------------------------------------------------------------------


def _reduce(walk: Walk, node: Node, given: Given) -> Maps:
    return walk.sets.together(given[0], node.attrs["axes"])


def _prefix(walk: Walk, node: Node, given: Given) -> Maps:
    """Each element of those before it: unions of stretches that double in length."""
    axis, n = node.attrs["axis"], node.shape[node.attrs["axis"]]
    turned = [np.moveaxis(np.flip(m, axis) if node.attrs["reverse"] else m, axis, 0) for m in given[0]]
    maps, reach = walk.sets.united(turned), 1
    while reach < n and maps:
        before = np.zeros_like(maps[0])
        before[reach:] = maps[0][:-reach]
        maps, reach = walk.sets.united([maps[0], before]), 2 * reach
    back = [np.moveaxis(m, 0, axis) for m in maps]
    return tuple(np.flip(m, axis) if node.attrs["reverse"] else m for m in back)


# -- products ----------------------------------------------------------------------------------------------------------


def _contract(walk: Walk, node: Node, given: Given) -> Maps:
    labels = node.attrs["left"], node.attrs["right"]
    found: list[Numbers] = []
    for i, maps in enumerate(given):
        if maps:
            zeros = walk.zeros(node.args[1 - i])
            product = _whole_product if zeros is None else _product_with_zeros
            found += product(walk, node, maps, labels[i], labels[1 - i], zeros)
    return walk.sets.joined(found)


Labels = tuple[int, ...]


def _whole_product(
    walk: Walk, node: Node, maps: Maps, mine: Labels, theirs: Labels, zeros: np.ndarray[Any, Any] | None
) -> Maps:
    """Each element of all that is summed for it, the same for all places of the other factor."""
    out: Labels = node.attrs["out"]
    kept = [k for k in mine if k in out]
    summed = walk.sets.together(maps, [a for a, k in enumerate(mine) if k not in out])
    order = [kept.index(k) for k in out if k in kept]
    shape = [n if k in kept else 1 for k, n in zip(out, node.shape, strict=True)]
    return tuple(np.broadcast_to(m.transpose(order).reshape(shape), node.shape) for m in summed)


def _product_with_zeros(
    walk: Walk, node: Node, maps: Maps, mine: Labels, theirs: Labels, zeros: np.ndarray[Any, Any] | None
) -> Maps:
    """Each element of what is summed for it where the other factor is not 0."""
    assert zeros is not None
    out: Labels = node.attrs["out"]
    places = dict(zip(theirs, np.nonzero(~zeros), strict=True))
    private = [k for k in mine if k not in theirs]
    sizes = dict(zip(mine, maps[0].shape, strict=True))
    extents = [sizes[k] for k in private]
    grid = np.indices(extents).reshape(len(private), 1, math.prod(extents))
    at = {k: p[:, None] for k, p in places.items()} | dict(zip(private, grid, strict=True))
    strides = dict(zip(out, np.cumprod([1, *node.shape[:0:-1]])[::-1].tolist(), strict=True))
    target = sum((at[k] * s for k, s in strides.items()), np.zeros((zeros.size - zeros.sum(), grid.shape[2]), np.int64))
    members = [np.broadcast_to(m[tuple(at[k] for k in mine)], target.shape).reshape(-1) for m in maps]
    return _collected(walk, np.tile(target.reshape(-1), len(maps)), np.concatenate(members), node.shape)


def _collected(walk: Walk, target: Numbers, members: Numbers, shape: Shape) -> Maps:
    """The map of an array of ``shape`` in which sets come together at flat positions."""
    there = members > 0
    target, members = target[there], members[there]
    size = int(np.prod(shape))
    counts = np.bincount(target, minlength=size)
    if counts.max(initial=0) <= 1:
        flat = np.zeros(size, np.int64)
        flat[target] = members
        return (flat.reshape(shape),)
    order = np.argsort(target, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])
    return (np.where(counts > 0, walk.sets.add((ends, members[order])), 0).reshape(shape),)


# -- computed indices --------------------------------------------------------------------------------------------------


def _gather(walk: Walk, node: Node, given: Given) -> Maps:
    """Of the elements that known indices choose, or of all that unknown ones may choose."""
    indices, axes = node.args[1:], node.attrs["axes"]
    known = [walk.value(index) for index in indices]
    if all(v is not None for v in known):
        return walk.sets.joined([_at(node, m, known) for m in given[0]])
    lead = (1,) * indices[0].ndim
    chosen = walk.sets.together(given[0], axes)
    return tuple(np.broadcast_to(m.reshape(lead + m.shape), node.shape) for m in chosen)


def _at(node: Node, m: Numbers, indices: Sequence[Any]) -> Numbers:
    """What known indices of a gather or scatter choose of an array like its operand."""
    axes = node.attrs["axes"]
    try:
        chosen: Numbers = np.transpose(m, (*axes, *rest_axes(m.ndim, axes)))[tuple(indices)]
    except IndexError as error:
        raise IndexingError(f"{node.where}: {node.op.name} of {describe(node.args[0])}: {error}") from None
    return chosen


def _scatter(walk: Walk, node: Node, given: Given) -> Maps:
    """Of what was there, and of what is written or may be written."""
    x, indices, axes = node.args[0], node.args[2:], node.attrs["axes"]
    known = [walk.value(index) for index in indices]
    kept, written = list(given[0]), given[1]
    if all(index is not None for index in known):
        target = _at(node, np.arange(x.size).reshape(x.shape), known).reshape(-1)
        if node.attrs["how"] == "set":
            untouched = np.ones(x.size, bool)
            untouched[target] = False
            kept = [np.where(untouched.reshape(x.shape), m, 0) for m in kept]
        members = [m.reshape(-1) for m in written]
        places = np.tile(target, len(members))
        landed = _collected(walk, places, np.concatenate(members), x.shape) if members else ()
        return walk.sets.joined([*kept, *landed])
    anywhere = walk.sets.together(written, range(indices[0].ndim))
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)]
    return walk.sets.joined([*kept, *(np.broadcast_to(m.reshape(shape), x.shape) for m in anywhere)])


# -- whole arrays ------------------------------------------------------------------------------------------------------


def together(walk: Walk, node: Node, given: Given, shape: Shape) -> Maps:
    """Every element of a result of ``shape`` of every element; of a stack of matrices, those of its own matrix."""
    lead = node.args[0].shape[:-2] if node.op.algorithm is not None else ()
    flat = [m.reshape(*lead, -1) for maps in given for m in maps]
    joint = walk.sets.together([np.concatenate(flat, -1)], (len(lead),)) if flat else ()
    rest = (1,) * (len(shape) - len(lead))
    return tuple(np.broadcast_to(m.reshape(*lead, *rest), shape) for m in joint)


def _nothing(walk: Walk, node: Node, given: Given) -> Maps:
    return ()


RULES: Mapping[Kind, Rule] = {
    Kind.ELEMENTWISE: _elementwise,
    Kind.VIEW: _view,
    Kind.FOLD: _fold,
    Kind.REDUCE: _reduce,
    Kind.PREFIX: _prefix,
    Kind.CONTRACT: _contract,
    Kind.GATHER: _gather,
    Kind.SCATTER: _scatter,
    Kind.SORT: _nothing,
    Kind.SEARCH: _nothing,
}
