"""On a real device: every op of the registry, and training steps, under the comparisons of the simulated one."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.ptx import Gpu
from gradc.codegen.ptx.target import PTX_VERSIONS
from gradc.containers import leaves_of
from gradc.node import OPS
from gradc.runtime import cuda
from gradc.runtime.arrays import ArraySpec
from gradc.runtime.device import DeviceFunction
from tests.ptx import models
from tests.ptx.device import DeviceGraph, on_device
from tests.test_ops import COMPUTED, _compiled_cases, _hold_against_numpy

pytestmark = pytest.mark.gpu


def target() -> str:
    """The newest architecture that this device runs."""
    own = cuda.driver().compute_capability
    return max((a for a in PTX_VERSIONS if Gpu(a).compute_capability <= own), key=lambda a: Gpu(a).compute_capability)


def on_gpu(graph: DeviceGraph) -> DeviceFunction:
    inputs = [ArraySpec(n.shape, n.dtype, f"input {k}") for k, n in enumerate(graph.graph.inputs)]
    outputs = [ArraySpec(n.shape, n.dtype, f"output {k}") for k, n in enumerate(graph.graph.outputs)]
    return DeviceFunction(
        cuda.driver(), graph.gpu, graph.ptx, graph.module.plan, inputs, outputs, {}, graph.schedule.arrays, None,
        lambda i, x: AssertionError(f"input {i}: {x!r:.80}"),
    )  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_device_is_numpy(name):
    applied = [c for dtype in (np.float64, np.float32) for c in _compiled_cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = on_gpu(on_device(*nodes, inputs=[a for n in nodes for a in n.args], arch=target()))
    results = run(*[run.put(np.asarray(a)) for case in applied for a in case.arrays])
    for case, node, got in zip(applied, nodes, results, strict=True):
        _hold_against_numpy(case, node, got.numpy())


@pytest.mark.parametrize("model", [models.mlp, models.transformer])
def test_training_steps_are_those_of_the_cpu_and_the_same_every_time(model):
    step, args = model()
    exe = gc.compile(step, *args, target=target())
    leaves, structure = leaves_of((args, {}))
    given, _ = structure.unflatten([exe.put(x) for x in leaves])
    first, second = (leaves_of(exe(*given))[0] for _ in range(2))
    want, _ = leaves_of(gc.compile(step, *args)(*args))
    for a, b, host in zip(first, second, want, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        np.testing.assert_allclose(a.numpy(), host, rtol=1e-5, atol=2e-6)


def test_bound_steps_are_graphs_and_failures_are_raised():
    exe = gc.compile(lambda x, i: x[i] * 2, gc.spec((6, 8), np.float32), gc.spec((3,), np.int64), target=target())
    x, i = exe.put(np.ones((6, 8), np.float32)), exe.put(np.array([0, -6, 5]))
    replay = exe.bind(x, i)
    np.testing.assert_array_equal(replay().numpy(), np.full((3, 8), 2))
    with pytest.raises(gc.IndexingError, match="index out of range"):
        exe(x, exe.put(np.array([0, 6, 1])))


def test_arrays_of_other_libraries_stay_where_they_are():
    torch = pytest.importorskip("torch")
    exe = gc.compile(lambda x: x * 2, gc.spec((6, 8), np.float32), target=target())
    y = exe(torch.ones((6, 8), device="cuda"))
    assert torch.equal(torch.as_tensor(y, device="cuda"), torch.full((6, 8), 2.0, device="cuda"))
    assert torch.equal(torch.from_dlpack(y), torch.full((6, 8), 2.0, device="cuda"))
