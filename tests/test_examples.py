"""Every example runs and gives the answer it promises."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from examples import (
    black_scholes_greeks,
    bundle_adjustment,
    epoch_in_one_call,
    gaussian_process,
    kalman_filter,
    logistic_regression,
    lotka_volterra,
    mlp_digits,
    poisson_2d,
    portfolio,
    read_the_gradient,
    rosenbrock_scipy,
    support_vector_machine,
)
from gradc import data


def test_every_example_is_run_here():
    files = {p.stem for p in (Path(__file__).parent.parent / "examples").glob("*.py")} - {"__init__"}
    assert files - {"autodidact"} == {  # which has tests of its own
        "black_scholes_greeks",
        "bundle_adjustment",
        "epoch_in_one_call",
        "gaussian_process",
        "kalman_filter",
        "logistic_regression",
        "lotka_volterra",
        "mlp_digits",
        "poisson_2d",
        "portfolio",
        "read_the_gradient",
        "rosenbrock_scipy",
        "support_vector_machine",
    }


def test_logistic_regression_converges(capsys):
    accuracy, slope = logistic_regression.main()
    assert accuracy >= 0.95 and slope < 1e-10
    assert "∂" in capsys.readouterr().out


def test_mlp_reaches_the_promised_accuracy():
    assert mlp_digits.main() >= 0.97


def test_an_epoch_in_one_call_trains_as_well(capsys):
    assert epoch_in_one_call.main() >= 0.97
    assert "steps per call" in capsys.readouterr().out


def test_demo_model_reaches_the_promised_accuracy():
    """What `gradc demo` prints with its defaults."""
    import gradc as gc
    from gradc.cli import demo

    train, test = data.digits().split(seed=0)
    run = gc.fit(
        demo.loss, demo.initial(0), tuple(train), optimizer=gc.optim.adam(demo.LEARNING_RATE), batch_size=demo.BATCH,
        drop_last=True, epochs=40, key=0, log=False,
    )  # fmt: skip
    assert np.mean(demo.right(run.params, *test)) >= 0.97


def test_rosenbrock_reaches_the_minimum():
    result = rosenbrock_scipy.main()
    np.testing.assert_allclose(result.x, np.ones(20), atol=1e-6)


def test_greeks_match_the_closed_forms():
    (s, k, t, r, v), (price, delta, theta, rho, vega, gamma) = black_scholes_greeks.main()
    d1 = (np.log(s / k) + (r + 0.5 * v**2) * t) / (v * np.sqrt(t))
    d2 = d1 - v * np.sqrt(t)
    cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    density = np.exp(-0.5 * d1**2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(price, s * cdf(d1) - k * np.exp(-r * t) * cdf(d2), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(delta, cdf(d1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(vega, s * density * np.sqrt(t), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gamma, density / (s * v * np.sqrt(t)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rho, k * t * np.exp(-r * t) * cdf(d2), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        theta, -s * density * v / (2 * np.sqrt(t)) - r * k * np.exp(-r * t) * cdf(d2), rtol=1e-9, atol=1e-9
    )


def test_the_tour_of_gradients_reads_right():
    product, distance, quadratic, squares, entropy = read_the_gradient.main()
    assert "cos(x)" in product
    assert "X − Y" in distance or "X - Y" in distance
    assert "Aᵀ" in quadratic
    assert "Xᵀ" in squares
    assert "softmax" in entropy


def test_bundle_adjustment_explains_what_was_seen():
    """The residual is that of the noise, which chance moves by a few per cent."""
    error, pattern = bundle_adjustment.main()
    assert abs(error / bundle_adjustment.NOISE - 1) < 0.15
    assert pattern.colours <= 9 and pattern.entries <= 9 * pattern.shape[0]


def test_poisson_is_solved_and_differentiated():
    error, slope, differences, pattern = poisson_2d.main()
    assert error < 1.01 * np.pi**2 * poisson_2d.H**2 / 12
    np.testing.assert_allclose(slope, differences, rtol=1e-9)
    assert pattern.colours == 5 and pattern.entries == 5 * 40**2 - 4 * 40


def test_lotka_volterra_is_fitted_to_noisy_counts(capsys):
    result, kept = lotka_volterra.main()
    for name, rate in lotka_volterra.TRUE.items():
        assert abs(result.x[name] / rate - 1) < 0.05  # the noise of one count
    assert np.ptp(kept) < 1e-4 and "∂L/∂r = feeding − death/r" in capsys.readouterr().out


def test_a_support_vector_machine_tells_digits_apart(capsys):
    accuracy, result, balance = support_vector_machine.main()
    assert result.success and accuracy >= 0.93 and abs(balance) < 1e-8
    assert "∂L/∂α = qα − 1" in capsys.readouterr().out


def test_portfolios_keep_their_constraints_and_scipys_methods_agree(capsys):
    weights = portfolio.main()
    for wanted, w in weights.items():
        assert abs(w.sum() - 1) < 1e-9 and w.min() > -1e-9 and w.max() < portfolio.SHARE + 1e-9
        assert portfolio.MEAN @ w > wanted - 1e-9
    other = portfolio.best(0.06, "trust-constr").x
    np.testing.assert_allclose(other, weights[0.06], atol=1e-3)
    assert "∂L/∂w = 2covariance·w" in capsys.readouterr().out


def test_the_nile_has_the_published_variances(capsys):
    """Smoothed levels are the mean of the levels given all flows, found here by one linear system."""
    variances, levels = kalman_filter.main()
    for name, value in kalman_filter.PUBLISHED.items():
        assert abs(variances[name] / value - 1) < 1e-3  # five digits are published
    said = capsys.readouterr().out
    assert "log likelihood -632.5456" in said and "∂density/∂level = surprise/spread" in said
    _, flow = data.nile()
    steps = np.diff(np.eye(100), axis=0)
    exact = np.linalg.solve(np.eye(100) + variances["noise"] / variances["drift"] * steps.T @ steps, flow)
    np.testing.assert_allclose(levels, exact, rtol=1e-9)


def test_a_gaussian_process_is_the_filter_of_its_kernel(capsys):
    """The exponential kernel is a process with one state: filtering it gives the same likelihood."""
    found, (mean, deviation) = gaussian_process.main()
    p, (years, flow) = found.x, data.nile()
    assert found.success and "∂L/∂K = ½(K⁻¹rrᵀK⁻¹ − K⁻¹)" in capsys.readouterr().out
    spread, noise, keep = np.exp(2 * p["scale"]), np.exp(2 * p["noise"]), np.exp(-1 / np.exp(p["length"]))
    level, variance, total = 0.0, spread, 0.0
    for r in flow - p["mean"]:
        surprise, of_surprise = r - level, variance + noise
        total -= 0.5 * (np.log(2 * np.pi * of_surprise) + surprise**2 / of_surprise)
        level, variance = level + variance / of_surprise * surprise, variance * noise / of_surprise
        level, variance = keep * level, keep**2 * variance + spread * (1 - keep**2)
    np.testing.assert_allclose(-found.fun * len(years), total, rtol=1e-9)
    np.testing.assert_allclose(mean[-2:] - p["mean"], level * keep ** np.array([9.0, 19.0]), rtol=1e-7)
    assert (np.diff(deviation[-3:]) > 0).all() and deviation[-1] < np.sqrt(spread)
