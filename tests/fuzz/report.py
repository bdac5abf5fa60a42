"""A failing program as a Python file that shows the failure on its own.

Enters: a program and its failure.  Leaves: text.  Start reading at `file_of`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from tests.fuzz.check import NATIVE, Failure
from tests.fuzz.language import Array, Program, literal, quietly, script
from tests.fuzz.native import donations
from tests.fuzz.reference import NUMPY, flat_results
from tests.fuzz.scope import is_float
from tests.fuzz.subjects import Subjects

SCALAR = "total = lambda *a: sum(np.sum(gnp.sin(y.astype(float))) for y in f(*a) if y.dtype.kind == 'f')"
ONE = "one = lambda x: [y for y in f(x, *args[1:]) if y.dtype.kind == 'f'][0]"
COLUMNS = [
    "columns = lambda g, x: np.stack([gc.jvp(g, (x,), (u.reshape(x.shape),))[1] for u in np.eye(x.size)], -1)",
    "want = columns({g}, args[0])",
]


INTERPRETED = "gc.trace(f, *args).evaluate(*args)"
COMPARED = [
    "for a, b in zip(got, want, strict=True):",
    "    assert np.asarray(a).dtype == np.asarray(b).dtype",
    "    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-6, atol=1e-9)",
]  # fmt: skip
#: the same within ``bounds``, those beyond which the oracle called it wrong
BOUNDED = [
    "for a, b, bound in zip(got, want, bounds, strict=True):",
    "    assert np.asarray(a).dtype == np.asarray(b).dtype",
    "    a, b, bound = (np.atleast_1d(np.asarray(v, float)) for v in (a, b, bound))",
    "    near = np.isclose(a, b, rtol=0, atol=bound, equal_nan=True) | np.isinf(bound)",
    "    assert np.all(near), f'Not equal to tolerance: {a[~near]} against {b[~near]}, bounds {bound[~near]}'",
]  # fmt: skip
#: what is compiled and verified, and how: ``made`` of ``given``, on threads that share whatever they can
CODE = [
    "from unittest import mock",
    "from gradc.api.executable import Executable",
    "from gradc.machines.options import Options",
    "from gradc.schedule import split",
    "options = Options(recall=False, check=True, threads={threads}, donate={donate})",
    "shared = mock.patch.multiple(split, FORK_SECONDS=0.0, THREAD_SECONDS=1e-12, PIECE_SECONDS=1e-12, LANE_GRAIN=1)",
    "with shared:",
    "    graph = gc.trace(made, *given)",
    "    got = Executable(graph, options).native(*(np.array(a) for a in given))",
    "want = graph.evaluate(*given)",
]
MATRICES = {
    "matrix_auto": "gc.jacobian(one)", "matrix_forward": "gc.jacobian(one, mode='forward')",
    "matrix_reverse": "gc.jacobian(one, mode='reverse')",
    "matrix_hessian": "gc.hessian(lambda x: np.sum(gnp.sin(one(x))))",
}  # fmt: skip
CHECKED = ["report = gc.check_gradients(f, *args)", "print(report)", "assert report.ok"]
#: two methods of `gc.grad` that an oracle holds against each other
METHODS = {"adjoint": ("reverse", "forward"), "finite": ("forward", "finite"), "symbolic": ("reverse", "symbolic")}


def _of_values(program: Program, failure: Failure) -> list[str]:
    if failure.words.startswith("raised"):
        return [f"print({INTERPRETED})"]
    expected = flat_results(quietly(program.function(NUMPY, reference=True), *program.args))
    subjects = Subjects(program)
    bounds = _written([2 * subjects.errors[y] for y in subjects.graph.outputs])
    return [f"got = {INTERPRETED}", f"want = ({', '.join(map(literal, expected))},)", bounds, *BOUNDED]


def _written(bounds: Sequence[Array]) -> str:
    """The bounds as a line of the file."""
    return f"bounds = ({', '.join(literal(np.asarray(b, np.float64)) for b in bounds)},)"


def _of_gradients(program: Program, failure: Failure) -> list[str]:
    if failure.words.startswith("raised"):
        return CHECKED
    found = f"(gc.grad(total, {_floats(program)}, method=m)(*args) for m in {METHODS[failure.oracle]})"
    return [SCALAR, f"got, want = {found}", *COMPARED]


def _floats(program: Program) -> tuple[int, ...]:
    return tuple(k for k, a in enumerate(program.args) if is_float(a))


def _of_code(program: Program, failure: Failure) -> list[str]:
    """The code that was wrong, or could not be made, in the manner in which it was."""
    manner, subjects = failure.manner, Subjects(program)
    donate, compared = {}, COMPARED
    with contextlib.suppress(Exception):  # what cannot be traced now is told by the lines themselves
        native = NATIVE[failure.oracle](subjects)
        donate = donations([native]) if native is not None and manner.donated else {}
        compared = [_written(native.bounds()), *BOUNDED] if native is not None else COMPARED
    made, given = f"made = {MATRICES.get(failure.oracle, 'f')}", "given = args"
    begun = [made, given]
    if failure.oracle == "gradient":
        begun = [SCALAR, f"made = lambda *a: (*f(*a), *gc.grad(total, {_floats(program)})(*a))", given]
    elif failure.oracle in MATRICES:
        begun = [ONE, made, "given = args[:1]"]
    return [*begun, *(line.format(threads=manner.threads, donate=donate) for line in CODE), *compared]


def _of_matrices(program: Program, failure: Failure) -> list[str]:
    mode = failure.words.split("mode=")[-1].split(":")[0] if "mode=" in failure.words else "'auto'"
    scalar = "scalar = lambda x: np.sum(gnp.sin(one(x)))"
    if failure.oracle == "second":
        quotient = "gc.grad(lambda x, u=u: np.sum(gc.grad(scalar)(x) * u.reshape(x.shape)), method='finite')(args[0])"
        return [
            ONE, scalar, f"want = np.stack([{quotient} for u in np.eye(args[0].size)]).reshape(args[0].shape * 2)",
            "np.testing.assert_allclose(gc.hessian(scalar)(args[0]), want, rtol=1e-5, atol=1e-7, equal_nan=False)",
        ]  # fmt: skip
    function = "one" if failure.oracle == "jacobian" else "gc.grad(scalar)"
    matrix = "gc.hessian(scalar)" if failure.oracle != "jacobian" and "mode" not in failure.words else (
        f"gc.jacobian({function}, mode={mode})")  # fmt: skip
    return [
        ONE, scalar, "columns = lambda g, x: [gc.jvp(g, (x,), (u.reshape(x.shape),))[1] for u in np.eye(x.size)]",
        f"got = {matrix}(args[0])", f"want = np.stack(columns({function}, args[0]), -1).reshape(got.shape)",
        "np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9, equal_nan=False)",
    ]  # fmt: skip


def _of_rows(program: Program, failure: Failure) -> list[str]:
    axes = (0, *[None] * (len(program.args) - 1))
    return [
        "rows = [args[0], (args[0] * 0.75).astype(args[0].dtype)]",
        f"got = gc.vmap(f, in_axes={axes})(np.stack(rows), *args[1:])",
        "each = [gc.trace(f, x, *args[1:]).evaluate(x, *args[1:]) for x in rows]",
        "want = [np.stack(parts) for parts in zip(*each)]", *COMPARED,
    ]  # fmt: skip


def _lines(program: Program, failure: Failure) -> list[str]:
    oracle = failure.oracle
    if oracle in ("value", "trace"):
        return _of_values(program, failure)
    if oracle in NATIVE:
        return _of_code(program, failure)
    if oracle in METHODS:
        return _of_gradients(program, failure)
    if oracle in ("jacobian", "hessian", "second"):
        return _of_matrices(program, failure)
    if oracle == "batched":
        return _of_rows(program, failure)
    if oracle == "explained":
        return [ONE, "print(gc.explain(lambda x: np.sum(one(x)), args[0]))"]
    return CHECKED


def file_of(program: Program, failure: Failure) -> str:
    """The file; it exits with an error as long as the fault is there."""
    head = f"{failure.kind}\n{failure.words}\n{program.title}"
    return script(program, _lines(program, failure), head)


def show(program: Program) -> str:
    """A program as it is printed in a failing test."""
    return script(program, ["print(f(*args))"], program.title) if program.args else np.array2string(np.zeros(0))
