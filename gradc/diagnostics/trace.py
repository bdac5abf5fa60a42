"""`trace_nans`: where the first NaN, infinity, subnormal or underflowed number came from, after the fact.

Enters: a function and arguments.  Leaves: a `Fault`, or None.  Start reading at `trace_nans`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gradc.api.compiled import Jitted
from gradc.api.executable import Executable
from gradc.containers import leaves_of
from gradc.diagnostics.compiled import first_fault
from gradc.diagnostics.fault import Fault
from gradc.diagnostics.kinds import KINDS
from gradc.graph import fit_argument
from gradc.machines.calling import flat_leaves
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import here
from gradc.trace import trace


def trace_nans(f: Callable[..., Any], *args: Any, kinds: str | Sequence[str] = "nan", **kwargs: Any) -> Fault | None:
    """Where the first NaN that reaches a result of ``f(*args, **kwargs)`` was made, and of what; None if none does.

    ``f`` is a function, or what `gradc.jit`, `gradc.compile` or `gradc.train_step` made of one.  What is looked at is
    the graph as it is compiled, so the node is the one that ``check_nans`` names.  Nothing is compiled or donated.

    ``kinds``: "nan" (default), "overflow" (an infinity), "denormal" (a subnormal number), "underflow" (a value of an
    elementwise op that is 0, or has lost digits, because its exact value is smaller than the least normal number of its
    dtype: found whether it reaches a result or not), or several of them, looked for one after another.

    A number that reaches no result is no fault: the side of a ``where`` that was not chosen, −∞ in the mask of an
    attention.  The function is interpreted with all inner values kept, so it takes their memory, and a loop is walked
    step by step.

    >>> import gradc as gc, numpy as np
    >>> gc.trace_nans(lambda x: np.log(x) * 2, np.array([1.0, -0.3])).why
    'log(-0.3) is nan: there is no such number'
    """
    wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise ValueError(f"{here()}: trace_nans: kinds={kind!r}: expected some of {', '.join(map(repr, KINDS))}")
    options = Options()
    if isinstance(f, Executable):
        graph, options, leaves = f.source_graph, f.options, flat_leaves(f.source_graph, args, kwargs)
    elif isinstance(f, Jitted):
        graph, options, leaves = f.traced(*args, **kwargs)
    else:
        graph, leaves = trace(f, *args, **kwargs), leaves_of((args, kwargs))[0]
    graph.refuse_overflow(leaves)
    arrays = [fit_argument(x, n.aval, graph.name(n)) for x, n in zip(leaves, graph.inputs, strict=True)]
    return first_fault(Stages(graph, replace(options, budget=None)), arrays, wanted)
