"""Digits read by a small convolutional network with batch norm, and a run that says how it went.

`gc.fit` is the loop: it validates after each epoch, keeps the best parameters and draws its history.
Run: python -m examples.training.digits_cnn
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

EPOCHS, BATCH = 20, 64
#: convolutions: channels in and out, and whether pooling follows
BLOCKS = ((1, 16, False), (16, 32, True), (32, 64, True))


def initial(key):
    """He's weights for ReLU, scales of 1 and shifts of 0; and the running statistics of each batch norm."""
    *keys, last = gc.random.split(key, len(BLOCKS) + 1)
    blocks = [
        {
            "W": nn.init.kaiming_normal(k, (out, inside, 3, 3), nonlinearity="relu", dtype=np.float32),
            "scale": np.ones(out, np.float32),
            "shift": np.zeros(out, np.float32),
        }
        for k, (inside, out, _) in zip(keys, BLOCKS, strict=True)
    ]
    width = 4 * BLOCKS[-1][1]
    dense = {"W": nn.init.xavier_normal(last, (10, width), dtype=np.float32), "b": np.zeros(10, np.float32)}
    return {"blocks": blocks, "dense": dense}, [nn.batch_norm_state(out, np.float32) for _, out, _ in BLOCKS]


def logits(params, statistics, images, training):
    """(n, 1, 8, 8) → (n, 10), and the statistics behind this batch."""
    h, after = images, []
    for block, before, (_, _, pooled) in zip(params["blocks"], statistics, BLOCKS, strict=True):
        h = nn.conv2d(h, block["W"], padding=1)
        h, now = nn.running_batch_norm(h, before, block["scale"], block["shift"], training)
        h = nn.relu(h)
        h = nn.max_pool2d(h, 2) if pooled else h
        after.append(now)
    return nn.linear(h.reshape(len(images), -1), params["dense"]["W"], params["dense"]["b"]), after


def loss(params, statistics, images, labels):
    """Cross-entropy with smoothed labels (Szegedy et al. 2016), and the new statistics."""
    z, statistics = logits(params, statistics, images, training=True)
    return nn.cross_entropy(z, labels, label_smoothing=0.1), statistics


def right(params, statistics, images, labels):
    """Whether each digit is read right, by the running statistics."""
    return np.argmax(logits(params, statistics, images, training=False)[0], axis=1) == labels


def train(epochs=EPOCHS, **options):
    """The run, and the digits that it has not seen."""
    train, test = ((d.images.reshape(-1, 1, 8, 8), d.labels) for d in gc.data.digits().split(seed=0))
    params, statistics = initial(gc.random.key(0))
    steps = epochs * -(-len(train[1]) // BATCH)
    optimizer = optim.adamw(optim.cosine_decay_schedule(5e-3, steps), weight_decay=1e-2)
    run = gc.fit(
        loss, params, train, optimizer=optimizer, model_state=statistics, batch_size=BATCH, epochs=epochs,
        validate=test, metrics={"accuracy": right}, best=("validation_accuracy", "max"), **options,
    )  # fmt: skip
    return run, test


def main(epochs=EPOCHS, **options):
    run, _ = train(epochs, **options)
    share = float(run.history["validation_accuracy"][-1])
    print(f"{share:.2%} of the digits that it has not seen are read right; at best {run.best.value:.2%}")
    return run


if __name__ == "__main__":
    main()
