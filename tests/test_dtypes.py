"""The dtype of a result is NumPy's: every function of one or two arrays, of every dtype, in a trace and outside.

What NumPy refuses, or computes in a dtype that is not supported, is refused, by a `GradcError` or a TypeError.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp

pytestmark = pytest.mark.filterwarnings("ignore::gradc.errors.PromotionWarning")
DTYPES = [np.dtype(n) for n in (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"
)]  # fmt: skip
NUMBERS = (True, 3, 2.5)
#: functions that are no ufuncs of NumPy's
ONE = {
    "all", "angle", "any", "argmax", "argmin", "argsort", "around", "average", "copy", "count_nonzero", "cumprod",
    "cumsum", "cumulative_prod", "cumulative_sum", "diagonal", "diff", "flip", "fliplr", "max", "mean", "median", "min",
    "nan_to_num", "nanmax", "nanmean", "nanmin", "nansum", "prod", "ptp", "ravel", "real", "round", "sinc", "sort",
    "std", "sum", "trace", "transpose", "tril", "var", "fix", "isposinf", "ones_like", "zeros_like", "empty_like",
    "unwrap", "gradient", "ediff1d", "i0", "nanprod", "nanstd", "nanvar", "nancumsum", "trapezoid",
}  # fmt: skip
TWO = {
    "allclose", "append", "array_equal", "convolve", "correlate", "cross", "dot", "inner", "isclose", "kron", "outer",
    "tensordot", "vdot", "polyval",
}  # fmt: skip


def _named(operands: int, more: set[str]) -> list[str]:
    ufuncs = {n for n in gnp.__all__ if isinstance(f := getattr(np, n, None), np.ufunc) and f.nin == operands}
    return sorted(ufuncs | {n for n in more if n in gnp.__all__})


def expected(f: Any, operands: list[Any]) -> list[np.dtype[Any]] | None:
    """NumPy's dtypes, in terms of what is supported; None where it has none."""
    wanted = []
    try:
        with np.errstate(all="ignore"):
            results = f(*operands)
    except (TypeError, ValueError, IndexError):
        return None
    for value in results if isinstance(results, tuple) else (results,):
        dtype = np.asarray(value).dtype
        wanted.append(dtype)
    return wanted


def found(f: Any, operands: list[Any], traced: bool) -> Any:
    """gradc's dtypes, None where it refuses."""
    arrays = [a for a in operands if isinstance(a, np.ndarray)]

    def program(*xs: Any) -> Any:
        rest = iter(xs)
        return f(*[next(rest) if isinstance(a, np.ndarray) else a for a in operands])

    try:
        if traced:
            results = tuple(gc.trace(program, *[gc.spec(a.shape, a.dtype) for a in arrays]).evaluate(*arrays))
        else:
            results = program(*arrays)
    except (gc.GradcError, TypeError):
        return None
    return [np.asarray(v).dtype for v in (results if isinstance(results, tuple) else (results,))]


def walk(name: str, cases: list[list[Any]]) -> None:
    wrong = []
    for operands in cases:
        want = expected(getattr(np, name), operands)
        for traced in (True, False):
            got = found(getattr(gnp, name), operands, traced)
            if got != want and not (got is None and name in REFUSED):
                shown = ", ".join(str(getattr(a, "dtype", a)) for a in operands)
                wrong.append(f"{name}({shown}) {'traced' if traced else 'outside'}: {got}, NumPy {want}")
    assert not wrong, "\n".join(wrong)


#: refused, in words, where NumPy's answer is hardly meant
REFUSED = {"reciprocal", "cross"}


@pytest.mark.parametrize("name", _named(1, ONE))
def test_functions_of_one_array(name):
    walk(name, [[np.ones((2, 2) if name in ("trace", "tril") else 4, d)] for d in DTYPES])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", _named(2, TWO))
def test_functions_of_two_arrays(name):
    shape = (2, 2) if name in ("matmul", "tensordot") else 3
    arrays = [np.ones(shape, d) for d in DTYPES]
    pairs = [[a, b] for i, a in enumerate(arrays) for b in (a, arrays[i - 1], arrays[i - 5])]
    with_numbers = [[a, n] for a, n in itertools.product(arrays, NUMBERS)]
    walk(name, pairs + with_numbers + [[n, a] for a, n in itertools.product(arrays[::4], NUMBERS)])


POLYNOMIALS = ("polyadd", "polyder", "polydiv", "polyint", "polymul", "polysub", "polyval")


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_a_number_is_a_polynomial_where_it_is_one_in_numpy(name):
    operands = [[3], [np.float64(3)], [np.asarray(3)]]
    both = [[p, q] for (p,) in operands for q in (2.0, np.ones(2), np.asarray(0.5))]  # of exact quotients
    for given in operands if name in ("polyder", "polyint") else both + [[q, p] for p, q in both]:
        try:
            want = getattr(np, name)(*given)
        except (TypeError, ValueError):
            with pytest.raises(gc.ShapeError, match=f"{name}: coefficients must be a vector"):
                getattr(gnp, name)(*given)
        else:
            found = getattr(gnp, name)(*given)
            for pair in zip(found, want, strict=True) if name == "polydiv" else [(found, want)]:
                assert np.array_equal(*pair)


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("number", [3, -1, 300, 2**33, 2.5])
def test_a_traced_number_is_converted_as_the_array_of_it(number, target):
    """What is asked for by name wraps around, as NumPy's does; only a dtype that is a partner's refuses what is out of
    its bounds, and what was converted yields to nobody."""
    if isinstance(number, float) or np.dtype(target).kind != "f":
        want = np.asarray(number).astype(target)
        for got in (gc.jit(lambda s: s.astype(target))(number), gc.jit(lambda s: gnp.astype(s, target))(number)):
            assert (got.dtype, got) == (want.dtype, want)
    narrow = np.ones(2, np.float32)
    for wide in (np.int64, np.float64):
        got = gc.jit(lambda s, x, wide=wide: s.astype(wide) * x)(number, narrow)
        assert got.dtype == (np.asarray(number).astype(wide) * narrow).dtype
