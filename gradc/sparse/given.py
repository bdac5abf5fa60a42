"""Patterns that the user gives, and whether they are the function's.

Enters: a pattern in any of the forms that `given_pattern` takes.  Leaves: a `Pattern`; ValueError if the function has
an entry that is not in it, by its place.  Start reading at `probe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, finfo
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.sparsity import Pattern
from gradc.graph import Graph
from gradc.interpret import interpret
from gradc.node import Node, here
from gradc.sparse.shown import SparsityPattern
from gradc.trace import new_input

Array = np.ndarray[Any, Any]


def given_pattern(given: Any, shape: tuple[int, int], whose: str) -> Pattern:
    """The pattern that ``given`` is: a sparse matrix, a mask, or a pattern; each stored or true element is an entry.

    ValueError if it is for a matrix of another shape, TypeError for what is no pattern.
    """
    if isinstance(given, SparsityPattern):
        found = given.pattern
    elif hasattr(given, "tocoo"):
        matrix = given.tocoo()
        found = Pattern.of_entries(matrix.row, matrix.col, tuple(matrix.shape))
    else:
        try:
            mask = np.asarray(given) != 0
        except (TypeError, ValueError):
            mask = np.zeros(())
        if mask.ndim != 2 or mask.dtype != bool:
            raise TypeError(
                f"{here()}: {whose}: pattern={given!r:.60}: expected a scipy.sparse matrix, a mask of two axes, or the "
                ".pattern of a sparse derivative"
            )
        rows, columns = np.nonzero(mask)
        found = Pattern.of_entries(rows, columns, (mask.shape[0], mask.shape[1]))
    if found.shape != shape:
        raise ValueError(f"{here()}: {whose}: pattern= is for a matrix of {found.shape}, the derivative is {shape}")
    return found


def probe(graph: Graph, x: Node, entries: Array, pattern: Pattern, leaves: Sequence[Any], whose: str) -> None:
    """Hold the matrix of ``entries`` against the function along one random direction.

    An entry that is missing in the pattern changes the product of its row, and of rows that share its colour.  What is
    reported is larger than √ε times the size of what is summed in its row, so rounding is not, nor is an entry that
    small.  Rows in which the function is not differentiable (infinite or NaN) tell nothing.
    """
    m, n = pattern.shape
    if not m or not n:
        return
    random = np.random.default_rng(0)
    direction = random.choice([-1.0, 1.0], n) * random.uniform(0.5, 1.5, n)
    exact = _pushed(graph, x, leaves, direction)
    weights = np.asarray(entries, np.float64) * direction[pattern.columns]
    found = np.bincount(pattern.rows, weights, minlength=m)
    size = np.bincount(pattern.rows, np.abs(weights), minlength=m) + np.abs(exact)
    with np.errstate(invalid="ignore"):
        wrong = np.abs(found - exact) - np.sqrt(float(finfo(x.dtype).eps)) * size
    wrong = np.where(np.isfinite(wrong), wrong, 0)
    if wrong.max() <= 0:
        return
    row = int(wrong.argmax())
    true = _pulled(graph, x, leaves, row)
    missing = np.abs(np.where(np.isfinite(true), true, 0))
    missing[pattern.columns[pattern.ends[row] : pattern.ends[row + 1]]] = 0
    column = int(missing.argmax())
    place = (
        f"({row}, {column}), where the derivative is {true[column]:.6g}" if missing[column] else f"some of row {row}"
    )
    raise ValueError(
        f"{here()}: {whose}: pattern= has no entry at {place}.\n"
        "  Add it, or leave pattern= out: the pattern is then derived from the function."
    )


def _pushed(graph: Graph, x: Node, leaves: Sequence[Any], direction: Array) -> Array:
    tangent = new_input(Aval(x.shape, x.dtype), "tangent")
    (pushed,) = push_forward(graph.outputs, [x], [tangent])
    return _value(graph, pushed, leaves, tangent, direction, graph.outputs[0])


def _pulled(graph: Graph, x: Node, leaves: Sequence[Any], row: int) -> Array:
    (y,) = graph.outputs
    cotangent = new_input(Aval(y.shape, y.dtype), "cotangent")
    (pulled,) = pull_back([y], [x], [cotangent])
    return _value(graph, pulled, leaves, cotangent, np.eye(1, y.size, row)[0], x)


def _value(graph: Graph, linear: Node | None, leaves: Sequence[Any], leaf: Node, along: Array, like: Node) -> Array:
    """What ``linear`` is where ``leaf`` is ``along``, flat and in float64."""
    if linear is None:
        return np.zeros(like.size)
    known: dict[Node, Any] = {
        node: np.asarray(value, node.dtype) for node, value in zip(graph.inputs, leaves, strict=True)
    }
    known[leaf] = along.reshape(leaf.shape).astype(leaf.dtype)
    return np.asarray(interpret([linear], known)[0], np.float64).reshape(-1)
