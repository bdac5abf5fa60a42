"""Colourings: which columns, or rows, of a sparse matrix can be found in one product with it.

Two columns may share a colour if no row has entries in both: then the sum of the columns of a colour shows each entry
by itself.  The number of colours is the number of directional derivatives that the matrix costs.  A stencil is coloured
by a linear form of the place on its grid, modulo a small number, which is optimal for the usual ones; anything else
column by column, greedily, in compiled code.  A few rows that are nearly full are set apart and found by products from
the left.  Source: Gebremedhin, Manne, Pothen, What color is your Jacobian? SIAM Review 47 (2005).
Enters: a `Pattern`.  Leaves: a `Colouring`.  Start reading at `coloured`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradc.diff.sparsity import Pattern
from gradc.sparse.greedy import greedy
from gradc.sparse.lattice import lattice

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Side = Literal["auto", "columns", "rows"]

#: of so many rows that are fuller than all others it is tried how many to set apart
MOST_SET_APART = 256


@dataclass(frozen=True, eq=False)
class Colouring:
    """The colour of each column and of each row, −1 for what has none.

    An entry is found by the colour of its row or of its column; where both have one, by that of the side of which a few
    were set apart.
    """

    columns: Numbers
    rows: Numbers
    column_colours: int
    row_colours: int
    rows_apart: bool = True

    @property
    def count(self) -> int:
        """How many products with the matrix there are, from the right and from the left."""
        return self.column_colours + self.row_colours

    def turned(self) -> Colouring:
        """The same of the transposed matrix."""
        return Colouring(self.rows, self.columns, self.row_colours, self.column_colours, not self.rows_apart)

    def by_rows(self, pattern: Pattern) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which entries are found by the colours of their rows."""
        if self.rows_apart:
            return self.rows[pattern.rows] >= 0
        return self.columns[pattern.columns] < 0


def coloured(pattern: Pattern, shapes: tuple[tuple[int, ...], tuple[int, ...]], side: Side = "auto") -> Colouring:
    """A colouring of few colours: of columns, of rows, or of columns with a few rows set apart, or the reverse.

    ``shapes`` are those of the arrays whose elements the rows and the columns are.
    """
    best: Colouring | None = None
    for bound, apart, turned in sorted(_ways(pattern, side), key=lambda way: way[0]):
        if best is None or bound < best.count:
            found = _along_columns(pattern.transposed if turned else pattern, shapes[0 if turned else 1], apart)
            found = found.turned() if turned else found
            if best is None or found.count < best.count:
                best = found
    assert best is not None
    return best


def _ways(pattern: Pattern, side: Side) -> Iterator[tuple[int, int, bool]]:
    """The fewest colours that a way can have, how many rows it sets apart, and whether it is one of rows."""
    for turned in (False, True):
        if side in ("auto", "rows" if turned else "columns"):
            counts = np.diff((pattern.transposed if turned else pattern).ends)
            yield int(counts.max(initial=0)), 0, turned
            if side == "auto" and len(counts) > 1:
                k = min(MOST_SET_APART, len(counts) - 1)
                fullest = np.sort(np.partition(counts, len(counts) - k - 1)[len(counts) - k - 1 :])[::-1]
                bounds = fullest + np.arange(len(fullest))
                apart = int(bounds.argmin())
                if apart:
                    yield int(bounds[apart]), apart, turned


def _along_columns(pattern: Pattern, shape: tuple[int, ...], apart: int) -> Colouring:
    """Columns coloured for all rows but the fullest ``apart`` ones; of these each has a colour of its own."""
    counts = np.diff(pattern.ends)
    rows = np.full(len(counts), -1)
    if apart:
        fullest = np.argpartition(counts, len(counts) - apart)[len(counts) - apart :]
        rows[fullest] = np.arange(apart)
        kept = rows[pattern.rows] < 0
        pattern = Pattern.of_entries(pattern.rows[kept], pattern.columns[kept], pattern.shape)
    columns = column_colours(pattern, shape)
    return Colouring(columns, rows, int(columns.max(initial=-1)) + 1, apart)


def column_colours(pattern: Pattern, shape: tuple[int, ...]) -> Numbers:
    """A colour for each column that has entries, −1 for one that has none."""
    bound = int(np.diff(pattern.ends).max(initial=0))
    used = np.bincount(pattern.columns, minlength=pattern.shape[1]) > 0
    if bound <= 1:
        found = np.zeros(pattern.shape[1], np.int64)
    elif bound == used.sum():  # a row is full: no two columns can share a colour
        found = np.cumsum(used) - 1
    else:
        regular = lattice(pattern, shape, bound)
        found = greedy(pattern) if regular is None else regular
    found[~used] = -1
    return found
