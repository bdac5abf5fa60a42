"""What a shape rule asks of operands and attributes: that they do not contradict each other.

Enters: avals and tuples of ints.  Leaves: nothing, or a `ContradictionError`, which `Op.result_of` makes a ShapeError
or DTypeError that names the op, its operands and the user's line.
Invariant: a node whose operands contradict each other cannot be built, so no stage needs to look again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from gradc.aval import Aval, Shape
from gradc.errors import DTypeError, GradcError, ShapeError


class ContradictionError(Exception):
    """Why operands and attributes do not fit together, and the error that it is to the user."""

    def __init__(self, text: str, error: type[GradcError] = ShapeError):
        super().__init__(text)
        self.error = error


def refuse(text: str) -> NoReturn:
    raise ContradictionError(text)


def refuse_dtypes(text: str) -> NoReturn:
    raise ContradictionError(text, DTypeError)


def agrees(a: Aval, b: Aval) -> bool:
    """Whether two avals are the same array; a number that is weak is one."""
    return a.shape == b.shape and a.dtype == b.dtype


# -- operands ----------------------------------------------------------------------------------------------------------


def same_shape(avals: Sequence[Aval]) -> None:
    first = avals[0].shape
    for x in avals:
        if x.shape != first:
            refuse("the operands have different shapes")


def same_dtype(avals: Sequence[Aval]) -> None:
    first = avals[0].dtype
    for x in avals:
        if x.dtype != first:
            refuse_dtypes("the operands have different dtypes")


def must_be_indices(avals: Sequence[Aval]) -> None:
    for x in avals:
        if x.dtype.kind not in "iu":
            refuse_dtypes(f"an index is {x.dtype}, no integer")


def must_be_float(x: Aval) -> None:
    if not x.is_float:
        refuse_dtypes("the operand is no float")


def must_be_truth(x: Aval) -> None:
    if x.dtype.kind != "b":
        refuse_dtypes(f"a mask is {x.dtype}, not bool")


# -- axes and extents --------------------------------------------------------------------------------------------------


def axis_in(axis: int, ndim: int) -> None:
    if not 0 <= axis < ndim:
        refuse(f"there is no axis {axis}")


def axes_in(axes: Sequence[int], ndim: int) -> None:
    """Ascending axes that exist."""
    last = -1
    for axis in axes:
        if not last < axis < ndim:
            refuse(f"axes {tuple(axes)} are not ascending axes of {ndim}")
        last = axis


def extents(shape: Shape) -> None:
    if min(shape, default=0) < 0:
        refuse(f"{shape} is no shape")


def one_for_each(what: str, values: Sequence[object], count: int) -> None:
    if len(values) != count:
        refuse(f"{what} are {len(values)} values where {count} are needed")


def lies_inside(shape: Shape, starts: Sequence[int], steps: Sequence[int], room: Shape) -> None:
    """Elements placed at start + step·i of each axis have a place in ``room``."""
    for what, values in (("starts", starts), ("steps", steps), ("extents", room)):
        one_for_each(what, values, len(shape))
    for n, start, step, size in zip(shape, starts, steps, room, strict=True):
        if step < 1 or start < 0 or (n and start + (n - 1) * step >= size):
            refuse(f"{n} elements from {start} in steps of {step} do not lie inside an axis of {size}")


def bodies_take(name: str, inputs: Sequence[Aval], given: Sequence[Aval]) -> None:
    """A body's inputs are what it is given."""
    if len(inputs) != len(given) or not all(map(agrees, inputs, given)):
        refuse(f"its {name} takes ({', '.join(map(str, inputs))}), given ({', '.join(map(str, given))})")
