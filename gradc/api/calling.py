"""How a call of compiled code is read, and the words in which it is refused or fails, whatever the target.

Enters: the arguments of a call, or a status word.  Leaves: flat arrays, or an exception in the user's terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import is_number, lost_meaning
from gradc.containers import leaves_of
from gradc.errors import ArgumentDTypeError, ArgumentShapeError, CompileError, IndexingError
from gradc.graph import Graph
from gradc.node import Node, describe, here
from gradc.ops.control import every_node

#: status word: what the low byte means
STATUS = {
    1: "index out of range",
    2: "integer to a negative integer power; cast the base with .astype(float)",
}


def flat_leaves(graph: Graph, args: Any, kwargs: Any) -> list[Any]:
    """The arrays of a call, which must nest as the graph's arguments do."""
    leaves, structure = leaves_of((args, kwargs))
    if structure != graph.in_tree:
        raise TypeError(
            f"{here()}: {graph.title}: the arguments nest differently from what was compiled: "
            f"{structure}, expected {graph.in_tree}"
        )
    return leaves


def failure(title: str, lowered: Graph, status: int) -> Exception:
    """The exception that a status word stands for: its low byte says what, the rest is a node of the lowered graph."""
    kind, number = status & 0xFF, status >> 8
    node = list(every_node(lowered))[number]
    words = STATUS.get(kind, f"failure {kind}")
    error = IndexingError if kind == 1 else CompileError
    operand = describe(node.args[0]) if node.args else str(node.aval)
    return error(f"{node.where}: {node.op.name} of {operand} in {title}: {words}")


def mismatch(title: str, name: str, node: Node, given: object) -> Exception:
    """The error for an argument that does not fit: what was given, what was expected, what to do."""
    title = f"{here()}: {title}"
    if isinstance(given, Node):
        return ArgumentDTypeError(
            f"{title}: {name} is traced, {describe(given)}, and an executable runs on arrays.\n"
            "  Inside a trace call the function itself, or gc.jit of it, which becomes part of the trace."
        )
    try:
        array = np.asarray(given)
    except Exception:
        return ArgumentDTypeError(f"{title}: {name} is a {type(given).__name__}, expected {node.aval}")
    if lost := lost_meaning(given):
        return ArgumentDTypeError(f"{title}: {name} {lost}")
    if not is_number(array.dtype):
        return ArgumentDTypeError(
            f"{title}: {name} is {given!r:.60} (dtype {array.dtype}), expected an array {node.aval}"
        )
    if array.shape != node.shape:
        return ArgumentShapeError(
            f"{title}: {name} has shape {array.shape}, compiled for {node.shape}; compile for that shape too"
        )
    if array.dtype.newbyteorder("=") == node.dtype:
        return ArgumentDTypeError(f"{title}: {name} is a {type(given).__name__}, not an array; pass np.asarray({name})")
    return ArgumentDTypeError(
        f"{title}: {name} has dtype {array.dtype}, compiled for {node.dtype}; use {name}.astype('{node.dtype}')"
    )
