"""Programs and their derivatives as machine code, many in one module.

Enters: graphs with arguments.  Leaves: what compiled code gives for each.
A module is compiled in one `Manner`: LLVM's level, the threads that share its work, arguments that results are written
into.  Start reading at `native_results`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from unittest import mock

import numpy as np

from gradc.api.executable import Executable
from gradc.containers import flatten
from gradc.graph import Graph
from gradc.machines import cpu
from gradc.machines.options import Options
from gradc.runtime.load import load
from gradc.schedule import split
from tests.fuzz.language import Array


@dataclass(frozen=True)
class Manner:
    """How a module is compiled."""

    level: int = 2  #: LLVM's level of code generation
    threads: int = 1  #: with two, work is shared however small it is
    donated: bool = False  #: results go into arguments of the same shape and dtype


DEFAULT = Manner()
QUICK = Manner(level=0)
#: the manners of modules, in turn: LLVM costs less than half at its lowest level, and what gradc does is the same
MANNERS = (
    QUICK, QUICK, DEFAULT, QUICK, Manner(0, threads=2), QUICK, QUICK, Manner(0, donated=True), QUICK,
    Manner(2, threads=2, donated=True),
)  # fmt: skip
#: every fork pays, and pieces are as small as they can be
_SHARED = {"FORK_SECONDS": 0.0, "THREAD_SECONDS": 1e-12, "PIECE_SECONDS": 1e-12, "LANE_GRAIN": 1}


@dataclass(frozen=True)
class Native:
    """A graph to compile, its arguments, what the interpreter gives, and how far each result may be from that."""

    graph: Graph
    args: Sequence[Array]
    want: Sequence[Array]
    bounds: Callable[[], Sequence[Array]]
    values: int  #: so many first results are the program's own; the others are derivatives


def native_results(asked: Sequence[Native], manner: Manner) -> list[list[Array]]:
    """The graphs compiled as one module and called."""
    inputs = tuple(x for a in asked for x in a.graph.inputs)
    outputs = tuple(y for a in asked for y in a.graph.outputs)
    in_tree, out_tree = (flatten(t)[2] for t in ((tuple(0.0 for _ in inputs), {}), tuple(0.0 for _ in outputs)))
    whole = Graph(inputs, outputs, in_tree=in_tree, out_tree=out_tree)
    donate = donations(asked) if manner.donated else {}
    with contextlib.ExitStack() as held:
        held.enter_context(mock.patch.object(
            cpu, "load", partial(load, opt_level=manner.level, use_cache=False)))  # fmt: skip
        if manner.threads > 1:
            held.enter_context(mock.patch.multiple(split, **_SHARED))
        options = Options(recall=False, threads=manner.threads, donate=donate)
        native = Executable(whole, options).native
    flat = [a for n in asked for a in n.args]
    results = iter(native(*(np.array(a, order="C") if i in donate else a for i, a in enumerate(flat))))
    return [[np.asarray(next(results)) for _ in a.graph.outputs] for a in asked]


def donations(asked: Sequence[Native]) -> dict[int, int]:
    """Each argument with the first result of its program that fits it and is taken by no other: argument -> result."""
    found: dict[int, int] = {}
    first_input = first_output = 0
    for native in asked:
        free = dict(enumerate(native.graph.outputs))
        for i, x in enumerate(native.graph.inputs):
            fits = (j for j, y in free.items() if (y.shape, y.dtype) == (x.shape, x.dtype))
            if (j := next(fits, None)) is not None:
                del free[j]
                found[first_input + i] = first_output + j
        first_input += len(native.graph.inputs)
        first_output += len(native.graph.outputs)
    return found
