"""Products of vectors and matrices, all of them contractions.

Enters: arrays whose axes fit.  Leaves: contract nodes (by way of `contraction`).  Invariant: NumPy's rules for
vectors and for broadcasting leading axes; a message shows both shapes and the axes that disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of
from gradc.numpy.einsum import as_array, contraction
from gradc.numpy.joining import stack
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.shapes import diagonal, moveaxis, ravel, reshaped, sliced
from gradc.numpy.sparse import is_sparse, multiplied, multiplied_from_left
from gradc.ops.elementwise import apply

__all__ = [
    "convolve", "cross", "dot", "inner", "kron", "matmul", "matvec", "outer", "tensordot", "trace", "vdot", "vecdot",
    "vecmat",
]  # fmt: skip

# Labels of the named axes; leading axes are numbered from the right as LEAD, LEAD + 1, …
ROW, INNER, COLUMN, LEAD = range(4)


def _lead(x: Node, core: int) -> tuple[int, ...]:
    return tuple(range(LEAD + x.ndim - core - 1, LEAD - 1, -1))


def _broadcast_contraction(
    name: str, x: Node, left: tuple[int, ...], y: Node, right: tuple[int, ...], out: tuple[int, ...]
) -> Node:
    """A product of the last axes of each operand, leading axes broadcast."""
    for node, core in ((x, left), (y, right)):
        if node.ndim < len(core):
            raise ShapeError(f"{here()}: {name} needs at least {len(core)} dimensions, got {describe(node)}")
    i, j = x.ndim - len(left) + left.index(INNER), y.ndim - len(right) + right.index(INNER)
    if x.shape[i] != y.shape[j]:  # here an axis of length 1 does not broadcast
        raise ShapeError(
            f"{here()}: {name} of shapes {x.shape} and {y.shape}: axis {i} of the first ({x.shape[i]}) and "
            f"axis {j} of the second ({y.shape[j]}) must be equal.\n  operands: {describe(x)}; {describe(y)}"
        )
    leads = _lead(x, len(left)), _lead(y, len(right))
    lead = max(leads, key=len)
    return contraction([x, y], [leads[0] + left, leads[1] + right], lead + out, name)


@function("matmul", "linalg.matmul")
def matmul(x1: ArrayLike, x2: ArrayLike) -> Array:
    """(…, m, k) @ (…, k, n) = (…, m, n); a vector is a row on the left, a column on the right, and leaves no axis."""
    if is_sparse(x1):
        return multiplied(x1, x2)
    if is_sparse(x2):
        return multiplied_from_left(x1, x2)
    x, y = as_node(x1), as_node(x2)
    for node in (x, y):
        if node.ndim == 0:
            raise ShapeError(f"{here()}: matmul does not take scalars, got {describe(node)}; use * instead")
    left = (INNER,) if x.ndim == 1 else (ROW, INNER)
    right = (INNER,) if y.ndim == 1 else (INNER, COLUMN)
    return _broadcast_contraction("matmul", x, left, y, right, left[:-1] + right[1:])


@function("matvec")
def matvec(x1: ArrayLike, x2: ArrayLike) -> Array:
    """(…, m, k) · (…, k) = (…, m)."""
    return _broadcast_contraction("matvec", as_node(x1), (ROW, INNER), as_node(x2), (INNER,), (ROW,))


@function("vecmat")
def vecmat(x1: ArrayLike, x2: ArrayLike) -> Array:
    """(…, k) · (…, k, n) = (…, n)."""
    return _broadcast_contraction("vecmat", as_node(x1), (INNER,), as_node(x2), (INNER, COLUMN), (COLUMN,))


@function("vecdot", "linalg.vecdot")
def vecdot(x1: ArrayLike, x2: ArrayLike, *, axis: int = -1) -> Array:
    """Σ x1·x2 over ``axis`` of each, other axes broadcast."""
    x, y = as_node(x1), as_node(x2)
    for node in (x, y):
        axis_of(axis, node)
    return _broadcast_contraction("vecdot", moveaxis(x, axis, -1), (INNER,), moveaxis(y, axis, -1), (INNER,), ())


@function("dot")
def dot(a: ArrayLike, b: ArrayLike) -> Array:
    """Σ over the last axis of ``a`` and the last but one of ``b`` (its only one, if a vector); scalars multiply."""
    if is_sparse(a) or is_sparse(b):
        return matmul(a, b)
    x, y = as_node(a), as_node(b)
    if x.ndim == 0 or y.ndim == 0:
        return apply(OPS["multiply"], as_array(x), as_array(y))
    return _summed_pair("dot", x, (x.ndim - 1,), y, (max(y.ndim - 2, 0),))


@function("inner")
def inner(a: ArrayLike, b: ArrayLike) -> Array:
    """Σ over the last axes of both; scalars multiply."""
    x, y = as_node(a), as_node(b)
    if x.ndim == 0 or y.ndim == 0:
        return apply(OPS["multiply"], as_array(x), as_array(y))
    return _summed_pair("inner", x, (x.ndim - 1,), y, (y.ndim - 1,))


@function("vdot")
def vdot(a: ArrayLike, b: ArrayLike) -> Array:
    """Σ a·b over all elements of both, flattened."""
    return _summed_pair("vdot", ravel(as_node(a)), (0,), ravel(as_node(b)), (0,))


@function("outer", "linalg.outer")
def outer(a: ArrayLike, b: ArrayLike) -> Array:
    """a[i]·b[j] of the flattened arrays, shape (size of a, size of b)."""
    return _summed_pair("outer", ravel(as_node(a)), (), ravel(as_node(b)), ())


@function("tensordot", "linalg.tensordot")
def tensordot(a: ArrayLike, b: ArrayLike, axes: Any = 2) -> Array:
    """Σ over the last ``axes`` axes of ``a`` and the first of ``b``, or over the pairs of ``axes = (of a, of b)``."""
    x, y = as_node(a), as_node(b)
    if isinstance(axes, (tuple, list)):
        left, right = axes_of(axes[0], x), axes_of(axes[1], y)
    else:
        n = static_int(axes, "axes")
        if not 0 <= n <= min(x.ndim, y.ndim):
            raise ShapeError(f"{here()}: tensordot over {n} axes of {describe(x)} and {describe(y)}")
        left, right = tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    return _summed_pair("tensordot", x, left, y, right)


def _summed_pair(name: str, x: Node, left: Sequence[int], y: Node, right: Sequence[int]) -> Node:
    """Σ over paired axes; the result has the other axes of ``x``, then those of ``y``."""
    if len(left) != len(right) or any(x.shape[i] != y.shape[j] for i, j in zip(left, right, strict=True)):
        raise ShapeError(
            f"{here()}: {name} of shapes {x.shape} and {y.shape}: summed axes {tuple(left)} of the first and "
            f"{tuple(right)} of the second must have equal lengths.\n  operands: {describe(x)}; {describe(y)}"
        )
    of_x = list(range(x.ndim))
    of_y = [x.ndim + j for j in range(y.ndim)]
    for i, j in zip(left, right, strict=True):
        of_y[j] = i
    out = [k for i, k in enumerate(of_x) if i not in left] + [k for j, k in enumerate(of_y) if j not in right]
    return contraction([x, y], [tuple(of_x), tuple(of_y)], tuple(out), name)


@function("trace")
def trace(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Array:
    """The sum of a diagonal of two axes; integers are summed in 64 bits."""
    return FUNCTIONS["sum"](diagonal(as_node(a), offset, axis1, axis2), -1, dtype)


@function("kron")
def kron(a: ArrayLike, b: ArrayLike) -> Array:
    """The Kronecker product: blocks a[i, j]·b."""
    x, y = as_node(a), as_node(b)
    rank = max(x.ndim, y.ndim)
    x, y = (reshaped(v, (1,) * (rank - v.ndim) + v.shape) for v in (x, y))
    product = _summed_pair("kron", x, (), y, ())
    interleaved = FUNCTIONS["transpose"](product, [k for axis in range(rank) for k in (axis, rank + axis)])
    return reshaped(interleaved, [m * n for m, n in zip(x.shape, y.shape, strict=True)])


@function("cross", "linalg.cross")
def cross(a: ArrayLike, b: ArrayLike, *, axis: int = -1) -> Array:
    """a × b of vectors of length 3 along ``axis``, other axes broadcast."""
    x, y = as_node(a), as_node(b)
    i, j = axis_of(axis, x), axis_of(axis, y)
    if x.shape[i] != 3 or y.shape[j] != 3:
        raise ShapeError(
            f"{here()}: cross needs vectors of length 3 along axis {axis}, got {describe(x)} and {describe(y)}"
        )
    (a1, a2, a3), (b1, b2, b3) = FUNCTIONS["unstack"](x, axis=i), FUNCTIONS["unstack"](y, axis=j)
    return stack([a2 * b3 - a3 * b2, a3 * b1 - a1 * b3, a1 * b2 - a2 * b1], axis)


@function("convolve")
def convolve(a: ArrayLike, v: ArrayLike, mode: str = "full") -> Array:
    """Σ a[m]·v[n − m] of two vectors; ``mode`` "full", "same" or "valid" (NumPy's meanings)."""
    x, y = (reshaped(n, (1,)) if n.ndim == 0 else n for n in (as_array(as_node(a)), as_array(as_node(v))))
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size or mode not in ("full", "same", "valid"):
        raise ShapeError(
            f"{here()}: convolve takes two non-empty vectors and full, same or valid, "
            f"got {describe(x)}, {describe(y)}, {mode!r}"
        )
    x, y = (y, x) if y.size > x.size else (x, y)
    margin = y.size - 1
    shown = FUNCTIONS["sliding_window_view"](FUNCTIONS["pad"](x, margin), y.size)
    whole = matmul(shown, FUNCTIONS["flip"](y))
    first, count = {"full": (0, whole.size), "same": (margin // 2, x.size), "valid": (margin, x.size - margin)}[mode]
    return sliced(whole, 0, range(first, first + count))
