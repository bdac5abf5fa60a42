"""Bodies: Python functions traced as closed graphs, with what they read from outside as operands.

Enters: a function and the arrays that it is called with, in any nesting.  Leaves: a graph that reads nothing but its
inputs, the nodes that are its first operands, and, once a node holds the graph, arrays or nodes.
Invariant: what a body uses of the traces around it, and every captured array of several elements, is an operand.
Start reading at `closed`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.containers import Structure, flatten, leaf_map, path_text
from gradc.graph import Graph
from gradc.node import Node, here, next_serial
from gradc.ops.control import is_costless, lifted
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind
from gradc.trace import aval_of, function_name, new_input, parameter_names, run, trace


@dataclass(frozen=True)
class Leaves:
    """The arrays of a container, with what errors call them."""

    values: list[Any]
    avals: list[Aval]
    names: list[str]
    structure: Structure

    @classmethod
    def of(cls, tree: Any, what: str, whose: str) -> Leaves:
        """Flatten a container; a Python bool in it is an array."""
        values, paths, structure = flatten(leaf_map(with_bool_array, tree))
        names = [f"{what}{path_text(p)}" for p in paths]
        for place, static in structure.static:
            path = path_text(structure.spec.paths()[place])
            remedy = "take it out of the container, and read it" if path else "read it"
            raise TypeError(
                f"{here()}: {whose}: {what}{path} is {static.value!r:.40}, which is not an array and stays the same in "
                f"every step.\n  Close over it: {remedy} inside the function from outside."
            )
        return cls(values, [aval_of(v, n) for v, n in zip(values, names, strict=True)], names, structure)

    def inputs(self) -> list[Node]:
        """A fresh leaf for each array."""
        return [new_input(a, name) for a, name in zip(self.avals, self.names, strict=True)]

    def nest(self, avals: Sequence[Aval]) -> Any:
        """The container with avals in place of its arrays."""
        return self.structure.unflatten(avals)


def parameter_name(f: Callable[..., Any], position: int, otherwise: str) -> str:
    """What ``f`` calls an argument: the user's name of the carry."""
    name = parameter_names(f, position + 1)[position]
    return otherwise if name == f"arg{position}" else name


def with_bool_array(leaf: Any) -> Any:
    """A Python bool as an array, anything else as it is."""
    return np.bool_(leaf) if isinstance(leaf, bool) else leaf


def is_array(node: Node) -> bool:
    """A captured array of several elements; single numbers are written where they are used."""
    return node.op.kind is Kind.CONSTANT and not is_costless(node)


def closed(f: Callable[..., Any], *args: Any) -> tuple[Graph, list[Node]]:
    """``f`` traced as a body, and what it reads from outside: its first operands."""
    since = next_serial()

    @functools.wraps(f, assigned=("__module__", "__qualname__", "__doc__"), updated=())
    def with_bools(*inner: Any) -> Any:
        return leaf_map(with_bool_array, f(*inner))

    with_bools.__name__ = function_name(f)
    graph = trace(with_bools, *args)
    return lifted(graph, lambda node: node.serial < since or is_array(node))


def over(graph: Graph, own: Sequence[Node], consts: Sequence[Node]) -> Graph:
    """A body that takes ``consts``, among them its ``own``."""
    named = dict(zip(own, graph.inputs, strict=False))
    leaves = [named[c] if c in named else new_input(c.aval, "const") for c in consts]
    return graph.replace(inputs=(*leaves, *graph.inputs[len(own) :]))


def ran(inputs: Sequence[Node], outputs: Sequence[Node], title: str, values: Sequence[Any]) -> list[Any]:
    """The outputs for values of the inputs: evaluated, or inlined into the open trace."""
    names = {x: str(x.attrs["name"]) for x in inputs}
    return run(Graph(tuple(inputs), tuple(outputs), names, title=title), values)


def as_aval(node: Node, aval: Aval) -> Node:
    """``node`` with the dtype of ``aval``."""
    return node if node.dtype == aval.dtype else cast(node, aval.dtype)


def required_function(f: Any, whose: str, what: str) -> str:
    """The name of ``f`` in messages; TypeError for what cannot be called."""
    if not callable(f):
        raise TypeError(f"{here()}: {whose} expects {what}, got {f!r:.60}")
    return function_name(f)


__all__ = [
    "Leaves", "as_aval", "closed", "is_array", "over", "parameter_name", "ran", "required_function",
    "with_bool_array",
]  # fmt: skip
