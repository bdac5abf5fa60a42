"""gradc's namespaces in plain NumPy and Python: what the text of a program means when no line of gradc is involved.

Enters: names that programs use.  Leaves: `GRADC` and `NUMPY`, the two namespaces in which a program's text is run.
A name without a NumPy or SciPy counterpart (activations, layers, losses) is gradc's own, outside a trace: then the
value's only witnesses are the interpreter, compiled code and the derivatives.
Start reading at `NUMPY`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import scipy.linalg
import scipy.special

import gradc as gc
import gradc.numpy as gnp
from gradc import nn, special
from gradc.node import Node

Array = Any


class _Outside:
    """A namespace that gives NumPy's (or SciPy's) function of a name where there is one, else gradc's."""

    def __init__(self, own: Any, *others: Any, **known: Any):
        self._own, self._others, self._known = own, others, known

    def __getattr__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        for other in self._others:
            if hasattr(other, name):
                found = getattr(other, name)
                own = getattr(self._own, name, None)
                if other is scipy.special:
                    return _narrow(_in_double(found), own)
                return _narrow(found, own) if other is scipy.linalg else found
        return getattr(self._own, name)


def scan(f: Any, init: Any, xs: Any = None, length: Any = None, reverse: bool = False, unroll: Any = 1) -> Any:
    """`gradc.scan` as a Python loop over the first axis of one array, or a tuple of them."""
    carry, rows = init, []
    count = length if xs is None else len(xs[0] if isinstance(xs, tuple) else xs)
    places = range(count)
    for i in reversed(places) if reverse else places:
        x = None if xs is None else tuple(a[i] for a in xs) if isinstance(xs, tuple) else xs[i]
        carry, y = f(carry, x)
        rows.append(np.asarray(y))
    return carry, np.stack(rows[::-1] if reverse else rows)


def fori_loop(lower: int, upper: int, body: Any, init: Any) -> Any:
    """`gradc.fori_loop` as a Python loop."""
    value = init
    for i in range(lower, upper):
        value = body(np.int64(i), value)
    return value


def while_loop(cond: Any, body: Any, init: Any, max_steps: int | None = None) -> Any:
    """`gradc.while_loop` as a Python loop."""
    value, steps = init, 0
    while cond(value) and (max_steps is None or steps < max_steps):
        value, steps = body(value), steps + 1
    return value


def cond(pred: Any, true_fn: Any, false_fn: Any, *operands: Any) -> Any:
    """`gradc.cond` as an if."""
    return true_fn(*operands) if pred else false_fn(*operands)


def vmap(f: Any, in_axes: Any = 0, out_axes: int = 0) -> Callable[..., Any]:
    """`gradc.vmap` of a function with one result as a loop and a stack."""

    def mapped(*args: Any) -> Any:
        axes = (in_axes,) * len(args) if isinstance(in_axes, int) else in_axes
        size = next(np.shape(a)[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        rows = [f(*(a if axis is None else np.take(a, i, axis) for a, axis in zip(args, axes, strict=True)))
                for i in range(size)]  # fmt: skip
        return np.stack([np.asarray(r) for r in rows], out_axes)

    return mapped


class _Custom:
    """A function with a rule; its value is the function's."""

    def __init__(self, f: Any, jvp: Any = None, vjp: Any = None):
        self.f = f

    def __call__(self, *args: Any) -> Any:
        return self.f(*args)


_COMBINE: dict[str, Any] = {
    "set": lambda old, new: new, "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "max": np.maximum, "min": np.minimum, "power": np.power,
}  # fmt: skip


def updated(x: Array, index: Any, how: str, value: Any) -> Array:
    """``x.at[index].<how>(value)``, one position after another: each occurrence of a position counts.

    Not by `numpy.ufunc.at`: with several index arrays of one element it reads beyond its operands.
    """
    result = np.array(x)
    if how == "get":
        return result[index]
    places = np.arange(result.size).reshape(result.shape)[index]
    values = [None] * places.size if how == "apply" else np.broadcast_to(
        np.asarray(value).astype(result.dtype), places.shape).ravel()  # fmt: skip
    for place, new in zip(places.ravel(), values, strict=True):
        old = result.flat[place]
        result.flat[place] = np.asarray(value(old) if how == "apply" else _COMBINE[how](old, new)).astype(result.dtype)
    return result


def _stopped(x: Any) -> Any:
    return gc.stop_gradient(x) if isinstance(x, Node) else x


def astype(x: Any, dtype: Any, **options: Any) -> Any:
    """NumPy's cast, but for floats beyond the integers, where NumPy's answer is the platform's: those saturate."""
    a, kind = np.asarray(x), np.dtype(dtype)
    if kind.kind not in "iu" or a.dtype.kind in "iub":
        return a.astype(kind)
    info = np.iinfo(kind)
    wide = np.trunc(np.nan_to_num(a.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.where((wide < float(info.max)) & (wide > float(info.min)), wide, 0.0).astype(kind)
    return np.where(wide >= float(info.max), info.max, np.where(wide <= float(info.min), info.min, inside)).astype(kind)


def logsumexp(a: Any, axis: Any = None, *, b: Any = None, keepdims: bool = False) -> Any:
    """Its definition; SciPy's has results of one dimension for some of none."""
    m = np.max(a, axis=axis, keepdims=True, initial=-np.inf)
    total = np.sum((1 if b is None else b) * np.exp(a - m), axis=axis, keepdims=True)
    result = (m + np.log(total)).astype(np.asarray(a).dtype if np.asarray(a).dtype.kind == "f" else np.float64)
    return result if keepdims else np.squeeze(result, axis)


def bincount(x: Any, weights: Any = None, *, length: int) -> Any:
    """NumPy's counts, and none of what lies beyond ``length``."""
    return np.bincount(x, weights, minlength=length)[:length]


def argsort(a: Any, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> Any:
    """NumPy's stable permutation: its default is another one among equals on processors with AVX-512."""
    return np.argsort(a, axis=axis, kind="stable")


def argpartition(a: Any, kth: Any, axis: Any = -1, kind: Any = None) -> Any:
    """The positions that sort, stably: a partition, and the one of all that gradc promises."""
    return np.argsort(a, axis=axis, kind="stable")


def _sized(name: str, part: Any = None) -> Callable[..., Any]:
    """NumPy's function of that name (its result ``part``), cut or filled up to ``size``."""

    def computed(*args: Any, size: int, fill_value: Any = None) -> Any:
        found = getattr(np, name)(*args)
        values = np.asarray(found if part is None else found[part])[:size]
        least = found if part is None else found[0]
        fill = fill_value if fill_value is not None else least[0] if "1d" in name or (name == "unique" and size) else 0
        rest = np.full((size - len(values), *values.shape[1:]), fill, values.dtype)
        return np.concatenate([values, rest])

    return computed


SIZED = {name: _sized(name) for name in (
    "flatnonzero", "argwhere", "compress", "extract", "unique", "intersect1d", "union1d", "setdiff1d", "setxor1d",
)}  # fmt: skip


def i0(x: Any) -> Any:
    """Rounded from the exact value: NumPy's own is 4 units in the last place away."""
    a = np.asarray(x)
    values = np.array([float(mpmath.besseli(0, float(v))) if np.isfinite(v) else np.i0(float(v)) for v in a.ravel()])
    return values.reshape(a.shape).astype(a.dtype if a.dtype.kind == "f" or a.dtype.name == "bfloat16" else float)


def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> Any:
    """NumPy's, of a copy."""
    result = np.array(arr)
    np.put_along_axis(result, indices, values, axis)
    return result


def _in_double(f: Any) -> Any:
    """A function of SciPy's in float64, whatever floats it is given: some of its own in float32 are worse than they
    could be (`betainc` by 55 units in the last place)."""

    def wide(a: Any) -> Any:
        narrow = getattr(a, "dtype", None) in (np.float16, np.float32, gnp.bfloat16)
        return np.asarray(a, np.float64) if narrow else a

    return (lambda *args, **kwargs: f(*map(wide, args), **kwargs)) if isinstance(f, np.ufunc) else f


def _narrow(f: Any, own: Any) -> Any:
    """A function of SciPy in the dtype in which NumPy's own compute of such operands: SciPy widens some, and counts
    Python numbers among them.  An order that is static in gradc's ``own`` function is no operand.
    """
    parameters = inspect.signature(own).parameters.values() if callable(own) else ()
    static = {k for k, p in enumerate(parameters) if p.annotation == "int"}

    def computed(*args: Any, **kwargs: Any) -> Any:
        result = f(*args, **kwargs)
        kinds = [np.asarray(a).dtype for a in flat(args) if type(a) not in (bool, int, float)]
        kinds = [kind for kind in kinds if kind.kind in "fiub"]
        if not kinds or isinstance(result, Node):
            return result
        numbers = [type(a) for k, a in enumerate(args) if k not in static and type(a) in (int, float)]
        weak = {kind.kind for kind in kinds} <= set("biu" if float in numbers else "b")
        known = [np.sqrt(np.zeros((), kind)).dtype for kind in kinds]
        dtype = np.result_type(*known, *([np.float64] if numbers and weak else []))
        if isinstance(result, tuple):
            return tuple(x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in result)
        return np.asarray(result).astype(dtype)

    def flat(args: Any) -> Any:
        for a in args:  # beside a factorisation stand its pivots, which promote nothing
            yield from (p for p in a if np.asarray(p).dtype.kind == "f") if isinstance(a, tuple) else (a,)

    return computed


def _identity(f: Any, **options: Any) -> Any:
    return f


#: what programs see as ``gc`` when they run as plain NumPy; derivatives inside a program stay gradc's own
_PLAIN = SimpleNamespace(
    scan=scan, fori_loop=fori_loop, while_loop=while_loop, cond=cond, vmap=vmap, checkpoint=_identity, jit=_identity,
    stop_gradient=_stopped, custom_derivative=_Custom, grad=gc.grad, value_and_grad=gc.value_and_grad, jvp=gc.jvp,
    linalg=_Outside(gc.linalg, scipy.linalg), vjp=gc.vjp, hvp=gc.hvp, jacobian=gc.jacobian, hessian=gc.hessian,
    random=gc.random,
)  # fmt: skip

_windows = np.lib.stride_tricks.sliding_window_view
GRADC: dict[str, Any] = {"np": np, "gnp": gnp, "gc": gc, "nn": nn, "special": special}
NUMPY: dict[str, Any] = {
    "np": _Outside(np, np, astype=astype, i0=i0, argsort=argsort, argpartition=argpartition),
    "gnp": _Outside(
        gnp,
        np,
        logsumexp=logsumexp,
        astype=astype,
        sliding_window_view=_windows,
        argsort=argsort,
        argpartition=argpartition,
        bincount=bincount,
        i0=i0,
        put_along_axis=put_along_axis,
        **SIZED,
    ),
    "gc": _PLAIN,
    "nn": nn,
    "special": _Outside(
        special, scipy.special, logsumexp=logsumexp, i0=i0, comb=scipy.special.comb, perm=scipy.special.perm
    ),
    "updated": updated,
}


def flat_results(result: Any) -> list[Array]:
    """What a program returned as arrays."""
    results: Sequence[Any] = result if isinstance(result, (tuple, list)) else (result,)
    return [np.asarray(r) for r in results]
