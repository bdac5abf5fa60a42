"""At a kink, a function has the second derivatives of its even part: what both sides of the kink agree on.

Enters: a graph that will be differentiated.  Leaves: the same values and first derivatives, with a term more for every
function F of a kink u = |b|, ‖x‖, hypot, max or √v that bends in u.  Runs last before a derivative is taken
(`even_parts`); `drop_even_parts` removes what has not become a second derivative, so that a gradient pays nothing.

Along every line through the point, u = c·|t| near the kink.  The declared derivative of u is 0 there, the mean of both
sides, so the chain rule loses F″·u′²/2, the first term of F in which both sides agree.  It is added as k·s with
k = F″(0)/2 and s = u², by nodes of s whose value and first derivative are 0: ``even_square``.  Kinks of one function
that are at the same place are one (`gradc.passes.kink_forms`), others are independent.  Where F is smooth, its odd
terms cancel and all derivatives to third order are right.  What is made of second derivatives of such terms gets none:
they would count in the fourth, where u has no slope that would do, and each order would be twenty times as large.

Invariant: a node bends in a kink only by elementwise ops; where it goes into sums, products of matrices and other
mixing, its even part has been taken.  Start reading at `even_parts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from gradc.diff.modes import push_forward
from gradc.diff.reverse import is_linear_in
from gradc.graph import Graph, substitute
from gradc.interpret import computed_from
from gradc.node import OPS, Label, Node, derived_from, dsl
from gradc.ops.control import inner_leaf
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.ops.ranges import Hazard, range_of
from gradc.ops.record import Kind
from gradc.passes.dce import dce
from gradc.passes.fold import fold, splat_value
from gradc.passes.kink_forms import Atom, Atoms, Kinked, held_still, is_plain_view, may_kink, viewed_like
from gradc.passes.rules import call, made_by, mapped
from gradc.passes.simplify import simplify

#: most operations between a kink and the place where its even part is taken; each is done twice more for it
MOST = 64


def even_parts(graph: Graph) -> Graph:
    """Add to what bends in a kink the term that gives its second derivative at the kink."""
    if not any(may_kink(node) for node in graph.nodes):
        return graph
    return _EvenParts(graph).run()


def drop_even_parts(graph: Graph) -> Graph:
    """Remove terms of even parts that are 0: the values, and the first derivatives."""
    return _without(graph, highest=1)


def away_from_kinks(graph: Graph) -> Graph:
    """Remove all terms of even parts: what is left is right off the kinks, which is what a formula says."""
    return _without(graph, highest=2)


def _without(graph: Graph, highest: int) -> Graph:
    if not any(made_by(node, "even_square", "settled") for node in graph.nodes):
        return graph
    gone: set[Node] = set()

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        absent = [i for i, a in enumerate(args) if a in gone]
        if _is_term(node, highest) or (absent and _is_zero_with(node, absent, args)):
            zero = full(node.shape, 0, node.dtype)
            gone.add(zero)
            return zero
        if made_by(node, "add") and absent:
            return args[1 - absent[0]]
        if made_by(node, "settled"):
            return args[0]
        return None

    return dce(mapped(graph, rule))


def _is_term(node: Node, highest: int) -> bool:
    return made_by(node, "even_square") and node.attrs["n"] <= highest


def _of_second_derivatives(graph: Graph) -> set[Node]:
    """What is made of terms that are second derivatives already, and what goes nowhere else."""
    second = [n for n in graph.nodes if made_by(n, "even_square") and not _is_term(n, highest=1)]
    found = computed_from(second, graph.nodes)
    elsewhere = set(graph.outputs) - found
    for node in reversed(graph.nodes if found else ()):
        if node not in found and node not in elsewhere:
            found.add(node)
        elif node in elsewhere:
            elsewhere.update(a for a in node.args if a not in found)
    return found


def _hides(node: Node) -> bool:
    """Whether no kink of an operand is followed through ``node``."""
    return node.op.constant or node.op.stops or made_by(node, "settled", "even_square")


def _is_zero_with(node: Node, absent: Sequence[int], args: Sequence[Node]) -> bool:
    """Whether a node is 0 because some operands are, however infinite others may be: they are of even parts."""
    linear = node.op.linear if node.op.linear is not None else () if node.op.transpose is None else range(len(args))
    if node.op.multilinear or len(linear) == 1:
        return any(i in linear for i in absent)
    return bool(linear) and all(i in absent for i in linear)


# -- what bends in them ------------------------------------------------------------------------------------------------


@dataclass
class _EvenParts:
    """One walk over a graph: on which kinks each node depends, then the terms that are added."""

    graph: Graph
    atoms: Atoms = field(default_factory=Atoms)
    #: nodes with a kink of their own, and views of such
    own: dict[Node, Kinked] = field(default_factory=dict)
    #: nodes that depend on kinks by elementwise ops alone: on which, and how many operations lie between at most
    on: dict[Node, dict[Atom, int]] = field(default_factory=dict)
    #: a node as its region is written: what is seen of a function of kinks is that function of what is seen of them
    model: dict[Node, Node] = field(default_factory=dict)
    #: products of which a sum is taken at once, elementwise
    products: dict[Node, Node] = field(default_factory=dict)
    #: a node as it was written, and a node whose even part is taken; of what does not depend on kinks both are the same
    plain: dict[Node, Node] = field(default_factory=dict)
    even: dict[Node, Node] = field(default_factory=dict)
    #: what goes into second derivatives, or is made of them
    late: Set[Node] = frozenset()

    def run(self) -> Graph:
        """The graph with even parts added."""
        self.late = _of_second_derivatives(self.graph)
        for node in self.graph.nodes:
            self.atoms.interned(node)
        for node in self.graph.nodes:
            with derived_from(node.where, node.replica):
                self._follow(node)
        wanted = self._wanted()
        for node in self.graph.nodes:
            if node.args:
                with derived_from(node.where, node.replica):
                    self._rewrite(node, node in wanted)
        return mapped(self.graph, lambda node, args: self.even.get(node))

    def _follow(self, node: Node) -> None:
        """Note the kinks that ``node`` depends on."""
        kinked = self.atoms.of(node)
        if kinked is not None and kinked.rates:
            self._note_kink(node, kinked)
        elif is_plain_view(node) and node.args[0] in self.own:
            self._note_kink(node, self.atoms.viewed(self.own[node.args[0]], lambda v: viewed_like(v, node)))
        elif is_plain_view(node) and node.args[0] in self.on:
            self._note(self.model, node, self._seen_through(node, self.model.get(node.args[0], node.args[0]), {}))
            self.on[node] = self.on[self.model.get(node, node)]
        elif made_by(node, "contract"):
            self._follow_product(node)
        elif node.op.kind is Kind.ELEMENTWISE and node.aval.is_float and not _hides(node):
            self._note(self.model, node, _on(node, self.model, None))
            depths = self._depths(node.args)
            if depths and max(depths.values()) <= MOST:
                self.on[node] = self.on[self.model.get(node, node)] = depths

    def _follow_product(self, node: Node) -> None:
        """Note the product whose sum ``node`` is, if its operands have a kink in common, element by element."""
        x, y = node.args
        left, right = node.attrs["left"], node.attrs["right"]
        if set(left) == set(right) and self.on.get(x, {}) and self.on.get(y, {}):
            same = y if left == right else OPS["transpose"].make((y,), axes=tuple(right.index(a) for a in left))
            if same is not y:
                self.atoms.interned(same)
                self._follow(same)
            product = x * same
            self._follow(product)
            if product in self.on and set(self.on[x]) & set(self.on[same]):
                self.products[node] = product

    def _note_kink(self, node: Node, kinked: Kinked) -> None:
        self.own[node] = kinked
        self.on[node] = dict.fromkeys(kinked.rates, 0)

    def _depths(self, args: Sequence[Node]) -> dict[Atom, int]:
        depths: dict[Atom, int] = {}
        for a in args:
            for atom, depth in self.on.get(a, {}).items():
                depths[atom] = max(depths.get(atom, 0), depth + 1)
        return depths

    def _seen_through(self, view: Node, x: Node, known: dict[Node, Node]) -> Node:
        """``x`` as ``view`` shows it, as a function of what it shows of the kinks."""
        if x not in known:
            if x in self.own or x not in self.on:
                known[x] = viewed_like(x, view)
            else:
                known[x] = x.op.make([self._seen_through(view, a, known) for a in x.args], **x.attrs)
            if x in self.own:
                self._note_kink(known[x], self.atoms.viewed(self.own[x], lambda v: viewed_like(v, view)))
            elif x in self.on:
                self.on[known[x]] = self._depths(known[x].args)
        return known[x]

    def _wanted(self) -> set[Node]:
        """Nodes of which the even part is taken: those that go where kinks are not followed."""
        wanted = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            if node in self.products:
                continue
            if not self._is_followed(node) or (node in wanted and self._is_linear(node)):
                wanted.update(node.args)
        return wanted

    def _is_followed(self, node: Node) -> bool:
        return node in self.on and node not in self.own

    def _is_linear(self, node: Node) -> bool:
        return is_linear_in(node, [i for i, a in enumerate(node.args) if a in self.on])

    def _rewrite(self, node: Node, wanted: bool) -> None:
        """Note what ``node`` becomes."""
        if node in self.products:
            self._note(self.even, node, self._sum_of_bent(node))
            self._note(self.plain, node, self.even.get(node, node))
            return
        if not self._is_followed(node):
            self._note(self.even, node, _on(node, self.even, node.label))
            own = self.even.get(node, node)
            self._note(self.plain, node, call("settled", own) if node in self.own else own)
            return
        plain = _on(node, self.plain, None if wanted else node.label)
        self._note(self.plain, node, plain)
        if wanted:
            linear = self._is_linear(node)
            self._note(self.even, node, _on(node, self.even, node.label) if linear else self._bent(node, plain))

    @staticmethod
    def _note(known: dict[Node, Node], node: Node, made: Node) -> None:
        if made is not node:
            known[node] = made

    def _sum_of_bent(self, node: Node) -> Node:
        left, out = node.attrs["left"], node.attrs["out"]
        product = _on(node, self.plain, node.label)
        if node in self.late:
            return product
        terms = self._bent(self.products[node], full(self.products[node].shape, 0, node.dtype))
        if splat_value(terms) is not None:
            return product
        added = OPS["sum"].make((terms,), axes=tuple(k for k, a in enumerate(left) if a not in out))
        kept = [a for a in left if a in out]
        return cast(product + dsl.transpose(added, [kept.index(a) for a in out]), node.dtype)

    def _bent(self, node: Node, plain: Node) -> Node:
        """``plain``, which has the value of ``node``, with the second derivative of ``node`` at each kink."""
        if node in self.late:
            return plain
        found = plain
        for atom in self.on[node]:
            region = _Region.around(self.model.get(node, node), atom, self.on, self.own)
            curvature = region.curvature()
            if curvature is not None:
                half, square, size = substitute([curvature * 0.5, atom.square, atom.size], self.even)
                term = call("strong_multiply", square, half)
                found = dsl.where(size == 0, held_still(plain) + term, found) if atom.is_root else found + term
        return cast(found, node.dtype)  # squares of narrow floats are summed in float32


def _on(node: Node, new: Mapping[Node, Node], label: Label | None) -> Node:
    """``node`` on what has become of its operands."""
    args = tuple(new.get(a, a) for a in node.args)
    return node if all(a is b for a, b in zip(args, node.args, strict=True)) else node.rebuilt(args, label)


@dataclass(frozen=True)
class _Region:
    """A function of one kink: leaves that stand for what has the kink, and for what does not depend on it."""

    result: Node
    atom: Atom
    kinked: Mapping[Node, Kinked]
    leaves: Mapping[Node, Node]
    sizes: Set[Node]  #: what is 0 at the kink

    @classmethod
    def around(
        cls, node: Node, atom: Atom, on: Mapping[Node, Mapping[Atom, int]], own: Mapping[Node, Kinked]
    ) -> _Region:
        """``node`` as a function of what has the kink ``atom``."""
        inside, at_border = [node], dict[Node, None]()
        known = {node}
        for n in inside:  # which grows on the way
            for a in n.args:
                if a in own or atom not in on.get(a, {}):
                    at_border.setdefault(a)
                elif a not in known:
                    known.add(a)
                    inside.append(a)
        leaves = {n: inner_leaf(n.aval, "x", range_of(n)) for n in at_border if splat_value(n) is None}
        (result,) = substitute([node], leaves)
        sizes = {a for n in leaves for a in (n, *n.args) if a in own and own[a].vanishes and atom in own[a].rates}
        kinked = {n: own[n] for n in leaves if n in own and atom in own[n].rates}
        return cls(result, atom, kinked, leaves, sizes)

    def curvature(self) -> Node | None:
        """The second derivative at the kink, None where it is 0, or where the first one is not and must be."""
        inputs = [self.leaves[n] for n in self.kinked]
        along, rates = list[Node](), dict[Node, Node]()
        for n, kinked in self.kinked.items():
            rate = kinked.rates[self.atom]
            if isinstance(rate, Node):
                along.append(rates.setdefault(rate, inner_leaf(rate.aval, "rate", range_of(rate))))
            else:
                along.append(full(n.shape, rate, n.dtype))
        (slope,) = push_forward([self.result], inputs, along)
        if slope is None or (self.atom.is_root and splat_value(self._at_kink(slope)) != 0):
            return None
        (bend,) = push_forward([slope], inputs, along)
        if bend is None:
            return None
        found = self._at_kink(bend)
        held = splat_value(found)
        if held is not None and (held == 0 or not math.isfinite(held)):
            return None
        (found,) = substitute([found], {leaf: n for n, leaf in (*self.leaves.items(), *rates.items())})
        return found if range_of(found).hazard < Hazard.NAN else dsl.where(dsl.isfinite(found), found, 0)

    def _at_kink(self, node: Node) -> Node:
        """``node`` where everything that is 0 at the kink is 0, and is said to be 0."""
        known = {self.leaves[n]: full(n.shape, 0, n.dtype) for n, k in self.kinked.items() if k.vanishes}
        known |= {leaf: full(n.shape, True, bool) for n, leaf in self.leaves.items() if self._asks_for_kink(n)}
        (found,) = substitute([node], known)
        return simplify(fold(Graph((), (found,)))).outputs[0]

    def _asks_for_kink(self, node: Node) -> bool:
        if not made_by(node, "equal"):
            return False
        return any(a in self.sizes and splat_value(b) == 0 for a, b in (node.args, node.args[::-1]))
