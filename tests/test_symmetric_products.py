"""Products of an array with itself: found whatever stands between, computed once for each pair, symmetric bit by bit.

Where to begin: `HALVED` are such products, `WHOLE` others that look like them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from tests.gemm_harness import HOST, bound

rng = np.random.default_rng(0)
K, N = 530, 81
FEW = HOST.lanes("float64")  #: fill one register: too few for a half to be worth anything
ABOVE = "on and above the diagonal"

#: name -> a function of X (k x n) and s (k)
HALVED: dict[str, Callable[[Any, Any], Any]] = {
    "with itself": lambda x, s: x.T @ x,
    "as a sum over an index": lambda x, s: np.einsum("ki,kj->ij", x, x),
    "scaled on the right": lambda x, s: x.T @ (s[:, None] * x),
    "scaled on the left": lambda x, s: (x * s[:, None]).T @ x,
    "scaled on both sides": lambda x, s: (x / s[:, None]).T @ (-x * 2),
    "some rows left out": lambda x, s: x.T @ np.where(s[:, None] > 0, x * np.tanh(s)[:, None], 0.0),
    "read by a map": lambda x, s: np.exp(x.T @ x / 1e3) - 1,
}

WHOLE: dict[str, Callable[[Any, Any], Any]] = {
    "scaled along the columns": lambda x, s: x.T @ (s[:N] * x),
    "shifted": lambda x, s: x.T @ (x + s[:, None]),
    "of two arrays": lambda x, s: x.T @ np.sin(x),
    "rows replaced": lambda x, s: x.T @ np.where(s[:, None] > 0, x, 1.0),
    "other rows": lambda x, s: x[1:].T @ x[:-1],
    "few columns": lambda x, s: x[:, :FEW].T @ x[:, :FEW],
    "few terms": lambda x, s: x[: 16 * FEW].T @ x[: 16 * FEW],
}


def given(dtype: str) -> tuple[Any, Any]:
    return rng.standard_normal((K, N)).astype(dtype), (0.1 + rng.standard_normal(K) ** 2).astype(dtype)


def is_halved(f: Callable[..., Any], *args: Any) -> bool:
    return ABOVE in str(gc.compile(f, *args).schedule)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HALVED)
def test_half_is_computed_and_mirrored(name: str, dtype: str) -> None:
    f, (x, s) = HALVED[name], given(dtype)
    assert is_halved(f, x, s)
    got = gc.compile(f, x, s)(x, s)
    assert got.dtype == dtype and np.array_equal(got, got.T)
    wide = x.astype(float), s.astype(float)
    slack = bound((abs(x) * (s + 1 / s + 1)[:, None]).T, abs(x) + 2)
    assert (abs(got - f(*wide)) <= 2 * slack).all()
    assert gc.compile(f, x, s, threads=3)(x, s).tobytes() == got.tobytes()


@pytest.mark.parametrize("name", WHOLE)
def test_others_are_computed_whole(name: str) -> None:
    f, (x, s) = WHOLE[name], given("float64")
    assert not is_halved(f, x, s)
    assert np.allclose(gc.compile(f, x, s)(x, s), f(x, s), rtol=1e-11, atol=1e-11)


def test_batches() -> None:
    x, s = rng.standard_normal((3, K, 40)), rng.standard_normal((3, K))

    def gram(x: Any, s: Any) -> Any:
        return np.swapaxes(x, 1, 2) @ (x * s[:, :, None])

    assert is_halved(gram, x, s)
    got = gc.compile(gram, x, s)(x, s)
    assert np.array_equal(got, np.swapaxes(got, 1, 2))
    assert np.allclose(got, gram(x, s), rtol=1e-11, atol=1e-11)


def test_nan_and_infinity_reach_both_halves() -> None:
    x, s = given("float64")
    x[7, 3], x[9, 60] = np.nan, np.inf
    got = gc.compile(HALVED["scaled on the right"], x, s)(x, s)
    right = HALVED["scaled on the right"](x, s)
    assert np.array_equal(np.isnan(got), np.isnan(right)) and np.array_equal(np.isinf(got), np.isinf(right))


def test_a_hessian_is_symmetric_to_the_last_bit() -> None:
    x, y = rng.standard_normal((300, 40)), np.sign(rng.standard_normal(300))

    def loss(w: Any, x: Any, y: Any) -> Any:
        return np.logaddexp(0.0, -y * (x @ w)).mean()

    w = 0.1 * rng.standard_normal(40)
    assert is_halved(gc.hessian(loss), w, x, y)
    got = gc.compile(gc.hessian(loss), w, x, y)(w, x, y)
    assert np.array_equal(got, got.T)
    assert np.allclose(got, gc.hessian(loss)(w, x, y), rtol=1e-11, atol=1e-13)


def test_a_hessian_beside_a_pole_is_computed_by_halves_too() -> None:
    """Its rows are scaled by strong products, and summed by a strong contraction."""
    x, w = rng.uniform(0.5, 1.5, (300, 40)), rng.uniform(0.5, 1.5, 40)
    x[7] = 0

    def loss(w: Any, x: Any) -> Any:
        u = x @ w
        return np.where(u > 0, np.log(u), 0.0).sum()

    with np.errstate(all="ignore"):
        assert is_halved(gc.hessian(loss), w, x)
        got = gc.compile(gc.hessian(loss), w, x)(w, x)
    assert np.array_equal(got, got.T)
    others = np.delete(x, 7, axis=0)
    assert np.allclose(got, -(others / (others @ w)[:, None] ** 2).T @ others, rtol=1e-11, atol=1e-13)
