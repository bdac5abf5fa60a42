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
batched     `vmap` of the program equals the program row by row
explained   the formulas can be written
checked     `check_gradients` finds nothing

Invariant: a tolerance is the sum of the error bounds of both sides (`gradc.oracle.rounding`), or of the difference
quotient.  A refusal by one of gradc's own errors is no failure, it is counted.  Start reading at `examine`.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradc as gc
from gradc.aval import BFLOAT16, Results, is_float
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.symbolic.written_out import LongLoopError
from gradc.errors import GradcError
from gradc.graph import Graph
from gradc.node import Node, constant
from gradc.oracle.check import default_compiler
from gradc.oracle.compare import VAGUE
from gradc.oracle.lines import Lines
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import Subject, subject_of
from tests.fuzz.language import Array, Program, quietly
from tests.fuzz.reference import GRADC, NUMPY, flat_results

#: a quotient of a difference of values this much larger than its derivative is drowned in them
MOST_COLUMNS = 12


@dataclass(frozen=True)
class Failure:
    """What does not hold: ``kind`` is the same for the same fault, ``words`` says it of this program."""

    oracle: str
    kind: str
    words: str


class RefusedError(Exception):
    """gradc refuses the program by one of its own errors."""


@dataclass
class Subjects:
    """A program with what all oracles need, made once."""

    program: Program

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        return self.program.function(GRADC)

    @functools.cached_property
    def graph(self) -> Graph:
        return gc.trace(self.function, *self.program.args)

    @functools.cached_property
    def values(self) -> tuple[dict[Node, Array], dict[Node, Array]]:
        """Every node's value in float64 and the rounding of the program's own dtypes."""
        return running_errors(self.graph.outputs, dict(zip(self.graph.inputs, self.program.args, strict=True)))

    @functools.cached_property
    def interpreted(self) -> list[Array]:
        return flat_results(self.graph.evaluate(*self.program.args))

    @functools.cached_property
    def wide(self) -> Subject:
        """The program in float64, with weights for its results: what derivatives are taken of."""
        return subject_of(self.graph, self.program.args).widened()

    @functools.cached_property
    def direction(self) -> dict[int, Array]:
        random = np.random.default_rng(1)
        return {i: random.choice([-1.0, -0.5, 0.5, 1.0], self.wide.arrays[i].shape) for i in self.wide.wanted}

    @functools.cached_property
    def differentiable(self) -> bool:
        graph = self.graph
        return any(x.aval.is_float for x in graph.inputs) and any(y.aval.is_float for y in graph.outputs)

    @functools.cached_property
    def pushed(self) -> tuple[float, float]:
        """⟨ct, J t⟩ by forward mode, with its rounding."""
        wide = self.wide
        tangents = [constant(self.direction[i]) for i in wide.wanted]
        moved = push_forward(wide.graph.outputs, wide.leaves, tangents)
        pairs = [(wide.weights[y], t) for y, t in zip(wide.graph.outputs, moved, strict=True)
                 if t is not None and y in wide.weights]  # fmt: skip
        return paired(pairs, wide.values)

    def pulled(self, pull: Callable[..., Sequence[Node | None]] = pull_back) -> tuple[float, float]:
        """⟨Jᵀct, t⟩ by a reverse mode, with its rounding."""
        wide = self.wide
        cotangents = [constant(wide.weights[y]) if y in wide.weights else None for y in wide.graph.outputs]
        found = pull(wide.graph.outputs, wide.leaves, cotangents)
        pairs = [(self.direction[i], g) for i, g in zip(wide.wanted, found, strict=True) if g is not None]
        return paired(pairs, wide.values)

    @functools.cached_property
    def reverse(self) -> tuple[float, float]:
        return self.pulled()


def paired(pairs: Sequence[tuple[Array, Node]], values: Mapping[Node, Array]) -> tuple[float, float]:
    """Σ weight · value, and how far rounding may move it."""
    known, errors = running_errors([n for _, n in pairs], values)
    total = sum(float(np.sum(w * known[n])) for w, n in pairs)
    own = 2 * np.finfo(np.float64).eps
    bound = sum(float(np.sum(np.abs(w) * (errors[n] + own * max(n.size, 1) * np.abs(known[n])))) for w, n in pairs)
    return total, bound


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
        expected = flat_results(s.program.function(NUMPY, reference=True)(*s.program.args))
    except AttributeError:  # a NumPy scalar lacks some methods of arrays
        return None
    narrow = np.dtype(np.float16) in floats
    for y, got, want in zip(s.graph.outputs, s.interpreted, expected, strict=True):
        if got.dtype != want.dtype or got.shape != want.shape:
            return differs(got, want)
        close = quietly(lambda a=got, b=want: np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
        if not narrow and not close and (words := differs(got, want, 2 * s.values[1][y])):
            return words
    return None


def compiled(s: Subjects, results: Sequence[Array] | None = None) -> str | None:
    """Machine code against the interpreter."""
    found = results if results is not None else compiled_results([s.graph], [s.program.args])[0]
    for y, got, want in zip(s.graph.outputs, found, s.interpreted, strict=True):
        same = quietly(lambda a=got, b=want: np.array_equal(a, b))
        if not same and (words := differs(np.asarray(got), want, 2 * s.values[1][y])):
            return words
    return None


def _apart(a: tuple[float, float], b: tuple[float, float], names: str) -> str | None:
    """Two numbers with bounds; a number on one side alone is a difference."""
    (x, ex), (y, ey) = a, b
    if not np.isfinite(ex + ey) and np.isfinite(x) and np.isfinite(y):
        return None
    if np.isfinite(x) != np.isfinite(y):
        return f"{names}: {x!r} against {y!r}: not finite"
    if not np.isfinite(x) or abs(x - y) <= ex + ey:
        return None
    return f"{names}: {x!r} ± {ex:.1e} against {y!r} ± {ey:.1e}"


def adjoint(s: Subjects) -> str | None:
    """Forward against reverse mode."""
    return _apart(s.pushed, s.reverse, "forward against reverse")


def finite(s: Subjects) -> str | None:
    """Forward mode against a difference quotient."""
    (d,) = Lines(s.wide, s.wide.wanted).differences([s.direction])
    if float(d.jump) or not np.isfinite(d.error):
        return None
    found, error = s.pushed
    if not float(d.error) <= VAGUE * max(abs(float(d.value)), 1.0):
        return None
    if not np.isfinite(found):
        return f"forward mode gives {found!r}, the function is smooth: {float(d.value)!r} ± {float(d.error):.1e}"
    return _apart((found, error), (float(d.value), float(d.error)), "forward against differences")


def symbolic(s: Subjects) -> str | None:
    """SymPy's derivative of each op against the rules."""
    return _apart(s.reverse, s.pulled(symbolic_pull_back), "reverse against symbolic")


def _output(s: Subjects, number: int) -> Callable[..., Any]:
    """The wide program as a function of its first float input, giving output ``number``."""
    wide = s.wide
    graph = wide.graph

    def f(x: Any) -> Any:
        from gradc.graph import rewrite
        from gradc.node import as_node

        leaves = {n: constant(a) for n, a in wide.values.items()}
        leaves[graph.inputs[wide.wanted[0]]] = as_node(x)
        return rewrite([graph.outputs[number]], lambda node, args: None, leaves)[0]

    return f


def _smallest(s: Subjects) -> tuple[Callable[..., Any], Array] | None:
    """A small output of the program as a function of its first float input, and the point."""
    wide = s.wide
    x = wide.arrays[wide.wanted[0]]
    for k, y in enumerate(wide.graph.outputs):
        if y.aval.is_float and 0 < y.size <= MOST_COLUMNS and 0 < x.size <= MOST_COLUMNS:
            return _output(s, k), x
    return None


def _columns(f: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """∂f/∂x pushed one unit vector at a time, with bounds; f's shape + x's."""
    columns, bounds = [], []
    for place in np.ndindex(x.shape):
        unit = np.zeros(x.shape)
        unit[place] = 1.0
        graph = gc.trace(lambda p, unit=unit: gc.jvp(f, (p,), (unit,))[1], x)
        known, errors = running_errors(graph.outputs, {graph.inputs[0]: x} if graph.inputs else {})
        (y,) = graph.outputs
        columns.append(known[y])
        bounds.append(errors[y])
    return (np.stack(a, -1).reshape(a[0].shape + x.shape) for a in (columns, bounds))  # type: ignore[return-value]


def _same_matrix(make: Callable[..., Any], x: Array, want: Array, bound: Array, name: str) -> str | None:
    graph = gc.trace(make, x)
    known, errors = running_errors(graph.outputs, {graph.inputs[0]: x})
    (y,) = graph.outputs
    if not np.all(np.isfinite(want)):
        return None
    words = differs(known[y].astype(np.float64), want.astype(np.float64), errors[y] + bound)
    return f"{name}: {words}" if words else None


def jacobian(s: Subjects) -> str | None:
    """The structured Jacobian in every mode against columns."""
    chosen = _smallest(s)
    if chosen is None:
        return None
    f, x = chosen
    want, bound = _columns(f, x)
    for mode in ("auto", "forward", "reverse"):
        if words := _same_matrix(gc.jacobian(f, mode=mode), x, want, bound, f"jacobian mode={mode!r}"):
            return words
    return None


def _scalar(s: Subjects) -> tuple[Callable[..., Any], Array] | None:
    chosen = _smallest(s)
    if chosen is None:
        return None
    f, x = chosen
    return (lambda p: np.sum(np.sin(f(p)))), x


def hessian(s: Subjects) -> str | None:
    """The structured Hessian, and reverse over reverse, against the columns of forward over reverse."""
    chosen = _scalar(s)
    if chosen is None:
        return None
    f, x = chosen
    want, bound = _columns(gc.grad(f), x)
    if words := _same_matrix(gc.hessian(f), x, want, bound, "hessian"):
        return words
    return _same_matrix(gc.jacobian(gc.grad(f), mode="reverse"), x, want, bound, "jacobian of grad, mode='reverse'")


def second(s: Subjects) -> str | None:
    """A difference quotient of the gradient along one direction against forward over reverse."""
    chosen = _scalar(s)
    if chosen is None:
        return None
    f, x = chosen
    graph = gc.trace(gc.grad(f), x)
    inner = Subjects(Program({}, (), ()))
    inner.__dict__["graph"] = graph
    wide = subject_of(graph, [x]).widened()
    inner.__dict__["wide"] = wide
    return finite(inner)


def compiled_results(graphs: Sequence[Graph], arguments: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Several graphs compiled as one module and called."""
    inputs = tuple(x for g in graphs for x in g.inputs)
    outputs = tuple(y for g in graphs for y in g.outputs)
    flat = iter(default_compiler()(Graph(inputs, outputs))([a for args in arguments for a in args]))
    return [[np.asarray(next(flat)) for _ in g.outputs] for g in graphs]


def gradient(s: Subjects) -> str | None:
    """The compiled gradient, in the program's own dtypes, against the interpreted one."""
    subject = subject_of(s.graph, s.program.args)
    graph = subject.gradient_graph("reverse")
    (found,) = compiled_results([graph], [s.program.args])
    known, errors = running_errors(graph.outputs, subject.values)
    for y, got in zip(graph.outputs, found, strict=True):
        want = quietly(lambda a=known[y], d=y.dtype: np.asarray(a).astype(d))
        if np.all(np.isfinite(known[y].astype(np.float64))) and (words := differs(got, want, 2 * errors[y])):
            return words
    return None


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


Oracle = Callable[[Subjects], "str | None"]
_ALL = (
    value, compiled, adjoint, finite, symbolic, jacobian, hessian, second, gradient, batched, explained, checked,
)  # fmt: skip
ORACLES: dict[str, Oracle] = {f.__name__: f for f in _ALL}
#: oracles of derivatives: for programs with a float input and a float result
DERIVATIVES = ("adjoint", "finite", "symbolic", "jacobian", "hessian", "second", "gradient", "explained", "checked")


def examine(program: Program, oracles: Iterable[str], given: Subjects | None = None) -> Failure | None:
    """The first failure of ``program`` among ``oracles``.  Raises `RefusedError` if gradc refuses to trace it."""
    s = given or Subjects(program)
    try:
        quietly(lambda: s.graph)
    except GradcError as error:
        raise RefusedError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        return raised("trace", error)
    for name in oracles:
        if name in DERIVATIVES and not s.differentiable:
            continue
        if (failure := one(name, s)) is not None:
            return failure
    return None


def one(name: str, s: Subjects) -> Failure | None:
    """One oracle on one program."""
    try:
        words = quietly(ORACLES[name], s)
    except GradcError as error:
        if str(error).startswith("leaked") or isinstance(error, gc.CompileError):
            return raised(name, error)
        return None if _is_refusal(error) else raised(name, error)
    except Exception as error:
        return raised(name, error)
    if not words:
        return None
    return Failure(name, f"{name}: {words.split(':')[0]}" if name in ("jacobian", "hessian") else name, words)


def _is_refusal(error: GradcError) -> bool:
    """What may be refused: reverse mode of a loop without a bound, and what says how to do it otherwise."""
    return isinstance(error, LongLoopError) or any(w in str(error) for w in ("max_steps", "no derivative", "explain"))


def raised(name: str, error: Exception) -> Failure:
    """An error that no user should see, with the place in gradc where it arose."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/gradc/" in f.filename]
    place = f"{frames[-1].filename.rsplit('/gradc/', 1)[-1]}:{frames[-1].name}" if frames else "outside gradc"
    first = (str(error).splitlines() or [""])[0]
    kind = type(error).__name__
    return Failure(name, f"{name}: {kind} in {place}", f"raised {kind}: {first[:200]} ({place})")
