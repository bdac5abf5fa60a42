"""Training steps of fully connected networks: forward, backward and update, as one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tests.bench.peers import gradc_facts, torch_contenders
from tests.bench.workload import Entrant, Training, Workload

RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8
BATCHES = 16
Sizes = tuple[int, ...]
COUNTED = (
    "ReLU, softmax cross-entropy of integer labels, update in place (JAX: donated), 16 batches taking turns; "
    "FLOP: 6·batch·Σmn − 2·batch·m₁n₁, the products alone; NumPy is written by hand"
)
#: (name, sizes, batch, goal against the best peer, share of the FMA peak for SGD and for Adam)
ROWS: list[tuple[str, Sizes, int, float, tuple[float, float]]] = [
    ("small", (64, 128, 128, 10), 128, 1.35, (0.85, 0.78)),
    ("large", (784, 512, 512, 10), 256, 1.1, (0.88, 0.80)),
    ("tiny", (32, 64, 10), 16, 10.0, (0.0, 0.0)),
]


def workloads(quick: bool) -> list[Workload]:
    return [
        _row(*row, rule) for row in ROWS for rule in ("sgd", "adam") if not quick or row[0] != "large"
    ]  # fmt: skip


def _row(name: str, sizes: Sizes, batch: int, goal: float, peaks: tuple[float, float], rule: str) -> Workload:
    return Workload(
        f"mlp/{name}/{rule}", f"MLP {'-'.join(map(str, sizes))}, batch {batch}, {rule.upper()} step, f32", COUNTED,
        {
            "gradc": partial(_ours, sizes, batch, rule),
            "JAX": partial(_jax, sizes, batch, rule),
            **torch_contenders(partial(_torch, sizes, batch, rule)),
            "NumPy": partial(_numpy, sizes, batch, rule),
            "NumPy AVX-512": partial(_numpy, sizes, batch, rule),
        },
        tolerance=1e-4, flops=step_flops(sizes, batch), goal=goal, of_peak=peaks[rule == "adam"],
    )  # fmt: skip


def initial(sizes: Sizes) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [
        ((rng.standard_normal((m, n)) / math.sqrt(m)).astype(np.float32), np.zeros(n, np.float32))
        for m, n in pairwise(sizes)
    ]


def batches(sizes: Sizes, batch: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(1)
    return [
        (rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch))
        for _ in range(BATCHES)
    ]


def step_flops(sizes: Sizes, batch: int) -> int:
    """Forward, weight and input gradients; no gradient of the first input."""
    products = [m * n for m, n in pairwise(sizes)]
    return 6 * batch * sum(products) - 2 * batch * products[0]


def gradc_loss(params: Any, x: Any, y: Any) -> Any:
    import gradc as gc

    for w, b in params[:-1]:
        x = np.maximum(x @ w + b, 0)
    w, b = params[-1]
    return gc.nn.cross_entropy(x @ w + b, y)


def _ours(sizes: Sizes, batch: int, rule: str) -> Entrant:
    import gradc as gc

    optimizer = gc.optim.adam(RATE, B1, B2, EPS) if rule == "adam" else gc.optim.sgd(RATE)
    step = gc.train_step(gradc_loss, optimizer)
    data = batches(sizes, batch)

    def start() -> Any:
        params = initial(sizes)
        return params, optimizer.init(params)

    facts = gradc_facts(step.lower(*start(), *data[0]))
    return Training(start, step, data).entrant(**facts)


def jax_updates(rule: str) -> tuple[Any, Any]:
    """(state from parameters, (params, grads, state) -> (params, state)) in JAX."""
    import jax
    import jax.numpy as jnp

    tree = jax.tree.map
    if rule == "sgd":
        return lambda params: (), lambda params, grads, state: (tree(lambda p, g: p - RATE * g, params, grads), state)

    def update(params: Any, grads: Any, state: Any) -> Any:
        m, v, t = state
        t = t + 1
        m = tree(lambda m, g: B1 * m + (1 - B1) * g, m, grads)
        v = tree(lambda v, g: B2 * v + (1 - B2) * g * g, v, grads)
        c1, c2 = 1 - B1**t, 1 - B2**t
        new = tree(lambda p, m, v: p - RATE * (m / c1) / (jnp.sqrt(v / c2) + EPS), params, m, v)
        return new, (m, v, t)

    def start(params: Any) -> Any:
        return tree(jnp.zeros_like, params), tree(jnp.zeros_like, params), jnp.zeros((), jnp.float32)

    return start, update


def _jax(sizes: Sizes, batch: int, rule: str) -> Entrant:
    import jax
    import jax.numpy as jnp

    state_of, update = jax_updates(rule)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for w, b in params[:-1]:
            x = jnp.maximum(x @ w + b, 0)
        w, b = params[-1]
        z = x @ w + b
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return *update(params, grads, state), value

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def start() -> Any:
        params = jax.tree.map(jnp.array, initial(sizes))
        return params, state_of(params)

    on_device = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches(sizes, batch)]
    return Training(start, lambda *state: jax.block_until_ready(compiled(*state)), on_device).entrant()


def _torch(sizes: Sizes, batch: int, rule: str, wrap: Any) -> Entrant:
    import torch

    def loss(params: Sequence[Any], x: Any, y: Any) -> Any:
        for w, b in zip(params[:-2:2], params[1:-2:2], strict=True):
            x = torch.relu(torch.addmm(b, x, w))
        return torch.nn.functional.cross_entropy(torch.addmm(params[-1], x, params[-2]), y)

    forward = wrap(loss)

    def start() -> Any:
        params = [torch.tensor(a, requires_grad=True) for pair in initial(sizes) for a in pair]
        if rule == "sgd":
            return params, torch.optim.SGD(params, RATE, foreach=True)
        return params, torch.optim.Adam(params, RATE, (B1, B2), EPS, fused=True)

    def step(params: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = forward(params, x, y)
        value.backward()
        optimizer.step()
        return params, optimizer, value.detach()

    return Training(start, step, [(torch.tensor(x), torch.tensor(y)) for x, y in batches(sizes, batch)]).entrant()


def _numpy(sizes: Sizes, batch: int, rule: str) -> Entrant:
    rows = np.arange(batch)

    def start() -> Any:
        params = [a for pair in initial(sizes) for a in pair]
        return params, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params], 0

    def step(params: Any, m: Any, v: Any, t: int, x: Any, y: Any) -> Any:
        value, grads = by_hand(params, x, y, rows)
        t += 1
        for p, g, mi, vi in zip(params, grads, m, v, strict=True):
            if rule == "sgd":
                p -= np.float32(RATE) * g
                continue
            mi += np.float32(1 - B1) * (g - mi)
            vi += np.float32(1 - B2) * (g * g - vi)
            scale = np.float32(RATE / (1 - B1**t))
            p -= scale * mi / (np.sqrt(vi / np.float32(1 - B2**t)) + np.float32(EPS))
        return params, m, v, t, value

    return Training(start, step, batches(sizes, batch)).entrant()


def by_hand(params: Any, x: Any, y: Any, rows: Any) -> Any:
    """Forward and backward, derived on paper."""
    inputs, h = [x], x
    for w, b in zip(params[:-2:2], params[1:-2:2], strict=True):
        h = np.maximum(h @ w + b, 0)
        inputs.append(h)
    z = h @ params[-2] + params[-1]
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - shifted[rows, y])
    delta = e / total
    delta[rows, y] -= 1
    delta /= np.float32(len(y))
    grads: list[Any] = []
    for layer in range(len(inputs) - 1, -1, -1):
        grads = [inputs[layer].T @ delta, delta.sum(axis=0), *grads]
        if layer:
            delta = (delta @ params[2 * layer].T) * (inputs[layer] > 0)
    return value, grads
