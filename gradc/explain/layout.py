"""The notation tree: what every printer (text, LaTeX, …) walks.

Invariant: a `Layout` says what is written and in which structure, never how; each piece keeps the formula that it
shows, and through it the graph nodes and source lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gradc.explain.formula import Formula, Number


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
