"""Where it went wrong: the first wrong rule, rewrite or kernel.

Enters: a `Subject` and the graphs made from it.  Leaves: `Finding`s with op and source line. *Rule*: each node alone,
at the values it received (`rules`).  *Pass*: the graph evaluated before and after each pass, then node by node.
Compiled code is `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.diff.linear import active_nodes
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node
from gradc.ops.record import HOLDERS, LEAVES, has_results
from gradc.oracle.estimates import compiled_subject
from gradc.oracle.report import Finding
from gradc.oracle.rounding import running_errors
from gradc.oracle.rules import Fault, applied, batching_faults, derivative_faults, meaning_faults
from gradc.oracle.witness import Subject
from gradc.passes import FORWARD, PASSES, run_passes
from gradc.passes.cse import attrs_key

Array = np.ndarray[Any, Any]
#: a leaf has no rule, and what holds bodies is only as right as the ops in them, checked where they stand alone
UNCHECKED = (*LEAVES, *HOLDERS)
Check = Callable[[Node, Sequence[Array]], list[Fault]]


def rule_findings(subject: Subject, checks: Sequence[Check], distinct: bool = False) -> list[Finding]:
    """Faults of each node at the values it received, in graph order; ``distinct``: one node per kind of call."""
    graph = subject.graph
    values, _ = running_errors(graph.outputs, subject.values)
    seen: set[Any] = set()
    found = []
    for node in graph.nodes:
        whole = applied(node)
        if whole.op.kind in UNCHECKED or has_results(node):  # their results are looked at
            continue
        key = (node.op.name, attrs_key(node), whole.op.name, attrs_key(whole), tuple(a.aval for a in whole.args))
        if not (distinct and key in seen):
            seen.add(key)
            for check in checks:
                faults = check(node, [values[a] for a in whole.args])
                found += [_finding("rule", f.facet, applied(f.node), graph.index[node], f.words, node) for f in faults]
    return found


def derivative_findings(subject: Subject) -> list[Finding]:
    """Wrong derivative facets among the nodes that carry a derivative."""
    _, active = active_nodes(subject.graph.outputs, subject.leaves)

    def check(node: Node, values: Sequence[Array]) -> list[Fault]:
        return derivative_faults(node, values) if node in active else []

    return rule_findings(subject, [check])


def record_findings(subject: Subject, methods: Sequence[str]) -> list[Finding]:
    """Wrong SymPy meanings and batching rules, which no gradient need show: one node per kind of call.

    SymPy is asked for "symbolic"; the batching rules, by which directions are taken together, for "forward" and
    "finite".
    """
    checks: list[Check] = [meaning_faults] if "symbolic" in methods else []
    checks += [batching_faults] if {"forward", "finite"} & set(methods) else []
    return rule_findings(subject, checks, distinct=True) if checks else []


def _finding(stage: str, facet: str, node: Node, index: int, words: str, seen_at: Node) -> Finding:
    where = seen_at.where
    via = "" if node.op is seen_at.op else f" (used by the rule of {seen_at.op.name})"
    return Finding(stage, facet, node.op.name, index, where, words + via)


# -- passes ------------------------------------------------------------------------------------------------------------


def pass_findings(subject: Subject) -> list[Finding]:
    """The first pass after which the function or its gradient has other values, and the node where that begins."""
    steps: list[tuple[str, Graph, Graph]] = []

    def observe(name: str, before: Graph, after: Graph) -> None:
        steps.append((name, before, after))

    roads: list[tuple[Graph, Callable[[Graph], Graph]]] = [
        (subject.graph, lambda graph: run_passes(graph, FORWARD, observe)),
        (compiled_subject(subject), lambda graph: Stages(graph, Options(observe=observe)).lowered),
    ]
    for graph, walk in roads:
        steps.clear()
        after = walk(graph)
        if _changed(subject, graph.outputs, graph, after.outputs, after):
            found = (_step_finding(subject, *s) for s in steps)
            return [f for f in found if f is not None][:1]
    return []


def _step_finding(subject: Subject, name: str, before: Graph, after: Graph) -> Finding | None:
    if not _changed(subject, before.outputs, before, after.outputs, after):
        return None
    inner = [n for n in before.nodes if n.op.kind not in LEAVES and not has_results(n)]
    whole = before.replace(outputs=tuple(inner), in_tree=None, out_tree=None)
    rewritten = PASSES[name](whole)
    changed = _changed(subject, inner, before, rewritten.outputs, rewritten)
    node = changed[0] if changed else before.outputs[0]
    words = f"pass {name} changed the value of this node"
    notes = [n for n in after.notes if n not in before.notes]
    return Finding("pass", name, node.op.name, before.index[node], node.where, "; ".join([words, *notes]))


def _changed(subject: Subject, old: Sequence[Node], before: Graph, new: Sequence[Node], after: Graph) -> list[Node]:
    """Nodes of ``old`` whose partner in ``new`` has a value that rounding does not explain."""
    first, first_errors = _values(subject, before, old)
    second, second_errors = _values(subject, after, new)
    pairs = zip(old, new, strict=True)
    return [a for a, b in pairs if _differs(first[a], second[b], first_errors[a] + second_errors[b])]


def _values(subject: Subject, graph: Graph, nodes: Sequence[Node]) -> tuple[dict[Node, Array], dict[Node, Array]]:
    return running_errors(nodes, dict(zip(graph.inputs, subject.arrays, strict=True)))


def _differs(a: Array, b: Array, allowed: Array) -> bool:
    """A finite value became another one; what was not finite may become finite (that is what stabilising is for)."""
    if a.shape != b.shape:
        return True
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        inside = (np.abs(x - y) <= allowed) | ~np.isfinite(x)
    return not bool(np.all(inside))
