"""Where kernels stand: in the outer function, in functions of their own, or in those that the outer one goes on in."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest

import gradc as gc

#: the module, not the function of its name
emit = importlib.import_module("gradc.codegen.emit")
X, Y = np.linspace(-1, 1, 48).reshape(6, 8), np.linspace(0.5, 2, 48).reshape(8, 6)


def several(x, y):
    """Kernels that differ, and some that are equal."""
    rows = [np.tanh(x[k] * 2).sum() for k in range(3)]
    product = x @ y
    return np.exp(product).sum(axis=0), np.sin(product).max(axis=1), product, sum(rows), np.sort(x, axis=0)


def functions(text):
    return dict(re.findall(r"^define [^@]*@([\w.]+)\((.*?)^}", text, re.MULTILINE | re.DOTALL))


def compiled(**options):
    return gc.jit(several, **options).lower(X, Y)


def test_work_that_occurs_once_stands_in_the_outer_function():
    found = functions(compiled().llvm)
    assert not any(re.match(r"k\d", name) and found["gradc_step"].count(f"@{name}(") == 1 for name in found)


def test_a_long_outer_function_goes_on_in_others_with_the_same_bits(monkeypatch):
    usual = compiled()
    assert not any(name.startswith("gradc_step.") for name in functions(usual.llvm))
    monkeypatch.setattr(emit, "LONG", 30)
    for debug in (False, True):
        cut = compiled(debug=debug)
        parts = [name for name in functions(cut.llvm) if name.startswith("gradc_step.")]
        assert len(parts) > 1
        assert all(functions(cut.llvm)["gradc_step"].count(f"call void @{name}(") == 1 for name in parts)
        for a, b in zip(usual(X, Y), cut(X, Y), strict=True):
            assert a.tobytes() == b.tobytes()


def test_arithmetic_is_not_in_the_function_that_tells_the_cpu_how_to_do_it():
    outer = functions(compiled(fp="fast").llvm)["gradc_step"]
    assert "call void @gradc_step.0(" in outer
    assert not re.search(r" = f(?:add|mul|sub|div)|llvm\.(?!x86\.sse|aarch64)", outer)


def lines_of_work(text):
    """The longest function of a module, without the pointers that it finds and hands on."""
    plain = re.compile(r" = load ptr, | = getelementptr |call void @")
    return max(sum(not plain.search(line) for line in body.splitlines()) for body in functions(text).values())


MANY = {
    "results": lambda xs: [x * 2.5 + 1 for x in xs],
    "pieces": lambda xs: np.concatenate(xs),
    "parts": lambda xs: list(np.stack(xs) * 2),
}


@pytest.mark.parametrize("name", MANY)
def test_no_function_grows_with_the_number_of_small_arrays(name, monkeypatch):
    monkeypatch.setattr(emit, "LONG", 100)
    few, many = ([np.full(3, float(k)) for k in range(n)] for n in (130, 260))
    lowered = [gc.jit(MANY[name]).lower(xs) for xs in (few, many)]
    assert lines_of_work(lowered[1].llvm) <= 1.2 * lines_of_work(lowered[0].llvm)
    for got, want in zip(lowered[1](many), MANY[name](many), strict=True):
        assert np.array_equal(got, want)
