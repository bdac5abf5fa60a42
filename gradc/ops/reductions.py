"""The reduce and prefix kinds: axes combined away by one operation, and running versions along one axis.

Attributes: ``axes``, sorted and non-negative, vanish from the shape (no keepdims in the graph).  A prefix op has one
``axis`` and a direction.  Tie and singular conventions are in each record's ``singular``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape, computed_in
from gradc.graph import Graph
from gradc.node import FUNCTIONS, OPS, Node, dsl
from gradc.ops import definitions
from gradc.ops.consistent import axes_in, axis_in, must_be_float, one_for_each, refuse
from gradc.ops.control import inner_leaf, item
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full
from gradc.ops.products import times
from gradc.ops.ranges import INF, UNKNOWN, Hazard, Range, Zeros, bounded, declared, range_of
from gradc.ops.record import Kind, Op, Sample, register
from gradc.ops.rounding import finite_size, largest_error

Array = np.ndarray[Any, Any]

REDUCE_SAMPLES = (
    Sample(((4,),), {"axes": (0,)}),
    Sample(((2, 3),), {"axes": (1,)}),
    Sample(((2, 3, 2),), {"axes": (0, 2)}),
    Sample(((3, 2),), {"axes": ()}),
)
EMPTY = (Sample(((0, 2),), {"axes": (0,)}), Sample(((0,),), {"axes": (0,)}))


def kept_shape(shape: Shape, axes: Shape) -> Shape:
    """The shape without ``axes``."""
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def _terms(node: Node) -> int:
    """How many elements each result is made of."""
    return math.prod(node.args[0].shape[a] for a in node.attrs["axes"])


def _long_product(node: Node, x: Range) -> Range:
    return bounded(0.0 if x.lo >= 0 else -INF, INF, max(x.hazard, Hazard.GROWTH), x.zeros)


def restore(node: Node, shape: Shape, axes: Shape) -> Node:
    """A reduced value shown again along the axes it was reduced over."""
    kept = tuple(a for a in range(len(shape)) if a not in axes)
    return OPS["broadcast"].make((node,), shape=shape, axes=kept)


def reduction(
    name: str,
    *,
    dtype: Any = None,
    check: Callable[[Aval, Shape], None] = lambda x, axes: None,
    samples: tuple[Sample, ...] = REDUCE_SAMPLES,
    **facets: Any,
) -> Op:
    """Declare a reduction; ``dtype`` is the result's if it is not the operand's, ``check`` what else its rule asks."""

    def infer(x: Aval, axes: Shape, **attrs: Any) -> Aval:
        axes_in(axes, x.ndim)
        check(x, axes)
        return Aval(kept_shape(x.shape, axes), np.dtype(dtype) if dtype else x.dtype)

    def batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
        attrs = {**node.attrs, "axes": tuple(a + 1 for a in node.attrs["axes"])}
        return node.op.make(args, **attrs)

    return register(Op(name=name, kind=Kind.REDUCE, infer=infer, batch=batch, samples=samples, **facets))


def _sum_range(node: Node, x: Range) -> Range:
    """A sum of zeros that were all left out by one guard is left out by it, too."""
    found = x.repeated_sum(_terms(node))
    if x.zeros is Zeros.GUARDED and _left_out_whole(node.args[0], node.attrs["axes"]):
        return replace(found, zeros=Zeros.GUARDED)
    return found


def _left_out_whole(x: Node, axes: Shape) -> bool:
    """Whether what a guard leaves out in ``x`` is left out all along ``axes``: its mask, or its result, is shown along
    them."""
    stack, seen = [(x, frozenset(axes))], {(x, frozenset(axes))}
    while stack:
        node, along = stack.pop()
        if not along:
            return True
        guarded = [a for a in node.args if range_of(a).zeros is Zeros.GUARDED]
        if node.op is OPS["broadcast"]:
            below = [(a, _still_along(node, along)) for a in guarded]
        elif node.op is OPS["where"]:
            if not _still_along(node.args[0], along):
                return True
            below = [(a, along) for a in guarded]
        elif node.op.kind is Kind.ELEMENTWISE and node.op.name in _KEEP_ZEROS:
            below = [(a, along) for a in guarded]
        else:
            continue
        stack += [pair for pair in below if pair not in seen]
        seen.update(below)
    return False


#: elementwise ops that are 0 where an operand is, up to infinities
_KEEP_ZEROS = ("multiply", "strong_multiply", "negative", "positive", "extended", "cast")


def _still_along(shown: Node, along: frozenset[int]) -> frozenset[int]:
    """The axes of what is shown that run along ``along``: none if ``shown`` repeats it there."""
    if shown.op is not OPS["broadcast"]:
        return along
    (inner,) = shown.args
    places = zip(shown.attrs["axes"], inner.shape, strict=True)
    return frozenset(k for k, (a, n) in enumerate(places) if a in along and n == shown.shape[a])


def _sum_sympy(S: Any, x: Array, axes: Shape) -> Array:
    return np.sum(x, axis=axes)  # object arrays of SymPy expressions


total = reduction(
    "sum",
    numpy=lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype),
    sympy=_sum_sympy,
    transpose=lambda ct, node, i: restore(ct, node.args[0].shape, node.attrs["axes"]),
    identity=0,
    combine=lambda b, x, y: b.add(x, y),
    range=_sum_range,
    samples=REDUCE_SAMPLES + EMPTY,
    doc="Sum over axes: blocks of fixed length, joined by a binary tree.",
)


# -- prod, max, min ----------------------------------------------------------------------------------------------------


def _prod_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """Σᵢ tᵢ Π_{j≠i} xⱼ with exclusive running products from both ends: right also where elements are zero."""
    (t,) = tangents
    if t is None:
        return None
    (x,), axes = node.args, node.attrs["axes"]
    return OPS["sum"].make((times(t, _products_of_others(x, axes)),), axes=axes)


def _products_of_others(x: Node, axes: Shape) -> Node:
    if not x.size:
        return x  # no element, so no product of others
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order = (*kept, *axes)
    flat = dsl.reshape(dsl.transpose(x, order), (*[x.shape[a] for a in kept], -1))
    ones = np.ones((*flat.shape[:-1], 1), x.dtype)
    last, product = flat.ndim - 1, OPS["strong_cumprod"]  # a zero among the others is a zero, whatever overflows
    before = product.make((dsl.concatenate([ones, flat[..., :-1]], axis=-1),), axis=last, reverse=False)
    after = product.make((dsl.concatenate([flat[..., 1:], ones], axis=-1),), axis=last, reverse=True)
    spread = dsl.reshape(apply(OPS["strong_multiply"], before, after), [x.shape[a] for a in order])
    return dsl.transpose(spread, np.argsort(order))


reduction(
    "prod",
    numpy=lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype),
    sympy=lambda S, x, axes: np.prod(x, axis=axes),
    jvp=_prod_jvp,
    definition=definitions.prod,
    identity=1,
    combine=lambda b, x, y: b.mul(x, y),
    range=_long_product,
    samples=REDUCE_SAMPLES + EMPTY,
    singular="the product of the other elements, also at zeros",
)


#: How many elements attain an extremum; of NaN none does.
_AT_LEAST_ONE = Range(1.0, INF, Hazard.ARITHMETIC, Zeros.NEVER)


def _extremum_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """The mean of the tangents of the elements that attain the extremum; of narrow floats in float32."""
    (t,) = tangents
    if t is None:
        return None
    (x,), axes = node.args, node.attrs["axes"]
    attained = x == restore(node, x.shape, axes)
    wide = computed_in(x.dtype)
    count = declared(OPS["sum"].make((cast(attained, wide),), axes=axes), _AT_LEAST_ONE)
    chosen = cast(dsl.where(attained, t, 0), wide)
    return cast(OPS["sum"].make((chosen,), axes=axes) / count, x.dtype)


def _extremum(name: str, better: str) -> None:
    def sympy(S: Any, x: Array, axes: Shape) -> Array:
        """Piecewise over the flattened axes, with ties sharing the derivative evenly."""
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        flat = x.transpose(*kept, *axes).reshape([x.shape[a] for a in kept] + [-1])
        return np.apply_along_axis(lambda row: _even(S, list(row), better), -1, flat)

    reduction(
        name,
        numpy=lambda x, axes: getattr(np, name)(x, axis=axes),
        sympy=sympy,
        jvp=_extremum_jvp,
        definition=definitions.extremum,
        keeps="gt" if better == "Max" else "lt",
        moved=largest_error,
        side=lambda value, x, axes: x == np.expand_dims(value, axes),
        range=lambda node, x: x,
        upper_bound=name == "max",
        exact=True,
        singular="elements that tie share the derivative evenly",
    )


def _even(S: Any, row: list[Any], better: str) -> Any:
    choose = S.Max if better == "Max" else S.Min
    top = choose(*row)
    return choose(*row) if len(row) == 1 else S.Piecewise(*[(v, S.Eq(v, top)) for v in row[:-1]], (row[-1], True))


_extremum("max", "Max")
_extremum("min", "Min")

# -- logic and positions -----------------------------------------------------------------------------------------------
_TRUTH: dict[str, Any] = {"dtype": bool, "constant": True, "samples": REDUCE_SAMPLES + EMPTY}
reduction(
    "any",
    numpy=lambda x, axes: np.any(x, axis=axes),
    identity=False,
    combine=lambda b, x, y: b.or_(x, y),
    **_TRUTH,
)
reduction(
    "all",
    numpy=lambda x, axes: np.all(x, axis=axes),
    identity=True,
    combine=lambda b, x, y: b.and_(x, y),
    **_TRUTH,
)


def _position(function: Callable[..., Any]) -> Callable[[Array, Shape], Any]:
    def evaluate(x: Array, axes: Shape) -> Any:
        (axis,) = axes
        return function(x, axis=axis)

    return evaluate


def _has_positions(x: Aval, axes: Shape) -> None:
    one_for_each("axes", axes, 1)
    if not x.shape[axes[0]] and 0 not in kept_shape(x.shape, axes):
        refuse("an axis without elements has no positions")


_POSITION_SAMPLES = (
    Sample(((4,),), {"axes": (0,)}),
    Sample(((2, 3),), {"axes": (1,)}),
    Sample(((3, 2),), {"axes": (0,)}),
)
reduction(
    "argmax",
    numpy=_position(np.argmax),
    keeps="gt",
    position=True,
    dtype=np.int64,
    check=_has_positions,
    constant=True,
    samples=_POSITION_SAMPLES,
    doc="First position of the maximum.",
)
reduction(
    "argmin",
    numpy=_position(np.argmin),
    keeps="lt",
    position=True,
    dtype=np.int64,
    check=_has_positions,
    constant=True,
    samples=_POSITION_SAMPLES,
    doc="First position of the minimum.",
)

# -- norm and logsumexp: stable values, declared derivatives -----------------------------------------------------------


#: by dtype: a power of two that brings the largest and the smallest numbers to where squares are normal and sums
#: finite, and the squares beyond which a number counts as large, and its inverse as small
_NORM_SCALES = {"float64": (2.0**600, 2.0**600), "float32": (2.0**90, 2.0**80)}


def _is_normal(total: Any) -> Any:
    """Whether a sum of squares is as accurate as its terms are."""
    normal = np.finfo(total.dtype)
    return (total >= float(normal.tiny / normal.eps)) & (total < math.inf)


def _scaled_norm(sum_of: Callable[[Any], Any], x: Any, functions: Any) -> Any:
    """√Σx², from a sum of large or of small numbers that are scaled where that sum is not normal (Blue 1978).

    A NaN stays one.
    """
    where, root = functions.where, functions.sqrt
    scale, far = _NORM_SCALES[str(x.dtype)]
    square = x * x
    large, small = (
        sum_of(functions.square(where(mask, x * factor, 0)))
        for mask, factor in ((square > far, 1 / scale), (square < 1 / far, scale))
    )
    plain = sum_of(square)
    rest = where(plain < 1, root(small) * (1 / scale), where(plain >= 1, root(large) * scale, plain))
    return where(_is_normal(plain), root(plain), rest)


def _norm_numpy(x: Array, axes: Shape) -> Any:
    if x.dtype == object:
        return np.sqrt(np.sum(x * x, axis=axes))
    return np.asarray(_scaled_norm(lambda v: np.sum(v, axis=axes, dtype=x.dtype), x, np), x.dtype)


def _norm_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (t,) = tangents
    if t is None:
        return None
    (x,), axes = node.args, node.attrs["axes"]
    radius = restore(node, x.shape, axes)
    direction = dsl.where(radius == 0, 0, x / dsl.where(radius == 0, 1, radius))
    return OPS["sum"].make((t * direction,), axes=axes)


def _norm_expand(x: Node, axes: Shape) -> Node:
    """One sum of squares; only where one leaves the normal numbers it is done again with care."""

    def sum_of(v: Node) -> Node:
        return OPS["sum"].make((v,), axes=axes)

    wide = cast(x, computed_in(x.dtype))
    plain = sum_of(wide * wide)
    fine = OPS["all"].make((_is_normal(plain),), axes=tuple(range(plain.ndim)))
    one, two = ((inner_leaf(wide.aval, "x"), inner_leaf(plain.aval, "total")) for _ in range(2))
    branches = {"body": Graph(one, (dsl.sqrt(one[1]),)), "otherwise": Graph(two, (_scaled_norm(sum_of, two[0], dsl),))}
    return cast(item(OPS["cond"].make((fine, wide, plain), **branches), 0), x.dtype)


reduction(
    "norm",
    numpy=_norm_numpy,
    check=lambda x, axes: must_be_float(x),
    sympy=lambda S, x, axes: np.vectorize(S.sqrt, otypes=[object])(np.sum(x * x, axis=axes)),
    jvp=_norm_jvp,
    definition=definitions.norm,
    expand=_norm_expand,
    range=lambda node, x: bounded(x.size().lo, INF, max(x.hazard, Hazard.ARITHMETIC), x.zeros),
    singular="0 where the norm is 0",
    doc="Euclidean (Frobenius) norm over axes.",
)


def _logsumexp_numpy(x: Array, axes: Shape) -> Any:
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    lower = OPS["difference"].numpy(x, top)
    total = np.log(np.sum(np.exp(lower), axis=axes, dtype=x.dtype))
    return total + np.squeeze(top, axes)


def below_maximum(x: Node, axes: Shape) -> Node:
    """``x`` minus its maximum over ``axes``: what softmax and its kin are computed of, where it is NaN if that is ±∞.

    They do not depend on the maximum, so no derivative passes through it.
    """
    return x - _top(x, axes) if x.size else x


def below_finite_maximum(x: Node, axes: Shape) -> Node:
    """The same, and ``x`` itself where its maximum is not finite: its difference from logsumexp stays what it is."""
    return apply(OPS["shifted"], x, _top(x, axes)) if x.size else x


def _top(x: Node, axes: Shape) -> Node:
    return restore(FUNCTIONS["stop_gradient"](OPS["max"].make((x,), axes=axes)), x.shape, axes)


def is_below_maximum(x: Node, axes: Shape) -> bool:
    """Whether the maximum over ``axes`` is subtracted in ``x`` already, or it has no elements."""
    if x.op.name not in ("subtract", "difference", "shifted"):
        return not x.size
    top = x.args[1]
    while top.op.name in ("broadcast", "reshape", "stop_gradient"):
        top = top.args[0]
    return top.op.name == "max" and top.args[0] is x.args[0] and bool(top.attrs["axes"] == axes)


def _lowered(x: Node, axes: Shape) -> Node:
    """``x`` minus its maximum in the dtype in which it is computed; equal infinities differ by 0."""
    wide = cast(x, computed_in(x.dtype))
    return wide if is_below_maximum(x, axes) else OPS["difference"].make((wide, _top(wide, axes)))


def _logsumexp_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """The mean of the tangents by softmax weights; equal infinities share their weight."""
    (t,) = tangents
    if t is None:
        return None
    (x,), axes = node.args, node.attrs["axes"]
    lower = _lowered(x, axes)
    total = node if lower is x else OPS["logsumexp"].make((lower,), axes=axes)
    weight = cast(dsl.exp(lower - restore(total, x.shape, axes)), x.dtype)
    return OPS["sum"].make((t * weight,), axes=axes)


def _logsumexp_expand(x: Node, axes: Shape) -> Node:
    if 0 in (x.shape[a] for a in axes):
        return full(kept_shape(x.shape, axes), -np.inf, x.dtype)
    lower = _lowered(x, axes)
    total = dsl.log(OPS["sum"].make((dsl.exp(lower),), axes=axes))
    if not is_below_maximum(x, axes):
        total = total + OPS["max"].make((cast(x, total.dtype),), axes=axes)
    return cast(total, x.dtype)


reduction(
    "logsumexp",
    numpy=_logsumexp_numpy,
    check=lambda x, axes: must_be_float(x),
    sympy=lambda S, x, axes: np.vectorize(S.log, otypes=[object])(
        np.sum(np.vectorize(S.exp, otypes=[object])(x), axis=axes)
    ),
    jvp=_logsumexp_jvp,
    definition=definitions.logsumexp,
    expand=_logsumexp_expand,
    title="lse",
    range=lambda node, x: bounded(x.lo, x.hi + math.log(max(_terms(node), 1)), x.hazard) if _terms(node) else UNKNOWN,
    upper_bound=True,
    moved=largest_error,
    scale=lambda x, axes: 1 + np.max(finite_size(x), axis=axes, initial=0.0),
    singular="equal infinities share the derivative evenly",
    doc="log Σ exp x over axes, shifted by the maximum.",
)

# -- prefix ------------------------------------------------------------------------------------------------------------


def _prefix_infer(x: Aval, axis: int, reverse: bool) -> Aval:
    axis_in(axis, x.ndim)
    return Aval(x.shape, x.dtype)


def prefix(name: str, **facets: Any) -> Op:
    """Declare a running reduction with attributes ``axis`` and ``reverse``."""

    def batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
        return node.op.make(args, **{**node.attrs, "axis": node.attrs["axis"] + 1})

    samples = (
        Sample(((4,),), {"axis": 0, "reverse": False}),
        Sample(((2, 3),), {"axis": 1, "reverse": True}),
        Sample(((3, 2),), {"axis": 0, "reverse": False}),
        Sample(((0,),), {"axis": 0, "reverse": False}),
    )
    return register(
        Op(
            name=name,
            kind=Kind.PREFIX,
            infer=_prefix_infer,
            batch=batch,
            samples=samples,
            **facets,
        )
    )


def _running(function: Callable[..., Array]) -> Callable[..., Array]:
    def evaluate(x: Array, axis: int, reverse: bool) -> Array:
        dtype = None if x.dtype == object else x.dtype
        if not reverse:
            return function(x, axis=axis, dtype=dtype)
        return np.flip(function(np.flip(x, axis), axis=axis, dtype=dtype), axis)

    return evaluate


prefix(
    "cumsum",
    numpy=_running(np.cumsum),
    sympy=lambda S, x, axis, reverse: _running(np.cumsum)(x, axis, reverse),
    transpose=lambda ct, node, i: node.op.make((ct,), axis=node.attrs["axis"], reverse=not node.attrs["reverse"]),
    identity=-0.0,
    combine=lambda b, x, y: b.add(x, y),
    range=lambda node, x: replace(x.repeated_sum(node.args[0].shape[node.attrs["axis"]]), zeros=x.zeros),
    doc="Running sum along an axis, from the front or (reverse) from the back.",
)


def _cumprod_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """∂yₖ/∂xᵢ = Π_{j≤k, j≠i} xⱼ, for all pairs (k, i) at once: O(n²), right also where elements are zero."""
    (t,) = tangents
    if t is None:
        return None
    (x,), axis, reverse = node.args, node.attrs["axis"], node.attrs["reverse"]
    n, last = x.shape[axis], x.ndim
    rows = dsl.moveaxis(x, axis, -1)
    diagonal = np.eye(n, dtype=bool)
    without = dsl.where(diagonal, 1, rows[..., None, :])  # [..., i, j]: xⱼ with xᵢ replaced by 1
    products = OPS["strong_cumprod"].make((without,), axis=last, reverse=reverse)  # [..., i, k]
    reached = np.tril(np.ones((n, n), bool)) if reverse else np.triu(np.ones((n, n), bool))
    jacobian = dsl.where(reached, products, 0)
    shown = dsl.broadcast_to(dsl.moveaxis(t, axis, -1)[..., :, None], jacobian.shape)
    result = OPS["sum"].make((times(shown, jacobian),), axes=(last - 1,))
    return dsl.moveaxis(result, -1, axis)


prefix(
    "cumprod",
    numpy=_running(np.cumprod),
    sympy=lambda S, x, axis, reverse: _running(np.cumprod)(x, axis, reverse),
    jvp=_cumprod_jvp,
    definition=definitions.cumprod,
    identity=1,
    combine=lambda b, x, y: b.mul(x, y),
    range=_long_product,
    singular="the product of the other elements, also at zeros",
    doc="Running product along an axis.",
)


def _strong_cumprod(x: Array, axis: int, reverse: bool) -> Array:
    products = _running(np.cumprod)(x, axis, reverse)
    if x.dtype == object:
        return products
    return np.where(_running(np.cumsum)((x == 0).astype(np.int64), axis, reverse) > 0, x.dtype.type(0), products)


def _strong_cumprod_expand(x: Node, axis: int, reverse: bool) -> Node:
    zeros = OPS["cumsum"].make(((x == 0).astype(np.int64),), axis=axis, reverse=reverse)
    return dsl.where(zeros > 0, 0, OPS["cumprod"].make((x,), axis=axis, reverse=reverse))


prefix(
    "strong_cumprod",
    numpy=_strong_cumprod,
    sympy=lambda S, x, axis, reverse: _running(np.cumprod)(x, axis, reverse),
    jvp=_cumprod_jvp,
    definition=definitions.cumprod,
    range=_long_product,
    expand=_strong_cumprod_expand,
    singular="the product of the other elements, also at zeros",
    doc="Running strong product: 0 from the first zero on, also where a plain one would be 0·∞.",
)
