"""Losses of sequences: alignment-free classification (CTC), and next-token prediction.

Enters: log-probabilities or logits over time, labels, and which of them count.  Leaves: a scalar for ``reduction``
"mean" and "sum", one number per example (per token, of `causal_lm_loss`) for "none".  Start reading at `_ctc_loss`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Aval
from gradc.errors import DTypeError, ShapeError
from gradc.graph import Graph
from gradc.nn.terms import as_index, known_value, reduced_loss
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.numpy.reductions import inexact
from gradc.ops.control import Loop, inner_leaf, item
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = ["causal_lm_loss", "ctc_loss"]

_INT = np.dtype(np.int64)


@function("nn.ctc_loss", singular="0 where no alignment fits", wide=True)
def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike,
    target_lengths: ArrayLike,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Array:
    """−log of the probability of all alignments of a label sequence with T steps (Graves et al. 2006).

    ``log_probs`` (T, N, C), or (T, C) of one example; ``targets`` (N, S), padded, or one sequence after another in one
    axis; lengths (N,), or () of one example.  An alignment gives a label or ``blank`` at each step; repeats and then
    blanks are dropped.  "mean" divides each loss by its target length (at least 1) first.  Where no alignment fits, the
    loss is +∞, 0 with ``zero_infinity``.  Lengths beyond the data and labels that are none are a ValueError where they
    are known, as arrays are that a traced function holds; of traced ones, more steps than T count as T.

    The derivative is that in ``log_probs`` as they are; PyTorch's is the one of logits behind them, and differs unless
    a log_softmax stands before.  The recursion over time is one compiled loop in log space.
    """
    x = inexact(as_node(log_probs))
    if x.ndim not in (2, 3) or not x.shape[-1]:
        raise ShapeError(f"{here()}: ctc_loss: log_probs must be (T, N, C) or (T, C), got {describe(x)}")
    single = x.ndim == 2
    lengths = [_lengths(what, given, 1 if single else x.shape[1]) for what, given in
               (("input_lengths", input_lengths), ("target_lengths", target_lengths))]  # fmt: skip
    labels, blank = as_node(targets), static_int(blank, "blank")
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: ctc_loss: targets must be integers, got {describe(labels)}")
    if not 0 <= blank < x.shape[-1]:
        raise ValueError(f"{here()}: ctc_loss: blank must be one of the {x.shape[-1]} classes, got {blank}")
    if single:
        x = gnp.expand_dims(x, 1)
    rows = _label_rows(labels, lengths[1], x.shape[1], single)
    _check_known(rows, lengths, x, blank)
    losses = _ctc_loss(x, rows, *lengths, blank=blank)
    if zero_infinity:
        losses = gnp.where(losses == np.inf, 0.0, losses)
    if reduction == "mean":
        losses = losses / cast(gnp.maximum(lengths[1], 1), losses.dtype)
    if single and reduction == "none":
        return gnp.reshape(losses, ())
    return reduced_loss(losses, reduction)


def _lengths(what: str, given: ArrayLike, count: int) -> Node:
    """Lengths (N,) as int64."""
    node = as_node(given)
    if node.dtype.kind not in "iu" or node.size != count or node.ndim > 1:
        raise ShapeError(f"{here()}: ctc_loss: {what} must be {count} integers, got {describe(node)}")
    return gnp.reshape(cast(node, _INT), (count,))


def _label_rows(labels: Node, lengths: Node, count: int, single: bool) -> Node:
    """Labels (N, S), padded, of labels that are so already or stand one sequence after another."""
    if labels.ndim == 2 and labels.shape[0] == count:
        return cast(labels, _INT)
    if labels.ndim != 1:
        raise ShapeError(f"{here()}: ctc_loss: targets must be ({count}, S), or have one axis, got {describe(labels)}")
    if single:
        return gnp.reshape(cast(labels, _INT), (1, -1))
    known = known_value(lengths)
    longest = labels.shape[0] if known is None else int(known.max(initial=0))
    if known is not None and known.sum() > labels.shape[0]:
        raise ValueError(
            f"{here()}: ctc_loss: target_lengths sum to {known.sum()}, more than the {labels.shape[0]} targets that "
            f"stand one after another.\n  operand: {describe(labels)}"
        )
    if not labels.shape[0] or not longest:
        return full((count, 0), 0, _INT)
    place = gnp.expand_dims(gnp.cumsum(lengths) - lengths, -1) + iota((count, longest), 1)
    return gnp.take(cast(labels, _INT), gnp.minimum(place, labels.shape[0] - 1))


def _check_known(rows: Node, lengths: list[Node], x: Node, blank: int) -> None:
    """ValueError for lengths and labels that are known and cannot be."""
    steps, _, classes = x.shape
    for what, node, most in (("input_lengths", lengths[0], steps), ("target_lengths", lengths[1], rows.shape[1])):
        value = known_value(node)
        if value is not None and not np.all((value >= 0) & (value <= most)):
            raise ValueError(f"{here()}: ctc_loss: {what} must lie in [0, {most}], got {value.tolist()!r:.60}")
    value, count = known_value(rows), known_value(lengths[1])
    if value is None or count is None:
        return
    used = value[np.arange(value.shape[1]) < count[:, None]]
    if np.any((used < 0) | (used >= classes) | (used == blank)):
        raise ValueError(
            f"{here()}: ctc_loss: targets must be classes 0 … {classes - 1} other than blank={blank}, got "
            f"{used.tolist()!r:.60}"
        )


@composite("ctc_loss")
def _ctc_loss(x: Node, labels: Node, steps: Node, counts: Node, *, blank: int) -> Node:
    """The loss of each example.

    αₜ(s): log of the probability of all that gives the first s of blank, label, blank, label, …, blank in t steps.
    It is reached from s, s − 1, and from s − 2 where that skips a blank between two different labels.
    """
    total, n, _ = x.shape
    size = labels.shape[1]
    inside = iota(labels.shape, 1) < gnp.expand_dims(counts, -1)
    labels = gnp.where(inside, labels, blank)
    between = full((n, size, 1), blank, _INT)
    path = gnp.reshape(gnp.concatenate([between, gnp.expand_dims(labels, -1)], -1), (n, 2 * size))
    path = gnp.concatenate([path, full((n, 1), blank, _INT)], -1)
    skips = (path != blank) & (path != _moved(path, 2, blank))
    seen = gnp.take_along_axis(x, as_index(gnp.broadcast_to(path, (total, *path.shape))), -1)
    start = gnp.where(iota(path.shape, 1) == 0, full(path.shape, 0.0, x.dtype), -np.inf)
    alpha = _recursion(seen, start, skips, steps) if total else start
    last = gnp.expand_dims(2 * counts, -1)
    end = gnp.take_along_axis(alpha, last, -1)
    label_end = gnp.where(last > 0, gnp.take_along_axis(alpha, gnp.maximum(last - 1, 0), -1), -np.inf)
    return -gnp.reshape(_log_of_sum(end, label_end), (n,))


def _recursion(seen: Node, start: Node, skips: Node, steps: Node) -> Node:
    """α after all steps; that of an example stays once its own are over."""
    total = seen.shape[0]
    may_skip, limit = inner_leaf(skips.aval, "may_skip"), inner_leaf(steps.aval, "steps")
    alpha, row = inner_leaf(start.aval, "alpha"), inner_leaf(start.aval, "seen")
    t = inner_leaf(Aval((), _INT), "t")
    reached = _log_of_sum(alpha, _moved(alpha, 1, -np.inf), gnp.where(may_skip, _moved(alpha, 2, -np.inf), -np.inf))
    after = gnp.where(gnp.expand_dims(t < limit, -1), reached + row, alpha)
    body = Graph((may_skip, limit, alpha, row, t), (after,), title="ctc_loss")
    return item(Loop(body, (skips, steps), (start,), (seen, iota((total,))), total).node(), 0)


def _moved(x: Node, by: int, fill: Any) -> Node:
    """``x`` (N, L) moved to the right, with ``fill`` in front."""
    front = full((x.shape[0], min(by, x.shape[1])), fill, x.dtype)
    moved: Node = gnp.concatenate([front, x[:, : max(x.shape[1] - by, 0)]], -1)
    return moved


def _log_of_sum(*terms: Node) -> Node:
    """log Σ eˣ; −∞, with no derivative, where all are −∞."""
    top: Any = terms[0]
    for x in terms[1:]:
        top = gnp.maximum(top, x)
    top = FUNCTIONS["stop_gradient"](top)
    none = top == -np.inf
    shift = gnp.where(none, 0.0, top)
    total: Any = gnp.exp(terms[0] - shift)
    for x in terms[1:]:
        total = total + gnp.exp(x - shift)
    result: Node = gnp.where(none, -np.inf, shift + gnp.log(gnp.where(none, 1.0, total)))
    return result


# -- next tokens -------------------------------------------------------------------------------------------------------


@function("nn.causal_lm_loss", wide=True)
def causal_lm_loss(
    logits: ArrayLike,
    tokens: ArrayLike,
    mask: ArrayLike = None,
    *,
    shift: bool = True,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """−log p(tokenₜ₊₁ | token₀ … tokenₜ), the mean over the tokens that count: logits (…, T, V), tokens (…, T).

    The logits at t say token t + 1, so the last logits and the first token are left out; ``shift=False``: tokens are
    those to be said, already moved.  ``mask`` (…, T), bools or 0 and 1, says which tokens count, all but padding for
    instance; those equal to ``ignore_index`` do not either, and both reach no derivative.  "mean" of none is NaN.  The
    perplexity is e to the mean.
    """
    z, y = inexact(as_node(logits)), as_node(tokens)
    if y.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: causal_lm_loss: tokens must be integers, got {describe(y)}")
    y = cast(y, _INT)  # of narrow integers ignore_index may be none
    if z.ndim < 2 or y.shape != z.shape[:-1]:
        raise ShapeError(
            f"{here()}: causal_lm_loss: logits (…, T, V) need tokens (…, T).\n  operands: {describe(z)}; {describe(y)}"
        )
    counted = None if mask is None else as_node(mask)
    if counted is not None and counted.shape != y.shape:
        raise ShapeError(
            f"{here()}: causal_lm_loss: mask must have the shape {y.shape} of the tokens, got {describe(counted)}"
        )
    counts = None if counted is None else counted != 0
    if ignore_index is not None:
        kept = y != ignore_index
        counts = kept if counts is None else counts & kept
    if shift:
        z, y, counts = z[..., :-1, :], y[..., 1:], None if counts is None else counts[..., 1:]
    return _next_token_loss(z, y, counts, label_smoothing, reduction)


def _next_token_loss(z: Node, y: Node, counts: Any, label_smoothing: float, reduction: str) -> Array:
    flat, cross_entropy = gnp.reshape(z, (-1, z.shape[-1])), FUNCTIONS["nn.cross_entropy"]
    if counts is None:
        loss = cross_entropy(flat, gnp.reshape(y, (-1,)), reduction=reduction, label_smoothing=label_smoothing)
        return gnp.reshape(loss, y.shape) if reduction == "none" else loss
    safe = gnp.where(counts, y, 0)
    each = cross_entropy(flat, gnp.reshape(safe, (-1,)), reduction="none", label_smoothing=label_smoothing)
    each = gnp.where(counts, gnp.reshape(each, y.shape), 0.0)
    if reduction == "mean":
        return gnp.sum(each) / gnp.sum(gnp.astype(counts, each.dtype))
    return reduced_loss(each, reduction)
