"""The oracle says what it knows and no more, at the price of some gradients.

What it costs is counted; recursions of many steps are compared whole, within bounds that hold and stay small; compiled
code is compared as it is scheduled for threads and in donated memory; special points close by are visited; NaN beside
NaN is no agreement.  Each claim has a planted fault that has to be named.
"""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest

import gradc as gc
import gradc.schedule.memory as schedule_memory
import gradc.schedule.split as schedule_split
from gradc.machines.stages import Stages
from gradc.node import OPS
from gradc.oracle import check, check_gradients, matrices
from gradc.oracle.bounds import bounded
from gradc.oracle.check import check_graph, default_compiler
from gradc.oracle.compare import Estimate, Slope, Verdict, compare
from gradc.oracle.kernels import agrees
from gradc.oracle.lines import Lines
from gradc.oracle.report import LEAST
from gradc.oracle.rules import derivative_faults, meaning_faults
from gradc.oracle.sampled import sampled_errors
from gradc.oracle.witness import subject_of
from gradc.trace import trace
from tests.test_oracle import must_name, one_op, planted

THETA = np.array([0.1, -0.2])
#: gradients that a check may cost
MOST_GRADIENTS = 20


def observed(length):
    return np.random.default_rng(0).standard_normal(length)


# -- models of many steps ----------------------------------------------------------------------------------------------

A = np.array([[0.9, 0.1], [-0.1, 0.9]])


def kalman_step(theta, c, y):
    m, p = c
    m = A @ m
    p = A @ p @ A.T + np.exp(theta[0]) * np.eye(2)
    s = p[0, 0] + np.exp(theta[1])
    k = p[:, 0] / s
    e = y - m[0]
    return (m + k * e, p - np.outer(k, p[0])), np.log(s) + e * e / s


def kalman(theta, ys):
    return np.sum(gc.scan(lambda c, y: kalman_step(theta, c, y), (np.zeros(2), np.eye(2)), ys)[1])


def unrolled(theta, ys):
    c, total = (np.zeros(2), np.eye(2)), 0.0
    for t in range(len(ys)):
        c, v = kalman_step(theta, c, ys[t])
        total = total + v
    return total


def until_the_end(theta, ys):
    def body(s):
        t, c, total = s
        c, v = kalman_step(theta, c, ys[t])
        return t + 1, c, total + v

    start = (0, (np.zeros(2), np.eye(2)), 0.0)
    return gc.while_loop(lambda s: s[0] < len(ys), body, start, max_steps=len(ys) + 3)[2]


def loops_in_loops(theta, ys):
    def outer(c, y):
        c = gc.fori_loop(0, 4, lambda i, h: np.sin(h * theta[0] + y) * 0.9, c)
        return gc.cond(c > 0, lambda h: h * theta[1], np.tanh, c), c

    return np.sum(gc.scan(outer, 0.3, ys)[1])


def runge_kutta(theta, ys):
    def slope(s):
        return np.array([[0.0, 1.0], [-1.0, -0.1]]) @ s + theta * np.sin(s)

    def step(s, y):
        k1 = slope(s)
        k2 = slope(s + 0.05 * k1)
        s = s + 0.05 * (k1 + slope(s + 0.1 * k2))
        return s, (s[0] - y) ** 2

    return np.sum(gc.scan(step, np.array([1.0, 0.0]), ys)[1])


MODELS = [kalman, until_the_end, loops_in_loops, runge_kutta]


# -- the price ---------------------------------------------------------------------------------------------------------


class Counted:
    """Work: evaluations of ops by their NumPy meaning (a batch of lanes is one), and compilations."""

    def __init__(self, monkeypatch):
        self.operations = self.compilations = 0
        for op in OPS.values():
            if op.kind.value not in ("loop", "branch", "call", "item"):
                object.__setattr__(op, "numpy", self._counted(op, op.numpy, monkeypatch))
        right = Stages.load
        monkeypatch.setattr(Stages, "load", lambda this: self._compiles(right, this))

    def _counted(self, op, right, monkeypatch):
        def meaning(*args, **attrs):
            self.operations += 1
            return right(*args, **attrs)

        self._held = [*getattr(self, "_held", []), (op, right)]
        return meaning

    def _compiles(self, right, this):
        self.compilations += 1
        return right(this)

    def of(self, f, *args):
        self.operations = self.compilations = 0
        f(*args)
        return self.operations, self.compilations

    def restore(self):
        for op, right in self._held:
            object.__setattr__(op, "numpy", right)


@pytest.fixture
def counted(monkeypatch):
    counter = Counted(monkeypatch)
    yield counter
    counter.restore()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", MODELS, ids=lambda f: f.__name__)
def test_a_check_of_a_loop_costs_at_most_twenty_gradients(model, counted):
    """Gradients by the interpreter, at any number of steps; besides, the gradient is compiled twice."""
    ratios = []
    for length in (10, 50):
        args = THETA, observed(length)
        gradient, _ = counted.of(gc.grad(model, argnums=(0, 1)), *args)
        checked, compilations = counted.of(check_gradients, model, *args)
        assert compilations == 2
        ratios.append(checked / gradient)
    assert max(ratios) <= MOST_GRADIENTS, ratios
    assert ratios[1] <= 1.1 * ratios[0], ratios


def test_a_check_that_is_asked_for_two_methods_costs_less(counted):
    args = kalman, THETA, observed(20)
    everything, _ = counted.of(check_gradients, *args)
    two, compilations = counted.of(lambda: check_gradients(*args, methods=("forward", "reverse")))
    assert two < 0.6 * everything
    assert compilations == 0


# -- recursions are compared whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, unrolled], ids=lambda f: f.__name__)
def test_recursions_are_compared_in_every_entry(model):
    report = check_gradients(model, THETA, observed(40), methods=("symbolic", "forward", "reverse", "finite"))
    assert report.ok, str(report)
    assert all(row.settled == row.entries for row in report.rows if row.derivative), str(report)
    assert all(row.relative < 1e-7 for row in report.rows), str(report)


@pytest.mark.parametrize("model", [kalman, unrolled], ids=lambda f: f.__name__)
def test_a_derivative_that_is_off_in_the_eighth_digit_is_noticed_after_forty_steps(model):
    def broken(graph):
        run = default_compiler()(graph)
        return lambda arrays: [np.asarray(y) * (1 + 1e-8) for y in run(arrays)]

    args = THETA, observed(40)
    rows = check.agreement(trace(model, *args), args, ("reverse", "compiled"), broken)
    assert [row.verdict for row in rows] == [Verdict.WRONG, Verdict.WRONG]


def filtered(q, xs, log, one):
    """A filter of one number: negative log-likelihood of ``xs``."""
    m, p, total = 0 * one, one, 0 * one
    for x in xs:
        p = p * q * q + one / 4
        s = p + one / 2
        e = x - q * m
        k = p / s
        m, p = q * m + k * e, p - k * p
        total = total + log(s) + e * e / s
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sampled_bounds_hold_and_are_realistic(dtype):
    """Against 50 digits, where worst cases grow with every step."""
    xs = observed(40).astype(dtype)
    point = np.asarray(0.9, dtype)
    with mpmath.workdps(50):
        exact = mpmath.diff(lambda q: filtered(q, [mpmath.mpf(float(x)) for x in xs], mpmath.log, mpmath.mpf(1)),
                            mpmath.mpf(float(point)))  # fmt: skip
    graph = subject_of(trace(lambda q: filtered(q, list(xs), np.log, dtype(1)), point), [point]).gradient_graph(
        "reverse"
    )
    _, errors = sampled_errors(graph.outputs, {graph.inputs[0]: point})
    computed, bound = graph.evaluate(point)[1], float(errors[graph.outputs[1]])
    assert abs(float(mpmath.mpf(float(computed)) - exact)) <= bound
    assert bound <= 2**13 * np.finfo(dtype).eps * abs(float(exact))


@pytest.mark.parametrize("steps", [100, 3000])
def test_errors_that_add_up_in_one_direction_are_bounded_too(steps):
    """0.1 added again and again: each rounding has the sign of the one before."""
    start = np.float64(0.0)
    graph = trace(lambda x: gc.fori_loop(0, steps, lambda i, c: c + 0.1, x), start)
    found = bounded(graph.outputs, {graph.inputs[0]: start})
    (y,) = graph.outputs
    off = abs(float(mpmath.mpf(float(found.values[y])) - steps * mpmath.mpf(0.1)))
    assert found.sampled
    assert 0 < off <= found.errors[y] < 1e-6


def test_runs_that_no_batching_rule_takes_together_go_one_by_one(monkeypatch):
    from gradc.errors import TraceError
    from gradc.oracle import sampled

    def refuses(*args):
        raise TraceError("no lanes")

    graph = trace(lambda x: gc.scan(lambda c, _: (np.sin(c) * 1.5, None), x, None, length=20)[0], 0.7)
    known = {graph.inputs[0]: np.float64(0.7)}
    (y,) = graph.outputs
    together = sampled_errors([y], known)[1][y]
    monkeypatch.setattr(sampled, "batch", refuses)
    alone = sampled_errors([y], known)[1][y]
    assert together / 8 <= alone <= 8 * together


def test_chaos_is_not_comparable_and_not_ok():
    """After 90 doublings of every error nothing is left of 53 bits, and the report says so."""
    f = lambda x: gc.fori_loop(0, 90, lambda i, c: 4.0 * c * (1.0 - c), x)
    report = check_gradients(f, 0.3, methods=("symbolic", "forward", "reverse"))
    assert not report.ok
    assert "NOT ENOUGH COMPARED" in str(report) or "NOTHING COMPARED" in str(report)
    assert not report.findings


def test_lines_through_a_point_without_elements_are_flat():
    x = np.zeros(0)
    lines = Lines(subject_of(trace(lambda x: (x, np.sum(x)), x), [x]), [0])
    (found,) = lines.differences([{0: x}])
    assert (float(found.value), float(found.jump)) == (0.0, 0.0)


# -- enough, and why not -----------------------------------------------------------------------------------------------


def test_too_small_a_part_compared_is_not_ok_and_says_why():
    x = np.array([-1.0] * 9 + [4.0])
    report = check_gradients(lambda x: np.sum(np.sqrt(x)), x, methods=("forward", "reverse"))
    assert [row.settled for row in report.rows] == [1]
    assert 0.1 < LEAST
    assert not report.ok
    assert report.compared == 1
    assert "not comparable: 9 of 10 entries, because: NaN in both at 9" in str(report)
    assert "NOT ENOUGH COMPARED: of x less than a third" in str(report)


def test_a_value_that_is_nan_leaves_too_little_to_compare_and_no_fault():
    report = check_gradients(lambda x: np.sum(x * x), np.array([np.nan, np.inf, 1.0]))
    assert not report.ok
    assert not report.findings
    assert "NOT ENOUGH COMPARED" in str(report)


def test_enough_compared_is_ok_and_says_what_was_not():
    report = check_gradients(lambda x: np.sum(np.sqrt(x)), np.array([-1.0, 1.0, 4.0]), methods=("forward", "reverse"))
    assert report.ok
    assert "not comparable: 1 of 3 entries, because: NaN in both at 1" in str(report)


def test_a_bound_as_wide_as_the_gradient_compares_nothing():
    def estimate(method, value):
        slope = Slope(np.array(value), np.array([1e-3, 1.0]), np.zeros(2, bool))
        return Estimate(method, (slope,), (np.dtype(np.float64),))

    row = compare("x", "", estimate("forward", [1.0, 1.1]), estimate("reverse", [1.0 + 1e-4, 0.9]), 0, None, 0.0)
    assert (row.settled, row.entries) == (1, 2)
    assert "bounds too wide to say something at 1 of 2" in row.words


# -- NaN ---------------------------------------------------------------------------------------------------------------


def test_nan_beside_nan_is_no_agreement_in_any_derivation():
    """Gradients by all methods, the Jacobian, values, and compiled code in both schedules."""
    report = check_gradients(lambda x: np.sum(x * np.log(x)), np.array([-1.0, -2.0]))
    assert not report.ok
    for row in report.rows:
        assert row.settled == 0, str(report)
        assert "agree" not in row.words
        assert row.words != "equal"
        assert "NaN" in row.words or row.verdict is Verdict.UNSURE


def test_a_nan_that_a_meaning_compares_is_left_out():
    """SymPy refuses to compare NaN; the number beside it is held against its meaning."""
    (larger,) = gc.trace(np.maximum, gc.spec((2,)), gc.spec((2,))).outputs
    assert meaning_faults(larger, [np.array([2.0, np.nan]), np.zeros(2)]) == []


def test_nan_beside_nan_is_no_agreement_in_the_hessian():
    graph = trace(lambda x: np.sum(x**3 * np.log(x)), np.array([-1.0, 2.0]))
    second = matrices.curvature(subject_of(graph, [np.array([-1.0, 2.0])]))
    rows = check.agreement(second.graph, second.arrays, ("forward", "jacobian"))
    assert rows
    for row in rows:
        assert row.settled < row.entries
        assert "NaN in both" in row.words


def test_nan_that_a_kernel_should_not_give_is_wrong():
    graph = trace(lambda x: np.sqrt(x), np.array([-1.0, 4.0]))
    (y,), (x,) = graph.outputs, graph.inputs
    known = {x: np.array([-1.0, 4.0])}
    values = {**known, y: np.array([np.nan, 2.0])}
    assert agrees(y, np.array([np.nan, 2.0]), known, values)
    assert not agrees(y, np.array([np.nan, np.nan]), known, values)


# -- as scheduled ------------------------------------------------------------------------------------------------------

LARGE = np.linspace(-1.0, 1.0, 1 << 17).astype(np.float32)
SMALL = np.linspace(0.1, 0.9, 9)


def squares(x):
    return np.tanh(x) ** 2


def palindrome(x):
    return np.sum(x * x[::-1])


def test_the_report_says_which_schedules_were_compared():
    small = str(check_gradients(palindrome, SMALL))
    assert "threads (with too little work to share) with donated inputs (x)" in small
    large = str(check_gradients(squares, LARGE, methods=("reverse", "compiled")))
    assert "threads (shared) with donated inputs (x)" in large
    assert "threads, donated" in large and "equal bit for bit" in large
    assert "donated" not in str(check_gradients(squares, LARGE[:9], methods=("reverse", "forward")))


def test_code_that_is_wrong_for_several_threads_alone_is_named(monkeypatch, unverified):
    right = schedule_split._cut

    def wrong(*args):
        split = right(*args)
        return split if split is None else replace(split, extent=split.extent - split.steps)

    monkeypatch.setattr(schedule_split, "_cut", wrong)
    report = check_gradients(squares, LARGE, methods=("reverse", "compiled"))
    assert not report.ok
    assert [row.pair[1] for row in report.rows if not row.ok] == [report.rows[-1].pair[1]]
    assert report.first_wrong.stage == "kernel"
    assert report.first_wrong.words.startswith("with 2 threads")


def test_a_donated_argument_that_is_overwritten_too_early_is_named(monkeypatch, unverified):
    monkeypatch.setattr(schedule_memory, "_settle", lambda plan, storage: None)
    report = check_gradients(palindrome, SMALL, methods=("reverse", "compiled"))
    assert not report.ok
    assert [row.ok for row in report.rows].count(False) == 1
    assert report.first_wrong.words.startswith("with donated inputs"), str(report)


# -- special points ----------------------------------------------------------------------------------------------------

NEAR_ZERO = np.array([1e-9, 2.0])


def test_special_points_close_by_are_compared_or_declared():
    report = check_gradients(lambda x: np.sum(np.abs(x) * x + np.sqrt(x) + x**2.0), NEAR_ZERO)
    assert report.ok, str(report)
    said = str(report)
    assert "special point: absolute at 0 (test_oracle_honest.py" in said
    assert "declared singular: 0 (0 at 0)" in said
    assert "declared singular: inf (+inf at 0)" in said
    assert "special point: power at (0, 2)" in said and "0, 0, compared" in said


def test_far_special_points_are_not_visited():
    assert "special point" not in str(check_gradients(lambda x: np.sum(np.abs(x)), np.array([1e-3, 2.0])))


@pytest.mark.parametrize("wrap", [
    lambda f, x: f(x),
    lambda f, x: gc.scan(lambda c, _: (f(c) + 1e-9, None), x, None, length=2)[0],
    lambda f, x: gc.cond(np.sum(x) > 0, f, np.sin, x),
])  # fmt: skip
def test_a_partial_that_is_wrong_at_a_special_point_only_is_named(wrap):
    right = OPS["absolute"].partials
    with planted("absolute", partials=lambda y, x: (np.where(x == 0, 0.7, right(y, x)[0]),)):
        report = check_gradients(lambda x: np.sum(wrap(np.abs, x)), NEAR_ZERO, methods=("forward", "reverse"))
        must_name(report, "absolute", "rule", "partials")
        assert "is 0.7, the record declares 0" in str(report)
        assert check_gradients(lambda x: np.sum(np.abs(x)), np.array([0.5, 2.0]), methods=("forward", "reverse")).ok


def test_a_smooth_special_point_is_held_against_the_values():
    """x² at 0 is smooth: nothing that the record declares can excuse the rule."""
    op = OPS["power"]
    declared = {**op.special, (0.0, 2.0): (0.3, 0.0)}
    right = op.partials
    with planted(
        "power",
        special=declared,
        partials=lambda z, x, y: (np.where(x == 0, 0.3, right(z, x, y)[0]), right(z, x, y)[1]),
    ):
        report = check_gradients(lambda x: np.sum(x ** (x * 0 + 2.0)), NEAR_ZERO, methods=("forward", "reverse"))
    must_name(report, "power", "rule", "partials")
    assert "difference quotient" in str(report)


def test_code_that_is_wrong_at_a_special_point_only_is_named():
    right = OPS["sign"].lower
    with planted("sign", lower=lambda b, x: b.select(b.eq(x, 0), b.const(1, x), right(b, x))):
        report = check_gradients(lambda x: np.sum(np.abs(x)), NEAR_ZERO)
    assert not report.ok
    assert (report.first_wrong.stage, report.first_wrong.op) == ("kernel", "absolute"), str(report)
    assert "in compiled code, the rule gives 0" in report.first_wrong.words


def test_results_that_compile_to_one_value_count_once_each():
    """A loop of no steps returns its start, which is the other result."""
    f = lambda x: (gc.fori_loop(2, 2, lambda i, y: np.tanh(y), x), x)
    assert check_gradients(f, np.array(1.0)).ok


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x != 0, x, 0.0),
        lambda x: np.where(np.abs(x) > 0, np.clip(x, -5, 5), 0.0),
        lambda x: gc.cond(x == 0, lambda x: 0 * x, lambda x: 2 * x, x),
    ],
)
def test_a_branch_that_is_taken_at_the_point_alone_is_a_kink(f):
    """Its derivative is the branch's; a difference quotient sees the others, and proves nothing against it."""
    report = check_gradients(f, 0.0, methods=("reverse", "finite"))
    assert report.rows[0].verdict is Verdict.KINK
    assert check_gradients(f, 0.25).ok and Verdict.KINK not in [row.verdict for row in check_gradients(f, 0.25).rows]


# -- rules and meanings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tanh", "multiply", "logaddexp"])
def test_rules_are_not_blamed_for_a_meaning_that_an_op_has_not(name):
    """They are judged by differences and by each other; what is wrong beside them is named."""
    graph, arrays = one_op(name)
    right, partials = OPS[name].lower, OPS[name].partials
    with planted(name, sympy=None):
        assert check_graph(graph, arrays, ("reverse", "forward", "finite")).ok
        assert not derivative_faults(graph.outputs[0], arrays)
    with planted(name, sympy=None, lower=lambda b, *xs: b.add(right(b, *xs), 0.125)):
        must_name(check_graph(graph, arrays, ("reverse", "compiled")), name, "kernel", "lowering")
    with planted(name, sympy=None, partials=lambda *xs: [2 * p for p in partials(*xs)]):
        must_name(check_graph(graph, arrays, ("reverse", "finite")), name, "rule", "partials")


# -- solutions of equations --------------------------------------------------------------------------------------------

A3 = np.diag([4.0, 3.0, 2.0]) + 0.3

#: searches that stop where their default tolerances, or one of 10⁻³, let them
SEARCHES = {
    "minimize": lambda p: gc.minimize(lambda x: np.sum((x - p) ** 2) + np.sum(x**4), np.ones(3)).x,
    "minimize, roughly": lambda p: gc.minimize(lambda x: np.sum((x - p) ** 2 + x**4), np.ones(3), tol=1e-3).x,
    "root": lambda p: gc.root(lambda x: x**3 + x - p, np.ones(3), tol=1e-3).x,
    "fixed point": lambda p: gc.fixed_point(lambda x: np.cos(0.5 * x) + 0.1 * p, np.ones(3), tol=1e-3).x,
    "linear": lambda p: gc.linear_solve(lambda x: A3 @ x + p**2 * x, p, tol=1e-3).x,
    "batch": lambda p: gc.vmap(lambda a: gc.root(lambda x: x**3 + x - a, 1.0, tol=1e-3).x)(p),
}


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_what_a_search_leaves_undone_is_no_error_of_its_derivative(name):
    report = check_gradients(SEARCHES[name], np.array([0.3, 0.5, -0.2]))
    assert report.ok and "taken to rounding" in str(report)
    exact = [r for r in report.rows if r.pair == ("forward", "finite")]
    assert exact and all(row.relative < 1e-9 for row in exact)
    assert "special point: sqrt" not in str(report)  # nobody differentiates the search


def test_an_integration_is_checked_at_the_price_of_its_steps():
    """Symbolic mode, which goes through all steps that the loop may take, says that it was left out."""
    f = lambda a: gc.odeint(lambda y, t: -a * y, np.ones(1), np.array([0.0, 1.0]), rtol=1e-3, atol=1e-3)[-1, 0]
    report = check_gradients(f, 0.7)
    assert report.ok and "symbolic left out" in str(report) and "steps that loops may take" in str(report)


BEYOND_SYMPY = {
    "gammainc": lambda p: gc.special.gammainc(p, 3.0).sum(),
    "gammaincc": lambda p: gc.special.gammaincc(p, 3.0).sum(),
}


@pytest.mark.parametrize("name", BEYOND_SYMPY)
def test_a_derivative_that_ops_cannot_write_is_left_out_and_no_fault(name):
    """SymPy has none, or one of functions that gradc does not have; a wrong rule is found all the same."""
    report = check_gradients(BEYOND_SYMPY[name], np.array([1.3, 2.2]))
    assert report.ok and f"symbolic left out: the SymPy derivative of {name} contains" in str(report)
    right = OPS[name].partials
    wrong = lambda y, *args, **attrs: tuple(p * 1.01 for p in right(y, *args, **attrs))
    with planted(name, partials=wrong):
        must_name(check_gradients(BEYOND_SYMPY[name], np.array([1.3, 2.2])), name, "rule", "partials")


def test_a_wrong_derivative_of_a_solution_is_found():
    right = lambda a: gc.root(lambda x: x * x - a, 1.0, tangent_solve=lambda g, b: b / g(1.0)).x
    wrong = lambda a: gc.root(lambda x: x * x - a, 1.0, tangent_solve=lambda g, b: 1.01 * b / g(1.0)).x
    assert check_gradients(right, 2.0).ok
    report = check_gradients(wrong, 2.0)
    assert not report.ok and report.first_wrong.op == "root"


AT_A_POINT = {
    "copysign": lambda x: np.copysign(x, x), "sign": lambda x: abs(x) * np.sign(x),
    "branch": lambda x: np.where(x != 0, x, 0.0),
}  # fmt: skip
AROUND = {
    "plain": lambda f, x: f(x), "call": lambda f, x: gc.checkpoint(f)(x),
    "loop": lambda f, x: gc.fori_loop(0, 2, lambda i, c: np.tanh(f(c)), x),
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("f", AT_A_POINT)
def test_what_is_so_at_a_point_and_on_neither_side_of_it_is_a_kink_in_bodies_too(f, around):
    """x written by jumps and branches at 0: its declared derivative there is 0, that of differences 1."""
    lines = Lines(
        subject_of(gc.trace(lambda x: AROUND[around](AT_A_POINT[f], x).sum(), np.zeros(2)), [np.zeros(2)]), [0]
    )
    (at,) = lines.differences([{0: np.array([1.0, 0.5])}])
    assert at.jump
    assert np.isinf(at.error)


@pytest.mark.parametrize("around", AROUND)
def test_kinks_that_cancel_are_compared_at_the_point(around):
    f = lambda x: np.maximum(x, 0) + np.minimum(x, 0)
    lines = Lines(subject_of(gc.trace(lambda x: AROUND[around](f, x).sum(), np.zeros(2)), [np.zeros(2)]), [0])
    (found,) = lines.differences([{0: np.array([1.0, 0.5])}])
    np.testing.assert_allclose(found.value, 1.5)
    assert not found.jump
