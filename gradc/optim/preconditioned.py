"""Shampoo and SOAP: a preconditioner for each axis of a parameter, from the products of gradients along it.

Letters: g gradient, p parameter, for each axis the matrix c = Σ g·gᵀ over the other axes, its eigenvectors q.  Start
reading at `scale_by_shampoo`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.node import here
from gradc.optim.clipping import add_decayed_weights
from gradc.optim.descent import trace
from gradc.optim.masking import Mask
from gradc.optim.rules import Optimizer, Scalar, Tree, bias_correction, called, given_as, is_zero, rule, scalar_like
from gradc.optim.transforms import chain, scale_by_learning_rate


def _axes(p: Any, most: int) -> tuple[int, ...]:
    """The axes that have a preconditioner."""
    return tuple(a for a, n in enumerate(gnp.shape(p)) if 0 < n <= most and 0 not in gnp.shape(p))


def _identities(most: int, scale: float, p: Any) -> tuple[Any, ...]:
    """For each axis a multiple of the identity."""
    return tuple(scale * gnp.eye(gnp.shape(p)[a], dtype=scalar_like(0.0, p).dtype) for a in _axes(p, most))


def _products(g: Any, axis: int) -> Any:
    """Σ g·gᵀ: the inner products of the slices along an axis."""
    rows = gnp.reshape(gnp.moveaxis(g, axis, 0), (g.shape[axis], -1))
    return rows @ rows.T


def _along(matrix: Any, x: Any, axis: int) -> Any:
    """``matrix`` times ``x`` along an axis."""
    return gnp.moveaxis(gnp.tensordot(matrix, x, axes=((1,), (axis,))), 0, axis)


def _power(matrix: Any, exponent: float, least: Any) -> Any:
    """A power of a symmetric matrix whose eigenvalues are taken to be at least ``least``."""
    values, vectors = gnp.linalg.eigh(matrix)
    return (vectors * gnp.maximum(values, least) ** exponent) @ vectors.T


def refuse_size(name: str, value: Any) -> None:
    """ValueError for what is no whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{here()}: {name} is a whole number from 1 on, got {value!r:.60}")


class ShampooState(NamedTuple):
    v: Tree  #: sum of g², for parameters without a preconditioner
    c: Tree  #: for each parameter a tuple: for each axis ε·I plus the sum of g·gᵀ


@called
def scale_by_shampoo(b2: Scalar = 1.0, eps: float = 1e-4, max_dim: int = 1024) -> Optimizer:
    """Each axis times its c^(−1/(2k)), k axes in all: for a matrix L^(−1/4)·g·R^(−1/4) (Gupta, Koren & Singer 2018).

    ``b2`` < 1 makes running means of the sums.  Axes longer than ``max_dim`` have none; where no axis has one the rule
    is AdaGrad.  The roots come from eigenvalues, at least ``eps`` each, that are computed at every step.
    """
    refuse_size("max_dim", max_dim)
    return rule(
        _shampoo, ShampooState, start={"c": partial(_identities, max_dim, eps), "v": eps}, b2=b2, eps=eps, most=max_dim
    )


def _shampoo(g: Any, p: Any, s: ShampooState, b2: Any, eps: Any, most: int) -> tuple[Any, ShampooState]:
    axes, new = _axes(g, most), 1.0 if is_zero(1 - b2) else 1 - b2
    v = b2 * s.v + new * gnp.square(g)
    if not axes:
        return g / gnp.sqrt(v), s._replace(v=v)
    c = tuple(b2 * old + new * _products(g, a) for a, old in zip(axes, s.c, strict=True))
    u = g
    for a, matrix in zip(axes, c, strict=True):
        u = _along(_power(matrix, -0.5 / len(axes), eps), u, a)
    return u, s._replace(c=c)


@called
def shampoo(
    learning_rate: Scalar,
    momentum: Scalar = 0.0,
    b2: Scalar = 1.0,
    eps: float = 1e-4,
    max_dim: int = 1024,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> Optimizer:
    """AdaGrad with a full matrix for each axis of a parameter (Gupta, Koren & Singer 2018); see `scale_by_shampoo`."""
    parts = [scale_by_shampoo(b2, eps, max_dim)]
    if not is_zero(momentum):
        parts.append(given_as(trace(momentum), decay="momentum"))
    return chain(*parts, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


class SoapState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: first moment
    v: Tree  #: second moment, in the basis of the eigenvectors
    c: Tree  #: for each parameter a tuple: for each axis the running mean of g·gᵀ
    q: Tree  #: and its eigenvectors, in columns, about


@called
def scale_by_soap(
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    shampoo_beta: Scalar | None = None,
    eps: Scalar = 1e-8,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
) -> Optimizer:
    """Adam in the eigenbasis of Shampoo's preconditioners (Vyas et al. 2024).

    The basis begins as the identity and follows by q ← QR(c·q), one step of the power iteration, after the first step
    and every ``precondition_frequency`` steps.  ``shampoo_beta``: the decay of c, by default ``b2``.  Axes longer than
    ``max_precond_dim`` are not turned, nor is the axis of a vector.
    """
    refuse_size("precondition_frequency", precondition_frequency)
    refuse_size("max_precond_dim", max_precond_dim)
    start = {"c": partial(_turned, max_precond_dim, 0.0), "q": partial(_turned, max_precond_dim, 1.0)}
    return rule(
        _soap, SoapState, start=start, b1=b1, b2=b2, b3=b2 if shampoo_beta is None else shampoo_beta, eps=eps,
        every=precondition_frequency, most=max_precond_dim,
    )  # fmt: skip


def _turned(most: int, scale: float, p: Any) -> tuple[Any, ...]:
    return _identities(most if gnp.ndim(p) > 1 else 0, scale, p)


def _soap(
    g: Any, p: Any, s: SoapState, b1: Any, b2: Any, b3: Any, eps: Any, every: int, most: int
) -> tuple[Any, SoapState]:
    axes = _axes(g, most if g.ndim > 1 else 0)
    m = b1 * s.m + (1 - b1) * g
    turned_g, turned_m = g, m
    for a, q in zip(axes, s.q, strict=True):
        turned_g, turned_m = _along(q.T, turned_g, a), _along(q.T, turned_m, a)
    v = b2 * s.v + (1 - b2) * gnp.square(turned_g)
    u = bias_correction(turned_m, b1, s.t) / (gnp.sqrt(bias_correction(v, b2, s.t)) + eps)
    for a, q in zip(axes, s.q, strict=True):
        u = _along(q, u, a)
    c = tuple(b3 * old + (1 - b3) * _products(g, a) for a, old in zip(axes, s.c, strict=True))
    now = (s.t == 1) | (s.t % every == 0)
    q = tuple(gnp.where(now, gnp.linalg.qr(x @ old)[0], old) for x, old in zip(c, s.q, strict=True))
    return u, s._replace(m=m, v=v, c=c, q=q)


@called
def soap(
    learning_rate: Scalar = 3e-3,
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    shampoo_beta: Scalar | None = None,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    mask: Mask = None,
) -> Optimizer:
    """AdamW in the eigenbasis of Shampoo's preconditioners (Vyas et al. 2024); see `scale_by_soap`."""
    scaled = scale_by_soap(b1, b2, shampoo_beta, eps, precondition_frequency, max_precond_dim)
    return chain(scaled, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


__all__ = ["scale_by_shampoo", "scale_by_soap", "shampoo", "soap"]
