"""One-hot rows, softmax rows and the mask of an extremum: what sums to one."""

from __future__ import annotations

import itertools

from gradc.explain.formula import (
    UNIT,
    Factor,
    Formula,
    Labels,
    Product,
    apply,
    identity,
    number,
    product,
    restricted,
    varying_axes,
)
from gradc.explain.matching import Names, called, reduced_axes, shown_again, single_base, without


def class_indicator(x: Formula, names: Names) -> Formula | None:
    """1[y = position along an axis] is the one-hot of y."""
    call = called(x, "indicator")
    equal = called(call.args[0], "equal") if call is not None else None
    if equal is None:
        return None
    for y, counted in (equal.args, equal.args[::-1]):
        found = shown_again(counted, lambda b: called(b, "iota") is not None)
        if found is None or found[1][0] == UNIT or found[1][0] in varying_axes(y):
            continue
        axis = found[1][0]
        rest = [a for a in range(x.ndim) if a != axis]
        hot = apply("onehot", (restricted(y, rest),), (*(x.shape[a] for a in rest), x.shape[axis]))
        return product(x.shape, [Factor(hot, (*rest, axis))])
    return None


def number_of_mask(x: Formula, names: Names) -> Formula | None:
    """An indicator is the number 0 or 1 already."""
    call = called(x, "real")
    inner = call.args[0] if call is not None else None
    return inner if inner is not None and called(names.meaning(single_base(inner)), "indicator", "onehot") else None


def selected_element(x: Formula, names: Names) -> Formula | None:
    """onehot ⊙ a = onehot ⊙ (Σ a ⊙ onehot): under a one-hot only the selected element counts."""
    if not isinstance(x, Product):
        return None
    for hot in x.factors:
        if hot.exponent != 1 or not names.is_onehot(hot.base):
            continue
        for f, g in itertools.permutations(x.factors, 2):
            if f.exponent == -g.exponent and f.labels == hot.labels and _selects(g, f, hot):
                return product(x.shape, without(x.factors, f, g), x.coef)
    return None


def _selects(g: Factor, f: Factor, hot: Factor) -> bool:
    """Whether ``g`` is Σ f ⊙ hot over the last axis of ``hot``."""
    rank = hot.base.ndim - 1
    row = product(
        hot.base.shape[:-1], [Factor(f.base, identity(f.base.shape)), Factor(hot.base, identity(hot.base.shape))]
    )
    return g.base == row and len(g.labels) == rank and g.labels == hot.labels[:-1]


def sums_to_one(x: Formula, names: Names) -> Formula | None:
    """Σ softmax = 1, Σ onehot = 1 and Σ of the mask of an extremum = 1, over their own axes."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        axes = (f.base.ndim - 1,) if names.is_onehot(f.base) else _distribution_axes(names.meaning(f.base))
        if axes is None or f.exponent != 1:
            continue
        alone = {f.labels[a] for a in axes}
        others = {k for g in x.factors if g is not f for k in g.labels}
        if all(k == UNIT or k >= x.ndim for k in alone) and not alone & (others - {UNIT}):
            kept = [a for a in range(f.base.ndim) if a not in axes]
            ones = Factor(number(1, tuple(f.base.shape[a] for a in kept)), tuple(f.labels[a] for a in kept))
            return product(x.shape, [ones, *without(x.factors, f)], x.coef)
    return None


def _distribution_axes(x: Formula) -> Labels | None:
    call = called(x, "softmax", "attains")
    return None if call is None else reduced_axes(call)
