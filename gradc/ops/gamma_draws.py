"""Draws of gamma numbers by rejection, and how a gamma number moves with its shape parameter when its place in the
distribution is held.

Enters: words of a key and of counters, and the shape parameter a.  Leaves: log g, g of the density gᵃ⁻¹e⁻ᵍ/Γ(a), and
moments of that density.  Invariant: a draw is exact: it is repeated until it is accepted, each time with bits of its
own; its rule is in `gradc.random.rejection`.  Start reading at `gamma_draw`.

References: Marsaglia, Tsang, A simple method for generating gamma variables (ACM TOMS 26, 2000); Figurnov, Mohamed,
Mnih, Implicit reparameterization gradients (NeurIPS 2018); Takahasi, Mori, Double exponential formulas for numerical
integration (1974), for the nodes of the integral.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import OPS, Node
from gradc.ops import elementwise as kind
from gradc.ops.consistent import must_be_float, one_for_each, refuse_dtypes, same_shape
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.randomness import WORD, fraction_of, normal_of
from gradc.ops.ranges import Hazard, Range
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


def draw_of(words: tuple[Array, ...], number: int) -> Array:
    """The bits, uint64, of the draw of this number: Threefry with the number added to the lower word of the key."""
    key_high, key_low, *counter = words
    return OPS["threefry"].evaluate(key_high, key_low + np.uint32(number), *counter, part="both")


def until_accepted(
    words: tuple[Array, ...], parameters: tuple[Array, ...], attempt: Callable[..., tuple[Array, Array]], live: Array
) -> Array:
    """What ``attempt(words, number, *parameters)`` gives where it says that it is accepted, tried until it is; NaN
    where not ``live``."""
    result = np.full(live.shape, np.nan)
    left, number = np.flatnonzero(live), 0
    while left.size:
        part = tuple(w[left] for w in words), tuple(p[left] for p in parameters)
        value, accepted = attempt(part[0], number, *part[1])
        result[left[accepted]] = value[accepted]
        left, number = left[~accepted], number + 1
    return result


# -- the draw ----------------------------------------------------------------------------------------------------------


def _gamma_infer(*operands: Aval) -> Aval:
    one_for_each("operands", operands, 5)
    same_shape(operands)
    *words, shape = operands
    if any(w.dtype != WORD for w in words):
        refuse_dtypes("its first four operands are words of 32 bits, uint32")
    must_be_float(shape)
    return Aval(shape.shape, shape.dtype)


def _attempt(words: tuple[Array, ...], number: int, d: Array, c: Array) -> tuple[Array, Array]:
    """(1 + cx)³ for a normal x, and whether a uniform number lies below the ratio of the densities."""
    x = normal_of(draw_of(words, 2 * number + 1))
    u = 1 - fraction_of(draw_of(words, 2 * number + 2))
    v = 1 + c * x
    cube = v * v * v
    bound = 0.5 * x * x + d * (1 - cube + np.log(np.where(v > 0, cube, 1)))
    return cube, (v > 0) & (np.log(u) < bound)


def _gamma_draw(key_high: Array, key_low: Array, count_high: Array, count_low: Array, a: Array) -> Array:
    words = tuple(np.ravel(w) for w in (key_high, key_low, count_high, count_low))
    shape = np.ravel(a).astype(np.float64)
    small, live = shape < 1, (shape > 0) & (shape < np.inf)
    d = np.where(live, np.where(small, shape + 1, shape), 1) - 1 / 3
    cube = until_accepted(words, (d, 1 / np.sqrt(9 * d)), _attempt, live)
    u = 1 - fraction_of(draw_of(words, 0))
    result = np.log(d) + np.log(cube) + np.where(small, np.log(u) / np.where(small, shape, 1), 0)
    result = np.where(shape == 0, -np.inf, np.where(shape == np.inf, np.inf, result))
    return np.asarray(result.reshape(a.shape).astype(a.dtype))


gamma_draw = register(
    Op(
        name="gamma_draw",
        kind=Kind.ELEMENTWISE,
        infer=_gamma_infer,
        numpy=_gamma_draw,
        constant=True,
        batch=kind.batch,
        lower=lambda b, *operands: b.gamma_draw(*operands),
        samples=(Sample(((),), dtypes=(*("uint32",) * 4, "float")),),
        domain=((0.2, 9.0),),
        cost=300.0,
        ulp=16.0,
        scale=lambda *operands: 1.0,
        range=lambda node, *operands: Range(hazard=Hazard.POLE),
        doc="log g of a gamma number g of shape a, by the method of Marsaglia and Tsang; NaN for a < 0, −∞ for 0.",
    )
)


# -- how it moves ------------------------------------------------------------------------------------------------------

#: ∂ⁿf/∂aⁿ = Bₙ·f for the gamma density f: by powers of λ = log x − ψ(a) and of ψ′(a), ψ″(a), …, with factors
Terms = Mapping[tuple[int, ...], float]
#: the nodes of the double exponential rule on (0, ∞): exp(u − e⁻ᵘ) for evenly spaced u, and their weights
NODES = 64
_FIRST, _LAST = -3.4, 4.7


@cache
def bell_terms(n: int) -> Terms:
    """Bₙ: B₁ = λ, Bₙ₊₁ = λ·Bₙ + ∂Bₙ/∂a, where ∂λ/∂a = −ψ′ and ∂ψ⁽ᵏ⁾/∂a = ψ⁽ᵏ⁺¹⁾."""
    if n == 1:
        return {(1, *(0,) * n): 1.0}
    found: dict[tuple[int, ...], float] = {}
    for powers, factor in bell_terms(n - 1).items():
        wide = [*powers, 0]

        def add(changed: list[int], times: float, factor: float = factor) -> None:
            found[tuple(changed)] = found.get(tuple(changed), 0.0) + factor * times

        add([wide[0] + 1, *wide[1:]], 1.0)
        for k, power in enumerate(wide[:-1]):
            if power:
                moved = [*wide]
                moved[k] -= 1
                moved[k + 1] += 1
                add(moved, -power if k == 0 else power)
    return found


def bell(n: int, powers: Callable[[int, int], Any], total: Callable[[list[Any]], Any]) -> Any:
    """Bₙ of anything: ``powers(k, e)`` is the e-th power of λ (k = 0) or ψ⁽ᵏ⁾; ``total`` sums lists (factor, …)."""
    return total([[factor, *(powers(k, e) for k, e in enumerate(term) if e)] for term, factor in bell_terms(n).items()])


@cache
def nodes() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Places and weights of the rule."""
    u = np.linspace(_FIRST, _LAST, NODES)
    places = np.exp(u - np.exp(-u))
    weights = (u[1] - u[0]) * (1 + np.exp(-u)) * places
    return tuple(places.tolist()), tuple(weights.tolist())


def _bell_of_arrays(n: int, logarithm: Array, psis: list[Array]) -> Array:
    def power(k: int, e: int) -> Array:
        return np.asarray((logarithm if k == 0 else psis[k - 1]) ** e)

    return np.asarray(bell(n, power, lambda rows: sum(math.prod(row) for row in rows)))


def _gamma_moment(a: Array, y: Array, n: int) -> Array:
    """Below x = eʸ by t = x·e^(−τ) where x <= a, else above it by t = x + τ: ∂ⁿF/∂aⁿ is the integral of ∂ⁿf/∂aⁿ from
    0 to x, or less that from x to ∞."""
    shape, logarithm = (np.asarray(v, np.float64) for v in np.broadcast_arrays(a, y))
    x = np.exp(logarithm)
    above, apart = x > shape, np.abs(x - shape)
    unit = np.where(
        above,
        1 / (apart / np.where(above, x, 1) + 1 / np.sqrt(np.maximum(x, 1))),
        1 / (apart + np.minimum(np.sqrt(x), shape)),
    )
    from_mean = logarithm - OPS["digamma"].evaluate(shape)
    psis = [OPS["polygamma"].evaluate(shape, n=k) for k in range(1, n)]
    total = np.zeros_like(x)
    for place, weight in zip(*nodes(), strict=True):
        t = unit * place
        step = np.where(above, np.log1p(t / np.where(above, x, 1)), -t)
        exponent = np.where(above, (shape - 1) * step - t, -shape * t - x * np.expm1(-t))
        total += weight * _bell_of_arrays(n, from_mean + step, psis) * np.exp(np.minimum(exponent, 0))
    return np.asarray(unit * total * np.where(above, 1 / np.where(above, x, 1), -1), np.result_type(a, y))


def _moment_partials(m: Node, a: Node, y: Node, n: int) -> tuple[Node, Node]:
    """∂M/∂a = Mₙ₊₁ − M·λ and ∂M/∂y = −Bₙ − M·(a − eʸ)."""
    mean = y - apply(OPS["digamma"], a)
    psis = [apply(OPS["polygamma"], a, n=k) for k in range(1, n)]

    def power(k: int, e: int) -> Node:
        value = mean if k == 0 else psis[k - 1]
        return value if e == 1 else value**e

    density: Node = bell(n, power, lambda rows: sum(math.prod(row) for row in rows))
    return apply(gamma_moment, a, y, n=n + 1) - m * mean, -density - m * (a - np.exp(y))


gamma_moment = elementwise(
    "gamma_moment",
    _gamma_moment,
    like=np.logaddexp,
    sympy=None,
    partials=_moment_partials,
    lower=lambda b, a, y, n: b.gamma_moment(a, y, n),
    samples=(Sample(((),), {"n": 1}),),
    domain=((0.3, 9.0), (-1.0, 2.0)),
    cost=3000.0,
    ulp=4000.0,
    scale=lambda *operands, **attrs: 1.0,
    public=False,
    doc="−(∂ⁿF/∂aⁿ)/(x·f) at x = eʸ, F and f the distribution function and density of a gamma number of shape a: for n "
    "= 1 the derivative in a of its logarithm, its place in the distribution being held.",
)
