"""What a solver searches for, and the functions that it calls on the way.

Enters: a tree of floats, and functions on such trees.  Leaves: `Unknowns`, the arrays with their names, and `Traced`
functions, which a solver may call on any arrays of the same shapes, as often as it likes: they are one graph.
Start reading at `Traced`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.bodies import Leaves, as_aval, closed
from gradc.aval import Aval
from gradc.containers import Structure
from gradc.errors import DTypeError, GradcError, ShapeError
from gradc.graph import Graph
from gradc.node import Node, as_node, here
from gradc.ops.control import own_size
from gradc.trace import called, run

#: A function of so many nodes stands once in the graph, however often a solver calls it.
FEWEST_SHARED = 64


def unknowns(tree: Any, what: str, whose: str) -> Leaves:
    """The arrays of a tree of floats; Python numbers and integers count as float64, as in NumPy's solvers."""
    given = Leaves.of(array_of_numbers(tree), what, whose)
    if not given.values:
        raise TypeError(f"{here()}: {whose}: {what} holds no array")
    for aval, name in zip(given.avals, given.names, strict=True):
        if aval.dtype == np.bool_:
            raise DTypeError(f"{here()}: {whose}: {name} is {aval}; expected floats")
    avals = [Aval(a.shape, a.dtype if a.is_float else np.dtype(np.float64)) for a in given.avals]
    values = [_as_float(v, a) for v, a in zip(given.values, avals, strict=True)]
    return Leaves(values, avals, given.names, given.structure)


def array_of_numbers(tree: Any) -> Any:
    """A list of plain numbers, or of such lists, as the array that SciPy takes it for; any other tree as it is."""
    return np.asarray(tree) if isinstance(tree, list) and tree and all(map(_holds_numbers, tree)) else tree


def _holds_numbers(part: Any) -> bool:
    if isinstance(part, list):
        return bool(part) and all(map(_holds_numbers, part))
    return isinstance(part, (int, float, np.number)) and not isinstance(part, bool)


def _as_float(value: Any, aval: Aval) -> Any:
    return as_aval(value, aval) if isinstance(value, Node) else np.asarray(value, aval.dtype)


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced function of one tree that reads ``consts``; calls are inlined, or share one body if it is large."""

    graph: Graph  #: its inputs are consts, then the arrays of the tree
    consts: Sequence[Node]
    given: Leaves  #: what the tree is like
    returns: Structure

    @classmethod
    def of(cls, f: Callable[..., Any], given: Leaves) -> Traced:
        """``f`` at trees like ``given``."""
        graph, consts = closed(f, given.nest(given.avals))
        assert graph.out_tree is not None
        return cls(graph, consts, given, graph.out_tree)

    def __call__(self, tree: Any) -> Any:
        operands = [*self.consts, *fitted(tree, self.given, f"{self.graph.title} was called with a tree")]
        apply = called if own_size(self.graph) >= FEWEST_SHARED else run
        return self.returns.unflatten(apply(self.graph, operands))


def fitted(tree: Any, given: Leaves, what: str) -> list[Node]:
    """The arrays of ``tree``, which must nest like ``given`` and have its shapes; other dtypes are cast."""
    try:
        parts = given.structure.parts_of(tree)
    except ValueError as error:
        reason = str(error).split("\n")[0].replace("PyTreeSpec", "")
        raise TypeError(f"{here()}: {what} that must nest like {given.structure}: {reason:.300}") from None
    found = []
    for part, aval, name in zip(parts, given.avals, given.names, strict=True):
        try:
            node = as_node(part)
        except GradcError as error:
            raise TypeError(f"{here()}: {what} that must nest like {given.structure}: {error}") from None
        if node.shape != aval.shape:
            raise ShapeError(f"{here()}: {what} with shape {node.shape} in the place of {name}, which is {aval}")
        found.append(as_aval(node, aval))
    return found


def like_unknowns(graph: Graph, given: Leaves, whose: str) -> Graph:
    """``graph`` with outputs that nest as ``given`` does, in its shapes and dtypes; errors say what they are not."""
    assert graph.out_tree is not None
    outputs = fitted(graph.out_tree.unflatten(graph.outputs), given, f"{whose} returned a tree")
    return graph.replace(outputs=tuple(outputs), out_tree=given.structure)
