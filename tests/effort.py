"""How much effort LLVM makes for the code that a test runs.

Most long modules are made at its lowest level, in a third of the time: by contract they compute the same bits.  Which
ones depends on their text alone.  By night all are made with the usual effort.
"""

from __future__ import annotations

import zlib

USUAL = 2
#: of so many long modules one is made with the usual effort; a shorter one always
USUAL_ONE_IN = 8
LONG_TEXT = 20_000


def level(text: str) -> int:
    """The level for a module."""
    low = len(text) > LONG_TEXT and zlib.crc32(text.encode()) % USUAL_ONE_IN > 0
    return 0 if low else USUAL
