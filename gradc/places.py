"""Places in the user's source, and what the user's line is doing there.

Enters: frames.  Leaves: `Where` (file, line, function) and `Doing` (the call, the assignment or the index that a frame
has come to, as it is written).  Invariant: gradc, NumPy and SciPy are not the user; what their frames do is done on
behalf of the innermost frame that is.  Start reading at `user_frame`.
"""

from __future__ import annotations

import ast
import dis
import linecache
import os
import sys
import warnings
from dataclasses import dataclass, field
from functools import cache
from types import FrameType

import numpy as np

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_COMMANDS = os.path.join(_PACKAGE, "cli", "")  # the demo's model is user code
_LIBRARIES = os.path.dirname(os.path.dirname(os.path.abspath(np.__file__)))
_SCIPY = os.path.join(_LIBRARIES, "scipy", "")
_SPARSE = os.path.join(_SCIPY, "sparse", "_")  # its own modules, but for linalg and csgraph
_OPTREE = os.path.join(_LIBRARIES, "optree", "")
_FOREIGN = (_PACKAGE, os.path.join(_LIBRARIES, "numpy", ""), _SCIPY, _OPTREE)
#: rooms whose functions run when the user calls them, as NumPy's do; the others run stages
_NAMESPACES = tuple(os.path.join(_PACKAGE, *name.split("/")) for name in (
    "node.py", "methods.py", "places.py", "ops/", "numpy/", "nn/", "special/", "optim/", "random/",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the user's source."""

    file: str
    line: int
    function: str
    phase: str = field(default="", compare=False)  #: of `PHASES`: for what it is computed

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


#: one object for each place: many nodes are made on one line
place = cache(Where)
#: for what a node is computed, in words, in the order in which that happens
PHASES = {"": "forward pass", "tangent": "forward-mode derivative", "backward": "backward pass", "update": "update"}


def in_phase(where: Where | None, phase: str) -> Where | None:
    """The same place as that of a node which is computed in this phase; what has one keeps it."""
    if where is None or where.phase or not phase:
        return where
    return place(where.file, where.line, where.function, phase)


def is_user_code(frame: FrameType) -> bool:
    """Whether a frame runs none of gradc, NumPy, SciPy and optree, nor what a dataclass wrote for itself."""
    return is_user_file(frame.f_code.co_filename) and not is_written_by_a_dataclass(frame)


def is_written_by_a_dataclass(frame: FrameType) -> bool:
    """Whether a frame runs the constructor of a dataclass, whose code has no file."""
    code = frame.f_code
    return code.co_filename == "<string>" and code.co_name == "__init__" and "__file__" in frame.f_globals


@cache
def is_user_file(file: str) -> bool:
    """Whether code in a file is the user's."""
    return not file.startswith(_FOREIGN) or file.startswith(_COMMANDS)


def user_frame() -> FrameType | None:
    """The innermost frame of the user; None when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (not is_user_file(frame.f_code.co_filename) or is_written_by_a_dataclass(frame)):
        frame = frame.f_back
    return frame


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn at the line of the user's innermost frame, which the filters of `warnings` then count as the warning's."""
    frame = user_frame()
    if frame is None:
        warnings.warn(text, category, stacklevel=2)
        return
    names = frame.f_globals
    warnings.warn_explicit(
        text, category, frame.f_code.co_filename, frame.f_lineno, names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}),
    )  # fmt: skip


def called_by_the_user() -> bool:
    """Whether the user's line called the function that runs, with no stage of gradc between."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame):
        file = frame.f_code.co_filename
        if file.startswith(_OPTREE):  # for each leaf of the user's tree
            return True
        if file.startswith(_PACKAGE) and not file.startswith(_NAMESPACES):
            return False
        frame = frame.f_back
    return frame is not None


def through_scipy() -> bool:
    """Whether a function of SciPy runs between here and the user's line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame):
        if frame.f_code.co_filename.startswith(_SCIPY):
            return True
        frame = frame.f_back
    return False


def sparse_function_that_asks() -> str | None:
    """The name of the function of SciPy's sparse matrices that has called the caller of this; None if none has."""
    code = sys._getframe(2).f_code
    return code.co_name if code.co_filename.startswith(_SPARSE) else None


@dataclass(frozen=True, slots=True)
class Doing:
    """What a frame has come to: ``np.full(3, x)``, ``z[0] = …``, ``table[i]``, ``'%.2f' % x``.

    ``call`` is the dotted name of a function that is called; ``base`` and ``index`` are the two sides of ``z[0]``, of
    which ``stores`` says whether it is assigned; ``formats`` whether a string is formatted with ``%``; ``lists``
    whether a list or tuple stands in the expression; ``contains`` whether it is ``base in index``.
    """

    text: str = ""
    call: str = ""
    base: str = ""
    index: str = ""
    stores: bool = False
    formats: bool = False
    lists: bool = False
    contains: bool = False


def doing(frame: FrameType | None) -> Doing:
    """What ``frame`` is doing, read from its source; nothing where there is no source."""
    expression, stores = _expression(frame) if frame is not None else (None, False)
    if expression is None:
        return Doing()
    text = ast.unparse(expression)
    lists = any(isinstance(part, (ast.List, ast.Tuple, ast.ListComp)) for part in ast.walk(expression))
    if isinstance(expression, ast.Subscript):
        at = expression.slice
        parts = at.elts if isinstance(at, ast.Tuple) and len(at.elts) > 1 else [at]
        index = ", ".join(map(ast.unparse, parts))
        return Doing(text, "", ast.unparse(expression.value), index, stores, lists=lists)
    if isinstance(expression, ast.Call):
        return Doing(text, ast.unparse(expression.func), lists=lists)
    if isinstance(expression, ast.Compare) and isinstance(expression.ops[0], (ast.In, ast.NotIn)):
        sides = ast.unparse(expression.left), ast.unparse(expression.comparators[0])
        return Doing(text, "", *sides, lists=lists, contains=True)
    left = expression.left if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Mod) else None
    formats = isinstance(left, ast.JoinedStr) or (isinstance(left, ast.Constant) and isinstance(left.value, str))
    return Doing(text, formats=formats, lists=lists)


def _expression(frame: FrameType) -> tuple[ast.expr | None, bool]:
    """The expression of the instruction that a frame has come to, and whether the instruction assigns to it."""
    number = frame.f_lasti // 2
    positions = list(frame.f_code.co_positions())
    if not 0 <= number < len(positions):
        return None, False
    first, last, begin, end = positions[number]
    if first is None or last is None or begin is None or end is None:
        return None, False
    lines = [linecache.getline(frame.f_code.co_filename, n, frame.f_globals).encode() for n in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    try:
        tree = ast.parse(b"(" + b"".join(lines) + b")", mode="eval")
    except (SyntaxError, ValueError):
        return None, False
    return tree.body, dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("STORE_")


def variable(frame: FrameType | None, value: object) -> str | None:
    """The local variable of a frame that holds ``value``."""
    if frame is None:
        return None
    return next((key for key, held in frame.f_locals.items() if held is value and not key.startswith(("_", "."))), None)
