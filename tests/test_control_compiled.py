"""Loops as machine code: against the interpreter, between guard bytes, in place, counted by their steps."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.containers import leaves_of
from gradc.graph import Graph
from gradc.ops.control import bodies
from gradc.ops.record import LEAVES
from gradc.passes import LOWERING, PIPELINE, run_passes
from gradc.schedule.bodies import Repeat, every_part
from tests.compiled_graph import CompiledGraph
from tests.loop_programs import PROGRAMS

NAMES = sorted(PROGRAMS)


def _lowered(f, *args) -> Graph:
    return run_passes(gc.trace(f, *args), (*PIPELINE, *LOWERING), check=True)


def _hold(f, *args, rtol=1e-11):
    """Compiled between guard bytes, against the interpreter on the graph as written."""
    flat = [np.asarray(a) for a in leaves_of((args, {}))[0]]
    expected = gc.trace(f, *args).evaluate(*flat)
    code = CompiledGraph(_lowered(f, *args))
    for got, want in zip(code(*flat), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)
    assert code.status == 0
    return code


@pytest.mark.parametrize("name", NAMES)
def test_programs(name):
    program = PROGRAMS[name]
    numbers = tuple(range(len(program.args)))
    _hold(gc.value_and_grad(program.native, numbers), *program.args)


@pytest.mark.parametrize("name", ["rnn", "newton", "branches", "nested"])
def test_second_derivatives(name):
    program = PROGRAMS[name]
    _hold(lambda *a: gc.hvp(program.native, a, a), *program.args)


@pytest.mark.parametrize("name", ["lstm", "power", "written"])
def test_batches(name):
    program = PROGRAMS[name]
    flat, structure = leaves_of(program.args)
    batched = structure.unflatten([np.stack([np.asarray(a), np.asarray(a) * 0.5]) for a in flat])
    _hold(gc.vmap(gc.grad(program.native)), *batched)


LINE, GRID = np.linspace(0.5, 2.0, 70), np.linspace(-1.0, 1.0, 6 * 9).reshape(6, 9)
SHAPES = {
    "carries that change places": (
        lambda a, b: gc.fori_loop(0, 5, lambda i, s: (s[1], s[0] + s[1]), (a, b)), 1.0, 2.0,
    ),
    "arrays that change places": (
        lambda a, b: gc.fori_loop(0, 5, lambda i, s: (s[1], s[0] + s[1][::-1]), (a, b)), LINE, LINE * 2,
    ),
    "an even number of turns": (lambda a: gc.fori_loop(0, 6, lambda i, s: s[::-1] * 0.5, a), LINE),
    "an odd number of turns": (lambda a: gc.fori_loop(0, 7, lambda i, s: s[::-1] * 0.5, a), LINE),
    "a condition, even": (
        lambda a: gc.while_loop(lambda s: (s[0] < 4) & (s[1][0] > 0), lambda s: (s[0] + 1, s[1][::-1]), (0, a)), LINE,
    ),
    "a condition, odd": (
        lambda a: gc.while_loop(lambda s: (s[0] < 5) & (s[1][0] > 0), lambda s: (s[0] + 1, s[1][::-1]), (0, a)), LINE,
    ),
    "a condition that is false at once": (
        lambda a: gc.while_loop(lambda s: s.sum() < 0, lambda s: s[::-1] * 2, a), LINE,
    ),
    "a bound that ends it": (
        lambda a: gc.while_loop(lambda s: s.sum() > 0, lambda s: s * 2, a, max_steps=5), LINE,
    ),
    "rows of nothing": (lambda a, xs: gc.scan(lambda c, x: (c + x.sum(), x), a, xs), 1.0, np.zeros((4, 0))),
    "carries of nothing": (
        lambda a, xs: gc.scan(lambda c, x: (c + x, c), a, xs), np.zeros((0, 3)), np.zeros((4, 0, 3)),
    ),
    "constants out": (
        lambda xs: gc.scan(lambda c, x: ((1.0, c[1]), (x, 2.0, c[0])), (0.0, 5.0), xs), LINE,
    ),
    "a carry that is a row": (lambda xs: gc.scan(lambda c, x: (x, c), xs[0], xs), GRID),
    "order and places": (lambda xs: gc.scan(lambda c, x: (np.sort(c + x), np.argmax(c)), np.zeros(9), xs), GRID),
    "running sums": (lambda xs: gc.scan(lambda c, x: (c + np.cumsum(x), c.max()), np.zeros(9), xs), GRID),
    "lanes": (gc.vmap(lambda x: gc.scan(lambda c, t: (c * 0.5 + t, c), x, np.arange(5.0))), LINE[:37]),
    "lanes that end by themselves": (
        gc.vmap(lambda x: gc.while_loop(lambda c: c < 100, lambda c: c * 2 + 1, x)), LINE[:37],
    ),
    "a loop in each step": (
        lambda xs: gc.scan(lambda c, x: (gc.while_loop(lambda y: y * y < x, lambda y: y + 1.0, c), c), 0.0, xs),
        LINE * 40,
    ),
    "flags": (lambda xs: gc.scan(lambda c, x: (c ^ (x > 0), c), np.zeros(9, bool), xs), GRID),
    "branches on arrays": (
        lambda p, x: gc.cond(p > 0, lambda x: (x @ x.T).sum(0), lambda x: x.sum(1), x), 1.0, GRID,
    ),
    "single floats": (
        lambda xs: gc.scan(lambda c, x: (np.tanh(c * x), c), np.float32(0.5), xs), LINE.astype(np.float32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_of_loops(name):
    f, *args = SHAPES[name]
    _hold(f, *args, rtol=1e-5 if name == "single floats" else 1e-12)


def test_a_loop_of_single_numbers_runs_in_registers():
    code = _hold(lambda xs: gc.scan(lambda c, x: (c * 0.5 + x, c - x), 0.25, xs), LINE)
    assert not any(isinstance(w, Repeat) for w, _ in every_part(code.schedule.kernels))
    assert code.code.arena_bytes == 0


def test_elements_that_no_step_mixes_run_in_registers_too():
    code = _hold(gc.vmap(lambda y: gc.fori_loop(0, 30, lambda i, y: y + 0.1 * np.sin(y), y)), LINE)
    assert not any(isinstance(w, Repeat) for w, _ in every_part(code.schedule.kernels))
    mixed = _hold(lambda y: gc.fori_loop(0, 30, lambda i, y: y + 0.1 * y[::-1], y), LINE)
    assert any(isinstance(w, Repeat) for w, _ in every_part(mixed.schedule.kernels))


def test_code_does_not_grow_with_the_number_of_steps():
    def text(steps):
        body = lambda i, h: np.tanh(h @ np.full((4, 4), 0.25)) + i
        return gc.compile(lambda h: gc.fori_loop(0, steps, body, h), gc.spec((4, 4))).llvm

    assert abs(len(text(10**9)) - len(text(10**7))) < 200
    assert abs(len(text(10**9)) - len(text(10))) < 700  # a long loop looks now and then whether to end


def test_equal_bodies_are_one_function():
    layer = lambda h, w: gc.scan(lambda h, x: (np.tanh(h @ w + x), None), h, np.ones((3, 40, 40)))[0]
    one = gc.compile(lambda h, w: layer(h, w), gc.spec((40, 40)), gc.spec((40, 40))).llvm
    four = gc.compile(lambda h, a, b, c, d: layer(layer(layer(layer(h, a), b), c), d), *[gc.spec((40, 40))] * 5).llvm
    inner = lambda text: len(re.findall(r"^define internal .*@product", text, re.M))
    assert inner(four) == inner(one) >= 1


def test_stats_count_every_step():
    f = lambda steps: gc.compile(
        lambda h, w: gc.fori_loop(0, steps, lambda i, h: np.tanh(h @ w), h), gc.spec((64, 64)), gc.spec((64, 64))
    )
    ten, twenty = f(10).stats, f(20).stats
    assert twenty["flops"] == 2 * ten["flops"] >= 20 * 2 * 64**3
    assert twenty["bytes"] == 2 * ten["bytes"]


def test_every_node_of_a_compiled_loop_has_a_line_of_the_user():
    def loss(w, xs):
        _, hs = gc.scan(lambda h, x: (np.tanh(h * w + x),) * 2, np.zeros(3), xs)
        return (hs**2).sum()

    graph = gc.compile(gc.value_and_grad(loss, (0, 1)), np.ones(3), np.ones((7, 3))).graph
    graphs = [graph, *(body for node in graph.nodes for body in bodies(node).values())]
    places = {node.where.file for g in graphs for node in g.nodes if node.op.kind not in LEAVES}
    assert places == {__file__}


def test_an_index_out_of_range_in_a_body_says_the_line_of_the_body():
    table = np.ones((3, 8))

    def pick(c, i):
        return c + gnp.take(table, i, axis=0) @ np.ones((8, 8)), None  # this line

    f = gc.jit(lambda x, rows: gc.scan(pick, x, rows)[0])
    assert f(np.zeros(8), np.array([0, 1, -1])).tolist() == [24.0] * 8
    line = pick.__code__.co_firstlineno + 1
    with pytest.raises(gc.IndexingError, match=rf"test_control_compiled\.py:{line}: gather"):
        f(np.zeros(8), np.array([0, 7, 1]))
    with pytest.raises(gc.IndexingError, match=rf"test_control_compiled\.py:{line + 8}: gather"):
        gc.jit(lambda n: gc.fori_loop(0, n, lambda i, s: s + gnp.take(np.arange(3.0), i), 0.0))(5)


def test_a_failure_ends_a_loop_whose_condition_would_never_be_false():
    step = lambda s: (s[0], s[1] * gnp.take(s[1], s[0]))
    f = gc.jit(lambda n, x: gc.while_loop(lambda s: s[1].sum() >= 0, step, (n, x)))
    with pytest.raises(gc.IndexingError):
        f(7, np.zeros(3))


# -- memory ------------------------------------------------------------------------------------------------------------


NEVER_ENDS = """
import gradc as gc
run = gc.jit(lambda x: gc.while_loop(lambda v: v > 0, lambda v: v * 1.0, x))
run.lower(1.0)
print("runs", flush=True)
run(1.0)
"""


def test_a_loop_that_changes_nothing_still_runs_as_long_as_its_condition_holds():
    with subprocess.Popen([sys.executable, "-c", NEVER_ENDS], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"runs\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()


def test_a_result_that_a_loop_hands_through_waits_for_its_end():
    """The bounded loop ends, whatever it computes; of the other nobody knows, unless another result says so."""

    def loops(max_steps):
        def body(v):
            return v[0] - 1.0, v[1]

        graph = gc.trace(lambda v: gc.while_loop(lambda v: v[0] > 0, body, v, max_steps=max_steps)[1], (1.0, 2.0))
        return sum(n.op.name == "loop" for n in run_passes(graph, PIPELINE).nodes)

    assert (loops(None), loops(5)) == (1, 0)


def test_donated_carries_are_updated_in_place():
    f = gc.jit(lambda h, w: (gc.fori_loop(0, 3, lambda i, h: h + 0.1 * np.tanh(h) * w, h), w.sum()), donate=0)
    h, w = np.ones((5, 5)), np.full((5, 5), 0.5)
    expected = gc.trace(f.function, h, w).evaluate(h, w)[0]
    result, _ = f(h, w)
    assert result is h
    np.testing.assert_allclose(result, expected, rtol=1e-14)


def test_donated_carries_that_change_places():
    f = gc.jit(lambda a, b: gc.fori_loop(0, 3, lambda i, s: (s[1], s[0] @ s[1]), (b, a)), donate=(0, 1))
    a, b = np.arange(9.0).reshape(3, 3) / 5, np.eye(3) + 0.1
    expected = gc.trace(f.function, a, b).evaluate(a, b)
    first, second = f(a, b)
    assert first is a and second is b
    np.testing.assert_allclose(first, expected[0], rtol=1e-12)
    np.testing.assert_allclose(second, expected[1], rtol=1e-12)


def test_an_update_of_a_carry_touches_what_it_changes_alone():
    """No step copies the array: neither the update, nor the sum of cotangents of a table that is looked up."""
    written = _hold(lambda a: gc.fori_loop(1, 50, lambda i, b: b.at[i].set(b[i - 1] * 0.5 + i), a), np.zeros(50))
    assert [len(k.work) for k in _inner_kernels(written) if k.title == "scatter"] == [1]
    ids, table = np.array([3, 0, 3, 1]), np.arange(20.0).reshape(4, 5) / 10
    look_up = lambda t: gc.scan(lambda h, i: (np.tanh(h + gnp.take(t, i, axis=0)), None), np.zeros(5), ids)[0].sum()
    summed = _hold(gc.grad(look_up), table)
    assert [len(k.work) for k in _inner_kernels(summed) if k.title == "scatter"] == [1]


def _inner_kernels(code):
    works = [w for k in code.schedule.kernels for w in k.work if isinstance(w, Repeat)]
    return [k for w in works for k in w.body.kernels]


def test_updates_that_read_what_they_overwrite():
    turn = np.array([2, 0, 1, 5])
    other = np.array([0, 5, 3, 2])
    _hold(lambda a: gc.fori_loop(0, 3, lambda i, b: b.at[turn].set(b[other] + i), a), LINE[:7])
    _hold(lambda a: gc.fori_loop(0, 3, lambda i, b: b.at[turn].add(b[turn[::-1]]), a), LINE[:7])
    _hold(lambda a: gc.fori_loop(0, 3, lambda i, b: b.at[i].set(b.sum()), a), LINE[:7])
    _hold(lambda a: gc.fori_loop(0, 3, lambda i, s: (s[0].at[i].set(s[1][i] * 2), s[0]), (a, a)), LINE[:7])


def test_a_checkpointed_step_keeps_its_carry_alone():
    """Four layers per step: without a checkpoint their values are stacked, with one they are computed again."""

    def loss(step):
        return lambda ws, xs: (gc.scan(step(ws), np.zeros((8, 16)), xs)[0] ** 2).sum()

    def layers(ws):
        def step(h, x):
            for w in ws:
                h = np.tanh(h @ w + x)
            return h, None

        return step

    specs = ([gc.spec((16, 16))] * 4, gc.spec((50, 8, 16)))
    plain = gc.compile(gc.grad(loss(layers)), *specs)
    saving = gc.compile(gc.grad(loss(lambda ws: gc.checkpoint(layers(ws)))), *specs)
    assert saving.arena_bytes < 0.4 * plain.arena_bytes
    random = np.random.default_rng(5)
    args = [random.normal(size=(16, 16)) / 4 for _ in range(4)], random.normal(size=(50, 8, 16))
    for a, b in zip(plain(*args), saving(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_checkpointed_blocks_of_straight_line_code_save_memory():
    def block(x, ws):
        for w in ws:
            x = np.tanh(x @ w)
        return x

    def loss(block):
        def f(x, ws):
            for k in range(0, len(ws), 4):
                x = block(x, ws[k : k + 4])
            return (x**2).sum()

        return f

    specs = (gc.spec((256, 16)), [gc.spec((16, 16))] * 16)
    plain = gc.compile(gc.grad(loss(block), 1), *specs)
    saving = gc.compile(gc.grad(loss(gc.checkpoint(block)), 1), *specs)
    assert saving.arena_bytes < 0.7 * plain.arena_bytes
    random = np.random.default_rng(6)
    args = random.normal(size=(256, 16)), [random.normal(size=(16, 16)) / 4 for _ in range(16)]
    for a, b in zip(plain(*args), saving(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_threads_share_the_kernels_of_a_body_with_the_same_bits():
    random = np.random.default_rng(8)
    f = gc.grad(lambda w, xs: gc.scan(lambda h, x: (np.tanh(h @ w + x), None), xs[0], xs)[0].sum())
    args = random.normal(size=(128, 128)) / 12, random.normal(size=(3, 128, 128))
    one, two = gc.jit(f, threads=1), gc.jit(f, threads=2)
    assert "shared" in str(two.lower(*args).schedule)
    assert (one(*args) == two(*args)).all()


def test_work_in_parts_is_shared_whatever_slots_the_other_parts_have():
    many, size = 20, 100_000

    def f(x):
        start = (np.zeros(size), *(x[k] * np.ones(2 + k) for k in range(many)))
        return gc.fori_loop(0, 3, lambda i, c: tuple(v + x[0] * i for v in c), start)

    x = np.arange(float(many)) + 1
    one, two = gc.compile(f, x, threads=1), gc.compile(f, x, threads=2)
    assert "from0" in two.llvm and "gradc_fork" in two.llvm
    for a, b in zip(one(x), two(x), strict=True):
        np.testing.assert_array_equal(a, b)


NUMBER, MATRIX = np.array([2.0]), np.array([[2.0]])
#: what reads a number where it lies in memory
ADDRESSING = {
    "product": lambda x: NUMBER @ x[:1] + x,
    "sort": lambda x: np.sort(NUMBER) + x,
    "system": lambda x: np.linalg.solve(MATRIX, x[:1]) + x,
    "search": lambda x: np.searchsorted(NUMBER, x) + x,
    "spread": lambda x: np.broadcast_to(NUMBER, (3,)) @ x + x,
    "factor": lambda x: np.linalg.cholesky(MATRIX)[0] + x,
}


@pytest.mark.parametrize("name", sorted(ADDRESSING))
def test_a_body_may_read_a_number_by_address(name):
    step, x = ADDRESSING[name], np.array([0.5, 1.0, 2.0])
    _hold(lambda x: gc.fori_loop(0, 3, lambda i, c: step(c), x), x)
    _hold(lambda x: gc.while_loop(lambda c: c[2] < 9, lambda c: step(c) + 1, x), x)
    _hold(lambda x: gc.cond(x[1] > 0, step, lambda c: c, x), x)


def test_a_search_along_a_constant_slope_compiles():
    f = lambda x: gc.minimize(lambda z: -z, x).x
    assert gc.jit(f)(0.0) == f(0.0)


# -- the rest of the house ---------------------------------------------------------------------------------------------


def test_a_loop_leaves_python_as_an_object(tmp_path):
    f = gc.compile(gc.grad(lambda w, xs: gc.scan(lambda h, x: (np.tanh(h @ w + x), None), xs[0], xs)[0].sum()),
                   gc.spec((8, 8)), gc.spec((5, 3, 8)))  # fmt: skip
    object_file, header = f.save(tmp_path / "rnn.o")
    assert object_file.stat().st_size > 0
    assert "gradc_step" in header.read_text()
    assert set(re.findall(r"declare [^@]*@([\w.]+)", f.llvm)) <= set(re.findall(r"llvm[\w.]+", f.llvm))


def test_the_schedule_reads_like_a_plan():
    f = gc.compile(lambda w, xs: gc.scan(lambda h, x: (np.tanh(h @ w + x), None), xs[0], xs)[0],
                   gc.spec((8, 8)), gc.spec((5, 3, 8)))  # fmt: skip
    text = str(f.schedule)
    assert "repeat 5 times" in text
    assert re.search(r"carries s\d+ in place", text)
    assert re.search(r"rows s\d+ by 192 bytes", text)
    assert "kernel 0 product" in text


def test_debug_locations_reach_through_bodies():
    f = gc.jit(gc.grad(lambda w, xs: gc.scan(lambda h, x: (np.tanh(h @ w + x), None), xs[0], xs)[0].sum()), debug=True)
    made = f.lower(gc.spec((8, 8)), gc.spec((5, 3, 8)))
    plain = gc.compile(f.function, gc.spec((8, 8)), gc.spec((5, 3, 8)))
    assert made.locations is not None
    inside = [k for k, place in enumerate(made.locations.found, 1) if place.function != "gradc_step"]
    assert len(inside) > 10
    assert all(made.locations.nodes(k) for k in inside)
    assert len(made.asm) > 0
    assert len(re.findall("^define", made.llvm, re.M)) == len(re.findall("^define", plain.llvm, re.M))


def test_all_methods_agree_compiled_too():
    program = PROGRAMS["rnn"]
    report = gc.check_gradients(program.native, *program.args, methods=("reverse", "compiled"))
    assert report.ok, str(report)
