"""Subnormal numbers: kept to the bit by default, zero with ``fp="fast"``, and the caller's own are never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.flush import flushes
from gradc.codegen.target import Target
from gradc.schedule import split
from tests.compiled_graph import same_bits

TINY = {np.float32: 1e-40, np.float64: 1e-310}
HERE = pytest.mark.skipif(not flushes(Target.host()), reason="this CPU has no way to flush")


def doubled(x: Any) -> Any:
    return x + x


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("fp", ["ieee", "contract"])
def test_subnormal_numbers_are_kept(dtype: Any, fp: str) -> None:
    x = np.full(100, TINY[dtype], dtype)
    executable = gc.compile(doubled, x, fp=fp)
    assert same_bits(executable(x), x + x) and (executable(x) > 0).all()
    assert executable.stats["subnormals"] == "kept"


@HERE
@pytest.mark.parametrize("dtype", TINY)
def test_fast_flushes_them_and_puts_the_mode_back(dtype: Any) -> None:
    x = np.full(100, TINY[dtype], dtype)
    executable = gc.compile(doubled, x, fp="fast")
    assert (executable(x) == 0).all() and executable.stats["subnormals"] == "flushed to zero"
    assert "fp=fast" in repr(executable)
    assert (x + x > 0).all(), "NumPy's arithmetic is as before"
    assert same_bits(gc.compile(doubled, x)(x), x + x)


@HERE
def test_helping_threads_flush_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORK_SECONDS", 0.0), ("THREAD_SECONDS", 1e-12), ("PIECE_SECONDS", 1e-12)):
        monkeypatch.setattr(split, name, value)
    monkeypatch.setenv("GRADC_CACHE", "0")
    x = np.full(100_000, 1e-310)
    shared, exact = gc.compile(doubled, x, fp="fast", threads=3), gc.compile(doubled, x, threads=3)
    for _ in range(20):
        assert (shared(x) == 0).all() and (exact(x) > 0).all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("triple", "word"),
    [
        ("x86_64-unknown-linux-gnu", "ldmxcsr"),
        ("aarch64-unknown-linux-gnu", "fpcr"),
        ("riscv64-unknown-linux-gnu", None),
        ("wasm32-unknown-unknown", None),
    ],
)
def test_artefacts_for_other_targets(triple: str, word: str | None, tmp_path: Path) -> None:
    executable = gc.compile(doubled, np.ones(8), fp="fast")
    executable.save(tmp_path / "f.s", triple=triple)
    text = (tmp_path / "f.s").read_text().lower()
    assert ("ldmxcsr" in text) == (word == "ldmxcsr") and ("fpcr" in text) == (word == "fpcr")
    executable = gc.compile(doubled, np.ones(8))
    executable.save(tmp_path / "g.s", triple=triple)
    assert not {"ldmxcsr", "fpcr"} & {*(tmp_path / "g.s").read_text().lower().replace(",", " ").split()}
