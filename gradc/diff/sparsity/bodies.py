"""The nodes of a graph visited one after another, and through the bodies of loops, branches and calls.

Enters: outputs, and a walk in which the maps of leaves are noted.  Leaves: the same walk, all nodes noted.  A loop of
a known number of steps is walked step by step, with the counters and rows that are known, so a recurrence is
triangular and not full; one that ends when a condition says so is walked until nothing new comes into a carry.
Start reading at `visited`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gradc.aval import Aval, Results, Shape
from gradc.diff.batching import batch
from gradc.diff.sparsity.rules import RULES, together
from gradc.diff.sparsity.sets import ColumnSets, Maps, Numbers
from gradc.diff.sparsity.walk import Known, Walk
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import Loop, bodies, inner_leaf
from gradc.ops.record import HOLDERS, Kind

#: so often a loop is walked that ends by a condition, before its carries are taken to depend on all that comes in
MOST_ROUNDS = 16
#: of more maps of a carry the unions are written down, or they would double with each step
MOST_CARRIED = 4


def visited(walk: Walk, outputs: Sequence[Node]) -> Walk:
    """``walk``, with everything noted that ``outputs`` are computed from."""
    for node in topological(outputs):
        if walk.is_visited(node):
            continue
        if not walk.depends(node):
            walk.note_constant(node)
        elif node.op.kind in HOLDERS:
            walk.several[node] = _results_of(walk, node)
        elif node.op.kind is Kind.WHOLE and isinstance(node.aval, Results):
            walk.several[node] = [_of_whole(walk, node, part) for part in node.aval.parts]
        elif node.op.kind is Kind.WHOLE:
            walk.note(node, _of_whole(walk, node, node.aval))
        elif node.op.kind is Kind.ITEM:
            walk.note(node, walk.several[node.args[0]][node.attrs["index"]])
        elif node.aval.is_float and not node.op.constant and not node.op.stops:
            walk.note(node, RULES[node.op.kind](walk, node, [walk.of(a) for a in node.args]))
    return walk


def _of_whole(walk: Walk, node: Node, aval: Aval) -> Maps:
    """Of what the node is written in, or where that is an algorithm all of what stands in the same matrix."""
    if not aval.is_float or node.op.constant:
        return ()
    if node.op.algorithm is not None or node.op.expand is None:
        return together(walk, node, [walk.of(a) for a in node.args], aval.shape)
    leaves = [inner_leaf(a.aval, "x") for a in node.args]
    expansion = node.op.expand(*leaves, **node.attrs)
    return _entered(walk, leaves, node.args, [expansion]).of(expansion)


def _results_of(walk: Walk, node: Node) -> Sequence[Maps]:
    """The maps of each result of ``node``."""
    if node.op.kind is Kind.LOOP:
        return _of_loop(walk, Loop.of(node))
    operands = node.args[1:] if node.op.kind is Kind.BRANCH else node.args
    found = [_inside(walk, body, operands) for body in bodies(node).values()]
    return [walk.sets.joined([m for maps in several for m in maps]) for several in zip(*found, strict=True)]


def _inside(walk: Walk, body: Graph, operands: Sequence[Node]) -> list[Maps]:
    """What the results of a body depend on that runs once on ``operands``."""
    inner = _entered(walk, body.inputs, operands, body.outputs)
    return [inner.of(y) for y in body.outputs]


def _entered(walk: Walk, leaves: Sequence[Node], operands: Sequence[Node], outputs: Sequence[Node]) -> Walk:
    """A walk over what a body makes of leaves that stand for ``operands``."""
    maps = {x: walk.of(a) for x, a in zip(leaves, operands, strict=True)}
    return visited(Walk(walk.sets, maps, _known(leaves, map(walk.known, operands)), walk.asked), outputs)


def _known(inputs: Iterable[Node], values: Iterable[Known | None]) -> dict[Node, Known]:
    return {x: v for x, v in zip(inputs, values, strict=True) if v is not None}


def _of_loop(walk: Walk, loop: Loop) -> Sequence[Maps]:
    if loop.steps is None:
        return _until_nothing_is_new(walk, loop)
    if not loop.steps:
        return [*map(walk.of, loop.carries), *(() for _ in loop.ys)]
    if not loop.carries:
        return _all_rows_at_once(walk, loop)
    return _Steps(walk, loop).taken()


def _all_rows_at_once(walk: Walk, loop: Loop) -> Sequence[Maps]:
    """Of a loop in which no step knows of another: its body, batched."""
    assert loop.steps is not None
    rows = {x: inner_leaf(outer.aval, "rows") for x, outer in zip(loop.inner_xs, loop.xs, strict=True)}
    outputs = [y for y, _ in batch(loop.ys, rows, loop.steps)]
    leaves, operands = (*loop.inner_consts, *rows.values()), (*loop.consts, *loop.xs)
    inner = _entered(walk, leaves, operands, outputs)
    shapes = [(loop.steps, *y.shape) for y in loop.ys]
    return [tuple(np.broadcast_to(m, s) for m in inner.of(y)) for y, s in zip(outputs, shapes, strict=True)]


class _Steps:
    """A loop walked step by step."""

    def __init__(self, walk: Walk, loop: Loop):
        self.walk, self.loop = walk, loop
        self.maps = [walk.of(a) for a in (*loop.consts, *loop.carries)]
        self.values = [walk.known(a) for a in (*loop.consts, *loop.carries)]
        self.row_maps, self.row_values = [walk.of(x) for x in loop.xs], [walk.known(x) for x in loop.xs]

    def taken(self) -> Sequence[Maps]:
        """The maps of the last carries, then those of the stacked rows."""
        loop, count = self.loop, len(self.loop.carries)
        assert loop.steps is not None
        stacks: dict[int, Sequence[Maps]] = {}
        for step in range(loop.steps):
            row = loop.steps - 1 - step if loop.reverse else step
            inner = self._step(row)
            found = [self._few(inner.of(y)) for y in loop.body.outputs]
            self.maps[len(loop.consts) :] = found[:count]
            self.values[len(loop.consts) :] = map(inner.known, loop.next_carries)
            stacks[row] = found[count:]
        rows = [[stacks[t][k] for t in range(loop.steps)] for k in range(len(loop.ys))]
        return [
            *self.maps[len(loop.consts) :],
            *(self.walk.sets.joined(_stacked(maps, y.shape)) for maps, y in zip(rows, loop.ys, strict=True)),
        ]

    def _step(self, row: int) -> Walk:
        maps = [*self.maps, *(tuple(m[row] for m in maps) for maps in self.row_maps)]
        rows = (None if known is None else (np.asarray(known[0][row]), known[1]) for known in self.row_values)
        inputs = self.loop.body.inputs
        known = _known(inputs, [*self.values, *rows])
        inner = Walk(self.walk.sets, dict(zip(inputs, maps, strict=True)), known, self.walk.asked)
        return visited(inner, self.loop.body.outputs)

    def _few(self, maps: Maps) -> Maps:
        return self.walk.sets.united(maps) if len(maps) > MOST_CARRIED else maps


def _stacked(rows: Sequence[Maps], shape: Shape) -> list[Numbers]:
    """The maps of rows as those of one array."""
    nothing = np.zeros(shape, np.int64)
    width = max(map(len, rows))
    return [np.stack([maps[k] if k < len(maps) else nothing for maps in rows]) for k in range(width)]


# -- loops that end by a condition -------------------------------------------------------------------------------------


def _until_nothing_is_new(walk: Walk, loop: Loop) -> Sequence[Maps]:
    """Carries depend on whatever any number of steps brings into them; rows on what that makes of any row."""
    sets, first = walk.sets, len(loop.consts)
    fixed = [*map(walk.of, loop.consts)], [sets.together(walk.of(x), (0,)) for x in loop.xs]
    known = _known(loop.inner_consts, map(walk.known, loop.consts))
    carried = [walk.of(c) for c in loop.carries]
    for round_ in range(MOST_ROUNDS + 1):
        if round_ == MOST_ROUNDS:
            carried = _everything(sets, [*fixed[0], *carried, *fixed[1]], loop)
        inputs = dict(zip(loop.body.inputs, [*fixed[0], *carried, *fixed[1]], strict=True))
        inner = visited(Walk(sets, inputs, known, walk.asked), loop.body.outputs)
        grown = [sets.united([*old, *inner.of(y)]) for old, y in zip(carried, loop.next_carries, strict=True)]
        if round_ == MOST_ROUNDS or all(map(_says_the_same, [sets] * len(grown), carried, grown, loop.carries)):
            break
        carried = grown
    assert first + len(carried) + len(fixed[1]) == len(loop.body.inputs)
    shapes = [(loop.length or 0, *y.shape) for y in loop.ys]
    rows = [tuple(np.broadcast_to(m, s) for m in inner.of(y)) for y, s in zip(loop.ys, shapes, strict=True)]
    return [*carried, *rows]


def _says_the_same(sets: ColumnSets, old: Maps, new: Maps, node: Node) -> bool:
    """Whether two lists of maps of ``node`` name the same columns everywhere."""
    before, after = sets.rows(old, node.size), sets.rows(new, node.size)
    return all(map(np.array_equal, before, after))


def _everything(sets: ColumnSets, maps: Sequence[Maps], loop: Loop) -> list[Maps]:
    """Every float carry depends on all columns that anything in the loop depends on."""
    flat = [np.unique(m) for found in maps for m in found]
    union = sets.together([np.concatenate(flat)], (0,)) if flat else ()
    return [tuple(np.broadcast_to(m, c.shape) for m in union) if c.aval.is_float else () for c in loop.carries]
