"""Gamma numbers, what is made of them (beta, Dirichlet, chi-squared and Student numbers), and counts.

Enters: a key, parameters that may be traced, a shape, a floating dtype.  Leaves: arrays.
Invariant: the distribution is exact, for a draw is repeated until it is accepted; the derivative in a parameter is that
of the number whose place in the distribution is held (Figurnov, Mohamed, Mnih 2018), though the draw itself may jump.
Start reading at `log_gamma_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import NARROW, Aval, computed_in
from gradc.errors import ShapeError
from gradc.graph import Graph
from gradc.node import FUNCTIONS, OPS, Node, as_node, here
from gradc.numpy.public import Array, ArrayLike
from gradc.ops.control import inner_leaf, item
from gradc.ops.custom import DerivativeRule
from gradc.ops.elementwise import apply, broadcast_to, cast
from gradc.random.arguments import (
    float_dtype,
    integer_dtype,
    parameter,
    positive_parameter,
    probability,
    result_shape,
)
from gradc.random.continuous import normal_of
from gradc.random.keys import counter_of, sampler, split_words, words_of

__all__ = ["beta", "binomial", "chisquare", "dirichlet", "gamma", "loggamma", "poisson", "student_t", "t"]


@sampler
def gamma(key: ArrayLike, a: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Numbers with the density xᵃ⁻¹e⁻ˣ/Γ(a); shape None: that of ``a``, which is positive.

    By rejection (Marsaglia & Tsang 2000). The derivative in ``a`` is −(∂F/∂a)/f, F the distribution function and f the
    density.
    """
    return apply(OPS["exp"], _log_gamma(key, a, shape, dtype, "gamma"))


@sampler
def loggamma(key: ArrayLike, a: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Logarithms of `gamma` numbers, which for small ``a`` are too small themselves."""
    return _log_gamma(key, a, shape, dtype, "loggamma")


def _log_gamma(key: ArrayLike, a: ArrayLike, shape: Any, dtype: Any, name: str) -> Node:
    target, extents = float_dtype(dtype, name), result_shape(shape, name, a=a)
    known = positive_parameter(a, "a", extents, target, name)
    return log_gamma_of(words_of(key, name), known)


@sampler
def chisquare(key: ArrayLike, df: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Chi-squared numbers with ``df`` degrees of freedom: twice gamma numbers of shape df/2."""
    target, extents = float_dtype(dtype, "chisquare"), result_shape(shape, "chisquare", df=df)
    freedom = positive_parameter(df, "df", extents, target, "chisquare")
    return 2 * apply(OPS["exp"], log_gamma_of(words_of(key, "chisquare"), freedom / 2))


@sampler
def student_t(key: ArrayLike, df: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Student's t numbers with ``df`` degrees of freedom: a normal number over the root of a gamma one, both of own
    keys."""
    target, extents = float_dtype(dtype, "student_t"), result_shape(shape, "student_t", df=df)
    half = positive_parameter(df, "df", extents, target, "student_t") / 2
    first, second = split_words(words_of(key, "student_t"))
    z = normal_of(first, extents, target)
    return z * np.exp(0.5 * (np.log(half) - log_gamma_of(second, half)))


t = student_t


@sampler
def beta(key: ArrayLike, a: ArrayLike, b: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Numbers with a density proportional to xᵃ⁻¹(1 − x)ᵇ⁻¹: g₁/(g₁ + g₂) of two gamma numbers."""
    target, extents = float_dtype(dtype, "beta"), result_shape(shape, "beta", a=a, b=b)
    shapes = [positive_parameter(v, what, extents, target, "beta") for v, what in ((a, "a"), (b, "b"))]
    logarithms = [log_gamma_of(w, s) for w, s in zip(split_words(words_of(key, "beta")), shapes, strict=True)]
    return apply(OPS["sigmoid"], logarithms[0] - logarithms[1])


@sampler
def dirichlet(key: ArrayLike, alpha: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Points of the simplex along the last axis, with a density proportional to Πxₖ^(αₖ − 1).

    ``alpha`` has the categories along its last axis; ``shape`` is that of the other axes (None: of alpha's).
    """
    node = as_node(alpha)
    if node.ndim == 0:
        raise ShapeError(f"{here()}: random.dirichlet: alpha must have an axis of categories, got a number")
    target = float_dtype(dtype, "dirichlet")
    lead = node.shape[:-1] if shape is None else result_shape(shape, "dirichlet")
    shapes = positive_parameter(alpha, "alpha", (*lead, node.shape[-1]), target, "dirichlet")
    return FUNCTIONS["nn.softmax"](log_gamma_of(words_of(key, "dirichlet"), shapes), -1)


def log_gamma_of(words: Sequence[Node], a: Node) -> Node:
    """log g for gamma numbers g of shapes ``a``, of the words of a key."""
    dtype = a.dtype
    wide = cast(a, computed_in(dtype)) if dtype in NARROW else a
    drawn = _with_slope(wide, _drawn("gamma_draw", words, wide))
    return cast(drawn, dtype) if dtype in NARROW else drawn


def _with_slope(a: Node, drawn: Node) -> Node:
    """``drawn`` with the derivative in ``a`` that the distribution says."""
    leaves = [inner_leaf(Aval(x.shape, x.dtype), name) for x, name in ((a, "a"), (drawn, "y"))]
    body = Graph(tuple(leaves), (OPS["positive"].make((leaves[1],)),), title="gamma")
    rule = DerivativeRule("jvp", "gamma", lambda widen: _rule_of(widen(body)))
    return item(OPS["custom"].make((a, drawn), body=body, rule=rule), 0)


def _rule_of(body: Graph) -> Graph:
    """The tangent of log g: its own, and that of ``a`` times the slope."""
    aval = body.inputs[0].aval
    a, y, tangent_of_a, tangent_of_y = (inner_leaf(aval, name) for name in ("a", "y", "ta", "ty"))
    slope = apply(OPS["gamma_moment"], a, y, n=1)
    return Graph((a, y, tangent_of_a, tangent_of_y), (tangent_of_y + slope * tangent_of_a,), title="gamma")


# -- whole numbers -----------------------------------------------------------------------------------------------------


@sampler
def poisson(key: ArrayLike, lam: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Numbers with the probabilities λᵏe^(−λ)/k!, of an integer dtype (None: int64); shape None: that of ``lam``.

    Where a traced ``lam`` is negative or NaN the result is −1.
    """
    target, extents = integer_dtype(dtype, "poisson"), result_shape(shape, "poisson", lam=lam)
    if not isinstance(lam, Node) and not np.all(np.asarray(lam) >= 0):
        raise ValueError(f"{here()}: random.poisson: lam must not be negative, got {lam!r:.60}")
    mean = parameter(lam, "lam", extents, np.dtype(np.float64), "poisson")
    drawn = _drawn("poisson_draw", words_of(key, "poisson"), mean)
    return cast(FUNCTIONS["where"](drawn >= 0, drawn, -1.0), target)


@sampler
def binomial(key: ArrayLike, n: ArrayLike, p: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """How many of ``n`` trials succeed, each with probability ``p``, as floats; shape None: that of the parameters.

    Where ``n`` is traced and negative, or ``p`` traced and outside [0, 1], the result is NaN.
    """
    target, extents = float_dtype(dtype, "binomial"), result_shape(shape, "binomial", n=n, p=p)
    if not isinstance(n, Node) and not np.all(np.asarray(n) >= 0):
        raise ValueError(f"{here()}: random.binomial: n must not be negative, got {n!r:.60}")
    wide = np.dtype(np.float64)
    trials = parameter(n, "n", extents, wide, "binomial")
    chance = parameter(probability(p, "p", "binomial"), "p", extents, wide, "binomial")
    return cast(_drawn("binomial_draw", words_of(key, "binomial"), trials, chance), target)


def _drawn(op: str, words: Sequence[Node], *parameters: Node) -> Node:
    """A draw by rejection, with the key that the words of one are split into: it uses many keys next to that."""
    (own,) = split_words(words, 1)
    shape = parameters[0].shape
    return OPS[op].make([*(broadcast_to(w, shape) for w in (*own, *counter_of(shape))), *parameters])
