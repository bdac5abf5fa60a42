"""The derivation as HTML whose terms know which compiled nodes they stand for.

Enters: a `Program`.  Leaves: a row per line of the derivation, and the nodes of each term.
A term stands for its formula's own nodes; a function that the user called by name (softmax, cross entropy, …) for all
nodes between its operands and its value.  What a line computes on the way to its result, and none of its terms claims,
belongs to the line as a whole.  Start reading at `FormulaRows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from gradc.explain.derivation import Line
from gradc.explain.formula import Apply, Formula, Symbol
from gradc.explain.layout import Layout
from gradc.explain.mathml import NAMESPACE, MathmlPrinter
from gradc.explorer.film import is_number
from gradc.explorer.program import Program
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.record import Kind
from gradc.places import Where

Nodes = frozenset[int]
#: numbers a set of nodes; −1 for none
Numbered = Callable[[Nodes], int]


@dataclass(frozen=True)
class FormulaRows:
    """Writes the rows; ``numbered`` numbers sets of nodes."""

    program: Program
    numbered: Numbered

    def html(self) -> str:
        """All rows, under headings, and the remarks."""
        claimed: set[int] = set()
        parts: list[str] = []
        group = ""
        for line in self.program.derivation.lines:
            heading = "What is computed" if line.kind == "forward" else f"How its {self.program.sought} follows"
            if heading != group:
                group = heading
                parts.append(f"<h3>{heading}</h3>")
            parts.append(self._row(line, claimed))
        return "\n".join(parts) + self._remarks()

    def _row(self, line: Line, claimed: set[int]) -> str:
        places = " ".join(dict.fromkeys(str(w.line) for w in line.where))
        if line.formula is None or line.layout is None:
            right = f"<mn>0</mn><mtext>\u2003({escape(line.reason)})</mtext>"
            attributes = ""
        else:
            own, every = self._region(line, line.formula, claimed)
            right = MathmlPrinter(self._marks(line.formula, own))(line.layout)
            attributes = f' data-s="{self.numbered(every)}"' if every else ""
        math = (
            f'<math xmlns="{NAMESPACE}" display="inline"><mstyle displaystyle="true">'
            f"{self._target(line)}<mo>=</mo>{right}</mstyle></math>"
        )
        facts = "".join(
            f'<div class="facts-line"><math>{MathmlPrinter()(ident)}</math> {escape(words)}</div>'
            for ident, words in line.facts
        )
        return (
            f'<div class="formula {line.kind}" role="option"{attributes} aria-label="{escape(line.name)}">{math}'
            f'<span class="at" title="source lines">{escape(places)}</span>{facts}</div>'
        )

    def _target(self, line: Line) -> str:
        own = self._positions(line.formula) if line.formula is not None else frozenset[int]()
        own |= self._value(line)
        text = MathmlPrinter()(line.target)
        return f'<mrow data-t="" data-s="{self.numbered(own)}">{text}</mrow>' if own else text

    # -- which nodes -------------------------------------------------------------------------------------------------
    def _positions(self, x: Formula) -> Nodes:
        """The compiled nodes of a formula itself."""
        nodes = set(x.nodes)
        if isinstance(x, Apply):
            nodes |= {inner for node in x.nodes for inner in _region_of(node)}
        return self.program.positions(nodes)

    def _value(self, line: Line) -> Nodes:
        return self.program.positions({line.value}) if line.value is not None else frozenset()

    def _region(self, line: Line, x: Formula, claimed: set[int]) -> tuple[Nodes, Nodes]:
        """What belongs to a line as a whole, and all that belongs to it; ``claimed`` are the nodes of lines before."""
        every = self._value(line).union(*(self._positions(part) for part in _parts(x)))
        graph = self.program.graph
        found, pending = set(every), sorted(every)
        while pending:
            for arg in graph.nodes[pending.pop()].args:
                at = graph.index[arg]
                if at not in claimed and at not in found and arg.op.kind not in (Kind.INPUT, Kind.CONSTANT):
                    found.add(at)
                    pending.append(at)
        own = self._positions(x) | self._value(line) | (frozenset(found) - every)
        claimed |= found
        return own, frozenset(found)

    def _marks(self, whole: Formula, of_whole: Nodes) -> Callable[[Formula], str]:
        def mark(x: Formula) -> str:
            own = of_whole if x is whole else self._positions(x)
            every = own.union(*(self._positions(part) for part in _parts(x)))
            if not every:
                return ""
            return f' data-t="" data-s="{self.numbered(every)}" data-o="{self.numbered(own)}"'

        return mark

    # -- below -------------------------------------------------------------------------------------------------------
    def _remarks(self) -> str:
        derivation = self.program.derivation
        lines = [f"<math>{_ident(ident)}</math> {_words(meaning)}" for ident, meaning in derivation.legend]
        lines += [f"at singular points, {escape(text)}" for text in derivation.conventions]
        lines += [f"stabilised, {escape(text)}" for text in derivation.notes]
        return f'<div class="remarks">{"<br>".join(lines)}</div>' if lines else ""


def _ident(x: Layout) -> str:
    return MathmlPrinter()(x)


def _words(meaning: str | Layout) -> str:
    return escape(meaning) if isinstance(meaning, str) else f"is <math>{MathmlPrinter()(meaning)}</math>"


def _parts(x: Formula) -> Iterator[Formula]:
    """A formula and all inside, but not what names stand for."""
    stack = [x]
    while stack:
        part = stack.pop()
        if part is x or not isinstance(part, Symbol):
            yield part
            stack += part.parts


def _region_of(node: Node) -> Iterator[Node]:
    """The nodes of a composite: between the operands that it was called with and its value."""
    if node.label is not None:
        operands = dict.fromkeys(node.label.args)
        yield from (n for n in topological([node], operands) if n not in operands)


def places_of(program: Program) -> set[Where]:
    """The user's lines that anything compiled comes from."""
    return {where for _, where in located(program)}


def located(program: Program) -> Iterator[tuple[int, Where]]:
    """The computed nodes, by position, each with the user's line that it comes from."""
    for position, node in enumerate(program.graph.nodes):
        if node.where is not None and node.op.kind is not Kind.INPUT and not is_number(node):
            yield position, node.where
