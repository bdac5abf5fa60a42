"""Random programs: whatever the display rules do to a derivative, it stays the derivative.

Each program is a few random steps on numbers, or on matrices and a vector; the graph of the displayed formulas is
evaluated beside reverse mode, and every printer prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc

#: fewer than 10 steps on 3×3 matrices with values of order 10²: some 10⁴ roundings of 2⁻⁵³, amplified by cancellation
TOLERANCE = 1e-9

NUMBERS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, a: x + a * np.sin(x),
    lambda x, a: x - a * (x**2 - 2) / (2 * x),
    lambda x, a: x * a - x,
    lambda x, a: np.exp(-x) * a + a,
    lambda x, a: x / (1 + a**2),
    lambda x, a: gc.nn.sigmoid(x) * a,
)
MATRICES: tuple[Callable[[Any, Any, Any], Any], ...] = (
    lambda A, B, v: A @ B,
    lambda A, B, v: A * B,
    lambda A, B, v: A.T + B,
    lambda A, B, v: A / (1 + B**2),
    lambda A, B, v: A * v,
    lambda A, B, v: A + np.outer(v, v),
    lambda A, B, v: np.tanh(A) * B,
    lambda A, B, v: gc.nn.softmax(A) @ B,
    lambda A, B, v: A - A.mean(axis=0),
    lambda A, B, v: A / np.sqrt((B**2).sum(axis=1, keepdims=True) + 1),
    lambda A, B, v: A * (v @ A @ v),
    lambda A, B, v: np.exp(-A * A / 9) * B,
    lambda A, B, v: A[::-1] + B,
    lambda A, B, v: A @ np.outer(A @ v, v) / 3,
)
ENDS: tuple[Callable[[Any, Any, Any], Any], ...] = (
    lambda A, B, v: np.sum(B * A),
    lambda A, B, v: np.sum(B**2),
    lambda A, B, v: v @ B @ v,
    lambda A, B, v: np.linalg.norm(B),
)


def of_numbers(rng: np.random.Generator) -> Callable[..., Any]:
    chosen = rng.integers(0, len(NUMBERS), 6)

    def program(x: Any, a: Any) -> Any:
        for k in chosen:
            x, a = a, NUMBERS[k](x, a)
        return x * a

    return program


def of_matrices(rng: np.random.Generator) -> Callable[..., Any]:
    chosen, end = rng.integers(0, len(MATRICES), rng.integers(2, 6)), ENDS[rng.integers(0, len(ENDS))]

    def program(A: Any, B: Any, v: Any) -> Any:
        for k in chosen:
            A, B = B, MATRICES[k](A, B, v)
        return end(A, B, v)

    return program


def check(program: Callable[..., Any], args: tuple[Any, ...]) -> None:
    every = tuple(range(len(args)))
    derivation = gc.explain(program, *args, argnums=every)
    assert derivation.text(ascii=True).isascii() and derivation.latex() and derivation.mathml()
    for mine, reference in zip(derivation.graph.evaluate(*args), gc.grad(program, every)(*args), strict=True):
        scale = max(1.0, float(np.max(np.abs(reference))))
        np.testing.assert_allclose(mine, reference, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(25))
def test_programs_of_numbers(seed: int) -> None:
    check(of_numbers(np.random.default_rng(seed)), (1.3, 0.7))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(60))
def test_programs_of_matrices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(of_matrices(rng), (rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)))


def test_whole_numbers_that_formulas_have_as_floats_are_whole_again_where_bits_are_meant() -> None:
    """A count is a sum of ones in formulas, and a key a function of its words."""
    check(lambda x: np.sum(x) * (np.sum(x > 0) >> 1) + np.sum(x), (np.array([1.0, -2.0, 3.0]),))
    drawn = lambda x: gc.random.uniform(gc.random.key(np.sum(x > 0)), minval=np.sum(x), maxval=9.0)
    check(lambda x: np.sum(x * drawn(x)), (np.array([1.0, -2.0, 3.0]),))
