"""Safe identities: the same bits (up to the stated error bound of the op), fewer operations.

IEEE-safe only: x + 0 is not x when x is −0, and x·0 is not 0 when x is infinite, so neither is here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradc.aval import NARROW, computed_in
from gradc.graph import Graph
from gradc.node import FUNCTIONS, OPS, Node
from gradc.ops.contraction import guarded
from gradc.ops.elementwise import apply, broadcast_to, cast
from gradc.ops.implicit import LinearRule, implicit_rule_of
from gradc.ops.leaves import full
from gradc.ops.ranges import Hazard, Zeros, is_zero, range_of
from gradc.ops.record import Kind
from gradc.passes.fold import splat_value
from gradc.passes.rules import Rule, apply_rules


def simplify(graph: Graph) -> Graph:
    """Apply the table of identities to a fixed point."""
    return apply_rules(graph, RULES)


def simplify_to_read(graph: Graph) -> Graph:
    """`simplify`, and products with a reciprocal become quotients, even where that costs more divisions."""
    return apply_rules(graph, RULES_TO_READ)


def simplify_once(graph: Graph) -> Graph:
    """`simplify`, but a product and its transpose stay one product, so that one cotangent belongs to both."""
    return apply_rules(graph, RULES_ONCE)


def failures_unsaid(graph: Graph) -> Graph:
    """The graph as if every search succeeded: what says that a result is NaN where it did not, is left out."""
    return apply_rules(graph, {"where": (unless_failed,)})


def _is(node: Node, value: float) -> bool:
    held = splat_value(node)
    return held is not None and held.item() == value and not (value == 0 and np.signbit(held))


# -- failures of searches ----------------------------------------------------------------------------------------------


def unless_failed(node: Node) -> Node | None:
    """where(a search succeeded, y, NaN) = y to a reader."""
    succeeded, value, otherwise = node.args
    held = splat_value(otherwise)
    failing = held is not None and held.dtype.kind == "f" and bool(np.isnan(held))
    return value if failing and _is_success(succeeded) else None


def _is_success(mask: Node) -> bool:
    """Whether a mask asks how a search ended: whether its status is 0, or the solution of a system finite."""
    mask = _unmoved(mask)
    if mask.op.name == "isfinite":
        return _result_of_a_search(mask.args[0], solution=True)
    zero = mask.op.name == "equal" and _is(mask.args[1], 0)
    return zero and _result_of_a_search(mask.args[0], solution=False)


def _result_of_a_search(node: Node, solution: bool) -> bool:
    """Whether a node is part of the ``solution`` of a linear system, or what a search tells besides."""
    node = _unmoved(node)
    rule = implicit_rule_of(node.args[0]) if node.op.kind is Kind.ITEM else None
    if rule is None:
        return False
    found = node.attrs["index"] < rule.count
    return found is solution and (isinstance(rule, LinearRule) or not solution)


def _unmoved(node: Node) -> Node:
    """What a node shows in another shape, or with the other sign."""
    while node.op.repeats or node.op.name in ("reshape", "transpose", "negative"):
        node = node.args[0]
    return node


# -- arithmetic --------------------------------------------------------------------------------------------------------


def times_one(node: Node) -> Node | None:
    """x·1 = x, x·(−1) = −x."""
    for x, y in (node.args, node.args[::-1]):
        held = splat_value(y)
        if held is not None and held.item() == 1:
            return x
        if held is not None and held.item() == -1 and (x.aval.is_float or x.dtype.kind == "i"):
            return apply(OPS["negative"], x)
    return None


def surely_plain(node: Node) -> Node | None:
    """A product whose zeros meet only what is finite is a plain one."""
    known = [range_of(a) for a in node.args]
    pairs = zip(known, reversed(known), strict=True)
    plain = all(a.zeros is Zeros.NEVER or b.hazard is Hazard.NONE for a, b in pairs)
    return apply(OPS["multiply"], *node.args) if plain else None


def zero_times(node: Node) -> Node | None:
    """What stays 0 whatever it meets, and is 0 everywhere."""
    return full(node.shape, 0, node.dtype) if any(map(is_zero, node.args)) else None


def over_one(node: Node) -> Node | None:
    """x/1 = x, x/(−1) = −x."""
    x, y = node.args
    return x if _is(y, 1) else apply(OPS["negative"], x) if _is(y, -1) else None


def over_reciprocal(node: Node) -> Node | None:
    """x·(1/y) = x/y: one rounding instead of two."""
    for x, y in (node.args, node.args[::-1]):
        if y.op.name == "divide" and _is(y.args[0], 1):
            return x / y.args[1]
        if y.op.name == "reciprocal":
            return x / y.args[0]
    return None


def minus_zero(node: Node) -> Node | None:
    """x − 0 = x."""
    x, y = node.args
    return x if _is(y, 0) else None


def plus_negative(node: Node) -> Node | None:
    """x + (−y) = x − y, (−x) + y = y − x."""
    x, y = node.args
    if y.op.name == "negative":
        return x - y.args[0]
    return y - x.args[0] if x.op.name == "negative" else None


def minus_negative(node: Node) -> Node | None:
    """x − (−y) = x + y."""
    x, y = node.args
    return x + y.args[0] if y.op.name == "negative" else None


def double_negative(node: Node) -> Node | None:
    """−(−x) = x, −(x − y) = y − x is not bit-safe at zero and stays."""
    (x,) = node.args
    return x.args[0] if x.op.name == "negative" else None


def sign_out_of_product(node: Node) -> Node | None:
    """(−x)·y = −(x·y), (−x)/y = −(x/y): signs move outwards, where they meet sums."""
    x, y = node.args
    if x.op.name == "negative":
        return -node.rebuilt((x.args[0], y))
    return -node.rebuilt((x, y.args[0])) if y.op.name == "negative" else None


def plain(node: Node) -> Node | None:
    """positive(x) = x."""
    return node.args[0]


def small_power(node: Node) -> Node | None:
    """x**n for n in −2 … 4 and ±½ by products and roots, which is what NumPy's own fast paths do."""
    x, y = node.args
    exponent = splat_value(y)
    if exponent is None or not x.aval.is_float:
        return None
    function = _POWERS.get(float(exponent))
    if function is None:
        return None
    if x.dtype in NARROW and float(exponent) in _PRODUCTS:
        return cast(function(cast(x, computed_in(x.dtype))), x.dtype)
    return function(x)


#: Powers of several nodes: of a narrow float they are computed in float32, and rounded once as the power would be.
_PRODUCTS = (3.0, 4.0, -2.0)
_POWERS: dict[float, Callable[[Node], Node]] = {
    0.0: lambda x: FUNCTIONS["ones_like"](x),
    1.0: lambda x: x,
    2.0: lambda x: apply(OPS["square"], x),
    3.0: lambda x: apply(OPS["square"], x) * x,
    4.0: lambda x: apply(OPS["square"], apply(OPS["square"], x)),
    0.5: lambda x: apply(OPS["sqrt"], x),
    -0.5: lambda x: apply(OPS["rsqrt"], x),
    -1.0: lambda x: 1 / x,
    -2.0: lambda x: 1 / apply(OPS["square"], x),
}


def square_of_itself(node: Node) -> Node | None:
    """x·x = x²."""
    x, y = node.args
    return apply(OPS["square"], x) if x is y and x.aval.is_float else None


# -- selection and casts -----------------------------------------------------------------------------------------------


def constant_mask(node: Node) -> Node | None:
    """where(True, x, y) = x; where(m, x, x) = x; where(m, where(m, x, _), y) = where(m, x, y)."""
    mask, x, y = node.args
    held = splat_value(mask)
    if held is not None:
        return x if bool(held) else y
    if x is y:
        return x
    if x.op.name == "where" and x.args[0] is mask:
        return node.rebuilt((mask, x.args[1], y))
    if y.op.name == "where" and y.args[0] is mask:
        return node.rebuilt((mask, x, y.args[2]))
    return None


def cast_of_cast(node: Node) -> Node | None:
    """Casting to the same dtype, or through a wider one that loses nothing."""
    (x,) = node.args
    if x.dtype == node.dtype:
        return x
    if x.op.name == "cast" and np.can_cast(x.args[0].dtype, x.dtype, "safe"):
        inner = x.args[0]
        return inner if inner.dtype == node.dtype else node.rebuilt((inner,))
    return None


def cast_of_scalar(node: Node) -> Node | None:
    """A cast of a broadcast is a broadcast of the cast."""
    (x,) = node.args
    if x.op.name != "broadcast":
        return None
    return x.op.make((OPS["cast"].make((x.args[0],), **node.attrs),), **x.attrs)


# -- views -------------------------------------------------------------------------------------------------------------


def nothing_moves(node: Node) -> Node | None:
    """A view that keeps every element where it is."""
    (x,) = node.args
    if node.shape != x.shape:
        return None
    if node.op.name in ("transpose", "broadcast"):
        return x if node.attrs["axes"] == tuple(range(x.ndim)) else None
    if node.op.name == "slice":
        return x if all(s > 0 for s in node.attrs["steps"]) and not any(node.attrs["starts"]) else None
    return x  # reshape, pad, superpose: there is only one way to fill the same shape


def single_superpose(node: Node) -> Node | None:
    """A superposition of one operand that fills the whole is that operand."""
    return nothing_moves(node) if len(node.args) == 1 else None


def reshape_of_reshape(node: Node) -> Node | None:
    (x,) = node.args
    return node.rebuilt((x.args[0],)) if x.op.name == "reshape" else None


def transpose_of_transpose(node: Node) -> Node | None:
    (x,) = node.args
    if x.op.name != "transpose":
        return None
    axes = tuple(x.attrs["axes"][a] for a in node.attrs["axes"])
    return node.op.make((x.args[0],), axes=axes)


def transpose_of_superpose(node: Node) -> Node | None:
    """What is placed and then transposed is placed in transposed: no pass over the whole for it."""
    (x,) = node.args
    if x.op.name != "superpose":
        return None
    axes = node.attrs["axes"]
    moved = {key: tuple(tuple(s[a] for a in axes) for s in x.attrs[key]) for key in ("starts", "steps")}
    return x.op.make([node.op.make((a,), axes=axes) for a in x.args], shape=node.shape, **moved)


def broadcast_of_broadcast(node: Node) -> Node | None:
    (x,) = node.args
    if x.op.name != "broadcast":
        return None
    outer, inner = node.attrs["axes"], x.attrs["axes"]
    return node.op.make((x.args[0],), shape=node.shape, axes=tuple(outer[a] for a in inner))


def broadcast_of_expanded(node: Node) -> Node | None:
    """A broadcast of a reshape that only inserted axes of length 1."""
    (x,) = node.args
    if x.op.name != "reshape":
        return None
    source = x.args[0]
    if [n for n in x.shape if n != 1] != list(source.shape):
        return None
    axes = tuple(a for a, n in zip(node.attrs["axes"], x.shape, strict=True) if n != 1)
    return node.op.make((source,), shape=node.shape, axes=axes)


def one_concatenated(node: Node) -> Node | None:
    """One operand (after dropping empty ones) is itself."""
    axis = node.attrs["axis"]
    full = [a for a in node.args if a.shape[axis]]
    if len(full) == len(node.args) and len(full) > 1:
        return None
    return full[0] if len(full) == 1 else node.op.make(full, axis=axis) if full else node.args[0]


def sum_over_nothing(node: Node) -> Node | None:
    """A reduction over no axes, or over axes of length 1."""
    (x,) = node.args
    axes = node.attrs["axes"]
    if node.op.name in ("argmax", "argmin", "norm", "any", "all") or any(x.shape[a] != 1 for a in axes):
        return None
    return FUNCTIONS["reshape"](x, node.shape) if axes else x


# -- contraction -------------------------------------------------------------------------------------------------------


def surely_plain_contraction(node: Node) -> Node | None:
    """A contraction in which no factor can be infinite or NaN where the other is 0 is a plain one."""
    made = guarded(OPS["contract"].make(node.args, **node.attrs))
    return made if made.op is not node.op else None


def contract_of_transpose(node: Node) -> Node | None:
    """A transposed operand is the same operand with its labels permuted."""
    for i, key in ((0, "left"), (1, "right")):
        x = node.args[i]
        if x.op.name == "transpose":
            labels = node.attrs[key]
            permuted = tuple(labels[x.attrs["axes"].index(a)] for a in range(x.ndim))
            args = (x.args[0], node.args[1]) if i == 0 else (node.args[0], x.args[0])
            return node.op.make(args, **{**node.attrs, key: permuted})
    return None


def transpose_of_contract(node: Node) -> Node | None:
    """A transposed product writes its labels in another order."""
    (x,) = node.args
    if x.op.name != "contract":
        return None
    out = tuple(x.attrs["out"][a] for a in node.attrs["axes"])
    return x.op.make(x.args, **{**x.attrs, "out": out})


def contract_of_broadcast(node: Node) -> Node | None:
    """An operand that is one scalar everywhere leaves the contraction as a factor of the other operand's sum."""
    for i, key in ((0, "left"), (1, "right")):
        x = node.args[i]
        if x.op.name == "broadcast" and x.args[0].shape == ():
            other, labels = node.args[1 - i], node.attrs["right" if key == "left" else "left"]
            out = node.attrs["out"]
            if not set(out) <= set(labels) or set(node.attrs[key]) - set(labels):
                continue
            one = OPS["sum"].make((other,), axes=tuple(a for a, k in enumerate(labels) if k not in out))
            kept = tuple(k for k in labels if k in out)
            summed = FUNCTIONS["transpose"](one, tuple(kept.index(k) for k in out)) if kept != out else one
            return summed * broadcast_to(x.args[0], summed.shape)
    return None


RULES: dict[str, tuple[Rule, ...]] = {
    "multiply": (times_one, sign_out_of_product, square_of_itself),
    "strong_multiply": (zero_times, times_one, sign_out_of_product, square_of_itself, surely_plain),
    "divide": (over_one, sign_out_of_product),
    "add": (plus_negative,),
    "subtract": (minus_zero, minus_negative),
    "negative": (double_negative,),
    "positive": (plain,),
    "power": (small_power,),
    "where": (constant_mask,),
    "cast": (cast_of_cast, cast_of_scalar),
    "reshape": (nothing_moves, reshape_of_reshape),
    "transpose": (nothing_moves, transpose_of_transpose, transpose_of_contract, transpose_of_superpose),
    "broadcast": (nothing_moves, broadcast_of_broadcast, broadcast_of_expanded),
    "slice": (nothing_moves,),
    "pad": (nothing_moves,),
    "superpose": (single_superpose,),
    "concatenate": (one_concatenated,),
    "contract": (contract_of_transpose, contract_of_broadcast),
    "strong_contract": (surely_plain_contraction,),
    "sum": (sum_over_nothing,),
    "prod": (sum_over_nothing,),
    "max": (sum_over_nothing,),
    "min": (sum_over_nothing,),
}
RULES_ONCE = RULES | {"transpose": tuple(rule for rule in RULES["transpose"] if rule is not transpose_of_contract)}
RULES_TO_READ = RULES | {
    "multiply": (times_one, over_reciprocal, sign_out_of_product, square_of_itself),
}
