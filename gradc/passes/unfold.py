"""Folds in gather form: each element takes the terms that belong to it, instead of terms being added where they belong.

Enters: a graph in which derivatives of sliding windows are folds.  Leaves: the same function, where

- windows that do not overlap put each element in one place: their fold is a view;
- a fold of an outer product (positions of one operand, places inside the window of the other) is the correlation of
  windows of the padded, dilated first with the second reversed: col2im that is never built (Dumoulin & Visin 2016).

The zeros of the padding are multiplied like any number, as they are in a forward convolution with padding.
Start reading at `unfold`.
"""

from __future__ import annotations

import math

from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.passes.rules import Rules, apply_rules

#: How many times the multiplications of a product a correlation over padding may take.
MOST_WASTE = 2.5


def unfold(graph: Graph) -> Graph:
    """Replace folds by views and correlations wherever that is no more work."""
    return apply_rules(graph, _RULES)


def _apart(node: Node) -> Node | None:
    """Windows side by side: the places inside a window are the last digits of the index along its axis."""
    axes, sizes, shape = (node.attrs[k] for k in ("axes", "sizes", "shape"))
    if sizes != node.attrs["strides"] or any(d != 1 for d in node.attrs["dilations"]) or not math.prod(node.shape):
        return None
    (x,) = node.args
    inside = {axis: len(shape) + k for k, axis in enumerate(axes)}
    order = [a for axis in range(len(shape)) for a in ((axis, inside[axis]) if axis in inside else (axis,))]
    factor = dict(zip(axes, sizes, strict=True))
    covered = tuple(x.shape[axis] * factor.get(axis, 1) for axis in range(len(shape)))
    placed = dsl.reshape(dsl.transpose(x, order), covered)
    if covered == shape:
        return placed
    start, step = (0,) * len(shape), (1,) * len(shape)
    return OPS["pad"].make((placed,), shape=shape, starts=start, steps=step, fill=0)


def _correlated(node: Node) -> Node | None:
    """fold(Σ a[…, position] · b[…, inside]) = Σ windows(pad(a))[…, position, inside'] · reverse(b)[…, inside']."""
    product = node.args[0]
    if product.op.name != "contract" or not product.aval.is_float or not product.aval.size:
        return None
    out, axes = product.attrs["out"], node.attrs["axes"]
    positions = tuple(out[axis] for axis in axes)
    inside = tuple(out[len(node.shape) + k] for k in range(len(axes)))
    for which in (0, 1):
        sides = (product.attrs["left"], product.attrs["right"])
        one, other = sides[which], sides[1 - which]
        apart = all(p in one and p not in other for p in positions) and all(q in other for q in inside)
        if apart and not any(q in one for q in inside) and _waste(node, product) <= MOST_WASTE:
            return _as_correlation(node, product, which, positions, inside)
    return None


def _waste(node: Node, product: Node) -> float:
    return math.prod(node.shape[axis] / product.shape[axis] for axis in node.attrs["axes"])


def _as_correlation(node: Node, product: Node, which: int, positions: tuple[int, ...], inside: tuple[int, ...]) -> Node:
    sides = (product.attrs["left"], product.attrs["right"])
    one, other = sides[which], sides[1 - which]
    seen = _around(node, product.args[which], tuple(one.index(p) for p in positions))
    kernel = dsl.flip(product.args[1 - which], tuple(other.index(q) for q in inside))
    left, right = ((*one, *inside), other) if which == 0 else (other, (*one, *inside))
    operands = (seen, kernel) if which == 0 else (kernel, seen)
    return OPS["contract"].make(operands, left=left, right=right, out=product.attrs["out"][: len(node.shape)])


def _around(node: Node, a: Node, axes: tuple[int, ...]) -> Node:
    """For every element of the fold, the window of ``a`` that reaches it, the last place inside a window first."""
    sizes, strides, dilations = (node.attrs[k] for k in ("sizes", "strides", "dilations"))
    shape, starts, steps = list(a.shape), [0] * a.ndim, [1] * a.ndim
    for axis, along, size, stride, dilation in zip(axes, node.attrs["axes"], sizes, strides, dilations, strict=True):
        starts[axis], steps[axis] = (size - 1) * dilation, stride
        shape[axis] = node.shape[along] + (size - 1) * dilation
    padded = OPS["pad"].make((a,), shape=tuple(shape), starts=tuple(starts), steps=tuple(steps), fill=0)
    return OPS["windows"].make((padded,), axes=axes, sizes=sizes, strides=(1,) * len(axes), dilations=dilations)


_RULES: Rules = {"fold": (_apart, _correlated)}
