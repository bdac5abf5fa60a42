"""Values with error bounds that say something: the worst case where it does, the spread of random rounding elsewhere.

Enters: nodes, values of the leaves.  Leaves: their values and error bounds, and which of the two analyses made them.
The worst case (`gradc.oracle.rounding`) is a proof, to first order.  It is asked where it is cheap and likely to say
something: of code without loops and of at most `LONGEST` operations; where it says nothing after all (a bound above
`gradc.oracle.compare.VAGUE` of the values), and for all else, random rounding is (`gradc.oracle.sampled`).  A whole
number that the worst case says rounding can change has no bound, nor what reads it and has none there: no run shows
that it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import bodies, every_node, is_function, written_size
from gradc.ops.record import Kind
from gradc.oracle.compare import VAGUE
from gradc.oracle.rounding import running_errors
from gradc.oracle.sampled import sampled_errors

Array = np.ndarray[Any, Any]
Known = Mapping[Node, Array]

#: operations one after another, in a row of which worst cases multiply up to nothing
LONGEST = 400


@dataclass(frozen=True, slots=True)
class Bounded:
    """Values and error bounds of nodes; ``sampled``: the bounds are estimates by random rounding."""

    values: Mapping[Node, Array]
    errors: Mapping[Node, Array]
    sampled: bool


def bounded(outputs: Sequence[Node], values: Known, errors: Known | None = None) -> Bounded:
    """``outputs`` from values of leaves or inner nodes, which are off by ``errors``."""
    if is_long(outputs, values):
        return Bounded(*sampled_errors(outputs, values, errors), True)
    found = Bounded(*running_errors(outputs, values, errors), False)
    if all(_says_something(found.values[y], found.errors[y]) for y in outputs):
        return found
    sampled = Bounded(*sampled_errors(outputs, values, errors), True)
    chosen = _chosen(outputs, values, found.errors)
    kept = {y: found.errors[y] for y in outputs if not y.aval.is_float}  # that no run chooses otherwise proves nothing
    kept |= {y: np.where(np.isinf(found.errors[y]), np.inf, sampled.errors[y]) for y in chosen.intersection(outputs)}
    return Bounded(sampled.values, {**sampled.errors, **kept}, True)


def _chosen(outputs: Sequence[Node], values: Known, errors: Known) -> set[Node]:
    """The nodes that read a whole number which rounding can change, or are one."""
    found: set[Node] = set()
    for node in topological(outputs, values):
        whole = node in errors and not node.aval.is_float and node.dtype != bool and bool(np.any(errors[node] > 0))
        if whole or any(a in found for a in node.args):
            found.add(node)
    return found


def is_long(outputs: Sequence[Node], values: Known) -> bool:
    """Whether worst cases are not asked: for there is a loop, or there are very many operations."""
    nodes = topological(outputs, values)
    written = len(nodes) + sum(written_size(n.attrs["body"]) for n in nodes if is_function(n))
    return written > LONGEST or any(map(loops, nodes))


def loops(node: Node) -> bool:
    """Whether a loop stands here, or in a body that this node holds."""
    return node.op.kind is Kind.LOOP or any(
        inner.op.kind is Kind.LOOP for body in bodies(node).values() for inner in every_node(body)
    )


def _says_something(value: Array, error: Array) -> bool:
    """Whether the bound is small beside the values; where no bound is finite, no analysis finds one."""
    with np.errstate(all="ignore"):
        known = np.isfinite(value)
        size = np.max(np.abs(value), initial=0.0, where=known) if value.dtype != bool else 1.0
        return bool(np.all((error <= VAGUE * size) | ~known))
