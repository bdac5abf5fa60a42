"""Programs that PyTorch and gradc run alike, and their arguments: `torch_vectors.py` stores what PyTorch makes of them.

A program is text over F, torch.nn.functional or gc.nn, and over arrays by name; derivatives are taken in the floating
arrays whose names are small letters.  No package but NumPy is needed.  Start reading at `CASES`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_RNG = np.random.default_rng(13)


def _normal(*shape: int) -> Array:
    return np.round(_RNG.standard_normal(shape), 3)


_SHARE = np.round(1 / (1 + np.exp(-_normal(3, 4))), 3)
_WHOLE = np.exp(_normal(3, 4))
#: bounds of piecewise activations, and numbers beside them
KINKS = np.array([-3.0, -2.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.5, 6.0])

ARRAYS: dict[str, Array] = {
    "x": 2 * _normal(3, 4),
    "a": _normal(3, 4),
    "b": _normal(3, 4),
    "c": _normal(2, 4, 3),
    "v": _normal(4),
    "u": _normal(4),
    "k": KINKS,
    "w": np.abs(_normal(4)) + 0.1,
    "p": _SHARE,
    "q": _WHOLE / _WHOLE.sum(1, keepdims=True),
    "one": _normal(1),
    "r": np.abs(_normal(3, 4)) + 0.2,
    "t": _normal(5, 3, 4),
    "e": np.ones(4),
    "z": np.zeros((3, 4)),
    "h": np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 2.0, 1.0], [0.0, 0.5, 0.0, 1.0]]),
    "KD": np.round(KINKS * np.where(np.arange(13) % 3, 1.0, 0.5), 4),
    "far": np.array([-800.0, -30.0, 0.5, 30.0, 800.0]),
    "R": np.abs(_normal(3, 4)) + 0.2,
    "W": np.abs(_normal(4)) + 0.1,
    "Y": np.array([2, 0, 3]),
    "YI": np.array([2, -100, 3]),
    "Y0": np.array(1),
    "YC": np.array([[0, 3, 1], [2, 2, 0]]),
    "Q": np.round(_SHARE[::-1], 2),
    "B": (_normal(3, 4) > 0).astype(float),
    "S": np.where(_normal(3, 4) > 0, 1.0, -1.0),
    "S3": np.array([1.0, -1.0, 1.0]),
    "S0": np.array(-1.0),
    "N": np.array([[0.0, 1.0, 2.0, 5.0]] * 3),
    "L": np.array([[1, 3, -1, 2], [-1, 0, 1, 2], [0, 1, 2, 3]]),
    "L1": np.array([3, 0, -1, 1]),
    "T": np.array([[1, 2], [3, 3], [2, 1]]),
    "T1": np.array([1, 2, 3, 3, 2]),
    "IL": np.array([5, 5, 4]),
    "TL": np.array([2, 2, 1]),
    "IL0": np.array(5),
    "TL0": np.array(2),
    "TLX": np.array([2, 2, 0]),
    "ILX": np.array([5, 2, 3]),
}


def _each(names: str, text: str) -> list[str]:
    return [text.format(name) for name in names.split()]


ACTIVATIONS = [
    *_each(
        "relu relu6 hardtanh hardsigmoid hardswish leaky_relu elu celu selu sigmoid logsigmoid tanh softplus softsign "
        "gelu silu mish hardshrink softshrink tanhshrink",
        "F.{}(x)",
    ),
    "F.gelu(x, approximate='tanh')",
    "F.elu(x, 2.0)",
    "F.celu(x, 0.5)",
    "F.leaky_relu(x, 0.2)",
    "F.hardtanh(x, -0.5, 2.0)",
    "F.softplus(x, 2.0)",
    "F.softplus(x, 2.0, 1.0)",
    "F.softplus(x, threshold=1.0)",
    "F.hardshrink(x, 1.0)",
    "F.softshrink(x, 1.0)",
    "F.threshold(x, 0.1, 20.0)",
    "F.prelu(x, one)",
    "F.prelu(x, w)",
    "F.prelu(c, w)",
    "F.prelu(v, one)",
    "F.rrelu(x)",
    "F.rrelu(x, 0.1, 0.5)",
    "F.glu(x)",
    "F.glu(c, 1)",
    "F.glu(c, dim=0)",
    "F.softmax(x, 0)",
    "F.softmax(c, dim=1)",
    "F.softmin(x, 1)",
    "F.log_softmax(x, 1)",
    "F.log_softmax(c, -2)",
]

#: at these points the second derivative of one of both may be anything
AT_KINKS = [
    *_each(
        "relu relu6 hardtanh hardsigmoid hardswish leaky_relu elu celu selu hardshrink softshrink softsign rrelu",
        "F.{}(k)",
    ),
    "F.threshold(k, 0.5, 20.0)",
    "F.prelu(k, one)",
    "F.hardshrink(k, 0.25)",
    "F.softshrink(k, 0.25)",
    "F.elu(k, 2.0)",
    "F.softplus(k, 2.0, 1.0)",
    "F.hardtanh(k, -0.5, 2.0)",
    "F.leaky_relu(k, 0.3)",
    "F.softshrink(k, 0.0)",
    "F.hardshrink(k, 0.0)",
    "F.l1_loss(k, KD)",
    "F.smooth_l1_loss(k, KD, beta=0.5)",
    "F.huber_loss(k, KD, delta=0.5)",
    "F.hinge_embedding_loss(e, S[0])",
    "F.margin_ranking_loss(e, e, S[0])",
    "F.margin_ranking_loss(e, v, S[0], margin=0.0)",
    "F.multi_margin_loss(z, Y, margin=0.0)",
    "F.multi_margin_loss(h, Y, 2)",
    "F.multi_margin_loss(h, Y)",
    "F.multilabel_margin_loss(h, L)",
    "F.sigmoid(far)",
    "F.logsigmoid(far)",
    "F.silu(far)",
    "F.mish(far)",
    "F.gelu(far)",
    "F.softplus(far)",
    "F.tanhshrink(far)",
    "F.softsign(far)",
    "F.elu(far)",
    "F.celu(far)",
    "F.selu(far)",
    "F.softmax(far, 0)",
    "F.log_softmax(far, 0)",
]

_REDUCED = [
    "F.mse_loss(a, b",
    "F.l1_loss(a, b",
    "F.smooth_l1_loss(a, b",
    "F.huber_loss(a, b, delta=0.7",
    "F.binary_cross_entropy(p, Q",
    "F.binary_cross_entropy(p, Q, W",
    "F.binary_cross_entropy_with_logits(x, Q",
    "F.binary_cross_entropy_with_logits(x, Q, W, pos_weight=2 * W",
    "F.kl_div(x, Q",
    "F.kl_div(x, a, log_target=True",
    "F.cross_entropy(x, Y",
    "F.cross_entropy(x, Y, W",
    "F.cross_entropy(c, YC, W",
    "F.cross_entropy(x, YI, W, ignore_index=-100",
    "F.cross_entropy(x, q, W",
    "F.cross_entropy(x, YI, W, ignore_index=-100, label_smoothing=0.1",
    "F.nll_loss(x, Y, W",
    "F.nll_loss(c, YC",
    "F.nll_loss(x, YI, ignore_index=-100",
    "F.poisson_nll_loss(x, N",
    "F.gaussian_nll_loss(a, b, r",
    "F.hinge_embedding_loss(a, S, margin=0.5",
    "F.soft_margin_loss(x, S",
    "F.margin_ranking_loss(a, b, S, margin=0.5",
    "F.multi_margin_loss(x, Y",
    "F.multilabel_margin_loss(x, L",
    "F.multilabel_soft_margin_loss(x, B, W",
    "F.cosine_embedding_loss(a, b, S3, margin=0.1",
    "F.triplet_margin_loss(a, b, x",
    "F.triplet_margin_loss(x, b, a, 0.5, 1.0, swap=True",
    "F.triplet_margin_with_distance_loss(a, b, x, margin=2.0",
]

LOSSES = [
    *(f"{head})" for head in _REDUCED),
    *(f"{head}, reduction={('sum', 'none')[i % 2]!r})" for i, head in enumerate(_REDUCED)),
    *(
        f"F.{name}(a, b, weight=R, reduction={how!r})"
        for name, how in (
            ("mse_loss", "mean"),
            ("l1_loss", "mean"),
            ("huber_loss", "mean"),
            ("mse_loss", "none"),
            ("huber_loss", "sum"),
        )
    ),
    "F.pdist(a)",
    "F.pdist(a, 1.5)",
    "F.pdist(a, p=1.0)",
    "F.smooth_l1_loss(a, b, beta=0.3)",
    "F.smooth_l1_loss(a, b, beta=0.0)",
    "F.kl_div(x, q, reduction='batchmean')",
    "F.cross_entropy(v, Y0)",
    "F.cross_entropy(c, YC, label_smoothing=0.2)",
    "F.cross_entropy(x, q, label_smoothing=0.2)",
    "F.cross_entropy(x, q, W, label_smoothing=0.2)",
    "F.cross_entropy(x, Y, W, label_smoothing=0.2)",
    "F.nll_loss(v, Y0)",
    "F.poisson_nll_loss(r, N, log_input=False)",
    "F.poisson_nll_loss(x, N, full=True)",
    "F.poisson_nll_loss(r, N, False, True, eps=0.01)",
    "F.gaussian_nll_loss(a, b, r, full=True)",
    "F.gaussian_nll_loss(a, b, r, eps=0.7)",
    "F.gaussian_nll_loss(a, b, r[:, 0])",
    "F.gaussian_nll_loss(a, b, r[:, :1])",
    "F.multi_margin_loss(x, Y, 2, 0.7, W)",
    "F.multi_margin_loss(v, Y0)",
    "F.multilabel_margin_loss(v, L1)",
    "F.multilabel_soft_margin_loss(v, B[0])",
    "F.cosine_embedding_loss(v, u, S0)",
    "F.triplet_margin_loss(v, u, w, p=3.0, eps=1e-3)",
    "F.triplet_margin_with_distance_loss(a, b, x, distance_function=lambda s, t: ((s - t) ** 2).sum(-1), swap=True)",
    "F.cosine_similarity(a, b)",
    "F.cosine_similarity(a, v, dim=-1)",
    "F.cosine_similarity(c, c[0], 2)",
    "F.pairwise_distance(a, b)",
    "F.pairwise_distance(a, b, 1.0, 0.1, True)",
    "F.pairwise_distance(a, v, p=3.0)",
]

#: of logits: PyTorch's derivative of this loss is that behind a log_softmax, and has no second one
CTC = [
    *(f"F.ctc_loss(F.log_softmax(t, -1), T, IL, TL, reduction={how!r})" for how in ("mean", "sum", "none")),
    "F.ctc_loss(F.log_softmax(t, -1), T1, IL, TL)",
    "F.ctc_loss(F.log_softmax(t[:, 0], -1), T[0], IL0, TL0)",
    "F.ctc_loss(F.log_softmax(t, -1), T, IL, TLX, reduction='none')",
    "F.ctc_loss(F.log_softmax(t, -1), T - 1, IL, TL, blank=3)",
    "F.ctc_loss(F.log_softmax(t, -1), T, ILX, TLX, reduction='none', zero_infinity=True)",
]

#: text: how many derivatives are compared
CASES: dict[str, int] = {
    **dict.fromkeys(ACTIVATIONS, 2),
    **dict.fromkeys(AT_KINKS, 1),
    **dict.fromkeys(LOSSES, 2),
    **dict.fromkeys(CTC, 1),
}


def names_in(text: str, arrays: Mapping[str, Array] = ARRAYS) -> list[str]:
    """The arrays that a program reads, in the order of ``arrays``."""
    words = set(re.findall(r"(?<![\w.'])[A-Za-z]\w*", text)) - {"lambda"}
    return [name for name in arrays if name in words and not (name in "st" and "lambda" in text)]


@functools.cache
def _code(text: str) -> Any:
    return compile(text, text, "eval")


def program(text: str, space: Any, arrays: Mapping[str, Array] = ARRAYS) -> Callable[..., Any]:
    """A program over the functions of ``space``, as a function of those of ``arrays`` that it reads."""
    names = names_in(text, arrays)
    return lambda *values: eval(_code(text), {"F": space, **dict(zip(names, values, strict=True))})


def differentiated(names: list[str]) -> list[str]:
    """Those in which derivatives are taken."""
    return [name for name in names if name.islower()]


def weights(shape: tuple[int, ...], which: int) -> Array:
    """Numbers by which results are added up, so that one number is differentiated."""
    count = int(np.prod(shape))
    return np.cos(1.0 + which + 1.7 * np.arange(count)).reshape(shape)
