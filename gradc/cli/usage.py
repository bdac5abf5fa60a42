"""What the parser and the commands share: the names of the stages, the error for bad usage, and errors in a line."""

from __future__ import annotations

import traceback

from gradc.errors import GradcError
from gradc.places import is_user_code

STAGES = ("graph", "grad", "optimised", "lowered", "schedule", "llvm", "asm", "ptx", "dot", "stats")


class UsageError(Exception):
    """Bad usage, told in one line."""


def in_one_line(error: BaseException) -> str:
    """What went wrong, where in the user's code, and what to do."""
    if isinstance(error, GradcError | UsageError):
        return str(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if frames and is_user_code(frames[-1]):
        return f"{frames[-1].f_code.co_filename}:{lines[-1]}: {said}"
    theirs = [(f, line) for f, line in zip(frames, lines, strict=True) if is_user_code(f)]
    if isinstance(error, OSError) or not theirs:
        return str(error) if isinstance(error, OSError | ValueError | TypeError) and str(error) else said
    frame, line = theirs[-1]
    return f"{frame.f_code.co_filename}:{line}: {said}"
