"""A training that SIGKILL ends, between steps and inside of a save, goes on to the very parameters."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import numpy as np
import pytest

import gradc as gc
from gradc import optim

X = np.random.default_rng(0).standard_normal((40, 3)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5], "float32")
OPTIMIZER = optim.chain(optim.adamw(optim.cosine_decay_schedule(0.1, 30)), optim.reduce_on_plateau(0.5, 4))


def loss(p, x, y, key):
    return ((x @ p["w"] - y) ** 2).mean() + 0.1 * (p["w"] * gc.random.normal(key, (3,))).sum()


STEP = gc.train_step(loss, OPTIMIZER, measure="gradient_norm")


class Killed(gc.training.Callback):
    def __init__(self, at):
        self.at = at

    def on_step(self, run):
        if run.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(folder=None, kill_at=-1):
    return gc.fit(
        STEP, {"w": np.zeros(3, np.float32)}, (X, Y), batch_size=8, epochs=6, with_key=True, log=False,
        validate=lambda p: float(((X @ p["w"] - Y) ** 2).mean()), checkpoint=folder, checkpoint_every=3,
        callbacks=[gc.training.EarlyStopping(patience=4), Killed(kill_at)],
    )  # fmt: skip


def dies_in_a_process_of_its_own(folder, kill_at, renames):
    """What ends a forked process that trains: at a step, or when a save renames its file for that time."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            rename, left = os.replace, iter(range(renames - 1, -1, -1))

            def renamed(*args, **kwargs):
                if next(left, 1) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return rename(*args, **kwargs)

            os.replace = os.rename = renamed
            trained(folder, kill_at)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_between_steps_and_inside_of_saves(tmp_path):
    whole = trained()
    for kill_at, renames in ((2, 0), (14, 0), (-1, 2), (22, 0)):
        assert dies_in_a_process_of_its_own(tmp_path, kill_at, renames)
    run = trained(tmp_path)
    for one, two in ((run, whole), (run.best, whole.best)):
        assert one.step == two.step and one.params["w"].tobytes() == two.params["w"].tobytes()
    assert run.step == 30 and run.epoch == 6
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert run.history[name].tobytes() == whole.history[name].tobytes()


def test_a_folder_keeps_the_last_and_the_best(tmp_path):
    folder = tmp_path / "run"
    x = np.linspace(-1, 1, 12)
    train = lambda **more: gc.fit(
        lambda w, x: ((w * x - x) ** 2).mean(), np.zeros(()), x, optimizer=gc.optim.sgd(0.1), batch_size=4, log=False,
        validate=(x,), checkpoint=folder, **more,
    )  # fmt: skip
    run = train(epochs=6, keep=2)
    store = gc.Checkpoints(folder, best="min")
    assert store.latest().step == store.best().step == 18 and len(store.paths) == 2
    assert np.array_equal(store.latest().tree["params"], run.params)
    with pytest.raises(ValueError, match="is a checkpoint of step 18 already"):
        train(epochs=6, resume=False)
    with pytest.raises(ValueError, match=r"write gc\.Checkpoints"):
        gc.fit(
            lambda w, x: (w * x).mean(), np.zeros(()), x, optimizer=gc.optim.sgd(0.1), validate=(x,), log=False,
            checkpoint=gc.Checkpoints(folder),
        )  # fmt: skip
    with pytest.raises(gc.CheckpointMismatchError):
        gc.fit(
            lambda p, x: (p["w"] * x).mean(), {"w": np.zeros(3)}, x[:, None], optimizer=gc.optim.adam(0.1), log=False,
            checkpoint=folder,
        )  # fmt: skip
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(OSError, match="is a file"):
        gc.fit(lambda w, x: (w * x).mean(), np.zeros(()), x, optimizer=gc.optim.sgd(0.1), log=False, checkpoint=path)
