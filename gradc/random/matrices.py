"""Random vectors with a covariance, and random orthogonal matrices.

Enters: a key, parameters, a shape, a floating dtype.  Leaves: arrays.  Invariant: the arithmetic of jax.random 0.10;
differentiable in mean and covariance, the draw being held.
"""

from __future__ import annotations

import math
from typing import Any

from gradc.aval import broadcast_shapes, finfo
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, Node, as_node, here, static_int
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.numpy.shapes import reshaped
from gradc.ops.elementwise import broadcast_to, cast
from gradc.random.arguments import float_dtype, one_of
from gradc.random.continuous import normal_of
from gradc.random.keys import sampler, words_of

__all__ = ["multivariate_normal", "orthogonal"]


@sampler
def multivariate_normal(
    key: ArrayLike, mean: ArrayLike, cov: ArrayLike, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Array:
    """Normal vectors with this ``mean`` (…, n) and covariance ``cov`` (…, n, n): mean + A·z with A·Aᵀ = cov.

    ``shape`` is that of the axes before n (None: those of mean and cov together).  ``method`` says which A is taken:
    "cholesky", "eigh" or "svd"; the last two take a covariance that is singular.
    """
    name = "multivariate_normal"
    target = float_dtype(dtype, name)
    one_of(method, ("cholesky", "eigh", "svd"), "method", name)
    centre, covariance = cast(as_node(mean), target), cast(as_node(cov), target)
    if centre.ndim < 1 or covariance.shape[-2:] != centre.shape[-1:] * 2:
        raise ShapeError(
            f"{here()}: random.{name}: mean (…, n) and cov (…, n, n) are needed, got {centre.shape} and "
            f"{covariance.shape}"
        )
    try:
        lead = broadcast_shapes((centre.shape[:-1], covariance.shape[:-2]))
        wanted = lead if shape is None else shape_of(shape)
        if broadcast_shapes((lead, wanted)) != wanted:
            raise ValueError
    except ValueError:
        raise ShapeError(
            f"{here()}: random.{name}: mean {centre.shape} and cov {covariance.shape} do not broadcast to {shape}"
        ) from None
    count = centre.shape[-1]
    z = normal_of(words_of(key, name), (*wanted, count), target)
    factor = _factor(covariance, method)
    return centre + reshaped(
        FUNCTIONS["matmul"](broadcast_to(factor, (*wanted, count, count)), reshaped(z, (*z.shape, 1))), z.shape
    )


def _factor(covariance: Node, method: str) -> Node:
    """A matrix A with A·Aᵀ the covariance."""
    if method == "cholesky":
        lower: Node = FUNCTIONS["linalg.cholesky"](covariance)
        return lower
    if method == "eigh":
        values, vectors = FUNCTIONS["linalg.eigh"](covariance)
        values = _without_noise(values)
    else:
        vectors, values, _ = FUNCTIONS["linalg.svd"](covariance)
    return vectors * FUNCTIONS["expand_dims"](FUNCTIONS["sqrt"](values), -2)


def _without_noise(values: Node) -> Node:
    """Eigenvalues with 0 in place of those that are negative by rounding alone: above −n·ε times the largest size."""
    if not values.size:
        return values
    largest = FUNCTIONS["max"](FUNCTIONS["abs"](values), -1, keepdims=True)
    noise = largest * (values.shape[-1] * float(finfo(values.dtype).eps))
    cleaned: Node = FUNCTIONS["where"]((values < 0) & (values >= -noise), 0, values)
    return cleaned


@sampler
def orthogonal(key: ArrayLike, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Array:
    """Matrices (*shape, n, m) with orthonormal columns, or rows where n < m, uniformly distributed; m None: n.

    The orthogonal factor of a normal matrix, with the signs that make that unique (Mezzadri 2007).
    """
    target, lead = float_dtype(dtype, "orthogonal"), shape_of(shape)
    rows = static_int(n, "random.orthogonal: n")
    columns = rows if m is None else static_int(m, "random.orthogonal: m")
    if min(rows, columns) < 0:
        raise ShapeError(f"{here()}: random.orthogonal: n and m must not be negative, got {n} and {m}")
    tall = (*lead, max(rows, columns), min(rows, columns))
    words = words_of(key, "orthogonal")
    if not math.prod(tall):
        return FUNCTIONS["full"]((*lead, rows, columns), 0.0, target)
    q, r = FUNCTIONS["linalg.qr"](normal_of(words, tall, target))
    signs = FUNCTIONS["sign"](FUNCTIONS["diagonal"](r, 0, -2, -1))
    found = q * FUNCTIONS["expand_dims"](signs, -2)
    return FUNCTIONS["matrix_transpose"](found) if rows < columns else found
