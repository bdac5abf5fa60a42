"""Every public name of NumPy works on traced values or stands on the list of refusals, with its reason and a remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.methods import WITHOUT_MEMORY
from gradc.node import FUNCTIONS, Node
from gradc.refusals import ON_PURPOSE

M = np.arange(6.0).reshape(2, 3)
#: public functions of NumPy that never see an array of numbers, or work with any object
NOT_OF_ARRAYS = {
    **dict.fromkeys(
        ("bartlett", "blackman", "hamming", "hanning", "kaiser", "fromfunction", "broadcast_shapes", "iterable",
         "isscalar", "issubdtype", "mintypecode", "promote_types", "typename"), "made of numbers, shapes and types"),
    **dict.fromkeys(
        ("fromfile", "fromiter", "fromregex", "fromstring", "frombuffer", "genfromtxt", "load", "loadtxt"),
        "reads from files and buffers"),
    **dict.fromkeys(
        ("get_include", "get_printoptions", "getbufsize", "geterr", "geterrcall", "info", "printoptions",
         "set_printoptions", "setbufsize", "seterr", "seterrcall", "show_config", "show_runtime", "test"), "settings"),
    **dict.fromkeys(
        ("busday_count", "busday_offset", "datetime_as_string", "datetime_data", "is_busday", "isnat"), "dates"),
    "nested_iters": "iterates over memory",
}  # fmt: skip


def _functions(module: Any) -> list[str]:
    found = {n: getattr(module, n) for n in sorted(module.__all__)}
    return [n for n, f in found.items() if callable(f) and not isinstance(f, type)]


@pytest.mark.parametrize("name", _functions(np))
def test_every_function_of_numpy_works_or_is_refused_with_a_reason(name):
    """By its own name, or by the one that it gives itself, as np.abs does."""
    works = {name, getattr(getattr(np, name), "__name__", name)} & set(FUNCTIONS)
    places = [bool(works), name in ON_PURPOSE, name in NOT_OF_ARRAYS]
    assert sum(places) == 1, f"np.{name}: works, refused, of no arrays: {places}"


def test_what_is_listed_exists():
    for name in ON_PURPOSE:
        home = np.fft if name.startswith("fft.") else np
        assert hasattr(home, name.removeprefix("fft."))
    assert all(hasattr(np, name) for name in NOT_OF_ARRAYS)


@pytest.mark.parametrize("name", [n for n in _functions(np.fft) if n not in ("fftfreq", "rfftfreq")])
def test_transforms_are_refused_and_shifts_work(name):
    if name in ("fftshift", "ifftshift"):
        for axes in (None, 0, (0, 1)):
            got = gc.jit(lambda x, axes=axes: getattr(np.fft, name)(x, axes))(M)
            np.testing.assert_array_equal(got, getattr(np.fft, name)(M, axes))
    else:
        words = rf"{__file__}:\d+: np\.fft\.{name} is refused: .*complex(.|\n)*np\.cos"
        with pytest.raises(gc.TraceError, match=words):
            gc.trace(lambda x: getattr(np.fft, name)(x), M)


#: how what is refused may be called, where not with the array alone
CALLS: dict[str, Any] = {
    "copyto": lambda x: np.copyto(np.zeros((2, 3)), x),
    "fill_diagonal": lambda x: np.fill_diagonal(x, 1),
    "place": lambda x: np.place(x, x > 1, [1]),
    "put": lambda x: np.put(x, [0], [1]),
    "putmask": lambda x: np.putmask(x, x > 1, 0),
    "put_along_axis": lambda x: np.put_along_axis(x, np.zeros((2, 1), int), 1, 1),
    "shares_memory": lambda x: np.shares_memory(x, M),
    "may_share_memory": lambda x: np.may_share_memory(x, M),
    "roots": lambda x: np.roots(x[0]),
    "trim_zeros": lambda x: np.trim_zeros(x[0]),
    "save": lambda x: np.save("never", x),
    "savez": lambda x: np.savez("never", x),
    "savez_compressed": lambda x: np.savez_compressed("never", x),
    "savetxt": lambda x: np.savetxt("never", x),
    "require": lambda x: np.require(x),
    "asarray_chkfinite": lambda x: np.asarray_chkfinite(x),
    "asmatrix": lambda x: np.asmatrix(x),
    "bmat": lambda x: np.bmat([[x]]),
    "asfortranarray": lambda x: np.asfortranarray(x),
}
#: that ask for an attribute or a number first, and meet another refusal
OTHERWISE = {"isfortran": "no .flags", "base_repr": None, "binary_repr": None,
             "format_float_positional": None, "format_float_scientific": None,
             "frompyfunc": "cannot be traced"}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in ON_PURPOSE if not n.startswith("fft.") and n not in OTHERWISE])
def test_a_refusal_says_the_line_the_reason_and_what_to_do(name):
    reason, remedy = ON_PURPOSE[name]
    with pytest.raises(gc.TraceError) as caught:
        gc.trace(CALLS.get(name, lambda x: getattr(np, name)(x)), M)
    said = str(caught.value)
    assert f"{__file__}:" in said and f"np.{name}" in said and reason in said and remedy in said


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_asks_for_something_else_first_is_refused_as_well(name):
    call = (lambda x: np.frompyfunc(abs, 1, 1)(x)) if name == "frompyfunc" else lambda x: getattr(np, name)(x)
    with pytest.raises((gc.TraceError, AttributeError, TypeError), match=OTHERWISE[name]):
        gc.trace(call, M)


# -- methods and attributes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in dir(np.ndarray) if not n.startswith("_")])
def test_every_attribute_of_an_array_is_there_or_says_what_to_write(name):
    if name not in WITHOUT_MEMORY:
        assert hasattr(Node, name), name
        return
    with pytest.raises(AttributeError) as caught:
        gc.trace(lambda x: getattr(x, name), M)
    assert f"{__file__}:" in str(caught.value) and WITHOUT_MEMORY[name] in str(caught.value)


@pytest.mark.parametrize(
    ("use", "want"),
    [
        (lambda x: x.argpartition(1)[:, 1], M.argpartition(1)[:, 1]),
        (lambda x: (x > 2).choose([x, -x]), np.where(M > 2, -M, M)),
        (lambda x: x.imag, np.zeros((2, 3))),
        (lambda x: x.to_device("cpu"), M),
        (lambda x: divmod(7.0, x + 1)[1], 7.0 % (M + 1)),
    ],
)
def test_methods_are_numpys(use, want):
    np.testing.assert_array_equal(gc.jit(use)(M), want)


# -- Python's own words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda x: max(x[0]), r"Python's max(.|\n)*np\.max\(x\), or np\.maximum\(a, b\)"),
        (lambda x: min(x[0, 0], x[0, 1]), r"Python's min(.|\n)*np\.minimum\(a, b\)"),
        (lambda x: sorted(x[0]), r"Python's sorted(.|\n)*np\.sort\(x\)"),
        (lambda x: any(x[0] > 1), r"Python's any(.|\n)*np\.any\(x\)"),
        (lambda x: 1.0 in x, r"`in` needs values"),
        (lambda x: x in M, r"`x in M` needs(.|\n)*\(M == x\)\.any\(\)"),
        (lambda x: math.sin(x[0, 0]), r"math\.sin(.|\n)*np\.sin"),
        (lambda x: f"{x:.3f}", r"the format '\.3f' needs(.|\n)*print it outside"),
        (lambda x: x[x > 1], r"gradc\.numpy\.extract\(mask, x, size=n\)"),
        (lambda x: np.r_[x[0], 1.0], r"np\.concatenate\(\[…\]\)"),
        (lambda x: np.c_[x[0], x[1]], r"np\.column_stack\(\[…\]\)"),
        (lambda x: np.from_dlpack(x), r"no memory to hand over: write  gradc\.numpy\.asarray"),
        (lambda x: np.var(x, dtype=int), r"needs a floating dtype"),
        (lambda x: x.nonzero(), r"gradc\.numpy\.nonzero\(…, size=n\)"),
        (lambda x: x.sort(), r"use np\.sort"),
        (lambda x: x.to_device("gpu"), r"the device 'cpu' alone"),
        (lambda x: gnp.mgrid[0 : x[0, 0]], r"needs the number of its points"),
        (lambda x: gnp.bincount(x[0].astype(int)), r"gradc\.numpy\.bincount\(x, length=n\)"),
        (lambda x: gnp.min_scalar_type(x[0, 0]), r"would depend on the value"),
        (lambda x: gnp.histogram(x, "auto"), r"bins='auto' chooses the number of bins by the values"),
        (lambda x: gnp.quantile(x, 1.5), r"q must be in the range \[0, 1\]"),
        (lambda x: gnp.quantile(x, 0.5, method="best"), r"method must be one of inverted_cdf"),
        (lambda x: gnp.unique(x, axis=0, size=2), r"axis must be None"),
        (lambda x: gnp.insert(x, x[0], 1), r"only a single whole number"),
    ],
)
def test_what_asks_for_numbers_says_what_to_write(use, words):
    with pytest.raises((gc.GradcError, ValueError, AttributeError), match=words):
        gc.trace(use, M)
