"""Two of everything in one expression: what shares memory with what, for pairs of all kinds of work.

Enters: functions of one array to one of the same shape, at least one for each kind of op.  Two of them, each on a
temporary of its own, are added, multiplied, chained and added to what they came from (a skip connection).  Every
schedule is proved (the fixture of every test does it); of some the compiled result is held against the interpreter.
Start reading at `FUNCTIONS`; under `nightly` all pairs are compiled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import OPS
from gradc.ops.control import every_node

Array = Any
SHAPE = (2, 3, 8, 8)
RNG = np.random.default_rng(11)
KERNEL, MATRIX = RNG.normal(size=(3, 3, 3, 3)) / 5, RNG.normal(size=(8, 8)) / 3
ORDER = RNG.permutation(8)
NAMES = ("sum", "product", "chain", "skip")


def softmax(x: Array) -> Array:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def normalised(x: Array) -> Array:
    return (x - np.mean(x)) / np.std(x)


def pooled(x: Array) -> Array:
    return np.repeat(np.repeat(gc.nn.max_pool2d(x, 2), 2, axis=2), 2, axis=3)


#: one array to one of its shape
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "transposed": lambda x: np.swapaxes(x, 2, 3),
    "flipped": lambda x: x[:, :, ::-1],
    "rolled": lambda x: np.roll(x, 1, axis=3),
    "moved": lambda x: np.reshape(np.moveaxis(x, 1, -1), SHAPE),
    "padded": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1)))[:, :, :-1, 1:],
    "joined": lambda x: np.concatenate([x[1:], x[:1] * 2.0]),
    "row sums": lambda x: np.broadcast_to(np.sum(x, axis=3, keepdims=True), SHAPE),
    "column sums": lambda x: np.broadcast_to(np.sum(x, axis=(0, 2), keepdims=True), SHAPE),
    "centred": lambda x: x - np.mean(x),
    "softmax": softmax,
    "normalised": normalised,
    "running": lambda x: np.cumsum(x, axis=2),
    "running back": lambda x: np.cumsum(x[..., ::-1], axis=3)[..., ::-1],
    "product": lambda x: x @ MATRIX,
    "square": lambda x: x @ np.swapaxes(x, 2, 3),
    "outer": lambda x: np.einsum("nchw,ncij->nchj", x, x) / 8,
    "solved": lambda x: np.linalg.solve(x @ np.swapaxes(x, 2, 3) / 8 + 4 * np.eye(8), x),
    "convolved": lambda x: gc.nn.conv2d(x, KERNEL, padding=1),
    "strided": lambda x: np.repeat(np.repeat(gc.nn.conv2d(x, KERNEL, stride=2, padding=1), 2, 2), 2, 3),
    "image gradient": gc.grad(lambda x: np.sum(np.tanh(gc.nn.conv2d(x, KERNEL, padding=1)))),
    "pooled": pooled,
    "taken": lambda x: x[:, :, ORDER],
    "looked up": lambda x: np.take_along_axis(x, np.argsort(x, axis=3), axis=3),
    "sorted": lambda x: np.sort(x, axis=2),
    "ranked": lambda x: np.argsort(x, axis=3) * 0.1,
    "searched": lambda x: np.reshape(np.searchsorted(np.sort(x[0, 0, 0]), np.reshape(x, (-1,))), SHAPE) * 0.1,
    "added at": lambda x: gnp.asarray(x).at[:, :, ORDER[:3]].add(x[:, :, :3]),
    "set at": lambda x: gnp.asarray(x).at[:, 1].set(x[:, 0] * 0.5),
    "scanned": lambda x: gc.scan(lambda c, row: (c * 0.5 + row[::-1], c), x[0], x)[1],
    "walked": lambda x: gc.fori_loop(0, 3, lambda t, v: v @ MATRIX, x),
    "counted": lambda x: gc.fori_loop(0, 2, lambda t, v: np.swapaxes(v, 2, 3) * 0.5, x),
    "until": lambda x: gc.while_loop(lambda v: np.sum(v * v) > 1.0, lambda v: v * 0.5, x, max_steps=40),
    "chosen": lambda x: gc.cond(np.sum(x) > 0, lambda v: v[:, ::-1], lambda v: v @ MATRIX, x),
    "kept": gc.checkpoint(lambda x: np.sin(x) * x[:, ::-1]),
}


def combined(how: str, f: Callable[[Array], Array], g: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """Of two arrays, each first made into a temporary."""

    def program(x: Array, y: Array) -> Array:
        a, b = np.sin(x @ MATRIX), np.sin(MATRIX @ y)
        if how == "sum":
            return f(a) + g(b)
        if how == "product":
            return f(a) * g(a) + b
        return f(np.exp(g(a))) * 0.1 if how == "chain" else np.exp(f(g(a)) * 0.1 + a + g(a))

    return program


PAIRS = [(how, f, g) for how in NAMES for f, g in itertools.product(FUNCTIONS, FUNCTIONS)]


def args() -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    return rng.normal(size=SHAPE), rng.normal(size=SHAPE)


def hold(how: str, f: str, g: str) -> None:
    """Compiled against the interpreter.

    Sums of at most 384 terms stand at most six deep, and what they go through magnifies an error at most a hundredfold:
    6 · 384 · 100 eps is less than 10⁻¹⁰ of the largest result.
    """
    program = combined(how, FUNCTIONS[f], FUNCTIONS[g])
    expected = gc.trace(program, *args()).evaluate(*args())[0]
    found = gc.jit(program)(*args())
    bound = 1e-10 * np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=f"{how} {f} {g}")


def test_every_kind_of_op_is_among_the_functions() -> None:
    graph = gc.trace(lambda x: [f(x) for f in FUNCTIONS.values()], args()[0])
    assert {n.op.kind for n in every_node(graph)} >= {op.kind for op in OPS.values()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("part", range(4))
def test_schedules_of_pairs(part: int) -> None:
    """A sample of all pairs, planned and proved; no code is made."""
    for how, f, g in PAIRS[part * 5 :: 53]:
        graph = gc.trace(combined(how, FUNCTIONS[f], FUNCTIONS[g]), *args())
        assert Stages(graph, Options(threads=1 + part % 2, check=False)).schedule.kernels


@pytest.mark.parametrize("which", range(7, len(PAIRS), 233))
def test_a_compiled_pair_is_the_interpreters(which: int) -> None:
    hold(*PAIRS[which])


@pytest.mark.nightly
@pytest.mark.parametrize("f", FUNCTIONS)
def test_all_compiled_pairs_are_the_interpreters(f: str) -> None:
    for how, one, other in PAIRS:
        if one == f:
            hold(how, one, other)
