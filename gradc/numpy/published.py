"""Functions that a record alone makes public: where an op says that users find it, there it is.

Enters: a namespace ("numpy", "linalg", "special", "nn").  Leaves: its functions by name, each a public function over
traced values and arrays that also serves NumPy's protocols.  Invariant: what needs other arguments than operands and
axes is written in its namespace instead.  Start reading at `published`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradc.aval import promoted
from gradc.node import FUNCTIONS, OPS, Node, as_node
from gradc.numpy.axes import axes_of, axis_of
from gradc.numpy.public import public
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind, Op


def published(namespace: str) -> dict[str, Callable[..., Any]]:
    """The functions that records put into ``namespace``, by name."""
    found = {}
    for op in OPS.values():
        home, _, name = op.public.rpartition(".")
        if home == namespace:
            function = _FORMS.get(op.kind, _of_operands)(op)
            function.__name__, function.__doc__ = name, op.doc
            key = name if namespace == "numpy" else op.public
            found[name] = public(FUNCTIONS.setdefault(key, function))
    return found


def _of_elements(op: Op) -> Callable[..., Node]:
    return FUNCTIONS[op.name]


def _of_axes(op: Op) -> Callable[..., Node]:
    def function(a: Any, axis: Any = None, *, keepdims: Any = False) -> Node:
        node = inexact(as_node(a))
        return reduced(op.name, node, axes_of(axis, node), keepdims)

    return function


def _along_axis(op: Op) -> Callable[..., Node]:
    def function(a: Any, axis: Any = -1) -> Node:
        node = inexact(as_node(a))
        return op.make((node,), axis=axis_of(axis, node), reverse=False)

    return function


def _of_operands(op: Op) -> Callable[..., Node]:
    def function(*operands: Any) -> Node:
        nodes = [inexact(as_node(x)) for x in operands]
        dtype = promoted(*(x.dtype for x in nodes))
        return op.make([cast(x, dtype) for x in nodes])

    return function


#: how the function of an op of each kind takes its arguments
_FORMS: dict[Kind, Callable[[Op], Callable[..., Node]]] = {
    Kind.ELEMENTWISE: _of_elements,
    Kind.REDUCE: _of_axes,
    Kind.PREFIX: _along_axis,
}
