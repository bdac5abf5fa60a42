"""Factorisations of matrices, and solving with them: code for `gradc.schedule.factor.Factor`.

Enters: work.  Leaves: functions of a module.  Start reading at `emit`, then at one algorithm; small matrices are done
side by side (`side`), others alone (`rows`), where `update` does nearly all arithmetic of large ones.
"""

from __future__ import annotations

from gradc.codegen.factor.emit import Factors, scratch_bytes

__all__ = ["Factors", "scratch_bytes"]
