"""Random programs: inputs of every dtype and shape, then statements until there are enough.

Enters: a seed and the number of a program.  Leaves: a `Program`, the same for the same numbers.
Start reading at `program`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import BFLOAT16
from tests.fuzz.control import CONTROL
from tests.fuzz.forms import FORMS, function_named
from tests.fuzz.language import Array, Program
from tests.fuzz.scope import NotThisTimeError, Scope, is_float, weighted

_DTYPES: tuple[tuple[Any, float], ...] = (
    (np.float64, 14), (np.float32, 3), (np.float16, 0.7), (BFLOAT16, 0.5), (np.int64, 1), (np.int32, 0.5),
    (np.bool_, 0.4), (np.uint8, 0.3), (np.int8, 0.2),
)  # fmt: skip
DTYPES = weighted(_DTYPES)
#: of every seventh program: dtypes that mix
EVEN = weighted([(dtype, 1.0) for dtype, _ in _DTYPES])
SHAPES: tuple[tuple[int, ...], ...] = (
    (), (1,), (2,), (3,), (4,), (1, 3), (2, 3), (3, 2), (3, 3), (2, 2), (4, 2), (2, 3, 2), (2, 2, 3),
)  # fmt: skip
#: what a statement may be, with weights
POOL = weighted((*FORMS, *((form, 0.35) for form in CONTROL.values())))
#: attempts per wanted statement
ATTEMPTS = 4


def program(seed: int, number: int, most: int = 7) -> Program:
    """Program ``number`` of the sequence that begins with ``seed``."""
    scope = started(np.random.default_rng((seed, number)))
    wanted = min(1 + int(scope.random.geometric(0.3)), most)
    for _ in range(wanted * ATTEMPTS):
        if len(scope.statements) >= wanted:
            break
        grow(scope)
    return finished(scope, f"program {seed}-{number}")


def started(random: np.random.Generator) -> Scope:
    """A scope with one to three inputs, the first of them a float."""
    scope = Scope(random)
    dtypes = EVEN if random.random() < 0.15 else DTYPES
    for k in range(1 + min(int(random.geometric(0.5)) - 1, 2)):
        dtype = np.float64 if dtypes is DTYPES and not k and random.random() < 0.7 else scope.likely(dtypes)
        shape = list(scope.one_of(SHAPES))
        if shape and random.random() < 0.03:
            shape[int(random.integers(len(shape)))] = 0
        scope.values[f"x{k}"] = values(random, tuple(shape), np.dtype(dtype))
    if not any(is_float(a) for a in scope.values.values()):
        scope.values["x9"] = values(random, (3,), np.dtype(np.float64))
    scope.counter = iter(range(10, 10_000))
    return scope


def values(random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Numbers of few digits, so that a failing program can be read; now and then exact zeros, ones and ties."""
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        return random.integers(0 if dtype.kind == "u" else -4, 6, shape).astype(dtype)
    found = np.asarray(np.round(random.normal(size=shape), 2))
    if random.random() < 0.15:
        special = random.choice([0.0, -0.0, 1.0, -1.0, 0.5, 2.0], shape)
        found = np.where(random.random(shape) < 0.5, special, found)
    return found.astype(dtype)


def grow(scope: Scope) -> bool:
    """One more statement, if this attempt succeeds."""
    try:
        return scope.likely(POOL)(scope)
    except NotThisTimeError:
        return False


def finished(scope: Scope, title: str) -> Program:
    """The newest value and up to two others as outputs."""
    names = [t for s in scope.statements for t in s.targets if t in scope.values] or ["x0"]
    others = [str(scope.one_of(names)) for _ in range(scope.number(0, 2))]
    arrays = {n: a for n, a in scope.values.items() if n[0] == "x"}
    outputs = tuple(dict.fromkeys((names[-1], *others)))
    return Program(arrays, tuple(scope.statements), outputs, title, dict(scope.values)).pruned()


def program_of(path: str, seed: int, attempts: int = 150) -> Program | None:
    """A program with a call of the public function ``path``, or None if no attempt made one."""
    for number in range(attempts):
        scope = started(np.random.default_rng((seed, number)))
        try:
            for _ in range(number % 3):
                grow(scope)
            if function_named(scope, path):
                return finished(scope, f"{path} {seed}-{number}")
        except NotThisTimeError:
            continue
    return None
