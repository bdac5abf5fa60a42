"""One Adam or AdamW update of ten million parameters, in place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import gradc_facts
from tests.bench.workload import Entrant, Training, Workload

RATE, B1, B2, EPS, DECAY = 1e-3, 0.9, 0.999, 1e-8, 1e-2
#: read p, m, v, g; write p, m, v
PASSES = 7
COUNTED = (
    f"float32 parameters and both moments updated in place, gradient given; {PASSES} × 4 bytes per parameter; "
    "numba is one fused loop by hand with fast-math; PyTorch's optimizer is its fused one where it has it"
)


def workloads(quick: bool) -> list[Workload]:
    n = 1_000_000 if quick else 10_000_000
    return [_row(n, name) for name in ("adam", "adamw")]


def _row(n: int, name: str) -> Workload:
    decay = DECAY if name == "adamw" else 0.0
    return Workload(
        f"optimizers/{name}", f"{name} update of {n:,} parameters, f32", COUNTED,
        {"gradc": partial(_ours, n, decay), "JAX": partial(_jax, n, decay), "PyTorch": partial(_torch, n, decay),
         "numba": partial(_numba, n, decay)},
        tolerance=1e-5, moved=PASSES * 4 * n, goal=1.0, limit="bandwidth",
    )  # fmt: skip


def given(n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(n, dtype=np.float32), rng.standard_normal(n, dtype=np.float32)


class _Updates(Training):
    """A training loop without a loss, compared by some of its parameters after three steps."""

    def __init__(self, start: Any, step: Any):
        super().__init__(start, lambda *state: (*step(*state), None), [()])

    def entrant(self, steps: int = 3, **more: Any) -> Entrant:
        def values() -> list[Any]:
            self.reset()
            for _ in range(steps):
                self()
            return [np.array(self.state[0][:1000])]

        return Entrant(self, values, **more)


def _ours(n: int, decay: float) -> Entrant:
    import gradc as gc

    p, g = given(n)
    optimizer = gc.optim.adamw(RATE, B1, B2, EPS, weight_decay=decay) if decay else gc.optim.adam(RATE, B1, B2, EPS)

    def update(p: Any, state: Any, g: Any) -> Any:
        updates, state = optimizer.update(g, state, p)
        return gc.optim.apply_updates(p, updates), state

    step = gc.jit(update, donate=(0, 1))
    facts = gradc_facts(step.lower(p, optimizer.init(p), g))
    return _Updates(lambda: (p.copy(), optimizer.init(p)), lambda p, state: step(p, state, g)).entrant(**facts)


def _jax(n: int, decay: float) -> Entrant:
    import jax
    import jax.numpy as jnp

    p, g = given(n)

    def update(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
        t = t + 1
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        step = (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + EPS) + decay * p
        return p - RATE * step, m, v, t

    compiled = jax.jit(update, donate_argnums=(0, 1, 2, 3))
    gradient = jnp.asarray(g)

    def start() -> Any:
        return jnp.array(p), jnp.zeros(n, jnp.float32), jnp.zeros(n, jnp.float32), jnp.zeros((), jnp.float32)

    return _Updates(start, lambda *state: jax.block_until_ready(compiled(*state, gradient))).entrant()


def _torch(n: int, decay: float) -> Entrant:
    import torch

    p, g = given(n)
    gradient = torch.tensor(g)

    def start() -> Any:
        parameter = torch.tensor(p, requires_grad=True)
        parameter.grad = gradient
        kind: Any = torch.optim.AdamW if decay else torch.optim.Adam
        return parameter, kind([parameter], RATE, (B1, B2), EPS, decay, fused=True)

    def step(parameter: Any, optimizer: Any) -> Any:
        optimizer.step()
        return parameter, optimizer

    updates = _Updates(start, step)
    entrant = updates.entrant()

    def values() -> list[Any]:
        updates.reset()
        for _ in range(3):
            updates()
        return [updates.state[0].detach().numpy()[:1000]]

    return Entrant(entrant.call, values)


def _numba(n: int, decay: float) -> Entrant:
    import numba

    p, g = given(n)

    @numba.njit(fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def update(p, m, v, g, c1, c2, rate, b1, b2, eps, decay):  # type: ignore[no-untyped-def]
        one = np.float32(1)
        for i in range(p.shape[0]):
            m[i] = b1 * m[i] + (one - b1) * g[i]
            v[i] = b2 * v[i] + (one - b2) * g[i] * g[i]
            p[i] -= rate * ((m[i] * c1) / (np.sqrt(v[i] * c2) + eps) + decay * p[i])

    numbers = [np.float32(x) for x in (RATE, B1, B2, EPS, decay)]

    def start() -> Any:
        return p.copy(), np.zeros_like(p), np.zeros_like(p), 0

    def step(p: Any, m: Any, v: Any, t: int) -> Any:
        t += 1
        update(p, m, v, g, np.float32(1 / (1 - B1**t)), np.float32(1 / (1 - B2**t)), *numbers)
        return p, m, v, t

    return _Updates(start, step).entrant()
