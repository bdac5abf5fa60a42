"""Repeated layers as one rule: what is printed, and that a rule stands for exactly the lines it replaces.

Every derivation here, and every one of `explain_models.MODELS`, is printed folded and line by line; the expanded rules
must be the lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gradc as gc
import gradc.nn as nn
from gradc.explain import Derivation
from gradc.explain.folding import Rule, Said, folded, plain
from gradc.explain.layout import Call, Ident, Juxtaposed, Literal
from tests.explain_models import MODELS

RANDOM = np.random.default_rng(11)


def normal(*shape: int) -> Any:
    return RANDOM.normal(size=shape) / 3


def layers(*widths: int) -> list[dict[str, Any]]:
    return [{"W": normal(a, b), "b": normal(b)} for a, b in pairwise(widths)]


X, y = normal(9, 7), RANDOM.integers(0, 5, 9)
TWELVE = layers(7, *[6] * 11, 5)


def mlp(params, X, y):
    h = X
    for layer in params[:-1]:
        z = h @ layer["W"] + layer["b"]
        h = nn.relu(z)
    z = h @ params[-1]["W"] + params[-1]["b"]
    L = nn.cross_entropy(z, y)
    return L


def transformer(params, x, y):
    h = x
    for p in params["blocks"]:
        u = nn.layer_norm(h, (h.shape[-1],), p["g1"], p["b1"])
        Q, K, V = u @ p["Wq"], u @ p["Wk"], u @ p["Wv"]
        A = nn.softmax(Q @ K.T / np.sqrt(Q.shape[-1]))
        r = h + A @ V @ p["Wo"]
        v = nn.layer_norm(r, (r.shape[-1],), p["g2"], p["b2"])
        z = v @ p["W1"] + p["c1"]
        h = r + nn.relu(z) @ p["W2"] + p["c2"]
    z = h @ params["W"]
    return nn.cross_entropy(z, y)


def block(d: int, m: int) -> dict[str, Any]:
    square = {name: normal(d, d) for name in ("Wq", "Wk", "Wv", "Wo")}
    norms = {name: normal(d) for name in ("g1", "b1", "g2", "b2")}
    return square | norms | {"W1": normal(d, m), "c1": normal(m), "W2": normal(m, d), "c2": normal(d)}


def transformer_args(blocks: int) -> tuple[Any, ...]:
    return {"blocks": [block(8, 16) for _ in range(blocks)], "W": normal(8, 5)}, normal(6, 8), RANDOM.integers(0, 5, 6)


def expanded(derivation: Derivation) -> list[Said]:
    items = [*derivation.folded[0], *derivation.folded[1]]
    return [line for item in items for line in (item.expanded() if isinstance(item, Rule) else [item])]


def line_by_line(derivation: Derivation) -> list[Said]:
    ordered = sorted(derivation.lines, key=lambda line: line.kind != "forward")
    return [plain(line) for line in ordered]


def rules(derivation: Derivation) -> list[Rule]:
    return [item for block in derivation.folded for item in block if isinstance(item, Rule)]


def check(derivation: Derivation) -> Derivation:
    assert expanded(derivation) == line_by_line(derivation)
    assert derivation.text(ascii=True).isascii()
    ElementTree.fromstring(derivation.mathml())
    return derivation


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_a_network_of_twelve_layers_is_a_few_rules(golden: Callable[[str, str], None]) -> None:
    derivation = check(gc.explain(mlp, TWELVE, X, y))
    assert str(derivation).splitlines()[:5] == [
        "h₀ = X", "for l = 0…10:", "  zₗ = hₗWₗ + bₗ", "  hₗ₊₁ = relu(zₗ)", "z₁₁ = h₁₁W₁₁ + b₁₁",
    ]  # fmt: skip
    assert "for l = 10…0:\n  δₗ = δₗ₊₁Wₗ₊₁ᵀ ⊙ 1[zₗ > 0]\n  ∂L/∂Wₗ = hₗᵀδₗ\n" in str(derivation)
    golden("explain_fold_mlp.txt", "\n\n".join([str(derivation), derivation.text(ascii=True), derivation.latex()]))


def test_a_transformer_is_about_a_page(golden: Callable[[str, str], None]) -> None:
    derivation = check(gc.explain(transformer, *transformer_args(4)))
    assert len(str(derivation).splitlines()) <= 80
    golden("explain_fold_transformer.txt", str(derivation))


def test_names_that_clash_with_weights_of_a_list_leave_them_their_place() -> None:
    """q is h₀Q₀ in the function and a key of the list: the weights are ps[l].q, and layers fold all the same."""

    def attention(ps, x):
        for p in ps:
            q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
            x = x + nn.softmax(q @ k.T) @ v
        return (x**2).sum()

    ps = [{key: normal(4, 4) for key in "qkv"} for _ in range(5)]
    derivation = gc.explain(attention, ps, normal(3, 4))
    printed = str(derivation)
    for line in ("  qₗ = xₗ·ps[l].q", "  pₗ₊₁ = softmax(qₗkₗᵀ)", "  ∂L/∂ps[l].q = xₗᵀ", "∂L/∂ps[0].v = xᵀ"):
        assert line in printed, printed
    assert len(printed.splitlines()) < 35
    assert "dL/dps[l].q" in derivation.text(ascii=True) and r"\mathrm{ps[l].q}" in derivation.latex()
    assert "ps[l].q" in derivation.mathml() and "ps[2].q" in derivation.text(fold=False)


def test_more_layers_do_not_print_more() -> None:
    few, many = (str(check(gc.explain(transformer, *transformer_args(blocks)))) for blocks in (4, 5))
    assert len(few.splitlines()) == len(many.splitlines())


def test_unnamed_parts_of_layers_are_rows_of_their_own() -> None:
    """Two parts of a layer without a name are two letters with the layer's number, not one letter counted through."""

    def step(p: Any, x: Any) -> Any:
        x = x + nn.scaled_dot_product_attention(x @ p["q"], x @ p["k"], x, is_causal=True) @ p["o"]
        h = nn.layer_norm(x, (4,))
        return x + nn.gelu(h @ p["u"]) @ p["w"]

    def loss(blocks: Any, x: Any) -> Any:
        for p in blocks:
            x = step(p, x)
        return x.sum()

    shapes = {"q": (4, 4), "k": (4, 4), "o": (4, 4), "u": (4, 6), "w": (6, 4)}
    derivation = check(gc.explain(loss, [{k: normal(*s) for k, s in shapes.items()} for _ in range(4)], normal(5, 4)))
    assert len(rules(derivation)) == 3, "the function, what attention gives its weights to, the gradient"
    assert not re.search(r"[A-Za-z]₋", str(derivation)), "a number that counts down"


def test_every_line_is_printed_on_request() -> None:
    derivation = gc.explain(mlp, TWELVE, X, y)
    assert "z₁ = h₁W₁ + b₁\nh₂ = relu(z₁)\nz₂ = h₂W₂ + b₂" in derivation.text(fold=False)
    assert derivation.latex(fold=False).count("&=") == len(derivation.lines) == 61
    assert "for l" not in derivation.text(lines=True)


def test_lists_of_pairs() -> None:
    def network(params, X):
        h = X
        for W, b in params:
            h = np.tanh(h @ W + b)
        return np.sum(h**2)

    pairs = [(layer["W"], layer["b"]) for layer in layers(7, 6, 6, 6, 6)]
    text = str(check(gc.explain(network, pairs, X)))
    assert "for l = 0…3:\n  hₗ₊₁ = tanh(hₗWₗ + bₗ)" in text
    assert "Wₗ is params[l][0]" in text


def test_numbered_keys_keep_the_users_numbers() -> None:
    def network(params, X):
        h = X
        for i in range(1, 5):
            h = np.tanh(h @ params[f"W{i}"])
        return np.sum(h)

    params = {f"W{i}": normal(7, 7) for i in range(1, 5)}
    assert "h₀ = X\nfor l = 1…4:\n  hₗ = tanh(hₗ₋₁Wₗ)" in str(check(gc.explain(network, params, X)))


def test_stacked_weights() -> None:
    def network(W, X):
        h = X
        for i in range(len(W)):
            h = np.tanh(h @ W[i])
        return np.sum(h)

    assert "hₗ₊₁ = tanh(hₗW[l])" in str(check(gc.explain(network, normal(5, 7, 7), X)))


# -- what differs stays apart ------------------------------------------------------------------------------------------


def test_a_layer_that_differs_is_printed_on_its_own() -> None:
    def network(params, X):
        h = X
        for i, layer in enumerate(params):
            z = h @ layer["W"] + layer["b"]
            h = np.tanh(z) if i == 5 else nn.relu(z)
        return np.sum(h)

    derivation = check(gc.explain(network, TWELVE, X))
    assert "h₆ = tanh(z₅)" in str(derivation)
    assert [rule.values for rule in rules(derivation) if rule.begins < 24][:2] == [range(5), range(6, 12)]


def test_equal_names_are_not_equal_layers() -> None:
    def network(params, X):
        h = X
        for i, layer in enumerate(params):
            h = np.tanh(h @ layer["W"]) if i % 2 else np.tanh(h * layer["W"])
        return np.sum(h)

    derivation = check(gc.explain(network, [{"W": normal(7, 7)} for _ in range(6)], normal(7, 7)))
    assert all(len(rule.lines) % 2 == 0 for rule in rules(derivation) if rule.begins < 6)


def test_weights_used_out_of_order_do_not_fold() -> None:
    def network(params, X):
        h = X
        for i in (0, 3, 1, 4, 2):
            h = np.tanh(h @ params[i]["W"])
        return np.sum(h)

    assert not rules(check(gc.explain(network, [{"W": normal(7, 7)} for _ in range(5)], X)))


def test_two_layers_are_printed_one_by_one() -> None:
    assert not rules(gc.explain(mlp, layers(7, 6, 6, 5), X, y))


def line(target: str, number: int, *parts: Any) -> Any:
    said = Said(Ident(target, str(number)), Juxtaposed(tuple(parts)))

    class Row:
        kind, target, layout, reason, facts = "forward", said.target, said.body, "", ()

    return Row()


def test_a_number_that_jumps_ends_a_run() -> None:
    rows = [line("h", i, Ident("h", str(i - 1)), Ident("W", str(i if i < 5 else i + 1))) for i in range(1, 9)]
    (items, _) = folded(rows)
    found = [item for item in items if isinstance(item, Rule)]
    assert [item.length for item in found] == [4, 4]
    assert [said for item in found for said in item.expanded()] == [plain(row) for row in rows]


def test_constants_must_agree() -> None:
    rows = [line("h", i, Ident("h", str(i - 1)), Literal("x" if i < 4 else "y")) for i in range(1, 7)]
    (items, _) = folded(rows)
    assert [item.values for item in items if isinstance(item, Rule)] == [range(1, 4), range(4, 7)]


def test_a_name_that_exists_is_no_alias() -> None:
    """h₀ is something else, so X cannot be called h₀."""
    rows = [line("h", 0, Ident("c")), line("h", 1, Ident("X"), Ident("W", "1"))]
    rows += [line("h", i, Ident("h", str(i - 1)), Ident("W", str(i))) for i in range(2, 6)]
    (items, _) = folded(rows)
    (rule,) = (item for item in items if isinstance(item, Rule))
    assert rule.values == range(2, 6) and not rule.aliases


def test_calls_and_steps_of_two() -> None:
    rows = [line("x", 2 * i, Call("f", (Ident("x", str(2 * i - 2)),))) for i in range(1, 5)]
    (items, _) = folded(rows)
    (rule,) = (item for item in items if isinstance(item, Rule))
    assert rule.expanded() == [plain(row) for row in rows]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MODELS)
def test_rules_stand_for_the_lines(name: str) -> None:
    model = MODELS[name]
    check(gc.explain(model.function, *model.args, argnums=model.argnums))


@pytest.mark.parametrize("seed", range(12))
def test_random_stacks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, 10)

    def network(params, x):
        h = x
        for kind, p in zip(kinds, params, strict=True):
            h = (h @ p["W"], np.tanh(h * p["W"]), h + p["W"].T)[kind]
        return np.sum(h * h)

    check(gc.explain(network, [{"W": normal(3, 3)} for _ in kinds], normal(3, 3)))


@pytest.mark.parametrize("function", [mlp, transformer])
def test_folded_formulas_are_the_gradient(function: Callable[..., Any]) -> None:
    args = (TWELVE, X, y) if function is mlp else transformer_args(3)
    displayed = gc.explain(function, *args).graph
    flat, _ = gc.tree.flatten(args)[0], None
    for mine, reference in zip(displayed.evaluate(*flat), gc.tree.flatten(gc.grad(function)(*args))[0], strict=True):
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-12 * max(1.0, float(np.max(np.abs(reference)))))
