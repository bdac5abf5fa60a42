"""Symbolic mode: right on every kind of op, fast on shared subexpressions, and independent of every derivative rule."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, given, reject, settings

import gradc as gc
from gradc.aval import Aval
from gradc.diff.modes import pull_back
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.symbolic.fragments import LARGEST, fragment_at, interior_nodes, meaning_of, partials_at
from gradc.diff.symbolic.written_out import NotWrittenError
from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.interpret import interpret, topological
from gradc.node import OPS, constant
from gradc.ops.elementwise import apply
from gradc.trace import trace
from tests.op_cases import leaf
from tests.programs import programs
from tests.test_forward_reverse import agree
from tests.work import calls


def gradients(pull, f, *args):
    """Gradients of the sum of what ``f`` returns, by ``pull``."""
    graph = trace(f, *args)
    ones = [constant(np.ones(y.shape, y.dtype)) for y in graph.outputs]
    pulled = pull(graph.outputs, graph.inputs, ones)
    known = dict(zip(graph.inputs, args, strict=True))
    pairs = zip(pulled, graph.inputs, strict=True)
    return [np.zeros(x.shape) if g is None else interpret([g], dict(known))[0] for g, x in pairs]


@contextmanager
def no_rules():
    """Every derivative rule in the registry raises when it is called."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a derivative rule was called")

    with ExitStack() as restore:
        for op in OPS.values():
            for facet in ("partials", "jvp", "transpose"):
                if getattr(op, facet) is not None:
                    restore.callback(object.__setattr__, op, facet, getattr(op, facet))
                    object.__setattr__(op, facet, forbidden)
        yield


X = np.random.default_rng(0).uniform(0.2, 1.5, (4, 3))
W = np.random.default_rng(1).normal(size=(3, 5))
ZOO = {
    "product": lambda x: np.sin(x) * x,
    "network": lambda x: np.tanh(np.tanh(x @ W) @ W.T),
    "softmax": lambda x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True) * W.T[:4],
    "extrema": lambda x: np.max(x, axis=0) - np.min(x, axis=1)[:3] + np.maximum(x, 1.0),
    "norms": lambda x: np.sqrt(np.sum(x * x, axis=1)) + OPS["norm"].make((x,), axes=(0, 1)),
    "logsumexp": lambda x: np.logaddexp(x, 2 * x) + OPS["logsumexp"].make((x,), axes=(1,))[:, None],
    "products": lambda x: np.prod(x, axis=0) + np.cumprod(x, axis=1)[::-1, :],
    "running sums": lambda x: np.cumsum(np.cumsum(x, axis=0) ** 2, axis=1),
    "views": lambda x: np.pad(np.concatenate([x, x[::-1]], axis=0).reshape(6, 4).T, 1)[::2] * 2,
    "triangles": lambda x: np.tril(x[:3]) @ np.roll(x, 1, axis=0)[:3].T,
    "windows": lambda x: OPS["windows"].make((x,), axes=(0,), sizes=(2,), strides=(1,), dilations=(2,)) ** 2,
    "gather": lambda x: x[np.array([0, 2, 2, -1])] ** 3,
    "scatter set": lambda x: x.at[np.array([1, 1, 2])].set(x[:3] * 2) * x,
    "scatter add": lambda x: x.at[np.array([1, 1, 2])].add(np.sin(x[:3])),
    "scatter max": lambda x: x.at[np.array([1, 1, 2])].max(x[:3] * 1.5),
    "scatter of own rows": lambda x: x.at[np.array([1])].max(x[3:]) + x.at[np.array([1, 1])].min(x[2:]),
    "scatter set of own rows": lambda x: x.at[np.array([2, 1])].set(x[2:]) * x,
    "sorted": lambda x: np.sort(x, axis=0)[::2] * W[:2, :3],
    "statistics": lambda x: (x - np.mean(x, axis=0)) / np.std(x, axis=0),
    "masked": lambda x: np.where(x > 0.7, np.sqrt(x - 0.7), x**2),
    "powers": lambda x: x**2.5 + x**x + 2.0**x + 1 / x**2 + np.cbrt(x),
    "special": lambda x: np.hypot(x, x * x) + np.arctan2(x, 1 + x) + np.log1p(x) * np.expm1(x),
}


@pytest.mark.parametrize("name", ZOO)
def test_it_agrees_with_reverse_and_calls_no_rule(name):
    expected = gradients(pull_back, ZOO[name], X)
    with no_rules():
        found = gradients(symbolic_pull_back, ZOO[name], X)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_the_guard_of_that_test_works():
    with no_rules(), pytest.raises(AssertionError, match="a derivative rule was called"):
        gradients(pull_back, ZOO["product"], X)


@given(programs(steps=True, most_ops=8, scalar=True, symbolic=True))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60)
def test_random_programs(program):
    try:
        agree(program, ("symbolic", "reverse"))
    except NotWrittenError:  # an op by which SymPy has no derivative
        reject()


def test_the_work_grows_with_the_length_of_a_dag():
    """As one expression it would have millions of operations: every value is read twice."""
    check_random_dag(10)  # what is done on first use
    short, long = (calls(lambda size=size: check_random_dag(size)) for size in (30, 60))
    assert long < 4 * short, "twice the ops: linear is 2"


def check_random_dag(length):
    random = np.random.default_rng(0)

    def dag(x):
        values = [x, np.sin(x)]
        for _ in range(length):
            a, b = (values[k] for k in random.integers(max(0, len(values) - 4), len(values), 2))
            choices = (np.tanh(a * b), np.sin(a) + b, a * np.cos(b), np.maximum(a, b), a / (1 + b * b))
            values.append(choices[random.integers(5)])
        return np.sum(values[-1])

    graph = trace(dag, X)
    (g,) = symbolic_pull_back(graph.outputs, graph.inputs, [constant(1.0)])
    (r,) = pull_back(graph.outputs, graph.inputs, [constant(1.0)])
    a, b = interpret([g, r], {graph.inputs[0]: X})
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_fragments_stay_small():
    """A chain of unary ops is cut at LARGEST; operands that a meaning repeats are cut at once."""
    x = leaf(Aval((3,), np.dtype(float)))
    y = x
    for _ in range(100):
        y = np.sin(y)
    order = topological([y])
    inside = interior_nodes(order, set(order), {x, y})
    assert len(order) // LARGEST - 1 <= len(set(order) - inside) - 2 <= 2 * len(order) // LARGEST
    z = np.maximum(np.maximum(np.maximum(x, np.sin(x)), 1.0), 0.5)
    order = topological([z])
    assert not any(n.op.name == "maximum" for n in interior_nodes(order, set(order), {x, z}))


def test_a_branch_that_is_not_taken_never_poisons():
    x = np.array([-1.0, 0.0, 4.0])
    (g,) = gradients(symbolic_pull_back, lambda x: np.where(x > 0, np.sqrt(x), 0.0), x)
    np.testing.assert_array_equal(g, [0.0, 0.0, 0.25])

    def through_broadcast(s):
        return np.where(np.array([False, False]), np.sqrt(s), 1.0)

    assert gradients(symbolic_pull_back, through_broadcast, np.array(-2.0))[0] == 0


def test_a_nan_in_the_branch_that_is_taken_stays():
    (g,) = gradients(symbolic_pull_back, lambda x: np.where(x < 0, np.sqrt(x), 0.0), np.array([-1.0, 1.0]))
    assert np.isnan(g[0])
    assert g[1] == 0


@pytest.mark.parametrize(
    ("f", "at", "expected"),
    [
        (lambda x: np.abs(x), [0.0], [0.0]),
        (lambda x: np.maximum(x, 1.0), [1.0, 2.0], [0.5, 1.0]),
        (lambda x: np.max(x), [2.0, 1.0, 2.0], [0.5, 0.0, 0.5]),
        (lambda x: np.prod(x), [0.0, 2.0, 3.0], [6.0, 0.0, 0.0]),
        (lambda x: OPS["norm"].make((x,), axes=(0,)), [0.0, 0.0], [0.0, 0.0]),
        (lambda x: np.floor(x) + np.sign(x), [1.0, 0.0], [0.0, 0.0]),
    ],
)
def test_singular_points_as_declared(f, at, expected):
    np.testing.assert_array_equal(gradients(symbolic_pull_back, f, np.array(at))[0], expected)


def test_second_derivatives_by_applying_it_twice():
    def slope(x):
        (g,) = symbolic_pull_back([np.sum(np.tanh(x) * np.exp(x))], [x], [constant(1.0)])
        return g

    t = np.tanh(X)
    d, dd = 1 - t**2, -2 * t * (1 - t**2)
    (found,) = gradients(symbolic_pull_back, slope, X)
    np.testing.assert_allclose(found, np.exp(X) * (t + 2 * d + dd), rtol=1e-12)


def test_float32_stays_float32():
    x = X.astype(np.float32)
    graph = trace(lambda x: np.sum(np.log(x) / np.sqrt(x) + x**3), x)
    (g,) = symbolic_pull_back(graph.outputs, graph.inputs, [constant(np.float32(1))])
    assert {n.dtype for n in Graph(graph.inputs, (g,)).nodes if n.aval.is_float} == {np.dtype(np.float32)}


def test_a_function_without_an_op_is_named():
    tanh = OPS["tanh"]
    old = tanh.sympy
    object.__setattr__(tanh, "sympy", lambda S, x: S.airyai(x))
    try:
        x = leaf(Aval((), np.dtype(float)))
        with pytest.raises(TraceError, match=r"tanh contains airyaiprime"):
            partials_at(apply(tanh, x), set(), {x})
    finally:
        object.__setattr__(tanh, "sympy", old)


def test_an_op_without_a_meaning_is_named():
    tanh = OPS["tanh"]
    old = tanh.sympy
    object.__setattr__(tanh, "sympy", None)
    try:
        with pytest.raises(TraceError, match="op tanh has no SymPy meaning"):
            gradients(symbolic_pull_back, np.tanh, X)
    finally:
        object.__setattr__(tanh, "sympy", old)


@pytest.mark.parametrize(
    ("function", "value"), [("arctanh", 1.0), ("arctanh", -1.0), ("log", 0.0), ("reciprocal", 0.0)]
)
def test_a_constant_at_which_an_op_is_infinite_takes_part_as_a_symbol(function, value):
    x, c = leaf(Aval((), np.dtype(np.float64))), constant(value)
    inner = OPS[function].make((c,))
    found = fragment_at(OPS["multiply"].make((x, inner)), {inner})
    assert found.leaves == (x, c)
    assert found.expression == found.symbols[0] * meaning_of(OPS[function])(sympy, found.symbols[1])


def test_a_sign_is_a_negative_and_no_factor():
    graph = gc.trace(gc.grad(np.cos, method="symbolic"), 1.0)
    names = [n.op.name for n in graph.nodes]
    assert "negative" in names and "multiply" not in names


@pytest.mark.parametrize("x", [0.5, 1.0, 2.0])
def test_an_operand_that_is_read_twice_is_differentiated_by_each_time(x):
    """∂/∂x and ∂/∂y of xʸ at y = x, and their derivatives: (xˣ)″ = xˣ((log x + 1)² + 1/x)."""
    second = gc.grad(gc.grad(lambda p: p**p), method="symbolic")(x)
    np.testing.assert_allclose(second, x**x * ((np.log(x) + 1) ** 2 + 1 / x), rtol=1e-13)


def test_a_difference_of_a_value_with_itself_has_no_slope():
    assert gc.grad(lambda p: (p - p) * 3, method="symbolic")(2.0) == 0
