"""Whole training steps for the device tests, small enough to be interpreted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc as gc
import gradc.numpy as gnp

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def _normal(random: np.random.Generator, *shape: int) -> Any:
    return random.standard_normal(shape).astype(np.float32) * np.float32(0.3)


def mlp(batch: int = 12, features: int = 20, hidden: int = 16, classes: int = 10) -> Step:
    """Two layers, cross entropy with integer labels, Adam."""
    random = np.random.default_rng(0)
    params = {
        "W1": _normal(random, features, hidden), "b1": _normal(random, hidden),
        "W2": _normal(random, hidden, classes), "b2": _normal(random, classes),
    }  # fmt: skip

    def loss(p: Any, x: Any, y: Any) -> Any:
        h = gc.nn.relu(x @ p["W1"] + p["b1"])
        return gc.nn.cross_entropy(h @ p["W2"] + p["b2"], y)

    optimizer = gc.optim.adam(1e-2)
    batch_x, labels = _normal(random, batch, features), random.integers(0, classes, batch)
    return gc.train_step(loss, optimizer), (params, optimizer.init(params), batch_x, labels)


def transformer(batch: int = 2, tokens: int = 6, width: int = 16, heads: int = 2, vocabulary: int = 11) -> Step:
    """One block: embedding, attention with a causal mask, layer norm, GELU, cross entropy, SGD with momentum."""
    random = np.random.default_rng(1)
    params = {
        "E": _normal(random, vocabulary, width), "P": _normal(random, tokens, width),
        "qkv": _normal(random, width, 3 * width), "out": _normal(random, width, width),
        "up": _normal(random, width, 2 * width), "down": _normal(random, 2 * width, width),
        "g": np.ones(width, np.float32), "b": np.zeros(width, np.float32),
    }  # fmt: skip

    def normed(x: Any, p: Any) -> Any:
        return gc.nn.layer_norm(x, (width,), p["g"], p["b"])

    def attention(x: Any, p: Any) -> Any:
        split = (normed(x, p) @ p["qkv"]).reshape(batch, tokens, 3, heads, width // heads)
        q, k, v = (split[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // heads))
        mask = np.tril(np.ones((tokens, tokens), bool))
        weights = gc.nn.softmax(gnp.where(mask, scores, np.float32(-1e9)), -1)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, width) @ p["out"]

    def loss(p: Any, words: Any, following: Any) -> Any:
        x = p["E"][words] + p["P"]
        x = x + attention(x, p)
        x = x + gc.nn.gelu(normed(x, p) @ p["up"]) @ p["down"]
        logits = normed(x, p) @ p["E"].T
        return gc.nn.cross_entropy(logits.reshape(-1, vocabulary), following.reshape(-1))

    optimizer = gc.optim.sgd(0.1, momentum=0.9)
    words = random.integers(0, vocabulary, (batch, tokens))
    return gc.train_step(loss, optimizer), (params, optimizer.init(params), words, (words * 3 + 1) % vocabulary)
