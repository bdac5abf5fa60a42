"""Nodes to loops: maps, reductions, running reductions, scatters and piecewise stores.

Enters: the nodes of one cluster.  Leaves: `Nest`s whose forms are affine wherever splitting an axis makes them so.
Start reading at `NESTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from gradc.node import OPS, Node
from gradc.ops.record import Kind
from gradc.schedule.affine import Affine, Quotient, Var, split_point
from gradc.schedule.kernel import Apply, Load, Nest, Scan, Stage, Store, form
from gradc.schedule.lanes import Widths, arranged
from gradc.schedule.weave import Place, Slots, Splits, Weaver, dtype_name, refined, view_pieces

#: What a reduction of nothing gives.
IDENTITY = {"sum": 0, "prod": 1, "any": 0, "all": 1}
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
    return arranged(nest, widths)


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
    return w.emit(Apply(OPS["multiply"], args, (), dtype_name(node.dtype), -1))


def empty_reduce_nest(w: Weaver, nodes: Sequence[Node]) -> Nest:
    """Reductions of no elements, then maps over them."""
    outer, index = w.loops(nodes[0].shape)
    stores = []
    for node in (n for n in nodes if n.op.kind is Kind.REDUCE):
        value = w.constant(IDENTITY[node.op.name], node.dtype)
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
    scan = Scan(node.op.name, w.value(node.args[0], index), w.store(node, index, 0))
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


def copy_nest_between(w: Weaver, source: int, target: int, size: int, dtype: str) -> Nest:
    """The ``size`` elements of one slot copied into another."""
    outer, (at,) = w.loops((size,))
    value = w.emit(Load(source, at, dtype))
    return w.nest(outer, Stage(stores=(Store(target, at, value, dtype),)))


def fill_nest(w: Weaver, node: Node, value: bool | int | float) -> Nest:
    outer, index = w.loops(node.shape)
    store = w.store(node, index, w.constant(value, node.dtype))
    return w.nest(outer, Stage(stores=(store,)))


# -- pieces ------------------------------------------------------------------------------------------------------------


def piece_count(node: Node) -> int:
    return len(_pieces(node))


def _pieces(node: Node) -> list[tuple[int, tuple[Affine, ...]]]:
    index = tuple(Affine(0, {Var(k, n): 1}) for k, n in enumerate(node.shape))
    return [(p.arg, tuple(map(Affine.of, p.index))) for p in view_pieces(node, index) if node.args[p.arg].aval.size]


def needs_fill(node: Node) -> bool:
    """Whether the pieces leave elements out, or add to what is there."""
    if node.op.kind is Kind.FOLD:
        return not _first_piece_covers(node)
    return sum(node.args[arg].aval.size for arg, _ in _pieces(node)) < node.aval.size


def _first_piece_covers(node: Node) -> bool:
    pieces = _pieces(node)
    return bool(pieces) and _box_size(node, *pieces[0]) == node.aval.size


def _box_size(node: Node, arg: int, form: tuple[Affine, ...]) -> int:
    operand = node.args[arg]
    return math.prod(n for n, f in zip(operand.shape, form, strict=True) if not f.is_constant)


def piece_nest(w: Weaver, node: Node, which: int) -> Nest:
    """One piece of a view or fold, written into the box of the result that it fills."""
    arg, formula = _pieces(node)[which]
    operand = node.args[arg]
    shape = tuple(1 if f.is_constant else n for n, f in zip(operand.shape, formula, strict=True))
    outer, free = w.loops(shape)
    source = tuple(f if f.is_constant else i for f, i in zip(formula, free, strict=True))
    target = _inverse(formula, free, node.ndim)
    adds = node.op.kind is Kind.FOLD and not (which == 0 and _first_piece_covers(node))
    store = w.store(node, target, w.value(operand, source), "add" if adds else "set")
    return w.nest(outer, Stage(stores=(store,)))


def _inverse(formula: Sequence[Affine], free: Place, ndim: int) -> Place:
    """Result index of an operand index: each operand coordinate is (result coordinate + c) // step."""
    target = [Affine()] * ndim
    for f, i in zip(formula, free, strict=True):
        if not f.is_constant:
            axis, shift, step = _placement(f)
            target[axis] = i * step - shift
    return tuple(target)


def _placement(f: Affine) -> tuple[int, int, int]:
    """(result axis, c, step) of a coordinate (result[axis] + c) // step."""
    ((atom, factor),) = f.terms.items()
    if isinstance(atom, Var) and factor == 1:
        return atom.number, f.const, 1
    if isinstance(atom, Quotient) and factor == 1:
        axis, shift, step = _placement(atom.numerator)
        if step == 1:
            return axis, shift + f.const * atom.divisor, atom.divisor
    raise AssertionError(f"{f} is no placement of a box")
