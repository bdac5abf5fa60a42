"""Optimizers and schedules take the same steps as optax's and PyTorch's: what those do is stored in `tests/peers`.

Each share of the optimizers is one compiled function of all their states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradc as gc
from tests.peers.cases import CASES, STEPS, STORED, Case, gradient, start, value
from tests.peers.optimizers import FILE, flat
from tests.peers.schedules import COUNTS, SCHEDULES

SHARES = 4


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    with np.load(FILE) as file:
        return dict(file)


def walked(cases: dict[str, Case]) -> dict[str, Any]:
    """The parameters of each case after the steps that are stored."""
    optimizers = {name: case.ours(gc.optim) for name, case in cases.items()}

    def update(grads: Any, states: Any, params: Any, values: Any) -> Any:
        after = {}
        for name, (_, change) in optimizers.items():
            u, s = change(grads[name], states[name], params[name], value=values[name])
            after[name] = gc.optim.apply_updates(params[name], u), s
        return {n: p for n, (p, _) in after.items()}, {n: s for n, (_, s) in after.items()}

    step = gc.jit(update)
    params: Any = {name: start() for name in cases}
    states: Any = {name: o.init(start()) for name, o in optimizers.items()}
    rows: dict[str, list[Any]] = {name: [] for name in cases}
    for i in range(STEPS):
        grads = {name: gradient(params[name], i, case.nans) for name, case in cases.items()}
        params, states = step(grads, states, params, {name: value(p) for name, p in params.items()})
        if i + 1 in STORED:
            for name in cases:
                rows[name].append(flat(params[name]))
    return {name: np.array(found) for name, found in rows.items()}


@pytest.mark.parametrize("share", range(SHARES))
def test_the_steps_are_those_of_the_peer(share: int, stored: dict[str, Any]) -> None:
    cases = dict(list(CASES.items())[share::SHARES])
    for name, found in walked(cases).items():
        rtol = cases[name].rtol
        np.testing.assert_allclose(found, stored[name], rtol=rtol, atol=rtol, err_msg=name)


def test_every_case_is_stored_and_every_stored_one_is_a_case(stored: dict[str, Any]) -> None:
    assert set(stored) == {*CASES, *(f"schedule: {name}" for name in SCHEDULES)}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_have_the_values_of_optax(name: str, stored: dict[str, Any]) -> None:
    schedule = SCHEDULES[name](gc.optim)
    found = [float(schedule(np.int64(n))) for n in COUNTS]
    np.testing.assert_allclose(found, stored[f"schedule: {name}"], rtol=1e-12, atol=1e-15)
    compiled = gc.jit(lambda n: schedule(n) + 0.0)(np.array(COUNTS))
    np.testing.assert_allclose(np.broadcast_to(compiled, len(COUNTS)), found, rtol=1e-14, atol=1e-15)
