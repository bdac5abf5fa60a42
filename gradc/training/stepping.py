"""The native step of a run, one or several at a time, whatever the user gave: a loss, a train_step, a step of his own.

Enters: that, and how many steps a call makes.  Leaves: `Stepper`, which moves a `Run` on.  Invariant: the learning rate
and the norm of the gradient come out of the compiled step itself.  Start reading at `stepper_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.api.batched import vmap
from gradc.api.compiled import Jitted, Step, jit, train_step
from gradc.api.control import scan
from gradc.containers import flatten, path_text
from gradc.errors import DivergedError
from gradc.node import here
from gradc.optim import Optimizer
from gradc.random import fold_in
from gradc.trace import function_name
from gradc.training.feed import Group, shown
from gradc.training.history import RESERVED
from gradc.training.run import Run

MEASURES = ("gradient_norm", "learning_rate")
_KEYS = 256  #: keys of steps that are made together


class Stepper:
    """Calls the step and writes into the run what it returns.

    ``loss(params, [model_state,] *batch)`` is the loss alone, None where only a step was given.
    """

    def __init__(
        self, step: Callable[..., Any], optimizer: Optimizer | None, loss: Callable[..., Any] | None, *,
        has_state: bool, has_aux: bool, measures: bool, several: int, with_key: bool,
    ):  # fmt: skip
        self.step, self.optimizer, self.loss = step, optimizer, loss
        self.has_state, self.has_aux, self.measures, self.with_key = has_state, has_aux, measures, with_key
        self.several = several
        self.many = self._scanned() if several > 1 else None
        self._keys: tuple[int, Any] = -1, None

    def _scanned(self) -> Jitted:
        """Several steps as one native function: a scan over their batches."""
        moved = 3 if self.has_state else 2

        def steps(*given: Any) -> Any:
            carry, batches = given[:moved], given[moved:]

            def one(carry: Any, batch: Any) -> Any:
                results = self.step(*carry, *batch)
                return results[:moved], results[moved:]

            last, rest = scan(one, carry, batches)
            return (*last, *rest)

        steps.__name__ = f"{function_name(self.step)}s"
        if isinstance(self.step, Jitted):
            donated = tuple(range(moved)) if self.step.donate else ()
            return Jitted(steps, (), donated, self.step.options)
        made: Jitted = jit(steps)
        return made

    @property
    def compiled(self) -> Jitted | None:
        """The step as gradc compiles it, if it does."""
        return self.step if isinstance(self.step, Jitted) else None

    def first_state(self, params: Any) -> Any:
        """The optimizer's state before the first step."""
        assert self.optimizer is not None
        return self.optimizer.init(params)

    def __call__(self, run: Run, group: Group) -> list[dict[str, float]]:
        """Take a step with each batch of a group; the numbers of each, the loss among them."""
        first = run.step
        if self.many is not None and group.stack is not None and group.count == self.several:
            keys = (np.stack([self._key(run.key, first + i) for i in range(group.count)]),) if self.with_key else ()
            results = self._called(self.many, run, (*group.stack, *keys))
            columns = {name: np.asarray(values, np.float64).tolist() for name, values in results}
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        found = []
        for i in range(group.count):
            keys = (self._key(run.key, first + i),) if self.with_key else ()
            found.append({k: float(v) for k, v in self._called(self.step, run, (*group.batch(i), *keys))})
        return found

    def _key(self, key: Any, step: int) -> Any:
        """The key of a step: `gradc.random.fold_in` of the run's key and the step's number."""
        block, at = divmod(step, _KEYS)
        if self._keys[0] != block:
            numbers = np.arange(block * _KEYS, (block + 1) * _KEYS, dtype=np.uint32)
            self._keys = block, np.asarray(vmap(fold_in, (None, 0))(key, numbers))
        return self._keys[1][at]

    def _called(self, step: Callable[..., Any], run: Run, batch: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """Call a step, keep the states that it returns, and return its loss and its numbers by name."""
        states = (run.params, run.state, run.model_state) if self.has_state else (run.params, run.state)
        try:
            results = step(*states, *batch)
        except Exception as error:
            if run.step == 0:
                error.add_note(f"gc.fit: at the first step, of parameters {shown(run.params)}, batch {shown(batch)}")
            raise
        wanted = len(states) + 1 + self.has_aux + self.measures
        if not isinstance(results, tuple) or len(results) != wanted:
            form = "(params, state, model_state, loss)" if self.has_state else "(params, state, loss)"
            raise TypeError(
                f"{here()}: fit: the step must return {form}, got "
                f"{f'a tuple of {len(results)}' if isinstance(results, tuple) else type(results).__name__}"
            )
        run.params, run.state, *rest = results
        if self.has_state:
            run.model_state = rest.pop(0)
        loss = rest.pop(0)
        numbers = dict(rest.pop()) if self.measures else {}
        if self.has_aux:
            run.aux = rest.pop()
            numbers |= _numbers_of(run.aux, stacked=step is self.many)
        return [("loss", loss), *numbers.items()]


def stepper_of(
    given: Callable[..., Any], optimizer: Any, *, has_aux: bool, has_state: bool, with_key: bool, several: int,
    has_own_state: bool,
) -> Stepper:  # fmt: skip
    """The stepper of what the user gave first."""
    if not callable(given):
        raise TypeError(f"{here()}: fit: the first argument is a loss or a step, a function, got {given!r:.60}")
    made = getattr(given, "function", None)
    if isinstance(made, Step):
        if optimizer is not None:
            raise TypeError(f"{here()}: fit: a gc.train_step has its optimizer; leave out optimizer=")
        return Stepper(
            given, made.optimizer, made.alone, has_state=made.has_state, has_aux=made.has_aux,
            measures=hasattr(made, "measure"), several=several, with_key=with_key,
        )  # fmt: skip
    if optimizer is not None:
        step = train_step(given, optimizer, has_aux, has_state=has_state, measure=MEASURES)
        alone = step.function.alone  # type: ignore[attr-defined]
        return Stepper(
            step, Optimizer(*optimizer), alone, has_state=has_state, has_aux=has_aux, measures=True, several=several,
            with_key=with_key,
        )  # fmt: skip
    if has_own_state:
        return Stepper(
            given, None, None, has_state=has_state, has_aux=has_aux, measures=False, several=several,
            with_key=with_key,
        )  # fmt: skip
    raise TypeError(
        f"{here()}: fit: {function_name(given)} is a loss: give optimizer=gc.optim.adam(1e-3), or another.\n"
        "  A step of your own, (params, state, *batch) -> (params, state, loss), is given its first state=."
    )


def _numbers_of(aux: Any, stacked: bool) -> dict[str, Any]:
    """Those values of a dict that are single numbers for a step, for the history; a name that is `gradc.fit`'s own
    gets "aux_" before it."""
    if not isinstance(aux, dict):
        return {}
    single = {name: value for name, value in aux.items() if isinstance(name, str) and np.ndim(value) == stacked}
    return {f"aux_{name}" if name in RESERVED else name: value for name, value in single.items()}


def refuse_unless_finite(run: Run, rows: Sequence[dict[str, float]], patience: int = 10) -> None:
    """DivergedError once the parameters are no numbers any more, or the loss was none ``patience`` times in a row.
    ``rows``: what the newest steps measured, the loss and where it is known the norm of the gradient.

    A step that was left out because its gradient was not finite, as mixed precision does, leaves finite parameters.
    """
    for row in rows:
        run.not_finite = 0 if math.isfinite(row["loss"]) else run.not_finite + 1
    off = [k for k, r in enumerate(rows) if not math.isfinite(r["loss"] + r.get("gradient_norm", 0.0))]
    if not off:
        return
    leaves, paths, _ = flatten(run.params)
    broken = [path_text(p).removeprefix(".") or "the parameter" for p, x in zip(paths, leaves, strict=True)
              if not np.isfinite(np.asarray(x, np.float64)).all()]  # fmt: skip
    lasting = run.not_finite >= patience
    if not broken and not lasting:
        return
    first, row = run.step - len(rows) + 1 + off[0], rows[off[0]]
    kept = run.history["loss"] if "loss" in run.history else np.zeros(0)
    rates = row.get("learning_rate")
    good = kept[np.isfinite(kept)]
    before = f"; the last finite loss was {good[-1]:.6g}" if len(good) else ""
    rate = f", at learning rate {rates:.4g}" if rates is not None and np.isfinite(rates) else ""
    norm = row.get("gradient_norm")
    gradient = f", with a gradient of norm {norm:.4g}" if norm is not None else ""
    named = f"{', '.join(broken[:3])}{' and more' if len(broken) > 3 else ''} hold{'s' * (len(broken) == 1)} no numbers"
    seen = "the gradient is no number" if math.isfinite(row["loss"]) else f"the loss is {row['loss']:g}"
    what = named if broken else f"the loss has been no number for {run.not_finite} steps"
    raise DivergedError(
        f"gc.fit: {seen} at step {first:,} (epoch {run.epoch + 1}){rate}{gradient}{before}; {what}.\n"
        "  Divide the learning rate by ten, or put gc.optim.clip_by_global_norm(1.0) before the optimizer, and look\n"
        "  for values in the data that are no numbers.  With gc.train_step(loss, optimizer, check_nans=True) as the\n"
        "  first argument the line that makes the first NaN is named before it reaches the parameters.\n"
        "  The run so far is .run of this error, the batch of its last step .run.batch; checkpoints are older.",
        run,
    )


__all__ = ["Stepper", "refuse_unless_finite", "stepper_of"]
