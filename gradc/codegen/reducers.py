"""The reductions, one step at a time: how each starts, takes an element, joins two partial results, and ends.

Enters: elements as they come, in lanes or not.  Leaves: the result of a reduction.
Invariant: a partial result is a tuple of `Value`s, of one type all along.  Start reading at `Reducer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan

import numpy as np

from gradc.codegen.builder import Builder
from gradc.codegen.ir import FLOATS, Function, Scalar, Value, const

State = tuple[Value, ...]


class Reducer:
    """A reduction of elements of ``dtype``, ``lanes`` at a time, into a result of ``result``."""

    def __init__(self, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64"):
        """``counter`` is the dtype in which elements are counted."""
        self.f, self.dtype, self.result, self.lanes, self.counter = f, dtype, result, lanes, counter

    def start(self) -> State:
        return (const(self.identity, self.kept, self.lanes),)

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        """``state`` with element ``x`` taken in, in the lanes of ``mask``; ``position`` counts the elements."""
        b = Builder(self.f, self.lanes)
        x = self.prepared(b, x)
        if mask is not None:
            x = b.select(mask, x, self.identity)
        return (self.combined(b, state[0], x),)

    def steps(
        self, states: Sequence[State], xs: Sequence[Value], positions: Sequence[Value | None], mask: Value | None
    ) -> list[State]:
        """`step` of several partial results, each with its own element."""
        return [self.step(*each, mask) for each in zip(states, xs, positions, strict=True)]

    def join(self, first: State, second: State) -> State:
        """Two partial results in one; ``first`` has the earlier elements."""
        b = Builder(self.f, first[0].lanes)
        return (self.combined(b, first[0], second[0]),)

    def across(self, state: State) -> State:
        """One partial result of those in the lanes, by a binary tree of halves: lanes k and k + half are joined."""
        lanes = state[0].lanes
        while lanes > 1:
            lanes //= 2
            low, high = (tuple(_half(self.f, v, start, lanes) for v in state) for start in (0, lanes))
            state = self.join(low, high)
        return state

    def end(self, state: State) -> Value:
        return state[0]

    @property
    def identity(self) -> Scalar:
        raise AssertionError("each reduction has its own")

    @property
    def kept(self) -> str:
        """The dtype in which a partial result is kept."""
        return self.dtype

    def prepared(self, b: Builder, x: Value) -> Value:
        return x

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        raise AssertionError("each reduction has its own")


class Sum(Reducer):
    identity: Scalar = 0

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        return b.add(x, y)


class Prod(Reducer):
    identity: Scalar = 1

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        return b.mul(x, y)


class Any(Reducer):
    identity: Scalar = False
    kept = "bool"

    def prepared(self, b: Builder, x: Value) -> Value:
        return b.convert(x, "bool")

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        return b.or_(x, y)


class All(Any):
    identity: Scalar = True

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        return b.and_(x, y)


def lowest(dtype: str) -> Scalar:
    """What no element is below."""
    if dtype == "bool":
        return False
    return -inf if dtype in FLOATS else int(np.iinfo(dtype).min)


def highest(dtype: str) -> Scalar:
    """What no element is above."""
    if dtype == "bool":
        return True
    return inf if dtype in FLOATS else int(np.iinfo(dtype).max)


class Max(Reducer):
    """NumPy's: NaN wins.  Floats keep a mask of NaN seen beside a bare comparison, which is one instruction."""

    def start(self) -> State:
        first = const(self.identity, self.dtype, self.lanes)
        return (first, const(False, "bool", self.lanes)) if first.is_float else (first,)

    @property
    def identity(self) -> Scalar:
        return lowest(self.dtype)

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        b = Builder(self.f, self.lanes)
        if mask is not None:
            x = b.select(mask, x, self.identity)
        best = self.combined(b, x, state[0])
        return (best, b.or_(state[1], b.isnan(x))) if x.is_float else (best,)

    def steps(
        self, states: Sequence[State], xs: Sequence[Value], positions: Sequence[Value | None], mask: Value | None
    ) -> list[State]:
        """One comparison finds a NaN in either of two elements, and the first one's partial result remembers it."""
        if mask is not None or len(xs) % 2 or not xs[0].is_float:
            return super().steps(states, xs, positions, mask)
        b = Builder(self.f, self.lanes)
        best = [self.combined(b, x, state[0]) for state, x in zip(states, xs, strict=True)]
        seen = [state[1] for state in states]
        seen[::2] = [b.or_(s, b.unordered(x, y)) for s, x, y in zip(seen[::2], xs[::2], xs[1::2], strict=True)]
        return list(zip(best, seen, strict=True))

    def join(self, first: State, second: State) -> State:
        b = Builder(self.f, first[0].lanes)
        best = self.combined(b, second[0], first[0])
        return (best, b.or_(first[1], second[1])) if len(first) == 2 else (best,)

    def across(self, state: State) -> State:
        if len(state) == 1:
            return super().across(state)
        (best,) = super().across(state[:1])
        return best, Builder(self.f, state[1].lanes).any(state[1])

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        if x.dtype == "bool":
            return b.or_(x, y)
        return b.select(b.gt(x, y), x, y)

    def end(self, state: State) -> Value:
        if len(state) == 1:
            return state[0]
        return Builder(self.f, state[0].lanes).select(state[1], nan, state[0])


class Min(Max):
    @property
    def identity(self) -> Scalar:
        return highest(self.dtype)

    def combined(self, b: Builder, x: Value, y: Value) -> Value:
        if x.dtype == "bool":
            return b.and_(x, y)
        return b.select(b.lt(x, y), x, y)


class ArgMax(Reducer):
    """The first position of the best element; a NaN is better than any number, the first NaN best of all."""

    @property
    def kept(self) -> str:
        return "uint8" if self.dtype == "bool" else self.dtype

    @property
    def worst(self) -> Scalar:
        return lowest(self.kept)

    def start(self) -> State:
        return const(self.worst, self.kept, self.lanes), const(0, self.counter, self.lanes)

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        assert position is not None
        b = Builder(self.f, self.lanes)
        x = b.convert(x, self.kept)
        better = self._better(b, x, state[0])
        if mask is not None:
            better = b.and_(better, mask)
        return b.select(better, x, state[0]), b.select(better, position, state[1])

    def join(self, first: State, second: State) -> State:
        b = Builder(self.f, first[0].lanes)
        same = b.not_(b.or_(self._better(b, first[0], second[0]), self._better(b, second[0], first[0])))
        earlier = b.and_(same, b.lt(second[1], first[1]))
        chosen = b.or_(self._better(b, second[0], first[0]), earlier)
        return b.select(chosen, second[0], first[0]), b.select(chosen, second[1], first[1])

    def end(self, state: State) -> Value:
        return Builder(self.f, state[1].lanes).convert(state[1], self.result)

    def above(self, b: Builder, x: Value, y: Value) -> Value:
        return b.gt(x, y)

    def _better(self, b: Builder, x: Value, y: Value) -> Value:
        more = self.above(b, x, y)
        if not x.is_float:
            return more
        return b.or_(more, b.and_(b.isnan(x), b.not_(b.isnan(y))))


class ArgMin(ArgMax):
    @property
    def worst(self) -> Scalar:
        return highest(self.kept)

    def above(self, b: Builder, x: Value, y: Value) -> Value:
        return b.and_(b.lt(x, y), b.not_(b.isnan(y))) if x.is_float else b.lt(x, y)


REDUCERS: dict[str, type[Reducer]] = {
    "sum": Sum, "prod": Prod, "max": Max, "min": Min, "any": Any, "all": All, "argmax": ArgMax, "argmin": ArgMin,
}  # fmt: skip


def _half(f: Function, v: Value, start: int, lanes: int) -> Value:
    if lanes == 1:
        return Value(f.let(f"extractelement {v.typed}, i64 {start}"), v.dtype)
    chosen = ", ".join(f"i32 {start + k}" for k in range(lanes))
    return Value(f.let(f"shufflevector {v.typed}, {v.type} poison, <{lanes} x i32> <{chosen}>"), v.dtype, lanes)


def tree(reducers: Sequence[Reducer], parts: Sequence[tuple[State, ...]]) -> tuple[State, ...]:
    """Partial results of several reductions, interleaved, joined by a binary tree over neighbours."""
    level = list(parts)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        joined = [tuple(r.join(a, b) for r, a, b in zip(reducers, x, y, strict=True)) for x, y in pairs]
        level = joined + level[len(joined) * 2 :]
    return level[0]
