"""Check that a graph obeys its own rules."""

from __future__ import annotations

from gradc.aval import Aval, Results
from gradc.errors import CompileError, DTypeError, ShapeError
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import bodies, every_body
from gradc.ops.record import Kind


def verify(graph: Graph, after: str, known: set[Node] | None = None) -> None:
    """Raise CompileError, naming the pass and the node, unless every node is a registered op whose shape rule, which
    checks its operands, gives its aval, and no body reads what is not its own.

    Nodes do not change: those in ``known`` were verified before and are not looked at again; it receives the others.
    """
    known = set() if known is None else known
    for current in reversed(every_body(graph)):
        for i, node in enumerate(current.nodes):
            if node in known:
                continue
            problem = _problem(node)
            for name, body in bodies(node).items():
                if body.free:
                    problem = problem or f"its {name} reads a leaf that is no input of it"
            if problem:
                raise CompileError(f"invalid graph after {after}: %{i} = {node.op.name} ({node.where}): {problem}")
            known.add(node)


def _problem(node: Node) -> str | None:
    if OPS.get(node.op.name) is not node.op:
        return "the op is not registered"
    if node.op.kind in (Kind.INPUT, Kind.CONSTANT):
        return None
    try:
        expected = node.op.result_of([a.aval for a in node.args], node.attrs)
    except (ShapeError, DTypeError) as error:
        return str(error)
    return None if _same(expected, node.aval) else f"aval is {node.aval}, its shape rule says {expected}"


def _same(a: Aval, b: Aval) -> bool:
    if isinstance(a, Results) and isinstance(b, Results):
        return len(a.parts) == len(b.parts) and all(map(_same, a.parts, b.parts))
    return (a.shape, a.dtype) == (b.shape, b.dtype)
