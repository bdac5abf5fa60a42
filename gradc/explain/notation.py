"""Formulas to notation: what a mathematician writes for an index-labelled product.

Enters: a `Formula`.  Leaves: a `Layout`, the tree that every printer (text, LaTeX, …) walks; each piece keeps the formula
that it shows, and through it the graph nodes and source lines.
Conventions: a vector is a column; a matrix plus or times a vector without further marks adds or scales row by row, as NumPy
broadcasts; `u1ᵀ` repeats a column; leading batch axes that all factors share are not written; what no chain of matrices can
say is written with indices.  Start reading at `Notation.layout`, then `_Matrices`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    snapped,
    split,
    varying_axes,
)


@dataclass(frozen=True)
class Layout:
    """A piece of notation; ``source`` is the formula it shows."""

    source: Formula | None = field(default=None, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True)
class Ident(Layout):
    """A name, with what stands below it."""

    name: str
    below: str = ""


@dataclass(frozen=True)
class Num(Layout):
    """A number ≥ 0."""

    value: Number


@dataclass(frozen=True)
class Known(Layout):
    """A number that has a name, in Unicode, ASCII and LaTeX."""

    names: tuple[str, str, str]


@dataclass(frozen=True)
class Literal(Layout):
    """Text that is shown as it is: a slice, a small array."""

    text: str


@dataclass(frozen=True)
class Minus(Layout):
    inner: Layout


@dataclass(frozen=True)
class Plus(Layout):
    """A sum; negative terms are `Minus`."""

    terms: tuple[Layout, ...]


@dataclass(frozen=True)
class Juxtaposed(Layout):
    """A product of matrices, vectors and scalars, written side by side."""

    items: tuple[Layout, ...]


@dataclass(frozen=True)
class Hadamard(Layout):
    """An elementwise product."""

    items: tuple[Layout, ...]


@dataclass(frozen=True)
class Quotient(Layout):
    """top / bottom; ``pointwise`` if both are arrays."""

    top: Layout
    bottom: Layout
    pointwise: bool = False


@dataclass(frozen=True)
class Raised(Layout):
    base: Layout
    exponent: Layout


@dataclass(frozen=True)
class Root(Layout):
    inner: Layout


@dataclass(frozen=True)
class Transposed(Layout):
    inner: Layout


@dataclass(frozen=True)
class Call(Layout):
    """A function of arguments; ``options`` are written after them."""

    name: str
    args: tuple[Layout, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mask(Layout):
    """1 where the condition holds, 0 elsewhere."""

    condition: Layout


@dataclass(frozen=True)
class Relation(Layout):
    left: Layout
    sign: str
    right: Layout


@dataclass(frozen=True)
class Fenced(Layout):
    """Between bars: |x| or ‖x‖."""

    inner: Layout
    double: bool = False


@dataclass(frozen=True)
class Summed(Layout):
    """Σ over ``indices``, or over everything if none is named."""

    indices: tuple[str, ...]
    body: Layout


@dataclass(frozen=True)
class Indexed(Layout):
    base: Layout
    indices: tuple[Layout, ...]


@dataclass(frozen=True)
class Tensor(Layout):
    """The array whose element at ``indices`` is ``body``."""

    indices: tuple[str, ...]
    body: Layout


@dataclass(frozen=True)
class Ones(Layout):
    """The vector of ones."""


@dataclass(frozen=True)
class Derivative(Layout):
    """∂of/∂by, or ∂by for a cotangent."""

    of: Layout | None
    by: Layout


INDEX_LETTERS = "ijklmrstuvab"
RELATIONS = {"equal": "=", "not_equal": "≠", "less": "<", "less_equal": "≤", "greater": ">", "greater_equal": "≥"}
CALL_NAMES = {
    "sigmoid": "σ", "normal_cdf": "Φ", "normal_pdf": "φ", "logsumexp": "lse", "maximum": "max", "minimum": "min",
    "logical_and": "and", "logical_or": "or", "logical_not": "not", "bitwise_invert": "not", "lgamma": "logΓ", "digamma": "ψ",
}  # fmt: skip
#: attribute values that go without saying
USUAL = (None, False, 0, "mean", "none")


class Notation:
    """Lays formulas out; ``idents`` says how quantities are written."""

    def __init__(self, idents: Mapping[str, Ident]):
        self.idents = idents

    def layout(self, x: Formula) -> Layout:
        """The notation for ``x``."""
        if isinstance(x, Symbol):
            return replace(self.idents.get(x.name) or Ident(x.name), source=x)
        if isinstance(x, Product):
            return replace(self._product(x), source=x)
        if isinstance(x, Sum):
            return Plus(self._ordered(x.terms), source=x)
        assert isinstance(x, Apply)
        return replace(self._call(x), source=x)

    def _ordered(self, terms: Sequence[Formula]) -> tuple[Layout, ...]:
        """The terms as they come, but a positive one first."""
        first = next((i for i, t in enumerate(terms) if split(t)[0] > 0), 0)
        return tuple(self.layout(t) for t in (terms[first], *terms[:first], *terms[first + 1 :]))

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
        scalars = [f for f in x.factors if all(k == UNIT for k in f.labels)]
        arrays = [f for f in x.factors if not all(k == UNIT for k in f.labels)]
        top = sorted((self.power(f.base, f.exponent) for f in scalars if f.exponent > 0), key=_reading_order)
        bottom = [self.power(f.base, -f.exponent) for f in scalars if f.exponent < 0]
        return _with_scalars(x.coef, top, bottom, self._arrays(x, arrays) if arrays else None)

    def _arrays(self, x: Product, factors: Sequence[Factor]) -> Layout:
        found = _Matrices.of(self, x, factors)
        return found if found is not None else self._with_indices(x, factors)

    def _with_indices(self, x: Product, factors: Sequence[Factor]) -> Layout:
        """Every axis written as an index: always possible."""
        letters = _letters({k for f in factors for k in f.labels if k != UNIT} | set(range(x.ndim)))
        top = [self._indexed(f, letters) for f in factors if f.exponent > 0]
        bottom = [self._indexed(f, letters) for f in factors if f.exponent < 0]
        body = _quotient(top, bottom, pointwise=False)
        sums = tuple(letters[k] for k in sorted(x.summed))
        out = tuple(letters[k] for k in range(x.ndim))
        return Tensor(out, Summed(sums, body) if sums else body) if out else Summed(sums, body)

    def _indexed(self, f: Factor, letters: Mapping[int, str]) -> Layout:
        base = self.layout(f.base)
        inside = tuple(Ident(letters[k]) if k != UNIT else Num(Fraction(0)) for k in f.labels)
        element = Indexed(base, inside)
        return element if abs(f.exponent) == 1 else Raised(element, Num(abs(f.exponent)))

    # -- functions ---------------------------------------------------------------------------------------------------

    def _call(self, x: Apply) -> Layout:
        args = tuple(map(self.layout, x.args))
        special = CALLS.get(x.name)
        if special is not None and x.attrs_key[:1] != ("composite",):  # type: ignore[index]
            return special(args, x)
        if x.name in RELATIONS:
            return Relation(args[0], RELATIONS[x.name], args[1])
        return Call(CALL_NAMES.get(x.name, x.name), args, _options(x))


def _letters(labels: set[int]) -> dict[int, str]:
    return {k: INDEX_LETTERS[i % len(INDEX_LETTERS)] for i, k in enumerate(sorted(labels))}


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
    for key, value in x.attrs.items():
        if key in ("axis", "axes") and (value in (*assumed, None) or value == tuple(range(rank))):
            continue
        name = "axis" if key == "axes" else key
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if name == "axis" or (value not in USUAL and key not in ("keepdims", "of")):
            shown.append(f"{name}={text}")
    return tuple(shown)


# -- scalars around an array part ----------------------------------------------------------------------------------------


def _with_scalars(coef: Number, top: Sequence[Layout], bottom: Sequence[Layout], array: Layout | None) -> Layout:
    """−c · (scalars) · array / (scalars)."""
    number, above, below = rational_part(abs(coef))
    over, under = [*above, *top], [*below, *bottom]
    if isinstance(number, Fraction) and not _reads_as_decimal(number) and (number != Fraction(1, 2) or bottom):
        if number.denominator != 1:
            under.insert(0, Num(Fraction(number.denominator)))
        number = Fraction(number.numerator)
    if number != 1 or not (over or array):
        over.insert(0, Num(number))
    body: Layout
    if array is None:
        body = _side_by_side(over)
    elif isinstance(array, Hadamard | Quotient) and over:
        body = _scaled(over, array)
    else:
        body = _side_by_side([*over, *(array.items if isinstance(array, Juxtaposed) else (array,))])
    if under:
        body = Quotient(body, _side_by_side(under))
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
        return _side_by_side(scalars)
    return _side_by_side([*scalars, *(x.items if isinstance(x, Juxtaposed) else (x,))])


def _reads_as_decimal(c: Fraction) -> bool:
    """Whether 0.05 is what one would write, rather than 1/20."""
    return c.denominator not in (1, 2) and len(repr(float(c))) <= 7 and Fraction(repr(float(c))) == c


def _side_by_side(items: Sequence[Layout]) -> Layout:
    return items[0] if len(items) == 1 else Juxtaposed(tuple(items))


def _quotient(top: Sequence[Layout], bottom: Sequence[Layout], pointwise: bool) -> Layout:
    """The product of ``top`` over that of ``bottom``."""
    join: Callable[[Sequence[Layout]], Layout] = _pointwise if pointwise else _side_by_side
    above = join(top) if top else Num(Fraction(1))
    return Quotient(above, join(bottom), pointwise) if bottom else above


def _pointwise(items: Sequence[Layout]) -> Layout:
    return items[0] if len(items) == 1 else Hadamard(tuple(items))


# -- matrix notation -------------------------------------------------------------------------------------------------------


@dataclass
class _Edge:
    """A matrix between two labels: items side by side, rows at ``row``, columns at ``column``."""

    row: int
    column: int
    items: list[Layout]

    def from_(self, label: int) -> _Edge:
        """The same matrix with its rows at ``label``."""
        if self.row == label:
            return self
        return _Edge(self.column, self.row, [transposed(x) for x in reversed(self.items)])

    @property
    def layout(self) -> Layout:
        return _side_by_side(self.items)


def transposed(x: Layout) -> Layout:
    """xᵀ, with the transpose as far inside as it goes."""
    if isinstance(x, Transposed):
        return x.inner
    if isinstance(x, Juxtaposed):
        return Juxtaposed(tuple(transposed(i) for i in reversed(x.items)), source=x.source)
    if isinstance(x, Plus):
        inside = Plus(tuple(Minus(transposed(t.inner)) if isinstance(t, Minus) else transposed(t) for t in x.terms))
        if _transposes(inside) <= _transposes(x):
            return inside
    return Transposed(x, source=x.source)


def _transposes(x: Layout) -> int:
    """How many transposes are written in a sum of products."""
    if isinstance(x, Plus | Juxtaposed):
        return sum(map(_transposes, x.terms if isinstance(x, Plus) else x.items))
    return _transposes(x.inner) if isinstance(x, Minus) else int(isinstance(x, Transposed))


class _Matrices:
    """One product: factors as matrices between labels and vectors at labels, summed labels eliminated one by one."""

    @classmethod
    def of(cls, notation: Notation, x: Product, factors: Sequence[Factor]) -> Layout | None:
        """The product in matrix notation, or None if it has none."""
        common = _batch_labels(x, factors)
        if common is None:
            return None
        try:
            body = cls(notation, x, [_stripped(f, common) for f in factors], len(common)).result()
        except _NoMatrixForm:
            return None
        summed = tuple(INDEX_LETTERS[i] for i, k in enumerate(common) if k >= x.ndim)
        return Summed(summed, body) if summed else body

    def __init__(self, notation: Notation, x: Product, factors: Sequence[Factor], batch: int):
        self.notation = notation
        self.out = [k for k in range(max(0, x.ndim - 2), x.ndim)]
        self.row, self.column = self.out[0] if len(self.out) > 1 else None, self.out[-1] if self.out else None
        self.batch = batch
        self.first = notation.power(factors[0].base, abs(factors[0].exponent))
        self.width = x.shape[-1] if x.ndim else 1
        self.edges: list[_Edge] = []
        self.vectors: dict[int, tuple[list[Layout], list[Layout]]] = {}
        self.columns: set[int] = set()  #: labels whose vectors are columns (n, 1) already
        self._collect([f for f in factors if f.labels])
        self.scalar_parts: list[Layout] = []
        self.sums = sorted({k for f in factors for k in f.labels} - {UNIT, *self.out})

    def _collect(self, factors: Sequence[Factor]) -> None:
        groups: dict[frozenset[int], list[Factor]] = {}
        for f in factors:
            real = tuple(k for k in f.labels if k != UNIT)
            if len(real) > 2 or len(set(real)) < len(real):
                raise _NoMatrixForm
            groups.setdefault(frozenset(real), []).append(f)
        for labels, members in groups.items():
            if len(labels) == 2:
                self.edges.append(self._group(members))
            else:
                (k,) = labels
                parts = [(self.notation.power(f.base, abs(f.exponent)), f.exponent > 0) for f in members]
                self.vectors[k] = ([p for p, up in parts if up], [p for p, up in parts if not up])
                if all(_is_column(f) for f in members) or self.width == 1:
                    self.columns.add(k)

    def _group(self, members: Sequence[Factor]) -> _Edge:
        """Matrices between the same two labels: one elementwise product."""
        row, column = (k for k in members[0].labels if k != UNIT)
        if members[0].exponent > 0 and any(_real(f.labels) == (column, row) for f in members) and row > column:
            row, column = column, row
        top, bottom = [], []
        for f in members:
            item = self.notation.power(f.base, abs(f.exponent))
            item = item if _real(f.labels) == (row, column) else transposed(item)
            (top if f.exponent > 0 else bottom).append(item)
        top.sort(key=lambda i: isinstance(i, Mask))
        return _Edge(row, column, [_quotient(top, bottom, pointwise=True)])

    # -- elimination -------------------------------------------------------------------------------------------------

    def result(self) -> Layout:
        if self._whole_sum():
            return Summed((), self.edges[0].layout)
        column_sum = self._column_sum()
        if column_sum is not None:
            return column_sum
        while self.sums:
            self._eliminate(min(self.sums, key=self._degree))
        return self._assembled()

    def _whole_sum(self) -> bool:
        return len(self.edges) == 1 and not self.vectors and {self.edges[0].row, self.edges[0].column} == set(self.sums)

    def _column_sum(self) -> Layout | None:
        """Σᵢ A[i], for the sum over the rows of one named matrix."""
        if len(self.edges) != 1 or self.vectors or self.sums != [self.edges[0].row]:
            return None
        (item,) = self.edges[0].items
        letter = INDEX_LETTERS[self.batch]
        return Summed((letter,), Indexed(item, (Ident(letter),))) if isinstance(item, Ident) else None

    def _touching(self, k: int) -> list[_Edge]:
        return [e for e in self.edges if k in (e.row, e.column)]

    def _degree(self, k: int) -> int:
        return len(self._touching(k))

    def _eliminate(self, k: int) -> None:
        self.sums.remove(k)
        touching = self._touching(k)
        top, bottom = self.vectors.pop(k, ([], []))
        if len(touching) > 2:
            raise _NoMatrixForm
        self.edges = [e for e in self.edges if e not in touching]
        if not touching:
            self.scalar_parts.append(_inner_product(top, bottom, self.first))
        elif len(touching) == 1:
            self._times_vector(touching[0], k, _quotient(top, bottom, True) if top or bottom else Ones())
        else:
            self._chain(touching[0], touching[1], k, _quotient(top, bottom, True) if top or bottom else None)

    def _times_vector(self, edge: _Edge, k: int, v: Layout) -> None:
        other = edge.row if edge.column == k else edge.column
        oriented = edge.from_(other)
        tail = list(v.items) if isinstance(v, Juxtaposed) else [v]
        top, _ = self.vectors.setdefault(other, ([], []))
        top.append(_side_by_side([*oriented.items, *tail]))
        self.columns.discard(other)

    def _chain(self, a: _Edge, b: _Edge, k: int, v: Layout | None) -> None:
        start = a.row if a.column == k else a.column
        end = b.row if b.column == k else b.column
        if start == end:
            self._trace(a, b, start, k, v)
            return
        if start > end:
            a, b, start, end = b, a, end, start
        middle = [Call("diag", (v,))] if v is not None else []
        items = [*a.from_(start).items, *middle, *b.from_(k).items]
        parallel = [e for e in self.edges if {e.row, e.column} == {start, end}]
        if parallel:  # an elementwise product of a chain with what lies beside it
            self.edges = [e for e in self.edges if e not in parallel]
            beside = [e.from_(start).layout for e in parallel]
            items = [Hadamard((_side_by_side(items), *beside))]
        self.edges.append(_Edge(start, end, items))

    def _trace(self, a: _Edge, b: _Edge, start: int, k: int, v: Layout | None) -> None:
        """A·B with both ends summed together."""
        if start not in self.sums or self._touching(start) or start in self.vectors or v is not None:
            raise _NoMatrixForm
        self.sums.remove(start)
        forth = [*a.from_(start).items, *b.from_(k).items]
        back = [transposed(i) for i in reversed(forth)]
        self.scalar_parts.append(Call("tr", (_side_by_side(min(forth, back, key=lambda side: sum(map(_transposes, side)))),)))

    def _assembled(self) -> Layout:
        if any(e.row not in self.out or e.column not in self.out for e in self.edges) or len(self.edges) > 1:
            raise _NoMatrixForm
        if self.row is None or self.column is None:
            body = self._vector(self.column) if self.column is not None and self.column in self.vectors else None
        else:
            body = self._matrix(self.row, self.column)
        if body is None and not self.scalar_parts:
            raise _NoMatrixForm
        return _side_by_side([*self.scalar_parts, *([body] if body is not None else [])])

    def _vector(self, k: int) -> Layout:
        top, bottom = self.vectors[k]
        return _quotient(top, bottom, pointwise=True)

    def _matrix(self, row: int, column: int) -> Layout | None:
        if not self.edges:
            left = self._vector(row) if row in self.vectors else None
            right = self._vector(column) if column in self.vectors else None
            if left is None:
                return right
            if right is not None:
                return _side_by_side([left, transposed(right)])
            return left if row in self.columns or self.width == 1 else _repeated(left)
        if self.edges[0].items == [Ident("I")] and len(self.vectors) == 1:
            return Call("diag", (self._vector(*self.vectors),))
        top, bottom = [self.edges[0].from_(row).layout], list[Layout]()
        for k in (row, column):
            above, below = self.vectors.get(k, ([], []))
            repeat = k == row and k not in self.columns
            top += [_repeated(v) if repeat else v for v in above]
            bottom += [_repeated(v) if repeat else v for v in below]
        return _quotient(top, bottom, pointwise=True)


def _is_column(f: Factor) -> bool:
    """Whether a vector is written with columns (n, 1), so that it broadcasts as it stands."""
    base = f.base
    if base.ndim == 2 and base.shape[1] == 1:
        return True
    if isinstance(base, Product):
        return all(_is_column(g) for g in base.factors if 0 in g.labels) and not base.summed
    if isinstance(base, Sum):
        return all(_is_column(Factor(t, (0,))) for t in base.terms if varying_axes(t))
    return isinstance(base, Apply) and base.pointwise and all(_is_column(Factor(a, (0,))) for a in base.args if varying_axes(a))


class _NoMatrixForm(Exception):
    """The product is no chain of matrices and vectors."""


def _real(labels: Labels) -> Labels:
    return tuple(k for k in labels if k != UNIT)


def _repeated(column: Layout) -> Layout:
    items = column.items if isinstance(column, Juxtaposed) else (column,)
    return _side_by_side([*items, Transposed(Ones())])


def _inner_product(top: Sequence[Layout], bottom: Sequence[Layout], first: Layout) -> Layout:
    """Σ of an elementwise product of vectors: uᵀv where there are two."""
    if len(top) == 1 and not bottom and isinstance(top[0], Raised) and top[0].exponent == Num(Fraction(2)):
        return Raised(Fenced(top[0].base, double=True), top[0].exponent)
    if len(top) < 2:
        return Summed((), _quotient(top, bottom, pointwise=True))
    chain = next((v for v in top if isinstance(v, Juxtaposed)), top[-1])
    rest = [v for v in top if v is not chain]
    items = [transposed(_quotient(rest, bottom, pointwise=True)), *(chain.items if isinstance(chain, Juxtaposed) else (chain,))]
    back = [transposed(i) for i in reversed(items)]
    return _side_by_side(min(items, back, key=lambda side: (sum(map(_transposes, side)), side[0] != transposed(first))))


def _batch_labels(x: Product, factors: Sequence[Factor]) -> tuple[int, ...] | None:
    """Leading labels that are not written because every factor of rank above two begins with them."""
    expected = tuple(range(max(0, x.ndim - 2)))
    deepest = max((_real(f.labels) for f in factors), key=len)
    common = deepest[: max(len(expected), len(deepest) - 2)] if len(deepest) > 2 else expected
    if common[: len(expected)] != expected or any(k < x.ndim for k in common[len(expected) :]):
        return None
    fits = all(_real(f.labels)[: len(common)] == common or not set(f.labels) & set(common) for f in factors)
    return common if fits else None


def _stripped(f: Factor, common: tuple[int, ...]) -> Factor:
    """The factor for one index of the batch; only its labels are looked at from here on."""
    return Factor(f.base, tuple(k for k in f.labels if k not in common), f.exponent)


# -- functions with a notation of their own ------------------------------------------------------------------------------


def _onehot_argmax(args: tuple[Layout, ...], x: Apply) -> Layout:
    name = "argmax" if x.attrs["of"] == "max" else "argmin"
    whole = len(x.attrs["axes"]) == x.args[0].ndim
    options = () if whole else (f"axis={','.join(map(str, x.attrs['axes']))}",)
    return Call("onehot", (Call(name, args, options),))


def _slice(args: tuple[Layout, ...], x: Apply) -> Layout:
    parts = zip(x.attrs["starts"], x.attrs["stops"], x.attrs["steps"], x.args[0].shape, strict=True)
    return Indexed(args[0], tuple(Literal(_slice_text(*p)) for p in parts))


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


def _gathered(args: tuple[Layout, ...], x: Apply) -> Layout:
    axes = x.attrs["axes"]
    chosen = dict(zip(axes, args[1:], strict=True))
    upto = max(axes, default=-1) + 1
    return Indexed(args[0], tuple(chosen.get(a, Literal(":")) for a in range(upto)))


CALLS: dict[str, Callable[[tuple[Layout, ...], Apply], Layout]] = {
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
    "concatenate": lambda args, x: Call("concat", args, (f"axis={x.attrs['axis']}",)),
}
"""Functions that are not written name(arguments)."""

__all__ = ["Layout", "Notation", "transposed"]
