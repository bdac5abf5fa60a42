"""Training runs: the loop around a compiled step, what it measures, and what looks on.

Start reading at `gradc.training.loop`; a `Run` is what comes out, `History` the table of what it measured, and
`picture` draws it.
"""

from __future__ import annotations

from gradc.training.callbacks import Callback, EarlyStopping
from gradc.training.history import History
from gradc.training.loop import fit
from gradc.training.monitor import HealthMonitor
from gradc.training.picture import Picture
from gradc.training.progress import Progress
from gradc.training.run import Best, Run
from gradc.training.tensorboard import TensorBoard

__all__ = [
    "Best", "Callback", "EarlyStopping", "HealthMonitor", "History", "Picture", "Progress", "Run", "TensorBoard", "fit",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)
