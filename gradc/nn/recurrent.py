"""Recurrent layers: weights, gates and arguments of torch.lstm, torch.gru, torch.rnn_tanh and their cells.

Enters: sequences (T, N, features), first states, weights in PyTorch's flat order.  Leaves: the outputs of all steps and
the last states.  Invariant: one direction of one layer is one compiled loop; what does not depend on the state, the
product with the inputs, is one product before it.  Start reading at `_layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Aval, promoted
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.graph import Graph
from gradc.nn.terms import known_value
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.control import Loop, inner_leaf, items
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota
from gradc.random.arguments import known_number
from gradc.random.keys import fold_in

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]

#: (inputs' part of the gates, the state's part, states) -> new states, the first of which is the output
Step = Callable[[Any, Any, Sequence[Any]], tuple[Any, ...]]


# -- single steps ------------------------------------------------------------------------------------------------------


@function("nn.rnn_tanh_cell")
def rnn_tanh_cell(
    input: ArrayLike, hx: ArrayLike, w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike = None, b_hh: ArrayLike = None
) -> Array:
    """tanh(W·x + b + U·h + c): input (N, in) or (in,), hx (N, h) or (h,), w_ih (h, in), w_hh (h, h) (Elman 1990).

    Without hx (None) the state is 0.
    """
    return _cell("rnn_tanh_cell", 1, _tanh_step, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@function("nn.rnn_relu_cell", singular="0 at 0")
def rnn_relu_cell(
    input: ArrayLike, hx: ArrayLike, w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike = None, b_hh: ArrayLike = None
) -> Array:
    """relu(W·x + b + U·h + c); see `rnn_tanh_cell`."""
    return _cell("rnn_relu_cell", 1, _relu_step, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@function("nn.gru_cell")
def gru_cell(
    input: ArrayLike, hx: ArrayLike, w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike = None, b_hh: ArrayLike = None
) -> Array:
    """(1 − z)·n + z·h with gates r, z and n = tanh(Wₙ·x + bₙ + r·(Uₙ·h + cₙ)) (Cho et al. 2014).

    input (N, in) or (in,), hx (N, h) or (h,), w_ih (3h, in) and w_hh (3h, h) with rows r, z, n.
    """
    return _cell("gru_cell", 3, _gru_step, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@function("nn.lstm_cell")
def lstm_cell(
    input: ArrayLike, hx: Any, w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike = None, b_hh: ArrayLike = None
) -> tuple[Array, Array]:
    """(h′, c′): c′ = f·c + i·g, h′ = o·tanh c′ with gates i, f, g, o (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    input (N, in) or (in,), hx = (h, c) of (N, h) or (h,), or None for zeros, w_ih (4h, in) and w_hh (4h, h) with rows
    i, f, g, o.
    """
    h, c = _cell("lstm_cell", 4, _lstm_step, input, _pair("lstm_cell", hx), w_ih, w_hh, b_ih, b_hh)
    return h, c


def _cell(
    name: str, gates: int, step: Step, input: ArrayLike, states: Sequence[Any], w_ih: Any, w_hh: Any, b_ih: Any,
    b_hh: Any,
) -> tuple[Any, ...]:  # fmt: skip
    x = as_node(input)
    before = [_first(s, (*x.shape[:-1], _width(w_hh)), (x, w_ih, w_hh)) for s in states]
    _check_weights(name, gates, x, before[0].shape[-1] if before[0].ndim else 0, as_node(w_ih), as_node(w_hh))
    if any(s.shape[:-1] != x.shape[:-1] or s.shape != before[0].shape for s in before):
        raise ShapeError(
            f"{here()}: {name}: input (N, in) or (in,) needs states (N, h) or (h,).\n"
            f"  operands: {'; '.join(map(describe, (x, *before)))}"
        )
    linear = FUNCTIONS["nn.linear"]
    return step(linear(x, w_ih, b_ih), linear(before[0], w_hh, b_hh), before)


def _tanh_step(x: Any, u: Any, states: Sequence[Any]) -> tuple[Any, ...]:
    return (gnp.tanh(x + u),)


def _relu_step(x: Any, u: Any, states: Sequence[Any]) -> tuple[Any, ...]:
    return (FUNCTIONS["nn.relu"](x + u),)


def _gru_step(x: Any, u: Any, states: Sequence[Any]) -> tuple[Any, ...]:
    sigmoid, (xr, xz, xn), (ur, uz, un) = FUNCTIONS["nn.sigmoid"], gnp.split(x, 3, -1), gnp.split(u, 3, -1)
    r, z = sigmoid(xr + ur), sigmoid(xz + uz)
    n = gnp.tanh(xn + r * un)
    return ((1 - z) * n + z * states[0],)


def _lstm_step(x: Any, u: Any, states: Sequence[Any]) -> tuple[Any, ...]:
    sigmoid = FUNCTIONS["nn.sigmoid"]
    i, f, g, o = gnp.split(x + u, 4, -1)
    c = sigmoid(f) * states[1] + sigmoid(i) * gnp.tanh(g)
    return sigmoid(o) * gnp.tanh(c), c


# -- sequences ---------------------------------------------------------------------------------------------------------


@function("nn.rnn_tanh")
def rnn_tanh(
    input: ArrayLike, hx: ArrayLike, params: Any, has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False, *, lengths: ArrayLike = None,
    dropout_key: ArrayLike = None,
) -> tuple[Array, Array]:  # fmt: skip
    """`rnn_tanh_cell` along sequences: (outputs, last states); arguments and results as of `gru`."""
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, dropout_key)
    y, (h,) = _layers("rnn_tanh", 1, _tanh_step, input, (hx,), params, *options)
    return y, h


@function("nn.rnn_relu", singular="0 at 0")
def rnn_relu(
    input: ArrayLike, hx: ArrayLike, params: Any, has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False, *, lengths: ArrayLike = None,
    dropout_key: ArrayLike = None,
) -> tuple[Array, Array]:  # fmt: skip
    """`rnn_relu_cell` along sequences: (outputs, last states); arguments and results as of `gru`."""
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, dropout_key)
    y, (h,) = _layers("rnn_relu", 1, _relu_step, input, (hx,), params, *options)
    return y, h


@function("nn.gru")
def gru(
    input: ArrayLike, hx: ArrayLike, params: Any, has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False, *, lengths: ArrayLike = None,
    dropout_key: ArrayLike = None,
) -> tuple[Array, Array]:  # fmt: skip
    """`gru_cell` along sequences (T, N, in), (N, T, in) with ``batch_first``: outputs (T, N, D·h) and last states.

    ``hx`` (num_layers·D, N, h) are the first states, None for zeros, D = 2 directions if ``bidirectional``, else 1.  Of
    one sequence (T, in) the axis N is nowhere: hx (num_layers·D, h), outputs (T, D·h).  ``params``: a list
    of w_ih, w_hh, and with ``has_biases`` b_ih, b_hh, for each layer and in it for each direction, PyTorch's order.
    ``lengths`` (N,): steps beyond its length change no state and give 0, as of PyTorch's packed sequences.  ``dropout``
    between layers, if ``train``, draws with ``dropout_key``.
    """
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, dropout_key)
    y, (h,) = _layers("gru", 3, _gru_step, input, (hx,), params, *options)
    return y, h


@function("nn.lstm")
def lstm(
    input: ArrayLike, hx: Any, params: Any, has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False, *, lengths: ArrayLike = None,
    dropout_key: ArrayLike = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """`lstm_cell` along sequences, ``hx`` = (h, c) or None: (outputs, last h, last c); arguments as of `gru`."""
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, dropout_key)
    y, (h, c) = _layers("lstm", 4, _lstm_step, input, _pair("lstm", hx), params, *options)
    return y, h, c


def _layers(
    name: str, gates: int, step: Step, input: ArrayLike, states: Sequence[Any], params: Any, has_biases: bool,
    num_layers: Any, dropout: Any, train: bool, bidirectional: bool, batch_first: bool, lengths: ArrayLike,
    dropout_key: ArrayLike,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """Layer upon layer, each in one direction or in both."""
    count, ways, each = static_int(num_layers, "num_layers"), 2 if bidirectional else 1, 4 if has_biases else 2
    x, weights = inexact(as_node(input)), [as_node(p) for p in params]
    alone = x.ndim == 2
    if alone:
        if lengths is not None:
            raise ShapeError(f"{here()}: {name}: lengths are of a batch of sequences, got one, {describe(x)}")
        x, batch_first = FUNCTIONS["expand_dims"](x, 1), False
    batch = x.shape[0 if batch_first else 1] if x.ndim == 3 else 0
    zeros = (count * ways, batch, _width(weights[1]) if len(weights) > 1 else 0)
    firsts = [_first(s, zeros, (x, *weights), alone) for s in states]
    kind = promoted(*[a.dtype for a in (x, *weights, *firsts)])
    x, weights, firsts = cast(x, kind), [cast(p, kind) for p in weights], [cast(s, kind) for s in firsts]
    _check_sequences(name, x, firsts, len(weights), count * ways, each)
    y: Any = gnp.swapaxes(x, 0, 1) if batch_first else x
    if firsts[0].shape[1] != y.shape[1]:
        raise ShapeError(f"{here()}: {name}: states of {firsts[0].shape[1]} sequences for {describe(x)}")
    valid = _valid(name, y, lengths)
    drops = bool(train) and known_number(dropout) != 0
    if drops and dropout_key is None:
        raise TraceError(f"{here()}: {name}: dropout needs dropout_key=gc.random.key(…)")
    lasts: list[list[Any]] = [[] for _ in firsts]
    for layer in range(count):
        outputs = []
        for way in range(ways):
            k = layer * ways + way
            own = weights[k * each : (k + 1) * each]
            _check_weights(name, gates, y, firsts[0].shape[2], own[0], own[1])
            found, last = _along(name, step, y, [s[k] for s in firsts], own, valid, way == 1)
            outputs.append(found)
            for part, value in zip(lasts, last, strict=True):
                part.append(value)
        y = outputs[0] if ways == 1 else gnp.concatenate(outputs, -1)
        if drops and layer + 1 < count:
            y = FUNCTIONS["nn.dropout"](y, dropout, fold_in(dropout_key, layer))
    found = [gnp.stack(part) for part in lasts]
    if alone:
        return gnp.squeeze(y, 1), [gnp.squeeze(last, 1) for last in found]
    return gnp.swapaxes(y, 0, 1) if batch_first else y, found


def _along(
    name: str, step: Step, x: Node, states: Sequence[Any], own: Sequence[Node], valid: Any, backwards: bool
) -> tuple[Any, list[Any]]:
    """One layer in one direction, as one loop: all outputs, and the last states."""
    linear = FUNCTIONS["nn.linear"]
    rows = [linear(x, own[0], own[2] if len(own) == 4 else None)]
    if valid is not None:
        rows.append(valid)
    consts = [own[1], *own[3:]]
    fixed, before = [inner_leaf(c.aval, "weight") for c in consts], [inner_leaf(s.aval, "state") for s in states]
    seen = [inner_leaf(Aval(r.shape[1:], r.dtype), "row") for r in rows]
    after: Any = step(seen[0], linear(before[0], *fixed), before)
    output = after[0]
    if valid is not None:
        output = gnp.where(seen[1], output, 0.0)
        after = [gnp.where(seen[1], a, b) for a, b in zip(after, before, strict=True)]
    body = Graph((*fixed, *before, *seen), (*after, output), title=name)
    loop = Loop(body, tuple(consts), tuple(states), tuple(rows), x.shape[0], backwards)
    *last, outputs = items(loop.node())
    return outputs, last


def _valid(name: str, x: Node, lengths: ArrayLike) -> Any:
    """Whether a step (T, N, 1) is one of a sequence of such lengths."""
    if lengths is None:
        return None
    counts = as_node(lengths)
    if counts.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: {name}: lengths must be {x.shape[1]} integers, got {describe(counts)}")
    if counts.shape != x.shape[1:2]:
        raise ShapeError(f"{here()}: {name}: lengths must be ({x.shape[1]},), one each, got {describe(counts)}")
    known = known_value(counts)
    if known is not None and not np.all((known >= 0) & (known <= x.shape[0])):
        raise ValueError(f"{here()}: {name}: lengths must lie in [0, {x.shape[0]}], got {known.tolist()!r:.60}")
    return gnp.expand_dims(iota(x.shape[:2]) < cast(counts, np.int64), -1)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _width(w_hh: Any) -> int:
    """The width of a state that goes with the weights of its gates."""
    shape: tuple[int, ...] = as_node(w_hh).shape
    return shape[-1] if shape else 0


def _first(state: Any, zeros: tuple[int, ...], of: Sequence[Any], alone: bool = False) -> Node:
    """A first state, zeros of a shape where none is given; with a batch axis of one where it is ``alone``."""
    if state is None:
        return full(zeros, 0.0, promoted(*[inexact(as_node(a)).dtype for a in of]))
    given = as_node(state)
    return FUNCTIONS["expand_dims"](given, 1) if alone and given.ndim == 2 else given


def _pair(name: str, hx: Any) -> tuple[Any, Any]:
    if hx is None:
        return None, None
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise TypeError(f"{here()}: {name}: hx is the pair (h, c) of states, got {type(hx).__name__}")
    return hx[0], hx[1]


def _check_sequences(name: str, x: Node, states: Sequence[Node], given: int, layers: int, each: int) -> None:
    if x.ndim != 3 or not x.shape[0] or not x.shape[1]:
        raise ShapeError(f"{here()}: {name}: input is (T, N, features) with T > 0, got {describe(x)}")
    if layers < 1 or given != layers * each:
        raise ShapeError(
            f"{here()}: {name}: params must be {layers * each} arrays, {each} for each of {layers} layers and "
            f"directions, got {given}"
        )
    if any(s.ndim != 3 or s.shape[0] != layers or s.shape != states[0].shape for s in states):
        raise ShapeError(
            f"{here()}: {name}: states are ({layers}, N, h), one for each layer and direction, got "
            f"{'; '.join(map(describe, states))}"
        )


def _check_weights(name: str, gates: int, x: Node, size: int, w_ih: Node, w_hh: Node) -> None:
    features = x.shape[-1] if x.ndim else 0
    if w_ih.shape != (gates * size, features) or w_hh.shape != (gates * size, size):
        raise ShapeError(
            f"{here()}: {name}: for {features} features and states of {size} the weights are w_ih "
            f"({gates * size}, {features}) and w_hh ({gates * size}, {size}), got {w_ih.shape} and {w_hh.shape}"
        )
