"""Schedules to one LLVM module.

Enters: a `Schedule` and a `Target`.  Leaves: a `Module` that defines

    void @name(ptr %inputs, ptr %outputs, ptr %arena, ptr %status)

``inputs`` and ``outputs`` are arrays of pointers to contiguous row-major arrays (also for 0-d), hidden arrays behind
the inputs; ``arena`` is 64-byte aligned scratch of `arena_bytes`; ``status`` is one int64, 0 if all went well, else the
kind of the first failure in the low byte and the number of its node above.
With a clock it takes a fifth pointer, ``ticks``, to two more int64 than there are kernels, and writes there what
``i64 @gradc_clock()`` says: twice at the start (how long a look at the clock takes) and after each kernel.
Invariant: kernels of equal work are one internal function, which the outer function calls; work that occurs once
stands where it is done, for a function costs LLVM half a millisecond before its first instruction.  No function grows
with the program, or LLVM's time would grow with its square.  Start reading at `emit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np

from gradc.codegen import bounds
from gradc.codegen.bodies import FunctionOf, emit_call, emit_choice, emit_repeat
from gradc.codegen.contract import Products, scratch_bytes
from gradc.codegen.debug import Locations
from gradc.codegen.factor import Factors
from gradc.codegen.factor import scratch_bytes as factor_scratch_bytes
from gradc.codegen.flush import flushing
from gradc.codegen.fork import UNTOUCHED, Crew, Piece
from gradc.codegen.ir import Function, Module
from gradc.codegen.nest import emit_nest, emit_shared_nest
from gradc.codegen.order import emit_search, emit_sort
from gradc.codegen.poll import ask, looks, unless_stopped
from gradc.codegen.results import look
from gradc.codegen.status import HALF_WRITTEN, INTERRUPTED
from gradc.codegen.target import Target
from gradc.process import cached_property
from gradc.schedule.bodies import Call, Choice, Repeat, every_part
from gradc.schedule.duration import seconds_of
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import (
    Buffer,
    Correlation,
    Kernel,
    Nest,
    Place,
    Product,
    Search,
    Share,
    Sort,
    Split,
    Tiled,
    Work,
)
from gradc.schedule.plan import Schedule
from gradc.schedule.split import can_fail

PARAMS = [("ptr noalias", "inputs"), ("ptr noalias", "outputs"), ("ptr noalias", "arena"), ("ptr noalias", "status")]
TICKS = ("ptr noalias", "ticks")
#: the symbol of the clock, which whoever loads the module provides
CLOCK = "gradc_clock"
#: Lines after which the outer function goes on in another one: LLVM's time grows faster than long functions do.
LONG = 600
#: Pieces of work that stand in one function; a kernel of more goes on in functions of as many pieces each.
MOST_PIECES = 16
#: After kernels of more than so many seconds together a function that polls looks whether to end.
LONG_SECONDS = 1e-3


def emit(
    schedule: Schedule,
    target: Target,
    name: str,
    fp: str = "ieee",
    debug: Locations | None = None,
    clock: bool = False,
    polls: bool = False,
    check_bounds: bool = False,
    watch: Sequence[str] = (),
) -> Module:
    """The module of a whole schedule; ``fp`` is "ieee", "contract" or "fast", which also flushes subnormal numbers.

    With ``debug`` each instruction carries the source line and the piece of a kernel that it comes from; with ``clock``
    the time is noted after each kernel.  Where it ``polls``, long loops look now and then whether to end (see
    `gradc.codegen.poll`), and after them the function ends if they did.  ``check_bounds``: accesses are checked, see
    `gradc.codegen.bounds`.  ``watch``: kinds of numbers of which results are told, see `gradc.codegen.results`.
    """
    module = Module(fp, debug, extensions=target.extensions, polls=polls)
    if check_bounds:
        bounds.install(module, 1 + max((len(k.slots) for k in schedule.kernels), default=0))
    library = _Library(module, target)
    main = _Main(module, name, schedule, target, clock)
    main.begin_checks()
    main.note_times(0, 1)
    first: dict[object, int] = {}
    equal = [first.setdefault(library.key(kernel), number) for number, kernel in enumerate(schedule.kernels)]
    often = Counter(equal)
    with flushing(main.f, target) if fp == "fast" else nullcontext():
        if fp == "fast":
            main.turn_over(0)  # what the CPU is told stands in no order with arithmetic of the same function
        for number, kernel in enumerate(schedule.kernels):
            if main.is_long:
                main.turn_over(number)
            with main.f.standing_for(kernel=number):
                main.note_bounds(number, arena_bytes(schedule, target) if check_bounds else 0)
                if often[equal[number]] > 1:
                    function = library.function(kernel, number)
                    main.call(function, [main.pointer(b) for b in kernel.slots])
                else:
                    library.in_place(main, kernel, number)
                main.look_at_results(number, watch)
                main.may_end(number)
            main.note_times(number + 2)
        main.turn_back()
        main.come_together()
    main.f.finish()
    if debug is not None:
        debug.finish(module.functions)
    return module


def emit_kernel(schedule: Schedule, number: int, target: Target, name: str, fp: str = "ieee") -> Module:
    """The module of kernel ``number`` alone.

    Its inputs are the buffers that the kernel reads, in the order of `Kernel.reads`, its outputs those that it writes,
    in the order of `Kernel.writes`; its own scratch lies in the arena, which is laid out as in the whole schedule.
    """
    kernel = schedule.kernels[number]
    module = Module(fp, extensions=target.extensions)
    function = _Library(module, target).function(kernel, number)
    main = _Main(module, name, schedule, target)
    alone = {s: main.argument("%inputs", k) for k, s in enumerate(kernel.reads) if s not in kernel.writes}
    alone |= {s: main.argument("%outputs", k) for k, s in enumerate(kernel.writes)}
    with flushing(main.f, target) if fp == "fast" else nullcontext():
        main.call(function, [alone.get(s) or main.pointer(b) for s, b in enumerate(kernel.slots)])
    main.f.finish()
    return module


def arena_bytes(schedule: Schedule, target: Target) -> int:
    """The scratch that the emitted function needs: temporaries, and behind them what its products pack."""
    wanted = (
        _scratch_bytes(work, target) * (share.threads if isinstance(share, Tiled | Split) else 1)
        for work, share in every_part(schedule.kernels)
        if isinstance(work, Product | Factor)
    )
    return schedule.temporary_bytes + max(wanted, default=0)


def _scratch_bytes(work: Work, target: Target) -> int:
    """What one thread wants for a piece of work behind the temporaries."""
    if isinstance(work, Factor):
        return factor_scratch_bytes(work, target)
    return scratch_bytes(work, target) if isinstance(work, Product) else 0


#: pieces of a kernel, with their numbers and the ways they are shared
Pieces = Sequence[tuple[int, tuple[Work, Share | None]]]


def _no_body(kernel: Kernel) -> str:
    raise AssertionError(f"{kernel.title}: only loops and branches have kernels inside")


class _Library:
    """The functions of kernels, each emitted once however many kernels do the same."""

    def __init__(self, module: Module, target: Target):
        self.module, self.products, self.factors = module, Products(target), Factors(target)
        self._known: dict[object, str] = {}
        self._named = 0  #: kernels that have a name

    def function(self, kernel: Kernel, number: int, inside: int | None = None) -> str:
        """The function of ``kernel``, the schedule's ``number``-th: its slots as pointers, scratch, the status word.

        Or of a kernel in a body that piece ``inside`` of that kernel runs; debug locations lead to the piece.
        """
        debug = self.module.debug
        key = self.key(kernel, inside is not None)
        if key not in self._known:
            if debug is not None:
                debug.enter(number, inside or 0, kernel if inside is not None else None)
            name = self._known[key] = self._name(kernel)
            slots = [f"%s{k}" for k in range(len(kernel.slots))]
            params = [("ptr", s[1:]) for s in slots]
            f = Function(self.module, name, [*params, ("ptr", "scratch"), ("ptr", "status")], result="internal void")
            self._emit(f, kernel, number, name, slots.__getitem__, inside)
            f.finish()
        if debug is not None:
            debug.runs(self._known[key], number, inside, kernel)
        return self._known[key]

    def key(self, kernel: Kernel, inside: bool = False) -> object:
        """What kernels must have in common to be one function."""
        return kernel.work, kernel.dtypes, kernel.splits, inside

    def in_place(self, main: _Main, kernel: Kernel, number: int) -> None:
        """Emit ``kernel``, whose like there is no other, into the function at hand."""
        self._emit(main.f, kernel, number, self._name(kernel), lambda s: main.pointer(kernel.slots[s]), None)

    def _name(self, kernel: Kernel) -> str:
        self._named += 1
        return f"k{self._named - 1}.{kernel.title.replace('+', '.')}"

    def _emit(
        self, f: Function, kernel: Kernel, number: int, name: str, pointer: Callable[[int], str], inside: int | None
    ) -> None:  # fmt: skip
        """All pieces of ``kernel``, in ``f``, a function with %scratch and %status, or in others that it calls."""
        parts = list(enumerate(kernel.parts))
        if len(parts) <= MOST_PIECES:
            slots = [pointer(s) for s in range(len(kernel.slots))]
            self._pieces(f, kernel, parts, number, name, slots, inside)
            return
        for first in range(0, len(parts), MOST_PIECES):
            some = parts[first : first + MOST_PIECES]
            touched = sorted({s for _, (work, _) in some for s in work.touch.slots})
            params = [*(("ptr", f"s{s}") for s in touched), ("ptr", "scratch"), ("ptr", "status")]
            g = Function(self.module, f"{name}.from{first}", params, result="internal void")
            slots = [f"%s{s}" if s in touched else UNTOUCHED for s in range(len(kernel.slots))]
            self._pieces(g, kernel, some, number, name, slots, inside)
            g.finish()
            arguments = ", ".join(f"ptr {p}" for p in [*map(pointer, touched), "%scratch", "%status"])
            f.line(f"call void @{g.name}({arguments})")

    def _pieces(
        self, f: Function, kernel: Kernel, parts: Pieces, number: int, name: str, slots: Sequence[str],
        inside: int | None,
    ) -> None:  # fmt: skip
        """These pieces of ``kernel``, in ``f``."""
        for at, (work, split) in parts:
            here = (number, at, None, 0) if inside is None else (number, inside, kernel, at)
            if self.module.debug is not None:
                self.module.debug.enter(*here)
            place = {"part" if inside is not None else "work": at} if at or len(kernel.work) > 1 else {}
            done = unless_stopped(f, "%status") if any(map(looks, kernel.work[:at])) else nullcontext()
            with done, f.standing_for(**place):
                if split is None:
                    self._whole(f, work, slots, partial(self._inner, *here))
                else:
                    self._shared(f, f"{name}.{at}", work, split, slots)

    def _inner(self, number: int, piece: int, around: Kernel | None, part: int, kernel: Kernel) -> str:
        """The function of a kernel in a body; the piece that runs it is part of a kernel ``around`` that is one itself,
        or of none."""
        name = self.function(kernel, number, piece)
        if self.module.debug is not None:
            self.module.debug.enter(number, piece, around, part)  # emitting that function may have gone elsewhere
        return name

    def _shared(self, f: Function, name: str, work: Work, how: Share, slots: Sequence[str]) -> None:
        """Work that threads share."""
        packed = _scratch_bytes(work, self.products.target)
        crew = Crew(name, can_fail(work), packed)
        if isinstance(work, Nest):
            assert not isinstance(how, Tiled)
            emit_shared_nest(f, work, slots, how, crew)
        elif isinstance(work, Product):
            assert isinstance(how, Tiled)
            if not self.products.share(f, work, how, slots, crew):
                self._whole(f, work, slots, _no_body)
        elif isinstance(work, Correlation):
            assert isinstance(how, Tiled)
            if not self.products.share_correlation(f, work, how, slots, crew):
                self._whole(f, work, slots, _no_body)
        else:
            assert isinstance(how, Split)

            def body(task: Function, piece: Piece) -> None:
                part = (piece.begin, piece.end)
                if isinstance(work, Sort):
                    emit_sort(task, work, piece.slots, piece.status, part)
                elif isinstance(work, Search):
                    emit_search(task, work, piece.slots, piece.status, part)
                elif isinstance(work, Factor):
                    self.factors.call(task, work, piece.slots, piece.scratch, piece.status, part)

            crew.fork(f, how, slots, body)

    def _whole(self, f: Function, work: Work, slots: Sequence[str], inner: FunctionOf) -> None:
        if isinstance(work, Nest):
            emit_nest(f, work, slots, "%status")
        elif isinstance(work, Product):
            self.products.call(f, work, slots, "%scratch")
        elif isinstance(work, Correlation):
            self.products.correlate(f, work, slots)
        elif isinstance(work, Repeat):
            emit_repeat(f, work, slots, inner)
        elif isinstance(work, Choice):
            emit_choice(f, work, slots, inner)
        elif isinstance(work, Call):
            emit_call(f, work, slots, inner)
        elif isinstance(work, Sort):
            emit_sort(f, work, slots, "%status")
        elif isinstance(work, Factor):
            self.factors.call(f, work, slots, "%scratch", "%status")
        else:
            emit_search(f, work, slots, "%status")


class _Main:
    """The outer function, where all kernels are done, in it or in functions that it calls; ``f`` is the one at hand."""

    def __init__(self, module: Module, name: str, schedule: Schedule, target: Target, clock: bool = False):
        self.schedule, self.target, self.clock = schedule, target, clock
        self.params = [*PARAMS, TICKS] if clock else PARAMS
        self.f = self._outer = Function(module, name, self.params)
        self._parts = 0
        self._unlooked = 0.0  # how long kernels take since the last look
        self._updates = False  # whether a donated array may have been overwritten
        taken = (*schedule.donated.items(),)
        self._donated = {schedule.inputs[i] for i, _ in taken} | {schedule.outputs[j] for _, j in taken}
        self._ending: set[str] = set()  # functions that can end early
        self._begin()

    def _begin(self) -> None:
        self._pointers: dict[int, str] = {}
        self.f.line(f"%scratch = getelementptr i8, ptr %arena, i64 {self.schedule.temporary_bytes}")

    @property
    def is_long(self) -> bool:
        return len(self.f.lines) > LONG

    def turn_over(self, number: int) -> None:
        """Go on with kernel ``number`` in another function."""
        self.turn_back()
        if self._outer.module.debug is not None:
            self._outer.module.debug.enter(number)
        name, self._parts = f"{self._outer.name}.{self._parts}", self._parts + 1
        self.f = Function(self._outer.module, name, self.params, result="internal void")
        self._begin()

    def turn_back(self) -> None:
        """Go on in the outermost function."""
        if self.f is not self._outer:
            ends = self.f.name in self._ending
            self.come_together()
            self.f.finish()
            arguments = ", ".join(f"ptr %{name}" for _, name in self.params)
            self._outer.line(f"call void @{self.f.name}({arguments})")
            self.f = self._outer
            if ends:
                self._end_if_stopped()

    def may_end(self, number: int) -> None:
        """After kernel ``number``: end if it was stopped, or somebody asks for it after a long one."""
        if not self.f.module.polls:
            return
        schedule, kernel = self.schedule, self.schedule.kernels[number]
        self._updates = self._updates or not self._donated.isdisjoint(kernel.slots[s] for s in kernel.writes)
        is_last = number == len(schedule.kernels) - 1
        if any(map(looks, kernel.work)):
            self._end_if_stopped()
            self._unlooked = 0.0
            return
        self._unlooked += seconds_of([kernel], schedule.buffers, self.target, LONG_SECONDS)
        if not is_last and self._unlooked > LONG_SECONDS:
            ask(self.f, "%status")
            self._end_if_stopped()
            self._unlooked = 0.0

    def _end_if_stopped(self) -> None:
        f, number = self.f, self.f.fresh("")
        status = f.let("load i64, ptr %status, align 8")
        failed = f.let(f"icmp ne i64 {status}, 0")
        f.line(f"br i1 {failed}, label %failed{number}, label %on{number}")
        f.label(f"failed{number}")
        if self._updates:
            stopped = f.let(f"icmp eq i64 {status}, {INTERRUPTED}")
            f.line(f"store i64 {f.let(f'select i1 {stopped}, i64 {HALF_WRITTEN}, i64 {status}')}, ptr %status, align 8")
        f.branch("end")
        f.label(f"on{number}")
        self._ending.add(f.name)

    def come_together(self) -> None:
        """Where those jump to who end early."""
        if self.f.name in self._ending:
            self.f.branch("end")
            self.f.label("end")

    def look_at_results(self, number: int, kinds: Sequence[str]) -> None:
        """Report results that hold numbers of these kinds, of those that kernel ``number`` is the last one to write."""
        for k, buffer in enumerate(self.schedule.outputs if kinds else ()):
            if self._last_writers[buffer] == number:
                b = self.schedule.buffers[buffer]
                look(self.f, k, self.pointer(buffer), b.dtype, b.size, kinds)

    @cached_property
    def _last_writers(self) -> dict[int, int]:
        """Buffer -> the last kernel that writes it."""
        return {k.slots[s]: number for number, k in enumerate(self.schedule.kernels) for s in k.writes}

    def argument(self, array: str, position: int) -> str:
        """The pointer at ``position`` of an array of pointers."""
        place = self.f.let(f"getelementptr ptr, ptr {array}, i64 {position}")
        return self.f.let(f"load ptr, ptr {place}, align 8")

    def pointer(self, number: int) -> str:
        if number not in self._pointers:
            self._pointers[number] = _FIND[self.schedule.buffers[number].place](self, self.schedule.buffers[number])
        return self._pointers[number]

    def arena(self, offset: int) -> str:
        return self.f.let(f"getelementptr i8, ptr %arena, i64 {offset}")

    def call(self, function: str, pointers: Sequence[str]) -> None:
        arguments = ", ".join(f"ptr {p}" for p in [*pointers, "%scratch", "%status"])
        self.f.line(f"call void @{function}({arguments})")

    def begin_checks(self) -> None:
        if self.f.module.checks:
            bounds.begin(self.f)

    def note_bounds(self, number: int, arena: int) -> None:
        """What kernel ``number`` may touch: its buffers, and behind the temporaries what products pack."""
        if not self.f.module.checks:
            return
        named = [self.schedule.buffers[b] for b in dict.fromkeys(self.schedule.kernels[number].slots)]
        places = {self.pointer(b.number): b.size * np.dtype(b.dtype).itemsize for b in named}
        bounds.note(self.f, number, places | {"%scratch": arena - self.schedule.temporary_bytes})

    def note_times(self, *positions: int) -> None:
        """What the clock says, if there is one, at ``positions`` of the ticks."""
        for position in positions if self.clock else ():
            time = self.f.let(f"call i64 @{self.f.module.declare(CLOCK, 'i64')}()")
            place = self.f.let(f"getelementptr i64, ptr %ticks, i64 {position}")
            self.f.line(f"store i64 {time}, ptr {place}, align 8")


_FIND: dict[Place, Callable[[_Main, Buffer], str]] = {
    Place.INPUT: lambda m, b: m.argument("%inputs", b.at),
    Place.HIDDEN: lambda m, b: m.argument("%inputs", len(m.schedule.inputs) + b.at),
    Place.OUTPUT: lambda m, b: m.argument("%outputs", b.at),
    Place.ARENA: lambda m, b: m.arena(b.at),
}
