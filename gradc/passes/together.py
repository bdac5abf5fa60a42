"""Products with one large array, done together.

Enters: a lowered graph in which equal work is one node.  Leaves: the same function, where products that read the same
large operand and little else are one product: the operand crosses memory once.  Sums keep their terms.
Start reading at `together`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.passes.rules import mapped

#: An operand of fewer elements is near anyway.
LARGE = 1 << 15
#: Products with more columns than this are bound by arithmetic, not by the operand that they share.
MOST_COLUMNS = 4
#: Most products in one.
MOST = 8


def together(graph: Graph) -> Graph:
    """Stack the small operands of products that share a large one, none depending on another."""
    for _ in range(len(graph.nodes)):
        group = next(_groups(graph), None)
        if group is None:
            return graph
        graph = _joined(graph, *group)
    return graph


def sharing(graph: Graph) -> bool:
    """Whether some products read the same large operand."""
    return any(True for _ in _families(graph))


def _families(graph: Graph) -> Iterator[tuple[int, list[Node]]]:
    """Products alike in all but their small operand: (position of the large operand, products)."""
    families: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.op.name != "contract" or not node.aval.is_float:
            continue
        for large in (0, 1):
            if _is_bound_by(node, large):
                labels = tuple(node.attrs[k] for k in ("left", "right", "out"))
                key = (large, id(node.args[large]), labels, node.args[1 - large].aval)
                families.setdefault(key, []).append(node)
    yield from ((key[0], nodes) for key, nodes in families.items() if len(nodes) > 1)  # type: ignore[misc]


def _is_bound_by(node: Node, large: int) -> bool:
    """Whether a product does little with each element of its operand number ``large``."""
    big, small = node.args[large], node.args[1 - large]
    theirs, other = (node.attrs[k] for k in (("left", "right") if large == 0 else ("right", "left")))
    columns = 1
    for label, extent in zip(other, small.shape, strict=True):
        columns *= extent if label not in theirs else 1
    return big.size >= LARGE and big.size >= 16 * small.size and columns <= MOST_COLUMNS


def _groups(graph: Graph) -> Iterator[tuple[int, list[Node]]]:
    """Products of one family that do not depend on each other."""
    for large, family in _families(graph):
        below = _dependences(graph, family)
        group: list[int] = []
        for k, node in enumerate(family):
            if len(group) < MOST and not any(below[node] >> j & 1 for j in group):
                group.append(k)
        if len(group) > 1:
            yield large, [family[k] for k in group]


def _dependences(graph: Graph, family: Sequence[Node]) -> dict[Node, int]:
    """For every node the bits of the members of ``family`` that it is made of, itself excepted."""
    bit = {node: 1 << k for k, node in enumerate(family)}
    below: dict[Node, int] = {}
    for node in graph.nodes:
        found = 0
        for a in node.args:
            found |= below[a] | bit.get(a, 0)
        below[node] = found
    return below


def _joined(graph: Graph, large: int, group: Sequence[Node]) -> Graph:
    """One product for all of ``group``, along a new leading axis of the small operand and of the result."""
    first = group[0]
    small = [node.args[1 - large] for node in group]
    stacked = dsl.concatenate([dsl.reshape(x, (1, *x.shape)) for x in small], axis=0)
    left, right, out = (first.attrs[k] for k in ("left", "right", "out"))
    new = 1 + max(*left, *right)
    if large == 0:
        product = OPS["contract"].make((first.args[0], stacked), left=left, right=(new, *right), out=(new, *out))
    else:
        product = OPS["contract"].make((stacked, first.args[1]), left=(new, *left), right=right, out=(new, *out))
    parts = {node: dsl.reshape(product[k : k + 1], node.shape) for k, node in enumerate(group)}
    return mapped(graph, lambda node, args: parts.get(node))
