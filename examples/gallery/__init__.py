"""The gallery: functions and, beside each, the derivative that gradc must print, as data.

Enters: nothing.  Leaves: `GALLERY`, sections of `Row`s.  The docstring of each function is its derivative:
``tests/test_gallery.py`` compares it with what gradc prints and checks it numerically; ``docs/gallery.md`` shows it.
Start reading at any section's module.
"""

from __future__ import annotations

from collections.abc import Sequence

from examples.gallery import curvature, inverses, learning, matrices, networks, pointwise, statistics
from examples.gallery.row import Row

GALLERY: dict[str, Sequence[Row]] = {
    "Element by element": pointwise.row,
    "Matrix derivatives": matrices.row,
    "Inverses and determinants": inverses.row,
    "Least squares and regression": learning.row,
    "Jacobians and Hessians": curvature.row,
    "Networks": networks.row,
    "Probability and finance": statistics.row,
}
