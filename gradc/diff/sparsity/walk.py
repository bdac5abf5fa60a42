"""One walk over nodes: what each depends on, and what is known of those that depend on nothing.

Enters: the maps of some leaves (`gradc.diff.sparsity.sets`), and the values of others.  Leaves: those of the nodes
that were visited.  A node that depends on no column has no map.  The value of a node that is computed from constants,
counters and given values alone is known where a rule asks for it: an index, a mask, a factor that is 0.
Start reading at `Walk`; what visits the nodes is in `bodies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradc.diff.sparsity.sets import ColumnSets, Maps
from gradc.interpret import interpret
from gradc.node import Node
from gradc.ops.leaves import number_of
from gradc.ops.record import HOLDERS, Kind

Array = np.ndarray[Any, Any]
#: a value, and the arguments that it is computed from
Known = tuple[Array, frozenset[Node]]


class Walk:
    """What is known of the nodes of one graph or body.

    ``values`` are those of leaves, each with the arguments that it is computed from; the arguments whose values
    something was concluded from are in ``asked``.
    """

    def __init__(
        self,
        sets: ColumnSets,
        maps: Mapping[Node, Maps],
        values: Mapping[Node, Known],
        asked: set[Node] | None = None,
    ):
        self.sets = sets
        self.maps = {node: found for node, found in maps.items() if found}
        self.several: dict[Node, Sequence[Maps]] = {}  # of nodes with several results, those of each
        self.asked: set[Node] = set() if asked is None else asked
        self._values: dict[Node, Any] = {node: value for node, (value, _) in values.items()}
        self._sources = {node: sources for node, (_, sources) in values.items()}  # of each node that can be known
        self._zeros: dict[Node, Array] = {}

    def is_visited(self, node: Node) -> bool:
        """Whether it is known already what ``node`` depends on."""
        return node in self.maps or node in self._sources

    def depends(self, node: Node) -> bool:
        """Whether an operand of ``node`` depends on a column."""
        return any(a in self.maps or a in self.several for a in node.args)

    def note(self, node: Node, maps: Maps) -> None:
        """The elements of ``node`` depend on ``maps``."""
        if maps:
            self.maps[node] = maps

    def note_constant(self, node: Node) -> None:
        """``node`` depends on no column: it may be known, or be 0 somewhere."""
        if self._may_be_known(node):
            self._sources[node] = frozenset().union(*(self._sources[a] for a in node.args))
        else:
            self._note_zeros(node)

    def of(self, node: Node) -> Maps:
        """What the elements of a visited node depend on."""
        return self.maps.get(node, ())

    # -- what is known ------------------------------------------------------------------------------------------------
    def _may_be_known(self, node: Node) -> bool:
        if node.op.kind in (Kind.CONSTANT, Kind.INDEX):
            return True
        if node.op.kind in (Kind.INPUT, Kind.ITEM, *HOLDERS):
            return False
        return all(a in self._sources for a in node.args)

    def value(self, node: Node) -> Array | None:
        """The value of a node that depends on nothing unknown; None of any other."""
        if node not in self._sources:
            return None
        self.asked |= self._sources[node]
        found: Array = interpret([node], self._values)[0]
        return found

    def fixed(self, node: Node) -> Array | None:
        """The value of a node that depends on no argument either."""
        return self.value(node) if self._sources.get(node) == frozenset() else None

    def known(self, node: Node) -> Known | None:
        """The value of a node that depends on nothing unknown, with the arguments that it depends on."""
        if node not in self._sources:
            return None
        return interpret([node], self._values)[0], self._sources[node]

    def zeros(self, node: Node) -> Array | None:
        """Where a visited node is 0 whatever the unknown values are; None if that may be nowhere."""
        if node in self._zeros:
            return self._zeros[node]
        number = number_of(node)
        value = self.fixed(node) if number is None or number == 0 else None
        if value is None:
            return None
        mask = np.equal(value, 0)
        return mask if mask.any() else None

    def _note_zeros(self, node: Node) -> None:
        """Where a node that depends on no column is 0 because constants in it are."""
        masks = [self.zeros(a) for a in node.args]
        if any(m is not None for m in masks):
            found = _zeros_of(self, node, masks)
            if found is not None and found.any():
                self._zeros[node] = found


def _zeros_of(walk: Walk, node: Node, masks: Sequence[Array | None]) -> Array | None:
    """Where ``node`` is 0, if its operands are under ``masks``."""
    op = node.op
    if op.chooses:
        which = walk.fixed(node.args[0])
        sides = [np.broadcast_to(False if m is None else m, node.shape) for m in masks[1:]]
        return sides[0] & sides[1] if which is None else np.where(which, *sides)
    if op.multiplies:
        there = [m for i, m in enumerate(masks) if m is not None and i in op.multiplies]
        return np.logical_or.reduce(there) if there else None
    if op.kind is Kind.ELEMENTWISE and len(node.args) == 1 and (op.converts or op.linear == (0,)):
        return masks[0]
    if op.kind is Kind.VIEW:
        ones = [np.ones(a.shape, bool) if m is None else ~m for a, m in zip(node.args, masks, strict=True)]
        return ~np.asarray(op.numpy(*ones, **node.attrs)).astype(bool)
    return None


def silenced(walk: Walk, node: Node, i: int) -> Array | None:
    """Where an elementwise node is the same whatever operand ``i`` is; None if that may be nowhere."""
    op = node.op
    if op.chooses:
        which = walk.fixed(node.args[0])
        return None if which is None else np.broadcast_to(~which if i == 1 else which, node.shape)
    if i not in op.multiplies:
        return None
    masks = [walk.zeros(node.args[j]) for j in op.multiplies if j != i]
    there = [m for m in masks if m is not None]
    return np.logical_or.reduce(there) if there else None
