"""Run optax's and PyTorch's optimizers, and store what they do: ``python -m tests.peers.optimizers``.

Needs optax, jax and torch, which the tests do not: they read `optimizers.npz`, one array of parameters for each case,
a row for each of the steps `STORED`.  Everything is computed in float64: where a peer would compute in float32 whatever
its parameters are (schedules of int32 counts, Adafactor's decay, PyTorch's scalars), it is told not to.  Schedules are
stored by value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.peers.cases import CASES, STEPS, STORED, Case, Params, gradient, start, value
from tests.peers.schedules import COUNTS, SCHEDULES

FILE = Path(__file__).with_suffix(".npz")


def flat(params: Params) -> Any:
    """All parameters in one row."""
    return np.concatenate([np.ravel(params[name]) for name in sorted(params)])


def of_optax(case: Case) -> Any:
    """The parameters of an optimizer of optax after the steps that are stored."""
    import jax
    import optax

    assert case.optax is not None
    optimizer = optax.with_extra_args_support(case.optax(optax))
    params: Any = {k: jax.numpy.asarray(v) for k, v in start().items()}
    looks = "lookahead" in repr(case.optax.__code__.co_names)
    if looks:
        params = optax.LookaheadParams.init_synced(params)
    state, rows = optimizer.init(params), []
    if not case.value:  # reduce_on_plateau insists on int32
        state = jax.tree.map(_wide, state)
    step = jax.jit(lambda g, s, p, v: optimizer.update(g, s, p, **({"value": v} if case.value else {})))
    for i in range(STEPS):
        here = {k: np.asarray(v) for k, v in (params.fast if looks else params).items()}
        updates, state = step(gradient(here, i, case.nans), state, params, value(here))
        params = optax.apply_updates(params, updates)
        if i + 1 in STORED:
            rows.append(flat({k: np.asarray(v) for k, v in (params.fast if looks else params).items()}))
    return np.array(rows)


def _wide(x: Any) -> Any:
    """Counts as int64: a quotient of int32 is a float32 in JAX."""
    return x.astype(np.int64) if getattr(x, "dtype", None) == np.int32 else x


def _decay_rate(i: Any, exponent: float) -> Any:
    """Adafactor's decay, which optax computes in float32."""
    return 1.0 - (i + 1.0) ** -exponent


def of_torch(case: Case) -> Any:
    """The parameters of an optimizer of PyTorch after the steps that are stored."""
    import torch

    assert case.torch is not None
    params = {k: torch.tensor(v, requires_grad=True) for k, v in start().items()}
    optimizer, rows = case.torch(torch.optim, list(params.values())), []
    for i in range(STEPS):
        found = gradient({k: v.detach().numpy() for k, v in params.items()}, i, case.nans)
        for name, p in params.items():
            p.grad = torch.tensor(found[name])
        optimizer.step()
        if i + 1 in STORED:
            rows.append(flat({k: v.detach().numpy() for k, v in params.items()}))
    return np.array(rows)


def of_schedules() -> dict[str, Any]:
    """The values of optax's schedules."""
    import jax
    import optax

    return {
        f"schedule: {name}": np.asarray(jax.vmap(lambda n, f=f: f(optax)(n) + 0.0)(np.array(COUNTS)))
        for name, f in SCHEDULES.items()
    }


def main() -> None:
    import jax
    import torch
    from optax._src.factorized import scale_by_factored_rms

    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    scale_by_factored_rms.__defaults__ = (*scale_by_factored_rms.__defaults__[:-1], _decay_rate)
    stored = of_schedules()
    for name, case in CASES.items():
        stored[name] = of_optax(case) if case.peer == "optax" else of_torch(case)
        print(f"{name}: {stored[name][-1][:3]}", flush=True)
    np.savez_compressed(FILE, **stored)
    print(f"wrote {FILE}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
