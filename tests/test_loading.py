"""LLVM IR to code in this process, and the disk cache behind it: right bytes or none, whatever lies on the disk."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradc.errors import CompileError
from gradc.runtime import cache
from gradc.runtime.load import assemble, load, machine_code, target_info
from gradc.runtime.native import NativeFunction
from tests.runtime_harness import MismatchError, affine_ir, describe, spec


# -- loading ---------------------------------------------------------------------------------------------------------
def test_load_compiles_once_and_then_reads_the_disk() -> None:
    ir = affine_ir(37)
    first, second = load(ir, "step"), load(ir, "step")
    assert (first.cached, second.cached) == (False, True)
    assert first.object_bytes == second.object_bytes
    assert first.seconds["codegen"] > 0.0 and second.seconds["codegen"] == second.seconds["parse"] == 0.0


def test_load_reads_constant_tables_and_calls_the_c_library() -> None:
    ir = """
@table = private unnamed_addr constant [3 x double] [double 1.0, double 2.0, double 4.0], align 64
declare double @cosh(double)
define double @f(double %x, i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %t = load double, ptr %p
  %c = call double @cosh(double %x)
  %r = fmul double %t, %c
  ret double %r
}
"""
    loaded = load(ir, "f")
    f = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int64)(loaded.address)
    assert f(0.0, 2) == 4.0


@pytest.mark.parametrize(
    ("ir", "name", "words"),
    [
        ("this is not IR", "f", "expected top-level entity"),
        ("define void @f() {\n  ret void\n}\n", "g", "Symbols not found"),
        ("declare void @nowhere()\ndefine void @f() {\n  call void @nowhere()\n  ret void\n}\n", "f", "nowhere"),
        ("define i32 @f() {\nentry:\n  %x = add i32 %y, 1\n  %y = add i32 %x, 1\n  ret i32 %y\n}\n", "f", "dominate"),
    ],
)
def test_load_refuses_bad_modules_with_llvms_words(ir: str, name: str, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        load(ir, name)


def test_load_never_makes_code_for_another_cpu_callable() -> None:
    lacking = [f for f, present in target_info().features.items() if not present]
    if not lacking:
        pytest.skip("LLVM reports no missing feature on this CPU")
    with pytest.raises(CompileError, match=lacking[0]):
        load(affine_ir(3), "step", features="+" + lacking[0])


def test_link_time_symbols_stay_out_of_the_object() -> None:
    ir = "declare i64 @answer()\ndefine i64 @f() {\n  %r = call i64 @answer()\n  ret i64 %r\n}\n"
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64)
    blobs = []
    for value in (41, 42):
        callback = prototype(lambda value=value: value)  # type: ignore[misc]
        where = ctypes.cast(callback, ctypes.c_void_p).value or 0
        loaded = load(ir, "f", symbols={"answer": where})
        assert prototype(loaded.address)() == value
        assert where.to_bytes(8, "little") not in loaded.object_bytes
        blobs.append(loaded.object_bytes)
    assert blobs[0] == blobs[1]


def test_assemble_reaches_other_targets_and_refuses_what_ends_llvm() -> None:
    arm = machine_code(affine_ir(8), "aarch64-unknown-linux-gnu", "", "", "object")
    assert arm[:4] == b"\x7fELF" and arm[18:20] == (183).to_bytes(2, "little")
    kernel = "define ptx_kernel void @k(ptr addrspace(1) %p) {\n  store float 1.0, ptr addrspace(1) %p\n  ret void\n}\n"
    assert ".entry k(" in assemble(kernel, "nvptx64-nvidia-cuda", "sm_80", "")
    fatal = "declare float @llvm.exp.f32(float)\ndefine float @f(float %x) {\n"
    fatal += "  %y = call float @llvm.exp.f32(float %x)\n  ret float %y\n}\n"
    with pytest.raises(CompileError, match=r"llvm\.exp"):
        assemble(fatal, "nvptx64-nvidia-cuda", "sm_80", "")
    with pytest.raises(CompileError, match="no target"):
        machine_code(affine_ir(8), "pdp11-unknown", "", "", "object")


def test_code_is_unloaded_with_its_last_user() -> None:
    loaded = load(affine_ir(41), "step")
    function = NativeFunction(
        loaded.address, [spec(41)], [spec(41)], 0, {}, [], describe, lambda i, x: MismatchError(), owner=loaded
    )
    bound, gone = function.bind(np.zeros(41)), weakref.ref(loaded)
    del loaded, function
    gc.collect()
    assert gone() is not None and bound()[0][0] == 1.0
    del bound
    gc.collect()
    assert gone() is None


# -- the disk cache --------------------------------------------------------------------------------------------------
KEY = "ab" + "0" * 62


def test_cache_returns_what_was_put_and_counts(tmp_path: Path) -> None:
    store = cache.ObjectCache(tmp_path)
    assert store.get(KEY) is None
    store.put(KEY, b"machine code")
    assert store.get(KEY) == b"machine code"
    stats = store.stats()
    assert (stats.files, stats.hits, stats.misses, stats.rejected) == (1, 1, 1, 0)
    assert store.clear() == 1 and store.stats().files == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:-3] + b"XYZ",
        lambda data: b"\x7fELF" + data[4:],
        lambda data: data[:8] + b"\xff" + data[9:],
    ],
    ids=["empty", "head only", "torn", "longer", "flipped", "foreign", "other format"],
)
def test_cache_never_returns_a_damaged_file(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = cache.ObjectCache(tmp_path)
    store.put(KEY, b"machine code")
    (file,) = tmp_path.glob("??/*.obj")
    file.write_bytes(damage(file.read_bytes()))
    assert store.get(KEY) is None and store.stats().rejected == 1
    store.put(KEY, b"rebuilt")
    assert store.get(KEY) == b"rebuilt"


def test_cache_rejects_an_object_under_another_key(tmp_path: Path) -> None:
    store = cache.ObjectCache(tmp_path)
    store.put(KEY, b"machine code")
    (file,) = tmp_path.glob("??/*.obj")
    file.rename(file.with_name("1" * 62 + ".obj"))
    assert store.get("ab" + "1" * 62) is None and store.stats().rejected == 1


def test_damaged_object_is_recompiled_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path))
    ir = affine_ir(43)
    good = load(ir, "step").object_bytes
    (file,) = tmp_path.glob("??/*.obj")
    file.write_bytes(file.read_bytes()[:-16])
    assert load(ir, "step").object_bytes == good
    assert load(ir, "step").cached


def test_cache_evicts_the_least_recently_used(tmp_path: Path) -> None:
    store = cache.ObjectCache(tmp_path, limit=10_000)
    keys = [f"{k:02x}" + "0" * 62 for k in range(12)]
    for age, key in enumerate(keys):
        store.put(key, bytes(900))
        file = next(tmp_path.glob(f"{key[:2]}/*.obj"), None)
        if file is not None:
            os.utime(file, (1_000_000 + age, 1_000_000 + age))
    assert store.stats().bytes <= 10_000
    assert store.get(keys[0]) is None and store.get(keys[-1]) is not None


def test_cache_survives_a_directory_it_cannot_use(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    store = cache.ObjectCache(blocked)
    store.put(KEY, b"machine code")
    assert store.get(KEY) is None and store.stats().failures >= 1


def test_cache_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path))
    assert cache.default_directory() == tmp_path
    monkeypatch.setenv("GRADC_CACHE", "0")
    assert cache.default() is None and cache.clear() == 0 and cache.stats().directory is None
    assert not load(affine_ir(47), "step").cached and not load(affine_ir(47), "step").cached
    monkeypatch.delenv("GRADC_CACHE")
    monkeypatch.delenv("GRADC_CACHE_DIR")
    assert cache.default_directory() != tmp_path


WRITER = """
import sys
from pathlib import Path
from gradc.runtime.cache import ObjectCache
store, key, letter = ObjectCache(Path(sys.argv[1]), limit=400_000), sys.argv[2], sys.argv[3].encode()
for round in range(150):
    store.put(key, letter * (1 + 997 * (round % 7)))
    found = store.get(key)
    assert found is not None and len(set(found)) == 1 and (len(found) - 1) % 997 == 0, found[:20]
    store.put(f"{round:02x}" + key[2:], bytes(8_000))
"""


def test_cache_under_concurrent_processes(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), KEY, letter], cwd=root, stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    for writer in writers:
        _, error = writer.communicate(timeout=120)
        assert writer.returncode == 0, error.decode()
    assert not list(tmp_path.glob("??/*.part"))
