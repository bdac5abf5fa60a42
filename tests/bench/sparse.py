"""Sparse Jacobians and Hessians beside asdex (patterns and colourings for JAX) and CasADi, and products beside SciPy's.

Evaluation is the matrix at a new point, everything prepared: gradc returns SciPy's CSR matrix, asdex a jitted BCOO of
JAX's, CasADi the values alone, through buffers.  Preparation is everything from the Python function to the first
matrix, in fresh processes.  Answers are compared by the product of the matrix with one vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import gradc_entrant, numpy_entrant
from tests.bench.workload import Builder, Entrant, Workload

EVALUATED = (
    "the sparse matrix of derivatives at one point, f64, pattern and colouring known: gradc as a "
    "scipy.sparse.csr_array with arrays of its own, asdex jitted, as a BCOO, CasADi the values alone, into a buffer"
)
PREPARED = (
    "from the Python function to the first sparse matrix, pattern and colouring included, best of 3 fresh processes in "
    "which only a trivial function was compiled before"
)
MULTIPLIED = "y = A x with the entries of A constant, f64, one vector; SciPy's CSR product of the same matrix"


@dataclass(frozen=True)
class Model:
    """A function in each library's terms; ``side`` is the root of the number of unknowns."""

    title: str
    f: Callable[[Any, Any], Any]  #: f(NumPy-like namespace, x)
    casadi: Callable[[Any, Any], Any]
    order: int = 1


def five_points(m: Any, x: Any) -> Any:
    side = int(np.sqrt(x.size))
    p = m.pad(x.reshape(side, side), 1)
    inside = p[1:-1, 1:-1]
    return (4 * inside - p[2:, 1:-1] - p[:-2, 1:-1] - p[1:-1, 2:] - p[1:-1, :-2] + m.exp(inside)).reshape(-1)


def _five_points_of_casadi(casadi: Any, x: Any) -> Any:
    side = int(np.sqrt(x.numel()))
    p = casadi.SX.zeros(side + 2, side + 2)
    p[1:-1, 1:-1] = casadi.reshape(x, side, side)
    inside = p[1:-1, 1:-1]
    return casadi.vec(4 * inside - p[2:, 1:-1] - p[:-2, 1:-1] - p[1:-1, 2:] - p[1:-1, :-2] + casadi.exp(inside))


def tridiagonal(m: Any, x: Any) -> Any:
    return m.concatenate([x[:1] ** 2 - x[1:2], m.sin(x[1:-1]) * x[2:] - x[:-2], x[-1:]])


def _tridiagonal_of_casadi(casadi: Any, x: Any) -> Any:
    return casadi.vertcat(x[0] ** 2 - x[1], casadi.sin(x[1:-1]) * x[2:] - x[:-2], x[-1])


def rosenbrock(m: Any, x: Any) -> Any:
    return m.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _rosenbrock_of_casadi(casadi: Any, x: Any) -> Any:
    return casadi.sum1(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


MODELS = {
    "tridiagonal": Model("tridiagonal Jacobian", tridiagonal, _tridiagonal_of_casadi),
    "five-points": Model("Jacobian of a 5-point stencil", five_points, _five_points_of_casadi),
    "rosenbrock": Model("Hessian of Rosenbrock's function", rosenbrock, _rosenbrock_of_casadi, order=2),
}
#: the largest matrices for the peers, whose preparation takes minutes beyond
SIDE, LARGE = 316, 1000


def workloads(quick: bool) -> list[Workload]:
    side = 100 if quick else SIDE
    rows = [
        Workload(
            f"sparse/{name}/{side**2}", f"{model.title}, n = {side**2:,}, f64", EVALUATED, _contenders(name, side),
            tolerance=1e-12, goal=2.0, against="asdex", also={"CasADi VM": 2.0}, dtype="float64",
        )
        for name, model in MODELS.items()
    ]  # fmt: skip
    rows += [
        Workload(
            f"sparse/first/{name}", f"first call: {model.title}, n = {side**2:,}", PREPARED, _contenders(name, side),
            tolerance=0.0, goal=5.0, against="asdex", also={"CasADi VM": 5.0}, measure="compile",
        )
        for name, model in MODELS.items()
    ]  # fmt: skip
    return rows + [
        Workload(
            f"sparse/product/{name}", f"{title}, f64", MULTIPLIED,
            {"gradc": partial(_product, make), "NumPy": partial(_scipys, make)},
            tolerance=1e-12, goal=1.0, against="NumPy", dtype="float64", note=NOTE if name == "stencil" else "",
        )
        for name, (title, make) in MATRICES.items()
    ]  # fmt: skip


def _contenders(name: str, side: int) -> dict[str, Builder]:
    return {
        "gradc": partial(_ours, name, side),
        "asdex": partial(_asdex, name, side),
        "CasADi VM": partial(_casadi, name, side),
    }


def _point(side: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.random(side**2), random.standard_normal(side**2)


def _ours(name: str, side: int) -> Entrant:
    import gradc as gc
    import gradc.numpy as gnp

    model, (x, v) = MODELS[name], _point(side)
    transform: Any = gc.sparse_hessian if model.order == 2 else gc.sparse_jacobian
    derivative = transform(partial(model.f, gnp)).prepare(x)
    return Entrant(partial(derivative, x), lambda: [derivative(x) @ v])


def _asdex(name: str, side: int) -> Entrant:
    import asdex
    import jax
    import jax.numpy as jnp

    model, (x, v) = MODELS[name], _point(side)
    point = jnp.asarray(x)
    derivative = jax.jit((asdex.hessian if model.order == 2 else asdex.jacobian)(partial(model.f, jnp), point))
    return Entrant(
        lambda: jax.block_until_ready(derivative(point).data), lambda: [np.asarray(derivative(point) @ jnp.asarray(v))]
    )


def _casadi(name: str, side: int) -> Entrant:
    import casadi
    from scipy.sparse import csc_array

    model, (x, v) = MODELS[name], _point(side)
    unknown = casadi.SX.sym("x", side**2)
    y = model.casadi(casadi, unknown)
    matrix = casadi.hessian(y, unknown)[0] if model.order == 2 else casadi.jacobian(y, unknown)
    function = casadi.Function("derivative", [unknown], [matrix])
    buffer, trigger = function.buffer()
    entries = np.zeros(function.nnz_out(0))
    buffer.set_arg(0, memoryview(x))
    buffer.set_res(0, memoryview(entries))
    places = function.sparsity_out(0)

    def values() -> list[Any]:
        trigger()
        return [csc_array((entries, places.row(), places.colind()), shape=places.shape) @ v]

    held = (function, buffer, x, entries)
    return Entrant(trigger, values, lambda: held and None)  # the lambda keeps the buffers alive


# -- products ----------------------------------------------------------------------------------------------------------

NOTE = "rows of equal length stand 32 side by side in the lanes; on one core SciPy's loop is bound by memory as well"


def _stencil() -> Any:
    from scipy.sparse import diags_array

    n = LARGE**2
    return diags_array([4.0, -1.0, -1.0, -1.0, -1.0], offsets=[0, -LARGE, -1, 1, LARGE], shape=(n, n)).tocsr()


def _scattered() -> Any:
    from scipy.sparse import random_array

    n = LARGE**2
    return random_array((n, n), density=8 / n, format="csr", rng=np.random.default_rng(0))


MATRICES: dict[str, tuple[str, Callable[[], Any]]] = {
    "stencil": ("sparse product, 5-point stencil, n = 1,000,000", _stencil),
    "scattered": ("sparse product, 8,000,000 random entries, n = 1,000,000", _scattered),
}


def _product(make: Callable[[], Any]) -> Entrant:
    matrix = make()
    return gradc_entrant(lambda x: matrix @ x, _point(LARGE)[0])


def _scipys(make: Callable[[], Any]) -> Entrant:
    matrix = make()
    return numpy_entrant(lambda x: matrix @ x, _point(LARGE)[0])
