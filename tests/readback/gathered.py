"""What is read: the gallery, the textbook, the models of the tests, and the programs of `kinds`.

Enters: nothing.  Leaves: `Program`s by name.  Start reading at `PROGRAMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import gradc as gc
from examples.gallery import GALLERY
from examples.textbook import TEXTBOOK
from tests.explain_models import MODELS
from tests.readback.kinds import KINDS


class Program(NamedTuple):
    """A function, how to make its arguments, and what is derived."""

    function: Callable[..., Any]
    args: Callable[[], tuple[Any, ...]]
    argnums: int | tuple[int, ...]
    order: int = 1
    operator: bool = False


def _gathered() -> Iterator[tuple[str, Program]]:
    for row in (row for rows in GALLERY.values() for row in rows):
        function = gc.jacobian(row.function, row.of) if row.kind == "jacobian" else row.function
        order = 2 if row.kind in ("hessian", "product") else 1

        def given(row: Any = row) -> tuple[Any, ...]:
            arrays: tuple[Any, ...] = row.arrays(np.random.default_rng(len(row.name)))
            return arrays

        yield f"gallery {row.name}", Program(function, given, row.of, order, row.kind == "product")
    for entry in (entry for entries in TEXTBOOK.values() for entry in entries):
        if entry.way == "program":
            continue
        function = gc.jacobian(entry.function, entry.of) if entry.way == "jacobian" else entry.function
        order = 2 if entry.way in ("hessian", "product") else 1
        of = () if entry.way == "value" else entry.of
        yield f"textbook {entry.name}", Program(function, entry.arrays, of, order, entry.way == "product")
    for name, model in MODELS.items():
        yield f"model {name}", Program(model.function, lambda model=model: model.args, model.argnums)
    for name, (function, args) in KINDS.items():
        yield f"kind {name}", Program(function, lambda args=args: args, tuple(range(len(args))))


PROGRAMS = dict(_gathered())
