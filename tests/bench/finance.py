"""Black–Scholes: the price of a European call and five greeks by automatic differentiation, for a million options."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import Function, entrant, gradc_entrant, jax_entrant, numpy_entrant, torch_contenders
from tests.bench.workload import Entrant, Workload

COUNTED = (
    "price, delta, theta, rho, vega by reverse mode, gamma forward over reverse; fresh outputs for everybody; "
    "NumPy evaluates the textbook's closed forms"
)
NOTE = (
    "one loop of some 290 vector instructions, 144 of them for the two units that multiply: 72 cycles a vector at "
    "least, of 131; in cache it takes as long, and stores that bypass the caches change nothing; in passes "
    "over strips, values waiting in the first-level cache, float64 is a tenth faster in cache and float32 is not, and "
    "both are slower from memory"
)


def workloads(quick: bool) -> list[Workload]:
    n = 100_000 if quick else 1_000_000
    return [_row(n, dtype) for dtype in ("float32", "float64")]


def _row(n: int, dtype: str) -> Workload:
    def ours() -> Entrant:
        from examples.black_scholes_greeks import price_and_greeks

        return gradc_entrant(price_and_greeks, *market(n, dtype))

    def numpy() -> Entrant:
        return numpy_entrant(closed_form, *market(n, dtype))

    short = "f" + dtype[5:]
    return Workload(
        f"finance/{short}", f"Black–Scholes + 5 greeks, {n:,} options, {short}", COUNTED,
        {"gradc": ours, "JAX": lambda: _jax(n, dtype), **torch_contenders(lambda wrap: _torch(wrap, n, dtype)),
         "NumPy": numpy},
        tolerance=2e-4 if dtype == "float32" else 1e-9, moved=11 * n * np.dtype(dtype).itemsize,
        goal=1.8, limit="within 1.2× of the arithmetic or bandwidth bound", dtype=dtype, note=NOTE,
    )  # fmt: skip


def market(n: int, dtype: str) -> tuple[Any, ...]:
    from examples.black_scholes_greeks import options

    return tuple(a.astype(dtype) for a in options(n))


def price(lib: Any, erf: Function) -> Function:
    """The price in another library's functions."""

    def of(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
        d1 = (lib.log(s / k) + (r + 0.5 * v**2) * t) / (v * lib.sqrt(t))
        d2 = d1 - v * lib.sqrt(t)
        cdf = [0.5 * (1 + erf(d / math.sqrt(2))) for d in (d1, d2)]
        return s * cdf[0] - k * lib.exp(-r * t) * cdf[1]

    return of


def _jax(n: int, dtype: str) -> Entrant:
    import jax
    import jax.numpy as jnp

    of = price(jnp, jax.lax.erf)

    def total(*a: Any) -> Any:
        return jnp.sum(of(*a))

    def everything(*a: Any) -> Any:
        delta, dt, rho, vega = jax.grad(total, (0, 2, 3, 4))(*a)
        gamma = jax.jvp(lambda s: jax.grad(total)(s, *a[1:]), (a[0],), (jnp.ones_like(a[0]),))[1]
        return of(*a), delta, -dt, rho, vega, gamma

    return jax_entrant(everything, *market(n, dtype))


def _torch(wrap: Any, n: int, dtype: str) -> Entrant:
    """Eager: double backward on the tape.  Compiled: torch.func, which torch.compile traces through."""
    import torch

    of = price(torch, torch.erf)
    arrays = [torch.tensor(a) for a in market(n, dtype)]

    def eager() -> Any:
        leaves = [a.requires_grad_(True) for a in arrays]
        value = of(*leaves)
        delta, dt, rho, vega = torch.autograd.grad(value.sum(), [leaves[i] for i in (0, 2, 3, 4)], create_graph=True)
        (gamma,) = torch.autograd.grad(delta.sum(), leaves[0])
        return [a.detach() for a in (value, delta, -dt, rho, vega, gamma)]

    def functional(*a: Any) -> Any:
        grad = torch.func.grad(lambda *b: of(*b).sum(), (0, 2, 3, 4))
        delta, dt, rho, vega = grad(*a)
        first = torch.func.grad(lambda *b: of(*b).sum())
        gamma = torch.func.grad(lambda s: first(s, *a[1:]).sum())(a[0])
        return of(*a), delta, -dt, rho, vega, gamma

    if wrap is torch.compile:
        return entrant(partial(wrap(functional), *arrays))
    return entrant(eager)


def closed_form(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
    """The textbook's formulas, by hand."""
    from scipy.special import ndtr

    root = v * np.sqrt(t)
    d1 = (np.log(s / k) + (r + 0.5 * v**2) * t) / root
    d2 = d1 - root
    density, discount = np.exp(-0.5 * d1**2) * s.dtype.type(1 / math.sqrt(2 * math.pi)), k * np.exp(-r * t)
    n1, n2 = ndtr(d1), ndtr(d2)
    theta = -s * density * v / (2 * np.sqrt(t)) - r * discount * n2
    return s * n1 - discount * n2, n1, theta, discount * t * n2, s * density * np.sqrt(t), density / (s * root)
