"""Small linear systems as matrices, for searches: NaN where a matrix cannot be factorised, never an error.

Enters: matrices and vectors.  Leaves: vectors.  A search that meets a singular matrix has its own remedy, or a status.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gradc.api.control import while_loop
from gradc.node import OPS, dsl
from gradc.ops.factorisations.systems import inverse, solve
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.leaves import delta


def solved(matrix: Any, right: Any) -> Any:
    """x with A x = b, by elimination."""
    return solve(matrix, right[:, None], check=False)[:, 0]


def inverted(matrix: Any) -> Any:
    """A⁻¹."""
    return inverse(matrix, check=False)


def cholesky(matrix: Any) -> Any:
    """L with L Lᵀ = A; NaN unless A is positive definite."""
    return OPS["cholesky"].make((matrix,), check=False)


def by_cholesky(lower: Any, right: Any) -> Any:
    """x with L Lᵀ x = b."""
    first = triangular_solve(lower, right[:, None], lower=True, check=False)
    return triangular_solve(lower, first, lower=True, transposed=True, check=False)[:, 0]


class _Shifted(NamedTuple):
    lower: Any
    shift: Any
    tries: Any


def positive_factor(matrix: Any) -> Any:
    """L with L Lᵀ = A + τI for the first τ = 0, β, 2β, 4β … that allows it (Nocedal and Wright, algorithm 3.3).

    β is 10⁻³ of the size of A.
    """
    unit = delta(matrix.shape, ((0, 1),), matrix.dtype)
    size = dsl.sqrt(dsl.sum(matrix * matrix))
    diagonal = dsl.sum(matrix * unit, axis=1)
    least = dsl.min(diagonal)
    first = dsl.where(least > 0, 0, 1e-3 * size - least)

    def fails(s: _Shifted) -> Any:
        return ~dsl.all(dsl.isfinite(s.lower)) & (s.tries < 60)

    def more(s: _Shifted) -> _Shifted:
        shift = dsl.maximum(2 * s.shift, 1e-3 * size)
        return _Shifted(cholesky(matrix + shift * unit), shift, s.tries + 1)

    start = _Shifted(cholesky(matrix + first * unit), first, dsl.int64(0))
    return while_loop(fails, more, start).lower
