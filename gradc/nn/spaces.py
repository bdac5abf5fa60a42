"""What convolution, pooling and resampling share: a batch axis, extents for each axis of space, padding, windows.

Enters: arguments as a user writes them, an int or one for each axis.  Leaves: tuples, and Nodes (n, c, *space).
"""

from __future__ import annotations

from typing import Any

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, OPS, Node, describe, here, static_int

Extents = tuple[int, ...]
Widths = tuple[tuple[int, int], ...]


def shown(rank: int, letter: str) -> str:
    """One size for each axis of space, as messages write it: kh, kw."""
    return ", ".join(f"{letter}{axis}" for axis in "dhw"[3 - rank :]) if rank > 1 else letter


def batched(name: str, x: Node, rank: int) -> Node:
    """``x`` with a batch axis."""
    if x.ndim not in (rank + 1, rank + 2):
        space = ", ".join("dhw"[3 - rank :] if rank > 1 else "l")
        raise ShapeError(f"{here()}: {name}: images are (n, c, {space}) or (c, {space}), got {describe(x)}")
    return x if x.ndim == rank + 2 else FUNCTIONS["expand_dims"](x, 0)


def extents(name: str, argument: str, value: Any, rank: int, least: int) -> Extents:
    """An int, or one for each axis of space, each at least ``least``."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(given) == 1:
        given = given * rank
    if len(given) != rank:
        several = {1: "", 2: " or a pair (rows, columns)", 3: " or a triple (depth, rows, columns)"}[rank]
        raise ShapeError(f"{here()}: {name}: {argument} is an int{several}, got {value!r}")
    found = tuple(static_int(v, argument) for v in given)
    if min(found) < least:
        raise ShapeError(f"{here()}: {name}: {argument} must be at least {least}, got {value!r}")
    return found


def padded(name: str, x: Node, widths: Widths, fill: Any) -> Node:
    """``x`` with (before, after) of ``fill`` at each of its last axes; less than none takes away.

    ShapeError for more taken from an axis than it has.
    """
    if not any(n for pair in widths for n in pair):
        return x
    lead = x.ndim - len(widths)
    for axis, ((a, b), n) in enumerate(zip(widths, x.shape[lead:], strict=True), lead):
        if max(-a, 0) + max(-b, 0) > n:
            raise ShapeError(
                f"{here()}: {name}: {(a, b)} takes more from axis {axis} than its extent {n}.\n  operand: {describe(x)}"
            )
    parts = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(widths, x.shape[lead:], strict=True))
    kept: Node = x[(*[slice(None)] * lead, *parts)] if min(map(min, widths)) < 0 else x
    added = [(max(a, 0), max(b, 0)) for a, b in widths]
    if not any(n for pair in added for n in pair):
        return kept
    result: Node = gnp.pad(kept, (*[(0, 0)] * lead, *added), constant_values=fill)
    return result


def windows(name: str, images: Node, sizes: Extents, strides: Extents, dilations: Extents) -> Node:
    """(n, c, *places, *kernel), a view."""
    for extent, size, dilation in zip(images.shape[2:], sizes, dilations, strict=True):
        if (size - 1) * dilation + 1 > extent:
            raise ShapeError(
                f"{here()}: {name}: a kernel of {'x'.join(map(str, sizes))} (dilation {dilations}) is larger than the "
                f"padded image, {describe(images)}"
            )
    axes = tuple(range(2, images.ndim))
    return OPS["windows"].make((images,), axes=axes, sizes=sizes, strides=strides, dilations=dilations)
