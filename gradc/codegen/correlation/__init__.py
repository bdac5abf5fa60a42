"""Products over sliding windows, straight from the array that the windows slide over: no window is ever copied.

Enters: a `Correlation` of a schedule.  Leaves: one function, and the tiles that it calls.
Invariant: the order of every sum is a function of shapes, strides and target, never of addresses: the summed axes are
walked outermost first; in a tile whose lanes lie along the result each element is one FMA chain that starts from zero,
in a tile whose lanes lie along a summed axis each lane is one, and the lanes are joined by a binary tree.

`plan` chooses the axis of the lanes and the tile, `tile` has the register kernels, `emit` the loops around them.
Start reading at `plan.make_plan`.
"""

from __future__ import annotations

from gradc.codegen.correlation.emit import emit_correlation, shared_extent

__all__ = ["emit_correlation", "shared_extent"]
