"""A U-Net (Ronneberger et al. 2015): images go down to a few wide pixels and up again, each level seen on both ways.

It cleans digits: noise is added, and the image without it is to come out.  Run: python -m examples.models.unet
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

CHANNELS = (16, 32, 64)
NOISE, EPOCHS, BATCH = 0.4, 15, 64


def initial(key):
    """He's weights for rectifiers, biases of 0."""
    keys = iter(gc.random.split(key, 20))

    def conv(inside, outside, size=3):
        weight = nn.init.kaiming_normal(next(keys), (outside, inside, size, size), dtype=np.float32)
        return {"W": weight, "b": np.zeros(outside, np.float32)}

    def double(inside, outside):
        return [conv(inside, outside), conv(outside, outside)]

    down = [double(a, b) for a, b in zip((1, *CHANNELS), CHANNELS, strict=False)]
    up = [
        {"grow": conv(b, a, 2), "convs": double(2 * a, a)}
        for a, b in zip(CHANNELS[-2::-1], CHANNELS[:0:-1], strict=True)
    ]
    for level in up:  # a transposed convolution's weights are (in, out, 2, 2)
        level["grow"]["W"] = np.swapaxes(level["grow"]["W"], 0, 1).copy()
    return {"down": down, "up": up, "last": conv(CHANNELS[0], 1, 1)}


def doubled(p, x):
    """Two convolutions of three by three pixels, each followed by a rectifier."""
    for q in p:
        x = nn.relu(nn.conv2d(x, q["W"], q["b"], padding=1))
    return x


def cleaned(p, x):
    """(n, 1, 8, 8) → (n, 1, 8, 8)."""
    seen = []
    for k, level in enumerate(p["down"]):
        x = doubled(level, nn.max_pool2d(x, 2) if k else x)
        seen.append(x)
    for level, beside in zip(p["up"], seen[-2::-1], strict=True):
        x = nn.conv_transpose2d(x, level["grow"]["W"], level["grow"]["b"], stride=2)
        x = doubled(level["convs"], np.concatenate([beside, x], axis=1))
    return nn.conv2d(x, p["last"]["W"], p["last"]["b"])


def loss(p, noisy, images):
    return nn.mse_loss(cleaned(p, noisy), images)


def disturbed(key, images):
    return images + np.float32(NOISE) * gc.random.normal(key, images.shape, np.float32)


def main(epochs=EPOCHS):
    train, test = gc.data.digits().split(seed=0)
    params, optimizer, key = initial(gc.random.key(0)), optim.adam(2e-3), gc.random.key(1)
    state, step, order, number = optimizer.init(params), gc.train_step(loss, optimizer), np.random.default_rng(0), 0
    noisy = gc.jit(disturbed)
    for _ in range(epochs):
        rows = order.permutation(len(train.labels))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            images, number = train.images[rows[start : start + BATCH]].reshape(-1, 1, 8, 8), number + 1
            params, state, value = step(params, state, noisy(gc.random.fold_in(key, number), images), images)
    images = test.images.reshape(-1, 1, 8, 8)
    given = noisy(gc.random.key(2), images)
    before, after = (float(np.mean((x - images) ** 2)) for x in (given, gc.jit(cleaned)(params, given)))
    print(f"loss {value:.4f}; on images it has not seen the squared error falls from {before:.3f} to {after:.4f}")
    return before, after


if __name__ == "__main__":
    main()
