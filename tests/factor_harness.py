"""The algorithms on whole matrices by themselves, each by the op that names it: code against what must hold.

Enters: an algorithm, shapes and attributes.  Leaves: a compiled function; errors in units of n·ε.
Start reading at `compiled`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS, Node
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import item, result_count
from gradc.ops.record import Op, has_results

Array = np.ndarray[Any, Any]


def op_of(algorithm: Algorithm) -> Op:
    """The op whose code it is."""
    (op,) = (op for op in OPS.values() if op.algorithm is algorithm)
    return op


def compiled(algorithm: Algorithm, *arrays: Array, options: Any = None, read: Any = None, **attrs: Any) -> Any:
    """A function of such ``arrays`` by ``algorithm``; of several results those whose numbers are in ``read``."""
    op = op_of(algorithm)

    def f(*nodes: Node) -> Any:
        node = op.make(nodes, **{"check": True, **attrs})
        if not has_results(node):
            return node
        return tuple(item(node, k) for k in (read or range(result_count(node))))

    return gc.compile(f, *arrays, **(options or {}))


def error(found: Array, wanted: Array, scale: Array | float, n: int) -> float:
    """The largest difference over the largest of ``scale``, in units of n·ε."""
    if not found.size:
        return 0.0
    size = float(np.max(np.abs(scale), initial=0.0)) or 1.0
    eps = max(np.finfo(x.dtype).eps for x in (found, wanted))
    wide = np.abs(found.astype(np.longdouble) - wanted.astype(np.longdouble))
    return float(np.max(wide) / (size * eps * max(n, 1)))


def some_daily(cases: Sequence[Any], daily: Collection[Any]) -> list[Any]:
    """Cases of a test, those that are not ``daily`` for the long run."""
    return [case if case in daily else pytest.param(*_parts(case), marks=pytest.mark.nightly) for case in cases]


def _parts(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)


#: sizes around those at which loops, vectors and blocks end
SIZES = (*range(1, 13), 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 69, 70, 255, 256, 257)


def draw(kind: str, shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Matrices: random, graded over many orders of magnitude, Hilbert's, or nearly singular."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    m, n = shape[-2:]
    if kind == "graded":
        x = x * np.logspace(0, -6, m)[:, None] * np.logspace(0, -6, n)
    elif kind == "hilbert":
        x = np.broadcast_to(1 / (np.arange(m)[:, None] + np.arange(n) + 1.0), shape).copy()
    elif kind == "near":
        x[..., -1, :] = x[..., 0, :] * (1 + 1e-7 * rng.normal(size=n))
    return x.astype(dtype)


def definite(kind: str, shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Symmetric positive definite ones of that kind, as far as rounding lets them be."""
    x = draw(kind, shape, np.float64, seed)
    n = shape[-1]
    gram = x @ x.swapaxes(-1, -2)
    size = np.max(np.abs(gram), axis=(-2, -1), keepdims=True, initial=0.0)
    return np.asarray(gram + np.eye(n) * size * n * 16 * np.finfo(dtype).eps, dtype)
