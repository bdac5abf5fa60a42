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

from gradc.aval import Aval
from gradc.diff.batching import batch
from gradc.diff.finite import Difference
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.oracle.compare import Estimate, Probes, Slope
from gradc.oracle.lines import MOST_LANES, Lines
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import Subject
from gradc.passes import FORWARD, run_passes
from gradc.trace import new_input

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


class Pulled:
    """Outputs and gradient of a subject with their bounds, by reverse or symbolic mode: each found once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], list[tuple[Array, Array]]] = {}

    def __call__(self, subject: Subject, method: str) -> list[tuple[Array, Array]]:
        key = id(subject), method
        if key not in self._found:
            self._found[key] = _bounds(subject.gradient_graph(method), subject)
        return self._found[key]


def by_pull_back(subject: Subject, method: str, pulled: Pulled) -> Estimate:
    """The whole gradient by reverse or symbolic mode, evaluated by the interpreter, with its running error."""
    found = pulled(subject, method)[len(subject.graph.outputs) :]
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
        weighted = [(subject.weights[y], t) for y, t in moving]
        shape, chosen = subject.arrays[i].shape, probes.get(i)
        vectors = [_unit(shape, k) for k in np.ndindex(shape)] if chosen is None else chosen.along()
        value, error = np.zeros(len(vectors)), np.zeros(len(vectors))
        lanes = max(1, MOST_LANES // max(1, subject.arrays[i].size))
        for start in range(0, len(vectors), lanes):
            some = np.stack(vectors[start : start + lanes])
            place = slice(start, start + len(some))
            value[place], error[place] = _pushed(weighted, tangent, some, fixed, fixed_errors)
        to = shape if chosen is None else (len(vectors),)
        slopes.append(Slope(value.reshape(to), error.reshape(to), np.zeros(to, bool), chosen is not None))
    return Estimate("forward", tuple(slopes), tuple(x.dtype for x in subject.leaves))


def _pushed(
    weighted: Sequence[tuple[Array, Node]],
    tangent: Node,
    directions: Array,
    known: dict[Node, Array],
    bounds: dict[Node, Array],
) -> tuple[Array, Array]:
    """Σ weight · tangent for each direction, all taken together as lanes of one evaluation, with bounds."""
    count = len(directions)
    wide = new_input(Aval(directions.shape, tangent.dtype), "lanes")
    batched = batch([t for _, t in weighted], {tangent: wide}, count)
    values, errors = running_errors([t for t, _ in batched], {**known, wide: directions}, bounds)
    total, bound = np.zeros(count), np.zeros(count)
    for (w, _), (t, has) in zip(weighted, batched, strict=True):
        v, e = (np.broadcast_to(a[t] if has else a[t][None], (count, *w.shape)) for a in (values, errors))
        terms = (w * v).reshape(count, -1)
        total += terms.sum(axis=1)
        rounding = np.finfo(np.float64).eps * w.size * np.abs(terms).sum(axis=1) if w.size > 1 else 0.0
        bound += (np.abs(w) * e).reshape(count, -1).sum(axis=1) + rounding
    return total, bound


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


def compiled(subject: Subject, compile_graph: CompileGraph, pulled: Pulled) -> Run:
    """Value and gradient by compiled code in the model's dtypes.

    The bounds are what rounding in those dtypes can do, in the graph that was compiled and in the one that was written.
    """
    graph = compiled_subject(subject)
    results = compile_graph(graph)(list(subject.arrays))
    bounds = [_bounds(graph, subject), pulled(subject, "reverse")]
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
