"""What `gc.train_step(measure=…)` returns beside its results: the rate and the norm that the step itself used."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc import optim
from gradc.api.measures import Measures

BOTH = ("gradient_norm", "learning_rate")
X, W = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0.3, -0.2])


def loss(w, x):
    return ((x @ w) ** 2).sum()


def measured(optimizer, steps=3):
    step, w, state, found = gc.train_step(loss, optimizer, measure=BOTH), W, optimizer.init(W), []
    for _ in range(steps):
        w, state, _, numbers = step(w, state, X)
        found.append(numbers)
    return found


SCHEDULE = optim.exponential_decay(0.1, 1, 0.5)
CASES = {
    "a number": (optim.sgd(0.1), [0.1, 0.1, 0.1]),
    "a schedule": (optim.adam(SCHEDULE), [0.1, 0.05, 0.025]),
    "injected": (optim.inject_hyperparams(optim.sgd)(learning_rate=SCHEDULE), [0.1, 0.05, 0.025]),
    "wrapped": (optim.multi_steps(optim.chain(optim.clip(1.0), optim.sgd(SCHEDULE)), 2), [0.1, 0.1, 0.05]),
    "on a plateau": (optim.chain(optim.sgd(0.0), optim.reduce_on_plateau(0.5, 1)), [0.0, 0.0, 0.0]),
    "scaled": (gc.mixed_precision("bfloat16", scale=1024.0)(optim.sgd(0.25)), [0.25] * 3),
    "none": (optim.lbfgs(linesearch="zoom"), None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rate_is_the_one_of_the_step(name):
    optimizer, rates = CASES[name]
    x, w = X, W
    if name == "scaled":
        x, w = X.astype("float32"), W.astype("float32")
    step, state = gc.train_step(loss, optimizer, measure=BOTH), optimizer.init(w)
    plain, alone = gc.train_step(loss, optimizer), optimizer.init(w)
    also, found, norms = w, [], []
    for _ in range(3):
        before = gc.grad(loss)(w, x)
        w, state, value, numbers = step(w, state, x)
        also, alone, same = plain(also, alone, x)
        found.append(numbers.get("learning_rate"))
        norms.append((numbers["gradient_norm"], np.linalg.norm(before)))
        assert value == same and w.tobytes() == also.tobytes()
    assert found == ([None] * 3 if rates is None else rates)
    tolerance = 2.0**-7 if name == "scaled" else 1e-14  # products rounded to bfloat16; a norm of two numbers
    assert all(abs(a - b) <= tolerance * b for a, b in norms)


def test_a_plateau_scales_the_rate():
    optimizer = optim.chain(optim.sgd(0.5), optim.reduce_on_plateau(0.5, 1))
    found = [numbers["learning_rate"] for numbers in measured(optimizer, 4)]
    assert found[0] == 0.5 and found[-1] < 0.5


def test_several_rates_have_several_names():
    optimizer = optim.partition({"slow": optim.sgd(0.1), "fast": optim.sgd(0.2)}, {"a": "slow", "b": "fast"})
    params = {"a": W, "b": W}
    step = gc.train_step(lambda p, x: loss(p["a"], x) + loss(p["b"], x), optimizer, measure="learning_rate")
    numbers = step(params, optimizer.init(params), X)[-1]
    assert {"learning_rate", "learning_rate_2"} == set(numbers) and set(numbers.values()) == {0.1, 0.2}


def test_nothing_is_measured_unasked_and_what_is_unknown_is_refused():
    optimizer = optim.sgd(0.1)
    assert len(gc.train_step(loss, optimizer)(W, optimizer.init(W), X)) == 3
    assert Measures(BOTH).numbers() == {}
    with pytest.raises(ValueError, match="measure='loss': a step measures gradient_norm and learning_rate"):
        gc.train_step(loss, optimizer, measure=("loss",))
