"""Elementary functions as lane arithmetic: no library call, the same arithmetic on every CPU and on PTX.

Enters: `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: valid for one lane or many, within the bound that the op's record states for every argument (`Op.ulp`), and
branch-free but for rare arguments of the trigonometric functions.  Where a target has no FMA the error is up to a third
larger than where it has; the bounds cover both.  Where AVX-512 has one instruction for several of that arithmetic, with
the same bits, it is taken (`avx512`).
Start reading at `exponential.Exponential.exp`.
"""

from __future__ import annotations

from gradc.codegen.elementary.counts import Counts
from gradc.codegen.elementary.fused import Fused
from gradc.codegen.elementary.number_format import NumberFormat
from gradc.codegen.elementary.power import Power
from gradc.codegen.elementary.stumpff import Stumpff
from gradc.codegen.elementary.written import Written


class Elementary(Fused, Counts, Stumpff, Power, NumberFormat, Written):
    """All elementary functions, as methods of a `Lanes`."""
