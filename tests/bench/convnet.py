"""A LeNet-like convolutional network (LeCun et al. 1998): training step on 28 × 28 images, batch 64, Adam.

The counted floating-point operations are those of the products alone: forward, and twice that backward, without the
derivative by the images.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.bench.peers import Function, gradc_facts, torch_contenders
from tests.bench.training import B1, B2, EPS, RATE, Batches, jax_training, torch_training
from tests.bench.workload import Entrant, Training, Workload

BATCH, BATCHES = 64, 16
COUNTED = (
    "two 5 × 5 convolutions with ReLU and 2 × 2 maxima, three dense layers, softmax cross-entropy, Adam in place; "
    "FLOP: the products alone, forward and twice that backward, without the derivative by the images"
)


def workloads(quick: bool) -> list[Workload]:
    return [
        Workload(
            "conv", f"LeNet-like conv net, 28 × 28, batch {BATCH}, Adam step, f32", COUNTED,
            {"gradc": ours, "JAX": theirs_jax, **torch_contenders(theirs_torch)},
            tolerance=1e-4, flops=flops(), goal=3.0, of_peak=0.5,
        )
    ]  # fmt: skip


def _uniform(rng: np.random.Generator, fan_in: int, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(fan_in))


def initial() -> dict[str, Any]:
    """PyTorch's initial distribution; weights of dense layers are (in, out)."""
    rng = np.random.default_rng(0)
    dense = [(f"w{k}", f"b{k}", m, n) for k, (m, n) in enumerate(((400, 120), (120, 84), (84, 10)), 3)]
    params = {
        "k1": _uniform(rng, 25, (6, 1, 5, 5)), "c1": _uniform(rng, 25, (6,)),
        "k2": _uniform(rng, 150, (16, 6, 5, 5)), "c2": _uniform(rng, 150, (16,)),
    }  # fmt: skip
    for w, b, m, n in dense:
        params |= {w: _uniform(rng, m, (m, n)), b: _uniform(rng, m, (n,))}
    return params


def batches(count: int = BATCHES, batch: int = BATCH) -> Batches:
    rng = np.random.default_rng(1)
    return [
        (rng.standard_normal((batch, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, batch)) for _ in range(count)
    ]


def flops(batch: int = BATCH) -> int:
    first = 28 * 28 * 6 * 25
    others = 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    return 2 * batch * (2 * first + 3 * others)


def loss(p: Any, x: Any, y: Any) -> Any:
    """Two convolutions, each with ReLU and 2×2 maxima, then three dense layers."""
    import gradc as gc

    x = gc.nn.max_pool2d(gc.nn.relu(gc.nn.conv2d(x, p["k1"], p["c1"], padding=2)), 2)
    x = gc.nn.max_pool2d(gc.nn.relu(gc.nn.conv2d(x, p["k2"], p["c2"])), 2)
    x = x.reshape(len(x), -1)
    x = gc.nn.relu(x @ p["w3"] + p["b3"])
    x = gc.nn.relu(x @ p["w4"] + p["b4"])
    return gc.nn.cross_entropy(x @ p["w5"] + p["b5"], y)


def ours() -> Entrant:
    import gradc as gc

    optimizer = gc.optim.adam(RATE, B1, B2, EPS)
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
    from jax import lax

    def pooled(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = lax.conv_general_dilated(x, p["k1"], (1, 1), ((2, 2), (2, 2))) + p["c1"][:, None, None]
        x = pooled(jax.nn.relu(x))
        x = lax.conv_general_dilated(x, p["k2"], (1, 1), "VALID") + p["c2"][:, None, None]
        x = pooled(jax.nn.relu(x)).reshape(len(x), -1)
        x = jax.nn.relu(x @ p["w3"] + p["b3"])
        x = jax.nn.relu(x @ p["w4"] + p["b4"])
        z = x @ p["w5"] + p["b5"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    return jax_training(loss, initial, batches(), decay=0.0, clip=None).entrant()


def theirs_torch(wrap: Function) -> Entrant:
    import torch
    from torch.nn import functional

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, p["k1"], p["c1"], padding=2)), 2)
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, p["k2"], p["c2"])), 2)
        x = x.flatten(1)
        x = functional.relu(x @ p["w3"] + p["b3"])
        x = functional.relu(x @ p["w4"] + p["b4"])
        return functional.cross_entropy(x @ p["w5"] + p["b5"], y)

    def optimizer(params: Any) -> Any:
        return torch.optim.Adam(params.values(), RATE, (B1, B2), EPS, fused=True)

    return torch_training(wrap(loss), initial, optimizer, batches(), clip=None).entrant()
