"""Recurrent language models (Mikolov et al. 2010): an LSTM or a GRU reads numbers in words by letters, and writes.

The text is endless: random numbers below a thousand, spelled out, one a line.  States flow from batch to batch, and
gradients stop there (truncated back-propagation through time).  Run: python -m examples.models.language
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
LETTERS = "\n -" + "".join(sorted(set("".join(ONES + TENS + ["hundred", "and"]))))
WIDTH, BATCH, LENGTH, STEPS = 64, 32, 40, 400
GATES = {"lstm": 4, "gru": 3}


def spelled(n):
    """213 → two hundred and thirteen."""
    if n >= 100:
        return f"{ONES[n // 100]} hundred" + (f" and {spelled(n % 100)}" if n % 100 else "")
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")


def initial(key, kind):
    """Uniform weights within ±1/√width, PyTorch's; the LSTM's forget gates begin open (Gers et al. 2000)."""
    bound = WIDTH**-0.5
    count = GATES[kind] * WIDTH
    shapes = [(len(LETTERS), WIDTH), (count, WIDTH), (count, WIDTH), (len(LETTERS), WIDTH)]
    keys = gc.random.split(key, len(shapes))
    letters, w, u, out = (
        nn.init.uniform(k, shape, -bound, bound, np.float32) for k, shape in zip(keys, shapes, strict=True)
    )
    b = np.zeros(count, np.float32)
    if kind == "lstm":
        b[WIDTH : 2 * WIDTH] = 1
    return {"letters": letters, "cell": [w, u, b, np.zeros(count, np.float32)], "out": out}


def begun(kind, batch):
    """States before the first letter: h, and of an LSTM c too."""
    zeros = np.zeros((1, batch, WIDTH), np.float32)
    return (zeros, zeros) if kind == "lstm" else zeros


def run(p, state, text):
    """Logits of the letter after each of (time, batch), and the states behind the last."""
    x = p["letters"][text]
    y, *state = nn.lstm(x, state, p["cell"]) if isinstance(state, tuple) else nn.gru(x, state, p["cell"])
    return y @ p["out"].T, tuple(state) if len(state) == 2 else state[0]


def loss(p, state, text):
    """Cross-entropy of each letter given those before, and the states for the next batch."""
    z, state = run(p, state, text[:-1])
    return nn.cross_entropy(z.reshape(-1, len(LETTERS)), text[1:].reshape(-1)), state


def written(p, key, state, count, temperature=0.5):
    """``count`` letters after a line's end."""

    def step(carry, number):
        state, letter = carry
        z, state = run(p, state, letter[None, None])
        letter = gc.random.categorical(gc.random.fold_in(key, number), z[0, 0] / temperature)
        return (state, letter), letter

    return gc.scan(step, (state, np.int64(0)), np.arange(count))[1]


def texts(random):
    """Batches of LENGTH letters and one more, each of which goes on where the one before ends."""
    at = {letter: k for k, letter in enumerate(LETTERS)}
    lines = [[at[c] for _ in range(STEPS * 3) for c in "\n" + spelled(random.integers(1000))] for _ in range(BATCH)]
    for start in range(0, min(map(len, lines)) - LENGTH - 1, LENGTH):
        yield np.array([line[start : start + LENGTH + 1] for line in lines]).T


def main(kind="lstm", steps=STEPS):
    random, optimizer = np.random.default_rng(0), optim.chain(optim.clip_by_global_norm(1.0), optim.adam(1e-2))
    params, state, flow = initial(gc.random.key(0), kind), begun(kind, BATCH), []
    moments, step = optimizer.init(params), gc.train_step(loss, optimizer, has_state=True)
    for _, text in zip(range(steps), texts(random), strict=False):
        params, moments, state, value = step(params, moments, state, text)
        flow.append(float(value))
    codes = gc.jit(written, static=("count",))(params, gc.random.key(1), begun(kind, 1), count=1200)
    lines = "".join(LETTERS[c] for c in codes).split("\n")[:-1]
    right = np.mean([line in {spelled(n) for n in range(1000)} for line in lines])
    print(f"{kind}: {flow[0]:.2f} → {flow[-1]:.2f} nats a letter; {right:.0%} of {len(lines)} lines are numbers:")
    print("; ".join(lines[:5]))
    return flow, right


if __name__ == "__main__":
    main("lstm")
    main("gru")
