"""The user's source as marked-up lines.

Enters: places in files.  Leaves: the functions around them, line by line, as HTML; a file that cannot be read any more
gives bare line numbers.  Start reading at `excerpts`.
"""

from __future__ import annotations

import ast
import io
import keyword
import linecache
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from gradc.places import Where

_CLASSES = {tokenize.STRING: "st", tokenize.COMMENT: "c", tokenize.NUMBER: "n"}


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a file: (number, HTML); a gap between two functions is a line of number 0."""

    file: str
    lines: tuple[tuple[int, str], ...]


def excerpts(places: Iterable[Where]) -> list[Excerpt]:
    """The functions around ``places``, file by file."""
    by_file: dict[str, set[int]] = {}
    for place in places:
        by_file.setdefault(place.file, set()).add(place.line)
    return [_excerpt(file, sorted(lines)) for file, lines in sorted(by_file.items())]


def _excerpt(file: str, wanted: Sequence[int]) -> Excerpt:
    text = linecache.getlines(file)
    if not text or wanted[-1] > len(text):
        return Excerpt(file, tuple((n, "<i>source not available</i>") for n in wanted))
    marked = _marked(text)
    spans = _spans("".join(text), wanted)
    shown: list[tuple[int, str]] = []
    last = 0
    for n in wanted:
        start, end = min((s for s in spans if s[0] <= n <= s[1]), key=lambda s: s[1] - s[0], default=(n, n))
        if start > last + 1 and shown:
            shown.append((0, "⋯"))
        shown += [(k, marked[k - 1]) for k in range(max(start, last + 1), end + 1)]
        last = max(last, end)
    return Excerpt(file, tuple(shown))


def _spans(text: str, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """First and last line of the outermost functions of a file; of a file that is no Python, just the lines."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return [(n, n) for n in wanted]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [tree.body, *(n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    found = [n for body in bodies for n in body if isinstance(n, kinds)]
    inside = [n for n in tree.body if not isinstance(n, (*kinds, ast.ClassDef))]  # lambdas, scripts
    return [
        (min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", ()))]), n.end_lineno or n.lineno)
        for n in (*found, *inside)
    ]


def _marked(lines: Sequence[str]) -> list[str]:
    """Each line as HTML, its words, strings, numbers and comments in their classes."""
    classes: dict[int, list[tuple[int, int, str]]] = {}
    reader = io.StringIO("".join(lines)).readline
    try:
        for token in tokenize.generate_tokens(reader):
            name = _CLASSES.get(token.type) or ("k" if keyword.iskeyword(token.string) else "")
            if token.type in _FSTRING:
                name = "st"
            for row in range(token.start[0], token.end[0] + 1) if name else ():
                start = token.start[1] if row == token.start[0] else 0
                end = token.end[1] if row == token.end[0] else len(lines[row - 1])
                classes.setdefault(row, []).append((start, end, name))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return [escape(line.rstrip("\n")) for line in lines]
    return [_spanned(line.rstrip("\n"), classes.get(n, ())) for n, line in enumerate(lines, 1)]


#: the pieces of f-strings, which are tokens of their own from Python 3.12 on
_FSTRING = {getattr(tokenize, f"FSTRING_{part}", -1) for part in ("START", "MIDDLE", "END")}


def _spanned(line: str, parts: Iterable[tuple[int, int, str]]) -> str:
    result, at = "", 0
    for start, end, name in parts:
        if start >= at:
            result += escape(line[at:start]) + f'<span class="{name}">{escape(line[start:end])}</span>'
            at = end
    return result + escape(line[at:])
