"""Ctrl-C and other signals while compiled code runs, and other threads meanwhile: what ends, and what holds then.

Nothing here asks a clock how soon: loops without end show that signals end them, and how much work is done between two
looks, or after the one that ends it, is counted (`tests.looks`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.poll import polls, steps_between
from gradc.codegen.status import INTERRUPTED
from gradc.runtime import arena
from gradc.runtime.native import RELEASE_GIL_SECONDS
from tests.compiled_graph import CompiledGraph
from tests.looks import Counted

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")

PROF = getattr(signal, "ITIMER_PROF", 2)


class Alarm(Exception):  # noqa: N818 - not an error
    """What the signal's handler raises."""


def ring(number: int, frame: Any) -> None:
    raise Alarm


@contextmanager
def alarm(seconds: float = 0.02, handler: Callable[[int, Any], None] = ring, clock: int = PROF) -> Iterator[None]:
    """Raise `Alarm` on this thread after so many seconds of this process's work: it works in the call, whoever else
    keeps the machine busy before it.
    """
    number = signal.SIGPROF if clock == PROF else signal.SIGALRM
    before = signal.signal(number, handler)
    try:
        signal.setitimer(clock, seconds)
        yield
    finally:
        signal.setitimer(clock, 0)
        signal.signal(number, before)


def hung() -> AbstractContextManager[None]:
    """Fail where the test would wait for ever."""

    def fail(number: int, frame: Any) -> None:
        pytest.fail("it hangs")

    return alarm(60.0, fail, signal.ITIMER_REAL)


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
        with pytest.raises(Alarm) as caught, alarm():
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


# -- work without a loop of the user's own -----------------------------------------------------------------------------
def ones(*shape: int, dtype: Any = np.float64) -> Any:
    return gc.spec(shape, dtype)


def slow(x: Any) -> Any:
    return np.sin(np.exp(np.cos(np.tanh(np.sin(x)))))


#: Each takes half a second of one core or more; it is ended long before.
LONG: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "a product": (lambda a, b: a @ b, (ones(3000, 3000), ones(3000, 3000))),
    "a product of transposes": (lambda a, b: a.T @ b.T, (ones(3000, 3000), ones(3000, 3000))),
    "a symmetric product": (lambda a: a @ a.T, (ones(3600, 3600),)),
    "a product of stacks": (lambda a, b: a @ b, (ones(3000, 160, 160), ones(3000, 160, 160))),
    "a product and what is made of it": (lambda a, b: slow(slow(slow(a @ b))), (ones(4000, 60), ones(60, 4000))),
    "a correlation of small tiles": (
        lambda x, w: gc.nn.conv2d(x, w),
        (ones(64, 8, 200, 200), ones(8, 8, 3, 3)),
    ),
    "a correlation": (np.convolve, (ones(300_000), ones(100_000))),
    "a correlation of few, long sums": (lambda x, y: np.convolve(x, y, "valid"), (ones(1_004_000), ones(1_000_000))),
    "a pass": (slow, (ones(20_000_000),)),
    "a pass whose outer loop is short": (lambda x: slow(x).T, (ones(3, 14_000_000),)),
    "a sum": (lambda x: np.sum(slow(x)), (ones(20_000_000),)),
    "sums of long rows": (lambda x: np.sum(slow(x), axis=1), (ones(3, 14_000_000),)),
    "sums of columns": (lambda x: np.sum(slow(x), axis=0), (ones(7_000_000, 3),)),
    "sums of short rows": (lambda x: np.sum(slow(x), axis=1), (ones(7_000_000, 3),)),
    "a running sum": (lambda x: np.cumsum(slow(x)), (ones(20_000_000),)),
    "a softmax": (lambda x: slow(x) - np.log(np.exp(slow(x)).sum(axis=1, keepdims=True)), (ones(2000, 5000),)),
    "a sort of many short rows": (lambda x: np.sort(x, axis=1), (ones(2_000_000, 10),)),
    "a search": (np.searchsorted, (ones(1_000_000), ones(25_000_000))),
    "updates": (
        lambda x, i: gc.numpy.asarray(slow(x)).at[i].add(1.0),
        (ones(10_000_000), ones(20_000_000, dtype=np.int64)),
    ),
    "many small factorisations": (np.linalg.inv, (ones(300_000, 12, 12),)),
    "many short passes": (lambda x: [x := np.cumsum(np.sin(x)) for _ in range(400)][-1], (ones(200_000),)),
    "a product in a branch": (lambda a: gc.cond(a[0, 0] < 1, lambda v: v @ v, lambda v: v, a), (ones(3000, 3000),)),
    "many kernels in a step of a loop": (
        lambda x: gc.fori_loop(0, 2, lambda i, v: [v := np.cumsum(np.sin(v)) for _ in range(200)][-1], x),
        (ones(200_000),),
    ),
}


#: Done to the end: what they do between two looks is another thing in each of their stages. Smaller ones hardly look.
STAGES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "a Cholesky factor": (np.linalg.cholesky, (ones(900, 900),)),
    "an elimination": (np.linalg.inv, (ones(600, 600),)),
    "a triangular solve": (gc.linalg.solve_triangular, (ones(900, 900), ones(900, 900))),
    "an orthogonal factor": (np.linalg.qr, (ones(600, 600),)),
    "eigenvectors": (np.linalg.eigh, (ones(350, 350),)),
    "singular vectors": (np.linalg.svd, (ones(300, 300),)),
    "a sort": (np.argsort, (ones(100_000),)),
    "a sort of columns": (lambda x: np.sort(x, axis=0), (ones(10_000, 10),)),
}
#: Instructions, of which a core does three to ten in a nanosecond: nothing does more without a look, or once told to
#: end. All of `STAGES` do more in all, and `LONG` many times more.
MOST = 2**26


@pytest.mark.sampled(2, each=("how",))
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", LONG)
def test_work_that_takes_long_looks_often_and_ends_soon(how: str, threads: int) -> None:
    f, specs = LONG[how]
    counted = Counted(gc.trace(f, *specs), threads)
    args = [np.zeros(x.shape, x.dtype) for x in specs]
    run, _ = counted(*args, limit=50)
    assert run.looks_after and run.status == INTERRUPTED
    assert run.most < MOST and run.late < threads * MOST, run
    assert not any(np.any(x) for x in args[:1])


@pytest.mark.sampled(2, each=("how",))
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", STAGES)
def test_work_in_stages_looks_often_in_each_and_ends_soon(how: str, threads: int) -> None:
    f, specs = STAGES[how]
    counted = Counted(gc.trace(f, *specs), threads)
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(x.shape) for x in specs]
    if len(set(specs[0].shape)) < len(specs[0].shape):
        args[0] = args[0] @ args[0].T + np.eye(len(args[0]))  # what every factorisation takes
    whole, results = counted(*args)
    assert whole.status == 0 and whole.done > MOST > whole.most, whole
    for result, expected in zip(results, CompiledGraph(counted.graph)(*args), strict=True):
        np.testing.assert_array_equal(result, expected)
    for part in (0, whole.looks // 3, whole.looks // 2, whole.looks - 1):
        run, _ = counted(*args, limit=part)
        assert run.status == INTERRUPTED and run.looks_after, (part, run)
        assert run.late < MOST and run.done <= whole.done, (part, run)


def test_first_scratch_is_zeroed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that handlers run between them; all of it is zero."""
    monkeypatch.setattr(arena, "ZEROED_BYTES", 1000)
    lease = arena.Lease(arena.LeaseLayout(1, 0, 1, 4567), [])
    lease.head[arena.HEAD.index("head")] = 0
    assert not lease.block.any()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_update_that_was_ended_says_so_and_a_product_before_it_leaves_the_array_alone(threads: int) -> None:
    def ended(f: Any, *args: Any) -> list[str]:
        step = gc.jit(f, donate=0, threads=threads)
        step.lower(*args)
        with pytest.raises(Alarm) as caught, alarm():
            step(*args)
        return getattr(caught.value, "__notes__", [])

    assert "donated arrays (w)" in ended(lambda w: slow(w), np.zeros(30_000_000))[0]
    w = np.zeros(1000)
    assert ended(lambda w, a: w + np.sum(a @ a), w, np.ones((3000, 3000))) == [] and not w.any()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_looks_computes_the_same(threads: int) -> None:
    """Bit for bit: each against the code of `.save`, which asks nobody."""
    rng = np.random.default_rng(0)
    for f, specs in (
        (lambda a, b: a @ b, (ones(1000, 700), ones(700, 900))),
        (lambda a, b: np.exp(-(a @ b)), (ones(900, 1030), ones(1030, 500))),
        (lambda x: np.cumsum(np.sin(x)) + np.sum(np.cos(x)), (ones(1_000_003),)),
        (lambda x: np.sum(slow(x), axis=1) + np.sum(slow(x), axis=0)[:1], (ones(3001, 500),)),
        (np.convolve, (ones(30_001), ones(10_000))),
        (np.searchsorted, (ones(1001), ones(200_003))),
    ):
        args = [rng.standard_normal(x.shape) for x in specs]
        executable = gc.jit(f, threads=threads).lower(*args)
        assert polls(executable.llvm)
        silent = CompiledGraph(executable.graph)
        np.testing.assert_array_equal(executable(*args), np.asarray(silent(*args)[0]))


def test_only_loops_that_may_be_long_look() -> None:
    def loop(steps: int) -> str:
        return gc.compile(lambda x: gc.fori_loop(0, steps, lambda i, v: v * 0.5 + i, x), 1.0).llvm

    assert not polls(loop(100)) and polls(loop(10**8))
    small = ((lambda a: a @ a, ones(300, 300)), (slow, ones(3000)), (np.searchsorted, ones(100), ones(1000)))
    assert not any(polls(gc.compile(f, *specs).llvm) for f, *specs in small)
    assert steps_between(0.0) > 1000 and steps_between(1e9) == 1


def test_a_saved_function_asks_nobody(tmp_path: Any) -> None:
    gc.jit(forever).lower(1.0).save(tmp_path / "f.ll")
    assert not polls((tmp_path / "f.ll").read_text())


@pytest.mark.parametrize("how", ENDLESS)
def test_other_threads_run_beside_a_loop_of_unknown_length(how: str) -> None:
    """Another thread ends the loop: it can, for it gets to run."""
    f, args = ENDLESS[how]
    executable = gc.jit(f).lower(*args)
    assert executable.native.releases_gil
    called = threading.Event()

    def end() -> None:
        called.wait()
        for _ in range(5):
            time.sleep(1e-4)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=end)
    before = signal.signal(signal.SIGUSR1, ring)
    try:
        thread.start()
        with pytest.raises(Alarm), hung():
            called.set()
            executable(*args)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


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
