"""Every argument of NumPy's functions and methods is supported, or refused in gradc's words: never by a bare TypeError
of some Python signature, and never ignored.

The functions are those that gradc traces under a name of NumPy's; their arguments are read off NumPy's own signatures.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.node import FUNCTIONS, Node

A = np.arange(6.0).reshape(2, 3) + 1
SQUARE = np.arange(9.0).reshape(3, 3) + 1
MASK = A > 2
#: what to give for a parameter that must be given, by its name; arrays where nothing is said
REQUIRED: dict[str, Any] = {
    "indices": np.array([0, 1]), "repeats": 2, "axis1": 0, "axis2": 1, "shape": (3, 2), "newshape": (3, 2),
    "source": 0, "destination": 1, "pad_width": 1, "shift": 1, "n": 2, "indices_or_sections": 1, "reps": 2,
    "dtype": np.float32, "fill_value": 2.0, "condition": MASK, "window_shape": (1, 1), "v": A[0], "subscripts": "ij->i",
    "x1": A, "x2": A, "start": 1.0, "stop": 2.0,
}  # fmt: skip
#: what to try for an argument that may be left out, by its name
OPTIONAL: dict[str, tuple[Any, ...]] = {
    "axis": (0, -1, None), "axes": (None, (1, 0)), "casting": ("same_kind", "unsafe"), "copy": (True, False, None),
    "correction": (1,), "ddof": (0, 1), "decimals": (0, 1, -1), "device": (None, "cpu"), "dtype": (None, "float32"),
    "equal_nan": (False, True), "initial": (2.0,), "k": (0, 1, -1), "keepdims": (False, True), "kind": (None, "stable"),
    "like": (None,), "mean": (A.mean(),), "mode": ("raise", "wrap", "clip", "full"), "n": (1, 2), "ndmin": (0, 3),
    "offset": (0, 1), "order": (None, "C", "F", "K"), "out": (None, np.zeros((2, 3))), "overwrite_input": (False, True),
    "side": ("left", "right"), "sorter": (None,), "stable": (None, True), "subok": (True, False), "where": (True, MASK),
}  # fmt: skip


#: of undefined values, and of what hands over its memory
APART = ("empty_like", "from_dlpack")


def offered() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in FUNCTIONS:
        function: Any = np
        for part in name.split("."):
            function = getattr(function, part, None)
        if callable(function) and not isinstance(function, (np.ufunc, type)) and name not in APART:
            yield name, function


def parameters(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Names of what must be given, and of what may be left out."""
    given = [
        p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return [p.name for p in given if p.default is p.empty], [p.name for p in given if p.default is not p.empty]


def calls_of(function: Callable[..., Any], needed: list[str]) -> list[Any] | None:
    """Arguments that NumPy takes, of which the first is, or holds, an array to be traced."""
    for first in (A, SQUARE, A[0], [A, A]):
        args = [first, *[REQUIRED.get(name, first) for name in needed[1:]]]
        try:
            function(*args)
        except Exception:
            continue
        return args
    return None


def agrees(traced: Callable[[Any], Any], expected: Callable[[], Any], what: str) -> None:
    """``traced`` gives NumPy's result, or refuses; where NumPy refuses it does as well."""
    try:
        want = expected()
    except Exception:
        want = None
    try:
        got = gc.trace(traced, A[0, 0])
    except gc.GradcError:
        return
    except Exception as error:
        assert want is None, f"{what}: {error!r}"
        return
    if want is None:
        return
    values = got.evaluate(A[0, 0])
    for one, other in zip(values, want if isinstance(want, (tuple, list)) else [want], strict=True):
        np.testing.assert_allclose(one, other, err_msg=what, rtol=1e-6)


def lifted(value: Any, one: Any) -> Any:
    """An array, or those of a list, as values that depend on the traced number 1."""
    return [lifted(v, one) for v in value] if isinstance(value, list) else np.multiply(one, value)


@pytest.mark.parametrize(("name", "function"), list(offered()))
def test_each_argument_of_a_function_is_supported_or_refused(name, function):
    needed, optional = parameters(function)
    args = calls_of(function, needed or ["a"])
    for key in optional if args is not None else ():
        for value in OPTIONAL.get(key, ()):
            given = {key: value}
            agrees(
                lambda one: function(lifted(args[0], one), *args[1:], **given),  # noqa: B023 - called at once
                lambda: function(*args, **given),  # noqa: B023
                f"{name}({key}={value!r})",
            )


def test_that_walk_reaches_most_functions():
    reached = [calls_of(f, parameters(f)[0] or ["a"]) is not None for _, f in offered()]
    assert sum(reached) > 0.75 * len(reached)


METHODS = [name for name in dir(np.ndarray) if not name.startswith("_") and callable(getattr(Node, name, None))]


@pytest.mark.parametrize("name", [m for m in METHODS if hasattr(np, m)])
def test_each_argument_of_a_method_is_supported_or_refused(name):
    """By keyword, and by position: NumPy's methods take most of theirs by both."""
    needed, optional = parameters(getattr(np, name))
    rest = [REQUIRED.get(n, A) for n in needed[1:]]
    method = getattr(np.ndarray, name)
    for key in optional:
        for value in OPTIONAL.get(key, ()):
            given = {key: value}
            agrees(
                lambda one: getattr(lifted(A, one), name)(*rest, **given),  # noqa: B023
                lambda: method(A.copy(), *rest, **given),  # noqa: B023
                f".{name}({key}={value!r})",
            )


@pytest.mark.parametrize(
    ("use", "want"),
    [
        (lambda x: x.sum(0, None, None, True), A.sum(0, None, None, True)),
        (lambda x: np.sum(x, 0, None, None, True), A.sum(0, keepdims=True)),
        (lambda x: np.var(x, 0, None, None, 1, True), A.var(0, ddof=1, keepdims=True)),
        (lambda x: np.take(x, [0, 5], 1, None, "clip"), A.take([0, 5], 1, mode="clip")),
        (lambda x: x.max(where=MASK, initial=3.0), A.max(where=MASK, initial=3.0)),
        (lambda x: np.add(x, 1, dtype="float32", casting="same_kind"), np.add(A, 1, dtype="float32")),
        (lambda x: np.add.outer(x, x[0]), np.add.outer(A, A[0])),
        (lambda x: np.less.outer(x[0], x[1]), np.less.outer(A[0], A[1])),
        (lambda x: np.add.reduce(x, axis=1, keepdims=True), A.sum(1, keepdims=True)),
        (lambda x: np.maximum.reduce(x, initial=4.0), A.max(0, initial=4.0)),
        (lambda x: np.multiply.accumulate(x), A.cumprod(0)),
        (lambda x: np.nansum(x, where=MASK, initial=1.0), A.sum(where=MASK, initial=1.0)),
    ],
)
def test_chosen_arguments_mean_what_they_mean_in_numpy(use, want):
    got = gc.jit(use)(A)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda x: np.sin(x, where=MASK), r"where=<bool array>(.|\n)*Write  np\.where\(mask, np\.sin\("),
        (lambda x: np.logical_not(x, where=MASK), r"Write  np\.where\(mask, np\.logical_not\("),
        (lambda x: x.sum(out=np.zeros(())), "out=(.|\n)*use the returned array"),
        (lambda x: np.sqrt(x, dtype="int8"), "int8"),
        (lambda x: x.sum(rows=1), "rows=1: its arguments: a, axis, dtype, initial, keepdims, where"),
        (lambda x: x.astype("int8", casting="safe"), "casting='safe' does not let traced array 'x'"),
        (lambda x: x.argsort(order="f"), "order='f': a traced array has no memory layout"),
        (lambda x: np.subtract.reduce(x), r"np\.subtract\.reduce cannot be traced"),
    ],
)
def test_refusals_name_the_line_the_argument_and_what_to_do(use, words):
    with pytest.raises(gc.GradcError, match=rf"{__file__}:\d+(.|\n)*{words}"):
        gc.jit(use)(A)
