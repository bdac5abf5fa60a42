"""Rules that look at a parameter as a whole: its norm, its rows and columns, its singular values.

Each is a step function that reads like its paper and the public name that makes an `Optimizer` of it.  Letters: g
gradient, p parameter, m first moment, v second moment, t number of the step.  Start reading at `scale_by_trust_ratio`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.node import here
from gradc.optim.rules import (
    DType,
    EmptyState,
    Optimizer,
    Scalar,
    Tree,
    bias_correction,
    called,
    is_zero,
    norm,
    number,
    plus,
    rule,
    scalar_like,
)


def rms(x: Any, at_least: Any = 0.0) -> Any:
    """√(mean x²), or ``at_least`` if that is larger; of no elements, ``at_least``."""
    return _at_least(norm(x) / max(gnp.size(x), 1) ** 0.5, at_least)


def _at_least(size: Any, least: Any) -> Any:
    return size if is_zero(least) else gnp.maximum(size, least)


# -- norms -------------------------------------------------------------------------------------------------------------


@called
def scale_by_trust_ratio(min_norm: Scalar = 0.0, trust_coefficient: Scalar = 1.0, eps: Scalar = 0.0) -> Optimizer:
    """Each update times trust_coefficient·‖p‖/(‖u‖ + ε), times 1 if either norm is 0 (You, Gitman & Ginsburg 2017)."""
    return rule(_trust_ratio, wants=("params",), min_norm=min_norm, trust_coefficient=trust_coefficient, eps=eps)


def _trust_ratio(
    g: Any, p: Any, s: EmptyState, min_norm: Any, trust_coefficient: Any, eps: Any
) -> tuple[Any, EmptyState]:
    of_p, of_g = (_at_least(norm(x), min_norm) for x in (p, g))
    known = (of_p != 0) & (of_g != 0)
    return g * gnp.where(known, trust_coefficient * of_p / gnp.where(known, plus(of_g, eps), 1.0), 1.0), s


@called
def scale_by_param_block_norm(min_scale: Scalar = 1e-3) -> Optimizer:
    """Each update times the norm of its parameter, or ``min_scale`` if that is larger."""
    return rule(_param_norm, wants=("params",), min_scale=min_scale)


def _param_norm(g: Any, p: Any, s: EmptyState, min_scale: Any) -> tuple[Any, EmptyState]:
    return g * _at_least(norm(p), min_scale), s


@called
def scale_by_param_block_rms(min_scale: Scalar = 1e-3) -> Optimizer:
    """Each update times the root mean square of its parameter, or ``min_scale`` if that is larger."""
    return rule(_param_rms, wants=("params",), min_scale=min_scale)


def _param_rms(g: Any, p: Any, s: EmptyState, min_scale: Any) -> tuple[Any, EmptyState]:
    return g * rms(p, min_scale), s


class NovogradState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running sum of normalised gradients
    v: Tree  #: running mean of ‖g‖², one number for each parameter


@called
def scale_by_novograd(
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mu_dtype: DType = None,
) -> Optimizer:
    """m ← b1·m + g/(√v + ε) + weight_decay·p, v a mean of ‖g‖² from the first on (Ginsburg et al. 2019)."""
    return rule(
        _novograd, NovogradState, start={"v": _nought}, wants=("params",), dtypes={"m": mu_dtype}, b1=b1, b2=b2,
        eps=eps, eps_root=eps_root, weight_decay=weight_decay,
    )  # fmt: skip


def _nought(p: Any) -> Any:
    return scalar_like(0.0, p)


def _novograd(
    g: Any, p: Any, s: NovogradState, b1: Any, b2: Any, eps: Any, eps_root: Any, weight_decay: Any
) -> tuple[Any, NovogradState]:
    size = gnp.sum(gnp.square(g))
    v = gnp.where(s.t == 1, size, b2 * s.v + (1 - b2) * size)
    m = b1 * s.m + (g / (gnp.sqrt(plus(v, eps_root)) + eps) + weight_decay * p)
    return m, s._replace(m=m, v=v)


# -- rows and columns --------------------------------------------------------------------------------------------------


class Sm3State(NamedTuple):
    m: Tree  #: running mean of the updates
    v: Tree  #: for each parameter a tuple: for each axis, the largest accumulator of each slice


@called
def scale_by_sm3(b1: Scalar = 0.9, b2: Scalar = 1.0, eps: Scalar = 1e-8) -> Optimizer:
    """AdaGrad whose sums are kept for each row and column alone (Anil et al. 2019, SM3-II).

    An element's sum is bounded by the smallest of the slices that it stands in: memory for the sum of the sizes of the
    axes in place of their product.  ``b2`` < 1 makes means of the sums.
    """
    return rule(_sm3, Sm3State, start={"v": _slices}, b1=b1, b2=b2, eps=eps)


def _slices(p: Any) -> tuple[Any, ...]:
    zero = scalar_like(0.0, p)
    return tuple(gnp.zeros(n, zero.dtype) for n in gnp.shape(p)) or (zero,)


def _sm3(g: Any, p: Any, s: Sm3State, b1: Any, b2: Any, eps: Any) -> tuple[Any, Sm3State]:
    axes = range(g.ndim if hasattr(g, "ndim") else 0)
    spread = [gnp.reshape(v, tuple(-1 if a == i else 1 for a in axes)) for i, v in enumerate(s.v)] if axes else s.v
    new = 1.0 if is_zero(1 - b2) else 1 - b2
    v = new * gnp.square(g) + b2 * reduce(gnp.minimum, spread)
    u = gnp.where(v == 0, 0.0, g / gnp.sqrt(v + eps))
    m = b1 * s.m + (1 - b1) * u
    kept = [gnp.max(v, axis=tuple(a for a in axes if a != i), initial=0.0) for i in axes] if len(axes) > 1 else [v]
    return m, Sm3State(m, tuple(kept))


class FactoredState(NamedTuple):
    t: Any  #: steps taken
    v: Tree  #: for each parameter a pair: mean squares of its rows and of its columns, or one array if it has none


@called
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Scalar = 0.8,
    step_offset: int = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: Scalar = 1e-30,
) -> Optimizer:
    """g over the root of a running mean of g² that is kept as a product of rows and columns (Shazeer & Stern 2018).

    Of parameters with two axes of at least ``min_dim_size_to_factor`` the two longest are factored; of others the whole
    mean is kept.  Step t forgets 1 − t^(−decay_rate); ``step_offset`` steps are not counted, for fine-tuning.
    """
    starting = FactoredStart(min_dim_size_to_factor if factored else None)
    return rule(
        _factored, FactoredState, start={"v": starting}, decay_rate=decay_rate, offset=step_offset, epsilon=epsilon
    )


class FactoredStart(NamedTuple):
    """How the mean of the squares of a parameter begins."""

    smallest: int | None  #: the shortest axis that is factored; None: no axis is

    def __call__(self, p: Any) -> tuple[Any, ...]:
        shape, dtype = gnp.shape(p), scalar_like(0.0, p).dtype
        axes = _factored_axes(shape, self.smallest)
        if axes is None:
            return (gnp.zeros(shape, dtype) if shape else np.zeros((), dtype),)
        return tuple(gnp.zeros(shape[:a] + shape[a + 1 :], dtype) for a in axes)


def _factored_axes(shape: Sequence[int], smallest: int | None) -> tuple[int, int] | None:
    """The longest axis and the one before it, or None for a shape whose mean is kept whole."""
    if smallest is None or len(shape) < 2:
        return None
    second, first = (int(a) for a in np.argsort(shape, kind="stable")[-2:])
    return (first, second) if shape[second] >= smallest else None


def _factored(
    g: Any, p: Any, s: FactoredState, decay_rate: Any, offset: Any, epsilon: Any
) -> tuple[Any, FactoredState]:
    keep = 1 - (s.t - offset) ** -decay_rate
    square = gnp.square(g) + epsilon
    if len(s.v) == 1:
        v = keep * s.v[0] + (1 - keep) * square
        return g / gnp.sqrt(v), s._replace(v=(v,))
    first, second = _factored_axes(g.shape, 0) or (0, 1)
    rows = keep * s.v[0] + (1 - keep) * gnp.mean(square, axis=first)
    columns = keep * s.v[1] + (1 - keep) * gnp.mean(square, axis=second)
    share = rows / gnp.mean(rows, axis=second - (second > first), keepdims=True)
    u = g / gnp.sqrt(gnp.expand_dims(share, first)) / gnp.sqrt(gnp.expand_dims(columns, second))
    return u, s._replace(v=(rows, columns))


# -- singular values ---------------------------------------------------------------------------------------------------


class MuonState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running mean of g


NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


@called
def scale_by_muon(
    ns_coeffs: tuple[float, float, float] = NEWTON_SCHULZ,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
) -> Optimizer:
    """The momentum with its singular values near 1, by Newton and Schulz's iteration in products (Jordan et al. 2024).

    For matrices, stacked along leading axes if there are any.  ``ns_coeffs`` a, b, c: X ← aX + (bA + cA²)X with
    A = XXᵀ, ``ns_steps`` times, from X/‖X‖.  ``adaptive`` multiplies by ⟨m, update⟩.
    """
    given: Any = ns_coeffs
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise ValueError(f"{here()}: ns_coeffs are the three coefficients of the iteration, got {ns_coeffs!r:.60}")
    a, b, c = ns_coeffs
    return rule(
        _muon, MuonState, dtypes={"m": mu_dtype}, a=a, b=b, c=c, steps=ns_steps, beta=beta, eps=eps,
        nesterov=nesterov, adaptive=adaptive,
    )  # fmt: skip


def _muon(
    g: Any, p: Any, s: MuonState, a: Any, b: Any, c: Any, steps: int, beta: Any, eps: Any,
    nesterov: bool, adaptive: bool,
) -> tuple[Any, MuonState]:  # fmt: skip
    m = beta * s.m + (1 - beta) * g
    m_hat = bias_correction(m, beta, s.t)
    if nesterov:
        m_hat = beta * bias_correction(m, beta, s.t + 1) + (1 - beta) * bias_correction(g, beta, s.t)
    u = orthogonalized(m_hat, (a, b, c), steps, eps)
    return (gnp.sum(m_hat * u) * u if adaptive else u), s._replace(m=m)


def orthogonalized(x: Any, coefficients: tuple[Any, Any, Any], steps: int, eps: Any) -> Any:
    """A matrix of the same singular vectors whose singular values are near 1, by products alone."""
    if gnp.ndim(x) < 2:
        raise ValueError(
            f"{here()}: muon is for matrices, got shape {gnp.shape(x)}; gc.optim.partition gives the others to another "
            "optimizer, as gc.optim.muon does"
        )
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = gnp.swapaxes(x, -1, -2)
    x = x / (norm(x, (-2, -1), keepdims=True) + eps)
    for _ in range(steps):
        square = x @ gnp.swapaxes(x, -1, -2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return gnp.swapaxes(x, -1, -2) if tall else x


@called
def scale_by_shape(consistent_rms: float | None = None) -> Optimizer:
    """Updates of (m, n) matrices times √max(1, n/m), so that one rate serves all widths.

    ``consistent_rms``: times that number and √max(m, n), the size of Adam's updates (Liu et al. 2025: 0.2).
    """
    if consistent_rms is None:
        return rule(_by_width)
    return rule(_by_rms, consistent_rms=consistent_rms)


def _by_width(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return g * max(1.0, g.shape[-1] / max(g.shape[-2], 1)) ** 0.5, s


def _by_rms(g: Any, p: Any, s: EmptyState, consistent_rms: Any) -> tuple[Any, EmptyState]:
    return g * (max(g.shape[-2:]) ** 0.5 * number(consistent_rms)), s


__all__ = [
    "scale_by_factored_rms", "scale_by_muon", "scale_by_novograd", "scale_by_param_block_norm",
    "scale_by_param_block_rms", "scale_by_shape", "scale_by_sm3", "scale_by_trust_ratio",
]  # fmt: skip
