"""The CPU that this process runs on.

Enters: `Stages`.  Leaves: a function in this process, recalled from the disk where its graph is known there.
Beside the whole function it emits what looks into one: kernels alone, the first few of them, all of them with a clock.
Start reading at `HostCpu.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gradc.codegen.debug import Locations
from gradc.codegen.emit import arena_bytes, emit, emit_kernel
from gradc.codegen.flush import flushes
from gradc.codegen.fork import calls_fork
from gradc.codegen.ir import Module
from gradc.codegen.poll import polls
from gradc.codegen.target import Target
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.machines.calling import array_specs, failure, mismatch, refusal
from gradc.machines.foreign import ForeignCpu
from gradc.machines.machine import SYMBOL, Code, Compiled, Destination
from gradc.machines.options import Options
from gradc.machines.recall import Record, graph_key, recall, remember
from gradc.machines.stages import Stages
from gradc.node import here
from gradc.process import cached_property
from gradc.runtime.interrupt import poll_symbols
from gradc.runtime.load import Loaded, assemble, cpu_for, load, load_known, remembers, target_info
from gradc.runtime.native import RELEASE_GIL_SECONDS, NativeFunction
from gradc.runtime.pool import fork_symbols
from gradc.schedule import Schedule, schedule
from gradc.schedule.duration import seconds_of

names = ("cpu",)


class HostCpu:
    """This very CPU, or with ``level`` ("x86-64-v3") what it shares with all CPUs of that level."""

    name = "cpu"
    has_algorithms = True
    views: Mapping[str, Any] = {}

    def __init__(self, level: str | None = None):
        self.level = level

    @cached_property
    def widths(self) -> Target:
        """Raises CompileError for an unknown level, and for one that this CPU is below."""
        if self.level is None:
            return Target.host()
        try:
            return Target.level(self.level)
        except CompileError as error:
            raise CompileError(f"{here()}: {error}") from None

    def schedule(self, graph: Graph, options: Options) -> Schedule:
        return schedule(graph, donated=options.donate, target=self.widths, threads=options.threads)

    def emit(self, plan: Schedule, options: Options, locations: Locations | None) -> Code:
        checks = options.debug == "bounds"
        module = emit(
            plan, self.widths, SYMBOL, options.fp, locations, polls=True, check_bounds=checks, watch=options.watch
        )
        return self._code(module, plan)

    def emit_timed(self, plan: Schedule, options: Options) -> Code:
        """The code of ``plan`` with a look at the clock after each kernel (`gradc.codegen.emit`)."""
        return self._code(emit(plan, self.widths, SYMBOL, options.fp, clock=True), plan)

    def emit_first(self, plan: Schedule, options: Options, count: int) -> Code:
        """The code of the first ``count`` kernels, in the arena of the whole ``plan``."""
        first = replace(plan, kernels=plan.kernels[:count])
        return self._code(emit(first, self.widths, SYMBOL, options.fp), plan)

    def emit_alone(self, plan: Schedule, options: Options, number: int) -> Code:
        """The code of kernel ``number`` alone (`gradc.codegen.emit.emit_kernel`)."""
        return self._code(emit_kernel(plan, number, self.widths, SYMBOL, options.fp), plan)

    def _code(self, module: Module, plan: Schedule) -> Code:
        return Code(str(module), SYMBOL, arena_bytes(plan, self.widths))

    def assemble(self, code: Code, options: Options) -> str:
        return assemble(code.text, target_info().triple, *cpu_for(self.level))

    def link(self, code: Code, options: Options, symbols: Mapping[str, int] | None = None) -> Loaded:
        """The code in this process; ``symbols`` are what it calls beside the threads' fork-join and the poll."""
        known = self._symbols(options, calls_fork(code.text), polls(code.text))
        return load(code.text, code.symbol, cpu=self.level, symbols=known | dict(symbols or {}))

    def _symbols(self, options: Options, shares: bool, looks: bool) -> dict[str, int]:
        return (fork_symbols(options.threads, looks) if shares else {}) | (poll_symbols() if looks else {})

    # -- a function in this process ------------------------------------------------------------------------------------
    def load(self, stages: Stages) -> Compiled:
        record, loaded = self._found(stages)
        options = stages.options
        function = stages.timed("entry", partial(self._function, stages, record, loaded))
        flushed = options.fp == "fast" and flushes(self.widths)
        return Compiled(
            function, record.kernels, record.flops, record.bytes, record.arena_bytes, record.notes,
            runs=f"{record.kernels} kernels", cached=loaded.cached, seconds=loaded.seconds,
            facts={"subnormals": "flushed to zero" if flushed else "kept", "threads": options.threads},
        )  # fmt: skip

    def _found(self, stages: Stages) -> tuple[Record, Loaded]:
        """What the disk has of this very compilation, or else all stages, which whoever wants to see has walked."""
        graph, o = stages.source, stages.options
        if not o.recall or o.observe is not None or o.check or o.debug or not remembers():
            return self._built(stages)
        key = stages.timed("key", lambda: graph_key(graph, o))
        record = recall(key, graph) if key is not None else None
        if record is not None:
            symbols = self._symbols(o, record.shares, record.polls)
            loaded = load_known(record.object_key, SYMBOL, symbols)
            if loaded is not None:
                return record, loaded
        record, loaded = self._built(stages)
        if key is not None:
            remember(key, record, graph)  # for the next process
        return record, loaded

    def _built(self, stages: Stages) -> tuple[Record, Loaded]:
        code, plan = stages.code, stages.schedule
        loaded = self.link(code, stages.options)
        seconds = seconds_of(plan.kernels, plan.buffers, self.widths, RELEASE_GIL_SECONDS)
        record = Record(
            loaded.key, code.arena_bytes, plan.flops, plan.bytes, len(plan.kernels), seconds, calls_fork(code.text),
            polls(code.text), stages.lowered.notes, plan.arrays,
        )  # fmt: skip
        return record, loaded

    def _function(self, stages: Stages, record: Record, loaded: Loaded) -> NativeFunction:
        graph, options = stages.source, stages.options
        inputs, outputs = array_specs(graph)
        return NativeFunction(
            loaded.address,
            inputs,
            outputs,
            record.arena_bytes,
            options.donate,
            record.arrays,
            partial(failure, stages),
            partial(mismatch, graph),
            [spec.name for spec in inputs],
            owner=loaded,
            results_of=options.memory.kind if options.memory is not None else None,
            seconds_estimate=record.seconds,
            refuse=partial(refusal, graph),
            alone=options.debug == "bounds",
            examine=partial(stages.examine, stages),
        )

    # -- files ---------------------------------------------------------------------------------------------------------
    def write(self, stages: Stages, path: Path, destination: Destination, overwrite: bool) -> list[Path]:
        """A function as it needs no Python, for this CPU or any other (`ForeignCpu.write`)."""
        d = destination
        target = self.widths if d.is_here else Target.of(d.triple or target_info().triple, d.cpu, d.features)
        machine = ForeignCpu(target, d.name)
        return machine.write(stages.on(machine), path, destination, overwrite)


def machine(options: Options) -> HostCpu:
    """This CPU at the level that the options ask for."""
    if options.precision != "ieee":
        raise CompileError(
            f"precision={options.precision!r} is about tensor cores of GPUs; a CPU's products are always IEEE"
        )
    return HostCpu(options.cpu)
