"""Systems of linear equations: solve and inv, written as one LU and triangular solves.

Enters: square matrices in the last two axes.  Leaves: solutions.  Invariant: A⁻¹B and A⁻ᵀC of large matrices expand to
the same ``lu`` of A, so that a function and its derivatives factorise once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import OPS, Node
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import items
from gradc.ops.factorisations.bounds import inverse_moved, solve_moved
from gradc.ops.factorisations.failures import SINGULAR, each_or_nan
from gradc.ops.factorisations.matrices import (
    batch_all,
    batch_columns,
    finite_unless_told,
    identity,
    inverted,
    must_fit,
    of_each,
    product,
    rows_at,
    square_or_failing,
    summed,
    turned,
)
from gradc.ops.factorisations.triangular import triangular_solve
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]

#: up to so many rows a system is solved in one go, side by side with others; larger ones share their LU
SMALL = 32


def is_large(a: Aval, *others: Aval) -> bool:
    return a.shape[-1] > SMALL


def solve(a: Node, b: Node, transposed: bool = False, check: bool = True) -> Node:
    """A⁻¹B, or A⁻ᵀB."""
    return OPS["solve"].make((a, b), transposed=transposed, check=check)


def inverse(a: Node, check: bool = True) -> Node:
    """A⁻¹."""
    return OPS["inv"].make((a,), check=check)


# -- solve -------------------------------------------------------------------------------------------------------------


def _infer(a: Aval, b: Aval, transposed: bool, check: bool) -> Aval:
    must_fit(a, b)
    return Aval(b.shape, b.dtype)


def _numpy(a: Array, b: Array, transposed: bool, check: bool) -> Array:
    def one(a: Array, b: Array) -> Any:
        return (np.linalg.solve(a.T if transposed else a, b),)

    (found,) = each_or_nan(one, SINGULAR, check, ((b.shape[-2:], b.dtype),), a, b)
    return found


def _jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """dX = A⁻¹(dB − dA X)."""
    (da, db), transposed = tangents, node.attrs["transposed"]
    pushed = None if da is None else -product(turned(da) if transposed else da, node)
    right = summed(db, pushed)
    return None if right is None else solve(node.args[0], right, **node.attrs)


def _transpose(ct: Node, node: Node, i: int) -> Node:
    return solve(node.args[0], ct, not node.attrs["transposed"], node.attrs["check"])


def _expand(a: Node, b: Node, transposed: bool, check: bool) -> Node:
    """P A = L U: x = U⁻¹ L⁻¹ P b, and transposed x = Pᵀ L⁻ᵀ U⁻ᵀ b."""
    packed, rows = items(OPS["lu"].make((a,), check=check))
    if transposed:
        first = triangular_solve(packed, b, lower=False, transposed=True, check=check)
        return rows_at(triangular_solve(packed, first, lower=True, transposed=True, unit=True), inverted(rows))
    first = triangular_solve(packed, rows_at(b, rows), lower=True, unit=True)
    return triangular_solve(packed, first, lower=False, check=check)


def adjugate(S: Any, a: Any) -> tuple[Any, Any]:
    """The adjugate and the determinant of one matrix of SymPy's expressions."""
    n = len(a)
    if not n:
        return np.zeros((0, 0), object), S.Integer(1)
    cofactors = np.full(a.shape, S.Integer(0), object)
    for i, j in np.ndindex(n, n):
        rest = S.Matrix(n - 1, n - 1, list(np.delete(np.delete(a, i, 0), j, 1).reshape(-1)))
        cofactors[i, j] = (-1) ** (i + j) * rest.det(method="berkowitz")
    return cofactors.T, sum(a[0, j] * cofactors[0, j] for j in range(n))


def _sympy(S: Any, a: Any, b: Any, transposed: bool, check: bool) -> Any:
    adjoint, det = adjugate(S, a.T if transposed else a)
    return adjoint @ b / det


_FLAGS = [{"transposed": t, "check": True} for t in (False, True)]
register(
    Op(
        name="solve",
        kind=Kind.WHOLE,
        infer=_infer,
        numpy=_numpy,
        sympy=of_each(_sympy),
        jvp=_jvp,
        transpose=_transpose,
        linear=(1,),
        batch=batch_columns,
        expand=_expand,
        algorithm=Algorithm.SOLVE,
        parted=is_large,
        perturbed=solve_moved,
        range=finite_unless_told,
        samples=(
            *(Sample(((3, 3), (3, 2)), flags, ("regular", "float")) for flags in _FLAGS),
            Sample(((2, 2, 2), (2, 2, 1)), _FLAGS[0], ("regular", "float")),
            Sample(((1, 1), (1, 1)), _FLAGS[1], ("regular", "float")),
            Sample(((0, 0), (0, 2)), _FLAGS[0]),
        ),
        singular="an error where A is singular",
        doc="A⁻¹B, or A⁻ᵀB, by elimination with partial pivoting.",
    )
)

# -- inverse -----------------------------------------------------------------------------------------------------------


def _inverse_numpy(a: Array, check: bool) -> Array:
    (found,) = each_or_nan(lambda x: (np.linalg.inv(x),), SINGULAR, check, ((a.shape[-2:], a.dtype),), a)
    return found


def _inverse_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """d(A⁻¹) = −A⁻¹ dA A⁻¹."""
    (da,) = tangents
    assert da is not None
    return -product(product(node, da), node)


def _inverse_expand(a: Node, check: bool) -> Node:
    return _expand(a, identity(a.shape, a.dtype), False, check)


def _inverse_sympy(S: Any, a: Any, check: bool) -> Any:
    adjoint, det = adjugate(S, a)
    return adjoint / det


register(
    Op(
        name="inv",
        kind=Kind.WHOLE,
        infer=square_or_failing,
        numpy=_inverse_numpy,
        sympy=of_each(_inverse_sympy),
        jvp=_inverse_jvp,
        batch=batch_all,
        expand=_inverse_expand,
        algorithm=Algorithm.INVERSE,
        parted=is_large,
        perturbed=inverse_moved,
        range=finite_unless_told,
        samples=tuple(Sample((s,), {"check": True}, ("regular",)) for s in ((3, 3), (2, 2, 2), (1, 1), (0, 0))),
        singular="an error where A is singular",
        doc="A⁻¹, by elimination with partial pivoting.",
    )
)
