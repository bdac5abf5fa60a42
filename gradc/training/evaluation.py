"""Validation and metrics of a run: means over data that no step is taken on.

Enters: the loss and metrics, data or a function.  Leaves: numbers by the names of the history's columns.  Invariant:
every example counts once, whatever the sizes of batches are.  Start reading at `Evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradc.api.compiled import jit
from gradc.data import Source
from gradc.node import here
from gradc.training.feed import as_arguments, feed_of, shown, size_of
from gradc.training.history import RESERVED
from gradc.training.run import Run

Metric = Callable[..., Any]


class Evaluation:
    """What is measured at the end of an epoch: ``validate`` data or a function, and ``metrics`` by name."""

    def __init__(
        self, loss: Metric | None, validate: Any, metrics: Mapping[str, Metric] | None, batch_size: Any,
        with_key: bool = False,
    ):  # fmt: skip
        given_metrics: Any = metrics
        if metrics is not None and not isinstance(given_metrics, Mapping):
            raise TypeError(f"{here()}: fit: metrics is a dict of functions by name, got {metrics!r:.60}")
        named: dict[Any, Any] = dict(metrics or {})
        if bad := [name for name, f in named.items() if not isinstance(name, str) or not callable(f)]:
            raise TypeError(
                f"{here()}: fit: metrics is a dict of functions by name, of (params, *batch); {bad[0]!r} has "
                f"{type(named[bad[0]]).__name__}"
            )
        if taken := [name for name in named if name in RESERVED and name != "loss"]:
            raise ValueError(
                f"{here()}: fit: a metric is named {taken[0]!r}, which is a column that fit writes itself: choose "
                "another name"
            )
        if twice := [name for name in named if f"validation_{name}" in named]:
            raise ValueError(
                f"{here()}: fit: metrics {twice[0]!r} and 'validation_{twice[0]}' would share a column: choose another "
                "name"
            )
        self.function = validate if callable(validate) and not isinstance(validate, Source) else None
        self.data = None if self.function is not None or validate is None else validate
        self.metrics: dict[str, Any] = {name: jit(f) for name, f in named.items() if name != "loss"}
        given = named.get("loss", None if with_key else loss)
        self.loss = None if given is None else jit(given)
        if self.data is not None:
            size = batch_size if not isinstance(self.data, Source) else None
            self.feed = feed_of(self.data, size if _takes_size(self.data) else None, 0, False, False, "fit: validate")
            if self.feed.once:
                raise TypeError(f"{here()}: fit: validate is a generator, which ends after the first time; give a list")
            if self.loss is None:
                raise TypeError(
                    f"{here()}: fit: which loss is validated is not known here: give metrics={{'loss': function of "
                    "(params, *batch)}, or validate= a function of the parameters"
                )

    def prepare(self, run: Run) -> None:
        """Compile what is validated for its first batch, so that what does not fit is found before the training."""
        if self.data is None or self.loss is None:
            return
        first = self.feed.first
        if first is None:
            return
        states = (run.params,) if run.model_state is None else (run.params, run.model_state)
        for name, f in {"loss": self.loss, **self.metrics}.items():
            try:
                f.lower(*states, *as_arguments(first))
            except Exception as error:
                error.add_note(f"gc.fit: {name} of the first batch of validate, {shown(as_arguments(first))}")
                raise

    def __call__(self, run: Run) -> dict[str, float]:
        """The numbers of this moment: of the last batch under the metrics' names, of validation as validation_…"""
        found: dict[str, float] = {}
        states = (run.params,) if run.model_state is None else (run.params, run.model_state)
        if run.batch is not None:
            batch = as_arguments(run.batch)
            for name, metric in self.metrics.items():
                found[name] = _mean(name, metric(*states, *batch), size_of(batch))
        if self.function is not None:
            value = self.function(*states)
            named = value if isinstance(value, Mapping) else {"loss": value}
            found |= {f"validation_{name}": _mean(name, x, 1) for name, x in named.items()}
        elif self.data is not None:
            found |= self._validated(states)
        return found

    def _validated(self, states: tuple[Any, ...]) -> dict[str, float]:
        assert self.loss is not None
        asked = {"loss": self.loss, **self.metrics}
        sums, count = dict.fromkeys(asked, 0.0), 0
        for given in self.feed.rest():
            batch = as_arguments(given)
            size = size_of(batch)
            if not size:
                continue  # an empty batch has no example to count
            count += size
            for name, f in asked.items():
                sums[name] += size * _mean(name, f(*states, *batch), size)
        if not count:
            raise ValueError("gc.fit: validate holds no example")
        return {f"validation_{name}": total / count for name, total in sums.items()}


def _takes_size(data: Any) -> bool:
    return not isinstance(data, list) and not hasattr(data, "__next__") and (
        isinstance(data, tuple | dict) or hasattr(data, "dtype") or hasattr(data, "columns") or
        hasattr(data, "column_names") or hasattr(data, "__dataclass_fields__")
    )  # fmt: skip


def _mean(name: str, value: Any, size: int) -> float:
    """A metric of a batch as one number: it is one, or has one for each example."""
    if value is None or isinstance(value, str | tuple | list | dict):
        raise TypeError(
            f"gc.fit: metric {name!r} returns {value!r:.40}; a metric is one number for a batch, or an array with one "
            "for each example"
        )
    array = np.asarray(value)
    if array.shape in ((), (1,), (size,)) and array.dtype.kind in "biuf":
        return float(array.astype(np.float64).mean())
    if array.dtype.kind not in "biuf":
        try:
            return float(array.astype(np.float64).mean())  # bfloat16, which NumPy calls a kind of its own
        except (TypeError, ValueError):
            raise TypeError(f"gc.fit: metric {name!r} returns {array.dtype}, not numbers") from None
    raise TypeError(
        f"gc.fit: metric {name!r} returns an array of shape {array.shape}; a metric is one number for a batch, or one "
        f"for each of its {size} examples: take a mean over the other axes"
    )


__all__ = ["Evaluation"]
