"""Where a matrix has entries: rows of column numbers, as derived from a graph or given by the user.

Enters: a graph that is linear in one leaf, or arrays of indices.  Leaves: a `Pattern`.  Invariant: the columns of a row
ascend and none is there twice.  Start reading at `pattern_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.diff.sparsity.bodies import visited
from gradc.diff.sparsity.sets import ColumnSets, Numbers
from gradc.diff.sparsity.walk import Walk
from gradc.node import Node
from gradc.process import cached_property

Array = np.ndarray[Any, Any]


def pattern_of(
    result: Node | None, leaf: Node, size: int, values: Mapping[Node, Array] | None = None
) -> tuple[Pattern, frozenset[Node]]:
    """Where the matrix of ``result``, of ``size`` elements, by ``leaf`` may have entries; None is structurally zero.

    ``values`` are those of leaves that are known: an index that is among them chooses elements, an unknown one may
    choose any.  The leaves whose values the pattern is for come back with it.
    """
    sets = ColumnSets(leaf.size)
    if result is None or not leaf.size:
        return Pattern((size, leaf.size), *sets.rows((), size)), frozenset()
    known = {node: (value, frozenset([node])) for node, value in (values or {}).items()}
    walk = visited(Walk(sets, {leaf: (sets.singles(leaf.shape),)}, known), [result])
    return Pattern((size, leaf.size), *sets.rows(walk.of(result), size)), frozenset(walk.asked)


@dataclass(frozen=True, eq=False)
class Pattern:
    """Row i has entries in ``columns[ends[i] : ends[i + 1]]``."""

    shape: tuple[int, int]
    ends: Numbers
    columns: Numbers

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self.columns)

    @cached_property
    def rows(self) -> Numbers:
        """The row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.ends))

    @cached_property
    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=self.shape[1])
        return Pattern(self.shape[::-1], np.concatenate([[0], np.cumsum(counts)]), self.rows[order])

    @cached_property
    def keys(self) -> Numbers:
        """The row-major position of each entry, ascending."""
        return self.rows * self.shape[1] + self.columns

    @property
    def is_symmetric(self) -> bool:
        """Whether (j, i) is an entry wherever (i, j) is one."""
        turned = self.transposed
        same = self.shape == turned.shape and np.array_equal(self.ends, turned.ends)
        return same and np.array_equal(self.columns, turned.columns)

    @classmethod
    def of_entries(cls, rows: Array, columns: Array, shape: tuple[int, int]) -> Pattern:
        """From pairs of row and column in any order, with repetitions."""
        keys = np.unique(np.asarray(rows, np.int64) * shape[1] + np.asarray(columns, np.int64))
        row, column = np.divmod(keys, max(shape[1], 1))
        counts = np.bincount(row, minlength=shape[0])
        return cls(shape, np.concatenate([[0], np.cumsum(counts)]), column)

    def symmetrised(self) -> Pattern:
        """With (j, i) for each (i, j)."""
        if self.is_symmetric:
            return self
        rows, columns = np.concatenate([self.rows, self.columns]), np.concatenate([self.columns, self.rows])
        return Pattern.of_entries(rows, columns, self.shape)
