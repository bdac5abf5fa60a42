"""Features on one scale, by statistics of the training part that are kept with the model.

Enters: examples.  Leaves: `Normalisation`, a tree of arrays with the way there and back.  Invariant: statistics are
taken in one pass over blocks of rows, in float64, so that files of any size do; what is constant stays, and is never
divided by zero.  Start reading at `normalise`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradc.containers import tree_map
from gradc.data.examples import Examples
from gradc.node import here

#: bytes of a block of rows
_BLOCK = 1 << 24


class Normalisation(NamedTuple):
    """Statistics of features, nested like them: a tree of arrays, saved and loaded like parameters."""

    shift: Any  #: what is subtracted: means, or least values
    scale: Any  #: what is divided by: standard deviations, or ranges; 1 where a feature is constant

    def apply(self, x: Any) -> Any:
        """(x − shift)/scale of arrays or traced values, in the dtype of the statistics."""
        return tree_map(lambda v, m, s: (v - m) / s, x, self.shift, self.scale)

    def inverse(self, z: Any) -> Any:
        """z·scale + shift.  Of `apply`'s result it differs from x by rounding alone: by at most (3|x − shift| + |x|)·u,
        with u half of the dtype's machine epsilon, and u² of that.
        """
        return tree_map(lambda v, m, s: v * s + m, z, self.shift, self.scale)


def normalise(arrays: Any, kind: str = "standard", axis: int | tuple[int, ...] = 0) -> Normalisation:
    """Statistics of the training part, by which any part is normalised: ``normal = gc.data.normalise(x_train)``, then
    ``normal.apply(x_train)``, ``normal.apply(x_test)`` and ``normal.inverse(z)``.

    ``kind``: "standard", to mean 0 and standard deviation 1; "range", to the interval [0, 1].  ``axis``: over what, the
    examples (0) among it: 0 for a column of a table, (0, 2, 3) for a channel of images.  Statistics have the dtype of
    float arrays, float64 of others.  ValueError where an array holds values that are no numbers.

    >>> import gradc as gc, numpy as np
    >>> normal = gc.data.normalise(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> normal.apply(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    if kind not in ("standard", "range"):
        raise ValueError(f"{here()}: normalise: kind is 'standard' or 'range', got {kind!r:.40}")
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if 0 not in axes:
        raise ValueError(f"{here()}: normalise: axis counts the examples too: 0 belongs to it, got {axis!r:.40}")
    examples = Examples.of(arrays, "normalise")
    found = [_statistics(examples, i, kind, axes) for i in range(len(examples.leaves))]
    back = examples.structure.of_arrays.unflatten
    return Normalisation(back(shift for shift, _ in found), back(scale for _, scale in found))


def _statistics(examples: Examples, number: int, kind: str, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Shift and scale of one array, in one pass over its rows (Chan, Golub & LeVeque 1979)."""
    leaf, name = examples.leaves[number], examples.names[number]
    if leaf.dtype.kind in "SUMmOc":
        raise TypeError(f"{here()}: normalise: {name or 'the array'} holds {leaf.dtype}, not real numbers")
    rows = max(1, _BLOCK // max(1, leaf.nbytes // len(leaf)))
    count = 0.0
    mean, squares, low, high = np.zeros(()), np.zeros(()), np.full((), np.inf), np.full((), -np.inf)
    for begin in range(0, len(leaf), rows):
        with np.errstate(all="ignore"):
            block = np.asarray(examples.leaf_rows(number, slice(begin, begin + rows)), np.float64)
        if not np.isfinite(block).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(block))[0])
            raise ValueError(
                f"{here()}: normalise: {name or 'the array'}[{begin + where[0]}{''.join(f', {i}' for i in where[1:])}] "
                f"is {block[where]}; leave such examples out, or fill what is missing, before statistics are taken"
            )
        low = np.minimum(low, block.min(axes, keepdims=True))
        high = np.maximum(high, block.max(axes, keepdims=True))
        many = block.size / low.size
        own = block.mean(axes, keepdims=True)
        away = own - mean
        with np.errstate(over="ignore"):
            off = ((block - own) ** 2).sum(axes, keepdims=True)
            squares = squares + off + away**2 * (count * many / (count + many))
        mean = mean + away * (many / (count + many))
        count += many
    dtype = leaf.dtype if leaf.dtype.kind == "f" else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        shift, scale = (mean, np.sqrt(squares / count)) if kind == "standard" else (low, high - low)
        scale = np.where((low == high) | (scale.astype(dtype) == 0), 1.0, scale)
        made = np.asarray(shift[0], dtype), np.asarray(scale[0], dtype)
    if not all(np.isfinite(part).all() for part in made):
        wider = "float32 or float64" if dtype.itemsize < 8 else "smaller units"
        raise ValueError(f"{here()}: normalise: {name or 'the array'} has a scale beyond {dtype}: give {wider}")
    return made


__all__ = ["Normalisation", "normalise"]
