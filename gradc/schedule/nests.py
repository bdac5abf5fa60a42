"""Nodes to loops: maps, reductions, running reductions, scatters and piecewise stores.

Enters: the nodes of one cluster.  Leaves: `Nest`s whose forms are affine wherever splitting an axis makes them so.
Start reading at `NESTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradc.node import Node
from gradc.ops.arithmetic import multiply
from gradc.ops.index import linear_index
from gradc.ops.record import Kind
from gradc.schedule.affine import Affine, split_point
from gradc.schedule.kernel import Load, Nest, Scan, Stage, Store, form
from gradc.schedule.lanes import Widths, arranged
from gradc.schedule.pack import packs
from gradc.schedule.streams import reading_ahead
from gradc.schedule.weave import Place, Slots, Splits, Weaver, dtype_name, refined

#: What a reduction of nothing gives.
#: At most this many times an axis is split to make forms affine; each time costs building the nest again.
ATTEMPTS = 8

Body = Callable[[Weaver], Nest]


def woven(slots: Slots, number: Mapping[Node, int], widths: Widths, body: Body) -> Nest:
    """The nest that ``body`` builds, again with axes split for as long as that removes quotients."""
    splits: Splits = {}
    for _ in range(ATTEMPTS):
        nest = body(Weaver(slots, number, splits))
        found = split_point(_forms(nest))
        finer = refined(splits, *found) if found else None
        if finer is None:
            break
        splits = finer
    nest = reading_ahead(arranged(nest, widths), widths)
    return replace(nest, packs=packs(nest, widths))


def _forms(nest: Nest) -> Iterator[Affine]:
    for instruction in nest.code:
        found = form(instruction)
        if found is not None:
            yield found
    for store in nest.stores:
        yield store.offset


# -- maps and reductions -----------------------------------------------------------------------------------------------


def map_nest(w: Weaver, nodes: Sequence[Node]) -> Nest:
    """All ``nodes``, of one shape, in one pass over its elements."""
    outer, index = w.loops(nodes[0].shape)
    stores = stored_at(w, nodes, index)
    return w.nest(outer, Stage(stores=stores))


def stored_at(w: Weaver, nodes: Sequence[Node], index: Place) -> tuple[Store, ...]:
    """``nodes`` computed at ``index``, each readable by the next, and the stores of those that have a buffer."""
    stores = []
    for node in nodes:
        value = computed(w, node, index)
        w.define(node, index, value)
        if node in w.slots.buffers:
            stores.append(w.store(node, index, value))
    return tuple(stores)


def computed(w: Weaver, node: Node, index: Place) -> int:
    """The instruction that computes a map at ``index``."""
    if node.op.kind is Kind.CONTRACT:
        return _product_of_elements(w, node, index)
    return w.compute(node, index)


def _product_of_elements(w: Weaver, node: Node, index: Place) -> int:
    """A contract that sums nothing."""
    at = dict(zip(node.attrs["out"], index, strict=True))
    sides = zip(node.args, (node.attrs["left"], node.attrs["right"]), strict=True)
    args = tuple(w.value(a, tuple(at[k] for k in labels)) for a, labels in sides)
    return w.apply(multiply, *args, dtype=node.dtype)


def empty_reduce_nest(w: Weaver, nodes: Sequence[Node]) -> Nest:
    """Reductions of no elements, then maps over them."""
    outer, index = w.loops(nodes[0].shape)
    stores = []
    for node in (n for n in nodes if n.op.kind is Kind.REDUCE):
        none = np.empty(0, node.args[0].dtype)
        value = w.constant(node.op.evaluate(none, **{**node.attrs, "axes": (0,)}), node.dtype)
        w.define(node, index, value)
        if node in w.slots.buffers:
            stores.append(w.store(node, index, value))
    rest = stored_at(w, [n for n in nodes if n.op.kind is not Kind.REDUCE], index)
    return w.nest(outer, Stage(stores=(*stores, *rest)))


def prefix_nest(w: Weaver, node: Node) -> Nest:
    """A running reduction: independent along all axes but one."""
    axis = node.attrs["axis"]
    outer, around = w.loops(tuple(n for a, n in enumerate(node.shape) if a != axis))
    inner, (step,) = w.loops((node.shape[axis],))
    along = node.shape[axis] - 1 - step if node.attrs["reverse"] else step
    index = (*around[:axis], along, *around[axis:])
    scan = Scan(node.op, w.value(node.args[0], index), w.store(node, index, 0))
    return w.nest(outer, Stage(inner, scan=scan))


def scatter_nest(w: Weaver, node: Node) -> Nest:
    """The updates, one after another in row-major order."""
    x, v, *indices = node.args
    axes = node.attrs["axes"]
    outer, index = w.loops(v.shape)
    value = w.value(v, index)
    lead = indices[0].ndim
    terms = w.terms(node, indices, index[:lead], x.shape)
    rest = iter(index[lead:])
    place = tuple(Affine() if a in axes else next(rest) for a in range(x.ndim))
    plain = w.store(node, place, value, node.attrs["how"])
    store = Store(plain.slot, plain.offset, value, plain.dtype, plain.how, terms)
    return w.nest(outer, Stage(stores=(store,)), sequential=True)


def copy_nest(w: Weaver, node: Node, source: Node) -> Nest:
    """``node``'s buffer filled with the value of ``source``, of the same shape."""
    outer, index = w.loops(node.shape)
    store = w.store(node, index, w.value(source, index))
    return w.nest(outer, Stage(stores=(store,)))


def written_nest(w: Weaver, source: Node, slot: int) -> Nest:
    """The value of ``source`` written into a slot of its dtype and size."""
    outer, index = w.loops(source.shape)
    offset = Affine.of(linear_index(index, source.shape))
    value = w.value(source, index)
    return w.nest(outer, Stage(stores=(Store(slot, offset, value, dtype_name(source.dtype)),)))


def copy_nest_between(w: Weaver, source: int, target: int, size: int, dtype: str) -> Nest:
    """The ``size`` elements of one slot copied into another."""
    outer, (at,) = w.loops((size,))
    value = w.emit(Load(source, at, dtype))
    return w.nest(outer, Stage(stores=(Store(target, at, value, dtype),)))


def fill_nest(w: Weaver, node: Node, value: bool | int | float) -> Nest:
    outer, index = w.loops(node.shape)
    store = w.store(node, index, w.constant(value, node.dtype))
    return w.nest(outer, Stage(stores=(store,)))
