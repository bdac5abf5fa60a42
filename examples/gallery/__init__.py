"""The gallery: functions and, beside each, the derivative that gradc must print, as data.

Enters: nothing.  Leaves: `GALLERY`, sections of `Row`s.  ``tests/test_gallery.py`` compares each printed derivative with
the text here and checks it numerically; ``docs/gallery.md`` shows them.  Start reading at any section's module.
"""

from __future__ import annotations

from examples.gallery import learning, matrices, networks, pointwise, statistics
from examples.gallery.row import Row

GALLERY: dict[str, tuple[Row, ...]] = {
    "Element by element": pointwise.ROWS,
    "Matrix derivatives": matrices.ROWS,
    "Least squares and regression": learning.ROWS,
    "Networks": networks.ROWS,
    "Probability and finance": statistics.ROWS,
}
