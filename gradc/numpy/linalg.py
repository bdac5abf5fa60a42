"""numpy.linalg: norms, chains and powers of matrices here, systems and factorisations from `solving` and `factoring`.

Enters: arrays.  Leaves: reductions and contractions, and ops of whole matrices.  Invariant: registered under
``linalg.`` names, so that ``np.linalg.norm(x)`` works on traced values.
"""

# ruff: noqa: F403 - each module lists in `__all__` what it gives to this namespace
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.errors import MatrixShapeError, ShapeError, TraceError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy import factoring, linear, shapes, solving
from gradc.numpy.axes import axes_of
from gradc.numpy.factoring import *
from gradc.numpy.factoring import singular_values
from gradc.numpy.linear import cross, matmul, outer, tensordot, vecdot
from gradc.numpy.public import Array, ArrayLike, Axes, function, in_float32
from gradc.numpy.published import published
from gradc.numpy.reductions import kept, reduced
from gradc.numpy.shapes import matrix_transpose, moveaxis, reshaped
from gradc.numpy.solving import *
from gradc.numpy.solving import inv
from gradc.ops.elementwise import cast
from gradc.ops.reductions import kept_shape

__all__ = [
    "cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "matrix_transpose", "multi_dot", "norm", "outer",
    "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip
__all__ += factoring.__all__
__all__ += solving.__all__


@function("linalg.norm", singular="0 where the norm is 0; order 1: 0 at each 0; order inf: ties share evenly")
def norm(x: ArrayLike, ord: Any = None, axis: Axes = None, keepdims: Any = False) -> Array:
    """Norm of vectors (one axis) or matrices (two axes); None: of all elements, Euclidean.

    ``ord`` of a vector: 2, any positive number, 0 (count of non-zeros), ±inf; of a matrix: "fro", "nuc", ±1, ±2 (the
    largest and the least singular value), ±inf.  Derivative 0 where the norm is 0.
    """
    node = _floating(as_node(x))
    if axis is None and ord is None:
        return reduced("norm", node, tuple(range(node.ndim)), keepdims)
    axes = axes_of(axis, node)
    if len(axes) == 1:
        return _vector(node, axes, ord, keepdims)
    if len(axes) == 2:
        return _matrix(node, axes, ord, keepdims)
    raise ShapeError(f"{here()}: norm: ord={ord!r} is for 1 or 2 axes, got {len(axes)} of {describe(node)}; give axis")


def _floating(x: Node) -> Node:
    """``x`` in the dtype of its norms: float64 for integers and bools, as in NumPy."""
    return cast(x, x.dtype if x.aval.is_float else np.float64)


def _vector(x: Node, axes: tuple[int, ...], ord: Any, keepdims: Any) -> Node:
    if isinstance(ord, str):
        raise TraceError(f"{here()}: norm: ord={ord!r} is for matrices (two axes); {describe(x)} is taken as vectors")
    ord = 2 if ord is None else _number(ord, x)
    if ord == 2:
        return reduced("norm", x, axes, keepdims)
    magnitude = FUNCTIONS["absolute"](x)
    if math.isinf(ord):
        return _over("max" if ord > 0 else "min", magnitude, axes, keepdims)
    if ord == 0:
        return _over("sum", FUNCTIONS["astype"](x != 0, x.dtype), axes, keepdims)
    if ord == 1:
        return _over("sum", magnitude, axes, keepdims)
    return _of_order(magnitude, ord=ord, axes=axes, keepdims=keepdims)


def _number(ord: Any, x: Node) -> float:
    """An order that is a number."""
    try:
        number = float(ord)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise TraceError(
            f"{here()}: norm: ord must be a number, None or a matrix norm's name, got {ord!r:.60}; {describe(x)}"
        )
    return number


@in_float32
def _of_order(magnitude: Node, *, ord: float, axes: tuple[int, ...], keepdims: Any) -> Node:
    """(Σ|x|^p)^(1/p), and derivative 0 where that is 0.

    For p > 1 of |x|/max |x|, whose powers are never too large, nor too small where they count.
    """
    where, scale = FUNCTIONS["where"], None
    if ord > 1 and magnitude.size:
        top = FUNCTIONS["stop_gradient"](_over("max", magnitude, axes, True))
        scale = where((top > 0) & (top < math.inf), top, 1.0)
        magnitude = magnitude / scale
    total = _over("sum", magnitude**ord, axes, True)
    singular = total == (0 if ord > 0 else math.inf)
    result = where(singular, 0, where(singular, 1, total) ** (1.0 / ord))
    result = result if scale is None else result * scale
    return result if keepdims else reshaped(result, kept_shape(result.shape, axes))


def _over(name: str, x: Node, axes: tuple[int, ...], keepdims: Any) -> Node:
    return FUNCTIONS[name](x, axis=axes, keepdims=keepdims)


def _matrix(x: Node, axes: tuple[int, ...], ord: Any, keepdims: Any) -> Node:
    if ord is None or (isinstance(ord, str) and ord == "fro"):
        return reduced("norm", x, axes, keepdims)
    ord = ord if isinstance(ord, str) else _number(ord, x)
    if ord == "nuc" or ord in (2, -2):
        found = _of_singular_values(moveaxis(x, axes, (-2, -1)), ord)
        return kept(found, x.shape, axes) if keepdims else found
    if isinstance(ord, str) or ord not in (1, -1, math.inf, -math.inf):
        raise TraceError(f"{here()}: norm: ord={ord!r} of matrices; expected 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")
    row, column = axes
    summed, other = (row, column) if abs(ord) == 1 else (column, row)
    totals = _over("sum", FUNCTIONS["absolute"](x), (summed,), True)
    result = _over("max" if ord > 0 else "min", totals, (summed, other), False)
    return kept(result, x.shape, axes) if keepdims else result


def _of_singular_values(x: Node, ord: Any) -> Node:
    s = singular_values(x)
    if ord == "nuc":
        return _over("sum", s, (s.ndim - 1,), False)
    return _over("max" if ord == 2 else "min", s, (s.ndim - 1,), False)


@function("linalg.diagonal")
def diagonal(x: ArrayLike, *, offset: int = 0) -> Array:
    """The diagonals of the matrices in the last two axes."""
    return shapes.diagonal(as_node(x), offset, -2, -1)


@function("linalg.trace")
def trace(x: ArrayLike, *, offset: int = 0, dtype: Any = None) -> Array:
    """The traces of the matrices in the last two axes."""
    return linear.trace(as_node(x), offset, -2, -1, dtype)


@function("linalg.vector_norm")
def vector_norm(x: ArrayLike, *, axis: Axes = None, ord: Any = 2, keepdims: Any = False) -> Array:
    """Norm of the elements along any number of axes, as one vector."""
    node = _floating(as_node(x))
    axes = axes_of(axis, node)
    return _vector(node, axes, ord, keepdims)


@function("linalg.matrix_norm")
def matrix_norm(x: ArrayLike, *, ord: Any = "fro", keepdims: Any = False) -> Array:
    """Norm of the matrices in the last two axes; ``ord`` as in `norm`."""
    node = _floating(as_node(x))
    return _matrix(node, axes_of((-2, -1), node), ord, keepdims)


@function("linalg.multi_dot")
def multi_dot(arrays: Sequence[ArrayLike]) -> Array:
    """The product of two or more matrices (the first and last may be vectors), in the cheapest order.

    Order by dynamic programming: Cormen et al., Introduction to Algorithms, 15.2.
    """
    chain = [as_node(a) for a in arrays]
    if len(chain) < 2:
        raise ShapeError(f"{here()}: multi_dot needs at least two arrays, got {len(chain)}")
    for position, x in enumerate(chain):
        if x.ndim != 2 and not (x.ndim == 1 and position in (0, len(chain) - 1)):
            raise ShapeError(f"{here()}: multi_dot: array {position} must be a matrix, got {describe(x)}")
    return _chained(chain, _splits(_chain_sizes(chain)), 0, len(chain) - 1)


def _chain_sizes(chain: Sequence[Node]) -> list[int]:
    first, last = chain[0], chain[-1]
    rows = [x.shape[0] for x in chain[1:]]
    return [first.shape[0] if first.ndim == 2 else 1, *rows, last.shape[1] if last.ndim == 2 else 1]


def _splits(p: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split the product of matrices i … j, for each i < j."""
    n = len(p) - 1
    cost, split = {(i, i): 0 for i in range(n)}, {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = {k: cost[i, k] + cost[k + 1, j] + p[i] * p[k + 1] * p[j + 1] for k in range(i, j)}
            split[i, j] = min(options, key=options.__getitem__)
            cost[i, j] = options[split[i, j]]
    return split


def _chained(chain: Sequence[Node], split: dict[tuple[int, int], int], i: int, j: int) -> Node:
    if i == j:
        return chain[i]
    k = split[i, j]
    return matmul(_chained(chain, split, i, k), _chained(chain, split, k + 1, j))


@function("linalg.matrix_power")
def matrix_power(a: ArrayLike, n: int) -> Array:
    """The n-th power of the square matrices in the last two axes, by repeated squaring; of their inverses for n < 0."""
    x, exponent = as_node(a), static_int(n, "the power")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise MatrixShapeError(f"{here()}: matrix_power needs square matrices, got {describe(x)}")
    if exponent < 0:
        x, exponent = inv(x), -exponent
    if exponent == 0:
        eye = as_node(np.eye(x.shape[-1], dtype=x.dtype))
        return FUNCTIONS["broadcast_to"](eye, x.shape)
    result = None
    while exponent:
        exponent, bit = divmod(exponent, 2)
        if bit:
            result = x if result is None else matmul(result, x)
        x = matmul(x, x) if exponent else x
    return result


_OF_RECORDS = published("linalg")
__all__ += list(_OF_RECORDS)
globals().update(_OF_RECORDS)
