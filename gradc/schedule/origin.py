"""Which graph nodes a piece of a kernel stands for: the way back from generated code.

Enters: a `Schedule` and a `Piece` of one of its kernels.  Leaves: positions in `Graph.nodes`.
The table is kept while the schedule is made (`Weaver.stands_for`, `Product.origins`) and lies outside of what makes
two kernels equal: kernels that share one function still have each their own nodes.  Start reading at `nodes_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradc.schedule.bodies import held_kernels
from gradc.schedule.kernel import Buffer, Constant, Correlation, Kernel, Load, Lookup, Nest, Product, Work

if TYPE_CHECKING:
    from gradc.schedule.plan import Schedule


@dataclass(frozen=True, slots=True)
class Piece:
    """Piece number ``work`` of a kernel; in it, if ≥ 0, one instruction, or what is stored to one slot.

    Where the work runs bodies, ``inner`` ≥ 0 is one of the kernels in them (`held_kernels`) and ``part`` its piece; the
    instruction and the slot are then that kernel's.
    """

    work: int = 0
    instruction: int = -1
    slot: int = -1
    inner: int = -1
    part: int = 0

    @property
    def is_whole(self) -> bool:
        return self.instruction < 0 and self.slot < 0


@dataclass(frozen=True, slots=True)
class _Found:
    """A piece's work, the kernel that does it, and the buffers that this kernel's slots name."""

    buffers: Sequence[Buffer]
    kernel: Kernel
    work: Work

    @classmethod
    def at(cls, schedule: Schedule, number: int, piece: Piece) -> _Found:
        kernel = schedule.kernels[number]
        work = kernel.work[piece.work]
        if piece.inner < 0:
            return cls(schedule.buffers, kernel, work)
        body, inner = list(held_kernels(work))[piece.inner]
        return cls(body.buffers, inner, inner.work[piece.part])

    def held(self, slot: int) -> frozenset[int]:
        """The node whose value a slot holds; scratch holds none."""
        node = self.buffers[self.kernel.slots[slot]].node
        return frozenset((node,)) if node >= 0 else frozenset()

    def computed(self) -> frozenset[int]:
        """What the work computes, without what it only loads; for a copy, what it copies."""
        own = frozenset(self.kernel.nodes)
        found = self.work.origins if isinstance(self.work, Product | Correlation) else frozenset[int]()
        nest = _nest(self.work)
        if nest is not None:
            for x, nodes in zip(nest.code, nest.origins, strict=True):
                if isinstance(x, Load | Lookup):
                    found |= nodes - self.held(x.slot)
                elif not isinstance(x, Constant):
                    found |= nodes
            found = found or own or frozenset[int]().union(*nest.origins)
        return found or own


def nodes_at(schedule: Schedule, number: int, piece: Piece) -> frozenset[int]:
    """The nodes that a piece of kernel ``number`` stands for; what only moves values in a body, for what runs it."""
    found = _stands_for(_Found.at(schedule, number, piece), piece)
    return found if found or piece.inner < 0 else frozenset(schedule.kernels[number].nodes)


def _stands_for(found: _Found, piece: Piece) -> frozenset[int]:
    work = found.work
    if piece.slot >= 0 and (stored := found.held(piece.slot)):
        return stored
    nest = _nest(work)
    if piece.instruction >= 0 and nest is not None:
        together = next((pack for pack in nest.packs if piece.instruction in pack), (piece.instruction,))
        return frozenset[int]().union(*(nest.origins[k] for k in together))
    return work.origins if isinstance(work, Product | Correlation) else found.computed()


def loaded_at(schedule: Schedule, number: int, piece: Piece) -> frozenset[int]:
    """The stored node that a piece only loads; nothing for a piece that computes or stores."""
    found = _Found.at(schedule, number, piece)
    nest = _nest(found.work)
    if nest is None or piece.instruction < 0 or piece.slot >= 0:
        return frozenset()
    x = nest.code[piece.instruction]
    return found.held(x.slot) if isinstance(x, Load | Lookup) else frozenset()


def nodes_of(schedule: Schedule, number: int) -> frozenset[int]:
    """All nodes whose values kernel ``number`` computes, stored or not."""
    kernel = schedule.kernels[number]
    computed = (_Found(schedule.buffers, kernel, work).computed() for work in kernel.work)
    return frozenset(kernel.nodes).union(*computed)


def _nest(work: Work) -> Nest | None:
    if isinstance(work, Product):
        return work.epilogue.nest if work.epilogue is not None else None
    return work if isinstance(work, Nest) else None
