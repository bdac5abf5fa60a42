"""The benchmark harness itself: every row can be named, a row runs alone, missing peers and wrong answers are said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.__main__ import FAMILIES, chosen, main
from tests.bench.race import Result
from tests.bench.report import goal_text, verdict
from tests.bench.settings import environment, process_of
from tests.bench.workload import Workload, difference, ulp_error


def test_every_row_has_its_own_name_and_says_what_it_counts() -> None:
    rows = [workload for _, workload in chosen([], quick=False)]
    names = [workload.name for workload in rows]
    assert len(set(names)) == len(names) > 100
    assert {family for family, _ in chosen([], quick=True)} == set(FAMILIES)
    for workload in rows:
        assert ("gradc" in workload.contenders and len(workload.contenders) > 1) or workload.name.endswith("100000")
        assert len(workload.counted) > 20 and workload.tolerance >= 0


def test_a_row_runs_alone_and_a_missing_peer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["--only", "calls/bind/scalar", "--quick", "--json", str(file)]) == 0
    (record,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert 0 < record["minimum"]["gradc"] <= record["median"]["gradc"] < 1e-3
    assert record["error"]["NumPy"] == 0.0
    for label, reason in record["failures"].items():
        assert reason.startswith("missing"), (label, reason)
    page = capsys.readouterr().out
    assert "| call of x + 1, scalar, bind |" in page
    assert main(["--only", "calls/bind/scalar", "--quick", "--resume", str(file)]) == 0
    assert capsys.readouterr().out == page  # nothing is measured again


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nonsense"]) == 2
    assert "--list" in capsys.readouterr().err


def test_wrong_answers_are_found() -> None:
    right = [np.array([1.0, 2.0]), np.array(np.nan)]
    assert difference(right, [np.array([1.0, 2.0]), np.array(np.nan)]) == 0
    assert difference(right, [np.array([1.0, 2.2]), np.array(np.nan)]) == pytest.approx(0.1)
    assert difference(right, [np.array([1.0, np.nan]), np.array(np.nan)]) == np.inf
    assert difference(right, [np.array([[1.0, 2.0]]), np.array(np.nan)]) == np.inf
    assert difference(right, right[:1]) == np.inf
    assert ulp_error(np.array([1.0]), np.array([1 + 2.0**-22], np.float32)) == 2


def test_a_goal_counts_by_medians() -> None:
    row = Workload("x", "x", "x", {}, 0.0, goal=2.0)
    assert verdict(Result(row, "f", 1, median={"gradc": 1.0, "JAX": 2.0, "NumPy": 3.0})) == "yes"
    assert verdict(Result(row, "f", 1, median={"gradc": 1.0, "JAX": 1.9, "NumPy": 3.0})) == "no"
    assert verdict(Result(row, "f", 1, median={"JAX": 1.9})) == "?"


def test_all_goals_of_a_row_count() -> None:
    row = Workload("x", "x", "x", {}, 0.0, flops=8, goal=1.0, also={"JAX": 2.0, "absent": 9.0}, of_peak=0.8)
    right = Result(row, "f", 1, median={"gradc": 1.0, "JAX": 2.0, "NumPy": 1.0}, minimum={"gradc": 1.0})
    assert verdict(right, {"float32": 10.0}) == "yes" and verdict(right, {"float32": 10.1}) == "no"
    assert verdict(Result(row, "f", 1, median={"gradc": 1.0, "JAX": 1.9, "NumPy": 1.0}), {}) == "no"
    assert goal_text(row) == "≥ 1×, ≥ 2× JAX, ≥ 9× absent, ≥ 80% of FMA peak"


def test_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    plain, wide = (environment(process_of(x), 2, tmp_path) for x in ("OpenBLAS", "OpenBLAS AVX-512"))
    assert "OPENBLAS_CORETYPE" not in plain and wide["OPENBLAS_CORETYPE"] == "SkylakeX"
    assert plain["OMP_NUM_THREADS"] == "2"
    assert process_of("torch.compile AVX-512") == process_of("PyTorch AVX-512") != process_of("PyTorch")
