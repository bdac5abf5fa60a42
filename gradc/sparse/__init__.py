"""Sparse derivatives: what they depend on, what may be found together, and the code that finds it.

Enters: functions.  Leaves: functions whose results are sparse matrices.  Start reading at `derivatives`.
"""

from __future__ import annotations

from gradc.sparse.derivatives import SparseHessian, SparseJacobian, sparse_hessian, sparse_jacobian
from gradc.sparse.matrix import Triplets
from gradc.sparse.shown import SparsityPattern

__all__ = ["SparseHessian", "SparseJacobian", "SparsityPattern", "Triplets", "sparse_hessian", "sparse_jacobian"]
