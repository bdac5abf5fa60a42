"""`gc.error_bound` beside rounding errors that were measured: compiled code against 80-bit and 30-digit arithmetic.

A program is run at points around one, for the error at a single point may be 0 by luck; the largest root mean square of
the errors there is the truth.  The estimate is at most ten times that, and at least a third of it.
"""

from __future__ import annotations

import functools
import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, Phase, given, settings

import gradc as gc
from gradc.diff.modes import pull_back
from gradc.interpret import topological
from gradc.node import constant
from gradc.ops.leaves import full
from gradc.ops.record import LEAVES, Kind
from gradc.trace import run
from tests.programs import programs

LONG = np.longdouble
POINTS = 16
UNIT = 2.0**-53

needs_long = pytest.mark.skipif(np.finfo(LONG).eps > 1e-18, reason="long double is no wider than double here")


class NoReferenceError(Exception):
    """An op whose meaning is not to be had in more digits."""


@functools.cache
def _in_digits(op, count, attrs):
    """The SymPy meaning of an op as a function of numbers of 30 digits."""
    if op.sympy is None:
        raise NoReferenceError(op.name)
    xs = sympy.symbols(f"x:{count}", real=True)
    return sympy.lambdify(xs, op.sympy(sympy, *xs, **dict(attrs)), "mpmath")


def _exact(x):
    """A long double as a number of 30 digits, exactly."""
    high = float(x)
    return mpmath.mpf(high) + mpmath.mpf(float(x - LONG(high)))


def _element(f, *xs):
    with mpmath.workdps(30):
        y = f(*map(_exact, xs))
        if not isinstance(y, mpmath.mpf):
            raise NoReferenceError
        high = float(y)
        return LONG(high) + LONG(float(y - high)) if math.isfinite(high) else LONG(high)


def _value(node, args):
    """A node's value in long doubles."""
    op = node.op
    if op.kind is Kind.ELEMENTWISE and node.aval.is_float and not op.exact and not isinstance(op.numpy, np.ufunc):
        try:
            f = _in_digits(op, len(args), tuple(sorted(node.attrs.items())))
            flat = [_element(f, *xs) for xs in zip(*(np.ravel(a) for a in args), strict=True)]
        except (NoReferenceError, NameError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
            raise NoReferenceError(op.name) from error
        return np.array(flat, LONG).reshape(node.shape)
    if op.converts:
        return args[0].astype(LONG) if node.aval.is_float else op.numpy(*args, **node.attrs)
    try:
        found = np.asarray(op.numpy(*args, **node.attrs))
    except KeyError as error:  # it looks its own dtypes up
        raise NoReferenceError(op.name) from error
    if node.aval.is_float and found.dtype != LONG:
        if op.kind not in LEAVES:
            raise NoReferenceError(op.name)
        found = found.astype(LONG)
    return found.reshape(node.shape)


def in_long(graph, arrays):
    """The results of a graph in long doubles."""
    known = {x: np.asarray(a, LONG) for x, a in zip(graph.inputs, arrays, strict=True)}
    with np.errstate(all="ignore"):
        for node in topological(graph.outputs):
            if node not in known:
                known[node] = _value(node, [known[a] for a in node.args])
    return [known[y] for y in graph.outputs]


def with_gradient(graph):
    """The value and the gradient of a program, as it is written."""
    pulled = pull_back(graph.outputs, graph.inputs, [constant(np.ones(()))])
    gradient = [full(x.shape, 0, x.dtype) if g is None else g for x, g in zip(graph.inputs, pulled, strict=True)]
    return graph.replace(outputs=(*graph.outputs, *gradient), in_tree=None, out_tree=None)


def compared(program):
    """For the value and each gradient (estimate, truth, size), as root mean squares; None without a reference."""
    whole = with_gradient(program.graph)
    random = np.random.default_rng(0)
    points = [program.arrays]
    points += [
        tuple(a * (1 + 1e-9 * random.uniform(-1, 1, a.shape)) for a in program.arrays) for _ in range(POINTS - 1)
    ]
    try:
        exact = [in_long(whole, point) for point in points]
    except NoReferenceError:
        return None
    if not all(np.isfinite(y).all() for y in exact[0]):
        return None

    def f(*xs):
        return run(program.graph, xs)[0]

    said = gc.error_bound(f, *program.arrays)
    code = gc.jit(gc.value_and_grad(f, argnums=tuple(range(len(program.arrays)))))
    runs = []
    for point in points:
        value, gradient = code(*point)
        runs.append([value, *gradient])
    estimates = [*said.value_errors, *said.gradient_errors]
    rows = []
    for k, estimate in enumerate(estimates):
        if estimate.size:
            off = [_rms(got[k] - true[k]) for got, true in zip(runs, exact, strict=True)]
            rows.append((_rms(estimate), max(off), _rms(exact[0][k])))
    return rows


def _rms(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, LONG)))))


def judged(rows):
    """Whether an estimate is within a factor of 10 of the truth, and not below it by more than 3."""
    return all(truth <= 3 * estimate <= 30 * truth for estimate, truth, _ in rows)


def _drawn(count):
    """As many random programs with a reference, and how they came out."""
    found = []

    @settings(
        max_examples=3 * count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(steps=False, scalar=True))
    def draw(program):
        if len(found) < count:
            rows = compared(program)
            if rows is not None:
                found.append((program, rows))

    draw()
    return found


@needs_long
@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.nightly)])
def test_the_estimate_is_near_the_errors_that_are_made(count):
    found = _drawn(count)
    assert len(found) == count
    for program, rows in found:
        assert judged(rows), f"{program!r}\nestimate, truth, size: {rows}"
    ratios = [estimate / truth for _, rows in found for estimate, truth, _ in rows if truth > 0]
    assert 0.8 < np.median(ratios) < 2.5 and len(ratios) > count


def test_a_judgement_can_fail():
    assert judged([(1e-16, 1e-16, 1.0)])
    assert not judged([(1e-16, 4e-16, 1.0)]) and not judged([(1e-13, 1e-16, 1.0)])


def tumours():
    given = gc.data.breast_cancer()
    x = (given.features - given.features.mean(0)) / given.features.std(0)
    return x, given.labels.astype(float)


def logistic(w, x, y):
    z = x @ w
    return np.mean(np.logaddexp(0, z) - y * z)


def test_of_float32_it_is_beside_float64():
    """A model on real data, as a whole and element by element: errors of float32 are measured in float64."""
    x, y = (a.astype(np.float32) for a in tumours())
    rng = np.random.default_rng(0)
    said, off = None, []
    code = gc.jit(gc.value_and_grad(logistic))
    start = rng.normal(size=30)
    for _ in range(16):
        w = (start * (1 + 1e-3 * rng.normal(size=30))).astype(np.float32)
        said = gc.error_bound(logistic, w, x, y, argnums=0) if said is None else said
        low, high = code(w, x, y), code(*(a.astype(float) for a in (w, x, y)))
        off.append([abs(low[0] - high[0]), np.abs(low[1] - high[1])])
    value, gradient = max(v for v, _ in off), np.max([g for _, g in off], axis=0)
    assert value / 3 <= said.value_errors[0] <= 10 * value
    assert np.all(gradient <= 3 * said.gradient_errors[0]) and _rms(said.gradient_errors[0]) <= 10 * _rms(gradient)
    assert said.names == ("w",) and said.gradient[0].shape == (30,) and not said.sampled
    assert "logistic, estimated" in str(said) and "where they come from" in str(said)


def test_many_results_are_examined_by_random_combinations():
    x = np.random.default_rng(1).normal(size=(20, 30))

    def f(x):
        return np.tanh(3 * x).sum() / 7

    said = gc.error_bound(f, x)
    exact = gc.error_bound(lambda row: np.tanh(3 * row).sum() / 7, x[:4])
    assert said.sampled and not exact.sampled and "root mean square" in str(said)
    assert _rms(said.gradient_errors[0]) == pytest.approx(_rms(exact.gradient_errors[0]), rel=0.3)


def test_cancellation_is_found_with_its_line():
    def f(x):
        big = 1e6 + x
        return (big - 1e6) * 3.0

    said = gc.error_bound(f, 0.1)
    first = said.contributions[0]
    assert first.op == "add" and first.value > 0.99 and first.where.function == "f"
    assert first.where.line == f.__code__.co_firstlineno + 1 and first.place in str(said)
    true = abs(((1e6 + 0.1) - 1e6) * 3.0 - 0.3)
    assert true / 3 < said.value_errors[0] < 10 * true


def test_exact_arithmetic_has_no_errors():
    said = gc.error_bound(lambda x: (x * 2.0 + 4.0).sum(), np.array([1.0, 2.0, 3.0]))
    assert said.value_errors[0] == 0 and not said.gradient_errors[0].any() and not said.contributions
    assert said.value[0] == 24


def test_a_loop_is_one_operation_and_its_error_is_that_of_its_runs():
    """x ← 3.9x(1 − x) doubles errors at each step: what the estimate says is beside runs in 30 digits."""

    def f(x):
        return gc.fori_loop(0, 20, lambda k, v: 3.9 * v * (1 - v), x)

    said = gc.error_bound(f, 0.3)
    code, off = gc.jit(f), []
    for x in 0.3 + 1e-8 * np.arange(12):
        with mpmath.workdps(40):
            v = mpmath.mpf(float(x))
            for _ in range(20):
                v = mpmath.mpf(3.9) * v * (1 - v)
            off.append(abs(float(mpmath.mpf(float(code(x))) - v)))
    assert max(off) / 3 <= said.value_errors[0] <= 10 * max(off)
    assert said.contributions[0].op == "loop"


def test_several_results_and_what_is_refused():
    said = gc.error_bound(lambda x: (np.exp(x), np.sin(x).sum()), np.ones(3))
    assert len(said.value) == 2 and said.value[0].shape == (3,) and said.gradient == () and said.names == ()
    assert np.all((said.value_errors[0] > 0.3 * UNIT * math.e) & (said.value_errors[0] < 8 * UNIT * math.e))
    with pytest.raises(gc.DTypeError, match="must return floats"):
        gc.error_bound(lambda x: x > 0, np.ones(3))
    with pytest.raises(TypeError, match="argnums=3"):
        gc.error_bound(lambda x: x.sum(), np.ones(3), argnums=3)


def test_what_a_guard_leaves_out_adds_nothing():
    """√ has an infinite slope at 0 and none below; np.where takes neither, nor does the gradient."""
    found = gc.error_bound(lambda x: np.where(x > 0, np.sqrt(x), 0.0).sum(), np.array([0.0, 2.0, -1.0]))
    assert found.gradient_errors[0][[0, 2]].tolist() == [0, 0] and 0 < found.gradient_errors[0][1] < 1e-15
    assert "nan" not in str(found) and "inf" not in str(found)
    assert "0 ± 0 (of a value that is 0, 0 units" in str(gc.error_bound(lambda x: x * 0, 1.0))
