"""The launch plan: which kernels run, in which order, on how many threads, on which memory.

Enters: nothing; these are plain immutable values that `gradc.codegen.ptx.emit` makes.  Leaves: the same, to the
runtime, which needs nothing else to run a compiled function.
Invariant: launches run one after another; every pointer is 16-byte aligned; the status word holds all ones unless a
kernel failed, then the number of the failing node above the kind of failure in the low byte (the smallest of several).
A plan is a list of launches, and of items that hold lists: `Steps`, which runs its list again and again, `Stop`, which
leaves the steps around it, and `Fork`.  What decides is a bool that an earlier launch has written.
Start reading at `LaunchPlan.walk`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradc.schedule.kernel import Place

#: The status word when all went well.
FINE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where an argument of a kernel lies: a position among inputs, hidden arrays or outputs, or an arena offset.

    In step t of the k-th loop around it, outermost first, it is ``offset`` + ``strides[k]``·t bytes further on.
    """

    place: Place
    at: int
    offset: int = 0
    strides: tuple[int, ...] = ()

    def __str__(self) -> str:
        moved = "".join(f"{s:+}t{k}" for k, s in enumerate(self.strides) if s)
        moved = (f"+{self.offset}" if self.offset else "") + moved
        return f"{self.place.value}{'+' if self.place is Place.ARENA else ' '}{self.at}{moved}"

    def moved(self, offset: int, stride: int = 0, depth: int = 0) -> Pointer:
        """The same, further on; by ``stride`` for each step of the loop inside of ``depth`` others."""
        strides = self.strides
        if stride:
            strides = (*strides, *(0,) * (depth - len(strides)), stride)
        return replace(self, offset=self.offset + offset, strides=strides)

    def distance(self, steps: Sequence[int]) -> int:
        """How many bytes behind its place it points in these steps of the loops around it."""
        return self.offset + sum(s * t for s, t in zip(self.strides, steps, strict=False))


@dataclass(frozen=True, slots=True)
class Launch:
    """``grid`` blocks of ``block`` threads of the entry; the pointers, then the status word, are its parameters.

    A block takes ``shared_bytes``, of which the launch asks for ``dynamic_bytes``; the code declares the others.
    """

    entry: str
    grid: int
    block: int
    shared_bytes: int
    pointers: tuple[Pointer, ...]
    dynamic_bytes: int = 0

    def __str__(self) -> str:
        shared = f", {self.shared_bytes} bytes shared" if self.shared_bytes else ""
        return f"{self.entry}<<<{self.grid}, {self.block}>>>({', '.join(map(str, self.pointers))}){shared}"


@dataclass(frozen=True, slots=True)
class Steps:
    """``items``, ``count`` times, or until one of them stops; None: until then."""

    count: int | None
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave the steps around it, after ``items``, unless ``flag`` holds."""

    flag: Pointer
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Fork:
    """``items`` if ``flag`` holds, else ``others``."""

    flag: Pointer
    items: tuple[Item, ...]
    others: tuple[Item, ...] = ()


Item = Launch | Steps | Stop | Fork
#: Whether a bool holds, in these steps of the loops around it.
Holds = Callable[[Pointer, Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All that happens in one call, and the bytes of the arena on which it works."""

    items: tuple[Item, ...]
    arena_bytes: int

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Every launch that the plan has, each once."""
        return tuple(_launches(self.items))

    @property
    def decides(self) -> bool:
        """Whether what runs depends on what earlier launches have found."""
        return any(_decides(x) for x in self.items)

    def walk(self, holds: Holds) -> Iterator[tuple[Launch, Sequence[int]]]:
        """The launches in the order in which they run, each with the steps of the loops around it."""
        yield from _walked(self.items, holds, ())

    @property
    def data(self) -> list[dict[str, Any]]:
        """The items as plain data (docs/gpu.md)."""
        return _data(self.items)

    def __str__(self) -> str:
        head = f"{len(self.launches)} launches, {self.arena_bytes} bytes of arena"
        return "\n".join([head, *(f"  {x}" for x in _lines(self.items))])


def _inside(x: Item) -> tuple[Item, ...]:
    if isinstance(x, Launch):
        return ()
    return (*x.items, *x.others) if isinstance(x, Fork) else x.items


def _launches(items: Sequence[Item]) -> Iterator[Launch]:
    for x in items:
        if isinstance(x, Launch):
            yield x
        yield from _launches(_inside(x))


def _decides(x: Item) -> bool:
    return isinstance(x, Stop | Fork) or any(map(_decides, _inside(x)))


def _walked(
    items: Sequence[Item], holds: Holds, steps: tuple[int, ...]
) -> Generator[tuple[Launch, Sequence[int]], None, bool]:
    """Whether the steps around the items are to be left."""
    for x in items:
        if isinstance(x, Launch):
            yield x, steps
        elif isinstance(x, Steps):
            for t in itertools.count() if x.count is None else range(x.count):
                if (yield from _walked(x.items, holds, (*steps, t))):
                    break
        elif isinstance(x, Fork):
            if (yield from _walked(x.items if holds(x.flag, steps) else x.others, holds, steps)):
                return True
        elif not holds(x.flag, steps):
            yield from _walked(x.items, holds, steps)
            return True
    return False


def _data(items: Sequence[Item]) -> list[dict[str, Any]]:
    def data(x: Item) -> dict[str, Any]:
        match x:
            case Launch():
                return {
                    "entry": x.entry, "grid": x.grid, "block": x.block, "shared_bytes": x.shared_bytes,
                    "dynamic_shared_bytes": x.dynamic_bytes, "pointers": [_place(p) for p in x.pointers],
                }  # fmt: skip
            case Steps():
                return {"steps": x.count, "launches": _data(x.items)}
            case Stop():
                return {"stop_unless": _place(x.flag), "launches": _data(x.items)}
            case Fork():
                return {"if": _place(x.flag), "launches": _data(x.items), "else": _data(x.others)}

    return [data(x) for x in items]


def _place(p: Pointer) -> dict[str, Any]:
    moved = {"offset": p.offset, "strides": list(p.strides)}
    return {p.place.value: p.at, **{name: value for name, value in moved.items() if value}}


def _lines(items: Sequence[Item]) -> Iterator[str]:
    for x in items:
        if isinstance(x, Launch):
            yield str(x)
        elif isinstance(x, Steps):
            yield "again and again:" if x.count is None else f"{x.count} times:"
            yield from (f"  {line}" for line in _lines(x.items))
        else:
            yield f"stop unless {x.flag}{':' if x.items else ''}" if isinstance(x, Stop) else f"if {x.flag}:"
            yield from (f"  {line}" for line in _lines(x.items))
            if isinstance(x, Fork) and x.others:
                yield "else:"
                yield from (f"  {line}" for line in _lines(x.others))
