"""Factorisations of matrices, large ones and stacks of small ones, against LAPACK and what calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import flat, gradc_entrant, jax_entrant, numpy_entrant
from tests.bench.workload import Entrant, Workload

COUNTED = "f64, fresh outputs, called from Python; NumPy where it has the function, else SciPy; FLOP as LAPACK counts"


@dataclass(frozen=True)
class Case:
    """A function by its name in ``numpy.linalg`` or ``scipy.linalg``, of matrices of a stack (or one) n × n."""

    name: str
    n: int
    stack: int
    flops: float  #: of one matrix, in n³
    goal: float  #: times NumPy with AVX-512
    jax: float  #: times JAX
    tolerance: float = 1e-9


STACK = 1024
CASES = (
    Case("solve", 6, STACK, 2 / 3, 10.0, 5.0, 1e-6),
    Case("cholesky", 6, STACK, 1 / 3, 3.0, 3.0),
    Case("inv", 6, STACK, 2, 3.0, 3.0, 1e-6),
    Case("qr", 6, STACK, 8 / 3, 3.0, 3.0),
    Case("eigh", 6, STACK, 9, 3.0, 3.0, 1e-6),
    Case("svd", 6, STACK, 20, 3.0, 3.0, 1e-6),
    *(
        Case(name, n, 0, flops, 0.9, 1.0)
        for n in (512, 1024)
        for name, flops in (("cholesky", 1 / 3), ("solve_triangular", 1), ("lu_factor", 2 / 3), ("qr", 8 / 3))
    ),
    Case("eigh", 256, 0, 9, 0.5, 0.5, 1e-6),
    Case("svd", 256, 0, 20, 0.5, 0.5, 1e-6),
)


def workloads(quick: bool) -> list[Workload]:
    return [_row(case) for case in CASES if not quick or case.stack]


def _row(case: Case) -> Workload:
    count = max(case.stack, 1)
    size = f"{case.stack} of {case.n} × {case.n}" if case.stack else f"{case.n} × {case.n}"
    return Workload(
        f"factorisations/{case.name}/{case.n}", f"{case.name}, {size}, f64", COUNTED,
        {
            "gradc": partial(_ours, case), "NumPy": partial(_numpy, case), "NumPy AVX-512": partial(_numpy, case),
            "JAX": partial(_jax, case),
        },
        tolerance=case.tolerance, flops=int(count * case.flops * case.n**3), dtype="float64",
        goal=case.goal, against="NumPy AVX-512", also={"JAX": case.jax},
    )  # fmt: skip


def arguments(case: Case) -> list[Any]:
    rng = np.random.default_rng(0)
    n, lead = case.n, (case.stack,) if case.stack else ()
    a = rng.standard_normal((*lead, n, n))
    if case.name in ("cholesky", "eigh"):
        a = a @ a.swapaxes(-1, -2) / n + np.eye(n)
    if case.name == "solve_triangular":
        a = np.tril(a) + n * np.eye(n)
    return [a, rng.standard_normal((*lead, n, 1))] if case.name == "solve" else [a]


def _function(case: Case, linalg: Any, more: Any) -> Callable[..., Any]:
    """The function in a library whose ``linalg`` is NumPy's and whose ``more`` SciPy's."""
    if case.name == "solve_triangular":
        right = np.random.default_rng(1).standard_normal((case.n, case.n))
        return lambda a, b=right: more.solve_triangular(a, b, lower=True)
    return getattr(more if case.name == "lu_factor" else linalg, case.name)  # type: ignore[no-any-return]


def _compared(case: Case, made: Entrant) -> Entrant:
    """``made`` with answers that hold whatever the signs of vectors are."""
    return made if case.name not in ("eigh", "svd") else _without_signs(made)


def _without_signs(made: Entrant) -> Entrant:
    call = made.call
    made.values = lambda: [np.abs(x) for x in flat(call())]
    return made


def _ours(case: Case) -> Entrant:
    import gradc as gc

    return _compared(case, gradc_entrant(_function(case, np.linalg, gc.linalg), *arguments(case)))


def _numpy(case: Case) -> Entrant:
    import scipy.linalg

    return _compared(case, numpy_entrant(_function(case, np.linalg, scipy.linalg), *arguments(case)))


def _jax(case: Case) -> Entrant:
    import jax.numpy as jnp
    import jax.scipy.linalg

    return _compared(case, jax_entrant(_function(case, jnp.linalg, jax.scipy.linalg), *arguments(case)))
