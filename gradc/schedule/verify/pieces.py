"""Work that threads share: pieces write apart, and what each thread has for itself is large enough.

Enters: work with its share and accesses.  Leaves: what is wrong, with the slot.  That a piece reads nothing that
another one writes follows from the order within a step (`gradc.schedule.verify.steps`): pieces are whole steps.
Start reading at `piece_problem`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradc.schedule.affine import Var
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import Buffer, Correlation, Nest, Product, Search, Share, Sort, Split, Staged, Tiled
from gradc.schedule.verify.accesses import Access
from gradc.schedule.verify.holders import Problem


def private_slots(share: Share | None) -> set[int]:
    """The slots of which each thread has its own copy."""
    return {slot for slot, _, _ in share.private} if isinstance(share, Split) else set()


def piece_problem(work: object, share: Share, accesses: Sequence[Access], buffers: Sequence[Buffer]) -> Problem | None:
    """What is wrong with the way in which ``work`` is cut; ``buffers`` are those of its slots."""
    return next(_problems(work, share, [a for a in accesses if a.writes], buffers), None)


def _problems(work: object, share: Share, writes: Sequence[Access], buffers: Sequence[Buffer]) -> Iterator[Problem]:
    if isinstance(share, Tiled):
        if not isinstance(work, Product | Correlation):
            yield writes[0].slot, "is written by work that has no tiles"
        for a in writes:
            if not a.places.tells(a.outer):
                yield a.slot, "is written at one place by several tiles"
    elif isinstance(share, Staged):
        yield from _staged(work, share, writes)
    else:
        yield from _split(work, share, writes, buffers)


def _split(work: object, split: Split, writes: Sequence[Access], buffers: Sequence[Buffer]) -> Iterator[Problem]:
    private = private_slots(split)
    for slot, elements, _ in split.private:
        if buffers[slot].size < split.threads * elements:
            yield slot, f"has {buffers[slot].size} elements, and {split.threads} threads each {elements} of their own"
        reach = max((a.places.range[1] + 1 for a in writes if a.slot == slot), default=0)
        if reach > elements:
            yield slot, f"has {elements} elements for each thread, which writes {reach}"
    shared = [a for a in writes if a.slot not in private]
    if isinstance(work, Nest) and split.axis is not None:
        if split.axis not in work.outer or split.axis.extent != split.extent:
            yield writes[0].slot, f"is cut along {split.axis}, which is no outer loop of {split.extent} steps"
        if split.axis == work.lane and split.steps % work.lanes:
            yield writes[0].slot, f"is cut within vectors of {work.lanes}"
        yield from _apart(shared, split.axis)
    elif isinstance(work, Sort | Search | Factor):
        for a in shared:
            axis = next((v for v in a.outer if v.extent > 1), None) if isinstance(work, Search) else a.outer[0]
            if axis is None or axis.extent != split.extent or not a.places.tells([axis]):
                yield a.slot, f"is cut into {split.extent} rows, which it does not have"
    else:
        yield writes[0].slot, "is cut along no loop of its work"


def _staged(work: object, share: Staged, writes: Sequence[Access]) -> Iterator[Problem]:
    if not isinstance(work, Nest) or len(share.stages) != len(work.stages):
        yield writes[0].slot, "is written in stages that its work does not have"
        return
    for number, split in enumerate(share.stages):
        if split is None:
            continue
        own = [a for a in writes if a.stage == number]
        if split.axis is None or split.axis not in work.stages[number].inner or split.axis.extent != split.extent:
            yield writes[0].slot, f"is cut along {split.axis}, which is no loop of stage {number}"
            continue
        if split.axis == work.lane and split.steps % work.lanes:
            yield writes[0].slot, f"is cut within vectors of {work.lanes}"
        yield from _apart([a for a in own if a.inner], split.axis)


def _apart(writes: Sequence[Access], axis: Var) -> Iterator[Problem]:
    """Each place is written in one step of ``axis`` only, by whatever instruction."""
    by_slot: dict[int, list[Access]] = {}
    for a in writes:
        by_slot.setdefault(a.slot, []).append(a)
    for slot, own in by_slot.items():
        if any(not a.places.tells([axis]) for a in own) or any(a.form != own[0].form for a in own):
            yield slot, f"is written at one place in several steps of {axis}, which threads share"
