"""Cholesky's factor, and solving with a triangular matrix.

Enters: matrices in the last two axes.  Leaves: matrices.  Invariant: of a triangular operand, and of what Cholesky
factorises, one triangle is read, and so the derivative lives in that triangle.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import Loop, inner_leaf, item
from gradc.ops.factorisations.bounds import cholesky_moved, triangular_moved
from gradc.ops.factorisations.failures import NOT_DEFINITE, SINGULAR, each_or_nan
from gradc.ops.factorisations.matrices import (
    above,
    as_column,
    as_row,
    batch_all,
    batch_columns,
    below,
    diagonals,
    finite_unless_told,
    must_fit,
    of_each,
    product,
    square_or_failing,
    summed,
    symmetric_from_below,
    turned,
    where_all,
)
from gradc.ops.leaves import full, iota
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]

# -- Cholesky ----------------------------------------------------------------------------------------------------------


def _cholesky_numpy(a: Array, check: bool) -> Array:
    def factor(x: Array) -> Any:
        found = np.linalg.cholesky(x)
        return (found,) if np.all(np.diagonal(found) > 0) else None  # NaN passes LAPACK

    (lower,) = each_or_nan(factor, NOT_DEFINITE, check, ((a.shape[-2:], a.dtype),), a)
    return lower


def _cholesky_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """dL = L Φ(L⁻¹ dA L⁻ᵀ), Φ the lower triangle with half the diagonal (Murray 2016, arXiv:1602.07527, eq. 7)."""
    (da,) = tangents
    assert da is not None
    half = _solved(node, turned(_solved(node, symmetric_from_below(da))))
    return product(node, phi(half))


def _solved(lower: Node, b: Node) -> Node:
    return triangular_solve(lower, b, lower=True)


def phi(a: Node) -> Node:
    """The lower triangle with half of the diagonal."""
    i, j = iota(a.shape, a.ndim - 2), iota(a.shape, a.ndim - 1)
    return dsl.where(i > j, a, dsl.where(i == j, 0.5 * a, 0))


def _cholesky_expand(a: Node, check: bool) -> Node:
    """Column after column: what A − LLᵀ has left in it, over the root of its diagonal element."""
    n = a.shape[-1]
    inner, lower, k = inner_leaf(a.aval, "a"), inner_leaf(a.aval, "l"), inner_leaf(Aval((), np.dtype(np.int64)), "k")
    here = iota((n,)) == k
    unit = here.astype(a.dtype)
    left = inner @ unit - dsl.matvec(lower, unit @ lower)
    pivot = as_column(left @ unit)
    column = dsl.where(iota((n,)) >= k, left / dsl.sqrt(pivot), 0)
    body = Graph((inner, lower, k), (dsl.where(here, as_column(column), lower),))
    found = item(Loop(body, (a,), (full(a.shape, 0, a.dtype),), (iota((n,)),), n).node(), 0)
    good = dsl.all(diagonals(found) > 0, axis=-1)
    return where_all(good, found)


def _cholesky_sympy(S: Any, a: Any, check: bool) -> Any:
    """Row after row, of SymPy's expressions."""
    lower = np.full(a.shape, S.Integer(0), object)
    for i, j in zip(*np.tril_indices(len(a)), strict=True):
        left = a[i, j] - sum(lower[i, k] * lower[j, k] for k in range(j))
        lower[i, j] = S.sqrt(left) if i == j else left / lower[j, j]
    return lower


register(
    Op(
        name="cholesky",
        kind=Kind.WHOLE,
        infer=square_or_failing,
        numpy=_cholesky_numpy,
        sympy=of_each(_cholesky_sympy),
        jvp=_cholesky_jvp,
        batch=batch_all,
        expand=_cholesky_expand,
        algorithm=Algorithm.CHOLESKY,
        perturbed=cholesky_moved,
        range=finite_unless_told,
        samples=(
            Sample(((3, 3),), {"check": True}, ("definite",)),
            Sample(((1, 1),), {"check": True}, ("definite",)),
            Sample(((0, 0),), {"check": True}, ("definite",)),
        ),
        singular="in the lower triangle, which alone is read",
        doc="The lower triangular L with LLᵀ = A, of the lower triangle of A.",
    )
)

# -- triangular solve --------------------------------------------------------------------------------------------------


def triangular_solve(
    t: Node, b: Node, *, lower: bool, transposed: bool = False, unit: bool = False, check: bool = False
) -> Node:
    """T⁻¹B, or T⁻ᵀB, for the ``lower`` or upper triangle of ``t``; with ``unit`` its diagonal counts as 1."""
    return OPS["triangular_solve"].make((t, b), lower=lower, transposed=transposed, unit=unit, check=check)


def _infer(t: Aval, b: Aval, lower: bool, transposed: bool, unit: bool, check: bool) -> Aval:
    must_fit(t, b)
    return Aval(b.shape, b.dtype)


def read_part(t: Array, lower: bool, unit: bool) -> Array:
    """The triangular matrix that is read, in NumPy."""
    part = np.tril(t, -1 if unit else 0) if lower else np.triu(t, 1 if unit else 0)
    return part + np.eye(t.shape[-1], dtype=t.dtype) if unit else part


def _numpy(t: Array, b: Array, lower: bool, transposed: bool, unit: bool, check: bool) -> Array:
    def solve(t: Array, b: Array) -> Any:
        read = read_part(t, lower, unit)
        if not np.all(np.diagonal(read)):
            return None
        return (substituted(read.T if transposed else read, b, lower != transposed),)

    (found,) = each_or_nan(solve, SINGULAR, check, ((b.shape[-2:], b.dtype),), t, b)
    return found


def substituted(t: Array, b: Array, lower: bool) -> Array:
    """Row after row, from the first of a lower triangular matrix, or the last of an upper one."""
    found = np.zeros_like(b)
    order = range(len(t)) if lower else range(len(t) - 1, -1, -1)
    for k in order:
        found[k] = (b[k] - t[k] @ found) / t[k, k]
    return found


def _part(t: Node, node: Node) -> Node:
    """The tangent of the triangle that ``node`` reads."""
    unit = node.attrs["unit"]
    return below(t, -1 if unit else 0) if node.attrs["lower"] else above(t, 1 if unit else 0)


def _jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """dX = T⁻¹(dB − dT X)."""
    (t, _), (dt, db) = node.args, tangents
    pushed = None
    if dt is not None:
        part = _part(dt, node)
        pushed = -product(turned(part) if node.attrs["transposed"] else part, node)
    right = summed(db, pushed)
    return None if right is None else node.op.make((t, right), **node.attrs)


def _transpose(ct: Node, node: Node, i: int) -> Node:
    return node.op.make((node.args[0], ct), **{**node.attrs, "transposed": not node.attrs["transposed"]})


def _expand(t: Node, b: Node, lower: bool, transposed: bool, unit: bool, check: bool) -> Node:
    """Row after row: what is left of B's, over the diagonal element."""
    *lead, n, m = b.shape
    matrix, first = (turned(t) if transposed else t), lower != transposed
    row, right = inner_leaf(Aval((*lead, n), t.dtype), "t"), inner_leaf(Aval((*lead, m), b.dtype), "b")
    x, k = inner_leaf(b.aval, "x"), inner_leaf(Aval((), np.dtype(np.int64)), "k")
    here, places = iota((n,)) == k, iota((n,))
    known = dsl.where(places < k if first else places > k, row, 0)
    left = right - dsl.vecmat(known, x)
    solved = left if unit else left / as_column(row @ here.astype(t.dtype))
    body = Graph((x, row, right, k), (dsl.where(as_column(here), as_row(solved), x),))
    rows = (dsl.moveaxis(matrix, -2, 0), dsl.moveaxis(b, -2, 0), iota((n,)))
    loop = Loop(body, (), (full(b.shape, 0, b.dtype),), rows, n, reverse=not first)
    found = item(loop.node(), 0)
    return found if unit else where_all(dsl.all(diagonals(t) != 0, axis=-1), found)


def _sympy(S: Any, t: Any, b: Any, lower: bool, transposed: bool, unit: bool, check: bool) -> Any:
    read = np.array(t)
    for i, j in np.ndindex(*t.shape):
        if i == j and unit:
            read[i, j] = S.Integer(1)
        elif i != j and (i > j) != lower:
            read[i, j] = S.Integer(0)
    read = read.T if transposed else read
    found = np.full(b.shape, S.Integer(0), object)
    order = range(len(t)) if lower != transposed else range(len(t) - 1, -1, -1)
    for k in order:
        found[k] = (b[k] - sum((read[k, j] * found[j] for j in order if j != k), 0 * b[k])) / read[k, k]
    return found


def _samples() -> tuple[Sample, ...]:
    kinds = itertools.product((True, False), repeat=3)
    shapes = [((3, 3), (3, 2)), ((1, 1), (1, 3)), ((2, 3, 3), (2, 3, 1)), ((0, 0), (0, 2))]
    return tuple(
        Sample(shapes[k % len(shapes)] if k else shapes[0],
               {"lower": lower, "transposed": transposed, "unit": unit, "check": True}, ("definite", "float"))
        for k, (lower, transposed, unit) in enumerate(kinds)
    )  # fmt: skip


register(
    Op(
        name="triangular_solve",
        kind=Kind.WHOLE,
        infer=_infer,
        numpy=_numpy,
        sympy=of_each(_sympy),
        jvp=_jvp,
        transpose=_transpose,
        linear=(1,),
        batch=batch_columns,
        expand=_expand,
        algorithm=Algorithm.TRIANGULAR_SOLVE,
        perturbed=triangular_moved,
        range=finite_unless_told,
        samples=_samples(),
        singular="in the triangle that is read",
        doc="T⁻¹B or T⁻ᵀB for a lower or upper triangular T; the other triangle is not read.",
    )
)
