"""Threads share work and change nothing: the same bits for any number of them, the same failures, and no trouble with
forks, other Python threads, or the end of the interpreter.

Work is shared here however small it is (`everything_is_shared`), so that every kind of cut is met at sizes of a test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradc as gc
import gradc.numpy as gnp
from gradc.codegen.fork import FORK
from gradc.codegen.gemm import Gemm, gemm_cut
from gradc.codegen.gemm.cut import Along
from gradc.codegen.target import Target
from gradc.runtime import pool, pool_code, threads
from gradc.schedule import split
from tests.compiled_graph import CompiledGraph, same_bits
from tests.programs import programs

Array = np.ndarray[Any, Any]
#: A fixed machine, where it matters what a plan says.
TARGET = Target.of("x86_64-unknown-linux-gnu", "x86-64-v4")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="module")
def everything_is_shared() -> Iterator[None]:
    """A fork always pays, and vectors of the lane axis stay together, but no more."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("FORK_SECONDS", 0.0), ("THREAD_SECONDS", 1e-12), ("PIECE_SECONDS", 1e-12), ("LANE_GRAIN", 1)
        ):  # fmt: skip
            patch.setattr(split, name, value)
        patch.setenv("GRADC_CACHE", "0")  # what is cut otherwise must not be known to other tests
        yield


def normal(*shape: int, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def softmax(x: Any) -> Any:
    e = gnp.exp(x - gnp.max(x, axis=-1, keepdims=True))
    return e / gnp.sum(e, axis=-1, keepdims=True)


# -- the same bits -----------------------------------------------------------------------------------------------------
CASES: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "map": (lambda x: np.sin(x) * x, (normal(10007, dtype=np.float32),)),
    "map of bools": (lambda x: x > 0.5, (normal(1003),)),
    "transposed map": (lambda x: x.transpose(2, 1, 0) * 2, (normal(6, 300, 7),)),
    "broadcast": (lambda x, y: x + y, (normal(300, 40), normal(40))),
    "sum of all": (lambda x: x.sum(), (normal(100_003, dtype=np.float32),)),
    "sum of whole blocks": (lambda x: x.sum(), (normal(2**16),)),
    "sum of rows of blocks": (lambda x: x[:, ::2, :30].sum(), (normal(5, 60, 1000),)),
    "sum of short rows": (lambda x: x[:, ::2, :3].sum(), (normal(5, 600, 7),)),
    "sum over a middle axis": (lambda x: x.sum(axis=(0, 2)), (normal(6, 300, 7),)),
    "columns, one vector of them": (lambda x: x.sum(axis=0), (normal(5000, 8),)),
    "columns, part of a vector": (lambda x: x.sum(axis=0), (normal(5000, 5),)),
    "columns, many": (lambda x: x.mean(axis=0), (normal(100, 203, dtype=np.float32),)),
    "rows": (lambda x: x.mean(axis=1), (normal(203, 100, dtype=np.float32),)),
    "largest": (lambda x: (x.max(), np.argmax(x), np.argmin(x)), (normal(20_011),)),
    "any and all": (lambda x: ((x > 3).any(), (x < 9).all()), (normal(20_011),)),
    "product": (lambda x: np.prod(1 + x / 1e4), (normal(20_011),)),
    "variance": (lambda x: np.var(x), (normal(20_011),)),
    "softmax of rows": (softmax, (normal(77, 130, dtype=np.float32),)),
    "softmax of one long row": (softmax, (normal(30_001, dtype=np.float32),)),
    "softmax of two long rows": (softmax, (normal(2, 30_001),)),
    "running sum": (lambda x: np.cumsum(x, axis=1), (normal(6, 300, 7),)),
    "gather": (lambda x, i: x[i] * 2, (normal(500, 8), np.arange(777) % 500)),
    "scatter": (lambda c, x, i: c.at[i].add(x), (normal(500, 8), normal(777, 8), np.arange(777) % 500)),
    "scatter of rows": (lambda c, x, i: c.at[i].add(x), (normal(50, 64), normal(777, 64), np.arange(777) * 7 % 50)),
    "scatter of columns": (
        lambda c, x, i: c.at[:, i].max(x),
        (normal(64, 50), normal(64, 300), np.arange(300) * 7 % 50),
    ),
    "pieces": (lambda x, y: np.concatenate([x, y]) * 3, (normal(900, 3), normal(70, 3))),
    "padding": (lambda x: np.pad(x, 2).sum(axis=1), (normal(400, 9),)),
    "sorted": (lambda x: (np.sort(x, axis=1), np.argsort(x, axis=0)), (normal(30, 50),)),
    "searched": (lambda x, v: np.searchsorted(np.sort(x), v), (normal(300), normal(500))),
    "integers": (lambda x: ((x * 7) % 11).sum(), (np.arange(30_011),)),
    "matrices": (lambda x, y: np.tanh(x @ y) + 1, (normal(130, 70), normal(70, 90))),
    "convolutions": (
        lambda x, w: gc.nn.conv2d(np.tanh(gc.nn.conv2d(x, w[:4, :3])), w[:, :4], padding=1),
        (normal(6, 3, 12, 12, dtype=np.float32), normal(8, 4, 3, 3, dtype=np.float32)),
    ),
    "gradient of a convolution": (
        lambda x, w: gc.grad(lambda w: (gc.nn.conv2d(x, w) ** 2).sum())(w),
        (normal(6, 3, 12, 12, dtype=np.float32), normal(8, 3, 3, 3, dtype=np.float32)),
    ),
    "batches": (lambda x, y: x @ y, (normal(12, 30, 20), normal(12, 20, 25))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    f, args = CASES[name]
    alone = gc.compile(f, *args, threads=1)
    expected = leaves(alone(*args))
    assert FORK not in alone.llvm
    for count in (2, 3, 8):
        together = gc.compile(f, *args, threads=count)
        for _ in range(3):
            for x, y in zip(expected, leaves(together(*args)), strict=True):
                assert same_bits(x, y), f"{name} with {count} threads"


def bias(x: Any, y: Any) -> Any:
    return np.tanh(x @ y + 1)


#: (m, k, n): the products of a network, skinny ones, one of several blocks of k, one whose last tiles are moved up, one
#: whose last column is computed on its own.
PRODUCTS = {
    (130, 70, 90): Along.ROWS, (14, 200, 400): Along.COLUMNS, (700, 700, 300): Along.ROWS, (29, 300, 31): Along.ROWS,
    (1, 900, 512): Along.COLUMNS, (110, 120, 97): Along.ROWS,
}  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", ["NN", "TN", "NT", "TT", "epilogue", "transposed result"])
@pytest.mark.parametrize("shape", PRODUCTS)
def test_products_in_blocks(shape: tuple[int, int, int], form: str) -> None:
    m, k, n = shape
    x = normal(k, m, dtype=np.float32).T if form in ("TN", "TT") else normal(m, k, dtype=np.float32)
    y = normal(n, k, dtype=np.float32).T if form in ("NT", "TT") else normal(k, n, dtype=np.float32)

    def product(x: Any, y: Any) -> Any:
        a = x.T if form in ("TN", "TT") else x
        b = y.T if form in ("NT", "TT") else y
        return bias(a, b) if form == "epilogue" else (a @ b).T * 2 if form == "transposed result" else a @ b

    args = (x.T.copy() if form in ("TN", "TT") else x, y.T.copy() if form in ("NT", "TT") else y)
    expected = gc.compile(product, *args, threads=1)(*args)
    for count in (2, 5):
        assert same_bits(gc.compile(product, *args, threads=count)(*args), expected)


@pytest.mark.parametrize(("shape", "along"), PRODUCTS.items())
def test_which_blocks_of_a_product_are_shared(shape: tuple[int, int, int], along: Along) -> None:
    m, k, n = shape
    gemm = Gemm(m, n, k, "float32", (k, 1), (n, 1), (n, 1))
    cut = gemm_cut(gemm, TARGET, fold=True, wanted=8, threads=2)
    assert cut is not None and cut.along is along and 2 <= cut.pieces <= 8
    batch = Gemm(m, n, k, "float32", (k, 1), (n, 1), (n, 1), (8,), (m * k,), (k * n,), (m * n,))
    many = gemm_cut(batch, TARGET, fold=False, wanted=8, threads=8)
    assert many is not None and (many.along, many.pieces) == (Along.BATCH, 8)


def test_a_product_of_one_tile_is_not_shared() -> None:
    assert gemm_cut(Gemm(4, 16, 500, "float32", (500, 1), (16, 1), (16, 1)), TARGET, True, 8, 2) is None


def leaves(result: Any) -> list[Array]:
    return [np.asarray(x) for x in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize(
    "name", ["map", "scatter of rows", "sum of all", "columns, many", "softmax of rows", "softmax of one long row"]
)
def test_the_work_is_really_shared(name: str) -> None:
    f, args = CASES[name]
    shared = gc.compile(f, *args, threads=2)
    assert FORK in shared.llvm and "by 2 threads" in str(shared.schedule)
    assert shared.stats["threads"] == 2
    shared(*args)
    before = crew().forks
    shared(*args)
    assert crew().forks > before


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=30)
def test_random_programs(dtype: Any, data: st.DataObject) -> None:
    program = data.draw(programs(dtype))
    alone = CompiledGraph(program.graph)(*program.arrays)
    shared = CompiledGraph(program.graph, threads=3)(*program.arrays)
    assert all(same_bits(x, y) for x, y in zip(alone, shared, strict=True)), repr(program)


def test_a_training_step_in_place() -> None:
    def loss(p: Any, x: Any, y: Any) -> Any:
        h = gc.nn.relu(x @ p["w"] + p["b"])
        return gc.nn.cross_entropy(h @ p["v"], y)

    x, y = normal(64, 40, dtype=np.float32), np.arange(64) % 10
    found = []
    for count in (1, 2, 5):
        p = {"w": normal(40, 33, dtype=np.float32), "b": normal(33, dtype=np.float32),
             "v": normal(33, 10, dtype=np.float32)}  # fmt: skip
        optimizer = gc.optim.adam(1e-2)
        step = gc.train_step(loss, optimizer, threads=count)
        state = optimizer.init(p)
        for _ in range(5):
            p, state, value = step(p, state, x, y)
        found.append([*p.values(), value])
    assert all(same_bits(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_debug_locations_name_the_nodes_of_shared_work() -> None:
    f, args = CASES["softmax of one long row"]
    shared = gc.compile(f, *args, threads=2, debug=True)
    assert same_bits(shared(*args), gc.compile(f, *args, threads=1)(*args))
    locations = shared.locations
    assert locations is not None
    tasks = [k + 1 for k, place in enumerate(locations.found) if ".task" in place.function]
    assert tasks and all(locations.nodes(number) for number in tasks)


# -- failures ----------------------------------------------------------------------------------------------------------
def test_the_first_failure_is_reported_whoever_finds_it() -> None:
    def f(x: Any, i: Any, j: Any) -> Any:
        return x[i] + x[j]

    x = normal(50, 30)
    i, j = np.arange(2000) % 50, np.arange(2000) % 50
    i[1500], j[700] = 99, 99
    messages = set()
    for count in (1, 2, 7):
        compiled = gc.compile(f, x, i, j, threads=count)
        for _ in range(20):
            with pytest.raises(IndexError) as caught:
                compiled(x, i, j)
            messages.add(str(caught.value))
    assert len(messages) == 1
    j[700] = 1
    with pytest.raises(IndexError) as caught:
        compiled(x, i, j)
    i[1500] = 1
    assert same_bits(compiled(x, i, j), x[i] + x[j])


# -- many callers ------------------------------------------------------------------------------------------------------
def test_many_python_threads_share_the_pool() -> None:
    names = ("map", "sum of all", "softmax of one long row", "columns, one vector of them", "matrices")
    jobs = [(gc.compile(f, *a, threads=t), a) for f, a in map(CASES.__getitem__, names) for t in (2, 4)]
    expected = [leaves(f(*a)) for f, a in jobs]
    wrong: list[object] = []

    def hammer(k: int) -> None:
        try:
            for n in range(60):
                f, args = jobs[(k + n) % len(jobs)]
                found = leaves(f(*args))
                if not all(same_bits(x, y) for x, y in zip(expected[(k + n) % len(jobs)], found, strict=True)):
                    wrong.append((k, n))
        except BaseException as error:  # a thread's exception would otherwise be lost
            wrong.append(error)

    crowd = [threading.Thread(target=hammer, args=(k,)) for k in range(8)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert not wrong


def crew() -> pool.Pool:
    found = pool.prepare(2)
    assert found is not None
    return found


def test_workers_sleep_and_wake() -> None:
    f, args = CASES["softmax of one long row"]
    shared = gc.compile(f, *args, threads=3)
    expected = shared(*args)
    for _ in range(5):
        time.sleep(20 * pool.SPIN_SECONDS)
        assert same_bits(shared(*args), expected)


def test_workers_leave_and_come_again() -> None:
    f, args = CASES["map"]
    shared = gc.compile(f, *args, threads=4)
    expected = shared(*args)
    workers = crew().workers
    assert workers >= 3 and crew().word("alive").value == workers
    pool.prepare(1).stop()  # type: ignore[union-attr]
    assert pool._open().word("alive").value == 0  # type: ignore[union-attr]
    assert same_bits(shared(*args), expected)  # alone
    pool.prepare(workers + 1)
    assert crew().word("alive").value == workers
    assert same_bits(shared(*args), expected)


def test_where_there_are_no_threads_functions_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    f, args = CASES["softmax of one long row"]
    expected = gc.compile(f, *args, threads=2)(*args)
    monkeypatch.setattr(pool, "_open", lambda: None)
    before = crew_forks()
    assert same_bits(gc.compile(f, *args, threads=2)(*args), expected)
    assert crew_forks() == before


def crew_forks(find: Any = pool._open) -> int:
    return int(find().forks)


def test_a_machine_that_cannot_say_pause_or_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module for an unknown architecture still compiles here, and its fork-join still joins."""
    monkeypatch.setattr(pool, "target_info", lambda: type("Info", (), {"triple": "vax-unknown-none"}))
    monkeypatch.setattr(pool, "_yield_symbol", dict)
    monkeypatch.setattr(pool, "_open", pool._open.__wrapped__)
    monkeypatch.setattr(pool.atexit, "register", lambda *_: None)
    monkeypatch.setattr(pool.os, "register_at_fork", lambda **_: None, raising=False)
    other = pool._open()
    assert other is not None
    other.grow(2)
    monkeypatch.setattr(pool, "_open", lambda: other)
    f, args = CASES["sum of all"]
    shared = gc.compile(f, *args, threads=3)
    expected = gc.compile(f, *args, threads=1)(*args)
    for _ in range(50):
        assert same_bits(shared(*args), expected)
    assert other.forks >= 50
    other.stop()
    assert other.word("alive").value == 0


# -- processes ---------------------------------------------------------------------------------------------------------
PROGRAM = """
    import multiprocessing, os, sys
    import numpy as np
    import gradc as gc
    from gradc.schedule import split
    split.FORK_SECONDS = 0.0
    os.environ["GRADC_CACHE"] = "0"

    x = np.linspace(0.0, 1.0, 50_000)
    step = gc.jit(lambda x: (np.sin(x) * x).sum(), threads=3)

    def run(_):
        from gradc.runtime import pool
        before = pool.prepare(3).forks
        return float(step(x)), pool.prepare(3).forks > before
"""


def python(program: str, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", *args, "-"], input=textwrap.dedent(program), text=True,
        capture_output=True, timeout=120, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_workers_of_its_own() -> None:
    out = python(
        PROGRAM
        + """
    here = run(0)
    assert here[1], "the parent shares its work"
    with multiprocessing.get_context("fork").Pool(2) as children:
        assert children.map(run, range(4)) == [here] * 4
    pid = os.fork()
    if pid == 0:
        os._exit(0 if run(0) == here else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert run(0) == here
    print("fine")
    """
    )
    assert out == "fine\n"


def test_the_interpreter_ends_while_workers_work() -> None:
    out = python(
        PROGRAM
        + """
    import threading
    big = np.linspace(0.0, 1.0, 2_000_000)
    expected = step(big)

    def forever():
        while True:
            assert step(big) == expected

    threading.Thread(target=forever, daemon=True).start()
    run(0)
    print("fine")
    """
    )
    assert out == "fine\n"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_step_ends_first() -> None:
    out = python(
        PROGRAM
        + """
    import signal
    big = np.linspace(0.0, 1.0, 1_000_000)
    expected = step(big)
    caught = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may start with it ignored
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    for _ in range(5):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            while True:
                assert step(big) == expected
        except KeyboardInterrupt:
            caught += 1
    assert step(big) == expected
    print(caught)
    """
    )
    assert out == "5\n"


# -- options -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("given", [0, -1, True, 2.0, "2", 100_000])
def test_what_is_no_number_of_threads_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"threads=.*expected a whole number from 1 to 1024"):
        gc.jit(np.sin, threads=given)


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("4,2", 4), (" 2 ", 2), ("999999", threads.MOST_THREADS)])
def test_omp_num_threads_is_the_default(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert gc.jit(np.sin).lower(np.ones(3)).stats["threads"] == expected
    assert gc.compile(np.sin, np.ones(3), threads=1).stats["threads"] == 1


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "2x"])
def test_else_the_cpus_that_the_process_may_use(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    monkeypatch.setattr(threads, "quota_cpus", lambda: threads.MOST_THREADS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert threads.default_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.default_threads() == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, threads.MOST_THREADS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, threads.MOST_THREADS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            threads.MOST_THREADS,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, threads.MOST_THREADS),
        ({"proc/self/cgroup": "garbage\n"}, threads.MOST_THREADS),
    ],
)
def test_the_quota_of_a_container_counts(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.quota_cpus(tmp_path) == expected


def test_no_more_threads_than_the_quota_gives_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "quota_cpus", lambda: 3)
    assert threads.default_threads() == 3


def test_artefacts_call_nothing(tmp_path: Path) -> None:
    f, args = CASES["map"]
    shared = gc.compile(f, *args, threads=4)
    shared.save(tmp_path / "f.ll")
    assert FORK not in (tmp_path / "f.ll").read_text() and FORK in shared.llvm


def test_every_word_of_the_pool_has_its_place() -> None:
    assert max(pool_code.WORDS.values()) + 8 <= 512 and len({*pool_code.WORDS.values()}) == len(pool_code.WORDS)
    assert threads.MOST_THREADS - 1 <= pool_code.MOST_WORKERS
