"""Matrices made of arrays by their places: blocks along a diagonal, and Toeplitz matrices.

Enters: arrays.  Leaves: a matrix of their elements, each moved and none computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import broadcast_shapes, promoted
from gradc.errors import MatrixShapeError
from gradc.node import FUNCTIONS, Node, as_node, describe, dsl, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.shapes import broadcast_to, ravel, reshaped
from gradc.ops.elementwise import cast

__all__ = ["block_diag", "toeplitz"]


@function("linalg.block_diag")
def block_diag(*arrs: ArrayLike) -> Array:
    """The arrays (…, mᵢ, nᵢ) along the diagonal of (…, Σm, Σn), zeros elsewhere; a vector is a row, a number 1 × 1."""
    blocks = [as_node(x) for x in arrs] or [as_node(np.zeros((1, 0)))]
    blocks = [reshaped(x, (*(1,) * (2 - x.ndim), *x.shape)) for x in blocks]
    joint = promoted(*(x.dtype for x in blocks))
    try:
        lead = broadcast_shapes([x.shape[:-2] for x in blocks])
    except ValueError:
        raise MatrixShapeError(
            f"{here()}: block_diag: the leading axes of {', '.join(map(describe, blocks))} do not broadcast"
        ) from None
    width, start, rows = sum(x.shape[-1] for x in blocks), 0, list[Node]()
    for x in blocks:
        m, n = x.shape[-2:]
        sides = (*((0, 0) for _ in lead), (0, 0), (start, width - start - n))
        rows.append(dsl.pad(cast(broadcast_to(x, (*lead, m, n)), joint), sides))
        start += n
    return dsl.concatenate(rows, axis=-2)


@function("linalg.toeplitz")
def toeplitz(c: ArrayLike, r: ArrayLike = None) -> Array:
    """The matrix with first column ``c`` and first row ``r`` (by default ``c``; r[0] is not read), constant along its
    diagonals; both are flattened."""
    column = ravel(as_node(c))
    row = column if r is None else ravel(as_node(r))
    joint = promoted(column.dtype, row.dtype)
    column, row = cast(column, joint), cast(row, joint)
    m, n = column.size, row.size
    values = dsl.concatenate([dsl.flip(row[1:], 0), column]) if n > 1 else column
    places: Any = np.arange(m)[:, None] - np.arange(n)[None, :] + max(n - 1, 0)
    return FUNCTIONS["take"](values, places, axis=0) if m and n else as_node(np.zeros((m, n), joint))
