"""A small residual network (He et al. 2016) with batch normalisation: three stages of two blocks; digits.

Running statistics are the model's own state: they flow through `gc.train_step(…, has_state=True)` beside parameters.
Run: python -m examples.models.resnet
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

EPOCHS, BATCH = 12, 64
CHANNELS = (8, 16, 32)
BLOCKS = [(a, b) for k, b in enumerate(CHANNELS) for a in (CHANNELS[max(k - 1, 0)], b)]
"""Channels into and out of each block; where they differ, it halves the image."""


def initial(key):
    """He's normal weights for rectifiers; norms of weight 1 and bias 0, and their statistics before the first batch."""
    keys = iter(gc.random.split(key, 3 * len(BLOCKS) + 2))

    def conv(outside, inside, size):
        return nn.init.kaiming_normal(next(keys), (outside, inside, size, size), mode="fan_out", dtype=np.float32)

    def norm(count):
        return {"weight": np.ones(count, np.float32), "bias": np.zeros(count, np.float32)}

    blocks = []
    for a, b in BLOCKS:
        own = {"conv1": conv(b, a, 3), "norm1": norm(b), "conv2": conv(b, b, 3), "norm2": norm(b)}
        blocks.append(own if a == b else own | {"skip": conv(b, a, 1)})
    dense = nn.init.xavier_uniform(next(keys), (10, CHANNELS[-1]), dtype=np.float32)
    params = {"stem": conv(CHANNELS[0], 1, 3), "norm": norm(CHANNELS[0]), "blocks": blocks, "dense": dense}
    seen = [(nn.batch_norm_state(b, np.float32), nn.batch_norm_state(b, np.float32)) for _, b in BLOCKS]
    return params, {"norm": nn.batch_norm_state(CHANNELS[0], np.float32), "blocks": seen}


def normed(p, state, x, training):
    return nn.running_batch_norm(x, state, p["weight"], p["bias"], training)


def block(p, state, x, training):
    """x + f(x), where x is halved as f(x) is; and the statistics of its two norms."""
    stride = 2 if "skip" in p else 1
    y, first = normed(p["norm1"], state[0], nn.conv2d(x, p["conv1"], stride=stride, padding=1), training)
    y, second = normed(p["norm2"], state[1], nn.conv2d(nn.relu(y), p["conv2"], padding=1), training)
    x = nn.conv2d(x, p["skip"], stride=2) if "skip" in p else x
    return nn.relu(x + y), (first, second)


def logits(p, state, images, training=False):
    """(n, 1, 8, 8) → (n, 10), and the next state."""
    x, norm = normed(p["norm"], state["norm"], nn.conv2d(images, p["stem"], padding=1), training)
    x, blocks = nn.relu(x), []
    for own, seen in zip(p["blocks"], state["blocks"], strict=True):
        x, after = block(own, seen, x, training)
        blocks.append(after)
    return nn.linear(x.mean(axis=(2, 3)), p["dense"]), {"norm": norm, "blocks": blocks}


def loss(p, state, images, labels):
    z, after = logits(p, state, images, training=True)
    return nn.cross_entropy(z, labels, label_smoothing=0.1), after


def main(epochs=EPOCHS):
    train, test = gc.data.digits().split(seed=0)
    params, seen = initial(gc.random.key(0))
    count = epochs * (len(train.labels) // BATCH)
    optimizer = optim.sgd(optim.cosine_decay_schedule(0.1, count), momentum=0.9, nesterov=True)
    state, order = optimizer.init(params), np.random.default_rng(0)
    step = gc.train_step(loss, optimizer, has_state=True)
    for _ in range(epochs):
        rows = order.permutation(len(train.labels))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            some = rows[start : start + BATCH]
            batch = train.images[some].reshape(-1, 1, 8, 8), train.labels[some]
            params, state, seen, value = step(params, state, seen, *batch)
    z, _ = gc.jit(logits)(params, seen, test.images.reshape(-1, 1, 8, 8))
    share = float(np.mean(z.argmax(axis=1) == test.labels))
    print(f"loss {value:.4f}; {share:.1%} of {len(z)} digits it has not seen are read right")
    return params, seen, share


if __name__ == "__main__":
    main()
