"""Limited-memory BFGS: the inverse Hessian from the last few steps, and a line search with one gradient a step.

Letters: g gradient, p parameter, d = differences of parameters, y = differences of gradients, ρ = 1/⟨y, d⟩, one row of
each for the last m steps.  Start reading at `lbfgs`; the two-loop recursion is `inverse_hessian_times`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import leaves_of, tree_map
from gradc.node import here
from gradc.optim.reading import reading
from gradc.optim.rules import (
    Optimizer,
    Scalar,
    Tree,
    called,
    copied,
    dot,
    filled,
    global_norm,
    number,
    rule,
    select,
    times,
)
from gradc.optim.transforms import chain, scale, scale_by_learning_rate


class LbfgsState(NamedTuple):
    t: Any  #: steps taken
    p_old: Tree  #: the last parameters
    g_old: Tree  #: the last gradients
    d: Tree  #: for each parameter the last m differences of it, the newest last
    y: Tree  #: and of its gradient
    rho: Any  #: 1/⟨y, d⟩ of each, 0 where there is none yet


def like_parameters(value: float, params: Tree) -> Tree:
    """A tree like ``params`` of one value."""
    leaves, structure = leaves_of(params)
    return structure.of_arrays.unflatten(filled(p, value) for p in leaves)


def _copies(params: Tree) -> Tree:
    leaves, structure = leaves_of(params)
    return structure.of_arrays.unflatten(map(copied, leaves))


def _rows(size: int, params: Tree) -> Tree:
    """``size`` rows of zeros for each parameter."""
    return tree_map(lambda z: gnp.zeros((size, *gnp.shape(z)), gnp.result_type(z)), like_parameters(0.0, params))


def _numbers(shape: tuple[int, ...], value: float, params: Tree) -> Any:
    return np.full(shape, value)


def _refuse_memory(memory_size: Any) -> None:
    if isinstance(memory_size, bool) or not isinstance(memory_size, (int, np.integer)) or memory_size < 1:
        raise ValueError(f"{here()}: memory_size is a whole number from 1 on, got {memory_size!r:.60}")


@called
def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> Optimizer:
    """Gradients times the inverse Hessian that the last ``memory_size`` steps tell of (Liu & Nocedal 1989).

    ``scale_init_precond`` begins it at ⟨y, d⟩/⟨y, y⟩ times the identity, at the first step at min(1, 1/‖g‖).
    """
    _refuse_memory(memory_size)
    rows = partial(_rows, memory_size)
    start = {"p_old": partial(like_parameters, 0.0), "g_old": partial(like_parameters, 0.0), "d": rows, "y": rows,
             "rho": partial(_numbers, (memory_size,), 0.0)}  # fmt: skip
    return rule(
        _lbfgs, LbfgsState, whole=True, start=start, wants=("params",), scaled=scale_init_precond, m=memory_size
    )


def _lbfgs(g: Tree, p: Tree, s: LbfgsState, scaled: bool, m: int) -> tuple[Tree, LbfgsState]:
    first = s.t == 1
    known = remembered(s, g, p, ~gnp.asarray(first))
    scale = initial_scale(_row(known.d, m - 1), _row(known.y, m - 1), g, first) if scaled else 1.0
    return inverse_hessian_times(g, known, scale, m), known._replace(p_old=p, g_old=g)


def remembered(s: Any, g: Tree, p: Tree, new: Any) -> Any:
    """The memory of a state, with the step that led here as its newest row where ``new`` is true."""
    d, y = tree_map(lambda a, b: a - b, p, s.p_old), tree_map(lambda a, b: a - b, g, s.g_old)
    bend = dot(y, d)
    rho = gnp.where(bend == 0, 0.0, 1 / gnp.where(bend == 0, 1.0, bend))

    def pushed(rows: Any, row: Any) -> Any:
        return gnp.where(new, gnp.concatenate([rows[1:], row[None]]), rows)

    return s._replace(
        d=tree_map(pushed, s.d, d), y=tree_map(pushed, s.y, y),
        rho=gnp.where(new, gnp.concatenate([s.rho[1:], gnp.reshape(gnp.asarray(rho), (1,))]), s.rho),
    )  # fmt: skip


def initial_scale(d: Tree, y: Tree, g: Tree, first: Any) -> Any:
    """What the inverse Hessian is before any step is told of it: a multiple of the identity."""
    square, size = dot(y, y), number(global_norm(g))
    known = number(gnp.where(square > 0, dot(y, d) / gnp.where(square > 0, square, 1.0), 1.0))
    begin = number(gnp.where(size > 1, 1 / gnp.where(size > 1, size, 1.0), 1.0))
    return number(gnp.where(first, begin, known))


def _row(rows: Tree, i: int) -> Tree:
    return tree_map(lambda x: x[i], rows)


def along(d: Tree, alpha: Any) -> Tree:
    """α·d; 0 where α is, whatever d: which who reads the formula is not told."""
    if reading.get() is not None:
        return times(d, alpha)
    return tree_map(lambda d: gnp.where(alpha != 0, alpha * d, 0.0), d)


def inverse_hessian_times(g: Tree, s: Any, scale: Any, m: int) -> Tree:
    """H⁻¹g by the two-loop recursion (Nocedal & Wright 2006, algorithm 7.4)."""
    q, alphas = g, {}
    rows = [(_row(s.d, i), _row(s.y, i), number(s.rho[i])) for i in range(m)]
    for i in reversed(range(m)):
        d, y, rho = rows[i]
        alphas[i] = rho * dot(d, q)
        q = tree_map(lambda q, y, a=alphas[i]: q - a * y, q, y)
    q = tree_map(lambda q: scale * q, q)
    for i in range(m):
        d, y, rho = rows[i]
        step = alphas[i] - rho * dot(y, q)
        q = tree_map(lambda q, d, a=step: q + a * d, q, d)
    return q


@called
def lbfgs(
    learning_rate: Scalar | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: bool | str = True,
    slope_rtol: Scalar = 1e-4,
    curv_rtol: Scalar = 0.9,
    approx_dec_rtol: Scalar = 1e-6,
) -> Optimizer:
    """Limited-memory BFGS (Liu & Nocedal 1989), for full batches.

    With ``linesearch`` each call of ``update`` is one trial: the loss and the gradient that it is given judge the last
    step.  A step is taken if it meets the weak conditions of Wolfe (the loss fell by ``slope_rtol`` of what the slope
    promised, and at most ``curv_rtol`` of the slope is left); else the next trial is between steps that were too short
    and too long, which bisection finds (Lewis & Overton 2013).  Where losses differ by rounding alone, by
    ``approx_dec_rtol`` of the loss, slopes decide (Hager & Zhang 2005).  So a step costs one gradient, and no loop
    stands in the compiled step.  Wants ``value``, which gc.train_step gives.  ``learning_rate``: how far a first trial
    goes, by default 1.

    With ``linesearch="zoom"`` each call is one whole step: a line search within it finds one that meets the strong
    conditions of Wolfe, with at most ``curv_rtol`` of the slope left (Nocedal & Wright 2006, algorithms 7.5, 3.5 and
    3.6); ``learning_rate``, by default 1, is tried first, and where no step is found, none is taken.  Wants
    ``line_search``, too.  ``slope_rtol`` and ``approx_dec_rtol`` have no part in it.

    Without ``linesearch`` this is optax's with ``linesearch=None``: every step is taken, times ``learning_rate``.
    """
    _refuse_memory(memory_size)
    if not linesearch:
        base = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
        return chain(scale_by_lbfgs(memory_size, scale_init_precond), base)
    rows = partial(_rows, memory_size)
    if linesearch == "zoom":
        if callable(curv_rtol) or not 0 < curv_rtol < 1:
            raise ValueError(f"{here()}: curv_rtol is a number between 0 and 1, got {curv_rtol!r:.60}")
        begin = {"p_old": partial(like_parameters, 0.0), "g_old": partial(like_parameters, 0.0), "d": rows, "y": rows,
                 "rho": partial(_numbers, (memory_size,), 0.0)}  # fmt: skip
        return rule(
            partial(_zoomed, memory_size, scale_init_precond, curv_rtol), LbfgsState, whole=True, start=begin,
            wants=("params", "value", "line_search"), first=1.0 if learning_rate is None else learning_rate,
        )  # fmt: skip
    if linesearch is not True:
        raise ValueError(f"{here()}: linesearch is True, False or 'zoom', got {linesearch!r:.60}")
    start = {
        "p_old": _copies, "g_old": partial(like_parameters, 0.0), "d": rows, "y": rows,
        "rho": partial(_numbers, (memory_size,), 0.0), "u": partial(like_parameters, 0.0),
        "step": partial(_numbers, (), 0.0),
        "low": partial(_numbers, (), 0.0), "high": partial(_numbers, (), np.inf), "f": partial(_numbers, (), 0.0),
        "slope": partial(_numbers, (), 0.0),
    }  # fmt: skip
    return rule(
        _trial, TrialState, whole=True, start=start, wants=("params", "value"), m=memory_size,
        scaled=scale_init_precond, first=1.0 if learning_rate is None else learning_rate, c1=slope_rtol, c2=curv_rtol,
        c3=approx_dec_rtol,
    )  # fmt: skip


def _zoomed(
    m: int, scaled: bool, curvature: float, g: Tree, p: Tree, s: LbfgsState, first: Any, value: Any, line_search: Any
) -> tuple[Tree, LbfgsState]:
    way, change = tree_map(lambda a, b: a - b, p, s.p_old), tree_map(lambda a, b: a - b, g, s.g_old)
    begins = s.t == 1
    known = remembered(s, g, p, ~gnp.asarray(begins) & (dot(way, change) > 0))
    scale = initial_scale(_row(known.d, m - 1), _row(known.y, m - 1), g, begins) if scaled else 1.0
    d = tree_map(lambda x: -x, inverse_hessian_times(g, known, scale, m))
    alpha = number(line_search(p, value, g, d, first, curvature))
    return along(d, alpha), known._replace(p_old=p, g_old=g)


class TrialState(NamedTuple):
    t: Any  #: steps taken
    p_old: Tree  #: where the search began
    g_old: Tree  #: the gradients there
    d: Tree  #: for each parameter the last m differences of it, the newest last
    y: Tree  #: and of its gradient
    rho: Any  #: 1/⟨y, d⟩ of each, 0 where there is none yet
    u: Tree  #: the direction of the search
    step: Any  #: how far along it the last trial went
    low: Any  #: the longest step that was too short
    high: Any  #: the shortest step that was too long
    f: Any  #: the loss where the search began
    slope: Any  #: and its slope along the direction


def _trial(
    g: Tree, p: Tree, s: TrialState, m: int, scaled: bool, first: Any, c1: Any, c2: Any, c3: Any,
    value: Any,
) -> tuple[Tree, TrialState]:  # fmt: skip
    value, step, begun = number(value), number(s.step), s.t > 1
    slope = dot(g, s.u)
    fell = value <= s.f + c1 * step * s.slope
    level = (value <= s.f + c3 * gnp.abs(s.f)) & (slope <= (2 * c1 - 1) * s.slope)
    too_long = begun & ~gnp.asarray(fell | level)
    too_short = begun & ~gnp.asarray(too_long) & (slope < c2 * s.slope)
    taken = ~gnp.asarray(too_long | too_short)
    known = remembered(s, g, p, taken & begun)
    scale = initial_scale(_row(known.d, m - 1), _row(known.y, m - 1), g, s.t == 1) if scaled else 1.0
    downhill = tree_map(lambda x: -x, inverse_hessian_times(g, known, scale, m))
    u = select(taken, downhill, s.u)
    at, from_ = select(taken, p, s.p_old), select(taken, g, s.g_old)
    low = gnp.where(taken, 0.0, gnp.where(too_short, step, s.low))
    high = gnp.where(taken, np.inf, gnp.where(too_long, step, s.high))
    between = gnp.where(gnp.isfinite(high), 0.5 * (low + high), 2 * step)
    length = number(gnp.where(taken, first, between))
    after = known._replace(
        p_old=at, g_old=from_, u=u, step=length, low=low, high=high, f=gnp.where(taken, value, s.f),
        slope=gnp.where(taken, dot(g, downhill), s.slope),
    )  # fmt: skip
    return tree_map(lambda at, u, p: at + length * u - p, at, u, p), after


__all__ = ["lbfgs", "scale_by_lbfgs"]
