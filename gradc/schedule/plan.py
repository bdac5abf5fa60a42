"""The schedule: what runs, in which order, on which memory.

Enters: nothing; it is a plain immutable value that `gradc.schedule.schedule` makes.  Leaves: the same, to codegen.
Invariant: each buffer is written by one kernel, before any other kernel reads it; two arena buffers overlap only if no
kernel needs both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradc.errors import CompileError
from gradc.process import cached_property
from gradc.schedule.bodies import Body
from gradc.schedule.kernel import Buffer, Kernel
from gradc.schedule.show import show_schedule


@dataclass(frozen=True)
class Schedule:
    """Kernels in the order in which they run, the buffers between them, and the arena that holds the temporaries.

    ``hidden`` are the captured arrays behind the inputs in the pointer block, as graph positions; ``donated`` maps an
    input's position to the output that takes over its storage.  ``threads`` share the kernels' splits.
    ``temporary_bytes`` is the size of the arena without the scratch that products may want behind it:
    `gradc.codegen.arena_bytes` adds that.
    """

    title: str
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    hidden: tuple[int, ...]
    arrays: tuple[Any, ...]
    donated: Mapping[int, int]
    temporary_bytes: int
    names: Mapping[int, str]
    threads: int = 1

    @property
    def flops(self) -> int:
        """Arithmetic operations of one run; a transcendental function counts as its cost in the model."""
        return sum(k.flops for k in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that the kernels read and write, each buffer once per kernel."""
        return sum(k.bytes for k in self.kernels)

    @cached_property
    def as_body(self) -> Body:
        """The schedule as the body of something; its captured arrays have become operands before."""
        if self.hidden:
            raise CompileError(f"the body of {self.title} holds arrays; passes.hoist makes them operands")
        return Body(
            self.kernels, self.buffers, self.inputs, self.outputs, tuple(self.donated.items()), self.temporary_bytes,
            self.flops, self.bytes,
        )  # fmt: skip

    def __str__(self) -> str:
        return show_schedule(self)
