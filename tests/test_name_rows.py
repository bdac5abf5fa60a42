"""NumPy's less common functions on traced values: interpreted, compiled, by NumPy's own name and by ours, and eager.

All texts of one group of arguments are one function: traced once, evaluated and compiled once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from tests.name_rows import CASES, GROUPS, WEIGHTS
from tests.namespace_harness import same


class Ours:
    """`gradc.numpy`, and NumPy for its dtypes, constants and what has no array to trace."""

    def __getattr__(self, name: str) -> Any:
        return getattr(gnp, name, None) or getattr(np, name)


def _program(text: str, namespace: Any) -> Callable[..., Any]:
    return eval(f"lambda x, y, z: {text}", {"np": namespace, "WEIGHTS": WEIGHTS})  # type: ignore[no-any-return]


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


@pytest.mark.parametrize(("text", "group"), [case for case in CASES if case[1] in ("float64", "edges64", "whole8")])
def test_numpys_own_names_find_ours(text, group):
    expected = _flat(_program(text, np)(*GROUPS[group]))
    args = GROUPS[group]
    same(gc.trace(_program(text, np), *args).evaluate(*args), expected, CASES[text, group])
