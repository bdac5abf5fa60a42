"""What a sparse derivative returns: a `scipy.sparse.csr_array`, or a `SparseMatrix`.

Enters: entries, row after row, and where they stand.  Leaves: a matrix that is the caller's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.diff.sparsity import Pattern
from gradc.node import Node
from gradc.numpy.sparse import SparseMatrix
from gradc.ops.sparse import Structure

Array = np.ndarray[Any, Any]


def assembled(entries: Any, indices: tuple[Array, Array], pattern: Pattern) -> Any:
    """The matrix; its arrays are no other result's.  Of traced entries, and without SciPy, a `SparseMatrix`."""
    if isinstance(entries, Node) or (made := _csr_array()) is None:
        return SparseMatrix(entries, Structure(pattern.rows, pattern.columns, pattern.shape))
    ends, columns = indices
    return made((entries, columns.copy(), ends.copy()), shape=pattern.shape)


def _csr_array() -> Any:
    """SciPy's class, if there is SciPy."""
    try:
        from scipy.sparse import csr_array
    except ImportError:
        return None
    return csr_array
