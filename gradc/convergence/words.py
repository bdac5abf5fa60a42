"""Numbers, parts and tables as the reports of this room print them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence


def number(value: float) -> str:
    """Six digits at most, with a true minus sign."""
    return f"{value:.6g}".replace("-", "−") if math.isfinite(value) else {True: "∞"}.get(value > 0, "not a number")


def part_of(value: float) -> str:
    """A part of all as a percentage."""
    return "under 0.1 %" if 0 < value < 1e-3 else f"{100 * value:.3g} %"


def table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns, the first as wide as its longest entry."""
    width = max((len(name) for name, _ in rows), default=0)
    return [wrapped(f"  {name.ljust(width)}  {words}", width + 4) for name, words in rows]


def wrapped(line: str, indent: int = 2) -> str:
    """A long line in rows of 120 characters, the later ones indented."""
    return textwrap.fill(line, 120, subsequent_indent=" " * indent, break_on_hyphens=False)
