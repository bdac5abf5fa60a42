"""Sequences and classes as arrays: one-hot rows, windows of tokens, padding with masks, batches of like lengths.

Enters: class numbers, tokens, sequences of different length.  Leaves: arrays, views and `Buckets`.  Invariant: a mask
is true exactly where a value comes from a sequence.  Start reading at `pad`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradc.data.examples import Examples
from gradc.data.minibatches import checked_size
from gradc.data.order import Order, words_of
from gradc.data.source import Source
from gradc.node import here

Array = np.ndarray[Any, Any]


def one_hot(labels: Any, classes: int | None = None, dtype: Any = np.float32) -> Array:
    """Class numbers as rows of zeros with a 1: shape ``labels.shape + (classes,)``; None: as many as there are.

    >>> import gradc as gc
    >>> gc.data.one_hot([2, 0]).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    numbers = np.asarray(labels)
    if numbers.dtype.kind not in "iub":
        raise TypeError(
            f"{here()}: one_hot: labels are class numbers 0, 1, …, got {numbers.dtype}; for names: "
            "names, labels = np.unique(labels, return_inverse=True)"
        )
    count = int(numbers.max(initial=-1)) + 1 if classes is None else checked_size(classes, "classes", "one_hot")
    outside = (numbers < 0) | (numbers >= count)
    if outside.any():
        raise ValueError(f"{here()}: one_hot: label {numbers[outside][0]} lies outside of the classes 0 … {count - 1}")
    return (numbers[..., None] == np.arange(count)).astype(dtype)


def windows(tokens: Any, length: int, step: int | None = None) -> tuple[Any, Any]:
    """Windows of a text and what follows in each: ``(inputs, targets)``, both [n, length], for language models.

    ``targets[i, j]`` is the token behind ``inputs[i, j]``.  A window begins every ``step`` tokens (None: ``length``, so
    that each token is a target once); what fills no window is left out.  Both are views of ``tokens``, a vector or a
    memory map of any size: `batches` reads from it what a batch holds.

    >>> import gradc as gc, numpy as np
    >>> x, y = gc.data.windows(np.arange(7), 3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    text = tokens if isinstance(tokens, np.ndarray) else np.asarray(tokens)
    if text.ndim != 1 or text.dtype.kind not in "iu":
        raise TypeError(f"{here()}: windows: tokens are a vector of whole numbers, got {text.dtype}{list(text.shape)}")
    size = checked_size(length, "length", "windows")
    every = size if step is None else checked_size(step, "step", "windows")
    if len(text) < size + 1:
        raise ValueError(
            f"{here()}: windows: {len(text)} tokens hold no window of {size} with its targets, which takes {size + 1}"
        )
    views = (np.lib.stride_tricks.sliding_window_view(part, size)[::every] for part in (text[:-1], text[1:]))
    inputs, targets = views
    return inputs, targets


class Padded(NamedTuple):
    """Sequences of different length as one array."""

    values: Any  #: [n, length, …]
    mask: Any  #: bool [n, length]: true where a value comes from a sequence


def pad(sequences: Iterable[Any], length: int | None = None, value: Any = 0, side: str = "right") -> Padded:
    """Sequences, each [t] or [t, …], filled up with ``value`` to one ``length`` (None: that of the longest).

    ``side``: where it is filled up, "right" or "left".  A loss takes the mean over the mask:
    ``(losses * mask).sum() / mask.sum()``.  ValueError for a sequence that is longer.

    >>> import gradc as gc
    >>> gc.data.pad([[5, 6], [7]]).values.tolist()
    [[5, 6], [7, 0]]
    """
    if side not in ("right", "left"):
        raise ValueError(f"{here()}: pad: side is 'right' or 'left', got {side!r:.40}")
    return _padded(_arrays(sequences, "pad"), length, value, side)


def _padded(parts: Sequence[Array], length: int | None, value: Any, side: str = "right") -> Padded:
    longest = max(map(len, parts))
    size = longest if length is None else checked_size(length, "length", "pad")
    if longest > size:
        number = next(i for i, p in enumerate(parts) if len(p) > size)
        raise ValueError(
            f"{here()}: pad: sequence {number} has {len(parts[number])} elements, more than length={size}; cut it, or "
            "give a greater length"
        )
    dtype = np.result_type(*{p.dtype for p in parts if len(p)} or {parts[0].dtype})
    with np.errstate(all="ignore"):
        filling = np.asarray(value).astype(dtype)
    if dtype.kind in "biu" and not np.array_equal(filling, value):
        raise ValueError(f"{here()}: pad: value={value!r:.40} is no {dtype}, which the sequences are")
    values = np.full((len(parts), size, *parts[0].shape[1:]), filling, dtype)
    mask = np.zeros((len(parts), size), bool)
    for i, part in enumerate(parts):
        place = slice(0, len(part)) if side == "right" else slice(size - len(part), size)
        values[i, place], mask[i, place] = part, True
    return Padded(values, mask)


def _arrays(sequences: Iterable[Any], who: str) -> list[Array]:
    parts = [np.asarray(s) for s in sequences]
    if not parts:
        raise ValueError(f"{here()}: {who}: there are no sequences")
    for i, part in enumerate(parts):
        if part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] or part.dtype.kind not in "biufc":
            raise ValueError(
                f"{here()}: {who}: sequence {i} is {part.dtype}{list(part.shape)}, and sequence 0 is "
                f"{parts[0].dtype}{list(parts[0].shape)}: they may differ in their first axis alone"
            )
    return parts


def bucket(
    sequences: Iterable[Any],
    batch_size: int,
    key: Any = None,
    others: Any = None,
    *,
    lengths: int | Sequence[int] = 4,
    value: Any = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    epochs: int | None = None,
) -> Buckets:
    """Batches of sequences of like length, filled up: ``(values, mask)``, or ``(values, mask, others)``.

    Each sequence goes into the bucket with the least length that holds it, and a batch comes from one bucket, so that
    there are as many shapes, and compiled steps, as ``lengths``: these lengths, or so many of about equally many
    sequences each.  ``others``: a tree of arrays with a row for each sequence, such as labels.  The rest as in
    `batches`; the order of batches is shuffled, too.
    """
    parts = _arrays(sequences, "bucket")
    size = checked_size(batch_size, "batch_size", "bucket")
    if shuffle and key is None:
        raise TypeError(f"{here()}: bucket: shuffle=True needs a key: gc.random.key(0), or give shuffle=False")
    if epochs is not None:
        checked_size(epochs, "epochs", "bucket")
    rest = None if others is None else Examples.of(others, "bucket")
    if rest is not None and rest.count != len(parts):
        raise ValueError(f"{here()}: bucket: {len(parts)} sequences and {rest.count} rows of the others")
    long = np.array([len(p) for p in parts])
    if isinstance(lengths, int):
        share = np.arange(1, checked_size(lengths, "lengths", "bucket") + 1) / lengths
        edges = np.unique(np.quantile(long, share, method="higher")).tolist()
    else:
        edges = sorted({checked_size(e, "lengths", "bucket") for e in lengths})
        if not edges or long.max() > edges[-1]:
            most = max(edges, default=0)
            raise ValueError(f"{here()}: bucket: the longest sequence has {long.max()} elements, lengths end at {most}")
    word = words_of(key, "bucket") if shuffle else None
    return Buckets(parts, rest, size, np.searchsorted(edges, long), edges, value, word, bool(drop_last), epochs)


class Buckets(Source):
    """See `bucket`; ``lengths`` are those that batches are filled up to."""

    title = "bucket"

    def __init__(
        self, parts: list[Array], rest: Examples | None, batch_size: int, bucket_of: Any, lengths: list[int],
        value: Any, word: int | None, drop_last: bool, epochs: int | None,
    ):  # fmt: skip
        super().__init__(epochs, 0)
        self._parts, self._rest, self._bucket_of, self._value, self._word = parts, rest, bucket_of, value, word
        self.batch_size, self.lengths, self.drop_last, self.examples = batch_size, lengths, drop_last, len(parts)
        self._plan: tuple[int, list[tuple[int, Any]]] = -1, []
        if not len(self):
            raise ValueError(f"{here()}: bucket: no bucket fills a batch of {batch_size}, and drop_last leaves none")

    def __len__(self) -> int:
        counts = np.bincount(self._bucket_of, minlength=len(self.lengths)).tolist()
        return sum(c // self.batch_size if self.drop_last else -(-c // self.batch_size) for c in counts)

    def made(self, epoch: int, batch: int) -> Any:
        """A batch by its number."""
        if self._plan[0] != epoch:
            self._plan = epoch, self._planned(epoch)
        number, rows = self._plan[1][batch]
        padded = _padded([self._parts[i] for i in rows], self.lengths[number], self._value)
        return tuple(padded) if self._rest is None else (*padded, self._rest.take(rows))

    def _planned(self, epoch: int) -> list[tuple[int, Any]]:
        """The batches of a pass: their bucket and their rows."""
        order = np.arange(self.examples) if self._word is None else Order(self.examples, self._word, epoch).all()
        found = []
        for number in range(len(self.lengths)):
            rows = order[self._bucket_of[order] == number]
            stop = len(rows) - len(rows) % self.batch_size if self.drop_last else len(rows)
            found += [(number, rows[k : min(k + self.batch_size, stop)]) for k in range(0, stop, self.batch_size)]
        if self._word is None:
            return found
        return [found[i] for i in Order(len(found), self._word ^ 1, epoch).all()]

    def identity(self) -> dict[str, Any]:
        """What determines the batches."""
        key = None if self._word is None else f"{self._word:016x}"
        return {
            "examples": self.examples, "batch_size": self.batch_size, "key": key, "drop_last": self.drop_last,
            "lengths": list(self.lengths),
        }  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"<{len(self):,} batches of {self.batch_size:,} of {self.examples:,} sequences of at most "
            f"{', '.join(map(str, self.lengths))} elements; epoch {self.epoch}, batch {self.batch}>"
        )


__all__ = ["Buckets", "Padded", "bucket", "one_hot", "pad", "windows"]
