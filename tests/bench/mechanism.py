"""A planar chain of seven links: kinetic and potential energy, gradient and Hessian of a scalar-heavy expression.

Links of different lengths, masses and inertias hang on each other; q are the joint angles, v the joint velocities.
Σ ½mᵢ|ċᵢ|² + ½Iᵢωᵢ² − Σ mᵢ g yᵢ is the Lagrangian, differentiated with respect to q.  One Python function over scalars
serves gradc, CasADi and JAX, so all see the very same expression.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import buffered, casadi_contenders, compiled_c, gradc_entrant, jax_entrant
from tests.bench.workload import Builder, Entrant, Workload

LINKS, BATCH = 7, 1024
LENGTHS = (0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15)
MASSES = (3.0, 2.5, 2.0, 1.5, 1.2, 0.8, 0.5)
GRAVITY = 9.81
ONE = "scalar values; buffers prepared once (gradc: `bind`); CasADi's C is loaded again by CasADi"
MANY = f"{BATCH} states at once: gradc and JAX by vmap, CasADi's C in the C loop of its `map`"
NOTE = (
    "the seven tangents of a state fill seven of eight lanes, and what they share is computed in one; with the states "
    "in the lanes the seven columns would be written eight bytes at a time; their 310 vector instructions a state, at "
    "two and a half a cycle, the gradient's 27 µs and 9 µs of copying come to 67 µs: 2.3 times CasADi's C"
)


def workloads(quick: bool) -> list[Workload]:
    return [_single(what) for what in ("value", "gradient", "hessian")] + [
        _batch(what) for what in ("value", "gradient", "hessian")
    ]


def lagrangian(q: Any, v: Any, sin: Any, cos: Any) -> Any:
    """Energy difference of the chain; ``q`` and ``v`` are sequences of seven scalars."""
    angle, rate, x_rate, y_rate, height, total = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(LINKS):
        angle, rate = angle + q[i], rate + v[i]
        s, c, half = sin(angle), cos(angle), 0.5 * LENGTHS[i]
        centre_x, centre_y = x_rate + half * c * rate, y_rate + half * s * rate
        inertia = MASSES[i] * LENGTHS[i] ** 2 / 12
        kinetic = 0.5 * MASSES[i] * (centre_x * centre_x + centre_y * centre_y) + 0.5 * inertia * (rate * rate)
        total = total + kinetic + MASSES[i] * GRAVITY * (height + half * c)
        x_rate, y_rate = x_rate + LENGTHS[i] * c * rate, y_rate + LENGTHS[i] * s * rate
        height = height + LENGTHS[i] * c
    return total


def state(batch: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    shape = (batch, LINKS) if batch else (LINKS,)
    return rng.uniform(-1.0, 1.0, shape), rng.uniform(-2.0, 2.0, shape)


def _single(what: str) -> Workload:
    shapes = {"value": [()], "gradient": [(), (LINKS,)], "hessian": [(), (LINKS,), (LINKS, LINKS)]}[what]
    contenders: dict[str, Builder] = {
        "gradc": partial(_ours, what),
        **casadi_contenders(partial(_casadi, what), state(), shapes),
        "JAX": partial(_jax, what),
    }
    return Workload(
        f"mechanism/{what}", f"7-link mechanism: {CONTENT[what]}, f64", ONE, contenders, tolerance=1e-12, goal=1.0,
        dtype="float64",
    )  # fmt: skip


CONTENT = {"value": "value", "gradient": "value, gradient", "hessian": "value, gradient, Hessian"}


def _batch(what: str) -> Workload:
    return Workload(
        f"mechanism/{what}/batch", f"7-link mechanism: {CONTENT[what]}, batch {BATCH}, f64", MANY,
        {"gradc": partial(_ours, what, BATCH), "CasADi C": partial(_casadi_loop, what),
         "JAX": partial(_jax, what, BATCH)},
        tolerance=1e-12, goal=4.0, limit="lanes full", dtype="float64", note=NOTE if what == "hessian" else "",
    )  # fmt: skip


def _ours(what: str, batch: int = 0) -> Entrant:
    import gradc as gc

    def energy(q: Any, v: Any) -> Any:
        return lagrangian(list(q), list(v), np.sin, np.cos)

    def everything(q: Any, v: Any) -> Any:
        if what == "value":
            return energy(q, v)
        value, gradient = gc.value_and_grad(energy)(q, v)
        return (value, gradient, gc.hessian(energy)(q, v)) if what == "hessian" else (value, gradient)

    return gradc_entrant(gc.vmap(everything) if batch else everything, *state(batch), bound=True)


def _jax(what: str, batch: int = 0) -> Entrant:
    import jax
    import jax.numpy as jnp

    def energy(q: Any, v: Any) -> Any:
        return lagrangian(q, v, jnp.sin, jnp.cos)

    def everything(q: Any, v: Any) -> Any:
        if what == "value":
            return energy(q, v)
        value, gradient = jax.value_and_grad(energy)(q, v)
        return (value, gradient, jax.hessian(energy)(q, v)) if what == "hessian" else (value, gradient)

    return jax_entrant(jax.vmap(everything) if batch else everything, *state(batch))


def _casadi(what: str) -> Any:
    import casadi as ca

    q, v = ca.SX.sym("q", LINKS), ca.SX.sym("v", LINKS)
    value = lagrangian([q[i] for i in range(LINKS)], [v[i] for i in range(LINKS)], ca.sin, ca.cos)
    results = [value]
    if what != "value":
        results.append(ca.gradient(value, q))
    if what == "hessian":
        results.append(ca.densify(ca.hessian(value, q)[0]))
    return ca.Function("mechanism", [q, v], ca.cse(results))


def _casadi_loop(what: str) -> Entrant:
    """CasADi's own C driver for many points is ``map``: generated as a C loop over the states, a column for each."""
    many = compiled_c(_casadi(what).map(BATCH))
    sizes = {"value": [1], "gradient": [1, LINKS], "hessian": [1, LINKS, LINKS * LINKS]}[what]
    shapes = {"value": [()], "gradient": [(), (LINKS,)], "hessian": [(), (LINKS,), (LINKS, LINKS)]}[what]
    loop = buffered(many, [a.T for a in state(BATCH)], [(size, BATCH) for size in sizes])

    def values() -> list[Any]:
        return [a.T.reshape((BATCH, *shape)) for a, shape in zip(loop.values(), shapes, strict=True)]

    return Entrant(loop.call, values, loop.reset)
