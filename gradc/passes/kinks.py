"""Smooth functions that are written with a kink lose it: cos ‖x‖, |x|², hypot², |eˣ| and their kin.

Enters: a node whose operands are rewritten.  Leaves: the same function in a form that is smooth where the function is,
so that its derivatives of every order are right at the kink, or None.  Runs with `stabilise`, before a derivative is
taken.  Invariant: values stay what they are, NaN of a negative radicand included.

Four facts are used: an even function of |x| is that function of x; of an odd one it is that function of x times the
sign of x, which leaves a product of two; an even analytic function of a root √s is an entire function of s (Stumpff's
functions: Battin, Mathematics and Methods of Astrodynamics, §4.5); |x| is ±x where the sign of x is known.  Start
reading at `root`, which finds s, at `odd_in` and at `sign_of`.
"""

from __future__ import annotations

import math
from fractions import Fraction

from gradc.node import OPS, Node, dsl
from gradc.ops.ranges import range_of
from gradc.ops.record import Kind
from gradc.passes.fold import splat_value
from gradc.passes.rules import Rule, call, made_by

#: how deep roots are looked for; every level is one operation of a formula
DEPTH = 12


def _whole(node: Node) -> int | None:
    """The whole number that ``node`` is everywhere."""
    held = splat_value(node)
    return int(held) if held is not None and abs(held) < 1e6 and held == int(held) else None


# -- what is known of a value ------------------------------------------------------------------------------------------


def sign_of(node: Node) -> int:
    """1 for what is never negative, −1 for what is never positive, 0 where nothing is known."""
    known = range_of(node)
    return 1 if known.lo >= 0 else -1 if known.hi <= 0 else 0


def root(node: Node, depth: int = DEPTH) -> Node | None:
    """s where ``node`` is √s (or −√s) by the way it is written, and √s has a kink that s has not."""
    if depth == 0 or not node.args or not node.aval.is_float:
        return None
    x = node.args[0]
    if made_by(node, "norm"):
        return OPS["sum"].make((call("square", x),), **node.attrs)
    if made_by(node, "hypot"):
        return call("square", x) + call("square", node.args[1])
    if made_by(node, "absolute"):
        return call("square", x)
    if made_by(node, "sqrt"):
        return x if sign_of(x) == 1 else x * dsl.where(x < 0, math.nan, 1).astype(x.dtype)
    if made_by(node, "where"):
        return root_off_zero(node)
    if made_by(node, "negative"):
        return root(x, depth - 1)
    if made_by(node, "multiply", "divide"):
        return _root_of_product(node, depth)
    if node.op.kind is Kind.VIEW and len(node.args) == 1 and not made_by(node, "pad", "superpose"):
        inner = root(x, depth - 1)
        return None if inner is None else node.op.make((inner,), **node.attrs)
    return None


def _root_of_product(node: Node, depth: int) -> Node | None:
    x, y = node.args
    one, two = root(x, depth - 1), root(y, depth - 1) if made_by(node, "multiply") else None
    if one is None and two is None:
        return None
    s, t = (call("square", a) if found is None else found for a, found in ((x, one), (y, two)))
    return call(node.op.name, s, t)


def root_off_zero(node: Node) -> Node | None:
    """v of where(v = 0, 0, √where(v = 0, 1, v)), which is how a root with a derivative at 0 is written."""
    mask, value, other = node.args
    if not (made_by(mask, "equal") and made_by(other, "sqrt") and made_by(other.args[0], "where")):
        return None
    if _whole(value) != 0:
        return None
    inner_mask, _, v = other.args[0].args
    return v if inner_mask is mask and mask.args[0] is v and _whole(mask.args[1]) == 0 else None


#: functions of one number with f(−x) = −f(x)
ODD = (
    "negative", "positive", "extended", "sin", "sinh", "tan", "tanh", "arcsin", "arcsinh", "arctan", "arctanh", "erf",
    "cbrt", "reciprocal",
)  # fmt: skip

#: |x| by its node and the views that it is seen through
Seen = tuple[Node, tuple[object, ...]]


def odd_in(node: Node, depth: int = DEPTH) -> dict[Seen, Node]:
    """For every |x| in which ``node`` is odd by the way it is written: ``node`` with x in its place."""
    if depth == 0 or not node.args or not node.aval.is_float:
        return {}
    x = node.args[0]
    if made_by(node, "absolute"):
        return {(node, ()): x}
    if made_by(node, *ODD):
        return {seen: call(node.op.name, inner) for seen, inner in odd_in(x, depth - 1).items()}
    if made_by(node, "multiply", "divide"):
        y = node.args[1]
        right = {seen: call(node.op.name, x, inner) for seen, inner in odd_in(y, depth - 1).items()}
        return right | {seen: call(node.op.name, inner, y) for seen, inner in odd_in(x, depth - 1).items()}
    if made_by(node, "power"):
        exponent = _whole(node.args[1])
        odd = exponent is not None and exponent % 2 == 1
        return {seen: call("power", z, node.args[1]) for seen, z in odd_in(x, depth - 1).items()} if odd else {}
    if node.op.kind is Kind.VIEW and len(node.args) == 1 and not made_by(node, "pad"):
        view = (node.op.name, tuple(sorted(node.attrs.items())))
        return {
            (size, (*views, view)): node.op.make((inner,), **node.attrs)
            for (size, views), inner in odd_in(x, depth - 1).items()
        }
    return {}


def _either_sign(node: Node) -> Node | None:
    """``node`` with x in the place of an |x| in which it is odd."""
    return next(iter(odd_in(node).values()), None)


# -- rules -------------------------------------------------------------------------------------------------------------


def absolute_of_known_sign(node: Node) -> Node | None:
    """The absolute value of what has one sign became it or its negative."""
    (x,) = node.args
    if made_by(x, "negative"):
        return call("absolute", x.args[0])
    sign = sign_of(x)
    return (x if sign == 1 else -x) if sign else None


def larger_of_both_signs(node: Node) -> Node | None:
    """maximum(x, −x) became |x|."""
    x, y = node.args
    if (made_by(y, "negative") and y.args[0] is x) or (made_by(x, "negative") and x.args[0] is y):
        return call("absolute", x)
    return None


def square_of_root(node: Node) -> Node | None:
    """The square of a norm, a root or an absolute value became its radicand."""
    s = root(node.args[0])
    if s is None:
        x = _either_sign(node.args[0])
        return None if x is None else call("square", x)
    return s


def product_with_itself(node: Node) -> Node | None:
    """A norm, a root or an absolute value times itself became its radicand."""
    x, y = node.args
    if x is y:
        return root(x)
    for a, b in ((x, y), (y, x)):
        if made_by(a, "multiply") and any(c is b for c in a.args):
            s = root(b)
            if s is not None:
                return (a.args[1] if a.args[0] is b else a.args[0]) * s
    entire = _sine_times_root(x, y)
    return product_of_odd_functions(node) if entire is None else entire


def size_from_sign(node: Node) -> Node | None:
    """x·sign(x) became |x|."""
    for x, y in (node.args, node.args[::-1]):
        if made_by(y, "sign") and y.args[0] is x:
            return call("absolute", x)
    return None


def product_of_odd_functions(node: Node) -> Node | None:
    """In a product or quotient of two odd functions of |x|, |x| became x."""
    one, two = (odd_in(a) for a in node.args)
    for seen in one:
        if seen in two:
            return call(node.op.name, one[seen], two[seen])
    return None


def even_power(node: Node) -> Node | None:
    """An even power of a norm, a root or an absolute value became a power of its radicand."""
    x, y = node.args
    exponent = _whole(y)
    if not exponent or exponent % 2:
        return None
    if made_by(x, "absolute"):
        return call("power", x.args[0], y)
    s = root(x)
    if s is None:
        z = _either_sign(x)
        return None if z is None else call("power", z, y)
    return s ** (exponent / 2)


def as_power(node: Node, depth: int = DEPTH) -> tuple[Node, Fraction]:
    """b and e > 0 with node = bᵉ, by the way it is written in roots, powers and products, wherever it is a number."""
    if depth and made_by(node, *_ROOTS, "square", "power"):
        outer = _exponent(node)
        base, e = as_power(node.args[0], depth - 1)
        if outer is not None and (
            outer.denominator == 1 or e.numerator % 2 == 1 or made_by(node, "cbrt") or sign_of(base) == 1
        ):
            return base, e * outer
    if depth and made_by(node, "multiply"):
        (base, e), (other, f) = (as_power(a, depth - 1) for a in node.args)
        if base is other:
            return base, e + f
    return node, Fraction(1)


_ROOTS = {"sqrt": Fraction(1, 2), "cbrt": Fraction(1, 3)}


def _exponent(node: Node) -> Fraction | None:
    """The positive number that a root, a square or a power raises its operand to."""
    if not made_by(node, "power"):
        return _ROOTS.get(node.op.name, Fraction(2))
    held = splat_value(node.args[1])
    if held is None or not 0 < held < 1e6:
        return None
    return Fraction(float(held)).limit_denominator(1000)


def whole_power(node: Node) -> Node | None:
    """Roots and fractional powers of one number whose product is a whole power of it became that power."""
    base, e = as_power(node)
    if base is node or e.denominator != 1 or not _is_fractional(node, base):
        return None
    power = base if e == 1 else call("square", base) if e == 2 else call("power", base, float(e))
    return power if sign_of(base) == 1 or _takes_negatives(node, base) else power * dsl.where(base < 0, math.nan, 1)


def _is_fractional(node: Node, base: Node) -> bool:
    """Whether a root or a fractional power lies between ``base`` and ``node``."""
    if node is base:
        return False
    if made_by(node, "multiply"):
        return any(_is_fractional(a, base) for a in node.args)
    outer = _exponent(node)
    return (outer is not None and outer.denominator > 1) or _is_fractional(node.args[0], base)


def root_of_even_power(node: Node) -> Node | None:
    """√(x²), √(x⁴), (x⁶)^½ … became |x|, x², |x|³ …"""
    (base, e), root = as_power(node.args[0]), _exponent(node)
    whole = e * (root or 0)
    if base is node.args[0] or whole < 1 or root is None or root.denominator == 1 or whole.denominator != 1:
        return None
    if e.denominator != 1 or e % 2 or _is_fractional(node.args[0], base):
        return None
    size = base if whole % 2 == 0 else call("absolute", base)
    return size if whole == 1 else call("square", size) if whole == 2 else call("power", size, float(whole))


def _takes_negatives(node: Node, base: Node) -> bool:
    """Whether ``node`` is written with cube roots alone, which negative numbers have."""
    if node is base:
        return True
    if made_by(node, "multiply"):
        return all(_takes_negatives(a, base) for a in node.args)
    return (made_by(node, "cbrt", "square") or _whole(node.args[-1]) is not None) and _takes_negatives(
        node.args[0], base
    )


def even_function(node: Node) -> Node | None:
    """cos or cosh of a norm, a root or an absolute value became an entire function of its radicand."""
    (x,) = node.args
    if made_by(x, "absolute", "negative"):
        return call(node.op.name, x.args[0])
    z = _either_sign(x)
    if z is not None:
        return call(node.op.name, z)
    s = root(x)
    return None if s is None else call("stumpff", s, k=0, hyperbolic=made_by(node, "cosh"))


def sine_over_root(node: Node) -> Node | None:
    """sin r/r and sinh r/r of a root r became an entire function of its radicand."""
    top, bottom = node.args
    if not made_by(top, "sin", "sinh") or top.args[0] is not bottom:
        return None
    s = root(bottom)
    return None if s is None else call("stumpff", s, k=1, hyperbolic=made_by(top, "sinh"))


def guarded_at_root_zero(node: Node) -> Node | None:
    """A guard at r = 0 around an entire function of r² that has that value there is not needed."""
    mask, value, other = node.args
    if not (made_by(mask, "equal") and made_by(other, "stumpff") and other.attrs["k"] == 1 and _whole(value) == 1):
        return None
    for r, zero in (mask.args, mask.args[::-1]):
        if _whole(zero) == 0 and _same_radicand(root(r), other.args[0]):
            return other
    return None


def _same_radicand(s: Node | None, t: Node) -> bool:
    """Whether both were written down from the same root."""
    if s is None:
        return False
    if s is t:
        return True
    same = s.op is t.op and len(s.args) == len(t.args) and s.attrs == t.attrs and bool(s.args)
    return same and all(a is b or _same_radicand(a, b) for a, b in zip(s.args, t.args, strict=True))


def _sine_times_root(x: Node, y: Node) -> Node | None:
    for sine, r in ((x, y), (y, x)):
        if made_by(sine, "sin", "sinh") and sine.args[0] is r:
            s = root(r)
            if s is not None and not made_by(r, "absolute"):
                return s * call("stumpff", s, k=1, hyperbolic=made_by(sine, "sinh"))
    return None


KINKS: dict[str, tuple[Rule, ...]] = {
    "absolute": (absolute_of_known_sign,),
    "maximum": (larger_of_both_signs,),
    "square": (square_of_root,),
    "multiply": (product_with_itself, size_from_sign, whole_power),
    "power": (even_power, whole_power, root_of_even_power),
    "cbrt": (whole_power,),
    "sqrt": (root_of_even_power,),
    "cos": (even_function,),
    "cosh": (even_function,),
    "divide": (sine_over_root, product_of_odd_functions),
    "where": (guarded_at_root_zero,),
}
