"""A small network on the bundled handwritten digits: the whole training step is one native function.

Run: python examples/mlp_digits.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import data


def loss(params, x, y):
    h = np.tanh(x @ params["W1"] + params["b1"])
    return gc.nn.cross_entropy(h @ params["W2"] + params["b2"], y)


def predict(params, x):
    h = np.tanh(x @ params["W1"] + params["b1"])
    return np.argmax(h @ params["W2"] + params["b2"], axis=1)


def initial(rng, hidden=128):
    return {
        "W1": (rng.standard_normal((64, hidden)) / 8).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "W2": (rng.standard_normal((hidden, 10)) / np.sqrt(hidden)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }


def train(epochs=60, batch=64):
    rng = np.random.default_rng(0)
    digits, test = data.digits().split(seed=0)
    optimizer = gc.optim.adam(gc.optim.cosine_decay_schedule(3e-3, epochs * (len(digits.labels) // batch)))
    params = initial(rng)
    state = optimizer.init(params)
    step = gc.train_step(loss, optimizer)
    for _ in range(epochs):
        order = rng.permutation(len(digits.labels))
        for chosen in order[: len(order) // batch * batch].reshape(-1, batch):
            params, state, value = step(params, state, digits.images[chosen], digits.labels[chosen])
    accuracy = float(np.mean(gc.jit(predict)(params, test.images) == test.labels))
    return params, float(value), accuracy


def main():
    _, value, accuracy = train()
    print(f"last batch loss {value:.4f}, test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
