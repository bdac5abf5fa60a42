"""Every op of the registry on the simulated device: the same comparison as for the CPU.

Nothing is loosened: bit-equal where the CPU must be, within the op's stated bound elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradc.node import OPS
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
