"""custom_root: an equation solved by a function of the user's, differentiated as what it is.

Enters: a function f, and how f(x) = 0 and the linearised equation are solved.  Leaves: the root, whose derivatives
follow from the equation (`gradc.diff.implicit`), in both modes and to any order.
Invariant: the steps of the solvers are never differentiated.  Start reading at `custom_root`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradc.api.bodies import Leaves, closed, over, ran, required_function
from gradc.diff.loops import or_zeros
from gradc.diff.modes import push_forward
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import inner_leaf, items
from gradc.ops.implicit import LinearSolver, RootRule
from gradc.solve.linear_system import Solve, linear_solver, solving, transposed
from gradc.solve.unknowns import Traced, like_unknowns, unknowns
from gradc.trace import trace


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Solve,
    has_aux: bool = False,
) -> Any:
    """x with ``f(x) = 0``, as ``solve(f, initial_guess)`` finds it, with the derivatives that such an x has.

    ``f`` returns a tree like its argument, and ``initial_guess`` and x are such trees.  ``solve`` may use any loops and
    branches: nobody differentiates it, and x does not depend on the guess.  ``tangent_solve(g, b)`` returns y with
    g(y) = b for a linear function g: ``f`` linearised at x in forward mode, and its transpose in reverse mode; for a
    number, ``lambda g, b: b / g(1.0)``.  Values that ``f`` closes over, traced ones too, have their derivatives.  With
    ``has_aux`` ``solve`` returns ``(x, aux)``, and so does this; aux has no derivative.

    Raises TypeError and ShapeError for trees that do not fit.
    The arguments and their meaning are those of `jax.lax.custom_root`.

    >>> import gradc as gc, numpy as np
    >>> def babylonian(f, x):
    ...     return gc.fori_loop(0, 60, lambda _, x: x - f(x) / (2 * x), x)
    >>> root = lambda a: gc.custom_root(lambda x: x * x - a, 1.0, babylonian, lambda g, b: b / g(1.0))
    >>> float(root(9.0)), round(float(gc.grad(root)(9.0)), 12)
    (3.0, 0.166666666667)
    """
    whose = "custom_root"
    required_function(f, whose, "a function f(x)")
    required_function(solve, whose, "a function solve(f, initial_guess)")
    required_function(tangent_solve, whose, "a function tangent_solve(g, b)")
    given = unknowns(initial_guess, "initial_guess", whose)
    equation = Equation.of(f, given, whose)
    body, own, aux = solving(solve, equation.function, given, f"{whose}: solve", has_aux)
    tangent = equation.tangent_by(tangent_solve)
    consts = list(dict.fromkeys([*equation.function.consts, *own, *tangent.own]))
    flat = equation.solved(over(body, own, consts), consts, lambda: tangent.solver(consts), given)
    x = given.structure.unflatten(flat[: len(given.avals)])
    return x if aux is None else (x, aux.unflatten(flat[len(given.avals) :]))


@dataclass(frozen=True, eq=False)
class Equation:
    """f(x) = 0 for trees like the unknowns, as a function that a solver may call."""

    function: Traced
    whose: str

    @classmethod
    def of(cls, f: Callable[[Any], Any], given: Leaves, whose: str) -> Equation:
        """Errors say what ``f`` returns that is not like its argument."""
        traced = Traced.of(f, given)
        graph = like_unknowns(traced.graph, given, f"{whose}: {traced.graph.title}")
        return cls(replace(traced, graph=graph, returns=given.structure), whose)

    def over(self, consts: Sequence[Node]) -> Graph:
        """The function as a graph of ``consts`` and x."""
        return over(self.function.graph, self.function.consts, consts)

    def solved(
        self, body: Graph, consts: Sequence[Node], tangent: Callable[[], LinearSolver], guess: Leaves
    ) -> list[Any]:
        """x and aux, flat, as ``body`` finds them from a guess."""
        inputs = guess.inputs()
        rule = RootRule(self.whose, len(inputs), len(inputs), lambda: self.over(consts), tangent)
        node = OPS["custom"].make((*consts, *inputs), body=body, rule=rule)
        return ran(inputs, items(node), self.whose, guess.values)

    def tangent_by(self, tangent_solve: Solve) -> TangentBodies:
        """The linearised equation and its transpose as ``tangent_solve`` solves them; it may close over anything."""
        given, graph, consts = self.function.given, self.function.graph, self.function.consts
        forward = tangent_map(graph, len(consts))
        backward = transposed(forward, len(consts) + len(given.avals))
        found = []
        for linear in (forward, backward):

            def solve(x: Any, b: Any, linear: Graph = linear) -> Any:
                return tangent_solve(Traced(linear, [*consts, *x], given, given.structure), b)

            body, own = closed(solve, tuple(given.avals), given.nest(given.avals))
            found.append((like_unknowns(body, given, f"{self.whose}: tangent_solve"), own))
        return TangentBodies(self, found[0], found[1])

    def tangent_by_default(self, consts: Sequence[Node], tangent_solve: Solve, symmetric: bool) -> LinearSolver:
        """The same for a ``tangent_solve`` that closes over nothing: traced when a derivative is first asked for."""
        given, fixed = self.function.given, [*(c.aval for c in consts), *self.function.given.avals]

        def body(linear: Graph) -> Graph:
            def solve(fixed: Sequence[Node], b: Any) -> Any:
                return tangent_solve(Traced(linear, fixed, given, given.structure), b)

            return like_unknowns(trace(solve, fixed, given.nest(given.avals)), given, self.whose)

        forward = tangent_map(self.over(consts), len(consts))
        return linear_solver(f"the derivative of {self.whose}", forward, body(forward), body, symmetric)


@dataclass(frozen=True, eq=False)
class TangentBodies:
    """Bodies that solve the linearised equation and its transpose, each with what it reads from outside."""

    equation: Equation
    forward: tuple[Graph, list[Node]]
    backward: tuple[Graph, list[Node]]

    @property
    def own(self) -> list[Node]:
        """What either reads."""
        return [*self.forward[1], *self.backward[1]]

    def solver(self, consts: Sequence[Node]) -> LinearSolver:
        """The solver whose consts are ``consts`` and x."""
        linear = tangent_map(self.equation.over(consts), len(consts))
        dual = over(*self.backward, consts)
        title = f"the derivative of {self.equation.whose}"
        return linear_solver(title, linear, over(*self.forward, consts), lambda _: dual, False)


def tangent_map(graph: Graph, fixed: int) -> Graph:
    """The derivative of a graph by its inputs behind the first ``fixed``, as a function of these, x and a direction."""
    x = graph.inputs[fixed:]
    leaves = [inner_leaf(v.aval, f"d_{v.attrs['name']}") for v in x]
    pushed = push_forward(graph.outputs, x, leaves)
    outputs = tuple(or_zeros(p, y) for p, y in zip(pushed, graph.outputs, strict=True))
    return graph.replace(inputs=(*graph.inputs, *leaves), outputs=outputs, title=f"{graph.title} derivative")
