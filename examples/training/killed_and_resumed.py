"""A run that is killed without warning, and goes on where it stood: the parameters are those of a run left alone.

A child process trains and writes a checkpoint every few steps; it is sent SIGKILL in the middle, then started again.
Run: python -m examples.training.killed_and_resumed
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gradc as gc
from gradc import nn, optim

EPOCHS, EVERY = 12, 20


def loss(params, images, labels):
    h = np.tanh(images @ params["W1"] + params["b1"])
    return nn.cross_entropy(h @ params["W2"] + params["b2"], labels)


def initial(key):
    first, second = gc.random.split(key)
    return {
        "W1": nn.init.xavier_uniform(first, (64, 32)), "b1": np.zeros(32),
        "W2": nn.init.xavier_uniform(second, (32, 10)), "b2": np.zeros(10),
    }  # fmt: skip


def train(folder=None, log=False, **options):
    """The whole run, from the newest checkpoint in ``folder`` on if there is one."""
    digits, _ = gc.data.digits().split(seed=0)
    return gc.fit(
        loss, initial(gc.random.key(0)), (digits.images.astype(float), digits.labels), optimizer=optim.adam(3e-3),
        batch_size=32, epochs=EPOCHS, checkpoint=folder, checkpoint_every=EVERY, log=log, **options,
    )  # fmt: skip


def in_a_child(folder):
    """Python, training into ``folder``."""
    code = f"from examples.training.killed_and_resumed import train; train({str(folder)!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])


def killed_at_first_sight(folder, patience=120.0):
    """A child that is killed when its first checkpoint stands, and how many bytes it left there."""
    child, began = in_a_child(folder), time.monotonic()
    while not any(Path(folder).glob("*.safetensors")):
        if child.poll() is not None or time.monotonic() - began > patience:
            raise RuntimeError("the child ended, or wrote no checkpoint")
        time.sleep(0.01)
    child.kill()
    child.wait()


def main():
    whole = train()
    with tempfile.TemporaryDirectory() as folder:
        killed_at_first_sight(folder)
        left = gc.Checkpoints(folder).latest(None)
        print(f"killed after step {left.step} of {whole.step} or later; what stands: {left.path.name}")
        resumed = train(folder)
    same = all(np.array_equal(a, b) for a, b in zip(whole.params.values(), resumed.params.values(), strict=True))
    print(f"resumed to step {resumed.step}: {'the very same parameters' if same else 'OTHER parameters'}")
    return left.step, same


if __name__ == "__main__":
    main()
