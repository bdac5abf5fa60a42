"""The driver of rule-based passes: rules look at one node whose operands are already rewritten.

A rule returns a replacement or None.  Rules are tried until none applies, so one pass reaches a local fixed point; the
user's names, source lines and labels move to the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradc.graph import Graph, rewrite
from gradc.node import Label, Node, derived_from

Rule = Callable[[Node], Node | None]
Rules = Mapping[str, Sequence[Rule]]  # op name -> rules

#: a rewriting chain on one node longer than this is a cycle between rules
LIMIT = 100


def apply_rules(graph: Graph, rules: Rules, report: Callable[[Rule, Node], str] | None = None) -> Graph:
    """Rewrite every node by ``rules``; ``report`` turns an application into a note on the graph."""
    notes: list[str] = []

    def rewritten(node: Node, args: tuple[Node, ...]) -> Node | None:
        start = node if all(a is b for a, b in zip(args, node.args, strict=True)) else node.rebuilt(args, node.label)
        result = _to_fixed_point(start, rules, notes, report)
        return None if result is start and start is node else result

    return mapped(graph, rewritten, notes)


def _to_fixed_point(node: Node, rules: Rules, notes: list[str], report: Callable[[Rule, Node], str] | None) -> Node:
    for _ in range(LIMIT):
        for rule in rules.get(node.op.name, ()):
            with derived_from(node.where):
                replacement = rule(node)
            if replacement is not None and replacement is not node:
                if report is not None:
                    notes.append(report(rule, node))
                node = _with_label(replacement, node.label)
                break
        else:
            return node
    raise AssertionError(f"rewrite rules cycle on {node!r}")


def _with_label(node: Node, label: Label | None) -> Node:
    if label is None or node.label is not None or not node.args:
        return node
    return node.rebuilt(node.args, label)


def mapped(
    graph: Graph, rule: Callable[[Node, tuple[Node, ...]], Node | None], notes: Sequence[str] = ()
) -> Graph:
    """The graph rebuilt by ``rule``, with names carried over and labels pointing at rewritten operands."""
    known: dict[Node, Node] = {}
    outputs = rewrite(graph.outputs, rule, {n: n for n in graph.inputs}, known)
    names = {known[node]: name for node, name in graph.names.items() if node in known}
    fresh = tuple(n for n in notes if n not in graph.notes)
    return graph.replace(outputs=tuple(outputs), names=names, notes=graph.notes + fresh)
