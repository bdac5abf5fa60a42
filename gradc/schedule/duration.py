"""How long a schedule takes, roughly: enough to tell a call that may keep other threads waiting from one that may not.

Enters: kernels and their buffers.  Leaves: seconds of one core.  A loop whose condition decides counts as long as it
may go on, of two branches the longer one counts.  Start reading at `seconds_of`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.schedule.bodies import Body, Call, Choice, Repeat
from gradc.schedule.kernel import Buffer, Kernel, Nest, Work
from gradc.schedule.lanes import Widths
from gradc.schedule.loops import UNBOUNDED
from gradc.schedule.split import work_seconds


def seconds_of(kernels: Sequence[Kernel], buffers: Sequence[Buffer], widths: Widths, enough: float) -> float:
    """The seconds that ``kernels`` take one after another; what comes behind the first ``enough`` is not counted."""
    return _Clock(widths, enough).of(kernels, buffers)


class _Clock:
    """Seconds up to ``enough``; of a body that is run from many places they are worked out once."""

    def __init__(self, widths: Widths, enough: float):
        self.widths, self.enough = widths, enough
        self._known: dict[int, tuple[Body, float]] = {}

    def of(self, kernels: Sequence[Kernel], buffers: Sequence[Buffer]) -> float:
        total = 0.0
        for kernel in kernels:
            for work in kernel.work:
                total += self._work(work, kernel, buffers)
                if total > self.enough:
                    return total
        return total

    def _inside(self, body: Body | None) -> float:
        if body is None:
            return 0.0
        if id(body) not in self._known:
            self._known[id(body)] = body, self.of(body.kernels, body.buffers)
        return self._known[id(body)][1]

    def _work(self, work: Work, kernel: Kernel, buffers: Sequence[Buffer]) -> float:
        if isinstance(work, Repeat):
            steps = UNBOUNDED if work.length is None else work.length
            return steps * (self._inside(work.body) + self._inside(work.again) + STEP_SECONDS)
        if isinstance(work, Choice):
            return max(self._inside(work.body), self._inside(work.otherwise))
        if isinstance(work, Call):
            return self._inside(work.body)
        once = work_seconds(work, kernel, buffers, self.widths)
        return once * _untold_steps(work) if isinstance(work, Nest) else once


def _untold_steps(nest: Nest) -> int:
    """How often the steps run whose number a condition decides: as often as they may."""
    most = 1
    for stage in nest.stages:
        if stage.recur is not None and stage.recur.again is not None:
            for var in stage.inner:
                most *= var.extent
    return most


#: What a step of a loop costs besides its kernels.
STEP_SECONDS = 2e-9
