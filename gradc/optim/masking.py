"""Optimizers of some of the parameters, and others for the rest.

Enters: an optimizer and a tree of bools or labels.  Leaves: an optimizer whose inner ones see None in place of the
parameters that are not theirs; those have no state.  Start reading at `masked`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import Structure, leaves_of, one_level
from gradc.node import here
from gradc.optim.rules import Optimizer, Tree, beside, called, updated
from gradc.optim.transforms import refuse_unless_optimizer, set_to_zero

#: a tree of bools, one bool, or a function of the parameters that gives them
Mask = Any


class MaskedState(NamedTuple):
    inner_state: Tree


class PartitionState(NamedTuple):
    inner_states: dict[Any, Tree]  #: by label


@called
def masked(inner: Optimizer, mask: Mask) -> Optimizer:
    """``inner`` for the parameters that ``mask`` selects; gradients of the others pass as they are.

    ``mask``: a tree of bools like the parameters, or with one bool for a whole branch of them, or a function of the
    parameters that gives it.
    """
    made = Masked(refuse_unless_optimizer(inner), mask)
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class Masked:
    """An optimizer for some of the parameters."""

    inner: Optimizer
    mask: Mask

    def init(self, params: Tree) -> MaskedState:
        """The state before the first step."""
        leaves, structure = leaves_of(params)
        return MaskedState(self.inner.init(_chosen(structure, leaves, self.flags(params))))

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, MaskedState]:
        """One step."""
        leaves, structure = leaves_of(grads)
        flags = self.flags(grads if params is None else params)
        given = _chosen(structure, leaves, flags)
        theirs = None if params is None else _chosen(structure, beside(grads, params), flags)
        within = _restricted(extra, grads, params, flags)
        updates, inner = updated(self.inner, given, _opened(state, MaskedState).inner_state, theirs, within)
        stepped = iter(leaves_of(updates)[0])
        joined = [next(stepped) if chosen else g for g, chosen in zip(leaves, flags, strict=True)]
        return structure.of_arrays.unflatten(joined), MaskedState(inner)

    def flags(self, tree: Tree) -> list[bool]:
        """Which of the leaves of ``tree`` are selected, in order."""
        structure = leaves_of(tree)[1]
        chosen = self.mask(tree) if callable(self.mask) else self.mask
        flags = spread(chosen, structure)
        if flags is None or not all(isinstance(f, (bool, np.bool_)) for f in flags):
            raise ValueError(
                f"{here()}: mask must be a tree of {structure.size} bools like the parameters, got {chosen!r:.200}"
            )
        return flags


def _chosen(structure: Structure, leaves: list[Any], flags: list[bool]) -> Tree:
    """A tree with None in place of the leaves that are not chosen."""
    return structure.of_arrays.unflatten(x if f else None for x, f in zip(leaves, flags, strict=True))


def _restricted(extra: Mapping[str, Any], grads: Tree, params: Tree, flags: list[bool]) -> Mapping[str, Any]:
    """The keywords of ``update`` for the parameters that ``flags`` select: functions of those alone, the others held.

    `hessian_fn` and `residual_fn` give the rows and columns of those; a direction does not move the others.
    """
    if params is None:
        return extra
    part = Part(leaves_of(grads)[1], beside(grads, params), tuple(flags))
    ways: dict[str, Callable[[Any], Any]] = {
        "grad": part.of, "value_fn": lambda f: partial(part.value, f),
        "grad_fn": lambda f: partial(part.gradient, f), "hessian_fn": lambda f: partial(part.hessian, f),
        "residual_fn": lambda f: partial(part.residuals, f), "line_search": lambda f: partial(part.line_search, f),
        "hessian_product_fn": lambda f: partial(part.hessian_product, f),
    }  # fmt: skip
    return {k: x if x is None or k not in ways else ways[k](x) for k, x in extra.items()}


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the leaves of a tree of parameters."""

    structure: Structure
    leaves: list[Any]
    flags: tuple[bool, ...]

    def of(self, tree: Tree) -> Tree:
        """What ``tree`` has for the part, None elsewhere."""
        return _chosen(self.structure, self.structure.parts_of(tree), list(self.flags))

    def filled(self, tree: Tree, others: list[Any]) -> Tree:
        """The whole tree: the part as ``tree`` has it, and ``others`` elsewhere."""
        mine = iter(leaves_of(tree)[0])
        whole = [next(mine) if f else other for f, other in zip(self.flags, others, strict=True)]
        return self.structure.of_arrays.unflatten(whole)

    @property
    def places(self) -> Any:
        """Where the part stands in the vector of all parameters."""
        of_each = [np.full(int(np.prod(gnp.shape(x))), f) for x, f in zip(self.leaves, self.flags, strict=True)]
        return np.flatnonzero(np.concatenate([np.zeros(0, bool), *of_each]))

    def value(self, f: Callable[..., Any], params: Tree) -> Any:
        """``value_fn`` of the part."""
        return f(self.filled(params, self.leaves))

    def gradient(self, f: Callable[..., Any], params: Tree) -> Tree:
        """``grad_fn`` of the part."""
        return self.of(f(self.filled(params, self.leaves)))

    def hessian(self, f: Callable[..., Any], params: Tree) -> Any:
        """``hessian_fn`` of the part."""
        return f(self.filled(params, self.leaves))[self.places][:, self.places]

    def hessian_product(self, f: Callable[..., Any], params: Tree, v: Tree) -> Tree:
        """``hessian_product_fn`` of the part."""
        still = [gnp.zeros_like(x) for x in self.leaves]
        return self.of(f(self.filled(params, self.leaves), self.filled(v, still)))

    def residuals(self, f: Callable[..., Any], params: Tree) -> tuple[Any, Any]:
        """``residual_fn`` of the part."""
        r, J = f(self.filled(params, self.leaves))
        return r, J[:, self.places]

    def line_search(
        self, f: Callable[..., Any], params: Tree, value: Any, grads: Tree, direction: Tree, *more: Any
    ) -> Any:
        """``line_search`` of the part."""
        still = [gnp.zeros_like(x) for x in self.leaves]
        return f(
            self.filled(params, self.leaves), value, self.filled(grads, still), self.filled(direction, still), *more
        )


def spread(given: Tree, structure: Structure) -> list[Any] | None:
    """What ``given``, a tree alike or with one leaf for a whole branch, has for each leaf; None if it is neither."""
    try:
        return structure.parts_of(given)
    except ValueError:
        pass
    found: dict[int, Any] = {}
    numbered = structure.unflatten(range(structure.size))
    return [found[i] for i in range(structure.size)] if _spread_into(given, numbered, found) else None


def _spread_into(given: Tree, numbered: Tree, found: dict[int, Any]) -> bool:
    """Note what ``given`` has for each leaf of ``numbered``; False where they nest differently."""
    parts, inside = one_level(given), one_level(numbered)
    if parts is None:
        found.update(dict.fromkeys(leaves_of(numbered)[0], given))
        return True
    return inside is not None and inside.keys() == parts.keys() and all(
        _spread_into(parts[key], inside[key], found) for key in parts
    )  # fmt: skip


def _opened(state: Tree, kind: Any) -> Any:
    if not isinstance(state, tuple) or len(state) != 1:
        raise ValueError(f"{here()}: a masked optimizer got a state {state!r:.60}; use its own init")
    return kind(*state)


@called
def partition(transforms: Mapping[Hashable, Optimizer], param_labels: Tree | Callable[[Tree], Tree]) -> Optimizer:
    """An optimizer for each group of parameters (parameter groups; optax's multi_transform).

    ``param_labels``: a tree of labels like the parameters, or with one label for a whole branch, or a function of the
    parameters that gives it; ``transforms`` has an optimizer for each label.
    """
    checked = {label: refuse_unless_optimizer(t) for label, t in transforms.items()}
    made = Partition(checked, param_labels)
    return Optimizer(made.init, made.update)


multi_transform = partition


@dataclass(frozen=True, eq=False)
class Partition:
    """An optimizer for each label."""

    transforms: Mapping[Hashable, Optimizer]
    labels: Any

    def init(self, params: Tree) -> PartitionState:
        """The state before the first step."""
        leaves, structure = leaves_of(params)
        labels = self._labels(params)
        states = {
            group: t.init(_chosen(structure, leaves, [label == group for label in labels]))
            for group, t in self.transforms.items()
        }
        return PartitionState(states)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, PartitionState]:
        """One step."""
        leaves, structure = leaves_of(grads)
        labels = self._labels(grads if params is None else params)
        states = _opened(state, PartitionState).inner_states
        joined: list[Any] = [None] * len(leaves)
        after = {}
        for group, t in self.transforms.items():
            flags = [label == group for label in labels]
            theirs = None if params is None else _chosen(structure, beside(grads, params), flags)
            within = _restricted(extra, grads, params, flags)
            updates, after[group] = updated(t, _chosen(structure, leaves, flags), states[group], theirs, within)
            stepped = iter(leaves_of(updates)[0])
            joined = [next(stepped) if mine else other for mine, other in zip(flags, joined, strict=True)]
        return structure.of_arrays.unflatten(joined), PartitionState(after)

    def _labels(self, tree: Tree) -> list[Any]:
        structure = leaves_of(tree)[1]
        given = self.labels(tree) if callable(self.labels) else self.labels
        labels = spread(given, structure)
        if labels is None:
            raise ValueError(
                f"{here()}: param_labels must be a tree of {structure.size} labels like the parameters, "
                f"got {given!r:.200}"
            )
        if unknown := set(labels) - set(self.transforms):
            known = ", ".join(map(repr, self.transforms))
            raise ValueError(
                f"{here()}: partition has no optimizer for {', '.join(sorted(map(repr, unknown)))}; it has {known}"
            )
        return labels


@called
def freeze(mask: Mask) -> Optimizer:
    """No updates for the parameters that ``mask`` selects; the others pass as they are.  The last of a chain."""
    return masked(set_to_zero(), mask)


@called
def selective_transform(optimizer: Optimizer, *, freeze_mask: Mask) -> Optimizer:
    """``optimizer`` for the parameters that ``freeze_mask`` does not select; those have neither updates nor state."""
    return partition({"train": optimizer, "freeze": set_to_zero()}, FreezeLabels(freeze_mask))


@dataclass(frozen=True, eq=False)
class FreezeLabels:
    """The labels of `selective_transform`, of parameters."""

    mask: Mask

    def __call__(self, params: Tree) -> Tree:
        flags = Masked(set_to_zero(), self.mask).flags(params)
        return leaves_of(params)[1].of_arrays.unflatten("freeze" if f else "train" for f in flags)


__all__ = ["freeze", "masked", "multi_transform", "partition", "selective_transform"]
