"""Derivations of what users throw at them: no closed form, zero gradients, odd names, odd signatures, odd results.

Each derivation is printed by every printer; ASCII is ASCII, MathML is well-formed, LaTeX is balanced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import gradc as gc
import gradc.nn as nn
from gradc.explain import Derivation
from tests.programs import programs

x = np.array([0.3, -1.2, 0.7, 2.0])
X = np.arange(12.0).reshape(3, 4) / 7


def explained(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Derivation:
    derivation = gc.explain(f, *args, **kwargs)
    assert derivation.text(ascii=True, rules=True).isascii()
    assert derivation.text(lines=True)
    ElementTree.fromstring(derivation.mathml())
    latex = derivation.latex()
    bare = re.sub(r"\\\\|\\[{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")
    assert not re.search(r"\^\{[^{}]*\}\^", bare), "double superscript"
    return derivation


def text(f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return str(explained(f, *args, **kwargs))


# -- no closed form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: np.cumsum(x) @ x, "cumsum"),
        (lambda x: np.sort(x)[0], "argsort"),
        (lambda x: x[np.argmax(x)] * 2, "argmax"),
    ],
)
def test_an_operation_without_closed_form_is_said_to_be_one(function: Callable[..., Any], operation: str) -> None:
    printed = text(function, x)
    assert re.search(rf"no closed form, written as it is: .*{operation} \(test_explain_hostile\.py:\d+\)", printed)


def test_a_closed_form_has_no_such_remark() -> None:
    assert "no closed form" not in text(lambda x: np.max(x) + np.sum(x**2), x)


# -- zero gradients ----------------------------------------------------------------------------------------------------


def test_zero_gradients_say_why() -> None:
    assert "∂L/∂y = 0   (L does not depend on y)" in text(lambda x, y: np.sum(x), x, x, argnums=(0, 1))
    assert "only through rint" in text(lambda x: np.sum(np.round(x)), x)
    assert "only through greater" in text(lambda x: np.sum((x > 0) * 1.0), x)
    assert "i is int64: integers and bools have no tangent" in text(lambda i: np.sum(i * 1.0), np.arange(3))
    assert "only through argmax" in text(lambda x: np.argmax(x), x)
    assert "(L does not depend on x)" in text(lambda x: 3.0, 1.0)


# -- results -----------------------------------------------------------------------------------------------------------


def test_a_result_that_is_no_scalar_has_a_named_cotangent() -> None:
    printed = text(lambda x: (np.sum(x), x * 2, {"a": x @ x}), x)
    assert "∂x = G + 2(G₂ + G₃x)" in printed
    assert "G₂ is the cotangent of Y" in printed and "G₃ is the cotangent of L₂" in printed


def test_an_integer_result_takes_no_cotangent() -> None:
    printed = text(lambda x: (np.argmax(x), np.sum(x)), x)
    assert "∂x = G" in printed and "G is the cotangent of L₂" in printed


def test_means_over_several_axes() -> None:
    four = np.ones((2, 3, 4, 5))
    printed = text(lambda a: a - a.mean(axis=(0, 2, 3), keepdims=True), four)
    assert "Y = a − meanᵢₖₗ(a)" in printed and "∂a = G − meanᵢₖₗ(G)" in printed
    assert "Y = Σⱼ a" in text(lambda a: np.einsum("ijk->ik", a), np.ones((2, 3, 4)))


def test_no_elements_and_no_numbers() -> None:
    assert "∂L/∂x = 2x" in text(lambda x: np.sum(x * x), np.zeros((0, 3)))
    assert "inf·x" in text(lambda x: np.mean(x * x), np.zeros((0, 3)))
    assert "nan·G" in text(lambda x: x * np.nan, x)


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_of_the_derivation_give_way_to_the_users() -> None:
    def clash(G, δ, n, p):
        return nn.softmax(G * δ) + n * p

    printed = text(clash, x, x, x, x, argnums=(0, 1, 2, 3))
    assert "t = softmax(G ⊙ δ)" in printed and "∂p = G₂ ⊙ n" in printed and "G₂ is the cotangent of Y" in printed


def test_a_sigma_beside_a_sigmoid_keeps_its_name() -> None:
    assert "σ(sigma·x)" in text(lambda x, sigma: np.sum(nn.sigmoid(sigma * x)), x, 0.5)
    assert "∂L/∂σ" in text(lambda x, sigma: np.sum(sigma * x), x, 0.5, argnums=1)


def test_greek_names_do_not_meet() -> None:
    printed = text(lambda lam, lambda_: lam * lambda_**2, 1.0, 2.0, argnums=(0, 1))
    left = [line.split(" = ")[0] for line in printed.splitlines() if line.startswith("∂")]
    assert len(set(left)) == 2


@pytest.mark.parametrize("key", ["my key", "a.b[0]", "lambda", "x_{2}^\\", "$&#%", "<script>", "", "データ", "naïve"])
def test_any_key_is_a_name(key: str) -> None:
    explained(lambda d: np.sum(d[key] ** 2) + np.sum(d["w"]), {key: x, "w": x})


def test_long_and_foreign_names() -> None:
    name = "a_very_long_name_" * 10
    scope: dict[str, Any] = {"np": np}
    exec(f"def f({name}, größe): return np.sum({name} ** 2) * größe", scope)
    assert f"2größe·{name}" in text(scope["f"], x, 1.0)


# -- signatures --------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self) -> None:
        self.W = X.T

    def __call__(self, x: Any) -> Any:
        return np.tanh(x @ self.W)


def test_anything_callable() -> None:
    assert "∂L/∂a[0] = w" in text(lambda *a, **k: np.sum(a[0] * k["w"]), x, w=x)
    assert "W is a constant array of 4×3" in text(Model(), x)

    def outer(x: Any) -> Any:
        def inner(y: Any) -> Any:
            return y * y + x

        return np.sum(inner(x))

    assert "∂L/∂x = 2x + 1" in text(outer, x)


def test_values_of_one_variable_are_numbered() -> None:
    def again(x: Any) -> Any:
        x = x * 2
        x = np.sin(x)
        return x

    assert "x₁ = 2x\nx₂ = sin(x₁)" in text(again, 1.3)


def test_a_hat_is_a_hat() -> None:
    def standardised(x: Any) -> Any:
        xhat = x - x.mean()
        return xhat

    derivation = explained(standardised, x)
    assert "x̂ = x − mean(x)" in str(derivation)
    assert "xhat = x - mean(x)" in derivation.text(ascii=True)
    assert r"\hat{x} &=" in derivation.latex()
    assert '<mover accent="true"><mi>x</mi>' in derivation.mathml()


# -- convolution -------------------------------------------------------------------------------------------------------


def test_a_convolution_reads_as_correlations() -> None:
    def convolved(A: Any, K: Any) -> Any:
        return np.einsum("ijkl,kl->ij", gc.numpy.sliding_window_view(A, (2, 2)), K)

    A, K = np.arange(20.0).reshape(4, 5), np.array([[1.0, -2.0], [0.5, 3.0]])
    derivation = explained(convolved, A, K, argnums=(0, 1))
    lines = dict(line.split(" = ", 1) for line in str(derivation).splitlines() if " = " in line)
    assert lines == {"Y": "corr(A, K)", "∂A": "corr(pad(G, 1), flip(K))", "∂K": "corr(A, G)"}

    def corr(a: Any, b: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(a, b.shape)
        return np.einsum("ijkl,kl->ij", windows, b)

    G = np.random.default_rng(0).normal(size=(3, 4))
    dA, dK = derivation.graph.evaluate(A, K, G)
    np.testing.assert_allclose(dA, corr(np.pad(G, 1), K[::-1, ::-1]), rtol=1e-14, atol=1e-13)
    np.testing.assert_allclose(dK, corr(A, G), rtol=1e-14, atol=1e-13)


def test_other_windows_are_no_correlation() -> None:
    """Windows along one axis, strided windows and flipped places keep their indices."""

    def rows(A: Any, K: Any) -> Any:
        return np.einsum("ijk,k->ij", gc.numpy.sliding_window_view(A, 2, axis=1), K)

    def turned(A: Any, K: Any) -> Any:
        return np.einsum("ijkl,lk->ij", gc.numpy.sliding_window_view(A, (2, 2)), K)

    for function, kernel in ((rows, np.ones(2)), (turned, np.ones((2, 2)))):
        assert "Y = corr" not in text(function, X, kernel)


def test_a_value_that_repeats_another_lends_it_no_name() -> None:
    """The rows of v₁ are all v₀: v₀ is not v₁, which has more axes."""

    def repeated(x: Any) -> Any:
        v0 = x[None]
        v1 = v0[np.array([[-1], [0]])]
        return v1.sum() + np.nanmean(v0)

    derivation = explained(repeated, X[0])
    ones = np.ones_like(X[0])
    np.testing.assert_allclose(derivation.graph.evaluate(X[0])[0], 2 * ones + ones / X[0].size, rtol=1e-15)


def test_a_statistic_of_no_rows_is_written() -> None:
    assert "std" in text(lambda x: np.std(x[-2:-2, :-5:-2][:, None, :], axis=0).sum(), np.ones((0, 5)))


@given(programs(most_ops=7, scalar=True))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_random_programs_are_written(program: Any) -> None:
    """Whatever the graph, a formula in text and LaTeX, and no error of the rules behind it."""
    derivation = gc.explain(lambda *xs: program.graph.inlined(xs)[0], *program.arrays)
    assert "∂" in str(derivation)
    assert derivation.latex()
