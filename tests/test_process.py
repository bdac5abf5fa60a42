"""Signals, threads, forks and the end of the interpreter, wherever they strike: no crash, no hang, nothing left behind.

What could end a process runs in one of its own.
"""

from __future__ import annotations

import gc as garbage
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import process
from gradc.api.collector import collecting_later

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(program: str, *args: str, seconds: float = 60.0) -> str:
    """What a program prints that must end well."""
    environment = os.environ | {"GRADC_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program, *args],
        env=environment, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# -- the thread of LLVM ------------------------------------------------------------------------------------------------
def test_work_for_llvm_is_done_on_one_thread_in_order_and_inline_there() -> None:
    seen: list[int] = []

    def work() -> int:
        seen.append(threading.get_ident())
        return process.in_llvm(lambda: seen[-1]) if len(seen) < 3 else process.in_llvm(work_inside)

    def work_inside() -> int:
        return threading.get_ident()

    callers = [threading.Thread(target=lambda: process.in_llvm(work)) for _ in range(5)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert len(seen) == 5 and set(seen) == {process.in_llvm(threading.get_ident)}
    assert threading.get_ident() not in seen


def test_an_error_on_the_thread_of_llvm_comes_back_without_its_frames() -> None:
    def work() -> None:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise KeyError("outer") from error

    with pytest.raises(KeyError) as caught:
        process.in_llvm(work)
    names = [entry.name for entry in caught.traceback]
    assert "work" not in names and "wait" in names
    assert caught.value.__cause__ is not None and caught.value.__cause__.__traceback__ is None
    assert "inner" in caught.value.__notes__[0]


def test_what_is_made_once_is_made_once() -> None:
    made: list[object] = []

    @process.once
    def thing() -> object:
        made.append(object())
        return made[-1]

    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(thing())) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 1 and set(found) == set(made)


def test_threads_of_small_stacks_compile() -> None:
    found: list[Any] = []
    before = threading.stack_size(256 * 1024)
    try:
        f = gc.jit(lambda x: sum(np.sin(x + k) for k in range(200)))
        thread = threading.Thread(target=lambda: found.append(f(np.ones(3))))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(found) == 1


INTERRUPTED = """
import gc as collector, os, signal, sys, threading, time
import numpy as np, gradc as gc
collector.disable()

def big(x):
    for k in range(300): x = np.sin(x) * 1.0001 + k
    return x

gc.jit(lambda x: x + 1)(np.ones(3))
main = threading.main_thread().ident
def poke():
    while True:
        frame = sys._current_frames()[main]
        while frame is not None and frame.f_code.co_name != "in_llvm": frame = frame.f_back
        if frame is not None: break
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=poke, daemon=True).start()
try:
    gc.jit(big)(np.ones(64))
    time.sleep(20)
except KeyboardInterrupt as error:
    error.me = error
collector.collect()
assert gc.jit(lambda x: x + 2)(np.ones(3))[0] == 3
assert not collector.isenabled()
try:
    threading.Thread(target=poke, daemon=True).start()
    gc.jit(lambda x: big(x) + 1)(np.ones(64))
except KeyboardInterrupt: pass  # and out, while LLVM is at work
"""


@POSIX
def test_an_interrupted_compile_leaves_llvm_whole() -> None:
    run(INTERRUPTED)


RANDOMLY = """
import gc as collector, random, signal, sys
import numpy as np, gradc as gc
def on(number, frame): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, on)
random.seed(int(sys.argv[1]))
interrupted = 0
for k in range(int(sys.argv[2])):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.02))
        gc.jit(lambda y: np.tanh(y) * k)(np.ones(3))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt: interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert collector.isenabled()
assert gc.jit(lambda y: np.tanh(y) * k)(np.zeros(3))[0] == 0
print(interrupted)
"""


@POSIX
def test_a_process_survives_exceptions_at_random_moments_of_compiles() -> None:
    assert int(run(RANDOMLY, "1", "30")) > 3


@POSIX
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_a_process_survives_thousands_of_exceptions_at_random_moments(seed: int) -> None:
    assert int(run(RANDOMLY, str(seed), "4000", seconds=600)) > 400


# -- the collector of cycles -------------------------------------------------------------------------------------------
def test_the_collector_runs_again_whatever_line_an_exception_comes_at() -> None:
    """At each event of each frame of the way in and out."""

    @collecting_later
    def work() -> None:
        assert not garbage.isenabled()

    def interrupted(at: int) -> bool:
        left = at

        def tracer(frame: Any, event: str, arg: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and frame.f_code.co_name != "__del__":
                sys.settrace(None)
                raise KeyboardInterrupt
            return tracer

        sys.settrace(tracer)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    before = sys.gettrace()
    assert garbage.isenabled()
    try:
        at = 1
        while interrupted(at):
            assert garbage.isenabled(), f"event {at}"
            at += 1
    finally:
        sys.settrace(before)
        garbage.enable()
    assert at > 8


# -- forks -------------------------------------------------------------------------------------------------------------
FORKING = """
import os, signal, sys, threading, time
import numpy as np, gradc as gc

def work():
    k = 0
    while True:
        k += 1; c = k * 0.001
        gc.jit(lambda x: np.tanh(x * c) + np.sin(x) * c)(np.ones(7))
for _ in range(2): threading.Thread(target=work, daemon=True).start()  # the first forks find modules half imported
for attempt in range(int(sys.argv[1])):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        gc.jit(lambda x: x * 3.0, threads=2)(np.ones(3)); os._exit(0)
    start = time.time()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.time() - start > 30: os.kill(child, signal.SIGKILL); sys.exit(f"child {attempt} hangs")
        time.sleep(0.005)
    if ended[1]: sys.exit(f"child {attempt} ended with {ended[1]}")
os._exit(0)
"""


@FORKS
def test_a_child_compiles_though_it_was_forked_while_threads_compiled() -> None:
    run(FORKING, "4")


@FORKS
def test_locks_are_free_in_a_child() -> None:
    class Holder:
        pass

    holder: Any = Holder()
    holder.lock = process.renewed(holder, "lock", threading.Lock)
    with holder.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if holder.lock.acquire(blocking=False) else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert holder.lock.acquire(blocking=False)


def test_no_lock_hides_in_a_cached_property() -> None:
    """Python 3.11's has one that all instances share, and that no child renews."""
    hidden = re.compile(r"^from functools import.*cached_property", re.MULTILINE)
    assert not [p for p in Path(process.__file__).parent.rglob("*.py") if hidden.search(p.read_text())]


ENDING = """
import atexit, threading, time
import numpy as np, gradc as gc

class Last:
    def __del__(self): gc.jit(lambda x: x * 5)(np.ones(2))
last = Last(); last.me = last
atexit.register(lambda: print(gc.jit(lambda x: x * 7)(np.ones(2))[0]))
gc.jit(lambda x: x + 1)(np.ones(3))
def work():
    x = np.ones(64)
    def big(x):
        for k in range(300): x = np.sin(x) * 1.0001 + k
        return x
    gc.jit(big)(x)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.4)
"""


def test_the_interpreter_ends_while_a_thread_compiles_and_finalizers_do() -> None:
    assert run(ENDING).split() == ["7.0"]


# -- memory ------------------------------------------------------------------------------------------------------------
DROPPED = """
import gc as collector, sys
import numpy as np, gradc as gc
from gradc.process import in_llvm
def kib():
    collector.collect(); in_llvm(lambda: None)
    return int(open("/proc/self/statm").read().split()[1]) * 4
def compile_and_drop(n):
    for _ in range(n): gc.jit(lambda y: np.tanh(y) * 3 + 1)(np.ones(4))
compile_and_drop(150)
before = kib(); compile_and_drop(int(sys.argv[1])); print((kib() - before) / int(sys.argv[1]))
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@LINUX
@pytest.mark.nightly
def test_functions_that_were_dropped_leave_no_memory() -> None:
    """Under 20 MB for 10,000."""
    assert float(run(DROPPED, "3000", seconds=600)) < 2.0
