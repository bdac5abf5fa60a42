"""What one Python call costs when the work is next to nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import casadi_contenders, entrant, gradc_entrant, jax_entrant, numpy_entrant, torch_contenders
from tests.bench.workload import Builder, Entrant, Workload

BOUND = "x + 1 into a buffer fixed once: gradc's `bind`, CasADi's prebuilt buffers (VM and C), NumPy with out="
FRESH = "x + 1 with a fresh output from everybody; the timing loop's own 10 ns are in every figure"


def workloads(quick: bool) -> list[Workload]:
    return [_row(way, n) for way in ("bind", "fresh") for n in (0, 4)]


def _row(way: str, n: int) -> Workload:
    bound, x = way == "bind", np.arange(4.0) if n else np.array(0.5)
    contenders: dict[str, Builder] = {"gradc": partial(_ours, x, bound)}
    if bound:
        contenders |= casadi_contenders(partial(_casadi, n), [x], [x.shape])
        contenders["NumPy"] = lambda: entrant(partial(np.add, x, 1.0, out=np.empty_like(x)))
    else:
        contenders |= {"JAX": partial(_jax, x), **torch_contenders(partial(_torch, x))}
        contenders["NumPy"] = lambda: numpy_entrant(lambda x: x + 1, x)
    return Workload(
        f"calls/{way}/{n or 'scalar'}", f"call of x + 1, {'length 4' if n else 'scalar'}, {way}",
        BOUND if bound else FRESH, contenders, tolerance=0.0, goal=1.0 if bound else 20.0,
        limit="" if bound else "the goal is against JAX; 50 ns is the floor", dtype="float64",
        against=None if bound else "JAX",
    )  # fmt: skip


def _ours(x: Any, bound: bool) -> Entrant:
    return gradc_entrant(lambda x: x + 1, x, bound=bound)


def _casadi(n: int) -> Any:
    import casadi as ca

    x = ca.SX.sym("x", n or 1)
    return ca.Function("plus_one", [x], [x + 1])


def _jax(x: Any) -> Entrant:
    return jax_entrant(lambda x: x + 1, x)


def _torch(x: Any, wrap: Any) -> Entrant:
    import torch

    return entrant(partial(wrap(lambda x: x + 1), torch.tensor(x)))
