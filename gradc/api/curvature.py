"""Curvature of a loss of a model's outputs: generalised Gauss–Newton and Fisher matrices, as operators and as blocks.

Enters: a model ``model(params, *batch)`` that gives outputs, and what is taken of the outputs: a loss, or the family of
distributions that they are parameters of.  Leaves: for given parameters and batch an operator over all parameters,
which multiplies without ever being built: one Jacobian-vector product of the model, one Hessian-vector product of what
is taken of its outputs, one vector-Jacobian product.  Letters: J Jacobian of the outputs z, H Hessian by the outputs.
Source: J. Martens, "New insights and perspectives on the natural gradient method", JMLR 21 (2020), §§ 5, 8, 9.  Start
reading at `gauss_newton`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc import nn
from gradc.api.batched import vmap
from gradc.api.derivatives import arrays_of, hvp, jvp, prepared, title_of, vjp
from gradc.api.tangents import fitted
from gradc.api.transform import Transform
from gradc.containers import flatten, leaves_of, path_text
from gradc.diff.linear import refuse_without_tangent
from gradc.errors import DTypeError, MissingNameError, ShapeError
from gradc.graph import Graph
from gradc.node import Node, as_node, here
from gradc.trace import aval_of, function_name, new_input, run
from gradc.tree import ravel

Tree = Any


# -- functions of the user's -------------------------------------------------------------------------------------------


def gauss_newton(model: Callable[..., Any], loss: Callable[..., Any]) -> Callable[..., Curvature]:
    """The generalised Gauss–Newton matrix JᵀHJ, as a function of ``(params, *batch)`` that returns a `Curvature`.

    ``model(params, *batch)`` returns the outputs z, an array or a tree of arrays; ``loss(z, *batch)`` a float scalar.
    J is the Jacobian of z by the parameters, H the Hessian of the loss by z: what remains of the Hessian of the whole
    without the second derivatives of the model (Schraudolph 2002; Martens 2020, § 8.1).  It is positive semidefinite if
    the loss is convex in z.  Parameters are floats, ShapeError and DTypeError otherwise.

    >>> import numpy as np
    >>> G = gauss_newton(lambda w, x, y: x @ w, lambda z, x, y: 0.5 * ((z - y) ** 2).sum())
    >>> x, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)
    >>> G(np.ones(2), x, y) @ np.array([1.0, 0.0])
    array([10., 14.])
    >>> G(np.ones(2), x, y).dense()
    array([[10., 14.],
           [14., 20.]])
    """
    title_of(model, "gauss_newton")
    title_of(loss, "gauss_newton")
    return GaussNewton(model, loss)


class GaussNewton(Transform):
    """See `gauss_newton`."""

    def __init__(self, model: Callable[..., Any], loss: Callable[..., Any]):
        super().__init__(model, loss)
        self.loss = loss

    def __call__(self, params: Tree, *batch: Any) -> Curvature:
        return Curvature(self.function, partial(_of_loss, self.loss), params, batch, "gauss_newton")


def _of_loss(loss: Callable[..., Any], z: Tree, at: Tree, batch: Sequence[Any]) -> Any:
    return loss(z, *batch)


def fisher(
    model: Callable[..., Any], family: str | Callable[[Any, Any], Any], reduction: str = "mean"
) -> Callable[..., Curvature]:
    """The Fisher information of a model's distribution, as a function of ``(params, *batch)`` that gives a `Curvature`.

    ``model(params, *batch)`` returns the parameters z of a distribution of the targets; nothing is drawn and no target
    is read: the expectation is over the model's own distribution, exactly, unlike that of the empirical Fisher matrix
    (Martens 2020, §§ 5, 11).  ``family`` says which, by its natural parameters:

    - "gaussian": means, of variance 1, for losses ½(z − y)²
    - "bernoulli": logits, for the binary cross-entropy
    - "categorical": logits along the last axis, for the cross-entropy
    - "poisson": logarithms of rates, for the negative log-likelihood eᶻ − yz

    ``reduction``: "mean" over all distributions, which are the rows of categorical logits and else the elements of z,
    or "sum", of those of all leaves of z.  For these families the matrix equals `gauss_newton` of the loss (Martens
    2020, § 9.2).  For any other ``family`` is a function ``divergence(z, z_new)``, KL(p(z) ‖ p(z_new)) as a float
    scalar, reduced as you want it, ``reduction`` left alone: the Fisher matrix is its second derivative by z_new at z.

    >>> import numpy as np
    >>> F = fisher(lambda w, x: x @ w, "categorical")
    >>> F(np.zeros((1, 2)), np.ones((3, 1))).dense()
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    title_of(model, "fisher")
    if not callable(family) and family not in _LOG_PARTITIONS:
        raise ValueError(
            f"{here()}: fisher: family={family!r:.60}: expected one of {', '.join(map(repr, _LOG_PARTITIONS))}, or a "
            "function divergence(z, z_new)"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{here()}: fisher: reduction={reduction!r:.60}: expected 'mean' or 'sum'")
    return Fisher(model, family, reduction)


class Fisher(Transform):
    """See `fisher`."""

    def __init__(self, model: Callable[..., Any], family: str | Callable[[Any, Any], Any], reduction: str):
        super().__init__(model, family, reduction)
        self.family, self.reduction = family, reduction

    def __call__(self, params: Tree, *batch: Any) -> Curvature:
        if callable(self.family):
            taken = partial(_of_divergence, self.family)
        else:
            taken = partial(_of_family, self.family, self.reduction)
        return Curvature(self.function, taken, params, batch, "fisher")


#: log-partition functions by families, of natural parameters: their second derivatives are the Fisher information
_LOG_PARTITIONS: dict[str, Callable[[Any], Any]] = {
    "gaussian": lambda z: 0.5 * gnp.square(z),
    "bernoulli": nn.softplus,
    "categorical": lambda z: gnp.logsumexp(z, axis=-1),
    "poisson": gnp.exp,
}


def _of_family(family: str, reduction: str, z: Tree, at: Tree, batch: Sequence[Any]) -> Any:
    """The sum or mean of the log-partition functions of all distributions."""
    leaves = leaves_of(z)[0]
    if family == "categorical" and any(gnp.ndim(leaf) == 0 for leaf in leaves):
        raise ShapeError(f"{here()}: fisher: categorical logits lie along the last axis; the model returns a scalar")
    parts = [_LOG_PARTITIONS[family](leaf) for leaf in leaves]
    count = sum(int(np.prod(part.shape)) for part in parts)
    whole = sum(gnp.sum(part) for part in parts)
    return whole / max(count, 1) if reduction == "mean" else whole


def _of_divergence(divergence: Callable[[Any, Any], Any], z: Tree, at: Tree, batch: Sequence[Any]) -> Any:
    return divergence(at, z)


# -- the operator ------------------------------------------------------------------------------------------------------


class Curvature:
    """A symmetric matrix JᵀHJ over all parameters, in the order of ``gc.tree.ravel``, that is never built.

    ``taken(z_new, z, batch)`` is the scalar function of new outputs whose Hessian at z is H.

    What `gauss_newton` and `fisher` return.  ``C @ v`` and ``C.matvec(v)`` multiply; `dense` is the matrix, `block` the
    part of one parameter, `blocks` those of all.  ``shape`` and ``dtype`` are those of the matrix, so that SciPy's
    iterative solvers take it: ``scipy.sparse.linalg.cg(C, b)``.  Under `gradc.jit` all of it is part of the compiled
    function.
    """

    def __init__(
        self, model: Callable[..., Any], taken: Callable[..., Any], params: Tree, batch: Sequence[Any], whose: str
    ):
        leaves, places, self._structure = flatten(params)
        self.paths = [path_text(place).removeprefix(".") for place in places]  #: of the parameters, as code
        for leaf, path in zip(leaves, self.paths, strict=True):
            refuse_without_tangent(as_node(leaf), f"params.{path}" if path else "params")
        if not leaves:
            raise DTypeError(f"{here()}: {whose} of {function_name(model)}: params hold no array")
        self._model, self._taken, self._whose = model, taken, whose
        self._params, self._batch = params, tuple(batch)
        self._leaves = [new_input(aval_of(leaf), path) for leaf, path in zip(leaves, self.paths, strict=True)]
        vector, self._back = ravel(params)
        self.shape: tuple[int, int] = (*vector.shape, *vector.shape)
        self.dtype: np.dtype[Any] = gnp.result_type(vector)
        self._graph: Graph | None = None

    def matvec(self, v: Tree) -> Tree:
        """The product with ``v``, a tree like the parameters, or one vector over all of them; it comes back like ``v``.

        In a tree None stands for zeros.  Raises TypeError or ShapeError for what is neither.
        """
        if self._is_vector(v):
            return ravel(self._times(self._back(v)))[0]
        return self._times(v)

    def __matmul__(self, v: Tree) -> Tree:
        return self.matvec(v)

    def _is_vector(self, v: Any) -> bool:
        if not isinstance(v, (np.ndarray, Node)) or v.shape != self.shape[:1]:
            return False
        return not self._structure.is_leaf or self._leaves[0].shape != v.shape

    def _times(self, v: Tree) -> Tree:
        """The product with a tree like the parameters; it is traced once."""
        parts = fitted(v, self._structure, self._leaves, self.paths, "tangent", "the parameters")
        if self._graph is None:
            like = self._structure.of_arrays.unflatten([x.aval for x in self._leaves])
            self._graph = prepared(self._product, (self._params, like, self._batch), {})
        arrays = arrays_of((self._params,), {})
        whole = [gnp.zeros(x.shape, x.dtype) if v is None else v for v, x in zip(parts, self._leaves, strict=True)]
        flat = run(self._graph, [*arrays, *whole, *arrays_of((self._batch,), {})])
        return self._structure.of_arrays.unflatten(flat)

    def _product(self, params: Tree, v: Tree, batch: Sequence[Any]) -> Tree:
        """Jᵀ(H(Jv))."""

        def outputs(p: Tree) -> Tree:
            return self._model(p, *batch)

        z, pulled = vjp(outputs, params)
        _, dz = jvp(outputs, (params,), (v,))
        (hz,) = hvp(lambda new: self._taken(new, z, batch), (z,), (dz,))
        return pulled(hz)[0]

    def dense(self) -> Any:
        """The matrix, of shape (n, n) for n elements of parameters; it costs n products, all at once."""
        return vmap(self.matvec)(gnp.eye(self.shape[0], dtype=self.dtype))

    def block(self, path: str) -> Any:
        """The block of one parameter with itself, of shape T + T for a parameter of shape T.

        ``path`` as in ``gc.tree.paths(params)``, such as "layers[0].w", "" for parameters that are one array; KeyError
        for another.  It costs a product for each element of the parameter.
        """
        if path not in self.paths:
            there = ", ".join(map(repr, self.paths))
            raise MissingNameError(f"{here()}: {self!r} has no parameter {path!r}; there are {there}")
        which = self.paths.index(path)
        x = self._leaves[which]

        def column(direction: Any) -> Any:
            parts: list[Any] = [None] * len(self._leaves)
            parts[which] = gnp.reshape(direction, x.shape)
            return leaves_of(self._times(self._structure.of_arrays.unflatten(parts)))[0][which]

        columns = vmap(column)(gnp.eye(x.size, dtype=x.dtype))
        return gnp.reshape(columns, x.shape + x.shape)

    def blocks(self) -> Tree:
        """The `block` of each parameter, nested like the parameters."""
        return self._structure.of_arrays.unflatten([self.block(path) for path in self.paths])

    def __repr__(self) -> str:
        return f"<{self._whose} of {function_name(self._model)}, {self.shape[0]} × {self.shape[0]}>"


__all__ = ["Curvature", "fisher", "gauss_newton"]
