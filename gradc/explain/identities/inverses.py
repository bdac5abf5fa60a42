"""Inverses, determinants and factors of matrices: how ops of whole matrices read, and what cancels.

Enters: nodes and formulas of their operands, or formulas.  Leaves: formulas.  A linear system is a product with an
inverse, a triangular one too; cofactors are det(A)·A⁻ᵀ, which they are of every regular matrix.
Start reading at `solved`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

from gradc.explain.formula import Apply, Factor, Formula, Product, Sum, Symbol, apply, arranged, product, value_of
from gradc.explain.identities.structure import unit_matrix
from gradc.explain.matching import Names, called, without
from gradc.node import Node

Args = Sequence[Formula]

#: products of so many summed axes at most are held against their transposes
MOST_SUMMED = 4


# -- how ops read ------------------------------------------------------------------------------------------------------


def inverse(a: Formula) -> Formula:
    """A⁻¹."""
    return apply("inv", (a,), a.shape)


def is_inverse(x: Formula) -> bool:
    return isinstance(x, Apply) and x.name == "inv"


def determinant(a: Formula) -> Formula:
    return apply("det", (a,), a.shape[:-2])


def _transposed(a: Formula) -> Formula:
    lead = tuple(range(a.ndim - 2))
    shape = (*a.shape[:-2], a.shape[-1], a.shape[-2])
    return arranged(a, (*lead, a.ndim - 1, a.ndim - 2), shape)


def solved(lifter: Any, node: Node, args: Args) -> Formula:
    """A⁻¹B, or A⁻ᵀB."""
    a, b = args
    return _applied(inverse(a), b, node.attrs["transposed"])


def _applied(a: Formula, b: Formula, transposed: bool) -> Formula:
    """A·B or Aᵀ·B, in each matrix of a stack."""
    lead, row, column, inner = tuple(range(b.ndim - 2)), b.ndim - 2, b.ndim - 1, b.ndim
    first = (*lead, inner, row) if transposed else (*lead, row, inner)
    return product(b.shape, [Factor(a, first), Factor(b, (*lead, inner, column))])


def solved_triangle(lifter: Any, node: Node, args: Args) -> Formula:
    """T⁻¹B, of the triangle that is read; a Cholesky factor is one."""
    t, b = args
    lower = node.attrs["lower"]
    factor = node.args[0]
    turns = factor.op.permutes
    origin = factor.args[0] if turns else factor
    whole = origin.op.name == "cholesky" and lower != turns and not node.attrs["unit"]
    unit = node.attrs["unit"]
    read = t if whole else apply("lower" if lower else "upper", (t,), t.shape, {"unit": unit}, (), ("unit", unit))
    return _applied(inverse(read), b, node.attrs["transposed"])


def cofactors(lifter: Any, node: Node, args: Args) -> Formula:
    """det(A)·A⁻ᵀ."""
    (a,) = args
    lead = tuple(range(a.ndim - 2))
    turned = Factor(inverse(a), (*lead, a.ndim - 1, a.ndim - 2))
    return product(a.shape, [Factor(determinant(a), lead), turned])


def plain(name: str) -> Any:
    """The op as a function of its operands alone, whatever is said of failures."""
    return lambda lifter, node, args: apply(name, args, node.shape)


#: of ops with several results: what each is called
PARTS: dict[str, tuple[str, ...]] = {
    "slogdet": ("sign_of_det", "log_of_det"),
    "eigh": ("eigenvalues", "eigenvectors"),
    "svd": ("left_vectors", "singular_values", "right_vectors"),
    "qr": ("orthogonal", "triangular"),
}


def part(node: Node, args: Args) -> Formula | None:
    """One result of a factorisation, as a function of the matrix; None of one that has no letter."""
    of, index = node.args[0], node.attrs["index"]
    names = PARTS.get(of.op.name)
    if names is None:
        return None
    if names[index] in ("eigenvalues", "singular_values"):
        return apply(names[index], args, node.shape)
    attrs = {k: v for k, v in of.attrs.items() if k != "check"}
    return apply(names[index], args, node.shape, attrs, (), tuple(sorted(attrs.items())))


# -- what cancels ------------------------------------------------------------------------------------------------------


def inverse_of_transposed(x: Formula, names: Names) -> Formula | None:
    """(Aᵀ)⁻¹ = (A⁻¹)ᵀ, (A⁻¹)⁻¹ = A."""
    call = called(x, "inv")
    if call is None:
        return None
    (a,) = call.args
    twice = called(a, "inv")
    if twice is not None:
        return twice.args[0]
    if isinstance(a, Product) and len(a.factors) == 1 and a.coef == 1 and a.ndim == 2 and not a.summed:
        base, labels, exponent = a.factors[0]
        if exponent == 1 and labels == (1, 0):
            return _transposed(inverse(base))
    return None


def inverse_of_multiple(x: Formula, names: Names) -> Formula | None:
    """(cA)⁻¹ = A⁻¹/c, c a number or one for each matrix of a stack."""
    call = called(x, "inv")
    a = call.args[0] if call is not None else None
    if not isinstance(a, Product) or len(a.factors) - (a.coef == 1) < 1 or a.summed:
        return None
    within = [f for f in a.factors if not {a.ndim - 2, a.ndim - 1}.isdisjoint(f.labels)]
    if len(within) != 1 or within[0].exponent != 1 or within[0].labels != tuple(range(a.ndim)):
        return None
    numbers = [Factor(f.base, f.labels, -f.exponent) for f in without(a.factors, within[0])]
    return product(a.shape, [*numbers, Factor(inverse(within[0].base), within[0].labels)], 1 / a.coef)


def inverse_cancels(x: Formula, names: Names) -> Formula | None:
    """A⁻¹A = I."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = called(f.base, "inv")
        if call is None or f.exponent != 1 or len(f.labels) != 2:
            continue
        for g in without(x.factors, f):
            if g.base != call.args[0] or g.exponent != 1 or len(g.labels) != 2:
                continue
            ends = _met(f.labels, g.labels)
            rest = without(without(x.factors, f), g)
            if ends is not None and not any(ends[0] in h.labels for h in rest) and ends[0] >= x.ndim:
                return product(x.shape, [Factor(unit_matrix(f.base.shape[0]), ends[1:]), *rest], x.coef)
    return None


def _met(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The label at which two matrices meet, rows with columns or columns with rows, and those that are left of both."""
    if first[1] == second[0]:
        return first[1], first[0], second[1]
    if first[0] == second[1]:
        return first[0], second[0], first[1]
    return None


def is_symmetric(a: Formula, names: Names) -> bool:
    """Whether A = Aᵀ, by what was declared or by how it is written."""
    if isinstance(a, Symbol):
        meaning = names.definitions.get(a.name)
        declared = names.has(a, "symmetric") or names.has(a, "diagonal")
        return declared or (meaning is not None and not isinstance(meaning, Symbol) and is_symmetric(meaning, names))
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        return False
    if isinstance(a, Apply):
        return a.name == "unit" or (a.name == "inv" and is_symmetric(a.args[0], names))
    if isinstance(a, Sum) and all(is_symmetric(t, names) for t in a.terms):
        return True
    return isinstance(a, Product) and _is_its_transpose(a, names)


def _is_its_transpose(a: Product, names: Names) -> bool:
    """Whether exchanging rows and columns leaves the same factors, whatever the summed axes are called."""
    summed = sorted(a.summed)
    if len(summed) > MOST_SUMMED:
        return False
    turns = {
        f.base for f in a.factors if f.base.ndim == 2 and not isinstance(f.base, Product | Sum)
        and is_symmetric(f.base, names)
    }  # fmt: skip

    def factors(place: dict[int, int]) -> Counter[Any]:
        moved = ((f.base, tuple(place.get(k, k) for k in f.labels), f.exponent) for f in a.factors)
        return Counter((b, tuple(sorted(k)) if b in turns else k, e) for b, k, e in moved)

    here = factors({})
    return any(factors({0: 1, 1: 0, **dict(zip(summed, order, strict=True))}) == here for order in permutations(summed))


def symmetric_inverse(x: Formula, names: Names) -> Formula | None:
    """A⁻ᵀ = A⁻¹, where A is symmetric."""
    if not isinstance(x, Product):
        return None
    changed = [
        Factor(f.base, _in_reading_order(f.labels, x.ndim), f.exponent)
        if f.labels != _in_reading_order(f.labels, x.ndim) and called(f.base, "inv") and f.base.ndim == 2
        and is_symmetric(f.base, names)
        else f
        for f in x.factors
    ]  # fmt: skip
    return product(x.shape, changed, x.coef, x.nodes)


def _in_reading_order(labels: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Ascending, but the columns of a result last: what stands at its right end is not transposed."""
    return tuple(sorted(labels, key=lambda k: (k == 1 and ndim == 2, k)))


def leading_vectors(x: Formula, names: Names) -> Formula | None:
    """U diag(onehot(argmax σ)) Vᵀ = u₁v₁ᵀ: what the largest singular value chooses of the vectors."""
    if not isinstance(x, Product):
        return None
    for hot in x.factors:
        chosen = called(hot.base, "attains")
        values = called(chosen.args[0], "singular_values") if chosen is not None else None
        if values is None or len(hot.labels) != 1 or hot.labels[0] < x.ndim or hot.exponent != 1:
            continue
        (a,), (s,) = values.args, hot.labels
        first = [_first(f, a, s) for f in x.factors if s in f.labels and f is not hot]
        if first and all(part is not None for part in first):
            rest = [f for f in x.factors if s not in f.labels]
            return product(x.shape, [*(part for parts in first for part in parts or ()), *rest], x.coef)
    return None


def _first(f: Factor, a: Formula, s: int) -> list[Factor] | None:
    """The first vector of what a factor holds along ``s``; nothing of 1[σ > 0]; None of anything else."""
    call = called(f.base, "left_vectors", "right_vectors", "indicator")
    if call is None or f.exponent != 1:
        return None
    if call.name == "indicator":
        positive = called(call.args[0], "greater")
        known = positive is not None and called(positive.args[0], "singular_values")
        return [] if known and positive is not None and value_of(positive.args[1]) == 0 else None
    place = 1 if call.name == "left_vectors" else 0
    if call.args[0] != a or f.base.ndim != 2 or f.labels[place] != s:
        return None
    size = f.base.shape[1 - place]
    return [Factor(apply("first_" + call.name, (a,), (size,)), (f.labels[1 - place],))]
