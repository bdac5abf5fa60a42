"""The same graph in float64: what witnesses evaluate, whatever the model's dtype.

Invariant: widening changes dtypes only; node k of the widened graph is node k of the original.  A body with a rule for
its derivative is traced again where it can be, as the rule is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradc.aval import Aval, Results, is_float
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import bodies, every_body
from gradc.ops.custom import BodyRule
from gradc.ops.record import Kind

WIDE = np.dtype(np.float64)


def widen(graph: Graph) -> Graph:
    """The graph with float64 in place of every narrower float, node for node; itself if there is none."""
    return graph if is_wide(graph) else _widened_graph(graph, {})


def _widened_graph(graph: Graph, done: dict[Graph, Graph]) -> Graph:
    """``graph`` widened, and each body in it once."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        held = {k: _widened_body(v, done, node.attrs.get("rule")) for k, v in bodies(node).items()}
        new[node] = _widened(node, tuple(new[a] for a in node.args), held)
    names = {new[n]: name for n, name in graph.names.items() if n in new}
    return graph.replace(
        inputs=tuple(new[n] for n in graph.inputs), outputs=tuple(new[n] for n in graph.outputs), names=names
    )


def _widened_body(body: Graph, done: dict[Graph, Graph], rule: Any) -> Graph:
    if body not in done:
        own = isinstance(rule, BodyRule)
        done[body] = rule.widened_body(body, widen) if own else _widened_graph(body, done)
    return done[body]


def is_wide(graph: Graph) -> bool:
    """Whether every float of the graph, those in bodies included, is a float64."""
    return all(_wide_aval(node.aval) == node.aval for body in every_body(graph) for node in body.nodes)


def _widened(node: Node, args: tuple[Node, ...], held: Mapping[str, Graph]) -> Node:
    aval = _wide_aval(node.aval)
    attrs: dict[str, Any] = {**{k: _with_rule(v) for k, v in node.attrs.items()}, **held}
    if "dtype" in attrs and node.aval.is_float:
        attrs["dtype"] = aval.dtype
    if node.op.kind is Kind.CONSTANT:
        attrs["value"] = widen_array(node.attrs["value"])
    if node.op.kind is Kind.INPUT:
        attrs["aval"] = aval
    return Node(node.op, args, attrs, aval, node.where, None, node.replica)


def _with_rule(value: Any) -> Any:
    """An attribute; of a rule for the derivative of a body, the rule widened."""
    return value.widened(widen) if isinstance(value, BodyRule) else value


def _wide_aval(aval: Aval) -> Aval:
    if isinstance(aval, Results):
        return Results.of([_wide_aval(part) for part in aval.parts])
    return Aval(aval.shape, WIDE if aval.is_float else aval.dtype, aval.weak)


def widen_array(value: Any) -> np.ndarray[Any, Any]:
    """Floats as float64, everything else as it is."""
    array = np.asarray(value)
    return array.astype(WIDE) if is_float(array.dtype) else array
