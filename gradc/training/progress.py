"""How far a run is, for whoever waits: a bar in a terminal, plain lines in a log, or nothing.

Enters: a run after each call of the step.  Leaves: text on standard error.  Invariant: a line has everything that the
bar has, and nothing is printed more often than it can be read.  Start reading at `progress_of`.
"""

from __future__ import annotations

import math
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gradc.node import here
from gradc.training.callbacks import Callback

if TYPE_CHECKING:
    from gradc.training.run import Run

#: seconds between lines within an epoch, and between updates of a bar
_EVERY, _TENTH = 30.0, 0.1
#: what is shown by a shorter name
_SHORT = {"learning_rate": "lr", "gradient_norm": "‖g‖", "validation_loss": "val loss"}


class Progress(Callback):
    """Shows epoch, loss, learning rate, gradient norm, samples per second and time left.

    ``kind``: "bar", for a terminal; "lines", for a log; None: the bar where ``file`` (None: standard error) is a
    terminal, else lines.  `gradc.fit` makes one for ``log=``.  Raises ValueError for another kind.
    """

    def __init__(self, kind: str | None = None, file: Any = None):
        if kind not in (None, "bar", "lines"):
            raise ValueError(f"{here()}: Progress: kind is 'bar', 'lines' or None, got {kind!r:.40}")
        self.file = file
        self.kind = kind
        self._bar: Any = None
        self._task: Any = None
        self._begin(0, 0)

    def _begin(self, step: int, samples: int) -> None:
        """Count from here on."""
        self._said = self._mark = perf_counter()
        self._pace = self._rate = math.nan  #: seconds for a step and examples per second, of the newest stretch
        self._looked, self._looks = 0.0, 0  #: seconds of validations but the first, and how many there were
        self._between = self._at = 0  #: steps between the newest two, and the step of the newest
        self._first = True
        self._stretch(step, samples)

    def _stretch(self, step: int, samples: int) -> None:
        """What is measured is measured from here on."""
        self._step, self._samples, self._spent = step, samples, 0.0

    def _measure(self, run: Run) -> None:
        if run.step > self._step and self._spent > 0:
            self._pace = self._spent / (run.step - self._step)
            self._rate = (run.samples - self._samples) / self._spent

    def on_begin(self, run: Run) -> None:
        """Open the bar."""
        file = self.file or sys.stderr
        self._begin(run.step, run.samples)
        kind = self.kind or ("bar" if getattr(file, "isatty", lambda: False)() else "lines")
        if run.step:
            self._print(f"resumed at step {run.step:,}, epoch {run.epoch:,}")
        if kind == "bar":
            self._open(run, file)

    def _open(self, run: Run, file: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bar = Bars(
            TextColumn("{task.fields[where]}"), BarColumn(bar_width=24), TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=Console(file=file), refresh_per_second=8,
        )  # fmt: skip
        left = run.steps_left
        total = None if left is None else run.step + left
        self._task = self._bar.add_task("fit", total=total, completed=run.step, where="compiling", numbers="")
        self._bar.start()

    def on_step(self, run: Run) -> None:
        """Move the bar on, or print a line if the last one was long ago."""
        now = perf_counter()
        if self._first:  # the first call compiles, which says nothing of those after it
            self._begin(run.step, run.samples)
            self._first = False
        else:
            self._spent += now - self._mark
        self._mark = perf_counter()
        if self._bar is not None:
            if now - self._said > _TENTH:
                self._said = now
                self._bar.update(self._task, completed=run.step, where=where(run), numbers=self.numbers(run))
        elif now - self._said > _EVERY:
            self._line(run)

    def on_epoch(self, run: Run) -> None:
        """Print a line for the epoch."""
        self._looks += 1
        if self._looks > 1:  # the first validation compiles
            self._looked += perf_counter() - self._mark
            self._between = run.step - self._at
        self._at = run.step
        self._line(run)
        self._mark = perf_counter()

    def on_end(self, run: Run) -> None:
        """Close the bar, and say why the run ended."""
        if self._bar is not None:
            self._bar.update(self._task, completed=run.step, where=where(run), numbers=self.numbers(run))
            self._bar.stop()
            self._bar = None
        if run.stopped:
            self._print(f"ended at step {run.step:,}: {run.stopped}")

    def _line(self, run: Run) -> None:
        self._said = perf_counter()
        self._print(f"{where(run)}  {self.numbers(run, validation=True)}  {self._left(run)}".rstrip())
        self._stretch(run.step, run.samples)

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.file or sys.stderr, flush=True)

    def numbers(self, run: Run, validation: bool = False) -> str:
        """The newest numbers in one line."""
        shown = {"loss": run.loss, **run.numbers}
        if validation:
            names = [n for n in run.history.columns if n not in (*shown, "seconds", "samples_per_second")]
            shown |= {n: run.history.last(n) for n in names}
        parts = [f"{_SHORT.get(n, n.replace('validation_', 'val '))} {v:.4g}" for n, v in shown.items()]
        return "  ".join([*parts, f"{self.rate(run):,.0f} samples/s"])

    def rate(self, run: Run) -> float:
        """Examples per second of the steps since the last line; validations and the first call, which compiles, are
        left out."""
        self._measure(run)
        return run.samples_per_second if math.isnan(self._rate) else self._rate

    def _left(self, run: Run) -> str:
        left = run.steps_left
        self._measure(run)
        if not left or math.isnan(self._pace):
            return ""
        look = self._looked / (self._looks - 1) / max(self._between, 1) if self._looks > 1 else 0.0
        seconds = left * (self._pace + look)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def where(run: Run) -> str:
    """How far the run is: epoch and step."""
    epochs = "" if run.epochs_planned is None else f"/{run.epochs_planned:,}"
    at = run.epoch + (run.steps_left != 0 and bool(run.steps_of_epoch) and run.step % (run.steps_of_epoch or 1) > 0)
    return f"epoch {at:,}{epochs}  step {run.step:,}"


def progress_of(log: Any) -> list[Callback]:
    """The callback for ``log=``: "auto", "bar", "lines", "quiet"; True is "auto", False and None are "quiet"."""
    if log in (False, None, "quiet"):
        return []
    if log in (True, "auto"):
        return [Progress()]
    if log in ("bar", "lines"):
        return [Progress(log)]
    raise ValueError(f"{here()}: fit: log is 'auto', 'bar', 'lines' or 'quiet', got {log!r:.40}")


__all__ = ["Progress", "progress_of"]
