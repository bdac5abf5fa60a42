"""Every rule: parameters of every kind, dtypes, gradients that are zero or not numbers, travel, one pass over memory.

The steps themselves are compared with peers in `test_optim_peers.py`; those that no peer has, with their paper's
formula in plain NumPy here.  What is asked of all of them is one compiled function for all.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import optim

F32 = np.float32
PARAMS: dict[str, Any] = {
    "deep": [(np.linspace(-1, 2, 12).reshape(3, 4),), {"c": np.array(0.7)}], "b": np.array([1.5, -0.25]),
    "empty": np.zeros((0, 3)), "none": None, "name": "net",
}  # fmt: skip
#: optimizers by name, of a learning rate
NAMED = (
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "asgd",
    "dadapt_adamw", "fromage", "lamb", "lars", "lion", "momentum", "muon", "nadam", "nadamw", "novograd",
    "optimistic_gradient_descent", "polyak_sgd", "prodigy", "quickprop", "radam", "rmsprop", "rprop",
    "schedule_free_adamw", "schedule_free_sgd", "sgd", "sign_sgd", "signum", "sm3", "yogi",
)  # fmt: skip


def _labels(params: Any) -> Any:
    return gc.tree.map(lambda p: "m" if np.ndim(p) == 2 else "v", params)


#: one of everything that makes an optimizer
MADE: dict[str, optim.Optimizer] = {
    **{name: getattr(optim, name)(0.1) for name in NAMED},
    "adagrad of PyTorch": optim.adagrad(0.1, 0.0, 1e-10, eps_in_sqrt=False, lr_decay=0.1),
    "amsgrad of PyTorch": optim.amsgrad(0.1, bias_correction_nu="after"),
    "apply_every": optim.chain(optim.sgd(0.1), optim.apply_every(2)),
    "apply_if_finite": optim.apply_if_finite(optim.adam(0.1), 2),
    "averaged": optim.chain(optim.sgd(0.1), optim.params_ema(0.9)),
    "centralize": optim.chain(optim.centralize(), optim.sgd(0.1)),
    "clipped": optim.chain(optim.clip(0.5), optim.clip_by_block_rms(0.3), optim.clip_by_global_norm(0.4),
                                   optim.adaptive_grad_clip(0.2), optim.sgd(0.1)),
    "damped": optim.sgd(0.1, 0.9, dampening=0.5),
    "elastic": optim.chain(optim.sgd(0.1), optim.proximal_l1(0.1, 0.1, 0.2)),
    "factored": optim.adafactor(0.1, 2, momentum=0.9, weight_decay_rate=0.1),
    "injected": optim.inject_hyperparams(optim.adamw)(optim.linear_schedule(0.1, 0.0, 9)),
    "lbfgs": optim.lbfgs(0.1, 2),
    "lbfgs without search": optim.lbfgs(0.1, 2, linesearch=False),
    "lookahead": optim.lookahead(optim.adam(0.1), 2, 0.5, True),
    "mean": optim.sgd(0.1, 0.9, average=True),
    "multi_steps": optim.multi_steps(optim.adam(0.1), 2, should_skip_update_fn=optim.skip_not_finite),
    "nadam of PyTorch": optim.nadam(0.1, momentum_decay=4e-3),
    "nesterov of SGD": optim.sgd(0.1, 0.9, nesterov=True),
    "noisy": optim.noisy_sgd(0.1, key=0),
    "not negative": optim.chain(optim.sgd(0.1), optim.keep_params_nonnegative()),
    "partition": optim.partition({"m": optim.adam(0.1), "v": optim.sgd(0.1, 0.9)}, _labels),
    "plateau": optim.chain(optim.adam(0.1), optim.reduce_on_plateau(patience=1)),
    "projected": optim.projected_gradient(optim.sgd(0.1), optim.projection_l1_ball),
    "rmsprop, centered": optim.rmsprop(0.1, eps=1e-3, centered=True, momentum=0.9, nesterov=True),
    "sam": optim.sam(optim.sgd(0.1), optim.chain(optim.normalize(), optim.sgd(0.05))),
    "scheduled": optim.adam(0.1, b1=optim.linear_schedule(0.5, 0.9, 5)),
    "scheduled decay": optim.add_decayed_weights(optim.linear_schedule(0.5, 0.0, 5)),
    "sgld": optim.sgld(0.1, key=0),
    "zero_nans": optim.chain(optim.zero_nans(), optim.sgd(0.1)),
}  # fmt: skip


def _grads(params: Any, number: int = 0) -> Any:
    """Gradients with None where parameters are static."""
    made = gc.grad(lambda p: sum(np.sum(np.sin(x * 1.7 + number) * x) for x in gc.tree.leaves(p)))(params)
    return made


def _all_updates(grads: Any, states: Any, params: Any, value: Any) -> Any:
    return {name: o.update(grads, states[name], params, value=value) for name, o in MADE.items()}


@pytest.fixture(scope="module")
def compiled() -> Any:
    return gc.jit(_all_updates)


def _states(params: Any) -> Any:
    return {name: o.init(params) for name, o in MADE.items()}


def _leaves(tree: Any) -> list[Any]:
    return [np.asarray(x) for x in gc.tree.leaves(tree)]


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.nightly)])
def test_compiled_is_interpreted_on_trees_of_every_kind(compiled: Any, dtype: Any) -> None:
    params = gc.tree.map(lambda x: np.asarray(x, dtype), PARAMS)
    grads, states = _grads(params), _states(params)
    found = compiled(grads, states, params, dtype(1.0))
    names = list(MADE)
    wanted = _all_updates(grads, states, params, dtype(1.0))
    for name in names:
        for a, b in zip(_leaves(found[name]), _leaves(wanted[name]), strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape, name
            np.testing.assert_allclose(a, b, rtol=1e-12 if dtype is np.float64 else 3e-5, atol=1e-7, err_msg=name)
        for u, p in zip(_leaves(found[name][0]), _leaves(params), strict=True):
            assert u.dtype == dtype and u.shape == p.shape, name
        for old, new in zip(_leaves(states[name]), _leaves(found[name][1]), strict=True):
            assert old.dtype == new.dtype and old.shape == new.shape, name


def test_zero_gradients_move_nothing_beyond_what_decay_and_averages_do(compiled: Any) -> None:
    grads = gc.tree.map(np.zeros_like, _grads(PARAMS))
    found = compiled(grads, _states(PARAMS), PARAMS, np.float64(1.0))
    decays = {"adamaxw", "adamw", "asgd", "elastic", "factored", "fromage", "injected", "lion", "muon", "nadamw",
              "noisy", "not negative", "projected", "sgld", "scheduled decay", "yogi"}  # fmt: skip
    for name in MADE:
        leaves = _leaves(found[name])
        assert all(np.all(np.isfinite(x) | (x == np.inf)) for x in leaves), name
        if name not in decays:
            assert all(np.all(np.abs(u) < 1e-12) for u in _leaves(found[name][0])), name


def test_a_nan_stays_in_its_own_element_unless_a_rule_joins_elements(compiled: Any) -> None:
    grads = _grads(PARAMS)
    grads["b"] = np.array([np.nan, 1.0])
    found = compiled(grads, _states(PARAMS), PARAMS, np.float64(1.0))
    for name in ("adam", "adamw", "sgd", "momentum", "lion", "rmsprop", "adagrad", "adadelta", "radam", "yogi"):
        updates = found[name][0]
        assert np.isnan(updates["b"][0]), name
        assert np.isfinite(updates["b"][1]) and np.all(np.isfinite(updates["deep"][0][0])), name
    for name in ("zero_nans", "apply_if_finite", "multi_steps"):
        assert all(np.all(np.isfinite(x)) for x in _leaves(found[name])), name
    assert found["zero_nans"][1][0].found_nan["b"] and not found["zero_nans"][1][0].found_nan["deep"][1]["c"]
    assert found["apply_if_finite"][1].total_notfinite == 1 and found["multi_steps"][1].mini_step == 0


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_state_is_wide_for_narrow_parameters(narrow: str) -> None:
    params = {"w": np.ones((3, 4), F32).astype(gc.numpy.dtype(narrow)) if hasattr(gc.numpy, "dtype") else None}
    for name, optimizer in MADE.items():
        for leaf in _leaves(optimizer.init(params)):
            assert leaf.dtype in (np.float32, np.float64, np.int64, np.bool_, np.uint32), (name, leaf.dtype)
    kept = optim.adam(0.1, mu_dtype="bfloat16").init(params)[0]
    assert str(kept.m["w"].dtype) == "bfloat16" and kept.v["w"].dtype == F32
    both = optim.adam(0.1, state_dtype="bfloat16")
    state = both.init(params)
    assert str(state[0].v["w"].dtype) == "bfloat16" and state[0].t.dtype == np.int64
    updates, after = gc.jit(both.update)(params, state, params)
    assert updates["w"].dtype == F32 and str(after[0].m["w"].dtype) == "bfloat16"


def test_everything_travels() -> None:
    sent = pickle.loads(pickle.dumps({n: o for n, o in MADE.items() if n != "injected"}))
    grads = _grads(PARAMS)
    for name in ("adam", "muon", "prodigy", "sam", "lookahead", "partition", "factored", "scheduled"):
        one = MADE[name].update(grads, MADE[name].init(PARAMS), PARAMS)[0]
        two = sent[name].update(grads, sent[name].init(PARAMS), PARAMS)[0]
        assert all(map(np.array_equal, _leaves(one), _leaves(two))), name
    state = MADE["injected"].init(PARAMS)
    assert pickle.loads(pickle.dumps(MADE["injected"])).init(PARAMS).hyperparams == state.hyperparams


@pytest.mark.parametrize(
    ("name", "passes"),
    [("sgd", 3), ("momentum", 5), ("adam", 7), ("adamw", 7), ("lion", 5), ("rmsprop", 5), ("nadam", 7),
     ("adabelief", 7), ("adagrad", 5), ("adadelta", 7), ("amsgrad", 9), ("yogi", 7), ("radam", 7), ("adamax", 7),
     ("rprop", 7)],
)  # fmt: skip
def test_an_update_is_one_pass_over_its_arrays(name: str, passes: int) -> None:
    """Each array is read once and written once in place; the only other kernel is that of the counter."""
    optimizer, n = getattr(optim, name)(0.1), 1 << 16
    p, g = np.ones(n, F32), np.ones(n, F32)

    def update(p: Any, s: Any, g: Any) -> Any:
        u, s = optimizer.update(g, s, p)
        return optim.apply_updates(p, u), s

    stats = gc.jit(update, donate=(0, 1)).lower(p, optimizer.init(p), g).stats
    assert stats["kernels"] <= 2 and stats["arena_bytes"] == 0
    assert passes * 4 * n <= stats["bytes"] < passes * 4 * n + 1000


# -- rules that no peer has --------------------------------------------------------------------------------------------


def _walk(optimizer: optim.Optimizer, steps: int, gradient: Callable[[Any], Any], p: Any, **extra: Any) -> list[Any]:
    state, way = optimizer.init(p), [p]
    for _ in range(steps):
        u, state = optimizer.update(gradient(p), state, p, **extra)
        p = optim.apply_updates(p, u)
        way.append(p)
    return way


A = np.array([1.0, 3.0, 0.5])
START = np.array([1.0, -2.0, 0.75])


def _slope(p: Any) -> Any:
    return A * p + 0.3 * np.sin(2 * p)


def test_momentum_as_a_mean() -> None:
    p, m = START, np.zeros(3)
    for _ in range(20):
        m = 0.9 * m + (1 - 0.9) * _slope(p)
        p = p - 0.1 * m
    np.testing.assert_allclose(_walk(optim.sgd(0.1, 0.9, average=True), 20, _slope, START)[-1], p, rtol=1e-13)


def test_the_look_ahead_form_of_nesterov_walks_where_the_reformulation_does() -> None:
    """The parameters of the reformulation are the points θ − ηβm at which the look-ahead form takes gradients."""
    theta, m = START, np.zeros(3)
    ahead = []
    for _ in range(30):
        ahead.append(theta - 0.05 * 0.9 * m)
        m = 0.9 * m + _slope(ahead[-1])
        theta = theta - 0.05 * m
    way = _walk(optim.nesterov(0.05, 0.9), 30, _slope, START, grad_fn=_slope)
    np.testing.assert_allclose(way[-1], theta, rtol=1e-13)
    np.testing.assert_allclose(_walk(optim.sgd(0.05, 0.9, nesterov=True), 29, _slope, START), ahead, rtol=1e-12)


def test_nesterovs_look_ahead_compiles_to_one_gradient() -> None:
    step = gc.train_step(lambda p: np.sum(0.5 * A * p**2 - 0.15 * np.cos(2 * p)), optim.nesterov(0.05, 0.9))
    p, state = START, optim.nesterov(0.05, 0.9).init(START)
    for _ in range(30):
        p, state, _ = step(p, state)
    np.testing.assert_allclose(p, _walk(optim.nesterov(0.05, 0.9), 30, _slope, START, grad_fn=_slope)[-1], rtol=1e-10)
    with pytest.raises(ValueError, match="look ahead needs grad_fn: "):
        optim.nesterov(0.1).update(START, optim.nesterov(0.1).init(START), START)


def test_quickprop_finds_the_minimum_of_a_parabola_in_two_steps_and_grows_at_most_by_mu() -> None:
    way = _walk(optim.quickprop(0.4), 2, lambda p: A * (p - 1), np.full(3, 1.2))
    np.testing.assert_allclose(way[1] - way[0], -0.4 * A * 0.2)
    np.testing.assert_allclose(way[2][1], 1.0, rtol=1e-14)  # the first step went beyond
    np.testing.assert_allclose(way[2] - way[1], np.where(A < 1, 1.75 * (way[1] - way[0]) - 0.4 * A * (way[1] - 1),
                                                         way[2] - way[1]))  # fmt: skip
    d, g, p = np.zeros(3), np.zeros(3), START
    for _ in range(12):
        now = _slope(p)
        quick = np.zeros(3)
        for i in range(3):
            if d[i] == 0:
                quick[i] = -0.1 * now[i]
                continue
            forward = np.sign(d[i])
            slope, before = forward * now[i], forward * g[i]
            if slope > before:
                quick[i] = d[i] * np.clip(slope / (before - slope), -1.75, 1.75)
            else:
                quick[i] = -1.75 * d[i] * np.sign(slope)
            if slope < 0:
                quick[i] -= 0.1 * now[i]
        d, g, p = quick, now, p + quick
    np.testing.assert_allclose(_walk(optim.quickprop(0.1), 12, _slope, START)[-1], p, rtol=1e-9, atol=1e-12)


def test_the_proximal_step_reaches_exact_zeros_and_the_minimum() -> None:
    """½Σ a(p − c)² + l1Σ|p| + l2/2 Σp² is least at sign(ac)·max(|ac| − l1, 0)/(a + l2)."""
    c = np.array([0.1, -2.0, 0.9])
    ista = optim.chain(optim.sgd(0.3), optim.proximal_l1(0.4, 0.3, l2=0.2))
    found = _walk(ista, 200, lambda p: A * (p - c), START)[-1]
    least = np.sign(A * c) * np.maximum(np.abs(A * c) - 0.4, 0) / (A + 0.2)
    np.testing.assert_allclose(found, least, rtol=1e-12)
    assert found[0] == 0.0
    l1 = _walk(optim.chain(optim.add_l1(0.4, {"p": True}), optim.sgd(0.01)), 1, lambda p: p, {"p": START})[-1]["p"]
    np.testing.assert_allclose(l1, START - 0.01 * (START + 0.4 * np.sign(START)))


def test_averages_of_parameters() -> None:
    optimizer = optim.chain(optim.sgd(0.1), optim.params_ema(0.8))
    way, a = _walk(optimizer, 10, _slope, START), START
    state, p = optimizer.init(START), START
    for _ in range(10):
        u, state = optimizer.update(_slope(p), state, p)
        p = optim.apply_updates(p, u)
    for q in way[1:]:
        a = 0.8 * a + (1 - 0.8) * q
    np.testing.assert_allclose(optim.averaged_params(state), a, rtol=1e-13)
    swa = optim.chain(optim.sgd(0.1), optim.params_ema(optim.swa_decay(4)))
    state, p = swa.init(START), START
    for _ in range(10):
        u, state = swa.update(_slope(p), state, p)
        p = optim.apply_updates(p, u)
    np.testing.assert_allclose(optim.averaged_params(state), np.mean(way[5:], axis=0), rtol=1e-13)
    with pytest.raises(ValueError, match="no average of parameters"):
        optim.averaged_params(optim.adam(0.1).init(START))


def test_sam_in_one_call_is_sam_in_two() -> None:
    outer, uphill = optim.adam(0.05), optim.chain(optim.normalize(), optim.sgd(0.1))
    two = _walk(optim.sam(outer, uphill), 20, _slope, START)
    one = _walk(optim.sam(outer, uphill, opaque_mode=True), 10, _slope, START, grad_fn=_slope)
    np.testing.assert_allclose(one[-1], two[-1], rtol=1e-13)
    loss = lambda p: np.sum(0.5 * A * p**2 - 0.15 * np.cos(2 * p))
    step, p = gc.train_step(loss, optim.sam(outer, uphill, opaque_mode=True)), START
    state = optim.sam(outer, uphill, opaque_mode=True).init(p)
    for _ in range(10):
        p, state, _ = step(p, state)
    np.testing.assert_allclose(p, one[-1], rtol=1e-9)


def test_accumulated_small_batches_are_the_large_batch() -> None:
    x = np.linspace(-1, 1, 24).reshape(8, 3)
    loss = lambda p, x: np.mean((x @ p - 1.0) ** 2)
    many, one = optim.multi_steps(optim.adam(0.1), 4), optim.adam(0.1)
    small, large = gc.train_step(loss, many), gc.train_step(loss, one)
    p, state = START, many.init(START)
    q, other = START, one.init(START)
    for _ in range(3):
        for part in np.split(x, 4):
            p, state, _ = small(p, state, part)
        q, other, _ = large(q, other, x)
        np.testing.assert_allclose(p, q, rtol=1e-12)
        assert optim.has_updated(state)


def test_hyperparameters_in_the_state_change_without_compiling() -> None:
    make = optim.inject_hyperparams(optim.adamw, static_args="mask")
    optimizer = make(learning_rate=0.1, b1=lambda t: 0.5 + t / 100)
    step = gc.train_step(lambda p: np.sum(p**2), optimizer)
    p, state = START, optimizer.init(START)
    for _ in range(3):
        p, state, _ = step(p, state)
    assert state.hyperparams["b1"] == 0.52 and state.hyperparams["learning_rate"] == 0.1
    compiled = len(step._versions) if hasattr(step._versions, "__len__") else None
    state.hyperparams["learning_rate"] = np.float64(0.0)
    state.hyperparams["weight_decay"] = np.float64(0.0)
    q = p.copy()
    p, state, _ = step(p, state)
    assert np.array_equal(p, q)
    assert compiled is None or len(step._versions) == compiled


def test_an_optimizer_of_functions_is_given_what_it_asks_for() -> None:
    """A pair of plain functions, also inside a chain: with the usual arguments, or with some of the loss by name."""
    plain = (lambda p: (), lambda g, s, p: (-0.1 * g, s))
    told = (lambda p: (), lambda g, s, p, *, value: (-0.1 * value * g, s))
    loss = lambda p: np.sum(p**2)
    after, _, _ = gc.train_step(loss, plain)(START, ())
    np.testing.assert_allclose(after, START - 0.2 * START)
    after, _, _ = gc.train_step(loss, optim.chain(told, optim.scale(0.5)))(START, ((), optim.EmptyState()))
    np.testing.assert_allclose(after, START - 0.1 * np.sum(START**2) * START)


def test_masks_and_numbers_of_numpy_are_masks_and_numbers() -> None:
    p = {"a": {"b": START, "c": START}, "d": START}
    chosen = optim.chain(optim.masked(optim.scale(np.float32(0.5)), {"a": np.bool_(True), "d": False}), optim.scale(2))
    u, _ = chosen.update(p, chosen.init(p))
    assert all(map(np.array_equal, gc.tree.leaves(u), (START, START, 2 * START)))
    for number in (np.float32(0.5), np.array(0.5), 0.5):
        u, _ = optim.sgd(number).update(START.astype(F32), optim.sgd(number).init(START))
        assert u.dtype == F32 and np.array_equal(u, -0.5 * START.astype(F32))
    u, state = optim.adam(0.1).update(1.0, optim.adam(0.1).init(2.0), 2.0)
    assert np.isclose(u, -0.1) and state[0].t == 1


# -- what is refused ---------------------------------------------------------------------------------------------------

def _halved(g: Any, p: Any, s: Any) -> Any:
    return g / 2


REFUSED: dict[str, tuple[type, str, Callable[[], Any]]] = {
    "a string": (TypeError, "b1 is a number or a function of the step, got '0.9'", lambda: optim.adam(0.1, b1="0.9")),
    "no rate": (TypeError, "a learning rate is a number", lambda: optim.sgd(None)),
    "an array": (gc.ShapeError, r"a learning rate is a number .*, got shape \(2,\)", lambda: optim.sgd(np.ones(2))),
    "no params": (ValueError, "weight decay needs the parameters",
                  lambda: optim.adamw(0.1).update(START, optim.adamw(0.1).init(START))),
    "another state": (ValueError, "adam got a state .*; use its own init",
                      lambda: optim.scale_by_adam().update(START, (), START)),
    "another nesting": (ValueError, "its state nests otherwise than the gradients",
                        lambda: optim.scale_by_adam().update({"a": START}, optim.scale_by_adam().init(START))),
    "no value": (ValueError, "plateau needs value: gc.train_step gives it",
                 lambda: optim.reduce_on_plateau().update(START, optim.reduce_on_plateau().init(START))),
    "labels": (ValueError, "partition has no optimizer for 'x'; it has 'm'",
               lambda: optim.partition({"m": optim.sgd(0.1)}, {"a": "x"}).init({"a": START})),
    "a mask": (ValueError, "mask must be a tree of 1 bools",
               lambda: optim.masked(optim.sgd(0.1), {"b": True}).init({"a": START})),
    "k": (ValueError, "k is a whole number from 1 on, got 0", lambda: optim.apply_every(0)),
    "damped nesterov": (ValueError, "no dampening", lambda: optim.sgd(0.1, 0.9, True, dampening=0.1)),
    "names": (ValueError, "each name stands once", lambda: optim.named_chain(("a", optim.sgd(1)), ("a", optim.sgd(1)))),
    "static": (ValueError, "static_args: no argument lr", lambda: optim.inject_hyperparams(optim.sgd, "lr")),
    "muon": (ValueError, "muon is for matrices",
             lambda: optim.scale_by_muon().update(START, optim.scale_by_muon().init(START))),
    "a step": (TypeError, "halved returns the update and the new EmptyState, got",
               lambda: optim.rule(_halved).update(START, ())),
    "a state": (TypeError, "the state of a rule is a class of named tuples", lambda: optim.rule(_halved, dict)),
    "rprop": (TypeError, "rprop takes the size of the first step", lambda: optim.rprop(lambda t: 0.1)),
    "amsgrad": (ValueError, "True, False or 'after'", lambda: optim.amsgrad(0.1, bias_correction_nu="before")),
    "restarts": (ValueError, "factor is at least 1", lambda: optim.cosine_restarts_schedule(1.0, 10, 0.5)),
    "boundaries": (ValueError, "2 schedules have 1 boundaries", lambda: optim.join_schedules([abs, abs], [1, 2])),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_in_words(name: str) -> None:
    error, words, call = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_optim_rules.py:" in str(caught.value)


def test_updates_of_single_precision_stay_single() -> None:
    """As they are traced: nothing is promoted on the way, and state keeps its dtypes."""
    params = gc.tree.map(lambda x: np.asarray(x, F32), PARAMS)
    specs = gc.tree.map(lambda x: gc.spec(np.shape(x), np.asarray(x).dtype), (_grads(params), _states(params), params))
    graph = gc.trace(lambda g, s, p: _all_updates(g, s, p, 1.0), *specs)
    found = graph.out_tree.unflatten([x.aval for x in graph.outputs])
    for name in MADE:
        assert {str(a.dtype) for a in gc.tree.leaves(found[name][0])} == {"float32"}, name
        kept = [a.dtype for a in gc.tree.leaves(found[name][1])]
        assert kept == [x.dtype for x in _leaves(MADE[name].init(params))], name


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: optim.adamw(0.1, b1=1), "b1 must be at least 0 and below 1, got 1"),
        (lambda: optim.adamw(0.1, b2=2.0), "b2 must be at least 0 and below 1, got 2.0"),
        (lambda: optim.adamw(0.1, eps=-1), "eps must be at least 0, got -1"),
        (lambda: optim.adamw(0.1, weight_decay=np.nan), "weight_decay must be a number, got nan"),
        (lambda: optim.sgd(np.nan), "learning_rate must be at least 0, got nan"),
        (lambda: optim.lion(-1e-3), "learning_rate must be at least 0, got -0.001"),
        (lambda: optim.params_ema(2.0), "decay must be at least 0 and at most 1, got 2.0"),
    ],
)
def test_a_known_number_out_of_its_range_is_refused(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()
