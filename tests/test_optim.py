"""Optimizers: the published update rules, step by step, and the same inside one compiled function."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import optim

PARAMS = {"w": np.array([1.0, -2.0, 3.0]), "b": np.array(0.5)}
GRADS = {"w": np.array([0.1, -0.2, 0.3]), "b": np.array(-1.0)}


def steps(optimizer, count=3):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADS, state, params)
        params = optim.apply_updates(params, updates)
    return params


def test_sgd():
    np.testing.assert_allclose(steps(optim.sgd(0.1))["w"], PARAMS["w"] - 0.3 * GRADS["w"])


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    p, t = PARAMS["w"], np.zeros(3)
    for _ in range(3):
        t = GRADS["w"] + 0.9 * t
        p = p - 0.1 * (GRADS["w"] + 0.9 * t if nesterov else t)
    np.testing.assert_allclose(steps(optim.momentum(0.1, 0.9, nesterov))["w"], p)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_and_adamw(decay):
    p, m, v = PARAMS["w"], np.zeros(3), np.zeros(3)
    for t in range(1, 4):
        m, v = 0.9 * m + 0.1 * GRADS["w"], 0.999 * v + 0.001 * GRADS["w"] ** 2
        p = p - 0.1 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)
    optimizer = optim.adamw(0.1, weight_decay=decay) if decay else optim.adam(0.1)
    np.testing.assert_allclose(steps(optimizer)["w"], p, rtol=1e-12)


def test_decay_mask_selects_leaves():
    masked = steps(optim.chain(optim.add_decayed_weights(1.0, {"w": True, "b": False}), optim.scale(-0.1)), 1)
    np.testing.assert_allclose(masked["w"], PARAMS["w"] - 0.1 * (GRADS["w"] + PARAMS["w"]))
    np.testing.assert_allclose(masked["b"], PARAMS["b"] - 0.1 * GRADS["b"])


def test_clip_by_global_norm():
    clipped, _ = optim.clip_by_global_norm(0.5).update(GRADS, (), PARAMS)
    np.testing.assert_allclose(optim.global_norm(clipped), 0.5)
    same, _ = optim.clip_by_global_norm(10.0).update(GRADS, (), PARAMS)
    np.testing.assert_array_equal(same["w"], GRADS["w"])


def test_schedules_at_their_corners():
    linear = optim.linear_schedule(0.0, 1.0, 10)
    assert [float(linear(np.int32(c))) for c in (0, 5, 10, 20)] == [0.0, 0.5, 1.0, 1.0]
    warm = optim.warmup_cosine_decay_schedule(0.0, 1.0, 10, 110)
    np.testing.assert_allclose([float(warm(np.int32(c))) for c in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-12)


def test_a_state_of_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="its own init"):
        optim.adam(0.1).update(GRADS, (), PARAMS)


def quadratic(params, x):
    return np.sum((params["w"] * x + params["b"]) ** 2)


@pytest.mark.parametrize(
    "optimizer",
    [optim.sgd(0.01), optim.momentum(0.01), optim.adam(0.01), optim.adamw(optim.linear_schedule(0.1, 0.0, 5))],
    ids=["sgd", "momentum", "adam", "adamw"],
)
def test_train_step_is_the_same_update_in_place(optimizer):
    params = {"w": np.array([1.0, -2.0]), "b": np.array([0.5, 0.25])}
    expected, state = params, optimizer.init(params)
    x = np.array([0.3, 0.7])
    for _ in range(3):
        value, grads = gc.value_and_grad(quadratic)(expected, x)
        updates, state = optimizer.update(grads, state, expected)
        expected = optim.apply_updates(expected, updates)
    step = gc.train_step(quadratic, optimizer)
    mine, mine_state, loss = step(params, optimizer.init(params), x)
    held = mine["w"]
    for _ in range(2):
        mine, mine_state, loss = step(mine, mine_state, x)
    assert mine["w"] is held and params["w"].tolist() == [1.0, -2.0]
    np.testing.assert_allclose(loss, value, rtol=1e-12)
    for key in params:
        np.testing.assert_allclose(mine[key], expected[key], rtol=1e-10)


def test_train_step_without_donation_leaves_the_arguments():
    optimizer = optim.sgd(0.1)
    params = {"w": np.ones(2), "b": np.zeros(2)}
    after, _, _ = gc.train_step(quadratic, optimizer, donate=False)(params, optimizer.init(params), np.ones(2))
    np.testing.assert_array_equal(params["w"], np.ones(2))
    assert not np.array_equal(after["w"], params["w"])


# -- whose memory a step writes into -----------------------------------------------------------------------------------


def _training() -> tuple[Any, Any, Any, Any]:
    optimizer = gc.optim.adam(0.1)
    step = gc.train_step(lambda p, x: np.sum((x @ p["w"] + p["b"]) ** 2), optimizer)
    params = {"w": np.ones((3, 2)), "b": np.ones(2)}
    return step, params, optimizer.init(params), np.ones((4, 3))


def _snapshot(tree: Any) -> Any:
    return gc.tree.map(np.copy, tree)


def _equal(one: Any, two: Any) -> bool:
    return all(map(np.array_equal, gc.tree.leaves(one), gc.tree.leaves(two)))


def test_a_step_never_writes_into_the_callers_arrays_and_updates_its_own_in_place() -> None:
    step, params, state, x = _training()
    before = _snapshot((params, state))
    p1, s1, _ = step(params, state, x)
    first = _snapshot(p1)
    again, _, _ = step(params, state, x)
    assert _equal((params, state), before) and _equal(again, first) and not _equal(p1, params)
    p2, s2, _ = step(p1, s1, x)
    for old, new in zip(gc.tree.leaves((p1, s1)), gc.tree.leaves((p2, s2)), strict=True):
        assert old is new
    short, _, _ = step(p2, s2, x[:2])  # another version of the same step knows them too
    assert short["w"] is p2["w"]


def test_views_shared_arrays_and_results_of_another_step_are_copied() -> None:
    step, params, state, x = _training()
    p, s, _ = step(params, state, x)
    for given in ({"w": p["w"][:], "b": p["b"]}, {"w": p["w"].reshape(3, 2), "b": p["b"]}):
        kept, plain = _snapshot(given), {"w": np.copy(p["w"]), "b": np.copy(p["b"])}
        wanted = step(plain, _snapshot(s), x)[0]
        found = step(given, _snapshot(s), x)[0]
        assert _equal(found, wanted) and found["w"] is not given["w"] and found["b"] is given["b"]
        np.testing.assert_array_equal(given["w"], kept["w"])
    other = gc.train_step(lambda p, x: np.sum(p["w"]), gc.optim.sgd(0.1))
    kept = _snapshot(p)
    other(p, gc.optim.sgd(0.1).init(p), x)
    assert _equal(p, kept)


def test_one_array_at_two_places_is_two_parameters() -> None:
    optimizer = gc.optim.sgd(0.1)
    step = gc.train_step(lambda p, x: np.sum(p[0] * x) + 2 * np.sum(p[1] * x), optimizer)
    w, x = np.ones(3), np.ones(3)
    (one, two), state, _ = step([w, w], optimizer.init([w, w]), x)
    np.testing.assert_allclose((one, two), [np.full(3, 0.9), np.full(3, 0.8)])
    (a, b), _, _ = step([one, one], state, x)  # a result of its own, at two places
    np.testing.assert_allclose((a, b), [np.full(3, 0.8), np.full(3, 0.7)])
    (c, _), _, _ = step([a, b], state, a)  # as a parameter and as data
    np.testing.assert_allclose(c, np.full(3, 0.8 - 0.1 * 0.8))


def test_read_only_strided_and_plain_numbers_are_parameters_too() -> None:
    optimizer = gc.optim.sgd(0.5)
    step = gc.train_step(lambda p: np.sum(p["w"] ** 2) + p["k"] ** 2, optimizer)
    frozen = np.arange(6.0)[::2]
    frozen.flags.writeable = False
    params: Any = {"w": frozen, "k": 3.0}
    for _ in range(3):
        params, _, _ = step(params, optimizer.init(params))
    assert params["w"].tolist() == [0.0, 0.0, 0.0] and params["k"] == 0.0 and frozen.tolist() == [0.0, 2.0, 4.0]


def test_results_travel_as_ordinary_arrays() -> None:
    step, params, state, x = _training()
    p, s, _ = step(params, state, x)
    moved = pickle.loads(pickle.dumps((p, s)))
    kept = _snapshot(moved)
    assert _equal(step(*moved, x)[0], step(p, s, x)[0]) and _equal(moved, kept)
    fresh = pickle.loads(pickle.dumps(gc.train_step(_quadratic, gc.optim.sgd(0.1))))
    w = np.ones(2)
    fresh(w, gc.optim.sgd(0.1).init(w))
    assert w.tolist() == [1.0, 1.0]
    exe = gc.train_step(_quadratic, gc.optim.sgd(0.1)).lower(w, gc.optim.sgd(0.1).init(w))
    out, _, _ = exe(w, gc.optim.sgd(0.1).init(w))
    bound = exe.bind(w, gc.optim.sgd(0.1).init(w))
    bound()
    assert w.tolist() == [1.0, 1.0] and out.tolist() == [0.8, 0.8] and bound()[0].tolist() == [0.64, 0.64]


def _quadratic(w: Any) -> Any:
    return np.sum(w**2)


def test_threads_step_their_own_parameters() -> None:
    step, params, state, x = _training()
    wanted = params, state
    for _ in range(50):
        wanted = step(*wanted, x)[:2]
    found: list[Any] = []

    def work() -> None:
        mine = params, state
        for _ in range(50):
            mine = step(*mine, x)[:2]
        found.append(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 4 and all(_equal(f, wanted) for f in found) and _equal(params["b"], np.ones(2))
