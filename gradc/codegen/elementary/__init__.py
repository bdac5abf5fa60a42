"""Elementary functions as lane arithmetic: no library call, the same arithmetic on every CPU and on PTX.

Enters: `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: valid for one lane or many, within the bound that `ULP` states for every argument, and branch-free but for
rare arguments of the trigonometric functions.  Where AVX-512 has one instruction for several of that arithmetic, with
the same bits, it is taken (`avx512`).
Start reading at `exponential.Exponential.exp`.
"""

from __future__ import annotations

from gradc.codegen.elementary import exponential, polygamma, power, special, stumpff, trigonometric
from gradc.codegen.elementary.polygamma import Polygamma
from gradc.codegen.elementary.power import Power
from gradc.codegen.elementary.stumpff import Stumpff


class Elementary(Polygamma, Stumpff, Power):
    """All elementary functions, as methods of a `Lanes`."""


#: function -> dtype -> largest error in units in the last place of the exact result, over all arguments.
ULP: dict[str, dict[str, float]] = {
    **exponential.ULP,
    **power.ULP,
    **trigonometric.ULP,
    **special.ULP,
    **polygamma.ULP,
    **stumpff.ULP,
}
