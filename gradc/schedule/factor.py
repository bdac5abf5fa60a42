"""Work on whole matrices: each matrix of a batch factorised, or solved with.

Enters: nothing; a plain immutable value.  Leaves: the same, to `gradc.codegen`.
Invariant: matrices of a batch lie one after another, each row after row, and what is done with one depends on no other.
Start reading at `Factor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradc.aval import Shape
from gradc.ops.algorithm import Algorithm
from gradc.schedule.touch import Touch, Touching

#: The most rows and columns of matrices that are done side by side, each in a lane.
MOST_ASIDE = 32
#: The same of algorithms that iterate: side by side they are Jacobi's method, which takes more operations.
MOST_ROTATED = 24
#: The most rows and columns of matrices that are done side by side even if they fill less than half of the lanes.
ALWAYS_ASIDE = 8


@dataclass(frozen=True, slots=True)
class Matrix:
    """An operand or result: the shape of one of the batch, in a slot; a result that nobody reads has slot -1."""

    slot: int
    shape: Shape
    dtype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Factor(Touching):
    """``algorithm`` on ``batch`` matrices, ``lanes`` of them side by side; 1: each by itself, its rows in the lanes.

    ``node`` is the one of which failures are told; -1: what fails is NaN.
    """

    algorithm: Algorithm
    batch: int
    sources: tuple[Matrix, ...]
    targets: tuple[Matrix, ...]
    dtype: str
    attrs: tuple[tuple[str, Any], ...]
    node: int
    lanes: int

    @property
    def touch(self) -> Touch:
        written = frozenset(t.slot for t in self.targets if t.slot >= 0)
        return Touch(frozenset(s.slot for s in self.sources), written)

    @property
    def flops(self) -> int:
        """Additions and multiplications, roughly."""
        return int(self.batch * _FLOPS[self.algorithm]([m.shape for m in (*self.sources, *self.targets)]))


def matrices_aside(algorithm: Algorithm, batch: int, shapes: Sequence[Shape], lanes: int) -> int:
    """How many matrices are worth doing side by side, if a vector has so many ``lanes``."""
    longest = max((n for shape in shapes for n in shape), default=0)
    if batch < 2 or longest > (MOST_ROTATED if algorithm.iterates else MOST_ASIDE):
        return 1
    return lanes if 2 * batch >= lanes or longest <= ALWAYS_ASIDE else 1


_FLOPS: Mapping[Algorithm, Callable[[list[Shape]], float]] = {
    Algorithm.CHOLESKY: lambda shapes: shapes[0][0] ** 3 / 3,
    Algorithm.TRIANGULAR_SOLVE: lambda shapes: shapes[0][0] ** 2 * shapes[1][1],
    Algorithm.LU: lambda shapes: min(shapes[0]) ** 2 * (max(shapes[0]) - min(shapes[0]) / 3),
    Algorithm.SOLVE: lambda shapes: shapes[0][0] ** 2 * (shapes[0][0] * 2 / 3 + 2 * shapes[1][1]),
    Algorithm.QR: lambda shapes: 2 * (shapes[0][0] + shapes[1][1]) * min(shapes[0]) * shapes[0][1],
    Algorithm.EIGH: lambda shapes: 9 * shapes[0][0] ** 3,
    Algorithm.EIGENVALUES: lambda shapes: 4 / 3 * shapes[0][0] ** 3 + 30 * shapes[0][0] ** 2,
    Algorithm.SVD: lambda shapes: 20 * shapes[0][0] * shapes[0][1] * min(shapes[0]),
    Algorithm.SINGULAR_VALUES: lambda shapes: 8 / 3 * shapes[0][0] * shapes[0][1] * min(shapes[0]),
    Algorithm.INVERSE: lambda shapes: shapes[0][0] ** 3 * 8 / 3,
}
