"""The page on convergence shows what its code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "convergence.md"


def _words(text):
    """The words of a report; numbers, whose last digits depend on the processor, are not compared."""
    return re.sub(r"[\s−-]*[\d.,⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+(e[+-]?\d+)?", " #", text).split()


def test_the_page_on_convergence_prints_what_it_shows():
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", page, re.S)
    assert len(blocks) >= 4
    names = {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "model.py", "exec"), names)
        assert _words(printed.getvalue()) == _words(shown)
