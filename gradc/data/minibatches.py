"""Batches of examples, in order or shuffled by index.

Enters: a tree of arrays, how many examples a batch has, a key.  Leaves: `Batches`, a `Source`.  Invariant: an epoch
hands out each example once (with ``drop_last`` all but a remainder), and its order is a function of the key and of the
epoch's number alone.  Start reading at `batches`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.containers import tree_map
from gradc.data.examples import Examples
from gradc.data.order import Order, words_of
from gradc.data.source import Source
from gradc.node import here

#: how many batches are made ahead of files
_AHEAD = 2


def batches(
    arrays: Any,
    batch_size: int | None = None,
    key: Any = None,
    shuffle: bool = True,
    drop_last: bool = False,
    epochs: int | None = None,
    *,
    prefetch: int | None = None,
) -> Batches:
    """Batches of ``batch_size`` rows of a tree of arrays, nested like the tree; None: all rows in one batch.

    ``arrays``: arrays of one first length, `np.memmap`, what reads rows from a file (h5py, zarr), pandas or polars
    frames and PyArrow tables (a dict of their columns; see `columns`), in any nesting.  They are never copied whole.
    ``shuffle`` draws another order for each pass by ``key``, of `gradc.random.key` or a whole number; without it rows
    come in order.  ``drop_last`` leaves out what does not fill a batch.  A loop makes ``epochs`` passes (None: one).
    ``prefetch``: how many batches a thread makes ahead (default: 2 from files, 0 from memory, where a batch takes less
    time than a thread).

    ``position`` is a JSON value; ``at(position)`` goes on from there to the very batch.

    >>> import gradc as gc, numpy as np
    >>> source = gc.data.batches((np.arange(5), np.arange(5) * 10), 2, gc.random.key(0))
    >>> len(source), sorted(int(i) for x, y in source for i in x)
    (3, [0, 1, 2, 3, 4])
    """
    examples = Examples.of(arrays, "batches")
    count = examples.count
    size = count if batch_size is None else checked_size(batch_size, "batch_size", "batches")
    if drop_last and size > count:
        raise ValueError(
            f"{here()}: batches: batch_size={size} of {count} examples with drop_last=True leaves no batch"
        )
    if epochs is not None:
        checked_size(epochs, "epochs", "batches")
    word = words_of(0 if key is None else key, "batches")
    mixes = bool(shuffle) and size < count
    if mixes and key is None:
        raise TypeError(
            f"{here()}: batches: shuffle=True needs a key: gc.data.batches(arrays, {size}, gc.random.key(0)), or "
            "shuffle=False for the order of the rows"
        )
    made_ahead: Any = (_AHEAD if examples.mapped else 0) if prefetch is None else prefetch
    if not isinstance(made_ahead, int) or made_ahead < 0:
        raise ValueError(f"{here()}: batches: prefetch is a number of batches from 0 on, got {prefetch!r:.40}")
    return Batches(examples, size, word if mixes else None, bool(drop_last), epochs, made_ahead)


def checked_size(value: Any, name: str, who: str) -> int:
    """A whole number from 1 on; TypeError or ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{here()}: {who}: {name} is a whole number, got {value!r:.40}")
    if value < 1:
        raise ValueError(f"{here()}: {who}: {name} is at least 1, got {value}")
    return int(value)


class Batches(Source):
    """See `batches`; ``examples`` is the number of examples, ``batch_size`` of how many a batch is."""

    def __init__(
        self, rows: Examples, batch_size: int, word: int | None, drop_last: bool, epochs: int | None, prefetch: int
    ):
        super().__init__(epochs, prefetch)
        self._rows, self._word = rows, word
        self.examples, self.batch_size, self.drop_last = rows.count, batch_size, drop_last
        self._order: tuple[int, Order] | None = None

    def __len__(self) -> int:
        whole, left = divmod(self.examples, self.batch_size)
        return whole + (left > 0 and not self.drop_last)

    def made(self, epoch: int, batch: int) -> Any:
        """A batch by its number."""
        begin = batch * self.batch_size
        end = min(begin + self.batch_size, self.examples)
        if self._word is None:
            return self._rows.take(slice(begin, end))
        return self._rows.take(self._order_of(epoch).between(begin, end))

    def together(self, epoch: int, batch: int, count: int) -> Any:
        """Whole batches that follow each other, stacked: their rows are taken at once."""
        begin, end = batch * self.batch_size, (batch + count) * self.batch_size
        if end > self.examples:
            return None
        rows = slice(begin, end) if self._word is None else self._order_of(epoch).between(begin, end)
        shape = count, self.batch_size
        return tree_map(lambda x: x.reshape(shape + x.shape[1:]), self._rows.take(rows))

    def _order_of(self, epoch: int) -> Order:
        known = self._order
        if known is None or known[0] != epoch:
            assert self._word is not None
            known = self._order = epoch, Order(self.examples, self._word, epoch)
        return known[1]

    def identity(self) -> dict[str, Any]:
        """What determines the batches."""
        key = None if self._word is None else f"{self._word:016x}"
        return {
            "examples": self.examples, "batch_size": self.batch_size, "key": key, "drop_last": self.drop_last,
            "arrays": self._rows.kinds,
        }  # fmt: skip

    def __repr__(self) -> str:
        order = "in order" if self._word is None else "shuffled"
        return (
            f"<{len(self):,} batches of {self.batch_size:,} of {self.examples:,} examples, {order}; epoch "
            f"{self.epoch}, batch {self.batch}>"
        )


__all__ = ["Batches", "batches", "checked_size"]
