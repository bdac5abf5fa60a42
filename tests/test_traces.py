"""Evaluation traces: the tables of textbooks, and that every row is true.

A row's formula is evaluated from the rows before it, by the meaning of its formula alone, and the last rows must be the
gradient (or the product with a direction) that the derivative transforms give.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.nn as nn
from gradc.cli import main
from gradc.containers import flatten
from gradc.explain.formula import Apply
from gradc.explain.traces import EvaluationTrace, TraceRow
from gradc.explain.values import Evaluator
from gradc.graph import Graph
from gradc.node import constant
from tests.explain_models import MODELS

RANDOM = np.random.default_rng(20)


def textbook(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


REVERSE = """\
evaluation
  x₁ = 2
  x₂ = 5
  v₁ = log(x₁)    0.693147
  v₂ = x₁x₂             10
  v₃ = v₁ + v₂     10.6931
  v₄ = sin(x₂)   −0.958924
  L = v₃ − v₄      11.6521

adjoints, from the last to the first
  L̄ = 1                                      1
  v̄₄ = −L̄                                   −1
  v̄₃ = L̄                                     1
  v̄₂ = v̄₃                                    1
  v̄₁ = v̄₃                                    1
  x̄₂ = v̄₄·cos(x₂) + v̄₂x₁               1.71634
  x̄₁ = v̄₂x₂ + v̄₁/x₁                        5.5

v̄₁ is ∂L/∂v₁, and so for each value"""
FORWARD = """\
tangents                  ẋ₁ = 1    ẋ₂ = 1
  v̇₁ = ẋ₁/x₁                 0.5          0
  v̇₂ = ẋ₁x₂ + ẋ₂x₁             5          2
  v̇₃ = v̇₁ + v̇₂               5.5          2
  v̇₄ = ẋ₂·cos(x₂)              0   0.283662
  L̇ = v̇₃ − v̇₄                5.5    1.71634"""


def without_gaps(text: str) -> list[list[str]]:
    return [unicodedata.normalize("NFD", line).split() for line in text.splitlines()]


def test_the_table_of_the_literature():
    """Baydin et al., Automatic Differentiation in Machine Learning (2018), tables 2 and 3: the same rows, at (2, 5)."""
    reverse = gc.explain(textbook, 2.0, 5.0, argnums=(0, 1), trace="reverse")
    forward = gc.explain(textbook, 2.0, 5.0, argnums=(0, 1), trace="forward")
    assert without_gaps(str(reverse)) == without_gaps(REVERSE)
    assert without_gaps(str(forward).split("\n\n")[1]) == without_gaps(FORWARD)
    rows = str(reverse).split("\n\n")[1].splitlines()[1:]
    assert len({len([c for c in row if c not in "\u0304\u0307"]) for row in rows}) == 1, "numbers stand in one column"


def test_a_trace_can_be_read_anywhere():
    trace = gc.explain(textbook, 2.0, 5.0, trace="reverse")
    assert trace.text(ascii=True).isascii() and "vbar4 cos(x2)" not in trace.text(ascii=True)
    assert r"\bar{v}_{3} &= \bar{L}" in trace.latex() and trace._repr_latex_() == f"$${trace.latex()}$$"
    assert trace.mathml().startswith("<math") and "∂L/∂v₁" in trace._repr_html_() and repr(trace) == str(trace)


def test_composites_are_one_operation_and_names_are_the_users():
    def loss(W, x, y):
        z = W @ x
        p = nn.softmax(z)
        return -(y * np.log(p)).sum()

    trace = gc.explain(loss, np.eye(3), np.ones(3), np.ones(3) / 3, trace="reverse")
    assert [row.name for row in trace.evaluation] == ["z", "p", "v1", "v2", "v3", "L"]
    assert "z̄ = p ⊙ (p̄ − p̄ᵀp)" in str(trace) or "z̄ = (p̄ − p̄ᵀp) ⊙ p" in str(trace), str(trace)


#: functions that formulas call by name, of operands that are nodes
COMPOSITES = {
    "cross_entropy": nn.cross_entropy, "clip": np.clip, "gelu": nn.gelu, "silu": nn.silu, "mish": nn.mish,
    "std": lambda x, axes, **options: np.std(x, axis=axes, **options),
}  # fmt: skip


def _values(trace: EvaluationTrace, given: dict[str, Any]) -> dict[str, Any]:
    """Each row by its formula, from the inputs and what is given beside them."""
    evaluator = Evaluator({name: constant(np.asarray(a)) for name, a in given.items()}, np.float64)

    def said(row: TraceRow) -> None:
        x = row.layout.source
        assert x is not None
        if isinstance(x, Apply) and x.name in COMPOSITES:
            evaluator.symbols[row.name] = COMPOSITES[x.name](*map(evaluator.node, x.args), **x.attrs)
        else:
            evaluator.symbols.setdefault(row.name, evaluator.node(x))

    for row in (*trace.evaluation, *trace.derivative):
        said(row)
    names = list(evaluator.symbols)
    return dict(zip(names, Graph((), tuple(evaluator.symbols[n] for n in names)).evaluate(), strict=True))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", MODELS)
def test_every_row_is_true(name, mode):
    function, args, argnums = MODELS[name]
    trace = gc.explain(function, *args, argnums=argnums, trace=mode)
    graph = gc.trace(function, *args)
    leaves = [np.asarray(a) for a in flatten((args, {}))[0]]
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    wanted, others = [], dict(zip([graph.names[x] for x in graph.inputs], leaves, strict=True))
    for i in chosen:
        count, before = len(flatten((args[i],))[0]), len(flatten((args[:i], {}))[0])
        wanted += [graph.names[x] for x in graph.inputs[before : before + count]]
    given = {**others, **{symbol: np.asarray(float(size)) for symbol, size in trace.sizes.items()}}
    (y,) = graph.outputs
    seed = RANDOM.normal(size=y.shape) if y.shape else np.ones(())
    last = trace.evaluation[-1].name if not y.shape else next(r.name for r in reversed(trace.evaluation))
    if mode == "reverse":
        _, pull = gc.vjp(lambda *chosen_args: _called(function, args, chosen, chosen_args), *(args[i] for i in chosen))
        expected = flatten((pull(seed),))[0]
        found = _values(trace, {**given, f"adjoint of {last}": seed} if y.shape else given)
        for of, right in zip(wanted, expected, strict=True):
            got = found.get(f"adjoint of {of}", np.zeros(np.shape(right)))
            np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-12, err_msg=f"{of}\n{trace}")
        return
    directions = {of: RANDOM.normal(size=np.shape(others[of])) for of in wanted}
    found = _values(trace, {**given, **{f"tangent of {of}": d for of, d in directions.items()}})
    flat = iter(directions.values())
    tangents = tuple(gc.tree.map(lambda _: next(flat), args[i]) for i in chosen)
    _, right = gc.jvp(
        lambda *chosen_args: _called(function, args, chosen, chosen_args), tuple(args[i] for i in chosen), tangents
    )
    np.testing.assert_allclose(found[f"tangent of {last}"], right, rtol=1e-9, atol=1e-12, err_msg=str(trace))


def _called(function: Any, args: Any, chosen: Any, values: Any) -> Any:
    whole = list(args)
    for i, value in zip(chosen, values, strict=True):
        whole[i] = value
    return function(*whole)


def test_what_fills_an_array_says_so():
    """A scalar that is every element's adjoint is no array, nor is a vector that is each row's."""
    text = str(gc.explain(lambda X: np.exp((X * 2).sum(axis=0)).sum(), np.ones((3, 2)), trace="reverse"))
    for row in ("v̄₃ = L̄𝟏 ", "v̄₁ = 𝟏v̄₂ᵀ "):
        assert row in text
    assert "v̄₁ = L̄𝟏𝟏ᵀ " in str(gc.explain(lambda X: (X * 2).sum(), np.ones((3, 2)), trace="reverse"))


def test_what_a_prompt_shows_is_the_formula():
    found = gc.explain(lambda x: (x**2).sum(), np.ones(3))
    assert repr(found) == str(found) == "L = ‖x‖²\n\n∂L/∂x = 2x"


def test_numbers_of_a_trace_are_those_of_the_gradient():
    def f(x, y):
        a = np.exp(x) * y
        return np.sqrt(a + y**2) * np.tanh(a)

    at = (0.3, 1.7)
    trace = gc.explain(f, *at, argnums=(0, 1), trace="reverse")
    numbers = {row.name: row.numbers for row in trace.derivative}
    found = [numbers[f"adjoint of {n}"][0] for n in "xy"]
    np.testing.assert_allclose(found, gc.grad(f, (0, 1))(*at), rtol=1e-12)
    (row,) = [row for row in gc.explain(f, *at, argnums=(0, 1), trace="forward").derivative if row.name.endswith("L")]
    np.testing.assert_allclose(row.numbers, found, rtol=1e-12)
    assert gc.explain(f, gc.spec(()), gc.spec(()), trace="reverse").derivative[-1].numbers == ()


def test_a_result_that_others_are_made_of_has_its_cotangent_and_theirs():
    def two(x):
        y = x * x
        return y, np.sin(y)

    trace = gc.explain(two, np.ones(3), trace="reverse")
    assert "y\u0304 = " in str(trace) and "G is the cotangent of y, which is given" in str(trace), str(trace)


def test_loops_and_integers():
    def run(w, n):
        def step(c, x):
            return np.tanh(c * w + x), c

        c, ys = gc.scan(step, w, np.arange(4.0))
        return c * 2 + ys.sum()

    trace = gc.explain(run, 0.3, 2, trace="reverse")
    np.testing.assert_allclose(trace.derivative[-1].numbers[0], gc.grad(run)(0.3, 2), rtol=1e-12)
    assert "does not reach a result" in str(gc.explain(lambda n, x: x * 2.0, 3.0, 1.0, trace="reverse"))
    for mode in ("reverse", "forward"):  # one that does beside two that do not: gc.grad says 0 of these
        told = str(gc.explain(lambda x, y, z: x * 2.0, 3.0, 1.0, 1.0, argnums=(0, 1, 2), trace=mode))
        assert "y, z do not reach a result" in told, told


STEPS = {
    "floor(x)·x": lambda x: (np.floor(x) * x).sum(),
    "round(x) + x": lambda x: (np.round(x) + x).sum(),
    "sign(x)": lambda x: np.sign(x).sum(),
    "x as an integer": lambda x: (x.astype(int) * 1.0 + x).sum(),
}


@pytest.mark.parametrize("at", [2.5, np.array([1.5, -0.5])], ids=["number", "vector"])
@pytest.mark.parametrize("name", STEPS)
def test_what_is_constant_between_its_steps_has_the_slope_0(name, at):
    f = STEPS[name]
    slope = gc.grad(f)(at)
    reverse, forward = (gc.explain(f, at, trace=mode) for mode in ("reverse", "forward"))
    found = _values(reverse, {"x": at, **reverse.sizes})["adjoint of x"]
    np.testing.assert_allclose(np.broadcast_to(found, np.shape(at)), slope, rtol=1e-15)
    direction = np.ones_like(at)
    found = _values(forward, {"x": at, **forward.sizes, "tangent of x": direction})["tangent of L"]
    np.testing.assert_allclose(found, np.sum(slope * direction), rtol=1e-15)
    if np.ndim(at) == 0:
        assert reverse.derivative[-1].numbers == forward.derivative[-1].numbers == (float(slope),)


def test_what_cannot_be_traced_says_why():
    with pytest.raises(ValueError, match="expected 'reverse' or 'forward'"):
        gc.explain(textbook, 2.0, 5.0, trace="backward")
    with pytest.raises(ValueError, match="explain that function"):
        gc.explain(textbook, 2.0, 5.0, trace="reverse", order=2)
    step = gc.train_step(lambda p, x: ((p - x) ** 2).sum(), gc.optim.sgd(0.1))
    with pytest.raises(ValueError, match="leave out argnums, order, operator, trace"):
        gc.explain(step, np.ones(2), (), np.ones(2), trace="reverse")


MODEL = """
import numpy as np
def loss(W=np.ones((4, 3)) * 0.1, b=np.zeros(3), X=np.ones((5, 4)), y=np.arange(5)):
    r = X @ W + b
    return np.sum(r ** 2) / len(X)
"""


def test_the_command_line_asks_for_what_it_names(tmp_path, capsys):
    file = tmp_path / "model.py"
    file.write_text(MODEL)

    def said(*options: str, status: int = 0) -> str:
        assert main(["explain", f"{file}:loss", *options]) == status
        found = capsys.readouterr()
        return found.out if status == 0 else found.err

    alone = said()
    assert "∂L/∂W" in alone and "∂L/∂b" not in alone and "by W alone; --wrt b,X is by others" in alone
    both = said("--wrt", "W, b")
    assert "∂L/∂W" in both and "∂L/∂b" in both and "∂L/∂X" not in both and "alone" not in both
    assert "W̄ = Xᵀ" in said("--trace", "reverse") and "tangents" in said("--trace", "forward", "--ascii")
    assert r"\bar{W}" in said("--trace", "reverse", "--latex") and "<math" in said("--trace", "reverse", "--mathml")
    file.write_text("def loss(n=3, w=2.0, x=1.5):\n    return w * x * n\n")
    assert "by w alone; --wrt x is by others" in said()
    shapes = said("--trace", "reverse", "--arg", "x=float64[]")
    assert "x = " not in shapes and "w̄ = " in shapes, "numbers are told where arguments have some"
    file.write_text(MODEL)
    step = said("--update", "sgd(0.1, momentum=0.9)", "--wrt", "W,b")
    assert "for θ = W, b:" in step and "θ ← θ − ηm" in step and "η = 0.1" in step
    assert "∂L/∂W" in said("--jacobian")
    for options, why in [
        (("--wrt", "q"), "the arguments are W, b, X, y"),
        (("--wrt", "y"), "it holds no floats"),
        (("--trace", "reverse", "--jacobian"), "ask for one"),
        (("--update", "sgdd(0.1)"), "gradc.optim has no sgdd; nearest: sgd"),
        (("--update", "adam"), "'learning_rate'; give it its numbers, --update 'adam(1e-3)'"),
        (("--update", "__import__('os').system('true')"), "expected an optimizer"),
        (("--update", "cosine_decay_schedule(0.1, 10)"), "that is no optimizer"),
        (("--update", "sgd(0.1)", "--wrt", "b"), "trains the first arguments"),
        (("--trace", "reverse", "--html", str(tmp_path / "x.html")), "leave out --trace"),
    ]:
        assert why in said(*options, status=2), options
