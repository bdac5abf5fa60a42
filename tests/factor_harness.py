"""The algorithms on whole matrices by themselves, without the ops that users know: code against what must hold.

Enters: an algorithm, shapes and attributes.  Leaves: a compiled function; errors in units of n·ε.
Start reading at `compiled`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradc as gc
from gradc.aval import Aval, Results
from gradc.node import Node
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import item
from gradc.ops.record import Kind, Op

Array = np.ndarray[Any, Any]
Shapes = Callable[..., Sequence[tuple[tuple[int, ...], Any]]]


def _infer_of(algorithm: Algorithm) -> Callable[..., Aval]:
    def infer(*avals: Aval, **attrs: Any) -> Aval:
        lead = avals[0].shape[:-2]
        inside = RESULTS[algorithm](*(a.shape[len(lead) :] for a in avals), **attrs)
        parts = [Aval((*lead, *shape), np.dtype(dtype or avals[0].dtype)) for shape, dtype in inside]
        return parts[0] if len(parts) == 1 else Results.of(parts)

    return infer


#: the shapes and dtypes of what comes of one matrix; None: that of the operand
RESULTS: dict[Algorithm, Shapes] = {
    Algorithm.CHOLESKY: lambda a, **_: [(a, None)],
    Algorithm.TRIANGULAR_SOLVE: lambda t, b, **_: [(b, None)],
    Algorithm.LU: lambda a, **_: [(a, None), (a[:1], np.int64)],
    Algorithm.SOLVE: lambda a, b, **_: [(b, None)],
    Algorithm.QR: lambda a, complete, **_: [
        ((a[0], a[0] if complete else min(a)), None), ((a[0] if complete else min(a), a[1]), None)
    ],
    Algorithm.EIGH: lambda a, **_: [(a[:1], None), (a, None)],
    Algorithm.EIGENVALUES: lambda a, **_: [(a[:1], None)],
    Algorithm.SVD: lambda a, full, **_: [
        ((a[0], a[0] if full else min(a)), None), ((min(a),), None), ((a[1] if full else min(a), a[1]), None)
    ],
    Algorithm.SINGULAR_VALUES: lambda a, **_: [((min(a),), None)],
    Algorithm.INVERSE: lambda a, **_: [(a, None)],
}


def compiled(algorithm: Algorithm, *arrays: Array, options: Any = None, read: Any = None, **attrs: Any) -> Any:
    """A function of such ``arrays`` by ``algorithm``; of several results those whose numbers are in ``read``."""
    op = Op(
        name=algorithm.value, kind=Kind.WHOLE, infer=_infer_of(algorithm), numpy=lambda *x: x, algorithm=algorithm,
        constant=True,
    )  # fmt: skip

    def f(*nodes: Node) -> Any:
        node = op.make(nodes, **{"check": True, **attrs})
        if not isinstance(node.aval, Results):
            return node
        return tuple(item(node, k) for k in (read or range(len(node.aval.parts))))

    return gc.compile(f, *arrays, **(options or {}))


def error(found: Array, wanted: Array, scale: Array | float, n: int) -> float:
    """The largest difference over the largest of ``scale``, in units of n·ε."""
    if not found.size:
        return 0.0
    size = float(np.max(np.abs(scale), initial=0.0)) or 1.0
    eps = max(np.finfo(x.dtype).eps for x in (found, wanted))
    wide = np.abs(found.astype(np.longdouble) - wanted.astype(np.longdouble))
    return float(np.max(wide) / (size * eps * max(n, 1)))


#: sizes around those at which loops, vectors and blocks end
SIZES = (1, 2, 3, 5, 8, 9, 17, 31, 33, 64, 70)


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
