"""Work in forked children of one process that has imported what is slow to import and nothing of gradc.

Enters: a function.  Leaves: what it said, line by line, and how the child ended.
Invariant: the parent starts no thread and loads no code of LLVM, so that a fork is whole; a child that ends by itself,
by a crash or by a limit leaves neither processes nor files behind.  Start reading at `in_child`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

#: what tests and gradc import from outside
OUTSIDE = ("numpy", "scipy.special", "scipy.linalg", "scipy.optimize", "scipy.signal", "sympy", "llvmlite.binding",
           "llvmlite.ir", "networkx", "optree", "ml_dtypes", "mpmath", "rich", "pytest", "hypothesis.strategies",
           "hypothesis.extra.numpy")  # fmt: skip
#: bytes of address space: a fault in an extent asks for all there is
MEMORY = 16 * 2**30
#: seconds without a word in which a child has used less than one second of processor time: it waits for nothing
STILL = 120

Say = Callable[..., None]
T = TypeVar("T")


@dataclass
class Ended:
    """What a child said, and the signal that ended it (0: none); ``still``: it did nothing, and was ended."""

    said: list[dict[str, Any]] = field(default_factory=list)
    by: int = 0
    still: bool = False


def import_outside() -> None:
    """Import what every child needs.  NumPy's linear algebra gets no threads, for those a fork would lose."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in OUTSIDE:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "gradc" for name in sys.modules)
    gc.collect()
    gc.freeze()  # no child looks through what they all share


def allow(seconds: float) -> None:
    """In a child: end by SIGXCPU after ``seconds`` more of processor time."""
    now = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(now + seconds) + 1, resource.RLIM_INFINITY))


def in_child(work: Callable[[Say], None], folder: Path) -> Ended:
    """``work(say)`` in a child whose temporary files and output lie in ``folder``, a folder of its own, and go with
    it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reads)
        _be_child(work, folder, writes)
    os.close(writes)
    ended = Ended()
    try:
        ended.still = _listen(reads, pid, ended.said)
    finally:
        os.close(reads)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)
    quiet = ended.still or bool(ended.said and ended.said[-1].get("done"))
    ended.by = 0 if quiet else os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return ended


def in_turns(things: Sequence[T], work: Callable[[T], None], jobs: int) -> None:
    """``work`` on each thing, in ``jobs`` forks at once of which each takes the next thing that no other has."""
    if jobs == 1:
        for thing in things:
            work(thing)
        return
    with tempfile.TemporaryFile() as held:  # the forks share the place to which it has been read
        held.write(b"".join(k.to_bytes(4, "little") for k in range(len(things))))
        held.seek(0)
        numbers = held.fileno()
        pids = [_fork_at(numbers, things, work) for _ in range(jobs)]
        ended = [os.waitpid(pid, 0)[1] for pid in pids]
    if any(ended):
        raise RuntimeError("a fork of the run ended early; what it said stands above")


def _fork_at(numbers: int, things: Sequence[T], work: Callable[[T], None]) -> int:
    """The process that works on what is left of ``things``."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            while number := os.read(numbers, 4):
                work(things[int.from_bytes(number, "little")])
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid


def _be_child(work: Callable[[Say], None], folder: Path, writes: int) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.open(folder / "output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(out, number)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None

    def say(**words: Any) -> None:
        os.write(writes, json.dumps(words).encode() + b"\n")

    try:
        work(say)
        say(done=True)
    except BaseException as error:
        say(error=repr(error))
        say(done=True)
    finally:
        os._exit(0)


def _listen(reads: int, pid: int, said: list[dict[str, Any]]) -> bool:
    """Note every line until the child has ended or said that it is done; whether it stood still."""
    rest, used = b"", 0.0
    while True:
        ready, _, _ = select.select([reads], [], [], STILL)
        if not ready:
            before, used = used, _processor_seconds(pid)
            if used - before < 1:
                return True
            continue
        text = os.read(reads, 2**16)
        *lines, rest = (rest + text).split(b"\n")
        said += [json.loads(line) for line in lines]
        if not text or (said and said[-1].get("done")):
            return False


def _processor_seconds(pid: int) -> float:
    """What `ps` says of a process, as [[days-]hours:]minutes:seconds."""
    told = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    days, _, clock = told.strip().rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds + 86400 * int(days or 0)


def processor_seconds() -> float:
    """Of this process and its ended children."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
