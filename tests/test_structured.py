"""The matrix of a linear graph: the identity pushed through it in structure is the one pushed through it densely.

Random programs of all kinds of ops, forward and reverse, first and second order, against one direction at a time; rules
by kind; what stays structured.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from scipy.optimize import rosen_hess

import gradc as gc
from gradc.containers import leaves_of
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.structured import jacobian_blocks
from gradc.graph import Graph, substitute
from gradc.interpret import interpret
from gradc.node import OPS, Node, constant
from gradc.ops.leaves import delta, full
from gradc.ops.record import Kind
from gradc.passes import LINEAR, PIPELINE, run_passes
from gradc.trace import new_input, trace
from tests.programs import Program, programs


def one_direction_at_a_time(graph: Graph, arrays: tuple, y: Node, x: Node) -> np.ndarray:
    """∂y/∂x by one push per element of x."""
    tangent = new_input(x.aval, "tangent")
    (slope,) = push_forward([y], [x], [tangent])
    if slope is None:
        return np.zeros(y.shape + x.shape)
    columns = []
    for i in range(x.size):
        unit = np.zeros(x.size, x.dtype)
        unit[i] = 1
        known = dict(zip((*graph.inputs, tangent), (*arrays, unit.reshape(x.shape)), strict=True))
        columns.append(interpret([slope], known)[0])
    stacked = np.stack(columns, -1) if columns else np.zeros((*y.shape, 0))
    return stacked.reshape(y.shape + x.shape)


def assert_blocks(program: Program) -> None:
    graph = program.graph.replace(outputs=tuple(y for y in program.graph.outputs if y.aval.is_float))
    wanted = [[one_direction_at_a_time(graph, program.arrays, y, x) for x in graph.inputs] for y in graph.outputs]
    poles = not all(np.all(np.isfinite(v)) for v in graph.replace(outputs=graph.nodes).evaluate(*program.arrays))
    for mode in ("forward",) if poles else ("forward", "reverse"):  # a pole may reach other elements in reverse mode
        found = jacobian_blocks(graph, graph.inputs, lambda g: run_passes(g, LINEAR), mode)
        dense = [
            full(y.shape + x.shape, 0, y.dtype) if block is None else block
            for y, row in zip(graph.outputs, found, strict=True)
            for x, block in zip(graph.inputs, row, strict=True)
        ]
        flat = graph.replace(outputs=tuple(dense)).evaluate(*program.arrays)
        for got, expected in zip(flat, [b for row in wanted for b in row], strict=True):
            # one direction at a time multiplies a direction's zeros with what may be infinite; a delta does not
            finite = np.isfinite(expected)
            scale = np.max(np.abs(expected), initial=1.0, where=finite)
            error = np.abs(np.where(finite, got, 0) - np.where(finite, expected, 0))
            assert np.all(error <= 1e-10 * scale), f"{mode}\n{program}\n{got}\n{expected}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs(most_ops=6))
def test_random_programs(program):
    assert_blocks(program)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(programs(most_ops=5, scalar=True))
def test_gradients_of_random_programs(program):
    """Hessians: the matrix of a gradient's linearisation."""
    loss = program.graph.outputs[0]
    pulled = pull_back([loss], program.graph.inputs, [constant(np.ones(()))])
    present = tuple(g for g in pulled if g is not None)
    if present:
        assert_blocks(Program(program.graph.replace(outputs=present), program.arrays))


@pytest.mark.nightly
@settings(max_examples=3000, deadline=None)
@given(programs(most_ops=8))
def test_many_random_programs(program):
    assert_blocks(program)


def assert_api(program: Program) -> None:
    """`jacobian` in each mode, interpreted and compiled, against one direction at a time; and `hessian`."""
    graph = program.graph.replace(outputs=tuple(y for y in program.graph.outputs if y.aval.is_float)[:1])
    if not all(np.all(np.isfinite(v)) for v in graph.replace(outputs=graph.nodes).evaluate(*program.arrays)):
        return
    arrays, where = program.arrays, tuple(range(len(program.arrays)))

    def f(*xs: Node) -> Node:
        return substitute(graph.outputs, dict(zip(graph.inputs, xs, strict=True)))[0]

    def loss(*xs: Node) -> Node:
        return np.sum(np.sin(f(*xs)))

    columns = [one_direction_at_a_time(graph, arrays, graph.outputs[0], x) for x in graph.inputs]
    modes = [gc.jacobian(f, argnums=where, mode=mode) for mode in ("auto", "forward", "reverse")]
    for found in (*(m(*arrays) for m in modes), *gc.jit(lambda *xs: [m(*xs) for m in modes])(*arrays)):
        assert_close(found, columns, program)
    gradient = trace(gc.grad(loss, argnums=where), *arrays)
    rows = [[one_direction_at_a_time(gradient, arrays, y, x) for x in gradient.inputs] for y in gradient.outputs]
    hessian = gc.hessian(loss, argnums=where)
    for blocks in (hessian(*arrays), gc.jit(hessian)(*arrays)):
        for found, wanted in zip(blocks, rows, strict=True):
            assert_close(found, wanted, program)


def assert_close(found: Any, wanted: list[np.ndarray], program: Program) -> None:
    for got, expected in zip(found, wanted, strict=True):
        finite = np.isfinite(expected)
        scale = np.max(np.abs(expected), initial=1.0, where=finite)
        error = np.abs(np.where(finite, got, 0) - np.where(finite, expected, 0))
        assert np.all(error <= 1e-9 * scale), f"{program}\n{got}\n{expected}"


@settings(max_examples=8, deadline=None, derandomize=True)
@given(programs(most_ops=4))
def test_functions_of_random_programs(program):
    assert_api(program)


@pytest.mark.nightly
@settings(max_examples=1000, deadline=None)
@given(programs(most_ops=7))
def test_functions_of_many_random_programs(program):
    assert_api(program)


# -- the op ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", OPS["delta"].samples, ids=lambda s: str(s.attrs["shape"]))
def test_delta_means_the_same_in_numpy_and_sympy(sample):
    value = OPS["delta"].evaluate(**sample.attrs)
    symbolic = OPS["delta"].sympy(sympy, **sample.attrs)
    assert np.array_equal(value, symbolic.astype(float))
    assert value.dtype == sample.attrs["dtype"] and value.shape == sample.attrs["shape"]


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "float64"])
def test_delta_compiles_to_comparisons_of_loop_counters(dtype):
    run = gc.compile(lambda x: (delta((2, 3, 2, 3), ((0, 2), (1, 3)), dtype), x), gc.spec(()))
    value, _ = run(0.0)
    assert np.array_equal(value, np.eye(6).reshape(2, 3, 2, 3).astype(dtype)) and value.dtype == np.dtype(dtype)


# -- cost: the largest intermediate of the optimised graph -------------------------------------------------------------

n, d, k = 40, 6, 5  #: rows, inputs, outputs or hidden units; all different, so that shapes tell them apart
X, Y, LABELS = gc.spec((n, d)), gc.spec((n,)), gc.spec((n,), "int64")


def logistic(w, X, y):
    z = X @ w
    return np.mean(np.log(1 + np.exp(z)) - y * z)


def factorisation(U, V, M):
    return 0.5 * np.sum((U @ V.T - M) ** 2)


def network(W1, W2, X, y):
    return gc.nn.cross_entropy(np.tanh(X @ W1) @ W2, y)


def flat_network(parameters, X, y):
    return network(parameters[: d * k].reshape(d, k), parameters[d * k :].reshape(k, 3), X, y)


def relu_network(layers, X, y):
    (W1, b1), (W2, b2) = layers
    return gc.nn.cross_entropy(gc.nn.relu(X @ W1 + b1) @ W2 + b2, y)


def softmax_regression(W, X, y):
    return gc.nn.cross_entropy(X @ W, y)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


LAYERS = [(gc.spec((d, k)), gc.spec((k,))), (gc.spec((k, 3)), gc.spec((3,)))]
PARAMETERS = d * k + k * 3
#: function of arguments, and the size of the largest array that is no result
LARGEST: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "logistic regression: Xᵀ diag(s) X": (gc.hessian(logistic), (gc.spec((d,)), X, Y), n * d),
    "softmax regression": (gc.hessian(softmax_regression), (gc.spec((d, 3)), X, LABELS), n * d * d),
    "factorisation": (
        gc.hessian(factorisation, (0, 1)), (gc.spec((n, 2)), gc.spec((k, 2)), gc.spec((n, k))), n * k,
    ),
    "network": (
        gc.hessian(network, (0, 1)), (gc.spec((d, k)), gc.spec((k, 3)), X, LABELS), n * max(d * d, d * k, k * k),
    ),
    "network with biases": (gc.hessian(relu_network), (LAYERS, X, LABELS), n * max(d * d, d * k, k * k)),
    "network of one vector": (
        gc.hessian(flat_network), (gc.spec((PARAMETERS,)), X, LABELS), max(PARAMETERS * d * k, n * d * d),
    ),
    "least squares": (gc.hessian(lambda w, X, y: np.sum((X @ w - y) ** 2)), (gc.spec((d,)), X, Y), n * d),
    "log-sum-exp": (gc.hessian(lambda z: np.log(np.sum(np.exp(z)))), (gc.spec((n,)),), n),
    "elementwise": (gc.jacobian(lambda x: np.tanh(x) * np.exp(x)), (gc.spec((n, d)),), n * d),
    "softmax": (gc.jacobian(gc.nn.softmax), (gc.spec((n,)),), n),
    "linear layer, its matrix": (gc.jacobian(lambda W, X: X @ W), (gc.spec((d, k)), X), n * d),
    "linear layer, its input": (gc.jacobian(lambda X, W: X @ W + 1), (X, gc.spec((d, k))), n * d),
    "trace": (gc.jacobian(lambda A: np.sum(A * A.T)), (gc.spec((n, n)),), n * n),
    "Rosenbrock": (gc.hessian(rosenbrock), (gc.spec((n,)),), n * (n - 1)),
}  # fmt: skip


def largest(graph: Graph) -> int:
    """The size of the largest array in the graph that is not as large as a result, axis by axis."""
    results = [sorted(y.shape) for y in graph.outputs]
    return max((node.size for node in graph.nodes if sorted(node.shape) not in results), default=0)


@pytest.mark.parametrize("name", LARGEST)
def test_no_intermediate_is_larger_than_the_closed_form_has(name):
    f, args, size = LARGEST[name]
    assert largest(run_passes(gc.trace(f, *args), PIPELINE)) <= size


def contracted(graph: Graph) -> int:
    """How many products of numbers the contractions of a graph add up."""
    total = 0
    for node in graph.nodes:
        if node.op.kind is Kind.CONTRACT:
            sizes = dict(zip(node.attrs["left"], node.args[0].shape, strict=True))
            total += prod((sizes | dict(zip(node.attrs["right"], node.args[1].shape, strict=True))).values())
    return total


#: and what its contractions multiply
PRODUCTS = {
    "logistic regression: Xᵀ diag(s) X": n * d + n * d * d,
    "factorisation": n * k * 2 + k * 2 * 2 + n * 2 * 2,
    "least squares": n * d * d,
    "log-sum-exp": 0,
    "elementwise": 0,
    "softmax": 0,
    "linear layer, its matrix": 0,
    "linear layer, its input": 0,
    "trace": 0,
    "Rosenbrock": 0,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_products_are_those_of_the_closed_form(name):
    f, args, _ = LARGEST[name]
    assert contracted(run_passes(gc.trace(f, *args), PIPELINE)) == PRODUCTS[name]


@pytest.mark.parametrize("name", LARGEST)
def test_compiled_and_interpreted_agree(name):
    f, args, _ = LARGEST[name]
    random = np.random.default_rng(3)

    def filled(a: Any) -> Any:
        if isinstance(a, (list, tuple)):
            return type(a)(map(filled, a))
        return random.integers(0, 3, a.shape) if a.dtype.kind == "i" else random.normal(size=a.shape)

    values = [filled(a) for a in args]
    graph = gc.trace(f, *args)
    flat = leaves_of(tuple(values))[0]
    for got, expected in zip(leaves_of(gc.jit(f)(*values))[0], graph.evaluate(*flat), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12 * max(1.0, np.abs(expected).max()))


# -- closed forms ------------------------------------------------------------------------------------------------------


def test_rosenbrock_is_tridiagonal():
    x = np.random.default_rng(0).normal(size=7)
    np.testing.assert_allclose(gc.hessian(rosenbrock)(x), rosen_hess(x), atol=1e-10)


def test_zeros_off_the_diagonal_are_zeros_also_beside_poles():
    with np.errstate(all="ignore"):
        J = gc.jacobian(np.log)(np.array([0.0, 2.0]))
    assert np.array_equal(J, [[np.inf, 0], [0, 0.5]])


def test_a_mask_protects_what_is_not_chosen():
    f = lambda x, W: np.where(x > 0, np.sqrt(np.abs(x) * x), 0.0) @ W
    x, W = np.array([-1.0, 0.0, 4.0]), np.arange(6.0).reshape(3, 2)
    for mode in ("forward", "reverse"):
        J = gc.jacobian(f, mode=mode)(x, W)
        np.testing.assert_allclose(J, [[0, 0, 4.0], [0, 0, 5.0]])


def test_a_mask_protects_from_poles_that_lie_along_another_axis():
    """Σᵢ mᵢ aᵢ log xⱼ: where no mᵢ holds, the derivative is 0 also at xⱼ = 0."""
    f = lambda x, m: np.where(m[:, None], m[:, None] * np.log(x)[None, :], 0.0).sum(axis=0)
    x = np.array([0.0, 2.0])
    for mode in ("forward", "reverse"):
        assert np.array_equal(gc.jacobian(f, mode=mode)(x, np.zeros(3, bool)), np.zeros((2, 2)))
        np.testing.assert_allclose(gc.jacobian(f, mode=mode)(x, np.array([True, False, True])), [[np.inf, 0], [0, 1.0]])


def test_what_is_divided_is_zero_where_nothing_is_placed():
    x, z = np.array([1.0, 2.0]), np.array([4.0, 5.0])
    f = lambda s: np.concatenate([x * s / z, x * s, s * np.ones(1)])
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(gc.jacobian(f, mode=mode)(3.0), [0.25, 0.4, 1, 2, 1])


def test_negative_indices_count_from_the_end():
    f = lambda x, i: x[i] ** 2
    x, i = np.array([1.0, 2.0, 3.0]), np.array([-1, 0, -3])
    for mode in ("forward", "reverse"):
        J = gc.jit(gc.jacobian(f, mode=mode))(x, i)
        np.testing.assert_allclose(J, [[0, 0, 6], [2, 0, 0], [2, 0, 0]])


CASES: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "flipped and strided": (lambda x: x[::-2] ** 2, np.arange(1.0, 8.0)),
    "two slices of a slice": (lambda x: x[1:][::2] * x[:-1][::2], np.arange(1.0, 8.0)),
    "regrouped axes": (lambda x: np.sin(x.reshape(3, 4)) @ np.arange(8.0).reshape(4, 2), np.arange(12.0).reshape(2, 6)),
    "flattened transpose": (lambda x: np.cumsum(x.T.ravel() ** 2), np.arange(6.0).reshape(2, 3)),
    "table look-up": (lambda x: x[np.array([0, -1, 0])] * np.arange(3.0)[:, None], np.arange(6.0).reshape(3, 2)),
    "added at places": (lambda x: (x * 0).at[np.array([1, 1, -3])].add(x**2), np.arange(1.0, 4.0)),
    "set at places": (lambda x: x.at[np.array([1, 1])].set(x[:2] ** 3), np.arange(1.0, 4.0)),
    "sorted": (lambda x: np.sort(x) ** 2, np.array([3.0, 1.0, 2.0])),
    "running product": (lambda x: np.cumprod(x), np.array([3.0, 1.0, 0.0, 2.0])),
    "largest": (lambda x: np.max(x, axis=0), np.array([[3.0, 1.0], [3.0, 2.0]])),
    "windows": (lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, 0) @ np.array([1.0, -2.0]), np.arange(5.0)),
    "axes of length one": (lambda x: x @ x.T * np.ones((1, 3)), np.array([[2.0]])),
    "a scalar": (lambda x: np.array([1.0, 2.0]) * x**2, np.array(3.0)),
    "no elements": (lambda x: np.concatenate([x * 2, np.zeros((0, 2))]), np.zeros((0, 2))),
    "broadcast": (lambda x: x[:, None] * x[None, :] + x, np.arange(1.0, 4.0)),
    "repeated and summed": (lambda x: np.broadcast_to(x[:, None], (3, 4)).sum(axis=1), np.arange(3.0)),
    "unused": (lambda x: np.ones(2), np.arange(3.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_op(name):
    f, x = CASES[name]
    graph = gc.trace(f, x)
    expected = one_direction_at_a_time(graph, (x,), graph.outputs[0], graph.inputs[0])
    for mode in ("forward", "reverse", "auto"):
        np.testing.assert_allclose(gc.jacobian(f, mode=mode)(x), expected, atol=1e-12)
        np.testing.assert_allclose(gc.jit(gc.jacobian(f, mode=mode))(x), expected, atol=1e-12)


W_LOOP = np.array([[0.5, -0.2], [0.1, 0.7]])
LOOPS: dict[str, Callable[[Any], Any]] = {
    "scan": lambda x: gc.scan(lambda c, row: (np.tanh(c @ W_LOOP) + row, c * row), x[0], x)[1],
    "fori_loop": lambda x: gc.fori_loop(0, 3, lambda i, c: np.sin(c) * x + i, x),
    "while_loop": lambda x: gc.while_loop(lambda c: np.sum(c) < 40, lambda c: c * 1.5 + x**2, x, max_steps=9),
    "cond": lambda x: gc.cond(np.sum(x) > 0, lambda x: x**2 @ W_LOOP, lambda x: np.sin(x), x),
    "checkpoint": lambda x: gc.checkpoint(lambda x: np.exp(np.sin(x)) @ W_LOOP)(x) * x,
    "a loop beside its own input": lambda x: gc.fori_loop(0, 2, lambda i, c: c @ W_LOOP, x) * np.tanh(x) @ W_LOOP,
}


@pytest.mark.parametrize("name", LOOPS)
def test_nodes_that_hold_bodies(name):
    f, x = LOOPS[name], np.array([[0.3, 0.8], [1.1, 0.4], [0.2, 0.9]])
    graph = gc.trace(f, x)
    expected = one_direction_at_a_time(graph, (x,), graph.outputs[0], graph.inputs[0])
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(gc.jacobian(f, mode=mode)(x), expected, atol=1e-12)
    H = gc.hessian(lambda x: np.sum(f(x) ** 2))(x)
    gradient = gc.trace(gc.grad(lambda x: np.sum(f(x) ** 2)), x)
    second = one_direction_at_a_time(gradient, (x,), gradient.outputs[0], gradient.inputs[0])
    np.testing.assert_allclose(H, second, atol=1e-10)


def test_a_loop_without_a_bound_has_a_forward_jacobian():
    f = lambda x: gc.while_loop(lambda c: c[0] < 100, lambda c: c * np.array([2.0, 3.0]) * x, x)
    x = np.array([1.5, 1.2])
    graph = gc.trace(f, x)
    expected = one_direction_at_a_time(graph, (x,), graph.outputs[0], graph.inputs[0])
    np.testing.assert_allclose(gc.jacobian(f, mode="forward")(x), expected, rtol=1e-12)


def test_jacobians_nest():
    f = lambda x: np.sin(x) * x[::-1]
    x = np.array([0.3, 0.7, 1.1])
    second = gc.jacobian(gc.jacobian(f))(x)
    h = 1e-6
    numeric = np.stack([(gc.jacobian(f)(x + h * e) - gc.jacobian(f)(x - h * e)) / (2 * h) for e in np.eye(3)], -1)
    np.testing.assert_allclose(second, numeric, atol=1e-8)
    np.testing.assert_allclose(gc.jacobian(gc.hessian(lambda x: np.sum(x**4)))(2 * np.ones(2))[0, 0], [48.0, 0.0])


def test_jacobians_under_vmap_and_inside_a_trace():
    xs = np.random.default_rng(0).normal(size=(4, 3))
    f = gc.hessian(lambda x: np.sum(np.tanh(x) ** 2) * x[0])
    np.testing.assert_allclose(gc.vmap(f)(xs), np.stack([f(x) for x in xs]), rtol=1e-12)
    newton = lambda x: x - np.sum(gc.hessian(lambda x: np.sum(x**4))(x), axis=1) * x
    np.testing.assert_allclose(gc.jit(newton)(xs[0]), newton(xs[0]), rtol=1e-12)
    a = 2.0
    outer = gc.grad(lambda a: np.sum(gc.jacobian(lambda x: a * np.sin(x))(xs[0])))
    np.testing.assert_allclose(outer(a), np.cos(xs[0]).sum(), rtol=1e-12)


def test_float32_stays_float32():
    x = np.ones((3, 2), np.float32)
    H = gc.hessian(lambda x: np.sum(np.tanh(x @ x.T)))(x)
    assert H.dtype == np.float32 and H.shape == (3, 2, 3, 2)


def test_integer_results_are_named():
    with pytest.raises(gc.DTypeError, match=r"positions is int64\[3\]"):

        def positions(x):
            return np.argsort(x)

        gc.jacobian(positions)(np.ones(3))


def test_many_slices_are_added_up():
    f = lambda x: sum(np.sin(x[i]) * x[i + 1] for i in range(20))
    x = np.linspace(0, 1, 21)
    graph = gc.trace(f, x)
    pulled = pull_back(graph.outputs, graph.inputs, [constant(np.ones(()))])
    gradient = graph.replace(outputs=tuple(g for g in pulled if g is not None))
    expected = one_direction_at_a_time(gradient, (x,), gradient.outputs[0], graph.inputs[0])
    np.testing.assert_allclose(gc.hessian(f)(x), expected, atol=1e-13)
    np.testing.assert_allclose(gc.jacobian(f, mode="forward")(x), gc.grad(f)(x), rtol=1e-13)


# -- programs of single numbers ----------------------------------------------------------------------------------------


def chain(q):
    total, angle = 0.0, 0.0
    for a in q:
        angle = angle + a
        total = total + np.sin(angle) * angle / (1 + a * a)
    return total


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_program_of_single_numbers_takes_its_directions_side_by_side(mode):
    q = np.linspace(-1.0, 2.0, 7)
    curvature = gc.jacobian(gc.grad(chain), mode=mode)
    expected = np.stack([gc.hvp(chain, (q,), (e,))[0] for e in np.eye(7)])
    executable = gc.compile(curvature, q)
    np.testing.assert_allclose(executable(q), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gc.vmap(curvature)(np.stack([q, -q]))[0], expected, rtol=1e-12, atol=1e-13)
    assert len(executable.schedule.kernels) < 8, "a row of the Hessian is a vector, not many numbers"


# -- deep programs -----------------------------------------------------------------------------------------------------

VECTOR = np.array([0.3, 0.4, 0.5])
MATRIX = np.arange(4.0).reshape(2, 2) / 5
DEEP: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "single numbers": (lambda x: np.sin(x) + 0.1, 0.5),
    "elementwise": (lambda x: np.sin(x) + 0.1, VECTOR),
    "quotients": (lambda x: x / (1 + x * x), VECTOR),
    "scaled by a sum": (lambda x: x * np.tanh(np.sum(x)), VECTOR),
    "normalised": (lambda x: x / np.sqrt(np.sum(x * x) + 0.1), VECTOR),
    "neighbours": (lambda x: np.sin(x) * np.roll(x, 1), VECTOR),
    "gathered": (lambda x: np.sin(x)[np.array([1, 2, 0])] * x, VECTOR),
    "guarded": (lambda x: np.where(x > 0, np.sin(x), x * 0.5), VECTOR),
    "layers": (lambda x: np.tanh(x @ MATRIX + MATRIX) + x, MATRIX),
}


def deep(step: Callable[[Any], Any], depth: int) -> Callable[[Any], Any]:
    def repeated(x):
        for _ in range(depth):
            x = step(x)
        return x

    return repeated


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", DEEP)
def test_derivatives_of_deep_programs_grow_with_their_depth(name):
    """A program twice as deep has twice the nodes: nothing is written out again for each step above it."""
    step, x = DEEP[name]
    for derivative in (lambda f: gc.hessian(lambda x: np.sum(f(x))), gc.jacobian):
        shallow, twice = (len(gc.trace(derivative(deep(step, depth)), x).nodes) for depth in (12, 24))
        assert twice < 2.5 * shallow


def test_deep_hessians_are_right():
    for step, x in DEEP.values():
        f = lambda x, step=step: np.sum(deep(step, 6)(x))
        x = np.asarray(x)
        rows = [gc.hvp(f, (x,), (e.reshape(x.shape),))[0] for e in np.eye(x.size)]
        want = np.stack(rows, -1).reshape(x.shape * 2)
        np.testing.assert_allclose(gc.hessian(f)(x), want, rtol=1e-9, atol=1e-12 * np.abs(want).max())


def test_the_hessian_of_a_chain_of_numbers_costs_what_reverse_over_reverse_does():
    f = deep(lambda x: np.sin(x) + 0.1, 100)
    hessian, twice = (len(gc.trace(derivative, 1.0).nodes) for derivative in (gc.hessian(f), gc.grad(gc.grad(f))))
    assert hessian < 1.2 * twice


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_second_derivatives_through_arrays_of_no_element_are_zero(mode):
    """What is linear in a direction then is the constant 0, which does not read the direction."""
    f = lambda x: np.sum(np.sinh(x[:, 2:-3]).at[0].min(-1.0)) + 0.0 * np.sum(x)
    x = np.ones((2, 2))
    np.testing.assert_array_equal(gc.jacobian(gc.grad(f), mode=mode)(x), np.zeros((2, 2, 2, 2)))
    assert gc.check_gradients(lambda x: np.sinh(x[:, 2:-3]).at[0].min(-1.0), x).ok
