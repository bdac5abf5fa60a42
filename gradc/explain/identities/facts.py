"""What follows from facts that the user declared of arrays: symmetric, diagonal, positive.

What follows from one-hot is with the distributions.
"""

from __future__ import annotations

from gradc.explain.formula import (
    Apply,
    Factor,
    Formula,
    Product,
    Sum,
    is_integer,
    number,
    product,
    value_of,
)
from gradc.explain.matching import Names, called, without


def transpose_of_symmetric(x: Formula, names: Names) -> Formula | None:
    """Aᵀ = A, where A is symmetric or diagonal."""
    if not isinstance(x, Product):
        return None
    changed = [
        Factor(f.base, tuple(sorted(f.labels)), f.exponent)
        if f.base.ndim == 2 and list(f.labels) != sorted(f.labels)
        and (names.has(f.base, "symmetric") or names.has(f.base, "diagonal"))
        else f
        for f in x.factors
    ]  # fmt: skip
    return product(x.shape, changed, x.coef, x.nodes)


def unit_of_diagonal(x: Formula, names: Names) -> Formula | None:
    """I ⊙ D = D, where D is diagonal."""
    if not isinstance(x, Product):
        return None
    for unit in x.factors:
        if called(unit.base, "unit") and unit.exponent == 1:
            for f in x.factors:
                if sorted(f.labels) == sorted(unit.labels) and f.exponent > 0 and names.has(f.base, "diagonal"):
                    return product(x.shape, without(x.factors, unit), x.coef)
    return None


def sign_of_positive(x: Formula, names: Names) -> Formula | None:
    """|a| = a, relu a = a, sign a = 1, 1[a > 0] = 1, where a is positive."""
    call = called(x, "absolute", "relu", "sign", "indicator")
    if call is None:
        return None
    if call.name != "indicator":
        if not is_positive(call.args[0], names):
            return None
        return number(1, x.shape) if call.name == "sign" else call.args[0]
    mask = called(call.args[0], "greater", "greater_equal")
    if mask is None or value_of(mask.args[1]) != 0 or not is_positive(mask.args[0], names):
        return None
    return number(1, x.shape)


def root_of_power(x: Formula, names: Names) -> Formula | None:
    """(aᵏ)^r = a^(kr), where a is positive."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        inner = f.base
        if is_integer(f.exponent) or not isinstance(inner, Product) or inner.summed or inner.coef <= 0:
            continue
        if inner.factors and all(is_positive(g.base, names) for g in inner.factors):
            place = dict(enumerate(f.labels)) | {-1: -1}
            parts = [Factor(g.base, tuple(place[k] for k in g.labels), g.exponent * f.exponent) for g in inner.factors]
            outside = Factor(number(inner.coef), (), f.exponent)
            return product(x.shape, [outside, *parts, *without(x.factors, f)], x.coef)
    return None


def is_positive(x: Formula, names: Names) -> bool:
    """Whether ``x`` is > 0 by what was declared and by how it is written."""
    value = value_of(x)
    if value is not None:
        return value > 0
    if isinstance(x, Product):
        return x.coef > 0 and all(is_positive(f.base, names) for f in x.factors)
    if isinstance(x, Sum):
        return all(is_positive(t, names) for t in x.terms)
    if isinstance(x, Apply):
        return x.name in ("exp", "softplus", "sigmoid", "softmax", "normal_cdf", "normal_pdf")
    return names.has(x, "positive")
