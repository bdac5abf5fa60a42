"""Layers with a state, and the training step that it flows through; residual blocks; what they refuse.

Reference: the formulas in NumPy, written as loops over steps.
"""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc import nn
from gradc.errors import ShapeError, TraceError

RNG = np.random.default_rng(3)
X = RNG.standard_normal((4, 8, 3))
W = RNG.standard_normal((2, 3))
TARGET = RNG.standard_normal((8, 2))


def _loss(params, state, x, target):
    h, state = nn.running_batch_norm(x, state, params["g"], params["b"], momentum=0.2)
    return np.mean((h @ params["w"].T - target) ** 2), state


def _params():
    return {"w": W.copy(), "g": np.ones(3), "b": np.zeros(3)}


def test_a_model_state_flows_through_the_training_step():
    """Statistics, parameters and losses of four steps are those of NumPy's loop; the step writes in place."""
    optimizer = gc.optim.sgd(0.1)
    step = gc.train_step(_loss, optimizer, has_state=True)
    params, state, model = _params(), optimizer.init(_params()), nn.batch_norm_state(3)
    first, mean, var, p = model, np.zeros(3), np.ones(3), _params()
    kept = None
    for x in X:
        params, state, model, value = step(params, state, model, x, TARGET)
        if kept is not None:
            assert model.mean is kept
        kept = model.mean
        z = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        mean, var = 0.8 * mean + 0.2 * x.mean(0), 0.8 * var + 0.2 * x.var(0, ddof=1)
        error = (z * p["g"] + p["b"]) @ p["w"].T - TARGET
        np.testing.assert_allclose(value, np.mean(error**2), rtol=1e-12)
        back = 2 / error.size * error
        moved = {"w": back.T @ (z * p["g"] + p["b"]), "g": np.sum(back @ p["w"] * z, 0), "b": np.sum(back @ p["w"], 0)}
        p = {k: p[k] - 0.1 * moved[k] for k in p}
    for name in p:
        np.testing.assert_allclose(params[name], p[name], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(model.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(model.var, var, rtol=1e-12)
    assert model.count == 4 and not first.mean.any()  # the caller's arrays are not written into
    y, same = nn.running_batch_norm(X[0], model, training=False)
    np.testing.assert_allclose(y, (X[0] - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    assert same.count == 4


def test_a_model_state_with_aux_mixed_precision_and_without_donation():
    def loss(params, state, x, target):
        value, state = _loss(params, state, x, target)
        return value, (state, {"twice": 2 * value})

    optimizer = gc.mixed_precision("bfloat16")(gc.optim.sgd(0.1))
    step = gc.train_step(loss, optimizer, has_aux=True, has_state=True, donate=False)
    params, model = _params(), nn.batch_norm_state(3)
    _, _, after, value, aux = step(params, optimizer.init(params), model, X[0], TARGET)
    assert aux["twice"] == 2 * value and after.count == 1 and model.count == 0
    exact = _loss(params, model, X[0], TARGET)
    np.testing.assert_allclose(value, exact[0], rtol=2.0**-6)
    np.testing.assert_allclose(after.var, exact[1].var, rtol=1e-12)


def test_a_model_state_that_changes_its_kind_is_refused():
    params, optimizer = _params(), gc.optim.sgd(0.1)

    def run(loss, model, **options):
        step = gc.train_step(loss, optimizer, has_state=True, **options)
        step(params, optimizer.init(params), model)

    for donate in (True, False):
        with pytest.raises(TypeError, match="lacks model_state\\.n"):
            run(lambda p, s: (np.sum(p["b"]), {}), {"n": np.zeros(2)}, donate=donate)
        with pytest.raises(TypeError, match=r"model_state\.n was float32\[2\] and becomes float64"):
            run(lambda p, s: (np.sum(p["b"]), {"n": s["n"].astype(float)}), {"n": np.zeros(2, "f4")}, donate=donate)
    with pytest.raises(TypeError, match="must return a pair"):
        run(lambda p, s: np.sum(p["b"]), {"n": np.zeros(2)})
    with pytest.raises(TypeError, match="returns \\(loss, \\(model_state, aux\\)\\)"):
        run(lambda p, s: (np.sum(p["b"]), s), {"n": np.zeros(2)}, has_aux=True)


def test_running_means_over_all_batches_and_no_derivative_through_them():
    state = nn.batch_norm_state(3, "float32")
    for x in X:
        y, state = nn.running_batch_norm(x.astype("f4"), state, momentum=None)
    assert y.dtype == state.mean.dtype == np.float32
    np.testing.assert_allclose(state.mean, X.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(state.var, X.var(1, ddof=1).mean(0), rtol=1e-5)
    slope = gc.grad(lambda x: np.sum(nn.running_batch_norm(x, nn.batch_norm_state(3))[1].mean))(X[0])
    assert not slope.any()


def test_weight_norm_has_the_norms_g():
    v, g = RNG.standard_normal((3, 2, 4)), np.array([0.5, 2.0, 3.0])

    def formula(v, g):
        return g[:, None, None] * v / np.sqrt(np.sum(v * v, axis=(1, 2), keepdims=True))

    np.testing.assert_allclose(nn.weight_norm(v, g), formula(v, g), rtol=1e-14)
    np.testing.assert_allclose(nn.weight_norm(v, g[:, None, None]), formula(v, g), rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(nn.weight_norm(v, 2.0, dim=None)), 2.0, rtol=1e-14)
    weights = RNG.standard_normal(v.shape)
    ours, plain = (gc.grad(lambda v, g, f=f: np.sum(weights * f(v, g)), (0, 1))(v, g) for f in
                   (nn.weight_norm, formula))  # fmt: skip
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert gc.check_gradients(lambda v, g: np.sum(weights * nn.weight_norm(v, g)), v, g).ok


def test_spectral_norm_finds_the_largest_singular_value():
    w = RNG.standard_normal((3, 2, 2))
    state = nn.spectral_norm_state(w, gc.random.key(0), dim=1)
    np.testing.assert_allclose([np.linalg.norm(s) for s in state], 1, rtol=1e-14)
    step = gc.jit(lambda w, state: nn.spectral_norm(w, state, n_power_iterations=40, dim=1))
    scaled, state = step(w, state)
    rows = np.moveaxis(w, 1, 0).reshape(2, -1)
    np.testing.assert_allclose(scaled, w / np.linalg.svd(rows, compute_uv=False)[0], rtol=1e-10)
    again, same = nn.spectral_norm(w, state, dim=1, training=False)
    np.testing.assert_allclose(again, scaled, rtol=1e-12)
    np.testing.assert_array_equal(same.u, state.u)
    weights = RNG.standard_normal(w.shape)
    slope = gc.grad(lambda w: np.sum(weights * nn.spectral_norm(w, state, dim=1, training=False)[0]))(w)
    sigma, outer = state.u @ rows @ state.v, np.outer(state.u, state.v).reshape(2, 3, 2)
    expected = weights / sigma - np.sum(weights * w) / sigma**2 * np.moveaxis(outer, 0, 1)
    np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-12)


def test_residual_blocks_are_their_formulas():
    x = X[0]
    norm, layer = lambda h: nn.layer_norm(h, 3), lambda h: np.tanh(h @ W.T) @ W
    np.testing.assert_array_equal(nn.residual(x, layer), x + layer(x))
    np.testing.assert_array_equal(nn.post_norm(x, layer, norm), norm(x + layer(x)))
    np.testing.assert_array_equal(nn.pre_norm(x, layer, norm), x + layer(norm(x)))
    deep = nn.deep_norm(x, layer, norm, 8)
    np.testing.assert_array_equal(deep, norm(2.0 * x + layer(x)))
    np.testing.assert_array_equal(deep, nn.deep_norm(x, layer, norm, alpha=2.0))
    jacobian = gc.jacobian(lambda x: nn.pre_norm(x, layer, norm))(x[0])
    inner = gc.jacobian(lambda x: layer(norm(x)))(x[0])
    np.testing.assert_allclose(jacobian, np.eye(3) + inner, rtol=1e-12, atol=1e-14)


REFUSED = {
    "batch statistics in place": (TraceError, "call|Call nn.running_batch_norm",
                                  lambda x: nn.batch_norm(x, np.zeros(3), np.ones(3), training=True)),
    "no statistics": (TraceError, "give running_mean", lambda x: nn.batch_norm(x)),
    "statistics of another size": (ShapeError, r"running_var must be \(3,\)",
                                   lambda x: nn.batch_norm(x, np.zeros(3), np.ones(2))),
    "weight": (ShapeError, r"weight must be \(3,\)", lambda x: nn.batch_norm(x, weight=np.ones(8), training=True)),
    "one value": (ShapeError, "one value per channel", lambda x: nn.batch_norm(x[:1], training=True)),
    **{
        f"eps of {f.__name__}": (ValueError, f"eps must be .* 0, got {e}", lambda x, f=f, e=e, a=a: f(x, *a, eps=e))
        for e, f, *a in ((-1.0, nn.layer_norm, 3), (np.nan, nn.rms_norm, 3), (-1, nn.group_norm, 1), (-1, nn.normalize))
    },
    "momentum": (ValueError, r"momentum must be in \[0, 1\], or None, got 1.5",
                 lambda x: nn.running_batch_norm(x, nn.batch_norm_state(3), momentum=1.5)),
    "groups": (ShapeError, "num_groups must divide the 3 channels", lambda x: nn.group_norm(x, 2)),
    "no channels": (ShapeError, r"input is \(N, C, …\)", lambda x: nn.group_norm(x[0], 1)),
    "instance": (ShapeError, "more than one value", lambda x: nn.instance_norm(x)),
    "instance statistics": (TraceError, "needs running_mean",
                            lambda x: nn.instance_norm(x[:, :, None], use_input_stats=False)),
    "state": (TypeError, "nn.batch_norm_state", lambda x: nn.running_batch_norm(x, {"mean": 0})),
    "state of another size": (ShapeError, r"state.mean must be \(3,\)",
                              lambda x: nn.running_batch_norm(x, nn.batch_norm_state(4))),
    "size": (ValueError, "size must be at least 1", lambda x: nn.local_response_norm(x[None], 0)),
    "g": (ShapeError, r"g must be \(8, 1\)", lambda x: nn.weight_norm(x, np.ones(3))),
    "u": (ShapeError, r"u \(8,\) and v \(3,\)",
          lambda x: nn.spectral_norm(x, nn.SpectralNormState(np.ones(3), np.ones(8)))),
    "iterations": (ValueError, "n_power_iterations",
                   lambda x: nn.spectral_norm(x, nn.SpectralNormState(np.ones(8), np.ones(3)), 0)),
    "sublayer": (ShapeError, "must keep the shape of x", lambda x: nn.residual(x, lambda h: h[:1])),
    "alpha": (TypeError, "layers= or alpha=", lambda x: nn.deep_norm(x, lambda h: h, lambda h: h)),
}  # fmt: skip


@pytest.mark.parametrize(("error", "text", "program"), [pytest.param(*row, id=k) for k, row in REFUSED.items()])
def test_what_is_refused_says_why(error, text, program):
    with pytest.raises(error, match=text):
        program(X[0])
    with pytest.raises(error, match=text):
        gc.trace(program, X[0])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("batch_norm", lambda x: nn.batch_norm(x, training=True)),
        ("layer_norm", lambda x: nn.layer_norm(x, 3)),
        ("rms_norm", lambda x: nn.rms_norm(x, 3)),
    ],
)
def test_formulas_say_the_norm_by_its_name(name, layer):
    assert str(gc.explain(layer, X[0])).startswith(f"Y = {name}(x, ")
    assert str(gc.explain(lambda x: nn.group_norm(x, 1), X[0])).startswith("Y = group_norm(x, ")
    assert "x̂" in str(gc.explain(gc.grad(lambda x: np.sum(np.tanh(layer(x)))), X[0]))
