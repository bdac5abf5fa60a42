"""Python's collector of reference cycles, held back while something large and free of cycles is built.

Graphs, schedules and texts hold no cycles, but each of their objects is looked at whenever the collector runs, and it
runs the more often the more there are: at 100,000 nodes that is two fifths of the time.
"""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def collecting_later(f: Callable[P, R]) -> Callable[P, R]:
    """``f``, while which no cycles are collected, in any thread; then the collector runs again if it did before."""

    @functools.wraps(f)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        _Collector.hold()
        try:
            return f(*args, **kwargs)
        finally:
            _Collector.release()

    return held


class _Collector:
    """How many functions hold the collector back now, in all threads."""

    _lock: ClassVar = threading.Lock()
    _holders: ClassVar[int] = 0
    _was_running: ClassVar[bool] = False

    @classmethod
    def hold(cls) -> None:
        with cls._lock:
            if not cls._holders:
                cls._was_running = gc.isenabled()
                gc.disable()
            cls._holders += 1

    @classmethod
    def release(cls) -> None:
        with cls._lock:
            cls._holders -= 1
            if not cls._holders and cls._was_running:
                gc.enable()
