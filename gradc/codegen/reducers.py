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
from gradc.ops.record import Op

State = tuple[Value, ...]


class Reducer:
    """A reduction of elements of ``dtype``, ``lanes`` at a time, into a result of ``result``."""

    def __init__(self, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64"):
        """``counter`` is the dtype in which elements are counted."""
        self.f, self.dtype, self.result, self.lanes, self.counter = f, dtype, result, lanes, counter

    def start(self) -> State:
        """What no elements become."""
        raise AssertionError("each kind of reduction has its own")

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        """``state`` with element ``x`` taken in, in the lanes of ``mask``; ``position`` counts the elements."""
        raise AssertionError("each kind of reduction has its own")

    def steps(
        self, states: Sequence[State], xs: Sequence[Value], positions: Sequence[Value | None], mask: Value | None
    ) -> list[State]:
        """`step` of several partial results, each with its own element."""
        return [self.step(*each, mask) for each in zip(states, xs, positions, strict=True)]

    def join(self, first: State, second: State) -> State:
        """Two partial results in one; ``first`` has the earlier elements."""
        raise AssertionError("each kind of reduction has its own")

    def across(self, state: State) -> State:
        """One partial result of those in the lanes, by a binary tree of halves: lanes k and k + half are joined."""
        lanes = state[0].lanes
        while lanes > 1:
            lanes //= 2
            low, high = (tuple(_half(self.f, v, start, lanes) for v in state) for start in (0, lanes))
            state = self.join(low, high)
        return state

    def end(self, state: State) -> Value:
        """The result, of a partial result in one lane or in every."""
        raise AssertionError("each kind of reduction has its own")


class Combining(Reducer):
    """A reduction whose record says what it starts with and how what two stretches became is joined."""

    def __init__(self, op: Op, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64"):
        super().__init__(f, dtype, result, lanes, counter)
        self.op = op
        self.identity = op.identity if isinstance(op.identity, tuple) else (op.identity,)

    def start(self) -> State:
        return tuple([const(_in(self.result, v), self.result, self.lanes) for v in self.identity])

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        b = Builder(self.f, self.lanes)
        found = self._parts(b.convert(x, self.result) if self.op.element is None else self.op.element(b, x))
        if mask is not None:
            found = tuple([b.select(mask, v, _in(self.result, i)) for v, i in zip(found, self.identity, strict=True)])
        return self._joined(b, state, found)

    def join(self, first: State, second: State) -> State:
        return self._joined(Builder(self.f, first[0].lanes), first, second)

    def end(self, state: State) -> Value:
        if self.op.finish is None:
            return state[0]
        found: Value = self.op.finish(Builder(self.f, state[0].lanes), self._handed(state))
        return found

    def _joined(self, b: Builder, first: State, second: State) -> State:
        assert self.op.combine is not None
        return self._parts(self.op.combine(b, self._handed(first), self._handed(second)))

    def _handed(self, state: State) -> Value | State:
        """A partial result as the record's functions take it: a tuple only if there are several values in one."""
        return state if isinstance(self.op.identity, tuple) else state[0]

    def _parts(self, found: Value | State) -> State:
        return found if isinstance(found, tuple) else (found,)


def _in(dtype: str, value: Scalar) -> Scalar:
    """A number as one of ``dtype``."""
    return bool(value) if dtype == "bool" else value if dtype in FLOATS else int(value)


def worst(keeps: str, dtype: str) -> Scalar:
    """What every element is kept before: by ``gt`` the lowest number of ``dtype``, by ``lt`` the highest."""
    return lowest(dtype) if keeps == "gt" else highest(dtype)


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


class Extremum(Reducer):
    """NumPy's: NaN wins.  Floats keep a mask of NaN seen beside a bare comparison, which is one instruction."""

    def __init__(self, keeps: str, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64"):
        super().__init__(f, dtype, result, lanes, counter)
        self.keeps, self.identity = keeps, worst(keeps, dtype)

    def start(self) -> State:
        first = const(self.identity, self.dtype, self.lanes)
        return (first, const(False, "bool", self.lanes)) if first.is_float else (first,)

    def step(self, state: State, x: Value, position: Value | None, mask: Value | None) -> State:
        b = Builder(self.f, self.lanes)
        if mask is not None:
            x = b.select(mask, x, self.identity)
        best = self._better(b, x, state[0])
        return (best, b.or_(state[1], b.isnan(x))) if x.is_float else (best,)

    def steps(
        self, states: Sequence[State], xs: Sequence[Value], positions: Sequence[Value | None], mask: Value | None
    ) -> list[State]:
        """One comparison finds a NaN in either of two elements, and the first one's partial result remembers it."""
        if mask is not None or len(xs) % 2 or not xs[0].is_float:
            return super().steps(states, xs, positions, mask)
        b = Builder(self.f, self.lanes)
        best = [self._better(b, x, state[0]) for state, x in zip(states, xs, strict=True)]
        seen = [state[1] for state in states]
        seen[::2] = [b.or_(s, b.unordered(x, y)) for s, x, y in zip(seen[::2], xs[::2], xs[1::2], strict=True)]
        return list(zip(best, seen, strict=True))

    def join(self, first: State, second: State) -> State:
        b = Builder(self.f, first[0].lanes)
        best = self._better(b, second[0], first[0])
        return (best, b.or_(first[1], second[1])) if len(first) == 2 else (best,)

    def across(self, state: State) -> State:
        if len(state) == 1:
            return super().across(state)
        (best,) = super().across(state[:1])
        return best, Builder(self.f, state[1].lanes).any(state[1])

    def end(self, state: State) -> Value:
        if len(state) == 1:
            return state[0]
        return Builder(self.f, state[0].lanes).select(state[1], nan, state[0])

    def _better(self, b: Builder, x: Value, y: Value) -> Value:
        if x.dtype == "bool":
            return b.or_(x, y) if self.keeps == "gt" else b.and_(x, y)
        return b.select(getattr(b, self.keeps)(x, y), x, y)


class Position(Reducer):
    """The first position of the best element; a NaN is better than any number, the first NaN best of all."""

    def __init__(self, keeps: str, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64"):
        super().__init__(f, dtype, result, lanes, counter)
        self.keeps, self.kept = keeps, "uint8" if dtype == "bool" else dtype

    def start(self) -> State:
        return const(worst(self.keeps, self.kept), self.kept, self.lanes), const(0, self.counter, self.lanes)

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

    def _better(self, b: Builder, x: Value, y: Value) -> Value:
        more: Value = getattr(b, self.keeps)(x, y)
        if not x.is_float:
            return more
        return b.or_(more, b.and_(b.isnan(x), b.not_(b.isnan(y))))


def reducer_of(op: Op, f: Function, dtype: str, result: str, lanes: int, counter: str = "int64") -> Reducer:
    """How code does the reduction that a record describes, of elements of ``dtype``; for the rest see `Reducer`."""
    if op.keeps:
        return (Position if op.position else Extremum)(op.keeps, f, dtype, result, lanes, counter)
    return Combining(op, f, dtype, result, lanes, counter)


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
