"""Derivatives, gradients, the chain rule, and the four ways to find them."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array
from examples.textbook.item import Entries, Says, Verdict

entry = Entries()


@entry(
    Says(1, "the derivative as a limit", "J′(w) = lim (J(w + ε) − J(w))/ε", verdict=Verdict.MEASURED),
    Says(102, "the central difference", "J′(w) = (J(w + ε) − J(w − ε))/(2ε) + O(ε²)", verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (0.5 * -np.sin(0.5), -np.cos(0.5) / 6),
    within=1e-3,  # the next term of the series is ε·J‴/6: a part of 6·10⁻⁴ of the first
)
def differences():
    w, ε = 0.5, 1e-3
    slope = gc.grad(np.sin)(w)
    forward = (np.sin(w + ε) - np.sin(w)) / ε - slope
    central = (np.sin(w + ε) - np.sin(w - ε)) / (2 * ε) - slope
    said = f"error forward {forward:.4e} = ε·{forward / ε:.4f}\nerror central {central:.4e} = ε²·{central / ε**2:.4f}"
    return said, (forward / ε, central / ε**2)


@entry(
    Says(2, "the gradient of a function of two variables", "∇f = [∂f/∂x, ∂f/∂y]", "∂f/∂x = 2yx\n∂f/∂y = x² + 3"),
    args=(array(), array()),
    of=(0, 1),
    reference=lambda x, y: (2 * x * y, x**2 + 3),
)
def two_variables(x, y):
    f = x**2 * y + 3 * y
    return f


@entry(
    Says(3, "the chain rule", "dy/dx = dy/du · du/dx", "u = x²\n∂y/∂x = 2x·cos(u)"),
    args=(array(),),
    reference=lambda x: np.cos(x**2) * 2 * x,
)
def chain_rule(x):
    u = x**2
    y = np.sin(u)
    return y


@entry(
    Says(4, "y = x² at x = 2", "dy/dx = 2x = 4", "∂y/∂x = 2x\n4.0"),
    way="program",
    reference=lambda: 4.0,
)
def square():
    def f(x):
        y = x**2
        return y

    slope = gc.grad(f)(2.0)
    return f"{gc.explain(f, 2.0)}\n{slope}", slope


@entry(
    Says(20, "an activation f that is only named", "∂h/∂z = f′(z)", "∂z = G ⊙ f′(z)", Verdict.ABSENT,
         "a function without a body cannot be traced: the rule of a known activation is written out"),
    args=(array(4),),
    reference=lambda z, G: G * (1 - np.tanh(z) ** 2),
)  # fmt: skip
def named_activation(z):
    f = np.tanh
    h = f(z)
    return h


@entry(
    Says(21, "the slope of the sigmoid is at most a quarter", "σ′ = σ(1 − σ) ≤ ¼", "∂z = G ⊙ a ⊙ (1 − a)"),
    args=(array(5),),
    reference=lambda z, G: G * np.exp(-z) / (1 + np.exp(-z)) ** 2,
)
def sigmoid_slope(z):
    a = gc.nn.sigmoid(z)
    return a


@entry(
    Says(30, "the norm of the gradient", "‖∇J‖ = √Σ (∂J/∂θᵢ)²", "L = ‖g‖"),
    args=(array(4),),
    way="value",
    reference=lambda g: np.sqrt(np.sum(g * g)),
)
def gradient_norm(g):
    return np.linalg.norm(g)


@entry(
    Says(42, "Taylor's polynomial of second order", "E(w) ≈ E(w₀) + E′(w − w₀) + ½E″(w − w₀)²",
         verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: np.exp(0.3) / 6,
    within=2e-3,  # the next term is a quarter of d = 10⁻³ of this one; d³ in rounding 10⁻¹⁶/10⁻⁹
)  # fmt: skip
def taylor():
    w, d = 0.3, 1e-3
    e, e1, e2 = np.exp(w), gc.grad(np.exp)(w), gc.grad(gc.grad(np.exp))(w)
    left = np.exp(w + d) - (e + e1 * d + 0.5 * e2 * d**2)
    return f"what is left: {left / d**3:.3f}·d³", left / d**3


@entry(
    Says(103, "reverse mode, one adjoint for each value", "v̄ᵢ = Σⱼ v̄ⱼ·∂vⱼ/∂vᵢ",
         "v̄₄ = L̄\nv̄₃ = −L̄\nx̄₁ = v̄₂x₂ + v̄₁/x₁"),
    way="program",
    reference=lambda: (1 / 2 + 5, 2 - np.cos(5)),
)  # fmt: skip
def reverse_mode():
    def f(x1, x2):
        v1, v2, v3 = np.log(x1), x1 * x2, np.sin(x2)
        v4 = v1 + v2
        return v4 - v3

    trace = gc.explain(f, 2.0, 5.0, argnums=(0, 1), trace="reverse")
    adjoints = {row.name: row.numbers for row in trace.derivative}
    return str(trace), (*adjoints["adjoint of x1"], *adjoints["adjoint of x2"])


@entry(
    Says(104, "forward mode, one tangent for each value", "v̇ᵢ = Σⱼ v̇ⱼ·∂vᵢ/∂vⱼ",
         "v̇₂ = ẋ₁x₂ + ẋ₂x₁\nv̇₄ = v̇₁ + v̇₂"),
    way="program",
    reference=lambda: (1 / 2 + 5, 2 - np.cos(5)),
)  # fmt: skip
def forward_mode():
    def f(x1, x2):
        v1, v2, v3 = np.log(x1), x1 * x2, np.sin(x2)
        v4 = v1 + v2
        return v4 - v3

    trace = gc.explain(f, 2.0, 5.0, argnums=(0, 1), trace="forward")
    return str(trace), trace.derivative[-1].numbers


@entry(
    Says(105, "a Jacobian times a vector, in one forward pass", "J·r", "J_r = Wr ⊙ σ(Wx) ⊙ σ(−Wx)"),
    args=(array(3), array(4, 3), array(3)),
    way="value",
    reference=lambda x, W, r: (lambda a: a * (1 - a) * (W @ r))(1 / (1 + np.exp(-W @ x))),
)
def jacobian_vector(x, W, r):
    _, Jr = gc.jvp(lambda x: gc.nn.sigmoid(W @ x), (x,), (r,))
    return Jr


@entry(
    Says(
        106, "a Hessian times a vector, forward over reverse", "H·v = ∇(∇f·v)", "∂²L/∂w²·v = Xᵀ(Xv ⊙ σ(z) ⊙ (1 − σ(z)))"
    ),
    args=(array(3), array(5, 3), (gc.spec((5,)), lambda rng, size: rng.integers(0, 2, size).astype(float))),
    way="product",
    reference=lambda w, X, y, v: X.T @ (X @ v * np.exp(X @ w) / (1 + np.exp(X @ w)) ** 2),
)
def hessian_vector(w, X, y):
    z = X @ w
    L = np.sum(np.log(1 + np.exp(z)) - y * z)
    return L


@entry(
    Says(114, "detach: a value that carries no gradient", "∂/∂x [x·detach(x)] = x", "∂L/∂x = c"),
    args=(array(),),
    reference=lambda x: x**2,
)
def detached(x):
    c = gc.stop_gradient(x**2)
    L = c * x
    return L


@entry(
    Says(115, "the computational graph", "a directed graph G = (V, E) of operations and variables",
         verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (5, 5),
)  # fmt: skip
def computational_graph():
    graph = gc.trace(lambda x, w, b: np.tanh(w * x + b), 1.0, 2.0, 3.0)
    return str(graph), (graph.nx.number_of_nodes() - 1, graph.nx.number_of_edges())
