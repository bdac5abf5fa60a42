"""What the gradients share: which parts get a name and a line of their own.

Enters: the compiled graph and its gradient nodes.  Leaves: formulas for the gradients and for the quantities they are made of.
A cotangent or another part that is used more than once gets a name while the graph is lifted, a softmax always, a long
formula as well; afterwards each name has to prove that it makes the whole shorter, or it is dropped.
Start reading at `Quantities`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gradc.explain.extents import Extents
from gradc.explain.formula import Apply, Formula, Symbol, rebuilt, split, value_of
from gradc.explain.lift import Lifter
from gradc.explain.naming import Naming
from gradc.explain.rules import Names, Simplifier
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node

#: a part that is used more than once gets a name if there is at least this much to read
SHARED = 6
#: … and a cotangent with at least this much
COTANGENT = 4
#: a formula with more to read than this is cut
LONGEST = 60
#: what a line of its own costs the reader
LINE = 2


class Quantities:
    """Formulas of the gradients, and of the quantities that they share.

    ``meanings`` holds the quantities that have a line, in the order of their definition; ``deltas`` says which of them are
    cotangents, and of which node; ``gradients`` are the wanted formulas, None where a gradient is structurally zero.
    """

    def __init__(
        self,
        graph: Graph,
        gradients: Sequence[Node | None],
        belongs_to: Mapping[Node, Node],
        extents: Extents,
        naming: Naming,
    ):
        self.graph, self.naming, self.belongs_to = graph, naming, belongs_to
        self.meanings: dict[str, Formula] = {}
        self.deltas: dict[str, Node] = {}
        self.names = Names({}, {})
        self.simplifier = Simplifier(self.names)
        self.forward_symbols = self._forward_symbols(extents)
        live = topological([g for g in gradients if g is not None])
        accumulated = frozenset(live) - frozenset(topological([*graph.names]))
        self.lifter = Lifter(dict(self.forward_symbols), self.simplifier, extents.symbols, accumulated=accumulated)
        self._lift_all(live)
        self.gradients = [None if g is None else self.lifter.formula(g) for g in gradients]
        while self._drop_a_name():
            pass
        naming.settle(graph, self.deltas)

    def _forward_symbols(self, extents: Extents) -> dict[Node, Symbol]:
        symbols = {n: self.naming.symbol(n, name) for n, name in self.graph.names.items()}
        symbols |= {leaf: extents.symbols[size] for size, leaf in extents.leaves.items()}
        for leaf in self.graph.inputs:
            symbols.setdefault(leaf, self.naming.symbol(leaf, leaf.attrs["name"]))
        return symbols

    # -- names are given -----------------------------------------------------------------------------------------------

    def _lift_all(self, live: Sequence[Node]) -> None:
        """What the user named first, then operands before users: a name is known before it could be said."""
        for node in topological([*self.graph.names]):
            if node in self.forward_symbols and node.op.name != "input":
                self._know_forward(node)
        uses: dict[Node, int] = {}
        for node in live:
            for arg in set(node.args):
                uses[arg] = uses.get(arg, 0) + 1
        for node in live:
            if node not in self.forward_symbols:
                self._name_if_worth_it(node, uses.get(node, 0))

    def _know_forward(self, node: Node) -> None:
        """A name of the user's; one that is a number times another quantity is written out instead."""
        meaning = self.lifter.definition(node)
        if meaning.parts and isinstance(split(meaning)[1], Symbol):
            del self.forward_symbols[node], self.lifter.symbols[node]
        else:
            self._know(self.forward_symbols[node], meaning)

    def _know(self, symbol: Symbol, meaning: Formula) -> None:
        self.names.define(symbol, meaning)
        self.simplifier.forget()

    def _name_if_worth_it(self, node: Node, uses: int) -> None:
        x = self.lifter.definition(node)
        if isinstance(split(x)[1], Symbol) or value_of(x) is not None or not node.aval.is_float:
            return
        owner = self.belongs_to.get(node)
        shared = uses > 1 and x.size >= (SHARED if owner is None else COTANGENT)
        if not (shared or _is_softmax(x) or x.size > LONGEST):
            return
        name = self.naming.quantity(self.graph, owner, "p" if _is_softmax(x) else "t")
        if owner is not None:
            self.deltas[name] = owner
        symbol = Symbol(node.shape, name=name, nodes=frozenset((node,)))
        self.meanings[name] = x
        self.lifter.symbols[node] = symbol
        self._know(symbol, x)

    # -- and taken away ------------------------------------------------------------------------------------------------

    def _drop_a_name(self) -> bool:
        """Write one quantity where it is used, if the whole then is shorter; False if every name earns its line."""
        for name, meaning in reversed(self.meanings.items()):
            uses = sum(_occurrences(x, name) for x in self._formulas())
            if uses and (_is_softmax(meaning) or (uses == 1 and meaning.size > LONGEST // 2)):
                continue
            if self._try_without(name, uses):
                return True
        return False

    def _formulas(self) -> Iterable[Formula]:
        return (x for x in (*self.gradients, *self.meanings.values()) if x is not None)

    def _try_without(self, name: str, uses: int) -> bool:
        meaning = self.meanings[name]
        symbol = self.names.forget(meaning)
        self.simplifier.forget()
        readers = [x for x in self._formulas() if name in symbols_in(x)]
        written = {x: self._inlined(x, name, meaning) for x in readers}
        before = meaning.size + LINE + sum(x.size for x in readers)
        if uses > 1 and sum(x.size for x in written.values()) >= before:
            if symbol is not None:
                self._know(symbol, meaning)
            return False
        del self.meanings[name]
        self.deltas.pop(name, None)
        self.meanings = {n: written.get(x, x) for n, x in self.meanings.items()}
        self.gradients = [written.get(x, x) if x is not None else None for x in self.gradients]
        self._redefine()
        return True

    def _redefine(self) -> None:
        """Names stand for their new meanings."""
        for name, x in self.meanings.items():
            old = self.names.definitions.get(name)
            if old is not None and old != x:
                symbol = self.names.forget(old)
                if symbol is not None:
                    self.names.define(symbol, x)
        self.simplifier.forget()

    def _inlined(self, x: Formula, name: str, meaning: Formula) -> Formula:
        if isinstance(x, Symbol):
            return meaning if x.name == name else x
        if name not in symbols_in(x):
            return x
        return self.simplifier(rebuilt(x, lambda part: self._inlined(part, name, meaning)))


def _is_softmax(x: Formula) -> bool:
    return isinstance(x, Apply) and x.name == "softmax"


def symbols_in(x: Formula | None) -> set[str]:
    """The names that ``x`` is written with."""
    found, stack = set[str](), [x] if x is not None else []
    while stack:
        part = stack.pop()
        if isinstance(part, Symbol):
            found.add(part.name)
        stack += part.parts
    return found


def _occurrences(x: Formula, name: str) -> int:
    count, stack = 0, [x]
    while stack:
        part = stack.pop()
        count += isinstance(part, Symbol) and part.name == name
        stack += part.parts
    return count
