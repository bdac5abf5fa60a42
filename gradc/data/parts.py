"""Training, validation and test parts of examples: one split, or k folds.

Enters: a tree of arrays, the sizes of the parts, a key.  Leaves: trees of the same nesting.  Invariant: each example is
in one part, and with ``stratify`` each class is shared out in the same proportions, to one example.  Start reading at
`split`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gradc.data.examples import Examples
from gradc.data.minibatches import checked_size
from gradc.data.order import Order, words_of
from gradc.node import here

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def split(
    arrays: Any, fractions: float | Sequence[float], key: Any = None, *, shuffle: bool = True, stratify: Any = None
) -> tuple[Any, ...]:
    """Parts of a tree of arrays: ``train, test = split((x, y), 0.8, key)``, or as many as there are ``fractions``.

    ``fractions`` of the examples: one number, for a first part and the rest, or several that add up to 1.  The order is
    drawn by ``key``; ``shuffle=False`` cuts the examples as they stand, as a series in time wants.  ``stratify``: one
    label for each example; each part has every class in the same proportions.  Rows of memory maps stay in their file.
    ValueError where a part would be empty.

    >>> import gradc as gc, numpy as np
    >>> train, test = gc.data.split(np.arange(10), 0.7, gc.random.key(0))
    >>> len(train), len(test)
    (7, 3)
    """
    examples = Examples.of(arrays, "split")
    given = [fractions, 1 - fractions] if isinstance(fractions, int | float) else list(fractions)
    if any(not 0 < f < 1 for f in given) or abs(sum(given) - 1) > 1e-9:
        raise ValueError(f"{here()}: split: fractions lie between 0 and 1 and add up to 1, got {fractions!r:.60}")
    if not shuffle and stratify is not None:
        raise ValueError(f"{here()}: split: stratify draws from every class, which shuffle=False does not allow")
    groups = _groups(examples.count, _order(examples.count, key, shuffle, "split"), stratify, "split")
    cuts = [_cuts(len(groups[0]), given)] if stratify is None else _shared(list(map(len, groups)), given)
    shares = [np.split(group, at) for group, at in zip(groups, cuts, strict=True)]
    parts = [np.concatenate([share[i] for share in shares]) for i in range(len(given))]
    if any(len(part) == 0 for part in parts):
        sizes = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"{here()}: split: {examples.count} examples by {fractions!r:.60} leave parts of {sizes}")
    if not shuffle:
        edges = np.cumsum([0, *map(len, parts)]).tolist()
        return tuple(examples.chosen(slice(a, b)) for a, b in pairwise(edges))
    return tuple(examples.chosen(_mixed(part, stratify, key)) for part in parts)


def kfold(
    arrays: Any, k: int = 5, key: Any = None, *, shuffle: bool = True, stratify: Any = None
) -> Iterator[tuple[Any, Any]]:
    """``(train, test)`` for each of ``k`` folds: every example is tested once (Stone 1974).

    The folds differ in size by one example at most, with ``stratify`` by one of each class.  Arguments as in `split`.

    >>> import gradc as gc, numpy as np
    >>> [len(test) for _, test in gc.data.kfold(np.arange(7), 3, gc.random.key(0))]
    [3, 2, 2]
    """
    examples = Examples.of(arrays, "kfold")
    count = checked_size(k, "k", "kfold")
    if not 2 <= count <= examples.count:
        raise ValueError(f"{here()}: kfold: k lies between 2 and the number of examples, {examples.count}, got {k}")
    order = _order(examples.count, key, shuffle, "kfold")
    groups = _groups(examples.count, order, stratify, "kfold")
    dealt = np.concatenate(groups)  # class after class: dealing them out gives each fold its share of each
    in_blocks = not shuffle and stratify is None
    fold = np.repeat(range(count), _sizes(examples.count, count)) if in_blocks else np.arange(examples.count) % count
    rows = [_mixed(dealt[fold == i], stratify, key) for i in range(count)]

    def pairs() -> Iterator[tuple[Any, Any]]:
        for i in range(count):
            rest = np.concatenate([part for j, part in enumerate(rows) if j != i])
            yield examples.chosen(_mixed(rest, stratify, key)), examples.chosen(rows[i])

    return pairs()


def _sizes(examples: int, count: int) -> list[int]:
    return [examples // count + (i < examples % count) for i in range(count)]


def _order(count: int, key: Any, shuffle: bool, who: str) -> Numbers:
    if not shuffle:
        return np.arange(count)
    if key is None:
        raise TypeError(f"{here()}: {who}: give a key, gc.random.key(0), or shuffle=False for the order of the rows")
    return Order(count, words_of(key, who)).all()


def _groups(count: int, order: Numbers, stratify: Any, who: str) -> list[Numbers]:
    """The examples in their order: all together, or class by class."""
    if stratify is None:
        return [order]
    labels = np.asarray(stratify)
    if labels.shape != (count,):
        raise ValueError(
            f"{here()}: {who}: stratify has one label for each of {count} examples, its shape is {labels.shape}"
        )
    classes, numbers = np.unique(labels, return_inverse=True)  # NaNs are one class
    return [order[numbers[order] == number] for number in range(len(classes))]


def _mixed(rows: Numbers, stratify: Any, key: Any) -> Numbers:
    """Rows that stand class by class, mixed again."""
    if stratify is None or key is None:
        return rows
    return rows[Order(len(rows), words_of(key, "split"), 1).all()]


def _cuts(count: int, fractions: Sequence[float]) -> list[int]:
    return [round(count * float(f)) for f in np.cumsum(fractions)[:-1]]


def _shared(sizes: Sequence[int], fractions: Sequence[float]) -> list[list[int]]:
    """Where each class is cut, for classes of these sizes: every part has its share of each, rounded down or up.

    What rounding down leaves goes to the parts that lack most of their share of all classes so far, so that the parts
    as wholes keep to the fractions however many classes there are.
    """
    parts = np.asarray(fractions, np.float64) / math.fsum(fractions)
    lacking, cuts = np.zeros(len(parts)), []
    for size in sizes:
        exact = size * parts
        given = np.floor(exact + 1e-9)  # 0.1·30 is 3, whatever the product is rounded to
        lacking += exact - given
        open_to = np.flatnonzero(exact - given > 1e-9)
        chosen = open_to[np.argsort(-lacking[open_to], kind="stable")][: size - int(given.sum())]
        given[chosen] += 1
        lacking[chosen] -= 1
        cuts.append(np.cumsum(given)[:-1].astype(np.int64).tolist())
    return cuts


__all__ = ["kfold", "split"]
