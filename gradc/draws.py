"""Random numbers drawn from a global generator while a function is traced: they are frozen in its graph, so it is told.

Enters: the states of the generators before and after.  Leaves: a `FrozenWarning`, once for a function.
Start reading at `warn_of_draws`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.errors import FrozenWarning
from gradc.places import warn_user

#: functions, by their file and line, of which it was told that they draw at random
_told: set[tuple[str, int]] = set()
#: words in the state of a Mersenne Twister; at a position of as many the next draw makes new ones of them
_WORDS = 624
#: the first word of a state that was seeded with an array of words
_OF_ARRAY = 0x80000000
#: the multiplier by which a seed of one word makes the words of a state, each of the one before it
_OF_WORD = 1812433253


def drawn() -> tuple[Any, Any]:
    """How far NumPy's and Python's global generators have come; None for one that is not loaded, or of which nothing
    was drawn since it was seeded: loading and seeding are no draws (but see `_is_seeded`)."""
    numpys, pythons = sys.modules.get("numpy.random"), sys.modules.get("random")
    return _of_numpy(numpys) if numpys else None, _of_python(pythons) if pythons else None


def _of_numpy(module: Any) -> Any:
    state = module.get_state(legacy=False)
    words = state["state"]
    twister = state["bit_generator"] == "MT19937" and not state["has_gauss"]
    return None if twister and _is_seeded(words["key"], words["pos"]) else _comparable(state)


def _of_python(module: Any) -> Any:
    """Any seed is made an array of words there, and the words are new ones at the first draw."""
    state = module.getstate()
    first, position = state[1][0], state[1][-1]
    return None if state[2] is None and first == _OF_ARRAY and position == _WORDS else state


def _is_seeded(words: np.ndarray[Any, Any], position: int) -> bool:
    """Whether NumPy's words are those of a seed, and none of them was read.

    At loading one of them is still to be read.  After a seed that is an array none is, just as when that one was read:
    so that seed counts as a draw, and so does a later one of the system's, which leaves the position where it was.
    """
    if position == _WORDS - 1:
        return bool(words[0] == _OF_ARRAY)
    before = words[:-1].astype(np.uint64)
    made = (_OF_WORD * (before ^ (before >> np.uint64(30))) + np.arange(1, _WORDS, dtype=np.uint64)) % (1 << 32)
    return position == _WORDS and np.array_equal(words[1:], made)


def _comparable(state: Any) -> Any:
    """Dictionaries and arrays as tuples and bytes."""
    if isinstance(state, dict):
        return tuple((name, _comparable(part)) for name, part in state.items())
    return state.tobytes() if isinstance(state, np.ndarray) else state


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
