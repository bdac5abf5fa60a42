"""A transformer encoder (Vaswani et al. 2017; Dosovitskiy et al. 2021): sixteen patches of an image are tokens.

Every token sees every other; the mean of what comes out is classified.  Dropout draws from a key in the step.
Run: python -m examples.models.encoder
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

PATCHES, WIDTH, HEADS, LAYERS = 16, 32, 4, 2
DROP, EPOCHS, BATCH = 0.1, 40, 32


def initial(key):
    keys = iter(gc.random.split(key, 3 + 4 * LAYERS))

    def dense(rows, columns):
        weight = nn.init.xavier_uniform(next(keys), (rows, columns), dtype=np.float32)
        return {"W": weight, "b": np.zeros(columns, np.float32)}

    def norm():
        return {"weight": np.ones(WIDTH, np.float32), "bias": np.zeros(WIDTH, np.float32)}

    def block():
        attention = {"norm1": norm(), "qkv": dense(WIDTH, 3 * WIDTH), "out": dense(WIDTH, WIDTH)}
        return attention | {"norm2": norm(), "up": dense(WIDTH, 2 * WIDTH), "down": dense(2 * WIDTH, WIDTH)}

    first, last = dense(64 // PATCHES, WIDTH), dense(WIDTH, 10)
    places = nn.init.normal(next(keys), (PATCHES, WIDTH), std=0.5, dtype=np.float32)
    return {"patch": first, "places": places, "blocks": [block() for _ in range(LAYERS)], "norm": norm(), "head": last}


def dense(p, x):
    return x @ p["W"] + p["b"]


def normed(p, x):
    return nn.layer_norm(x, x.shape[-1:], p["weight"], p["bias"])


def attended(p, x):
    """Softmax attention of all tokens to all, by head."""
    shape = (*x.shape[:-1], HEADS, WIDTH // HEADS)
    q, k, v = (np.swapaxes(part.reshape(shape), -3, -2) for part in np.split(dense(p["qkv"], x), 3, axis=-1))
    mixed = np.swapaxes(nn.scaled_dot_product_attention(q, k, v), -3, -2)
    return dense(p["out"], mixed.reshape(x.shape))


def tokens(images):
    """(n, 64) → (n, 16, 4): the image's patches of 2 × 2."""
    return np.moveaxis(images.reshape(-1, 4, 2, 4, 2), 2, 3).reshape(-1, PATCHES, 64 // PATCHES)


def logits(p, images, key=None):
    """(n, 64) → (n, 10); with a ``key`` what each block adds is dropped in part."""

    def kept(x, number):
        return x if key is None else nn.dropout(x, DROP, gc.random.fold_in(key, number))

    x = dense(p["patch"], tokens(images)) + p["places"]
    for k, q in enumerate(p["blocks"]):
        x = x + kept(attended(q, normed(q["norm1"], x)), 2 * k)
        x = x + kept(dense(q["down"], nn.gelu(dense(q["up"], normed(q["norm2"], x)))), 2 * k + 1)
    return dense(p["head"], normed(p["norm"], x).mean(axis=1))


def loss(p, images, labels, key=None):
    return nn.cross_entropy(logits(p, images, key), labels)


def main(epochs=EPOCHS):
    train, test = gc.data.digits().split(seed=0)
    params, key = initial(gc.random.key(0)), gc.random.key(1)
    count = epochs * (len(train.labels) // BATCH)
    optimizer = optim.adamw(optim.warmup_cosine_decay_schedule(0.0, 3e-3, count // 10, count), weight_decay=0.05)
    state, step, order, number = optimizer.init(params), gc.train_step(loss, optimizer), np.random.default_rng(0), 0
    for _ in range(epochs):
        rows = order.permutation(len(train.labels))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            some, number = rows[start : start + BATCH], number + 1
            batch = train.images[some], train.labels[some], gc.random.fold_in(key, number)
            params, state, value = step(params, state, *batch)
    share = float(np.mean(gc.jit(logits)(params, test.images).argmax(axis=1) == test.labels))
    print(f"loss {value:.4f}; {share:.1%} of {len(test.labels)} digits it has not seen are read right")
    return params, share


if __name__ == "__main__":
    main()
