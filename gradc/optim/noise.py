"""Optimizers that add noise, and private ones; the key stands in the state, so that a run can be repeated and resumed.

Start reading at `add_noise`.  What is drawn is what optax draws of the same key.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc import random
from gradc.containers import leaves_of
from gradc.node import here
from gradc.optim.clipping import per_example_global_norm_clip
from gradc.optim.descent import trace
from gradc.optim.rules import Optimizer, Scalar, Tree, called, given_as, number, rule
from gradc.optim.transforms import chain, scale_by_learning_rate

#: an integer, or a key of `gradc.random`
Key = Any


class NoiseState(NamedTuple):
    t: Any  #: steps taken
    key: Any  #: what the next step draws from


class KeyState(NamedTuple):
    key: Any  #: what the next step draws from


def _begin(key: Any, params: Tree) -> Any:
    return np.array(key)


def _key(name: str, key: Key | None, seed: int | None) -> Any:
    """A key of a seed, or the key itself; TypeError if there is none, or there are both."""
    if (key is None) == (seed is None):
        raise TypeError(f"{here()}: {name} takes a key, such as gc.random.key(0), or a seed")
    given: Any = seed if key is None else key
    return np.asarray(random.key(given) if np.ndim(given) == 0 else given)


def _drawn(key: Any, tree: Tree) -> tuple[list[Any], list[Any]]:
    """The leaves of a tree, and standard normal numbers like each of them."""
    leaves = leaves_of(tree)[0]
    keys = random.split(key, max(len(leaves), 1))
    return leaves, [random.normal(k, gnp.shape(x), gnp.result_type(x)) for k, x in zip(keys, leaves, strict=False)]


@called
def add_noise(eta: Scalar, gamma: Scalar, key: Key | None = None, *, seed: int | None = None) -> Optimizer:
    """Add normal noise of variance eta/tᵞ at step t = 1, 2, … to the gradients (Neelakantan et al. 2015).

    ``key``: an integer or a key of gc.random.
    """
    start = {"key": partial(_begin, _key("add_noise", key, seed))}
    return rule(_noisy, NoiseState, whole=True, start=start, eta=eta, gamma=gamma)


def _noisy(g: Tree, p: Tree, s: NoiseState, eta: Any, gamma: Any) -> tuple[Tree, NoiseState]:
    key, draw = random.split(s.key)
    leaves, noise = _drawn(draw, g)
    deviation = number(gnp.sqrt(eta / s.t**gamma))
    added = [x + deviation * n for x, n in zip(leaves, noise, strict=True)]
    return leaves_of(g)[1].of_arrays.unflatten(added), s._replace(key=key)


@called
def noisy_sgd(
    learning_rate: Scalar, eta: Scalar = 0.01, gamma: Scalar = 0.55, key: Key | None = None, *, seed: int | None = None
) -> Optimizer:
    """Gradient descent with `add_noise`."""
    return chain(add_noise(eta, gamma, key, seed=seed), scale_by_learning_rate(learning_rate))


@called
def sgld(
    learning_rate: Scalar, key: Key | None = None, temperature: Scalar = 1.0, *, seed: int | None = None
) -> Optimizer:
    """Stochastic gradient Langevin dynamics (Welling & Teh 2011): p ← p − η/2·g + √(η·temperature)·N(0, I).

    For a loss that is minus the log of a density, the parameters become samples of it as η goes to 0.
    """
    start = {"key": partial(_begin, _key("sgld", key, seed))}
    return rule(_sgld, NoiseState, whole=True, start=start, learning_rate=learning_rate, temperature=temperature)


def _sgld(g: Tree, p: Tree, s: NoiseState, learning_rate: Any, temperature: Any) -> tuple[Tree, NoiseState]:
    key, draw = random.split(s.key)
    leaves, noise = _drawn(draw, g)
    deviation = number(gnp.sqrt(learning_rate * temperature))
    steps = [-learning_rate / 2 * x + deviation * n for x, n in zip(leaves, noise, strict=True)]
    return leaves_of(g)[1].of_arrays.unflatten(steps), s._replace(key=key)


@called
def differentially_private_aggregate(
    l2_norm_clip: Scalar, noise_multiplier: Scalar, key: Key | None = None, *, seed: int | None = None
) -> Optimizer:
    """The private mean of gradients of single examples (Abadi et al. 2016), the first of a chain.

    Each example's gradient is clipped to the norm ``l2_norm_clip``; to their sum is added normal noise of deviation
    l2_norm_clip·noise_multiplier, and the sum divided by their number.  The gradients have the examples along axis 0::

        grads = gc.vmap(gc.grad(loss), (None, 0, 0))(params, x, y)
    """
    start = {"key": partial(_begin, _key("differentially_private_aggregate", key, seed))}
    return rule(_private, KeyState, whole=True, start=start, most=l2_norm_clip, multiplier=noise_multiplier)


def _private(g: Tree, p: Tree, s: KeyState, most: Any, multiplier: Any) -> tuple[Tree, KeyState]:
    clipped, _ = per_example_global_norm_clip(g, most)
    examples = gnp.shape(leaves_of(g)[0][0])[0]
    leaves, structure = leaves_of(clipped)
    keys = random.split(s.key, len(leaves) + 1)
    noisy = [
        (x + most * multiplier * random.normal(keys[i + 1], gnp.shape(x), gnp.result_type(x))) / max(examples, 1)
        for i, x in enumerate(leaves)
    ]
    return structure.unflatten(noisy), KeyState(keys[0])


@called
def dpsgd(
    learning_rate: Scalar,
    l2_norm_clip: Scalar,
    noise_multiplier: Scalar,
    seed: int,
    momentum: Scalar | None = None,
    nesterov: bool = False,
) -> Optimizer:
    """Gradient descent of `differentially_private_aggregate`, optionally with momentum."""
    parts = [differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed=seed)]
    if momentum is not None:
        parts.append(given_as(trace(momentum, nesterov), decay="momentum"))
    return chain(*parts, scale_by_learning_rate(learning_rate))


__all__ = ["add_noise", "differentially_private_aggregate", "dpsgd", "noisy_sgd", "sgld"]
