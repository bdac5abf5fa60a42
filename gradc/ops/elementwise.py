"""The elementwise kind: y[i] = f(x[i], …), with NumPy's promotion and broadcasting made explicit.

Enters: one `elementwise(...)` block per op.  Leaves: an `Op` and the promoting function of the same name.
Invariant: in the graph all operands of an elementwise node have the result's shape and the dtypes of one NumPy loop;
`apply` inserts the casts and broadcasts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gradc.aval import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    NARROW,
    Aval,
    Shape,
    broadcast_shapes,
    canonical_dtype,
    converted,
    interned,
)
from gradc.errors import DTypeError, PromotionWarning, ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here
from gradc.ops.arguments import refuse_unless_harmless
from gradc.ops.consistent import one_for_each, refuse_dtypes, same_shape
from gradc.ops.record import Kind, Op, Sample, register
from gradc.places import warn_user

#: op name -> ufunc whose `resolve_dtypes` decides the loop's dtypes
_PROMOTION: dict[str, np.ufunc] = {}


def elementwise(
    name: str,
    numpy: Callable[..., Any] | None = None,
    *,
    like: np.ufunc | None = None,
    public: bool | str = True,
    **facets: Any,
) -> Op:
    """Declare an elementwise op.

    ``numpy`` defaults to the NumPy function of the same name, ``sympy`` to SymPy's, ``lower`` to the builder's method.
    Dtypes follow ``numpy`` if it is a ufunc, else the ufunc ``like`` (default: that of `np.sqrt`, or of `np.add` for
    two operands made inexact).  A function of NumPy's is ``public`` under its name; another one says where users find
    it ("special.softsign"), or False: it is a part of other ops.
    """
    reference = numpy or getattr(np, name)
    _PROMOTION[name] = reference if isinstance(reference, np.ufunc) else like or np.sqrt
    facets.setdefault("lower", lambda b, *values: getattr(b, name)(*values))
    if "sympy" not in facets:
        facets["sympy"] = lambda S, *xs: getattr(S, name)(*xs)
    home = public if isinstance(public, str) else ""
    infer = _infer(name, _operand_count(reference, facets.get("samples", ())))
    op = register(
        Op(name=name, kind=Kind.ELEMENTWISE, infer=infer, numpy=reference, batch=batch, public=home, **facets),
    )
    if public:
        FUNCTIONS.setdefault(name, _function(op))
    return op


def promotes(op: Op) -> bool:
    """Whether operands of different dtypes meet in one of NumPy's loops, as `apply` makes them."""
    return op.name in _PROMOTION


def _operand_count(reference: Callable[..., Any], samples: Sequence[Sample]) -> int:
    """How many of the parameters of an op's reference are operands: those that are no attributes."""
    if isinstance(reference, np.ufunc):
        return reference.nin
    needed = {name for name, p in inspect.signature(reference).parameters.items() if p.default is p.empty}
    return len(needed - (samples[0].attrs.keys() if samples else set()))


def _infer(name: str, operands: int) -> Callable[..., Aval]:
    def infer(*avals: Aval, **attrs: Any) -> Aval:
        one_for_each("operands", avals, operands)
        same_shape(avals)
        *taken, result = loop_dtypes(name, avals)
        for x, dtype in zip(avals, taken, strict=True):
            if x.dtype != dtype and not x.weak:
                refuse_dtypes(f"NumPy computes it of {', '.join(map(str, taken))}")
        return Aval(avals[0].shape, result, result.kind != "b" and all(a.weak for a in avals))

    return infer


def _function(op: Op) -> Callable[..., Node]:
    def function(*operands: Any, dtype: Any = None, casting: Any = "same_kind", **kwargs: Any) -> Node:
        for key, value in kwargs.items():
            refuse_unless_harmless(op.name, key, value, ("casting", "dtype"))
        if dtype is not None or not (isinstance(casting, str) and casting == "same_kind"):
            operands = _in_loop(op.name, [as_node(x) for x in operands], dtype, casting)
        return apply(op, *operands)

    function.__name__ = op.name
    function.__doc__ = op.doc or f"Elementwise {op.name}, with NumPy's promotion and broadcasting."
    return function


def _in_loop(name: str, operands: Sequence[Node], dtype: Any, casting: Any) -> tuple[Node, ...]:
    """``operands`` in the dtypes of the loop whose result has ``dtype`` (None: any), as far as ``casting`` allows."""
    ufunc, target = _PROMOTION[name], None if dtype is None else canonical_dtype(dtype)
    narrow = BFLOAT16 in (target, *(x.dtype for x in operands))
    if narrow or ufunc.nin != len(operands):  # NumPy has no such loop: it is gradc's own
        return tuple(cast(x, target) for x in operands) if target is not None else tuple(operands)
    given = [_weak_type(x.aval) if x.aval.weak else x.dtype for x in operands]
    try:
        taken = ufunc.resolve_dtypes(
            (*given, *[None] * ufunc.nout), signature=(*[None] * ufunc.nin, target), casting=casting
        )  # fmt: skip
    except (TypeError, ValueError, DTypeError) as error:
        shown = ", ".join(str(x.aval) for x in operands)
        raise DTypeError(
            f"{here()}: {name}({shown}) with dtype={target}, casting={casting!r}: {error}; cast operands with .astype"
        ) from None
    if target is None:
        return tuple(operands)
    return tuple(cast(x, d) for x, d in zip(operands, taken, strict=False))


def apply(op: Op, *operands: Any, **attrs: Any) -> Node:
    """Build the node, after casting and broadcasting the operands as NumPy would."""
    args = [x if type(x) is Node else as_node(x) for x in operands]
    avals = [a.aval for a in args]
    *taken, dtype = loop_dtypes(op.name, avals)
    _warn_of_widening(op.name, args, taken)
    # Asked before the casts: what is computed of Python numbers alone is one; but there is no weak bool.
    weak = dtype.kind != "b" and all(a.weak for a in avals)
    args = [
        a if aval.dtype is d and not aval.weak else cast(a, d) for a, aval, d in zip(args, avals, taken, strict=True)
    ]
    shape = common_shape(op.name, args)
    args = [a if a.aval.shape == shape else broadcast_to(a, shape) for a in args]
    return Node(op, tuple(args), attrs, interned(shape, dtype, weak))


def loop_dtypes(name: str, avals: Sequence[Aval]) -> tuple[np.dtype[Any], ...]:
    """Dtypes of the NumPy loop for these operands: one per operand, then the result's."""
    given = tuple([_weak_type(a) if a.weak else a.dtype for a in avals])
    try:
        return _resolved(_PROMOTION[name], given)
    except TypeError:
        shown = ", ".join(str(a) for a in avals)
        raise DTypeError(f"{here()}: {name} is not defined for ({shown}); cast an operand with .astype") from None
    except DTypeError as error:
        shown = ", ".join(str(a) for a in avals)
        raise DTypeError(
            f"{here()}: NumPy computes {name}({shown}) in {error}, which is not supported; cast to float32 or float64"
        ) from None


@cache
def _resolved(ufunc: np.ufunc, given: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    """The dtypes of the loop for these operands (a type stands for a Python number); NumPy takes long to answer.

    bfloat16 has the loops of float16; where both are given, those of float32.  Raises TypeError where there is no loop,
    DTypeError with the name of a result's dtype that is not supported.
    """
    narrow = {d for d in given if d in NARROW}
    if BFLOAT16 in narrow:
        meant = FLOAT32 if len(narrow) > 1 else FLOAT16
        given = tuple(meant if d in NARROW else d for d in given)
    if all(isinstance(d, type) for d in given):  # only Python scalars: their default dtypes
        given = tuple(map(np.dtype, given))
    if ufunc.nin == 1 and len(given) > 1:  # a unary rule serves an n-ary op: promote first
        joint = np.result_type(*[_scalar_of(d) for d in given])
        resolved = (ufunc.resolve_dtypes((joint, None))[-1],) * (len(given) + 1)
    else:
        resolved = ufunc.resolve_dtypes((*given, *[None] * ufunc.nout))
    if narrow == {BFLOAT16}:
        resolved = tuple(BFLOAT16 if d == FLOAT16 else d for d in resolved)
    try:
        return tuple(map(canonical_dtype, resolved))
    except DTypeError:
        raise DTypeError(str(resolved[-1])) from None


def _weak_type(aval: Aval) -> type:
    return float if aval.is_float else int


def _scalar_of(dtype: Any) -> Any:
    return dtype(0) if isinstance(dtype, type) else dtype


_WIDE = np.dtype(np.float64)


def _warn_of_widening(name: str, args: Sequence[Node], taken: Sequence[np.dtype[Any]]) -> None:
    """A float64 constant that turns a narrower computation into float64 is nearly always an accident: say where."""
    if taken[0] != _WIDE:
        return
    narrow = [a for a in args if a.aval.is_float and a.aval.dtype != _WIDE]
    wide = [a for a in args if a.aval.dtype == _WIDE and not a.aval.weak]
    if narrow and wide and all(a.op.kind is Kind.CONSTANT for a in wide):
        text = (
            f"{here()}: {name} of {describe(narrow[0])} with a float64 constant gives float64. "
            f"Use a Python number (float(c)) or c.astype('{narrow[0].dtype}') to stay in {narrow[0].dtype}."
        )
        warn_user(text, PromotionWarning)


def common_shape(name: str, args: Sequence[Node]) -> Shape:
    """The broadcast shape of the operands, or a ShapeError that shows them all."""
    try:
        return broadcast_shapes([a.shape for a in args])
    except ValueError:
        shapes = " and ".join(str(a.shape) for a in args)
        made = "; ".join(describe(a) for a in args)
        raise ShapeError(
            f"{here()}: {name}: shapes {shapes} do not broadcast: "
            "every axis, counted from the right, must be equal or 1.\n"
            f"  operands: {made}"
        ) from None


def cast(node: Node, dtype: Any) -> Node:
    """``node`` as ``dtype``; a scalar constant is converted on the spot."""
    aval = node.aval
    target = canonical_dtype(dtype)
    if aval.dtype == target:
        return node if not aval.weak else _strong(node)
    if node.op.kind is Kind.CONSTANT and aval.weak and aval.shape == ():
        with np.errstate(all="ignore"):
            return constant(_python_scalar(node.attrs["value"].item(), target))
    return Node(OPS["cast"], (node,), {"dtype": target}, interned(aval.shape, target, False))


def _python_scalar(value: int | float, target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A Python number in the dtype of its partner; NumPy's error for an integer that does not fit."""
    if target.kind not in "iu" or isinstance(value, float):
        return converted(value, target)
    try:
        return np.array(value, target)
    except OverflowError as error:
        raise DTypeError(f"{here()}: {error}; cast the array to a wider dtype") from None


def _strong(node: Node) -> Node:
    """A number that does not yield its dtype; what is computed from numbers stays as it is."""
    if node.op.kind is Kind.CONSTANT:
        return Node(node.op, (), node.attrs, interned(node.aval.shape, node.aval.dtype, False))
    return node


def unyielding(node: Node) -> Node:
    """``node`` as an array of its own dtype: a number, traced or not, whose dtype yields to no partner from here on."""
    if node.aval.weak and node.op.kind is not Kind.CONSTANT:
        return Node(OPS["cast"], (node,), {"dtype": node.dtype}, interned(node.shape, node.dtype, False))
    return _strong(node)


def broadcast_to(node: Node, shape: Shape) -> Node:
    """``node`` repeated along new or length-1 axes, aligned from the right."""
    if node.shape == shape:
        return node
    lead = len(shape) - node.ndim
    return OPS["broadcast"].make((node,), shape=tuple(shape), axes=tuple(range(lead, len(shape))))


def batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    """Batching rule of the kind: give unbatched operands the new axis by broadcasting."""
    full = [
        a if has else OPS["broadcast"].make((a,), shape=(size, *a.shape), axes=tuple(range(1, a.ndim + 1)))
        for a, has in zip(args, batched, strict=True)
    ]
    same_shape([a.aval for a in full])
    return Node(node.op, tuple(full), node.attrs, Aval((size, *node.shape), node.dtype, node.aval.weak))
