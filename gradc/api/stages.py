"""The road from a traced graph to the text of its code, each stretch walked when somebody first asks, and timed.

Enters: a Graph and options.  Leaves: what each stage makes.  Start reading at `Stages`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from gradc.api.artefact import locations
from gradc.api.options import Options
from gradc.codegen.debug import Locations
from gradc.codegen.emit import arena_bytes, emit
from gradc.codegen.target import Target
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import here
from gradc.passes import PIPELINE, lowering, run_passes
from gradc.process import cached_property
from gradc.schedule import Schedule, schedule
from gradc.schedule.lanes import Widths
from gradc.schedule.verify import verify

#: symbol of the compiled function in its module
SYMBOL = "gradc_step"

T = TypeVar("T")


class Stages:
    """One compilation; ``seconds`` per stage that was walked.  A ``gpu`` goes on from the schedule by its own road."""

    def __init__(self, graph: Graph, options: Options, gpu: Widths | None = None):
        self.source, self.options, self.gpu = graph, options, gpu
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """The result of ``work``, whose seconds are noted."""
        start = perf_counter()
        result = work()
        self.seconds[stage] = perf_counter() - start
        return result

    @cached_property
    def target(self) -> Target:
        if self.options.cpu is None:
            return Target.host()
        try:
            return Target.level(self.options.cpu)
        except CompileError as error:
            raise CompileError(f"{here()}: {error}") from None

    @cached_property
    def optimised(self) -> Graph:
        o = self.options
        return self.timed("optimise", lambda: run_passes(self.source, PIPELINE, o.observe, o.check))

    @cached_property
    def lowered(self) -> Graph:
        graph, o = self.optimised, self.options
        return self.timed("lower", lambda: run_passes(graph, lowering(graph), o.observe, o.check))

    @cached_property
    def schedule(self) -> Schedule:
        graph, o = self.lowered, self.options
        target, threads = (self.target, o.threads) if self.gpu is None else (self.gpu, 1)
        plan = self.timed("schedule", lambda: schedule(graph, donated=o.donate, target=target, threads=threads))
        if o.check:
            self.timed("verify", lambda: verify(plan, graph))
        return plan

    @cached_property
    def arena_bytes(self) -> int:
        return arena_bytes(self.schedule, self.target)

    @cached_property
    def locations(self) -> Locations | None:
        """Where code comes from, if the options ask for it; complete once `text` is there."""
        return locations(self.schedule, self.lowered) if self.options.debug else None

    @cached_property
    def text(self) -> str:
        """The LLVM IR."""
        plan, where = self.schedule, self.locations
        fp, checks = self.options.fp, self.options.debug == "bounds"
        return self.timed(
            "emit", lambda: str(emit(plan, self.target, SYMBOL, fp, where, polls=True, check_bounds=checks))
        )
