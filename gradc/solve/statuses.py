"""How searches end: a number for each way, which can be traced, and its words.

Enters: nothing.  Leaves: a `Status` per kind of search, whose numbers are those of SciPy where it has them.
Invariant: 0 is what a search was to find, and only that; `RUNNING` is no end, and no result has it.
"""

from __future__ import annotations

import enum
from typing import Any

#: of a search that goes on
RUNNING = -1


class Status(enum.IntEnum):
    """A number, and ``words`` for it."""

    words: str

    def __new__(cls, number: int, words: str = "") -> Any:
        """The member of this number."""
        made = int.__new__(cls, number)
        made._value_, made.words = number, words
        return made


class RootStatus(Status):
    """Of roots and fixed points."""

    FOUND = 0, "A solution was found."
    TOO_MANY_STEPS = 1, "The limit of steps was reached."
    NO_PROGRESS = (
        2,
        "No step makes the residual smaller: the derivative is singular, or there is no solution near, or rounding "
        "allows no smaller residual.",
    )
    NOT_FINITE = 3, "The function is not finite where the search begins."


class MinimumStatus(Status):
    """Of minima, as in SciPy."""

    FOUND = 0, "The gradient is as small as was asked for."
    TOO_MANY_STEPS = 1, "The limit of steps was reached."
    PRECISION_LOST = (
        2,
        "No step makes the function smaller by what its slope promises: rounding is in the way, or it is not smooth.",
    )
    NOT_FINITE = 3, "The function or its gradient is not finite where the search begins."


class LinearStatus(Status):
    """Of linear systems."""

    FOUND = 0, "The residual is as small as was asked for."
    TOO_MANY_STEPS = 1, "The limit of products with the matrix was reached."
    NO_PROGRESS = (
        2,
        "The residual stopped getting smaller: the matrix is singular, not of the kind that the method is for, or too "
        "badly conditioned for so small a residual; or something is NaN.",
    )


class IntegrationStatus(Status):
    """Of differential equations, which are on the way with the status that they end with if all goes well."""

    DONE = 0, "The last time was reached, or the event."
    TOO_MANY_STEPS = 1, "The limit of steps between two times was reached."
    TOO_SMALL_STEPS = (
        2,
        "Steps had to be smaller than the spacing of t: y is not finite, or the equations are stiff for the method.",
    )
