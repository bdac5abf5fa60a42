"""What is known of values is true: for every op, of operands that are anywhere in every kind of interval.

The intervals end at 0, at the ends of domains, at what overflows; they are one number, one sign, or both.  An op's
``range`` is asked what it makes of them, and then told what NumPy makes of numbers from them.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS, Node
from gradc.ops.control import inner_leaf
from gradc.ops.ranges import INF, Hazard, Range, Zeros, range_of
from gradc.ops.record import Kind
from tests.op_cases import ATTRS, BITWISE, LOGICAL, OPERANDS, operand_count

RANGED = [
    name for name, op in sorted(OPS.items())
    if op.kind is Kind.ELEMENTWISE and op.range is not None and name not in {*BITWISE, *LOGICAL, "cast"}
    and "uint32" not in OPERANDS.get(name, ())  # any bits: tests/test_random.py
]  # fmt: skip
INTERVALS = (
    (0.0, 0.0), (1.0, 1.0), (-1.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (-1.0, 1.0), (0.5, 2.0), (-2.0, -0.5), (2.0, 3.0),
    (-3.0, 2.0), (0.0, 1e9), (-1e9, 0.0), (1.0, 1e200), (-1e200, 1e200),
)  # fmt: skip
MASKS = ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@functools.cache
def _points(interval: tuple[float, float]) -> Any:
    lo, hi = interval
    middle = [0.0, 1.0, -1.0, 0.25 * lo + 0.75 * hi, 0.75 * lo + 0.25 * hi, lo, hi]
    return np.unique([x for x in middle if lo <= x <= hi])


def _leaf(interval: tuple[float, float], dtype: str, shape: tuple[int, ...]) -> Node:
    lo, hi = interval
    nowhere = Zeros.NEVER if lo > 0 or hi < 0 else Zeros.POSSIBLE
    return inner_leaf(gc.spec(shape, dtype), "x", Range(lo, hi, Hazard.NONE, nowhere))


def _choices(dtypes: list[str]) -> list[tuple[tuple[float, float], ...]]:
    """Intervals for the operands: all tuples of two, and of three those in which any two intervals meet once."""
    kinds = [MASKS if dtype == "bool" else INTERVALS for dtype in dtypes]
    if len(kinds) < 3 or MASKS in kinds:
        return list(itertools.product(*kinds))
    n = len(INTERVALS)
    return [(*pair, INTERVALS[sum(map(INTERVALS.index, pair)) % n]) for pair in itertools.product(*kinds[:2])]


@pytest.mark.parametrize("name", RANGED)
def test_a_value_lies_in_its_range(name):
    op, attrs = OPS[name], ATTRS.get(name, {})
    dtypes = ["bool" if k == "bool" else "float64" for k in OPERANDS.get(name, ("float",) * operand_count(op))]
    choices = _choices(dtypes)
    grids = [[a.ravel() for a in np.meshgrid(*map(_points, intervals))] for intervals in choices]
    columns = [np.concatenate(c).astype(d) for c, d in zip(zip(*grids, strict=True), dtypes, strict=True)]
    with np.errstate(all="ignore"):
        together = np.asarray(op.evaluate(*columns, **attrs), float)
    values = np.split(together, np.cumsum([len(grid[0]) for grid in grids])[:-1])
    for intervals, grid, value in zip(choices, grids, values, strict=True):
        leaves = [_leaf(i, d, grid[0].shape) for i, d in zip(intervals, dtypes, strict=True)]
        known = range_of(op.make(leaves, **attrs))
        overflows = any(max(abs(lo), abs(hi)) > 1e100 for lo, hi in intervals)
        assert _untrue(known, value, overflows) == [], f"{name} of {intervals}: {known}, {value}"


def _untrue(known: Range, value: Any, overflows: bool) -> list[str]:
    """What a range says that is not so; sums and products may overflow."""
    slack = 1e-11 * np.abs(value)
    infinite, lost = np.isinf(value).any(), ~np.isfinite(value)
    said = {
        "bounds": ((value >= known.lo - slack) & (value <= known.hi + slack) | lost).all(),
        "finite": known.hazard is not Hazard.NONE or not lost.any(),
        "never infinite": known.hazard is not Hazard.NAN or not infinite,
        "moderate": known.hazard > Hazard.NAN or overflows or not infinite,
        "never 0": known.zeros is not Zeros.NEVER or value.all(),
    }
    return [name for name, so in said.items() if not so]


SOME = ((0.0, 0.0), (0.0, 1.0), (-1.0, 1.0), (1.0, 3.0), (-2.0, -0.5))


def test_what_is_known_of_values(golden):
    """As much as can be: bounds that are too wide are true, and cost guards that nothing needs."""
    lines = []
    for name in RANGED:
        kinds = OPERANDS.get(name, ("float",) * operand_count(OPS[name]))
        choices = INTERVALS if len(kinds) == 1 else SOME
        for intervals in itertools.product(*(MASKS if kind == "bool" else choices for kind in kinds)):
            leaves = [
                _leaf(i, "bool" if k == "bool" else "float64", (2,)) for i, k in zip(intervals, kinds, strict=True)
            ]
            known = range_of(OPS[name].make(leaves, **ATTRS.get(name, {})))
            of = ", ".join(f"{lo:g} … {hi:g}" for lo, hi in intervals)
            bounds = f"{known.lo:.6g} … {known.hi:.6g}"
            lines.append(f"{name}({of}): {bounds} {known.hazard.name.lower()} {known.zeros.name.lower()}")
    golden("ranges.txt", "\n".join(lines))


def test_a_bound_that_a_dtype_rounds_to_0_is_0():
    for dtype, least in (("float64", 2.3e-308), ("float32", 1.2e-38)):
        for scale, zeros in ((0.9, Zeros.POSSIBLE), (1.1, Zeros.NEVER)):
            for lo, hi in ((scale * least, 1.0), (-1.0, -scale * least)):
                x = inner_leaf(gc.spec((2,), dtype), "x", Range(lo, hi, Hazard.NONE, Zeros.NEVER))
                found = range_of(OPS["positive"].make((x,)))
                rounded = (lo, hi) if zeros is Zeros.NEVER else (min(lo, 0.0) if lo < 0 else 0.0, hi if lo > 0 else 0.0)
                assert (found.zeros, found.lo, found.hi) == (zeros, *rounded)


def test_hazards_and_zeros_are_ordered_from_nothing_on():
    assert not Hazard.NONE and not Zeros.NEVER
    assert list(Hazard) == sorted(Hazard) and len(set(Hazard)) == 6
    assert list(Zeros) == sorted(Zeros) and len(set(Zeros)) == 6
    assert INF == float("inf")
