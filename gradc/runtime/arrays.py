"""What a compiled step takes and gives, and how a caller's object becomes a pointer it can read.

Enters: any Python object a user can pass.  Leaves: an ndarray that is C-contiguous, aligned, native-endian and of
exactly the declared shape and dtype — or an exception, before anything ran.
Invariant: no value changes on the way in: a copy changes the layout only, and a dtype is converted only from a Python
scalar that it can hold (NEP 50).  Start reading at `admit`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradc.aval import is_float, is_number
from gradc.process import cached_property
from gradc.runtime.objects import address

Array = np.ndarray[Any, Any]

#: Bound on the work NumPy may put into an exact overlap test of strided arrays; beyond it they count as overlapping.
_OVERLAP_WORK = 10_000
_SCALAR_RANK: dict[type, int] = {bool: 0, int: 1, float: 2}
_KIND_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


@dataclass(frozen=True)
class ArraySpec:
    """Shape, dtype and the user's name of one array that a compiled step reads or writes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        object.__setattr__(self, "dtype", _canonical(np.dtype(self.dtype)))

    @cached_property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def _canonical(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's own instance of a built-in dtype, so that arrays can be recognised by identity."""
    return np.dtype(dtype.type) if dtype.isnative and is_number(dtype) else dtype


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def is_ready(x: object, spec: ArraySpec) -> bool:
    """Whether the kernel can read ``x`` where it lies."""
    if type(x) is not np.ndarray or x.shape != spec.shape or x.dtype != spec.dtype:
        return False
    flags = x.flags
    return flags.c_contiguous and flags.aligned


def admit(x: object, spec: ArraySpec) -> Array | None:
    """``x`` as an array the kernel can read, copied only where its layout demands it; None if it does not fit."""
    if is_ready(x, spec):
        return x  # type: ignore[return-value]
    if type(x) in _SCALAR_RANK:
        return _from_scalar(x, spec)
    if not isinstance(x, (np.ndarray, np.generic)) or _is_masked(x):
        return None
    plain = np.asarray(x)
    if plain.shape != spec.shape or _native(plain.dtype) != spec.dtype:
        return None
    return np.require(plain, dtype=spec.dtype, requirements=("C", "A"))


def _from_scalar(x: Any, spec: ArraySpec) -> Array | None:
    """A Python scalar of the same or a lower kind; an integer out of range does not fit."""
    rank = _KIND_RANK["f"] if is_float(spec.dtype) else _KIND_RANK.get(spec.dtype.kind, -1)
    if spec.shape or _SCALAR_RANK[type(x)] > rank:
        return None
    try:
        with np.errstate(over="ignore"):
            return np.array(x, dtype=spec.dtype)
    except OverflowError:
        return None


def _is_masked(x: object) -> bool:
    """A masked array: reading its data would silently forget the mask."""
    module = sys.modules.get("numpy.ma")
    return module is not None and isinstance(x, module.MaskedArray)


def writable_defect(x: object, spec: ArraySpec) -> str | None:
    """Why the kernel cannot write straight into ``x``, in words; None if it can."""
    if type(x) is not np.ndarray:
        return f"is a {type(x).__name__}, not a plain ndarray"
    if x.shape != spec.shape or _native(x.dtype) != spec.dtype:
        return f"is {x.dtype}{list(x.shape)}, not {spec}"
    flags = x.flags
    if x.dtype != spec.dtype:
        return "is not in this machine's byte order"
    if not flags.c_contiguous:
        return "is not C-contiguous"
    if not flags.aligned:
        return "is not aligned"
    return None if flags.writeable else "is read-only"


class Span(NamedTuple):
    """The bytes of one argument: what a step reads, or (``written``) writes."""

    start: int
    stop: int
    written: bool
    array: Array
    name: str


def span(x: Array, name: str, written: bool = False) -> Span:
    if x.flags.c_contiguous:
        start = address(x)
        return Span(start, start + x.nbytes, written, x, name)
    start, stop = np.lib.array_utils.byte_bounds(x)
    return Span(start, stop, written, x, name)


def find_conflict(spans: Iterable[Span]) -> tuple[str, str] | None:
    """Names of a written array and another argument that share memory; None when all is disjoint.

    One sorted sweep over the bounds answers nearly always; only bounds that do meet are compared pair by pair, exactly.
    """
    ordered = sorted((s for s in spans if s.start < s.stop), key=lambda s: s.start)
    reach = written_reach = 0
    for s in ordered:
        if s.start < (reach if s.written else written_reach):
            return _find_pair(ordered)
        reach = max(reach, s.stop)
        written_reach = max(written_reach, s.stop) if s.written else written_reach
    return None


def _find_pair(ordered: Sequence[Span]) -> tuple[str, str] | None:
    for i, a in enumerate(ordered):
        for b in ordered[i + 1 :]:
            if b.start >= a.stop:
                break
            if (a.written or b.written) and _overlaps(a.array, b.array):
                return (a.name, b.name) if a.written else (b.name, a.name)
    return None


def _overlaps(x: Array, y: Array) -> bool:
    try:
        return bool(np.shares_memory(x, y, max_work=_OVERLAP_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def argument_names(specs: Sequence[ArraySpec], names: Sequence[str] | None) -> tuple[str, ...]:
    """A name for every argument: the given one, the spec's own, or its position."""
    given = names or [spec.name for spec in specs]
    if len(given) != len(specs):
        raise ValueError(f"{len(given)} names for {len(specs)} inputs")
    return tuple(name or f"argument {i}" for i, name in enumerate(given))
