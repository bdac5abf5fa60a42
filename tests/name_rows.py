"""What NumPy's less common functions are called with: texts over x, y, z, the groups of arguments, the bounds.

Enters: nothing.  Leaves: `ROWS`.  Start reading at `row`; `tests/test_name_rows.py` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _plain() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(11)
    return rng.standard_normal((3, 4)), 3 * rng.standard_normal((3, 4)), rng.standard_normal(4)


def _pairs(values: Any, dtype: Any) -> tuple[Array, Array, Array]:
    """All pairs of some numbers as two vectors, and the numbers themselves."""
    with np.errstate(over="ignore"):
        line = np.unique(np.array(values).astype(dtype))
    x, y = np.meshgrid(line, line)
    return x.ravel(), y.ravel(), line


def _edges(dtype: Any) -> tuple[Array, Array, Array]:
    info = np.finfo(dtype)
    sizes = [0.0, info.smallest_subnormal, 3 * info.smallest_subnormal, info.smallest_normal, info.max, 1e-3, 0.5, 1.0,
             1.5, 2.5, 3.0, 4.0, 1e4, np.inf, info.smallest_normal * (1 - info.eps)]  # fmt: skip
    numbers = np.array([*sizes, np.nan, *[-v for v in sizes]], dtype)
    x, y = np.meshgrid(numbers, numbers)
    return x.ravel(), y.ravel(), numbers


def _whole_edges(dtype: Any) -> tuple[Array, Array, Array]:
    info = np.iinfo(dtype)
    line = [info.min, info.min // 2, -36, -12, -5, -1, 0, 1, 2, 3, 8, 12, 60, info.max - 1, info.max]
    return _pairs([v for v in line if v >= info.min], dtype)


A, B, V = _plain()
I = tuple(np.rint(4 * v).astype(np.int64) for v in (A, B, V))  # noqa: E741
HOLES = np.array([[np.nan, 1.5, -2.0, 3.0], [np.nan, np.nan, np.nan, np.nan], [0.5, 0.5, -0.0, 4.0]])
GROUPS: dict[str, tuple[Array, ...]] = {
    "float64": (A, B, V),
    "float32": tuple(v.astype(np.float32) for v in (A, B, V)),
    "float16": tuple(v.astype(np.float16) for v in (A, B, V)),
    "int64": I,
    "int8": tuple(v.astype(np.int8) for v in I),
    "uint8": tuple(np.abs(v).astype(np.uint8) for v in I),
    "bool": tuple(v > 0 for v in (A, B, V)),
    "scalar": tuple(np.array(v) for v in (1.5, -0.25, 2.0)),
    "empty": (np.zeros((0, 4)), np.ones((0, 4)), V),
    "holes": (HOLES, HOLES[:, ::-1].copy(), HOLES[2]),
    "edges64": _edges(np.float64),
    "edges32": _edges(np.float32),
    "edges16": _edges(np.float16),
    "whole8": _whole_edges(np.int8),
    "whole64": _whole_edges(np.int64),
    "wholeu8": _whole_edges(np.uint8),
    "wholeu64": _whole_edges(np.uint64),
}
FLOATS = ("float64", "float32")
PLAIN = (*FLOATS, "int64", "uint8", "scalar", "empty")
EDGES = ("edges64", "edges32")
WHOLE = ("whole8", "whole64", "wholeu8", "wholeu64")


@dataclass(frozen=True)
class Row:
    """Texts over x, y, z that are computed for each of some groups of arguments.

    ``ulps`` bounds the error in epsilons of the largest magnitude of the result; 0: the same bits.
    """

    texts: tuple[str, ...]
    groups: tuple[str, ...]
    ulps: float


def row(texts: str, *groups: str, ulps: float = 0) -> Row:
    return Row(tuple(filter(None, map(str.strip, texts.split(";")))), groups, ulps)


#: two roundings, that of πx and of the quotient, and sine's
SINE = 4
FORMATS = [
    row("np.frexp(z); np.modf(z); np.spacing(z); np.signbit(z); np.nextafter(x, y); np.copysign(x, y); np.fmod(x, y);"
        "np.ldexp(z[:, None], np.array([0, 1, -1, 30, -30, 140, -140, 1050, -1074, 2100, -2100, 2**31 - 1], np.int32))",
        *EDGES, "edges16"),
    row("np.frexp(x); np.modf(x); np.spacing(x); np.signbit(x); np.nextafter(x, 2); np.copysign(x, y); np.fmod(x, y);"
        "np.ldexp(x, 3); np.ldexp(x, -3); np.copysign(x, -1); np.copysign(2, x); np.angle(x, deg=True)",
        *PLAIN, "bool", "int8"),
    row("np.ldexp(x, np.arange(4, dtype=np.int8)); np.real_if_close(x); np.iscomplex(x); np.isreal(x); np.imag(x);"
        "np.array_equiv(x, x[:1]); np.array_equiv(z, np.stack([z, z])); np.array_equiv(x, x[:, :3])",
        "float64", "int64", "empty"),
    row("np.gcd(x, y); np.lcm(x, y); np.bitwise_count(x); np.fmod(x, y)", *WHOLE, "uint8"),
    row("np.gcd(x, 12); np.lcm(x, 3); np.gcd(x, np.int64(4)); np.lcm(np.int16(6), x)", "int64", "int8"),
    row("np.astype(x, np.common_type(x, y)); np.astype(x, np.min_scalar_type(y))",
        *FLOATS, "int64", "uint8", "float16"),
    row("np.angle(z)", *EDGES),
    row("np.sinc(z); np.sinc(x)", "edges64", "edges32", *PLAIN, ulps=SINE),
]  # fmt: skip

ROWS = [*FORMATS]
CASES = {(text, group): row.ulps for row in ROWS for group in row.groups for text in row.texts}
