"""Derivations: what is printed, that it is true, and where each piece comes from.

Every row of `explain_models.MODELS` is held against golden text and evaluated: the graph of the displayed formulas on
random inputs against reverse mode on the function as the user wrote it.  Every display rewrite is applied to an example
of its own and both sides are evaluated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gradc as gc
import gradc.nn as nn
from gradc.aval import Aval
from gradc.diff.reverse import pull_back
from gradc.errors import TraceError
from gradc.explain import Derivation, explain
from gradc.explain.formula import (
    ONE,
    Apply,
    Factor,
    Formula,
    Product,
    Sum,
    Symbol,
    apply,
    arranged,
    negative,
    number,
    power,
    product,
    scaled,
    times,
    total,
)
from gradc.explain.identities.structure import unit_matrix
from gradc.explain.layout import Ident
from gradc.explain.matching import Names
from gradc.explain.naming import written
from gradc.explain.rules import RULES, Rule, Simplifier
from gradc.explain.values import Evaluator
from gradc.graph import Graph
from gradc.interpret import interpret
from gradc.node import Node
from gradc.ops.leaves import full
from gradc.passes import FORWARD, run_passes
from gradc.trace import new_input, trace
from gradc.tree import flatten
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
        "δ₂": "(p − onehot(y))/n", "∂L/∂W₂": "hᵀδ₂", "∂L/∂b₂": "Σᵢ δ₂[i]", "δ₁": "δ₂W₂ᵀ ⊙ 1[z₁ > 0]",
        "∂L/∂W₁": "Xᵀδ₁", "∂L/∂b₁": "Σᵢ δ₁[i]", "n": "5",
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
        "mean": ["1/n"],
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
        "standard_deviation": ["(x − Σ x/n)/(n·√(‖x − Σ x/n‖²/n))"],
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


def test_several_results() -> None:
    model = Model(lambda x: (x.sum(), x * x), (normal(3),))
    assert "∂x = G + 2G₂ ⊙ x" in str(derive(model))
    compare(model)


# -- every rewrite is an identity --------------------------------------------------------------------------------------

X, Y = Symbol((3, 4), name="X"), Symbol((3, 4), name="Y")
A, B = Symbol((3, 3), name="A"), Symbol((3, 3), name="B")
v, w, s = Symbol((3,), name="v"), Symbol((3,), name="w"), Symbol((), name="s")
positive_matrix = Symbol((3, 4), name="positive")
labels, row = Symbol((3,), name="labels"), Symbol((4,), name="row")
n = Symbol((), name="n", role="extent")
S, D, r = Symbol((3, 3), name="S"), Symbol((3, 3), name="D"), Symbol((), name="r")
one = number(1)


def column(x: Formula) -> Formula:
    return arranged(x, (0,), (3, 4))


def lse(x: Formula) -> Formula:
    return apply("logsumexp", (x,), (3,), {"axes": (1,)}, attrs_key=("axes", (1,)))


def row_sums(x: Formula) -> Formula:
    return arranged(x, (0, 1), (3,))


def compared(name: str, a: Formula, b: Formula) -> Formula:
    return apply(name, (a, b), a.shape)


def indicator(mask: Formula) -> Formula:
    return apply("indicator", (mask,), mask.shape)


def where(mask: Formula, a: Formula, b: Formula) -> Formula:
    return Apply(mask.shape, name="where", args=(mask, a, b))


def onehot() -> Formula:
    return apply("onehot", (labels,), (3, 4))


def sliced(x: Formula, shape: tuple[int, ...], starts: tuple[int, ...], steps: tuple[int, ...]) -> Formula:
    stops = tuple(a + s * k for a, s, k in zip(starts, steps, shape, strict=True))
    return apply("slice", (x,), shape, {"starts": starts, "stops": stops, "steps": steps}, attrs_key=(starts, steps))


def superposed(x: Formula, shape: tuple[int, ...], starts: tuple[int, ...], steps: tuple[int, ...]) -> Formula:
    attrs = {"shape": shape, "starts": (starts,), "steps": (steps,)}
    return apply("superpose", (x,), shape, attrs, attrs_key=(shape, starts, steps))


def reshaped(x: Formula, shape: tuple[int, ...]) -> Formula:
    return apply("reshape", (x,), shape, {"shape": shape}, attrs_key=shape)


def extremum() -> Formula:
    best = apply("max", (X,), (3,), {"axes": (1,)}, attrs_key=("axes", (1,)))
    mask = indicator(compared("equal", X, column(best)))
    return product((3, 4), [Factor(mask, (0, 1)), Factor(row_sums(mask), (0,), Fraction(-1))])


def unscaled(a: Formula, b: Formula) -> Formula:
    """The matrix product ab as one factor."""
    return Product((3, 3), coef=Fraction(1), factors=(Factor(a, (0, 2)), Factor(b, (2, 1))))


def density(x: Formula) -> Formula:
    return apply("normal_pdf", (x,), x.shape)


#: ½r² − sr, so that φ(s − r)·exp(…) = φ(s)
HALF_DIFFERENCE = total((), [scaled(Fraction(1, 2), power(r, 2)), negative(times(s, r))])
ZERO, ONE_ = number(0, (3, 4)), number(1, (3, 4))
POSITIONS = arranged(
    apply("iota", (), (4,), {"shape": (4,), "axis": 0, "dtype": np.dtype(np.int64)}, attrs_key=4), (1,), (3, 4)
)
HALF = number(Fraction(1, 2), (3, 4))
EXPONENT = Symbol((3, 4), name="K")

EXAMPLES: dict[str, Formula] = {
    "log-sum-exp shift": lse(total((3, 4), [X, column(v)])),
    "softmax": apply("exp", (total((3, 4), [X, negative(column(lse(X)))]),), (3, 4)),
    "softmax quotient": product(
        (3, 4),
        [
            Factor(apply("exp", (X,), (3, 4)), (0, 1)),
            Factor(row_sums(apply("exp", (X,), (3, 4))), (0,), Fraction(-1)),
        ],
    ),
    "softmax shift": apply(
        "softmax", (total((3, 4), [X, column(v)]),), (3, 4), {"axes": (1,)}, attrs_key=("axes", (1,))
    ),
    "sigmoid of a negative": apply("sigmoid", (negative(X),), (3, 4)),
    "exponential": total((3, 4), [apply("expm1", (X,), (3, 4)), ONE_]),
    "normal distribution function": scaled(
        Fraction(1, 2), total((3, 4), [ONE_, apply("erf", (scaled(0.5**0.5, X),), (3, 4))])
    ),
    "normal density": scaled(
        1 / float(np.sqrt(2 * np.pi)), apply("exp", (scaled(Fraction(-1, 2), power(X, 2)),), (3, 4))
    ),
    "opposite comparison": apply("logical_not", (compared("greater", X, Y),), (3, 4)),
    "singular point": where(compared("equal", X, ZERO), ONE_, X),
    "shared tie": where(
        compared("greater", X, Y), ONE_, scaled(Fraction(1, 2), indicator(compared("equal", X, Y)))
    ),
    "mask": where(compared("greater", X, ZERO), Y, ZERO),
    "mask squared": power(indicator(compared("greater", X, ZERO)), 2),
    "zeroth power": apply(
        "power",
        (positive_matrix, where(compared("equal", EXPONENT, ZERO), ONE_, total((3, 4), [EXPONENT, negative(ONE_)]))),
        (3, 4),
    ),
    "mask of a factor": times(X, indicator(compared("not_equal", X, ZERO))),
    "positive part": compared("greater", total((3, 4), [X, Y]), ZERO),
    "arg max": extremum(),
    "one-hot": indicator(compared("equal", arranged(labels, (0,), (3, 4)), POSITIONS)),
    "number of a mask": apply("real", (indicator(compared("greater", X, Y)),), (3, 4)),
    "selected element": product(
        (3, 4),
        [
            Factor(onehot(), (0, 1)),
            Factor(X, (0, 1)),
            Factor(row_sums(times(X, onehot())), (0,), Fraction(-1)),
        ],
    ),
    "distribution": product((3,), [Factor(onehot(), (0, 1)), Factor(v, (0,))]),
    "diagonal": sliced(reshaped(A, (9,)), (3,), (0,), (4,)),
    "diagonal matrix": reshaped(superposed(v, (9,), (0,), (4,)), (3, 3)),
    "identity matrix": product((3, 4), [Factor(unit_matrix(3), (0, 2)), Factor(X, (2, 1))]),
    "index of the identity": product((3, 3), [Factor(unit_matrix(3), (0, 1)), Factor(v, (1,))]),
    "extent": product((3,), [Factor(v, (0,)), Factor(n, (), Fraction(-1))], Fraction(4)),
    "part of a constant": sliced(arranged(s, (), (4,)), (2,), (1,), (1,)),
    "part of what is placed": sliced(superposed(v, (5,), (1,), (1,)), (3,), (1,), (1,)),
    "symmetric": product((3,), [Factor(S, (1, 0)), Factor(v, (1,))]),
    "diagonal kept": product((3, 3), [Factor(unit_matrix(3), (0, 1)), Factor(D, (0, 1))]),
    "positive": apply("absolute", (scaled(2, positive_matrix),), (3, 4)),
    "root of a power": power(power(positive_matrix, 2), Fraction(1, 2)),
    "common denominator": total(
        (),
        [
            product((), [Factor(total((), [one, negative(r)]), ()), Factor(total((), [one, negative(s)]), (), -ONE)]),
            negative(product((), [Factor(r, ()), Factor(s, (), -ONE)])),
        ],
    ),
    "part with a name": product((3,), [Factor(A, (0, 1)), Factor(B, (1, 2)), Factor(v, (2,))]),
    "correlation": apply(
        "fold",
        (product((3, 4), [Factor(v, (0,)), Factor(row, (1,))]),),
        (6,),
        {"shape": (6,), "axes": (0,), "sizes": (4,), "strides": (1,), "dilations": (1,)},
    ),
    "part of a part": sliced(sliced(row, (3,), (1,), (1,)), (2,), (0,), (2,)),
    "density elsewhere": total(
        (),
        [
            scaled(2, density(s)),
            negative(times(density(total((), [s, negative(r)])), apply("exp", (HALF_DIFFERENCE,), ()))),
        ],
    ),
    "multiplied out": total((3, 4), [times(X, total((3, 4), [ONE_, negative(Y)])), times(X, Y)]),
    "common factor": Sum(
        (3,),
        terms=(
            product((3,), [Factor(A, (0, 1)), Factor(v, (1,))]),
            product((3,), [Factor(A, (1, 0)), Factor(v, (1,))]),
        ),
    ),
}  # fmt: skip
"""For each rewrite a formula to which it applies."""

FACTS = {name: frozenset([fact]) for name, fact in (("S", "symmetric"), ("D", "diagonal"), ("positive", "positive"))}
KNOWN = {apply("relu", (total((3, 4), [X, Y]),), (3, 4)): Symbol((3, 4), name="H")}


def some_names() -> Names:
    names = Names({}, dict(KNOWN), {"n": 4}, FACTS)
    names.offer(Symbol((3, 3), name="AB"), unscaled(A, B))
    return names


def values() -> tuple[dict[str, Node], dict[Node, Any]]:
    """Random values for every symbol of the examples."""
    rng = np.random.default_rng(7)
    arrays: dict[str, Any] = {x.name: rng.normal(size=x.shape) for x in (X, Y, A, B, v, w, s, EXPONENT)}
    arrays |= {"positive": rng.uniform(0.5, 2, (3, 4)), "labels": np.array([3, 0, 2]), "row": rng.normal(size=4)}
    arrays |= {"S": arrays["A"] + arrays["A"].T, "D": np.diag(arrays["v"]), "AB": arrays["A"] @ arrays["B"]}
    arrays |= {"r": np.float64(0.3), "n": np.float64(4), "H": np.maximum(arrays["X"] + arrays["Y"], 0)}
    nodes = {k: new_input(Aval(np.shape(a), np.asarray(a).dtype), k) for k, a in arrays.items()}
    return nodes, {nodes[k]: np.asarray(a) for k, a in arrays.items()}


def test_every_rule_has_an_example() -> None:
    assert set(EXAMPLES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_both_sides_of_a_rule_are_equal(rule: Rule) -> None:
    before = EXAMPLES[rule.name]
    after = rule.rewrite(before, some_names())
    assert after is not None and after != before
    assert after.shape == before.shape
    nodes, known = values()
    evaluator = Evaluator(nodes, np.float64)
    left, right = interpret([evaluator.node(before), evaluator.node(after)], dict(known))
    np.testing.assert_allclose(right, left, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_false_rule_would_be_found() -> None:
    """The comparison above can fail: X² is not X."""
    nodes, known = values()
    evaluator = Evaluator(nodes, np.float64)
    left, right = interpret([evaluator.node(power(X, 2)), evaluator.node(X)], dict(known))
    assert not np.allclose(left, right)


# -- normal form -------------------------------------------------------------------------------------------------------


def test_products_are_flat_and_equal_factors_meet() -> None:
    assert times(X, times(X, Y)) == times(power(X, 2), Y)
    assert times(X, power(X, -1)) == number(1, (3, 4))
    assert arranged(arranged(X, (1, 0), (4, 3)), (1, 0), (3, 4)) == X


def test_a_cancelled_sum_counts_its_elements() -> None:
    assert arranged(times(X, power(X, -1)), (0, 1), (3,)) == number(4, (3,))


def test_even_powers_keep_their_sign() -> None:
    assert power(power(X, 2), Fraction(1, 2)) != X
    assert power(power(X, Fraction(1, 2)), 2) == X


def test_like_terms_are_collected() -> None:
    assert total((3, 4), [X, Y, X]) == total((3, 4), [scaled(2, X), Y])
    assert total((3, 4), [X, negative(X)]) == number(0, (3, 4))


def test_simplification_ends() -> None:
    simplify = Simplifier(some_names())
    for example in EXAMPLES.values():
        assert simplify(simplify(example)) == simplify(example)


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

    assert "∂L/∂x = 2\n  x is positive" in str(explain(root, normal(3)))

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
