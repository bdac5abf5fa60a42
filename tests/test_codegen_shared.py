"""Functions of the module that kernels call where the same arithmetic would stand too often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradc.codegen.shared import IN_PLACE
from tests.compiled_graph import compiled, leaf, same_bits


@pytest.mark.parametrize(("shape", "dtype"), [((), np.float64), ((37,), np.float32)])
def test_a_function_that_is_called_gives_the_bits_of_one_in_place(shape: tuple[int, ...], dtype: Any) -> None:
    x = leaf(shape, dtype)
    many = compiled(*[np.sin(x * float(k)) for k in range(1, 3 * IN_PLACE)], inputs=[x])
    given = np.linspace(-50.0, 50.0, 37).astype(dtype) if shape else np.float64(1.1e7)  # beyond the usual range, too
    for k, got in enumerate(many(given), 1):
        assert same_bits(got, compiled(np.sin(x * float(k)), inputs=[x])(given)[0])
    assert "call double @sin" in many.code.ir or "x float> @sin" in many.code.ir
