"""What a sparse derivative returns: a `scipy.sparse.csr_array`, or a `SparseMatrix`.

Enters: entries, row after row, and where they stand.  Leaves: a matrix that is the caller's own.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from gradc.diff.sparsity import Pattern
from gradc.node import Node
from gradc.numpy.sparse import SparseMatrix
from gradc.ops.sparse import Structure

Array = np.ndarray[Any, Any]


def template(columns: Array, ends: Array, dtype: Any, shape: tuple[int, int]) -> Any:
    """A `scipy.sparse.csr_array` with entries in these places; None without SciPy."""
    try:
        from scipy.sparse import csr_array
    except ImportError:
        return None
    made = csr_array((np.zeros(len(columns), dtype), columns, ends), shape=shape)
    made.has_canonical_format = True  # the columns of a row ascend, and none is there twice
    return made


def assembled(like: Any, entries: Any, columns: Any, ends: Any, pattern: Pattern) -> Any:
    """The matrix of these arrays, which are no other result's; of traced entries, and without SciPy, a
    `SparseMatrix`.

    The constructor of SciPy's class copies arrays that have memory of another owner; a copy of ``like`` takes them.
    """
    if isinstance(entries, Node) or like is None:
        return SparseMatrix(entries, Structure(pattern.rows, pattern.columns, pattern.shape))
    made = copy.copy(like)
    made.data, made.indices, made.indptr = entries, columns, ends
    return made
