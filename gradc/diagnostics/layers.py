"""The layers of a model, read off the graph of its loss: where a weight meets activations, and what becomes of that.

Enters: a graph and its inputs that are parameters.  Leaves: `Layer`s in the order of their depth.
A layer is a product (or a gather, of an embedding) of something made of parameters alone and something else; its signal
is the product with what parameters are added to it; its activation is the elementwise expression behind that which is
no straight line and leads on to another layer.  No layer is registered and no name of a function is asked for.
Start reading at `layers_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradc.graph import Graph, substitute
from gradc.interpret import computed_from, topological
from gradc.node import Node
from gradc.ops.leaves import full
from gradc.ops.record import LEAVES, Kind
from gradc.places import Where

#: names of composites that take mean and spread off what passes
NORMALISING = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")


@dataclass(frozen=True)
class Activation:
    """The elementwise expression from ``start`` to ``end``."""

    start: Node
    end: Node


@dataclass(frozen=True)
class Layer:
    """One layer: its ``name`` is its weight's, ``depth`` counts from 1, ``units`` are the axes of ``signal`` along
    which its outputs lie; ``fan_in`` and ``fan_out`` count the elements on either side of one weight."""

    name: str
    weight: Node
    where: Where | None
    depth: int
    signal: Node
    units: tuple[int, ...]
    activation: Activation | None
    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Model:
    """The layers of a graph, and what else the advice asks about."""

    layers: tuple[Layer, ...]
    normalises: bool
    residual: bool
    hidden: tuple[str, ...]  #: parameters that only bodies of loops, branches and calls read as weights


class _Finder:
    def __init__(self, graph: Graph, params: Sequence[Node]):
        self.graph, self.params = graph, set(params)
        self.order = topological([graph.outputs[0]])
        self.users: dict[Node, list[Node]] = {}
        for node in self.order:
            for a in dict.fromkeys(node.args):
                self.users.setdefault(a, []).append(node)
        self.fixed: set[Node] = set()  #: made of parameters and constants alone, by no layer
        self.param: dict[Node, Node] = {}  #: node of those -> the parameter with the most axes that it is made of
        self.depth: dict[Node, int] = {}
        self.products = [n for n in self.order if self._sorted_in(n)]

    def _sorted_in(self, node: Node) -> bool:
        """Note what a node is made of, if that is known of its operands; whether it is a layer's product."""
        if node in self.params:
            self.fixed.add(node)
            self.param[node] = node
        elif node.op.kind in (Kind.CONSTANT, Kind.INDEX):
            self.fixed.add(node)
        elif self._weight_side(node) is not None:
            return True
        elif node.args and node.op.kind not in LEAVES and all(a in self.fixed for a in node.args):
            self.fixed.add(node)
            read = [self.param[a] for a in node.args if a in self.param]
            if read:
                self.param[node] = max(read, key=lambda x: x.ndim)
        return False

    def _weight_side(self, node: Node) -> int | None:
        """Which operand of a product is made of parameters, the other one of none alone."""
        if node.op.kind is Kind.GATHER:
            return 0 if node.args[0] in self.param else None
        if node.op.kind is not Kind.CONTRACT:
            return None
        sides = [k for k, a in enumerate(node.args) if a in self.param]
        return sides[0] if len(sides) == 1 else None

    # -- along depth ---------------------------------------------------------------------------------------------------
    def measure_depth(self) -> None:
        products = set(self.products)
        for node in self.order:
            below = max((self.depth[a] for a in node.args), default=0)
            self.depth[node] = below + (node in products)

    @property
    def has_residual(self) -> bool:
        """Whether what passed a layer is added to what did not."""
        return any(
            node.op.kind is Kind.ELEMENTWISE and node.op.linear is not None and not node.op.multilinear
            and len({self.depth[a] for a in node.args if a not in self.fixed and self._is_signal(a)}) > 1
            for node in self.order
            if len(node.args) == 2
        )  # fmt: skip

    def _is_signal(self, node: Node) -> bool:
        return node.aval.is_float and self.depth[node] > 0 and node.op.kind is not Kind.CONSTANT

    # -- one layer -----------------------------------------------------------------------------------------------------
    def layer(self, product: Node) -> Layer:
        side = self._weight_side(product)
        assert side is not None
        weight = self.param[product.args[side]]
        if product.op.kind is Kind.GATHER:
            units = tuple(range(product.ndim - (weight.ndim - len(product.attrs["axes"])), product.ndim))
            fan_in, fan_out = 1, _extent(product, units)
        else:
            labels = (product.attrs["left"], product.attrs["right"])
            out = product.attrs["out"]
            mine, theirs = labels[side], labels[1 - side]
            units = tuple(i for i, k in enumerate(out) if k in mine and k not in theirs)
            extent = dict(zip(mine, product.args[side].shape, strict=True))
            fan_in = _product(n for k, n in extent.items() if k in theirs and k not in out)
            fan_out = _extent(product, units)
        signal, units = self._with_bias(product, units)
        name = self.graph.names.get(weight, "a parameter")
        activation = self._activation(signal)
        return Layer(
            name, weight, product.where, self.depth[product], signal, units, activation, fan_in, fan_out
        )  # fmt: skip

    def _with_bias(self, product: Node, units: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
        """The last of what only moves a product's axes or adds parameters to it."""
        current = product
        while len(users := self.users.get(current, [])) == 1:
            user = users[0]
            if user.op.permutes:
                units = tuple(k for k, a in enumerate(user.attrs["axes"]) if a in units)
            elif user.op.regroups and _wide(user) == _wide(current):
                places = iter(k for k, n in enumerate(user.shape) if n != 1)
                moved = {a: next(places) for a, n in enumerate(current.shape) if n != 1}
                units = tuple(moved[a] for a in units if a in moved)
            elif not self._adds_parameters(user, current):
                break
            current = user
        return current, units

    def _adds_parameters(self, user: Node, current: Node) -> bool:
        others = [a for a in user.args if a is not current]
        linear = user.op.kind is Kind.ELEMENTWISE and user.op.linear is not None and not user.op.multilinear
        return linear and len(user.args) == 2 and all(a in self.fixed for a in others)

    def _activation(self, signal: Node) -> Activation | None:
        """The first bent elementwise expression of what a signal becomes, before another layer."""
        stops = set(self.products)
        behind = computed_from([signal], self.order, lambda n: n not in stops)
        read = {a for p in self.products for a in p.args}
        ends = behind & read
        if not ends:
            return None
        leads = set(topological(ends))
        for node in self.order:
            if node in behind and node in leads and node.shape == signal.shape and self._bends(node):
                start = self._straight_back(node)
                region = self._region(start)
                last = [n for n in region if n in leads and any(u not in region for u in self.users.get(n, []))]
                if last and last[-1] is not start and not self._is_moment(signal, last[-1], region):
                    return Activation(start, last[-1])
        return None

    def _is_moment(self, signal: Node, end: Node, region: dict[Node, None]) -> bool:
        """Whether an expression is only added up, and the signal goes on without it, as for a variance."""
        if not all(u in region or u.op.kind is Kind.REDUCE for u in self.users.get(end, [])):
            return False
        stops = {*self.products, end}
        around = computed_from([signal], self.order, lambda n: n not in stops)
        return any(a in around for p in self.products for a in p.args)

    def _moving(self, node: Node) -> list[Node]:
        return [a for a in dict.fromkeys(node.args) if a not in self.fixed and a.aval.is_float]

    def _bends(self, node: Node) -> bool:
        return node.op.kind is Kind.ELEMENTWISE and node.op.linear is None and len(self._moving(node)) == 1

    def _straight_back(self, node: Node) -> Node:
        """Back to what an elementwise expression of one variable begins with."""
        current = node
        while current.op.kind is Kind.ELEMENTWISE and len(moving := self._moving(current)) == 1:
            if any(a not in self.fixed and a is not moving[0] for a in current.args) or self._is_layers_own(current):
                break
            current = moving[0]
        return current

    def _is_layers_own(self, node: Node) -> bool:
        return len(node.args) == 2 and any(self._adds_parameters(node, a) for a in node.args if a not in self.fixed)

    def _region(self, start: Node) -> dict[Node, None]:
        """What is made elementwise of ``start`` and parameters alone, in order."""
        region = {start: None}
        for node in self.order:
            reads = node.op.kind is Kind.ELEMENTWISE and any(a in region for a in node.args)
            if reads and all(a in region or a in self.fixed or not self._varies(a, region) for a in node.args):
                region[node] = None
        return region

    def _varies(self, node: Node, region: dict[Node, None]) -> bool:
        """Whether a node is anything but a condition on the region."""
        return node.aval.is_float or not all(a in region or a in self.fixed for a in node.args)


def _extent(node: Node, axes: Sequence[int]) -> int:
    return _product(node.shape[a] for a in axes)


def _product(extents: Iterable[int]) -> int:
    result = 1
    for n in extents:
        result *= n
    return result


def _wide(node: Node) -> list[int]:
    return [n for n in node.shape if n != 1]


def layers_of(graph: Graph, params: Sequence[Node]) -> Model:
    """The layers on the way to the first output of ``graph``, by depth and then in the order of the graph."""
    finder = _Finder(graph, params)
    finder.measure_depth()
    found = sorted((finder.layer(p) for p in finder.products), key=lambda layer: layer.depth)
    labels = {label.name for label in graph.regions.values()}
    known = {layer.weight for layer in found}
    inside = {a for n in finder.order if n.op.kind in (Kind.LOOP, Kind.BRANCH, Kind.CALL) for a in n.args}
    hidden = [x for x in params if x not in known and x.ndim > 1 and x in inside]
    names = tuple(graph.names.get(x, "a parameter") for x in hidden)
    return Model(tuple(found), bool(labels & {*NORMALISING}), finder.has_residual, names)


def slope_at(slope: Node, start: Node, point: float) -> Node:
    """The slope of an activation where its argument is ``point`` everywhere."""
    return substitute([slope], {start: full(start.shape, point, start.dtype)})[0]
