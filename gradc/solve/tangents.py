"""The linear systems of derivatives, where nobody says how they are to be solved.

Enters: a linear function of trees, and a right-hand side.  Leaves: the solution, or NaN.  Up to `DENSE` unknowns the
matrix is formed and factorised, which is exact whatever its condition; beyond it products alone are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradc import tree
from gradc.api.batched import vmap
from gradc.aval import finfo
from gradc.node import dsl
from gradc.ops.leaves import delta
from gradc.solve import krylov
from gradc.solve.dense import solved
from gradc.solve.statuses import LinearStatus
from gradc.solve.vectors import length

#: Unknowns up to which a matrix is formed: n² numbers, and n³/3 products to factorise it.
DENSE = 256


def solve_tangent(g: Callable[[Any], Any], b: Any) -> Any:
    """y with g(y) = b."""
    return _solved(g, b, krylov.generalised_minimal_residual)


def solve_symmetric_tangent(g: Callable[[Any], Any], b: Any) -> Any:
    """y with g(y) = b, for a symmetric g: the Hessian of a minimum, say, singular or indefinite by rounding alone."""
    return _solved(g, b, krylov.minimal_residual)


def _solved(g: Callable[[Any], Any], b: Any, cycle: krylov.Cycle) -> Any:
    right, unravel = tree.ravel(b)

    def on_vectors(v: Any) -> Any:
        return tree.ravel(g(unravel(v)))[0]

    if right.size <= DENSE:
        return unravel(solved(matrix_of(on_vectors, right.size, right.dtype), right))
    limit = float(finfo(right.dtype).eps) ** (2 / 3) * length(right)
    found = krylov.search(krylov.Problem(on_vectors, lambda v: v, limit, 10 * right.size), right, 0 * right, cycle)
    return unravel(dsl.where(found.status == LinearStatus.FOUND, found.x, dsl.nan))


def matrix_of(g: Callable[[Any], Any], size: int, dtype: Any) -> Any:
    """The matrix of a linear function of vectors: its columns are what it makes of the unit vectors."""
    return vmap(g, out_axes=1)(delta((size, size), ((0, 1),), dtype))
