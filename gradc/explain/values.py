"""Formulas back to graph nodes: what is displayed is what can be run.

Enters: a `Formula` and the node of each symbol.  Leaves: the node that has the formula's value, in one floating dtype.
Invariant: every formula that `lift` or a rule can build has a value here, so each displayed line can be held against
the derivative it stands for.  Start reading at `Evaluator.node`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.explain.formula import UNIT, Apply, Factor, Formula, Labels, Product, Sum, Symbol, is_integer, magnitude
from gradc.node import FUNCTIONS, OPS, Node, constant
from gradc.ops.contraction import contract
from gradc.ops.control import item
from gradc.ops.elementwise import apply, cast, promotes
from gradc.ops.leaves import full, iota
from gradc.ops.record import Kind
from gradc.ops.reductions import restore


class Evaluator:
    """Nodes for formulas; ``symbols`` maps the names of quantities to their nodes and may grow."""

    def __init__(self, symbols: Mapping[str, Node], dtype: Any):
        self.symbols = dict(symbols)
        self.dtype = np.dtype(dtype)
        self._known: dict[Formula, Node] = {}

    def node(self, x: Formula) -> Node:
        """The node with the value of ``x``; floats come in the evaluator's dtype."""
        if isinstance(x, Symbol):
            return self._in_dtype(self.symbols[x.name])
        if x not in self._known:
            self._known[x] = self._in_dtype(self._build(x))
        return self._known[x]

    def _in_dtype(self, node: Node) -> Node:
        return cast(node, self.dtype) if node.aval.is_float else node

    def _build(self, x: Formula) -> Node:
        if isinstance(x, Product):
            return self._product(x)
        if isinstance(x, Sum):
            first, *rest = (cast(self.node(t), self.dtype) for t in x.terms)
            for term in rest:
                first = apply(OPS["add"], first, term)
            return first
        assert isinstance(x, Apply), x
        args = [self.node(a) for a in x.args]
        meant = next((n for n in x.nodes if n.op.name == x.name and len(n.args) == len(args)), None)
        if meant is not None and meant.dtype.kind in "iu":  # operands are what they are in the program
            args = [_as_whole(arg, a.dtype) for a, arg in zip(meant.args, args, strict=True)]
        meaning = DISPLAY.get(x.name)
        if meaning is not None:
            return meaning(args, x, self.dtype)
        op = OPS[x.name]
        if op.chooses:  # a mask may have been simplified to a product of masks, and a choice to a number
            floats = any(a.aval.is_float for a in args[1:])
            args = [cast(args[0], np.bool_), *(cast(a, self.dtype) if floats else a for a in args[1:])]
        if promotes(op):  # sums and products of whole numbers are floats here, and meet whole numbers
            return apply(op, *args, **x.attrs)
        start = _FIRST_INDEX.get(op.kind, len(args))
        return op.make([*args[:start], *map(_as_indices, args[start:])], **x.attrs)

    # -- products: pairwise contractions, the smallest intermediate first ----------------------------------------------

    def _product(self, x: Product) -> Node:
        if not x.factors:
            return full(x.shape, float(x.coef), self.dtype)
        moved = (
            len(x.factors) == 1 and x.factors[0].exponent == 1 and x.coef == 1
        )  # integers and bools stay what they are
        parts = [_without_unit_axes(self._power(f, moved), f.labels) for f in x.factors]
        node, labels = _contracted(parts, x.ndim)
        if x.coef != 1:
            node = apply(OPS["multiply"], cast(node, self.dtype), constant(np.asarray(float(x.coef), self.dtype)))
        return _placed(node, labels, x.shape)

    def _power(self, f: Factor, moved: bool) -> Node:
        base, e = self.node(f.base), f.exponent
        base = base if moved else cast(base, self.dtype)
        if e == 1:
            return base
        if is_integer(e) and magnitude(e) <= 2:
            square = apply(OPS["square"], base) if magnitude(e) == 2 else base
            return square if e > 0 else apply(OPS["reciprocal"], square)
        if magnitude(e) == 0.5:
            return apply(OPS["sqrt" if e > 0 else "rsqrt"], base)
        return apply(OPS["power"], base, constant(np.asarray(float(e), base.dtype)))


#: where the indices among the operands of ops of a kind begin
_FIRST_INDEX = {Kind.GATHER: 1, Kind.SCATTER: 2}


def _as_whole(node: Node, dtype: np.dtype[Any]) -> Node:
    """``node`` in the dtype of the whole numbers that it stands for, if it does."""
    return cast(node, dtype) if dtype.kind in "iu" and node.dtype != dtype else node


def _as_indices(node: Node) -> Node:
    return cast(node, np.int64) if node.aval.is_float else node


Part = tuple[Node, Labels]


def _without_unit_axes(node: Node, labels: Labels) -> Part:
    kept = tuple(k for k in labels if k != UNIT)
    shape = tuple(n for n, k in zip(node.shape, labels, strict=True) if k != UNIT)
    return FUNCTIONS["reshape"](node, shape), kept


def _contracted(parts: Sequence[Part], ndim: int) -> Part:
    """One node for the product of ``parts``, summed over the labels ≥ ndim."""
    rest = list(parts)
    while len(rest) > 1:
        pairs = [(i, j) for j in range(len(rest)) for i in range(j)]
        i, j = min(pairs, key=lambda p: _joined_size(rest, p[0], p[1], ndim))
        joined = _joined(rest, i, j, ndim)
        rest = [p for k, p in enumerate(rest) if k not in (i, j)] + [joined]
    node, labels = rest[0]
    axes = tuple(a for a, k in enumerate(labels) if k >= ndim)
    if axes:
        node = OPS["sum"].make((node,), axes=axes)
    return node, tuple(k for k in labels if k < ndim)


def _kept_labels(parts: Sequence[Part], i: int, j: int, ndim: int) -> Labels:
    needed = {k for p, (_, labels) in enumerate(parts) if p not in (i, j) for k in labels}
    return tuple(sorted(k for k in {*parts[i][1], *parts[j][1]} if k < ndim or k in needed))


def _joined_size(parts: Sequence[Part], i: int, j: int, ndim: int) -> int:
    sizes = {k: n for node, labels in (parts[i], parts[j]) for k, n in zip(labels, node.shape, strict=True)}
    return math.prod(sizes[k] for k in _kept_labels(parts, i, j, ndim))


def _joined(parts: Sequence[Part], i: int, j: int, ndim: int) -> Part:
    out = _kept_labels(parts, i, j, ndim)
    (x, left), (y, right) = parts[i], parts[j]
    return contract(x, left, y, right, out), out


def _placed(node: Node, labels: Labels, shape: Shape) -> Node:
    """Axes brought in ascending order of their labels, then repeated where the result has more."""
    order = tuple(int(a) for a in np.argsort(labels))
    if order != tuple(range(node.ndim)):
        node = OPS["transpose"].make((node,), axes=order)
    if node.shape == shape:
        return node
    return OPS["broadcast"].make((node,), shape=shape, axes=tuple(sorted(labels)))


# -- the functions that are not ops ------------------------------------------------------------------------------------

Meaning = Callable[[Sequence[Node], Apply, Any], Node]


def _softmax(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    (z,), axes = args, x.attrs["axes"]
    lse = OPS["logsumexp"].make((z,), axes=axes)
    return apply(OPS["exp"], z - restore(lse, z.shape, axes))


def _onehot(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    """1 at the label along a new last axis; a negative label counts from the end."""
    (y,), count = args, x.shape[-1]
    wrapped = FUNCTIONS["where"](y < 0, y + count, y) if y.dtype.kind == "i" else y
    labels = OPS["broadcast"].make((wrapped,), shape=x.shape, axes=tuple(range(y.ndim)))
    return cast(apply(OPS["equal"], labels, iota(x.shape, y.ndim, y.dtype)), dtype)


def _attains(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    """1 at the extremum along ``axes``, shared evenly where elements tie."""
    (z,), axes = args, x.attrs["axes"]
    best = OPS[x.attrs["of"]].make((z,), axes=axes)
    mask = cast(apply(OPS["equal"], z, restore(best, z.shape, axes)), dtype)
    return mask / restore(OPS["sum"].make((mask,), axes=axes), z.shape, axes)


def _excess(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    """1 where a > b, ½ where they tie."""
    a, b = args
    return (cast(a > b, dtype) + cast(a >= b, dtype)) * constant(np.asarray(0.5, dtype))


def _normal_cdf(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    (z,) = args
    return apply(OPS["erfc"], z * constant(np.asarray(-math.sqrt(0.5), dtype))) * constant(np.asarray(0.5, dtype))


def _normal_pdf(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    (z,) = args
    scale = constant(np.asarray(1 / math.sqrt(2 * math.pi), dtype))
    return apply(OPS["exp"], apply(OPS["square"], z) * constant(np.asarray(-0.5, dtype))) * scale


def _item(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
    """A result of a loop or branch, which computes in its own dtypes."""
    of = x.attrs["of"]
    given = [cast(a, operand.dtype) for a, operand in zip(args, of.args, strict=True)]
    return item(of.rebuilt(given), x.attrs["index"])


def _unchecked(name: str) -> Meaning:
    """An op of whole matrices, NaN where it fails."""
    return lambda args, x, dtype: OPS[name].make(args, check=False)


def _part_of(name: str, index: int) -> Meaning:
    """One result of a factorisation."""
    return lambda args, x, dtype: item(OPS[name].make(args, check=False, **x.attrs), index)


def _part_of_svd(args: Sequence[Node], index: int) -> Node:
    return item(OPS["svd"].make(args, full=False, check=False), index)


def _triangle(name: str) -> Meaning:
    """A triangle, with 1 on the diagonal if that is not read."""

    def part(args: Sequence[Node], x: Apply, dtype: Any) -> Node:
        (t,), unit = args, x.attrs["unit"]
        offset = (-1 if name == "tril" else 1) if unit else 0
        kept: Node = FUNCTIONS[name](t, offset)
        return kept + constant(np.eye(x.shape[-1], dtype=dtype)) if unit else kept

    return part


DISPLAY: dict[str, Meaning] = {
    "item": _item,
    "inv": _unchecked("inv"),
    "cholesky": _unchecked("cholesky"),
    "pinv": _unchecked("pinv"),
    "sqrtm": _unchecked("sqrtm"),
    "eigenvalues": _unchecked("eigvalsh"),
    "singular_values": _unchecked("svdvals"),
    "sign_of_det": _part_of("slogdet", 0),
    "log_of_det": _part_of("slogdet", 1),
    "eigenvectors": _part_of("eigh", 1),
    "left_vectors": _part_of("svd", 0),
    "right_vectors": _part_of("svd", 2),
    "first_left_vectors": lambda args, x, dtype: _part_of_svd(args, 0)[:, 0],
    "first_right_vectors": lambda args, x, dtype: _part_of_svd(args, 2)[0],
    "orthogonal": _part_of("qr", 0),
    "triangular": _part_of("qr", 1),
    "lower": _triangle("tril"),
    "upper": _triangle("triu"),
    "indicator": lambda args, x, dtype: cast(args[0], dtype),
    "real": lambda args, x, dtype: cast(args[0], dtype),
    "softmax": _softmax,
    "onehot": _onehot,
    "attains": _attains,
    "excess": _excess,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "unit": lambda args, x, dtype: constant(np.eye(x.shape[0], dtype=dtype)),
}
"""Functions that formulas have and the registry of ops does not."""
