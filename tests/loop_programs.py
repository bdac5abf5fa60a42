"""Programs with loops, each beside the same function written as a Python loop: what the tests of control flow share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradc as gc
import gradc.numpy as gnp

_random = np.random.default_rng(7)


@dataclass(frozen=True)
class Program:
    """``native`` uses gradc's control flow, ``unrolled`` Python's; both take ``args``."""

    native: Callable[..., Any]
    unrolled: Callable[..., Any]
    args: tuple[Any, ...]


def _rnn(w, u, h0, xs):
    def step(h, x):
        h = np.tanh(h @ w + x @ u)
        return h, (h * h).sum()

    h, ys = gc.scan(step, h0, xs)
    return h.sum() + ys.mean()


def _rnn_unrolled(w, u, h0, xs):
    ys, h = [], h0
    for x in xs:
        h = np.tanh(h @ w + x @ u)
        ys.append((h * h).sum())
    return h.sum() + sum(ys) / len(ys)


def _lstm_step(params, state, x):
    (_, c), gates = state, x @ params["wx"] + state[0] @ params["wh"] + params["b"]
    i, f, g, o = (gates[:, k * 3 : (k + 1) * 3] for k in range(4))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return (sigmoid(o) * np.tanh(c), c)


def _lstm(params, h0, xs):
    def step(state, x):
        state = _lstm_step(params, state, x)
        return state, state[0]

    (h, c), hs = gc.scan(step, (h0, h0 * 0), xs)
    return (h * c).sum() + (hs**2).sum()


def _lstm_unrolled(params, h0, xs):
    state, total = (h0, h0 * 0), 0.0
    for x in xs:
        state = _lstm_step(params, state, x)
        total = total + (state[0] ** 2).sum()
    return (state[0] * state[1]).sum() + total


def _rk4(rate, y, t, dt):
    k1 = rate(t, y)
    k2 = rate(t + dt / 2, y + dt / 2 * k1)
    k3 = rate(t + dt / 2, y + dt / 2 * k2)
    k4 = rate(t + dt, y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _pendulum(length, y0):
    rate = lambda t, y: np.stack([y[1], -9.81 / length * np.sin(y[0])])
    y = gc.fori_loop(0, 4, lambda i, y: _rk4(rate, y, i * 0.05, 0.05), y0)
    return y[0] * y[1]


def _pendulum_unrolled(length, y0):
    rate = lambda t, y: np.stack([y[1], -9.81 / length * np.sin(y[0])])
    y = y0
    for i in range(4):
        y = _rk4(rate, y, i * 0.05, 0.05)
    return y[0] * y[1]


def _kalman_step(a, q, r, state, z):
    m, p = state
    m, p = a @ m, a @ p @ a.T + q * np.eye(2)
    s = p[0, 0] + r
    gain = p[:, 0] / s
    return m + gain * (z - m[0]), p - gain[:, None] * p[0][None, :], np.log(s) + (z - m[0]) ** 2 / s


def _kalman(a, q, r, zs):
    def step(state, z):
        m, p, cost = _kalman_step(a, q, r, (state["mean"], state["cov"]), z)
        return {"mean": m, "cov": p}, cost

    return gc.scan(step, {"mean": np.zeros(2), "cov": np.eye(2)}, zs)[1].sum()


def _kalman_unrolled(a, q, r, zs):
    m, p, total = np.zeros(2), np.eye(2), 0.0
    for z in zs:
        m, p, cost = _kalman_step(a, q, r, (m, p), z)
        total = total + cost
    return total


def _nested(a, rows):
    def outer(c, row):
        d, _ = gc.scan(lambda d, y: (np.tanh(d * a + y * c), None), c, row)
        return d, d * d

    c, squares = gc.scan(outer, 0.3, rows)
    return c + squares.sum()


def _nested_unrolled(a, rows):
    c, total = 0.3, 0.0
    for row in rows:
        d = c
        for y in row:
            d = np.tanh(d * a + y * c)
        c, total = d, total + d * d
    return c + total


def _backwards(xs):
    c, ys = gc.scan(lambda c, x: (c * x + 1, c * c), 0.5, xs, reverse=True)
    return c + (ys * np.arange(1.0, 5.0)).sum()


def _backwards_unrolled(xs):
    c, total = 0.5, 0.0
    for i in reversed(range(len(xs))):
        total = total + c * c * (i + 1.0)
        c = c * xs[i] + 1
    return c + total


def _newton(a):
    return gc.while_loop(lambda x: np.abs(x * x - a) > 1e-10, lambda x: x - (x * x - a) / (2 * x), a, max_steps=30)


def _newton_unrolled(a):
    x = a
    for _ in range(4):
        x = x - (x * x - a) / (2 * x)
    return x


def _branches(xs, limit):
    def step(total, x):
        total = gc.cond(x > limit, lambda t: t + np.sqrt(x - limit), lambda t: t * 0.5 + np.sin(x), total)
        return total, total

    return gc.scan(step, 0.25, xs)[1].sum()


def _branches_unrolled(xs, limit):
    total, all_of_them = 0.25, 0.0
    for x, above in zip(xs, (True, False, False, True), strict=True):
        total = total + np.sqrt(x - limit) if above else total * 0.5 + np.sin(x)
        all_of_them = all_of_them + total
    return all_of_them


def _recomputed(w, u, h0, xs):
    step = gc.checkpoint(lambda h, x: (np.tanh(h @ w + x @ u), None))
    return gc.scan(step, h0, xs)[0].sum()


def _recomputed_unrolled(w, u, h0, xs):
    h = h0
    for x in xs:
        h = np.tanh(h @ w + x @ u)
    return h.sum()


def _power(x):
    return gc.fori_loop(2, 5, lambda i, y: y * x + i, 1.0)


def _power_unrolled(x):
    y = 1.0
    for i in range(2, 5):
        y = y * x + i
    return y


def _written(a, xs):
    """A carry that is updated at a computed place."""
    out = gc.fori_loop(0, 4, lambda i, b: b.at[i].set(np.sin(gnp.take(xs, i)) * b[i - 1] + b[i]), a)
    return (out**2).sum()


def _written_unrolled(a, xs):
    b = a + 0 * xs
    for i in range(4):
        b = np.where(np.arange(4) == i, np.sin(xs[i]) * b[i - 1] + b[i], b)
    return (b**2).sum()


def _normal(*shape: int) -> Any:
    return _random.normal(size=shape)


_CELL = (_normal(3, 3), _normal(2, 3), _normal(3), _normal(5, 2))
PROGRAMS: dict[str, Program] = {
    "rnn": Program(_rnn, _rnn_unrolled, _CELL),
    "lstm": Program(
        _lstm, _lstm_unrolled,
        ({"wx": _normal(2, 12) / 2, "wh": _normal(3, 12) / 2, "b": _normal(12) / 2}, _normal(2, 3), _normal(3, 2, 2)),
    ),
    "pendulum": Program(_pendulum, _pendulum_unrolled, (1.3, np.array([0.6, -0.2]))),
    "kalman": Program(_kalman, _kalman_unrolled, (np.array([[1.0, 0.2], [-0.1, 0.9]]), 0.3, 0.7, _normal(6))),
    "nested": Program(_nested, _nested_unrolled, (0.7, _normal(3, 4))),
    "backwards": Program(_backwards, _backwards_unrolled, (_normal(4),)),
    "newton": Program(_newton, _newton_unrolled, (2.0,)),
    "branches": Program(_branches, _branches_unrolled, (np.array([0.9, -0.4, 0.1, 1.7]), 0.5)),
    "checkpoint": Program(_recomputed, _recomputed_unrolled, _CELL),
    "power": Program(_power, _power_unrolled, (1.7,)),
    "written": Program(_written, _written_unrolled, (_normal(4), _normal(4))),
}  # fmt: skip
