"""The compiler on a few screens: it gives gradc's numbers, its stages agree, and its map leads to rooms that exist."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest

import gradc as gc
from examples import autodidact

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "examples" / "autodidact.py").read_text()
PAGE = (ROOT / "docs" / "autodidact.md").read_text()


def bumps(x, c):
    return np.sum(np.exp(-x * x) / (1 + c))


def product_of_three(A, B, C):
    return np.sum(np.tanh(A @ B.T) @ C - C)


def shared(x, c):
    y = np.exp(x) + c
    return np.sum(y * y - np.log(y)) / np.sum(y)


CASES = [
    (bumps, (7,), ()),
    (bumps, (3, 4), (4,)),
    (product_of_three, (3, 4), (3, 4), (3, 2)),
    (shared, (5,), (5,)),
    (autodidact.loss, (2, 16), (16,), (16, 1), (20, 2), (20, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_it_gives_gradcs_numbers(case):
    function, *shapes = case
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1.5, s) for s in shapes]
    everything = tuple(range(len(shapes)))
    wanted, slopes = gc.value_and_grad(function, argnums=everything)(*arrays)
    compiled = autodidact.Compiled(autodidact.value_and_grad(function), *shapes)
    for results in (compiled(*arrays), autodidact.interpret(compiled.graph, *arrays)):
        for got, expected in zip(results, (wanted, *slopes), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_a_second_derivative_is_one_more_gradient():
    def slope(x):
        return autodidact.value_and_grad(lambda x: np.sum(np.tanh(x)))(x)[1]

    second = autodidact.Compiled(autodidact.value_and_grad(lambda x: np.sum(slope(x))), (3,))
    x = np.array([-1.0, 0.0, 2.0])
    y = np.tanh(x)
    np.testing.assert_allclose(second(x)[1], -2 * y * (1 - y * y), rtol=1e-13)


def test_what_is_read_once_is_fused_and_what_repeats_is_stored():
    once = autodidact.Compiled(lambda x, c: np.sum(np.exp(-x * x) / c), (7, 3), (3,))
    assert [n.op.name for n in once.kernels] == ["sum"]
    hidden = autodidact.Compiled(product_of_three, (3, 4), (3, 4), (3, 2))
    assert "tanh" in [n.op.name for n in hidden.kernels]


def test_axes_count_from_the_end_and_zeros_keep_their_signs():
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert np.array_equal(autodidact.Compiled(lambda x: np.sum(x, axis=-1), (2, 3))(x)[0], [6.0, 15.0])
    graph = autodidact.trace(lambda x: x / 0.0 + x / -0.0, (1,))
    with np.errstate(all="ignore"):
        assert np.isnan(autodidact.interpret(graph, np.ones(1))[0]).all()


def test_another_function_is_one_record(monkeypatch):
    """What the page proposes to try."""
    call = "call double @{}(double {{}})".format
    sin = autodidact.Op("sin", np.sin, lambda ct, y, x: (ct * np.cos(x),), call("sin"))
    cos = autodidact.Op("cos", np.cos, lambda ct, y, x: (-ct * np.sin(x),), call("cos"))
    monkeypatch.setattr(autodidact, "ELEMENTWISE", {**autodidact.ELEMENTWISE, np.sin: sin, np.cos: cos})
    x = np.array([0.5, -2.0])
    slope = autodidact.Compiled(autodidact.value_and_grad(lambda x: np.sum(np.sin(x))), (2,))(x)[1]
    np.testing.assert_allclose(slope, np.cos(x), rtol=1e-14)


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(TypeError, match="does not broadcast"):
        autodidact.trace(lambda x, y: x + y, (3,), (4,))


def test_it_stays_short():
    prose = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    docstrings = {
        line
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(SOURCE).readline)
    lines = {line for t in tokens if t.type not in prose for line in range(t.start[0], t.end[0] + 1)}
    assert len(lines - docstrings) < 250


def test_the_map_names_every_function_and_leads_to_what_exists():
    made = [n for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    rows = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("|"))
    assert {n.name for n in made} <= set(re.findall(r"`(\w+)`", rows))
    assert all((ROOT / "docs" / place).exists() for place in re.findall(r"\]\((\.\./[^)]+)\)", PAGE))


def test_the_example_trains(capsys):
    assert autodidact.main(steps=400) < 0.3
    assert "define void @step" in capsys.readouterr().out
