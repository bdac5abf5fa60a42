"""The batches of a run, epoch by epoch, from whatever the user has: arrays, a `gradc.data.Source`, any iterable.

Enters: data.  Leaves: groups of batches, as tuples of arguments, and the position behind them.  Invariant: the position
is read when all batches of a group were handed out, so a run that goes on from it repeats and skips none.  Start
reading at `feed_of`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from gradc.containers import leaves_of
from gradc.data import Source, batches
from gradc.data.examples import is_table
from gradc.node import here


class Feed:
    """Batches of any iterable, which is iterated once for each epoch."""

    def __init__(self, data: Iterable[Any]):
        self.data, self.epoch, self.batch = data, 0, 0
        self.once = iter(data) is data  # a generator, which cannot begin again

    @property
    def steps(self) -> int | None:
        """How many batches an epoch has, if that is known."""
        try:
            return len(self.data)  # type: ignore[arg-type]
        except TypeError:
            return None

    @property
    def passes(self) -> int:
        """How many epochs were handed out whole."""
        return self.epoch + (self.steps is not None and self.batch >= self.steps)

    @property
    def position(self) -> Any:
        """Where the next batch stands, as a JSON value."""
        return {"epoch": self.epoch, "batch": self.batch}

    def moved_to(self, position: Any) -> Feed:
        """A feed that goes on from there: the batches before it in its epoch are drawn once more, and left out."""
        made = copy.copy(self)
        made.epoch, made.batch = int(position["epoch"]), int(position["batch"])
        return made

    def rest(self) -> Iterator[Any]:
        """The batches that are left of this epoch."""
        skipped, count = self.batch, 0
        for count, batch in enumerate(self.data, 1):
            if count <= skipped:
                continue
            self.batch = count
            yield batch
        if count == 0:
            raise ValueError(f"gc.fit: the data has no batches: {self.data!r:.60}")
        self.epoch, self.batch = self.epoch + 1, 0

    def groups(self, size: int, most: int | None) -> Iterator[list[tuple[Any, ...]]]:
        """Groups of ``size`` batches of this epoch, the last one smaller, up to ``most`` batches in all."""
        group: list[tuple[Any, ...]] = []
        for taken, batch in enumerate(self.rest(), 1):
            group.append(as_arguments(batch))
            full = most is not None and taken >= most
            if len(group) == size or full:
                yield group
                group = []
            if full:
                return
        if group:
            yield group


class SourceFeed(Feed):
    """Batches of a source, which knows where it stands."""

    def __init__(self, source: Any):
        super().__init__(source)
        self.source = source

    @property
    def steps(self) -> int | None:
        """How many batches an epoch has."""
        return len(self.source)

    @property
    def passes(self) -> int:
        """How many epochs were handed out whole."""
        return int(self.source.epoch)

    @property
    def position(self) -> Any:
        """Where the next batch stands."""
        return self.source.position

    def moved_to(self, position: Any) -> Feed:
        """A feed that goes on from there."""
        return SourceFeed(self.source.at(position))

    def rest(self) -> Iterator[Any]:
        """The batches that are left of this epoch."""
        yield from self.source.rest()


def feed_of(data: Any, batch_size: Any, key: Any, shuffle: bool, drop_last: bool, who: str = "fit") -> Feed:
    """The feed of what was given as data."""
    if isinstance(data, Source):
        if batch_size is not None:
            raise TypeError(f"{here()}: {who}: the data is batches already; leave out batch_size=")
        return SourceFeed(data)
    if is_arrays(data):
        return SourceFeed(batches(data, batch_size, key, shuffle, drop_last))
    if isinstance(data, list) and any(isinstance(x, np.ndarray) for x in data):
        raise TypeError(
            f"{here()}: {who}: a list of arrays may mean batches or arrays of examples: write (x, y) for arrays "
            "with a row for each example, or [(x1, y1), (x2, y2), …] for batches"
        )
    if not isinstance(data, Iterable) or isinstance(data, str | bytes):
        raise TypeError(
            f"{here()}: {who}: data is arrays, gc.data.batches(…) or an iterable of batches, got {data!r:.60}"
        )
    if batch_size is not None:
        raise TypeError(f"{here()}: {who}: batch_size= is for arrays; an iterable of batches has its own")
    return Feed(data)


def is_arrays(data: Any) -> bool:
    """Whether data is a tree of arrays with a row for each example, and no iterable of batches."""
    if isinstance(data, tuple | dict) or (is_dataclass(data) and not isinstance(data, type)) or is_table(data):
        return True
    return hasattr(data, "shape") and hasattr(data, "dtype")


def as_arguments(batch: Any) -> tuple[Any, ...]:
    """A batch as the arguments behind the parameters: a tuple or a list is several, all else is one."""
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def size_of(batch: tuple[Any, ...]) -> int:
    """How many examples a batch has: the length of its first array."""
    if batch and type(batch[0]) is np.ndarray and batch[0].ndim:
        return len(batch[0])
    first = next((x for x in leaves_of(batch)[0] if np.ndim(x)), None)
    return 1 if first is None else int(np.shape(first)[0])


__all__ = ["Feed", "as_arguments", "feed_of", "size_of"]
