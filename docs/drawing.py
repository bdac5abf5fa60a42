"""The map of rooms as SVG: the rows of rooms.md from top to bottom, their lines of code, and arcs for imports.

Enters: rooms.md and the syntax trees of gradc/.  Leaves: the text of rooms.svg; begin at `rooms_map`.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, ROW, TOP, LEFT, BARS, ARCS = 960, 58, 64, 24, 330, 560
INK, PAPER, BAR, ARC = "#1b1f24", "#ffffff", "#5b6ee1", "#39424e"


def rooms() -> list[list[str]]:
    """The rooms of each row of the table in rooms.md, the topmost first."""
    page = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
    table = page.partition("| room |")[2].partition("\n\n")[0]
    named = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    return [[room for room in row if (ROOT / "gradc" / room).exists()] for row in named]


def imports(rows: list[list[str]]) -> tuple[Counter[int], Counter[tuple[int, int]]]:
    """Lines of each row, and how many import statements of one row name another."""
    row_of = {room.removesuffix(".py"): i for i, row in enumerate(rows) for room in row}
    lines: Counter[int] = Counter()
    arcs: Counter[tuple[int, int]] = Counter()
    for path in sorted((ROOT / "gradc").rglob("*.py")):
        here = row_of.get(path.relative_to(ROOT / "gradc").parts[0].removesuffix(".py"))
        if here is None:
            continue
        text = path.read_text(encoding="utf-8")
        lines[here] += text.count("\n")
        for module in _imported(ast.parse(text)):
            there = row_of.get(module.split(".")[1])
            if there is not None and there != here:
                arcs[here, there] += 1
    return lines, arcs


def _imported(tree: ast.AST) -> Iterator[str]:
    """The modules of gradc that are imported at run time: what only the type checker sees does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("gradc."))
        elif isinstance(node, ast.ImportFrom) and node.module == "gradc":
            yield from (f"gradc.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradc."):
            yield node.module or ""
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imported(node)


def rooms_map() -> str:
    """The drawing: what a row imports stands above it."""
    rows = rooms()
    lines, arcs = imports(rows)
    height = TOP + ROW * len(rows) + 24
    middle = [TOP + ROW * i + ROW / 2 for i in range(len(rows))]
    most = max(lines.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="ui-sans-serif, system-ui, sans-serif">',
        "<title>The rooms of gradc, and who imports whom</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        _text(LEFT, 36, "room", 13, opacity=0.6),
        _text(BARS, 36, "lines of code", 13, opacity=0.6),
        _text(ARCS, 36, "imports: each arc leads up, from a room to one that it uses", 13, opacity=0.6),
    ]
    for i, row in enumerate(rows):
        names = [r.removesuffix(".py") for r in row]
        if i:
            parts.append(_line(LEFT, middle[i] - ROW / 2, WIDTH - LEFT))
        for k, words in enumerate(_wrapped(names, 40)):
            parts.append(_text(LEFT, middle[i] + 5 + 15 * (k - (len(_wrapped(names, 40)) - 1) / 2), words, 13))
        extent = 170 * lines[i] / most
        parts.append(
            f'<rect x="{BARS}" y="{middle[i] - 8:g}" width="{extent:.1f}" height="16" rx="3" fill="{BAR}" '
            f'fill-opacity="0.85"/>'
        )
        parts.append(_text(BARS + extent + 6, middle[i] + 4.5, f"{lines[i] / 1000:.1f}k", 12, opacity=0.75))
    for (here, there), count in sorted(arcs.items()):
        bulge = 30 + 26 * (here - there)
        a, b = middle[here] - 6, middle[there] + 6
        said = escape(f"{', '.join(rows[here])} → {', '.join(rows[there])}: {count} imports")
        parts.append(
            f'<path d="M{ARCS} {a:g} C{ARCS + bulge} {a:g} {ARCS + bulge} {b:g} {ARCS} {b:g}" fill="none" '
            f'stroke="{ARC}" stroke-width="{0.8 + 0.9 * math.log2(1 + count) / 2:.2f}" stroke-opacity="0.45">'
            f"<title>{said}</title></path>"
        )
    for y in middle:
        parts.append(f'<circle cx="{ARCS}" cy="{y:g}" r="4.5" fill="{INK}"/>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, size: int, opacity: float = 1.0) -> str:
    return (
        f'<text x="{x:.4g}" y="{y:.5g}" font-size="{size}" fill="{INK}" fill-opacity="{opacity:g}">'
        f"{escape(words)}</text>"
    )


def _line(x: float, y: float, to: float) -> str:
    return f'<path d="M{x:g} {y:g}H{to:g}" stroke="{INK}" stroke-opacity="0.1"/>'


def _wrapped(names: list[str], most: int) -> list[str]:
    """The names in lines of at most ``most`` characters."""
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 2 > most:
            lines.append("")
        lines[-1] += f", {name}" if lines[-1] else name
    return lines
