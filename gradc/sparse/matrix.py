"""What a sparse derivative returns: a `scipy.sparse.csr_array`, or `Triplets` where SciPy is not installed.

Enters: entries, row after row, and where they stand.  Leaves: a matrix that is the caller's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradc.diff.sparsity import Pattern
from gradc.node import Node

Array = np.ndarray[Any, Any]


class Triplets(NamedTuple):
    """A sparse matrix by its entries: inside a trace, and on machines without SciPy."""

    indices: Array  #: (entries, 2): row and column of each, row after row
    values: Any  #: (entries,)
    shape: tuple[int, int]


def assembled(entries: Any, indices: tuple[Array, Array], pattern: Pattern) -> Any:
    """The matrix; its arrays are no other result's.  Of traced entries it is `Triplets`."""
    if isinstance(entries, Node):
        return Triplets(np.stack([pattern.rows, pattern.columns], 1), entries, pattern.shape)
    try:
        from scipy.sparse import csr_array
    except ImportError:
        return Triplets(np.stack([pattern.rows, pattern.columns], 1), entries, pattern.shape)
    ends, columns = indices
    return csr_array((entries, columns.copy(), ends.copy()), shape=pattern.shape)
