"""What looks on while a run trains, and may end it.

Enters: a `gradc.training.Run` after each call of the step, each epoch, and at both ends.  Leaves: whatever a callback
does; `Run.stop` ends the training.  Invariant: what a callback must know to go on in a resumed run is in its `record`.
Start reading at `Callback`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradc.data.minibatches import checked_size
from gradc.node import here

if TYPE_CHECKING:
    from gradc.training.run import Run


class Callback:
    """A base class whose methods do nothing; override those that you need.

    They may read everything of the run (`Run.params`, `Run.step`, `Run.history` …) and end it with ``run.stop("why")``.
    """

    def on_begin(self, run: Run) -> None:
        """Called before the first step, with what was resumed in place."""

    def on_step(self, run: Run) -> None:
        """Called after each native call: each step, or each ``steps_per_call`` of them."""

    def on_epoch(self, run: Run) -> None:
        """Called after each epoch and after each validation, with the newest numbers in ``run.history``."""

    def on_end(self, run: Run) -> None:
        """Called at the end, whatever ended it."""

    def record(self) -> Any:
        """A JSON value from which `restore` goes on; it is part of every checkpoint."""
        return None

    def restore(self, record: Any) -> None:
        """Go on from what `record` returned."""


class EarlyStopping(Callback):
    """Ends the run when ``monitor``, a column of the history, has not got better ``patience`` times in a row.

    Better is less by more than ``min_delta`` (``mode="max"``: more by that).  It is looked at once an epoch or
    validation.

    >>> import gradc as gc
    >>> gc.training.EarlyStopping(patience=3)
    EarlyStopping(monitor='validation_loss', patience=3)
    """

    def __init__(
        self, monitor: str = "validation_loss", patience: int = 5, min_delta: float = 0.0, mode: str = "min"
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"{here()}: EarlyStopping: mode is 'min' or 'max', got {mode!r:.40}")
        if not min_delta >= 0:
            raise ValueError(f"{here()}: EarlyStopping: min_delta is not negative, got {min_delta!r:.40}")
        self.monitor, self.min_delta, self.mode = monitor, min_delta, mode
        self.patience = checked_size(patience, "patience", "EarlyStopping")
        self.best = math.inf
        self.waited = self._seen = 0

    def on_epoch(self, run: Run) -> None:
        """Compare the newest value with the best one."""
        if self.monitor not in run.history:
            known = ", ".join(run.history.columns)
            raise ValueError(
                f"EarlyStopping: monitor={self.monitor!r} is no column of the history, which has {known}.\n  Give "
                "gc.fit validate=, or monitor='loss'."
            )
        steps, values = run.history.of(self.monitor)
        if not len(steps) or steps[-1] <= self._seen:
            return
        self._seen = int(steps[-1])
        value = float(values[-1]) * (1 if self.mode == "min" else -1)
        if value < self.best - self.min_delta:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            best = self.best * (1 if self.mode == "min" else -1)
            run.stop(f"{self.monitor} has not got better than {best:.6g} for {self.waited} epochs")

    def record(self) -> Any:
        """The best value, and how long ago it was."""
        return {"best": float(self.best).hex(), "waited": self.waited, "seen": self._seen}

    def restore(self, record: Any) -> None:
        """Go on waiting."""
        self.best, self.waited, self._seen = float.fromhex(record["best"]), record["waited"], record["seen"]

    def __repr__(self) -> str:
        return f"EarlyStopping(monitor={self.monitor!r}, patience={self.patience})"


__all__ = ["Callback", "EarlyStopping"]
