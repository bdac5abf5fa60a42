"""Solving as one call: a minimisation, a linear system without a matrix, a gradient through an integration."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import buffered, entrant, gradc_facts, jax_entrant
from tests.bench.workload import Entrant, Workload

DIMENSIONS = 50
SIDE = 64
TIMES = np.linspace(0.0, 10.0, 21)
RATES = np.array([1.1, 0.4, 0.1, 0.4])
FIRST = np.array([10.0, 10.0])
TOLERANCE = 1e-8


def workloads(quick: bool) -> list[Workload]:
    rows = [
        Workload(
            "solvers/bfgs", f"BFGS on Rosenbrock's valley of {DIMENSIONS} variables, f64",
            "a whole minimisation from one start to a gradient of 1e-6, each by its own line search; SciPy's is given "
            "the gradient in NumPy", {"gradc": _bfgs, "SciPy": _bfgs_scipy}, tolerance=1e-4, dtype="float64", goal=2.0,
            note="jax.scipy.optimize.minimize of JAX 0.10 ends 1 away from the minimum, and is left out",
        ),
        Workload(
            "solvers/cg", f"conjugate gradients, Poisson's equation on {SIDE} × {SIDE}, f64",
            "a five-point stencil as a function, no matrix stored, to a relative residual of 1e-8; SciPy calls the "
            "stencil in NumPy", {"gradc": _cg, "JAX": _cg_jax, "SciPy": _cg_scipy},
            tolerance=1e-5, dtype="float64", goal=2.0,
        ),
        Workload(
            "solvers/odeint", "gradient through Lotka and Volterra's equations, 21 times, f64",
            "adaptive Dormand–Prince with relative and absolute tolerances of 1e-8; the gradient of the sum of all "
            "values with respect to four rates; JAX's and CasADi's (CVODES) by the continuous adjoint, gradc's the "
            "exact one of its steps", {"gradc": _ode, "JAX": _ode_jax, "diffrax": _ode_diffrax, "CasADi": _ode_casadi},
            tolerance=1e-4, dtype="float64", goal=2.0,
        ),
    ]  # fmt: skip
    return rows[:2] if quick else rows


# -- minimisation ------------------------------------------------------------------------------------------------------


def _valley(m: Any, x: Any) -> Any:
    return m.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _start() -> Any:
    return np.linspace(0.2, 0.8, DIMENSIONS)


def _bfgs() -> Entrant:
    import gradc as gc

    solve = gc.jit(lambda x: gc.minimize(partial(_valley, np), x, method="bfgs", tol=1e-6).x)
    x = _start()
    return entrant(lambda: solve(x), **gradc_facts(solve.lower(x)))


def _bfgs_scipy() -> Entrant:
    from scipy.optimize import minimize, rosen_der

    return entrant(
        lambda: minimize(partial(_valley, np), _start(), method="BFGS", jac=rosen_der, options={"gtol": 1e-6}).x
    )


# -- linear systems ----------------------------------------------------------------------------------------------------


def _stencil(m: Any, u: Any) -> Any:
    wide = m.pad(u, 1)
    return 4 * u - wide[2:, 1:-1] - wide[:-2, 1:-1] - wide[1:-1, 2:] - wide[1:-1, :-2]


def _right() -> Any:
    return np.random.default_rng(0).standard_normal((SIDE, SIDE))


def _cg() -> Entrant:
    import gradc as gc

    solve = gc.jit(lambda b: gc.linear_solve(partial(_stencil, np), b, "cg", tol=TOLERANCE).x)
    b = _right()
    return entrant(lambda: solve(b), **gradc_facts(solve.lower(b)))


def _cg_jax() -> Entrant:
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.scipy.sparse.linalg import cg

    return jax_entrant(lambda b: cg(partial(_stencil, jax.numpy), b, tol=TOLERANCE)[0], _right())


def _cg_scipy() -> Entrant:
    from scipy.sparse.linalg import LinearOperator, cg

    shape = (SIDE, SIDE)
    operator = LinearOperator(
        (SIDE**2, SIDE**2), matvec=lambda v: _stencil(np, v.reshape(shape)).ravel(), dtype=np.float64
    )
    return entrant(lambda: cg(operator, _right().ravel(), rtol=TOLERANCE)[0].reshape(shape))


# -- integration -------------------------------------------------------------------------------------------------------


def _field(m: Any, y: Any, p: Any) -> Any:
    r, f = y[0], y[1]
    return m.stack([p[0] * r - p[1] * r * f, p[2] * r * f - p[3] * f])


def _ode() -> Entrant:
    import gradc as gc

    def total(p: Any) -> Any:
        return np.sum(gc.odeint(lambda y, t, p: _field(np, y, p), FIRST, TIMES, p, rtol=TOLERANCE, atol=TOLERANCE))

    slope = gc.jit(gc.grad(total))
    return entrant(lambda: slope(RATES), **gradc_facts(slope.lower(RATES)))


def _ode_jax() -> Entrant:
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.experimental.ode import odeint

    m = jax.numpy

    def total(p: Any) -> Any:
        found = odeint(lambda y, t, p: _field(m, y, p), m.asarray(FIRST), m.asarray(TIMES), p, rtol=TOLERANCE,
                       atol=TOLERANCE)  # fmt: skip
        return m.sum(found)

    return jax_entrant(jax.grad(total), RATES)


def _ode_diffrax() -> Entrant:
    import diffrax
    import jax

    jax.config.update("jax_enable_x64", True)
    m = jax.numpy

    def total(p: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, p: _field(m, y, p)), diffrax.Dopri5(), TIMES[0], TIMES[-1], None,
            m.asarray(FIRST), p, saveat=diffrax.SaveAt(ts=m.asarray(TIMES)),
            stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
        )  # fmt: skip
        return m.sum(found.ys)

    return jax_entrant(jax.grad(total), RATES)


def _ode_casadi() -> Entrant:
    import casadi

    y, p = casadi.SX.sym("y", 2), casadi.SX.sym("p", 4)
    rhs = casadi.vertcat(p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1])
    options = {"reltol": TOLERANCE, "abstol": TOLERANCE}
    steps = casadi.integrator("steps", "cvodes", {"x": y, "p": p, "ode": rhs}, 0.0, list(TIMES[1:]), options)
    rates = casadi.MX.sym("rates", 4)
    total = casadi.sum1(casadi.sum2(steps(x0=FIRST, p=rates)["xf"])) + float(FIRST.sum())
    slope = casadi.Function("slope", [rates], [casadi.gradient(total, rates)])
    return buffered(slope, [RATES], [(4,)])
