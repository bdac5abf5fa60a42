"""A sparse derivative made ready: its pattern, its colouring, and the function that computes its entries.

Enters: a graph, the input that it is differentiated by, and the values of inputs that choose elements.  Leaves: a
`Prepared`.  All colours are directions of one batched derivative, jvp for columns and vjp for rows, whose seeds are
selections by the colour of each column and never stored; the entries are gathered from it in the same function.
Start reading at `prepared`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.diff.batching import batch
from gradc.diff.dependence import evaluated
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.sparsity import Pattern, pattern_of
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import OPS, Node, constant, dsl
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota
from gradc.ops.ranges import Hazard, Range, Zeros, declared
from gradc.ops.record import Kind
from gradc.passes import LINEAR, run_passes
from gradc.sparse.colouring import Colouring
from gradc.trace import new_input

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def structure_of(graph: Graph, x: Node, values: Mapping[Node, Any]) -> tuple[Pattern, frozenset[Node]]:
    """The pattern of ∂y/∂x, and the inputs among ``values`` whose values it is for."""
    (y,) = graph.outputs
    tangent = new_input(Aval(x.shape, x.dtype), "tangent")
    (pushed,) = push_forward([y], [x], [tangent])
    if pushed is None:
        return pattern_of(None, tangent, y.size)
    (ready,) = run_passes(Graph((*graph.inputs, tangent), (pushed,)), LINEAR).outputs
    return pattern_of(ready, tangent, y.size, values)


def entries_of(graph: Graph, x: Node, pattern: Pattern, colouring: Colouring, places: Numbers) -> Graph:
    """A graph of the same inputs that computes the entries at ``places`` of all compressed products.

    The products with colours of columns come first, one after another, each an array like the result; then those with
    colours of rows, each an array like ``x``.
    """
    (y,) = graph.outputs
    products = []
    if colouring.column_colours:
        tangent = new_input(Aval(x.shape, x.dtype), "tangent")
        pushed = push_forward([y], [x], [tangent])
        products.append(_products(pushed[0], tangent, y, colouring.columns, colouring.column_colours))
    if colouring.row_colours:
        cotangent = new_input(Aval(y.shape, y.dtype), "cotangent")
        pulled = pull_back([y], [x], [cotangent])
        products.append(cast(_products(pulled[0], cotangent, x, colouring.rows, colouring.row_colours), y.dtype))
    if not products:
        return graph.replace(outputs=(full((0,), 0, y.dtype),))
    joint = products[0] if len(products) == 1 else OPS["concatenate"].make(products, axis=0)
    small = np.int32 if joint.size <= np.iinfo(np.int32).max else np.int64
    entries = OPS["gather"].make((joint, constant(places.astype(small))), axes=(0,))
    return graph.replace(outputs=(entries,))


def _products(linear: Node | None, leaf: Node, result: Node, colours: Numbers, count: int) -> Node:
    """What ``linear`` is for each colour, one after another.

    The direction is 1 where an element has the colour and a selected 0 elsewhere, which stays 0 whatever it meets: what
    is infinite or NaN in one column is so in no other column of its colour.
    """
    if linear is None:
        return full((count * result.size,), 0, result.dtype)
    moved = _moved(linear, leaf, colours)
    own = {node: new_input(Aval(node.shape, np.dtype(np.bool_)), "own") for node in moved}
    (selected,) = evaluated([linear], {node: _direction(mark, node.dtype) for node, mark in own.items()})
    if selected is None:
        return full((count * result.size,), 0, result.dtype)
    seeds = {own[node]: _seeds(node.shape, shown, count) for node, shown in moved.items()}
    ((found, _),) = batch([selected], seeds, count)
    return dsl.reshape(found, (count * result.size,))


def _direction(mark: Node, dtype: Any) -> Node:
    """1 where ``mark`` is, else 0: no slope of a kink, as other choices of numbers may be, so its zeros are guards."""
    known = Range(0.0, 1.0, Hazard.ARITHMETIC, Zeros.GUARDED)
    return declared(dsl.where(mark, full((), 1, dtype), 0), known)


def _moved(linear: Node, leaf: Node, colours: Numbers) -> dict[Node, Numbers]:
    """The leaf, or where views of it alone are read, these: each with the colours of its elements, −1 for none.

    What a slice of the padded directions is for a colour is a comparison, too: nothing has to be padded.
    """
    numbers = {leaf: colours.reshape(leaf.shape) + 1}
    read: dict[Node, Numbers] = {}
    for node in topological([linear]):
        moved = None
        if node.op.kind is Kind.VIEW and all(a in numbers for a in node.args):
            moved = np.asarray(node.op.numpy(*(numbers[a] for a in node.args), **node.attrs))
            if node.op.jvp is not None:  # it may fill places with a number
                still = np.asarray(node.op.numpy(*(np.zeros_like(numbers[a]) for a in node.args), **node.attrs))
                moved = None if still.any() else moved
        if moved is not None:
            numbers[node] = moved
        else:
            read |= {a: numbers[a] for a in node.args if a in numbers}
    if linear in numbers:
        read[linear] = numbers[linear]
    return {node: shown - 1 for node, shown in read.items()}


def _seeds(shape: Shape, colours: Numbers, count: int) -> Node:
    """For each colour which elements it has."""
    shape = (count, *shape)
    small = next(d for d in (np.int8, np.int16, np.int64) if count <= np.iinfo(d).max)
    own = constant(colours.astype(small))
    shown = OPS["broadcast"].make((own,), shape=shape, axes=tuple(range(1, len(shape))))
    return OPS["equal"].make((iota(shape, 0, small), shown))


def places_of(pattern: Pattern, colouring: Colouring) -> Numbers:
    """Where each entry stands in the compressed products of `entries_of`."""
    m, n = pattern.shape
    by_columns = colouring.columns[pattern.columns] * m + pattern.rows
    if not colouring.row_colours:
        return by_columns
    by_rows = (colouring.column_colours * m) + colouring.rows[pattern.rows] * n + pattern.columns
    return np.where(colouring.by_rows(pattern), by_rows, by_columns)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is known of a sparse derivative at one kind of arguments; ``asked`` are the flat positions and values of
    arguments that the pattern is for."""

    pattern: Pattern
    colouring: Colouring
    graph: Graph  #: the entries, row after row
    asked: Sequence[tuple[int, Any]]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether the pattern is that of these flat arguments."""
        return all(np.array_equal(leaves[i], value) for i, value in self.asked)
