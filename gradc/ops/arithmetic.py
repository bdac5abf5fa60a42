"""Arithmetic, comparison, logic, bits, rounding and selection: the elementwise ops that are not transcendental.

Derivatives are written in the user's own DSL, which is NumPy.  `singular` states what the derivative is where the
mathematics leaves a choice.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gradc.aval import Aval, converted
from gradc.errors import DTypeError
from gradc.node import FUNCTIONS, Node, as_node, describe, dsl, here
from gradc.ops import elementwise as kind
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.record import Kind, Op, register

ANYWHERE = ((-3.0, 3.0),)
POSITIVE = ((0.1, 4.0),)


@cache
def step(S: Any, name: str) -> Any:
    """A SymPy function that is locally constant: its derivative is 0 wherever there is one."""
    return type(name, (S.Function,), {"fdiff": lambda self, argindex=1: S.Integer(0)})


# -- arithmetic --------------------------------------------------------------------------------------------------------
add = elementwise("add", sympy=lambda S, x, y: x + y, partials=lambda z, x, y: (1, 1), text="{0} + {1}")
subtract = elementwise(
    "subtract",
    sympy=lambda S, x, y: x - y,
    partials=lambda z, x, y: (1, -1),
    lower=lambda b, x, y: b.sub(x, y),
    text="{0} - {1}",
)
difference = elementwise(
    "difference",
    lambda x, y: np.where(x == y, x.dtype.type(0), x - y),
    like=np.logaddexp,
    public=False,
    sympy=lambda S, x, y: x - y,
    partials=lambda z, x, y: (1, -1),
    lower=lambda b, x, y: b.select(b.eq(x, y), b.const(0, x), b.sub(x, y)),
    text="{0} - {1}",
    doc="x − y, and 0 for two equal infinities; its derivative is that of x − y everywhere, also where x = y.",
)
multiply = elementwise(
    "multiply",
    sympy=lambda S, x, y: x * y,
    partials=lambda z, x, y: (y, x),
    lower=lambda b, x, y: b.mul(x, y),
    text="{0} * {1}",
)

def _strong_lower(b: Any, x: Any, y: Any) -> Any:
    zero = b.or_(b.eq(x, 0), b.eq(y, 0))
    return b.select(zero, b.const(0, x), b.mul(x, y))


strong_multiply = elementwise(
    "strong_multiply",
    lambda x, y: np.where((x == 0) | (y == 0), x.dtype.type(0), x * y),
    like=np.multiply,
    public=False,
    sympy=lambda S, x, y: x * y,
    partials=lambda z, x, y: (y, x),
    lower=_strong_lower,
    text="{0} * {1}",
    singular="bilinear in products of the same kind: 0 where the other factor is 0",
    doc="x·y, but 0 where a factor is 0, whatever the other one is: infinite and NaN too. How a tangent or cotangent "
    "meets a partial derivative that may be either; of finite numbers it is the product, up to the sign of a zero.",
)
divide = elementwise(
    "divide",
    sympy=lambda S, x, y: x / y,
    partials=lambda z, x, y: (1 / y, -z * (1 / y)),  # the reciprocal is one node for both, and for all quotients by y
    lower=lambda b, x, y: b.div(x, y),
    domain=((-3.0, 3.0), (0.5, 3.0)),
    text="{0} / {1}",
)
floor_divide = elementwise(
    "floor_divide",
    sympy=lambda S, x, y: step(S, "floor_divide")(x, y),
    partials=lambda z, x, y: (None, None),
    domain=((-3.0, 3.0), (0.5, 3.0)),
    text="{0} // {1}",
    singular="0 everywhere, also at the jumps",
)
remainder = elementwise(
    "remainder",
    sympy=lambda S, x, y: x - y * step(S, "floor_divide")(x, y),
    partials=lambda z, x, y: (1, -(x // y)),
    domain=((-3.0, 3.0), (0.5, 3.0)),
    text="{0} % {1}",
    singular="at a jump: the derivative of the branch on the right",
)
negative = elementwise(
    "negative",
    sympy=lambda S, x: -x,
    partials=lambda z, x: (-1,),
    lower=lambda b, x: b.neg(x),
    exact=True,
    text="-{0}",
)
positive = elementwise("positive", sympy=lambda S, x: x, partials=lambda z, x: (1,), lower=lambda b, x: x, exact=True)
square = elementwise(
    "square",
    sympy=lambda S, x: x**2,
    partials=lambda z, x: (2 * x,),
    lower=lambda b, x: b.mul(x, x),
    text="{0}²",
)


def _reciprocal(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.reciprocal(x)


reciprocal = elementwise(
    "reciprocal",
    _reciprocal,
    sympy=lambda S, x: 1 / x,
    partials=lambda z, x: (-z * z,),
    lower=lambda b, x: b.div(1.0, x),
    domain=POSITIVE,
    text="1 / {0}",
)


def _reciprocal_of(x: Any) -> Node:
    """1/x; NumPy's reciprocal of integers is 0 nearly everywhere, which nobody means: DTypeError."""
    node = as_node(x)
    if not node.aval.is_float:
        raise DTypeError(f"{here()}: reciprocal of integers ({describe(node)}) is 0 except at ±1; write 1 / x")
    return apply(reciprocal, node)


FUNCTIONS["reciprocal"] = _reciprocal_of


def _power_lower(b: Any, x: Any, y: Any) -> Any:
    return b.pow(x, y) if x.is_float else b.ipow(x, y)


power = elementwise(
    "power",
    sympy=lambda S, x, y: x**y,
    partials=lambda z, x, y: (apply(strong_multiply, y, x ** (y - 1)), np.log(np.where(x == 0, 1, x)) * z),
    lower=_power_lower,
    domain=((0.2, 3.0), (-2.0, 2.0)),
    text="{0}^{1}",
    singular="x**0: 0 in x; 0**y: 0 in y",
)


absolute = elementwise(
    "absolute",
    sympy=lambda S, x: S.Piecewise((x, x > 0), (-x, x < 0), (0, True)),
    partials=lambda z, x: (np.sign(x),),
    lower=lambda b, x: b.abs(x),
    exact=True,
    text="|{0}|",
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
    exact=True,
    singular="0 at 0",
)
maximum = elementwise(
    "maximum",
    sympy=lambda S, x, y: S.Piecewise((x, x > y), (y, x < y), ((x + y) / 2, True)),
    partials=lambda z, x, y: (_share(x > y, x == y, z), _share(x < y, x == y, z)),
    lower=lambda b, x, y: b.or_(x, y) if x.dtype == "bool" else b.max(x, y),
    exact=True,
    singular="at a tie each operand gets one half",
)
minimum = elementwise(
    "minimum",
    sympy=lambda S, x, y: S.Piecewise((x, x < y), (y, x > y), ((x + y) / 2, True)),
    partials=lambda z, x, y: (_share(x < y, x == y, z), _share(x > y, x == y, z)),
    lower=lambda b, x, y: b.and_(x, y) if x.dtype == "bool" else b.min(x, y),
    exact=True,
    singular="at a tie each operand gets one half",
)


def _share(wins: Node, ties: Node, like: Node) -> Node:
    one = np.ones((), like.dtype)
    return dsl.where(wins, one, np.where(ties, one / 2, one * 0))


relu = elementwise(
    "relu",
    lambda x: np.where(x > 0, x, np.where(np.isnan(x), x, x.dtype.type(0))),
    like=np.positive,
    sympy=lambda S, x: S.Piecewise((x, x > 0), (0, True)),
    partials=lambda z, x: (np.where(x > 0, np.ones((), x.dtype), np.zeros((), x.dtype)),),
    lower=lambda b, x: b.select(b.le(x, 0), b.const(0, x), x),
    exact=True,
    singular="0 at 0",
    doc="max(x, 0), with derivative 0 at 0.",
)

# -- comparison and logic ----------------------------------------------------------------------------------------------
PREDICATE: dict[str, Any] = {"partials": lambda z, *xs: (None,) * len(xs), "sympy": None}
for _name, _method, _text in (
    ("equal", "eq", "{0} = {1}"),
    ("not_equal", "ne", "{0} ≠ {1}"),
    ("less", "lt", "{0} < {1}"),
    ("less_equal", "le", "{0} ≤ {1}"),
    ("greater", "gt", "{0} > {1}"),
    ("greater_equal", "ge", "{0} ≥ {1}"),
):
    elementwise(_name, lower=lambda b, x, y, m=_method: getattr(b, m)(x, y), text=_text, **PREDICATE)


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
    elementwise(_name, lower=_not_finite_part(_name), **PREDICATE)

_LOGIC = {
    "logical_and": lambda b, x, y: b.and_(b.convert(x, "bool"), b.convert(y, "bool")),
    "logical_or": lambda b, x, y: b.or_(b.convert(x, "bool"), b.convert(y, "bool")),
    "logical_xor": lambda b, x, y: b.xor(b.convert(x, "bool"), b.convert(y, "bool")),
    "logical_not": lambda b, x: b.not_(b.convert(x, "bool")),
}


def _logical(op: Op) -> Any:
    def function(*operands: Any) -> Node:
        return apply(op, *[kind.cast(as_node(x), bool) for x in operands])

    function.__name__ = op.name
    function.__doc__ = f"Elementwise {op.name}; operands are read as x != 0."
    return function


for _name, _lower in _LOGIC.items():
    FUNCTIONS[_name] = _logical(elementwise(_name, lower=_lower, public=False, **PREDICATE))

elementwise("bitwise_and", lower=lambda b, x, y: b.and_(x, y), **PREDICATE)
elementwise("bitwise_or", lower=lambda b, x, y: b.or_(x, y), **PREDICATE)
elementwise("bitwise_xor", lower=lambda b, x, y: b.xor(x, y), **PREDICATE)
elementwise("bitwise_invert", np.invert, lower=lambda b, x: b.not_(x), **PREDICATE)
elementwise("bitwise_left_shift", np.left_shift, lower=lambda b, x, y: b.shift_left(x, y), **PREDICATE)
elementwise("bitwise_right_shift", np.right_shift, lower=lambda b, x, y: b.shift_right(x, y), **PREDICATE)

# -- rounding ----------------------------------------------------------------------------------------------------------


def _rounding(name: str, method: str) -> None:
    elementwise(
        name,
        sympy=lambda S, x: step(S, name)(x),
        partials=lambda z, x: (None,),
        lower=lambda b, x: getattr(b, method)(x) if x.is_float else x,
        singular="0 everywhere, also at the jumps",
        exact=True,
    )


for _name in ("floor", "ceil", "trunc", "rint"):
    _rounding(_name, _name)

# -- selection, casts, gates -------------------------------------------------------------------------------------------


def _where_infer(mask: Aval, x: Aval, y: Aval) -> Aval:
    return Aval(mask.shape, x.dtype)


where = register(
    Op(
        name="where",
        kind=Kind.ELEMENTWISE,
        infer=_where_infer,
        numpy=np.where,
        sympy=lambda S, m, x, y: S.Piecewise((x, S.Ne(m, 0)), (y, True)),
        linear=(1, 2),
        transpose=lambda ct, node, i: _where(node.args[0], *((ct, 0) if i == 1 else (0, ct))),
        batch=kind.batch,
        lower=lambda b, m, x, y: b.select(m, x, y),
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
        doc="Conversion to another dtype; a float beyond the integers of it becomes the nearest of them, NaN 0.",
    )
)
stop_gradient = elementwise(
    "stop_gradient",
    lambda x: x,
    like=np.positive,
    public=False,
    sympy=lambda S, x: step(S, "stop_gradient")(x),
    partials=lambda z, x: (None,),
    lower=lambda b, x: x,
    exact=True,
    doc="The identity, with derivative 0 everywhere, by definition.",
)


def _stop_gradient(x: Any) -> Node:
    node = as_node(x)
    return stop_gradient.make((node,)) if node.aval.is_float else node


FUNCTIONS["stop_gradient"] = _stop_gradient
