"""Lengths and dropout of recurrent layers, learning by them, and what they and resampling refuse.

Reference: each sequence on its own.  What PyTorch has is compared in `test_nn_layers.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc import nn
from gradc.errors import DTypeError, ShapeError, TraceError

RNG = np.random.default_rng(9)
T, N, F, H = 5, 3, 2, 4
X = RNG.standard_normal((T, N, F))
LENGTHS = np.array([5, 2, 3])


def _weights(gates, layers, ways):
    made = []
    for layer in range(layers):
        for _ in range(ways):
            width = F if layer == 0 else ways * H
            made += [0.5 * RNG.standard_normal(s) for s in ((gates * H, width), (gates * H, H), gates * H, gates * H)]
    return made


def test_lengths_are_each_sequence_on_its_own():
    """Outputs, last states and gradients of padded sequences, compiled: two layers in both directions."""
    params, zeros = _weights(4, 2, 2), np.zeros((4, N, H))

    def loss(x, lengths):
        y, h, c = nn.lstm(x, (zeros, zeros), params, True, 2, bidirectional=True, lengths=lengths)
        return np.sum(np.sin(y)) + np.sum(h * c), (y, h, c)

    (_, (y, h, c)), slope = gc.jit(gc.value_and_grad(loss, has_aux=True))(X, LENGTHS)
    for n, length in enumerate(LENGTHS):
        first = zeros[:, :1]

        def alone(x, first=first):
            y, h, c = nn.lstm(x, (first, first), params, True, 2, bidirectional=True)
            return np.sum(np.sin(y)) + np.sum(h * c), (y, h, c)

        (_, own), own_slope = gc.value_and_grad(alone, has_aux=True)(X[:length, n : n + 1])
        np.testing.assert_allclose(y[:length, n], own[0][:, 0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(h[:, n], own[1][:, 0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(c[:, n], own[2][:, 0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(slope[:length, n], own_slope[:, 0], rtol=1e-10, atol=1e-12)
        assert not y[length:, n].any() and not slope[length:, n].any()


def test_dropout_stands_between_layers_and_needs_a_key():
    params, zeros, key = _weights(3, 2, 1), np.zeros((2, N, H)), gc.random.key(4)
    plain = nn.gru(X, zeros, params, True, 2)
    same = nn.gru(X, zeros, params, True, 2, 0.5, False)
    np.testing.assert_array_equal(plain[0], same[0])
    first, _ = nn.gru(X, zeros[:1], params[:4])
    dropped = nn.dropout(first, 0.5, gc.random.fold_in(key, 0))
    expected, _ = nn.gru(dropped, zeros[:1], params[4:])
    found, _ = nn.gru(X, zeros, params, True, 2, 0.5, True, dropout_key=key)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(TraceError, match="dropout_key"):
        nn.gru(X, zeros, params, True, 2, 0.5, True)


def test_a_gru_learns_to_remember_the_first_sign():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 64, 1))
    target = (x[0, :, 0] > 0).astype(float)
    params = {"gru": [0.5 * rng.standard_normal(s) for s in ((24, 1), (24, 8), 24, 24)], "w": np.zeros((1, 8))}

    def loss(p, x, target):
        _, h = nn.gru(x, np.zeros((1, 64, 8)), p["gru"])
        return nn.binary_cross_entropy_with_logits(nn.linear(h[0], p["w"])[:, 0], target)

    optimizer = gc.optim.adam(0.03)
    step, state = gc.train_step(loss, optimizer), optimizer.init(params)
    for _ in range(150):
        params, state, value = step(params, state, x, target)
    assert value < 0.1  # log 2 at the start


ONE, PAIR = np.zeros((1, N, H)), np.ones((1, 2, 4, 4))
G = _weights(3, 1, 1)
REFUSED = {
    "number of weights": (ShapeError, "params must be 4 arrays", lambda: nn.gru(X, ONE, G[:2])),
    "states": (ShapeError, r"states are \(1, N, h\)", lambda: nn.gru(X, np.zeros((2, N, H)), G)),
    "sequences": (ShapeError, "states of 2 sequences", lambda: nn.gru(X, ONE[:, :2], G)),
    "gates": (ShapeError, r"w_ih \(4, 2\)", lambda: nn.rnn_tanh(X, ONE, G)),
    "pair": (TypeError, r"the pair \(h, c\)", lambda: nn.lstm(X, ONE, G)),
    "no step": (ShapeError, "T > 0", lambda: nn.gru(X[:0], ONE, G)),
    "lengths": (DTypeError, "lengths must be 3 integers", lambda: nn.gru(X, ONE, G, lengths=np.ones(3))),
    "shape of lengths": (ShapeError, r"lengths must be \(3,\)", lambda: nn.gru(X, ONE, G, lengths=[1, 2])),
    "lengths out of range": (
        ValueError,
        r"lengths must lie in \[0, 5\], got \[1, 7, 2\]",
        lambda: nn.gru(X, ONE, G, lengths=[1, 7, 2]),
    ),
    "negative lengths": (ValueError, "lengths must lie in", lambda: nn.gru(X, ONE, G, lengths=[1, -3, 2])),
    "cell": (ShapeError, "needs states", lambda: nn.gru_cell(X[0], ONE[0, :2], G[0], G[1])),
    "pad": (ShapeError, "two numbers for each", lambda: nn.pad(PAIR, (1, 2, 3))),
    "more taken than there is": (ShapeError, "more from axis 3 than its extent 4", lambda: nn.pad(PAIR, (0, -5))),
    "more taken at both ends": (ShapeError, "more from axis 2", lambda: nn.pad(PAIR, (0, 0, -3, -2))),
    "mode of pad": (ValueError, "'replicate'", lambda: nn.pad(PAIR, (1, 2), mode="edge")),
    "reflected too far": (ShapeError, "adds 0 to 3", lambda: nn.pad(PAIR, (4, 0), mode="reflect")),
    "value of pad": (ValueError, "belongs to", lambda: nn.pad(PAIR, (1, 0), mode="reflect", value=1.0)),
    "fold": (ShapeError, r"need columns \(n, c·4, 9\)", lambda: nn.fold(np.ones((1, 8, 8)), 4, 2)),
    "pixels": (ShapeError, "c·3²", lambda: nn.pixel_shuffle(PAIR, 3)),
    "no pixels": (ShapeError, "h·3", lambda: nn.pixel_unshuffle(PAIR, 3)),
    "shuffled channels": (ShapeError, "groups must divide", lambda: nn.channel_shuffle(PAIR, 3)),
    "mode": (ValueError, "mode must be one of", lambda: nn.interpolate(PAIR, 2, mode="cubic")),
    "mode for another rank": (ShapeError, "does not take", lambda: nn.interpolate(PAIR, 2, mode="linear")),
    "size and scale": (ValueError, "one of both", lambda: nn.interpolate(PAIR, 2, 2.0)),
    "scale": (ValueError, "must be a positive number", lambda: nn.interpolate(PAIR, scale_factor=-1.0)),
    "corners": (ValueError, "align_corners belongs", lambda: nn.interpolate(PAIR, 2, align_corners=True)),
}


@pytest.mark.parametrize(("error", "text", "program"), [pytest.param(*row, id=k) for k, row in REFUSED.items()])
def test_what_is_refused_says_why(error, text, program):
    with pytest.raises(error, match=text):
        program()


def test_without_first_states_they_are_zeros_and_one_sequence_needs_no_batch():
    x = RNG.standard_normal((4, 2, F))
    layers = {"rnn_tanh": 1, "gru": 3, "lstm": 4}
    params = {name: _weights(gates, 1, 2) for name, gates in layers.items()}

    def everything(x):
        found = {}
        for name in layers:
            f, zeros = getattr(nn, name), np.zeros((2, 2, H))
            given = (zeros, zeros) if name == "lstm" else zeros
            one = (zeros[:, 0], zeros[:, 0]) if name == "lstm" else zeros[:, 0]
            found[name] = [
                f(x, given, params[name], bidirectional=True), f(x, None, params[name], bidirectional=True),
                f(x[:, 1], one, params[name], bidirectional=True, batch_first=True),
                f(x[:, 1], None, params[name], bidirectional=True),
            ]
        return found

    for whole, without, one, alone in gc.jit(everything)(x).values():
        for a, b, c, d in zip(whole, without, one, alone, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a[:, 1], c, rtol=1e-14)
            np.testing.assert_array_equal(c, d)
    own, zeros = params["lstm"][:4], np.zeros((2, H))
    for a, b in zip(nn.lstm_cell(x[0], None, *own), nn.lstm_cell(x[0], (zeros, zeros), *own), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        nn.gru_cell(x[0, 0], None, *params["gru"][:4]), nn.gru_cell(x[0, 0], zeros[0], *params["gru"][:4])
    )
    with pytest.raises(ShapeError, match="lengths are of a batch"):
        nn.gru(x[:, 0], None, params["gru"][:4], lengths=np.array([3]))
