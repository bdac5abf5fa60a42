"""`gc.diagnose` beside what is known: descent on quadratics with given spectra, sequences, SGD, logistic regression."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gradc as gc
from tests.test_landscape import quadratic, turned

K = np.arange(200.0)


def descended(a, eta, steps, w=None):
    """Losses and iterates of descent on ½wᵀAw + 1."""
    w = np.ones(len(a)) if w is None else w
    losses, path = [], []
    for _ in range(steps):
        losses.append(0.5 * w @ a @ w + 1)
        path.append(w)
        w = w - eta * (a @ w)
    return np.array(losses), np.array(path)


@pytest.mark.parametrize(
    ("part", "behaviour"), [(0.25, "monotone"), (0.9, "monotone"), (1.5, "oscillating"), (1.98, "oscillating"),
                            (2.02, "diverging"), (3.0, "diverging")]
)  # fmt: skip
def test_of_one_variable_by_the_learning_rate(part, behaviour):
    """η in parts of η_opt = 1/a: monotone below 1, oscillating between 1 and 2, diverging beyond."""
    a = np.array([[4.0]])
    losses, path = descended(a, part / 4, 60)
    found = gc.diagnose(losses, iterates=path)
    assert found.behaviour == behaviour
    if behaviour != "diverging":
        q = (1 - part) ** 2
        assert found.rate.kind == "linear" and found.rate.value == pytest.approx(q, rel=1e-3)
        assert found.rate.low <= q * (1 + 1e-4) and found.rate.high >= q * (1 - 1e-4)
        # with the decrease of the last step lost to rounding, the end has come
        assert found.converged == (q**30 < 1e-15)
    else:
        assert "reduce it below 2/L" in str(found) and found.rate.kind == "none"


@pytest.mark.parametrize("eigenvalues", [[1.0, 10.0], [0.5, 1.0, 2.0, 8.0], np.linspace(1, 20, 15)])
def test_of_several_variables_the_rate_is_that_of_the_slowest_direction(eigenvalues):
    """Losses fall by max (1 − ηλ)² in the end; the landscape foretells rate and behaviour for each learning rate."""
    a = turned(eigenvalues)
    place = gc.landscape(quadratic, np.ones(len(a)), a, np.zeros(len(a)), segments=1, probes=1)
    for eta in (0.7 * place.safe, place.optimal, 0.5 * (place.optimal + place.edge), 1.02 * place.edge):
        losses, path = descended(a, eta, 700, w=turned(eigenvalues) @ np.ones(len(a)))
        found = gc.diagnose(losses, iterates=path, learning_rate=eta, landscape=place)
        assert found.behaviour == place.behaviour(eta) and found.behaviour in found.predicted
        if found.behaviour == "diverging":
            continue
        exact = gc.diagnose(losses, minimum=1.0, batch="batch").rate
        for rate in (found.rate, exact):
            assert rate.kind == "linear" and rate.value == pytest.approx(place.contraction(eta) ** 2, rel=0.02)
        assert "strongly convex" in found.against


def test_newtons_coordinates_end_in_one_step_and_converge_below_two():
    """ŵ = A^½ w: A is the identity there, and 1 − η is the factor of every direction."""
    for eta, behaviour in ((1.0, "monotone"), (0.5, "monotone"), (1.7, "oscillating"), (2.1, "diverging")):
        losses, path = descended(np.eye(3), eta, 40, w=np.array([1.0, -2.0, 3.0]))
        found = gc.diagnose(losses, iterates=path)
        assert found.behaviour == behaviour
        if eta == 1.0:
            assert found.rate.kind == "superlinear" and math.isinf(found.rate.value) and found.converged
            assert "Newton" in str(found)
        elif behaviour != "diverging":
            assert found.rate.value == pytest.approx((1 - eta) ** 2, rel=1e-3)


def test_newtons_method_is_quadratic_and_secants_have_the_golden_order():
    x, losses = 1.5, []
    for _ in range(7):  # f = x − log x, whose minimum is 1 at 1
        losses.append(x - math.log(x))
        x = x - (1 - 1 / x) * x * x if x < 2 else 1.2
    found = gc.diagnose(losses)
    assert found.rate.kind == "superlinear" and found.rate.value == pytest.approx(2, abs=0.15)
    golden = gc.diagnose([1 + 0.5 ** (1.618**i) for i in range(8)], minimum=1.0)
    assert golden.rate.kind == "superlinear" and golden.rate.value == pytest.approx(1.618, abs=0.02)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shift", [1, 7])
def test_sublinear_exponents_are_found_with_and_without_the_minimum(p, shift):
    losses = 3 + 2 * (K + shift) ** -p
    for minimum in (None, 3.0):
        rate = gc.diagnose(losses, minimum=minimum).rate
        assert rate.kind == "sublinear" and rate.value == pytest.approx(p, rel=0.03)
        assert rate.low - 0.02 * p <= p <= rate.high + 0.02 * p and rate.confidence > 0.99
    assert rate.steps_for(10) == pytest.approx(10 ** (1 / p), rel=0.1)
    words = gc.diagnose(losses, batch="batch").against
    assert {0.5: "slower than 1/k", 1.0: "convex, not strongly", 2.0: "faster than 1/k"}[p] in words


@pytest.mark.parametrize("q", [0.3, 0.9, 0.999])
def test_linear_factors_are_found(q):
    rate = gc.diagnose(1 + q**K).rate
    assert rate.kind == "linear" and rate.value == pytest.approx(q, rel=3e-3) and rate.confidence > 0.9
    single = gc.diagnose(np.float32(1) + np.float32(5) * np.float32(q) ** K.astype("f4")).rate
    assert single.kind == "linear" and single.low <= q <= single.high and single.high - single.low < 0.1 * q
    assert rate.steps_for(10) == pytest.approx(math.log(10) / -math.log(q), rel=0.25)


def test_momentum_oscillates_and_its_envelope_has_the_rate():
    w, v, losses = np.array([1.0]), np.zeros(1), []
    for _ in range(150):
        losses.append(0.5 * float(w @ w))
        v = 0.9 * v - 0.5 * w
        w = w + v
    found = gc.diagnose(losses)
    assert found.behaviour == "oscillating" and not found.noisy and "momentum too large" in str(found)
    assert found.rate.kind == "linear" and found.rate.value == pytest.approx(0.9, abs=0.01)  # |root|² = β


def test_what_does_not_move_is_stalled():
    assert gc.diagnose(np.ones(30)).behaviour == "stalled"
    slow = gc.diagnose(5 - 1e-6 * K)
    assert slow.behaviour == "stalled" and "learning rate too small" in str(slow)
    norms = np.full(200, 2.0)
    plateau = gc.diagnose(np.r_[np.linspace(3, 2, 20), np.full(180, 2.0) - 1e-7 * np.arange(180)], gradient_norms=norms)
    assert plateau.behaviour == "stalled" and "gradient is as large" in plateau.why
    ended = gc.diagnose(1 + 0.5**K, gradient_norms=0.5 ** (K / 2))
    assert ended.behaviour == "monotone" and ended.converged and not ended.remedies


def test_what_is_not_finite_diverges():
    history = gc.History()
    for k in range(12):
        history.add(10 * k, loss=2.0 if k < 9 else math.nan, gradient_norm=float(k), learning_rate=0.5)
    found = gc.diagnose(history)
    assert found.behaviour == "diverging" and "not a number at step 90" in found.why
    assert gc.diagnose([1.0, 5.0, math.inf]).behaviour == "diverging"
    assert gc.diagnose(1.05**K).behaviour == "diverging"
    late = gc.diagnose(np.r_[0.9 ** np.arange(50), 0.9**50 * 1.2 ** np.arange(40)])
    assert late.behaviour == "diverging" and "has risen" in late.why


def sampled(steps, schedule, batch, seed=0, condition=1.0):
    """SGD on mean ½λᵢ(w − xᵢ)² with samples xᵢ; the exact loss above its minimum, which is 0, and a noisy one."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1 / condition, 1, 4)
    w, losses = np.full(4, 3.0), []
    for k in range(steps):
        losses.append(0.5 * float(scales @ (w * w)))
        w = w - schedule(k) * scales * (w - rng.normal(size=(batch, 4)).mean(0))
    exact = np.array(losses)
    return exact, exact + 0.02 * rng.normal(size=steps)


def test_sgd_with_a_rate_like_1_over_k_has_the_rate_of_strong_convexity():
    """Means of 30 runs, as bounds on SGD are of expectations: p = 1."""
    runs = np.mean([sampled(3000, lambda k: 1 / (k + 2), 1, seed)[1] for seed in range(30)], axis=0)
    found = gc.diagnose(runs, batch="sgd", minimum=0.0)
    assert found.noisy and found.behaviour == "oscillating" and found.rate.kind == "sublinear"
    assert found.rate.low <= 1 <= found.rate.high and abs(found.rate.value - 1) < 0.25
    assert "strongly convex function: O(1/ε)" in found.against


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_exponents_are_found_in_noise(p):
    """C/kᵖ with noise: the interval of 95 % holds p in nearly all of twenty runs, with the minimum and without."""
    k, held = np.arange(1, 4001), 0
    for seed in range(20):
        losses = 1 + 2 * k**-p + 0.05 * np.random.default_rng(seed).normal(size=k.size)
        rate = gc.diagnose(losses, batch=8, minimum=1.0).rate
        held += rate.kind == "sublinear" and rate.low <= p <= rate.high
        assert rate.low > 0.5 if p == 1.0 else rate.high < 1.0  # one of the two rates alone
    assert held >= 17
    free = gc.diagnose(losses, batch=8)
    assert free.rate.kind == "sublinear" and free.rate.low <= p <= free.rate.high and free.size == 8
    assert ("noise of mini-batches, 1/√(8k)" if p == 0.5 else "1/k") in free.against


def test_a_constant_rate_ends_in_the_noise_of_samples_and_a_smaller_one_lower():
    """The floor of mini-batches is a part of that of single samples; the remedy is a rate that decays."""
    floors = []
    for batch in (1, 16):
        losses = sampled(3000, lambda k: 0.3, batch)[0]
        found = gc.diagnose(losses, batch=batch)
        assert found.behaviour == "stalled" and found.noisy and "Ση = ∞ and Ση² < ∞" in str(found)
        floors.append(losses[1500:].mean())
    assert floors[1] < floors[0] / 8


def test_scatter_is_told_from_oscillation():
    rng = np.random.default_rng(2)
    noisy = gc.diagnose(np.exp(-K / 40) + 0.05 * rng.normal(size=200))
    assert noisy.noisy and noisy.batch == "mini-batch"
    for wave in (np.cos(K), (-1) ** K, np.cos(0.3 * K)):
        found = gc.diagnose(1 + 0.98**K * (1.5 + wave))
        assert found.behaviour == "oscillating" and not found.noisy and found.batch == "batch"
        assert found.rate.kind == "linear" and found.rate.value == pytest.approx(0.98, abs=2e-3)


@pytest.fixture(scope="module")
def tumours():
    given = gc.data.breast_cancer()
    return (given.features - given.features.mean(0)) / given.features.std(0), given.labels.astype(float)


def test_logistic_regression_converges_as_its_landscape_says(tumours):
    """With a penalty it is strongly convex: linear, by the curvature at the minimum; without, sublinear."""
    x, y = tumours

    def loss(w, penalty):
        z = x @ w
        return np.mean(np.logaddexp(0.0, z) - y * z) + 0.5 * penalty * (w @ w)

    @gc.jit
    def run(w, eta, penalty):
        def step(w, _):
            value, slope = gc.value_and_grad(loss)(w, penalty)
            return w - eta * slope, (value, np.sqrt(slope @ slope))

        return gc.scan(step, w, None, length=3000)

    w, (losses, norms) = run(np.zeros(30), 0.5, 0.05)
    place = gc.landscape(loss, w, 0.05, segments=1, probes=1)
    found = gc.diagnose(losses, gradient_norms=norms, learning_rate=0.5, landscape=place)
    assert place.kind == "minimum" and found.behaviour == "monotone" and found.converged
    assert found.rate.kind == "linear" and found.rate.value == pytest.approx(place.contraction(0.5) ** 2, rel=0.01)
    _, (losses, norms) = run(np.zeros(30), 0.5, 0.0)
    flat = gc.diagnose(losses, gradient_norms=norms)
    assert flat.behaviour == "monotone" and flat.rate.kind == "sublinear" and "λ‖w‖²" in str(flat)
    _, (losses, _) = run(np.zeros(30), 2.2 * place.edge, 0.5)
    assert gc.diagnose(losses).behaviour in ("diverging", "oscillating")


def test_a_loss_without_a_limit_has_no_rate():
    """−log k falls by 1/k: no exponent above 0 is that of an error, and nothing printed is nan."""
    said = gc.diagnose(5 - 0.3 * np.log(np.arange(1, 301.0)))
    assert said.rate.kind == "none" and "nan" not in str(said)
    tiny = gc.convergence.rates.Rate("sublinear", 1e-3)
    assert math.isinf(tiny.steps_for(10)) and tiny.steps_for(1) == 1
    with pytest.raises(TypeError, match="takes a run, its History or losses of shape"):
        gc.diagnose(object())


def test_a_run_is_read_by_its_history():
    x = np.linspace(-1, 1, 16)
    run = gc.fit(lambda p, x: ((p - x) ** 2).mean(), 2.0, x, optimizer=gc.optim.sgd(0.1), epochs=40, log=False)
    assert str(gc.diagnose(run)) == str(gc.diagnose(run.history)) and gc.diagnose(run).rate.kind == "linear"


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="needs three losses"):
        gc.diagnose([1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        gc.diagnose(np.ones((2, 2)))
    with pytest.raises(ValueError, match="gradient_norms has shape"):
        gc.diagnose(np.ones(5), gradient_norms=np.ones(4))
    with pytest.raises(ValueError, match="iterates has shape"):
        gc.diagnose(np.ones(5), iterates=np.ones((4, 2)))
    with pytest.raises(ValueError, match="batch='all'"):
        gc.diagnose(np.ones(5), batch="all")
    with pytest.raises(KeyError, match="no column 'cost'"):
        gc.diagnose(gc.History(), column="cost")


@pytest.mark.parametrize("losses", ["abc", ["a"] * 9, [None] * 9, np.ones(9) * 1j])
def test_what_is_no_real_number_is_refused(losses):
    with pytest.raises(TypeError, match="which are real numbers, got"):
        gc.diagnose(losses)
