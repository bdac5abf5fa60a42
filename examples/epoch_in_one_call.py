"""A whole epoch as one native function: the training step, inlined into a loop over shuffled minibatches.

Small models spend their time between the steps, in Python.  Here Python is back once per epoch: `gc.scan` walks the
rows of a permutation, each step gathers its minibatch and updates parameters and optimizer state where they lie.

Run: python examples/epoch_in_one_call.py
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

import gradc as gc
import gradc.numpy as gnp
from examples.mlp_digits import initial, loss, predict
from gradc import data


def train(epochs=60, batch=64):
    rng = np.random.default_rng(0)
    digits, test = data.digits().split(seed=0)
    steps = len(digits.labels) // batch
    optimizer = gc.optim.adam(gc.optim.cosine_decay_schedule(3e-3, epochs * steps))
    step = gc.train_step(loss, optimizer)

    def epoch(params, state, order):
        def one(carry, chosen):
            params, state = carry
            images, labels = gnp.take(digits.images, chosen, axis=0), gnp.take(digits.labels, chosen)
            params, state, value = step(params, state, images, labels)
            return (params, state), value

        (params, state), losses = gc.scan(one, (params, state), order)
        return params, state, losses

    params = initial(rng)
    state = optimizer.init(params)
    run = gc.compile(epoch, params, state, gc.spec((steps, batch), np.int64), donate=(0, 1))
    start = perf_counter()
    for _ in range(epochs):
        order = rng.permutation(len(digits.labels))[: steps * batch].reshape(steps, batch)
        params, state, losses = run(params, state, order)
    seconds = perf_counter() - start
    accuracy = float(np.mean(gc.jit(predict)(params, test.images) == test.labels))
    return params, losses, accuracy, seconds / (epochs * steps)


def main():
    _, losses, accuracy, seconds = train()
    print(f"mean loss of the last epoch {losses.mean():.4f}, test accuracy {accuracy:.3f}")
    print(f"{1e6 * seconds:.0f} µs per step, {len(losses)} steps per call")
    return accuracy


if __name__ == "__main__":
    main()
