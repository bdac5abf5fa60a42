"""Complete elliptic integrals K and E of the parameter m, with all their derivatives.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: the n-th derivatives are members of their own families, (π/2)·c·p^(…) times a hypergeometric function that is
fitted, in p = 1 − m: around p = 1, with its logarithm taken out towards p = 0, and by Pfaff's transformation, in 1/p,
for large p.  Start reading at `_derivative`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 17.3; DLMF 15.5.2, 15.8.1, 15.8.10, 19.5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.curves import hypergeometric_orders
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.error_functions import derivative_of
from gradc.ops.fits import on, table
from gradc.ops.ranges import INF, Hazard, Range
from gradc.ops.record import Sample
from gradc.ops.written import Number, evaluated


def _rising(a: float, n: int) -> float:
    return math.prod(a + k for k in range(n))


def _logarithmic(m: Any, p: Number, orders: tuple[float, ...]) -> Number:
    """₂F₁(a, b; c; 1 − p) for 0 <= p < ½: A + pˢ·B·log p."""
    a, b, c = orders
    power = m.log(m.where(p == 0.0, 1.0, p)) * on(m, p, table("elliptic_b", *orders))
    for _ in range(round(c - a - b)):
        power = power * p
    if c - a - b == 0:
        power = m.where(p == 0.0, INF, power)
    return on(m, p, table("elliptic_a", *orders)) + power


def _derivative(m: Any, p: Number, kind: str, n: int) -> Number:
    """The n-th derivative by m of K or E at m = 1 − p."""
    near, far = hypergeometric_orders(kind, n)
    inverse = 1.0 / p
    root = m.sqrt(p)
    beyond = _logarithmic(m, m.where(p > 1.0, inverse, 0.25), far)
    # Pfaff: E itself has the root before it, everything else under it
    beyond = beyond * root if kind == "e" and n == 0 else beyond / root
    middle = on(m, p, table("elliptic_f", *near))
    value = m.where(p < 0.5, _logarithmic(m, m.where(p < 0.5, p, 0.25), near), m.where(p < 2.0, middle, beyond))
    if kind == "k":
        factor, steps = math.pi / 2 * _rising(0.5, n) ** 2 / math.factorial(n), n
    else:
        factor, steps = math.pi / 2 * _rising(-0.5, n) * _rising(0.5, n) / math.factorial(n), max(n - 1, 0)
    for _ in range(steps):
        value = value * inverse
    return value * factor


def _of_parameter(m: Any, x: Number, kind: str, n: int) -> Number:
    value = m.where(x == -INF, INF if kind == "e" and n == 0 else 0.0, _derivative(m, 1.0 - x, kind, n))
    return m.where(x <= 1.0, value, math.nan)


def _of_complement(m: Any, p: Number, n: int) -> Number:
    value = m.where(p == INF, 0.0, _derivative(m, p, "k", n))
    return m.where(p >= 0.0, -value if n % 2 else value, math.nan)


def _k(m: Any, x: Number, n: int) -> Number:
    return _of_parameter(m, x, "k", n)


def _e(m: Any, x: Number, n: int) -> Number:
    return _of_parameter(m, x, "e", n)


def _up_to_one(y: Node, x: Range) -> Range:
    return Range(hazard=max(x.hazard, Hazard.ARITHMETIC)).defined(x.hi < 1)


elementwise(
    "elliptic_k",
    lambda x, n: evaluated(_k, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, S.elliptic_k, x, n),
    partials=lambda y, x, n: (apply(OPS["elliptic_k"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_k, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=80.0,
    ulp=4.0,
    scale=lambda x, n: 0.4 * n * np.abs(evaluated(_k, x, n=n)),  # each factor 1/p is rounded
    range=_up_to_one,
    domain=((-3.0, 0.9),),
    title="K{n:primes}",
    special={1.0: INF, -INF: 0.0},
    public=False,
    doc="The complete elliptic integral of the first kind K(m), or its n-th derivative; n is static; NaN for m > 1.",
)
elementwise(
    "elliptic_km1",
    lambda x, n: evaluated(_of_complement, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, lambda t: S.elliptic_k(1 - t), x, n),
    partials=lambda y, x, n: (apply(OPS["elliptic_km1"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_of_complement, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=80.0,
    ulp=4.0,
    scale=lambda x, n: 0.4 * n * np.abs(evaluated(_of_complement, x, n=n)),  # each factor 1/p is rounded
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.ARITHMETIC)).defined(x.lo > 0),
    domain=((0.1, 4.0),),
    special={0.0: -INF, INF: 0.0},
    public=False,
    doc="K(1 − p), exact where p is small, or its n-th derivative; n is static; NaN for p < 0.",
)
elementwise(
    "elliptic_e",
    lambda x, n: evaluated(_e, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, S.elliptic_e, x, n),
    partials=lambda y, x, n: (apply(OPS["elliptic_e"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_e, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=80.0,
    ulp=4.0,
    scale=lambda x, n: 0.4 * n * np.abs(evaluated(_e, x, n=n)),  # each factor 1/p is rounded
    range=_up_to_one,
    domain=((-3.0, 0.9),),
    title="E{n:primes}",
    special={1.0: -INF, -INF: 0.0},
    public=False,
    doc="The complete elliptic integral of the second kind E(m), or its n-th derivative; n is static; NaN for m > 1.",
)
