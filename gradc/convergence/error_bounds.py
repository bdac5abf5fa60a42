"""`error_bound`: what rounding does to a value and its gradient, by the adjoints of all that is computed on the way.

Enters: a function and a point.  Leaves: an `ErrorBound`: for each element of the value and of the gradient an estimate
of its rounding error, and the operations that contribute most, with the user's lines.
An operation v rounds by δᵥ; to first order the result moves by Σᵥ v̄·δᵥ, with the adjoint v̄ = ∂result/∂v, which reverse
mode gives for all operations at once, of the gradient as of the value.  The δᵥ are taken as independent, as large as is
usual for the operation, and `SPREAD` standard deviations of the sum are the estimate: bounds of the worst case, which
add up all |v̄·δᵥ|, grow with the number n of operations where errors grow with √n.  A loop, and what else holds a body,
is one operation, whose own rounding is found by runs that round at random.
Sources: Griewank and Walther, Evaluating Derivatives, 2nd ed., § 3.4 (adjoints bound rounding errors); Linnainmaa,
"Taylor expansion of the accumulated rounding error", BIT 16 (1976); Higham and Mary, "A new approach to probabilistic
rounding error analysis", SIAM J. Sci. Comput. 41 (2019), for √n.  Start reading at `error_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.derivatives import select, title_of
from gradc.aval import NARROW, Aval, computed_in
from gradc.containers import leaves_of
from gradc.convergence.words import number, table, wrapped
from gradc.diff.batching import batch
from gradc.diff.modes import pull_back
from gradc.errors import DTypeError, GradcError
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node, constant, here
from gradc.ops.leaves import full
from gradc.ops.record import LEAVES, Kind, has_results
from gradc.oracle.rounding import CORRECT, SMALL, own_rounding, stated_ulp, terms_of, unit_roundoff
from gradc.oracle.walk import Walk
from gradc.passes import FORWARD, looked_into, run_passes
from gradc.passes.accumulate import is_narrow_sum
from gradc.places import Where
from gradc.trace import new_input, trace

Array = np.ndarray[Any, Any]

#: standard deviations that the estimate is
SPREAD = 2.0
#: results beyond this number are examined by as many random combinations
RESULTS = 256
#: results whose adjoints are found together
LANES = 32
#: runs with random rounding of what holds a body
RUNS = 16
#: contributions that are printed
SHOWN = 6


@dataclass(frozen=True)
class Contribution:
    """What the operations of one kind on one line of the user's add to the rounding error."""

    op: str
    where: Where | None
    count: int  #: operations
    value: float  #: its part of the squared error of the value
    gradient: float  #: its part of the squared error of the gradient

    @property
    def place(self) -> str:
        """The line, as file:line."""
        return str(self.where) if self.where else "no line"


@dataclass(frozen=True)
class ErrorBound:
    """Estimates of rounding errors: ``print`` says how large they are and where they come from.

    ``value`` and ``gradient`` are float64 arrays of the results in order, ``value_errors`` and ``gradient_errors``
    arrays of their shapes: absolute errors of compiled code in the dtypes of the function.
    """

    title: str
    value: tuple[Array, ...]
    value_errors: tuple[Array, ...]
    names: tuple[str, ...]  #: of the arguments that the gradient is by
    gradient: tuple[Array, ...]
    gradient_errors: tuple[Array, ...]
    contributions: tuple[Contribution, ...]  #: the largest first
    unit: float  #: half a unit in the last place, relative, of the value's dtype
    sampled: bool  #: errors are root mean squares over each array, by random combinations of its elements

    def __str__(self) -> str:
        rows = []
        pairs = [("value" if len(self.value) == 1 else f"value {k}", v, e) for k, (v, e) in
                 enumerate(zip(self.value, self.value_errors, strict=True))]  # fmt: skip
        pairs += [(f"∂/∂{n}", v, e) for n, v, e in zip(self.names, self.gradient, self.gradient_errors, strict=True)]
        for name, value, error in pairs:
            rows.append((name, _said(value, error, self.unit)))
        lines = [f"rounding errors of {self.title}, estimated", "", *table(rows)]
        if self.contributions:
            lines += ["", "where they come from (parts of the squared error):"]
        for c in self.contributions[:SHOWN]:
            gradient = f", {100 * c.gradient:.3g} % of the gradient's" if self.gradient else ""
            many = f" ({c.count} operations)" if c.count > 1 else ""
            lines.append(wrapped(f"  {c.place}  {c.op}{many}: {100 * c.value:.3g} % of the value's{gradient}", 4))
        if self.sampled:
            lines.append(wrapped("of each array the root mean square, by random combinations of its elements"))
        return "\n".join(lines)


def _said(value: Array, error: Array, unit: float) -> str:
    if not value.size:
        return "empty"
    worst, size = float(np.max(error)), float(np.max(np.abs(value)))
    relative = worst / size if size else math.inf if worst else 0.0
    digits = f"relative {relative:.2g}" if size else "of a value that is 0"
    if value.ndim == 0:
        return f"{number(float(value))} ± {worst:.2g} ({digits}, {relative / (2 * unit):.2g} units in the last place)"
    return f"largest element {number(size)}, errors up to {worst:.2g} ({digits} of it)"


def error_bound(
    f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] | None = None, **kwargs: Any
) -> ErrorBound:
    """How far rounding moves ``f(*args)`` and its gradient: an estimate for each element, and which lines do it.

    The value is any tree of floats; there is a gradient if it is one scalar: by all float arguments, or by those that
    ``argnums`` selects, as in `gc.grad`.  Errors are absolute, of the compiled code in the function's dtypes, with the
    arguments taken as exact; to first order, so not where errors are as large as the numbers that they move.  The
    estimate is two standard deviations of errors that are independent: a run errs by less, usually by a few times less,
    and now and then by somewhat more.  With more than 256 results errors are root mean squares over each array.

    DTypeError where nothing is a float.

    >>> import gradc as gc, numpy as np
    >>> def f(x):
    ...     return ((1e6 + x) - 1e6).sum()
    >>> said = gc.error_bound(f, np.array([0.1, 0.2]))
    >>> bool(1e-11 < said.value_errors[0] < 1e-9), bool(said.gradient_errors[0].max() == 0)
    (True, True)
    """
    title = title_of(f, "error_bound")
    given = trace(f, *args, **kwargs)
    arrays = [np.asarray(a, x.dtype) for a, x in zip(leaves_of((args, kwargs))[0], given.inputs, strict=True)]
    graph = run_passes(looked_into(given), FORWARD)
    if not graph.outputs or not all(y.aval.is_float for y in graph.outputs):
        shown = ", ".join(str(y.aval) for y in graph.outputs) or "nothing"
        raise DTypeError(f"{here()}: error_bound: {title} must return floats, it returns {shown}")
    scalar = len(graph.outputs) == 1 and graph.outputs[0].shape == ()
    if argnums is None:
        wanted = [i for i, x in enumerate(graph.inputs) if x.aval.is_float]
    else:
        wanted = list(select(args, argnums if isinstance(argnums, int) else tuple(argnums), title).positions)
    by = [graph.inputs[i] for i in wanted] if scalar else []
    pulled = pull_back(graph.outputs, by, [constant(np.ones((), graph.outputs[0].dtype))]) if by else []
    gradients = [full(x.shape, 0, x.dtype) if g is None else g for x, g in zip(by, pulled, strict=True)]
    count = len(graph.outputs)
    both = graph.replace(outputs=(*graph.outputs, *gradients), in_tree=None, out_tree=None)
    whole = Stages(both, Options(threads=1)).optimised
    with np.errstate(all="ignore"):
        found = _Errors(whole, arrays)
        errors, sampled = found.of_results(count)
        values = [found.values[y] for y in whole.outputs]
    names = tuple(given.names.get(given.inputs[i], f"argument {i}") for i in wanted) if scalar else ()
    return ErrorBound(
        title, tuple(values[:count]), tuple(errors[:count]), names, tuple(values[count:]), tuple(errors[count:]),
        found.contributions(), unit_roundoff(graph.outputs[0].dtype), sampled,
    )  # fmt: skip


class _Errors:
    """The rounding of each node, and what the results make of it."""

    def __init__(self, graph: Graph, arrays: Sequence[Array]):
        self.graph = graph
        given = dict(zip(graph.inputs, arrays, strict=True))
        order = topological(graph.outputs)
        single = [n for n in order if not has_results(n)]
        self.values: dict[Node, Array] = dict(zip(single, Walk()(single, given), strict=True))
        self.usual = {n: d for n in single if (d := self._usual(n)) is not None and np.any(d > 0)}
        self._parts = [dict.fromkeys(self.usual, 0.0), dict.fromkeys(self.usual, 0.0)]  # of value, of gradient

    def _usual(self, node: Node) -> Array | None:
        """The standard deviation of what a node rounds by; None if it rounds nothing."""
        if not node.aval.is_float or node.op.kind in LEAVES:
            return None
        if node.op.kind is not Kind.ITEM:
            return usual_rounding(node, [self.values[a] for a in node.args], self.values[node])
        return self._of_body(node)

    def _of_body(self, node: Node) -> Array:
        """What the operations in a loop, or in another node with several results, do to one of these: by runs in which
        each rounds at random."""
        random = np.random.default_rng(0)

        def settle(inner: Node, args: Sequence[Array], value: Array) -> Array:
            usual = usual_rounding(inner, args, value)
            return value if usual is None else np.asarray(value + usual * random.normal(size=value.shape))

        whole = node.args[0]
        known = {a: self.values[a] for a in whole.args}
        moved = [a for a in whole.args if a.aval.is_float]
        wide = {a: new_input(Aval((RUNS, *a.shape), a.dtype), "runs") for a in moved}
        try:
            ((lanes, has),) = batch([node], wide, RUNS)
        except GradcError:
            has = False
        if has:
            starts = {leaf: np.broadcast_to(known[a], leaf.shape) for a, leaf in wide.items()}
            runs = Walk(settle)([lanes], {**{a: v for a, v in known.items() if a not in wide}, **starts})[0]
        else:
            runs = np.stack([Walk(settle)([node], known)[0] for _ in range(RUNS)])
        off = runs - self.values[node]
        return np.asarray(np.sqrt(np.mean(off * off, axis=0)))

    def of_results(self, count: int) -> tuple[list[Array], bool]:
        """The estimate for each element of each result, of which the first ``count`` are the value."""
        outputs = self.graph.outputs
        sampled = sum(y.size for y in outputs) > RESULTS
        found = []
        for k, y in enumerate(outputs):
            squares = self._squares(y, self._parts[k >= count], sampled)
            error = SPREAD * np.sqrt(squares)
            spread = np.full(y.shape, math.sqrt(float(np.mean(squares)) / max(1, y.size)) * SPREAD if y.size else 0.0)
            error = spread if sampled and y.shape != () else error.reshape(y.shape)
            found.append(np.where(np.isnan(error), np.inf, error))
        return found, sampled

    def _squares(self, y: Node, parts: dict[Node, float], sampled: bool) -> Array:
        """The variance of each element of ``y``, or of random combinations with signs of all of them."""
        if not y.size:
            return np.zeros(0)
        if sampled and y.shape != ():
            directions = np.random.default_rng(0).choice([-1.0, 1.0], (LANES, *y.shape))
        else:
            directions = np.eye(y.size).reshape(y.size, *y.shape)
        total = np.zeros(len(directions))
        reached = set(topological([y]))
        nodes = [n for n in self.usual if n in reached]
        ct = new_input(Aval(y.shape, y.dtype), "adjoint")
        pulled = pull_back([y], nodes, [ct])
        moving = [(n, adjoint) for n, adjoint in zip(nodes, pulled, strict=True) if adjoint is not None]
        for start in range(0, len(directions), LANES):
            some = directions[start : start + LANES]
            for n, adjoint in zip(
                (n for n, _ in moving), self._adjoints(ct, [a for _, a in moving], some), strict=True
            ):
                off = np.where((self.usual[n] > 0) & (adjoint != 0), adjoint * self.usual[n], 0.0)  # zero stays zero
                squares = (off * off).reshape(len(some), -1).sum(axis=1)
                total[start : start + LANES] += squares
                parts[n] += float(squares.sum())
        return total

    def _adjoints(self, ct: Node, adjoints: Sequence[Node], directions: Array) -> list[Array]:
        """The adjoints for each direction, lanes of one evaluation where batching rules allow."""
        size = len(directions)
        wide = new_input(Aval((size, *ct.shape), ct.dtype), "adjoints")
        try:
            batched = batch(adjoints, {ct: wide}, size)
        except GradcError:
            runs = [Walk()(adjoints, {**self.values, ct: d}) for d in directions]
            return [np.stack(each) for each in zip(*runs, strict=True)]
        found = Walk()([a for a, _ in batched], {**self.values, wide: directions})
        return [v if has else v[None] for v, (_, has) in zip(found, batched, strict=True)]

    def contributions(self) -> tuple[Contribution, ...]:
        """Operations of one kind on one line together, those that matter most first."""
        totals = [sum(part.values()) for part in self._parts]
        groups: dict[tuple[str, Where | None], list[float]] = {}
        for n in self.usual:
            op = n.args[0].op if n.op.kind is Kind.ITEM else n.op
            group = groups.setdefault((op.name, n.where), [0, 0.0, 0.0])
            group[0] += 1
            for k, (part, total) in enumerate(zip(self._parts, totals, strict=True)):
                group[k + 1] += part[n] / total if total else 0.0
        made = [Contribution(op, where, int(c), v, g) for (op, where), (c, v, g) in groups.items() if v or g]
        return tuple(sorted(made, key=lambda c: -(c.value + c.gradient)))


# -- one operation -----------------------------------------------------------------------------------------------------

#: the standard deviation of correct rounding, in parts of half a unit in the last place above the mean position
_CORRECT = 0.42


def usual_rounding(node: Node, args: Sequence[Array], value: Array) -> Array | None:
    """The standard deviation of what one evaluation of a node adds to exact operands; None if it rounds nothing.

    Of correct rounding it is 0.42 u·|v|; of a function with a stated bound of B units somewhat more (bounds are for the
    worst of all arguments); of a sum, that of its partial sums.
    """
    own = own_rounding(node, args, value)
    if own is None:
        return None
    if node.op.kind is Kind.ELEMENTWISE:
        return np.asarray(own * (_CORRECT * _above_correct(node) / (2 * stated_ulp(node.op, node.dtype))))
    linear = node.op.transpose is not None and node.op.kind in (Kind.REDUCE, Kind.FOLD)
    if linear or node.op.kind is Kind.CONTRACT:
        return _of_sum(node, args, value)
    return np.asarray(_CORRECT * own)


def _above_correct(node: Node) -> float:
    """The usual error of a function beside that of correct rounding."""
    wide = computed_in(node.dtype) if node.dtype in NARROW else node.dtype
    if node.dtype in NARROW:
        return 1.0
    stated = node.op.bound(str(wide))
    beyond = 1.0 if stated is None else max(0.0, stated - CORRECT)
    return math.sqrt(1.0 + (beyond / 1.2) ** 2)


def _of_sum(node: Node, args: Sequence[Array], value: Array) -> Array:
    """Partial sums of n terms: of terms of one sign they grow like k, of terms of any sign like √k.

    Products are added in order; other sums in several accumulators that are joined by a tree.
    """
    squares = np.asarray(node.op.numpy(*[a * a for a in args], **node.attrs), np.float64)
    n = max(1.0, float(terms_of(node)))
    unit = unit_roundoff(computed_in(node.dtype))
    steps = n if node.op.kind is Kind.CONTRACT else math.log2(n) + n / 64
    variance = (steps / 3) * value * value + (steps / 2) * squares
    if n == 1 and node.op.kind is not Kind.CONTRACT:
        variance = np.zeros(node.shape)
    if all(np.array_equal(a, np.rint(a)) for a in args):  # whole numbers stay exact while they are small
        variance = np.where(n * squares < SMALL, 0.0, variance)
    usual = _CORRECT * unit * np.sqrt(variance)
    if is_narrow_sum(node):
        usual = np.hypot(usual, _CORRECT * unit_roundoff(node.dtype) * np.abs(value))
    return np.asarray(usual)


__all__ = ["Contribution", "ErrorBound", "error_bound"]
