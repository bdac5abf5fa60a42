"""Whether one place is read before it is written, within one piece of work.

Enters: two accesses of one piece of work to bytes that overlap.  Leaves: yes or no.
Invariant: loops may be taken in any order and many steps at a time, so only what happens in one step is in order.
Start reading at `reads_first`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradc.schedule.affine import Affine, Var
from gradc.schedule.verify.accesses import Access
from gradc.schedule.verify.places import Places


def meet(one: Access, other: Access, shift: int) -> bool:
    """Whether two accesses have a place in common; ``one`` lies ``shift`` elements behind ``other``."""
    low, high = one.places.range
    first, last = other.places.range
    if high + shift < first or last < low + shift:
        return False
    base = min(low + shift, first)
    mask = np.zeros(max(high + shift, last) - base + 1, np.bool_)
    Places(other.form - base, other.places.loops).mark(mask)
    moved = Places(one.form + (shift - base), one.places.loops)
    return any(bool(mask[numbers].any()) for numbers in moved.listed(moved.used))


def reads_first(read: Access, write: Access, shift: int) -> bool:
    """Whether every place is read in the step that writes it, or in an earlier stage of it, or not written at all."""
    if read.throughout or write.throughout:
        return not meet(read, write, shift)
    if not (read.outer or write.outer or read.inner or write.inner) and read.stage <= write.stage:
        return True  # one step: all is read before anything is written
    moved = read.form + shift
    if read.stage <= write.stage and moved == write.form:
        same = (*read.outer, *(read.inner if read.stage == write.stage else ()))
        if write.places.tells(same) and Places(moved, read.places.loops).tells(same):
            return True
    return not meet(read, write, shift) or (
        read.stage <= write.stage and not read.free and not write.free and _in_step(read, write, shift)
    )


def written_before(read: Access, write: Access) -> bool:
    """Whether each place that a step reads has been written in an earlier stage of the same step."""
    if read.throughout or write.throughout or read.stage <= write.stage or read.free or write.free:
        return False
    if read.form == write.form and (read.inner == write.inner or {*read.inner} == {*write.inner}):
        return True
    written = set(_keys(write, write.outer).tolist())
    return written.issuperset(_keys(read, write.outer).tolist())


def _in_step(read: Access, write: Access, shift: int) -> bool:
    """By listing every step of both."""
    same = (*read.outer, *(read.inner if read.stage == write.stage else ()))
    if not {*same} <= {*read.places.loops} & {*write.places.loops}:
        return False
    if max(math.prod(v.extent for v in a.places.loops) for a in (read, write)) > 1 << 24:
        return False  # neither plain nor small
    step_of: dict[int, int] = {}
    for number, step in zip(_numbers(write, write.form), _numbers(write, _linear(same)), strict=True):
        if step_of.setdefault(number, step) != step:
            return False
    pairs = zip(_numbers(read, read.form + shift), _numbers(read, _linear(same)), strict=True)
    return all(step_of.get(number, step) == step for number, step in pairs)


def _numbers(access: Access, form: Affine) -> list[int]:
    places = Places(form, access.places.loops)
    return [n for numbers in places.listed(places.loops) for n in numbers.tolist()]


def _linear(variables: Sequence[Var]) -> Affine:
    form, step = Affine(), 1
    for v in variables:
        form, step = form + Affine(0, {v: step} if v.extent > 1 else None), step * v.extent
    return form


def _keys(access: Access, outer: Sequence[Var]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A number for each (outer index, place) of an access."""
    width = max(abs(n) for n in access.places.range) + 1
    places = Places(access.form + _linear(outer) * (2 * width), access.places.loops)
    return np.unique(np.concatenate(list(places.listed(places.used))))
