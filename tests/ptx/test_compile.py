"""`gradc.compile` for a GPU: what is there without one, what a call does, and every way to be refused."""

from __future__ import annotations

import gc as garbage
import json
import sys

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.cli import main
from gradc.codegen.ptx import FINE, Gpu
from gradc.containers import leaves_of
from gradc.errors import ArgumentError, CompileError, DeviceError, IndexingError, NoCodeError, StorageError
from gradc.runtime import cuda, dlpack
from gradc.runtime.load import GPU_INTRINSICS, assemble
from tests.ptx import models
from tests.ptx.assembler import assembled
from tests.ptx.driver import SimulatedDriver

X = gc.spec((6, 8), np.float32)


def affine(x, b):
    return gnp.maximum(x * 2 + b, 0)


def picked(x, i):
    return x[i] * 2


@pytest.fixture
def driver(monkeypatch):
    simulated = SimulatedDriver()
    monkeypatch.setattr(cuda, "driver", lambda: simulated)
    return simulated


# -- without a GPU -----------------------------------------------------------------------------------------------------


def test_the_text_and_the_plan_need_no_gpu(tmp_path):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")
    assert ".target sm_90" in exe.ptx and ".version 7.8" in exe.ptx
    assert exe.ptx.startswith("// gradc ") and "// 1 launches" in exe.ptx
    assert str(exe.plan).split("\n")[1] == "  gradc_0_map<<<1, 32>>>(input 0, input 1, output 0)"
    assert exe.stats["launches"] == 1 and exe.stats["flops"] == 6 * 8 * 3
    assert exe.text("schedule").endswith(str(exe.plan)) and exe.text("ptx") == exe.ptx
    written = exe.save(tmp_path / "affine.ptx")
    assert [p.name for p in written] == ["affine.ptx", "affine.json"]
    plan = json.loads(written[1].read_text())
    assert plan["inputs"][1] == {"name": "b", "dtype": "float32", "shape": [8]}
    assert plan["launches"][0]["pointers"] == [{"input": 0}, {"input": 1}, {"output": 0}]
    assert plan["launches"][0]["entry"] in written[0].read_text()


OTHERS = [pytest.param(arch, marks=pytest.mark.nightly) for arch in ("sm_86", "sm_89", "sm_100")]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_120", *OTHERS])
def test_training_steps_assemble_for_every_architecture(arch):
    """Adam on two layers: products with epilogues, reductions, gathers and scatters; nothing spills."""
    step, args = models.mlp()
    exe = gc.compile(step, *args, target=arch)
    usages = assembled(exe.ptx, arch)
    assert set(usages) == {x.entry for x in exe.plan.launches}
    assert not any(u.spilled for u in usages.values())
    shared = {x.entry: x.shared_bytes for x in exe.plan.launches}
    assert all(u.shared >= shared[name] for name, u in usages.items())


@pytest.mark.nightly
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_a_transformer_step_assembles_for_every_architecture(arch):
    step, args = models.transformer()
    exe = gc.compile(step, *args, target=arch)
    assert not any(u.spilled for u in assembled(exe.ptx, arch).values())


def test_unknown_targets_are_refused_before_anything_is_traced():
    def never(x):
        raise AssertionError("traced")

    with pytest.raises(CompileError, match=r"no target 'sm_42'; there are cpu, sm_75, sm_80"):
        gc.compile(never, X, target="sm_42")
    with pytest.raises(CompileError, match="no target 'gpu'"):
        gc.compile(never, X, target="gpu")


def test_precision_is_for_gpus_that_have_it():
    def never(x):
        raise AssertionError("traced")

    with pytest.raises(CompileError, match="precision='tf32' is about tensor cores of GPUs"):
        gc.compile(never, X, precision="tf32")
    with pytest.raises(CompileError, match="sm_75 has no tensor cores for precision='tf32'; there are those of sm_80"):
        gc.compile(never, X, target="sm_75", precision="tf32")
    with pytest.raises(ValueError, match="precision='half': expected 'ieee' or 'tf32'"):
        gc.compile(never, X, target="sm_80", precision="half")


def test_what_is_allowed_beyond_ieee_is_said():
    def product(a, b):
        return a @ b

    pair = gc.spec((32, 16), np.float32), gc.spec((16, 24), np.float32)
    exe = gc.compile(product, *pair, target="sm_80", precision="tf32")
    assert "product_tf32" in str(exe.plan) and exe.stats["precision"] == "tf32"
    assert "for sm_80, precision=tf32" in exe.ptx.split("\n")[0] and "precision=tf32" in repr(exe)
    assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in exe.ptx
    plain = gc.compile(product, *pair, target="sm_80")
    assert "mma" not in plain.ptx and "precision" not in plain.ptx


def test_more_shared_memory_than_code_may_declare_is_asked_for_at_the_launch(driver):
    def product(a, b):
        return a @ b

    n = 1280  # as many tiles of 128 x 128 as the choice assumes multiprocessors
    exe = gc.compile(product, *[gc.spec((n, n), np.float32)] * 2, target="sm_80", precision="tf32")
    (launch,) = exe.plan.launches
    assert launch.shared_bytes == launch.dynamic_bytes > 48 * 1024
    assert exe.interface()["launches"][0]["dynamic_shared_bytes"] == launch.dynamic_bytes
    exe.put(np.zeros(1))  # the driver lends so much


def test_debug_locations_are_for_the_cpu():
    with pytest.raises(CompileError, match="debug=True has no meaning on sm_90"):
        gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90", debug=True)


def test_work_that_a_gpu_lacks_is_named_with_the_users_line(monkeypatch):
    monkeypatch.setattr(sys.modules["gradc.codegen.ptx.emit"], "Each", _refusing)
    with pytest.raises(CompileError, match=r"test_compile\.py:\d+: affine: map has no code on a GPU; .*target='cpu'"):
        gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")


def _refusing(nest, title):
    raise NoCodeError(title, "a GPU", 4)


def test_captured_arrays_stay_in_the_process(tmp_path):
    table = np.arange(48, dtype=np.float32).reshape(6, 8)
    exe = gc.compile(lambda x: x + table, X, target="sm_80")
    with pytest.raises(CompileError, match=r"captures arrays \(float32\[6, 8\]\)"):
        exe.save(tmp_path / "f.ptx")
    with pytest.raises(CompileError, match=r"must end in \.ptx, \.json or \.ll"):
        exe.save(tmp_path / "f.o")


def test_calling_without_the_bindings_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    cuda.driver.cache_clear()
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")
    with pytest.raises(DeviceError, match=r"pip install 'gradc\[cuda\]'"):
        exe(np.zeros((6, 8), np.float32), np.zeros(8, np.float32))


@pytest.mark.parametrize("name", GPU_INTRINSICS)
def test_intrinsics_that_are_let_through_have_code(name):
    """One of the list that had none would end this process."""
    if name in ("nvvm", "amdgcn"):
        return
    arity = {"fma": 3, "fmuladd": 3, "copysign": 2}.get(name, 1)
    for kind in ("float", "double"):
        suffix = {"float": "f32", "double": "f64"}[kind]
        result, argument, full = kind, kind, f"llvm.{name}.{suffix}"
        if name.startswith("fpto"):
            result, full = "i64", f"llvm.{name}.i64.{suffix}"
        elif name.startswith(("ct", "vector")):
            result = argument = "i64"
            full = f"llvm.{name}.i64"
            if name.startswith("vector"):
                argument, full = "<4 x i64>", f"llvm.{name}.v4i64"
        types = [argument] * arity + (["i1"] if name in ("ctlz", "cttz") else [])
        given = ["%x"] * arity + (["false"] if name in ("ctlz", "cttz") else [])
        call = ", ".join(f"{t} {v}" for t, v in zip(types, given, strict=True))
        text = f"declare {result} @{full}({', '.join(types)})\ndefine {result} @f({argument} %x) {{\n"
        text += f"  %y = call {result} @{full}({call})\n  ret {result} %y\n}}\n"
        assert ".func" in assemble(text, "nvptx64-nvidia-cuda", "sm_75", "+ptx63")


@pytest.mark.parametrize("name", ["exp", "log", "pow", "sin", "cos", "tanh", "exp2", "log10", "sinh"])
def test_other_intrinsics_never_reach_llvm(name):
    text = f"declare double @llvm.{name}.f64(double)\ndefine double @f(double %x) {{\n"
    text += f"  %y = call double @llvm.{name}.f64(double %x)\n  ret double %y\n}}\n"
    with pytest.raises(CompileError, match=rf"llvm\.{name}\.f64 has no code"):
        assemble(text, "nvptx64-nvidia-cuda", "sm_90", "+ptx78")


# -- on the simulated device -------------------------------------------------------------------------------------------


def test_results_stay_on_the_device_until_they_are_asked_for(driver):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")
    x, b = np.linspace(-3, 3, 48, dtype=np.float32).reshape(6, 8), np.ones(8, np.float32)
    y = exe(exe.put(x), exe.put(b))
    assert repr(y) == "<float32[6,8]> on the device" or "on the device" in repr(y)
    np.testing.assert_array_equal(y.numpy(), np.maximum(x * 2 + b, 0))
    again = exe(y, exe.put(b)).numpy()
    np.testing.assert_array_equal(again, np.maximum(y.numpy() * 2 + b, 0))
    with pytest.raises(TypeError, match=r"\.numpy\(\)"):
        np.asarray(y)


def test_a_training_step_is_that_of_the_cpu(driver):
    """Parameters and state are donated: updated in place, step after step."""
    step, args = models.mlp()
    exe = gc.compile(step, *args, target="sm_80", donate=(0, 1))
    leaves, structure = leaves_of((args, {}))
    given, _ = structure.unflatten([exe.put(x) for x in leaves])
    params, state, batch = given[0], given[1], given[2:]
    reference = gc.compile(step, *args)
    expected = args
    for _ in range(3):
        params, state, loss = exe(params, state, *batch)
        expected = (*reference(*expected)[:2], *args[2:])
    assert params["W1"] is given[0]["W1"]
    for name, value in params.items():
        np.testing.assert_allclose(value.numpy(), expected[0][name], rtol=0, atol=2e-6)
    assert np.isfinite(loss.numpy())


@pytest.mark.nightly
def test_a_transformer_step_is_that_of_the_cpu(driver):
    step, args = models.transformer()
    exe = gc.compile(step, *args, target="sm_90")
    leaves, structure = leaves_of((args, {}))
    given, _ = structure.unflatten([exe.put(x) for x in leaves])
    got, _ = leaves_of(exe(*given))
    want, _ = leaves_of(gc.compile(step, *args)(*args))
    for device, host in zip(got, want, strict=True):
        np.testing.assert_allclose(device.numpy(), host, rtol=1e-5, atol=2e-6)


def test_bound_buffers_are_one_graph(driver):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")
    x, b = exe.put(np.ones((6, 8), np.float32)), exe.put(np.zeros(8, np.float32))
    out = exe.put(np.zeros((6, 8), np.float32))
    step = exe.bind(x, b, out=out)
    assert driver.launched == 0
    assert step() is out and step() is out
    assert (driver.graphs, driver.launched) == (2, 2)
    driver.device.set(x.pointer, np.full((6, 8), 5, np.float32))
    np.testing.assert_array_equal(step().numpy(), np.full((6, 8), 10))


def test_python_numbers_are_arguments_host_arrays_are_not(driver):
    exe = gc.compile(lambda x, scale: x * scale, X, 2.0, target="sm_80")
    x = np.ones((6, 8), np.float32)
    np.testing.assert_array_equal(exe(exe.put(x), 3.0).numpy(), 3 * x)
    with pytest.raises(ArgumentError, match=r"x is an array of the host; .*\.put\(x\)"):
        exe(x, 3.0)


def test_indices_out_of_range_are_reported_with_the_users_line(driver):
    exe = gc.compile(picked, X, gc.spec((3,), np.int64), target="sm_80")
    x, i = exe.put(np.ones((6, 8), np.float32)), exe.put(np.array([0, -6, 5]))
    assert exe(x, i).numpy().sum() == 48
    with pytest.raises(IndexingError, match=r"test_compile\.py:\d+: .*picked: index out of range"):
        exe(x, exe.put(np.array([0, 6, 1])))
    np.testing.assert_array_equal(exe(x, i).numpy(), np.full((3, 8), 2))


@pytest.mark.parametrize("given", [np.ones((6, 9), np.float32), np.ones((6, 8)), "x", None])
def test_arguments_that_do_not_fit_are_named(driver, given):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_80")
    b = exe.put(np.zeros(8, np.float32))
    with pytest.raises((ArgumentError, TypeError), match="affine"):
        exe(given, b)
    if isinstance(given, np.ndarray):
        with pytest.raises(ArgumentError, match="x has"):
            exe(exe.put(given), b)


class Foreign:
    """An array of another library, by the CUDA Array Interface."""

    def __init__(self, pointer, shape, typestr="<f4", strides=None):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "data": (pointer, False), "version": 3, "strides": strides,
        }  # fmt: skip


def test_arrays_of_other_libraries_are_read_where_they_lie(driver):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_80")
    x, b = exe.put(np.ones((6, 8), np.float32)), exe.put(np.zeros(8, np.float32))
    interface = x.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"], interface["stream"]) == ((6, 8), "<f4", 7)
    np.testing.assert_array_equal(exe(Foreign(x.pointer, (6, 8)), b).numpy(), np.full((6, 8), 2))
    np.testing.assert_array_equal(exe(Foreign(x.pointer, (6, 8), strides=(32, 4)), b).numpy(), np.full((6, 8), 2))
    with pytest.raises(StorageError, match="contiguous"):
        exe(Foreign(x.pointer, (6, 8), strides=(4, 24)), b)
    with pytest.raises(StorageError, match="multiple of 16"):
        exe(Foreign(x.pointer + 4, (6, 8)), b)


class Producer:
    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        return self.array.__dlpack__(stream=stream)


def test_dlpack_goes_in_and_out(driver):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_80")
    x, b = exe.put(np.ones((6, 8), np.float32)), exe.put(np.zeros(8, np.float32))
    np.testing.assert_array_equal(exe(Producer(x), b).numpy(), np.full((6, 8), 2))
    taken = dlpack.take(x.__dlpack__())
    assert (taken.pointer, taken.shape, taken.device) == (x.pointer, (6, 8), (2, 0))
    pointer = x.pointer
    del x
    garbage.collect()
    assert pointer not in driver.freed
    del taken
    garbage.collect()
    assert pointer in driver.freed


def test_capsules_are_what_numpy_takes_and_gives():
    """On the host, where NumPy can be the other library."""
    a = np.arange(12, dtype=np.int16).reshape(3, 4)

    class Host:
        def __dlpack__(self, **_):
            return dlpack.capsule(a.ctypes.data, a.shape, a.dtype, a, (dlpack.HOST, 0))

        def __dlpack_device__(self):
            return dlpack.HOST, 0

    np.testing.assert_array_equal(np.from_dlpack(Host()), a)
    taken = dlpack.take(a.T.__dlpack__())
    assert (taken.pointer, taken.shape, taken.dtype, taken.contiguous) == (a.ctypes.data, (4, 3), np.int16, False)
    given = a.__dlpack__()
    dlpack.take(given)
    with pytest.raises(ArgumentError, match="taken once"):
        dlpack.take(given)
    unused = Host().__dlpack__()
    alive = len(dlpack._ALIVE)
    del unused
    assert len(dlpack._ALIVE) == alive - 1


def test_devices_and_drivers_that_are_too_old_are_named(monkeypatch):
    exe = gc.compile(affine, X, gc.spec((8,), np.float32), target="sm_90")
    monkeypatch.setattr(cuda, "driver", lambda: SimulatedDriver(capability=(8, 0)))
    with pytest.raises(DeviceError, match="compiled for sm_90, but Simulated GPU is sm_80"):
        exe.put(np.zeros(3))
    monkeypatch.setattr(cuda, "driver", lambda: SimulatedDriver(cuda=(11, 4)))
    with pytest.raises(DeviceError, match=r"knows CUDA 11\.4; code for sm_90 needs 11\.8"):
        exe.put(np.zeros(3))


def test_a_device_without_room_says_so(monkeypatch):
    monkeypatch.setattr(cuda, "driver", lambda: SimulatedDriver(room=1 << 12))
    exe = gc.compile(lambda x: x.sum(axis=0), gc.spec((64, 8), np.float32), target="sm_90")
    with pytest.raises(DeviceError, match="2,048 bytes: out of memory"):
        exe.put(np.zeros((64, 8), np.float32))
        exe.put(np.zeros((64, 8), np.float32))


def test_the_words_for_fine_and_for_targets_are_fixed():
    assert FINE == 2**64 - 1
    assert Gpu("sm_120").compute_capability == (12, 0) and not Gpu("sm_75").copies_asynchronously


# -- the command line --------------------------------------------------------------------------------------------------

MODEL = "import numpy as np\ndef f(x=np.ones((4, 8), np.float32)):\n    return (x * 2).sum()\n"


def test_the_command_line_shows_and_writes_ptx(tmp_path, capsys):
    file = tmp_path / "m.py"
    file.write_text(MODEL)
    place = f"{file}:f"
    assert main(["show", place, "--stage", "ptx"]) == 0
    assert ".target sm_80" in capsys.readouterr().out
    assert main(["show", place, "--stage", "schedule", "--target", "sm_90"]) == 0
    assert "<<<1, 128>>>" in capsys.readouterr().out
    out = tmp_path / "f.ptx"
    assert main(["compile", place, "--target", "sm_90", "--grad", "-o", str(out)]) == 0
    assert "f.json" in capsys.readouterr().out and ".entry" in out.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compile", "-o", "f.ptx"], "add --target sm_80"),
        (["compile", "-o", "f.ptx", "--target", "sm_1"], "no target 'sm_1'"),
        (["compile", "-o", "f.o", "--target", "sm_80"], "must end in .ptx"),
        (["compile", "-o", "f.ptx", "--target", "sm_80", "--cpu", "x"], "leave them out"),
        (["show", "--stage", "ptx", "--target", "cpu"], "a CPU has no PTX"),
        (["show", "--precision", "tf32"], "--precision tf32 is about tensor cores of GPUs; add --target sm_80"),
        (["compile", "-o", "f.o", "--precision", "tf32"], "--precision tf32 is about tensor cores of GPUs"),
    ],
)
def test_the_command_line_refuses_in_one_line(tmp_path, capsys, words, told):
    file = tmp_path / "m.py"
    file.write_text(MODEL)
    assert main([words[0], f"{file}:f", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_loops_over_single_elements_are_one_kernel(driver):
    def decayed(x):
        return gc.fori_loop(0, 50, lambda i, v: gnp.sin(v) * 0.5 + i, x)

    exe = gc.compile(decayed, X, target="sm_90")
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(6, 8)
    assert len(exe.plan.launches) == 1
    np.testing.assert_allclose(exe(exe.put(x)).numpy(), gc.jit(decayed)(x), rtol=1e-6)
