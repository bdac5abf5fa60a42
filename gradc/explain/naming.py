"""What quantities are called.

Enters: the user's names in the graph.  Leaves: a unique name for every quantity and how it is written.
Conventions: digits at the end of a name are its subscript (W1 is W₁).  A cotangent is δ with the subscript of the
quantity it belongs to; of an unnamed quantity, that of the nearest named one that is computed from it.  Where two
would be written alike, the whole name is the subscript; where there is one δ without number it stands alone.  The
gradient of a scalar L is ∂L/∂W; for other results ∂W is the cotangent of W, and G that of the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from gradc.explain.formula import Symbol
from gradc.explain.layout import Derivative, Ident, Layout
from gradc.graph import Graph
from gradc.node import Node

#: how names begin that are not settled yet
PART = "part "


class Naming:
    """The names of one derivation; ``idents`` says how each is written."""

    def __init__(self, primal: Graph):
        self.primal = primal
        self.taken: set[str] = set(primal.names.values())
        self.idents: dict[str, Ident] = {name: written(name) for name in self.taken}
        self.output_names = self._output_names(primal)

    def _output_names(self, primal: Graph) -> list[str]:
        """The user's name of each result, or L for a scalar and Y for an array."""
        names = []
        for y in primal.outputs:
            name = primal.names.get(y) or self.fresh("L" if y.shape == () else "Y")
            self.idents.setdefault(name, written(name))
            names.append(name)
        return names

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
        role = "input" if node.op.name == "input" else "quantity"
        return Symbol(node.shape, name=name, role=role, nodes=frozenset((node,)))

    def quantity(self, graph: Graph, owner: Node | None, letter: str = PART) -> str:
        """A name for a shared part; how it is written is settled when all are known, unless ``letter`` says it."""
        return self.fresh(letter if owner is None else f"{PART}δ{graph.index.get(owner, 0)}.")

    def settle(self, graph: Graph, deltas: Mapping[str, Node], others: Sequence[str]) -> None:
        """Decide how cotangents and unnamed parts are written, now that it is known which have a line."""
        nearest = self._nearest_names(graph) if deltas else {}
        below = {name: nearest.get(owner, self.output_names[0]) for name, owner in deltas.items()}
        if len(set(below.values())) < len(below) and not any(map(_digits, below.values())):
            order = sorted(deltas, key=lambda name: graph.index.get(deltas[name], 0))
            below = {name: str(i) for i, name in enumerate(order, 1)}
        short = [_digits(text) for text in set(below.values())]
        used: set[str] = set()
        for name, text in below.items():
            alone = short.count(_digits(text)) == 1 and f"δ{_digits(text)}" not in self.taken
            chosen = _digits(text) if alone else text
            if chosen not in used:
                used.add(chosen)
                self.idents[name] = Ident("δ", chosen)
        unnamed = [name for name in others if name.startswith(PART)]
        unnamed += [name for name in deltas if self.idents[name].name != "δ"]  # second parts on the way to one quantity
        letter = next(c for c in ("t", "s", "v", "q", PART) if not any(n.rstrip("0123456789") == c for n in self.taken))
        for i, name in enumerate(unnamed, 1):
            self.idents[name] = Ident(letter, str(i) if len(unnamed) > 1 else "")

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
        return Derivative(self.idents[self.output_names[0]] if scalar else None, self.idents.get(name) or written(name))

    def legend(
        self,
        graph: Graph,
        extents: Mapping[int, Symbol],
        cotangents: Sequence[Node],
        deltas: Mapping[str, Node],
        scalar: bool,
    ) -> tuple[tuple[Ident, str | Layout], ...]:
        """What the derivation's own letters stand for."""
        lines: list[tuple[Ident, str | Layout]] = [
            (self.idents[symbol.name], f"= {size}") for size, symbol in extents.items()
        ]
        named = {name: owner for name, owner in deltas.items() if owner in graph.names}
        for name, owner in named.items() if scalar else ():
            below = self.idents[graph.names[owner]]
            lines.append((self.idents[name], Derivative(self.idents[self.output_names[0]], below)))
        if not scalar:
            for ct, name in zip(cotangents, self.output_names, strict=False):
                lines.append((self.idents[ct.attrs["name"]], f"is the cotangent of {name}"))
        return tuple(lines)


def written(name: str) -> Ident:
    """A name with the digits at its end, or what follows one letter and a bar, as subscript; any other as it is."""
    found = re.fullmatch(r"([^\W\d_]+)_?(\d+)", name) or re.fullmatch(r"([^\W\d_])_([^\W_]{1,3})", name)
    return Ident(found.group(1), found.group(2)) if found else Ident(name)


def _digits(name: str) -> str:
    found = re.search(r"\d+$", name)
    return found.group() if found else ""


__all__ = ["Naming", "written"]
