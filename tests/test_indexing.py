"""Indexing means what NumPy means: random index expressions, read and written, and the errors of those that cannot be.

Every expression is read by `getitem` and written through ``x.at``; NumPy on the same array is the reference.  Start at
`expressions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import gradc as gc
import gradc.numpy as gnp
from gradc.errors import DTypeError, IndexingError, ShapeError, TraceError
from gradc.interpret import interpret, topological
from gradc.node import Node
from tests.namespace_harness import leaf, same, traced

X = np.arange(60.0).reshape(3, 4, 5)
UNIQUE = np.random.default_rng(0).permutation(60).astype(np.float64).reshape(3, 4, 5)


#: ways to update, beside setting, and the ufuncs whose unbuffered ``at`` says what they mean
UFUNCS = {
    "add": np.add, "max": np.maximum, "min": np.minimum,
    "multiply": np.multiply, "divide": np.divide, "power": np.power,
}  # fmt: skip


# -- random expressions -----------------------------------------------------------------------------------------------


@st.composite
def shapes(draw: Any) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(0, 5), min_size=0, max_size=4)))


def slices(n: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-n - 2, n + 2)
    return st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, 3, -1, -2, -3]))


@st.composite
def arrays_of_indices(draw: Any, n: int, lead: tuple[int, ...]) -> Any:
    """Positions in [-n, n) of a shape that broadcasts to ``lead``."""
    shape = tuple(draw(st.sampled_from([k, 1])) for k in lead[draw(st.integers(0, len(lead))) :])
    count = int(np.prod(shape))
    values = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count)) if n else []
    assume(n or not count)
    return np.array(values, np.int64).reshape(shape)


@st.composite
def expressions(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape and an index for it: ints, slices, None, ..., index arrays of any rank, boolean arrays."""
    shape = draw(shapes())
    lead = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    index: list[Any] = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 9)):
        n = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "slice", "array", "array", "none", "mask"]))
        if kind == "none":
            index.append(None)
            continue
        if kind == "int" and n:
            index.append(draw(st.integers(-n, n - 1)))
        elif kind == "array":
            index.append(draw(arrays_of_indices(n, lead)))
        elif kind == "mask":
            bits = draw(st.lists(st.booleans(), min_size=n, max_size=n))
            index.append(np.array(bits, bool))
        else:
            index.append(draw(slices(n)))
        axis += 1
    if draw(st.booleans()):
        at = draw(st.integers(0, len(index)))
        tail = index[at:]
        kept = sum(e is not None for e in tail)
        # what follows the ellipsis counts from the end, so it must have been drawn for the last axes
        if kept == 0 or shape[len(shape) - kept :] == tuple(shape[axis - kept : axis]):
            index.insert(at, Ellipsis)
    return shape, tuple(index)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)


def reference(x: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
    try:
        return np.asarray(x[index])
    except IndexError:
        assume(False)
        raise


@given(expressions())
def test_reading_is_numpys(case):
    shape, index = case
    x = numbered(shape)
    expected = reference(x, index)
    same(traced(lambda a: a[index], x), expected)


@given(expressions())
def test_reading_at_traced_positions_is_numpys(case):
    shape, index = case
    x = numbered(shape)
    expected = reference(x, index)
    leaves = {i: leaf(e, f"i{i}") for i, e in enumerate(index) if isinstance(e, np.ndarray) and e.dtype != bool}
    node = leaf(x)
    result = node[tuple(leaves.get(i, e) for i, e in enumerate(index))]
    values = {node: x} | {leaves[i]: index[i] for i in leaves}
    same(interpret([result], values)[0], expected)


@given(expressions(), st.sampled_from(["set", *UFUNCS]), st.booleans())
def test_writing_is_numpys(case, how, scalar):
    shape, index = case
    x = numbered(shape)
    v = np.float64(7.5) if scalar else 1.5 * numbered(reference(x, index).shape) - 4
    if how == "power":
        x, v = np.asarray(np.abs(x) / 8 + 0.5), np.abs(v) / 16 + 0.25  # repeated powers of them are finite
    expected = written(x, index, v, how)
    same(traced(lambda a, b: getattr(a.at[index], how)(b), x, v), expected)


def written(x: np.ndarray, index: Any, v: Any, how: str) -> np.ndarray:
    """NumPy's in-place update on a copy: assignment, or a ufunc's unbuffered ``at``."""
    out = x.copy()
    reference(x, index)
    if how == "set":
        out[index] = v
    else:
        with np.errstate(all="ignore"):
            UFUNCS[how].at(out, index, v)
    return out


# -- chosen expressions -----------------------------------------------------------------------------------------------

PLACES = [
    np.s_[0], np.s_[-1], np.s_[1:], np.s_[::-1], np.s_[::2, 1:3], np.s_[..., 0], np.s_[None], np.s_[:, None, 1],
    np.s_[...], np.s_[()], np.s_[[0, 2]], np.s_[:, [3, 0]], np.s_[[0, 1], [1, 2]], np.s_[0, :, [1, 2]],
    np.s_[[0, 1], :, [1, 2]],
    np.s_[:, [0, 1], [1, 2]], np.s_[:, 0, [1, 2]], np.s_[[0], 0], np.s_[[[0, 1], [2, 0]]], np.s_[None, [1, 2], None],
    np.s_[[0, 1], ..., [1, 2]], np.s_[0, ..., [1, 2]], np.s_[[0, 1], None, [1, 2]], np.s_[np.array(1)],
    np.s_[np.array(1), [0, 1]],
    np.s_[[]], np.s_[[], 1:3], np.s_[np.array([True, False, True])], np.s_[:, np.array([True, False, True, True])],
    np.s_[X > 30], np.s_[X[:, :, 0] > 20], np.s_[1:2, [0, 2], ::-2], np.s_[[2, 0, 1], 1:3, -1],
    np.s_[np.int32(2)], np.s_[np.array([0, 2], np.uint8)], np.s_[:, 1:1], np.s_[-3:, :-1, 2], np.s_[5:1:-1],
]  # fmt: skip


@pytest.mark.parametrize("index", PLACES, ids=str)
def test_chosen_places(index):
    same(traced(lambda a: a[index], X), X[index])
    for how in ("set", "add", "max", "min"):
        same(traced(lambda a, how=how: getattr(a.at[index], how)(30.25), X), written(X, index, 30.25, how))
    same(traced(lambda a: a.at[index].get(), X), X[index])
    same(traced(lambda a: a.at[index].subtract(1.5), X), written(X, index, -1.5, "add"))


def test_repeated_positions():
    index = np.array([1, 1, 0, 1])
    v = np.array([5.0, 3.0, -1.0, 4.0])
    for how in ("set", "add", "max", "min"):
        same(
            traced(lambda a, i, b, how=how: getattr(a.at[i], how)(b), np.zeros(3), index, v),
            written(np.zeros(3), index, v, how),
        )


def test_repeated_traced_positions_are_factors():
    """The values for one position are multiplied first: one rounding apart from NumPy's order, so powers of 2 here."""
    index, v = np.array([[1, -2], [0, 1]]), np.array([[2.0, 4.0], [0.0, 0.5]])[:, :, None] * np.ones(5)
    for how in ("multiply", "divide"):
        same(
            traced(lambda a, i, b, how=how: getattr(a.at[:, i], how)(b), X[:, :3], index, v),
            written(X[:, :3], np.s_[:, index], v, how),
        )
        once = np.array([2, 0])
        found = traced(lambda a, i, how=how: getattr(a.at[i], how)(3.0, unique_indices=True), X, once)
        same(found, written(X, once, 3.0, how))


def test_functions_are_applied_in_place():
    index = np.array([1, 1, 0])
    expected = X.copy()
    np.sin.at(expected, index)
    same(traced(lambda a: a.at[index].apply(np.sin), X), expected)
    same(traced(lambda a: a.at[a > 30].apply(np.negative), X), np.where(X > 30, -X, X))
    same(
        traced(lambda a, i: a.at[i].apply(np.square, unique_indices=True), X, index[1:]),
        written(X, index[1:], 2, "power"),
    )


@pytest.mark.parametrize("how", ["multiply", "divide", "power"])
def test_derivatives_of_updates_that_compute(how):
    """Also by factors of which some are 0, and to second order."""
    x, v = np.array([1.5, 0.5, 2.0]), np.array([2.0, 0.5, 1.25, 3.0])
    if how == "multiply":
        v[:2] = 0.0
    index = np.array([1, 1, 0, 1])

    def scattered(x, v):
        return np.sin(getattr(x.at[index], how)(v)).sum()

    def by_hand(x, v):
        f = {"multiply": np.multiply, "divide": np.divide, "power": np.power}[how]
        return np.sin(f(x[0], v[2])) + np.sin(f(f(f(x[1], v[0]), v[1]), v[3])) + np.sin(x[2])

    for order in (gc.grad, gc.hessian):
        for a, b in zip(order(scattered, (0, 1))(x, v), order(by_hand, (0, 1))(x, v), strict=True):
            for part, want in zip(a, b, strict=True):
                np.testing.assert_allclose(part, want, rtol=1e-13, atol=1e-13)


def test_derivatives_by_traced_positions():
    x, v, index = np.array([1.5, 0.5, 2.0]), np.array([0.0, 0.5, 1.25, 3.0]), np.array([1, 1, 0, 1])
    for order in (gc.grad, gc.hessian):
        found = order(lambda x, v, i: np.sin(x.at[i].multiply(v)).sum(), (0, 1))(x, v, index)
        want = order(lambda x, v: np.sin(x.at[index].multiply(v)).sum(), (0, 1))(x, v)
        for a, b in zip(found, want, strict=True):
            for part, expected in zip(a, b, strict=True):
                np.testing.assert_allclose(part, expected, rtol=1e-13, atol=1e-13)


def test_masks_with_a_scalar_are_selections():
    mask = X > 30
    expected = np.where(mask, 0.0, X)
    same(traced(lambda a: a.at[a > 30].set(0.0), X), expected)
    same(traced(lambda a: a.at[mask].set(0.0), X), expected)
    same(traced(lambda a, m: a.at[m].add(2.0), X, mask[:, :, 0]), written(X, mask[:, :, 0], 2.0, "add"))


def test_values_are_cast_and_broadcast_like_an_assignment():
    same(
        traced(lambda a: a.at[0].set(np.arange(5.0)), X.astype("f4")), written(X.astype("f4"), 0, np.arange(5.0), "set")
    )
    same(traced(lambda a: a.at[0].set(np.ones((1, 1, 5))), X[0]), written(X[0], 0, np.ones((1, 5)), "set"))
    same(traced(lambda a: a.at[0, 1:3].set(2), X), written(X, np.s_[0, 1:3], 2, "set"))
    same(traced(lambda a: a.at[1].set(7), np.arange(3)), np.array([0, 7, 2]))


def test_untouched_elements_keep_their_bits():
    x = np.array([-0.0, np.nan, np.inf, -0.0])
    for how in ("set", "add", "max", "min"):
        same(traced(lambda a, how=how: getattr(a.at[1:3], how)(1.0), x)[[0, 3]], x[[0, 3]])


def test_rows_unpack_and_iterate():
    same(traced(lambda a: list(a), X), list(X))
    same(traced(lambda a: [row.sum() for row in a[0]], UNIQUE), [row.sum() for row in UNIQUE[0]])


# -- cost -------------------------------------------------------------------------------------------------------------


def ops_of(node: Node) -> list[str]:
    return [n.op.name for n in topological([node])]


def test_static_indices_need_no_gather():
    x = leaf(X)
    for index in (np.s_[0], np.s_[::-1, 1:3], np.s_[[2, 0]], np.s_[:, [0, 0, 0]], np.s_[np.array([True, False, True])]):
        assert "gather" not in ops_of(x[index])
    assert "gather" in ops_of(x[[0, 1], [1, 2]])
    assert ops_of(x[0]) == ["input", "slice", "reshape"]
    assert ops_of(x[...]) == ["input"]


def test_static_updates_need_no_scatter():
    x = leaf(X)
    for index in (np.s_[0], np.s_[::2, 1:3], np.s_[::-1, 2]):
        assert "scatter" not in ops_of(x.at[index].set(1.0))
    assert "where" not in ops_of(x.at[1:].add(1.0))


# -- errors -----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        lambda x: x[3],
        IndexingError,
        r"index 3 is out of range for axis 0 with size 3 of traced array 'w' \(float64\[3,4,5\]\)",
    ),
    (lambda x: x[:, -5], IndexingError, "index -5 is out of range for axis 1 with size 4"),
    (lambda x: x[..., [0, 5]], IndexingError, "index 5 is out of range for axis 2 with size 5"),
    (lambda x: x[0, 0, 0, 0], IndexingError, "too many indices: 4 for the 3 dimensions"),
    (lambda x: x[..., 0, ...], IndexingError, "single ellipsis"),
    (lambda x: x[1.0], IndexingError, "only integers, slices"),
    (lambda x: x["a"], IndexingError, "only integers, slices"),
    (lambda x: x[np.array([0.5])], IndexingError, "integers or booleans"),
    (lambda x: x[np.array([True, False])], IndexingError, r"shape \(2,\) does not match the extents \(3,\)"),
    (lambda x: x[[0, 1], [0, 1, 2]], IndexingError, r"shapes \(2,\), \(3,\) do not broadcast"),
    (lambda x: x[::0], IndexingError, "step cannot be zero"),
    (lambda x: x[x > 0], TraceError, "np.where"),
    (lambda x: x[x], IndexingError, "an index must be integer"),
    (lambda x: x[: gnp.argmax(x)], TraceError, "add the bound to static="),
    (
        lambda x: x.at[0].set(np.ones(3)),
        ShapeError,
        r"values of shape \(3,\) do not broadcast to the indexed shape \(4, 5\)",
    ),
    (lambda x: x.at[7].add(1), IndexingError, "index 7 is out of range for axis 0 with size 3"),
    (lambda x: x.astype(int).at[0].set(0.5), DTypeError, "without loss"),
    (lambda x: x.at[x > 0].set(np.ones(3)), TraceError, "scalar"),
    (lambda x: x.at[gnp.argmax(x, 0)[0]].power(2.0), TraceError, "unique_indices=True"),
    (lambda x: np.take(x, 9, axis=1), IndexingError, "index 9 is out of range for axis 1"),
    (lambda x: np.take(x, 0, mode="?"), IndexingError, "mode must be"),
    (lambda x: np.take_along_axis(x, np.zeros((2, 1, 1), int), 1), IndexingError, "do not fit"),
    (lambda x: x.__setitem__(0, 1), TraceError, r"x.at\[index\].set"),
]


@pytest.mark.parametrize(("program", "error", "text"), ERRORS)
def test_errors_name_line_variable_and_size(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program(leaf(X, "w"))
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)


def test_a_traced_position_out_of_range_is_an_error_when_run():
    with pytest.raises(IndexError):
        traced(lambda a, i: a[i], X, np.array([7]))
