"""Maps that follow a product, done while each part of it is still in the nearest cache.

Enters: a `Product` and the nodes that read it element by element.  Leaves: the product with an `Epilogue`, or None where
the product's places (batch, row, column) cannot say where an element's companions lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradc.node import Node
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Apply, Constant, Epilogue, Load, Nest, Product, Stage, Total
from gradc.schedule.lanes import dependences, grouped
from gradc.schedule.nests import stored_at
from gradc.schedule.partition import CHEAP
from gradc.schedule.product import out_groups
from gradc.schedule.weave import Slots, Weaver


def with_epilogue(
    product: Product, node: Node, maps: Sequence[Node], slots: Slots, number: Mapping[Node, int], kept: bool
) -> Product | None:
    """``product``, the value of ``node``, followed by ``maps``; ``kept``: the product itself is wanted too."""
    trial = Slots(slots.buffers)
    trial.numbers, trial.dtypes = [*slots.numbers], [*slots.dtypes]
    epilogue = _epilogue(product, node, maps, Weaver(trial, number), kept)
    if epilogue is None:
        return None
    slots.numbers, slots.dtypes = trial.numbers, trial.dtypes
    slots.reads |= trial.reads
    slots.writes |= trial.writes
    if epilogue.result < 0:
        return replace(product, epilogue=epilogue)
    slots.writes.discard(product.out.slot)
    stores = tuple(epilogue.nest.stores)
    return replace(product, out=replace(product.out, slot=stores[epilogue.result].slot), epilogue=epilogue)


def _epilogue(product: Product, node: Node, maps: Sequence[Node], w: Weaver, kept: bool) -> Epilogue | None:
    if not node.aval.is_float or product.n == 1:
        return None
    outer, index = w.loops(node.shape)
    w.define(node, index, w.emit(Total(0, 0, str(node.dtype))))
    stores = stored_at(w, maps, index)
    same = [k for k, s in enumerate(stores) if s.dtype == str(node.dtype)]
    if not kept and not same:
        return None
    nest = Nest(outer, tuple(w.code), (Stage(stores=stores),))
    by_axis = _variables(node, outer)
    found = grouped(nest, [[by_axis[a] for a in axes if a in by_axis] for axes in out_groups(node)])
    if found is None or product.batch != _batch_extents(node) or not _is_light(found[0], found[1][2]):
        return None
    nest, (batch, row, column) = found
    if column is None:
        return None
    return Epilogue(replace(nest, lane=column), batch, row, column, -1 if kept else same[0])


def _variables(node: Node, outer: Sequence[Var]) -> dict[int, Var]:
    """Axis of the result -> its variable; axes of length one have none."""
    axes = [a for a, n in enumerate(node.shape) if n != 1]
    return dict(zip(axes, outer, strict=True))


def _batch_extents(node: Node) -> tuple[int, ...]:
    return tuple(node.shape[a] for a in out_groups(node)[0])


def _is_light(nest: Nest, column: Var | None) -> bool:
    """Whether nothing in the epilogue can fail, and nothing dear is the same for a whole row: it is computed anew there."""
    for x, depends in zip(nest.code, dependences(nest), strict=True):
        if not isinstance(x, Apply | Constant | Load | Total) or (isinstance(x, Apply) and x.node >= 0):
            return False
        if isinstance(x, Apply) and column not in depends and x.op.name not in CHEAP:
            return False
    return True
