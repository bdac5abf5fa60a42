"""Sets of element numbers: those that a form of loop variables takes, by arithmetic where it is plain, else by listing.

Enters: forms as a schedule holds them.  Leaves: exact answers: range, distinctness, coverage, membership.
Invariant: nothing here is shared with planning but the data; each answer comes from the form's constant and terms.
Start reading at `Places`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.process import cached_property
from gradc.schedule.affine import Affine, Var

Numbers = np.ndarray[Any, np.dtype[np.int64]]
#: Elements listed at once.
CHUNK = 1 << 20


def value_of(form: Affine, at: Mapping[Var, Any]) -> Any:
    """What a form is where its variables have these values."""
    total: Any = form.const
    for atom, factor in form.terms.items():
        part = at[atom] if isinstance(atom, Var) else value_of(atom.numerator, at) // atom.divisor
        total = total + factor * part
    return total


def variables_of(form: Affine) -> Iterator[Var]:
    """The variables of a form, those inside of quotients too."""
    for atom in form.terms:
        if isinstance(atom, Var):
            yield atom
        else:
            yield from variables_of(atom.numerator)


@dataclass(frozen=True)
class Places:
    """The element numbers that ``form`` takes while each of ``loops`` runs over its extent."""

    form: Affine
    loops: tuple[Var, ...]

    @cached_property
    def used(self) -> tuple[Var, ...]:
        """The loops on which the numbers depend."""
        inside = set(variables_of(self.form))
        return tuple(v for v in self.loops if v in inside and v.extent > 1)

    @cached_property
    def steps(self) -> dict[Var, int] | None:
        """How far a step of each variable goes; None if that is not one number."""
        if not all(isinstance(atom, Var) for atom in self.form.terms):
            return None
        return {v: step for v, step in self.form.terms.items() if isinstance(v, Var) and v.extent > 1}

    @cached_property
    def is_empty(self) -> bool:
        return any(v.extent == 0 for v in self.loops)

    @cached_property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest number."""
        if self.steps is not None:
            reach = [step * (v.extent - 1) for v, step in self.steps.items()]
            return self.form.const + sum(r for r in reach if r < 0), self.form.const + sum(r for r in reach if r > 0)
        ends = [(int(x.min()), int(x.max())) for x in self.listed(self.used)]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def tells(self, variables: Sequence[Var]) -> bool:
        """Whether a number tells the values of ``variables``, whatever the others are."""
        real = [v for v in variables if v.extent > 1]
        if not set(real) <= set(self.used):
            return False
        if self.steps is not None and self._apart():
            return True
        found: dict[int, int] = {}
        for numbers, index in zip(self.listed(self.used), self._indices(real), strict=True):
            for number, at in zip(numbers.tolist(), index.tolist(), strict=True):
                if found.setdefault(number, at) != at:
                    return False
        return True

    def _apart(self) -> bool:
        """Whether all numbers differ, each step going farther than all shorter ones together."""
        assert self.steps is not None
        reach = 0
        for step, extent in sorted((abs(s), v.extent) for v, s in self.steps.items()):
            if step <= reach:
                return False
            reach += step * (extent - 1)
        return True

    def covers(self, size: int) -> bool:
        """Whether the numbers are 0 … size − 1, each taken once, which is plain to see."""
        if self.steps is None or self.form.const:
            return False
        reached = 1
        for step, extent in sorted((s, v.extent) for v, s in self.steps.items()):
            if step != reached:
                return False
            reached *= extent
        return reached == size

    def mark(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        for numbers in self.listed(self.used):
            mask[numbers] = True

    def inside(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
        return all(bool(mask[numbers].all()) for numbers in self.listed(self.used))

    def listed(self, order: Sequence[Var]) -> Iterator[Numbers]:
        """All numbers, the last of ``order`` innermost, in pieces; variables that the form lacks repeat them."""
        for fixed, rest in _chunks(tuple(order)):
            at: dict[Var, Any] = dict.fromkeys(self.loops, 0) | fixed
            shape = tuple(v.extent for v in rest)
            for k, v in enumerate(rest):
                at[v] = np.arange(v.extent, dtype=np.int64).reshape([-1 if k == j else 1 for j in range(len(rest))])
            yield np.broadcast_to(np.asarray(value_of(self.form, at), np.int64), shape).reshape(-1)

    def _indices(self, variables: Sequence[Var]) -> Iterator[Numbers]:
        """In the order of ``listed(self.used)``: one number for the values of ``variables``."""
        form, step = Affine(), 1
        for v in reversed(variables):
            form, step = form + Affine(0, {v: step}), step * v.extent
        yield from Places(form, self.loops).listed(self.used)


def _chunks(order: tuple[Var, ...]) -> Iterator[tuple[dict[Var, int], tuple[Var, ...]]]:
    """Values of the outermost variables, one after another, so that the rest is no more than can be listed at once."""
    if not order or math.prod(v.extent for v in order) <= CHUNK or order[0].extent > CHUNK:
        yield {}, order
        return
    for value in range(order[0].extent):
        for fixed, rest in _chunks(order[1:]):
            yield {order[0]: value, **fixed}, rest
