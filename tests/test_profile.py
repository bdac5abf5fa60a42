"""Time per kernel: that it is measured on the right code and the right data, and told in full; never how long it is."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import networkx
import numpy as np
import pytest

import gradc as gc
from gradc.cli import main
from gradc.codegen.emit import arena_bytes, emit
from gradc.codegen.target import Target
from gradc.explorer.roofline import Roofline, roofline
from gradc.runtime.blocks import BlockCall, zeroed
from gradc.runtime.clock import clock
from gradc.runtime.load import load
from gradc.schedule.chains import longest_chain, needs

MODEL = """
import numpy as np
import gradc as gc

def loss(w=gc.spec((3,)), X=gc.spec((5, 3)), y=gc.spec((5,))):
    r = np.tanh(X @ w) - y
    return r @ r
"""


def loss(w, X, y):
    r = np.tanh(X @ w) - y
    return r @ r


def arguments():
    rng = np.random.default_rng(0)
    return rng.standard_normal(3), rng.standard_normal((5, 3)), rng.standard_normal(5)


def test_the_clock_counts_nanoseconds():
    now = ctypes.CFUNCTYPE(ctypes.c_int64)(clock().address)
    readings = [now() for _ in range(1000)]
    assert readings == sorted(readings)
    assert readings[-1] > readings[0]


def test_timed_code_computes_the_same():
    step = gc.compile(gc.value_and_grad(loss), *arguments())
    ticks = np.zeros(len(step.schedule.kernels) + 2, np.int64)
    loaded = load(str(emit(step.schedule, Target.host(), "timed", clock=True)), "timed", symbols=clock().symbols)
    value, gradient = np.zeros(()), np.zeros(3)
    call = BlockCall(loaded, zeroed(arena_bytes(step.schedule, Target.host())), [ticks])
    assert call(arguments(), [value, gradient]) == 0
    expected = step(*arguments())
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    assert ticks.all()
    assert list(ticks) == sorted(ticks)


def test_every_kernel_has_its_row():
    step = gc.compile(gc.value_and_grad(loss), *arguments())
    assert "profile" not in step.stats
    found = step.profile(*arguments())
    kernels = step.schedule.kernels
    assert [(k.flops, k.bytes, k.title) for k in found.kernels] == [(k.flops, k.bytes, k.title) for k in kernels]
    assert all(set(kernel.nodes) <= set(k.nodes) for k, kernel in zip(found.kernels, kernels, strict=True))
    assert found.step_ns == pytest.approx(sum(k.measured_ns for k in found.kernels))
    assert sum(map(found.share, found.kernels)) == pytest.approx(1)
    assert [k.measured_ns for k in found.by_time] == sorted((k.measured_ns for k in found.kernels), reverse=True)
    assert all(k.predicted_ns > 0 and "test_profile.py:" in k.lines for k in found.kernels)
    rows = step.stats["profile"]
    assert [r["measured_ns"] for r in rows] == [k.measured_ns for k in found.kernels]
    assert len(str(found).splitlines()) == 3 + len(kernels) + 1
    assert "longest chain: " in str(found) and found.chain_ns <= found.step_ns


def test_kernels_that_need_each_other_are_a_chain():
    """Two sums of one array do not need each other; what divides by both needs them."""
    step = gc.compile(lambda x: x.sum(0) / (1 + (x @ x.T).sum()), gc.spec((40, 40)))
    graph, kernels = needs(step.schedule), step.schedule.kernels
    last = max(k for k, kernel in enumerate(kernels) if kernel.writes)
    assert list(graph) == list(range(len(kernels))) and networkx.is_directed_acyclic_graph(graph)
    assert networkx.ancestors(graph, last) == set(range(len(kernels))) - {last}
    assert all(before < after and graph.edges[before, after]["buffers"] for before, after in graph.edges)
    for slow in range(len(kernels)):
        chain = longest_chain(step.schedule, [100.0 if k == slow else 1.0 for k in range(len(kernels))])
        assert slow in chain and all(graph.has_edge(a, b) for a, b in pairwise(chain))


def test_an_update_in_place_waits_for_those_who_read():
    def step(w, x):
        total = (w @ x).sum()
        return w - 0.1 * x.T, total

    schedule = gc.compile(step, gc.spec((30, 20)), gc.spec((20, 30)), donate=0).schedule
    graph = needs(schedule)
    ((given, updated),) = schedule.donated.items()
    writers, readers = (
        [k for k, kernel in enumerate(schedule.kernels) if buffer in {kernel.slots[s] for s in getattr(kernel, how)}]
        for buffer, how in ((schedule.outputs[updated], "writes"), (schedule.inputs[given], "reads"))
    )
    waits = [(r, w) for r in readers for w in writers if r < w]
    assert waits and all(graph.has_edge(r, w) for r, w in waits)


def test_donated_arguments_stay_as_they_are():
    step = gc.compile(lambda w, g: w - 0.1 * g, gc.spec(100), gc.spec(100), donate=0)
    w, g = np.ones(100), np.ones(100)
    step.profile(w, g)
    np.testing.assert_array_equal(w, 1)


def test_captured_arrays_and_integers_are_profiled():
    table = np.arange(12.0).reshape(4, 3)
    step = gc.compile(lambda i: gc.numpy.take(table, i, axis=0).sum(axis=1) + i, gc.spec(4, np.int64))
    assert step.profile(np.array([0, 3, 1, 2])).kernels


def test_a_function_without_kernels_has_an_empty_profile():
    found = gc.compile(lambda x: x * 2, gc.spec(0)).profile(np.zeros(0))
    assert found.kernels == ()
    assert found.step_ns == 0
    assert "0 kernels" in str(found)


def test_profile_refuses_what_does_not_fit():
    step = gc.compile(loss, *arguments())
    with pytest.raises(gc.ShapeError, match="w has shape"):
        step.profile(np.zeros(4), *arguments()[1:])
    with pytest.raises(TypeError, match="nest"):
        step.profile(np.zeros(3))


def test_the_roofline_takes_the_slower_of_arithmetic_and_memory():
    machine = Roofline("cpu", {"float32": 100e9, "float64": 50e9}, {1000: 100e9, 10**6: 10e9})
    assert machine.predicted_ns(1000, 8, "float32") == pytest.approx(10)
    assert machine.predicted_ns(1000, 8, "float64") == pytest.approx(20)
    assert machine.predicted_ns(1, 1000, "bool") == pytest.approx(10)
    assert machine.predicted_ns(1, 2000, "float32") == pytest.approx(200)
    assert machine.predicted_ns(1, 10**7, "int64") == pytest.approx(1e6)


def test_this_machine_has_a_roofline():
    machine = roofline()
    rates = [*machine.flops.values(), *machine.bandwidth.values()]
    assert all(np.isfinite(rate) and rate > 0 for rate in rates)
    assert "GF/s float32" in str(machine)


@pytest.mark.parametrize("columns", ["80", "160"])
def test_the_command_prints_the_table(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    (tmp_path / "model.py").write_text(MODEL)
    assert main(["profile", f"{tmp_path / 'model.py'}:loss", "--grad"]) == 0
    out = capsys.readouterr().out
    assert "ns per step" in out
    assert "GB/s" in out
    assert "model.py:" in out
