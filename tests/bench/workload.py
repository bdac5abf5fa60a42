"""What a benchmark row is: a `Workload` names its contenders, and each builds an `Entrant` that can be called.

A family module defines ``workloads(quick) -> list[Workload]``.  Listing must be cheap and import nothing but NumPy:
data, compilers and frameworks belong into the builders, which run in the contender's own process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

Arrays = Sequence[Any]
#: a training step that is repeated for thousands of steps on few batches stops being one
MOST_STEPS = 300


@dataclass
class Entrant:
    """One contender, ready to run: ``call`` does the work once."""

    call: Callable[[], Any]
    values: Callable[[], Arrays]  #: the answer as arrays, to be compared before any clock starts
    reset: Callable[[], Any] = lambda: None  #: run before each timed block, not timed
    release: Callable[[], Any] = lambda: None  #: let go of the state; `reset` makes a new one
    most_repeats: int = 1_000_000  #: calls in one block
    works: int = 1  #: how often one call does the work
    planned_bytes: int = 0  #: scratch that the contender announces before it runs; 0 if it announces none
    stages: Mapping[str, float] = field(default_factory=dict)  #: seconds of the stages of its compilation


Builder = Callable[[], Entrant]


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    name: str  #: what ``--only`` selects by
    title: str
    counted: str  #: what one call does, how FLOPs or bytes are counted, and why the comparison is fair
    contenders: Mapping[str, Builder]  #: label -> builder; the label also chooses the environment, see `settings`
    tolerance: float  #: largest accepted difference from gradc, relative to an answer's largest element
    flops: int = 0
    moved: int = 0  #: bytes that have to travel between memory and the core
    goal: float = 0.0  #: gradc has to be this many times as fast as the best peer; 0: no goal
    against: str | None = None  #: the peer the goal is against; None: the best one
    also: Mapping[str, float] = field(default_factory=dict)  #: further goals, against peers by name
    of_peak: float = 0.0  #: the share of the FMA peak to be reached; 0: no goal
    limit: str = ""  #: what else the goal says, in words that nobody can judge by a figure
    dtype: str = "float32"
    measure: str = "time"  #: "time", "compile" (fresh processes, first calls) or "memory" (fresh process, peak)
    exact: Callable[[], Any] | None = None  #: the answer in a wider dtype, from which errors in ULP are counted
    note: str = ""  #: printed below the table: what limits the row, with figures


class Training:
    """A training loop as a zero-argument callable that returns the loss; `reset` starts again from the beginning.

    Batches take turns: on one batch alone a network soon becomes sure of every label, its softmax underflows, and the
    clock measures arithmetic on subnormal numbers.
    """

    def __init__(self, start: Callable[[], Any], step: Callable[..., Any], batches: Iterable[Any]):
        self.start, self.step, self.batches = start, step, list(batches)
        self.reset()

    def __call__(self) -> Any:
        batch = next(self.turn)
        *self.state, value = self.step(*self.state, *batch)
        return value

    def reset(self) -> None:
        self.release()  # before a new state is made
        self.turn = cycle(self.batches)
        self.state = list(self.start())

    def release(self) -> None:
        self.state: list[Any] = []

    def entrant(self, steps: int = 5, **more: Any) -> Entrant:
        """Compared by the losses of the first steps: Adam's single parameters would hide errors of scale."""

        def losses() -> Arrays:
            self.reset()
            return [np.array([float(self()) for _ in range(steps)])]

        return Entrant(self, losses, self.reset, self.release, MOST_STEPS, **more)


def difference(reference: Arrays, given: Arrays) -> float:
    """The largest difference of any answer, relative to its largest element; infinite where shapes or NaNs differ."""
    if len(reference) != len(given):
        return float("inf")
    worst = 0.0
    for a, b in zip(reference, given, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        if a.size:
            worst = max(worst, float(np.max(np.abs(a - b))) / max(float(np.max(np.abs(a))), 1e-30))
    return worst


def ulp_error(exact: Any, given: Any) -> float:
    """The largest error of ``given`` in units in the last place of its dtype."""
    rounded = exact.astype(given.dtype)
    return float(np.max(np.abs(given.astype(exact.dtype) - exact) / np.spacing(np.abs(rounded)).astype(exact.dtype)))
