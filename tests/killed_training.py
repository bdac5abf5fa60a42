"""Trainings that are killed with SIGKILL and go on: ``python tests/killed_training.py FOLDER COUNT SEED``.

Enters: a folder and how many trainings are to be killed, each twice.  Leaves: on standard output, how many ended with
the bits of the run that nobody killed, and where they were killed.  A training runs in a forked child; its instant is a
call or return of Python, of which a save has hundreds: before and after each system call, and within the step.  Every
third training is killed by its parent after a random time, so also within compiled code and within the library that
writes.  Start at `main`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import gradc as gc

STEPS = 5
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4, 3)), RNG.normal(size=(8, 4))


def loss(params: Any, x: Any, y: Any, key: Any) -> Any:
    kept = gc.random.uniform(key, (3,)) < 0.9
    return ((np.tanh(x @ params["w"]) @ (params["v"] * kept) - y) ** 2).mean()


OPTIMIZER = gc.optim.adam(0.05)
STEP = gc.train_step(loss, OPTIMIZER)


def start() -> dict[str, Any]:
    params = {"w": np.full((3, 3), 0.1), "v": np.arange(3.0)}
    return {"params": params, "state": OPTIMIZER.init(params), "key": gc.random.key(1)}


def train(folder: Path) -> None:
    """The whole program of a user: go on from the last checkpoint, or begin."""
    checkpoints = gc.Checkpoints(folder, keep=2, best="min")
    run = start()
    found = checkpoints.latest(run)
    first = 0
    if found is not None:
        run, first = found.tree, found.record["position"]
    for number in range(first, STEPS):
        key, now = gc.random.split(run["key"])
        params, state, value = STEP(run["params"], run["state"], X[number % 8], Y[number % 8], now)
        run = {"params": params, "state": state, "key": key}
        checkpoints.save(number + 1, run, metric=value, record={"position": number + 1})


def child(folder: Path, instant: int | None, places: int) -> int:
    """Train in a forked child that kills itself at an event; its status, and where it was through ``places``."""
    pid = os.fork()
    if pid:
        return pid
    count = 0

    def at_event(frame: FrameType, event: str, what: Any) -> None:
        nonlocal count
        count += 1
        if count == instant:
            inside = "in a save" if _saves(frame) else "elsewhere"
            os.write(places, f"{inside}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    if instant is not None:
        sys.setprofile(at_event)
    try:
        train(folder)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    sys.setprofile(None)
    os.write(places, f"{count} events\n".encode())
    os._exit(0)


def _saves(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(("storage/tensors.py", "runtime/files.py")):
            return True
        frame = frame.f_back
    return False


def _read(pipe: int) -> str:
    """What a child that has ended wrote."""
    try:
        return os.read(pipe, 1000).decode().strip()
    except BlockingIOError:
        return ""


def final(folder: Path) -> bytes:
    """The bits of the last checkpoint."""
    found = gc.Checkpoints(folder).latest(start())
    assert found is not None and found.step == STEPS
    return b"".join(np.asarray(leaf).tobytes() for leaf in gc.tree.leaves(found.tree))


def main(folder: Path, trials: int, seed: int) -> None:
    """Count the trainings that end with the bits of the undisturbed one."""
    shutil.rmtree(folder, ignore_errors=True)
    train(folder / "undisturbed")
    wanted = final(folder / "undisturbed")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    begun = time.monotonic()
    pid = child(folder / "counted", 0, writing)
    assert os.waitpid(pid, 0)[1] == 0
    seconds = time.monotonic() - begun
    events = int(os.read(reading, 100).split()[0])
    draw, places, equal = random.Random(seed), Counter[str](), 0
    for trial in range(trials):
        run = folder / f"run{trial}"
        for _ in range(2):
            timed = trial % 3 == 2
            pid = child(run, None if timed else draw.randrange(1, events), writing)
            if timed:
                time.sleep(draw.uniform(0, seconds / 2))
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            assert killed or status == 0, status
            said = _read(reading)
            places["by its parent" if timed else said] += killed
        train(run)
        equal += final(run) == wanted
        shutil.rmtree(run)
    where = ", ".join(f"{places[name]} {name}" for name in ("in a save", "elsewhere", "by its parent"))
    print(f"{equal} of {trials} equal; killed {where}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
