"""Positions found in views: argmax and argmin count elements as NumPy does, row by row, whatever lies where in memory.

Start reading at `VIEWS`; every view of one array is reduced to positions in one compiled function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from tests.ptx.device import on_device

VIEWS: tuple[Callable[[Any], Any], ...] = (
    lambda x: x.T,
    lambda x: np.moveaxis(x, 0, -1),
    lambda x: np.reshape(x.T, (-1,)),
    lambda x: np.reshape(np.transpose(x, (1, 2, 0)), (6, -1)),
    lambda x: np.reshape(np.swapaxes(x, 0, 1), (2, -1))[:, ::-1],
    lambda x: x.T[::2, ::-1],
    lambda x: np.reshape(np.broadcast_to(x, (3, *x.shape)).T, (-1, 3)),
    lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(1, 2)).T,
    lambda x: np.concatenate([x.T, x.T[:1]], axis=0),
    lambda x: x.T * x.T,
)
#: two ties to a value; and where there is one, the second of two NaN decides nothing
SHAPE, DTYPES = (4, 6, 5), ("float64", "float16", "uint8", "bool")


def positions(x: Any) -> list[Any]:
    """Every view of ``x`` reduced along each axis and along all."""
    views = [view(x) for view in VIEWS]
    return [f(v, axis=axis) for v in views for f in (np.argmax, np.argmin) for axis in (None, *range(v.ndim))]


def sample(dtype: str, nan: bool) -> Any:
    x = np.random.default_rng(3).integers(-2, 3, SHAPE)
    x = x > 0 if dtype == "bool" else x.astype(dtype)
    if nan:
        x[1, 4, 2] = x[2, 1, 3] = np.nan
    return x


def same(found: Any, expected: Any) -> None:
    for got, want in zip(found, expected, strict=True):
        assert np.asarray(got).dtype == np.asarray(want).dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_of_equals_in_the_order_of_the_view(dtype: str) -> None:
    run = gc.jit(positions)
    for nan in (False, True) if dtype.startswith("float") else (False,):
        x = sample(dtype, nan)
        same(run(x), positions(x))


def test_positions_of_views_in_loops_and_batches() -> None:
    def inside(x: Any) -> Any:
        return gc.scan(lambda c, row: (c + np.argmax(row.T), np.argmin(np.reshape(row.T, (-1,)))), np.int64(0), x)

    x = sample("float64", False)
    total, rows = gc.jit(inside)(x)
    assert total == sum(np.argmax(row.T) for row in x)
    same(rows, [np.argmin(row.T) for row in x])
    same(gc.jit(gc.vmap(lambda row: np.argmax(row.T)))(x), [np.argmax(row.T) for row in x])


def test_positions_beside_other_reductions_of_the_same_rows() -> None:
    x = sample("float32", False).reshape(24, 5)[:, ::-1]
    run = gc.jit(lambda x: (np.argmax(x.T), np.max(x.T), np.argmax(np.exp(x.T) / np.exp(x.T).sum())))
    same(run(x), (np.argmax(x.T), np.max(x.T), np.argmax(x.T)))


def test_positions_of_views_on_the_device() -> None:
    x = sample("float32", True)
    graph = gc.trace(lambda x: positions(x)[:40], x)
    run = on_device(*graph.outputs, inputs=graph.inputs)
    same([np.asarray(y) for y in run(x)], positions(x)[:40])
