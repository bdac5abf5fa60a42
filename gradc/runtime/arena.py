"""Memory that is ours and lives longer than a call: leases (scratch and pointer blocks) and recycled output buffers.

Enters: sizes.  Leaves: `Lease`, everything one running call needs, and ndarrays over buffers nobody else can see.
Invariant: a lease belongs to one running call at a time; a buffer is handed out again only when no array, view or
buffer export of it is left.  Start reading at `LeasePool`, then `OutputPool`.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.process import cached_property, renewed
from gradc.runtime.arrays import Array, ArraySpec
from gradc.runtime.objects import address

ALIGNMENT = 64
#: Scratch is zeroed in parts of so many bytes, some milliseconds each where nobody has touched the pages.
ZEROED_BYTES = 8 * 2**20
#: Below this the allocator recycles without giving pages back, and a plain np.empty is cheaper than a pool.
POOLED_BYTES = 64 * 1024
#: A function keeps at most this much of dropped results for itself.
POOL_LIMIT = 512 * 2**20
#: Two, so that ``y = f(x)`` in a loop, which holds the last result during the call, runs without fresh memory.
BUFFERS_PER_OUTPUT = 2
WORD = 8
#: The words at the head of a lease: the status word, and behind it where the head lies, for code that looks whether to
#: end, with what `gradc.runtime.interrupt` keeps of that.
HEAD = ("status", "head", "deadline", "stopped", "type", "value", "traceback", "")
#: Room for one 0-d value of any dtype.
SCALAR_ROOM = 16


def aligned_bytes(size: int) -> Array:
    """``size`` fresh bytes from a 64-byte boundary on; the base of the result owns the memory."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size]


@dataclass(frozen=True)
class LeaseLayout:
    """Byte offsets inside a lease: its head, 0-d values, input, output and object pointers, then the arena."""

    inputs: int
    hidden: int
    outputs: int
    arena_bytes: int

    @property
    def scalars_at(self) -> int:
        return WORD * len(HEAD)

    @cached_property
    def inputs_at(self) -> int:
        return self.scalars_at + SCALAR_ROOM * (self.inputs + self.outputs)

    @cached_property
    def outputs_at(self) -> int:
        return self.inputs_at + WORD * (self.inputs + self.hidden)

    @cached_property
    def objects_at(self) -> int:
        """Where the compiled entry collects the result objects of a call."""
        return self.outputs_at + WORD * self.outputs

    @cached_property
    def arena_at(self) -> int:
        end = self.objects_at + WORD * self.outputs
        return end + -end % ALIGNMENT


class Lease:
    """One call's private block. Its addresses are fixed for life; pointers to captured constants are written once."""

    def __init__(self, layout: LeaseLayout, hidden: Sequence[Array]):
        self.block = aligned_bytes(layout.arena_at + layout.arena_bytes)
        # Vector code that meets a page nobody has touched, under a mask, takes a microcode path several times slower.
        for start in range(0, self.block.size, ZEROED_BYTES):  # an exception out of a handler comes between two parts
            self.block[start : start + ZEROED_BYTES].fill(0)
        self.address = address(self.block)
        self.inputs_at = self.address + layout.inputs_at
        self.outputs_at = self.address + layout.outputs_at
        self.arena_at = self.address + layout.arena_at
        self.head = (ctypes.c_int64 * len(HEAD)).from_address(self.address)
        self.head[HEAD.index("head")] = self.address
        self.inputs = (ctypes.c_void_p * (layout.inputs + layout.hidden)).from_address(self.inputs_at)
        self.outputs = (ctypes.c_void_p * layout.outputs).from_address(self.outputs_at)
        for k, x in enumerate(hidden):
            self.inputs[layout.inputs + k] = address(x)


class LeasePool:
    """A free list of leases: as many exist as calls ever ran at once."""

    def __init__(self, layout: LeaseLayout, hidden: Sequence[Array]):
        self.layout = layout
        self._hidden = hidden
        self._free: list[Lease] = []

    def take(self) -> Lease:
        try:
            return self._free.pop()
        except IndexError:
            return self.create()

    def create(self) -> Lease:
        """A lease of its own for a caller that keeps it."""
        return Lease(self.layout, self._hidden)

    def give(self, lease: Lease) -> None:
        self._free.append(lease)


def _idle_count() -> int | None:
    """What `sys.getrefcount` says of an object held by one list only; None where counts do not tell (PyPy, no GIL)."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or not hasattr(sys, "getrefcount"):
        return None
    probe = [object()]
    return sys.getrefcount(probe[0])


_IDLE = _idle_count()


class OutputPool:
    """Recycled storage of one large output.

    A result is a fresh ndarray over an owner buffer that this pool also holds. Every view and every buffer export of
    the result keeps the owner alive, so the owner's reference count says whether the caller has let go.

    ``slots`` is a (BUFFERS_PER_OUTPUT, 2) int64 array of (owner's id, data address) for readers that run under the GIL:
    a slot's id is zero whenever its owner is not safely held here or is being claimed.
    """

    def __init__(self, spec: ArraySpec):
        self.spec = spec
        self.slots = np.zeros((BUFFERS_PER_OUTPUT, 2), np.int64)
        self._owners: list[Array | None] = [None] * BUFFERS_PER_OUTPUT
        self._lock = renewed(self, "_lock", threading.Lock)
        self._victim = 0

    def take(self) -> Array:
        """An array of the output's shape and dtype over memory that nobody else holds."""
        # Never wait: the lock may be held further down this very stack, by a call that a finalizer interrupted.
        if not self._lock.acquire(blocking=False):
            return np.empty(self.spec.shape, self.spec.dtype)
        try:
            return self._take()
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Let go of all buffers that no call is claiming now; results that callers hold stay valid."""
        if self._lock.acquire(blocking=False):
            try:
                self.slots[:, 0] = 0
                self._owners = [None] * BUFFERS_PER_OUTPUT
            finally:
                self._lock.release()

    def _take(self) -> Array:
        for k in range(BUFFERS_PER_OUTPUT):
            result = self._reuse(k)
            if result is not None:
                return result
        self._victim = (self._victim + 1) % BUFFERS_PER_OUTPUT
        return self._replace(self._victim)

    def _reuse(self, k: int) -> Array | None:
        published, self.slots[k, 0] = int(self.slots[k, 0]), 0
        result = None
        if published and sys.getrefcount(self._owners[k]) == _IDLE:
            result = self._wrap(self._owners[k], int(self.slots[k, 1]))
        self.slots[k, 0] = published
        return result

    def _replace(self, k: int) -> Array:
        self.slots[k, 0] = 0
        owner = np.empty(self.spec.nbytes + ALIGNMENT, np.uint8)
        start = address(owner)
        self._owners[k] = owner
        self.slots[k, 1] = start + -start % ALIGNMENT
        result = self._wrap(owner, int(self.slots[k, 1]))
        self.slots[k, 0] = id(owner)
        return result

    def _wrap(self, owner: Array | None, start: int) -> Array:
        assert owner is not None
        return np.ndarray(self.spec.shape, self.spec.dtype, buffer=owner, offset=start - address(owner))


def make_pools(outputs: Sequence[ArraySpec]) -> list[OutputPool | None]:
    """A pool for every output that is worth one, as long as together they keep less than `POOL_LIMIT`."""
    pools: list[OutputPool | None] = []
    left = POOL_LIMIT if _IDLE is not None else 0
    for spec in outputs:
        cost = BUFFERS_PER_OUTPUT * spec.nbytes
        pooled = spec.nbytes >= POOLED_BYTES and cost <= left
        left -= cost if pooled else 0
        pools.append(OutputPool(spec) if pooled else None)
    return pools


# -- memory that a step made -------------------------------------------------------------------------------------------


def memory_class() -> type:
    """A class of its own for the memory of one step's results: an array is such a result if its base is one of it.

    NumPy makes the array itself the base of its views, so a view of a result is none.
    """
    return type("Memory", (np.ndarray,), {})


def is_made_by(kind: type, x: object) -> bool:
    """Whether ``x`` is an array in memory of this class."""
    return type(x) is np.ndarray and type(x.base) is kind


def copy_made_by(kind: Any, x: Array) -> Array:
    """``x`` in new memory of this class, at an address that vector loads like."""
    raw = np.ndarray.__new__(kind, (x.nbytes + ALIGNMENT,), np.uint8)
    skip = -address(raw) % ALIGNMENT
    made: Array = raw[skip : skip + x.nbytes].view(x.dtype).reshape(x.shape).view(np.ndarray)
    made[...] = x
    return made
