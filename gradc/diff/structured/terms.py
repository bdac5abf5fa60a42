"""The normal form of a linear map as a matrix: sums of products times Kronecker deltas.

A `Matrix` holds, for a node of shape S that is linear in one leaf of shape T, the array of shape S + T of its partial
derivatives.  It is a sum of `Term`s, each

    sign · Π factors · Π δ(own axis, direction)

with one label per index (`gradc.diff.structured.labels`): axis a of S has the label Axis(a), direction k of T the label
Direction(k).  A factor is a node over few labels, a tie is a delta of an own label and a direction.  Nothing is
multiplied out before something needs it, so what has the structure of a diagonal or of an outer product keeps it.
Invariants: an axis of length 1 has no label and no tie; the factors of a term carry the own label of a tied axis, never
the direction's; a direction is tied to one axis at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from gradc.aval import Shape
from gradc.diff.structured.labels import Axis, Direction, Label, Labels, Names, Sizes, naming, place
from gradc.node import OPS, Node, dsl
from gradc.ops.ranges import TRUTH, Hazard, Range, as_factor, range_of
from gradc.ops.record import Kind

#: an own label and the direction it is equal to
Tie = tuple[Label, Direction]
#: a product of more factors is multiplied out where that keeps its structure
MOST_FACTORS = 8
#: how a factor enters its product: multiplied, divided by, or zero where it is false
Role = Literal["times", "over", "mask"]


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """``node`` with one label per axis."""

    node: Node
    labels: Labels
    role: Role = "times"

    @property
    def key(self) -> tuple[int, Labels, str]:
        """Equal for factors that are the same values at the same place."""
        return id(self.node), self.labels, self.role

    @property
    def range(self) -> Range:
        """What is known of what the factor contributes."""
        if self.role == "mask":
            return TRUTH
        return range_of(self.node).inverse() if self.role == "over" else as_factor(self.node)

    @property
    def is_tame(self) -> bool:
        """Whether it is finite wherever the inputs are, so that a zero in another factor is a zero of the product."""
        return self.range.hazard < Hazard.GROWTH

    def renamed(self, names: Names) -> Factor:
        """The factor under other labels."""
        return Factor(self.node, tuple(names.get(k, k) for k in self.labels), self.role)

    def replaced(self, node: Node, labels: Sequence[Label | None]) -> Factor:
        """Other values in the same role; an axis without a label has length 1 and goes."""
        return squeezed(node, labels, self.role)


@dataclass(frozen=True, slots=True)
class Space:
    """The directions of a term: a view of the leaf's elements, and how it lies in the view that it was taken of.

    A slice of a tied axis leaves some directions alone, a reshape regroups them; ``op`` with ``attrs`` leads back.
    """

    shape: Shape
    parent: Space | None = None
    op: str = ""
    attrs: tuple[int, ...] = ()

    def sliced(self, k: int, size: int, start: int, step: int) -> Space:
        """``size`` elements of direction ``k``, from ``start`` in steps of ``step``."""
        shape = (*self.shape[:k], size, *self.shape[k + 1 :])
        if step > 0:
            return Space(shape, self, "superpose", (k, start, step))
        placed = Space(shape, self, "superpose", (k, start + step * (size - 1), -step))
        return Space(shape, placed, "flip", (k,))

    def regrouped(self, first: int, stop: int, shape: Shape) -> Space:
        """Directions ``first`` … ``stop`` − 1 as directions of ``shape``."""
        return Space((*self.shape[:first], *shape, *self.shape[stop:]), self, "reshape")

    def widened(self, node: Node, first: int) -> Node:
        """``node``, whose axes from ``first`` on are these directions, over all elements of the leaf."""
        space: Space = self
        while space.parent is not None:
            node = _back(space, node, first)
            space = space.parent
        return node


def _back(space: Space, node: Node, first: int) -> Node:
    """``node`` over the directions of the parent."""
    assert space.parent is not None
    shape = (*node.shape[:first], *space.parent.shape, *node.shape[first + len(space.shape) :])
    if space.op == "reshape":
        return OPS["reshape"].make((node,), shape=shape)
    axis, *place = space.attrs
    at = first + axis
    if space.op == "flip":
        flipped: Node = dsl.flip(node, at)
        return flipped
    starts, steps = (
        tuple(v if a == at else rest for a in range(len(shape))) for v, rest in zip(place, (0, 1), strict=True)
    )
    return OPS["superpose"].make((node,), shape=shape, starts=(starts,), steps=(steps,))


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """One product of factors and ties."""

    factors: tuple[Factor, ...]
    ties: tuple[Tie, ...]
    space: Space
    sign: int = 1

    def with_factors(self, *more: Factor) -> Term:
        return replace(self, factors=(*self.factors, *more))

    def direction_of(self, own: Label) -> Direction | None:
        """The direction that an own label is tied to."""
        return next((k for a, k in self.ties if a is own), None)

    def extent_of(self, direction: Direction) -> int:
        """How many elements a direction has."""
        return self.space.shape[direction.number]

    def renamed(self, names: Names) -> Term:
        """The term under other own labels."""
        ties = tuple(sorted(((names.get(a, a), k) for a, k in self.ties), key=_tie_place))
        return replace(self, factors=tuple(f.renamed(names) for f in self.factors), ties=ties)

    def with_directions(self, names: Mapping[Direction, Direction], space: Space) -> Term:
        """The term over other directions, renamed by ``names``."""
        ties = tuple((a, names.get(k, k)) for a, k in self.ties)
        moved = naming(names.keys(), names.values())
        return replace(self, factors=tuple(f.renamed(moved) for f in self.factors), ties=ties, space=space)

    def without_tie(self, own: Label) -> Term:
        """An own label that is summed away, or moved by data, renamed to the direction it is tied to."""
        k = self.direction_of(own)
        assert k is not None
        ties = tuple(t for t in self.ties if t[0] is not own)
        return replace(self, factors=tuple(f.renamed({own: k}) for f in self.factors), ties=ties)

    def loosened(self, own: Iterable[Label]) -> Term:
        """The same term with the deltas of these own labels as factors."""
        wanted = set(own)
        found = [t for t in self.ties if t[0] in wanted]
        masks = [Factor(unit_mask(self.extent_of(k)), (a, k), "mask") for a, k in found]
        return replace(self, ties=tuple(t for t in self.ties if t[0] not in wanted)).with_factors(*masks)

    def sizes(self, own: Sizes) -> dict[Label, int]:
        """The extent of each label, those of the own labels given."""
        return {**own, **{Direction(k): n for k, n in enumerate(self.space.shape)}}


def _tie_place(tie: Tie) -> tuple[int, int]:
    return place(tie[0])


def unit_mask(size: int) -> Node:
    """The unit matrix as truth values."""
    return OPS["delta"].make((), shape=(size, size), pairs=((0, 1),), dtype=np.dtype(bool))


@dataclass(frozen=True, eq=False, slots=True)
class Matrix:
    """All partial derivatives of a node: the sum of ``terms``, zero if there are none."""

    shape: Shape
    dtype: np.dtype[Any]
    terms: tuple[Term, ...]

    @property
    def own(self) -> dict[Label, int]:
        """The extents of the own labels."""
        return {Axis(a): n for a, n in enumerate(self.shape)}


def identity(leaf: Node) -> Matrix:
    """The matrix of the leaf itself: a delta for each axis."""
    ties = tuple((Axis(a), Direction(a)) for a, n in enumerate(leaf.shape) if n != 1)
    return Matrix(leaf.shape, leaf.dtype, (Term((), ties, Space(leaf.shape)),))


# -- factors of a node that does not depend on the leaf ----------------------------------------------------------------


def squeezed(node: Node, labels: Sequence[Label | None], role: Role = "times") -> Factor:
    """``node`` without its axes of length 1, which need no label."""
    kept = [(n, k) for n, k in zip(node.shape, labels, strict=True) if n != 1]
    if len(kept) < node.ndim:
        node = OPS["reshape"].make((node,), shape=tuple(n for n, _ in kept))
    return Factor(node, tuple(k for _, k in kept if k is not None), role)


Named = tuple[Node, tuple[Label | None, ...]]
#: a node with labels, and how it enters the product
Part = tuple[Node, tuple[Label | None, ...], Role]


def factors_of(node: Node, labels: Sequence[Label | None], role: Role = "times") -> tuple[int, list[Factor]]:
    """A sign and factors whose product is ``node``, each over as few labels as its making shows.

    A product is taken apart from its last multiplication on, until there are more than `MOST_FACTORS`: what lies deeper
    stays the node it is, so that a chain of products is not written out again wherever one of its links is used.
    """
    sign, parts = 1, [(node, tuple(labels), role)]
    while len(parts) <= MOST_FACTORS:
        pieces = [_taken_apart(part) for part in parts]
        if all(found is None for found in pieces):
            break
        sign *= prod(found[0] for found in pieces if found is not None)
        parts = [p for part, found in zip(parts, pieces, strict=True) for p in ([part] if found is None else found[1])]
    return sign, [squeezed(*_beneath_views(x, names), how) for x, names, how in parts]


def _taken_apart(part: Part) -> tuple[int, list[Part]] | None:
    """A sign and the parts whose product it is; None for what is no product."""
    x, names, how = part
    x, names = _beneath_views(x, names)
    if _is_number(x, 1):
        return 1, []
    if _is_number(x, -1):
        return -1, []
    if how != "mask" and x.op.name == "negative":
        return -1, [(x.args[0], names, how)]
    if how != "mask" and x.op.name in ("multiply", "strong_multiply", "divide") and _splits(x, names):
        second: Role = how if x.op.name != "divide" else "times" if how == "over" else "over"
        return 1, [(x.args[0], names, how), (x.args[1], names, second)]
    return None


def _beneath_views(x: Node, names: tuple[Label | None, ...]) -> Named:
    """What broadcasts, transposes and axes of length 1 were put on, with the labels of its axes."""
    while True:
        if x.op.name == "broadcast":
            inner = x.args[0]
            shown = [names[a] if n == x.shape[a] else None for n, a in zip(inner.shape, x.attrs["axes"], strict=True)]
        elif x.op.name == "transpose":
            inner = x.args[0]
            shown = [names[x.attrs["axes"].index(a)] for a in range(x.ndim)]
        elif x.op.name == "reshape" and _same_but_for_ones(x.shape, x.args[0].shape):
            inner = x.args[0]
            left = iter([k for n, k in zip(x.shape, names, strict=True) if n != 1])
            shown = [next(left) if n != 1 else None for n in inner.shape]
        else:
            return x, names
        x, names = inner, tuple(shown)


def _is_number(x: Node, value: float) -> bool:
    """Whether ``x``, beneath its views, is this number."""
    return x.op.kind is Kind.CONSTANT and x.size == 1 and bool(x.attrs["value"].reshape(-1)[0] == value)


def _same_but_for_ones(a: Shape, b: Shape) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def _splits(x: Node, names: tuple[Label | None, ...]) -> bool:
    """Whether one operand varies along fewer axes than the product."""
    whole = {k for n, k in zip(x.shape, names, strict=True) if n != 1}
    return any({k for n, k in _varying(a, names) if n != 1} < whole for a in x.args) or not whole


def _varying(x: Node, names: tuple[Label | None, ...]) -> list[tuple[int, Label | None]]:
    inner, shown = _beneath_views(x, names)
    return list(zip(inner.shape, shown, strict=True))
