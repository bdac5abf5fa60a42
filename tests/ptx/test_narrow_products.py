"""Products of narrow operands on the simulated device: read in two bytes, multiplied and summed in float32."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.ptx.target import PTX_VERSIONS
from tests.ptx.assembler import assembled
from tests.ptx.device import DeviceGraph

SHAPES = [(70, 40, 33), (64, 64, 64), (1, 40, 65), (33, 1, 70)]


def _graph(dtype, m, n, k, right=None):
    specs = gc.spec((m, k), dtype), gc.spec((k, n), dtype if right is None else right)
    return gc.trace(lambda a, b: (a @ b) * 2.0, *specs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "arch"), [("bfloat16", "sm_75"), ("float16", "sm_75"), ("bfloat16", "sm_90")])
def test_a_product_is_within_float32s_bound_and_rounded(dtype, arch, shape):
    m, n, k = shape
    random = np.random.default_rng(sum(shape))
    a, b = random.normal(size=(m, k)).astype(dtype), random.normal(size=(k, n)).astype(dtype)
    (got,) = DeviceGraph(_graph(dtype, m, n, k), arch)(a, b)
    exact, size = a.astype(float) @ b.astype(float), np.abs(a.astype(float)) @ np.abs(b.astype(float))
    step = np.spacing(np.abs(exact).astype(dtype)).astype(float)
    assert got.dtype == dtype
    assert np.all(np.abs(got.astype(float) / 2 - exact) <= step / 2 + k * 2.0**-24 * size)


def test_one_operand_may_be_float32():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(40, 50)).astype("bfloat16"), random.normal(size=(50, 33)).astype(np.float32)
    (got,) = DeviceGraph(_graph("bfloat16", 40, 33, 50, np.float32))(a, b)
    np.testing.assert_allclose(got, a.astype(np.float32) @ b * 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", PTX_VERSIONS)
def test_ptxas_takes_it_on_every_target(arch):
    for dtype in ("bfloat16", "float16"):
        usage = assembled(DeviceGraph(_graph(dtype, 128, 96, 64), arch).ptx, arch)
        assert all(kernel.spilled == 0 for kernel in usage.values())
