"""Sparse derivatives and sparse matrices.

Enters: functions, and matrices.  Leaves: functions whose results are sparse matrices (`derivatives`), and matrices
whose products are differentiated and compiled (`gradc.numpy.sparse`).  Start reading at `derivatives`.
"""

from __future__ import annotations

from gradc.numpy.sparse import SparseMatrix, coo, csr, from_scipy
from gradc.sparse.derivatives import SparseHessian, SparseJacobian, sparse_hessian, sparse_jacobian
from gradc.sparse.shown import SparsityPattern

__all__ = [
    "SparseHessian",
    "SparseJacobian",
    "SparseMatrix",
    "SparsityPattern",
    "coo",
    "csr",
    "from_scipy",
    "sparse_hessian",
    "sparse_jacobian",
]


def __dir__() -> list[str]:
    return sorted(__all__)
