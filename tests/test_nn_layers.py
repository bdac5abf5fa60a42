"""Layers of gc.nn are torch.nn.functional's: values, gradients, second derivatives, against what PyTorch gave.

The same text runs in PyTorch (`torch_layers.py`) and here, interpreted and compiled, in narrow floats, under vmap and
in a scan.  A family is one compiled module.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gradc as gc
from tests.layer_cases import ARRAYS, CASES, FAMILIES
from tests.nn_cases import differentiated, names_in, weights
from tests.torch_layers import FILE

EXPECTED = json.loads(FILE.read_text())
#: Formulas of some forty operations over sums of at most 200 terms; each derivative adds as many again.
ULPS = {"value": 256, "gradient": 1024, "second": 4096}


def _program(text: str) -> Callable[..., Any]:
    """The program as a function of the arrays that it reads."""
    names, code = names_in(text, ARRAYS), compile(text, text, "eval")
    return lambda *arrays: eval(code, {"F": gc.nn, "T": gc.nn, **dict(zip(names, arrays, strict=True))})


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _weighed(parts: Any, which: int) -> Any:
    return sum(np.sum(weights(np.shape(t), which + i) * t) for i, t in enumerate(parts))


def _total(text: str) -> Callable[..., Any]:
    f = _program(text)
    return lambda *arrays: _weighed([t for t in _parts(f(*arrays)) if t.dtype.kind == "f"], 0)


def _results(text: str, second: bool = True) -> Callable[..., dict[str, Any]]:
    """Value, gradient of a weighted sum of it, and gradient of a weighted sum of that gradient."""
    names = names_in(text, ARRAYS)
    free = tuple(names.index(name) for name in differentiated(names))
    gradient = gc.grad(_total(text), argnums=free)
    twice = gc.grad(lambda *arrays: _weighed(gradient(*arrays), 1), argnums=free)

    def made(*arrays: Any) -> dict[str, Any]:
        result = {"value": _parts(_program(text)(*arrays)), "gradient": gradient(*arrays)}
        return result | {"second": twice(*arrays)} if second and "second" in EXPECTED[text] else result

    return made


def _arguments(text: str) -> list[Any]:
    return [ARRAYS[name] for name in names_in(text, ARRAYS)]


def _compare(text: str, actual: dict[str, Any]) -> None:
    assert [list(np.shape(t)) for t in actual["value"]] == EXPECTED[text]["shapes"], text
    for what, found in actual.items():
        for part, (total, scale) in zip(found, EXPECTED[text][what], strict=True):
            bound = ULPS[what] * 2.0**-52 * max(1.0, scale)
            assert abs(_weighed([part], 9) - total) <= bound, (what, text)


@functools.cache
def _compiled(family: str) -> dict[str, Any]:
    texts = FAMILIES[family]
    step = gc.jit(lambda arrays: {t: _results(t)(*[arrays[n] for n in names_in(t, ARRAYS)]) for t in texts})
    result: dict[str, Any] = step(ARRAYS)
    return result


@pytest.mark.parametrize(("family", "text"), [(f, t) for f, texts in FAMILIES.items() for t in texts])
def test_compiled(family, text):
    _compare(text, _compiled(family)[text])


def _cases(every: int) -> list[Any]:
    """All programs; but for one in ``every``, in the long run alone."""
    return [pytest.param(t, marks=() if i % every == 0 else pytest.mark.nightly) for i, t in enumerate(CASES)]


@pytest.mark.parametrize("text", _cases(4))
def test_interpreted(text):
    _compare(text, _results(text, second=False)(*_arguments(text)))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("text", _cases(4))
def test_narrow(text, dtype):
    """The dtype stays, and the value is that of the rounded arguments, to rounding in between."""
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in _arguments(text)]
    wide = [a.astype(float) if a.dtype.kind not in "iub" else a for a in arrays]
    for found, exact in zip(_parts(_program(text)(*arrays)), _parts(_program(text)(*wide)), strict=True):
        if exact.dtype.kind == "f":
            assert found.dtype == dtype
            bound = 32 * float(ml_dtypes.finfo(dtype).eps) * max(1.0, np.abs(exact).max(initial=0))
            assert np.abs(found.astype(float) - exact).max(initial=0) <= bound


@pytest.mark.parametrize("text", _cases(8))
def test_under_vmap_and_in_a_scan(text):
    f, names = _program(text), names_in(text, ARRAYS)
    rows = {name: np.stack([ARRAYS[name], 0.75 * ARRAYS[name]]) for name in differentiated(names)}

    def at(moved: dict[str, Any]) -> Any:
        return _parts(f(*[moved.get(name, ARRAYS[name]) for name in names]))

    expected = [at({name: x[i] for name, x in rows.items()}) for i in range(2)]
    for found in (gc.vmap(at)(rows), gc.scan(lambda count, row: (count + 1, at(row)), 0, rows)[1]):
        for part, i in np.ndindex(len(expected[0]), 2):
            np.testing.assert_allclose(found[part][i], expected[i][part], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("text", _cases(12))
def test_all_derivations_agree(text):
    names, total = names_in(text, ARRAYS), _total(text)
    fixed = {name: ARRAYS[name] for name in names if name not in differentiated(names)}

    def of(**free: Any) -> Any:
        return total(*[free.get(name, fixed.get(name)) for name in names])

    report = gc.check_gradients(functools.partial(of), **{name: ARRAYS[name] for name in differentiated(names)})
    assert report.ok, str(report)


def test_entries_outside_of_every_bag_count_to_none():
    """Of offsets that are traced, too; PyTorch's values."""
    rows = np.arange(8.0).reshape(4, 2)
    entries = np.array([3, 0, 2, 1])

    def of(offsets: Any) -> Any:
        bags = [nn.embedding_bag(entries, rows, offsets, mode=m, include_last_offset=True) for m in ("sum", "max")]
        return *bags, nn.embedding_bag(entries, rows, offsets)

    nn = gc.nn
    for found in (of(np.array([0, 1, 2])), gc.jit(of)(np.array([0, 1, 2]))):
        np.testing.assert_array_equal(found[0], [[6, 7], [0, 1]])
        np.testing.assert_array_equal(found[1], [[6, 7], [0, 1]])
        np.testing.assert_array_equal(found[2], [[6, 7], [0, 1], [3, 4]])
    after = gc.jit(of)(np.array([2, 3, 3]))
    np.testing.assert_array_equal(after[0], [[4, 5], [0, 0]])


def test_a_padding_row_is_one_however_it_is_counted():
    rows = np.ones((300, 1))
    for at in (np.array([-1, 2]), np.array([299, 2]), np.array([-1, 2], np.int8)):
        for index in (-1, 299):
            slope = gc.grad(lambda w, at=at, i=index: np.sum(gc.nn.embedding(at, w, padding_idx=i)))(rows)
            assert np.flatnonzero(slope).tolist() == [2]
