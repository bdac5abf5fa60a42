"""Normalisation of activations and of weights.  Names, arguments and meaning of torch.nn.functional.

Enters: activations (N, C, …) or (…, features), or weights; running statistics as a state.  Leaves: an array of the same
shape, and, of what has a state, the next state.  Invariant: nothing is changed in place; who asks for new statistics
gets them as a result.  Start reading at `running_batch_norm`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Shape, finfo
from gradc.errors import ShapeError, TraceError
from gradc.nn.terms import check_not_negative
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of, shape_of
from gradc.numpy.public import Array, ArrayLike, Axes, composite, evaluated, function, is_traced
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply, cast
from gradc.random.arguments import float_dtype, known_number
from gradc.random.continuous import normal_of
from gradc.random.keys import words_of

__all__ = [
    "BatchNormState", "SpectralNormState", "batch_norm", "batch_norm_state", "group_norm", "instance_norm",
    "layer_norm", "local_response_norm", "normalize", "rms_norm", "running_batch_norm", "spectral_norm",
    "spectral_norm_state", "weight_norm",
]  # fmt: skip


# -- over a batch ------------------------------------------------------------------------------------------------------


class BatchNormState(NamedTuple):
    """Running statistics of batch normalisation: mean and unbiased variance (C,), and of how many batches, int64."""

    mean: Array
    var: Array
    count: Array


def batch_norm_state(num_features: int, dtype: Any = None) -> BatchNormState:
    """The statistics before the first batch: means 0, variances 1; float64 unless ``dtype`` says otherwise."""
    count = static_int(num_features, "num_features")
    if count < 0:
        raise ValueError(f"{here()}: nn.batch_norm_state: num_features must not be negative, got {num_features!r}")
    kind = float_dtype(dtype, "nn.batch_norm_state")
    return BatchNormState(np.zeros(count, kind), np.ones(count, kind), np.zeros((), np.int64))


@function("nn.batch_norm")
def batch_norm(
    input: ArrayLike, running_mean: ArrayLike = None, running_var: ArrayLike = None, weight: ArrayLike = None,
    bias: ArrayLike = None, training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5,
) -> Array:  # fmt: skip
    """(x − μ)/√(σ² + eps)·weight + bias for each channel of (N, C, …), (C,) parameters (Ioffe & Szegedy 2015).

    ``training=True``: μ and σ² are those of the batch, σ² the biased one; else the running statistics.  Statistics that
    move are `running_batch_norm`'s: here ``training=True`` takes none (TraceError), for nothing is changed in place.
    ``momentum`` stands in PyTorch's place and does nothing here.
    """
    x = _with_channels("batch_norm", input)
    if training and not (running_mean is None and running_var is None):
        raise TraceError(
            f"{here()}: batch_norm: training=True changes no running statistics in place.\n  Call "
            "nn.running_batch_norm(x, state, …), which returns the new ones, or leave running_mean and running_var out."
        )
    check_not_negative("batch_norm", eps=eps)
    if training:
        return _affine("batch_norm", _of_batch("batch_norm", x, eps), weight, bias)
    if running_mean is None or running_var is None:
        raise TraceError(
            f"{here()}: batch_norm: without training=True give running_mean and running_var, those of the state that "
            "nn.running_batch_norm returns"
        )
    mean, var = (_per_channel("batch_norm", what, given, x) for what, given in
                 (("running_mean", running_mean), ("running_var", running_var)))  # fmt: skip
    return _affine("batch_norm", _batch_norm_of(x, mean, var, eps=eps), weight, bias)


def running_batch_norm(
    input: ArrayLike, state: BatchNormState, weight: ArrayLike = None, bias: ArrayLike = None, training: bool = True,
    momentum: float | None = 0.1, eps: float = 1e-5,
) -> tuple[Array, BatchNormState]:  # fmt: skip
    """`batch_norm` with running statistics: returns the activations and the next state.

    ``training=True`` normalises by the batch and moves the statistics, running ← (1 − momentum)·running +
    momentum·batch, with the unbiased variance of the batch; ``momentum=None``: their plain mean over all batches.
    ``training=False`` normalises by the statistics, and returns them as they are.  No derivative goes through the new
    state.  In a training step it flows through ``gc.train_step(loss, optimizer, has_state=True)``.
    """
    given: Any = state
    if not isinstance(given, tuple) or len(given) != 3:
        raise TypeError(
            f"{here()}: running_batch_norm: state must be a BatchNormState, which nn.batch_norm_state(channels) makes, "
            f"got {type(given).__name__}"
        )
    state, share = BatchNormState(*state), known_number(momentum)
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"{here()}: running_batch_norm: momentum must be in [0, 1], or None, got {share}")
    entry = FUNCTIONS["nn.batch_norm"]
    if training:
        y = entry(input, weight=weight, bias=bias, training=True, eps=eps)
        result = y, _moved(_with_channels("running_batch_norm", input), state, momentum)
    else:
        result = entry(input, state.mean, state.var, weight, bias, eps=eps), state
    traced = is_traced((input, weight, bias, *state))
    return result if traced else (evaluated(result[0]), evaluated(result[1]))


def _moved(x: Node, state: BatchNormState, momentum: float | None) -> BatchNormState:
    axes = (0, *range(2, x.ndim))
    size = math.prod(x.shape[a] for a in axes)
    if size < 2:
        raise ShapeError(
            f"{here()}: running_batch_norm: one value per channel has no variance; give a larger batch, or "
            f"training=False.  input: {describe(x)}"
        )
    for what, part in zip(state._fields[:2], state, strict=False):
        if as_node(part).shape != (x.shape[1],):
            raise ShapeError(
                f"{here()}: running_batch_norm: state.{what} must be ({x.shape[1]},), one for each channel of "
                f"{describe(x)}, got {as_node(part).shape}"
            )
    old_mean, old_var, count = (as_node(part) for part in state)
    fixed = FUNCTIONS["stop_gradient"](cast(x, old_mean.dtype))
    mean, var = gnp.mean(fixed, axis=axes), gnp.var(fixed, axis=axes, ddof=1)
    seen = count + 1
    share = 1 / cast(seen, old_mean.dtype) if momentum is None else momentum
    mean, var = (cast(old + share * (new - old), old.dtype) for old, new in ((old_mean, mean), (old_var, var)))
    return BatchNormState(mean, var, cast(seen, count.dtype))


def _of_batch(name: str, x: Node, eps: float) -> Node:
    axes = (0, *range(2, x.ndim))
    if math.prod(x.shape[a] for a in axes) == 1:
        raise ShapeError(
            f"{here()}: {name}: one value per channel has no variance; give a larger batch, or training=False.  "
            f"input: {describe(x)}"
        )
    return _batch_norm(x, axes=axes, eps=eps)


@composite("batch_norm")
def _batch_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return _standardised(x, axes, eps)


@composite("batch_norm")
def _batch_norm_of(x: Node, mean: Node, var: Node, *, eps: float) -> Node:
    return (x - mean) * apply(OPS["rsqrt"], var + eps)


def _standardised(x: Node, axes: Shape, eps: float) -> Node:
    deviation = x - gnp.mean(x, axis=axes, keepdims=True)
    variance = gnp.mean(deviation * deviation, axis=axes, keepdims=True)
    return deviation * apply(OPS["rsqrt"], variance + eps)


# -- over the features of an example -----------------------------------------------------------------------------------


@function("nn.layer_norm")
def layer_norm(
    input: ArrayLike, normalized_shape: Any, weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Array:
    """(x − mean)/√(var + eps)·weight + bias over the last axes, of shape ``normalized_shape`` (Ba et al. 2016)."""
    x = inexact(as_node(input))
    check_not_negative("layer_norm", eps=eps)
    y = _layer_norm(x, axes=_last_axes("layer_norm", x, normalized_shape), eps=eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@composite("layer_norm")
def _layer_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return _standardised(x, axes, eps)


@function("nn.rms_norm")
def rms_norm(input: ArrayLike, normalized_shape: Any, weight: ArrayLike = None, eps: Any = None) -> Array:
    """x/√(mean x² + eps)·weight over the last axes (Zhang & Sennrich 2019); ``eps`` defaults to the dtype's epsilon."""
    x = inexact(as_node(input))
    check_not_negative("rms_norm", eps=eps)
    small = float(finfo(x.dtype).eps) if eps is None else eps
    y = _rms_norm(x, axes=_last_axes("rms_norm", x, normalized_shape), eps=small)
    return y if weight is None else y * weight


@composite("rms_norm")
def _rms_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return x * apply(OPS["rsqrt"], gnp.mean(x * x, axis=axes, keepdims=True) + eps)


def _last_axes(name: str, x: Node, normalized_shape: Any) -> Shape:
    sizes = shape_of(normalized_shape)
    if not sizes or x.shape[x.ndim - len(sizes) :] != sizes or len(sizes) > x.ndim:
        raise ShapeError(f"{here()}: {name}: normalized_shape {sizes} must be the last extents of {describe(x)}")
    return tuple(range(x.ndim - len(sizes), x.ndim))


@function("nn.group_norm")
def group_norm(
    input: ArrayLike, num_groups: int, weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Array:
    """(x − mean)/√(var + eps) over groups of channels of each example of (N, C, …), then (C,) weight and bias.

    C must be a multiple of ``num_groups`` (Wu & He 2018).
    """
    x = _with_channels("group_norm", input)
    groups = static_int(num_groups, "num_groups")
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(
            f"{here()}: group_norm: num_groups must divide the {x.shape[1]} channels of {describe(x)}, got {groups}"
        )
    check_not_negative("group_norm", eps=eps)
    split = gnp.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = gnp.reshape(_group_norm(split, axes=tuple(range(2, split.ndim)), eps=eps), x.shape)
    return _affine("group_norm", y, weight, bias)


@composite("group_norm")
def _group_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return _standardised(x, axes, eps)


@function("nn.instance_norm")
def instance_norm(
    input: ArrayLike, running_mean: ArrayLike = None, running_var: ArrayLike = None, weight: ArrayLike = None,
    bias: ArrayLike = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Array:  # fmt: skip
    """(x − mean)/√(var + eps) over each channel of each example of (N, C, …), then (C,) weight and bias.

    ``use_input_stats=False``: by running_mean and running_var (C,) (Ulyanov et al. 2016).  With the input's own
    statistics it takes no running ones (TraceError), for nothing is changed in place.  ``momentum`` stands in PyTorch's
    place and does nothing.
    """
    x = _with_channels("instance_norm", input)
    check_not_negative("instance_norm", eps=eps)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise TraceError(f"{here()}: instance_norm: use_input_stats=False needs running_mean and running_var")
        mean, var = (_per_channel("instance_norm", what, given, x) for what, given in
                     (("running_mean", running_mean), ("running_var", running_var)))  # fmt: skip
        return _affine("instance_norm", _batch_norm_of(x, mean, var, eps=eps), weight, bias)
    if not (running_mean is None and running_var is None):
        raise TraceError(
            f"{here()}: instance_norm: use_input_stats=True changes no running statistics in place; leave running_mean "
            "and running_var out"
        )
    if math.prod(x.shape[2:]) < 2:
        raise ShapeError(f"{here()}: instance_norm: channels need more than one value each, got {describe(x)}")
    return _affine("instance_norm", _instance_norm(x, axes=tuple(range(2, x.ndim)), eps=eps), weight, bias)


@composite("instance_norm")
def _instance_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return _standardised(x, axes, eps)


@function("nn.local_response_norm")
def local_response_norm(input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """x/(k + alpha·mean of x² over ``size`` neighbouring channels)^beta, of (N, C, …) (Krizhevsky et al. 2012).

    Channels beyond the first and the last count as zeros; ⌊size/2⌋ of the neighbours stand before.
    """
    x = _with_channels("local_response_norm", input, 3)
    count = static_int(size, "size")
    if count < 1:
        raise ValueError(f"{here()}: local_response_norm: size must be at least 1, got {size!r}")
    widths = [(0, 0), (count // 2, (count - 1) // 2), *[(0, 0)] * (x.ndim - 2)]
    around = FUNCTIONS["pad"](x * x, widths)
    seen = OPS["windows"].make((around,), axes=(1,), sizes=(count,), strides=(1,), dilations=(1,))
    return x / (reduced("sum", seen, (x.ndim,)) * (alpha / count) + k) ** beta


@function("nn.normalize")
def normalize(input: ArrayLike, p: float = 2.0, dim: Axes = 1, eps: float = 1e-12) -> Array:
    """x / max(‖x‖ₚ, eps) along ``dim``."""
    x = inexact(as_node(input))
    check_not_negative("normalize", eps=eps)
    if p == 2:
        size = reduced("norm", x, axes_of(dim, x), True)
    else:
        size = FUNCTIONS["linalg.vector_norm"](x, axis=dim, ord=p, keepdims=True)
    return x / gnp.maximum(size, eps)


# -- of weights --------------------------------------------------------------------------------------------------------


@function("nn.weight_norm")
def weight_norm(v: ArrayLike, g: ArrayLike, dim: int | None = 0) -> Array:
    """g·v/‖v‖, the norm over all axes but ``dim``, or over all for None (Salimans & Kingma 2016).

    ``g`` has the extent of ``v`` along ``dim``, or that shape with 1 elsewhere; one number for None.
    """
    x, size = inexact(as_node(v)), as_node(g)
    axis = None if dim is None else axis_of(dim, x)
    kept = tuple(n if k == axis else 1 for k, n in enumerate(x.shape))
    if size.shape != kept and size.shape != tuple(x.shape[k] for k in [axis] if k is not None):
        raise ShapeError(
            f"{here()}: weight_norm: g must be {kept}, the norms of v for dim={dim}.\n"
            f"  operands: {describe(x)}; {describe(size)}"
        )
    norm = reduced("norm", x, tuple(k for k in range(x.ndim) if k != axis), True)
    return x * (gnp.reshape(size, kept) / norm)


class SpectralNormState(NamedTuple):
    """The singular vectors that power iteration has found so far: u of the rows, v of the columns; unit vectors."""

    u: Array
    v: Array


def spectral_norm_state(weight: ArrayLike, key: ArrayLike, dim: int = 0) -> SpectralNormState:
    """Random unit vectors for a weight of this shape and dtype; see `spectral_norm`."""
    w = inexact(as_node(weight))
    rows = w.shape[axis_of(dim, w)]
    drawn = normal_of(words_of(key, "nn.spectral_norm_state"), (rows + w.size // max(rows, 1),), w.dtype)
    state = SpectralNormState(*(_unit(part, 1e-12) for part in (drawn[:rows], drawn[rows:])))
    return state if is_traced((weight, key)) else evaluated(state)


def spectral_norm(
    weight: ArrayLike, state: SpectralNormState, n_power_iterations: int = 1, eps: float = 1e-12, dim: int = 0,
    training: bool = True,
) -> tuple[Array, SpectralNormState]:  # fmt: skip
    """weight/σ with σ the largest singular value of the weight as a matrix of rows ``dim`` (Miyato et al. 2018).

    Returns it and the next state: σ = u·W·v, with v ← Wᵀu/‖Wᵀu‖ and u ← W·v/‖W·v‖ ``n_power_iterations`` times, none
    with ``training=False``.  u and v count as constants of the derivative.
    """
    given: Any = state
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(
            f"{here()}: spectral_norm: state must be a SpectralNormState, which nn.spectral_norm_state(weight, key) "
            f"makes, got {type(given).__name__}"
        )
    check_not_negative("spectral_norm", eps=eps)
    w, (u, v) = inexact(as_node(weight)), (as_node(part) for part in state)
    axis, steps = axis_of(dim, w), static_int(n_power_iterations, "n_power_iterations")
    rows: Any = gnp.reshape(gnp.moveaxis(w, axis, 0), (w.shape[axis], -1))
    if u.shape != rows.shape[:1] or v.shape != rows.shape[1:]:
        raise ShapeError(
            f"{here()}: spectral_norm: of a weight {w.shape} and dim={dim} the state is u ({rows.shape[0]},) and v "
            f"({rows.shape[1]},), got {u.shape} and {v.shape}"
        )
    if steps < 1:
        raise ValueError(f"{here()}: spectral_norm: n_power_iterations must be at least 1, got {n_power_iterations!r}")
    fixed = FUNCTIONS["stop_gradient"](rows)
    u, v = (FUNCTIONS["stop_gradient"](part) for part in (u, v))
    for _ in range(steps if training else 0):
        v = _unit(FUNCTIONS["matmul"](u, fixed), eps)
        u = _unit(FUNCTIONS["matmul"](fixed, v), eps)
    largest = FUNCTIONS["matmul"](u, FUNCTIONS["matmul"](rows, v))
    result = w / largest, SpectralNormState(u, v)
    return result if is_traced((weight, *state)) else (evaluated(result[0]), evaluated(result[1]))


def _unit(x: Any, eps: float) -> Any:
    return x / gnp.maximum(reduced("norm", x, (0,)), eps)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _with_channels(name: str, input: ArrayLike, least: int = 2) -> Node:
    x = inexact(as_node(input))
    if x.ndim < least:
        raise ShapeError(f"{here()}: {name}: input is (N, C, …) of at least {least} axes, got {describe(x)}")
    return x


def _per_channel(name: str, what: str, given: ArrayLike, x: Node) -> Node:
    """An array (C,) in the shape in which it meets (N, C, …)."""
    node = as_node(given)
    if node.shape != (x.shape[1],):
        raise ShapeError(
            f"{here()}: {name}: {what} must be ({x.shape[1]},), one for each channel.\n"
            f"  operands: {describe(x)}; {describe(node)}"
        )
    return gnp.reshape(node, (-1, *[1] * (x.ndim - 2)))


def _affine(name: str, y: Any, weight: ArrayLike, bias: ArrayLike) -> Any:
    y = y if weight is None else y * _per_channel(name, "weight", weight, y)
    return y if bias is None else y + _per_channel(name, "bias", bias, y)
