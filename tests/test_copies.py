"""Code that copies memory: all of it, and nothing beyond."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from gradc.codegen.ceilings import copies, copy_step
from gradc.codegen.ir import Function, Module
from gradc.codegen.memory import copy_bytes
from gradc.codegen.target import Target
from gradc.runtime.load import load


def test_what_measures_memory_copies_all_of_it():
    target = Target.host()
    count = 3 * copy_step(target)
    loaded = load(str(copies(target, "step")), "step")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(loaded.address)
    source, to = np.arange(1, count + 1, dtype=np.float32), np.zeros(count + 1, np.float32)
    function(source.ctypes.data, to.ctypes.data, count, 1)
    assert np.array_equal(to[:-1], source) and to[-1] == 0


@pytest.mark.parametrize("count", [1, 3, 64, 127])
def test_bytes_are_copied_and_none_beyond(count):
    module = Module()
    f = Function(module, "step", [("ptr noalias", "from"), ("ptr noalias", "to")])
    copy_bytes(f, "%from", "%to", count)
    f.finish()
    loaded = load(str(module), "step")
    source, to = np.arange(1, 201, dtype=np.uint8), np.zeros(200, np.uint8)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(loaded.address)(source.ctypes.data, to.ctypes.data)
    assert np.array_equal(to[:count], source[:count]) and not to[count:].any()
