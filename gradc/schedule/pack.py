"""Lengthy functions of single numbers, computed side by side in the lanes of one register.

Enters: a nest whose loops are not spread over lanes.  Leaves: groups of its instructions that apply one function to
independent numbers, and the order in which the code has to stand so that a group's operands are known together.
Invariant: a lane computes what a single number would, bit for bit.  Start reading at `packs`.

Levels make independence plain: an instruction's level counts the packable functions on the longest way to it, so two of
one level never need each other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from gradc.ops.record import DEAR
from gradc.schedule.kernel import Apply, Instruction, Nest, operands
from gradc.schedule.lanes import Widths, dependences

#: Filling and emptying a register costs less than a function from so many numbers on.
FEWEST = 2


def packs(nest: Nest, widths: Widths) -> tuple[tuple[int, ...], ...]:
    """The groups of instructions of ``nest`` that are computed together, each in ascending order."""
    lengthy = [(k, x) for k, x in enumerate(nest.code) if isinstance(x, Apply) and packable(x)]
    if nest.lanes > 1 or len(lengthy) < FEWEST:
        return ()
    level, depends = levels(nest), dependences(nest)
    groups: dict[Hashable, list[int]] = {}
    for k, x in lengthy:
        given = tuple(nest.code[a].dtype for a in x.args)
        groups.setdefault((x.op.name, x.attrs, x.dtype, given, level[k], depends[k]), []).append(k)
    found: list[tuple[int, ...]] = []
    for group in groups.values():
        lanes = widths.lanes(nest.code[group[0]].dtype)
        chunks = (tuple(group[at : at + lanes]) for at in range(0, len(group), lanes))
        found += [chunk for chunk in chunks if len(chunk) >= FEWEST]
    return tuple(found)


def packable(x: Instruction) -> bool:
    """Whether an instruction is a lengthy function of floats that cannot fail."""
    return isinstance(x, Apply) and "float" in x.dtype and x.node < 0 and x.op.element_cost >= DEAR


def levels(nest: Nest) -> list[int]:
    """For each instruction how many packable ones stand on the longest way to it, itself included."""
    level: list[int] = []
    for x in nest.code:
        level.append(max([level[a] for a in operands(x)], default=0) + packable(x))
    return level


def in_levels(nest: Nest, orders: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each of ``orders``, operands still first, with the packable instructions of a level next to each other."""
    if not nest.packs:
        return [list(order) for order in orders]
    keys = [(level, not packable(x), k) for k, (level, x) in enumerate(zip(levels(nest), nest.code, strict=True))]
    return [sorted(order, key=keys.__getitem__) for order in orders]
