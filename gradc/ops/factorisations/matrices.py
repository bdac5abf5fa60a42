"""Matrices in the last two axes, leading axes in front: shape rules, batching, and the products that rules are made of.

Enters: avals and nodes.  Leaves: avals and nodes.  Invariant: every op of this folder takes leading axes itself, the
same for all its operands, so batching it is giving it one more.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.node import OPS, Node, dsl
from gradc.ops.consistent import must_be_float, refuse, same_dtype
from gradc.ops.contraction import guarded
from gradc.ops.elementwise import apply
from gradc.ops.leaves import iota
from gradc.ops.ranges import Hazard, Range

Array = np.ndarray[Any, Any]
WHOLE_NUMBER = np.dtype(np.int64)


# -- shape rules -------------------------------------------------------------------------------------------------------


def must_be_matrices(a: Aval) -> None:
    must_be_float(a)
    if a.ndim < 2:
        refuse(f"{a.shape} is no matrix")


def must_be_square(a: Aval) -> None:
    must_be_matrices(a)
    if a.shape[-1] != a.shape[-2]:
        refuse(f"the matrices of {a.shape} are not square")


def square(a: Aval) -> Aval:
    """The shape rule of what makes square matrices of such."""
    must_be_square(a)
    return Aval(a.shape, a.dtype)


def square_or_failing(a: Aval, check: bool) -> Aval:
    """The same of what may fail, which ``check`` asks to be told of."""
    return square(a)


def must_fit(a: Aval, b: Aval) -> None:
    """Square matrices ``a``, and right-hand sides ``b`` of as many rows, with the same leading axes."""
    must_be_square(a)
    must_be_matrices(b)
    same_dtype((a, b))
    if a.shape[:-1] != b.shape[:-1]:
        refuse(f"right-hand sides of {b.shape} do not fit matrices of {a.shape}")


# -- ranges ------------------------------------------------------------------------------------------------------------


def finite_unless_told(node: Node, *known: Range) -> Range:
    """What a failure is told of is finite where its operands are; without ``check`` it may be NaN."""
    told = node.attrs.get("check", True)
    return Range(hazard=max(Hazard.ARITHMETIC, *(x.hazard for x in known)) if told else Hazard.POLE)


# -- batching ----------------------------------------------------------------------------------------------------------


def batch_all(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    """One more leading axis."""
    wide = [a if has else _repeated(a, size) for a, has in zip(args, batched, strict=True)]
    return node.op.make(wide, **node.attrs)


def _repeated(a: Node, size: int) -> Node:
    return OPS["broadcast"].make((a,), shape=(size, *a.shape), axes=tuple(range(1, a.ndim + 1)))


def batch_columns(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    """Right-hand sides of one and the same matrix are more columns: it is factorised once."""
    a, b = args
    if batched[0]:
        return batch_all(node, args, batched, size)
    *lead, n, k = b.shape[1:]
    columns = dsl.reshape(dsl.moveaxis(b, 0, -1), (*lead, n, k * size))
    found = node.op.make((a, columns), **node.attrs)
    return dsl.moveaxis(dsl.reshape(found, (*lead, n, k, size)), -1, 0)


# -- products and parts ------------------------------------------------------------------------------------------------


def turned(a: Node) -> Node:
    """The transposed matrices."""
    axes = (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
    return OPS["transpose"].make((a,), axes=axes)


def product(a: Node, b: Node) -> Node:
    """The matrix product, in which a tangent that is 0 stays 0 whatever it meets."""
    lead = tuple(range(3, a.ndim + 1))
    return guarded(OPS["contract"].make((a, b), left=(*lead, 0, 1), right=(*lead, 1, 2), out=(*lead, 0, 2)))


def inner_product(a: Node, b: Node) -> Node:
    """Σ a∘b over the last two axes."""
    lead = tuple(range(2, a.ndim))
    return guarded(OPS["contract"].make((a, b), left=(*lead, 0, 1), right=(*lead, 0, 1), out=lead))


def row_and_column(shape: Shape) -> tuple[Node, Node]:
    """The indices of the last two axes."""
    return iota(shape, len(shape) - 2), iota(shape, len(shape) - 1)


def identity(shape: Shape, dtype: Any) -> Node:
    """1 on the main diagonals, else 0: computed where it is read."""
    i, j = row_and_column(shape)
    return (i == j).astype(dtype)


def below(a: Node, offset: int = 0) -> Node:
    """The lower triangle, with its diagonal (``offset`` 0) or without it (−1)."""
    i, j = row_and_column(a.shape)
    return dsl.where(i >= j if offset == 0 else i > j, a, 0)


def above(a: Node, offset: int = 0) -> Node:
    """The upper triangle, with its diagonal (``offset`` 0) or without it (1)."""
    i, j = row_and_column(a.shape)
    return dsl.where(i <= j if offset == 0 else i < j, a, 0)


def symmetric_from_below(a: Node) -> Node:
    """The symmetric matrix with the lower triangle of ``a``."""
    return below(a) + turned(below(a, -1))


def diagonals(a: Node) -> Node:
    """The main diagonals."""
    return dsl.diagonal(a, 0, -2, -1)


def as_column(x: Node) -> Node:
    return OPS["reshape"].make((x,), shape=(*x.shape, 1))


def as_row(x: Node) -> Node:
    return OPS["reshape"].make((x,), shape=(*x.shape[:-1], 1, x.shape[-1]))


def rows_at(a: Node, places: Node) -> Node:
    """Row places[i] of ``a`` as row i, in each matrix."""
    return dsl.take_along_axis(a, dsl.broadcast_to(as_column(places), (*places.shape, a.shape[-1])), -2)


def columns_at(a: Node, places: Node) -> Node:
    return dsl.take_along_axis(a, dsl.broadcast_to(as_row(places), (*a.shape[:-1], places.shape[-1])), -1)


def inverted(permutation: Node) -> Node:
    return dsl.argsort(permutation, axis=-1)


def parity(permutation: Node, dtype: Any) -> Node:
    """1 or −1: the sign of permutations along the last axis, by counting inversions."""
    first, second = as_column(permutation), as_row(permutation)
    n = permutation.shape[-1]
    shape = (*permutation.shape, n)
    i, j = row_and_column(shape)
    swapped = (i < j) & (dsl.broadcast_to(first, shape) > dsl.broadcast_to(second, shape))
    odd = dsl.sum(swapped, axis=(-2, -1)) % 2
    return 1 - 2 * odd.astype(dtype)


def where_all(good: Node, value: Node) -> Node:
    """``value`` of the matrices that are ``good``, NaN in the others."""
    lead = value.ndim - good.ndim
    shown = dsl.reshape(good, (*good.shape, *(1,) * lead))
    return dsl.where(dsl.broadcast_to(shown, value.shape), value, np.nan)


def summed(*terms: Node | None) -> Node | None:
    present = [t for t in terms if t is not None]
    total = present[0] if present else None
    for term in present[1:]:
        total = apply(OPS["add"], total, term)
    return total


# -- SymPy meanings ----------------------------------------------------------------------------------------------------


def of_each(meaning: Any) -> Any:
    """A SymPy meaning of one matrix (of each operand) as one of stacks of them."""

    @functools.wraps(meaning)
    def of_stack(S: Any, *operands: Any, **attrs: Any) -> Any:
        lead = operands[0].shape[:-2]
        if not lead:
            return meaning(S, *operands, **attrs)
        found = [meaning(S, *(x[index] for x in operands), **attrs) for index in np.ndindex(*lead)]
        if isinstance(found[0], tuple):
            return tuple(_stack(part, lead) for part in zip(*found, strict=True))
        return _stack(found, lead)

    return of_stack


def _stack(found: Sequence[Any], lead: Shape) -> Any:
    parts = [np.asarray(x, object) for x in found]
    return np.reshape(np.stack(parts), (*lead, *parts[0].shape))
