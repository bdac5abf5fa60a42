"""A training run: what it has learnt, what it measured, and where it stands.

Leaves: `Run`, what `gradc.fit` returns and what callbacks are given.  Start reading there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradc.runtime.files import write_whole
from gradc.trace import function_name
from gradc.training.feed import as_arguments
from gradc.training.history import History
from gradc.tree import leaves
from gradc.tree import map as tree_map


@dataclass
class Best:
    """The parameters at the least validation loss, or at the best value of another column."""

    column: str
    mode: str
    value: float
    step: int
    params: Any
    model_state: Any = None

    def __repr__(self) -> str:
        return f"<best {self.column} ({self.mode}): {self.value:.6g} at step {self.step:,}>"

    def beaten_by(self, value: float) -> bool:
        """Whether ``value`` is better."""
        if self.value != self.value:
            return value == value  # anything is better than no number
        return value < self.value if self.mode == "min" else value > self.value


@dataclass
class Run:
    """What `gradc.fit` returns; callbacks see it while it goes on.

    ``params``, ``state`` (the optimizer's) and ``model_state`` are those after ``step`` steps and ``epoch`` whole
    epochs.  They are updated in place: to keep a snapshot, copy it.  ``loss`` and ``numbers`` are of the last step,
    ``batch`` is what it was given, ``aux`` what the loss returned beside.  ``history`` is the table of all that was
    measured, ``best`` the parameters of the best validation.  ``stopped`` says why it ended, "" otherwise.
    """

    params: Any
    state: Any
    model_state: Any = None
    key: Any = None
    optimizer: Any = None
    history: History = field(default_factory=History)
    step: int = 0
    epoch: int = 0
    loss: float = float("nan")
    numbers: dict[str, float] = field(default_factory=dict)
    batch: Any = None
    aux: Any = None
    best: Best | None = None
    stopped: str = ""
    not_finite: int = 0  #: steps in a row, to the last one, whose loss was no number
    seconds: float = 0.0  #: spent in `gradc.fit`, of all sessions of a resumed run
    samples: int = 0  #: examples that steps were given
    steps_planned: int | None = None
    epochs_planned: int | None = None
    steps_of_epoch: int | None = None
    loss_function: Any = None  #: the loss alone; None where only a step is known
    with_key: bool = False  #: whether it takes a key behind the batch
    step_function: Any = None  #: the compiled step, one at a time; None where it is not gradc's
    callbacks: Sequence[Any] = ()  #: what looked on

    def step_arguments(self) -> tuple[Any, ...]:
        """The arguments of ``step_function`` now, with the last batch; its key is the run's own."""
        params, *rest = self.loss_arguments()
        return (params, self.state, *rest)

    def stop(self, why: str) -> None:
        """End the training after this step; ``why`` is reported."""
        self.stopped = self.stopped or str(why) or "a callback stopped it"

    def loss_arguments(self) -> tuple[Any, ...]:
        """The arguments of ``loss_function`` now, with the last batch; its key is the run's own."""
        model_state = () if self.model_state is None else (self.model_state,)
        return (self.params, *model_state, *as_arguments(self.batch), *((self.key,) if self.with_key else ()))

    @property
    def steps_left(self) -> int | None:
        """How many steps are left, None where nobody knows."""
        planned = self.steps_planned
        if self.epochs_planned is not None and self.steps_of_epoch is not None:
            by_epochs = self.epochs_planned * self.steps_of_epoch
            planned = by_epochs if planned is None else min(planned, by_epochs)
        return None if planned is None else max(planned - self.step, 0)

    @property
    def samples_per_second(self) -> float:
        """Examples trained on per second, validation and all else included."""
        return self.samples / self.seconds if self.seconds > 0 else float("nan")

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """The history as a picture; see `History.plot`."""
        return self.history.plot(path, **options)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        health: bool = True,
        landscape: bool = True,
        formulas: bool = True,
        kernels: bool = True,
    ) -> Path:
        """Write a page about the run and return its path: HTML, readable offline, in light and dark, and on paper.

        It has the history as curves and the norms that a `HealthMonitor` noted; how the losses converge
        (`gradc.diagnose`); at the parameters where the run stands and on its last batch the ``health`` of the model
        (`gradc.health`) and the ``landscape`` of the loss (`gradc.landscape`, up to a thousand products with the
        Hessian); the loss, its gradient and the optimizer's update as ``formulas`` (`gradc.explain`); the ``kernels``
        of a step by their time; and what it takes to do the run again: versions, processor, key, a digest of the
        parameters.  Each part that is False is left out, with what it costs.  ``title`` is the loss's name unless
        given.  The file is written whole or not at all.
        """
        from gradc.training.report import Parts, report_page

        named = self.loss_function if self.loss_function is not None else self.step_function
        name = title if title is not None else function_name(named) if named is not None else "run"
        where = Path(path)
        write_whole({where: report_page(self, name, Parts(health, landscape, formulas, kernels))})
        return where

    def __str__(self) -> str:
        """A summary: how long, how far, and why it ended."""
        count = sum(int(np.size(x)) for x in leaves(self.params))
        lines = [
            f"training run: {counted(self.step, 'step')}, {counted(self.epoch, 'epoch')}, {self.seconds:.1f} s, "
            f"{self.samples_per_second:,.0f} samples/s, {counted(count, 'parameter')}"
        ]
        names = [n for n in self.history.columns if n not in ("seconds", "samples_per_second")]
        width = max(map(len, names), default=0)
        for name in names:
            steps, values = self.history.of(name)
            if len(values):
                lines.append(f"  {name:<{width}}  {values[0]:.5g} → {values[-1]:.5g}  (at step {int(steps[-1]):,})")
        if self.best is not None:
            lines.append(f"best {self.best.column}: {self.best.value:.6g} at step {self.best.step:,}, in .best.params")
        return "\n".join([*lines, f"ended: {self.stopped}"] if self.stopped else lines)

    def __repr__(self) -> str:
        return f"<run of {counted(self.step, 'step')}, {counted(self.epoch, 'epoch')}, loss {self.loss:.5g}>"


def counted(number: int, noun: str) -> str:
    """``1 step``, ``2,000 steps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def snapshot(tree: Any) -> Any:
    """A copy of the arrays of a tree, which the next step does not overwrite."""
    return tree_map(np.array, tree)


__all__ = ["Best", "Run", "counted", "snapshot"]
