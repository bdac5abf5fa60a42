"""Multiplying out and taking out common factors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from gradc.explain.formula import (
    ONE,
    UNIT,
    Factor,
    Formula,
    Labels,
    Number,
    Product,
    Sum,
    Symbol,
    extents,
    in_place,
    magnitude,
    product,
    split,
    total,
)
from gradc.explain.identities.averages import deviations_cancel
from gradc.explain.identities.distributions import sums_to_one
from gradc.explain.matching import Names, called, factors_of, without

#: products of sums are multiplied out to see whether terms cancel only up to this many terms
MOST_TERMS = 64


def multiplied_out(x: Formula, names: Names) -> Formula | None:
    """(a + b)·c = a·c + b·c, if terms cancel so that the result is shorter."""
    terms = _expanded(x, names)
    if terms is None:
        return None
    result = total(x.shape, terms)
    inside = split(result)[1]
    left = len(inside.terms) if isinstance(inside, Sum) else 1
    return result if left < len(terms) and result.size < x.size else None


def _expanded(x: Formula, names: Names) -> list[Formula] | None:
    if isinstance(x, Sum):
        parts = [_expanded(t, names) or [t] for t in x.terms]
        terms = [t for part in parts for t in part]
        return terms if any(len(p) > 1 for p in parts) and len(terms) <= MOST_TERMS else None
    if not isinstance(x, Product):
        return None
    sums = [f for f in x.factors if isinstance(f.base, Sum) and f.exponent in (1, 2)]
    count = math.prod(len(f.base.parts) ** int(f.exponent) for f in sums)
    if not sums or count > MOST_TERMS or (x.summed and any(f.exponent != 1 for f in sums)):
        return None
    rest = without(x.factors, *sums)
    copies = [f for f in sums for _ in range(int(f.exponent))]
    choices = itertools.product(*[[Factor(t, f.labels) for t in f.base.parts] for f in copies])
    products = [product(x.shape, [*rest, *choice], x.coef) for choice in choices]
    return [_sums_taken(t, names) for p in products for t in (_expanded(p, names) or [p])]


def _sums_taken(x: Formula, names: Names) -> Formula:
    """``x`` with sums of distributions replaced by 1, and sums of deviations by 0."""
    while True:
        shorter = sums_to_one(x, names) or deviations_cancel(x, names)
        if shorter is None:
            return x
        x = shorter


def common_denominator(x: Formula, names: Names) -> Formula | None:
    """a/b + c/d = (ad + bc)/(bd), if terms cancel so that the result is shorter."""
    if not isinstance(x, Sum):
        return None
    below: dict[tuple[Formula, Labels], Number] = {}
    for t in x.terms:
        for f in factors_of(t)[1]:
            if f.exponent < 0 and all(k < x.ndim for k in f.labels):
                place = f.base, f.labels
                below[place] = min(f.exponent, below.get(place, ONE))
    if len(below) < 2:
        return None
    denominator = [Factor(base, labels, e) for (base, labels), e in below.items()]
    numerators = [Factor(base, labels, -e) for base, labels, e in denominator]
    whole = [product(x.shape, [in_place(t), *numerators]) for t in x.terms]
    shorter = multiplied_out(total(x.shape, whole), names)
    if shorter is None:
        return None
    result = product(x.shape, [in_place(shorter), *denominator])
    return result if result.size < x.size else None


def common_factor(x: Formula, names: Names) -> Formula | None:
    """a·b + a·c = a·(b + c), also where a is a matrix and the product one of matrices."""
    if not isinstance(x, Sum):
        return None
    terms = [factors_of(t) for t in x.terms]
    best: Formula = x
    for _, factors in terms[:MOST_TERMS]:
        for candidate in factors:
            found = [(coef, fs, _matching(fs, candidate, x.ndim)) for coef, fs in terms]
            shared = [(coef, fs, f) for coef, fs, f in found if f is not None and not _on_diagonal(fs, f, x.ndim)]
            if len(shared) > 1 and not _makes_means(candidate, shared, names):
                rest = [
                    t for t, (_, fs, f) in zip(x.terms, found, strict=True) if not any(fs is g for _, g, _ in shared)
                ]
                together = _factored(x, candidate, shared)
                if together is not None:
                    best = min(best, total(x.shape, [together, *rest]), key=lambda f: (f.size, _degree(f)))
    return best


def _on_diagonal(factors: Sequence[Factor], wanted: Factor, ndim: int) -> bool:
    """Whether a factor belongs to a diagonal matrix, which is read as one, or is a unit matrix among more axes."""
    if called(wanted.base, "unit"):
        return ndim > 2
    return any(called(g.base, "unit") and set(g.labels) & set(wanted.labels) - {UNIT} for g in factors)


def _degree(x: Formula) -> Number:
    """The highest power in which something stands: p(1 − p) is simpler than p − p²."""
    mine = max((magnitude(f.exponent) for f in x.factors), default=ONE) if isinstance(x, Product) else ONE
    return max([mine, *map(_degree, x.parts)])


def _makes_means(count: Factor, found: Sequence[tuple[Number, Sequence[Factor], Factor]], names: Names) -> bool:
    """Whether 1/n makes a sum over n elements in some term a mean, which is not to be torn apart."""
    size = names.extents.get(count.base.name) if isinstance(count.base, Symbol) and count.exponent < 0 else None
    return size is not None and any(_sums_over(size, factors) for _, factors, _ in found)


def _sums_over(size: int, factors: Sequence[Factor]) -> bool:
    return any(isinstance(f.base, Product) and size in f.base.summed.values() for f in factors)


def _matching(factors: Sequence[Factor], wanted: Factor, ndim: int) -> Factor | None:
    """The factor of the same base, in the same axes of the result, from which ``wanted`` can be divided."""
    sums = any(k >= ndim for k in wanted.labels)
    for f in factors:
        same = f.base == wanted.base and f.exponent * wanted.exponent > 0
        same = same and [min(k, ndim) for k in f.labels] == [min(k, ndim) for k in wanted.labels]
        if same and (not sums or f.exponent == wanted.exponent == 1):
            return f
    return None


def _factored(x: Sum, wanted: Factor, found: Sequence[tuple[Number, Sequence[Factor], Factor]]) -> Formula | None:
    """The sum of the terms (number, factors), with the factor that was found in each taken out.

    None where what is left would have more axes than the result, a matrix or the factor: no product of matrices.
    """
    exponent = min((f.exponent for *_, f in found), key=magnitude)
    inner = [k for k in dict.fromkeys(wanted.labels) if k >= x.ndim]
    sizes = extents([wanted])
    rests, used = [], set[int]()
    for coef, factors, f in found:
        free = dict(zip((k for k in f.labels if k >= x.ndim), (k for k in wanted.labels if k >= x.ndim), strict=True))
        left = [g for g in factors if g is not f]
        if f.exponent != exponent:
            left.append(Factor(f.base, f.labels, f.exponent - exponent))
        used |= {k for g in left for k in g.labels if 0 <= k < x.ndim}
        rests.append((coef, left, free))
    out = sorted(used)
    shape = (*(x.shape[k] for k in out), *(sizes[k] for k in inner))
    if len(shape) > max(2, x.ndim, wanted.base.ndim):
        return None
    terms = [_rest_term(shape, out, inner, *rest) for rest in rests]
    return product(x.shape, [Factor(wanted.base, wanted.labels, exponent), Factor(total(shape, terms), (*out, *inner))])


def _rest_term(
    shape: tuple[int, ...],
    out: list[int],
    inner: list[int],
    coef: Number,
    left: Sequence[Factor],
    free: Mapping[int, int],
) -> Formula:
    """What is left of a term, with the axes ``out`` of the result, then the labels ``inner`` of what was taken out."""
    names = {k: a for a, k in enumerate(out)} | {UNIT: UNIT}
    names |= {mine: len(out) + inner.index(theirs) for mine, theirs in free.items()}
    for g in left:
        for k in g.labels:
            names.setdefault(k, len(names) + len(shape))
    return product(shape, [Factor(g.base, tuple(names[k] for k in g.labels), g.exponent) for g in left], coef)
