"""Kinks as they are written: |x|, ‖x‖, hypot, max, √ of one number each, whatever factor or sign they are given.

Enters: nodes.  Leaves: the kinks of each, as multiples of sizes that are 0 at the kink (`Kinked`), where kinks at one
place are one `Atom`: |t|, |−2·t| and ‖t·w‖ with the rates 1, 2 and ‖w‖, ‖x − y‖ and ‖y − x‖, max and min of two
numbers, views of these.  Invariant: what is 0 at the same points by the way it is written is one atom; differently
written kinks at one place are two.  Start reading at `Atoms.of`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.interpret import topological
from gradc.node import OPS, Node, constant, dsl
from gradc.ops.leaves import full
from gradc.ops.ranges import Zeros, range_of
from gradc.ops.record import Kind
from gradc.passes.cse import attrs_key
from gradc.passes.fold import splat_value
from gradc.passes.kinks import DEPTH, root_off_zero
from gradc.passes.rules import call, made_by


@dataclass(frozen=True, eq=False)
class Atom:
    """One kink: ``size``, which is 0 there and positive elsewhere, and what stands for its square.

    ``square`` has the value 0, the first derivative 0 and, where ``size`` is 0, the second one of size²; of a root, it
    is the radicand where that is 0, of which the first derivative counts as well.
    """

    size: Node
    square: Node
    of: Node | None = None  #: x, where size = |x|
    is_root: bool = False


@dataclass(frozen=True, eq=False)
class Kinked:
    """A node with a kink of its own: u = m + Σ rate·size, and whether u is 0 at the kink (m = 0)."""

    rates: Mapping[Atom, Node | float]
    vanishes: bool = True


def may_kink(node: Node) -> bool:
    return node.aval.is_float and made_by(
        node, "absolute", "norm", "hypot", "maximum", "minimum", "sqrt", "where"
    ) and (not made_by(node, "where") or root_off_zero(node) is not None)  # fmt: skip


class Atoms:
    """The kinks of a graph, each once however it is written."""

    def __init__(self) -> None:
        self.known: dict[Hashable, Atom] = {}
        self.first: dict[Hashable, Node] = {}
        self.canonical: dict[Node, Node] = {}

    def of(self, node: Node) -> Kinked | None:
        """What is known of the kink of ``node`` itself."""
        if not may_kink(node):
            return None
        if made_by(node, "absolute"):
            return Kinked(self._absolute(node.args[0]))
        if made_by(node, "norm"):
            return Kinked(self._around(node.args[0], node.attrs["axes"]))
        if made_by(node, "hypot"):
            return Kinked(self._hypot(node)) if range_of(node).lo <= 0 else None
        if made_by(node, "maximum", "minimum"):
            x, y = node.args
            rates = self._difference(x, y)
            return Kinked(rates if made_by(node, "maximum") else {a: -r for a, r in rates.items()}, vanishes=False)
        v = node.args[0] if made_by(node, "sqrt") else root_off_zero(node)
        assert v is not None
        if made_by(node, "where") and (ball := _ball_of(v)) is not None:
            kinked = Kinked(self._around(*ball))
            return self.viewed(kinked, lambda seen: shown_as(seen, node.shape))
        if range_of(v).zeros is Zeros.NEVER:
            return None
        return Kinked({self._root(v, made_by(node, "sqrt")): 1.0})

    def viewed(self, kinked: Kinked, view: Callable[[Node], Node]) -> Kinked:
        """The kink of a view."""
        rates: dict[Atom, Node | float] = {}
        for atom, rate in kinked.rates.items():
            rates[self._seen(atom, view)] = view(rate) if isinstance(rate, Node) else rate
        return Kinked(rates, kinked.vanishes)

    def _seen(self, atom: Atom, view: Callable[[Node], Node]) -> Atom:
        if atom.of is not None:
            return self._line(self._oriented(view(atom.of)))
        square = self.interned(view(atom.square))
        return self._atom(("view", id(square)), lambda: Atom(view(atom.size), square, is_root=atom.is_root))

    def interned(self, node: Node) -> Node:
        """One node for all that are written like ``node`` on operands that are."""
        for n in topological([node], self.canonical):
            if n not in self.canonical:
                what = None if n.args or n.op.kind is Kind.CONSTANT else n  # an input is like no other
                key = (
                    n.op,
                    tuple(id(self.canonical[a]) for a in n.args),
                    attrs_key(n) if what is None else what,
                    n.aval,
                )
                self.canonical[n] = self.first.setdefault(key, n)
        return self.canonical[node]

    def _atom(self, key: Hashable, made: Callable[[], Atom]) -> Atom:
        if key not in self.known:
            self.known[key] = made()
        return self.known[key]

    def _absolute(self, a: Node) -> dict[Atom, Node | float]:
        """|a| as a product of kinks: of |x·y| one in x with the rate |y|, and one in y."""
        factors = list(_factors(a))
        found: dict[Atom, Node | float] = {}
        for i, b in enumerate(factors):
            if _varies(b):
                others = [f for j, f in enumerate(factors) if j != i]
                found[self._line(self._oriented(b))] = _size_of(others)
        return found

    def _line(self, b: Node) -> Atom:
        return self._atom(("line", id(b)), lambda: Atom(call("absolute", b), _square(b, b), of=b))

    def _difference(self, x: Node, y: Node) -> dict[Atom, Node | float]:
        """|x − y|/2."""
        zero = next((n for n in (x, y) if splat_value(n) == 0), None)
        apart = call("difference", x, y) if zero is None else y if zero is x else x
        return {atom: rate * 0.5 for atom, rate in self._absolute(apart).items()}

    def _oriented(self, b: Node) -> Node:
        """x − y for y − x, whichever is the older operand first."""
        b = self.interned(b)
        if made_by(b, "subtract", "difference"):
            x, y = sorted((self.interned(a) for a in b.args), key=lambda n: n.serial)
            return self.interned(call("difference", x, y))
        return b

    def _around(self, x: Node, axes: Shape, scale: float = 1.0) -> dict[Atom, Node | float]:
        """scale·‖x‖: the kinks of what repeats along ``axes``, and of the norm of what does not."""
        kept = tuple(n for a, n in enumerate(x.shape) if a not in axes)
        own: list[Node] = []
        outside = [full(kept, scale, x.dtype)]
        for f in _factors(x):
            short = _without(f, axes)
            (own.append(f) if short is None else outside.append(short))
        if not any(map(_varies, own)):
            outside.append(constant(OPS["norm"].evaluate(_value(own, x), axes=axes)))
            own = []
        if not own or all(x.shape[a] == 1 for a in axes):
            return self._absolute(_product([*outside, *(shown_as(f, kept) for f in own)]))
        inside = self._oriented(_product(own))
        radius = self.interned(OPS["norm"].make((inside,), axes=axes))
        return self._times(outside, self._atom(("norm", id(radius)), lambda: _ball(inside, radius, axes)))

    def _times(self, outside: Sequence[Node], around: Atom) -> dict[Atom, Node | float]:
        """The kinks of |the product of some numbers| times ``around``."""
        rates: dict[Atom, Node | float] = {around: _size_of(outside)}
        for i, b in enumerate(outside):
            if _varies(b):
                others = [f for j, f in enumerate(outside) if j != i]
                rates[self._line(self._oriented(b))] = around.size * _size_of(others)
        return rates

    def _hypot(self, node: Node) -> dict[Atom, Node | float]:
        """The kinks of what is a factor of both operands, and of the hypotenuse of the rest."""
        parts = [[self.interned(f) for f in _factors(a)] for a in node.args]
        common = [f for f in dict.fromkeys(parts[0]) if splat_value(f) is None and f in dict.fromkeys(parts[1])]
        numbers, rests = list[float](), list[list[Node]]()
        for part in parts:
            numbers.append(math.prod(float(held) for f in part if (held := splat_value(f)) is not None))
            rests.append([f for f in part if splat_value(f) is None and f not in set(common)])
        if not any(rests):
            return self._absolute(_product([*common, full(node.shape, math.hypot(*numbers), node.dtype)]))
        (c, x), (d, y) = sorted(
            zip(numbers, (self._oriented(_product(r, node)) for r in rests), strict=True), key=lambda p: p[1].serial
        )
        radius = self.interned(call("hypot", x, y if c == d else y * (d / c)))
        inner = radius.args
        around = self._atom(
            ("hypot", id(radius)),
            lambda: Atom(radius, _square(inner[0], held_still(radius)) + _square(inner[1], held_still(radius))),
        )
        return self._times([*common, full(node.shape, c, node.dtype)], around)

    def _root(self, v: Node, bare: bool) -> Atom:
        return self._atom(
            ("root", id(v), bare), lambda: Atom(call("sqrt", v), dsl.where(v == 0, v, 0), is_root=bare)
        )  # fmt: skip


def held_still(x: Node) -> Node:
    """``x`` without a derivative."""
    return OPS["stop_gradient"].make((x,))


def _square(x: Node, r: Node) -> Node:
    return call("even_square", x, r, n=0)


def _ball(x: Node, radius: Node, axes: Shape) -> Atom:
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shown = OPS["broadcast"].make((held_still(radius),), shape=x.shape, axes=kept)
    return Atom(radius, OPS["sum"].make((_square(x, shown),), axes=axes))


def _factors(a: Node) -> Iterator[Node]:
    """Numbers whose product is ±a."""
    stack = [a]
    while stack:
        number, node = _number_taken_out(stack.pop())
        if abs(number) != 1:
            yield full(node.shape, abs(number), node.dtype)
        if made_by(node, "multiply") and node.args[0] is not node.args[1]:
            stack += node.args
        elif splat_value(node) is None:
            yield node


def _number_taken_out(node: Node, depth: int = DEPTH) -> tuple[float, Node]:
    """c and x with node = c·x, from as deep as linear operations reach."""
    if (held := _number(node)) is not None:
        return held, full(node.shape, 1, node.dtype)
    if depth == 0 or not node.args or not node.aval.is_float:
        return 1.0, node
    first, last = node.args[0], node.args[-1]
    if made_by(node, "negative"):
        c, x = _number_taken_out(first, depth - 1)
        return -c, x
    if made_by(node, "multiply", "divide") and (held := _number(last)) is not None:
        c, x = _number_taken_out(first, depth - 1)
        return (c * held if made_by(node, "multiply") else c / held), x
    if made_by(node, "multiply") and (held := _number(first)) is not None:
        c, x = _number_taken_out(last, depth - 1)
        return c * held, x
    if made_by(node, "sum") or is_plain_view(node):
        c, x = _number_taken_out(first, depth - 1)
        return c, node if x is first else node.op.make((x,), **node.attrs)
    if made_by(node, "add", "subtract", "difference"):
        return _out_of_sum(node, depth)
    return 1.0, node


def _out_of_sum(node: Node, depth: int) -> tuple[float, Node]:
    """A sum as a multiple of one in which the first term that varies has the factor 1."""
    (c, x), (d, y) = (_number_taken_out(a, depth - 1) for a in node.args)
    d = d if made_by(node, "add") else -d
    if splat_value(x) is not None:
        (c, x), (d, y) = (d, y), (c, x)
    if x is y and c + d:
        return c + d, x
    if c == 1 and splat_value(y) is None and abs(d) == 1:
        return 1.0, node
    if abs(d) == abs(c):
        return c, call("add" if d == c else "difference", x, y)
    return c, call("difference", x, full(y.shape, -d / c, y.dtype) if splat_value(y) is not None else y * (-d / c))


def _number(node: Node) -> float | None:
    """The number that ``node`` is everywhere; of a number that has no multiples, None."""
    held = splat_value(node)
    return float(held) if held is not None and held != 0 and math.isfinite(held) else None


def _ball_of(v: Node) -> tuple[Node, Shape, float] | None:
    """x, axes and c where v = (c·‖x‖)²."""
    c, total = 1.0, v
    while made_by(total, "multiply", "divide", "reshape"):
        if not made_by(total, "reshape"):
            if (held := _number(total.args[1])) is None:
                return None
            c = c / held if made_by(total, "divide") else c * held
        total = total.args[0]
    if c < 0 or not made_by(total, "sum"):
        return None
    (x,) = total.args
    is_square = made_by(x, "square") or (made_by(x, "multiply") and x.args[0] is x.args[1])
    return (x.args[0], total.attrs["axes"], math.sqrt(c)) if is_square else None


def _product(factors: Sequence[Node], like: Node | None = None) -> Node:
    """The product of some numbers; of none it is 1 in the shape of ``like``."""
    if not factors and like is not None:
        return full(like.shape, 1, like.dtype)
    return reduce(operator.mul, factors)


def _size_of(factors: Sequence[Node]) -> Node | float:
    """|x·y·…|; 1 of no factors."""
    number, nodes = 1.0, list[Node]()
    for f in factors:
        held = splat_value(f)
        if held is None:
            nodes.append(call("absolute", f))
        else:
            number *= abs(float(held))
    if not nodes:
        return number
    size = reduce(operator.mul, nodes)
    return size if number == 1 else size * number


def _value(factors: Sequence[Node], like: Node) -> np.ndarray[Any, Any]:
    """The product of constants, of numbers too, in the shape and dtype of ``like``."""
    found = np.ones(like.shape, like.dtype)
    for f in factors:
        held = splat_value(f)
        found = found * np.asarray(f.attrs["value"] if held is None else held, like.dtype)
    return found


def _varies(f: Node) -> bool:
    return splat_value(f) is None and f.op.kind is not Kind.CONSTANT


def _without(x: Node, axes: Shape) -> Node | None:
    """``x`` without ``axes``, along which it repeats itself; None if it does not."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shape = tuple(x.shape[a] for a in kept)
    held = splat_value(x)
    if held is not None:
        return full(shape, held.item(), x.dtype)
    if not made_by(x, "broadcast"):
        return None
    (inner,) = x.args
    places = dict(zip(x.attrs["axes"], range(inner.ndim), strict=True))
    if any(a in places and inner.shape[places[a]] > 1 for a in axes):
        return None
    short = shown_as(inner, tuple(n for a, n in zip(x.attrs["axes"], inner.shape, strict=True) if a not in axes))
    if short.shape == shape:
        return short
    return OPS["broadcast"].make((short,), shape=shape, axes=tuple(kept.index(a) for a in x.attrs["axes"] if a in kept))


def shown_as(x: Node, shape: Shape) -> Node:
    """``x`` in another shape of as many elements, of one that is shown so already the original."""
    while made_by(x, "reshape") or _only_adds_axes(x):
        (x,) = x.args
    return x if x.shape == shape else OPS["reshape"].make((x,), shape=shape)


def _only_adds_axes(x: Node) -> bool:
    """Whether a broadcast repeats nothing and leaves the order of the axes."""
    return made_by(x, "broadcast") and x.size == x.args[0].size and list(x.attrs["axes"]) == sorted(x.attrs["axes"])


def viewed_like(x: Node, like: Node) -> Node:
    """``x`` in the view ``like``."""
    if made_by(like, "reshape") or _only_adds_axes(like):
        return shown_as(x, like.shape)
    return like.op.make((x,), **like.attrs)


def is_plain_view(node: Node) -> bool:
    """Whether each element is one of the operand."""
    return node.op.kind is Kind.VIEW and len(node.args) == 1 and not made_by(node, "pad")
