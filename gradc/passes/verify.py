"""Check that a graph obeys its own rules."""

from __future__ import annotations

from gradc.aval import Aval, Results
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import Loop, bodies
from gradc.ops.record import Kind


def verify(graph: Graph, after: str) -> None:
    """Raise CompileError, naming the pass and the node, unless every node is a registered op whose shape rule gives its
    aval, and elementwise operands have the result's shape."""
    for i, node in enumerate(graph.nodes):
        problem = _problem(node) or _body_problem(node)
        for body in bodies(node).values():
            verify(body, after)
        if problem:
            raise CompileError(f"invalid graph after {after}: %{i} = {node.op.name} ({node.where}): {problem}")


def _problem(node: Node) -> str | None:
    if OPS.get(node.op.name) is not node.op:
        return "the op is not registered"
    if node.op.name in ("input", "constant"):
        return None
    expected = node.op.infer(*[a.aval for a in node.args], **node.attrs)
    if not _same(expected, node.aval):
        return f"aval is {node.aval}, its shape rule says {expected}"
    if node.op.kind is Kind.ELEMENTWISE:
        wrong = [str(a.aval) for a in node.args if a.shape != node.shape]
        if wrong:
            return f"operands {', '.join(wrong)} do not have the shape {node.shape}"
    return None


def _same(a: Aval, b: Aval) -> bool:
    if isinstance(a, Results) and isinstance(b, Results):
        return len(a.parts) == len(b.parts) and all(map(_same, a.parts, b.parts))
    return (a.shape, a.dtype) == (b.shape, b.dtype)


def _body_problem(node: Node) -> str | None:
    """A body reads its own inputs alone, and they are what the operands are."""
    if not bodies(node):
        return None
    for name, body in bodies(node).items():
        if body.free:
            return f"its {name} reads a leaf that is no input of it"
        given = _given(node, name)
        if len(given) != len(body.inputs) or not all(_same(a, x.aval) for a, x in zip(given, body.inputs, strict=True)):
            return f"its {name} takes {', '.join(str(x.aval) for x in body.inputs)}, given {', '.join(map(str, given))}"
    if node.op.kind is Kind.LOOP:
        loop = Loop.of(node)
        if not all(_same(x.aval, y.aval) for x, y in zip(loop.inner_carries, loop.next_carries, strict=True)):
            return "a carry changes its shape or dtype"
    return None


def _given(node: Node, name: str) -> list[Aval]:
    if node.op.kind is not Kind.LOOP:
        return [a.aval for a in node.args[node.op.kind is Kind.BRANCH :]]
    loop = Loop.of(node)
    rows = [Aval(x.shape[1:], x.dtype) for x in loop.xs] if name == "body" else []
    return [*(x.aval for x in (*loop.consts, *loop.carries)), *rows]
