"""The problem: C = alpha * A·B (+ C) over a batch, with any strides.

Enters: extents, dtype, strides.  Leaves: the same problem, put in other words: transposed, with batch axes folded in.
Invariant: every form computes the same elements of C at the same addresses.  Start reading at `Gemm`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from gradc.codegen.ir import NARROW, Scalar
from gradc.errors import DTypeError

Strides = tuple[int, int]

#: What can be summed. Operands of a float32 product may also lie in memory as narrow floats.
DTYPES = (
    "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


class Half(Enum):
    """What of C may be left alone."""

    NONE = "nothing"
    UPPER = "what is below the diagonal"
    LOWER = "what is above the diagonal"

    @property
    def transposed(self) -> Half:
        return {Half.UPPER: Half.LOWER, Half.LOWER: Half.UPPER}.get(self, self)


@dataclass(frozen=True)
class Gemm:
    """C[i, j] = alpha * sum over k of A[i, k] * B[k, j], plus what C held if ``accumulate``, for every batch index.

    Strides count elements: of A along (m, k), of B along (k, n), of C along (m, n), and one per axis of ``batch`` in
    ``a_batch``, ``b_batch``, ``c_batch``.  Strides of A and B may be zero or negative; the elements of C are distinct
    and overlap neither A nor B.  ``alpha`` None means one.  Only the elements in ``half`` are wanted; others may be
    computed as well, or left alone.  Sums are of ``dtype``, and so are the elements of A and B unless ``a_dtype`` or
    ``b_dtype`` says otherwise: narrow floats, for float32.
    """

    m: int
    n: int
    k: int
    dtype: str
    a_strides: Strides
    b_strides: Strides
    c_strides: Strides
    batch: tuple[int, ...] = ()
    a_batch: tuple[int, ...] = ()
    b_batch: tuple[int, ...] = ()
    c_batch: tuple[int, ...] = ()
    accumulate: bool = False
    alpha: Scalar | None = None
    half: Half = Half.NONE
    a_dtype: str = ""
    b_dtype: str = ""

    def __post_init__(self) -> None:
        for side in ("a_dtype", "b_dtype"):
            object.__setattr__(self, side, getattr(self, side) or self.dtype)
        if {self.a_dtype, self.b_dtype} - {self.dtype} and (
            self.dtype != "float32" or {self.a_dtype, self.b_dtype} - {"float32"} - NARROW
        ):
            raise DTypeError(f"no product of {self.a_dtype} and {self.b_dtype} with sums of {self.dtype}")
        if self.dtype not in DTYPES:
            raise DTypeError(f"no matrix product of {self.dtype}; it is built for {', '.join(DTYPES)}")
        rank = len(self.batch)
        if not rank == len(self.a_batch) == len(self.b_batch) == len(self.c_batch):
            raise ValueError(f"batch has {rank} axes, its strides {self.a_batch}, {self.b_batch}, {self.c_batch}")
        if min(self.m, self.n, self.k, *self.batch, 0) < 0:
            raise ValueError(f"negative extent in m={self.m}, n={self.n}, k={self.k}, batch={self.batch}")

    @property
    def empty(self) -> bool:
        """Whether C has no elements."""
        return self.m * self.n * math.prod(self.batch) == 0

    @property
    def transposed(self) -> Gemm:
        """The same elements of C, computed as Cᵀ = BᵀAᵀ."""
        return replace(
            self, m=self.n, n=self.m,
            a_strides=self.b_strides[::-1], b_strides=self.a_strides[::-1], c_strides=self.c_strides[::-1],
            a_batch=self.b_batch, b_batch=self.a_batch, half=self.half.transposed,
            a_dtype=self.b_dtype, b_dtype=self.a_dtype,
        )  # fmt: skip

    @property
    def normal(self) -> Gemm:
        """Strides along axes of extent one are never taken: call them one, so that they count as contiguous."""

        def real(strides: Strides, extents: tuple[int, int]) -> Strides:
            first, second = (1 if extent == 1 else stride for stride, extent in zip(strides, extents, strict=True))
            return first, second

        return replace(
            self,
            a_strides=real(self.a_strides, (self.m, self.k)),
            b_strides=real(self.b_strides, (self.k, self.n)),
            c_strides=real(self.c_strides, (self.m, self.n)),
        )

    @property
    def folded(self) -> Gemm:
        """Trailing batch axes that share B and continue the rows of A and C become rows; those of extent one vanish."""
        g = self._without_unit_axes()
        while g.half is Half.NONE and g.batch and g.b_batch[-1] == 0 and g._continues_rows():
            g = replace(
                g, m=g.m * g.batch[-1],
                a_strides=(g.a_batch[-1] if g.m == 1 else g.a_strides[0], g.a_strides[1]),
                c_strides=(g.c_batch[-1] if g.m == 1 else g.c_strides[0], g.c_strides[1]),
                batch=g.batch[:-1], a_batch=g.a_batch[:-1], b_batch=g.b_batch[:-1], c_batch=g.c_batch[:-1],
            )  # fmt: skip
        return g

    def _continues_rows(self) -> bool:
        if self.m == 1:
            return True
        return self.a_batch[-1] == self.m * self.a_strides[0] and self.c_batch[-1] == self.m * self.c_strides[0]

    def _without_unit_axes(self) -> Gemm:
        kept = [axis for axis, extent in enumerate(self.batch) if extent != 1]

        def keep(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(values[axis] for axis in kept)

        return replace(
            self, batch=keep(self.batch), a_batch=keep(self.a_batch), b_batch=keep(self.b_batch),
            c_batch=keep(self.c_batch),
        )  # fmt: skip
