"""Colours of columns that lie on a grid: a linear form of the place, modulo a small number.

The columns of a row of a stencil lie at fixed offsets from each other.  A form a·i mod p tells all columns of a row
apart if a·d is not 0 mod p for any difference d of two offsets; the smallest such p is the number of colours, and for
the usual stencils it is the number of their points, which no colouring can beat.  Differences are read off some rows,
and the colouring is held against all of them.
Enters: a pattern and the shape of the array whose elements its columns are.  Leaves: colours, or None if there is no
such form.  Start reading at `lattice`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradc.diff.sparsity import Pattern

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Shape = tuple[int, ...]

#: rows off which the differences are read
SAMPLED = 256
#: of more differences there is no stencil
MOST_DIFFERENCES = 4096
#: colours are told apart by the bits of a word
MOST_COLOURS = 62
#: forms that are tried for one number of colours
MOST_FORMS = 1 << 15


def lattice(pattern: Pattern, shape: Shape, bound: int) -> Numbers | None:
    """Colours from ``bound``, the number of entries of the fullest row, on; None if no form of few colours does."""
    most = min(bound + max(2, bound // 4), MOST_COLOURS)
    if bound > MOST_COLOURS or bound < 2:
        return None
    pairs = _pairs(pattern)
    grids = [*_grids(shape, np.abs(pairs[0] - pairs[1]))]
    differences = [_differences(pairs, grid) for grid in grids]
    for p in range(bound, most + 1):
        for grid, apart in zip(grids, differences, strict=True):
            form = _form(apart, p) if len(apart) <= MOST_DIFFERENCES else None
            if form is not None:
                colours = _colours(grid, form, p, pattern.shape[1])
                if _holds(pattern, colours):
                    return colours
    return None


def _pairs(pattern: Pattern) -> tuple[Numbers, Numbers]:
    """Pairs of columns that some rows have entries in."""
    filled = np.flatnonzero(np.diff(pattern.ends) > 1)
    rows = filled[np.unique(np.linspace(0, len(filled) - 1, SAMPLED).astype(np.int64))]
    left, right = [], []
    for row in rows.tolist():
        columns = pattern.columns[pattern.ends[row] : pattern.ends[row + 1]]
        i, j = np.triu_indices(len(columns), 1)
        left.append(columns[i])
        right.append(columns[j])
    return np.concatenate(left), np.concatenate(right)


def _grids(shape: Shape, strides: Numbers) -> Iterator[Shape]:
    """Grids on which the columns may lie: that of their array, and those of rows as long as columns lie apart."""
    own = tuple(n for n in shape if n > 1)
    yield own
    if len(own) == 1:
        lengths, counts = np.unique(strides[strides > 2], return_counts=True)
        for length in lengths[np.argsort(-counts, kind="stable")][:8].tolist():
            yield -(-own[0] // length), length


def _differences(pairs: tuple[Numbers, Numbers], grid: Shape) -> Numbers:
    """How far the columns of a pair lie apart along each axis of the grid; each difference once."""
    left, right = (np.stack(np.unravel_index(side, grid), -1) for side in pairs)
    return np.unique(right - left, axis=0)


def _form(differences: Numbers, p: int) -> Numbers | None:
    """Coefficients modulo ``p`` of a form that is 0 for none of the differences."""
    d = differences.shape[1]
    if p ** max(d - 1, 0) > MOST_FORMS or d == 0:
        return None
    for first in _factors(p):  # a form times what has an inverse is the same colouring
        for forms in _batches([range(p)] * (d - 1), first):
            apart = ((forms @ differences.T) % p != 0).all(1)
            if apart.any():
                found: Numbers = forms[int(apart.argmax())]
                return found
    return None


def _factors(p: int) -> Sequence[int]:
    return [k for k in range(1, p + 1) if p % k == 0]


def _batches(ranges: Sequence[range], last: int) -> Iterator[Numbers]:
    """Forms whose last coefficient is given, some hundred at once."""
    rest = itertools.product(*ranges)
    while chunk := list(itertools.islice(rest, 512)):
        yield np.array([(*form, last) for form in chunk], np.int64)


def _colours(grid: Shape, form: Numbers, p: int, columns: int) -> Numbers:
    axes = (a * np.arange(n) for a, n in zip(form.tolist(), grid, strict=True))
    total = sum((axis.reshape(-1, *[1] * (len(grid) - 1 - k)) for k, axis in enumerate(axes)), np.zeros((), np.int64))
    assert math.prod(grid) >= columns
    return (np.broadcast_to(total, grid) % p).reshape(-1)[:columns]


def _holds(pattern: Pattern, colours: Numbers) -> bool:
    """Whether each row has as many colours as entries."""
    bits = np.left_shift(1, colours)[pattern.columns]
    lengths = np.diff(pattern.ends)
    filled = np.flatnonzero(lengths)
    found = np.bitwise_or.reduceat(bits, pattern.ends[filled])
    return bool((np.bitwise_count(found) == lengths[filled]).all())
