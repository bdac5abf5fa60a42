"""Which graph nodes a piece of a kernel stands for: the way back from generated code.

Enters: a `Schedule` and a `Piece` of one of its kernels.  Leaves: positions in `Graph.nodes`.
The table is kept while the schedule is made (`Weaver.stands_for`, `Product.origins`) and lies outside of what makes
two kernels equal: kernels that share one function still have each their own nodes.  Start reading at `nodes_at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradc.schedule.kernel import Constant, Correlation, Kernel, Load, Lookup, Nest, Product, Work

if TYPE_CHECKING:
    from gradc.schedule.plan import Schedule


@dataclass(frozen=True, slots=True)
class Piece:
    """Piece number ``work`` of a kernel; in it, if ≥ 0, one instruction, or what is stored to one slot."""

    work: int = 0
    instruction: int = -1
    slot: int = -1

    @property
    def is_whole(self) -> bool:
        return self.instruction < 0 and self.slot < 0


def nodes_at(schedule: Schedule, number: int, piece: Piece) -> frozenset[int]:
    """The nodes that a piece of kernel ``number`` stands for."""
    kernel = schedule.kernels[number]
    work = kernel.work[piece.work]
    if piece.slot >= 0 and (stored := _held(schedule, kernel, piece.slot)):
        return stored
    nest = _nest(work)
    if piece.instruction >= 0 and nest is not None:
        together = next((pack for pack in nest.packs if piece.instruction in pack), (piece.instruction,))
        return frozenset[int]().union(*(nest.origins[k] for k in together))
    return work.origins if isinstance(work, Product | Correlation) else _computed(schedule, kernel, work)


def loaded_at(schedule: Schedule, number: int, piece: Piece) -> frozenset[int]:
    """The stored node that a piece only loads; nothing for a piece that computes or stores."""
    kernel = schedule.kernels[number]
    nest = _nest(kernel.work[piece.work])
    if nest is None or piece.instruction < 0 or piece.slot >= 0:
        return frozenset()
    x = nest.code[piece.instruction]
    return _held(schedule, kernel, x.slot) if isinstance(x, Load | Lookup) else frozenset()


def nodes_of(schedule: Schedule, number: int) -> frozenset[int]:
    """All nodes whose values kernel ``number`` computes, stored or not."""
    kernel = schedule.kernels[number]
    return frozenset(kernel.nodes).union(*(_computed(schedule, kernel, work) for work in kernel.work))


def _computed(schedule: Schedule, kernel: Kernel, work: Work) -> frozenset[int]:
    """What a piece computes, without what it only loads; for a copy, what it copies."""
    found = work.origins if isinstance(work, Product | Correlation) else frozenset[int]()
    nest = _nest(work)
    if nest is not None:
        for x, nodes in zip(nest.code, nest.origins, strict=True):
            if isinstance(x, Load | Lookup):
                found |= nodes - _held(schedule, kernel, x.slot)
            elif not isinstance(x, Constant):
                found |= nodes
        found = found or frozenset(kernel.nodes) or frozenset[int]().union(*nest.origins)
    return found or frozenset(kernel.nodes)


def _held(schedule: Schedule, kernel: Kernel, slot: int) -> frozenset[int]:
    """The node whose value a slot holds; scratch holds none."""
    node = schedule.buffers[kernel.slots[slot]].node
    return frozenset((node,)) if node >= 0 else frozenset()


def _nest(work: Work) -> Nest | None:
    if isinstance(work, Product):
        return work.epilogue.nest if work.epilogue is not None else None
    return work if isinstance(work, Nest) else None
