"""Arrays from nothing, from numbers, and like other arrays; dtypes and their rules.

Enters: static shapes and numbers.  Leaves: NumPy arrays, which a trace takes in as constants; where a Node is among
the arguments, Nodes.  Invariant: no shape depends on a traced value.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy import broadcast_shapes, dtype, iinfo

from gradc.aval import BFLOAT16, FLOAT16, canonical_dtype, finfo, promoted
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, Node, as_node, here, static_int
from gradc.numpy.axes import axis_of, shape_of
from gradc.numpy.concrete import known
from gradc.numpy.public import Array, ArrayLike, function, is_traced, static
from gradc.numpy.shapes import broadcast_to, joined, moveaxis, reshaped
from gradc.ops.arguments import refuse_unless_harmless
from gradc.ops.elementwise import cast, unyielding
from gradc.ops.leaves import full as full_node
from gradc.ops.leaves import iota

__all__ = [
    "arange",
    "array",
    "asanyarray",
    "asarray",
    "ascontiguousarray",
    "astype",
    "bfloat16",
    "bool",
    "bool_",
    "broadcast_shapes",
    "can_cast",
    "dtype",
    "e",
    "empty",
    "empty_like",
    "euler_gamma",
    "eye",
    "finfo",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "full",
    "full_like",
    "identity",
    "iinfo",
    "indices",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "linspace",
    "logspace",
    "nan",
    "ndim",
    "newaxis",
    "ones",
    "ones_like",
    "pi",
    "promote_types",
    "result_type",
    "shape",
    "size",
    "tri",
    "tril_indices",
    "triu_indices",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "zeros",
    "zeros_like",
]  # fmt: skip

pi, e, inf, nan, euler_gamma, newaxis = np.pi, np.e, np.inf, np.nan, np.euler_gamma, None
bool = bool_ = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64, bfloat16 = np.float16, np.float32, np.float64, BFLOAT16.type

_REMEDY = "A shape must be known while tracing: add the argument to static=, or pass a Python number."
zeros, ones, empty = static(np.zeros, _REMEDY), static(np.ones, _REMEDY), static(np.empty, _REMEDY)
eye, identity, tri = static(np.eye, _REMEDY), static(np.identity, _REMEDY), static(np.tri, _REMEDY)
arange, indices = static(np.arange, _REMEDY), static(np.indices, _REMEDY)
tril_indices, triu_indices = static(np.tril_indices, _REMEDY), static(np.triu_indices, _REMEDY)


def _on_cpu(name: str, device: Any) -> None:
    """The array API's ``device=``: arrays are on the CPU."""
    refuse_unless_harmless(name, "device", device)


@function("full")
def full(shape: Any, fill_value: ArrayLike, dtype: Any = None, *, device: Any = None) -> Array:
    """An array of ``shape`` filled with ``fill_value``, which may be traced; dtype of the value unless given."""
    _on_cpu("full", device)
    value = as_node(fill_value)
    return broadcast_to(cast(value, dtype if dtype is not None else value.dtype), shape_of(shape))


# -- like another array -----------------------------------------------------------------------------------------------


@function("full_like")
def full_like(
    a: ArrayLike, fill_value: ArrayLike, dtype: Any = None, *, shape: Any = None, device: Any = None
) -> Array:
    """``fill_value`` in the shape and dtype of ``a``, unless others are given."""
    _on_cpu("full_like", device)
    x = as_node(a)
    target = x.shape if shape is None else shape_of(shape)
    return broadcast_to(cast(as_node(fill_value), x.dtype if dtype is None else dtype), target)


@function("zeros_like")
def zeros_like(a: ArrayLike, dtype: Any = None, *, shape: Any = None, device: Any = None) -> Array:
    """Zeros in the shape and dtype of ``a``, unless others are given."""
    _on_cpu("zeros_like", device)
    return _uniform_like(a, 0, dtype, shape)


@function("ones_like")
def ones_like(a: ArrayLike, dtype: Any = None, *, shape: Any = None, device: Any = None) -> Array:
    """Ones in the shape and dtype of ``a``, unless others are given."""
    _on_cpu("ones_like", device)
    return _uniform_like(a, 1, dtype, shape)


@function("empty_like")
def empty_like(prototype: ArrayLike, dtype: Any = None, *, shape: Any = None, device: Any = None) -> Array:
    """An array in the shape and dtype of ``prototype``, unless others are given; of zeros."""
    _on_cpu("empty_like", device)
    return _uniform_like(prototype, 0, dtype, shape)


def _uniform_like(a: ArrayLike, value: int, dtype: Any, shape: Any) -> Node:
    x = as_node(a)
    return full_node(
        x.shape if shape is None else shape_of(shape), value, x.dtype if dtype is None else canonical_dtype(dtype)
    )


# -- from values ------------------------------------------------------------------------------------------------------


@function("asarray", "asanyarray")
def _asarray(a: ArrayLike, dtype: Any = None, *, device: Any = None, copy: Any = None) -> Array:
    """``a`` as an array; nested lists may hold traced values, which are stacked.

    Outside a trace it is a new array, or with ``copy=False`` the memory of ``a``: ValueError where that cannot be.
    """
    _on_cpu("asarray", device)
    x = as_node(a)
    return cast(x, x.dtype if dtype is None else dtype)


@functools.wraps(_asarray)
def asarray(a: ArrayLike, dtype: Any = None, *, device: Any = None, copy: Any = None) -> Array:
    if copy is False and not is_traced([a]):
        _on_cpu("asarray", device)
        return known(np.asarray(a, dtype, copy=False))
    return _asarray(a, dtype, device=device, copy=copy)


asarray.__name__ = "asarray"
asanyarray = asarray


@function("from_dlpack")
def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> Array:
    """The array of another library that speaks DLPack; a traced value is one already."""
    _on_cpu("from_dlpack", device)
    return x if isinstance(x, Node) else as_node(np.from_dlpack(x, copy=copy))


@function("ascontiguousarray")
def ascontiguousarray(a: ArrayLike, dtype: Any = None) -> Array:
    """``a`` as an array of at least one axis: of NumPy's name only that is left where no array has an order."""
    x = as_node(a)
    x = cast(x, x.dtype if dtype is None else dtype)
    return x if x.ndim else reshaped(x, (1,))


@function("array")
def array(object: ArrayLike, dtype: Any = None, *, ndmin: int = 0) -> Array:
    """``object`` as an array with at least ``ndmin`` axes; nested lists may hold traced values."""
    x = as_node(object)
    x = cast(x, x.dtype if dtype is None else dtype)
    return reshaped(x, (1,) * (ndmin - x.ndim) + x.shape)


@function("astype")
def astype(x: ArrayLike, dtype: Any, *, copy: Any = True, device: Any = None) -> Array:
    """``x`` converted to ``dtype``; DTypeError for a dtype that gradc does not compute with."""
    _on_cpu("astype", device)
    return cast(unyielding(as_node(x)), dtype)


@function("linspace")
def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: Any = True,
    retstep: Any = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Array:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, along a new ``axis``; the ends may be traced.

    With ``retstep`` also the step.  ``endpoint`` says whether ``stop`` is the last number.
    """
    _on_cpu("linspace", device)
    count = static_int(num, "num")
    if count < 0:
        raise ShapeError(f"{here()}: linspace: num must be >= 0, got {count}")
    first, last = as_node(start) * 1.0, as_node(stop) * 1.0
    gaps = count - 1 if endpoint else count
    step = (last - first) / gaps if gaps > 0 else (last - first) * nan
    y = _ramp(first, last - first, step, count, gaps)
    if endpoint and count > 1:
        final = broadcast_to(cast(last, y.dtype), step.shape)
        y = joined([y[:-1], reshaped(final, (1, *step.shape))], 0)
    y = moveaxis(y, 0, axis_of(axis, y))
    if dtype is not None:
        y = cast(FUNCTIONS["floor"](y), dtype) if canonical_dtype(dtype).kind in "iu" else cast(y, dtype)
    return (y, step) if retstep else y


def _ramp(first: Node, delta: Node, step: Node, count: int, gaps: int) -> Node:
    """first + i·step, or first + (i/gaps)·delta where the step underflows to zero."""
    shape = (count, *step.shape)
    i = iota(shape, 0, step.dtype)
    if gaps <= 0:
        return i * delta + first
    if step.op.name == "constant":
        return (i * step if step.attrs["value"].all() else i / gaps * delta) + first
    return FUNCTIONS["where"](step == 0, i / gaps * delta, i * step) + first


@function("logspace")
def logspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: Any = True,
    base: ArrayLike = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Array:
    """``base`` to the power of `linspace`."""
    y = FUNCTIONS["power"](base, linspace(as_node(start), as_node(stop), num, endpoint, axis=axis))
    return y if dtype is None else cast(y, dtype)


# -- what is known of an array ----------------------------------------------------------------------------------------


@function("shape")
def shape(a: ArrayLike) -> tuple[int, ...]:
    """The extents of ``a``, a tuple of ints."""
    return as_node(a).shape


@function("ndim")
def ndim(a: ArrayLike) -> int:
    """The number of axes of ``a``."""
    return as_node(a).ndim


@function("size")
def size(a: ArrayLike, axis: Any = None) -> int:
    """The number of elements of ``a``, or its extent along ``axis``."""
    x = as_node(a)
    return x.size if axis is None else x.shape[axis_of(axis, x)]


@function("result_type")
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """NumPy's common dtype of arrays, dtypes and Python numbers; bfloat16 meets others as float16 does."""
    return promoted(*[_typed(a) for a in arrays_and_dtypes])


def promote_types(type1: Any, type2: Any) -> np.dtype[Any]:
    """The common dtype of two dtypes; bfloat16 meets others as float16 does, and float16 in float32."""
    return promoted(np.dtype(type1), np.dtype(type2))


@function("can_cast")
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> Any:
    """Whether NumPy's ``casting`` rule lets a dtype become another; neither narrow float holds the other."""
    source, target = np.dtype(from_.dtype if isinstance(from_, (np.generic, Node)) else from_), np.dtype(to)
    if {source, target} == {BFLOAT16, FLOAT16}:
        return casting in ("same_kind", "unsafe")
    return np.can_cast(source, target, casting)


def _typed(value: Any) -> Any:
    if not isinstance(value, Node):
        return value
    return value.dtype.type(0).item() if value.aval.weak else value.dtype


@function("isdtype")
def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether ``dtype`` is of a kind of the array API ("bool", "integral", "real floating", …) or a given dtype."""
    given = np.dtype(dtype)
    if given != BFLOAT16:
        return np.isdtype(given, kind)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(np.isdtype(FLOAT16, k) if isinstance(k, str) else np.dtype(k) == given for k in kinds)


for _name, _answer in (("iscomplexobj", False), ("isrealobj", True)):
    FUNCTIONS[_name] = lambda x, answer=_answer: answer
