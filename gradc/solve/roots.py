"""root and fixed_point: equations in trees, solved by native loops.

Enters: a function and a guess.  Leaves: a `Root` or a `FixedPoint`: the solution with its derivatives, which follow
from the equation, and what the search has come to.
Invariant: where a search failed, its status says so, and derivatives through it are NaN.  Start reading at `root`; the
searches are in `gradc.solve.root_searches`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradc.api.bodies import Leaves, over, required_function
from gradc.api.control import while_loop
from gradc.containers import tree_map
from gradc.node import dsl, here
from gradc.ops.implicit import LinearSolver
from gradc.solve import root_searches
from gradc.solve.equation import Equation
from gradc.solve.linear_system import Solve
from gradc.solve.options import chosen, static_count, static_number
from gradc.solve.reports import Report, trusted
from gradc.solve.statuses import RUNNING, RootStatus
from gradc.solve.tangents import solve_tangent
from gradc.solve.unknowns import Traced, unknowns
from gradc.solve.vectors import Vectors, epsilon_of, length
from gradc.trace import trace


@dataclass(frozen=True)
class Root(Report):
    """What `root` returns."""

    STATUSES = RootStatus

    x: Any  #: like x0
    fun: Any  #: f(x)
    nit: Any  #: steps
    nfev: Any  #: evaluations of f, those for derivatives not counted
    status: Any


def root(
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str = "newton",
    tol: float | None = None,
    maxiter: int | None = None,
    tangent_solve: Solve | None = None,
) -> Root:
    """x with ``f(x, *args) = 0``, as one native loop.

    ``f`` returns a tree like ``x0``.  ``method``: "newton" factorises the Jacobian matrix in every step, "broyden" in
    the first and where it gets stuck, and learns of it in between; "krylov" asks for products with it alone (GMRES).
    Each step is cut until ‖f‖ has fallen.  The search ends when ‖f(x)‖ ≤ ``tol``·max(1, ‖f(x0)‖); ``tol`` is ε^¾ by
    default, 2·10⁻¹² for float64.  ``maxiter``: steps, 100 by default.

    Returns x with ``fun``, ``nit``, ``nfev``, ``status``, ``success`` and ``message``.  Derivatives by ``args`` and by
    whatever ``f`` closes over, of any order and in both modes, follow from the equation; x does not depend on ``x0``.
    ``tangent_solve(g, b)`` solves the linearised equation as in `custom_root`; by default its matrix is factorised up
    to 256 unknowns, and beyond that GMRES is used.  Derivatives through a failed search are NaN.

    >>> import gradc as gc, numpy as np
    >>> kepler = lambda mean, e: gc.root(lambda x: x - e * np.sin(x) - mean, mean).x
    >>> x = kepler(1.0, 0.3)
    >>> round(float(x - 0.3 * np.sin(x)), 12)
    1.0
    >>> bool(np.isclose(gc.grad(kepler)(1.0, 0.3), 1 / (1 - 0.3 * np.cos(x))))
    True
    """
    whose = "root"
    title = required_function(f, whose, "a function f(x, *args)")
    steps = root_searches.METHODS[chosen(method, root_searches.METHODS, "method", whose)]
    given = unknowns(x0, "x0", whose)
    tol = epsilon_of(given) ** 0.75 if tol is None else static_number(tol, "tol", whose)
    most = static_count(maxiter, "maxiter", whose, 100)

    def search(function: Traced, guess: Any) -> tuple[Any, ...]:
        vectors = Vectors.of(guess)
        end = root_searches.search(vectors.function(function), vectors.start, steps, tol, most)
        return vectors.unravel(end.x), vectors.unravel(end.f), end.steps, end.evaluations, end.status

    equation = Equation.of(with_args(f, args, title), given, whose)
    x, fun, nit, nfev, status = searched(equation, equation.function, given, search, tangent_solve)
    return Root(x, fun, nit, nfev, status)


@dataclass(frozen=True)
class FixedPoint(Report):
    """What `fixed_point` returns."""

    STATUSES = RootStatus

    x: Any  #: like x0
    residual: Any  #: the norm of f(x) − x
    nit: Any  #: steps
    nfev: Any  #: evaluations of f
    status: Any


def fixed_point(
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str = "del2",
    tol: float | None = None,
    maxiter: int | None = None,
    tangent_solve: Solve | None = None,
) -> FixedPoint:
    """x with ``x = f(x, *args)``, by applying ``f`` again and again, as one native loop.

    ``method``: "iteration", or "del2", which extrapolates every second step, element by element, by Aitken's Δ² process
    (Steffensen's method).  The search ends when ‖f(x) − x‖ ≤ ``tol``·max(1, ‖x‖); ``tol`` is ε^¾ by default.
    ``maxiter``: steps, 500 by default.  Everything else is as in `root`.

    >>> import gradc as gc, numpy as np
    >>> found = gc.fixed_point(np.cos, 1.0)
    >>> round(float(found.x), 12), bool(found.success)
    (0.739085133215, True)
    """
    whose = "fixed_point"
    title = required_function(f, whose, "a function f(x, *args)")
    accelerated = chosen(method, {"del2": True, "iteration": False}, "method", whose) == "del2"
    given = unknowns(x0, "x0", whose)
    tol = epsilon_of(given) ** 0.75 if tol is None else static_number(tol, "tol", whose)
    most = static_count(maxiter, "maxiter", whose, 500)
    applied = with_args(f, args, title)

    def distance(x: Any) -> Any:
        return tree_map(lambda y, x: y - x, applied(x), x)

    distance.__name__ = title

    def search(function: Traced, guess: Any) -> tuple[Any, ...]:
        vectors = Vectors.of(guess)
        end = _repeated(vectors.function(function), vectors.start, accelerated, tol, most)
        return vectors.unravel(end.x), end.norm, end.steps, end.evaluations, end.status

    equation = Equation.of(distance, given, whose)
    x, residual, nit, nfev, status = searched(equation, equation.function, given, search, tangent_solve)
    return FixedPoint(x, residual, nit, nfev, status)


class _Repeated(NamedTuple):
    x: Any
    step: Any  #: f(x) − x
    norm: Any
    steps: Any
    evaluations: Any
    status: Any


def _repeated(function: Callable[[Any], Any], start: Any, accelerated: bool, tol: float, most: int) -> _Repeated:
    """Steps x ← f(x), or x ← x − d²/(d' − d) with d = f(x) − x and d' = f(f(x)) − f(x); ``function`` is f(x) − x."""

    def at(x: Any, steps: Any, evaluations: Any) -> _Repeated:
        step = function(x)
        norm = length(step)
        ended = dsl.where(norm <= tol * dsl.maximum(1, length(x)), RootStatus.FOUND, RUNNING)
        late = dsl.where(steps >= most, RootStatus.TOO_MANY_STEPS, RUNNING)
        late = dsl.where(dsl.isfinite(norm), late, RootStatus.NO_PROGRESS)
        status = dsl.where(ended == RootStatus.FOUND, RootStatus.FOUND, late)
        return _Repeated(x, step, norm, steps, evaluations, status)

    def step(now: _Repeated) -> _Repeated:
        if not accelerated:
            return at(now.x + now.step, now.steps + 1, now.evaluations + 1)
        again = function(now.x + now.step)
        bend = again - now.step
        straight = dsl.abs(bend) > 0
        jump = dsl.where(straight, now.step * now.step / dsl.where(straight, bend, 1), 0)
        x = dsl.where(straight, now.x - jump, now.x + now.step)
        return at(x, now.steps + 1, now.evaluations + 2)

    begin = at(start, dsl.int64(0), dsl.int64(1))
    begin = begin._replace(status=dsl.where(dsl.isfinite(begin.norm), begin.status, RootStatus.NOT_FINITE))
    return while_loop(lambda now: now.status == RUNNING, step, begin)


# -- what solvers of equations have in common --------------------------------------------------------------------------


def with_args(f: Callable[..., Any], args: Any, title: str) -> Callable[[Any], Any]:
    """``f`` of its first argument alone; TypeError for arguments that are no tuple."""
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"{here()}: {title}: args must be a tuple of further arguments, got {args!r:.40}; write (a,)")

    def applied(x: Any) -> Any:
        return f(x, *args)

    applied.__name__ = title
    return applied


def searched(
    equation: Equation, function: Traced, given: Leaves, search: Callable[[Traced, Any], tuple[Any, ...]],
    tangent_solve: Solve | None, symmetric: bool = False, default: Solve = solve_tangent,
) -> tuple[Any, ...]:  # fmt: skip
    """What ``search(function, guess)`` returns, the status last; the solution, which comes first, with its derivatives.

    ``default`` solves the linearised ``equation`` where no ``tangent_solve`` is given.
    """
    consts = list(dict.fromkeys([*equation.function.consts, *function.consts]))
    bodies = None
    if tangent_solve is not None:
        required_function(tangent_solve, equation.whose, "a function tangent_solve(g, b)")
        bodies = equation.tangent_by(tangent_solve)
        consts = list(dict.fromkeys([*consts, *bodies.own]))
    graph = over(function.graph, function.consts, consts)
    body = trace(
        lambda fixed, guess: search(Traced(graph, fixed, given, function.returns), guess),
        [c.aval for c in consts], given.nest(given.avals),
    )  # fmt: skip
    assert body.out_tree is not None
    structure, body = body.out_tree, body.replace(title=equation.whose)

    def tangent() -> LinearSolver:
        return equation.tangent_by_default(consts, default, symmetric) if bodies is None else bodies.solver(consts)

    x, *told = structure.unflatten(equation.solved(body, consts, tangent, given))
    return tree_map(lambda part: trusted(part, told[-1] == 0), x), *told
