"""The structured Jacobian as one more derivation of the gradient, and the structured Hessian of the next.

Enters: a `Subject`.  Leaves: an `Estimate`: the whole Jacobian, by rules for structure that no other method uses,
contracted with the weights of the outputs; and the subject whose gradient is a Hessian times a vector.
Invariant: a Jacobian is written out only where it has at most `MOST_ENTRIES`, takes at most `MOST_WORK` to derive and
at most `MOST_ELEMENTS` to evaluate, and no loop makes it dense; where not, the report says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.diff.structured import jacobian_blocks
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.oracle.bounds import Bounded, bounded, loops
from gradc.oracle.compare import Estimate, Slope
from gradc.oracle.witness import Subject, after
from gradc.passes import LINEAR, SMOOTH, run_passes

Array = np.ndarray[Any, Any]

#: elements of a Jacobian that is written out whole
MOST_ENTRIES = 1 << 14

#: operations of the graph times columns of the Jacobian
MOST_WORK = 1 << 15

#: elements of all arrays that are evaluated on the way to a Jacobian, or to its columns one by one
MOST_ELEMENTS = 1 << 23


class DenseError(Exception):
    """The Jacobian has more entries than are written out, takes too much to evaluate, or has no structure."""


def by_jacobian(subject: Subject) -> Estimate:
    """Σ weight · Jacobian over the float outputs, for each wanted input."""
    repeats = Counter(y for y in subject.graph.outputs if y in subject.weights)
    outputs = tuple(repeats)
    if any(loops(y) for y in subject.graph.nodes):
        raise DenseError("a loop has no structure to use: its Jacobian is the columns of forward mode")
    entries = sum(y.size for y in outputs) * sum(x.size for x in subject.leaves)
    if entries > MOST_ENTRIES:
        raise DenseError(f"the Jacobian has {entries} entries, more than the {MOST_ENTRIES} that are written out")
    columns = sum(x.size for x in subject.leaves)
    work = len(subject.graph.nodes) * columns
    if work > MOST_WORK:
        raise DenseError(f"{len(subject.graph.nodes)} operations times {columns} columns are more than {MOST_WORK}")
    graph = subject.graph.replace(outputs=outputs, in_tree=None, out_tree=None)
    blocks = jacobian_blocks(graph, subject.leaves, _simplified, lanes=True)
    wanted = [b for row in blocks for b in row if b is not None]
    _refuse_dear("the Jacobian", sum(n.size for n in topological(wanted, subject.values)))
    found = bounded(wanted, subject.values)
    weights = [n * subject.weights[y] for y, n in repeats.items()]
    slopes = [_slope(x, weights, [row[k] for row in blocks], found) for k, x in enumerate(subject.leaves)]
    return Estimate("jacobian", tuple(slopes), tuple(x.dtype for x in subject.leaves))


def refuse_dear_columns(subject: Subject) -> None:
    """DenseError where forward mode, which moves one element of the inputs at a time, evaluates too many elements."""
    columns = sum(x.size for x in subject.leaves)
    _refuse_dear("forward mode in all directions", columns * sum(n.size for n in subject.graph.nodes))


def _refuse_dear(what: str, elements: int) -> None:
    if elements > MOST_ELEMENTS:
        raise DenseError(f"{what} evaluates arrays of {elements:,} elements in all, more than {MOST_ELEMENTS:,}")


def _simplified(graph: Graph) -> Graph:
    return run_passes(graph, LINEAR)


def _slope(
    x: Node,
    weights: Sequence[Array],
    blocks: Sequence[Node | None],
    found: Bounded,
) -> Slope:
    value, error = np.zeros(x.shape), np.zeros(x.shape)
    for w, block in zip(weights, blocks, strict=True):
        if block is not None:
            terms = np.tensordot(np.abs(w), np.abs(found.values[block]), w.ndim)
            value += np.tensordot(w, found.values[block], w.ndim)
            error += np.tensordot(np.abs(w), found.errors[block], w.ndim)
            error += np.finfo(np.float64).eps * w.size * terms if w.size > 1 else 0.0
    return Slope(value, np.where(np.isnan(error), np.inf, error), np.zeros(x.shape, bool), sampled=found.sampled)


def curvature(subject: Subject, seed: int = 2) -> Subject | None:
    """The subject whose outputs are the gradient and whose gradient is the Hessian times a random vector.

    The gradient is that of the stabilised function, as for whoever takes a second derivative: at a kink of operations
    of which the function has none, the two differ.  None where the gradient is constant.
    """
    random = np.random.default_rng(seed)
    graph = after(subject, SMOOTH).gradient_graph("reverse")
    gradients = tuple(dict.fromkeys(graph.outputs[len(subject.graph.outputs) :]))
    gradients = tuple(g for g in gradients if g.aval.is_float and g.args)
    if not gradients:
        return None
    weights = {g: random.choice([-1.0, -0.5, 0.5, 1.0], g.shape) for g in gradients}
    return replace(subject, graph=graph.replace(outputs=gradients), weights=weights)
