"""Windows and what folds them back; slices of slices."""

from __future__ import annotations

from math import prod

from gradc.explain.formula import UNIT, Factor, Formula, Product, apply, product
from gradc.explain.matching import Names, called


def fold_is_correlation(x: Formula, names: Names) -> Formula | None:
    """fold(G ⊗ K)[p] = Σₖ G[p − k]·K[k]: the windows of the padded G against the flipped kernel."""
    fold = called(x, "fold")
    if fold is None or not isinstance(fold.args[0], Product) or fold.args[0].summed:
        return None
    inner, rank = fold.args[0], x.ndim
    if fold.attrs["axes"] != tuple(range(rank)) or prod(fold.attrs["strides"]) != 1 or 1 in inner.shape:
        return None
    outside = [f for f in inner.factors if all(k < rank for k in f.labels)]
    kernel = [f for f in inner.factors if all(k >= rank for k in f.labels)]
    if not outside or not kernel or len(outside) + len(kernel) != len(inner.factors):
        return None
    g = product(inner.shape[:rank], outside, inner.coef)
    k = product(inner.shape[rank:], [Factor(f.base, tuple(a - rank for a in f.labels), f.exponent) for f in kernel])
    window = {name: fold.attrs[name] for name in ("axes", "sizes", "strides", "dilations")}
    reach = tuple((n - 1) * d for n, d in zip(window["sizes"], window["dilations"], strict=True))
    windows = _called("windows", _padded(g, reach), (*x.shape, *window["sizes"]), window)
    every = tuple(range(2 * rank))
    return product(x.shape, [Factor(windows, every), Factor(_flipped(k), every[rank:])])


def _called(name: str, arg: Formula, shape: tuple[int, ...], attrs: dict[str, object]) -> Formula:
    return apply(name, (arg,), shape, attrs, attrs_key=tuple(sorted(attrs.items())))


def _padded(x: Formula, reach: tuple[int, ...]) -> Formula:
    """``x`` with ``reach`` zeros at both ends of each axis."""
    shape = tuple(n + 2 * p for n, p in zip(x.shape, reach, strict=True))
    return _called("pad", x, shape, {"shape": shape, "starts": reach, "steps": (1,) * x.ndim, "fill": 0.0})


def _flipped(x: Formula) -> Formula:
    """``x`` backwards along each axis."""
    starts, back = tuple(n - 1 for n in x.shape), (-1,) * x.ndim
    return _called("slice", x, x.shape, {"starts": starts, "stops": back, "steps": back})


def slice_of_slice(x: Formula, names: Names) -> Formula | None:
    """A part of a part is a part: x[a:b][c:d]; backwards twice is forwards."""
    outer = called(x, "slice")
    inner = called(outer.args[0], "slice") if outer is not None else None
    if outer is None or inner is None or not x.ndim or 0 in x.shape:
        return None
    base = inner.args[0]
    both = list(zip(*(call.attrs[key] for call in (inner, outer) for key in ("starts", "steps")), strict=True))
    starts = tuple(a + b * s for a, s, b, _ in both)
    steps = tuple(s * t for _, s, _, t in both)
    if min(steps) < 0:  # x[1:][::-1] reads more easily than x[:0:-1]
        return None
    if x.shape == base.shape and not any(starts) and set(steps) <= {1}:
        return product(x.shape, [Factor(base, tuple(a if n != 1 else UNIT for a, n in enumerate(x.shape)))])
    stops = tuple(a + (n - 1) * s + 1 for a, s, n in zip(starts, steps, x.shape, strict=True))
    return _called("slice", base, x.shape, {"starts": starts, "stops": stops, "steps": steps})
