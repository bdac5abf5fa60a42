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
        made = copy.copy(self)
        made.epoch, made.batch = int(position["epoch"]), int(position["batch"])
        return made

    # -- batches -------------------------------------------------------------------------------------------------------
    def rest(self) -> Iterator[Any]:
        """The batches that are left of this pass."""
        epoch, numbers = self.epoch, range(self.batch, len(self))
        making = (self.made(epoch, k) for k in numbers) if self.prefetch == 0 else ahead(
            lambda k: self.made(epoch, k), numbers, self.prefetch
        )  # fmt: skip
        for k, made in zip(numbers, making, strict=True):
            self.epoch, self.batch = (epoch, k + 1) if k + 1 < len(self) else (epoch + 1, 0)
            yield made

    def __iter__(self) -> Iterator[Any]:
        every = self.epochs or 1
        end = (self.epoch // every + 1) * every
        while self.epoch < end:
            yield from self.rest()


def ahead(make: Callable[[int], T], numbers: range, count: int) -> Iterator[T]:
    """``make(k)`` for each of ``numbers``, up to ``count`` of them made ahead by a thread; its errors arrive here.

    Whoever stops early leaves no thread behind.
    """
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
