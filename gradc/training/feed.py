"""The batches of a run, epoch by epoch, from whatever the user has: arrays, a `gradc.data.Source`, any iterable.

Enters: data.  Leaves: groups of batches, as tuples of arguments, and the position behind them.  Invariant: the position
is read when all batches of a group were handed out, so a run that goes on from it repeats and skips none.  Start
reading at `feed_of`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np

from gradc.containers import flatten, leaves_of, path_text, tree_map
from gradc.data import Source, batches
from gradc.data.examples import is_table
from gradc.node import here


@dataclass(frozen=True)
class Group:
    """Batches that are taken together: stacked along a first axis, or one by one."""

    count: int
    stack: tuple[Any, ...] | None
    batches: tuple[tuple[Any, ...], ...] = ()

    @classmethod
    def of(cls, batches: Sequence[tuple[Any, ...]]) -> Group:
        """Batches as a group, stacked if there are several and all have the same structure, shapes and dtypes."""
        if len(batches) == 1 or not stackable(batches):
            return cls(len(batches), None, tuple(batches))
        columns = zip(*batches, strict=True)
        return cls(len(batches), tuple(tree_map(lambda *parts: np.stack(parts), *column) for column in columns))

    def batch(self, number: int) -> tuple[Any, ...]:
        """One of them."""
        if self.stack is None:
            return self.batches[number]
        made: tuple[Any, ...] = tree_map(lambda x: x[number], self.stack)
        return made

    @property
    def samples(self) -> int:
        """How many examples they have."""
        if self.stack is not None:
            return self.count * size_of(self.batch(0))
        return sum([size_of(batch) for batch in self.batches])


def stackable(batches: Sequence[tuple[Any, ...]]) -> bool:
    """Whether batches have one structure, and the same shapes and dtypes."""
    kinds = []
    for batch in batches:
        leaves, structure = leaves_of(batch)
        kinds.append((structure, [(np.shape(x), getattr(x, "dtype", type(x))) for x in leaves]))
    return all(kind == kinds[0] for kind in kinds)


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

    @property
    def first(self) -> Any:
        """The first batch, if it can be had without taking it; else None."""
        return self.data[0] if isinstance(self.data, list) and self.data else None

    def moved_to(self, position: Any) -> Feed:
        """A feed that goes on from there: the batches before it in its epoch are drawn once more, and left out."""
        if set(position) != {"epoch", "batch"}:
            raise ValueError(
                f"{here()}: fit: the checkpoint is of a run on arrays or gc.data.batches(…), {position!r:.80}, and the "
                "data is another iterable.\n  Give the data and the settings of that run, or another folder."
            )
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

    def groups(self, size: int, most: int | None) -> Iterator[Group]:
        """Groups of ``size`` batches of this epoch, the last one smaller, up to ``most`` batches in all."""
        group: list[tuple[Any, ...]] = []
        for taken, batch in enumerate(self.rest(), 1):
            group.append(as_arguments(batch))
            full = most is not None and taken >= most
            if len(group) == size or full:
                yield Group.of(group)
                group = []
            if full:
                return
        if group:
            yield Group.of(group)


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

    @property
    def first(self) -> Any:
        """The next batch, which is not taken."""
        return self.source.made(self.source.epoch, self.source.batch)

    def moved_to(self, position: Any) -> Feed:
        """A feed that goes on from there."""
        return SourceFeed(self.source.at(position))

    def rest(self) -> Iterator[Any]:
        """The batches that are left of this epoch."""
        yield from self.source.rest()

    def groups(self, size: int, most: int | None) -> Iterator[Group]:
        """Groups of batches, stacked by the source where it can."""
        for count, stack, parts in self.source.groups(size, most):
            if stack is None:
                yield Group.of([as_arguments(part) for part in parts])
            else:
                yield Group(count, as_arguments(stack))


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


def described(tree: Any) -> list[str]:
    """Path, dtype and shape of each array of a tree."""
    leaves, paths, _ = flatten(tree)
    return [
        f"{path_text(p).removeprefix('.')} {getattr(x, 'dtype', type(x).__name__)}{list(np.shape(x))}".strip()
        for p, x in zip(paths, leaves, strict=True)
    ]


def shown(tree: Any) -> str:
    """The shapes and dtypes of a tree, of its first eight arrays, for messages."""
    parts = described(tree)
    return "{" + ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "") + "}"


__all__ = ["Feed", "Group", "as_arguments", "described", "feed_of", "shown", "size_of"]
