"""Why a gradient is zero, and which answers at singular points a derivation relies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradc.diff.linear import active_nodes, has_tangent, partials_of, passes
from gradc.explain.formula import Apply, Formula, Product, Symbol
from gradc.explain.naming import Naming
from gradc.graph import Graph
from gradc.interpret import computed_from, topological
from gradc.node import OPS, Node
from gradc.ops.record import Kind
from gradc.ops.reductions import is_below_maximum

if TYPE_CHECKING:
    from gradc.explain.derivation import Line


def why_zero(graph: Graph, wanted: Node, naming: Naming) -> str:
    """In words: the input has no tangent, reaches no result, or does so only through locally constant steps."""
    name, result = graph.names.get(wanted, "the input"), " and ".join(naming.output_names)
    if not has_tangent(wanted):
        return f"{name} is {wanted.dtype}: integers and bools have no tangent"
    order = topological(graph.outputs)
    reached = computed_from([wanted], order)
    if not any(y in reached for y in graph.outputs):
        return f"{result} does not depend on {name}"
    steps = [n for n in _blocking(graph, wanted, order) if n in reached]
    shown = ", ".join(dict.fromkeys(f"{n.op.name} ({n.where})" if n.where else n.op.name for n in steps))
    return f"{name} reaches {result} only through {shown}, locally constant"


def _blocking(graph: Graph, wanted: Node, order: Sequence[Node]) -> list[Node]:
    """The first nodes on each way that let no tangent through."""
    _, active = active_nodes(graph.outputs, [wanted])
    live: set[Node] = {wanted}
    blocked = []
    for node in order:
        if node is wanted or not any(a in live for a in node.args):
            continue
        if node in active and any(a in live and _lets_through(node, i) for i, a in enumerate(node.args)):
            live.add(node)
        else:
            blocked.append(node)
    return blocked


def _lets_through(node: Node, i: int) -> bool:
    if node.op.partials is not None:
        return partials_of(node)[i] is not None
    return passes(node.op, i)


#: ops of which nothing is said: their branches are in the formulas, and a strong product shows as a product
UNSAID = ("where", "scatter", "strong_multiply")
#: ops whose derivative is a display function of its own
SHOWS = {"max": "attains", "min": "attains", "maximum": "excess", "minimum": "excess", "absolute": "sign"}


def _calls(x: Formula) -> set[str]:
    """The functions that ``x`` is written with."""
    found, stack = set[str](), [x]
    while stack:
        part = stack.pop()
        if isinstance(part, Apply):
            found.add(part.name)
        stack += part.parts
    return found


#: operations whose value is no formula of their operands: they run, sort, select or loop
OPEN = (Kind.PREFIX, Kind.SORT, Kind.SEARCH, Kind.GATHER, Kind.SCATTER, Kind.LOOP, Kind.BRANCH, Kind.CALL)


def open_forms(lines: Sequence[Line]) -> tuple[str, ...]:
    """What has no closed form and is written as the operation itself: running, sorting and selecting by data."""
    found: dict[str, None] = {}
    stack: list[Formula] = [line.formula for line in lines if line.formula is not None]
    while stack:
        part = stack.pop()
        stack += part.parts
        op = OPS.get(part.name) if isinstance(part, Apply) else None
        if op is not None and (op.kind in OPEN or op.position):
            places = ", ".join(dict.fromkeys(map(str, part.where)))
            found.setdefault(f"{op.name} ({places})" if places else op.name)
    return tuple(sorted(found))


def worth_declaring(lines: Sequence[Line]) -> tuple[str, ...]:
    """Inputs whose rows are summed beside a softmax, as the labels of a cross-entropy are: one-hot, the sum is 1."""
    meanings = {line.name: line.formula for line in lines}

    def is_softmax(x: Formula) -> bool:
        known = meanings.get(x.name) if isinstance(x, Symbol) else x
        return isinstance(known, Apply) and known.name == "softmax"

    found: dict[str, None] = {}
    stack: list[Formula] = [line.formula for line in lines if line.formula is not None]
    while stack:
        part = stack.pop()
        stack += part.parts
        if isinstance(part, Product) and any(is_softmax(f.base) for f in part.factors):
            summed = (_summed_along_rows(f.base) for f in part.factors)
            found |= {name: None for name in summed if name}
    return tuple(found)


def _summed_along_rows(x: Formula) -> str:
    """The input of which ``x`` is the sum along the last axis; "" if it is none."""
    if not (isinstance(x, Product) and len(x.factors) == 1):
        return ""
    base, labels, exponent = x.factors[0]
    plain = isinstance(base, Symbol) and base.role == "input" and exponent == 1
    return base.name if isinstance(base, Symbol) and plain and labels and labels[-1] >= x.ndim else ""


def conventions(graph: Graph, lines: Sequence[Line]) -> tuple[str, ...]:
    """The declared derivative at singular points of every op that a displayed formula differentiates through."""
    shown = [line.formula for line in lines if line.kind != "forward" and line.formula is not None]
    places = {node.where for line in lines if line.kind != "forward" for node in line.nodes}
    calls = {name for x in shown for name in _calls(x)}
    found: dict[str, str] = {}
    for node in graph.nodes:
        name = node.op.name
        visible = SHOWS[name] in calls if name in SHOWS else node.where in places
        if name == "logsumexp" and is_below_maximum(node.args[0], **node.attrs):
            continue  # of what softmax and its kin are written in: it is NaN where its convention would hold
        if node.op.singular and name not in UNSAID and visible and has_tangent(node):
            found.setdefault(name, node.op.singular)
    return tuple(f"{name}: {text}" for name, text in found.items())
