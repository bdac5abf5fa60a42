"""Bodies whose results solve an equation: rules that say which, for the implicit function theorem.

Such a body is a ``custom`` node's (`gradc.ops.custom`); how it finds the solution x is its own affair, and no mode
looks into it.

- `RootRule`: map(consts, x) = 0.  The operands are consts, then a guess, of which x does not depend.
- `LinearRule`: map(consts, x) = b, and map is linear in x.  The operands are consts, then b.

Results are the arrays of x, then whatever else the body tells of its search, which has no derivative.  The derivative
of either is a linear system, again a node with a `LinearRule`, so every order follows from these two
(`gradc.diff.implicit`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl, here
from gradc.ops.control import item
from gradc.ops.custom import BodyRule
from gradc.ops.leaves import full
from gradc.process import cached_property


@dataclass(frozen=True, eq=False)
class LinearSolver:
    """A body that solves a linear system, and its rule: what a node is made of."""

    body: Graph
    rule: LinearRule

    def solved(self, consts: Sequence[Node], b: Sequence[Node]) -> list[Node]:
        """x, with map(consts, x) = b."""
        node = OPS["custom"].make((*consts, *b), body=self.body, rule=self.rule)
        return [item(node, k) for k in range(self.rule.count)]

    def widened(self, widen: Callable[[Graph], Graph]) -> LinearSolver:
        """The solver in float64."""
        return LinearSolver(widen(self.body), self.rule.widened(widen))


class ImplicitRule(BodyRule):
    """What the two kinds have in common: ``count`` arrays of x, and the ``map``, a graph of (consts, x)."""

    kind = "implicit"

    def __init__(
        self, title: str, count: int, make_map: Callable[[], Graph], make_spread: Callable[[], Graph] | None
    ):  # fmt: skip
        super().__init__(title)
        self.count = count
        self._make_map, self._make_spread = make_map, make_spread

    @cached_property
    def map(self) -> Graph:
        """What of consts and x is 0, or b."""
        return self._make_map()

    @cached_property
    def spread(self) -> Graph:
        """What is like x, of (consts, x), and reads each element of the consts for each of x, in an example of a batch.

        Its transpose carries a failure from whatever part of x it struck to all of the consts.
        """
        if self._make_spread is not None:
            return self._make_spread()
        inputs = self.map.inputs
        consts = [dsl.sum(c) for c in inputs[: len(inputs) - self.count] if c.aval.is_float]
        zero = (full(y.shape, 0.0, y.dtype) for y in self.map.outputs)
        return self.map.replace(outputs=tuple(sum((c.astype(z.dtype) for c in consts), z) for z in zero))

    @abstractmethod
    def consts_of(self, operands: Sequence[Any]) -> Sequence[Any]:
        """The operands before the guess or b."""


class LinearRule(ImplicitRule):
    """map(consts, x) = b; ``transposed`` solves the system with the transposed matrix, for the same consts.

    Other systems with the same matrix, which derivatives are, are solved by ``make_again`` if it is given, else by the
    body itself: nobody can read there what else it tells, and a guess is none.
    """

    def __init__(
        self, title: str, count: int, make_map: Callable[[], Graph], make_transposed: Callable[[], LinearSolver],
        make_again: Callable[[], LinearSolver] | None = None, make_spread: Callable[[], Graph] | None = None,
    ):  # fmt: skip
        super().__init__(title, count, make_map, make_spread)
        self._make_transposed = make_transposed
        self._make_again = make_again

    @cached_property
    def transposed(self) -> LinearSolver:
        """What solves mapᵀ(consts, y) = c."""
        return self._make_transposed()

    @cached_property
    def again(self) -> LinearSolver | None:
        """What solves map(consts, y) = c in derivatives, if that is not the body itself."""
        return None if self._make_again is None else self._make_again()

    def consts_of(self, operands: Sequence[Any]) -> Sequence[Any]:
        return operands[: len(operands) - self.count]

    def over(self, of_graph: Callable[[Graph], Graph], of_solver: Callable[[LinearSolver], LinearSolver]) -> LinearRule:
        """The rule with another graph in place of the map, and other solvers."""
        again = None if self._make_again is None else lambda: of_solver(_there(self.again))
        return LinearRule(
            self.title, self.count, lambda: of_graph(self.map), lambda: of_solver(self.transposed), again,
            lambda: of_graph(self.spread),
        )  # fmt: skip

    def widened(self, widen: Callable[[Graph], Graph]) -> LinearRule:
        return self.over(widen, lambda solver: solver.widened(widen))

    def __reduce__(self) -> tuple[Any, ...]:
        return _left_behind, (LinearRule, self.title, self.count)


def _there(solver: LinearSolver | None) -> LinearSolver:
    assert solver is not None
    return solver


class RootRule(ImplicitRule):
    """map(consts, x) = 0; ``tangent`` solves ∂map/∂x · y = b, its consts are those of the map and x."""

    def __init__(
        self, title: str, count: int, guesses: int, make_map: Callable[[], Graph],
        make_tangent: Callable[[], LinearSolver], make_spread: Callable[[], Graph] | None = None,
    ):  # fmt: skip
        super().__init__(title, count, make_map, make_spread)
        self.guesses = guesses
        self._make_tangent = make_tangent

    @cached_property
    def tangent(self) -> LinearSolver:
        """What solves the linearised equation."""
        return self._make_tangent()

    def consts_of(self, operands: Sequence[Any]) -> Sequence[Any]:
        return operands[: len(operands) - self.guesses]

    def widened(self, widen: Callable[[Graph], Graph]) -> RootRule:
        return self.over(widen, lambda solver: solver.widened(widen))

    def over(self, of_graph: Callable[[Graph], Graph], of_solver: Callable[[LinearSolver], LinearSolver]) -> RootRule:
        """The rule with another graph in place of the map, and another solver."""
        return RootRule(
            self.title, self.count, self.guesses, lambda: of_graph(self.map), lambda: of_solver(self.tangent),
            lambda: of_graph(self.spread),
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        return _left_behind, (RootRule, self.title, self.count, self.guesses)


def _left_behind(kind: Callable[..., ImplicitRule], title: str, *counts: int) -> ImplicitRule:
    """The rule of a graph that has travelled: it still computes."""

    def refuse() -> Any:
        raise TraceError(
            f"{here()}: what {title} solves did not travel with its graph: differentiate before sending it, or trace "
            "the function where it is differentiated"
        )

    return kind(title, *counts, refuse, refuse)


def equation_at(node: Node) -> list[Node]:
    """What the rule of ``node`` says is 0, or b, at the solution that the node finds."""
    rule = implicit_rule_of(node)
    assert rule is not None
    return list(rule.map.inlined([*rule.consts_of(node.args), *(item(node, k) for k in range(rule.count))]))


def implicit_rule_of(node: Node) -> ImplicitRule | None:
    """The equation that the results of a node solve, if it has one."""
    rule = node.attrs.get("rule")
    return rule if isinstance(rule, ImplicitRule) else None
