"""What a transform's function is the derivative of, for whoever wants to explain it.

Enters: the function that a transform returns.  Leaves: the `Derived` that was noted on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_NOTE = "__gradc_derived__"


@dataclass(frozen=True)
class Derived:
    """All derivatives of this ``order`` of ``function``, by its arguments ``argnums``.

    ``remarks``, called with the arguments, is what else there is to say of them, a sentence each.
    """

    function: Callable[..., Any]
    argnums: int | Sequence[int]
    order: int
    remarks: Callable[..., Sequence[str]] | None = None


def noted(made: Function, derived: Derived) -> Function:
    """``made``, which is known as ``derived`` from here on."""
    setattr(made, _NOTE, (made, derived))
    return made


def derived_of(f: Any) -> Derived | None:
    """What was noted on ``f`` itself; a wrapper that copied the note is another function."""
    found = getattr(f, _NOTE, None)
    return found[1] if found is not None and found[0] is f else None
