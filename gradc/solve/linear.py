"""linear_solve: linear systems of trees, by products with the matrix alone.

Enters: a linear function and a right-hand side, trees of floats.  Leaves: a `LinearSolution`: the solution with its
derivatives, which are solutions of such systems, and what the search has come to.
Invariant: where a search failed, its status says so, and derivatives through it are NaN.  Start reading at
`linear_solve`; the methods are in `gradc.solve.krylov`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc import tree
from gradc.api.bodies import Leaves
from gradc.aval import finfo
from gradc.errors import ShapeError
from gradc.graph import Graph
from gradc.node import Node, dsl, here
from gradc.solve import krylov
from gradc.solve.krylov import Cycle, Found, Problem
from gradc.solve.linear_system import System, linear_solver, solved, transposed
from gradc.solve.options import chosen, static_count, static_number
from gradc.solve.reports import Report, trusted
from gradc.solve.statuses import LinearStatus
from gradc.solve.unknowns import Traced, array_of_numbers, fitted, unknowns
from gradc.solve.vectors import length, size_of
from gradc.trace import trace

#: each method, and whether the matrix must be symmetric
METHODS: Mapping[str, tuple[Cycle, bool]] = {
    "cg": (krylov.conjugate_gradients, True),
    "minres": (krylov.minimal_residual, True),
    "gmres": (krylov.generalised_minimal_residual, False),
    "bicgstab": (krylov.biconjugate_stabilised, False),
}


@dataclass(frozen=True)
class LinearSolution(Report):
    """What `linear_solve` returns."""

    STATUSES = LinearStatus

    x: Any  #: like b
    residual: Any  #: the norm of b − A x
    iterations: Any  #: products with the matrix
    status: Any


def linear_solve(
    matvec: Any,
    b: Any,
    method: str = "cg",
    tol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    preconditioner: Any = None,
    x0: Any = None,
) -> LinearSolution:
    """x with ``matvec(x) = b``, by products with the matrix alone, as one native loop.

    ``matvec``: a linear function from trees like ``b`` to such trees, or a matrix for a vector ``b``.  ``method``: "cg"
    for symmetric positive definite matrices, "minres" for symmetric ones, "gmres" (which keeps 30 vectors) and
    "bicgstab" for any.  The search ends when ‖b − A x‖ ≤ max(``tol``·‖b‖, ``atol``), measured on the solution itself;
    ``tol`` is ε^⅔ by default, 4·10⁻¹¹ for float64.  ``maxiter``: products with the matrix, 10 for each unknown by
    default.  ``preconditioner``: a linear function, or a matrix, near the inverse; symmetric and positive definite for
    "cg" and "minres".  ``x0``: where to begin, like ``b``; zeros by default.

    Returns x with ``residual``, ``iterations``, ``status``, ``success`` and ``message``.  The derivatives of x, of any
    order and in both modes, are solutions of such systems, found by the same method; values that ``matvec`` closes over
    have them as well.  Where a search for a derivative fails, and everywhere behind a failed x, they are NaN.

    Raises TraceError for what is not linear, TypeError, ShapeError and ValueError for arguments that do not fit.

    >>> import gradc as gc, numpy as np
    >>> a = np.array([[3.0, 1.0], [1.0, 2.0]])
    >>> found = gc.linear_solve(lambda x: a @ x, np.array([9.0, 8.0]))
    >>> np.round(found.x, 10), bool(found.success)
    (array([2., 3.]), True)
    """
    whose = "linear_solve"
    cycle, symmetric = METHODS[chosen(method, METHODS, "method", whose)]
    given = unknowns(b, "b", whose)
    system = System.of(_applied(matvec, given, "matvec", whose), given, whose)
    near = None
    if preconditioner is not None:
        near = System.of(_applied(preconditioner, given, "preconditioner", whose), given, f"{whose}: preconditioner")
    start = [] if x0 is None else fitted(array_of_numbers(x0), given, f"{whose}: x0 is a tree")
    own = [*system.matvec.consts, *(near.matvec.consts if near else ())]
    consts = list(dict.fromkeys([*own, *start]))
    search = _Search(cycle, _limits(tol, atol, maxiter, given, whose), given, consts)
    matrix, inverse = system.over(consts), near.over(consts) if near else None

    def again() -> Graph:
        return search.body(matrix, inverse)

    def dual(vecmat: Graph) -> Graph:
        return search.body(vecmat, None if inverse is None else transposed(inverse, len(consts)))

    first = search.body(matrix, inverse, start)
    solver = linear_solver(whose, matrix, first, dual, symmetric, again)
    *flat, steps, residual, status = solved(solver, consts, given)
    x = given.structure.unflatten([trusted(part, status == LinearStatus.FOUND) for part in flat])
    return LinearSolution(x, residual, steps, status)


def _applied(matvec: Any, given: Leaves, what: str, whose: str) -> Callable[[Any], Any]:
    """A matrix as the function that it is."""
    if callable(matvec) and not isinstance(matvec, Node):
        return matvec
    size = given.avals[0].size
    matrix = matvec if isinstance(matvec, Node) else np.asarray(matvec)
    if given.structure.is_leaf and given.avals[0].ndim == 1 and matrix.shape == (size, size):
        return lambda x: matrix @ x
    shown = ", ".join(f"{n}: {a}" for n, a in zip(given.names, given.avals, strict=True))
    raise ShapeError(
        f"{here()}: {whose}: {what} is a linear function, or a square matrix for a vector b; got an array of shape "
        f"{matrix.shape} for {shown}"
    )


@dataclass(frozen=True)
class _Limits:
    tol: float
    atol: float
    most: int


def _limits(tol: float | None, atol: float, maxiter: int | None, given: Leaves, whose: str) -> _Limits:
    epsilon = max(float(finfo(a.dtype).eps) for a in given.avals)
    tol = epsilon ** (2 / 3) if tol is None else static_number(tol, "tol", whose)
    size = size_of(given)
    return _Limits(tol, static_number(atol, "atol", whose), static_count(maxiter, "maxiter", whose, max(10 * size, 50)))


@dataclass(frozen=True)
class _Search:
    """How to search: what bodies have in common that solve with a matrix, with it again, and with its transpose."""

    cycle: Cycle
    limits: _Limits
    given: Leaves
    consts: Sequence[Node]

    def body(self, matrix: Graph, inverse: Graph | None, start: Sequence[Node] | None = None) -> Graph:
        """The solver of matrix(consts, x) = b: x, then products, residual and status.

        Without a ``start``, which may be empty, nobody will read these: then x alone, NaN if it was not found.
        """
        place = {node: k for k, node in enumerate(self.consts)}

        def solve(fixed: Sequence[Node], b: Any) -> Any:
            near = None if inverse is None else self._linear(inverse, fixed)
            begin = None if not start else self.given.structure.unflatten([fixed[place[n]] for n in start])
            found, unravel = self._found(self._linear(matrix, fixed), near, b, begin)
            if start is None:
                return unravel(dsl.where(found.status == LinearStatus.FOUND, found.x, dsl.nan))
            return unravel(found.x), found.steps, found.norm, found.status

        return trace(solve, [c.aval for c in self.consts], self.given.nest(self.given.avals))

    def _linear(self, graph: Graph, fixed: Sequence[Node]) -> Traced:
        return Traced(graph, fixed, self.given, self.given.structure)

    def _found(self, matvec: Traced, inverse: Traced | None, b: Any, begin: Any) -> tuple[Found, tree.Unravel]:
        vector, unravel = tree.ravel(b)

        def on_vectors(f: Traced) -> Callable[[Any], Any]:
            return lambda v: tree.ravel(f(unravel(v)))[0]

        size = length(vector)
        limit = dsl.maximum(self.limits.tol * size, self.limits.atol)
        start = 0 * vector if begin is None else dsl.where(size > 0, tree.ravel(begin)[0], 0)
        precondition = (lambda v: v) if inverse is None else on_vectors(inverse)
        problem = Problem(on_vectors(matvec), precondition, limit, self.limits.most)
        return krylov.search(problem, vector, start, self.cycle), unravel
