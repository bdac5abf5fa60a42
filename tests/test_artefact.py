"""Artefacts that need no Python: a C program calls the object, and objects for other targets carry their magic."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import gradc as gc

CC = shutil.which("cc") or shutil.which("gcc")


def loss(w, X, y):
    r = np.tanh(X @ w) - y
    return r @ r


SPECS = (gc.spec((3,)), gc.spec((5, 3)), gc.spec((5,)))
DRIVER = """
#include <stdio.h>
#include "step.h"
int main(void) {
  double w[3] = {0.1, -0.2, 0.3}, X[15], y[5], value, grad[3];
  static _Alignas(64) char arena[STEP_ARENA_BYTES + 1];
  int64_t status = 0;
  for (int i = 0; i < 15; i++) X[i] = 0.1 * i;
  for (int i = 0; i < 5; i++) y[i] = 0.2 * i;
  const void *inputs[STEP_INPUTS] = {w, X, y};
  void *outputs[STEP_OUTPUTS] = {&value, grad};
  step(inputs, outputs, arena, &status);
  printf("%d %.17g %.17g %.17g %.17g\\n", (int)status, value, grad[0], grad[1], grad[2]);
  return 0;
}
"""


@pytest.mark.skipif(CC is None, reason="needs a C compiler to write the caller (not to compile the function)")
def test_a_c_program_calls_the_object(tmp_path):
    executable = gc.compile(gc.value_and_grad(loss), *SPECS)
    assert executable.save(tmp_path / "step.o", name="step") == [tmp_path / "step.o", tmp_path / "step.h"]
    (tmp_path / "main.c").write_text(DRIVER)
    subprocess.run([CC, "main.c", "step.o", "-o", "main"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    X, y = 0.1 * np.arange(15.0).reshape(5, 3), 0.2 * np.arange(5.0)
    value, gradient = executable(np.array([0.1, -0.2, 0.3]), X, y)
    assert [float(v) for v in out] == [0.0, value, *gradient]


def test_the_header_says_what_each_pointer_is(tmp_path):
    step = gc.compile(lambda w, X, y: w - X.T @ y, *SPECS, donate=0)
    step.save(tmp_path / "update.h", name="update")
    text = (tmp_path / "update.h").read_text()
    assert "inputs[1]: double X[5][3]" in text
    assert "outputs[0] is inputs[0], updated in place" in text
    assert "void update(const void *const *inputs" in text


@pytest.mark.parametrize(
    ("triple", "features", "magic"),
    [
        ("aarch64-unknown-linux-gnu", "", b"\x7fELF\x02"),
        ("riscv64-unknown-linux-gnu", "+m,+a,+f,+d", b"\x7fELF\x02"),
        ("thumbv7em-none-eabihf", "", b"\x7fELF\x01"),
        ("wasm32-unknown-unknown", "+simd128", b"\0asm"),
        ("x86_64-pc-windows-msvc", "", b"\x64\x86"),
        ("arm64-apple-macosx14", "", b"\xcf\xfa\xed\xfe"),
    ],
)
def test_objects_for_other_targets(tmp_path, triple, features, magic):
    path = tmp_path / "step.o"
    gc.compile(gc.grad(loss), *SPECS).save(path, triple, features=features)
    assert path.read_bytes().startswith(magic)


def test_an_object_calls_nothing(tmp_path):
    path = tmp_path / "step.s"
    gc.compile(gc.value_and_grad(loss), *SPECS).save(path, "x86_64-unknown-linux-gnu", "x86-64-v3")
    calls = [line for line in path.read_text().splitlines() if "call" in line and "@PLT" in line]
    assert calls == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("step.exe",), "must end in"),
        (("step.o", "pdp11-unknown-none"), "no target"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, arguments, words):
    path, *rest = arguments
    with pytest.raises(gc.CompileError, match=words):
        gc.compile(loss, *SPECS).save(tmp_path / path, *rest)
    with pytest.raises(gc.CompileError, match="C identifier"):
        gc.compile(loss, *SPECS).save(tmp_path / "a.o", name="two words")


def test_captured_arrays_are_refused_with_the_remedy(tmp_path):
    table = np.arange(5.0)
    with pytest.raises(gc.CompileError, match=r"captures arrays \(float64\[5\]\).*arguments"):
        gc.compile(lambda x: x * table, gc.spec((5,))).save(tmp_path / "a.o")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"triple": "aarch64-unknown-linux-gnu", "cpu": "cortex-a27"}, "no CPU 'cortex-a27' .*cortex-a7"),
        ({"triple": "x86_64-unknown-linux-gnu", "features": "+axv2"}, "no feature 'axv2' .*avx2"),
        ({"triple": "bpf"}, "cannot generate this code for bpf"),
        ({"triple": "spirv"}, "cannot generate this code for spirv: .*SPIRV"),
        ({"triple": "a" * 10**5}, "no target 'aaaa"),
        ({"triple": "x86_64-unknown-linux-gnu\0"}, "triple=.*printable ASCII"),
        ({"triple": 64}, "triple=64: expected a name, not int"),
        ({"cpu": "\udcff"}, "cpu=.*printable ASCII"),
        ({"cpu": "help"}, "cpu='help' is no CPU"),
        ({"features": "avx2"}, r"'avx2' is no feature; each is \+ or -"),
        ({"features": "+avx2,+help"}, r"'\+help' is no feature"),
        ({"features": "+avx2, +fma"}, "features=.*without blanks"),
        ({"name": None}, "name=None: expected a name"),
        ({"triple": "amdgcn"}, "amdgcn"),
        ({"triple": "xcore"}, "writes no object for xcore"),
        ({"name": "int"}, "'int' is a keyword"),
        ({"name": "co_await"}, "'co_await' is a keyword"),
        ({"name": "_Step"}, "'_Step' is reserved"),
        ({"name": "main"}, "'main' is reserved"),
        ({"name": "größe"}, "not a C identifier"),
    ],
)
def test_what_llvm_or_c_does_not_know_is_refused_and_nothing_is_written(tmp_path, options, words):
    with pytest.raises(gc.CompileError, match=words):
        gc.compile(loss, *SPECS).save(tmp_path / "step.o", **options)
    assert not list(tmp_path.iterdir())


#: Every architecture that this LLVM or another has; of some it has no object writer, of some not even a name.
ARCHITECTURES = """
    aarch64 amdgcn arc arm avr bpf csky dxil hexagon i386 lanai loongarch64 m68k mips mips64 msp430 nvptx64 powerpc
    powerpc64le r600 riscv32 riscv64 s390x sparc sparcv9 spirv spirv64 systemz tce thumb ve wasm32 wasm64 x86_64 xcore
    xtensa
"""


@pytest.mark.nightly
@pytest.mark.parametrize("arch", ARCHITECTURES.split())
def test_no_architecture_ends_the_process(tmp_path, arch):
    """Some end LLVM with an assertion, some with an exit: an object, or a CompileError that names the triple."""
    try:
        written = gc.compile(gc.value_and_grad(loss), *SPECS).save(tmp_path / "step.o", arch)
    except gc.CompileError as error:
        assert arch in str(error) and len(str(error)) < 400 and not list(tmp_path.iterdir())
    else:
        assert [p.name for p in written] == ["step.o", "step.h"] and written[0].stat().st_size


@pytest.mark.sampled(2)
@pytest.mark.parametrize("suffix", [".h", ".ll"])
def test_an_unknown_cpu_is_refused_where_llvm_writes_nothing(tmp_path, suffix):
    with pytest.raises(gc.CompileError, match="no CPU"):
        gc.compile(loss, *SPECS).save(tmp_path / f"step{suffix}", "aarch64-unknown-linux-gnu", "cortex-a27")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "file", "beside"), [("cpu", "step.o", "step.h"), ("sm_80", "step.ptx", "step.json")]
)
def test_a_description_that_gradc_did_not_write_stays(tmp_path, target, file, beside):
    step = gc.compile(loss, *SPECS, target=target)
    (tmp_path / beside).write_text("mine, by hand")
    with pytest.warns(gc.ArtefactWarning, match=beside):
        written = step.save(tmp_path / file)
    assert (tmp_path / beside).read_text() == "mine, by hand"
    assert [p.name for p in written] == [file, beside.replace(".", ".gradc.")] and all(p.exists() for p in written)
    with pytest.raises(gc.CompileError, match="gradc did not write it"):
        step.save(tmp_path / beside)
    step.save(tmp_path / file, overwrite=True)
    assert "compiled by gradc" in (tmp_path / beside).read_text()
    step.save(tmp_path / file)  # its own is replaced without a word


NAMES = ["*/ int evil(void) { return 1; } /*", "a\nb", '"]; evil [x="', "<b>bold</b>", "\\input{evil}", "\u2028", "a'b"]


def test_names_stay_inside_comments_and_labels(tmp_path):
    def f(p):
        return sum((v * v).sum() for v in p.values())

    f.__name__ = "step\n.version 1.0 */ evil"
    specs = {name: gc.spec((2,)) for name in NAMES}
    step = gc.compile(f, specs)
    step.save(tmp_path / "step.h")
    comment, end, code = (tmp_path / "step.h").read_text().partition("*/\n#ifndef")
    assert end and "*/" not in comment and "evil" not in code
    dot, plain = step.graph.dot(), gc.compile(f, {f"k{i}": gc.spec((2,)) for i in range(len(NAMES))}).graph.dot()
    assert len(dot.splitlines()) == len(plain.splitlines())
    assert '"]; evil' not in dot.replace('\\"', "")
    ptx = gc.compile(f, specs, target="sm_80").ptx
    assert all(line.startswith("//") for line in ptx.splitlines() if "evil" in line)
    derivation = gc.explain(f, specs)
    lines = 2 + len(NAMES)
    assert len(str(derivation).splitlines()) == lines and len(derivation.latex().splitlines()) == lines + 1
    assert "<b>" not in derivation.mathml() and "\\input" not in derivation.latex()


@pytest.mark.skipif(CC is None, reason="needs a C compiler to write the caller (not to compile the function)")
def test_the_page_on_shipping_does_what_it_shows(tmp_path, monkeypatch):
    """Its Python block writes the object, its C block calls it, and what that prints is the block that follows."""
    page = (Path(__file__).parent.parent / "docs" / "shipping.md").read_text()
    python, c, shown = (re.findall(rf"```{k}\n(.*?)```", page, re.S)[0] for k in ("python", "c", "text"))
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    Path("main.c").write_text(c)
    subprocess.run([CC, "-Wall", "-Werror", "main.c", "step.o", "-o", "main"], check=True)
    done = subprocess.run(["./main"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shown.strip().partition("\n")[2]


@pytest.mark.parametrize("suffix", [".o", ".s", ".ll", ".h"])
def test_a_path_that_names_no_file_is_refused_before_anything_is_written(tmp_path, suffix):
    step = gc.compile(lambda x: x * 2, gc.spec((3,)))
    (tmp_path / f"taken{suffix}").mkdir()
    with pytest.raises(IsADirectoryError, match="is a directory; name a file in it"):
        step.save(tmp_path / f"taken{suffix}")
    with pytest.raises(FileNotFoundError, match="has a null byte"):
        step.save(f"{tmp_path}/a\0b{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"taken{suffix}"]


def test_the_header_names_results_as_the_function_returns_them(tmp_path):
    def loss(x):
        total = (x * x).sum()
        return {"loss": total, "parts": [x * 2, x + 1]}

    def head(f):
        gc.compile(f, gc.spec((3,))).save(tmp_path / "x.h", overwrite=True)
        return re.findall(r"outputs\[\d\]: double (\S*)", (tmp_path / "x.h").read_text())

    assert head(loss) == ["total", "result.parts[0][3]", "result.parts[1][3]"]
    assert head(np.sin) == ["result[3]"]
