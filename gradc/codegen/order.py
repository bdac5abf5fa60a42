"""Sorting and searching, in NumPy's order: NaN behind every number, −0 and 0 equal.

Enters: `Sort` and `Search` of a schedule.  Leaves: scalar loops without a data-dependent branch.
Invariant: no index leaves its row, also while a merge looks past the end of a run.  Start reading at `emit_sort`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.memory import load, offset_pointer, store
from gradc.codegen.poll import OF_A_COMPARISON, STEP, emit_poll, going_on, looks, of_a_search, unless_stopped, walking
from gradc.schedule.kernel import Search, Sort

Key = Callable[[Value], Value]
#: Where a part begins and ends; None: all of it.
Bounds = tuple[Value, Value] | None


def less(b: Lanes, x: Value, y: Value) -> Value:
    """Whether x comes before y."""
    if not x.is_float:
        return b.lt(x, y)
    return b.or_(b.lt(x, y), b.and_(b.isnan(y), b.not_(b.isnan(x))))


@contextmanager
def _each(
    f: Function, status: str, count: int, part: Bounds, operations: float, inside: float, looks: bool = True
) -> Iterator[Value]:
    """Every index below ``count``, or in ``part``, each with so many operations; if it looks, see `walking`."""
    if part is None and count == 1:
        yield const(0, "int64")
        return
    start, stop = (0, count) if part is None else part
    with walking(f, status, start, stop, 1, operations, inside, count) if looks else f.loop(start, stop) as loop:
        yield loop.index


# -- argsort -----------------------------------------------------------------------------------------------------------


def emit_sort(f: Function, sort: Sort, slots: Sequence[str], status: str, part: Bounds = None) -> None:
    """A merge sort of positions for every row, or for ``part`` of the outermost ones, from runs of one element up."""
    _rows(f, sort, sort.rows, const(0, "int64"), slots, status, part)


def _rows(
    f: Function, sort: Sort, rows: Sequence[tuple[int, int]], start: Value, slots: Sequence[str], status: str,
    part: Bounds,
) -> None:  # fmt: skip
    if not rows:
        _sort_row(f, sort, start, slots, status)
        return
    (extent, stride), *rest = rows
    row = STEP + sort.length * sort.length.bit_length() * OF_A_COMPARISON
    inside = row * math.prod(n for n, _ in rest)
    with _each(f, status, extent, part, inside, inside if rest else 0) as index:
        at = Lanes(f).add(start, Lanes(f).mul(index, stride))
        _rows(f, sort, rest, at, slots, status, None)


def _sort_row(f: Function, sort: Sort, start: Value, slots: Sequence[str], status: str) -> None:
    i, n = Lanes(f), sort.length
    keys = offset_pointer(f, slots[sort.source], start, sort.dtype)
    out = offset_pointer(f, slots[sort.out], start, "int64")
    halves = slots[sort.scratch]

    def key(position: Value) -> Value:
        return load(f, offset_pointer(f, keys, i.mul(position, sort.step), sort.dtype), sort.dtype)

    with walking(f, status, 0, n, 1, STEP, 0, n) as fill:
        store(f, fill.index, offset_pointer(f, halves, fill.index, "int64"))
    levels = (n - 1).bit_length()

    def more(index: Value, _: Sequence[Value]) -> Value:
        return going_on(f, status, i.lt(index, levels))

    with f.loop_while(more, [const(0, "int64"), const(n, "int64")]) as level:
        source, target = level.carry
        _merge_level(f, n, i.shl(const(1, "int64"), level.index), source, target, halves, key, status)
        level.next = [target, source]
    sorted_half = level.result[0]
    with unless_stopped(f, status), walking(f, status, 0, n, 1, STEP, 0, n) as copy:
        position = load(f, offset_pointer(f, halves, i.add(sorted_half, copy.index), "int64"), "int64")
        store(f, position, offset_pointer(f, out, i.mul(copy.index, sort.step), "int64"))


def _merge_level(
    f: Function, n: int, width: Value, source: Value, target: Value, halves: str, key: Key, status: str
) -> None:
    """Merge neighbouring runs of ``width`` positions from one half of scratch into the other."""
    i = Lanes(f)
    double = i.add(width, width)
    pairs = i.idiv(i.add(double, n - 1), double)
    with f.loop_while(lambda index, _: going_on(f, status, i.lt(index, pairs))) as pair:
        low = i.mul(pair.index, double)
        middle = i.min(i.add(low, width), n)
        high = i.min(i.add(low, double), n)

        def more(index: Value, _: Sequence[Value], high: Value = high) -> Value:
            stop, inside = emit_poll(f, status, index, OF_A_COMPARISON, n), i.lt(index, high)
            return inside if stop is None else i.and_(inside, i.not_(stop))

        with f.loop_while(more, [low, middle], low) as merge:
            left, right = merge.carry
            x = _position(f, halves, source, i.min(left, i.sub(middle, 1)))
            y = _position(f, halves, source, i.min(right, i.sub(high, 1)))
            second = i.or_(i.ge(left, middle), i.and_(i.lt(right, high), less(i, key(y), key(x))))
            store(f, i.select(second, y, x), offset_pointer(f, halves, i.add(target, merge.index), "int64"))
            merge.next = [i.select(second, left, i.add(left, 1)), i.select(second, i.add(right, 1), right)]


def _position(f: Function, halves: str, half: Value, at: Value) -> Value:
    return load(f, offset_pointer(f, halves, Lanes(f).add(half, at), "int64"), "int64")


# -- searchsorted ------------------------------------------------------------------------------------------------------


def emit_search(f: Function, search: Search, slots: Sequence[str], status: str, part: Bounds = None) -> None:
    """A binary search of fixed length for every value; ``part`` is one of the rows, or of a single row's values."""
    i = Lanes(f)
    if not search.rows * search.per_row:
        return
    rows, values = (part, None) if search.rows > 1 else (None, part)
    once, all_of_row = of_a_search(search), search.per_row * of_a_search(search)
    with _each(f, status, search.rows, rows, all_of_row, all_of_row, looks(search)) as row:
        table = offset_pointer(f, slots[search.table], i.mul(row, search.length), search.dtype)
        first = i.mul(row, search.per_row)
        with _each(f, status, search.per_row, values, once, 0, looks(search)) as k:
            at = i.add(first, k)
            value = load(f, offset_pointer(f, slots[search.values], at, search.dtype), search.dtype)
            found = place_in(f, search, table, value)
            store(f, found, offset_pointer(f, slots[search.out], at, "int64"))


def place_in(f: Function, search: Search, table: str, value: Value) -> Value:
    """Where ``value`` belongs in the row at ``table``: the place lies in [low, high], which halves in every step."""
    i = Lanes(f)
    zero, length = const(0, "int64"), const(search.length, "int64")
    if not search.length:
        return zero
    with f.loop(0, search.length.bit_length(), carry=[zero, length]) as loop:
        low, high = loop.carry
        middle = i.shr(i.add(low, high), 1)
        entry = load(f, offset_pointer(f, table, i.min(middle, search.length - 1), search.dtype), search.dtype)
        before = less(i, entry, value) if search.side == "left" else i.not_(less(i, value, entry))
        up = i.and_(before, i.lt(low, high))
        loop.next = [i.select(up, i.add(middle, 1), low), i.select(up, high, middle)]
    return loop.result[0]
