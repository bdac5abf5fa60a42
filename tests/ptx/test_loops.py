"""Loops and branches whose bodies are kernels: items of the launch plan, on the simulated device."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.containers import leaves_of
from gradc.errors import IndexingError
from gradc.runtime import cuda
from tests.ptx.driver import SimulatedDriver

RANDOM = np.random.default_rng(3)


def normal(*shape):
    return (RANDOM.standard_normal(shape) * 0.4).astype(np.float32)


@pytest.fixture
def driver(monkeypatch):
    simulated = SimulatedDriver()
    monkeypatch.setattr(cuda, "driver", lambda: simulated)
    return simulated


def agree(f, *args, rtol=1e-5):
    """The device's answer is the CPU's; returns the executable."""
    exe = gc.compile(f, *args, target="sm_80")
    leaves, structure = leaves_of((args, {}))
    given, _ = structure.unflatten([exe.put(x) for x in leaves])
    got, want = leaves_of(exe(*given))[0], leaves_of(gc.compile(f, *args)(*args))[0]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=rtol, atol=1e-5)
    return exe


def recurrent(h, xs, w):
    def step(h, x):
        h = gnp.tanh(x @ w + h @ w)
        return h, (h * 2, h.sum())

    return gc.scan(step, h, xs)


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("width", [8, 5])
def test_recurrences_with_rows_that_start_anywhere(driver, steps, width):
    """Rows of 32 bytes lie aligned; those of 20 bytes are copied to where they do."""
    exe = agree(recurrent, normal(width), normal(steps, width), normal(width, width))
    copies = [x for x in exe.plan.launches if x.entry.endswith("copy")]
    assert len(copies) == (1 if width == 8 else 3)  # the sums of steps are rows of four bytes


def test_the_gradient_of_a_recurrence(driver):
    def loss(h, xs, w):
        return (recurrent(h, xs, w)[1][0] ** 2).sum()

    agree(gc.grad(loss, (0, 1, 2)), normal(8), normal(4, 8), normal(8, 8), rtol=1e-4)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("steps", [0, 1, 4, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_carries_that_change_places_and_counted_steps(driver, steps, reverse):
    def f(x, xs):
        def step(carry, row):
            a, b = carry
            i, v = row
            return (b @ a + v, a * i.astype(np.float32)), a.sum()

        return gc.scan(step, (x, x.T), (gnp.arange(steps), xs), reverse=reverse)

    agree(f, normal(8, 8), normal(steps, 8, 8))


def test_loops_inside_loops(driver):
    def f(x, xs):
        def outer(v, row):
            v = gc.fori_loop(0, 3, lambda i, u: gnp.tanh(u @ x) + row * i, v)
            return v, v.sum(axis=0)

        return gc.scan(outer, x, xs)

    exe = agree(f, normal(8, 8), normal(3, 8))
    assert "\n  3 times:\n" in str(exe.plan) and "\n    3 times:\n" in str(exe.plan)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("most", [None, 4, 5])
def test_loops_with_a_condition_stop_where_it_says(driver, scale, most):
    """After no step, an even or an odd number of them, or at the bound."""

    def f(x):
        def more(s):
            return (s[0] * s[0]).sum() > 0.05

        return gc.while_loop(more, lambda s: (s[1] @ s[0] * 0.6, s[0]), (x, x * 0.5), max_steps=most)

    agree(f, normal(8, 8) * np.float32(scale))


def test_the_gradient_of_a_loop_with_a_condition(driver):
    def f(x):
        return gc.while_loop(lambda v: (v * v).sum() > 0.05, lambda v: gnp.tanh(v @ v.T), x, max_steps=6).sum()

    agree(gc.grad(f), normal(6, 6), rtol=1e-4)


@pytest.mark.parametrize("which", [1.0, -1.0])
def test_branches(driver, which):
    def f(x, p):
        def nested(v):
            return gc.cond(v.sum() > 0, lambda u: u @ u, lambda u: u - 1, v)

        return gc.cond(p > 0, nested, lambda v: v.T * 2, x)

    exe = agree(f, normal(8, 8), np.float32(which))
    agree(f, -np.abs(normal(8, 8)), np.float32(which))
    assert "  if arena" in str(exe.plan) and "  else:" in str(exe.plan)


def test_what_is_known_is_one_graph_and_what_is_not_is_launched_by_the_host(driver):
    x = normal(8, 8)
    known = gc.compile(lambda v: gc.fori_loop(0, 4, lambda i, u: gnp.tanh(u @ u), v), x, target="sm_80")
    run = known.bind(known.put(x))
    first = run().numpy()
    np.testing.assert_array_equal(first, run().numpy())
    assert driver.graphs == 2
    asked = gc.compile(lambda v: gc.cond(v.sum() > 0, lambda u: u @ u, lambda u: u, v), x, target="sm_80")
    given = asked.put(np.abs(x))
    run = asked.bind(given)
    np.testing.assert_allclose(run().numpy(), np.abs(x) @ np.abs(x), rtol=1e-5)
    driver.device.set(given.pointer, -np.abs(x))
    np.testing.assert_array_equal(run().numpy(), -np.abs(x))
    assert driver.graphs == 2


def test_a_failure_inside_a_loop_ends_it_and_has_the_users_line(driver):
    def f(x, i):
        def step(s):
            v, k = s
            return v @ v * 0.1 + v[k], k + 1

        return gc.while_loop(lambda s: s[1] < 1000, step, (x, i))[0]

    exe = gc.compile(f, gc.spec((6, 6), np.float32), gc.spec((), np.int64), target="sm_80")
    with pytest.raises(IndexingError, match=r"test_loops\.py:\d+: .*f: index out of range"):
        exe(exe.put(normal(6, 6)), exe.put(np.array(3)))
    assert driver.launched < 100


def test_the_plan_as_data(tmp_path):
    def f(x, xs, p):
        y = gc.scan(lambda h, r: (gnp.tanh(h @ h) + r, h.sum()), x, xs)[0]
        y = gc.while_loop(lambda v: (v * v).sum() > 1, lambda v: v @ v * 0.5, y)
        return gc.cond(p, lambda v: v @ v, lambda v: v, y)

    specs = gc.spec((8, 8), np.float32), gc.spec((3, 8), np.float32), gc.spec((), np.bool_)
    exe = gc.compile(f, *specs, target="sm_90")
    exe.save(tmp_path / "f.ptx")
    items = json.loads((tmp_path / "f.json").read_text())["launches"]
    steps = [x for x in items if "steps" in x]
    assert [x["steps"] for x in steps] == [3, None]
    moved = [p for x in steps[0]["launches"] for p in x.get("pointers", []) if "strides" in p]
    assert {"input": 1, "strides": [32]} in moved
    assert any("stop_unless" in x for x in steps[1]["launches"])
    (fork,) = [x for x in items if "if" in x]
    assert fork["if"] == {"input": 2} and fork["launches"] and fork["else"]
