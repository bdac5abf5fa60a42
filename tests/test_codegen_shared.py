"""Lengthy functions of a kernel: in place, called, or side by side in the lanes of a register, always the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradc.codegen.shared import IN_PLACE
from gradc.node import Node
from gradc.schedule.kernel import Nest
from tests.compiled_graph import CompiledGraph, compiled, leaf, same_bits

SIZES: list[tuple[tuple[int, ...], Any]] = [((), np.float64), ((), np.float32), ((37,), np.float32)]


def given(shape: tuple[int, ...], dtype: Any) -> Any:
    """Numbers far beyond the usual range of an angle among them."""
    return np.linspace(-50.0, 1.1e7, 37).astype(dtype) if shape else np.asarray(1.1e7, dtype)


def packs(graph: CompiledGraph) -> list[tuple[int, ...]]:
    nests = [w for k in graph.schedule.kernels for w in k.work if isinstance(w, Nest)]
    return [pack for nest in nests for pack in nest.packs]


@pytest.mark.parametrize(("shape", "dtype"), SIZES)
def test_a_function_that_is_called_gives_the_bits_of_one_in_place(shape: tuple[int, ...], dtype: Any) -> None:
    x = y = leaf(shape, dtype)
    for k in range(3 * IN_PLACE):
        y = np.sin(y + float(k))
    graph, one = compiled(y, inputs=[x]), compiled(np.sin(x), inputs=[x])
    assert "@sin" in graph.code.ir and "@sin" not in one.code.ir
    want = given(shape, dtype)
    for k in range(3 * IN_PLACE):
        (want,) = one((want + np.asarray(k, dtype)).astype(dtype))
    assert same_bits(graph(given(shape, dtype))[0], want)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [2, 7, 23])
def test_functions_side_by_side_give_the_bits_of_single_ones(count: int, dtype: Any) -> None:
    inputs = [leaf((), dtype) for _ in range(count)]
    numbers = [np.asarray(v, dtype) for v in (*np.linspace(-40.0, 40.0, count - 1), 1e9)]

    def values(x: Node) -> list[Node]:
        first = np.sin(x)
        return [first, np.exp(first) * 2, np.arctan2(x, np.cos(first))]

    graph = compiled(*[y for x in inputs for y in values(x)], inputs=inputs)
    assert sum(map(len, packs(graph))) > 3.5 * count and max(map(len, packs(graph))) <= 16
    single = compiled(*values(inputs[0]), inputs=inputs[:1])
    assert not packs(single)
    want = [y for number in numbers for y in single(number)]
    assert all(map(same_bits, graph(*numbers), want))


def test_what_depends_on_a_function_is_not_beside_it() -> None:
    x = y = leaf((), np.float64)
    for _ in range(4):
        y = np.exp(-y)
    assert not packs(compiled(y, inputs=[x]))
