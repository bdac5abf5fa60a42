"""Sparse matrices in traced functions: places that are known, values that may be traced, and products with arrays.

Enters: a `scipy.sparse` matrix, or a `SparseMatrix`, beside arrays.  Leaves: `sparse_product` nodes, or NumPy values
where nothing is traced.  Invariant: the places are Python values, part of the compiled function; only values are data.
Start reading at `SparseMatrix`; `matmul` and `dot` come here with what `is_sparse` says.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradc.aval import is_scipy_sparse, promoted
from gradc.errors import DTypeError, IndexingError, ShapeError, TraceError
from gradc.interpret import interpret
from gradc.node import OPS, Node, as_node, describe, dsl, here
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.ops.sparse import Structure, sparse_product

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A sparse matrix whose values may be traced; entries at one place add up.

    It is a tree of one array, ``data``: it can be an argument and a result of compiled functions, and derivatives by it
    are derivatives by its values.  ``A @ x``, ``x @ A`` and ``A.T @ x`` take vectors and matrices.
    """

    data: Any  #: the value of each entry
    structure: Structure = field(metadata={"static": True})

    __array_ufunc__ = None  # NumPy's operators leave products with it to `__rmatmul__`

    @property
    def values(self) -> Any:
        """The value of each entry."""
        return self.data

    @property
    def indices(self) -> Array:
        """Row and column of each entry: (entries, 2)."""
        return np.stack([self.structure.rows, self.structure.columns], 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.structure.shape

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the values."""
        found: np.dtype[Any] = self.data.dtype
        return found

    @property
    def nnz(self) -> int:
        """How many entries there are."""
        return self.structure.entries

    @property
    def T(self) -> SparseMatrix:
        """The transposed matrix, of the same values."""
        return SparseMatrix(self.data, self.structure.transposed)

    def __matmul__(self, other: Any) -> Any:
        return multiplied(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return multiplied_from_left(other, self)

    def toarray(self) -> Any:
        """The dense matrix."""
        flat = self.structure.rows * self.shape[1] + self.structure.columns
        zeros = full((self.shape[0] * self.shape[1],), 0, self.dtype)
        dense = OPS["scatter"].make((zeros, as_node(self.data), as_node(flat)), axes=(0,), how="add")
        return _plain(dsl.reshape(dense, self.shape), self.data)

    def tocsr(self) -> Any:
        """The same as a `scipy.sparse.csr_array`.  Raises TraceError where the values are traced."""
        if isinstance(self.data, Node):
            raise TraceError(
                f"{here()}: .tocsr() of a sparse matrix with traced values: SciPy needs numbers.\n"
                "  Return the matrix and convert it outside; products with it work inside."
            )
        from scipy.sparse import coo_array

        return coo_array((self.data, (self.structure.rows, self.structure.columns)), shape=self.shape).tocsr()

    def __repr__(self) -> str:
        shown = self.data.aval if isinstance(self.data, Node) else f"{self.data.dtype}"
        return f"<sparse matrix {self.shape[0]}×{self.shape[1]}, {self.nnz} entries of {shown}>"


def is_sparse(value: object) -> bool:
    """Whether it is a sparse matrix, SciPy's or ours."""
    return isinstance(value, SparseMatrix) or is_scipy_sparse(value)


def from_scipy(matrix: Any) -> SparseMatrix:
    """A `scipy.sparse` matrix or array of any format, as one whose values can be traced and differentiated."""
    if isinstance(matrix, SparseMatrix):
        return matrix
    if not is_scipy_sparse(matrix):
        raise TypeError(f"{here()}: expected a scipy.sparse matrix, got a {type(matrix).__name__}")
    if matrix.ndim != 2:
        raise ShapeError(f"{here()}: a sparse array of shape {matrix.shape} is no matrix; use .toarray()")
    found = matrix.tocoo()
    rows, columns = found.row.astype(np.int64), found.col.astype(np.int64)
    return SparseMatrix(found.data, Structure(rows, columns, (int(found.shape[0]), int(found.shape[1]))))


def csr(data: Any, indices: Any, indptr: Any, shape: Sequence[int]) -> SparseMatrix:
    """A sparse matrix row by row, as `scipy.sparse.csr_array` has it: row i has the columns and values from
    ``indptr[i]`` to ``indptr[i + 1]``.  ``data`` may be traced; the rest are numbers."""
    size = _shape(shape)
    columns, ends = _whole(indices, "indices"), _whole(indptr, "indptr")
    lengths = np.diff(ends)
    if len(ends) != size[0] + 1 or ends[0] != 0 or ends[-1] != len(columns) or (lengths < 0).any():
        raise ShapeError(
            f"{here()}: csr: indptr must rise from 0 to {len(columns)}, the number of entries, in {size[0] + 1} steps"
        )
    return coo(data, np.repeat(np.arange(size[0]), lengths), columns, size)


def coo(data: Any, rows: Any, columns: Any, shape: Sequence[int]) -> SparseMatrix:
    """A sparse matrix by the row and the column of each value, in any order; ``data`` may be traced."""
    size = _shape(shape)
    places = []
    for given, name, extent in ((rows, "rows", size[0]), (columns, "columns", size[1])):
        found = _whole(given, name)
        if len(found) and not (found.min() >= 0 and found.max() < extent):
            raise IndexingError(f"{here()}: {name} must be at least 0 and less than {extent}, got {found}")
        places.append(found)
    values = data if isinstance(data, Node) else np.asarray(data)
    if not values.shape == places[0].shape == places[1].shape:
        raise ShapeError(
            f"{here()}: values of shape {values.shape}, rows of {places[0].shape}, columns of {places[1].shape}: "
            "there must be one of each for every entry"
        )
    return SparseMatrix(values, Structure(places[0], places[1], size))


def _shape(shape: Sequence[int]) -> tuple[int, int]:
    try:
        m, n = map(operator.index, shape)
    except (TypeError, ValueError):
        m = n = -1
    if m < 0 or n < 0:
        raise ShapeError(f"{here()}: the shape of a sparse matrix is two extents, got {shape!r:.60}")
    return m, n


def _whole(given: Any, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(given, Node):
        raise TraceError(
            f"{here()}: {name} of a sparse matrix are part of the compiled function, but {describe(given)} has no "
            "values while tracing: pass a NumPy array that is no argument"
        )
    found = np.asarray(given)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise DTypeError(f"{here()}: {name} of a sparse matrix are integers along one axis, got {given!r:.60}")
    return found.astype(np.int64)


# -- products ----------------------------------------------------------------------------------------------------------


def multiplied(left: Any, right: Any) -> Any:
    """A sparse matrix times a vector or a matrix."""
    matrix = from_scipy(left)
    if is_sparse(right):
        raise TypeError(
            f"{here()}: a product of two sparse matrices, one of them traced, is not supported: multiply by a vector "
            "or a dense matrix, A @ (B @ x), or let SciPy multiply them outside"
        )
    x = as_node(right)
    if x.ndim not in (1, 2) or x.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"{here()}: matmul of a sparse matrix of shape {matrix.shape} and {describe(x)}: a vector of "
            f"{matrix.shape[1]}, or a matrix of so many rows, is multiplied"
        )
    data = as_node(matrix.data)
    dtype = promoted(data.dtype, x.dtype)
    product = sparse_product(cast(data, dtype), cast(x, dtype), matrix.structure)
    return _plain(product, matrix.data, right)


def multiplied_from_left(left: Any, right: Any) -> Any:
    """A vector or a matrix times a sparse matrix."""
    matrix = from_scipy(right).T
    x = left if isinstance(left, Node) else as_node(left)
    if x.ndim not in (1, 2) or x.shape[-1] != matrix.shape[1]:
        raise ShapeError(
            f"{here()}: matmul of {describe(x)} and a sparse matrix of shape {matrix.shape[::-1]}: a vector of "
            f"{matrix.shape[1]}, or a matrix of so many columns, is multiplied"
        )
    if x.ndim == 1:
        return multiplied(matrix, left)
    return multiplied(matrix, left.T if isinstance(left, Node) else np.asarray(left).T).T


def _plain(result: Node, *given: Any) -> Any:
    """The node inside a trace, the value outside."""
    return result if any(isinstance(g, Node) for g in given) else interpret([result], {})[0]
