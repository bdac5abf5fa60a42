"""Training loops of the peers, shared by the models: Adam with decoupled decay and clipping, the update in place.

Enters: a loss over a dict of parameters, the initial parameters, batches.  Leaves: a `Training`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from tests.bench.workload import Training

RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8
Batches = Sequence[tuple[Any, Any]]


def jax_training(
    loss: Callable[..., Any], initial: Callable[[], Any], batches: Batches, decay: float, clip: float | None
) -> Training:
    """Adam with decoupled decay of matrices, jitted whole, its state donated."""
    import jax
    import jax.numpy as jnp

    def moved(p: Any, m: Any, v: Any, t: Any) -> Any:
        direction = m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
        return p - RATE * (direction + decay * p if decay and p.ndim > 1 else direction)

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(loss)(params, x, y)
        if clip is not None:
            norm = jnp.sqrt(sum(jnp.sum(a * a) for a in jax.tree.leaves(g)))
            g = jax.tree.map(lambda a: a * jnp.minimum(1, clip / norm), g)
        t = t + 1
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, g)
        return jax.tree.map(lambda p, m, v: moved(p, m, v, t), params, m, v), m, v, t, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def start() -> Any:
        params = jax.tree.map(jnp.array, initial())
        zeros = partial(jax.tree.map, jnp.zeros_like, params)
        return params, zeros(), zeros(), jnp.zeros((), jnp.float32)

    on_device = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]
    return Training(start, lambda *state: jax.block_until_ready(compiled(*state)), on_device)


def torch_training(
    loss: Callable[..., Any], initial: Callable[[], Any], optimizer: Callable[[Any], Any], batches: Iterable[Any],
    clip: float | None,
) -> Training:  # fmt: skip
    import torch

    def start() -> Any:
        params = {name: torch.tensor(a, requires_grad=True) for name, a in initial().items()}
        return params, optimizer(params)

    def step(params: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = loss(params, x, y)
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
        return params, optimizer, value.detach()

    return Training(start, step, [(torch.tensor(x), torch.tensor(y)) for x, y in batches])
