"""Passes: each keeps the meaning, does what its docstring says, and is observable by name."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS, Node
from gradc.passes import PIPELINE, cse, fold, optimise, run_passes, simplify, stabilise
from gradc.passes.verify import verify


def ops(graph):
    return [n.op.name for n in graph.nodes if n.op.name not in ("input", "constant", "broadcast")]


def test_cse_merges_equal_work_and_keeps_signed_zeros_apart():
    graph = cse(gc.trace(lambda x: np.sin(x) * np.sin(x) + (x * 0.0 + x * -0.0), gc.spec((2,))))
    assert ops(graph).count("sin") == 1 and ops(graph).count("multiply") == 3


def test_fold_computes_constants():
    graph = fold(gc.trace(lambda x: x * np.sqrt(gc.numpy.asarray(2.0) * 8.0), 1.0))
    assert ops(graph) == ["multiply"]


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x * 1 / 1 - 0.0, []),
        (lambda x: np.negative(-x), []),
        (lambda x: x.T.T.reshape(6).reshape(2, 3), []),
        (lambda x: x * (1 / (x + 2.0)), ["add", "divide"]),
        (lambda x: x**2.0, ["square"]),
        (lambda x: (x.T @ x).T, ["contract"]),
        (lambda x: x.astype("float64"), []),
        (lambda x: np.where(x > 0, x, x), []),
    ],
)
def test_identities(f, left):
    graph = simplify(fold(gc.trace(f, gc.spec((2, 3)))))
    assert ops(graph) == left


def test_unsafe_identities_are_left_alone():
    """x + 0 turns −0 into 0 and x·0 keeps NaN: both stay."""
    graph = optimise(gc.trace(lambda x: (x + 0.0) + x * 0.0, gc.spec((2,))))
    assert ops(graph).count("multiply") == 1 and ops(graph).count("add") == 2


STABLE = [
    (lambda x: np.log(np.exp(x) / np.sum(np.exp(x))), "logsumexp", 1000.0),
    (lambda x: np.log(np.sum(np.exp(x))), "logsumexp", 1000.0),
    (lambda x: np.log1p(np.exp(x)), "softplus", 1000.0),
    (lambda x: np.log(1 + np.exp(x)), "softplus", 1000.0),
    (lambda x: 1 / (1 + np.exp(-x)), "sigmoid", -1000.0),
    (lambda x: 1 - gc.nn.sigmoid(x), "sigmoid", 40.0),
    (lambda x: np.log(gc.nn.sigmoid(x)), "softplus", -1000.0),
    (lambda x: np.exp(x) - 1, "expm1", 1e-20),
    (lambda x: np.log(1 + x), "log1p", 1e-20),
    (lambda x: np.sqrt(np.sum(x**2)), "norm", 0.0),
    (lambda x: np.sqrt(x**2), "absolute", 1e-200),
]


@pytest.mark.parametrize(("f", "op", "extreme"), STABLE)
def test_stable_forms_are_chosen_and_reported(f, op, extreme):
    graph = gc.trace(f, gc.spec((3,)))
    stable = stabilise(simplify(fold(graph)))
    assert op in ops(stable) and stable.notes and "test_passes.py" in stable.notes[0]
    x = np.array([0.3, -0.2, 0.9])
    np.testing.assert_allclose(stable.evaluate(x)[0], graph.evaluate(x)[0], rtol=1e-12)
    assert np.all(np.isfinite(stable.evaluate(np.full(3, extreme))[0]))


def test_passes_are_observable_by_name_and_keep_the_meaning():
    seen = []

    def f(x, w):
        z = x @ w
        return -np.sum(np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))) / 4

    graph = gc.trace(gc.grad(f, 1), gc.spec((4, 3)), gc.spec((3, 2)))
    x, w = np.random.default_rng(0).standard_normal((4, 3)), np.ones((3, 2))
    expected = graph.evaluate(x, w)

    def observe(name, before, after):
        seen.append(name)
        np.testing.assert_allclose(after.evaluate(x, w), expected, rtol=1e-12, atol=1e-14)

    run_passes(graph, PIPELINE, observe, check=True)
    assert seen == [p.__name__ for p in PIPELINE]


def test_verify_names_the_pass_and_the_node():
    graph = gc.trace(lambda x: np.sin(x), gc.spec((3,)))
    (out,) = graph.outputs
    broken = Node(OPS["sin"], out.args, {}, gc.spec((4,)), out.where)
    with pytest.raises(gc.CompileError, match=r"after vandal: %1 = sin"):
        verify(graph.replace(outputs=(broken,)), "vandal")
