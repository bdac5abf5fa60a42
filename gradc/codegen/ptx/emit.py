"""Schedules to PTX: one LLVM module of kernels, and the plan of their launches.

Enters: a `Schedule` made for a `Gpu`.  Leaves: a `DeviceModule`.
A kernel of the schedule is one launch for each piece of its work, or more where a piece needs the whole device to meet
in between.  Invariant: launches of equal work are one entry; its parameters are the slots that the work names, scratch,
and the status word.  Start reading at `emit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

from gradc.codegen.ir import Function, Module
from gradc.codegen.ptx.each import Each
from gradc.codegen.ptx.launch import Launch, LaunchPlan, Pointer
from gradc.codegen.ptx.order import Lookups, sort_steps
from gradc.codegen.ptx.problem import problem_of
from gradc.codegen.ptx.product import ProductStep
from gradc.codegen.ptx.scan import scan_steps
from gradc.codegen.ptx.step import Step
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.team import team_steps
from gradc.codegen.ptx.thin import as_nest, is_thin
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.turn import Turned, turn_of
from gradc.errors import CompileError
from gradc.node import OPS
from gradc.schedule.bodies import Choice, Repeat
from gradc.schedule.kernel import (
    Correlation,
    Kernel,
    Load,
    Lookup,
    Nest,
    Place,
    Product,
    Search,
    Sort,
)
from gradc.schedule.plan import Schedule

ALIGN = 64
#: The work that has code on a device.
DeviceWork = Nest | Product | Correlation | Sort | Search


class NoDeviceCodeError(CompileError):
    """A piece of work that has no code on a GPU; ``node`` is the graph position of what it computes, or −1."""

    def __init__(self, what: str, node: int):
        super().__init__(f"{what} has no code on a GPU")
        self.node = node


@dataclass(frozen=True)
class DeviceModule:
    """The text of an LLVM module for ``gpu``, and how its kernels are launched."""

    gpu: Gpu
    ir: str
    plan: LaunchPlan


def emit(schedule: Schedule, gpu: Gpu, name: str, fp: str = "ieee", precision: str = "ieee") -> DeviceModule:
    """The kernels of a whole schedule; ``fp`` is "ieee", "contract" or "fast", ``precision`` "ieee" or "tf32".

    Raises `NoDeviceCodeError` for work that a GPU lacks.
    """
    emitter = _Emitter(schedule, gpu, name, fp, precision == "tf32")
    launches = [launch for kernel in schedule.kernels for launch in emitter.launches(kernel)]
    scratch = max((s.scratch_bytes for _, s in emitter.entries.values()), default=0)
    plan = LaunchPlan(tuple(launches), emitter.scratch_at + scratch)
    return DeviceModule(gpu, str(emitter.module), plan)


class _Emitter:
    def __init__(self, schedule: Schedule, gpu: Gpu, name: str, fp: str, tf32: bool):
        self.schedule, self.gpu, self.name, self.tf32 = schedule, gpu, name, tf32
        self.module = Module(fp)
        self.entries: dict[object, tuple[Launch, Step]] = {}
        #: Where the scratch of steps lies, behind the temporaries; launches run in order, so all may share it.
        self.scratch_at = -(-schedule.temporary_bytes // ALIGN) * ALIGN

    def launches(self, kernel: Kernel) -> Iterator[Launch]:
        for work in kernel.work:
            if isinstance(work, Repeat | Choice):
                what = "a loop" if isinstance(work, Repeat) else "a branch (cond)"
                raise NoDeviceCodeError(what, max(kernel.nodes, default=-1))
            steps = self._steps(work, kernel)
            used = sorted(_slots(work))
            constant = self._only_read(kernel, work, used)
            for number, step in enumerate(steps):
                key = (work, number, tuple(kernel.dtypes[s] for s in used), constant)
                if key not in self.entries:
                    self.entries[key] = self._entry(step, used, constant), step
                entry, _ = self.entries[key]
                pointers = [self._pointer(kernel.slots[s]) for s in used]
                if step.scratch_bytes:
                    pointers.append(Pointer(Place.ARENA, self.scratch_at))
                yield replace(entry, pointers=tuple(pointers))

    def _pointer(self, number: int) -> Pointer:
        buffer = self.schedule.buffers[number]
        return Pointer(buffer.place, buffer.at)

    def _steps(self, work: DeviceWork, kernel: Kernel) -> Sequence[Step]:
        title = kernel.title.replace("+", "_")
        if isinstance(work, Nest):
            if any(s.scan is not None for s in work.stages):
                return scan_steps(work, title)
            if any(s.reduces for s in work.stages):
                return team_steps(work, title)
            turn = turn_of(work)
            return [Each(work, title) if turn is None else Turned(work, turn, title)]
        if isinstance(work, Product):
            if is_thin(work):
                return team_steps(as_nest(work, OPS["multiply"], self.gpu), title)
            return [ProductStep(problem_of(work), self.gpu, self.tf32)]
        if isinstance(work, Correlation):
            return [ProductStep(problem_of(work), self.gpu, self.tf32)]
        if isinstance(work, Sort):
            return sort_steps(work)
        return [Lookups(work)] if work.rows * work.per_row else []

    def _only_read(self, kernel: Kernel, work: DeviceWork, used: Sequence[int]) -> frozenset[int]:
        """Slots whose memory nothing in this work writes, so that it may be read past the caches that writes go to."""
        written = _written(work)
        storage = {self._storage(kernel.slots[s]) for s in written}
        return frozenset(s for s in used if s not in written and self._storage(kernel.slots[s]) not in storage)

    def _storage(self, number: int) -> object:
        """What two buffers share if they are one memory: a donated input is the output that takes it over."""
        buffer = self.schedule.buffers[number]
        if buffer.place is Place.INPUT and buffer.at in self.schedule.donated:
            return (Place.OUTPUT, self.schedule.donated[buffer.at])
        return number if buffer.place is Place.ARENA else (buffer.place, buffer.at)

    def _entry(self, step: Step, used: Sequence[int], constant: frozenset[int]) -> Launch:
        name = f"{self.name}_{len(self.entries)}_{step.title}"
        params = [("ptr noalias readonly" if s in constant else "ptr", f"s{s}") for s in used]
        params += [("ptr", "scratch")] if step.scratch_bytes else []
        attrs = f'nounwind "nvvm.maxntid"="{step.block}" {step.attributes}'
        f = Function(self.module, name, [*params, ("ptr", "status")], "ptx_kernel void", attrs)
        thread = Thread(f)
        slots = [f"%s{s}" for s in range(max(used, default=-1) + 1)]
        step.emit(thread, slots, "%scratch", "%status")
        f.finish()
        return Launch(name, step.grid, step.block, thread.shared_bytes, (), thread.dynamic_bytes)


def _slots(work: DeviceWork) -> Set[int]:
    if isinstance(work, Nest):
        return _read(work) | {s.slot for s in work.stores}
    if isinstance(work, Product):
        own = {work.left.slot, work.right.slot, work.out.slot}
        return own | (_slots(work.epilogue.nest) if work.epilogue is not None else set())
    if isinstance(work, Correlation):
        return {work.left.slot, work.right.slot, work.out.slot}
    if isinstance(work, Sort):
        return {work.source, work.out, work.scratch}
    return {work.table, work.values, work.out}


def _read(nest: Nest) -> Set[int]:
    return {x.slot for x in nest.code if isinstance(x, Load | Lookup)}


def _written(work: DeviceWork) -> Set[int]:
    if isinstance(work, Nest):
        return {s.slot for s in work.stores}
    if isinstance(work, Product):
        return {work.out.slot} | (_written(work.epilogue.nest) if work.epilogue is not None else set())
    if isinstance(work, Correlation):
        return {work.out.slot}
    if isinstance(work, Sort):
        return {work.out, work.scratch}
    return {work.out}
