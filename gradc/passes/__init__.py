"""Graph -> Graph rewrites and the one literal pipeline that runs them.

Enters: a Graph.  Leaves: a Graph with the same inputs and the same meaning.  A pass is a plain function whose docstring
is its contract; `PIPELINE` names them in order; `observe(name, before, after)` is the only hook (printing, timing,
golden tests and the oracle all use it).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import every_body
from gradc.ops.record import Kind
from gradc.passes.accumulate import accumulate, is_narrow_sum
from gradc.passes.cse import cse
from gradc.passes.dce import dce
from gradc.passes.evenness import away_from_kinks, drop_even_parts, even_parts
from gradc.passes.expand import asks, asks_all, expand, expand_all
from gradc.passes.fold import fold
from gradc.passes.hoist import hoist
from gradc.passes.inline import inline, inline_once, inline_to_read, looked_into, write_out
from gradc.passes.inside import Pass, apply
from gradc.passes.join import join
from gradc.passes.join_calls import join_calls
from gradc.passes.prune import prune
from gradc.passes.quotients import quotients
from gradc.passes.share import share
from gradc.passes.simplify import failures_unsaid, simplify, simplify_once, simplify_to_read
from gradc.passes.stabilise import stabilise
from gradc.passes.together import sharing, together
from gradc.passes.unfold import unfold
from gradc.passes.verify import verify

Observe = Callable[[str, Graph, Graph], None]

#: before a derivative is taken: a derivative of the stable form, not a stable form of the derivative
FORWARD: tuple[Pass, ...] = (inline_once, fold, simplify, cse, stabilise, cse, hoist, prune)
#: the same, for a reader, who sees one product where a graph may have it and its transpose
FORWARD_TO_READ: tuple[Pass, ...] = tuple(simplify_once if p is simplify else p for p in FORWARD)
#: the same, for whoever may take the derivative of a derivative
SMOOTH: tuple[Pass, ...] = (*FORWARD, even_parts, cse)
#: what makes a graph smaller and more stable, in order
PIPELINE: tuple[Pass, ...] = (
    inline, drop_even_parts, fold, simplify, cse, stabilise, simplify, cse, join, cse, join, join_calls, inline_once,
    hoist, prune, cse, quotients, dce,
)  # fmt: skip
#: before a linear map is applied to the identity: equal residuals become one node
LINEAR: tuple[Pass, ...] = (fold, simplify, cse)
#: what compilation adds where `lowering` finds a use for it: sums of narrow floats are taken in float32, ops that are
#: written in other ops become those, folds become what gathers their terms, softmax shares its exponentials, products
#: of one large operand are one product
LOWERING: tuple[Pass, ...] = (accumulate, expand, unfold, fold, simplify, cse, share, together, hoist, prune, dce)

#: every pass of these, by name
PASSES: Mapping[str, Pass] = {step.__name__: step for step in (*SMOOTH, *PIPELINE, *LINEAR, *LOWERING, expand_all)}


def run_passes(
    graph: Graph, passes: Sequence[Pass], observe: Observe | None = None, check: bool | None = None
) -> Graph:
    """Run ``passes`` in order; with ``check`` (None: if GRADC_CHECK is 1) the graph is verified before the first and
    after each.

    A pass has nothing to do on the graph that it left itself, and is not run there again.
    """
    if check is None:
        check = os.environ.get("GRADC_CHECK") == "1"
    known: set[Node] = set()
    if check:
        verify(graph, "input", known)
    left: dict[Pass, Graph] = {}
    for step in passes:
        before = graph
        if left.get(step) is not graph:
            graph = left[step] = apply(step, graph)
        if check:
            verify(graph, step.__name__, known)
        if observe is not None:
            observe(step.__name__, before, graph)
    return graph


def lowering(graph: Graph, algorithms: bool = True) -> tuple[Pass, ...]:
    """`LOWERING`, or nothing where no node asks for it; for a machine that knows no ``algorithms`` of whole matrices,
    with those written in other ops wherever their records say how.
    """
    wanted = asks if algorithms else asks_all
    if not any(_asked(body, wanted) for body in every_body(graph)):
        return ()
    return LOWERING if algorithms else tuple(expand_all if step is expand else step for step in LOWERING)


def _asked(graph: Graph, wanted: Callable[[Node], bool]) -> bool:
    asking = (wanted(node) or _unfolds(node) or is_narrow_sum(node) for node in graph.nodes)
    return any(asking) or sharing(graph)


def _unfolds(node: Node) -> bool:
    """Whether `unfold` has something to do: not with operands that lie in boxes."""
    return node.op.kind is Kind.FOLD and node.op.boxes is None


__all__ = [
    "FORWARD", "FORWARD_TO_READ",
    "LINEAR", "LOWERING", "PASSES", "PIPELINE", "SMOOTH", "Observe", "Pass", "accumulate", "apply",
    "away_from_kinks", "cse", "dce", "drop_even_parts", "even_parts", "expand", "expand_all", "failures_unsaid",
    "fold", "hoist", "inline", "inline_once", "inline_to_read", "join", "join_calls", "looked_into", "lowering",
    "prune", "quotients", "run_passes", "share", "simplify", "simplify_to_read", "stabilise", "together", "unfold",
    "verify", "write_out",
]  # fmt: skip
