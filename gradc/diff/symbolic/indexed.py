"""Cotangents of ops that move or add elements, from the index formula: ∂y[i]/∂x[j] is an index equality.

Enters: a node, the number of an operand, the node's cotangent.  Leaves: the operand's cotangent.
Invariant: no record's `transpose`, `jvp` or `partials` is read; a view or fold is known by `Op.source` alone, evaluated
on integer grids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.node import OPS, Node, constant
from gradc.ops.contraction import guarded
from gradc.ops.elementwise import cast
from gradc.ops.index import linear_index
from gradc.ops.leaves import full
from gradc.ops.record import Kind

Array = np.ndarray[Any, Any]


def pull_index(node: Node, i: int, ct: Node) -> Node | None:
    """The cotangent of operand ``i``; None if this op is not a sum of its operands' elements."""
    rule = _BY_NAME.get(node.op.name)
    if rule is None and node.op.kind in (Kind.VIEW, Kind.FOLD):
        rule = _pull_view
    return None if rule is None else rule(node, i, ct)


def index_equality(node: Node, i: int) -> tuple[Array, Array]:
    """All pairs (row-major output position, row-major position in operand ``i``) with y[out] = … + x[in]."""
    shape, operand = node.shape, node.args[i].shape
    grid = list(np.indices(shape, dtype=np.int64)) if shape else []
    assert node.op.source is not None, f"view {node.op.name} has an index formula"
    outs, ins = [], []
    for piece in node.op.source(grid, *[a.aval for a in node.args], **node.attrs):
        if piece.arg == i:
            valid = np.ones(shape, bool)
            for guard in piece.guards:
                valid &= (guard.value >= guard.low) & (guard.value < guard.high)
            position = np.broadcast_to(linear_index(piece.index, operand), shape)
            outs.append(np.flatnonzero(valid))
            ins.append(position[valid])
    return np.concatenate([*outs, _NONE]), np.concatenate([*ins, _NONE])


_NONE = np.zeros(0, np.int64)


def _pull_view(node: Node, i: int, ct: Node) -> Node:
    outs, ins = index_equality(node, i)
    x = node.args[i]
    flat = _reshaped(ct, (ct.size,))
    if len(ins) == x.size == len(np.unique(ins)):
        return _reshaped(_taken(flat, outs[np.argsort(ins)]), x.shape)
    zeros = full((x.size,), 0, ct.dtype)
    added = OPS["scatter"].make((zeros, _taken(flat, outs), constant(ins)), axes=(0,), how="add")
    return _reshaped(added, x.shape)


def _taken(flat: Node, positions: Array) -> Node:
    if np.array_equal(positions, np.arange(flat.size)):
        return flat
    return OPS["gather"].make((flat, constant(positions)), axes=(0,))


def _reshaped(node: Node, shape: Shape) -> Node:
    return node if node.shape == shape else OPS["reshape"].make((node,), shape=shape)


def _pull_sum(node: Node, i: int, ct: Node) -> Node:
    """y[k] = Σ x[j] over the j whose kept coordinates are k: ∂y[k]/∂x[j] = [kept(j) = k]."""
    shape = node.args[0].shape
    kept = tuple(a for a in range(len(shape)) if a not in node.attrs["axes"])
    return OPS["broadcast"].make((ct,), shape=shape, axes=kept)


def _pull_cumsum(node: Node, i: int, ct: Node) -> Node:
    """y[k] = Σ x[j] over j <= k: ∂y[k]/∂x[j] = [k >= j], a running sum from the other end."""
    return OPS["cumsum"].make((ct,), axis=node.attrs["axis"], reverse=not node.attrs["reverse"])


def _pull_contract(node: Node, i: int, ct: Node) -> Node:
    """y[out] = Σ l[left]·r[right]: ∂y[out]/∂l[left] = r[right] where the labels agree, summed over all other labels."""
    own, theirs = (node.attrs[k] for k in (("left", "right") if i == 0 else ("right", "left")))
    out, x = node.attrs["out"], node.args[i]
    kept = tuple(k for k in own if k in out or k in theirs)
    product = guarded(OPS["contract"].make((ct, node.args[1 - i]), left=out, right=theirs, out=kept))
    if kept == own:
        return product
    return OPS["broadcast"].make((product,), shape=x.shape, axes=tuple(own.index(k) for k in kept))


def _pull_gather(node: Node, i: int, ct: Node) -> Node:
    """y[i, r] = x[idx(i), r]: ∂y[i, r]/∂x[j, r] = [idx(i) = j]."""
    x, *indices = node.args
    return OPS["scatter"].make((full(x.shape, 0, ct.dtype), ct, *indices), axes=node.attrs["axes"], how="add")


def _pull_scatter(node: Node, i: int, ct: Node) -> Node | None:
    """y[j, r] = x[j, r] + Σ v[i, r] over idx(i) = j; the other ways of combining are definitions."""
    if node.attrs["how"] != "add":
        return None
    return ct if i == 0 else OPS["gather"].make((ct, *node.args[2:]), axes=node.attrs["axes"])


def _pull_cast(node: Node, i: int, ct: Node) -> Node:
    return cast(ct, node.args[0].dtype)


_BY_NAME: dict[str, Callable[[Node, int, Node], Node | None]] = {
    "sum": _pull_sum,
    "cumsum": _pull_cumsum,
    "contract": _pull_contract,
    "strong_contract": _pull_contract,
    "gather": _pull_gather,
    "scatter": _pull_scatter,
    "cast": _pull_cast,
}
