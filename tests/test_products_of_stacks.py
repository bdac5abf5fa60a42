"""Jacobians and Hessians of composed products: matrices, stacks of matrices on either side or both, attention heads.

Whatever is composed, in every mode, interpreted and compiled and as explain prints it, they are the columns that `jvp`
gives.  A batch axis is an index of a product as a direction is an index of the matrix; the two must never meet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp

Array = Any
Step = Callable[[Array], Array]
Block = tuple[str, Callable[[Array], Any], Array]

_random = np.random.default_rng(0)
H, ONE, THREE, ROWS = (_random.normal(size=s) for s in ((2, 2), (1, 2, 2), (3, 2, 2), (3, 1, 2, 2)))


def _on_stacks(step: Step) -> Step:
    """The step where there is a leading axis, the identity elsewhere."""
    return lambda x: step(x) if x.ndim > 2 else x


def _on_few_axes(step: Step) -> Step:
    """The step where its new axis leaves four at most."""
    return lambda x: step(x) if x.ndim < 4 else x


#: each takes an array of shape (…, 2, 2) to such an array; leading axes are 3 long, or 1
STEPS: dict[str, Step] = {
    "matrix on the left": lambda x: H @ x,
    "matrix on the right": lambda x: x @ H,
    "stack on the left": lambda x: THREE @ x,
    "stack on the right": lambda x: x @ THREE,
    "stack of one": lambda x: ONE @ x,
    "two leading axes": lambda x: x @ ROWS,
    "square": lambda x: x @ x,
    "Gram": lambda x: x @ x.mT,
    "transpose": lambda x: x.mT,
    "elementwise": lambda x: np.sin(x),
    "sum of a stack": _on_stacks(lambda x: x.sum(axis=0)),
    "sum that stays": _on_stacks(lambda x: x.sum(axis=0, keepdims=True)),
    "stack of itself": _on_few_axes(lambda x: np.stack([x, H @ x, np.cos(x)])),
    "stack beside ones": _on_few_axes(lambda x: np.stack([np.ones(x.shape), x, x * 2])),
    "concatenated": _on_stacks(lambda x: np.concatenate([x, 2 * x], axis=0)[: x.shape[0]]),
    "repeated label": lambda x: np.einsum("...ii->...i", x)[..., None] * H,
    "broadcast label": lambda x: np.einsum("...ij,...jk->...ik", THREE, x),
    "paired label": lambda x: np.einsum("...ij,...ij->...i", x, x)[..., None] * x,
    "outer label": lambda x: np.einsum("...ij,kj->...ik", x, H),
    "mapped product": _on_stacks(gc.vmap(lambda r: H @ r + r @ r)),
    "mapped heads": _on_few_axes(lambda x: gc.vmap(lambda head: head @ x)(THREE)),
    "flipped rows": lambda x: x[..., ::-1, :] * H,
    "centred": lambda x: x - x.mean(axis=-1, keepdims=True),
    "softmax": gc.nn.softmax,
    "flattened": lambda x: (x.reshape(-1, 2) @ H).reshape(x.shape),
    "padded": lambda x: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)])[..., :2],
    "running sum": lambda x: np.cumsum(x, axis=-2),
    "chosen rows": lambda x: x[..., np.array([1, 0, 1]), :][..., :2, :],
    "new leading axis": _on_few_axes(lambda x: x[..., None, :, :] + THREE),
}


def chained(names: tuple[str, ...]) -> Step:
    """The steps one after another."""

    def program(x: Array) -> Array:
        x = gnp.asarray(x)
        for name in names:
            x = STEPS[name](x)
        return x

    return program


def programs(count: int, seed: int, longest: int = 4) -> list[tuple[str, ...]]:
    """Chains of steps, in which each step occurs before one does twice."""
    chosen = random.Random(seed)

    def endless() -> Iterator[str]:
        while True:
            yield from chosen.sample(list(STEPS), len(STEPS))

    names = endless()
    return [tuple(next(names) for _ in range(chosen.randint(2, longest))) for _ in range(count)]


def columns(f: Callable[[Array], Array], x: Array) -> Array:
    """∂f/∂x, one push for each element of ``x``."""
    found = [np.asarray(gc.jvp(f, (x,), (e.reshape(x.shape),))[1]) for e in np.eye(x.size)]
    return np.stack(found, -1).reshape(found[0].shape + x.shape)


def blocks(f: Step, x: Array) -> list[Block]:
    """What is asked for: its name, the function that gives it, and its value by columns."""
    loss = lambda x: np.sum(np.sin(f(x)))
    jacobian, hessian = columns(f, x), columns(gc.grad(loss), x)
    return [
        ("jacobian", gc.jacobian(f), jacobian),
        ("forward", gc.jacobian(f, mode="forward"), jacobian),
        ("reverse", gc.jacobian(f, mode="reverse"), jacobian),
        ("hessian", gc.hessian(loss), hessian),
    ]


def assert_equal(names: tuple[str, ...], what: str, got: Array, want: Array) -> None:
    """Both are sums of some thousand products of the same numbers in another order."""
    assert got.shape == want.shape, f"{what} of {names}"
    error = np.max(np.abs(got - want)) / max(1.0, float(np.max(np.abs(want))))
    assert error < 1e-11, f"{what} of {names} is off by {error:.2g}"


X = np.random.default_rng(1).normal(size=(2, 2)) / 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(4))
def test_compositions(seed):
    for names in programs(20, seed):
        for what, make, want in blocks(chained(names), X):
            assert_equal(names, what, np.asarray(make(X)), want)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 150))
def test_many_compositions(seed):
    for names in programs(40, seed, longest=6):
        for what, make, want in blocks(chained(names), X):
            assert_equal(names, what, np.asarray(make(X)), want)


def test_compiled_compositions():
    for names in programs(8, 10, longest=3):
        asked = blocks(chained(names), X)
        together = gc.jit(lambda x, asked=asked: [make(x) for _, make, _ in asked])(X)
        for (what, _, want), got in zip(asked, together, strict=True):
            assert_equal(names, f"compiled {what}", got, want)


def test_printed_formulas_of_compositions():
    for names in programs(10, 20, longest=3):
        f = chained(names)
        (got,) = gc.explain(gc.jacobian(f), X).graph.evaluate(X)
        assert_equal(names, "formula", got, columns(f, X))


# -- blocks of which some depend on the argument and some do not -------------------------------------------------------


def skeleton(count: int, xp: Any) -> Step:
    """Weighted points moved by a stack of joint matrices, some constant, some turned, some turned by a zero."""
    Q, P = np.arange(4.0 * count).reshape(count, 2, 2) / 7 - 1, np.arange(10.0).reshape(5, 2) / 5
    W = np.cos(np.arange(5.0 * count)).reshape(5, count)

    def moved(t: Array) -> Array:
        first = xp.stack([xp.stack([xp.cos(t[0]), xp.sin(t[0])]), xp.stack([-xp.sin(t[0]), xp.cos(t[0])])])
        joints = [first] + [first @ Q[b] if b > 2 else (t[1] * 0.0) * Q[b] + Q[b] for b in range(1, count)]
        points = xp.einsum("bij,vj->bvi", xp.stack(joints) @ Q, P)[:, :, :1]
        return xp.reshape(xp.sum(points * W.T[:, :, None], axis=0), (-1,))

    return moved


def placed_blocks(x: Array) -> Array:
    """A block matrix of slices, constants and products, padded, cut and reversed."""
    top = np.concatenate([x[:1] * x[1:2], np.zeros((1, 2)), H @ x], axis=0)
    whole = np.concatenate([top, np.pad(np.ones((2, 2)), [(0, 2), (0, 0)])], axis=1)
    return np.pad(whole[1:, ::2], [(1, 0), (0, 1)])[::-1] @ np.concatenate([x, np.ones((1, 2))])


def bordered(x: Array) -> Array:
    """The inverse-free border of a system: a scalar corner beside zeros, and a column that is used twice."""
    corner = np.stack([np.stack([x[0, 0], x[0, 0] * 0]), np.stack([np.sum(x), np.ones_like(x[0, 1])])])
    return np.concatenate([corner, x[:, :1] @ x[:1]], axis=0).reshape(2, 2, 2) @ x


BLOCKS: dict[str, tuple[Step, Array]] = {
    **{f"skeleton of {n}": (skeleton(n, gnp), np.array([0.3, -0.7])) for n in (2, 3, 4)},
    "placed": (placed_blocks, X),
    "bordered": (bordered, X),
    "stacked slices": (lambda x: np.stack([x[0], np.ones(2), x[:, 0], x[1] * 0]) @ x, X),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name):
    f, x = BLOCKS[name]
    asked = blocks(f, x)
    compiled = gc.jit(lambda x: [make(x) for _, make, _ in asked])(x)
    for (what, make, want), got in zip(asked, compiled, strict=True):
        assert_equal((name,), what, np.asarray(make(x)), want)
        assert_equal((name,), f"compiled {what}", got, want)
