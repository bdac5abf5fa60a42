"""The textbook: 115 derivations, rules and algorithms, each with a program and what checks it, as data.

Enters: nothing.  Leaves: `TEXTBOOK`, chapters of `Entry`s.  ``docs/textbook.md`` shows them; ``tests/test_textbook.py``
runs the programs, compares numbers and holds the lines of the book against what gradc prints.  Start at any chapter.
"""

from __future__ import annotations

from collections.abc import Sequence

from examples.textbook import attention, calculus, convolution, depth, descent, losses, networks, optimizers
from examples.textbook.item import Entry

TEXTBOOK: dict[str, Sequence[Entry]] = {
    "Derivatives": calculus.entry,
    "Networks and back-propagation": networks.entry,
    "Losses": losses.entry,
    "Convolution": convolution.entry,
    "Gradient descent and curvature": descent.entry,
    "Optimizers": optimizers.entry,
    "Deep networks": depth.entry,
    "Attention": attention.entry,
}
