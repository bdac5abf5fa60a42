"""A variational autoencoder of handwritten digits (Kingma and Welling, arXiv:1312.6114): eight numbers an image.

The encoder gives the mean and the logarithmic variance of a code z, the decoder the grey of each pixel; the code
z = μ + e^(s/2)·ε is drawn inside the compiled step, from a key that changes with each batch.  The Kullback–Leibler
divergence of the code, and its gradient, are printed as the paper has them.  Run: python -m examples.models.vae
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import optim

PIXELS, HIDDEN, CODE = 64, 128, 8
BATCH, EPOCHS, RATE = 64, 60, 2e-3
GREYS = " .:-=+*#%@"


def initial(key):
    """Weights in Glorot's scale, from a key."""

    def layer(key, rows, columns):
        limit = np.float32(np.sqrt(6 / (rows + columns)))
        weights = gc.random.uniform(key, (rows, columns), np.float32, -limit, limit)
        return {"W": weights, "b": np.zeros(columns, np.float32)}

    keys = gc.random.split(key, 4)
    return {
        "enter": layer(keys[0], PIXELS, HIDDEN),
        "code": layer(keys[1], HIDDEN, 2 * CODE),
        "leave": layer(keys[2], CODE, HIDDEN),
        "image": layer(keys[3], HIDDEN, PIXELS),
    }


def dense(p, x):
    """xW + b."""
    return x @ p["W"] + p["b"]


def encoded(p, x):
    """The mean and the logarithmic variance of each image's code."""
    both = dense(p["code"], np.tanh(dense(p["enter"], x)))
    return both[:, :CODE], both[:, CODE:]


def decoded(p, z):
    """The logit of each pixel."""
    return dense(p["image"], np.tanh(dense(p["leave"], z)))


def divergence(μ, s):
    """KL(N(μ, e^s) ‖ N(0, 1)), of all codes together."""
    return 0.5 * np.sum(μ**2 + np.exp(s) - 1 - s)


def loss(p, key, x):
    """The negative evidence lower bound in nats an image."""
    μ, s = encoded(p, x)
    z = μ + np.exp(s / 2) * gc.random.normal(key, μ.shape, μ.dtype)
    missed = gc.nn.binary_cross_entropy_with_logits(decoded(p, z), x, reduction="sum")
    return (missed + divergence(μ, s)) / len(x)


def drawn(p, key, count):
    """Images of codes that are drawn from N(0, 1)."""
    return gc.nn.sigmoid(decoded(p, gc.random.normal(key, (count, CODE), np.float32)))


def shown(images):
    """Images side by side, in characters."""
    tones = (np.clip(images, 0, 1) * (len(GREYS) - 1)).round().astype(int).reshape(-1, 8, 8)
    return "\n".join("   ".join("".join(GREYS[t] * 2 for t in image[row]) for image in tones) for row in range(8))


def main(epochs=EPOCHS):
    train, test = gc.data.digits().split(seed=0)
    key = gc.random.key(0)
    params = initial(gc.random.fold_in(key, 0))
    optimizer = optim.adam(RATE)
    state, step, order = optimizer.init(params), gc.train_step(loss, optimizer), np.random.default_rng(0)
    bound = gc.jit(loss)
    history = [bound(params, key, test.images)]
    count = 0
    for epoch in range(epochs):
        rows = order.permutation(len(train.images))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            count += 1
            batch = train.images[rows[start : start + BATCH]]
            params, state, _ = step(params, state, gc.random.fold_in(key, count), batch)
        history.append(bound(params, key, test.images))
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3}: {history[-1]:.2f} nats an image on the test part")
    print("\nimages, and what is left of them after eight numbers:")
    rebuilt = gc.nn.sigmoid(decoded(params, encoded(params, test.images[:5])[0]))
    print(shown(test.images[:5]), shown(rebuilt), sep="\n\n")
    print("\ndrawn:", shown(drawn(params, gc.random.key(7), 5)), sep="\n")
    μ, s = encoded(params, test.images[:3])
    print("\n", gc.explain(divergence, μ, s, argnums=(0, 1)), sep="")
    return history, np.mean((rebuilt - test.images[:5]) ** 2)


if __name__ == "__main__":
    main()
