"""What keeps deep networks trainable: first values, normalisation, residual connections."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array
from examples.textbook.item import Entries, Says, Verdict

entry = Entries()


@entry(
    Says(90, "first values that keep variances", "Var(y) = n·Var(w)·Var(x): Var(w) = 1/n (LeCun), 2/(n + m) (Xavier), "
         "2/n before ReLU (He); orthogonal: WᵀW = I", verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (1.0, 1.0, 1.0, 1.0),
    within=0.1,  # 2·10⁵ products of one matrix of 256² weights: its own variance is known to 5·√2/256 = 3 %
)  # fmt: skip
def first_values():
    """Variance of a layer's output over that of its input; of ReLU the second moment, which is what travels."""
    n, init = 256, gc.nn.init
    kx, kw = gc.random.split(gc.random.key(90), 2)
    x = gc.random.normal(kx, (800, n))
    lecun = np.var(x @ init.lecun_normal(kw, (n, n)).T)
    xavier = np.var(x @ init.xavier_normal(kw, (n, n)).T)
    he = np.mean(np.maximum(x @ init.he_normal(kw, (n, n)).T, 0) ** 2)
    orthogonal = np.var(x @ init.orthogonal(kw, (n, n)).T)
    found = (lecun, xavier, he, orthogonal)
    return "LeCun {:.2f}, Xavier {:.2f}, He {:.2f}, orthogonal {:.2f}".format(*found), found


@entry(
    Says(91, "normalised data", "x̂_ni = (x_ni − μᵢ)/σᵢ", "x̂ = (x − μ) ⊘ s"),
    args=(array(6, 3),),
    way="value",
    reference=lambda x: (x - x.mean(0)) / x.std(0),
)
def normalised(x):
    μ = np.mean(x, axis=0)
    s = np.std(x, axis=0)
    x_hat = (x - μ) / s
    return x_hat


def _norm_by_hand(z, γ, β, G):
    """Through the mean and the variance, term by term as the book has it."""
    B, ε = len(z), 1e-5
    μ, v = z.mean(0), z.var(0)
    u = (z - μ) / np.sqrt(v + ε)
    du = G * γ
    dz = du / np.sqrt(v + ε) - du.sum(0) / (B * np.sqrt(v + ε))
    dz -= (z - μ) / (B * (v + ε) ** 1.5) * (du * (z - μ)).sum(0)
    return dz, (u * G).sum(0), G.sum(0)


@entry(
    Says(92, "batch normalisation: the easy derivatives", "dL/du = γ·dL/dẑ, dL/dγ = Σ u·dL/dẑ, dL/dβ = Σ dL/dẑ",
         "∂γ = Σᵢ (G ⊙ u)\n∂β = Σᵢ G"),
    Says(94, "and by its input, in three terms", "dL/dz = 1/s·dL/du − 1/(Bs)·Σ dL/du − (z − μ)/(Bs³)·Σ dL/du·(z − μ)",
         "∂z = (G − meanᵢ(G) − u ⊙ meanᵢ(G ⊙ u)) ⊙ γ ⊘ s"),
    args=(array(5, 3), array(3), array(3)),
    of=(0, 1, 2),
    reference=_norm_by_hand,
)  # fmt: skip
def batch_norm(z, γ, β):
    μ = np.mean(z, axis=0)
    s = np.sqrt(np.mean((z - μ) ** 2, axis=0) + 1e-5)
    u = (z - μ) / s
    ẑ = γ * u + β
    return ẑ


def _unit(z):
    return (z - z.mean()) / np.sqrt(z.var() + 1e-5)


def _unit_jacobian(z):
    return (np.eye(len(z)) - (1 + np.outer(_unit(z), _unit(z))) / len(z)) / np.sqrt(z.var() + 1e-5)


@entry(
    Says(
        93,
        "the derivatives of the normalised values",
        "du_j/dz_i = (δ_ij − 1/B − u_iu_j/B)/s",
        "∂u/∂z = (I − (𝟏𝟏ᵀ + uuᵀ)/n)/s",
        Verdict.WORSE,
        "each term has its own 1/s, which the book puts under all of them",
    ),
    args=(array(5),),
    way="jacobian",
    reference=_unit_jacobian,
)
def unit_jacobian(z):
    μ = np.mean(z)
    s = np.sqrt(np.mean((z - μ) ** 2) + 1e-5)
    u = (z - μ) / s
    return u


@entry(
    Says(
        95,
        "running mean and variance",
        "μ̄ ← αμ̄ + (1 − α)μ",
        "mean = 0.9μ̄ + 0.1·meanᵢ(x)",
        Verdict.UNREADABLE,
        "Y₂, Y₃, L and state₀ stand for the fields of the state",
    ),
    way="program",
    reference=lambda: (np.full(3, 0.1) * 4.5, np.full(3, 0.9) + 0.1 * 110 / 12),
)
def running_statistics():
    x = np.arange(10.0)[:, None] * np.ones(3)
    state = gc.nn.batch_norm_state(3)
    normed = gc.jit(lambda x, state: gc.nn.running_batch_norm(x, state, momentum=0.1))
    said = str(gc.explain(lambda x, state: gc.nn.running_batch_norm(x, state, momentum=0.1), x, state, argnums=()))
    _, after = normed(x, state)
    return said, (after.mean, after.var)


@entry(
    Says(96, "layer normalisation", "â = (a − μ)/√(σ² + δ) along each example",
         "∂a = (G ⊙ γ − meanⱼ(G ⊙ γ) − u ⊙ meanⱼ(G ⊙ u ⊙ γ)) ⊘ s\n∂γ = Σᵢ (G ⊙ u)\n∂β = Σᵢ G"),
    args=(array(4, 5), array(5), array(5)),
    of=(0, 1, 2),
    reference=lambda a, γ, β, G: _layer_norm_by_hand(a, γ, G),
)  # fmt: skip
def layer_norm(a, γ, β):
    μ = np.mean(a, axis=1, keepdims=True)
    s = np.sqrt(np.mean((a - μ) ** 2, axis=1, keepdims=True) + 1e-5)
    u = (a - μ) / s
    y = γ * u + β
    return y


def _layer_norm_by_hand(a, γ, G):
    """Example by example, with the Jacobian of one."""
    u = np.array([_unit(row) for row in a])
    da = np.array([_unit_jacobian(row).T @ (γ * g) for row, g in zip(a, G, strict=True)])
    return da, (u * G).sum(0), G.sum(0)


def normed(t):
    """(t − mean t)/√(var t + 10⁻⁵)."""
    μ = np.mean(t)
    return (t - μ) / np.sqrt(np.mean((t - μ) ** 2) + 1e-5)


def _post_norm(x, W, α=1.0):
    F = np.tanh(W @ x)
    return _unit_jacobian(α * x + F) @ (α * np.eye(len(x)) + np.diag(1 - F**2) @ W)


@entry(
    Says(
        97,
        "Post-Norm",
        "∂x⁺/∂x = J_LN·(I + ∂F/∂x)",
        "∂x_next/∂x = J_LN (I + diag(1 − F²) W)",
        Verdict.UNREADABLE,
        "the product is multiplied out",
    ),
    args=(array(4), array(4, 4)),
    way="jacobian",
    reference=_post_norm,
)
def post_norm(x, W):
    F = np.tanh(W @ x)
    t = x + F
    x_next = normed(t)
    return x_next


def _pre_norm(x, W):
    return np.eye(len(x)) + np.diag(1 - np.tanh(W @ _unit(x)) ** 2) @ W @ _unit_jacobian(x)


@entry(
    Says(
        98,
        "Pre-Norm",
        "∂x⁺/∂x = I + ∂F/∂LN·∂LN/∂x",
        "∂x_next/∂x = diag(1 − F²) W J_LN + I",
        Verdict.WORSE,
        "the Jacobian of the normalisation has no name",
    ),
    args=(array(4), array(4, 4)),
    way="jacobian",
    reference=_pre_norm,
)
def pre_norm(x, W):
    u = normed(x)
    F = np.tanh(W @ u)
    x_next = x + F
    return x_next


@entry(
    Says(99, "DeepNorm", "x⁺ = LN(αx + F(x)), ∂x⁺/∂x = J_LN·(αI + ∂F/∂x), α = (2N)^¼",
         "∂x_next/∂x = J_LN (αI + diag(1 − F²) W)", Verdict.UNREADABLE, "as 97"),
    args=(array(4), array(4, 4)),
    way="jacobian",
    reference=lambda x, W: _post_norm(x, W, 12.0**0.25),
)  # fmt: skip
def deep_norm(x, W):
    α = (2 * 6) ** 0.25
    F = np.tanh(W @ x)
    t = α * x + F
    x_next = normed(t)
    return x_next


@entry(
    Says(100, "a residual connection", "∂y/∂x = I + ∂F/∂x", "∂y/∂x = diag(1 − F²) W + I"),
    args=(array(4), array(4, 4)),
    way="jacobian",
    reference=lambda x, W: np.eye(4) + np.diag(1 - np.tanh(W @ x) ** 2) @ W,
)
def residual(x, W):
    F = np.tanh(W @ x)
    y = x + F
    return y


def _post_norm_gradient(x, W, G):
    F = np.tanh(W @ x)
    δ = (1 - F**2) * (_unit_jacobian(x + F).T @ G)
    return _post_norm(x, W).T @ G, np.outer(δ, x)


@entry(
    Says(
        101,
        "the gradients of these blocks",
        "∂L/∂x = (I + ∂F/∂x)ᵀJ_LNᵀG",
        "δ_u = (G − (Gᵀu)u/n)/s\nδ_t = δ_u − mean(δ_u)\nδ_F = δ_t ⊙ (1 − F²)\n∂x = Wᵀδ_F + δ_t",
    ),
    args=(array(4), array(4, 4)),
    of=(0, 1),
    reference=_post_norm_gradient,
)
def post_norm_gradient(x, W):
    F = np.tanh(W @ x)
    t = x + F
    μ = np.mean(t)
    s = np.sqrt(np.mean((t - μ) ** 2) + 1e-5)
    u = (t - μ) / s
    return u
