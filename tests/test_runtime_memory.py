"""Who owns which memory, and when: threads, re-entrance, recycled results, reference counts, the compiled entry's own.

Nothing here may ever show a caller memory that a later call writes. Start at `test_large_results_are_recycled`.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from gradc.errors import StorageError
from gradc.runtime import arena, entry, objects
from gradc.runtime.load import Loaded, load
from gradc.runtime.native import NativeFunction
from tests.runtime_harness import (
    FailureError,
    Maker,
    MismatchError,
    affine_ir,
    descend,
    descend_ir,
    describe,
    double_ir,
    make,
    spec,
    through_arena_ir,
)

__all__ = ["make"]


# -- threads and re-entrance ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_many_threads_through_one_function(make: Maker, seconds: float) -> None:
    n = 4096
    ir = through_arena_ir(n).replace("declare void @between()", "")
    f = make(ir, [spec(n)], [spec(n)], arena_bytes=8 * n, seconds_estimate=seconds)
    wrong: list[object] = []

    def hammer(k: int) -> None:
        x = np.full(n, float(k))
        try:
            wrong.extend(k for _ in range(200) if not (f(x)[0] == k).all())
        except BaseException as error:  # a thread's exception would otherwise be lost
            wrong.append(error)

    threads = [threading.Thread(target=hammer, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_large_results_from_many_threads(make: Maker) -> None:
    n = arena.POOLED_BYTES // 8
    f = make(affine_ir(n), [spec(n)], [spec(n)], seconds_estimate=1.0)
    wrong: list[object] = []

    def hammer(k: int) -> None:
        x, last = np.full(n, float(k)), np.full(n, 2.0 * k + 1)
        for _ in range(60):
            (y,) = f(x)
            if not ((y == 2.0 * k + 1).all() and (last == 2.0 * k + 1).all()):
                wrong.append(k)
            last = y

    threads = [threading.Thread(target=hammer, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_a_step_may_be_entered_again_while_it_runs(make: Maker, seconds: float) -> None:
    n, depth, results = 100, [0], []

    @ctypes.CFUNCTYPE(None)
    def between() -> None:
        if depth[0] < arena.BUFFERS_PER_OUTPUT + 70:  # beyond the room of the shared free list
            depth[0] += 1
            k = depth[0]
            results.append((k, f(np.full(n, float(k)))[0]))

    where = ctypes.cast(between, ctypes.c_void_p).value or 0
    ir = through_arena_ir(n, "call void @between()")
    f = make(ir, [spec(n)], [spec(n)], arena_bytes=8 * n, seconds_estimate=seconds, symbols={"between": where})
    assert (f(np.zeros(n))[0] == 0).all()
    assert len(results) == depth[0] and all((y == k).all() for k, y in results)
    depth[0] = 10**6
    assert (f(np.ones(n))[0] == 1).all()


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_a_bound_step_refuses_to_overlap_itself(make: Maker, seconds: float) -> None:
    caught: list[BaseException] = []

    @ctypes.CFUNCTYPE(None)
    def between() -> None:
        try:
            run()
        except RuntimeError as error:
            caught.append(error)

    where = ctypes.cast(between, ctypes.c_void_p).value or 0
    ir = through_arena_ir(3, "call void @between()")
    f = make(ir, [spec(3)], [spec(3)], arena_bytes=24, seconds_estimate=seconds, symbols={"between": where})
    run = f.bind(np.ones(3))
    assert (run()[0] == 1).all() and (run()[0] == 1).all()
    assert len(caught) == 2 and "already running" in str(caught[0])


# -- memory --------------------------------------------------------------------------------------------------------
LARGE = arena.POOLED_BYTES // 8


def base_of(y: np.ndarray[Any, Any]) -> int:
    return int(y.__array_interface__["data"][0])


def test_large_results_are_recycled(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    x = np.zeros(LARGE)
    where = set()
    for _ in range(20):
        (y,) = f(x)
        assert base_of(y) % arena.ALIGNMENT == 0 and y.flags.carray
        where.add(base_of(y))
    assert len(where) <= arena.BUFFERS_PER_OUTPUT


@pytest.mark.parametrize(
    "hold",
    [
        lambda y: y,
        lambda y: y[5:10],
        lambda y: y.reshape(8, -1).T[1:3],
        lambda y: y.view(np.uint8)[::3],
        memoryview,
        lambda y: np.frombuffer(y, np.float32),
        lambda y: np.asarray(memoryview(y)[16:32]),
        lambda y: np.lib.stride_tricks.as_strided(y, (4,), (8,)),
        lambda y: y.ctypes,
        lambda y: np.from_dlpack(y),
        lambda y: iter(y),
        lambda y: y.flat,
        lambda y: (ctypes.c_double * 4).from_buffer(y),
    ],
    ids=["array", "slice", "transposed", "bytes", "memoryview", "frombuffer", "part", "as_strided", "ctypes", "dlpack",
         "iterator", "flat", "from_buffer"],
)  # fmt: skip
def test_memory_the_caller_still_sees_is_never_reused(make: Maker, hold: Callable[[Any], Any]) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    held = [hold(f(np.full(LARGE, float(k)))[0]) for k in range(4)]
    for k in range(10, 20):
        f(np.full(LARGE, float(k)))
    for k, h in enumerate(held):
        expected = hold(np.full(LARGE, 2.0 * k + 1))
        if hasattr(h, "data_as"):
            assert h.data_as(ctypes.POINTER(ctypes.c_double))[7] == 2.0 * k + 1
        else:
            np.testing.assert_array_equal(np.array(list(h)).ravel()[:4], np.array(list(expected)).ravel()[:4])


def test_what_the_caller_did_to_a_dropped_result_does_not_come_back(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    x = np.zeros(LARGE)
    for _ in range(6):
        (y,) = f(x)
        assert y.flags.writeable
        y.flags.writeable = False
        gone = weakref.ref(y)
        del y
        assert gone() is None


def test_trim_lets_go_and_keeps_results(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    (y,) = f(np.ones(LARGE))
    f.trim()
    for k in range(4):
        assert (f(np.full(LARGE, float(k)))[0] == 2 * k + 1).all()
    assert (y == 3.0).all()


def test_memory_that_cannot_be_had_is_a_memory_error(make: Maker) -> None:
    huge = spec(2**57)  # more than any address space
    f = make(affine_ir(1), [spec(1)], [spec(1), huge])
    for _ in range(3):
        with pytest.raises(MemoryError):
            f(np.zeros(1))


def test_pool_take_never_waits_for_itself() -> None:
    pool = arena.OutputPool(spec(LARGE))
    with pool._lock:
        pool.clear()
        assert pool.take().shape == (LARGE,)


def test_pools_stay_within_their_limit() -> None:
    half = spec(arena.POOL_LIMIT // (2 * arena.BUFFERS_PER_OUTPUT) // 8)
    pools = arena.make_pools([half, spec(3), half, half])
    if arena._IDLE is None:
        assert pools == [None] * 4
    else:
        assert [p is not None for p in pools] == [True, False, True, False]


def test_calls_leave_reference_counts_alone(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    plain, number = make(affine_ir(3), [spec(3)], [spec(3)]), make(double_ir(), [spec()], [spec()])
    large = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    w, g, rate, x, big, s = np.ones(5), np.zeros(5), np.float64(0.5), np.ones(3), np.ones(LARGE), np.array(2.0)
    run = f.bind(w, g, rate)
    frozen = x[::-1]

    def work(rounds: int) -> None:
        for _ in range(rounds):
            f(w, g, rate)
            plain(x)
            number(s)
            number(1.5)
            run()
            for call in (lambda: plain(None), lambda: plain(frozen), lambda: f(w, w, rate), lambda: f(w, g, -1.0)):
                with suppress(MismatchError, StorageError, FailureError):
                    call()
        for _ in range(rounds // 20):
            large(big)

    watched = {"None": None, "float64": np.dtype(np.float64), "w": w, "g": g, "rate": rate, "x": x, "big": big, "s": s,
               "True": True, "0": 0, "tuple": (), "f": f, "plain": plain, "entry": f.entry, "run": run}  # fmt: skip
    work(5)
    gc.collect()
    before = {name: sys.getrefcount(value) for name, value in watched.items()}
    work(2500)
    gc.collect()
    after = {name: sys.getrefcount(value) for name, value in watched.items()}
    leaked = {name: after[name] - before[name] for name in watched if abs(after[name] - before[name]) > 50}
    assert not leaked


def test_calls_leave_no_blocks_behind(make: Maker) -> None:
    f = descend(make)
    w, g = np.ones(5), np.ones(5)

    def work() -> int:
        for _ in range(500):
            f(w, g, 0.5)
            with suppress(FailureError):
                f(w, g, -1.0)
            with suppress(MismatchError):
                f(w, 10**400, 0.5)
        gc.collect()
        return sys.getallocatedblocks()

    work()
    assert work() - work() > -100


def test_calls_in_turn_share_one_lease(make: Maker) -> None:
    f = descend(make)
    lease = f.portable.leases.take()
    f.portable.leases.give(lease)
    for rate in (0.5, -1.0, np.array(1.0), None):
        with suppress(FailureError, MismatchError):
            f(np.ones(5), np.ones(5), rate)
    assert f.portable.leases.take() is lease


def test_a_dropped_function_is_collected(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    f(np.ones(5), np.ones(5), 0.5)
    gone, entry_point = weakref.ref(f.portable), f.entry
    del f
    gc.collect()
    assert gone() is not None
    w = np.ones(5)
    assert entry_point(w, np.ones(5), 0.5)[0] is w
    del entry_point
    gc.collect()
    assert gone() is None


# -- the compiled entry itself -------------------------------------------------------------------------------------
def test_the_rehearsal_notices_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    machinery = entry.get_machinery()
    if machinery is None:
        pytest.skip("no compiled entry on this interpreter")
    assert entry._rehearse(machinery)
    wrong: Loaded = load(entry.module_text().replace("fmul double", "fadd double"), entry.code.PROBE,
                         symbols=objects.probe().symbols)  # type: ignore[union-attr]  # fmt: skip
    broken = dataclasses.replace(machinery, probe_address=wrong.address, keep=(machinery.keep, wrong))
    assert not entry._rehearse(broken)


def test_ordinary_calls_do_not_take_the_slow_way() -> None:
    if objects.probe() is None:
        pytest.skip("no compiled entry on this interpreter")
    loaded = load(descend_ir(5), "step")
    inputs = [spec(5), spec(5), spec()]
    f = NativeFunction(
        loaded.address, inputs, [spec(5)], 0, {0: 0}, [], describe, lambda i, x: MismatchError(), owner=loaded
    )
    f(np.ones(5), np.ones(5), 0.5)
    f.portable.leases.give(f.portable.leases.take())
    f.portable.inputs = ()  # the portable path would now refuse every call
    for rate in (0.5, 1, np.float64(0.5), np.array(0.5)):
        f.entry(np.ones(5), np.ones(5), rate)
    with pytest.raises(TypeError):
        f.entry(np.ones(5)[::-1], np.ones(5), 0.5)


def test_without_the_object_model_calls_go_the_portable_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_is_known_interpreter", lambda: False)
    assert objects.probe.__wrapped__() is None
    x = np.arange(5.0)[2:]
    assert objects._choose_address()(x) == objects.address(x) == x.ctypes.data
    monkeypatch.setattr(entry, "get_machinery", lambda: None)
    loaded = load(affine_ir(3), "step")
    f = NativeFunction(
        loaded.address, [spec(3)], [spec(3)], 0, {}, [], describe, lambda i, x: MismatchError(), owner=loaded
    )
    assert not f.is_fast
    np.testing.assert_array_equal(f(x)[0], 2 * x + 1)
    np.testing.assert_array_equal(f.bind(x)()[0], 2 * x + 1)
