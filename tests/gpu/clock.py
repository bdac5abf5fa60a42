"""Time on a device: events around work on the driver's stream, contenders in turn.

Enters: callables that ask for work and return.  Leaves: seconds.  Start reading at `seconds`.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from gradc.runtime import cuda

ROUNDS, LONG_ENOUGH = 7, 0.02


class Clock:
    """Seconds between two points of the driver's stream, which waits for the default stream of other libraries."""

    def __init__(self) -> None:
        self.driver: Any = cuda.driver()
        with self.driver._inside():
            made = self.driver.cuda.cuEventCreate
            self.events = [self.driver._ask("make an event", made, 0) for _ in range(2)]

    def __call__(self, work: Callable[[], Any]) -> float:
        self._mark(0)
        work()
        self._mark(1)
        self.driver.synchronize()
        with self.driver._inside():
            elapsed = self.driver.cuda.cuEventElapsedTime
            return float(self.driver._ask("tell the time", elapsed, *self.events)) * 1e-3

    def _mark(self, which: int) -> None:
        with self.driver._inside():
            self.driver._ask("mark a time", self.driver.cuda.cuEventRecord, self.events[which], self.driver._stream)


def seconds(*contenders: Callable[[], Any], clock: Callable[[Callable[[], Any]], float] | None = None) -> list[float]:
    """The median time of one run of each; they take turns.  What others ask of the default stream counts, too."""
    clock, counts = clock or Clock(), []
    for run in contenders:
        clock(run)
        counts.append(max(1, round(LONG_ENOUGH / max(clock(run), 1e-6))))
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for k, (run, count) in enumerate(zip(contenders, counts, strict=True)):
            times[k].append(clock(lambda run=run, count=count: [run() for _ in range(count)]) / count)
    return [median(t) for t in times]


def copy_of(size: int) -> Callable[[], Any]:
    """A copy of ``size`` bytes from one place of the device to another."""
    driver: Any = cuda.driver()
    source, to = driver.allocate(size), driver.allocate(size)

    def run() -> None:
        with driver._inside():
            driver._ask("copy", driver.cuda.cuMemcpyDtoDAsync, to, source, size, driver._stream)

    return run
