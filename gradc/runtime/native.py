"""A compiled step as a Python callable: arrays in, arrays out, nothing between them but checks.

Enters: the address of ``void step(ptr inputs, ptr outputs, ptr arena, ptr status)`` and what it reads and writes.
Leaves: `NativeFunction`, whose results alias nothing but donated arguments.
Invariant: the code runs only on arguments that fit the specs and, where it writes into them, overlap nothing else.

Two paths lead to the code.  The portable one below is the meaning: ctypes, NumPy and nothing else.  The fast one
(`gradc.runtime.entry`) is the same for ordinary arguments, in compiled code, and hands everything unusual to the
portable one.  Start reading at `PortableCall`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NoReturn

import numpy as np

from gradc.codegen.status import INTERRUPTED, WATCHED, kind_of
from gradc.errors import StorageError
from gradc.process import renewed
from gradc.runtime.arena import (
    HEAD,
    Lease,
    LeaseLayout,
    LeasePool,
    aligned_bytes,
    copy_made_by,
    is_made_by,
    make_pools,
)
from gradc.runtime.arrays import (
    Array,
    ArraySpec,
    Span,
    admit,
    argument_names,
    find_conflict,
    is_ready,
    span,
    writable_defect,
)
from gradc.runtime.control_word import runner
from gradc.runtime.entry import CallPlan, Words, open_entry
from gradc.runtime.interrupt import is_stopped, reraise
from gradc.runtime.objects import address as address_of

#: A step expected to run longer than this lets other Python threads run meanwhile.
RELEASE_GIL_SECONDS = 20e-6

Outputs = tuple[Any, ...]
_POINTERS = (ctypes.c_void_p,) * 5
_HOLDING_GIL = ctypes.PYFUNCTYPE(None, *_POINTERS)
_RELEASING_GIL = ctypes.CFUNCTYPE(None, *_POINTERS)


class PortableCall:
    """``call(*arrays, out=None) -> tuple``: the whole meaning of a call of one step, on any Python.

    It knows nothing of the compiled entry, which falls back on it: so no function is part of a cycle, and its code and
    its memory go when the last one who holds it lets go.  See `NativeFunction` for the arguments.
    """

    def __init__(
        self,
        address: int,
        inputs: tuple[ArraySpec, ...],
        outputs: tuple[ArraySpec, ...],
        donated: Mapping[int, int],
        hidden: tuple[Array, ...],
        describe: Callable[[int], Exception],
        mismatch: Callable[[int, object], Exception],
        names: Sequence[str],
        owner: object,
        results_of: type | None,
        releases_gil: bool,
        layout: LeaseLayout,
        refuse: Callable[[str], Exception],
        alone: bool,
        examine: Callable[[int, Callable[[], list[Array]]], Exception] | None,
    ):
        self.address, self.inputs, self.outputs, self.donated = address, inputs, outputs, donated
        self.hidden, self.names, self.releases_gil, self.layout = hidden, names, releases_gil, layout
        self._describe, self._mismatch, self.refuse = describe, mismatch, refuse
        self._owner, self._runner = owner, runner()
        self._examine = examine
        self.results_of = results_of
        self._run = (_RELEASING_GIL if releases_gil else _HOLDING_GIL)(self._runner.address)
        self._donor = {j: i for i, j in donated.items()}
        self.pools = make_pools(outputs)
        self.leases = LeasePool(layout, hidden)
        self._turns = Turns() if alone else None

    def __call__(self, *args: object, out: Sequence[Array | None] | None = None) -> Outputs:
        """The whole meaning of a call, on any Python: check, convert, allocate, run, report."""
        args = self.with_own_memory(args)
        arrays = self.admit(args)
        given = self.check_out(args, out)
        self.check_storage(args, given)
        results = [self._allocate(j) if x is None else x for j, x in enumerate(given)]
        lease = self.leases.take()
        try:
            self.fill(lease, arrays, results)
            self.execute(lease)
        finally:
            self.leases.give(lease)
        return tuple(r[()] if r.ndim == 0 and given[j] is None else r for j, r in enumerate(results))

    def with_own_memory(self, args: Sequence[object]) -> tuple[Any, ...]:
        """The arguments of a call, the donated ones in memory of the step's own that nothing else shares."""
        kind = self.results_of
        if kind is None or len(args) != len(self.inputs):
            return tuple(args)
        taken = list(args)
        for i in self.donated:
            if not is_made_by(kind, taken[i]):
                taken[i] = self._copied(kind, i, taken[i])
        numbers = {name: i for i, name in enumerate(self.names)}
        while conflict := find_conflict(self._spans(taken)):
            i = numbers[conflict[0]]
            before, taken[i] = taken[i], self._copied(kind, i, taken[i])
            if taken[i] is before:
                break
        return tuple(taken)

    def _copied(self, kind: type, i: int, x: object) -> object:
        """A donated argument in new memory; one that does not fit stays, and is told of later."""
        array = admit(x, self.inputs[i])
        return x if array is None else copy_made_by(kind, array)

    def _spans(self, args: Sequence[object]) -> list[Span]:
        return [
            span(x, name, written=i in self.donated)
            for i, (x, name) in enumerate(zip(args, self.names, strict=True))
            if isinstance(x, np.ndarray)
        ]

    # -- the steps of a call -----------------------------------------------------------------------------------------
    def admit(self, args: Sequence[object]) -> list[Array]:
        if len(args) != len(self.inputs):
            raise TypeError(f"{len(self.inputs)} arrays expected, {len(args)} given")
        arrays = []
        for i, (x, spec) in enumerate(zip(args, self.inputs, strict=True)):
            array = admit(x, spec)
            if array is None:
                raise self._mismatch(i, x)
            arrays.append(array)
        return arrays

    def check_out(self, args: Sequence[object], out: Sequence[Array | None] | None) -> list[Array | None]:
        """For each output the array to write into, or None to make one; donated outputs are their donors."""
        given: list[Array | None] = [None] * len(self.outputs) if out is None else list(out)
        if len(given) != len(self.outputs):
            raise TypeError(f"out= takes {len(self.outputs)} arrays or None, {len(given)} given")
        for j, (x, spec) in enumerate(zip(given, self.outputs, strict=True)):
            if j in self._donor:
                given[j] = self._donated_array(args, j, x)
            elif x is not None and (defect := writable_defect(x, spec)):
                raise self.refuse(f"out[{j}] {defect}; pass {_wanted(spec)}, or None")
        return given

    def _donated_array(self, args: Sequence[object], j: int, out: Array | None) -> Array:
        i = self._donor[j]
        x: Any = args[i]
        if out is not None and out is not x:
            raise self.refuse(f"out[{j}] must be None: the result is written into the donated {self.names[i]}")
        if defect := writable_defect(x, self.inputs[i]):
            raise self.refuse(
                f"{self.names[i]} is donated, so its memory is overwritten, but it {defect}; "
                f"pass {_wanted(self.inputs[i])}, or do not donate it"
            )
        array: Array = x
        return array

    def check_storage(self, args: Sequence[object], given: Sequence[Array | None]) -> None:
        """What is written must overlap nothing else that the step reads or writes."""
        written = [(f"out[{j}]", x) for j, x in enumerate(given) if x is not None and j not in self._donor]
        if not written and not self.donated:
            return
        spans = self._spans(args)
        spans += [span(x, name, written=True) for name, x in written]
        if conflict := find_conflict(spans):
            target, other = conflict
            raise self.refuse(
                f"{target} is written in place but shares memory with {other}; pass a copy of one of them"
            )

    def _allocate(self, j: int) -> Array:
        pool = self.pools[j]
        return np.empty(self.outputs[j].shape, self.outputs[j].dtype) if pool is None else pool.take()

    def fill(self, lease: Lease, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        for i, x in enumerate(arrays):
            lease.inputs[i] = address_of(x)
        for j, x in enumerate(results):
            lease.outputs[j] = address_of(x)

    def execute(self, lease: Lease) -> None:
        with self._turns.taken() if self._turns is not None else nullcontext():
            self._execute(lease)

    def _execute(self, lease: Lease) -> None:
        for word in ("status", "deadline", "stopped"):
            lease.head[HEAD.index(word)] = 0
        self._run(self.address, lease.inputs_at, lease.outputs_at, lease.arena_at, lease.address)
        if status := lease.head[0]:
            self.fail(status, lease.address)

    def _arguments(self, lease: int) -> list[Array]:
        """Copies of the arguments of the call with the lease at this address, as they are now."""
        pointers = (ctypes.c_void_p * len(self.inputs)).from_address(lease + self.layout.inputs_at)
        return [
            np.frombuffer(ctypes.string_at(p, s.nbytes) if s.nbytes else b"", s.dtype).reshape(s.shape).copy()
            for p, s in zip(pointers, self.inputs, strict=True)
        ]

    def fail(self, status: int, lease: int) -> NoReturn:
        """Raise what a non-zero status word means, of a call with the lease at this address."""
        if not is_stopped(lease):
            if self._examine is not None and kind_of(status) in WATCHED.values():
                raise self._examine(status, partial(self._arguments, lease))
            raise self._describe(status)
        try:
            reraise(lease)
        except BaseException as error:
            if self.donated and kind_of(status) != INTERRUPTED:
                halves = ", ".join(self.names[i] for i in self.donated)
                error.add_note(
                    f"the step was ended while it updated its donated arrays ({halves}): they hold neither the old "
                    "values nor the new ones"
                )
            raise


class Turns:
    """Calls of one function, one after another: who comes while another runs waits, and others run meanwhile."""

    def __init__(self) -> None:
        self._lock = renewed(self, "_lock", threading.Lock)
        self._holder: int | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Run alone.  RuntimeError on a thread that does so already (in a signal's handler): it would wait for ever."""
        if self._holder == threading.get_ident():
            raise RuntimeError(
                "a function compiled with debug='bounds' runs on this thread already, and was called again before it "
                "ended: call it outside of the signal's handler, or compile it without debug"
            )
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None


class NativeFunction:
    """``fn(*arrays, out=None) -> tuple``: one compiled step.

    ``inputs`` and ``outputs`` describe the arguments and results; ``hidden`` arrays (captured constants that nobody
    writes) follow the inputs in the pointer block.  ``donated`` maps an input's index to the output that takes over its
    storage: that very ndarray comes back, updated in place.  ``describe(status)`` makes the exception for a non-zero
    status word, ``mismatch(index, object)`` the one for an argument of the wrong shape or dtype; both are raised here.
    With ``results_of`` (a `memory_class`) only arrays that the step made itself are updated in place: any other donated
    argument is copied first, and so is one that overlaps another argument; the copies come back.
    ``owner`` is what keeps the code mapped (a `Loaded`); it lives as long as anything made here.  A step with
    ``seconds_estimate`` above 20 µs releases the GIL.

    A 0-d result is a NumPy scalar.  After a failed step the contents of donated and ``out`` arrays are unspecified.
    ``refuse(words)`` makes the `StorageError` for a donated or ``out`` array whose memory cannot be written in place.

    A step that runs ``alone`` must not be called while it runs: its calls take turns, without the compiled entry.

    ``examine(status, arguments)`` makes the exception for a result that must not be as it is; ``arguments()`` copies
    the arguments of the call as they are then, donated ones overwritten.

    ``entry`` is the callable to keep for the shortest way in; calling the object itself goes there too.
    """

    def __init__(
        self,
        address: int,
        inputs: Sequence[ArraySpec],
        outputs: Sequence[ArraySpec],
        arena_bytes: int,
        donated: Mapping[int, int],
        hidden: Sequence[np.ndarray[Any, Any]],
        describe: Callable[[int], Exception],
        mismatch: Callable[[int, object], Exception],
        names: Sequence[str] | None = None,
        *,
        owner: object,
        results_of: type | None = None,
        seconds_estimate: float = 0.0,
        fast: bool = True,
        alone: bool = False,
        examine: Callable[[int, Callable[[], list[Array]]], Exception] | None = None,
        refuse: Callable[[str], Exception] = StorageError,
    ):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.donated = _checked_donation(self.inputs, self.outputs, donated)
        self.names = argument_names(self.inputs, names)
        self.hidden = tuple(np.require(x, x.dtype.newbyteorder("="), ("C", "A")) for x in hidden)
        self.releases_gil = seconds_estimate > RELEASE_GIL_SECONDS
        layout = LeaseLayout(len(self.inputs), len(self.hidden), len(self.outputs), arena_bytes)
        self.portable = PortableCall(
            address, self.inputs, self.outputs, self.donated, self.hidden, describe, mismatch, self.names, owner,
            results_of, self.releases_gil, layout, refuse, alone, examine,
        )  # fmt: skip
        self._entry = open_entry(_plan(self.portable)) if fast and not alone else None
        if self._entry is not None:
            self.portable.leases = self._entry.leases
        self.entry: Callable[..., Outputs] = self._entry.call if self._entry else self.portable

    def __call__(self, *args: object, out: Sequence[Array | None] | None = None) -> Outputs:
        return self.entry(*args) if out is None else self.call_portable(*args, out=out)

    def call_portable(self, *args: object, out: Sequence[Array | None] | None = None) -> Outputs:
        """A call without the compiled entry."""
        return self.portable(*args, out=out)

    @property
    def is_fast(self) -> bool:
        """Whether calls go through the compiled entry."""
        return self._entry is not None

    @property
    def words(self) -> Words | None:
        """The record that the compiled entry reads, where there is one."""
        return self._entry.words if self._entry else None

    def put(self, x: object) -> Array:
        """A copy of an array in this process's memory."""
        return np.array(x, order="C")

    def bind(
        self,
        *args: object,
        out: Sequence[Array | None] | None = None,
        nest: Callable[[Sequence[Any]], Any] = tuple,
    ) -> Callable[[], Any]:
        """A callable without arguments that runs the step on these very buffers and returns the same arrays each time,
        as ``nest`` nests them.

        What is written into the arguments between two calls is seen by the next one; therefore an array that would have
        to be copied raises StorageError, and 0-d results are 0-d arrays.  Python and NumPy scalars are read once.
        Two threads must not run one bound step at the same time; the second gets a RuntimeError.
        """
        portable = self.portable
        args = portable.with_own_memory(args)
        arrays = portable.admit(args)
        for x, spec, name in zip(args, self.inputs, self.names, strict=True):
            if isinstance(x, np.ndarray) and not is_ready(x, spec):
                raise portable.refuse(f"{name}: cannot bind an array that needs a copy; pass {_wanted(spec)}")
        given = portable.check_out(args, out)
        portable.check_storage(args, given)
        results = [_fresh(s) if x is None else x for x, s in zip(given, self.outputs, strict=True)]
        lease = portable.leases.create()
        portable.fill(lease, arrays, results)
        answer = nest(results)
        if self._entry is not None:
            return self._entry.bind(lease, answer, keep=(self, arrays, results))
        return BoundStep(portable, lease, (arrays, results), answer)

    def trim(self) -> None:
        """Give recycled output buffers back to the system."""
        for pool in self.portable.pools:
            if pool is not None:
                pool.clear()


def _plan(call: PortableCall) -> CallPlan:
    return CallPlan(
        address=call.address,
        releases_gil=call.releases_gil,
        inputs=call.inputs,
        outputs=call.outputs,
        donated=call.donated,
        hidden=call.hidden,
        layout=call.layout,
        pools=call.pools,
        slow=call,
        fail=call.fail,
        owner=call.results_of,
    )


class BoundStep:
    """A step with its buffers fixed (see `NativeFunction.bind`), the portable way."""

    def __init__(self, call: PortableCall, lease: Lease, keep: object, answer: object):
        self.call, self.lease, self.answer = call, lease, answer
        self._keep = keep
        self._running = renewed(self, "_running", threading.Lock)

    def __call__(self) -> Any:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("this bound step is already running in another thread; bind one for each thread")
        try:
            self.call.execute(self.lease)
        finally:
            self._running.release()
        return self.answer


def _checked_donation(
    inputs: Sequence[ArraySpec], outputs: Sequence[ArraySpec], donated: Mapping[int, int]
) -> dict[int, int]:
    for i, j in donated.items():
        if (inputs[i].shape, inputs[i].dtype) != (outputs[j].shape, outputs[j].dtype):
            raise ValueError(f"input {i} ({inputs[i]}) cannot become output {j} ({outputs[j]})")
    if len(set(donated.values())) != len(donated):
        raise ValueError("two inputs are donated to one output")
    return dict(donated)


def _fresh(spec: ArraySpec) -> Array:
    return aligned_bytes(spec.nbytes).view(spec.dtype).reshape(spec.shape)


def _wanted(spec: ArraySpec) -> str:
    return f"a plain writable C-contiguous ndarray {spec}"
