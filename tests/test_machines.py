"""One road to every machine: the toy of docs/adding-a-target.md walks it, and what is common to all is the same."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.cli import main
from gradc.codegen.target import Target
from gradc.machines import table
from gradc.machines.cpu import HostCpu
from gradc.machines.foreign import ForeignCpu
from gradc.machines.machine import SYMBOL, Destination
from gradc.machines.options import STAGES, Options
from gradc.machines.ptx import NvidiaGpu
from gradc.machines.stages import Stages

PAGE = Path(__file__).resolve().parent.parent / "docs" / "adding-a-target.md"
TABLE = np.linspace(0, 1, 8, dtype=np.float32)
X, B = np.linspace(-3, 3, 48, dtype=np.float32).reshape(6, 8), np.arange(8, dtype=np.float32)


def affine(x: Any, b: Any) -> Any:
    y = gnp.maximum(x * 2 + b, 0) + TABLE
    return {"y": y, "part": y.T[1:].astype(np.float64), "three": 3.0}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The machine that the page shows, with its row."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    module = ModuleType("toy_of_the_page")
    exec(compile(block, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(table.MACHINES, "toy", module.__name__)
    return module


@pytest.mark.usefixtures("toy")
def test_the_toy_of_the_page_compiles_prints_runs_and_writes(tmp_path: Path) -> None:
    step, here = gc.compile(affine, X, B, target="toy"), gc.compile(affine, X, B)
    got, want = step(X, B), here(X, B)
    assert got.keys() == want.keys() and all(np.array_equal(got[k], want[k]) for k in want)
    assert np.array_equal(step.bind(X, B)()["y"], want["y"])
    assert set(step.stats) >= {"seconds", "flops", "bytes", "arena_bytes", "kernels", "notes"}
    assert {"optimise", "lower", "schedule", "emit"} <= step.stats["seconds"].keys()
    assert f"{len(step.schedule.kernels)} loops" in repr(step)
    assert "for i" in step.llvm and "multiply" in step.llvm and "FOR_ITER" in step.asm
    step.save(tmp_path / "step.py")
    assert (tmp_path / "step.py").read_text() == step.text("llvm")
    with pytest.raises(AttributeError, match="compiled for toy, which has no ptx"):
        _ = step.ptx


@pytest.mark.usefixtures("toy")
def test_what_the_toy_lacks_is_refused_with_the_users_line() -> None:
    with pytest.raises(gc.CompileError, match=r"test_machines\.py:\d+: .*has no code on a toy; .*target='cpu'"):
        gc.compile(lambda x: x.sum(axis=1), X, target="toy")
    with pytest.raises(gc.CompileError, match=r"no target 'toys'; there are cpu, sm_75.*, toy"):
        gc.compile(affine, X, B, target="toys")


@pytest.mark.usefixtures("toy")
def test_the_command_line_knows_the_toy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.py"
    file.write_text("import numpy as np\ndef f(x=np.ones((4, 8), np.float32)):\n    return x * 2\n")
    assert main(["show", f"{file}:f", "--stage", "llvm", "--target", "toy"]) == 0
    assert f"def {SYMBOL}(b):" in capsys.readouterr().out
    assert main(["compile", f"{file}:f", "--target", "toy", "-o", str(tmp_path / "f.py")]) == 0
    assert "multiply" in (tmp_path / "f.py").read_text()


MACHINES = [HostCpu(), ForeignCpu(Target.of("aarch64-unknown-linux-gnu", "cortex-a72"), "step"), NvidiaGpu("sm_80")]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_stage_of_every_machine_is_printed(machine: Any) -> None:
    stages = Stages(gc.trace(lambda x: gc.nn.softmax(x * 1.0), X), Options(recall=False), machine)
    texts = {stage: stages.text(stage) for stage in (*STAGES, *machine.views)}
    assert all(texts.values()) and len(set(texts.values())) == len(texts) - ("ptx" in texts)  # which is the assembly
    assert texts["optimised"] == str(stages.optimised) and texts["lowered"] == str(stages.lowered)
    assert texts["schedule"].startswith(str(stages.schedule)) and texts["llvm"] == stages.code.text
    with pytest.raises(ValueError, match=f"unknown stage 'mlir'; expected one of {', '.join(STAGES)}"):
        stages.text("mlir")


def test_roads_to_two_machines_part_after_the_lowered_graph() -> None:
    """A file for a GPU's neighbour, the CPU, comes from the same graph and no pass runs twice."""
    seen: list[str] = []
    options = Options(observe=lambda name, before, after: seen.append(name))
    stages = Stages(gc.trace(affine, X, B), options)
    assert stages.schedule.kernels
    passes = list(seen)
    other = stages.on(NvidiaGpu("sm_80"))
    assert other.lowered is stages.lowered and other.schedule is not stages.schedule and seen == passes
    with pytest.raises(gc.CompileError, match="cannot be called here"):
        stages.on(MACHINES[1]).load()


def test_code_of_a_gpu_travels_as_its_graph() -> None:
    step = gc.compile(lambda x: x * 2, X, target="sm_80")
    assert pickle.loads(pickle.dumps(step)).ptx == step.ptx and copy.deepcopy(step) is step


def test_what_says_nothing_about_a_machine_is_refused() -> None:
    with pytest.raises(gc.CompileError, match="cpu='x86-64' says nothing about sm_80"):
        gc.compile(affine, X, B, target="sm_80", cpu="x86-64")
    step = gc.compile(lambda x: x * 2, X, target="sm_80")
    for wanted in ({"triple": "wasm32"}, {"cpu": "x"}, {"features": "+x"}, {"name": "step"}):
        with pytest.raises(gc.CompileError, match="say nothing about sm_80"):
            step.save("step.ptx", **wanted)
    with pytest.raises(gc.CompileError, match="is compiled for sm_80; only this CPU has a profile"):
        step.profile(X)
    assert Destination().is_here and not Destination("wasm32").is_here
