"""Random numbers drawn from a global generator while a function is traced: they are frozen in its graph, so it is told.

Enters: the states of the generators before and after.  Leaves: a `FrozenWarning`, once for a function.
Start reading at `warn_of_draws`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gradc.errors import FrozenWarning
from gradc.places import warn_user

#: functions, by their file and line, of which it was told that they draw at random
_told: set[tuple[str, int]] = set()
#: words in the state of NumPy's global generator; a position of as many says that none was drawn yet
_WORDS = 624


def drawn() -> tuple[Any, Any]:
    """How far NumPy's and Python's global generators have come; None for one of which nothing was drawn."""
    numpys, pythons = sys.modules.get("numpy.random"), sys.modules.get("random")
    generator = numpys and numpys.get_bit_generator()
    state = None
    if generator is not None and type(generator).__name__ == "MT19937":
        import ctypes

        state = ctypes.string_at(generator.ctypes.state_address, 4 * _WORDS + 4)
        fresh = int.from_bytes(state[-4:], sys.byteorder) == _WORDS
        state = None if fresh else state
    return state, pythons and pythons.getstate()


def warn_of_draws(before: tuple[Any, Any], f: Callable[..., Any], title: str) -> None:
    """Warn, once for a function, if tracing it drew from a global generator; others and the clock are not watched."""
    pairs = zip(("np.random", "random"), before, drawn(), strict=True)
    names = [name for name, a, b in pairs if a != b and b is not None]
    code = getattr(f, "__code__", None)
    place = (code.co_filename, code.co_firstlineno) if code is not None else (title, 0)
    if not names or place in _told:
        return
    _told.add(place)
    text = (
        f"{title} ({place[0]}:{place[1]}) draws from {' and '.join(names)} while it is traced: the numbers are "
        "constants of the graph, the same at every call. Draw them outside and pass them in as arguments."
    )
    warn_user(text, FrozenWarning)
