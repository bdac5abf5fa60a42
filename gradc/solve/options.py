"""Options of solvers: numbers that are known before the search begins, because the loops are made for them.

Enters: what the user gave.  Leaves: a Python number, or an error that names the option.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

from gradc.errors import TraceError
from gradc.node import Node, here


def chosen(value: Any, known: Iterable[str], what: str, whose: str) -> str:
    """A word that is ``known``, in small or capital letters; ValueError, which lists these, for any other."""
    names = list(known)
    word = value.lower() if isinstance(value, str) else value
    if word not in names:
        raise ValueError(f"{here()}: {whose}: {what}={value!r:.40}; expected one of {', '.join(map(repr, names))}")
    return str(word)


def static_number(value: Any, what: str, whose: str) -> float:
    """A finite number that is not negative."""
    _refuse_traced(value, what, whose)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{here()}: {whose}: {what} must be a number, got {value!r:.40}")
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{here()}: {whose}: {what} must be a finite number and not negative, got {number}")
    return number


def static_count(value: Any, what: str, whose: str, default: int) -> int:
    """A number of steps, 1 at least; ``default`` for None."""
    if value is None:
        return default
    _refuse_traced(value, what, whose)
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{here()}: {whose}: {what} must be an integer, got {value!r:.40}") from None
    if isinstance(value, bool) or count < 1:
        raise ValueError(f"{here()}: {whose}: {what} must be at least 1, got {value!r}")
    return count


def _refuse_traced(value: Any, what: str, whose: str) -> None:
    if isinstance(value, Node):
        raise TraceError(
            f"{here()}: {whose}: {what} is a traced value, and the loop is made for a number: give a Python number, or "
            "make it a static argument of the compiled function"
        )
