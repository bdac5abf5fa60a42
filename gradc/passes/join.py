"""Loops that walk the same steps, and compute some of the same, become one loop.

Differentiation makes such loops: the user's own, one that runs tangents beside it, one that stacks what the backward
loop needs.  Two carries are one if they start and go on alike: that is assumed of all that start alike, and taken back
where the assumption does not hold (partition refinement, as in value numbering of loops: Alpern, Wegman & Zadeck 1988).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from gradc.graph import Graph, rewrite
from gradc.node import Node, derived_from
from gradc.ops.control import Loop, by_results, inner_leaf, item
from gradc.ops.record import Kind
from gradc.passes.cse import attrs_key, cse
from gradc.passes.inside import has_bodies
from gradc.passes.rules import mapped


def join(graph: Graph) -> Graph:
    """Merge loops that share work, and carries that are always equal; each round merges what it can."""
    while has_bodies(graph):
        groups = _groups(graph)
        places: dict[Node, tuple[Node, list[int]]] = {}
        for group in groups:
            united = _united(group)
            if united is not None:
                places |= united
        if not places:
            return graph
        graph = _replaced(graph, places)
    return graph


def _groups(graph: Graph) -> list[list[Node]]:
    """Loops over the same steps none of which depends on another; each with those before it that it may join."""
    loops = [n for n in graph.nodes if n.op.kind is Kind.LOOP]
    bit, before = dependences(graph, loops)
    groups: dict[Hashable, list[list[Node]]] = {}
    for node in loops:
        key = (node.attrs["length"], node.attrs["reverse"], node.attrs["cond"] is None, node.replica)
        for group in groups.setdefault(key, []):
            if not any(before[node] & bit[other] for other in group) and _share(group, node):
                group.append(node)
                break
        else:
            groups[key].append([node])
    return independent([g for found in groups.values() for g in found], before, bit)


def dependences(graph: Graph, among: Sequence[Node]) -> tuple[dict[Node, int], dict[Node, int]]:
    """A bit for each node of ``among``, and for every node of the graph the bits of those that it depends on."""
    bit = {n: 1 << k for k, n in enumerate(among)}
    before: dict[Node, int] = {}
    for node in graph.nodes:
        before[node] = 0
        for arg in node.args:
            before[node] |= before[arg] | bit.get(arg, 0)
    return bit, before


def independent(groups: list[list[Node]], before: Mapping[Node, int], bit: Mapping[Node, int]) -> list[list[Node]]:
    """Groups that can be merged in one round: merging one must not close a circle through another."""
    chosen: list[list[Node]] = []
    busy = 0
    for group in groups:
        if len(group) > 1:
            reach = 0
            for node in group:
                reach |= before[node]
            if reach & busy:
                group = group[:1]
            else:
                for node in group:
                    busy |= bit[node]
        chosen.append(group)
    return chosen


def _share(group: Sequence[Node], node: Node) -> bool:
    """Whether a loop has an operand in common with all of a group: without one there is no work in common."""
    mine = set(node.args)
    return all(not mine.isdisjoint(other.args) for other in group)


@dataclass(frozen=True)
class _Side:
    """One loop of a group, on leaves of its own: derived loops share those of the loop that they derive from."""

    node: Node
    loop: Loop

    @classmethod
    def of(cls, node: Node) -> _Side:
        loop = Loop.of(node)
        fresh = {x: inner_leaf(x.aval, str(x.attrs.get("name", "x")), x.range) for x in loop.body.inputs}
        known: dict[Node, Node] = {}
        outputs = rewrite(loop.body.outputs, lambda n, args: None, fresh, known)
        names = {known[n]: name for n, name in loop.body.names.items() if n in known}
        body = loop.body.replace(inputs=tuple(fresh.values()), outputs=tuple(outputs), names=names)
        return cls(node, loop.rebuilt(body=body))


def _united(group: Sequence[Node]) -> dict[Node, tuple[Node, list[int]]] | None:
    """For each loop the one that replaces it, and where its results are there; None if nothing is saved."""
    sides = [_Side.of(n) for n in group]
    while sides:
        classes = _settled(sides)
        if _worth(sides, classes) and _one_condition(sides, classes):
            return _merged(sides, classes)
        sides = sides[:-1]
    return None


Class = tuple[str, int]


def _settled(sides: Sequence[_Side]) -> dict[Node, Class]:
    """The class of each body input: consts and xs by operand, carries by start and by what the steps make of them."""
    numbers: dict[Hashable, int] = {}
    classes: dict[Node, Class] = {}
    for side in sides:
        loop = side.loop
        groups = (("const", loop.inner_consts, loop.consts), ("x", loop.inner_xs, loop.xs))
        for role, inner, outer in (*groups, ("carry", loop.inner_carries, loop.carries)):
            for x, operand in zip(inner, outer, strict=True):
                classes[x] = (role, numbers.setdefault((role, operand, x.aval), len(numbers)))
    while True:
        values = _numbered(sides, classes)
        finer: dict[Hashable, int] = {}
        new = dict(classes)
        for side in sides:
            for x, y in zip(side.loop.inner_carries, side.loop.next_carries, strict=True):
                new[x] = ("carry", finer.setdefault((classes[x], values[y]), len(finer)))
        count = len({c for c in classes.values() if c[0] == "carry"})
        if len(finer) == count:
            return classes
        classes = new


def _numbered(sides: Sequence[_Side], classes: Mapping[Node, Class]) -> dict[Node, int]:
    """Inner nodes numbered so that equal numbers mean equal values, if inputs of one class are equal."""
    known: dict[Hashable, int] = {}
    values: dict[Node, int] = {}
    for side in sides:
        for node in side.loop.body.nodes:
            key: Hashable
            if node in classes:
                key = classes[node]
            else:
                key = (node.op, tuple(values[a] for a in node.args), attrs_key(node), node.aval, node.replica)
            values[node] = known.setdefault(key, len(known))
    return values


def _worth(sides: Sequence[_Side], classes: Mapping[Node, Class]) -> bool:
    """Whether some work, or some carry, is shared."""
    inputs = [x for side in sides for x in side.loop.body.inputs]
    carries = [x for side in sides for x in side.loop.inner_carries]
    values = _numbered(sides, classes)
    if len(sides) == 1:
        ys = [values[y] for y in sides[0].loop.ys]
        return len({classes[x] for x in inputs}) < len(inputs) or len({*ys}) < len(ys)
    if len({classes[x] for x in carries}) < len(carries):
        return True
    inner = [{values[n] for n in side.loop.body.nodes if n.args} for side in sides]
    return all(any(not a.isdisjoint(b) for k, b in enumerate(inner) if k != j) for j, a in enumerate(inner))


def _one_condition(sides: Sequence[_Side], classes: Mapping[Node, Class]) -> bool:
    """Whether all conditions are the same one."""
    found = set()
    for side in sides:
        cond = side.loop.cond
        if cond is None:
            continue
        given = map(classes.__getitem__, side.loop.body.inputs)
        values: dict[Node, Hashable] = dict(zip(cond.inputs, given, strict=False))
        for node in cond.nodes:
            if node not in values:
                values[node] = (node.op, tuple(values[a] for a in node.args), attrs_key(node), node.aval)
        found.add(values[cond.outputs[0]])
    return len(found) <= 1


def _merged(sides: Sequence[_Side], classes: Mapping[Node, Class]) -> dict[Node, tuple[Node, list[int]]]:
    first: dict[Class, tuple[Node, Node, Node | None]] = {}  # input, operand, next carry of the first of each class
    for side in sides:
        outer = (*side.loop.consts, *side.loop.carries, *side.loop.xs)
        following = dict(zip(side.loop.inner_carries, side.loop.next_carries, strict=True))
        for x, operand in zip(side.loop.body.inputs, outer, strict=True):
            first.setdefault(classes[x], (x, operand, following.get(x)))
    order = {role: [c for c in first if c[0] == role] for role in ("const", "carry", "x")}
    places = {c: k for k, c in enumerate(order["carry"])}
    one = {x: first[classes[x]][0] for side in sides for x in side.loop.body.inputs}
    nexts = [y for c in order["carry"] if (y := first[c][2]) is not None]
    ys = [y for side in sides for y in side.loop.ys]
    outputs = rewrite([*nexts, *ys], lambda node, args: None, one)
    names = {one[x]: n for side in reversed(sides) for x, n in side.loop.body.names.items() if x in one}
    for side in sides:
        names |= {n: name for n, name in side.loop.body.names.items() if n not in one}
    inputs = tuple(first[c][0] for role in order.values() for c in role)
    body = cse(Graph(inputs, tuple(outputs), names, title=sides[0].loop.body.title))
    stacks = body.outputs[len(nexts) :]
    place = {y: k for k, y in enumerate(dict.fromkeys(stacks))}
    body = body.replace(outputs=(*body.outputs[: len(nexts)], *place))
    stack_of = iter([place[y] for y in stacks])
    operands = {role: tuple(first[c][1] for c in chosen) for role, chosen in order.items()}
    lead = sides[0].loop
    with derived_from(sides[0].node.where, sides[0].node.replica):
        node = lead.rebuilt(
            body=body, consts=operands["const"], carries=operands["carry"], xs=operands["x"],
            cond=_condition(lead, inputs[: len(order["const"]) + len(order["carry"])], one),
        ).node()  # fmt: skip
    found = {}
    for side in sides:
        carried = [places[classes[x]] for x in side.loop.inner_carries]
        found[side.node] = (node, [*carried, *(len(nexts) + next(stack_of) for _ in side.loop.ys)])
    return found


def _condition(loop: Loop, inputs: Sequence[Node], one: Mapping[Node, Node]) -> Graph | None:
    """The condition over the inputs of the merged body."""
    if loop.cond is None:
        return None
    fixed = loop.body.inputs[: len(loop.cond.inputs)]
    outputs = loop.cond.inlined([one[x] for x in fixed])
    return Graph(tuple(inputs), tuple(outputs), title=loop.cond.title)


def _replaced(graph: Graph, places: Mapping[Node, tuple[Node, list[int]]]) -> Graph:
    """The graph with merged loops in place of others, which may be behind the operands of merged ones too."""

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        if node not in places:
            return None
        merged, where = places[node]
        return [item(merged, k) for k in where]

    while any(node in places for node in graph.nodes):
        graph = mapped(graph, by_results(results))
    return graph
