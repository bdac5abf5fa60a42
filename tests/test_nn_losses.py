"""Activations and losses of gc.nn that PyTorch has not: against plain NumPy, and by enumeration; and bad arguments.

Start at `FORMULAS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special as sp

import gradc as gc
from gradc import nn
from gradc.errors import DTypeError, ShapeError
from tests.namespace_harness import leaf, same, traced
from tests.nn_cases import ACTIVATIONS, ARRAYS, CTC, LOSSES, names_in, program

RNG = np.random.default_rng(5)
X, Z = 2 * RNG.standard_normal((3, 4)), 2 * RNG.standard_normal((3, 4))
C3 = RNG.standard_normal((2, 4, 3))
Y, S = RNG.integers(0, 4, 3), np.where(RNG.standard_normal((3, 4)) > 0, 1.0, -1.0)
Y3 = RNG.integers(0, 4, (2, 3))
P, B, W = sp.expit(Z), (Z > 0) * 1.0, np.array([0.5, 1.0, 2.0, 0.25])
A, G = X[:, :2], X[:, 2:]
LOGP = sp.log_softmax(X, axis=1)
HIT = LOGP[np.arange(3), Y]
FAR = np.array([-800.0, -1.0, -1e-5, 0.0, 1e-5, 0.5, 800.0])
LEVELS = np.array([0.1, 0.5, 0.8, 0.9])
TOKENS = RNG.integers(0, 5, (2, 4))
SAYS = RNG.standard_normal((2, 4, 5))
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
NEXT = -np.take_along_axis(sp.log_softmax(SAYS[:, :-1], axis=-1), TOKENS[:, 1:, None], -1)[..., 0]
ULPS = 128


def _log_cosh(d: np.ndarray) -> np.ndarray:
    wide = np.longdouble(np.abs(d))
    return np.where(wide < 1, np.log1p(2 * np.sinh(np.minimum(wide, 1) / 2) ** 2),
                    wide + np.log1p(np.exp(-2 * wide)) - np.log(np.longdouble(2))).astype(float)  # fmt: skip


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


PAIRS = _unit(X) @ _unit(Z).T / 0.2
TO_ALL = -np.diag(sp.log_softmax(PAIRS, axis=1))
FROM_ALL = -np.diag(sp.log_softmax(PAIRS, axis=0))
OTHERS = RNG.standard_normal((3, 2, 4))
OWN = np.concatenate([np.sum(X * Z, 1)[:, None], np.einsum("nd,nmd->nm", X, OTHERS)], 1) / 2.0
SHARED = np.concatenate([np.sum(X * Z, 1)[:, None], X @ OTHERS[0].T], 1) / 2.0

FORMULAS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "relu_squared": (nn.relu_squared, (X,), np.maximum(X, 0) ** 2),
    "crelu": (nn.crelu, (X,), np.concatenate([np.maximum(X, 0), np.maximum(-X, 0)], 1)),
    "reglu": (nn.reglu, (X,), A * np.maximum(G, 0)),
    "geglu": (nn.geglu, (X,), A * G * sp.ndtr(G)),
    "geglu tanh": (lambda x: nn.geglu(x, approximate="tanh"), (X,),
                   A * 0.5 * G * (1 + np.tanh(np.sqrt(2 / np.pi) * (G + 0.044715 * G**3)))),
    "swiglu": (nn.swiglu, (X,), A * G * sp.expit(G)),
    "swiglu 1": (lambda x: nn.swiglu(x, 1), (C3,), C3[:, :2] * C3[:, 2:] * sp.expit(C3[:, 2:])),
    "maxout": (lambda x: nn.maxout(x, 2), (C3,), np.maximum(C3[:, ::2], C3[:, 1::2])),
    "maxout last": (lambda x: nn.maxout(x, 3, dim=-1), (C3,), C3.max(-1, keepdims=True)),
    "softmax dtype": (lambda x: nn.softmax(x, dtype="float64"), (np.ones((2, 2), "f4"),), np.full((2, 2), 0.5)),
    "hinge": (nn.hinge_loss, (X, S), np.maximum(0, 1 - S * X).mean()),
    "hinge squared": (lambda x, s: nn.hinge_loss(x, s, margin=0.5, squared=True, reduction="sum"), (X, S),
                      (np.maximum(0, 0.5 - S * X) ** 2).sum()),
    "log_cosh": (nn.log_cosh_loss, (X, Z), _log_cosh(X - Z).mean()),
    "quantile": (lambda x, z: nn.quantile_loss(x, z, 0.9, reduction="none"), (X, Z),
                 np.maximum(0.9 * (Z - X), -0.1 * (Z - X))),
    "quantiles": (lambda x, z: nn.quantile_loss(x, z, LEVELS), (X, Z),
                  np.maximum(LEVELS * (Z - X), (LEVELS - 1) * (Z - X)).mean()),
    "cross_entropy one-hot": (nn.cross_entropy, (X, np.eye(4, dtype=int)[Y]), -HIT.mean()),
    "focal": (nn.focal_loss, (X, Y), (-((1 - np.exp(HIT)) ** 2) * HIT).mean()),
    "focal 0": (lambda x, y: nn.focal_loss(x, y, gamma=0, reduction="none"), (X, Y), -HIT),
    "focal ignored": (lambda x, y: nn.focal_loss(x, y, W, gamma=1.5, ignore_index=-1), (X, np.array([Y[0], -1, Y[2]])),
                      (-W[Y] * (1 - np.exp(HIT)) ** 1.5 * HIT)[[0, 2]].mean()),
    "focal images": (lambda x, y: nn.focal_loss(x, y, reduction="sum"), (C3, Y3), sum(
        -((1 - np.exp(v)) ** 2) * v
        for v in np.take_along_axis(sp.log_softmax(C3, axis=1), Y3[:, None], 1).ravel())),
    "sigmoid_focal": (nn.sigmoid_focal_loss, (X, B), np.where(
        B == 1, -0.25 * sp.expit(-X) ** 2 * sp.log_expit(X), -0.75 * sp.expit(X) ** 2 * sp.log_expit(-X))),
    "sigmoid_focal plain": (lambda x, b: nn.sigmoid_focal_loss(x, b, -1, 0, "mean"), (X, B),
                            -np.where(B == 1, sp.log_expit(X), sp.log_expit(-X)).mean()),
    "sigmoid_focal far": (lambda x: nn.sigmoid_focal_loss(x, np.ones(3)), (np.array([-800.0, 0.0, 800.0]),),
                          np.array([200.0, 0.25 * 0.25 * np.log(2), 0.0])),
    "dice": (nn.dice_loss, (P, B), (1 - (2 * (P * B).sum(1) + 1) / (P.sum(1) + B.sum(1) + 1)).mean()),
    "dice squared": (lambda p, b: nn.dice_loss(p, b, dim=None, smooth=0.5, squared=True, reduction="none"), (P, B),
                     1 - (2 * (P * B).sum(1) + 0.5) / ((P**2).sum(1) + (B**2).sum(1) + 0.5)),
    "dice whole": (lambda p, b: nn.dice_loss(p, b, dim=(0, 1)), (P, B),
                   1 - (2 * (P * B).sum() + 1) / (P.sum() + B.sum() + 1)),
    "info_nce": (lambda q, p: nn.info_nce_loss(q, p, temperature=0.2), (X, Z), TO_ALL.mean()),
    "info_nce symmetric": (lambda q, p: nn.info_nce_loss(q, p, temperature=0.2, symmetric=True, reduction="none"),
                           (X, Z), (TO_ALL + FROM_ALL) / 2),
    "info_nce own": (lambda q, p, n: nn.info_nce_loss(q, p, n, temperature=2.0, normalized=False), (X, Z, OTHERS),
                     -sp.log_softmax(OWN, axis=1)[:, 0].mean()),
    "info_nce shared": (lambda q, p, n: nn.info_nce_loss(q, p, n, temperature=2.0, normalized=False, reduction="sum"),
                        (X, Z, OTHERS[0]), -sp.log_softmax(SHARED, axis=1)[:, 0].sum()),
    "causal_lm": (nn.causal_lm_loss, (SAYS, TOKENS), NEXT.mean()),
    "causal_lm none": (lambda z, t: nn.causal_lm_loss(z, t, reduction="none"), (SAYS, TOKENS), NEXT),
    "causal_lm one": (nn.causal_lm_loss, (SAYS[0], TOKENS[0]), NEXT[0].mean()),
    "causal_lm mask": (nn.causal_lm_loss, (SAYS, TOKENS, MASK), (NEXT * MASK[:, 1:]).sum() / 3),
    "causal_lm mask none": (lambda z, t, m: nn.causal_lm_loss(z, t, m, reduction="none"), (SAYS, TOKENS, MASK > 0),
                            NEXT * MASK[:, 1:]),
    "causal_lm padding": (lambda z, t: nn.causal_lm_loss(z, t, ignore_index=-100), (SAYS, np.where(MASK, TOKENS, -100)),
                          (NEXT * MASK[:, 1:]).sum() / 3),
    "causal_lm moved": (lambda z, t: nn.causal_lm_loss(z, t, shift=False, reduction="sum"),
                        (SAYS[:, :-1], TOKENS[:, 1:]), NEXT.sum()),
    "causal_lm smooth": (lambda z, t: nn.causal_lm_loss(z, t, label_smoothing=0.1), (SAYS, TOKENS),
                         (0.9 * NEXT - 0.1 * sp.log_softmax(SAYS[:, :-1], axis=-1).mean(-1)).mean()),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_traced_and_eager(name):
    f, arrays, expected = FORMULAS[name]
    same(traced(f, *arrays), expected, ULPS)
    same(f(*arrays), expected, ULPS)


def _floats(arrays: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(arrays) if np.asarray(a).dtype == np.float64 and a is not S and a is not B)


def test_compiled_with_gradients_as_interpreted():
    cases = {name: case for name, case in FORMULAS.items() if _floats(case[1])}

    def everything(arguments: Any) -> Any:
        made = {}
        for name, (f, _, _) in cases.items():
            made[name] = gc.value_and_grad(lambda *a, f=f: np.sum(f(*a)), _floats(cases[name][1]))(*arguments[name])
        return made

    arguments = {name: case[1] for name, case in cases.items()}
    compiled, interpreted = gc.jit(everything)(arguments), everything(arguments)
    for name in cases:
        same(compiled[name][0], interpreted[name][0], ULPS)
        for c, i in zip(compiled[name][1], interpreted[name][1], strict=True):
            np.testing.assert_allclose(c, i, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if i % 6 == 0 else pytest.mark.nightly) for i, n in enumerate(FORMULAS)]
)
def test_all_derivations_agree(name):
    f, arrays, _ = FORMULAS[name]
    free = _floats(arrays)
    if not free or "far" in name:
        pytest.skip("nothing to differentiate")

    def total(**given: Any) -> Any:
        return np.sum(f(*[given.get(f"x{i}", a) for i, a in enumerate(arrays)]))

    report = gc.check_gradients(total, **{f"x{i}": arrays[i] for i in free})
    assert report.ok, str(report)


def test_log_cosh_keeps_its_digits():
    zero = np.zeros_like(FAR)
    np.testing.assert_allclose(nn.log_cosh_loss(FAR, zero, reduction="none"), _log_cosh(FAR), rtol=2e-15)
    slope = gc.grad(lambda x: nn.log_cosh_loss(x, zero, reduction="sum"))
    np.testing.assert_allclose(slope(FAR), np.tanh(FAR), rtol=4e-16)
    bend = gc.grad(lambda x: slope(x).sum())(FAR)
    np.testing.assert_allclose(bend, 1 - np.tanh(FAR) ** 2, rtol=0, atol=1e-15)


# -- CTC by enumeration ------------------------------------------------------------------------------------------------


def _collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k for k, _ in itertools.groupby(path) if k)


def test_ctc_is_the_sum_over_all_alignments():
    logits = RNG.standard_normal((4, 2, 3))
    targets, steps, counts = np.array([[1, 1], [2, 1]]), np.array([4, 3]), np.array([2, 1])

    def enumerated(z: Any) -> Any:
        total = 0.0
        for n in range(2):
            p = gc.numpy.exp(nn.log_softmax(z[:, n], -1))
            wanted = tuple(targets[n, : counts[n]])
            paths = [q for q in itertools.product(range(3), repeat=int(steps[n])) if _collapsed(q) == wanted]
            weight = sum(np.prod(np.stack([p[t, k] for t, k in enumerate(q)])) for q in paths)
            total = total - gc.numpy.log(weight) * (n + 1)
        return total

    def recursive(z: Any) -> Any:
        losses = nn.ctc_loss(nn.log_softmax(z, -1), targets, steps, counts, reduction="none")
        return losses[0] + 2 * losses[1]

    v = RNG.standard_normal(logits.shape)
    for f in (lambda g: g, gc.grad, lambda g: gc.grad(lambda z: np.sum(v * gc.grad(g)(z)))):
        np.testing.assert_allclose(f(recursive)(logits), f(enumerated)(logits), rtol=1e-11, atol=1e-12)


def test_ctc_where_no_alignment_fits():
    z = RNG.standard_normal((2, 1, 3))
    f = lambda z, **how: nn.ctc_loss(nn.log_softmax(z, -1), [[1, 1]], [2], [2], **how)
    assert f(z) == np.inf and f(z, zero_infinity=True) == 0
    same(gc.jit(gc.grad(f))(z), np.zeros_like(z))  # two equal labels need a blank between them
    none = nn.ctc_loss(nn.log_softmax(z, -1), np.zeros((1, 0), int), [2], [0], reduction="sum")
    np.testing.assert_allclose(none, -sp.log_softmax(z, axis=-1)[:, 0, 0].sum(), rtol=1e-14)
    assert nn.ctc_loss(nn.log_softmax(z, -1), np.zeros((1, 0), int), [0], [0]) == 0


def test_ctc_takes_lengths_that_are_traced():
    z, t = RNG.standard_normal((5, 3, 4)), np.array([1, 2, 3, 3, 2])
    f = lambda z, t, i, n: nn.ctc_loss(nn.log_softmax(z, -1), t, i, n, reduction="none")
    arguments = z, t, np.array([5, 5, 4]), np.array([2, 2, 1])
    np.testing.assert_allclose(gc.jit(f)(*arguments), f(*arguments), rtol=1e-13)


# -- draws -------------------------------------------------------------------------------------------------------------


def test_gumbel_softmax_draws_categories():
    logits = np.log(np.array([0.1, 0.2, 0.7]))
    rows = np.broadcast_to(logits, (20000, 3))
    draw = gc.jit(lambda k: nn.gumbel_softmax(rows, hard=True, key=k))(gc.random.key(0))
    assert np.array_equal(np.sort(draw, axis=1), np.broadcast_to([0.0, 0.0, 1.0], draw.shape))
    sigma = np.sqrt(np.exp(logits) * (1 - np.exp(logits)) / 20000)
    assert np.all(np.abs(draw.mean(0) - np.exp(logits)) < 5 * sigma)
    soft = nn.gumbel_softmax(rows[:9], tau=0.5, key=gc.random.key(0))
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-15)


def test_a_hard_draw_has_the_slope_of_the_soft_one():
    z, v, key = X, RNG.standard_normal(X.shape), gc.random.key(3)
    slopes = [
        gc.grad(lambda z, hard=hard: np.sum(v * nn.gumbel_softmax(z, 0.7, hard, dim=0, key=key)))(z)
        for hard in (False, True)
    ]
    same(slopes[1], slopes[0])


def test_rrelu_draws_slopes_for_training():
    x = np.where(np.arange(10000) % 2, 1.0, -1.0)
    y = gc.jit(lambda x: nn.rrelu(x, 0.1, 0.4, training=True, key=gc.random.key(1)))(x)
    assert np.all(y[1::2] == 1) and -0.4 <= y.min() and y[::2].max() <= -0.1
    assert abs(y[::2].mean() + 0.25) < 5 * 0.3 / np.sqrt(12 * 5000)
    same(gc.grad(lambda x: nn.rrelu(x, 0.1, 0.4, True, key=gc.random.key(1)).sum())(x), y / x)


# -- bad arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if i % 6 == 1 else pytest.mark.nightly) for i, n in enumerate(FORMULAS)]
)
def test_under_vmap_and_in_a_scan(name):
    f, arrays, _ = FORMULAS[name]
    rows = [np.stack([a, 0.75 * a]) for i in _floats(arrays) for a in [np.asarray(arrays[i])]]

    def at(*moved: Any) -> Any:
        given = dict(zip(_floats(arrays), moved, strict=True))
        return f(*[given.get(i, a) for i, a in enumerate(arrays)])

    if rows:
        expected = np.stack([at(*[r[i] for r in rows]) for i in range(2)])
        mapped = gc.vmap(at)(*rows)
        scanned = gc.scan(lambda c, xs: (c, at(*xs)), 0.0, tuple(rows))[1]
        for found in (mapped, scanned):
            np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("how", ["known", "traced", "compiled"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "focal_loss", "multi_margin_loss"])
def test_a_negative_class_is_no_class(name, how):
    """It must not count from the end, as an index of NumPy does: padding by −1 would train the last class."""
    f = getattr(nn, name)
    run = {"known": f, "traced": gc.grad(f), "compiled": gc.jit(f)}[how]
    for wrong in (-1, 4):
        with pytest.raises(IndexError, match=r"classes 0 … 3|out of bounds|out of range"):
            run(X, np.array([0, wrong, 1]))


def test_a_traced_class_that_is_none_is_told_with_the_range():
    with pytest.raises(IndexError, match=r"-1 as a signed integer, is out of range 0 … 3"):
        gc.grad(nn.cross_entropy)(X, np.array([0, -1, 1]))


def test_narrow_classes_are_those_of_int64():
    classes, scores = np.array([0, 2, 1], np.uint8), np.arange(300.0) % 7
    for loss in (nn.cross_entropy, nn.nll_loss, nn.focal_loss):
        assert loss(X, classes, ignore_index=-100) == loss(X, classes.astype(int))
    assert nn.causal_lm_loss(X, classes, ignore_index=-100) == nn.causal_lm_loss(X, classes)
    labels = np.full(300, -1, np.int8)
    labels[0] = 3
    assert nn.multilabel_margin_loss(scores, labels) == nn.multilabel_margin_loss(scores, labels.astype(int))


BAD: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda z: nn.mse_loss(z, z, reduction="avg"), ValueError, "reduction must be 'mean', 'sum' or 'none', got 'avg'"),
    (lambda z: nn.kl_div(z, z, reduction="avg"), ValueError, "'batchmean', 'mean', 'sum' or 'none', got 'avg'"),
    (lambda z: nn.cross_entropy(z, Y, label_smoothing=1.5), ValueError, r"label_smoothing must be in .0, 1., got"),
    (lambda z: nn.cross_entropy(z, P, ignore_index=0), ValueError, "ignore_index=0 needs integer targets"),
    (
        lambda z: nn.cross_entropy(z, Y - 7),
        IndexError,
        r"classes 0 … 3, got -\d; give ignore_index=-\d to leave it out",
    ),
    *[
        (lambda z, w=w: nn.cross_entropy(z, Y, w), ShapeError, r"weight must have shape \(4,\), one per class")
        for w in (W[:2], np.ones(5), np.ones((4, 3)))
    ],
    (lambda z: nn.cross_entropy(z, Y * 1.0), DTypeError, r"need .astype\(int\)"),
    (lambda z: nn.cross_entropy(z, None), DTypeError, "cross_entropy: target must be an array, got None"),
    (lambda z: nn.linear(z, None), DTypeError, "linear: weight must be an array, got None"),
    (lambda z: nn.dropout(z, 0.5, key=None), DTypeError, "dropout: key must be an array, got None"),
    (lambda z: nn.multilabel_margin_loss(z[0], [4, -1, 0, 0]), IndexError, "−1 or one of the classes 0 … 3, got 4"),
    (lambda z: nn.mse_loss(z, z, weight=W), ShapeError, r"weight must have the shape \(3, 4\) of the input"),
    (lambda z: nn.pdist(z[0]), ShapeError, r"input must be \(N, d\)"),
    (lambda z: nn.huber_loss(z, z, delta=0.0), ValueError, "delta must be positive, got 0.0"),
    (lambda z: nn.smooth_l1_loss(z, z, beta=-1.0), ValueError, "beta must be positive, got -1.0"),
    (lambda z: nn.quantile_loss(z, z, 1.5), ValueError, "q must lie between 0 and 1, got 1.5"),
    (lambda z: nn.quantile_loss(z, z, np.full((2, 3, 4), 0.5)), ShapeError, "must broadcast to the input"),
    (lambda z: nn.gaussian_nll_loss(z, z, z[0]), ShapeError, r"var must have the shape \(3, 4\)"),
    (lambda z: nn.hinge_loss(z, B), ValueError, r"a target is −1 or 1, got .*take 2\*y - 1"),
    (lambda z: nn.multi_margin_loss(z, Y, 3), ValueError, "p must be 1 or 2, got 3"),
    (lambda z: nn.multi_margin_loss(z, Y * 1.0), DTypeError, "targets must be integer classes"),
    (lambda z: nn.multilabel_margin_loss(z, Y), ShapeError, r"target \(3, 4\)"),
    (lambda z: nn.multilabel_soft_margin_loss(z, B, W[:3]), ShapeError, r"shape \(4,\), one per class"),
    (lambda z: nn.triplet_margin_loss(z, z, z[0]), ShapeError, "anchor, positive and negative must have one shape"),
    (lambda z: nn.triplet_margin_loss(z, z, z, 0.0), ValueError, "margin must be positive, got 0.0"),
    (lambda z: nn.triplet_margin_with_distance_loss(z, z, z, distance_function="l2"), TypeError, "a function of two"),
    (lambda z: nn.cosine_embedding_loss(z, z, S), ShapeError, r"with a target \(N,\)"),
    (lambda z: nn.info_nce_loss(z, z[0]), ShapeError, r"one shape \(N, d\)"),
    (lambda z: nn.info_nce_loss(z, z, temperature=0.0), ValueError, "temperature must be positive, got 0.0"),
    (lambda z: nn.info_nce_loss(z, z, z[:, :2]), ShapeError, r"negative must be \(M, 4\) or \(3, M, 4\)"),
    (lambda z: nn.info_nce_loss(z, z, z, symmetric=True), ValueError, "symmetric=True has no place for negatives"),
    (lambda z: nn.focal_loss(z, Y, gamma=-1), ValueError, "gamma must be at least 0, got -1"),
    (lambda z: nn.focal_loss(z, Y, W[:2]), ShapeError, "one per class"),
    (lambda z: nn.focal_loss(z, P), ShapeError, "targets must be integer classes"),
    (lambda z: nn.sigmoid_focal_loss(z, B, 2.0), ValueError, "alpha must be at most 1"),
    (lambda z: nn.dice_loss(z[0], z[0]), ShapeError, "or give dim"),
    (lambda z: nn.ctc_loss(z[0], Y, 3, 3), ShapeError, r"log_probs must be \(T, N, C\)"),
    (lambda z: nn.ctc_loss(z[None], Y[:, None], [1, 1], [1, 1, 1]), ShapeError, "input_lengths must be 3 integers"),
    (lambda z: nn.ctc_loss(z[None], [[1]] * 3, [2] * 3, [1] * 3), ValueError, r"input_lengths must lie in \[0, 1\]"),
    (lambda z: nn.ctc_loss(z[None], [[1]] * 3, [1] * 3, [2] * 3), ValueError, r"target_lengths must lie in \[0, 1\]"),
    (lambda z: nn.ctc_loss(z[None], [1, 0, 2], [1] * 3, [1] * 3), ValueError, r"0 … 3 other than blank=0"),
    (lambda z: nn.ctc_loss(z[None], [1, 4, 2], [1] * 3, [1] * 3), ValueError, r"0 … 3 other than blank=0"),
    (lambda z: nn.ctc_loss(z[None], [1, 2], [1] * 3, [1] * 3), ValueError, "sum to 3, more than the 2 targets"),
    (lambda z: nn.gaussian_nll_loss(z, z, -1.0), ValueError, "var must not be negative, got -1.0"),
    (lambda z: nn.poisson_nll_loss(z, z, eps=-1.0), ValueError, "eps must be at least 0, got -1.0"),
    (lambda z: nn.cosine_similarity(z, z, eps=np.nan), ValueError, "eps must be at least 0, got nan"),
    (lambda z: nn.ctc_loss(z[None], [[0]] * 3, [1] * 3, [1] * 3), ValueError, r"0 … 3 other than blank=0"),
    (lambda z: nn.ctc_loss(z[None], [[1]] * 3, [1] * 3, [1] * 3, blank=4), ValueError, "blank must be one of the 4"),
    (lambda z: nn.ctc_loss(z[None], [[1.0]] * 3, [1] * 3, [1] * 3), DTypeError, "targets must be integers"),
    (lambda z: nn.causal_lm_loss(z, Y * 1.0), DTypeError, "tokens must be integers"),
    (lambda z: nn.causal_lm_loss(z, Y[:2]), ShapeError, r"logits \(…, T, V\) need tokens \(…, T\)"),
    (lambda z: nn.causal_lm_loss(z, Y, MASK), ShapeError, r"mask must have the shape \(3,\)"),
    (lambda z: nn.hardtanh(z, 1.0, -1.0), ValueError, "min_val must be at most max_val, got min_val=1.0, max_val=-1.0"),
    (lambda z: nn.softshrink(z, -1.0), ValueError, "lambd must be at least 0, got -1.0"),
    (lambda z: nn.prelu(z, W[:3]), ShapeError, r"or \(4,\) for the channels of the input, got \(3,\)"),
    (lambda z: nn.rrelu(z, 0.5, 0.1), ValueError, "lower must be at most upper, got lower=0.5, upper=0.1"),
    (lambda z: nn.rrelu(z, training=True), ValueError, "give key=gc.random.key"),
    (lambda z: nn.gumbel_softmax(z, 0.0, key=gc.random.key(0)), ValueError, "tau must be positive, got 0.0"),
    (lambda z: nn.glu(z, 0), ShapeError, "must be even, got 3"),
    (lambda z: nn.maxout(z, 3), ShapeError, "divide the extent along dim 1, got num_pieces=3 for 4"),
]


@pytest.mark.parametrize(("program", "error", "text"), BAD)
def test_bad_arguments_are_named_with_line_and_remedy(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program(leaf(X, "z"))
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)


# -- narrow floats -----------------------------------------------------------------------------------------------------

NARROW = {"bfloat16": gc.numpy.bfloat16, "float16": np.float16}


@pytest.mark.parametrize("dtype", NARROW.values(), ids=NARROW)
def test_of_narrow_floats_all_is_computed_in_float32_and_rounded_once(dtype):
    texts = (*ACTIVATIONS, *LOSSES, *CTC)
    programs = {text: ([ARRAYS[n] for n in names_in(text)], program(text, nn)) for text in texts}
    programs |= {name: (list(arrays), f) for name, (f, arrays, _) in FORMULAS.items() if f.__name__ in nn.__all__}
    for text, (arrays, f) in programs.items():
        if "log_softmax" in text or "** 2" in text:
            continue  # not one function of the namespace
        floats = [np.asarray(a).dtype == np.float64 for a in arrays]
        given = [a.astype(dtype) if is_float else a for a, is_float in zip(arrays, floats, strict=True)]
        wide = [g.astype(np.float32) if is_float else g for g, is_float in zip(given, floats, strict=True)]
        found = np.asarray(f(*given))
        assert found.dtype == dtype, text
        np.testing.assert_array_equal(found, np.asarray(f(*wide)).astype(dtype), err_msg=text)
