"""Schedules to PTX: one LLVM module of kernels, and the plan of their launches.

Enters: a `Schedule` made for a `Gpu`.  Leaves: a `DeviceModule`.
A kernel of the schedule is one launch for each piece of its work, or more where a piece needs the whole device to meet
in between.  Invariant: launches of equal work are one entry; its parameters are the slots that the work names, scratch,
and the status word.  Start reading at `emit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from gradc.codegen.ir import Function, Module
from gradc.codegen.ptx.each import Each
from gradc.codegen.ptx.launch import Item, Launch, LaunchPlan, Pointer
from gradc.codegen.ptx.loop import Copied, Count, Frame, Loops
from gradc.codegen.ptx.order import Lookups, sort_steps
from gradc.codegen.ptx.problem import problem_of
from gradc.codegen.ptx.product import product_steps
from gradc.codegen.ptx.scan import scan_steps
from gradc.codegen.ptx.step import Step
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.team import team_steps
from gradc.codegen.ptx.thin import as_nest, is_thin
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.turn import Turned, turn_of
from gradc.errors import CompileError, NoCodeError
from gradc.schedule.bodies import Body, Call, Choice, Repeat, held_bodies
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import (
    Buffer,
    Correlation,
    Kernel,
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


@dataclass(frozen=True)
class DeviceModule:
    """The text of an LLVM module for ``gpu``, and how its kernels are launched."""

    gpu: Gpu
    ir: str
    plan: LaunchPlan


def emit(schedule: Schedule, gpu: Gpu, name: str, fp: str = "ieee", precision: str = "ieee") -> DeviceModule:
    """The kernels of a whole schedule; ``fp`` is "ieee", "contract" or "fast", ``precision`` "ieee" or "tf32".

    Raises CompileError for functions that call each other so often that the plan would be too long.
    """
    _refuse_too_many(schedule)
    emitter = _Emitter(schedule, gpu, name, fp, precision == "tf32")
    places = {b.number: Pointer(b.place, b.at) for b in schedule.buffers}
    read = _read_buffers(schedule.kernels, schedule.buffers)
    items = [item for kernel in schedule.kernels for item in emitter.items(kernel, places, read, 0)]
    scratch = max((s.scratch_bytes for _, s in emitter.entries.values()), default=0)
    plan = LaunchPlan(tuple(items), emitter.scratch_at + scratch)
    return DeviceModule(gpu, str(emitter.module), plan)


#: A plan has a launch for each kernel of each call of a function, and at most so many.
MOST_LAUNCHES = 1 << 16


def _refuse_too_many(schedule: Schedule) -> None:
    known: dict[int, int] = {}

    def launches(inner: Sequence[Kernel]) -> int:
        return sum(1 + sum(map(of_body, held_bodies(work))) for kernel in inner for work in kernel.work)

    def of_body(body: Body) -> int:
        if id(body) not in known:
            known[id(body)] = launches(body.kernels)
        return known[id(body)]

    if (count := launches(schedule.kernels)) > MOST_LAUNCHES:
        raise CompileError(
            f"{schedule.title}: functions that call each other would make {count:,} launches, and a plan for a GPU has "
            f"at most {MOST_LAUNCHES:,}; compile it with target='cpu', or call them fewer times"
        )


class _Emitter:
    def __init__(self, schedule: Schedule, gpu: Gpu, name: str, fp: str, tf32: bool):
        self.schedule, self.gpu, self.name, self.tf32 = schedule, gpu, name, tf32
        self.module = Module(fp, extensions=frozenset({"fma", "half"}))
        self.entries: dict[object, tuple[Launch, Step]] = {}
        #: Where the scratch of steps lies, behind the temporaries; launches run in order, so all may share it.
        self.scratch_at = -(-schedule.temporary_bytes // ALIGN) * ALIGN
        self.loops = Loops(self._body, self._small, self._spare_row)

    def items(self, kernel: Kernel, places: Mapping[int, Pointer], read: Set[int], depth: int) -> Iterator[Item]:
        """What a kernel is in the plan, inside of ``depth`` loops.

        ``places`` says where each buffer is, ``read`` which of them anybody reads.
        """
        frame = Frame([places[number] for number in kernel.slots], depth)
        for work in kernel.work:
            if isinstance(work, Repeat):
                yield from self.loops.repeated(work, frame)
            elif isinstance(work, Choice):
                yield from self.loops.chosen(work, frame)
            elif isinstance(work, Call):
                yield from self.loops.called(work, frame)
            elif isinstance(work, Factor):
                raise NoCodeError(f"the algorithm of {work.algorithm.value}", self.gpu.arch, kernel.nodes[0])
            else:
                yield from self._launches(work, kernel, frame, read)

    def _launches(self, work: DeviceWork, kernel: Kernel, frame: Frame, read: Set[int]) -> Iterator[Launch]:
        used = sorted(work.touch.slots)
        constant = self._only_read(work, used, frame)
        kept = isinstance(work, Product) and _is_read(work, kernel, read)
        for number, step in enumerate(self._steps(work, kernel, read)):
            key = (work, number, kept, tuple(kernel.dtypes[s] for s in used), constant)
            yield self._launch(key, step, used, constant, [frame[s] for s in used])

    def _launch(
        self, key: object, step: Step, used: Sequence[int], constant: frozenset[int], pointers: Sequence[Pointer]
    ) -> Launch:
        if key not in self.entries:
            self.entries[key] = self._entry(step, used, constant), step
        entry, known = self.entries[key]
        scratch = (Pointer(Place.ARENA, self.scratch_at),) if known.scratch_bytes else ()
        return replace(entry, pointers=(*pointers, *scratch))

    # -- bodies ------------------------------------------------------------------------------------------------------
    def _body(
        self, body: Body, inputs: Sequence[Pointer], outputs: Sequence[Pointer], arena: Pointer | None, depth: int
    ) -> list[Item]:
        """The kernels of a body on pointers to its inputs, outputs and temporaries."""
        taken = {j: i for i, j in body.donated}

        def place(b: Buffer) -> Pointer:
            if b.place is Place.INPUT:
                return inputs[b.at]
            if b.place is Place.OUTPUT:
                return inputs[taken[b.at]] if b.at in taken else outputs[b.at]
            assert arena is not None
            return replace(arena, at=arena.at + b.at)

        places = {number: place(body.buffers[number]) for kernel in body.kernels for number in kernel.slots}
        read = _read_buffers(body.kernels, body.buffers)
        return [item for kernel in body.kernels for item in self.items(kernel, places, read, depth)]

    def _small(self, step: Count | Copied, pointers: Sequence[Pointer]) -> Launch:
        return self._launch((step.title, step.key), step, range(len(pointers)), frozenset(), pointers)

    def _spare_row(self, size: int) -> Pointer:
        """Memory for a row of a loop, behind the temporaries."""
        at = self.scratch_at
        self.scratch_at += -(-size // ALIGN) * ALIGN
        return Pointer(Place.ARENA, at)

    def _steps(self, work: DeviceWork, kernel: Kernel, read: Set[int]) -> Sequence[Step]:
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
                return team_steps(as_nest(work, self.gpu), title)
            p = replace(problem_of(work), kept=_is_read(work, kernel, read))
            return product_steps(p, self.gpu, self.tf32)
        if isinstance(work, Correlation):
            return product_steps(problem_of(work), self.gpu, self.tf32)
        if isinstance(work, Sort):
            return sort_steps(work)
        return [Lookups(work)] if work.rows * work.per_row else []

    def _only_read(self, work: DeviceWork, used: Sequence[int], frame: Frame) -> frozenset[int]:
        """Slots whose memory nothing in this work writes, so that it may be read past the caches that writes go to."""
        written = work.touch.writes
        storage = {self._storage(frame[s]) for s in written}
        return frozenset(s for s in used if s not in written and self._storage(frame[s]) not in storage)

    def _storage(self, pointer: Pointer) -> object:
        """What two pointers share if they are one memory: a donated input is the output that takes it over."""
        if pointer.place is Place.INPUT and pointer.at in self.schedule.donated:
            return Place.OUTPUT, self.schedule.donated[pointer.at]
        return pointer.place, pointer.at

    def _entry(self, step: Step, used: Sequence[int], constant: frozenset[int]) -> Launch:
        name = f"{self.name}_{len(self.entries)}_{step.title}"
        params = [("ptr noalias readonly" if s in constant else "ptr", f"s{s}") for s in used]
        params += [("ptr", "scratch")] if step.scratch_bytes else []
        attrs = f'nounwind "nvvm.maxntid"="{step.block}" {step.attributes}'
        f = Function(self.module, name, [*params, ("ptr", "status")], "ptx_kernel void", attrs)
        thread = Thread(f, constant)
        slots = [f"%s{s}" for s in range(max(used, default=-1) + 1)]
        step.emit(thread, slots, "%scratch", "%status")
        f.finish()
        return Launch(name, step.grid, step.block, thread.shared_bytes, (), thread.dynamic_bytes)


def _read_buffers(kernels: Sequence[Kernel], buffers: Sequence[Buffer]) -> frozenset[int]:
    """The buffers that a kernel reads, or whoever asked for the schedule."""
    read = {kernel.slots[s] for kernel in kernels for s in kernel.reads}
    return frozenset(read | {b.number for b in buffers if b.place is not Place.ARENA})


def _is_read(product: Product, kernel: Kernel, read: Set[int]) -> bool:
    """Whether anybody reads the sums of a product, beside its epilogue; ``read``: the buffers that kernels read."""
    slot = product.out.slot
    if product.epilogue is None or kernel.slots[slot] in read or slot in product.epilogue.nest.loaded:
        return True
    return any(slot in w.touch.slots for w in kernel.work if w is not product)
