"""Calls into compiled code: what is read, what is refused, what comes back, what is donated or bound.

Both ways in, the compiled entry and the portable one, are held to the same answers (tests/runtime_harness.py).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradc.errors import StorageError
from gradc.runtime.arrays import Span, admit, find_conflict, span
from tests.runtime_harness import (
    HEAD,
    FailureError,
    Maker,
    MismatchError,
    affine_ir,
    descend,
    descend_ir,
    double_ir,
    make,
    spec,
)

__all__ = ["make"]


# -- calls ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_call_reads_any_layout(make: Maker, dtype: str) -> None:
    f = make(affine_ir(12, dtype), [spec(3, 4, dtype=dtype)], [spec(3, 4, dtype=dtype)])
    x = np.arange(12, dtype=dtype).reshape(3, 4)
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(3, 4)
    unaligned[...] = x
    layouts: dict[str, Any] = {
        "plain": x,
        "Fortran": np.asfortranarray(x),
        "reversed": x[::-1, ::-1][::-1, ::-1],
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "read-only": read_only,
        "unaligned": unaligned,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "subclass": x.view(np.matrix),
        "other instance": x.astype(np.dtype(dtype, metadata={"unit": "m"})),
    }
    for name, given in layouts.items():
        (y,) = f(given)
        assert type(y) is np.ndarray and y.dtype == dtype and y.flags.c_contiguous, name
        np.testing.assert_array_equal(y, 2 * x + 1, err_msg=name)


def test_admit_copies_only_when_it_must() -> None:
    x = np.arange(6.0)
    assert admit(x, spec(6)) is x
    frozen = x.view()
    frozen.flags.writeable = False
    assert admit(frozen, spec(6)) is frozen
    turned = admit(x[::-1], spec(6))
    assert turned is not None and not np.shares_memory(turned, x)
    subclass = admit(x.view(np.recarray), spec(6))
    assert type(subclass) is np.ndarray and np.shares_memory(subclass, x)


def test_results_alias_nothing(make: Maker) -> None:
    f = make(affine_ir(6), [spec(6)], [spec(6)])
    x = np.ones(6)
    (y1,), (y2,) = f(x), f(x)
    assert not np.shares_memory(y1, y2) and not np.shares_memory(x, y1)
    assert y1.flags.writeable


def test_zero_size(make: Maker) -> None:
    f = make(affine_ir(0), [spec(3, 0, 2)], [spec(3, 0, 2)])
    (y,) = f(np.zeros((3, 0, 2)))
    assert y.shape == (3, 0, 2)
    (y,) = f(np.zeros((2, 0, 3)).T)
    assert y.shape == (3, 0, 2)


def test_zero_size_donation_overlaps_nothing(make: Maker) -> None:
    f = make(affine_ir(0), [spec(0), spec(0)], [spec(0)], donated={0: 0})
    x = np.zeros(4)
    given = x[2:2]
    assert f(given, x[1:1])[0] is given


def test_no_inputs_and_no_outputs(make: Maker) -> None:
    assert make(f"{HEAD}\n  ret void\n}}\n", [], [])() == ()


NUMBERS = [1.5, np.float64(1.5), np.array(1.5), np.array([0.0, 1.5])[1:].reshape(()), np.array(1.5, ">f8")]


@pytest.mark.parametrize("x", NUMBERS, ids=["float", "np.float64", "0-d array", "0-d view", "0-d big-endian"])
def test_0d_results_are_numpy_scalars(make: Maker, x: object) -> None:
    (y,) = make(double_ir(), [spec()], [spec()])(x)
    assert type(y) is np.float64 and y == 3.0


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("float64", 7, 15.0),
        ("float64", True, 3.0),
        ("float64", 2**70, 2.0**71 + 1),
        ("float64", -1, -1.0),
        ("float32", 0.1, np.float32(np.float32(0.1) * np.float32(2)) + np.float32(1)),
        ("float32", 1e300, np.inf),
        ("int64", 2**40, 2**41 + 1),
        ("int64", False, 1),
        ("int32", -5, -9),
    ],
)
def test_weak_python_scalars(make: Maker, dtype: str, given: Any, expected: Any) -> None:
    (y,) = make(affine_ir(1, dtype), [spec(dtype=dtype)], [spec(dtype=dtype)])(given)
    assert y == expected and y.dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float64", None),
        ("float64", 1j),
        ("float64", "1.0"),
        ("float64", [1.0]),
        ("float64", np.float32(1.0)),
        ("float64", np.int64(1)),
        ("float64", 10**400),
        ("float32", np.float64(1.0)),
        ("int64", 1.0),
        ("int64", 2**63),
        ("int32", 2**31),
        ("int32", np.int64(1)),
        ("float64", np.array([1.0])),
        ("float64", object()),
    ],
)
def test_what_does_not_fit_a_number(make: Maker, dtype: str, given: object) -> None:
    f = make(affine_ir(1, dtype), [spec(dtype=dtype)], [spec(dtype=dtype)])
    with pytest.raises(MismatchError, match="argument 0"):
        f(given)


@pytest.mark.parametrize(
    "given",
    [
        None, 1.0, [1.0, 2.0, 3.0], "abc", object(), np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.float32),
        np.zeros(3, np.int64), np.zeros(3, complex), np.zeros(3, bool), np.array([1.0, None, 2.0], object),
        np.array(["a", "b", "c"]), np.array(["a", "b", "c"], np.dtypes.StringDType()), np.zeros(3, "M8[s]"),
        np.zeros(3, [("a", "f8")]), np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), np.float64(1.0),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)  # fmt: skip
def test_what_does_not_fit_an_array(make: Maker, given: object) -> None:
    f = make(affine_ir(3), [spec(3)], [spec(3)])
    with pytest.raises(MismatchError, match="argument 0"):
        f(given)
    with pytest.raises(MismatchError, match="argument 0"):
        f.bind(given)


def test_wrong_number_of_arguments(make: Maker) -> None:
    f = make(affine_ir(3), [spec(3)], [spec(3)])
    for args in ((), (np.zeros(3), np.zeros(3))):
        with pytest.raises(TypeError, match="1 arrays expected"):
            f(*args)
    with pytest.raises(TypeError):
        f.entry(np.zeros(3), unknown=1)


def test_status_becomes_the_described_exception(make: Maker) -> None:
    f = descend(make)
    w, g = np.ones(5), np.ones(5)
    for call in (lambda: f(w, g, -1.0), f.bind(w, g, -1.0)):
        for _ in range(3):
            with pytest.raises(FailureError) as caught:
                call()
            assert caught.value.args == (3, 5)
    np.testing.assert_array_equal(f(w, g, 0.5)[0], 0.5)


def test_hidden_arrays_follow_the_inputs(make: Maker) -> None:
    captured = np.arange(10.0)[::2]
    rate = np.array(2.0)
    f = make(descend_ir(5), [spec(5)], [spec(5)], hidden=[captured, rate])
    del captured, rate
    gc.collect()
    np.testing.assert_array_equal(f(np.zeros(5))[0], -2.0 * np.arange(10.0)[::2])


def test_out_is_filled(make: Maker) -> None:
    f = make(affine_ir(4), [spec(4)], [spec(4)])
    x, y = np.arange(4.0), np.zeros(4)
    for call in (f, f.entry):
        y[:] = 0
        assert call(x, out=[y])[0] is y
        np.testing.assert_array_equal(y, 2 * x + 1)
    assert f(x, out=[None])[0] is not y
    number = make(double_ir(), [spec()], [spec()])
    place = np.zeros(())
    assert number(2.0, out=[place])[0] is place and place == 4.0


def test_out_refuses_storage_it_cannot_write(make: Maker) -> None:
    f = make(affine_ir(4), [spec(4, name="signal")], [spec(4)])
    x = np.arange(4.0)
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    cases = [(x, "signal"), (np.zeros(8)[::2], "contiguous"), (np.zeros(4, ">f8"), "byte order"), (frozen, "read-only"),
             (np.zeros(5), "float64"), (np.zeros(4, np.float32), "float32"), (3.0, "plain ndarray")]  # fmt: skip
    for y, words in cases:
        with pytest.raises(StorageError, match=words):
            f(x, out=[y])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="2 given"):
        f(x, out=[None, None])
    np.testing.assert_array_equal(x, np.arange(4.0))


# -- donation ------------------------------------------------------------------------------------------------------
def test_donated_argument_comes_back_updated(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    w, g = np.ones(5), np.arange(5.0)
    where = w.__array_interface__["data"][0]
    for step in range(1, 4):
        (result,) = f(w, g, 0.5)
        assert result is w and result.__array_interface__["data"][0] == where
        np.testing.assert_array_equal(w, 1 - step * 0.5 * g)
    assert f(w, g, 0.5, out=[w])[0] is w


def refusals() -> dict[str, tuple[Callable[[], tuple[Any, ...]], str]]:
    w, big = np.ones(5), np.zeros(12)
    frozen = np.ones(5)
    frozen.flags.writeable = False
    unaligned = np.zeros(41, np.uint8)[1:].view(np.float64)
    return {
        "itself": (lambda: (w, w, 0.5), "weights .* memory with slope"),
        "view": (lambda: (big[:5], big[4:9], 0.5), "weights .* memory with slope"),
        "strided view": (lambda: (big[:5], big[1:11:2], 0.5), "weights .* memory with slope"),
        "0-d view": (lambda: (big[:5], np.ones(5), big[3:4].reshape(())), "weights .* memory with rate"),
        "read-only": (lambda: (frozen, np.ones(5), 0.5), "weights is donated.*read-only"),
        "strided": (lambda: (big[:10:2], np.ones(5), 0.5), "weights is donated.*contiguous"),
        "big-endian": (lambda: (np.ones(5, ">f8"), np.ones(5), 0.5), "weights is donated.*byte order"),
        "unaligned": (lambda: (unaligned, np.ones(5), 0.5), "weights is donated.*aligned"),
        "subclass": (lambda: (np.ones(5).view(np.recarray), np.ones(5), 0.5), "weights is donated.*recarray"),
    }


@pytest.mark.parametrize("case", refusals())
def test_donation_refuses_before_anything_is_written(make: Maker, case: str) -> None:
    arguments, words = refusals()[case]
    f = descend(make, donated={0: 0})
    args = arguments()
    before = [np.array(x) for x in args]
    for _ in range(2):
        with pytest.raises(StorageError, match=words):
            f(*args)
        with pytest.raises(StorageError):
            f.bind(*args)
    for x, old in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, old)
    f(np.ones(5), np.ones(5), 0.5)


def test_donation_refuses_numbers_and_other_shapes(make: Maker) -> None:
    f = make(double_ir(), [spec(name="count")], [spec()], donated={0: 0})
    x = np.array(2.0)
    assert f(x)[0] is x and x == 4.0
    for given in (2.0, np.float64(2.0)):
        with pytest.raises(StorageError, match="count is donated"):
            f(given)
    with pytest.raises(MismatchError):
        f(np.zeros(2))


def test_donated_neighbours_and_interleaved_views_are_fine(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    big = np.ones(20)
    assert f(big[5:10], big[10:15], 0.5)[0].base is big
    np.testing.assert_array_equal(big[5:10], 0.5)
    assert f(big[:5], big[15:20], big[6])[0] is not None


def test_overlap_is_seen_after_many_disjoint_calls(make: Maker) -> None:
    f = descend(make, donated={0: 0})
    w, g = np.ones(5), np.ones(5)
    for _ in range(3):
        f(w, g, 0.5)
    with pytest.raises(StorageError):
        f(w, w, 0.5)
    with pytest.raises(StorageError):
        f(g, g, 0.5)
    f(g, w, 0.5)
    f(w, g, 0.5)


def test_inconsistent_donation_is_refused(make: Maker) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        make(affine_ir(3), [spec(3)], [spec(4)], donated={0: 0})
    with pytest.raises(ValueError, match="two inputs"):
        make(affine_ir(3), [spec(3), spec(3)], [spec(3)], donated={0: 0, 1: 0})


def test_find_conflict_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    memory = np.zeros(60)
    met = 0
    for _ in range(300):
        spans: list[Span] = []
        for k in range(6):
            start, length, step = rng.integers(0, 50), rng.integers(0, 6), rng.integers(1, 4)
            spans.append(span(memory[start : start + length : step], str(k), written=bool(rng.integers(0, 2))))
        pairs = [(a, b) for a in spans for b in spans if a is not b and a.written]
        expected = {(a.name, b.name) for a, b in pairs if np.shares_memory(a.array, b.array)}
        found = find_conflict(spans)
        assert (found in expected) if expected else found is None
        met += bool(expected)
    assert 50 < met < 250


# -- bound steps ---------------------------------------------------------------------------------------------------
def test_bind_runs_on_fixed_buffers(make: Maker) -> None:
    f = descend(make)
    w, g = np.ones(5), np.ones(5)
    run = f.bind(w, g, 0.5)
    (y,) = run()
    np.testing.assert_array_equal(y, 0.5)
    w[:] = 3.0
    assert run()[0] is y
    np.testing.assert_array_equal(y, 2.5)
    del f, w, g
    gc.collect()
    np.testing.assert_array_equal(run()[0], 2.5)


def test_bind_with_out_and_donation(make: Maker) -> None:
    w, g, y = np.ones(5), np.ones(5), np.zeros(5)
    assert descend(make).bind(w, g, 1.0, out=[y])()[0] is y
    run = descend(make, donated={0: 0}).bind(w, g, 1.0)
    assert run()[0] is w and run()[0] is w
    np.testing.assert_array_equal(w, -1.0)


def test_bind_refuses_arrays_it_would_have_to_copy(make: Maker) -> None:
    f = descend(make)
    for given in (np.ones(10)[::2], np.ones(5, ">f8")):
        with pytest.raises(StorageError, match="weights: cannot bind"):
            f.bind(given, np.ones(5), 1.0)


def test_bound_0d_results_are_arrays(make: Maker) -> None:
    x = np.array(1.0)
    run = make(double_ir(), [spec()], [spec()]).bind(x)
    (y,) = run()
    x[...] = 4.0
    assert y.shape == () and run()[0] is y and y == 8.0
