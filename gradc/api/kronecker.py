"""Kronecker factors of the curvature of a loss, for each parameter, as arrays.

Enters: a loss.  Leaves: a function of the same arguments that returns, for each parameter, second moments of
activations and of derivatives (`gradc.diff.kronecker` reads them off the graph).  Start reading at `kfac_factors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.derivatives import arrays_of, refuse_unless_scalar, title_of, with_respect_to
from gradc.api.transform import Transform
from gradc.diff.kronecker import kronecker_factors
from gradc.node import here
from gradc.passes import looked_into
from gradc.trace import run
from gradc.tree import static


@dataclass(frozen=True)
class KroneckerFactors:
    """The factors of one parameter: its block of the curvature is about A ⊗ G.

    A is over the axes ``inputs`` of the parameter, those that meet activations, and G over the others, in order; either
    is a symmetric matrix over their elements, of shape (1, 1) where there are none.
    """

    A: Any
    G: Any
    inputs: tuple[int, ...] = static()


def kfac_factors(loss: Callable[..., Any], examples: int | None = None) -> Callable[..., Any]:
    """The factors A and G of K-FAC of each parameter, nested like ``params``, as a function of ``(params, *batch)``.

    ``loss(params, *batch)`` is a float scalar, a mean over examples.  Where a weight stands in a product, A is the mean
    of a·aᵀ over all rows a that it multiplies, and G the sum of g·gᵀ over the rows g of the loss's derivative by the
    product, times the number of examples: for a layer a·w of n rows A = Σ a·aᵀ/n and G = Σ (n·g)(n·g)ᵀ/n, so that A ⊗ G
    is about the second moment of the gradients of single examples (Martens & Grosse 2015, § 3).  ``examples``: of how
    many the loss is a mean; None: the fewest rows with which one of the parameters is used, which is the batch where a
    layer reads each example once.  Weights that are used several times have the mean and the sum over all uses and
    positions (Grosse & Martens 2016, § 3; Eschenhagen et al. 2023, "expand").

    The derivatives are those of the loss as it is: with targets from data this is the empirical Fisher matrix, with
    targets drawn from the model's own distribution an estimate of the Fisher matrix, which the paper uses (§ 5).

    Products are found in the graph of the loss, whoever wrote them: dense layers, projections of attention,
    convolutions.  A vector or number that is broadcast to rows, such as a bias, has A = 1 and the G of its own
    derivatives.  Whatever is used otherwise is refused with a TraceError that names it and its line: weights inside
    loops and gc.checkpoint, indexed (embeddings), on both sides of a product, transposed and not, with an axis of the
    batch, or in a penalty.

    >>> import numpy as np
    >>> factors = kfac_factors(lambda w, x: 0.5 * ((x @ w) ** 2).sum(axis=1).mean())
    >>> found = factors(np.array([[1.0, 2.0]]), np.array([[1.0], [3.0]]))
    >>> found.A, found.G
    (array([[5.]]), array([[ 5., 10.],
           [10., 20.]]))
    """
    title_of(loss, "kfac_factors")
    whole = isinstance(examples, (int, np.integer)) and not isinstance(examples, bool)
    if examples is not None and (not whole or examples < 1):
        raise ValueError(f"{here()}: kfac_factors: examples is a whole number from 1 on, got {examples!r:.60}")
    return KfacFactors(loss, examples)


class KfacFactors(Transform):
    """See `kfac_factors`."""

    def __init__(self, loss: Callable[..., Any], examples: int | None):
        super().__init__(loss, examples)
        self.examples = examples

    def __call__(self, params: Any, *batch: Any) -> Any:
        args = (params, *batch)
        wanted, graph, inputs = with_respect_to(self.function, args, {}, 0, self.title)
        refuse_unless_scalar(graph, False, "kfac_factors")
        graph = looked_into(graph)
        found = kronecker_factors(graph, inputs, self.examples)
        flat = run(graph.replace(outputs=tuple(x for f in found for x in (f.A, f.G))), arrays_of(args, {}))
        made = [KroneckerFactors(flat[2 * i], flat[2 * i + 1], f.inputs) for i, f in enumerate(found)]
        return wanted.nest(made)


__all__ = ["KroneckerFactors", "kfac_factors"]
