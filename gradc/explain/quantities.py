"""What the gradients share: which parts get a name and a line of their own.

Enters: the compiled graph and its gradient nodes.  Leaves: formulas for the gradients and for the quantities they are
made of. A cotangent or another part that is used more than once gets a name while the graph is lifted, a softmax
always, a long formula as well; afterwards each name has to prove that it makes the whole shorter, or it is dropped.
Start reading at `Quantities`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from gradc.explain.assumptions import Facts
from gradc.explain.extents import Extents
from gradc.explain.formula import Apply, Formula, Symbol, power, rebuilt, split, value_of
from gradc.explain.lift import Lifter
from gradc.explain.matching import Names, single_base
from gradc.explain.naming import SOFTMAX, Naming
from gradc.explain.rules import Fact, Simplifier
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.record import Kind
from gradc.process import cached_property

#: a part that is used more than once gets a name if there is at least this much to read
SHARED = 5
#: … and a cotangent with at least this much
COTANGENT = 4
#: a formula with more to read than this is cut
LONGEST = 40
#: what a line of its own costs the reader
LINE = 2

#: what a root is in terms of the square root: itself, or its inverse
ROOTS = {"sqrt": 1, "rsqrt": -1}
#: composites whose value is the standardised x̂ that textbooks write their derivative with
STANDARDISED = {"batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"}

#: a line of the derivation: a quantity by name, a gradient by position
Key = str | int


class Quantities:
    """Formulas of the gradients, and of the quantities that they share.

    ``meanings`` holds the quantities that have a line, in the order of their definition; ``deltas`` says which of them
    are cotangents, and of which node; ``gradients`` are the wanted formulas, None where a gradient is structurally
    zero.
    """

    def __init__(
        self,
        graph: Graph,
        gradients: Sequence[Node | None],
        belongs_to: Mapping[Node, Node],
        extents: Extents,
        naming: Naming,
        facts: Facts,
    ):
        self.graph, self.naming, self.belongs_to = graph, naming, belongs_to
        self.wanted = {g for g in gradients if g is not None}
        self.cotangent_leaves = {leaf for leaf in graph.inputs if leaf not in graph.names}
        self.meanings: dict[str, Formula] = {}
        self.deltas: dict[str, Node] = {}
        self.standard: set[str] = set()  #: names of standardised values
        self.roots: set[str] = set()  #: and of square roots, such as the deviations they are divided by
        self.owed: dict[Key, frozenset[Fact]] = {}  #: what each line makes use of that the user declared
        self.names = Names({}, {}, {symbol.name: size for size, symbol in extents.symbols.items()}, facts)
        self.simplifier = Simplifier(self.names)
        self.forward_symbols = self._forward_symbols(extents)
        live = topological([g for g in gradients if g is not None])
        accumulated = frozenset(live) - frozenset(topological([*graph.names]))
        self.lifter = Lifter(dict(self.forward_symbols), self.simplifier, extents.symbols, accumulated=accumulated)
        self._lift_all(live)
        named = self.lifter.symbols
        self.gradients = [None if g is None else self.lifter.formula(g) for g in gradients]
        self.owed |= {i: self.lifter.owed(g) for i, g in enumerate(gradients) if g is not None and g not in named}
        self._drop_idle_names()
        naming.settle(graph, self.deltas, [name for name in self.meanings if name not in self.deltas])

    def _forward_symbols(self, extents: Extents) -> dict[Node, Symbol]:
        symbols = {n: self.naming.symbol(n, name) for n, name in self.graph.names.items()}
        symbols |= {leaf: extents.symbols[size] for size, leaf in extents.leaves.items()}
        for leaf in self.graph.inputs:
            symbols.setdefault(leaf, self.naming.symbol(leaf, leaf.attrs["name"]))
        return symbols

    # -- names are given -----------------------------------------------------------------------------------------------

    def _lift_all(self, live: Sequence[Node]) -> None:
        """Operands before users: a name is known before it could be said."""
        uses = Counter(arg for node in live for arg in set(node.args))
        for node in topological([*self.graph.names, *live]):
            if node in self.forward_symbols:
                if node.op.kind is not Kind.INPUT:
                    self._know_forward(node)
            elif uses[node] or node in self.wanted:
                shown = node in self.wanted and node.shape != ()  # a derivative by itself: δ₁ is ∂L/∂b₁, too
                self._name_if_worth_it(node, uses[node] + shown)

    def _know_forward(self, node: Node) -> None:
        """A name of the user's; one that is a number times another quantity is written out instead."""
        meaning = self.lifter.definition(node)
        if meaning.parts and isinstance(split(meaning)[1], Symbol):
            del self.forward_symbols[node], self.lifter.symbols[node]
        else:
            self._know(self.forward_symbols[node], meaning)
            self.names.offer(self.forward_symbols[node], meaning)

    def _know(self, symbol: Symbol, meaning: Formula) -> None:
        self.names.define(symbol, meaning)
        self.simplifier.learn(meaning)

    def _name_if_worth_it(self, node: Node, uses: int) -> None:
        x = self.lifter.definition(node)
        if isinstance(split(x)[1], Symbol) or value_of(x) is not None or not node.aval.is_float:
            return
        owner = None if _is_softmax(x) else self.belongs_to.get(node)
        shared = uses > 1 and x.size >= (SHARED if owner is None else COTANGENT)
        standard = _is_standardised(node)
        divides = node.op.name in ROOTS and not isinstance(single_base(power(x, ROOTS[node.op.name])), Symbol)
        divides = divides and self._standardises(node)
        if not (shared or standard or divides or _is_softmax(x) or x.size > LONGEST):
            return
        if owner is None and not standard and self._name_root(node, x):
            return
        if _is_softmax(x):
            name = self.naming.part(node, SOFTMAX)
        elif owner is not None:
            name = self.naming.delta(self.graph, owner)
            self.deltas[name] = owner
        else:
            name = self.naming.part(node)
        symbol = self._define(name, node, x)
        self.lifter.symbols[node] = symbol
        if standard:
            self.standard.add(name)
            self.names.offer(symbol, x)

    def _standardises(self, node: Node) -> bool:
        """Whether a standardised value is divided by ``node``, broadcast or not."""
        users = list(self.graph.users[node])
        while users:
            user = users.pop()
            if _is_standardised(user):
                return True
            if user.op.name in ("broadcast", "reshape"):
                users += self.graph.users[user]
        return False

    def _define(self, name: str, node: Node, meaning: Formula) -> Symbol:
        """A line for ``meaning``, which ``node`` or a power of it is."""
        symbol = Symbol(node.shape, name=name, nodes=frozenset((node,)))
        self.meanings[name] = meaning
        self.owed[name] = self.lifter.owed(node)
        self._know(symbol, meaning)
        return symbol

    def _name_root(self, node: Node, x: Formula) -> bool:
        """Whether ``node`` is a root, or one is taken of it: then the root has the name, not what is under it."""
        roots = [user for user in self.graph.users[node] if user.op.name in ROOTS]
        if node.op.name in ROOTS:
            exponent: Fraction | int = ROOTS[node.op.name]
        elif roots:
            exponent = 2
        else:
            return False
        name = self.naming.part(node, "s")
        symbol = self._define(name, node, power(x, Fraction(1, 1) / exponent))
        self.roots.add(name)
        self.lifter.define(node, power(symbol, exponent))
        for root in roots:
            self.lifter.define(root, power(symbol, ROOTS[root.op.name]))
        return True

    # -- and taken away ------------------------------------------------------------------------------------------------

    def _drop_idle_names(self) -> None:
        """Write each quantity where it is used, if the whole then is shorter."""
        formulas: dict[Key, Formula] = {i: x for i, x in enumerate(self.gradients) if x is not None}
        formulas.update(self.meanings)
        readers: dict[str, set[Key]] = {name: set() for name in self.meanings}
        for key, x in formulas.items():
            for name in symbols_in(x) & readers.keys():
                readers[name].add(key)
        changed = True
        while changed:
            changed = False
            for name in reversed([n for n in readers if n in formulas]):
                changed |= self._drop(name, formulas, readers)
        self.meanings = {name: formulas[name] for name in self.meanings if name in formulas}
        self.deltas = {name: owner for name, owner in self.deltas.items() if name in formulas}
        self.gradients = [formulas.get(i) for i in range(len(self.gradients))]

    def _drop(self, name: str, formulas: dict[Key, Formula], readers: dict[str, set[Key]]) -> bool:
        meaning, mine = formulas[name], [key for key in readers[name] if key in formulas]
        uses = sum(_occurrences(formulas[key], name) for key in mine)
        if uses and (_is_softmax(meaning) or name in self.standard or meaning.size * uses > LONGEST):
            return False
        if any(_written_size(formulas[key], name, meaning) > LONGEST for key in mine):
            return False
        if name in self.roots and any(key in self.standard for key in mine):
            return False
        symbol = self.names.forget(meaning, name)
        self.simplifier.forget(name)
        written, owed = dict[Key, Formula](), dict[Key, frozenset[Fact]]()
        for key in mine:
            self.simplifier.owed = self._owed(key) | self._owed(name)
            written[key] = self._inlined(formulas[key], name, meaning)
            owed[key] = self.simplifier.owed
        before = meaning.size + LINE + sum(formulas[key].size for key in mine)
        after = sum(x.size for x in written.values()) + (self.deltas.get(name) in self.graph.names)
        if uses > 1 and after > before:
            if symbol is not None:
                self._know(symbol, meaning)
            return False
        del formulas[name]
        self.owed |= owed
        for key, x in written.items():
            formulas[key] = x
            for inner in symbols_in(x) & readers.keys():
                readers[inner].add(key)
        self._redefine(name, meaning)
        return True

    def _owed(self, key: Key) -> frozenset[Fact]:
        return self.owed.get(key, frozenset())

    def _redefine(self, name: str, meaning: Formula) -> None:
        """What was defined by ``name`` is now defined by its meaning."""
        self.names.definitions.pop(name, None)
        for other in self.names.defined_with(name):
            old = self.names.definitions[other]
            symbol = self.names.forget(old, other)
            new = self._inlined(old, name, meaning)
            self.names.definitions[other] = new
            self.simplifier.forget(other)
            if symbol is not None:
                self._know(symbol, new)

    def _inlined(self, x: Formula, name: str, meaning: Formula) -> Formula:
        if isinstance(x, Symbol):
            return meaning if x.name == name else x
        if name not in symbols_in(x):
            return x
        return self.simplifier(rebuilt(x, lambda part: self._inlined(part, name, meaning)))

    def in_order(self, names: Iterable[str]) -> list[str]:
        """``names`` in the order of their lines."""
        return sorted(names, key=self._position.__getitem__)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.meanings)}

    def forward_names(self) -> set[str]:
        """Quantities that are made of forward quantities alone."""
        found: set[str] = set()
        forward = {s.name for n, s in self.forward_symbols.items() if n not in self.cotangent_leaves}
        for name, x in self.meanings.items():
            if name not in self.deltas and all(n in forward or n in found for n in x.symbols):
                found.add(name)
        return found


def _is_standardised(node: Node) -> bool:
    return node.label is not None and node.label.name in STANDARDISED


def _is_softmax(x: Formula) -> bool:
    return isinstance(x, Apply) and x.name == "softmax"


def symbols_in(x: Formula | None) -> frozenset[str]:
    """The names that ``x`` is written with."""
    return x.symbols if x is not None else frozenset()


def _written_size(x: Formula, name: str, meaning: Formula) -> int:
    """How much there is to read in ``x`` with ``meaning`` in the place of ``name``, before simplification."""
    return x.size + _occurrences(x, name) * (meaning.size - 1)


def _occurrences(x: Formula, name: str) -> int:
    count, stack = 0, [x]
    while stack:
        part = stack.pop()
        count += isinstance(part, Symbol) and part.name == name
        stack += part.parts
    return count
