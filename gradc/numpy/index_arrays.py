"""Arrays of positions: grids, triangles, flat positions and coordinates, and bits packed into bytes.

Enters: static shapes, and positions that may be traced.  Leaves: integer nodes, or NumPy arrays of what is known.
Invariant: a position that NumPy refuses is an error when the graph runs, as an index out of range is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.errors import DTypeError, IndexingError, ShapeError, TraceError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axis_of, shape_of
from gradc.numpy.concrete import known
from gradc.numpy.creation import linspace
from gradc.numpy.indexing import take
from gradc.numpy.public import Array, ArrayLike, function, is_traced, static
from gradc.numpy.shapes import reshaped, sliced
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota

__all__ = [
    "diag_indices", "diag_indices_from", "geomspace", "ix_", "mask_indices", "mgrid", "ogrid", "packbits",
    "ravel_multi_index", "tril_indices_from", "triu_indices_from", "unpackbits", "unravel_index",
]  # fmt: skip

_REMEDY = "A shape must be known while tracing: add the argument to static=, or pass a Python number."
diag_indices, mask_indices = static(np.diag_indices, _REMEDY), static(np.mask_indices, _REMEDY)


# -- of shapes --------------------------------------------------------------------------------------------------------


def _square_of(name: str, arr: ArrayLike, ndim: int | None) -> Node:
    x = as_node(arr)
    if (x.ndim != ndim) if ndim else x.ndim < 2 or len(set(x.shape)) > 1:
        wanted = f"{ndim} dimensions" if ndim else "at least 2 dimensions, all of one length"
        raise ShapeError(f"{here()}: {name} needs {wanted}, got {describe(x)}")
    return x


def _lifted(arrays: Sequence[Any]) -> tuple[Node, ...]:
    return tuple(as_node(a) for a in arrays)


@function("diag_indices_from")
def diag_indices_from(arr: ArrayLike) -> tuple[Array, ...]:
    """The positions of the diagonal of an array with equal extents."""
    x = _square_of("diag_indices_from", arr, None)
    return _lifted(np.diag_indices(x.shape[0], x.ndim))


@function("tril_indices_from")
def tril_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Array, ...]:
    """The positions on and below the k-th diagonal of a matrix."""
    x = _square_of("tril_indices_from", arr, 2)
    return _lifted(np.tril_indices(x.shape[0], static_int(k, "k"), x.shape[1]))


@function("triu_indices_from")
def triu_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Array, ...]:
    """The positions on and above the k-th diagonal of a matrix."""
    x = _square_of("triu_indices_from", arr, 2)
    return _lifted(np.triu_indices(x.shape[0], static_int(k, "k"), x.shape[1]))


@function("ix_")
def ix_(*args: ArrayLike) -> tuple[Array, ...]:
    """Vectors of positions as an open mesh, one axis each; a known mask stands for the positions where it holds."""
    found = []
    for place, given in enumerate(args):
        x = as_node(given)
        if x.ndim != 1:
            raise ShapeError(f"{here()}: ix_ takes vectors, got {describe(x)}")
        if x.dtype == bool:
            if x.op.name != "constant":
                raise TraceError(
                    f"{here()}: ix_: the number of positions would depend on the values of {describe(x)}.\n"
                    "  Write  gradc.numpy.flatnonzero(mask, size=n)  for it."
                )
            x = as_node(np.flatnonzero(x.attrs["value"]))
        x = cast(x, np.int64) if not x.size else x
        found.append(reshaped(x, [x.size if k == place else 1 for k in range(len(args))]))
    return tuple(found)


class _Grid:
    """`mgrid` and `ogrid`: grids from slices; ends may be traced where the number of points is given (``0:x:5j``)."""

    def __init__(self, numpy: Any, sparse: bool):
        self._numpy, self._sparse = numpy, sparse

    def __getitem__(self, key: Any) -> Any:
        """The coordinates of the grid: one array of all, or open ones."""
        slices = key if isinstance(key, tuple) else (key,)
        if not is_traced(v for s in slices for v in (s.start, s.stop, s.step)):
            return known(self._numpy[key])
        lines = [_ramp(s) for s in slices]
        if not isinstance(key, tuple):
            return lines[0]
        dtype = FUNCTIONS["result_type"](*lines)
        mesh = FUNCTIONS["meshgrid"](*[cast(v, dtype) for v in lines], sparse=self._sparse, indexing="ij")
        return mesh if self._sparse else FUNCTIONS["stack"](mesh)

    def __repr__(self) -> str:
        return "ogrid" if self._sparse else "mgrid"


def _ramp(s: slice) -> Node:
    if isinstance(s.step, complex):
        return linspace(as_node(0 if s.start is None else s.start), as_node(s.stop), int(abs(s.step)))
    if is_traced((s.start, s.stop, s.step)):
        raise TraceError(
            f"{here()}: a grid with traced ends needs the number of its points: write  start:stop:5j,  "
            "or  start + step * np.arange(n)."
        )
    return as_node(np.arange(s.start or 0, s.stop, 1 if s.step is None else s.step))


mgrid, ogrid = _Grid(np.mgrid, False), _Grid(np.ogrid, True)


@function("geomspace")
def geomspace(
    start: ArrayLike, stop: ArrayLike, num: int = 50, endpoint: Any = True, dtype: Any = None, axis: int = 0
) -> Array:
    """``num`` numbers from ``start`` to ``stop``, each the same multiple of the one before, along a new ``axis``.

    The ends may be traced; they must have one sign and not be 0.
    """
    first, last = as_node(start), as_node(stop)
    for node in (first, last):
        if node.op.name == "constant" and (node.attrs["value"] == 0).any():
            raise ValueError(f"{here()}: geomspace: the sequence cannot include 0")
    wide = FUNCTIONS["result_type"](first, last, 1.0, np.dtype(np.float64 if dtype is None else dtype))
    first, last = FUNCTIONS["broadcast_arrays"](cast(first, wide), cast(last, wide))
    sign = FUNCTIONS["sign"](first)
    first, last = first * sign, last * sign
    count = static_int(num, "num")
    log10 = FUNCTIONS["log10"]
    found = FUNCTIONS["logspace"](log10(first), log10(last), count, endpoint, 10.0)
    ends = (1 if count > 0 else 0), (1 if count > 1 and endpoint else 0)
    parts = [first[None]] * ends[0] + [sliced(found, 0, range(ends[0], count - ends[1]))] + [last[None]] * ends[1]
    found = FUNCTIONS["concatenate"](parts) * sign
    found = FUNCTIONS["moveaxis"](found, 0, axis_of(axis, found))
    return found if dtype is None else cast(found, dtype)


# -- flat positions and coordinates -----------------------------------------------------------------------------------


def _checked(at: Node, n: int) -> Node:
    """``at``, which is an error where it is not a position below ``n`` when the graph runs."""
    beyond = FUNCTIONS["where"](at < 0, n, at)  # a negative number counts from the end of no axis here
    return take(iota((n,)), beyond)


def _position(name: str, at: Any) -> Node:
    node = as_node(at)
    if node.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: {name}: positions must be whole numbers, got {describe(node)}")
    return cast(node, np.int64)


@function("ravel_multi_index")
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Array:
    """The positions in the flattened array of ``dims`` of coordinates, one array an axis; out of range as in `take`."""
    shape = shape_of(dims)
    parts = FUNCTIONS["unstack"](multi_index) if isinstance(multi_index, (Node, np.ndarray)) else list(multi_index)
    modes = list(mode) if isinstance(mode, (tuple, list)) else [mode] * len(shape)
    if len(parts) != len(shape) or len(modes) != len(shape):
        raise ShapeError(f"{here()}: ravel_multi_index: {len(parts)} coordinates for an array of shape {shape}")
    _refuse_order("ravel_multi_index", order)
    axes = range(len(shape)) if order == "C" else range(len(shape))[::-1]
    found: Any = 0
    for k in axes:
        at, n = _position("ravel_multi_index", parts[k]), shape[k]
        if modes[k] not in ("raise", "wrap", "clip"):
            words = "mode must be 'raise', 'wrap' or 'clip'"
            raise IndexingError(f"{here()}: ravel_multi_index: {words}, got {modes[k]!r}")
        if modes[k] == "raise":
            at = _checked(at, n)
        else:
            at = at % n if modes[k] == "wrap" else FUNCTIONS["clip"](at, 0, n - 1)
        found = found * n + at
    return as_node(found)


@function("unravel_index")
def unravel_index(indices: ArrayLike, shape: Any, order: str = "C") -> tuple[Array, ...]:
    """The coordinates, one array an axis, of positions in the flattened array of ``shape``."""
    extents = shape_of(shape)
    _refuse_order("unravel_index", order)
    rest = _checked(_position("unravel_index", indices), math.prod(extents))
    found: dict[int, Node] = {}
    for k in range(len(extents))[::-1] if order == "C" else range(len(extents)):
        found[k], rest = rest % extents[k], rest // extents[k]
    return tuple(found[k] for k in range(len(extents)))


def _refuse_order(name: str, order: str) -> None:
    if order not in ("C", "F"):
        raise IndexingError(f"{here()}: {name}: order must be 'C' or 'F', got {order!r}")


# -- bits in bytes ----------------------------------------------------------------------------------------------------


def _bits(name: str, a: ArrayLike, axis: int | None, bitorder: str) -> tuple[Node, int, Any]:
    """The array, its axis, and by how much each bit of a byte is shifted."""
    x = as_node(a)
    if bitorder not in ("big", "little"):
        raise ValueError(f"{here()}: {name}: bitorder must be 'big' or 'little', got {bitorder!r}")
    shifts = np.arange(8, dtype=np.uint8)
    x, k = (reshaped(x, (x.size,)), 0) if axis is None else (x, axis_of(axis, x))
    return x, k, shifts[::-1] if bitorder == "big" else shifts


@function("packbits")
def packbits(a: ArrayLike, axis: int | None = None, bitorder: str = "big") -> Array:
    """Eight truth values along ``axis`` (None: of the flattened array) in each uint8; zeros fill up the last one."""
    x, k, shifts = _bits("packbits", a, axis, bitorder)
    if x.dtype.kind not in "iub":
        raise DTypeError(f"{here()}: packbits takes booleans or integers, got {describe(x)}")
    bits = cast(cast(x, bool), np.uint8)
    n = -(-bits.shape[k] // 8)
    widths = [(0, 8 * n - bits.shape[k]) if a == k else (0, 0) for a in range(bits.ndim)]
    bits = FUNCTIONS["pad"](bits, widths)
    bits = reshaped(bits, (*bits.shape[:k], n, 8, *bits.shape[k + 1 :]))
    shown = shifts.reshape(8, *(1,) * (bits.ndim - k - 2))
    return FUNCTIONS["sum"](FUNCTIONS["left_shift"](bits, shown), k + 1, np.uint8)


@function("unpackbits")
def unpackbits(a: ArrayLike, axis: int | None = None, count: int | None = None, bitorder: str = "big") -> Array:
    """The bits of uint8 along ``axis`` (None: of the flattened array), ``count`` of them, or all but −``count``."""
    x, k, shifts = _bits("unpackbits", a, axis, bitorder)
    if x.dtype != np.uint8:
        raise DTypeError(f"{here()}: unpackbits takes uint8, got {describe(x)}; convert with .astype('uint8')")
    rows = reshaped(x, (*x.shape[: k + 1], 1, *x.shape[k + 1 :]))
    shown = shifts.reshape(8, *(1,) * (x.ndim - k - 1))
    bits = FUNCTIONS["bitwise_and"](FUNCTIONS["right_shift"](rows, shown), np.uint8(1))
    bits = reshaped(bits, (*x.shape[:k], 8 * x.shape[k], *x.shape[k + 1 :]))
    if count is None:
        return bits
    n, wanted = bits.shape[k], static_int(count, "count")
    if wanted <= n:
        return sliced(bits, k, range(n)[:wanted])
    return FUNCTIONS["pad"](bits, [(0, wanted - n) if a == k else (0, 0) for a in range(bits.ndim)])
