"""Steps from second derivatives: Newton, Gauss–Newton, Levenberg–Marquardt, and BFGS.

Each call of ``update`` is one whole step.  What a step asks of the loss elsewhere than at the parameters it is given by
`gc.train_step`, as keywords of ``update``: ``value_fn(params)``, the loss; ``hessian_fn(params)``, its Hessian over all
parameters as one vector; ``hessian_product_fn(params, v)``, that times a tree v; ``residual_fn(params)``, the residuals
of a `sum_of_squares` and their Jacobian; ``line_search(params, value, grads, direction, first, curvature)``, how far to
go along a direction; ``trust_step(H, g, radius)``, where gᵀd + ½dᵀHd is least in a ball, what it promises, and whether
that is at the border.  All of them are compiled into the step.  Vectors have the order of ``gc.tree.ravel``.  Letters:
g gradient, p parameter, H Hessian, B its inverse, J Jacobian of the residuals r, d direction.  Start reading at
`newton`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc import tree as trees
from gradc.aval import finfo
from gradc.containers import leaves_of, tree_map
from gradc.node import here
from gradc.optim.quasi_newton import along, like_parameters
from gradc.optim.reading import reading
from gradc.optim.rules import (
    EmptyState,
    Optimizer,
    Scalar,
    Tree,
    called,
    global_norm,
    number,
    plus,
    rule,
    scalar,
    select,
    times,
)

#: a line search leaves at most this part of the slope
CURVATURE = 0.9
#: a step in a trust region is taken if the loss falls by more than this part of what the model promises
ACCEPTED = 0.15
#: the widest trust region
WIDEST = 1e8


# -- Newton ------------------------------------------------------------------------------------------------------------


@called
def newton(
    learning_rate: Scalar = 1.0,
    damping: Scalar = 0.0,
    linesearch: bool = True,
    trust_region: str | None = None,
    radius: Scalar = 1.0,
) -> Optimizer:
    """Newton's method: p ← p − η·H⁻¹g, for few parameters and full batches (Nocedal & Wright 2006, §3.4).

    Of each eigenvalue of the Hessian its size is taken, plus ``damping``: so the step leads downhill where the loss is
    not convex, too, and away from saddles (Dauphin et al. 2014).  One that is rounding alone, below n·ε of the largest
    for n parameters, says nothing and counts as the largest; where all are 0, and no damping, or where the Hessian is
    not finite, no step is taken.  With ``linesearch`` η satisfies the strong conditions of Wolfe, 1 is tried first, and
    where no step does, none is taken; else η is ``learning_rate``.  Memory and time are those of the eigenvalues of a
    matrix of all parameters.

    With ``trust_region`` there is no search: d is where the model gᵀd + ½dᵀHd of the loss is least in the ball ‖d‖ ≤ Δ
    (Nocedal & Wright 2006, algorithm 4.1), whose first Δ is ``radius``.  The loss at p + d judges it: where it falls by
    more than 0.15 of what the model promises the step is taken, below a quarter Δ ← ‖d‖/4, above three quarters at the
    border Δ ← 2Δ; differences that are rounding alone count as falling.  "exact" finds d from the eigenvalues of the
    Hessian, the hard case included (Moré & Sorensen 1983); "steihaug" by conjugate gradients that stop at the border or
    where a curvature is negative (Steihaug 1983), from products with the Hessian alone: memory as for a few vectors, so
    many parameters are fine.  Where d is too short to move the parameters they stay, and Δ begins anew.
    """
    if trust_region is not None:
        return _trusting(learning_rate, damping, trust_region, radius)
    wants = ("params", "hessian_fn") + (("value", "line_search") if linesearch else ())
    step = _newton_searched if linesearch else _newton
    numbers: dict[str, Any] = {"damping": damping} | ({} if linesearch else {"learning_rate": learning_rate})
    return rule(step, EmptyState, whole=True, wants=wants, **numbers)


def _downhill(g: Tree, H: Any, damping: Any) -> Tree:
    """−|H|⁻¹g."""
    vector, back = trees.ravel(g)
    if reading.get() is not None:
        sizes, v = gnp.linalg.eigh(H)
        return back(-(v @ ((v.T @ vector) / (gnp.abs(sizes) + damping))))
    return back(-_solved(H, vector, damping))


def _solved(A: Any, b: Any, damping: Any) -> Any:
    """(|A| + damping·I)⁻¹b of a symmetric matrix, where eigenvalues that are rounding alone count as the largest.

    0 where A is nothing but zeros and there is no damping, and where something is not finite.
    """
    if not A.shape[0]:
        return b
    if reading.get() is not None:  # who reads is told the formula, without what is done about rounding
        return gnp.linalg.solve(A + damping * gnp.eye(A.shape[0], dtype=A.dtype), b)
    finite = gnp.all(gnp.isfinite(A)) & gnp.all(gnp.isfinite(b))
    sizes, v = gnp.linalg.eigh(gnp.where(finite, A, 0.0))
    sizes = gnp.abs(sizes)
    most, least = gnp.max(sizes), A.shape[0] * float(finfo(A.dtype).eps)
    bend = gnp.where(sizes + damping > least * most, sizes + damping, most)
    usable = finite & (bend > 0)
    return v @ gnp.where(usable, (v.T @ gnp.where(finite, b, 0.0)) / gnp.where(usable, bend, 1.0), 0.0)


def _newton(
    g: Tree, p: Tree, s: EmptyState, damping: Any, learning_rate: Any, hessian_fn: Any
) -> tuple[Tree, EmptyState]:
    H = hessian_fn(p)
    return times(_downhill(g, H, damping), learning_rate), s


def _newton_searched(
    g: Tree, p: Tree, s: EmptyState, damping: Any, hessian_fn: Any, value: Any, line_search: Any
) -> tuple[Tree, EmptyState]:
    H = hessian_fn(p)
    d = _downhill(g, H, damping)
    alpha = number(line_search(p, value, g, d, 1.0, CURVATURE))
    return along(d, alpha), s


class TrustState(NamedTuple):
    t: Any  #: steps tried
    radius: Any  #: how far the model of the loss is trusted in the next step; 0 where it begins anew


def _trusting(learning_rate: Any, damping: Any, trust_region: Any, radius: Any) -> Optimizer:
    """`newton` with a trust region."""
    if trust_region not in ("exact", "steihaug"):
        raise ValueError(f"{here()}: trust_region is 'exact' or 'steihaug', got {trust_region!r:.60}")
    if callable(learning_rate) or learning_rate != 1 or callable(damping) or damping != 0:
        raise ValueError(f"{here()}: newton with a trust region has no learning_rate and no damping: it has a radius")
    if not callable(radius) and not (isinstance(radius, (int, float, np.number)) and 0 < radius < np.inf):
        raise ValueError(f"{here()}: radius is a number above 0, got {radius!r:.60}")
    of_model = "hessian_fn" if trust_region == "exact" else "hessian_product_fn"
    return rule(
        partial(_newton_trusted, of_model), TrustState, whole=True, start={"radius": partial(scalar, 0.0)},
        wants=("params", "value", "value_fn", "trust_step", of_model), first=radius,
    )  # fmt: skip


def _newton_trusted(
    of_model: str, g: Tree, p: Tree, s: TrustState, first: Any, value: Any, value_fn: Any, trust_step: Any,
    **curvature: Any,
) -> tuple[Tree, TrustState]:  # fmt: skip
    H = curvature[of_model](p) if of_model == "hessian_fn" else partial(curvature[of_model], p)
    Delta = number(gnp.where((s.radius > 0) & gnp.isfinite(s.radius), s.radius, first))
    d, promised, at_border = trust_step(H, g, Delta)
    fell = number(value) - number(value_fn(tree_map(lambda p, d: p + d, p, d)))
    size, slack = number(global_norm(d)), _rounding(value, p)
    gain = plus(fell, slack) / plus(number(promised), slack)
    wider = gnp.where((gain > 0.75) & at_border, gnp.minimum(2 * Delta, WIDEST), Delta)
    radius = _begun_anew(gnp.where(gain >= 0.25, wider, size / 4), p, d)
    return select(gain > ACCEPTED, d, tree_map(gnp.zeros_like, d)), s._replace(radius=radius)


def _rounding(value: Any, p: Tree) -> Any:
    """By how much losses differ that are the same but for rounding; 0 for who reads the formula."""
    if reading.get() is not None:
        return 0.0
    eps = max((float(finfo(gnp.result_type(x)).eps) for x in leaves_of(p)[0]), default=0.0)
    return 10 * eps * gnp.maximum(1.0, gnp.abs(number(value)))


def _begun_anew(radius: Any, p: Tree, d: Tree) -> Any:
    """0 in place of a radius where d does not move p; who reads the formula is not told."""
    if reading.get() is not None:
        return radius
    still: Any = True
    for x, step in zip(leaves_of(p)[0], leaves_of(d)[0], strict=True):
        still = still & gnp.all(x + step == x)
    return gnp.where(still, 0.0, radius)


# -- sums of squares ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SumOfSquares:
    """The loss that `sum_of_squares` makes."""

    residuals: Callable[..., Any]

    def __call__(self, params: Tree, *batch: Any) -> Any:
        return 0.5 * sum(gnp.sum(gnp.square(r)) for r in leaves_of(self.residuals(params, *batch))[0])

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Whose signature it has."""
        return self.residuals

    @property
    def __name__(self) -> str:
        return f"{getattr(self.residuals, '__name__', 'residuals')}_squared"


def sum_of_squares(residuals: Callable[..., Any]) -> SumOfSquares:
    """The loss ½‖r‖² of ``residuals(params, *batch)``, an array or a tree of arrays.

    `gauss_newton` and `levenberg_marquardt` read the residuals and their Jacobian off it.
    """
    if not callable(residuals):
        raise TypeError(f"{here()}: sum_of_squares takes a function of the parameters, got {residuals!r:.60}")
    return SumOfSquares(residuals)


@called
def gauss_newton(learning_rate: Scalar = 1.0, damping: Scalar = 0.0, linesearch: bool = True) -> Optimizer:
    """Gauss–Newton steps for `sum_of_squares`: p ← p − η·(JᵀJ + damping·I)⁻¹Jᵀr (Nocedal & Wright 2006, §10.3).

    η, and what counts as rounding, as in `newton`: where JᵀJ + damping·I is singular it is the step of least length.
    """
    wants = ("params", "residual_fn") + (("value", "line_search") if linesearch else ())
    step = _gauss_newton_searched if linesearch else _gauss_newton
    numbers: dict[str, Any] = {"damping": damping} | ({} if linesearch else {"learning_rate": learning_rate})
    return rule(step, EmptyState, whole=True, wants=wants, **numbers)


def _normal(g: Tree, r: Any, J: Any, damping: Any) -> Tree:
    """−(JᵀJ + damping·I)⁻¹Jᵀr."""
    return trees.ravel(g)[1](-_solved(J.T @ J, J.T @ r, damping))


def _gauss_newton(
    g: Tree, p: Tree, s: EmptyState, damping: Any, learning_rate: Any, residual_fn: Any
) -> tuple[Tree, EmptyState]:
    r, J = residual_fn(p)
    return times(_normal(g, r, J, damping), learning_rate), s


def _gauss_newton_searched(
    g: Tree, p: Tree, s: EmptyState, damping: Any, residual_fn: Any, value: Any, line_search: Any
) -> tuple[Tree, EmptyState]:
    r, J = residual_fn(p)
    d = _normal(g, r, J, damping)
    alpha = number(line_search(p, value, g, d, 1.0, CURVATURE))
    return along(d, alpha), s


class MarquardtState(NamedTuple):
    t: Any  #: steps tried
    mu: Any  #: the damping of the next step; 0 where it begins anew
    nu: Any  #: what it grows by if that fails


@called
def levenberg_marquardt(tau: Scalar = 1e-3) -> Optimizer:
    """Gauss–Newton steps for `sum_of_squares` with the damping of Marquardt (1963), controlled as by Nielsen (1999).

    d = −(JᵀJ + μI)⁻¹Jᵀr; the gain ρ = (F(p) − F(p + d))/(½dᵀ(μd − Jᵀr)) decides: above 0 the step is taken, and
    μ ← μ·max(⅓, 1 − (2ρ − 1)³), ν ← 2; else μ ← μν, ν ← 2ν, and the parameters stay.  The first μ is ``tau`` times the
    largest element of the diagonal of JᵀJ.  (Madsen, Nielsen & Tingleff 2004, algorithm 3.16.)  Where d is too short to
    move the parameters they stay, and μ begins anew: of another batch the next step is a first one.
    """
    return rule(
        _marquardt, MarquardtState, whole=True, start={"mu": partial(scalar, 0.0), "nu": partial(scalar, 2.0)},
        wants=("params", "value", "value_fn", "residual_fn"), tau=tau,
    )  # fmt: skip


def _marquardt(
    g: Tree, p: Tree, s: MarquardtState, tau: Any, value: Any, value_fn: Any, residual_fn: Any
) -> tuple[Tree, MarquardtState]:
    r, J = residual_fn(p)
    A, b = J.T @ J, J.T @ r
    most = gnp.max(gnp.diagonal(A)) if A.shape[0] else 0.0
    begins = ~((s.mu > 0) & gnp.isfinite(s.mu))
    mu = gnp.where(begins, tau * most, gnp.maximum(s.mu, float(finfo(A.dtype).eps) * most))
    d = -_solved(A, b, number(mu))
    u = trees.ravel(g)[1](d)
    fell = value - value_fn(tree_map(lambda p, u: p + u, p, u))
    promised = 0.5 * d @ (mu * d - b)
    moves = (promised > 0) & ~gnp.all(trees.ravel(p)[0] + d == trees.ravel(p)[0])
    gain = fell / gnp.where(moves, promised, 1.0)
    taken = moves & (gain > 0)
    nu = gnp.where(begins, 2.0, s.nu)
    factor = gnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
    after = s._replace(
        mu=gnp.where(moves, gnp.where(taken, mu * factor, mu * nu), 0.0), nu=gnp.where(taken | ~moves, 2.0, 2 * nu)
    )
    return select(taken, u, tree_map(gnp.zeros_like, u)), after


# -- quasi-Newton ------------------------------------------------------------------------------------------------------


class BfgsState(NamedTuple):
    t: Any  #: steps taken
    p_old: Tree  #: the last parameters
    g_old: Tree  #: the last gradients
    B: Any  #: the inverse of the Hessian, as far as it is known, over all parameters as one vector


@called
def bfgs(scale_init_precond: bool = True) -> Optimizer:
    """BFGS with a line search within each step (Nocedal & Wright 2006, algorithm 6.1), for full batches.

    B ← (I − ρsyᵀ)B(I − ρysᵀ) + ρssᵀ with the last step s, the change y of the gradient over it, and ρ = 1/sᵀy, where
    that is positive; B begins as I, and with ``scale_init_precond`` as sᵀy/yᵀy·I before its first update, (6.20).
    Steps along −Bg satisfy the strong conditions of Wolfe; where none does, no step is taken and B begins anew.
    """
    start = {"p_old": partial(like_parameters, 0.0), "g_old": partial(like_parameters, 0.0), "B": _unit}
    return rule(
        _bfgs, BfgsState, whole=True, start=start, wants=("params", "value", "line_search"), scaled=scale_init_precond
    )


def _unit(params: Tree) -> Any:
    vector = trees.ravel(like_parameters(0.0, params))[0]
    return np.eye(gnp.shape(vector)[0], dtype=gnp.result_type(vector))


def _bfgs(g: Tree, p: Tree, s: BfgsState, scaled: bool, value: Any, line_search: Any) -> tuple[Tree, BfgsState]:
    vector, back = trees.ravel(g)
    way = trees.ravel(p)[0] - trees.ravel(s.p_old)[0]
    y = vector - trees.ravel(s.g_old)[0]
    unit = gnp.eye(vector.shape[0], dtype=vector.dtype)
    bend, moved = way @ y, (s.t > 1) & gnp.any(way != 0)
    convex = moved & (bend > 0)
    B = s.B
    if scaled:
        begins = convex & gnp.all(B == unit)
        B = gnp.where(begins, bend / gnp.where(begins, y @ y, 1.0), 1.0) * B
    rho = 1 / gnp.where(convex, bend, 1.0)
    left = unit - rho * gnp.outer(way, y)
    B = gnp.where(convex, left @ B @ left.T + rho * gnp.outer(way, way), B)
    B = gnp.where((s.t > 1) & ~moved, unit, B)
    d = back(-(B @ vector))
    alpha = number(line_search(p, value, g, d, 1.0, CURVATURE))
    return along(d, alpha), BfgsState(s.t, p, g, B)


__all__ = ["bfgs", "gauss_newton", "levenberg_marquardt", "newton", "sum_of_squares"]
