"""The oracles: what must hold of a program, whatever it computes.

Enters: a `Program`.  Leaves: the first `Failure`, or None.

value       the interpreter gives what the same text gives in plain NumPy: dtype, shape, and value within rounding
compiled    machine code gives what the interpreter gives
adjoint     ⟨ct, J t⟩ by forward mode equals ⟨Jᵀct, t⟩ by reverse mode
finite      ⟨ct, J t⟩ equals a difference quotient within the error that it claims
symbolic    ⟨Jᵀct, t⟩ by SymPy's derivative of each op equals that of reverse mode
jacobian    the structured Jacobian, in every mode, equals the columns that forward mode pushes one by one
hessian     the structured Hessian equals the columns of forward over reverse, and reverse over reverse
second      a difference quotient of the gradient equals forward over reverse
gradient    the compiled gradient equals the interpreted one
matrix_…    the compiled Jacobian in each mode, and the compiled Hessian, equal the interpreted ones
batched     `vmap` of the program equals the program row by row
explained   the formulas can be written
checked     `check_gradients` finds nothing

Invariant: a tolerance is the sum of the error bounds of both sides (`gradc.oracle.rounding`), or of the difference
quotient.  A refusal by one of gradc's own errors is no failure, it is counted.  Start reading at `examine`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

import gradc as gc
from gradc.aval import BFLOAT16, Results, finfo, is_float
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.symbolic.written_out import TooLongError
from gradc.errors import GradcError
from gradc.graph import Graph, rewrite
from gradc.node import as_node, constant
from gradc.oracle.compare import VAGUE
from gradc.oracle.lines import Lines
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import subject_of
from gradc.passes import PIPELINE, run_passes
from tests.fuzz.language import Array, Program, quietly
from tests.fuzz.native import DEFAULT, Manner, Native, native_results
from tests.fuzz.reference import NUMPY, flat_results
from tests.fuzz.subjects import Number, Subjects

#: elements of a matrix of derivatives along one side, at most
MOST_COLUMNS = 12


@dataclass(frozen=True)
class Failure:
    """What does not hold: ``kind`` is the same for the same fault, ``words`` says it of this program."""

    oracle: str
    kind: str
    words: str
    manner: Manner = DEFAULT


class RefusedError(Exception):
    """gradc refuses the program by one of its own errors."""


@dataclass
class Matrix:
    """A matrix, and how its error bound is found."""

    value: Array
    whole: Callable[[], Array]

    @cached_property
    def bound(self) -> Array:
        return self.whole()


def to_the_last_place(a: Array, b: Array) -> bool:
    """Whether two arrays of one dtype and shape differ by no more than a rounding of their elements."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not is_float(a.dtype):
        return bool(np.all(a == b))
    close = np.abs(a - b) <= finfo(a.dtype).eps * np.abs(b)
    return bool(np.all(close | (a == b) | (np.isnan(a) & np.isnan(b))))


def differs(got: Array, want: Array, bound: Any = 0.0) -> str | None:
    """In words, where two arrays are further apart than ``bound``; not finite against finite differs."""
    if got.dtype != want.dtype:
        return f"dtype {got.dtype} against {want.dtype}"
    if got.shape != want.shape:
        return f"shape {got.shape} against {want.shape}"
    if not is_float(got.dtype):
        unsure = np.broadcast_to(bound, got.shape)
        apart = (got != want) & ~(unsure > 0)
    else:
        x, y = got.astype(np.float64), want.astype(np.float64)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        apart = ~(same | (np.abs(x - y) <= bound) | ~np.isfinite(np.broadcast_to(bound, x.shape)))
    if not np.any(apart):
        return None
    place = tuple(int(k) for k in np.argwhere(apart)[0])
    return f"{got[place]!r} against {want[place]!r} at {list(place)} of {list(got.shape)}"


# -- oracles -----------------------------------------------------------------------------------------------------------


def value(s: Subjects) -> str | None:
    """The interpreter against plain NumPy."""
    floats = {n.dtype for n in s.graph.nodes if n.aval.is_float and not isinstance(n.aval, Results)}
    if BFLOAT16 in floats:  # NumPy's promotion does not know it
        return None
    try:
        expected = flat_results(s.program.expected(NUMPY))
    except AttributeError:  # a NumPy scalar lacks some methods of arrays
        return None
    narrow = np.dtype(np.float16) in floats
    for y, got, want in zip(s.graph.outputs, s.interpreted, expected, strict=True):
        if got.dtype != want.dtype or got.shape != want.shape:
            return differs(got, want)
        if narrow or to_the_last_place(got, want):
            continue
        if is_float(want.dtype) and np.any(np.isnan(got) & np.isfinite(want)):
            return "NaN where NumPy has a number"
        if words := differs(got, want, 2 * s.errors[y]):
            return words
    return None


def _apart(a: Number, b: Number, names: str) -> str | None:
    """Two numbers with bounds; a number on one side alone is a difference."""
    x, y = a.value, b.value
    if np.isfinite(x) != np.isfinite(y):
        if a.singular() or b.singular():
            return None
        return f"{names}: {x!r} against {y!r}: not finite"
    if not np.isfinite(x) or abs(x - y) <= a.least + b.least:
        return None
    bound = a.bound + b.bound
    if not np.isfinite(bound) or abs(x - y) <= bound:
        return None
    return f"{names}: {x!r} ± {a.bound:.1e} against {y!r} ± {b.bound:.1e}"


def adjoint(s: Subjects) -> str | None:
    """Forward against reverse mode."""
    return _apart(s.pushed, s.reverse, "forward against reverse")


def finite(s: Subjects) -> str | None:
    """Forward mode against a difference quotient: what is wrong is wrong in another direction too.

    The error of a quotient is an estimate, from how it changes with the step, and once in some thousands too small.
    """
    return _quotient(s) and _quotient(s.turned())


def _quotient(s: Subjects) -> str | None:
    (d,) = Lines(s.wide, s.wide.wanted).differences([s.direction])
    quotient, error = float(d.value), float(d.error)
    if float(d.jump) or not error <= VAGUE * max(abs(quotient), 1.0):
        return None
    if not np.isfinite(s.pushed.value):
        return f"forward mode gives {s.pushed.value!r}, the function is smooth: {quotient!r} ± {error:.1e}"
    return _apart(s.pushed, Number(quotient, error, lambda: error), "forward against differences")


def symbolic(s: Subjects) -> str | None:
    """SymPy's derivative of each op against the rules.

    It need not be a number where a record declares the derivative because a limit does not decide: xʸ at x = 0.
    """
    found = s.pulled(symbolic_pull_back)
    if not np.isfinite(found.value) and np.isfinite(s.reverse.value) and s.at_special_point:
        return None
    return _apart(s.reverse, found, "reverse against symbolic")


def _smallest(s: Subjects, wide: bool = True) -> tuple[Callable[..., Any], Array] | None:
    """A small output of the program as a function of its first float input, and the point; ``wide`` in float64."""
    subject = s.wide if wide else subject_of(s.graph, s.program.args)
    leaves = {n: constant(a) for n, a in subject.values.items()}
    first, x = subject.leaves[0], subject.arrays[subject.wanted[0]]
    small = (y for y in subject.graph.outputs if y.aval.is_float and 0 < y.size <= MOST_COLUMNS)
    if (y := next(small, None)) is None or not 0 < x.size <= MOST_COLUMNS:
        return None

    def f(value: Any) -> Any:
        return rewrite([y], lambda node, args: None, leaves | {first: as_node(value)})[0]

    return f, x


def _columns(f: Callable[..., Any], x: Array) -> Matrix:
    """∂f/∂x pushed one unit vector at a time; f's shape + x's."""
    graph = gc.trace(lambda p, t: gc.jvp(f, (p,), (t,))[1], x, x)
    units = np.eye(x.size).reshape(x.size, *x.shape)

    def whole() -> Array:
        (y,) = graph.outputs
        bounds = [running_errors(graph.outputs, dict(zip(graph.inputs, (x, u), strict=True)))[1][y] for u in units]
        return _stacked(bounds, x)

    return Matrix(_stacked([np.asarray(graph.evaluate(x, u)) for u in units], x), whole)


def _stacked(columns: list[Array], x: Array) -> Array:
    return np.stack(columns, -1).reshape(columns[0].shape + x.shape)


def _same_matrix(make: Callable[..., Any], x: Array, want: Matrix, name: str) -> str | None:
    graph = gc.trace(make, x)
    got = np.asarray(graph.evaluate(x), np.float64)
    if not np.all(np.isfinite(want.value)) or to_the_last_place(got, want.value):
        return None
    (y,) = graph.outputs
    error = running_errors(graph.outputs, {graph.inputs[0]: x})[1][y]
    words = differs(got, want.value, error + want.bound)
    return f"{name}: {words}" if words else None


def jacobian(s: Subjects) -> str | None:
    """The structured Jacobian in every mode against columns."""
    chosen = _smallest(s)
    if chosen is None:
        return None
    f, x = chosen
    want = _columns(f, x)
    for mode in ("auto", "forward", "reverse"):
        if words := _same_matrix(gc.jacobian(f, mode=mode), x, want, f"jacobian mode={mode!r}"):
            return words
    return None


def _scalar(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p: np.sum(np.sin(f(p)))


def hessian(s: Subjects) -> str | None:
    """The structured Hessian, and reverse over reverse, against the columns of forward over reverse."""
    chosen = _smallest(s)
    if chosen is None:
        return None
    f, x = _scalar(chosen[0]), chosen[1]
    want = _columns(gc.grad(f), x)
    if words := _same_matrix(gc.hessian(f), x, want, "hessian"):
        return words
    return _same_matrix(gc.jacobian(gc.grad(f), mode="reverse"), x, want, "jacobian of grad, mode='reverse'")


def second(s: Subjects) -> str | None:
    """A difference quotient of the gradient along one direction against forward over reverse."""
    chosen = _smallest(s)
    if chosen is None:
        return None
    f, x = _scalar(chosen[0]), chosen[1]
    inner = Subjects(Program({}, (), ()))
    inner.__dict__["graph"] = graph = gc.trace(gc.grad(f), x)
    inner.__dict__["wide"] = subject_of(graph, [x]).widened()
    return finite(inner)


def batched(s: Subjects) -> str | None:
    """`vmap` over two copies of the first float input, one of them moved, against two runs."""
    name = next((k for k, a in s.program.arrays.items() if is_float(a.dtype)), None)
    if name is None:
        return None
    where = list(s.program.arrays).index(name)
    rows = [s.program.arrays[name], (s.program.arrays[name] * 0.75).astype(s.program.arrays[name].dtype)]
    axes = tuple(0 if k == where else None for k in range(len(s.program.arrays)))
    args = [np.stack(rows) if k == where else a for k, a in enumerate(s.program.args)]
    got = flat_results(gc.vmap(s.function, in_axes=axes)(*args))
    each = []
    for row in rows:
        args_of_row = [row if k == where else a for k, a in enumerate(s.program.args)]
        values = dict(zip(s.graph.inputs, args_of_row, strict=True))
        each.append(running_errors(s.graph.outputs, values))
    for k, y in enumerate(s.graph.outputs):
        want = np.stack([quietly(lambda v=v, y=y: v[y].astype(y.dtype)) for v, _ in each])
        if words := differs(got[k], want, 2 * np.stack([e[y] for _, e in each])):
            return words
    return None


def explained(s: Subjects) -> str | None:
    """The derivation can be written as text and as LaTeX."""
    numbers = [k for k, a in enumerate(s.program.args) if is_float(a.dtype)]
    y = next(k for k, y in enumerate(s.graph.outputs) if y.aval.is_float)
    derivation = gc.explain(lambda *args: np.sum(s.function(*args)[y]), *s.program.args, argnums=numbers[0])
    return None if str(derivation) and derivation.latex() else "no text"


def checked(s: Subjects) -> str | None:
    """`check_gradients` on the program."""
    report = gc.check_gradients(s.function, *s.program.args)
    wrong = [str(f) for f in report.findings] or [f"{r.pair}: {r.words}" for r in report.rows if not r.ok]
    return "; ".join(wrong)[:300] if wrong else None


# -- compiled code -----------------------------------------------------------------------------------------------------


def _native(graph: Graph, args: Sequence[Array], values: int = 0, want: Sequence[Array] | None = None) -> Native:
    """``graph`` to be compiled and held against the interpreter within its running errors.

    Those are of the graph as it is written or as it is rewritten, the larger: x³ is a power, or two products.
    """

    def bounds() -> list[Array]:
        rewritten = run_passes(graph, PIPELINE)
        each = [running_errors(g.outputs, dict(zip(g.inputs, args, strict=True)))[1] for g in (graph, rewritten)]
        pairs = [(each[0][y], each[1][z]) for y, z in zip(graph.outputs, rewritten.outputs, strict=True)]
        return [2 * np.where(np.isfinite(b), np.maximum(a, b), a) for a, b in pairs]

    return Native(graph, args, flat_results(graph.evaluate(*args)) if want is None else want, bounds, values)


def compiled(s: Subjects) -> Native | None:
    """The program."""
    return _native(s.graph, s.program.args, len(s.graph.outputs), s.interpreted)


def gradient(s: Subjects) -> Native | None:
    """The program with its gradient, in its own dtypes."""
    graph = subject_of(s.graph, s.program.args).gradient_graph("reverse")
    return _native(graph, s.program.args, len(s.graph.outputs))


def _matrix(make: Callable[..., Any], s: Subjects) -> Native | None:
    """A matrix of derivatives of a small output of the program, in its own dtypes."""
    chosen = _smallest(s, wide=False)
    if chosen is None:
        return None
    f, x = chosen
    return _native(gc.trace(make(f), x), [x])


NATIVE: dict[str, Callable[[Subjects], Native | None]] = {
    "compiled": compiled,
    "gradient": gradient,
    "matrix_auto": partial(_matrix, gc.jacobian),
    "matrix_forward": partial(_matrix, partial(gc.jacobian, mode="forward")),
    "matrix_reverse": partial(_matrix, partial(gc.jacobian, mode="reverse")),
    "matrix_hessian": partial(_matrix, lambda f: gc.hessian(_scalar(f))),
}


def held_against(native: Native, found: Sequence[Array]) -> str | None:
    """What machine code gave against the interpreter; a derivative that is not finite says nothing."""
    for k, (got, want) in enumerate(zip(found, native.want, strict=True)):
        if to_the_last_place(got, want) or (k >= native.values and not np.all(np.isfinite(want))):
            continue
        if words := differs(got, want, native.bounds()[k]):
            return words
    return None


def _alone(name: str, s: Subjects) -> str | None:
    native = NATIVE[name](s)
    return None if native is None else held_against(native, native_results([native], s.manner)[0])


Oracle = Callable[[Subjects], "str | None"]
_ALL = (value, adjoint, finite, symbolic, jacobian, hessian, second, batched, explained, checked)
ORACLES: dict[str, Oracle] = {f.__name__: f for f in _ALL} | {name: partial(_alone, name) for name in NATIVE}
#: oracles that differentiate twice: of a program that holds derivatives itself, more than three orders in all are asked
#: only where it has no kink, for to the third `gradc.passes.evenness` promises them
TWICE = ("hessian", "second", "matrix_hessian")
#: oracles that need no float input and no float result
OF_VALUES = ("value", "compiled", "batched")


def examine(
    program: Program, oracles: Iterable[str], given: Subjects | None = None, manner: Manner = DEFAULT
) -> Failure | None:
    """The first failure of ``program`` among ``oracles``, what they compile in one ``manner``.

    Raises `RefusedError` if gradc refuses to trace it.
    """
    s = given or Subjects(program, manner)
    try:
        quietly(lambda: s.graph)
    except GradcError as error:
        raise RefusedError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        return raised("trace", error)
    for name in oracles:
        if not applies(name, s):
            continue
        if (failure := one(name, s)) is not None:
            return failure
    return None


def applies(name: str, s: Subjects) -> bool:
    """Whether an oracle has something to say of a program."""
    if name in TWICE and s.program.order > 1 and s.has_kinks:
        return False
    return name in OF_VALUES or s.differentiable


def one(name: str, s: Subjects) -> Failure | None:
    """One oracle on one program."""
    words = attempted(name, ORACLES[name], s)
    if not words or isinstance(words, Failure):
        return words or None
    return Failure(name, f"{name}: {words.split(':')[0]}" if name in ("jacobian", "hessian") else name, words, s.manner)


def attempted(name: str, work: Callable[[Subjects], Any], s: Subjects) -> Any:
    """``work(s)``; None where gradc refuses it, a `Failure` where it raises what no user should see."""
    try:
        return quietly(work, s)
    except GradcError as error:
        if str(error).startswith("leaked") or isinstance(error, gc.CompileError):
            return raised(name, error, s.manner)
        return None if _is_refusal(error) else raised(name, error, s.manner)
    except Exception as error:
        return raised(name, error, s.manner)


def _is_refusal(error: GradcError) -> bool:
    """What may be refused: reverse mode of a loop without a bound, and what says how to do it otherwise."""
    said = ("max_steps", "no derivative", "no symbolic derivative", "for which there is no op", "explain")
    return isinstance(error, TooLongError) or any(words in str(error) for words in said)


def raised(name: str, error: Exception, manner: Manner = DEFAULT) -> Failure:
    """An error that no user should see, with the place in gradc where it arose."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/gradc/" in f.filename]
    place = f"{frames[-1].filename.rsplit('/gradc/', 1)[-1]}:{frames[-1].name}" if frames else "outside gradc"
    first = (str(error).splitlines() or [""])[0]
    kind = type(error).__name__
    return Failure(name, f"{name}: {kind} in {place}", f"raised {kind}: {first[:200]} ({place})", manner)
