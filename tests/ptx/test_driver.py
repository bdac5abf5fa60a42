"""The calls of the CUDA driver, by way of NVIDIA's own bindings, to a library that only writes down what it is asked.

It is compiled here (libcuda.c); without a C compiler or the bindings (`pip install 'gradc[cuda]'`) there is no test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

BODY = """
import gc as garbage, threading
import numpy as np
import gradc as gc
from gradc.runtime import cuda

driver = cuda.driver()
assert (driver.name, driver.compute_capability, driver.cuda_version, driver.stream) == ("No GPU", (9, 0), (13, 0), 32)
exe = gc.compile(lambda x, i: x[i], gc.spec((4, 4), np.float32), gc.spec((4,), np.int64), target="sm_80")
x, i = exe.put(np.arange(16, dtype=np.float32).reshape(4, 4)), exe.put(np.arange(4))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    pytest.importorskip("cuda.bindings", reason="no cuda-bindings: pip install 'gradc[cuda]'")
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler on Linux")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler, "-shared", "-fPIC", "-w", "-o", str(folder / "libcuda.so.1"), str(HERE / "libcuda.c"), "-ldl"]
    subprocess.run(command, check=True)
    return folder


def said(library, body):
    """What the driver was asked, line by line, and what the program printed."""
    packages = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "PYTHONPATH": packages}
    done = subprocess.run(
        [sys.executable, "-c", BODY + body], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    return done.stderr.splitlines(), done.stdout.splitlines(), done.returncode


def test_a_call_packs_its_arguments(library):
    asked, printed, code = said(library, "print(exe(x, i).numpy()[0])")
    assert code == 0, asked
    assert asked[:2] == ["stream 0", f"pool 4 {2**64 - 1:x}"]
    assert "load 2 5 6 8192" in asked
    assert "launch 1 1 1, 32 1 1, 0, 1" in asked and f"status {2**64 - 1:x}" in asked
    assert printed == ["[0. 1. 2. 3.]"]


def test_a_bound_call_is_a_graph_that_is_forgotten(library):
    body = "run = exe.bind(x, i)\nrun()\nrun()\ndel run\ngarbage.collect()\n"
    asked, _, code = said(library, body)
    assert code == 0, asked
    events = [a for a in asked if a.split()[0] in ("begin", "launch", "end", "instantiate", "destroy", "run")]
    assert events == [
        "begin 1", "launch 1 1 1, 32 1 1, 0, 1", "end", "instantiate 0", "destroy graph", "run graph", "run graph",
        "destroy run",
    ]  # fmt: skip


def test_threads_enter_the_context_and_leave_it(library):
    body = "t = threading.Thread(target=lambda: print(exe(x, i).numpy().shape))\nt.start()\nt.join()\n"
    asked, printed, code = said(library, body)
    assert code == 0 and printed == ["(4, 4)"], asked


def test_errors_have_the_drivers_words(library):
    asked, _, code = said(library, "driver.allocate(2**31)")
    assert code == 1
    assert asked[-1].endswith("could not allocate 2,147,483,648 bytes: out of memory (CUDA_ERROR_OUT_OF_MEMORY)")
    body = "gc.compile(lambda x: x * 2, gc.spec((4,), np.float32), target='sm_75').put(np.zeros(4))"
    asked, _, code = said(library, body)
    assert code == 1 and asked[-2:] == [
        "gradc.errors.DeviceError: the device could not load the PTX: wrong (CUDA_ERROR)", "line 3: no such target"
    ]  # fmt: skip


def test_more_shared_memory_is_asked_for_by_function_and_launch(library):
    body = "f = driver.function(driver.load('.target sm_80'), 'k', 70000)\n"
    body += "y = exe.put(np.zeros((4, 4)))\n"
    body += "driver.launch(f, 2, 64, [x.pointer, i.pointer, y.pointer, exe._function.status.pointer], 70000)\n"
    asked, _, code = said(library, body)
    assert code == 0 and "attribute 8 70000" in asked and "launch 2 1 1, 64 1 1, 70000, 1" in asked
