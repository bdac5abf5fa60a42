"""How the incomplete beta function moves with its shape parameters: derivatives of every order, as integrals.

Enters: shapes a and b, a place x, and orders.  Leaves: ∂ⁱ⁺ʲI/∂aⁱ∂bʲ.  Invariant: with f the density of the beta
distribution, ∂ⁱ⁺ʲf/∂aⁱ∂bʲ = Bᵢⱼ·f with a polynomial Bᵢⱼ in logarithms and polygammas, so the family is closed.
Start reading at `bell_terms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.incomplete_beta import density_parts, gap_of, log1p_excess_of, nodes
from gradc.ops.ranges import Hazard, Range
from gradc.ops.record import Sample
from gradc.ops.two_parts import add, constant, negative, pick, single, times, value
from gradc.ops.written import Number, evaluated

#: a factor of a term: ("a", 0) is log t − ψ(a) + ψ(a + b), ("b", 0) log(1 − t) − ψ(b) + ψ(a + b); ("a", k), ("b", k)
#: and ("c", k) are ψ⁽ᵏ⁾ of a, b and a + b
Factor = tuple[str, int]
Terms = dict[tuple[Factor, ...], float]

#: so near an end the integral from there to the other takes more nodes than there are
CLOSE = 1e-3


def _slope(factor: Factor, by: str) -> list[tuple[float, Factor]]:
    """The derivative of a factor in the shape ``by``."""
    of, k = factor
    if k == 0:
        return [(1.0, ("c", 1)), *([(-1.0, (of, 1))] if of == by else [])]
    return [(1.0, (of, k + 1))] if of in (by, "c") else []


@cache
def bell_terms(i: int, j: int) -> Terms:
    """Bᵢⱼ: products of factors, each with a number before it."""
    if i == j == 0:
        return {(): 1.0}
    by = "a" if i else "b"
    before = bell_terms(i - 1, j) if i else bell_terms(i, j - 1)
    found: Terms = {}

    def put(factors: tuple[Factor, ...], number: float) -> None:
        key = tuple(sorted(factors))
        found[key] = found.get(key, 0.0) + number

    for factors, number in before.items():
        put((*factors, (by, 0)), number)
        for at, factor in enumerate(factors):
            for times_, other in _slope(factor, by):
                put((*factors[:at], other, *factors[at + 1 :]), number * times_)
    return found


def bell(i: int, j: int, factor: Callable[[Factor], Any]) -> Any:
    """Bᵢⱼ of anything."""
    products = (math.prod([factor(f) for f in factors], start=number) for factors, number in bell_terms(i, j).items())
    first, *rest = products
    return sum(rest, first)


def _moment(m: Any, a: Number, b: Number, x: Number, i: int, j: int) -> Number:
    """The integral of Bᵢⱼ·f from 0 to x, or less that from x to 1: on the side of x where the mean is not, in the
    variable and with the exponent of `gradc.ops.incomplete_beta`.

    On that side ψ of a shape below 1 would cancel: there I(a, b, x) = I(a + 1, b, x) + xᵃyᵇ/(a·B(a, b)) (DLMF 8.17.20),
    of which both parts are differentiated.  So it is close to 0, for the other side then spans too many octaves.
    """
    inside = (a > 0.0) & (a < math.inf) & (b > 0.0) & (b < math.inf) & (x > 0.0) & (x < 1.0)
    a, b = m.where(inside, a, 1.0), m.where(inside, b, 1.0)
    place = single(m, m.where(inside, x, 0.5))
    rest = add(constant(m, (1.0, 0.0), a), negative(place))
    swapped = value(m, add(times(m, rest, a), negative(times(m, place, b)))) < 0.0
    at_zero = (a < 1.0) & (place[0] < CLOSE) & (place[0] * (a + b + 1.0) < a + 1.0)
    at_one = (b < 1.0) & (rest[0] < CLOSE) & (rest[0] * (a + b + 1.0) < b + 1.0)
    swapped = (swapped & ~at_zero) | at_one
    below, whole = m.where(swapped, b, a) < 1.0, a + b
    a, b = m.where(below & ~swapped, a + 1.0, a), m.where(below & swapped, b + 1.0, b)
    first, second = m.where(swapped, b, a), m.where(swapped, a, b)
    near, far = pick(m, swapped, rest, place), pick(m, swapped, place, rest)
    p, k = density_parts(m, first, second, near, far)
    lead = value(m, add(times(m, far, first), negative(times(m, near, second))))
    slope, odds = m.where(lead > 0.0, lead, 0.0) / far[0], near[0] / far[0]
    root = m.sqrt(first + second * odds * odds)
    unit = 1.0 / (slope + m.where(root < first, root, first))
    known = {(of, n): m.polygamma(v, n) for of, v in (("a", a), ("b", b), ("c", a + b)) for n in range(i + j)}
    logarithm, far_logarithm = m.log(near[0]), m.where(near[0] < 0.5, m.log1p(-near[0]), m.log(far[0]))

    def shifted(f: Factor) -> Number:
        """Of xᵃyᵇ/(a·B(a, b)): ψ⁽ⁿ⁾ of a + b is that of a + b + 1 less a power."""
        of, n = f
        power = (-1) ** n * math.factorial(n) / math.prod([whole] * (n + 1))
        if n:
            return known[f] - power if of == "c" else known[f]
        here, there = (logarithm, far_logarithm) if of == "a" else (far_logarithm, logarithm)
        return m.where(swapped, there, here) - known[of, 0] + known["c", 0] - power

    def term(node: Number, weight: Number) -> Number:
        s = unit * node
        e, gap = gap_of(m, s)
        exponent = slope * e + first * gap + second * log1p_excess_of(m, odds * e)
        here, there = logarithm - s, m.log(far[0] + near[0] * e)
        logs = {"a": m.where(swapped, there, here), "b": m.where(swapped, here, there)}

        def factor(f: Factor) -> Number:
            of, n = f
            return known[f] if n else logs[of] - known[of, 0] + known["c", 0]

        return weight * m.exp(-exponent) / (far[0] + near[0] * e) * bell(i, j, factor)

    found = unit * m.total(nodes(), term, x) * m.ldexp(value(m, p), k)
    lift = m.where(near[0] < 2.0**-900, 200.0, 0.0)  # 1/x may not be infinite
    part = m.ldexp(value(m, p) / m.ldexp(near[0], lift), k + lift) / whole
    found = m.where(below, found + bell(i, j, shifted) * part, found)
    found = m.where(swapped, -found, found)
    edge = m.where((x == 0.0) | (x == 1.0), 0.0, m.constant(math.nan, x))
    return m.where(inside, found, edge)


def _partials(y: Node, a: Node, b: Node, x: Node, i: int, j: int) -> tuple[Node, Node, Node]:
    """The next ones of the family, and Bᵢⱼ·f."""

    def factor(f: Factor) -> Node:
        of, n = f
        if n:
            return apply(OPS["polygamma"], {"a": a, "b": b, "c": a + b}[of], n=n)
        logarithm = apply(OPS["log"], x) if of == "a" else apply(OPS["log1p"], -x)
        return logarithm - apply(OPS["digamma"], a if of == "a" else b) + apply(OPS["digamma"], a + b)

    density: Node = bell(i, j, factor) * apply(OPS["beta_density"], a, b, x)
    return moment(a, b, x, i + 1, j), moment(a, b, x, i, j + 1), density


def moment(a: Node, b: Node, x: Node, i: int, j: int) -> Node:
    """∂ⁱ⁺ʲI/∂aⁱ∂bʲ."""
    return apply(beta_moment, a, b, x, i=i, j=j)


beta_moment = elementwise(
    "beta_moment",
    lambda a, b, x, i, j: evaluated(_moment, a, b, x, i=i, j=j),
    sympy=None,
    partials=_partials,
    lower=lambda m, a, b, x, i, j: m.called(_moment, a, b, x, i=i, j=j),
    samples=(Sample(((), (), ()), {"i": 1, "j": 0}),),
    domain=((0.4, 6.0), (0.4, 6.0), (0.1, 0.9)),
    cost=6000.0,
    ulp=4000.0,
    scale=lambda *operands, **attrs: 1.0,
    range=lambda y, a, b, x: Range(hazard=Hazard.POLE),
    public=False,
    doc="∂ⁱ⁺ʲI/∂aⁱ∂bʲ of the regularised incomplete beta function, i + j >= 1.",
)
