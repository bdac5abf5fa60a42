"""Which factors stay finite: those that a mask need not protect the rest of a product from.

A value is tame if it is made of inputs by operations that are finite for finite operands, but for overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from gradc.diff.structured.terms import Factor
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.record import Kind

#: elementwise ops without poles and without fast growth
TAME = frozenset((
    "add", "subtract", "multiply", "negative", "positive", "square", "absolute", "sign", "relu", "maximum", "minimum",
    "where", "cast", "stop_gradient", "sigmoid", "tanh", "sin", "cos", "arctan", "erf", "softplus", "floor", "ceil",
    "trunc", "rint",
))  # fmt: skip
_answers: ContextVar[dict[Node, bool] | None] = ContextVar("gradc_tame", default=None)


@contextmanager
def answers_kept() -> Iterator[None]:
    """Inside, each node is asked once."""
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def is_tame(factor: Factor) -> bool:
    """Whether the factor is finite wherever the inputs are, so that zero times it is zero."""
    return factor.role == "mask" or (factor.role == "times" and _node_is_tame(factor.node))


def _node_is_tame(node: Node) -> bool:
    known = _answers.get()
    known = {} if known is None else known
    for inner in topological([node], known):
        if inner not in known:
            known[inner] = _one_is_tame(inner) and all(known[a] for a in inner.args if a.aval.is_float)
    return known[node]


def _one_is_tame(node: Node) -> bool:
    if node.op.name == "constant":
        return bool(np.all(np.isfinite(node.attrs["value"])))
    if not node.aval.is_float:
        return True
    if node.op.kind is Kind.ELEMENTWISE:
        return node.op.name in TAME
    return node.op.kind in (Kind.LEAF, Kind.VIEW, Kind.FOLD, Kind.CONTRACT, Kind.GATHER) or node.op.name in _SUMS


_SUMS = frozenset(("sum", "max", "min", "cumsum", "scatter"))
