"""What the tests of the user's namespaces share: traced leaves, their evaluation, and comparison with NumPy.

Start at `traced` and `same`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc.numpy  # noqa: F401  (fills FUNCTIONS)
from gradc.aval import Aval
from gradc.interpret import interpret
from gradc.node import OPS, Node


def leaf(array: Any, name: str = "x") -> Node:
    """An input node of the array's shape and dtype."""
    aval = Aval(np.shape(array), np.asarray(array).dtype)
    return Node(OPS["input"], (), {"aval": aval, "name": name}, aval)


def traced(f: Callable[..., Any], *arrays: Any) -> Any:
    """``f`` traced on inputs and evaluated by the oracle, in the structure that ``f`` returns."""
    leaves = [leaf(a, f"x{i}") for i, a in enumerate(arrays)]
    result = f(*leaves)
    values = dict(zip(leaves, map(np.asarray, arrays), strict=True))
    if isinstance(result, (list, tuple)):
        flat = interpret([r for r in result if isinstance(r, Node)], values)
        found = iter(flat)
        return [next(found) if isinstance(r, Node) else r for r in result]
    return interpret([result], values)[0] if isinstance(result, Node) else result


def same(actual: Any, expected: Any, ulps: float = 0) -> None:
    """Equal shape, dtype and values; ``ulps`` is the bound on the relative error, in units of the dtype's epsilon.

    The bound is relative to the largest magnitude of the result: sums and products of the same terms in another order.
    """
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            same(a, e, ulps)
        return
    a, e = np.asarray(actual), np.asarray(expected)
    assert a.shape == e.shape, (a.shape, e.shape)
    assert a.dtype == e.dtype, (a.dtype, e.dtype)
    if not ulps or e.dtype.kind != "f" or not e.size:
        np.testing.assert_array_equal(a, e)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(e)) if e.dtype.kind == "f" and not np.isnan(
            e
        ).any() else None
        return
    finite = e[np.isfinite(e)]
    scale = np.abs(finite).max() if finite.size else 1
    np.testing.assert_allclose(a, e, rtol=0, atol=ulps * np.finfo(e.dtype).eps * scale)
