"""The coefficients of Runge–Kutta methods satisfy the order conditions: each number is asked, for none of them is told
by how well an equation is solved.  Start at `conditions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, sin
from typing import Any

import numpy as np
import pytest

from gradc.solve.tableaus import DOPRI5, RODAS4, TSIT5, Explicit, Rosenbrock


def conditions(c: Any, a: Any, order: int) -> Iterator[tuple[Any, int, float]]:
    """(v, k, s) for each rooted tree of up to five vertices: weights w at θ are right to the order if w·v = θᵏ s.

    Butcher's conditions, Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, table II.2.2.
    """
    one, ac, ac2, aac = np.ones_like(c), a @ c, a @ c**2, a @ (a @ c)
    trees = [
        (one, 1, 1), (c, 2, 1 / 2), (c**2, 3, 1 / 3), (ac, 3, 1 / 6),
        (c**3, 4, 1 / 4), (c * ac, 4, 1 / 8), (ac2, 4, 1 / 12), (aac, 4, 1 / 24),
        (c**4, 5, 1 / 5), (c**2 * ac, 5, 1 / 10), (c * ac2, 5, 1 / 15), (c * aac, 5, 1 / 30), (ac * ac, 5, 1 / 20),
        (a @ c**3, 5, 1 / 20), (a @ (c * ac), 5, 1 / 40), (a @ ac2, 5, 1 / 60), (a @ aac, 5, 1 / 120),
    ]  # fmt: skip
    return (tree for tree in trees if tree[1] <= order)


@pytest.mark.parametrize("method", [DOPRI5, TSIT5])
def test_an_explicit_method_has_its_order(method: Explicit) -> None:
    """Its step, its estimate, which is of one less, and its interpolant, likewise, which ends in the step."""
    c, b, e, p = (np.array(v, float) for v in (method.c, method.b, method.e, method.p))
    a = np.array([[*row, *[0.0] * (len(c) - len(row))] for row in method.a])
    np.testing.assert_allclose(a.sum(1), c, atol=1e-12)
    np.testing.assert_array_equal(a[-1], b)
    for v, _, s in conditions(c, a, method.order):
        np.testing.assert_allclose(b @ v, s, atol=1e-12)
    for v, _, _ in conditions(c, a, method.order - 1):
        np.testing.assert_allclose(e @ v, 0, atol=1e-12)
    assert max(abs(e @ v) for v, k, _ in conditions(c, a, method.order) if k == method.order) > 1e-4
    for theta in (0.2, 0.5, 0.9):
        weights = p @ theta ** np.arange(1, 5)
        for v, k, s in conditions(c, a, method.order - 1):
            np.testing.assert_allclose(weights @ v, theta**k * s, atol=1e-12)
    np.testing.assert_allclose(p.sum(1), b, atol=1e-12)


def _rosenbrock(method: Rosenbrock, h: float, thetas: tuple[float, ...]) -> tuple[float, float, list[float]]:
    """One step of y' = y cos t − y²/2 from y(0.3) = 0.7: its end, the estimate, and what lies between."""
    t, y = 0.3, 0.7
    slope_in_y, slope_in_t = cos(t) - y, -y * sin(t)
    k: list[float] = []
    at = y
    for c, d, a, m in zip(method.c, method.d, method.a, method.m, strict=True):
        at = y + sum(x * z for x, z in zip(a, k, strict=True))
        right = at * cos(t + c * h) - at**2 / 2 + sum(x * z for x, z in zip(m, k, strict=True)) / h + d * h * slope_in_t
        k.append(right / (1 / (method.gamma * h) - slope_in_y))
    end = at + k[-1]
    bent = [np.dot(weights, k) for weights in (method.g, method.s)]
    return end, k[-1], [y + q * (end - y) + q * (1 - q) * (bent[0] + q * bent[1]) for q in thetas]


def _exact(t: float) -> float:
    """A Bernoulli equation: 1/y is linear."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    s = 0.3 + (t - 0.3) * (nodes + 1) / 2
    integral = (t - 0.3) / 2 * float(weights @ np.exp(np.sin(s) - sin(0.3)))
    return float(np.exp(sin(t) - sin(0.3)) / (1 / 0.7 + integral / 2))


def test_a_linearly_implicit_method_has_its_order() -> None:
    """Halving the step divides the error by 2⁵, that of the estimate and between the ends by 2⁴."""
    thetas = (0.3, 0.7)
    errors = []
    for h in (0.04, 0.02):
        end, estimate, between = _rosenbrock(RODAS4, h, thetas)
        found = [y - _exact(0.3 + q * h) for q, y in zip(thetas, between, strict=True)]
        errors.append(np.abs([end - _exact(0.3 + h), estimate, *found]))
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), [5, 4, 4, 4], atol=0.35)
