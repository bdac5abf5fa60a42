"""Nests to loops of instructions.

Enters: a `Nest`.  Leaves: its loops, in a function under construction.
Invariant: the lane loop takes whole vectors; what is left at its end is one block under a constant mask, so nothing is
read or written outside an array.  Start reading at `emit_nest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gradc.codegen.ir import Function, Value, const
