"""Hessians and Jacobians whole, beside those that JAX and PyTorch push a dense identity through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_entrant, jax_entrant, torch_contenders
from tests.bench.workload import Builder, Entrant, Workload

COUNTED = "the whole array of second (or first) derivatives, f64, by each library's own hessian or jacobian, jitted"
Arrays = Sequence[Any]


@dataclass(frozen=True)
class Model:
    """A function in each library's terms, and what it is called with; the first ``of`` arguments are differentiated."""

    title: str
    given: Callable[[], Arrays]
    loss: Callable[..., Any]  #: loss(np-like namespace, *arguments)
    of: int = 1
    order: int = 2
    flops: int = 0  #: of the products in the closed form


def random(*shapes: tuple[int, ...], scale: float = 0.3) -> Arrays:
    rng = np.random.default_rng(0)
    return [scale * rng.standard_normal(shape) for shape in shapes]


# -- the models, written once; ``m`` has the library's functions -----------------------------------------------------


def logistic(m: Any, w: Any, X: Any, y: Any) -> Any:
    z = X @ w
    return (m.logaddexp(0.0 * z, z) - y * z).mean()


def softmax_regression(m: Any, W: Any, X: Any, Y: Any) -> Any:
    z = X @ W
    return (m.logsumexp(z) - (z * Y).sum(1)).mean()


def network(m: Any, W1: Any, W2: Any, X: Any, Y: Any) -> Any:
    z = m.tanh(X @ W1) @ W2
    return (m.logsumexp(z) - (z * Y).sum(1)).mean()


def factorisation(m: Any, U: Any, V: Any, M: Any) -> Any:
    return 0.5 * ((U @ V.T - M) ** 2).sum()


def softmax(m: Any, z: Any) -> Any:
    e = m.exp(z - m.max(z))
    return e / e.sum()


def _points(n: int, d: int) -> Arrays:
    w, X = random((d,), (n, d))
    return [w, X, (X @ w > 0) * 1.0]


def _classes(n: int, *sizes: int) -> Arrays:
    weights = random(*pairwise(sizes))
    X = np.random.default_rng(1).standard_normal((n, sizes[0]))
    return [*weights, X, np.eye(sizes[-1])[np.random.default_rng(2).integers(0, sizes[-1], n)]]


MODELS = {
    "logistic/1000x100": Model(
        "logistic regression 1000 × 100", partial(_points, 1000, 100), logistic, flops=2 * 1000 * 100**2
    ),
    "logistic/5000x100": Model(
        "logistic regression 5000 × 100", partial(_points, 5000, 100), logistic, flops=2 * 5000 * 100**2
    ),
    "logistic/1000x300": Model(
        "logistic regression 1000 × 300", partial(_points, 1000, 300), logistic, flops=2 * 1000 * 300**2
    ),
    "softmax/500x20x5": Model(
        "softmax regression 500 × 20, 5 classes", partial(_classes, 500, 20, 5), softmax_regression
    ),
    "network/16-12-4": Model("network 16-12-4, batch 200", partial(_classes, 200, 16, 12, 4), network, of=2),
    "network/8-8-3": Model("network 8-8-3, batch 32", partial(_classes, 32, 8, 8, 3), network, of=2),
    "factorisation/40x30x5": Model(
        "matrix factorisation 40 × 30, rank 5", partial(random, (40, 5), (30, 5), (40, 30)), factorisation, of=2
    ),
    "softmax/500": Model("softmax of 500 numbers: Jacobian", partial(random, (500,)), softmax, order=1),
    "tanh/1000": Model(
        "elementwise tanh of 1000 numbers: Jacobian", partial(random, (1000,)), lambda m, z: m.tanh(z), order=1
    ),
}  # fmt: skip
QUICK = ("logistic/1000x100", "factorisation/40x30x5")


def workloads(quick: bool) -> list[Workload]:
    return [
        Workload(
            f"hessians/{name}", f"{model.title}, f64", COUNTED, _contenders(name), tolerance=1e-9,
            flops=model.flops, goal=1.0, against="JAX", dtype="float64",
        )
        for name, model in MODELS.items() if name in QUICK or not quick
    ]  # fmt: skip


def _contenders(name: str) -> dict[str, Builder]:
    return {"gradc": partial(_ours, name), "JAX": partial(_jax, name), **torch_contenders(partial(_torch, name))}


def _argnums(model: Model) -> int | tuple[int, ...]:
    return 0 if model.of == 1 else tuple(range(model.of))


def _ours(name: str) -> Entrant:
    import gradc as gc

    class Functions:
        logaddexp, tanh, exp, max = np.logaddexp, np.tanh, np.exp, np.max
        logsumexp = staticmethod(lambda z: gc.special.logsumexp(z, axis=1))

    model = MODELS[name]
    transform: Any = gc.hessian if model.order == 2 else gc.jacobian
    return gradc_entrant(transform(partial(model.loss, Functions), _argnums(model)), *model.given())


def _jax(name: str) -> Entrant:
    import jax
    import jax.numpy as jnp

    class Functions:
        logaddexp, tanh, exp, max = jnp.logaddexp, jnp.tanh, jnp.exp, jnp.max
        logsumexp = staticmethod(lambda z: jax.nn.logsumexp(z, axis=1))

    model = MODELS[name]
    transform: Any = jax.hessian if model.order == 2 else jax.jacobian
    return jax_entrant(transform(partial(model.loss, Functions), _argnums(model)), *model.given())


def _torch(name: str, wrap: Any) -> Entrant:
    import torch

    class Functions:
        logaddexp, tanh, exp, max = torch.logaddexp, torch.tanh, torch.exp, torch.max
        logsumexp = staticmethod(lambda z: torch.logsumexp(z, 1))

    model = MODELS[name]
    transform: Any = torch.func.hessian if model.order == 2 else torch.func.jacrev
    derivative = wrap(transform(partial(model.loss, Functions), _argnums(model)))
    return entrant(partial(derivative, *[torch.tensor(a) for a in model.given()]))
