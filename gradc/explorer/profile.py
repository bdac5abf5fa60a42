"""Time per kernel, measured in place and held against what the machine can do.

Enters: `Stages` and arrays for their inputs.  Leaves: a `Profile`.
The whole step is emitted once more with a look at the clock after each kernel, so that each kernel meets its data where
the step leaves them, in this cache or that.  It runs many times; what counts is the mean over the fastest quarter of
the runs — a clock that ticks every 10 or 40 ns would round the minimum of a short kernel to nothing — less what a look
at the clock takes.  Start reading at `profile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from gradc.errors import CompileError
from gradc.explorer.roofline import Roofline, roofline
from gradc.machines.cpu import HostCpu
from gradc.machines.stages import Stages
from gradc.node import here
from gradc.places import Where
from gradc.runtime.blocks import BlockCall, zeroed
from gradc.runtime.clock import clock
from gradc.schedule.chains import longest_chain
from gradc.schedule.kernel import Kernel
from gradc.schedule.origin import nodes_of
from gradc.schedule.plan import Schedule
from gradc.tabular import table

#: Runs go on until there are enough of them or this much time has passed, but at least a few.
RUNS, FEWEST_RUNS = 1000, 8
PATIENCE_NS = 500_000_000


@dataclass(frozen=True)
class KernelTime:
    """One kernel: what it does, how long it takes, how long it must take at least (nanoseconds)."""

    number: int
    title: str
    nodes: tuple[int, ...]  #: positions in the scheduled graph of what it computes
    where: tuple[Where, ...]  #: the user's lines that it stands for
    flops: int
    bytes: int
    measured_ns: float
    predicted_ns: float

    @property
    def gflops(self) -> float:
        """Billions of arithmetic operations per second."""
        return self.flops / max(self.measured_ns, 1e-3)

    @property
    def gbytes(self) -> float:
        """Billions of bytes per second."""
        return self.bytes / max(self.measured_ns, 1e-3)

    @property
    def reached(self) -> float:
        """The part of what the machine can do: 1 is the roofline."""
        return self.predicted_ns / max(self.measured_ns, 1e-3)

    @property
    def lines(self) -> str:
        """The user's lines in short: ``model.py:7,9``."""
        files: dict[str, list[int]] = {}
        for place in self.where:
            files.setdefault(str(place).rpartition(":")[0], []).append(place.line)
        return " ".join(f"{file}:{','.join(map(str, dict.fromkeys(lines)))}" for file, lines in files.items())


@dataclass(frozen=True)
class Profile:
    """Where the time of one call goes.

    ``kernels`` are in the order in which they run.  Times are means over the fastest quarter of ``runs`` runs of the
    whole step, without the Python call.
    """

    title: str
    kernels: tuple[KernelTime, ...]
    runs: int
    roofline: Roofline
    chain: tuple[int, ...] = ()  #: the kernels that need each other and together take longest

    @property
    def chain_ns(self) -> float:
        """What no number of threads gets below unless they share kernels: the time of the longest chain."""
        return sum(self.kernels[k].measured_ns for k in self.chain)

    @property
    def by_time(self) -> list[KernelTime]:
        """The dearest kernel first."""
        return sorted(self.kernels, key=lambda k: -k.measured_ns)

    @property
    def step_ns(self) -> float:
        """One run of all kernels."""
        return sum(k.measured_ns for k in self.kernels)

    @property
    def predicted_ns(self) -> float:
        """The sum of the least times."""
        return sum(k.predicted_ns for k in self.kernels)

    def share(self, kernel: KernelTime) -> float:
        """The part of the time that a kernel takes."""
        return kernel.measured_ns / max(self.step_ns, 1e-9)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The kernels in plain words and numbers, in the order in which they run."""
        return [
            {
                "kernel": k.number, "title": k.title, "flops": k.flops, "bytes": k.bytes,
                "predicted_ns": k.predicted_ns, "measured_ns": k.measured_ns,
            }
            for k in self.kernels
        ]  # fmt: skip

    def __str__(self) -> str:
        rows = [(" #", "kernel", "ns", "share", "flops", "bytes", "GF/s", "GB/s", "least ns", "lines")]
        rows += [
            (
                f"{k.number:2}", k.title, f"{k.measured_ns:,.0f}", f"{self.share(k):.0%}", f"{k.flops:,}",
                f"{k.bytes:,}", f"{k.gflops:.1f}", f"{k.gbytes:.1f}", f"{k.predicted_ns:,.0f}", k.lines,
            )
            for k in self.by_time
        ]  # fmt: skip
        below = [self.longest] if len(self.kernels) > 1 else []
        return "\n".join([self.head, str(self.roofline), table(rows, (0, 1, 9)), *below])

    @property
    def longest(self) -> str:
        """The longest chain, in a line."""
        shown = [str(k) for k in self.chain]
        if len(shown) > 12:
            shown = [*shown[:6], "…", *shown[-5:]]
        which = f"{len(self.chain)} of {len(self.kernels)} kernels need each other one by one"
        return f"longest chain: {which}, {self.chain_ns:,.0f} of {self.step_ns:,.0f} ns: {' → '.join(shown)}"

    @property
    def head(self) -> str:
        """What was measured, in a line."""
        runs = f"mean of the fastest quarter of {self.runs} runs"
        return f"{self.title}: {self.step_ns:,.0f} ns per step in {len(self.kernels)} kernels ({runs})"


def profile(stages: Stages, arrays: Sequence[Any], runs: int = RUNS) -> Profile:
    """Run the schedule of ``stages`` on ``arrays``, which fit its inputs, and time each kernel.

    Arrays that are donated are copied, so that the caller's stay as they are.  Raises CompileError for code of another
    machine than this CPU.
    """
    schedule, lines, machine = stages.schedule, stages.lines, roofline()
    ticks = _measured(stages, _blocks(schedule, arrays), runs)
    fast = ticks[np.argsort(ticks[:, -1] - ticks[:, 0], kind="stable")[: max(1, len(ticks) // 4)]]
    look, *times = np.diff(fast, axis=1).mean(axis=0)
    kernels = [_timed(schedule, n, lines, float(max(ns - look, 0.0)), machine) for n, ns in enumerate(times)]
    chain = longest_chain(schedule, [k.measured_ns for k in kernels])
    return Profile(schedule.title, tuple(kernels), len(ticks), machine, chain)


def _timed(schedule: Schedule, number: int, source: Sequence[Where | None], ns: float, machine: Roofline) -> KernelTime:
    kernel = schedule.kernels[number]
    nodes = tuple(sorted(nodes_of(schedule, number)))
    places = {w for w in (source[n] for n in nodes) if w is not None}
    where = tuple(sorted(places, key=lambda w: (w.file, w.line)))
    predicted = machine.predicted_ns(kernel.flops, kernel.bytes, _dtype(kernel))
    return KernelTime(number, kernel.title, nodes, where, kernel.flops, kernel.bytes, ns, predicted)


def _dtype(kernel: Kernel) -> str:
    """The widest floating dtype that a kernel touches; without one, the widest dtype."""
    floats = [d for d in kernel.dtypes if "float" in d]
    return max(floats or kernel.dtypes, key=lambda d: np.dtype(d).itemsize)


def _blocks(schedule: Schedule, arrays: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Contiguous inputs and outputs; a donated input is a copy that its output shares."""
    buffers = [schedule.buffers[b] for b in schedule.inputs]
    inputs = [
        np.array(a, b.dtype, order="C", copy=i in schedule.donated or None).reshape(b.shape)
        for i, (a, b) in enumerate(zip(arrays, buffers, strict=True))
    ]
    donors = {j: inputs[i] for i, j in schedule.donated.items()}
    outputs = [schedule.buffers[b] for b in schedule.outputs]
    results = [donors[j] if j in donors else np.zeros(b.shape, b.dtype) for j, b in enumerate(outputs)]
    return [*inputs, *schedule.arrays], results


def _measured(stages: Stages, blocks: tuple[list[Any], list[Any]], runs: int) -> np.ndarray[Any, Any]:
    """Clock readings, one row per run."""
    cpu = stages.machine
    if not isinstance(cpu, HostCpu):
        raise CompileError(f"{here()}: {stages.source.title} is compiled for {cpu.name}; only this CPU has a profile")
    code = cpu.emit_timed(stages.schedule, stages.options)
    ticks = np.zeros(len(stages.schedule.kernels) + 2, np.int64)
    call = BlockCall(cpu.link(code, stages.options, clock().symbols), zeroed(code.arena_bytes), [ticks])
    call(*blocks)
    start = perf_counter_ns()
    found: list[np.ndarray[Any, Any]] = []
    while len(found) < FEWEST_RUNS or (len(found) < runs and perf_counter_ns() - start < PATIENCE_NS):
        call(*blocks)
        found.append(ticks.copy())
    return np.array(found)
