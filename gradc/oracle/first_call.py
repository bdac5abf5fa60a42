"""The first call of a compiled function, held against the interpreter.

Enters: the stages of the function, the arguments of the call, its results.  Leaves: a sentence on what was compared, or
a `VerificationError` that names the kernel and the node that went wrong first.
Invariant: results differ only beyond the running error bounds of the graph as written and of the graph as compiled
together (`gradc.oracle.bounds`); where no bound can be stated, nothing is claimed.  Start reading at `compared`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.errors import VerificationError
from gradc.graph import Graph
from gradc.machines.stages import Stages
from gradc.oracle.bounds import bounded
from gradc.oracle.kernels import kernel_findings
from gradc.oracle.scheduled import Compiled

Array = np.ndarray[Any, Any]


def compared(stages: Stages, arrays: Sequence[Array], results: Sequence[Array]) -> str:
    """What the comparison of ``results``, those of the function that ``stages`` made, with the interpreter's values for
    ``arrays`` says.
    """
    graph, lowered = stages.source, stages.lowered
    known = bounded(graph.outputs, dict(zip(graph.inputs, arrays, strict=True)))
    other = bounded(lowered.outputs, dict(zip(lowered.inputs, arrays, strict=True)))
    nan, unbounded = 0, 0
    for j, (node, partner, result) in enumerate(zip(graph.outputs, lowered.outputs, results, strict=True)):
        expected, found = known.values[node], np.asarray(result).astype(np.float64).reshape(node.shape)
        bound = known.errors[node] + other.errors[partner]
        with np.errstate(all="ignore"):
            same = (found == expected.astype(node.dtype).astype(np.float64)) | (found == expected)
            both = np.isnan(found) & np.isnan(expected)
            inside = np.abs(found - expected.astype(np.float64)) <= bound
        wrong = ~(same | both | inside | ~np.isfinite(bound))
        if np.any(wrong):
            first = kernel_findings(stages, arrays, Compiled.of)
            blame = f"the first wrong is {first[0]}" if first else "every kernel is right: the call itself is wrong"
            raise VerificationError(f"{_words(graph, j, wrong, found, expected, bound)}\n  {blame}")
        nan += int(np.sum(both))
        unbounded += int(np.sum(~np.isfinite(bound) & ~same & ~both))
    said = [f"{len(results)} results within their error bounds of the interpreter's"]
    said += [f"{nan} elements NaN in both"] if nan else []
    said += [f"{unbounded} elements without a bound, not compared"] if unbounded else []
    return "; ".join(said)


def _words(graph: Graph, j: int, wrong: Any, found: Array, expected: Array, bound: Array) -> str:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    node = graph.outputs[j]
    at = f"output {j}" + (f"{list(place)}" if place else "")
    count = f"{int(np.sum(wrong))} of {node.size} elements differ"
    return (
        f"{node.where}: {graph.title}: the first compiled call gives {found[place]} for {at}, the interpreter "
        f"{expected[place]}; they may differ by {bound[place]:.2g} ({count} by more)"
    )
