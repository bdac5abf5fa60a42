"""Layers without state: affine maps, embeddings.  Layouts of torch.nn.functional.

Enters: activations and parameters.  Leaves: activations.  Invariant: parameters keep PyTorch's layout, (out, in) for
weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.nn.terms import as_index, check_classes, check_not_negative, check_positive, known_value
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = ["bilinear", "embedding", "embedding_bag", "linear", "one_hot"]


@function("nn.linear")
def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Array:
    """x·Wᵀ + b: input (…, in), weight (out, in) or (in,), bias (out,); result (…, out)."""
    x, w = as_node(input), as_node(weight)
    if x.ndim == 0 or w.ndim not in (1, 2) or x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            f"{here()}: linear: input {x.shape} and weight {w.shape}: last axes must be equal; weight is (out, in).\n"
            f"  operands: {describe(x)}; {describe(w)}"
        )
    product = FUNCTIONS["matmul"](x, gnp.transpose(w))
    return product if bias is None else product + bias


@function("nn.bilinear")
def bilinear(input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Array:
    """x₁ᵀ·Wₖ·x₂ + bₖ for each output k: inputs (…, in1) and (…, in2), weight (out, in1, in2), bias (out,)."""
    one, two, w = as_node(input1), as_node(input2), as_node(weight)
    if min(one.ndim, two.ndim) < 1 or w.ndim != 3 or (one.shape[-1], two.shape[-1]) != w.shape[1:]:
        raise ShapeError(
            f"{here()}: bilinear: inputs (…, in1) and (…, in2) need weight (out, in1, in2).\n"
            f"  operands: {describe(one)}; {describe(two)}; {describe(w)}"
        )
    result = FUNCTIONS["einsum"]("...i,oij,...j->...o", one, w, two)
    return result if bias is None else result + bias


@function("nn.embedding")
def embedding(
    input: ArrayLike, weight: ArrayLike, padding_idx: int | None = None, max_norm: ArrayLike = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False,
) -> Array:  # fmt: skip
    """The rows of weight (count, width) at the integers of input (…): result (…, width).

    The row ``padding_idx`` gets no derivative; a negative one counts from the end.  ``max_norm``: rows with a larger
    ``norm_type``-norm are scaled to it, and the derivative is the one by the scaled row, as in PyTorch, which writes
    that into the weight; here the weight stays as it is.  ``scale_grad_by_freq`` divides the derivative of a row by the
    number of times that input names it.
    """
    at, rows = as_node(input), as_node(weight)
    found: Node = FUNCTIONS["take"](rows, at, axis=0)
    if max_norm is not None:
        found = _scaled_to(found, max_norm, norm_type)
    if padding_idx is None and not scale_grad_by_freq:
        return found
    place = cast(at, np.int64)
    row = gnp.where(place < 0, place + rows.shape[0], place)
    if scale_grad_by_freq:
        still, share = FUNCTIONS["stop_gradient"](found), _shares(row, rows)
        found = still + share * (found - still)
    if padding_idx is None:
        return found
    is_padding = FUNCTIONS["expand_dims"](row == _padding("embedding", padding_idx, rows), -1)
    return gnp.where(is_padding, FUNCTIONS["stop_gradient"](found), found)


#: PyTorch's guard of the quotient by which a row is scaled
_NORM_EPS = 1e-7


def _scaled_to(found: Node, max_norm: ArrayLike, norm_type: float) -> Node:
    """Rows no longer than ``max_norm``, with the derivative of what is added to each being none."""
    check_positive("embedding", norm_type=norm_type)
    check_not_negative("embedding", max_norm=max_norm)
    rows = inexact(found)
    still: Any = FUNCTIONS["stop_gradient"](rows)
    size = gnp.linalg.vector_norm(still, ord=norm_type, axis=-1, keepdims=True)
    limit = cast(as_node(max_norm), rows.dtype)
    long = size > limit
    scaled = still * gnp.where(long, limit / (size + _NORM_EPS), 1.0)
    return gnp.where(long, scaled + (rows - still), rows)


def _shares(row: Any, rows: Node) -> Any:
    """One over the number of times that each entry's row is named."""
    dtype = rows.dtype if rows.aval.is_float else np.dtype(np.float64)
    counted = full(rows.shape[:1], 0.0, np.float64).at[gnp.reshape(row, (-1,))].add(1.0)
    shares = cast(1 / gnp.maximum(counted, 1.0), dtype)
    return FUNCTIONS["expand_dims"](FUNCTIONS["take"](shares, row, axis=0), -1)


@function("nn.embedding_bag", singular="shared by the largest of a bag")
def embedding_bag(
    input: ArrayLike, weight: ArrayLike, offsets: ArrayLike = None, *, mode: str = "mean",
    per_sample_weights: ArrayLike = None, include_last_offset: bool = False, padding_idx: int | None = None,
) -> Array:  # fmt: skip
    """Sum, mean or maximum of the rows that each bag names: weight (count, width) gives (bags, width).

    ``input`` (bags, n), or all bags one after another (n,) with ``offsets`` (bags,), where each begins, the first with
    0; with ``include_last_offset`` one more says where the last bag ends, and what follows is in none.
    ``per_sample_weights``, of the shape of input, multiply the rows of a sum.  Entries equal to ``padding_idx`` do not
    count.  Of an empty bag everything is 0.  A negative entry is no row, and not counted from the end (IndexingError).
    """
    at, rows = as_node(input), as_node(weight)
    _check_bags(at, rows, offsets, mode, per_sample_weights)
    at = cast(at, np.int64)
    check_classes("embedding_bag", at, rows.shape[0], what="an entry of input must be one of the rows")
    found = FUNCTIONS["take"](rows, as_index(at), axis=0)
    if per_sample_weights is not None:
        found = found * FUNCTIONS["expand_dims"](as_node(per_sample_weights), -1)
    counts = at >= 0 if padding_idx is None else at != _padding("embedding_bag", padding_idx, rows)
    if offsets is not None:
        bag, bags, inside = _bags(as_node(offsets), at, include_last_offset)
        counts = counts & inside
    found = gnp.where(FUNCTIONS["expand_dims"](counts, -1), found, -np.inf if mode == "max" else 0.0)
    number = cast(counts, rows.dtype)
    if offsets is None:
        total = gnp.max(found, axis=1, initial=-np.inf) if mode == "max" else gnp.sum(found, axis=1)
        number = gnp.sum(number, axis=1)
    else:
        shape = (bags, rows.shape[1])
        begin = full(shape, -np.inf if mode == "max" else 0.0, found.dtype)
        total = begin.at[bag].max(found) if mode == "max" else begin.at[bag].add(found)
        number = full(shape[:1], 0.0, rows.dtype).at[bag].add(number)
    number = FUNCTIONS["expand_dims"](number, -1)
    if mode == "max":
        return gnp.where(number > 0, total, 0.0)
    return total / gnp.maximum(number, 1.0) if mode == "mean" else total


def _check_bags(at: Node, rows: Node, offsets: ArrayLike, mode: str, shares: ArrayLike) -> None:
    if at.dtype.kind not in "iu" or at.ndim != (2 if offsets is None else 1) or rows.ndim != 2:
        raise ShapeError(
            f"{here()}: embedding_bag: input is integers (bags, n), or (n,) with offsets (bags,); weight (count, "
            f"width).\n  operands: {describe(at)}; {describe(rows)}"
        )
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"{here()}: embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r:.40}")
    if shares is not None and (mode != "sum" or as_node(shares).shape != at.shape):
        raise ShapeError(
            f"{here()}: embedding_bag: per_sample_weights must have the shape {at.shape} of input and need mode='sum', "
            f"got {as_node(shares).shape} and {mode!r}"
        )


def _bags(offsets: Node, at: Node, closed: bool) -> tuple[Any, int, Any]:
    """The bag of each entry, how many bags there are, and which entries are in one; the others stand in the first."""
    least = 2 if closed else 1
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or offsets.shape[0] < least:
        raise ShapeError(
            f"{here()}: embedding_bag: offsets must be at least {least} integers in one axis"
            f"{', the last of which ends the last bag' if closed else ''}, got {describe(offsets)}"
        )
    offsets = cast(offsets, np.int64)
    known = known_value(offsets)
    if known is not None and (known[0] != 0 or np.any(np.diff(known) < 0) or known[-1] > at.shape[0]):
        raise ValueError(
            f"{here()}: embedding_bag: offsets must begin with 0, not decrease, and be at most {at.shape[0]}, the "
            f"number of entries; got {known.tolist()!r:.60}"
        )
    starts, entry = offsets[:-1] if closed else offsets, iota(at.shape)
    bag = gnp.searchsorted(starts, entry, side="right") - 1
    inside = bag >= 0
    if closed:
        inside = inside & (entry < offsets[-1])
    return gnp.where(inside, bag, 0), starts.shape[0], inside


def _padding(name: str, padding_idx: Any, rows: Node) -> int:
    place, count = static_int(padding_idx, "padding_idx"), rows.shape[0]
    if not -count <= place < count:
        raise ValueError(f"{here()}: {name}: padding_idx must be one of the {count} rows, got {padding_idx!r}")
    return place % count


@function("nn.one_hot")
def one_hot(labels: ArrayLike, num_classes: int = -1, *, dtype: Any = np.int64) -> Array:
    """1 at the position that each label names, else 0: labels (…) to (…, num_classes), int64 unless ``dtype`` is given.

    ``num_classes`` -1, one more than the largest label, needs constant labels (TraceError otherwise).  A label that is
    no class is an IndexingError where labels are known; of traced ones its row is 0.
    """
    node = as_node(labels)
    if node.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: one_hot: labels must be integers, got {describe(node)}")
    count = static_int(num_classes, "num_classes")
    if count < 0:
        known = known_value(node)
        if known is None:
            raise TraceError(f"{here()}: one_hot: give num_classes; {describe(node)} has no values while tracing")
        count = int(np.max(known, initial=-1)) + 1
    check_classes("one_hot", node, count, what="a label must be one of the classes")
    labels, shape = cast(node, np.int64), (*node.shape, count)
    return cast(FUNCTIONS["expand_dims"](labels, -1) == iota(shape, node.ndim), dtype)
