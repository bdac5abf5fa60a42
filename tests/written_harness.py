"""Hold an op whose algorithm is written once against mpmath: the interpreter, code with and without FMA, float32.

Enters: the name of an op, columns of operands, an exact function.  Leaves: errors in units in the last place.
Start reading at `hold`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np

import gradc as gc
from gradc.node import OPS
from gradc.ops.elementwise import apply
from tests.elementary_harness import Array, ulp_errors
from tests.lowering_harness import Lowered, compile_lowering


@cache
def plain(name: str, arity: int, dtype: str = "float64", lanes: int = 8, attrs: tuple[Any, ...] = ()) -> Lowered:
    """Code that may name no instruction, so that products are split instead of fused."""
    lower = OPS[name].lower
    assert lower is not None
    return compile_lowering(lambda b, *xs: lower(b, *xs, **dict(attrs)), [dtype] * arity, lanes)


def jitted(name: str, columns: Sequence[Array], **attrs: Any) -> Array:
    """What code for this machine gives."""
    return np.asarray(gc.jit(lambda *xs: apply(OPS[name], *xs, **attrs))(*columns))


def exactly(function: Callable[..., Any], columns: Sequence[Array], digits: int = 40) -> Array:
    """mpmath's values as long doubles, those beyond their range infinite or 0."""
    found = []
    with mpmath.workdps(digits):
        for row in zip(*columns, strict=True):
            value = mpmath.re(function(*[mpmath.mpf(float(x)) for x in row]))
            value = value if abs(value) < mpmath.mpf(10) ** 4000 else mpmath.sign(value) * mpmath.inf
            found.append(np.longdouble(mpmath.nstr(value, 25)))
    return np.array(found, np.longdouble)


def errors(name: str, got: Array, exact: Array, columns: Sequence[Array], dtype: str, **attrs: Any) -> Array:
    """In units in the last place of the exact result, or of the op's scale where that is larger."""
    scale = OPS[name].scale
    found = ulp_errors(got, exact, dtype)
    if scale is None:
        return found
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(np.asarray(exact, np.float64)), np.broadcast_to(scale(*columns, **attrs), exact.shape))
        other = (np.abs(got - exact) / np.spacing(size.astype(dtype))).astype(float)
    return np.where(np.isfinite(found) & np.isfinite(other), np.minimum(found, other), found)


def hold(name: str, function: Callable[..., Any], columns: Sequence[Array], digits: int = 40, **attrs: Any) -> None:
    """The op keeps the bound of its record at ``columns``, arrays of float64 whose numbers float32 holds too."""
    op, arity = OPS[name], len(columns)
    exact = exactly(function, columns, digits)
    given = tuple(sorted(attrs.items()))
    narrow = [x.astype(np.float32) for x in columns]
    values = {
        ("interpreted", "float64"): np.asarray(op.evaluate(*columns, **attrs)),
        ("compiled", "float64"): jitted(name, columns, **attrs),
        ("without FMA", "float64"): plain(name, arity, attrs=given)(*columns),
        ("compiled", "float32"): jitted(name, narrow, **attrs),
    }
    for (how, dtype), got in values.items():
        found, bound = errors(name, got, exact, columns, dtype, **attrs), op.bound(dtype)
        worst = int(found.argmax())
        assert bound is not None
        assert found[worst] <= bound, (how, dtype, found[worst], [float(x[worst]) for x in columns], got[worst])


def single(*columns: Any) -> list[Array]:
    """Numbers that float32 holds, as float64."""
    with np.errstate(over="ignore"):
        return [np.asarray(x, np.float32).astype(np.float64) for x in columns]
