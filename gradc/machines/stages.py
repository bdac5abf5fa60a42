"""One graph on its road to code, each stage walked when somebody first asks for it, and timed.

Enters: a traced Graph, options, and a machine.  Leaves: what each stage makes.  Start reading at `Stages`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from gradc.codegen.debug import Locations
from gradc.errors import CompileError, NoCodeError
from gradc.graph import Graph
from gradc.machines.budget import fitted
from gradc.machines.calling import Examine, unexamined
from gradc.machines.machine import Code, Compiled, Machine
from gradc.machines.options import STAGES, Options
from gradc.machines.table import machine_for
from gradc.ops.control import every_node
from gradc.ops.record import Kind
from gradc.passes import PIPELINE, lowering, run_passes
from gradc.places import Where
from gradc.process import cached_property
from gradc.schedule.plan import Schedule
from gradc.schedule.verify import verify

T = TypeVar("T")


class Stages:
    """One compilation: ``source`` is the graph as traced, ``seconds`` those of each stage that was walked.

    ``machine`` is the one that the options name, unless another is given.
    """

    def __init__(self, graph: Graph, options: Options, machine: Machine | None = None):
        self.source, self.options = graph, options
        self.machine = machine_for(options) if machine is None else machine
        self.seconds: dict[str, float] = {}
        #: makes the exception for a result that holds what the options watch for: of these stages, the status word,
        #: and a function that copies the arguments of the call
        self.examine: Examine = unexamined

    def on(self, machine: Machine) -> Stages:
        """The same graph on its way to another machine; they part after the lowered graph, or before it where one of
        them has algorithms and the other has not.
        """
        return self._parted(self.options, machine)

    def rescheduled(self, options: Options) -> Stages:
        """The same graph with other ``options`` of its schedule and code; they part after the lowered graph."""
        return self._parted(options, self.machine)

    def _parted(self, options: Options, machine: Machine) -> Stages:
        other = Stages(self.source, options, machine)
        other.optimised = self.optimised
        if machine.has_algorithms == self.machine.has_algorithms:
            other.lowered = self.lowered
        return other

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """The result of ``work``, whose seconds are noted."""
        start = perf_counter()
        result = work()
        self.seconds[stage] = perf_counter() - start
        return result

    # -- the stages ----------------------------------------------------------------------------------------------------
    @cached_property
    def optimised(self) -> Graph:
        """The same function with fewer and more stable operations."""
        o = self.options
        return self.timed("optimise", lambda: run_passes(self.source, PIPELINE, o.observe, o.check))

    @cached_property
    def lowered(self) -> Graph:
        """The graph that is scheduled: ops that are written in other ops have become those."""
        graph, o = self.optimised, self.options
        steps = lowering(graph, self.machine.has_algorithms)
        lowered = self.timed("lower", lambda: run_passes(graph, steps, o.observe, o.check))
        budget = o.budget
        return lowered if budget is None else self.timed("fit", lambda: fitted(lowered, budget, self._arena))

    def _arena(self, graph: Graph, enough: int) -> int:
        """The scratch of a lowered graph, or part of it that is more than ``enough``."""
        plan = self.machine.schedule(graph, self.options)
        if plan.temporary_bytes > enough:
            return plan.temporary_bytes
        return self.machine.emit(plan, self.options, None).arena_bytes

    @cached_property
    def schedule(self) -> Schedule:
        """Kernels and the memory plan."""
        graph = self.lowered
        plan = self.timed("schedule", lambda: self.machine.schedule(graph, self.options))
        if self.options.check:
            self.timed("verify", lambda: verify(plan, graph))
        return plan

    @cached_property
    def locations(self) -> Locations | None:
        """The way from code back to the lowered graph, if the options ask for it; complete once there is `code`."""
        return Locations(self.schedule, self.lines) if self.options.debug else None

    @cached_property
    def code(self) -> Code:
        """The text that the machine's assembler takes.

        Raises CompileError with the user's line for work that the machine has no code for.
        """
        plan, locations = self.schedule, self.locations
        try:
            return self.timed("emit", lambda: self.machine.emit(plan, self.options, locations))
        except NoCodeError as error:
            where = f"{list(every_node(self.lowered))[error.node].where}: " if error.node >= 0 else ""
            raise CompileError(f"{where}{plan.title}: {error}; compile it with target='cpu'") from None

    @cached_property
    def asm(self) -> str:
        """The assembly."""
        return self.machine.assemble(self.code, self.options)

    def load(self) -> Compiled:
        """A function, made anew, with what a call costs: without any stage where the machine knows it already.

        The function may hold these stages, and they never hold it.
        """
        return self.machine.load(self)

    # -- looking at them -----------------------------------------------------------------------------------------------
    @property
    def lines(self) -> list[Where | None]:
        """The user's line of each node of the lowered graph; an argument has none, for it is made where the function
        is called.
        """
        return [None if node.op.kind is Kind.INPUT else node.where for node in every_node(self.lowered)]

    def text(self, stage: str) -> str:
        """A stage in words: "graph" as traced, "optimised", "lowered", "schedule", "llvm", "asm", or what the machine
        has beside (`Machine.views`).
        """
        if stage in self.machine.views:
            return str(self.machine.views[stage](self))
        match stage:
            case "graph":
                return str(self.source)
            case "optimised":
                return str(self.optimised)
            case "lowered":
                return str(self.lowered)
            case "schedule":
                return str(self.schedule)
            case "llvm":
                return self.code.text
            case "asm":
                return self.asm
        names = dict.fromkeys((*STAGES, *self.machine.views))
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(names)}")
