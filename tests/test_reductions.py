"""Reductions of rows where their code has a short cut: NaN found two elements at a time, long arrays read ahead.

Start reading at the tests; what reductions mean in general is tested in `test_codegen`.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradc.schedule.kernel import Load, Nest
from gradc.schedule.streams import LONG_BYTES
from tests.compiled_graph import HOST, CompiledGraph, apply, compiled, leaf

FLOATS = ("float32", "float64")
FETCH = "call void @llvm.prefetch"


# -- extrema -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("length", [1, 7, 16, 33, 64, 150, 1030])
def test_a_nan_wins_wherever_it_stands(length: int, dtype: str) -> None:
    """Row k has one NaN, of either sign, at position k; the last row has none, but both infinities."""
    x = leaf((length + 1, length), dtype)
    values = np.random.default_rng(length).standard_normal(x.shape).astype(dtype)
    values[-1, 0], values[-1, -1] = -np.inf, np.inf
    for k in range(length):
        values[k, k] = np.nan if k % 2 else -np.nan
    extrema = compiled(apply("max", x, axes=(1,)), apply("min", x, axes=(1,)), inputs=(x,))
    for found, reference in zip(extrema(values), (np.max, np.min), strict=True):
        assert np.isnan(found[:-1]).all()
        assert found[-1] == reference(values[-1])


# -- reading ahead -----------------------------------------------------------------------------------------------------
def row_sums(rows: int, columns: int) -> CompiledGraph:
    x = leaf((rows, columns), "float32")
    return compiled(apply("sum", x, axes=(1,)), inputs=(x,))


def loads(graph: CompiledGraph) -> list[Load]:
    return [x for k in graph.schedule.kernels for n in k.work if isinstance(n, Nest) for x in n.code
            if isinstance(x, Load)]  # fmt: skip


def test_a_long_matrix_is_read_ahead_and_a_short_one_is_not() -> None:
    rows = LONG_BYTES // 4000 + 1
    assert HOST.ahead_bytes > 0
    long, short = row_sums(rows, 1000), row_sums(rows // 4, 1000)
    assert [x.ahead * 4 for x in loads(long)] == [HOST.ahead_bytes]
    assert FETCH in long.code.ir
    assert [x.ahead for x in loads(short)] == [0]
    assert FETCH not in short.code.ir


def test_what_is_read_ahead_changes_no_bit() -> None:
    """The input ends at a page that must not be touched, and a row has the same sum in a short matrix."""
    rows = LONG_BYTES // 4000 + 1
    values = np.random.default_rng(1).standard_normal((rows, 1000)).astype("float32")
    whole = row_sums(rows, 1000)(values)[0]
    assert np.array_equal(whole[-9:], row_sums(9, 1000)(values[-9:])[0])


def test_only_the_first_pass_over_a_row_reads_ahead() -> None:
    x = leaf((LONG_BYTES // 4000 + 1, 1000), "float32")
    mean = apply("sum", x, axes=(1,)) / 1000
    spread = apply("broadcast", mean, shape=x.shape, axes=(0,))
    graph = compiled(apply("sum", np.square(x - spread), axes=(1,)), inputs=(x,))
    (load,) = loads(graph)
    assert load.ahead
    assert graph.code.ir.count(FETCH) == row_sums(*x.shape).code.ir.count(FETCH)


@pytest.mark.parametrize("axes", [(0,), (0, 1)])
def test_lines_are_asked_for_only_where_one_follows_the_other(axes: tuple[int, ...]) -> None:
    """Sums of columns jump from row to row; the sum of all walks straight on."""
    x = leaf((300, 1000), "float32")
    graph = compiled(apply("sum", x, axes=axes), inputs=(x,))
    assert [bool(y.ahead) for y in loads(graph)] == [axes == (0, 1)]


def test_loops_that_write_as_much_as_they_read_do_not_read_ahead() -> None:
    x = leaf((300, 1000), "float32")
    assert [y.ahead for y in loads(compiled(x * 2, inputs=(x,)))] == [0]
