"""What a factorisation can fail of, and in which words the user is told, whether code was interpreted or compiled.

Enters: matrices that a NumPy meaning cannot factorise.  Leaves: NumPy's `LinAlgError` with the words, and which
matrix of a stack it was; the interpreter adds the user's line and variable, as `gradc.machines.calling` does for a
status word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from gradc.aval import Shape

NOT_DEFINITE = "not positive definite; add a multiple of the identity, or ask for NaN with check=False"
SINGULAR = "singular; use lstsq or pinv, add a multiple of the identity, or ask for NaN with check=False"
NO_CONVERGENCE = "not finite, so that no iteration on it converges; ask for NaN with check=False"


def refuse_matrix(words: str, index: Shape) -> NoReturn:
    """LinAlgError for the matrix at ``index`` of the leading axes."""
    raise np.linalg.LinAlgError(f"{matrix_at(index)} is {words}")


def matrix_at(index: Shape) -> str:
    """How an error names one matrix of a stack."""
    return f"matrix [{', '.join(map(str, index))}] of the stack" if index else "the matrix"


def each_or_nan(
    function: Callable[..., Any], words: str, check: bool, outs: tuple[tuple[Shape, Any], ...], *arrays: Any
) -> tuple[Any, ...]:
    """``function`` of one matrix (of each operand) after another, its results stacked; ``outs`` are their shapes and
    dtypes.

    It returns None, or raises NumPy's error, for a matrix that it fails of: then that is told, or is NaN.
    """
    lead = arrays[0].shape[:-2]
    stacks = tuple(np.full((*lead, *shape), np.nan, dtype) for shape, dtype in outs)
    for index in np.ndindex(*lead):
        found = _tried(function, [a[index] for a in arrays])
        if found is not None:
            for stack, part in zip(stacks, found, strict=True):
                stack[index] = part
        elif check:
            refuse_matrix(words, index)
    return stacks


def _tried(function: Callable[..., Any], arrays: list[Any]) -> Any:
    try:
        return function(*arrays)
    except np.linalg.LinAlgError:
        return None
