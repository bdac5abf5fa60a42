"""The gradient by each method, with a bound on its error.

Enters: a `Subject` (in float64 for the witnesses, in the model's dtypes for compiled code) and probes.  Leaves:
`Estimate`s. Invariant: witnesses run on the graph as the user wrote it, unstabilised, on the NumPy interpreter;
`stop_gradient` is held at its value, so a difference quotient does not see through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.diff.batching import batch
from gradc.diff.finite import Difference
from gradc.diff.symbolic.written_out import TooLongError
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import Loop, bodies
from gradc.ops.implicit import implicit_rule_of
from gradc.ops.record import Kind
from gradc.oracle.bounds import bounded, is_long
from gradc.oracle.compare import Estimate, Probes, Slope
from gradc.oracle.lines import MOST_LANES, Lines
from gradc.oracle.polish import searches
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import Subject, after
from gradc.passes import FORWARD
from gradc.trace import new_input

Array = np.ndarray[Any, Any]
CompileGraph = Callable[[Graph], Callable[[Sequence[Any]], Sequence[Any]]]

#: inputs with more elements in all are examined by random directions and sampled elements
MOST_ELEMENTS = 2000
DIRECTIONS, COORDINATES = 8, 16
#: steps that a loop with a condition may take, all of which symbolic mode goes through
MOST_STEPS = 1_000
#: of two runs of one search, how far one may end from the solution, in distances of the other
UNDONE = 4.0


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
        self._found: dict[tuple[int, str], list[Slope]] = {}

    def __call__(self, subject: Subject, method: str) -> list[Slope]:
        key = id(subject), method
        if key not in self._found:
            self._found[key] = _bounds(subject.gradient_graph(method), subject)
        return self._found[key]


def symbolic(subject: Subject, pulled: Pulled) -> Estimate:
    """The whole gradient by symbolic mode; TooLongError for loops that may take far more steps than are looked at."""
    for node, steps in _most_steps(subject.graph):
        if steps > MOST_STEPS:
            raise TooLongError(f"{node.where}: it goes through all {steps:,} steps that loops may take there")
    return by_pull_back(subject, "symbolic", pulled)


def _most_steps(graph: Graph, around: int = 1) -> Iterator[tuple[Node, int]]:
    """Loops with a condition, and how many steps they may take in all, inside ``around`` steps of loops."""
    for node in graph.nodes:
        steps = around
        if node.op.kind is Kind.LOOP and (loop := Loop.of(node)).length is not None:
            steps *= loop.length
            if loop.cond is not None:
                yield node, steps
        if implicit_rule_of(node) is None:  # nobody looks into a search
            for body in bodies(node).values():
                yield from _most_steps(body, steps)


def by_pull_back(subject: Subject, method: str, pulled: Pulled) -> Estimate:
    """The whole gradient by reverse or symbolic mode, evaluated by the interpreter, with its running error."""
    slopes = pulled(subject, method)[len(subject.graph.outputs) :]
    return Estimate(method, tuple(slopes), tuple(x.dtype for x in subject.leaves))


def forward(subject: Subject, probes: dict[int, Probes]) -> Estimate:
    """One tangent at a time: every element, or the probes.

    Tangents are lanes of one evaluation; of all inputs together where there are loops, which are walked once for all.
    """
    long = is_long(subject.graph.outputs, subject.values)
    known: dict[Node, Array] = dict(subject.values)
    bounds: dict[Node, Array] = {}
    if not long:  # the function's own values are the same for all tangents
        known, bounds = running_errors(subject.graph.outputs, subject.values)
    groups = [subject.wanted] if long else [(i,) for i in subject.wanted]
    slopes = [s for group in groups for s in _forward(subject, group, probes, known, bounds)]
    return Estimate("forward", tuple(slopes), tuple(x.dtype for x in subject.leaves))


def _forward(
    subject: Subject,
    group: Sequence[int],
    probes: dict[int, Probes],
    known: dict[Node, Array],
    bounds: dict[Node, Array],
) -> list[Slope]:
    """The derivative with respect to each input of ``group``."""
    tangents, moving = subject.tangent_graph([subject.graph.inputs[i] for i in group])
    order = topological([t for _, t in moving])
    fixed = {n: known[n] for n in order if n in known}
    fixed_errors = {n: bounds[n] for n in fixed if n in bounds}
    weighted = [(subject.weights[y], t) for y, t in moving]
    shapes = [subject.arrays[i].shape for i in group]
    vectors = [directions(s, probes.get(i)) for i, s in zip(group, shapes, strict=True)]
    ends = np.cumsum([len(v) for v in vectors])
    value, error, sampled = np.zeros(ends[-1]), np.zeros(ends[-1]), False
    lanes = max(1, MOST_LANES // max(1, sum(subject.arrays[i].size for i in group)))
    for start in range(0, len(value), lanes):
        place = slice(start, min(start + lanes, len(value)))
        some = [_rows(v, place, int(end) - len(v), s) for v, end, s in zip(vectors, ends, shapes, strict=True)]
        value[place], error[place], rough = _pushed(weighted, tangents, some, fixed, fixed_errors)
        sampled |= rough
    slopes = []
    for i, s, v, e in zip(group, shapes, np.split(value, ends[:-1]), np.split(error, ends[:-1]), strict=True):
        to = s if i not in probes else v.shape
        slopes.append(Slope(v.reshape(to), e.reshape(to), np.zeros(to, bool), i in probes, sampled=sampled))
    return slopes


def directions(shape: tuple[int, ...], chosen: Probes | None) -> list[Array]:
    """Unit directions of an array, or its probes."""
    return [_unit(shape, k) for k in np.ndindex(shape)] if chosen is None else chosen.along()


def _rows(vectors: Sequence[Array], place: slice, first: int, shape: tuple[int, ...]) -> Array:
    """The directions of one input in the lanes of ``place``, zero where lanes move another; ``first`` is its first."""
    rows = np.zeros((place.stop - place.start, *shape))
    for k in range(max(place.start, first), min(place.stop, first + len(vectors))):
        rows[k - place.start] = vectors[k - first]
    return rows


def _pushed(
    weighted: Sequence[tuple[Array, Node]],
    tangents: Sequence[Node],
    directions: Sequence[Array],
    known: dict[Node, Array],
    bounds: dict[Node, Array],
) -> tuple[Array, Array, bool]:
    """Σ weight · tangent for each direction, all taken together as lanes of one evaluation, with bounds."""
    count = len(directions[0])
    wide = [new_input(Aval(d.shape, t.dtype), "lanes") for d, t in zip(directions, tangents, strict=True)]
    batched = batch([t for _, t in weighted], dict(zip(tangents, wide, strict=True)), count)
    found = bounded([t for t, _ in batched], {**known, **dict(zip(wide, directions, strict=True))}, bounds)
    total, bound = np.zeros(count), np.zeros(count)
    for (w, _), (t, has) in zip(weighted, batched, strict=True):
        v, e = (np.broadcast_to(a[t] if has else a[t][None], (count, *w.shape)) for a in (found.values, found.errors))
        terms = (w * v).reshape(count, -1)
        total += terms.sum(axis=1)
        rounding = np.finfo(np.float64).eps * w.size * np.abs(terms).sum(axis=1) if w.size > 1 else 0.0
        bound += (np.abs(w) * e).reshape(count, -1).sum(axis=1) + rounding
    return total, bound, found.sampled


def finite(subject: Subject, probes: dict[int, Probes]) -> Estimate:
    """Richardson differences of the interpreted function, with their own error estimate.

    The lines of all inputs together where there are loops, which are walked once for all.
    """
    groups = [subject.wanted] if is_long(subject.graph.outputs, subject.values) else [(i,) for i in subject.wanted]
    slopes = []
    for group in groups:
        each = [directions(subject.arrays[i].shape, probes.get(i)) for i in group]
        found = Lines(subject, group).differences([{i: v} for i, vs in zip(group, each, strict=True) for v in vs])
        for i, vectors in zip(group, each, strict=True):
            some, found = found[: len(vectors)], found[len(vectors) :]
            slopes.append(_gathered(some, None if i in probes else subject.arrays[i].shape))
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
    """One run of compiled code: its gradient, and the function's own float values beside the interpreter's.

    ``call`` runs ``graph``, whose last results are the gradient.
    """

    gradient: Estimate
    values: Estimate
    interpreted: Estimate
    outputs: tuple[Node, ...]
    graph: Graph
    call: Callable[[Sequence[Any]], Sequence[Any]]


def compiled(subject: Subject, witness: Subject, compile_graph: CompileGraph, pulled: Pulled) -> Run:
    """Value and gradient by compiled code in the model's dtypes.

    The bounds are what rounding in those dtypes can do, in the graph that was compiled and in the one that was written,
    and `UNDONE` times what searches leave undone within their tolerances.
    """
    graph = compiled_subject(subject)
    call = compile_graph(graph)
    results = call(list(subject.arrays))
    bounds = [_bounds(graph, subject), pulled(subject, "reverse")]
    undone = _undone(subject, witness, pulled)
    slopes = [
        replace(b, value=np.asarray(got), error=np.maximum(a.error, b.error) + u, sampled=a.sampled or b.sampled)
        for got, a, b, u in zip(results, *bounds, undone, strict=True)
    ]
    known = [replace(s, error=np.zeros(s.error.shape)) for s in bounds[1]]
    count = len(subject.graph.outputs)
    floats = [k for k, y in enumerate(subject.graph.outputs) if y.aval.is_float]
    outputs = tuple(subject.graph.outputs[k] for k in floats)
    kinds = tuple(y.dtype for y in outputs)
    return Run(
        Estimate("compiled", tuple(slopes[count:]), tuple(x.dtype for x in subject.leaves)),
        Estimate("compiled", tuple(slopes[k] for k in floats), kinds),
        Estimate("interpreter", tuple(known[k] for k in floats), kinds),
        outputs,
        graph,
        call,
    )


def _undone(subject: Subject, witness: Subject, pulled: Pulled) -> list[Any]:
    """What searches leave undone, in values and gradient: compiled code stops where rounding lets it, near there."""
    if not searches(subject.graph):
        return [0.0] * (len(subject.graph.outputs) + len(subject.wanted))
    pairs = zip(pulled(subject, "reverse"), pulled(witness, "reverse"), strict=True)
    distances = [np.abs(found.value - solved.value) for found, solved in pairs]
    return [UNDONE * np.where(np.isfinite(d), d, 0.0) for d in distances]


def _bounds(graph: Graph, subject: Subject) -> list[Slope]:
    found = bounded(graph.outputs, dict(zip(graph.inputs, subject.arrays, strict=True)))
    return [_exactly(found.values[y], found.errors[y], found.sampled) for y in graph.outputs]


def _exactly(value: Array, error: Array, sampled: bool) -> Slope:
    return Slope(value, error, np.zeros(value.shape, bool), sampled=sampled)


def compiled_subject(subject: Subject) -> Graph:
    """Value and gradient as `gradc.jit` would see them: stabilised, then differentiated in reverse."""

    return after(subject, FORWARD).gradient_graph("reverse")
