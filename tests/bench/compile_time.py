"""Compilation: from the Python function to the first answer, in fresh processes, cold and warm.

Cold: imports are done, a trivial function has been compiled (the backend is started, code shared by all compilations is
there), the step itself is in no cache.  From disk: a second process finds what the first left (gradc only; tracing and
differentiation included).  With nothing ready: not even the trivial function was compiled before.  The training steps
are those of the other tables; the chain is one recurrence of 800 written-out steps, the scalar graph a random
straight-line program over scalars.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from tests.bench import mechanism
from tests.bench.peers import casadi_contenders, gradc_entrant, jax_entrant
from tests.bench.workload import Builder, Entrant, Workload

CHAIN = 800
NOTE = (
    "Python's part is some 45 µs a node (trace 13, passes 11, schedule 13, emit 7), LLVM's 25 to 40, at any size up to "
    "100,000; JAX's time grows faster than the graph and was beyond 190 s at 10,000 nodes"
)
COUNTED = (
    "trace, differentiate, compile and run once, best of 3 fresh processes (torch.compile: one) in which only a "
    "trivial function was compiled before; *from disk*: with gradc's cache, tracing included; *with nothing ready*: "
    "not even the trivial function before; the goal is against JAX where it runs, for the mechanism against CasADi's C"
)
#: row of another family whose contenders' first calls are taken
STEPS = {
    "mlp": ("networks", "mlp/small/adam"),
    "conv": ("convnet", "conv"),
    "transformer": ("transformer", "transformer"),
}
#: the largest scalar graph for each peer: JAX takes minutes for 10,000 nodes, CasADi's C compiler for more
LARGEST = {"JAX": 3_000, "CasADi": 10_000}


def workloads(quick: bool) -> list[Workload]:
    rows = [_row(name, f"{name} step", _of_family(*place)) for name, place in STEPS.items()]
    chain: dict[str, Builder] = {"gradc": _ours_chain, "JAX": _jax_chain}
    rows.append(_row("chain", f"value and gradient of a chain of {CHAIN} steps", chain))
    for n in (1_000, 10_000) if quick else (1_000, 3_000, 10_000, 100_000):
        contenders: dict[str, Builder] = {"gradc": partial(_ours_scalars, n)}
        if n <= LARGEST["JAX"]:
            contenders |= {"JAX": partial(_jax_scalars, n)}
        if n <= LARGEST["CasADi"]:
            contenders |= casadi_contenders(partial(_casadi_scalars, n), [given()], [()])
        rows.append(_row(f"scalars/{n}", f"scalar graph of {n:,} nodes", contenders))
    rows.append(_row("mechanism", "7-link mechanism: value, gradient, Hessian", _mechanism()))
    return rows[:1] + rows[3:5] if quick else rows


def _row(name: str, title: str, contenders: dict[str, Builder]) -> Workload:
    note = NOTE if name.startswith("scalars") and "JAX" in contenders else ""
    order = (("CasADi C", 3.0), ("JAX", 5.0)) if name == "mechanism" else (("JAX", 5.0), ("CasADi C", 3.0))
    against, goal = next(((label, times) for label, times in order if label in contenders), (None, 0.0))
    also = {"torch.compile": 50.0} if "torch.compile" in contenders else {}
    return Workload(
        f"compile/{name}", f"first call: {title}", COUNTED, contenders, tolerance=0.0,
        goal=goal, against=against, measure="compile", also=also, note=note,
    )  # fmt: skip


def _of_family(family: str, name: str) -> dict[str, Builder]:
    (workload,) = (w for w in import_module(f"tests.bench.{family}").workloads(False) if w.name == name)
    return {label: workload.contenders[label] for label in ("gradc", "JAX", "torch.compile")}


def _mechanism() -> dict[str, Builder]:
    (workload,) = (w for w in mechanism.workloads(False) if w.name == "mechanism/hessian")
    return dict(workload.contenders)


# -- a chain -----------------------------------------------------------------------------------------------------------
def chain(tanh: Any) -> Any:
    def of(x: Any, w: Any) -> Any:
        for _ in range(CHAIN):
            x = tanh(w * x + 0.1)
        return (x * x).sum()

    return of


def _chain_arguments() -> tuple[Any, Any]:
    return np.linspace(-1, 1, 64), np.linspace(0.5, 1.5, 64)


def _ours_chain() -> Entrant:
    import gradc as gc

    return gradc_entrant(gc.value_and_grad(chain(np.tanh), argnums=(0, 1)), *_chain_arguments())


def _jax_chain() -> Entrant:
    import jax
    import jax.numpy as jnp

    return jax_entrant(jax.value_and_grad(chain(jnp.tanh), argnums=(0, 1)), *_chain_arguments())


# -- a random straight-line program over scalars -----------------------------------------------------------------------
def given() -> Any:
    return np.linspace(0.1, 0.9, 16)


def program(n: int, sin: Any) -> Any:
    """About n operations: each combines two recent values; the magnitudes stay near one."""

    def of(x: Any) -> Any:
        rng = np.random.default_rng(n)
        values = [x[i] for i in range(16)]
        choices = rng.integers(0, 24, (n, 2))
        for k in range(n // 2):
            a, b = (values[-1 - int(c) % len(values)] for c in choices[k])
            values.append(sin(a * b) if k % 8 == 0 else a * 0.5 + b * 0.5 if k % 2 else a * b + 0.25)
            values = values[-64:]
        return sum(values[-24:])

    return of


def _ours_scalars(n: int) -> Entrant:
    return gradc_entrant(program(n, np.sin), given())


def _jax_scalars(n: int) -> Entrant:
    import jax.numpy as jnp

    return jax_entrant(program(n, jnp.sin), given())


def _casadi_scalars(n: int) -> Any:
    import casadi as ca

    x = ca.SX.sym("x", 16)
    return ca.Function("program", [x], [program(n, ca.sin)(x)])
