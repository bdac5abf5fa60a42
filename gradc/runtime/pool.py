"""The worker threads of this process, which all compiled functions share.

Enters: how many threads a compiled function wants.  Leaves: the address of the fork-join that its code calls, and
workers that wait for it.
Invariant: compiled code never depends on a worker: without any, a fork does its pieces itself.  A child made by
`os.fork` gets workers of its own; at the end of the interpreter all are asked to leave.  Start reading at `prepare`.

Workers are bare threads of the system (`PyThread_start_new_thread`): they run compiled code only, never Python.  Where
Python's C API offers no threads and locks of its own (PyPy), there are no workers.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradc.codegen.fork import FORK
from gradc.codegen.poll import POLL
from gradc.errors import CompileError
from gradc.process import in_child, in_llvm, once, start_with_stack
from gradc.runtime import pool_code as code
from gradc.runtime.interrupt import poll_symbols
from gradc.runtime.load import Loaded, load, target_info
from gradc.runtime.objects import address

#: How long a worker without work keeps its core warm before it sleeps, and a caller before it sleeps for its workers.
SPIN_SECONDS = 100e-6
#: How long the end of the interpreter waits for workers to leave.
LEAVE_SECONDS = 2.0
_CALIBRATION_TURNS = 2000
_LOCKS_API = ("PyThread_acquire_lock", "PyThread_acquire_lock_timed", "PyThread_release_lock")
_THREADS_API = ("PyThread_allocate_lock", *_LOCKS_API, "PyThread_start_new_thread")


@dataclass
class Pool:
    """The loaded module and its workers; ``memory`` holds all that they read, for the life of the process."""

    loaded: Loaded
    base: int
    workers: int = 0
    spins: int = 0  #: turns of the spinning loop in `SPIN_SECONDS`, once measured
    poll: int = 0  #: the address of what a caller asks while it sleeps for workers, once a function looks
    memory: list[object] = field(default_factory=list)

    @property
    def fork(self) -> int:
        """The address of ``gradc_fork``."""
        return self.loaded.addresses[FORK]

    @property
    def forks(self) -> int:
        """How many forks had the pool to themselves."""
        return self.word("forks").value

    def word(self, name: str) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self.base + code.WORDS[name])

    def grow(self, workers: int) -> None:
        """Have at least ``workers`` workers, as far as the system gives threads."""
        if workers <= self.workers:
            return
        if not self.workers:
            self._begin()
        records = [self._record(k + 1) for k in range(self.workers, workers)]
        table = np.array([*self._addresses(), *(address(r) for r in records)], np.int64)
        self.memory += [table, *records]
        self.word("records").value = address(table)
        for record in records:
            self.word("alive").value += 1
            if not _start(self.loaded.addresses[code.WORK], address(record)):
                self.word("alive").value -= 1
                break
            self.workers += 1
        self.word("workers").value = self.workers

    def listen(self) -> None:
        """Have callers look whether to end while they sleep for workers."""
        self.poll = self.word("poll").value = poll_symbols()[POLL]

    def stop(self) -> None:
        """Ask the workers to leave, and wait until they have, or for `LEAVE_SECONDS`."""
        if not self.workers:
            return
        ctypes.CFUNCTYPE(None)(self.loaded.addresses[code.STOP])()
        give_up = time.monotonic() + LEAVE_SECONDS
        while self.word("alive").value and time.monotonic() < give_up:
            time.sleep(1e-4)
        self.word("workers").value = self.workers = 0

    def forget(self) -> None:
        """In a forked child: no worker came along, whatever the words say."""
        ctypes.memset(self.base, 0, max(code.WORDS.values()) + 8)
        self.workers = 0

    def _begin(self) -> None:
        self.word("stop").value = 0
        self.word("lock").value = _allocate_lock()
        self.spins = self.spins or _turns(self.loaded.addresses[code.SPIN])
        self.word("spins").value, self.word("poll").value = self.spins, self.poll

    def _addresses(self) -> list[int]:
        table = self.word("records").value
        return list((ctypes.c_int64 * self.workers).from_address(table)) if self.workers else []

    def _record(self, number: int) -> np.ndarray[Any, Any]:
        raw = np.zeros(2 * code.RECORD_BYTES // 8, np.int64)
        self.memory.append(raw)
        skip = -address(raw) % code.RECORD_BYTES // 8
        record: np.ndarray[Any, Any] = raw[skip : skip + code.RECORD_BYTES // 8]
        record[code.RECORD["lock"] // 8] = _allocate_lock()
        record[code.RECORD["number"] // 8] = number
        return record


def prepare(threads: int) -> Pool | None:
    """The pool with workers for ``threads`` threads, the caller's among them; None where there can be none."""
    pool, workers = _open(), min(threads - 1, code.MOST_WORKERS)
    if pool is not None and workers > pool.workers:
        in_llvm(lambda: pool.grow(workers))  # one at a time, and not interrupted
    return pool


def fork_symbols(threads: int, looks: bool = False) -> dict[str, int]:
    """What a module that shares work between ``threads`` threads calls: the fork-join, with its address.

    Where it ``looks`` whether to end, so does whoever waits in the fork-join.
    """
    pool = prepare(threads)
    if pool is not None and looks:
        pool.listen()
    return {FORK: pool.fork if pool is not None else _alone()}


@once
def _open() -> Pool | None:
    if not _has_threads():
        return None
    symbols = {name: _api(name) for name in _LOCKS_API} | _yield_symbol()
    text = code.module_text(target_info().triple, code.YIELD in symbols)
    try:
        loaded = load(text, FORK, exports=(code.WORK, code.STOP, code.SPIN, code.POOL), symbols=symbols)
    except CompileError:  # no in-memory linker for it here: functions run on the thread that calls them
        return None
    pool = Pool(loaded, loaded.addresses[code.POOL])
    atexit.register(_at_exit, pool)
    in_child(lambda: _in_child(pool))
    return pool


@once
def _alone() -> int:
    """A fork-join that does all pieces on the calling thread."""
    loaded = load(code.alone_text(), FORK)
    _KEPT.append(loaded)
    return loaded.address


_KEPT: list[Loaded] = []


def _has_threads() -> bool:
    return sys.implementation.name == "cpython" and all(hasattr(ctypes.pythonapi, name) for name in _THREADS_API)


def _api(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _yield_symbol() -> dict[str, int]:
    """How a thread offers its core to others on this system, if it is known."""
    try:
        system = ctypes.CDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
        function = system.SwitchToThread if os.name == "nt" else system.sched_yield
    except (OSError, AttributeError):
        return {}
    address_of = ctypes.cast(function, ctypes.c_void_p).value
    return {code.YIELD: address_of} if address_of else {}


def _allocate_lock() -> int:
    """A lock of Python's, taken: whoever takes it again sleeps until it is released."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
    acquire = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
        ("PyThread_acquire_lock", ctypes.pythonapi)
    )
    lock: int | None = allocate()
    if not lock:
        raise MemoryError("no lock for a worker thread")
    acquire(lock, 0)
    return lock


def _start(function: int, argument: int) -> bool:
    """Run ``function(argument)`` in a new thread of the system; whether there is one."""
    start = ctypes.PYFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyThread_start_new_thread", ctypes.pythonapi)
    )
    return int(start_with_stack(lambda: start(function, argument))) != ctypes.c_ulong(-1).value


def _turns(spin: int) -> int:
    """How many turns of the spinning loop take `SPIN_SECONDS` here: the least of a few measurements."""
    wait = ctypes.CFUNCTYPE(None, ctypes.c_int64)(spin)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        wait(_CALIBRATION_TURNS)
        best = min(best, time.perf_counter() - start)
    return max(100, int(_CALIBRATION_TURNS * SPIN_SECONDS / max(best, 1e-9)))


def _at_exit(pool: Pool) -> None:
    in_llvm(pool.stop)


def _in_child(pool: Pool) -> None:
    workers = pool.workers
    pool.forget()
    pool.grow(workers)
