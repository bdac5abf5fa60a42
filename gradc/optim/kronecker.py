"""K-FAC: natural gradient steps with curvature that is a Kronecker product for each parameter.

Letters: g gradient, p parameter as a matrix of its first axis by all others, P and Q running means of the two factors
of its curvature, over the first axis and over the others; which of them is of activations and which of derivatives the
products of the loss say (`gc.kfac_factors`).  Start reading at `kfac`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import leaves_of, tree_map
from gradc.errors import ShapeError
from gradc.node import here
from gradc.optim.preconditioned import refuse_size
from gradc.optim.rules import Optimizer, Scalar, Tree, called, rule, scalar_like


class KfacState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running sum of the preconditioned gradients
    P: Tree  #: for each parameter the running mean of the factor over its first axis
    Q: Tree  #: and of the one over all others


@called
def kfac(
    learning_rate: Scalar,
    damping: Scalar = 1e-3,
    decay: Scalar = 0.95,
    momentum: Scalar = 0.9,
    examples: int | None = None,
) -> Optimizer:
    """p ← p − η·m with m ← μ·m + P̃⁻¹·g·Q̃⁻¹, P and Q Kronecker factors of the curvature (Martens & Grosse 2015).

    The factors are running means with the weight min(1 − 1/t, ``decay``) on the past (§ 5).  ``damping`` is λ of the
    factored Tikhonov regularisation (§ 6.3): P̃ = P + π√λ·I and Q̃ = Q + √λ/π·I with π² = (tr P/dim P)/(tr Q/dim Q),
    1 where a trace is 0.  Both systems are solved at every step.  The momentum is that of `sgd`, η and μ are told and
    not found from a quadratic model as in §§ 6.4 and 7.

    `gc.kfac_factors` reads the factors off the loss, within `gc.train_step`, with ``examples`` as there; they are those
    of the empirical Fisher matrix where the loss has targets from data.  It says which parameters have some; give the
    others an optimizer of their own with `partition`.  Of a parameter of more than two axes its first one meets the
    activations alone, or all others do, as in convolutions; ShapeError otherwise.  A penalty ½c‖p‖² is no part of the
    loss but ``chain(add_decayed_weights(c), kfac(η, damping=λ + c))`` (§ 6.1).
    """
    if examples is not None:
        refuse_size("examples", examples)
    start = {"P": partial(_factors, 0), "Q": partial(_factors, 1)}
    return rule(
        _kfac, KfacState, whole=True, start=start, wants=("params", "factors_fn"),
        learning_rate=learning_rate, damping=damping, decay=decay, momentum=momentum, examples=examples or 0,
    )  # fmt: skip


def _sides(p: Any) -> tuple[int, int]:
    """The extents of a parameter as a matrix."""
    shape = gnp.shape(p)
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def _factors(side: int, params: Tree) -> Tree:
    """Zeros for one factor of each parameter."""
    return tree_map(lambda p: np.zeros((_sides(p)[side],) * 2, scalar_like(0.0, p).dtype), params)


def _oriented(factors: Any, p: Any) -> tuple[Any, Any]:
    """The factor over the first axis, and that over the others."""
    every, axes = tuple(range(gnp.ndim(p))), tuple(factors.inputs)
    if axes == every[:1] and every:
        return factors.A, factors.G
    if axes == every[1:]:
        return factors.G, factors.A
    raise ShapeError(
        f"{here()}: kfac: activations meet the axes {axes} of a parameter of shape {gnp.shape(p)}: they must meet its "
        "first axis alone, or all but the first; give the parameter as a matrix, or another optimizer "
        "(gc.optim.partition)"
    )


def _kfac(
    g: Tree,
    p: Tree,
    s: KfacState,
    learning_rate: Any,
    damping: Any,
    decay: Any,
    momentum: Any,
    examples: int,
    factors_fn: Any,
) -> tuple[Tree, KfacState]:
    leaves, structure = leaves_of(p)
    found = map(_oriented, structure.parts_of(factors_fn(p, examples or None)), leaves)
    first, others = map(structure.of_arrays.unflatten, zip(*found, strict=True)) if leaves else (p, p)
    epsilon = gnp.minimum(1 - 1 / s.t, decay)
    P = tree_map(lambda old, new: epsilon * old + (1 - epsilon) * new, s.P, first)
    Q = tree_map(lambda old, new: epsilon * old + (1 - epsilon) * new, s.Q, others)
    pi = tree_map(_balance, P, Q)
    root = damping**0.5
    P_damped = tree_map(lambda P, pi: P + pi * root * gnp.eye(P.shape[0], dtype=P.dtype), P, pi)
    Q_damped = tree_map(lambda Q, pi: Q + root / pi * gnp.eye(Q.shape[0], dtype=Q.dtype), Q, pi)
    natural = tree_map(_between, g, P_damped, Q_damped)
    m = tree_map(lambda old, new: momentum * old + new, s.m, natural)
    return tree_map(lambda m: -learning_rate * m, m), s._replace(m=m, P=P, Q=Q)


def _balance(P: Any, Q: Any) -> Any:
    """π: the root of the ratio of the mean eigenvalues; 1 where one of them is 0."""
    one, two = gnp.mean(gnp.diagonal(P)), gnp.mean(gnp.diagonal(Q))
    both = (one > 0) & (two > 0)
    return gnp.sqrt(gnp.where(both, one, 1.0) / gnp.where(both, two, 1.0))


def _between(g: Any, P: Any, Q: Any) -> Any:
    """P⁻¹·g·Q⁻¹, of symmetric matrices."""
    half = gnp.linalg.solve(P, gnp.reshape(g, (P.shape[0], Q.shape[0])))
    return gnp.reshape(gnp.linalg.solve(Q, half.T).T, gnp.shape(g))


__all__ = ["kfac"]
