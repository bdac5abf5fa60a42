"""The identity matrix, diagonals and traces, extents, parts of arrays: structure that is never stored."""

from __future__ import annotations

from gradc.explain.formula import (
    ONE,
    UNIT,
    Factor,
    Formula,
    Number,
    Product,
    Sum,
    Symbol,
    apply,
    is_integer,
    magnitude,
    opposite,
    product,
    restricted,
    total,
    varying_axes,
)
from gradc.explain.matching import Names, called, without


def unit_matrix(size: int) -> Formula:
    """The identity matrix: a structure, never stored."""
    return apply("unit", (), (size, size), attrs_key=(size,))


def diagonal_by_stride(x: Formula, names: Names) -> Formula | None:
    """Every (n+1)-th element of an n×n matrix in row-major order is its diagonal."""
    call = called(x, "slice")
    flat = called(call.args[0], "reshape") if call is not None else None
    if call is None or flat is None or flat.args[0].ndim != 2 or flat.ndim != 1:
        return None
    matrix, n = flat.args[0], flat.args[0].shape[0]
    if matrix.shape != (n, n) or call.attrs["starts"] != (0,) or call.attrs["steps"] != (n + 1,) or x.shape != (n,):
        return None
    return product(x.shape, [Factor(matrix, (0, 1)), Factor(unit_matrix(n), (0, 1))])


def diagonal_placed(x: Formula, names: Names) -> Formula | None:
    """A vector placed at every (n+1)-th element of an n×n matrix is diag(v)."""
    call = called(x, "reshape")
    flat = called(call.args[0], "superpose") if call is not None else None
    if flat is None or x.ndim != 2 or flat.ndim != 1 or len(flat.args) != 1:
        return None
    n = x.shape[0]
    if x.shape != (n, n) or flat.attrs["starts"] != ((0,),) or flat.attrs["steps"] != ((n + 1,),):
        return None
    return product(x.shape, [Factor(flat.args[0], (0,)), Factor(unit_matrix(n), (0, 1))])


def unit_eliminates(x: Formula, names: Names) -> Formula | None:
    """Σⱼ I[i, j] f(j) = f(i)."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        if not called(f.base, "unit") or f.exponent != 1:
            continue
        for gone, kept in (f.labels, f.labels[::-1]):
            rest = without(x.factors, f)
            carriers = [g for g in rest if gone in g.labels]
            if gone >= x.ndim and carriers and not any(kept in g.labels for g in carriers):
                renamed = [Factor(g.base, tuple(kept if k == gone else k for k in g.labels), g.exponent) for g in rest]
                return product(x.shape, renamed, x.coef)
    return None


def unit_joins_indices(x: Formula, names: Names) -> Formula | None:
    """I[i, j] f(j) = I[i, j] f(i)."""
    if not isinstance(x, Product):
        return None
    for unit in x.factors:
        if not called(unit.base, "unit") or unit.exponent != 1 or unit.labels[0] == unit.labels[1]:
            continue
        first, second = sorted(unit.labels)
        if any(second in f.labels and first not in f.labels for f in x.factors):
            joined = [
                Factor(f.base, tuple(first if k == second else k for k in f.labels), f.exponent)
                if first not in f.labels
                else f
                for f in x.factors
            ]
            return product(x.shape, joined, x.coef)
    return None


def extent_cancels(x: Formula, names: Names) -> Formula | None:
    """n·a/n = a: a count of elements against the same extent by its name."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        size = names.extents.get(f.base.name) if isinstance(f.base, Symbol) else None
        if size is not None and f.exponent < 0 and magnitude(x.coef) == size:
            return product(x.shape, [*x.factors, Factor(f.base, f.labels)], x.coef / size)
    return None


def part_of_constant(x: Formula, names: Names) -> Formula | None:
    """A part of an array that is the same everywhere is the same everywhere."""
    call = called(x, "slice", "reshape", "windows")
    if call is None or varying_axes(call.args[0]):
        return None
    return product(x.shape, [Factor(restricted(call.args[0], ()), ())])


def part_of_placed(x: Formula, names: Names) -> Formula | None:
    """What was placed somewhere is found there, and zero elsewhere."""
    call = called(x, "slice")
    placed = called(call.args[0], "superpose") if call is not None else None
    if call is None or placed is None:
        return None
    found = []
    for part, starts, steps in zip(placed.args, placed.attrs["starts"], placed.attrs["steps"], strict=True):
        axes = list(zip(starts, steps, part.shape, call.attrs["starts"], call.attrs["steps"], x.shape, strict=True))
        if all((a, s) == (b, t) and n == m for a, s, n, b, t, m in axes):
            found.append(part)
        elif not any(_apart(range(a, a + n * s, s), range(b, b + m * t, t)) for a, s, n, b, t, m in axes):
            return None
    return total(x.shape, found)


def _apart(a: range, b: range) -> bool:
    """Whether two ascending ranges have no element in common because one lies before the other."""
    return a.step > 0 and b.step > 0 and bool(a) and bool(b) and (a[-1] < b[0] or b[-1] < a[0])


def named_part(x: Formula, names: Names) -> Formula | None:
    """a·b·c = v·c, where the user's v is a·b: of elements or of matrices."""
    if not isinstance(x, Product) or len(x.factors) < 3:
        return None
    for symbol, meaning in names.products(x.symbols):
        if len(meaning.factors) >= len(x.factors):
            continue
        found = _occurrence(meaning, x)
        if found is not None:
            places, pairs, sign = found
            labels = tuple(UNIT if n == 1 else places[a] for a, n in enumerate(symbol.shape))
            left = [Factor(g.base, g.labels, g.exponent - f.exponent) for f, g in pairs if g.exponent != f.exponent]
            rest = without(x.factors, *(g for _, g in pairs))
            result = product(x.shape, [Factor(symbol, labels), *left, *rest], sign * x.coef / meaning.coef)
            if result.size < x.size:
                return result
    return None


def part_across_sum(x: Formula, names: Names) -> Formula | None:
    """(Σ a·t)·c = Σ a·v, where v is the name of t·c and c is constant along the sum."""
    if not isinstance(x, Product):
        return None
    for f in x.factors:
        inner = f.base
        if not isinstance(inner, Product) or f.exponent != 1 or not inner.summed:
            continue
        for g in without(x.factors, f):
            moved = _moved_inside(inner, f, g)
            found = named_part(moved, names) if isinstance(moved, Product) else None
            if found is not None:
                left = [Factor(g.base, g.labels, g.exponent - _one(g))] if g.exponent != _one(g) else []
                return product(x.shape, [*without(x.factors, f, g), *left, Factor(found, f.labels)], x.coef)
    return None


def _moved_inside(inner: Product, f: Factor, g: Factor) -> Formula | None:
    """The sum with one power of ``g`` as a factor inside; None if that is not constant along what is summed."""
    place = {k: a for a, k in enumerate(f.labels) if k != UNIT} | {UNIT: UNIT}
    if not isinstance(g.base, Symbol) or any(k not in place for k in g.labels) or all(k == UNIT for k in g.labels):
        return None
    labels = tuple(place[k] for k in g.labels)
    return product(inner.shape, [*inner.factors, Factor(g.base, labels, _one(g))], inner.coef)


def _one(f: Factor) -> Number:
    """The exponent of one power of ``f``, or of the root that it is."""
    return f.exponent if magnitude(f.exponent) < 1 else ONE if f.exponent > 0 else -ONE


#: factors of a named product, each with the factor that it is found in
Pairs = list[tuple[Factor, Factor]]


def _occurrence(inner: Product, outer: Product) -> tuple[dict[int, int], Pairs, int] | None:
    """Which label of ``outer`` each of ``inner`` is, its factors there, the sign; what ``inner`` sums is summed."""
    places: dict[int, int] = {UNIT: UNIT}
    pairs: Pairs = []
    sign = 1
    for f in inner.factors:
        match = next((g for g in outer.factors if _fits(f, g, places) and not any(g is u for _, u in pairs)), None)
        if match is None:
            return None
        places.update(zip(f.labels, match.labels, strict=True))
        pairs.append((f, match))
        sign *= 1 if match.base == f.base else -1
    private = {places[k] for k in inner.summed}
    others = {k for g in without(outer.factors, *(g for _, g in pairs)) for k in g.labels}
    fits = all(k >= outer.ndim for k in private) and not private & others
    whole = not private or all(f.exponent == g.exponent for f, g in pairs)
    return (places, pairs, sign) if fits and whole and len(set(places.values())) == len(places) else None


def _fits(f: Factor, g: Factor, places: dict[int, int]) -> bool:
    """Whether ``g`` is ±``f``, or a higher power of it, under the labels known so far."""
    if f.base.shape != g.base.shape or any(places.get(k, m) != m for k, m in zip(f.labels, g.labels, strict=True)):
        return False
    if f.base == g.base:
        same_sign = f.exponent * g.exponent > 0
        return same_sign and (g.exponent == f.exponent or magnitude(g.exponent) > magnitude(f.exponent))
    odd = is_integer(f.exponent) and f.exponent % 2 == 1
    turned = odd and isinstance(f.base, Sum) and g.base == opposite(f.base)
    return turned and f.exponent == g.exponent
