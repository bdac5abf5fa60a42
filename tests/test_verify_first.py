"""`verify="first"`: the first compiled call against the interpreter."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.errors import VerificationError
from gradc.oracle.rounding import running_errors
from tests.test_oracle import planted


def network(w: Any, x: Any) -> Any:
    h = np.tanh(x @ w)
    return np.sum(np.exp(h) / np.sum(np.exp(h), axis=1, keepdims=True), axis=0)


ARGS = np.linspace(-1, 1, 36).reshape(6, 6), np.linspace(-2, 2, 30).reshape(5, 6)


def test_the_first_call_is_compared_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import gradc.oracle.first_call as first_call

    asked, real = [], first_call.compared
    monkeypatch.setattr(first_call, "compared", lambda *a: asked.append(1) or real(*a))
    f = gc.jit(network, verify="first")
    results = [f(*ARGS) for _ in range(3)]
    assert len(asked) == 1
    assert f.lower(*ARGS).stats["verified"] == "1 results within their error bounds of the interpreter's"
    np.testing.assert_array_equal(results[0], results[2])
    f(ARGS[0].astype("float32"), ARGS[1].astype("float32"))  # another version
    assert len(asked) == 2


def test_a_wrong_lowering_is_named_with_its_kernel_and_line() -> None:
    with planted("tanh", lower=lambda b, x: b.mul(x, 0.5)):
        f = gc.jit(lambda w, x: network(w, x) * 3.0, verify="first")  # not what another test has in the cache
        for _ in range(2):
            with pytest.raises(VerificationError, match=r"(?s)output 0\[0\].*kernel: .*of tanh .*test_verify_first"):
                f(*ARGS)


def test_nan_in_both_counts_as_equal_and_is_said() -> None:
    f = gc.compile(lambda x: np.log(x), gc.spec(4), verify="first")
    f(np.array([1.0, -1.0, 2.0, -3.0]))
    assert "2 elements NaN in both" in f.stats["verified"]


def test_a_training_step_is_verified_before_its_arguments_are_overwritten() -> None:
    rng = np.random.default_rng(0)
    optimizer = gc.optim.adam(1e-2)
    step = gc.train_step(lambda p, x: np.sum(np.tanh(x @ p["w"]) ** 2), optimizer, verify="first")
    params = {"w": rng.normal(size=(6, 6))}
    state = optimizer.init(params)
    for _ in range(3):
        params, state, _ = step(params, state, ARGS[1])
    assert "within their error bounds" in step.lower(params, state, ARGS[1]).stats["verified"]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'first'"):
        gc.jit(network, verify="always")
    with pytest.raises(ValueError, match="error bounds"):
        gc.jit(network, verify="first", fp="fast")


def test_a_fault_in_what_threads_share_is_named_in_the_schedule_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for one thread, every kernel would be right."""
    x = np.linspace(0.5, 1.0, 1 << 16)
    monkeypatch.setattr(sys.modules["gradc.codegen.emit"], "emit_shared_nest", lambda *a: None)  # nobody does the work
    assert np.all(gc.jit(lambda x: np.exp(x) * 5.0, threads=1, verify="first")(x) > 5)
    with pytest.raises(VerificationError, match=r"first wrong is kernel: .*alone, on the interpreter's inputs"):
        gc.jit(lambda x: np.exp(x) * 5.0, threads=2, verify="first", donate=0)(x)


def _three_sums(x: Any) -> Any:
    """Sums of the same numbers in three orders: they tie but for rounding."""
    return np.stack([np.sum(x), np.sum(x[::-1]) + 0.0, np.sum(np.sort(x))])


CHOICES: dict[str, Any] = {
    "argmax": lambda x: np.argmax(_three_sums(x)),
    "argmin": lambda x: np.argmin(_three_sums(x)),
    "argsort": lambda x: np.argsort(_three_sums(x)),
    "place": lambda x: np.searchsorted(_three_sums(x)[:2], np.sum(np.sort(x))),
    "count": lambda x: np.sum((_three_sums(x) > np.sum(x)).astype(int)),
    "running": lambda x: np.cumsum((_three_sums(x) > np.sum(x)).astype(int)),
    "product": lambda x: (_three_sums(x) > np.sum(x)).astype(int) @ np.arange(3),
    "read there": lambda x: (x * 2)[np.argmax(_three_sums(x))],
    "written there": lambda x: (x * 2).at[np.argmax(_three_sums(x))].set(1.0),
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_rounding_may_choose_has_no_bound(name: str) -> None:
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=9)
        graph = gc.trace(CHOICES[name], x)
        (y,) = graph.outputs
        bound = running_errors([y], {graph.inputs[0]: x})[1][y]
        assert np.any(np.isinf(bound))
        gc.jit(CHOICES[name], verify="first")(x)


@pytest.mark.parametrize("name", ["argmax", "argmin", "argsort", "place"])
def test_what_rounding_cannot_choose_is_exact(name: str) -> None:
    """Neither where elements are further apart than their errors, nor where exact ones tie."""
    apart = {
        "argmax": lambda x: np.argmax(np.exp(x)),
        "argmin": lambda x: np.argmin(np.exp(x)),
        "argsort": lambda x: np.argsort(np.exp(x)),
        "place": lambda x: np.searchsorted(np.exp(x), x + 0.1),
    }
    ties = {
        "argmax": np.argmax, "argmin": np.argmin, "argsort": np.argsort, "place": lambda x: np.searchsorted(x, x)
    }  # fmt: skip
    for f, x in ((apart[name], np.arange(5.0)), (ties[name], np.array([1.0, 1.0, 2.0, 2.0]))):
        graph = gc.trace(f, x)
        (y,) = graph.outputs
        assert not np.any(running_errors([y], {graph.inputs[0]: x})[1][y])


def test_sorted_values_that_tie_are_off_by_no_more_than_the_elements() -> None:
    x = np.random.default_rng(0).normal(size=9)
    graph = gc.trace(lambda x: np.sort(np.stack([_three_sums(x), 5 + np.arange(3) * np.sum(x)]), axis=1), x)
    (y,) = graph.outputs
    assert np.max(running_errors([y], {graph.inputs[0]: x})[1][y]) < 1e-13
