"""One node alone, at the values it received: is each facet of its op's record right?

Enters: a node and float64 values of its operands.  Leaves: `Fault`s, each naming the facet that is wrong. The NumPy
meaning is the fixed point: its Richardson differences are compared with the JVP rule and with the derivative of the
SymPy meaning; the transpose is held against the JVP by ⟨ct, J t⟩ = ⟨Jᵀ ct, t⟩, the batching rule against one example at
a time.  Every comparison has a bound: running errors for what is computed, its own estimate for a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval, is_float
from gradc.diff.batching import batch_node
from gradc.diff.finite import EPS, Difference, default_step, difference_along
from gradc.diff.linear import passes
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.symbolic.fragments import Fragment, fragment_at
from gradc.diff.symbolic.indexed import index_equality
from gradc.diff.symbolic.written_out import NotWrittenError
from gradc.diff.widen import widen_array
from gradc.errors import GradcError
from gradc.interpret import topological
from gradc.node import Node, derived_from
from gradc.ops.control import inner_leaf, item
from gradc.ops.record import LEAVES, Kind
from gradc.oracle.compare import VAGUE
from gradc.oracle.rounding import own_error, running_errors
from gradc.oracle.wide import evaluate_wide

Array = np.ndarray[Any, Any]

#: elements of all operands together up to which a structured op's SymPy meaning is evaluated
SYMBOLS = 64


@dataclass(frozen=True, slots=True)
class Fault:
    """A facet of ``node``'s op that disagrees with the op's NumPy meaning."""

    node: Node
    facet: str
    words: str


def applied(node: Node) -> Node:
    """The application of an op whose value ``node`` is: itself, or the node with several results of which it is one."""
    return node.args[0] if node.op.kind is Kind.ITEM else node


class Alone:
    """A node on fresh leaves, with values and random directions; it may be one result of a node with several."""

    def __init__(self, node: Node, values: Sequence[Array], seed: int = 0):
        random = np.random.default_rng(seed)
        self.node, self.op = node, applied(node).op
        self.values = [widen_array(v) for v in values]
        self.leaves = [_leaf(_wide_aval(a.aval)) for a in applied(node).args]
        self.copy = self.on(self.leaves)
        self.moving = [i for i, a in enumerate(self.leaves) if a.aval.is_float and passes(self.op, i)]
        self.directions = {i: random.uniform(0.5, 1.5, a.shape) * random.choice([-1.0, 1.0], a.shape)
                           for i, a in enumerate(self.leaves) if i in self.moving}  # fmt: skip
        self.cotangent = random.uniform(0.5, 1.5, node.shape) * random.choice([-1.0, 1.0], node.shape)
        self.value = self.evaluate(self.values)

    def on(self, operands: Sequence[Node]) -> Node:
        """The node, or its one result, with every float in float64."""
        whole = applied(self.node)
        attrs = dict(whole.attrs)
        if "dtype" in attrs and self.node.aval.is_float:
            attrs["dtype"] = np.dtype(np.float64)
        if whole is self.node:
            return Node(whole.op, tuple(operands), attrs, _wide_aval(whole.aval), whole.where)
        with derived_from(whole.where):
            return item(whole.op.make(operands, **attrs), self.node.attrs["index"])

    def evaluate(self, values: Sequence[Array]) -> Array:
        """The value, by the NumPy meaning."""
        whole = applied(self.copy)
        found = evaluate_wide(whole, values)
        return found if whole is self.copy else found[self.copy.attrs["index"]]

    @property
    def has_tangent(self) -> bool:
        return self.copy.aval.is_float and bool(self.moving) and self.copy.size > 0

    @property
    def known(self) -> dict[Node, Array]:
        return dict(zip(self.leaves, self.values, strict=True))

    def difference(self) -> Difference:
        """The NumPy meaning's derivative along the directions; zero for an op that is a constant by decree."""
        if self.op.stops:
            zeros = np.zeros(self.node.shape)
            return Difference(zeros, zeros, zeros)
        start = {i: self.values[i] for i in self.moving}
        step = default_step(start, self.directions)
        shift = {i: EPS * (np.abs(x) + step * np.abs(self.directions[i])) for i, x in start.items()}
        _, noise = running_errors([self.copy], self.known, {self.leaves[i]: s for i, s in shift.items()})
        return difference_along(self.evaluate, self.values, self.directions, noise[self.copy])

    def pushed(self) -> tuple[Array, Array, list[Node]]:
        """J t by the JVP rule, its rounding bound, and the nodes that the rule built."""
        tangents = {i: _leaf(self.leaves[i].aval) for i in self.moving}
        with derived_from(self.node.where):
            (tangent,) = push_forward([self.copy], [self.leaves[i] for i in tangents], [*tangents.values()])
        if tangent is None:
            return np.zeros(self.node.shape), np.zeros(self.node.shape), []
        start = self.known | {tangents[i]: self.directions[i] for i in self.moving}
        values, errors = running_errors([tangent], start)
        return values[tangent], errors[tangent], topological([tangent])

    def pulled(self, pull: Callable[..., list[Node | None]]) -> list[tuple[Array, Array]]:
        """Jᵀ ct for every moving operand with its rounding bound, by reverse or symbolic mode."""
        ct = _leaf(self.copy.aval)
        wanted = [self.leaves[i] for i in self.moving]
        with derived_from(self.node.where):
            found = pull([self.copy], wanted, [ct])
        values, errors = running_errors([g for g in found if g is not None], self.known | {ct: self.cotangent})
        zero = [np.zeros(x.shape) for x in wanted]
        return [(z, z) if g is None else (values[g], errors[g]) for g, z in zip(found, zero, strict=True)]


def _wide_aval(aval: Aval) -> Aval:
    return Aval(aval.shape, np.dtype(np.float64) if aval.is_float else aval.dtype)


def _leaf(aval: Aval) -> Node:
    return inner_leaf(aval, "operand")


# -- the checks --------------------------------------------------------------------------------------------------------


def derivative_faults(node: Node, values: Sequence[Array], depth: int = 2) -> list[Fault]:
    """What is wrong with the derivative facets of ``node``'s op at these operand values; empty if nothing is.

    A transpose may be wrong because of an op that the JVP rule uses: such an op is looked into first, ``depth`` deep.
    """
    try:
        alone = Alone(node, values)
        if not alone.has_tangent or not np.all(np.isfinite(alone.value)):
            return []
        return list(_derivative_faults(alone, depth))
    except GradcError as error:
        return [Fault(node, "derivative rule", f"raised {type(error).__name__}: {error}")]


def _derivative_faults(alone: Alone, depth: int) -> Iterator[Fault]:
    node = alone.node
    d = alone.difference()
    pushed, pushed_error, built = alone.pushed()
    if _differ(pushed, pushed_error, d.value, d.error):
        yield Fault(node, _rule_facet(node), _gap("the JVP is", pushed, d.value, pushed_error + d.error))
    reverse = alone.pulled(pull_back)
    yield from _symbolic_faults(alone, d)
    pairing = _dot(alone.cotangent, pushed, pushed_error)
    if _apart(_against(alone, reverse), pairing):
        inner = _inner_faults(built, alone, depth)
        words = _words("⟨ct, J t⟩ ≠ ⟨Jᵀct, t⟩: the transpose gives", _against(alone, reverse), pairing)
        yield from inner or [Fault(node, _transpose_facet(node), words)]


def _symbolic_faults(alone: Alone, d: Difference) -> Iterator[Fault]:
    """The derivative of the SymPy meaning, where there is one."""
    try:
        symbolic = alone.pulled(symbolic_pull_back)
    except NotWrittenError:
        return
    expected = _dot(alone.cotangent, d.value, d.error)
    excused = _at_declared_singular_point(alone, symbolic, d) or _only_overflows(alone, symbolic, d)
    if _apart(_against(alone, symbolic), expected) and not excused:
        words = _words("its derivative gives", _against(alone, symbolic), expected)
        yield Fault(alone.node, "SymPy meaning", words)


def _at_declared_singular_point(alone: Alone, symbolic: Sequence[tuple[Array, Array]], d: Difference) -> bool:
    """Whether SymPy's derivative is not finite only where the function has none and the record says what stands there.

    That the function has none is seen from its values: one-sided derivatives that differ, or quotients that do not
    settle.
    """
    if not alone.op.singular:
        return False
    rough = (d.jump != 0) | ~(d.error <= VAGUE * np.maximum(np.abs(d.value), 1.0))
    bad = [~np.isfinite(g) for g, _ in symbolic]
    if not any(np.any(b) for b in bad):
        return False
    if alone.op.kind is not Kind.ELEMENTWISE:
        return bool(np.any(rough))
    return all(bool(np.all(rough[b])) for b in bad)


def _only_overflows(alone: Alone, symbolic: Sequence[tuple[Array, Array]], d: Difference) -> bool:
    """Whether SymPy's derivative is not finite in float64 although it is right: exp(x)/(1 + exp(x)) far out.

    Decided with 30 digits and any exponent, in the first element concerned.
    """
    bad = [g for g, _ in symbolic if not np.all(np.isfinite(g))]
    if not bad or alone.node.op.kind is not Kind.ELEMENTWISE:
        return bool(bad)
    import sympy

    k = int(np.flatnonzero(~np.isfinite(bad[0]))[0])
    fragment = fragment_at(alone.copy, set(), exact=False)
    point = _numbers(fragment, {x: float(v.reshape(-1)[k]) for x, v in zip(alone.leaves, alone.values, strict=True)})
    t = {x: float(alone.directions[i].reshape(-1)[k]) for i, x in enumerate(alone.leaves) if i in alone.moving}
    pairs = [(s, t[x]) for s, x in zip(fragment.symbols, fragment.leaves, strict=True) if x in t]
    slope = sum(v * sympy.diff(fragment.expression, s).xreplace(point).evalf(30) for s, v in pairs)
    return bool(abs(float(slope) - d.value.reshape(-1)[k]) <= d.error.reshape(-1)[k])


def _inner_faults(built: Sequence[Node], alone: Alone, depth: int) -> list[Fault]:
    """Faults of the ops that a JVP rule is made of: the cause, where the transposed rule is only the symptom."""
    if alone.op.jvp is None or depth == 0:
        return []
    random = np.random.default_rng(1)
    found: list[Fault] = []
    for inner in built:
        if inner.op.kind not in (Kind.INPUT, Kind.CONSTANT) and inner.op is not alone.op:
            values = [random.uniform(0.5, 1.5, a.shape) if a.aval.is_float else None for a in inner.args]
            if all(v is not None for v in values) and not found:
                found += derivative_faults(inner, [v for v in values if v is not None], depth - 1)
    return found


def _rule_facet(node: Node) -> str:
    op = applied(node).op
    return "partials" if op.partials is not None else "jvp" if op.jvp is not None else "linearity"


def _transpose_facet(node: Node) -> str:
    op = applied(node).op
    return "partials" if op.partials is not None else "transpose" if op.transpose is not None else "jvp"


def _against(alone: Alone, pulled: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """⟨Jᵀct, t⟩ over all moving operands, with its bound."""
    parts = [_dot(alone.directions[i], g, e) for i, (g, e) in zip(alone.moving, pulled, strict=True)]
    return sum(v for v, _ in parts), sum(e for _, e in parts)


def _dot(weights: Array, value: Array, error: Array) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        products = weights * value
        rounding = value.size * EPS * np.sum(np.abs(products))
        return float(np.sum(products)), float(np.sum(np.abs(weights) * error) + rounding)


def _differ(a: Array, a_error: Array, b: Array, b_error: Array) -> bool:
    """Whether two results are further apart somewhere than their bounds allow; a non-finite difference says nothing."""
    with np.errstate(all="ignore"):
        outside = ~(np.abs(a - b) <= a_error + b_error)
    return bool(np.any(outside & np.isfinite(b) & np.isfinite(b_error)))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return _differ(np.asarray(a[0]), np.asarray(a[1]), np.asarray(b[0]), np.asarray(b[1]))


def _gap(what: str, got: Array, expected: Array, allowed: Array) -> str:
    with np.errstate(all="ignore"):
        off = np.where(np.abs(got - expected) <= allowed, 0.0, np.abs(got - expected))
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), got.shape)
    place = f" at {tuple(map(int, worst))}" if worst else ""
    return f"{what} {got[worst]:.6g}{place}, the difference quotient of its NumPy meaning is {expected[worst]:.6g}"


def _words(what: str, got: tuple[float, float], expected: tuple[float, float]) -> str:
    return f"{what} {got[0]:.6g}, expected {expected[0]:.6g} ± {expected[1] + got[1]:.1g}"


# -- value of the SymPy meaning, and batching --------------------------------------------------------------------------


def meaning_faults(node: Node, values: Sequence[Array]) -> list[Fault]:
    """Whether the op's second meaning, in SymPy or as an index formula, has the value of its NumPy meaning.

    Elementwise ops are looked at in three elements, index formulas in all, and other SymPy meanings where the operands
    are small enough for one symbol per element.
    """
    if not node.aval.is_float or not node.size:
        return []
    alone = Alone(node, values)
    if node.op.source is not None:
        words = _index_problem(alone)
        return [Fault(node, "index formula", words)] if words else []
    if alone.op.sympy is None:
        return []
    words = _element_problem(alone) if node.op.kind is Kind.ELEMENTWISE else _array_problem(alone)
    return [Fault(node, "SymPy meaning", words)] if words else []


def _element_problem(alone: Alone) -> str:
    node = alone.node
    fragment = fragment_at(alone.copy, set(), exact=False)
    flat = [np.broadcast_to(v, node.shape).reshape(-1) for v in alone.values]
    own = own_error(alone.copy, alone.values, alone.value).reshape(-1)
    for k in sorted({0, node.size // 2, node.size - 1}):
        point = {leaf: float(v[k]) for leaf, v in zip(alone.leaves, flat, strict=True)}
        expected = float(alone.value.reshape(-1)[k])
        got = _at(fragment, point)
        if got is not None and np.isfinite(expected) and not abs(got - expected) <= own[k]:
            return f"its value is {got:.6g}, the NumPy meaning's is {expected:.6g} at {tuple(point.values())}"
    return ""


def _index_problem(alone: Alone) -> str:
    """Follow the index formula of a view or fold element by element (all at once)."""
    total = np.full(alone.node.shape, alone.node.attrs.get("fill", 0), np.float64).reshape(-1)
    for i, value in enumerate(alone.values):
        outs, ins = index_equality(alone.copy, i)
        if alone.node.op.kind is Kind.VIEW:
            total[outs] = value.reshape(-1)[ins]
        else:
            np.add.at(total, outs, value.reshape(-1)[ins])
    bound = running_errors([alone.copy], alone.known)[1][alone.copy]
    right = _same(total.reshape(alone.node.shape), alone.value, 2 * bound)
    return "" if right else "the elements that it names are not those of the NumPy meaning"


def _array_problem(alone: Alone) -> str:
    import sympy

    if sum(v.size for v in alone.values) > SYMBOLS or not all(np.all(np.isfinite(v)) for v in alone.values):
        return ""
    if not np.all(np.isfinite(alone.value)):  # the logarithm of the sum of no element
        return ""
    objects = [np.vectorize(sympy.Float, otypes=[object])(v) if is_float(v.dtype) else v for v in alone.values]
    assert alone.op.sympy is not None
    found = alone.op.sympy(sympy, *objects, **applied(alone.copy).attrs)
    result: Any = np.asarray(found[alone.copy.attrs["index"]] if applied(alone.copy) is not alone.copy else found, "O")
    if result.shape != alone.node.shape:
        return f"its shape is {result.shape}, the NumPy meaning's is {alone.node.shape}"
    got = np.vectorize(float, otypes=[np.float64])(result)
    bound = running_errors([alone.copy], alone.known)[1][alone.copy]
    return "" if _same(got, alone.value, 2 * bound) else f"its value is {got.reshape(-1)[0]:.6g} (first element)"


def _at(fragment: Fragment, point: dict[Node, float]) -> float | None:
    """The expression's value, or None where it has no plain real one (a locally constant function is opaque)."""
    try:
        value = fragment.expression.xreplace(_numbers(fragment, point)).evalf(30)
    except TypeError:  # a NaN on the way that a branch compares
        return None
    return float(value) if value.is_Number and value.is_finite else None


def _numbers(fragment: Fragment, point: dict[Node, float]) -> dict[Any, Any]:
    import sympy

    return {s: sympy.Float(point[leaf], 30) for s, leaf in zip(fragment.symbols, fragment.leaves, strict=True)}


def batching_faults(node: Node, values: Sequence[Array], size: int = 2) -> list[Fault]:
    """Whether the batching rule gives what one example at a time gives, for each operand batched alone and for all."""
    if applied(node).op.batch is None or node.op.kind in LEAVES or not node.args:
        return []
    alone = Alone(node, values)
    stacks = [_stacked(v, size) for v in alone.values]
    every = tuple(range(len(values)))
    for chosen in dict.fromkeys([every, *((i,) for i in every)]):
        words = _batch_problem(alone, stacks, chosen, size)
        if words:
            return [Fault(node, "batching rule", words)]
    return []


def _stacked(value: Array, size: int) -> Array:
    """Examples that differ from each other and stay among the values: every second one reversed and moved upwards."""
    other = value[tuple(slice(None, None, -1) for _ in value.shape)]
    if is_float(value.dtype) and value.size:
        with np.errstate(all="ignore"):
            other = other + 0.5 * (np.max(other) - other) if value.size > 1 else other * (1 - 2.0**-10)
    return np.stack([value if k % 2 == 0 else other for k in range(size)])


def _batch_problem(alone: Alone, stacks: Sequence[Array], chosen: tuple[int, ...], size: int) -> str:
    flags = [i in chosen for i in range(len(stacks))]
    args = [_leaf(Aval((size, *x.shape), x.dtype)) if has else x for x, has in zip(alone.leaves, flags, strict=True)]
    given = [s if has else v for s, v, has in zip(stacks, alone.values, flags, strict=True)]
    which = "all operands" if len(chosen) == len(stacks) else f"operand {chosen[0]}"
    try:
        batched = _batched(alone, args, flags, size)
        got = running_errors([batched], dict(zip(args, given, strict=True)))[0][batched]
    except (GradcError, ValueError, IndexError, AssertionError, TypeError) as error:
        return f"with {which} batched it raised {type(error).__name__}: {error}"
    for k in range(size):
        one = [g[k] if has else g for g, has in zip(given, flags, strict=True)]
        expected, bound = running_errors([alone.copy], dict(zip(alone.leaves, one, strict=True)))
        if got.shape != (size, *alone.node.shape):
            return f"with {which} batched the result has shape {got.shape}, expected {(size, *alone.node.shape)}"
        if not _same(got[k], expected[alone.copy], 2 * bound[alone.copy]):
            return f"with {which} batched, example {k} is not what it is alone"
    return ""


def _batched(alone: Alone, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    whole = applied(alone.copy)
    found = batch_node(whole, args, flags, size)
    return found if whole is alone.copy else item(found, alone.copy.attrs["index"])


def _same(a: Array, b: Array, allowed: Array) -> bool:
    with np.errstate(all="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64)) if a.dtype != bool else (a != b).astype(np.float64)
    return bool(np.all((gap <= allowed) | (a == b) | (_nan(a) & _nan(b))))


def _nan(a: Array) -> Array:
    return np.isnan(a) if is_float(a.dtype) else np.zeros(a.shape, bool)
