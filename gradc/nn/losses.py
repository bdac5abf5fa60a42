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
from gradc.nn.terms import (
    as_index,
    check_classes,
    check_not_negative,
    check_positive,
    class_weights,
    known_value,
    pair,
    reduced_loss,
    weighted_loss,
)  # fmt: skip
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full, iota
from gradc.ops.reductions import below_maximum
from gradc.random.arguments import known_number

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "log_cosh_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "quantile_loss",
    "smooth_l1_loss",
]  # fmt: skip

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

    A target of the shape of the logits holds class probabilities, floats, or 0 and 1 of any dtype (one-hot).
    ``weight`` (C,) weights the classes; "mean" divides by the weights of the targets.  Targets equal to
    ``ignore_index`` do not count; unlike in PyTorch there is none by default.  ShapeError or DTypeError if the
    target is neither.
    """
    z, y = inexact(as_node(input)), as_node(target)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{here()}: cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    given = _given_weights("cross_entropy", weight, z)
    if (y.aval.is_float and y.shape != _without_classes(z)) or (y.shape == z.shape and y.ndim):
        if ignore_index is not None:
            raise ValueError(
                f"{here()}: cross_entropy: ignore_index={ignore_index} needs integer targets of classes; of class "
                f"probabilities, make those of an example 0 to ignore it.\n  operand: {describe(y)}"
            )
        pair("cross_entropy with class probabilities", z, y)
        return _soft_cross_entropy(z, y, *given, reduction=reduction, label_smoothing=label_smoothing)
    y = _checked_classes("cross_entropy", z, y, ignore_index)
    if weight is None and ignore_index is None:
        return _cross_entropy(z, y, reduction=reduction, label_smoothing=label_smoothing)
    return _weighted_cross_entropy(
        z, y, *given, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def _class_axis(z: Node) -> int:
    return 1 if z.ndim > 1 else 0


def _without_classes(z: Node) -> tuple[int, ...]:
    axis = _class_axis(z)
    return z.shape[:axis] + z.shape[axis + 1 :]


def _checked_classes(name: str, z: Node, y: Node, ignored: int | None) -> Node:
    """Classes as int64, in which ``ignored`` can be said whatever integers they were."""
    if y.dtype.kind not in "iu":
        remedy = "; classes that are floats need .astype(int)" if y.aval.is_float else ""
        raise DTypeError(
            f"{here()}: {name}: targets must be integer classes or class probabilities, got {describe(y)}{remedy}"
        )
    if z.ndim == 0 or y.shape != _without_classes(z):
        raise ShapeError(
            f"{here()}: {name}: input {z.shape} is (N, C, …), so integer targets must be "
            f"{_without_classes(z)}, got {y.shape}.\n  operands: {describe(z)}; {describe(y)}"
        )
    check_classes(name, y, z.shape[_class_axis(z)], ignored, ignorable=True)
    return cast(y, np.int64)


def _given_weights(name: str, weight: ArrayLike, z: Node) -> tuple[Node, ...]:
    """Class weights as floats of the logits' dtype, if there are any."""
    if weight is None:
        return ()
    return (cast(class_weights(name, weight, z.shape[_class_axis(z)] if z.ndim else 0), z.dtype),)


def _picked(z: Node, y: Node) -> Node:
    """z[n, y[n, …], …]: the element of each example at its class; a negative class is out of range, not the last."""
    axis = _class_axis(z)
    others = iter(range(y.ndim))
    index = [as_index(y) if k == axis else iota(y.shape, next(others)) for k in range(z.ndim)]
    return OPS["gather"].make((z, *index), axes=tuple(range(z.ndim)))


@composite("cross_entropy")
def _cross_entropy(z: Node, y: Node, *, reduction: str, label_smoothing: float) -> Node:
    axes = (_class_axis(z),)
    shifted = below_maximum(z, axes)
    hit = _picked(shifted, y)
    if label_smoothing:
        hit = (1 - label_smoothing) * hit + label_smoothing * gnp.mean(shifted, axis=axes)
    return reduced_loss(reduced("logsumexp", shifted, axes) - hit, reduction)


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
        return reduced_loss(loss, reduction)
    return gnp.sum(loss) / float(loss.size)


def _per_class(weight: Node, z: Node) -> Node:
    """Class weights shown along the class axis of ``z``."""
    axis = _class_axis(z)
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
    return gnp.sum(loss) / gnp.sum(weights) if reduction == "mean" else reduced_loss(loss, reduction)


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
    y = _checked_classes("nll_loss", x, y, ignore_index)
    given = _given_weights("nll_loss", weight, x)
    return _nll_loss(x, y, *given, ignore_index=ignore_index, reduction=reduction)


@composite("nll_loss")
def _nll_loss(x: Node, y: Node, *weight: Node, ignore_index: int | None, reduction: str) -> Node:
    if not weight and ignore_index is None:
        return reduced_loss(-_picked(x, y), reduction)
    loss, weights = _weighted_nll(x, y, weight, ignore_index)
    return gnp.sum(loss) / gnp.sum(weights) if reduction == "mean" else reduced_loss(loss, reduction)


# -- probabilities ----------------------------------------------------------------------------------------------------


@function("nn.binary_cross_entropy")
def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike = None, *, reduction: str = "mean"
) -> Array:
    """−(y·log p + (1 − y)·log(1 − p)) of probabilities p; logarithms not below −100, as in PyTorch."""
    p, y = pair("binary_cross_entropy", input, target)
    return _binary_cross_entropy(p, y, *_scaled(weight), reduction=reduction)


def _scaled(weight: ArrayLike) -> tuple[Node, ...]:
    return () if weight is None else (as_node(weight),)


def _times(loss: Node, weight: tuple[Node, ...]) -> Node:
    return loss * weight[0] if weight else loss


@composite("binary_cross_entropy")
def _binary_cross_entropy(p: Node, y: Node, *weight: Node, reduction: str) -> Node:
    log_p, log_q = (gnp.maximum(f, -100.0) for f in (gnp.log(p), gnp.log1p(-p)))
    return reduced_loss(_times(-(y * log_p + (1 - y) * log_q), weight), reduction)


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
    z, y = pair("binary_cross_entropy_with_logits", input, target)
    positive = as_node(1.0) if pos_weight is None else as_node(pos_weight)
    return _logistic_loss(z, y, positive, *_scaled(weight), reduction=reduction, plain=pos_weight is None)


@composite("binary_cross_entropy_with_logits")
def _logistic_loss(z: Node, y: Node, positive: Node, *weight: Node, reduction: str, plain: bool) -> Node:
    if plain:
        loss = apply(OPS["softplus"], z) - y * z
    else:
        scale = 1 + (positive - 1) * y
        loss = (1 - y) * z + scale * apply(OPS["softplus"], -z)
    return reduced_loss(_times(loss, weight), reduction)


@function("nn.kl_div", wide=True)
def kl_div(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", log_target: Any = False) -> Array:
    """The terms y·(log y − input) of the divergence, for log-probabilities; "batchmean" divides by the first extent."""
    x, y = pair("kl_div", input, target)
    if reduction not in ("batchmean", "mean", "sum", "none"):
        raise ValueError(f"{here()}: kl_div: reduction must be 'batchmean', 'mean', 'sum' or 'none', got {reduction!r}")
    batch = reduction == "batchmean"
    loss = _kl_div(x, y, reduction="sum" if batch else reduction, log_target=bool(log_target))
    return loss / float(x.shape[0]) if batch else loss


@composite("kl_div")
def _kl_div(x: Node, y: Node, *, reduction: str, log_target: bool) -> Node:
    if log_target:
        return reduced_loss(gnp.exp(y) * (y - x), reduction)
    return reduced_loss(apply(OPS["xlogy"], y, y) - y * x, reduction)


@function("nn.poisson_nll_loss", wide=True)
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    log_input: Any = True,
    full: Any = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Array:
    """e^input − target·input, or input − target·log(input + eps) if the input is no logarithm.

    ``full`` adds Stirling's formula for log target!, y·log y − y + ½·log 2πy, for targets y above 1.
    """
    check_not_negative("poisson_nll_loss", eps=eps)
    x, y = pair("poisson_nll_loss", input, target)
    loss = gnp.exp(x) - y * x if log_input else x - y * gnp.log(x + eps)
    if full:
        counted = gnp.where(y > 1, y, 1.0)
        stirling = y * gnp.log(counted) - y + 0.5 * gnp.log(2 * math.pi * counted)
        loss = loss + gnp.where(y > 1, stirling, 0.0)
    return reduced_loss(loss, reduction)


@function("nn.gaussian_nll_loss", singular="that at eps where the variance is smaller", wide=True)
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    full: Any = False,
    *,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Array:
    """½(log v + (input − target)²/v) with v = max(var, eps); ``full`` adds ½·log 2π (Nix & Weigend 1994).

    ``var`` has the shape of the input, or lacks its last axis, or has there the extent 1, or is one number.  As in
    PyTorch the derivative does not see the maximum: where var < eps it is that at v = eps, not 0.
    """
    x, y = pair("gaussian_nll_loss", input, target)
    check_positive("gaussian_nll_loss", eps=eps)
    given = inexact(as_node(var))
    if given.ndim and given.shape == x.shape[:-1]:
        given = gnp.expand_dims(given, -1)
    if given.shape not in ((), x.shape, (*x.shape[:-1], 1)):
        raise ShapeError(
            f"{here()}: gaussian_nll_loss: var must have the shape {x.shape} of the input or {x.shape[:-1]}, or be a "
            f"number.\n  operands: {describe(x)}; {describe(given)}"
        )
    known = known_value(given)
    if known is not None and np.any(known < 0):
        raise ValueError(f"{here()}: gaussian_nll_loss: var must not be negative, got {np.min(known)}")
    v = gnp.where(given < eps, eps + (given - FUNCTIONS["stop_gradient"](given)), given)
    loss = 0.5 * (gnp.log(v) + (x - y) * (x - y) / v)
    return reduced_loss(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- distances --------------------------------------------------------------------------------------------------------


@function("nn.mse_loss", wide=True)
def mse_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", weight: ArrayLike = None) -> Array:
    """(input − target)²; with ``weight`` of the same shape "mean" is Σ w·l/Σ w."""
    x, y = pair("mse_loss", input, target)
    if weight is None:
        return _mse_loss(x, y, reduction=reduction)
    return weighted_loss("mse_loss", apply(OPS["square"], x - y), weight, reduction)


@composite("mse_loss")
def _mse_loss(x: Node, y: Node, *, reduction: str) -> Node:
    return reduced_loss(apply(OPS["square"], x - y), reduction)


@function("nn.l1_loss", singular="0 where prediction and target are equal", wide=True)
def l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", weight: ArrayLike = None) -> Array:
    """|input − target|; with ``weight`` of the same shape "mean" is Σ w·l/Σ w."""
    x, y = pair("l1_loss", input, target)
    if weight is None:
        return _l1_loss(x, y, reduction=reduction)
    return weighted_loss("l1_loss", abs(x - y), weight, reduction)


@composite("l1_loss")
def _l1_loss(x: Node, y: Node, *, reduction: str) -> Node:
    return reduced_loss(abs(x - y), reduction)


@function("nn.huber_loss", wide=True)
def huber_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", delta: float = 1.0, weight: ArrayLike = None
) -> Array:
    """½d² for |d| <= delta, else delta·(|d| − ½delta), with d = input − target (Huber 1964); delta > 0.

    ``weight`` has the same shape; "mean" is then the mean of w·l, as in PyTorch, not over Σ w as in `mse_loss`.
    """
    check_positive("huber_loss", delta=delta)
    x, y = pair("huber_loss", input, target)
    if weight is None:
        return _huber_loss(x, y, reduction=reduction, delta=delta)
    loss = weighted_loss("huber_loss", _huber_loss(x, y, reduction="none", delta=delta), weight, "none")
    return reduced_loss(loss, reduction)


@composite("huber_loss")
def _huber_loss(x: Node, y: Node, *, reduction: str, delta: float) -> Node:
    d = x - y
    size = abs(d)
    return reduced_loss(gnp.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta)), reduction)


@function("nn.smooth_l1_loss", wide=True)
def smooth_l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", beta: float = 1.0) -> Array:
    """`huber_loss` divided by ``beta``; |input − target| for beta = 0 (Girshick 2015)."""
    x, y = pair("smooth_l1_loss", input, target)
    if known_number(beta) == 0:
        return _l1_loss(x, y, reduction=reduction)
    check_positive("smooth_l1_loss", beta=beta)
    return _huber_loss(x, y, reduction=reduction, delta=beta) / beta


@function("nn.log_cosh_loss")
def log_cosh_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """log cosh d, d = input − target: ½d² near 0, |d| − log 2 far away, with the derivative tanh d.

    Neither overflows nor cancels: log(1 + 2·sinh²(d/2)) for |d| < 1, else |d| + log(1 + e^(−2|d|)) − log 2.
    """
    return _log_cosh_loss(*pair("log_cosh_loss", input, target), reduction=reduction)


@composite("log_cosh_loss")
def _log_cosh_loss(x: Node, y: Node, *, reduction: str) -> Node:
    d = x - y
    size = abs(d)
    near = gnp.where(size < 1, d, 0.0)  # the branch not taken must not overflow
    small = gnp.log1p(2.0 * apply(OPS["square"], gnp.sinh(0.5 * near)))
    large = size + gnp.log1p(gnp.exp(-2.0 * size)) - math.log(2)
    return reduced_loss(gnp.where(size < 1, small, large), reduction)


@function("nn.quantile_loss", singular="that of a prediction too large where both are equal", wide=True)
def quantile_loss(input: ArrayLike, target: ArrayLike, q: ArrayLike = 0.5, *, reduction: str = "mean") -> Array:
    """The pinball loss max(q·d, (q − 1)·d), d = target − input: least at the q-quantile (Koenker & Bassett 1978).

    ``q`` in (0, 1) is one number, or an array that broadcasts to the input: one for each of its columns, for instance.
    """
    x, y = pair("quantile_loss", input, target)
    level = as_node(q)
    known = np.asarray(q) if not isinstance(q, Node) else np.full((), 0.5)
    if not np.all((known > 0) & (known < 1)):
        raise ValueError(f"{here()}: quantile_loss: q must lie between 0 and 1, got {q!r:.60}")
    d = y - x
    loss = gnp.where(d > 0, level * d, (level - 1) * d)
    if loss.shape != x.shape:
        raise ShapeError(
            f"{here()}: quantile_loss: q {level.shape} must broadcast to the input {x.shape}.\n"
            f"  operands: {describe(x)}; {describe(level)}"
        )
    return reduced_loss(loss, reduction)
