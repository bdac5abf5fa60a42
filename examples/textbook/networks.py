"""Forward passes, back-propagation layer by layer, and the rules of the single operations."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array, positive, probability
from examples.textbook.item import Entries, Says

entry = Entries()
SQUARE = tuple(array(4, 4) for _ in range(3))


def one_hot(n: int):
    """A vector with one 1."""
    return gc.spec((n,)), lambda rng, size: np.eye(size[0])[rng.integers(size[0])]


def _layers_by_hand(layers, x):
    """Back-propagation through tanh layers, as a loop."""
    h = [x]
    for W, b in layers:
        h.append(np.tanh(W @ h[-1] + b))
    up, found = h[-1], []
    for i in reversed(range(len(layers))):
        δ = up * (1 - h[i + 1] ** 2)
        found = [(np.outer(δ, h[i]), δ), *found]
        up = layers[i][0].T @ δ
    return found


@entry(
    Says(8, "the forward pass", "hₗ = fₗ(Wₗhₗ₋₁ + bₗ)", "for l = 0…4:\nzₗ = Wₗhₗ + bₗ\nhₗ₊₁ = tanh(zₗ)"),
    Says(10, "the derivative by weights and biases", "∂L/∂Wₗ = ∂L/∂hₗ·∂hₗ/∂Wₗ, ∂L/∂bₗ = ∂L/∂hₗ·∂hₗ/∂bₗ",
         "∂L/∂Wₗ = δₗhₗᵀ\n∂L/∂bₗ = δₗ"),
    Says(11, "the recursion of errors", "δₗ = Wₗ₊₁ᵀδₗ₊₁ ⊙ f′(zₗ)",
         "for l = 3…0:\nδₗ = Wₗ₊₁ᵀδₗ₊₁ ⊙ (1 − hₗ₊₁²)"),
    args=([(array(4, 4), array(4)) for _ in range(5)], array(4)),
    reference=_layers_by_hand,
)  # fmt: skip
def deep_network(layers, x):
    h = x
    for W, b in layers:
        z = W @ h + b
        h = np.tanh(z)
    L = 0.5 * np.sum(h**2)
    return L


@entry(
    Says(12, "a product of Jacobians", "∂y/∂x = ∂y/∂h₂·∂h₂/∂h₁·∂h₁/∂x",
         "∂y/∂x = diag(1 − y²) (W₃·diag(1 − h₂²)ᵀ·W₂·diag(1 − h₁²)ᵀ·W₁)"),
    args=(array(4), *SQUARE),
    way="jacobian",
    reference=lambda x, *Ws: _jacobian_by_hand(x, Ws),
)  # fmt: skip
def chain_of_jacobians(x, W1, W2, W3):
    h1 = np.tanh(W1 @ x)
    h2 = np.tanh(W2 @ h1)
    y = np.tanh(W3 @ h2)
    return y


def _jacobian_by_hand(x, Ws):
    J = np.eye(len(x))
    for W in Ws:
        x = np.tanh(W @ x)
        J = np.diag(1 - x**2) @ W @ J
    return (J,)


@entry(
    Says(13, "softmax and ReLU", "softmax(z)ᵢ = e^zᵢ/Σⱼ e^zⱼ, ReLU(z) = max(0, z)", "h = relu(z)\np = softmax(h)"),
    args=(array(5),),
    way="value",
    reference=lambda z: np.exp(np.maximum(z, 0)) / np.sum(np.exp(np.maximum(z, 0))),
)
def softmax_and_relu(z):
    h = gc.nn.relu(z)
    p = gc.nn.softmax(h)
    return p


def _three_layers_by_hand(params, x, y):
    W1, b1, W2, b2, W3, b3 = (params[n] for n in ("W1", "b1", "W2", "b2", "W3", "b3"))
    h1 = np.maximum(W1 @ x + b1, 0)
    h2 = np.maximum(W2 @ h1 + b2, 0)
    e = np.exp(W3 @ h2 + b3)
    δ3 = e / e.sum() - y
    δ2 = (W3.T @ δ3) * (h2 > 0)
    δ1 = (W2.T @ δ2) * (h1 > 0)
    return ({"W1": np.outer(δ1, x), "b1": δ1, "W2": np.outer(δ2, h1), "b2": δ2, "W3": np.outer(δ3, h2), "b3": δ3},)


@entry(
    Says(14, "the weights of the last layer", "∂L/∂W₃ = (ŷ − y)h₂ᵀ", "δ₃ = ŷ − y\n∂L/∂W₃ = δ₃h₂ᵀ"),
    Says(15, "its biases", "∂L/∂b₃ = ŷ − y", "∂L/∂b₃ = δ₃"),
    Says(16, "the weights of the layer before", "∂L/∂W₂ = (W₃ᵀ(ŷ − y) ⊙ f₂′)h₁ᵀ",
         "δ₂ = W₃ᵀδ₃ ⊙ 1[z₂ > 0]\n∂L/∂W₂ = δ₂h₁ᵀ"),
    Says(17, "its biases", "∂L/∂b₂ = W₃ᵀ(ŷ − y) ⊙ f₂′", "∂L/∂b₂ = δ₂"),
    Says(18, "the weights of the first layer", "∂L/∂W₁ = (W₂ᵀ(W₃ᵀ(ŷ − y) ⊙ f₂′) ⊙ f₁′)xᵀ",
         "δ₁ = W₂ᵀδ₂ ⊙ 1[z₁ > 0]\n∂L/∂W₁ = δ₁xᵀ"),
    Says(19, "its biases", "∂L/∂b₁ = W₂ᵀ(W₃ᵀ(ŷ − y) ⊙ f₂′) ⊙ f₁′", "∂L/∂b₁ = δ₁"),
    args=({"W1": array(6, 3), "b1": array(6), "W2": array(5, 6), "b2": array(5), "W3": array(4, 5), "b3": array(4)},
          array(3), one_hot(4)),
    reference=_three_layers_by_hand,
)  # fmt: skip
def three_layers(params, x, y):
    y = gc.assume(y, one_hot=True)
    z1 = params["W1"] @ x + params["b1"]
    h1 = gc.nn.relu(z1)
    z2 = params["W2"] @ h1 + params["b2"]
    h2 = gc.nn.relu(z2)
    z3 = params["W3"] @ h2 + params["b3"]
    ŷ = gc.nn.softmax(z3)
    L = -np.sum(y * np.log(ŷ))
    return L


@entry(
    Says(56, "the loss by the prediction", "∂loss/∂a = (a − y)/(a(1 − a))", "∂loss/∂a = (a − y)/(a(1 − a))"),
    args=(probability(), probability()),
    reference=lambda a, y: (a - y) / (a * (1 - a)),
)
def neuron_loss(a, y):
    loss = -(y * np.log(a) + (1 - y) * np.log(1 - a))
    return loss


@entry(
    Says(57, "the prediction by its argument", "∂a/∂z = a(1 − a)", "∂a/∂z = a(1 − a)"),
    args=(array(),),
    reference=lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
)
def neuron_activation(z):
    a = 1 / (1 + np.exp(-z))
    return a


@entry(
    Says(58, "the loss by the argument", "∂loss/∂z = a − y", "∂loss/∂z = a − y"),
    args=(array(), probability()),
    reference=lambda z, y: 1 / (1 + np.exp(-z)) - y,
)
def neuron(z, y):
    a = 1 / (1 + np.exp(-z))
    loss = -(y * np.log(a) + (1 - y) * np.log(1 - a))
    return loss


def _neuron_by_hand(w, b, x, y):
    δ = 1 / (1 + np.exp(-(w * x + b))) - y
    return δ * x, δ, δ * w


@entry(
    Says(59, "the loss by the weight", "∂loss/∂w = (a − y)x", "∂loss/∂w = x(a − y)"),
    Says(60, "the loss by the bias", "∂loss/∂b = a − y", "∂loss/∂b = a − y"),
    Says(61, "the loss by the input", "∂loss/∂x = (a − y)w", "∂loss/∂x = w(a − y)"),
    args=(array(), array(), array(), probability()),
    of=(0, 1, 2),
    reference=_neuron_by_hand,
)
def neuron_parameters(w, b, x, y):
    z = w * x + b
    a = 1 / (1 + np.exp(-z))
    loss = -(y * np.log(a) + (1 - y) * np.log(1 - a))
    return loss


def _neuron_step_by_hand():
    w, b, x, y = 0.5, -0.25, 1.5, 1.0
    dw, db, _ = _neuron_by_hand(w, b, x, y)
    return w - 0.1 * dw, b - 0.1 * db


@entry(
    Says(62, "the update of weight and bias", "w ← w − η·∂loss/∂w, b ← b − η·∂loss/∂b",
         "for θ = b, w:\ng = ∂loss/∂θ\nθ ← θ − ηg"),
    way="program",
    reference=_neuron_step_by_hand,
)  # fmt: skip
def neuron_update():
    def neuron(params, x, y):
        a = 1 / (1 + np.exp(-(params["w"] * x + params["b"])))
        loss = -(y * np.log(a) + (1 - y) * np.log(1 - a))
        return loss

    optimizer = gc.optim.sgd(0.1)
    params = {"w": np.array(0.5), "b": np.array(-0.25)}
    step, state = gc.train_step(neuron, optimizer, donate=False), optimizer.init(params)
    after, _, _ = step(params, state, 1.5, 1.0)
    return str(gc.explain(step, params, state, 1.5, 1.0)), (after["w"], after["b"])


@entry(
    Says(64, "a matrix product by its second factor, four indices", "∂y_ij/∂w_ab = x_ia if j = b, else 0",
         "∂Y/∂W = X ⊗ I"),
    args=(array(3, 4), array(4, 2)),
    of=(1,),
    way="jacobian",
    reference=lambda X, W: (np.einsum("ia,jb->ijab", X, np.eye(2)),),
)  # fmt: skip
def product_jacobian(X, W):
    Y = X @ W
    return Y


@entry(
    Says(65, "a matrix product with G = ∂L/∂Y", "∂L/∂X = GWᵀ, ∂L/∂W = XᵀG", "∂X = GWᵀ\n∂W = XᵀG"),
    args=(array(3, 4), array(4, 2)),
    of=(0, 1),
    reference=lambda X, W, G: (G @ W.T, X.T @ G),
)
def matrix_product(X, W):
    Y = X @ W
    return Y


@entry(
    Says(66, "a sum of matrices", "∂L/∂X = G, ∂L/∂B = G", "∂X = G\n∂B = G"),
    args=(array(3, 4), array(3, 4)),
    of=(0, 1),
    reference=lambda X, B, G: (G, G),
)
def matrix_sum(X, B):
    Y = X + B
    return Y


@entry(
    Says(67, "a bias, broadcast over the batch", "∂L/∂b = ones(1, B)·G", "∂b = Σᵢ G"),
    args=(array(3, 4), array(4)),
    of=(1,),
    reference=lambda X, b, G: np.ones(3) @ G,
)
def bias(X, b):
    Y = X + b
    return Y


@entry(
    Says(68, "the Jacobian of an elementwise function", "∂y_ij/∂x_ab = δ′(x_ab) if i = a and j = b, else 0",
         "∂y/∂x = diag(1 − y²)"),
    args=(array(4),),
    way="jacobian",
    reference=lambda x: (np.diag(1 - np.tanh(x) ** 2),),
)  # fmt: skip
def elementwise_jacobian(x):
    y = np.tanh(x)
    return y


@entry(
    Says(69, "ReLU", "∂L/∂Y = G ⊙ 1[Y > 0]", "∂Y = G ⊙ 1[Y > 0]"),
    args=(array(3, 4),),
    reference=lambda Y, G: G * (Y > 0),
)
def relu(Y):
    Z = np.maximum(0, Y)
    return Z


@entry(
    Says(70, "sigmoid", "∂L/∂Y = G ⊙ Z ⊙ (1 − Z)", "∂Y = G ⊙ Z ⊙ (1 − Z)"),
    args=(array(3, 4),),
    reference=lambda Y, G: G * np.exp(-Y) / (1 + np.exp(-Y)) ** 2,
)
def sigmoid(Y):
    Z = 1 / (1 + np.exp(-Y))
    return Z


@entry(
    Says(71, "tanh by its definition", "∂L/∂Y = G ⊙ (1 − Z²)", "∂Y = G ⊙ (1 − Z²)"),
    args=(array(3, 4),),
    reference=lambda Y, G: G / np.cosh(Y) ** 2,
)
def hyperbolic_tangent(Y):
    Z = (np.exp(Y) - np.exp(-Y)) / (np.exp(Y) + np.exp(-Y))
    return Z


@entry(
    Says(72, "power and logarithm", "∂L/∂Y = G ⊙ kY^(k−1), ∂L/∂P = G ⊘ P", "∂Y = 3G ⊙ Y²\n∂P = G ⊘ P"),
    args=(array(3, 4), positive(3, 4)),
    of=(0, 1),
    reference=lambda Y, P, G: (3 * G * Y**2, G / P),
)
def power_and_logarithm(Y, P):
    Z = Y**3 + np.log(P)
    return Z


@entry(
    Says(73, "the product of Hadamard", "∂L/∂P = G ⊙ Q", "∂P = G ⊙ Q\n∂Q = G ⊙ P"),
    args=(array(3, 4), array(3, 4)),
    of=(0, 1),
    reference=lambda P, Q, G: (G * Q, G * P),
)
def hadamard(P, Q):
    Y = P * Q
    return Y


@entry(
    Says(74, "the sum of all elements", "∂y/∂X = ones(B, D)", "∂y/∂X = 𝟏𝟏ᵀ"),
    args=(array(3, 4),),
    reference=lambda X: np.ones((3, 4)),
)
def total(X):
    y = np.sum(X)
    return y


@entry(
    Says(75, "the mean of all elements", "∂y/∂X = ones(B, D)/(BD)", "∂y/∂X = 𝟏𝟏ᵀ/n"),
    args=(array(3, 4),),
    reference=lambda X: np.full((3, 4), 1 / 12),
)
def average(X):
    y = np.mean(X)
    return y


@entry(
    Says(76, "the largest element (max-pooling)", "∂y/∂x_ij = 1 at the largest, else 0",
         "∂y/∂X = onehot(argmax(X))"),
    args=(array(3, 4),),
    reference=lambda X: (X == X.max()).astype(float),
)  # fmt: skip
def largest(X):
    y = np.max(X)
    return y


@entry(
    Says(89, "a product of slopes along depth", "∂y/∂x = Πₗ wₗσ′(zₗ)",
         "∂y/∂x = yw₃a₂w₂a₁w₁(1 − y)(1 − a₂)(1 − a₁)"),
    args=(array(), array(), array(), array()),
    reference=lambda x, *w: _slopes_by_hand(x, w),
)  # fmt: skip
def vanishing_product(x, w1, w2, w3):
    a1 = gc.nn.sigmoid(w1 * x)
    a2 = gc.nn.sigmoid(w2 * a1)
    y = gc.nn.sigmoid(w3 * a2)
    return y


def _slopes_by_hand(x, ws):
    slope = 1.0
    for w in ws:
        x = 1 / (1 + np.exp(-w * x))
        slope *= w * x * (1 - x)
    return slope
