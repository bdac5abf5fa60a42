"""Zero is zero on the simulated device: strong products of all kinds, and gradients beside poles, as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS
from gradc.runtime import cuda
from tests.compiled_graph import apply, leaf
from tests.ptx.device import on_device
from tests.ptx.driver import SimulatedDriver

SPECIAL = np.array([[0.0, np.inf, 1.0, -0.0], [np.nan, 2.0, 0.0, -np.inf], [0.0, 0.5, -3.0, np.nan]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strong_products_of_special_values(dtype):
    """Each of the three ops where the plain one has 0·∞ or 0·NaN, and where an infinity is alive."""
    a = SPECIAL.astype(dtype)
    b = np.ascontiguousarray(a[::-1, ::-1].T)
    x, y = leaf(a.shape, dtype), leaf(b.shape, dtype)
    labels = {"left": (0, 1), "right": (1, 2), "out": (0, 2)}
    nodes = [
        apply("strong_multiply", x, apply("transpose", y, axes=(1, 0))),
        apply("strong_contract", x, y, **labels),
        apply("strong_cumprod", x, axis=1, reverse=False),
        apply("strong_cumprod", x, axis=0, reverse=True),
    ]
    with np.errstate(all="ignore"):
        expected = [
            OPS["strong_multiply"].numpy(a, b.T),
            OPS["strong_contract"].numpy(a, b, **labels),
            OPS["strong_cumprod"].numpy(a, axis=1, reverse=False),
            OPS["strong_cumprod"].numpy(a, axis=0, reverse=True),
        ]
        plain = a @ b
    assert np.isnan(plain).sum() > np.isnan(expected[1]).sum() and np.isinf(expected[1]).any()
    run = on_device(*nodes, inputs=[x, y])
    for got, want in zip(run(a, b), expected, strict=True):
        np.testing.assert_array_equal(got, want)


#: x is (0, 4) in each row; the derivative by x[:, 0] is 0
KEPT = np.array([False, True])
PICKED = np.array([[0.0, 1.0]], np.float32)
GUARDED: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: np.sum(np.where(KEPT, np.sum(np.stack([np.sqrt(x), np.log(x)]), axis=0), 0)),
    "index": lambda x: np.sum(np.sin(np.log(x)[:, 1:])),
    "product": lambda x: np.sum((np.sqrt(x) @ PICKED.T) ** 2),
    "product, then guard": lambda x: np.sum(np.where(KEPT, np.sqrt(x) @ np.eye(2, dtype=np.float32), 0)),
    "running product": lambda x: np.sum(np.where(KEPT, np.cumprod(np.sqrt(x), axis=0), 0)),
    "loop": lambda x: np.sum(np.where(KEPT, gc.fori_loop(0, 2, lambda i, c: np.sqrt(c) * 1.5, x), 0)),
}


@pytest.mark.parametrize("name", GUARDED)
def test_gradients_beside_a_pole(monkeypatch, name):
    simulated = SimulatedDriver()
    monkeypatch.setattr(cuda, "driver", lambda: simulated)
    f = GUARDED[name]
    derivative = lambda x: (gc.grad(f)(x), gc.jvp(gc.grad(f), (x,), (np.ones_like(x),))[1])
    x = np.array([[0.0, 4.0], [0.0, 2.0], [0.0, 0.5]], np.float32)
    exe = gc.compile(derivative, x, target="sm_80")
    fine = np.where(x == 0, np.float32(1.7), x)
    with np.errstate(all="ignore"):
        for got, want in zip(exe(exe.put(x)), derivative(fine), strict=True):
            expected = np.where(KEPT, want, 0)
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-6)
