"""Compiled code as it is scheduled for real runs: by several threads, and in the storage of its arguments.

Enters: the graph that is compiled.  Leaves: its results, the same bits for one thread and for several, in memory of
their own and in donated arguments; or what differs.  Promised is that neither changes a bit, so bits are compared, and
no bound is needed.  Start reading at `as_scheduled`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.codegen.fork import calls_fork
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.oracle.compare import Row, Verdict
from gradc.oracle.kernels import kernel_findings
from gradc.oracle.report import Finding
from gradc.runtime.threads import default_threads

Array = np.ndarray[Any, Any]
Donated = Mapping[int, int]


class Compiled:
    """gradc's own compiled code, as a function of flat arrays; compiled now, not recalled."""

    def __init__(self, stages: Stages):
        self.stages = stages
        self._function = stages.load().function

    @classmethod
    def of(cls, graph: Graph) -> Compiled:
        """``graph`` compiled for one thread, which donates nothing."""
        return cls(Stages(graph, Options(recall=False, threads=1)))

    def scheduled(self, threads: int, donate: Donated) -> Compiled:
        """The same graph, scheduled otherwise."""
        return Compiled(self.stages.rescheduled(Options(recall=False, threads=threads, donate=donate)))

    @property
    def shares(self) -> bool:
        """Whether threads share some of the work."""
        return calls_fork(self.stages.code.text)

    def __call__(self, arrays: Sequence[Any]) -> list[Array]:
        """The results; donated arrays are copies, and what is not written is not what stood there before."""
        donated = self.stages.options.donate
        given = [np.array(a) if i in donated else a for i, a in enumerate(arrays)]
        taken = set(donated.values())
        fresh = [None if j in taken else _marked(y.aval) for j, y in enumerate(self.stages.source.outputs)]
        return [np.array(r) for r in self._function(*given, out=fresh)]


def _marked(aval: Aval) -> Array:
    """Memory full of a pattern that no result has."""
    array = np.empty(aval.shape, aval.dtype)
    array.reshape(-1).view(np.uint8)[:] = 0xA5 if aval.dtype != bool else 1
    return array


@dataclass(frozen=True, slots=True)
class Scheduled:
    """How compiled code was run besides, in words, and what came out."""

    words: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def as_scheduled(call: Compiled, graph: Graph, arrays: Sequence[Array], inputs: Sequence[int]) -> Scheduled:
    """``call`` beside the same graph for several threads, with those of ``inputs`` donated whose gradients fit.

    The last results of the graph are the gradients of ``inputs``, in order.
    """
    threads = max(2, default_threads())
    first = len(graph.outputs) - len(inputs)
    donate = {i: first + k for k, i in enumerate(inputs) if _fits(graph, i, first + k)}
    right, both = call(arrays), call.scheduled(threads, donate)
    names = ", ".join(graph.names.get(graph.inputs[i], f"argument {i}") for i in donate) or "nothing"
    work = "shared" if both.shares else "with too little work to share"
    words = f"compiled code was run for one thread, and for {threads} threads ({work}) with donated inputs ({names})"
    row = _row(right, both(arrays), f"{threads} threads, donated")
    if row.ok:
        return Scheduled(words, (row,), ())
    alone = {
        f"{threads} threads": (threads, {}),
        "donated inputs": (1, donate),
        f"{threads} threads and donated inputs": (threads, donate),
    }
    for what, (count, given) in alone.items():
        other = call.scheduled(count, given)
        if not _row(right, other(arrays), what).ok:
            return Scheduled(words, (row,), _findings(other, arrays, what))
    return Scheduled(words, (row,), (Finding("plan", "threads", "?", -1, None, "other bits in one of several runs"),))


def _fits(graph: Graph, i: int, j: int) -> bool:
    """Whether result ``j`` can take the storage of input ``i``: it is computed, and no other result is the same."""
    x, y = graph.inputs[i], graph.outputs[j]
    return (
        (x.shape, x.dtype) == (y.shape, y.dtype)
        and bool(y.size)
        and bool(y.args)
        and sum(z is y for z in graph.outputs) == 1
    )


def _findings(call: Compiled, arrays: Sequence[Array], what: str) -> tuple[Finding, ...]:
    """The first kernel that is wrong in this schedule."""
    found = kernel_findings(call.stages, arrays, Compiled.of)
    if found:
        first = found[0]
        words = f"with {what}: {first.words}"
        return (Finding(first.stage, first.facet, first.op, first.node, first.where, words),)
    return (Finding("plan", "threads", "?", -1, None, f"with {what} some bits differ, within error bounds"),)


def _row(right: Sequence[Array], found: Sequence[Array], how: str) -> Row:
    """All results, bit by bit."""
    wrong = [~((a == b) & (np.signbit(a) == np.signbit(b)) | ((a != a) & (b != b))) if a.dtype != bool else a != b
             for a, b in zip(map(_wide, right), map(_wide, found), strict=True)]  # fmt: skip
    size, bad = sum(w.size for w in wrong), sum(int(np.sum(w)) for w in wrong)
    nan = sum(int(np.sum(a != a)) for a in right)
    words = "equal bit for bit" if not bad else f"DISAGREE at {bad} of {size}"
    words += f" ({nan} NaN in both)" if nan and not bad else ""
    verdict = Verdict.WRONG if bad else Verdict.EQUAL
    with np.errstate(all="ignore"):
        gap = max((float(np.max(np.abs(_wide(a) - _wide(b)), initial=0.0, where=w))
                   for a, b, w in zip(right, found, wrong, strict=True) if a.dtype != bool), default=0.0)  # fmt: skip
    return Row("= all results", f"{len(right)} arrays", ("compiled", how), gap, 0.0, 0.0, verdict, words,
               derivative=False, entries=size, settled=size - (0 if bad else nan))  # fmt: skip


def _wide(a: Array) -> Array:
    return a if a.dtype == bool or a.dtype.kind in "iu" else a.astype(np.float64)
