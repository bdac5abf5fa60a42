"""Rosenbrock's valley, value and gradient in one call, from ten variables to a million."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import casadi_contenders, entrant, gradc_entrant, jax_entrant, torch_contenders
from tests.bench.workload import Builder, Entrant, Workload

COUNTED = {
    10: "buffers prepared once: gradc through `bind`, CasADi's C through its buffers, numba fills a given gradient",
    1_000: "numba is one loop by hand that fills a given gradient; gradc through `bind`",
    1_000_000: "gradc with fresh outputs; numba fills a given gradient; bytes: x read once, gradient written once",
}


def workloads(quick: bool) -> list[Workload]:
    return [_row(n) for n in COUNTED]


def _row(n: int) -> Workload:
    contenders: dict[str, Builder] = {
        "gradc": partial(_ours, n),
        "JAX": partial(_jax, n),
        **torch_contenders(partial(_torch, n)),
        "numba": partial(_numba, n),
    }
    if n <= 1_000:
        contenders |= casadi_contenders(partial(_casadi, n), [start(n)], [(), (n,)])
    return Workload(
        f"rosenbrock/{n}", f"Rosenbrock value + gradient, n = {n:,}, f64", COUNTED[n], contenders,
        tolerance=1e-12, moved=16 * n, goal=1.2, limit="bandwidth" if n > 1_000 else "", dtype="float64",
    )  # fmt: skip


def start(n: int) -> Any:
    return np.linspace(-1.0, 1.0, n)


def _ours(n: int) -> Entrant:
    import gradc as gc
    from examples.rosenbrock_scipy import rosenbrock

    return gradc_entrant(gc.value_and_grad(rosenbrock), start(n), bound=n <= 1_000)


def _jax(n: int) -> Entrant:
    import jax
    import jax.numpy as jnp

    f = jax.value_and_grad(lambda x: jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
    return jax_entrant(f, start(n))


def _torch(n: int, wrap: Any) -> Entrant:
    import torch

    def value(x: Any) -> Any:
        return torch.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = torch.tensor(start(n), requires_grad=wrap is not torch.compile)

    def eager() -> Any:
        result = value(x)
        return result.detach(), *torch.autograd.grad(result, (x,))

    if wrap is not torch.compile:
        return entrant(eager)
    compiled = wrap(lambda x: torch.func.grad_and_value(value)(x)[::-1])
    return entrant(partial(compiled, x))


def _casadi(n: int) -> Any:
    import casadi as ca

    x = ca.SX.sym("x", n)
    value = ca.sum1(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return ca.Function("rosenbrock", [x], [value, ca.gradient(value, x)])


def _numba(n: int) -> Entrant:
    import numba

    @numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
    def value_and_gradient(x, g):  # type: ignore[no-untyped-def]
        total, carried = 0.0, 0.0
        for i in range(x.shape[0] - 1):
            d = x[i + 1] - x[i] * x[i]
            r = 1.0 - x[i]
            total += 100.0 * d * d + r * r
            g[i] = carried - 400.0 * x[i] * d - 2.0 * r
            carried = 200.0 * d
        g[-1] = carried
        return total

    x, g = start(n), np.empty(n)

    def values() -> list[Any]:
        return [np.array(value_and_gradient(x, g)), g.copy()]

    return Entrant(partial(value_and_gradient, x, g), values)
