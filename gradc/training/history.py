"""What a training run measured, as a table that only grows.

Enters: rows of numbers, each with its step.  Leaves: columns as NumPy arrays, a data frame, CSV, lines of JSON, and a
picture.  Invariant: numbers are kept as the 64 bits that they are, through `History.packed` too, so a run that was
resumed has the history of one that was not.  Start reading at `History.add`.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradc.containers import no_such_name
from gradc.node import here
from gradc.runtime.files import write_whole
from gradc.tabular import table
from gradc.training.picture import Line, Mark, Picture, Points, chart, stacked

Floats = np.ndarray[Any, np.dtype[np.float64]]
#: the columns that `gradc.fit` writes, in the order in which they are shown
FIRST = ("loss", "learning_rate", "gradient_norm", "validation_loss")
LAST = ("seconds", "samples_per_second")
#: names of columns that are no user's to give
RESERVED = ("step", *FIRST, *LAST)
_SHOWN = 10  #: rows at either end of a long table
_CURVE = 300  #: values above which a curve is drawn faint, with its running mean


class History:
    """A table with a row for each step that was recorded; units are those of what was measured, times in seconds.

    ``history["loss"]`` is a column, NaN where a row has no such number, and ``history.steps`` the steps of the rows;
    ``history.of("validation_loss")`` are the rows that have it alone, as ``(steps, values)``.

    >>> history = History()
    >>> history.add(1, loss=2.0)
    >>> history.add(2, loss=1.0, validation_loss=1.5)
    >>> history["validation_loss"], history.of("validation_loss")
    (array([nan, 1.5]), (array([2]), array([1.5])))
    """

    def __init__(self) -> None:
        self._steps = array("q")
        self._columns: dict[str, array[float]] = {}

    # -- filled --------------------------------------------------------------------------------------------------------
    def add(self, step: int, /, **numbers: Any) -> None:
        """Append a row.  Numbers for the step of the last row join that row.

        ValueError for a step that lies before the last one and for a column named "step", which is that of the steps;
        TypeError for what is no number.
        """
        if "step" in numbers:
            raise ValueError(f"{here()}: a history's step is its first argument; give the column 'step' another name")
        if self._steps and step < self._steps[-1]:
            raise ValueError(
                f"{here()}: a history goes on from step {self._steps[-1]}, got step {step}; begin another History, or "
                "cut this one with history.until(step)"
            )
        values = {name: _number(name, value) for name, value in numbers.items()}
        if not self._steps or step > self._steps[-1]:
            self._steps.append(step)
            for column in self._columns.values():
                column.append(math.nan)
        for name, value in values.items():
            if name not in self._columns:
                self._columns[name] = array("d", [math.nan]) * len(self._steps)
            self._columns[name][-1] = value

    def until(self, step: int) -> History:
        """The rows up to and including ``step``, as a history of their own."""
        count = int(np.searchsorted(self.steps, step, side="right"))
        made = History()
        made._steps = self._steps[:count]
        made._columns = {name: column[:count] for name, column in self._columns.items()}
        return made

    # -- read ----------------------------------------------------------------------------------------------------------
    @property
    def steps(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The step of each row, int64."""
        return np.array(self._steps, np.int64)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns: what was fitted first, times last."""
        middle = [name for name in self._columns if name not in FIRST + LAST]
        return tuple(name for name in (*FIRST, *middle, *LAST) if name in self._columns)

    def __getitem__(self, name: str) -> Floats:
        """A column as float64, one value for each row, NaN where there is none."""
        if name not in self._columns:
            raise no_such_name(f"{here()}: the history has no column {name!r}", name, self.columns)
        return np.array(self._columns[name], np.float64)

    def of(self, name: str) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Floats]:
        """``(steps, values)`` of the rows that have a number in a column; a number that is NaN has no row here."""
        values = self[name]
        there = ~np.isnan(values)
        return self.steps[there], values[there]

    def last(self, name: str) -> float:
        """The newest number of a column, NaN where there is none."""
        values = self.of(name)[1] if name in self._columns else np.zeros(0)
        return float(values[-1]) if values.size else math.nan

    @property
    def last_step(self) -> int:
        """The step of the newest row, 0 where there is none."""
        return self._steps[-1] if self._steps else 0

    def newest(self) -> dict[str, float]:
        """The newest row as a dict, without the numbers that it does not have."""
        if not self._steps:
            return {}
        row = {name: self._columns[name][-1] for name in self.columns}
        return {"step": self._steps[-1]} | {name: value for name, value in row.items() if not math.isnan(value)}

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[dict[str, float]]:
        """The rows as dicts, without the numbers that they do not have."""
        for i, step in enumerate(self._steps):
            row = {name: self._columns[name][i] for name in self.columns}
            yield {"step": step} | {name: value for name, value in row.items() if not math.isnan(value)}

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._steps)

    def __eq__(self, other: object) -> bool:
        """The same rows, to the last bit."""
        return isinstance(other, History) and self.packed() == other.packed()

    __hash__ = None  # type: ignore[assignment]

    # -- written -------------------------------------------------------------------------------------------------------
    def packed(self) -> dict[str, Any]:
        """The table as a JSON value that keeps every bit: little-endian numbers in base64, by column."""
        packed = {name: _packed(np.array(self._columns[name], "<f8")) for name in sorted(self._columns)}
        return {"steps": _packed(np.array(self._steps, "<i8")), "columns": packed}

    @classmethod
    def unpacked(cls, value: Mapping[str, Any]) -> History:
        """The history of what `packed` returned; ValueError for columns of different lengths."""
        made = cls()
        made._steps = array("q", np.frombuffer(base64.b64decode(value["steps"]), "<i8").tolist())
        for name, text in value["columns"].items():
            made._columns[name] = array("d", np.frombuffer(base64.b64decode(text), "<f8").tolist())
            if len(made._columns[name]) != len(made._steps):
                raise ValueError(f"a history of {len(made._steps)} rows has {len(made._columns[name])} of {name!r}")
        return made

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with the steps as its index; ImportError where pandas is not installed."""
        try:
            from pandas import DataFrame, Index
        except ImportError:
            raise ImportError(f"{here()}: History.to_pandas needs pandas: pip install pandas") from None
        return DataFrame({name: self[name] for name in self.columns}, index=Index(self.steps, name="step"))

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write comma-separated values with a header line; what a row does not have is empty.  Returns the path.

        The file is written whole or not at all.
        """
        where, text = Path(path), io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *self.columns])
        writer.writerows([row.get(name, "") for name in ("step", *self.columns)] for row in self)
        write_whole({where: text.getvalue()})
        return where

    def to_json_lines(self, path: str | os.PathLike[str]) -> Path:
        """Write a line of JSON for each row; infinities are the strings "inf" and "-inf".  Returns the path.

        The file is written whole or not at all.
        """
        where = Path(path)
        rows = [{k: v if math.isfinite(v) else str(v) for k, v in row.items()} for row in self]
        write_whole({where: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)})
        return where

    # -- shown ---------------------------------------------------------------------------------------------------------
    def plot(self, path: str | os.PathLike[str] | None = None, *, columns: int = 2, matplotlib: Any = None) -> Any:
        """The columns as curves over the steps: losses, each metric beside its validation, rate, gradient norm.

        Returns a `gradc.training.picture.Picture`, which notebooks show, and writes it to ``path`` as SVG if one is
        given; ``columns`` panels stand in a row.  ``matplotlib``: Axes to draw the losses on instead; they are
        returned.
        """
        if matplotlib is not None:
            return self._onto(matplotlib)
        panels = self.panels()
        made: Picture = stacked(*panels, columns=columns) if panels else chart(title="No rows yet", x="step")
        if path is not None:
            made.save(path)
        return made

    def panels(self) -> list[Picture]:
        """The curves of `plot`, a picture each."""
        return [self._panel(title, names) for title, names in self._groups()]

    def _groups(self) -> list[tuple[str, list[str]]]:
        """The panels of the picture: their titles, and the columns that share them."""
        grouped: dict[str, list[str]] = {}
        for name in self.columns:
            if name not in LAST:
                grouped.setdefault(name.removeprefix("validation_"), []).append(name)
        return [(title.replace("_", " ").capitalize(), names) for title, names in grouped.items()]

    def _panel(self, title: str, names: list[str]) -> Picture:
        marks: list[Mark] = []
        positive = True
        for number, name in enumerate(names):
            steps, values = self.of(name)
            shown = values[np.isfinite(values)]
            positive &= bool(shown.size) and bool((shown > 0).all()) and shown.max() > 30 * shown.min()
            if shown.size == 1:
                marks.append(Points(steps, values, name, number))
            elif values.size > _CURVE and name in ("loss", "gradient_norm"):
                marks.append(Line(steps, values, "", faint=True, colour=number))
                marks.append(Line(*smoothed(steps, values), f"{name}, running mean", colour=number))
            else:
                marks.append(Line(steps, values, name, colour=number))
        return chart(*marks, title=title, x="step", log_y=positive, width=560, height=280)

    def _onto(self, axes: Any) -> Any:
        for name in self.columns:
            if name.removeprefix("validation_") == "loss":
                axes.plot(*self.of(name), label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend()
        return axes

    def __repr__(self) -> str:
        return f"<history of {len(self)} rows: {', '.join(self.columns)}>"

    def __str__(self) -> str:
        """The table; of a long one the first and the last rows."""
        names = self.columns
        count = len(self)
        chosen: list[int | None] = list(range(count))
        if count > 2 * _SHOWN:
            chosen = [*range(_SHOWN), None, *range(count - _SHOWN, count)]
        rows = [["step", *names]]
        for i in chosen:
            cells = (self._columns[n][i] for n in names) if i is not None else ()
            rows.append(["⋮"] * (len(names) + 1) if i is None else [f"{self._steps[i]:,}", *map(_cell, cells)])
        return table(rows)


def smoothed(steps: Any, values: Floats) -> tuple[Any, Any]:
    """Means of about a hundred stretches of a curve, each at the step in its middle."""
    size = max(1, len(values) // 100)
    count = len(values) // size
    middle = np.asarray(steps)[: count * size].reshape(count, size).mean(1)
    return middle, values[: count * size].reshape(count, size).mean(1)


def _packed(values: Any) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _number(name: str, value: Any) -> float:
    """A number of a row."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, str) or np.size(value) != 1:
            raise TypeError
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        shape = f" of shape {np.shape(value)}" if not isinstance(value, str) and np.size(value) != 1 else ""
        raise TypeError(
            f"{here()}: a history holds single numbers; {name} is {type(value).__name__}{shape}: {value!r:.60}.\n"
            "  Take its mean, or give each of its parts a name."
        ) from None


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


__all__ = ["History"]
