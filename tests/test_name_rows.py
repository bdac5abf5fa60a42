"""NumPy's less common functions on traced values: interpreted, compiled, by NumPy's own name and by ours, and eager.

All texts of one group of arguments are one function: traced once, evaluated and compiled once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from tests.name_rows import CASES, GROUPS, OWN, WEIGHTS
from tests.namespace_harness import same


class Ours:
    """`gradc.numpy`, and NumPy for its dtypes, constants and what has no array to trace."""

    def __getattr__(self, name: str) -> Any:
        return getattr(gnp, name, None) or getattr(np, name)


def sized(values: Any, size: int, fill: Any) -> Any:
    """The first ``size`` rows, or all and ``fill`` for the others."""
    values = values[:size]
    return np.concatenate([values, np.full((size - len(values), *values.shape[1:]), fill, values.dtype)])


def put(x: Any, indices: Any, values: Any, axis: Any) -> Any:
    """`numpy.put_along_axis` into a copy."""
    result = x.copy()
    np.put_along_axis(result, indices, values, axis)
    return result


NAMES = {"WEIGHTS": WEIGHTS, "plain": np, "sized": sized, "put": put}


def _program(text: str, namespace: Any) -> Callable[..., Any]:
    return eval(f"lambda x, y, z: {text}", {**NAMES, "np": namespace})  # type: ignore[no-any-return]


def _flat(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in _flat(part)] if isinstance(result, (list, tuple)) else [result]


@functools.cache
def _all_ways(group: str) -> dict[str, dict[str, list[Any]]] | Exception:
    """For each text of a group: its results, interpreted and compiled; or what went wrong (once, not per text)."""
    programs = {t: _program(t, Ours()) for t, g in CASES if g == group}

    def everything(x: Any, y: Any, z: Any) -> dict[str, list[Any]]:
        results = {}
        for text, program in programs.items():
            try:
                results[text] = _flat(program(x, y, z))
            except Exception as error:
                error.add_note(f"while tracing {text!r} on {group}")
                raise
        return results

    args = GROUPS[group]
    try:
        shown = gc.jit(everything)(*args)
        evaluated = iter(gc.trace(everything, *args).evaluate(*args))
    except Exception as error:
        return error
    texts = sorted(programs)  # as leaves of a dict are ordered
    return {"compiled": shown, "interpreted": {t: [next(evaluated) for _ in shown[t]] for t in texts}}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of empty means and invalid values; here they are part of the meaning."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.sampled(3, each=("text", "group"))
@pytest.mark.parametrize(("text", "group"), CASES, ids=lambda value: value if len(value) < 60 else value[:57] + "...")
def test_every_way_gives_what_numpy_gives(text, group):
    expected = _flat(_program(text, np)(*GROUPS[group]))
    ulps = CASES[text, group]
    same(_flat(_program(text, Ours())(*GROUPS[group])), expected, ulps)
    ways = _all_ways(group)
    if isinstance(ways, Exception):
        raise ways
    same(ways["interpreted"][text], expected, ulps)
    same(ways["compiled"][text], expected, ulps)


@pytest.mark.sampled(3, each=("text",))
@pytest.mark.parametrize(("text", "group"), [case for case in CASES if case[1] in ("float64", "edges64", "whole8")])
def test_numpys_own_names_find_ours(text, group):
    expected = _flat(_program(text, np)(*GROUPS[group]))
    args = GROUPS[group]
    same(gc.trace(_program(text, np), *args).evaluate(*args), expected, CASES[text, group])


@functools.cache
def _all_own(group: str) -> list[list[Any]]:
    """The texts of gradc's own arguments, interpreted and compiled."""
    args, programs = GROUPS[group], [_program(text, Ours()) for text in OWN]

    def everything(x: Any, y: Any, z: Any) -> list[list[Any]]:
        return [_flat(program(x, y, z)) for program in programs]

    return [everything(*args), gc.jit(everything)(*args)]


@pytest.mark.parametrize("group", ["float64", "int64"])
@pytest.mark.parametrize("text", OWN)
def test_lengths_that_are_told_cut_and_fill(text, group):
    expected = _flat(_program(OWN[text], np)(*GROUPS[group]))
    for found in _all_own(group):
        same(found[list(OWN).index(text)], expected, 4)


SLOPES = {
    "gnp.interp(x[0], gnp.sort(y[0]), z)": "positions, places and samples",
    "gnp.quantile(x, gnp.abs(z[:2]) / 9 + 0.1, axis=1)": "elements and q",
    "gnp.nanquantile(x, 0.3, axis=0, method='hazen')": "elements",
    "gnp.cov(x, y, aweights=z * z + 1)": "observations and weights",
    "gnp.corrcoef(x)": "observations",
    "gnp.gradient(x, gnp.cumsum(z * z + 0.5), axis=1, edge_order=2)": "samples and coordinates",
    "gnp.histogram(z, [-3.0, 0.0, 3.0], weights=x[0], density=True)[0]": "weights",
    "gnp.polydiv(x[0], gnp.stack([y[0, 0] + 5, z[0]]))[0]": "both polynomials",
    "gnp.sinc(x * gnp.array([0.0, 1e-4, 0.2, 2]))": "through 0",
    "gnp.frexp(x)[0] * gnp.ldexp(y, 3) + gnp.fmod(x, 0.7) + gnp.modf(y)[0]": "parts of numbers",
    "gnp.unique(x, size=5) + gnp.compress(z > 0, z, size=5)": "what is chosen",
    "gnp.poly(z) * gnp.polyval(z, 0.3) + gnp.vander(z, 5)[0]": "roots and coefficients",
    "gnp.unwrap(6 * x) + gnp.piecewise(x, [x < 0], [gnp.sin, gnp.cosh])": "jumps and branches",
    "gnp.geomspace(z * z + 1, 9.0, 4) * gnp.correlate(z, x[0], 'full')[1:5]": "ends, and both of a correlation",
}


@pytest.mark.parametrize("text", SLOPES)
def test_derivatives_agree(text):
    """Forward, reverse, symbolic and finite differences."""
    report = gc.check_gradients(eval(f"lambda x, y, z: {text}", {"gnp": gnp}), *GROUPS["float64"])
    assert report.ok, str(report)


def test_i0_is_within_four_units_in_the_last_place():
    """Dense around the seam of its two series, and up to where it overflows."""
    x = np.concatenate([np.linspace(0, 12, 400), np.geomspace(12, 713, 200), -np.geomspace(1e-9, 8, 50)])
    exact = [mpmath.besseli(0, mpmath.mpf(float(v))) for v in x]
    for found in (gnp.i0(x), gc.jit(gnp.i0)(x)):
        errors = [abs((mpmath.mpf(float(a)) - b) / b) for a, b in zip(found, exact, strict=True)]
        assert max(errors) <= 4 * 2.0**-52
    for order, f in ((1, gc.grad(gnp.i0)), (2, gc.grad(gc.grad(gnp.i0)))):
        for at in (0.0, 0.3, 7.9, 8.5, -20.0):
            want = mpmath.diff(lambda v: mpmath.besseli(0, v), at, order)
            np.testing.assert_allclose(f(at), float(want), rtol=1e-11, atol=1e-15)
