"""SciPy's functions of matrices that are real: the exponential, and the square root of symmetric matrices.

Enters: square matrices in the last two axes.  Leaves: matrices of the same shape.
"""

from __future__ import annotations

from typing import Any

from gradc.node import OPS, Node
from gradc.numpy.matrices import matrices, turned, wide
from gradc.numpy.public import Array, ArrayLike, function

__all__ = ["expm", "sqrtm"]


@function("linalg.expm")
def expm(A: ArrayLike) -> Array:
    """The matrix exponential Σ Aᵏ/k!, by scaling and squaring (Higham 2005); right derivatives of all orders."""
    return _expm(matrices(A, "expm", square=True))


@wide
def _expm(a: Node) -> Node:
    return OPS["expm"].make((a,))


@function("linalg.sqrtm")
def sqrtm(A: ArrayLike, *, check: bool = True) -> Array:
    """The symmetric X with X² = (A + Aᵀ)/2, for symmetric A; NaN where an eigenvalue is negative, as √ of a number.

    Eigenvalues that are 0 to rounding count as 0.  Of a matrix that is not symmetric SciPy's root may be complex; this
    is the root of its symmetric part.
    """
    return _sqrtm(matrices(A, "sqrtm", square=True), check=bool(check))


@wide
def _sqrtm(a: Node, *, check: Any) -> Node:
    return OPS["sqrtm"].make(((a + turned(a)) * 0.5,), check=check)
