"""The end of a product: each sum goes through the epilogue, and out.

Enters: sums, and the places of the result that they belong to.  Leaves: stores.
Invariant: nothing is done for a place past an edge.  Start reading at `Finish.store`.
"""

from __future__ import annotations

from dataclasses import replace

from gradc.codegen import memory
from gradc.codegen.ir import Value
from gradc.codegen.ptx.each import aligned_rows
from gradc.codegen.ptx.operand import in_rows
from gradc.codegen.ptx.problem import Problem, place_in
from gradc.codegen.ptx.step import DeviceScalars
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.scalars import Point
from gradc.schedule.kernel import Total


def store_width(p: Problem, most: int) -> int:
    """How many neighbouring columns, ``most`` or one, can be finished and stored at once."""
    if not in_rows(p.out, p.out.second, most):
        return 1
    e = p.epilogue
    return most if e is None or aligned_rows(e.nest, e.column, most) else 1


class Finish:
    """Stores of one thread for the batch index ``batch``, of ``lanes`` neighbouring columns at a time."""

    def __init__(self, thread: Thread, p: Problem, lanes: int, slots: list[str], status: str, batch: Value, out: str):
        self.thread, self.f, self.b = thread, thread.f, thread.b
        self.p, self.lanes, self.slots, self.status, self.batch, self.out = p, lanes, slots, status, batch, out

    def store(self, value: Value, row: Value, column: Value) -> None:
        """The sums of the elements from (row, column) on."""
        b, out = self.b, self.p.out
        if self.p.epilogue is not None:
            finished = self._epilogue(value, row, column)
            if finished is None:
                return
            value = finished
        offset = b.add(place_in(b, out.first, row), place_in(b, out.second, column))
        memory.store(self.f, value, memory.offset_pointer(self.f, self.out, offset, self.p.dtype), aligned=True)

    def _epilogue(self, value: Value, row: Value, column: Value) -> Value | None:
        """What the epilogue makes of the elements, its own stores done; None where that is all."""
        e = self.p.epilogue
        assert e is not None
        scalars = DeviceScalars(self.f, replace(e.nest, lanes=self.lanes, packs=()), self.slots, self.status)
        scalars.aligned = True
        place = ((e.batch, self.batch), (e.row, row), (e.column, column))
        point = Point({var: v for var, v in place if var is not None})
        (element,) = (k for k, x in enumerate(e.nest.code) if isinstance(x, Total))
        scalars.set(element, value, point)
        (stage,) = e.nest.stages
        scalars.advance(e.nest.needed(stage), point)
        for store in stage.stores:
            scalars.store(store, point)
        return value if e.result < 0 and self.p.kept else None
