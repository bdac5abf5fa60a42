"""Star colourings: the colours of a symmetric matrix, each of whose entries is found on one side of the diagonal.

Neighbours have different colours, and no path of four vertices has but two: then an entry (i, j) is alone with its
colour in row i, or (j, i) is in row j.  That takes fewer colours than to tell apart all entries of each row: the arrow
takes two.  Vertices with very many neighbours get colours of their own, which leaves the others as if they were not
there; stencils are coloured by linear forms (`lattice`), the rest greedily.  A colouring that does tell apart all
entries of each row serves as well, and is taken where it has fewer colours.
Source: Gebremedhin, Manne, Pothen, What color is your Jacobian? SIAM Review 47 (2005), section 6.
Enters: a symmetric `Pattern`.  Leaves: a colour per column.  Start reading at `star_coloured`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from gradc.api.control import cond, fori_loop, while_loop
from gradc.diff.sparsity import Pattern
from gradc.sparse.colouring import Colouring
from gradc.sparse.greedy import FEW_VISITS, compiled_once, greedy
from gradc.sparse.lattice import lattice

Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: of so many vertices with the most neighbours it is tried how many to give colours of their own
MOST_SET_APART = 2048


def star_coloured(pattern: Pattern, shape: tuple[int, ...]) -> Colouring:
    """A star colouring of few colours; ``shape`` is that of the array whose elements the columns are."""
    n = pattern.shape[0]
    colours = np.full(n, -1)
    apart = _fullest(np.diff(pattern.ends))
    colours[apart] = np.arange(len(apart))
    rest = pattern
    if len(apart):
        kept = (colours[pattern.rows] < 0) & (colours[pattern.columns] < 0)
        rest = Pattern.of_entries(pattern.rows[kept], pattern.columns[kept], pattern.shape)
    bound = int(np.diff(rest.ends).max(initial=0))
    found = np.zeros(n, np.int64)
    if rest.entries == n**2:
        found = np.arange(n)
    elif bound > 1 or (rest.rows != rest.columns).any():
        regular = lattice(rest, shape, bound)
        ways = (star(rest), greedy(rest)) if regular is None else (regular,)
        found = min(ways, key=lambda way: int(way.max()))
    colours = np.where(colours < 0, found + len(apart), colours)
    colours[np.diff(pattern.ends) == 0] = -1
    used, colours = np.unique(colours, return_inverse=True)
    colours -= int(len(used) > 0 and used[0] < 0)
    return Colouring(colours, np.full(n, -1), int(colours.max(initial=-1)) + 1, 0)


def _fullest(counts: Numbers) -> Numbers:
    """The vertices of which it pays that each has a colour of its own."""
    k = min(MOST_SET_APART, len(counts) - 1)
    if k < 1:
        return np.zeros(0, np.int64)
    order = np.argpartition(counts, len(counts) - k - 1)[len(counts) - k - 1 :]
    order = order[np.argsort(-counts[order], kind="stable")]
    return order[: int((counts[order] + np.arange(len(order))).argmin())]


def places_in_symmetric(pattern: Pattern, colouring: Colouring) -> Numbers:
    """Where each entry stands in the compressed products: (i, j) and (j, i) at the same place, so they are equal."""
    n, colours = pattern.shape[0], colouring.columns
    counts = np.bincount(colours[pattern.columns] * n + pattern.rows, minlength=colouring.column_colours * n)
    first, second = np.minimum(pattern.rows, pattern.columns), np.maximum(pattern.rows, pattern.columns)
    own, mirrored = colours[second] * n + first, colours[first] * n + second
    alone = counts[own] == 1
    assert (alone | (counts[mirrored] == 1)).all(), "the colouring is no star colouring"
    return np.where(alone, own, mirrored)


def star(pattern: Pattern) -> Numbers:
    """Vertex after vertex, each in the first colour that leaves no two-coloured path of four."""
    degrees = np.diff(pattern.ends)
    visits = np.bincount(pattern.rows, (degrees * degrees)[pattern.columns], minlength=len(degrees)).sum()
    if visits <= FEW_VISITS:
        return _in_python(pattern)
    near = np.bincount(pattern.rows, degrees[pattern.columns], minlength=len(degrees))
    most = int(near.max(initial=0)) + 1
    start, marks = np.full(len(degrees), -1), np.full(most + 1, -1)
    return np.asarray(compiled_once(_loop)(np.ascontiguousarray(pattern.ends), pattern.columns, start, marks))


def _in_python(pattern: Pattern) -> Numbers:
    bounds = pattern.ends.tolist()
    near = [pattern.columns[a:b].tolist() for a, b in pairwise(bounds)]
    colours = [-1] * len(near)
    for v, around in enumerate(near):
        forbidden = {colours[w] for w in around}
        for w in around:
            for x in near[w] if w != v else ():
                if x not in (v, w) and colours[x] >= 0 and _closes(near, colours, w, x):
                    forbidden.add(colours[x])
        colour = 0
        while colour in forbidden:
            colour += 1
        colours[v] = colour
    return np.array(colours, np.int64)


def _closes(near: list[list[int]], colours: list[int], w: int, x: int) -> bool:
    """Whether a vertex before ``w`` must not have the colour of ``x`` behind it."""
    return colours[w] < 0 or any(y not in (w, x) and colours[y] == colours[w] for y in near[x])


def _loop(ends: Any, columns: Any, colours: Any, marks: Any) -> Any:
    """The same; the last of ``marks`` is written for what is not forbidden."""
    nothing = len(marks) - 1

    def each(v: Any, act: Any, state: Any) -> Any:
        """``state`` after ``act(vertex, state)`` for the neighbours of ``v``."""
        step = lambda at: (at[0] + 1, act(columns[at[0]], at[1]))  # noqa: E731 - read in place
        return while_loop(lambda at: at[0] < ends[v + 1], step, (ends[v], state))[1]

    def forbidden(colour: Any, v: Any, marks: Any) -> Any:
        return marks.at[colour].set(v)

    def of_vertex(v: Any, state: Any) -> Any:
        colours, marks = state

        def behind(w: Any, x: Any, marks: Any) -> Any:
            shared = each(x, lambda y, any_: any_ | ((y != w) & (y != x) & (colours[y] == colours[w])), np.bool_(False))
            counts = (x != v) & (x != w) & (colours[x] >= 0) & ((colours[w] < 0) | shared)
            return forbidden(np.where(counts, colours[x], nothing), v, marks)

        def beside(w: Any, marks: Any) -> Any:
            marks = forbidden(np.where(colours[w] >= 0, colours[w], nothing), v, marks)
            return cond(w == v, lambda m: m, lambda m: each(w, lambda x, inner: behind(w, x, inner), m), marks)

        marks = each(v, beside, marks)
        colour = while_loop(lambda c: marks[c] == v, lambda c: c + 1, 0)
        return colours.at[v].set(colour), marks

    return fori_loop(0, len(ends) - 1, of_vertex, (colours, marks))[0]
