"""Optimizers: each is a compiled step that prints its rule; twenty steps lead where the rule in plain NumPy leads."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.textbook.item import Entries, Says, Verdict
from examples.textbook.training import START, STEPS, X, Y, descended, loss, slope, trained

entry = Entries()
ZERO = np.zeros_like(START)


def plain(w, t, state):
    return w - 0.1 * slope(w)


@entry(
    Says(5, "gradient descent", "θ ← θ − η∇J(θ)", "∂L/∂w = Xᵀr/n\ng = ∂L/∂w\nw ← w − ηg"),
    way="program",
    reference=lambda: descended(plain),
)
def gradient_descent():
    return trained(gc.optim.sgd(0.1))


def heavy_ball(w, t, state):
    state["v"] = 0.9 * state["v"] + slope(w)
    return w - 0.1 * state["v"]


@entry(
    Says(22, "momentum", "v ← βv + ∇f, x ← x − ηv", "m ← g + βm\nw ← w − ηm"),
    way="program",
    reference=lambda: descended(heavy_ball, v=ZERO),
)
def momentum():
    return trained(gc.optim.sgd(0.1, momentum=0.9))


def averaged(w, t, state):
    state["v"] = 0.9 * state["v"] + 0.1 * slope(w)
    return w - 0.1 * state["v"]


@entry(
    Says(31, "momentum as a running mean", "v ← βv + (1 − β)g, θ ← θ − ηv", "m ← βm + (1 − β)g\nw ← w − ηm"),
    way="program",
    reference=lambda: descended(averaged, v=ZERO),
)
def momentum_average():
    return trained(gc.optim.sgd(0.1, momentum=0.9, average=True))


def look_ahead(w, t, state):
    state["v"] = 0.9 * state["v"] + 0.1 * slope(w - 0.1 * 0.9 * state["v"])
    return w - 0.1 * state["v"]


@entry(
    Says(32, "Nesterov, the gradient ahead", "g = ∇J(θ − ηβv), v ← βv + (1 − β)g, θ ← θ − ηv",
         "ahead = w − ηβm\nm ← βm + (1 − β)·∇L(ahead)\nw ← w − ηm", Verdict.WORSE,
         "gc.optim.nesterov has v ← βv + g: the same path with the rate η(1 − β), and v in other units"),
    way="program",
    reference=lambda: descended(look_ahead, v=ZERO),
)  # fmt: skip
def nesterov():
    return trained(gc.optim.nesterov(0.1 * (1 - 0.9), momentum=0.9))


def moved(w, t, state):
    state["Δ"] = 0.9 * state["Δ"] - 0.1 * slope(w)
    return w + state["Δ"]


@entry(
    Says(54, "momentum as a step that is kept", "ΔW ← βΔW − η∇L(W), W ← W + ΔW", "ΔW ← βΔW − ηg\nW ← W + ΔW",
         Verdict.WORSE, "m = −ΔW/η is kept in its place: the same path"),
    way="program",
    reference=lambda: descended(moved, Δ=ZERO),
)  # fmt: skip
def kept_step():
    return trained(gc.optim.sgd(0.1, momentum=0.9))


def moved_ahead(w, t, state):
    state["Δ"] = 0.9 * state["Δ"] - 0.1 * slope(w + 0.9 * state["Δ"])
    return w + state["Δ"]


@entry(
    Says(55, "Nesterov as a step that is kept", "ΔW ← βΔW − η∇L(W + βΔW), W ← W + ΔW",
         "ahead = w − ηβm\nm ← βm + ∇L(ahead)\nw ← w − ηm"),
    way="program",
    reference=lambda: descended(moved_ahead, Δ=ZERO),
)  # fmt: skip
def nesterov_kept_step():
    return trained(gc.optim.nesterov(0.1, momentum=0.9))


def adagrad_by_hand(w, t, state):
    g = slope(w)
    state["s"] = state["s"] + g * g
    return w - 0.5 * g / (np.sqrt(state["s"]) + 1e-7)


@entry(
    Says(23, "AdaGrad", "s ← s + g², θ ← θ − ηg/(√s + ε)", "v ← v + g²\nw ← w − ηg/(√v + ε)"),
    way="program",
    reference=lambda: descended(adagrad_by_hand, s=ZERO),
)
def adagrad():
    return trained(gc.optim.adagrad(0.5, initial_accumulator_value=0.0, eps=1e-7, eps_in_sqrt=False))


def rmsprop_by_hand(w, t, state):
    g = slope(w)
    state["v"] = 0.9 * state["v"] + 0.1 * g * g
    return w - 0.05 * g / (np.sqrt(state["v"]) + 1e-8)


@entry(
    Says(33, "RMSProp", "E[g²] ← ρE[g²] + (1 − ρ)g², θ ← θ − ηg/(√E[g²] + ε)",
         "v ← βv + (1 − β)g²\nw ← w − ηg/(√v + ε)"),
    way="program",
    reference=lambda: descended(rmsprop_by_hand, v=ZERO),
)  # fmt: skip
def rmsprop():
    return trained(gc.optim.rmsprop(0.05, decay=0.9, eps=1e-8, eps_in_sqrt=False))


def adam_by_hand(w, t, state, decay=0.0):
    g = slope(w)
    state["m"] = 0.9 * state["m"] + 0.1 * g
    state["v"] = 0.999 * state["v"] + 0.001 * g * g
    m̂, v̂ = state["m"] / (1 - 0.9**t), state["v"] / (1 - 0.999**t)
    return w - 0.1 * (m̂ / (np.sqrt(v̂) + 1e-8) + decay * w)


ADAM = "m ← β₁m + (1 − β₁)g\nv ← β₂v + (1 − β₂)g²\nm̂ = m/(1 − β₁^t)\nv̂ = v/(1 − β₂^t)\n"


@entry(
    Says(24, "Adam", "m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), "
         "θ ← θ − ηm̂/(√v̂ + ε)", ADAM + "w ← w − ηm̂/(√v̂ + ε)"),
    Says(36, "the same as one compiled step of the library", "as 24 and 35", ADAM + "w ← w − ηm̂/(√v̂ + ε)"),
    way="program",
    reference=lambda: descended(adam_by_hand, m=ZERO, v=ZERO),
    within=1e-9,  # 1 − 0.999ᵗ loses three digits at first, and m̂/√v̂ is a quotient of what is left
)  # fmt: skip
def adam():
    return trained(gc.optim.adam(0.1))


@entry(
    Says(35, "AdamW: decay beside the gradient", "θ ← θ − η(m̂/(√v̂ + ε) + λθ)",
         ADAM + "w ← w − η(m̂/(√v̂ + ε) + λw)"),
    way="program",
    reference=lambda: descended(lambda w, t, state: adam_by_hand(w, t, state, 0.01), m=ZERO, v=ZERO),
    within=1e-9,
)  # fmt: skip
def adamw():
    return trained(gc.optim.adamw(0.1, weight_decay=0.01))


@entry(
    Says(34, "what bias correction corrects", "E[mₜ] = (1 − β)Σᵢ βᵗ⁻ⁱ E[gᵢ] = (1 − βᵗ)μ", verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (1 - 0.9 ** np.arange(1, 6), np.ones(5)),
    within=0.02,  # means of 10⁵ draws of deviation 1: five deviations are 0.016
)
def bias_correction():
    μ, m, raw = 1.0, 0.0, []
    for key in gc.random.split(gc.random.key(0), 5):
        g = μ + gc.random.normal(key, (100_000,))
        m = 0.9 * m + 0.1 * g
        raw.append(np.mean(m))
    mended = np.array(raw) / (1 - 0.9 ** np.arange(1, 6))
    return f"mean of m     {np.round(raw, 2)}\nmean of m̂     {np.round(mended, 2)}", (np.array(raw), mended)


def penalised(w, t, state):
    return w - 0.1 * (slope(w) + 0.05 * np.sign(w))


@entry(
    Says(37, "L1: the sign of the weights beside the gradient", "L₁ = L + λΣ|wᵢ|, ∇L₁ = ∇L + λ sign w",
         "w ← w − η(g + λ·sign(w))"),
    way="program",
    reference=lambda: descended(penalised),
)  # fmt: skip
def lasso():
    return trained(gc.optim.chain(gc.optim.add_l1(0.05), gc.optim.sgd(0.1)))


def decayed(w, t, state):
    return w - 0.1 * (slope(w) + 2 * 0.05 * w)


@entry(
    Says(38, "L2: the weights beside the gradient", "L₂ = L + λΣwᵢ², ∇L₂ = ∇L + 2λw", "∂L/∂w = Xᵀr/n + 0.1w"),
    way="program",
    reference=lambda: descended(decayed),
)
def ridge():
    def penalised(w, X, y):
        λ = 0.05
        r = X @ w - y
        L = 0.5 * np.mean(r**2) + λ * np.sum(w**2)
        return L

    return trained(gc.optim.sgd(0.1), penalised)


RATES = [0.1 * t / 5 if t < 5 else 0.05 * (1 + np.cos(np.pi * (t - 5) / 15)) for t in range(STEPS)]


@entry(
    Says(26, "warm-up and cosine decay", "η = η_max·t/T₀, then ½η_max(1 + cos(π(t − T₀)/(T − T₀)))",
         verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (np.array(RATES), descended(lambda w, t, state: w - RATES[t - 1] * slope(w))),
)  # fmt: skip
def schedule():
    rate = gc.optim.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=5, decay_steps=20)
    said, w = trained(gc.optim.sgd(rate))
    rates = np.array([rate(t) for t in range(20)])
    return f"{said}\n\nη of twenty steps: {np.round(rates, 3)}", (rates, w)


def clipped(w, t, state):
    g = slope(w)
    return w - 0.1 * g * min(1.0, 0.5 / np.linalg.norm(g))


@entry(
    Says(
        27,
        "clipping a gradient by its norm",
        "g ← g·min(1, c/‖g‖)",
        "g ← g·min(1, c/‖g‖)",
        Verdict.WORSE,
        "the minimum is written as cases, one of them for a norm of 0",
    ),
    way="program",
    reference=lambda: descended(clipped),
)
def clip():
    return trained(gc.optim.chain(gc.optim.clip_by_global_norm(0.5), gc.optim.sgd(0.1)))


@entry(
    Says(28, "accumulating gradients", "g = 1/k Σ gᵢ, one update after k passes", verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: START - 0.1 * slope(START),
)
def accumulation():
    optimizer = gc.optim.multi_steps(gc.optim.sgd(0.1), 4)
    w, state = START.copy(), optimizer.init(START)
    step = gc.train_step(loss, optimizer)
    said = str(gc.explain(step, w, state, X[:2], Y[:2]))
    for part in range(0, 8, 2):
        w, state, _ = step(w, state, X[part : part + 2], Y[part : part + 2])
    return said, w


@entry(
    Says(29, "a constraint g(x) ≤ 0 (support vector machine)", "min ½‖w‖² s.t. 1 − yᵢ(w·xᵢ + b) ≤ 0",
         verdict=Verdict.MEASURED),
    way="program",
    reference=lambda: (np.array([0.5, 0.5]), 0.0),
    within=1e-3,  # the penalty's minimum lies within 1/penalty of the constrained one
)  # fmt: skip
def margin():
    points, sides = np.array([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0], [-2.0, 0.0]]), np.array([1.0, 1.0, -1.0, -1.0])

    def penalised(wb):
        w, b = wb[:2], wb[2]
        violation = gc.nn.relu(1 - sides * (points @ w + b))
        return 0.5 * np.sum(w**2) + 1000.0 * np.sum(violation**2)

    wb = gc.minimize(penalised, np.zeros(3)).x
    said = str(gc.explain(penalised, np.zeros(3)))
    return f"{said}\n\nw = {np.round(wb[:2], 3)}, b = {abs(wb[2]):.3f}", (wb[:2], wb[2])


def rprop_by_hand(w, t, state):
    g = slope(w)
    same = g * state["old"]
    state["d"] = np.clip(np.where(same > 0, 1.2, np.where(same < 0, 0.5, 1.0)) * state["d"], 1e-6, 50.0)
    g = np.where(same < 0, 0.0, g)
    state["old"] = g
    return w - state["d"] * np.sign(g)


@entry(
    Says(52, "Rprop: the sign alone counts", "Δ ← αΔ if gradients agree in sign, else βΔ; w ← w − Δ·sign g",
         "d ← where(same = 0, d, grown)\nw ← w − d·sign(g_old)"),
    way="program",
    reference=lambda: descended(rprop_by_hand, d=np.full(3, 0.1), old=ZERO),
)  # fmt: skip
def rprop():
    return trained(gc.optim.rprop(0.1))


@entry(
    Says(53, "QuickProp: a parabola through two slopes", "Δw ← −E′·Δw/(E′ − E′_old)",
         "Δw ← −g·Δw/(g − g_old)", Verdict.WORSE, "Fahlman's guards against rising slopes and long jumps stand "
         "around the quotient"),
    way="program",
    reference=lambda: np.array([0.5]),
)  # fmt: skip
def quickprop():
    """On a parabola the third step stands at its minimum."""

    def parabola(w, X, y):
        E = np.sum(1.5 * (w - 0.5) ** 2)
        return E

    return trained(gc.optim.quickprop(0.2), parabola, np.array([1.0]))


def lars_by_hand(w, t, state):
    g = slope(w) + 1e-4 * w
    ratio = 0.001 * np.linalg.norm(w) / np.linalg.norm(g)
    state["m"] = 0.9 * state["m"] - 10.0 * ratio * g
    return w + state["m"]


@entry(
    Says(107, "LARS: a trust ratio for each layer", "λ = η‖w‖/(‖∇L‖ + β‖w‖), Δw = γλ∇L", "λ = η‖w‖/(‖g‖ + β‖w‖)",
         Verdict.WORSE, "the norm of g + βw stands for ‖g‖ + β‖w‖, and a case for norms that are 0 around it"),
    way="program",
    reference=lambda: descended(lars_by_hand, m=ZERO),
)  # fmt: skip
def lars():
    return trained(gc.optim.lars(10.0, 1e-4))


def lamb_by_hand(w, t, state):
    g = slope(w)
    state["m"] = 0.9 * state["m"] + 0.1 * g
    state["v"] = 0.999 * state["v"] + 0.001 * g * g
    r = state["m"] / (1 - 0.9**t) / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-6) + 0.01 * w
    return w - 0.1 * np.linalg.norm(w) / np.linalg.norm(r) * r


@entry(
    Says(108, "LAMB: Adam's direction, as long as the weights", "r = m̂/(√v̂ + ε) + λw, w ← w − η·‖w‖/‖r‖·r",
         "r = m̂/(√v̂ + ε) + λw\nw ← w − η·(‖w‖/‖r‖)·r", Verdict.WORSE,
         "r is called u, and a case for norms that are 0 stands around the ratio"),
    way="program",
    reference=lambda: descended(lamb_by_hand, m=ZERO, v=ZERO),
    within=1e-9,
)  # fmt: skip
def lamb():
    return trained(gc.optim.lamb(0.1, weight_decay=0.01))


@entry(
    Says(110, "Langevin dynamics", "Δw = −η/2·∇E + √η·N(0, I)", "deviation = √η\nw ← w − ½ηg + deviation·ξ"),
    way="program",
    reference=lambda: (0.0, 0.01),
    within=0.05,  # 2·10⁴ draws: of their variance 0.01 five deviations are 5·√(2/n) = 5 %
)
def langevin():
    """One step from 0 on a flat loss: what moves is the noise."""

    def flat(w, X, y):
        E = 0.0 * np.sum(w)
        return E

    optimizer, many = gc.optim.sgld(0.01, 0), np.zeros(20_000)
    said = str(gc.explain(gc.train_step(loss, optimizer), START, optimizer.init(START), X, Y))
    w, _, _ = gc.train_step(flat, optimizer)(many, optimizer.init(many), X, Y)
    return f"{said}\n\nvariance of w: {np.var(w):.2g} = η", (np.round(np.mean(w), 2), np.var(w))


@entry(
    Says(25, "L-BFGS in two loops", "d = −H·g with H from the last pairs (s, y)", "d = −Hg", Verdict.WORSE,
         "the two loops are written out pair by pair, with guards for the first step"),
    way="program",
    reference=lambda: np.linalg.lstsq(X, Y, rcond=None)[0],
    within=1e-6,  # a gradient of 10⁻⁸ over the least eigenvalue of XᵀX/n, about 0.1
)  # fmt: skip
def lbfgs():
    return trained(gc.optim.lbfgs(memory_size=2))


def bfgs_by_hand():
    """The inverse Hessian after two steps along s with y, from the formula."""
    D, s, y = np.eye(3), np.array([1.0, 0.5, -0.25]), np.array([2.0, 0.25, 0.5])
    ρ = 1 / (y @ s)
    return (np.eye(3) - ρ * np.outer(s, y)) @ D @ (np.eye(3) - ρ * np.outer(y, s)) + ρ * np.outer(s, s)


@entry(
    Says(
        109,
        "the update of BFGS",
        "D ← (I − ρsyᵀ)D(I − ρysᵀ) + ρssᵀ, ρ = 1/(yᵀs)",
        "ρ = 1/(yᵀs)\nleft = I − ρsyᵀ\nD_next = left·D·leftᵀ + ρssᵀ",
    ),
    way="program",
    reference=bfgs_by_hand,
)
def bfgs():
    def update(D, s, y):
        ρ = 1 / (y @ s)
        left = np.eye(3) - ρ * np.outer(s, y)
        D_next = left @ D @ left.T + ρ * np.outer(s, s)
        return D_next

    D, s, y = np.eye(3), np.array([1.0, 0.5, -0.25]), np.array([2.0, 0.25, 0.5])
    return str(gc.explain(update, D, s, y, argnums=())), gc.jit(update)(D, s, y)
