"""A GPT: a decoder-only transformer (Radford et al. 2019) that learns to sort digits, and writes with a cache.

Training is one native function a step, and generation another: a `gc.scan` that keeps keys and values of all layers
and draws each token by temperature, top-k and top-p.  Run: python -m examples.models.gpt
"""
from __future__ import annotations

from functools import partial

import numpy as np

import gradc as gc
from gradc import nn, optim

DIGITS, LENGTH, CONTEXT, WIDTH, HEADS, LAYERS, STEPS, BATCH = 5, 6, 12, 48, 3, 2, 400, 64


def initial(key):
    """GPT-2's first weights: N(0, 0.02), what is added to the residual stream divided by √(2·layers)."""
    normal = partial(nn.init.normal, std=0.02, dtype=np.float32)
    into = partial(nn.init.normal, std=0.02 / np.sqrt(2 * LAYERS), dtype=np.float32)
    norm = {"weight": np.ones(WIDTH, np.float32), "bias": np.zeros(WIDTH, np.float32)}

    def block(a, b, c, d):
        attention = {"norm1": norm, "qkv": normal(a, (WIDTH, 3 * WIDTH)), "out": into(b, (WIDTH, WIDTH))}
        return attention | {"norm2": norm, "up": normal(c, (WIDTH, 4 * WIDTH)), "down": into(d, (4 * WIDTH, WIDTH))}

    first, second, *keys = gc.random.split(key, 2 + 4 * LAYERS)
    blocks = [block(*keys[k : k + 4]) for k in range(0, len(keys), 4)]
    tokens, places = normal(first, (DIGITS, WIDTH)), normal(second, (CONTEXT, WIDTH))
    return {"tokens": tokens, "places": places, "blocks": blocks, "norm": norm}


def normed(p, x):
    return nn.layer_norm(x, x.shape[-1:], p["weight"], p["bias"])


def by_head(x):
    return np.swapaxes(x.reshape(*x.shape[:-1], HEADS, WIDTH // HEADS), -3, -2)


def block(p, x, past=None, place=None):
    """A pre-norm block, and its keys and values; with those of the ``past``, x is the one token at ``place``."""
    q, k, v = (by_head(part) for part in np.split(normed(p["norm1"], x) @ p["qkv"], 3, axis=-1))
    if past is None:
        a = nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        k, v = (old.at[:, place].set(new[:, 0]) for old, new in zip(past, (k, v), strict=True))
        a = nn.scaled_dot_product_attention(q, k, v, np.arange(CONTEXT) <= place)
    x = x + np.swapaxes(a, -3, -2).reshape(x.shape) @ p["out"]
    return x + nn.gelu(normed(p["norm2"], x) @ p["up"], approximate="tanh") @ p["down"], (k, v)


def logits(p, tokens):
    x = p["tokens"][tokens] + p["places"][: tokens.shape[-1]]
    for layer in p["blocks"]:
        x, _ = block(layer, x)
    return normed(p["norm"], x) @ p["tokens"].T


def loss(p, tokens):
    """Cross-entropy of what follows the six digits."""
    guess = logits(p, tokens[:, :-1])[:, LENGTH - 1 :]
    return nn.cross_entropy(guess.reshape(-1, DIGITS), tokens[:, LENGTH:].reshape(-1))


def drawn(key, z, temperature, top_k, top_p):
    """A token by softmax(z/T), of the k likeliest, and of those the fewest whose probabilities reach p."""
    z = np.where(z >= np.sort(z)[-top_k], z / temperature, -np.inf)
    ordered = np.sort(z)[::-1]
    before = np.cumsum(nn.softmax(ordered, -1)) - nn.softmax(ordered, -1)
    return gc.random.categorical(key, np.where(z >= np.where(before < top_p, ordered, np.inf).min(), z, -np.inf))


def generated(p, key, prompt, temperature=1.0, top_k=DIGITS, top_p=1.0):
    """``prompt`` and what follows it, up to the context."""
    empty = np.zeros((HEADS, CONTEXT, WIDTH // HEADS), np.float32)
    given = gc.numpy.asarray(np.concatenate([prompt, np.zeros(CONTEXT - len(prompt), prompt.dtype)]))

    def step(carry, place):
        past, token = carry
        x, kept = (p["tokens"][token] + p["places"][place])[None], []
        for layer, own in zip(p["blocks"], past, strict=True):
            x, both = block(layer, x, own, place)
            kept.append(both)
        z = (normed(p["norm"], x) @ p["tokens"].T)[0]
        token = drawn(gc.random.fold_in(key, place), z, temperature, top_k, top_p)
        token = np.where(place + 1 < len(prompt), given[place + 1], token)
        return (kept, token), token

    _, rest = gc.scan(step, ([(empty, empty)] * LAYERS, given[0]), np.arange(CONTEXT - 1))
    return np.concatenate([given[:1], rest])


def sequences(random, count):
    digits = random.integers(0, DIGITS, (count, LENGTH))
    return np.concatenate([digits, np.sort(digits)], axis=1)


def main(steps=STEPS):
    random, key = np.random.default_rng(0), gc.random.key(0)
    rate = optim.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, steps)
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(rate, weight_decay=0.01))
    params, step, history = initial(key), gc.train_step(loss, optimizer), []
    state = optimizer.init(params)
    for _ in range(steps):
        params, state, value = step(params, state, sequences(random, BATCH))
        history.append(float(value))
    tests = sequences(random, 200)
    write = gc.jit(partial(generated, temperature=0.5, top_k=3, top_p=0.9))
    found = np.array([write(params, gc.random.fold_in(key, k), row[:LENGTH]) for k, row in enumerate(tests)])
    print("\n".join(f"{row[:LENGTH]} → {row[LENGTH:]}" for row in found[:3]))
    share = np.mean((found == tests).all(axis=1))
    print(f"loss {history[0]:.3f} → {history[-1]:.4f}; {share:.0%} of 200 rows sorted right")
    return params, history, share


if __name__ == "__main__":
    main()
