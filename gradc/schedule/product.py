"""Contract nodes to strided matrix products, and to correlations where an operand shows sliding windows.

Enters: a contract node whose operands are, below plain views, in memory.  Leaves: a `Product`, and nests that copy an
operand whose summed axes lie so that no single stride walks through them; or a `Correlation`.
Invariant: transposes, slices and broadcasts of operands become strides and cost nothing.  Start reading at
`contract_work`.

Labels fall into four groups: batch (both operands and result), rows (left and result), columns (right and result), and
summed (not in the result; a label of one operand alone has stride 0 in the other).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradc.node import Node
from gradc.ops.arithmetic import less_equal, where
from gradc.ops.index import linear_index, row_major_strides
from gradc.schedule.affine import Affine, Var
from gradc.schedule.kernel import (
    Axis,
    Corner,
    Correlation,
    Load,
    Nest,
    Product,
    Stage,
    Store,
    View,
    Work,
)
from gradc.schedule.lanes import Widths, arranged
from gradc.schedule.symmetric import exchangeable
from gradc.schedule.weave import Place, Slots, Weaver, dtype_name, is_plain_view, is_widening, through_view

Label = int


@dataclass(frozen=True)
class _Strided:
    """A slot read by strides: one for each label.  ``views`` are the nodes that have become strides."""

    slot: int
    offset: int
    strides: Mapping[Label, int]
    dtype: str
    views: tuple[Node, ...] = ()


@dataclass(frozen=True)
class _Groups:
    """Labels by role, those of extent one left out."""

    batch: tuple[Label, ...]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    summed: tuple[Label, ...]
    sizes: Mapping[Label, int]


def contract_work(
    node: Node, slots: Slots, number: Mapping[Node, int], widths: Widths, out_node: Node | None = None
) -> list[Work]:
    """The product of ``node``, behind the copies that it needs; written to the buffer of ``out_node`` if given."""
    groups = _grouped(node)
    sides = [_operand(a, labels, groups, slots) for a, labels in zip(node.args, _sides(node), strict=True)]
    out = _result(node, slots.writing(node if out_node is None else out_node))
    work: list[Work] = []
    order = _summing_order(groups, sides)
    if _slides(node, groups, order, sides):
        correlation = _slid(node, groups, sides, out, slots, number, widths)
        if correlation is not None:
            return correlation
    for k in (0, 1):
        if _single_stride(order, groups, sides[k].strides) is None:
            layout = (*groups.batch, *(groups.rows if k == 0 else groups.columns), *order)
            nest, sides[k] = _copied(node, k, layout, groups, slots, number, widths)
            work.append(nest)
    dtype, origins = dtype_name(node.dtype), _origins(node, sides, number)
    pair = exchangeable(node) if _worth_halving(groups, widths.lanes(dtype)) else None
    if pair is None:
        return [*work, replace(_product(dtype, groups, order, sides[0], sides[1], out), origins=origins)]
    half = _result(node, slots.own(dtype, node.aval.size))
    product = _product(dtype, groups, order, sides[0], sides[1], half)
    mirrored = _mirrored(node, pair, half.slot, out.slot, number, slots, widths)
    return [*work, replace(product, origins=origins, half=True), mirrored]


def _origins(node: Node, sides: Sequence[_Strided], number: Mapping[Node, int]) -> frozenset[int]:
    return frozenset(number[n] for n in (node, *sides[0].views, *sides[1].views))


def _sides(node: Node) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    return node.attrs["left"], node.attrs["right"]


def _grouped(node: Node) -> _Groups:
    left, right = _sides(node)
    out = node.attrs["out"]
    sizes = dict(zip(left, node.args[0].shape, strict=True)) | dict(zip(right, node.args[1].shape, strict=True))
    real = [k for k in out if sizes[k] != 1]
    summed = tuple(k for k in dict.fromkeys((*left, *right)) if k not in out and sizes[k] != 1)
    return _Groups(
        batch=tuple(k for k in real if k in left and k in right),
        rows=tuple(k for k in real if k not in right),
        columns=tuple(k for k in real if k not in left),
        summed=summed,
        sizes=sizes,
    )


def out_groups(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The axes of the result by role (batch, rows, columns), those of length one left out."""
    groups, axis = _grouped(node), {k: a for a, k in enumerate(node.attrs["out"])}
    batch, rows, columns = (tuple(axis[k] for k in part) for part in (groups.batch, groups.rows, groups.columns))
    return batch, rows, columns


# -- operands ----------------------------------------------------------------------------------------------------------


def _operand(node: Node, labels: Sequence[Label], groups: _Groups, slots: Slots) -> _Strided:
    variables = {k: Var(at, groups.sizes[k]) for at, k in enumerate(labels)}
    base, place, views = _in_memory(node, tuple(Affine.of(variables[k]) for k in labels), slots)
    offset = Affine.of(linear_index(place, base.shape))
    strides = {k: offset.terms.get(v, 0) for k, v in variables.items()}
    return _Strided(slots.reading(base), offset.const, strides, dtype_name(base.dtype), views)


def _in_memory(node: Node, place: Place, slots: Slots) -> tuple[Node, Place, tuple[Node, ...]]:
    """The first stored node below plain views and widening casts in which ``place`` is affine, and those above it."""
    views = []
    while node not in slots.buffers or Affine.of(linear_index(place, node.shape)).quotients:
        views.append(node)
        if is_widening(node):
            node = node.args[0]
        elif is_plain_view(node):
            node, place = through_view(node, place)
        else:
            raise AssertionError(f"operand {node.op.name} of a product is not in memory")
    return node, place, tuple(views)


def _result(node: Node, slot: int) -> _Strided:
    strides = dict(zip(node.attrs["out"], row_major_strides(node.shape), strict=True))
    return _Strided(slot, 0, strides, dtype_name(node.dtype))


def _stride(side: _Strided, label: Label) -> int:
    return side.strides.get(label, 0)


def _single_stride(labels: Sequence[Label], groups: _Groups, strides: Mapping[Label, int]) -> int | None:
    """The stride that walks through ``labels`` as one axis, in that order; None if there is none."""
    if not labels:
        return 0
    step = strides.get(labels[-1], 0)
    reach = step
    for label in reversed(labels):
        if strides.get(label, 0) != reach:
            return None
        reach *= groups.sizes[label]
    return step


def _summing_order(groups: _Groups, sides: Sequence[_Strided]) -> tuple[Label, ...]:
    """The order of the summed labels in which fewer operands have to be copied."""
    orders = [tuple(sorted(groups.summed, key=lambda k: -abs(_stride(side, k)))) for side in sides]

    def copies(order: tuple[Label, ...]) -> int:
        return sum(_single_stride(order, groups, side.strides) is None for side in sides)

    return min(orders, key=copies)


def _copied(
    node: Node, which: int, layout: tuple[Label, ...], groups: _Groups, slots: Slots, number: Mapping[Node, int],
    widths: Widths,
) -> tuple[Nest, _Strided]:  # fmt: skip
    """Operand ``which`` copied into scratch with its labels in this order, and how the product reads the copy.

    A label that the operand lacks is there in the copy: its elements are repeated.
    """
    labels = _sides(node)[which]
    shape = tuple(groups.sizes[k] for k in layout)
    slot = slots.own(dtype_name(node.dtype), math.prod(shape))
    w = Weaver(slots, number)
    outer, place = w.loops(shape)
    at = dict(zip(layout, place, strict=True))
    index = tuple(at.get(k, Affine()) for k in labels)
    base, source, views = _in_memory(node.args[which], index, slots)
    value = w.widened(w.load(base, source), base, node.dtype)
    offset = Affine.of(linear_index(place, shape))
    store = Store(slot, offset, value, dtype_name(node.dtype))
    for source_of in (base, *views):
        w.stands_for(value, source_of)
    nest = arranged(w.nest(outer, Stage(stores=(store,))), widths)
    strides = dict(zip(layout, row_major_strides(shape), strict=True))
    return nest, _Strided(slot, 0, strides, dtype_name(node.dtype))


# -- the product -------------------------------------------------------------------------------------------------------


def _product(
    dtype: str, groups: _Groups, order: tuple[Label, ...], left: _Strided, right: _Strided, out: _Strided
) -> Product:
    rows, more_rows = _main_axis(groups.rows, groups, left, out)
    columns, more_columns = _main_axis(groups.columns, groups, right, out)
    batch = (*groups.batch, *more_rows, *more_columns)

    def extent(labels: Sequence[Label]) -> int:
        return math.prod(groups.sizes[k] for k in labels)

    def view(side: _Strided, first: Sequence[Label], second: Sequence[Label]) -> View:
        one, two = (_single_stride(g, groups, side.strides) for g in (first, second))
        if one is None or two is None:
            raise AssertionError("an operand without single strides was not copied")
        return View(side.slot, side.offset, (one, two), tuple(_stride(side, k) for k in batch), side.dtype)

    return Product(
        m=extent(rows), n=extent(columns), k=extent(order), batch=tuple(groups.sizes[k] for k in batch), dtype=dtype,
        left=view(left, rows, order), right=view(right, order, columns), out=view(out, rows, columns),
    )  # fmt: skip


def _main_axis(
    labels: tuple[Label, ...], groups: _Groups, operand: _Strided, out: _Strided
) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """The largest run of neighbouring labels that one stride walks in the operand and in the result; and the others."""
    runs = [labels[a:b] for a in range(len(labels)) for b in range(a + 1, len(labels) + 1)]
    sides = (operand.strides, out.strides)
    even = [run for run in runs if all(_single_stride(run, groups, strides) is not None for strides in sides)]
    best = max(even, key=lambda run: math.prod(groups.sizes[k] for k in run), default=())
    return best, tuple(k for k in labels if k not in best)


# -- symmetric products ------------------------------------------------------------------------------------------------

#: Half of a symmetric result is computed where there are so many vectors of columns, and so many vectors of terms in
#: each sum: the other half must be written behind it.
HALVED_COLUMNS, HALVED_TERMS = 4, 32


def _worth_halving(groups: _Groups, lanes: int) -> bool:
    columns, terms = (math.prod(groups.sizes[k] for k in part) for part in (groups.columns, groups.summed))
    return columns >= HALVED_COLUMNS * lanes and terms >= HALVED_TERMS * lanes


def _mirrored(
    node: Node, pair: tuple[int, int], half: int, out: int, number: Mapping[Node, int], slots: Slots, widths: Widths
) -> Nest:
    """What lies on and above the diagonal of axes ``pair`` in slot ``half``, and its mirror image below, in ``out``."""
    w, dtype = Weaver(slots, number), dtype_name(node.dtype)
    outer, place = w.loops(node.shape)
    turned = list(place)
    for axis, other in (pair, pair[::-1]):
        turned[axis] = place[other]
    here, there = (Affine.of(linear_index(at, node.shape)) for at in (place, turned))
    row, column = (w.counter(place[axis], np.dtype(np.int64)) for axis in pair)
    above = w.apply(less_equal, row, column, dtype=np.dtype(bool))
    sides = (w.emit(Load(half, at, dtype)) for at in (here, there))
    value = w.apply(where, above, *sides, dtype=node.dtype)
    w.stands_for(value, node)
    return arranged(w.nest(outer, Stage(stores=(Store(out, here, value, dtype),))), widths)


# -- sliding windows ---------------------------------------------------------------------------------------------------

#: Lanes of which fewer than this part are in use are worth a copy of all windows.
LEAST_USE = 0.5
#: What it costs to copy an element into another order, in multiplications of one lane.
COPY_COST = 32.0


def _slides(node: Node, groups: _Groups, order: Sequence[Label], sides: Sequence[_Strided]) -> bool:
    """Whether an operand would have to be copied, each element many times: it shows sliding windows."""
    return node.aval.is_float and any(
        _single_stride(order, groups, side.strides) is None and _overlaps(side, labels, groups)
        for side, labels in zip(sides, _sides(node), strict=True)
    )


def _slid(
    node: Node, groups: _Groups, sides: list[_Strided], out: _Strided, slots: Slots, number: Mapping[Node, int],
    widths: Widths,
) -> list[Work] | None:  # fmt: skip
    """The product as a correlation, or None if most lanes would lie idle whatever axis they run along.

    The lanes run along an axis as it lies, or along a label of the other operand, which is then copied with that label
    innermost, as is the result: channels, where rows of pixels are short.
    """
    dtype, lanes = dtype_name(node.dtype), widths.lanes(dtype_name(node.dtype))
    plain = _correlation(dtype, groups, sides, out)
    options: list[tuple[float, int, Label | None]] = [(_time(plain.macs, _use_of_lanes(plain, lanes), 0), 0, None)]
    for which in (0, 1):
        for label in (groups.rows, groups.columns)[which]:
            if not _overlaps(sides[which], _sides(node)[which], groups):
                use = _use(groups.sizes[label], lanes)
                arrays = ((node.args[which], sides[which]), (node, out))
                moved = sum(a.size for a, side in arrays if _stride(side, label) != 1)
                options.append((_time(plain.macs, use, moved), which, label))
    time, which, chosen = min(options, key=lambda option: option[0])
    if time > _time(plain.macs, LEAST_USE, 0):
        return None
    if chosen is None:
        return [replace(plain, origins=_origins(node, sides, number))]
    return _channelled(node, which, chosen, groups, sides, out, slots, number, widths)


def _time(macs: int, use: float, moved: int) -> float:
    return macs / use + COPY_COST * moved if use else math.inf


def _channelled(
    node: Node, which: int, label: Label, groups: _Groups, sides: list[_Strided], out: _Strided, slots: Slots,
    number: Mapping[Node, int], widths: Widths,
) -> list[Work]:  # fmt: skip
    """The correlation with its lanes along ``label`` of operand ``which``, between the copies that this needs."""
    before: list[Work] = []
    after: list[Work] = []
    if _stride(sides[which], label) != 1:
        layout = _innermost(label, sides[which], groups)
        nest, sides[which] = _copied(node, which, layout, groups, slots, number, widths)
        before.append(nest)
    target = out
    if _stride(out, label) != 1:
        layout = _innermost(label, out, groups)
        shape = tuple(groups.sizes[k] for k in layout)
        slot = slots.own(dtype_name(node.dtype), math.prod(shape))
        target = _Strided(slot, 0, dict(zip(layout, row_major_strides(shape), strict=True)), dtype_name(node.dtype))
        after.append(_reordered(node, target, out, groups, number, slots, widths))
    correlation = _correlation(dtype_name(node.dtype), groups, sides, target)
    return [*before, replace(correlation, origins=_origins(node, sides, number)), *after]


def _innermost(label: Label, side: _Strided, groups: _Groups) -> tuple[Label, ...]:
    """The labels of ``side`` as they lie, ``label`` last."""
    real = [k for k in side.strides if groups.sizes[k] != 1 and k != label]
    return (*sorted(real, key=lambda k: -abs(_stride(side, k))), label)


def _reordered(
    node: Node, source: _Strided, target: _Strided, groups: _Groups, number: Mapping[Node, int], slots: Slots,
    widths: Widths,
) -> Nest:  # fmt: skip
    """The result brought from the order of ``source`` into that of ``target``."""
    w = Weaver(slots, number)
    labels = sorted(source.strides, key=lambda k: -_stride(target, k))
    outer, place = w.loops(tuple(groups.sizes[k] for k in labels))
    there, here = (
        sum((i * _stride(side, k) for k, i in zip(labels, place, strict=True)), Affine()) for side in (source, target)
    )
    value = w.emit(Load(source.slot, there, dtype_name(node.dtype)))
    w.stands_for(value, node)
    return arranged(w.nest(outer, Stage(stores=(Store(target.slot, here, value, dtype_name(node.dtype)),))), widths)


def _overlaps(side: _Strided, labels: Sequence[Label], groups: _Groups) -> bool:
    """Whether an operand shows some element twice."""
    extents = {k: groups.sizes[k] for k in labels if side.strides.get(k, 0) or groups.sizes[k] > 1}
    span = 1 + sum((n - 1) * abs(side.strides.get(k, 0)) for k, n in extents.items())
    return math.prod(extents.values()) > span


def _use_of_lanes(c: Correlation, lanes: int) -> float:
    """The best part of all lanes that do work, over the axes that may run through them as they lie."""
    along = [x for x in c.kept if x.out == 1 and {x.left, x.right} == {0, 1}]
    along += [x for x in c.summed if x.left == x.right == 1]
    return max((_use(x.extent, lanes) for x in along), default=0.0)


def _use(extent: int, lanes: int) -> float:
    """The part of all lanes that do work along an axis."""
    return extent / (-(-extent // lanes) * lanes)


def _correlation(dtype: str, groups: _Groups, sides: Sequence[_Strided], out: _Strided) -> Correlation:
    """Kept axes as they lie in the result, summed ones as they lie in the left operand."""
    left, right = sides

    def corner(side: _Strided) -> Corner:
        return Corner(side.slot, side.offset, side.dtype)

    def axis(label: Label) -> Axis:
        return Axis(groups.sizes[label], _stride(left, label), _stride(right, label), _stride(out, label))

    kept = sorted((*groups.batch, *groups.rows, *groups.columns), key=lambda k: -_stride(out, k))
    summed = sorted(groups.summed, key=lambda k: (-abs(_stride(left, k)), -abs(_stride(right, k))))
    axes = tuple(map(axis, kept)), tuple(map(axis, summed))
    return Correlation(*axes, dtype, corner(left), corner(right), corner(out))
