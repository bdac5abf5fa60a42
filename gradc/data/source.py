"""A source of batches: it knows where it stands, goes on from any place, and can make batches ahead in a thread.

Enters: how many batches a pass has, and a function that makes one of them.  Leaves: batches in order.  Invariant: the
position counts the batches that were handed out, not those that were made ahead; it is a JSON value, and a source put
there goes on with the very same batches.  Start reading at `Source`.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, TypeVar

from gradc.node import here

T = TypeVar("T")


class Source(ABC):
    """Batches, pass after pass.

    A loop over a source runs to the end of the pass, or of the ``epochs``-th pass; the next loop goes on with the one
    behind it, in another order.  ``len`` is the number of batches of a pass.
    """

    title = "batches"

    def __init__(self, epochs: int | None, prefetch: int):
        self.epochs, self.prefetch = epochs, prefetch
        self.epoch = 0  #: passes that are complete
        self.batch = 0  #: batches of this pass that were handed out

    @abstractmethod
    def __len__(self) -> int:
        """How many batches a pass has."""

    @abstractmethod
    def made(self, epoch: int, batch: int) -> Any:
        """A batch by its number."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What determines the batches, as a JSON value."""

    # -- where it stands -----------------------------------------------------------------------------------------------
    @property
    def position(self) -> dict[str, Any]:
        """Where the next batch stands, as a JSON value for `at`."""
        return {"epoch": self.epoch, "batch": self.batch, **self.identity()}

    def at(self, position: Mapping[str, Any]) -> Any:
        """A source of the same data that goes on from ``position``, to the very batch.

        ValueError where the position is one of other data or other settings, which would go on with other batches.
        """
        given: Any = position
        if not isinstance(given, Mapping) or not {"epoch", "batch"} <= set(position):
            raise ValueError(f"{here()}: {self.title}: not a position: {position!r:.80}; one is what .position says")
        mine = self.identity()
        other = [k for k in mine if position.get(k) != mine[k]]
        if other:
            told = "; ".join(f"{k} was {position.get(k)!r} and is {mine[k]!r}" for k in other)
            raise ValueError(
                f"{here()}: {self.title}: the position belongs to other batches: {told}.\n  Give the data and the "
                "settings of that run, or begin anew without the position."
            )
        epoch, batch = position["epoch"], position["batch"]
        if not all(isinstance(n, int) and n >= 0 for n in (epoch, batch)) or batch >= len(self):
            raise ValueError(
                f"{here()}: {self.title}: no position: epoch {epoch!r:.20}, batch {batch!r:.20} of {len(self)} batches"
            )
        made = copy.copy(self)
        made.epoch, made.batch = epoch, batch
        return made

    # -- batches -------------------------------------------------------------------------------------------------------
    def together(self, epoch: int, batch: int, count: int) -> Any:
        """``count`` batches from ``batch`` on, stacked along a new first axis; None where they have different shapes,
        or where that would be no faster than to make them one by one.
        """
        return None

    def groups(self, count: int, most: int | None = None) -> Iterator[tuple[int, Any, list[Any]]]:
        """The batches that are left of this epoch, at most ``most`` of them, up to ``count`` at a time.

        Each group is ``(how many, their stack, [])``, or ``(how many, None, batches)``.
        """
        epoch, begin = self.epoch, self.batch
        end = len(self) if most is None else min(len(self), begin + most)

        def make(start: int) -> tuple[int, Any, list[Any]]:
            stop = min(start + count, end)
            stack = self.together(epoch, start, count) if 1 < count == stop - start else None
            return stop - start, stack, [] if stack is not None else [self.made(epoch, k) for k in range(start, stop)]

        starts = range(begin, end, count)
        for start, group in zip(starts, ahead(make, starts, self.prefetch), strict=True):
            stop = start + group[0]
            self.epoch, self.batch = (epoch, stop) if stop < len(self) else (epoch + 1, 0)
            yield group

    def rest(self) -> Iterator[Any]:
        """The batches that are left of this pass."""
        for _, _, batches in self.groups(1):
            yield batches[0]

    def __iter__(self) -> Iterator[Any]:
        every = self.epochs or 1
        end = (self.epoch // every + 1) * every
        while self.epoch < end:
            yield from self.rest()


def ahead(make: Callable[[int], T], numbers: range, count: int) -> Iterator[T]:
    """``make(k)`` for each of ``numbers``, up to ``count`` of them made ahead by a thread; its errors arrive here.

    Whoever stops early leaves no thread behind; a count of 0 needs none.
    """
    if count == 0:
        yield from map(make, numbers)
        return
    room, results = threading.Semaphore(count), SimpleQueue[tuple[Any, BaseException | None]]()
    stopped = threading.Event()

    def work() -> None:
        for k in numbers:
            room.acquire()
            if stopped.is_set():
                return
            try:
                results.put((make(k), None))
            except BaseException as error:
                results.put((None, error))
                return

    thread = threading.Thread(target=work, name="gradc batches", daemon=True)
    thread.start()
    try:
        for _ in numbers:
            made, error = results.get()
            if error is not None:
                raise error
            room.release()
            yield made
    finally:
        stopped.set()
        room.release()
        thread.join()


__all__ = ["Source", "ahead"]
