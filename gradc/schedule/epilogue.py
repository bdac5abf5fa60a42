"""Maps that follow a product, done while each part of it is still in the nearest cache.

Enters: a `Product` and the nodes that read it element by element.  Leaves: an `Epilogue`, or None where the product's
places (batch, row, column) cannot say where an element's companions lie.  Start reading at `epilogue_of`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from gradc.node import Node
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Apply, Constant, Epilogue, Load, Nest, Product, Stage, Total
from gradc.schedule.lanes import Widths, dependences, grouped
from gradc.schedule.nests import stored_at
from gradc.schedule.product import out_groups
from gradc.schedule.weave import Slots, Weaver, dtype_name


def output_node(node: Node, maps: Sequence[Node], slots: Slots, in_place: Set[Node]) -> Node:
    """The node whose buffer the product writes: a map that fits, so that the product's own value needs no memory.

    Not one of those that take over an input's storage ``in_place``: bare sums are written there before the epilogue
    reads the old value.
    """
    fitting = (m for m in maps if m in slots.buffers and m.dtype == node.dtype and m not in in_place)
    return next(fitting, node)


def epilogue_of(product: Product, node: Node, maps: Sequence[Node], w: Weaver, widths: Widths) -> Epilogue | None:
    """``maps`` as the epilogue of ``product``, which computes ``node`` and writes the buffer of one of them."""
    if not node.aval.is_float or product.n == 1 or product.batch != _batch_extents(node):
        return None
    outer, index = w.loops(node.shape)
    w.define(node, index, w.emit(Total(0, 0, dtype_name(node.dtype))))
    stores = stored_at(w, maps, index)
    nest = w.nest(outer, Stage(stores=stores))
    by_axis = _variables(node, outer)
    found = grouped(nest, [[by_axis[a] for a in axes if a in by_axis] for axes in out_groups(node)])
    if found is None:
        return None
    merged, (batch, row, column) = found
    if column is None or not _is_light(merged, column):
        return None
    if row is not None and widths.masks_cost and _is_ragged(column, widths.lanes(product.dtype)):
        return None
    own = (k for k, s in enumerate(merged.stores) if s.slot == product.out.slot)
    return Epilogue(replace(merged, lane=column), batch, row, column, next(own, -1))


def _variables(node: Node, outer: Sequence[Var]) -> dict[int, Var]:
    """Axis of the result -> its variable; axes of length one have none."""
    axes = [a for a, n in enumerate(node.shape) if n != 1]
    return dict(zip(axes, outer, strict=True))


def _batch_extents(node: Node) -> tuple[int, ...]:
    return tuple(node.shape[a] for a in out_groups(node)[0])


def _is_ragged(column: Var, lanes: int) -> bool:
    """Whether a row is less than two vectors, and not whole ones.

    A loop of its own then does better: it goes on over the ends of rows where it can, and does not load what was just
    written under a mask.
    """
    return column.extent < 2 * lanes and column.extent % lanes != 0


def _is_light(nest: Nest, column: Var | None) -> bool:
    """Whether nothing can fail, and nothing dear is the same for a whole row: an epilogue computes it anew."""
    for x, depends in zip(nest.code, dependences(nest), strict=True):
        if not isinstance(x, Apply | Constant | Load | Total) or (isinstance(x, Apply) and x.node >= 0):
            return False
        if isinstance(x, Apply) and column not in depends and x.op.element_cost > 1:
            return False
    return True
