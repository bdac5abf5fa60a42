"""The health of a model while it trains: a callback.

Enters: a `gradc.training.Run`.  Leaves: reports of `gradc.health`, a table of norms and shares by step, notes told
once.  Start reading at `HealthMonitor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradc.data.minibatches import checked_size
from gradc.node import here
from gradc.training.callbacks import Callback
from gradc.training.history import History
from gradc.training.picture import Line, Picture, chart, stacked

if TYPE_CHECKING:
    from gradc.diagnostics.report import HealthReport
    from gradc.training.run import Run

KINDS = ("vanishing", "exploding", "dead", "saturated", "no gradient", "large step")


class HealthMonitor(Callback):
    """Looks at the model's health at the first step and then every ``every`` steps of `gradc.fit`; see `gradc.health`.

    Each look is one call of a function that is compiled once: a forward and a backward pass and an update on the last
    batch, none of which changes the run.  With several steps in a native call it waits for the end of the call.

    ``report`` is the newest `HealthReport`; ``history`` a table with, at each step looked at, "gradient_norm NAME",
    "value_norm NAME" and "update_ratio NAME" of each parameter, "signal NAME", "signal_gradient NAME", "dead NAME" and
    "saturated NAME" of each layer.  ``tell`` is called with each note in words when it first appears (default: print;
    None: nobody).  ``stop_on``: kinds of notes that end the run, of "vanishing", "exploding", "dead", "saturated", "no
    gradient", "large step".

    In a resumed run the table goes on, and no note is told twice.

    Raises ValueError where the run has only a step, whose loss nobody knows.

    >>> import gradc as gc
    >>> gc.training.HealthMonitor(every=500, stop_on="exploding")
    HealthMonitor(every=500)
    """

    def __init__(
        self, every: int = 100, *, stop_on: str | Sequence[str] = (), tell: Callable[[str], Any] | None = print
    ) -> None:
        self.every, self.tell = checked_size(every, "every", "HealthMonitor"), tell
        self.stop_on = (stop_on,) if isinstance(stop_on, str) else tuple(stop_on)
        if unknown := [kind for kind in self.stop_on if kind not in KINDS]:
            raise ValueError(f"{here()}: HealthMonitor: stop_on={unknown[0]!r}: expected some of {', '.join(KINDS)}")
        self.report: HealthReport | None = None
        self.history = History()
        self._examination: Any = None
        self._last: int | None = None
        self._told: set[tuple[str, str]] = set()

    def on_begin(self, run: Run) -> None:
        """Make what is compiled at the first look."""
        from gradc.diagnostics.measure import Examination  # who does not look loads nothing

        if run.loss_function is None:
            raise ValueError(
                f"{here()}: HealthMonitor: the loss of a step of your own is not known here; call gc.health(loss, "
                "params, *batch) in a callback"
            )
        self._examination = Examination(run.loss_function, run.optimizer)

    def on_step(self, run: Run) -> None:
        """Look, if it is time."""
        if self._last is not None and run.step // self.every == self._last // self.every:
            return
        self._last = run.step
        self._look(run)

    def _look(self, run: Run) -> None:
        from gradc.diagnostics.report import HealthReport

        found = HealthReport.of(self._examination(*run.loss_arguments(), state=run.state))
        self.report = found
        self.history.add(run.step, **_numbers(found))
        for note in found.notes:
            key = note.kind, note.layer
            if self.tell is not None and key not in self._told:
                self.tell(f"step {run.step:,}: {note}")
            self._told.add(key)
            if note.kind in self.stop_on:
                run.stop(f"{note.kind} at step {run.step:,}: {note.words}")

    def record(self) -> Any:
        """When it looked last, the table, and which notes were told."""
        return {"last": self._last, "history": self.history.packed(), "told": sorted(map(list, self._told))}

    def restore(self, record: Any) -> None:
        """Go on with that table; no note is told twice."""
        self._last, self.history = record["last"], History.unpacked(record["history"])
        self._told = {(kind, layer) for kind, layer in record["told"]}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Picture:
        """Gradients and steps by parameter over time as one picture, which notebooks show; with ``path`` it is written
        there as SVG.
        """
        made = stacked(*self.panels())
        if path is not None:
            made.save(path)
        return made

    def panels(self) -> list[Picture]:
        """The parts of `plot`: gradients, and where there is an optimizer its steps, by parameter over time."""
        kinds = (("gradient_norm", "Euclidean norm"), ("update_ratio", "update / value"))
        columns = self.history.columns
        return [self._panel(*kind) for kind in kinds if any(c.startswith(f"{kind[0]} ") for c in columns)]

    def _panel(self, what: str, y: str) -> Picture:
        lines = [
            Line(*self.history.of(column), column.removeprefix(f"{what} "))
            for column in self.history.columns
            if column.startswith(f"{what} ")
        ]
        return chart(*lines, title=what.replace("_", " ").capitalize(), x="step", y=y, log_y=True)

    def __repr__(self) -> str:
        return f"HealthMonitor(every={self.every})"


def _numbers(found: HealthReport) -> dict[str, float]:
    row: dict[str, float] = {}
    for p in found.parameters:
        row |= {f"value_norm {p.name}": p.value, f"gradient_norm {p.name}": p.gradient}
        if p.update_ratio is not None:
            row[f"update_ratio {p.name}"] = p.update_ratio
    for x in found.layers:
        row |= {f"signal {x.name}": x.signal, f"signal_gradient {x.name}": x.gradient}
        row |= {f"{name} {x.name}": v for name, v in (("dead", x.dead), ("saturated", x.saturated)) if v is not None}
    return row


__all__ = ["HealthMonitor"]
