"""Logistic regression on 5000 points in 100 dimensions: gradient, Hessian-vector product, Hessian."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_entrant, jax_entrant, numpy_entrant, torch_contenders
from tests.bench.workload import Builder, Entrant, Workload

POINTS, DIMENSIONS = 5000, 100
WHAT = {"gradient": "gradient", "hvp": "gradient + HVP", "hessian": "gradient + Hessian"}
#: products with the data: X w, Xᵀr; the same for a direction; and d columns at once
FLOPS = {
    "gradient": 4 * POINTS * DIMENSIONS,
    "hvp": 8 * POINTS * DIMENSIONS,
    "hessian": 4 * POINTS * DIMENSIONS + 2 * POINTS * DIMENSIONS**2,
}
COUNTED = "mean of log(1 + exp(−y·Xw)), f64; NumPy by hand with closed forms; FLOP: the products with the data alone"


def workloads(quick: bool) -> list[Workload]:
    return [
        Workload(
            f"logistic/{what}", f"logistic regression {POINTS} × {DIMENSIONS}: {title}, f64", COUNTED,
            _contenders(what), tolerance=1e-9, flops=FLOPS[what], moved=8 * POINTS * DIMENSIONS, goal=1.3,
            dtype="float64",
        )
        for what, title in WHAT.items()
    ]  # fmt: skip


def _contenders(what: str) -> dict[str, Builder]:
    return {
        "gradc": partial(_ours, what),
        "JAX": partial(_jax, what),
        **torch_contenders(partial(_torch, what)),
        "NumPy": partial(_numpy, what),
        "NumPy AVX-512": partial(_numpy, what),
    }


def given() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((POINTS, DIMENSIONS))
    w, v = 0.1 * rng.standard_normal(DIMENSIONS), rng.standard_normal(DIMENSIONS)
    y = np.where(X @ w + rng.standard_normal(POINTS) > 0, 1.0, -1.0)
    return w, v, X, y


def _ours(what: str) -> Entrant:
    import gradc as gc

    def loss(w: Any, X: Any, y: Any) -> Any:
        return np.logaddexp(0.0, -y * (X @ w)).mean()

    def everything(w: Any, v: Any, X: Any, y: Any) -> Any:
        gradient = gc.grad(loss)(w, X, y)
        if what == "gradient":
            return gradient
        if what == "hvp":
            return gradient, gc.hvp(lambda w: loss(w, X, y), (w,), (v,))
        return gradient, gc.hessian(loss)(w, X, y)

    return gradc_entrant(everything, *given())


def _jax(what: str) -> Entrant:
    import jax
    import jax.numpy as jnp

    def loss(w: Any, X: Any, y: Any) -> Any:
        return jnp.logaddexp(0.0, -y * (X @ w)).mean()

    def everything(w: Any, v: Any, X: Any, y: Any) -> Any:
        def gradient(w: Any) -> Any:
            return jax.grad(loss)(w, X, y)

        if what == "gradient":
            return gradient(w)
        if what == "hvp":
            return jax.jvp(gradient, (w,), (v,))
        return gradient(w), jax.hessian(loss)(w, X, y)

    return jax_entrant(everything, *given())


def _torch(what: str, wrap: Any) -> Entrant:
    import torch

    def loss(w: Any, X: Any, y: Any) -> Any:
        return torch.nn.functional.softplus(-y * (X @ w)).mean()

    def everything(w: Any, v: Any, X: Any, y: Any) -> Any:
        gradient = torch.func.grad(loss)
        if what == "gradient":
            return gradient(w, X, y)
        if what == "hvp":
            return torch.func.jvp(lambda w: gradient(w, X, y), (w,), (v,))
        return gradient(w, X, y), torch.func.hessian(loss)(w, X, y)

    return entrant(partial(wrap(everything), *[torch.tensor(a) for a in given()]))


def _numpy(what: str) -> Entrant:
    def everything(w: Any, v: Any, X: Any, y: Any) -> Any:
        p = 1.0 / (1.0 + np.exp(y * (X @ w)))
        gradient = X.T @ (-y * p / POINTS)
        if what == "gradient":
            return gradient
        curvature = p * (1 - p) / POINTS
        if what == "hvp":
            return gradient, X.T @ (curvature * (X @ v))
        return gradient, X.T @ (curvature[:, None] * X)

    return numpy_entrant(everything, *given())
