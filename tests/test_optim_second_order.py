"""Newton, Gauss–Newton, Levenberg–Marquardt, BFGS and L-BFGS with a line search inside, held against their formulas.

Formulas are written here in plain NumPy on derivatives that are written out by hand.  Line searches are held against
what they promise, the strong conditions of Wolfe at each step, and directions against what the way walked so far says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import optim
from gradc.solve import trust
from tests.peers import searches

STEPS = 50
TIMES = np.linspace(0.0, 2.0, 12)
SEEN = 1.5 * np.exp(-0.8 * TIMES) + 0.05 * np.cos(9 * TIMES)
START = {"a": np.array([1.3, -0.6]), "b": np.array(0.1)}


def vector(p: Any) -> Any:
    return np.concatenate([p["a"], [p["b"]]])


def residuals(p: Any) -> Any:
    times, seen = TIMES.astype(p["b"].dtype), SEEN.astype(p["b"].dtype)
    return p["a"][0] * np.exp(p["a"][1] * times) + p["b"] - seen


def by_hand(x: Any) -> tuple[Any, Any, Any]:
    """Residuals, their Jacobian, and the Hessian of half the sum of their squares."""
    e = np.exp(x[1] * TIMES)
    r = x[0] * e + x[2] - SEEN
    J = np.stack([e, x[0] * TIMES * e, np.ones_like(e)], axis=1)
    H = J.T @ J
    H[0, 1] += r @ (TIMES * e)
    H[1, 0] += r @ (TIMES * e)
    H[1, 1] += r @ (x[0] * TIMES**2 * e)
    return r, J, H


loss = optim.sum_of_squares(residuals)


def walk(optimizer: Any, steps: int, f: Callable[..., Any] = loss, start: Any = START) -> tuple[list[Any], Any]:
    """The points of a walk, and the last state."""
    step = gc.train_step(f, optimizer)
    p, state, points = start, optimizer.init(start), [start]
    for _ in range(steps):
        p, state, _ = step(p, state)
        points.append(gc.tree.map(np.copy, p))
    return points, state


def stepped(direction: Callable[[Any], Any], steps: int) -> list[Any]:
    x = [vector(START)]
    for _ in range(steps):
        x.append(x[-1] + direction(x[-1]))
    return x


def newton(x: Any, damping: float) -> Any:
    r, J, H = by_hand(x)
    sizes, v = np.linalg.eigh(H)
    return -v @ ((v.T @ (J.T @ r)) / (np.abs(sizes) + damping))


def gauss_newton(x: Any, damping: float) -> Any:
    r, J, _ = by_hand(x)
    return -np.linalg.solve(J.T @ J + damping * np.eye(3), J.T @ r)


@pytest.mark.parametrize(
    ("optimizer", "direction"),
    [
        (optim.newton(linesearch=False), lambda x: newton(x, 0.0)),
        (optim.newton(0.5, damping=0.3, linesearch=False), lambda x: 0.5 * newton(x, 0.3)),
        (optim.gauss_newton(linesearch=False), lambda x: gauss_newton(x, 0.0)),
        (optim.gauss_newton(0.25, damping=0.1, linesearch=False), lambda x: 0.25 * gauss_newton(x, 0.1)),
    ],
    ids=["newton", "damped newton", "gauss newton", "damped gauss newton"],
)
def test_steps_are_those_of_the_formula(optimizer: Any, direction: Any) -> None:
    points, _ = walk(optimizer, STEPS)
    np.testing.assert_allclose([vector(p) for p in points], stepped(direction, STEPS), rtol=1e-9)


def test_marquardt_walks_as_nielsen_says() -> None:
    """Up to where losses differ by rounding alone, which then decides."""
    x, mu, nu, expected, known = vector(START), 0.0, 2.0, [], []
    for t in range(STEPS):
        r, J, _ = by_hand(x)
        A, b = J.T @ J, J.T @ r
        mu = 1e-3 * A.diagonal().max() if t == 0 else mu
        d = -np.linalg.solve(A + mu * np.eye(3), b)
        after = by_hand(x + d)[0]
        fell = 0.5 * r @ r - 0.5 * after @ after
        if abs(fell) < 1e-10 * (r @ r):
            break
        gain = fell / (0.5 * d @ (mu * d - b))
        x, mu, nu = (x + d, mu * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0) if gain > 0 else (x, mu * nu, 2 * nu)
        expected.append(x)
        known.append(mu)
    assert len(expected) >= 5
    points, _ = walk(optim.levenberg_marquardt(), STEPS)
    found = [vector(p) for p in points[1:]]
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-9)
    r, J, _ = by_hand(found[-1])
    assert np.abs(J.T @ r).max() < 1e-7


def valley(p: Any) -> Any:
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def valley_slope(x: Any) -> Any:
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


def wolfe(points: list[Any], first: int = 0) -> None:
    """Both strong conditions hold at each step, up to where values differ by rounding alone."""
    for x, after in zip(points[first:], points[first + 1 :], strict=False):
        s, fell = after - x, valley(x) - valley(after)
        slope, left = valley_slope(x) @ s, valley_slope(after) @ s
        if valley(x) < 1e-12:
            return
        assert fell >= -1e-4 * slope - 1e-14 * valley(x)
        assert abs(left) <= 0.9 * abs(slope) * (1 + 1e-9)


def same_way(step: Any, direction: Any) -> None:
    np.testing.assert_allclose(step / np.linalg.norm(step), direction / np.linalg.norm(direction), atol=1e-6)


def test_bfgs_goes_along_what_it_knows_and_keeps_the_conditions_of_wolfe() -> None:
    points, _ = walk(optim.bfgs(), STEPS, valley, np.array([-1.2, 1.0]))
    wolfe(points)
    B = np.eye(2)
    for k in range(20):
        g = valley_slope(points[k])
        if k:
            s, y = points[k] - points[k - 1], g - valley_slope(points[k - 1])
            assert s @ y > 0
            B = B * (s @ y / (y @ y)) if k == 1 else B
            left = np.eye(2) - np.outer(s, y) / (s @ y)
            B = left @ B @ left.T + np.outer(s, s) / (s @ y)
        same_way(points[k + 1] - points[k], -B @ g)
    np.testing.assert_allclose(points[-1], 1.0, rtol=1e-8)


def test_lbfgs_zooms_in_each_step() -> None:
    m = 3
    points, _ = walk(optim.lbfgs(memory_size=m, linesearch="zoom"), STEPS, valley, np.array([-1.2, 1.0]))
    wolfe(points)
    for k in range(20):
        q = g = valley_slope(points[k])
        pairs = [(points[i + 1] - points[i], valley_slope(points[i + 1]) - valley_slope(points[i]))
                 for i in range(max(0, k - m), k)]  # fmt: skip
        parts = []
        for s, y in reversed(pairs):
            parts.append(s @ q / (s @ y))
            q = q - parts[-1] * y
        if pairs:
            s, y = pairs[-1]
            q = q * (s @ y) / (y @ y)
        for (s, y), part in zip(pairs, reversed(parts), strict=True):
            q = q + (part - y @ q / (s @ y)) * s
        same_way(points[k + 1] - points[k], -q)
        assert g @ q > 0
    np.testing.assert_allclose(points[-1], 1.0, rtol=1e-6)


def test_newton_with_a_line_search_leaves_a_saddle_and_reaches_the_minimum() -> None:
    points, _ = walk(optim.newton(), STEPS, valley, np.array([-1.2, 1.0]))
    wolfe(points)
    np.testing.assert_allclose(points[-1], 1.0, rtol=1e-12)

    def saddle(p: Any) -> Any:
        return np.sum(p["x"] ** 2) + 0.25 * p["y"] ** 4 - 0.5 * p["y"] ** 2

    start = {"x": np.ones((2, 2)), "y": np.array(0.01)}
    points, _ = walk(optim.newton(), 20, saddle, start)
    np.testing.assert_allclose(points[-1]["y"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(points[-1]["x"], 0.0, atol=1e-12)


def ball(H: Any, g: Any, radius: float) -> Any:
    """The least of gᵀd + ½dᵀHd in a ball by bisection of what is added to H."""
    least = np.linalg.eigvalsh(H)[0]
    d = lambda shift: -np.linalg.solve(H + shift * np.eye(len(g)), g)
    if least > 0 and np.linalg.norm(d(0)) <= radius:
        return d(0)
    low, high = max(0, -least), max(0, -least) + np.linalg.norm(g) / radius
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(d(middle)) > radius else (low, middle)
    return d(high)


def valley_bends(x: Any) -> Any:
    return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200]])


def trusted(start: Any, radius: float) -> list[Any]:
    """The walk of algorithm 4.1 down the valley, and whether each radius was that of the border."""
    x, points = start, [start]
    while valley(x) > 1e-12:
        g, H = valley_slope(x), valley_bends(x)
        d = ball(H, g, radius)
        gain = (valley(x) - valley(x + d)) / -(g @ d + d @ H @ d / 2)
        size = np.linalg.norm(d)
        x = x + d if gain > 0.15 else x
        at_border = size > radius * (1 - 1e-9)
        radius = size / 4 if gain < 0.25 else 2 * radius if gain > 0.75 and at_border else radius
        points.append(x)
    return points


def test_newton_in_a_trust_region_walks_as_the_book_says() -> None:
    start = np.array([-1.2, 1.0])
    expected = trusted(start, 0.3)
    points, _ = walk(optim.newton(trust_region="exact", radius=0.3), STEPS, valley, start)
    assert 10 < len(expected) < STEPS
    np.testing.assert_allclose(points[: len(expected)], expected, rtol=1e-7)
    np.testing.assert_allclose(points[-1], 1.0, rtol=1e-12)
    points, _ = walk(optim.newton(trust_region="steihaug"), STEPS, valley, start)
    np.testing.assert_allclose(points[-1], 1.0, rtol=1e-12)


def test_the_model_is_least_in_its_ball() -> None:
    """By what characterises it: (H + λI)d = −g, with H + λI nowhere bent downwards, and λ > 0 at the border alone."""
    rng = np.random.default_rng(1)
    least = gc.jit(lambda H, g, radius: trust.exact(H, g, radius))
    n = 5
    for case in range(24):
        A = rng.standard_normal((n, n))
        H = A + A.T if case % 2 else A @ A.T
        sizes, v = np.linalg.eigh(H)
        g = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4)
        if case % 3 == 0:
            g -= v[:, 0] * (v[:, 0] @ g) * (1 - 1e-9 * (case % 4 == 0))  # the hard case, or nearly
        radius = 10.0 ** rng.integers(-3, 3)
        d, promised, at_border = least(H, g, radius)
        scale, size = np.abs(H).max(), np.linalg.norm(d)
        shift = -(g + H @ d) @ d / (d @ d)
        eps = 100 * n * np.finfo(float).eps * (scale + abs(shift))
        assert size <= radius * (1 + 1e-13) and shift >= -eps and sizes[0] + shift >= -eps
        assert at_border == (shift > eps) and (not at_border or size >= radius * (1 - 1e-11))
        np.testing.assert_allclose(H @ d + shift * d, -g, atol=10 * eps * size + 1e-14 * np.abs(g).max())
        np.testing.assert_allclose(promised, -(g @ d + d @ H @ d / 2), rtol=1e-9)
    for g in (np.zeros(n), np.full(n, np.nan)):
        d, promised, at_border = least(np.eye(n), g, 1.0)
        assert not d.any() and promised == 0 and not at_border


def test_a_trust_region_leaves_a_saddle_where_no_slope_tells_the_way() -> None:
    points, _ = walk(optim.newton(trust_region="exact"), 20, lambda p: p[0] ** 2 + p[1] ** 4 / 4 - p[1] ** 2 / 2,
                     np.array([1.0, 0.0]))  # fmt: skip
    np.testing.assert_allclose(np.abs(points[-1]), [0.0, 1.0], atol=1e-12)


MADE = {
    "trust region": optim.newton(trust_region="exact"), "steihaug": optim.newton(trust_region="steihaug", radius=0.1),
    "newton": optim.newton(), "newton without search": optim.newton(0.5, 0.1, linesearch=False), "bfgs": optim.bfgs(),
    "lbfgs": optim.lbfgs(memory_size=2, linesearch="zoom"), "gauss newton": optim.gauss_newton(damping=0.01),
    "levenberg marquardt": optim.levenberg_marquardt(),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_compiled_steps_are_those_of_the_interpreter_and_keep_dtypes(name: str) -> None:
    optimizer = MADE[name]
    step = gc.train_step(loss, optimizer, donate=False)
    p, state = START, optimizer.init(START)
    for _ in range(3):
        here = gc.trace(step.function, p, state).evaluate(*gc.tree.leaves((p, state)))
        p, state, value = step(p, state)
        for a, b in zip(gc.tree.leaves((p, state, value)), here, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    narrow = gc.tree.map(np.float32, START)
    before = optimizer.init(narrow)
    after, then, _ = step(narrow, before)
    kinds = [x.dtype for x in gc.tree.leaves((after, then))]
    assert kinds == [np.asarray(x).dtype for x in gc.tree.leaves((narrow, before))]
    assert all(np.isfinite(x).all() for x in gc.tree.leaves(after))


SEARCHED = {
    "trust region": optim.newton(trust_region="exact"), "steihaug": optim.newton(trust_region="steihaug"),
    "newton": optim.newton(), "bfgs": optim.bfgs(), "lbfgs": optim.lbfgs(linesearch="zoom"),
    "gauss newton": optim.gauss_newton(), "levenberg marquardt": optim.levenberg_marquardt(),
}  # fmt: skip


@pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs", "newton without search", "trust region", "steihaug"])
def test_where_there_is_no_step_none_is_taken(name: str) -> None:
    def odd(p: Any) -> Any:
        return np.sum(p["linear"]) + np.sum(p["flat"] ** 4) + np.sum(np.log(p["log"]))

    for start in (
        {"linear": np.ones(2), "flat": np.zeros(0), "log": np.zeros(0)},
        {"linear": np.zeros(0), "flat": np.zeros(2), "log": np.zeros(0)},
        {"linear": np.zeros(0), "flat": np.zeros(0), "log": np.array([-1.0, 2.0])},
    ):
        if start["linear"].size and name in ("trust region", "steihaug"):
            continue  # down to the border
        points, _ = walk({**SEARCHED, "newton without search": optim.newton(linesearch=False)}[name], 2, odd, start)
        still = start if "without" not in name or not start["log"].size else gc.tree.map(np.zeros_like, start)
        for a, b in zip(gc.tree.leaves(points[-1]), gc.tree.leaves(still), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_newton_does_not_drift_where_the_hessian_is_singular(dtype: str) -> None:
    """Probabilities do not change when all logits rise together, so the mean of the logits has no slope."""
    x = np.array([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8], [0.1, 0.4]], dtype)
    y = np.eye(3, dtype=dtype)[[0, 1, 2, 0]]

    def entropy(w: Any) -> Any:
        z = x @ w
        apart = w - np.mean(w, 1)[:, None]
        return np.mean(np.log(np.sum(np.exp(z), 1)) - np.sum(z * y, 1)) + 0.01 * np.sum(apart**2)

    start = np.array([[0.2, -0.1, 0.1], [0.0, 0.1, 0.05]], dtype)
    points, _ = walk(optim.newton(), 25, entropy, start)
    np.testing.assert_allclose(points[-1].mean(1), start.mean(1), atol=100 * np.finfo(dtype).eps)
    assert entropy(points[-1]) < entropy(start)


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("kinds", [("float32", "float64"), ("float64", "float32"), ("bfloat16", "bfloat16")])
def test_losses_do_not_rise_in_any_dtype(name: str, kinds: tuple[str, str]) -> None:
    of_params, of_batch = map(gc.numpy.dtype, kinds)
    step = gc.train_step(optim.sum_of_squares(lambda p, x: x * p - 1), SEARCHED[name])
    p, x = np.array([2.3, -0.7]).astype(of_params), np.array([0.3, 1.7]).astype(of_batch)
    state, losses = SEARCHED[name].init(p), []
    for _ in range(8):
        p, state, value = step(p, state, x)
        losses.append(float(value))
    assert p.dtype == of_params
    assert losses == sorted(losses, reverse=True) or max(np.diff(losses)) < 1e-6
    assert losses[-1] < 1e-2 * losses[0]


PARTLY = {
    "sam": optim.sam(optim.sgd(0.1), optim.chain(optim.normalize(), optim.sgd(0.05)), opaque_mode=True), **SEARCHED
}  # fmt: skip


@pytest.mark.parametrize("name", PARTLY)
def test_a_part_of_the_parameters_walks_as_it_does_alone(name: str) -> None:
    start = {"a": [np.array(0.3)], "n": np.array([1.0, 2.0]), "s": np.array([0.5, 3.0])}

    def rest(p: Any) -> Any:
        return p["n"] * p["s"] - 1 + p["a"][0] + 0.1 * p["n"] ** 2

    rule = PARTLY[name]
    labels = {"a": "held", "n": "moved", "s": "held"}
    parts = optim.partition({"moved": rule, "held": optim.set_to_zero()}, labels)
    both = optim.chain(optim.masked(rule, {"a": False, "n": True, "s": False}),
                       optim.freeze({"a": True, "n": False, "s": True}))  # fmt: skip
    alone = walk(rule, 3, optim.sum_of_squares(lambda n: rest({**start, "n": n})), start["n"])[0]
    for made in (parts, both):
        points = walk(made, 3, optim.sum_of_squares(rest), start)[0]
        np.testing.assert_allclose([p["n"] for p in points], alone, rtol=1e-12)
        np.testing.assert_array_equal(points[-1]["s"], start["s"])


def test_marquardt_rests_at_an_optimum_and_goes_on_from_there() -> None:
    optimizer = optim.levenberg_marquardt()
    step = gc.train_step(optim.sum_of_squares(lambda p, y: p**2 - y), optimizer)
    p, state = np.array([1.5, 0.5]), optimizer.init(np.ones(2))
    for seen, steps in ((np.array([4.0, 9.0]), 100), (np.array([1.0, 16.0]), 20)):
        for _ in range(steps):
            p, state, _ = step(p, state, seen)
        np.testing.assert_allclose(p, np.sqrt(seen), rtol=1e-12)


def test_residuals_without_slopes_move_nothing() -> None:
    for residuals in (lambda p: 0 * p + 1, lambda p: p[:0]):
        for optimizer in (optim.levenberg_marquardt(), optim.gauss_newton(), optim.gauss_newton(linesearch=False)):
            points, _ = walk(optimizer, 2, optim.sum_of_squares(residuals), np.ones(2))
            np.testing.assert_array_equal(points[-1], 1.0)
    both = optim.sum_of_squares(lambda p: np.stack([p[0] + p[1] - 3, 2 * (p[0] + p[1] - 3)]))
    points, _ = walk(optim.gauss_newton(linesearch=False), 1, both, np.zeros(2))
    np.testing.assert_allclose(points[-1], 1.5, rtol=1e-12)


def test_what_cannot_be_is_refused() -> None:
    p = np.ones(2)
    with pytest.raises(TypeError, match=r"the loss is gc\.optim\.sum_of_squares\(residuals\)"):
        gc.train_step(valley, optim.gauss_newton())(p, optim.EmptyState())
    with pytest.raises(ValueError, match="newton searched needs hessian_fn"):
        optim.newton().update(p, optim.EmptyState(), p)
    with pytest.raises(TypeError, match="sum_of_squares takes a function of the parameters, got 3"):
        optim.sum_of_squares(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linesearch is True, False or 'zoom', got 'backtracking'"):
        optim.lbfgs(linesearch="backtracking")
    with pytest.raises(ValueError, match="curv_rtol is a number between 0 and 1, got 1"):
        optim.lbfgs(linesearch="zoom", curv_rtol=1.5)
    with pytest.raises(ValueError, match="trust_region is 'exact' or 'steihaug', got True"):
        optim.newton(trust_region=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no learning_rate and no damping"):
        optim.newton(0.5, trust_region="exact")
    with pytest.raises(ValueError, match="radius is a number above 0, got 0"):
        optim.newton(trust_region="steihaug", radius=0)


@pytest.mark.parametrize("peer", ["optax", "torch"])
def test_lbfgs_takes_the_steps_of_its_peers(peer: str) -> None:
    """PyTorch's with strong_wolfe and optax's with zoom, as long as the first trial of each search holds."""
    with np.load(searches.FILE) as file:
        stored = file[peer]
    made = optim.lbfgs(memory_size=4, linesearch="zoom")
    points, _ = walk(made, len(stored), searches.loss, searches.start())
    np.testing.assert_allclose(points[1:], stored, rtol=1e-9)


@pytest.mark.parametrize("name", ["newton", "trust region", "steihaug", "bfgs", "lbfgs"])
def test_a_minimum_is_reached_within_three_hundred_steps(name: str) -> None:
    """Of a parabola with condition number 10⁴, and of a regression on the bundled breast cancer data."""
    bent = np.logspace(-4, 0, 20)
    points, _ = walk(SEARCHED[name], 300, lambda p: 0.5 * np.sum(bent * p**2), np.ones(20))
    assert 0.5 * np.sum(bent * points[-1] ** 2) < 1e-10
    x, y = gc.data.breast_cancer()[:2]
    x = (x - x.mean(0)) / x.std(0)

    def regression(w: Any) -> Any:
        return np.mean(np.logaddexp(0, (1 - 2 * y) * (x @ w))) + 0.005 * np.sum(w**2)

    points, _ = walk(SEARCHED[name], 300, regression, np.zeros(30))
    w = points[-1]
    slope = x.T @ ((1 / (1 + np.exp(-x @ w))) - y) / len(y) + 0.01 * w
    assert np.abs(slope).max() < 1e-7
