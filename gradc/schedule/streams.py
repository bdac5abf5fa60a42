"""Long arrays that a loop reads once from end to end: their lines are asked for before they are used.

Enters: a nest with its lanes chosen.  Leaves: the same nest; each `Load` of such an array says how far it reads ahead.
Invariant: what is computed does not change, and nothing is read that the loop would not read, but for lines behind the
end of an array, which a CPU forgets without a fault.  Start reading at `reading_ahead`.

A CPU finds by itself that a loop reads line after line, but begins anew with every page; without help a row reduction
reads at three quarters of the speed of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradc.schedule.affine import Affine, Var
from gradc.schedule.kernel import Instruction, Load, Nest
from gradc.schedule.lanes import Widths, in_order

#: Shorter arrays are likely to be near already.
LONG_BYTES = 1 << 20


def reading_ahead(nest: Nest, widths: Widths) -> Nest:
    """``nest`` with its long loads marked; together they read ``widths.ahead_bytes`` ahead."""
    if not widths.ahead_bytes or nest.lane is None or nest.sequential or not _only_reads(nest):
        return nest
    long = [k for k, x in enumerate(nest.code) if isinstance(x, Load) and _is_stream(x, nest)]
    if not long:
        return nest
    each = widths.ahead_bytes // len(long)
    code: list[Instruction] = list(nest.code)
    for k in long:
        x = nest.code[k]
        assert isinstance(x, Load)
        code[k] = replace(x, ahead=each // np.dtype(x.dtype).itemsize)
    return replace(nest, code=tuple(code))


def _only_reads(nest: Nest) -> bool:
    """Whether the loops read and reduce: stores beside them compete for the same caches, and then nothing is gained."""
    return not any(in_order(s) or (s.stores and (s.inner or nest.across)) for s in nest.stages)


def _is_stream(x: Load, nest: Nest) -> bool:
    """Whether a load walks through a long array without gaps, the lanes innermost."""
    assert nest.lane is not None
    inner = [v for s in nest.stages for v in s.inner]
    if nest.across and not x.offset.variables.isdisjoint(inner):
        return False
    around = (*nest.outer, *(() if nest.across else dict.fromkeys(inner)))
    return _run(x.offset, nest.lane, around) * np.dtype(x.dtype).itemsize >= LONG_BYTES


def _run(offset: Affine, lane: Var, around: Sequence[Var]) -> int:
    """How many neighbouring elements are read one after another."""
    if offset.coefficient(lane) != 1:
        return 0
    run = lane.extent
    for var in reversed([v for v in around if v != lane]):
        if offset.coefficient(var) != run:
            break
        run *= var.extent
    return run
