"""Event files for TensorBoard, written through the package tensorboardX.

Enters: a run.  Leaves: files in a folder that ``tensorboard --logdir`` reads.  Start reading at `TensorBoard`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gradc.node import here
from gradc.training.callbacks import Callback

if TYPE_CHECKING:
    from gradc.training.run import Run


class TensorBoard(Callback):
    """Writes each new row of the history into ``folder`` as scalars, under the names of the columns.

    Raises ImportError, with the command that installs it, where tensorboardX is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                f"{here()}: TensorBoard needs the package tensorboardX: pip install 'gradc[tensorboard]'"
            ) from None
        self.folder = os.fspath(folder)
        self._make: Any = SummaryWriter
        self._writer: Any = None
        self._written: dict[str, int] = {}

    def on_begin(self, run: Run) -> None:
        """Open the file; of a resumed run only new rows are written."""
        self._writer = self._make(self.folder)
        last = int(run.history.steps[-1]) if len(run.history) else 0
        self._written = dict.fromkeys(run.history.columns, last)

    def on_step(self, run: Run) -> None:
        """Write what the step measured."""
        if len(run.history) and run.history.last_step == run.step:
            self._add(run.step, {"loss": run.loss, **run.numbers})

    def on_epoch(self, run: Run) -> None:
        """Write what validation and metrics measured."""
        newest = run.history.newest()
        self._add(run.step, {name: value for name, value in newest.items() if name != "step"})
        self._writer.flush()

    def _add(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            if self._written.get(name, 0) < step:
                self._written[name] = step
                self._writer.add_scalar(name, value, step)

    def on_end(self, run: Run) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


__all__ = ["TensorBoard"]
