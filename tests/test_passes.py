"""Passes: each keeps the meaning, does what its docstring says, and is observable by name."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS, Node, as_node
from gradc.ops.record import Kind
from gradc.passes import (
    LOWERING,
    PIPELINE,
    cse,
    dce,
    fold,
    run_passes,
    simplify,
    simplify_to_read,
    stabilise,
    together,
    unfold,
)
from gradc.passes.hoist import hoist
from gradc.passes.verify import verify


def ops(graph):
    return [n.op.name for n in graph.nodes if n.op.name not in ("input", "constant", "broadcast")]


def test_cse_merges_equal_work_and_keeps_signed_zeros_apart():
    graph = cse(gc.trace(lambda x: np.sin(x) * np.sin(x) + (x * 0.0 + x * -0.0), gc.spec((2,))))
    assert ops(graph).count("sin") == 1 and ops(graph).count("multiply") == 3


def test_cse_merges_composites_whose_operands_are_merged():
    """What bears a label is rebuilt once, however many nodes become it: softmaxes of x + x are of the first x + x."""

    def twice(x):
        return (x + x) * gc.nn.softmax(x + x) * gc.nn.softmax(x + x)

    graph = cse(gc.trace(twice, gc.spec((3,))))
    assert ops(graph).count("exp") == 1
    assert [n.label.name for n in graph.nodes if n.label is not None and n.op.name == "exp"] == ["softmax"]
    assert len({id(n) for n in graph.nodes}) == len({(n.op, n.args, str(n.attrs)) for n in graph.nodes})


def test_fold_computes_constants():
    graph = fold(gc.trace(lambda x: x * np.sqrt(gc.numpy.asarray(2.0) * 8.0), 1.0))
    assert ops(graph) == ["multiply"]


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x * 1 / 1 - 0.0, []),
        (lambda x: np.negative(-x), []),
        (lambda x: x.T.T.reshape(6).reshape(2, 3), []),
        (lambda x: x**2.0, ["square"]),
        (lambda x: (x.T @ x).T, ["contract"]),
        (lambda x: x.astype("float64"), []),
        (lambda x: np.where(x > 0, x, x), []),
        (lambda x: np.einsum("ij,j->ij", x, np.broadcast_to(np.max(x), 3)), ["max", "multiply"]),
        (lambda x: np.einsum("j,ij->ji", np.broadcast_to(np.max(x), 3), x), ["transpose", "max", "multiply"]),
        (lambda x: np.einsum("ij,j->i", x, np.broadcast_to(np.max(x), 3)), ["sum", "max", "multiply"]),
        (lambda x: np.einsum("ij,k->ijk", x, np.broadcast_to(np.max(x), 3)), ["max", "contract"]),
    ],
)
def test_identities(f, left):
    graph = gc.trace(f, gc.spec((2, 3)))
    after = simplify(fold(graph))
    assert sorted(ops(after)) == sorted(left)
    x = np.arange(6.0).reshape(2, 3) - 2
    np.testing.assert_array_equal(after.evaluate(x), graph.evaluate(x))


def test_unsafe_identities_are_left_alone():
    """x + 0 turns −0 into 0 and x·0 keeps NaN: both stay."""
    graph = run_passes(gc.trace(lambda x: (x + 0.0) + x * 0.0, gc.spec((2,))), PIPELINE)
    assert ops(graph).count("multiply") == 1 and ops(graph).count("add") == 2


def _contrast(a, b):
    return (a - b) / (b + a)


STABLE = [
    (lambda x: np.log(np.exp(x) / np.sum(np.exp(x))), "logsumexp", 1000.0),
    (lambda x: np.log(np.sum(np.exp(x))), "logsumexp", 1000.0),
    (lambda x: np.log1p(np.exp(x)), "softplus", 1000.0),
    (lambda x: np.log(1 + np.exp(x)), "softplus", 1000.0),
    (lambda x: 1 / (1 + np.exp(-x)), "sigmoid", -1000.0),
    (lambda x: _contrast(np.exp(x), np.exp(-x)), "tanh", 1000.0),
    (lambda x: _contrast(np.exp(-x), np.exp(x)), "tanh", 1000.0),
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


# -- folds in gather form ----------------------------------------------------------------------------------------------
def _folds(f, *arrays):
    """The graph of ``f`` after `unfold`, which must mean the same bit for bit on these small integers."""
    graph = gc.trace(f, *(gc.spec(a.shape, a.dtype) for a in arrays))
    after = run_passes(graph, (fold, simplify, cse, unfold, simplify, dce), check=True)
    np.testing.assert_array_equal(after.evaluate(*arrays), graph.evaluate(*arrays))
    return [n.op.name for n in after.nodes]


@pytest.mark.parametrize("window", [
    {"axes": (1, 2), "sizes": (2, 3), "strides": (1, 1), "dilations": (1, 2)},
    {"axes": (2,), "sizes": (3,), "strides": (2,), "dilations": (1,)},
])  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True])
def test_a_fold_of_an_outer_product_is_a_correlation(window, swapped):
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 8, 11)).astype(float)

    def back(ct, w):
        seen = OPS["windows"].make((as_node(x),), **window)
        inside = tuple(range(3, seen.ndim))
        sides = [(ct, (0, 1, 2)), (w, inside)][:: 1 - 2 * swapped]
        spread = OPS["contract"].make(
            [n for n, _ in sides], left=sides[0][1], right=sides[1][1], out=tuple(range(seen.ndim))
        )
        return OPS["fold"].make((spread,), shape=x.shape, **window)

    positions = OPS["windows"].make((as_node(x),), **window).shape[:3]
    ct, w = (rng.integers(-4, 5, s).astype(float) for s in (positions, window["sizes"]))
    names = _folds(back, ct, w)
    assert "fold" not in names and names.count("contract") == 1


@pytest.mark.parametrize("shape", [(4, 6), (5, 8)])
def test_windows_side_by_side_fold_into_a_view(shape):
    window = {"axes": (0, 1), "sizes": (2, 3), "strides": (2, 3), "dilations": (1, 1)}
    ct = np.arange(4.0 * 6).reshape(2, 2, 2, 3)
    names = _folds(lambda ct: OPS["fold"].make((ct,), shape=shape, **window), ct)
    assert "fold" not in names


def test_folds_stay_where_a_correlation_would_multiply_mostly_zeros():
    window = {"axes": (0, 1), "sizes": (4, 4), "strides": (2, 2), "dilations": (1, 1)}

    def back(ct, w):
        spread = OPS["contract"].make((ct, w), left=(0, 1), right=(2, 3), out=(0, 1, 2, 3))
        return OPS["fold"].make((spread,), shape=(10, 10), **window)

    assert "fold" in _folds(back, np.ones((4, 4)), np.ones((4, 4)))


# -- what softmax shares -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_softmax_takes_the_exponentials_of_its_denominator(axis):
    graph = gc.trace(lambda x: gc.nn.softmax(x, axis=axis), gc.spec((5, 7)))
    lowered = run_passes(graph, (*PIPELINE, *LOWERING), check=True)
    assert ops(lowered).count("exp") == 1 and "log" not in ops(lowered)
    for x in (1e3 * np.random.default_rng(0).standard_normal((5, 7)), np.full((5, 7), -np.inf)):
        with np.errstate(invalid="ignore", divide="ignore"):
            np.testing.assert_allclose(lowered.evaluate(x)[0], graph.evaluate(x)[0], rtol=4e-15)


def test_exponentials_of_other_shifts_stay():
    graph = gc.trace(lambda x, y: np.exp(y - gc.special.logsumexp(x, axis=1, keepdims=True)), *2 * [gc.spec((5, 7))])
    assert ops(run_passes(graph, (*PIPELINE, *LOWERING))).count("exp") == 2


# -- products with one large array -------------------------------------------------------------------------------------
BIG, NARROW = np.arange(512.0 * 128).reshape(512, 128) % 7 - 3, np.arange(128.0) % 5 - 2


def _products(f, *arrays):
    """How many products are left of ``f``, whose values must stay; small integers make every order of sums exact."""
    graph = gc.trace(f, *(gc.spec(a.shape, a.dtype) for a in arrays))
    after = run_passes(graph, (*PIPELINE, together, dce), check=True)
    for found, expected in zip(after.evaluate(*arrays), graph.evaluate(*arrays), strict=True):
        np.testing.assert_array_equal(found, expected)
    return ops(after).count("contract")


@pytest.mark.parametrize(("f", "count"), [
    (lambda x, v: (x @ v, x @ (2 * v), x @ (v + 1)), 1),
    (lambda x, v: (v @ x.T, (2 * v) @ x.T), 1),  # from the right
    (lambda x, v: (x.T @ np.abs(x @ v), x.T @ (x @ (2 * v))), 2),  # two of each kind
    (lambda x, v: (x @ v, x @ (x.T @ (x @ v))), 3),  # one is made of the other
    (lambda x, v: (x @ v, x[:, :64] @ v[:64]), 2),  # another operand
    (lambda x, v: (x[:16] @ v, x[:16] @ (2 * v)), 2),  # a small one
    (lambda x, v: (x @ x[:128], x @ (2 * x[:128])), 2),  # arithmetic is what these cost
])  # fmt: skip
def test_products_of_one_large_operand_cross_memory_together(f, count):
    assert _products(f, BIG, NARROW) == count


def test_a_gradient_and_a_hessian_vector_product_read_the_data_twice():
    def both(w, v, x):
        def loss(w):
            return np.mean(np.logaddexp(0.0, x @ w))

        return gc.grad(loss)(w), gc.hvp(loss, (w,), (v,))

    graph = gc.trace(both, gc.spec((128,)), gc.spec((128,)), gc.spec((512, 128)))
    assert ops(run_passes(graph, (*PIPELINE, *LOWERING))).count("contract") == 2
    rng = np.random.default_rng(0)
    w, v, x = rng.standard_normal(128) / 9, rng.standard_normal(128), rng.standard_normal((512, 128))
    for found, expected in zip(gc.jit(both)(w, v, x), both(w, v, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


# -- quotients, placements ---------------------------------------------------------------------------------------------
def test_quotients_by_one_value_share_its_reciprocal():
    def total(x, y, z):
        return (x / z + y / z).sum()

    given = [np.linspace(1.0, 2.0, 5) * k for k in (1, 2, 3)]
    graph = run_passes(gc.trace(gc.grad(total, argnums=(0, 1, 2)), *given), PIPELINE)
    assert [n.op.name for n in graph.nodes].count("divide") <= 3  # what the function itself says, and 1/z
    single = run_passes(gc.trace(lambda x, y: x * (1 / y), *given[:2]), PIPELINE)
    assert [n.op.name for n in single.nodes if n.args] == ["divide"]
    assert [n.op.name for n in simplify_to_read(single).nodes if n.args] == ["divide"]
    shared = run_passes(gc.trace(lambda x, y, z: (x * (1 / z), y * (1 / z)), *given), PIPELINE)
    assert [n.op.name for n in shared.nodes].count("divide") == 1


def test_what_is_placed_and_transposed_is_placed_transposed():
    def rows(x):
        return x[0] ** 2 @ x[1] + x[1].sum()

    x = np.arange(6.0).reshape(2, 3)
    graph = gc.trace(lambda x: gc.grad(rows)(x).T, x)
    better = run_passes(graph, PIPELINE)
    assert [n.op.name for n in better.nodes][-1] == "superpose"
    assert np.array_equal(better.evaluate(x)[0], graph.evaluate(x)[0])


# -- what leaves a body ------------------------------------------------------------------------------------------------
def _places(f):
    """The ops beside the loop after `hoist`, and those in its body and its condition."""
    graph = hoist(gc.trace(f, gc.spec((2,)), gc.spec((2,)), gc.spec((2,), int), gc.spec((), int)))
    (node,) = [n for n in graph.nodes if n.op.kind is Kind.LOOP]
    beside = {*ops(graph)} - {"loop", "item", "slice", "reshape"}
    return beside, *({*ops(body)} for body in (node.attrs["body"], node.attrs["cond"]) if body is not None)


def test_what_no_step_changes_leaves_a_loop_and_only_what_cannot_fail_leaves_one_that_may_not_run():
    def step(s, c, i, n):
        return s + np.sin(c) + c[i] + n**n

    steady = {"sin", "gather", "power"}
    for length, leaves in ((3, steady), (0, {"sin"})):
        beside, body = _places(lambda s, c, i, n, k=length: gc.scan(lambda s, _: (step(s, c, i, n), 0), s, length=k)[0])
        assert (beside & steady, body & steady) == (leaves, steady - leaves)

    def until(s, c, i, n):
        return gc.while_loop(lambda s: (s < np.cos(c) + np.tan(c[i])).all(), lambda s: step(s, c, i, n), s)

    beside, body, cond = _places(until)
    assert beside & steady == {"sin"} and "cos" in beside and "tan" not in beside
    assert body & steady == {"gather", "power"} and cond & {"cos", "tan", "gather"} == {"tan", "gather"}
