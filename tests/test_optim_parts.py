"""Schedules, projections, noise and the line search: each against its formula in plain NumPy, or what defines it."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import optim
from tests.peers.cases import gradient, start

# -- schedules that optax has not --------------------------------------------------------------------------------------


def _cosine_restarts(n: int, first: int, factor: int) -> float:
    """PyTorch's CosineAnnealingWarmRestarts, counting cycle by cycle."""
    length = first
    while n >= length:
        n, length = n - length, length * factor
    return 0.1 + 0.9 * (1 + np.cos(np.pi * n / length)) / 2


FORMULAS: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "step_decay": (optim.step_decay_schedule(0.5, 30, 0.2), lambda n: 0.5 * 0.2 ** (n // 30)),
    "1/k": (optim.inverse_time_decay(0.5), lambda n: 0.5 / (1 + n)),
    "1/k, slower": (optim.inverse_time_decay(0.5, 10, 3.0, 0.6), lambda n: 0.5 / (1 + 0.3 * n) ** 0.6),
    "inverse_sqrt": (
        optim.inverse_sqrt_schedule(0.5, 40), lambda n: 0.5 * (n / 40 if n < 40 else np.sqrt(40 / n)),
    ),
    "noam": (
        optim.noam_schedule(512, 40, 2.0), lambda n: 2 * 512**-0.5 * min((n + 1) ** -0.5, (n + 1) * 40**-1.5),
    ),
    "restarts": (optim.cosine_restarts_schedule(1.0, 10, 1, 0.1), lambda n: _cosine_restarts(n, 10, 1)),
    "longer restarts": (optim.cosine_restarts_schedule(1.0, 10, 2, 0.1), lambda n: _cosine_restarts(n, 10, 2)),
    "much longer restarts": (optim.cosine_restarts_schedule(1.0, 7, 3, 0.1), lambda n: _cosine_restarts(n, 7, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_schedules_have_the_values_of_their_formulas(name: str) -> None:
    schedule, formula = FORMULAS[name]
    counts = np.arange(300)
    wanted = [formula(int(n)) for n in counts]
    np.testing.assert_allclose(gc.jit(schedule)(counts), wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose([float(schedule(np.int64(n))) for n in (0, 7, 69, 70, 71, 299)],
                               [wanted[n] for n in (0, 7, 69, 70, 71, 299)], rtol=1e-9)  # fmt: skip
    assert pickle.loads(pickle.dumps(schedule))(np.int64(3)) == schedule(np.int64(3))


def test_rates_scale_with_batches() -> None:
    assert optim.linear_scaling(0.1, 1024, 256) == 0.4 and optim.sqrt_scaling(0.1, 1024, 256) == 0.2
    with pytest.raises(ValueError, match="base_batch_size must be positive"):
        optim.linear_scaling(0.1, 8, 0)


# -- projections -------------------------------------------------------------------------------------------------------

POINTS = np.random.default_rng(0).standard_normal((12, 4)) * 2
ALL = np.random.default_rng(1).standard_normal((4000, 4))
VECTOR = np.array([1.0, -2.0, 0.5, 0.0])
#: a projection, and points of its set
SETS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "non_negative": (optim.projection_non_negative, np.abs(ALL)),
    "box": (partial(optim.projection_box, lower=-0.5, upper=1.0), np.clip(ALL, -0.5, 1.0)),
    "hypercube": (partial(optim.projection_hypercube, scale=0.7), np.clip(np.abs(ALL), 0, 0.7)),
    "linf_ball": (partial(optim.projection_linf_ball, scale=0.7), np.clip(ALL, -0.7, 0.7)),
    "l2_ball": (partial(optim.projection_l2_ball, scale=1.5),
                ALL * 1.5 / np.maximum(1.5, np.linalg.norm(ALL, axis=1))[:, None]),
    "l2_sphere": (partial(optim.projection_l2_sphere, scale=1.5), ALL * 1.5 / np.linalg.norm(ALL, axis=1)[:, None]),
    "simplex": (partial(optim.projection_simplex, scale=2.0), 2 * np.abs(ALL) / np.abs(ALL).sum(1)[:, None]),
    "l1_ball": (partial(optim.projection_l1_ball, scale=2.0),
                2 * ALL / np.maximum(2, np.abs(ALL).sum(1))[:, None]),
    "l1_sphere": (partial(optim.projection_l1_sphere, scale=2.0), 2 * ALL / np.abs(ALL).sum(1)[:, None]),
    "vector": (partial(optim.projection_vector, a=VECTOR), ALL[:, :1] * VECTOR),
    "hyperplane": (partial(optim.projection_hyperplane, a=VECTOR, b=0.3),
                   ALL + ((0.3 - ALL @ VECTOR) / (VECTOR @ VECTOR))[:, None] * VECTOR),
    "halfspace": (partial(optim.projection_halfspace, a=VECTOR, b=0.3), ALL[ALL @ VECTOR <= 0.3]),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_projection_is_the_nearest_point_of_its_set(name: str) -> None:
    project, members = SETS[name]
    compiled = gc.jit(lambda points: [project(p) for p in points])
    for p, q, eager in zip(POINTS, compiled(list(POINTS)), [project(p) for p in POINTS], strict=True):
        np.testing.assert_allclose(q, eager, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(project(q), q, rtol=1e-12, atol=1e-12)  # it lies in the set
        nearest = np.linalg.norm(members - p, axis=1).min()
        assert np.linalg.norm(q - p) <= nearest + 1e-9


def test_projections_of_trees_run_over_all_leaves() -> None:
    tree = {"a": POINTS[0, :3].reshape(3, 1), "b": POINTS[0, 3], "name": "net"}
    for project, _ in (SETS[n] for n in ("simplex", "l1_ball", "l2_ball", "l2_sphere", "l1_sphere", "box")):
        whole, parts = project(POINTS[0]), project(tree)
        np.testing.assert_allclose(np.append(parts["a"].ravel(), parts["b"]), whole, rtol=1e-13)
        assert parts["a"].shape == (3, 1) and parts["name"] == "net"
    with pytest.raises(gc.ShapeError, match="at least one element"):
        optim.projection_simplex(np.zeros(0))


def test_projections_have_derivatives() -> None:
    for name in ("simplex", "l1_ball", "l2_ball"):
        weighted = lambda x, project=SETS[name][0]: np.sum(project(x) * np.arange(1.0, 5.0))
        assert gc.check_gradients(weighted, POINTS[2]).ok


def test_projected_gradient_finds_the_nearest_point() -> None:
    target = np.array([0.9, 0.8, -0.5])
    optimizer = optim.projected_gradient(optim.sgd(0.2), optim.projection_simplex)
    step = gc.train_step(lambda p: np.sum((p - target) ** 2), optimizer)
    p, state = np.full(3, 1 / 3), optimizer.init(np.zeros(3))
    for _ in range(60):
        p, state, _ = step(p, state)
    np.testing.assert_allclose(p, [0.55, 0.45, 0.0], atol=1e-12)
    boxed = optim.projected_gradient(optim.adam(0.3), partial(optim.projection_box, lower=0.0, upper=0.25))
    u, _ = boxed.update(-target, boxed.init(target), np.zeros(3))
    np.testing.assert_array_equal(u, [0.25, 0.25, 0.0])
    assert pickle.loads(pickle.dumps(boxed)).update(-target, boxed.init(target), np.zeros(3))[0].tolist() == u.tolist()


# -- noise -------------------------------------------------------------------------------------------------------------


def test_noise_comes_of_the_key_in_the_state_and_is_the_same_again() -> None:
    optimizer = optim.noisy_sgd(0.1, eta=0.5, key=gc.random.key(1))
    params = {"a": np.zeros((2, 3)), "b": np.zeros(4, np.float32)}
    state = optimizer.init(params)
    one, after = optimizer.update(params, state)
    same, _ = gc.jit(optimizer.update)(params, state)
    other, _ = optimizer.update(params, after)
    assert one["b"].dtype == np.float32
    for key in params:
        np.testing.assert_allclose(one[key], same[key], rtol=1e-6)
        assert not np.any(one[key] == other[key])
    with pytest.raises(TypeError, match="add_noise takes a key, such as "):
        optim.add_noise(0.1, 0.5)


def test_sgld_samples_the_density_whose_log_it_is_given() -> None:
    """Of −log p = ½(x − 1)²/0.25 the mean is 1 and the variance 0.25/(1 − η/(4·0.25)), Euler's bias included."""
    eta, n = 0.1, 4000
    optimizer = optim.sgld(eta, key=2)

    def walk(p: Any, state: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            p, state = carry
            u, state = optimizer.update((p - 1.0) / 0.25, state, p)
            return (p + u, state), None

        return gc.scan(body, (p, state), None, length=40)[0][0]

    p = gc.jit(walk)(np.zeros(n), optimizer.init(np.zeros(n)))
    assert abs(p.mean() - 1) < 4 * 0.55 / np.sqrt(n)
    assert abs(p.var() / (0.25 / (1 - eta / 4 / 0.25)) - 1) < 4 * np.sqrt(2 / n)


def test_private_gradients_are_clipped_one_by_one() -> None:
    x, y, w = POINTS[:6], np.arange(6.0), np.ones(4)
    loss = lambda w, x, y: (x @ w - y) ** 2
    single = gc.vmap(gc.grad(loss), (None, 0, 0))(w, x, y)
    optimizer = optim.dpsgd(0.1, 2.0, 0.0, seed=0)
    found, _ = gc.jit(optimizer.update)(single, optimizer.init(w))
    clipped = [g * min(1, 2 / np.linalg.norm(g)) for g in single]
    np.testing.assert_allclose(found, -0.1 * np.mean(clipped, axis=0), rtol=1e-12)
    _, count = optim.per_example_global_norm_clip({"w": single}, 2.0)
    assert count == sum(np.linalg.norm(g) > 2 for g in single)
    with pytest.raises(ValueError, match="examples along axis 0"):
        optim.per_example_global_norm_clip({"a": np.ones(3), "b": np.ones(())}, 1.0)


# -- large gradients ---------------------------------------------------------------------------------------------------

#: what limits gradients by a norm, and the largest element of its update of four elements g and one of 1
LIMITED: dict[str, tuple[optim.Optimizer, float]] = {
    "clip_by_global_norm": (optim.clip_by_global_norm(1.0), 0.5),
    "normalize": (optim.normalize(), 0.5),
    "normalize_by_update_norm": (optim.normalize_by_update_norm(), 0.5),
    "adaptive_grad_clip": (optim.adaptive_grad_clip(0.1), 0.1),
    "clip_by_block_rms": (optim.clip_by_block_rms(1.0), 1.0),
    "scale_by_trust_ratio": (optim.scale_by_trust_ratio(), 1.0),
    "projection_l2_ball": (
        optim.Optimizer(lambda p: (), lambda g, s, p: (optim.projection_l2_ball(g), s)), 0.5
    ),
    "projection_l2_sphere": (
        optim.Optimizer(lambda p: (), lambda g, s, p: (optim.projection_l2_sphere(g), s)), 0.5
    ),
    "per example": (
        optim.Optimizer(
            lambda p: (),
            lambda g, s, p: (optim.per_example_global_norm_clip({k: v[None] for k, v in g.items()}, 1.0)[0], s),
        ),
        0.5,
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [np.float32(1e25), np.float64(1e200), np.float32(np.inf), np.float64(np.inf)])
@pytest.mark.parametrize("name", LIMITED)
def test_norms_of_large_gradients_do_not_overflow(name: str, size: Any) -> None:
    optimizer, largest = LIMITED[name]
    g = {"a": np.full((2, 2), size), "b": np.ones((1,), size.dtype)}
    p = {"a": np.ones((2, 2), size.dtype), "b": np.ones((1,), size.dtype)}
    step = lambda g: optimizer.update(g, optimizer.init(p), p)[0]
    for found in (step(g), gc.jit(step)(g)):
        wanted = largest if np.isfinite(size) else np.nan
        np.testing.assert_allclose(found["a"], np.full((2, 2), wanted), rtol=1e-6)


# -- preconditioners ---------------------------------------------------------------------------------------------------


def _stepped(optimizer: optim.Optimizer, count: int) -> Any:
    """The parameters of the problem of `tests/peers` after some compiled steps."""
    params, state = start(), optimizer.init(start())
    step = gc.jit(optimizer.update)
    for i in range(count):
        u, state = step(gradient(params, i), state, params)
        params = optim.apply_updates(params, u)
    return params


def _root(c: Any, exponent: float) -> Any:
    values, vectors = np.linalg.eigh(c)
    return vectors * np.maximum(values, 1e-4) ** exponent @ vectors.T


def test_shampoo_is_the_formula_of_its_paper() -> None:
    params = start()
    sides = {k: [1e-4 * np.eye(n) for n in p.shape] for k, p in params.items()}
    total = 1e-4
    for i in range(20):
        for k, g in gradient(params, i).items():
            if k == "c":
                total += g**2
                u = g / np.sqrt(total)
            elif k == "b":
                sides[k][0] += np.outer(g, g)
                u = _root(sides[k][0], -1 / 2) @ g
            else:
                sides[k][0] += g @ g.T
                sides[k][1] += g.T @ g
                u = _root(sides[k][0], -1 / 4) @ g @ _root(sides[k][1], -1 / 4)
            params[k] = params[k] - 0.1 * u
    found = _stepped(optim.shampoo(0.1), 20)
    for k in params:
        np.testing.assert_allclose(found[k], params[k], rtol=1e-9, atol=1e-11)


def test_soap_is_the_formula_of_its_paper() -> None:
    params = start()
    m, v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))
    c = {k: [np.zeros((n, n)) for n in p.shape] for k, p in params.items() if p.ndim > 1}
    q = {k: [np.eye(n) for n in p.shape] for k, p in params.items() if p.ndim > 1}
    for t in range(1, 21):
        for k, g in gradient(params, t - 1).items():
            a, b = q.get(k, (1.0, 1.0))
            turn = (lambda x, a=a, b=b: a.T @ x @ b) if k in q else (lambda x: x)
            back = (lambda x, a=a, b=b: a @ x @ b.T) if k in q else (lambda x: x)
            m[k] = 0.9 * m[k] + (1 - 0.9) * g
            v[k] = 0.95 * v[k] + (1 - 0.95) * turn(g) ** 2
            u = back(turn(m[k]) / (1 - 0.9**t) / (np.sqrt(v[k] / (1 - 0.95**t)) + 1e-8))
            if k in q:
                c[k] = [0.8 * old + (1 - 0.8) * new for old, new in zip(c[k], (g @ g.T, g.T @ g), strict=True)]
                if t == 1 or t % 3 == 0:
                    q[k] = [np.linalg.qr(x @ old)[0] for x, old in zip(c[k], q[k], strict=True)]
            params[k] = params[k] - 0.1 * (u + 0.01 * params[k])
    found = _stepped(optim.soap(0.1, 0.9, shampoo_beta=0.8, precondition_frequency=3), 20)
    for k in params:
        np.testing.assert_allclose(found[k], params[k], rtol=1e-9, atol=1e-11)


def test_preconditioners_of_long_empty_and_single_precision_arrays() -> None:
    params = {"a": np.ones((2, 5), np.float32), "e": np.zeros((0, 3), np.float32), "s": np.float32(1.0)}
    for make in (optim.scale_by_shampoo(max_dim=4), optim.scale_by_soap(max_precond_dim=4)):
        state = make.init(params)
        assert [x.shape for x in state.c["a"]] == [(2, 2)] and state.c["e"] == () and state.c["s"] == ()
        u, after = gc.jit(make.update)(params, state, params)
        assert {k: (x.dtype, np.shape(x)) for k, x in u.items()} == {
            k: (np.dtype(np.float32), np.shape(x)) for k, x in params.items()
        }
        assert all(np.all(np.isfinite(x)) for x in gc.tree.leaves((u, after)))
    with pytest.raises(ValueError, match="max_dim is a whole number"):
        optim.shampoo(0.1, max_dim=0)


# -- the line search ---------------------------------------------------------------------------------------------------


def _until(optimizer: optim.Optimizer, loss: Any, p: Any, below: float, most: int) -> tuple[int, Any]:
    step, state = gc.train_step(loss, optimizer), optimizer.init(p)
    for count in range(most):
        p, state, value = step(p, state)
        if value <= below:
            return count, p
    raise AssertionError(f"{value} after {most} steps")


def test_lbfgs_solves_rosenbrock_and_an_ill_conditioned_parabola() -> None:
    rosenbrock = lambda p: np.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2)
    _, p = _until(optim.lbfgs(), rosenbrock, np.array([-1.2, 1.0, -0.5, 2.0]), 1e-18, 80)
    np.testing.assert_allclose(p, 1.0, atol=1e-8)
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0]
    bend = turned * np.logspace(-2, 2, 20) @ turned.T
    _until(optim.lbfgs(), lambda p: 0.5 * p @ (bend @ p), np.ones(20), 1e-12, 600)


def test_a_trial_that_does_not_help_is_taken_back() -> None:
    """A first step is far too long: the next trials are halves of it, from where it began, until the loss falls."""
    optimizer = optim.lbfgs(scale_init_precond=False)
    step = gc.train_step(lambda p: np.sum(p**2) * 50, optimizer, donate=False)
    p, state = np.array([1.0]), optimizer.init(np.array([1.0]))
    ways = [p[0]]
    for _ in range(9):
        p, state, _ = step(p, state)
        ways.append(p[0])
    assert ways[:5] == [1.0, -99.0, -49.0, -24.0, -11.5]
    np.testing.assert_allclose(ways[-1], 0.0, atol=1e-12)


# -- how optimizers are printed ----------------------------------------------------------------------------------------


def test_an_optimizer_is_printed_as_the_call_that_made_it() -> None:
    o = optim
    for text in (
        "chain(clip_by_global_norm(1.0), adam(0.001))",
        "multi_steps(sgd(0.1, momentum=0.9), 4)",
        "partition({'a': sgd(0.1), 'b': set_to_zero()}, {'w': 'a', 'v': 'b'})",
        "named_chain(('clip', clip(0.5)), ('step', lion(0.01)))",
        "inject_hyperparams(adam)(learning_rate=0.5)",
        "newton(trust_region='exact')",
    ):
        assert repr(eval(text, vars(o))) == text
    made = o.adamw(o.cosine_decay_schedule(0.1, 300), mask={"w": True})
    assert repr(made) == "adamw(cosine(0.1, 300, 0.0, 1.0), mask={'w': True})"
    assert repr(o.noisy_sgd(0.1, key=np.array([1, 2], np.uint32))) == "noisy_sgd(0.1, key=array of shape (2,))"
    assert repr(gc.mixed_precision("bfloat16")(o.sgd(0.1))) == "mixed_precision('bfloat16')(sgd(0.1))"
    plain = o.chain(o.Optimizer(lambda params: (), lambda g, s, p=None: (g, s)))
    assert repr(plain).startswith("chain(Optimizer(init=<function")
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made)


def test_every_optimizer_says_how_it_was_made() -> None:
    makers = [x for name in optim.__all__ if inspect.isfunction(x := getattr(optim, name))
              and inspect.signature(x).return_annotation in ("Optimizer", optim.Optimizer)]  # fmt: skip
    assert len(makers) > 100 and all(hasattr(make, "__wrapped__") for make in makers)
