"""Projections: the nearest point of a convex set, and optimizers that stay in one.

Names and meaning are optax's: a projection takes a tree and gives one, and norms and sums run over all its leaves.
Start reading at `projected_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradc.numpy as gnp
from gradc import tree as trees
from gradc.containers import leaves_of, tree_map
from gradc.errors import ShapeError
from gradc.node import here
from gradc.optim.reading import joined
from gradc.optim.rules import EmptyState, Optimizer, Tree, called, dot, global_norm, number, rule, times, total
from gradc.optim.transforms import chain


@called
def projected_gradient(optimizer: Optimizer, projection: Callable[[Tree], Tree]) -> Optimizer:
    """``optimizer`` whose every step ends at ``projection`` of where it would: p ← P(p + u) (Goldstein 1964).

    With one more argument a projection is given by ``functools.partial(projection_box, lower=0, upper=1)``.
    """
    if not callable(projection):
        raise TypeError(f"{here()}: projected_gradient takes a projection such as projection_non_negative, "
                        f"got {projection!r:.60}")  # fmt: skip
    return chain(optimizer, rule(partial(_projected, projection), whole=True, wants=("params",)))


def _projected(projection: Callable[[Tree], Tree], g: Tree, p: Tree, s: EmptyState) -> tuple[Tree, EmptyState]:
    there = tree_map(lambda p, u: p + u, p, g)
    projected = projection(there)
    name = getattr(projection, "func", projection).__name__.strip("_")
    for q in leaves_of(projected)[0]:
        joined(q, name, leaves_of(there)[0])
    return tree_map(lambda q, p: q - p, projected, p), s


# -- boxes -------------------------------------------------------------------------------------------------------------


def projection_non_negative(tree: Tree) -> Tree:
    """max(x, 0) of each element."""
    return tree_map(lambda x: gnp.maximum(x, 0.0), tree)


def projection_box(tree: Tree, lower: Any, upper: Any) -> Tree:
    """Each element between ``lower`` and ``upper``: numbers, or trees like ``tree``."""
    below = lower if trees.structure(lower) == trees.structure(tree) else tree_map(lambda x: lower, tree)
    above = upper if trees.structure(upper) == trees.structure(tree) else tree_map(lambda x: upper, tree)
    return tree_map(gnp.clip, tree, below, above)


def projection_hypercube(tree: Tree, scale: Any = 1.0) -> Tree:
    """Each element between 0 and ``scale``."""
    return projection_box(tree, 0.0, scale)


def projection_linf_ball(tree: Tree, scale: Any = 1.0) -> Tree:
    """Each element between −scale and ``scale``."""
    return projection_box(tree, -scale, scale)


# -- balls and spheres -------------------------------------------------------------------------------------------------


def projection_l2_sphere(tree: Tree, scale: Any = 1.0) -> Tree:
    """x·scale/‖x‖; where x = 0, NaN, for no point of the sphere is nearer than others."""
    return times(tree, number(gnp.divide(scale, global_norm(tree))))


def projection_l2_ball(tree: Tree, scale: Any = 1.0) -> Tree:
    """x, or x·scale/‖x‖ where that is shorter."""
    return times(tree, number(gnp.divide(scale, gnp.maximum(global_norm(tree), scale))))


def projection_simplex(tree: Tree, scale: Any = 1.0) -> Tree:
    """The nearest point whose elements are at least 0 and sum up to ``scale`` (Held, Wolfe & Crowder 1974).

    max(x − τ, 0), where τ is found by sorting.  ShapeError for a tree without elements.
    """
    values, back = trees.ravel(tree)
    return back(gnp.maximum(values - _threshold(values, scale), 0.0))


def _threshold(values: Any, scale: Any) -> Any:
    """τ with Σ max(x − τ, 0) = scale."""
    n = gnp.shape(values)[0]
    if n == 0:
        raise ShapeError(f"{here()}: a projection onto a simplex or an l1 sphere needs at least one element")
    falling = gnp.flip(gnp.sort(values))
    means = (gnp.cumsum(falling) - scale) / gnp.arange(1, n + 1, dtype=gnp.result_type(values))
    count = gnp.sum(falling > means)
    return gnp.take(means, count - 1)


def projection_l1_sphere(tree: Tree, scale: Any = 1.0) -> Tree:
    """The nearest point with Σ |x| = scale."""
    shrunk = projection_simplex(tree_map(gnp.abs, tree), scale)
    return tree_map(lambda x, a: gnp.where(x < 0, -a, a), tree, shrunk)


def projection_l1_ball(tree: Tree, scale: Any = 1.0) -> Tree:
    """The nearest point with Σ |x| ≤ scale."""
    inside = total(gnp.sum(gnp.abs(x)) for x in leaves_of(tree)[0]) <= scale
    return tree_map(lambda x, y: gnp.where(inside, x, y), tree, projection_l1_sphere(tree, scale))


# -- planes ------------------------------------------------------------------------------------------------------------


def projection_vector(x: Tree, a: Tree) -> Tree:
    """The nearest multiple of ``a``: a·⟨x, a⟩/⟨a, a⟩."""
    share = number(dot(x, a) / dot(a, a))
    return tree_map(lambda a: share * a, a)


def projection_hyperplane(x: Tree, a: Tree, b: Any) -> Tree:
    """The nearest point with ⟨a, x⟩ = b."""
    share = number((b - dot(x, a)) / dot(a, a))
    return tree_map(lambda x, a: x + share * a, x, a)


def projection_halfspace(x: Tree, a: Tree, b: Any) -> Tree:
    """The nearest point with ⟨a, x⟩ ≤ b."""
    share = number(gnp.minimum((b - dot(x, a)) / dot(a, a), 0.0))
    return tree_map(lambda x, a: x + share * a, x, a)


__all__ = [
    "projected_gradient", "projection_box", "projection_halfspace", "projection_hypercube", "projection_hyperplane",
    "projection_l1_ball", "projection_l1_sphere", "projection_l2_ball", "projection_l2_sphere", "projection_linf_ball",
    "projection_non_negative", "projection_simplex", "projection_vector",
]  # fmt: skip
