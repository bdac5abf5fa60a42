"""Differential equations integrated inside models: each method against SciPy, both adjoints, events, what fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import gradc as gc

P = np.array([1.5, 1.0, 1.0, 3.0])
Y0 = np.array([1.0, 0.5])
T = np.linspace(0.0, 3.0, 4)


def prey(y: Any, t: Any, p: Any) -> Any:
    """Lotka and Volterra's equations, driven a little."""
    return np.stack([p[0] * y[0] - p[1] * y[0] * y[1] + 0.1 * np.sin(t), p[2] * y[0] * y[1] - p[3] * y[1]])


def exact(y0: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """By SciPy's method of order 8, as tightly as it can."""
    span = (t[0], t[-1])
    found = solve_ivp(lambda s, y: prey(y, s, p), span, y0, method="DOP853", rtol=3e-14, atol=1e-14, dense_output=True)
    return found.sol(t).T


def slopes(f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 2e-3) -> np.ndarray:
    """Central differences of order 4."""
    return np.array([(8 * (f(x + d) - f(x - d)) - f(x + 2 * d) + f(x - 2 * d)) / (12 * h) for d in h * np.eye(len(x))])


@functools.cache
def slope_of_loss(k: int) -> np.ndarray:
    """The derivative of `loss` in its k-th operand."""
    at = (Y0, T, P)
    return slopes(lambda v: (exact(*(v if i == k else x for i, x in enumerate(at))) ** 2).sum(), at[k])


def loss(y0: Any, t: Any, p: Any, method: str, **options: Any) -> Any:
    return (gc.odeint(prey, y0, t, p, method=method, **options) ** 2).sum()


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dopri5", "tsit5", pytest.param("rodas4", marks=pytest.mark.nightly)])
def test_errors_follow_the_tolerance_between_steps_too(method: str) -> None:
    """y' = y cos t, of which dozens of times lie in one step."""
    t = np.linspace(0, 5, 101)
    errors, counts = [], []
    for tol in (1e-5, 1e-7, 1e-9):
        ys, told = gc.odeint(lambda y, t: y * np.cos(t), 1.0, t, method=method, rtol=tol, atol=tol, full_output=True)
        assert told.success and told.t == 5.0 and told.y == ys[-1]
        errors.append(np.abs(ys - np.exp(np.sin(t))).max())
        counts.append(int(told.steps))
    assert all(e <= 100 * tol for e, tol in zip(errors, (1e-5, 1e-7, 1e-9), strict=True)), errors
    assert errors[0] > 100 * errors[2] and counts[0] < 40 and counts[2] > counts[0]


def test_the_orders_are_as_stated() -> None:
    """Halving equal steps divides the error by 2⁴, halving one step of the others that of it by 2ᵖ⁺¹ at least."""
    from gradc.solve import steps

    ends = [gc.odeint(prey, Y0, T, P, method="rk4", substeps=k)[-1] for k in (20, 40)]
    errors = [np.abs(e - exact(Y0, T, P)[-1]).max() for e in ends]
    assert 14 < errors[0] / errors[1] < 18
    for method, order in (("dopri5", 5), ("tsit5", 5), ("rodas4", 4)):
        step = steps.METHODS[method][0]
        field = lambda y, t: (prey(y[0], t, P),)

        def ended(y: Any, h: Any, step: Any = step, field: Any = field) -> Any:
            t = 0 * h
            return step(field, (y,), t, field((y,), t), h)[0][0]

        errors = [
            np.abs(gc.trace(ended, Y0, h).evaluate(Y0, h)[0] - exact(Y0, np.array([0, h]), P)[-1]).max()
            for h in (0.08, 0.04)
        ]
        assert errors[0] / errors[1] > 0.75 * 2 ** (order + 1), (method, errors)


@pytest.mark.nightly
def test_stiff_equations_in_a_tree() -> None:
    oscillator = lambda y, t, mu: {"x": y["v"], "v": mu * (1 - y["x"] ** 2) * y["v"] - y["x"]}
    t = np.array([0.0, 1.0, 800.0, 1200.0])
    solve = gc.jit(
        lambda mu: gc.odeint(
            oscillator, {"x": 2, "v": 0.0}, t, mu, method="rodas4", rtol=1e-7, atol=1e-7, full_output=True
        )
    )
    ys, told = solve(1000.0)
    plain = lambda t, y: [y[1], 1000 * (1 - y[0] ** 2) * y[1] - y[0]]
    wanted = solve_ivp(plain, (0, 1200), [2, 0], method="Radau", rtol=1e-10, atol=1e-10, t_eval=t).y
    assert told.success and told.steps < 800 and ys["x"].shape == (4,)
    np.testing.assert_allclose(ys["x"], wanted[0], rtol=1e-5)


def test_times_that_fall_repeat_or_are_one() -> None:
    decay = lambda y, t: -y
    np.testing.assert_allclose(gc.odeint(decay, 1.0, [1.0, 0.0, -1.0]), np.exp([0.0, 1.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(gc.odeint(decay, 1, [0, 0, 1, 1]), np.exp([0.0, 0, -1, -1]), rtol=1e-6)
    assert gc.odeint(decay, 1.0, [2.0]).tolist() == [1.0]
    single = gc.odeint(decay, np.float32(1), np.array([0, 1], np.float32))
    assert single.dtype == np.float32 and abs(single[1] - np.exp(-1)) < 1e-3


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "tol", "options"),
    [
        ("dopri5", 1e-8, {"adjoint": "discrete"}),
        ("dopri5", 1e-7, {"adjoint": "continuous"}),
        pytest.param("tsit5", 1e-7, {"adjoint": "continuous"}, marks=pytest.mark.nightly),
        pytest.param("rodas4", 1e-6, {}, marks=pytest.mark.nightly),
        ("rk4", 1e-8, {"substeps": 100}),
    ],
)
def test_gradients_agree_with_those_of_the_flow(method: str, tol: float, options: dict[str, Any]) -> None:
    """By y₀, the times and the parameters, within what errors of each step add up to; slopes of an interpolant, which
    derivatives by the times are, have one order less."""
    steps = {} if method == "rk4" else {"rtol": tol, "atol": tol, "max_steps": 500}
    got = gc.grad(lambda *x: loss(*x, method, **options, **steps), (0, 1, 2))(Y0, T, P)
    for found, wanted, factor in zip(got, map(slope_of_loss, range(3)), (100, 1000, 100), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=factor * tol, atol=factor * tol * np.abs(wanted).max())


def test_the_discrete_adjoint_is_that_of_the_steps_and_is_compiled() -> None:
    """At a tolerance at which the flow is another one: forward and reverse mode agree to the last digits."""
    rough = {"rtol": 1e-3, "atol": 1e-3, "max_steps": 100}
    f = lambda p: loss(Y0, T, p, "dopri5", **rough)
    reverse = gc.jit(gc.grad(f))(P)
    np.testing.assert_allclose(reverse, gc.grad(f, method="forward")(P), rtol=1e-11)
    np.testing.assert_allclose(reverse, gc.grad(f)(P), rtol=1e-11)
    assert np.abs(reverse - slope_of_loss(2)).max() > 1e-5 * np.abs(slope_of_loss(2)).max()


@pytest.mark.nightly
def test_the_continuous_adjoint_has_forward_mode_and_second_derivatives() -> None:
    options = {"rtol": 1e-8, "atol": 1e-8, "max_steps": 200}
    rate = np.array(0.7)

    def f(k: Any, adjoint: str) -> Any:
        decay = lambda y, t: -k * y * (1 + t)
        return gc.odeint(decay, 1.0, np.array([0.0, 0.5, 1.0]), adjoint=adjoint, **options)[1:].sum()

    for adjoint in ("continuous", "discrete"):
        g = lambda k, a=adjoint: f(k, a)
        ends = np.array([0.625, 1.5])  # ∫ (1 + t) dt
        for got, power in ((gc.jvp(g, (rate,), (1.0,))[1], 1), (gc.grad(g)(rate), 1), (gc.grad(gc.grad(g))(rate), 2)):
            np.testing.assert_allclose(got, ((-ends) ** power * np.exp(-ends * rate)).sum(), rtol=3e-6)


def test_batches_and_loops() -> None:
    end = lambda k: gc.odeint(lambda y, t: -k * y, 1.0, np.array([0.0, 1.0]), max_steps=200)[-1]
    rates = np.array([0.5, 1.0, 30.0])
    values, gradients = gc.jit(gc.vmap(gc.value_and_grad(end)))(rates)
    np.testing.assert_allclose(values, np.exp(-rates), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradients, -np.exp(-rates), rtol=1e-5, atol=1e-7)
    chained = lambda k: gc.scan(lambda c, _: (c * end(k), None), 1.0, length=2)[0]
    np.testing.assert_allclose(gc.grad(chained)(0.5), -2 * np.exp(-1.0), rtol=1e-6)


# -- events ------------------------------------------------------------------------------------------------------------


def test_an_event_ends_the_integration_and_moves_with_the_parameters() -> None:
    """A stone that falls from 10 m."""

    def fall(g: Any) -> Any:
        field = lambda y, t: np.stack([y[1], -g + 0 * y[0]])
        return gc.odeint(field, np.array([10.0, 0.0]), np.linspace(0, 3, 7), event=lambda y, t: y[0], full_output=True)

    g = 9.81
    ys, told = fall(g)
    assert told.success and told.stopped
    np.testing.assert_allclose(told.t, np.sqrt(20 / g), rtol=1e-9)
    np.testing.assert_allclose(ys[:3, 0], 10 - g / 2 * np.array([0, 0.25, 1.0]), rtol=1e-9)
    np.testing.assert_allclose(ys[3:], np.broadcast_to([0, -np.sqrt(20 * g)], (4, 2)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gc.grad(lambda g: fall(g)[1].t)(g), -0.5 * np.sqrt(20) * g**-1.5, rtol=1e-9)
    np.testing.assert_allclose(gc.jit(gc.grad(lambda g: fall(g)[0][-1, 1]))(g), -0.5 * np.sqrt(20 / g), rtol=1e-9)
    assert not gc.odeint(lambda y, t: -y, 1.0, [0, 1], event=lambda y, t: y, full_output=True)[1].stopped


@pytest.mark.parametrize("scale, last", [(1.0, 700.0), (-1e-200, 200.0), (1e200, 9.0), (1e-200, 1e-250)])
def test_an_event_is_a_change_of_sign_however_small_or_large_its_values_are(scale: float, last: float) -> None:
    """e⁻ᵗ gets small and is never 0; what changes its sign inside the span is found at that time."""
    never = lambda y, time: scale * np.exp(-time)
    assert not gc.odeint(lambda y, t: 0 * y, 1.0, [0.0, last], event=never, full_output=True)[1].stopped
    there = lambda y, time: scale * (1 / 4 - time / last)
    ys, told = gc.odeint(lambda y, t: 1 + 0 * y, 0.0, [0.0, last / 2, last], event=there, full_output=True)
    assert told.stopped
    np.testing.assert_allclose(told.t, last / 4, rtol=1e-9)
    np.testing.assert_allclose(ys[1:], last / 4, rtol=1e-9)


# -- what fails --------------------------------------------------------------------------------------------------------


def test_what_fails_says_so() -> None:
    ys, told = gc.odeint(lambda y, t: -y, 1.0, [0.0, 0.05, 100.0], max_steps=4, full_output=True)
    assert told.status == 1 and not told.success and told.message and np.isnan(ys[2]) and not np.isnan(ys[1])
    ys, told = gc.odeint(lambda y, t: y * np.sqrt(0.5 - t), 1.0, [0.0, 0.4, 1.0], full_output=True)
    assert told.status == 2 and np.isnan(ys[2]) and 0.4 < told.t <= 0.5
    ys, told = gc.odeint(lambda y, t: y / 0, 1.0, [0.0, 1.0], full_output=True)
    assert told.status == 2 and np.isnan(ys[1]) and ys[0] == 1.0
    batch = gc.vmap(lambda k: gc.odeint(lambda y, t: -k * y, 1.0, [0.0, 1.0], max_steps=30, full_output=True)[1])(
        np.array([1.0, 1e6])
    )
    assert batch.status.tolist() == [0, 1] and batch.message[0] != batch.message[1]


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "another shape": (lambda: gc.odeint(lambda y, t: y[:1], Y0, T), gc.ShapeError, "in the place of y0"),
    "times in disorder": (lambda: gc.odeint(lambda y, t: y, 1.0, [0, 2, 1]), ValueError, "rise or fall"),
    "one time": (lambda: gc.odeint(lambda y, t: y, 1.0, 1.0), gc.ShapeError, "vector of times"),
    "no method": (lambda: gc.odeint(lambda y, t: y, 1.0, T, method="lsoda"), ValueError, "'rodas4'"),
    "no adjoint": (lambda: gc.odeint(lambda y, t: y, 1.0, T, adjoint="none"), ValueError, "'continuous'"),
    "no time in f": (lambda: gc.odeint(lambda y: y, 1.0, T), TypeError, "positional argument"),
    "an adjoint for other methods": (
        lambda: gc.odeint(lambda y, t: y, 1.0, T, method="rodas4", adjoint="continuous"), ValueError, "explicit"),
    "an event that is no number": (
        lambda: gc.odeint(lambda y, t: y, Y0, T, event=lambda y, t: y > 0), gc.ShapeError, "one float scalar"),
    "no function": (lambda: gc.odeint(1, 1.0, T), TypeError, "expects a function"),  # type: ignore[arg-type]
    "a tolerance that is none": (lambda: gc.odeint(lambda y, t: y, 1.0, T, rtol=-1.0), ValueError, "rtol"),
    "no state": (lambda: gc.odeint(lambda y, t: y, {}, T), TypeError, "no array"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_line(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_odeint.py" in str(caught.value)
