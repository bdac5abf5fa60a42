"""``cpu="x86-64-v3"``: code for a whole class of CPUs, the same on each of them."""

from __future__ import annotations

import pickle
import platform
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.target import LEVELS, Target
from gradc.runtime.load import target_info

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="levels are of x86-64")

W, X = np.linspace(-1, 1, 60).reshape(20, 3), np.linspace(0, 1, 800).reshape(40, 20)


def loss(w: Any, x: Any) -> Any:
    return np.tanh(x @ w).sum()


def supported(level: str) -> bool:
    order = list(LEVELS)
    return all(target_info().has(f) for name in order[: order.index(level) + 1] for f in LEVELS[name])


@pytest.mark.parametrize("level", [pytest.param(name, id=name) for name in LEVELS])
def test_code_of_a_level_asks_for_nothing_more(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not supported(level):
        with pytest.raises(gc.CompileError, match=f"{level}.*lacks"):
            gc.compile(loss, W, X, cpu=level)
        return

    def nobody() -> Target:
        raise AssertionError("code of a level asks what this very CPU is")

    monkeypatch.setattr(Target, "host", nobody)
    step = gc.compile(gc.value_and_grad(loss), W, X, cpu=level)
    value, gradient = step(W, X)
    assert abs(value - loss(W, X)) <= 1e-12 * 120 and gradient.shape == W.shape
    registers = {"ymm": level >= "x86-64-v3", "zmm": level == "x86-64-v4"}
    assert {name: name in step.asm for name in registers} == registers


def test_a_level_is_part_of_what_the_cache_knows() -> None:
    levels = [None, *filter(supported, LEVELS)]
    for cpu in levels:
        gc.compile(loss, W, X, cpu=cpu)
    assert len({gc.compile(loss, W, X, cpu=cpu).asm for cpu in levels}) >= 2


def test_a_level_travels_with_the_executable() -> None:
    step = gc.compile(loss, W, X, cpu="x86-64")
    again = pickle.loads(pickle.dumps(step))
    assert again.options.cpu == "x86-64" and again(W, X).tobytes() == step(W, X).tobytes()


def test_an_unknown_level_is_refused_with_those_there_are() -> None:
    with pytest.raises(gc.CompileError, match=r"'pentium'.*x86-64-v3"):
        gc.jit(loss, cpu="pentium")(W, X)
