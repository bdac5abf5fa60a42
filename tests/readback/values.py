"""Values as a reader of matrix notation knows them: numbers, columns, rows, matrices, and arrays seen by an index.

Invariant: the first axes of ``array`` are those of ``labels``, the indices i, j, … that are open; the others are the
value's own.  A vector is a column unless it is a ``row``.  An axis in ``free`` is as long as its neighbours want it:
that of 𝟏.  ``unit`` is a multiple of I that is added; its size is that of its neighbours, too.
A sum over an axis of a matrix leaves a ``ghost`` of it: beside another matrix the sum lies where it was taken, anywhere
else it is a column.  ``pending`` are the places of ones whose number of classes the neighbours say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.readback.signs import UnreadError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Value:
    """See the module."""

    array: Array
    labels: tuple[str, ...] = ()
    row: bool = False
    free: frozenset[int] = frozenset()
    unit: Any = None
    ghost: frozenset[int] = frozenset()
    pending: Any = None

    @property
    def own(self) -> tuple[int, ...]:
        """The sizes of its own axes."""
        return self.array.shape[len(self.labels) :]

    @property
    def ndim(self) -> int:
        return len(self.own)

    @property
    def is_scalar(self) -> bool:
        return self.ndim == 0 and self.unit is None


def value(x: Any) -> Value:
    return Value(np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "i" else np.asarray(x))


ONES = Value(np.ones(1), free=frozenset((0,)))
UNIT = Value(np.zeros((1, 1)), free=frozenset((0, 1)), unit=1.0)


def labelled(*values: Value) -> tuple[tuple[str, ...], list[Array]]:
    """All labels, and the arrays with an axis for each of them in front."""
    labels = tuple(sorted({k for v in values for k in v.labels}))
    arrays = []
    for v in values:
        order = [v.labels.index(k) for k in labels if k in v.labels]
        array = v.array.transpose(*order, *range(len(v.labels), v.array.ndim))
        shape = [v.array.shape[v.labels.index(k)] if k in v.labels else 1 for k in labels]
        arrays.append(array.reshape((*shape, *v.own)))
    return labels, arrays


def grown(labels: int, array: Array, own: int) -> Array:
    """With axes of length 1 in front of its own, up to ``own``."""
    missing = own - (array.ndim - labels)
    return array.reshape((*array.shape[:labels], *(1,) * missing, *array.shape[labels:]))


def elementwise(f: Callable[..., Array], *values: Value) -> Value:
    """``f`` of elements in the same place, arrays of fewer axes beside the last axes of the others."""
    values = haunted(values)
    if any(v.unit is not None for v in values):
        values = tuple(sized(v, values) for v in values)
    rows = {v.row for v in values if v.ndim == 1 and not v.free}
    if len(rows) == 2:
        raise UnreadError("a row beside a column")
    most = max(v.ndim for v in values)
    labels, arrays = labelled(*values)
    arrays = [grown(len(labels), a, most) for a in arrays]
    free = set(range(most))
    for v in values:
        free &= {a + most - v.ndim for a in v.free} | set(range(most - v.ndim))
    sizes: dict[int, int] = {}
    for v in values:
        for a, n in enumerate(v.own, most - v.ndim):
            if n != 1 and sizes.setdefault(a, n) != n:
                raise UnreadError(f"arrays of {' and '.join(str(v.own) for v in values)} element by element")
    with np.errstate(all="ignore"):
        ghosts = {v.ghost for v in values if not v.is_scalar}
        ghost = ghosts.pop() if len(ghosts) == 1 else frozenset()
        return Value(f(*arrays), labels, most == 1 and any(v.row for v in values), frozenset(free), ghost=ghost)


def haunted(values: Sequence[Value]) -> tuple[Value, ...]:
    """Values of which sums are columns or not, as their neighbours say; and the places of ones, as arrays."""
    arrays = [v for v in values if not v.is_scalar and not v.ghost and v.pending is None]
    sizes = {v.own[-1] for v in arrays if v.ndim > 1}
    if any(v.pending is not None for v in values):
        if len(sizes) != 1:
            raise UnreadError("onehot of how many classes")
        (size,) = sizes
        values = [classes(v, size) for v in values]
    ghosts = {(v.ghost, v.ndim) for v in values if v.ghost}
    if not ghosts or any(v.ndim > 1 for v in arrays) or (not arrays and len(ghosts) == 1):
        return tuple(values)
    return tuple(map(dropped, values))


def dropped(v: Value) -> Value:
    """A sum as a column."""
    if not v.ghost:
        return v
    array = v.array.squeeze(tuple(a + len(v.labels) for a in v.ghost))
    return Value(array, v.labels)


def classes(v: Value, size: int) -> Value:
    """The places of ones as rows of ``size`` elements."""
    if v.pending is None:
        return v
    return replace(v, array=(v.pending[..., None] == np.arange(size)) * v.array, pending=None)


def sized(v: Value, beside: Sequence[Value]) -> Value:
    """``v`` with its multiple of I written out, where something beside it has a size."""
    sizes = set[int]()
    for other in beside:
        last = range(max(0, other.ndim - 2), other.ndim) if other.ndim > 1 else ()
        sizes |= {other.own[a] for a in last if a not in other.free}
    if v.unit is None:
        return v
    if len(sizes) != 1:
        raise UnreadError(f"I beside arrays of {[x.own for x in beside]}")
    return settled(v, sizes.pop())


def settled(v: Value, size: int) -> Value:
    """``v`` with its multiple of I written out as ``size`` rows."""
    if v.unit is None:
        return v
    eye = np.asarray(v.unit)[..., None, None] * np.eye(size)
    return replace(v, array=v.array + eye, free=frozenset(), unit=None)


def total(terms: Sequence[Value]) -> Value:
    """A sum; multiples of I are kept apart while nothing has a size."""
    if len(terms) > 1 and all(v.unit is None for v in terms):
        return elementwise(lambda *arrays: sum(arrays), *terms)
    result = terms[0]
    for term in terms[1:]:
        if result.unit is None and term.unit is None:
            result = elementwise(np.add, result, term)
            continue
        if result.is_scalar or term.is_scalar:
            raise UnreadError("a number beside I")
        bare = [replace(v, unit=None) for v in (result, term)]
        unit = sum(np.asarray(v.unit) for v in (result, term) if v.unit is not None)
        result = replace(elementwise(np.add, *bare), unit=unit)
        known = [n for a, n in enumerate(result.own) if a not in result.free]
        if known:
            if len(set(known)) != 1:
                raise UnreadError(f"I beside a matrix of {result.own}")
            result = settled(result, known[0])
    return result


def scaled(v: Value, by: Value) -> Value:
    """``by``, a number, times ``v``."""
    if by.ndim:
        raise UnreadError("no number")
    if v.pending is not None:
        return replace(v, array=v.array * by.array)
    if v.unit is None:
        result = elementwise(np.multiply, v, by)
        return replace(result, free=v.free, row=v.row, ghost=v.ghost)
    bare = scaled(replace(v, unit=None), by)
    return replace(bare, unit=np.asarray(v.unit) * by.array)


def transposed(v: Value) -> Value:
    if v.pending is not None:
        raise UnreadError("onehot of how many classes")
    v = dropped(v)
    if v.ndim == 0:
        return v
    if v.ndim == 1:
        return replace(v, row=not v.row)
    n = v.ndim
    turn = {n - 1: n - 2, n - 2: n - 1}
    return replace(v, array=v.array.swapaxes(-1, -2), free=frozenset(turn.get(a, a) for a in v.free))


def beside(left: Value, right: Value) -> Value:
    """The product of two factors that are written side by side: of numbers, or of matrices."""
    if left.pending is not None and right.ndim > 1:
        left = classes(left, right.own[-2])
    if left.pending is not None or right.pending is not None:
        raise UnreadError("onehot of how many classes")
    if left.is_scalar:
        return scaled(right, left)
    if right.is_scalar:
        return scaled(left, right)
    left, right = dropped(left), dropped(right)
    if left.unit is not None or right.unit is not None:
        return _with_unit(left, right)
    if left.ndim == 1 and right.ndim == 1:
        if left.row == right.row:
            raise UnreadError(f"two {'rows' if left.row else 'columns'} side by side")
        if left.row:
            return _contracted(left, right)
        result = elementwise(np.multiply, _as_matrix(left), _as_matrix(right))
        return result
    if left.ndim == 1 and not left.row and right.own[-2] != 1:
        raise UnreadError(f"a column of {left.own} times a matrix of {right.own}")
    if right.ndim == 1 and right.row and left.own[-1] != 1:
        raise UnreadError(f"a matrix of {left.own} times a row of {right.own}")
    outer = (left.ndim == 1 and not left.row) or (right.ndim == 1 and right.row)
    if outer:
        return elementwise(np.multiply, _as_matrix(left), _as_matrix(right))
    return _contracted(left, right)


def _as_matrix(v: Value) -> Value:
    if v.ndim != 1:
        return v
    array = v.array[..., None, :] if v.row else v.array[..., None]
    lying, across = (1, 0) if v.row else (0, 1)
    return Value(array, v.labels, free=frozenset({across, lying} if v.free else {across}))


def _with_unit(left: Value, right: Value) -> Value:
    """(A + aI)B = AB + aB."""
    if left.unit is not None and right.unit is not None:
        raise UnreadError("a product of multiples of I whose size nothing says")
    if left.unit is not None:
        if right.ndim == 0 or (right.ndim == 1 and right.row):
            raise UnreadError("I times a row")
        multiple = scaled(right, value(left.unit))
        bare = replace(left, unit=None)
        return multiple if not np.any(bare.array) else total([beside(bare, right), multiple])
    multiple = scaled(left, value(right.unit))
    bare = replace(right, unit=None)
    return multiple if not np.any(bare.array) else total([beside(left, bare), multiple])


def _contracted(left: Value, right: Value) -> Value:
    labels, (a, b) = labelled(left, right)
    l_axis = left.ndim - 1
    r_axis = right.ndim - 2 if right.ndim > 1 else 0
    n, m = left.own[l_axis], right.own[r_axis]
    k = len(labels)
    if l_axis in left.free and r_axis in right.free:
        raise UnreadError("𝟏ᵀ𝟏, whose size nothing says")
    if l_axis in left.free:
        a = np.repeat(a, m, axis=-1)
    elif r_axis in right.free:
        b = np.repeat(b, n, axis=k + r_axis)
    elif n != m:
        raise UnreadError(f"a product of {left.own} and {right.own}")
    if left.ndim == 1:
        a = a[..., None, :]
    if right.ndim == 1:
        b = b[..., None]
    most = max(a.ndim, b.ndim) - k
    with np.errstate(all="ignore"):
        result = np.matmul(grown(k, a, most), grown(k, b, most))
    free = set()
    if left.ndim > 1 and left.ndim - 2 in left.free:
        free.add(most - 2)
    if right.ndim > 1 and right.ndim - 1 in right.free:
        free.add(most - 1)
    if right.ndim == 1:
        result = result[..., 0]
    if left.ndim == 1:
        result = result[..., 0] if right.ndim == 1 else result[..., 0, :]
        free = {0} if free else set()
    return Value(result, labels, row=left.ndim == 1 and right.ndim > 1, free=frozenset(free))


def reduced(f: Callable[..., Array], v: Value, letters: Sequence[str]) -> Value:
    """``f`` (a sum or mean) over open indices, over the axes that i, j, … name, or over all."""
    if v.unit is not None or v.free:
        raise UnreadError("a sum over an axis whose size nothing says")
    array, labels = v.array, list(v.labels)
    if not letters:
        axes = tuple(range(len(labels), array.ndim))
        if not axes:
            raise UnreadError("a sum over nothing")
        return Value(f(array, axis=axes), v.labels)
    open_ = [k for k in letters if k in labels]
    if open_ and len(open_) < len(letters):
        raise UnreadError(f"a sum over {letters}, of which {open_} are open")
    if open_:
        axes = tuple(labels.index(k) for k in open_)
        return Value(f(array, axis=axes), tuple(k for k in labels if k not in open_), v.row)
    places = ["ijklmrstuvab".index(k) for k in letters]
    if v.ndim < 2 or max(places) >= v.ndim:
        raise UnreadError(f"a sum over {letters} of an array of {v.own}")
    axes = tuple(len(labels) + p for p in places)
    return Value(f(array, axis=axes, keepdims=True), v.labels, ghost=frozenset(places))
