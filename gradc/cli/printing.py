"""Text for terminals that cannot show all of it: what standard output lacks is written in ASCII.

Enters: a stream with an encoding.  Leaves: the same stream, which never fails on a sign.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import TextIO

from gradc.explain.letters import NAMES

_HANDLER = "gradc.ascii"
_SIGNS = {
    "∂": "d", "−": "-", "×": "x", "·": "*", "⊙": ".*", "⊗": "(x)", "‖": "||", "√": "sqrt ", "∞": "inf", "ᵀ": "^T",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "▶": ">", "…": "...", "—": "-", "–": "-", "│": "|", "─": "-",
    "━": "=", "╸": "=", "╺": "=", "µ": "u", "𝟏": "ones", "∈": "in", "½": "1/2", "⟨": "<", "⟩": ">", "✓": "ok", "✗": "x",
    "’": "'", "“": '"', "”": '"',
} | NAMES  # fmt: skip


def print_everywhere() -> None:
    """Make standard output and error write in ASCII what their encoding has no sign for."""
    codecs.register_error(_HANDLER, _spelled_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=_HANDLER)


def can_print(text: str, stream: TextIO | None = None) -> bool:
    """Whether ``stream`` (standard output) has all signs of ``text``."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(map(_in_ascii, signs)), error.end


def _in_ascii(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    kind = unicodedata.decomposition(sign).partition(" ")[0]
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    raised = {"<super>": "^", "<sub>": "_"}.get(kind, "")
    return raised + plain if plain else "" if unicodedata.combining(sign) else "?"
