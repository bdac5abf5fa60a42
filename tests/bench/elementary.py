"""Each transcendental function over a vector that fits the second-level cache, with its error bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_entrant
from tests.bench.workload import Builder, Entrant, Workload

LENGTH = 32_768
#: name -> the ranges its arguments are drawn from, and torch's name for it
FUNCTIONS: dict[str, tuple[tuple[tuple[float, float], ...], str]] = {
    "exp": (((-20, 20),), "exp"),
    "exp2": (((-20, 20),), "exp2"),
    "expm1": (((-5, 5),), "expm1"),
    "log": (((1e-6, 100),), "log"),
    "log2": (((1e-6, 100),), "log2"),
    "log10": (((1e-6, 100),), "log10"),
    "log1p": (((-0.9, 10),), "log1p"),
    "power": (((0.01, 20), (-3, 3)), "pow"),
    "cbrt": (((-100, 100),), ""),
    "sin": (((-30, 30),), "sin"),
    "cos": (((-30, 30),), "cos"),
    "tan": (((-30, 30),), "tan"),
    "arcsin": (((-1, 1),), "arcsin"),
    "arccos": (((-1, 1),), "arccos"),
    "arctan": (((-10, 10),), "arctan"),
    "arctan2": (((-5, 5), (-5, 5)), "arctan2"),
    "sinh": (((-6, 6),), "sinh"),
    "cosh": (((-6, 6),), "cosh"),
    "tanh": (((-6, 6),), "tanh"),
    "arcsinh": (((-50, 50),), "arcsinh"),
    "arccosh": (((1, 50),), "arccosh"),
    "arctanh": (((-0.99, 0.99),), "arctanh"),
    "erf": (((-4, 4),), "erf"),
    "erfc": (((-4, 4),), "erfc"),
    "gammaln": (((0.1, 30),), "lgamma"),
    "digamma": (((0.1, 30),), "digamma"),
}
SPECIAL = ("erf", "erfc", "gammaln", "digamma")
#: SciPy has no long double of these
NO_LONG_DOUBLE = SPECIAL
COUNTED = (
    f"{LENGTH:,} elements in cache, output buffer reused by everybody (`bind`, `out=`); ranges as in the source; "
    "errors measured on these arguments against long double; NumPy's erf, erfc, gammaln and digamma are SciPy's"
)
NOTES = {
    "power": "the logarithm is carried in two parts (float32: in float64), so half a unit is lost where NumPy's "
    "float32 loses one; conversions and two divisions of float64 for 16 numbers are what is left",
    "cbrt": "rounded almost correctly, and exact where the root is a float; NumPy's float32 is up to 1.9 ULP off",
}


def workloads(quick: bool) -> list[Workload]:
    names = ("exp", "log", "tanh") if quick else tuple(FUNCTIONS)
    return [_row(name, dtype) for name in names for dtype in ("float32", "float64")]


def _row(name: str, dtype: str) -> Workload:
    short = "f" + dtype[5:]
    contenders: dict[str, Builder] = {"gradc": partial(_ours, name, dtype), "NumPy": partial(_numpy, name, dtype)}
    if FUNCTIONS[name][1]:
        contenders["PyTorch"] = partial(_torch, name, dtype)
    return Workload(
        f"elementary/{name}/{short}", f"{name}, {short}", COUNTED, contenders,
        tolerance=1e-5 if dtype == "float32" else 1e-12, goal=1.0, limit=_bound(name, dtype), dtype=dtype,
        exact=None if dtype == "float64" and name in NO_LONG_DOUBLE else partial(_exact, name, dtype),
        note=NOTES.get(name, ""),
        moved=LENGTH * np.dtype(dtype).itemsize * (1 + len(FUNCTIONS[name][0])),
    )  # fmt: skip


def _bound(name: str, dtype: str) -> str:
    """The error that the tests hold the function to."""
    from gradc.ops import OPS

    op = OPS.get({"gammaln": "lgamma"}.get(name, name))
    known = op.bound(dtype) if op is not None else None
    return f"≤ {known:g} ULP" if known and known > 0.5 else ""


def arguments(name: str, dtype: str) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.uniform(low, high, LENGTH).astype(dtype) for low, high in FUNCTIONS[name][0]]


def _exact(name: str, dtype: str) -> Any:
    wide = np.float64 if name in NO_LONG_DOUBLE else np.longdouble
    return _function(name)(*[a.astype(wide) for a in arguments(name, dtype)])


def _function(name: str) -> Callable[..., Any]:
    if name not in SPECIAL:
        return getattr(np, name)
    import scipy.special

    return getattr(scipy.special, name)


def _ours(name: str, dtype: str) -> Entrant:
    import gradc as gc

    f = getattr(gc.special, name) if name in SPECIAL else getattr(np, name)
    return gradc_entrant(f, *arguments(name, dtype), bound=True)


def _numpy(name: str, dtype: str) -> Entrant:
    args = arguments(name, dtype)
    return entrant(partial(_function(name), *args, out=np.empty_like(args[0])))


def _torch(name: str, dtype: str) -> Entrant:
    import torch

    theirs = FUNCTIONS[name][1]
    f = getattr(torch, theirs)
    args = [torch.tensor(a) for a in arguments(name, dtype)]
    return entrant(partial(f, *args, out=torch.empty_like(args[0])))
