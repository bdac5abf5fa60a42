"""`debug="bounds"`: accesses outside of a kernel's buffers are not made, and named; all others are what they were."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.machines import cpu
from gradc.schedule import Schedule
from gradc.schedule.kernel import Correlation, Nest, Product
from tests.test_pairs import FUNCTIONS, SHAPE
from tests.test_verify_schedule import read_elsewhere, stored_elsewhere, with_work


@pytest.mark.sampled(2)
@pytest.mark.parametrize("threads", [1, 2])
def test_programs_that_stay_inside_keep_their_bits(threads: int) -> None:
    x = np.random.default_rng(0).normal(size=SHAPE)
    m = np.random.default_rng(1).normal(size=(150, 131)).astype("float32")

    def program(x: Any, m: Any) -> Any:
        half = m.astype("float16")
        products = m @ m.T, np.maximum(m @ m[:131], 0) + 1, half @ half.T, np.argmax(m.T), m.T[::3] * 2
        return [f(x) for f in FUNCTIONS.values()], products

    found, expected = (gc.jit(program, threads=threads, debug=debug)(x, m) for debug in ("bounds", False))
    for got, want in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        np.testing.assert_array_equal(got, want)


X, W = np.linspace(0, 1, 256).reshape(16, 16), np.linspace(-1, 1, 256).reshape(16, 16)
IMAGE, KERNEL = np.linspace(0, 1, 1920).reshape(2, 3, 8, 40), np.linspace(-1, 1, 81).reshape(3, 3, 3, 3)
FAR = 1 << 40
#: a program, its arguments, and a change of its schedule that leads outside
FAULTS: dict[str, tuple[Callable[..., Any], Any, Callable[[Schedule], Schedule]]] = {
    "a load": (lambda x, w: np.sin(x) * w, (X, W), lambda s: with_work(s, Nest, lambda n: read_elsewhere(n, 1))),
    "a load before": (lambda x, w: np.sin(x), (X, W), lambda s: with_work(s, Nest, lambda n: read_elsewhere(n, -1))),
    "a store": (lambda x, w: np.sin(x) * w, (X, W), lambda s: with_work(s, Nest, lambda n: stored_elsewhere(n, 1))),
    "a store far away": (
        lambda x, w: np.sin(x), (X, W), lambda s: with_work(s, Nest, lambda n: stored_elsewhere(n, FAR)),
    ),
    "a product": (
        lambda x, w: x @ w, (X, W),
        lambda s: with_work(s, Product, lambda p: replace_view(p, "right", 8)),
    ),
    "a correlation": (
        lambda x, w: gc.nn.conv2d(x, w), (IMAGE, KERNEL),
        lambda s: with_work(s, Correlation, lambda c: replace_view(c, "left", -4)),
    ),
}  # fmt: skip


def replace_view(work: Any, side: str, offset: int) -> Any:
    return replace(work, **{side: replace(getattr(work, side), offset=offset)})


@pytest.mark.parametrize("name", FAULTS)
def test_an_access_outside_is_not_made_and_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, args, change = FAULTS[name]
    plan = cpu.schedule
    monkeypatch.setattr(cpu, "schedule", lambda *a, **k: change(plan(*a, **k)))
    run = gc.jit(f, debug="bounds", threads=1)
    for _ in range(2):
        with pytest.raises(gc.CompileError, match=r"test_bounds.*kernel \d \(.*touches memory outside of its buffers"):
            run(*args)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_a_call_within_a_call_is_refused_and_does_not_wait_for_ever() -> None:
    """From a handler, which runs on the thread of the call; afterwards the function answers."""
    run = gc.jit(lambda n, x: gc.fori_loop(0, n, lambda i, v: v * 0.5 + i, x), debug="bounds")
    expected = run(3, np.ones(70))

    def ring(number: int, frame: Any) -> None:
        run(3, np.ones(70))

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(RuntimeError, match="called again before it ended"):
            run(10**12, np.ones(70))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(run(3, np.ones(70)), expected)


def test_calls_of_threads_take_turns() -> None:
    run = gc.jit(lambda n, x: gc.fori_loop(0, n, lambda i, v: np.sort(v)[::-1] * 0.5 + i, x), debug="bounds", threads=1)
    expected = [run(2000 + k, np.arange(50.0)) for k in range(4)]
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: run(2000 + k, np.arange(50.0))})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(found[k], expected[k]) for k in range(4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_that_was_forked_during_a_call_calls() -> None:
    """The thread that was inside is not in the child."""
    run = gc.jit(lambda n, x: gc.fori_loop(0, n, lambda i, v: v * 0.5 + i, x), debug="bounds")
    run(3, np.ones(70))
    inside = threading.Thread(target=lambda: run(20_000_000, np.ones(70)))
    inside.start()
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        run(3, np.ones(70))
        os._exit(0)
    inside.join()
    assert os.waitpid(child, 0)[1] == 0


def test_what_bounds_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="expected False, True or 'bounds'"):
        gc.jit(np.sin, debug="all")
    with pytest.raises(ValueError, match="compute-sanitizer"):
        gc.compile(np.sin, gc.spec(3), target="sm_90", debug="bounds")
