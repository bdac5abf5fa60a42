"""The command line: what it prints, its exit status, and one clear line for every careless use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradc as gc
from gradc.cli import main

MODEL = """
import numpy as np
import gradc as gc

def loss(w=gc.spec((3,)), X=gc.spec((5, 3)), y=gc.spec((5,))):
    r = X @ w - y
    return r @ r

def bare(x, n):
    return np.sum(x ** n)

def kinked(k=gc.spec((3,), "int64")):
    return k.sum()

broken = 3
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.mark.parametrize("stage", ["graph", "grad", "optimised", "schedule", "llvm", "asm", "dot", "stats"])
def test_show_every_stage(model, stage, capsys):
    assert main(["show", f"{model}:loss", "--stage", stage]) == 0
    out = capsys.readouterr().out
    expected = {
        "graph": "contract", "grad": "return", "optimised": "contract", "schedule": "kernel", "llvm": "define",
        "asm": "gradc_step", "dot": "digraph", "stats": "kernels",
    }  # fmt: skip
    assert expected[stage] in out


@pytest.mark.parametrize("stage", ["graph", "llvm"])
def test_show_refuses_a_target_that_there_is_not(model, stage, capsys):
    assert main(["show", f"{model}:loss", "--stage", stage, "--target", "nonsense"]) == 2
    assert "nonsense" in (told := capsys.readouterr().err) and "sm_80" in told


def test_explain_prints_the_gradient(model, capsys):
    assert main(["explain", f"{model}:loss"]) == 0
    assert "∂" in capsys.readouterr().out
    assert main(["explain", f"{model}:loss", "--mathml"]) == 0
    assert capsys.readouterr().out.startswith("<math ")
    assert main(["explain", f"{model}:loss", "--rules", "--ascii", "--unfold"]) == 0
    assert capsys.readouterr().out.isascii()
    assert main(["explain", f"{model}:loss", "--latex"]) == 0
    assert "\\partial" in capsys.readouterr().out


def test_explain_prints_the_hessian(model, capsys):
    assert main(["explain", f"{model}:loss", "--order", "2"]) == 0
    assert "∂²L/∂" in capsys.readouterr().out
    assert main(["explain", f"{model}:loss", "--order", "2", "--operator", "--ascii"]) == 0
    out = capsys.readouterr().out
    assert "d2L/d" in out and out.isascii()
    assert main(["explain", f"{model}:loss", "--operator"]) == 2
    assert "add --order 2" in capsys.readouterr().err


def test_check_agrees(model, capsys):
    assert main(["check", f"{model}:loss"]) == 0
    assert "reverse" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "magic"), [(".ll", b"define"), (".s", b"gradc_step"), (".o", None)])
def test_compile_writes_a_file(model, tmp_path, suffix, magic):
    target = tmp_path / f"out{suffix}"
    assert main(["compile", f"{model}:loss", "--grad", "-o", str(target)]) == 0
    data = target.read_bytes()
    assert data and (magic is None or magic in data)


def test_cache_shows_and_empties(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("GRADC_CACHE_SIZE", "8M")
    gc.compile(np.sin, np.ones(3))(np.ones(3))
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path) in shown and "of at most 8 MiB" in shown
    assert main(["cache", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["directory"] == str(tmp_path) and facts["files"] >= 2 and facts["limit"] == 2**23
    assert main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == facts["files"]
    monkeypatch.setenv("GRADC_CACHE", "0")
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == "the cache is off: GRADC_CACHE=0, or there is no home directory\n"
    monkeypatch.setenv("GRADC_CACHE", "")
    monkeypatch.setenv("GRADC_CACHE_SIZE", "huge")
    assert main(["cache"]) == 2
    assert "GRADC_CACHE_SIZE='huge': expected bytes" in capsys.readouterr().err


def test_doctor_passes_its_self_test(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "llvmlite" in out and "self-test\n  ok" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "nowhere.py:f"], "no such file"),
        (["show", "model.py"], "FILE:FUNC"),
        (["show", "{model}:missing"], "no function 'missing'"),
        (["show", "{model}:broken"], "no function 'broken'"),
        (["show", "{model}:bare"], "needs example values for x, n"),
        (["show", "{model}:bare", "--arg", "z=3"], "NAME one of x, n"),
        (["show", "{model}:bare", "--arg", "x=float65[3]", "--arg", "n=2"], "float65"),
        (["show", "{model}:bare", "--arg", "x=many", "--arg", "n=2"], "DTYPE"),
        (["show", "{model}:kinked", "--stage", "grad"], "nothing to differentiate"),
        (["compile", "{model}:loss", "-o", "out.exe"], "must end in"),
    ],
)
def test_bad_use_is_one_clear_line_and_status_2(words, says, model, capsys):
    assert main([w.replace("{model}", str(model)) for w in words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith("gradc: ") and "Traceback" not in error


def test_a_file_that_does_not_import_is_named(tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text("import nothing_like_this\n")
    assert main(["show", f"{path}:f"]) == 2
    assert "bad.py:1" in capsys.readouterr().err


def test_arguments_from_words(model, capsys):
    assert main(["show", f"{model}:bare", "--arg", "x=float32[4]", "--arg", "n=2"]) == 0
    assert "float32[4]" in capsys.readouterr().out


def test_python_dash_m(model):
    done = subprocess.run(
        [sys.executable, "-m", "gradc", "show", f"{model}:loss"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "contract" in done.stdout


def test_help_is_quick_to_import():
    code = "import sys, gradc.cli; gradc.cli._parser(); print('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_demo_runs_through(tmp_path, capsys, monkeypatch):
    """The whole demo, with few epochs, compiled here; the accuracy it promises is in test_examples."""
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["demo", "--epochs", "2", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    order = ["∂", "reverse", "llvm codegen", "samples per second", "test accuracy", "LLVM IR"]
    positions = [out.index(word) for word in order]
    assert positions == sorted(positions)
    written = {"step.ll", "step.s", "graph.txt", "graph.dot", "report.html"}
    assert {p.name for p in Path(tmp_path / "out").iterdir()} >= written
