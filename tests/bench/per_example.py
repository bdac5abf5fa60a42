"""Per-example gradients of a tiny network: vmap of grad over 1024 examples."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_entrant, jax_entrant, torch_contenders
from tests.bench.workload import Entrant, Workload

INPUTS, HIDDEN, BATCH = 4, 8, 1024
COUNTED = f"tanh network {INPUTS}-{HIDDEN}-1, squared error; every parameter's gradient for each of {BATCH} examples"


def workloads(quick: bool) -> list[Workload]:
    size = INPUTS * HIDDEN + 2 * HIDDEN + 1
    return [
        Workload(
            "per_example", f"per-example gradients of a {INPUTS}-{HIDDEN}-1 net, batch {BATCH}, f32", COUNTED,
            {"gradc": _ours, "JAX": _jax, **torch_contenders(_torch)},
            tolerance=1e-5, moved=4 * BATCH * (size + INPUTS + 1), goal=1.3,
        )
    ]  # fmt: skip


def given() -> tuple[list[Any], Any, Any]:
    rng = np.random.default_rng(0)
    shapes = ((INPUTS, HIDDEN), (HIDDEN,), (HIDDEN,), ())
    params = [np.asarray(rng.standard_normal(s) / math.sqrt(INPUTS), np.float32) for s in shapes]
    return params, rng.standard_normal((BATCH, INPUTS), np.float32), rng.standard_normal(BATCH, np.float32)


def loss(lib: Any) -> Any:
    def of(params: Any, x: Any, y: Any) -> Any:
        w, b, u, c = params
        return (lib.tanh(x @ w + b) @ u + c - y) ** 2

    return of


def _ours() -> Entrant:
    import gradc as gc

    return gradc_entrant(gc.vmap(gc.grad(loss(np)), in_axes=(None, 0, 0)), *given())


def _jax() -> Entrant:
    import jax
    import jax.numpy as jnp

    return jax_entrant(jax.vmap(jax.grad(loss(jnp)), in_axes=(None, 0, 0)), *given())


def _torch(wrap: Any) -> Entrant:
    import torch

    f = wrap(torch.func.vmap(torch.func.grad(loss(torch)), in_dims=(None, 0, 0)))
    params, x, y = given()
    return entrant(partial(f, [torch.tensor(p) for p in params], torch.tensor(x), torch.tensor(y)))
