"""Ctrl-C and other signals while compiled code runs, and other threads meanwhile: what ends, and what holds then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.poll import polls, steps_between
from gradc.runtime.native import RELEASE_GIL_SECONDS

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")


class Alarm(Exception):  # noqa: N818 - not an error
    """What the signal's handler raises."""


@contextmanager
def alarm(seconds: float = 0.1) -> Iterator[None]:
    """Raise `Alarm` on this thread after so many seconds."""

    def ring(number: int, frame: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def forever(x: Any) -> Any:
    return gc.while_loop(lambda v: v > 0, lambda v: v + 1.0, x)


ENDLESS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "in registers": (forever, (1.0,)),
    "with a traced bound": (lambda n, x: gc.fori_loop(0, n, lambda i, v: np.sin(v) + i, x), (10**12, np.ones(3))),
    "with a known bound, shared by threads": (lambda x: gc.fori_loop(0, 10**12, lambda i, v: v + i, x), (np.ones(64),)),
    "over many vectors": (lambda x: gc.fori_loop(0, 10**12, lambda i, v: v + i, x), (np.ones(6400),)),
    "of kernels": (lambda x: gc.while_loop(lambda v: v[0] > 0, lambda v: np.sort(v) + 1, x), (np.ones(40),)),
    "of loops": (
        lambda x: gc.while_loop(
            lambda v: v > 0, lambda v: v + gc.while_loop(lambda w: w < 50.0, lambda w: w + 1.0, 0.0), x
        ),
        (1.0,),
    ),
    "in a branch": (lambda p, x: gc.cond(p, forever, lambda v: v, x), (True, 1.0)),
    "in a scan": (lambda x: gc.scan(lambda c, _: (forever(c), c), x, None, length=3), (1.0,)),
}


@pytest.mark.parametrize("how", ENDLESS)
@pytest.mark.parametrize("bound", [False, True], ids=["called", "bound"])
def test_a_loop_without_end_is_ended_by_a_signal_and_runs_again(how: str, bound: bool) -> None:
    f, args = ENDLESS[how]
    executable = gc.jit(f, threads=2).lower(*args)
    call = executable.bind(*args) if bound else lambda: executable(*args)
    for _ in range(2):
        with pytest.raises(Alarm) as caught, alarm(0.05):
            call()
        assert not getattr(caught.value, "__notes__", [])


def test_the_portable_way_is_ended_too() -> None:
    native = gc.jit(forever).lower(1.0).native
    with pytest.raises(Alarm), alarm():
        native.call_portable(1.0)


def test_inputs_are_untouched_and_the_function_answers_as_before() -> None:
    f = gc.jit(lambda n, x: gc.fori_loop(0, n, lambda i, v: v * 0.5 + i, x))
    x = np.linspace(0, 1, 300)
    before, answer = x.copy(), f(7, x)
    with pytest.raises(Alarm), alarm():
        f(10**12, x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(f(7, x), answer)


def test_donated_arrays_are_as_before_if_no_update_had_begun() -> None:
    """The update stands behind the loop: an ended step has not begun it."""

    def step(w: Any, n: Any) -> Any:
        size = gc.fori_loop(0, n, lambda i, v: v * 0.5 + 1.0, w.sum())
        return w * 2 + size

    f = gc.jit(step, donate=0)
    w = np.arange(5.0)
    f.lower(w, 3)
    with pytest.raises(Alarm) as caught, alarm():
        f(w, 10**12)
    np.testing.assert_array_equal(w, np.arange(5.0))
    assert not getattr(caught.value, "__notes__", [])


def test_an_error_says_that_donated_arrays_were_being_updated() -> None:
    f = gc.jit(lambda w: gc.fori_loop(0, 10**12 + 1, lambda i, v: np.sort(v) + i, w), donate=0)
    f.lower(np.ones(40))
    with pytest.raises(Alarm) as caught, alarm():
        f(np.ones(40))
    assert "donated arrays (w): they hold neither the old values nor the new ones" in caught.value.__notes__[0]


def test_a_long_sort_is_ended() -> None:
    f = gc.jit(np.argsort)
    x = np.random.default_rng(0).random(1_000_000)
    f.lower(x)
    with pytest.raises(Alarm), alarm(0.02):
        f(x)


def test_only_loops_that_may_be_long_look() -> None:
    def loop(steps: int) -> str:
        return gc.compile(lambda x: gc.fori_loop(0, steps, lambda i, v: v * 0.5 + i, x), 1.0).llvm

    assert not polls(loop(100)) and polls(loop(10**8))
    assert steps_between(0.0) > 1000 and steps_between(1e9) == 1


def test_a_saved_function_asks_nobody(tmp_path: Any) -> None:
    gc.jit(forever).lower(1.0).save(tmp_path / "f.ll")
    assert not polls((tmp_path / "f.ll").read_text())


@pytest.mark.parametrize("how", ENDLESS)
def test_other_threads_run_beside_a_loop_of_unknown_length(how: str) -> None:
    f, args = ENDLESS[how]
    executable = gc.jit(f).lower(*args)
    assert executable.native.releases_gil
    ticks: list[int] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(1)
            time.sleep(1e-4)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        with pytest.raises(Alarm), alarm(0.05):
            before = len(ticks)
            executable(*args)
    finally:
        done.set()
        thread.join()
    assert len(ticks) > before + 5


def test_what_takes_long_lets_other_threads_run_and_what_is_short_does_not() -> None:
    def releases(f: Any, *args: Any) -> bool:
        return gc.jit(f).lower(*args).native.releases_gil

    assert releases(np.sort, gc.spec((100_000,)))
    assert releases(lambda p, x: gc.cond(p, np.sort, lambda v: v, x), gc.spec((), bool), gc.spec((100_000,)))
    assert releases(np.searchsorted, gc.spec((1000,)), gc.spec((10_000,)))
    assert releases(lambda x: gc.while_loop(lambda v: v < 1, lambda v: v + 1, x, max_steps=10**6), 0.0)
    assert not releases(lambda x: gc.while_loop(lambda v: v < 1, lambda v: v + 1, x, max_steps=20), 0.0)
    assert not releases(np.sort, gc.spec((30,)))
    assert not releases(lambda x: np.tanh(x) * 2, gc.spec((100,)))
    assert RELEASE_GIL_SECONDS <= 50e-6


def test_other_threads_are_not_ended() -> None:
    """Python's handlers run on the main thread only; a call elsewhere goes on, and the main thread hears the signal."""
    f = gc.jit(lambda n, x: gc.fori_loop(0, n, lambda i, v: v * 0.5 + i, x))
    f(3, 1.0)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(f(100_000_000, 1.0)))
    thread.start()
    with pytest.raises(Alarm), alarm(0.02):
        while True:
            time.sleep(0.005)
    thread.join()
    assert len(answers) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_is_ended_too() -> None:
    f = gc.jit(forever)
    f.lower(1.0)
    child = os.fork()
    if child == 0:
        try:
            with alarm():
                f(1.0)
        except Alarm:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
