"""Exponentials, logistic functions and the normal distribution."""

from __future__ import annotations

import math
from fractions import Fraction

from gradc.explain.formula import (
    UNIT,
    Apply,
    Factor,
    Formula,
    Labels,
    Product,
    Sum,
    apply,
    is_integer,
    negative,
    number,
    product,
    rebuilt,
    restricted,
    scaled,
    snapped,
    split,
    total,
    value_of,
    varying_axes,
)
from gradc.explain.matching import Names, called, factors_of, kept_axes, reduced_axes, shown_again, without


def logsumexp_shift(x: Formula, names: Names) -> Formula | None:
    lse = called(x, "logsumexp")
    if lse is None or not isinstance(lse.args[0], Sum):
        return None
    (z,), axes = lse.args, set(lse.attrs["axes"])
    assert isinstance(z, Sum)
    fixed = [t for t in z.terms if not varying_axes(t) & axes]
    if not fixed:
        return None
    rest = total(z.shape, [t for t in z.terms if varying_axes(t) & axes])
    outside = [restricted(t, kept_axes(lse)) for t in fixed]
    return total(x.shape, [rebuilt(lse, lambda _: rest), *outside])


def softmax_from_logsumexp(x: Formula, names: Names) -> Formula | None:
    call = called(x, "exp")
    arg = call.args[0] if call is not None else None
    if not isinstance(arg, Sum):
        return None
    for term in arg.terms:
        found = shown_again(negative(term), lambda b: called(names.meaning(b), "logsumexp") is not None)
        if found is None:
            continue
        lse = names.meaning(found[0])
        assert isinstance(lse, Apply)
        rest = total(arg.shape, [t for t in arg.terms if t is not term])
        if names.named(rest) == lse.args[0] and [k for k in found[1] if k != UNIT] == [
            a for a in kept_axes(lse) if rest.shape[a] != 1
        ]:
            return apply("softmax", lse.args, x.shape, lse.attrs, attrs_key=("axes", lse.attrs["axes"]))
    return None


def softmax_quotient(x: Formula, names: Names) -> Formula | None:
    """exp(z) / Σ exp(z), the sum taken over axes of z."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = called(names.meaning(f.base), "exp")
        if call is None or f.exponent != 1:
            continue
        for g in x.factors:
            axes = _summed_axes(names.meaning(g.base), f.base) if g.exponent == -1 else None
            kept = [k for a, k in enumerate(f.labels) if axes is not None and a not in axes and k != UNIT]
            if axes and [k for k in g.labels if k != UNIT] == kept:
                soft = apply("softmax", call.args, call.shape, {"axes": axes}, attrs_key=("axes", axes))
                return product(x.shape, [Factor(soft, f.labels), *without(x.factors, f, g)], x.coef)
    return None


def _summed_axes(x: Formula, inner: Formula) -> Labels | None:
    """The axes over which ``x`` is the sum of ``inner``."""
    coef, factors = factors_of(x)
    if coef != 1 or len(factors) != 1 or factors[0].base != inner or factors[0].exponent != 1:
        return None
    axes = tuple(a for a, k in enumerate(factors[0].labels) if k >= x.ndim)
    kept = [k for k in factors[0].labels if 0 <= k < x.ndim]
    return axes if kept == sorted(kept) else None


def softmax_shift(x: Formula, names: Names) -> Formula | None:
    call = called(x, "softmax")
    if call is None or not isinstance(call.args[0], Sum):
        return None
    z, axes = call.args[0], set(reduced_axes(call))
    varying = [t for t in z.terms if varying_axes(t) & axes]
    return rebuilt(call, lambda _: total(z.shape, varying)) if 0 < len(varying) < len(z.terms) else None


def sigmoid_of_negative(x: Formula, names: Names) -> Formula | None:
    call = called(x, "sigmoid")
    if call is None or not _leads_with_minus(call.args[0]):
        return None
    return total(x.shape, [number(1, x.shape), negative(rebuilt(call, negative))])


def _leads_with_minus(x: Formula) -> bool:
    if isinstance(x, Sum):
        return split(x.terms[0])[0] < 0
    return split(x)[0] < 0


def exp_from_expm1(x: Formula, names: Names) -> Formula | None:
    if not isinstance(x, Sum):
        return None
    ones = [t for t in x.terms if value_of(t) == 1]
    calls = [t for t in x.terms if called(t, "expm1")]
    if not ones or not calls:
        return None
    rest = [t for t in x.terms if t is not ones[0] and t is not calls[0]]
    return total(x.shape, [apply("exp", calls[0].parts, x.shape), *rest])


# -- the normal distribution -------------------------------------------------------------------------------------------


def normal_cdf(x: Formula, names: Names) -> Formula | None:
    coef, bare = split(x)
    if isinstance(bare, Sum) and len(bare.terms) == 2:
        one, other = sorted(bare.terms, key=lambda t: value_of(t) is None)
        erf = called(other, "erf")
        if value_of(one) == 1 and erf is not None:
            return scaled(2 * coef, apply("normal_cdf", (scaled(math.sqrt(2), erf.args[0]),), x.shape))
    erfc = called(bare, "erfc")
    if erfc is not None:
        return scaled(2 * coef, apply("normal_cdf", (scaled(-math.sqrt(2), erfc.args[0]),), x.shape))
    return None


def normal_pdf(x: Formula, names: Names) -> Formula | None:
    if not isinstance(x, Product):
        return None
    scale = snapped(float(x.coef) * math.sqrt(2 * math.pi))
    if isinstance(scale, float) or isinstance(x.coef, Fraction):
        return None
    for f in x.factors:
        call = called(f.base, "exp")
        root = _root_of_half_square(call.args[0]) if call is not None and f.exponent == 1 else None
        if call is not None and root is not None:
            density = Factor(apply("normal_pdf", (root,), f.base.shape), f.labels)
            return product(x.shape, [density, *without(x.factors, f)], scale)
    return None


def _root_of_half_square(x: Formula) -> Formula | None:
    """s where x = −s²/2."""
    coef, factors = factors_of(x)
    if coef != Fraction(-1, 2) or not isinstance(x, Product) or x.summed:
        return None
    if not all(is_integer(f.exponent) and f.exponent % 2 == 0 for f in factors):
        return None
    return product(x.shape, [Factor(f.base, f.labels, f.exponent / 2) for f in factors])
