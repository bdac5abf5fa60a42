"""Loops as recursions: what a step makes of the values before it, as a line below the formulas.

Enters: the graph of a derivation.  Leaves: for each loop its name and a text such as
``repeats hₜ = tanh(xₜ U + hₜ₋₁ W) for t = 1 … 5``.  A cotangent is written with a bar, a tangent with a dot; what one
loop keeps of each step for another has one name in both.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.explain.formula import Symbol
from gradc.explain.layout import Ident
from gradc.explain.lift import Lifter
from gradc.explain.matching import Names
from gradc.explain.notation import Notation, title_of
from gradc.explain.rules import FORWARD_RULES, Simplifier
from gradc.explain.text import TextPrinter
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import Loop, bodies, by_results, selected
from gradc.ops.record import Kind
from gradc.passes import inline_to_read
from gradc.passes.rules import mapped

_MARKS = {"d_": "\u0307", "c_": "\u0304", "sum_": "\u0304"}


def without_branches(graph: Graph) -> Graph:
    """Calls as what their body computes, branches as selections: what a reader takes in at one glance.

    A solution stays one, by the name of what it solves.
    """

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        if node.op.kind is not Kind.BRANCH:
            return None
        which, *operands = args
        held = bodies(node)
        return selected(which, held["body"].inlined(operands), held["otherwise"].inlined(operands))

    graph = inline_to_read(graph)
    while any(node.op.kind is Kind.BRANCH for node in graph.nodes):
        graph = inline_to_read(mapped(graph, by_results(results)))
    return graph


def recursions(graph: Graph) -> list[tuple[Ident, str]]:
    """Each loop in ``graph`` with what it repeats."""
    kept: dict[tuple[Node, int], str] = {}
    found = []
    for node in graph.nodes:
        if node.op.kind is Kind.LOOP:
            found.append((Ident(title_of(node)), _Recursion(Loop.of(node), node, kept).text()))
    return found


class _Recursion:
    def __init__(self, loop: Loop, node: Node, kept: dict[tuple[Node, int], str]):
        self.loop, self.node, self.kept = loop, node, kept
        before = "ₜ₊₁" if loop.reverse else "ₜ₋₁"
        names = {x: _name(loop.body, x) for x in loop.body.inputs}
        self.idents = {str(k): Ident(name) for k, name in enumerate(self._written(names, before))}
        symbols = {x: Symbol(x.shape, name=str(k), role="input") for k, x in enumerate(loop.body.inputs)}
        self.after = [names[x] + "ₜ" for x in loop.inner_carries]
        self.symbols = symbols
        self.lifter = Lifter(symbols, Simplifier(Names({}, {}), FORWARD_RULES), {}, composites=True)

    def _written(self, names: dict[Node, str], before: str) -> list[str]:
        loop = self.loop
        rows = [self._row(x, operand, names) for x, operand in zip(loop.inner_xs, loop.xs, strict=True)]
        return [*(names[x] for x in loop.inner_consts), *(names[x] + before for x in loop.inner_carries), *rows]

    def _row(self, x: Node, operand: Node, names: dict[Node, str]) -> str:
        if operand.op.kind is Kind.ITEM and (known := self.kept.get((operand.args[0], operand.attrs["index"]))):
            return known
        return "t" if operand.op.counts else names[x] + "ₜ"

    def text(self) -> str:
        """The recursion in words and formulas."""
        loop, printer, notation = self.loop, TextPrinter(), Notation(self.idents, {})

        def said(node: Node) -> str:
            return printer(notation.layout(self.lifter.formula(node)))

        parts = []
        for name, y in zip(self.after, loop.next_carries, strict=True):
            parts.append(f"{name} = {said(y)}")
            if y not in self.symbols:  # what follows may say it by name
                self.symbols[y] = Symbol(y.shape, name=name)
                self.idents[name] = Ident(name)
        for k, y in enumerate(loop.ys, len(loop.carries)):
            meaning = said(y)
            plain = isinstance(self.lifter.formula(y), Symbol)
            number = "" if len(self.kept) == 0 else str(len(self.kept) + 1)
            name = meaning if plain else f"r{number}ₜ"
            self.kept[self.node, k] = name
            if not plain:
                parts.append(f"{name} = {meaning}")
        return f"repeats {', '.join(parts)} {self._range()}"

    def _range(self) -> str:
        loop = self.loop
        if loop.cond is not None:
            return "while its condition holds" + (f", {loop.length} times at most" if loop.length is not None else "")
        return f"for t = {loop.length} … 1" if loop.reverse else f"for t = 1 … {loop.length}"


def _name(body: Graph, x: Node) -> str:
    """The user's name of a body's input; marked where it is the tangent or cotangent of one."""
    name = body.names.get(x) or str(x.attrs.get("name", "c"))
    for prefix, mark in _MARKS.items():
        if name.startswith(prefix):
            return name.removeprefix(prefix) + mark
    return name
