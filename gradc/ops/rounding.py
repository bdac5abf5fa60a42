"""What rounding does to an op's value, where its record says it in closed form.

Enters: values of operands and bounds on their errors, arrays in float64.  Leaves: how far the errors move the value, or
the size of the terms in whose last place an op rounds.  `gradc.oracle.rounding` adds them up over a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def sum_of_errors(args: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Of a sum or difference of the operands."""
    return np.asarray(sum(errors))


def error_of_product(args: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Of a product of two operands."""
    (x, y), (ex, ey) = args, errors
    moved = np.abs(x) * ey + (np.abs(y) + ey) * ex
    return np.where((ex == 0) & (ey == 0), 0.0, moved)  # not infinity times no error


def largest_error(args: Sequence[Array], errors: Sequence[Array], axes: Sequence[int]) -> Array:
    """Of a reduction that no element moves by more than itself is moved."""
    return np.asarray(np.max(errors[0], axis=tuple(axes), initial=0.0))


def finite_size(x: Array) -> Array:
    """|x|, and 0 for infinities and NaN."""
    return np.where(np.isfinite(x), np.abs(x), 0.0)
