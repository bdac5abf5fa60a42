"""Zero is zero across the walls of bodies: a guard on one side of a loop, branch, checkpoint or rule, a pole on the
other.

What enters a body is known there as it is outside, and what a step hands on as what any step hands on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.ops.control import every_node

Program = Callable[[Any], Any]

KEPT = np.array([False, True])
PICKED = np.array([[0.0, 1.0]])
ZERO = np.zeros(())
STEP = np.array([1.0, 0.5])


@gc.custom_derivative
def doubled(x: Any) -> Any:
    return 2.0 * x


@doubled.defvjp
def _(x: Any) -> tuple[Any, Callable[[Any], tuple[Any]]]:
    return 2.0 * x, lambda c: (np.array([[2.0, 0.0], [0.0, 2.0]]) @ c,)


def guard(v: Any) -> Any:
    return np.where(KEPT, v, 0.0)


def repeated(step: Callable[[Any], Any], start: Any, count: int = 3) -> Any:
    return gc.fori_loop(0, count, lambda i, c: step(c), start)


#: x is (0, 4); the derivative by x[0] is 0
POLE_INSIDE: dict[str, Program] = {
    "carry": lambda x: np.sum(guard(repeated(np.sqrt, x))),
    "rows": lambda x: np.sum(guard(gc.scan(lambda c, r: (c + 1.0, np.sqrt(r)), ZERO, x)[1])),
    "stacked": lambda x: np.sum(guard(gc.scan(lambda c, _: (c * 0.5, np.sqrt(c)), x, np.zeros(2))[1])),
    "const": lambda x: np.sum(guard(repeated(lambda c: c + np.sqrt(x), np.zeros(2)))),
    "while": lambda x: np.sum(
        guard(gc.while_loop(lambda s: s[1] < 2, lambda s: (np.sqrt(s[0]), s[1] + 1), (x, 0), max_steps=5)[0])
    ),
    "while in blocks": lambda x: np.sum(
        guard(gc.while_loop(lambda s: s[1] < 2, lambda s: (np.sqrt(s[0]), s[1] + 1), (x, 0), max_steps=10**5)[0])
    ),
    "loop in loop": lambda x: np.sum(guard(repeated(lambda c: repeated(np.sqrt, c, 2), x, 2))),
    "branch": lambda x: np.sum(guard(gc.cond(np.sum(x) > 0, np.sqrt, lambda v: v, x))),
    "checkpoint": lambda x: np.sum(guard(gc.checkpoint(lambda s: np.sin(np.sqrt(s)))(x))),
    "rule": lambda x: np.sum(guard(doubled(np.sqrt(doubled(x))))),
}
GUARD_INSIDE: dict[str, Program] = {
    "carry": lambda x: np.sum(repeated(lambda c: guard(c) * 1.5, np.sqrt(x))),
    "rows": lambda x: gc.scan(
        lambda c, r: (c + np.where(r[0] > 0, r[1], 0.0), None), ZERO, np.stack([x, np.sqrt(x)], axis=1)
    )[0],
    "const": lambda x: (lambda s: repeated(lambda c: c + np.sum(guard(s)), ZERO))(np.sqrt(x)),
    "index": lambda x: (lambda s: repeated(lambda c: c + s[1] * c, np.ones(())))(np.log(x)),
    "product": lambda x: (lambda s: repeated(lambda c: c + np.sum(PICKED @ s), ZERO))(np.sqrt(x)),
    "product of the carry": lambda x: np.sum(guard(repeated(lambda c: np.eye(2) @ c, np.sqrt(x)))),
    "while": lambda x: (
        lambda s: gc.while_loop(
            lambda c: c[1] < 2, lambda c: (c[0] + np.sum(guard(s)), c[1] + 1), (ZERO, 0), max_steps=5
        )[0]
    )(np.sqrt(x)),
    "loop in loop": lambda x: np.sum(guard(repeated(lambda c: repeated(lambda d: np.eye(2) @ d, c, 2), np.sqrt(x), 2))),
    "branch": lambda x: gc.cond(np.sum(x) > 0, lambda s: np.sum(PICKED @ s), np.sum, np.sqrt(x)),
    "checkpoint": lambda x: np.sum(gc.checkpoint(lambda s: np.sin(PICKED @ s))(np.sqrt(x))),
    "rule": lambda x: np.sum(guard(doubled(np.sqrt(x)))),
    "rule transposed": lambda x: np.sum(doubled(guard(np.sqrt(x)))),
}
PROGRAMS = {f"pole inside, {k}": f for k, f in POLE_INSIDE.items()} | {
    f"guard inside, {k}": f for k, f in GUARD_INSIDE.items()
}


def directional(f: Program) -> Program:
    return lambda x: gc.jvp(f, (x,), (STEP,))[1]


def orders(f: Program) -> dict[str, Program]:
    first = gc.grad(f)
    return {
        "reverse": first,
        "forward": gc.grad(f, method="forward"),
        "forward over reverse": directional(first),
        "reverse over reverse": gc.grad(lambda x: np.sum(first(x) * STEP)),
        "forward over forward": lambda x: gc.grad(directional(f), method="forward")(x),
        "reverse over forward": gc.grad(directional(f)),
    }


def hold(f: Program, order: str, jit: bool) -> None:
    derivative = orders(f)[order]
    run = gc.jit(derivative) if jit else derivative
    with np.errstate(all="ignore"):
        got, expected = np.asarray(run(np.array([0.0, 4.0]))), np.array(run(np.array([1.7, 4.0])))
    expected[0] = 0
    assert np.all(np.isfinite(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted(name):
    for order in orders(PROGRAMS[name]):
        hold(PROGRAMS[name], order, jit=False)


COMPILED = ("pole inside, carry", "pole inside, while", "guard inside, product of the carry", "guard inside, rule")


@pytest.mark.parametrize("name", [n if n in COMPILED else pytest.param(n, marks=pytest.mark.nightly) for n in PROGRAMS])
def test_compiled(name):
    for order in orders(PROGRAMS[name]):
        hold(PROGRAMS[name], order, jit=True)


# -- rules written by the user -----------------------------------------------------------------------------------------


@gc.custom_derivative
def product(k: Any, q: Any) -> Any:
    return k * q


@product.defvjp
def _(k: Any, q: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    return k * q, lambda c: (c * q, c * k)


@gc.custom_derivative
def pushed(k: Any, q: Any) -> Any:
    return k * q


@pushed.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (k, q), (dk, dq) = primals, tangents
    return k * q, dk * q + k * dq


@gc.custom_derivative
def quotient(k: Any, q: Any) -> Any:
    return k * q


@quotient.defvjp
def _(k: Any, q: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    return k * q, lambda c: (c / (1 / q), c * k)


@gc.custom_derivative
def contracted(k: Any, q: Any) -> Any:
    return np.sum(k * q)


@contracted.defvjp
def _(k: Any, q: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    return np.sum(k * q), lambda c: (np.reshape(c, (1,)) @ np.reshape(q, (1, 1)), c * k)


@pytest.mark.parametrize("rule", [product, pushed, quotient, contracted], ids=lambda f: f.__name__)
@pytest.mark.parametrize("jit", [False, True], ids=["interpreted", "compiled"])
def test_a_rule_multiplies_zeros_by_poles(rule, jit):
    """k·(1/x) is left out at x = 0, by a selection that the sum over W has blurred."""
    weights = np.array([1.0, 2.0, 3.0])

    def f(k: Any, x: Any) -> Any:
        return np.sum(np.where(x > 0, weights * rule(k, 1 / x), weights * k))

    k, zero, half = np.array([2.0]), np.array([0.0]), np.array([0.5])
    for method in ("reverse", "forward"):
        derivative = gc.grad(f, method=method)
        run = gc.jit(derivative) if jit else derivative
        with np.errstate(all="ignore"):
            assert np.array_equal(run(k, zero), [6.0])
            assert np.array_equal(run(k, half), [12.0])


def test_a_rule_of_ordinary_factors_is_evaluated_as_written():
    x = np.ones(3)
    assert strong(lambda k, q: np.sum(product(k, q) + pushed(q, k) + quotient(k, 2 + q * q)), x, x) == []
    ops = [n.op.name for n in every_node(gc.trace(gc.grad(lambda k: np.sum(quotient(k, np.exp(x)))), x))]
    assert ops.count("divide") == 2 and "multiply" not in ops


# -- plain products stay plain -----------------------------------------------------------------------------------------


def strong(f: Program, *args: Any) -> list[str]:
    graph = gc.trace(gc.grad(f, argnums=tuple(range(len(args)))), *args)
    return [n.op.name for n in every_node(graph) if n.op.name.startswith("strong")]


def test_ordinary_steps_have_plain_products():
    rows, w = np.ones((5, 3)), np.ones((3, 3))

    def recurrent(w: Any, u: Any) -> Any:
        return gc.scan(lambda h, x: ((k := np.tanh(x @ w + h @ u)), k), np.zeros(3), rows)[1].sum()

    def gated(w: Any, u: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            h, c = state
            keep, new = gc.nn.sigmoid(x @ w + h @ u), np.tanh(x @ u + h @ w)
            c = keep * c + (1 - keep) * new
            return (keep * np.tanh(c), c), None

        return gc.scan(step, (np.zeros(3), np.zeros(3)), rows)[0][0].sum()

    assert strong(recurrent, w, w) == []
    assert strong(gated, w, w) == []
    assert strong(lambda v: np.sum(repeated(lambda c: c + 0.1 * np.sin(c) * c, v) ** 2), np.ones(3)) == []
    assert strong(lambda v: gc.checkpoint(lambda x: np.sum(gc.nn.relu(x @ w) ** 2))(v), w) == []
