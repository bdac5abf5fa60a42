"""The derivation of a gradient: lines of formulas, in the order in which a textbook writes them.

Enters: a traced Graph and the inputs whose gradient is wanted.  Leaves: a `Derivation`, whose lines are formulas over
named quantities, and whose `graph` computes the gradient by exactly the displayed formulas.
A line stands for every quantity that the user named and the result needs, for what the gradients share (`quantities`),
and for each wanted gradient.
Start reading at `explain_graph`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from gradc.aval import Aval, promoted
from gradc.diff.linear import active_nodes
from gradc.diff.modes import pull_back
from gradc.errors import MissingNameError
from gradc.explain.assumptions import FACTS, without_assumptions
from gradc.explain.draws import with_named_draws
from gradc.explain.equations import systems_to_read
from gradc.explain.extents import with_named_extents
from gradc.explain.folding import Rule, Said, Update, folded, names_in, plain
from gradc.explain.formula import Formula, Symbol
from gradc.explain.latex import LatexPrinter
from gradc.explain.layout import Ident, Layout
from gradc.explain.lift import Lifter
from gradc.explain.matching import Names
from gradc.explain.mathml import MathmlPrinter
from gradc.explain.naming import Naming
from gradc.explain.notation import Notation
from gradc.explain.page import Page
from gradc.explain.quantities import Key, Quantities, symbols_in
from gradc.explain.reasons import conventions, open_forms, why_zero, worth_declaring
from gradc.explain.recursions import recursions, without_branches
from gradc.explain.rules import BY, FORWARD_RULES, RULES, Fact, Simplifier
from gradc.explain.rules import Rule as Identity
from gradc.explain.text import TextPrinter
from gradc.explain.values import Evaluator
from gradc.graph import Graph, substitute
from gradc.interpret import topological
from gradc.node import Node, constant, derived_from
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.ops.record import Kind
from gradc.passes import (
    FORWARD_TO_READ,
    Observe,
    apply,
    away_from_kinks,
    cse,
    fold,
    join,
    run_passes,
    simplify_to_read,
)
from gradc.passes.lineage import following
from gradc.places import Where
from gradc.process import cached_property
from gradc.trace import new_input


@dataclass(frozen=True)
class Line:
    """``target`` = ``formula``; a gradient that is structurally zero has no formula but a reason."""

    kind: str  #: "forward", "quantity" or "gradient"
    target: Layout
    formula: Formula | None
    layout: Layout | None
    name: str
    where: tuple[Where, ...] = ()
    reason: str = ""
    facts: tuple[tuple[Ident, str], ...] = ()  #: what the user declared and the formula makes use of
    value: Node | None = None  #: of a gradient: the node of the compiled graph that the formula is of
    rules: tuple[Identity, ...] = ()  #: the identities that brought the formula to its form

    @property
    def nodes(self) -> frozenset[Node]:
        """The compiled nodes that the whole line stands for."""
        return frozenset(_nodes_of(self.formula)) if self.formula is not None else frozenset()


def _nodes_of(x: Formula) -> set[Node]:
    found, stack = set[Node](), [x]
    while stack:
        part = stack.pop()
        if not isinstance(part, Symbol):
            found |= part.nodes
            stack += part.parts
    return found


@dataclass(frozen=True)
class Derivation:
    """How the gradient follows from the function; `str` prints it.

    ``lines`` are in reading order.  ``graph`` takes the function's inputs (and the cotangents ``G`` of results that
    are not scalar) and computes the wanted gradients by the displayed formulas; ``compiled`` is the graph they were
    derived from, in the form that is read.  ``step`` is what one compiles: the function's results and the gradients
    that are not zero, as reverse mode gives them; its inputs are those of ``graph`` and the extents in ``sizes``, which
    formulas name.  ``origins`` are, for the nodes of ``compiled``, those that they were in ``step``.
    """

    lines: tuple[Line, ...]
    graph: Graph
    compiled: Graph
    step: Graph
    sizes: Mapping[Node, int]
    origins: Mapping[Node, frozenset[Node]]
    legend: tuple[tuple[Layout, str | Layout], ...] = ()
    conventions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rewrites: tuple[Identity, ...] = field(default=())
    open_forms: tuple[str, ...] = ()  #: operations that have no closed form and are written as they are
    remarks: tuple[str, ...] = ()  #: what else is known of the derivative: where a sparse one has entries
    undeclared: tuple[str, ...] = ()  #: inputs that look like labels: were they declared one-hot, less would be written
    updates: tuple[Update, ...] = ()  #: of a training step, what becomes of the parameters and of the state

    def text(
        self,
        *,
        lines: bool = False,
        rules: bool = False,
        ascii: bool = False,
        width: int | None = None,
        fold: bool = True,
    ) -> str:
        """The derivation as text.

        ``lines`` adds the user's source lines, ``rules`` the identities that each formula was simplified by, ``width``
        breaks long formulas.  Repeated layers are printed as one rule over an index l, unless ``fold`` is False or
        something is to be said of each line.
        """
        return Page(TextPrinter(ascii), lines, width, fold, rules).render(self)

    def latex(self, *, fold: bool = True) -> str:
        """An ``aligned`` environment with one line per formula, repeated layers as one rule."""
        return LatexPrinter().aligned(self._items(fold))

    def mathml(self, *, fold: bool = True) -> str:
        """A ``math`` element with one line per formula, for a web page: browsers show it without a library."""
        return MathmlPrinter().table(self._items(fold))

    @cached_property
    def folded(self) -> tuple[tuple[Said | Rule, ...], tuple[Said | Rule, ...]]:
        """The lines of the function and those of the gradient, repeated layers as one rule."""
        return folded(self.lines)

    def _items(self, fold: bool) -> list[Said | Rule | Update]:
        lines = [*self.folded[0], *self.folded[1]] if fold else [plain(line) for line in self.lines]
        return [*lines, *self.updates]

    def line(self, name: str) -> Line:
        """The line that defines ``name``, or the gradient line of the input ``name``."""
        for line in self.lines:
            if line.name == name:
                return line
        raise MissingNameError(f"no line for {name!r}; there are {', '.join(line.name for line in self.lines)}")

    def remarks_below(self) -> list[str]:
        """What stands below the formulas, a line each: letters, singular points, stabilised forms."""
        return Page(TextPrinter()).remarks(self)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def _repr_html_(self) -> str:
        remarks = "".join(f"<br>{escape(text)}" for text in self.remarks_below())
        return f"<div>{self.mathml()}<small>{remarks.removeprefix('<br>')}</small></div>"


def explain_graph(primal: Graph, wanted: Sequence[Node], observe: Observe | None = None) -> Derivation:
    """The derivation of the gradient of ``primal`` with respect to the inputs ``wanted``.

    A result that is not one scalar is explained as the vector–Jacobian product with cotangents named G.
    ``observe(name, before, after)`` is called after each step on the way to the graph that is explained.
    """
    return Deriver(primal, wanted, observe).derivation()


def _of_results(graph: Graph) -> Graph:
    """``graph`` with the names of what its results need alone."""
    return graph.replace(names={node: name for node, name in graph.names.items() if node in graph.index})


def _applied(owed: Mapping[Key, frozenset[Fact]], key: Key) -> tuple[Identity, ...]:
    """The identities that a line makes use of, in the order of their table."""
    names = {fact for name, fact in owed.get(key, ()) if name == BY}
    return tuple(rule for rule in RULES if rule.name in names)


class Deriver:
    """The steps of one derivation and what they share.

    What is derived is said by `_seeds`, `_differentiated`, `_target`, `_reason` and `_legend`, and by ``results``: the
    avals of the wanted derivatives; ``strict`` is that of `Notation`.
    """

    strict = False

    def __init__(self, primal: Graph, wanted: Sequence[Node], observe: Observe | None = None):
        self.observe = observe
        primal = with_named_draws(apply(away_from_kinks, primal))
        primal, self.facts = without_assumptions(systems_to_read(without_branches(primal)))
        self.primal, self.wanted = primal, tuple(wanted)
        self.naming = Naming(primal)
        self.marked, self.extents = with_named_extents(primal, set(self.naming.taken))
        self.naming.reserve(s.name for s in self.extents.symbols.values())
        self.stable = run_passes(self.marked, FORWARD_TO_READ, observe)
        self.cotangents = self._seeds()
        self.compiled, self.gradients, self.belongs_to = self._differentiated()
        self.results = self._results()

    # -- the graph to explain ------------------------------------------------------------------------------------------

    def _seeds(self) -> list[Node]:
        outputs = self.stable.outputs
        if len(outputs) == 1 and outputs[0].shape == ():
            with derived_from(outputs[0].where):
                return [constant(np.ones((), outputs[0].dtype))] if outputs[0].aval.is_float else []
        return [new_input(y.aval, self.naming.fresh("G")) for y in outputs if y.aval.is_float]

    @property
    def scalar(self) -> bool:
        return len(self.stable.outputs) == 1 and self.stable.outputs[0].shape == ()

    def _differentiated(self) -> tuple[Graph, list[Node | None], dict[Node, Node]]:
        """Forward quantities and cotangents of everything on the way, optimised as one graph."""
        outputs = [y for y in self.stable.outputs if y.aval.is_float]
        order, active = active_nodes(outputs, self.wanted)
        way = [n for n in order if n in active]
        found = dict(zip(way, pull_back(outputs, way, self.cotangents), strict=True))
        present = [n for n in way if found.get(n) is not None]
        names = {**self._superfluous(), **self.stable.names}
        named = [n for n in topological([*names]) if n in names]
        leaves = [
            *self.primal.inputs,
            *self.extents.leaves.values(),
            *(c for c in self.cotangents if c.op.kind is Kind.INPUT),
        ]
        gradients = [found[x] for x in self.wanted if x in found and found[x] is not None]
        results = (*self.stable.outputs, *gradients)
        self.step = _of_results(Graph(tuple(leaves), results, names, title=self.primal.title))  # type: ignore[arg-type]
        if self.observe is not None:
            self.observe("differentiate", self.stable, self.step)
        graph = Graph(tuple(leaves), (*named, *present, *(found[n] for n in present)), names)  # type: ignore[arg-type]
        with following() as lineage:
            graph = run_passes(graph, (systems_to_read, fold, simplify_to_read, cse, join, simplify_to_read))
        self.origins = lineage.origins(graph)
        forward = graph.outputs[len(named) : len(named) + len(present)]
        pulled = graph.outputs[len(named) + len(present) :]
        by_forward = dict(zip(present, pulled, strict=True))
        belongs = self._owners(graph, forward, pulled)
        return graph, [by_forward.get(x) for x in self.wanted], belongs

    def _superfluous(self) -> dict[Node, str]:
        """What the user named and the stable function does without, itself in its stable form: 1/(1 + exp(−x)) is σ(x)
        in the gradient of its logarithm, too.
        """
        known = set(self.stable.names.values())
        left = {node: name for node, name in self.marked.names.items() if name not in known}
        if not left:
            return {}
        alone = run_passes(self.marked.replace(outputs=tuple(left)), FORWARD_TO_READ)
        return dict(zip(alone.outputs, left.values(), strict=True))

    def _results(self) -> list[Aval]:
        return [w.aval for w in self.wanted]

    def _owners(self, graph: Graph, forward: Sequence[Node], pulled: Sequence[Node]) -> dict[Node, Node]:
        """For each cotangent the forward node it belongs to: one that has a name, if possible no input."""
        owners: dict[Node, Node] = {}
        inputs = set(graph.inputs)
        pairs = list(zip(reversed(pulled), reversed(forward), strict=True))
        inner = [(ct, n) for ct, n in pairs if n not in inputs]
        for ct, n in [p for p in inner if p[1] in graph.names] + inner + pairs:
            owners.setdefault(ct, n)
        return owners

    # -- lines ---------------------------------------------------------------------------------------------------------

    def derivation(self) -> Derivation:
        quantities = Quantities(self.compiled, self.gradients, self.belongs_to, self.extents, self.naming, self.facts)
        gradients = quantities.gradients
        notation = Notation(self.naming.idents, quantities.names.extents, self.strict, self.naming.captured)
        forward = self._forward_lines(quantities)
        shown = {name for name, _ in forward}
        of_function = Notation(self.naming.idents, quantities.names.extents, captured=self.naming.captured)
        lines = self._laid_out(forward, "forward", of_function, {})
        notation.lying |= of_function.lying
        lines += self._in_textbook_order(quantities, gradients, notation, shown)
        return Derivation(
            tuple(lines),
            self._displayed_graph(quantities, gradients),
            self.compiled,
            self.step,
            {leaf: size for size, leaf in self.extents.leaves.items()},
            self.origins,
            (*self._legend(quantities, lines), *recursions(self.compiled)),
            conventions(self.stable, lines),
            self.stable.notes,
            tuple(quantities.simplifier.applied.values()),
            open_forms=open_forms(lines),
            undeclared=worth_declaring(lines),
        )

    def _forward_lines(self, quantities: Quantities) -> list[tuple[str, Formula]]:
        """Every named quantity that the result needs, as the user wrote it; unnamed ones that gradients name."""
        names = Names({}, {})
        shared = quantities.forward_names()
        for name in shared:
            names.define(Symbol(quantities.meanings[name].shape, name=name), quantities.meanings[name])
        symbols = {n: self.naming.symbol(n, name) for n, name in self.marked.names.items() if n.op.kind is Kind.INPUT}
        symbols |= {leaf: self.extents.symbols[size] for size, leaf in self.extents.leaves.items()}
        lifter = Lifter(symbols, Simplifier(names, FORWARD_RULES), self.extents.symbols, composites=True)
        outputs = dict(zip(self.marked.outputs, self.naming.output_names, strict=True))
        result: dict[str, Formula] = {}
        for node in topological(self.marked.outputs):
            name = self.marked.names.get(node) or outputs.get(node, "")
            if not name or node in symbols:
                continue
            meaning = lifter.definition(node)
            symbols[node] = self.naming.symbol(node, name)
            for used in quantities.in_order(symbols_in(meaning) & shared):
                self._say_first(used, quantities, result, shared)
            result[name] = meaning.including((node,)) if meaning.parts else meaning
        return list(result.items())

    def _say_first(self, name: str, quantities: Quantities, said: dict[str, Formula], shared: set[str]) -> None:
        """The line of a shared quantity, after those that it is made of."""
        for inner in quantities.in_order(symbols_in(quantities.meanings[name]) & shared):
            if inner not in said:
                self._say_first(inner, quantities, said, shared)
        said.setdefault(name, quantities.meanings[name])

    def _laid_out(
        self,
        found: Sequence[tuple[str, Formula]],
        kind: str,
        notation: Notation,
        owed: Mapping[Key, frozenset[Fact]],
    ) -> list[Line]:
        return [
            Line(
                kind,
                self.naming.idents[name],
                x,
                notation.line(name, x),
                name,
                x.where,
                facts=self._declared(owed, name),
                rules=_applied(owed, name),
            )
            for name, x in found
        ]

    def _declared(self, owed: Mapping[Key, frozenset[Fact]], key: Key) -> tuple[tuple[Ident, str], ...]:
        """The facts that a line makes use of, in words."""
        return tuple((self.naming.idents[name], FACTS[fact]) for name, fact in sorted(owed.get(key, ())) if name != BY)

    def _in_textbook_order(
        self, quantities: Quantities, gradients: Sequence[Formula | None], notation: Notation, said: set[str]
    ) -> list[Line]:
        """Each gradient as soon as everything it is made of has its line."""
        lines: list[Line] = []
        waiting = list(range(len(gradients)))

        def say_what_is_ready() -> None:
            for i in [i for i in waiting if symbols_in(gradients[i]) & quantities.meanings.keys() <= said]:
                waiting.remove(i)
                lines.append(self._gradient_line(i, gradients[i], notation, quantities.owed))

        for name, meaning in quantities.meanings.items():
            if name in said:
                continue
            lines += self._laid_out([(name, meaning)], "quantity", notation, quantities.owed)
            said.add(name)
            if name in quantities.deltas or not any(n not in said for n in quantities.deltas):
                say_what_is_ready()
        say_what_is_ready()
        return lines

    def _gradient_line(
        self, i: int, x: Formula | None, notation: Notation, owed: Mapping[Key, frozenset[Fact]]
    ) -> Line:
        name, target = self._target(i)
        if x is None:
            return Line("gradient", target, None, None, name, (), self._reason(i))
        facts = self._declared(owed, i)
        rules, value = _applied(owed, i), self.gradients[i]
        return Line("gradient", target, x, notation.whole(x), name, x.where, facts=facts, value=value, rules=rules)

    def _name(self, wanted: Node) -> str:
        return self.primal.names.get(wanted) or f"argument {self.primal.index[wanted]}"

    def _target(self, i: int) -> tuple[str, Layout]:
        """The name of a line and its left-hand side."""
        name = self._name(self.wanted[i])
        return name, self.naming.derivative(name, self.scalar)

    def _reason(self, i: int) -> str:
        return why_zero(self.primal, self.wanted[i], self.naming)

    def _legend(self, quantities: Quantities, lines: Sequence[Line]) -> tuple[tuple[Layout, str | Layout], ...]:
        said = {name for line in lines if line.layout is not None for name in names_in(line.layout)}
        counts = {n: symbol for n, symbol in self.extents.symbols.items() if self.naming.idents[symbol.name] in said}
        legend = self.naming.legend(self.compiled, counts, self.cotangents, quantities.deltas, self.scalar)
        return (*legend, *self.naming.captured_arrays(said))

    # -- the displayed formulas as a graph -----------------------------------------------------------------------------

    def _displayed_graph(self, quantities: Quantities, gradients: Sequence[Formula | None]) -> Graph:
        leaves = (*self.primal.inputs, *(c for c in self.cotangents if c.op.kind is Kind.INPUT))
        nodes = {symbol.name: node for node, symbol in quantities.forward_symbols.items()}
        dtype = promoted(*[a.dtype for a in self.results if a.is_float], np.float32)
        evaluator = Evaluator(nodes, dtype)
        for name, meaning in quantities.meanings.items():
            evaluator.symbols[name] = evaluator.node(meaning)
        outputs = [
            cast(evaluator.node(x), a.dtype) if x is not None else full(a.shape, 0, a.dtype)
            for x, a in zip(gradients, self.results, strict=True)
        ]
        counts = {leaf: constant(np.asarray(size, leaf.dtype)) for size, leaf in self.extents.leaves.items()}
        names = {leaf: self.primal.names.get(leaf) or leaf.attrs["name"] for leaf in leaves}
        return Graph(leaves, tuple(substitute(outputs, counts)), names, title=f"derivative of {self.primal.title}")


__all__ = ["Derivation", "Ident", "Line", "explain_graph"]
