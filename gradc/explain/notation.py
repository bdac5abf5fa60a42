"""Formulas to notation: what a mathematician writes for an index-labelled product.

Enters: a `Formula`.  Leaves: a `Layout`, the tree that every printer (text, LaTeX, …) walks; each piece keeps the
formula that it shows, and through it the graph nodes and source lines.
Conventions: a vector is a column; a matrix plus or times a vector without further marks adds or scales row by row, as
NumPy broadcasts; `u1ᵀ` repeats a column; leading batch axes that all factors share are not written; what no chain of
matrices can say is written with indices.  Start reading at `Notation.layout`, then `gradc.explain.matrices.Matrices`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from gradc.explain.formula import (
    UNIT,
    Apply,
    Factor,
    Formula,
    Labels,
    Number,
    Product,
    Sum,
    Symbol,
    in_place,
    magnitude,
    product,
    snapped,
    split,
    value_of,
    varying_axes,
)
from gradc.explain.layout import (
    Call,
    Fenced,
    Hadamard,
    Ident,
    Indexed,
    Juxtaposed,
    Known,
    Kronecker,
    Layout,
    Literal,
    Mask,
    Minus,
    Num,
    Ones,
    Plus,
    Quotient,
    Raised,
    Relation,
    Root,
    Summed,
    Tensor,
    Transposed,
)
from gradc.explain.letters import call_name, named_attributes
from gradc.explain.matrices import (
    INDEX_LETTERS,
    Matrices,
    quotient,
    says_axis,
    side_by_side,
    transposes_last,
    with_repeated_columns,
)
from gradc.explain.naming import PART, Content, content_of
from gradc.node import OPS, Node
from gradc.ops.control import bodies, result_count
from gradc.ops.implicit import implicit_rule_of

#: attribute values that go without saying
USUAL = (None, False, 0, "mean", "none")


class Notation:
    """Lays formulas out; ``idents`` says how quantities are written, ``extents`` which are counts, and of how many.

    ``strict`` is for arrays of derivatives, in which no axis goes without saying: the rows of a matrix are scaled by
    diag(v) in front of it, its columns by one behind it, and what has more axes than two is written by its elements.
    """

    def __init__(
        self, idents: Mapping[str, Ident], extents: Mapping[str, int], strict: bool = False,
        captured: Mapping[Content, Ident] | None = None,
    ):  # fmt: skip
        self.idents, self.extents = idents, extents
        self.captured = captured or {}  #: how constant arrays are written
        self.strict = strict
        self.lying: set[str] = set()  #: parts whose lines say along which axis they lie

    def line(self, name: str, meaning: Formula) -> Layout:
        """The line that says what ``name`` is; what is laid out later knows it."""
        found = self.whole(meaning)
        if name.startswith(PART) and says_axis(found):
            self.lying.add(name)
        return found

    def whole(self, x: Formula) -> Layout:
        """What stands alone behind an equals sign: there a number that fills an array says so, L̄𝟏𝟏ᵀ, and a vector
        that is every row of a matrix, 𝟏vᵀ.
        """
        shown = self.layout(x)
        if x.ndim == 2 and x.shape[0] != 1 and varying_axes(x) == {1} and _is_of_vectors(x):
            return replace(side_by_side((Ones(), Transposed(shown))), source=x)
        return _filling(shown, x)

    def layout(self, x: Formula) -> Layout:
        """The notation for ``x``."""
        if isinstance(x, Symbol):
            return replace(self.idents.get(x.name) or Ident(x.name), lies=x.name in self.lying, source=x)
        if isinstance(x, Product):
            return replace(self._product(x), source=x)
        if isinstance(x, Sum):
            return replace(self._sum(x), source=x)
        assert isinstance(x, Apply)
        return replace(self._call(x), source=x)

    def _sum(self, x: Sum) -> Layout:
        """Terms side by side; arrays that are written by their elements are added element by element."""
        if x.ndim > 2 and not all(_broadcasts_as_it_stands(t) or says_axis(self.layout(t)) for t in x.terms):
            out = tuple(INDEX_LETTERS[: x.ndim])
            return Tensor(out, self._element(x, out, frozenset(out)))
        terms = self._ordered(x.terms)
        if x.ndim == 2 and not self.strict:
            terms = with_repeated_columns(terms)
        if x.ndim == 2 and (self.strict or any(map(_has_unit, x.terms))):
            return Plus(tuple(map(_as_matrix, terms)))
        bodies = [t.inner if isinstance(t, Minus) else t for t in terms]
        if all(isinstance(b, Tensor) for b in bodies):
            tensors = [b for b in bodies if isinstance(b, Tensor)]
            signed = (Minus(b.body) if isinstance(t, Minus) else b.body for t, b in zip(terms, tensors, strict=True))
            return Tensor(tensors[0].indices, Plus(tuple(signed)))
        return Plus(terms)

    def _ordered(self, terms: Sequence[Formula]) -> tuple[Layout, ...]:
        """The terms as they come, but a positive one first."""
        return transposes_last(tuple(map(self.layout, self._in_order(terms))))

    def _in_order(self, terms: Sequence[Formula]) -> Sequence[Formula]:
        terms = sorted(terms, key=_is_multiple_of_unit)
        first = next((i for i, t in enumerate(terms) if split(t)[0] > 0), 0)
        return (terms[first], *terms[:first], *terms[first + 1 :])

    # -- powers ------------------------------------------------------------------------------------------------------

    def power(self, base: Formula, e: Number) -> Layout:
        """baseᵉ for e > 0."""
        norm = self._norm(base)
        if norm is not None:
            return norm if e == Fraction(1, 2) else Raised(norm, Num(2 * e))
        inner = self.layout(base)
        if e == 1:
            return inner
        return Root(inner) if e == Fraction(1, 2) else Raised(inner, Num(e))

    def _norm(self, x: Formula) -> Layout | None:
        """‖a‖ where ``x`` is Σ a² over all axes."""
        if not isinstance(x, Product) or x.ndim or len(x.factors) != 1 or x.coef != 1:
            return None
        base, labels, exponent = x.factors[0]
        if exponent != 2 or all(k == UNIT for k in labels):
            return None
        return Fenced(self.layout(base), double=True)

    # -- products ----------------------------------------------------------------------------------------------------

    def _product(self, x: Product) -> Layout:
        norm = self._norm(replace(x, coef=Fraction(1)))
        if norm is not None:
            return _with_scalars(x.coef, [], [], Raised(norm, Num(Fraction(2))))
        scalars, arrays = _parted(x)
        body, used = (None, {}) if self.strict else self._mean(x, scalars, arrays)
        if body is None and arrays:
            body = self._arrays(x, arrays)
        return _with_scalars(x.coef, *self._scalars(scalars, used), body)

    def _scalars(
        self, scalars: Sequence[Factor], used: Mapping[Formula, Layout | None]
    ) -> tuple[list[Layout], list[Layout]]:
        """The scalar factors of a product, above and below; those that are ``used`` up as what they become."""
        means = [mean for f in scalars if (mean := used.get(f.base)) is not None]
        left = [f for f in scalars if f.base not in used]
        powers = [self.power(f.base, f.exponent) for f in left if f.exponent > 0]
        below = [self.power(f.base, -f.exponent) for f in left if f.exponent < 0]
        return sorted([*powers, *means], key=_reading_order), sorted(below, key=_reading_order)

    def _mean(
        self, x: Product, scalars: Sequence[Factor], arrays: Sequence[Factor]
    ) -> tuple[Layout | None, dict[Formula, Layout | None]]:
        """A sum over axes divided by their extent as a mean.

        The arrays, if they are or hold it, and the scalars that it uses up: the count, and the sum with what it
        becomes.
        """
        for count in scalars:
            size = self.extents.get(count.base.name) if isinstance(count.base, Symbol) else None
            if size is None or count.exponent != -1:
                continue
            for labels in _along(x, size):
                body = Matrices.of(self.power, x, arrays, labels)
                if body is None and labels == x.summed.keys():
                    body = self._axis_sum(x, arrays, mean=True)
                if body is not None:
                    return body, {count.base: None}
            for f in (*arrays, *scalars):
                inner = self._inner_mean(f, size)
                if inner is not None and any(f is g for g in arrays):
                    return self._arrays_with(x, arrays, f.base, inner), {count.base: None}
                if inner is not None:
                    return None, {count.base: None, f.base: inner}
        return None, {}

    def _inner_mean(self, f: Factor, size: int) -> Layout | None:
        """A factor that is a sum over ``size`` elements as their mean."""
        base = f.base
        if not isinstance(base, Product) or f.exponent != 1 or base.coef != 1 or self._norm(base) is not None:
            return None
        inside = [g for g in base.factors if any(k != UNIT for k in g.labels)]
        if len(inside) < len(base.factors):
            return None
        found = (Matrices.of(self.power, base, inside, labels) for labels in _along(base, size))
        return next((body for body in found if body is not None), None)

    def _arrays_with(self, x: Product, arrays: Sequence[Factor], base: Formula, shown: Layout) -> Layout:
        """The arrays with ``shown`` for the factor ``base``."""
        found = Matrices.of(lambda b, e: shown if b is base else self.power(b, e), x, arrays)
        return found if found is not None else self._with_indices(x, arrays)

    def _arrays(self, x: Product, factors: Sequence[Factor]) -> Layout:
        kronecker = self._kronecker(x, factors) if x.ndim == 4 else None
        if kronecker is not None:
            return kronecker
        found = None if self.strict else self._correlation(x, factors) or self._axis_sum(x, factors, mean=False)
        if found is None and (x.ndim <= 2 or not self.strict):
            found = Matrices.of(self.power, x, factors if self.strict else _one_by_one(x, factors), strict=self.strict)
        return found if found is not None else self._with_indices(x, factors)

    def _kronecker(self, x: Product, factors: Sequence[Factor]) -> Layout | None:
        """A matrix of the first and third axis times one of the second and fourth, if the factors fall apart so."""
        left, right = (_connected(factors, axes) for axes in ((0, 2), (1, 3)))
        if not left or not right or len(left) + len(right) != len(factors) or any(f in right for f in left):
            return None
        sides = [
            product((x.shape[a], x.shape[b]), [Factor(f.base, _renamed(f.labels, a, b), f.exponent) for f in part])
            for part, (a, b) in ((left, (0, 2)), (right, (1, 3)))
        ]
        return Kronecker(self.layout(sides[0]), self.layout(sides[1]))

    def _axis_sum(self, x: Product, factors: Sequence[Factor], mean: bool) -> Layout | None:
        """Σⱼ a over some axes of one array of more axes than a matrix, the others left in their order."""
        if len(factors) != 1 or factors[0].exponent != 1 or factors[0].base.ndim < 3:
            return None
        base, labels, _ = factors[0]
        kept = [k for k in labels if 0 <= k < x.ndim]
        if UNIT in labels or not x.summed or len(set(labels)) < len(labels) or kept != sorted(kept):
            return None
        return Summed(tuple(INDEX_LETTERS[a] for a, k in enumerate(labels) if k >= x.ndim), self.layout(base), mean)

    def _correlation(self, x: Product, factors: Sequence[Factor]) -> Layout | None:
        """Σₖ a[i + k]·b[k]: the correlation of a with b, where windows of a meet b in their places or in themselves."""
        if len(factors) != 2 or any(f.exponent != 1 for f in factors):
            return None
        for windows, other in (factors, factors[::-1]):
            call, r = windows.base, x.ndim
            if not isinstance(call, Apply) or call.name != "windows" or call.ndim != 2 * r:
                continue
            steps = (*call.attrs["strides"], *call.attrs["dilations"])
            whole = call.attrs["axes"] == tuple(range(r)) and set(steps) <= {1}
            places, inside = windows.labels[:r], windows.labels[r:]
            out = tuple(range(r))
            if whole and ((places == out and other.labels == inside) or (inside == out and other.labels == places)):
                return Call("corr", (self.layout(call.args[0]), self.layout(other.base)))
        return None

    def _with_indices(self, x: Product, factors: Sequence[Factor]) -> Layout:
        """Every axis written as an index: always possible."""
        out = tuple(INDEX_LETTERS[: x.ndim])
        body = self._body(x, factors, out, frozenset(out))
        return Tensor(out, body) if out else body

    def _body(self, x: Product, factors: Sequence[Factor], out: tuple[str, ...], taken: frozenset[str]) -> Layout:
        """The element of a product at the indices ``out``; what it sums over gets letters that are not ``taken``."""
        free = (letter for letter in INDEX_LETTERS if letter not in taken)
        sums = {k: next(free) for k in sorted(x.summed)}
        letters = dict(enumerate(out)) | sums
        used = taken | frozenset(sums.values())
        top = [self._indexed(f, letters, used) for f in factors if f.exponent > 0]
        bottom = [self._indexed(f, letters, used) for f in factors if f.exponent < 0]
        body = quotient(top, bottom, elementwise=False)
        return Summed(tuple(sums.values()), body) if sums or not out else body

    def _indexed(self, f: Factor, letters: Mapping[int, str], taken: frozenset[str]) -> Layout:
        inside = tuple(letters[k] if k != UNIT else "0" for k in f.labels)
        element, e = self._element(f.base, inside, taken), magnitude(f.exponent)
        return element if e == 1 else Root(element) if e == Fraction(1, 2) else Raised(element, Num(e))

    def _element(self, x: Formula, inside: tuple[str, ...], taken: frozenset[str]) -> Layout:
        """The element of ``x`` at ``inside``; of what has no name, written out where it is no matrix as it stands."""
        if value_of(x) is not None:
            return self.layout(x)
        if isinstance(x, Sum) and (x.ndim > 2 or any(_has_other_axes(t, x.ndim) for t in x.terms)):
            return Plus(tuple(self._element(t, inside, taken) for t in self._in_order(x.terms)))
        if isinstance(x, Product) and (x.ndim > 2 or _has_other_axes(x, x.ndim) or isinstance(self.layout(x), Tensor)):
            scalars, arrays = _parted(x)
            body = self._body(x, arrays, inside, taken) if arrays else None
            return _with_scalars(x.coef, *self._scalars(scalars, {}), body)
        return Indexed(self.layout(x), tuple(Ident(k) if k != "0" else Num(Fraction(0)) for k in inside))

    # -- functions ---------------------------------------------------------------------------------------------------

    def _call(self, x: Apply) -> Layout:
        if x.name == "constant" and (ident := self.captured.get(content_of(x.attrs["value"]))) is not None:
            return ident
        args = tuple(map(self.layout, x.args))
        special = CALLS.get(x.name)
        if special is not None and x.attrs_key[:1] != ("composite",):  # type: ignore[index]
            return special(args, x)
        op = OPS.get(x.name)
        if op is not None and op.relation:
            return Relation(args[0], op.relation, args[1])
        return Call(call_name(x.name, x.attrs), args, _options(x), _along_which(x))


def _along_which(x: Apply) -> tuple[str, ...]:
    """The axes along which the user took a statistic of an array, if not along all."""
    axes = x.attrs["axes"] if "keepdims" in x.attrs and x.args else ()
    return tuple(INDEX_LETTERS[a] for a in axes) if axes and len(axes) < x.args[0].ndim else ()


def _has_other_axes(x: Formula, rank: int) -> bool:
    """Whether ``x`` is a number times an array of other axes, of length 1 where they are more."""
    bare = split(x)[1]
    return isinstance(bare, Product) and any(UNIT in f.labels and f.base.ndim > rank for f in bare.factors)


def _broadcasts_as_it_stands(x: Formula) -> bool:
    """Whether a term has all axes, those at the end, or none, so that nothing has to be said of where it lies.

    A name of the user's has the others, too, with length 1.
    """
    varying = varying_axes(x)
    long = [a for a, n in enumerate(x.shape) if n != 1]
    if not varying or varying == set(long[len(long) - len(varying) :]):
        return True
    bare = split(x)[1]
    factors = bare.factors if isinstance(bare, Product) else ()
    return len(factors) == 1 and all(
        isinstance(f.base, Symbol) and not f.base.name.startswith(PART) and f.base.ndim == x.ndim for f in factors
    )


def _parted(x: Product) -> tuple[list[Factor], list[Factor]]:
    """The scalar factors of a product, and the others."""
    scalars = [f for f in x.factors if all(k == UNIT for k in f.labels)]
    return scalars, [f for f in x.factors if not all(k == UNIT for k in f.labels)]


def _one_by_one(x: Product, factors: Sequence[Factor]) -> Sequence[Factor]:
    """Factors that are multiplied element by element as if no axis had length 1: such an axis is no reason for indices.

    Where all others are in their places, each factor gets a label for every axis, whether or not it has those of
    length 1.
    """
    longer = tuple(a for a, n in enumerate(x.shape) if n != 1)
    if x.ndim <= 2 or any(tuple(k for k in f.labels if k != UNIT) != longer for f in factors):
        return factors
    return [Factor(f.base, tuple(range(x.ndim)), f.exponent) for f in factors]


def _along(x: Product, size: int) -> list[frozenset[int]]:
    """Sets of summed axes of ``x`` with ``size`` elements."""
    found = [frozenset((k,)) for k, extent in x.summed.items() if extent == size]
    if len(x.summed) > 1 and math.prod(x.summed.values()) == size:
        found.insert(0, frozenset(x.summed))
    return found


def _connected(factors: Sequence[Factor], axes: tuple[int, int]) -> list[Factor]:
    """The factors that share labels, directly or not, with ``axes``."""
    reached, found = set(axes), list[Factor]()
    while True:
        more = [f for f in factors if reached & set(f.labels) and not any(f is g for g in found)]
        if not more:
            return found
        found += more
        reached |= {k for f in more for k in f.labels if k != UNIT}


def _renamed(labels: Labels, first: int, second: int) -> Labels:
    """Labels of a 4-index product as those of the matrix of two of its axes."""
    return tuple({first: 0, second: 1}.get(k, k) if k != UNIT else UNIT for k in labels)


def _has_unit(x: Formula) -> bool:
    return isinstance(x, Product | Apply) and any(isinstance(p, Apply) and p.name == "unit" for p in (x, *x.parts))


def _as_matrix(x: Layout) -> Layout:
    """A number beside a unit matrix is a matrix of that number."""
    return x if x.source is None else _filling(x, x.source)


def _filling(shown: Layout, x: Formula) -> Layout:
    """``shown``, or times 𝟏, 𝟏𝟏ᵀ or as all elements of an array where it is one number for all of them, but for 0."""
    if all(n == 1 for n in x.shape) or varying_axes(x) or value_of(x) == 0:
        return shown
    if x.ndim > 2:
        return Tensor(tuple(INDEX_LETTERS[: x.ndim]), shown, source=x)
    if isinstance(shown, Minus):
        return Minus(_filling(shown.inner, x), source=x)
    ones = (Ones(),) if x.ndim == 1 else (Ones(), Transposed(Ones()))
    if isinstance(shown, Quotient):
        return Quotient(_times(shown.top, ones), shown.bottom, source=x)
    return replace(_times(shown, ones), source=x)


def _is_of_vectors(x: Formula) -> bool:
    """Whether what varies in a product are vectors, multiplied element by element."""
    return isinstance(x, Product) and not x.summed and all(f.base.ndim == 1 for f in _parted(x)[1])


def _times(x: Layout, ones: tuple[Layout, ...]) -> Layout:
    """A number times 𝟏 or 𝟏𝟏ᵀ."""
    if x == Num(Fraction(1)):
        return side_by_side(ones)
    return side_by_side((*(x.items if isinstance(x, Juxtaposed) else (x,)), *ones))


def _is_multiple_of_unit(x: Formula) -> bool:
    """λI, which is written after other matrices."""
    bare = split(x)[1]
    factors = bare.factors if isinstance(bare, Product) else (in_place(bare),)
    return any(isinstance(f.base, Apply) and f.base.name == "unit" for f in factors) and all(
        (isinstance(f.base, Apply) and f.base.name == "unit") or not any(k != UNIT for k in f.labels) for f in factors
    )


def _reading_order(x: Layout) -> int:
    """Scalars: names, then powers, brackets and functions."""
    while isinstance(x, Raised):
        x = x.base
    return 0 if isinstance(x, Ident) else 3 if isinstance(x, Summed) else 2 if isinstance(x, Call) else 1


def _options(x: Apply) -> tuple[str, ...]:
    """Attributes a reader needs; the last axis of a reduction goes without saying."""
    rank = x.args[0].ndim if x.args else 0
    composite = x.attrs_key[:1] == ("composite",)  # type: ignore[index]
    assumed = (-1, rank - 1, (-1,), (rank - 1,)) if composite or x.name in ("softmax", "logsumexp") else ()
    shown = []
    written = named_attributes(x.name)
    for key, value in x.attrs.items():
        if key in written or (key in ("strides", "dilations") and _goes_without_saying(value)):
            continue
        if key == "axes" and "keepdims" in x.attrs:
            continue  # they stand below the name
        if key in ("axis", "axes") and (value in (*assumed, None) or value == tuple(range(rank))):
            continue
        name = "axis" if key == "axes" else key
        if name == "axis" or (value not in USUAL and key not in ("keepdims", "of")):
            shown.append(f"{name}={_plain(value)}")
    return tuple(shown)


def _goes_without_saying(value: Any) -> bool:
    """Steps of one, and no fill."""
    return set(value) <= {1} if isinstance(value, tuple) else value == 0


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


# -- scalars around an array part --------------------------------------------------------------------------------------


def _with_scalars(coef: Number, top: Sequence[Layout], bottom: Sequence[Layout], array: Layout | None) -> Layout:
    """−c · (scalars) · array / (scalars)."""
    number, above, below = rational_part(magnitude(coef))
    over, under = [*above, *top], [*below, *bottom]
    if isinstance(number, Fraction) and not _reads_as_decimal(number) and (number != Fraction(1, 2) or bottom):
        if number.denominator != 1:
            under.insert(0, Num(Fraction(number.denominator)))
        number = Fraction(number.numerator)
    if number != 1 or not (over or array):
        over.insert(0, Num(number))
    body: Layout
    if array is None:
        body = side_by_side(over)
    elif isinstance(array, Hadamard | Quotient) and over:
        body = _scaled(over, array)
    else:
        body = side_by_side([*over, *(array.items if isinstance(array, Juxtaposed) else (array,))])
    if under:
        body = Quotient(body, side_by_side(under))
    return Minus(body) if coef < 0 else body


#: irrational numbers that are shown by name: Unicode, ASCII, LaTeX
CONSTANTS: tuple[tuple[float, tuple[str, str, str]], ...] = (
    (math.pi, ("π", "pi", r"\pi")), (math.sqrt(math.pi), ("√π", "sqrt(pi)", r"\sqrt{\pi}")),
    (math.sqrt(2 * math.pi), ("√(2π)", "sqrt(2 pi)", r"\sqrt{2\pi}")), (math.e, ("e", "e", "e")),
    (math.log(2), ("log(2)", "log(2)", r"\log(2)")), (math.log(10), ("log(10)", "log(10)", r"\log(10)")),
)  # fmt: skip


def rational_part(c: Number) -> tuple[Number, list[Layout], list[Layout]]:
    """``c`` > 0 as a number times named irrational numbers over others."""
    if isinstance(c, Fraction):
        return c, [], []
    for value, names in CONSTANTS:
        for outside, up in ((snapped(c / value), True), (snapped(c * value), False)):
            if isinstance(outside, Fraction):
                return outside, [Known(names)] if up else [], [] if up else [Known(names)]
    square = snapped(c * c)
    if not isinstance(square, Fraction):
        return c, [], []
    top, bottom = (Root(Num(Fraction(k))) if k != 1 else None for k in (square.numerator, square.denominator))
    return Fraction(1), [top] if top is not None else [], [bottom] if bottom is not None else []


def _scaled(scalars: Sequence[Layout], x: Layout) -> Layout:
    """Scalars in front of the first factor of an elementwise product or quotient."""
    if isinstance(x, Hadamard):
        return replace(x, items=(_scaled(scalars, x.items[0]), *x.items[1:]))
    if isinstance(x, Quotient):
        return replace(x, top=_scaled(scalars, x.top))
    if isinstance(x, Num) and x.value == 1:
        return side_by_side(scalars)
    return side_by_side([*scalars, *(x.items if isinstance(x, Juxtaposed) else (x,))])


def _reads_as_decimal(c: Fraction) -> bool:
    """Whether 0.05 is what one would write, rather than 1/20."""
    return c.denominator not in (1, 2) and len(repr(float(c))) <= 7 and Fraction(repr(float(c))) == c


# -- functions with a notation of their own ----------------------------------------------------------------------------


def _onehot_argmax(args: tuple[Layout, ...], x: Apply) -> Layout:
    name = "argmax" if x.attrs["of"] == "max" else "argmin"
    whole = len(x.attrs["axes"]) == x.args[0].ndim
    options = () if whole else (f"axis={','.join(map(str, x.attrs['axes']))}",)
    return Call("onehot", (Call(name, args, options),))


def _slice(args: tuple[Layout, ...], x: Apply) -> Layout:
    parts = zip(x.attrs["starts"], x.attrs["stops"], x.attrs["steps"], x.args[0].shape, strict=True)
    texts = [_slice_text(*p) for p in parts]
    if set(texts) == {"::-1"}:
        return Call("flip", args)
    while len(texts) > 1 and texts[-1] == ":":
        texts.pop()
    return Indexed(args[0], tuple(map(Literal, texts)))


def _slice_text(start: int, stop: int, step: int, size: int) -> str:
    if step == 1 and stop == start + 1:
        return str(start)
    first = "" if start == (0 if step > 0 else size - 1) else str(start)
    last = "" if stop >= size or stop < 0 else str(stop if step < 0 else stop - size if stop - size >= -2 else stop)
    return f"{first}:{last}" + (f":{step}" if step != 1 else "")


def _placed(args: tuple[Layout, ...], x: Apply) -> Layout:
    """Arrays put at places of an array of zeros, and added."""
    terms = []
    for arg, part, starts, steps in zip(args, x.args, x.attrs["starts"], x.attrs["steps"], strict=True):
        where = [
            _slice_text(a, a + (n - 1) * s + 1, s, size)
            for a, s, n, size in zip(starts, steps, part.shape, x.shape, strict=True)
        ]
        terms.append(Call("place", (arg,), (f"[{', '.join(where)}]",)))
    return terms[0] if len(terms) == 1 else Plus(tuple(terms))


def _constant(args: tuple[Layout, ...], x: Apply) -> Layout:
    value: Any = x.attrs["value"]
    if value.size <= 4:
        return Literal(str(value.tolist()).replace(" ", "") if value.ndim else str(value.item()))
    return Literal(f"constant[{'×'.join(map(str, value.shape))}]")


def _padded(args: tuple[Layout, ...], x: Apply) -> Layout:
    """pad(x, width), or a pair of widths per axis; a fill that is not zero is named."""
    attrs = x.attrs
    axes = zip(x.args[0].shape, attrs["shape"], attrs["starts"], attrs["steps"], strict=True)
    widths = [(start, size - start - max(0, (n - 1) * step + 1)) for n, size, start, step in axes]
    text = str(widths[0][0]) if len({w for pair in widths for w in pair}) == 1 else str(widths)
    options = [
        text,
        *(f"{key}={_plain(attrs[key])}" for key in ("steps", "fill") if not _goes_without_saying(attrs[key])),
    ]
    return Call("pad", args, tuple(options))


def _gathered(args: tuple[Layout, ...], x: Apply) -> Layout:
    axes = x.attrs["axes"]
    chosen = dict(zip(axes, args[1:], strict=True))
    upto = max(axes, default=-1) + 1
    return Indexed(args[0], tuple(chosen.get(a, Literal(":")) for a in range(upto)))


def title_of(node: Node) -> str:
    """What a loop, a branch or an equation is called: the user's function; what a factorisation is: its op."""
    return next((body.title.replace(" ", "_") for body in bodies(node).values()), node.op.name)


def _named(title: str) -> Callable[[tuple[Layout, ...], Apply], Layout]:
    """A function of its operands alone, by another name."""
    return lambda args, x: Call(title, args)


def _log_of_det(args: tuple[Layout, ...], x: Apply) -> Layout:
    return Call("log", (Fenced(Call("det", args)),))


def _result(args: tuple[Layout, ...], x: Apply) -> Layout:
    """A result of a loop, a branch or an equation, numbered from 1 where there are several.

    What else a solver tells is told of no formula, so that its solution is one result.
    """
    of, index = x.attrs["of"], x.attrs["index"]
    rule = implicit_rule_of(of)
    several = result_count(of) if rule is None or index >= rule.count else rule.count
    return Call(title_of(of), args, (f"result={index + 1}",) if several > 1 else ())


CALLS: dict[str, Callable[[tuple[Layout, ...], Apply], Layout]] = {
    "item": _result,
    "inv": lambda args, x: Raised(args[0], Num(Fraction(-1))),
    "det": _named("det"),
    "log_of_det": _log_of_det,
    "sign_of_det": lambda args, x: Call("sign", (Call("det", args),)),
    "cholesky": _named("chol"),
    "pinv": lambda args, x: Call("pinv", args[:1]),
    "sqrtm": _named("sqrtm"),
    "eigenvalues": _named("λ"),
    "eigenvectors": _named("V"),
    "singular_values": _named("σ"),
    "left_vectors": _named("U"),
    "right_vectors": lambda args, x: Transposed(Call("V", args)),
    "first_left_vectors": _named("u₁"),
    "first_right_vectors": _named("v₁"),
    "orthogonal": _named("Q"),
    "triangular": _named("R"),
    "lower": _named("lower"),
    "upper": _named("upper"),
    "expm": _named("exp"),
    "indicator": lambda args, x: Mask(args[0]),
    "real": lambda args, x: args[0],
    "cast": lambda args, x: args[0],
    "excess": lambda args, x: Mask(Relation(args[0], ">", args[1])),
    "attains": _onehot_argmax,
    "onehot": lambda args, x: Call("onehot", args),
    "absolute": lambda args, x: Fenced(args[0]),
    "power": lambda args, x: Raised(args[0], args[1]),
    "slice": _slice,
    "superpose": _placed,
    "constant": _constant,
    "unit": lambda args, x: Ident("I"),
    "iota": lambda args, x: Literal(f"0…{x.shape[0] - 1}"),
    "gather": _gathered,
    "reshape": lambda args, x: Call("reshape", args, ("×".join(map(str, x.shape)) or "()",)),
    "pad": _padded,
    "concatenate": lambda args, x: Call("concat", args, (f"axis={x.attrs['axis']}",)),
}
"""Functions that are not written name(arguments)."""
