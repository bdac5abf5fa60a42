"""A program with what its oracles need, each made once, and error bounds only where numbers differ.

Enters: a `Program`.  Leaves: its graph, values, weights and derivatives along one direction, as numbers with bounds.
Invariant: a bound is that of `gradc.oracle.rounding`.  A running error analysis costs several times what it bounds, so
it is asked for where two numbers differ by more than the part of it that is known without: the verdict is the same.
Start reading at `Subjects`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradc as gc
from gradc.diff.modes import pull_back, push_forward
from gradc.graph import Graph
from gradc.interpret import interpret, topological
from gradc.node import Node, constant
from gradc.ops.control import every_node, inner_leaf
from gradc.ops.record import HOLDERS, Kind
from gradc.oracle.rounding import running_errors
from gradc.oracle.walk import Walk
from gradc.oracle.witness import Subject, subject_of
from gradc.passes.kink_forms import may_kink
from tests.fuzz.language import Array, Program
from tests.fuzz.native import DEFAULT, Manner
from tests.fuzz.reference import GRADC, flat_results

EPS = 2.0**-52


@dataclass
class Number:
    """A number, the least of its error bound that is known at once, and how the whole bound is found.

    ``singular``: whether it is NaN because there is no derivative, and for no other reason.
    """

    value: float
    least: float
    whole: Callable[[], float]
    singular: Callable[[], bool] = lambda: False

    @functools.cached_property
    def bound(self) -> float:
        return self.whole()


@dataclass
class Subjects:
    """A program with what all oracles need, made once; ``manner`` is how it is compiled."""

    program: Program
    manner: Manner = DEFAULT
    draw: int = 1  #: of the direction

    def turned(self) -> Subjects:
        """The same program, with another direction."""
        other = Subjects(self.program, self.manner, self.draw + 1)
        other.__dict__.update({name: getattr(self, name) for name in ("graph", "wide")})
        return other

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        return self.program.function(GRADC)

    @functools.cached_property
    def graph(self) -> Graph:
        return gc.trace(self.function, *self.program.args)

    @functools.cached_property
    def errors(self) -> Mapping[Node, Array]:
        """The rounding of every node in the program's own dtypes."""
        return running_errors(self.graph.outputs, dict(zip(self.graph.inputs, self.program.args, strict=True)))[1]

    @functools.cached_property
    def interpreted(self) -> list[Array]:
        return flat_results(self.graph.evaluate(*self.program.args))

    @functools.cached_property
    def wide(self) -> Subject:
        """The program in float64, with weights for its results: what derivatives are taken of."""
        return subject_of(self.graph, self.program.args).widened()

    @functools.cached_property
    def known(self) -> dict[Node, Any]:
        """Values of the wide program's nodes, and of those of its derivatives as they are asked for."""
        values: dict[Node, Any] = dict(self.wide.values)
        interpret(self.wide.graph.outputs, values)
        return values

    @functools.cached_property
    def direction(self) -> dict[int, Array]:
        random = np.random.default_rng(self.draw)
        parts = [-1.0, -0.5, 0.5, 1.0] if self.draw == 1 else [-0.75, 0.375, 1.25]
        return {i: random.choice(parts, self.wide.arrays[i].shape) for i in self.wide.wanted}

    @functools.cached_property
    def differentiable(self) -> bool:
        graph = self.graph
        return any(x.aval.is_float for x in graph.inputs) and any(y.aval.is_float for y in graph.outputs)

    @functools.cached_property
    def has_kinks(self) -> bool:
        """Whether some operation has a kink that takes part in second derivatives, those in bodies included."""
        return any(may_kink(node) for node in every_node(self.graph))

    @functools.cached_property
    def at_special_point(self) -> bool:
        """Whether a first operand is, somewhere, at a point where the record of its op declares the derivative."""
        found = False

        def settle(node: Node, operands: Sequence[Array], value: Array) -> Array:
            nonlocal found
            points = {p[0] if isinstance(p, tuple) else p for p in node.op.special}
            found = found or any(bool(np.any(operands[0] == p)) for p in points)
            return value

        Walk(settle)(self.wide.graph.outputs, self.wide.values)
        return found

    @functools.cached_property
    def pushed(self) -> Number:
        """⟨ct, J t⟩ by forward mode."""
        wide = self.wide
        tangents = [constant(self.direction[i]) for i in wide.wanted]
        moved = push_forward(wide.graph.outputs, wide.leaves, tangents)
        return self._paired([(wide.weights[y], t) for y, t in zip(wide.graph.outputs, moved, strict=True)
                             if t is not None and y in wide.weights])  # fmt: skip

    def pulled(self, pull: Callable[..., Sequence[Node | None]] = pull_back) -> Number:
        """⟨Jᵀct, t⟩ by a reverse mode."""
        wide = self.wide
        cotangents = [constant(wide.weights[y]) if y in wide.weights else None for y in wide.graph.outputs]
        found = pull(wide.graph.outputs, wide.leaves, cotangents)
        return self._paired([(self.direction[i], g) for i, g in zip(wide.wanted, found, strict=True) if g is not None])

    @functools.cached_property
    def reverse(self) -> Number:
        return self.pulled()

    def _paired(self, pairs: Sequence[tuple[Array, Node]]) -> Number:
        """Σ weight · value, and how far rounding may move it."""
        values = interpret([n for _, n in pairs], self.known)
        total = sum(float(np.sum(w * v)) for (w, _), v in zip(pairs, values, strict=True))
        summed = [2 * EPS * max(v.size, 1) * np.abs(v) for v in values]  # what adding up the products may add
        least = sum(float(np.sum(np.abs(w) * s)) for (w, _), s in zip(pairs, summed, strict=True))

        def whole() -> float:
            errors = running_errors([n for _, n in pairs], self.wide.values)[1]
            return least + sum(float(np.sum(np.abs(w) * errors[n])) for w, n in pairs)

        return Number(total, least, whole, lambda: is_singular([n for _, n in pairs], self.known))


def is_singular(outputs: Sequence[Node], values: Mapping[Node, Any]) -> bool:
    """Whether NaN comes up behind ``outputs``, and nowhere by a product with 0.

    Then a slope is NaN there, or infinities of two signs meet, as behind a vertical tangent: the function has no
    derivative, and the modes, which add in other orders, may say so or not.  A product of 0 and what is not finite
    is none of this: zero is zero in either mode.  Bodies are walked as they run; of a loop that was given what is not
    finite nothing more is asked.
    """
    lost = [n for n in topological(outputs) if _has(np.isnan, values[n])]
    return bool(lost) and not any(_loses_a_zero(n, [values[a] for a in n.args], values[n]) for n in lost)


def _has(test: Callable[[Array], Any], value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(bool(np.any(test(p))) for p in parts if p.dtype.kind == "f")


def _loses_a_zero(node: Node, args: Sequence[Any], value: Any) -> bool:
    """Whether NaN is, or may be, the product of a 0 with what is not finite."""
    if node.op.kind in HOLDERS:
        return not any(_has(lambda p: ~np.isfinite(p), a) for a in args) and not _is_singular_inside(node, args)
    if node.op.kind is Kind.CONTRACT:
        wild, zero = [(~np.isfinite(a)).astype(float) for a in args], [(a == 0).astype(float) for a in args]
        pairs = ((zero[0], wild[1]), (wild[0], zero[1]))
        return any(bool(np.any(node.op.numpy(*pair, **node.attrs) > 0)) for pair in pairs)
    if node.op.name not in ("multiply", "strong_multiply"):
        return False
    return bool(np.any(np.isnan(value) & ((args[0] == 0) | (args[1] == 0))))


def _is_singular_inside(node: Node, args: Sequence[Any]) -> bool:
    """Whether NaN comes up in the bodies of ``node``, and nowhere by a product with 0."""
    lost, by_zero = False, False

    def settle(inner: Node, operands: Sequence[Array], value: Array) -> Array:
        nonlocal lost, by_zero
        if _has(np.isnan, value):
            lost, by_zero = True, by_zero or _loses_a_zero(inner, operands, value)
        return value

    leaves = [inner_leaf(a.aval, "operand") for a in node.args]
    alone = Node(node.op, tuple(leaves), node.attrs, node.aval, node.where)
    Walk(settle)([alone], dict(zip(leaves, args, strict=True)))
    return lost and not by_zero
