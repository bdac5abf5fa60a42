"""A character transformer of GPT-2's architecture (Radford et al. 2019): training step with clipping and AdamW."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.containers import tree_map
from tests.bench.peers import Function, gradc_facts, torch_contenders
from tests.bench.training import B1, B2, EPS, RATE, Batches, jax_training, torch_training
from tests.bench.workload import Entrant, Training, Workload

LAYERS, WIDTH, HEADS, CONTEXT, SEQUENCES, SYMBOLS = 4, 128, 4, 64, 12, 65
DECAY, CLIP = 0.1, 1.0
COUNTED = (
    "forward, backward, clipping by global norm, AdamW in place; tied embedding, no biases, causal attention; FLOP: "
    "the products alone, forward and twice that backward"
)


def workloads(quick: bool) -> list[Workload]:
    title = f"character transformer, {LAYERS} layers, d {WIDTH}, {HEADS} heads, block {CONTEXT}, batch {SEQUENCES}"
    return [
        Workload(
            "transformer", f"{title}, AdamW step, f32", COUNTED,
            {"gradc": ours, "JAX": theirs_jax, **torch_contenders(theirs_torch)},
            tolerance=1e-4, flops=flops(), goal=1.15, also={"torch.compile": 2.0}, of_peak=0.7,
        )
    ]  # fmt: skip


def initial() -> dict[str, Any]:
    """GPT-2's initial distribution; no biases, and the embedding is also the last layer (Press & Wolf 2017)."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 0.02) -> Any:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def ones() -> Any:
        return np.ones(WIDTH, np.float32)

    def layer() -> dict[str, Any]:
        last = 0.02 / math.sqrt(2 * LAYERS)
        return {
            "n1": ones(), "qkv": normal(WIDTH, 3 * WIDTH), "out": normal(WIDTH, WIDTH, scale=last),
            "n2": ones(), "up": normal(WIDTH, 4 * WIDTH), "down": normal(4 * WIDTH, WIDTH, scale=last),
        }  # fmt: skip

    return {
        "token": normal(SYMBOLS, WIDTH), "place": normal(CONTEXT, WIDTH),
        "layers": [layer() for _ in range(LAYERS)], "n": ones(),
    }  # fmt: skip


def batches(count: int = 8) -> Batches:
    rng = np.random.default_rng(1)
    return [tuple(rng.integers(0, SYMBOLS, (2, SEQUENCES, CONTEXT))) for _ in range(count)]  # type: ignore[misc]


def flops() -> int:
    tokens = SEQUENCES * CONTEXT
    dense = LAYERS * 12 * WIDTH**2 + SYMBOLS * WIDTH
    attention = LAYERS * 2 * CONTEXT * WIDTH
    return 3 * 2 * tokens * (dense + attention)


def loss(p: Any, tokens: Any, targets: Any) -> Any:
    import gradc as gc

    x = gc.nn.embedding(tokens, p["token"]) + p["place"]
    for layer in p["layers"]:
        x = x + gradc_attention(gc.nn.layer_norm(x, WIDTH, layer["n1"]) @ layer["qkv"]) @ layer["out"]
        x = x + gc.nn.gelu(gc.nn.layer_norm(x, WIDTH, layer["n2"]) @ layer["up"]) @ layer["down"]
    z = gc.nn.layer_norm(x, WIDTH, p["n"]) @ p["token"].T
    return gc.nn.cross_entropy(z.reshape(-1, SYMBOLS), targets.reshape(-1))


def gradc_attention(qkv: Any) -> Any:
    import gradc as gc

    n, t, _ = qkv.shape
    q, k, v = (a.reshape(n, t, HEADS, -1).swapaxes(1, 2) for a in np.split(qkv, 3, axis=-1))
    y = gc.nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.swapaxes(1, 2).reshape(n, t, -1)


def decayed(params: Any) -> Any:
    """Matrices decay, gains do not."""
    return tree_map(lambda p: p.ndim > 1, params)


def ours() -> Entrant:
    import gradc as gc

    adamw = gc.optim.adamw(RATE, B1, B2, EPS, weight_decay=DECAY, mask=decayed)
    optimizer = gc.optim.chain(gc.optim.clip_by_global_norm(CLIP), adamw)
    step = gc.train_step(loss, optimizer)

    def start() -> Any:
        params = initial()
        return params, optimizer.init(params)

    data = batches()
    facts = gradc_facts(step.lower(*start(), *data[0]))
    return Training(start, step, data).entrant(**facts)


def theirs_jax() -> Entrant:
    import jax
    import jax.numpy as jnp

    def norm(x: Any, gain: Any) -> Any:
        deviation = x - x.mean(-1, keepdims=True)
        return deviation * jax.lax.rsqrt((deviation * deviation).mean(-1, keepdims=True) + 1e-5) * gain

    def attention(qkv: Any) -> Any:
        n, t, _ = qkv.shape
        q, k, v = (a.reshape(n, t, HEADS, -1) for a in jnp.split(qkv, 3, axis=-1))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(n, t, -1)

    def loss(p: Any, tokens: Any, targets: Any) -> Any:
        x = p["token"][tokens] + p["place"]
        for layer in p["layers"]:
            x = x + attention(norm(x, layer["n1"]) @ layer["qkv"]) @ layer["out"]
            x = x + jax.nn.gelu(norm(x, layer["n2"]) @ layer["up"], approximate=False) @ layer["down"]
        z = norm(x, p["n"]) @ p["token"].T
        return jnp.mean(jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, targets[..., None], -1)[..., 0])

    return jax_training(loss, initial, batches(), DECAY, CLIP).entrant()


def theirs_torch(wrap: Function) -> Entrant:
    import torch
    from torch.nn import functional

    def attention(qkv: Any) -> Any:
        n, t, _ = qkv.shape
        q, k, v = (a.view(n, t, HEADS, -1).transpose(1, 2) for a in qkv.chunk(3, -1))
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, -1)

    def loss(p: Any, tokens: Any, targets: Any) -> Any:
        x = functional.embedding(tokens, p["token"]) + p["place"]
        for k in range(LAYERS):
            n1, qkv, out, n2, up, down = (p[f"layers.{k}.{name}"] for name in ("n1", "qkv", "out", "n2", "up", "down"))
            x = x + attention(functional.layer_norm(x, (WIDTH,), n1) @ qkv) @ out
            x = x + functional.gelu(functional.layer_norm(x, (WIDTH,), n2) @ up) @ down
        z = functional.layer_norm(x, (WIDTH,), p["n"]) @ p["token"].T
        return functional.cross_entropy(z.view(-1, SYMBOLS), targets.view(-1))

    def optimizer(params: Any) -> Any:
        groups: list[dict[str, Any]] = [
            {"params": [p for p in params.values() if (p.ndim > 1) is decays], "weight_decay": DECAY * decays}
            for decays in (True, False)
        ]
        return torch.optim.AdamW(groups, RATE, (B1, B2), EPS, fused=True)

    return torch_training(wrap(loss), flattened, optimizer, batches(), CLIP).entrant()


def flattened() -> dict[str, Any]:
    params = initial()
    layers = params.pop("layers")
    return params | {f"layers.{k}.{name}": a for k, layer in enumerate(layers) for name, a in layer.items()}
