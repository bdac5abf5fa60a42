"""Distances, similarities, and the losses that learn them.  Names and meaning of torch.nn.functional.

Enters: vectors along one axis.  Leaves: one number for a pair of them, or a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.nn.terms import above_zero, check_not_negative, check_positive, reduced_loss, signs
from gradc.node import FUNCTIONS, Node, as_node, describe, here
from gradc.numpy.axes import axis_of
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact

__all__ = [
    "cosine_embedding_loss", "cosine_similarity", "info_nce_loss", "pairwise_distance", "pdist", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip


@function("nn.cosine_similarity", wide=True)
def cosine_similarity(x1: ArrayLike, x2: ArrayLike, dim: int = 1, eps: float = 1e-8) -> Array:
    """x₁·x₂/(max(‖x₁‖, eps)·max(‖x₂‖, eps)) along ``dim`` of the broadcast operands."""
    one, two = gnp.broadcast_arrays(inexact(as_node(x1)), inexact(as_node(x2)))
    axis = axis_of(dim, one)
    check_not_negative("cosine_similarity", eps=eps)
    sizes = [gnp.maximum(gnp.linalg.vector_norm(x, axis=axis, keepdims=True), eps) for x in (one, two)]
    return gnp.sum((one / sizes[0]) * (two / sizes[1]), axis=axis)


@function("nn.pairwise_distance", wide=True)
def pairwise_distance(x1: ArrayLike, x2: ArrayLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """‖x₁ − x₂ + eps‖ₚ along the last axis of the broadcast operands."""
    one, two = inexact(as_node(x1)), inexact(as_node(x2))
    if not max(one.ndim, two.ndim):
        raise ShapeError(f"{here()}: pairwise_distance: operands need an axis of coordinates, got two numbers")
    return gnp.linalg.vector_norm(one - two + eps, axis=-1, ord=p, keepdims=bool(keepdim))


@function("nn.pdist", wide=True)
def pdist(input: ArrayLike, p: float = 2.0) -> Array:
    """‖xᵢ − xⱼ‖ₚ for all i < j of the rows of input (N, d): N(N − 1)/2 numbers, row by row as in SciPy."""
    x = inexact(as_node(input))
    if x.ndim != 2:
        raise ShapeError(f"{here()}: pdist: input must be (N, d), got {describe(x)}")
    one, two = np.triu_indices(x.shape[0], 1)
    difference = FUNCTIONS["take"](x, one, axis=0) - FUNCTIONS["take"](x, two, axis=0)
    return gnp.linalg.vector_norm(difference, axis=-1, ord=p)


@function("nn.cosine_embedding_loss", singular="the slope inside at the margin", wide=True)
def cosine_embedding_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, *, margin: ArrayLike = 0.0, reduction: str = "mean"
) -> Array:
    """1 − cos(x₁, x₂) for the target 1, max(0, cos(x₁, x₂) − margin) for −1: inputs (N, d) or (d,), target (N,) or ().

    As in PyTorch the cosine is x₁·x₂/√((x₁·x₁ + ε)(x₂·x₂ + ε)) with ε = 1e-12.
    """
    one, two, y = inexact(as_node(input1)), inexact(as_node(input2)), signs("cosine_embedding_loss", target)
    if one.ndim not in (1, 2) or one.shape != two.shape or y.shape != one.shape[:-1]:
        raise ShapeError(
            f"{here()}: cosine_embedding_loss: inputs must be (N, d) both with a target (N,), or (d,) with ().\n"
            f"  operands: {describe(one)}; {describe(two)}; {describe(y)}"
        )
    product, *sizes = (gnp.sum(a * b, axis=-1) for a, b in ((one, two), (one, one), (two, two)))
    cosine = product / gnp.sqrt((sizes[0] + 1e-12) * (sizes[1] + 1e-12))
    return reduced_loss(gnp.where(y == 1, 1.0 - cosine, above_zero(cosine - margin)), reduction)


@function("nn.triplet_margin_loss", singular="the slope inside at the margin", wide=True)
def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    margin: ArrayLike = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Array:
    """max(0, d(a, p) − d(a, n) + margin) with the `pairwise_distance` d of ``p`` and ``eps``: (N, d) each, or (d,).

    ``swap``: the smaller of d(a, n) and d(p, n) in the place of the former (Balntas et al. 2016).
    """

    def distance(one: Any, two: Any) -> Any:
        return pairwise_distance(one, two, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


@function("nn.triplet_margin_with_distance_loss", singular="the slope inside at the margin", wide=True)
def triplet_margin_with_distance_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: ArrayLike = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Array:
    """`triplet_margin_loss` with a distance of your own, a function of two arrays; None: `pairwise_distance`."""
    if distance_function is not None and not callable(distance_function):
        raise TypeError(
            f"{here()}: triplet_margin_with_distance_loss: distance_function must be a function of two arrays, got "
            f"{distance_function!r:.60}"
        )
    distance = distance_function or pairwise_distance
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    name: str, anchor: Any, positive: Any, negative: Any, distance: Any, margin: Any, swap: bool, reduction: str
) -> Node:
    a, p, n = (inexact(as_node(x)) for x in (anchor, positive, negative))
    if not a.shape == p.shape == n.shape:
        raise ShapeError(
            f"{here()}: {name}: anchor, positive and negative must have one shape.\n"
            f"  operands: {describe(a)}; {describe(p)}; {describe(n)}"
        )
    check_positive(name, margin=margin)
    far = distance(a, n)
    if swap:
        far = gnp.minimum(far, distance(p, n))
    return reduced_loss(above_zero(as_node(distance(a, p) - far + margin)), reduction)


@function("nn.info_nce_loss", wide=True)
def info_nce_loss(
    query: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike = None,
    *,
    temperature: ArrayLike = 0.1,
    normalized: bool = True,
    symmetric: bool = False,
    reduction: str = "mean",
) -> Array:
    """−log(exp(qᵢ·pᵢ/τ)/Σ exp(qᵢ·k/τ)): query and positive (N, d), temperature τ (van den Oord et al. 2018).

    The sum runs over the positives of all queries, or, where ``negative`` is given, over pᵢ and the negatives: (M, d),
    shared, or (N, M, d), each query's own.  ``normalized`` (default): vectors are divided by their lengths first.
    ``symmetric``: the mean of this and of the same with query and positive exchanged (CLIP, Radford et al. 2021).
    """
    q, p = inexact(as_node(query)), inexact(as_node(positive))
    check_positive("info_nce_loss", temperature=temperature)
    if q.ndim != 2 or q.shape != p.shape:
        raise ShapeError(
            f"{here()}: info_nce_loss: query and positive must have one shape (N, d).\n"
            f"  operands: {describe(q)}; {describe(p)}"
        )
    if symmetric and negative is not None:
        raise ValueError(f"{here()}: info_nce_loss: symmetric=True has no place for negatives; leave out one of both")
    unit = FUNCTIONS["nn.normalize"] if normalized else _as_it_is
    q, p = unit(q, dim=-1), unit(p, dim=-1)
    if negative is None:
        logits, labels = gnp.matmul(q, gnp.transpose(p)) / temperature, np.arange(q.shape[0])
        loss = _picked_loss(logits, labels, reduction)
        return (loss + _picked_loss(gnp.transpose(logits), labels, reduction)) / 2 if symmetric else loss
    others = unit(_negatives(q, as_node(negative)), dim=-1)
    near = gnp.sum(q * p, axis=-1, keepdims=True)
    far = gnp.einsum("nd,md->nm" if others.ndim == 2 else "nd,nmd->nm", q, others)
    logits = gnp.concatenate([near, far], axis=-1) / temperature
    return _picked_loss(logits, np.zeros(q.shape[0], np.int64), reduction)


def _as_it_is(x: Node, dim: int) -> Node:
    return x


def _picked_loss(logits: Node, labels: Any, reduction: str) -> Any:
    return FUNCTIONS["nn.cross_entropy"](logits, labels, reduction=reduction)


def _negatives(q: Node, negative: Node) -> Node:
    """Negatives (M, d) or (N, M, d) of queries (N, d)."""
    n = inexact(negative)
    if n.ndim not in (2, 3) or n.shape[-1] != q.shape[-1] or (n.ndim == 3 and n.shape[0] != q.shape[0]):
        raise ShapeError(
            f"{here()}: info_nce_loss: negative must be (M, {q.shape[-1]}) or ({q.shape[0]}, M, {q.shape[-1]}).\n"
            f"  operands: {describe(q)}; {describe(n)}"
        )
    return n
