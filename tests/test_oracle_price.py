"""What a check costs: what would take too long is left out, and the report says what and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.oracle import matrices


def test_the_price_of_jacobians_is_bounded_by_what_they_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arrays on the way to a small Jacobian: the gradient is compared, and the note says what is not."""
    x = np.random.default_rng(0).normal(size=(16, 1, 10, 10))

    def cubes(w: Any, b: Any) -> Any:
        y = gc.nn.conv2d(x, w, b)
        centred = y - np.mean(y, axis=(0, 2, 3), keepdims=True)
        return np.sum((centred / np.sqrt(np.mean(centred**2, axis=(0, 2, 3), keepdims=True) + 1e-5)) ** 3)

    w = np.random.default_rng(1).normal(size=(8, 1, 3, 3))
    report = gc.check_gradients(cubes, w, np.zeros(8), methods=("reverse", "jacobian"))
    assert report.ok and len(report.rows) == 2, str(report)
    assert "hessian left out: forward mode in all directions evaluates arrays of" in str(report)
    monkeypatch.setattr(matrices, "MOST_ELEMENTS", 100)
    report = gc.check_gradients(lambda w: np.sum(np.tanh(w)), np.ones(60), methods=("reverse", "forward", "jacobian"))
    assert "jacobian left out: the Jacobian evaluates arrays of" in str(report) and report.ok
