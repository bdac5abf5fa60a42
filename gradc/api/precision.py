"""Mixed precision: products in 16 bits, all else as it was, and a loss that is scaled so that small gradients survive.

Enters: a loss and an optimizer over float32 parameters.  Leaves: the same, for `gc.train_step`.  Invariant: parameters,
gradients as the optimizer sees them, and its state keep their dtypes; a step whose gradients are not finite changes
nothing but the scale.  Start reading at `mixed_precision`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.api.derivatives import arrays_of, title_of
from gradc.api.transform import Transform
from gradc.aval import NARROW, canonical_dtype
from gradc.containers import tree_map
from gradc.graph import Graph
from gradc.node import Node, here
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind
from gradc.optim.rules import Optimizer, Tree, number, select, updated
from gradc.optim.transforms import refuse_unless_optimizer
from gradc.optim.wrappers import all_finite, opened
from gradc.passes.inside import apply
from gradc.passes.rules import mapped
from gradc.trace import run, trace

#: the first scale of a dtype whose gradients can underflow; bfloat16 has float32's range
_FIRST_SCALE = {"float16": 2.0**16}
#: what a dynamic scale does not fall below, the least normal number of float16: gradients times less are lost
LEAST_SCALE = 2.0**-14


class MixedPrecisionState(NamedTuple):
    """What `mixed_precision` keeps between steps; scalars."""

    scale: Any  #: what the loss is multiplied by before its gradient is taken
    good_steps: Any  #: steps since the scale last changed
    skipped: Any  #: steps that were left out because a gradient was not finite
    inner: Tree  #: the state of the optimizer itself


def mixed_precision(
    dtype: Any,
    *,
    scale: float | None = None,
    dynamic: bool | None = None,
    growth_interval: int = 2000,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
) -> MixedPrecision:
    """Training with matrix products and convolutions in "bfloat16" or "float16" (Micikevicius et al. 2018).

    Of the result ``mixed``: ``mixed(optimizer)`` is an optimizer for `train_step`, the outermost one; ``mixed.cast(f)``
    is a function with its products in that dtype, for evaluation.  Parameters stay in float32, and so does everything
    that is no product: operands of products are rounded to 16 bits where they are used, forward and backward, summed in
    float32, and their results rounded.

    The loss is multiplied by ``scale`` before its gradient is taken, the gradient divided by it before the optimizer
    sees it.  ``dynamic``: a step with an infinite or NaN gradient is left out and multiplies the scale by
    ``backoff_factor``, down to 2⁻¹⁴ or to ``scale``, if that is less; after ``growth_interval`` good steps it is
    multiplied by ``growth_factor``.  float16 begins at 2¹⁶ and is dynamic; bfloat16, whose range is float32's, has the
    scale 1 and leaves nothing out, unless told otherwise.  The state says scale, good steps since it changed, and steps
    left out.

    >>> import gradc as gc, numpy as np
    >>> optimizer = gc.mixed_precision("float16", scale=1024.0)(gc.optim.sgd(0.1))
    >>> step = gc.train_step(lambda w, x: ((x @ w) ** 2).sum(), optimizer)
    >>> w = np.ones(2, "float32")
    >>> w, state, loss = step(w, optimizer.init(w), np.eye(2, dtype="float32"))
    >>> w, float(state.scale)
    (array([0.8, 0.8], dtype=float32), 1024.0)
    """
    narrow: np.dtype[Any] = canonical_dtype(dtype)
    if narrow not in NARROW:
        raise ValueError(f"{here()}: mixed_precision: dtype must be 'bfloat16' or 'float16', got {dtype!r:.40}")
    first = _FIRST_SCALE.get(narrow.name, 1.0) if scale is None else scale
    changes = narrow.name in _FIRST_SCALE if dynamic is None else dynamic
    for name, value, least in (("scale", first, 0.0), ("growth_factor", growth_factor, 1.0)):
        if not least < value < math.inf:
            raise ValueError(f"{here()}: mixed_precision: {name} must be finite and above {least:g}, got {value!r:.40}")
    if not 0 < backoff_factor < 1:
        raise ValueError(
            f"{here()}: mixed_precision: backoff_factor must lie between 0 and 1, got {backoff_factor!r:.40}"
        )
    every: Any = growth_interval
    if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1:
        raise ValueError(
            f"{here()}: mixed_precision: growth_interval must be a whole number from 1 on, got {every!r:.40}"
        )
    return MixedPrecision(narrow, float(first), bool(changes), growth_interval, growth_factor, backoff_factor)


@dataclass(frozen=True)
class MixedPrecision:
    """See `mixed_precision`."""

    dtype: np.dtype[Any]
    scale: float
    dynamic: bool
    growth_interval: int
    growth_factor: float
    backoff_factor: float

    def __call__(self, optimizer: Optimizer) -> Optimizer:
        """``optimizer``, for a loss whose products are in 16 bits."""
        update = ScaledUpdate(self, refuse_unless_optimizer(optimizer))
        return Optimizer(update.init, update).made_by(f"mixed_precision({self.dtype.name!r})", update.optimizer)

    def cast(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """``f`` with its products in 16 bits."""
        title_of(f, "mixed_precision.cast")
        return Narrowed(f, self.dtype)


class Narrowed(Transform):
    """A function whose products of floats are computed in a narrow dtype."""

    def __init__(self, function: Callable[..., Any], dtype: np.dtype[Any]):
        super().__init__(function, dtype)
        self.dtype = dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = trace(self.function, *args, **kwargs)
        narrow = apply(functools.partial(_with_narrow_products, self.dtype), graph)
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(run(narrow, arrays_of(args, kwargs)))


def _with_narrow_products(dtype: np.dtype[Any], graph: Graph) -> Graph:
    """The graph with operands and results of products rounded to ``dtype``; their results have the dtype they had."""

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.kind is not Kind.CONTRACT or not node.aval.is_float or node.dtype in NARROW:
            return None
        made = node.op.make(tuple(_rounded(x, dtype, node) for x in args), **node.attrs)
        return _placed(cast(_placed(made, node), node.dtype), node)

    return mapped(graph, rule)


def _rounded(x: Node, dtype: np.dtype[Any], of: Node) -> Node:
    """``x`` in ``dtype``, rounded before it is moved or repeated: the windows of a convolution stay windows."""
    moves = []
    while x.op.kind is Kind.VIEW and len(x.args) == 1 and x.size >= x.args[0].size:
        moves.append(x)
        x = x.args[0]
    narrow = _placed(cast(x, dtype), of)
    for move in reversed(moves):
        narrow = _placed(move.op.make((narrow,), **move.attrs), move)
    return narrow


def _placed(made: Node, of: Node) -> Node:
    """``made`` on the user's line of another node."""
    return Node(made.op, made.args, made.attrs, made.aval, of.where)


@dataclass(frozen=True, eq=False)
class ScaledUpdate:
    """The update of an optimizer whose gradients are those of a scaled loss; `train_step` asks it for that loss."""

    mixed: MixedPrecision
    optimizer: Optimizer

    def init(self, params: Tree) -> MixedPrecisionState:
        """The state before the first step."""
        zero = np.zeros((), np.int64)
        return MixedPrecisionState(np.full((), self.mixed.scale), zero, zero.copy(), self.optimizer.init(params))

    def loss_of(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        """The loss with its products in 16 bits."""
        return self.mixed.cast(loss)

    def differentiated(self, loss: Callable[..., Any], state: Tree) -> Callable[..., Any]:
        """A function that returns the scaled loss, to be differentiated, and what ``loss`` returns."""
        scale = number(opened(state, MixedPrecisionState, "mixed_precision").scale)

        @functools.wraps(loss)
        def scaled(*args: Any) -> Any:
            result = loss(*args)
            return (result[0] if isinstance(result, tuple) else result) * scale, result

        return scaled

    def __call__(
        self, grads: Tree, state: Tree, params: Tree = None, *, scaled: bool = False, **extra: Any
    ) -> tuple[Tree, MixedPrecisionState]:
        """One step, of gradients of the scaled loss."""
        s: MixedPrecisionState = opened(state, MixedPrecisionState, "mixed_precision")
        if not scaled:
            raise ValueError(
                f"{here()}: mixed_precision: it takes gradients of a scaled loss, which gc.train_step makes where "
                "mixed precision stands outermost.\n  Write  mixed(gc.optim.chain(…))  around all of the optimizer."
            )
        scale = number(s.scale)
        grads = tree_map(lambda g: g / scale, grads)
        updates, inner = updated(self.optimizer, grads, s.inner, params, {**extra, "grad": grads})
        if not self.mixed.dynamic:
            return updates, s._replace(good_steps=s.good_steps + 1, inner=inner)
        finite = all_finite(grads)
        least = min(LEAST_SCALE, self.mixed.scale)
        grown = s.good_steps + 1 >= self.mixed.growth_interval
        after = gnp.where(grown, s.scale * self.mixed.growth_factor, s.scale)
        return tree_map(lambda u: gnp.where(finite, u, 0.0), updates), MixedPrecisionState(
            gnp.where(finite, after, gnp.maximum(s.scale * self.mixed.backoff_factor, least)),
            gnp.where(finite & ~grown, s.good_steps + 1, 0),
            gnp.where(finite, s.skipped, s.skipped + 1),
            select(finite, inner, s.inner),
        )


__all__ = ["MixedPrecision", "MixedPrecisionState", "mixed_precision"]
