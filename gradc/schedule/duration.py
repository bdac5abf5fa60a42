"""How long a schedule takes, roughly: enough to tell a call that may keep other threads waiting from one that may not.

Enters: kernels and their buffers.  Leaves: seconds of one core.  A loop whose condition decides counts as long as it
may go on, of two branches the longer one counts.  Start reading at `seconds_of`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.schedule.bodies import Body, Choice, Repeat
from gradc.schedule.kernel import Buffer, Kernel, Nest, Work
from gradc.schedule.lanes import Widths
from gradc.schedule.loops import UNBOUNDED
from gradc.schedule.split import work_seconds


def seconds_of(kernels: Sequence[Kernel], buffers: Sequence[Buffer], widths: Widths, enough: float) -> float:
    """The seconds that ``kernels`` take one after another; what comes behind the first ``enough`` is not counted."""
    total = 0.0
    for kernel in kernels:
        for work in kernel.work:
            total += _seconds(work, kernel, buffers, widths, enough)
            if total > enough:
                return total
    return total


def _seconds(work: Work, kernel: Kernel, buffers: Sequence[Buffer], widths: Widths, enough: float) -> float:
    def inside(body: Body | None) -> float:
        return 0.0 if body is None else seconds_of(body.kernels, body.buffers, widths, enough)

    if isinstance(work, Repeat):
        steps = UNBOUNDED if work.length is None else work.length
        return steps * (inside(work.body) + inside(work.again) + STEP_SECONDS)
    if isinstance(work, Choice):
        return max(inside(work.body), inside(work.otherwise))
    once = work_seconds(work, kernel, buffers, widths)
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
