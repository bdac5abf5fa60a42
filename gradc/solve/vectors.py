"""Functions of trees as functions of one vector: what the searches work on.

Enters: a traced function and trees like its argument.  Leaves: vectors of one dtype, and the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradc import tree
from gradc.aval import finfo
from gradc.node import dsl


@dataclass(frozen=True, eq=False)
class Vectors:
    """A tree as one vector: ``start``, and ``unravel`` from such a vector to such a tree."""

    start: Any
    unravel: tree.Unravel

    @classmethod
    def of(cls, x: Any) -> Vectors:
        """The vector of a tree of traced arrays."""
        return cls(*tree.ravel(x))

    def function(self, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``f`` from vectors to vectors."""
        return lambda v: tree.ravel(f(self.unravel(v)))[0].astype(self.start.dtype)

    def scalar(self, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``f`` from vectors to numbers."""
        return lambda v: f(self.unravel(v)).astype(self.start.dtype)


def epsilon_of(given: Any) -> float:
    """The spacing of the least exact dtype among the arrays of `gradc.api.bodies.Leaves`."""
    return max(float(finfo(a.dtype).eps) for a in given.avals)


def size_of(given: Any) -> int:
    """How many numbers they are."""
    return sum(a.size for a in given.avals)


def length(x: Any) -> Any:
    """The Euclidean norm, which nobody differentiates."""
    return dsl.sqrt(dsl.dot(x, x))
