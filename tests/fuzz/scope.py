"""Where a random program stands: the values made so far, with the arrays that plain NumPy gives for them.

Enters: a random generator.  Leaves: names of values that fit, new names, proposals that NumPy accepted.
Start reading at `Scope`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.fuzz.language import Array, Statement, bindings, quietly
from tests.fuzz.reference import NUMPY

Random = np.random.Generator
Fits = Callable[[Array], bool]
#: things, and where the share of each ends in [0, 1]
Weighted = tuple[Sequence[Any], Array]

#: no array of a program has more elements, and no float in the middle of one is larger
MOST_ELEMENTS = 64
LARGEST = 1e3


class NotThisTimeError(Exception):
    """A form has nothing to work on here."""


def is_float(a: Array) -> bool:
    return bool(a.dtype.kind == "f" or a.dtype.name == "bfloat16")


def weighted(options: Sequence[tuple[Any, float]]) -> Weighted:
    """Things to be drawn by their weights."""
    until = np.cumsum([w for _, w in options])
    return [thing for thing, _ in options], until / until[-1]


@dataclass
class Scope:
    """Values by name, newest last; a body has a scope of its own that can read its parent's."""

    random: Random
    values: dict[str, Array] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    counter: Iterator[int] = field(default_factory=lambda: itertools.count())
    depth: int = 0
    gave_several: bool = False  #: whether the last statement that was run gave a tuple for a name

    def chance(self, p: float) -> bool:
        return bool(self.random.random() < p)

    def one_of(self, options: Sequence[Any]) -> Any:
        return options[int(self.random.integers(len(options)))]

    def likely(self, options: Weighted) -> Any:
        """One of ``options``, by its weight."""
        things, until = options
        return things[int(np.searchsorted(until, self.random.random(), side="right"))]

    def number(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return int(self.random.integers(low, high + 1))

    def fresh(self, letter: str = "v") -> str:
        return f"{letter}{next(self.counter)}"

    def pick(self, fits: Fits = lambda a: True) -> str:
        """A value that fits, newer ones more often."""
        names = [n for n, a in self.values.items() if fits(a)]
        if not names:
            raise NotThisTimeError
        back = min(int(self.random.geometric(0.35)), len(names))
        return names[-back] if self.chance(0.7) else str(self.one_of(names))

    def float(self, least: int = 0, fits: Fits = lambda a: True) -> str:
        """A float value of at least ``least`` dimensions."""
        return self.pick(lambda a: is_float(a) and a.ndim >= least and fits(a))

    def inner(self, parameters: dict[str, Array]) -> Scope:
        """The scope of a body: its parameters, and, now and then, a value from outside."""
        outside = dict(self.values) if self.chance(0.3) else {}
        return Scope(self.random, {**outside, **parameters}, [], self.counter, self.depth + 1)

    def accept(self, statement: Statement, keep: bool = False) -> bool:
        """Run ``statement`` in plain NumPy; if it makes values of a reasonable size, take it into the program."""
        made = self._run(statement)
        if made is None or not (keep or all(self._reasonable(a) for a in made)):
            return False
        self.statements.append(statement)
        self.values.update(zip(statement.targets, made, strict=True))
        return True

    def _run(self, statement: Statement) -> list[Array] | None:
        source = "\n".join(statement.lines(reference=True))
        try:
            bound = quietly(bindings, source, {**NUMPY, **self.values})
            self.gave_several = isinstance(bound[statement.targets[0]], tuple)
            return None if self.gave_several else [np.asarray(bound[t]) for t in statement.targets]
        except Exception:  # NumPy refuses this proposal: another one is drawn
            return None

    def _reasonable(self, a: Array) -> bool:
        if a.size > MOST_ELEMENTS or (a.dtype.kind not in "fiub" and a.dtype.name != "bfloat16"):
            return False
        return not is_float(a) or bool(quietly(lambda: np.all(np.abs(a.astype(np.float64)) < LARGEST)))

    def is_finite(self, name: str) -> bool:
        a = self.values[name]
        return not is_float(a) or bool(np.all(np.isfinite(a.astype(np.float64))))
