"""The notation tree: what every printer (text, LaTeX, …) walks.

Invariant: a `Layout` says what is written and in which structure, never how; each piece keeps the formula that it
shows, and through it the graph nodes and source lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gradc.explain.formula import Formula, Number

#: where a name that tells the place of a list's element has the number of the element
PLACE = "[l]"


@dataclass(frozen=True)
class Layout:
    """A piece of notation; ``source`` is the formula it shows."""

    source: Formula | None = field(default=None, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True)
class Ident(Layout):
    """A name, with what stands below it, and its place in a row of equals: above in brackets if below is taken.

    A name with a `PLACE`, ``params[l].W``, has its index there.
    ``lies`` tells of a part that its own line says along which axis of a matrix it lies.
    """

    name: str
    below: str = ""
    index: int | None = None
    lies: bool = field(default=False, compare=False, repr=False)


def scripts(x: Ident, number: str = "") -> tuple[str, str, str]:
    """A name as it is written, what stands below it and what above it; ``number`` is in the place of its own."""
    if x.index is None:
        return x.name, number or x.below, ""
    number = number or str(x.index)
    return (x.name.replace(PLACE, f"[{number}]"), "", "") if PLACE in x.name else (x.name, x.below, number)


@dataclass(frozen=True)
class Running(Layout):
    """A name (or an index) of a folded rule, whose number is ``factor``·l + ``offset``.

    ``first`` is a member of the row: an `Ident` with a number below or as index, or a `Literal` that is a number.
    """

    first: Ident | Literal
    factor: int
    offset: int

    @property
    def number(self) -> str:
        """The number as a term in l."""
        times = {1: "", -1: "−"}.get(self.factor, str(self.factor).replace("-", "−"))
        sign = "+" if self.offset > 0 else "−"
        return f"{times}l{sign}{abs(self.offset)}" if self.offset else f"{times}l"

    def at(self, value: int) -> Layout:
        """The member at l = ``value``."""
        return numbered(self.first, self.factor * value + self.offset)


def number_of(x: Layout) -> int | None:
    """The number of a name or an index in its row of equals, if it has one."""
    if isinstance(x, Literal):
        return int(x.text) if x.text.isdecimal() else None
    if not isinstance(x, Ident):
        return None
    return x.index if x.index is not None else int(x.below) if x.below.isdecimal() else None


def numbered(x: Ident | Literal, number: int) -> Layout:
    """The member of the row of ``x`` with that number."""
    if isinstance(x, Literal):
        return Literal(str(number))
    return replace(x, index=number) if x.index is not None else replace(x, below=str(number))


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
    """A function of arguments; ``options`` are written after them.

    One that is taken along axes says them ``below`` its name, as a `Summed` does.
    """

    name: str
    args: tuple[Layout, ...]
    options: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


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
class Inner(Layout):
    """The inner product ⟨left, right⟩ of two arrays: the sum of the products of their elements."""

    left: Layout
    right: Layout


@dataclass(frozen=True)
class Summed(Layout):
    """Σ (or the mean) over ``indices``, or over everything if none is named; of a matrix i is the row, j the column."""

    indices: tuple[str, ...]
    body: Layout
    mean: bool = False


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
class Listed(Layout):
    """Names, one after the other."""

    items: tuple[Layout, ...]


@dataclass(frozen=True)
class Derivative(Layout):
    """∂of/∂by, or ∂by for a cotangent."""

    of: Layout | None
    by: Layout


@dataclass(frozen=True)
class SecondDerivative(Layout):
    """∂²of/∂by∂and, or ∂²of/∂by² where the two are the same."""

    of: Layout
    by: Layout
    and_by: Layout


@dataclass(frozen=True)
class Kronecker(Layout):
    """left ⊗ right: the array with left[i, k]·right[j, l] at (i, j, k, l)."""

    left: Layout
    right: Layout
