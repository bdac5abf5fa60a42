"""Arithmetic, comparison, logic, bits, rounding and selection: the elementwise ops that are not transcendental.

Derivatives are written in the user's own DSL, which is NumPy.  `singular` states what the derivative is where the
mathematics leaves a choice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from gradc.aval import Aval, converted
from gradc.errors import DTypeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, dsl, here
from gradc.ops import elementwise as kind
from gradc.ops.arguments import refuse_unless_harmless
from gradc.ops.consistent import must_be_truth, same_dtype, same_shape
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.ranges import ALWAYS, INF, NOTHING, TRUTH, Hazard, Range, Zeros, as_factor, bounded, is_zero
from gradc.ops.record import Kind, Op, Sample, register
from gradc.ops.rounding import error_of_product, sum_of_errors
from gradc.ops.slopes import power_slope

POSITIVE = ((0.1, 4.0),)
#: costs of what is as cheap as an addition; `LIGHT`: on every target
CHEAP: dict[str, Any] = {"cost": 1.0}
LIGHT: dict[str, Any] = {"cost": 1.0, "light": True}


@cache
def step(S: Any, name: str) -> Any:
    """A SymPy function that is locally constant: its derivative is 0 wherever there is one."""
    return type(name, (S.Function,), {"fdiff": lambda self, argindex=1: S.Integer(0)})


# -- arithmetic --------------------------------------------------------------------------------------------------------
add = elementwise(
    "add",
    sign="+",
    sympy=lambda S, x, y: x + y,
    partials=lambda z, x, y: (1, 1),
    **LIGHT,
    linear=(0, 1),
    ulp=0.5,
    moved=sum_of_errors,
    range=lambda z, x, y: x + y,
)


def _difference(node: Node, x: Range, y: Range) -> Range:
    """No element exceeds the maximum that is taken off it; where all are −∞ by a mask, what is left is NaN."""
    found = x - y
    if not _takes_off_the_top(node):
        return found
    hazard = max(found.hazard, Hazard.NAN) if _may_mask_all(node.args[0], _top_axes(node.args[1])) else found.hazard
    return bounded(found.lo, min(found.hi, 0.0), hazard)


def _top_axes(top: Node) -> tuple[int, ...]:
    """The axes over which an upper bound was taken."""
    while not top.op.upper_bound:
        (top,) = top.args
    axes: tuple[int, ...] = top.attrs["axes"]
    return axes


def _may_mask_all(x: Node, axes: tuple[int, ...]) -> bool:
    """Whether a selection may put −∞ in the place of everything along ``axes``, or a known number that is added does:
    not if its mask is known and never does."""
    while x.op is OPS["cast"]:
        (x,) = x.args
    if x.op is OPS["add"]:
        added = [held for a in x.args if (held := _written_down(a)) is not None]
        return any(bool(np.any(np.all(np.isneginf(held), axis=axes))) for held in added)
    if x.op is not OPS["where"]:
        return False
    mask, *choices = (_written_down(a) for a in x.args)
    for at, choice in zip((True, False), choices, strict=True):
        if choice is not None and np.any(np.isneginf(choice)):
            return mask is None or bool(np.any(np.all((mask == at) & np.isneginf(choice), axis=axes)))
    return False


def _written_down(node: Node) -> Any:
    """The value of a constant, shown along other axes or not; None if there is none."""
    if node.op.kind is Kind.CONSTANT:
        return node.attrs["value"]
    if node.op in (OPS["broadcast"], OPS["cast"]) and (value := _written_down(node.args[0])) is not None:
        return node.op.evaluate(value, **node.attrs)
    return None


def _takes_off_the_top(node: Node) -> bool:
    """Whether an upper bound of the first operand's elements, shown again along the axes it was taken over, is the
    second."""
    x, y = node.args
    labels = tuple(range(y.ndim))
    while True:
        inner = y.args[0] if y.args else y
        if y.op is OPS["broadcast"]:
            axes = y.attrs["axes"]
            labels = tuple(labels[a] if n == y.shape[a] else -1 for n, a in zip(inner.shape, axes, strict=True))
        elif y.op is OPS["reshape"] and [n for n in y.shape if n != 1] == [n for n in inner.shape if n != 1]:
            left = iter([k for n, k in zip(y.shape, labels, strict=True) if n != 1])
            labels = tuple(next(left) if n != 1 else -1 for n in inner.shape)
        elif y.op is not OPS["stop_gradient"]:
            break
        y = inner
    if not y.op.upper_bound or y.args[0] is not x:
        return False
    kept = [a for a in range(x.ndim) if a not in y.attrs["axes"]]
    return all(a == k or (k == -1 and x.shape[a] == 1) for a, k in zip(kept, labels, strict=True))


subtract = elementwise(
    "subtract",
    sign="−",
    sympy=lambda S, x, y: x - y,
    partials=lambda z, x, y: (1, -1),
    **LIGHT,
    linear=(0, 1),
    ulp=0.5,
    moved=sum_of_errors,
    range=_difference,
    lower=lambda b, x, y: b.sub(x, y),
)
difference = elementwise(
    "difference",
    lambda x, y: np.where(x == y, x.dtype.type(0), x - y),
    like=np.logaddexp,
    public=False,
    sympy=lambda S, x, y: x - y,
    partials=lambda z, x, y: (1, -1),
    lower=lambda b, x, y: b.select(b.eq(x, y), b.const(0, x), b.sub(x, y)),
    **LIGHT,
    ulp=0.5,
    range=_difference,
    doc="x − y, and 0 for two equal infinities; its derivative is that of x − y everywhere, also where x = y.",
)

shifted = elementwise(
    "shifted",
    lambda x, y: np.where(np.isfinite(y), x - y, x),
    like=np.logaddexp,
    public=False,
    sympy=lambda S, x, y: x - y,
    partials=lambda z, x, y: (1, -1),
    lower=lambda b, x, y: b.select(b.lt(b.abs(y), INF), b.sub(x, y), x),
    **LIGHT,
    ulp=0.5,
    range=_difference,
    doc="x − y, and x where y is not finite: how SciPy takes the maximum off before a sum of exponentials. Its "
    "derivative is that of x − y everywhere.",
)


def _product(node: Node, x: Range, y: Range) -> Range:
    """Of x·x and x·(−x) the sign is known; a selection of constants as a factor is no guard but a number."""
    a, b = node.args
    if a is b:
        return x.square()
    if b.op is OPS["negative"] and b.args[0] is a:
        return -x.square()
    if a.op is OPS["negative"] and a.args[0] is b:
        return -y.square()
    return as_factor(a) * as_factor(b)


multiply = elementwise(
    "multiply",
    sign="·",
    sympy=lambda S, x, y: x * y,
    partials=lambda z, x, y: (y, x),
    lower=lambda b, x, y: b.mul(x, y),
    **LIGHT,
    linear=(0, 1),
    multilinear=True,
    ulp=0.5,
    moved=error_of_product,
    range=_product,
)


def _strong_numpy(x: Any, y: Any, left: bool = True, right: bool = True) -> Any:
    zero = (left & (x == 0)) | (right & (y == 0))
    return np.where(zero, x.dtype.type(0), x * y)


def _strong_lower(b: Any, x: Any, y: Any, left: bool = True, right: bool = True) -> Any:
    zero, *more = (b.eq(f, 0) for f, strong in ((x, left), (y, right)) if strong)
    return b.select(b.or_(zero, *more) if more else zero, b.const(0, x), b.mul(x, y))


strong_multiply = elementwise(
    "strong_multiply",
    _strong_numpy,
    like=np.multiply,
    public=False,
    sympy=lambda S, x, y, **strong: x * y,
    partials=lambda z, x, y, **strong: (y, x),
    lower=_strong_lower,
    **LIGHT,
    linear=(0, 1),
    multilinear=True,
    ulp=0.5,
    range=_product,
    singular="bilinear in products of the same kind: 0 where the other factor is 0",
    doc="x·y, but 0 where a factor is 0, whatever the other one is: infinite and NaN too. How a tangent or cotangent "
    "meets a partial derivative that may be either; of finite numbers it is the product, up to the sign of a zero. "
    "With left=False or right=False the zeros of that factor are like any.",
)
divide = elementwise(
    "divide",
    sign="/",
    sympy=lambda S, x, y: x / y,
    partials=lambda z, x, y: (1 / y, -z * (1 / y)),  # the reciprocal is one node for both, and for all quotients by y
    lower=lambda b, x, y: b.div(x, y),
    cost=4.0,
    light=True,
    linear=(0,),
    transpose=lambda ct, node, i: ct / node.args[1],
    ulp=0.5,
    range=lambda z, x, y: x * y.inverse(),
    domain=((-3.0, 3.0), (0.5, 3.0)),
    special={(1.0, 0.0): (INF, -INF), (1.0, INF): (0.0, 0.0)},
)


def _unless_over_zero(node: Node, x: Range, y: Range) -> Range:
    return Range(hazard=max(x.hazard, y.hazard, Hazard.ARITHMETIC)).defined(y.zeros is Zeros.NEVER)


floor_divide = elementwise(
    "floor_divide",
    sympy=lambda S, x, y: step(S, "floor_divide")(x, y),
    partials=lambda z, x, y: (None, None),
    cost=8.0,
    side=lambda value, *xs: value,
    range=_unless_over_zero,
    domain=((-3.0, 3.0), (0.5, 3.0)),
    singular="0 everywhere, also at the jumps",
)
remainder = elementwise(
    "remainder",
    sympy=lambda S, x, y: x - y * step(S, "floor_divide")(x, y),
    partials=lambda z, x, y: (1, -(x // y)),
    cost=8.0,
    side=lambda value, x, y: np.floor(x / y),
    range=_unless_over_zero,
    domain=((-3.0, 3.0), (0.5, 3.0)),
    singular="at a jump: the derivative of the branch on the right",
)
negative = elementwise(
    "negative",
    sympy=lambda S, x: -x,
    partials=lambda z, x: (-1,),
    lower=lambda b, x: b.neg(x),
    **LIGHT,
    linear=(0,),
    moved=sum_of_errors,
    range=lambda z, x: -x,
    exact=True,
)
positive = elementwise(
    "positive",
    sympy=lambda S, x: x,
    partials=lambda z, x: (1,),
    lower=lambda b, x: x,
    cost=0.0,
    light=True,
    linear=(0,),
    range=lambda z, x: x,
    exact=True,
)
extended = elementwise(
    "extended",
    lambda x: np.positive(x),
    sympy=lambda S, x: x,
    partials=lambda z, x: (1,),
    lower=lambda b, x: x,
    cost=0.0,
    light=True,
    linear=(0,),
    range=lambda z, x: x if x.size().hi < INF else replace(x, hazard=max(x.hazard, Hazard.GROWTH)),
    exact=True,
    public=False,
    doc="x, of which infinities are to be reckoned with like overflow: a slope that has faded to 0 stays 0 beside it.",
)
square = elementwise(
    "square",
    sympy=lambda S, x: x**2,
    partials=lambda z, x: (2 * x,),
    lower=lambda b, x: b.mul(x, x),
    **LIGHT,
    ulp=0.5,
    range=lambda z, x: x.square(),
    special={INF: INF, -INF: -INF},
)


def _reciprocal(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.reciprocal(x)


reciprocal = elementwise(
    "reciprocal",
    _reciprocal,
    sympy=lambda S, x: 1 / x,
    partials=lambda z, x: (-z * z,),
    lower=lambda b, x: b.div(1.0, x),
    cost=4.0,
    ulp=0.5,
    range=lambda z, x: x.inverse(),
    domain=POSITIVE,
    special={0.0: -INF, INF: 0.0, -INF: 0.0},
)


def _reciprocal_of(x: Any, *, dtype: Any = None, **kwargs: Any) -> Node:
    """1/x; NumPy's reciprocal of integers is 0 nearly everywhere, which nobody means: DTypeError."""
    for key, value in kwargs.items():
        refuse_unless_harmless("reciprocal", key, value, ("dtype",))
    node = as_node(x) if dtype is None else kind.cast(as_node(x), dtype)
    if not node.aval.is_float:
        raise DTypeError(f"{here()}: reciprocal of integers ({describe(node)}) is 0 except at ±1; write 1 / x")
    return apply(reciprocal, node)


FUNCTIONS["reciprocal"] = _reciprocal_of


def _power_lower(b: Any, x: Any, y: Any) -> Any:
    return b.pow(x, y) if x.is_float else b.ipow(x, y)


def _power_partials(z: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """y·xʸ⁻¹ and z·log x; a known exponent takes part in no further derivative, and keeps the first one simple."""
    known = _written_down(y) is not None
    in_x = apply(strong_multiply, y, x ** (y - 1)) if known else power_slope(x, y, 1, 0)
    return in_x, power_slope(x, y, 0, 1)


def _power_range(node: Node, x: Range, y: Range) -> Range:
    """Whole exponents are products, others need a base that is not negative; below 0 they need one that is not 0."""
    whole = y.lo == y.hi and y.lo.is_integer()
    low = 0.0 if x.lo >= 0 or (whole and y.lo % 2 == 0) else -INF
    grows = Hazard.ARITHMETIC if whole else Hazard.GROWTH
    inside = (whole or x.lo >= 0) and (y.lo >= 0 or x.zeros is Zeros.NEVER)
    domain = Hazard.NAN if y.lo >= 0 else Hazard.POLE
    return bounded(low, INF, max(x.hazard, y.hazard, grows), x.zeros).defined(inside, domain)


power = elementwise(
    "power",
    sympy=lambda S, x, y: x**y,
    partials=_power_partials,
    lower=_power_lower,
    fails="i",
    ulp=(0.57, 1.8),
    whole=True,
    range=_power_range,
    domain=((0.2, 3.0), (-2.0, 2.0)),
    special={(0.0, 0.0): (0.0, 0.0), (0.0, 1.0): (1.0, 0.0), (0.0, 2.0): (0.0, 0.0), (0.0, 0.5): (INF, 0.0)},
    singular="x**0: 0 in x; 0**y: 0 in y for y >= 0",
)


absolute = elementwise(
    "absolute",
    sympy=lambda S, x: S.Piecewise((x, x > 0), (-x, x < 0), (0, True)),
    partials=lambda z, x: (np.sign(x),),
    lower=lambda b, x: b.abs(x),
    **LIGHT,
    side=lambda value, x: np.sign(x),
    range=lambda z, x: x.size(),
    exact=True,
    special={0.0: 0.0, INF: 1.0, -INF: -1.0},
    singular="0 at 0",
)


def _sign_lower(b: Any, x: Any) -> Any:
    result = b.select(b.gt(x, 0), b.const(1, x), b.const(0, x))
    if not (x.is_float or x.is_signed):
        return result
    result = b.select(b.lt(x, 0), b.const(-1, x), result)
    return b.select(b.isnan(x), x, result) if x.is_float else result


sign = elementwise(
    "sign",
    sympy=lambda S, x: step(S, "sign")(x),
    partials=lambda z, x: (None,),
    lower=_sign_lower,
    cost=1.0,
    side=lambda value, *xs: value,
    range=lambda z, x: Range(-1.0, 1.0, x.hazard, x.zeros),
    exact=True,
    singular="0 at 0",
)
maximum = elementwise(
    "maximum",
    sympy=lambda S, x, y: S.Piecewise((x, x > y), (y, x < y), ((x + y) / 2, True)),
    partials=lambda z, x, y: (_share(x > y, x < y, z), _share(x < y, x > y, z)),
    lower=lambda b, x, y: b.or_(x, y) if x.dtype == "bool" else b.max(x, y),
    **LIGHT,
    side=lambda value, x, y: np.sign(x - y),
    title="max",
    range=lambda z, x, y: bounded(max(x.lo, y.lo), max(x.hi, y.hi), max(x.hazard, y.hazard)),
    exact=True,
    special={(INF, INF): (0.5, 0.5), (-INF, -INF): (0.5, 0.5), (INF, 1.0): (1.0, 0.0)},
    singular="at a tie each operand gets one half",
)
minimum = elementwise(
    "minimum",
    sympy=lambda S, x, y: S.Piecewise((x, x < y), (y, x > y), ((x + y) / 2, True)),
    partials=lambda z, x, y: (_share(x < y, x > y, z), _share(x > y, x < y, z)),
    lower=lambda b, x, y: b.and_(x, y) if x.dtype == "bool" else b.min(x, y),
    **LIGHT,
    side=lambda value, x, y: np.sign(x - y),
    title="min",
    range=lambda z, x, y: bounded(min(x.lo, y.lo), min(x.hi, y.hi), max(x.hazard, y.hazard)),
    exact=True,
    special={(INF, INF): (0.5, 0.5), (-INF, -INF): (0.5, 0.5), (INF, 1.0): (0.0, 1.0)},
    singular="at a tie each operand gets one half",
)


def _share(wins: Node, loses: Node, like: Node) -> Node:
    """1 for what is taken and 0 for the other; a tie is shared, and so is NaN, which then comes out of both."""
    one = np.ones((), like.dtype)
    return dsl.where(wins, one, np.where(loses, one * 0, one / 2))


relu = elementwise(
    "relu",
    lambda x: np.where(x > 0, x, np.where(np.isnan(x), x, x.dtype.type(0))),
    like=np.positive,
    sympy=lambda S, x: S.Piecewise((x, x > 0), (0, True)),
    partials=lambda z, x: (np.where(x <= 0, np.zeros((), x.dtype), np.ones((), x.dtype)),),  # 1 at NaN: it comes out
    lower=lambda b, x: b.select(b.le(x, 0), b.const(0, x), x),
    **LIGHT,
    side=lambda value, x: np.sign(x),
    range=lambda z, x: bounded(max(x.lo, 0.0), max(x.hi, 0.0), x.hazard),
    exact=True,
    special={0.0: 0.0, INF: 1.0, -INF: 0.0},
    singular="0 at 0",
    doc="max(x, 0), with derivative 0 at 0.",
)

# -- comparison and logic ----------------------------------------------------------------------------------------------


def _compared(name: str) -> Any:
    """The range of a comparison, which is known where the operands are constants or bounds decide it."""

    def found(node: Node, x: Range, y: Range) -> Range:
        if max(x.hazard, y.hazard) is not Hazard.NONE:
            return TRUTH
        answers = {bool(getattr(np, name)(a, b)) for a in (x.lo, x.hi) for b in (y.lo, y.hi)}
        apart = x.hi < y.lo or y.hi < x.lo
        if len(answers) > 1 or not (apart or (x.lo == x.hi and y.lo == y.hi)):
            return TRUTH
        return ALWAYS if answers.pop() else NOTHING

    return found


PREDICATE: dict[str, Any] = {"partials": lambda z, *xs: (None,) * len(xs), "sympy": None}


def _comparison(name: str, method: str, sign: str, **facets: Any) -> Op:
    def lower(b: Any, x: Any, y: Any) -> Any:
        return getattr(b, method)(x, y)

    return elementwise(name, lower=lower, range=_compared(name), relation=sign, **facets, **LIGHT, **PREDICATE)


equal = _comparison("equal", "eq", "=")
not_equal = _comparison("not_equal", "ne", "≠")
less = _comparison("less", "lt", "<", ordered=True)
less_equal = _comparison("less_equal", "le", "≤", ordered=True)
greater = _comparison("greater", "gt", ">", ordered=True)
greater_equal = _comparison("greater_equal", "ge", "≥", ordered=True)


def _not_finite_part(method: str) -> Any:
    def lower(b: Any, x: Any) -> Any:
        if not x.is_float:
            return b.const(method == "isfinite", "bool")
        if method == "isnan":
            return b.isnan(x)
        magnitude = b.abs(x)
        return b.eq(magnitude, float("inf")) if method == "isinf" else b.lt(magnitude, float("inf"))

    return lower


for _name in ("isnan", "isinf", "isfinite"):
    elementwise(_name, lower=_not_finite_part(_name), **CHEAP, **PREDICATE)


def _logical(name: str, title: str, lower: Any) -> Op:
    def of_truth(b: Any, *operands: Any) -> Any:
        return lower(b, *[b.convert(x, "bool") for x in operands])

    op = elementwise(name, lower=of_truth, title=title, public=False, **LIGHT, **PREDICATE)

    def function(*operands: Any, **kwargs: Any) -> Node:
        for key, value in kwargs.items():
            refuse_unless_harmless(op.name, key, value)
        return apply(op, *[kind.cast(as_node(x), bool) for x in operands])

    function.__name__ = op.name
    function.__doc__ = f"Elementwise {op.name}; operands are read as x != 0."
    FUNCTIONS[name] = function
    return op


logical_and = _logical("logical_and", "and", lambda b, x, y: b.and_(x, y))
logical_or = _logical("logical_or", "or", lambda b, x, y: b.or_(x, y))
logical_xor = _logical("logical_xor", "", lambda b, x, y: b.xor(x, y))
logical_not = _logical("logical_not", "not", lambda b, x: b.not_(x))

elementwise("bitwise_and", lower=lambda b, x, y: b.and_(x, y), **CHEAP, **PREDICATE)
elementwise("bitwise_or", lower=lambda b, x, y: b.or_(x, y), **CHEAP, **PREDICATE)
elementwise("bitwise_xor", lower=lambda b, x, y: b.xor(x, y), **CHEAP, **PREDICATE)
elementwise("bitwise_invert", np.invert, title="not", lower=lambda b, x: b.not_(x), **CHEAP, **PREDICATE)
elementwise("bitwise_left_shift", np.left_shift, lower=lambda b, x, y: b.shift_left(x, y), **CHEAP, **PREDICATE)
elementwise("bitwise_right_shift", np.right_shift, lower=lambda b, x, y: b.shift_right(x, y), **CHEAP, **PREDICATE)

# -- rounding ----------------------------------------------------------------------------------------------------------


def _down(x: float) -> float:
    return float(np.floor(x))


def _rounding(name: str, method: str) -> None:
    elementwise(
        name,
        sympy=lambda S, x: step(S, name)(x),
        partials=lambda z, x: (None,),
        lower=lambda b, x: getattr(b, method)(x) if x.is_float else x,
        side=lambda value, x: value,
        **CHEAP,
        range=lambda z, x: bounded(_down(x.lo), -_down(-x.hi), x.hazard),
        singular="0 everywhere, also at the jumps",
        exact=True,
    )


for _name in ("floor", "ceil", "trunc", "rint"):
    _rounding(_name, _name)

# -- selection, casts, gates -------------------------------------------------------------------------------------------


def _where_infer(mask: Aval, x: Aval, y: Aval) -> Aval:
    must_be_truth(mask)
    same_dtype((x, y))
    same_shape((mask, x, y))
    return Aval(mask.shape, x.dtype)


def _where_range(node: Node, mask: Range, x: Range, y: Range) -> Range:
    """0 instead of a value is a guard."""
    m, a, b = node.args
    if mask.lo == mask.hi:
        return x if mask.lo else y
    x, y = _where_true(m, a, x), _where_false(m, b, y)
    for kept, other in ((x, y), (y, x)):
        if other.lo == other.hi == 0 and other.hazard is Hazard.NONE:
            return kept.among_zeros()
    return x.joined(y)


def _where_true(mask: Node, x: Node, known: Range) -> Range:
    """What the comparison says of ``x`` where it holds: x > 0, 0 < x, x ≠ 0."""
    if mask.op is OPS["not_equal"] and _compares(mask, x) is not None:
        return replace(known, zeros=Zeros.NEVER)
    for name, op in (("greater", 0), ("less", 1)):
        if mask.op is OPS[name] and mask.args[op] is x and is_zero(mask.args[1 - op]):
            return replace(known, lo=max(known.lo, 0.0), zeros=Zeros.NEVER)
        if mask.op is OPS[name] and mask.args[1 - op] is x and is_zero(mask.args[op]):
            return replace(known, hi=min(known.hi, 0.0), zeros=Zeros.NEVER)
    return known


def _where_false(mask: Node, x: Node, known: Range) -> Range:
    """x = 0 and not taken: x is not 0."""
    if mask.op is OPS["equal"] and _compares(mask, x) is not None:
        return replace(known, zeros=Zeros.NEVER)
    return known


def _compares(mask: Node, x: Node) -> Node | None:
    """The zero that ``x`` is compared with."""
    a, b = mask.args
    return b if a is x and is_zero(b) else a if b is x and is_zero(a) else None


where = register(
    Op(
        name="where",
        kind=Kind.ELEMENTWISE,
        infer=_where_infer,
        numpy=np.where,
        sympy=lambda S, m, x, y: S.Piecewise((x, S.Ne(m, 0)), (y, True)),
        linear=(1, 2),
        chooses=True,
        transpose=lambda ct, node, i: _where(node.args[0], *((ct, 0) if i == 1 else (0, ct))),
        batch=kind.batch,
        lower=lambda b, m, x, y: b.select(m, x, y),
        cost=0.5,
        light=True,
        range=_where_range,
        exact=True,
        singular="only the chosen branch has a derivative",
        doc="x where the mask holds, else y.",
    )
)


def _where(condition: Any, x: Any = None, y: Any = None) -> Node:
    if x is None or y is None:
        raise DTypeError(f"{here()}: np.where(mask) alone has a value-dependent shape; give all three arguments")
    mask, a, b = kind.cast(as_node(condition), bool), as_node(x), as_node(y)
    dtype = kind.loop_dtypes("maximum", [a.aval, b.aval])[-1]
    a, b = kind.cast(a, dtype), kind.cast(b, dtype)
    shape = kind.common_shape("where", (mask, a, b))
    args = tuple(kind.broadcast_to(v, shape) for v in (mask, a, b))
    return Node(where, args, {}, Aval(shape, dtype))  # np.where gives arrays, never Python numbers


FUNCTIONS["where"] = _where


cast = register(
    Op(
        name="cast",
        kind=Kind.ELEMENTWISE,
        infer=lambda x, dtype: Aval(x.shape, dtype),
        numpy=lambda x, dtype: converted(x, dtype),
        sympy=lambda S, x, dtype: x,
        linear=(0,),
        transpose=lambda ct, node, i: kind.cast(ct, node.args[0].dtype),
        batch=kind.batch,
        lower=lambda b, x, dtype: b.convert(x, str(dtype)),
        converts=True,
        samples=(Sample(((),), {"dtype": np.dtype(np.float64)}),),
        cost=0.5,
        light=True,
        ulp=0.5,
        range=lambda node, x: x,
        doc="Conversion to another dtype; a float beyond the integers of it becomes the nearest of them, NaN 0.",
    )
)
stop_gradient = elementwise(
    "stop_gradient",
    lambda x: x,
    stops=True,
    like=np.positive,
    public=False,
    sympy=lambda S, x: step(S, "stop_gradient")(x),
    partials=lambda z, x: (None,),
    lower=lambda b, x: x,
    cost=0.0,
    light=True,
    range=lambda z, x: x,
    exact=True,
    doc="The identity, with derivative 0 everywhere, by definition.",
)


def _stop_gradient(x: Any) -> Node:
    node = as_node(x)
    return stop_gradient.make((node,)) if node.aval.is_float else node


FUNCTIONS["stop_gradient"] = _stop_gradient
