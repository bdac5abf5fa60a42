"""Logistic regression of tumours in every batch mode: all rows, some, one at a time; and what each does to the loss.

The learning rate comes from the curvature at the start: below 2/L descent converges, and 1/L is safe.
Run: python -m examples.training.descent_modes
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import optim

EPOCHS = 30
#: rows in a batch by mode; None is all of them
MODES = {"batch": None, "mini-batch": 32, "sgd": 1}


def loss(params, x, y):
    """Mean cross-entropy of logits xᵀw + b with ridge, which makes the minimum unique."""
    z = x @ params["w"] + params["b"]
    return np.mean(np.logaddexp(0, z) - y * z) + 5e-3 * np.sum(params["w"] ** 2)


def right(params, x, y):
    return (x @ params["w"] + params["b"] > 0) == y


def rows():
    """Standardised features and labels 0 and 1, of the rows to learn from and of the others."""
    train, test = gc.data.breast_cancer().split(seed=0)
    scale = gc.data.normalise(train.features)
    return [(scale.apply(part.features), part.labels.astype(float)) for part in (train, test)]


def descend(mode, train, test, rate, epochs=EPOCHS, **options):
    """The run of one mode: noise wants a smaller rate, the smaller the fewer rows there are."""
    start = {"w": np.zeros(train[0].shape[1]), "b": np.zeros(())}
    size = MODES[mode]
    share = 1.0 if size is None else min(1.0, size / 64)
    return gc.fit(
        loss, start, train, optimizer=optim.sgd(share * rate), batch_size=size, epochs=epochs,
        steps_per_call=1 if size is None else 16, validate=test, metrics={"accuracy": right}, **options,
    )  # fmt: skip


def main(epochs=EPOCHS, log=False):
    train, test = rows()
    start = {"w": np.zeros(30), "b": np.zeros(())}
    ground = gc.landscape(loss, start, *train)
    print(ground, end="\n\n")
    rate, found = 1 / ground.largest, {}
    for mode in MODES:
        run = descend(mode, train, test, rate, epochs if mode != "batch" else 10 * epochs, log=log)
        found[mode] = run, gc.diagnose(run.history, batch=mode)
        accuracy = float(run.history["validation_accuracy"][-1])
        print(f"{mode}: {run.step} steps, {accuracy:.1%} of unseen tumours right\n{found[mode][1]}\n")
    return ground, found


if __name__ == "__main__":
    main()
