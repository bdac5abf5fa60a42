"""Abstract values: what is known of an array before it exists, its shape and dtype.

Enters: shapes and dtypes in any NumPy spelling.  Leaves: `Aval`.  Invariant: the dtype is one that gradc computes with,
in native byte order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gradc.errors import DTypeError, ShapeError

Shape = tuple[int, ...]
#: Sizes and offsets in bytes of larger arrays would not fit into 64 bits.
MOST_ELEMENTS = 2**59
DTypeLike = Any

SUPPORTED = frozenset(
    np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
    )
)  # fmt: skip
#: NumPy's own instances of these, which live as long as NumPy
_CANONICAL = {id(np.dtype(dtype.type)) for dtype in SUPPORTED}


@dataclass(frozen=True, slots=True)
class Aval:
    """Shape and dtype of an array; ``weak`` marks a Python scalar, whose dtype yields to its partner's (NEP 50)."""

    shape: Shape
    dtype: np.dtype[Any]
    weak: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __post_init__(self) -> None:
        if math.prod(self.shape) > MOST_ELEMENTS:
            raise ShapeError(f"an array of shape {self.shape} has more elements than any memory can hold")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]" + ("~" if self.weak else "")


#: the Aval of a shape, a dtype and whether it is weak: one object for all nodes that are alike
interned = cache(Aval)


@dataclass(frozen=True, slots=True)
class Results(Aval):
    """What is known of the several results of one node (a loop, a branch, a call); ``item`` nodes read them."""

    parts: tuple[Aval, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Aval]) -> Results:
        return cls((), np.dtype(np.void), False, tuple(parts))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def is_float(self) -> bool:
        """Whether some result has a tangent."""
        return any(part.is_float for part in self.parts)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parts))})"


def lost_meaning(value: object) -> str | None:
    """What the class of an array means and its numbers alone do not say, in words; None for plain arrays."""
    if isinstance(value, np.ma.MaskedArray):
        return "is a masked array, and its mask would be forgotten: pass .filled(value), or the mask too"
    if isinstance(value, np.matrix):
        return "is an np.matrix, whose * is a matrix product: pass np.asarray of it and write @"
    return None


def canonical_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The supported native dtype meant by ``dtype``; raises DTypeError for one that gradc does not compute with."""
    if id(dtype) in _CANONICAL:
        return dtype
    try:
        result = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise DTypeError(f"{dtype!r} is not a dtype: {error}") from None
    if result not in SUPPORTED:
        known = ", ".join(sorted(str(d) for d in SUPPORTED))
        remedy = "cast to float32 or float64 first" if result.kind in "fc" else "use a supported dtype"
        raise DTypeError(f"dtype {result} is not supported ({known}); {remedy}")
    return np.dtype(result.type)  # NumPy's own instance: generated code compares dtypes by address


def _is_extent(size: object) -> bool:
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool) and int(size) >= 0


def spec(shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64) -> Aval:
    """Describe an array argument without making it, for `gradc.trace`, `gradc.compile` and default arguments.

    >>> spec((3, 2), "float32")
    Aval(shape=(3, 2), dtype=dtype('float32'), weak=False)
    """
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    for size in sizes:
        if not _is_extent(size):
            raise ShapeError(f"shape {shape!r}: every extent must be an integer >= 0, got {size!r}")
    return Aval(tuple(int(s) for s in sizes), canonical_dtype(dtype))


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """NumPy's broadcasting of shapes; raises ValueError where they do not fit."""
    first = shapes[0]
    if shapes.count(first) == len(shapes):
        return first
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[axis] not in (1, size):
                    raise ValueError("shapes do not broadcast")
                result[axis] = size
    return tuple(result)
