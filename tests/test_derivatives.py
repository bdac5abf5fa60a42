"""The public transforms: what they return, how they nest, and what they refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import gradc as gc

METHODS = ("reverse", "forward", "symbolic", "finite")


@pytest.mark.parametrize("method", METHODS)
def test_four_methods_agree_on_a_known_gradient(method):
    x = np.array([0.5, -1.25, 2.0])
    got = gc.grad(lambda x: np.sum(np.sin(x) * x), method=method)(x)
    np.testing.assert_allclose(got, np.sin(x) + x * np.cos(x), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_methods_nest_gradients_like_their_arguments(method):
    def f(p, x):
        return np.sum((x @ p["W"] + p["b"]) ** 2) * p["s"][0]

    params = {"W": np.ones((3, 2)), "b": np.zeros(2), "s": (np.float64(2.0),)}
    x = np.arange(12.0).reshape(4, 3) / 10
    got = gc.grad(f, method=method)(params, x)
    z = x @ params["W"]
    np.testing.assert_allclose(got["W"], 4 * x.T @ z, rtol=1e-8)
    np.testing.assert_allclose(got["b"], 4 * z.sum(axis=0), rtol=1e-8)
    np.testing.assert_allclose(got["s"][0], np.sum(z**2), rtol=1e-8)


def test_unknown_method_is_refused_at_once():
    with pytest.raises(ValueError, match="'symbolic'"):
        gc.grad(np.sum, method="backward")


def test_argnums_tuple_returns_a_tuple():
    a, b = gc.grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    assert (a, b) == (3.0, 2.0)


def test_argnums_out_of_range_names_the_function():
    def area(x):
        return x * x

    with pytest.raises(TypeError, match=r"area was called with 1"):
        gc.grad(area, argnums=1)(2.0)


def test_value_and_grad_with_aux():
    def f(x):
        h = np.tanh(x)
        return h.sum(), {"h": h}

    (value, aux), g = gc.value_and_grad(f, has_aux=True)(np.array([0.1, 0.2]))
    np.testing.assert_allclose(aux["h"], np.tanh([0.1, 0.2]))
    np.testing.assert_allclose(value, np.tanh([0.1, 0.2]).sum())
    np.testing.assert_allclose(g, 1 - np.tanh([0.1, 0.2]) ** 2)


def test_third_derivative():
    f = lambda x: np.sin(x) * x**3
    third = gc.grad(gc.grad(gc.grad(f)))(0.7)
    x = 0.7
    expected = 6 * np.sin(x) + 18 * x * np.cos(x) - 9 * x**2 * np.sin(x) - x**3 * np.cos(x)
    np.testing.assert_allclose(third, expected, rtol=1e-12)


def test_nested_derivatives_do_not_confuse_their_perturbations():
    """d/dx [x · d/dy (x + y)] = 1, not 2 (Siskind & Pearlmutter 2005)."""
    assert gc.grad(lambda x: x * gc.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    assert gc.jvp(lambda x: x * gc.jvp(lambda y: x * y, (2.0,), (1.0,))[1], (3.0,), (1.0,))[1] == 6.0


def test_masked_branches_do_not_poison():
    g = gc.grad(lambda x: np.where(x > 0, np.sqrt(x), 0.0).sum())(np.array([-1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(g, [0.0, 0.0, 0.25])
    inner = gc.grad(lambda x: np.where(x > 0, np.log(x) * np.sqrt(x), x).sum())(np.array([-2.0, 1.0]))
    np.testing.assert_allclose(inner, [1.0, 1.0])


def test_a_nan_in_the_live_branch_stays():
    g = gc.grad(lambda x: np.where(x > -5, np.sqrt(x), 0.0).sum())(np.array([-1.0]))
    assert np.isnan(g[0])


def test_singular_points_have_their_declared_answer():
    assert gc.grad(np.abs)(0.0) == 0.0
    np.testing.assert_array_equal(gc.grad(lambda x: np.linalg.norm(x))(np.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(gc.grad(np.max)(np.array([1.0, 1.0, 0.0])), [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(gc.grad(np.prod)(np.array([0.0, 2.0, 3.0])), [6.0, 0.0, 0.0])
    assert gc.grad(lambda x: x**0)(0.0) == 0.0


def test_stabilised_before_the_derivative():
    """log softmax written naively overflows; its gradient is p − y all the same."""
    z, y = np.array([1000.0, 0.0, -1000.0]), np.array([0.0, 1.0, 0.0])
    naive = lambda z: -np.sum(y * np.log(np.exp(z) / np.sum(np.exp(z))))
    np.testing.assert_allclose(gc.grad(naive)(z), np.array([1.0, 0.0, 0.0]) - y)


def test_rows_of_one_value_cost_one_superposition():
    """Cotangents of n slices are collected, so a loop over rows is linear."""

    def f(x):
        total = 0.0
        for row in x:
            total = total + np.sum(row**2)
        return total

    graph = gc.trace(gc.grad(f), gc.spec((50, 3)))
    assert sum(n.op.name == "superpose" for n in graph.nodes) == 1
    x = np.arange(150.0).reshape(50, 3)
    np.testing.assert_allclose(graph.evaluate(x)[0], 2 * x)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian(mode):
    W, x = np.arange(6.0).reshape(2, 3), np.array([0.1, 0.2, 0.3])
    got = gc.jacobian(lambda x: np.sin(W @ x), mode=mode)(x)
    np.testing.assert_allclose(got, np.cos(W @ x)[:, None] * W, rtol=1e-13)


def test_jacobian_nests_outputs_then_inputs():
    f = lambda p: {"s": p[0] * p[1], "t": p[0]}
    got = gc.jacobian(f)((np.ones(2), np.full(2, 3.0)))
    np.testing.assert_allclose(got["s"][0], 3 * np.eye(2))
    np.testing.assert_allclose(got["t"][1], np.zeros((2, 2)))


def test_hessian_and_hvp():
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    f = lambda x: 0.5 * x @ A @ x + np.sum(np.sin(x))
    x, v = np.array([0.3, -0.4]), np.array([1.0, 2.0])
    H = A - np.diag(np.sin(x))
    np.testing.assert_allclose(gc.hessian(f)(x), H, rtol=1e-13)
    np.testing.assert_allclose(gc.hvp(f, (x,), (v,))[0], H @ v, rtol=1e-13)


def test_vjp_and_jvp_are_adjoint():
    f = lambda x: np.cumsum(np.exp(x))
    x, t, ct = np.array([0.1, 0.2, 0.3]), np.array([1.0, -1.0, 0.5]), np.array([0.3, 0.2, 0.1])
    value, tangent = gc.jvp(f, (x,), (t,))
    _, pullback = gc.vjp(f, x)
    np.testing.assert_allclose(value, np.cumsum(np.exp(x)))
    np.testing.assert_allclose(ct @ tangent, pullback(ct)[0] @ t)


def test_vmap_matches_a_loop_and_composes_with_grad():
    f = lambda w, x: np.tanh(w @ x).sum()
    w, xs = np.array([[0.2, -0.3], [0.5, 0.1]]), np.arange(6.0).reshape(3, 2)
    per_example = gc.vmap(gc.grad(f), in_axes=(None, 0))(w, xs)
    np.testing.assert_allclose(per_example, [gc.grad(f)(w, x) for x in xs], rtol=1e-13)
    total = gc.grad(lambda w: gc.vmap(f, in_axes=(None, 0))(w, xs).sum())(w)
    np.testing.assert_allclose(total, per_example.sum(axis=0), rtol=1e-12)
    columns = gc.vmap(lambda x: x * 2, in_axes=1, out_axes=1)(xs)
    np.testing.assert_allclose(columns, xs * 2)


def test_vmap_refuses_axes_of_different_length():
    with pytest.raises(gc.ShapeError, match="differ in length"):
        gc.vmap(lambda x, y: x + y)(np.ones(3), np.ones(4))


def test_stop_gradient():
    assert gc.grad(lambda x: x * gc.stop_gradient(x))(3.0) == 3.0
    assert gc.grad(lambda x: x * gc.stop_gradient(x), method="symbolic")(3.0) == 3.0


def test_dataclass_arguments():
    @dataclasses.dataclass
    class Affine:
        slope: object
        offset: object

    g = gc.grad(lambda p, x: p.slope * x + p.offset)(Affine(2.0, 1.0), 5.0)
    assert isinstance(g, Affine) and (g.slope, g.offset) == (5.0, 1.0)


def test_float32_stays_float32():
    g = gc.grad(lambda x: (x * 0.1 + np.float32(2)).sum())(np.ones(3, np.float32))
    assert g.dtype == np.float32


def test_integer_arguments_are_named_and_refused():
    with pytest.raises(gc.DTypeError, match=r"'count'.*no tangent"):
        gc.grad(lambda count: count * 2.0)(np.int64(3))


def test_vector_results_are_refused_with_the_remedy():
    with pytest.raises(gc.ShapeError, match=r"float64\[3\].*\n.*jacobian"):
        gc.grad(lambda x: x * 2)(np.ones(3))


def test_finite_differences_inside_a_trace_say_why_not():
    with pytest.raises(gc.TraceError, match="needs values"):
        gc.trace(gc.grad(lambda x: x * x, method="finite"), 1.0)


def test_gradient_of_a_disconnected_argument_is_zero():
    g = gc.grad(lambda x, y: np.sum(x), argnums=1)(np.ones(2), np.ones(3))
    np.testing.assert_array_equal(g, np.zeros(3))
