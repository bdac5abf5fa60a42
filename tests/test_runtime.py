"""The runtime room on its own: hand-written modules loaded, cached and called, by both ways into the code.

Every test of a call runs twice, through the compiled entry and through the portable one, and expects the same.
Start at `make`.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradc.errors import CompileError
from gradc.runtime import arena, cache, entry, objects
from gradc.runtime.arrays import ArraySpec, Span, StorageError, admit, find_conflict, span
from gradc.runtime.load import Loaded, assemble, load, target_info
from gradc.runtime.native import NativeFunction

IR_TYPES = {"float64": "double", "float32": "float", "int64": "i64", "int32": "i32", "bool": "i8"}
HEAD = "define void @step(ptr noalias %in, ptr noalias %out, ptr noalias %arena, ptr noalias %status) nounwind {"


class Mismatch(TypeError):
    """What the tests' steps raise for an argument that does not fit."""


class Failure(ArithmeticError):
    """What the tests' steps raise for a status word."""


def pointers(inputs: int, outputs: int = 1) -> str:
    lines = []
    for letter, block, count in (("x", "in", inputs), ("y", "out", outputs)):
        for k in range(count):
            lines += [f"%{letter}{k}.at = getelementptr ptr, ptr %{block}, i64 {k}"]
            lines += [f"%{letter}{k} = load ptr, ptr %{letter}{k}.at"]
    return "\n  ".join(lines)


def loop(n: int, body: str) -> str:
    """``body`` for each %i below n."""
    return f"""
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, {n}
  br i1 %more, label %body, label %done
body:
  {textwrap.indent(textwrap.dedent(body).strip(), "  ").strip()}
  %next = add i64 %i, 1
  br label %head
done:"""


def affine_ir(n: int, dtype: str = "float64") -> str:
    """y = 2x + 1."""
    t = IR_TYPES[dtype]
    mul, add, two, one = ("fmul", "fadd", "2.0", "1.0") if "float" in dtype else ("mul", "add", "2", "1")
    body = f"""
        %p = getelementptr {t}, ptr %x0, i64 %i
        %q = getelementptr {t}, ptr %y0, i64 %i
        %v = load {t}, ptr %p
        %d = {mul} {t} %v, {two}
        %r = {add} {t} %d, {one}
        store {t} %r, ptr %q
    """
    return f"{HEAD}\nentry:\n  {pointers(1)}{loop(n, body)}\n  ret void\n}}\n"


def descend_ir(n: int) -> str:
    """p = p - rate·g, in place when p is donated; the status word is 3 | 5 << 8 where the rate is negative."""
    body = """
        %p = getelementptr double, ptr %x0, i64 %i
        %g = getelementptr double, ptr %x1, i64 %i
        %q = getelementptr double, ptr %y0, i64 %i
        %pv = load double, ptr %p
        %gv = load double, ptr %g
        %d = fmul double %rate, %gv
        %r = fsub double %pv, %d
        store double %r, ptr %q
    """
    check = """
  %bad = fcmp olt double %rate, 0.0
  %word = select i1 %bad, i64 1283, i64 0
  store i64 %word, ptr %status
  ret void
}
"""
    return f"{HEAD}\nentry:\n  {pointers(3)}\n  %rate = load double, ptr %x2{loop(n, body)}{check}"


def double_ir() -> str:
    """y = 2x for one number."""
    return f"""{HEAD}
entry:
  {pointers(1)}
  %v = load double, ptr %x0
  %r = fadd double %v, %v
  store double %r, ptr %y0
  ret void
}}
"""


def through_arena_ir(n: int, between: str = "") -> str:
    """y = x by way of the arena, with ``between`` run while only the arena holds the values."""
    return f"""declare void @between()
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
{HEAD}
entry:
  {pointers(1)}
  call void @llvm.memcpy.p0.p0.i64(ptr %arena, ptr %x0, i64 {8 * n}, i1 false)
  {between}
  call void @llvm.memcpy.p0.p0.i64(ptr %y0, ptr %arena, i64 {8 * n}, i1 false)
  ret void
}}
"""


def spec(*shape: int, dtype: str = "float64", name: str = "") -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), name)


def describe(status: int) -> Exception:
    return Failure(status & 0xFF, status >> 8)


Maker = Callable[..., NativeFunction]


@pytest.fixture(params=["compiled entry", "portable"])
def make(request: pytest.FixtureRequest) -> Maker:
    """`make(ir, inputs, outputs, ...)`: the step as a NativeFunction, by the entry under test."""
    fast = request.param == "compiled entry"
    if fast and objects.probe() is None:
        pytest.skip("this interpreter's objects are not the ones the compiled entry reads")

    def build(
        ir: str,
        inputs: Sequence[ArraySpec],
        outputs: Sequence[ArraySpec],
        donated: Mapping[int, int] | None = None,
        hidden: Sequence[np.ndarray[Any, Any]] = (),
        arena_bytes: int = 0,
        seconds_estimate: float = 0.0,
        symbols: Mapping[str, int] | None = None,
    ) -> NativeFunction:
        loaded = load(ir, "step", symbols=symbols)

        def mismatch(i: int, given: object) -> Exception:
            return Mismatch(f"argument {i}: {type(given).__name__} given, {inputs[i]} expected")

        function = NativeFunction(
            loaded.address, inputs, outputs, arena_bytes, donated or {}, hidden, describe, mismatch,
            seconds_estimate=seconds_estimate, owner=loaded, fast=fast,
        )  # fmt: skip
        assert function.is_fast == fast
        return function

    return build


def descend(make: Maker, n: int = 5, **options: Any) -> NativeFunction:
    inputs = [spec(n, name="weights"), spec(n, name="slope"), spec(name="rate")]
    return make(descend_ir(n), inputs, [spec(n)], **options)


# -- loading ---------------------------------------------------------------------------------------------------------
def test_load_compiles_once_and_then_reads_the_disk() -> None:
    ir = affine_ir(37)
    first, second = load(ir, "step"), load(ir, "step")
    assert (first.cached, second.cached) == (False, True)
    assert first.object_bytes == second.object_bytes
    assert first.seconds["codegen"] > 0.0 and second.seconds["codegen"] == second.seconds["parse"] == 0.0
    assert "step" in second.asm() and second.asm() is second.asm()


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
    f = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int64)(load(ir, "f").address)
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
    arm = assemble(affine_ir(8), "aarch64-unknown-linux-gnu", "", "", "object")
    assert arm[:4] == b"\x7fELF" and arm[18:20] == (183).to_bytes(2, "little")
    kernel = "define ptx_kernel void @k(ptr addrspace(1) %p) {\n  store float 1.0, ptr addrspace(1) %p\n  ret void\n}\n"
    assert ".entry k(" in assemble(kernel, "nvptx64-nvidia-cuda", "sm_80", "", "asm")
    fatal = "declare float @llvm.exp.f32(float)\ndefine float @f(float %x) {\n"
    fatal += "  %y = call float @llvm.exp.f32(float %x)\n  ret float %y\n}\n"
    with pytest.raises(CompileError, match=r"llvm\.exp"):
        assemble(fatal, "nvptx64-nvidia-cuda", "sm_80", "", "asm")
    with pytest.raises(CompileError, match="no target"):
        assemble(affine_ir(8), "pdp11-unknown", "", "", "object")


def test_code_is_unloaded_with_its_last_user() -> None:
    loaded = load(affine_ir(41), "step")
    function = NativeFunction(
        loaded.address, [spec(41)], [spec(41)], 0, {}, [], describe, lambda i, x: Mismatch(), owner=loaded
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


# -- calls -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_call_reads_any_layout(make: Maker, dtype: str) -> None:
    f = make(affine_ir(12, dtype), [spec(3, 4, dtype=dtype)], [spec(3, 4, dtype=dtype)])
    x = np.arange(12, dtype=dtype).reshape(3, 4)
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(3, 4)
    unaligned[...] = x
    layouts: dict[str, Any] = {
        "plain": x,
        "Fortran": np.asfortranarray(x),
        "reversed": x[::-1, ::-1][::-1, ::-1],
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "read-only": read_only,
        "unaligned": unaligned,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "subclass": x.view(np.matrix),
        "other instance": x.astype(np.dtype(dtype, metadata={"unit": "m"})),
    }
    for name, given in layouts.items():
        (y,) = f(given)
        assert type(y) is np.ndarray and y.dtype == dtype and y.flags.c_contiguous, name
        np.testing.assert_array_equal(y, 2 * x + 1, err_msg=name)


def test_results_alias_nothing(make: Maker) -> None:
    f = make(affine_ir(6), [spec(6)], [spec(6)])
    x = np.ones(6)
    (y1,), (y2,) = f(x), f(x)
    assert not np.shares_memory(y1, y2) and not np.shares_memory(x, y1)
    assert y1.flags.writeable


def test_zero_size(make: Maker) -> None:
    f = make(affine_ir(0), [spec(3, 0, 2)], [spec(3, 0, 2)])
    (y,) = f(np.zeros((3, 0, 2)))
    assert y.shape == (3, 0, 2)
    (y,) = f(np.zeros((2, 0, 3)).T)
    assert y.shape == (3, 0, 2)


def test_zero_size_donation_overlaps_nothing(make: Maker) -> None:
    f = make(affine_ir(0), [spec(0), spec(0)], [spec(0)], donated={0: 0})
    x = np.zeros(4)
    given = x[2:2]
    assert f(given, x[1:1])[0] is given


def test_no_inputs_and_no_outputs(make: Maker) -> None:
    assert make(f"{HEAD}\n  ret void\n}}\n", [], [])() == ()


NUMBERS = [1.5, np.float64(1.5), np.array(1.5), np.array([0.0, 1.5])[1:].reshape(()), np.array(1.5, ">f8")]


@pytest.mark.parametrize("x", NUMBERS, ids=["float", "np.float64", "0-d array", "0-d view", "0-d big-endian"])
def test_0d_results_are_numpy_scalars(make: Maker, x: object) -> None:
    (y,) = make(double_ir(), [spec()], [spec()])(x)
    assert type(y) is np.float64 and y == 3.0


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("float64", 7, 15.0),
        ("float64", True, 3.0),
        ("float64", 2**70, 2.0**71 + 1),
        ("float64", -1, -1.0),
        ("float32", 0.1, np.float32(np.float32(0.1) * np.float32(2)) + np.float32(1)),
        ("float32", 1e300, np.inf),
        ("int64", 2**40, 2**41 + 1),
        ("int64", False, 1),
        ("int32", -5, -9),
    ],
)
def test_weak_python_scalars(make: Maker, dtype: str, given: Any, expected: Any) -> None:
    (y,) = make(affine_ir(1, dtype), [spec(dtype=dtype)], [spec(dtype=dtype)])(given)
    assert y == expected and y.dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float64", None),
        ("float64", 1j),
        ("float64", "1.0"),
        ("float64", [1.0]),
        ("float64", np.float32(1.0)),
        ("float64", np.int64(1)),
        ("float64", 10**400),
        ("float32", np.float64(1.0)),
        ("int64", 1.0),
        ("int64", 2**63),
        ("int32", 2**31),
        ("int32", np.int64(1)),
        ("float64", np.array([1.0])),
        ("float64", object()),
    ],
)
def test_what_does_not_fit_a_number(make: Maker, dtype: str, given: object) -> None:
    f = make(affine_ir(1, dtype), [spec(dtype=dtype)], [spec(dtype=dtype)])
    with pytest.raises(Mismatch, match="argument 0"):
        f(given)


@pytest.mark.parametrize(
    "given",
    [
        None, 1.0, [1.0, 2.0, 3.0], "abc", object(), np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.float32),
        np.zeros(3, np.int64), np.zeros(3, complex), np.zeros(3, bool), np.array([1.0, None, 2.0], object),
        np.array(["a", "b", "c"]), np.array(["a", "b", "c"], np.dtypes.StringDType()), np.zeros(3, "M8[s]"),
        np.zeros(3, [("a", "f8")]), np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), np.float64(1.0),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)  # fmt: skip
def test_what_does_not_fit_an_array(make: Maker, given: object) -> None:
    f = make(affine_ir(3), [spec(3)], [spec(3)])
    with pytest.raises(Mismatch, match="argument 0"):
        f(given)
    with pytest.raises(Mismatch, match="argument 0"):
        f.bind(given)


def test_wrong_number_of_arguments(make: Maker) -> None:
    f = make(affine_ir(3), [spec(3)], [spec(3)])
    for args in ((), (np.zeros(3), np.zeros(3))):
        with pytest.raises(TypeError, match="1 arrays expected"):
            f(*args)
    with pytest.raises(TypeError):
        f.entry(np.zeros(3), unknown=1)


def test_status_becomes_the_described_exception(make: Maker) -> None:
    f = descend(make)
    w, g = np.ones(5), np.ones(5)
    for call in (lambda: f(w, g, -1.0), f.bind(w, g, -1.0)):
        for _ in range(3):
            with pytest.raises(Failure) as caught:
                call()
            assert caught.value.args == (3, 5)
    np.testing.assert_array_equal(f(w, g, 0.5)[0], 0.5)


def test_hidden_arrays_follow_the_inputs(make: Maker) -> None:
    captured = np.arange(10.0)[::2]
    rate = np.array(2.0)
    f = make(descend_ir(5), [spec(5)], [spec(5)], hidden=[captured, rate])
    del captured, rate
    gc.collect()
    np.testing.assert_array_equal(f(np.zeros(5))[0], -2.0 * np.arange(10.0)[::2])


def test_out_is_filled(make: Maker) -> None:
    f = make(affine_ir(4), [spec(4)], [spec(4)])
    x, y = np.arange(4.0), np.zeros(4)
    for call in (f, f.entry):
        y[:] = 0
        assert call(x, out=[y])[0] is y
        np.testing.assert_array_equal(y, 2 * x + 1)
    assert f(x, out=[None])[0] is not y
    number = make(double_ir(), [spec()], [spec()])
    place = np.zeros(())
    assert number(2.0, out=[place])[0] is place and place == 4.0


def test_out_refuses_storage_it_cannot_write(make: Maker) -> None:
    f = make(affine_ir(4), [spec(4, name="signal")], [spec(4)])
    x = np.arange(4.0)
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    cases = [(x, "signal"), (np.zeros(8)[::2], "contiguous"), (np.zeros(4, ">f8"), "byte order"), (frozen, "read-only"),
             (np.zeros(5), "float64"), (np.zeros(4, np.float32), "float32"), (3.0, "plain ndarray")]  # fmt: skip
    for y, words in cases:
        with pytest.raises(StorageError, match=words):
            f(x, out=[y])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="2 given"):
        f(x, out=[None, None])
    np.testing.assert_array_equal(x, np.arange(4.0))


# -- donation --------------------------------------------------------------------------------------------------------
def test_donated_argument_comes_back_updated(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    w, g = np.ones(5), np.arange(5.0)
    where = w.__array_interface__["data"][0]
    for step in range(1, 4):
        (result,) = f(w, g, 0.5)
        assert result is w and result.__array_interface__["data"][0] == where
        np.testing.assert_array_equal(w, 1 - step * 0.5 * g)
    assert f(w, g, 0.5, out=[w])[0] is w


def refusals() -> dict[str, tuple[Callable[[], tuple[Any, ...]], str]]:
    w, big = np.ones(5), np.zeros(12)
    frozen = np.ones(5)
    frozen.flags.writeable = False
    unaligned = np.zeros(41, np.uint8)[1:].view(np.float64)
    return {
        "itself": (lambda: (w, w, 0.5), "weights .* memory with slope"),
        "view": (lambda: (big[:5], big[4:9], 0.5), "weights .* memory with slope"),
        "strided view": (lambda: (big[:5], big[1:11:2], 0.5), "weights .* memory with slope"),
        "0-d view": (lambda: (big[:5], np.ones(5), big[3:4].reshape(())), "weights .* memory with rate"),
        "read-only": (lambda: (frozen, np.ones(5), 0.5), "weights is donated.*read-only"),
        "strided": (lambda: (big[:10:2], np.ones(5), 0.5), "weights is donated.*contiguous"),
        "big-endian": (lambda: (np.ones(5, ">f8"), np.ones(5), 0.5), "weights is donated.*byte order"),
        "unaligned": (lambda: (unaligned, np.ones(5), 0.5), "weights is donated.*aligned"),
        "subclass": (lambda: (np.ones(5).view(np.recarray), np.ones(5), 0.5), "weights is donated.*recarray"),
    }


@pytest.mark.parametrize("case", refusals())
def test_donation_refuses_before_anything_is_written(make: Maker, case: str) -> None:
    arguments, words = refusals()[case]
    f = descend(make, donated={0: 0})
    args = arguments()
    before = [np.array(x) for x in args]
    for _ in range(2):
        with pytest.raises(StorageError, match=words):
            f(*args)
        with pytest.raises(StorageError):
            f.bind(*args)
    for x, old in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, old)
    f(np.ones(5), np.ones(5), 0.5)


def test_donation_refuses_numbers_and_other_shapes(make: Maker) -> None:
    f = make(double_ir(), [spec(name="count")], [spec()], donated={0: 0})
    x = np.array(2.0)
    assert f(x)[0] is x and x == 4.0
    for given in (2.0, np.float64(2.0)):
        with pytest.raises(StorageError, match="count is donated"):
            f(given)
    with pytest.raises(Mismatch):
        f(np.zeros(2))


def test_donated_neighbours_and_interleaved_views_are_fine(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    big = np.ones(20)
    assert f(big[5:10], big[10:15], 0.5)[0].base is big
    np.testing.assert_array_equal(big[5:10], 0.5)
    assert f(big[:5], big[15:20], big[6])[0] is not None


def test_overlap_is_seen_after_many_disjoint_calls(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    w, g = np.ones(5), np.ones(5)
    for _ in range(3):
        f(w, g, 0.5)
    with pytest.raises(StorageError):
        f(w, w, 0.5)
    with pytest.raises(StorageError):
        f(g, g, 0.5)
    f(g, w, 0.5)
    f(w, g, 0.5)


def test_inconsistent_donation_is_refused(make: Maker) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        make(affine_ir(3), [spec(3)], [spec(4)], donated={0: 0})
    with pytest.raises(ValueError, match="two inputs"):
        make(affine_ir(3), [spec(3), spec(3)], [spec(3)], donated={0: 0, 1: 0})


def test_find_conflict_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    memory = np.zeros(60)
    met = 0
    for _ in range(300):
        spans: list[Span] = []
        for k in range(6):
            start, length, step = rng.integers(0, 50), rng.integers(0, 6), rng.integers(1, 4)
            spans.append(span(memory[start : start + length : step], str(k), written=bool(rng.integers(0, 2))))
        pairs = [(a, b) for a in spans for b in spans if a is not b and a.written]
        expected = {(a.name, b.name) for a, b in pairs if np.shares_memory(a.array, b.array)}
        found = find_conflict(spans)
        assert (found in expected) if expected else found is None
        met += bool(expected)
    assert 50 < met < 250


# -- bound steps -----------------------------------------------------------------------------------------------------
def test_bind_runs_on_fixed_buffers(make: Maker) -> None:
    f = descend(make)
    w, g = np.ones(5), np.ones(5)
    run = f.bind(w, g, 0.5)
    (y,) = run()
    np.testing.assert_array_equal(y, 0.5)
    w[:] = 3.0
    assert run()[0] is y
    np.testing.assert_array_equal(y, 2.5)
    del f, w, g
    gc.collect()
    np.testing.assert_array_equal(run()[0], 2.5)


def test_bind_with_out_and_donation(make: Maker) -> None:
    w, g, y = np.ones(5), np.ones(5), np.zeros(5)
    assert descend(make).bind(w, g, 1.0, out=[y])()[0] is y
    run = descend(make, donated={0: 0}).bind(w, g, 1.0)
    assert run()[0] is w and run()[0] is w
    np.testing.assert_array_equal(w, -1.0)


def test_bind_refuses_arrays_it_would_have_to_copy(make: Maker) -> None:
    f = descend(make)
    for given in (np.ones(10)[::2], np.ones(5, ">f8")):
        with pytest.raises(StorageError, match="weights: cannot bind"):
            f.bind(given, np.ones(5), 1.0)


def test_bound_0d_results_are_arrays(make: Maker) -> None:
    x = np.array(1.0)
    run = make(double_ir(), [spec()], [spec()]).bind(x)
    (y,) = run()
    x[...] = 4.0
    assert y.shape == () and run()[0] is y and y == 8.0


# -- threads and re-entrance -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_many_threads_through_one_function(make: Maker, seconds: float) -> None:
    n = 4096
    ir = through_arena_ir(n).replace("declare void @between()", "")
    f = make(ir, [spec(n)], [spec(n)], arena_bytes=8 * n, seconds_estimate=seconds)
    wrong: list[object] = []

    def hammer(k: int) -> None:
        x = np.full(n, float(k))
        try:
            wrong.extend(k for _ in range(200) if not (f(x)[0] == k).all())
        except BaseException as error:  # a thread's exception would otherwise be lost
            wrong.append(error)

    threads = [threading.Thread(target=hammer, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_large_results_from_many_threads(make: Maker) -> None:
    n = arena.POOLED_BYTES // 8
    f = make(affine_ir(n), [spec(n)], [spec(n)], seconds_estimate=1.0)
    wrong: list[object] = []

    def hammer(k: int) -> None:
        x, last = np.full(n, float(k)), np.full(n, 2.0 * k + 1)
        for _ in range(60):
            (y,) = f(x)
            if not ((y == 2.0 * k + 1).all() and (last == 2.0 * k + 1).all()):
                wrong.append(k)
            last = y

    threads = [threading.Thread(target=hammer, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_a_step_may_be_entered_again_while_it_runs(make: Maker, seconds: float) -> None:
    n, depth, results = 100, [0], []

    @ctypes.CFUNCTYPE(None)
    def between() -> None:
        if depth[0] < arena.BUFFERS_PER_OUTPUT + 70:  # beyond the room of the shared free list
            depth[0] += 1
            k = depth[0]
            results.append((k, f(np.full(n, float(k)))[0]))

    where = ctypes.cast(between, ctypes.c_void_p).value or 0
    ir = through_arena_ir(n, "call void @between()")
    f = make(ir, [spec(n)], [spec(n)], arena_bytes=8 * n, seconds_estimate=seconds, symbols={"between": where})
    assert (f(np.zeros(n))[0] == 0).all()
    assert len(results) == depth[0] and all((y == k).all() for k, y in results)
    depth[0] = 10**6
    assert (f(np.ones(n))[0] == 1).all()


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["GIL held", "GIL released"])
def test_a_bound_step_refuses_to_overlap_itself(make: Maker, seconds: float) -> None:
    caught: list[BaseException] = []

    @ctypes.CFUNCTYPE(None)
    def between() -> None:
        try:
            run()
        except RuntimeError as error:
            caught.append(error)

    where = ctypes.cast(between, ctypes.c_void_p).value or 0
    ir = through_arena_ir(3, "call void @between()")
    f = make(ir, [spec(3)], [spec(3)], arena_bytes=24, seconds_estimate=seconds, symbols={"between": where})
    run = f.bind(np.ones(3))
    assert (run()[0] == 1).all() and (run()[0] == 1).all()
    assert len(caught) == 2 and "already running" in str(caught[0])


# -- memory ----------------------------------------------------------------------------------------------------------
LARGE = arena.POOLED_BYTES // 8


def base_of(y: np.ndarray[Any, Any]) -> int:
    return int(y.__array_interface__["data"][0])


def test_large_results_are_recycled(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    x = np.zeros(LARGE)
    where = set()
    for _ in range(20):
        (y,) = f(x)
        assert base_of(y) % arena.ALIGNMENT == 0 and y.flags.carray
        where.add(base_of(y))
    assert len(where) <= arena.BUFFERS_PER_OUTPUT


@pytest.mark.parametrize(
    "hold",
    [
        lambda y: y,
        lambda y: y[5:10],
        lambda y: y.reshape(8, -1).T[1:3],
        lambda y: y.view(np.uint8)[::3],
        memoryview,
        lambda y: np.frombuffer(y, np.float32),
        lambda y: np.asarray(memoryview(y)[16:32]),
        lambda y: np.lib.stride_tricks.as_strided(y, (4,), (8,)),
        lambda y: y.ctypes,
        lambda y: np.from_dlpack(y),
        lambda y: iter(y),
        lambda y: y.flat,
        lambda y: (ctypes.c_double * 4).from_buffer(y),
    ],
    ids=["array", "slice", "transposed", "bytes", "memoryview", "frombuffer", "part", "as_strided", "ctypes", "dlpack",
         "iterator", "flat", "from_buffer"],
)  # fmt: skip
def test_memory_the_caller_still_sees_is_never_reused(make: Maker, hold: Callable[[Any], Any]) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    held = [hold(f(np.full(LARGE, float(k)))[0]) for k in range(4)]
    for k in range(10, 20):
        f(np.full(LARGE, float(k)))
    for k, h in enumerate(held):
        expected = hold(np.full(LARGE, 2.0 * k + 1))
        if hasattr(h, "data_as"):
            assert h.data_as(ctypes.POINTER(ctypes.c_double))[7] == 2.0 * k + 1
        else:
            np.testing.assert_array_equal(np.array(list(h)).ravel()[:4], np.array(list(expected)).ravel()[:4])


def test_what_the_caller_did_to_a_dropped_result_does_not_come_back(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    x = np.zeros(LARGE)
    for _ in range(6):
        (y,) = f(x)
        assert y.shape == (LARGE,) and y.dtype == np.float64 and y.flags.writeable
        y.shape = (8, -1)
        y.dtype = np.uint8  # type: ignore[misc]
        y.flags.writeable = False
        gone = weakref.ref(y)
        del y
        assert gone() is None


def test_trim_lets_go_and_keeps_results(make: Maker) -> None:
    f = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    (y,) = f(np.ones(LARGE))
    f.trim()
    for k in range(4):
        assert (f(np.full(LARGE, float(k)))[0] == 2 * k + 1).all()
    assert (y == 3.0).all()


def test_pool_take_never_waits_for_itself() -> None:
    pool = arena.OutputPool(spec(LARGE))
    with pool._lock:
        pool.clear()
        assert pool.take().shape == (LARGE,)


def test_pools_stay_within_their_limit() -> None:
    half = spec(arena.POOL_LIMIT // (2 * arena.BUFFERS_PER_OUTPUT) // 8)
    pools = arena.make_pools([half, spec(3), half, half])
    if arena._IDLE is None:
        assert pools == [None] * 4
    else:
        assert [p is not None for p in pools] == [True, False, True, False]


def test_calls_leave_reference_counts_alone(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    plain, number = make(affine_ir(3), [spec(3)], [spec(3)]), make(double_ir(), [spec()], [spec()])
    large = make(affine_ir(LARGE), [spec(LARGE)], [spec(LARGE)])
    w, g, rate, x, big, s = np.ones(5), np.zeros(5), np.float64(0.5), np.ones(3), np.ones(LARGE), np.array(2.0)
    run = f.bind(w, g, rate)
    frozen = x[::-1]

    def work(rounds: int) -> None:
        for _ in range(rounds):
            f(w, g, rate)
            plain(x)
            number(s)
            number(1.5)
            run()
            for call in (lambda: plain(None), lambda: plain(frozen), lambda: f(w, w, rate), lambda: f(w, g, -1.0)):
                try:
                    call()
                except (Mismatch, StorageError, Failure):
                    pass
        for _ in range(rounds // 20):
            large(big)

    watched = {"None": None, "float64": np.dtype(np.float64), "w": w, "g": g, "rate": rate, "x": x, "big": big, "s": s,
               "True": True, "0": 0, "tuple": (), "f": f, "plain": plain, "entry": f.entry, "run": run}  # fmt: skip
    work(5)
    gc.collect()
    before = {name: sys.getrefcount(value) for name, value in watched.items()}
    work(2500)
    gc.collect()
    after = {name: sys.getrefcount(value) for name, value in watched.items()}
    leaked = {name: after[name] - before[name] for name in watched if abs(after[name] - before[name]) > 50}
    assert not leaked


def test_a_dropped_function_is_collected(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    f(np.ones(5), np.ones(5), 0.5)
    gone, entry_point = weakref.ref(f), f.entry
    del f
    gc.collect()
    assert gone() is not None
    w = np.ones(5)
    assert entry_point(w, np.ones(5), 0.5)[0] is w
    del entry_point
    gc.collect()
    assert gone() is None


# -- the compiled entry itself ---------------------------------------------------------------------------------------
def test_the_rehearsal_notices_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    machinery = entry._get_machinery()
    if machinery is None:
        pytest.skip("no compiled entry on this interpreter")
    assert entry._rehearse(machinery)
    wrong: Loaded = load(entry.code.module_text().replace("fmul double", "fadd double"), entry.code.PROBE,
                         symbols=objects.probe().symbols)  # type: ignore[union-attr]  # fmt: skip
    broken = entry._Machinery(
        machinery.call, machinery.bound, machinery.take, machinery.give, wrong.address, (machinery.keep, wrong)
    )
    assert not entry._rehearse(broken)


def test_ordinary_calls_do_not_take_the_slow_way() -> None:
    if objects.probe() is None:
        pytest.skip("no compiled entry on this interpreter")
    loaded = load(descend_ir(5), "step")
    inputs = [spec(5), spec(5), spec()]
    f = NativeFunction(
        loaded.address, inputs, [spec(5)], 0, {0: 0}, [], describe, lambda i, x: Mismatch(), owner=loaded
    )
    f(np.ones(5), np.ones(5), 0.5)
    f._leases.give(f._leases.take())
    f.inputs = ()  # the portable path would now refuse every call
    for rate in (0.5, 1, np.float64(0.5), np.array(0.5)):
        f.entry(np.ones(5), np.ones(5), rate)
    with pytest.raises(TypeError):
        f.entry(np.ones(5)[::-1], np.ones(5), 0.5)


def test_admit_copies_only_when_it_must() -> None:
    x = np.arange(6.0)
    assert admit(x, spec(6)) is x
    frozen = x.view()
    frozen.flags.writeable = False
    assert admit(frozen, spec(6)) is frozen
    turned = admit(x[::-1], spec(6))
    assert turned is not None and not np.shares_memory(turned, x)
    subclass = admit(x.view(np.recarray), spec(6))
    assert type(subclass) is np.ndarray and np.shares_memory(subclass, x)
