"""A folder of checkpoints: the last k and the best are kept, and what cannot be read is passed over.

Enters: a folder, and trees with their steps.  Leaves: the newest tree that can be read, or the best.
Invariant: a file is removed only when ``keep`` newer ones are known to be sound; files that cannot be read, and files
that gradc did not name, are never touched.  Start reading at `Checkpoints`.

A file is called ``000042-step-1200.safetensors``: the 42nd that was saved here, after step 1200.  The first number
orders them, so that the last one is the newest even when a run began again from an earlier step.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gradc.errors import CheckpointError, CheckpointMismatchError, CheckpointWarning
from gradc.node import here
from gradc.places import warn_user
from gradc.runtime.files import create, make_durable, part_beside, remove_abandoned
from gradc.storage.tensors import load_metadata, plain, read, save

_NAME = re.compile(r"(?P<number>[0-9]{6,18})-step-(?P<step>[0-9]{1,18})\.safetensors")
_MOST_STEPS = 10**18


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read: its tree, and what was saved with it."""

    tree: Any
    step: int
    metric: float | None  #: None if none was given
    record: dict[str, Any]
    path: Path

    def __repr__(self) -> str:
        metric = "" if self.metric is None else f", metric {self.metric:.6g}"
        return f"<checkpoint of step {self.step:,}{metric}, {self.path}>"


@dataclass(frozen=True)
class _Facts:
    """What is known of a sound file."""

    step: int
    metric: float | None


class Checkpoints:
    """Checkpoints of a training run in ``folder``, which the first `save` makes.

    The last ``keep`` are kept (None: all), and with ``best`` "min" or "max" the one whose metric is least or greatest.
    Several processes may save into one folder and read from it.

    >>> import gradc as gc, numpy as np, tempfile
    >>> checkpoints = gc.Checkpoints(tempfile.mkdtemp(), keep=2, best="min")
    >>> for step, loss in enumerate([0.5, 0.2, 0.3, 0.4]):
    ...     _ = checkpoints.save(step, {"w": np.full(2, loss)}, metric=loss)
    >>> checkpoints.latest().step, checkpoints.best().step
    (3, 1)
    >>> [path.name for path in checkpoints.paths]
    ['000002-step-1.safetensors', '000003-step-2.safetensors', '000004-step-3.safetensors']
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int | None = 3,
        best: Literal["min", "max"] | None = None,
    ):
        self.folder = Path(os.fspath(folder))
        if "\0" in str(self.folder):
            raise FileNotFoundError(f"{here()}: Checkpoints: {str(folder)!r} has a null byte, which no name has")
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{here()}: Checkpoints: {self.folder} is a file; name a folder")
        if keep is not None and (not _is_whole(keep) or keep < 1):
            raise ValueError(f"{here()}: Checkpoints: keep is a whole number from 1 on, None for all, got {keep!r:.40}")
        if best not in ("min", "max", None):
            raise ValueError(f"{here()}: Checkpoints: best is 'min', 'max' or None, got {best!r:.40}")
        self.keep, self.direction = keep, best
        self._known: dict[Path, tuple[tuple[int, ...], _Facts | None]] = {}

    def __repr__(self) -> str:
        steps = [int(match["step"]) for _, match in self._listed()]
        held = f"{len(steps)} files, the last of step {steps[-1]}" if steps else "empty"
        return f"<Checkpoints in {self.folder}: {held}>"

    @property
    def paths(self) -> list[Path]:
        """The files in the folder, the newest last, whether they can be read or not."""
        return [path for path, _ in self._listed()]

    # -- writing -------------------------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Make the folder, and raise OSError now if nothing can be written there: before a long run, not after it."""
        make_durable(self.folder)
        probe = part_beside(self.folder / "probe")
        create(probe, b"", 0o600)
        probe.unlink()

    def save(
        self, step: int, tree: Any, *, metric: float | None = None, record: Mapping[str, Any] | None = None
    ) -> Path:
        """Write ``tree``, the state after ``step`` steps, and remove what is no longer to be kept; returns the file.

        ``metric``: a number to choose the best by; NaN is never the best.  ``record``: JSON values by name, such as
        the position in the data.  Nothing is removed before the new file is complete and on disk.
        Raises what `gradc.save` raises.
        """
        count = _whole(step)
        number = None if metric is None else _number(metric)
        said = plain({} if record is None else record, "record")
        if not isinstance(said, dict):
            raise TypeError(f"{here()}: Checkpoints.save: record is a mapping by name, got {record!r:.60}")
        make_durable(self.folder)
        remove_abandoned(self.folder, lambda name: _NAME.fullmatch(name) is not None)
        last = max((int(match["number"]) for _, match in self._listed()), default=0)
        path = self.folder / f"{last + 1:06d}-step-{count}.safetensors"
        save(path, tree, metadata={"step": count, "metric": number, "record": said})
        with suppress(FileNotFoundError):  # another process wrote newer ones, and found that this is not to be kept
            self._known[path] = _stamp(path), _Facts(count, number)
        self._prune(path)
        return path

    def _prune(self, written: Path) -> None:
        """Remove sound files other than the last ones, the best, and the one that was just written."""
        paths = self.paths
        if self.keep is None or len(paths) <= self.keep:
            return
        sound = [(path, facts) for path in paths if (facts := self._facts(path)) is not None]
        kept = {written, *(path for path, _ in sound[-self.keep :])}
        kept.update(path for path, _ in self._ranked(sound)[:1])
        for path, _ in sound:
            if path not in kept:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            warn_user(f"{path} is no longer needed and cannot be removed: {error.strerror}", CheckpointWarning)
        self._known.pop(path, None)

    # -- reading -------------------------------------------------------------------------------------------------------
    def latest(self, like: Any = None) -> Restored | None:
        """The newest checkpoint that can be read, nested like ``like`` (see `gradc.load`); None if there is none.

        One that cannot be read is named in a CheckpointWarning, and the one before it is tried.  One that can be read
        but does not fit ``like`` raises CheckpointMismatchError: an older one would fit no better.
        """
        return self._first(lambda: list(reversed(self.paths)), like)

    def best(self, like: Any = None) -> Restored | None:
        """The checkpoint with the best metric among those that can be read, the earliest of equals; None if none is.

        ValueError if ``best=`` did not say which metrics are good.
        """
        if self.direction is None:
            raise ValueError(
                f"{here()}: Checkpoints.best: this folder keeps no best one; say Checkpoints(folder, best='min') for a "
                "loss, or best='max' for an accuracy"
            )

        def candidates() -> list[Path]:
            sound = [(path, facts) for path in self.paths if (facts := self._facts(path)) is not None]
            return [path for path, _ in self._ranked(sound)]

        return self._first(candidates, like)

    def _ranked(self, sound: list[tuple[Path, _Facts]]) -> list[tuple[Path, _Facts]]:
        """Those with a metric, the best first; of equals the earliest."""
        if self.direction is None:
            return []
        sign = 1.0 if self.direction == "min" else -1.0
        counted = [(sign * f.metric, path, f) for path, f in sound if f.metric is not None and not math.isnan(f.metric)]
        return [(path, facts) for _, path, facts in sorted(counted, key=lambda row: row[0])]

    def _first(self, candidates: Callable[[], list[Path]], like: Any) -> Restored | None:
        """The first of the candidates that can be read; they are listed again if one vanished meanwhile."""
        while True:
            vanished = False
            for path in candidates():
                try:
                    stamp = _stamp(path)
                    tree, metadata = read(path, like)
                    facts, record = _told(path, metadata)
                except CheckpointMismatchError:
                    raise
                except FileNotFoundError:
                    vanished = not path.is_symlink() and not path.exists()
                    if not vanished:
                        self._pass_over(path, "it is a link to nothing")
                except (CheckpointError, OSError) as error:
                    self._pass_over(path, str(error))
                else:
                    self._known[path] = stamp, facts
                    return Restored(tree, facts.step, facts.metric, record, path)
            if not vanished:
                return None

    def _facts(self, path: Path) -> _Facts | None:
        """What is known of a file that is sound; each is read in full once, and again when it changed."""
        try:
            stamp = _stamp(path)
        except OSError:
            return None
        if path in self._known and self._known[path][0] == stamp:
            return self._known[path][1]
        facts = None
        try:
            facts = _told(path, load_metadata(path))[0]
        except FileNotFoundError:
            return None
        except (CheckpointError, OSError) as error:
            self._pass_over(path, str(error))
        self._known[path] = stamp, facts
        return facts

    def _pass_over(self, path: Path, why: str) -> None:
        warn_user(f"checkpoint {path.name} in {self.folder} is passed over and kept: {why}", CheckpointWarning)

    def _listed(self) -> list[tuple[Path, re.Match[str]]]:
        """The files that have a checkpoint's name, in the order in which they were saved."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        found = [match for name in names if (match := _NAME.fullmatch(name))]
        found.sort(key=lambda match: (int(match["number"]), int(match["step"]), match.string))
        return [(self.folder / match.string, match) for match in found]


def _told(path: Path, metadata: Mapping[str, Any]) -> tuple[_Facts, dict[str, Any]]:
    """What `Checkpoints.save` said of a tree; CheckpointError if it was not saved so."""
    step, metric, record = (metadata.get(key) for key in ("step", "metric", "record"))
    if type(step) is not int or not (metric is None or type(metric) is float) or not isinstance(record, dict):
        raise CheckpointError(f"{here()}: {path} was not written by Checkpoints.save: it states no step")
    return _Facts(step, metric), record


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _whole(step: Any) -> int:
    if not _is_whole(step) or not 0 <= step < _MOST_STEPS:
        raise ValueError(f"{here()}: Checkpoints.save: step is a whole number from 0 on, got {step!r:.60}")
    return int(step)


def _number(metric: Any) -> float:
    try:
        return float(metric)
    except (TypeError, ValueError):
        raise TypeError(f"{here()}: Checkpoints.save: metric is a number or None, got {metric!r:.60}") from None
