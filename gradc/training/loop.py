"""`fit`: the loop around a compiled training step.

Enters: a loss, parameters, data.  Leaves: a `Run`.  The loop itself is `_Loop`, and its heart
`_epochs`: whoever wants another one writes these lines around `gc.train_step` and loses nothing.  Start reading at
`fit`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from gradc.data.minibatches import checked_size
from gradc.node import here
from gradc.random import key as key_of
from gradc.training.callbacks import Callback
from gradc.training.evaluation import Evaluation
from gradc.training.feed import Feed, Group, feed_of
from gradc.training.progress import progress_of
from gradc.training.resuming import INTERRUPTED, Keeper
from gradc.training.run import Best, Run, snapshot
from gradc.training.stepping import Stepper, refuse_unless_finite, stepper_of
from gradc.tree import leaves


def fit(
    step_or_loss: Callable[..., Any],
    params: Any,
    data: Any,
    *,
    optimizer: Any = None,
    epochs: int | None = None, steps: int | None = None,
    batch_size: int | None = None,
    key: Any = None,
    shuffle: bool = True, drop_last: bool = False,
    validate: Any = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    validate_every: int | None = None,
    best: str | tuple[str, str] | None = "validation_loss",
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | Any = None,
    checkpoint_every: int | None = None, keep: int = 3,
    resume: str | bool = "auto",
    log: str | bool | None = "auto", log_every: int = 1,
    steps_per_call: int = 1,
    state: Any = None, model_state: Any = None,
    has_aux: bool = False, with_key: bool = False,
) -> Run:  # fmt: skip
    """Train ``params`` on ``data`` and return a `Run`: params, state, history.

    ``step_or_loss``: ``loss(params, *batch)`` with an ``optimizer``; or what `train_step` returns, which has one; or a
    step of your own ``(params, state, *batch) -> (params, state, loss)`` with its first ``state``.  ``has_aux`` and
    ``model_state`` (the first one) are for losses of `train_step`'s ``has_aux`` and ``has_state``: with a model state
    losses and metrics are functions of ``(params, model_state, *batch)``.  ``with_key``: the loss takes a random key of
    its own at each step, behind the batch, made of ``key``.

    ``data``: a tree of arrays with ``batch_size`` (None: all rows in one batch) and, with ``shuffle``, another order in
    each epoch by ``key`` (default: ``gc.random.key(0)``); or `gradc.data.batches`; or any iterable of batches, iterated
    once for each epoch.  A batch that is a tuple or list is several arguments.  The run ends after ``epochs`` (default:
    those of the source, or 1) or after ``steps``, whichever comes first.

    ``validate``: data like ``data``, on which the loss is averaged over examples, or a function of ``(params[,
    model_state])`` that returns a number or a dict of them; at each epoch's end, or every ``validate_every`` steps.
    ``metrics``: functions like the loss, by name, which return a number or one for each example: measured then on the
    last batch (``accuracy``) and on the validation data (``validation_accuracy``); one named "loss" is validated in
    place of the loss.  ``best``: the column whose least value says what `Run.best` keeps, or ``(…, "max")``.

    ``checkpoint``: a folder, or a `Checkpoints`, for a checkpoint at the end of each epoch or every
    ``checkpoint_every`` steps, the last ``keep`` and the best.  ``resume="auto"`` goes on from the newest one if there
    is one, to parameters bit-equal to those of a run that never stopped; True wants one, False wants none.

    ``log``: "auto" is a bar in a terminal and lines elsewhere; "bar", "lines", "quiet". ``log_every``: every how many
    steps the history gets a row; the last step has one too. ``steps_per_call``: how many steps one native call takes,
    for models so small that Python would be the limit; callbacks, checkpoints and Ctrl-C wait for the call. Ctrl-C ends
    the run after the step and saves it; a second one raises KeyboardInterrupt at once.

    Raises DivergedError when the parameters are no numbers any more, with the step and what to do.

    >>> import gradc as gc, numpy as np
    >>> x = np.linspace(-1, 1, 64)
    >>> loss = lambda p, x, y: np.mean((p["w"] * x + p["b"] - y) ** 2)
    >>> start = {"w": np.zeros(()), "b": np.zeros(())}
    >>> run = gc.fit(loss, start, (x, 3 * x + 1), optimizer=gc.optim.adam(0.1), epochs=40, batch_size=16, log=False)
    >>> run.step, float(run.loss) < 1e-2
    (160, True)
    """
    every = Every.of(validate_every, checkpoint_every, log_every)
    stepper = stepper_of(
        step_or_loss, optimizer, has_aux=has_aux, has_state=model_state is not None, with_key=with_key,
        several=checked_size(steps_per_call, "steps_per_call", "fit"), has_own_state=state is not None,
    )  # fmt: skip
    refuse_missing_state(stepper, params, model_state)
    word = key_of(0) if key is None else key_of(key) if isinstance(key, int) else np.asarray(key)
    feed = feed_of(data, batch_size, word, shuffle, drop_last)
    run = Run(params, stepper.first_state(params) if state is None else state, model_state, word, stepper.optimizer)
    run.loss_function, run.step_function, run.with_key = stepper.loss, stepper.compiled, with_key
    plan(run, feed, epochs, steps)
    evaluation = Evaluation(stepper.loss, validate, metrics, batch_size, with_key)
    monitor = monitor_of(best)
    run.callbacks = looking = [*refuse_other_callbacks(callbacks), *progress_of(log)]
    keeper = keeper_of(checkpoint, keep, None if validate is None else monitor)
    if keeper is not None:
        feed = keeper.resume(run, feed, looking, resume)
    _Loop(run, stepper, feed, evaluation, monitor, looking, keeper, every).go()
    return run


def plan(run: Run, feed: Feed, epochs: int | None, steps: int | None) -> None:
    """Write into the run how long it is to be; TypeError and ValueError for what is no such number."""
    for name, value in (("epochs", epochs), ("steps", steps)):
        if value is not None:
            checked_size(value, name, "fit")
    planned = getattr(getattr(feed, "source", None), "epochs", None) if epochs is None else epochs
    run.epochs_planned = 1 if planned is None and steps is None else planned
    run.steps_planned, run.steps_of_epoch = steps, feed.steps
    if feed.once and (run.epochs_planned or 0) > 1:
        raise ValueError(
            f"{here()}: fit: the data is a generator, which is exhausted after one epoch: give a list of its batches, "
            "an object whose __iter__ begins anew, gc.data.batches(…), or epochs=1"
        )


@dataclass(frozen=True)
class Every:
    """How many steps lie between validations, checkpoints (None: an epoch) and rows of the history."""

    validation: int | None
    checkpoint: int | None
    row: int

    @classmethod
    def of(cls, validation: int | None, checkpoint: int | None, row: int) -> Every:
        """These numbers, checked."""
        for name, value in (("validate_every", validation), ("checkpoint_every", checkpoint), ("log_every", row)):
            if value is not None:
                checked_size(value, name, "fit")
        return cls(validation, checkpoint, row)


@dataclass
class _Loop:
    """The parts of a run in motion."""

    run: Run
    stepper: Stepper
    feed: Feed
    evaluation: Evaluation
    monitor: tuple[str, str] | None
    callbacks: Sequence[Callback]
    keeper: Keeper | None
    every: Every
    interrupted: bool = False
    _last: float = 0.0  #: when the clock was read
    _evaluated: int = -1  #: the step of the newest validation
    _rated: tuple[float, int] = (0.0, 0)  #: seconds and examples of the run when that was over
    _passed: int = 0  #: epochs of the data that were over before the run began

    def go(self) -> None:
        """Train to the end."""
        run = self.run
        self.evaluation.prepare(run)
        self._rated = run.seconds, run.samples
        with self._timed(), self._interrupts():
            try:
                self._tell("on_begin")
                self._epochs()
                if self.keeper is not None:
                    self.keeper.save(run, self.feed, self.callbacks)
            finally:
                self._tell("on_end")

    def _epochs(self) -> None:
        run, several = self.run, self.stepper.several
        self._passed = self.feed.passes - run.epoch
        while not self._over():
            left = None if run.steps_planned is None else run.steps_planned - run.step
            for group in self.feed.groups(several, left):
                before = run.step
                self._after(group, self.stepper(run, group))
                self._between(before, self._epoch_ended())
                if self._over():
                    break
            else:
                if self._epoch_ended():  # data of unknown length says so only now
                    self._between(run.step, True)
            if self.feed.once and not self._over():
                run.stop("the data is exhausted: it is a generator, which cannot begin again")

    def _epoch_ended(self) -> bool:
        """Whether the newest batch was the last one of its epoch; then the run counts it."""
        before, self.run.epoch = self.run.epoch, self.feed.passes - self._passed
        return self.run.epoch > before

    def _after(self, group: Group, numbers: list[dict[str, float]]) -> None:
        """Note what steps measured, and let callbacks look."""
        run = self.run
        run.batch, run.numbers = group.batch(-1), {k: v for k, v in numbers[-1].items() if k != "loss"}
        run.loss = numbers[-1]["loss"]
        run.samples += group.samples
        self._clock()
        for row in numbers:
            run.step += 1
            if run.step % self.every.row == 0:
                run.history.add(run.step, **row)
        refuse_unless_finite(run, numbers)
        self._tell("on_step")
        if self.interrupted:
            run.stop(INTERRUPTED)

    def _between(self, before: int, ended: bool) -> None:
        """Validate and save, at the end of an epoch, every so many steps, and at the end of the run.

        Where Ctrl-C has ended it, only what would have been done anyhow is validated: the run goes on one day.
        """
        every, last = self.every, self._over()
        if last and not self.interrupted:  # the last step has a row, whatever ``log_every``
            self.run.history.add(self.run.step, loss=self.run.loss, **self.run.numbers)
        due = _due(every.validation, before, self.run.step, ended)
        if due or (last and not self.interrupted):
            self._evaluate()
        best = self.run.best is not None and self.run.best.step == self.run.step
        if self.keeper is not None and (best or _due(every.checkpoint, before, self.run.step, ended) or self._over()):
            self.keeper.save(self.run, self.feed, self.callbacks)

    def _evaluate(self) -> None:
        run = self.run
        if run.step == self._evaluated:
            return
        self._evaluated = run.step
        took, given = run.seconds - self._rated[0], run.samples - self._rated[1]
        found = self.evaluation(run)
        self._clock()
        self._rated = run.seconds, run.samples
        rate = given / took if took > 0 else float("nan")
        run.history.add(run.step, **found, seconds=run.seconds, samples_per_second=rate)
        if self.monitor is not None and self.monitor[0] in found:
            column, mode = self.monitor
            if run.best is None or run.best.beaten_by(found[column]):
                states = snapshot(run.params), snapshot(run.model_state)
                run.best = Best(column, mode, found[column], run.step, *states)
        self._tell("on_epoch")

    def _over(self) -> bool:
        """Whether the run has ended: all steps are taken, or it was stopped."""
        run = self.run
        if run.stopped:
            return True
        whole = run.epochs_planned is not None and run.epoch >= run.epochs_planned
        return whole or (run.steps_planned is not None and run.step >= run.steps_planned)

    def _tell(self, what: str) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(self.run)

    def _clock(self) -> None:
        now = perf_counter()
        self.run.seconds += now - self._last
        self._last = now

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._last = perf_counter()
        yield
        self._clock()

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after its step; a second one is Python's."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield  # Ctrl-C arrives elsewhere, or is ignored, as by what a shell runs in the background
            return

        def note(number: int, frame: Any) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _due(every: int | None, before: int, now: int, ended: bool) -> bool:
    """Whether something is due at step ``now`` that is done every so many steps, or at the end of an epoch."""
    return ended if every is None else now // every > before // every


def refuse_other_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; TypeError for what is none."""
    given: list[Any] = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for one in given:
        if not isinstance(one, Callback):
            raise TypeError(
                f"{here()}: fit: callbacks are instances of gc.training.Callback, got {one!r:.60}; a class with "
                "on_step(run) or on_epoch(run) derives from it"
            )
    return given


def refuse_missing_state(stepper: Stepper, params: Any, model_state: Any) -> None:
    """TypeError where the step wants a model state and none is given, or where there is nothing to train."""
    if not leaves(params):
        raise TypeError(f"{here()}: fit: the parameters hold no arrays: {params!r:.60}")
    if stepper.has_state and model_state is None:
        raise TypeError(f"{here()}: fit: the step has has_state=True: give the first model_state=")


def monitor_of(best: Any) -> tuple[str, str] | None:
    """The column that decides which parameters are the best ones, and whether its least or greatest value does."""
    pair = (best, "min") if isinstance(best, str) else best
    if pair is None or (isinstance(pair, tuple) and len(pair) == 2 and pair[1] in ("min", "max")):
        return pair
    raise ValueError(f"{here()}: fit: best is a column, (column, 'min') or (column, 'max'), got {best!r:.60}")


def keeper_of(checkpoint: Any, keep: int, monitor: tuple[str, str] | None) -> Keeper | None:
    """What saves into a folder or a `gradc.Checkpoints`; None where nothing is to be saved."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str | os.PathLike):
        from gradc.storage import Checkpoints

        direction: Any = None if monitor is None else monitor[1]
        checkpoint = Checkpoints(checkpoint, keep=keep, best=direction)
    if not all(hasattr(checkpoint, name) for name in ("save", "latest", "best")):
        raise TypeError(f"{here()}: fit: checkpoint is a folder or a gc.Checkpoints, got {checkpoint!r:.60}")
    direction = getattr(checkpoint, "direction", None if monitor is None else monitor[1])
    if monitor is not None and direction != monitor[1]:
        raise ValueError(
            f"{here()}: fit: the {monitor[1]}imum of {monitor[0]} is kept, but the store has best={direction!r}: "
            f"write gc.Checkpoints(folder, best={monitor[1]!r}), or checkpoint=folder, or best=None"
        )
    if hasattr(checkpoint, "prepare"):
        checkpoint.prepare()  # a folder that cannot be written to is found before the run, not after it
    return Keeper(checkpoint)


__all__ = ["fit"]
