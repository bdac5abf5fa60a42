"""Python's collector of reference cycles, held back while something large and free of cycles is built.

Graphs, schedules and texts hold no cycles, but each of their objects is looked at whenever the collector runs, and it
runs the more often the more there are: at 100,000 nodes that is two fifths of the time.

Invariant: afterwards it runs if it did before, whatever ends the work.  An exception out of a signal's handler can come
behind any call, so what switches it on again is one call of a built-in function, and nothing is counted: of threads
that compile at once, the one that found it running switches it on, and the others go on without its rest.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def collecting_later(f: Callable[P, R]) -> Callable[P, R]:
    """``f``, while which no cycles are collected; then the collector runs again if it did before."""

    @functools.wraps(f)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        if not gc.isenabled():
            return f(*args, **kwargs)
        last = _LastResort()
        try:
            gc.disable()
            return f(*args, **kwargs)
        finally:
            gc.enable()
            last.armed = False

    return held


class _LastResort:
    """Switches the collector on when the frame goes that holds this, should a debugger's hook have thrown into the
    line that does it."""

    armed = True

    def __del__(self) -> None:
        if self.armed:
            gc.enable()
