"""`gc.forecast`: what it says of memory is what the compiled step has, and nothing is allocated for it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp

RNG = np.random.default_rng(3)


def loss(params, x, y):
    h = gnp.tanh(x @ params["w"] + params["b"])
    g = gnp.tanh(h @ params["v"])
    return gnp.mean((g @ params["out"] - y) ** 2)


def parameters(width=16):
    shapes = {"w": (8, width), "b": (width,), "v": (width, width), "out": (width, 1)}
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def specs(tree):
    return gc.tree.map(lambda a: gc.spec(a.shape, a.dtype), tree)


def nbytes(tree):
    return sum(x.nbytes for x in gc.tree.leaves(tree))


def test_it_says_what_the_compiled_step_has():
    params, optimizer = parameters(), gc.optim.adam(1e-3)
    step, batch = gc.train_step(loss, optimizer), (gc.spec((64, 8)), gc.spec((64, 1)))
    found, state = gc.forecast(step, specs(params), None, *batch), optimizer.init(params)
    executable = step.lower(params, state, *batch)
    stats = executable.stats
    assert (found.arena, found.flops, found.moved, found.kernels) == tuple(
        stats[name] for name in ("arena_bytes", "flops", "bytes", "kernels")
    )
    assert found.arguments == {"params": nbytes(params), "state": nbytes(state), "batch": 64 * 9 * 8}
    assert found.results == 8  # the loss: all else is updated in place
    assert found.bytes == sum(found.arguments.values()) + 8 + found.arena
    assert gc.forecast(executable, params, state, *batch).arena == found.arena
    assert sum(x.flops for x in found.lines) == found.flops and sum(x.bytes for x in found.lines) == found.moved
    assert found.least_seconds == pytest.approx(sum(x.seconds for x in found.lines)) and found.expected_seconds > 0
    assert found.expected_seconds >= found.least_seconds  # of a product of matrices the cost model alone says less


def test_activations_are_told_layer_by_layer():
    found = gc.forecast(gc.train_step(loss, gc.optim.sgd(0.1)), parameters(), None, gc.spec((64, 8)), gc.spec((64, 1)))
    hidden = [x for x in found.kept if x.shape == (64, 16)]
    assert [x.name for x in hidden if x.name] == ["h", "g"] and all(x.bytes == 64 * 16 * 8 for x in hidden)
    assert [x.where.line for x in hidden] == sorted(x.where.line for x in hidden)
    assert found.activations == sum(x.bytes for x in found.kept) == sum(x.kept for x in found.lines) <= found.arena
    assert all(x.where.file == __file__ for x in hidden)
    assert gc.forecast(loss, parameters(), gc.spec((64, 8)), gc.spec((64, 1))).activations == 0


def test_a_budget_is_part_of_it():
    def deep(p, x):
        for _ in range(12):
            x = gnp.tanh(x @ p)
        return gnp.sum(x)

    given = gc.spec((32, 32)), None, gc.spec((256, 32))
    free = gc.forecast(gc.train_step(deep, gc.optim.sgd(0.1)), *given)
    tight = gc.forecast(gc.train_step(deep, gc.optim.sgd(0.1), memory=free.arena // 2), *given)
    assert tight.arena <= free.arena // 2 and tight.flops > free.flops
    assert any("memory" in note for note in tight.notes) and "note: memory" in str(tight)


def test_a_model_that_does_not_fit_can_be_asked_about():
    width = 4000
    params = {"w": gc.spec((8, width), "float32"), "b": gc.spec((width,), "float32")}
    params |= {"v": gc.spec((width, width), "float32"), "out": gc.spec((width, 1), "float32")}
    batch = gc.spec((4096, 8), "float32"), gc.spec((4096, 1), "float32")
    step = gc.train_step(loss, gc.optim.adam(1e-3))
    gc.forecast(loss, parameters(), gc.spec((4, 8)), gc.spec((4, 1)))  # the ceilings of this machine
    tracemalloc.start()
    found = gc.forecast(step, params, None, *batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.bytes / 8
    assert found.bytes > 3 * 4 * width**2 and found.least_seconds > 1e-3
    assert "MiB" in str(found)


def test_machines_and_refusals():
    on_gpu = gc.compile(lambda x: gnp.exp(x) * 2, gc.spec((1000,), "float32"), target="sm_80")
    found = gc.forecast(on_gpu, gc.spec((1000,), "float32"))
    assert (found.machine, found.least_seconds, found.roofline) == ("sm_80", None, None)
    assert "at least" not in str(found) and found.results == 4000
    with pytest.raises(TypeError, match="forecast expects a function"):
        gc.forecast(3, np.ones(2))


def test_it_prints_lines_and_values():
    step = gc.train_step(loss, gc.optim.adam(1e-3))
    text = str(gc.forecast(step, parameters(), None, gc.spec((64, 8)), gc.spec((64, 1))))
    rows = ("forecast of loss_step on cpu", "params", "state", "scratch", "in all", "at least", "test_forecast.py:")
    for words in (*rows, "update", "waits for the backward pass", "h = gnp.tanh(x @ params"):
        assert words in text, words
