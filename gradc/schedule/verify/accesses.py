"""What each piece of work reads and writes, element by element, in terms of its own loops.

Enters: a piece of work.  Leaves: its `Access`es.  They are derived here a second time, from what code generation reads
(loops, instructions, strides), never from what planning noted about it.
Invariant: a kind of work that this module does not know is an error.  Start reading at `accesses_of`.

Within a nest, an access happens at an index of ``outer``, then at a ``stage``, then at an index of ``inner``.  What has
no such order, the operands of a product while its result is written, is read or written ``throughout``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradc.errors import CompileError
from gradc.schedule.affine import Affine, Var
from gradc.schedule.factor import Factor, Matrix
from gradc.schedule.kernel import (
    Apply,
    Bounded,
    Corner,
    Correlation,
    Load,
    Lookup,
    Nest,
    Product,
    Search,
    Sort,
    Stage,
    Store,
    Term,
    View,
)
from gradc.schedule.verify.places import Places

#: Numbers of variables that stand for computed indices and for the axes of products: no loop of a nest has such.
FIRST_FREE = -(1 << 20)


@dataclass(frozen=True)
class Access:
    """One instruction that reads or writes a slot, over all steps of its loops."""

    slot: int
    dtype: str
    writes: bool
    form: Affine
    outer: tuple[Var, ...] = ()
    inner: tuple[Var, ...] = ()
    free: tuple[Var, ...] = ()  #: computed indices, which may have any value in any step
    stage: float = 0.0
    throughout: bool = False
    combines: bool = False  #: a write that first reads what is there
    copies: int = -1  #: the slot whose element at the same place a write only repeats

    @property
    def places(self) -> Places:
        return Places(self.form, (*self.outer, *self.inner, *self.free))


def accesses_of(work: object) -> list[Access]:
    """The accesses of work that runs no bodies."""
    rule = _RULES.get(type(work))
    if rule is None:
        raise CompileError(f"nothing is known of what {type(work).__name__} reads and writes")
    return [a for a in rule(work) if not a.places.is_empty]


# -- loops -------------------------------------------------------------------------------------------------------------


def _of_nest(nest: Nest) -> Iterator[Access]:
    for number, stage in enumerate(nest.stages):
        for k in _computed_for(nest, stage):
            x = nest.code[k]
            if isinstance(x, Load):
                yield Access(x.slot, x.dtype, False, x.offset, nest.outer, stage.inner, stage=number)
            elif isinstance(x, Lookup) and not x.empty:
                form, free = _with_terms(x.offset, x.terms, nest)
                yield Access(x.slot, x.dtype, False, form, nest.outer, stage.inner, free, number)
        stores = [*stage.stores, *([stage.scan.store] if stage.scan is not None else [])]
        for store in stores:
            yield _store(store, nest, stage.inner, number)
        for store in stage.recur.ends if stage.recur is not None else ():
            yield _store(store, nest, (), number + 0.5)


def _store(store: Store, nest: Nest, inner: tuple[Var, ...], stage: float) -> Access:
    form, free = _with_terms(store.offset, store.terms, nest)
    access = Access(store.slot, store.dtype, True, form, nest.outer, inner, free, stage, combines=store.how != "set")
    x = nest.code[store.value] if len(nest.code) == 1 and len(nest.stages) == 1 else None
    repeats = isinstance(x, Load) and x.offset == store.offset and store.how == "set" and not store.terms
    plain = nest.stages[0].scan is None and nest.stages[0].recur is None and not nest.stages[0].reduces
    return replace(access, copies=x.slot) if isinstance(x, Load) and repeats and plain else access


def _with_terms(offset: Affine, terms: Sequence[Term], nest: Nest) -> tuple[Affine, tuple[Var, ...]]:
    """``offset`` with a free variable for each computed index."""
    free: list[Var] = []
    for at, term in enumerate(terms):
        bounded = nest.code[term.value]
        if not isinstance(bounded, Bounded):
            raise CompileError("an index that is computed has no bounds")
        var = Var(FIRST_FREE - at, max(bounded.extent, 1))
        free.append(var)
        if term.stride and var.extent > 1:
            offset = offset + Affine(0, {var: term.stride})
    return offset, tuple(free)


def _computed_for(nest: Nest, stage: Stage) -> list[int]:
    """The instructions that run for a stage: its results, and what they are made of."""
    ends = [s.value for s in stage.stores] + [r.value for r in stage.reduces]
    ends += [t.value for s in stage.stores for t in s.terms]
    if stage.scan is not None:
        ends.append(stage.scan.value)
    if stage.recur is not None:
        ends += [*stage.recur.starts, *stage.recur.nexts]
        ends += [] if stage.recur.again is None else [stage.recur.again]
    found: set[int] = set()
    while ends:
        k = ends.pop()
        if k in found:
            continue
        found.add(k)
        x = nest.code[k]
        if isinstance(x, Apply):
            ends += x.args
        elif isinstance(x, Bounded):
            ends.append(x.value)
        elif isinstance(x, Lookup):
            ends += [t.value for t in x.terms]
    return sorted(found)


# -- products ----------------------------------------------------------------------------------------------------------


def _axes(*extents: int) -> tuple[Var, ...]:
    return tuple(Var(FIRST_FREE - 100 - k, n) for k, n in enumerate(extents))


def _strided(start: int, pairs: Sequence[tuple[Var, int]]) -> Affine:
    return Affine(start, {v: step for v, step in pairs if step and v.extent != 1})


def _of_product(p: Product) -> Iterator[Access]:
    m, n, k, *batch = _axes(p.m, p.n, p.k, *p.batch)

    def access(view: View, rows: Var, columns: Var, writes: bool) -> Access:
        pairs = [(rows, view.strides[0]), (columns, view.strides[1]), *zip(batch, view.batch, strict=True)]
        form = _strided(view.offset, pairs)
        return Access(view.slot, view.dtype, writes, form, (*batch, rows, columns), throughout=True)

    yield access(p.left, m, k, False)
    yield access(p.right, k, n, False)
    yield access(p.out, m, n, True)
    if p.epilogue is not None:
        yield from _of_nest(p.epilogue.nest)


def _of_correlation(c: Correlation) -> Iterator[Access]:
    axes = (*c.kept, *c.summed)
    variables = _axes(*(x.extent for x in axes))

    def access(corner: Corner, steps: Sequence[int], writes: bool) -> Access:
        form = _strided(corner.offset, list(zip(variables, steps, strict=True)))
        used = variables[: len(c.kept)] if writes else variables
        return Access(corner.slot, corner.dtype, writes, form, used, throughout=True)

    yield access(c.left, [x.left for x in axes], False)
    yield access(c.right, [x.right for x in axes], False)
    yield access(c.out, [*(x.out for x in c.kept), *itertools.repeat(0, len(c.summed))], True)


# -- order -------------------------------------------------------------------------------------------------------------


def _of_sort(s: Sort) -> Iterator[Access]:
    *rows, along, twice = _axes(*(extent for extent, _ in s.rows), s.length, 2 * s.length)
    row = [(v, stride) for v, (_, stride) in zip(rows, s.rows, strict=True)]
    form = _strided(0, [*row, (along, s.step)])
    yield Access(s.source, s.dtype, False, form, (*rows, along), throughout=True)
    yield Access(s.scratch, "int64", True, _strided(0, [(twice, 1)]), (twice,), throughout=True)
    yield Access(s.out, "int64", True, form, (*rows, along), throughout=True)


def _of_search(s: Search) -> Iterator[Access]:
    rows, along, each = _axes(s.rows, s.length, s.per_row)
    yield Access(s.table, s.dtype, False, _strided(0, [(rows, s.length), (along, 1)]), (rows, along), throughout=True)
    form = _strided(0, [(rows, s.per_row), (each, 1)])
    yield Access(s.values, s.dtype, False, form, (rows, each), throughout=True)
    yield Access(s.out, "int64", True, form, (rows, each), throughout=True)


# -- whole matrices ----------------------------------------------------------------------------------------------------


def _of_factor(work: Factor) -> Iterator[Access]:
    """Each matrix is read and written as a whole while its factorisation goes on."""

    def access(m: Matrix, writes: bool) -> Access:
        batch, inside = _axes(work.batch, m.size)
        form = _strided(0, [(batch, m.size), (inside, 1)])
        return Access(m.slot, m.dtype, writes, form, (batch, inside), throughout=True)

    yield from (access(m, False) for m in work.sources)
    yield from (access(m, True) for m in work.targets if m.slot >= 0)


_RULES: Mapping[type, Callable[[Any], Iterator[Access]]] = {
    Nest: _of_nest, Product: _of_product, Correlation: _of_correlation, Sort: _of_sort, Search: _of_search,
    Factor: _of_factor,
}  # fmt: skip
