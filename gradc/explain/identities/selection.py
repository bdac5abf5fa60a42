"""Comparisons, masks and what is chosen by them; singular points and ties."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from gradc.explain.formula import (
    UNIT,
    Apply,
    Factor,
    Formula,
    Labels,
    Product,
    Symbol,
    apply,
    is_integer,
    product,
    split,
    times,
    value_of,
)
from gradc.explain.matching import Names, called, factors_of, reduced_axes, shown_again, without

OPPOSITE = {
    "greater": "less_equal", "less": "greater_equal", "greater_equal": "less", "less_equal": "greater",
    "equal": "not_equal", "not_equal": "equal",
}  # fmt: skip


def opposite_comparison(x: Formula, names: Names) -> Formula | None:
    call = called(x, "logical_not", "bitwise_invert")
    inner = call.args[0] if call is not None else None
    if not isinstance(inner, Apply) or inner.name not in OPPOSITE:
        return None
    return apply(OPPOSITE[inner.name], inner.args, x.shape)


def singular_point(x: Formula, names: Names) -> Formula | None:
    """where(r = c, number, f) is f but where r = c (and more holds), if r = c is a singular point of f.

    What is not a number somewhere has no formula there.
    """
    call = called(x, "where")
    value = value_of(call.args[1]) if call is not None else None
    if call is None or value is None:
        return None
    live = call.args[2]
    if value != value:
        return live
    for mask in _conditions(call.args[0]):
        for r, c in (mask.args, mask.args[::-1]):
            if value_of(c) is not None and (live == r or _singular_in(live, split(r)[1])):
                return live
    return None


def singular_mask(x: Formula, names: Names) -> Formula | None:
    """1[r ≠ c]·f is f but where r = c, if r = c is a singular point of f; so is 1[not (r = c and more)]·f."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = called(f.base, "indicator")
        if call is None:
            continue
        rest = product(x.shape, without(x.factors, f), x.coef)
        unequal, excluded = _conditions(call.args[0], "not_equal"), called(call.args[0], "logical_not")
        if unequal and all(_is_singular_at(rest, mask) for mask in unequal):
            return rest
        if excluded is not None and any(_is_singular_at(rest, mask) for mask in _conditions(excluded.args[0])):
            return rest
    return None


def _is_singular_at(x: Formula, equation: Apply) -> bool:
    sides = (equation.args, equation.args[::-1])
    return any(value_of(c) is not None and _singular_in(x, split(r)[1]) for r, c in sides)


def _conditions(mask: Formula, name: str = "equal") -> list[Apply]:
    """The comparisons of that name all of which the mask asks for; none if it asks for anything else."""
    both = called(mask, "bitwise_and", "logical_and")
    if both is not None:
        parts = [_conditions(part, name) for part in both.args]
        return [comparison for part in parts for comparison in part] if all(parts) else []
    coef, factors = factors_of(mask)
    shown = factors[0].base if coef == 1 and len(factors) == 1 and factors[0].exponent == 1 else mask
    comparison = called(shown, name)  # one of fewer axes may be repeated along the others
    return [] if comparison is None else [comparison]


def _singular_in(x: Formula, r: Formula) -> bool:
    """Whether ``r`` is a divisor, the operand of a root or of a logarithm, in ``x``."""
    inside = {f.base for f in factors_of(r)[1]}
    for f in factors_of(x)[1]:
        if f.base in inside and (f.exponent < 0 or not is_integer(f.exponent)):
            return True
        if called(f.base, "log") and split(f.base.parts[0])[1] == r:
            return True
    return False


def tie_is_shared(x: Formula, names: Names) -> Formula | None:
    """where(a > b, 1, where(a < b, 0, ½))."""
    call = called(x, "where")
    if call is None or value_of(call.args[1]) != 1:
        return None
    above, tie = called(call.args[0], "greater", "less"), call.args[2]
    coef, factors = factors_of(tie)
    if above is None or coef != Fraction(1, 2) or len(factors) != 1:
        return None
    shared = called(factors[0].base, "indicator")
    reach = called(shared.args[0], OPPOSITE[_mirrored(above.name)]) if shared is not None else None
    if reach is None or restored(reach, factors[0].labels, x) != above.args:
        return None
    pair = above.args if above.name == "greater" else above.args[::-1]
    return apply("excess", pair, x.shape)


def _mirrored(name: str) -> str:
    return {"greater": "less", "less": "greater"}[name]


def restored(inner: Formula, labels: Labels, outer: Formula) -> tuple[Formula, ...]:
    """The arguments of an inner call in the axes of the outer formula."""
    return tuple(product(outer.shape, [Factor(a, labels)]) for a in inner.parts)


def selection_is_mask(x: Formula, names: Names) -> Formula | None:
    """where(m, a, 0) = a ⊙ 1[m], where(m, 0, b) = b ⊙ 1[not m]."""
    call = called(x, "where")
    if call is None:
        return None
    mask, a, b = call.args
    if value_of(b) == 0:
        return times(a, apply("indicator", (mask,), x.shape))
    if value_of(a) == 0:
        return times(b, apply("indicator", (apply("logical_not", (mask,), x.shape),), x.shape))
    return None


def mask_is_idempotent(x: Formula, names: Names) -> Formula | None:
    if not isinstance(x, Product):
        return None
    changed = [
        Factor(f.base, f.labels)
        if f.exponent > 0 and f.exponent != 1 and (called(f.base, "indicator") or names.is_onehot(f.base))
        else f
        for f in x.factors
    ]
    return product(x.shape, changed, x.coef, x.nodes)


def mask_of_nonzero(x: Formula, names: Names) -> Formula | None:
    """k·1[k ≠ 0] = k."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = called(f.base, "indicator")
        mask = called(call.args[0], "not_equal") if call is not None else None
        for k, zero in (mask.args, mask.args[::-1]) if mask is not None else ():
            if value_of(zero) == 0 and any(g.base == k and g.labels == f.labels and g.exponent > 0 for g in x.factors):
                return product(x.shape, without(x.factors, f), x.coef)
    return None


def positive_part(x: Formula, names: Names) -> Formula | None:
    """1[x > 0] = 1[relu(x) > 0], where relu(x) has a name and x has none."""
    call = called(x, "greater")
    if call is None or isinstance(call.args[0], Symbol) or value_of(call.args[1]) != 0:
        return None
    part = apply("relu", call.args[:1], x.shape)
    found = names.named(part)
    return None if found is part else apply("greater", (found, call.args[1]), x.shape)


def extremum_mask(x: Formula, names: Names) -> Formula | None:
    """1[a = max a] / Σ 1[a = max a] is 1 at the arg max, shared where elements tie."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        found = _attained(f.base, names) if f.exponent > 0 else None
        if found is None:
            continue
        place = {a: f.labels[a] for a in range(f.base.ndim)}
        for g in x.factors:
            if g.exponent == -1 and _counts(g, f, found, place):
                return product(x.shape, [Factor(found, f.labels), *without(x.factors, f, g)], x.coef)
    return None


def _attained(x: Formula, names: Names) -> Apply | None:
    """attains(a) where ``x`` is 1[a = max a], the maximum shown again along its axes."""
    call = called(x, "indicator")
    equal = called(call.args[0], "equal") if call is not None else None
    if equal is None:
        return None
    for a, b in (equal.args, equal.args[::-1]):
        found = shown_again(b, lambda base: called(names.meaning(base), "max", "min") is not None)
        best = names.meaning(found[0]) if found is not None else None
        if isinstance(best, Apply) and best.args[0] == a:
            attrs = {"axes": best.attrs["axes"], "of": best.name}
            result = apply("attains", (a,), a.shape, attrs, attrs_key=tuple(sorted(attrs.items())))
            assert isinstance(result, Apply)
            return result
    return None


def _counts(g: Factor, f: Factor, attains: Apply, place: Mapping[int, int]) -> bool:
    """Whether ``g`` is Σ over the reduced axes of the mask ``f``."""
    axes = reduced_axes(attains)
    kept = tuple(a for a in range(f.base.ndim) if a not in axes)
    names = {a: k for k, a in enumerate((*kept, *axes))}
    shape = tuple(f.base.shape[a] for a in kept)
    count = product(shape, [Factor(f.base, tuple(names[a] for a in range(f.base.ndim)))])
    return g.base == count and [k for k in g.labels if k != UNIT] == [place[a] for a in kept if f.base.shape[a] != 1]
