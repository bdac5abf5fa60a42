"""custom_linear_solve: a linear system solved by a function of the user's, differentiated as what it is.

Enters: a linear function, a right-hand side, and functions that solve the system and the transposed one.  Leaves: the
solution, whose derivatives, of any order and in both modes, are solutions of such systems again
(`gradc.diff.implicit`).
Invariant: the steps of the solvers are never differentiated.  Start reading at `custom_linear_solve`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradc.api.bodies import Leaves, closed, over, ran, required_function
from gradc.containers import Structure, leaves_of
from gradc.diff.dependence import refuse_unless_linear, without_rules
from gradc.diff.loops import or_zeros
from gradc.diff.modes import pull_back, push_forward
from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, as_node, here
from gradc.ops.control import inner_leaf, items
from gradc.ops.implicit import LinearRule, LinearSolver
from gradc.process import cached_property
from gradc.solve.unknowns import Traced, fitted, like_unknowns, unknowns
from gradc.trace import function_name

#: ``solve(matvec, b)`` returns x with matvec(x) = b
Solve = Callable[[Callable[[Any], Any], Any], Any]


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Solve,
    transpose_solve: Solve | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """x with ``matvec(x) = b``, as ``solve(matvec, b)`` finds it, with the derivatives that such an x has.

    ``matvec`` is linear, and returns a tree like its argument; ``b`` and ``x`` are such trees.  ``solve`` may use any
    loops and branches: nobody differentiates it.  The tangent of x is ``solve`` for another right-hand side.  Reverse
    mode solves the transposed system by ``transpose_solve(vecmat, c)``, or by ``solve`` where the system is declared
    ``symmetric``; without either it raises TraceError.  Values that the functions close over, traced ones too, have
    their derivatives.  With ``has_aux`` ``solve`` returns ``(x, aux)``, and so does this; aux has no derivative.

    Raises TraceError for a ``matvec`` that is not linear, TypeError and ShapeError for trees that do not fit.
    The arguments and their meaning are those of `jax.lax.custom_linear_solve`.

    >>> import gradc as gc, numpy as np
    >>> d = np.array([2.0, 4.0])
    >>> divide = lambda matvec, b: b / matvec(np.ones(2))
    >>> gc.grad(lambda b: gc.custom_linear_solve(lambda x: d * x, b, divide, symmetric=True).sum())(np.ones(2))
    array([0.5 , 0.25])
    """
    whose = "custom_linear_solve"
    required_function(matvec, whose, "a linear function matvec(x)")
    required_function(solve, whose, "a function solve(matvec, b)")
    if transpose_solve is not None:
        required_function(transpose_solve, whose, "a function transpose_solve(vecmat, c)")
    given = unknowns(b, "b", whose)
    system = System.of(matvec, given, whose)
    body, own, aux = solving(solve, system.matvec, given, f"{whose}: solve", has_aux)
    dual: tuple[Graph, list[Node]] | None = None
    if transpose_solve is not None and not symmetric:
        dual = solving(transpose_solve, system.vecmat, given, f"{whose}: transpose_solve")[:2]
    consts = list(dict.fromkeys([*system.matvec.consts, *own, *(dual[1] if dual else ())]))
    transpose = None if dual is None else over(*dual, consts)
    solver = linear_solver(
        whose,
        system.over(consts),
        over(body, own, consts),
        None if transpose is None else lambda _: transpose,
        symmetric,
    )
    flat = solved(solver, consts, given)
    x = given.structure.unflatten(flat[: len(given.avals)])
    return x if aux is None else (x, aux.unflatten(flat[len(given.avals) :]))


@dataclass(frozen=True, eq=False)
class System:
    """A linear function and its transpose, as functions that a solver may call."""

    matvec: Traced

    @classmethod
    def of(cls, f: Callable[[Any], Any], given: Leaves, whose: str) -> System:
        """TraceError for a function that is not linear."""
        traced = Traced.of(f, given)
        title = f"{whose}: {traced.graph.title}"
        graph = like_unknowns(traced.graph, given, title)
        x = graph.inputs[len(traced.consts) :]
        written = without_rules(graph.outputs, x)
        refuse_unless_linear(written, x, push_forward, title, "argument", "what it closes over")
        return cls(replace(traced, graph=graph, returns=given.structure))

    @cached_property
    def vecmat(self) -> Traced:
        """The transpose."""
        return replace(self.matvec, graph=transposed(self.matvec.graph, len(self.matvec.consts)))

    def over(self, consts: Sequence[Node]) -> Graph:
        """The function as a graph of ``consts`` and x."""
        return over(self.matvec.graph, self.matvec.consts, consts)


def transposed(graph: Graph, fixed: int) -> Graph:
    """The transpose of a graph that is linear in its inputs behind the first ``fixed``."""
    x = graph.inputs[fixed:]
    leaves = [inner_leaf(y.aval, "c") for y in graph.outputs]
    pulled = pull_back(graph.outputs, x, leaves)
    outputs = tuple(or_zeros(p, like) for p, like in zip(pulled, x, strict=True))
    return graph.replace(inputs=(*graph.inputs[:fixed], *leaves), outputs=outputs, title=f"{graph.title} transposed")


def solving(
    solve: Solve, function: Callable[[Any], Any], given: Leaves, whose: str, has_aux: bool = False
) -> tuple[Graph, list[Node], Structure | None]:
    """``solve(function, ·)`` as a body that returns what is like ``given``, then aux; what it reads from outside."""

    def solve_for(b: Any) -> Any:
        return solve(function, b)

    solve_for.__name__ = function_name(solve)
    body, own = closed(solve_for, given.nest(given.avals))
    assert body.out_tree is not None
    if not has_aux:
        return like_unknowns(body, given, whose), own, None
    returned = body.out_tree.unflatten(body.outputs)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"{here()}: {whose} must return a pair (x, aux) with has_aux=True")
    aux, structure = leaves_of(returned[1])
    x = fitted(returned[0], given, f"{whose} returned a tree")
    return body.replace(outputs=(*x, *map(as_node, aux)), out_tree=None), own, structure


def linear_solver(
    title: str, map: Graph, body: Graph, transpose: Callable[[Graph], Graph] | None, symmetric: bool,
    again: Callable[[], Graph] | None = None,
) -> LinearSolver:  # fmt: skip
    """The solver of map(consts, x) = b; ``transpose(vecmat)`` makes the body that solves the transposed system.

    ``again`` makes the body for other systems with the same matrix, where that is another one.
    """
    count = len(map.outputs)

    def make_again() -> LinearSolver:
        assert again is not None
        return linear_solver(title, map, again(), transpose, symmetric)

    def make_transposed() -> LinearSolver:
        if symmetric:
            return solver
        if transpose is None:
            raise TraceError(
                f"{here()}: reverse mode through {title} solves the transposed system, and nothing says how: give "
                "transpose_solve=, or symmetric=True if the matrix is symmetric.  Forward mode needs neither."
            )
        vecmat = transposed(map, len(map.inputs) - count)
        rule = LinearRule(f"{title}, transposed", count, lambda: vecmat, lambda: solver)
        dual = transpose(vecmat)
        return LinearSolver(dual.replace(title=f"{body.title}_transposed"), rule)

    rule = LinearRule(title, count, lambda: map, make_transposed, None if again is None else make_again)
    solver = LinearSolver(body, rule)
    return solver


def solved(solver: LinearSolver, consts: Sequence[Node], given: Leaves) -> list[Any]:
    """x and aux, flat, for the right-hand side that is given."""
    inputs = given.inputs()
    node = OPS["custom"].make((*consts, *inputs), body=solver.body, rule=solver.rule)
    return ran(inputs, items(node), solver.rule.title, given.values)
