"""The rules of `simplify` and `stabilise`: what they keep bit for bit, and what they leave alone.

`simplify` is asked about every op of two numbers with every constant that is special to some rule, at every number that
is special to some op: what an identity must not do, it would do there.  `stabilise` is asked about programs that are
nearly what a rule means, each with one condition of it not met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.graph import Graph
from gradc.node import OPS, Node, constant
from gradc.ops.record import Kind
from gradc.passes import fold, kinks, simplify, stabilise
from gradc.passes.kinks import DEPTH, root
from tests.op_cases import BITWISE, LOGICAL, OPERANDS, leaf, operand_count

BINARY = [
    name for name, op in OPS.items()
    if op.kind is Kind.ELEMENTWISE and op.expand is None and name not in {*BITWISE, *LOGICAL, *OPERANDS}
    and operand_count(op) == 2 and not op.samples
]  # fmt: skip
CONSTANTS = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, 4.0, -2.0, np.inf, -np.inf, np.nan)
#: 0 times anything is 0, of no promised sign
WITHOUT_SIGN = ("strong_multiply",)
#: with these NumPy takes the square root, of which −0 and −∞ have another one than the power
HALVES = (0.5, -0.5)


def _special(dtype: Any) -> Any:
    most = np.finfo(dtype)
    some = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf, most.tiny, most.max, most.smallest_subnormal]
    return np.array([*some, *(-x for x in some), np.nan], dtype)


def _forms(name: str, x: Node, y: Node) -> list[Node]:
    """Ways in which the op meets what rules look for: constants, negatives, one value twice."""
    op = OPS[name]
    values = [v for v in CONSTANTS if not (name == "power" and v in HALVES)]
    held = [OPS["broadcast"].make((constant(np.array(v, x.dtype)),), shape=x.shape, axes=()) for v in values]
    with_constants = [op.make(pair) for c in held for pair in ((x, c), (c, x), (-x, c), (c, -x))]
    return with_constants + [op.make(pair) for pair in ((x, x), (-x, x), (x, -x), (-x, -x), (-x, y), (y, -x))]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BINARY)
def test_an_identity_keeps_every_bit(name, dtype):
    """Of a power the last bits: NumPy's own fast paths, which the rule takes, differ in them."""
    one = _special(dtype)
    both = [a.ravel() for a in np.meshgrid(one, one)]
    x, y = (leaf(gc.spec(both[0].shape, dtype), n) for n in "xy")
    graph = Graph((x, y), tuple(_forms(name, x, y)), {})
    simple = simplify(fold(graph))
    assert simple.inputs == graph.inputs
    with np.errstate(all="ignore"):  # of both together: what no rule changes is computed once
        found = Graph((x, y), graph.outputs + simple.outputs, {}).evaluate(*both)
    count = len(graph.outputs)
    for node, a, b in zip(graph.outputs, found[:count], found[count:], strict=True):
        agree = _agree(a, b, name)
        at = [v[~agree][:1] for v in (*both, a, b)]
        assert agree.all(), f"{node.op.name}{node.args}: at {at[:2]} {at[2]}, and then {at[3]}"


def _agree(a: Any, b: Any, name: str) -> Any:
    if a.dtype.kind != "f":
        return a == b
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if name == "power":
        same |= np.isclose(a, b, rtol=8 * np.finfo(a.dtype).eps, atol=0)
    return same & (np.isnan(a) | (np.signbit(a) == np.signbit(b)) | (name in WITHOUT_SIGN))


# -- what no rule means ------------------------------------------------------------------------------------------------
def _sigmoid(x: Any) -> Any:
    return gc.nn.sigmoid(x)


def _norm(x: Any) -> Any:
    return np.linalg.norm(x, axis=1, keepdims=True)


def _contrast(a: Any, b: Any) -> Any:
    return (a - b) / (a + b)


def _coth(a: Any, b: Any) -> Any:
    return (a + b) / (a - b)


def _softmax(top: Any, bottom: Any) -> Any:
    return top / np.sum(bottom, axis=1, keepdims=True)


#: functions of two arrays [2, 3], each nearly the left side of a rule
NEAR: dict[str, Callable[[Any, Any], Any]] = {
    "log of another view": lambda x, y: np.log(np.broadcast_to(np.max(x, axis=1, keepdims=True), (2, 3))),
    "log of another sum": lambda x, y: np.log(np.sum(x)),
    "log of another reduction": lambda x, y: np.log(np.max(np.exp(x))),
    "log of another quotient": lambda x, y: np.log(np.sin(x) / y),
    "log of a quotient by exp": lambda x, y: np.log(x / np.exp(y)),
    "log of another product": lambda x, y: np.log(np.sin(x) * y),
    "log of 2 + x": lambda x, y: np.log(2 + x),
    "log of 2 − x": lambda x, y: np.log(2 - x),
    "log of x − 1": lambda x, y: np.log(x - 1),
    "log of x + y": lambda x, y: np.log(x + y),
    "log of another function": lambda x, y: np.log(np.tanh(x)),
    "log1p of another function": lambda x, y: np.log1p(np.tanh(x)),
    "log1p of −x": lambda x, y: np.log1p(-x),
    "log1p of a sigmoid": lambda x, y: np.log1p(_sigmoid(x)),
    "softmax of two arrays": lambda x, y: _softmax(np.exp(x), np.exp(y)),
    "quotient by a sum": lambda x, y: _softmax(np.sin(x), np.sin(x)),
    "quotient by a maximum": lambda x, y: np.exp(x) / np.max(np.exp(x), axis=1, keepdims=True),
    "2 / (1 + exp)": lambda x, y: 2 / (1 + np.exp(x)),
    "1 / (2 + exp)": lambda x, y: 1 / (2 + np.exp(x)),
    "1 / (1 + tanh)": lambda x, y: 1 / (1 + np.tanh(x)),
    "1 / (1 · exp)": lambda x, y: 1 / (3 * np.exp(x)),
    "exp / (1 + another exp)": lambda x, y: np.exp(x) / (1 + np.exp(y)),
    "exp / (2 + exp)": lambda x, y: np.exp(x) / (2 + np.exp(x)),
    "tanh / (1 + tanh)": lambda x, y: np.tanh(x) / (1 + np.tanh(x)),
    "tanh upside down": lambda x, y: _coth(np.exp(x), np.exp(-x)),
    "tanh of two arrays": lambda x, y: _contrast(np.exp(x), np.exp(-y)),
    "tanh of another function": lambda x, y: _contrast(np.sin(x), np.sin(-x)),
    "sinh of x / cosh of y": lambda x, y: (np.exp(x) - np.exp(-x)) / (np.exp(y) + np.exp(-y)),
    "2 / √x": lambda x, y: 2 / np.sqrt(x),
    "1 / ∛x": lambda x, y: 1 / np.cbrt(x),
    "2 − sigmoid": lambda x, y: 2 - _sigmoid(x),
    "1 − tanh": lambda x, y: 1 - np.tanh(x),
    "exp − 2": lambda x, y: np.exp(x) - 2,
    "tanh − 1": lambda x, y: np.tanh(x) - 1,
    "√(x³)": lambda x, y: np.sqrt(np.sin(x) ** 3),
    "√ of a sum": lambda x, y: np.sqrt(np.sum(x)),
    "√ of a maximum of squares": lambda x, y: np.sqrt(np.max(x**2)),
    "x − logsumexp of another": lambda x, y: x - gc.special.logsumexp(y, axis=1, keepdims=True),
    "|sin|": lambda x, y: np.abs(np.sin(x)),
    "maximum of x and −y": lambda x, y: np.maximum(x, -y),
    "minimum of x and −x": lambda x, y: np.minimum(x, -x),
    "norm of x · norm of y": lambda x, y: _norm(x) * _norm(y),
    "|x|^2.5": lambda x, y: np.abs(x) ** 2.5,
    "norm^2.5": lambda x, y: _norm(x) ** 2.5,
    "sin norm": lambda x, y: np.sin(_norm(x)),
    "cos of norm + 1": lambda x, y: np.cos(_norm(x) + 1),
    "sin norm / another norm": lambda x, y: np.sin(_norm(x)) / _norm(y),
    "sin x / x": lambda x, y: np.sin(x) / x,
    "tan norm / norm": lambda x, y: np.tan(_norm(x)) / _norm(x),
    "tan norm · norm": lambda x, y: np.tan(_norm(x)) * _norm(x),
    "sin norm · another norm": lambda x, y: np.sin(_norm(x)) * _norm(y),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_nearly_meant_by_a_rule_is_left_alone(name):
    graph = simplify(fold(gc.trace(NEAR[name], gc.spec((2, 3)), gc.spec((2, 3)))))
    after = stabilise(graph)
    assert after.notes == ()
    assert str(after) == str(graph)


@pytest.mark.parametrize("step", [
    lambda y, x: y * x, lambda y, x: x * y, lambda y, x: y / x, lambda y, x: -y, lambda y, x: y.T, lambda y, x: y * y,
])  # fmt: skip
def test_roots_are_looked_for_to_a_bounded_depth(step, monkeypatch):
    calls = 0

    def counted(*args: Any) -> Node | None:
        nonlocal calls
        calls += 1
        assert calls < 2 ** (DEPTH + 1)
        return root(*args)

    x = y = leaf(gc.spec((2, 2)), "x")
    for _ in range(3 * DEPTH):
        y = step(y, x)
    monkeypatch.setattr(kinks, "root", counted)
    assert root(y) is None
    assert calls >= DEPTH
    beneath = [0]
    monkeypatch.setattr(kinks, "root", lambda node, depth: beneath.append(depth))
    root(y, 5)
    assert set(beneath[1:]) == {4}


#: guards around sin r/r that are not its value at 0, or not where r is 0
GUARDED: dict[str, Callable[[Any, Any], Any]] = {
    "another value": lambda x, y: np.where(_norm(x) == 0, 2.0, np.sin(_norm(x)) / _norm(x)),
    "another root": lambda x, y: np.where(_norm(x) == 0, 1.0, np.sin(_norm(y)) / _norm(y)),
    "another function of the same": lambda x, y: np.where(_norm(x) == 0, 1.0, np.sin(_norm(2 * x)) / _norm(2 * x)),
    "another place": lambda x, y: np.where(_norm(y) == 1, 1.0, np.sin(_norm(y)) / _norm(y)),
    "another comparison": lambda x, y: np.where(_norm(y) > 0, 1.0, np.sin(_norm(y)) / _norm(y)),
    "half of it": lambda x, y: np.where(_norm(x) == 0, 1.0, 0.5 * np.sin(_norm(x)) / _norm(x)),
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_guard_that_says_something_else_stays(name):
    graph = simplify(fold(gc.trace(GUARDED[name], gc.spec((2, 3)), gc.spec((2, 3)))))
    after = stabilise(graph)
    x, y = np.array([[0.0, 0, 0], [1, 2, 3]]), np.array([[0.6, 0.8, 0], [0, 0, 2]])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(after.evaluate(x, y)[0], graph.evaluate(x, y)[0], rtol=1e-14)
