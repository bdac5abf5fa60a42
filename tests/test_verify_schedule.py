"""The verifier of schedules: quiet on what planning makes (every test asks it), and loud on planted faults.

Each fault is one change of a good schedule, of the kind that planning could make by mistake; the error names the
kernel, the buffer and the line of the program.  Start reading at `FAULTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.errors import CompileError, ScheduleError
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.schedule import Schedule
from gradc.schedule.affine import Affine
from gradc.schedule.bodies import Repeat
from gradc.schedule.kernel import Buffer, Correlation, Kernel, Load, Nest, Place, Product, Split, Staged
from gradc.schedule.verify import verify
from gradc.schedule.verify.accesses import accesses_of
from gradc.schedule.verify.memory import Memory

Change = Callable[[Schedule], Schedule]


def planned(f: Any, *args: Any, **options: Any) -> Stages:
    stages = Stages(gc.trace(f, *args), Options(**options))
    verify(stages.schedule, stages.lowered)
    return stages


def with_kernel(s: Schedule, number: int, kernel: Kernel) -> Schedule:
    return replace(s, kernels=(*s.kernels[:number], kernel, *s.kernels[number + 1 :]))


def with_buffer(s: Schedule, number: int, **changes: Any) -> Schedule:
    buffers = list(s.buffers)
    buffers[number] = replace(buffers[number], **changes)
    return replace(s, buffers=tuple(buffers))


def arena(s: Schedule) -> list[int]:
    """The temporaries, in the order in which they are first used."""
    used = dict.fromkeys(n for k in s.kernels for n in k.slots)
    return [n for n in used if s.buffers[n].place is Place.ARENA]


def numbered(s: Schedule, kind: type) -> tuple[int, int]:
    """The kernel, and the piece in it, that is the first work of a kind."""
    pieces = ((k, w, work) for k, kernel in enumerate(s.kernels) for w, work in enumerate(kernel.work))
    return next((k, w) for k, w, work in pieces if type(work) is kind)


def with_work(s: Schedule, kind: type, change: Callable[[Any], Any]) -> Schedule:
    k, w = numbered(s, kind)
    work = list(s.kernels[k].work)
    work[w] = change(work[w])
    return with_kernel(s, k, replace(s.kernels[k], work=tuple(work)))


def read_elsewhere(nest: Nest, by: int) -> Nest:
    code = list(nest.code)
    at = next(k for k, x in enumerate(code) if isinstance(x, Load))
    code[at] = replace(code[at], offset=code[at].offset + by)
    return replace(nest, code=tuple(code))


def stored_elsewhere(nest: Nest, by: int) -> Nest:
    stages = list(nest.stages)
    at = next(k for k, s in enumerate(stages) if s.stores)
    first, *rest = stages[at].stores
    stages[at] = replace(stages[at], stores=(replace(first, offset=first.offset + by), *rest))
    return replace(nest, stages=tuple(stages))


# -- programs ----------------------------------------------------------------------------------------------------------
SQUARE = gc.spec((16, 16))


def products(x: Any, w: Any) -> Any:
    y = np.sin(x @ w)
    return np.exp(np.exp(y @ w) + np.sin(y)) @ x


def images(x: Any, w: Any) -> Any:
    h = np.tanh(x)
    return gc.nn.conv2d(h, w, padding=1) + h


def updated(x: Any, w: Any) -> Any:
    return x - np.sum(w * x), np.sum(x[::-1] * w)


def walked(x: Any, w: Any) -> Any:
    return gc.scan(lambda c, row: (np.tanh(c @ w) + row, c[0] * row), x[0] * np.ones((16, 1)), x)


def long_rows(x: Any) -> Any:
    return np.exp(x) * 2.0, np.sort(x, axis=1), np.cumsum(x, axis=1)


PRODUCTS = (products, SQUARE, SQUARE)
IMAGES = (images, gc.spec((2, 3, 8, 40)), gc.spec((3, 3, 3, 3)))
WALKED = (walked, SQUARE, SQUARE)
LONG = (long_rows, gc.spec((600, 1000)))


def swapped(s: Schedule) -> Schedule:
    return replace(s, kernels=(s.kernels[1], s.kernels[0], *s.kernels[2:]))


def overlaid(s: Schedule) -> Schedule:
    """Two temporaries that one kernel reads, on one place."""
    reads = ([k.slots[slot] for slot in k.reads] for k in s.kernels)
    one, other = next(found for r in reads if len(found := [n for n in r if s.buffers[n].place is Place.ARENA]) == 2)
    return with_buffer(s, other, at=s.buffers[one].at)


def split_elsewhere(s: Schedule) -> Schedule:
    """The loop that threads share becomes one in which every step writes the same place."""

    def moved(nest: Nest) -> Nest:
        here: dict[Any, Affine] = {nest.outer[0]: Affine()}
        (stage,) = nest.stages
        stores = tuple(replace(x, offset=x.offset.substitute(here)) for x in stage.stores)
        return replace(nest, stages=(replace(stage, stores=stores),))

    k = next(k for k, kernel in enumerate(s.kernels) if kernel.title == "map" and isinstance(kernel.splits[0], Split))
    (nest,) = s.kernels[k].work
    assert isinstance(nest, Nest)
    return with_kernel(s, k, replace(s.kernels[k], work=(moved(nest),)))


def without_room(s: Schedule) -> Schedule:
    k, split = next(
        (k, split) for k, kernel in enumerate(s.kernels) for split in kernel.splits
        if isinstance(split, Split) and split.private
    )  # fmt: skip
    slot, elements, _ = split.private[0]
    return with_buffer(s, s.kernels[k].slots[slot], shape=(elements,))


#: name -> program, options, the fault, what the error says
FAULTS: dict[str, tuple[Any, dict[str, Any], Change, str]] = {
    "two kernels swapped": (PRODUCTS, {}, swapped, "is read, and its memory holds nothing yet"),
    "two live buffers overlaid": (PRODUCTS, {}, overlaid, "b[0-9]+ .*(its memory holds that of|written over it)"),
    "a temporary one element along": (
        PRODUCTS, {}, lambda s: with_buffer(s, arena(s)[0], at=s.buffers[arena(s)[0]].at + 8), "written over it",
    ),
    "an arena too small": (
        PRODUCTS, {}, lambda s: replace(s, temporary_bytes=s.temporary_bytes - 64), "of an arena of",
    ),
    "a load one element along": (
        PRODUCTS, {}, lambda s: with_work(s, Nest, lambda n: read_elsewhere(n, 1)), "element 256 is read",
    ),
    "a store one element along": (
        IMAGES, {}, lambda s: with_work(s, Nest, lambda n: stored_elsewhere(n, 1)), "is written",
    ),
    "a product's operand too far": (
        PRODUCTS, {},
        lambda s: with_work(s, Product, lambda p: replace(p, left=replace(p.left, offset=1))), "element 256 is read",
    ),
    "a result with a hole": (
        PRODUCTS, {},
        lambda s: with_work(s, Product, lambda p: replace(p, m=p.m - 1)), "before all of that has been written",
    ),
    "a corner outside": (
        IMAGES, {},
        lambda s: with_work(s, Correlation, lambda c: replace(c, left=replace(c.left, offset=-1))),
        "element -1 is read",
    ),
    "a step that writes an input": (
        WALKED, {},
        lambda s: with_work(s, Repeat, lambda r: replace(r, carries=(replace(r.carries[0], spare=r.carries[0].home),))),
        "handed on by a body",
    ),
    "rows past the end": (
        WALKED, {}, lambda s: with_work(s, Repeat, lambda r: replace(r, length=17)), "rows of",
    ),
    "pieces that write one place": (LONG, {"threads": 2}, split_elsewhere, "several steps of|never written"),
    "scratch for one thread": (LONG, {"threads": 2}, without_room, "threads each"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    (f, *args), options, change, said = FAULTS[name]
    stages = planned(f, *args, **options)
    with pytest.raises(ScheduleError, match=said) as caught:
        verify(change(stages.schedule), stages.lowered)
    assert "buffer b" in str(caught.value)
    assert f.__code__.co_filename.rpartition("/")[2] in str(caught.value) or "scratch" in name


def test_a_donated_input_is_read_before_it_is_written() -> None:
    """Without the edge from the last reader to the writer, the two kernels run the other way round."""
    stages = planned(updated, gc.spec((40, 40)), gc.spec((40, 40)), donate={0: 0})
    good = stages.schedule
    writer = next(k for k, kernel in enumerate(good.kernels) if good.outputs[0] in kernel.slots)
    order = [writer, *(k for k in range(len(good.kernels)) if k != writer)]
    with pytest.raises(ScheduleError, match="is read"):
        verify(replace(good, kernels=tuple(good.kernels[k] for k in order)), stages.lowered)


def test_what_a_result_keeps_of_a_given_input_need_not_be_written() -> None:
    """The other elements come from an array of the same places; no copy of the donor's own stands for them."""
    joined = lambda x, y: np.concatenate([x[:1], y[1:]])
    stages = planned(joined, gc.spec((4,)), gc.spec((4,)), donate={0: 0})
    verify(stages.schedule, stages.lowered)
    whole = lambda x: (np.concatenate([x[:1], x[1:]]), np.concatenate([x[:1], x[1:]]) @ x)
    stages = planned(whole, gc.spec((4, 4)), donate={0: 0})
    verify(stages.schedule, stages.lowered)


def test_a_loop_over_nothing_reads_nothing() -> None:
    """A constant of no elements that a body takes has no memory, whether or not it is an array of its own."""

    def body(i: Any, c: Any) -> Any:
        return np.tanh(c * np.sum(c, axis=0) / 6)

    looped = lambda x: np.sum(gc.fori_loop(1, 4, body, x))
    for shape in ((3, 0), (0, 3), (0,)):
        stages = planned(gc.grad(looped), gc.spec(shape))
        verify(stages.schedule, stages.lowered)


def test_an_input_that_was_not_given_away_is_never_written() -> None:
    stages = planned(updated, gc.spec((40, 40)), gc.spec((40, 40)))
    with pytest.raises(ScheduleError, match="lies in input 0"):
        verify(with_buffer(stages.schedule, stages.schedule.outputs[0], place=Place.INPUT), stages.lowered)


def test_stages_that_threads_share_are_checked_too() -> None:
    stages = planned(lambda x: np.exp(x - np.max(x)) / np.sum(np.exp(x)), gc.spec((1 << 20,)), threads=2)
    k, at = next(
        (k, at)
        for k, kernel in enumerate(stages.schedule.kernels)
        for at, how in enumerate(kernel.splits)
        if isinstance(how, Staged)
    )
    kernel = stages.schedule.kernels[k]
    staged = kernel.splits[at]
    assert isinstance(staged, Staged)
    turned = replace(staged, stages=staged.stages[1:])
    bad = replace(kernel, splits=(*kernel.splits[:at], turned, *kernel.splits[at + 1 :]))
    with pytest.raises(ScheduleError, match="stages"):
        verify(with_kernel(stages.schedule, k, bad), stages.lowered)


def test_work_of_a_new_kind_is_an_error() -> None:
    with pytest.raises(CompileError, match="nothing is known"):
        accesses_of(object())


def test_what_was_planned_with_a_correlation_that_hides_its_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner misled, not the schedule: both buffers of a sum end up on one place."""
    from gradc.schedule.touch import Touch

    monkeypatch.setattr(Correlation, "touch", property(lambda c: Touch(frozenset((c.left.slot, c.right.slot)))))
    with pytest.raises(ScheduleError, match=r"kernel \d \(correlation\+map\): buffer b\d .*test_verify_schedule"):
        planned(*IMAGES)


def test_gradc_check_verifies_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Schedule] = []
    monkeypatch.setattr("gradc.machines.stages.verify", lambda s, graph: asked.append(s))
    monkeypatch.setenv("GRADC_CHECK", "0")
    gc.compile(lambda x: np.sin(x) + 0.25, gc.spec(3))
    assert not asked
    monkeypatch.setenv("GRADC_CHECK", "1")
    gc.compile(lambda x: np.sin(x) + 0.75, gc.spec(3))
    assert len(asked) == 1


# -- accesses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("f", "copies"), [
    (lambda x: (x, x), True),
    (lambda x: np.cumsum(x, axis=1), False),
    (lambda x: np.sum(x, axis=1), False),
    (lambda x: x.T, False),
    (lambda x: x * 2, False),
])  # fmt: skip
def test_a_store_repeats_a_load_only_in_a_plain_loop_over_equal_places(f, copies):
    kernels = planned(f, gc.spec((5, 7))).schedule.kernels
    nests = [work for kernel in kernels for work in kernel.work if isinstance(work, Nest)]
    stores = [access for nest in nests for access in accesses_of(nest) if access.writes]
    assert stores
    assert all((access.copies >= 0) == copies for access in stores)


@pytest.mark.parametrize("apart", [8, 24, 64])
def test_neighbours_in_the_arena_own_their_bytes(apart: int) -> None:
    buffers = [Buffer(k, Place.ARENA, "float64", (), -1, at=k * apart) for k in range(3)]
    memory = Memory(buffers, {}, 3 * apart)
    for b in buffers:
        memory.take(b.number)
    assert [memory.owners(b.number) for b in buffers] == [{0}, {1}, {2}]
