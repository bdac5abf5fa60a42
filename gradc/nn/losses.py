"""Losses: names, arguments and meaning of torch.nn.functional.

Enters: predictions (`input`) and targets.  Leaves: a scalar for ``reduction`` "mean" and "sum", one number per
example for "none".  Invariant: from logits the loss is computed in its stable form; no probability is ever divided by
or logged there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full, iota
from gradc.ops.reductions import below_maximum

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip


def _reduced(loss: Node, reduction: str) -> Node:
    """The losses of all examples as one number, or as they are."""
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise DTypeError(f"{here()}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return FUNCTIONS[reduction](loss)


def _pair(name: str, input: ArrayLike, target: ArrayLike) -> tuple[Node, Node]:
    """Prediction and target of one shape, as floats; targets must not broadcast, a classic source of silent errors."""
    x, y = inexact(as_node(input)), as_node(target)
    if x.shape != y.shape and y.ndim:
        raise ShapeError(
            f"{here()}: {name}: input {x.shape} and target {y.shape} must have one shape.\n"
            f"  operands: {describe(x)}; {describe(y)}"
        )
    return x, y


# -- classes ----------------------------------------------------------------------------------------------------------


@function("nn.cross_entropy")
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """−log softmax(input) at the target class: logits (N, C, …) or (C,), integer targets (N, …) or ().

    A floating target of the shape of the logits holds class probabilities.  ``weight`` (C,) weights the classes; "mean"
    divides by the weights of the targets.  Targets equal to ``ignore_index`` do not count; unlike in PyTorch there
    is none by default.  ShapeError or DTypeError if the target is neither.
    """
    z, y = inexact(as_node(input)), as_node(target)
    if not 0 <= label_smoothing <= 1:
        raise DTypeError(f"{here()}: cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    operands = (z, y) if weight is None else (z, y, cast(as_node(weight), z.dtype))
    if y.aval.is_float:
        _pair("cross_entropy with class probabilities", z, y)
        return _soft_cross_entropy(*operands, reduction=reduction, label_smoothing=label_smoothing)
    _check_classes("cross_entropy", z, y)
    if weight is None and ignore_index is None:
        return _cross_entropy(z, y, reduction=reduction, label_smoothing=label_smoothing)
    return _weighted_cross_entropy(
        *operands, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def _class_axis(z: Node) -> int:
    return 1 if z.ndim > 1 else 0


def _check_classes(name: str, z: Node, y: Node) -> None:
    axis = _class_axis(z)
    if y.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: {name}: targets must be integer classes or class probabilities, got {describe(y)}")
    if z.ndim == 0 or y.shape != z.shape[:axis] + z.shape[axis + 1 :]:
        raise ShapeError(
            f"{here()}: {name}: input {z.shape} is (N, C, …), so integer targets must be "
            f"{z.shape[:axis] + z.shape[axis + 1 :]}, got {y.shape}.\n  operands: {describe(z)}; {describe(y)}"
        )


def _picked(z: Node, y: Node) -> Node:
    """z[n, y[n, …], …]: the element of each example at its class."""
    axis = _class_axis(z)
    others = iter(range(y.ndim))
    index = [cast(y, np.int64) if k == axis else iota(y.shape, next(others)) for k in range(z.ndim)]
    return OPS["gather"].make((z, *index), axes=tuple(range(z.ndim)))


@composite("cross_entropy")
def _cross_entropy(z: Node, y: Node, *, reduction: str, label_smoothing: float) -> Node:
    axes = (_class_axis(z),)
    shifted = below_maximum(z, axes)
    hit = _picked(shifted, y)
    if label_smoothing:
        hit = (1 - label_smoothing) * hit + label_smoothing * gnp.mean(shifted, axis=axes)
    return _reduced(reduced("logsumexp", shifted, axes) - hit, reduction)


@composite("cross_entropy")
def _soft_cross_entropy(z: Node, p: Node, *weight: Node, reduction: str, label_smoothing: float) -> Node:
    axis = _class_axis(z)
    p = cast(p, z.dtype)
    if label_smoothing:
        p = p * (1 - label_smoothing) + label_smoothing / z.shape[axis]
    log_probability = FUNCTIONS["nn.log_softmax"](z, axis)
    for w in weight:
        p = p * _per_class(w, z)
    loss = -gnp.sum(p * log_probability, axis=axis)
    if reduction != "mean":
        return _reduced(loss, reduction)
    return gnp.sum(loss) / float(loss.size)


def _per_class(weight: Node, z: Node) -> Node:
    """Class weights shown along the class axis of ``z``."""
    axis = _class_axis(z)
    if weight.shape != (z.shape[axis],):
        raise ShapeError(f"{here()}: weight must have shape ({z.shape[axis]},), one per class, got {describe(weight)}")
    return gnp.reshape(weight, [-1 if k == axis else 1 for k in range(z.ndim)])


@composite("cross_entropy")
def _weighted_cross_entropy(
    z: Node, y: Node, *weight: Node, ignore_index: int | None, reduction: str, label_smoothing: float
) -> Node:
    log_probability = FUNCTIONS["nn.log_softmax"](z, _class_axis(z))
    loss, weights = _weighted_nll(log_probability, y, weight, ignore_index)
    if label_smoothing:
        axis = _class_axis(z)
        spread = log_probability * _per_class(weight[0], z) if weight else log_probability
        smooth = -gnp.mean(spread, axis=axis)
        if ignore_index is not None:
            smooth = gnp.where(y == ignore_index, 0.0, smooth)
        loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    return gnp.sum(loss) / gnp.sum(weights) if reduction == "mean" else _reduced(loss, reduction)


def _weighted_nll(x: Node, y: Node, weight: tuple[Node, ...], ignore_index: int | None) -> tuple[Node, Node]:
    """−w[y]·x[y] for each example, and its weight w[y]; both 0 where the example is ignored."""
    safe = y if ignore_index is None else gnp.where(y == ignore_index, 0, y)
    weights = gnp.take(weight[0], safe) if weight else full(y.shape, 1, x.dtype)
    if ignore_index is not None:
        weights = gnp.where(y == ignore_index, 0.0, weights)
    return -weights * _picked(x, safe), weights


@function("nn.nll_loss")
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Array:
    """−input at the target class: log-probabilities (N, C, …) or (C,), integer targets, as in `cross_entropy`."""
    x, y = inexact(as_node(input)), as_node(target)
    _check_classes("nll_loss", x, y)
    given = () if weight is None else (cast(as_node(weight), x.dtype),)
    for w in given:
        _per_class(w, x)
    return _nll_loss(x, y, *given, ignore_index=ignore_index, reduction=reduction)


@composite("nll_loss")
def _nll_loss(x: Node, y: Node, *weight: Node, ignore_index: int | None, reduction: str) -> Node:
    if not weight and ignore_index is None:
        return _reduced(-_picked(x, y), reduction)
    loss, weights = _weighted_nll(x, y, weight, ignore_index)
    return gnp.sum(loss) / gnp.sum(weights) if reduction == "mean" else _reduced(loss, reduction)


# -- probabilities ----------------------------------------------------------------------------------------------------


@function("nn.binary_cross_entropy")
def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike = None, *, reduction: str = "mean"
) -> Array:
    """−(y·log p + (1 − y)·log(1 − p)) of probabilities p; logarithms not below −100, as in PyTorch."""
    p, y = _pair("binary_cross_entropy", input, target)
    return _binary_cross_entropy(p, y, *_scaled(weight), reduction=reduction)


def _scaled(weight: ArrayLike) -> tuple[Node, ...]:
    return () if weight is None else (as_node(weight),)


def _times(loss: Node, weight: tuple[Node, ...]) -> Node:
    return loss * weight[0] if weight else loss


@composite("binary_cross_entropy")
def _binary_cross_entropy(p: Node, y: Node, *weight: Node, reduction: str) -> Node:
    log_p, log_q = (gnp.maximum(f, -100.0) for f in (gnp.log(p), gnp.log1p(-p)))
    return _reduced(_times(-(y * log_p + (1 - y) * log_q), weight), reduction)


@function("nn.binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike = None,
) -> Array:
    """`binary_cross_entropy` of sigmoid(input), stable; ``pos_weight`` scales the term of the positive class."""
    z, y = _pair("binary_cross_entropy_with_logits", input, target)
    positive = as_node(1.0) if pos_weight is None else as_node(pos_weight)
    return _logistic_loss(z, y, positive, *_scaled(weight), reduction=reduction, plain=pos_weight is None)


@composite("binary_cross_entropy_with_logits")
def _logistic_loss(z: Node, y: Node, positive: Node, *weight: Node, reduction: str, plain: bool) -> Node:
    if plain:
        loss = apply(OPS["softplus"], z) - y * z
    else:
        scale = 1 + (positive - 1) * y
        loss = (1 - y) * z + scale * apply(OPS["softplus"], -z)
    return _reduced(_times(loss, weight), reduction)


@function("nn.kl_div")
def kl_div(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", log_target: Any = False) -> Array:
    """The terms y·(log y − input) of the divergence, for log-probabilities; "batchmean" divides by the first extent."""
    x, y = _pair("kl_div", input, target)
    batch = reduction == "batchmean"
    loss = _kl_div(x, y, reduction="sum" if batch else reduction, log_target=bool(log_target))
    return loss / float(x.shape[0]) if batch else loss


@composite("kl_div")
def _kl_div(x: Node, y: Node, *, reduction: str, log_target: bool) -> Node:
    if log_target:
        return _reduced(gnp.exp(y) * (y - x), reduction)
    return _reduced(apply(OPS["xlogy"], y, y) - y * x, reduction)


@function("nn.poisson_nll_loss")
def poisson_nll_loss(
    input: ArrayLike, target: ArrayLike, log_input: Any = True, *, eps: float = 1e-8, reduction: str = "mean"
) -> Array:
    """e^input − target·input, or input − target·log(input + eps) if the input is no logarithm; no Stirling term."""
    x, y = _pair("poisson_nll_loss", input, target)
    return _reduced(gnp.exp(x) - y * x if log_input else x - y * gnp.log(x + eps), reduction)


@function("nn.gaussian_nll_loss")
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    full: Any = False,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Array:
    """½(log v + (input − target)²/v) with v = max(var, eps); ``full`` adds ½·log 2π."""
    x, y = _pair("gaussian_nll_loss", input, target)
    v = gnp.maximum(inexact(as_node(var)), eps)
    loss = 0.5 * (gnp.log(v) + (x - y) * (x - y) / v)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- distances --------------------------------------------------------------------------------------------------------


@function("nn.mse_loss")
def mse_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """(input − target)²."""
    return _mse_loss(*_pair("mse_loss", input, target), reduction=reduction)


@composite("mse_loss")
def _mse_loss(x: Node, y: Node, *, reduction: str) -> Node:
    return _reduced(apply(OPS["square"], x - y), reduction)


@function("nn.l1_loss", singular="0 where prediction and target are equal")
def l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """|input − target|."""
    return _l1_loss(*_pair("l1_loss", input, target), reduction=reduction)


@composite("l1_loss")
def _l1_loss(x: Node, y: Node, *, reduction: str) -> Node:
    return _reduced(abs(x - y), reduction)


@function("nn.huber_loss")
def huber_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", delta: float = 1.0) -> Array:
    """½d² for |d| <= delta, else delta·(|d| − ½delta), with d = input − target (Huber 1964)."""
    return _huber_loss(*_pair("huber_loss", input, target), reduction=reduction, delta=delta)


@composite("huber_loss")
def _huber_loss(x: Node, y: Node, *, reduction: str, delta: float) -> Node:
    d = x - y
    size = abs(d)
    return _reduced(gnp.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta)), reduction)


@function("nn.smooth_l1_loss")
def smooth_l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", beta: float = 1.0) -> Array:
    """`huber_loss` divided by ``beta``; |input − target| for beta = 0 (Girshick 2015)."""
    x, y = _pair("smooth_l1_loss", input, target)
    if beta == 0:
        return _l1_loss(x, y, reduction=reduction)
    return _huber_loss(x, y, reduction=reduction, delta=beta) / beta
