"""Matrix notation: a product with labels as a chain of matrices and vectors.

Enters: the array factors of a `Product`.  Leaves: a `Layout`, or None where no chain says it.  A factor with two
labels is a matrix between them, one with a single label a vector there; summed labels are eliminated one by one: a
matrix and a vector become a vector, two matrices a longer chain, two vectors an inner product.  Start reading at
`Matrices.result`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

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
    is_unit,
    magnitude,
    varying_axes,
)
from gradc.explain.identities.inverses import is_inverse
from gradc.explain.layout import (
    Call,
    Fenced,
    Hadamard,
    Ident,
    Indexed,
    Juxtaposed,
    Layout,
    Mask,
    Minus,
    Num,
    Ones,
    Plus,
    Quotient,
    Raised,
    Root,
    Summed,
    Transposed,
)
from gradc.explain.naming import PART

#: how a base to a power > 0 is laid out
Power = Callable[[Formula, Number], Layout]
INDEX_LETTERS = "ijklmrstuvab"


def side_by_side(items: Sequence[Layout]) -> Layout:
    """A product of matrices, vectors and scalars; a single factor as it is."""
    return items[0] if len(items) == 1 else Juxtaposed(tuple(items))


def quotient(top: Sequence[Layout], bottom: Sequence[Layout], elementwise: bool) -> Layout:
    """The product of ``top`` over that of ``bottom``."""
    join = pointwise if elementwise else side_by_side
    above = join(top) if top else Num(Fraction(1))
    return Quotient(above, join(bottom), elementwise) if bottom else above


def pointwise(items: Sequence[Layout]) -> Layout:
    """An elementwise product; a single factor as it is."""
    return items[0] if len(items) == 1 else Hadamard(tuple(items))


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
        return side_by_side(self.items)


def transposed(x: Layout) -> Layout:
    """xᵀ, with the transpose as far inside as it goes."""
    if isinstance(x, Transposed):
        return x.inner
    if isinstance(x, Indexed) and x.base == Ident("I") and len(x.indices) == 2:
        return Indexed(x.base, x.indices[::-1], source=x.source)
    if isinstance(x, Juxtaposed):
        return Juxtaposed(tuple(transposed(i) for i in reversed(x.items)), source=x.source)
    if isinstance(x, Plus):
        each = (Minus(transposed(t.inner)) if isinstance(t, Minus) else transposed(t) for t in x.terms)
        inside = Plus(transposes_last(tuple(each)))
        if _transposes(inside) <= _transposes(x):
            return inside
    return Transposed(x, source=x.source)


def transposes_last(terms: tuple[Layout, ...]) -> tuple[Layout, ...]:
    """A before Aᵀ, where both are terms of a sum."""
    return tuple(sorted(terms, key=lambda t: isinstance(t, Transposed) and t.inner in terms))


def _transposes(x: Layout) -> int:
    """How many transposes are written in a sum of products."""
    if isinstance(x, Plus | Juxtaposed):
        return sum(map(_transposes, x.terms if isinstance(x, Plus) else x.items))
    return _transposes(x.inner) if isinstance(x, Minus) else int(isinstance(x, Transposed))


def _chained(x: Layout) -> Sequence[Layout]:
    """The factors of a product of matrices: (Ab)(cᵀD) is AbcᵀD."""
    return x.items if isinstance(x, Juxtaposed) else [x]


class Matrices:
    """One product: factors as matrices between labels and vectors at labels, summed labels eliminated one by one."""

    @classmethod
    def of(
        cls,
        power: Power,
        x: Product,
        factors: Sequence[Factor],
        averaged: frozenset[int] = frozenset(),
        strict: bool = False,
    ) -> Layout | None:
        """The product in matrix notation, or None if it has none.

        Sums over ``averaged`` are written as means, for a product that is divided by their extents; None if they are
        written as no sum.  ``strict``: vectors scale a matrix as diag(v).
        """
        common = _batch_labels(x, factors)
        if common is None or (strict and common) or any(set() < set(_real(f.labels)) <= set(common) for f in factors):
            return None  # what varies along the batch alone is no matrix of it
        if common and any(_lies_unsaid(power, f, common) for f in factors):
            return None
        try:
            chain = cls(power, x, [_stripped(f, common) for f in factors], len(common), averaged, strict)
            body = chain.result()
        except NoMatrixFormError:
            return None
        if chain.averaged:
            return None
        summed = tuple(INDEX_LETTERS[i] for i, k in enumerate(common) if k >= x.ndim)
        return Summed(summed, body) if summed else body

    def __init__(
        self,
        power: Power,
        x: Product,
        factors: Sequence[Factor],
        batch: int,
        averaged: frozenset[int],
        strict: bool,
    ):
        self.power, self.strict = power, strict
        self.averaged = set(averaged)  #: labels that are still to be written as means
        self.out = list(range(max(0, x.ndim - 2), x.ndim))
        self.row, self.column = self.out[0] if len(self.out) > 1 else None, self.out[-1] if self.out else None
        self.batch = batch
        self.first = power(factors[0].base, magnitude(factors[0].exponent))
        self.width = x.shape[-1] if x.ndim else 1
        self.edges: list[_Edge] = []
        self.pair: list[Layout] | None = None  #: an inverse and what it is multiplied by, if these two are all
        self.vectors: dict[int, tuple[list[Layout], list[Layout]]] = {}
        self.columns: set[int] = set()  #: labels whose vectors are columns (n, 1) already
        self.flat: list[Layout] = []  #: single vectors that are
        self.rows: list[Layout] = []  #: vectors that are written with matrices of one row
        self.is_row = x.ndim > 1 and x.shape[-2] == 1 and x.shape[-1] != 1
        self._collect([f for f in factors if f.labels])
        self.scalar_parts: list[Layout] = []
        self.sums = sorted({k for f in factors for k in f.labels} - {UNIT, *self.out})

    def _collect(self, factors: Sequence[Factor]) -> None:
        groups: dict[frozenset[int], list[Factor]] = {}
        for f in factors:
            real = tuple(k for k in f.labels if k != UNIT)
            if len(real) > 2 or len(set(real)) < len(real):
                raise NoMatrixFormError
            groups.setdefault(frozenset(real), []).append(f)
        for labels, members in groups.items():
            if len(labels) == 2:
                self.edges.append(self._group(members))
            else:
                (k,) = labels
                parts = [(self.power(f.base, magnitude(f.exponent)), f.exponent > 0) for f in members]
                self._note_columns(k, members, parts)
                self.rows += [part for f, (part, _) in zip(members, parts, strict=True) if _is_row(f)]
                parts.sort(key=lambda part: isinstance(part[0], Mask))
                self.vectors[k] = ([p for p, up in parts if up], [p for p, up in parts if not up])

    def _note_columns(self, k: int, members: Sequence[Factor], parts: Sequence[tuple[Layout, bool]]) -> None:
        columns = [part for f, (part, _) in zip(members, parts, strict=True) if _is_column(f) or says_axis(part)]
        self.flat += columns
        if len(columns) == len(members) or self.width == 1:
            self.columns.add(k)

    def _group(self, members: Sequence[Factor]) -> _Edge:
        """Matrices between the same two labels: one elementwise product."""
        row, column = (k for k in members[0].labels if k != UNIT)
        self.pair = self._closed(members)
        if members[0].exponent > 0 and any(_real(f.labels) == (column, row) for f in members) and row > column:
            row, column = column, row
        top, bottom = list[Layout](), list[Layout]()
        for f in members:
            item = self.power(f.base, magnitude(f.exponent))
            item = item if _real(f.labels) == (row, column) else transposed(item)
            (top if f.exponent > 0 else bottom).append(item)
        top.sort(key=lambda i: isinstance(i, Mask))
        return _Edge(row, column, [quotient(top, bottom, elementwise=True)])

    def _closed(self, members: Sequence[Factor]) -> list[Layout] | None:
        """A⁻¹ and B, where the two factors are A⁻¹ and Bᵀ; A⁻¹ alone, where the other one is the identity."""
        first = next((f for f in members if is_inverse(f.base)), None)
        if first is None or len(members) != 2 or any(f.exponent != 1 for f in members):
            return None
        (other,) = (f for f in members if f is not first)
        if is_unit(other.base):
            return [self.power(first.base, Fraction(1))]
        item = self.power(other.base, Fraction(1))
        turned = item if _real(other.labels) != _real(first.labels) else transposed(item)
        tail = list(turned.items) if isinstance(turned, Juxtaposed) else [turned]
        return [self.power(first.base, Fraction(1)), *tail]

    # -- elimination -------------------------------------------------------------------------------------------------

    def result(self) -> Layout:
        if self._whole_sum():
            if self.pair is not None:
                return Call("tr", (side_by_side(self.pair),))
            return Summed((), self.edges[0].layout, mean=self._is_mean(self.edges[0].row, self.edges[0].column))
        if len(self.edges) > 1 and not self.out and not self.vectors and all(self._degree(k) == 2 for k in self.sums):
            return self._trace()
        while self.sums:
            self._eliminate(min(self.sums, key=lambda k: (k in self.averaged, self._degree(k))))
        return self._assembled()

    def _whole_sum(self) -> bool:
        return len(self.edges) == 1 and not self.vectors and {self.edges[0].row, self.edges[0].column} == set(self.sums)

    def _is_mean(self, *labels: int) -> bool:
        """Whether the sum over ``labels`` is to be written as a mean; it then is."""
        if not set(labels) <= self.averaged:
            return False
        self.averaged -= set(labels)
        return True

    def _touching(self, k: int | None) -> list[_Edge]:
        return [e for e in self.edges if k in (e.row, e.column)]

    def _degree(self, k: int) -> int:
        return len(self._touching(k))

    def _eliminate(self, k: int) -> None:
        self.sums.remove(k)
        touching = self._touching(k)
        top, bottom = as_they_stand = self.vectors.pop(k, ([], []))
        if touching or len(top) > 1:
            top, bottom = self._columns(top), self._columns(bottom)
        if len(touching) > 2:
            raise NoMatrixFormError
        self.edges = [e for e in self.edges if e not in touching]
        if not touching:
            mean = len(top) < 2 and self._is_mean(k)
            self.scalar_parts.append(_inner_product(top, bottom, self.first, mean))
        elif (
            len(touching) == 1 and not self.strict and not bottom and (not top or self._scales_columns(touching[0], k))
        ):
            self._summed_along(touching[0], k, as_they_stand[0])
        elif len(touching) == 1:
            self._times_vector(touching[0], k, quotient(top, bottom, True) if top or bottom else Ones())
        else:
            self._chain(touching[0], touching[1], k, quotient(top, bottom, True) if top or bottom else None)

    def _scales_columns(self, edge: _Edge, k: int) -> bool:
        """Whether Σⱼ (A ⊙ v) reads better than Av: an elementwise product, or a column that is shown again in rows,
        which it is not in an outer product with what lies along them."""
        if k == edge.column and len(edge.items) == 1 and isinstance(edge.items[0], Hadamard):
            return True
        other = edge.row if edge.column == k else edge.column
        shown = other == self.row and self.column is not None and self.width > 1
        return shown and not self._touching(self.column) and self.column not in self.vectors

    def _summed_along(self, edge: _Edge, k: int, scales: Sequence[Layout]) -> None:
        """Σᵢ A or Σⱼ A: the vector that is left of a matrix, which says itself along which axis it lies."""
        other = edge.row if edge.column == k else edge.column
        sides = [edge.from_(edge.row), edge.from_(edge.column)]
        best = edge.from_(other) if scales else min(sides, key=lambda side: sum(map(_transposes, side.items)))
        items = best.items
        if scales:
            body = side_by_side(items)
            items = [pointwise([*(body.items if isinstance(body, Hadamard) else (body,)), *scales])]
        letter = INDEX_LETTERS[self.batch + (best.column == k)]
        total = Summed((letter,), side_by_side(items), mean=self._is_mean(k))
        self.flat.append(total)
        top, bottom = self.vectors.setdefault(other, ([], []))
        top.append(total)
        if all(self._is_flat(v) for v in (*top, *bottom)):
            self.columns.add(other)
        else:
            self.columns.discard(other)

    def _times_vector(self, edge: _Edge, k: int, v: Layout) -> None:
        other = edge.row if edge.column == k else edge.column
        oriented = edge.from_(other)
        tail = list(v.items) if isinstance(v, Juxtaposed) else [v]
        top, _ = self.vectors.setdefault(other, ([], []))
        found = side_by_side([*oriented.items, *tail])
        if self.is_row and other == self.column:
            found = transposed(found)
            self.rows.append(found)
        top.append(found)
        self.columns.discard(other)

    def _columns(self, vectors: Sequence[Layout]) -> list[Layout]:
        """Vectors as columns, where a matrix of one row is one when it is transposed."""
        return [transposed(v) if any(v is row for row in self.rows) else v for v in vectors]

    def _chain(self, a: _Edge, b: _Edge, k: int, v: Layout | None) -> None:
        start = a.row if a.column == k else a.column
        end = b.row if b.column == k else b.column
        if start == end:
            raise NoMatrixFormError
        if start > end:
            a, b, start, end = b, a, end, start
        middle = [Call("diag", (v,))] if v is not None else []
        items = [*a.from_(start).items, *middle, *b.from_(k).items]
        parallel = [e for e in self.edges if {e.row, e.column} == {start, end}]
        if parallel:  # an elementwise product of a chain with what lies beside it
            self.edges = [e for e in self.edges if e not in parallel]
            beside = [e.from_(start).layout for e in parallel]
            items = [Hadamard((side_by_side(items), *beside))]
        self.edges.append(_Edge(start, end, items))

    def _trace(self) -> Layout:
        """A closed chain, begun at its first matrix."""
        first, *rest = self.edges
        items, end = list(first.items), first.column
        while rest:
            following = next((e for e in rest if end in (e.row, e.column)), None)
            if following is None or end == first.row:
                raise NoMatrixFormError
            rest.remove(following)
            items += following.from_(end).items
            end = following.column if following.row == end else following.row
        back = [transposed(i) for i in reversed(items)]
        return Call("tr", (side_by_side(min(items, back, key=lambda side: sum(map(_transposes, side)))),))

    def _assembled(self) -> Layout:
        if any(e.row not in self.out or e.column not in self.out for e in self.edges) or len(self.edges) > 1:
            raise NoMatrixFormError
        if self.row is None or self.column is None:
            known = self.column is not None and self.column in self.vectors
            body = self._vector(self.column, as_it_stands=True) if known and self.column is not None else None
        else:
            body = self._matrix(self.row, self.column)
        if body is None and not self.scalar_parts:
            raise NoMatrixFormError
        return side_by_side([*self.scalar_parts, *([body] if body is not None else [])])

    def _vector(self, k: int, as_it_stands: bool = False) -> Layout:
        top, bottom = self.vectors[k] if as_it_stands else map(self._columns, self.vectors[k])
        return quotient(top, bottom, elementwise=True)

    def _matrix(self, row: int, column: int) -> Layout | None:
        if not self.edges:
            left = self._vector(row) if row in self.vectors else None
            right = self._vector(column) if column in self.vectors else None
            if left is None:
                return self._vector(column, as_it_stands=True) if right is not None else None
            if right is not None:
                return side_by_side([*_chained(left), *_chained(transposed(right))])
            return left if row in self.columns or self.width == 1 else _repeated(left)
        if self.edges[0].items == [Ident("I")] and len(self.vectors) == 1:
            return Call("diag", (self._vector(next(iter(self.vectors))),))
        if self.strict:
            return self._between_diagonals(row, column)
        top, bottom = [self.edges[0].from_(row).layout], list[Layout]()
        for k in (row, column):
            above, below = self.vectors.get(k, ([], []))
            if k == row:
                above, below = self._columns(above), self._columns(below)
            repeat = k == row and k not in self.columns
            top += [_repeated(v) if repeat and not self._is_flat(v) else v for v in above]
            bottom += [_repeated(v) if repeat and not self._is_flat(v) else v for v in below]
        return quotient(top, bottom, elementwise=True)

    def _between_diagonals(self, row: int, column: int) -> Layout:
        """diag(u) A diag(v)."""
        left, right = ([Call("diag", (self._vector(k),))] if k in self.vectors else [] for k in (row, column))
        return side_by_side([*left, *self.edges[0].from_(row).items, *right])

    def _is_flat(self, v: Layout) -> bool:
        return any(v is part for part in self.flat)


def _is_column(f: Factor) -> bool:
    """Whether a vector is written with columns (n, 1) that the user named, so that it broadcasts as it stands."""
    base = f.base
    if isinstance(base, Symbol):
        return base.ndim == 2 and base.shape[1] == 1 and not base.name.startswith(PART)
    if isinstance(base, Product):
        return all(_is_column(g) for g in base.factors if 0 in g.labels) and not base.summed
    if isinstance(base, Sum):
        return all(_is_column(Factor(t, (0,))) for t in base.terms if varying_axes(t))
    return (
        isinstance(base, Apply)
        and base.pointwise
        and all(_is_column(Factor(a, (0,))) for a in base.args if varying_axes(a))
    )


def _is_row(f: Factor) -> bool:
    """Whether a vector is written with matrices of one row (1, n)."""
    base = f.base
    if isinstance(base, Apply) and not base.pointwise:
        return False  # a row x[1] of a matrix is a vector
    if isinstance(base, Symbol):
        return base.ndim > 1 and base.shape[-2] == 1 and base.shape[-1] != 1
    if isinstance(base, Product):
        return not base.summed and any(map(_is_row, base.factors))
    return any(_is_row(in_place(part)) for part in base.parts if varying_axes(part))


def says_axis(x: Layout) -> bool:
    """Whether ``x`` says itself along which axis it lies: it is made of a sum over the other."""
    match x:
        case Summed(indices) | Call(below=indices):
            return bool(indices)
        case Ident():
            return x.lies
        case Quotient(top):
            return says_axis(top)
        case Root(inner) | Raised(inner) | Minus(inner):
            return says_axis(inner)
        case Juxtaposed(parts):
            return any(map(says_axis, parts))
        case Plus(parts):
            arrays = [part for part in parts if not _is_number(part)]
            return bool(arrays) and all(map(says_axis, arrays))
    return False


def with_repeated_columns(terms: Sequence[Layout]) -> tuple[Layout, ...]:
    """The terms of a matrix, of which none is one: where some are columns and some rows, columns show that they repeat.

    v − Σⱼ A would be the difference of two vectors.
    """
    along = [varying_axes(t.source) if t.source is not None else frozenset((0, 1)) for t in terms]
    if any(len(axes) > 1 for axes in along) or not {0, 1} <= frozenset().union(*along):
        return tuple(terms)
    return tuple(_shown_again(t) if 0 in axes else t for t, axes in zip(terms, along, strict=True))


def _shown_again(x: Layout) -> Layout:
    if isinstance(x, Minus):
        return replace(x, inner=_shown_again(x.inner))
    if isinstance(x, Juxtaposed) and x.items[-1] == Transposed(Ones()):
        return x
    return replace(_repeated(x), source=x.source)


def _is_number(x: Layout) -> bool:
    """Whether ``x`` is the same along all axes."""
    return isinstance(x, Num) or (x.source is not None and not varying_axes(x.source))


class NoMatrixFormError(Exception):
    """The product is no chain of matrices and vectors."""


def _real(labels: Labels) -> Labels:
    return tuple(k for k in labels if k != UNIT)


def _repeated(column: Layout) -> Layout:
    items = column.items if isinstance(column, Juxtaposed) else (column,)
    return side_by_side([*items, Transposed(Ones())])


def _inner_product(top: Sequence[Layout], bottom: Sequence[Layout], first: Layout, mean: bool) -> Layout:
    """Σ of an elementwise product of vectors: uᵀv where there are two."""
    square = len(top) == 1 and not bottom and isinstance(top[0], Raised) and top[0].exponent == Num(Fraction(2))
    if square and not mean and isinstance(top[0], Raised):
        return Raised(Fenced(top[0].base, double=True), top[0].exponent)
    if len(top) < 2:
        return Summed((), quotient(top, bottom, elementwise=True), mean=mean)
    chain = next((v for v in top if isinstance(v, Juxtaposed)), top[-1])
    rest = [v for v in top if v is not chain]
    items = [
        transposed(quotient(rest, bottom, elementwise=True)),
        *(chain.items if isinstance(chain, Juxtaposed) else (chain,)),
    ]
    back = [transposed(i) for i in reversed(items)]
    return side_by_side(min(items, back, key=lambda side: (sum(map(_transposes, side)), side[0] != transposed(first))))


def _batch_labels(x: Product, factors: Sequence[Factor]) -> tuple[int, ...] | None:
    """Leading labels that are not written because every factor of rank above two begins with them."""
    expected = tuple(range(max(0, x.ndim - 2)))
    deepest = max((_real(f.labels) for f in factors), key=len)
    common = deepest[: max(len(expected), len(deepest) - 2)] if len(deepest) > 2 else expected
    if common[: len(expected)] != expected or any(k < x.ndim for k in common[len(expected) :]):
        return None
    fits = all(_real(f.labels)[: len(common)] == common or not set(f.labels) & set(common) for f in factors)
    return common if fits else None


def _lies_unsaid(power: Power, f: Factor, common: tuple[int, ...]) -> bool:
    """Whether a factor is an array of vectors, one for each index of the batch, that would be read as a matrix.

    An array of columns (…, n, 1) is none, nor is what says itself along which axis it lies.
    """
    real = _real(f.labels)
    if not set(common) <= set(real) or len(real) != len(common) + 1 or _is_stack(f.base, len(common) + 2):
        return False
    return not says_axis(power(f.base, magnitude(f.exponent)))


def _is_stack(x: Formula, rank: int) -> bool:
    """Whether ``x`` is written with arrays of columns (…, n, 1) of that rank."""
    if isinstance(x, Product) and x.summed:
        return False
    if isinstance(x, Product | Sum) or (isinstance(x, Apply) and x.pointwise):
        return all(_is_stack(part, rank) for part in x.parts if part.ndim)
    return x.ndim == rank and x.shape[-1] == 1


def _stripped(f: Factor, common: tuple[int, ...]) -> Factor:
    """The factor for one index of the batch; only its labels are looked at from here on."""
    return Factor(f.base, tuple(k for k in f.labels if k not in common), f.exponent)
