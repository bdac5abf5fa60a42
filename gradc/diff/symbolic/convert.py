"""SymPy expressions back to Nodes.

Enters: an expression over symbols that stand for Nodes.  Leaves: a Node, or a Python number where the expression is
one. Invariant: every SymPy function becomes the op of the same meaning; one that has no op is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradc.diff.symbolic.written_out import NoDefinitionError
from gradc.node import OPS, Node, constant
from gradc.ops.bessel import bessel_i, bessel_j, bessel_k, bessel_y
from gradc.ops.elementwise import apply, cast
from gradc.ops.integrals import expn_node

Value = Node | float

#: SymPy function -> op, where the names differ
_RENAMED = {
    "Abs": "absolute", "Max": "maximum", "Min": "minimum", "ceiling": "ceil", "loggamma": "lgamma", "binomial": "binom",
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2",
    "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "Ei": "expi", "Si": "sine_integral", "Ci": "cosine_integral", "Shi": "hyperbolic_sine_integral",
    "Chi": "hyperbolic_cosine_integral",
}  # fmt: skip
_RELATIONS = {
    "Equality": "equal", "Unequality": "not_equal", "StrictLessThan": "less", "LessThan": "less_equal",
    "StrictGreaterThan": "greater", "GreaterThan": "greater_equal",
}  # fmt: skip


class Reader:
    """Converts expressions over the same symbols; equal subexpressions become one Node.

    ``like`` gives the dtype of numbers that stand where an array is expected; ``of`` says whose derivative is read.
    """

    def __init__(self, leaves: Mapping[Any, Node], like: Node, of: str):
        self._known: dict[Any, Any] = dict(leaves)
        self._like = like
        self._of = of

    def define(self, symbol: Any, expr: Any) -> None:
        """Give a name that `sympy.cse` introduced its value."""
        self._known[symbol] = self.value(expr)

    def value(self, expr: Any) -> Any:
        """The Node (or number) that ``expr`` means."""
        if expr not in self._known:
            self._known[expr] = self._read(expr)
        return self._known[expr]

    def mask(self, condition: Any) -> Node:
        """A SymPy condition as a boolean Node."""
        held = self.value(condition)
        return held if isinstance(held, Node) else constant(np.bool_(held))

    def _read(self, expr: Any) -> Any:
        if getattr(expr, "is_number", False):
            return number(expr)
        if str(expr) in ("True", "False"):
            return str(expr) == "True"
        name = type(expr).__name__
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self, expr)
        if name in _RELATIONS:
            return self._relation(_RELATIONS[name], *expr.args)
        return self._function(name, expr)

    def _function(self, name: str, expr: Any) -> Node:
        op = OPS.get(_RENAMED.get(name, name))
        if op is None or not getattr(expr, "is_Function", False):
            raise NoDefinitionError(
                f"the SymPy derivative of {self._of} contains {name}, for which there is no op: {expr}"
            )
        operands = [self.value(a) for a in expr.args]
        result = operands[0] if len(operands) == 1 else None
        if result is not None or op.name not in ("maximum", "minimum"):
            return apply(op, *operands)
        result = operands[0]
        for operand in operands[1:]:
            result = apply(op, result, operand)
        return result

    def _relation(self, op: str, left: Any, right: Any) -> Node:
        a, b = self.value(left), self.value(right)
        if op == "not_equal" and isinstance(a, Node) and a.dtype == bool and right == 0:
            return a
        if op == "equal" and isinstance(a, Node) and a.dtype == bool and right == 0:
            return apply(OPS["logical_not"], a)
        return apply(OPS[op], a, b)

    def _sum(self, expr: Any) -> Value:
        terms = sorted(expr.args, key=lambda t: t.could_extract_minus_sign())
        total = self.value(terms[0])
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            part = self.value(-term if negative else term)
            total = apply(OPS["subtract" if negative else "add"], total, part)
        return total

    def _product(self, expr: Any) -> Value:
        above = [f for f in expr.args if not _is_reciprocal(f)]
        below = [1 / f for f in expr.args if _is_reciprocal(f)]
        top = self._times(above)
        return apply(OPS["divide"], top, self._times(below)) if below else top

    def _times(self, factors: list[Any]) -> Value:
        values = [self.value(f) for f in sorted(factors, key=lambda f: bool(f.is_number))]
        if not values:
            return 1
        total = values[0]
        for factor in values[1:]:
            if not isinstance(factor, Node) and factor in (1, -1):
                total = total if factor == 1 else apply(OPS["negative"], total)
            else:
                total = apply(OPS["multiply"], total, factor)
        return total

    def _power(self, expr: Any) -> Node:
        base, exponent = expr.as_base_exp()
        if exponent.is_number and exponent.is_negative:
            return apply(OPS["divide"], 1, self.value(base**-exponent))
        if exponent == 2:
            return apply(OPS["square"], self.value(base))
        if exponent.is_Rational and exponent.q == 2:
            root = apply(OPS["sqrt"], self.value(base))
            return root if exponent.p == 1 else apply(OPS["power"], root, int(exponent.p))
        return apply(OPS["power"], self.value(base), self.value(exponent))

    def _piecewise(self, expr: Any) -> Node:
        *first, (last, always) = expr.args
        result: Value = self.value(last)
        if str(always) != "True":
            result = self._choose(always, result, float("nan"))
        for value, condition in reversed(first):
            result = self._choose(condition, self.value(value), result)
        assert isinstance(result, Node)
        return result

    def _choose(self, condition: Any, yes: Value, no: Value) -> Node:
        mask = self.mask(condition)
        shape = self._like.shape
        args = (_shown(mask, shape), _shown(self._typed(yes), shape), _shown(self._typed(no), shape))
        return OPS["where"].make(args)

    def _typed(self, value: Value) -> Node:
        if isinstance(value, Node):
            return cast(value, self._like.dtype)
        return constant(np.asarray(value, self._like.dtype))

    def _logic(self, expr: Any) -> Node:
        op = OPS["logical_and" if type(expr).__name__ == "And" else "logical_or"]
        total, *rest = [self.mask(a) for a in expr.args]
        for condition in rest:
            total = apply(op, total, condition)
        return total

    def _polygamma(self, expr: Any) -> Node:
        order, x = int(expr.args[0]), self.value(expr.args[1])
        return apply(OPS["digamma"], x) if order == 0 else apply(OPS["polygamma"], x, n=order)

    def _expint(self, expr: Any) -> Node:
        return expn_node(int(expr.args[0]), self.value(expr.args[1]))

    def _bessel(self, expr: Any) -> Any:
        of = {"besselj": bessel_j, "bessely": bessel_y, "besseli": bessel_i, "besselk": bessel_k}
        return of[type(expr).__name__](float(expr.args[0]), self.value(expr.args[1]))

    def _elliptic(self, expr: Any) -> Node:
        """Complete integrals."""
        (m,) = expr.args
        return apply(OPS[type(expr).__name__], self.value(m), n=0)

    def _zeta(self, expr: Any) -> Node:
        """Riemann's of one operand, Hurwitz' of two."""
        operands = [self.value(a) for a in expr.args]
        return apply(OPS["riemann_zeta" if len(operands) == 1 else "hurwitz_zeta"], *operands)

    def _derivative(self, expr: Any) -> Node:
        """Of Hurwitz' zeta function in the exponent; SymPy leaves others standing too, for which there is no op."""
        return self._derivative_at(expr, expr, {})

    def _substituted(self, expr: Any) -> Node:
        """A derivative that SymPy takes in a symbol of its own and then puts an operand in place of."""
        return self._derivative_at(expr, expr.expr, dict(zip(expr.variables, expr.point, strict=True)))

    def _derivative_at(self, expr: Any, derivative: Any, place: dict[Any, Any]) -> Node:
        function: Any = getattr(derivative, "expr", None)
        if type(function).__name__ == "zeta" and len(function.args) == 2:
            ((by, count), *others), operands = derivative.variable_count, [place.get(a, a) for a in function.args]
            if not others and by == function.args[0]:
                return apply(OPS["zeta_derivative"], *map(self.value, operands), n=int(count))
        return self._function(type(expr).__name__, expr)

    def _polylog(self, expr: Any) -> Node:
        """Of orders 1 and 2."""
        order, rest = int(expr.args[0]), self.value(1 - expr.args[1])
        return apply(OPS["spence"], rest) if order == 2 else -apply(OPS["log"], rest)


_SPECIAL: dict[str, Callable[[Reader, Any], Any]] = {
    "Add": Reader._sum,
    "Mul": Reader._product,
    "Pow": Reader._power,
    "Piecewise": Reader._piecewise,
    "And": Reader._logic,
    "Or": Reader._logic,
    "Not": lambda reader, expr: apply(OPS["logical_not"], reader.mask(expr.args[0])),
    "polygamma": Reader._polygamma,
    "expint": Reader._expint,
    "polylog": Reader._polylog,
    "zeta": Reader._zeta,
    "Derivative": Reader._derivative,
    "Subs": Reader._substituted,
    "elliptic_k": Reader._elliptic,
    "elliptic_e": Reader._elliptic,
    **dict.fromkeys(("besselj", "bessely", "besseli", "besselk"), Reader._bessel),
}


def number(expr: Any) -> float:
    """A numeric expression as the nearest Python number; what has no real value is NaN."""
    if expr.is_Integer:
        return int(expr)
    try:
        return float(expr)
    except (TypeError, ValueError):
        return float("nan")


def _is_reciprocal(factor: Any) -> bool:
    return bool(factor.is_Pow and factor.exp.is_number and factor.exp.is_negative)


def _shown(node: Node, shape: tuple[int, ...]) -> Node:
    if node.shape == shape:
        return node
    return OPS["broadcast"].make((node,), shape=shape, axes=tuple(range(len(shape) - node.ndim, len(shape))))
