"""How far rounding can move a computed value: a running error analysis.

Enters: a graph, values of its leaves.  Leaves: for every node its value in float64 and a bound on the rounding error
that the same computation makes when each operation rounds to the node's own dtype. Each node adds its own rounding (its
stated bound times the value) to what the errors of its operands become, found by moving the operands by their errors
and evaluating again: no derivative rule is involved.  To first order the bound holds for any order of summation.  A
comparison that the errors can flip counts as uncertain, and so does what it selects; a position or another whole number
that they can change has no bound (`gradc.oracle.rounding_choices`). Reference: Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., §3.3 and §4.2.

Invariant: errors are arrays of the node's shape, never negative; inf where nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import NARROW, Results, computed_in, finfo, is_float
from gradc.diff.widen import widen_array
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import inner_leaf
from gradc.ops.record import HOLDERS, LEAVES, Kind, Op, has_results
from gradc.ops.rounding import largest_error
from gradc.oracle.rounding_bodies import errors_through_bodies
from gradc.oracle.rounding_choices import at_uncertain_places, in_another_order, of_another_element, of_another_place
from gradc.oracle.wide import computed
from gradc.passes.accumulate import is_narrow_sum

Array = np.ndarray[Any, Any]
#: values and error bounds of the results of a node that has several
Several = tuple[tuple[Array, ...], tuple[Array, ...]]

#: the bound of what is rounded correctly
CORRECT = 0.5
#: whole numbers below this are exact in every float dtype, and so is arithmetic that stays among them
SMALL = 2.0**24
#: units in the last place that NumPy's and our functions may be off, where no closer bound is stated (NumPy's own: 4)
DEFAULT_ULP = 4.0


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Half a unit in the last place, relative: 2⁻⁵³ for float64; 0 for what is exact."""
    return float(finfo(dtype).eps) / 2 if is_float(dtype) else 0.0


def running_errors(
    outputs: Sequence[Node], values: Mapping[Node, Array], errors: Mapping[Node, Array] | None = None
) -> tuple[dict[Node, Array], dict[Node, Array]]:
    """Values and error bounds of all nodes behind ``outputs``, from those of the leaves (or of inner nodes) given."""
    known = {n: widen_array(v) for n, v in values.items() if not has_results(n)}
    bounds = {n: np.zeros(n.shape) for n in known} | dict(errors or {})
    several: dict[Node, Several] = {}
    with np.errstate(all="ignore"):
        for node in topological(outputs, known):
            if node in known:
                if node not in bounds:
                    bounds[node] = np.zeros(node.shape)
            elif node.op.kind is Kind.ITEM:
                known[node], bounds[node] = (part[node.attrs["index"]] for part in several[node.args[0]])
            else:
                args, off = [known[a] for a in node.args], [bounds[a] for a in node.args]
                if node.op.kind in HOLDERS:
                    several[node] = errors_through_bodies(node, args, off, running_errors)
                elif has_results(node):
                    values_of = computed(node, args)
                    several[node] = values_of, tuple(map(_finite_or_inf, _whole(node, args, off, values_of)))
                else:
                    known[node] = computed(node, args)
                    bounds[node] = _finite_or_inf(_bound(node, args, off, known[node]))
    return known, bounds


def _finite_or_inf(error: Any) -> Array:
    array = np.asarray(error, np.float64)
    unknown = array != array
    return np.where(unknown, np.inf, array) if unknown.any() else array


def own_error(node: Node, args: Sequence[Array], value: Array) -> Array:
    """What one elementwise evaluation in the node's dtype may add."""
    op = node.op
    if op.exact or not node.aval.is_float:
        return np.zeros(node.shape)
    stated = stated_ulp(op, node.dtype)
    size = np.where(_is_exactly_infinite(args, value), 0.0, np.abs(value)) + _size_of_terms(node, args)
    smallest = finfo(node.dtype).smallest_subnormal
    error = 2 * stated * unit_roundoff(node.dtype) * size + smallest
    if op.multilinear:
        error = np.where(_has_zero_factor(args), 0.0, error)
    if op.ulp == CORRECT or op.whole:
        whole = _is_small_whole(value)
        if whole.any():
            for a in args:
                whole = whole & _is_small_whole(a)
            error = np.where(whole, 0.0, error)
    return np.asarray(error)


def relative_rounding(node: Node) -> float:
    """`own_error` of an elementwise op as a part of the value; −1 where it is none."""
    if node.dtype != np.float64 or node.op.scale is not None:
        return -1.0
    return 2 * stated_ulp(node.op, node.dtype) * unit_roundoff(node.dtype)


def own_rounding(node: Node, args: Sequence[Array], value: Array) -> Array | None:
    """What one evaluation of a node of any kind adds to exact operands, to expect; None if it rounds nothing.

    Of a sum of n terms it is √n of what one addition may add, where the worst case is n.
    """
    rule = OWN.get(node.op.kind)
    if rule is None or not node.aval.is_float or node.op.exact:
        return None
    own = rule(node, args, value)
    if own is not None and node.op.kind in (Kind.FOLD, Kind.REDUCE, Kind.PREFIX, Kind.CONTRACT):
        own = own / math.sqrt(max(1, terms_of(node)))
    if own is not None and is_narrow_sum(node):
        own = own + unit_roundoff(node.dtype) * np.abs(value)
    return own


def _is_exactly_infinite(args: Sequence[Array], value: Array) -> Array:
    """Where an infinity of an operand went through, as in −∞ − max; what finite operands overflow to may be none."""
    infinite = np.isinf(value)
    if infinite.any():
        infinite = infinite & np.any([np.broadcast_to(np.isinf(a), value.shape) for a in args], axis=0)
    return np.asarray(infinite)


def _has_zero_factor(args: Sequence[Array]) -> Array:
    """Where a product is 0 without rounding; a strong one then stays 0 whatever infinite error it meets next."""
    return np.asarray((args[0] == 0) | (args[1] == 0))


def _size_of_terms(node: Node, args: Sequence[Array]) -> Any:
    """The size of the terms in whose last place an op's bound counts beside the value's."""
    return 0.0 if node.op.scale is None else node.op.scale(*args, **node.attrs)


def stated_ulp(op: Op, dtype: np.dtype[Any]) -> float:
    """The bound of our own function, plus that of NumPy's where it is what ours is compared with (float64).

    Of narrow floats: that of float32, and half a unit of their own.
    """
    if op.ulp == CORRECT:
        return CORRECT
    if dtype in NARROW:
        wide = computed_in(dtype)
        return 0.5 + stated_ulp(op, wide) * unit_roundoff(wide) / unit_roundoff(dtype)
    ours = op.bound(str(dtype))
    ours = DEFAULT_ULP if ours is None else ours
    return ours + DEFAULT_ULP if dtype == np.float64 else ours


def _is_small_whole(value: Array) -> Array:
    return np.asarray((value == np.rint(value)) & (np.abs(value) < SMALL))


def _bound(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Any:
    error = _RULES[node.op.kind](node, args, errors, value)
    return error + unit_roundoff(node.dtype) * np.abs(value) if is_narrow_sum(node) else error


def _in_sums(node: Node) -> float:
    """What one addition of a sum rounds by: narrow floats are added in float32, and rounded once after."""
    return unit_roundoff(computed_in(node.dtype))


# -- leaves and elementwise --------------------------------------------------------------------------------------------


def _leaf(node: Node, args: Any, errors: Any, value: Array) -> Array:
    """A constant may have been rounded when it was written."""
    if not node.aval.is_float:
        return np.zeros(node.shape)
    return np.asarray(np.where(value == np.rint(value), 0.0, unit_roundoff(node.dtype) * np.abs(value)))


def _elementwise(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    if not node.aval.is_float:
        return _unbounded(node, _uncertain(node, args, errors))
    total = own_error(node, args, value)
    if node.op.moved is not None:
        moved = node.op.moved(args, errors)
        return np.asarray(total + np.where(_stays_infinite(node, args, errors, value), 0.0, moved))
    for i, error in enumerate(errors):
        if np.any(error > 0):
            total = total + _moved_by(node, args, i, error, value)
    return total


def _stays_infinite(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    """Where an operand's infinity is the result however the operands move within their errors."""
    infinite = _is_exactly_infinite(args, value)
    if infinite.any():
        for a, e in zip(args, errors, strict=True):
            infinite = infinite & (e < (np.abs(a) if node.op.multilinear else np.inf))
    return infinite


def _moved_by(node: Node, args: Sequence[Array], i: int, error: Array, value: Array) -> Array:
    """How far an error in operand ``i`` moves the result."""
    if args[i].dtype == bool:
        flipped = computed(node, [*args[:i], ~args[i], *args[i + 1 :]])
        return np.where(error > 0, _distance(flipped, value), 0.0)
    if not is_float(args[i].dtype):
        return np.where(error > 0, np.inf, 0.0)
    up, down = (computed(node, [*args[:i], args[i] + s * error, *args[i + 1 :]]) for s in (1, -1))
    return np.where(error > 0, np.maximum(_distance(up, value), _distance(down, value)), 0.0)


def _distance(a: Array, b: Array) -> Array:
    return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))


def _uncertain(node: Node, args: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Positive where the errors of the operands can change a boolean or integer result."""
    if not args or not any(np.any(e > 0) for e in errors):
        return np.zeros(node.shape)
    if len(args) == 2 and is_float(args[0].dtype):
        gap, reach = np.abs(args[0] - args[1]), errors[0] + errors[1]
        exact = (args[0] == args[1]) if not node.op.ordered else False
        return np.where((gap <= reach) & (reach > 0) & ~np.asarray(exact), 1.0, 0.0)
    if node.op.converts and is_float(args[0].dtype):
        moved = [computed(node, [args[0] + s * errors[0]]) for s in (1, -1)]
        return np.where(moved[0] != moved[1], 1.0, 0.0)
    if is_float(args[0].dtype):
        return np.zeros(node.shape)
    return np.where(np.sum([e > 0 for e in errors], axis=0) > 0, 1.0, 0.0)


def _unbounded(node: Node, uncertain: Array) -> Array:
    """The bound of a result that is no float, where it is ``uncertain``: 1 for a truth value, none for a number."""
    return np.where(uncertain > 0, 1.0 if node.dtype == bool else np.inf, 0.0)


# -- structured --------------------------------------------------------------------------------------------------------


def _linear(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    """A view, or a sum of elements: errors go where the elements go."""
    attrs = {**node.attrs, "fill": 0} if "fill" in node.attrs else dict(node.attrs)
    moved = np.asarray(node.op.numpy(*errors, **attrs), np.float64)
    return moved if node.op.kind is Kind.VIEW or not node.aval.is_float else moved + _of_sum(node, args, value)


def _of_sum(node: Node, args: Sequence[Array], value: Array) -> Array:
    """What adding up elements may round by, in any order."""
    sizes = np.asarray(node.op.numpy(*[np.abs(a) for a in args], **node.attrs), np.float64)
    return np.asarray(terms_of(node) * _in_sums(node) * sizes)


def terms_of(node: Node) -> int:
    """How many numbers are added for one element, at most."""
    if node.op.kind is Kind.FOLD:
        assert node.op.terms is not None
        return node.op.terms(node)
    if node.op.kind is Kind.PREFIX:
        return node.shape[node.attrs["axis"]]
    if node.op.kind is Kind.CONTRACT:
        labels = zip((node.attrs["left"], node.attrs["right"]), node.args, strict=True)
        sizes = {k: n for part, x in labels for k, n in zip(part, x.shape, strict=True)}
        return math.prod(n for k, n in sizes.items() if k not in node.attrs["out"])
    return int(np.prod([node.args[0].shape[a] for a in node.attrs["axes"]], initial=1))


def _reduce(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    op, axes = node.op, node.attrs["axes"]
    if op.transpose is not None:
        return _linear(node, args, errors, value)
    if not node.aval.is_float:
        if op.position:
            return of_another_element(node, args[0], errors[0], value)
        return _unbounded(node, largest_error(args, [e > 0 for e in errors], axes))
    moved = _grown(node, args, errors) if op.moved is None else op.moved(args, errors, **node.attrs)
    return moved if op.exact else moved + _of_reduction(node, args, value)


def _of_reduction(node: Node, args: Sequence[Array], value: Array) -> Array:
    """What combining the elements may round by."""
    if node.op.transpose is not None:
        return _of_sum(node, args, value)
    return np.asarray((terms_of(node) + 8) * _in_sums(node) * (np.abs(value) + _size_of_terms(node, args)))


def _grown(node: Node, args: Sequence[Array], errors: Sequence[Array]) -> Array:
    """f(|x| + e) − f(|x|) bounds the change of a sum of products of the x."""
    larger = node.op.numpy(*[np.abs(a) + e for a, e in zip(args, errors, strict=True)], **node.attrs)
    return np.abs(np.asarray(larger) - node.op.numpy(*[np.abs(a) for a in args], **node.attrs))


def _prefix(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    if node.op.transpose is not None:
        return _linear(node, args, errors, value)
    if not node.aval.is_float:
        return _unbounded(node, np.maximum.accumulate(errors[0], axis=node.attrs["axis"]))
    return _grown(node, args, errors) + _of_prefix(node, args, value)


def _of_prefix(node: Node, args: Sequence[Array], value: Array) -> Array:
    if node.op.transpose is not None:
        return _of_sum(node, args, value)
    return np.asarray(terms_of(node) * _in_sums(node) * np.abs(value))


def _contract(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    if not node.aval.is_float:
        ones = [np.ones(a.shape) for a in args]
        left, right = ((e > 0).astype(float) for e in errors)
        touched = node.op.numpy(left, ones[1], **node.attrs) + node.op.numpy(ones[0], right, **node.attrs)
        return _unbounded(node, np.asarray(touched))
    (x, y), (ex, ey) = (np.abs(args[0]), np.abs(args[1])), errors
    moved = node.op.numpy(ex, y + ey, **node.attrs) + node.op.numpy(x, ey, **node.attrs)
    return np.asarray(moved + _of_products(node, args, value))


def _of_products(node: Node, args: Sequence[Array], value: Array) -> Array:
    """What a sum of products may round by, in any order."""
    x, y = args
    return np.asarray(terms_of(node) * _in_sums(node) * node.op.numpy(np.abs(x), np.abs(y), **node.attrs))


def _gather(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    moved = np.asarray(node.op.numpy(errors[0], *args[1:], **node.attrs), np.float64)
    return at_uncertain_places(node, args, errors, moved)


def _scatter(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    if any(np.any(e > 0) for e in errors[2:]):
        return np.full(node.shape, np.inf)  # what is written may land anywhere
    how = node.attrs["how"]
    attrs = {**node.attrs, "how": how if how in ("add", "set") else "max"}
    moved = np.asarray(node.op.numpy(errors[0], errors[1], *args[2:], **attrs), np.float64)
    added = _of_scatter(node, args, value)
    return moved if added is None else moved + added


def _of_scatter(node: Node, args: Sequence[Array], value: Array) -> Array | None:
    """What adding at places may round by."""
    if node.attrs["how"] != "add":
        return None
    x, v, *indices = args
    sizes = node.op.numpy(np.abs(x).astype(float), np.abs(v).astype(float), *indices, **node.attrs)
    counts = node.op.numpy(np.ones(x.shape), np.ones(v.shape), *indices, **node.attrs)
    return np.asarray(counts * _in_sums(node) * sizes)


def _whole(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Any) -> Any:
    """What perturbation theory says, or what the ops do that the op is made of; of an op with several results a bound
    for each."""
    if node.op.perturbed is not None:
        found = node.op.perturbed(args, errors, unit_roundoff(node.args[0].dtype), **node.attrs)
        return _nothing(node) if found is None else found
    leaves = [inner_leaf(a.aval, "x") for a in node.args]
    assert node.op.expand is not None
    expansion = node.op.expand(*leaves, **node.attrs)
    results = list(expansion) if has_results(node) else [expansion]
    found = running_errors(results, dict(zip(leaves, args, strict=True)), dict(zip(leaves, errors, strict=True)))[1]
    return tuple(found[y] for y in results) if has_results(node) else found[expansion]


def _nothing(node: Node) -> Any:
    """The bounds of a stack of no matrix."""
    if isinstance(node.aval, Results):
        return tuple(np.zeros(part.shape) for part in node.aval.parts)
    return np.zeros(node.shape)


def _of_whole(node: Node, args: Sequence[Array], value: Array) -> Array:
    """What the ops that the op is made of may round by."""
    return _whole(node, args, [np.zeros(a.shape) for a in args], value)


def _sort(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    return in_another_order(args[0], errors[0], value, node.attrs["axis"])


_RULES: dict[Kind, Callable[[Node, Sequence[Array], Sequence[Array], Array], Any]] = {
    **dict.fromkeys(LEAVES, _leaf),
    Kind.ELEMENTWISE: _elementwise,
    Kind.VIEW: _linear,
    Kind.FOLD: _linear,
    Kind.REDUCE: _reduce,
    Kind.PREFIX: _prefix,
    Kind.CONTRACT: _contract,
    Kind.GATHER: _gather,
    Kind.SCATTER: _scatter,
    Kind.SORT: _sort,
    Kind.SEARCH: of_another_place,
    Kind.WHOLE: _whole,
}

#: kinds that round, and by how much
OWN: dict[Kind, Callable[[Node, Sequence[Array], Array], Array | None]] = {
    Kind.ELEMENTWISE: own_error,
    Kind.FOLD: _of_sum,
    Kind.REDUCE: _of_reduction,
    Kind.PREFIX: _of_prefix,
    Kind.CONTRACT: _of_products,
    Kind.SCATTER: _of_scatter,
    Kind.WHOLE: _of_whole,
}
