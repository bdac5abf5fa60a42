"""The oracle: nodes to NumPy values, one node at a time, by the reference meaning in each op's record.

Enters: nodes and values of the leaves.  Leaves: NumPy arrays.  Invariant: no rule, no rewrite and no compiler stage is
involved, only `Op.numpy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Results, converted
from gradc.errors import IndexingError, LinAlgError, TraceError
from gradc.node import Node, describe

Observer = Callable[[Node, Any], None]
_NOBODY: Mapping[Node, str] = {}


def topological(outputs: Iterable[Node], stop: Mapping[Node, Any] | None = None) -> list[Node]:
    """All nodes that the outputs depend on, operands first, in a deterministic order; nodes in ``stop`` are not
    entered.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    leaves: Mapping[Node, Any] = {} if stop is None else stop
    for root in outputs:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(() if root in leaves else root.args))]
        while stack:
            node, operands = stack[-1]
            for child in operands:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(() if child in leaves else child.args)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def computed_from(
    start: Iterable[Node], order: Iterable[Node], through: Callable[[Node], bool] | None = None
) -> set[Node]:
    """``start``, and the nodes of ``order``, a topological one, that read one of these or of those before them.

    ``through`` says which nodes count. Bodies are not looked into, see `gradc.diff.dependence.dependents`.
    """
    found = set(start)
    for node in order:
        if any(a in found for a in node.args) and (through is None or through(node)):
            found.add(node)
    return found


def interpret(
    outputs: Sequence[Node],
    values: MutableMapping[Node, Any],
    observe: Observer | None = None,
    names: Mapping[Node, str] = _NOBODY,
) -> list[np.ndarray[Any, Any]]:
    """Evaluate ``outputs``; ``values`` holds the leaves, receives every node's value, and may hold inner nodes
    already.  ``names`` are the user's, for errors.
    """
    for node in topological(outputs, values):
        if node not in values:
            if node.op.name == "input":
                raise TraceError(
                    f"leaked traced value: {describe(node)} belongs to a trace that is over.\n"
                    "  A traced array was stored outside its function (a global, a list, self.x); return it instead."
                )
            values[node] = _value(node, values, names)
        if observe is not None:
            observe(node, values[node])
    return [values[node] for node in outputs]


def evaluator(
    inputs: Sequence[Node], outputs: Sequence[Node], names: Mapping[Node, str] = _NOBODY
) -> Callable[[Sequence[Any]], list[Any]]:
    """``outputs`` as a function of values of ``inputs``, ordered once and called often: the body of a loop."""
    leaves = dict.fromkeys(inputs)
    order = [node for node in topological(outputs, leaves) if node not in leaves]

    def evaluate(arrays: Sequence[Any]) -> list[Any]:
        values: dict[Node, Any] = dict(zip(inputs, arrays, strict=True))
        for node in order:
            values[node] = _value(node, values, names)
        return [values[node] for node in outputs]

    return evaluate


def _value(node: Node, values: Mapping[Node, Any], names: Mapping[Node, str]) -> Any:
    """The node's value from those of its operands, as its aval promises."""
    value = _evaluated(node, [values[a] for a in node.args], names)
    if isinstance(node.aval, Results):
        return tuple(_fit(node, part, v) for part, v in zip(node.aval.parts, value, strict=True))
    return _fit(node, node.aval, value)


def _evaluated(node: Node, operands: Sequence[Any], names: Mapping[Node, str]) -> Any:
    """The node's value; what NumPy refuses is told with the user's line."""
    try:
        return node.op.evaluate(*operands, **node.attrs)
    except (IndexingError, LinAlgError):  # told already, by a node inside a body
        raise
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"{node.where}: {failing(node, names)}: {error}") from None
    except IndexError as error:
        raise IndexingError(f"{node.where}: {node.op.name} of {describe(node.args[0])}: {error}") from None
    except ValueError as error:
        error.add_note(f"{node.where}: in {node.op.name} ({node.aval})")
        raise


def failing(node: Node, names: Mapping[Node, str]) -> str:
    """The op that fails of its first operand, and that operand: by the user's name, if it is a view of something with
    one, or a factor that a system is solved with.
    """
    operand, solves = node.args[0], False
    while operand not in names and operand.args:
        factor = isinstance(operand.args[0].aval, Results)
        if not (factor or isinstance(operand.aval, Results) or operand.op.permutes or operand.op.converts):
            break
        operand, solves = operand.args[0], solves or factor
    name = names.get(operand)
    what = f"traced array {name!r} ({operand.aval})" if name else describe(operand)
    return f"{'solve' if solves else node.op.title or node.op.name} of {what}"


def _fit(node: Node, aval: Aval, value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype != aval.dtype:
        array = converted(array, aval.dtype)
    if array.shape != aval.shape:
        raise AssertionError(f"op {node.op.name}: shape rule says {aval.shape}, NumPy meaning gives {array.shape}")
    return array
