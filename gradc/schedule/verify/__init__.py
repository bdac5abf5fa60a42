"""A proof that a finished schedule computes on the values that it means to.

Enters: a `Schedule`.  Leaves: nothing, or a `ScheduleError` that names the kernel, the buffer and the user's line.
Invariant: nothing of planning is asked or believed.  Each kernel's reads, writes and their order are derived again from
its own loops, and the bytes behind every buffer are followed from kernel to kernel.  It is proved that

- what is read has been written, and nothing else was written over it in between; inputs hold their values until the
  output that was given their storage is written, and other inputs and constants are never written;
- a buffer written over one that the same kernel reads is written at each place in the very step that read it, or later;
- every access stays inside of its buffer, and every buffer inside of its memory; outputs are written as a whole and
  share bytes with nothing but the input that was given to them;
- pieces of work that threads do at once write apart, and read nothing that another piece writes;
- the same of the bodies of loops and branches, on the memory that the work around them hands in.

Start reading at `verify`; `gradc.schedule.verify.walk` follows memory, `accesses` derives reads and writes, `steps`
compares their order, `pieces` looks at threads.
"""

from __future__ import annotations

from gradc.graph import Graph
from gradc.ops.control import every_node
from gradc.schedule.plan import Schedule
from gradc.schedule.verify.walk import Frame, Walk

__all__ = ["verify"]


def verify(schedule: Schedule, graph: Graph | None = None) -> None:
    """Raise ScheduleError unless every kernel of ``schedule`` reads what it is meant to read.

    ``graph`` is what was scheduled: errors then name the user's lines.
    """
    lines = {number: node.where for node, number in every_node(graph).items()} if graph is not None else {}
    frame = Frame(
        schedule.kernels, schedule.buffers, schedule.inputs, schedule.outputs, dict(schedule.donated),
        schedule.temporary_bytes,
    )  # fmt: skip
    Walk(frame, lines).run()
