"""Derivations: what is printed, that it is true, and where each piece comes from.

Every row of `explain_models.MODELS` is held against golden text and evaluated: the graph of the displayed formulas on
random inputs against reverse mode on the function as the user wrote it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gradc as gc
import gradc.nn as nn
from gradc.containers import flatten
from gradc.diff.modes import pull_back
from gradc.errors import TraceError
from gradc.explain import Derivation, explain
from gradc.explain.layout import Ident
from gradc.explain.naming import written
from gradc.graph import Graph
from gradc.ops.leaves import full
from gradc.passes import FORWARD, run_passes
from gradc.trace import trace
from tests.explain_models import CHOICES, LABELS, MODELS, ONEHOT, Model, normal
from tests.work import calls

#: both sides add and multiply the same fewer than 10⁴ numbers of order one, each with a relative rounding of 2⁻⁵³
TOLERANCE = 1e-12


def derive(model: Model) -> Derivation:
    return explain(model.function, *model.args, argnums=model.argnums)


# -- what is printed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    derivation = derive(MODELS[name])
    text = f"{derivation}\n\n{derivation.text(ascii=True)}\n\n{derivation.latex()}"
    golden(f"explain_{name}.txt", re.sub(r"(explain_models\.py):\d+", r"\1", text))


def lines_of(derivation: Derivation) -> dict[str, str]:
    """The right-hand side of each line of the text."""
    shown = [line.split(" = ", 1) for line in str(derivation).splitlines() if " = " in line]
    return dict(shown)


def test_the_textbook_derivation_of_a_network() -> None:
    lines = lines_of(derive(MODELS["two_layers"]))
    expected = {
        "z₁": "XW₁ + b₁", "h": "relu(z₁)", "z₂": "hW₂ + b₂", "L": "cross_entropy(z₂, y)", "p": "softmax(z₂)",
        "δ₂": "(p − onehot(y))/n", "∂L/∂W₂": "hᵀδ₂", "∂L/∂b₂": "Σᵢ δ₂", "δ₁": "δ₂W₂ᵀ ⊙ 1[z₁ > 0]",
        "∂L/∂W₁": "Xᵀδ₁", "∂L/∂b₁": "Σᵢ δ₁", "n": "5",
    }  # fmt: skip
    assert lines == expected


@pytest.mark.parametrize(
    ("name", "gradients"),
    {
        "sine_times_x": ["x·cos(x) + sin(x)"],
        "squared_distance": ["X − Y", "Y − X"],
        "matrix_product": ["GWᵀ", "XᵀG"],
        "sigmoid": ["G ⊙ Z ⊙ (1 − Z)"],
        "tanh": ["G ⊙ (1 − Z²)"],
        "power": ["kG ⊙ x^(k − 1)", "Σ (G ⊙ log(x) ⊙ x^k)"],
        "logarithm": ["G ⊘ Y"],
        "mean": ["𝟏𝟏ᵀ/n"],
        "maximum": ["onehot(argmax(X))"],
        "softmax": ["p ⊙ (G − Gᵀp)"],
        "cross_entropy_of_p": ["−y ⊘ p"],
        "cross_entropy_integer": ["(p − onehot(y))/n"],
        "cross_entropy_onehot": ["(p − Y)/n"],
        "cross_entropy_naive": ["(p − onehot(y))/n"],
        "logistic_loss": ["Xᵀ(σ(z) − y)/n"],
        "quadratic_form": ["(A + Aᵀ)x", "xxᵀ"],
        "quadratic": ["½(A + Aᵀ)w + b"],
        "ridge": ["Xᵀ(Xw − y) + λw"],
        "lasso": ["Xᵀ(Xw − y) + λ·sign(w)"],
        "trace_of_product": ["BᵀXᵀ", "AᵀBᵀ", "XᵀAᵀ"],
        "rosenbrock": ["400x(x² − y) + 2(x − 1)", "200(y − x²)"],
        "standard_deviation": ["t/(n·√(‖t‖²/n))"],
    }.items(),
)
def test_gradients_read_as_in_a_textbook(name: str, gradients: list[str]) -> None:
    assert [right for left, right in lines_of(derive(MODELS[name])).items() if "∂" in left] == gradients


def test_ascii_is_ascii() -> None:
    for model in MODELS.values():
        derive(model).text(ascii=True, lines=True).encode("ascii")


def test_latex_is_balanced() -> None:
    for model in MODELS.values():
        source = derive(model).latex()
        assert source.count("{") == source.count("}")
        assert source.count(r"\left") == source.count(r"\right")
        assert source.isascii(), source
        assert not re.search(r"_(\w|\{[^{}]*\})_", source.replace(r"\_", "")), f"double subscript: {source}"


def test_long_formulas_break_at_the_width() -> None:
    derivation = derive(MODELS["layer_norm"])
    broken = derivation.text(width=40)
    assert max(map(len, broken.splitlines())) <= 40 < max(map(len, derivation.text().splitlines()))
    assert broken.replace(" ", "").replace("\n", "") == derivation.text().replace(" ", "").replace("\n", "")


def test_names() -> None:
    assert written("W12") == Ident("W", "12")
    assert written("b_1") == Ident("b", "1")
    assert written("W_Q") == Ident("W", "Q")
    assert written("log_p") == Ident("log_p")
    assert written("x") == Ident("x")
    assert written("params[0].w") == Ident("params[0].w")


# -- it is true --------------------------------------------------------------------------------------------------------


def reverse_mode(model: Model, displayed: Graph, arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
    """The wanted gradients of the traced function by reverse mode, at the inputs of the displayed graph."""
    graph = run_passes(trace(model.function, *model.args), FORWARD)
    _, paths, _ = flatten((model.args, {}))
    chosen = (model.argnums,) if isinstance(model.argnums, int) else model.argnums
    wanted = [x for n in chosen for x, path in zip(graph.inputs, paths, strict=True) if path[:2] == (0, n)]
    extra = displayed.inputs[len(graph.inputs) :]
    outputs = [y for y in graph.outputs if y.aval.is_float]
    seeds = list(extra) or [full((), 1, outputs[0].dtype)]
    pulled = pull_back(outputs, wanted, seeds)
    found = [full(x.shape, 0, x.dtype) if ct is None else ct for x, ct in zip(wanted, pulled, strict=True)]
    return Graph((*graph.inputs, *extra), tuple(found)).evaluate(*arrays)


def compare(model: Model) -> None:
    displayed = derive(model).graph
    given = flatten((model.args, {}))[0]
    extra = displayed.inputs[len(given) :]
    arrays = [*given, *(normal(*x.shape).astype(x.dtype) for x in extra)]
    for mine, reference in zip(displayed.evaluate(*arrays), reverse_mode(model, displayed, arrays), strict=True):
        scale = max(1.0, float(np.max(np.abs(reference), initial=0)))
        np.testing.assert_allclose(mine, reference, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", MODELS)
def test_the_displayed_formulas_are_the_gradient(name: str) -> None:
    compare(MODELS[name])


def test_single_precision() -> None:
    args = (normal(3).astype("f4"), normal(5, 3).astype("f4"), normal(5).astype("f4"), np.float32(0.5))
    displayed = explain(MODELS["ridge"].function, *args).graph
    assert [y.dtype for y in displayed.outputs] == [np.float32]
    w, X, y, lam = args
    np.testing.assert_allclose(displayed.evaluate(*args)[0], X.T @ (X @ w - y) + lam * w, rtol=1e-5)


def test_zero_size() -> None:
    compare(Model(lambda x: (x * x).sum(), (np.zeros((0, 3)),)))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1)])
def test_a_name_of_more_or_fewer_axes(shape: tuple[int, ...]) -> None:
    """A sum of one element is that element: what has its name may have other axes."""

    def rectified(x: Any) -> Any:
        v = nn.relu(x)
        return np.sum(v)

    compare(Model(rectified, (normal(*shape),)))
    compare(Model(lambda x: np.sum(np.exp(nn.relu(x)) + nn.relu(np.sum(x))), (normal(*shape),)))


def test_several_results() -> None:
    model = Model(lambda x: (x.sum(), x * x), (normal(3),))
    assert "∂x = G + 2G₂ ⊙ x" in str(derive(model))
    compare(model)


# -- reasons, conventions, places --------------------------------------------------------------------------------------


def test_a_zero_gradient_says_why() -> None:
    text = str(explain(lambda x, y, i: np.sum(np.round(x)) + i[0], normal(3), normal(3), LABELS, argnums=(0, 1, 2)))
    assert "∂L/∂x = 0   (x reaches L only through rint (test_explain.py:" in text
    assert "∂L/∂y = 0   (L does not depend on y)" in text
    assert "∂L/∂i = 0   (i is int64: integers and bools have no tangent)" in text


def test_conventions_and_stable_forms_are_declared() -> None:
    assert "at singular points, relu: 0 at 0" in str(derive(MODELS["two_layers"]))
    assert "at singular points, norm: 0 where the norm is 0" in str(derive(MODELS["distance"]))
    assert "became logsumexp(x)" in str(derive(MODELS["log_sum_exp"]))


def test_what_is_not_needed_is_not_shown() -> None:
    def model(w: Any, X: Any, y: Any) -> Any:
        scores = X @ w
        accuracy = np.mean((scores > 0) == y)  # noqa: F841
        return np.mean((scores - y) ** 2)

    assert "accuracy" not in str(explain(model, normal(3), normal(5, 3), CHOICES))


def test_lines_know_their_nodes_and_source() -> None:
    def model(w: Any, X: Any) -> Any:
        z = X @ w
        return np.sum(np.tanh(z))

    first = model.__code__.co_firstlineno
    derivation = explain(model, normal(3), normal(5, 3))
    assert [place.line for place in derivation.line("z").where] == [first + 1]
    gradient = derivation.line("w")
    assert gradient.nodes <= set(derivation.compiled.nodes)
    assert {place.line for node in gradient.nodes for place in [node.where] if place} == {first + 1, first + 2}
    assert f"# test_explain.py:{first + 1}" in derivation.text(lines=True)
    with pytest.raises(KeyError, match="no line for 'nothing'"):
        derivation.line("nothing")


def test_extents_are_named_and_do_not_clash() -> None:
    assert "m = 5" in str(explain(lambda n: np.mean(n), normal(5)))
    assert "n = " not in str(explain(lambda x: x.sum() / 7, normal(5)))


def test_the_users_names_are_kept() -> None:
    def model(δ: Any, t: Any, p: Any) -> Any:
        z = nn.softmax(δ * t)
        return np.sum(z * p)

    derivation = explain(model, normal(3), normal(3), normal(3), argnums=(0, 1, 2))
    assert len({str(line.target) for line in derivation.lines}) == len(derivation.lines)


def test_an_argument_without_arrays_is_refused() -> None:
    with pytest.raises(TraceError, match="argnums=3"):
        explain(lambda x: x, 1.0, argnums=3)


# -- facts that the user declares --------------------------------------------------------------------------------------


def quadratic(w: Any, A: Any, b: Any) -> Any:
    A = gc.assume(A, symmetric=True)
    return 0.5 * w @ A @ w + b @ w


QUADRATIC = (normal(3), (lambda half: half + half.T)(normal(3, 3)), normal(3))


def test_a_declared_fact_is_used_and_printed_under_its_formula() -> None:
    derivation = explain(quadratic, *QUADRATIC, argnums=(0, 1))
    assert str(derivation).split("\n\n")[1] == "∂L/∂w = Aw + b\n  A is symmetric\n∂L/∂A = ½wwᵀ"
    assert derivation.text(ascii=True).isascii()
    assert r"\quad A \text{ is symmetric}" in derivation.latex()
    assert "is symmetric" in derivation.mathml()
    assert [fact for line in derivation.lines for fact in line.facts] == [(Ident("A"), "is symmetric")]


def test_a_fact_that_no_formula_needs_is_not_printed() -> None:
    def model(x: Any, A: Any) -> Any:
        return gc.assume(A, symmetric=True) @ x

    assert "symmetric" not in str(explain(model, normal(3), QUADRATIC[1], argnums=1))


def test_a_fact_changes_no_value_and_no_derivative_and_compiles_to_nothing() -> None:
    def plain(w: Any, A: Any, b: Any) -> Any:
        return 0.5 * w @ A @ w + b @ w

    asymmetric = (QUADRATIC[0], normal(3, 3), QUADRATIC[2])
    assert quadratic(*asymmetric) == plain(*asymmetric)
    for argnum in (0, 1):
        mine, reference = (gc.grad(f, argnum)(*asymmetric) for f in (quadratic, plain))
        np.testing.assert_array_equal(mine, reference)
    ops = {node.op.name for node in gc.jit(quadratic).lower(*QUADRATIC).graph.nodes}
    assert ops == {node.op.name for node in gc.jit(plain).lower(*QUADRATIC).graph.nodes}


def test_one_hot_and_positive_and_diagonal() -> None:
    def entropy(z: Any, y: Any) -> Any:
        y = gc.assume(y, one_hot=True)
        return -np.mean(np.sum(y * np.log(nn.softmax(z)), axis=1))

    assert "(p − y)/n\n  y is one-hot" in str(explain(entropy, normal(5, 4), ONEHOT))

    def root(x: Any) -> Any:
        x = gc.assume(x, positive=True)
        return np.sum(np.sqrt(x**2) + nn.relu(x))

    assert "∂L/∂x = 2𝟏\n  x is positive" in str(explain(root, normal(3)))

    def stretched(x: Any, D: Any) -> Any:
        D = gc.assume(D, diagonal=True)
        return x @ D @ x

    assert "∂L/∂x = 2Dx\n  D is diagonal" in str(explain(stretched, normal(3), np.diag(normal(3))))


def test_facts_of_computed_quantities() -> None:
    def model(x: Any, M: Any) -> Any:
        A = gc.assume(np.tanh(M) + np.tanh(M).T, symmetric=True)
        return x @ A @ x

    assert "∂L/∂x = 2Ax\n  A is symmetric" in str(explain(model, normal(3), normal(3, 3)))


@pytest.mark.parametrize(
    ("fact", "shape", "words"),
    [
        ("sparse", (3, 3), "no fact 'sparse'; there are symmetric"),
        ("symmetric", (3, 4), "needs a square matrix, got"),
        ("diagonal", (3,), "needs a square matrix, got"),
        ("one_hot", (), "needs an axis of classes, got"),
    ],
)
def test_a_fact_that_cannot_be_is_refused(fact: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(gc.GradcError, match=words):
        gc.trace(lambda x: gc.assume(x, **{fact: True}), gc.spec(shape))


def test_facts_are_of_floats() -> None:
    with pytest.raises(gc.DTypeError, match="array of floats"):
        gc.trace(lambda x: gc.assume(x, positive=True), np.arange(3))


# -- MathML ------------------------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """The signs of a formula in their order, however they are set: no brackets, bars of fractions or dots."""
    plain = unicodedata.normalize("NFKC", text.replace("⊤", "T").replace("√", "").replace("∑", "Σ").replace("⋅", "·"))
    return re.sub(r"[\s()/·_^\u2061\u2062|]", "", plain.replace("ᵀ", "T").replace("½", "1⁄2").replace("⁄", ""))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MODELS)
def test_mathml_is_well_formed(name: str) -> None:
    derivation = derive(MODELS[name])
    root = ElementTree.fromstring(derivation.mathml())
    assert root.tag == "{http://www.w3.org/1998/Math/MathML}math"
    rows = list(root.iter("{http://www.w3.org/1998/Math/MathML}mtr"))
    assert len(rows) == len(derivation.lines)
    ElementTree.fromstring(derivation._repr_html_().replace("<br>", "<br/>"))


@pytest.mark.parametrize("name", ["two_layers", "quadratic", "softmax_rows", "attention", "ridge", "tensor_product"])
def test_mathml_shows_the_signs_of_the_text(name: str) -> None:
    derivation = derive(MODELS[name])
    rows = ElementTree.fromstring(derivation.mathml()).iter("{http://www.w3.org/1998/Math/MathML}mtr")
    shown = [visible("".join(row.itertext())) for row in rows]
    text = [line for line in str(derivation).split("\n") if " = " in line]
    assert [visible(line) for line in text][: len(shown)] == shown


# -- speed -------------------------------------------------------------------------------------------------------------


def test_the_work_grows_with_the_length_of_a_loop() -> None:
    def work(steps: int) -> int:
        def newton(x: Any, a: Any) -> Any:
            for _ in range(steps):
                x = x - a * (x**2 - 2) / (2 * x)
            return x

        return calls(lambda: str(explain(newton, 1.3, 0.1)))

    work(5)  # what is done on first use
    assert work(32) < 8 * work(8), "four times the steps: linear is 4, quadratic 16"


def deep(layers: Any, X: Any, y: Any) -> Any:
    h = X
    for W, b in layers[:-1]:
        h = nn.relu(h @ W + b)
    W, b = layers[-1]
    return nn.cross_entropy(h @ W + b, y)


def square_layers(count: int) -> list[tuple[Any, Any]]:
    return [(normal(8, 8), normal(8)) for _ in range(count)]


def test_the_work_grows_with_the_depth_of_a_network() -> None:
    def work(depth: int) -> int:
        layers = square_layers(depth)
        return calls(lambda: str(explain(deep, layers, normal(5, 8), LABELS)))

    work(2)  # what is done on first use
    assert work(12) < 6 * work(4), "three times the layers: linear is 3, quadratic 9"


def test_a_deep_network_is_a_page() -> None:
    text = str(explain(deep, square_layers(12), normal(5, 8), LABELS))
    assert "δ = (p − onehot(y))/n" in text
    assert len(text.splitlines()) < 25


def test_a_named_value_that_was_made_stable_keeps_its_name_in_the_gradient():
    """log(a) of a sigmoid a becomes a softplus, but a stays a: the error of a neuron is a − y."""

    def loss(w, b, x, y):
        a = 1 / (1 + np.exp(-(w * x + b)))
        L = -(y * np.log(a) + (1 - y) * np.log(1 - a))
        return L

    text = str(gc.explain(loss, 0.5, 0.1, 2.0, 1.0, argnums=(0, 1)))
    assert "∂L/∂w = x(a − y)\n∂L/∂b = a − y\n" in text


def test_a_cotangent_that_is_a_derivative_itself_has_a_name():
    """δ₁ is read by ∂L/∂W₁ and is ∂L/∂b₁; nothing else reads it."""

    def loss(W1, b1, W2, x):
        z1 = W1 @ x + b1
        h1 = np.maximum(z1, 0)
        L = 0.5 * np.sum((W2 @ h1) ** 2)
        return L

    shapes = (4, 3), (4,), (2, 4), (3,)
    text = str(gc.explain(loss, *map(gc.spec, shapes), argnums=(0, 1)))
    assert "∂L/∂W₁ = δ₁xᵀ\n∂L/∂b₁ = δ₁\n" in text


def test_half_the_square_of_two_elements_is_no_mean():
    """A ½ is what the user wrote; the count of a mean of two is n."""
    assert str(gc.explain(lambda w: 0.5 * np.sum(w**2), np.ones(2), argnums=())) == "L = ½‖w‖²"
    assert str(gc.explain(lambda w: np.mean(w**2), np.ones(2), argnums=())).startswith("L = ‖w‖²/n\n")


def test_constants_of_narrow_dtypes_are_those_that_were_meant() -> None:
    """The nearest float32 to a fraction, a short decimal or √2 is read as that, and formulas are those of float64."""
    from gradc.explain.lift import exact

    known = [1 / 3, -2 / 3, 0.1, 0.999, 1e-8, 0.044715, 1 / 784, 0.5**0.5, 2**0.5, (2 * math.pi) ** -0.5, math.log(2)]
    assert [float(exact(np.float32(x), np.dtype(np.float32))) for x in known] == known
    assert float(exact(np.float32(1.2345673), np.dtype(np.float32))) == 1.2345673
    texts = {
        str(gc.explain(lambda x, w: np.sum(gc.nn.gelu(x @ w.T)), np.ones((3, 4), dtype), np.ones((2, 4), dtype)))
        for dtype in (np.float32, np.float64)
    }
    assert len(texts) == 1 and "φ(xwᵀ)" in texts.pop()


def test_what_is_drawn_of_no_array_is_explained():
    """A composite of numbers alone has axes and no operand along which they lie."""
    key = gc.random.key(5)
    assert "∂L/∂x" in str(gc.explain(lambda x: np.sum(x * gc.nn.init.kaiming_normal(key, (3, 2))), 1.0))


def test_captured_arrays_have_the_names_of_what_holds_them():
    A, B = normal(7, 5), normal(7, 5)
    printed = str(explain(lambda x: np.sum((A @ x) * (B @ x)), normal(5)))
    assert "L = xᵀBᵀAx" in printed and "constant[" not in printed
    assert printed.endswith("A is a constant array of 7×5\nB is a constant array of 7×5")
    alike = str(explain(lambda A, x: np.sum(A) * np.sum(np.sin(B[1:] @ x)) + np.sum(B[2:] @ x), 1.0, normal(5)))
    assert "C is a constant array of 6×5" in alike and "C₂ is a constant array of 5×5" in alike


def test_a_factor_in_digits_is_no_count():
    """0.25·Σ over four elements is not 1/n; what divides, and what nobody types, is."""
    a, b = normal(4), normal(7)
    assert "L = 0.25‖x‖²" in str(explain(lambda x: 0.25 * np.sum(x**2), a))
    assert "L = 0.25‖x‖²" in str(explain(lambda x: 0.25 * np.sum(x**2), a.astype("float32")))
    counted = [(lambda x: np.sum(x**2) / len(x), a), (lambda x: np.mean(x**2), a), (lambda x: 1 / 7 * np.sum(x**2), b)]
    for f, x in counted:
        assert "L = ‖x‖²/n" in str(explain(f, x))
