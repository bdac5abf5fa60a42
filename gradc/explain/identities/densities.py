"""Sums in which the normal density occurs at several points: one point is written in terms of another."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

from gradc.explain.formula import (
    ONE,
    Apply,
    Factor,
    Formula,
    Product,
    Sum,
    Symbol,
    apply,
    in_place,
    negative,
    power,
    product,
    scaled,
    split,
    times,
    total,
    value_of,
)
from gradc.explain.identities.polynomials import multiplied_out
from gradc.explain.matching import Names, called, factors_of, without


def density_elsewhere(x: Formula, names: Names) -> Formula | None:
    """φ(w) = φ(u)·exp((u² − w²)/2), if the sum is shorter then; u and w are read by their definitions."""
    if not isinstance(x, Sum) or len(x.terms) < 2:
        return None
    terms = [_opened(t, names) for t in x.terms]
    places = [_density(t) for t in terms]
    for i, j in permutations(range(len(terms)), 2):
        here, there = places[i], places[j]
        if here is None or there is None or here.base == there.base:
            continue
        assert isinstance(here.base, Apply) and isinstance(there.base, Apply)
        moved = _moved(terms[j], there, here, _half_difference(here.base.args[0], there.base.args[0], names))
        result = total(x.shape, [*(t for k, t in enumerate(terms) if k != j), moved])
        if result.size < x.size:
            return result
    return None


def _density(x: Formula) -> Factor | None:
    """The only density of a product whose factors all lie as the product does."""
    found = [f for f in factors_of(x)[1] if called(f.base, "normal_pdf")]
    fits = len(found) == 1 and found[0].exponent == 1 and found[0].base.shape == x.shape
    return found[0] if fits and not (isinstance(x, Product) and x.summed) else None


def _opened(x: Formula, names: Names) -> Formula:
    """``x`` with the names of products that hold a density written out."""
    coef, factors = factors_of(x)
    return product(
        x.shape, [Factor(_with_density(f.base, names), f.labels, f.exponent) for f in factors], coef, x.nodes
    )


def _with_density(x: Formula, names: Names) -> Formula:
    meaning = names.meaning(x)
    return meaning if any(called(f.base, "normal_pdf") for f in factors_of(meaning)[1]) else x


def _half_difference(u: Formula, w: Formula, names: Names) -> Formula:
    """(u² − w²)/2 = (u − w)·(u + w)/2, multiplied out and with definitions put in where they cancel."""
    ways = [(a, b) for a in (u, names.meaning(u)) for b in (w, names.meaning(w))]
    a, b = min(ways, key=lambda way: total(u.shape, [way[0], negative(way[1])]).size)
    apart, together = total(u.shape, [a, negative(b)]), total(u.shape, [a, b])
    parts = together.terms if isinstance(together, Sum) else (together,)
    terms = [_defined(scaled(Fraction(1, 2), times(apart, t)), names) for t in parts]
    whole = total(u.shape, terms)
    return multiplied_out(whole, names) or whole


def _defined(x: Formula, names: Names) -> Formula:
    """``x`` with the name of a product written out, if factors cancel."""
    coef, factors = factors_of(x)
    for f in factors:
        meaning = names.meaning(f.base)
        if isinstance(f.base, Symbol) and isinstance(meaning, Product) and f.exponent == 1:
            candidate = product(x.shape, [Factor(meaning, f.labels), *without(factors, f)], coef)
            if len(factors_of(candidate)[1]) < len(factors):
                return candidate
    return x


def _moved(x: Formula, there: Factor, here: Factor, exponent: Formula) -> Formula:
    """``x`` with the density ``here``, times exp(exponent), in the place of the density ``there``."""
    coef, factors = factors_of(x)
    exponentials = [f for f in factors if called(f.base, "exp") and f.exponent == 1]
    inside = [product(x.shape, [Factor(f.base.parts[0], f.labels)]) for f in exponentials]
    rest = without(factors, there, *exponentials)
    whole = total(x.shape, [exponent, *inside])
    pieces = [_exponential(t) for t in (whole.terms if isinstance(whole, Sum) else (whole,))]
    return product(x.shape, [here, *rest, *map(in_place, pieces)], coef, x.nodes)


def _exponential(x: Formula) -> Formula:
    """exp x: a power where x is a multiple of a logarithm."""
    coef, bare = split(x)
    log = called(bare, "log")
    if log is not None:
        return power(log.args[0], coef)
    return product(x.shape, (), ONE) if value_of(x) == 0 else apply("exp", (x,), x.shape)
