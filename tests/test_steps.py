"""Training steps as formulas: what `gc.explain` prints of an update, and that it is what the update does.

A golden text per optimizer, for a tree of two parameters; and each optimizer's lines, read one after the other as they
are printed, give the numbers of its update.
"""

from __future__ import annotations

import cProfile
import re
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.optim as optim
from gradc.containers import leaves_of
from gradc.explain.formula import Apply, Formula
from gradc.explain.layout import Ident
from gradc.explain.steps import JOINT, Lines, Steps
from gradc.explain.values import Evaluator
from gradc.node import Node, constant

lr = 0.125
#: the optimizers, and around them what has a part in a step
CASES = {
    "sgd": "sgd(lr)",
    "momentum": "sgd(lr, momentum=0.9)",
    "sgd_nesterov": "sgd(lr, momentum=0.9, nesterov=True)",
    "momentum_average": "sgd(lr, momentum=0.9, average=True)",
    "momentum_dampened": "sgd(lr, momentum=0.9, dampening=0.25)",
    "nesterov": "nesterov(lr)",
    "sign_sgd": "sign_sgd(lr)",
    "signum": "signum(lr)",
    "optimistic_gradient_descent": "optimistic_gradient_descent(lr)",
    "asgd": "asgd(lr)",
    "rprop": "rprop(lr)",
    "quickprop": "quickprop(lr)",
    "noisy_sgd": "noisy_sgd(lr, key=0)",
    "sgld": "sgld(lr, 0)",
    "adagrad": "adagrad(lr)",
    "adadelta": "adadelta(0.5)",
    "rmsprop": "rmsprop(lr)",
    "rmsprop_outside": "rmsprop(lr, eps_in_sqrt=False)",
    "rmsprop_centered": "rmsprop(lr, centered=True, momentum=0.9)",
    "adam": "adam(lr)",
    "adamw": "adamw(lr)",
    "nadam": "nadam(lr)",
    "nadam_dozat": "nadam(lr, momentum_decay=4e-3)",
    "nadamw": "nadamw(lr)",
    "amsgrad": "amsgrad(lr)",
    "adamax": "adamax(lr)",
    "adamaxw": "adamaxw(lr)",
    "radam": "radam(lr)",
    "adabelief": "adabelief(lr)",
    "yogi": "yogi(lr)",
    "lion": "lion(lr)",
    "adan": "adan(lr)",
    "novograd": "novograd(lr)",
    "lars": "lars(lr, 1e-4)",
    "lamb": "lamb(lr, weight_decay=0.01)",
    "fromage": "fromage(lr)",
    "sm3": "sm3(lr)",
    "adafactor": "adafactor(lr)",
    "muon": "muon(lr)",
    "shampoo": "shampoo(lr)",
    "soap": "soap(lr)",
    "lbfgs": "lbfgs(memory_size=2)",
    "lbfgs_plain": "lbfgs(lr, memory_size=2, linesearch=False)",
    "prodigy": "prodigy()",
    "dadapt_adamw": "dadapt_adamw()",
    "polyak_sgd": "polyak_sgd(lr)",
    "schedule_free_sgd": "schedule_free_sgd(lr)",
    "schedule_free_adamw": "schedule_free_adamw(lr)",
    "sam": "sam(sgd(lr), sgd(0.01), opaque_mode=True)",
    "lookahead": "lookahead(sgd(lr), 5, 0.5)",
    "clipped_adamw": "chain(clip_by_global_norm(2.0), adamw(cosine_decay_schedule(0.1, 300)))",
    "clip": "chain(clip(0.5), sgd(lr))",
    "clip_by_block_rms": "chain(clip_by_block_rms(0.5), sgd(lr))",
    "adaptive_grad_clip": "chain(adaptive_grad_clip(0.01), sgd(lr))",
    "l2": "chain(add_decayed_weights(0.1), sgd(lr, momentum=0.9))",
    "l1": "chain(add_l1(0.3), sgd(lr))",
    "proximal_l1": "chain(sgd(lr), proximal_l1(0.3, lr))",
    "keep_params_nonnegative": "chain(sgd(lr), keep_params_nonnegative())",
    "projected_gradient": "projected_gradient(sgd(lr), projection_simplex)",
    "multi_steps": "multi_steps(sgd(lr), 4)",
    "apply_if_finite": "apply_if_finite(sgd(lr), 3)",
    "params_ema": "chain(adam(lr), params_ema(0.999))",
    "inject_hyperparams": "inject_hyperparams(adamw)(learning_rate=0.1)",
    "partition": 'partition({"of W": sgd(lr), "of b": adam(lr)}, {"W": "of W", "b": "of b"})',
    "linear": "sgd(linear_schedule(0.1, 0.01, 100))",
    "exponential": "sgd(exponential_decay(0.1, 10, 0.9))",
    "inverse_sqrt": "sgd(inverse_sqrt_schedule(0.1, 10))",
}  # fmt: skip
#: steps that read more than the lines say: the gradient at other parameters, draws, functions of whole trees
NOT_CLOSED = {"nesterov", "sam", "noisy_sgd", "sgld", "projected_gradient", "partition"}
NAMES = {**vars(optim), "lr": lr}


def half_square(params: Any) -> Any:
    return 0.5 * np.sum(params["W"] ** 2) + 0.5 * np.sum(params["b"] ** 2)


def the_step(text: str) -> str:
    """What an explanation says of the update."""
    return text.split("\n\n", 2)[2]


@pytest.mark.parametrize("name", CASES)
def test_the_update_of(name: str, golden: Any) -> None:
    params = {"W": np.ones((3, 2)), "b": np.ones(4)}
    optimizer = eval(CASES[name], NAMES)
    step = gc.train_step(half_square, optimizer)
    golden(f"step_{name}.txt", the_step(str(gc.explain(step, params, optimizer.init(params)))) + "\n")


#: optimizers that look at all parameters as one vector
OF_VECTORS = {
    "newton": "newton(damping=0.01)",
    "newton_plain": "newton(lr, linesearch=False)",
    "newton_trusting": 'newton(trust_region="exact")',
    "newton_truncated": 'newton(trust_region="steihaug")',
    "gauss_newton": "gauss_newton()",
    "levenberg_marquardt": "levenberg_marquardt()",
    "bfgs": "bfgs()",
    "lbfgs_zoom": 'lbfgs(memory_size=1, linesearch="zoom")',
}


def misfit(w: Any, X: Any, y: Any) -> Any:
    return X @ w - y


@pytest.mark.parametrize("name", OF_VECTORS)
def test_the_update_of_a_vector_by(name: str, golden: Any) -> None:
    optimizer, w = eval(OF_VECTORS[name], NAMES), np.ones(3)
    step = gc.train_step(optim.sum_of_squares(misfit), optimizer)
    text = str(gc.explain(step, w, optimizer.init(w), np.ones((5, 3)), np.ones(5)))
    golden(f"step_{name}.txt", the_step(text) + "\n")


class Read(Evaluator):
    """Values of formulas, and of norms and products over all parameters, where there is one."""

    def _build(self, x: Formula) -> Node:
        if isinstance(x, Apply) and x.attrs_key == JOINT:
            args = [self.node(a) for a in x.args]
            if x.name == "norm":
                return gc.numpy.linalg.vector_norm(args[0])
            if x.name == "dot":
                return gc.numpy.sum(args[0] * args[1])
            if x.name == "finite":
                return gc.numpy.all(gc.numpy.isfinite(args[0]))
            return args[0]
        if isinstance(x, Apply) and x.attrs_key[:1] == ("composite",):
            return getattr(gc.numpy, x.name)(*map(self.node, x.args), **x.attrs)
        return super()._build(x)


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_CLOSED))
def test_what_is_printed_is_what_happens(name: str) -> None:
    """The lines in their order, each name overwritten where an arrow says so, end where the update does."""
    rng = np.random.default_rng(7)
    optimizer = eval(CASES[name], NAMES)
    p = rng.normal(size=(3, 2))
    state = optimizer.init(p)
    for _ in range(3):
        u, state = optim_update(optimizer, p * np.array([1.0, 3.0]), state, p)
        p = optim.apply_updates(p, u)
    g = p * np.array([1.0, 3.0])
    steps = Steps(optimizer, p, state, [("w", Ident("w"))], Ident("L"), set())
    lines = Lines(steps, 0)
    lines.said()
    held = leaves_of(state)[0]
    leaves = dict(zip(steps.held, held, strict=True)) | {steps.params[0]: p, steps.grads[0]: g}
    counted = [held[i] for i in steps.counts]
    leaves |= {steps.count: float(counted[0]) + 1 if counted else 1.0, steps.value: loss(p)}
    leaves |= {node: value for (_, value), node in lines.reader.numbers.items()}
    now = {lines.idents[lines.symbols[x].name]: value for x, value in leaves.items() if x in lines.symbols}
    order, primed = lines.in_order()
    for line in order:
        meaning = lines.meanings[line]
        reader = Read({s: constant(np.asarray(now[lines.idents[s]])) for s in meaning.symbols}, np.float64)
        now[lines.idents[line]] = gc.trace(partial(reader.node, meaning)).evaluate()[0]
    now |= {lines.idents[old]: now[lines.idents[f"new {old}"]] for old in primed}
    u, after = optim_update(optimizer, g, state, p)
    np.testing.assert_allclose(now[steps.letter], optim.apply_updates(p, u), rtol=1e-12, atol=1e-15)
    for i, (place, x, value) in enumerate(zip(steps.places, steps.held, leaves_of(after)[0], strict=True)):
        if i not in steps.counts:
            shown = now[lines.idents[lines.symbols[x].name]]
            np.testing.assert_allclose(shown, value, rtol=1e-12, atol=1e-300, err_msg=place.name)


def loss(p: Any) -> Any:
    return 0.5 * np.sum(np.array([1.0, 3.0]) * p**2)


def optim_update(optimizer: Any, g: Any, state: Any, p: Any) -> Any:
    from gradc.optim.rules import updated

    return updated(optimizer, g, state, p, {"value": loss(p), "grad": g, "value_fn": loss})


def test_one_parameter_keeps_its_name() -> None:
    def loss(w: Any, x: Any) -> Any:
        return np.sum((x @ w) ** 2)

    optimizer = optim.adam(1e-3)
    text = gc.explain(gc.train_step(loss, optimizer), np.ones(3), optimizer.init(np.ones(3)), np.ones((5, 3)))
    assert "  " not in str(text).split("\n\n")[2]
    assert str(text).splitlines()[4:10] == [
        "g = ∂L/∂w", "m ← β₁m + (1 − β₁)g", "v ← β₂v + (1 − β₂)g²", "m̂ = m/(1 − β₁^t)", "v̂ = v/(1 − β₂^t)",
        "w ← w − ηm̂/(√v̂ + ε)",
    ]  # fmt: skip


def test_numbers_and_arrays_have_one_rule() -> None:
    """What is written does not depend on the number of axes."""
    params = {"a": np.ones(()), "b": np.ones(3), "c": np.ones((2, 3, 4))}
    optimizer = optim.chain(optim.clip_by_global_norm(2.0), optim.adamw(optim.linear_schedule(0.1, 0.01, 100)))
    text = gc.explain(gc.train_step(lambda p: sum(np.sum(x**2) for x in p.values()), optimizer), params,
                      optimizer.init(params))  # fmt: skip
    assert str(text).count("for θ = a, b, c:") == 1
    assert "  θ ← θ − η(m̂/(√v̂ + ε) + λθ)" in str(text).splitlines()


def test_layers_are_written_as_in_the_gradient() -> None:
    layers = [{"W": np.ones((3, 2)), "b": np.ones(2)}, {"W": np.ones((2, 2)), "b": np.ones(2)}]

    def loss(p: Any, x: Any) -> Any:
        return np.sum((np.tanh(x @ p[0]["W"] + p[0]["b"]) @ p[1]["W"] + p[1]["b"]) ** 2)

    text = str(gc.explain(gc.train_step(loss, optim.sgd(0.5)), layers, ((),), np.ones((4, 3))))
    assert "for θ = W₀, b₀, W₁, b₁:" in text
    assert "∂L/∂W₀" in text


def test_narrow_parameters_have_the_same_rule() -> None:
    w, optimizer = np.ones(3, np.float16), optim.adamw(1e-3)
    text = str(gc.explain(gc.train_step(lambda w: np.sum(w**2), optimizer), w, optimizer.init(w)))
    assert [line for line in text.splitlines() if "←" in line] == [
        "m ← β₁m + (1 − β₁)g", "v ← β₂v + (1 − β₂)g²", "w ← w − η(m̂/(√v̂ + ε) + λw)",
    ]  # fmt: skip


def test_the_scale_of_mixed_precision_is_a_part_of_the_gradient() -> None:
    w, optimizer = np.ones(3, np.float32), gc.mixed_precision("float16")(optim.sgd(0.5))
    text = str(gc.explain(gc.train_step(lambda w: np.sum(w**2), optimizer), w, optimizer.init(w)))
    assert "g = scale·∂L/∂w" in text
    assert "finite(g/scale)" in text.split("w ← w")[1]


def test_names_of_the_loss_stay_its_own() -> None:
    def loss(p: Any, v: Any, t: Any) -> Any:
        m = p["a"] * v
        return np.sum((m - t) ** 2) + np.sum(p["theta"])

    params = {"a": np.ones(3), "theta": np.ones(2)}
    optimizer = optim.adam(1e-3)
    text = str(gc.explain(gc.train_step(loss, optimizer), params, optimizer.init(params), np.ones(3), np.ones(3)))
    lines = [line for line in text.splitlines() if "←" in line]
    assert len(lines) == 3, text
    assert not any(re.match(r"\s*(m|v|θ) ←", line) for line in lines), text


def test_it_is_written_in_every_notation() -> None:
    optimizer = optim.chain(optim.clip_by_global_norm(2.0), optim.adam(1e-3))
    params = {"W": np.ones((3, 2)), "b": np.ones(4)}
    found = gc.explain(gc.train_step(half_square, optimizer), params, optimizer.init(params))
    assert r"\theta &\quad \leftarrow \theta - \frac{\eta \hat{m}}" in found.latex()
    assert found.text(ascii=True).isascii()
    assert "theta <- theta - eta" in found.text(ascii=True)
    assert "<mo>←</mo>" in found.mathml()


def test_what_is_no_step_is_refused() -> None:
    step = gc.train_step(half_square, optim.sgd(0.1))
    with pytest.raises(TypeError, match="takes parameters, a state and the batch, got 1 argument"):
        gc.explain(step, {"W": np.ones(2), "b": np.ones(2)})
    with pytest.raises(ValueError, match="leave out argnums, order"):
        gc.explain(step, {"W": np.ones(2), "b": np.ones(2)}, (), order=2)


def test_a_step_that_returns_parameters_alone_is_explained() -> None:
    optimizer = optim.adam(1e-3)
    params = {"W": np.ones((3, 2)), "b": np.ones(4)}
    state = optimizer.init(params)
    step = gc.train_step(half_square, optimizer)
    assert "∂W" in str(gc.explain(lambda params: step(params, state)[0], params))
    assert "∂w" in str(gc.explain(lambda w: w - 0.1 * gc.grad(lambda w: np.sum(w**2))(w), np.ones(3)))
    stateful = gc.train_step(lambda w, s: (np.sum(w**2) * s, s + 1), optim.sgd(0.5), has_state=True)
    assert "w ← w − ηg" in str(gc.explain(stateful, np.ones(3), ((),), np.ones(())))
    with_aux = gc.train_step(lambda w: (np.sum(w**2), w), optim.sgd(0.5), has_aux=True)
    assert "w ← w − ηg" in str(gc.explain(with_aux, np.ones(3), ((),)))


def test_a_profiler_counts_on_while_a_step_is_explained() -> None:
    """Neither one written in C, whose object is no function, nor one written in Python is taken off."""
    w, optimizer = np.ones(3), optim.adam(1e-3)
    step, state = gc.train_step(lambda w: np.sum(w**2), optimizer), optimizer.init(w)
    plain, profile, seen = str(gc.explain(step, w, state)), cProfile.Profile(), []
    assert profile.runcall(lambda: str(gc.explain(step, w, state))) == plain
    assert {"_adam", "said"} <= {getattr(x.code, "co_name", "") for x in profile.getstats()}

    def look(frame: Any, event: str, arg: Any) -> None:
        seen.append(frame.f_code.co_name)

    sys.setprofile(look)
    try:
        assert str(gc.explain(step, w, state)) == plain
        assert sys.getprofile() is look
    finally:
        sys.setprofile(None)
    assert {"_adam", "said"} <= set(seen)


def test_an_axis_of_length_1_is_no_reason_for_a_block_of_its_own() -> None:
    params = {"W": np.ones((2, 1, 3, 3)), "V": np.ones((1, 2, 1)), "b": np.ones(2)}
    optimizer = optim.adam(1e-3)
    step = gc.train_step(lambda p: sum(np.sum(x**2) for x in p.values()), optimizer)
    text = str(gc.explain(step, params, optimizer.init(params)))
    assert "for θ = V, W, b:" in text and "∂L/∂W = 2W" in text and "[" not in text, text


def test_a_number_is_called_as_it_was_given() -> None:
    for optimizer, name in ((optim.sgd(0.1, momentum=0.8), "momentum"), (optim.momentum(0.1, decay=0.8), "decay")):
        step = gc.train_step(lambda w: np.sum(w**2), optimizer)
        assert f"β = 0.8, {name}\n" in str(gc.explain(step, np.ones(3), optimizer.init(np.ones(3))))


def test_naming_takes_as_long_for_each_parameter_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, made, counts = optim.adam(1e-3), Lines._leaf, []
    step = gc.train_step(lambda p: sum(np.sum(x**2) for x in p), optimizer)

    def counted(*args: Any) -> str:
        counts[-1] += 1
        return made(*args)

    monkeypatch.setattr(Lines, "_leaf", counted)
    for n in (2, 4, 6):
        params = [np.ones(3)] * n
        counts.append(0)
        gc.explain(step, params, optimizer.init(params))
    assert counts[2] - counts[1] == counts[1] - counts[0]


def test_reading_leaves_the_compiled_step_as_it_is() -> None:
    """What is compiled has numbers, whether or not somebody read the step before."""
    optimizer = optim.adam(1e-3)
    w = np.ones(3)
    state = optimizer.init(w)

    def update(g: Any) -> Any:
        return optimizer.update(g, state, w)

    before = str(gc.trace(update, w))
    gc.explain(gc.train_step(lambda w: np.sum(w**2), optimizer), w, state)
    assert str(gc.trace(update, w)) == before


def test_a_model_state_is_assigned_what_the_loss_returns(golden: Any) -> None:
    def loss(p: Any, stats: Any, x: Any, y: Any) -> Any:
        h, stats = gc.nn.running_batch_norm(gc.nn.linear(x, p["w"]), stats, p["g"], p["b"])
        return gc.nn.mse_loss(h, y), stats

    p = {"w": np.ones((3, 5)), "g": np.ones(3), "b": np.zeros(3)}
    optimizer = optim.sgd(lr)
    step = gc.train_step(loss, optimizer, has_state=True)
    args = (p, optimizer.init(p), gc.nn.batch_norm_state(3), np.ones((4, 5)), np.ones((4, 3)))
    golden("step_model_state.txt", the_step(str(gc.explain(step, *args))) + "\n")


def test_lines_of_a_model_state_read_what_their_names_stand_for() -> None:
    """A value that another line reads is assigned at the end; one that stays has no line; aux is no state."""

    def loss(w: Any, held: Any, x: Any) -> Any:
        teacher = 0.9 * held["a"] + 0.1 * w
        new = {"a": teacher, "b": held["a"] + 2 * held["b"], "c": held["c"], "d": teacher * held["d"]}
        return np.sum((w - held["a"]) ** 2) * x, (new, held["a"])

    optimizer, w = optim.sgd(lr), np.ones(3)
    step = gc.train_step(loss, optimizer, has_state=True, has_aux=True)
    text = str(gc.explain(step, w, optimizer.init(w), {k: np.ones(3) for k in "abcd"}, 1.0))
    lines = [line for line in text.splitlines() if line.startswith((*"abcd", "teacher"))]
    assert lines == ["teacher = 0.9a + 0.1w", "b ← a + 2b", "d ← teacher ⊙ d", "a ← teacher"], text
