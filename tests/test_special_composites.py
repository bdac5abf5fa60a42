"""Every public function on arrays of special values: zeros of either sign, ties, nothing, one element, narrow floats.

The walk writes a call of each function as the program fuzzer does (`tests/fuzz`), on inputs that consist of such values
alone, and asks the fuzzer's oracles: plain NumPy, both modes, the structured Jacobian and Hessian
against columns, compiled code.  What has no derivative at a point may differ between the modes; NaN as a product of
zero may not.  A sample runs with every `make test`, all of it with ``--nightly``.

Start reading at `KINDS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.special

import gradc as gc
from gradc import special
from gradc.aval import BFLOAT16
from gradc.node import as_node
from tests.fuzz.check import NATIVE, RefusedError, examine, held_against
from tests.fuzz.forms import function_named
from tests.fuzz.generate import finished
from tests.fuzz.language import Program, quietly
from tests.fuzz.native import QUICK, native_results
from tests.fuzz.scope import NotThisTimeError, Scope
from tests.fuzz.subjects import Subjects
from tests.fuzz.surface import ENTRIES

Array = np.ndarray[Any, Any]
SHAPES = ((3,), (2, 3), (2, 2), (), (2, 2, 3))
#: of so many functions one is visited in the ordinary run, by kind of values
EVERY = 64
ATTEMPTS = 60
#: what is asked of each program; compiled code of all of them together
ORACLES = ("value", "adjoint", "jacobian", "hessian")


def _filled(values: list[float], dtype: Any = np.float64) -> Callable[[Scope, tuple[int, ...]], Array]:
    return lambda scope, shape: np.asarray(scope.random.choice(values, shape)).astype(dtype)


@dataclass(frozen=True)
class Inputs:
    """How inputs are filled, and of which shapes."""

    fill: Callable[[Scope, tuple[int, ...]], Array]
    shapes: tuple[tuple[int, ...], ...] = SHAPES


KINDS: dict[str, Inputs] = {
    "zeros": Inputs(_filled([0.0])),
    "minus zeros": Inputs(_filled([-0.0])),
    "zeros of both signs": Inputs(_filled([0.0, -0.0])),
    "ones": Inputs(_filled([1.0])),
    "minus ones": Inputs(_filled([-1.0])),
    "few numbers": Inputs(_filled([0.0, -0.0, 1.0, -1.0, 0.5, 2.0])),
    "nothing": Inputs(_filled([1.0]), ((0,), (0, 3), (3, 0), (2, 0, 3), (0, 0))),
    "one element": Inputs(_filled([0.0, -0.0, 1.0, -1.0, 0.5]), ((1,), (1, 1), (), (1, 1, 1))),
    "float32": Inputs(_filled([0.0, -0.0, 1.0, -1.0, 0.5, 2.0], np.float32)),
    "bfloat16": Inputs(_filled([0.0, -0.0, 1.0, -1.0, 0.5, 2.0], BFLOAT16)),
    "float16": Inputs(_filled([0.0, -0.0, 1.0, -1.0, 0.5, 2.0], np.float16)),
}


class _Any(Scope):
    """A scope that takes results of any size of number."""

    def _reasonable(self, a: Array) -> bool:
        return a.size <= 64 and (a.dtype.kind in "fiub" or a.dtype == BFLOAT16)


def program_on(path: str, kind: str) -> Program | None:
    """A program that calls ``path`` on inputs of a kind; None where NumPy takes none of the attempts."""
    inputs = KINDS[kind]
    for number in range(ATTEMPTS):
        scope = _Any(np.random.default_rng((zlib.crc32(f"{kind} {path}".encode()), number)))
        shapes = [scope.one_of(inputs.shapes)] * 2 if scope.chance(0.5) else [scope.one_of(inputs.shapes) for _ in "xy"]
        scope.values = {f"x{k}": inputs.fill(scope, shape) for k, shape in enumerate(shapes)}
        scope.counter = iter(range(10, 10_000))
        try:
            if function_named(scope, path):
                return finished(scope, f"{path} on {kind}")
        except NotThisTimeError:
            continue
    return None


def _faults(kind: str, paths: list[str]) -> list[str]:
    """What the oracles find wrong with a call of each of some functions; what is compiled is one module."""
    found, subjects = [], []
    for path in paths:
        program = program_on(path, kind)
        if program is None:
            continue
        s = Subjects(program, QUICK)
        try:
            failure = examine(program, _asked(s), s)
        except RefusedError:
            continue
        if failure is not None:
            found.append(f"{failure.oracle}: {failure.words}\n{program.source()}\n{program.args}")
        else:
            subjects.append(s)
    natives = [native for s in subjects if (native := quietly(NATIVE["compiled"], s)) is not None]
    results = quietly(native_results, natives, QUICK) if natives else []
    for s, native, got in zip(subjects, natives, results, strict=True):
        if words := held_against(native, got):
            found.append(f"compiled: {words}\n{s.program.source()}\n{s.program.args}")
    return found


def _asked(s: Subjects) -> tuple[str, ...]:
    """The oracles that have something to say: at a pole there is no derivative that one could hold it to."""
    try:
        results = quietly(lambda: s.interpreted)
    except Exception:  # which is told by the oracles
        return ORACLES
    return ORACLES if all(np.isfinite(np.asarray(y, np.float64)).all() for y in results) else ORACLES[:1]


def _share(kind: str, part: int, parts: int) -> list[str]:
    """Every so many functions; LAPACK has no float16, and what SciPy makes of one differs from function to function."""
    left_out = ".linalg." if kind == "float16" else "-"
    return [p for p in ENTRIES if zlib.crc32(f"{p} {kind}".encode()) % parts == part and left_out not in p]


@pytest.mark.parametrize("kind", KINDS)
def test_functions_on_special_values(kind):
    assert not (faults := _faults(kind, _share(kind, 0, EVERY))), "\n\n".join(faults)


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(16))
@pytest.mark.parametrize("kind", KINDS)
def test_every_function_on_special_values(kind, part):
    assert not (faults := _faults(kind, _share(kind, part, 16))), "\n\n".join(faults)


def test_a_hessian_of_what_known_masks_leave_out_is_zero():
    nothing = as_node(np.zeros((2, 3)))

    def total(x: Any) -> Any:
        return np.sum(np.sin(np.select([nothing > 0.5, nothing < -0.5], [np.sin(nothing), x], 1.5)))

    np.testing.assert_array_equal(gc.hessian(total)(np.zeros((2, 3))), np.zeros((2, 3, 2, 3)))


@pytest.mark.parametrize("f", [special.rel_entr, special.kl_div])
def test_relative_entropies_keep_their_dtype(f):
    """All three cases: inside, at 0, and outside, where the value is infinite."""
    x = np.array([0.5, 0.0, -1.0], np.float32)
    found = f(x, 1.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, getattr(scipy.special, f.__name__)(x, 1.0), 1e-6)


def test_the_walk_reaches_most_functions():
    """On few numbers a call is found for nearly every one of a sample; else what passes would say little."""
    paths = _share("few numbers", 1, 16)
    assert sum(program_on(path, "few numbers") is not None for path in paths) >= 0.85 * len(paths)
