"""Derivatives, batches and rewrites of loops: every program against the same function written as a Python loop."""

from __future__ import annotations

import functools
import math
import tracemalloc

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.containers import leaves_of
from gradc.diff import loops
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.ops.record import Kind
from gradc.passes import LOWERING, PIPELINE, run_passes
from tests.loop_programs import PROGRAMS

NAMES = sorted(PROGRAMS)
#: twelve significant digits: sums of some hundred terms in another order
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def _hold(found, expected):
    pairs = zip(leaves_of(found)[0], leaves_of(expected)[0], strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, **CLOSE)


def _all(program):
    return tuple(range(len(program.args)))


@pytest.mark.parametrize("name", NAMES)
def test_value_is_that_of_the_python_loop(name):
    program = PROGRAMS[name]
    _hold(program.native(*program.args), program.unrolled(*program.args))


@pytest.mark.parametrize("method", ["reverse", "forward"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_python_loop(name, method):
    program = PROGRAMS[name]
    expected = gc.grad(program.unrolled, _all(program))(*program.args)
    _hold(gc.grad(program.native, _all(program), method=method)(*program.args), expected)


@pytest.mark.parametrize("name", NAMES)
def test_second_order_in_every_order_of_modes(name):
    program = PROGRAMS[name]
    f, g, args = program.native, program.unrolled, program.args
    expected = gc.hvp(g, args, args)
    _hold(gc.hvp(f, args, args), expected)

    def slope(function):  # reverse over forward, and reverse over reverse
        return lambda *a: gc.jvp(function, a, args)[1]

    _hold(gc.grad(slope(f), _all(program))(*args), expected)

    def along(*a):
        parts = zip(leaves_of(gc.grad(f, _all(program))(*a))[0], leaves_of(args)[0], strict=True)
        return sum((p * np.asarray(t)).sum() for p, t in parts)

    _hold(gc.grad(along, _all(program))(*args), expected)


def test_third_order_through_a_bounded_while_loop():
    program = PROGRAMS["newton"]
    third, same = (gc.grad(gc.grad(gc.grad(f))) for f in (program.native, program.unrolled))
    _hold(third(2.0), same(2.0))


#: many elements, each moved back and forth by itself
LENGTHY = {"kalman", "lstm", "nested", "pendulum"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LENGTHY)) for n in NAMES])
def test_all_witnesses_agree(name):
    """Symbolic, forward, reverse and finite differences, each within its own error bound, and all of each compared."""
    program = PROGRAMS[name]
    report = gc.check_gradients(program.native, *program.args, methods=("symbolic", "forward", "reverse", "finite"))
    assert report.ok, str(report)
    assert "left out" not in str(report)
    assert all(row.settled == row.entries - row.kinks for row in report.rows), str(report)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_one_example_after_another(name):
    program = PROGRAMS[name]
    flat, structure = leaves_of(program.args)
    rows = [[a * (1 + 0.03125 * k) for a in map(np.asarray, flat)] for k in range(3)]
    batched = structure.unflatten([np.stack(column) for column in zip(*rows, strict=True)])
    gradient = gc.grad(program.native, _all(program))
    for f in (program.native, gradient):
        each = [leaves_of(f(*structure.unflatten(row)))[0] for row in rows]
        _hold(gc.vmap(f)(*batched), [np.stack(column) for column in zip(*each, strict=True)])
    total = gc.grad(lambda *a: gc.vmap(program.native)(*a).sum(), _all(program))
    _hold(total(*batched), gc.vmap(gradient)(*batched))


def test_a_batch_of_while_loops_runs_each_to_its_own_end():
    def halvings(x):
        return gc.while_loop(lambda s: s[0] > 1.0, lambda s: (s[0] / 2, s[1] + 1), (x, 0))[1]

    assert gc.vmap(halvings)(np.array([0.5, 3.0, 100.0])).tolist() == [0, 2, 7]


def test_a_batch_of_branches_never_mixes_in_what_was_not_taken():
    """√ of a negative number is NaN in the branch that is not taken; neither value nor gradient sees it."""
    f = lambda p, x: gc.cond(p, np.sqrt, lambda x: 3 * x, x)
    which, x = np.array([True, False, False]), np.array([4.0, -1.0, 0.0])
    assert gc.vmap(f)(which, x).tolist() == [2.0, -3.0, 0.0]
    assert gc.vmap(gc.grad(f, 1))(which, x).tolist() == [0.25, 3.0, 3.0]
    assert gc.grad(lambda x: gc.vmap(f)(which, x).sum())(x).tolist() == [0.25, 3.0, 3.0]
    assert float(gc.grad(f, 1)(False, -1.0)) == 3.0


def test_reverse_mode_needs_a_bound():
    f = lambda x: gc.while_loop(lambda y: y < 10.0, lambda y: y * x, 1.0)
    with pytest.raises(gc.TraceError, match=r"max_steps="):
        gc.grad(f)(2.0)
    assert float(gc.jvp(f, (2.0,), (1.0,))[1]) == 4 * 2.0**3
    assert float(gc.grad(f, method="forward")(2.0)) == 4 * 2.0**3


def test_adjointness():
    """⟨ct, J t⟩ = ⟨Jᵀct, t⟩ for a loop with carries, constants, rows and stacked results."""
    random = np.random.default_rng(3)
    f = lambda w, xs: gc.scan(lambda h, x: (np.sin(w @ h) * x, h * x), np.ones(3), xs)
    args = (random.normal(size=(3, 3)), random.normal(size=(6, 3)))
    tangents = tuple(random.normal(size=a.shape) for a in args)
    value, pushed = gc.jvp(f, args, tangents)
    ct = tuple(random.normal(size=np.shape(v)) for v in value)
    pulled = gc.vjp(f, *args)[1](ct)
    left = sum((c * p).sum() for c, p in zip(ct, pushed, strict=True))
    assert abs(left - sum((p * t).sum() for p, t in zip(pulled, tangents, strict=True))) < 1e-12 * abs(left)


def test_carries_without_a_tangent_stay_without_one():
    def f(x):
        step = lambda c, _: ((c[0] + 1, c[1] * x, gc.stop_gradient(c[1])), None)
        count, y, held = gc.scan(step, (0, 1.0, 0.0), length=4)[0]
        return y + held * count

    tangents = gc.trace(lambda x: gc.jvp(f, (x,), (1.0,))[1], 2.0)
    (loop,) = [n for n in run_passes(tangents, PIPELINE).nodes if n.op.kind is Kind.LOOP]
    assert loop.attrs["carries"] == 2, "x⁴ and its tangent: neither the counter nor the held value is needed"
    assert float(gc.grad(f)(2.0)) == 4 * 8.0


def test_residuals_that_do_not_change_are_not_stacked():
    """Of h' = tanh(h w) the backward loop reads w as it is, and one stack of h per step."""
    f = lambda w, h: gc.scan(lambda h, _: (np.tanh(h @ w), None), h, length=50)[0].sum()
    graph = run_passes(gc.trace(gc.grad(f), np.ones((4, 4)), np.ones(4)), PIPELINE)
    forward, backward = [n for n in graph.nodes if n.op.kind is Kind.LOOP]
    stacks = [p.shape for p in forward.aval.parts if p.shape[:1] == (50,)]
    assert set(stacks) == {(50, 4)}
    assert len(stacks) == 2
    assert backward.attrs["reverse"]


@pytest.mark.parametrize("name", NAMES)
def test_passes_keep_values_and_every_graph_is_valid(name):
    program = PROGRAMS[name]
    for f in (program.native, gc.value_and_grad(program.native, _all(program))):
        graph = gc.trace(f, *program.args)
        flat = leaves_of((program.args, {}))[0]
        rewritten = run_passes(graph, (*PIPELINE, *LOWERING), check=True)
        _hold(rewritten.evaluate(*flat), graph.evaluate(*flat))


def test_primal_tangents_and_residuals_share_one_loop():
    program = PROGRAMS["rnn"]
    tangents = gc.trace(lambda *a: gc.jvp(program.native, a, a), *program.args)
    gradient = gc.trace(gc.value_and_grad(program.native), *program.args)
    assert _loops(run_passes(tangents, PIPELINE)) == 1
    assert _loops(run_passes(gradient, PIPELINE)) == 2


def _loops(graph):
    return sum(n.op.kind is Kind.LOOP for n in graph.nodes)


def test_what_no_step_changes_leaves_the_loop():
    f = lambda w, x: gc.scan(lambda h, _: (h * np.exp(w).sum(), None), x, length=9)[0]
    graph = run_passes(gc.trace(f, np.ones((3, 3)), 1.0), PIPELINE)
    (loop,) = [n for n in graph.nodes if n.op.kind is Kind.LOOP]
    assert [n.op.name for n in loop.attrs["body"].nodes if n.args] == ["multiply"]


def test_an_index_out_of_range_stays_in_a_loop_that_does_not_run():
    table = np.arange(3.0)
    step = lambda i: lambda s: (s[0] + 1, s[1] + gnp.take(table, i))
    f = lambda n, i: gc.while_loop(lambda s: s[0] < n, step(i), (0, 0.0))[1]
    graph = run_passes(gc.trace(f, 0, 7), PIPELINE)
    assert float(graph.evaluate(0, 7)[0]) == 0.0
    with pytest.raises(gc.IndexingError):
        graph.evaluate(1, 7)


def test_unread_parts_leave_the_loop():
    def f(x):
        step = lambda c, x: ((c[0] + x, c[1] * 2.0, c[2] + c[1]), (x * x, c[0]))
        (total, _, _), (_, sums) = gc.scan(step, (0.0, 1.0, 0.0), x)
        return total + sums.sum()

    graph = run_passes(gc.trace(f, np.ones(5)), PIPELINE)
    (loop,) = [n for n in graph.nodes if n.op.kind is Kind.LOOP]
    assert (loop.attrs["carries"], len(loop.aval.parts)) == (1, 2)


def test_a_known_branch_and_short_loops_are_written_out():
    f = lambda x: gc.cond(np.bool_(True), np.sin, np.cos, gc.fori_loop(0, 1, lambda i, y: y * 2, x))
    graph = run_passes(gc.trace(f, 0.5), PIPELINE)
    assert [n.op.name for n in graph.nodes if n.args] == ["multiply", "sin"]


# -- loops that may take many more steps than they take ----------------------------------------------------------------
def _bounded(most, steps):
    def f(w, x):
        def body(state):
            return np.tanh(w * state[0]) + 0.1 * state[0], state[1] + 1

        return np.sum(gc.while_loop(lambda s: s[1] < steps, body, (x, 0), max_steps=most)[0] ** 2)

    return f


def _written_out(most, steps):
    def f(w, x):
        for _ in range(min(most, steps)):
            x = np.tanh(w * x) + 0.1 * x
        return np.sum(x**2)

    return f


OPERANDS = np.linspace(0.5, 1.5, 4), np.linspace(0.1, 1.0, 4)


@pytest.mark.parametrize("most", [7, 31, 100])
def test_steps_in_blocks_have_the_gradient_of_the_steps(most, monkeypatch):
    """Blocks of three steps, several levels of them, left within any step of any block."""
    monkeypatch.setattr(loops, "BLOCK_BYTES", 0)
    monkeypatch.setattr(loops, "BLOCK_STEPS", 3)
    for steps in (0, 1, 3, 4, 9, 10, 31, 50):
        expected = gc.grad(_written_out(most, steps), (0, 1))(*OPERANDS)
        _hold(gc.grad(_bounded(most, steps), (0, 1))(*OPERANDS), expected)
    compiled = gc.jit(gc.grad(_bounded(most, 10), (0, 1)))
    _hold(compiled(*OPERANDS), gc.grad(_written_out(most, 10), (0, 1))(*OPERANDS))


def test_steps_in_blocks_have_second_derivatives_and_batches(monkeypatch):
    monkeypatch.setattr(loops, "BLOCK_BYTES", 0)
    monkeypatch.setattr(loops, "BLOCK_STEPS", 3)
    blocks, written = _bounded(7, 5), _written_out(7, 5)
    _hold(gc.hessian(blocks)(*OPERANDS), gc.hessian(written)(*OPERANDS))
    _hold(gc.hvp(blocks, OPERANDS, OPERANDS[::-1]), gc.hvp(written, OPERANDS, OPERANDS[::-1]))
    twice = [gc.grad(lambda w, x, f=f: np.sum(gc.grad(f)(w, x) * np.cos(w)))(*OPERANDS) for f in (blocks, written)]
    _hold(*twice)
    both = [gc.vmap(gc.grad(f), in_axes=(0, None))(np.stack(OPERANDS), OPERANDS[1]) for f in (blocks, written)]
    _hold(*both)


def _grown(v):
    return v * np.sin(v) + 2 * v


def _steps_taken(v):
    steps = 0
    while np.sum(v) < 1e5:
        v, steps = _grown(v), steps + 1
    return steps


def test_the_gradient_of_a_bounded_loop_costs_the_steps_it_takes():
    """Memory grows with the logarithm of the most steps, and a loop that ends early touches the first block alone."""
    x, held = np.full(1000, 3.0), {}
    steps = _steps_taken(x)
    expected = gc.grad(lambda x: np.sum(functools.reduce(lambda v, _: _grown(v), range(steps), x)))(x)
    for most in (10, 10**4, 10**6):
        f = gc.grad(lambda x, most=most: np.sum(gc.while_loop(lambda v: np.sum(v) < 1e5, _grown, x, max_steps=most)))
        tracemalloc.start()
        interpreted = f(x)
        held[most] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        plan = Stages(gc.trace(f, x), Options()).schedule
        levels = math.ceil(math.log(most, loops.BLOCK_STEPS))
        assert plan.temporary_bytes < 8 * levels * 2 * loops.BLOCK_BYTES
        _hold(interpreted, expected)
    assert held[10**6] < held[10] + 4 * loops.BLOCK_BYTES


def test_a_loop_of_at_most_one_step_compiles():
    run = gc.jit(lambda x: gc.while_loop(lambda v: v < 10.0, lambda v: v * 2.0, x, max_steps=1))
    assert (run(3.0), run(12.0)) == (6.0, 12.0)
