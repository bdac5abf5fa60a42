"""minimize: the minimum of a function of trees, found by one native loop.

Enters: an objective and a guess.  Leaves: a `Minimum`: the point with its derivatives, which follow from the gradient
being zero there, and what the search has come to.
Invariant: where a search failed, its status says so, and derivatives through it are NaN.  Start reading at `minimize`;
the searches are in `gradc.solve.quasi_newton`, `gradc.solve.trust` and `gradc.solve.residuals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradc import tree
from gradc.api.bodies import required_function
from gradc.api.derivatives import grad, jvp, value_and_grad
from gradc.api.jacobian import hessian, jacobian
from gradc.errors import DTypeError, ShapeError
from gradc.node import dsl, here
from gradc.solve import residuals, trust
from gradc.solve.dense import by_cholesky, positive_factor
from gradc.solve.equation import Equation
from gradc.solve.linear_system import Solve
from gradc.solve.options import chosen, static_count, static_number
from gradc.solve.quasi_newton import BFGS, CONJUGATE_GRADIENTS, LIMITED_BFGS, Method, Point, search
from gradc.solve.reports import Report
from gradc.solve.roots import searched, with_args
from gradc.solve.statuses import MinimumStatus
from gradc.solve.tangents import solve_symmetric_tangent
from gradc.solve.unknowns import Traced, unknowns
from gradc.solve.vectors import Vectors, epsilon_of, size_of


@dataclass(frozen=True)
class Minimum(Report):
    """What `minimize` returns; SciPy's names."""

    STATUSES = MinimumStatus

    x: Any  #: like x0
    fun: Any  #: f(x), or ½‖f(x)‖² of residuals
    jac: Any  #: its gradient, like x0
    nit: Any  #: steps
    nfev: Any  #: evaluations of f
    njev: Any  #: evaluations of its gradient, or of the Jacobian of residuals
    status: Any


@dataclass(frozen=True, eq=False)
class Objective:
    """What is minimised as a function of a vector; of least squares the residuals, too."""

    value: Callable[[Any], Any]
    residuals: Callable[[Any], Any] | None = None

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        return value_and_grad(self.value)(x)

    def curvature(self, x: Any, v: Any) -> Any:
        """The product of the Hessian with a direction."""
        return jvp(grad(self.value), (x,), (v,))[1]


def _half_square(r: Any) -> Any:
    """½‖r‖² of a tree."""
    vector, _ = tree.ravel(r)
    return dsl.dot(vector, vector) / 2


def _refuse_vector(function: Traced, method: str) -> None:
    found = function.graph.outputs
    if len(found) != 1 or found[0].shape != () or not found[0].aval.is_float:
        shown = ", ".join(str(y.aval) for y in found)
        raise ShapeError(
            f"{here()}: minimize: {function.graph.title} must return one float scalar for method={method!r}, it "
            f"returns {shown}.\n  Reduce it (.sum(), .mean()), or use method='levenberg-marquardt', which takes "
            "residuals."
        )


def _refuse_residuals(function: Traced, method: str) -> None:
    for y in function.graph.outputs:
        if not y.aval.is_float:
            raise DTypeError(
                f"{here()}: minimize: {function.graph.title} must return residuals, trees of floats, for "
                f"method={method!r}; it returns {y.aval}"
            )


#: ``method(objective, start, tol, most)``
Search = Callable[[Objective, Any, float, int], Point]


def _along_lines(method: Callable[[Objective], Method]) -> Search:
    return lambda objective, start, tol, most: search(objective.value_and_gradient, start, method(objective), tol, most)


def _nothing(*_: Any) -> Any:
    """The memory of a method that has none."""
    return dsl.bool_(True)


def _newton(objective: Objective) -> Method:
    """Directions by the Hessian, made positive where it is not."""

    def direction(memory: Any, x: Any, g: Any) -> Any:
        return -by_cholesky(positive_factor(hessian(objective.value)(x)), g)

    return Method(_nothing, direction, _nothing)


def _gauss_newton(objective: Objective) -> Method:
    """Directions by JᵀJ, made positive where it is singular."""

    def direction(memory: Any, x: Any, g: Any) -> Any:
        assert objective.residuals is not None
        j = jacobian(objective.residuals)(x)
        return -by_cholesky(positive_factor(j.T @ j), g)

    return Method(_nothing, direction, _nothing)


def _trusted(objective: Objective, start: Any, tol: float, most: int) -> Point:
    return trust.search(objective.value_and_gradient, objective.curvature, start, tol, most)


def _damped(objective: Objective, start: Any, tol: float, most: int) -> Point:
    assert objective.residuals is not None
    return residuals.levenberg_marquardt(objective.residuals, start, tol, most)


METHODS: Mapping[str, Search] = {
    "bfgs": _along_lines(lambda _: BFGS),
    "lbfgs": _along_lines(lambda _: LIMITED_BFGS),
    "cg": _along_lines(lambda _: CONJUGATE_GRADIENTS),
    "newton": _along_lines(_newton),
    "trust-ncg": _trusted,
    "gauss-newton": _along_lines(_gauss_newton),
    "levenberg-marquardt": _damped,
}
#: methods whose objective is ½‖f‖²
LEAST_SQUARES = ("gauss-newton", "levenberg-marquardt")


def minimize(
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str = "bfgs",
    tol: float | None = None,
    maxiter: int | None = None,
    tangent_solve: Solve | None = None,
) -> Minimum:
    """The x near ``x0`` where ``f(x, *args)`` is least, found by one native loop.

    ``f`` takes a tree like ``x0`` and returns a float scalar; for "gauss-newton" and "levenberg-marquardt" it returns
    residuals, a tree of floats, and ½ of the sum of their squares is minimised.  ``method``: "bfgs" (an n × n matrix),
    "lbfgs" (ten pairs of vectors), "cg" (two vectors); "newton" (the Hessian, made positive), "trust-ncg" (products
    with it); all but "trust-ncg" and "levenberg-marquardt" search along lines for the strong Wolfe conditions.  The
    search ends when the largest element of the gradient is at most ``tol``·max(1, |f|), with the less of |f| at x and
    at x0; ``tol`` is √ε by default, 1.5·10⁻⁸ for float64.  ``maxiter``: steps, 200 for each unknown by default.

    Returns x with ``fun``, ``jac``, ``nit``, ``nfev``, ``njev``, ``status``, ``success`` and ``message``, as SciPy
    does.  The derivatives of x by ``args`` and by whatever ``f`` closes over, of any order and in both modes, follow
    from the gradient being zero; x does not depend on ``x0``.  ``tangent_solve(g, b)`` solves the system with the
    Hessian; by default it is factorised up to 256 unknowns, and beyond that MINRES is used.  Derivatives through a
    failed search are NaN.

    Raises ShapeError for an objective that is not a scalar.

    >>> import gradc as gc, numpy as np
    >>> def rosenbrock(x, a):
    ...     return ((a - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
    >>> least = gc.jit(lambda a: gc.minimize(rosenbrock, np.zeros(2), (a,)).x)
    >>> np.round(least(1.0), 6)
    array([1., 1.])
    >>> np.round(gc.jacobian(least)(1.0), 6)
    array([1., 2.])
    """
    whose = "minimize"
    title = required_function(f, whose, "a function f(x, *args)")
    method = chosen(method, METHODS, "method", whose)
    least_squares = method in LEAST_SQUARES
    given = unknowns(x0, "x0", whose)
    if not any(a.size for a in given.avals):
        raise ShapeError(f"{here()}: {whose}: x0 holds no numbers: {', '.join(map(str, given.avals))}")
    tol = epsilon_of(given) ** 0.5 if tol is None else static_number(tol, "tol", whose)
    most = static_count(maxiter, "maxiter", whose, 200 * max(1, size_of(given)))
    function = Traced.of(with_args(f, args, title), given)
    (_refuse_residuals if least_squares else _refuse_vector)(function, method)

    def scalar(applied: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return (lambda x: _half_square(applied(x))) if least_squares else applied

    def slope(x: Any) -> Any:
        return grad(scalar(function))(x)

    slope.__name__ = title

    def found(applied: Traced, guess: Any) -> tuple[Any, ...]:
        vectors = Vectors.of(guess)
        objective = Objective(vectors.scalar(scalar(applied)), vectors.function(applied) if least_squares else None)
        end = METHODS[method](objective, vectors.start, tol, most)
        fun = end.f.astype(vectors.start.dtype)
        return vectors.unravel(end.x), fun, vectors.unravel(end.g), end.nit, end.nfev, end.njev, end.status

    equation = Equation.of(slope, given, whose)
    told = searched(equation, function, given, found, tangent_solve, symmetric=True, default=solve_symmetric_tangent)
    return Minimum(*told)
