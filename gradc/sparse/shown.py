"""A pattern as it is shown: printed with its colours and its cost, and drawn.

Enters: a pattern and its colouring.  Leaves: text, or an SVG picture.  Start reading at `SparsityPattern`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from gradc.diff.sparsity import Pattern
from gradc.runtime.files import write_whole
from gradc.sparse.colouring import Colouring

Array = np.ndarray[Any, Any]

#: the printed picture is so many characters wide and high
WIDE, HIGH = 32, 16
#: the drawn one has at most so many cells along an axis, and is so many pixels wide
MOST_CELLS, PIXELS = 160, 480
INK, PAPER, FRAME = "#1b1f24", "#ffffff", "#39424e"


@dataclass(frozen=True, eq=False)
class SparsityPattern:
    """Where a sparse derivative has entries, and how they are found."""

    pattern: Pattern
    colouring: Colouring
    title: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pattern.shape

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return self.pattern.entries

    @property
    def colours(self) -> int:
        """How many directional derivatives the matrix costs."""
        return self.colouring.count

    @property
    def indices(self) -> Array:
        """Row and column of each entry, row after row: (entries, 2)."""
        return np.stack([self.pattern.rows, self.pattern.columns], 1)

    def summary(self) -> str:
        """One line: shape, entries, colours, and what they cost."""
        (m, n), c = self.shape, self.colouring
        ways = [
            f"{c.column_colours} of columns" * bool(c.column_colours),
            f"{c.row_colours} of rows" * bool(c.row_colours),
        ]
        said = " and ".join(filter(None, ways)) or "none"
        directions = "1 direction" if c.count == 1 else f"{c.count:,} directions"
        return (
            f"{m:,} × {n:,}, {self.entries:,} entries; colours: {said}; cost: {directions} in one call, "
            f"{min(m, n):,} if it were dense"
        )

    def __str__(self) -> str:
        return "\n".join([f"{self.title}: {self.summary()}", *_printed(self.pattern)])

    def __repr__(self) -> str:
        return f"<pattern of {self.title}: {self.summary()}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The mask: True where there is an entry."""
        mask = np.zeros(self.shape, bool)
        mask[self.pattern.rows, self.pattern.columns] = True
        return mask if dtype is None else mask.astype(dtype)

    def svg(self) -> str:
        """The picture as SVG: each entry in the colour it is found by, of large matrices one cell for many."""
        return _svg(self)

    _repr_svg_ = svg

    def plot(self, path: str | Path | None = None, ax: Any = None) -> Any:
        """Draw it: on ``ax``, axes of matplotlib; or as SVG, into the file ``path`` if one is given.

        Returns what it was drawn on, the path, or the pattern itself, which notebooks show as its picture.
        """
        if ax is not None:
            return _on_axes(self, ax)
        if path is None:
            return self
        path = Path(path)
        write_whole({path: self.svg()})
        return path


def _cells(pattern: Pattern, high: int, wide: int) -> tuple[Array, Array, Array]:
    """The cell of each entry, down and to the right, on a grid of at most ``high`` × ``wide``; and its extents."""
    m, n = pattern.shape
    extents = np.array([min(m, high), min(n, wide)])
    down = pattern.rows * extents[0] // max(m, 1)
    return down, pattern.columns * extents[1] // max(n, 1), extents


def _printed(pattern: Pattern) -> list[str]:
    """A picture in characters: how full each cell is, a point for what is empty."""
    down, right, (high, wide) = _cells(pattern, HIGH, WIDE)
    counts = np.bincount(down * wide + right, minlength=high * wide).reshape(high, wide)
    marks = np.where(counts == 0, "·", "■")
    return ["  " + " ".join(row) for row in marks.tolist()]


def _of_entries(colouring: Colouring, pattern: Pattern) -> Array:
    """The colour that each entry is found by; colours of rows come behind those of columns."""
    of_rows = colouring.column_colours + colouring.rows[pattern.rows]
    return np.where(colouring.by_rows(pattern), of_rows, colouring.columns[pattern.columns])


def _hue(colour: int, count: int) -> str:
    return f"hsl({360 * colour / max(count, 1):.0f} 65% 45%)"


def _svg(shown: SparsityPattern) -> str:
    pattern, count = shown.pattern, shown.colours
    down, right, (high, wide) = _cells(pattern, MOST_CELLS, MOST_CELLS)
    cells, first = np.unique(down * wide + right, return_index=True)
    colours = _of_entries(shown.colouring, pattern)[first]
    side = PIXELS / max(high, wide, 1)
    width, height = side * wide, side * high
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 2:.4g} {height + 22:.4g}" width="{PIXELS}">',
        f"<title>{escape(shown.title)}: {escape(shown.summary())}</title>",
        f'<rect width="{width:.4g}" height="{height:.4g}" fill="{PAPER}" stroke="{FRAME}"/>',
    ]
    for colour in np.unique(colours).tolist():
        mine = cells[colours == colour]
        path = "".join(
            f"M{k % wide * side:.5g} {k // wide * side:.5g}h{side:.4g}v{side:.4g}h-{side:.4g}z" for k in mine.tolist()
        )
        parts.append(f'<path fill="{_hue(colour, count)}" d="{path}"/>')
    text = f"{shown.shape[0]:,} × {shown.shape[1]:,}, {shown.entries:,} entries, {count:,} colours"
    parts.append(
        f'<text x="0" y="{height + 16:.4g}" font-family="sans-serif" font-size="13" fill="{INK}">{text}</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _on_axes(shown: SparsityPattern, ax: Any) -> Any:
    """Entries as points on axes of matplotlib, rows downwards."""
    pattern, (m, n) = shown.pattern, shown.shape
    ax.scatter(pattern.columns, pattern.rows, c=_of_entries(shown.colouring, pattern), cmap="hsv", marker="s", s=4)
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(m - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_title(f"{shown.title}: {shown.entries:,} entries, {shown.colours:,} colours")
    return ax
