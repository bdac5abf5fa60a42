"""K-FAC's steps against the paper's formulas in plain NumPy, and how far it gets where gradients alone do not."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc import optim

RNG = np.random.default_rng(2)
N, STEPS = 12, 50
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 2))
#: two layers in homogeneous coordinates, as the paper has them: w (4, 5) reads (x, 1), v (2, 6) reads (h, 1)
START = {"v": RNG.normal(size=(2, 6)) / 2, "w": RNG.normal(size=(4, 5)) / 2}


def ones_behind(x):
    return np.concatenate([x, np.ones((x.shape[0], 1), x.dtype)], axis=1)


def loss(p, x, y):
    h = np.tanh(ones_behind(x) @ p["w"])
    return 0.5 * np.sum((ones_behind(h) @ p["v"].T - y) ** 2) / x.shape[0]


def by_hand(p, x, y):
    """Gradients and factors: for each layer its gradient, its factor of the first axis, and of the other."""
    a0 = ones_behind(x)
    h = np.tanh(a0 @ p["w"])
    a1 = ones_behind(h)
    e = a1 @ p["v"].T - y
    d = (e @ p["v"])[:, :-1] * (1 - h**2)
    n = len(x)
    return {"v": (e.T @ a1 / n, e.T @ e / n, a1.T @ a1 / n), "w": (a0.T @ d / n, a0.T @ a0 / n, d.T @ d / n)}


def walk_by_hand(steps, rate, damping, decay, momentum):
    p = {k: v.copy() for k, v in START.items()}
    m, L, R = (dict.fromkeys(p, 0.0) for _ in range(3))
    points = []
    for t in range(1, steps + 1):
        keep = min(1 - 1 / t, decay)
        for k, (g, left, right) in by_hand(p, X, Y).items():
            L[k], R[k] = keep * L[k] + (1 - keep) * left, keep * R[k] + (1 - keep) * right
            pi = np.sqrt((np.trace(L[k]) / len(L[k])) / (np.trace(R[k]) / len(R[k])))
            one = np.linalg.inv(L[k] + pi * np.sqrt(damping) * np.eye(len(L[k])))
            two = np.linalg.inv(R[k] + np.sqrt(damping) / pi * np.eye(len(R[k])))
            m[k] = momentum * m[k] + one @ g @ two
            p[k] = p[k] - rate * m[k]
        points.append({k: v.copy() for k, v in p.items()})
    return points


def walk(optimizer, steps, f=loss, start=START, batch=(X, Y)):
    step, p, state, points, values = gc.train_step(f, optimizer), start, optimizer.init(start), [], []
    for _ in range(steps):
        p, state, value = step(p, state, *batch)
        points.append(gc.tree.map(np.copy, p))
        values.append(value)
    return points, state, values


@pytest.mark.parametrize("numbers", [(0.1, 0.01, 0.95, 0.9), (0.3, 0.5, 0.3, 0.0)])
def test_the_walk_is_that_of_the_papers_formulas(numbers):
    points, state, _ = walk(optim.kfac(*numbers), STEPS)
    for got, want in zip(points, walk_by_hand(STEPS, *numbers), strict=True):
        for k in START:
            np.testing.assert_allclose(got[k], want[k], rtol=1e-9, atol=1e-12)
    assert state.t == STEPS and state.P["v"].shape == (2, 2) and state.Q["v"].shape == (6, 6)


def test_undamped_it_is_newtons_step_of_one_layer_of_least_squares():
    """With one row of derivatives G is 1 × 1; A ⊗ 1 is the Hessian if the derivatives have size 1."""
    w, y = np.zeros((3, 1)), np.sign(RNG.normal(size=(N, 1)))
    f = lambda w, x, y: 0.5 * np.sum((x @ w - y) ** 2) / N
    (after,), _, _ = walk(optim.kfac(1.0, damping=0.0, momentum=0.0), 1, f, w, (X, y))
    np.testing.assert_allclose(after, np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-12)


def test_it_converges_where_the_inputs_are_badly_scaled():
    """Features of standard deviations 1 to 100: the condition of the problem is 10⁴, which K-FAC's A takes away."""
    scales = np.array([1.0, 10.0, 100.0])
    x = RNG.normal(size=(64, 3)) * scales
    y = (x / scales) @ np.array([[1.0], [-2.0], [0.5]]) + 0.3
    f = lambda p, x, y: 0.5 * np.mean((x @ p["w"] + p["b"] - y) ** 2)
    start = {"w": np.zeros((3, 1)), "b": np.zeros(1)}
    rate = optim.exponential_decay(0.2, 1, 0.97)
    _, _, values = walk(optim.kfac(rate, damping=1e-4, momentum=0.5), 200, f, start, (x, y))
    _, _, plain = walk(optim.sgd(1e-4, momentum=0.9), 200, f, start, (x, y))  # the rate's bound is 2·10⁻⁴
    assert values[-1] < 1e-6 * values[0] < plain[-1]


def test_convolutions_biases_and_parameters_with_another_optimizer():
    x = RNG.normal(size=(N, 2, 5, 5))
    start = {
        "conv": (RNG.normal(size=(3, 2, 3, 3)) / 4, np.zeros(3)), "head": RNG.normal(size=(3,)), "scale": np.ones(()),
        "table": RNG.normal(size=(4, 9)) / 3,
    }  # fmt: skip
    ids = RNG.integers(0, 4, N)

    def f(p, x, ids):
        h = np.tanh(gc.nn.conv2d(x, *p["conv"])).reshape(N, 3, 9) * p["table"][ids][:, None, :]
        return np.mean((h.sum(axis=2) @ p["head"] * p["scale"] - 1.0) ** 2)

    labels = {"conv": "k", "head": "k", "scale": "k", "table": "a"}
    optimizer = optim.partition({"k": optim.kfac(0.02, damping=0.1), "a": optim.adam(0.01)}, labels)
    points, _, values = walk(optimizer, 30, f, start, (x, ids))
    assert values[-1] < 0.1 * values[0]
    step = gc.train_step(f, optimizer)
    before = optimizer.init(start)
    plain = gc.trace(step.function, start, before, x, ids).evaluate(*gc.tree.leaves((start, before, x, ids)))
    for got, want in zip(gc.tree.leaves(points[0]), plain, strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    with pytest.raises(gc.TraceError, match="table is used by gather"):
        gc.train_step(f, optim.kfac(0.1))(start, optim.kfac(0.1).init(start), x, ids)


def test_narrow_parameters_keep_their_dtype_and_what_has_no_gradient_stays():
    half = X.astype(np.float16), Y.astype(np.float16)
    start = {"v": START["v"].astype(np.float16), "w": START["w"].astype(np.float16)}
    points, state, _ = walk(optim.kfac(0.05), 2, lambda p, x, y: 0 * loss(p, x, y), start, half)
    for k in start:
        assert points[-1][k].dtype == np.float16 and state.P[k].dtype == state.m[k].dtype == np.float32
        np.testing.assert_array_equal(points[-1][k], start[k])


def test_the_step_is_printed_as_the_paper_writes_it():
    optimizer = optim.kfac(0.1)
    text = str(gc.explain(gc.train_step(loss, optimizer), START, optimizer.init(START), X, Y))
    for part in ("P ← ", "Q ← ", "m ← ", "θ ← θ − ηm"):
        assert part in text, text


def test_a_loss_that_is_a_sum_is_a_mean_over_one_example():
    """Of n times the loss with n = 1 told, G is n times as large as it was, and so is the gradient."""
    (mean,), _, _ = walk(optim.kfac(1.0, damping=0.0, momentum=0.0), 1)
    (sum_,), _, _ = walk(optim.kfac(1.0, damping=0.0, momentum=0.0, examples=1), 1, lambda p, x, y: N * loss(p, x, y))
    for k in START:
        np.testing.assert_allclose(sum_[k], mean[k], rtol=1e-9)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="examples is a whole number from 1 on, got 0"):
        optim.kfac(0.1, examples=0)
    with pytest.raises(ValueError, match=r"kfac needs factors_fn: gc\.train_step gives it"):
        optim.kfac(0.1).update(START, optim.kfac(0.1).init(START), START)
    f = lambda o, x: np.mean(np.einsum("nhe,hed->nd", x, o) ** 2)
    o, optimizer = np.ones((2, 3, 4)), optim.kfac(0.1)
    with pytest.raises(gc.ShapeError, match=r"meet the axes \(0, 1\) of a parameter of shape \(2, 3, 4\)"):
        gc.train_step(f, optimizer)(o, optimizer.init(o), RNG.normal(size=(N, 2, 3)))
