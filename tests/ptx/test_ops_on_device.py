"""Every op of the registry on the simulated device: the same comparison as for the CPU.

Nothing is loosened: bit-equal where the CPU must be, within the op's stated bound elsewhere.  NVIDIA's assembler takes
the kernels of all ops, in one call for each architecture.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradc.node import OPS
from gradc.ops.record import Kind
from gradc.passes.accumulate import is_narrow_sum
from tests.compiled_graph import compiled, same_bits
from tests.op_cases import BITWISE, LOGICAL, ON_CPUS_ALONE, cases, operands
from tests.ptx.assembler import assembled
from tests.ptx.device import on_device
from tests.test_ops import COMPUTED as EVERY
from tests.test_ops import _compiled_cases, _hold_against_numpy

COMPUTED = [name for name in EVERY if name not in ON_CPUS_ALONE]


#: the cost of an op beyond which simulating it takes seconds
LONG = 300


def _daily(names, kept=()):
    """Each name; of long algorithms, which take thousands of instructions to simulate, all but ``kept`` nightly."""
    slow = [n for n in names if (OPS[n].kind is Kind.WHOLE or (OPS[n].cost or 0) > LONG) and n not in kept]
    return [pytest.param(n, marks=pytest.mark.nightly if n in slow else ()) for n in names]


@pytest.mark.parametrize("name", _daily(COMPUTED, ("cholesky", "triangular_solve", "solve", "rgamma")))
def test_device_is_numpy(name):
    """All samples of an op in both dtypes, and IEEE's special values, in one module."""
    applied = [c for dtype in (np.float64, np.float32) for c in _compiled_cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = on_device(*nodes, inputs=[a for n in nodes for a in operands(n)])
    results = run(*[a for case in applied for a in case.arrays])
    for case, node, got in zip(applied, nodes, results, strict=True):
        _hold_against_numpy(case, node, got)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", _daily([n for n in COMPUTED if n not in BITWISE | LOGICAL]))
def test_narrow_floats_on_the_device_are_the_cpus(name):
    """Bit for bit, but for sums: those are in float32 in another order, and round to the same number or a neighbour."""
    applied = [c for dtype in ("bfloat16", "float16") for c in cases(OPS[name], np.dtype(dtype))]
    nodes = [case.node() for case in applied]
    arrays, inputs = [a for case in applied for a in case.arrays], [a for n in nodes for a in operands(n)]
    found, expected = (run(*nodes, inputs=inputs)(*arrays) for run in (on_device, compiled))
    for node, got, cpu in zip(nodes, found, expected, strict=True):
        if is_narrow_sum(node):
            step = np.spacing(np.abs(cpu)).astype(np.float32)
            assert np.all(np.abs(got.astype(np.float32) - cpu.astype(np.float32)) <= step)
        else:
            assert same_bits(got, cpu), (node, got, cpu)


NIGHTLY = [pytest.param(arch, marks=pytest.mark.nightly) for arch in ("sm_80", "sm_86", "sm_89", "sm_100")]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_120", *NIGHTLY])
def test_one_sample_of_every_op_assembles(arch):
    _assemble_all([_compiled_cases(OPS[name], np.float32)[:1] for name in COMPUTED], arch)


@pytest.mark.nightly
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_sample_of_every_op_assembles(arch, dtype):
    _assemble_all([_compiled_cases(OPS[name], dtype) for name in COMPUTED], arch)


def _assemble_all(cases, arch):
    """Every entry is there; no product spills, though a map that many ops share may."""
    nodes = [case.node() for of_op in cases for case in of_op]
    run = on_device(*nodes, inputs=[a for n in nodes for a in operands(n)], arch=arch)
    usages = assembled(run.ptx, arch)
    assert set(usages) == {x.entry for x in run.module.plan.launches}
    assert not {name: u for name, u in usages.items() if u.spilled and "product" in name}
    assert all(u.registers <= 255 and u.shared <= 48 * 1024 for u in usages.values())
