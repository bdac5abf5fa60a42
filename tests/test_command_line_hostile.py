"""The command line under careless and hostile use: whatever a user's file is called, does or raises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradc.cli import main
from gradc.cli.printing import can_print

ROOT = Path(__file__).resolve().parent.parent
MODEL = "import numpy as np\ndef loss(w=np.ones(3), x=np.ones((4, 3))): return ((x @ w) ** 2).sum()\n"


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``python -m gradc`` in ``folder``, as from a shell there."""
    return subprocess.run(
        [sys.executable, "-m", "gradc", *words],
        cwd=folder,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["json", "random", "struct", "copy"])
def test_a_file_named_like_a_library_shadows_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("def f(x=1.0): return x * 2\n")
    made = run(tmp_path, "show", f"{name}.py:f", "--stage", "asm")
    assert made.returncode == 0, made.stderr.decode()


def test_a_model_imports_what_lies_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_layers_beside.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "model.py").write_text("import my_layers_beside\ndef f(x=1.0): return my_layers_beside.double(x)\n")
    assert main(["show", f"{tmp_path / 'model.py'}:f"]) == 0


RAISED = {
    "raise RuntimeError('mine')": "RuntimeError: mine",
    "1 / 0": "ZeroDivisionError: division by zero",
    "assert False": "AssertionError",
    "raise SystemExit(0)": "SystemExit: 0",
    "raise SystemExit(1)": "SystemExit: 1",
    "raise GeneratorExit": "GeneratorExit",
    "raise RecursionError('deep')": "RecursionError: deep",
    "raise BaseException('odd')": "BaseException: odd",
}


@pytest.mark.parametrize("statement", RAISED)
@pytest.mark.parametrize("command", ["show", "check"])
def test_whatever_the_users_code_raises_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str, command: str
) -> None:
    path = tmp_path / "model.py"
    path.write_text(f"def f(x=1.0):\n    {statement}\n    return x\n")
    assert main([command, f"{path}:f"]) == 2
    said = capsys.readouterr().err
    assert said == f"gradc: {path}:2: {RAISED[statement]}\n"


@pytest.mark.parametrize("statement", RAISED)
def test_whatever_the_users_file_raises_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str
) -> None:
    path = tmp_path / "model.py"
    path.write_text(f"def f(x=1.0): return x\n{statement}\n")
    assert main(["show", f"{path}:f"]) == 2
    assert capsys.readouterr().err == f"gradc: {path} fails to import: {path}:2: {RAISED[statement]}\n"


def test_an_interrupt_has_its_own_status_and_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.py"
    path.write_text("def f(x=1.0):\n    raise KeyboardInterrupt\n")
    assert main(["compile", f"{path}:f", "-o", str(tmp_path / "step.o")]) == 130
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".pyc" and p.is_file()] == ["model.py"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told(tmp_path: Path, unbuffered: str) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "gradc", "show", "model.py:loss"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
        made = subprocess.run(
            words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )  # fmt: skip
    assert made.returncode == 2 and b"No space left" in made.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise on Windows")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "gradc", "show", "model.py:loss", "--stage", "asm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    made = subprocess.run(words, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert (made.returncode, made.stderr) == (141, b"")


@pytest.mark.sampled(4, each=("encoding",))
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["explain", "check"])
def test_every_terminal_can_show_it(tmp_path: Path, encoding: str, command: str) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    made = run(tmp_path, command, "model.py:loss", PYTHONIOENCODING=encoding)
    assert made.returncode == 0, made.stderr
    out = made.stdout.decode(encoding)
    assert ("dL/dw = 2 x^T" in out) if command == "explain" else ("agree" in out)
    assert "?" not in out


def test_what_a_stream_can_show_is_known() -> None:
    class Stream:
        encoding = "cp1252"

    assert can_print("½ × 2²", Stream()) and not can_print("∂", Stream())  # type: ignore[arg-type]
