"""gc.nn.init draws what its rules say, and what the texts derive of them holds along fifty layers.

Variances of samples are held to five standard errors; the draws are fixed by their keys.  Start at `DRAWN`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import nn
from gradc.errors import ShapeError

init, KEY = nn.init, gc.random.key(11)
WIDE, KERNEL = (300, 200), (24, 16, 5, 5)
#: a draw, its variance, and its fourth moment over the variance squared: 3 of normal numbers, 9/5 of uniform ones
DRAWN: dict[str, tuple[Any, float, float]] = {
    "uniform": (lambda: init.uniform(KEY, WIDE, -1.0, 3.0) - 1, 16 / 12, 9 / 5),
    "normal": (lambda: init.normal(KEY, WIDE, 2.0, 0.5) - 2, 0.25, 3),
    "truncated": (
        lambda: init.truncated_normal(KEY, WIDE, 1.0, 0.5, 0.0, 2.0) - 1,
        0.25 * 0.87962566103423978**2,
        2.37,
    ),
    "lecun_normal": (lambda: init.lecun_normal(KEY, WIDE), 1 / 200, 3),
    "lecun_uniform": (lambda: init.lecun_uniform(KEY, KERNEL), 1 / 400, 9 / 5),
    "xavier_normal": (lambda: init.xavier_normal(KEY, WIDE, 2.0), 4 * 2 / 500, 3),
    "xavier_uniform": (lambda: init.glorot_uniform(KEY, KERNEL), 2 / (16 * 25 + 24 * 25), 9 / 5),
    "kaiming_normal": (lambda: init.he_normal(KEY, WIDE), 2 / 200, 3),
    "kaiming_normal out": (lambda: init.kaiming_normal(KEY, KERNEL, 0.5, "fan_out"), 2 / 1.25 / (24 * 25), 3),
    "kaiming_uniform": (lambda: init.kaiming_uniform(KEY, KERNEL, nonlinearity="tanh"), 25 / 9 / 400, 9 / 5),
    "kaiming gelu": (lambda: init.kaiming_normal(KEY, WIDE, nonlinearity=nn.gelu), 1 / 0.425135 / 200, 3),
    "scaled": (lambda: init.variance_scaling(KEY, WIDE, 3.0, "fan_avg", "truncated_normal"), 3 / 250, 2.37),
    "deepnorm": (lambda: init.deepnorm(KEY, WIDE, 18), 2 / 500 / math.sqrt(8 * 18), 3),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_have_the_variance_of_their_rule(name):
    draw, variance, kurtosis = DRAWN[name]
    x = draw()
    assert x.dtype == np.float64
    assert abs(x.mean()) < 5 * math.sqrt(variance / x.size)
    assert abs(np.mean(x * x) / variance - 1) < 5 * math.sqrt((kurtosis - 1) / x.size)


def test_bounds_are_kept():
    assert abs(init.xavier_uniform(KEY, WIDE)).max() <= math.sqrt(6 / 500)
    cut = init.truncated_normal(KEY, WIDE, 1.0, 2.0, 0.5, 1.25)
    assert cut.min() >= 0.5 and cut.max() <= 1.25


def test_the_same_inside_a_trace_and_of_each_dtype():
    def everything(key: Any) -> dict[str, Any]:
        k = gc.random.split(key, 5)
        return {
            "normal": init.he_normal(k[0], (4, 6), dtype="float32"),
            "uniform": init.xavier_uniform(k[1], (4, 6), 0.5),
            "cut": init.truncated_normal(k[2], (5,), 0.5, 2.0, dtype="float32"),
            "orthogonal": init.orthogonal(k[3], (4, 6), 2.0),
            "sparse": init.sparse(k[4], (5, 2), 0.5),
            "zeros": init.zeros((3,), "float16"),
            "identity": init.identity((2, 3), 3.0, "float32"),
            "dirac": init.dirac((2, 2, 3)),
        }

    traced, eager = gc.jit(everything)(KEY), everything(KEY)
    for name, x in eager.items():
        assert isinstance(x, np.ndarray) and traced[name].dtype == x.dtype, name
        np.testing.assert_allclose(traced[name], x, rtol=8 * np.finfo(x.dtype).eps, atol=1e-15, err_msg=name)
    assert [eager[n].dtype for n in ("normal", "uniform", "cut", "zeros")] == [
        np.float32,
        np.float64,
        np.float32,
        np.float16,
    ]


def test_one_compiled_function_begins_a_whole_network():
    @gc.jit
    def begin(seed: Any) -> Any:
        keys = gc.random.split(gc.random.key(seed), 3)
        return [{"w": init.he_normal(k, (6, 6), dtype="float32"), "b": init.zeros(6, "float32")} for k in keys]

    one, two = begin(0), begin(1)
    assert one[0]["w"].dtype == np.float32 and not np.array_equal(one[0]["w"], two[0]["w"])
    assert not np.array_equal(one[0]["w"], one[1]["w"])


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (3, 2, 2, 2)])
def test_orthogonal(shape):
    m = np.reshape(init.orthogonal(KEY, shape, gain=1.5), (shape[0], -1)) / 1.5
    product = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(product, np.eye(len(product)), atol=16 * 2.0**-52)


def test_what_draws_nothing():
    np.testing.assert_array_equal(init.identity((2, 3)), np.eye(2, 3))
    np.testing.assert_array_equal(init.constant((2,), 7), [7.0, 7.0])
    np.testing.assert_array_equal(init.ones((1, 2)), [[1.0, 1.0]])
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5))
    np.testing.assert_array_equal(nn.conv2d(x, init.dirac((4, 4, 3, 3)), padding=1), x)
    np.testing.assert_array_equal(nn.conv2d(x, init.dirac((4, 2, 3, 3), groups=2), padding=1, groups=2), x)


def test_sparse_columns_have_their_zeros():
    w = init.sparse(KEY, (10, 7), 0.25, std=2.0)
    assert np.array_equal((w == 0).sum(0), np.full(7, 3))


def test_gains_are_pytorchs_and_those_of_any_function():
    table = {"linear": 1, "conv2d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    assert {name: init.calculate_gain(name) for name in table} == table
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    for f, gain in ((nn.relu, math.sqrt(2)), (lambda z: z, 1.0), (nn.selu, 1.0)):  # selu's constants make it 1
        assert abs(init.calculate_gain(f) / gain - 1) < 1e-6


def test_scales_of_deepnorm():
    np.testing.assert_allclose(init.deepnorm_scales(18), (36**0.25, 144**-0.25, 1, 1))
    np.testing.assert_allclose(init.deepnorm_scales(0, 6), (1, 1, 12**0.25, 48**-0.25))
    both = (6**4 * 12) ** (1 / 16)
    np.testing.assert_allclose(init.deepnorm_scales(6, 12), (0.81 * both, 0.87 / both, 36**0.25, 144**-0.25))


# -- what the texts derive ---------------------------------------------------------------------------------------------

LAYERS, WIDTH, BATCH = 50, 256, 256
#: drawn weights, activation, factor of the second moment of activations in one layer, and of that of gradients
RULES: dict[str, tuple[Any, Any, float, float]] = {
    "LeCun, linear": (init.lecun_normal, lambda x: x, 1.0, 1.0),
    "Xavier, linear": (init.xavier_uniform, lambda x: x, 1.0, 1.0),
    "He, relu": (init.he_normal, nn.relu, 1.0, 1.0),
    "He uniform, relu": (init.he_uniform, nn.relu, 1.0, 1.0),
    "LeCun, selu": (init.lecun_normal, nn.selu, 1.0, 1.0716),
    "Xavier, relu": (init.xavier_normal, nn.relu, 0.5, 0.5),
    "twice LeCun's deviation, linear": (lambda k, s: init.lecun_normal(k, s) * 2, lambda x: x, 4.0, 4.0),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_factor_of_a_layer(rule):
    """The mean over fifty layers of how much each changes the second moment, to four standard errors: 0.5 per cent.

    Var(y) = n·Var(w)·E[f²] and Var(∂L/∂x) = n·Var(w)·E[f′²]·Var(∂L/∂y) (LeCun 1998, Glorot 2010, He 2015).  Each layer
    has weights and inputs of its own, inputs in pairs z, −z; a sign for each example and unit makes weights that are as
    likely.  What is left are the n² squares of weights and the n·batch squares of sums, each 1 ± √2.
    """
    draw, f, forward, backward = RULES[rule]
    numbers = np.random.default_rng(1)

    @gc.jit
    def layer(w: Any, z: Any, ct: Any, signs: Any) -> Any:
        y, back = gc.vjp(lambda z: (signs * f(z)) @ w.T, z)
        (grad,) = back(ct)
        return np.mean(y * y), np.mean(grad * grad) / np.mean(ct * ct)

    factors = []
    for k in gc.random.split(KEY, LAYERS):
        half = numbers.standard_normal((BATCH // 2, WIDTH))
        z = np.concatenate([half, -half]) / np.sqrt(np.mean(half * half))
        ct, signs = numbers.standard_normal((BATCH, WIDTH)), numbers.choice([-1.0, 1.0], (BATCH, WIDTH))
        factors.append(layer(draw(k, (WIDTH, WIDTH)), z, ct, signs))
    error = math.sqrt((2 / WIDTH**2 + 2 / (WIDTH * BATCH)) / LAYERS)
    np.testing.assert_allclose(np.mean(factors, axis=0), (forward, backward), rtol=4 * error)


def _through_all(draw: Any, f: Any, seeds: int, width: int = 64) -> np.ndarray[Any, Any]:
    """The mean logarithm, a layer, of what networks of fifty layers make of second moments, forward and backward."""

    @gc.jit
    def measured(key: Any, x: Any, ct: Any) -> Any:
        stack = gc.vmap(lambda k: draw(k, (width, width)))(gc.random.split(key, LAYERS))
        y, back = gc.vjp(lambda x: gc.scan(lambda h, w: (f(w @ h), 0.0), x, stack)[0], x)
        (grad,) = back(ct)
        return np.log(np.mean(y * y) / np.mean(x * x)), np.log(np.mean(grad * grad) / np.mean(ct * ct))

    numbers = np.random.default_rng(2)
    rows = [measured(gc.random.key(s), *numbers.standard_normal((2, width))) for s in range(seeds)]
    result: np.ndarray[Any, Any] = np.mean(rows, axis=0) / LAYERS
    return result


def test_whole_networks_of_fifty_layers_vanish_explode_or_stay():
    """With He's rule the mean of the second moment stays; its logarithm then falls by ½·log(1 + 5/n) a layer, and its
    variance is log(1 + 5/n) a layer (Hanin 2018)."""
    stays, spread = _through_all(init.he_normal, nn.relu, 8), math.log1p(5 / 64)
    np.testing.assert_allclose(stays, -spread / 2, rtol=0, atol=4 * math.sqrt(spread / LAYERS / 8))
    vanishes = _through_all(init.xavier_normal, nn.relu, 8)
    np.testing.assert_allclose(vanishes - stays, math.log(0.5), rtol=1e-9)
    explodes = _through_all(lambda k, s: init.he_normal(k, s) * 2, nn.relu, 8)
    np.testing.assert_allclose(explodes - stays, math.log(4), rtol=1e-9)
    saturated = _through_all(init.xavier_normal, nn.sigmoid, 2)
    assert saturated[1] < math.log(1 / 16) + 0.1  # σ′ <= 1/4: the variance of gradients falls 16 times a layer at least
    still = _through_all(init.orthogonal, lambda x: x, 1, width=16)
    np.testing.assert_allclose(still, 0, atol=1e-15)


BAD = [
    (
        lambda: init.he_normal(KEY, (3,)),
        ShapeError,
        r"fans need a shape \(out, in\).*got \(3,\); biases begin as zeros",
    ),
    (
        lambda: init.he_normal(KEY, (3, 2), mode="fan_avg"),
        ValueError,
        "mode must be 'fan_in' or 'fan_out', got 'fan_avg'",
    ),
    (lambda: init.variance_scaling(KEY, (3, 2), distribution="t"), ValueError, "distribution must be 'normal' or"),
    (lambda: init.variance_scaling(KEY, (3, 2), -1.0), ValueError, "scale must be at least 0, got -1.0"),
    (lambda: init.calculate_gain("swish"), ValueError, "nonlinearity must be 'linear' or .* got 'swish'"),
    (lambda: init.calculate_gain("leaky_relu", "a"), ValueError, "param, a negative slope, must be a number"),
    (lambda: init.calculate_gain(np.zeros_like), ValueError, r"the mean of f\(z\)² must be positive"),
    (lambda: init.uniform(KEY, (3,), 1.0, 0.0), ValueError, "a must be at most b, got a=1.0, b=0.0"),
    (lambda: init.normal(KEY, (3,), 0.0, -1.0), ValueError, "std must be at least 0, got -1.0"),
    (lambda: init.truncated_normal(KEY, (3,), a=2.0), ValueError, "std > 0 and a < b are needed"),
    (lambda: init.identity((3,)), ShapeError, "must have 2 axes"),
    (lambda: init.dirac((3, 2)), ShapeError, "must have 3 or 4 or 5 axes"),
    (lambda: init.dirac((3, 2, 1), groups=2), ShapeError, "groups=2 must divide the 3 channels"),
    (lambda: init.orthogonal(KEY, (3,)), ShapeError, "two axes at least"),
    (lambda: init.sparse(KEY, (3, 3), 2.0), ValueError, r"sparsity must lie in \[0, 1\], got 2.0"),
    (lambda: init.deepnorm_scales(0, 0), ValueError, "nor both 0, got 0 and 0"),
]


@pytest.mark.parametrize(("program", "error", "text"), BAD)
def test_bad_arguments(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program()
    assert __file__ in str(caught.value)
