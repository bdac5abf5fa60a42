"""A run in checkpoints: saved so that a run that goes on from one has the parameters of one that never stopped.

Enters: a run, the position of its data, its callbacks.  Leaves: checkpoints, and a run as one of them has it.
Invariant: all that the next step depends on is in a checkpoint: parameters, states, key, position, history, and what
callbacks remember.  Start reading at `Keeper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradc.errors import CheckpointError
from gradc.node import here
from gradc.training.callbacks import Callback
from gradc.training.feed import Feed
from gradc.training.history import History
from gradc.training.run import Best, Run, snapshot

_FORMAT = 1
#: why a run ended, where it may go on
INTERRUPTED = "interrupted (Ctrl-C)"


class Keeper:
    """Saves a run into ``store``, a `gradc.Checkpoints`, and takes it up again."""

    def __init__(self, store: Any):
        self.store = store
        self._saved = -1, ""

    def save(self, run: Run, feed: Feed, callbacks: Sequence[Callback]) -> None:
        """Write a checkpoint of this moment, unless there is one."""
        if self._saved == (run.step, run.stopped):
            return
        best = run.best
        fresh = best is not None and best.step == run.step
        record = {
            "format": _FORMAT, "position": feed.position, "step": run.step, "epoch": run.epoch,
            "history": run.history.packed(), "loss": float(run.loss).hex(), "seconds": run.seconds,
            "samples": run.samples, "stopped": run.stopped, "not_finite": run.not_finite,
            "best": None if best is None else [best.column, best.mode, float(best.value).hex(), best.step],
            "callbacks": [[type(c).__name__, c.record()] for c in callbacks],
        }  # fmt: skip
        metric = best.value if best is not None and fresh else None
        self.store.save(run.step, self._tree(run), metric=metric, record=record)
        self._saved = run.step, run.stopped

    def _tree(self, run: Run) -> dict[str, Any]:
        tree = {"params": run.params, "state": run.state, "key": run.key}
        return tree if run.model_state is None else tree | {"model_state": run.model_state}

    def resume(self, run: Run, feed: Feed, callbacks: Sequence[Callback], resume: Any) -> Feed:
        """Put the run where its newest checkpoint has it; the feed that goes on from there."""
        if resume not in ("auto", "never") and not isinstance(resume, bool):
            raise ValueError(f"{here()}: fit: resume is 'auto', True or False, got {resume!r:.40}")
        like = self._tree(run)
        found = self.store.latest(like)
        if resume is False or resume == "never":
            if found is not None:
                raise ValueError(
                    f"{here()}: fit: resume={resume!r}, and {found.path} is a checkpoint of step {found.step:,} "
                    "already: choose another folder, or delete that one"
                )
            return feed
        if found is None:
            if resume == "auto":
                return feed
            raise FileNotFoundError(f"{here()}: fit: resume={resume!r}, and there is no checkpoint to go on from")
        record = found.record
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            made = record.get("format") if isinstance(record, Mapping) else None
            what = "not by gc.fit" if made is None else f"by a gc.fit whose records have format {made!r:.20}"
            raise CheckpointError(
                f"{here()}: fit: {found.path} was written {what}, and this one goes on from format {_FORMAT}: choose "
                "another folder, or load its parameters with gc.Checkpoints(folder).latest() and begin with them"
            )
        self._fill(run, found.tree)
        run.step, run.epoch, run.loss = record["step"], record["epoch"], float.fromhex(record["loss"])
        run.seconds, run.samples, run.not_finite = record["seconds"], record["samples"], record["not_finite"]
        run.history = History.unpacked(record["history"])
        run.stopped = "" if record["stopped"] == INTERRUPTED else record["stopped"]
        self._saved = run.step, record["stopped"]
        names = [type(c).__name__ for c in callbacks]
        for name, remembered in record["callbacks"]:
            if name in names:
                number = names.index(name)
                names[number] = ""
                if remembered is not None:
                    callbacks[number].restore(remembered)
        if record["best"] is not None:
            self._resume_best(run, record["best"], like)
        return feed.moved_to(record["position"])

    def _fill(self, run: Run, tree: Any) -> None:
        run.params, run.state, run.key = tree["params"], tree["state"], np.asarray(tree["key"])
        run.model_state = tree.get("model_state")

    def _resume_best(self, run: Run, best: Any, like: Any) -> None:
        column, mode, value, step = best
        found = self.store.best(like)
        if found is not None and found.step == step:
            tree = found.tree
            run.best = Best(column, mode, float.fromhex(value), step, snapshot(tree["params"]), tree.get("model_state"))


__all__ = ["INTERRUPTED", "Keeper"]
