"""Arguments of a function that an option of `gradc.jit` chooses, by position or by name.

Enters: what the user wrote.  Leaves: both their positions and their names.  Start reading at `chosen`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradc.node import here
from gradc.trace import function_name

Names = int | str | Sequence[int | str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Arguments chosen for an option, however they are passed: by these positions or by these names."""

    positions: frozenset[int]
    names: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.positions or self.names)

    @property
    def given(self) -> tuple[int | str, ...]:
        """As one would write the option."""
        return (*sorted(self.positions), *sorted(self.names))


def chosen(f: Callable[..., Any], given: Names, option: str) -> Chosen:
    """The arguments of ``f`` that an option names; TypeError for what it has not."""
    items = list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]
    names = tuple(i for i in items if isinstance(i, str))
    positions = tuple(i for i in items if isinstance(i, int) and not isinstance(i, bool))
    if len(names) + len(positions) != len(items) or any(p < 0 for p in positions):
        raise TypeError(f"{here()}: {option}={given!r}: expected argument positions (0, 1, …) or names")
    signature = _signature(f)
    if names and signature is None:
        raise TypeError(f"{here()}: {option}={given!r}: {function_name(f)} has no readable signature; use positions")
    for name in names:
        if signature is not None and name not in signature.parameters:
            known = ", ".join(signature.parameters)
            raise TypeError(f"{here()}: {option}: {function_name(f)} has no parameter {name!r}; it has {known}")
    if signature is None:
        return Chosen(frozenset(positions), frozenset(names))
    return _both_ways(list(signature.parameters.values()), positions, names, f"{here()}: {option}: {function_name(f)}")


def _both_ways(
    parameters: Sequence[inspect.Parameter], positions: Sequence[int], names: Sequence[str], whose: str
) -> Chosen:
    """Positions with the names of their parameters, and the reverse."""
    order = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters) and any(i >= len(order) for i in positions):
        raise TypeError(
            f"{whose} takes {len(order)} positional arguments; there is no {max(positions)}, counted from 0"
        )
    return Chosen(
        frozenset([*positions, *(order.index(n) for n in names if n in order)]),
        frozenset([*names, *(order[i] for i in positions if i < len(order))]),
    )


def _signature(f: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return None


__all__ = ["Chosen", "Names", "chosen"]
