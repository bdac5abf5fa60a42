"""Every display rewrite is an identity, at ordinary numbers and at extreme ones; formulas have a normal form.

Each rule of `gradc.explain.rules.RULES` is applied to an example of its own and both sides are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.aval import Aval
from gradc.explain import explain
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
from gradc.explain.identities.inverses import inverse
from gradc.explain.identities.structure import unit_matrix
from gradc.explain.matching import Names
from gradc.explain.rules import RULES, Rule, Simplifier
from gradc.explain.values import Evaluator
from gradc.interpret import interpret
from gradc.node import Node
from gradc.trace import new_input
from tests.explain_models import MODELS

#: both sides add and multiply the same fewer than 10⁴ numbers of order one, each with a relative rounding of 2⁻⁵³
TOLERANCE = 1e-12


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
MEAN = product((3,), [Factor(X, (0, 1)), Factor(n, (), -ONE)])
QUOTIENT = product((3, 4), [Factor(X, (0, 1)), Factor(v, (0,), -ONE)])
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
    "singular factor": times(indicator(compared("not_equal", X, ZERO)), power(X, -1)),
    "shared tie": where(
        compared("greater", X, Y), ONE_, scaled(Fraction(1, 2), indicator(compared("greater_equal", X, Y)))
    ),
    "mask": where(compared("greater", X, ZERO), Y, ZERO),
    "mask squared": power(indicator(compared("greater", X, ZERO)), 2),
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
    "deviations": product(
        (3,), [Factor(total((3, 4), [X, negative(column(MEAN))]), (0, 1)), Factor(v, (0,))]
    ),
    "part across a sum": product((3,), [Factor(row_sums(times(X, Y)), (0,)), Factor(v, (0,), -ONE)]),
    "diagonal": sliced(reshaped(A, (9,)), (3,), (0,), (4,)),
    "diagonal matrix": reshaped(superposed(v, (9,), (0,), (4,)), (3, 3)),
    "identity matrix": product((3, 4), [Factor(unit_matrix(3), (0, 2)), Factor(X, (2, 1))]),
    "index of the identity": product((3, 3), [Factor(unit_matrix(3), (0, 1)), Factor(v, (1,))]),
    "extent": product((3,), [Factor(v, (0,)), Factor(n, (), Fraction(-1))], Fraction(4)),
    "part of a constant": sliced(arranged(s, (), (4,)), (2,), (1,), (1,)),
    "part of what is placed": sliced(superposed(v, (5,), (1,), (1,)), (3,), (1,), (1,)),
    "leading singular vectors": product((3, 3), [
        Factor(apply("left_vectors", (A,), (3, 3), {"full": False}, (), (("full", False),)), (0, 2)),
        Factor(
            apply(
                "attains", (apply("singular_values", (A,), (3,)),), (3,), {"axes": (0,), "of": "max"}, (),
                (("axes", (0,)), ("of", "max")),
            ),
            (2,),
        ),
        Factor(apply("right_vectors", (A,), (3, 3), {"full": False}, (), (("full", False),)), (2, 1)),
    ]),
    "inverse of a transpose": inverse(arranged(A, (1, 0), (3, 3))),
    "inverse of a multiple": inverse(product((3, 3), [Factor(r, ()), Factor(A, (0, 1))], Fraction(2))),
    "inverse": product((3, 3), [Factor(inverse(A), (0, 2)), Factor(A, (2, 3)), Factor(B, (3, 1))]),
    "symmetric inverse": product((3,), [Factor(inverse(S), (1, 0)), Factor(v, (1,))]),
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
    assert isinstance(QUOTIENT, Product)
    names.offer(Symbol((3, 4), name="Q"), QUOTIENT)
    return names


def values(drawn: Callable[[tuple[int, ...]], Any] | None = None) -> tuple[dict[str, Node], dict[Node, Any]]:
    """Values for every symbol of the examples: normal numbers, or what ``drawn`` gives for a shape."""
    rng = np.random.default_rng(7)
    draw = drawn or (lambda shape: rng.normal(size=shape))
    arrays: dict[str, Any] = {x.name: draw(x.shape) for x in (X, Y, A, B, v, w, s, EXPONENT)}
    arrays |= {"positive": np.abs(draw((3, 4))) + 0.5, "labels": np.array([3, 0, 2]), "row": draw((4,))}
    arrays |= {"S": arrays["A"] + arrays["A"].T, "D": np.diag(arrays["v"]), "AB": arrays["A"] @ arrays["B"]}
    arrays |= {"r": np.float64(0.3), "n": np.float64(4), "H": np.maximum(arrays["X"] + arrays["Y"], 0)}
    arrays |= {"Q": arrays["X"] / arrays["v"][:, None]}
    nodes = {k: new_input(Aval(np.shape(a), np.asarray(a).dtype), k) for k, a in arrays.items()}
    return nodes, {nodes[k]: np.asarray(a) for k, a in arrays.items()}


#: numbers of every size that a model meets: zeros of both signs and tiny ones; where exp, erf and σ saturate; huge ones
EXTREMES = ((0.0, 1e-300, 1e-9), (0.0, 1.0, 8.3, 36.7), (1.0, 36.7, 745.0), (1.0, 1e9), (1e150, 1e-150))
#: some twenty operations, each rounded by 2⁻⁵³ relative to the largest number on the way
ROUNDINGS = 20 * 2.0**-53


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_both_sides_agree_at_extremes(rule: Rule) -> None:
    """Where both sides are finite they differ by no more than rounding on the way to either."""
    before, exact = EXAMPLES[rule.name], "but at" not in rule.statement
    after = rule.rewrite(before, some_names())
    assert after is not None
    for seed, sizes in enumerate(EXTREMES * 2):
        rng = np.random.default_rng(seed)
        nodes, known = values(lambda shape, rng=rng, sizes=sizes: rng.choice(sizes, shape) * rng.choice((1, -1), shape))
        evaluator = Evaluator(nodes, np.float64)
        met: list[Any] = [*known.values()]
        sides = interpret(
            [evaluator.node(before), evaluator.node(after)], dict(known), lambda node, value, met=met: met.append(value)
        )
        left, right = (np.asarray(side, np.float64) for side in sides)
        single = [x for x in met if not isinstance(x, tuple)]  # some nodes have several results
        largest = max(float(np.max(abs(x)[np.isfinite(x)], initial=1)) for x in map(np.float64, single))
        finite = np.isfinite(left) & np.isfinite(right)
        close = abs(left - right) <= ROUNDINGS * largest
        assert np.all(close[finite]) or not exact, (rule.statement, sizes)


def test_what_is_shown_is_not_what_is_compiled() -> None:
    """∂x^k = k x^(k − 1) is how it reads; at x = k = 0 that is 0·∞, and the compiled derivative is 0."""
    shown = explain(lambda x, k: x**k, 0.0, 0.0)
    assert "kx^(k − 1)" in str(shown)
    with np.errstate(all="ignore"):
        assert np.isnan(shown.graph.evaluate(0.0, 0.0)[0])
    assert gc.jit(gc.grad(lambda x, k: x**k))(0.0, 0.0) == 0.0


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


# -- rules are reported ------------------------------------------------------------------------------------------------


def test_each_line_says_by_which_identities_it_was_simplified() -> None:
    model = MODELS["logistic_regression"]
    derivation = explain(model.function, *model.args, argnums=model.argnums)
    text = derivation.text(rules=True)
    assert "δ = (p − y)/n\n  by sigmoid of a negative: σ(−x) = 1 − σ(x)\n" in text
    assert "∂L/∂w = Xᵀδ\n∂L/∂b" in text, "a line that nothing was done to has no identity"
    assert derivation.text(rules=True, ascii=True).isascii()
    assert "  by " not in str(derivation)


@pytest.mark.parametrize("name", ["cross_entropy_naive", "black_scholes", "attention", "two_layers", "maximum"])
def test_reported_rules_are_those_that_were_applied(name: str) -> None:
    model = MODELS[name]
    derivation = explain(model.function, *model.args, argnums=model.argnums)
    reported = {rule.name for line in derivation.lines for rule in line.rules}
    assert reported and reported <= {rule.name for rule in derivation.rewrites}
    assert {rule.statement for rule in RULES if rule.name in reported} == {
        line.partition(": ")[2] for line in derivation.text(rules=True).splitlines() if line.startswith("  by ")
    }


def cross_entropy(W: Any, X: Any, Y: Any) -> Any:
    return -(Y * gc.nn.log_softmax(X @ W, axis=-1)).sum(-1).mean()


def test_labels_that_could_be_declared_are_told() -> None:
    arrays = np.ones((4, 3)), np.ones((5, 4)), np.eye(3)[[0, 1, 2, 0, 1]]
    told = gc.explain(cross_entropy, *arrays)
    assert told.undeclared == ("Y",) and "Y = gc.assume(Y, one_hot=True) makes this shorter" in str(told)
    declared = gc.explain(lambda W, X, Y: cross_entropy(W, X, gc.assume(Y, one_hot=True)), *arrays)
    assert declared.undeclared == () and "Xᵀ(p − Y)/n" in str(declared)
    scores = gc.explain(lambda W, X, Y: (Y.sum(-1) * gc.nn.softmax(X @ W, axis=-1)[:, 0]).sum(), *arrays)
    assert scores.undeclared == ()
