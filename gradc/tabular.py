"""Tables of text, and the times and sizes in them, as all reports print them.

Enters: rows of cells, nanoseconds, bytes.  Leaves: text.  Invariant: columns line up in a terminal, where an accent
takes no room of its own.  Start reading at `table`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence


def table(rows: Sequence[Sequence[str]], words: Collection[int] = (), *, rule: bool = False) -> str:
    """Rows of equally many cells as lines, their columns two spaces apart: those in ``words`` to the left, the others,
    which are numbers, to the right.  ``rule``: a line under the first row, which holds the names.
    """
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(_padded(cell, width, k in words) for k, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    if rule:
        lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _padded(cell: str, width: int, to_the_left: bool) -> str:
    room = " " * (width - text_width(cell))
    return cell + room if to_the_left else room + cell


def text_width(text: str) -> int:
    """How many columns a text takes: accents stand on letters."""
    return sum(not unicodedata.combining(sign) for sign in text)


def duration(ns: float) -> str:
    """Nanoseconds in s, ms, µs or ns, with three digits."""
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= scale:
            return f"{_digits(ns / scale)} {unit}"
    return f"{_digits(ns)} ns"


def byte_size(count: int) -> str:
    """A number of bytes in GiB, MiB, KiB or B, with three digits."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{_digits(count / (1 << power))} {unit}"
    return f"{count} B"


def _digits(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


__all__ = ["byte_size", "duration", "table", "text_width"]
