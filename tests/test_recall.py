"""A known graph becomes a callable without any stage in between, and an unknown one never gets another's code.

Each test has a cache of its own.  That stages did not run is seen in `.stats`, which has seconds of those that did.
"""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.api.executable import Executable
from gradc.graph import Graph
from gradc.machines import recall
from gradc.machines.options import Options
from gradc.node import Node, Where
from gradc.ops.record import Kind, Op
from gradc.runtime import cache
from gradc.trace import trace
from tests.compiled_graph import same_bits

STAGES = {"optimise", "lower", "schedule", "emit"}
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compiled(f: Callable[..., Any], *args: Any, **options: Any) -> Executable:
    return gc.compile(f, *args, **options)


def is_recalled(executable: Executable) -> bool:
    walked = STAGES & executable.stats["seconds"].keys()
    assert not walked or walked == STAGES
    return not walked


def softmax_loss(w: Any, x: Any, y: Any) -> Any:
    return gc.value_and_grad(lambda w: gc.nn.cross_entropy(np.tanh(x @ w), y))(w)


ARGS = (np.linspace(-1, 1, 60).reshape(6, 10), np.linspace(0, 2, 30).reshape(5, 6), np.arange(5))


def test_the_second_compilation_runs_no_stage() -> None:
    first, second = compiled(softmax_loss, *ARGS), compiled(softmax_loss, *ARGS)
    assert not is_recalled(first) and is_recalled(second)
    assert second.stats["cached"] and {"key", "entry", "llvm link"} <= second.stats["seconds"].keys()
    for a, b in zip(first(*ARGS), second(*ARGS), strict=True):
        assert same_bits(a, b)
    same = ("flops", "bytes", "arena_bytes", "kernels", "threads", "fp", "notes")
    assert {k: first.stats[k] for k in same} == {k: second.stats[k] for k in same}


def test_stages_are_walked_when_somebody_asks() -> None:
    first, second = compiled(softmax_loss, *ARGS), compiled(softmax_loss, *ARGS)
    assert second.llvm == first.llvm and str(second.schedule) == str(first.schedule)
    assert second.asm == first.asm and "vector" not in repr(second)
    assert not is_recalled(second)  # by now


def test_another_process_recalls_too() -> None:
    program = (
        "import numpy as np, gradc as gc\n"
        "e = gc.compile(lambda x: np.sin(x) * x[::-1] + np.arange(100.0), np.ones(100), threads=1)\n"
        "print(sorted(e.stats['seconds']), e(np.ones(100)).sum())\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        for _ in range(2)
    ]
    assert "schedule" in runs[0] and "schedule" not in runs[1] and runs[0].split("]")[1] == runs[1].split("]")[1]


def test_an_executable_travels_to_another_process(tmp_path: Path) -> None:
    """As `multiprocessing` sends it to a child made by spawn."""
    there = tmp_path / "travelled.py"
    there.write_text(
        "import multiprocessing, numpy as np, gradc as gc\n"
        "def scaled(p, x):\n    return {'y': np.tanh(p['w'] @ x), 'n': x.sum()}\n"
        "if __name__ == '__main__':\n"
        "    args = {'w': np.ones((3, 4))}, np.arange(4.0)\n"
        "    step = gc.compile(scaled, *args)\n"
        "    here = step(*args)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        away = pool.apply(step, args)\n"
        "        assert pool.apply(str, (step,)).startswith('<compiled scaled(')\n"
        "    assert here.keys() == away.keys() and (here['y'] == away['y']).all() and here['n'] == away['n']\n"
        "    print('fine')\n"
    )
    run = subprocess.run(
        [sys.executable, str(there)], capture_output=True, text=True, cwd=ROOT, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "fine\n"), run.stderr


def test_a_long_graph_travels() -> None:
    def chain(x: Any) -> Any:
        for _ in range(3000):
            x = np.sin(x)
        return x

    graph = trace(chain, np.ones(3))
    again = pickle.loads(pickle.dumps(graph))
    assert str(again) == str(graph) and again.nodes[-1].where == graph.nodes[-1].where


def test_errors_name_the_line_as_before() -> None:
    def f(x: Any, i: Any) -> Any:
        return np.exp(x)[i]

    messages = []
    for _ in range(2):
        executable = compiled(f, np.ones(4), np.arange(3))
        with pytest.raises(IndexError) as caught:
            executable(np.ones(4), np.array([0, 9, 0]))
        messages.append(str(caught.value))
        with pytest.raises(ValueError, match="x has shape"):
            executable(np.ones(5), np.arange(3))
    assert messages[0] == messages[1] and "test_recall.py" in messages[0]


def test_donation_works_as_before() -> None:
    for _ in range(2):
        step = compiled(lambda p, g: p - 0.5 * g, np.ones(9), np.ones(9), donate=(0,))
        p = np.ones(9)
        assert step(p, np.ones(9)) is p and (p == 0.5).all()
    assert is_recalled(step)


@pytest.mark.parametrize("size", [5, 100, 100_000])
def test_captured_arrays_are_part_of_the_key_and_of_what_is_recalled(size: int) -> None:
    table = np.linspace(0, 1, size)

    def f(i: Any, t: Any) -> Any:
        return (i * t + t)[i]

    ones = [compiled(lambda i, t=t: f(i, t), np.array(3)) for t in (table, table.copy(), table + 1)]
    assert [is_recalled(e) for e in ones] == [False, True, False]
    values = [float(e(np.array(3))) for e in ones]
    assert values[0] == values[1] and values[2] == pytest.approx(values[0] + 4)


def key(f: Callable[..., Any], *args: Any, **options: Any) -> str | None:
    return recall.graph_key(trace(f, *args), Options(**{"threads": 1, **options}))


def test_what_makes_another_object_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    x, narrow = np.ones(4), np.ones(4, np.float32)
    keys = [
        key(lambda x: x + 1, x),
        key(lambda x: x + 2, x),
        key(lambda x: x + True, x),
        key(lambda x: x * 1, x),
        key(lambda x: x + 0.0, x),
        key(lambda x: x + -0.0, x),
        key(lambda x: x + np.nan, x),
        key(lambda x: 1 - x, x),
        key(lambda x: x - 1, x),
        key(lambda x: x + 1, narrow),
        key(lambda x: x + 1, np.ones(5)),
        key(lambda x: x + 1, np.ones((2, 2))),
        key(lambda x: x + 1, 1.0),
        key(lambda x: x + 1, np.float64(1.0)),
        key(lambda x: x.sum(), x),
        key(lambda x: x[1:], x),
        key(lambda x: x[:-1], x),
        key(lambda x: (x, x + 1), x),
        key(lambda x: (x + 1, x), x),
        key(lambda x: x + np.arange(4.0), x),
        key(lambda x: x + np.arange(4), x),
        key(lambda x: x + np.array([0.0, 1.0, 2.0, 4.0]), x),
        key(lambda x, y: x - y, x, x),
        key(lambda x, y: y - x, x, x),
        key(lambda x: x + 1, x, fp="fast"),
        key(lambda x: x + 1, x, threads=2),
        key(lambda x: x + 1, x, donate={0: 0}),
    ]
    assert None not in keys and len(set(keys)) == len(keys)
    assert key(lambda y: 1 + y, x) == key(lambda x: 1 + x, x), "names do not matter"
    monkeypatch.setattr(recall, "_state_of_the_compiler", lambda: "another state")
    assert key(lambda x: x + 1, x) not in keys


def test_the_bodies_of_loops_are_part_of_the_key() -> None:
    def looping(step: Callable[[Any], Any], times: int = 5, table: float = 0.0) -> str | None:
        def f(x: Any) -> Any:
            return gc.fori_loop(0, times, lambda i, c: step(c) + np.full(4, table), x)

        return key(f, np.ones(4))

    keys = [looping(np.sin), looping(np.cos), looping(np.sin, 6), looping(np.sin, 5, 1.0), looping(np.sin, 5, -0.0)]
    assert None not in keys and len(set(keys)) == len(keys) and looping(np.sin) == keys[0]


def test_an_op_from_elsewhere_has_no_key() -> None:
    """Its meaning may change with its file, of which the key would know nothing."""
    x = trace(lambda x: x, np.ones(3)).inputs[0]
    own = Op(name="own", kind=Kind.ELEMENTWISE, infer=lambda a: a, numpy=np.sin, lower=lambda b, v: b.add(v, v))
    graph = Graph((x,), (Node(own, (x,), {}, x.aval, Where("model.py", 1, "f")),))
    assert recall.graph_key(graph, Options()) is None


def test_an_attribute_of_an_unknown_kind_has_no_key() -> None:
    x = trace(lambda x: x, np.ones(3)).inputs[0]
    graph = trace(lambda x: np.exp(x), np.ones(3))
    node = graph.outputs[0]
    strange = Graph((x,), (Node(node.op, (x,), {"strange": object()}, node.aval, node.where),))
    assert recall.graph_key(strange, Options()) is None


def test_whoever_wants_to_see_the_stages_has_them_run() -> None:
    graph = trace(lambda x: np.exp(x) + 1, np.ones(3))
    runs: list[list[str]] = [[], []]
    for seen in runs:
        Executable(graph, Options(observe=lambda name, before, after, seen=seen: seen.append(name)))  # type: ignore[misc]
    assert runs[0] == runs[1] and "simplify" in runs[0]
    assert not is_recalled(Executable(graph, Options(check=True)))
    assert not is_recalled(Executable(graph, Options(debug=True)))
    assert not is_recalled(Executable(graph, Options(recall=False)))
    assert not is_recalled(Executable(graph)) and is_recalled(Executable(graph))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*.obj"), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:70] + b"?" + d[71:], lambda d: b"", lambda d: d[:9]])
@pytest.mark.parametrize("which", [0, -1], ids=["record", "object"])
def test_a_damaged_file_is_rebuilt(damage: Callable[[bytes], bytes], which: int, own_cache: Path) -> None:
    f = compiled(softmax_loss, *ARGS)
    expected = f(*ARGS)
    victim = files(own_cache)[which]
    victim.write_bytes(damage(victim.read_bytes()))
    again = compiled(softmax_loss, *ARGS)
    assert not is_recalled(again) and all(same_bits(a, b) for a, b in zip(expected, again(*ARGS), strict=True))
    assert is_recalled(compiled(softmax_loss, *ARGS))


def test_an_evicted_object_is_made_again(own_cache: Path) -> None:
    compiled(softmax_loss, *ARGS)
    for path in files(own_cache)[1:]:
        path.unlink()
    again = compiled(softmax_loss, *ARGS)
    assert not is_recalled(again) and is_recalled(compiled(softmax_loss, *ARGS))


def test_without_a_cache_everything_is_made_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CACHE", "0")
    for _ in range(2):
        executable = compiled(softmax_loss, *ARGS)
        assert not is_recalled(executable) and not executable.stats["cached"]


def test_a_full_disk_costs_time_only(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for _ in range(2):
        assert not is_recalled(compiled(softmax_loss, *ARGS))
    assert not files(own_cache) and not list(own_cache.glob("??/*.part"))
    assert cache.stats().failures >= 2


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root writes anywhere")
def test_a_read_only_directory_costs_time_only(own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o500)
    assert not is_recalled(compiled(softmax_loss, *ARGS)) and not is_recalled(compiled(softmax_loss, *ARGS))


def test_two_processes_that_compile_the_same_at_once(own_cache: Path) -> None:
    program = (
        "import numpy as np, gradc as gc\n"
        "for k in range(12):\n"
        "    f = gc.compile(lambda x, k=k: (np.sin(x) * k).sum() + x[k], np.ones(50))\n"
        "    again = gc.compile(lambda x, k=k: (np.sin(x) * k).sum() + x[k], np.ones(50))\n"
        "    assert f(np.ones(50)) == again(np.ones(50))\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for racer in racers:
        _, error = racer.communicate(timeout=120)
        assert racer.returncode == 0, error.decode()
    assert not list(own_cache.glob("??/*.part"))


@pytest.mark.parametrize(("text", "limit"), [("1000", 1000), ("3k", 3072), (" 2G ", 2**31), ("", cache.DEFAULT_LIMIT)])
def test_the_limit_of_the_cache(text: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CACHE_SIZE", text)
    assert cache.stats().limit == limit


@pytest.mark.parametrize("text", ["many", "-1", "1.5G", "G", "12T"])
def test_a_limit_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CACHE_SIZE", text)
    with pytest.raises(ValueError, match=r"GRADC_CACHE_SIZE=.*expected bytes"):
        cache.stats()


def test_an_executable_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(gc.compile(np.sin, np.ones(3)))
    assert pickle.loads(data)(np.zeros(3)).tolist() == [0, 0, 0]
    monkeypatch.setattr("gradc.api.executable.__version__", "7.3")
    with pytest.raises(gc.CompileError, match=r"by gradc 0\.1\.0; this is gradc 7\.3.*compile the function again"):
        pickle.loads(data)
