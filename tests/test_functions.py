"""Jitted functions called inside traces: one body for all calls, in the graph and in what is derived of it.

Counted are bodies and nodes, not seconds; numbers are held against the same functions without `gradc.jit`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.machines.recall import graph_key
from gradc.ops.control import every_body, is_function
from gradc.passes import FORWARD, run_passes, write_out

Function = Callable[..., Any]

DEEP = 40


def _base(x: Any) -> Any:
    for k in range(16):
        x = np.sin(x * (0.01 * k + 0.7)) + 0.1
    return x


def _tower(n: int, wrap: Function = gc.jit) -> Function:
    """2ⁿ calls of a function, by n functions each of which calls the one before twice."""
    f = wrap(_base)
    for _ in range(n):
        f = wrap(lambda x, g=f: g(g(x)) + 0.1 * x)
    return f


def _plain(n: int) -> Function:
    return _tower(n, lambda f: f)


def _loss(f: Function) -> Function:
    return lambda x: f(x).sum()


def _size(graph: Graph) -> int:
    return sum(len(body.nodes) for body in every_body(graph))


def _calls(graph: Graph) -> int:
    return sum(is_function(node) for body in every_body(graph) for node in body.nodes)


X = np.linspace(0.1, 0.5, 3)
WAYS: dict[str, Callable[[Function], Function]] = {
    "value": lambda f: f,
    "reverse": lambda f: gc.grad(_loss(f)),
    "forward": lambda f: gc.grad(_loss(f), method="forward"),
    "jvp": lambda f: lambda x: gc.jvp(f, (x,), (np.cos(x),))[1],
    "vjp": lambda f: lambda x: gc.vjp(f, x)[1](np.cos(x))[0],
    "vmap": lambda f: gc.vmap(lambda t: f(t)),
    "hvp": lambda f: lambda x: gc.hvp(_loss(f), (x,), (x,)),
    "second": lambda f: gc.grad(lambda x: (gc.grad(_loss(f))(x) ** 2).sum()),
    "in a scan": lambda f: gc.grad(lambda x: gc.scan(lambda c, _: (f(c), c.sum()), x, None, length=3)[1].sum()),
    "in a branch": lambda f: gc.grad(lambda x: gc.cond(x[0] > 0, lambda y: f(f(y)), lambda y: y, x).sum()),
    "checkpointed": lambda f: gc.grad(lambda x: gc.checkpoint(lambda y: f(f(y)))(x).sum()),
}


@pytest.mark.parametrize("way", WAYS)
def test_numbers_are_those_of_plain_functions(way: str) -> None:
    derived, expected = WAYS[way](_tower(2)), WAYS[way](_plain(2))(X)
    np.testing.assert_allclose(derived(X), expected, rtol=1e-12)
    np.testing.assert_allclose(gc.jit(derived)(X), expected, rtol=1e-12)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "second"])
def test_forty_functions_deep_cost_forty_bodies(way: str) -> None:
    """Linear in the depth, by steps of what fits into one body: were it doubled with every function, the last growth
    would be 256 times the first, or more."""
    depths = (8, 24, DEEP) if way in ("value", "reverse", "jvp", "vmap") else (4, 12, 20)
    small, middle, large = (_size(gc.trace(WAYS[way](_tower(n)), X)) for n in depths)
    assert large - middle <= 4 * (middle - small)


def test_second_derivatives_of_deep_functions_are_shared() -> None:
    sizes = [_size(gc.trace(WAYS["second"](_tower(n)), X)) for n in (4, 8, 12)]
    assert sizes[2] - sizes[1] <= 4 * (sizes[1] - sizes[0])


def test_a_stack_of_layers_calls_one_body() -> None:
    """Twelve calls of one block: one body forwards, and backwards what it keeps and its transpose; the first layer's
    has no cotangent of the input."""
    block = gc.jit(lambda w, x: _base(np.tanh(x @ w)) + x)

    def loss(ws: Any, x: Any) -> Any:
        for w in ws:
            x = block(w, x)
        return (x**2).sum()

    ws, x = [np.eye(4) * 0.1 * k for k in range(12)], np.ones((3, 4))
    graph = gc.trace(loss, ws, x)
    assert (len(every_body(graph)), _calls(graph)) == (2, 12)
    backward = gc.trace(gc.grad(loss), ws, x)
    assert len(every_body(backward)) == 1 + 1 + 2 + 2
    assert _size(backward) < _size(write_out(backward)) / 2
    graph = gc.trace(gc.value_and_grad(loss), ws, x)
    for got, expected in zip(graph.evaluate(*ws, x), write_out(graph).evaluate(*ws, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_function_called_once_is_inlined_before_derivatives() -> None:
    f = gc.jit(_base)
    graph = run_passes(gc.trace(lambda x: f(x) + 1, X), FORWARD)
    assert _calls(graph) == 0
    assert graph.nodes and len(graph.nodes) > 64


def test_small_functions_are_inlined_as_they_are_traced() -> None:
    f = gc.jit(lambda x: np.sin(x) * x)
    assert _calls(gc.trace(lambda x: f(f(x)), X)) == 0


def test_it_is_traced_once_for_a_shape() -> None:
    traced = []

    def base(x: Any) -> Any:
        traced.append(x.shape)
        return _base(x)

    f = gc.jit(base)
    gc.trace(lambda x: f(f(x)) + f(x[:2]).sum() + f(x * 2), X)
    assert traced == [(3,), (2,)]


def test_what_one_program_tells_a_function_no_other_hears() -> None:
    """Ranges of operands decide which products are strong: each program has bodies of its own."""
    f = gc.jit(lambda x, y: _base(x * y))
    finite = lambda x: f(np.tanh(x), x) + f(np.tanh(x), 2 * x)
    before = str(gc.trace(gc.grad(_loss(finite)), X))
    gc.trace(gc.grad(_loss(lambda x: f(1 / x, np.where(x > 0, x, 0.0)) + f(x, x))), X)
    assert str(gc.trace(gc.grad(_loss(finite)), X)) == before


def test_zeros_of_guards_stay_zero_through_functions() -> None:
    """A cotangent that is exactly 0 meets an infinite slope inside of a body."""
    f = gc.jit(lambda x: np.sqrt(x) + 0 * _base(x))
    guarded = lambda x: np.where(x > 0, f(x), 0.0).sum() + f(x + 1).sum()
    x = np.array([0.0, 4.0])
    assert np.isfinite(gc.grad(guarded)(x)).all()
    np.testing.assert_allclose(gc.jit(gc.grad(guarded))(x), gc.grad(guarded)(x), rtol=1e-12)


def test_a_deep_graph_travels_and_has_a_key() -> None:
    graph = gc.trace(gc.grad(_loss(_tower(DEEP))), X)
    copy = pickle.loads(pickle.dumps(graph))
    assert (len(every_body(copy)), _size(copy)) == (len(every_body(graph)), _size(graph))
    assert graph_key(copy, Options()) == graph_key(graph, Options()) is not None
    assert graph_key(graph, Options()) != graph_key(gc.trace(gc.grad(_loss(_tower(DEEP - 1))), X), Options())
    assert len(str(graph).splitlines()) < 2 * _size(graph)
    assert graph.dot().count("subgraph") == len(every_body(graph)) - 1


def test_explain_shows_what_functions_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(x: Any) -> Any:
        hidden = sum((np.sin(x * float(k)) for k in range(1, 25)), x)
        return np.tanh(hidden)

    f, g = gc.jit(block), gc.jit(block)
    shared = str(gc.explain(lambda x: f(f(x)).sum(), X))
    monkeypatch.setattr("gradc.api.compiled.FEWEST_SHARED", 10**9)
    assert str(gc.explain(lambda x: g(g(x)).sum(), X)) == shared
    assert "hidden" in shared


def test_what_writes_functions_out_says_where_they_are_too_many() -> None:
    with pytest.raises(gc.TraceError, match=r"test_functions\.py.*explain writes out"):
        gc.explain(_loss(_tower(DEEP)), X)
    with pytest.raises(gc.TraceError, match="symbolic mode writes out"):
        gc.trace(gc.grad(_loss(_tower(DEEP)), method="symbolic"), X)


def test_all_derivations_agree_through_functions() -> None:
    block = gc.jit(lambda x, w: np.tanh(sum((np.sin(x * w * k) for k in range(1, 14)), x)))
    report = gc.check_gradients(lambda x, w: (block(x, w) * block(w, x)).sum(), X, X[::-1].copy())
    assert report.ok, report
    hessian = gc.hessian(lambda x: (block(x, x) * block(x, 2 * x)).sum())
    columns = np.stack([gc.hvp(lambda x: (block(x, x) * block(x, 2 * x)).sum(), (X,), (e,))[0] for e in np.eye(3)])
    np.testing.assert_allclose(hessian(X), columns, rtol=1e-10)
