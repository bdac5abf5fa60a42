"""A model of language by letters: an LSTM reads Alice's Adventures in Wonderland, and writes before and after.

The text is cut into windows, and into a part to learn from and a part to be judged by, at the end of the novel: bits
per letter are counted on what was never read.  Run: python -m examples.training.alice_language
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import nn, optim

WIDTH, LENGTH, BATCH, EPOCHS = 128, 64, 32, 12
RATE = 8e-3
WRITTEN, TEMPERATURE = 240, 0.6


def numbered(text):
    """The letters of a text in their order, and the text as their places there."""
    letters = "".join(sorted(set(text)))
    place = np.zeros(128, np.int64)
    place[[ord(c) for c in letters]] = np.arange(len(letters))
    return letters, place[np.frombuffer(text.encode("ascii"), np.uint8)]


def initial(key, count):
    """Uniform weights within ±1/√width; forget gates begin open (Gers et al. 2000)."""
    bound = WIDTH**-0.5
    shapes = [(count, WIDTH), (4 * WIDTH, WIDTH), (4 * WIDTH, WIDTH), (count, WIDTH)]
    letters, w, u, out = (
        nn.init.uniform(k, shape, -bound, bound, np.float32)
        for k, shape in zip(gc.random.split(key, len(shapes)), shapes, strict=True)
    )
    b = np.zeros(4 * WIDTH, np.float32)
    b[WIDTH : 2 * WIDTH] = 1
    return {"letters": letters, "cell": [w, u, b, np.zeros_like(b)], "out": out, "bias": np.zeros(count, np.float32)}


def states(batch):
    """h and c before the first letter."""
    zeros = np.zeros((1, batch, WIDTH), np.float32)
    return zeros, zeros


def logits(params, state, text):
    """(time, batch) → logits of the letter after each, and the states behind the last."""
    y, *state = nn.lstm(params["letters"][text], state, params["cell"])
    return y @ params["out"].T + params["bias"], tuple(state)


def loss(params, text, following):
    """Mean cross-entropy of what follows in (batch, time), in nats a letter."""
    z, _ = logits(params, states(len(text)), text.T)
    return nn.cross_entropy(z.reshape(-1, z.shape[-1]), following.T.reshape(-1))


@gc.jit
def written(params, key, begin):
    """What follows the letters of ``begin``, drawn one by one."""
    z, state = logits(params, states(1), begin[:, None])
    first = gc.random.categorical(gc.random.fold_in(key, WRITTEN), z[-1, 0] / TEMPERATURE)

    def step(carry, number):
        state, letter = carry
        z, state = logits(params, state, letter[None, None])
        following = gc.random.categorical(gc.random.fold_in(key, number), z[0, 0] / TEMPERATURE)
        return (state, following), letter

    return gc.scan(step, (state, first), np.arange(WRITTEN))[1]


def say(params, letters, tokens):
    """What the model writes after the novel's first words."""
    begin = tokens[33:63]
    found = written(params, gc.random.key(1), begin)
    return "".join(letters[i] for i in begin) + "|" + "".join(letters[i] for i in found)


def train(letters, tokens, epochs=EPOCHS, **options):
    """The run on all but the end of the text."""
    cut = int(0.9 * len(tokens))
    seen, unseen = gc.data.windows(tokens[:cut], LENGTH), gc.data.windows(tokens[cut:], LENGTH)
    params = initial(gc.random.key(0), len(letters))
    steps = epochs * (len(seen[0]) // BATCH)
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(optim.cosine_decay_schedule(RATE, steps)))
    run = gc.fit(
        loss, params, seen, optimizer=optimizer, batch_size=BATCH, drop_last=True, epochs=epochs,
        validate=gc.data.batches(unseen, BATCH, shuffle=False, drop_last=True), **options,
    )  # fmt: skip
    return run


def main(epochs=EPOCHS, text=None, **options):
    letters, tokens = numbered(text or gc.data.alice())
    print(f"before:\n{say(initial(gc.random.key(0), len(letters)), letters, tokens)}\n")
    run = train(letters, tokens, epochs, **options)
    bits = float(run.history["validation_loss"][-1]) / np.log(2)
    print(f"\nafter {run.step} steps, {bits:.2f} bits a letter of the last chapters:\n")
    print(say(run.params, letters, tokens))
    return run, bits


if __name__ == "__main__":
    main()
