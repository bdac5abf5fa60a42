"""The witnesses of one gradient: the same function in float64, and its derivative by each method.

Enters: the graph of the user's function.  Leaves: the same graph with every float32 node in float64, a scalar to
differentiate, and for each method a gradient graph.
Invariant: widening changes dtypes only; node k of the widened graph is node k of the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradc.diff.modes import pull_back, push_forward
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.widen import widen, widen_array
from gradc.errors import DTypeError
from gradc.graph import Graph
from gradc.node import Node, constant, here
from gradc.ops.implicit import LinearRule
from gradc.ops.leaves import full
from gradc.oracle.polish import polished
from gradc.oracle.walk import Walk
from gradc.passes import Pass, looked_into, run_passes
from gradc.trace import new_input

Array = np.ndarray[Any, Any]

#: a function whose value is smaller may be 0
NOISE = 2.0**-40


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: a graph, the values of its inputs, the float inputs, and one cotangent per float output.

    A scalar function is its own gradient's subject; anything else is paired with fixed random cotangents. With
    ``solved`` the solutions of equations are meant, and not what a search finds within its tolerance.
    """

    graph: Graph
    arrays: tuple[Array, ...]
    wanted: tuple[int, ...]
    weights: Mapping[Node, Array]
    solved: bool = False

    @property
    def leaves(self) -> list[Node]:
        return [self.graph.inputs[i] for i in self.wanted]

    @property
    def values(self) -> dict[Node, Array]:
        return dict(zip(self.graph.inputs, self.arrays, strict=True))

    def total(self, outputs: Sequence[Array]) -> float:
        """The scalar that is differentiated: Σ weight · output."""
        pairs = zip(self.graph.outputs, outputs, strict=True)
        return float(sum(np.sum(self.weights[node] * y) for node, y in pairs if node in self.weights))

    def size(self) -> float:
        """Σ |weight · output|; 1 where that is 0 up to rounding, or not finite: then nothing says how large it is."""
        values = zip(self.graph.outputs, Walk()(self.graph.outputs, self.values), strict=True)
        total = float(sum(np.sum(np.abs(self.weights[n] * y)) for n, y in values if n in self.weights))
        return total if NOISE < total < np.inf else 1.0

    def widened(self) -> Subject:
        """The same subject in float64; itself if it is that."""
        graph = widen(self.graph)
        if graph is self.graph:
            return self
        arrays = tuple(widen_array(a) for a in self.arrays)
        return replace(self.over(graph), arrays=arrays)

    def witness(self) -> Subject:
        """The same subject in float64, with solutions of equations to rounding."""
        wide = self.widened()
        return replace(wide.over(polished(wide.graph)), solved=True)

    def over(self, graph: Graph) -> Subject:
        """The subject of a graph whose results are those of the graph at hand, one by one."""
        partner = dict(zip(self.graph.outputs, graph.outputs, strict=True))
        weights = {partner[y]: w.astype(partner[y].dtype) for y, w in self.weights.items()}
        return replace(self, graph=graph, weights=weights)

    def gradient_graph(self, method: str) -> Graph:
        """Outputs, then the gradient of each wanted input, by ``"reverse"`` or ``"symbolic"``."""
        cotangents = [constant(self.weights[n]) if n in self.weights else None for n in self.graph.outputs]
        pull = pull_back if method == "reverse" else symbolic_pull_back
        pulled = pull(self.graph.outputs, self.leaves, cotangents)
        gradients = [full(x.shape, 0, x.dtype) if g is None else g for x, g in zip(self.leaves, pulled, strict=True)]
        graph = self.graph.replace(outputs=(*self.graph.outputs, *gradients), in_tree=None, out_tree=None)
        return polished(graph, (LinearRule,)) if self.solved else graph

    def tangent_graph(self, inputs: Sequence[Node]) -> tuple[list[Node], list[tuple[Node, Node]]]:
        """Tangent leaves for ``inputs``, and (output, its tangent) for the outputs that move with them."""
        tangents = [new_input(x.aval, "tangent") for x in inputs]
        pushed = push_forward(self.graph.outputs, inputs, tangents)
        if self.solved:
            moving = [k for k, t in enumerate(pushed) if t is not None]
            outputs = tuple(t for t in pushed if t is not None)
            whole = Graph((*self.graph.inputs, *tangents), outputs, {})
            for k, t in zip(moving, polished(whole, (LinearRule,)).outputs, strict=True):
                pushed[k] = t
        pairs = zip(self.graph.outputs, pushed, strict=True)
        return tangents, [(y, t) for y, t in pairs if t is not None and y in self.weights]


def subject_of(graph: Graph, arrays: Sequence[Any], seed: int = 0) -> Subject:
    """The subject for a traced function at a point; raises DTypeError where there is nothing to differentiate."""
    graph = looked_into(graph)
    wanted = tuple(i for i, x in enumerate(graph.inputs) if x.aval.is_float)
    if not wanted or not any(y.aval.is_float for y in graph.outputs):
        given = ", ".join(f"{graph.name(x)}: {x.aval}" for x in graph.inputs)
        raise DTypeError(
            f"{here()}: {graph.title}({given}) has nothing to differentiate: no float input, or no float output"
        )
    random = np.random.default_rng(seed)
    weights = {y: _weight(y, len(graph.outputs), random) for y in graph.outputs if y.aval.is_float}
    point = tuple(np.asarray(a, x.dtype) for a, x in zip(arrays, graph.inputs, strict=True))
    return Subject(graph, point, wanted, weights)


def after(subject: Subject, passes: Sequence[Pass]) -> Subject:
    """``subject`` after some passes; results that are one node after them count once each."""
    graph = run_passes(subject.graph, passes)
    shared: dict[Node, list[Array]] = {}
    for y, old in zip(graph.outputs, subject.graph.outputs, strict=True):
        if old in subject.weights:
            shared.setdefault(y, []).append(subject.weights[old])
    weights = {y: np.mean(each, axis=0) for y, each in shared.items()}
    return replace(subject, graph=graph, weights=weights)


def _weight(y: Node, outputs: int, random: np.random.Generator) -> Array:
    """1 for a scalar function; otherwise numbers from {±½, ±1, ±1½, ±2}, exact in every dtype."""
    if outputs == 1 and y.shape == ():
        return np.ones((), y.dtype)
    return np.asarray(random.choice([-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0], y.shape), y.dtype)
