"""Abstract values: what is known of an array before it exists, its shape and dtype.

Enters: shapes and dtypes in any NumPy spelling.  Leaves: `Aval`.  Invariant: the dtype is one that gradc computes with,
in native byte order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from gradc.errors import DTypeError, ShapeError

Shape = tuple[int, ...]
#: Sizes and offsets in bytes of larger arrays would not fit into 64 bits.
MOST_ELEMENTS = 2**59
DTypeLike = Any

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
#: Floats of two bytes: stored narrow, computed in float32 and rounded once per node.
NARROW = frozenset((FLOAT16, BFLOAT16))
SUPPORTED = frozenset(
    np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "bfloat16", "float32", "float64",
    )
)  # fmt: skip
#: NumPy's own instances of these, which live as long as NumPy
_CANONICAL = {id(np.dtype(dtype.type)) for dtype in SUPPORTED}


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds floating-point numbers; NumPy's kind letter says it of all but bfloat16."""
    return dtype.kind == "f" or dtype.type is BFLOAT16.type


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real numbers or truth values, of whatever width."""
    return dtype.kind in "biuf" or dtype.type is BFLOAT16.type


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a node of ``dtype`` is computed before it is rounded: float32 for narrow floats."""
    return FLOAT32 if dtype in NARROW else dtype


def converted(values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """``values`` in another dtype, as every stage means it: `ndarray.astype`, and where that leaves the result to the
    machine (a float that no integer of ``dtype`` is near) the nearest integer that there is, 0 for NaN.
    """
    array = np.asarray(values)
    if dtype.kind not in "iu" or not is_float(array.dtype):
        return array.astype(dtype)
    wide, ends = array.astype(np.float64), np.iinfo(dtype)  # float64 holds every narrower number
    above, below = wide >= 2.0 ** (ends.bits - (dtype.kind == "i")), wide <= ends.min - 1.0
    inside = np.where(above | below | np.isnan(wide), 0.0, wide).astype(dtype)
    return np.where(above, dtype.type(ends.max), np.where(below, dtype.type(ends.min), inside))


def finfo(dtype: DTypeLike) -> Any:
    """`np.finfo`, of bfloat16 too."""
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def promoted(*operands: Any) -> np.dtype[Any]:
    """`np.result_type` of dtypes, arrays and Python numbers, with bfloat16 among them.

    bfloat16 meets every other dtype as float16 does (so a Python number leaves it as it is, int16 makes float32 of it
    and int32 float64); the two together are float32.
    """
    result = np.result_type(*map(_with_float16, operands))
    if result != FLOAT16:
        return result
    kinds = {d for d in map(_dtype_of, operands) if d in NARROW}
    return FLOAT32 if len(kinds) > 1 else kinds.pop() if kinds else result


def _dtype_of(operand: Any) -> np.dtype[Any] | None:
    """The dtype of an operand of `promoted`; None for a Python number, whose dtype yields."""
    if isinstance(operand, np.dtype):
        return operand
    if isinstance(operand, (bool, int, float)) and not isinstance(operand, np.generic):
        return None
    held = getattr(operand, "dtype", None)
    return held if isinstance(held, np.dtype) else np.dtype(operand)


def _with_float16(operand: Any) -> Any:
    return FLOAT16 if _dtype_of(operand) == BFLOAT16 else operand


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
        return is_float(self.dtype)

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


def is_scipy_sparse(value: object) -> bool:
    """Whether it is a sparse matrix or array of SciPy's, which has made none while it is not loaded."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(value))


def lost_meaning(value: object) -> str | None:
    """What the class of an array means and its numbers alone do not say, in words; None for plain arrays."""
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())  # not loaded, it has made no array
    if isinstance(value, masked):
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


def is_extent(size: object) -> bool:
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool) and int(size) >= 0


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
