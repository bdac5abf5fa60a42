"""The driver of rule-based passes: rules look at one node whose operands are already rewritten.

A rule returns a replacement or None.  Rules are tried until none applies, so one pass reaches a local fixed point; the
user's names, source lines and labels move to the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradc.graph import Graph, Rewrite, rewrite_nodes
from gradc.node import OPS, Label, Node, derived_from
from gradc.ops.elementwise import apply
from gradc.passes.lineage import rewritten

Rule = Callable[[Node], Node | None]
Rules = Mapping[str, Sequence[Rule]]  # op name -> rules

#: a rewriting chain on one node longer than this is a cycle between rules
LIMIT = 100


def made_by(node: Node, *names: str) -> bool:
    """Whether a node is the result of one of these ops."""
    return node.op.name in names


def call(name: str, *args: Any, **attrs: Any) -> Node:
    """The op of that name applied to operands and Python numbers, with promotion and broadcasting."""
    return apply(OPS[name], *args, **attrs)


def apply_rules(graph: Graph, rules: Rules, report: Callable[[Rule, Node], str] | None = None) -> Graph:
    """Rewrite by ``rules`` until none applies anywhere; ``report`` turns an application into a note on the graph.

    A node is looked at once: what a rule sees below it never changes.  So the next walk tries the nodes that are new.
    """
    settled: set[Node] = set()
    for _ in range(LIMIT):
        applied: list[tuple[Rule, Node]] = []
        graph = _sweep(graph, rules, settled, applied)
        if not applied:
            return graph
        if report is not None:
            graph = noted(graph, [report(rule, node) for rule, node in applied])
    raise AssertionError("rewrite rules do not settle")


def noted(graph: Graph, notes: Sequence[str]) -> Graph:
    """The graph with more to report, each thing once."""
    new = tuple(dict.fromkeys((*graph.notes, *notes)))
    return graph.replace(notes=new) if new != graph.notes else graph


def _sweep(graph: Graph, rules: Rules, settled: set[Node], applied: list[tuple[Rule, Node]]) -> Graph:
    """One walk from the leaves to the outputs; a replacement's own new operands are met by the next walk."""

    def settle(node: Node, args: tuple[Node, ...]) -> Node | None:
        tried = rules.get(node.op.name)
        if args is not node.args:
            result = node.rebuilt(args, node.label)
        elif tried is None or node in settled:
            return None
        else:
            result = node
        if tried is not None:
            result = _to_fixed_point(result, rules, applied)
            settled.add(result)
        return result

    return mapped(graph, settle)


def _to_fixed_point(node: Node, rules: Rules, applied: list[tuple[Rule, Node]]) -> Node:
    for _ in range(LIMIT):
        replacement = _first_applying(node, rules.get(node.op.name, ()), applied)
        if replacement is None:
            return node
        node = _with_label(replacement, node.label)
    raise AssertionError(f"rewrite rules cycle on {node!r}")


def _first_applying(node: Node, rules: Sequence[Rule], applied: list[tuple[Rule, Node]]) -> Node | None:
    """What the first rule that applies makes of ``node``."""
    if not rules:
        return None
    with derived_from(node.where, node.replica):
        for rule in rules:
            replacement = rule(node)
            if replacement is not None and replacement is not node:
                _refuse_other_kind(rule, node, replacement)
                applied.append((rule, node))
                return replacement
    return None


def _refuse_other_kind(rule: Rule, node: Node, replacement: Node) -> None:
    """A rule gives another way to compute the same array, never an array of another shape or dtype."""
    if (replacement.aval.shape, replacement.aval.dtype) != (node.aval.shape, node.aval.dtype):
        name = getattr(rule, "__name__", rule)
        raise AssertionError(f"{node.where}: rule {name} made {replacement.aval} of {node.op.name}, {node.aval}")


def _with_label(node: Node, label: Label | None) -> Node:
    if label is None or node.label is not None or not node.args:
        return node
    return node.rebuilt(node.args, label)


def mapped(graph: Graph, rule: Rewrite) -> Graph:
    """The graph rebuilt by ``rule``, with names carried over and labels pointing at rewritten operands.

    It is the very same graph where the rule keeps every node.
    """
    changed: dict[Node, Node] = {}
    inputs = set(graph.inputs)
    rewrite_nodes((node for node in graph.nodes if node not in inputs), rule, changed)
    if not changed:
        return graph
    known = graph.index
    names = {changed.get(node, node): name for node, name in graph.names.items() if node in known}
    after = graph.replace(outputs=tuple(changed.get(y, y) for y in graph.outputs), names=names)
    rewritten(graph, changed, after)
    return after
