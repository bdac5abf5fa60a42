"""A contender's process: builds what it is told to, and times it when it is its turn.

Enters: pickled (command, arguments) on standard input.  Leaves: pickled (ok, answer) on what was standard output;
whatever libraries print goes to standard error.  The parent, `tests.bench.race`, lets one process run at a time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import re
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

from tests.bench.settings import threads
from tests.bench.workload import Entrant

#: what is imported before the clock of a first call starts, by the process's library
IMPORTS: dict[str, tuple[str, ...]] = {
    "gradc": ("gradc.api.executable",),
    "JAX": ("jax.numpy",),
    "PyTorch": ("torch", "torch._dynamo", "torch._inductor"),
    "CasADi": ("casadi",),
    "numba": ("numba",),
    "NumPy": ("scipy.linalg",),
}


class Worker:
    def __init__(self) -> None:
        self.entrants: dict[str, Entrant] = {}

    def prepare(self, library: str) -> None:
        """Pin to one core if there is one thread; import the library."""
        if threads() == 1 and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        for name in IMPORTS.get(library, ()):
            import_module(name)
        if library == "PyTorch":
            import_module("torch").set_num_threads(threads())

    def warm_up(self, library: str) -> None:
        """Compile something trivial: backends are started and code shared by all compilations is there."""
        import numpy as np

        if library == "gradc":
            gradc = import_module("gradc")
            gradc.jit(lambda x: x + 1)(np.ones(3))
        elif library == "JAX":
            jax = import_module("jax")
            jax.jit(lambda x: x + 1)(np.ones(3)).block_until_ready()
        elif library == "PyTorch":
            torch = import_module("torch")
            torch.compile(lambda x: x + 1)(torch.ones(3))

    def build(self, family: str, name: str, label: str, quick: bool) -> dict[str, Any]:
        """Make the contender and call it once: seconds from the plain function to the first answer."""
        (workload,) = (w for w in import_module(f"tests.bench.{family}").workloads(quick) if w.name == name)
        start = perf_counter()
        entrant = workload.contenders[label]()
        built = perf_counter()
        entrant.call()
        self.entrants[label] = entrant
        return {
            "first": perf_counter() - start,
            "built": built - start,
            "planned": entrant.planned_bytes,
            "stages": dict(entrant.stages),
        }

    def values(self, label: str) -> list[Any]:
        return list(self.entrants[label].values())

    def repeats(self, label: str, seconds: float) -> int:
        """How many calls fill about ``seconds``."""
        entrant, most = self.entrants[label], self.entrants[label].most_repeats
        entrant.reset()
        times, spent = 1, 0.0
        while spent < seconds / 8 and times < most:
            times = min(times * 4, most)
            spent = timed(entrant.call, times)
        return max(1, min(most, int(seconds * times / max(spent, 1e-9))))

    def block(self, label: str, times: int, awake_seconds: float = 0.0) -> float:
        """Seconds per call, after a reset and a call that is not counted, or as many as take ``awake_seconds``."""
        entrant = self.entrants[label]
        entrant.reset()
        start = perf_counter()
        entrant.call()
        while perf_counter() - start < awake_seconds:
            entrant.call()
        return timed(entrant.call, times) / (times * entrant.works)

    def peak(self, label: str, steps: int) -> int:
        """Bytes in use at most during so many steps from a fresh state, beyond what is held without any state."""
        entrant = self.entrants[label]
        entrant.release()
        gc.collect()
        _trim()
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
        entrant.reset()
        for _ in repeat(None, steps):
            entrant.call()
        return _status("VmHWM") - before + entrant.planned_bytes

    def probe(self) -> dict[str, float]:
        """The limits of the machine as one thread reaches them."""
        limits: dict[str, float] = import_module("tests.bench.native").measured()
        return limits | {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0}

    def drop(self) -> None:
        self.entrants.clear()
        gc.collect()


def timed(call: Callable[[], Any], times: int) -> float:
    """Seconds of so many calls; the loop itself costs some 10 ns a call."""
    gc.disable()
    try:
        start = perf_counter()
        for _ in repeat(None, times):
            call()
        return perf_counter() - start
    finally:
        gc.enable()


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"no {field} in /proc/self/status"
    return int(found[1]) * 1024


def _trim() -> None:
    """Let the C library give freed memory back, so that compilers' leftovers are not counted as a step's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def answer(command: Callable[..., Any], arguments: Any) -> tuple[bool, Any]:
    try:
        return True, command(*arguments)
    except ImportError as error:
        return False, f"missing: {error.name or error}"
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return False, f"{type(error).__name__}: {first}"[:300]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    worker = Worker()
    while True:
        try:
            command, arguments = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(answer(getattr(worker, command), arguments), answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, channel)
