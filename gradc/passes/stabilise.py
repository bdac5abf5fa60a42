"""Numerically unstable forms become the stable form of the same function, and the user is told.

Runs before a derivative is taken: the derivative of log(softmax(x)) written naively is 0/0 where the stable form's is
p − y.  References: Goldberg 1991 (log1p, expm1); Blanchard, Higham & Higham 2021 (logsumexp, softmax); Mächler 2012
(log1pexp).
"""

from __future__ import annotations

from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.reductions import below_finite_maximum, is_below_maximum
from gradc.passes.fold import splat_value
from gradc.passes.kinks import KINKS
from gradc.passes.rules import Rule, apply_rules, call, made_by


def stabilise(graph: Graph) -> Graph:
    """Replace unstable patterns; each replacement adds a note with the rule's words and the source line."""
    return apply_rules(graph, RULES, lambda rule, node: f"{node.where}: {_words(rule)}")


def _words(rule: Rule) -> str:
    return (rule.__doc__ or rule.__name__).strip().rstrip(".")


def _constant(node: Node, value: float) -> bool:
    held = splat_value(node)
    return held is not None and bool(held == value)


def _pair(node: Node, value: float) -> Node | None:
    """The other operand of a two-operand node that has the constant ``value`` as one operand."""
    x, y = node.args
    return y if _constant(x, value) else x if _constant(y, value) else None


# -- logarithms --------------------------------------------------------------------------------------------------------


def log_of_exp(node: Node) -> Node | None:
    """log(exp(x)) became x."""
    (x,) = node.args
    return x.args[0] if made_by(x, "exp") else None


def log_of_quotient_of_exp(node: Node) -> Node | None:
    """log(exp(x) / s) became x − log(s)."""
    (x,) = node.args
    if made_by(x, "divide") and made_by(x.args[0], "exp"):
        return x.args[0].args[0] - call("log", x.args[1])
    return None


def log_of_product_with_exp(node: Node) -> Node | None:
    """log(exp(x) · s) became x + log(s)."""
    (x,) = node.args
    if made_by(x, "multiply"):
        for a, b in (x.args, x.args[::-1]):
            if made_by(a, "exp"):
                return a.args[0] + call("log", b)
    return None


def log_of_sum_of_exp(node: Node) -> Node | None:
    """log(sum(exp(x))) became logsumexp(x)."""
    (total,) = node.args
    if made_by(total, "sum") and made_by(total.args[0], "exp"):
        return OPS["logsumexp"].make((total.args[0].args[0],), **total.attrs)
    return None


def log_of_view(node: Node) -> Node | None:
    """log moved through a broadcast or reshape of a sum of exponentials."""
    (x,) = node.args
    if x.op.name in ("broadcast", "reshape") and made_by(_beneath_views(x), "sum"):
        inner = call("log", x.args[0])
        return x.op.make((inner,), **x.attrs)
    return None


def _beneath_views(node: Node) -> Node:
    while node.op.name in ("broadcast", "reshape"):
        node = node.args[0]
    return node


def log_of_one_plus(node: Node) -> Node | None:
    """log(1 + x) became log1p(x)."""
    (x,) = node.args
    if made_by(x, "add"):
        rest = _pair(x, 1)
        return None if rest is None else call("log1p", rest)
    if made_by(x, "subtract") and _constant(x.args[0], 1):
        return call("log1p", -x.args[1])
    return None


def log1p_of_exp(node: Node) -> Node | None:
    """log(1 + exp(x)) became softplus(x)."""
    (x,) = node.args
    return call("softplus", x.args[0]) if made_by(x, "exp") else None


def log_of_sigmoid(node: Node) -> Node | None:
    """log(sigmoid(x)) became −softplus(−x)."""
    (x,) = node.args
    return -call("softplus", -x.args[0]) if made_by(x, "sigmoid") else None


def log1p_of_minus_sigmoid(node: Node) -> Node | None:
    """log(1 − sigmoid(x)) became −softplus(x)."""
    (x,) = node.args
    if made_by(x, "negative") and made_by(x.args[0], "sigmoid"):
        return -call("softplus", x.args[0].args[0])
    return None


# -- quotients ---------------------------------------------------------------------------------------------------------


def softmax_quotient(node: Node) -> Node | None:
    """exp(x) / sum(exp(x)) became exp(x − logsumexp(x))."""
    top, bottom = node.args
    total = _beneath_views(bottom)
    if not (made_by(top, "exp") and made_by(total, "sum") and total.args[0] is top and bottom is not total):
        return None
    x = top.args[0]
    lse: Node = OPS["logsumexp"].make((x,), **total.attrs)
    return call("exp", x - _shown_as(bottom, total, lse))


def difference_from_logsumexp(node: Node) -> Node | None:
    """x − logsumexp(x) became that of x − max(x)."""
    x, shown = node.args
    lse = _beneath_views(shown)
    if not made_by(lse, "logsumexp") or lse.args[0] is not x or is_below_maximum(x, **lse.attrs):
        return None
    shifted = below_finite_maximum(x, **lse.attrs)
    return shifted - _shown_as(shown, lse, OPS["logsumexp"].make((shifted,), **lse.attrs))


def _shown_as(view: Node, old: Node, new: Node) -> Node:
    """The chain of views from ``old`` to ``view``, on ``new``."""
    chain = []
    while view is not old:
        chain.append(view)
        view = view.args[0]
    for step in reversed(chain):
        new = step.op.make((new,), **step.attrs)
    return new


def logistic_quotient(node: Node) -> Node | None:
    """1 / (1 + exp(−x)) became sigmoid(x)."""
    top, bottom = node.args
    if _constant(top, 1) and made_by(bottom, "add"):
        rest = _pair(bottom, 1)
        if rest is not None and made_by(rest, "exp"):
            return call("sigmoid", -rest.args[0])
    return None


def exp_over_one_plus_exp(node: Node) -> Node | None:
    """exp(x) / (1 + exp(x)) became sigmoid(x)."""
    top, bottom = node.args
    if made_by(top, "exp") and made_by(bottom, "add") and _pair(bottom, 1) is top:
        return call("sigmoid", top.args[0])
    return None


def tanh_quotient(node: Node) -> Node | None:
    """(exp(x) − exp(−x)) / (exp(x) + exp(−x)) became tanh(x)."""
    top, bottom = node.args
    if not (made_by(top, "subtract") and made_by(bottom, "add") and all(made_by(e, "exp") for e in top.args)):
        return None
    rising, falling = top.args
    if not any(e is rising and f is falling for e, f in (bottom.args, bottom.args[::-1])):
        return None
    x, y = rising.args[0], falling.args[0]
    opposite = (made_by(y, "negative") and y.args[0] is x) or (made_by(x, "negative") and x.args[0] is y)
    return call("tanh", x) if opposite else None


def one_over_sqrt(node: Node) -> Node | None:
    """1 / √x became rsqrt(x)."""
    top, bottom = node.args
    return call("rsqrt", bottom.args[0]) if _constant(top, 1) and made_by(bottom, "sqrt") else None


# -- differences, roots ------------------------------------------------------------------------------------------------


def one_minus_sigmoid(node: Node) -> Node | None:
    """1 − sigmoid(x) became sigmoid(−x)."""
    x, y = node.args
    return call("sigmoid", -y.args[0]) if _constant(x, 1) and made_by(y, "sigmoid") else None


def exp_minus_one(node: Node) -> Node | None:
    """exp(x) − 1 became expm1(x)."""
    x, y = node.args
    return call("expm1", x.args[0]) if made_by(x, "exp") and _constant(y, 1) else None


def root_of_square(node: Node) -> Node | None:
    """√(x²) became |x|."""
    (x,) = node.args
    return call("absolute", x.args[0]) if made_by(x, "square") else None


def root_of_sum_of_squares(node: Node) -> Node | None:
    """√(sum(x²)) became norm(x), whose derivative at 0 is 0."""
    (x,) = node.args
    if made_by(x, "sum") and made_by(x.args[0], "square"):
        return OPS["norm"].make((x.args[0].args[0],), **x.attrs)
    return None


_STABLE: dict[str, tuple[Rule, ...]] = {
    "log": (
        log_of_exp, log_of_quotient_of_exp, log_of_product_with_exp, log_of_sum_of_exp, log_of_sigmoid, log_of_one_plus,
        log_of_view,
    ),
    "log1p": (log1p_of_exp, log1p_of_minus_sigmoid),
    "divide": (softmax_quotient, logistic_quotient, exp_over_one_plus_exp, tanh_quotient, one_over_sqrt),
    "subtract": (one_minus_sigmoid, exp_minus_one, difference_from_logsumexp),
    "sqrt": (root_of_square, root_of_sum_of_squares),
}  # fmt: skip
RULES = {name: (*_STABLE.get(name, ()), *KINKS.get(name, ())) for name in (*_STABLE, *KINKS)}
__all__ = ["RULES", "stabilise"]
