"""Evaluation traces: a function one operation at a time, and beside it what reverse or forward mode does at each.

Enters: a traced graph, the inputs that it is differentiated by, and arrays or shapes.  Leaves: an `EvaluationTrace`,
whose rows say v₄ = v₁ + v₂, and v̄₂ = v̄₄ (the adjoint, ∂y/∂v₂) or v̇₄ = v̇₁ + v̇₂ (the tangent), with the numbers.
An operation is what a reader counts as one: a call of softmax, a product of matrices; elements that are only moved are
written where they are used.  Formulas are those of each operation alone; numbers are those of the whole derivative, so
neither is made from the other.  Source: Griewank and Walther, Evaluating Derivatives (2008), chapters 2 and 3.
Start reading at `evaluation_trace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np

from gradc.diff.linear import active_nodes
from gradc.diff.modes import pull_back, push_forward
from gradc.explain.assumptions import without_assumptions
from gradc.explain.draws import with_named_draws
from gradc.explain.equations import systems_to_read
from gradc.explain.extents import with_named_extents
from gradc.explain.folding import Said, names_in
from gradc.explain.formula import Formula, Symbol, number, total, value_of
from gradc.explain.latex import LatexPrinter
from gradc.explain.layout import Derivative, Ident, Layout, Listed
from gradc.explain.letters import ACCENTS
from gradc.explain.lift import Lifter, exact
from gradc.explain.matching import Names
from gradc.explain.mathml import MathmlPrinter
from gradc.explain.naming import LETTERS, Naming
from gradc.explain.notation import Notation
from gradc.explain.recursions import without_branches
from gradc.explain.rules import FORWARD_RULES, Simplifier
from gradc.explain.text import TextPrinter
from gradc.graph import Graph, substitute
from gradc.interpret import topological
from gradc.node import Node, constant, derived_from
from gradc.ops.record import LEAVES, Kind, has_results
from gradc.passes import cse, fold, join, run_passes, simplify_to_read
from gradc.places import Where
from gradc.tabular import text_width
from gradc.trace import new_input

Mode = Literal["reverse", "forward"]

#: what each mode computes beside a value, and the accent that it is written with
BESIDE: Mapping[Mode, str] = {"reverse": "adjoint", "forward": "tangent"}
ACCENT: Mapping[Mode, str] = {"reverse": ACCENTS["bar"], "forward": ACCENTS["dot"]}
_HEADINGS: Mapping[Mode, str] = {"reverse": "adjoints, from the last to the first", "forward": "tangents"}


@dataclass(frozen=True)
class TraceRow:
    """``target`` = ``layout``, and the numbers that it has: one, or in forward mode one for each direction.

    Numbers are told of scalars; of an array its shape.  ``name`` is what the formulas of other rows call the value.
    """

    name: str
    target: Layout
    layout: Layout
    shape: tuple[int, ...]
    numbers: tuple[float, ...] = ()
    where: tuple[Where, ...] = ()


@dataclass(frozen=True)
class EvaluationTrace:
    """A function as a list of operations, and the adjoints (``mode`` "reverse") or tangents ("forward") beside them.

    `str` prints both as a table; ``.latex()`` and ``.mathml()`` are the same for a page, and notebooks show it so.
    """

    mode: Mode
    evaluation: tuple[TraceRow, ...]
    derivative: tuple[TraceRow, ...]
    directions: tuple[Layout, ...]  #: in forward mode: the input that has tangent 1, for each column of numbers
    legend: tuple[tuple[Layout, str], ...]
    sizes: Mapping[str, int]  #: extents of axes by the names that formulas give them

    def text(self, *, ascii: bool = False) -> str:
        """The trace as text: two tables, the formulas at the left and their numbers (or shapes) at the right."""
        printer = TextPrinter(ascii)
        names = [f"{printer(_accented(x, ACCENTS['dot']))} = 1" for x in self.directions if isinstance(x, Ident)]
        tables = [
            _table(printer, "evaluation", self.evaluation, []),
            _table(printer, _HEADINGS[self.mode], self.derivative, names if len(names) > 1 else []),
            [f"{printer(x)} {printer.plain(words)}" for x, words in self.legend],
        ]
        return "\n\n".join("\n".join(rows) for rows in tables if rows)

    def latex(self) -> str:
        """An ``aligned`` environment: the operations, then the adjoints or tangents."""
        return LatexPrinter().aligned([Said(row.target, row.layout) for row in (*self.evaluation, *self.derivative)])

    def mathml(self) -> str:
        """A ``math`` element with a row per operation and per adjoint or tangent."""
        return MathmlPrinter().table([Said(row.target, row.layout) for row in (*self.evaluation, *self.derivative)])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def _repr_html_(self) -> str:
        words = "<br>".join(escape(f"{TextPrinter()(x)} {words}") for x, words in self.legend)
        return f"<div>{self.mathml()}<small>{words}</small></div>"


def _table(printer: TextPrinter, heading: str, rows: Sequence[TraceRow], columns: Sequence[str]) -> list[str]:
    """Formulas, and their numbers or shapes in columns of their own."""
    if not rows:
        return []
    cells = [(f"  {printer(row.target)} = {printer(row.layout)}", _numbers(printer, row)) for row in rows]
    lines = [(heading, list(columns)), *cells]
    formulas = max(text_width(text) for text, _ in lines)
    count = max(len(numbers) for _, numbers in lines)
    widths = [max((text_width(ns[k]) for _, ns in lines if k < len(ns)), default=0) for k in range(count)]
    return [
        (
            text
            + " " * (formulas - text_width(text))
            + "".join("   " + " " * (w - text_width(n)) + n for n, w in zip(numbers, widths, strict=False))
        ).rstrip()
        for text, numbers in lines
    ]


def _numbers(printer: TextPrinter, row: TraceRow) -> list[str]:
    if row.shape:
        return [f"[{', '.join(map(str, row.shape))}]"]
    return [printer.plain(f"{x:.6g}".replace("-", "−")) for x in row.numbers]


def evaluation_trace(primal: Graph, wanted: Sequence[Node], mode: Mode, arrays: Sequence[Any]) -> EvaluationTrace:
    """The trace of ``primal`` and of its derivative by ``wanted``; ``arrays`` holds None where only a shape is known.

    Raises ValueError for a mode that is neither "reverse" nor "forward".
    """
    return _Tracer(primal, wanted, mode).trace(arrays)


class _Tracer:
    """The operations of one graph, in the order of their evaluation."""

    def __init__(self, primal: Graph, wanted: Sequence[Node], mode: Mode):
        self.mode: Mode = mode
        self.wanted = tuple(wanted)
        primal, facts = without_assumptions(systems_to_read(without_branches(with_named_draws(primal))))
        self.naming = Naming(primal)
        self.graph, self.extents = with_named_extents(primal, set(self.naming.taken))
        self.naming.reserve(s.name for s in self.extents.symbols.values())
        self.names = Names({}, {}, {symbol.name: size for size, symbol in self.extents.symbols.items()}, facts)
        self.counts = {leaf: self.extents.symbols[size] for size, leaf in self.extents.leaves.items()}
        self.symbols: dict[Node, Symbol] = dict(self.counts)
        self.symbols |= {x: self.naming.symbol(x, self.graph.names[x]) for x in self.graph.inputs}
        self.meanings: dict[Node, Formula] = {}  #: of each operation, in order
        self._find_operations()
        order, active = active_nodes(self._outputs, self.wanted)
        self.active = active.intersection(order)
        self.beside: dict[Node, Symbol] = {}  #: of each value its adjoint or tangent, where it has one
        self.seeds: dict[Node, Symbol] = {}  #: cotangents of results that have a row of their own

    @property
    def _outputs(self) -> list[Node]:
        return [y for y in self.graph.outputs if y.aval.is_float]

    # -- operations ----------------------------------------------------------------------------------------------------

    def _find_operations(self) -> None:
        """Give every operation a name: the user's, or v with a number."""
        used = {ident.name for ident in self.naming.idents.values()}
        letter = next(c for c in ("v", *LETTERS, "value") if c not in used)
        lifter = Lifter(self.symbols, Simplifier(self.names, FORWARD_RULES), self.extents.symbols, composites=True)
        outputs = dict(zip(self.graph.outputs, self.naming.output_names, strict=True))
        seen = self._read()
        number = 0
        for node in topological(self.graph.outputs):
            name = self.graph.names.get(node) or outputs.get(node, "")
            if node in self.symbols or node not in seen or has_results(node) or (not name and _is_written_inside(node)):
                continue
            meaning = lifter.definition(node)
            if not name and (isinstance(meaning, Symbol) or value_of(meaning) is not None):
                continue
            if not name:
                number += 1
                name = self.naming.fresh(f"{letter}{number}")
            self.meanings[node] = meaning
            self.symbols[node] = self.naming.symbol(node, name)

    def _read(self) -> set[Node]:
        """The nodes that are met on the way from the results to the inputs, what is inside a composite passed over."""
        seen: set[Node] = set()
        stack = list(self.graph.outputs)
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += node.label.args if node.label is not None else node.args
        return seen

    def _operands(self, node: Node) -> list[Node]:
        """The named values that an operation reads."""
        return [x for x in topological(node.args, self.symbols) if x in self.symbols and x not in self.counts]

    # -- what is beside them -------------------------------------------------------------------------------------------

    def trace(self, arrays: Sequence[Any]) -> EvaluationTrace:
        """The rows of both tables."""
        for node in (*self.wanted, *self.meanings):
            if node in self.active and node.aval.is_float:
                self.beside[node] = self._named_beside(node)
        formulas = self._adjoints() if self.mode == "reverse" else self._tangents()
        values, slopes = self._values(arrays, list(formulas))
        notation = Notation(self.naming.idents, self.names.extents, captured=self.naming.captured)
        evaluation = [
            self._row(x, notation.whole(meaning), values.get(x, ()), meaning.where)
            for x, meaning in self.meanings.items()
        ]
        given = [self._row(x, notation.layout(_as_number(values[x][0]))) for x in self.graph.inputs if x in values]
        derivative = [
            self._row(x, notation.whole(meaning), slopes.get(x, ()), meaning.where, beside=True)
            for x, meaning in formulas.items()
        ]
        directions = tuple(self._ident(x) for x in self.wanted) if slopes and self.mode == "forward" else ()
        rows = (*given, *evaluation)
        said = {name for row in (*rows, *derivative) for name in names_in(row.layout)}
        sizes = {symbol.name: size for size, symbol in self.extents.symbols.items()}
        return EvaluationTrace(self.mode, rows, tuple(derivative), directions, tuple(self._legend(said)), sizes)

    def _row(
        self,
        x: Node,
        layout: Layout,
        numbers: tuple[float, ...] = (),
        where: tuple[Where, ...] = (),
        beside: bool = False,
    ) -> TraceRow:
        symbol = (self.beside if beside else self.symbols)[x]
        return TraceRow(symbol.name, self.naming.ident(symbol.name), layout, x.shape, numbers, where)

    def _named_beside(self, node: Node) -> Symbol:
        of = self._ident(node)
        key = self.naming.fresh(f"{BESIDE[self.mode]} of {self.symbols[node].name}")
        self.naming.idents[key] = _accented(of, ACCENT[self.mode])
        return Symbol(node.shape, name=key, role="quantity", nodes=frozenset((node,)))

    def _ident(self, node: Node, beside: bool = False) -> Ident:
        return self.naming.ident((self.beside if beside else self.symbols)[node].name)

    def _adjoints(self) -> dict[Node, Formula]:
        """Each adjoint by those of the operations that read the value, from the last to the first."""
        terms: dict[Node, list[Formula]] = {node: [] for node in self.beside}
        found: dict[Node, Formula] = {}
        given = {y for y in self._outputs if y in terms}
        for node in reversed([*self.wanted, *self.meanings]):
            if node not in terms:
                continue
            if node in given and node.shape == ():
                terms[node].append(_as_number(1.0))
            elif node in given and terms[node]:  # a result that another one is made of, too
                terms[node].append(self._seed(node))
            if terms[node]:
                found[node] = Simplifier(self.names)(total(node.shape, terms[node]))
            elif node not in given:  # it is read by what is constant between its steps alone
                found[node] = total(node.shape, [])
            if node in self.meanings and (terms[node] or node in given):
                for operand, term in self._shares(node):
                    terms[operand].append(term)
        return found

    def _seed(self, y: Node) -> Symbol:
        """What the adjoint of a result begins with where more is added to it."""
        self.seeds[y] = Symbol(y.shape, name=self.naming.fresh("G"), role="quantity", nodes=frozenset((y,)))
        return self.seeds[y]

    def _tangents(self) -> dict[Node, Formula]:
        """Each tangent by those of the operands, in the order of the evaluation."""
        found: dict[Node, Formula] = {}
        for node in self.meanings:
            if node in self.beside:
                shares = [term for _, term in self._shares(node)]
                found[node] = shares[0] if shares else total(node.shape, [])  # of what is constant between its steps
        return found

    def _shares(self, node: Node) -> Iterator[tuple[Node, Formula]]:
        """What the adjoint of an operation adds to those of its operands, or all of its tangent, by symbols alone."""
        operands = [x for x in self._operands(node) if x in self.beside]
        inside = {x: new_input(x.aval, self.symbols[x].name) for x in self._operands(node)}
        (value,) = substitute([node], inside)
        leaves = [inside[x] for x in operands]
        symbols = {**self.counts, **{leaf: self.symbols[x] for x, leaf in inside.items()}}
        with derived_from(node.where):
            if self.mode == "reverse":
                given = [new_input(node.aval, self.beside[node].name)]
                derived = pull_back([value], leaves, given)
                symbols[given[0]] = self.beside[node]
            else:
                given = [new_input(x.aval, self.beside[x].name) for x in operands]
                derived = push_forward([value], leaves, given)
                symbols |= {t: self.beside[x] for x, t in zip(operands, given, strict=True)}
        owners = operands if self.mode == "reverse" else [node]
        present = [(owner, x) for owner, x in zip(owners, derived, strict=True) if x is not None]
        graph = Graph((*inside.values(), *self.counts, *given), (value, *(x for _, x in present)), {})
        graph = run_passes(graph, (fold, simplify_to_read, cse, join, simplify_to_read, cse))
        names = Names({}, {}, self.names.extents, self.names.facts)
        lifter = Lifter(symbols, Simplifier(names), self.extents.symbols)
        if graph.outputs[0] not in symbols:
            meaning = lifter.definition(graph.outputs[0])
            if meaning.parts:
                names.define(self.symbols[node], meaning)
                lifter.simplified.learn(meaning)
            symbols[graph.outputs[0]] = self.symbols[node]
        for (owner, _), x in zip(present, graph.outputs[1:], strict=True):
            yield owner, lifter.formula(x)

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _values(
        self, arrays: Sequence[Any], derived: Sequence[Node]
    ) -> tuple[dict[Node, tuple[float, ...]], dict[Node, tuple[float, ...]]]:
        """The numbers of scalars, and those of their adjoints or tangents; nothing where only shapes are known."""
        if any(a is None for a in arrays):
            return {}, {}
        columns = self._derivatives(derived)
        nodes = [*self.graph.inputs, *self.meanings]
        outputs = [*nodes, *(x for column in columns for x in column)]
        whole = Graph((*self.graph.inputs, *self.counts), tuple(outputs), {})
        with np.errstate(all="ignore"):
            found = whole.evaluate(*arrays, *(np.asarray(n, leaf.dtype) for n, leaf in self.extents.leaves.items()))
        values: dict[Node, tuple[float, ...]] = {
            x: (float(a),) for x, a in zip(nodes, found, strict=False) if x.shape == () and a.dtype.kind in "fbiu"
        }
        rest = iter(found[len(nodes) :])
        table = [[next(rest) for _ in column] for column in columns]
        slopes = {
            x: tuple(float(a) for a in row)
            for x, row in zip(derived, zip(*table, strict=True), strict=False)
            if x.shape == ()
        }
        return values, slopes

    def _derivatives(self, derived: Sequence[Node]) -> list[list[Node]]:
        """All adjoints of a scalar; all tangents in the direction of each scalar input, a column each."""
        outputs = self._outputs
        if self.mode == "reverse":
            if any(y.shape for y in outputs):
                return []
            seeds = [constant(np.ones((), y.dtype)) for y in outputs]
            return [_present(pull_back(outputs, derived, seeds), derived)]
        if any(x.shape for x in self.wanted):
            return []
        return [
            _present(push_forward(derived, [x], [constant(np.ones((), x.dtype))]), derived)
            for x in self.wanted
            if x.aval.is_float
        ]

    def _legend(self, said: set[Ident]) -> Iterator[tuple[Layout, str]]:
        for size, symbol in self.extents.symbols.items():
            if self.naming.ident(symbol.name) in said:
                yield self.naming.ident(symbol.name), f"= {size}"
        yield from self.naming.captured_arrays(said)
        if unread := tuple(self._ident(x) for x in self.wanted if x not in self.beside):
            yield Listed(unread), f"{'does' if len(unread) == 1 else 'do'} not reach a result"
        if not self.beside:
            return
        printer = TextPrinter()
        if self.mode == "reverse":
            for y in dict.fromkeys(self._outputs):
                if y in self.beside and y.shape:
                    given = self.naming.ident(self.seeds.get(y, self.beside[y]).name)
                    yield given, f"is the cotangent of {printer(self._ident(y))}, which is given"
            if len(self._outputs) == 1 and self._outputs[0].shape == ():
                example = next(x for x in (*self.meanings, *self.wanted) if x in self.beside)
                of = Derivative(self._ident(self._outputs[0]), self._ident(example))
                yield self._ident(example, beside=True), f"is {printer(of)}, and so for each value"
            return
        for x in self.wanted:
            if x in self.beside:
                yield self._ident(x, beside=True), f"is the direction of {printer(self._ident(x))}, which is given"


def _is_written_inside(node: Node) -> bool:
    """Whether a node only moves elements, or is known: then it is no operation."""
    return node.op.kind in (*LEAVES, Kind.VIEW)


def _as_number(value: float) -> Formula:
    return number(exact(value, np.dtype(np.float64)))


def _present(found: Sequence[Node | None], like: Sequence[Node]) -> list[Node]:
    zeros = [constant(np.zeros(x.shape, x.dtype)) for x in like]
    return [a if a is not None else zero for a, zero in zip(found, zeros, strict=True)]


def _accented(x: Ident, accent: str) -> Ident:
    """x̄ or ẋ for x."""
    return Ident(x.name + accent, x.below, x.index)


__all__ = ["EvaluationTrace", "TraceRow", "evaluation_trace"]
