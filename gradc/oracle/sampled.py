"""How far rounding does move a computed value: the spread of runs that round at random.

Enters: nodes, values of the leaves, and how far those may be off.  Leaves: their values, and error bounds that follow
the conditioning of the computation instead of the worst case. A worst-case analysis takes the absolute value of every
factor, so errors that a step damps grow in the analysis: along a chain of n steps by a power of n, and it soon says
nothing.  Here the computation itself carries the errors.  It runs in `RUNS` lanes; in each, every operation adds to its
result the largest rounding error that is stated for it, with a random sign.  In the first half of the lanes all signs
are independent; in the second, the same operation of the same line has the same sign in all elements and steps, as
rounding errors have where a recursion comes to rest.  `FACTOR` times the sum of both spreads is the bound.
If rounding errors are of these two kinds, independent with mean 0 or the same at every step, a computed value exceeds
eight standard deviations with a probability below 2·exp(−8²/2) = 3·10⁻¹⁴ (Hoeffding), and the spread of eight runs
underestimates a standard deviation by a factor of four with one of 2·10⁻⁴: 4 · 8 = 32.  This is an estimate, and the
report says where it stands. Reference: Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM
J. Sci. Comput. 41 (2019); Parker, "Monte Carlo arithmetic" (1997).

Invariant: the same bounds every time.  No derivative rule is involved.  Start reading at `sampled_errors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

from gradc.aval import Aval, is_float
from gradc.diff.batching import batch
from gradc.diff.widen import widen_array
from gradc.errors import GradcError
from gradc.node import Node
from gradc.ops.record import Kind
from gradc.oracle.rounding import CORRECT, OWN, own_rounding, relative_rounding
from gradc.oracle.walk import Arrays, Walk
from gradc.trace import new_input

Array = np.ndarray[Any, Any]
Known = Mapping[Node, Array]

#: lanes with independent signs, and as many with signs that stay
EACH = 8
RUNS = 2 * EACH
#: how many times the spread bounds an error
FACTOR = 32.0
#: patterns of signs of one node, of which each step of a loop takes one
PATTERNS = 32
#: numbers of either sign that are drawn once
_DRAWN = 1 << 16


def sampled_errors(
    outputs: Sequence[Node], values: Known, errors: Known | None = None
) -> tuple[dict[Node, Array], dict[Node, Array]]:
    """Values and estimated error bounds of ``outputs``, from values of other nodes that are off by ``errors``.

    Bounds are arrays of the node's shape, never negative; inf where a run ends at another kind of number.
    """
    plain = Walk()(outputs, values)
    lanes = _together(outputs, values, errors or {}) or _one_by_one(outputs, values, errors or {})
    with np.errstate(all="ignore"):
        bounds = [_spread(y, v, runs) for y, v, runs in zip(outputs, plain, lanes, strict=True)]
    return dict(zip(outputs, plain, strict=True)), dict(zip(outputs, bounds, strict=True))


def _spread(node: Node, value: Array, runs: Array) -> Array:
    """`FACTOR` times the root of the mean square of both kinds of lanes."""
    if not is_float(value.dtype):
        return np.where(np.any(runs != value, axis=0), 1.0 if value.dtype == bool else np.inf, 0.0)
    off = np.where((runs == value) | (np.isnan(runs) & np.isnan(value)), 0.0, np.abs(runs - value))
    largest = np.max(off, axis=0, initial=0.0)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)  # squares must not overflow or vanish
    both = [np.sqrt(np.mean((part / unit) ** 2, axis=0)) for part in (off[:EACH], off[EACH:])]
    bound = FACTOR * unit * (both[0] + both[1])
    return np.where(np.isfinite(bound), bound, np.inf)


def _together(outputs: Sequence[Node], values: Known, errors: Known) -> list[Array] | None:
    """All runs as lanes of one; None where a batching rule refuses."""
    rounding = _Rounding(True)
    moved = [n for n in values if n.aval.is_float]
    wide = {n: new_input(Aval((RUNS, *n.shape), n.dtype), "runs") for n in moved}
    known: dict[Node, Array] = {n: v for n, v in values.items() if n not in wide}
    for n, leaf in wide.items():
        start = np.broadcast_to(widen_array(values[n]), leaf.shape)
        known[leaf] = rounding.moved(n, start, errors[n]) if n in errors else start
    try:
        batched = batch(outputs, wide, RUNS)
    except GradcError:
        return None
    found = Walk(rounding)([y for y, _ in batched], known)
    return [a if has else np.broadcast_to(a, (RUNS, *a.shape)) for a, (_, has) in zip(found, batched, strict=True)]


def _one_by_one(outputs: Sequence[Node], values: Known, errors: Known) -> list[Array]:
    runs = []
    for number in range(RUNS):
        rounding = _Rounding(False, number)
        known = {n: rounding.moved(n, widen_array(v), errors[n]) if n in errors and n.aval.is_float else v
                 for n, v in values.items()}  # fmt: skip
        runs.append(Walk(rounding)(outputs, known))
    return [np.stack(parts) for parts in zip(*runs, strict=True)]


class _Rounding:
    """What random rounding makes of a node's value.

    With ``lanes`` the runs are the leading axis; without, it is one run, with steady signs where ``number`` says so.
    """

    def __init__(self, lanes: bool, number: int = 0):
        self._lanes, self._steady = lanes, not lanes and number >= EACH
        self._random, self._places = np.random.default_rng(number), Random(number)
        self._drawn = self._random.choice([-1.0, 1.0], _DRAWN)
        self._kept: dict[Any, Array] = {}
        self._plans: dict[int, _Plan] = {}

    def __call__(self, node: Node, args: Arrays, value: Array) -> Array:
        plan = self._plans.get(id(node))
        if plan is None:
            plan = self._plans[id(node)] = _Plan(node)
        part = plan.part
        if part == 0.0:
            return value
        if part > 0 and not (plan.whole and np.count_nonzero(np.rint(value) == value)):
            return np.asarray(value * self._again(plan, value.shape, part))
        own = own_rounding(node, args, value)
        return value if own is None else self._off(value, own, self._again(plan, value.shape, 0.0))

    def moved(self, node: Node, value: Array, error: Array) -> Array:
        """A given value off by ``error``."""
        return self._off(value, error, self._signs(node, value.shape))

    def _off(self, value: Array, by: Array, signs: Array) -> Array:
        return np.asarray(value + np.where(np.isfinite(by), by, 0.0) * signs)

    def _again(self, plan: _Plan, shape: tuple[int, ...], part: float) -> Array:
        """Signs, or 1 ± ``part``: of a node in a loop some are drawn once, and one of them taken at each step."""
        drawn = plan.factors if part else plan.signs
        if len(drawn) >= 2 and len(drawn) >= plan.most:
            return drawn[int(self._places.random() * len(drawn))]
        signs = self._signs(plan.node, shape)
        drawn.append(1.0 + part * signs if part else signs)
        if plan.most == 1:
            return drawn.pop()
        return drawn[-1]

    def _signs(self, node: Node, shape: tuple[int, ...]) -> Array:
        """±1 for every element."""
        if self._steady:
            return self._steadily(node, ())
        signs = self._fresh(shape)
        if self._lanes and shape[:1] == (RUNS,):
            signs = signs.copy()
            signs[EACH:] = self._steadily(node, (EACH, *[1] * (len(shape) - 1)))
        return signs

    def _fresh(self, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        if size > _DRAWN // 2:
            return np.asarray(self._random.choice([-1.0, 1.0], shape))
        at = int(self._places.random() * (_DRAWN - size))
        return self._drawn[at : at + size].reshape(shape)

    def _steadily(self, node: Node, shape: tuple[int, ...]) -> Array:
        """The signs of an operation of one line, one per lane."""
        key = node.op.name, node.where, shape
        if key not in self._kept:
            self._kept[key] = self._random.choice([-1.0, 1.0], shape)
        return self._kept[key]


class _Plan:
    """How one node rounds."""

    __slots__ = ("factors", "most", "node", "part", "signs", "whole")

    def __init__(self, node: Node):
        self.node = node
        self.part = 0.0  #: relative; 0 if it rounds nothing, negative if it is worked out at each value
        if node.aval.is_float and not node.op.exact and node.op.kind in OWN:
            self.part = relative_rounding(node) if node.op.kind is Kind.ELEMENTWISE else -1.0
        self.whole = node.op.ulp == CORRECT or node.op.whole  #: whole numbers stay whole
        self.most = max(1, min(PATTERNS, _DRAWN // max(1, node.size)))
        self.signs: list[Array] = []
        self.factors: list[Array] = []
