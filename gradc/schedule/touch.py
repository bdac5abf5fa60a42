"""Which slots a piece of work touches, and in what order: the one description that every kind of work has to give.

Enters: nothing.  Leaves: `Touch`, from which memory planning and threads derive all that they ask about slots.
Invariant: work that does not say what it touches cannot be made.  Start reading at `Touching`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradc.schedule.kernel import Nest

Slots = frozenset[int]


@dataclass(frozen=True, slots=True)
class Touch:
    """``sources`` are read for as long as the work runs, at any place; ``targets`` are written all the while.

    ``steps`` are loops behind that, of which each step reads what it loads before it stores; their slots are read off
    their code.  Scratch is source and target.
    """

    sources: Slots = frozenset()
    targets: Slots = frozenset()
    steps: Nest | None = None

    @property
    def reads(self) -> set[int]:
        """Every slot that is read."""
        return {*self.sources, *(self.steps.loaded if self.steps is not None else ())}

    @property
    def writes(self) -> set[int]:
        """Every slot that is written."""
        return {*self.targets, *(self.steps.stored if self.steps is not None else ())}

    @property
    def slots(self) -> set[int]:
        """Every slot that the work touches."""
        return self.reads | self.writes


class Touching(ABC):
    """Work on slots."""

    __slots__ = ()

    @property
    @abstractmethod
    def touch(self) -> Touch:
        """What the work reads and writes."""
