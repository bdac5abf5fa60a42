"""Jacobians and Hessians as matrices: what is asked, what is refused, how the pieces are written.

The gallery holds the formulas themselves; here are the ways to ask for them and what a careless user meets.
"""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest

import gradc as gc


def ridge(w, X, y):
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * np.sum(w**2)


W, X, Y = gc.spec((3,)), gc.spec((5, 3)), gc.spec((5,))


def shown(derivation: gc.Derivation) -> list[str]:
    return [line for line in str(derivation).splitlines() if line.startswith("∂")]


def test_a_hessian_can_be_asked_for_in_two_ways():
    by_order = gc.explain(ridge, W, X, Y, order=2)
    by_function = gc.explain(gc.hessian(ridge), W, X, Y)
    assert shown(by_order) == shown(by_function) == ["∂²L/∂w² = XᵀX + I"]


def test_the_arguments_are_those_of_the_transform():
    assert shown(gc.explain(gc.hessian(ridge, argnums=2), W, X, Y)) == ["∂²L/∂y² = I"]
    assert shown(gc.explain(ridge, W, X, Y, argnums=(0, 2), order=2)) == [
        "∂²L/∂w² = XᵀX + I", "∂²L/∂w∂y = −Xᵀ", "∂²L/∂y² = I",
    ]  # fmt: skip


def test_a_wrapper_of_a_hessian_is_another_function():
    @functools.wraps(gc.hessian(ridge))
    def doubled(w, X, y):
        return 2 * gc.hessian(ridge)(w, X, y)

    assert shown(gc.explain(doubled, W, X, Y))[0].startswith("∂w = 0")


def test_keyword_arguments_reach_the_function():
    def scaled(x, *, factor):
        return factor * np.sum(x**2)

    assert shown(gc.explain(gc.hessian(scaled), W, factor=gc.spec(()))) == ["∂²L/∂x² = 2factor·I"]


def test_arguments_may_nest():
    def affine(p, x):
        return p["A"] @ x + p["b"]

    found = gc.explain(gc.jacobian(affine), {"A": gc.spec((4, 3)), "b": gc.spec((4,))}, W)
    assert shown(found) == ["∂Y/∂A = [I[i, j]x[k]]ᵢⱼₖ", "∂Y/∂b = I"]
    H = gc.explain(gc.hessian(lambda p: np.sum(p[0] ** 3) + p[1] * p[0][0]), (W, gc.spec(())))
    assert len(shown(H)) == 3


def test_several_results_have_a_line_each():
    def both(x):
        s = np.sin(x)
        c = np.cos(x)
        return s, c

    derivation = gc.explain(gc.jacobian(both), W)
    assert shown(derivation) == ["∂s/∂x = diag(c)", "∂c/∂x = −diag(s)"]
    assert derivation.line("s, x").formula is not None


def test_a_zero_block_says_why():
    bilinear = gc.explain(lambda a, b: a @ b, W, W, argnums=(0, 1), order=2)
    assert shown(bilinear)[0] == "∂²L/∂a² = 0   (∂L/∂a does not change with a)"
    assert shown(bilinear)[1] == "∂²L/∂a∂b = I"
    loss = lambda z, y: gc.nn.cross_entropy(z, y)
    labels = gc.explain(loss, gc.spec((2, 3)), gc.spec((2,), "int64"), argnums=1, order=2)
    assert shown(labels) == ["∂²L/∂y² = 0   (y is int64: integers and bools have no tangent)"]


def test_the_operator_of_two_arguments_has_every_block():
    loss = lambda U, V: 0.5 * np.sum((U @ V.T) ** 2)
    derivation = gc.explain(loss, gc.spec((4, 2)), gc.spec((5, 2)), argnums=(0, 1), order=2, operator=True)
    lines = shown(derivation)
    assert [line.partition(" = ")[0] for line in lines] == [
        "∂²L/∂U²·v_U", "∂²L/∂U∂V·v_V", "∂²L/∂V∂U·v_U", "∂²L/∂V²·v_V",
    ]  # fmt: skip
    assert lines[0].endswith("= v_U·VᵀV")
    assert "v_U is a direction of U" in str(derivation)


def test_a_name_that_is_taken_is_not_the_direction():
    derivation = gc.explain(lambda v: np.sum(v**3), W, order=2, operator=True)
    assert shown(derivation) == ["∂²L/∂v²·v₂ = 6v₂ ⊙ v"]


def test_what_is_no_hessian_is_refused_with_the_remedy():
    def vector(x):
        return 2 * x

    with pytest.raises(gc.ShapeError, match=r"vector returns float64\[3\].*\n.*gc.jacobian"):
        gc.explain(vector, W, order=2)
    for wrong in ({"order": 3}, {"order": 0}, {"operator": True}):
        with pytest.raises(ValueError, match="expected order 1, or 2"):
            gc.explain(ridge, W, X, Y, **wrong)
    with pytest.raises(gc.TraceError, match="argnums=7"):
        gc.explain(gc.hessian(ridge, argnums=7), W, X, Y)


def test_functions_without_a_closed_form_print_their_ops():
    found = gc.explain(gc.jacobian(lambda x: np.sort(x)), W)
    assert shown(found) == ["∂Y/∂x = onehot(argsort(x, axis=0))"]
    assert "≥" in shown(gc.explain(gc.jacobian(np.cumsum), W))[0]


def test_an_empty_argument_has_an_empty_hessian():
    derivation = gc.explain(lambda x: np.sum(x**2), gc.spec((0,)), order=2)
    assert [a.shape for a in derivation.graph.evaluate(np.zeros(0))] == [(0, 0)]


def test_the_matrices_of_a_network_can_be_run():
    def loss(W1, W2, X, y):
        return gc.nn.cross_entropy(np.tanh(X @ W1) @ W2, y)

    rng = np.random.default_rng(0)
    args = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng.normal(size=(5, 3)), rng.integers(0, 2, 5)
    derivation = gc.explain(gc.hessian(loss, (0, 1)), *args)
    (h11, h12), (_, h22) = gc.hessian(loss, (0, 1))(*args)
    for found, wanted in zip(derivation.graph.evaluate(*args), (h11, h12, h22), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-13)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (lambda: gc.explain(ridge, W, X, Y, order=2), ["with its Hessian by w,", "How its Hessian follows"]),
        (lambda: gc.explain(ridge, W, X, Y, order=2, operator=True), ["How its Hessian follows"]),
        (lambda: gc.explain(gc.jacobian(np.tanh), np.ones(3)), ["with its Jacobian by x,", "How its Jacobian follows"]),
    ],
)
def test_the_explorer_of_a_matrix(tmp_path, asked, words):
    derivation = asked()
    text = derivation.html(tmp_path / "page.html").read_text(encoding="utf-8")
    for word in words:
        assert word in text
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))
    assert data["frames"] and any("differentiate" in str(frame) for frame in data["frames"])
    rows = re.findall(r'data-s="(\d+)"', text)
    assert len(rows) >= len(derivation.lines)
