"""LeNet (LeCun et al. 1998), cut to 8 × 8 pixels: two convolutions, pooling, three dense layers; digits.

Run: python -m examples.models.lenet
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

EPOCHS, BATCH = 30, 64
SHAPES = {
    "conv1": (6, 1, 3, 3), "conv2": (16, 6, 3, 3), "dense1": (120, 16 * 2 * 2), "dense2": (84, 120), "dense3": (10, 84)
}  # fmt: skip


def initial(key):
    """Glorot's uniform weights, which LeNet's tanh wants; biases of 0."""
    keys = gc.random.split(key, len(SHAPES))
    return {
        name: {"W": nn.init.xavier_uniform(k, shape, dtype=np.float32), "b": np.zeros(shape[0], np.float32)}
        for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def logits(p, images):
    """(n, 1, 8, 8) → (n, 10)."""
    h = np.tanh(nn.conv2d(images, p["conv1"]["W"], p["conv1"]["b"], padding=1))
    h = nn.avg_pool2d(h, 2)
    h = np.tanh(nn.conv2d(h, p["conv2"]["W"], p["conv2"]["b"], padding=1))
    h = nn.avg_pool2d(h, 2).reshape(len(images), -1)
    for name in ("dense1", "dense2"):
        h = np.tanh(nn.linear(h, p[name]["W"], p[name]["b"]))
    return nn.linear(h, p["dense3"]["W"], p["dense3"]["b"])


def loss(p, images, labels):
    return nn.cross_entropy(logits(p, images), labels)


def main(epochs=EPOCHS):
    train, test = gc.data.digits().split(seed=0)
    params, optimizer, order = initial(gc.random.key(0)), optim.adam(2e-3), np.random.default_rng(0)
    state, step = optimizer.init(params), gc.train_step(loss, optimizer)
    for _ in range(epochs):
        rows = order.permutation(len(train.labels))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            some = rows[start : start + BATCH]
            params, state, value = step(params, state, train.images[some].reshape(-1, 1, 8, 8), train.labels[some])
    guess = gc.jit(logits)(params, test.images.reshape(-1, 1, 8, 8)).argmax(axis=1)
    share = float(np.mean(guess == test.labels))
    print(f"loss {value:.4f}; {share:.1%} of {len(guess)} digits it has not seen are read right")
    return params, share


if __name__ == "__main__":
    main()
