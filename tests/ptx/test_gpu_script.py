"""`python -m tests.gpu` on the simulated device, at small sizes: every row is verified, and none fails."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from gradc.runtime import cuda
from tests.gpu import __main__ as script
from tests.gpu import clock, rows
from tests.ptx.driver import SimulatedDriver


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The page that the script writes; contenders run once, and time is not measured."""
    copy = tmp_path / "gpu.md"
    shutil.copy(script.PAGE, copy)
    monkeypatch.setattr(script, "PAGE", copy)
    simulated = SimulatedDriver(room=1 << 25)
    monkeypatch.setattr(cuda, "driver", lambda: simulated)
    monkeypatch.setattr(rows, "copy_of", lambda size: lambda: None)
    monkeypatch.setattr(rows, "seconds", lambda *runs: [_once(run) for run in runs])
    return copy


def _once(run):
    run()
    return 1e-3


@pytest.mark.nightly
def test_every_row_of_the_training_steps_is_verified(page, capsys):
    assert script.main(["training"], rows.SMALL) == 0
    assert capsys.readouterr().out.count("no torch.compile") == 2


def test_every_row_of_the_figures_is_verified(page, capsys):
    assert script.main(["memory", "products"], rows.SMALL) == 0
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(table) == 17 and not any("failed" in line or "not reached" in line for line in table), printed
    text = page.read_text()
    assert "Simulated GPU, driver for CUDA 13.0, code for sm_120" in text and all(line in text for line in table)
    assert text.count(script.BEGIN) == text.count(script.END) == 1
    script.main(["products"], rows.SMALL)
    assert "layer norm" not in page.read_text() and "## What the kernels are" in page.read_text()


def test_a_row_that_fails_says_so_and_stops_nothing(page, monkeypatch, capsys):
    def wrong(*args, **options):
        return lambda: None, np.zeros((64, 64))

    monkeypatch.setattr(rows, "on_device", wrong)
    assert script.main(["memory"], rows.SMALL) == 1
    assert page.read_text().count("failed: AttributeError") == 7
    monkeypatch.setitem(script.TIMES, "products", -1.0)
    script.main(["products"], rows.SMALL)
    assert "not reached" in page.read_text()
    assert script.main(["speed"]) == 2 and "no section speed; there are answers" in capsys.readouterr().out


def test_contenders_take_turns_and_the_median_counts():
    calls, times = [], iter([1.0, 0.01, 1.0, 0.005] + [0.02, 0.04] * 7)

    def tell(work):
        work()
        return next(times)

    found = clock.seconds(lambda: calls.append("a"), lambda: calls.append("b"), clock=tell)
    assert found == [0.01, 0.01]
    assert calls == ["a", "a", "b", "b", *["a", "a", "b", "b", "b", "b"] * 7]


def test_commands_that_hang_or_say_nothing_are_told():
    assert script._last_line([sys.executable, "-c", "print(1); print('fine')"], 60) == "fine (exit status 0)"
    assert "not done after 1 s" in script._last_line([sys.executable, "-c", "import time; time.sleep(60)"], 1.0)
    assert script._last_line([sys.executable, "-c", "raise SystemExit(3)"], 60) == "nothing was said (exit status 3)"
    assert sum(script.TIMES.values()) < 8 * 60
    assert subprocess.run([sys.executable, "-c", "import tests.gpu.rivals"], check=False).returncode == 0
