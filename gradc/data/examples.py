"""Examples: trees of arrays whose first axes count the same things, and the rows that are taken of them.

Enters: arrays, memory maps, array-likes that read from files, data frames and Arrow tables, nested in any way.  Leaves:
`Examples`, of which rows are taken as NumPy arrays.  Invariant: nothing is copied but the rows that are asked for, and
the pages of a memory map are let go of as rows are read.  Start reading at `Examples.of`.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.containers import Structure, flatten, leaves_of, no_such_name, path_text
from gradc.node import here

#: what a touched row of a memory map may make resident beside itself: the system reads around a page
_AROUND = 1 << 16
#: how much of a memory map may be resident before it is let go of
_MOST_RESIDENT = 1 << 26

Rows = slice | np.ndarray[Any, np.dtype[np.int64]]


class Examples:
    """``count`` examples: a tree of arrays that have one row for each."""

    def __init__(self, leaves: Sequence[Any], structure: Structure, names: Sequence[str]):
        self.leaves, self.structure, self.names = tuple(leaves), structure, tuple(names)
        self.count = len(self.leaves[0])
        self._maps = [_mapping(x) for x in self.leaves]
        self._touched = 0

    @classmethod
    def of(cls, arrays: Any, who: str) -> Examples:
        """The examples of a tree of arrays; TypeError and ValueError say what cannot be one, or does not fit."""
        if isinstance(arrays, Examples):
            return arrays
        whole = _with_columns(arrays, who)
        found, paths, structure = flatten(whole)
        if not found:
            raise TypeError(f"{here()}: {who}: expected arrays, or a tree of them, got {arrays!r:.60}")
        names = [path_text(p).removeprefix(".") for p in paths]
        leaves = [_array(x, name, who) for x, name in zip(found, names, strict=True)]
        lengths = [len(x) for x in leaves]
        if len(set(lengths)) > 1:
            listed = ", ".join(f"{name or 'array'} has {n:,}" for name, n in zip(names, lengths, strict=True))
            raise ValueError(
                f"{here()}: {who}: arrays of different length: {listed}.\n  The first axis counts the examples and is "
                "the same for all; what is one for all of them does not belong to a batch."
            )
        if lengths[0] == 0:
            raise ValueError(f"{here()}: {who}: there are no examples: the first axis of the arrays has length 0")
        return cls(leaves, structure, names)

    @property
    def kinds(self) -> list[str]:
        """The name, dtype and shape of a row of each array."""
        rows = [f"{x.dtype}[{','.join(map(str, x.shape[1:]))}]" for x in self.leaves]
        return [f"{name} {row}".strip() for name, row in zip(self.names, rows, strict=True)]

    @property
    def mapped(self) -> bool:
        """Whether rows are read from files when they are taken."""
        return any(m is not None or not isinstance(x, np.ndarray) for x, m in zip(self.leaves, self._maps, strict=True))

    def take(self, rows: Rows) -> Any:
        """The tree with ``rows`` of each array; of arrays in memory a slice is a view."""
        parts = [_rows(x, rows, m is not None) for x, m in zip(self.leaves, self._maps, strict=True)]
        self._let_go(rows)
        return self.structure.unflatten(parts)

    def leaf_rows(self, number: int, rows: Rows) -> Any:
        """``rows`` of one array."""
        made = _rows(self.leaves[number], rows, self._maps[number] is not None)
        self._let_go(rows)
        return made

    def chosen(self, rows: Rows) -> Any:
        """The tree with ``rows`` of each array; rows of what lies in files stay there until they are taken."""
        parts = [
            Chosen(x, rows) if m is not None or not isinstance(x, np.ndarray) else x[rows]
            for x, m in zip(self.leaves, self._maps, strict=True)
        ]
        return self.structure.unflatten(parts)

    def _let_go(self, rows: Rows) -> None:
        """Count what was read of memory maps, and let go of their pages when that is much."""
        for leaf, mapping in zip(self.leaves, self._maps, strict=True):
            if mapping is not None:
                size = leaf.nbytes // max(len(leaf), 1)
                many = _count(rows, len(leaf))
                self._touched += many * size + _AROUND if isinstance(rows, slice) else many * (size + _AROUND)
        if self._touched > _MOST_RESIDENT:
            self._touched = 0
            for mapping in {id(m): m for m in self._maps if m is not None}.values():
                mapping.madvise(mmap.MADV_DONTNEED)


def _count(rows: Rows, length: int) -> int:
    """How many rows are meant, of so many."""
    return len(range(*rows.indices(length))) if isinstance(rows, slice) else len(rows)


class Chosen:
    """Some rows of what lies in a file, read when they are taken; made by `split` and `kfold`."""

    def __init__(self, base: Any, rows: Rows):
        self.base: Any = base.base if isinstance(base, Chosen) else base
        self.rows: Rows = np.arange(len(self.base))[base.rows][rows] if isinstance(base, Chosen) else rows
        self.shape = (_count(self.rows, len(self.base)), *self.base.shape[1:])
        self.dtype = np.dtype(self.base.dtype)

    @property
    def nbytes(self) -> int:
        """The bytes of all rows."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        """The rows as an array in memory."""
        chosen = np.arange(len(self.base))[self.rows][rows] if isinstance(self.rows, slice) else self.rows[rows]
        return _rows(self.base, chosen, _mapping(self.base) is not None) if np.ndim(chosen) else self.base[chosen]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<{len(self):,} of {len(self.base):,} rows of {self.dtype}{list(self.base.shape)}, in a file>"


# -- arrays ------------------------------------------------------------------------------------------------------------


def _array(leaf: Any, name: str, who: str) -> Any:
    """A leaf as something that has rows."""
    said = f"{here()}: {who}: {name or 'the array'}"
    if isinstance(leaf, int | float | complex) and not isinstance(leaf, np.generic):
        raise TypeError(f"{said} is the number {leaf!r}; make an array of a list with np.array")
    known = isinstance(leaf, np.ndarray | Chosen)
    if not known and not (isinstance(getattr(leaf, "dtype", None), np.dtype) and hasattr(leaf, "__getitem__")):
        leaf = np.asarray(leaf)
    if isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf):
        many = int(np.ma.getmaskarray(leaf).sum())
        raise TypeError(
            f"{said} is a masked array with {many:,} values masked, which batches would hand out as numbers:"
            " leave their examples out, or fill them, x.filled(value), with the mask beside as a feature"
        )
    if not len(leaf.shape):
        raise ValueError(f"{said} has no axis of examples: its shape is ()")
    if leaf.dtype == object:
        raise TypeError(
            f"{said} holds Python objects ({type(leaf[0]).__name__}), not numbers; sequences of different length go "
            "through gc.data.pad or gc.data.bucket, words and dates through numbers of your own"
        )
    return leaf


def _rows(leaf: Any, rows: Rows, mapped: bool) -> Any:
    """Rows of one array as a plain array."""
    if isinstance(leaf, Chosen):
        return leaf[rows]
    if isinstance(rows, slice):
        return np.array(leaf[rows]) if mapped or not isinstance(leaf, np.ndarray) else leaf[rows]
    if not isinstance(leaf, np.ndarray):  # readers of files want growing indices
        order = np.argsort(rows, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return np.asarray(leaf[rows[order]])[back]
    plain = leaf.view(np.ndarray)
    return np.take(plain, rows, axis=0) if plain.flags.c_contiguous else plain[rows]


def _mapping(leaf: Any) -> Any:
    """The memory map that an array lies in, if its pages can be let go of; None for an array in memory."""
    if isinstance(leaf, Chosen):
        return _mapping(leaf.base)
    holder = leaf
    while holder is not None and not isinstance(holder, mmap.mmap):
        if isinstance(holder, np.memmap) and holder.mode == "c":
            return None  # it holds what was written into it, and the file does not
        holder = getattr(holder, "base", None)
    return holder if hasattr(holder, "madvise") else None


# -- tables ------------------------------------------------------------------------------------------------------------


def is_table(value: Any) -> bool:
    """Whether a value has columns by name, as data frames and Arrow tables have."""
    return not isinstance(value, np.ndarray | dict) and _names(value) is not None


def _names(value: Any) -> list[Any] | None:
    names = getattr(value, "column_names", None)
    if names is None and hasattr(value, "columns") and hasattr(value, "__getitem__"):
        names = value.columns
    return None if names is None or callable(names) else list(names)


def columns(table: Any, names: Any = None) -> Any:
    """Columns of a pandas or polars frame or of a PyArrow table as arrays, by name.

    ``names``: one name, an array of n elements; a list of names, a matrix with a column for each; a dict or tuple of
    these, one of those; None, a dict of all columns.  Columns are NumPy's where the table's own are.  TypeError for a
    column that holds no numbers, KeyError for one that is not there.

    >>> import gradc as gc, pandas as pd
    >>> frame = pd.DataFrame({"height": [1.6, 1.8], "weight": [60.0, 80.0], "sick": [0, 1]})
    >>> x, y = gc.data.columns(frame, (["height", "weight"], "sick"))
    >>> x.shape, y.tolist()
    ((2, 2), [0, 1])
    """
    known = _names(table)
    if known is None or isinstance(table, np.ndarray):
        raise TypeError(f"{here()}: columns: expected a table with columns by name, got {type(table).__name__}")
    if names is None:
        return {str(name): _column(table, name, known) for name in known}
    if isinstance(names, dict):
        return {key: columns(table, part) for key, part in names.items()}
    if isinstance(names, tuple):
        return tuple(columns(table, part) for part in names)
    if isinstance(names, list):
        return np.stack([_column(table, name, known) for name in names], axis=1)
    return _column(table, names, known)


def _column(table: Any, name: Any, known: list[Any]) -> Any:
    if name not in known:
        raise no_such_name(f"{here()}: columns: the table has no column {name!r}", name, known)
    column = table[name]
    array = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{here()}: columns: column {name!r} holds {array.dtype}, not numbers; leave it out, or give it codes "
            "first (pandas: frame[name].astype('category').cat.codes)"
        )
    return array


def _with_columns(arrays: Any, who: str) -> Any:
    """The tree with each table in it as a dict of its columns."""
    if is_table(arrays):
        return columns(arrays)
    leaves, structure = leaves_of(arrays)
    if not any(map(is_table, leaves)) and not any(map(_is_series, leaves)):
        return arrays
    return structure.unflatten(columns(x) if is_table(x) else x.to_numpy() if _is_series(x) else x for x in leaves)


def _is_series(value: Any) -> bool:
    return not isinstance(value, np.ndarray) and hasattr(value, "to_numpy") and not is_table(value)


__all__ = ["Chosen", "Examples", "columns", "is_table"]
