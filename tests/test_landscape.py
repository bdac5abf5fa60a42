"""`gc.landscape` beside what is known: quadratics with given spectra, and dense eigenvalues of small models."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import gradc as gc
from gradc.convergence.landscapes import Landscape

EPS = np.finfo(np.float64).eps


def turned(eigenvalues, seed=0):
    """A symmetric matrix with these eigenvalues."""
    values = np.asarray(eigenvalues, float)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(values.size, values.size)))[0]
    a = (q * values) @ q.T
    return (a + a.T) / 2


def quadratic(w, a, b):
    return 0.5 * w @ a @ w + b @ w + 1.0


def descended(a, b, w, eta, steps):
    """Iterates of gradient descent on the quadratic, and its minimum."""
    path = [w]
    for _ in range(steps):
        path.append(path[-1] - eta * (a @ path[-1] + b))
    return np.array(path), -np.linalg.solve(a, b)


def test_of_one_variable_the_rates_are_those_of_the_second_derivative():
    a, b = 4.0, -3.0
    found = gc.landscape(lambda w: 0.5 * a * w**2 + b * w + 2.0, 5.0)
    assert found.largest == found.smallest == a and found.exact and found.products == 1
    assert found.optimal == 1 / a and found.edge == 2 / a and found.safe == 1 / a and found.condition_number == 1
    assert found.behaviour(0.9 / a) == "monotone" and found.behaviour(1.5 / a) == "oscillating"
    assert found.behaviour(2.1 / a) == "diverging" and found.kind == "slope"
    for eta, signs, end in ((0.5 / a, 1, True), (1.5 / a, -1, True), (2.5 / a, -1, False)):
        path, least = descended(np.array([[a]]), np.array([b]), np.array([5.0]), eta, 12)
        off = (path - least)[:, 0]
        assert np.all(np.sign(off[1:] * off[:-1]) == signs) and (abs(off[-1]) < abs(off[0])) == end
        assert np.allclose(np.abs(off[1:] / off[:-1]), found.contraction(eta), rtol=1e-12)
    text = str(found)
    assert "η_opt = 1/f″ = 0.25: monotone" in text and "up to 0.5: oscillating" in text and "divergence" in text


def test_of_a_function_that_is_no_quadratic_the_rate_is_local():
    """E″ = 12w² + 2 of w⁴ + w²: 1/E″ where the point stands; and the point itself is what its derivatives say."""
    quartic = lambda w: w**4 + w**2
    assert gc.landscape(quartic, 2.0).optimal == pytest.approx(1 / 50, rel=1e-12)
    assert gc.landscape(quartic, 0.0).kind == "minimum"
    flat = gc.landscape(lambda w: w**4, 0.0)
    assert flat.kind == "flat" and flat.curvature == "zero" and flat.edge == math.inf
    top = gc.landscape(lambda w: np.cos(w), 0.0)
    assert top.kind == "maximum" and math.isnan(top.optimal) and not top.convexity


SPECTRA = {
    "well": np.linspace(1, 3, 12),
    "ill": np.geomspace(1e-3, 1e3, 40),
    "equal": np.full(9, 2.5),
    "clustered": np.r_[np.full(20, 1.0), np.full(5, 7.0)],
    "semidefinite": np.r_[np.zeros(4), np.linspace(1, 2, 6)],
    "indefinite": np.linspace(-2, 5, 15),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_quadratics_with_known_spectra(name):
    given = SPECTRA[name]
    a = turned(given)
    b = np.zeros(given.size)
    found = gc.landscape(quadratic, np.zeros(given.size), a, b, probes=given.size)
    dense = np.linalg.eigvalsh(a)
    off = 8 * EPS * given.size * np.abs(dense).max()
    assert abs(found.largest - dense[-1]) <= off and abs(found.smallest - dense[0]) <= off and found.exact
    kinds = {"semidefinite": "flat", "indefinite": "saddle"}
    assert found.stationary and found.kind == kinds.get(name, "minimum")
    assert found.safe == pytest.approx(1 / np.abs(given).max()) and found.edge == pytest.approx(2 / given.max())
    if name not in kinds:
        assert found.optimal == pytest.approx(2 / (given.max() + given.min()), rel=1e-9)
        assert found.condition_number == pytest.approx(given.max() / given.min(), rel=1e-8)
        kappa = given.max() / given.min()
        assert found.contraction(found.optimal) == pytest.approx((kappa - 1) / (kappa + 1), abs=1e-9)
    assert bool(found.convexity) == (name != "indefinite")
    # as many orthonormal vectors as parameters: the density is the spectrum itself
    for power in (1, 2, 3):
        moment = float(found.weights @ found.nodes**power)
        assert moment == pytest.approx(np.mean(given**power), rel=1e-9)
    assert found.negative == pytest.approx(np.mean(given < 0), abs=1e-9)
    assert found.flat == pytest.approx(np.mean(given == 0), abs=1e-9)
    at = np.linspace(given.min() - 3, given.max() + 3, 20001)
    assert np.trapezoid(found.density(at, 0.5), at) == pytest.approx(1, abs=1e-6)
    v = np.asarray(found.steepest)
    assert np.linalg.norm(a @ v - found.largest * v) <= 1e3 * off


def test_of_a_diagonal_matrix_each_variable_has_a_rate_of_its_own():
    a = np.array([1.0, 4.0, 20.0])
    found = gc.landscape(lambda p: 0.5 * (a * p["w"] ** 2).sum() - p["w"].sum(), {"w": np.ones(3)})
    assert found.variables.independent and np.allclose(found.variables.optimal, 1 / a, rtol=1e-14)
    assert found.edge == pytest.approx(2 * min(1 / a)) and found.variables.names == ("w[0]", "w[1]", "w[2]")
    assert 1 / found.condition_number == pytest.approx(min(1 / a) / max(1 / a))
    assert "independent" in str(found) and "κ = λmin/λmax: 0.05" in str(found)
    full = gc.landscape(quadratic, np.ones(3), turned(a), np.zeros(3))
    assert not full.variables.independent and "not independent" in str(full)


def test_newton_changes_coordinates_so_that_all_eigenvalues_are_1():
    """ŵ = Sw with S = A^½: κ = 1, η = 1 ends in one step, η < 2 converges, and the step is that by A⁻¹."""
    rng = np.random.default_rng(1)
    a, b = turned(np.geomspace(0.01, 100, 8)), rng.normal(size=8)
    values, u = np.linalg.eigh(a)
    root, inverse = (u * values**0.5) @ u.T, (u * values**-0.5) @ u.T
    plain = gc.landscape(quadratic, np.ones(8), a, b)
    changed = gc.landscape(lambda v: quadratic(inverse @ v, a, b), root @ np.ones(8))
    assert plain.condition_number == pytest.approx(1e4, rel=1e-8)
    assert changed.condition_number == pytest.approx(1, abs=1e-8)
    assert changed.optimal == pytest.approx(1, abs=1e-8) and changed.edge == pytest.approx(2, abs=1e-8)
    w = np.ones(8)
    for eta, end in ((1.0, 1e-9), (1.9, None), (2.1, math.inf)):
        step = w - eta * np.linalg.solve(a, a @ w + b)
        least = -np.linalg.solve(a, b)
        ratio = np.linalg.norm(root @ (step - least)) / np.linalg.norm(root @ (w - least))
        assert ratio == pytest.approx(abs(1 - eta), abs=1e-9) and (end != 1e-9 or ratio < end)
        in_new = root @ w - eta * (inverse @ (a @ w + b))  # the gradient there is A^(−½)∇E
        assert np.allclose(inverse @ in_new, step, atol=1e-9)
        assert changed.behaviour(eta * 0.999) == {1.0: "monotone", 1.9: "oscillating", 2.1: "diverging"}[eta]


def test_an_optimum_is_faster_than_its_neighbours_and_the_edge_is_one():
    a, b = turned([1.0, 3.0, 10.0]), np.zeros(3)
    found = gc.landscape(quadratic, np.ones(3), a, b)
    start = np.array([1.0, -2.0, 0.5])

    def end(eta):
        return np.linalg.norm(descended(a, b, start, eta, 200)[0][-1])

    assert end(found.optimal) < end(0.93 * found.optimal) and end(found.optimal) < end(1.07 * found.optimal)
    assert end(0.99 * found.edge) < 1 < end(1.01 * found.edge)


@pytest.fixture(scope="module")
def tumours():
    given = gc.data.breast_cancer()
    x = (given.features - given.features.mean(0)) / given.features.std(0)
    return x, given.labels.astype(float)


def logistic(p, x, y):
    z = x @ p["w"] + p["b"]
    return np.mean(np.logaddexp(0.0, z) - y * z) + 0.005 * (p["w"] ** 2).sum()


def test_logistic_regression_on_real_data(tumours):
    start = {"b": 0.0, "w": np.zeros(30)}
    found = gc.landscape(logistic, start, *tumours)
    vector, back = gc.tree.ravel(start)
    dense = np.linalg.eigvalsh(gc.hessian(lambda v: logistic(back(v), *tumours))(vector))
    assert found.largest == pytest.approx(dense[-1], rel=1e-12) and found.smallest == pytest.approx(dense[0], rel=1e-9)
    assert found.kind == "slope" and found.curvature == "positive definite" and found.convexity
    assert "strongly convex here" in str(found)
    least = gc.minimize(logistic, start, tumours, tol=1e-10).x
    ended = gc.landscape(logistic, least, *tumours)
    assert ended.kind == "minimum" and ended.safe > found.safe  # the loss is flatter there
    assert "a minimum" in str(ended)
    single = gc.landscape(
        logistic, {"b": np.float32(0), "w": np.zeros(30, np.float32)}, *[a.astype("f4") for a in tumours]
    )
    assert single.largest == pytest.approx(dense[-1], rel=1e-5) and abs(single.smallest - dense[0]) <= single.floor


def network(p, x, y):
    z = np.tanh(x @ p["a"]) @ p["c"]
    return np.mean(np.logaddexp(0.0, z) - y * z)


def test_a_network_is_not_convex_and_the_counter_example_shows_it(tumours):
    x, y = tumours[0][:, :6], tumours[1]
    rng = np.random.default_rng(3)
    p = {"a": rng.normal(size=(6, 7)), "c": rng.normal(size=7)}
    found = gc.landscape(network, p, x, y)
    vector, back = gc.tree.ravel(p)
    dense = np.linalg.eigvalsh(gc.hessian(lambda v: network(back(v), x, y))(vector))
    assert found.largest == pytest.approx(dense[-1], rel=1e-10) and found.smallest == pytest.approx(dense[0], rel=1e-8)
    assert found.curvature == "indefinite"
    shown = found.convexity.counter_example
    first, second = (gc.tree.ravel(t)[0] for t in (shown.first, shown.second))
    middle = network(back(shown.part * first + (1 - shown.part) * second), x, y)
    ends = network(shown.first, x, y), network(shown.second, x, y)
    assert middle > shown.part * ends[0] + (1 - shown.part) * ends[1]
    assert middle == pytest.approx(shown.between, rel=1e-12) and "not convex: f(λθ₁" in str(found)
    bent = gc.tree.ravel(found.lowest)[0]
    assert bent @ gc.hessian(lambda v: network(back(v), x, y))(vector) @ bent == pytest.approx(dense[0], rel=1e-8)


def test_where_products_do_not_suffice_it_says_so_and_residuals_bound():
    given = np.geomspace(1e-4, 1, 200)
    a = turned(given)
    found = gc.landscape(quadratic, np.zeros(200), a, np.zeros(200), steps=30)
    assert not found.exact and found.products == 30 and "as far as these products see" in str(found)
    for value, error in zip((found.smallest, found.largest), found.errors, strict=True):
        assert np.min(np.abs(given - value)) <= error + 1e-12
    assert found.smallest >= given[0] - 1e-12 and found.largest <= given[-1] + 1e-12
    mean = float(found.weights @ found.nodes)
    assert mean == pytest.approx(given.mean(), abs=6 * given.std() * math.sqrt(2 / (8 * 200)))


def test_rounding_is_no_counter_example():
    """Of a convex function that is nearly linear, values of which are full of rounding, nothing is claimed."""
    big = gc.landscape(lambda w: 1e8 + w.sum() + 1e-9 * (w**2).sum(), np.ones(3))
    assert big.convexity and big.convexity.segments == 16


def test_the_picture_and_what_is_refused(tmp_path):
    found = gc.landscape(quadratic, np.zeros(4), turned([-1.0, 1, 2, 3]), np.zeros(4), segments=2)
    picture = found.plot(tmp_path / "spectrum.svg")
    assert (tmp_path / "spectrum.svg").read_text().startswith("<svg") and "λmax" in picture.svg
    assert re.search(r"Spectrum of the Hessian of quadratic", picture.svg) and isinstance(found, Landscape)
    with pytest.raises(gc.ShapeError, match="one float scalar"):
        gc.landscape(lambda w: w, np.ones(3))
    with pytest.raises(gc.DTypeError, match=r"params\.k"):
        gc.landscape(lambda p: 1.0 * p["k"], {"k": 3})
    with pytest.raises(ValueError, match="steps=0: expected a positive whole number"):
        gc.landscape(lambda w: w @ w, np.ones(3), steps=0)
    with pytest.raises(gc.DTypeError, match="no number"):
        gc.landscape(lambda p: 1.0, {})
    with pytest.raises(gc.DTypeError, match="outside of jit"):
        gc.jit(lambda w: gc.landscape(lambda v: v @ v, w).largest)(np.ones(3))
    nowhere = gc.landscape(lambda w: np.log(w).sum(), np.array([-1.0, 2.0]))
    assert "not finite" in str(nowhere) and math.isnan(nowhere.value)


def test_a_point_without_a_finite_loss_is_not_stationary_and_norms_do_not_overflow():
    with np.errstate(all="ignore"):
        for found in (
            gc.landscape(lambda p: np.exp(p).sum(), np.full(2, 1000.0)),
            gc.landscape(lambda p: (p**2).sum(), np.full(100, 30, "f2")),
        ):
            assert not found.stationary and found.kind == "slope" and "are not finite here" in str(found)
    for scale in (1e300, 1e-300):
        found = gc.landscape(lambda p, s=scale: s * (p**2).sum(), np.ones(3))
        assert abs(found.gradient_norm / (2 * scale * np.sqrt(3)) - 1) < 1e-12
