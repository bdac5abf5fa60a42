"""Gradient transformations: small pure steps from gradients to updates, chained into optimizers.

The names, arguments and meaning are optax's.  Everything here is written in the traced DSL: inside `gradc.train_step`
or `gradc.jit` an update becomes part of the compiled graph; outside it runs on NumPy.  What changes at run time lives
in the state, so nothing recompiles.  An optimizer is made of partial functions of this module: it can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.aval import NARROW, computed_in
from gradc.containers import Structure, leaves_of, tree_map
from gradc.node import here

Tree = Any
#: a learning rate, or a function of the step number (0, 1, 2, …) that gives it
Schedule = float | Callable[[Any], Any]


class Optimizer(NamedTuple):
    """``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``, both pure."""

    init: Callable[[Tree], Tree]
    update: Callable[..., tuple[Tree, Tree]]


class EmptyState(NamedTuple):
    """The state of a transformation that has none."""


class CountState(NamedTuple):
    count: Any  #: int32 scalar: steps taken


class TraceState(NamedTuple):
    trace: Tree  #: the running sum of gradients


class MomentState(NamedTuple):
    count: Any  #: int32 scalar: steps taken
    mu: Tree  #: first moment
    nu: Tree  #: second moment


def _zeros(params: Tree) -> Tree:
    """Moments that begin at zero, in the dtype of the parameters, float32 for narrow ones; None at static leaves."""

    def zero(p: Any) -> Any:
        dtype = computed_in(gnp.result_type(p))
        return gnp.zeros_like(p, dtype) if gnp.ndim(p) else np.zeros((), dtype)

    leaves, structure = leaves_of(params)
    return structure.of_arrays.unflatten(map(zero, leaves))


def _wide(x: Any) -> Any:
    """A gradient or parameter as updates are computed: narrow floats as float32."""
    dtype = gnp.result_type(x)
    return gnp.astype(x, computed_in(dtype)) if dtype in NARROW else x


def _count() -> Any:
    return np.zeros((), np.int32)


def _float_like(value: Any, like: Any) -> Any:
    """A scalar in the dtype of a parameter, so that a float32 model stays float32."""
    return gnp.astype(gnp.asarray(value), gnp.result_type(like))


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """params + updates, leaf by leaf, in the dtype of the parameters."""
    return tree_map(lambda p, u: gnp.astype(p + u, gnp.result_type(p)), params, updates)


def chain(*transforms: Optimizer) -> Optimizer:
    """Apply transformations one after another; the state is the tuple of their states."""

    given: tuple[Any, ...] = transforms
    for t in given:
        if not isinstance(t, tuple) or len(t) != 2:
            raise TypeError(f"{here()}: chain takes transformations such as gc.optim.scale(0.5), got {t!r:.60}")
    return Optimizer(partial(_chain_init, transforms), partial(_chain_update, transforms))


def _chain_init(transforms: Sequence[Optimizer], params: Tree) -> Tree:
    return tuple(t.init(params) for t in transforms)


def _chain_update(transforms: Sequence[Optimizer], grads: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
    if not isinstance(state, (tuple, list)) or len(state) != len(transforms):
        got = f"of {len(state)}" if isinstance(state, (tuple, list)) else f"{state!r:.60}"
        raise ValueError(f"{here()}: chain of {len(transforms)} transformations got a state {got}; use its own init")
    states = []
    for t, s in zip(transforms, state, strict=True):
        grads, s = t.update(grads, s, params)
        states.append(s)
    return grads, tuple(states)


def _stateless(function: Callable[[Tree, Tree], Tree]) -> Optimizer:
    return Optimizer(_no_state, partial(_stateless_update, function))


def _no_state(params: Tree) -> Tree:
    return EmptyState()


def _stateless_update(
    function: Callable[[Tree, Tree], Tree], grads: Tree, state: Tree, params: Tree = None
) -> tuple[Tree, Tree]:
    return function(grads, params), state


def scale(factor: float) -> Optimizer:
    """Multiply updates by a constant."""
    return _stateless(partial(_scaled, factor))


def _scaled(factor: float, grads: Tree, params: Tree) -> Tree:
    return tree_map(lambda g: _wide(g) * factor, grads)


def scale_by_learning_rate(learning_rate: Schedule) -> Optimizer:
    """Multiply updates by −learning_rate, which may be a function of the step."""
    if not callable(learning_rate):
        rate: Any = learning_rate
        if rate is None or isinstance(rate, (str, bytes, list, tuple, dict)):
            raise TypeError(f"{here()}: a learning rate is a number or a function of the step, got {rate!r:.60}")
        return scale(-learning_rate)
    return Optimizer(_count_init, partial(_scheduled_update, learning_rate))


def _count_init(params: Tree) -> CountState:
    return CountState(_count())


def _scheduled_update(
    learning_rate: Callable[[Any], Any], grads: Tree, state: CountState, params: Tree = None
) -> tuple[Tree, CountState]:
    rate = learning_rate(state.count)
    scaled = tree_map(lambda g: g * -_float_like(rate, g), tree_map(_wide, grads))
    return scaled, CountState(state.count + 1)


def add_decayed_weights(weight_decay: float, mask: Tree | Callable[[Tree], Tree] | None = None) -> Optimizer:
    """Add weight_decay · params to the updates; ``mask`` (a tree of bools, or a function of params) selects leaves."""
    return _stateless(partial(_decayed, weight_decay, mask))


def _decayed(weight_decay: float, mask: Tree | Callable[[Tree], Tree] | None, grads: Tree, params: Tree) -> Tree:
    if params is None:
        raise ValueError(f"{here()}: weight decay needs the parameters: call update(grads, state, params)")
    if mask is None:
        return tree_map(lambda g, p: _wide(g) + weight_decay * _wide(p), grads, params)
    chosen = mask(params) if callable(mask) else mask
    leaves, structure = leaves_of(params)
    flags = _flags(chosen, structure)
    flat = zip(leaves_of(grads)[0], leaves, flags, strict=True)
    return structure.of_arrays.unflatten(_wide(g) + weight_decay * _wide(p) if keep else g for g, p, keep in flat)


def _flags(mask: Tree, params: Structure) -> list[bool]:
    try:
        flags = params.parts_of(mask)
    except ValueError:
        flags = []
    if len(flags) != params.size or not all(isinstance(f, bool) for f in flags):
        raise ValueError(f"{here()}: mask must be a tree of {params.size} bools like the parameters, got {mask!r}")
    return flags


def trace(decay: float, nesterov: bool = False) -> Optimizer:
    """Momentum: t ← g + decay·t; the update is t, or g + decay·t with Nesterov (Polyak 1964; Nesterov 1983)."""
    return Optimizer(_trace_init, partial(_trace_update, decay, nesterov))


def _trace_init(params: Tree) -> TraceState:
    return TraceState(_zeros(params))


def _trace_update(
    decay: float, nesterov: bool, grads: Tree, state: TraceState, params: Tree = None
) -> tuple[Tree, TraceState]:
    grads = tree_map(_wide, grads)
    moving = tree_map(lambda g, t: g + decay * t, grads, state.trace)
    updates = tree_map(lambda g, t: g + decay * t, grads, moving) if nesterov else moving
    return updates, TraceState(moving)


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0) -> Optimizer:
    """Adam's rescaling with bias correction (Kingma & Ba 2015, algorithm 1)."""
    return Optimizer(_moment_init, partial(_adam_update, b1, b2, eps, eps_root))


def _moment_init(params: Tree) -> MomentState:
    return MomentState(_count(), _zeros(params), _zeros(params))


def _adam_update(
    b1: float, b2: float, eps: float, eps_root: float, grads: Tree, state: MomentState, params: Tree = None
) -> tuple[Tree, MomentState]:
    count, grads = state.count + 1, tree_map(_wide, grads)
    mu = tree_map(lambda g, m: b1 * m + (1 - b1) * g, grads, state.mu)
    nu = tree_map(lambda g, v: b2 * v + (1 - b2) * gnp.square(g), grads, state.nu)
    first, second = 1 - b1**count, 1 - b2**count

    def direction(m: Any, v: Any) -> Any:
        m_hat, v_hat = m / _float_like(first, m), v / _float_like(second, v)
        return m_hat / (gnp.sqrt(v_hat + eps_root if eps_root else v_hat) + eps)

    return tree_map(direction, mu, nu), MomentState(count, mu, nu)


def clip_by_global_norm(max_norm: float) -> Optimizer:
    """Scale all gradients together so that their joint Euclidean norm is at most ``max_norm`` (Pascanu et al. 2013)."""
    return _stateless(partial(_clipped, max_norm))


def _clipped(max_norm: float, grads: Tree, params: Tree) -> Tree:
    norm = global_norm(grads)
    factor = gnp.where(norm > max_norm, max_norm / gnp.where(norm > 0, norm, 1), 1)
    return tree_map(lambda g: g * _float_like(factor, g), tree_map(_wide, grads))


def global_norm(tree: Tree) -> Any:
    """√Σ x² over all leaves."""
    total = 0
    for leaf in leaves_of(tree)[0]:
        total = total + gnp.sum(gnp.square(_wide(leaf)))
    return gnp.sqrt(total)
