"""What the parser and the commands share: the names of the stages, and the error for bad usage."""

from __future__ import annotations

STAGES = ("graph", "grad", "optimised", "schedule", "llvm", "asm", "ptx", "dot", "stats")


class UsageError(Exception):
    """Bad usage, told in one line."""
