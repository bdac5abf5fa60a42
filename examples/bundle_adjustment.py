"""Bundle adjustment: camera poses and points in space from where the points were seen, by Levenberg and Marquardt.

Each observation depends on one camera and one point, so the Jacobian has eight entries in a row, however many cameras
and points there are; its pattern follows from the indices with which the function takes them.  As many colours find all
of it.  Source: Triggs et al., Bundle adjustment: a modern synthesis (2000).
Needs SciPy.  Run: python examples/bundle_adjustment.py
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.linalg import spsolve

import gradc as gc

CAMERAS, POINTS, NOISE = 6, 80, 1e-3


def rotated(r, p):
    """Points turned by rotation vectors (Rodrigues' formula), one row each."""
    angle = np.sqrt(np.sum(r * r, axis=1, keepdims=True) + 1e-30)
    axis = r / angle
    along = np.sum(axis * p, axis=1, keepdims=True)
    return p * np.cos(angle) + np.cross(axis, p) * np.sin(angle) + axis * along * (1 - np.cos(angle))


def projected(unknowns, camera, point):
    """Where each camera sees each point: image coordinates, one row for each observation."""
    poses = unknowns[: 6 * CAMERAS].reshape(CAMERAS, 6)[camera]
    places = unknowns[6 * CAMERAS :].reshape(POINTS, 3)[point]
    seen = rotated(poses[:, :3], places) + poses[:, 3:]
    return seen[:, :2] / seen[:, 2:]


def residuals(unknowns, camera, point, observed):
    """How far what is projected lies from what was observed."""
    return (projected(unknowns, camera, point) - observed).reshape(-1)


def scene(rng):
    """Cameras on a circle around a cloud of points, and their noisy images; each camera misses some points."""
    around = np.linspace(0, 0.8, CAMERAS)
    poses = np.stack([0.1 * np.cos(around), around, 0.05 * around, -2 * around, 0.2 * around, 6 + around], 1)
    places = rng.uniform(-1, 1, (POINTS, 3))
    truth = np.concatenate([poses.reshape(-1), places.reshape(-1)])
    camera, point = np.nonzero(rng.random((CAMERAS, POINTS)) < 0.7)
    observed = projected(truth, camera, point) + NOISE * rng.standard_normal((len(camera), 2))
    return truth, camera, point, observed


def adjust(start, camera, point, observed, steps=20):
    """Levenberg–Marquardt: (JᵀJ + λ diag JᵀJ) δ = −Jᵀr, where λ falls while the residuals do."""
    value, jacobian = gc.jit(residuals), gc.sparse_jacobian(residuals)
    unknowns, damping = start, 1e-3
    r = value(unknowns, camera, point, observed)
    for _ in range(steps):
        J = jacobian(unknowns, camera, point, observed)
        normal = (J.T @ J).tocsc()
        step = spsolve((normal + damping * diags_array(normal.diagonal() + 1e-12)).tocsc(), -(J.T @ r))
        after = value(unknowns + step, camera, point, observed)
        if after @ after < r @ r:
            unknowns, r, damping = unknowns + step, after, damping / 5
        else:
            damping *= 10
    return unknowns, r, jacobian.pattern


def main():
    rng = np.random.default_rng(0)
    truth, camera, point, observed = scene(rng)
    start = truth + 0.03 * rng.standard_normal(len(truth))
    before = residuals(start, camera, point, observed)
    unknowns, after, pattern = adjust(start, camera, point, observed)
    print(pattern.summary())
    freedom = len(after) - len(unknowns) + 7  # the whole scene may be moved, turned and scaled
    error = np.sqrt(after @ after / freedom)
    spread = np.sqrt(before @ before / len(before))
    print(f"error of an observation: {spread:.4f} before, {error:.6f} after, {NOISE} drawn")
    return error, pattern


if __name__ == "__main__":
    main()
