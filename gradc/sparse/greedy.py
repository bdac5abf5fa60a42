"""Greedy colouring: column after column, each in the first colour that none of its rows has yet.

Enters: a pattern.  Leaves: a colour per column.  Of a large pattern the loop is compiled by gradc itself; of a small
one that would take longer than to run it in Python.  Both are the same algorithm and give the same colours.
Start reading at `greedy`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.api.compiled import Jitted, jit
from gradc.api.control import fori_loop, while_loop
from gradc.diff.sparsity import Pattern

Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: visits of an entry by a column up to which Python is faster than to compile the loop
FEW_VISITS = 200_000


def greedy(pattern: Pattern) -> Numbers:
    """Colours in the order of the columns, so that no row has two entries in columns of one colour."""
    lengths = np.diff(pattern.ends)
    turned = pattern.transposed
    if int((lengths * lengths).sum()) <= FEW_VISITS:
        return _in_python(turned.ends, turned.columns, pattern.ends, pattern.columns)
    most = _most_colours(turned, lengths)
    start, marks = np.full(pattern.shape[1], most, np.int64), np.full(most + 1, -1)
    arrays = (turned.ends, turned.columns, pattern.ends, pattern.columns)
    return np.asarray(compiled_once(_loop)(*map(np.ascontiguousarray, arrays), start, marks))


def _most_colours(turned: Pattern, lengths: Numbers) -> int:
    """More than any column has neighbours: so many colours are enough."""
    near = np.add.reduceat(np.append(lengths[turned.columns] - 1, 0), np.minimum(turned.ends[:-1], turned.entries))
    return int(np.where(np.diff(turned.ends) > 0, near, 0).max(initial=0)) + 1


def _in_python(ends: Numbers, rows: Numbers, row_ends: Numbers, columns: Numbers) -> Numbers:
    of_rows = [columns[a:b].tolist() for a, b in zip(row_ends[:-1].tolist(), row_ends[1:].tolist(), strict=True)]
    colours = [-1] * (len(ends) - 1)
    bounds = ends.tolist()
    for j in range(len(colours)):
        taken = {colours[k] for row in rows[bounds[j] : bounds[j + 1]].tolist() for k in of_rows[row]}
        colour = 0
        while colour in taken:
            colour += 1
        colours[j] = colour
    return np.array(colours, np.int64)


@functools.cache
def compiled_once(loop: Callable[..., Any]) -> Jitted:
    """A loop over columns, compiled when it is first asked for; its turns wait for each other."""
    compiled: Jitted = jit(loop, threads=1)
    return compiled


def _loop(ends: Any, rows: Any, row_ends: Any, columns: Any, colours: Any, marks: Any) -> Any:
    """``marks`` has for each colour the last column that it was forbidden for."""

    def visited(j: Any, state: Any) -> Any:
        colours, marks = state

        def of_row(place: Any) -> Any:
            k, marks = place
            row = rows[k]
            last = row_ends[row + 1]
            forbid = lambda at: (at[0] + 1, at[1].at[colours[columns[at[0]]]].set(j))  # noqa: E731 - read in place
            return k + 1, while_loop(lambda at: at[0] < last, forbid, (row_ends[row], marks))[1]

        last = ends[j + 1]
        _, marks = while_loop(lambda place: place[0] < last, of_row, (ends[j], marks))
        colour = while_loop(lambda c: marks[c] == j, lambda c: c + 1, 0)
        return colours.at[j].set(colour), marks

    return fori_loop(0, len(ends) - 1, visited, (colours, marks))[0]
