"""gradc.nn means what torch.nn.functional means, and stays finite where the textbook formula does not.

Reference: the textbook formulas in NumPy and SciPy, in float64.  Start at `FORMULAS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special as sp

from gradc import nn
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.node import Node
from tests.namespace_harness import leaf, same, traced

RNG = np.random.default_rng(0)
Z = 3 * RNG.standard_normal((6, 5))
Y = RNG.integers(0, 5, 6)
P = sp.softmax(RNG.standard_normal((6, 5)), axis=1)
W = np.abs(RNG.standard_normal(5)) + 0.1
Z3 = RNG.standard_normal((4, 5, 3))
Y3 = RNG.integers(0, 5, (4, 3))

#: Two correctly stated formulas of at most ten operations, sums of at most 90 terms.
ULPS = 128


def _norm(x: np.ndarray, axes: Any, eps: float) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


LOGP = sp.log_softmax(Z, axis=1)
HIT = -LOGP[np.arange(6), Y]

FORMULAS: list[tuple[str, Callable[..., Any], tuple[Any, ...], Any]] = [
    ("relu", nn.relu, (Z,), np.maximum(Z, 0)),
    ("relu6", nn.relu6, (4 * Z,), np.clip(4 * Z, 0, 6)),
    ("hardtanh", nn.hardtanh, (Z,), np.clip(Z, -1, 1)),
    ("hardsigmoid", nn.hardsigmoid, (Z,), np.clip(Z + 3, 0, 6) / 6),
    ("hardswish", nn.hardswish, (Z,), Z * np.clip(Z + 3, 0, 6) / 6),
    ("leaky_relu", lambda z: nn.leaky_relu(z, 0.2), (Z,), np.where(Z > 0, Z, 0.2 * Z)),
    ("elu", lambda z: nn.elu(z, 2.0), (Z,), np.where(Z > 0, Z, 2 * np.expm1(np.minimum(Z, 0)))),
    ("celu", lambda z: nn.celu(z, 0.5), (Z,), np.where(Z > 0, Z, 0.5 * np.expm1(np.minimum(Z, 0) / 0.5))),
    ("selu", nn.selu, (Z,), 1.0507009873554805 * np.where(Z > 0, Z, 1.6732632423543772 * np.expm1(np.minimum(Z, 0)))),
    ("sigmoid", nn.sigmoid, (Z,), sp.expit(Z)),
    ("logsigmoid", nn.logsigmoid, (Z,), sp.log_expit(Z)),
    ("softplus", nn.softplus, (Z,), np.logaddexp(Z, 0)),
    ("softplus beta", lambda z: nn.softplus(z, 2.0), (Z,), np.logaddexp(2 * Z, 0) / 2),
    ("softsign", nn.softsign, (Z,), Z / (1 + np.abs(Z))),
    ("tanh", nn.tanh, (Z,), np.tanh(Z)),
    ("gelu", nn.gelu, (Z,), Z * sp.ndtr(Z)),
    (
        "gelu tanh",
        lambda z: nn.gelu(z, approximate="tanh"),
        (Z,),
        0.5 * Z * (1 + np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3))),
    ),
    ("silu", nn.silu, (Z,), Z * sp.expit(Z)),
    ("mish", nn.mish, (Z,), Z * np.tanh(np.logaddexp(Z, 0))),
    ("softmax", nn.softmax, (Z,), sp.softmax(Z, axis=-1)),
    ("softmax dim", lambda z: nn.softmax(z, dim=0), (Z,), sp.softmax(Z, axis=0)),
    ("softmax axis", lambda z: nn.softmax(z, axis=(0, 1)), (Z,), sp.softmax(Z)),
    ("softmin", nn.softmin, (Z,), sp.softmax(-Z, axis=-1)),
    ("log_softmax", nn.log_softmax, (Z,), LOGP),
    ("linear", nn.linear, (Z, W[None] + Z[:3], Y[:3]), Z @ (W[None] + Z[:3]).T + Y[:3]),
    ("linear vector", nn.linear, (Z, W), Z @ W),
    ("embedding", nn.embedding, (Y3, Z), Z[Y3]),
    ("layer_norm", lambda x, w: nn.layer_norm(x, (5, 3), w, w), (Z3, Z3[0]), _norm(Z3, (1, 2), 1e-5) * Z3[0] + Z3[0]),
    (
        "rms_norm",
        lambda x: nn.rms_norm(x, 3, eps=0.1),
        (Z3,),
        Z3 / np.sqrt((Z3**2).mean(-1, keepdims=True) + 0.1),
    ),
    ("normalize", nn.normalize, (Z,), Z / np.linalg.norm(Z, axis=1, keepdims=True)),
    ("normalize 1", lambda z: nn.normalize(z, p=1, dim=0), (Z,), Z / np.abs(Z).sum(0, keepdims=True)),
    ("cross_entropy", nn.cross_entropy, (Z, Y), HIT.mean()),
    ("cross_entropy none", lambda z, y: nn.cross_entropy(z, y, reduction="none"), (Z, Y), HIT),
    ("cross_entropy sum", lambda z, y: nn.cross_entropy(z, y, reduction="sum"), (Z, Y), HIT.sum()),
    ("cross_entropy one", nn.cross_entropy, (Z[0], Y[0]), HIT[0]),
    ("cross_entropy weight", nn.cross_entropy, (Z, Y, W), (HIT * W[Y]).sum() / W[Y].sum()),
    (
        "cross_entropy ignore",
        lambda z, y: nn.cross_entropy(z, y, ignore_index=-100),
        (Z, np.where(Y == Y[0], -100, Y)),
        HIT[Y != Y[0]].mean(),
    ),
    (
        "cross_entropy smooth",
        lambda z, y: nn.cross_entropy(z, y, label_smoothing=0.1),
        (Z, Y),
        (0.9 * HIT - 0.1 * LOGP.mean(1)).mean(),
    ),
    ("cross_entropy soft", nn.cross_entropy, (Z, P), -(P * LOGP).sum(1).mean()),
    ("cross_entropy soft weight", nn.cross_entropy, (Z, P, W), -(W * P * LOGP).sum(1).mean()),
    (
        "cross_entropy images",
        nn.cross_entropy,
        (Z3, Y3),
        -np.take_along_axis(sp.log_softmax(Z3, axis=1), Y3[:, None], 1).mean(),
    ),
    ("nll_loss", nn.nll_loss, (LOGP, Y), HIT.mean()),
    ("nll_loss weight", nn.nll_loss, (LOGP, Y, W), (HIT * W[Y]).sum() / W[Y].sum()),
    ("mse_loss", nn.mse_loss, (Z, P), ((Z - P) ** 2).mean()),
    ("l1_loss", nn.l1_loss, (Z, P), np.abs(Z - P).mean()),
    ("huber_loss", lambda z, p: nn.huber_loss(z, p, delta=0.5), (Z, P), 0.25 * sp.huber(0.5, Z - P).mean() * 4),
    ("smooth_l1_loss", lambda z, p: nn.smooth_l1_loss(z, p, beta=0.5), (Z, P), 2 * sp.huber(0.5, Z - P).mean()),
    ("bce", nn.binary_cross_entropy, (P, 1 - P), -((1 - P) * np.log(P) + P * np.log(1 - P)).mean()),
    ("bce at 0 and 1", nn.binary_cross_entropy, (np.array([0.0, 1.0]), np.array([1.0, 1.0])), np.float64(50)),
    (
        "bce with logits",
        nn.binary_cross_entropy_with_logits,
        (Z, P),
        -(P * sp.log_expit(Z) + (1 - P) * sp.log_expit(-Z)).mean(),
    ),
    (
        "bce with weights",
        lambda z, p, w: nn.binary_cross_entropy_with_logits(z, p, w, pos_weight=2 * w, reduction="sum"),
        (Z, P, W),
        -(W * (2 * W * P * sp.log_expit(Z) + (1 - P) * sp.log_expit(-Z))).sum(),
    ),
    ("kl_div", lambda q, p: nn.kl_div(q, p, reduction="batchmean"), (LOGP, P), sp.rel_entr(P, np.exp(LOGP)).sum() / 6),
    ("kl_div log", lambda q, p: nn.kl_div(q, p, log_target=True), (LOGP, np.log(P)), (P * (np.log(P) - LOGP)).mean()),
    ("poisson", nn.poisson_nll_loss, (Z, P), (np.exp(Z) - P * Z).mean()),
    (
        "gaussian",
        lambda z, p, v: nn.gaussian_nll_loss(z, p, v, full=True),
        (Z, P, P),
        (0.5 * (np.log(P) + (Z - P) ** 2 / P) + 0.5 * np.log(2 * np.pi)).mean(),
    ),
]


@pytest.mark.parametrize(("f", "arrays", "expected"), [pytest.param(*row[1:], id=row[0]) for row in FORMULAS])
def test_formulas_traced_and_eager(f, arrays, expected):
    same(traced(f, *arrays), expected, ULPS)
    same(f(*arrays), expected, ULPS)


@pytest.mark.parametrize("f", [row[1] for row in FORMULAS[:20]])
def test_float32_stays_float32(f):
    assert f(leaf(Z.astype("f4"))).dtype == np.float32


def test_one_hot():
    same(traced(lambda y: nn.one_hot(y, 5), Y), np.eye(5, dtype=np.int64)[Y])
    for labels in (np.array([3, 250], np.uint8), np.array([3, 127], np.int8)):
        same(traced(lambda y: nn.one_hot(y, 300), labels), np.eye(300, dtype=np.int64)[labels])
    same(nn.one_hot([2, 0]), np.array([[0, 0, 1], [1, 0, 0]]))
    same(traced(lambda y: nn.one_hot(y, 5, dtype="float32"), Y3), np.eye(5, dtype="f4")[Y3])


def test_losses_are_finite_where_the_textbook_is_not():
    huge = np.array([[1e4, -1e4], [-1e4, 1e4]])
    same(nn.cross_entropy(huge, [1, 0], reduction="none"), np.array([2e4, 2e4]))
    same(nn.binary_cross_entropy_with_logits(huge, np.zeros((2, 2)), reduction="none"), np.maximum(huge, 0))
    assert nn.gelu(np.float64(-30.0)) < 0  # 1 + erf would cancel to 0
    same(nn.softplus(np.array([-800.0, 800.0])), np.array([0.0, 800.0]))


ERRORS: list[tuple[Callable[[Node], Any], type[Exception], str]] = [
    (lambda z: nn.cross_entropy(z, np.zeros(5, int)), ShapeError, r"integer targets must be \(6,\), got \(5,\)"),
    (lambda z: nn.cross_entropy(z, np.zeros((6, 4))), ShapeError, "must have one shape"),
    (lambda z: nn.cross_entropy(z, np.zeros(6)), DTypeError, r"need \.astype\(int\)"),
    (lambda z: nn.cross_entropy(z, np.zeros(6, bool)), DTypeError, "integer classes"),
    (lambda z: nn.cross_entropy(z, Y, reduction="average"), ValueError, "'mean', 'sum' or 'none'"),
    (lambda z: nn.mse_loss(z, z[:, 0]), ShapeError, r"input \(6, 5\) and target \(6,\)"),
    (lambda z: nn.linear(z, np.zeros((5, 3))), ShapeError, r"weight is \(out, in\)"),
    (lambda z: nn.gelu(z, "fast"), ValueError, "'none' or 'tanh'"),
    (lambda z: nn.one_hot(z.astype(int)), TraceError, "give num_classes"),
    (lambda z: nn.layer_norm(z, 6), ShapeError, "last extents"),
]


@pytest.mark.parametrize(("program", "error", "text"), ERRORS)
def test_errors_name_line_operand_and_remedy(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program(leaf(Z, "z"))
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)
