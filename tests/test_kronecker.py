"""Kronecker factors that are read off the graph, against layers whose activations and derivatives are kept by hand."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc

RNG = np.random.default_rng(1)
#: sums of at most some hundred terms of size about 1, in either order
NEAR = {"rtol": 1e-12, "atol": 1e-14}
N = 6
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 2))


def check(found, A, G, inputs):
    np.testing.assert_allclose(found.A, A, **NEAR)
    np.testing.assert_allclose(found.G, G, **NEAR)
    assert found.inputs == inputs


def second(rows):
    """Σ r·rᵀ."""
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.T @ flat


def mlp_loss(p, x, y):
    h = np.tanh(x @ p["w"] + p["b"])
    return 0.5 * np.sum((h @ p["v"].T * p["scale"] + p["c"] - y) ** 2) / len(x)


MLP = {
    "w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4), "v": RNG.normal(size=(2, 4)), "c": RNG.normal(size=(1, 2)),
    "scale": np.array(1.5),
}  # fmt: skip


def test_dense_layers_either_way_round_with_biases_and_scales():
    p = {**MLP, "c": MLP["c"][0]}
    h = np.tanh(X @ p["w"] + p["b"])
    z = h @ p["v"].T
    g = z * p["scale"] + p["c"] - Y  # N times the loss's derivative
    gz, gh = g * p["scale"], (g * p["scale"]) @ p["v"] * (1 - h**2)
    for of in (gc.kfac_factors(mlp_loss), gc.jit(gc.kfac_factors(mlp_loss))):
        found = of(p, X, Y)
        assert sorted(found) == sorted(p)
        check(found["w"], X.T @ X / N, gh.T @ gh / N, (0,))
        check(found["v"], h.T @ h / N, gz.T @ gz / N, (1,))
        check(found["b"], [[1.0]], gh.T @ gh / N, ())
        check(found["c"], [[1.0]], g.T @ g / N, ())
    # 2 rows of `scale` for each example
    check(found["scale"], [[1.0]], [[np.sum((g * z) ** 2) / N]], ())


def test_of_a_bias_it_is_the_second_moment_of_the_gradients_of_single_examples():
    p = {**MLP, "c": MLP["c"][0]}
    each = gc.vmap(gc.grad(lambda p, x, y: mlp_loss(p, x[None], y[None])), (None, 0, 0))(p, X, Y)
    found = gc.kfac_factors(mlp_loss)(p, X, Y)
    for name in "bc":
        np.testing.assert_allclose(found[name].G, each[name].T @ each[name] / N, **NEAR)


def test_with_targets_of_the_model_it_is_the_fisher_matrix():
    """Of one example, in expectation over its targets: the blocks of the last layer, whose a no target moves."""
    model = lambda p, x, *target: np.tanh(x @ p["w"]) @ p["v"].T + p["c"]
    p, x = {"w": MLP["w"], "v": MLP["v"], "c": np.zeros(2)}, X[:1]
    of = gc.jit(gc.kfac_factors(lambda p, x, y: gc.nn.cross_entropy(model(p, x), y)))
    logits = np.asarray(model(p, x))[0]
    chances = np.exp(logits) / np.exp(logits).sum()
    every = [of(p, x, np.array([y])) for y in range(2)]
    fisher = gc.fisher(model, "categorical")(p, x)
    for name, block in (("v", fisher.block("v").reshape(8, 8)), ("c", fisher.block("c"))):
        G = sum(chance * found[name].G for chance, found in zip(chances, every, strict=True))
        np.testing.assert_allclose(np.kron(G, every[0][name].A), block, **NEAR)


def test_one_example_is_exact():
    """A ⊗ G is ggᵀ of the one gradient there is."""
    p = {"w": MLP["w"], "v": MLP["v"]}
    loss = lambda p, x, y: 0.5 * np.sum((np.tanh(x @ p["w"]) @ p["v"].T - y) ** 2)
    found, g = gc.kfac_factors(loss)(p, X[:1], Y[:1]), gc.grad(loss)(p, X[:1], Y[:1])
    np.testing.assert_allclose(np.kron(found["w"].A, found["w"].G), np.outer(g["w"], g["w"]), **NEAR)
    np.testing.assert_allclose(np.kron(found["v"].G, found["v"].A), np.outer(g["v"], g["v"]), **NEAR)


def test_shared_weights_have_all_their_uses():
    """A recurrent net of three steps, written out; the loss reads the last state alone."""
    u, T = RNG.normal(size=(4, 4)) / 2, 3
    x = RNG.normal(size=(T, N, 4))

    def loss(u, x):
        h = np.zeros((N, 4))
        for t in range(T):
            h = np.tanh(x[t] + h @ u)
        return 0.5 * np.sum(h**2) / N

    states = [np.zeros((N, 4))]
    for t in range(T):
        states.append(np.tanh(x[t] + states[-1] @ u))
    g, gs = states[-1], []
    for t in reversed(range(T)):
        gs.append(g * (1 - states[t + 1] ** 2))
        g = gs[-1] @ u.T
    A = sum(map(second, states[:-1])) / (T * N)
    check(gc.kfac_factors(loss)(u, x), A, sum(map(second, gs)) / N, (0,))


def test_projections_of_attention_in_their_own_shapes():
    p = {
        "q": RNG.normal(size=(3, 2, 4)), "k": RNG.normal(size=(3, 2, 4)), "v": RNG.normal(size=(3, 2, 4)),
        "o": RNG.normal(size=(2, 4, 3)), "head": RNG.normal(size=(3,)),
    }  # fmt: skip
    x = RNG.normal(size=(N, 5, 3))

    def forward(p, x, dq=0.0, do=0.0):
        q = np.einsum("btd,dhe->bthe", x, p["q"]) + dq
        k, v = (np.einsum("btd,dhe->bthe", x, p[n]) for n in "kv")
        w = gc.nn.softmax(np.einsum("bthe,bshe->bhts", q, k), axis=-1)
        a = np.einsum("bhts,bshe->bthe", w, v)
        z = np.tanh(np.einsum("bthe,hed->btd", a, p["o"]) + do)
        return 0.5 * np.sum((z.mean(axis=1) @ p["head"]) ** 2) / N, (a, z)

    found = gc.kfac_factors(lambda p, x: forward(p, x)[0])(p, x)
    (gq, go), (a, z) = gc.grad(lambda d: forward(p, x, *d), has_aux=True)((np.zeros((N, 5, 2, 4)), np.zeros((N, 5, 3))))
    check(found["q"], second(x) / (5 * N), N * second(gq.reshape(N, 5, 8)), (0,))
    check(found["o"], second(a.reshape(N, 5, 8)) / (5 * N), N * second(go), (0, 1))
    m = z.mean(axis=1)
    check(found["head"], second(m) / N, [[np.sum((m @ p["head"]) ** 2) / N]], (0,))


def test_convolutions_with_biases():
    w, b, v = RNG.normal(size=(2, 3, 3, 2)), RNG.normal(size=2), RNG.normal(size=(2, 1))
    x = RNG.normal(size=(N, 3, 5, 4))

    def forward(p, x, d=0.0):
        return 0.5 * np.sum((np.tanh(gc.nn.conv2d(x, p[0], p[1], stride=2) + d).mean(axis=(2, 3)) @ p[2]) ** 2) / N

    found = gc.kfac_factors(forward)((w, b, v), x)
    patches = np.stack([x[:, :, i : i + 3, j : j + 2] for i in (0, 2) for j in (0, 2)], 1).reshape(N, 4, 18)
    g = gc.grad(lambda d: forward((w, b, v), x, d))(np.zeros((N, 2, 2, 2)))
    G = N * second(np.moveaxis(g, 1, -1))
    check(found[0], second(patches) / (4 * N), G, (1, 2, 3))
    check(found[1], [[1.0]], G, ())


def test_the_loss_may_be_a_mean_over_other_examples():
    loss = lambda w, x: np.mean((x @ w) ** 2)
    x, w = RNG.normal(size=(N, 5, 3)), RNG.normal(size=(3, 2))
    rows = 2 * (x @ w) / (5 * N * 2)
    check(gc.kfac_factors(loss)(w, x), second(x) / (5 * N), 5 * N * second(rows), (0,))
    check(gc.kfac_factors(loss, examples=N)(w, x), second(x) / (5 * N), N * second(rows), (0,))
    with pytest.raises(ValueError, match="examples is a whole number from 1 on, got 0"):
        gc.kfac_factors(loss, examples=0)


def test_narrow_floats_have_float32_factors_and_what_the_loss_reads_not_is_zero():
    w, x = np.ones((3, 2), np.float16), np.full((8, 3), 200, np.float16)
    found = gc.kfac_factors(lambda w, x: np.mean(np.tanh(x @ w) * 0))(w, x)
    assert found.A.dtype == found.G.dtype == np.float32
    np.testing.assert_array_equal(found.A, np.full((3, 3), 40000.0))  # its sum would overflow float16
    np.testing.assert_array_equal(found.G, np.zeros((2, 2)))


def test_axes_of_one_element():
    w, b, v, c = RNG.normal(size=(1, 3)), np.array([0.5]), RNG.normal(size=(1, 1, 2, 2)), np.array([-0.5])
    x, image = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 1, 2, 2))

    def forward(p, x, image):
        z = x @ p[0].reshape(3) + p[1]
        y = gc.nn.conv2d(image, p[2], p[3]).reshape(N)
        return 0.5 * np.sum((z + y) ** 2) / N

    g = x @ w[0] + 0.5 + image.reshape(N, 4) @ v.reshape(4) - 0.5
    found = gc.kfac_factors(forward)((w, b, v, c), x, image)
    G = [[np.sum(g**2) / N]]
    check(found[0], second(x) / N, G, (1,))
    check(found[1], [[1.0]], G, ())
    check(found[2], second(image.reshape(N, 4)) / N, G, (1, 2, 3))
    check(found[3], [[1.0]], G, ())
    shown = gc.kfac_factors(lambda b, x: 0.5 * np.mean((x + b) ** 2))(b, x)  # one number for rows and columns
    check(shown, [[1.0]], [[np.mean((x + b) ** 2)]], ())


REFUSED = [
    ("by gather", lambda e, x: np.mean(e[(x[:, 0] > 0).astype(int)] ** 2)),
    (r"by \w+; .*gc\.optim\.add_decayed_weights", lambda w, x: np.mean((x @ w) ** 2) + 0.1 * np.sum(w**2)),
    ("along different axes", lambda w, x: np.mean((x @ w @ w.T) ** 2)),
    ("on both sides of a product", lambda w, x: np.mean(w.T @ w) + np.mean(x @ w)),
    ("inside a body", lambda w, x: gc.fori_loop(0, 2, lambda i, h: np.tanh(h @ w @ np.ones((2, 3))), x).sum()),
    ("with an axis that the activations", lambda w, x: np.mean(np.einsum("ni,io->nio", x, w) ** 2)),
    ("in another shape|by reshape", lambda w, x: np.mean((x @ np.reshape(w, (2, 3)).T) ** 2)),
    ("does not depend on w", lambda w, x: np.mean(x) + 0 * gc.stop_gradient(w).sum()),
]


@pytest.mark.parametrize(("why", "loss"), REFUSED, ids=[why[:20] for why, _ in REFUSED])
def test_what_has_no_two_factors_is_refused_by_name(why, loss):
    with pytest.raises(gc.TraceError, match=f"kfac_factors: .*({why})") as caught:
        gc.kfac_factors(loss)(np.ones((3, 2)), X)
    assert "test_kronecker.py" in str(caught.value)


def test_bad_losses_are_refused():
    with pytest.raises(TypeError, match="kfac_factors expects a function"):
        gc.kfac_factors(3.0)
    with pytest.raises(gc.ShapeError, match="kfac_factors needs a function with one float scalar result"):
        gc.kfac_factors(lambda w, x: x @ w)(np.ones((3, 2)), X)
