"""Random numbers in formulas: noise is a letter, whatever it is made of.

Enters: a graph.  Leaves: the same graph, in which each draw that the user gave no name has one: ε for a floating one, k
for integers, m for truth values.  Start reading at `with_named_draws`.
"""

from __future__ import annotations

from gradc.graph import Graph
from gradc.node import Node

#: how the labels of draws begin, see `gradc.random.keys.sampler`
DRAWN = "random."
#: the letters, by NumPy's kinds of dtypes; bfloat16, whose kind is V, is a float
LETTERS = {"b": "m", "i": "k", "u": "k"}


def with_named_draws(graph: Graph) -> Graph:
    """``graph`` with a name for each draw; several of one letter are numbered in order."""
    letters: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node not in graph.names and node.label is not None and node.label.name.startswith(DRAWN):
            letters.setdefault(LETTERS.get(node.dtype.kind, "ε"), []).append(node)
    taken, names = {*graph.names.values()}, dict(graph.names)
    for letter, nodes in letters.items():
        number = 0 if len(nodes) == 1 and letter not in taken else 1
        for node in nodes:
            while (name := f"{letter}{number or ''}") in taken:
                number += 1
            names[node] = name
            taken.add(name)
    return graph.replace(names=names)
