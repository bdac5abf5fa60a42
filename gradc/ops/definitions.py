"""Structured non-linear ops written out in sums, views and elementwise ops: what symbolic mode differentiates.

Enters: a node.  Leaves: a node of the same value, built from ops that SymPy or an index formula differentiates; records
name it as their `definition`.
Invariant: nothing is unrolled per element, and ties and singular points come out as the op's record declares.
"""

from __future__ import annotations

import numpy as np

from gradc.aval import Shape
from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, broadcast_to, cast
from gradc.ops.leaves import full, iota


def _make(name: str, *args: Node, **attrs: object) -> Node:
    return OPS[name].make(args, **attrs)


def _chosen(mask: Node, yes: Node, no: float) -> Node:
    return _make("where", mask, yes, full(yes.shape, no, yes.dtype))


def _shown(node: Node, shape: Shape, axes: Shape) -> Node:
    """A reduced value along the axes it was reduced over."""
    return _make("broadcast", node, shape=shape, axes=tuple(a for a in range(len(shape)) if a not in axes))


def _constant_like(node: Node) -> Node:
    """The value of ``node`` with no derivative."""
    return _make("stop_gradient", node)


# -- reductions --------------------------------------------------------------------------------------------------------


def prod(node: Node) -> Node:
    """Π x as a binary tree of products, of which SymPy sees one: a·b."""
    (x,), axes = node.args, node.attrs["axes"]
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = _make("transpose", x, axes=(*kept, *axes))
    count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    rows = _make("reshape", rows, shape=(*node.shape, count))
    while count > 1:
        half = count // 2
        pairs = apply(OPS["multiply"], _columns(rows, 0, half), _columns(rows, half, 2 * half))
        odd = count % 2
        rows = _make("concatenate", pairs, _columns(rows, 2 * half, count), axis=node.ndim) if odd else pairs
        count = half + odd
    return _make("reshape", rows, shape=node.shape) if count else full(node.shape, 1, node.dtype)


def _columns(rows: Node, start: int, stop: int) -> Node:
    *lead, _ = rows.shape
    starts, stops = (*(0 for _ in lead), start), (*lead, stop)
    return _make("slice", rows, starts=starts, stops=stops, steps=(1,) * rows.ndim)


def extremum(node: Node) -> Node:
    """The mean of the elements that attain it."""
    (x,), axes = node.args, node.attrs["axes"]
    attained = apply(OPS["equal"], x, _shown(_constant_like(node), x.shape, axes))
    total = _make("sum", _chosen(attained, x, 0), axes=axes)
    return apply(OPS["divide"], total, _make("sum", cast(attained, x.dtype), axes=axes))


def norm(node: Node) -> Node:
    """√Σx², and 0 (with derivative 0) where the sum is 0."""
    (x,), axes = node.args, node.attrs["axes"]
    total = _make("sum", apply(OPS["square"], x), axes=axes)
    positive = apply(OPS["greater"], total, 0)
    root = apply(OPS["sqrt"], _chosen(positive, total, 1))
    return _chosen(positive, root, 0)


def logsumexp(node: Node) -> Node:
    """log Σ exp(x − c) + c, which is the same for every c; c is the maximum, held constant."""
    (x,), axes = node.args, node.attrs["axes"]
    top = _constant_like(_make("max", x, axes=axes)) if x.size else full(node.shape, 0, x.dtype)
    shift = _chosen(apply(OPS["isfinite"], top), top, 0)
    terms = apply(OPS["exp"], apply(OPS["subtract"], x, _shown(shift, x.shape, axes)))
    return apply(OPS["add"], apply(OPS["log"], _make("sum", terms, axes=axes)), shift)


def cumprod(node: Node) -> Node:
    """y[k] = Π x[j] over j <= k (or >=): a product over all j with 1 for the others."""
    (x,), axis = node.args, node.attrs["axis"]
    n, rank = x.shape[axis], x.ndim
    order = (*(a for a in range(rank) if a != axis), axis)
    rows = _make("transpose", x, axes=order)
    square = (*rows.shape, n)  # [..., k, j]
    repeated = _make("broadcast", rows, shape=square, axes=(*range(rank - 1), rank))
    reached = "less_equal" if not node.attrs["reverse"] else "greater_equal"
    mask = apply(OPS[reached], iota((n, n), 1), iota((n, n), 0))
    products = _make("prod", _chosen(broadcast_to(mask, square), repeated, 1), axes=(rank,))
    return _make("transpose", products, axes=tuple(int(a) for a in np.argsort(order)))


# -- scatter -----------------------------------------------------------------------------------------------------------


def scatter(node: Node) -> Node:
    """What is written or combined at places, as a choice between or a mean of what may stand there."""
    return _overwritten(node) if node.attrs["how"] == "set" else _attained(node)


def _overwritten(node: Node) -> Node:
    """y[j] is the last v written there, found by writing the numbers of the updates instead of the updates."""
    x, v, *indices = node.args
    if not v.size:
        return x
    numbers = _make("reshape", iota((v.size,)), shape=v.shape)
    nobody = full(x.shape, -1, np.int64)
    writer = _make("scatter", nobody, numbers, *indices, axes=node.attrs["axes"], how="set")
    written = apply(OPS["greater_equal"], writer, 0)
    flat = _make("reshape", v, shape=(v.size,))
    source = _make("gather", flat, _chosen(written, writer, 0), axes=(0,))
    return _make("where", written, source, x)


def _attained(node: Node) -> Node:
    """The mean of the candidates, old and new, that attain the extremum."""
    x, v, *indices = node.args
    axes = node.attrs["axes"]
    result = _constant_like(node)
    from_x = apply(OPS["equal"], x, result)
    from_v = apply(OPS["equal"], v, _make("gather", result, *indices, axes=axes))
    total = _make("scatter", _chosen(from_x, x, 0), _chosen(from_v, v, 0), *indices, axes=axes, how="add")
    count = _make("scatter", cast(from_x, x.dtype), cast(from_v, x.dtype), *indices, axes=axes, how="add")
    return apply(OPS["divide"], total, count)
