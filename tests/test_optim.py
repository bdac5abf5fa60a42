"""Optimizers: the published update rules, step by step, and the same inside one compiled function."""

from __future__ import annotations

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
    mine, mine_state = {k: v.copy() for k, v in params.items()}, optimizer.init(params)
    held = mine["w"]
    for _ in range(3):
        mine, mine_state, loss = step(mine, mine_state, x)
    assert mine["w"] is held
    np.testing.assert_allclose(loss, value, rtol=1e-12)
    for key in params:
        np.testing.assert_allclose(mine[key], expected[key], rtol=1e-10)


def test_train_step_without_donation_leaves_the_arguments():
    optimizer = optim.sgd(0.1)
    params = {"w": np.ones(2), "b": np.zeros(2)}
    after, _, _ = gc.train_step(quadratic, optimizer, donate=False)(params, optimizer.init(params), np.ones(2))
    np.testing.assert_array_equal(params["w"], np.ones(2))
    assert not np.array_equal(after["w"], params["w"])
