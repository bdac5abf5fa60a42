"""Draws of Poisson and binomial numbers, by rejection where these are large and by counting where they are small.

Enters: words of a key and of counters, and the parameters.  Leaves: whole numbers as float64, NaN where there is no
such distribution.  Invariant: as in `gradc.ops.gamma_draws`; nothing is cut off.  Start reading at `poisson_draw`.

References: Hörmann, The transformed rejection method for generating Poisson random variables (Insurance: Mathematics
and Economics 12, 1993), and The generation of binomial random variates (J. Stat. Comput. Simul. 46, 1993); Knuth, The
Art of Computer Programming 2, 3.4.1; Devroye, Non-Uniform Random Variate Generation (1986), X.4, for waiting times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import OPS
from gradc.ops import elementwise as kind
from gradc.ops.consistent import must_be_float, one_for_each, refuse_dtypes, same_shape
from gradc.ops.gamma_draws import draw_of, until_accepted
from gradc.ops.randomness import WORD, fraction_of
from gradc.ops.ranges import Hazard, Range
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]
#: from this mean on numbers are drawn by rejection
LARGE = 10.0


def _infer(parameters: int) -> Callable[..., Aval]:
    def infer(*operands: Aval) -> Aval:
        one_for_each("operands", operands, 4 + parameters)
        same_shape(operands)
        if any(w.dtype != WORD for w in operands[:4]):
            refuse_dtypes("its first four operands are words of 32 bits, uint32")
        for parameter in operands[4:]:
            must_be_float(parameter)
        return Aval(operands[0].shape, np.dtype(np.float64))

    return infer


def _uniform(words: tuple[Array, ...], number: int) -> Array:
    """Uniform on (0, 1]."""
    return np.asarray(1 - fraction_of(draw_of(words, number)))


def _counted(words: tuple[Array, ...], step: Callable[[Array, Array], Array], end: Array, live: Array) -> Array:
    """How many steps, each of a uniform number, a sum takes to come beyond its end, less one."""
    count, total = np.full(live.shape, -1.0), np.zeros(live.shape)
    left, number = np.flatnonzero(live), 0
    while left.size:
        u = _uniform(tuple(w[left] for w in words), number)
        total[left] += step(u, left)
        count[left] += 1
        left, number = left[total[left] <= end[left]], number + 1
    return count


def _log_factorial(k: Array) -> Array:
    return OPS["lgamma"].evaluate(np.asarray(k + 1))


# -- Poisson -----------------------------------------------------------------------------------------------------------


def _poisson_attempt(words: tuple[Array, ...], number: int, mean: Array) -> tuple[Array, Array]:
    """Hörmann's algorithm PTRS."""
    b = 0.931 + 2.53 * np.sqrt(mean)
    a = -0.059 + 0.02483 * b
    u, v = _uniform(words, 2 * number) - 0.5, _uniform(words, 2 * number + 1)
    us = 0.5 - np.abs(u)
    k = np.floor((2 * a / us + b) * u + mean + 0.43)
    inside = (k >= 0) & (us > 0)
    quick = (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    reached = np.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b))
    whole = np.where(inside, k, 0)
    return k, inside & (quick | (reached <= whole * np.log(mean) - mean - _log_factorial(whole)))


def _poisson_draw(key_high: Array, key_low: Array, count_high: Array, count_low: Array, mean: Array) -> Array:
    words = tuple(np.ravel(w) for w in (key_high, key_low, count_high, count_low))
    wide = np.ravel(mean).astype(np.float64)
    large, small = (wide >= LARGE) & (wide < np.inf), (wide >= 0) & (wide < LARGE)
    drawn = until_accepted(words, (wide,), _poisson_attempt, large)
    counted = _counted(words, lambda u, left: -np.log(u), wide, small)
    return np.where(small, counted, drawn).reshape(mean.shape)


poisson_draw = register(
    Op(
        name="poisson_draw",
        kind=Kind.ELEMENTWISE,
        infer=_infer(1),
        numpy=_poisson_draw,
        constant=True,
        batch=kind.batch,
        lower=lambda b, *operands: b.poisson_draw(*operands),
        samples=(Sample(((),), dtypes=(*("uint32",) * 4, "float")),),
        domain=((0.5, 40.0),),
        cost=400.0,
        ulp=0.5,
        range=lambda node, *operands: Range(0.0, hazard=Hazard.NAN),
        doc="A Poisson number of the given mean.",
    )
)

# -- binomial ----------------------------------------------------------------------------------------------------------


def _binomial_attempt(words: tuple[Array, ...], number: int, n: Array, p: Array) -> tuple[Array, Array]:
    """Hörmann's algorithm BTRS, for p <= ½."""
    ratio, spread = p / (1 - p), np.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    u, v = _uniform(words, 2 * number) - 0.5, _uniform(words, 2 * number + 1)
    us = 0.5 - np.abs(u)
    k = np.floor((2 * a / us + b) * u + n * p + 0.5)
    inside = (k >= 0) & (k <= n) & (us > 0)
    quick = (us >= 0.07) & (v <= 0.92 - 4.2 / b)
    reached = np.log(v * (2.83 + 5.1 / b) * spread / (a / (us * us) + b))
    whole, mode = np.where(inside, k, 0), np.floor((n + 1) * p)
    top = _log_factorial(mode) + _log_factorial(n - mode) + (whole - mode) * np.log(ratio)
    return k, inside & (quick | (reached <= top - _log_factorial(whole) - _log_factorial(n - whole)))


def _binomial_draw(key_high: Array, key_low: Array, count_high: Array, count_low: Array, n: Array, p: Array) -> Array:
    words = tuple(np.ravel(w) for w in (key_high, key_low, count_high, count_low))
    trials, chance = np.floor(np.ravel(n).astype(np.float64)), np.ravel(p).astype(np.float64)
    live = (trials >= 0) & (trials < np.inf) & (chance >= 0) & (chance <= 1)
    turned = chance > 0.5
    least = np.where(turned, 1 - chance, chance)
    large = live & (trials * least >= LARGE)
    small = live & ~large & (least > 0)
    drawn = until_accepted(words, (trials, least), _binomial_attempt, large)
    wait = np.log1p(-np.where(small, least, 0.5))
    counted = _counted(words, lambda u, left: np.floor(np.log(u) / wait[left]) + 1, trials, small)
    found = np.where(small, counted, np.where(large, drawn, np.where(live, 0.0, np.nan)))
    return np.where(turned, trials - found, found).reshape(n.shape)


binomial_draw = register(
    Op(
        name="binomial_draw",
        kind=Kind.ELEMENTWISE,
        infer=_infer(2),
        numpy=_binomial_draw,
        constant=True,
        batch=kind.batch,
        lower=lambda b, *operands: b.binomial_draw(*operands),
        samples=(Sample(((),), dtypes=(*("uint32",) * 4, "float", "float")),),
        domain=((0.0, 1.0),) * 4 + ((1.0, 90.0), (0.0, 1.0)),
        cost=500.0,
        ulp=0.5,
        range=lambda node, *operands: Range(0.0, hazard=Hazard.NAN),
        doc="A binomial number: of n trials (rounded down) those that succeed, each with probability p.",
    )
)
