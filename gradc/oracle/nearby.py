"""Special points close to the user's: is the derivative right there too, or declared?

Enters: a `Subject`.  Leaves: `Finding`s, and for each special point that some operand comes close to what was compared
there, in words. A record names the points at which its op branches, and the derivative there where limits do not decide
(`Op.special`).  Such a point is visited where an operand comes within `NEAR` of it, relative to the point or to 1: a
step of an optimiser away, and too close for a difference quotient to see it.  The op is taken alone, at the point
itself: its rule must give what the record declares, and what the difference quotient gives where that settles; compiled
code must give what the rule gives.  Where no quotient settles the point is singular, and the convention is told.
Start reading at `special_points_nearby`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.diff.modes import pull_back
from gradc.graph import Graph
from gradc.node import Node, constant
from gradc.ops.control import every_node
from gradc.ops.implicit import equation_at, implicit_rule_of
from gradc.ops.record import Kind
from gradc.oracle.compare import VAGUE
from gradc.oracle.report import Finding
from gradc.oracle.rounding import running_errors
from gradc.oracle.rules import Alone
from gradc.oracle.walk import Walk
from gradc.oracle.witness import Subject
from gradc.passes.cse import attrs_key
from gradc.trace import new_input

Array = np.ndarray[Any, Any]
Compile = Callable[[Graph], Callable[[Sequence[Any]], Sequence[Any]]]

#: how close an operand comes to a special point that is visited
NEAR = 2.0**-20
ONE = Aval((1,), np.dtype(np.float64))


@dataclass(slots=True)
class _Visit:
    """A special point of the op of ``node``, and how close an operand comes to it."""

    node: Node
    point: tuple[float, ...]
    distance: float

    def __str__(self) -> str:
        at = ", ".join(f"{p:g}" for p in self.point)
        return f"{self.node.op.name} at {at if len(self.point) == 1 else f'({at})'}"


def special_points_nearby(subject: Subject, compile_graph: Compile | None = None) -> tuple[list[Finding], list[str]]:
    """What is wrong at special points close by, and what was compared there; ``compile_graph``: with compiled code."""
    visits = _visits(subject)
    alone = [_Alone(v) for v in visits]
    findings = [f for a in alone for f in a.findings(subject.graph)]
    told = [] if findings else [a.words() for a in alone]
    if compile_graph is not None and not findings and alone:
        findings = _compiled(alone, subject.graph, compile_graph)
    return findings, told


def _visits(subject: Subject) -> list[_Visit]:
    """Special points close to operands of any node, those in bodies included, at any step.

    Of an equation they are looked for in what is solved, at the solution, and not in the search, which nobody
    differentiates.
    """
    found: dict[Any, _Visit] = {}
    solutions = [node for node in every_node(subject.graph) if implicit_rule_of(node) is not None]
    searching = {inner for node in solutions for inner in every_node(node.attrs["body"])}
    solved = [y for node in solutions if node in subject.graph.index for y in equation_at(node)]

    def look(node: Node, args: Sequence[Array], value: Array) -> Array:
        branches = node.op.special and node.op.partials is not None and node.op.kind is Kind.ELEMENTWISE
        if branches and node not in searching:
            for point in map(_coordinates, node.op.special):
                distance = _distance(args, point) if len(point) == len(args) else np.inf
                if distance <= NEAR:
                    key = node.op.name, attrs_key(node), point
                    seen = found.setdefault(key, _Visit(node, point, distance))
                    seen.distance = min(seen.distance, distance)
        return value

    Walk(look)([*subject.graph.outputs, *solved], subject.values)
    return list(found.values())


def _coordinates(point: Any) -> tuple[float, ...]:
    return point if isinstance(point, tuple) else (point,)


def _distance(args: Sequence[Array], point: Sequence[float]) -> float:
    """How close the operands come to a finite point, all at once; inf for others."""
    if not np.all(np.isfinite(point)):
        return float("inf")
    off = [np.abs(a - p) / max(1.0, abs(p)) for a, p in zip(args, point, strict=True)]
    return float(np.min(np.max(np.broadcast_arrays(*off), axis=0), initial=np.inf))


class _Alone:
    """An op at a special point: its rule, what the record declares, and the difference quotient, by operand."""

    def __init__(self, visit: _Visit):
        self.visit = visit
        node = visit.node
        leaves = [new_input(ONE, "operand") for _ in node.args]
        whole = Node(node.op, tuple(leaves), node.attrs, ONE, node.where)
        self.alone = Alone(whole, [np.array([p]) for p in visit.point])
        self.given = [float(p) for p in visit.point]
        declared = node.op.special.get(visit.point, node.op.special.get(visit.point[0]))
        parts = declared if isinstance(declared, tuple) else (declared,)
        self.declared = [parts[k] if k < len(parts) else None for k in range(len(node.args))]
        self.pulled = pull_back([self.alone.copy], self.alone.leaves, [constant(np.ones(1))])
        outputs = [g for g in self.pulled if g is not None]
        values, errors = running_errors(outputs, self.alone.known)
        self.rule = [0.0 if g is None else float(values[g][0]) for g in self.pulled]
        self.error = [0.0 if g is None else float(errors[g][0]) for g in self.pulled]
        self.quotients = [self._quotient(i) for i in range(len(node.args))]

    def _quotient(self, i: int) -> tuple[float, float] | None:
        """The derivative by operand ``i`` by values alone and its error; None where it does not settle."""
        self.alone.directions = {k: np.full(1, float(k == i)) for k in self.alone.moving}
        if i not in self.alone.moving or not np.isfinite(self.alone.value[0]):
            return None
        found = self.alone.difference()
        value, error = float(found.value[0]), float(found.error[0])
        settled = not found.jump[0] and error <= VAGUE * max(abs(value), 1.0)
        return (value, error) if settled else None

    def findings(self, graph: Graph) -> list[Finding]:
        """What the rule gives that the record or the values contradict."""
        for i, (got, error) in enumerate(zip(self.rule, self.error, strict=True)):
            want, quotient = self.declared[i], self.quotients[i]
            if want is not None and not _same(got, float(want), error):
                return [self.finding("rule", "partials", graph, f"{got:.6g}, the record declares {want:.6g}")]
            if quotient is not None and not _same(got, quotient[0], error + quotient[1]):
                words = f"{got:.6g}, the difference quotient of its NumPy meaning is {quotient[0]:.6g}"
                return [self.finding("rule", "partials", graph, words)]
        return []

    def finding(self, stage: str, facet: str, graph: Graph, words: str) -> Finding:
        node = self.visit.node
        at = f"the derivative of {self.visit} ({self.visit.distance:.1g} from what it receives) is {words}"
        return Finding(stage, facet, node.op.name, graph.index.get(node, -1), node.where, at)

    def words(self) -> str:
        node = self.visit.node
        head = f"special point: {self.visit} ({node.where}, {self.visit.distance:.1g} away)"
        rule = ", ".join(f"{r:.6g}" for r in self.rule)
        if all(q is not None for q in self.quotients):
            return f"{head}: {rule}, compared"
        says = f" ({node.op.singular})" if node.op.singular else ""
        return f"{head}: declared singular: {rule}{says}"


def _compiled(alone: Sequence[_Alone], graph: Graph, compile_graph: Compile) -> list[Finding]:
    """Whether compiled code gives what the rules give at the special points: one module for all of them."""
    inputs = tuple(x for a in alone for x in a.alone.leaves)
    outputs = [(a, i, g) for a in alone for i, g in enumerate(a.pulled) if g is not None]
    if not outputs:
        return []
    results = compile_graph(Graph(inputs, tuple(g for *_, g in outputs)))(
        [np.array([p]) for a in alone for p in a.given]
    )
    for (a, i, _), result in zip(outputs, results, strict=True):
        got = float(np.asarray(result).reshape(-1)[0])
        if not _same(got, a.rule[i], a.error[i]):
            return [
                a.finding("kernel", "lowering", graph, f"{got:.6g} in compiled code, the rule gives {a.rule[i]:.6g}")
            ]
    return []


def _same(a: float, b: float, allowed: float) -> bool:
    return a == b or (a != a and b != b) or abs(a - b) <= allowed
