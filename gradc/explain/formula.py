"""The algebra that formulas are written in: index-labelled products, sums and named functions, kept in normal form.

Enters: parts, through the constructors `product`, `total`, `apply` and their short forms.  Leaves: immutable
`Formula`s that compare by structure and know the graph nodes (and so the source lines) that they stand for.
Invariant: a `Product` is coef · Σ Π baseᵉ with one label per axis: labels 0 … ndim−1 are the axes of the result,
labels from ndim on are summed, an axis of length 1 has the label UNIT.  Transposition, broadcasting, sums over axes,
matrix products and elementwise products are all this one form, so equal things look equal.  No product directly inside
a product where the two can be one, no sum inside a sum, no like terms.  Start reading at `Product`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

from gradc.aval import Shape
from gradc.node import OPS, Node
from gradc.ops.record import Kind
from gradc.places import Where
from gradc.process import cached_property

Number = Fraction | float
Labels = tuple[int, ...]

#: the label of an axis of length 1: there is nothing to index and nothing to sum
UNIT = -1
ONE = Fraction(1)
EPSILON = sys.float_info.epsilon

#: functions of formulas that act element by element although no op has their name
POINTWISE = frozenset({"indicator", "real", "excess", "normal_cdf", "normal_pdf"})


@dataclass(frozen=True, eq=False)
class Formula:
    """A value of ``shape``; ``nodes`` are the graph nodes it stands for."""

    shape: Shape
    nodes: frozenset[Node] = field(default=frozenset(), kw_only=True)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def key(self) -> Hashable:
        """What makes two formulas equal; ``nodes`` do not."""
        return (type(self), self.shape)

    @property
    def parts(self) -> tuple[Formula, ...]:
        """The formulas directly inside."""
        return ()

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    @cached_property
    def size(self) -> int:
        """How much there is to read: symbols, numbers and signs."""
        return 1

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The names that it is written with."""
        return frozenset[str]().union(*(part.symbols for part in self.parts))

    @property
    def where(self) -> tuple[Where, ...]:
        """The user's source lines that this formula comes from."""
        places = {node.where for node in self.nodes if node.where is not None}
        return tuple(sorted(places, key=lambda w: (w.file, w.line)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Formula) and self._hash == other._hash and self.key == other.key

    def including(self, nodes: Iterable[Node]) -> Formula:
        """The same formula, standing for more nodes; what is known of it (hash, size, symbols) stays known."""
        every = self.nodes.union(nodes)
        if len(every) == len(self.nodes):
            return self
        result: Formula = object.__new__(type(self))
        result.__dict__.update(self.__dict__, nodes=every)
        return result


@dataclass(frozen=True, eq=False)
class Symbol(Formula):
    """A named value: an input, a quantity with a line of its own, or an extent."""

    name: str = field(kw_only=True)
    role: str = field(default="quantity", kw_only=True)  #: "input", "quantity" or "extent"

    @property
    def key(self) -> Hashable:
        return (Symbol, self.name)

    @cached_property
    def symbols(self) -> frozenset[str]:
        return frozenset((self.name,))


class Factor(NamedTuple):
    """``base`` to the power ``exponent``, its axes named by ``labels``."""

    base: Formula
    labels: Labels
    exponent: Number = ONE


@dataclass(frozen=True, eq=False)
class Product(Formula):
    """coef · Σ Π baseᵉ over the labels ≥ ndim.  Without factors it is a number, the same everywhere."""

    coef: Number = field(kw_only=True)
    factors: tuple[Factor, ...] = field(kw_only=True)

    @cached_property
    def key(self) -> Hashable:
        order = sorted(
            self.factors, key=lambda f: (f.base._hash, float(f.exponent), tuple(min(k, self.ndim) for k in f.labels))
        )
        return (Product, self.shape, self.coef, tuple(renumbered(order, self.ndim)))

    @property
    def parts(self) -> tuple[Formula, ...]:
        return tuple(f.base for f in self.factors)

    @property
    def summed(self) -> dict[int, int]:
        """The summed labels and their extents."""
        return {k: n for k, n in extents(self.factors).items() if k >= self.ndim}

    @cached_property
    def size(self) -> int:
        if not self.factors:
            return 1
        return (
            sum(f.base.size + (f.exponent not in (1, -1)) for f in self.factors)
            + (abs(self.coef) != 1)
            + (self.coef < 0)
        )


@dataclass(frozen=True, eq=False)
class Sum(Formula):
    """The sum of at least two unlike terms of one shape."""

    terms: tuple[Formula, ...] = field(kw_only=True)

    @cached_property
    def key(self) -> Hashable:
        return (Sum, self.shape, frozenset(self.terms))

    @property
    def parts(self) -> tuple[Formula, ...]:
        return self.terms

    @cached_property
    def size(self) -> int:
        return sum(t.size for t in self.terms) + len(self.terms) - 1


@dataclass(frozen=True, eq=False)
class Apply(Formula):
    """A named function: an op that the algebra has no form for, a composite, or a display function of `rules`."""

    name: str = field(kw_only=True)
    args: tuple[Formula, ...] = field(kw_only=True)
    attrs: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    attrs_key: Hashable = field(default=(), kw_only=True)

    @cached_property
    def key(self) -> Hashable:
        return (Apply, self.name, self.shape, self.args, self.attrs_key)

    @property
    def parts(self) -> tuple[Formula, ...]:
        return self.args

    @cached_property
    def size(self) -> int:
        return 1 + sum(a.size for a in self.args)

    @property
    def pointwise(self) -> bool:
        """Whether each element of the result depends on the same element of the arguments alone."""
        op = OPS.get(self.name)
        return self.name in POINTWISE or (op is not None and op.kind is Kind.ELEMENTWISE)


# -- labels ------------------------------------------------------------------------------------------------------------


def extents(factors: Iterable[Factor]) -> dict[int, int]:
    """The extent of each label in use."""
    return {k: n for f in factors for k, n in zip(f.labels, f.base.shape, strict=True) if k != UNIT}


def renumbered(factors: Iterable[Factor], ndim: int) -> list[Factor]:
    """Summed labels numbered from ``ndim`` in order of appearance."""
    new: dict[int, int] = {}
    result = []
    for base, labels, exponent in factors:
        for k in labels:
            if k >= ndim and k not in new:
                new[k] = ndim + len(new)
        result.append(Factor(base, tuple(new.get(k, k) for k in labels), exponent))
    return result


def identity(shape: Shape) -> Labels:
    """The labels of a factor that lies in the result as it is."""
    return tuple(a if n != 1 else UNIT for a, n in enumerate(shape))


def in_place(x: Formula, exponent: Number = ONE) -> Factor:
    """``x`` as a factor of a product of the same shape."""
    return Factor(x, identity(x.shape), exponent)


# -- numbers -----------------------------------------------------------------------------------------------------------


def number(value: Number | int, shape: Shape = ()) -> Formula:
    """``value`` everywhere."""
    return Product(shape, coef=value if isinstance(value, float) else Fraction(value), factors=())


def value_of(x: Formula) -> Number | None:
    """The number that ``x`` is everywhere, or None."""
    return x.coef if isinstance(x, Product) and not x.factors else None


def is_integer(e: Number) -> bool:
    return isinstance(e, Fraction) and e.denominator == 1


def number_power(c: Number, e: Number) -> Number | None:
    """cᵉ if it is real; exact where it is rational."""
    if c == 1 or e == 1:
        return c
    if is_integer(e):
        return None if c == 0 and e < 0 else c ** int(e)
    if c < 0 or (c == 0 and e < 0):
        return None
    if isinstance(c, Fraction) and isinstance(e, Fraction) and e.denominator == 2:
        top, bottom = math.isqrt(c.numerator), math.isqrt(c.denominator)
        if top * top == c.numerator and bottom * bottom == c.denominator:
            return Fraction(top, bottom) ** e.numerator
    return float(c) ** float(e)


def magnitude(c: Number) -> Number:
    """|c|, as exact as ``c``."""
    return -c if c < 0 else c


def snapped(c: Number) -> Number:
    """The simple fraction that ``c`` is but for the rounding of irrational numbers that cancelled."""
    if isinstance(c, Fraction):
        return c
    near = Fraction(c).limit_denominator(1000) if math.isfinite(c) else Fraction(0)
    return near if near and abs(float(near) - c) <= 8 * EPSILON * abs(c) else c


def split(x: Formula) -> tuple[Number, Formula]:
    """``x`` as a number times a formula whose own number is 1."""
    if not isinstance(x, Product) or x.coef in (0, 1):
        return ONE, x
    if not x.factors:
        return x.coef, number(1, x.shape)
    return x.coef, _bare(replace(x, coef=ONE))


def _bare(x: Product) -> Formula:
    """The only factor itself, if nothing is done to it."""
    if x.coef != 1 or len(x.factors) != 1:
        return x
    base, labels, exponent = x.factors[0]
    if exponent != 1 or base.shape != x.shape or labels != identity(x.shape):
        return x
    return _noted(base, x.nodes)


def _noted(x: Formula, nodes: Iterable[Node]) -> Formula:
    """``x`` standing for ``nodes`` as well; a symbol stands for its own alone."""
    return x if isinstance(x, Symbol) else x.including(nodes)


# -- products ----------------------------------------------------------------------------------------------------------


def product(shape: Shape, factors: Iterable[Factor], coef: Number = ONE, nodes: Iterable[Node] = ()) -> Formula:
    """coef · Σ Π baseᵉ in normal form; a summed label that no remaining factor carries counts as its extent."""
    given = [_unit_labels(f) for f in factors]
    sums = {k: n for k, n in extents(given).items() if k >= len(shape)}
    flat = _Flat(coef, set(nodes), len(shape), sums, max([len(shape) - 1, *(k for f in given for k in f.labels)]) + 1)
    for i, f in enumerate(given):
        flat.add(f, given[:i] + given[i + 1 :])
    merged = _merged(flat.factors)
    left = extents(merged)
    for k, n in flat.sums.items():
        if k not in left:
            flat.coef = flat.coef * n
    if flat.coef == 0:
        return number(0, shape)
    if flat.coef < 0:
        flat.coef, merged = _sign_inside(flat.coef, merged)
    factors = tuple(renumbered(merged, len(shape)))
    return _bare(Product(shape, nodes=frozenset(flat.nodes), coef=snapped(flat.coef), factors=factors))


def _sign_inside(coef: Number, factors: list[Factor]) -> tuple[Number, list[Factor]]:
    """−(a − b)·c = (b − a)·c."""
    for i, (base, labels, exponent) in enumerate(factors):
        odd = is_integer(exponent) and exponent % 2 == 1 and exponent > 0
        if odd and isinstance(base, Sum) and any(split(t)[0] < 0 for t in base.terms):
            return -coef, [*factors[:i], Factor(opposite(base), labels, exponent), *factors[i + 1 :]]
    return coef, factors


def opposite(x: Sum) -> Sum:
    """The sum of the negative terms, as a sum."""
    return replace(x, terms=tuple(map(negative, x.terms)))


def _unit_labels(f: Factor) -> Factor:
    return Factor(f.base, tuple(UNIT if n == 1 else k for k, n in zip(f.labels, f.base.shape, strict=True)), f.exponent)


def _merged(factors: Iterable[Factor]) -> list[Factor]:
    """Equal bases under equal labels become one power; a zeroth power is gone."""
    powers: dict[tuple[Formula, Labels], Number] = {}
    for base, labels, exponent in factors:
        powers[base, labels] = powers.get((base, labels), Fraction(0)) + exponent
    return [Factor(base, labels, e) for (base, labels), e in powers.items() if e != 0]


@dataclass
class _Flat:
    """The factors of a product under construction, inner products dissolved where that is allowed."""

    coef: Number
    nodes: set[Node]
    ndim: int
    sums: dict[int, int]  #: every summed label and its extent
    fresh: int
    factors: list[Factor] = field(default_factory=list)

    def add(self, f: Factor, others: Sequence[Factor]) -> None:
        inner = f.base
        if not isinstance(inner, Product):
            self.factors.append(f)
            return
        outside = number_power(inner.coef, f.exponent)
        if outside is None:
            self.factors.append(f)
            return
        self.coef = self.coef * outside
        if not _dissolves(inner, f, others, self.ndim):
            self._keep(inner, f)
            return
        self.nodes |= inner.nodes
        names = {a: f.labels[a] for a in range(inner.ndim)}
        for k, n in inner.summed.items():
            names[k], self.sums[self.fresh] = self.fresh, n
            self.fresh += 1
        for base, labels, exponent in inner.factors:
            moved = tuple(UNIT if k == UNIT else names[k] for k in labels)
            self.factors.append(Factor(base, moved, exponent * f.exponent))

    def _keep(self, inner: Product, f: Factor) -> None:
        """The inner product stays one factor, but for its number and what it does not sum over."""
        bare = split(inner)[1]
        fixed = [g for g in inner.factors if all(k < inner.ndim for k in g.labels)]
        if isinstance(bare, Product) and fixed and is_integer(f.exponent) and len(fixed) < len(inner.factors):
            rest = [g for g in bare.factors if not any(g is s for s in fixed)]
            bare = product(bare.shape, rest, ONE, bare.nodes)
            place = dict(enumerate(f.labels)) | {UNIT: UNIT}
            self.factors += [Factor(g.base, tuple(place[k] for k in g.labels), g.exponent * f.exponent) for g in fixed]
        axes = sorted(varying_axes(bare))
        self.factors.append(Factor(restricted(bare, axes), tuple(f.labels[a] for a in axes), f.exponent))


def _dissolves(inner: Product, f: Factor, others: Sequence[Factor], ndim: int) -> bool:
    """Whether (Σ Π baseᵉ)ᶠ inside a product may become factors of that product."""
    if not inner.summed:
        return is_integer(f.exponent) or _one_signed(inner)
    if f.exponent != 1:
        return False
    labelled = [o for o in others if any(k != UNIT for k in o.labels) and not is_unit(o.base)]
    if not labelled:
        return inner.ndim > 0 or not others
    return inner.ndim > 0 and inner.ndim <= 2 and _continues_chain(f, labelled, ndim)


def is_unit(x: Formula) -> bool:
    """Whether a factor only says that two indices agree."""
    return isinstance(x, Apply) and x.name == "unit"


def _one_signed(inner: Product) -> bool:
    """(xᵃ)ᵇ = xᵃᵇ needs a not to hide the sign of x."""
    return len(inner.factors) == 1 and not (
        is_integer(inner.factors[0].exponent) and inner.factors[0].exponent % 2 == 0
    )


def _continues_chain(f: Factor, others: Sequence[Factor], ndim: int) -> bool:
    """A·B·C: the product f shares at most one label, a summed one, with each neighbour, and each with one alone."""
    mine = {k for k in f.labels if k != UNIT}
    shared = [mine & set(o.labels) for o in others]
    met = [k for s in shared for k in s]
    return all(len(s) <= 1 for s in shared) and len(met) == len(set(met)) and all(k >= ndim for k in met)


def arranged(x: Formula, labels: Labels, shape: Shape, nodes: Iterable[Node] = ()) -> Formula:
    """``x`` with its axes placed, repeated or summed: one factor alone."""
    return product(shape, [Factor(x, labels)], nodes=nodes)


def scaled(c: Number | int, x: Formula) -> Formula:
    """c · x."""
    if c == 1:
        return x
    return product(x.shape, [in_place(x)], c if isinstance(c, float) else Fraction(c))


def negative(x: Formula) -> Formula:
    return scaled(-1, x)


def times(*factors: Formula) -> Formula:
    """The elementwise product of formulas of one shape."""
    return product(factors[0].shape, [in_place(x) for x in factors])


def power(x: Formula, e: Number | int) -> Formula:
    """xᵉ, elementwise."""
    return product(x.shape, [in_place(x, e if isinstance(e, float) else Fraction(e))])


# -- sums --------------------------------------------------------------------------------------------------------------


def total(shape: Shape, terms: Iterable[Formula], nodes: Iterable[Node] = ()) -> Formula:
    """The sum in normal form: flat, like terms collected, axes that no term varies along left to a broadcast."""
    every, given = set(nodes), list(terms)
    deep = list(_flat_terms(ONE, given, every, deep=True))
    present = _collected(deep)
    if len(present) == len(deep):  # nothing met its like: c·(a + b) may stay as it is
        present = _collected(_flat_terms(ONE, given, every, deep=False))
    if not present:
        return number(0, shape)
    if len(present) == 1:
        return _noted(scaled(*present[0]), every)
    axes = sorted(set().union(*(varying_axes(x) for _, x in present)))
    if len(axes) < len(shape):
        small = tuple(shape[a] for a in axes)
        return arranged(total(small, [scaled(c, restricted(x, axes)) for c, x in present], every), tuple(axes), shape)
    return _with_common_number(shape, present, every)


def _collected(terms: Iterable[tuple[Number, Formula]]) -> list[tuple[Number, Formula]]:
    """Like terms added up."""
    collected: dict[Formula, Number] = {}
    for c, x in terms:
        collected[x] = collected.get(x, Fraction(0)) + c
    return [(c, x) for x, c in collected.items() if c != 0]


def _flat_terms(c: Number, terms: Iterable[Formula], nodes: set[Node], deep: bool) -> Iterable[tuple[Number, Formula]]:
    """The terms of sums inside sums; multiples of sums only if ``deep``."""
    for term in terms:
        d, x = split(term)
        if isinstance(x, Sum) and (deep or abs(d) == 1):
            nodes |= x.nodes
            yield from _flat_terms(c * d, x.terms, nodes, deep)
        elif value_of(x) == 0:
            continue
        else:
            yield c * d, x


def _with_common_number(shape: Shape, present: Sequence[tuple[Number, Formula]], nodes: Iterable[Node]) -> Formula:
    """c·a ± c·b = c·(a ± b); a sum of negatives is the negative of a sum."""
    coefs = [c for c, _ in present]
    pulled = magnitude(coefs[0]) if all(magnitude(c) == magnitude(coefs[0]) for c in coefs) else ONE
    if all(c < 0 for c in coefs):
        pulled = -pulled
    terms = tuple(scaled(c / pulled, x) for c, x in present)
    bare = pulled != 1 and any(isinstance(x, Sum) for _, x in present)  # without its number a sum joins the others
    body = total(shape, terms, nodes) if bare else Sum(shape, nodes=frozenset(nodes), terms=terms)
    return body if pulled == 1 else scaled(pulled, body)


def varying_axes(x: Formula) -> set[int]:
    """The axes along which ``x`` may vary."""
    if isinstance(x, Product):
        return {k for f in x.factors for k in f.labels if 0 <= k < x.ndim}
    return {a for a, n in enumerate(x.shape) if n != 1}


def restricted(x: Formula, axes: Sequence[int]) -> Formula:
    """``x`` on ``axes`` alone, which are all that it varies along."""
    shape = tuple(x.shape[a] for a in axes)
    if x.shape == shape:
        return x
    place = {a: k for k, a in enumerate(axes)}
    if not isinstance(x, Product):
        return product(shape, [Factor(x, tuple(place.get(a, UNIT) for a in range(x.ndim)))])
    shift = x.ndim - len(axes)

    def moved(k: int) -> int:
        return UNIT if k == UNIT else place[k] if k < x.ndim else k - shift

    factors = [Factor(f.base, tuple(map(moved, f.labels)), f.exponent) for f in x.factors]
    return product(shape, factors, x.coef, x.nodes)


# -- functions ---------------------------------------------------------------------------------------------------------


def apply(
    name: str,
    args: Sequence[Formula],
    shape: Shape,
    attrs: Mapping[str, Any] | None = None,
    nodes: Iterable[Node] = (),
    attrs_key: Hashable = (),
) -> Formula:
    """A function of formulas; an elementwise function of broadcast arguments is the broadcast of a smaller one."""
    result = Apply(
        shape, nodes=frozenset(nodes), name=name, args=tuple(args), attrs=dict(attrs or {}), attrs_key=attrs_key
    )
    if not result.pointwise or not args:
        return result
    axes = sorted(set().union(*map(varying_axes, args)))
    if len(axes) == len(shape):
        return _transpose_outside(result)
    small = replace(result, shape=tuple(shape[a] for a in axes), args=tuple(restricted(a, axes) for a in args))
    return arranged(small, tuple(axes), shape)


def _transpose_outside(x: Apply) -> Formula:
    """f(Aᵀ) = f(A)ᵀ for one argument that is nothing but a transposition."""
    (arg, *more) = x.args
    if more or not isinstance(arg, Product) or len(arg.factors) != 1 or arg.coef != 1 or arg.summed:
        return x
    base, labels, exponent = arg.factors[0]
    if exponent != 1 or UNIT in labels or sorted(labels) != list(range(x.ndim)):
        return x
    return arranged(replace(x, shape=base.shape, args=(base,)), labels, x.shape)


def rebuilt(x: Formula, change: Callable[[Formula], Formula]) -> Formula:
    """``x`` with ``change`` applied to each formula directly inside, in normal form again."""
    new = [change(p) for p in x.parts]
    if all(a is b for a, b in zip(new, x.parts, strict=True)):
        return x
    if isinstance(x, Product):
        factors = [Factor(b, f.labels, f.exponent) for b, f in zip(new, x.factors, strict=True)]
        return product(x.shape, factors, x.coef, x.nodes)
    if isinstance(x, Sum):
        return total(x.shape, new, x.nodes)
    assert isinstance(x, Apply)
    return apply(x.name, new, x.shape, x.attrs, x.nodes, x.attrs_key)
