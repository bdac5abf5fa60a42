"""A bound on the scratch memory of a training step, and the graph that keeps it.

Enters: a lowered graph and a `Budget`.  Leaves: the graph of the same function that computes as little again as the
budget asks for (`gradc.passes.rematerialise`), chosen by the memory that the schedule of each really takes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import here

_UNITS = {"": 1, "B": 1}
_UNITS |= {unit + ending: 2**power for power, unit in ((10, "K"), (20, "M"), (30, "G")) for ending in ("", "iB")}
_UNITS |= {unit: 10**power for power, unit in ((3, "KB"), (6, "MB"), (9, "GB"))}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Budget:
    """At most ``bytes`` of scratch; result number ``result``, which is the flat output ``turn``, is the loss, which
    ends the forward pass.
    """

    bytes: int
    result: int
    turn: int = -1

    @classmethod
    def of(cls, given: Any, result: int, whose: str) -> Budget:
        """From a number of bytes or words such as "12MB" or "64 KiB"; TypeError and ValueError for anything else."""
        if isinstance(given, bool) or not isinstance(given, int | np.integer | str):
            raise TypeError(f"{here()}: {whose}: memory={given!r:.60}: expected bytes, or words such as '12MB'")
        if not isinstance(given, str):
            size = float(given)
        else:
            match = _SIZE.fullmatch(given)
            unit = _UNITS.get(match[2].upper().replace("I", "i")) if match else None
            if match is None or unit is None:
                known = ", ".join(u for u in _UNITS if u)
                raise ValueError(f"{here()}: {whose}: memory={given!r:.60}: expected a number with one of {known}")
            size = float(match[1]) * unit
        if size < 1:
            raise ValueError(f"{here()}: {whose}: memory={given!r:.60}: expected at least one byte")
        return cls(int(size), result)


def fitted(graph: Graph, budget: Budget, arena_of: Callable[[Graph, int], int]) -> Graph:
    """The first of the graphs that compute more and more again whose scratch the budget allows, with a note of it.

    ``arena_of(graph, enough)`` is the scratch of a graph, or something above ``enough`` where it is more than that.
    Raises CompileError if none is small enough: it names the least.
    """
    from gradc.passes.rematerialise import rematerialised  # and networkx: for who asks
    from gradc.passes.rules import noted

    tried: list[tuple[int, Graph]] = []
    for choice in rematerialised(graph, graph.outputs[budget.turn]):
        arena = arena_of(choice.graph, budget.bytes)
        if arena <= budget.bytes:
            scratch = f"{shown(arena)} of scratch, {shown(budget.bytes)} allowed"
            if tried:
                whole = shown(arena_of(graph, sys.maxsize))
                scratch = f"at most {shown(choice.kept)} wait for the backward pass; {scratch}, instead of {whole}"
            return noted(choice.graph, (f"memory: {choice.how}; {scratch}",))
        tried.append((arena, choice.graph))
    least, whole = (shown(arena_of(g, sys.maxsize)) for g in (min(tried, key=lambda t: t[0])[1], graph))
    raise CompileError(
        f"{here()}: {graph.title}: memory={shown(budget.bytes)} is too little: the least scratch that was found is "
        f"{least}, with parts of the forward pass computed again, and {whole} with none.\n"
        "  Allow more, or take smaller batches and accumulate their gradients (gc.optim.MultiSteps)."
    )


def shown(size: int) -> str:
    """Bytes in words."""
    for unit in ("GB", "MB", "KB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.3g} {unit}"
    return f"{size} bytes"
