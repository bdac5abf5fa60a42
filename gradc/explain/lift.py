"""Graph nodes to formulas: every op in the algebra's terms.

Enters: nodes, and the symbols of those that have a name.  Leaves: one `Formula` per node, in which named nodes are
symbols. Invariant: lifting alone changes notation, never value; what it may assume of numbers is written at the rules.
An op that the algebra has no form for becomes a function of that name.  Start reading at `Lifter.formula`; `FORMS` is
the table.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import count, permutations
from typing import Any

import numpy as np

from gradc.aval import Shape, is_float
from gradc.explain.formula import (
    UNIT,
    Apply,
    Factor,
    Formula,
    Number,
    Product,
    Symbol,
    apply,
    arranged,
    in_place,
    negative,
    number,
    power,
    product,
    restricted,
    times,
    total,
    value_of,
    varying_axes,
)
from gradc.explain.identities.inverses import cofactors, part, plain, solved, solved_triangle
from gradc.explain.identities.structure import unit_matrix
from gradc.explain.rules import Fact, Simplifier
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.indexing import rest_axes
from gradc.passes.cse import attrs_key
from gradc.passes.fold import splat_value

Args = Sequence[Formula]

#: a decimal with a larger denominator than this is shown as it is, not as a quotient
LARGEST_DENOMINATOR = 10**5
#: numerator times denominator of a fraction that a number of few digits is taken for first of all
SIMPLEST = 100
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Lifter:
    """Formulas for nodes.

    ``symbols`` holds the nodes that are shown by name and may grow; ``simplified`` is applied to each node's formula;
    ``extents`` are the symbols of array extents that are shown by name; with ``composites`` a node that is the value
    of a function the user called by name (softmax, layer norm, …) is shown as that function.  Sums of cotangents, the
    adds among ``accumulated``, are read in the order of the forward computation, which is not the order in which
    reverse mode meets them.
    """

    def __init__(
        self,
        symbols: dict[Node, Symbol],
        simplified: Simplifier,
        extents: Mapping[int, Symbol],
        composites: bool = False,
        accumulated: frozenset[Node] = frozenset(),
    ):
        self.symbols = symbols
        self.simplified = simplified
        self.extents = extents
        self.composites = composites
        self.accumulated = accumulated
        self._known: dict[Node, Formula] = {}
        self._owed: dict[Node, frozenset[Fact]] = {}

    def owed(self, node: Node) -> frozenset[Fact]:
        """What the user declared and the definition of ``node`` makes use of."""
        return self._owed.get(node, frozenset())

    def formula(self, node: Node) -> Formula:
        """How other formulas refer to ``node``: its symbol if it has one, else its definition."""
        return self.symbols.get(node) or self.definition(node)

    def define(self, node: Node, meaning: Formula) -> None:
        """``node`` is written as ``meaning`` from here on."""
        self._known[node] = meaning

    def definition(self, node: Node) -> Formula:
        """What ``node`` is, in terms of named quantities."""
        if node not in self._known:
            stop = ChainMap[Node, Any](self.symbols, self._known)
            for inner in topological(node.args, stop):
                if inner not in stop:
                    self._known[inner] = self._lifted(inner)
            self._known[node] = self._lifted(node)
        return self._known[node]

    def _lifted(self, node: Node) -> Formula:
        label = node.label if self.composites else None
        if label is not None and label.name not in ("mean", "one_hot"):
            found = [self.formula(a) for a in label.args]
            return Apply(
                node.shape, nodes=frozenset((node,)), name=label.name, args=tuple(found), attrs=dict(label.attrs),
                attrs_key=("composite", str(label.attrs)),
            )  # fmt: skip
        args = [self.formula(a) for a in node.args]
        form = FORMS.get(node.op.name)
        raw = form(self, node, args) if form is not None else None
        self.simplified.owed = frozenset().union(*(self.owed(a) for a in node.args if a not in self.symbols))
        result = self.simplified(raw if raw is not None else function(node, args))
        self._owed[node] = self.simplified.owed
        return result if isinstance(result, Symbol) else result.including((node,))

    def summed(self, x: Formula, axes: Shape) -> Formula:
        """Σ over ``axes``; a named extent counts where nothing varies."""
        constant = [a for a in axes if a not in varying_axes(x) and x.shape[a] in self.extents]
        if constant:
            kept = [a for a in range(x.ndim) if a not in constant]
            inner = self.summed(restricted(x, kept), tuple(kept.index(a) for a in axes if a not in constant))
            counts = [Factor(self.extents[x.shape[a]], ()) for a in constant]
            return product(inner.shape, [*counts, in_place(inner)])
        shape = tuple(n for a, n in enumerate(x.shape) if a not in axes)
        out, sums = count(), count(len(shape))
        return arranged(x, tuple(next(sums) if a in axes else next(out) for a in range(x.ndim)), shape)


def function(node: Node, args: Args) -> Formula:
    """The op as a function of that name."""
    return apply(node.op.name, args, node.shape, node.attrs, (), attrs_key(node))


def result_of(node: Node, operands: Args) -> Formula:
    """A result of a loop or branch, as a function of its operands; it is written with the name of the body."""
    of, index = node.args[0], node.attrs["index"]
    return apply("item", operands, node.shape, {"of": of, "index": index}, (), (id(of), index))


def exact(value: Any, dtype: np.dtype[Any]) -> Number:
    """The number that was meant: the simple fraction within two roundings of ``value``, else ``value``.

    A dtype narrower than float64 has a fraction near any number: there, what is the nearest to a very simple fraction,
    to √2, 1/√(2π) and their like, to a short decimal or to a fraction of few digits is those.
    """
    if not np.isfinite(value):
        return float(value)
    if is_float(dtype) and dtype.itemsize < FLOAT64.itemsize:
        return _meant(np.asarray(value, dtype))
    near = Fraction(float(value)).limit_denominator(LARGEST_DENOMINATOR)
    spacing = float(np.spacing(np.abs(np.asarray(value, dtype)))) if is_float(dtype) else 0.0
    return near if abs(float(near) - float(value)) <= 2 * spacing else float(value)


def _meant(value: np.ndarray[Any, Any]) -> Number:
    """What a number of few digits is the nearest to, the simplest first; else its shortest decimal."""
    known, digits = float(value), str(value[()])

    def fraction(size: int) -> Fraction | None:
        near = Fraction(known).limit_denominator(size)
        is_simple = abs(near.numerator) * near.denominator <= size
        return near if is_simple and float(np.asarray(float(near), value.dtype)) == known else None

    simple = fraction(SIMPLEST)
    if simple is not None:
        return simple
    meant = _irrational(value.dtype).get(abs(known))
    if meant is not None:
        return math.copysign(meant, known)
    decimal = Fraction(digits)
    if decimal.denominator <= LARGEST_DENOMINATOR or len(digits.partition("e")[0].strip("-0.").replace(".", "")) <= 6:
        return decimal if decimal.denominator <= LARGEST_DENOMINATOR else float(digits)
    of_few_digits = fraction(LARGEST_DENOMINATOR)
    return float(digits) if of_few_digits is None else of_few_digits


@cache
def _irrational(dtype: np.dtype[Any]) -> dict[float, float]:
    """Numbers that formulas are full of, by what they are in a dtype; none that is also a short decimal or fraction."""
    if dtype.itemsize < FLOAT32.itemsize:
        return {}  # too few digits to tell
    rational = {a / b for a, b in permutations(range(1, 9), 2)} | {1.0}
    roots = {math.sqrt(x) for x in rational}
    found = {x * math.pi**p for x in roots for p in (-0.5, 0.0, 0.5)}
    found |= {x * math.pi**p for x in rational for p in (-1, 1)}
    found |= {math.log(2), math.log(3), math.log(10), 1 / math.log(2), 1 / math.log(10), math.e}
    found |= {math.log(2 * math.pi), 0.5 * math.log(2 * math.pi), math.log(math.pi)}
    return {float(np.asarray(x, dtype)): x for x in found - rational}


# -- leaves ------------------------------------------------------------------------------------------------------------


def _constant(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    value = node.attrs["value"]
    if value.size and is_float(value.dtype) and (np.all(value == value.flat[0]) or np.all(value != value)):
        return number(exact(value.flat[0], value.dtype), node.shape)
    if value.ndim == 1 and value.dtype.kind == "i" and np.array_equal(value, np.arange(len(value))):
        return positions(len(value), value.dtype)
    if value.ndim == 2 and value.shape[0] == value.shape[1] > 1 and np.array_equal(value, np.eye(len(value))):
        return unit_matrix(len(value))
    return None


def positions(size: int, dtype: np.dtype[Any]) -> Formula:
    """0, 1, …, size−1."""
    attrs = {"shape": (size,), "axis": 0, "dtype": np.dtype(dtype)}
    return apply("iota", (), (size,), attrs, attrs_key=(size, str(dtype)))


def _iota(lifter: Lifter, node: Node, args: Args) -> Formula:
    axis = node.attrs["axis"]
    return arranged(positions(node.shape[axis], node.dtype), (axis,), node.shape)


def _delta(lifter: Lifter, node: Node, args: Args) -> Formula:
    """A product of identity matrices."""
    factors = [Factor(unit_matrix(node.shape[a]), (a, b)) for a, b in node.attrs["pairs"]]
    return product(node.shape, factors)


def _where(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    """What is chosen by an identity and zero elsewhere is a product with it."""
    mask, x, y = args
    if not _is_identity(node.args[0]) or value_of(y) != 0 or not node.aval.is_float:
        return None
    return times(mask, x)


def _is_identity(node: Node) -> bool:
    """A product of identity matrices, or some of its columns."""
    return node.op.name == "delta" or (node.op.name == "slice" and node.args[0].op.name == "delta")


# -- arithmetic --------------------------------------------------------------------------------------------------------

Form = Callable[[Lifter, Node, Args], Formula | None]


def _for_floats(form: Callable[..., Formula | None]) -> Form:
    """The algebra is that of real numbers; integers and bools keep their ops."""
    return lambda lifter, node, args: form(*args) if node.aval.is_float else None


def _add(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    if not node.aval.is_float:
        return None
    return total(node.shape, reversed(args) if node in lifter.accumulated else args)


def _power(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    exponent = splat_value(node.args[1])
    if exponent is None or not node.aval.is_float:
        return None
    return power(args[0], exact(exponent, exponent.dtype))


def _power_derivative(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    """By the powers and logarithms that it is computed of."""
    assert node.op.expand is not None
    return lifter.formula(node.op.expand(*node.args, **node.attrs)) if node.aval.is_float else None


def _gaussian(lifter: Lifter, node: Node, args: Args) -> Formula:
    (x,) = args
    return times(power(x, node.attrs["n"]), apply("exp", (negative(power(x, 2)),), x.shape))


def one_minus(x: Formula) -> Formula:
    """1 − x."""
    return total(x.shape, (number(1, x.shape), negative(x)))


def _stumpff(lifter: Lifter, node: Node, args: Args) -> Formula:
    """cos √s, sin √s/√s, and what (1/k! − cₖ(s))/s makes of them."""
    (s,), k, hyperbolic = args, node.attrs["k"], node.attrs["hyperbolic"]
    root = power(s, Fraction(1, 2))
    name = ("cos", "sin")[k % 2] + "h" * hyperbolic
    value = apply(name, (root,), s.shape)
    if k % 2:
        value = times(value, power(root, -1))
    for j in range(k % 2, k, 2):
        rest = total(s.shape, (number(Fraction(1, math.factorial(j)), s.shape), negative(value)))
        value = times(negative(rest) if hyperbolic else rest, power(s, -1))
    return value


def _over(x: Formula, name: str) -> Formula:
    """A function over its operand."""
    return times(apply(name, (x,), x.shape), power(x, -1))


def _wave_quotient(lifter: Lifter, node: Node, args: Args) -> Formula:
    """sin x/x or sinh x/x; its derivatives have names of their own."""
    if node.attrs["n"]:
        return apply(node.op.name, args, node.shape, node.attrs, (), attrs_key(node))
    return _over(args[0], "sinh" if node.attrs["hyperbolic"] else "sin")


def _growth_quotient(lifter: Lifter, node: Node, args: Args) -> Formula:
    """eˣ/x or cosh x/x; its derivatives have names of their own."""
    if node.attrs["n"]:
        return apply(node.op.name, args, node.shape, node.attrs, (), attrs_key(node))
    return _over(args[0], "cosh" if node.attrs["even"] else "exp")


def _elliptic_km1(lifter: Lifter, node: Node, args: Args) -> Formula:
    """(−1)ⁿ·K⁽ⁿ⁾(1 − p)."""
    value = apply("elliptic_k", (one_minus(args[0]),), node.shape, node.attrs, (), attrs_key(node))
    return negative(value) if node.attrs["n"] % 2 else value


def _log_quotient(lifter: Lifter, node: Node, args: Args) -> Formula:
    """log x/(x − 1); its derivatives have names of their own."""
    (x,) = args
    if node.attrs["n"]:
        return apply(node.op.name, args, node.shape, node.attrs, (), attrs_key(node))
    below = total(x.shape, (x, negative(number(1, x.shape))))
    return times(apply("log", args, x.shape), power(below, -1))


def _cast(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    source = node.args[0].dtype
    if node.dtype.kind == "b" or (is_float(source) and not node.aval.is_float):
        return None
    if source.kind == "b" and _is_identity(node.args[0]):
        return args[0]
    if source.kind == "b":
        return apply("indicator", args, node.shape)
    return args[0] if is_float(source) else apply("real", args, node.shape)


# -- axes --------------------------------------------------------------------------------------------------------------


def _broadcast(lifter: Lifter, node: Node, args: Args) -> Formula:
    return arranged(args[0], node.attrs["axes"], node.shape)


def _transpose(lifter: Lifter, node: Node, args: Args) -> Formula:
    axes = node.attrs["axes"]
    return arranged(args[0], tuple(axes.index(a) for a in range(node.ndim)), node.shape)


def _reshape(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    (x,) = args
    value = value_of(x)
    if value is not None:
        return number(value, node.shape)
    if [n for n in x.shape if n != 1] != [n for n in node.shape if n != 1]:
        return None
    places = iter([a for a, n in enumerate(node.shape) if n != 1])
    return arranged(x, tuple(UNIT if n == 1 else next(places) for n in x.shape), node.shape)


def _sum(lifter: Lifter, node: Node, args: Args) -> Formula:
    return lifter.summed(args[0], node.attrs["axes"])


def _norm(lifter: Lifter, node: Node, args: Args) -> Formula:
    return power(lifter.summed(power(args[0], 2), node.attrs["axes"]), Fraction(1, 2))


def _contract(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    if not node.aval.is_float:
        return None
    out = node.attrs["out"]
    names = {k: a for a, k in enumerate(out)}
    for k in (*node.attrs["left"], *node.attrs["right"]):
        names.setdefault(k, len(names))
    sides = zip(args, (node.attrs["left"], node.attrs["right"]), strict=True)
    return product(node.shape, [Factor(x, tuple(names[k] for k in labels)) for x, labels in sides])


# -- computed indices --------------------------------------------------------------------------------------------------


class Chosen:
    """Which label each axis of the operand of a gather has, given the labels of the index arrays.

    An index that counts along one of its own axes identifies that axis with the operand's; any other index is data and
    selects by a one-hot factor.  Labels: 0 … r−1 are the axes of the index arrays, then one new label per data index.
    """

    def __init__(self, node: Node, operand: Shape, indices: Args):
        self.axis_label: dict[int, int] = {}
        self.selectors: list[Factor] = []
        rank = indices[0].ndim
        for axis, index in zip(node.attrs["axes"], indices, strict=True):
            counted = _counts_along(index, operand[axis])
            if counted is not None and counted not in self.axis_label.values():
                self.axis_label[axis] = counted
            else:
                label = rank + len(self.selectors)
                self.axis_label[axis] = label
                hot = apply("onehot", (index,), (*index.shape, operand[axis]))
                self.selectors.append(Factor(hot, (*range(rank), label)))
        self.rank, self.used = rank, rank + len(self.selectors)


def _counts_along(index: Formula, extent: int) -> int | None:
    """The axis along which ``index`` is 0, 1, …, extent−1, constant along the others."""
    if isinstance(index, Product) and len(index.factors) == 1 and not index.summed:
        base, labels, _ = index.factors[0]
        if _is_positions(base) and base.shape == (extent,) and labels[0] != UNIT:
            return labels[0]
    return 0 if _is_positions(index) and index.shape == (extent,) else None


def _is_positions(x: Formula) -> bool:
    return isinstance(x, Apply) and x.name == "iota"


def _scatter(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    """x + Σ v · one-hot: adding at computed indices is a product with selectors."""
    x, v, *indices = args
    if node.attrs["how"] != "add" or not node.aval.is_float:
        return None
    chosen = Chosen(node, x.shape, indices)
    rest = rest_axes(x.ndim, node.attrs["axes"])
    name = {a: chosen.used + k for k, a in enumerate(rest)} | chosen.axis_label
    labels = tuple(range(chosen.rank)) + tuple(name[a] for a in rest)
    return total(
        node.shape,
        [x, _reordered([Factor(v, labels), *chosen.selectors], [name[a] for a in range(x.ndim)], node.shape)],
    )


def _gather(lifter: Lifter, node: Node, args: Args) -> Formula | None:
    """Σ x · one-hot over the selected axes."""
    x, *indices = args
    if not node.aval.is_float or not indices[0].ndim:
        return None
    chosen = Chosen(node, x.shape, indices)
    rest = rest_axes(x.ndim, node.attrs["axes"])
    name = {a: chosen.used + k for k, a in enumerate(rest)} | chosen.axis_label
    factors = [Factor(x, tuple(name[a] for a in range(x.ndim))), *chosen.selectors]
    return _reordered(factors, [*range(chosen.rank), *(name[a] for a in rest)], node.shape)


def _reordered(factors: Sequence[Factor], out: Sequence[int], shape: Shape) -> Formula:
    """The product of ``factors`` whose axes are the labels ``out``, in that order; the other labels are summed."""
    names = {k: a for a, k in enumerate(out)}
    for f in factors:
        for k in f.labels:
            names.setdefault(k, len(names))
    return product(shape, [Factor(f.base, tuple(names[k] for k in f.labels), f.exponent) for f in factors])


def _item(lifter: Lifter, node: Node, args: Args) -> Formula:
    """A part of a factorisation, or a result of a loop or branch."""
    operands = [lifter.formula(a) for a in node.args[0].args]
    return part(node, operands) or result_of(node, operands)


FORMS: dict[str, Form] = {
    "constant": _constant,
    "iota": _iota,
    "item": _item,
    "inv": plain("inv"),
    "det": plain("det"),
    "cholesky": plain("cholesky"),
    "pinv": plain("pinv"),
    "sqrtm": plain("sqrtm"),
    "solve": solved,
    "triangular_solve": solved_triangle,
    "cofactor": cofactors,
    "eigvalsh": plain("eigenvalues"),
    "svdvals": plain("singular_values"),
    "delta": _delta,
    "where": _where,
    "add": _add,
    "subtract": _for_floats(lambda x, y: total(x.shape, (x, negative(y)))),
    "difference": _for_floats(lambda x, y: total(x.shape, (x, negative(y)))),
    "shifted": _for_floats(lambda x, y: total(x.shape, (x, negative(y)))),
    "multiply": _for_floats(times),
    "strong_multiply": _for_floats(times),
    "strong_cumprod": lambda lifter, node, args: apply("cumprod", args, node.shape, node.attrs, (), attrs_key(node)),
    "divide": _for_floats(lambda x, y: product(x.shape, [in_place(x), in_place(y, Fraction(-1))])),
    "negative": _for_floats(negative),
    "positive": _for_floats(lambda x: x),
    "extended": _for_floats(lambda x: x),
    "square": _for_floats(lambda x: power(x, 2)),
    "reciprocal": _for_floats(lambda x: power(x, -1)),
    "xlogy": _for_floats(lambda x, y: times(x, apply("log", (y,), y.shape))),
    "stumpff": _stumpff,
    "wave_quotient": _wave_quotient,
    "growth_quotient": _growth_quotient,
    "cos_quotient": _for_floats(lambda x: _over(x, "cos")),
    "log_quotient": _log_quotient,
    "elliptic_km1": _elliptic_km1,
    "tanh_slope": _for_floats(lambda x: one_minus(power(apply("tanh", (x,), x.shape), 2))),
    "gaussian": _gaussian,
    "lorentzian": _for_floats(lambda x: power(total(x.shape, (number(1, x.shape), power(x, 2))), -1)),
    "direction_cosine": _for_floats(lambda x, y: times(x, power(apply("hypot", (x, y), x.shape), -1))),
    "circle_inversion": _for_floats(lambda x, y: times(x, power(total(x.shape, (power(x, 2), power(y, 2))), -1))),
    "power_derivative": _power_derivative,
    "sqrt": _for_floats(lambda x: power(x, Fraction(1, 2))),
    "rsqrt": _for_floats(lambda x: power(x, Fraction(-1, 2))),
    "stop_gradient": _for_floats(lambda x: x),
    "power": _power,
    "cast": _cast,
    "broadcast": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "sum": _sum,
    "norm": _norm,
    "contract": _contract,
    "strong_contract": _contract,
    "scatter": _scatter,
    "gather": _gather,
}
"""How each op reads in the algebra; None from a form means: as a function of its own name."""
