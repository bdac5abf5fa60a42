"""Algorithms on whole matrices that code generation knows: how the record of an op says which is its own.

Enters: nothing.  Leaves: `Algorithm`, a facet of records.
Invariant: operands and results are matrices in the last two axes (or vectors in the last one, where that is said), with
the same leading axes in front.  With the attribute ``check`` a failure is a status of the call; without, all that the
failing matrix gives is NaN.
"""

from __future__ import annotations

import enum


class Algorithm(enum.Enum):
    """What is done with each matrix."""

    CHOLESKY = "cholesky"  #: (a) → the lower factor; reads the lower triangle
    TRIANGULAR_SOLVE = "triangular solve"  #: (t, b) → t⁻¹b; attributes lower, transposed, unit
    LU = "LU"  #: (a) → L and U in one matrix, and which row of a is each of theirs, int64
    SOLVE = "solve"  #: (a, b) → a⁻¹b; attribute transposed
    QR = "QR"  #: (a) → q, r; attribute complete: q is square
    EIGH = "eigenvectors"  #: (a) → eigenvalues, ascending, and eigenvectors, of any sign; reads the lower triangle
    EIGENVALUES = "eigenvalues"  #: (a) → the values alone
    SVD = "singular vectors"  #: (a) → u, singular values, descending, vᵀ, of any sign; attribute full
    SINGULAR_VALUES = "singular values"  #: (a) → the values alone
    INVERSE = "inverse"  #: (a) → a⁻¹

    @property
    def iterates(self) -> bool:
        """Whether nobody knows beforehand how many steps it takes."""
        return self in (Algorithm.EIGH, Algorithm.EIGENVALUES, Algorithm.SVD, Algorithm.SINGULAR_VALUES)
