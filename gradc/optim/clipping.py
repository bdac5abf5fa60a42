"""What is done to gradients before an optimizer sees them: clipped, centred, cleaned; and what is added to updates.

Start reading at `clip_by_global_norm`; weight decay and its kin are at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import leaves_of
from gradc.node import here
from gradc.optim.layerwise import rms
from gradc.optim.masking import masked
from gradc.optim.rules import (
    EmptyState,
    Optimizer,
    Scalar,
    Tree,
    called,
    global_norm,
    is_zero,
    joint_norm,
    norm,
    number,
    rule,
    times,
    wide,
)

Axes = int | tuple[int, ...] | None


# -- clipped -----------------------------------------------------------------------------------------------------------


@called
def clip(max_delta: Scalar) -> Optimizer:
    """Each element of the gradients between −max_delta and max_delta."""
    return rule(_clip, max_delta=max_delta)


def _clip(g: Any, p: Any, s: EmptyState, max_delta: Any) -> tuple[Any, EmptyState]:
    return gnp.clip(g, -max_delta, max_delta), s


@called
def clip_by_block_rms(threshold: Scalar) -> Optimizer:
    """Each array over max(1, its root mean square/threshold)."""
    return rule(_clip_rms, threshold=threshold)


def _clip_rms(g: Any, p: Any, s: EmptyState, threshold: Any) -> tuple[Any, EmptyState]:
    return g / gnp.maximum(1.0, rms(g) / threshold), s


@called
def clip_by_global_norm(max_norm: Scalar) -> Optimizer:
    """Scale all gradients together so that their joint Euclidean norm is at most ``max_norm`` (Pascanu et al. 2013)."""
    return rule(_clip_norm, whole=True, max_norm=max_norm)


def _clip_norm(g: Tree, p: Tree, s: EmptyState, max_norm: Any) -> tuple[Tree, EmptyState]:
    size = global_norm(g)
    factor = number(gnp.where(size > max_norm, max_norm / gnp.where(size > 0, size, 1), 1))
    return times(g, factor), s


@called
def adaptive_grad_clip(clipping: Scalar, eps: Scalar = 1e-3, axis: Axes = None) -> Optimizer:
    """Each unit's gradient at most ``clipping`` times as long as its weights, or as ``eps`` if those are shorter.

    (Brock et al. 2021.)  A unit is what is left of an array without the axes ``axis``; by default vectors are one unit,
    the axis 0 of arrays with two or three axes and all but the last of longer ones are summed.
    """
    axes = None if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    return rule(partial(_clip_adaptively, axes), wants=("params",), clipping=clipping, eps=eps)


def _clip_adaptively(axes: Axes, g: Any, p: Any, s: EmptyState, clipping: Any, eps: Any) -> tuple[Any, EmptyState]:
    longest = clipping * gnp.maximum(unitwise_norm(p, axes), eps)
    length = unitwise_norm(g, axes)
    return gnp.where(length < longest, g, g * (longest / gnp.maximum(length, 1e-6))), s


def unitwise_norm(x: Any, axis: Axes = None) -> Any:
    """The norm of each unit of an array, see `adaptive_grad_clip`; summed axes are kept with length 1."""
    shape = gnp.shape(x)
    if axis is None:
        long = [n for n in shape if n != 1]
        axis = None if len(long) <= 1 else (0,) if len(shape) <= 3 else tuple(range(len(shape) - 1))
    return norm(x, axis, keepdims=True)


# -- one gradient per example ------------------------------------------------------------------------------------------


def per_example_global_norm_clip(grads: Tree, l2_norm_clip: Any) -> tuple[Tree, Any]:
    """The sum over examples of gradients that were clipped one by one, and how many were.

    Each leaf of ``grads`` has the examples along axis 0, as ``gc.vmap(gc.grad(loss), (None, 0))`` gives them.
    """
    leaves = [wide(g) for g in leaves_of(grads)[0]]
    count = _examples(leaves)
    sizes = joint_norm([norm(gnp.reshape(g, (count, -1)), axis=1) for g in leaves])
    scales = gnp.where(sizes > l2_norm_clip, l2_norm_clip / gnp.where(sizes > 0, sizes, 1.0), 1.0)
    summed = [gnp.tensordot(gnp.astype(scales, gnp.result_type(g)), g, axes=1) for g in leaves]
    return leaves_of(grads)[1].of_arrays.unflatten(summed), gnp.sum(scales < 1)


def _examples(leaves: list[Any]) -> int:
    """How many examples there are; ValueError if there is no common axis 0."""
    counts = {gnp.shape(g)[0] if gnp.ndim(g) else None for g in leaves}
    if len(counts) != 1 or None in counts:
        shapes = ", ".join(str(gnp.shape(g)) for g in leaves)
        raise ValueError(
            f"{here()}: gradients of single examples have the examples along axis 0, got shapes {shapes}; "
            "gc.vmap(gc.grad(loss), (None, 0)) makes them"
        )
    (count,) = counts
    return int(count or 0)


# -- centred and cleaned -----------------------------------------------------------------------------------------------


@called
def centralize() -> Optimizer:
    """Gradients of arrays with two or more axes minus their mean over all but the first (Yong et al. 2020)."""
    return rule(_centred)


def _centred(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    axes = tuple(range(1, gnp.ndim(g)))
    return (g - gnp.mean(g, axis=axes, keepdims=True) if axes and 0 not in g.shape else g), s


class NansState(NamedTuple):
    found_nan: Tree  #: for each parameter, whether its last gradient had a NaN


@called
def zero_nans() -> Optimizer:
    """0 in place of each NaN; the state tells which gradients had one."""
    return rule(_no_nans, NansState, start={"found_nan": _false})


def _false(p: Any) -> Any:
    return np.zeros((), np.bool_)


def _no_nans(g: Any, p: Any, s: NansState) -> tuple[Any, NansState]:
    bad = gnp.isnan(g)
    return gnp.where(bad, 0.0, g), NansState(gnp.any(bad))


@called
def normalize() -> Optimizer:
    """All gradients over their joint norm; as they are where that is 0."""
    return rule(_normalized, whole=True)


def _normalized(g: Tree, p: Tree, s: EmptyState) -> tuple[Tree, EmptyState]:
    size = global_norm(g)
    factor = number(1 / gnp.where(size > 0, size, 1))
    return times(g, factor), s


@called
def normalize_by_update_norm(scale_factor: Scalar = 1.0, eps: Scalar = 1e-6) -> Optimizer:
    """All updates times scale_factor/(their joint norm + ε)."""
    return rule(_by_norm, whole=True, scale_factor=scale_factor, eps=eps)


def _by_norm(g: Tree, p: Tree, s: EmptyState, scale_factor: Any, eps: Any) -> tuple[Tree, EmptyState]:
    factor = number(scale_factor / (global_norm(g) + eps))
    return times(g, factor), s


# -- weights that shrink -----------------------------------------------------------------------------------------------


@called
def add_decayed_weights(weight_decay: Scalar = 0.0, mask: Tree | Callable[[Tree], Tree] | None = None) -> Optimizer:
    """Add weight_decay · params to the updates; ``mask`` (a tree of bools, or a function of params) selects leaves.

    Before an optimizer's own rule this is the gradient of an L2 penalty; behind it, before the learning rate, it is
    decoupled decay (Loshchilov & Hutter 2019).
    """
    made = rule(_weight_decay, wants=("params",), weight_decay=weight_decay)
    return made if mask is None else masked(made, mask)


def _weight_decay(g: Any, p: Any, s: EmptyState, weight_decay: Any) -> tuple[Any, EmptyState]:
    return (g if is_zero(weight_decay) else g + weight_decay * p), s


@called
def add_l1(penalty: Scalar, mask: Tree | Callable[[Tree], Tree] | None = None) -> Optimizer:
    """Add penalty · sign(params) to the updates: the gradient of penalty·Σ|p|, which stops short of exact zeros.

    `proximal_l1` reaches them.
    """
    made = rule(_l1, wants=("params",), penalty=penalty)
    return made if mask is None else masked(made, mask)


def _l1(g: Any, p: Any, s: EmptyState, penalty: Any) -> tuple[Any, EmptyState]:
    return g + penalty * gnp.sign(p), s


@called
def proximal_l1(
    l1: Scalar, learning_rate: Scalar, l2: Scalar = 0.0, mask: Tree | Callable[[Tree], Tree] | None = None
) -> Optimizer:
    """The last of a chain: the proximal step of the elastic net l1·Σ|p| + l2/2·Σp² (Parikh & Boyd 2014, 6.5.2).

    p ← sign(q)·max(|q| − η·l1, 0)/(1 + η·l2), where q is p with the updates added and η the learning rate of the step.
    Behind `sgd` this is ISTA, and weights become exactly 0.
    """
    made = rule(_proximal, wants=("params",), l1=l1, l2=l2, learning_rate=learning_rate)
    return made if mask is None else masked(made, mask)


def _proximal(g: Any, p: Any, s: EmptyState, l1: Any, l2: Any, learning_rate: Any) -> tuple[Any, EmptyState]:
    q = p + g
    shrunk = gnp.sign(q) * gnp.maximum(gnp.abs(q) - learning_rate * l1, 0.0) / (1 + learning_rate * l2)
    return shrunk - p, s


@called
def keep_params_nonnegative() -> Optimizer:
    """The last of a chain: an element that an update would take below 0 becomes 0."""
    return rule(_not_below_zero, wants=("params",))


def _not_below_zero(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return gnp.where(p + g < 0, -p, g), s


__all__ = [
    "adaptive_grad_clip", "add_decayed_weights", "add_l1", "centralize", "clip", "clip_by_block_rms",
    "clip_by_global_norm", "global_norm", "keep_params_nonnegative", "normalize", "normalize_by_update_norm",
    "per_example_global_norm_clip", "proximal_l1", "unitwise_norm", "zero_nans",
]  # fmt: skip
