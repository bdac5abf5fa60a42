"""The gradient by each method, with a bound on its error.

Enters: a `Subject` (in float64 for the witnesses, in the model's dtypes for compiled code) and probes.  Leaves:
`Estimate`s. Invariant: witnesses run on the graph as the user wrote it, unstabilised, on the NumPy interpreter;
`stop_gradient` is held at its value, so a difference quotient does not see through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.diff.finite import Difference
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.oracle.compare import Estimate, Probes, Slope
from gradc.oracle.lines import Lines
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import Subject
from gradc.passes import FORWARD, run_passes

Array = np.ndarray[Any, Any]
CompileGraph = Callable[[Graph], Callable[[Sequence[Any]], Sequence[Any]]]

#: inputs with more elements in all are examined by random directions and sampled elements
MOST_ELEMENTS = 2000
DIRECTIONS, COORDINATES = 8, 16


def probes_for(subject: Subject, seed: int = 0) -> dict[int, Probes]:
    """Probes per wanted input if the inputs are large, else none."""
    sizes = [subject.arrays[i].size for i in subject.wanted]
    if sum(sizes) <= MOST_ELEMENTS:
        return {}
    random = np.random.default_rng(seed)
    return {i: _probes(subject.arrays[i].shape, random) for i in subject.wanted}


def _probes(shape: tuple[int, ...], random: np.random.Generator) -> Probes:
    size = int(np.prod(shape, dtype=np.int64))
    directions = tuple(random.choice([-1.0, 1.0], shape) for _ in range(DIRECTIONS))
    chosen = random.choice(size, min(COORDINATES, size), replace=False) if size else np.zeros(0, int)
    return Probes(directions, tuple(tuple(int(k) for k in np.unravel_index(c, shape)) for c in chosen))


def by_pull_back(subject: Subject, method: str) -> Estimate:
    """The whole gradient by reverse or symbolic mode, evaluated by the interpreter, with its running error."""
    found = _bounds(subject.gradient_graph(method), subject)[len(subject.graph.outputs) :]
    slopes = [Slope(v, e, np.zeros(v.shape, bool)) for v, e in found]
    return Estimate(method, tuple(slopes), tuple(x.dtype for x in subject.leaves))


def forward(subject: Subject, probes: dict[int, Probes]) -> Estimate:
    """One tangent at a time: every element, or the probes."""
    primal, primal_errors = running_errors(subject.graph.outputs, subject.values)
    slopes = []
    for x, i in zip(subject.leaves, subject.wanted, strict=True):
        tangent, moving = subject.tangent_graph(x)
        order = topological([t for _, t in moving])
        fixed = {n: primal[n] for n in order if n in primal}
        fixed_errors = {n: primal_errors[n] for n in fixed}

        def one(
            v: Array, leaf: Node = tangent, moving: Sequence[tuple[Node, Node]] = moving,
            known: dict[Node, Array] = fixed, bounds: dict[Node, Array] = fixed_errors,
        ) -> tuple[float, float]:  # fmt: skip
            values, errors = running_errors([t for _, t in moving], {**known, leaf: v}, bounds)
            return _weighted([(subject.weights[y], values[t], errors[t]) for y, t in moving])

        slopes.append(_along(one, subject.arrays[i].shape, probes.get(i)))
    return Estimate("forward", tuple(slopes), tuple(x.dtype for x in subject.leaves))


def _weighted(parts: Sequence[tuple[Array, Array, Array]]) -> tuple[float, float]:
    """Σ weight · value over all outputs, with its bound."""
    total, bound = 0.0, 0.0
    for w, v, e in parts:
        total += float(np.sum(w * v))
        rounding = np.finfo(np.float64).eps * v.size * float(np.sum(np.abs(w * v))) if v.size > 1 else 0.0
        bound += float(np.sum(np.abs(w) * e)) + rounding
    return total, bound


def _along(one: Callable[[Array], tuple[float, float]], shape: tuple[int, ...], probes: Probes | None) -> Slope:
    if probes is not None:
        found = [one(v) for v in probes.along()]
        value, error = np.array([f[0] for f in found]), np.array([f[1] for f in found])
        return Slope(value, error, np.zeros(value.shape, bool), True)
    value, error = np.zeros(shape), np.zeros(shape)
    for index in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[index] = 1.0
        value[index], error[index] = one(unit)
    return Slope(value, error, np.zeros(shape, bool))


def finite(subject: Subject, probes: dict[int, Probes]) -> Estimate:
    """Richardson differences of the interpreted function, with their own error estimate."""
    slopes = []
    for i in subject.wanted:
        shape, chosen = subject.arrays[i].shape, probes.get(i)
        vectors = [_unit(shape, k) for k in np.ndindex(shape)] if chosen is None else chosen.along()
        found = Lines(subject, [i]).differences([{i: v} for v in vectors])
        slopes.append(_gathered(found, shape if chosen is None else None))
    return Estimate("finite", tuple(slopes), tuple(np.dtype(np.float64) for _ in subject.wanted))


def _unit(shape: tuple[int, ...], place: tuple[int, ...]) -> Array:
    unit = np.zeros(shape)
    unit[place] = 1.0
    return unit


def _gathered(found: Sequence[Difference], shape: tuple[int, ...] | None = None) -> Slope:
    value, error, jump = (np.array([float(getattr(d, k)) for d in found]) for k in ("value", "error", "jump"))
    to = (len(found),) if shape is None else shape
    return Slope(value.reshape(to), error.reshape(to), (jump != 0).reshape(to), shape is None, True)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of compiled code: its gradient, and the function's own float values beside the interpreter's."""

    gradient: Estimate
    values: Estimate
    interpreted: Estimate
    outputs: tuple[Node, ...]


def compiled(subject: Subject, compile_graph: CompileGraph) -> Run:
    """Value and gradient by compiled code in the model's dtypes.

    The bounds are what rounding in those dtypes can do, in the graph that was compiled and in the one that was written.
    """
    graph = compiled_subject(subject)
    results = compile_graph(graph)(list(subject.arrays))
    written = subject.gradient_graph("reverse")
    bounds = [_bounds(g, subject) for g in (graph, written)]
    slopes = [
        Slope(np.asarray(got), np.maximum(e, f), np.zeros(np.shape(got), bool))
        for got, (_, e), (_, f) in zip(results, *bounds, strict=True)
    ]
    known = [Slope(v, np.zeros(v.shape), np.zeros(v.shape, bool)) for v, _ in bounds[1]]
    count = len(subject.graph.outputs)
    floats = [k for k, y in enumerate(subject.graph.outputs) if y.aval.is_float]
    outputs = tuple(subject.graph.outputs[k] for k in floats)
    kinds = tuple(y.dtype for y in outputs)
    return Run(
        Estimate("compiled", tuple(slopes[count:]), tuple(x.dtype for x in subject.leaves)),
        Estimate("compiled", tuple(slopes[k] for k in floats), kinds),
        Estimate("interpreter", tuple(known[k] for k in floats), kinds),
        outputs,
    )


def _bounds(graph: Graph, subject: Subject) -> list[tuple[Array, Array]]:
    values, errors = running_errors(graph.outputs, dict(zip(graph.inputs, subject.arrays, strict=True)))
    return [(values[y], errors[y]) for y in graph.outputs]


def compiled_subject(subject: Subject) -> Graph:
    """Value and gradient as `gradc.jit` would see them: stabilised, then differentiated in reverse."""
    graph = run_passes(subject.graph, FORWARD)
    weights = {y: subject.weights[old] for y, old in zip(graph.outputs, subject.graph.outputs, strict=True)
               if old in subject.weights}  # fmt: skip
    return Subject(graph, subject.arrays, subject.wanted, weights).gradient_graph("reverse")
