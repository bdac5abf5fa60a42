"""Every op of the registry on the simulated device: the same comparison as for the CPU.

Nothing is loosened: bit-equal where the CPU must be, within the op's stated bound elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradc.node import OPS
from gradc.passes.accumulate import is_narrow_sum
from tests.compiled_graph import compiled, same_bits
from tests.op_cases import BITWISE, LOGICAL, cases
from tests.ptx.device import on_device
from tests.test_ops import COMPUTED, _compiled_cases, _hold_against_numpy


@pytest.mark.parametrize("name", COMPUTED)
def test_device_is_numpy(name):
    """All samples of an op in both dtypes, and IEEE's special values, in one module."""
    applied = [c for dtype in (np.float64, np.float32) for c in _compiled_cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = on_device(*nodes, inputs=[a for n in nodes for a in n.args])
    results = run(*[a for case in applied for a in case.arrays])
    for case, node, got in zip(applied, nodes, results, strict=True):
        _hold_against_numpy(case, node, got)


@pytest.mark.parametrize("name", [n for n in COMPUTED if n not in BITWISE | LOGICAL])
def test_narrow_floats_on_the_device_are_the_cpus(name):
    """Bit for bit, but for sums: those are in float32 in another order, and round to the same number or a neighbour."""
    applied = [c for dtype in ("bfloat16", "float16") for c in cases(OPS[name], np.dtype(dtype))]
    nodes = [case.node() for case in applied]
    arrays, inputs = [a for case in applied for a in case.arrays], [a for n in nodes for a in n.args]
    found, expected = (run(*nodes, inputs=inputs)(*arrays) for run in (on_device, compiled))
    for node, got, cpu in zip(nodes, found, expected, strict=True):
        if is_narrow_sum(node):
            step = np.spacing(np.abs(cpu)).astype(np.float32)
            assert np.all(np.abs(got.astype(np.float32) - cpu.astype(np.float32)) <= step)
        else:
            assert same_bits(got, cpu), (node, got, cpu)
