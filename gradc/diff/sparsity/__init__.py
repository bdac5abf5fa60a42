"""The pattern of a derivative: which elements of the results depend on which elements of an argument.

Enters: nodes, a leaf whose elements are the columns, and what is known of other leaves.  Leaves: for each node the sets
of columns that its elements depend on, found from what the ops of the graph do to indices and never by evaluating the
function.  `sets` says how sets are written down, `rules` what each kind of op makes of them, `bodies` what loops,
branches and calls do; start reading at `walk`.
"""

from __future__ import annotations

from gradc.diff.sparsity.pattern import Pattern, pattern_of
from gradc.diff.sparsity.sets import ColumnSets

__all__ = ["ColumnSets", "Pattern", "pattern_of"]
