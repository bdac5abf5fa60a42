"""The fast way into a compiled step: a built-in function made at run time, where this interpreter allows it.

Enters: a `CallPlan`.  Leaves: `Entry`, whose ``call`` is a C-level builtin, or None where only the portable way works.
Invariant: an entry does exactly what the plan's ``slow`` callable would do, or calls it.  Nothing is trusted before
`objects.probe` and a rehearsal have passed.  Start reading at `open_entry`.

A builtin is a PyMethodDef and a ``self``.  Ours is an ndarray of words (the context that `entry_code` reads) which also
carries, as Python attributes, everything that must live as long as the builtin does.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gradc.errors import CompileError
from gradc.process import once
from gradc.runtime import entry_code as code
from gradc.runtime import objects
from gradc.runtime.arena import Lease, LeaseLayout, LeasePool, OutputPool, make_pools
from gradc.runtime.arrays import Array, ArraySpec
from gradc.runtime.control_word import host_arch
from gradc.runtime.dispatch_code import DISPATCH, emit_dispatching
from gradc.runtime.load import load
from gradc.runtime.objects import address
from gradc.runtime.python_code import PythonModule

_METH_FASTCALL_KEYWORDS, _METH_NOARGS = 0x82, 0x4


class _MethodDef(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("meth", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class Words(np.ndarray[Any, Any]):
    """A record of words that compiled code reads; ``keep`` holds every object they point to."""

    keep: tuple[object, ...]


def make_words(names: Sequence[str], values: Mapping[str, int], keep: tuple[object, ...]) -> Words:
    """A record with these values, in the order of ``names``."""
    words = np.array([values[name] for name in names], np.int64).view(Words)
    words.keep = keep
    return words


@dataclass(frozen=True)
class CallPlan:
    """What an entry has to know of a step. ``slow`` does a whole call, ``fail(status, lease)`` raises."""

    address: int
    releases_gil: bool
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    donated: Mapping[int, int]
    hidden: tuple[Array, ...]
    layout: LeaseLayout
    pools: Sequence[OutputPool | None]
    slow: Callable[..., Any]
    fail: Callable[[int, int], Any]
    owner: type | None = None  #: class of the base that a donated array must have


@dataclass(frozen=True)
class Machinery:
    """The loaded entry module, process-wide. Method definitions must never move or die: builtins point to them."""

    call: _MethodDef
    bound: _MethodDef
    dispatch: _MethodDef
    take: Callable[[int], int]
    give: Callable[[int, int], int]
    probe_address: int
    keep: object


class SharedLeases(LeasePool):
    """A free list that Python and the compiled entry both use; every change is one call under the GIL."""

    def __init__(self, layout: LeaseLayout, hidden: Sequence[Array], machinery: Machinery, context: Words):
        super().__init__(layout, hidden)
        self._machinery = machinery
        self._context_at = address(context)
        self._known: dict[int, Lease] = {}
        self._tickets = itertools.count()

    def take(self) -> Lease:
        if found := self._machinery.take(self._context_at):
            return self._known[found]
        lease = self.create()
        if next(self._tickets) < code.LEASE_ROOM:
            self._known[lease.address] = lease
        return lease

    def give(self, lease: Lease) -> None:
        if lease.address in self._known:
            self._machinery.give(self._context_at, lease.address)


class Entry:
    """The compiled entry of one step: ``call(*arrays) -> tuple`` and the leases it shares with the portable path.

    ``words`` is the record that compiled code reads."""

    def __init__(self, plan: CallPlan, machinery: Machinery):
        self._plan, self._machinery = plan, machinery
        self.words = _fill_context(plan, plan.slow)
        self.leases = SharedLeases(plan.layout, plan.hidden, machinery, self.words)
        self.words.keep += (self.leases,)
        self.call = make_builtin(machinery.call, self.words)

    def bind(self, lease: Lease, answer: object, keep: object) -> Callable[[], Any]:
        """A builtin without arguments that runs the step on a filled lease and returns ``answer``."""
        context = _fill_context(self._plan, _refuse_busy)
        leases = context.keep[0]
        assert isinstance(leases, np.ndarray)
        leases[0] = lease.address
        context[code.CONTEXT.index("lease_count")] = 1
        context[code.CONTEXT.index("result")] = id(answer)
        context.keep += (lease, answer, keep)
        return make_builtin(self._machinery.bound, context)


def open_entry(plan: CallPlan) -> Entry | None:
    """The compiled entry for a step, or None if this interpreter's objects are not the ones it can read."""
    machinery = get_machinery()
    return None if machinery is None else Entry(plan, machinery)


@once
def get_machinery() -> Machinery | None:
    """The loaded module, or None if this interpreter's objects are not the ones it can read."""
    model = objects.probe()
    if model is None:
        return None
    try:
        loaded = load(
            module_text(),
            code.CALL,
            exports=(code.BOUND, code.TAKE, code.GIVE, code.PROBE, DISPATCH),
            symbols=model.symbols,
        )
    except CompileError:  # an LLVM without a working in-memory linker here; the portable path needs none of ours
        return None
    at = loaded.addresses
    word = ctypes.c_int64
    machinery = Machinery(
        call=_MethodDef(b"step", at[code.CALL], _METH_FASTCALL_KEYWORDS, b"Run the compiled step on arrays."),
        bound=_MethodDef(b"bound_step", at[code.BOUND], _METH_NOARGS, b"Run the compiled step on its bound arrays."),
        dispatch=_MethodDef(DISPATCH.encode(), at[DISPATCH], _METH_FASTCALL_KEYWORDS, b"Call the compiled function."),
        take=ctypes.PYFUNCTYPE(word, word)(at[code.TAKE]),
        give=ctypes.PYFUNCTYPE(word, word, word)(at[code.GIVE]),
        probe_address=at[code.PROBE],
        keep=loaded,
    )
    return machinery if _rehearse(machinery) else None


@cache
def module_text() -> str:
    """The module that handles calls, the same for every process on machines of one architecture."""
    module = PythonModule()
    code.emit_entry(module, host_arch())
    emit_dispatching(module)
    return str(module)


@cache
def _make_function() -> Callable[..., Any]:
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))


def make_builtin(definition: _MethodDef, context: Words) -> Callable[..., Any]:
    builtin: Callable[..., Any] = _make_function()(ctypes.addressof(definition), context, None)
    return builtin


# -- tables ----------------------------------------------------------------------------------------------------------
def _fill_context(plan: CallPlan, slow: Callable[..., Any]) -> Words:
    """The words of `entry_code.CONTEXT` for a step, with no lease yet; ``keep[0]`` is the lease stack."""
    leases = np.zeros(code.LEASE_ROOM, np.int64)
    seen = np.zeros(len(plan.inputs), np.int64)
    extents = [np.array((*spec.shape, 0), np.int64) for spec in (*plan.inputs, *plan.outputs)]
    inputs = _table([_input_row(plan, i, extents[i]) for i in range(len(plan.inputs))])
    outputs = _table([_output_row(plan, j, extents[len(plan.inputs) + j]) for j in range(len(plan.outputs))])
    layout = plan.layout
    words = {
        "kernel": plan.address, "release": plan.releases_gil, "slow": id(slow), "fail": id(plan.fail),
        "ndarray": id(np.ndarray), "float": id(float), "int": id(int),
        "inputs": len(plan.inputs), "outputs": len(plan.outputs), "donated": len(plan.donated),
        "input_specs": address(inputs), "output_specs": address(outputs), "seen": address(seen),
        "leases": address(leases), "lease_count": 0, "scalars_at": layout.scalars_at, "inputs_at": layout.inputs_at,
        "outputs_at": layout.outputs_at, "objects_at": layout.objects_at, "arena_at": layout.arena_at, "result": 0,
    }  # fmt: skip
    return make_words(code.CONTEXT, words, (leases, seen, extents, inputs, outputs, plan, slow))


def _table(rows: list[list[int]]) -> Array:
    return np.array(rows or [[0]], np.int64)


def _input_row(plan: CallPlan, i: int, extents: Array) -> list[int]:
    spec, donated = plan.inputs[i], i in plan.donated
    readable_scalar = not spec.shape and not donated
    words = {
        "descr": id(spec.dtype),
        "ndim": len(spec.shape),
        "dims": address(extents),
        "flags": objects.C_CONTIGUOUS | objects.ALIGNED | (objects.WRITEABLE if donated else 0),
        "scalar_type": id(spec.dtype.type) if readable_scalar else 0,
        "number": code.NUMBERS.get(spec.dtype.name, 0) if readable_scalar else 0,
        "nbytes": spec.nbytes,
        "donated": donated,
        "owner": id(plan.owner) if donated and plan.owner is not None else 0,
    }
    return [int(words[name]) for name in code.INPUT]


def _output_row(plan: CallPlan, j: int, extents: Array) -> list[int]:
    spec, pool = plan.outputs[j], plan.pools[j]
    donor = {j: i for i, j in plan.donated.items()}.get(j)
    if donor is not None:
        kind = code.DONATED
    elif not spec.shape:
        kind = code.SCALAR
    else:
        kind = code.FRESH if pool is None else code.POOLED
    words = {
        "kind": kind,
        "descr": id(spec.dtype),
        "ndim": len(spec.shape),
        "dims": address(extents),
        "donor": donor or 0,
        "slots": 0 if pool is None else address(pool.slots),
    }
    return [words[name] for name in code.OUTPUT]


def _refuse_busy() -> None:
    raise RuntimeError("this bound step is already running in another thread; bind one for each thread")


# -- rehearsal -------------------------------------------------------------------------------------------------------
class _Slow(Exception):  # noqa: N818 - a signal of the rehearsal, never seen outside
    """The entry went the slow way."""


def _rehearse(machinery: Machinery) -> bool:
    """Run the entry on a step whose answer is known, through each way a result is made, and count references."""
    double = np.dtype(np.float64)
    inputs = (ArraySpec((2,), double), ArraySpec((), double))
    outputs = (ArraySpec((2,), double), ArraySpec((), double), ArraySpec((1 << 14,), double))
    pools = make_pools(outputs)

    def slow(*args: object) -> None:
        raise _Slow

    def fail(status: int, lease: int) -> None:
        raise ZeroDivisionError(status)

    layout = LeaseLayout(len(inputs), 0, len(outputs), 0)
    plan = CallPlan(machinery.probe_address, True, inputs, outputs, {}, (), layout, pools, slow, fail)
    entry = Entry(plan, machinery)
    entry.leases.give(entry.leases.take())
    x, scale = np.array([1.0, 2.0]), np.float64(3.0)
    return _answers_right(entry, pools, x, scale) and _keeps_counts(entry, x, scale) and _raises_right(entry, x)


def _answers_right(entry: Entry, pools: Sequence[OutputPool | None], x: Array, scale: np.float64) -> bool:
    pool = pools[2]
    assert pool is not None
    pool.take()
    for s in (scale, 3.0, 3, np.array(3.0)):
        y, copy, large = entry.call(x, s)
        right = y.tolist() == [3.0, 6.0] and y.base is None and y.flags.carray
        right = right and type(copy) is np.float64 and copy == 3.0
        right = (
            right and large.shape == (1 << 14,) and large[0] == 3.0 and large.base is not None and large.flags.carray
        )
        if not right:
            return False
        del large
    return True


def _keeps_counts(entry: Entry, x: Array, scale: np.float64) -> bool:
    """Whether calls leave the reference counts alone of objects that no other thread can know."""
    watched = (x, scale, entry.call)
    before = [sys.getrefcount(w) for w in watched]
    for _ in range(16):
        entry.call(x, scale)
    return [sys.getrefcount(w) for w in watched] == before


def _raises_right(entry: Entry, x: Array) -> bool:
    for args, expected in (((x, 0.0), ZeroDivisionError), ((x[::-1], 1.0), _Slow), ((x, None), _Slow), ((x,), _Slow)):
        try:
            entry.call(*args)
        except (ZeroDivisionError, _Slow) as error:
            if type(error) is not expected:
                return False
        else:
            return False
    return True
