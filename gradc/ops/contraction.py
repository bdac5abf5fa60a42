"""The contract kind: einsum of two operands, the one op behind every matrix product.

Attributes are three tuples of integer labels, one label per axis: ``left``, ``right`` and ``out``.  No label repeats
within an operand, every output label occurs in an operand, and a label that is in an operand but not in the output is
summed.  `gradc.numpy.einsum` brings every einsum to this form (diagonals and more operands are other nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import OPS, Node
from gradc.ops.record import Kind, Op, Sample, register

Labels = tuple[int, ...]


def label_sizes(x: Aval, y: Aval, left: Labels, right: Labels) -> dict[int, int]:
    """The extent of each label."""
    return dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))


def _infer(x: Aval, y: Aval, left: Labels, right: Labels, out: Labels) -> Aval:
    sizes = label_sizes(x, y, left, right)
    return Aval(tuple(sizes[k] for k in out), x.dtype)


def _numpy(x: Any, y: Any, left: Labels, right: Labels, out: Labels) -> Any:
    labels = sorted({*left, *right})
    small = {k: i for i, k in enumerate(labels)}
    lists = [[small[k] for k in part] for part in (left, right, out)]
    if x.dtype == bool:
        return np.einsum(x.astype(np.int64), lists[0], y.astype(np.int64), lists[1], lists[2]) != 0
    # With `optimize` einsum reaches BLAS, which pays above a few thousand products.
    work = int(np.prod(list(label_sizes(x, y, left, right).values()), dtype=np.int64))
    return np.einsum(x, lists[0], y, lists[1], lists[2], optimize=work > 4096)


def contract(x: Node, left: Labels, y: Node, right: Labels, out: Labels) -> Node:
    """The contract node, after summing or repeating what einsum's transpose rules leave to views.

    A label of one operand only that is not in the output is summed beforehand; an output label in neither operand is
    not allowed here.
    """
    x, left = _sum_private(x, left, {*right, *out})
    y, right = _sum_private(y, right, {*left, *out})
    return OPS["contract"].make((x, y), left=left, right=right, out=out)


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
    product = contract(ct, out, other, theirs, reached) if i == 0 else contract(other, theirs, ct, out, reached)
    if reached == mine:
        return product
    axes = tuple(a for a, k in enumerate(mine) if k in reached)
    return OPS["broadcast"].make((product,), shape=target.shape, axes=axes)


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


register(
    Op(
        name="contract",
        kind=Kind.CONTRACT,
        infer=_infer,
        numpy=_numpy,
        sympy=_sympy,
        transpose=_transpose,
        linear=(0, 1),
        multilinear=True,
        batch=_batch,
        samples=(
            Sample(((2, 3), (3, 2)), {"left": (0, 1), "right": (1, 2), "out": (0, 2)}),
            Sample(((3,), (3,)), {"left": (0,), "right": (0,), "out": ()}),
            Sample(((2,), (3,)), {"left": (0,), "right": (1,), "out": (1, 0)}),
            Sample(((2, 2, 3), (2, 3, 2)), {"left": (0, 1, 2), "right": (0, 2, 3), "out": (0, 1, 3)}),
            Sample(((3, 2), (3,)), {"left": (0, 1), "right": (0,), "out": (1,)}),
            Sample(((2, 0), (0, 2)), {"left": (0, 1), "right": (1, 2), "out": (0, 2)}),
            Sample(((2, 3), (2, 3)), {"left": (0, 1), "right": (0, 1), "out": (0, 1)}),
        ),
        doc="Σ over the labels that are not in the output of left · right.",
    )
)
