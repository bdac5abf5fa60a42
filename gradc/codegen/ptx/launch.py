"""The launch plan: which kernels run, on how many threads, on which memory.

Enters: nothing; these are plain immutable values that `gradc.codegen.ptx.emit` makes.  Leaves: the same, to the
runtime, which needs nothing else to run a compiled function.
Invariant: launches run one after another; every pointer is 16-byte aligned; the status word holds all ones unless a
kernel failed, then the number of the failing node above the kind of failure in the low byte (the smallest of several).
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.schedule.kernel import Place

#: The status word when all went well.
FINE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where an argument of a kernel lies: a position among inputs, hidden arrays or outputs, or an arena offset."""

    place: Place
    at: int

    def __str__(self) -> str:
        return f"{self.place.value}{'+' if self.place is Place.ARENA else ' '}{self.at}"


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
class LaunchPlan:
    """All launches of one call, and the bytes of the arena on which they work."""

    launches: tuple[Launch, ...]
    arena_bytes: int

    def __str__(self) -> str:
        head = f"{len(self.launches)} launches, {self.arena_bytes} bytes of arena"
        return "\n".join([head, *(f"  {x}" for x in self.launches)])
