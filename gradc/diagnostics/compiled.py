"""The error of a compiled function whose results hold what ``check_nans=`` asks for none of.

Enters: its stages, the status word, and a function that copies the arguments of the call.  Leaves: a `NumericalError`.
Start reading at `examined`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradc.codegen.status import kind_of, number_of
from gradc.diagnostics.fault import Fault, told
from gradc.diagnostics.kinds import SEVERAL, kind_of_status
from gradc.diagnostics.origin import Origin, origins
from gradc.diagnostics.underflow import first_underflow
from gradc.errors import GradcError, NumericalError
from gradc.machines.calling import result_name
from gradc.machines.stages import Stages
from gradc.node import here
from gradc.ops.record import Kind


def examined(stages: Stages, status: int, arguments: Callable[[], list[Any]]) -> NumericalError:
    """What went wrong in a call that ended with this status."""
    graph, kind = stages.source, kind_of_status(kind_of(status))
    head = f"{here()}: {graph.title}: {result_name(graph, number_of(status))} has {SEVERAL[kind]} elements"
    if stages.options.donate:
        return NumericalError(
            f"{head}.\n  Donated arguments are overwritten by now, so nobody can say where it began: compile without "
            "donate, or keep a copy of the arguments and call gc.trace_nans(f, *copy)"
        )
    try:
        fault = first_fault(stages, arguments(), (kind,))
    except GradcError as error:
        return NumericalError(f"{head}.\n  Looking for where it began failed: {error}")
    if fault is None:
        return NumericalError(
            f"{head}, and the interpreter's results for the same arguments do not: the compiled code rounds otherwise "
            "at the edge of the range.\n  verify='first' compares both within their error bounds"
        )
    return NumericalError(f"{head}.\n{fault}", fault)


def first_fault(stages: Stages, arrays: Sequence[Any], kinds: Sequence[str]) -> Fault | None:
    """The first fault of the first of ``kinds`` that there is, in the graph as it is compiled.

    A constant may be a pass's own: √p² became p where p is no number below zero, NaN there.  Then the graph as traced
    has the node that says why; a constant of the user is one in both.
    """
    graph = stages.lowered
    for kind in kinds:
        if kind == "underflow":
            origin = first_underflow(graph, arrays)
        else:
            origin = next(iter(origins(graph, arrays, kind)), None)
        if origin is None:
            continue
        if _is_given(origin) and kind != "underflow":
            traced = next(iter(origins(stages.source, arrays, kind)), None)
            if traced is not None and not _is_given(traced):
                return told(traced, stages.source, arrays)
        return told(origin, graph, arrays)
    return None


def _is_given(origin: Origin) -> bool:
    """Whether the number is a constant, or was chosen among constants by a condition."""
    return origin.node.op.kind is Kind.CONSTANT or origin.node.op.chooses
