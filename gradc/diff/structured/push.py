"""The identity pushed through a linear graph, node by node.

Enters: nodes that are linear in one leaf, a tangent or a cotangent.  Leaves: for each the array of its derivatives.
A node that holds bodies (a loop, a branch, a call) has no structured rule: it is batched over all directions.  Some of
its results may not depend on the leaf (a loop that runs primal and tangents together); what is computed from those is
rebuilt on the results of the batched node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from gradc.aval import Shape
from gradc.diff.batching import batch_through_bodies
from gradc.diff.structured.labels import axes, directions
from gradc.diff.structured.products import dense
from gradc.diff.structured.rules import matrix_of_node
from gradc.diff.structured.terms import Matrix, Space, Term, identity, squeezed
from gradc.graph import substitute
from gradc.interpret import topological
from gradc.node import OPS, Node, derived_from
from gradc.ops.leaves import full
from gradc.ops.record import HOLDERS, Kind


def matrices(outputs: Sequence[Node], leaf: Node, transposed: bool = False) -> list[Node]:
    """∂y/∂leaf for each output y, of shape y.shape + leaf.shape; the outputs are linear in ``leaf``.

    ``transposed``: of shape leaf.shape + y.shape.
    """
    if leaf.size == 1:
        return _of_one_direction(outputs, leaf, transposed)
    if not leaf.size:
        outer = [(leaf.shape + y.shape) if transposed else (y.shape + leaf.shape) for y in outputs]
        return [full(shape, 0, y.dtype) for shape, y in zip(outer, outputs, strict=True)]
    push = _Push(leaf)
    for node in topological(outputs):
        with derived_from(node.where):
            push.enter(node)
    found = []
    for y in outputs:
        with derived_from(y.where):
            matrix = push.known.get(y) or Matrix(y.shape, y.dtype, ())
            found.append(dense(matrix, leaf.shape, transposed))
    return found


def _of_one_direction(outputs: Sequence[Node], leaf: Node, transposed: bool) -> list[Node]:
    """A leaf of one element has one direction: what comes out for 1 is the matrix."""
    found = substitute(outputs, {leaf: full(leaf.shape, 1, leaf.dtype)})
    return [
        _reshaped(m, leaf.shape + y.shape if transposed else y.shape + leaf.shape)
        for m, y in zip(found, outputs, strict=True)
    ]


class _Push:
    """What is known of the nodes so far."""

    def __init__(self, leaf: Node):
        self.directions: Shape = leaf.shape
        self.known: dict[Node, Matrix] = {leaf: identity(leaf)}  #: nodes that depend on the leaf
        self.several: dict[Node, list[tuple[Node, bool]]] = {}  #: batched results of nodes that hold bodies
        self.instead: dict[Node, Node] = {}  #: nodes that do not depend on the leaf, although what they read does

    def enter(self, node: Node) -> None:
        """Work out the matrix of ``node``, if it depends on the leaf."""
        given = {i: self.known[a] for i, a in enumerate(node.args) if a in self.known}
        if node in self.known:
            return
        if node.op.kind is Kind.ITEM and node.args[0] in self.several:
            value, depends = self.several[node.args[0]][node.attrs["index"]]
            if depends:
                self.known[node] = self._of_batch(value, node)
            else:
                self.instead[node] = value
            return
        if any(a in self.instead for a in node.args):
            plain = node.rebuilt([self.instead.get(a, a) for a in node.args])
            if not given:
                self.instead[node] = plain
                return
        else:
            plain = node
        if given and node.op.kind in HOLDERS:
            self.several[node] = self._through_bodies(plain, given)
        elif given:
            self.known[node] = matrix_of_node(plain, given, self.directions)

    def _through_bodies(self, node: Node, given: Mapping[int, Matrix]) -> list[tuple[Node, bool]]:
        """Each result, and whether it has the axis of all directions in front."""
        count = prod(self.directions)
        args = list(node.args)
        for i, matrix in given.items():
            whole = dense(matrix, self.directions, transposed=True)
            args[i] = _reshaped(whole, (count, *matrix.shape))
        return batch_through_bodies(node, args, [i in given for i in range(len(args))], count)

    def _of_batch(self, value: Node, node: Node) -> Matrix:
        """One dense term for a result with all directions in front."""
        whole = _reshaped(value, (*self.directions, *node.shape))
        labels = (*directions(len(self.directions)), *axes(range(node.ndim)))
        return Matrix(node.shape, node.dtype, (Term((squeezed(whole, labels),), (), Space(self.directions)),))


def _reshaped(node: Node, shape: Shape) -> Node:
    return node if node.shape == shape else OPS["reshape"].make((node,), shape=shape)
