"""Timing contenders side by side: interleaved rounds, minimum and median, answers checked before any clock starts.

Enters: a `Workload`.  Leaves: a `Result`.
Every contender runs in a process of its own with its library's best environment; one process runs at a time.  Rounds go
A B C A B C …, so drift of the machine hits all alike.  A contender that is missing, fails or gives a wrong answer is
reported as that, never timed, and never ends the run.  Start reading at `run`.
"""

from __future__ import annotations

import pickle
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep
from types import TracebackType
from typing import Any

from tests.bench.settings import environment, process_of
from tests.bench.workload import Workload, difference, ulp_error

#: longest time for one command, in seconds: torch.compile takes a minute for a transformer
PATIENCE = 300.0


@dataclass(frozen=True)
class Effort:
    """How long a row is measured."""

    rounds: int = 15
    block_seconds: float = 0.02
    quick: bool = False
    threads: int = 1
    fresh: int = 3  #: fresh processes per first call

    @property
    def settle_seconds(self) -> float:
        """How long to wait before each block: OpenMP's idle threads spin for up to 0.2 s, on the next one's cores."""
        return 0.25 if self.threads > 1 else 0.0

    @property
    def awake_seconds(self) -> float:
        """How long to run before the clock starts: threads that slept are awake, and their caches full, after that."""
        return 0.05 if self.threads > 1 else 0.0

    @classmethod
    def small(cls, threads: int) -> Effort:
        return cls(rounds=5, block_seconds=0.005, quick=True, threads=threads, fresh=1)


@dataclass
class Result:
    """What was measured for one row; contenders without a time are in ``failures``."""

    workload: Workload
    family: str
    threads: int
    minimum: dict[str, float] = field(default_factory=dict)  #: seconds, or bytes where memory is measured
    median: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    warm: dict[str, float] = field(default_factory=dict)  #: first calls with this step in the cache on disk
    empty: dict[str, float] = field(default_factory=dict)  #: first calls with nothing in the cache, no warm-up
    error: dict[str, float] = field(default_factory=dict)
    ulp: dict[str, float] = field(default_factory=dict)  #: largest error measured on the row's arguments
    planned: dict[str, int] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def best_peer(self) -> str | None:
        peers = {label: t for label, t in self.median.items() if label != "gradc"}
        return min(peers, key=peers.__getitem__) if peers else None

    def ratio(self, peer: str, by: str = "median") -> float:
        """How many times gradc's time (or memory) the peer takes."""
        table: dict[str, float] = getattr(self, by)
        return table[peer] / table["gradc"]


class FailedError(Exception):
    """A contender that cannot take part, with the reason."""


class Process:
    """One contender's process."""

    def __init__(self, name: str, threads: int):
        self.scratch = TemporaryDirectory(prefix="gradc-bench-")
        try:
            own = environment(name, threads, Path(self.scratch.name))
        except FileNotFoundError as error:
            raise FailedError(f"missing: {error}") from None
        self.log = (Path(self.scratch.name) / "log").open("w+b")
        self.start(own)
        self.ask("prepare", name.split(" ")[0])

    def start(self, own: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.bench.worker"]
        self.own = own  #: its environment
        self.child = subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def again(self) -> None:
        """A new process with the same environment and the same caches on disk."""
        self.stop()
        self.start(self.own)

    def ask(self, command: str, *arguments: Any) -> Any:
        """Run a command of `Worker` there; raises `FailedError` with its reason."""
        assert self.child.stdin is not None and self.child.stdout is not None
        try:
            self.child.stdin.write(pickle.dumps((command, arguments), protocol=5))
            self.child.stdin.flush()
            ready, _, _ = select.select([self.child.stdout], [], [], PATIENCE)
            if not ready:
                self.stop()
                raise FailedError(f"no answer within {PATIENCE:.0f} s")
            ok, answer = pickle.load(self.child.stdout)
        except (EOFError, BrokenPipeError):
            self.stop()
            raise FailedError(f"its process ended with status {self.child.returncode}") from None
        if not ok:
            raise FailedError(answer)
        return answer

    def stop(self) -> None:
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        self.stop()
        self.log.close()
        self.scratch.cleanup()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Stable:
    """The processes of all contenders, each started when first needed and kept."""

    def __init__(self, threads: int):
        self.threads = threads
        self.known: dict[str, Process] = {}

    def get(self, label: str) -> Process:
        name = process_of(label)
        held = self.known.get(name)
        if held is None or held.child.returncode is not None:
            self.known[name] = Process(name, self.threads)
        return self.known[name]

    def drop(self) -> None:
        """Let go of what the processes built."""
        for held in self.known.values():
            if held.child.returncode is None:
                held.ask("drop")

    def close(self) -> None:
        for held in self.known.values():
            held.close()


def run(workload: Workload, family: str, stable: Stable, effort: Effort) -> Result:
    """Measure one row."""
    result = Result(workload, family, effort.threads)
    measure = {"time": _race, "compile": _first_calls, "memory": _memory}[workload.measure]
    measure(workload, family, stable, effort, result)
    return result


def _race(workload: Workload, family: str, stable: Stable, effort: Effort, result: Result) -> None:
    repeats: dict[str, int] = {}
    reference: Any = None
    for label in workload.contenders:
        try:
            process = stable.get(label)
            built = process.ask("build", family, workload.name, label, effort.quick)
            values = process.ask("values", label)
            if label == "gradc":
                reference = values
            elif reference is not None:
                result.error[label] = error = difference(reference, values)
                if not error <= workload.tolerance:
                    raise FailedError(f"wrong answer: differs by {error:.1e} (> {workload.tolerance:.0e})")
            if workload.exact is not None:
                result.ulp[label] = ulp_error(workload.exact(), values[0])
            repeats[label] = process.ask("repeats", label, effort.block_seconds)
        except FailedError as failure:
            result.failures[label] = str(failure)
            continue
        result.first[label], result.planned[label] = built["first"], built["planned"]
        result.stages[label] = built["stages"]
    _rounds(repeats, stable, effort, result)
    stable.drop()


def _rounds(repeats: dict[str, int], stable: Stable, effort: Effort, result: Result) -> None:
    times: dict[str, list[float]] = {label: [] for label in repeats}
    for _ in range(effort.rounds):
        for label, count in repeats.items():
            if label in result.failures:
                continue
            sleep(effort.settle_seconds)
            try:
                times[label].append(stable.get(label).ask("block", label, count, effort.awake_seconds))
            except FailedError as failure:
                result.failures[label] = str(failure)
    for label, found in times.items():
        if found and label not in result.failures:
            result.minimum[label], result.median[label] = min(found), median(found)


def _first_calls(workload: Workload, family: str, stable: Stable, effort: Effort, result: Result) -> None:
    """From the Python function to the first answer, in fresh processes; see `compile_time`."""
    for _ in range(effort.fresh):
        for label in workload.contenders:
            if label in result.failures or (label.startswith("torch.compile") and label in result.first):
                continue  # torch.compile takes up to a minute: once is enough
            try:
                with Process(process_of(label), effort.threads) as process:
                    _one_first_call(workload, family, label, process, effort, result)
                if label == "gradc":
                    with Process(process_of(label), effort.threads) as process:
                        built = process.ask("build", family, workload.name, label, effort.quick)
                        result.empty[label] = min(built["first"], result.empty.get(label, float("inf")))
            except FailedError as failure:
                result.failures[label] = str(failure)
    for label, seconds in result.first.items():
        result.minimum[label] = result.median[label] = seconds


def _one_first_call(
    workload: Workload, family: str, label: str, process: Process, effort: Effort, result: Result
) -> None:
    process.ask("warm_up", process_of(label))
    built = process.ask("build", family, workload.name, label, effort.quick)
    if built["first"] < result.first.get(label, float("inf")):
        result.first[label], result.stages[label] = built["first"], built["stages"]
    if label == "gradc":
        process.again()
        process.ask("prepare", process_of(label))
        process.ask("warm_up", process_of(label))
        warm = process.ask("build", family, workload.name, label, effort.quick)
        result.warm[label] = min(warm["first"], result.warm.get(label, float("inf")))


def _memory(workload: Workload, family: str, stable: Stable, effort: Effort, result: Result) -> None:
    """Peak memory of a few steps."""
    for label in workload.contenders:
        try:
            with Process(process_of(label), effort.threads) as process:
                built = process.ask("build", family, workload.name, label, effort.quick)
                peak = float(process.ask("peak", label, 3))
        except FailedError as failure:
            result.failures[label] = str(failure)
            continue
        result.minimum[label] = result.median[label] = peak
        result.planned[label] = built["planned"]
