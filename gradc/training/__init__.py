"""Training runs: the loop around a compiled step, what it measures, and what looks on.

Start reading at `History`, the table of a run, and `picture`, in which it is drawn.
"""

from __future__ import annotations

from gradc.training.history import History

__all__ = ["History"]


def __dir__() -> list[str]:
    return sorted(__all__)
