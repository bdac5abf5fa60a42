"""Difference quotients: as accurate as they say, honest about kinks, edges and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradc.diff import finite
from gradc.diff.finite import (
    FIRST,
    LEVELS,
    WITNESSES,
    derivative_along,
    difference_along,
    difference_of,
    finite_difference,
)

SMOOTH = [
    (np.sin, np.cos, 1.3),
    (np.exp, np.exp, 2.0),
    (np.log, lambda x: 1 / x, 0.1),
    (np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e-3),
    (lambda x: x**5, lambda x: 5 * x**4, 1.0),
    (np.tanh, lambda x: 1 - np.tanh(x) ** 2, 3.0),
    (lambda x: np.sin(50 * x), lambda x: 50 * np.cos(50 * x), 1.0),
    (lambda x: 1 / x, lambda x: -1 / x**2, 1e-8),
    (lambda x: 1e6 + np.sin(x), np.cos, 1.0),
    (lambda x: np.abs(x) ** 3, lambda x: 3 * x * abs(x), 1e-3),
    # the function's scale is not the argument's
    (np.sin, np.cos, 1e6),
    (np.sin, np.cos, 1e9),
    (lambda x: np.cos(x * x), lambda x: -2 * x * np.sin(x * x), 1e3),
    (lambda x: np.sin(2 * np.pi * x), lambda x: 2 * np.pi * np.cos(2 * np.pi * x), 1024.0),
    (lambda x: np.tanh(1e8 * (x - 1)) + x, lambda x: 1e8 + 1, 1.0),
    (lambda x: np.exp(-1e6 * x), lambda x: -1e6 * np.exp(-1e6 * x), 1e-3),
    (lambda x: np.maximum(x, 0), lambda x: 1.0, 1e-9),
]


@pytest.mark.parametrize(
    ("f", "derivative", "x"),
    [
        (lambda x: 1 / x, lambda x: -1 / x**2, 1e-6),
        (lambda x: np.tanh(x / 1e-6), lambda x: 1e6 * (1 - np.tanh(x / 1e-6) ** 2), 1e-6),
        (np.cbrt, lambda x: np.cbrt(x) / (3 * x), 1e-6),
        (np.log, lambda x: 1 / x, 1e-9),
        (np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e-9),
    ],
)
def test_a_small_number_beside_a_large_one_gets_a_step_of_its_own(f, derivative, x):
    """The first step fits the array, not the element; a hundred times smaller ones show that it says nothing."""
    with np.errstate(all="ignore"):
        d = difference_of(lambda a: np.sum(f(a[0])), [np.array([x, 1.0])], 0)
    exact = derivative(x)
    assert abs(d.value[0] - exact) <= d.error[0] < 1e-6 * abs(exact)


@pytest.mark.parametrize(("f", "derivative", "x"), SMOOTH)
def test_the_error_estimate_covers_the_error(f, derivative, x):
    (g,), (e,) = finite_difference(lambda a: f(a[0]), [np.array(x)], [0])
    assert abs(g - derivative(x)) <= e


@pytest.mark.parametrize(("f", "derivative", "x"), SMOOTH[:6])
def test_ten_digits_of_smooth_functions(f, derivative, x):
    (g,), (e,) = finite_difference(lambda a: f(a[0]), [np.array(x)], [0])
    assert abs(g / derivative(x) - 1) < 1e-10
    assert e < 1e-9 * abs(g)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-5, 5))
def test_the_estimate_holds_for_a_family(x, scale, shift):
    d = difference_of(lambda a: np.sin(scale * a[0]) * np.exp(a[0]) + shift, [np.array(x)], 0)
    exact = np.exp(x) * (scale * np.cos(scale * x) + np.sin(scale * x))
    assert abs(d.value - exact) <= 2 * d.error


@pytest.mark.parametrize(
    ("f", "at", "jump"),
    [(np.abs, 0.0, 2.0), (lambda x: np.maximum(x, 0), 0.0, 1.0), (lambda x: np.maximum(x, 2 - x), 1.0, 2.0)],
)
def test_a_kink_is_reported_and_its_error_covers_both_sides(f, at, jump):
    d = difference_of(lambda a: f(a[0]), [np.array(at)], 0)
    assert d.jump == pytest.approx(jump)
    assert d.error >= jump / 2


@pytest.mark.parametrize(("left", "right"), [(-2.0, -2.4), (1.0, 2.0), (0.0, -0.3)])
def test_a_kink_is_still_there_where_rounding_drowns_it(left, right):
    """The smallest steps cannot tell its sides apart, and are no better for that."""
    d = derivative_along(lambda t: np.array(3.0) + t * np.where(t > 0, right, left), FIRST, noise=1e-15)
    assert d.jump == pytest.approx(right - left, rel=1e-3)
    assert abs(d.value - (left + right) / 2) <= d.error - abs(right - left) / 2


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-4])
def test_a_kink_beside_the_point_is_stepped_around(distance):
    d = difference_of(lambda a: np.maximum(a[0], 0), [np.array(distance)], 0)
    assert abs(d.value - 1) <= d.error
    assert d.error < 1e-6


def test_no_estimate_is_said_where_there_is_none():
    with np.errstate(invalid="ignore"):
        d = difference_of(lambda a: np.sqrt(a[0]), [np.array(-1.0)], 0)
    assert np.isnan(d.value)
    assert np.isinf(d.error)


def test_noise_enters_the_estimate():
    random = np.random.default_rng(0)
    d = derivative_along(lambda t: np.sin(1 + t) + 1e-9 * random.uniform(-1, 1), FIRST, noise=1e-9)
    assert abs(d.value - np.cos(1)) <= d.error
    assert d.error > 1e-8


def test_gradients_of_arrays_and_only_of_those_asked_for():
    x, y = np.arange(6.0).reshape(2, 3), np.array([1, 2, 3])
    gradients, errors = finite_difference(lambda a: np.sum(a[0] ** 2 * a[1]), [x, y], [0])
    np.testing.assert_allclose(gradients[0], 2 * x * y, atol=1e-9)
    assert errors[0].shape == x.shape
    assert len(gradients) == 1


def test_float32_points_are_evaluated_in_float64():
    seen = set()

    def f(a):
        seen.add(a[0].dtype)
        return np.sum(np.sin(a[0]))

    finite_difference(f, [np.ones(2, np.float32)], [0])
    assert seen == {np.dtype(np.float64)}


def test_a_direction_moves_several_arguments_of_an_array_valued_function():
    x, w = np.array([0.5, -1.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    v, u = np.array([1.0, 2.0]), np.ones((2, 2))
    d = difference_along(lambda a: np.tanh(a[1] @ a[0]), [x, w], {0: v, 1: u})
    exact = (1 - np.tanh(w @ x) ** 2) * (u @ x + w @ v)
    assert np.all(np.abs(d.value - exact) <= d.error)


@pytest.mark.parametrize("f", [np.sin, np.abs, lambda x: np.float64(0.0)])
def test_the_number_of_evaluations_is_bounded(f):
    calls = []
    finite_difference(lambda a: calls.append(1) or f(a[0]), [np.array(0.0)], [0])
    assert 2 * WITNESSES + 1 < len(calls) <= 2 * LEVELS + 1


def test_empty_arguments_have_empty_gradients():
    gradients, errors = finite_difference(lambda a: np.sum(a[0]), [np.zeros((0, 3))], [0])
    assert gradients[0].shape == errors[0].shape == (0, 3)


def test_an_estimate_is_as_good_as_it_agrees_with_the_columns_and_the_step_before_it():
    ladder = finite._Ladder((2,))
    row = [np.array(a) for a in ((0.0, 1.0), (2.0, 1.5), (2.5, 4.0), (2.6, 4.2))]
    before = [np.array(a) for a in ((0.1, 1.0), (2.4, 1.5), (2.55, 1.5))]
    ladder.enter(3, row, before, np.array((0.0, 0.01)), np.array((0.0, 0.2)))
    rounding = finite.AMPLIFIED * 0.01 + 0.2 / 2
    np.testing.assert_allclose(ladder.value[3], [2.6, 1.5])
    np.testing.assert_allclose(ladder.error[3], [2.6 - 2.5, 0.5 + rounding])
    np.testing.assert_allclose(ladder.remainder[3], [2.6, 0.5])
    ladder.enter(2, row[:3], before[:2], np.zeros(2), np.zeros(2))
    np.testing.assert_allclose(ladder.error[2], [0.5, 0.5])
    assert np.isinf(ladder.error[:2]).all()
    assert ladder.jump[3].tolist() == [0.0, 0.2]


def test_a_smaller_step_testifies_by_what_the_remainder_of_a_larger_one_leaves():
    ladder = finite._Ladder((2,))
    ladder.value[:3], ladder.error[:3], ladder.remainder[:3] = [[1, 2], [3, 4], [5, 6]], 0.5, [[64, 8], [0, 1], [2, 0]]
    ladder.testify(3, np.array([2.5, 6.0]), np.array([0.25, 0.0]))
    for level in range(3):
        left = 2 * finite.RATIO ** (-2.0 * (3 - level)) * ladder.remainder[level] + [0.25, 0.0]
        excess = np.maximum(np.abs(ladder.value[level] - [2.5, 6.0]) - left, 0)
        np.testing.assert_allclose(ladder.error[level], 0.5 + excess, rtol=1e-15)
    assert np.isinf(ladder.error[3:]).all()


@pytest.mark.parametrize(("g", "left_out"), [
    (lambda t: np.where(t == 0, 1e-6, np.sin(t + 1) - np.sin(1)), True), (lambda t: np.where(t == 0, 0.0, 1.0), True),
    (np.sin, False), (abs, False), (lambda t: abs(t) ** 0.5, False), (lambda t: np.exp(3 * t) + 1e4, False),
])  # fmt: skip
def test_a_value_that_is_none_of_those_around_it_has_no_derivative(g, left_out):
    """However close it is to them; symmetric differences alone never look at it."""
    assert np.isinf(derivative_along(g, 0.12, 1e-16).error) == left_out


def test_a_kink_is_seen_although_the_first_step_strode_over_a_jump():
    """What a large step has seen is left over in the last column of the tableau longest."""
    found = derivative_along(lambda t: np.abs(t) + 100.0 * (t > 0.1), 0.12, 1e-16)
    assert found.jump == pytest.approx(2.0)
    assert found.error >= 1.0
