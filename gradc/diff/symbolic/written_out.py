"""Graphs whose only bodies are those of loops: what symbolic mode differentiates.

Enters: outputs.  Leaves: the same outputs with branches as selections, and calls as what their body computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.errors import TraceError
from gradc.graph import Graph, rewrite
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import (
    MOST_WRITTEN,
    Loop,
    bodies,
    by_results,
    every_body,
    is_function,
    selected,
    written_size,
)
from gradc.ops.record import Kind


class NotWrittenError(TraceError):
    """What symbolic mode does not write out: no wrong derivative, only none by this method."""


class TooLongError(NotWrittenError):
    """Because it would be too long."""


class NoDefinitionError(NotWrittenError):
    """Because an op, or its derivative, is no formula of its operands that ops can write: an eigenvalue, an integral
    without a closed form, a function that SymPy names and gradc does not have."""


def written_out(outputs: Sequence[Node], keep: Sequence[Node]) -> list[Node]:
    """``outputs`` with no bodies left but those of loops; nodes in ``keep`` stay what they are.

    Raises TooLongError for a loop whose most steps nothing says, and for functions that call each other so often that
    more than `MOST_WRITTEN` nodes would come of it.
    """
    refuse_to_write(Graph(tuple(keep), tuple(outputs)), "symbolic mode", "Use method='reverse' or 'forward'.")
    stop = {x: x for x in keep}
    found = list(outputs)
    while any(node.op.kind in (Kind.BRANCH, Kind.CALL) for node in topological(found, stop)):
        found = rewrite(found, by_results(_results), stop)
    for node in topological(found, stop):
        if node.op.kind is Kind.LOOP and Loop.of(node).length is None:
            raise TooLongError(
                f"{node.where}: symbolic mode stacks what a loop carries, and nothing but its condition says how often "
                "this one runs.\n  Give while_loop max_steps=, or use method='forward'."
            )
    return found


def refuse_to_write(graph: Graph, who: str, remedy: str) -> None:
    """TooLongError where writing out the functions that ``graph`` calls makes too many nodes for ``who``."""
    size = written_size(graph)
    if size > MOST_WRITTEN:
        called = next(n for body in every_body(graph) for n in body.nodes if is_function(n))
        raise TooLongError(
            f"{called.where}: {who} writes out what each call of a function computes, up to {MOST_WRITTEN:,} nodes; "
            f"here there would be {size:,}.\n  {remedy}"
        )


def _results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
    held = bodies(node)
    if node.op.kind is Kind.BRANCH:
        which, *operands = args
        return selected(which, held["body"].inlined(operands), held["otherwise"].inlined(operands))
    if node.op.kind is Kind.CALL:
        return held["body"].inlined(args)
    return None
