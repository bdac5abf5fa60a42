"""The contract kind: einsum of two operands, the one op behind every matrix product.

Attributes are three tuples of integer labels from 0 on, one label per axis: ``left``, ``right`` and ``out``.  No label
repeats within an operand and has but one extent, every output label occurs in an operand, and a label that is in an
operand but not in the output is summed.  `gradc.numpy.einsum` brings every einsum to this form (diagonals and more
operands are other nodes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.ops.consistent import one_for_each, refuse, same_dtype
from gradc.ops.control import inner_leaf, item
from gradc.ops.ranges import Hazard, Range, Zeros, bounded, is_safe_to_contract, range_of
from gradc.ops.record import Kind, Op, Sample, register

Labels = tuple[int, ...]


def label_sizes(x: Aval, y: Aval, left: Labels, right: Labels) -> dict[int, int]:
    """The extent of each label."""
    return dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))


def _infer(x: Aval, y: Aval, left: Labels, right: Labels, out: Labels) -> Aval:
    same_dtype((x, y))
    sizes: dict[int, int] = {}
    for aval, labels in ((x, left), (y, right)):
        one_for_each("labels", labels, aval.ndim)
        if len(set(labels)) < len(labels):
            refuse("an operand repeats a label")
        for k, n in zip(labels, aval.shape, strict=True):
            if sizes.setdefault(k, n) != n:
                refuse(f"label {k} has the extents {sizes[k]} and {n}")
    if len(set(out)) < len(out) or not sizes.keys() >= set(out) or min(sizes, default=0) < 0:
        refuse("the labels of the result are not each once among those of the operands")
    return Aval(tuple([sizes[k] for k in out]), x.dtype)


def _numpy(x: Any, y: Any, left: Labels, right: Labels, out: Labels) -> Any:
    labels = sorted({*left, *right})
    small = {k: i for i, k in enumerate(labels)}
    lists = [[small[k] for k in part] for part in (left, right, out)]
    if x.dtype == bool:
        return np.einsum(x.astype(np.int64), lists[0], y.astype(np.int64), lists[1], lists[2]) != 0
    # With `optimize` einsum reaches BLAS, which pays above a few thousand products.
    work = math.prod(label_sizes(x, y, left, right).values())
    return np.einsum(x, lists[0], y, lists[1], lists[2], optimize=work > 4096)


def contract(x: Node, left: Labels, y: Node, right: Labels, out: Labels) -> Node:
    """The contract node, after summing or repeating what einsum's transpose rules leave to views.

    A label of one operand only that is not in the output is summed beforehand; an output label in neither operand is
    not allowed here.
    """
    x, left = _sum_private(x, left, {*right, *out})
    y, right = _sum_private(y, right, {*left, *out})
    return OPS["contract"].make((x, y), left=left, right=right, out=out)


def guarded(node: Node) -> Node:
    """The contraction of a tangent and a factor: of strong products, if one may be infinite or NaN where the other is
    0."""
    x, y = map(range_of, node.args)
    return node if is_safe_to_contract(x, y) else OPS["strong_contract"].make(node.args, **node.attrs)


def _sum_private(x: Node, labels: Labels, others: set[int]) -> tuple[Node, Labels]:
    axes = tuple(a for a, k in enumerate(labels) if k not in others)
    if not axes:
        return x, labels
    return OPS["sum"].make((x,), axes=axes), tuple(k for k in labels if k in others)


def _transpose(ct: Node, node: Node, i: int) -> Node:
    """∂x = contract(ct, y) over y's labels; x's private axes (if any) are shown again by broadcasting."""
    labels = (node.attrs["left"], node.attrs["right"])
    target, mine = node.args[i], labels[i]
    other, theirs = node.args[1 - i], labels[1 - i]
    out: Labels = node.attrs["out"]
    reached = tuple(k for k in mine if k in out or k in theirs)
    product = guarded(
        contract(ct, out, other, theirs, reached) if i == 0 else contract(other, theirs, ct, out, reached)
    )
    if reached == mine:
        return product
    axes = tuple(a for a, k in enumerate(mine) if k in reached)
    return OPS["broadcast"].make((product,), shape=target.shape, axes=axes)


def _range(node: Node, x: Range, y: Range) -> Range:
    """A contraction lies between its result and the user's data, and keeps zeros where a whole row of them was.

    Products with nothing but zeros are 0 wherever they are numbers.
    """
    worst = max(x.hazard, y.hazard)
    hazard = Hazard.ARITHMETIC if worst <= Hazard.DATA else worst
    zeros = min(max(x.zeros, y.zeros, Zeros.POSSIBLE), Zeros.MASKED)
    if x.lo == x.hi == 0 or y.lo == y.hi == 0:
        return bounded(0.0, 0.0, hazard, zeros)
    return bounded(0.0 if x.lo >= 0 and y.lo >= 0 else -math.inf, math.inf, hazard, zeros)


def _batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    left, right, out = (node.attrs[k] for k in ("left", "right", "out"))
    new = max((*left, *right, *out), default=-1) + 1
    return node.op.make(
        args,
        left=(new, *left) if batched[0] else left,
        right=(new, *right) if batched[1] else right,
        out=(new, *out),
    )


def _sympy(S: Any, x: Any, y: Any, left: Labels, right: Labels, out: Labels) -> Any:
    """The defining sum, over object arrays of SymPy expressions."""
    order = [*out, *sorted({*left, *right} - {*out})]
    product = _spread(x, left, order) * _spread(y, right, order)
    return np.sum(product, axis=tuple(range(len(out), len(order)))) if len(order) > len(out) else product


def _spread(x: Any, labels: Labels, order: Sequence[int]) -> Any:
    present = [k for k in order if k in labels]
    arranged = np.transpose(x, [labels.index(k) for k in present])
    sizes = iter(arranged.shape)
    return arranged.reshape([next(sizes) if k in labels else 1 for k in order])


def _strong_numpy(x: Any, y: Any, left: Labels, right: Labels, out: Labels) -> Any:
    """Σ of strong products: the plain contraction, unless that has met 0·∞ somewhere; then one term after another."""
    plain = np.asarray(_numpy(x, y, left, right, out))
    if x.dtype == object or not np.isnan(plain).any():
        return plain
    order = (*out, *(k for k in dict.fromkeys((*left, *right)) if k not in out))
    a, b = (_spread(v, labels, list(order)) for v, labels in ((x, left), (y, right)))
    a, b = (np.moveaxis(v, range(len(out), v.ndim), range(v.ndim - len(out))) for v in np.broadcast_arrays(a, b))
    total = np.zeros(plain.shape, plain.dtype)
    for term in np.ndindex(*a.shape[: a.ndim - len(out)]):
        total += OPS["strong_multiply"].numpy(a[term], b[term])
    return total


def _strong_expand(x: Node, y: Node, left: Labels, right: Labels, out: Labels) -> Node:
    """The plain contraction; in the rare case that it has a NaN (every 0·∞ leaves one), the terms one by one."""
    plain = OPS["contract"].make((x, y), left=left, right=right, out=out)
    a, b, shown = (inner_leaf(node.aval, name) for node, name in ((x, "x"), (y, "y"), (plain, "plain")))
    body = Graph((a, b, shown), (_one_by_one(a, b, left, right, out),), title="strong products")
    otherwise = Graph((a, b, shown), (shown,), title="plain products")
    broken = OPS["any"].make((dsl.isnan(plain),), axes=tuple(range(plain.ndim)))
    return item(OPS["cond"].make((broken, x, y, plain), body=body, otherwise=otherwise), 0)


def _one_by_one(x: Node, y: Node, left: Labels, right: Labels, out: Labels) -> Node:
    """The sum of strong products of operands that are shown along each other's labels."""
    sizes = label_sizes(x.aval, y.aval, left, right)
    order = (*out, *(k for k in sizes if k not in out))
    shape = tuple(sizes[k] for k in order)
    shown = [_shown(v, labels, order, shape) for v, labels in ((x, left), (y, right))]
    product = OPS["strong_multiply"].make(shown)
    return OPS["sum"].make((product,), axes=tuple(range(len(out), len(order))))


def _shown(x: Node, labels: Labels, order: Labels, shape: Shape) -> Node:
    """``x`` with its axes where ``order`` has their labels, repeated along the others."""
    present = [k for k in order if k in labels]
    turned = OPS["transpose"].make((x,), axes=tuple(labels.index(k) for k in present))
    return OPS["broadcast"].make((turned,), shape=shape, axes=tuple(order.index(k) for k in present))


_SAMPLES = (
    Sample(((2, 3), (3, 2)), {"left": (0, 1), "right": (1, 2), "out": (0, 2)}),
    Sample(((3,), (3,)), {"left": (0,), "right": (0,), "out": ()}),
    Sample(((2,), (3,)), {"left": (0,), "right": (1,), "out": (1, 0)}),
    Sample(((2, 2, 3), (2, 3, 2)), {"left": (0, 1, 2), "right": (0, 2, 3), "out": (0, 1, 3)}),
    Sample(((3, 2), (3,)), {"left": (0, 1), "right": (0,), "out": (1,)}),
    Sample(((2, 0), (0, 2)), {"left": (0, 1), "right": (1, 2), "out": (0, 2)}),
    Sample(((2, 3), (2, 3)), {"left": (0, 1), "right": (0, 1), "out": (0, 1)}),
)
_BILINEAR: dict[str, Any] = {
    "kind": Kind.CONTRACT, "infer": _infer, "sympy": _sympy, "transpose": _transpose, "linear": (0, 1),
    "multilinear": True, "range": _range, "batch": _batch, "samples": _SAMPLES,
}  # fmt: skip
register(
    Op(
        name="contract",
        numpy=_numpy,
        doc="Σ over the labels that are not in the output of left · right.",
        **_BILINEAR,
    )
)
register(
    Op(
        name="strong_contract",
        numpy=_strong_numpy,
        expand=_strong_expand,
        doc="contract of strong products: a term is 0 where a factor is, whatever the other one is.",
        **_BILINEAR,
    )
)
