"""One kernel of the device: what every emitter of this folder makes of a piece of work.

Enters: nothing.  Leaves: the interface between `emit` and the walkers, and how a thread finds its place.
Start reading at `Step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gradc.codegen.builder import Builder
from gradc.codegen.ir import Lanes, Value
from gradc.codegen.narrow import computed, rounded
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.scalars import Point, Scalars
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Apply

#: Threads of a block, where nothing asks for another number.
BLOCK = 256


class Step(Protocol):
    """Code for ``grid`` blocks of ``block`` threads.

    ``scratch_bytes`` is memory that the steps of one piece of work share, beside the kernel's slots.  ``attributes``
    are LLVM's for the kernel, beyond its block size.
    """

    title: str
    grid: int
    block: int
    scratch_bytes: int
    attributes: str

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        """Write the body of the kernel; ``slots``, ``scratch`` and ``status`` are pointers."""


class DeviceScalars(Scalars):
    """Scalar code of one thread among many: failures are joined by an atomic minimum, so that any order gives one."""

    def _lowered(self, x: Apply, b: Builder, args: Sequence[Value], packed: bool) -> Value:
        """Always in place: on a GPU a call costs more than the room it saves."""
        assert x.op.lower is not None
        result: Value = rounded(b, x.op, x.op.lower(b, *map(computed, args), **dict(x.attrs)), x.dtype)
        return result

    def report(self, bad: Value, kind: int, node: int, point: Point) -> None:
        if point.mask is not None and bad.lanes > 1:
            bad = self.many.and_(bad, point.mask)
        with self.f.when(self.one.any(bad)):
            self.f.line(f"atomicrmw umin ptr {self.status}, i64 {node << 8 | kind} monotonic, align 8")


def global_number(thread: Thread, block: int, total: int) -> Value:
    """The number of the thread in the grid, in 32 bits if ``total`` of them fit."""
    b, dtype = thread.b, "uint32" if total < 2**31 else "int64"
    first = b.mul(b.convert(thread.block(), dtype), block)
    return b.add(first, b.convert(thread.number(), dtype))


def spread(b: Lanes, number: Value, variables: Sequence[Var], point: Point) -> Point:
    """``point`` with ``variables`` at their values for the row-major ``number`` of their index."""
    inside = point.enter()
    for k, var in reversed(list(enumerate(variables))):
        here = number if k == 0 else b.irem(number, var.extent)
        inside.variables[var] = b.convert(here, "int64")
        if k:
            number = b.idiv(number, var.extent)
    return inside


def blocks(total: int, size: int) -> int:
    return -(-total // size)


def threads_for(total: int) -> int:
    """Threads of a block for ``total`` of them in all: whole warps, no more than needed."""
    return min(BLOCK, blocks(total, 32) * 32)
