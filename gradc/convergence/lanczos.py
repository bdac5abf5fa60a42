"""Lanczos' method: eigenvalues of a Hessian from its products with vectors, in one native loop.

Enters: a scalar function of one vector, its point, and further arguments.  Leaves: `Ritz` values with residuals and
weights, which bound eigenvalues and make up the spectral density.  Each vector is made orthogonal to all before it,
twice (full reorthogonalisation), so no eigenvalue appears a second time.  The Hessian is never built; memory is that of
``most`` vectors.  Products are in the dtypes of the parameters, the recursion is in float64.
Sources: Golub and Van Loan, Matrix Computations, 4th ed., § 10.3; Parlett, The Symmetric Eigenvalue Problem, § 13.2;
Ubaru, Chen and Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal. Appl. 38
(2017), for the weights.  Start reading at `Lanczos`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradc.api.compiled import jit
from gradc.api.control import while_loop
from gradc.api.derivatives import grad, jvp
from gradc.aval import finfo
from gradc.node import dsl
from gradc.solve.vectors import length

Array = np.ndarray[Any, Any]
#: steps after which the recursion first looks whether its outermost values have settled; then twice as many
FIRST = 24
#: relative residual at which an outermost value has settled
SETTLED = 1e-6


class _State(NamedTuple):
    """``basis`` holds orthonormal rows, ``steps`` of them complete; row ``steps`` is the next vector."""

    basis: Any
    alpha: Any
    beta: Any
    scale: Any  #: about the size of the largest eigenvalue so far
    steps: Any
    done: Any  #: the vectors span what products can reach


@dataclass(frozen=True)
class Ritz:
    """What ``steps`` products say of a symmetric matrix."""

    values: Array  #: ascending
    residuals: Array  #: an eigenvalue lies within this distance of each value
    weights: Array  #: squared parts of the first vector along each: they add up to 1
    steps: int
    exact: bool  #: the recursion ended by itself: the values are all distinct eigenvalues that the first vector meets
    floor: float  #: what rounding of one product may move an eigenvalue by
    low: Array  #: the vector of the least value
    high: Array  #: the vector of the greatest value

    @property
    def settled(self) -> bool:
        """Whether the outermost values are as good as `SETTLED`, or as rounding allows."""
        ends = self.values[[0, -1]], self.residuals[[0, -1]]
        return self.exact or bool(np.all(ends[1] <= np.maximum(SETTLED * np.abs(ends[0]), self.floor)))


class Lanczos:
    """The recursion for the Hessian of ``function(vector, *rest)``, compiled once for all first vectors.

    ``most``: the largest number of products.
    """

    def __init__(self, function: Callable[..., Any], at: Array, rest: Sequence[Any], most: int):
        self._at, self._rest = at, tuple(rest)
        self.size = at.size
        self.most = min(most, self.size)
        self._unit = float(finfo(at.dtype).eps) * math.sqrt(max(1, self.size))
        self._extended = jit(_recursion(function, at.dtype, self._unit))

    def ritz(self, first: Array, steps: int | None = None) -> Ritz:
        """Values from ``first`` after ``steps`` products, or after as many as its outermost values need."""
        state = _State(
            np.zeros((self.most + 1, self.size)), np.zeros(self.most), np.zeros(self.most), np.float64(0), np.int64(0),
            np.bool_(False),
        )  # fmt: skip
        state.basis[0] = first / np.linalg.norm(first)
        stop = min(self.most, FIRST if steps is None else steps)
        while True:
            state = self._extended(state, np.int64(stop), self._at, *self._rest)
            found = self._read(state)
            if steps is not None or found.settled or stop == self.most or not np.isfinite(state.scale):
                return found
            stop = min(self.most, 2 * stop)

    def _read(self, state: _State) -> Ritz:
        """Eigenvalues of the tridiagonal matrix."""
        m = int(state.steps)
        alpha, beta = state.alpha[:m], state.beta[:m]
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            nothing = np.full(1, np.nan)
            return Ritz(nothing, nothing, np.ones(1), m, False, np.nan, state.basis[0], state.basis[0])
        values, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
        exact = bool(state.done) or m == self.size
        residuals = np.zeros(m) if exact else np.abs(beta[-1] * vectors[-1])
        floor = self._unit * float(np.max(np.abs(values)))
        low, high = (vectors[:, k] @ state.basis[:m] for k in (0, -1))
        return Ritz(values, np.maximum(residuals, floor), vectors[0] ** 2, m, exact, floor, low, high)


def _recursion(function: Callable[..., Any], dtype: Any, unit: float) -> Callable[..., _State]:
    """``extended(state, stop, at, *rest)``: the recursion up to ``stop`` products."""

    def extended(state: _State, stop: Any, at: Any, *rest: Any) -> _State:
        slope = grad(lambda x: function(x, *rest))

        def step(s: _State) -> _State:
            v = s.basis[s.steps]
            w = jvp(slope, (at,), (v.astype(dtype),))[1].astype(np.float64)
            alpha = dsl.dot(v, w)
            w = w - (s.basis @ w) @ s.basis
            w = w - (s.basis @ w) @ s.basis  # Gram and Schmidt twice is enough
            beta = length(w)
            scale = dsl.maximum(s.scale, dsl.abs(alpha) + beta)
            done = ~(beta > unit * scale)  # NaN ends it as well
            following = dsl.where(done, 0 * w, w / dsl.where(done, 1, beta))
            return _State(
                s.basis.at[s.steps + 1].set(following), s.alpha.at[s.steps].set(alpha), s.beta.at[s.steps].set(beta),
                scale, s.steps + 1, done,
            )  # fmt: skip

        return while_loop(lambda s: (s.steps < stop) & ~s.done, step, state)

    return extended
