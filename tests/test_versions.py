"""How many versions of a function stay compiled, which one goes, and what the warning says."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import gradc as gc


def compiled(f: Any) -> int:
    return len(f._versions)


def test_the_least_recently_used_version_goes_and_comes_back() -> None:
    f = gc.jit(lambda x: x + 1, versions=2)
    first, second = f.lower(np.ones(1)), f.lower(np.ones(2))
    f(np.ones(1))
    with pytest.warns(gc.VersionsWarning):
        f(np.ones(3))
    assert compiled(f) == 2
    assert f.lower(np.ones(1)) is first and f.lower(np.ones(2)) is not second
    np.testing.assert_array_equal(f(np.ones(2)), np.full(2, 2.0))


def complaint(f: Any, *calls: tuple[Any, ...], **options: Any) -> str:
    jitted = gc.jit(f, versions=len(calls) - 1, **options)
    with pytest.warns(gc.VersionsWarning) as caught:
        for args in calls:
            jitted(*args)
    (warning,) = caught
    assert warning.filename == __file__
    return str(warning.message)


def test_the_warning_names_the_argument_whose_shape_varies() -> None:
    text = complaint(lambda w, batch: w * batch.sum(), *[(np.ones(3), np.ones((n, 2))) for n in range(1, 6)])
    assert "f has been compiled for more than 4 kinds of arguments" in text
    assert "What varies most is batch (float64[5, 2], float64[4, 2], float64[3, 2], …): pad it to a few sizes" in text
    assert "versions=8 allows twice as many" in text


def test_the_warning_names_a_static_argument() -> None:
    text = complaint(lambda x, n: x * n, *[(np.ones(3), n) for n in range(4)], static="n")
    assert "n (3, 2, 1, …): a static value is part of the code, so pass one that is only computed with" in text
    text = complaint(lambda x, mode: x, *[(np.ones(3), m) for m in ("a", "b", "c")])
    assert "mode ('c', 'b', 'a')" in text


def test_the_warning_names_a_dtype_and_a_nesting() -> None:
    text = complaint(lambda x: x, *[(np.ones(3, d),) for d in ("f4", "f8", "i4")])
    assert "give it one dtype, with .astype" in text
    text = complaint(lambda *xs: xs[0], *[(list(map(np.ones, range(1, n))),) for n in range(2, 5)])
    assert "xs (" in text and "give containers one nesting" in text


def test_it_warns_once() -> None:
    f = gc.jit(lambda x: x + 1, versions=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 5):
            f(np.ones(n))
    assert [w.category for w in caught] == [gc.VersionsWarning]


def test_versions_is_a_number_and_travels() -> None:
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="versions="):
            gc.jit(np.sin, versions=wrong)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(gc.jit(np.sin, versions=7))).options.versions == 7
