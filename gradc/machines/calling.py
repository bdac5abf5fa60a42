"""How a call of compiled code is read, and the words in which it is refused or fails, whatever the target.

Enters: the arguments of a call, or a status word.  Leaves: flat arrays, or an exception in the user's terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.aval import is_number, lost_meaning
from gradc.codegen.status import (
    IS_INFINITE,
    IS_NAN,
    IS_SUBNORMAL,
    NEGATIVE_POWER,
    NO_CONVERGENCE,
    NOT_POSITIVE,
    OUT_OF_BOUNDS,
    OUT_OF_RANGE,
    SINGULAR,
    element_of,
    kind_of,
    number_of,
)
from gradc.containers import flatten, leaves_of, path_text
from gradc.errors import (
    ArgumentDTypeError,
    ArgumentShapeError,
    CompileError,
    IndexingError,
    LinAlgError,
    NumericalError,
    StorageError,
)
from gradc.graph import Graph
from gradc.interpret import failing
from gradc.node import Node, describe, here
from gradc.ops.control import every_body, every_node
from gradc.runtime.arrays import ArraySpec

if TYPE_CHECKING:
    from gradc.machines.stages import Stages

#: what the kinds of a status word mean
STATUS = {
    OUT_OF_RANGE: "index out of range",
    NEGATIVE_POWER: "integer to a negative integer power; cast the base with .astype(float)",
}
#: and those of a matrix: what it is
MATRICES = {
    NOT_POSITIVE: "not positive definite; add a multiple of the identity, or ask for NaN with check=False",
    SINGULAR: "singular; use lstsq or pinv, add a multiple of the identity, or ask for NaN with check=False",
    NO_CONVERGENCE: "not finite, so that no iteration on it converges; ask for NaN with check=False",
}

#: and those of a result: what it holds
HELD = {IS_NAN: "NaN", IS_INFINITE: "an infinity", IS_SUBNORMAL: "a subnormal number"}
#: of stages, a status word, and a function that copies the arguments of the call: the exception
Examine = Callable[["Stages", int, Callable[[], list[Any]]], Exception]


def flat_leaves(graph: Graph, args: Any, kwargs: Any) -> list[Any]:
    """The arrays of a call, which must nest as the graph's arguments do."""
    leaves, structure = leaves_of((args, kwargs))
    if structure != graph.in_tree:
        raise TypeError(
            f"{here()}: {graph.title}: the arguments nest differently from what was compiled: "
            f"{structure}, expected {graph.in_tree}"
        )
    return leaves


def array_specs(graph: Graph) -> tuple[list[ArraySpec], list[ArraySpec]]:
    """What a function of ``graph`` takes, by the user's names, and what it returns."""
    names = [graph.names.get(x, f"argument {i}") for i, x in enumerate(graph.inputs)]
    inputs = [ArraySpec(x.shape, x.dtype, name) for x, name in zip(graph.inputs, names, strict=True)]
    return inputs, [ArraySpec(y.shape, y.dtype, f"output {j}") for j, y in enumerate(graph.outputs)]


# -- errors: of the graph and the stages, for what raises them must not hold the function ------------------------------
def failure(stages: Stages, status: int) -> Exception:
    """The exception that a status word stands for: its low byte says what, the rest is a node of the lowered graph (or
    of the schedule a kernel, whose access was out of bounds).
    """
    title, kind, number = stages.source.title, kind_of(status), number_of(status)
    if kind == OUT_OF_BOUNDS:
        kernel, lines = stages.schedule.kernels[number], stages.lines
        where = next((w for n in reversed(kernel.nodes) if (w := lines[n]) is not None), here())
        what = f"kernel {number} ({kernel.title}) touches memory outside of its buffers"
        return CompileError(f"{where}: {title}: {what}; the access was not made")
    node = list(every_node(stages.lowered))[number]
    if kind in MATRICES:
        names = {n: name for body in every_body(stages.lowered) for n, name in body.names.items()}
        return LinAlgError(f"{node.where}: {failing(node, names)} in {title}: {_matrix(node, status)}")
    words = STATUS.get(kind, f"failure {kind}")
    error = IndexingError if kind == OUT_OF_RANGE else CompileError
    operand = describe(node.args[0]) if node.args else str(node.aval)
    return error(f"{node.where}: {node.op.name} of {operand} in {title}: {words}")


def unexamined(stages: Stages, status: int, arguments: Callable[[], list[Any]]) -> Exception:
    """The exception for a result that holds what `Options.watch` asks for, where nobody looks for its origin."""
    graph = stages.source
    name, held = result_name(graph, number_of(status)), HELD[kind_of(status)]
    return NumericalError(f"{here()}: {graph.title}: {name} holds {held}")


def result_name(graph: Graph, j: int) -> str:
    """Result ``j`` by the user's name, or by its place in what the function returns."""
    name = graph.names.get(graph.outputs[j])
    if graph.out_tree is None or graph.out_tree.is_leaf:
        return name or "the result"
    _, paths, _ = flatten(graph.out_tree.unflatten(range(len(graph.outputs))))
    place = f"result{path_text(paths[j])}"
    return f"{name} ({place})" if name else place


def _matrix(node: Node, status: int) -> str:
    """Which matrix of a stack a status is of, and what that matrix is."""
    lead, number = node.args[0].shape[:-2], element_of(status)
    index = "" if number is None else f" [{', '.join(str(k) for k in np.unravel_index(number, lead))}]"
    which = f"matrix{index} of the stack" if lead else "the matrix"
    return f"{which} is {MATRICES[kind_of(status)]}"


def refusal(graph: Graph, words: str) -> Exception:
    """The error for a donated or ``out`` array whose memory cannot be written in place."""
    return StorageError(f"{here()}: {graph.title}: {words}")


def mismatch(graph: Graph, i: int, given: object) -> Exception:
    """The error for argument ``i`` that does not fit: what was given, what was expected, what to do."""
    node = graph.inputs[i]
    title, name = f"{here()}: {graph.title}", graph.names.get(node, f"argument {i}")
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
