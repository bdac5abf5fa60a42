"""What every test may rely on: golden text, deterministic random programs, a cache of its own, and the run modes.

    --update-golden   rewrite tests/golden from what the code prints now; runs only the tests that have golden text
    --nightly         also run tests marked `nightly`, and many more hypothesis examples with fresh seeds
    --costs[=FILE]    processor seconds by file at the end, and by test in FILE

What is swept whole by night is sampled by day: parameters of tests marked `sampled`, and LLVM's effort
(`most_code_is_made_quickly`). What is chosen depends on names and texts alone, so a red run is red for everybody.

Start at the `golden` fixture.
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import gc
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import effort

GOLDEN = Path(__file__).parent / "golden"

# Deterministic on purpose: a red run is red for whoever repeats it. Randomness belongs to the nightly run.
hypothesis.settings.register_profile(
    "ci", derandomize=True, max_examples=100, deadline=None, database=None, print_blob=True
)
hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)

CACHE_DIR = pytest.StashKey[str]()
#: not empty while a test wants its schedules as they come
UNVERIFIED: list[bool] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")
    parser.addoption("--nightly", action="store_true", help="run the nightly tests and many more random programs")
    parser.addoption(
        "--costs", nargs="?", const="", metavar="FILE", help="processor seconds by file; every test's into FILE"
    )


def pytest_configure(config: pytest.Config) -> None:
    if (listed := config.getoption("--costs")) is not None:
        from tests.costs import Costs

        config.pluginmanager.register(Costs(listed), "costs")
    if not config.getoption("--hypothesis-profile", default=None):
        hypothesis.settings.load_profile("nightly" if config.getoption("--nightly") else "ci")
    # A worker inherits the controller's environment, and with it the one cache of this run.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    for name in ("GRADC_CACHE", "GRADC_SHOW"):
        os.environ.pop(name, None)
    config.stash[CACHE_DIR] = os.environ["GRADC_CACHE_DIR"] = tempfile.mkdtemp(prefix="gradc-tests-")


@pytest.fixture(scope="session", autouse=True)
def every_schedule_is_verified() -> Iterator[None]:
    """Whatever a test compiles, its schedule is proved to compute on the values that it means to."""
    from gradc.schedule import _Planner
    from gradc.schedule.verify import verify

    whole = _Planner.whole

    def verified(self: Any, graph: Any, donated: Any) -> Any:
        made = whole(self, graph, donated)
        if not UNVERIFIED:
            verify(made, graph)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Planner, "whole", verified)
        yield


@pytest.fixture(scope="session", autouse=True)
def most_code_is_made_quickly(pytestconfig: pytest.Config) -> Iterator[None]:
    """Most long modules are made at LLVM's lowest level, in a third of the time: by contract they compute the same
    bits. Code that is written to files or read as text is not touched.
    """
    from gradc.runtime import load

    whole = load.emit_object

    def quick(engine: Any, text: str, cpu: str, features: str, level: int, seconds: dict[str, float]) -> bytes:
        return whole(engine, text, cpu, features, effort.level(text) if level == 2 else level, seconds)

    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.getoption("--nightly"):
            patch.setattr(effort, "USUAL_ONE_IN", 1)
        patch.setattr(load, "emit_object", quick)
        yield


#: tests of what changes the structure of graphs: there the graphs behind each pass are verified, also outside `jit`
STRUCTURAL = frozenset(("test_structured", "test_passes", "test_derivatives", "test_control_derivatives"))


@pytest.fixture(autouse=True)
def every_graph_is_verified(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.module.__name__.rpartition(".")[2] in STRUCTURAL:
        monkeypatch.setenv("GRADC_CHECK", "1")


@pytest.fixture
def unverified() -> Iterator[None]:
    """For tests that plan wrongly on purpose, to see who else notices."""
    UNVERIFIED.append(True)
    yield
    UNVERIFIED.pop()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Python's collector need not walk through twenty thousand tests again and again: nothing of them is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE_DIR in config.stash:
        shutil.rmtree(config.stash[CACHE_DIR], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--update-golden"):
        _keep(config, items, lambda item: "golden" in getattr(item, "fixturenames", ()))
    if not config.getoption("--nightly"):
        _keep(config, items, lambda item: item.get_closest_marker("nightly") is None)
        sample = _sample(items)
        _keep(config, items, lambda item: item.get_closest_marker("sampled") is None or item.nodeid in sample)
    for item in items:
        if item.get_closest_marker("gpu") and not gpu_present():
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


def _keep(config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> None:
    dropped = [item for item in items if not wanted(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if wanted(item)]


def _sample(items: list[pytest.Item]) -> set[str]:
    """Of each test marked `sampled(n, each=names)` one case in ``n``, at least one, and one of each value of the
    parameters in ``each``: those whose names have the lowest checksums.
    """
    cases: dict[str, list[Any]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    chosen: set[str] = set()
    for of_one_test in cases.values():
        of_one_test.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        marker = of_one_test[0].get_closest_marker("sampled")
        chosen |= {item.nodeid for item in of_one_test[: -(-len(of_one_test) // marker.args[0])]}
        for name in marker.kwargs.get("each", ()):
            have = {repr(item.callspec.params[name]) for item in of_one_test if item.nodeid in chosen}
            for item in of_one_test:
                if (value := repr(item.callspec.params[name])) not in have:
                    have.add(value)
                    chosen.add(item.nodeid)
    return chosen


@functools.cache
def gpu_present() -> bool:
    """Whether the CUDA driver is here and counts at least one device. Asks the driver, not gradc: this is a test."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("name.txt", text)`: the text must be that of tests/golden/name.txt; --update-golden writes it there.

    White space at the end of the text does not count. One test may check several files, each once.
    """
    update = request.config.getoption("--update-golden")
    seen: set[str] = set()

    def check(name: str, text: str) -> None:
        __tracebackhide__ = True
        assert name not in seen, f"golden({name!r}) was called twice in one test"
        seen.add(name)
        if update:
            _write(GOLDEN / name, text)
        elif problem := _difference(GOLDEN / name, text):
            pytest.fail(f"{problem}\n\nIf the new text is right: make golden", pytrace=False)

    return check


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")


def _difference(path: Path, text: str) -> str | None:
    """A unified diff from the file to the text, or None where they agree."""
    if not path.exists():
        return f"{path} does not exist"
    expected, actual = path.read_text(encoding="utf-8").rstrip(), text.rstrip()
    if expected == actual:
        return None
    lines = difflib.unified_diff(expected.split("\n"), actual.split("\n"), str(path), "printed now", lineterm="")
    return "\n".join(lines)
