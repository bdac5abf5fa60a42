"""Scratch memory within a bound: graphs that compute part of the forward pass again, and keep every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.machines.budget import Budget
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.passes.rematerialise import rematerialised
from gradc.schedule.verify import verify

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> Any:
    return (RANDOM.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


def chain(p: Any, x: Any) -> Any:
    for w in p:
        x = gc.nn.gelu(x @ w)
    return np.mean(x**2)


def skips(p: Any, x: Any) -> Any:
    first = x
    for k, w in enumerate(p):
        x = x + np.tanh(x @ w) * (first if k % 2 else 1)
    return np.mean(x**2)


def transformer(p: Any, x: Any) -> Any:
    for k, (qkv, out, up, down) in enumerate(p):
        h = gc.nn.layer_norm(x, (16,))
        q, key, v = (np.moveaxis((h @ w).reshape(6, 2, 8), 1, 0) for w in qkv)
        a = gc.nn.softmax(q @ np.swapaxes(key, 1, 2) / np.sqrt(np.float32(8)), 2) @ v
        x = x + np.moveaxis(a, 0, 1).reshape(6, 16) @ out
        kept = gc.random.bernoulli(gc.random.fold_in(gc.random.key(1), k), 0.8, (6, 16))
        x = x + np.where(kept, gc.nn.gelu(gc.nn.layer_norm(x, (16,)) @ up) @ down, 0)
    return np.mean(x**2)


def images(p: Any, x: Any) -> Any:
    for w in p:
        x = gc.nn.relu(gc.nn.conv2d(x, w, padding=1)) + x
    return np.mean(gc.nn.max_pool2d(x, 2) ** 2)


def recurrent(p: Any, x: Any) -> Any:
    for w in p:
        _, x = gc.scan(lambda h, row, w=w: ((h := np.tanh((h + row) @ w)), h), np.zeros(8, np.float32), x)
    return np.mean(x**2)


MODELS = {
    "chain": (chain, [normal(8, 8) for _ in range(9)], normal(4, 8)),
    "skips": (skips, [normal(8, 8) for _ in range(9)], normal(4, 8)),
    "transformer": (
        transformer,
        [([normal(16, 16) for _ in range(3)], normal(16, 16), normal(16, 32), normal(32, 16)) for _ in range(4)],
        normal(6, 16),
    ),
    "images": (images, [normal(3, 3, 3, 3) for _ in range(6)], normal(2, 3, 6, 6)),
    "recurrent": (recurrent, [normal(8, 8) for _ in range(5)], normal(7, 8)),
}  # fmt: skip


def lowered(name: str) -> tuple[Any, Any, tuple[Any, ...]]:
    """The lowered graph of a training step, the node of its loss, and flat arguments."""
    loss, p, x = MODELS[name]
    optimizer = gc.optim.adam(1e-3)
    state = optimizer.init(p)
    step = gc.train_step(loss, optimizer, donate=False)
    graph = Stages(gc.trace(step, p, state, x), Options()).lowered
    return graph, graph.outputs[-1], tuple(gc.tree.leaves((p, state, x)))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_computing_again_keeps_every_bit_and_less_memory(name):
    """Of the interpreter on every choice; the schedule of the last is checked by who shares no code with planning."""
    graph, turn, flat = lowered(name)
    choices = list(rematerialised(graph, turn))
    assert len(choices) > 3 and choices[0].graph is graph
    expected = graph.evaluate(*flat)
    for choice in choices:
        for got, want in zip(choice.graph.evaluate(*flat), expected, strict=True):
            np.testing.assert_array_equal(got, want, choice.how)
    least = min(choices[1:], key=lambda c: c.kept)
    assert least.kept < 0.8 * choices[0].kept
    plan = Stages(least.graph, Options(threads=1)).machine.schedule(least.graph, Options(threads=1))
    verify(plan, least.graph)


def test_scratch_of_a_chain_grows_with_the_root_of_its_length():
    """Chen et al.: n layers in √n segments keep 2√n layers; here in multiples of one activation of 64 KiB."""

    def least(layers: int) -> tuple[float, float]:
        p, x = [normal(16, 16) for _ in range(layers)], normal(1024, 16)
        graph = Stages(gc.trace(gc.value_and_grad(chain), p, x), Options()).lowered
        machine = Stages(graph, Options()).machine
        sizes = [machine.schedule(c.graph, Options()).temporary_bytes for c in rematerialised(graph, graph.outputs[0])]
        return sizes[0] / 65536, min(sizes) / 65536

    for layers in (16, 36):
        whole, fitted = least(layers)
        assert whole >= 2 * layers - 2 and fitted <= 2.5 * np.sqrt(layers) + 2


def test_a_step_keeps_its_budget_and_its_bits():
    loss, p, x = chain, [normal(16, 16) for _ in range(12)], normal(512, 16)
    optimizer = gc.optim.sgd(0.1)
    found: dict[Any, Any] = {}
    for memory in (None, 500_000, "280KB"):
        step = gc.train_step(loss, optimizer, memory=memory)
        params, _, value = step(p, optimizer.init(p), x)
        stats = step.lower(p, optimizer.init(p), x).stats
        found[memory] = (params, value, stats["arena_bytes"], stats["notes"])
    plain = found[None]
    assert plain[2] > 700_000 and found[500_000][2] <= 500_000 and found["280KB"][2] <= 280_000
    assert "cheap is computed again" in found[500_000][3][0] and "segments" in found["280KB"][3][0]
    for memory in (500_000, "280KB"):
        assert found[memory][1] == plain[1]
        for a, b in zip(found[memory][0], plain[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_models_own_state_flows_beside_a_budget():
    def loss(p: Any, s: Any, x: Any) -> Any:
        states = []
        for w, own in zip(p, s, strict=True):
            x, new = gc.nn.running_batch_norm(gc.nn.gelu(x @ w), own)
            states.append(new)
        return np.mean(x**4), states

    p, x, optimizer = [normal(8, 8) for _ in range(8)], normal(256, 8), gc.optim.sgd(0.1)
    s = [gc.nn.batch_norm_state(8, np.float32) for _ in p]
    steps = [gc.train_step(loss, optimizer, has_state=True, memory=m) for m in (None, "180KB")]
    one, other = (gc.tree.leaves(step(p, optimizer.init(p), s, x)) for step in steps)
    assert "computed again" in steps[1].lower(p, optimizer.init(p), s, x).stats["notes"][0]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_budget_that_no_cut_keeps_is_refused_and_the_least_is_named():
    p, x = [normal(8, 8) for _ in range(6)], normal(64, 8)
    optimizer = gc.optim.sgd(0.1)
    with pytest.raises(gc.CompileError, match=r"memory=1 KB is too little: the least scratch .* KB, with parts"):
        gc.train_step(chain, optimizer, memory="1KB")(p, optimizer.init(p), x)


def test_views_of_views_of_several_arrays_are_walked_once():
    """Each rolls by joining two parts: there are 2⁴⁰ ways through forty of them."""

    def rolled(w: Any, x: Any) -> Any:
        for _ in range(40):
            x = np.concatenate([x[1:], x[:1]])
        return np.sum(np.tanh(x * w) ** 2)

    graph = Stages(gc.trace(gc.value_and_grad(rolled), np.ones(50), np.arange(50.0)), Options()).optimised
    assert len(list(rematerialised(graph, graph.outputs[0]))) >= 2


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "MB", "12 parsecs", "0.1B", b"12MB", [1]])
def test_what_is_no_size_is_refused(given):
    with pytest.raises((TypeError, ValueError), match=r"test_rematerialise.py:\d+: train_step: memory="):
        gc.train_step(chain, gc.optim.sgd(0.1), memory=given)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (7, 7), (np.int64(7), 7), ("12MB", 12e6), ("12 mb", 12e6), ("1.5KiB", 1536), ("2kib", 2048), ("2K", 2048),
        ("3G", 3 * 2**30), ("64", 64),
    ],
)  # fmt: skip
def test_sizes_are_read(given, size):
    assert Budget.of(given, 2, "f").bytes == size
