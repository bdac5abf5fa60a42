"""How fast gradient descent goes, what curvature says of it, and Newton's steps."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array, definite, positive, symmetric
from examples.textbook.item import Entries, Says, Verdict
from examples.textbook.training import X, Y, trained

entry = Entries()
#: a quadratic whose Hessian has these eigenvalues: L is the largest, μ the least
SPECTRUM = np.array([1.0, 3.0, 10.0])
TURN = np.linalg.qr(np.random.default_rng(39).normal(size=(3, 3)))[0]
A = TURN @ np.diag(SPECTRUM) @ TURN.T


def bowl(w, A):
    E = 0.5 * w @ A @ w
    return E


@entry(
    Says(39, "rates: η < 1/L, strong convexity, the error shrinks geometrically", "‖θₜ − θ*‖ ≤ (1 − α)ᵗ‖θ₀ − θ*‖",
         verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: 1 - 1.0 / 10.0,
    within=1e-9,  # what is left of the other directions after 200 steps: (0.7/0.9)²⁰⁰ = 10⁻²²; the rest is rounding
)  # fmt: skip
def linear_rate():
    """With η = 1/L the factor of a step tends to 1 − μ/L, here 1 − 1/10."""
    eigenvalues = np.linalg.eigvalsh(gc.hessian(bowl)(np.ones(3), A))
    η = 1 / eigenvalues[-1]
    descend = gc.jit(lambda w: gc.fori_loop(0, 200, lambda _, w: w - η * gc.grad(bowl)(w, A), w))
    w = descend(np.ones(3))
    factor = np.linalg.norm(w - η * gc.grad(bowl)(w, A)) / np.linalg.norm(w)
    return f"L = {eigenvalues[-1]:.4g}, μ = {eigenvalues[0]:.4g}\nfactor of a step: {factor:.6f} = 1 − μ/L", factor


@entry(
    Says(40, "the best rate of a parabola", "E = ½aw² + bw + c: E′ = aw + b, E″ = a, η_opt = 1/a", "∂²E/∂w² = a"),
    args=(array(), positive(), array(), array()),
    way="hessian",
    reference=lambda w, a, b, c: a,
)
def parabola(w, a, b, c):
    E = 0.5 * a * w**2 + b * w + c
    return E


@entry(
    Says(41, "classes of convergence", "the error is multiplied by 1 − ηa: monotone, oscillating, divergent",
         "w_next = w − ηaw"),
    args=(array(), positive(), positive()),
    way="value",
    reference=lambda w, a, η: (1 - η * a) * w,
)  # fmt: skip
def factor_of_a_step(w, a, η):
    def energy(w):
        return 0.5 * a * w**2

    w_next = w - η * gc.grad(energy)(w)
    return w_next


@entry(
    Says(43, "Newton's minimum of a parabola", "w_min = w − E″⁻¹E′; ∂w_min/∂w = 0", "∂w_min/∂w = 0"),
    args=(array(), positive(), array()),
    reference=lambda w, a, b: 0.0,
)
def newton_of_a_parabola(w, a, b):
    def energy(w):
        return 0.5 * a * w**2 + b * w

    w_min = w - gc.grad(energy)(w) / gc.grad(gc.grad(energy))(w)
    return w_min


@entry(
    Says(44, "a quadratic form", "E = ½wᵀAw + bᵀw + c: ∇E = Aw + b, H = A", "∂E/∂w = Aw + b\nA is symmetric"),
    args=(array(3), symmetric(3), array(3), array()),
    reference=lambda w, A, b, c: (A @ w + b,),
)
def quadratic(w, A, b, c):
    A = gc.assume(A, symmetric=True)
    E = 0.5 * w @ A @ w + b @ w + c
    return E


@entry(
    Says(45, "a diagonal form", "E = Σ(½aᵢwᵢ² + bᵢwᵢ) + c: ∇E = a ⊙ w + b, η_opt,i = 1/aᵢ", "∂E/∂w = a ⊙ w + b"),
    args=(array(3), positive(3), array(3), array()),
    reference=lambda w, a, b, c: (a * w + b,),
)
def diagonal_quadratic(w, a, b, c):
    E = np.sum(0.5 * a * w**2 + b * w) + c
    return E


@entry(
    Says(46, "the condition number", "κ = λ_min/λ_max", "λ = λ(A)\nκ = λ[0]/λ[2]"),
    args=(definite(3),),
    way="value",
    reference=lambda A: np.linalg.eigvalsh(A)[0] / np.linalg.eigvalsh(A)[-1],
)
def condition_number(A):
    λ = np.linalg.eigvalsh(A)
    κ = λ[0] / λ[-1]
    return κ


@entry(
    Says(47, "a change of coordinates", "ŵ = Sw, S = A^½: E = ½ŵᵀŵ, ∇_wE = Sᵀ∇_ŵE", "∂E/∂w = Sᵀŵ"),
    args=(array(3), array(3, 3)),
    reference=lambda w, S: (S.T @ S @ w,),
)
def new_coordinates(w, S):
    ŵ = S @ w
    E = 0.5 * ŵ @ ŵ
    return E


@entry(
    Says(48, "the step in the new coordinates, seen from the old ones", "w ← w − ηA⁻¹∇E",
         "w_next = w − ηA⁻¹(Aw + b)", Verdict.WORSE,
         "½Aᵀw + ½Aw: what is assumed of A is not used in forward lines"),
    args=(array(3), definite(3), array(3), positive()),
    way="value",
    reference=lambda w, A, b, η: w - η * (w + np.linalg.solve(A, b)),
    within=1e-11,  # the condition number of A, below 10, times ROUNDING
)  # fmt: skip
def preconditioned(w, A, b, η):
    A = gc.assume(A, symmetric=True)

    def energy(w):
        return 0.5 * w @ A @ w + b @ w

    w_next = w - η * np.linalg.solve(A, gc.grad(energy)(w))
    return w_next


@entry(
    Says(49, "Newton's step", "w ← w − ηH⁻¹∇E", "w ← w − ηH⁻¹g", Verdict.WORSE,
         "H⁻¹ is written by eigenvalues and eigenvectors, which keep the step downhill where H is indefinite"),
    way="program",
    reference=lambda: np.linalg.lstsq(X, Y, rcond=None)[0],
    within=1e-10,  # one step is exact up to the condition number of H, below 10²
)  # fmt: skip
def newton():
    return trained(gc.optim.newton(1.0))


@entry(
    Says(50, "Taylor's polynomial of second order, a vector", "E ≈ E₀ + gᵀd + ½dᵀHd; its gradient g + Hd",
         "∂T/∂d = g + Hd\nH is symmetric"),
    args=(array(3), array(), array(3), symmetric(3)),
    reference=lambda d, E0, g, H: (g + H @ d,),
)  # fmt: skip
def taylor_of_a_vector(d, E0, g, H):
    H = gc.assume(H, symmetric=True)
    T = E0 + g @ d + 0.5 * d @ H @ d
    return T


@entry(
    Says(51, "the Hessian in its own axes", "H = UᵀΛU, ŵ = Uw", verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (A, SPECTRUM),
)
def axes_of_the_hessian():
    def axes(w):
        return np.linalg.eigh(gc.hessian(bowl)(w, A))

    Λ, V = gc.jit(axes)(np.ones(3))
    return f"Λ = {np.round(Λ, 6)}\n‖H − UᵀΛU‖ < 1e-12: {np.linalg.norm(A - V @ np.diag(Λ) @ V.T) < 1e-12}", (
        V @ np.diag(Λ) @ V.T,
        Λ,
    )
