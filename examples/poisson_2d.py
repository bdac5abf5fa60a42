"""Poisson's equation on a square, −Δu = f with u = 0 around it: solved by one Newton step with a sparse Jacobian, and
differentiated through the solution.

The residual is written as one writes a stencil; that its Jacobian has five entries in a row, and that five directional
derivatives are enough to find it, gradc sees itself.  The adjoint solve Jᵀλ = ∂L/∂u gives the derivative of a misfit by
the whole source.  Needs SciPy.  Run: python examples/poisson_2d.py
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import spsolve

import gradc as gc

N = 40
H = 1 / (N + 1)


def residual(u, f):
    """−Δu − f by five points; u is 0 outside."""
    p = gc.numpy.pad(u, 1)
    return (4 * u - p[2:, 1:-1] - p[:-2, 1:-1] - p[1:-1, 2:] - p[1:-1, :-2]) / H**2 - f


def misfit(u, wanted):
    """Half the squared distance from a wanted field."""
    return 0.5 * np.sum((u - wanted) ** 2)


def solve(f):
    """The u at which the residual is 0, and the Jacobian there."""
    jacobian = gc.sparse_jacobian(residual)
    u = np.zeros((N, N))
    J = jacobian(u, f)
    u = u - spsolve(J.tocsc(), residual(u, f).reshape(-1)).reshape(N, N)
    return u, J, jacobian.pattern


def slope_by_source(u, J, wanted):
    """The derivative of the misfit by each element of f: the residual falls by f, so it is λ of Jᵀλ = ∂L/∂u."""
    pull = gc.grad(misfit)(u, wanted)
    return spsolve(J.T.tocsc(), pull.reshape(-1)).reshape(N, N)


def main():
    x = np.linspace(H, 1 - H, N)
    exact = np.sin(np.pi * x)[:, None] * np.sin(np.pi * x)
    f = 2 * np.pi**2 * exact
    u, J, pattern = solve(f)
    print(pattern.summary())
    error = np.max(np.abs(u - exact))
    print(f"largest error {error:.2e}, and the stencil's own is {np.pi**2 * H**2 / 12:.2e}")
    slope = slope_by_source(u, J, 0 * u)
    direction = np.sin(3 * x)[:, None] * x
    moved = misfit(solve(f + 1e-3 * direction)[0], 0 * u) - misfit(solve(f - 1e-3 * direction)[0], 0 * u)
    print(f"derivative along a direction: {np.sum(slope * direction):.10f}, by differences {moved / 2e-3:.10f}")
    return error, np.sum(slope * direction), moved / 2e-3, pattern


if __name__ == "__main__":
    main()
