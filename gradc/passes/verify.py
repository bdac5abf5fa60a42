"""Check that a graph obeys its own rules."""

from __future__ import annotations

from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.record import Kind


def verify(graph: Graph, after: str) -> None:
    """Raise CompileError, naming the pass and the node, unless every node is a registered op whose shape rule gives its
    aval, and elementwise operands have the result's shape."""
    for i, node in enumerate(graph.nodes):
        problem = _problem(node)
        if problem:
            raise CompileError(f"invalid graph after {after}: %{i} = {node.op.name} ({node.where}): {problem}")


def _problem(node: Node) -> str | None:
    if OPS.get(node.op.name) is not node.op:
        return "the op is not registered"
    if node.op.name in ("input", "constant"):
        return None
    expected = node.op.infer(*[a.aval for a in node.args], **node.attrs)
    if (expected.shape, expected.dtype) != (node.shape, node.dtype):
        return f"aval is {node.aval}, its shape rule says {expected}"
    if node.op.kind is Kind.ELEMENTWISE:
        wrong = [str(a.aval) for a in node.args if a.shape != node.shape]
        if wrong:
            return f"operands {', '.join(wrong)} do not have the shape {node.shape}"
    return None
