"""`gc.health`: its numbers are NumPy's, and its notes name what was built into the model."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp

RNG = np.random.default_rng(7)
WIDTH = 16
X, Y = RNG.normal(size=(32, WIDTH)), RNG.normal(size=(32, 1))


def model(act, depth, gain=1.0, bias=0.0):
    """A perceptron's loss, and parameters with standard deviation gain/√width."""

    def loss(p, x, y):
        h = x
        for w, b in p["layers"]:
            h = act(h @ w + b)
        return gnp.mean((h @ p["out"] - y) ** 2)

    def weight(columns):
        return RNG.normal(size=(WIDTH, columns)) / np.sqrt(WIDTH)

    layers = [(weight(WIDTH) * gain, np.full(WIDTH, bias)) for _ in range(depth)]
    return loss, {"layers": layers, "out": weight(1)}


def kinds(found):
    return [note.kind for note in found.notes]


# -- numbers -----------------------------------------------------------------------------------------------------------
def test_numbers_are_those_of_numpy():
    loss, p = model(gnp.tanh, 2)
    optimizer = gc.optim.sgd(0.5)
    found = gc.health(loss, p, X, Y, optimizer=optimizer)
    (w1, b1), (w2, b2), out = *p["layers"], p["out"]
    z1 = X @ w1 + b1
    a1 = np.tanh(z1)
    z2 = a1 @ w2 + b2
    a2 = np.tanh(z2)
    error = a2 @ out - Y
    g3 = 2 * error / len(X)
    d2 = (g3 @ out.T) * (1 - a2**2)
    after1 = d2 @ w2.T
    d1 = after1 * (1 - a1**2)
    assert found.loss == pytest.approx(np.mean(error**2), rel=1e-12)
    for layer, z, d in zip(found.layers, (z1, z2, a2 @ out), (d1, d2, g3), strict=True):
        assert layer.signal == pytest.approx(np.sqrt(np.mean(z**2)), rel=1e-12)
        assert layer.variance == pytest.approx(z.var(), rel=1e-12)
        assert layer.gradient == pytest.approx(np.linalg.norm(d), rel=1e-12)
        assert layer.gradient_variance == pytest.approx(d.var(), rel=1e-10)
    first = found.layers[0]
    assert first.after == pytest.approx(np.linalg.norm(after1), rel=1e-12)
    assert first.saturated == np.mean((1 - a1**2) <= 0.05)
    assert (first.activation, first.depth, first.fan_in, first.fan_out, first.dead) == ("tanh", 1, WIDTH, WIDTH, 0)
    assert first.weight_deviation == pytest.approx(w1.std(), rel=1e-12)
    by_name = {q.name: q for q in found.parameters}
    q = by_name["p.layers[0][0]"]
    assert (q.value, q.gradient) == pytest.approx((np.linalg.norm(w1), np.linalg.norm(X.T @ d1)), rel=1e-12)
    assert q.update == pytest.approx(0.5 * q.gradient, rel=1e-9)
    assert q.update_ratio == q.update / q.value and q.gradient_ratio == q.gradient / q.value


def test_shares_count_units_and_elements():
    """Of four units one is below 0 for every example, one for half of them; two of four sigmoids are flat."""

    def loss(p, x):
        return gnp.sum(gnp.maximum(x @ p["w"] + p["b"], 0) @ p["v"]) + gnp.sum(gc.nn.sigmoid(x @ p["s"]) @ p["v"])

    x = np.array([[1.0], [-1.0]])
    p = {"w": np.ones((1, 4)), "b": np.array([-9.0, 0.5, 9.0, 9.0]), "s": np.array([[0.1, 0.1, 99.0, -99.0]])}
    found = gc.health(loss, p | {"v": np.ones((4, 1))}, x)
    rectified, squashed = (next(x for x in found.layers if x.name.endswith(name)) for name in ("w", "s"))
    assert (rectified.dead, rectified.saturated) == (0.25, None)
    assert (squashed.dead, squashed.saturated) == (0, 0.5)
    assert squashed.slope_at_zero == 0.25


# -- notes -------------------------------------------------------------------------------------------------------------
def test_a_deep_sigmoid_net_vanishes():
    loss, p = model(gc.nn.sigmoid, 8)
    found = gc.health(loss, p, X, Y)
    note = found.notes[0]
    assert note.kind == "vanishing" and 0.1 < note.factor < 0.35 and note.where.file == __file__
    assert found.profile.whole < 1e-4
    assert [line.partition(":")[0] for line in note.advice] == ["activation", "normalisation", "residual connections"]
    assert "whose slope is 0.25 at most" in note.advice[0] and "per layer" in note.words
    text = str(found)
    assert text.count("\n") > 20 and note.words in text and "test_health_report.py" in text


def test_a_linear_net_of_large_weights_explodes():
    loss, p = model(lambda z: z, 6, gain=4.0)
    found = gc.health(loss, p, X, Y)
    note = found.notes[0]
    assert note.kind == "exploding" and 2 < note.factor < 6
    assert [line.partition(":")[0] for line in note.advice] == [
        "initialisation", "normalisation", "residual connections", "clipping",
    ]  # fmt: skip
    assert "Xavier's rule" in note.advice[0] and f"asks for {np.sqrt(1 / WIDTH):.3g}" in note.advice[0]


def test_dead_units_and_parameters_without_gradient_are_named():
    loss, p = model(gc.nn.relu, 3, bias=-5.0)
    found = gc.health(loss, p, X, Y)
    assert kinds(found) == ["vanishing", "dead", "no gradient"]
    assert "He's rule" in found.notes[1].advice[0] and found.notes[1].factor == 1
    assert "activation" not in [line.partition(":")[0] for line in found.notes[0].advice]


def test_saturated_units_and_large_steps_are_named():
    loss, p = model(gnp.tanh, 2, gain=20.0)
    found = gc.health(loss, p, X, Y, optimizer=gc.optim.sgd(100.0))
    assert kinds(found) == ["saturated", "large step"]
    assert "likewise" in found.notes[0].words


@pytest.mark.parametrize("cure", ["relu and He", "normalisation", "residual"])
def test_the_cures_of_the_texts_cure(cure):
    if cure == "relu and He":
        loss, p = model(gc.nn.relu, 8, gain=np.sqrt(2))
    elif cure == "normalisation":
        loss, p = model(lambda z: gnp.tanh(gc.nn.layer_norm(z, (WIDTH,))), 8)
    else:

        def loss(p, x, y):
            h = x
            for w, b in p["layers"]:
                h = h + gc.nn.sigmoid(h @ w + b)
            return gnp.mean((h @ p["out"] - y) ** 2)

        p = model(gc.nn.sigmoid, 8)[1]
    found = gc.health(loss, p, X, Y)
    assert "vanishing" not in kinds(found) and 0.6 < found.profile.each < 1.5


# -- other models ------------------------------------------------------------------------------------------------------
def convolutional(p, x, y):
    h = gc.nn.batch_norm(gc.nn.conv2d(x, p["k"], p["c"], padding=1), None, None, p["g"], p["h"], training=True)
    h = gc.nn.max_pool2d(gc.nn.relu(h), 2)
    h = gc.nn.gelu(gc.nn.conv2d(h, p["m"]))
    return gc.nn.cross_entropy(h.reshape(h.shape[0], -1) @ p["w"], y)


def test_convolutions_and_normalisations_are_layers():
    shapes = {"k": (4, 1, 3, 3), "c": (4,), "g": (4,), "h": (4,), "m": (3, 4, 3, 3), "w": (12, 5)}
    p = {name: RNG.normal(size=shape) * 0.5 for name, shape in shapes.items()}
    found = gc.health(convolutional, p, RNG.normal(size=(6, 1, 8, 8)), RNG.integers(0, 5, 6))
    told = [(x.name.rpartition(".")[2], x.activation, x.fan_in, x.fan_out) for x in found.layers]
    assert told == [("k", "relu", 9, 4), ("m", "gelu", 36, 3), ("w", "", 12, 5)]
    assert found.layers[0].dead is not None and (found.layers[0].dead * 4) % 1 == 0


def test_a_variance_written_by_hand_is_no_activation():
    """The mean is subtracted twice, once for the variance: what is bent for good is the ReLU behind."""

    def loss(p, x, y):
        h = x @ p["a"]
        h = gnp.maximum((h - h.mean(0)) / gnp.sqrt(h.var(0) + 1e-5) * p["g"], 0)
        return ((h @ p["b"] - y) ** 2).mean()

    rng = np.random.default_rng(3)
    params = {"a": rng.normal(size=(5, 4)), "b": rng.normal(size=(4, 2)), "g": np.ones(4)}
    report = gc.health(loss, params, rng.normal(size=(8, 5)), rng.normal(size=(8, 2)))
    assert report.layers[0].activation == "max"


def test_embeddings_loops_and_captured_batches():
    tokens = RNG.integers(0, 9, (4, 5))

    def loss(p):
        h, _ = gc.scan(
            lambda h, v: (gnp.tanh(v + h @ p["u"]), 0.0), np.zeros((4, 3)), gnp.swapaxes(p["e"][tokens], 0, 1)
        )
        return gnp.mean((h @ p["o"]) ** 2)

    p = {"e": RNG.normal(size=(9, 3)), "u": RNG.normal(size=(3, 3)), "o": RNG.normal(size=(3, 2))}
    found = gc.health(loss, p)
    assert [x.name.rpartition(".")[2] for x in found.layers] == ["e", "o"]
    assert [name[-1] for name in found.hidden] == ["u"] and "not told apart by layer" in str(found)


def test_a_picture_is_svg(tmp_path):
    loss, p = model(gnp.tanh, 2)
    found = gc.health(loss, p, X, Y, optimizer=gc.optim.adam(1e-3))
    found.plot(tmp_path / "health.svg")
    drawn = ET.parse(tmp_path / "health.svg").getroot()
    texts = {t.text for t in drawn.iter() if t.text}
    assert {"Along depth", "Units", "Parameters"} <= texts
    assert "<svg" in found._repr_html_()


def test_a_loss_must_be_a_number():
    with pytest.raises(gc.ShapeError, match="health"):
        gc.health(lambda w: w * 2, np.ones(3))


# -- while it trains ---------------------------------------------------------------------------------------------------
def test_a_monitor_looks_every_so_many_steps_and_changes_nothing():
    loss, p = model(gnp.tanh, 2)
    said = []
    monitor = gc.training.HealthMonitor(every=3, tell=said.append)

    def trained(callbacks, steps_per_call=1):
        return gc.fit(
            loss, p, (X, Y), optimizer=gc.optim.adam(0.9), steps=7, epochs=7, log=False, callbacks=callbacks,
            steps_per_call=steps_per_call,
        )  # fmt: skip

    run, plain = trained([monitor]), trained([])
    for one, other in zip(gc.tree.leaves(run.params), gc.tree.leaves(plain.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(monitor.history.steps) == [1, 3, 6]
    names = {q.name for q in monitor.report.parameters}
    assert {f"gradient_norm {n}" for n in names} <= set(monitor.history.columns)
    assert len([text for text in said if "one step moves" in text]) == 1
    assert "<svg" in monitor.plot().svg


def test_a_monitor_goes_on_in_a_resumed_run(tmp_path):
    loss, p = model(gnp.tanh, 2)
    said = []

    def trained(steps):
        monitor = gc.training.HealthMonitor(every=3, tell=said.append)
        gc.fit(
            loss, p, (X, Y), optimizer=gc.optim.adam(0.9), steps=steps, epochs=7, log=False, callbacks=[monitor],
            checkpoint=tmp_path,
        )  # fmt: skip
        return monitor.history

    first, whole = trained(4), trained(7)
    assert list(whole.steps) == [1, 3, 6]
    assert all(whole[name][0] == first[name][0] for name in first.columns)
    assert len([text for text in said if "one step moves" in text]) == 1


def test_a_monitor_can_end_the_run():
    loss, p = model(lambda z: z, 6, gain=4.0)
    monitor = gc.training.HealthMonitor(stop_on="exploding", tell=None)
    run = gc.fit(loss, p, (X, Y), optimizer=gc.optim.adam(1e-3), epochs=5, log=False, callbacks=[monitor])
    assert run.step == 1 and run.stopped.startswith("exploding at step 1: the gradient explodes")


def test_a_monitor_needs_a_loss():
    for make in (lambda: gc.training.HealthMonitor(0), lambda: gc.training.HealthMonitor(stop_on="tired")):
        with pytest.raises(ValueError, match="HealthMonitor"):
            make()
    with pytest.raises(ValueError, match="the loss of a step of your own is not known"):
        gc.fit(
            lambda p, s, x: (p, s, p.sum()), np.ones(2), X, state=(), log=False, callbacks=[gc.training.HealthMonitor()]
        )
