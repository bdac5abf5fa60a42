"""Jitted functions called inside traces: one body for all calls, in the graph and in what is derived of it.

Counted are bodies and nodes, not seconds; numbers are held against the same functions without `gradc.jit`.
"""

from __future__ import annotations

import gc as memory
import pickle
import re
import sys
import weakref
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
from gradc.passes.join_calls import join_calls

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


@pytest.mark.parametrize("way", ["value", "reverse", "jvp", "vmap"])
def test_forty_functions_deep_cost_forty_bodies(way: str) -> None:
    """Linear in the depth, by steps of what fits into one body: were it doubled with every function, the last growth
    would be 65,536 times the first."""
    small, middle, large = (_size(gc.trace(WAYS[way](_tower(n)), X)) for n in (8, 24, DEEP))
    assert large - middle <= 4 * (middle - small)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("value", "reverse", "jvp", "vmap")])
def test_no_derivative_writes_all_calls_out(way: str) -> None:
    """What a call keeps for its derivative is bounded, and so is what one more function adds; written out, 2¹⁶ calls
    of a body of 64 nodes are four million nodes."""
    assert _size(gc.trace(WAYS[way](_tower(16)), X)) < 64 * 2**16 / 100


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


# -- in code -----------------------------------------------------------------------------------------------------------


def _defined(executable: Any) -> int:
    """How many functions of kernels there are, those in bodies among them."""
    return len(re.findall(r"^define .*@k\d+\.", executable.llvm, re.M))


def _way_down(n: int, wrap: Function = gc.jit) -> Function:
    """A tree of 2ⁿ leaves of which a call visits one way down: by n functions, each of which calls the one before."""
    f = wrap(_base)
    for k in range(n):

        def step(x: Any, g: Function = f, k: int = k) -> Any:
            return gc.cond(x.sum() > 0.1 * k, lambda x: g(x * 0.9 - 0.05) + x, lambda x: g(np.cos(x)) * x, x)

        f = wrap(step)
    return f


def test_a_stack_is_compiled_to_one_body_with_the_numbers_of_twelve() -> None:
    """One body that returns what backwards needs, one backwards, and one for the first layer; kernels of one layer."""

    def block(w: Any, x: Any) -> Any:
        h = x
        for k in range(9):
            h = np.tanh(h @ w) + np.sin(x) * (0.1 * k)
        return h - h.mean(axis=-1, keepdims=True)

    def loss(f: Function) -> Function:
        def whole(ws: Any, x: Any) -> Any:
            for w in ws:
                x = f(w, x)
            return (x**2).sum()

        return gc.value_and_grad(whole)

    random = np.random.default_rng(0)
    ws, x = [random.standard_normal((8, 8)) * 0.3 for _ in range(12)], random.standard_normal((5, 8))
    shared, plain = gc.jit(loss(gc.jit(block)), check=True), gc.jit(loss(block))
    (value, gradient), (expected, gradients) = shared(ws, x), plain(ws, x)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for got, wanted in zip(gradient, gradients, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12 * np.abs(wanted).max())
    executable = shared.lower(ws, x)
    assert len(every_body(executable.graph)) <= 1 + 3
    assert len(executable.schedule.kernels) < len(plain.lower(ws, x).schedule.kernels) / 4
    longer = shared.lower(ws * 2, x)
    assert _defined(longer) == _defined(executable)
    assert len(str(longer.schedule).splitlines()) < 1.3 * len(str(executable.schedule).splitlines())


@pytest.mark.parametrize("way", ["value", pytest.param("reverse", marks=pytest.mark.nightly), "jvp"])
def test_code_grows_with_functions_and_not_with_their_calls(way: str) -> None:
    """A program whose calls, written out, are 2²⁰ and more is compiled, and runs where its path is short."""
    executables = [gc.jit(WAYS[way](_way_down(n)), check=True).lower(X) for n in (4, 12, 20)]
    small, middle, large = map(_defined, executables)
    assert large - middle <= 2 * (middle - small)
    assert np.isfinite(executables[2](X)).all()
    plain = WAYS[way](_way_down(4, lambda f: f))
    np.testing.assert_allclose(executables[0](X), plain(X), rtol=1e-12)


@pytest.mark.nightly
def test_a_tower_of_forty_is_compiled() -> None:
    """It would run for a thousand years; how much code it is, is known."""
    small, large = (gc.compile(gc.grad(_loss(_tower(n))), X, threads=1) for n in (8, DEEP))
    assert _defined(large) <= 8 * _defined(small)
    assert large.stats["flops"] > 2**DEEP


def test_a_gpu_has_calls_written_out_and_refuses_too_many() -> None:
    spec = gc.spec((3,))
    few = gc.compile(gc.grad(_loss(_tower(2))), spec, target="sm_80")
    assert few.plan.launches
    with pytest.raises(gc.CompileError, match="launches"):
        gc.compile(_loss(_tower(DEEP)), spec, target="sm_80")


def test_calls_of_one_body_that_share_no_work_stay_apart() -> None:
    f = gc.jit(lambda w, x: _base(w * x))
    graph = gc.jit(lambda ws, x: f(ws[0], x) + f(ws[1], x) + f(ws[2], x)).lower([X, X + 1, X + 2], X).graph
    assert (len(every_body(graph)), _calls(graph)) == (2, 3)


def test_values_and_tangents_are_computed_by_one_call() -> None:
    """Else each of n levels would compute the values below it once more."""
    f = _tower(6)
    both = gc.jit(lambda x: gc.jvp(f, (x,), (x,)))
    alone = gc.jit(f)
    assert both.lower(X).stats["flops"] < 5 * alone.lower(X).stats["flops"]


def test_what_is_made_of_bodies_does_not_keep_them_alive() -> None:
    def helpers() -> tuple[Function, Function]:
        f = gc.jit(_base)
        return f, gc.jit(lambda x: (_base(x), _base(x) + x))

    def compiled(way: str) -> None:
        f, g = helpers()
        graph = gc.trace(WAYS[way](lambda x: f(x) + g(x)[1]), X)
        made_of_it = join_calls(graph), run_passes(graph, FORWARD)
        bodies = {body for made in (graph, *made_of_it) for body in every_body(made)}
        alive.extend(map(weakref.ref, bodies))

    for way in WAYS:
        alive: list[weakref.ref[Graph]] = []
        compiled(way)
        memory.collect()
        assert alive and not [r for r in alive if r() is not None], way


def test_functions_that_differ_are_not_united_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    united: list[Graph] = []
    module = sys.modules["gradc.passes.join_calls"]
    unite = module._united
    monkeypatch.setattr(module, "_united", lambda *given: united.append(given[0]) or unite(*given))
    many = [gc.jit(lambda x, k=k: _base(x * (k + 2.0))) for k in range(30)]
    graph = gc.trace(lambda x: sum(f(x) for f in many), X)
    assert _calls(join_calls(graph)) == len(many)
    assert not united
    twice = [gc.jit(lambda x, k=k: _base(x) * (k + 2.0)) for k in range(30)]
    assert _calls(join_calls(gc.trace(lambda x: sum(f(x) for f in twice), X))) == 1
    assert len(united) == len(twice) - 1
