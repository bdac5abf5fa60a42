"""Looking inside a compiled function: what its kernels cost, and how source, formulas, graph and code hang together.

Enters: what the stages before made — graphs, schedules, IR, assembly.  Leaves: a `Profile`, and one HTML page.
Start reading at `gradc.explorer.profile` and `gradc.explorer.page`.
"""

from __future__ import annotations
