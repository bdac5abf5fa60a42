"""Which tests run which regions of the compiler, and how long each takes: measured once, by test file.

Enters: the tests as they stand.  Leaves: ``.mutants/index/NAME.npz`` for each test file, an `Index` when read.
Invariant: a test file is measured again when it has changed, or a module of tests that it imports; a region that has
changed since is looked up by its function.  Start reading at `measure`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from tests.mutants.forks import Say, in_child, in_turns, processor_seconds
from tests.mutants.importing import Finder
from tests.mutants.regions import EXPRESSION, STATEMENT, probed
from tests.mutants.sessions import run

ROOT = Path(__file__).resolve().parent.parent.parent
STATE = ROOT / ".mutants"
INDEX = STATE / "index"
ROOMS = ("ops", "diff", "passes", "schedule", "codegen", "random", "optim", "solve")
#: code for GPUs is tested where NVIDIA's tools are
WITHOUT = ("gradc/codegen/ptx/",)
#: test files that run gradc in other processes, or look at its text, or at these faults themselves
ELSEWHERE = {"test_architecture", "test_bench", "test_cli", "test_command_line_hostile", "test_docs", "test_examples",
             "test_mutants", "test_versions", "test_private_files", "test_process"}  # fmt: skip


def files(rooms: Sequence[str] = ROOMS) -> list[str]:
    """The files into which faults are planted, relative to the root."""
    found = sorted(p for room in rooms for p in (ROOT / "gradc" / room).rglob("*.py"))
    paths = [p.relative_to(ROOT).as_posix() for p in found]
    return [p for p in paths if not p.startswith(WITHOUT)]


def test_files() -> list[str]:
    return sorted(p.stem for p in (ROOT / "tests").glob("test_*.py") if p.stem not in ELSEWHERE)


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Index:
    """Of one test file: its tests, which passed, their seconds, and the regions that each ran.

    ``regions`` are names of regions by file; bit k of a row of ``hits`` is the k-th of all in order.  ``loaded`` are
    the bits of what ran before the first test.  ``begin`` is the seconds until then.
    """

    test_file: str
    digest: str
    begin: float
    tests: list[str]
    passed: np.ndarray[Any, Any]
    seconds: np.ndarray[Any, Any]
    hits: np.ndarray[Any, Any]
    loaded: np.ndarray[Any, Any]
    regions: dict[str, list[str]]

    @functools.cached_property
    def first(self) -> dict[str, int]:
        """The number of the first region of each file."""
        ends = np.cumsum([0, *map(len, self.regions.values())]).tolist()
        return dict(zip(self.regions, ends, strict=False))

    @functools.cached_property
    def places(self) -> dict[str, dict[str, int]]:
        return {path: {name: self.first[path] + k for k, name in enumerate(r)} for path, r in self.regions.items()}

    @functools.cached_property
    def counts(self) -> np.ndarray[Any, Any]:
        """For each test, how many regions it ran."""
        return np.unpackbits(self.hits, axis=1).sum(1)

    def ran(self, numbers: Sequence[int]) -> np.ndarray[Any, Any]:
        """For each test, how many of these regions it ran."""
        return sum((self.hits[:, n // 8] >> (7 - n % 8) & 1 for n in numbers), np.zeros(len(self.tests), int))

    def was_loaded(self, numbers: Sequence[int]) -> bool:
        """Whether one of these regions ran before the first test."""
        return any(self.loaded[n // 8] >> (7 - n % 8) & 1 for n in numbers)


@functools.cache
def digest(test_file: str) -> str:
    """Of the text of a test file and of the modules of tests that it imports."""
    waiting, texts = [f"tests.{test_file}"], {}
    while waiting:
        name = waiting.pop()
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if name in texts or not path.exists():
            continue
        texts[name] = path.read_bytes()
        waiting += _imported(ast.parse(texts[name]))
    return hashlib.sha256(b"".join(texts[name] for name in sorted(texts))).hexdigest()


def _imported(tree: ast.Module) -> Iterator[str]:
    """The names of modules of tests that may be meant by its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tests."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tests":
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def read(test_file: str) -> Index | None:
    """The index of a test file as it stands, if there is one."""
    path = INDEX / f"{test_file}.npz"
    if not path.exists():
        return None
    with np.load(path) as held:
        about = json.loads(bytes(held["about"]).decode())
        arrays = {name: held[name] for name in ("passed", "seconds", "hits", "loaded")}
    return Index(test_file=test_file, **about, **arrays) if about["digest"] == digest(test_file) else None


@dataclass
class _Recorder:
    run: bytearray
    began: float
    loaded: bytes = b""
    begin: float = 0.0
    tests: list[str] = field(default_factory=list)
    passed: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rows: list[np.ndarray[Any, Any]] = field(default_factory=list)

    def before(self, test: str) -> None:
        now = processor_seconds()
        if not self.tests:
            self.loaded, self.begin = self._bits().tobytes(), now - self.began
        self.run[:] = bytes(len(self.run))
        self.began = now

    def after(self, test: str, outcome: str) -> None:
        self.tests.append(test)
        self.passed.append(outcome == "passed")
        self.seconds.append(processor_seconds() - self.began)
        self.rows.append(self._bits())

    def _bits(self) -> np.ndarray[Any, Any]:
        return np.packbits(np.frombuffer(bytes(self.run), np.uint8))


def measure(wanted: Sequence[str], jobs: int = 1) -> None:
    """Make the index of these test files, ``jobs`` at a time."""
    codes, regions, total = _probed_code() if wanted else ({}, {}, 0)

    def one(name: str) -> None:
        ended = in_child(functools.partial(_measure, name, codes, regions, total), STATE / f"child-{os.getpid()}")
        told = ended.said[-2] if len(ended.said) > 1 else {}
        print(f"measured {name}: {told or ended}", flush=True)

    in_turns(wanted, one, jobs)


def _probed_code() -> tuple[dict[Path, Callable[[], CodeType]], dict[str, list[str]], int]:
    codes: dict[Path, Callable[[], CodeType]] = {}
    regions: dict[str, list[str]] = {}
    total = 0
    for path in files():
        tree, found = probed(text_of(path), total)
        code = compile(tree, str(ROOT / path), "exec", dont_inherit=True)
        codes[(ROOT / path).resolve()] = functools.partial(_itself, code)
        regions[path] = [r.name for r in found]
        total += len(found)
    return codes, regions, total


def _itself(code: CodeType) -> CodeType:
    return code


def _measure(
    name: str, codes: dict[Path, Callable[[], CodeType]], regions: dict[str, list[str]], total: int, say: Say
) -> None:
    held = bytearray(total)
    sys.meta_path.insert(0, Finder(codes, {STATEMENT: held, EXPRESSION: held.__setitem__}))
    os.chdir(ROOT)
    seen = _Recorder(held, processor_seconds())
    run(f"tests/{name}.py", seen)
    about = {"digest": digest(name), "begin": seen.begin, "tests": seen.tests, "regions": regions}
    INDEX.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        INDEX / f"{name}.npz",
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        passed=np.array(seen.passed, bool),
        seconds=np.array(seen.seconds, np.float32),
        hits=np.array(seen.rows, np.uint8).reshape(len(seen.rows), -(-total // 8)),
        loaded=np.frombuffer(seen.loaded, np.uint8),
    )
    say(tests=len(seen.tests), passed=sum(seen.passed), begin=seen.begin, seconds=sum(seen.seconds))
