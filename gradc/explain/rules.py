"""Display rewrites: general identities, each with a name, that bring a formula to the form a textbook prints.

Enters: a `Formula` in normal form.  Leaves: an equal one that is shorter or says more.  Invariant: a rule knows identities,
never a model; each is checked by evaluating both sides on random numbers.  They hold for real numbers where both sides are
defined: they are for reading, and no compiled value comes from them.  Start reading at `Simplifier`; `RULES` is the table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gradc.explain.formula import (
    ONE,
    UNIT,
    Apply,
    Factor,
    Formula,
    Labels,
    Number,
    Product,
    Sum,
    Symbol,
    apply,
    extents,
    identity,
    in_place,
    is_integer,
    negative,
    number,
    power,
    product,
    rebuilt,
    restricted,
    scaled,
    snapped,
    split,
    times,
    total,
    value_of,
    varying_axes,
)

#: products of sums are multiplied out to see whether terms cancel only up to this many terms
MOST_TERMS = 64
#: rewrites of one formula beyond this number are a cycle between rules
LIMIT = 100


@dataclass
class Names:
    """Quantities that are shown by name: what each one is, and which one a formula is."""

    definitions: dict[str, Formula]
    known: dict[Formula, Symbol]

    def define(self, symbol: Symbol, meaning: Formula) -> None:
        """``symbol`` is ``meaning`` from now on, also where it turns up in another line, shown along more axes or not."""
        self.definitions[symbol.name] = meaning
        if meaning.parts and value_of(meaning) is None:
            self.known.setdefault(_without_idle_axes(meaning), symbol)

    def forget(self, meaning: Formula) -> Symbol | None:
        """Take the name away from ``meaning``."""
        return self.known.pop(_without_idle_axes(meaning), None)

    def named(self, x: Formula) -> Formula:
        """``x`` or a multiple of it by its name, if it has one."""
        if not x.parts:
            return x
        c, bare = split(x)
        small = _without_idle_axes(x)
        inner = _without_idle_axes(bare)
        for factor, candidate in ((ONE, small), (c, inner), (-c, negative(inner))):
            symbol = self.known.get(candidate)
            if symbol is not None:
                return product(x.shape, [Factor(symbol, _same_axes(symbol, x))], factor)
        return x

    def meaning(self, x: Formula) -> Formula:
        """What a symbol stands for; any other formula itself."""
        return self.definitions.get(x.name, x) if isinstance(x, Symbol) else x


def _without_idle_axes(x: Formula) -> Formula:
    """``x`` on the axes along which it varies."""
    return restricted(x, sorted(varying_axes(x)))


def _same_axes(symbol: Symbol, x: Formula) -> Labels:
    """The axes of the symbol where the axes are along which ``x`` varies."""
    axes = iter(sorted(varying_axes(x)))
    return tuple(UNIT if n == 1 else next(axes) for n in symbol.shape)


Rewrite = Callable[[Formula, Names], Formula | None]


@dataclass(frozen=True)
class Rule:
    """A named identity."""

    name: str
    statement: str
    rewrite: Rewrite


class Simplifier:
    """Applies `RULES` from the inside out until none applies, and replaces what has a name by its name."""

    def __init__(self, names: Names, rules: Sequence[Rule] | None = None):
        self.names = names
        self.rules = RULES if rules is None else rules
        self.applied: dict[str, Rule] = {}
        self._done: dict[Formula, Formula] = {}

    def __call__(self, x: Formula) -> Formula:
        if isinstance(x, Symbol):
            return x
        known = self._done.get(x)
        if known is None:
            known = self._done[x] = self._simplified(x)
            self._done.setdefault(known, known)
        return known.including(x.nodes) if known.parts else known

    def forget(self) -> None:
        """A new name may change what is already simplified."""
        self._done.clear()

    def _simplified(self, x: Formula) -> Formula:
        x = rebuilt(x, self)
        for _ in range(LIMIT):
            changed = self._rewritten(x)
            if changed is None:
                return self.names.named(x)
            x = rebuilt(changed, self) if not isinstance(changed, Symbol) else changed
        raise AssertionError(f"display rules cycle on {x!r}")

    def _rewritten(self, x: Formula) -> Formula | None:
        for rule in self.rules:
            result = rule.rewrite(x, self.names)
            if result is not None and result != x:
                self.applied[rule.name] = rule
                return result.including(x.nodes) if result.parts else result
        return None


# -- looking at formulas -----------------------------------------------------------------------------------------------


def _call(x: Formula, *names: str) -> Apply | None:
    return x if isinstance(x, Apply) and x.name in names else None


def factors_of(x: Formula) -> tuple[Number, tuple[Factor, ...]]:
    """``x`` as a number and factors in its own axes."""
    return (x.coef, x.factors) if isinstance(x, Product) else (ONE, (in_place(x),))


def _without(factors: Iterable[Factor], *gone: Factor) -> list[Factor]:
    return [f for f in factors if not any(f is g for g in gone)]


def _kept_axes(x: Apply) -> Labels:
    """The axes of the argument that a reduction keeps."""
    return tuple(a for a in range(x.args[0].ndim) if a not in x.attrs["axes"])


def _shown(x: Formula, inner: Callable[[Formula], bool]) -> tuple[Formula, Labels] | None:
    """Of a formula that is one base shown again along more axes: the base and its labels."""
    coef, factors = factors_of(x)
    if coef != 1 or len(factors) != 1 or factors[0].exponent != 1 or not inner(factors[0].base):
        return None
    return factors[0].base, factors[0].labels


# -- exponentials ------------------------------------------------------------------------------------------------------


def logsumexp_shift(x: Formula, names: Names) -> Formula | None:
    lse = _call(x, "logsumexp")
    if lse is None or not isinstance(lse.args[0], Sum):
        return None
    (z,), axes = lse.args, set(lse.attrs["axes"])
    assert isinstance(z, Sum)
    fixed = [t for t in z.terms if not varying_axes(t) & axes]
    if not fixed:
        return None
    rest = total(z.shape, [t for t in z.terms if varying_axes(t) & axes])
    outside = [restricted(t, _kept_axes(lse)) for t in fixed]
    return total(x.shape, [rebuilt(lse, lambda _: rest), *outside])


def softmax_from_logsumexp(x: Formula, names: Names) -> Formula | None:
    if _call(x, "exp") is None or not isinstance(x.parts[0], Sum):
        return None
    (arg,) = x.parts
    for term in arg.terms:
        found = _shown(negative(term), lambda b: _call(names.meaning(b), "logsumexp") is not None)
        if found is None:
            continue
        lse = names.meaning(found[0])
        assert isinstance(lse, Apply)
        rest = total(arg.shape, [t for t in arg.terms if t is not term])
        if names.named(rest) == lse.args[0] and [k for k in found[1] if k != UNIT] == [
            a for a in _kept_axes(lse) if rest.shape[a] != 1
        ]:
            return apply("softmax", lse.args, x.shape, lse.attrs, attrs_key=("axes", lse.attrs["axes"]))
    return None


def softmax_quotient(x: Formula, names: Names) -> Formula | None:
    """exp(z) / Σ exp(z), the sum taken over axes of z."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = _call(names.meaning(f.base), "exp")
        if call is None or f.exponent != 1:
            continue
        for g in x.factors:
            axes = _summed_axes(names.meaning(g.base), f.base) if g.exponent == -1 else None
            kept = [k for a, k in enumerate(f.labels) if axes is not None and a not in axes and k != UNIT]
            if axes and [k for k in g.labels if k != UNIT] == kept:
                soft = apply("softmax", call.args, call.shape, {"axes": axes}, attrs_key=("axes", axes))
                return product(x.shape, [Factor(soft, f.labels), *_without(x.factors, f, g)], x.coef)
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
    call = _call(x, "softmax")
    if call is None or not isinstance(call.args[0], Sum):
        return None
    z, axes = call.args[0], set(attrs_axes(call))
    varying = [t for t in z.terms if varying_axes(t) & axes]
    return rebuilt(call, lambda _: total(z.shape, varying)) if 0 < len(varying) < len(z.terms) else None


def sigmoid_of_negative(x: Formula, names: Names) -> Formula | None:
    call = _call(x, "sigmoid")
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
    calls = [t for t in x.terms if _call(t, "expm1")]
    if not ones or not calls:
        return None
    rest = [t for t in x.terms if t is not ones[0] and t is not calls[0]]
    return total(x.shape, [apply("exp", calls[0].parts, x.shape), *rest])


# -- the normal distribution -------------------------------------------------------------------------------------------


def normal_cdf(x: Formula, names: Names) -> Formula | None:
    coef, bare = split(x)
    if isinstance(bare, Sum) and len(bare.terms) == 2:
        one, other = sorted(bare.terms, key=lambda t: value_of(t) is None)
        erf = _call(other, "erf")
        if value_of(one) == 1 and erf is not None:
            return scaled(2 * coef, apply("normal_cdf", (scaled(math.sqrt(2), erf.args[0]),), x.shape))
    erfc = _call(bare, "erfc")
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
        call = _call(f.base, "exp")
        root = _root_of_half_square(call.args[0]) if call is not None and f.exponent == 1 else None
        if call is not None and root is not None:
            density = Factor(apply("normal_pdf", (root,), f.base.shape), f.labels)
            return product(x.shape, [density, *_without(x.factors, f)], scale)
    return None


def _root_of_half_square(x: Formula) -> Formula | None:
    """s where x = −s²/2."""
    coef, factors = factors_of(x)
    if coef != Fraction(-1, 2) or not isinstance(x, Product) or x.summed:
        return None
    if not all(is_integer(f.exponent) and f.exponent % 2 == 0 for f in factors):
        return None
    return product(x.shape, [Factor(f.base, f.labels, f.exponent / 2) for f in factors])


# -- selection ---------------------------------------------------------------------------------------------------------

OPPOSITE = {
    "greater": "less_equal", "less": "greater_equal", "greater_equal": "less", "less_equal": "greater",
    "equal": "not_equal", "not_equal": "equal",
}  # fmt: skip


def opposite_comparison(x: Formula, names: Names) -> Formula | None:
    call = _call(x, "logical_not", "bitwise_invert")
    inner = call.args[0] if call is not None else None
    if not isinstance(inner, Apply) or inner.name not in OPPOSITE:
        return None
    return apply(OPPOSITE[inner.name], inner.args, x.shape)


def singular_point(x: Formula, names: Names) -> Formula | None:
    """where(r = c, number, f) is f but where r = c, if r = c is a singular point of f."""
    call = _call(x, "where")
    mask = _call(call.args[0], "equal") if call is not None else None
    if call is None or mask is None or value_of(call.args[1]) is None:
        return None
    live = call.args[2]
    for r, c in (mask.args, mask.args[::-1]):
        if value_of(c) is not None and (live == r or _singular_in(live, split(r)[1])):
            return live
    return None


def _singular_in(x: Formula, r: Formula) -> bool:
    """Whether ``r`` is a divisor, the operand of a root or of a logarithm, in ``x``."""
    inside = {f.base for f in factors_of(r)[1]}
    for f in factors_of(x)[1]:
        if f.base in inside and (f.exponent < 0 or not is_integer(f.exponent)):
            return True
        if _call(f.base, "log") and split(f.base.parts[0])[1] == r:
            return True
    return False


def tie_is_shared(x: Formula, names: Names) -> Formula | None:
    """where(a > b, 1, where(a = b, ½, 0))."""
    call = _call(x, "where")
    if call is None or value_of(call.args[1]) != 1:
        return None
    above, tie = _call(call.args[0], "greater", "less"), call.args[2]
    coef, factors = factors_of(tie)
    if above is None or coef != Fraction(1, 2) or len(factors) != 1:
        return None
    equal = _call(factors[0].base, "indicator")
    if equal is None or _call(equal.args[0], "equal") is None:
        return None
    if set(restored(equal.args[0], factors[0].labels, x)) != set(above.args):
        return None
    pair = above.args if above.name == "greater" else above.args[::-1]
    return apply("excess", pair, x.shape)


def restored(inner: Formula, labels: Labels, outer: Formula) -> tuple[Formula, ...]:
    """The arguments of an inner call in the axes of the outer formula."""
    return tuple(product(outer.shape, [Factor(a, labels)]) for a in inner.parts)


def selection_is_mask(x: Formula, names: Names) -> Formula | None:
    """where(m, a, 0) = a ⊙ 1[m], where(m, 0, b) = b ⊙ 1[not m]."""
    call = _call(x, "where")
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
        Factor(f.base, f.labels) if _call(f.base, "indicator", "onehot") and f.exponent > 0 else f for f in x.factors
    ]
    return product(x.shape, changed, x.coef, x.nodes)


def zeroth_power(x: Formula, names: Names) -> Formula | None:
    """x^where(k = 0, 1, k − 1) is x^(k − 1) but at k = 0."""
    call = _call(x, "power")
    if call is None:
        return None
    coef, factors = factors_of(call.args[1])
    where = _call(factors[0].base, "where") if coef == 1 and len(factors) == 1 else None
    if where is None or factors[0].exponent != 1 or value_of(where.args[1]) != 1:
        return None
    mask = _call(where.args[0], "equal")
    if mask is None or all(value_of(c) != 0 for c in mask.args):
        return None
    exponent = product(x.shape, [Factor(where.args[2], factors[0].labels)])
    return apply("power", (call.args[0], exponent), x.shape)


def mask_of_nonzero(x: Formula, names: Names) -> Formula | None:
    """k·1[k ≠ 0] = k."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        call = _call(f.base, "indicator")
        mask = _call(call.args[0], "not_equal") if call is not None else None
        for k, zero in (mask.args, mask.args[::-1]) if mask is not None else ():
            if value_of(zero) == 0 and any(g.base == k and g.labels == f.labels and g.exponent > 0 for g in x.factors):
                return product(x.shape, _without(x.factors, f), x.coef)
    return None


def positive_part(x: Formula, names: Names) -> Formula | None:
    """1[x > 0] = 1[relu(x) > 0], where relu(x) has a name and x has none."""
    call = _call(x, "greater")
    if call is None or isinstance(call.args[0], Symbol) or value_of(call.args[1]) != 0:
        return None
    found = names.known.get(apply("relu", call.args[:1], x.shape))
    return None if found is None else apply("greater", (found, call.args[1]), x.shape)


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
                return product(x.shape, [Factor(found, f.labels), *_without(x.factors, f, g)], x.coef)
    return None


def _attained(x: Formula, names: Names) -> Apply | None:
    """attains(a) where ``x`` is 1[a = max a], the maximum shown again along its axes."""
    call = _call(x, "indicator")
    equal = _call(call.args[0], "equal") if call is not None else None
    if equal is None:
        return None
    for a, b in (equal.args, equal.args[::-1]):
        found = _shown(b, lambda base: _call(names.meaning(base), "max", "min") is not None)
        best = names.meaning(found[0]) if found is not None else None
        if isinstance(best, Apply) and best.args[0] == a:
            attrs = {"axes": best.attrs["axes"], "of": best.name}
            result = apply("attains", (a,), a.shape, attrs, attrs_key=tuple(sorted(attrs.items())))
            assert isinstance(result, Apply)
            return result
    return None


def _counts(g: Factor, f: Factor, attains: Apply, place: Mapping[int, int]) -> bool:
    """Whether ``g`` is Σ over the reduced axes of the mask ``f``."""
    axes = attrs_axes(attains)
    kept = tuple(a for a in range(f.base.ndim) if a not in axes)
    names = {a: k for k, a in enumerate((*kept, *axes))}
    shape = tuple(f.base.shape[a] for a in kept)
    count = product(shape, [Factor(f.base, tuple(names[a] for a in range(f.base.ndim)))])
    return g.base == count and [k for k in g.labels if k != UNIT] == [place[a] for a in kept if f.base.shape[a] != 1]


def attrs_axes(x: Apply) -> Labels:
    axes = x.attrs["axes"]
    assert isinstance(axes, tuple)
    return axes


# -- distributions that sum to one -------------------------------------------------------------------------------------


def class_indicator(x: Formula, names: Names) -> Formula | None:
    """1[y = position along an axis] is the one-hot of y."""
    call = _call(x, "indicator")
    equal = _call(call.args[0], "equal") if call is not None else None
    if equal is None:
        return None
    for y, counted in (equal.args, equal.args[::-1]):
        found = _shown(counted, lambda b: _call(b, "iota") is not None)
        if found is None or found[1][0] == UNIT or found[1][0] in varying_axes(y):
            continue
        axis = found[1][0]
        rest = [a for a in range(x.ndim) if a != axis]
        hot = apply("onehot", (restricted(y, rest),), (*(x.shape[a] for a in rest), x.shape[axis]))
        return product(x.shape, [Factor(hot, (*rest, axis))])
    return None


def number_of_mask(x: Formula, names: Names) -> Formula | None:
    """An indicator is the number 0 or 1 already."""
    call = _call(x, "real")
    inner = call.args[0] if call is not None else None
    return inner if inner is not None and _call(names.meaning(_single_base(inner)), "indicator", "onehot") else None


def _single_base(x: Formula) -> Formula:
    coef, factors = factors_of(x)
    return factors[0].base if coef == 1 and len(factors) == 1 and factors[0].exponent == 1 else x


def selected_element(x: Formula, names: Names) -> Formula | None:
    """onehot ⊙ a = onehot ⊙ (Σ a ⊙ onehot): under a one-hot only the selected element counts."""
    if not isinstance(x, Product):
        return None
    for hot in x.factors:
        if not _call(names.meaning(hot.base), "onehot") or hot.exponent != 1:
            continue
        for f, g in itertools.permutations(x.factors, 2):
            if f.exponent == -g.exponent and f.labels == hot.labels and _selects(g, f, hot):
                return product(x.shape, _without(x.factors, f, g), x.coef)
    return None


def _selects(g: Factor, f: Factor, hot: Factor) -> bool:
    """Whether ``g`` is Σ f ⊙ hot over the last axis of ``hot``."""
    rank = hot.base.ndim - 1
    row = product(hot.base.shape[:-1], [Factor(f.base, identity_of(f.base)), Factor(hot.base, identity_of(hot.base))])
    return g.base == row and len(g.labels) == rank and g.labels == hot.labels[:-1]


def identity_of(x: Formula) -> Labels:
    return tuple(range(x.ndim))


def sums_to_one(x: Formula, names: Names) -> Formula | None:
    """Σ softmax = 1, Σ onehot = 1 and Σ of the mask of an extremum = 1, over their own axes."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        axes = _distribution_axes(names.meaning(f.base))
        if axes is None or f.exponent != 1:
            continue
        alone = {f.labels[a] for a in axes}
        others = {k for g in x.factors if g is not f for k in g.labels}
        if all(k == UNIT or k >= x.ndim for k in alone) and not alone & (others - {UNIT}):
            kept = [a for a in range(f.base.ndim) if a not in axes]
            ones = Factor(number(1, tuple(f.base.shape[a] for a in kept)), tuple(f.labels[a] for a in kept))
            return product(x.shape, [ones, *_without(x.factors, f)], x.coef)
    return None


def _distribution_axes(x: Formula) -> Labels | None:
    if _call(x, "onehot"):
        return (x.ndim - 1,)
    call = _call(x, "softmax", "attains")
    return None if call is None else attrs_axes(call)


# -- the identity matrix -------------------------------------------------------------------------------------------------


def unit_matrix(size: int) -> Formula:
    """The identity matrix: a structure, never stored."""
    return apply("unit", (), (size, size), attrs_key=(size,))


def diagonal_by_stride(x: Formula, names: Names) -> Formula | None:
    """Every (n+1)-th element of an n×n matrix in row-major order is its diagonal."""
    call = _call(x, "slice")
    flat = _call(call.args[0], "reshape") if call is not None else None
    if call is None or flat is None or flat.args[0].ndim != 2 or flat.ndim != 1:
        return None
    matrix, n = flat.args[0], flat.args[0].shape[0]
    if matrix.shape != (n, n) or call.attrs["starts"] != (0,) or call.attrs["steps"] != (n + 1,) or x.shape != (n,):
        return None
    return product(x.shape, [Factor(matrix, (0, 1)), Factor(unit_matrix(n), (0, 1))])


def diagonal_placed(x: Formula, names: Names) -> Formula | None:
    """A vector placed at every (n+1)-th element of an n×n matrix is diag(v)."""
    call = _call(x, "reshape")
    flat = _call(call.args[0], "superpose") if call is not None else None
    if flat is None or x.ndim != 2 or flat.ndim != 1 or len(flat.args) != 1:
        return None
    n = x.shape[0]
    if x.shape != (n, n) or flat.attrs["starts"] != ((0,),) or flat.attrs["steps"] != ((n + 1,),):
        return None
    return product(x.shape, [Factor(flat.args[0], (0,)), Factor(unit_matrix(n), (0, 1))])


def unit_eliminates(x: Formula, names: Names) -> Formula | None:
    """Σⱼ I[i, j] f(j) = f(i)."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        if not _call(f.base, "unit") or f.exponent != 1:
            continue
        for gone, kept in (f.labels, f.labels[::-1]):
            rest = _without(x.factors, f)
            carriers = [g for g in rest if gone in g.labels]
            if gone >= x.ndim and carriers and not any(kept in g.labels for g in carriers):
                renamed = [Factor(g.base, tuple(kept if k == gone else k for k in g.labels), g.exponent) for g in rest]
                return product(x.shape, renamed, x.coef)
    return None


def trace_of_product(x: Formula, names: Names) -> Formula | None:
    """Σ I ⊙ (AB) is written with the factors of AB."""
    if not isinstance(x, Product) or not any(_call(f.base, "unit") for f in x.factors):
        return None
    for f in x.factors:
        inner = f.base
        if isinstance(inner, Product) and inner.summed and f.exponent == 1:
            shift = 1 + max(k for g in x.factors for k in g.labels)
            name = {a: k for a, k in enumerate(f.labels)} | {k: k - inner.ndim + shift for k in inner.summed} | {UNIT: UNIT}
            inside = [Factor(g.base, tuple(name[k] for k in g.labels), g.exponent) for g in inner.factors]
            candidate = Product(
                x.shape, coef=x.coef * inner.coef, factors=tuple([*_without(x.factors, f), *inside]), nodes=x.nodes
            )
            return unit_eliminates(candidate, names)
    return None


# -- polynomials -------------------------------------------------------------------------------------------------------


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
    rest = _without(x.factors, *sums)
    copies = [f for f in sums for _ in range(int(f.exponent))]
    choices = itertools.product(*[[Factor(t, f.labels) for t in f.base.parts] for f in copies])
    products = [product(x.shape, [*rest, *choice], x.coef) for choice in choices]
    return [_sums_taken(t, names) for p in products for t in (_expanded(p, names) or [p])]


def _sums_taken(x: Formula, names: Names) -> Formula:
    """``x`` with sums of distributions replaced by 1."""
    while True:
        shorter = sums_to_one(x, names)
        if shorter is None:
            return x
        x = shorter


def common_factor(x: Formula, names: Names) -> Formula | None:
    """a·b + a·c = a·(b + c), also where a is a matrix and the product one of matrices."""
    if not isinstance(x, Sum):
        return None
    terms = [(t, factors_of(t)[1]) for t in x.terms]
    best: Formula = x
    for _, factors in terms[:MOST_TERMS]:
        for candidate in factors:
            found = [(t, _matching(fs, candidate, x.ndim)) for t, fs in terms]
            shared = [(t, f) for t, f in found if f is not None]
            if len(shared) > 1:
                rest = [t for t, f in found if f is None]
                result = total(x.shape, [_factored(x, candidate, shared), *rest])
                best = min(best, result, key=lambda f: f.size)
    return best


def _matching(factors: Sequence[Factor], wanted: Factor, ndim: int) -> Factor | None:
    """The factor of the same base, in the same axes of the result, from which ``wanted`` can be divided."""
    sums = any(k >= ndim for k in wanted.labels)
    for f in factors:
        same = f.base == wanted.base and f.exponent * wanted.exponent > 0
        if same and [min(k, ndim) for k in f.labels] == [min(k, ndim) for k in wanted.labels]:
            if not sums or f.exponent == wanted.exponent == 1:
                return f
    return None


def _factored(x: Sum, wanted: Factor, found: Sequence[tuple[Formula, Factor]]) -> Formula:
    """The sum of the terms, with the factor that was found in each taken out."""
    exponent = min((f.exponent for _, f in found), key=abs)
    inner = [k for k in dict.fromkeys(wanted.labels) if k >= x.ndim]
    sizes = extents([wanted])
    rests, used = [], set[int]()
    for t, f in found:
        coef, factors = factors_of(t)
        free = dict(zip((k for k in f.labels if k >= x.ndim), (k for k in wanted.labels if k >= x.ndim), strict=True))
        left = [g for g in factors if g is not f]
        if f.exponent != exponent:
            left.append(Factor(f.base, f.labels, f.exponent - exponent))
        used |= {k for g in left for k in g.labels if 0 <= k < x.ndim}
        rests.append((coef, left, free))
    out = sorted(used)
    shape = (*(x.shape[k] for k in out), *(sizes[k] for k in inner))
    terms = [_rest_term(shape, out, inner, *rest) for rest in rests]
    return product(
        x.shape, [Factor(wanted.base, wanted.labels, exponent), Factor(total(shape, terms), (*out, *inner))]
    )


def _rest_term(
    shape: tuple[int, ...], out: list[int], inner: list[int], coef: Number, left: Sequence[Factor], free: Mapping[int, int]
) -> Formula:
    """What is left of a term, with the axes ``out`` of the result and then the labels ``inner`` of the factor taken out."""
    names = {k: a for a, k in enumerate(out)} | {UNIT: UNIT}
    names |= {mine: len(out) + inner.index(theirs) for mine, theirs in free.items()}
    for g in left:
        for k in g.labels:
            names.setdefault(k, len(names) + len(shape))
    return product(shape, [Factor(g.base, tuple(names[k] for k in g.labels), g.exponent) for g in left], coef)


RULES: tuple[Rule, ...] = (
    Rule("log-sum-exp shift", "lse(z + c) = lse(z) + c, for c constant along the axes of lse", logsumexp_shift),
    Rule("softmax", "exp(z − lse z) = softmax z", softmax_from_logsumexp),
    Rule("softmax quotient", "exp z / Σ exp z = softmax z", softmax_quotient),
    Rule("softmax shift", "softmax(z + c) = softmax z, for c constant along the axes of softmax", softmax_shift),
    Rule("sigmoid of a negative", "σ(−x) = 1 − σ(x)", sigmoid_of_negative),
    Rule("exponential", "expm1(x) + 1 = exp x", exp_from_expm1),
    Rule("normal distribution function", "(1 + erf(x/√2))/2 = erfc(−x/√2)/2 = Φ(x)", normal_cdf),
    Rule("normal density", "exp(−x²/2)/√(2π) = φ(x)", normal_pdf),
    Rule("opposite comparison", "not (a > b) = (a ≤ b)", opposite_comparison),
    Rule("singular point", "where(x = c, number, f(x)) = f(x) but at the singular point x = c of f", singular_point),
    Rule("shared tie", "where(a > b, 1, where(a = b, ½, 0)) = 1[a > b], one half at a tie", tie_is_shared),
    Rule("mask", "where(m, a, 0) = a ⊙ 1[m]", selection_is_mask),
    Rule("mask squared", "1[m]² = 1[m]", mask_is_idempotent),
    Rule("zeroth power", "x^where(k = 0, 1, k − 1) = x^(k − 1) but at k = 0", zeroth_power),
    Rule("mask of a factor", "k·1[k ≠ 0] = k", mask_of_nonzero),
    Rule("positive part", "1[x > 0] = 1[relu x > 0]", positive_part),
    Rule("arg max", "1[a = max a] / Σ 1[a = max a] = onehot(argmax a), shared where elements tie", extremum_mask),
    Rule("one-hot", "1[y = j] = onehot(y)[j]", class_indicator),
    Rule("number of a mask", "a truth value is 0 or 1", number_of_mask),
    Rule("selected element", "onehot ⊙ a ⊘ (Σ onehot ⊙ a)𝟏ᵀ = onehot", selected_element),
    Rule("distribution", "Σ softmax = 1, Σ onehot = 1, over their own axes", sums_to_one),
    Rule("diagonal", "every (n+1)-th element of an n×n matrix is its diagonal", diagonal_by_stride),
    Rule("diagonal matrix", "a vector at every (n+1)-th element of an n×n matrix of zeros is diag v", diagonal_placed),
    Rule("identity matrix", "Σⱼ I[i, j] f(j) = f(i)", unit_eliminates),
    Rule("trace", "Σ I ⊙ (AB) = tr(AB)", trace_of_product),
    Rule("multiplied out", "(a + b)·c = a·c + b·c, where terms cancel", multiplied_out),
    Rule("common factor", "a·b + a·c = a·(b + c)", common_factor),
)
"""In the order in which they are tried."""

_NOTATION = (
    "opposite comparison", "mask", "one-hot", "mask squared", "number of a mask", "diagonal", "trace", "identity matrix",
)  # fmt: skip
FORWARD_RULES = tuple(r for r in RULES if r.name in _NOTATION)
"""What the user's own formulas are shown with: notation, no algebra."""

__all__ = ["FORWARD_RULES", "RULES", "Names", "Rule", "Simplifier", "factors_of", "identity", "power"]
