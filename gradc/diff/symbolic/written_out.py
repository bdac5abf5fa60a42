"""Graphs without bodies: what symbolic mode differentiates.

Enters: outputs.  Leaves: the same outputs with short loops written out step by step, branches as selections, and calls
as what their body computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.errors import TraceError
from gradc.graph import Graph, rewrite
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import (
    MOST_UNROLLED,
    MOST_WRITTEN,
    Loop,
    bodies,
    by_results,
    every_body,
    is_function,
    selected,
    unrolled,
    written_size,
)
from gradc.ops.record import HOLDERS, Kind


class TooLongError(TraceError):
    """What symbolic mode does not write out: no wrong derivative, only none by this method."""


def written_out(outputs: Sequence[Node], keep: Sequence[Node]) -> list[Node]:
    """``outputs`` with no bodies left; nodes in ``keep`` stay what they are.

    Raises TooLongError for a loop of more than `MOST_UNROLLED` steps, or of a number that nothing says, and for
    functions that call each other so often that more than `MOST_WRITTEN` nodes would come of it.
    """
    refuse_to_write(Graph(tuple(keep), tuple(outputs)), "symbolic mode", "Use method='reverse' or 'forward'.")
    stop = {x: x for x in keep}
    found = list(outputs)
    while any(node.op.kind in HOLDERS for node in topological(found, stop)):
        found = rewrite(found, by_results(_results), stop)
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


def _results(node: Node, args: tuple[Node, ...]) -> Sequence[Node]:
    held = bodies(node)
    if node.op.kind is Kind.BRANCH:
        which, *operands = args
        return selected(which, held["body"].inlined(operands), held["otherwise"].inlined(operands))
    if node.op.kind is Kind.CALL:
        return held["body"].inlined(args)
    loop = Loop.of(node.rebuilt(args))
    if loop.steps is None or loop.steps > MOST_UNROLLED:
        many = "a number of steps that its condition decides" if loop.steps is None else f"{loop.steps} steps"
        raise TooLongError(
            f"{node.where}: symbolic mode writes loops out, up to {MOST_UNROLLED} steps; this loop has {many}.\n"
            "  Use method='reverse' or 'forward'."
        )
    return unrolled(loop)
