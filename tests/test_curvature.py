"""Gauss–Newton and Fisher operators against matrices that plain NumPy makes of dense Jacobians and of expectations."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator, cg

import gradc as gc

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))
Y = RNG.integers(0, 4, 6)
PARAMS = {"w": RNG.normal(size=(3, 5)) / 2, "head": (RNG.normal(size=(5, 4)) / 2, np.zeros(4)), "act": "tanh"}
#: a product of three matrices and one vector, each of at most 30 terms of size about 1, in either order
NEAR = {"rtol": 1e-12, "atol": 1e-13}


def mlp(p, x, *rest):
    v, b = p["head"]
    return np.tanh(x @ p["w"]) @ v + b


def cross_entropy(z, x, y):
    return gc.nn.cross_entropy(z, y)


def dense_jacobian(p, x):
    """By hand: rows of all outputs, columns of all parameters in the order of gc.tree.ravel (head, w)."""
    v = p["head"][0]
    h = np.tanh(x @ p["w"])
    n, k = x.shape[0], v.shape[1]
    by_v = np.einsum("ni,ko->nkio", h, np.eye(k)).reshape(n * k, -1)
    by_b = np.tile(np.eye(k), (n, 1))
    by_w = np.einsum("na,nj,jk->nkaj", x, 1 - h**2, v).reshape(n * k, -1)
    return np.hstack([by_v, by_b, by_w])


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def block_diagonal(blocks):
    n, k, _ = blocks.shape
    out = np.zeros((n, k, n, k))
    out[np.arange(n), :, np.arange(n), :] = blocks
    return out.reshape(n * k, n * k)


def categorical_matrix():
    p = softmax(mlp(PARAMS, X))
    H = block_diagonal(np.einsum("ni,ij->nij", p, np.eye(4)) - np.einsum("ni,nj->nij", p, p)) / len(X)
    J = dense_jacobian(PARAMS, X)
    return J.T @ H @ J


def test_gauss_newton_is_the_jacobian_times_the_hessian_of_the_loss():
    want = categorical_matrix()
    G = gc.gauss_newton(mlp, cross_entropy)(PARAMS, X, Y)
    assert G.shape == want.shape and G.dtype == np.float64
    np.testing.assert_allclose(G.dense(), want, **NEAR)
    vector = RNG.normal(size=G.shape[0])
    np.testing.assert_allclose(G @ vector, want @ vector, **NEAR)
    tree = gc.tree.ravel(PARAMS)[1](vector)
    product = G.matvec(tree)
    np.testing.assert_allclose(gc.tree.ravel(product)[0], want @ vector, **NEAR)
    assert product["w"].shape == (3, 5)


def test_blocks_are_those_of_the_matrix():
    want = categorical_matrix()
    G = gc.gauss_newton(mlp, cross_entropy)(PARAMS, X, Y)
    assert G.paths == gc.tree.paths(PARAMS)
    blocks = G.blocks()
    np.testing.assert_allclose(blocks["w"].reshape(15, 15), want[24:, 24:], **NEAR)
    np.testing.assert_allclose(blocks["head"][1], want[20:24, 20:24], **NEAR)
    np.testing.assert_allclose(G.block("head[0]").reshape(20, 20), want[:20, :20], **NEAR)
    with pytest.raises(KeyError, match=r"no parameter 'v'; there are .*'head\[0\]'"):
        G.block("v")


def test_the_hessian_is_gauss_newton_where_the_model_is_linear():
    w = RNG.normal(size=(3, 4))
    model = lambda w, x, y: x @ w
    G = gc.gauss_newton(model, cross_entropy)(w, X, Y)
    want = gc.hessian(lambda w: cross_entropy(model(w, X, Y), X, Y))(w)
    np.testing.assert_allclose(G.block(""), want, **NEAR)
    np.testing.assert_allclose(G.dense(), want.reshape(12, 12), **NEAR)


def test_fisher_is_the_expected_square_of_the_score():
    """The definition: Σ_y p(y|x)·∇log p(y|x)·∇log p(y|x)ᵀ, a mean over x, all y enumerated."""
    p, J = softmax(mlp(PARAMS, X)), dense_jacobian(PARAMS, X).reshape(6, 4, -1)
    want = 0
    for n in range(6):
        for y in range(4):
            score = J[n].T @ (np.eye(4)[y] - p[n])
            want = want + p[n, y] * np.outer(score, score) / 6
    np.testing.assert_allclose(gc.fisher(mlp, "categorical")(PARAMS, X).dense(), want, **NEAR)
    np.testing.assert_allclose(gc.fisher(mlp, "categorical", "sum")(PARAMS, X).dense(), 6 * want, **NEAR)


@pytest.mark.parametrize(
    ("family", "information"),
    [
        ("gaussian", np.ones_like),
        ("bernoulli", lambda z: 1 / (1 + np.exp(-z)) / (1 + np.exp(z))),
        ("poisson", np.exp),
    ],
)
def test_fisher_of_families_of_numbers(family, information):
    z, J = mlp(PARAMS, X), dense_jacobian(PARAMS, X)
    want = J.T @ (information(z).reshape(-1, 1) * J) / z.size
    np.testing.assert_allclose(gc.fisher(mlp, family)(PARAMS, X).dense(), want, **NEAR)


def test_fisher_of_another_family_is_the_second_derivative_of_its_divergence():
    """A normal distribution with mean m and standard deviation eˢ: information diag(e⁻²ˢ, 2) of (m, s)."""
    p = np.array([0.3, -0.4, 0.7])

    def model(p, x):
        return {"m": p[0] * x, "s": p[1] + p[2] * x}

    def divergence(z, new):
        ratio = np.exp(2 * (z["s"] - new["s"])) + (z["m"] - new["m"]) ** 2 * np.exp(-2 * new["s"])
        return (new["s"] - z["s"] + ratio / 2 - 0.5).sum()

    x = RNG.normal(size=7)
    want = np.zeros((3, 3))
    for one in x:
        J = np.array([[one, 0, 0], [0, 1, one]])
        want += J.T @ np.diag([np.exp(-2 * (p[1] + p[2] * one)), 2.0]) @ J
    np.testing.assert_allclose(gc.fisher(model, divergence)(p, x).dense(), want, **NEAR)


def test_products_are_part_of_a_compiled_function_and_scipy_solves_with_them():
    want = categorical_matrix()
    vector = RNG.normal(size=want.shape[0])
    times = gc.jit(lambda p, v, x, y: gc.gauss_newton(mlp, cross_entropy)(p, x, y) @ v)
    np.testing.assert_allclose(times(PARAMS, vector, X, Y), want @ vector, **NEAR)
    G = gc.gauss_newton(lambda w, x: x @ w, lambda z, x: 0.5 * (z**2).sum())(np.zeros(3), X)
    solution, info = cg(aslinearoperator(G), np.ones(3), rtol=1e-12, maxiter=20)
    assert info == 0
    np.testing.assert_allclose(X.T @ X @ solution, np.ones(3), rtol=1e-11)


def test_narrow_parameters_keep_their_dtype():
    p = gc.tree.map(lambda x: x.astype(np.float32), PARAMS)
    G = gc.gauss_newton(mlp, cross_entropy)(p, X.astype(np.float32), Y)
    product = G @ p
    assert G.dtype == np.float32 and product["w"].dtype == np.float32
    want = categorical_matrix() @ gc.tree.ravel(PARAMS)[0]
    # some twenty sums of at most thirty terms of size below 1, each rounded to 2⁻²⁴
    np.testing.assert_allclose(gc.tree.ravel(product)[0], want, rtol=0, atol=600 * 2.0**-24)


def test_bad_input_is_refused_by_name():
    make = gc.gauss_newton(mlp, cross_entropy)
    with pytest.raises(TypeError, match="gauss_newton expects a function"):
        gc.gauss_newton(mlp, "mse")
    with pytest.raises(ValueError, match="'gaussian', 'bernoulli', 'categorical', 'poisson'"):
        gc.fisher(mlp, "gamma")
    with pytest.raises(ValueError, match="expected 'mean' or 'sum'"):
        gc.fisher(mlp, "gaussian", "none")
    with pytest.raises(gc.DTypeError, match=r"params\.w"):
        make({**PARAMS, "w": np.ones((3, 5), int)}, X, Y)
    with pytest.raises(gc.DTypeError, match="params hold no array"):
        make({}, X, Y)
    G = make(PARAMS, X, Y)
    with pytest.raises(TypeError, match="tangents must nest like the parameters"):
        G @ {"w": PARAMS["w"]}
    with pytest.raises(gc.ShapeError, match=r"of w has shape \(5, 3\)"):
        G @ {**PARAMS, "w": PARAMS["w"].T}
    with pytest.raises(gc.ShapeError, match="float scalar"):
        gc.gauss_newton(mlp, lambda z, *batch: z)(PARAMS, X) @ PARAMS
    with pytest.raises(gc.ShapeError, match="categorical logits"):
        gc.fisher(lambda w, x: (x @ w).sum(), "categorical")(np.ones(3), X).dense()


def test_it_can_be_pickled_and_says_what_it_is():
    assert "gauss_newton of mlp, 39 × 39" in repr(gc.gauss_newton(mlp, cross_entropy)(PARAMS, X, Y))
    again = pickle.loads(pickle.dumps(gc.fisher(mlp, "gaussian", "sum")))
    assert again(PARAMS, X).shape == (39, 39)
