"""Activations and losses of gc.nn are torch.nn.functional's: values, gradients, second derivatives, stored in float64.

The same text runs in PyTorch (`torch_vectors.py`) and here, interpreted and compiled, under vmap and in a scan.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from tests.nn_cases import ARRAYS, CASES, CTC, differentiated, names_in, program, weights
from tests.torch_vectors import FILE

EXPECTED = json.loads(FILE.read_text())
#: Formulas of at most some forty operations over sums of at most 60 terms; each derivative adds as many again.
ULPS = {"value": 128, "gradient": 512, "second": 2048}
#: where PyTorch itself is further from the exact result, and by how much of it: text begins: derivative, relative error
COARSE = {
    "F.hardsigmoid(": ("gradient", 2.0**-24),  # a sixth in float32
    "F.binary_cross_entropy(": ("second", 1e-10),  # 1e-12 added to p·(1 − p) >= 0.02
}


def _results(text: str) -> Callable[..., dict[str, Any]]:
    """Value, gradient of a weighted sum of it, and gradient of a weighted sum of that gradient."""
    f, names = program(text, gc.nn), names_in(text)
    free = tuple(names.index(name) for name in differentiated(names))

    def weighed(parts: Any, which: int) -> Any:
        return sum(np.sum(weights(np.shape(t), which + i) * t) for i, t in enumerate(parts))

    gradient = gc.grad(lambda *arrays: weighed([f(*arrays)], 0), argnums=free)
    second = gc.grad(lambda *arrays: weighed(gradient(*arrays), 1), argnums=free)

    def made(*arrays: Any) -> dict[str, Any]:
        result = {"value": f(*arrays), "gradient": gradient(*arrays)}
        return result | {"second": second(*arrays)} if "second" in EXPECTED[text] else result

    return made


def _arguments(text: str) -> list[Any]:
    return [ARRAYS[name] for name in names_in(text)]


def _compare(text: str, actual: dict[str, Any]) -> None:
    for what, expected in EXPECTED[text].items():
        parts = [(actual[what], expected)] if what == "value" else list(zip(actual[what], expected, strict=True))
        for a, e in parts:
            e = np.array(e, float)
            assert np.shape(a) == e.shape, what
            finite = np.abs(e[np.isfinite(e)])
            scale = max(1.0, finite.max(initial=0.0))
            coarse = max((r for head, (d, r) in COARSE.items() if text.startswith(head) and d == what), default=0.0)
            np.testing.assert_allclose(
                a, e, rtol=coarse, atol=ULPS[what] * 2.0**-52 * scale, err_msg=f"{what} of {text}"
            )


CHUNKS = [list(CASES)[i : i + 40] for i in range(0, len(CASES), 40)]


@functools.cache
def _compiled(chunk: int) -> dict[str, Any]:
    texts = CHUNKS[chunk]
    step = gc.jit(lambda arrays: {t: _results(t)(*[arrays[n] for n in names_in(t)]) for t in texts})
    result: dict[str, Any] = step(ARRAYS)
    return result


@pytest.mark.parametrize("text", CASES)
def test_compiled(text):
    chunk = next(i for i, texts in enumerate(CHUNKS) if text in texts)
    _compare(text, _compiled(chunk)[text])


def _cases(every: int) -> list[Any]:
    """All programs; but for one in ``every``, in the long run alone."""
    return [pytest.param(t, marks=() if i % every == 0 else pytest.mark.nightly) for i, t in enumerate(CASES)]


@pytest.mark.parametrize("text", _cases(4))
def test_interpreted(text):
    _compare(text, _results(text)(*_arguments(text)))


@pytest.mark.parametrize("text", _cases(8))
def test_under_vmap_and_in_a_scan(text):
    f, names = program(text, gc.nn), names_in(text)
    free = differentiated(names)
    rows = {name: np.stack([ARRAYS[name], 0.75 * ARRAYS[name]]) for name in free}

    def at(moved: dict[str, Any]) -> Any:
        arrays = {name: moved.get(name, ARRAYS[name]) for name in names}
        value = f(*arrays.values())
        return value, gc.grad(lambda *a: np.sum(weights(np.shape(value), 0) * f(*a)), names.index(free[0]))(
            *arrays.values()
        )

    expected = [at({name: x[i] for name, x in rows.items()}) for i in range(2)]
    mapped = gc.vmap(at)(rows)
    scanned = gc.scan(lambda count, row: (count + 1, at(row)), 0, rows)[1]
    for found in (mapped, scanned):
        for part in range(2):
            for i in range(2):
                np.testing.assert_allclose(found[part][i], expected[i][part], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("text", [p for p in _cases(16) if CASES[p.values[0]] == 2 or p.values[0] in CTC])
def test_all_derivations_agree(text):
    f, names = program(text, gc.nn), names_in(text)
    fixed = {name: ARRAYS[name] for name in names if name not in differentiated(names)}

    def total(**free: Any) -> Any:
        value = f(*[free.get(name, fixed.get(name)) for name in names])
        return np.sum(weights(np.shape(value), 0) * value)

    report = gc.check_gradients(functools.partial(total), **{name: ARRAYS[name] for name in differentiated(names)})
    assert report.ok, str(report)
