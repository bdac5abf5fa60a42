"""Functions as polynomials, piece by piece: tables that are shipped, or fitted when they are first asked for.

Enters: the name of a curve and its orders.  Leaves: a `Table`, rows of coefficients that `on` evaluates for any machine
of `gradc.ops.written`.
Invariant: a table's error is below 2⁻⁵⁷ of the largest value on the piece, before the coefficients are rounded.   What
``tables/`` holds was fitted by ``python -m gradc.ops.tables``; other orders are fitted in the process that first needs
them, which takes two seconds of a processor for a Bessel function of order 12, eight for one of order 63.5.  Start
reading at `on`.

Method: Chebyshev interpolation in 50 digits, cut where the tail is small, written in powers of the distance from the
middle of the piece (Clenshaw, Chebyshev Series for Mathematical Functions, NPL 1962).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gradc.ops.curves import Curve, curve
from gradc.ops.written import Number

#: nodes of the interpolation on one piece, decimal digits of the arithmetic, and the error of the polynomial
NODES, DIGITS, ERROR = 24, 50, 2.0**-58
FOLDER = Path(__file__).parent / "tables"
#: a context of mpmath's has one precision
_ONE_AT_A_TIME = threading.Lock()
#: what this process fitted, by `key_of`; read and written under the lock
_MADE: dict[str, Table] = {}


@dataclass(frozen=True, slots=True)
class Table:
    """``rows[k][j]``: the coefficient of piece j, of the highest power first, in (v − start)/step − j − 1/2."""

    start: float
    step: float
    rows: tuple[tuple[float, ...], ...]

    @property
    def count(self) -> int:
        """How many pieces."""
        return len(self.rows[0])


def on(m: Any, v: Number, table: Table) -> Number:
    """The polynomial of the piece that v lies in; beyond the ends that of the last piece, of NaN NaN."""
    place, middle = v * (1 / table.step), table.start / table.step + 0.5
    piece = m.rint(place - middle)
    piece = m.where(piece > 0.0, m.where(piece < table.count - 1.0, piece, table.count - 1.0), 0.0)
    t, entries = place - (piece + middle), m.entries(table.rows, piece)
    value = entries[0]
    for entry in entries[1:]:
        value = m.fma(value, t, entry)
    return value


# -- fitting -----------------------------------------------------------------------------------------------------------


@cache
def arithmetic() -> Any:
    """A context of mpmath's of its own, in which curves are evaluated."""
    import mpmath

    mp = mpmath.mp.clone()
    mp.dps = DIGITS
    return mp


def fitted(curve: Curve, *orders: float) -> Table:
    """The table of a curve for these orders."""
    with _ONE_AT_A_TIME:
        return _fitted(arithmetic(), curve, orders)


def _fitted(mp: Any, curve: Curve, orders: Sequence[float]) -> Table:
    angles = [mp.pi * (2 * j + 1) / (2 * NODES) for j in range(NODES)]
    nodes = [mp.cos(a) / 2 for a in angles]
    waves = [[mp.cos(k * a) for a in angles] for k in range(NODES)]
    series = []
    for j in range(curve.count):
        points = [curve.start + curve.step * (j + 0.5 + node) for node in nodes]
        values = [curve.function(mp, v, *map(mp.mpf, orders)) for v in points]
        series.append([mp.fdot(values, wave) * 2 / NODES for wave in waves])
    degree = max(map(_degree, series))
    powers = [_powers(terms[: degree + 1]) for terms in series]
    return Table(curve.start, curve.step, tuple(tuple(map(float, row)) for row in zip(*powers, strict=True)))


def _degree(terms: Sequence[Any]) -> int:
    """Up to which term a Chebyshev series has to go."""
    largest, rest, k = max(map(abs, terms)), 0, len(terms) - 1
    while k > 0 and rest + abs(terms[k]) <= ERROR * largest:
        rest += abs(terms[k])
        k -= 1
    return k


def _powers(terms: Sequence[Any]) -> list[Any]:
    """Σ' cₖ·Tₖ(2t) in powers of t, the highest first."""
    found = [terms[0] * 0 for _ in terms]
    before, here = [1], [0, 2]
    for k, c in enumerate(terms):
        polynomial = before if k == 0 else here
        for power, factor in enumerate(polynomial):
            found[power] += (c / 2 if k == 0 else c) * factor
        if k:
            doubled = [0, *(4 * x for x in here)]
            before, here = here, [x - (before[i] if i < len(before) else 0) for i, x in enumerate(doubled)]
    return found[::-1]


@cache
def table(name: str, *orders: float) -> Table:
    """The table of the curve of this name in `gradc.ops.curves`: threads that ask for a new one at once share one
    fit."""
    key = key_of(name, orders)
    known = _shipped(name.partition("_")[0]).get(key)
    if known is not None:
        return known
    with _ONE_AT_A_TIME:
        if key not in _MADE:  # another thread may have made it while this one waited
            _MADE[key] = _fitted(arithmetic(), curve(name, *orders), orders)
        return _MADE[key]


def key_of(name: str, orders: Sequence[float]) -> str:
    """The name of a table in its file: different orders have different names, the zeros the same."""
    return " ".join([name, *(repr(float(n) + 0.0) for n in orders)])


@cache
def _shipped(family: str) -> dict[str, Table]:
    path = FOLDER / f"{family}.json"
    if not path.exists():
        return {}
    held = json.loads(path.read_text())
    return {key: Table(x["start"], x["step"], tuple(map(tuple, x["rows"]))) for key, x in held.items()}
