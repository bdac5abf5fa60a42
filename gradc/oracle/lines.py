"""The function along straight lines through the point, many at once: what difference quotients are taken of.

Enters: a `Subject` and directions.  Leaves: the derivative along each, by values alone. The lines are lanes of one
evaluation: the graph with a leading axis, by the batching rules.  They are believed if the lanes start at the value of
the graph itself; if not, each line is evaluated on its own.
Invariant: `stop_gradient` is held at its value, so a difference quotient does not see through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Aval
from gradc.diff.batching import batch
from gradc.diff.finite import EPS, RATIO, Difference, default_step, derivative_along
from gradc.errors import GradcError
from gradc.graph import Graph
from gradc.interpret import computed_from, evaluator, interpret
from gradc.node import Node, as_node
from gradc.ops.arithmetic import stop_gradient
from gradc.ops.control import every_node
from gradc.ops.record import HOLDERS
from gradc.oracle.bounds import bounded, is_long
from gradc.oracle.compare import VAGUE
from gradc.oracle.kinks import Inside, has_sides, is_jump, is_tie, left_alone, same_side, sides
from gradc.oracle.witness import Subject
from gradc.passes.inline import inline, write_out
from gradc.passes.inside import apply
from gradc.passes.rules import mapped
from gradc.trace import new_input

Array = np.ndarray[Any, Any]
Direction = Mapping[int, Array]

#: elements of moved inputs in one evaluation
MOST_LANES = 1 << 16
#: steps of a quotient that are taken in one run of a loop, both ways
AHEAD = 12
#: where a difference quotient says little, a kink within this part of its first step is the reason
NEAR = 2.0**-24


def _first_lane(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    first: Node = gnp.broadcast_to(args[0][:1], args[0].shape)
    return first


#: `stop_gradient` where a difference quotient looks: every lane has the value of the first
_HELD = replace(stop_gradient, name="held", batch=_first_lane)


def _with_held(graph: Graph) -> Graph:
    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        return Node(_HELD, args, {}, node.aval, node.where) if node.op.stops else None

    return mapped(graph, rule)


class Lines:
    """Lines that move the inputs numbered ``moved``."""

    def __init__(self, subject: Subject, moved: Sequence[int]):
        self.subject, self.moved = subject, tuple(moved)
        graph = subject.graph
        values: dict[Node, Any] = dict(subject.values)
        interpret(graph.outputs, values)
        moves = computed_from([graph.inputs[i] for i in moved], graph.nodes, lambda n: not n.op.stops)
        #: values that stay: of nodes that do not read what moves, and behind a `stop_gradient`
        self._held = {n: v for n, v in values.items() if n not in moves}
        self._stops_inside = any(n.op.stops for n in every_node(graph).keys() - set(graph.nodes))
        flat = write_out(inline(graph))  # where calls are written out, so are the kinks in them
        if flat is not graph:
            interpret(flat.outputs, values)
            moves = computed_from([graph.inputs[i] for i in moved], flat.nodes, lambda n: not n.op.stops) | moves
        self._kinked = [n for n in flat.nodes if n in moves and n in values and n.args and has_sides(n)]
        self._ties = [n for n in self._kinked if is_tie(n, [values[a] for a in n.args])]
        self._jumps = [n for n in self._kinked if is_jump(n, moves) and np.any(sides([n], values)[0] == 0)]
        self._inside = Inside([n for n in flat.nodes if n in moves and n.op.kind in HOLDERS], values)
        weighted = [(y, subject.weights[y]) for y in graph.outputs if y in subject.weights]
        self._weighted = [(y, w) for y, w in weighted if y in moves]
        self._constant = sum(float(np.sum(w * values[y])) for y, w in weighted if y not in moves)
        self._long = is_long(graph.outputs, subject.values)
        self._noise = self._rounding()

    def differences(self, directions: Sequence[Direction]) -> list[Difference]:
        """The derivative along each direction."""
        lanes = max(1, MOST_LANES // max(1, sum(self.subject.arrays[i].size for i in self.moved)))
        found: list[Difference] = []
        for start in range(0, len(directions), lanes):
            found += self._some(directions[start : start + lanes])
        return found

    def _some(self, directions: Sequence[Direction]) -> list[Difference]:
        point = {i: np.asarray(self.subject.arrays[i], np.float64) for i in self.moved}
        steps = np.array([default_step({i: point[i] for i in d}, d) for d in directions])
        still = {i: np.zeros(x.shape) for i, x in point.items()}
        vectors = {
            i: np.stack([s * d.get(i, still[i]) for s, d in zip(steps, directions, strict=True)]) for i in self.moved
        }
        together = self._together(point, vectors)
        along = together or self._one_by_one(point, vectors)
        held = 0.0 if together or not self._stops_inside else np.inf  # a body's values cannot be held one by one
        with np.errstate(all="ignore"):
            found = derivative_along(along, 1.0, self._noise)
            error = found.error + held
            parts = [Difference(*(np.asarray(a[k] / steps[k]) for a in (found.value, error, found.jump)))
                     for k in range(len(steps))]  # fmt: skip
        return [self._or_kink(d, {i: v[k] for i, v in vectors.items()}) for k, d in enumerate(parts)]

    def _rounding(self) -> float | None:
        """The rounding error of one value, and of rounding what moves."""
        shift = {self.subject.graph.inputs[i]: 2 * EPS * np.abs(self.subject.arrays[i]) for i in self.moved}
        errors = bounded([y for y, _ in self._weighted], self.subject.values, shift).errors
        total = sum(float(np.sum(np.abs(w) * errors[y])) for y, w in self._weighted)
        return total if np.isfinite(total) else None

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def _at(self, point: Mapping[int, Array]) -> float:
        known = {**self._held, **{self.subject.graph.inputs[i]: a for i, a in point.items()}}
        values = interpret([y for y, _ in self._weighted], known)
        return self._constant + sum(float(np.sum(w * v)) for (_, w), v in zip(self._weighted, values, strict=True))

    def _one_by_one(self, point: Direction, vectors: Direction) -> Callable[[float], Array]:
        count = len(next(iter(vectors.values())))

        def along(t: float) -> Array:
            return np.array([self._at({i: x + t * vectors[i][k] for i, x in point.items()}) for k in range(count)])

        return along

    def _together(self, point: Direction, vectors: Direction) -> Callable[[float], Array] | None:
        """All lines as lanes of one graph; None where the lanes do not start at the function's own value.

        Before them comes a lane that stays at the point: what is held takes its value from there, in loops too.
        """
        count = len(next(iter(vectors.values())))
        if not self._weighted:
            return None
        ahead = self._ahead(count)
        evaluate = self._wide(point, vectors, ahead)
        if evaluate is None:
            return None
        found: dict[float, Array] = {}

        def along(t: float) -> Array:
            if t not in found:
                ts = [t] if not t else [s * t / RATIO**k for k in range(ahead // 2) for s in (1, -1)] or [t]
                found.clear()
                found.update(zip(ts, evaluate(ts), strict=False))
            return found[t]

        try:
            start, own = along(0.0), self._at(point)
        except GradcError:
            return None
        allowed = 2 * (self._noise or 0.0) + 4 * EPS * abs(own)
        return along if np.all((np.abs(start - own) <= allowed) | (np.isnan(start) & np.isnan(own))) else None

    def _ahead(self, count: int) -> int:
        """How many steps are looked at in one run: a loop is walked once for `AHEAD` of them."""
        if not self._long:
            return 1
        room = MOST_LANES // max(1, count * sum(self.subject.arrays[i].size for i in self.moved))
        return max(1, min(AHEAD, room // 2 * 2))

    def _wide(self, point: Direction, vectors: Direction, ahead: int) -> Callable[[Sequence[float]], Array] | None:
        """Values for each of up to ``ahead`` steps along all lines; None where a batching rule refuses.

        What is left of the lanes of steps that were not asked for stays at the point.
        """
        count = len(next(iter(vectors.values())))
        size = 1 + ahead * count
        graph = apply(_with_held, self.subject.graph.replace(outputs=tuple(y for y, _ in self._weighted)))
        inputs = self.subject.graph.inputs
        wide = {inputs[i]: new_input(Aval((size, *inputs[i].shape), inputs[i].dtype), "lanes") for i in self.moved}
        still = {x: a for x, a in self.subject.values.items() if x not in wide}
        try:
            found = batch(graph.outputs, wide, size)
        except GradcError:
            return None
        # a result that turns out not to read what moves (a call's body leaves it out) is the same in all lanes
        batched = [y if has else as_node(gnp.broadcast_to(y, (size, *y.shape))) for y, has in found]
        run = evaluator([*still, *wide.values()], batched)

        def evaluate(ts: Sequence[float]) -> Array:
            steps = np.zeros(ahead)
            steps[: len(ts)] = ts
            moved = []
            for i in self.moved:
                shift = steps.reshape(-1, 1, *[1] * point[i].ndim) * vectors[i]
                shift = shift.reshape(ahead * count, *point[i].shape)
                moved.append(point[i] + np.concatenate([np.zeros((1, *point[i].shape)), shift]))
            weighted = [w * v[1:] for (_, w), v in zip(self._weighted, run([*still.values(), *moved]), strict=True)]
            total = self._constant + sum(a.sum(axis=tuple(range(1, a.ndim))) for a in weighted)
            return np.asarray(total).reshape(ahead, count)

        return evaluate

    # -- kinks ---------------------------------------------------------------------------------------------------------

    def _or_kink(self, found: Difference, vector: Direction) -> Difference:
        """``found``, or word of a kink: where it says little and a branch changes close by, and where a branch is taken
        at the point and nowhere near it (``np.where(x != 0, x, 0.0)`` at 0), whose derivative no quotient sees.
        """
        if self._alone(vector):
            return replace(found, jump=np.array(1.0), error=np.array(np.inf))
        vague = not float(found.error) <= VAGUE * abs(float(found.value))
        if not vague or float(found.jump) or not self._kinked or not self._apart(vector):
            return found
        return replace(found, jump=np.array(1.0))

    def _apart(self, vector: Direction) -> bool:
        """Whether a branch before the point is not the one behind it."""
        there, back = (sides(self._kinked, self._values(s * NEAR, vector)) for s in (1, -1))
        return not all(np.all(same_side(a, b)) for a, b in zip(there, back, strict=True))

    def _alone(self, vector: Direction) -> bool:
        """Whether a comparison that is a tie at the point says there what it says on neither side, or a jump is there
        between its two sides; in bodies too.
        """
        if self._inside.alone(lambda t: self._values(t, vector), NEAR):
            return True
        special = [*self._ties, *self._jumps]
        if not special:
            return False
        there, here, back = (sides(special, self._values(t, vector)) for t in (NEAR, 0.0, -NEAR))
        jumps = [False] * len(self._ties) + [True] * len(self._jumps)
        return any(left_alone(*parts) for parts in zip(there, here, back, jumps, strict=True))

    def _values(self, t: float, vector: Direction) -> dict[Node, Any]:
        inputs, arrays = self.subject.graph.inputs, self.subject.arrays
        known = {**self._held, **{inputs[i]: arrays[i] + t * vector[i] for i in self.moved}}
        interpret([*(y for y, _ in self._weighted), *self._kinked, *self._inside.operands], known)
        return known
