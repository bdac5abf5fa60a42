"""What quantities are called.

Enters: the user's names in the graph.  Leaves: a unique name for every quantity and how it is written.
Conventions: digits at the end of a name are its subscript (W1 is W₁).  A cotangent is δ with the subscript of the
quantity it belongs to; of an unnamed quantity, that of the nearest named one that is computed from it.  Where two
would be written alike, the whole name is the subscript; where there is one δ without number it stands alone.  The
gradient of a scalar L is ∂L/∂W; for other results ∂W is the cotangent of W, and G that of the result.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.explain.families import Family, families, letters
from gradc.explain.formula import Symbol
from gradc.explain.layout import Derivative, Ident, Layout, Listed, Running, number_of, numbered
from gradc.explain.letters import ACCENTS, GREEK, HAT, call_name
from gradc.explain.text import TextPrinter
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.record import Kind

Array = np.ndarray[Any, Any]

#: how names begin that are not settled yet
PART = "part "
#: letters for unnamed parts, in the order in which they are taken
LETTERS = ("t", "s", "v", "q", "u", "r", "w", "a", "c", "e")
#: the letter of unnamed probabilities
SOFTMAX = "p"
#: quantities with a number that have several unnamed parts give each its own letter from so many on
SHORTEST_ROW = 3
#: the letter of captured arrays that no variable holds
CAPTURED = "C"
#: a constant of fewer elements is written out
SMALLEST_CAPTURED = 5
#: shape, dtype and bytes of an array
Content = tuple[tuple[int, ...], str, bytes]


def is_named(array: Array) -> bool:
    """Whether a constant has a name: not one of few elements, nor one number for all."""
    return array.size >= SMALLEST_CAPTURED and bool(np.any(array != array.flat[0]))


def content_of(array: Array) -> Content:
    """What an array holds."""
    return array.shape, array.dtype.str, array.tobytes()


class Naming:
    """The names of one derivation; ``idents`` says how each is written."""

    def __init__(self, primal: Graph):
        self.primal = primal
        self.taken: set[str] = set(primal.names.values())
        self.idents: dict[str, Ident] = {name: written(name) for name in self.taken}
        self.parts: dict[str, tuple[str, Node]] = {}  #: unnamed shared parts: the letter wished for, and the node
        self.families = self._families(primal)
        self.idents = self._in_greek(primal)
        self.output_names = self._output_names(primal)
        self.captured = self._captured(primal)  #: how captured arrays are written, by what they hold

    def _families(self, primal: Graph) -> list[Family]:
        """Inputs that come in rows, from here on written with an index."""
        held = {primal.names[x]: primal.aliases.get(x, "") for x in primal.inputs}
        shown = {letter: written(letter) for letter in letters(held)}
        found = families(held, shown, set(self.idents.values()))
        for family in found:
            self.idents |= {name: family.member(number) for number, name in family.members.items()}
        return found

    def _in_greek(self, primal: Graph) -> dict[str, Ident]:
        """sigma is written σ, unless that letter means something else here: the user's σ, or the sigmoid."""
        taken = {ident.name for ident in self.idents.values()}
        functions = {n.op.name for n in primal.nodes} | {n.label.name for n in primal.nodes if n.label is not None}
        taken |= {called for name in functions if (called := call_name(name)) != name} | {"δ", "π"}
        letter_of: dict[str, str] = {}
        for ident in self.idents.values():
            letter = GREEK.get(ident.name, "")
            if letter and ident.name not in letter_of and letter not in taken:
                letter_of[ident.name] = letter
                taken.add(letter)
        self.families = [replace(f, ident=_renamed(f.ident, letter_of)) for f in self.families]
        return {name: _renamed(ident, letter_of) for name, ident in self.idents.items()}

    def _output_names(self, primal: Graph) -> list[str]:
        """The user's name of each result, or L for a scalar and Y for an array."""
        names = []
        for y in primal.outputs:
            name = primal.names.get(y) or self.fresh("L" if y.shape == () else "Y")
            self.idents.setdefault(name, written(name))
            names.append(name)
        return names

    def _captured(self, primal: Graph) -> dict[Content, Ident]:
        """The names of arrays that the function has from outside: those of the variables that hold them, or C."""
        found: dict[Content, Ident] = {}
        for node in primal.nodes:
            if node.op.kind is Kind.CONSTANT and is_named(node.attrs["value"]):
                content = content_of(node.attrs["value"])
                if content not in found:
                    found[content] = self.idents[self.fresh(primal.aliases.get(node, CAPTURED))]
        return found

    def fresh(self, wish: str) -> str:
        """``wish``, or with a number if it is taken."""
        name, number = wish, 2
        while name in self.taken:
            name, number = f"{wish}{number}", number + 1
        self.taken.add(name)
        self.idents[name] = written(name)
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Names that something else has."""
        for name in names:
            self.taken.add(name)
            self.idents[name] = written(name)

    def symbol(self, node: Node, name: str) -> Symbol:
        """The symbol of a node that has a name."""
        role = "input" if node.op.kind is Kind.INPUT else "quantity"
        return Symbol(node.shape, name=name, role=role, nodes=frozenset((node,)))

    def delta(self, graph: Graph, owner: Node) -> str:
        """A name for the cotangent of ``owner``; how it is written is settled when all are known."""
        return self.fresh(f"{PART}δ{graph.index.get(owner, 0)}.")

    def part(self, node: Node, letter: str = "t") -> str:
        """A name for a shared part; how it is written is settled when all are known, with ``letter`` if that is free.

        A value that the user computed by a function of something with a name is that name with a hat.
        """
        name = self.fresh(f"{PART}{letter}")
        self.parts[name] = (letter, node)
        return name

    def settle(self, graph: Graph, deltas: Mapping[str, Node], others: Sequence[str]) -> None:
        """Decide how cotangents and unnamed parts are written, now that it is known which have a line."""
        parts = {name: self.parts[name] for name in others if name in self.parts}
        nearest = self._nearest_names(graph) if deltas or parts else {}
        owners = {name: nearest.get(owner, self.output_names[0]) for name, owner in deltas.items()}
        shown = self._subscripted("δ", owners)
        second = {name: ("t", deltas[name]) for name in owners if name not in shown}  # on the way to one quantity
        self.idents |= shown
        self._settle_parts(graph, {**parts, **second}, nearest)

    def _settle_parts(self, graph: Graph, parts: Mapping[str, tuple[str, Node]], nearest: Mapping[Node, str]) -> None:
        of = {name: node for name, (letter, node) in parts.items() if letter != SOFTMAX}
        hats = {name: hat for name, node in of.items() if (hat := self._hat(graph, node)) is not None}
        if len(set(hats.values())) == len(hats):
            self.idents |= hats
            parts = {name: part for name, part in parts.items() if name not in hats}
        groups: dict[str, dict[str, Node]] = {}
        for name, (letter, node) in parts.items():
            groups.setdefault(letter, {})[name] = node
        for wish, nodes in groups.items():
            owners = {name: nearest.get(node, self.output_names[0]) for name, node in nodes.items()}
            for row in self._rows(owners, nodes):
                self._settle_row(wish, row)

    def _rows(self, owners: Mapping[str, str], nodes: Mapping[str, Node]) -> list[Mapping[str, str]]:
        """Parts that get a letter of their own: where quantities have several, alike ones of h₁, h₂, … are a row.

        The last row has what is in none.
        """
        if len(set(owners.values())) == len(owners):
            return [owners]
        rows: dict[tuple[Layout, str, int], dict[str, str]] = defaultdict(dict)
        count: Counter[tuple[str, str]] = Counter()
        for name, owner in owners.items():
            ident, op = self.idents[owner], nodes[name].op.name
            count[owner, op] += 1
            if number_of(ident) is not None:
                rows[numbered(ident, 0), op, count[owner, op]][name] = owner
        long = [row for row in rows.values() if len(row) >= SHORTEST_ROW]
        rest = {name: owner for name, owner in owners.items() if not any(name in row for row in long)}
        return [*long, rest] if rest else [*long]

    def _settle_row(self, wish: str, owners: Mapping[str, str]) -> None:
        """One letter for the parts of the given owners: with the owner's number if there is one part of each."""
        used = {ident.name for ident in self.idents.values()}
        letter = next(c for c in (wish, *LETTERS, PART) if c not in used)
        shown = self._subscripted(letter, owners) if len(set(owners.values())) == len(owners) > 1 else {}
        if len(shown) < len(owners):
            shown = {name: Ident(letter, str(i) if len(owners) > 1 else "") for i, name in enumerate(owners, 1)}
        self.idents |= shown

    def _hat(self, graph: Graph, node: Node) -> Ident | None:
        """x̂ for a function of x that the user called by name."""
        of = self.idents.get(graph.names.get(node.label.args[0], "")) if node.label is not None else None
        hat = replace(of, name=of.name + HAT) if of is not None and len(of.name) == 1 else None
        return hat if hat not in self.idents.values() else None

    def _subscripted(self, letter: str, owners: Mapping[str, str]) -> dict[str, Ident]:
        """The letter with the number of its quantity if that says which, else with the quantity.

        None for a second one of a quantity.
        """
        idents = {owner: self.idents[owner] for owner in owners.values()}
        numbers = {owner: number_of(ident) for owner, ident in idents.items()}
        if len(idents) < len(owners) and not any(k is not None for k in numbers.values()):
            return {name: Ident(letter, str(i)) for i, name in enumerate(sorted(owners, key=_place), 1)}
        every = [k for k in numbers.values() if k is not None]
        by_number = len(set(every)) == len(every)
        alone = list(numbers.values()).count(None) == 1 and letter not in self.taken
        found: dict[str, Ident] = {}
        for name, owner in owners.items():
            plain = alone and numbers[owner] is None and by_number
            ident = Ident(letter) if plain else _below(letter, idents[owner], numbers[owner], by_number)
            if ident not in found.values() and f"{letter}{ident.below}" not in self.taken:
                found[name] = ident
        return found

    def _nearest_names(self, graph: Graph) -> dict[Node, str]:
        """For each node its name, or that of the nearest named quantity computed from it."""
        found: dict[Node, tuple[int, str]] = {}
        for node in reversed(graph.nodes):
            name = graph.names.get(node)
            above = [found[user] for user in graph.users[node]]
            steps, nearest = min(above, key=lambda f: f[0], default=(len(graph.nodes), self.output_names[0]))
            found[node] = (0, name) if name is not None else (steps + 1, nearest)
        return {node: name for node, (_, name) in found.items()}

    # -- how things are written ----------------------------------------------------------------------------------------

    def derivative(self, name: str, scalar: bool) -> Derivative:
        """∂L/∂name, or ∂name for the cotangent of an input when the result is no scalar."""
        return Derivative(self.idents[self.output_names[0]] if scalar else None, self.ident(name))

    def ident(self, name: str) -> Ident:
        """How ``name`` is written."""
        return self.idents.get(name) or written(name)

    def legend(
        self,
        graph: Graph,
        extents: Mapping[int, Symbol],
        cotangents: Sequence[Node],
        deltas: Mapping[str, Node],
        scalar: bool,
    ) -> tuple[tuple[Layout, str | Layout], ...]:
        """What the derivation's own letters stand for."""
        lines: list[tuple[Layout, str | Layout]] = [
            (self.idents[symbol.name], f"= {size}") for size, symbol in extents.items()
        ]
        if scalar:
            owners = {name: self.idents[graph.names[owner]] for name, owner in deltas.items() if owner in graph.names}
            lines += [
                (delta, Derivative(self.idents[self.output_names[0]], owner))
                for delta, owner in _in_rows([(self.idents[name], owner) for name, owner in owners.items()])
            ]
        if not scalar:
            floats = [name for y, name in zip(self.primal.outputs, self.output_names, strict=True) if y.aval.is_float]
            for ct, name in zip(cotangents, floats, strict=True):
                shown = TextPrinter().ident(self.idents[name])
                lines.append((self.idents[ct.attrs["name"]], f"is the cotangent of {shown}"))
        return (*lines, *self._places())

    def captured_arrays(self, said: Container[Layout]) -> Iterator[tuple[Layout, str]]:
        """What those names of captured arrays stand for that are ``said``."""
        for (shape, _, _), ident in self.captured.items():
            if ident in said:
                yield ident, f"is a constant array of {'×'.join(map(str, shape))}"

    def _places(self) -> list[tuple[Layout, str | Layout]]:
        """What the letters of rows of inputs stand for; rows that share a list on one line."""
        lists: dict[str, list[Layout]] = {}
        for family in (f for f in self.families if not f.by_place):
            head, _, key = family.place.partition("[l]")
            shown = Running(family.member(0), 1, 0)
            own = bool(key) and written(key.removeprefix(".")) == family.ident
            lists.setdefault(f"{head}[l]" if own else family.place, []).append(shown)
        return [
            (items[0], f"is {place}") if len(items) == 1 else (Listed(tuple(items)), f"are those of {place}")
            for place, items in lists.items()
        ]


def written(name: str) -> Ident:
    """A name with the digits at its end, or what follows one letter and a bar, as subscript; any other as it is.

    A number after both (W_Q_3) is the name's place in a row of equals.
    """
    accented = re.fullmatch(r"([^\W\d_])_?(hat|bar|tilde|dot)(_?\d+)?", name)
    if accented:
        letter, accent, number = accented.groups()
        return Ident(letter + ACCENTS[accent], (number or "").strip("_"))
    found = re.fullmatch(r"([^\W\d_]+)_?(\d+)", name) or re.fullmatch(r"([^\W\d_])_([^\W_]{1,3})", name)
    found = found or re.fullmatch(r"([A-Z])([a-z])", name)
    if found:
        return Ident(found.group(1), found.group(2))
    last = re.fullmatch(r"(.*[^_])_(\d+)", name)
    if last is None:
        return Ident(name)
    inner, number = written(last.group(1)), last.group(2)
    return replace(inner, index=int(number)) if inner.below else replace(inner, below=number)


def _in_rows(pairs: Sequence[tuple[Ident, Ident]]) -> list[tuple[Layout, Layout]]:
    """``pairs`` with those that differ in their common number alone as one, over l."""
    rows: dict[tuple[Layout, Layout], list[tuple[Ident, Ident]]] = {}
    for pair in pairs:
        numbers = {number_of(x) for x in pair}
        same = len(numbers) == 1 and None not in numbers
        key = (numbered(pair[0], 0), numbered(pair[1], 0)) if same else pair
        rows.setdefault(key, []).append(pair)
    return [
        (members[0][0], members[0][1])
        if len(members) == 1
        else (Running(members[0][0], 1, 0), Running(members[0][1], 1, 0))
        for members in rows.values()
    ]


def _renamed(x: Ident, letter_of: Mapping[str, str]) -> Ident:
    return replace(x, name=letter_of[x.name]) if x.name in letter_of else x


def _place(name: str) -> int:
    """The place in the graph of what a cotangent belongs to."""
    found = re.search(r"\d+", name)
    return int(found.group()) if found else 0


def _below(letter: str, owner: Ident, number: int | None, by_number: bool) -> Ident:
    """δ₃ or δ_x⁽³⁾, for the quantity x₃."""
    if by_number and number is not None:
        return Ident(letter, str(number))
    name = owner.name + (owner.below if owner.index is not None or not owner.below.isdecimal() else "")
    return Ident(letter, name, number)


__all__ = ["SOFTMAX", "Naming", "written"]
