"""The gallery: each derivative reads as the text beside its function, and is the derivative.

Each row is explained and compared literally; checked by six methods (`gradc.check_gradients`: symbolic, forward,
reverse, finite differences, Jacobian, compiled); and the graph of the displayed formulas is evaluated beside reverse
mode.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gradc as gc
from examples.gallery import GALLERY
from examples.gallery.row import Row
from gradc.containers import flatten, leaves_of
from gradc.explain.page import Page
from gradc.explain.text import TextPrinter
from gradc.graph import Graph
from gradc.interpret import interpret

ROWS = [row for rows in GALLERY.values() for row in rows]
NAMES = [row.name for row in ROWS]
#: both sides add and multiply the same fewer than 10³ numbers of order at most 10², rounded by 2⁻⁵³ each
TOLERANCE = 1e-12


def given(row: Row) -> tuple:
    return row.arrays(np.random.default_rng(len(row.name)))


def printed(row: Row) -> str:
    return "\n".join(Page(TextPrinter()).derivative(row.explained(*given(row))))


def test_names_are_unique_and_the_gallery_is_full():
    assert len(set(NAMES)) == len(NAMES) >= 90


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_derivative_reads_as_beside_the_function(row):
    assert row.derivative
    assert printed(row) == row.derivative


@pytest.mark.sampled(4)
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_five_methods_agree(row):
    report = gc.check_gradients(row.function, *given(row))
    assert report.ok, str(report)


GRADIENTS = [row for row in ROWS if row.kind == "gradient"]
MATRICES = [row for row in ROWS if row.kind in ("jacobian", "hessian")]
PRODUCTS = [row for row in ROWS if row.kind == "product"]


@pytest.mark.parametrize("row", GRADIENTS, ids=lambda row: row.name)
def test_the_displayed_formulas_are_the_derivative(row):
    for a, b in zip(*shown_and_pulled(row, displayed(row), given(row))[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, float(np.max(np.abs(b)))))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("row", GRADIENTS, ids=lambda row: row.name)
def test_simplified_or_not_it_is_one_derivative_at_extreme_numbers(row):
    """Where both are finite they differ by rounding, at most that of the largest number on the way."""
    graph = displayed(row)
    leaves, _, structure = flatten(given(row))
    for scale in (1e-8, 1e-3, 30.0, 1e3, 1e8):
        args = structure.unflatten([scaled(np.asarray(leaf), scale) for leaf in leaves])
        if not np.all(np.isfinite(np.asarray(row.function(*args), float))):
            continue  # log of a probability that underflowed: there is no derivative to compare
        shown, pulled, largest = shown_and_pulled(row, graph, args)
        for a, b in zip(shown, pulled, strict=True):
            both = np.isfinite(a) & np.isfinite(b)
            atol = TOLERANCE * max(1.0, largest)
            np.testing.assert_allclose(a[both], b[both], rtol=0, atol=atol, err_msg=f"numbers times {scale}")


def displayed(row: Row) -> Graph:
    """The displayed formulas as a graph."""
    return gc.explain(row.function, *given(row), argnums=row.of).graph


def scaled(argument: np.ndarray, scale: float) -> np.ndarray:
    """Numbers times ``scale``; indices and indicators stay what they are."""
    indicator = argument.dtype.kind != "f" or (argument.size > 1 and set(np.unique(argument)) <= {0.0, 1.0})
    return argument if indicator else argument * scale


def shown_and_pulled(row: Row, graph: Graph, args: tuple) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """The derivative by the displayed formulas, by reverse mode, and the largest finite number inside the formulas."""
    flat = [np.asarray(leaf) for leaf in leaves_of(args)[0]]
    rng = np.random.default_rng(7)
    extra = [rng.normal(size=x.shape).astype(x.dtype) for x in graph.inputs[len(flat) :]]
    values = interpret((*graph.nodes, *graph.outputs), dict(zip(graph.inputs, [*flat, *extra], strict=True)))
    single = [np.asarray(v) for v in values if not isinstance(v, tuple)]  # some nodes have several results
    inside = [np.abs(v[np.isfinite(v)]).max(initial=0.0) for v in single if v.dtype.kind == "f"]
    pulled = gc.vjp(row.function, *args)[1](extra[0] if extra else np.float64(1.0))
    wanted = leaves_of(tuple(pulled[i] for i in row.of))[0]
    shown = values[len(graph.nodes) :]
    return [np.asarray(v) for v in shown], [np.asarray(v) for v in wanted], float(max(inside, default=0.0))


def blocks(row: Row, args: tuple, transform: Any) -> list[np.ndarray]:
    """The shown blocks of a Jacobian or Hessian, row by row; of a Hessian each pair once."""
    nested = transform(row.function, row.of)(*args)
    if row.kind == "jacobian":
        return [np.asarray(b) for b in nested]
    return [np.asarray(nested[i][j]) for i in range(len(row.of)) for j in range(i, len(row.of))]


def differences(row: Row, args: tuple) -> list[np.ndarray]:
    """The same blocks by central differences of the function, or of its gradient."""
    first = row.function if row.kind == "jacobian" else gc.grad(row.function, row.of)
    found, h = {}, 1e-6
    for j, position in enumerate(row.of):
        x = np.asarray(args[position], float)
        columns = []
        for k in range(x.size):
            step = (h * np.eye(x.size)[k]).reshape(x.shape)
            high, low = (first(*args[:position], x + s, *args[position + 1 :]) for s in (step, -step))
            high, low = ([v] if row.kind == "jacobian" else v for v in (high, low))
            columns.append([(np.asarray(a) - np.asarray(b)) / (2 * h) for a, b in zip(high, low, strict=True)])
        for i, parts in enumerate(zip(*columns, strict=True)):
            found[i, j] = np.stack(parts, -1).reshape(parts[0].shape + x.shape)
    count = len(row.of)
    shown = (
        [(0, j) for j in range(count)]
        if row.kind == "jacobian"
        else [(i, j) for i in range(count) for j in range(i, count)]
    )
    return [found[place] for place in shown]


def close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.max(np.abs(b)))))


@pytest.mark.parametrize("row", MATRICES, ids=lambda row: row.name)
def test_the_displayed_matrices_are_the_jacobian_or_hessian(row):
    """Displayed formulas, interpreted, compiled, the other mode, and differences of order h² = 10⁻¹² with rounding
    10⁻¹⁶/h."""
    args = given(row)
    transform = gc.jacobian if row.kind == "jacobian" else gc.hessian
    wanted = blocks(row, args, transform)
    close(row.explained(*args).graph.evaluate(*leaves_of(args)[0]), wanted, TOLERANCE)
    close(blocks(row, args, lambda f, of: gc.jit(transform(f, of))), wanted, TOLERANCE)
    other = "reverse" if row.kind == "hessian" else "forward"
    first = (lambda f, of: gc.grad(f, of)) if row.kind == "hessian" else (lambda f, of: f)
    close(blocks(row, args, lambda f, of: gc.jacobian(first(f, of), of, mode=other)), wanted, TOLERANCE)
    close(differences(row, args), wanted, 1e-7)


@pytest.mark.parametrize("row", PRODUCTS, ids=lambda row: row.name)
def test_the_displayed_product_is_that_of_the_hessian(row):
    args = given(row)
    derivation = row.explained(*args)
    v = np.random.default_rng(7).normal(size=np.shape(args[row.of[0]]))
    (shown,) = derivation.graph.evaluate(*leaves_of(args)[0], v)
    close([shown], [gc.hessian(row.function, row.of[0])(*args) @ v], TOLERANCE)


@pytest.mark.parametrize("row", [*MATRICES, *PRODUCTS], ids=lambda row: row.name)
def test_every_notation_has_the_matrices(row):
    derivation = row.explained(*given(row))
    assert derivation.latex().count("&=") == len(derivation.lines)
    ElementTree.fromstring(derivation.mathml())
    text = derivation.text(ascii=True)
    assert text.translate({ord(letter): "u" for letter in "λμ"}).isascii()  # the user's own letters stay


def test_a_report_is_a_table_in_a_notebook():
    report = gc.check_gradients(ROWS[0].function, *given(ROWS[0]))
    page = ElementTree.fromstring(f"<div>{report._repr_html_().replace('<br>', '<br/>')}</div>")
    assert len(list(page.iter("tr"))) == 1 + len(report.rows)


def test_a_wrong_text_would_be_found():
    row = ROWS[0]
    assert printed(row) != row.derivative.replace("X − Y", "Y − X")
