"""Each optimizer reaches the minimum: of a parabola with condition number 10⁴, of Rosenbrock's valley, of a regression.

A budget is 2000 steps, and what is left of the loss at its end is at most what `LEFT` says: about ten times what was
measured, none of it rounding.  A whole run is one compiled loop.  Rates are those that a careful user would find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import gradc as gc
from gradc import data, optim
from gradc.optim.rules import updated

STEPS = 2000
N = 20
_rng = np.random.default_rng(0)
_turn = np.linalg.qr(_rng.standard_normal((N, N)))[0]
BENT = _turn * np.logspace(-4, 0, N) @ _turn.T
POINTS = _rng.standard_normal((60, 4))
LABELS = 1.0 * (1 / (1 + np.exp(-POINTS @ [1.0, -2.0, 0.5, 1.0])) > _rng.random(60))


def parabola(p: Any) -> Any:
    return 0.5 * p @ (BENT @ p)


def valley(p: Any) -> Any:
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def regression(p: Any) -> Any:
    return np.mean(np.logaddexp(0, (1 - 2 * LABELS) * (POINTS @ p))) + 0.005 * np.sum(p**2)


LEAST = scipy.optimize.minimize(regression, np.zeros(4), method="BFGS", tol=1e-10).fun
PROBLEMS: dict[str, tuple[Callable[[Any], Any], Any, float]] = {
    "parabola": (parabola, np.ones(N), 0.0), "valley": (valley, np.array([-1.2, 1.0]), 0.0),
    "regression": (regression, np.zeros(4), LEAST),
}  # fmt: skip


def fading(rate: float) -> Any:
    return optim.cosine_decay_schedule(rate, STEPS)


#: of each optimizer: how it is made for the parabola, the valley and the regression, and what is left of their losses
LEFT: dict[str, tuple[Callable[[float], optim.Optimizer], tuple[float, ...], tuple[float, ...]]] = {
    "sgd": (optim.sgd, (1.9, 1e-3, 2.0), (4e-4, 0.8, 1e-12)),
    "momentum": (lambda r: optim.sgd(r, 0.98), (3.9, 5e-4, 0.2), (1e-16, 1e-16, 1e-12)),
    "mean": (lambda r: optim.sgd(r, 0.98, average=True), (190.0, 2.5e-2, 10.0), (1e-16, 1e-16, 1e-12)),
    "nesterov": (lambda r: optim.sgd(r, 0.98, True), (1.0, 5e-4, 0.2), (1e-9, 1e-15, 1e-12)),
    "look ahead": (lambda r: optim.nesterov(r, 0.98), (1.0, 5e-4, 0.2), (1e-9, 1e-15, 1e-12)),
    "adam": (lambda r: optim.adam(fading(r)), (0.1, 0.1, 0.1), (1e-4, 1e-4, 1e-12)),
    "adamw": (lambda r: optim.adamw(fading(r), weight_decay=0.0), (0.1, 0.1, 0.1), (1e-4, 1e-4, 1e-12)),
    "nadam": (lambda r: optim.nadam(fading(r)), (0.1, 0.1, 0.1), (1e-4, 1e-7, 1e-12)),
    "amsgrad": (lambda r: optim.amsgrad(fading(r)), (0.1, 0.5, 0.1), (1e-2, 1.0, 1e-12)),
    "adamax": (lambda r: optim.adamax(fading(r)), (0.1, 0.5, 0.1), (5e-3, 0.5, 1e-12)),
    "radam": (lambda r: optim.radam(fading(r)), (0.1, 3e-3, 0.1), (2e-3, 4.0, 1e-12)),
    "adabelief": (lambda r: optim.adabelief(fading(r)), (0.05, 0.05, 0.05), (6e-4, 8e-3, 1e-12)),
    "yogi": (lambda r: optim.yogi(fading(r)), (0.1, 0.1, 0.1), (3e-4, 2e-3, 1e-12)),
    "adagrad": (lambda r: optim.adagrad(fading(r)), (0.5, 0.5, 0.5), (4e-3, 0.8, 1e-12)),
    "adadelta": (lambda r: optim.adadelta(fading(r), eps=1e-4), (10.0, 3.0, 10.0), (5e-4, 0.6, 1e-12)),
    "rmsprop": (lambda r: optim.rmsprop(fading(r)), (0.02, 0.02, 0.02), (3e-4, 2e-2, 1e-12)),
    "lion": (lambda r: optim.lion(fading(r), weight_decay=0.0), (0.02, 0.02, 0.02), (5e-5, 4e-6, 1e-11)),
    "sign_sgd": (lambda r: optim.sign_sgd(fading(r)), (0.02, 0.002, 0.02), (8e-3, 4.0, 1e-11)),
    "signum": (lambda r: optim.signum(fading(r)), (0.02, 0.02, 0.02), (1e-6, 7e-4, 1e-10)),
    "adan": (lambda r: optim.adan(fading(r)), (0.1, 0.1, 0.1), (1e-12, 1e-12, 1e-12)),
    "rprop": (optim.rprop, (0.01, 0.01, 0.01), (5e-6, 2e-3, 1e-11)),
    "quickprop": (optim.quickprop, (1.0, 1e-3, 1.0), (2e-5, 1e-6, 1e-12)),
    "novograd": (lambda r: optim.novograd(fading(r)), (0.02, 0.02, 0.02), (5e-8, 2e-7, 1e-12)),
    "fromage": (lambda r: optim.fromage(fading(r)), (0.02, 0.02, 0.02), (4e-4, 1.0, 1e-12)),
    "lars": (lambda r: optim.lars(fading(r), trust_coefficient=0.02), (0.5, 0.5, 0.5), (6e-8, 4e-7, 1e-10)),
    "lamb": (lambda r: optim.lamb(fading(r)), (0.02, 0.02, 0.02), (4e-7, 1.0, 1e-11)),
    "sm3": (lambda r: optim.sm3(fading(r)), (0.5, 0.5, 0.5), (5e-3, 1.0, 1e-12)),
    "adafactor": (lambda r: optim.adafactor(fading(r), multiply_by_parameter_scale=False), (0.1, 0.1, 0.1),
                  (5e-4, 0.2, 1e-12)),
    "shampoo": (lambda r: optim.shampoo(fading(r), momentum=0.9), (0.2, 0.05, 0.2), (1e-20, 0.5, 1e-12)),
    "soap": (lambda r: optim.soap(fading(r), weight_decay=0.0), (0.1, 0.1, 0.1), (1e-11, 1e-10, 1e-12)),
    "prodigy": (lambda r: optim.prodigy(fading(r)), (1.0, 1.0, 1.0), (2e-6, 1e-10, 1e-12)),
    "dadapt_adamw": (lambda r: optim.dadapt_adamw(fading(r)), (1.0, 1.0, 1.0), (1e-5, 1e-12, 1e-12)),
    "schedule_free_adamw": (optim.schedule_free_adamw, (0.1, 0.1, 0.1), (2e-4, 5e-2, 1e-12)),
    "schedule_free_sgd": (optim.schedule_free_sgd, (1.0, 1e-3, 1.0), (4e-3, 1.0, 1e-11)),
    "polyak_sgd": (lambda r: optim.polyak_sgd(1e4), (0.0, 0.0), (4e-10, 2e-15)),
    "asgd": (lambda r: optim.asgd(r, lambd=0.0), (1.9, 1e-3, 2.0), (4e-4, 0.8, 1e-12)),
    "optimistic": (optim.optimistic_gradient_descent, (0.6, 5e-4, 1.0), (4e-3, 2.0, 1e-12)),
    "lookahead": (lambda r: optim.lookahead(optim.adam(fading(r)), 5, 0.5), (0.1, 0.1, 0.1), (7e-4, 4e-3, 1e-12)),
    "sam": (lambda r: optim.sam(optim.adam(fading(r)), optim.chain(optim.normalize(), optim.sgd(1e-4)),
                                opaque_mode=True), (0.1, 0.1, 0.1), (1e-4, 1e-4, 1e-11)),
    "lbfgs": (lambda r: optim.lbfgs(), (0.0, 0.0, 0.0), (1e-20, 1e-20, 1e-12)),
}  # fmt: skip
DAILY = ("momentum",)


def left_of(name: str) -> list[float]:
    """What is left of each loss after the budget, in one compiled function."""
    make, rates, _ = LEFT[name]
    runs = list(zip(rates, PROBLEMS.values(), strict=False))

    def walk(rate: float, problem: tuple[Callable[[Any], Any], Any, float]) -> Any:
        loss, first, least = problem
        optimizer = make(rate)

        def body(carry: Any, _: Any) -> Any:
            p, state = carry
            value, g = gc.value_and_grad(loss)(p)
            u, state = updated(optimizer, g, state, p, {"value": value, "grad_fn": gc.grad(loss)})
            return (optim.apply_updates(p, u), state), None

        (p, _), _ = gc.scan(body, (first, optimizer.init(first)), None, length=STEPS)
        return loss(p) - least

    return [float(x) for x in gc.jit(lambda: [walk(*run) for run in runs])()]


@pytest.mark.parametrize(
    "name", [n if n in DAILY else pytest.param(n, marks=pytest.mark.nightly) for n in LEFT]
)
def test_the_minimum_is_reached_within_the_budget(name: str) -> None:
    found = left_of(name)
    assert all(left <= bound for left, bound in zip(found, LEFT[name][2], strict=True)), found


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "muon", "rmsprop", "lamb", "soap"])
def test_digits_are_learnt_within_a_hundred_steps(name: str) -> None:
    make: dict[str, Callable[[], optim.Optimizer]] = {
        "sgd": lambda: optim.sgd(0.3, 0.9), "adam": lambda: optim.adam(0.01), "adamw": lambda: optim.adamw(0.01),
        "lion": lambda: optim.lion(0.005), "muon": lambda: optim.muon(0.05), "rmsprop": lambda: optim.rmsprop(0.006),
        "lamb": lambda: optim.lamb(optim.cosine_decay_schedule(0.05, 100)), "soap": lambda: optim.soap(0.01),
    }  # fmt: skip
    x, y = data.digits()
    rng = np.random.default_rng(0)
    params: Any = [rng.standard_normal((64, 32)) / 8, np.zeros(32), rng.standard_normal((32, 10)) / 6, np.zeros(10)]
    logits = lambda p, x: np.tanh(x @ p[0] + p[1]) @ p[2] + p[3]
    optimizer = make[name]()
    step = gc.train_step(lambda p, x, y: gc.nn.cross_entropy(logits(p, x), y), optimizer)
    state = optimizer.init(params)
    for _ in range(100):
        params, state, _ = step(params, state, x, y)
    assert np.mean(np.argmax(logits(params, x), axis=1) == y) > 0.95
