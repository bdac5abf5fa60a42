"""Krylov methods: linear systems solved by products with the matrix alone, as native loops on vectors.

Enters: a `Problem`.  Leaves: a `Found`.  A *cycle* runs one method from a residual to a correction, by the residual
that its recursion knows; `search` adds corrections up and looks at the true residual between cycles, so what is
reported was measured, and a recursion that has drifted starts again.
Sources: Saad, Iterative Methods for Sparse Linear Systems, 2nd ed.: algorithms 9.1 (conjugate gradients), 9.5 (GMRES,
preconditioned on the right), 7.7 (BiCGSTAB); Elman, Silvester and Wathen, Finite Elements and Fast Iterative Solvers,
2nd ed.: algorithm 4.1 (MINRES).  Start reading at `search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradc.api.control import fori_loop, while_loop
from gradc.node import dsl
from gradc.ops.leaves import delta, full, iota
from gradc.solve.statuses import RUNNING, LinearStatus
from gradc.solve.vectors import length

#: vectors that GMRES keeps before it starts again
RESTART = 30

Linear = Callable[[Any], Any]


@dataclass(frozen=True)
class Problem:
    """matvec(x) = b, on vectors; ``precondition`` is near the inverse of ``matvec``."""

    matvec: Linear
    precondition: Linear
    limit: Any  #: the norm of the residual to reach
    most: int  #: products with the matrix


class Found(NamedTuple):
    """What a search has come to."""

    x: Any
    residual: Any  #: b − A x
    norm: Any
    steps: Any
    status: Any


#: ``cycle(problem, residual, norm, budget) -> (correction, steps)``, from a residual of that norm
Cycle = Callable[[Problem, Any, Any, Any], tuple[Any, Any]]


def search(problem: Problem, b: Any, start: Any, cycle: Cycle) -> Found:
    """Corrections until the residual is small, or they do not make it smaller."""

    def at(x: Any, steps: Any) -> Found:
        residual = b - problem.matvec(x)
        norm = length(residual)
        return Found(x, residual, norm, steps, dsl.where(norm <= problem.limit, LinearStatus.FOUND, RUNNING))

    def step(now: Found) -> Found:
        correction, steps = cycle(problem, now.residual, now.norm, problem.most - now.steps)
        new = at(now.x + correction, now.steps + dsl.maximum(steps, 1))
        better = new.norm < now.norm  # and a number
        ended = dsl.where(
            better & (new.steps < problem.most),
            RUNNING,
            dsl.where(better, LinearStatus.TOO_MANY_STEPS, LinearStatus.NO_PROGRESS),
        )
        status = dsl.where(better & (new.status == LinearStatus.FOUND), LinearStatus.FOUND, ended)
        x, residual, norm = (dsl.where(better, n, o) for n, o in zip(new[:3], now[:3], strict=True))
        return Found(x, residual, norm, new.steps, status)

    return while_loop(lambda now: now.status == RUNNING, step, at(start, dsl.int64(0)))


# -- conjugate gradients -----------------------------------------------------------------------------------------------


class _Conjugate(NamedTuple):
    x: Any
    r: Any
    p: Any
    rho: Any
    steps: Any
    sound: Any  #: the matrix is positive along all directions so far


def conjugate_gradients(problem: Problem, residual: Any, norm: Any, budget: Any) -> tuple[Any, Any]:
    """For symmetric positive definite matrices."""

    def more(s: _Conjugate) -> Any:
        return s.sound & (length(s.r) > problem.limit) & (s.steps < budget)

    def step(s: _Conjugate) -> _Conjugate:
        q = problem.matvec(s.p)
        curvature = dsl.dot(s.p, q)
        sound = curvature > 0
        alpha = dsl.where(sound, s.rho / dsl.where(sound, curvature, 1), 0)
        r = s.r - alpha * q
        z = problem.precondition(r)
        rho = dsl.dot(r, z)
        return _Conjugate(s.x + alpha * s.p, r, z + (rho / s.rho) * s.p, rho, s.steps + 1, sound & (rho > 0))

    z = problem.precondition(residual)
    start = _Conjugate(0 * residual, residual, z, dsl.dot(residual, z), dsl.int64(0), dsl.bool_(True))
    end = while_loop(more, step, start)
    return end.x, end.steps


# -- MINRES ------------------------------------------------------------------------------------------------------------


class _Lanczos(NamedTuple):
    x: Any
    v: tuple[Any, Any]  #: Lanczos vectors, the one before and this
    z: Any
    gamma: tuple[Any, Any]
    w: tuple[Any, Any]
    c: tuple[Any, Any]
    s: tuple[Any, Any]
    eta: Any  #: ± the norm of the residual, in the preconditioner's product
    steps: Any


def minimal_residual(problem: Problem, residual: Any, norm: Any, budget: Any) -> tuple[Any, Any]:
    """For symmetric matrices, indefinite ones too; the preconditioner is positive definite."""
    z = problem.precondition(residual)
    first = dsl.sqrt(dsl.dot(residual, z))
    target = first * (problem.limit / norm)

    def more(s: _Lanczos) -> Any:
        return (dsl.abs(s.eta) > target) & (s.gamma[1] > 0) & (s.steps < budget)

    def step(s: _Lanczos) -> _Lanczos:
        z = s.z / s.gamma[1]
        q = problem.matvec(z)
        delta = dsl.dot(q, z)
        v = q - (delta / s.gamma[1]) * s.v[1] - (s.gamma[1] / s.gamma[0]) * s.v[0]
        after = problem.precondition(v)
        gamma = dsl.sqrt(dsl.maximum(dsl.dot(after, v), 0))
        a0 = s.c[1] * delta - s.c[0] * s.s[1] * s.gamma[1]
        a1 = dsl.sqrt(a0 * a0 + gamma * gamma)
        a2 = s.s[1] * delta + s.c[0] * s.c[1] * s.gamma[1]
        a3 = s.s[0] * s.gamma[1]
        w = (z - a3 * s.w[0] - a2 * s.w[1]) / a1
        c, sine = a0 / a1, gamma / a1
        return _Lanczos(
            s.x + c * s.eta * w, (s.v[1], v), after, (s.gamma[1], gamma), (s.w[1], w), (s.c[1], c), (s.s[1], sine),
            -sine * s.eta, s.steps + 1,
        )  # fmt: skip

    zero, one = 0 * residual, 0 * norm + 1
    start = _Lanczos(
        zero, (zero, residual), z, (one, first), (zero, zero), (one, one), (0 * one, 0 * one), first, dsl.int64(0)
    )
    end = while_loop(more, step, start)
    return end.x, end.steps


# -- BiCGSTAB ----------------------------------------------------------------------------------------------------------


class _Stabilised(NamedTuple):
    x: Any
    r: Any
    p: Any
    rho: Any
    best: tuple[Any, Any]  #: where the residual was smallest, and how small
    steps: Any
    sound: Any


def biconjugate_stabilised(problem: Problem, residual: Any, norm: Any, budget: Any) -> tuple[Any, Any]:
    """For any matrices, by two products a step."""

    def more(s: _Stabilised) -> Any:
        return s.sound & (length(s.r) > problem.limit) & (s.steps < budget)

    def step(s: _Stabilised) -> _Stabilised:
        p = problem.precondition(s.p)
        v = problem.matvec(p)
        alpha = _quotient(s.rho, dsl.dot(residual, v))
        half = s.r - alpha * v
        h = problem.precondition(half)
        t = problem.matvec(h)
        omega = _quotient(dsl.dot(t, half), dsl.dot(t, t))
        r = half - omega * t
        rho = dsl.dot(residual, r)
        beta = _quotient(rho, s.rho) * _quotient(alpha, omega)
        x, size = s.x + alpha * p + omega * h, length(r)
        better = size < s.best[1]
        best = dsl.where(better, x, s.best[0]), dsl.where(better, size, s.best[1])
        sound = (alpha != 0) & (omega != 0) & (rho != 0)
        return _Stabilised(x, r, r + beta * (s.p - omega * v), rho, best, s.steps + 2, sound)

    zero = 0 * residual
    start = _Stabilised(zero, residual, residual, norm * norm, (zero, norm), dsl.int64(0), dsl.bool_(True))
    end = while_loop(more, step, start)
    return end.best[0], end.steps


def _quotient(a: Any, b: Any) -> Any:
    """a/b, 0 where b is: the method has broken down."""
    return dsl.where(b != 0, a / dsl.where(b != 0, b, 1), 0)


# -- GMRES -------------------------------------------------------------------------------------------------------------


class _Arnoldi(NamedTuple):
    basis: Any  #: orthonormal rows, one more than columns
    rotations: Any  #: what has made the Hessenberg matrix triangular
    triangle: Any  #: that matrix, by columns
    right: Any
    steps: Any


def generalised_minimal_residual(problem: Problem, residual: Any, norm: Any, budget: Any) -> tuple[Any, Any]:
    """For any matrices; keeps `RESTART` vectors, or as many as there are unknowns."""
    m = min(RESTART, residual.size)

    def more(s: _Arnoldi) -> Any:
        return (s.steps < dsl.minimum(m, budget)) & (dsl.abs(s.right[s.steps]) > problem.limit)

    def step(s: _Arnoldi) -> _Arnoldi:
        j = s.steps
        w = problem.matvec(problem.precondition(s.basis[j]))
        column = s.basis @ w
        w = w - column @ s.basis
        again = s.basis @ w  # Gram and Schmidt twice is enough
        w = w - again @ s.basis
        size = length(w)
        column = s.rotations @ (column + again).at[j + 1].set(size)
        radius = dsl.sqrt(column[j] * column[j] + size * size)
        c, sine = _quotient(column[j], radius), _quotient(size, radius)
        upper, lower = s.rotations[j], s.rotations[j + 1]
        rotations = s.rotations.at[j].set(c * upper + sine * lower).at[j + 1].set(c * lower - sine * upper)
        column = column.at[j].set(radius).at[j + 1].set(0)
        right = s.right.at[j + 1].set(-sine * s.right[j]).at[j].set(c * s.right[j])
        basis = s.basis.at[j + 1].set(w * _quotient(1, size))
        return _Arnoldi(basis, rotations, s.triangle.at[j].set(column[:m]), right, j + 1)

    kind = residual.dtype
    first = full((m + 1, residual.size), 0, kind).at[0].set(residual / norm)
    right = full((m + 1,), 0, kind).at[0].set(norm)
    start = _Arnoldi(first, delta((m + 1, m + 1), ((0, 1),), kind), delta((m, m), ((0, 1),), kind), right, dsl.int64(0))
    end = while_loop(more, step, start)
    y = _back_substituted(end.triangle, dsl.where(iota((m,)) < end.steps, end.right[:m], 0))
    return problem.precondition(y @ end.basis[:m]), end.steps


def _back_substituted(columns: Any, right: Any) -> Any:
    """y with U y = right, for the columns of an upper triangle."""
    m = right.size

    def step(k: Any, rest: Any) -> Any:
        j = m - 1 - k
        y = _quotient(rest[j], columns[j, j])
        return (rest - dsl.where(iota((m,)) < j, y * columns[j], 0)).at[j].set(y)

    return fori_loop(0, m, step, right)
