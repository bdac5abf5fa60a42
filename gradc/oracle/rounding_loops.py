"""Running errors of all steps of a loop at once: bounds that are guessed, and then proved by one evaluation.

Enters: a loop of known length, values and errors of its operands.  Leaves: values and error bounds of as many of its
first steps as the proof holds for; None where that is dearer than step after step.
What one step makes of the errors of its carries, F, grows with them.  So whatever e has e[t+1] ≥ F(e[t]) for every step
t bounds the errors, wherever it comes from.  It comes from F made linear: all steps are lanes of one evaluation, and so
is each element of the carries moved alone.  Twice the solution of that recursion is what one more evaluation proves.
Invariant: the values are those of the steps one after another; lanes that start elsewhere are not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.diff.batching import batch
from gradc.errors import GradcError
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import Loop
from gradc.ops.record import HOLDERS
from gradc.oracle.wide import computed
from gradc.trace import new_input

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]
Known = Mapping[Node, Array]
Run = Callable[[Sequence[Node], Known, Known], tuple[dict[Node, Array], dict[Node, Array]]]

#: fewer steps are taken one after another
FEWEST = 4
#: elements of all nodes of the body in all lanes, at most
MOST_ELEMENTS = 1 << 22
#: elements of all nodes of the body in the lanes of one step, at most: above, NumPy's work outweighs Python's
MOST_IN_STEP = 1 << 13
#: how far an element of a carry is moved, in units of its size
MOVED = 2.0**-30
#: what rounding, and errors so large that F is not linear, may take from one step of the recursion
SLACK = 1 + 2.0**-10


@dataclass(frozen=True, slots=True)
class Begun:
    """The first ``steps`` steps of a loop: carries after them, and the rows of the ys that they wrote, with bounds."""

    steps: int
    carries: tuple[Array, ...]
    bounds: tuple[Array, ...]
    rows: tuple[Array, ...]
    row_bounds: tuple[Array, ...]


def begun(loop: Loop, args: Arrays, errors: Arrays, run: Run) -> Begun | None:
    """As many steps of ``loop`` as can be proved at once; None where it must be taken step by step from the start."""
    if not worthwhile(loop):
        return None
    carries, rows = _values(loop, args)
    steps = _Steps(loop, args, errors, carries, run)
    try:
        proved = steps.proved(steps.guess())
    except GradcError:
        return None
    if proved is None:
        return None
    count, bounds, row_bounds = proved
    return Begun(count, tuple(c[count] for c in carries), bounds, tuple(np.stack(r[:count]) for r in rows), row_bounds)


def worthwhile(loop: Loop) -> bool:
    """Whether all steps can be lanes, and that is less work: their number is known, errors are carried from each to the
    next, and no body holds another.
    """
    if (loop.steps or 0) < FEWEST or not loop.carries or any(n.op.kind in HOLDERS for n in loop.body.nodes):
        return False
    in_step = (sum(c.size for c in loop.carries) + 1) * sum(n.size for n in loop.body.nodes)
    return in_step <= MOST_IN_STEP and in_step * (loop.steps or 0) <= MOST_ELEMENTS


def _values(loop: Loop, args: Arrays) -> tuple[list[list[Array]], list[list[Array]]]:
    """Each carry before every step and after the last, in float64; and the ys of each step."""
    first, last = len(loop.consts), len(loop.consts) + len(loop.carries)
    known: dict[Node, Array] = dict(zip(loop.inner_consts, args[:first], strict=True))
    inputs = dict.fromkeys(loop.body.inputs)
    moving = [n for n in topological(loop.body.outputs, inputs) if n not in inputs]
    carries: list[list[Array]] = [[c] for c in args[first:last]]
    rows: list[list[Array]] = [[] for _ in loop.ys]
    for step in range(loop.steps or 0):
        row = (loop.steps or 0) - 1 - step if loop.reverse else step
        known |= zip(loop.inner_carries, (c[-1] for c in carries), strict=True)
        known |= zip(loop.inner_xs, (x[row] for x in args[last:]), strict=True)
        for node in moving:
            if step == 0 or node.args:
                known[node] = computed(node, [known[a] for a in node.args])
        for kept, y in zip((*carries, *rows), loop.body.outputs, strict=True):
            kept.append(known[y])
    return carries, rows


class _Steps:
    """All steps of one loop, in the order in which they run."""

    def __init__(self, loop: Loop, args: Arrays, errors: Arrays, carries: Sequence[Arrays], run: Run):
        first, last = len(loop.consts), len(loop.consts) + len(loop.carries)
        self.loop, self.run, self.count = loop, run, loop.steps or 0
        order = slice(None, None, -1 if loop.reverse else 1)
        self.fixed = list(args[:first]), list(errors[:first])
        self.rows = [x[order] for x in args[last:]], [e[order] for e in errors[last:]]
        self.carries, self.start = [np.stack(c) for c in carries], list(errors[first:last])
        self.sizes = [c.size for c in loop.carries]
        self._stacked: list[Array] = []

    def guess(self) -> Array:
        """Errors (step, element of the carries) that ought to be bounds; not finite where nothing is known."""
        elements = sum(self.sizes)
        flat = np.concatenate([np.abs(c[:-1]).astype(float).reshape(self.count, -1) for c in self.carries], axis=1)
        moved = MOVED * np.maximum(flat, np.mean(flat, axis=1, keepdims=True)) + np.finfo(float).tiny
        off = np.concatenate([np.zeros((self.count, 1, elements)), moved[:, :, None] * np.eye(elements)], axis=1)
        _, bounds = self._evaluated(off)
        bounds = bounds.reshape(self.count, elements + 1, elements)
        own, grown = bounds[:, 0], (bounds[:, 1:] - bounds[:, :1]) / moved[:, :, None]
        found = np.empty((self.count + 1, elements))
        found[0] = np.concatenate([e.reshape(-1) for e in self.start])
        for t in range(self.count):
            found[t + 1] = SLACK * (found[t] @ grown[t] + own[t])
        found[1:] *= 2
        return found

    def proved(self, guessed: Array) -> tuple[int, tuple[Array, ...], tuple[Array, ...]] | None:
        """How many steps ``guessed`` holds for, and what bounds the carries after them and the ys in them."""
        values, bounds = self._evaluated(guessed[:-1, None])
        right = np.concatenate([c[1:].astype(float).reshape(self.count, -1) for c in self.carries], axis=1)
        if not np.all((np.abs(values - right) <= 2 * bounds) | (np.isnan(values) & np.isnan(right))):
            return None
        holds = np.all(bounds <= guessed[1:], axis=1)
        count = self.count if np.all(holds) else int(np.argmin(holds)) + 1  # what is proved before it bounds this step
        ends = np.split(bounds[count - 1], np.cumsum(self.sizes)[:-1])
        last = tuple(e.reshape(c.shape) for e, c in zip(ends, self.loop.carries, strict=True))
        return count, last, tuple(e[:count] for e in self._stacked)

    def _evaluated(self, off: Array) -> tuple[Array, Array]:
        """Values and bounds of the next carries (lane, element) where those of this step are off by ``off``.

        ``off`` is (step, lane of the step, element of the carries).
        """
        loop, repeats = self.loop, off.shape[1]
        lanes = self.count * repeats
        offs = np.split(off.reshape(lanes, -1), np.cumsum(self.sizes)[:-1], axis=1)
        wide = [new_input(Aval((lanes, *x.shape), x.dtype), "steps") for x in (*loop.inner_carries, *loop.inner_xs)]
        rows = [np.repeat(a, repeats, axis=0) for a in (*(c[:-1] for c in self.carries), *self.rows[0])]
        moved = [o.reshape(lanes, *c.shape) for o, c in zip(offs, loop.carries, strict=True)]
        moved += [np.repeat(e, repeats, axis=0) for e in self.rows[1]]
        inputs = (*loop.inner_carries, *loop.inner_xs)
        outputs = batch(loop.body.outputs, dict(zip(inputs, wide, strict=True)), lanes)
        known = dict(zip((*loop.inner_consts, *wide), (*self.fixed[0], *rows), strict=True))
        errors = dict(zip((*loop.inner_consts, *wide), (*self.fixed[1], *moved), strict=True))
        values, bounds = self.run([y for y, _ in outputs], known, errors)
        found = [
            tuple(np.broadcast_to(a[y] if has else a[y][None], (lanes, *old.shape)) for a in (values, bounds))
            for (y, has), old in zip(outputs, loop.body.outputs, strict=True)
        ]
        self._stacked = [e for _, e in found[len(loop.carries) :]]
        flat = [[a.astype(float).reshape(lanes, -1) for a in pair] for pair in found[: len(loop.carries)]]
        return np.concatenate([v for v, _ in flat], axis=1), np.concatenate([e for _, e in flat], axis=1)
