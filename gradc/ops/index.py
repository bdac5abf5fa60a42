"""Index formulas of views: which operand element an output element is.

Enters: an output index, each coordinate an int, a NumPy integer array, a SymPy symbol or a scheduler's affine form.
Leaves: `Piece`s.  The formulas use only ``+ - * // %``, so all four kinds of coordinate work, and a guard is data
(value, low, high), never a Python comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradc.aval import Shape

Coordinate = Any


@dataclass(frozen=True, slots=True)
class Guard:
    """low <= value < high."""

    value: Coordinate
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Operand ``arg`` at ``index``, wherever all guards hold."""

    arg: int
    index: tuple[Coordinate, ...]
    guards: tuple[Guard, ...] = ()


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Element strides of a contiguous array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def linear_index(index: Sequence[Coordinate], shape: Shape) -> Coordinate:
    """The row-major position of an index."""
    total: Coordinate = 0
    for i, stride in zip(index, row_major_strides(shape), strict=True):
        total = total + i * stride
    return total


def unravel(position: Coordinate, shape: Shape) -> tuple[Coordinate, ...]:
    """The index at a row-major position."""
    strides = row_major_strides(shape)
    return tuple(
        (position // stride) % size if axis else position // stride
        for axis, (stride, size) in enumerate(zip(strides, shape, strict=True))
    )


def placed(index: Sequence[Coordinate], starts: Sequence[int], steps: Sequence[int], shape: Shape, arg: int) -> Piece:
    """The piece of a bigger array that operand ``arg`` of ``shape`` fills at start + step * i along each axis."""
    guards: list[Guard] = []
    inner: list[Coordinate] = []
    for i, start, step, size in zip(index, starts, steps, shape, strict=True):
        offset = i - start
        guards.append(Guard(offset, 0, (size - 1) * step + 1 if size else 0))
        if step != 1:
            guards.append(Guard(offset % step, 0, 1))
        inner.append(offset // step if step != 1 else offset)
    return Piece(arg, tuple(inner), tuple(guards))
