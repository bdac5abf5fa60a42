"""One meaning per conversion: at the ends of every range, and beyond them, the interpreter, constant folding, compiled
code and (where it defines an answer) NumPy give the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.aval import BFLOAT16, SUPPORTED, is_float
from gradc.node import as_node

DTYPES = sorted(SUPPORTED, key=lambda d: (d.kind, d.itemsize, str(d)))
INTEGERS = [d for d in DTYPES if d.kind in "iu"]
#: where a float lies beside the end of an integer's range, or is no number
FLOATS = np.array(
    [0.0, -0.0, 0.5, -0.5, 1.5, -1.5, np.inf, -np.inf, np.nan, 1e30, -1e30, 300.0]
    + [sign * (2.0**k + step) for k in (7, 8, 15, 16, 31, 32, 53, 63, 64) for sign in (1, -1) for step in (-1, 0, 1)]
)


def ends(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Numbers of a dtype where conversions and operations differ."""
    if dtype.kind == "b":
        return np.array([False, True])
    if is_float(dtype):
        with np.errstate(all="ignore"):
            return FLOATS.astype(dtype)
    limits = np.iinfo(dtype)
    near = {limits.min, limits.min + 1, limits.max // 2, limits.max // 2 + 1, limits.max - 1, limits.max}
    small = {-3, -2, -1, 0, 1, 2, 3, 7, 8, 31, 32, 63, 64}
    return np.array(sorted(near | {k for k in small if limits.min <= k <= limits.max}), dtype)


def same(a: Any, b: Any) -> bool:
    """Equal in dtype and value, NaN and the sign of zero included."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype:
        return False
    if not is_float(a.dtype):
        return np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a), np.signbit(b) | np.isnan(a) & np.signbit(a)
    )


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_a_cast_means_the_same_at_every_stage(source):
    x = ends(source)

    def casts(x):
        return [x.astype(d) for d in DTYPES]

    interpreted, compiled = gc.trace(casts, x).evaluate(x), gc.jit(casts)(x)
    folded = gc.jit(lambda one: [*casts(as_node(x)), one])(1.0)
    for dtype, a, b, c in zip(DTYPES, interpreted, compiled, folded, strict=False):
        assert same(a, b), (source, dtype)
        assert same(b, c), (source, dtype)
        if not (is_float(source) and dtype.kind in "iu"):
            with np.errstate(all="ignore"):
                assert same(b, x.astype(dtype)), (source, dtype)


@pytest.mark.parametrize("target", INTEGERS, ids=str)
@pytest.mark.parametrize(
    "source", [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)], ids=str
)
def test_a_float_becomes_the_nearest_integer_towards_zero(source, target):
    """Python's integers know no end: truncated, then brought into the range; NaN is 0."""
    x, limits = ends(source), np.iinfo(target)
    (got,) = gc.trace(lambda x: x.astype(target), x).evaluate(x)
    for given, found in zip(x.astype(float).tolist(), got.tolist(), strict=True):
        exact = (
            0 if given != given else limits.max if given == np.inf else limits.min if given == -np.inf else int(given)
        )
        assert found == min(max(exact, limits.min), limits.max), given


BINARY = (
    "add", "subtract", "multiply", "floor_divide", "remainder", "left_shift", "right_shift", "maximum", "minimum",
    "bitwise_and", "bitwise_or", "bitwise_xor", "less", "equal", "divide",
)  # fmt: skip
UNARY = ("negative", "absolute", "sign", "invert", "square")


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_at_the_ends_of_their_range(dtype):
    """Wraps, shifts by more than the width and divisions by zero are NumPy's, whoever computes them."""
    line = ends(dtype)
    x, y = (np.ravel(v) for v in np.meshgrid(line, line))
    exponent = np.abs(np.where(y == np.iinfo(dtype).min, 0, y))

    def operations(x, y, exponent):
        found = [getattr(np, name)(x, y) for name in BINARY] + [getattr(np, name)(x) for name in UNARY]
        return [*found, np.power(x, exponent)]

    with np.errstate(all="ignore"):
        expected = operations(x, y, exponent)
    interpreted = gc.trace(operations, x, y, exponent).evaluate(x, y, exponent)
    compiled = gc.jit(operations)(x, y, exponent)
    folded = gc.jit(lambda one: [*operations(*map(as_node, (x, y, exponent))), one])(1.0)
    for name, want, *got in zip((*BINARY, *UNARY, "power"), expected, interpreted, compiled, folded, strict=False):
        assert all(same(value, want) for value in got), name


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("exponent", [0, 1, 2, np.int8(2), np.int64(3), True])
def test_powers_of_small_integers_and_of_truth_values(dtype, exponent):
    x = np.array([0, 1, 1], dtype)
    want = x**exponent
    assert same(gc.jit(lambda x: x**exponent)(x), want)
    assert same(gc.trace(lambda x: x**exponent, x).evaluate(x)[0], want)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not is_float(d)], ids=str)
def test_python_numbers_go_into_any_array_that_holds_them(dtype):
    x = np.zeros(3, dtype)
    for how, want in (("set", 1), ("add", 1), ("max", 1)):
        got = gc.jit(lambda x, how=how: getattr(x.at[0], how)(1))(x)
        assert same(got, np.array([want, 0, 0], dtype))
    if dtype.kind == "u":
        with pytest.raises(gc.DTypeError, match=r"test_conversions\.py:\d+: Python integer -1 out of bounds"):
            gc.jit(lambda x: x.at[0].set(-1))(x)
    if dtype.kind in "iu":
        with pytest.raises(gc.DTypeError, match=r"the Python number 0\.5 does not fit"):
            gc.jit(lambda x: x.at[0].set(0.5))(x)


@pytest.mark.parametrize("index", [2**64 - 1, 2**63, 3])
def test_an_unsigned_index_beyond_the_array_is_not_a_negative_one(index):
    at = np.array([index], np.uint64)
    x = np.arange(3.0)
    for look in (lambda x, i: x[i], lambda x, i: x.at[i].set(1.0), lambda x, i: np.take_along_axis(x, i, 0)):
        with pytest.raises(gc.IndexingError):
            gc.jit(look)(x, at)
        with pytest.raises(gc.IndexingError):
            gc.trace(look, x, at).evaluate(x, at)
        with pytest.raises(gc.IndexingError):
            gc.jit(lambda x, look=look: look(x, at))(x)
