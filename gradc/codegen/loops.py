"""A counted loop with bounds known now: one that runs once is no loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradc.codegen.ir import Function, Value, const


@contextmanager
def each(f: Function, start: int, stop: int, step: int = 1) -> Iterator[Value]:
    """Run the body for every index of range(start, stop, step), which is not empty."""
    if start + step >= stop:
        yield const(start, "int64")
        return
    with f.loop(start, stop, step) as loop:
        yield loop.index
