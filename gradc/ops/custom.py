"""A body whose derivative is a rule: the node and its rule.

``custom`` runs its body; reverse and forward mode take its derivative from a rule instead of from the body: one that
the user gives (`DerivativeRule`), or the equation that the results solve (`gradc.ops.implicit`).
Everything else about it is as for any node that holds bodies (see `gradc.ops.control`), and the compiler sees the body
alone.  How the rule is read by the modes is in `gradc.diff.custom`; the user's function, in `gradc.api.custom`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.node import Node, here
from gradc.ops.control import body_results
from gradc.ops.record import Kind, Op, register

Array = np.ndarray[Any, Any]
RuleKind = Literal["jvp", "vjp"]
Widen = Callable[[Graph], Graph]


class BodyRule(ABC):
    """What stands for the derivative of a body; ``title`` is what errors call the function."""

    kind: str

    def __init__(self, title: str):
        self.title = title

    @abstractmethod
    def widened(self, widen: Widen) -> BodyRule:
        """The rule for the body in float64; ``widen`` does that to a graph."""

    def widened_body(self, body: Graph, widen: Widen) -> Graph:
        """The body in float64, whose derivative `widened` stands for."""
        return widen(body)

    def __repr__(self) -> str:
        return f"<{self.kind} rule of {self.title}>"


def as_it_is(graph: Graph) -> Graph:
    """The graph in its own dtypes: what `DerivativeRule.widened` is given otherwise."""
    return graph


class DerivativeRule(BodyRule):
    """A linear map as a Graph, traced when a derivative is first asked for: a rule may well call its own function.

    ``make(widen)`` traces it for the body as ``widen`` leaves it; it is not widened afterwards.  ``retraced(widen)`` is
    such a body (None: it is widened).  Constants, as log 2 in the slope of 2ˣ, are rounded to the dtype in which they
    are traced, those of a function otherwise than those of its derivative.

    ``jvp``: the graph's inputs are the body's, then a tangent for each float among them; its outputs a tangent for each
    float output of the body.  ``vjp``: the inputs are the body's, then a cotangent for each float output; the outputs a
    cotangent for each float input.
    """

    kind: RuleKind

    def __init__(
        self,
        kind: RuleKind,
        title: str,
        make: Callable[[Widen], Graph],
        retraced: Callable[[Widen], Graph] | None = None,
        widen: Widen = as_it_is,
    ):
        super().__init__(title)
        self.kind = kind
        self._make, self._retraced, self._widen = make, retraced, widen
        self._graph: Graph | None = None
        #: the graph's outputs as plain functions, once a derivative is taken (`gradc.diff.custom`): they may hold nodes
        #: with this very rule, so they are kept here, where the collector of cycles sees both ends
        self.written: list[Node] | None = None

    @property
    def graph(self) -> Graph:
        """The rule as a graph."""
        if self._graph is None:
            self._graph = self._make(self._widen)
        return self._graph

    def __reduce__(self) -> tuple[Any, ...]:
        """The user's function stays where it is: a graph that travels still computes, but has no derivative here."""
        return _left_behind, (self.kind, self.title)

    def widened(self, widen: Widen) -> DerivativeRule:
        if widen is self._widen:
            return self
        return DerivativeRule(self.kind, self.title, self._make, self._retraced, widen)

    def widened_body(self, body: Graph, widen: Widen) -> Graph:
        return body if widen is self._widen else widen(body if self._retraced is None else self._retraced(widen))


def rule_of(node: Node) -> BodyRule | None:
    """The rule for the derivative of a node, if there is one."""
    rule: BodyRule | None = node.attrs.get("rule") if node.op.name == "custom" else None
    return rule


def _left_behind(kind: RuleKind, title: str) -> DerivativeRule:
    def make(widen: Widen) -> Graph:
        raise TraceError(
            f"{here()}: the {kind} rule of {title} did not travel with its graph: differentiate before sending it, or "
            "trace the function where it is differentiated"
        )

    return DerivativeRule(kind, title, make)


def _numpy(*operands: Array, body: Graph, rule: BodyRule) -> tuple[Array, ...]:
    return tuple(body.call(operands))


register(
    Op(
        name="custom",
        kind=Kind.CALL,
        infer=body_results,
        numpy=_numpy,
        doc="A body whose derivative is a rule given by the user, or that of an equation it solves.",
    )
)
