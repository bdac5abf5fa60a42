"""Deviations from a mean sum to zero."""

from __future__ import annotations

from gradc.explain.formula import Formula, Product, Sum, Symbol, arranged, number, product, rebuilt, total, value_of
from gradc.explain.matching import Names, factors_of

#: names of names that are looked through
DEPTH = 8


def deviations_cancel(x: Formula, names: Names) -> Formula | None:
    """Σ (a − mean a)·c = 0 over the axis of the mean, for c constant along it."""
    if not isinstance(x, Product):
        return None
    for k in x.summed:
        carriers = [f for f in x.factors if k in f.labels]
        if len(carriers) != 1 or carriers[0].exponent != 1 or carriers[0].labels.count(k) != 1:
            continue
        f = carriers[0]
        if _is_centred(f.base, f.labels.index(k), names):
            return number(0, x.shape)
    return None


def _is_centred(x: Formula, axis: int, names: Names) -> bool:
    """Whether ``x`` sums to zero along ``axis``: deviations from a mean, times what is constant there."""
    for _ in range(DEPTH):
        if isinstance(x, Sum):
            return _sums_to_zero(x, axis, names)
        carriers = [f for f in factors_of(names.meaning(x))[1] if axis in f.labels]
        if len(carriers) != 1 or carriers[0].exponent != 1 or carriers[0].labels.count(axis) != 1:
            return False
        if carriers[0].base is x:  # a name without a meaning
            return False
        x, axis = carriers[0].base, carriers[0].labels.index(axis)
    return False


def _sums_to_zero(x: Sum, axis: int, names: Names) -> bool:
    """Σ a − Σ (Σ a/n) = 0: every mean by its meaning, and n of them summed."""
    shape = tuple(n for a, n in enumerate(x.shape) if a != axis)
    labels = tuple(len(shape) if a == axis else a - (a > axis) for a in range(x.ndim))
    terms = [_with_counts(arranged(_spelled_out(t, names), labels, shape), names) for t in x.terms]
    return value_of(total(shape, terms)) == 0


def _spelled_out(x: Formula, names: Names) -> Formula:
    """A name that stands alone, shown again along an axis or not, by its meaning."""
    if isinstance(x, Product) and all(isinstance(f.base, Symbol) for f in x.factors):
        return rebuilt(x, names.meaning)
    return names.meaning(x)


def _with_counts(x: Formula, names: Names) -> Formula:
    """``x`` with counts that are shown by name as numbers."""
    if not isinstance(x, Product):
        return x
    sizes = [(f, names.extents.get(f.base.name)) for f in x.factors if isinstance(f.base, Symbol)]
    coef, gone = x.coef, []
    for f, size in sizes:
        if size is not None and f.exponent in (1, -1):
            coef = coef * size if f.exponent == 1 else coef / size
            gone.append(f)
    rest = [f for f in x.factors if not any(f is g for g in gone)]
    return product(x.shape, rest, coef, x.nodes)
