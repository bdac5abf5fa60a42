"""Nodes to scalar code: the value of a node at an index, through all that is computed on the way.

Enters: a node and an index in loop variables.  Leaves: numbered `Instruction`s of one nest.
Invariant: stored nodes are loaded, everything else is computed where it is read; the same node at the same index is one
instruction, and each instruction knows the nodes whose value it holds.  Start reading at `Weaver.value`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from gradc.aval import FLOAT32, NARROW, Aval, Shape
from gradc.errors import CompileError
from gradc.node import Node, describe
from gradc.ops.arithmetic import cast
from gradc.ops.index import Piece, linear_index, row_major_strides
from gradc.ops.indexing import rest_axes
from gradc.ops.record import Kind, Op
from gradc.schedule.affine import MAX_FACTORS, Affine, Var
from gradc.schedule.kernel import Apply, Bounded, Constant, Index, Instruction, Load, Lookup, Nest, Stage, Store, Term

Place = tuple[Affine, ...]
NONE: Mapping[str, Any] = {}
#: First variable of an axis -> the factors of its extent, innermost first.
Splits = Mapping[int, tuple[int, ...]]


def refined(splits: Splits, var: Var, size: int) -> Splits | None:
    """``splits`` with ``var`` cut into ``size`` times the rest; None if its axis has been cut too often."""
    first = var.number - var.number % MAX_FACTORS
    factors = list(splits.get(first, (var.extent,)))
    if len(factors) == MAX_FACTORS:
        return None
    at = var.number - first
    factors[at : at + 1] = [size, var.extent // size]
    return {**splits, first: tuple(factors)}


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype (NumPy works it out anew each time)."""
    return str(dtype)


class Slots:
    """The buffers of one kernel, numbered as they are met, with which of them it reads and writes."""

    def __init__(self, buffers: Mapping[Node, int]):
        self.buffers = buffers
        self.numbers: dict[int, int] = {}  #: of buffers, each with its slot
        self.dtypes: list[str] = []
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.scratch: list[tuple[str, int]] = []  # dtype and size of buffers of the kernel's own
        self._scratch_of: dict[Node, int] = {}

    def slot(self, number: int, dtype: str) -> int:
        if number not in self.numbers:
            self.numbers[number] = len(self.numbers)
            self.dtypes.append(dtype)
        return self.numbers[number]

    def become(self, other: Slots) -> None:
        """Take over the slots of another attempt at the same kernel."""
        self.numbers, self.dtypes, self.scratch = other.numbers, other.dtypes, other.scratch
        self.reads, self.writes = other.reads, other.writes

    def reading(self, node: Node) -> int:
        slot = self.slot(self.buffers[node], dtype_name(node.dtype))
        self.reads.add(slot)
        return slot

    def own(self, dtype: str, size: int, node: Node | None = None) -> int:
        """A slot for scratch of ``size`` elements; it gets a number below zero until memory is planned.

        Asked again for the same ``node``, it is the same slot.
        """
        number = self._scratch_of.get(node, 0) if node is not None else 0
        if not number:
            self.scratch.append((dtype, size))
            number = -len(self.scratch)
            if node is not None:
                self._scratch_of[node] = number
        return self.slot(number, dtype)

    def writing(self, node: Node) -> int:
        slot = self.slot(self.buffers[node], dtype_name(node.dtype))
        self.writes.add(slot)
        return slot


class Weaver:
    """Scalar code of one nest under construction.

    ``own`` maps nodes that this nest computes itself to the index at which it does so.
    """

    def __init__(self, slots: Slots, number: Mapping[Node, int], splits: Splits | None = None):
        self.slots, self.number = slots, number
        self.code: list[Instruction] = []
        self.origins: list[set[int]] = []  # of each instruction: the positions of the nodes that it stands for
        self.own: dict[Node, Place] = {}
        self._behind: dict[Node, tuple[Node, Place]] = {}
        self._known: dict[Any, int] = {}
        self._splits = splits or {}
        self._vars = 0

    # -- loop variables ----------------------------------------------------------------------------------------------
    def loops(self, shape: Shape) -> tuple[tuple[Var, ...], Place]:
        """Variables over ``shape`` and the index they form; an axis of length one needs none."""
        made: list[Var] = []
        index: list[Affine] = []
        for extent in shape:
            parts = self._axis(extent)
            made += [v for v, _ in parts]
            index.append(sum((Affine.of(v) * step for v, step in parts), Affine()))
        return tuple(made), tuple(index)

    def _axis(self, extent: int) -> list[tuple[Var, int]]:
        """Variables of one axis, outermost first, with their steps: one, unless an earlier attempt wanted a split."""
        first, self._vars = self._vars, self._vars + MAX_FACTORS
        if extent == 1:
            return []
        parts, step = [], 1
        for k, factor in enumerate(self._splits.get(first, (extent,))):
            parts.append((Var(first + k, factor), step))
            step *= factor
        return parts[::-1]

    # -- instructions ------------------------------------------------------------------------------------------------
    def emit(self, instruction: Instruction) -> int:
        """The number of ``instruction``, which is appended if it is new."""
        number = self._known.setdefault((type(instruction), instruction), len(self.code))
        if number == len(self.code):
            self.code.append(instruction)
            self.origins.append(set())
        return number

    def stands_for(self, instruction: int, node: Node) -> None:
        """Note that ``instruction`` holds the value of ``node``, or is a step to it."""
        if node in self.number:
            self.origins[instruction].add(self.number[node])

    def nest(self, outer: tuple[Var, ...], *stages: Stage, sequential: bool = False) -> Nest:
        """The loops over ``outer`` around ``stages`` and all code so far."""
        origins = tuple(map(frozenset, self.origins))
        return Nest(outer, tuple(self.code), stages, sequential=sequential, origins=origins)

    def constant(self, value: Any, dtype: np.dtype[Any]) -> int:
        scalar = np.asarray(value, dtype).reshape(-1)[0]
        return self.emit(Constant(scalar.item(), dtype_name(dtype), scalar.tobytes()))

    def counter(self, index: Affine, dtype: np.dtype[Any]) -> int:
        """An index as a number."""
        return self.emit(Index(index, dtype_name(dtype)))

    def apply(self, op: Op, *values: int, dtype: np.dtype[Any], attrs: Mapping[str, Any] = NONE) -> int:
        """An op on instructions that stands for no node: its result is of ``dtype``."""
        return self.emit(Apply(op, values, tuple(attrs.items()), dtype_name(dtype), -1))

    def load(self, node: Node, index: Place) -> int:
        offset = Affine.of(linear_index(index, node.shape))
        return self.emit(Load(self.slots.reading(node), offset, dtype_name(node.dtype)))

    def widened(self, value: int, node: Node, dtype: np.dtype[Any]) -> int:
        """Instruction ``value``, an element of ``node``, as ``dtype``."""
        if node.dtype == dtype:
            return value
        return self.apply(cast, value, dtype=dtype, attrs={"dtype": dtype})

    def store(self, node: Node, index: Place, value: int, how: str = "set") -> Store:
        offset = Affine.of(linear_index(index, node.shape))
        return Store(self.slots.writing(node), offset, value, dtype_name(node.dtype), how)

    # -- values ------------------------------------------------------------------------------------------------------
    def value(self, node: Node, index: Place) -> int:
        """The instruction that holds ``node`` at ``index``."""
        node, index = self.meant(node, index)
        key = (id(node), index)
        known = self._known.get(key)
        if known is None:
            if node in self.own:
                if self.own[node] != index:
                    raise AssertionError(f"{describe(node)} is read at another index than it is computed at")
                raise AssertionError(f"{describe(node)} is read before it is computed")
            known = self._known[key] = self.load(node, index) if self._in_memory(node) else self.compute(node, index)
            self.stands_for(known, node)
        return known

    def stand_in(self, leaf: Node, operand: Node, lead: Place) -> None:
        """A leaf of a body is from here on ``operand`` behind the index ``lead``: a row of it, or all of it."""
        self._behind[leaf] = operand, lead

    def meant(self, node: Node, index: Place) -> tuple[Node, Place]:
        """What a leaf of a body stands for."""
        while node in self._behind:
            node, lead = self._behind[node]
            index = (*lead, *index)
        return node, index

    def define(self, node: Node, index: Place, value: int) -> None:
        """From here on ``node`` at ``index`` is instruction ``value``; at another index it cannot be read."""
        self.own[node] = index
        self._known[id(node), index] = value
        self.stands_for(value, node)

    def _in_memory(self, node: Node) -> bool:
        if node.op.kind is Kind.CONSTANT and node.aval.size == 1:
            return False
        return node in self.slots.buffers

    def compute(self, node: Node, index: Place) -> int:
        """The instruction that computes ``node`` at ``index`` from its operands."""
        rule = _RULES.get(node.op.kind)
        if rule is None:
            raise CompileError(f"{describe(node)}: op {node.op.name} cannot stand inside a loop")
        return rule(self, node, index)

    def terms(self, node: Node, indices: Sequence[Node], index: Place, shape: Shape) -> tuple[Term, ...]:
        """The computed indices of a gather or scatter ``node`` into a row-major array of ``shape``."""
        strides, number = row_major_strides(shape), self.number.get(node, -1)
        terms = []
        for operand, axis in zip(indices, node.attrs["axes"], strict=True):
            bounded = self.emit(Bounded(self.value(operand, index), shape[axis], number))
            self.stands_for(bounded, node)
            terms.append(Term(bounded, strides[axis]))
        return tuple(terms)


def _input(w: Weaver, node: Node, index: Place) -> int:
    raise CompileError(f"{describe(node)} belongs to another graph: a leaf that is no input of this one")


def _constant(w: Weaver, node: Node, index: Place) -> int:
    return w.constant(node.attrs["value"], node.dtype)


def _index(w: Weaver, node: Node, index: Place) -> int:
    if node.op.lower is None:
        raise CompileError(f"{describe(node)}: op {node.op.name} has no lowering")
    number: int = node.op.lower(w, index, **node.attrs)
    return number


def _elementwise(w: Weaver, node: Node, index: Place) -> int:
    args = tuple([w.value(a, index) for a in node.args])
    if node.op.lower is None:
        raise CompileError(f"{describe(node)}: op {node.op.name} has no lowering")
    failing = w.number.get(node, -1) if node.dtype.kind in node.op.fails else -1
    return w.emit(Apply(node.op, args, tuple(node.attrs.items()), dtype_name(node.dtype), failing))


def _view(w: Weaver, node: Node, index: Place) -> int:
    operand, place = through_view(node, index)
    return w.value(operand, place)


def _gather(w: Weaver, node: Node, index: Place) -> int:
    x, *indices = node.args
    x, _ = w.meant(x, ())
    outer = indices[0].ndim
    terms = w.terms(node, indices, index[:outer], x.shape)
    strides, rest = row_major_strides(x.shape), rest_axes(x.ndim, node.attrs["axes"])
    offset = sum((i * strides[a] for i, a in zip(index[outer:], rest, strict=True)), Affine())
    return w.emit(Lookup(w.slots.reading(x), offset, terms, dtype_name(node.dtype), x.aval.size == 0))


_RULES: dict[Kind, Callable[[Weaver, Node, Place], int]] = {
    Kind.INPUT: _input,
    Kind.CONSTANT: _constant,
    Kind.INDEX: _index,
    Kind.ELEMENTWISE: _elementwise,
    Kind.VIEW: _view,
    Kind.GATHER: _gather,
}


def through_view(node: Node, index: Place) -> tuple[Node, Place]:
    """The operand element that a view without guards shows at ``index``."""
    (piece,) = view_pieces(node, index)
    return node.args[piece.arg], tuple(Affine.of(i) for i in piece.index)


def view_pieces(node: Node, index: Place) -> tuple[Piece, ...]:
    """The pieces of a view or fold at ``index``."""
    if node.op.source is None:
        raise CompileError(f"{describe(node)}: op {node.op.name} has no index formula")
    return _pieces(node.op, index, tuple([a.aval for a in node.args]), tuple(node.attrs.items()))


@lru_cache(maxsize=1 << 14)
def _pieces(
    op: Op, index: Place, operands: tuple[Aval, ...], attrs: tuple[tuple[str, Any], ...]
) -> tuple[Piece, ...]:  # fmt: skip
    """What the index formula of ``op`` says; equal layers ask for the same."""
    assert op.source is not None
    return tuple(op.source(index, *operands, **dict(attrs)))


def is_widening(node: Node) -> bool:
    """Whether a node is a narrow float as float32: what a product does with an operand as it reads it."""
    return node.op.converts and node.dtype == FLOAT32 and node.args[0].dtype in NARROW


def is_plain_view(node: Node) -> bool:
    """Whether every element of a view is one operand element, without guards (so that a loop can read through it)."""
    if node.op.kind is not Kind.VIEW:
        return False
    if node.aval.size == 0:
        return True
    pieces = view_pieces(node, whole_index(node.shape))
    return len(pieces) == 1 and not pieces[0].guards


@lru_cache(maxsize=1 << 10)
def whole_index(shape: Shape) -> Place:
    """The index of every element of ``shape``: a variable for each axis, numbered as it is."""
    return tuple(Affine.of(Var(k, n)) for k, n in enumerate(shape))
