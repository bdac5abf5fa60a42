"""Rules that divide each element's gradient by a measure of how large its gradients have been: Adam and its kin.

Each is a step function that reads like its paper and the public name that makes an `Optimizer` of it.  Letters: g
gradient, p parameter, m first moment, v second moment, t number of the step.  Start reading at `scale_by_adam`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import gradc.numpy as gnp
from gradc.node import here
from gradc.optim.rules import DType, Optimizer, Scalar, Tree, bias_correction, called, number, plus, rule, scalar_like


class SquaresState(NamedTuple):
    v: Tree  #: sum or running mean of g²


class CountedSquaresState(NamedTuple):
    t: Any  #: steps taken
    v: Tree  #: sum or running mean of g²


class SpreadState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running mean of g
    v: Tree  #: running mean of g²


class MomentsState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: first moment
    v: Tree  #: second moment


# -- sums and means of squares -----------------------------------------------------------------------------------------


@called
def scale_by_rss(initial_accumulator_value: float = 0.1, eps: Scalar = 1e-7, eps_in_sqrt: bool = True) -> Optimizer:
    """g over the root of the sum of all g² (Duchi, Hazan & Singer 2011): g/√(v + ε), or g/(√v + ε) as PyTorch has it.

    With ε inside the root, an element whose sum is 0 stays where it is.
    """
    step = _rss if eps_in_sqrt else _rss_outside
    return rule(step, SquaresState, start={"v": initial_accumulator_value}, eps=eps)


def _rss(g: Any, p: Any, s: SquaresState, eps: Any) -> tuple[Any, SquaresState]:
    v = s.v + gnp.square(g)
    return gnp.where(v == 0, 0.0, g / gnp.sqrt(v + eps)), SquaresState(v)


def _rss_outside(g: Any, p: Any, s: SquaresState, eps: Any) -> tuple[Any, SquaresState]:
    v = s.v + gnp.square(g)
    return g / (gnp.sqrt(v) + eps), SquaresState(v)


@called
def scale_by_rms(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Optimizer:
    """g over the root of the running mean of g² (Tieleman & Hinton 2012): g/√(v + ε), or g/(√v + ε) as PyTorch has it.

    ``bias_correction`` divides v by 1 − decayᵗ.
    """
    return rule(
        _rms, CountedSquaresState, start={"v": initial_scale}, decay=decay, eps=eps, inside=eps_in_sqrt,
        corrected=bias_correction,
    )  # fmt: skip


def _rms(
    g: Any, p: Any, s: CountedSquaresState, decay: Any, eps: Any, inside: bool, corrected: bool
) -> tuple[Any, CountedSquaresState]:
    v = decay * s.v + (1 - decay) * gnp.square(g)
    v_hat = bias_correction(v, decay, s.t) if corrected else v
    return g / _root(v_hat, eps, inside), s._replace(v=v)


def _root(v: Any, eps: Any, inside: bool) -> Any:
    return gnp.sqrt(v + eps) if inside else gnp.sqrt(v) + eps


@called
def scale_by_stddev(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Optimizer:
    """`scale_by_rms` of the centred moment v − m² in place of v (Graves 2013)."""
    return rule(
        _stddev, SpreadState, start={"v": initial_scale}, decay=decay, eps=eps, inside=eps_in_sqrt,
        corrected=bias_correction,
    )  # fmt: skip


def _stddev(
    g: Any, p: Any, s: SpreadState, decay: Any, eps: Any, inside: bool, corrected: bool
) -> tuple[Any, SpreadState]:
    m = decay * s.m + (1 - decay) * g
    v = decay * s.v + (1 - decay) * gnp.square(g)
    m_hat = bias_correction(m, decay, s.t) if corrected else m
    v_hat = bias_correction(v, decay, s.t) if corrected else v
    return g / _root(v_hat - gnp.square(m_hat), eps, inside), s._replace(m=m, v=v)


class AdadeltaState(NamedTuple):
    v: Tree  #: running mean of g²
    d: Tree  #: running mean of the squared updates


@called
def scale_by_adadelta(rho: Scalar = 0.9, eps: Scalar = 1e-6) -> Optimizer:
    """g·√(d + ε)/√(v + ε), running means of squared updates and gradients (Zeiler 2012)."""
    return rule(_adadelta, AdadeltaState, rho=rho, eps=eps)


def _adadelta(g: Any, p: Any, s: AdadeltaState, rho: Any, eps: Any) -> tuple[Any, AdadeltaState]:
    v = rho * s.v + (1 - rho) * gnp.square(g)
    u = gnp.sqrt(s.d + eps) / gnp.sqrt(v + eps) * g
    return u, AdadeltaState(v, rho * s.d + (1 - rho) * gnp.square(u))


# -- two moments -------------------------------------------------------------------------------------------------------


@called
def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam's rescaling with bias correction (Kingma & Ba 2015, algorithm 1); ``nesterov`` as Dozat (2016) has it.

    ``mu_dtype``: in which dtype the first moment is kept.
    """
    return rule(
        _nadam if nesterov else _adam, MomentsState, dtypes={"m": mu_dtype}, b1=b1, b2=b2, eps=eps, eps_root=eps_root
    )


def _adam(g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any, eps_root: Any) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g)
    m_hat, v_hat = bias_correction(m, b1, s.t), bias_correction(v, b2, s.t)
    return m_hat / (gnp.sqrt(plus(v_hat, eps_root)) + eps), s._replace(m=m, v=v)


def _nadam(g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any, eps_root: Any) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g)
    m_hat, v_hat = _look_ahead(m, g, b1, s.t), bias_correction(v, b2, s.t)
    return m_hat / (gnp.sqrt(plus(v_hat, eps_root)) + eps), s._replace(m=m, v=v)


def _look_ahead(m: Any, g: Any, b1: Any, t: Any) -> Any:
    """The first moment of the next step, were its gradient this one."""
    return b1 * bias_correction(m, b1, t + 1) + (1 - b1) * bias_correction(g, b1, t)


class NadamState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: first moment
    v: Tree  #: second moment
    c: Tree  #: ∏ μᵢ over the steps taken, one number for each parameter


@called
def scale_by_nadam_schedule(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, momentum_decay: Scalar = 4e-3, mu_dtype: DType = None
) -> Optimizer:
    """Nadam with Dozat's schedule μₜ = b1·(1 − 0.96^(t·momentum_decay)/2), as PyTorch has it."""
    return rule(
        _nadam_scheduled, NadamState, start={"c": partial(scalar_like, 1.0)}, dtypes={"m": mu_dtype}, b1=b1, b2=b2,
        eps=eps, momentum_decay=momentum_decay,
    )  # fmt: skip


def _nadam_scheduled(
    g: Any, p: Any, s: NadamState, b1: Any, b2: Any, eps: Any, momentum_decay: Any
) -> tuple[Any, NadamState]:
    mu = b1 * (1 - 0.5 * 0.96 ** (s.t * momentum_decay))
    after = b1 * (1 - 0.5 * 0.96 ** ((s.t + 1) * momentum_decay))
    c = s.c * mu
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g)
    m_hat = after * m / (1 - c * after) + (1 - mu) * g / (1 - c)
    return m_hat / (gnp.sqrt(bias_correction(v, b2, s.t)) + eps), s._replace(m=m, v=v, c=c)


class AmsgradState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: first moment
    v: Tree  #: second moment
    v_max: Tree  #: the largest second moment so far


@called
def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool | str = True,
) -> Optimizer:
    """Adam over the largest second moment so far, which never shrinks (Reddi, Kale & Kumar 2018).

    ``bias_correction_nu``: True, the moments are corrected and the largest is taken of them, as optax has it; "after",
    the largest is taken first and corrected then, as PyTorch has it; False, neither is corrected, as in the paper.
    """
    if bias_correction_nu not in (True, False, "after"):
        raise ValueError(f"{here()}: bias_correction_nu is True, False or 'after', got {bias_correction_nu!r:.60}")
    return rule(
        _amsgrad, AmsgradState, dtypes={"m": mu_dtype}, b1=b1, b2=b2, eps=eps, eps_root=eps_root,
        corrected=bool(bias_correction_mu), before=bias_correction_nu is True, after=bias_correction_nu == "after",
    )  # fmt: skip


def _amsgrad(
    g: Any, p: Any, s: AmsgradState, b1: Any, b2: Any, eps: Any, eps_root: Any,
    corrected: bool, before: bool, after: bool,
) -> tuple[Any, AmsgradState]:  # fmt: skip
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g)
    v_max = gnp.maximum(s.v_max, bias_correction(v, b2, s.t) if before else v)
    v_hat = bias_correction(v_max, b2, s.t) if after else v_max
    m_hat = bias_correction(m, b1, s.t) if corrected else m
    return m_hat / (gnp.sqrt(plus(v_hat, eps_root)) + eps), s._replace(m=m, v=v, v_max=v_max)


@called
def scale_by_adamax(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> Optimizer:
    """Adam in the infinity norm: v ← max(b2·v, |g| + ε) (Kingma & Ba 2015, algorithm 2)."""
    return rule(_adamax, MomentsState, b1=b1, b2=b2, eps=eps)


def _adamax(g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = gnp.maximum(b2 * s.v, gnp.abs(g) + eps)
    return bias_correction(m, b1, s.t) / v, s._replace(m=m, v=v)


@called
def scale_by_radam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with a rate rectified for its variance, and plain momentum while that is infinite (Liu et al. 2020).

    ``threshold``: the length of the approximated average from which on the second moment is used.
    """
    return rule(_radam, MomentsState, b1=b1, b2=b2, eps=eps, eps_root=eps_root, threshold=threshold, nesterov=nesterov)


def _radam(
    g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any, eps_root: Any, threshold: Any, nesterov: bool
) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g)
    m_hat = _look_ahead(m, g, b1, s.t) if nesterov else bias_correction(m, b1, s.t)
    v_hat = bias_correction(v, b2, s.t)
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * s.t * b2**s.t / (1 - b2**s.t)
    sure = rho >= threshold
    over = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    r = number(gnp.sqrt(gnp.where(sure, over, 1.0)))
    return gnp.where(sure, r * m_hat / (gnp.sqrt(plus(v_hat, eps_root)) + eps), m_hat), s._replace(m=m, v=v)


@called
def scale_by_belief(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16, eps_root: Scalar = 1e-16, *, nesterov: bool = False
) -> Optimizer:
    """Adam over the running mean of (g − m)²: short steps where a gradient surprises (Zhuang et al. 2020)."""
    return rule(_belief, MomentsState, b1=b1, b2=b2, eps=eps, eps_root=eps_root, nesterov=nesterov)


def _belief(
    g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any, eps_root: Any, nesterov: bool
) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * gnp.square(g - m) + eps_root
    m_hat = _look_ahead(m, g, b1, s.t) if nesterov else bias_correction(m, b1, s.t)
    return m_hat / (gnp.sqrt(bias_correction(v, b2, s.t)) + eps), s._replace(m=m, v=v)


@called
def scale_by_yogi(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    eps_root: Scalar = 0.0,
    initial_accumulator_value: float = 1e-6,
) -> Optimizer:
    """Adam whose second moment changes by at most (1 − b2)·g² a step (Zaheer et al. 2018); both begin above 0."""
    begin = {"m": initial_accumulator_value, "v": initial_accumulator_value}
    return rule(_yogi, MomentsState, start=begin, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


def _yogi(g: Any, p: Any, s: MomentsState, b1: Any, b2: Any, eps: Any, eps_root: Any) -> tuple[Any, MomentsState]:
    m = b1 * s.m + (1 - b1) * g
    v = s.v - (1 - b2) * gnp.sign(s.v - gnp.square(g)) * gnp.square(g)
    m_hat, v_hat = bias_correction(m, b1, s.t), bias_correction(v, b2, s.t)
    return m_hat / (gnp.sqrt(plus(v_hat, eps_root)) + eps), s._replace(m=m, v=v)


class LionState(NamedTuple):
    m: Tree  #: running mean of g


@called
def scale_by_lion(b1: Scalar = 0.9, b2: Scalar = 0.99, mu_dtype: DType = None) -> Optimizer:
    """sign(b1·m + (1 − b1)·g), where m is a slower mean (Chen et al. 2023)."""
    return rule(_lion, LionState, dtypes={"m": mu_dtype}, b1=b1, b2=b2)


def _lion(g: Any, p: Any, s: LionState, b1: Any, b2: Any) -> tuple[Any, LionState]:
    u = gnp.sign(b1 * s.m + (1 - b1) * g)
    return u, LionState(b2 * s.m + (1 - b2) * g)


class AdanState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running mean of g
    v: Tree  #: running mean of the differences of g
    n: Tree  #: running mean of the squares
    g_old: Tree  #: the last gradient


@called
def scale_by_adan(
    b1: Scalar = 0.98, b2: Scalar = 0.92, b3: Scalar = 0.99, eps: Scalar = 1e-8, eps_root: Scalar = 0.0
) -> Optimizer:
    """Adam with Nesterov momentum from differences of gradients (Xie et al. 2022)."""
    return rule(_adan, AdanState, b1=b1, b2=b2, b3=b3, eps=eps, eps_root=eps_root)


def _adan(g: Any, p: Any, s: AdanState, b1: Any, b2: Any, b3: Any, eps: Any, eps_root: Any) -> tuple[Any, AdanState]:
    change = gnp.where(s.t == 1, 0.0, g - s.g_old)
    m = b1 * s.m + (1 - b1) * g
    v = b2 * s.v + (1 - b2) * change
    n = b3 * s.n + (1 - b3) * gnp.square(g + (1 - b2) * change)
    m_hat, v_hat, n_hat = (bias_correction(x, b, s.t) for x, b in ((m, b1), (v, b2), (n, b3)))
    return (m_hat + (1 - b2) * v_hat) / (gnp.sqrt(n_hat + eps_root) + eps), s._replace(m=m, v=v, n=n, g_old=g)


__all__ = [
    "scale_by_adadelta", "scale_by_adam", "scale_by_adamax", "scale_by_adan", "scale_by_amsgrad", "scale_by_belief",
    "scale_by_lion", "scale_by_nadam_schedule", "scale_by_radam", "scale_by_rms", "scale_by_rss", "scale_by_stddev",
    "scale_by_yogi",
]  # fmt: skip
