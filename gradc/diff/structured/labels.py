"""Labels: the indices of a matrix in normal form, one type for each kind of index.

A factor has one label per axis.  Which index that is, an axis of the node, a direction of the leaf, or an index that
exists only while one op is being worked on, is the label's type: two kinds with the same number are two labels.
Invariant: a label is one object (the constructor gives it back), so labels compare and hash by identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self


class Label:
    """An index of some extent; abstract."""

    __slots__ = ("number",)
    number: int
    kind: ClassVar[int]  #: where labels are put in an order, kinds stand apart
    _known: ClassVar[dict[tuple[type[Label], int], Label]] = {}

    def __new__(cls, number: int) -> Self:
        found = Label._known.get((cls, number))
        if found is None:
            made = object.__new__(cls)
            made.number = number
            found = Label._known.setdefault((cls, number), made)
        assert isinstance(found, cls)
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.number})"


class Axis(Label):
    """Axis ``number`` of the node whose matrix it is."""

    __slots__ = ()
    kind = 0


class NewAxis(Label):
    """Axis ``number`` of the result, while axes of the operand are in use too."""

    __slots__ = ()
    kind = 1


class Index(Label):
    """Index ``number`` of an einsum, in the contract node's own numbering."""

    __slots__ = ()
    kind = 2


class Direction(Label):
    """Direction ``number`` of a term's space."""

    __slots__ = ()
    kind = 3


Labels = tuple[Label, ...]
Sizes = Mapping[Label, int]
#: what labels are called from here on
Names = Mapping[Label, Label]


def axes(numbers: Iterable[int]) -> tuple[Axis, ...]:
    """The labels of these axes."""
    return tuple(map(Axis, numbers))


def directions(count: int) -> tuple[Direction, ...]:
    """The labels of ``count`` directions."""
    return tuple(map(Direction, range(count)))


def naming(before: Iterable[Label], after: Iterable[Label]) -> Names:
    """Each label of ``before`` called as the one of ``after`` at its place."""
    return dict(zip(before, after, strict=True))


def is_own(label: Label) -> bool:
    """Whether the label is an index of the node, not of the leaf."""
    return type(label) is not Direction


def place(label: Label) -> tuple[int, int]:
    """The key of an order in which own labels come before directions."""
    return label.kind, label.number
