"""Gradient transformations of gradients alone, and how they are joined.

The names, arguments and meaning are optax's.  Everything here is written in the traced DSL: inside `gradc.train_step`
or `gradc.jit` an update becomes part of the compiled graph; outside it runs on NumPy.  What changes at run time lives
in the state, so nothing recompiles.  Start reading at `chain`; what it joins is made in `gradc.optim.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradc.numpy as gnp
from gradc.containers import tree_map
from gradc.node import here
from gradc.optim.rules import DType, EmptyState, Optimizer, Scalar, Tree, called, rule, stored_in, updated


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """params + updates, leaf by leaf, in the dtype of the parameters."""
    return tree_map(lambda p, u: gnp.astype(p + u, gnp.result_type(p)), params, updates)


# -- joined ------------------------------------------------------------------------------------------------------------


@called
def chain(*transforms: Optimizer) -> Optimizer:
    """Apply transformations one after another; the state is the tuple of their states."""
    made = Chain(tuple(map(refuse_unless_optimizer, transforms)), None)
    return Optimizer(made.init, made.update)


@called
def named_chain(*transforms: tuple[str, Optimizer]) -> Optimizer:
    """`chain` of pairs of a name and a transformation; the state is a dict by these names."""
    for pair in transforms:
        given: Any = pair
        if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], str):
            raise TypeError(f"{here()}: named_chain takes pairs of a name and a transformation, got {pair!r:.60}")
    names = tuple(name for name, _ in transforms)
    if len(set(names)) != len(names):
        raise ValueError(f"{here()}: named_chain: each name stands once, got {', '.join(names)}")
    made = Chain(tuple(refuse_unless_optimizer(t) for _, t in transforms), names)
    return Optimizer(made.init, made.update)


def refuse_unless_optimizer(given: Any) -> Optimizer:
    """``given`` as an `Optimizer`; TypeError for what is none."""
    if isinstance(given, tuple) and len(given) == 2 and all(map(callable, given)):
        return given if isinstance(given, Optimizer) else Optimizer(*given)
    raise TypeError(f"{here()}: chain takes transformations such as gc.optim.scale(0.5), got {given!r:.60}")


@dataclass(frozen=True, eq=False)
class Chain:
    """Transformations one after another, their states by position or by name."""

    transforms: Sequence[Optimizer]
    names: Sequence[str] | None

    def init(self, params: Tree) -> Tree:
        """The state before the first step."""
        return self._joined(t.init(params) for t in self.transforms)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        """One step."""
        states = []
        for t, s in zip(self.transforms, self._parts(state), strict=True):
            grads, s = updated(t, grads, s, params, extra)
            states.append(s)
        return grads, self._joined(states)

    def _joined(self, states: Iterator[Tree] | list[Tree]) -> Tree:
        return tuple(states) if self.names is None else dict(zip(self.names, states, strict=True))

    def _parts(self, state: Tree) -> Sequence[Tree]:
        """The states of the transformations."""
        count = len(self.transforms)
        if self.names is None:
            if isinstance(state, (tuple, list)) and len(state) == count:
                return state
        elif isinstance(state, dict) and set(state) == set(self.names):
            return [state[name] for name in self.names]
        got = f"of {len(state)}" if isinstance(state, (tuple, list)) else f"{state!r:.60}"
        raise ValueError(f"{here()}: chain of {count} transformations got a state {got}; use its own init")


@called
def with_state_dtype(inner: Optimizer, dtype: DType) -> Optimizer:
    """``inner`` whose state keeps its floats in ``dtype`` between steps; None leaves it as it is.

    Each step is computed in float32 or wider and rounded at the end.  Of 16-bit dtypes, a first moment loses little.
    A second moment with b2 near 1 stalls: a change of less than half a last place is lost.
    """
    return inner if dtype is None else Optimizer(partial(_stored_init, inner.init, dtype), inner.update)


def _stored_init(init: Callable[[Tree], Tree], dtype: DType, params: Tree) -> Tree:
    return stored_in(init(params), dtype)


# -- of gradients alone ------------------------------------------------------------------------------------------------


@called
def identity() -> Optimizer:
    """Gradients as they are."""
    return rule(_same)


def _same(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return g, s


@called
def set_to_zero() -> Optimizer:
    """No update: parameters stay as they are, whatever the gradient."""
    return rule(_nothing)


def _nothing(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return gnp.zeros_like(g), s


@called
def stateless(f: Callable[[Tree, Tree], Tree]) -> Optimizer:
    """The transformation ``f(grads, params) -> updates`` of whole trees."""
    return Optimizer(_no_state, partial(_stateless_update, f))


def _no_state(params: Tree) -> Tree:
    return EmptyState()


def _stateless_update(f: Callable[[Tree, Tree], Tree], grads: Tree, state: Tree, params: Tree = None) -> Any:
    return f(grads, params), state


@called
def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> Optimizer:
    """The transformation ``f(g, p) -> update`` of each array."""
    return rule(partial(_each, f))


def _each(f: Callable[[Any, Any], Any], g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return f(g, p), s


@called
def scale(step_size: Scalar) -> Optimizer:
    """Multiply updates by a number, or by a function of the step."""
    return rule(_scaled, step_size=step_size)


def _scaled(g: Any, p: Any, s: EmptyState, step_size: Any) -> tuple[Any, EmptyState]:
    return g * step_size, s


@called
def scale_by_schedule(step_size_fn: Callable[[Any], Any]) -> Optimizer:
    """Multiply updates by a function of the step number 0, 1, 2, …"""
    if not callable(step_size_fn):
        raise TypeError(f"{here()}: scale_by_schedule takes a function of the step, got {step_size_fn!r:.60}")
    return rule(_scaled, step_size=step_size_fn)


@called
def scale_by_learning_rate(learning_rate: Scalar, *, flip_sign: bool = True) -> Optimizer:
    """Multiply updates by −learning_rate, which may be a function of the step; ``flip_sign=False``: without the −."""
    return rule(_descent if flip_sign else _ascent, learning_rate=learning_rate)


def _descent(g: Any, p: Any, s: EmptyState, learning_rate: Any) -> tuple[Any, EmptyState]:
    return g * -learning_rate, s


def _ascent(g: Any, p: Any, s: EmptyState, learning_rate: Any) -> tuple[Any, EmptyState]:
    return g * learning_rate, s


@called
def scale_by_sign() -> Optimizer:
    """The sign of each gradient: −1, 0 or 1 (Bernstein et al. 2018)."""
    return rule(_sign)


def _sign(g: Any, p: Any, s: EmptyState) -> tuple[Any, EmptyState]:
    return gnp.sign(g), s


__all__ = [
    "apply_updates", "chain", "identity", "named_chain", "scale", "scale_by_learning_rate", "scale_by_schedule",
    "scale_by_sign", "set_to_zero", "stateless", "stateless_with_tree_map", "with_state_dtype",
]  # fmt: skip
